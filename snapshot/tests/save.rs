//! `save` and `hash`: what they write carries a hash that holds, and holds what the source held.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bbolt::Io;
use common::{dump, opened};
use snapshot::hash::{attach, verify};
use snapshot::integrity::Integrity;
use snapshot::save::{SaveError, SaveOptions, save};
use snapshot::status::{StatusOptions, status};
use testdata::{VERSIONS, fingerprint};

fn to(output: &Path) -> SaveOptions {
    SaveOptions { output: output.to_owned(), dry_run: false, owner: None }
}

fn file_count(dir: &Path) -> usize {
    fs::read_dir(dir).map(Iterator::count).unwrap_or_default()
}

#[test]
fn a_saved_data_dir_is_a_snapshot_of_the_same_data() {
    for version in VERSIONS {
        let dir = tempfile::tempdir().unwrap();
        let data = testdata::data_dir(version, dir.path());
        let before = fingerprint(&data);
        let output = dir.path().join("saved.db");
        let report = save(&opened(&data, Io::Mmap), &to(&output), &()).unwrap();
        assert_eq!(fingerprint(&data), before);
        assert!(report.log_not_folded);
        assert_eq!(output.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(output.metadata().unwrap().len(), report.image_bytes + 32);
        assert_eq!(dump(&output), dump(&data.join("member/snap/db")));

        let saved = opened(&output, Io::Mmap);
        let found = status(&saved, &StatusOptions::default(), &()).unwrap();
        assert_eq!((found.verdict.integrity, found.findings.len()), (Integrity::Verified, 0));
        let of_dir = status(&opened(&data, Io::Mmap), &StatusOptions::default(), &()).unwrap();
        assert_eq!(found.status, of_dir.status);
        assert_eq!(found.status.unwrap().revision, report.revision);

        // Both metas come from the one in force: page 0 its transaction, page 1 the one before.
        let db = saved.db().unwrap();
        let source = opened(&data, Io::Mmap);
        let in_force = *source.db().unwrap().meta();
        let metas = db.metas().clone().map(Result::unwrap);
        assert_eq!(metas[0], in_force);
        assert_eq!(metas[1], bbolt::Meta { txid: in_force.txid - 1, ..in_force });
    }
}

/// A server's own snapshot, saved again, is itself: its metas are laid out that way already.
#[test]
fn a_servers_snapshot_saved_again_is_the_same_file() {
    for version in VERSIONS {
        let dir = tempfile::tempdir().unwrap();
        let file = testdata::snapshot_file(version, "s2-auth", dir.path());
        let output = dir.path().join("again.db");
        save(&opened(&file, Io::Pread), &to(&output), &()).unwrap();
        assert!(fs::read(&file).unwrap() == fs::read(&output).unwrap(), "{version}");
    }
}

#[test]
fn a_hash_is_verified_attached_and_never_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let whole = testdata::snapshot("3.6.14", "s3-final");
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let good = write("good.db", &whole);
    let raw = write("raw.db", &whole[..whole.len() - 32]);
    let mut changed = whole.clone();
    changed[5000] ^= 1;
    let changed = write("changed.db", &changed);
    let integrity = |path: &Path| verify(&opened(path, Io::Mmap), &()).unwrap().integrity;
    assert_eq!(integrity(&good), Integrity::Verified);
    assert_eq!(integrity(&raw), Integrity::Absent);
    assert_eq!(integrity(&changed), Integrity::Mismatch);

    let output = dir.path().join("attached.db");
    let report = attach(&opened(&raw, Io::Mmap), &to(&output), &()).unwrap();
    assert!(fs::read(&output).unwrap() == whole, "the server's own hash, again");
    assert_eq!(report.image_bytes, whole.len() as u64 - 32);
    let files = file_count(dir.path());
    let other = dir.path().join("other.db");
    assert!(matches!(attach(&opened(&good, Io::Mmap), &to(&other), &()), Err(SaveError::HasHash { .. })));
    assert!(matches!(
        attach(&opened(&changed, Io::Mmap), &to(&other), &()),
        Err(SaveError::HashMismatch { .. })
    ));
    assert!(matches!(attach(&opened(&raw, Io::Mmap), &to(&output), &()), Err(SaveError::Stage(_))));
    assert_eq!(file_count(dir.path()), files);
}

/// A db in a data dir is longer than its pages need; the zeros behind them are no part of a snapshot.
#[test]
fn room_to_grow_is_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir("3.5.30", dir.path());
    let db = data.join("member/snap/db");
    let output = dir.path().join("attached.db");
    let report = attach(&opened(&db, Io::Mmap), &to(&output), &()).unwrap();
    assert!(report.image_bytes < db.metadata().unwrap().len());
    assert_eq!(verify(&opened(&output, Io::Mmap), &()).unwrap().integrity, Integrity::Verified);
    assert_eq!(dump(&output), dump(&db));
}

#[test]
fn a_damaged_db_is_refused_with_its_findings() {
    let dir = tempfile::tempdir().unwrap();
    let whole = testdata::snapshot("3.5.30", "s3-final");
    let mut bytes = whole[..whole.len() - 32].to_vec();
    let root = {
        let db = bbolt::Db::from_source(bytes.as_slice()).unwrap();
        db.bucket(b"key").unwrap().unwrap().root_node().unwrap().id().0
    };
    let at = usize::try_from(root).unwrap() * 4096;
    bytes[at..at + 4096].fill(0);
    let file = dir.path().join("torn.db");
    fs::write(&file, &bytes).unwrap();
    let output = dir.path().join("out.db");
    for result in [
        save(&opened(&file, Io::Mmap), &to(&output), &()).map(drop),
        attach(&opened(&file, Io::Mmap), &to(&output), &()).map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(!error.findings().is_empty());
    }
    assert_eq!(file_count(dir.path()), 1);
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir("3.4.23", dir.path());
    let output = dir.path().join("saved.db");
    let dry = SaveOptions { dry_run: true, ..to(&output) };
    let planned = save(&opened(&data, Io::Mmap), &dry, &()).unwrap();
    assert!(!output.exists());
    let done = save(&opened(&data, Io::Mmap), &to(&output), &()).unwrap();
    assert_eq!((planned.digest, planned.image_bytes), (done.digest, done.image_bytes));
}

/// What was examined is what gets a hash, or nothing does.
#[test]
fn an_input_that_is_written_to_meanwhile_is_not_saved() {
    struct Touch<'a>(&'a Path);
    impl bbolt::Watch for Touch<'_> {
        fn begin(&self, stage: &'static str, _total_bytes: u64) {
            if stage == "writing" {
                fs::File::options()
                    .write(true)
                    .open(self.0)
                    .unwrap()
                    .set_modified(SystemTime::now())
                    .unwrap();
            }
        }
        fn advance(&self, _bytes: u64) {}
        fn interrupted(&self) -> bool {
            false
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = testdata::snapshot("3.6.14", "s3-final");
    let (raw, output) = (dir.path().join("raw.db"), dir.path().join("saved.db"));
    fs::write(&raw, &whole[..whole.len() - 32]).unwrap();
    let saved = save(&opened(&raw, Io::Mmap), &to(&output), &Touch(&raw)).unwrap_err();
    let attached = attach(&opened(&raw, Io::Mmap), &to(&output), &Touch(&raw)).unwrap_err();
    for error in [saved, attached] {
        assert!(matches!(error, SaveError::Changed { .. }), "{error}");
        assert!(error.to_string().contains("raw.db: changed while it was read: "), "{error}");
        assert_eq!(file_count(dir.path()), 1, "only the input is there");
    }
}
