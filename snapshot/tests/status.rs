//! `status` against what etcdutl 3.7.1 printed for the same files.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs;

use bbolt::Io;
use common::opened;
use snapshot::integrity::Integrity;
use snapshot::status::{StatusOptions, status};
use testdata::{STAGES, VERSIONS, fingerprint};

/// `status-matrix.txt` holds a line a snapshot and tool.
fn recorded(version: &str, stage: &str) -> serde_json::Value {
    let start = format!("{version}/{stage} etcdutl-3.7.1 ");
    let matrix = testdata::sample("status-matrix.txt");
    let line = matrix.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn every_fixture_has_the_status_that_etcdutl_3_7_prints() {
    let dir = tempfile::tempdir().unwrap();
    for version in VERSIONS {
        for stage in STAGES {
            let file = testdata::snapshot_file(version, stage, dir.path());
            let before = fingerprint(&file);
            for io in [Io::Mmap, Io::Pread] {
                let report = status(&opened(&file, io), &StatusOptions::default(), &()).unwrap();
                assert_eq!(
                    serde_json::to_value(report.status.unwrap()).unwrap(),
                    recorded(version, stage),
                    "{version} {stage} {io:?}"
                );
                assert_eq!(report.verdict.integrity, Integrity::Verified);
                assert_eq!(report.findings, []);
            }
            assert_eq!(fingerprint(&file), before);
        }
    }
}

#[test]
fn a_data_dir_a_member_dir_and_its_db_are_the_same_database() {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir("3.6.14", dir.path());
    let paths = [data.clone(), data.join("member"), data.join("member/snap/db")];
    let reports = paths.map(|path| status(&opened(&path, Io::Mmap), &StatusOptions::default(), &()).unwrap());
    for report in &reports {
        assert_eq!(report.verdict.integrity, Integrity::Absent);
        assert_eq!(report.findings, []);
        assert_eq!(report.status, reports[0].status);
    }
    assert_eq!(reports[0].status.as_ref().unwrap().revision, 79);
}

#[test]
fn a_changed_byte_is_a_mismatch_and_still_has_a_status() {
    let dir = tempfile::tempdir().unwrap();
    let file = testdata::snapshot_file("3.5.30", "s3-final", dir.path());
    let mut bytes = fs::read(&file).unwrap();
    // The trailer's own last byte, then one of a page's padding: neither touches the structure.
    for at in [bytes.len() - 1, 100] {
        bytes[at] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let report = status(&opened(&file, Io::Mmap), &StatusOptions::default(), &()).unwrap();
        assert_eq!(report.verdict.integrity, Integrity::Mismatch);
        assert_ne!(report.verdict.expected, report.verdict.computed);
        assert_eq!(report.findings.iter().map(|f| f.code).collect::<Vec<_>>(), ["SNAP-HASH-MISMATCH"]);
        assert_eq!(serde_json::to_value(report.status.unwrap()).unwrap(), recorded("3.5.30", "s3-final"));
        let unchecked = StatusOptions { skip_hash_check: true };
        let report = status(&opened(&file, Io::Mmap), &unchecked, &()).unwrap();
        assert_eq!((report.verdict.integrity, report.findings.len()), (Integrity::Unchecked, 0));
        bytes[at] ^= 1;
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_has_findings_that_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let whole = testdata::snapshot("3.5.30", "s3-final");
    let file = dir.path().join("cut.db");
    for keep in [whole.len() - 1, whole.len() - 32, whole.len() - 33, whole.len() - 4096, 8192, 4096, 600, 79]
    {
        fs::write(&file, &whole[..keep]).unwrap();
        match status(&opened(&file, Io::Mmap), &StatusOptions::default(), &()) {
            Ok(report) => {
                // Without its trailer, cut on a page's edge, the file is what a data dir's db looks like.
                let sound = keep == whole.len() - 32;
                assert_eq!(report.findings.is_empty(), sound, "{keep}: {:?}", report.findings);
                assert_ne!(report.verdict.integrity, Integrity::Verified);
            }
            Err(error) => assert!(keep < 128, "{keep}: {error}"),
        }
    }
}

/// The root branch of bucket `key` names itself as its first child: etcdutl runs out of stack, or for ever.
#[test]
fn a_cycle_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = testdata::snapshot("3.5.30", "s3-final");
    let root = {
        let db = bbolt::Db::from_source(bytes.as_slice()).unwrap();
        let root = db.bucket(b"key").unwrap().unwrap().root_node().unwrap();
        assert_eq!(root.kind(), bbolt::NodeKind::Branch);
        root.id().0
    };
    let child_at = usize::try_from(root).unwrap() * 4096 + 16 + 8;
    bytes[child_at..child_at + 8].copy_from_slice(&root.to_le_bytes());
    let file = dir.path().join("cycle.db");
    fs::write(&file, &bytes).unwrap();
    let report = status(&opened(&file, Io::Mmap), &StatusOptions::default(), &()).unwrap();
    assert_eq!(report.status, None);
    assert!(report.findings.iter().any(|f| f.code == "BBOLT-MULTIPLE-REFERENCES"), "{:?}", report.findings);
}
