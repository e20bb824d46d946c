//! What can go wrong with a case and its sources, one hazard a test.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use bbolt::Watch;
use casefile::{
    AddError, AddOptions, Case, CaseError, FileState, SealOptions, SealState, Timeline, add, seal,
};
use common::{add_quietly, ask_everything, case_in};

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

/// Of two that come at once each is done or told to wait, and nothing that was done is lost.
#[test]
fn two_adds_at_once_lose_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let (case, source) = case_in(scratch.path());
    let mut done = Vec::new();
    for round in 0..4 {
        let names = [0, 1].map(|at| format!("n{round}{at}"));
        let came = std::thread::scope(|scope| {
            let adds = names.each_ref().map(|name| scope.spawn(|| add_quietly(&case, name, &source)));
            adds.map(|add| add.join().unwrap())
        });
        for (name, came) in names.into_iter().zip(came) {
            match came {
                Ok(added) => done.push(added.source.name),
                Err(AddError::Case(CaseError::Busy { .. })) => {}
                Err(other) => panic!("{name}: {other}"),
            }
        }
        let found: Vec<String> =
            Case::open(&case).unwrap().sources().iter().map(|source| source.name.clone()).collect();
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(found), sorted(done.clone()));
        assert!(done.len() > round, "one of them is first");
    }
}

const SMALL_DISK: &str = "CASE_TEST_ON_THIS_SMALL_DISK";

/// Runs itself in a mount namespace of its own, with small disks. It needs a kernel that allows user namespaces, or root; where
/// neither is there this fails rather than passing untested.
#[test]
fn a_disk_that_is_too_small_leaves_the_case_as_it_was() {
    if let Some(dir) = std::env::var_os(SMALL_DISK) {
        return on_a_small_disk(Path::new(&dir));
    }
    let scratch = tempfile::tempdir().unwrap();
    testdata::snapshot_file("3.5.30", "s1-precompact", scratch.path());
    let small = scratch.path().join("small");
    fs::create_dir(&small).unwrap();
    let mut needed = 0;
    for kib in [8, 64, 128, 256, 512, 1024, 8192] {
        let output = std::process::Command::new("unshare")
            .args([if rustix::process::geteuid().is_root() { "-m" } else { "-rm" }, "sh", "-ec"])
            .arg(
                "mount -t tmpfs -o size=\"$3k\" small \"$1\"
                exec \"$2\" --exact a_disk_that_is_too_small_leaves_the_case_as_it_was --nocapture",
            )
            .arg("sh")
            .args([small.as_os_str(), std::env::current_exe().unwrap().as_os_str()])
            .arg(kib.to_string())
            .env(SMALL_DISK, scratch.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{kib} KiB: {said}\n{why}");
        needed += u32::from(said.contains("too small"));
    }
    assert!((2..7).contains(&needed), "{needed}");
}

fn on_a_small_disk(dir: &Path) {
    let source = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_file());
    let (source, small) = (source.unwrap(), dir.join("small"));
    let case = small.join("a.case");
    let left = || fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    #[allow(clippy::print_stdout, reason = "what the test around this one reads")]
    let says = |error: &dyn std::fmt::Display| {
        println!("too small: {error}");
        assert!(error.to_string().contains("No space left on device"), "{error}");
    };
    if let Err(error) = Case::create(&case, "") {
        says(&error);
        assert_eq!(left(), Vec::<std::ffi::OsString>::new());
        return;
    }
    let before = fs::read(&case).unwrap();
    if let Err(error) = add_quietly(&case, "n1", &source) {
        says(&error);
        assert_eq!(fs::read(&case).unwrap(), before);
    } else {
        ask_everything(&case).unwrap();
    }
    assert_eq!(left(), ["a.case"]);
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
        if (44..4096).contains(&at) {
            continue;
        }
        let custody = Case::open(&path).and_then(|case| case.verify(&()));
        assert!(custody.is_err(), "{at}: verify reads every byte");
    }
    assert!(refused > 3, "{refused}");
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
        testdata::sha256_hex(fs::read(&source).unwrap())
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
