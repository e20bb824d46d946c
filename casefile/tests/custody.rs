//! Whether evidence that is not what it was is noticed, and evidence that only lies elsewhere is not accused.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use casefile::rows::RevisionRow;
use casefile::{
    AddError, AddOptions, Added, Case, Custody, FileState, SealOptions, SealState, Timeline, add, seal,
};
use tempfile::TempDir;

/// A scratch directory with a data dir and a case of it.
fn with_member() -> (TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let member = testdata::data_dir("3.5.30", scratch.path());
    let case = scratch.path().join("a.case");
    Case::create(&case, "case new").unwrap();
    added(&case, "n1", &member).unwrap();
    (scratch, member, case)
}

fn added(case: &Path, name: &str, source: &Path) -> Result<Added, AddError> {
    add(case, name, source, &AddOptions { command: format!("case add {name}"), ..AddOptions::default() }, &())
}

fn verified(case: &Path) -> Custody {
    Case::open(case).unwrap().verify(&()).unwrap()
}

/// The files that are not what they were, and what became of them.
fn others(custody: &Custody) -> Vec<(String, FileState)> {
    let others = custody.rows.iter().filter(|row| row.state != FileState::Same);
    others.map(|row| (row.file.clone(), row.state.clone())).collect()
}

fn first_put(case: &Case) -> RevisionRow {
    let mut first = None;
    case.timeline(&Timeline::default(), &mut |row| {
        first = (!row.tombstone && row.value_len > 0).then(|| row.clone());
        if first.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    first.unwrap()
}

#[test]
fn a_file_that_is_new_is_noticed() {
    let (_scratch, member, case) = with_member();
    assert!(verified(&case).holds());
    fs::write(member.join("member/wal/0000000000000009-0000000000000099.wal"), b"planted").unwrap();
    fs::write(member.join("member/snap/new.snap"), b"").unwrap();
    let custody = verified(&case);
    assert!(!custody.holds());
    let found: Vec<_> = others(&custody);
    let new = |len_bytes, bytes: &[u8]| FileState::New { len_bytes, sha256: testdata::sha256_hex(bytes) };
    assert_eq!(
        found,
        [
            ("member/snap/new.snap".to_owned(), new(0, b"")),
            ("member/wal/0000000000000009-0000000000000099.wal".to_owned(), new(7, b"planted")),
        ]
    );
}

#[test]
fn another_time_of_the_last_write_is_told_and_is_nothing_wrong() {
    let (_scratch, member, case) = with_member();
    seal(&case, &SealOptions::default(), &()).unwrap();
    let db = File::options().write(true).open(member.join("member/snap/db")).unwrap();
    db.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(77))).unwrap();
    let custody = verified(&case);
    assert!(custody.holds());
    let told: Vec<_> = custody.rows.iter().filter(|row| row.modified.is_some()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].file.as_str(), told[0].modified), ("member/snap/db", Some((77, 0))));
}

#[test]
fn a_link_in_the_place_of_a_file_or_a_directory_is_noticed() {
    for name in ["member/snap/db", "member"] {
        let (scratch, member, case) = with_member();
        let (old, new) = (member.join(name), scratch.path().join("moved"));
        fs::rename(&old, &new).unwrap();
        symlink(&new, &old).unwrap();
        let custody = verified(&case);
        assert!(!custody.holds(), "{name}");
        let others = others(&custody);
        assert_eq!(others.len(), if name == "member" { custody.rows.len() } else { 1 });
        let to = new.to_str().unwrap().to_owned();
        assert_eq!(others[0].1, FileState::Linked { link: name.to_owned(), to });
    }
}

/// Links that were there when the source was added are part of it.
#[test]
fn a_link_that_was_there_is_no_news() {
    let scratch = tempfile::tempdir().unwrap();
    let member = testdata::data_dir("3.5.30", scratch.path());
    let wal = scratch.path().join("log");
    fs::rename(member.join("member/wal"), &wal).unwrap();
    symlink(&wal, member.join("member/wal")).unwrap();
    let case = scratch.path().join("a.case");
    Case::create(&case, "").unwrap();
    let source = added(&case, "n1", &member).unwrap().source;
    assert_eq!(source.links, ["member/wal"]);
    assert!(verified(&case).holds());
}

#[test]
fn what_is_no_regular_file_is_said_and_not_waited_for() {
    let (_scratch, member, case) = with_member();
    let db = member.join("member/snap/db");
    fs::remove_file(&db).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&db).status().unwrap();
    assert!(made.success());
    let custody = verified(&case);
    let others = others(&custody);
    assert_eq!(others.len(), 1, "{others:?}");
    let why = format!("{}: is no regular file any more", db.display());
    assert_eq!(others[0], ("member/snap/db".to_owned(), FileState::NotThere { why }));
}

/// `wal` and `snap` are halves of one member: whichever is given, the other is read, cited and found again.
#[test]
fn half_a_member_leads_back_to_its_files() {
    let scratch = tempfile::tempdir().unwrap();
    let member = testdata::data_dir("3.5.30", scratch.path());
    for (half, other) in [("wal", "snap"), ("snap", "wal")] {
        let case = scratch.path().join(format!("{half}.case"));
        Case::create(&case, "").unwrap();
        let root = member.join("member").join(half);
        let source = added(&case, half, &root).unwrap().source;
        assert!(source.files.iter().any(|file| file.path.starts_with(&format!("../{other}/"))));
        let custody = verified(&case);
        assert!(custody.holds(), "{:?}", others(&custody));
        let read = Case::open(&case).unwrap();
        let row = first_put(&read);
        assert_eq!(read.value(&row).unwrap().len() as u64, row.value_len);
        let cited = read.cite(&row.held[0]);
        assert_eq!(cited.sha256, testdata::sha256_hex(fs::read(root.join(&cited.file)).unwrap()));
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Also of damaged ones, whose findings name files.
#[test]
fn the_contents_are_the_same_for_copies_elsewhere() {
    let damaged =
        ["db-meta0-corrupt", "wal-crc-mismatch-middle", "wal-truncated-mid-record", "snap-corrupt-newest"];
    for name in [None].into_iter().chain(damaged.map(Some)) {
        let scratch = tempfile::tempdir().unwrap();
        let (one, two) = (scratch.path().join("one"), scratch.path().join("a longer way/to/two"));
        match name {
            None => fs::rename(testdata::data_dir("3.5.30", scratch.path()), &one).unwrap(),
            Some(name) => testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), &one),
        }
        fs::create_dir_all(two.parent().unwrap()).unwrap();
        copy(&one, &two);
        let contents = [(&one, "R. Roe"), (&two, "J. Doe")].map(|(path, examiner)| {
            let inner =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
            let root = if path.join("member").is_dir() { path.clone() } else { inner.unwrap() };
            let case = path.with_extension("case");
            Case::create(&case, "").unwrap();
            let options = AddOptions { examiner: Some(examiner.to_owned()), ..AddOptions::default() };
            add(&case, "n1", &root, &options, &()).unwrap();
            Case::open(&case).unwrap().contents(&()).unwrap()
        });
        assert_eq!(contents[0], contents[1], "{name:?}");
    }
}

#[test]
fn a_source_that_is_mounted_elsewhere_is_verified_and_read_there() {
    let (scratch, member, case) = with_member();
    let elsewhere = scratch.path().join("desk");
    copy(&member, &elsewhere);
    fs::remove_dir_all(&member).unwrap();
    assert!(!verified(&case).holds());
    let mut read = Case::open(&case).unwrap();
    let row = first_put(&read);
    assert!(read.value(&row).unwrap_err().to_string().contains("--at n1=PATH"));
    read.moved("n1", &elsewhere, None).unwrap();
    let custody = read.verify(&()).unwrap();
    assert!(custody.holds(), "{:?}", others(&custody));
    let mut read = Case::open(&case).unwrap();
    read.moved("n1", &elsewhere, None).unwrap();
    assert_eq!(read.value(&row).unwrap().len() as u64, row.value_len);
    assert!(read.moved("n2", &elsewhere, None).is_err());
    assert!(read.moved("n1", &member, None).is_err());
}

/// One file is found again under another name, too.
#[test]
fn a_database_that_lies_elsewhere_may_have_another_name() {
    let scratch = tempfile::tempdir().unwrap();
    let db = testdata::snapshot_file("3.5.30", "s1-precompact", scratch.path());
    let case = scratch.path().join("a.case");
    Case::create(&case, "").unwrap();
    added(&case, "x", &db).unwrap();
    let other = scratch.path().join("received.db");
    fs::rename(&db, &other).unwrap();
    let mut read = Case::open(&case).unwrap();
    read.moved("x", &other, None).unwrap();
    assert!(read.verify(&()).unwrap().holds());
    let row = first_put(&read);
    assert_eq!(read.value(&row).unwrap().len() as u64, row.value_len);
    // A directory in its place is not it.
    fs::create_dir(&db).unwrap();
    assert!(!verified(&case).holds());
}

#[test]
fn a_log_apart_is_found_again() {
    let scratch = tempfile::tempdir().unwrap();
    let member = testdata::data_dir("3.5.30", scratch.path());
    let wal = scratch.path().join("log");
    fs::rename(member.join("member/wal"), &wal).unwrap();
    let case = scratch.path().join("a.case");
    Case::create(&case, "").unwrap();
    let mut options = AddOptions::default();
    options.facts.log.wal_dir = Some(wal.clone());
    add(&case, "n1", &member, &options, &()).unwrap();
    assert!(verified(&case).holds());
    let moved = scratch.path().join("log elsewhere");
    fs::rename(&wal, &moved).unwrap();
    assert!(!verified(&case).holds());
    let mut read = Case::open(&case).unwrap();
    read.moved("n1", &member, Some(&moved)).unwrap();
    let custody = read.verify(&()).unwrap();
    assert!(custody.holds(), "{:?}", others(&custody));
}

#[test]
fn an_earlier_seal_is_still_verified() {
    let (scratch, member, case) = with_member();
    let first = seal(&case, &SealOptions::default(), &()).unwrap();
    let db = testdata::snapshot_file("3.5.30", "s1-precompact", scratch.path());
    added(&case, "x", &db).unwrap();
    let second = seal(&case, &SealOptions::default(), &()).unwrap();
    let custody = verified(&case);
    let seals: Vec<_> = custody.seals.iter().map(|seal| (&seal.digest, seal.state)).collect();
    assert_eq!(seals, [(&first.digest, SealState::Outgrown), (&second.digest, SealState::Holds)]);
    assert!(custody.holds() && member.is_dir());
}

/// A seal states also what the contents leave out: where a source lay, and who added it.
#[test]
fn a_seal_has_all_that_is_kept_of_a_source() {
    let (_scratch, _member, case) = with_member();
    let sealed = seal(&case, &SealOptions::default(), &()).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&sealed.manifest).unwrap();
    let row = serde_json::to_vec(&Case::open(&case).unwrap().sources()[0]).unwrap();
    assert_eq!(manifest["sources"][0]["record"], testdata::sha256_hex(row));
}

#[test]
fn a_command_is_recorded_once_with_what_it_added() {
    let scratch = tempfile::tempdir().unwrap();
    let db = testdata::snapshot_file("3.5.30", "s1-precompact", scratch.path());
    let case = scratch.path().join("a.case");
    Case::create(&case, "case new").unwrap();
    let line = "case add a.case one=x two=x three=gone";
    for (at, name) in ["one", "two"].into_iter().enumerate() {
        let options = AddOptions { command: line.to_owned(), continues: at > 0, ..AddOptions::default() };
        add(&case, name, &db, &options, &()).unwrap();
        add(&case, name, &db, &options, &()).unwrap();
    }
    // The same line, run again, is another command.
    let options = AddOptions { command: line.to_owned(), ..AddOptions::default() };
    add(&case, "three", &db, &options, &()).unwrap();
    let commands = Case::open(&case).unwrap().commands().unwrap();
    let found: Vec<_> =
        commands.iter().map(|command| (command.line.as_str(), command.added.join(" "))).collect();
    assert_eq!(
        found,
        [("case new", String::new()), (line, "one two".to_owned()), (line, "three".to_owned())]
    );
}

#[test]
fn values_are_not_added_to_what_is_there_without_a_word() {
    let (_scratch, member, case) = with_member();
    let before = fs::read(&case).unwrap();
    let options = AddOptions { embed_values: true, ..AddOptions::default() };
    let refused = add(&case, "n1", &member, &options, &()).unwrap_err();
    assert!(matches!(refused, AddError::WithoutValues { .. }), "{refused}");
    assert_eq!(fs::read(&case).unwrap(), before);
    assert!(!add(&case, "again", &member, &options, &()).unwrap().was_there);
    assert!(add(&case, "again", &member, &options, &()).unwrap().was_there);
    assert!(added(&case, "again", &member).unwrap().was_there);
}

/// Wherever among the files of the source: beside a `wal` directory that was given, too.
#[test]
fn a_case_is_no_evidence_of_itself() {
    let scratch = tempfile::tempdir().unwrap();
    let member = testdata::data_dir("3.5.30", scratch.path());
    let case = member.join("member/snap/a.case");
    Case::create(&case, "").unwrap();
    for source in [&member, &member.join("member/wal"), &case] {
        let refused = added(&case, "n1", source).unwrap_err();
        assert!(matches!(refused, AddError::Itself { .. }), "{refused}");
    }
}

#[test]
fn a_case_keeps_its_mode_and_is_changed_through_a_link() {
    let (scratch, member, case) = with_member();
    fs::set_permissions(&case, Permissions::from_mode(0o644)).unwrap();
    let link = scratch.path().join("link.case");
    symlink(&case, &link).unwrap();
    added(&link, "n2", &member).unwrap();
    seal(&link, &SealOptions::default(), &()).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(&case).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(Case::open(&link).unwrap().sources().len(), 2);
}

#[test]
fn a_packed_source_is_unpacked_once_and_cited_with_both_hashes() {
    let scratch = tempfile::tempdir().unwrap();
    let plain = testdata::snapshot("3.5.30", "s1-precompact");
    let packed = scratch.path().join("x.db.gz");
    let mut gz = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    gz.finish().unwrap();
    let case = scratch.path().join("a.case");
    Case::create(&case, "").unwrap();
    added(&case, "x", &packed).unwrap();
    let read = Case::open(&case).unwrap();
    let row = first_put(&read);
    let cited = read.cite(&row.held[0]);
    assert_eq!(cited.file, "x.db.gz");
    assert_eq!(cited.sha256, testdata::sha256_hex(fs::read(&packed).unwrap()));
    assert_eq!(cited.unpacked_sha256, Some(testdata::sha256_hex(&plain)));
    let value = read.value(&row).unwrap();
    let from = usize::try_from(cited.offset).unwrap();
    let record = &plain[from..from + usize::try_from(cited.len_bytes).unwrap()];
    assert_eq!(snapshot::mvcc::KeyValue::decode(record).unwrap().value, value);
    // It was opened once, and needs no name any more.
    fs::remove_file(&packed).unwrap();
    assert_eq!(read.value(&row).unwrap(), value);
    assert!(Case::open(&case).unwrap().value(&row).is_err());
}
