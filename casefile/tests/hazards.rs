//! What can go wrong with a case and its sources, one hazard a test.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bbolt::Watch;
use casefile::{
    AddError, AddOptions, Case, CaseError, FileState, Find, LogQuery, SealOptions, SealState, Timeline, add,
    seal,
};

fn case_in(dir: &Path) -> (PathBuf, PathBuf) {
    let case = dir.join("a.case");
    Case::create(&case, "etcd-rescue case new a.case").unwrap();
    (case, testdata::snapshot_file("3.5.30", "s1-precompact", dir))
}

fn add_quietly(case: &Path, name: &str, source: &Path) -> Result<casefile::Added, AddError> {
    add(case, name, source, &AddOptions { command: format!("case add {name}"), ..AddOptions::default() }, &())
}

#[test]
fn what_is_there_is_not_made_again_and_what_changed_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (case, source) = case_in(scratch.path());
    assert!(Case::create(&case, "").is_err());
    assert!(!add_quietly(&case, "n1", &source).unwrap().was_there);
    let before = fs::read(&case).unwrap();
    assert!(add_quietly(&case, "n1", &source).unwrap().was_there);
    assert_eq!(fs::read(&case).unwrap(), before);

    let mut bytes = fs::read(&source).unwrap();
    bytes[70_000] ^= 1;
    fs::write(&source, bytes).unwrap();
    let error = add_quietly(&case, "n1", &source).unwrap_err();
    assert!(matches!(&error, AddError::Changed { files, .. } if files.len() == 1), "{error}");
    assert_eq!(fs::read(&case).unwrap(), before);
    for name in ["", "a=b", "a\nb"] {
        assert!(matches!(add_quietly(&case, name, &source), Err(AddError::Name { .. })));
    }
}

/// Stops a job when it asks for the `n`th time whether it should.
struct Stop {
    after: u32,
    asked: AtomicU32,
}

impl Watch for Stop {
    fn advance(&self, _bytes: u64) {}

    fn interrupted(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.after
    }
}

#[test]
fn an_interrupted_add_leaves_the_case_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let (case, source) = case_in(scratch.path());
    let before = fs::read(&case).unwrap();
    let mut ended = 0;
    for after in 0..200 {
        let watch = Stop { after, asked: AtomicU32::new(0) };
        match add(&case, "n1", &source, &AddOptions { embed_values: true, ..AddOptions::default() }, &watch) {
            Err(error) => {
                assert_eq!(error.exit_code(), 130, "{error}");
                assert_eq!(fs::read(&case).unwrap(), before);
                ended += 1;
            }
            Ok(_) => break,
        }
        let names: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
    assert!(ended > 3, "{ended}");
    assert!(Case::open(&case).unwrap().source("n1").unwrap().has_values);
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let scratch = tempfile::tempdir().unwrap();
    let (case, source) = case_in(scratch.path());
    let held = fs::File::open(&case).unwrap();
    held.lock().unwrap();
    let error = add_quietly(&case, "n1", &source).unwrap_err();
    match &error {
        AddError::Case(CaseError::Busy { process, .. }) => {
            // A system without /proc/locks tells nobody.
            assert!(process.is_none_or(|process| process == std::process::id()), "{error}");
        }
        other => panic!("{other}"),
    }
    // Whoever reads is not in anybody's way.
    Case::open(&case).unwrap();
    drop(held);
    add_quietly(&case, "n1", &source).unwrap();
}

/// Asks everything there is to ask; damage is an error, and nothing else is allowed to happen.
fn ask_everything(path: &Path) -> Result<(), CaseError> {
    let case = Case::open(path)?;
    let go = |_: &_| ControlFlow::<()>::Continue(());
    case.commands()?;
    case.seals()?;
    let life = case.key(b"/app/0001")?;
    for row in life.steps {
        // Values are not in this case, and the source may be what is damaged.
        _ = case.value(&row);
    }
    case.timeline(&Timeline::default(), &mut |row| {
        for held in &row.held {
            _ = case.cite(held);
        }
        ControlFlow::Continue(())
    })?;
    case.at(100, b"", &mut |_| ControlFlow::Continue(()))?;
    case.find(&Find { deleted: true, ..Find::default() }, &mut |_| ControlFlow::Continue(()))?;
    case.log(&LogQuery::default(), &mut |_| ControlFlow::Continue(()))?;
    for source in case.sources() {
        case.page_runs(source)?;
        case.diff(source, source, &mut |_| ControlFlow::Continue(()))?;
    }
    _ = go(&());
    case.contents(&())?;
    Ok(())
}

#[test]
fn a_damaged_foreign_or_newer_case_is_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, source) = case_in(scratch.path());
    add_quietly(&path, "n1", &source).unwrap();
    ask_everything(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        ask_everything(&path)
    };
    assert!(matches!(with(b""), Err(CaseError::Foreign { .. })));
    assert!(matches!(with(&fs::read(&source).unwrap()), Err(CaseError::Foreign { .. })));
    assert!(matches!(Case::open(scratch.path()), Err(CaseError::Foreign { .. })));
    let mut newer = whole.clone();
    newer[16] = 9;
    assert!(matches!(with(&newer), Err(CaseError::OtherVersion { version: 9, .. })));
    for len in [20, 43, 44, 4096, 5000, whole.len() / 2, whole.len() - 1] {
        let error = with(&whole[..len]).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{len}: {error}");
    }
    // One byte in each page: an error of whoever reads it, or nobody reads it.
    let mut refused = 0;
    for at in (0..whole.len()).step_by(4096).map(|at| at + 17) {
        let mut bytes = whole.clone();
        let Some(byte) = bytes.get_mut(at) else { continue };
        *byte ^= 0x41;
        match with(&bytes) {
            Ok(()) => {}
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("damaged") || said.contains("version"), "{at}: {said}");
                refused += 1;
            }
        }
        fs::write(&path, &bytes).unwrap();
        if at >= 44 && at < 4096 {
            continue;
        }
        let custody = Case::open(&path).and_then(|case| case.verify(&()));
        assert!(custody.is_err(), "{at}: verify reads every byte");
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn damaged_sources_are_added_with_what_is_wrong_with_them() {
    for name in ["db-meta0-corrupt", "db-both-meta-corrupt", "wal-crc-mismatch-middle", "snap-corrupt-newest"]
    {
        let scratch = tempfile::tempdir().unwrap();
        let case = scratch.path().join("a.case");
        Case::create(&case, "").unwrap();
        let data = scratch.path().join("data");
        testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), &data);
        let member =
            fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
        let member = if data.join("member").is_dir() { data.clone() } else { member.unwrap() };
        let added = add_quietly(&case, name, &member).unwrap().source;
        assert!(!added.findings.is_empty(), "{name}");
        assert!(added.log.is_some_and(|log| log.entries > 0), "{name}");
        assert_eq!(added.key_space.is_some(), name != "db-both-meta-corrupt", "{name}");
        ask_everything(&case).unwrap();
    }
}

#[test]
fn a_leaf_that_is_lost_is_a_hole_and_the_rest_is_there() {
    let scratch = tempfile::tempdir().unwrap();
    let (case, source) = case_in(scratch.path());
    let whole = add_quietly(&case, "whole", &source).unwrap().source.key_space.unwrap();
    let mut page = None;
    let read = Case::open(&case).unwrap();
    read.timeline(&Timeline::default(), &mut |row| {
        page = Some(row.held[0].page);
        if row.main > whole.last / 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let mut bytes = fs::read(&source).unwrap();
    let at = usize::try_from(page.unwrap()).unwrap() * 4096;
    bytes[at..at + 4096].fill(0xee);
    let damaged = scratch.path().join("damaged.db");
    fs::write(&damaged, bytes).unwrap();
    let found = add_quietly(&case, "damaged", &damaged).unwrap().source;
    let space = found.key_space.clone().unwrap();
    assert_eq!((space.is_whole(), space.holes.len()), (false, 1));
    assert!(space.records < whole.records && space.records > whole.records / 2);
    assert_eq!(found.pages.as_ref().unwrap().damaged_pages > 0, true);
    let read = Case::open(&case).unwrap();
    let (from, to) = space.holes[0];
    let mut lost = 0;
    let diff = read
        .diff(&read.sources()[0], &read.sources()[1], &mut |each| {
            let row = each.a.as_ref().unwrap();
            assert!(
                (from..to.unwrap()).contains(&row.main)
                    && each.parting == casefile::rows::Parting::Unreadable
            );
            lost += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    // What lies below a damaged page is no difference of the histories.
    let torn = whole.records - space.records;
    assert_eq!((diff.missing, diff.part, diff.unreadable, lost), (0, None, torn, torn));
}

#[test]
fn a_seal_holds_until_something_is_not_what_was_sealed() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, source) = case_in(scratch.path());
    add_quietly(&path, "n1", &source).unwrap();
    let verify = || Case::open(&path).unwrap().verify(&()).unwrap();
    assert_eq!(verify().seal, SealState::Absent);
    let options = SealOptions {
        examiner: Some("R. Roe".to_owned()),
        note: Some("2026-03-01".to_owned()),
        ..SealOptions::default()
    };
    let sealed = seal(&path, &options, &()).unwrap();
    assert_eq!(testdata::sha256_hex(sealed.manifest.as_bytes()), sealed.digest);
    let manifest: serde_json::Value = serde_json::from_str(&sealed.manifest).unwrap();
    assert_eq!(manifest["examiner"], "R. Roe");
    assert_eq!(
        manifest["sources"][0]["files"][0]["sha256"],
        testdata::sha256_hex(&fs::read(&source).unwrap())
    );
    assert_eq!(manifest["commands"].as_array().unwrap().len(), 3);
    let custody = verify();
    assert!(custody.holds() && custody.seal == SealState::Holds);
    assert_eq!(custody.digest, Some(sealed.digest));

    let again = testdata::snapshot_file("3.4.23", "s1-precompact", scratch.path());
    add_quietly(&path, "n2", &again).unwrap();
    assert_eq!(verify().seal, SealState::Outgrown);
    seal(&path, &SealOptions::default(), &()).unwrap();
    assert_eq!(verify().seal, SealState::Holds);

    let mut bytes = fs::read(&source).unwrap();
    bytes[9000] ^= 4;
    fs::write(&source, bytes).unwrap();
    fs::remove_file(again).unwrap();
    let custody = verify();
    assert!(!custody.holds());
    assert!(matches!(custody.rows[0].state, FileState::Changed { .. }));
    assert!(matches!(custody.rows[1].state, FileState::NotThere { .. }));
}

#[test]
fn values_come_from_the_source_while_it_is_what_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, source) = case_in(scratch.path());
    add_quietly(&path, "n1", &source).unwrap();
    let case = Case::open(&path).unwrap();
    let mut first = None;
    case.timeline(&Timeline::default(), &mut |row| {
        first = (!row.tombstone && row.value_len > 0).then(|| row.clone());
        if first.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let row = first.unwrap();
    let value = case.value(&row).unwrap();
    assert_eq!(value.len() as u64, row.value_len);
    let cited = case.cite(&row.held[0]);
    let mut bytes = fs::read(&source).unwrap();
    let end = usize::try_from(cited.offset + cited.len_bytes).unwrap();
    bytes[end - 2] ^= 1;
    fs::write(&source, bytes).unwrap();
    let error = case.value(&row).unwrap_err();
    assert!(error.to_string().contains("changed"), "{error}");
    fs::remove_file(&source).unwrap();
    // What is open stays open; whoever comes later finds nothing.
    let later = Case::open(&path).unwrap();
    assert!(later.value(&row).unwrap_err().to_string().contains("--embed-values"));
}
