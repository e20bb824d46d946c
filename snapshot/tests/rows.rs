//! Sound trees with rows in them that no server can read, and what lies around a dead member's db.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bbolt::Io;
use bbolt::graft::Graft;
use common::{dump, opened};
use snapshot::finding::Severity;
use snapshot::new_cluster::Bump;
use snapshot::restore::{Output, RestoreError, RestoreOptions, RestoreReport, restore};
use snapshot::save::{SaveOptions, save};
use snapshot::status::{StatusOptions, status};

/// A real db with one row more in `bucket`.
fn with_row(dir: &Path, bucket: &str, key: &[u8], value: &[u8]) -> PathBuf {
    let mut file = testdata::snapshot("3.5.30", "s3-final");
    file.truncate(file.len() - 32);
    let db = bbolt::Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    let mut rows = graft.pairs(bucket.as_bytes()).unwrap().unwrap_or_default();
    rows.insert(key.to_vec(), value.to_vec());
    graft.replace_bucket(bucket.as_bytes(), rows).unwrap();
    let patch = graft.finish().unwrap();
    let mut edited = file.clone();
    patch.apply_to_vec(&mut edited);
    let path = dir.join(format!("{bucket}.db"));
    fs::write(&path, edited).unwrap();
    path
}

fn options(data_dir: &Path) -> RestoreOptions {
    RestoreOptions {
        initial_cluster: "default=http://localhost:2380".to_owned(),
        token: "etcd-cluster".to_owned(),
        output: Output::OneMember {
            name: "default".to_owned(),
            advertise_peer_urls: "http://localhost:2380".to_owned(),
            data_dir: data_dir.to_owned(),
            wal_dir: None,
        },
        skip_hash_check: true,
        at_revision: None,
        bump_revision: None,
        target: None,
        keep_alarms: false,
        owner: None,
        dry_run: false,
        clean: false,
    }
}

fn restored(file: &Path, data_dir: &Path) -> Result<RestoreReport, RestoreError> {
    restore(&opened(file, Io::Mmap), &options(data_dir), &())
}

fn codes(file: &Path) -> Vec<(&'static str, Severity)> {
    let report = status(&opened(file, Io::Mmap), &StatusOptions::default(), &()).unwrap();
    report.findings.iter().map(|finding| (finding.code, finding.severity)).collect()
}

/// Each of these was tried: etcd 3.5.16 dies on it when it starts, and etcdutl restores it without a word.
#[test]
fn a_row_on_which_a_server_dies_is_found_and_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    for (bucket, key, value) in [
        ("lease", &b"abc"[..], &b""[..]),
        ("lease", &[0; 8], &[0xff]),
        ("authUsers", b"eve", &[0xff, 0xff]),
        ("authRoles", b"all", &[0x12, 0x05]),
    ] {
        let file = with_row(dir.path(), bucket, key, value);
        assert_eq!(codes(&file), [("ETCD-ROW", Severity::Error)], "{bucket}");
        let out = dir.path().join("out");
        let error = restored(&file, &out).unwrap_err();
        assert!(matches!(error, RestoreError::Damaged { .. }), "{error}");
        assert!(!out.exists());
        // A snapshot is what a server would send, and a server would send this.
        let output = dir.path().join(format!("{bucket}-{}.saved", key.len()));
        save(&opened(&file, Io::Mmap), &SaveOptions { output, dry_run: false, owner: None }, &()).unwrap();
    }
}

#[test]
fn unreadable_alarms_and_downgrades_are_dropped_as_readable_ones_are() {
    let dir = tempfile::tempdir().unwrap();
    for (bucket, key, value, code) in [
        ("alarm", &[0xff; 3][..], &b""[..], "ETCD-ALARM"),
        ("cluster", b"downgrade", b"{not json", "ETCD-DOWNGRADE"),
    ] {
        let file = with_row(dir.path(), bucket, key, value);
        assert_eq!(codes(&file), [(code, Severity::Error)]);
        for keep_alarms in [false, true] {
            let out = dir.path().join(format!("{bucket}-{keep_alarms}"));
            let with = RestoreOptions { keep_alarms, ..options(&out) };
            let report = restore(&opened(&file, Io::Mmap), &with, &()).unwrap();
            assert!(
                report.notices.iter().any(|notice| notice.contains("a server dies on")),
                "{:?}",
                report.notices
            );
            assert!(!dump(&out.join("member/snap/db"))[bucket].contains_key(key), "{bucket}");
        }
    }
}

#[test]
fn a_database_of_another_program_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = testdata::snapshot("3.5.30", "s1-precompact");
    file.truncate(file.len() - 32);
    let db = bbolt::Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    for bucket in dump(&testdata::snapshot_file("3.5.30", "s1-precompact", dir.path())).keys() {
        graft.delete_bucket(bucket.as_bytes()).unwrap();
    }
    graft.replace_bucket(b"foo", BTreeMap::from([(b"bar".to_vec(), b"baz".to_vec())])).unwrap();
    let patch = graft.finish().unwrap();
    let mut edited = file.clone();
    patch.apply_to_vec(&mut edited);
    let path = dir.path().join("foo.db");
    fs::write(&path, edited).unwrap();
    assert_eq!(codes(&path), [("ETCD-NO-BUCKET", Severity::Error), ("ETCD-NO-BUCKET", Severity::Warning)]);
    assert!(restored(&path, &dir.path().join("out")).is_err());
}

#[test]
fn the_log_and_a_newer_snapshot_beside_a_db_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir("3.5.30", dir.path());
    let paths = [data.clone(), data.join("member"), data.join("member/snap/db")];
    for (number, path) in paths.iter().enumerate() {
        let report = restored(path, &dir.path().join(number.to_string())).unwrap();
        let said = report.notices.iter().filter(|notice| notice.contains("was not folded in")).count();
        assert_eq!((said, report.findings.len()), (1, 0), "{}", path.display());
    }
    let copy = dir.path().join("copy.db");
    fs::copy(data.join("member/snap/db"), &copy).unwrap();
    let report = restored(&copy, &dir.path().join("of-copy")).unwrap();
    assert!(report.notices.iter().any(|notice| notice.starts_with("the member's log was not folded in")));

    fs::write(data.join("member/snap/00000000000000ff.snap.db"), b"").unwrap();
    for path in &paths {
        assert_eq!(codes(path), [("ETCD-NEWER-SNAP", Severity::Warning)], "{}", path.display());
    }
    assert_eq!(codes(&copy), []);
}

/// FORMATS X.18: where a compaction went beyond the last record, the server counts on from the compaction.
#[test]
fn a_bump_starts_where_the_server_would_have_gone_on() {
    let dir = tempfile::tempdir().unwrap();
    let revision = [&500i64.to_be_bytes()[..], b"_", &0i64.to_be_bytes()].concat();
    let file = with_row(dir.path(), "meta", b"finishedCompactRev", &revision);
    let with = RestoreOptions { bump_revision: Some(Bump::By(50)), ..options(&dir.path().join("out")) };
    let report = restore(&opened(&file, Io::Mmap), &with, &()).unwrap();
    assert_eq!((report.revision, report.bumped_to), (79, Some(550)));
}
