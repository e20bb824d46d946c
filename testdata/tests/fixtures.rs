//! The data is whole, and is what its README says.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use testdata::{
    STAGES, VERSIONS, data_dir, facts, facts_json, fingerprint, hashkv_facts, sha256_hex, snapshot,
};

#[test]
fn every_snapshot_carries_the_digest_of_its_pages() {
    for version in VERSIONS {
        for stage in STAGES {
            let snapshot = snapshot(version, stage);
            let (pages, trailer) = snapshot.split_at(snapshot.len() - 32);
            assert_eq!(pages.len() % 4096, 0, "{version} {stage}");
            let trailer: String = trailer.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(sha256_hex(pages), trailer, "{version} {stage}");
        }
    }
}

#[test]
fn facts_name_the_revision_that_hashkv_was_taken_at() {
    for version in VERSIONS {
        for stage in STAGES {
            let (_, revision, compacted) = hashkv_facts(version, stage);
            assert!(compacted < revision, "{version} {stage}");
            let keys = &facts_json(version, stage, "keys.json")[0];
            assert_eq!(keys["header"]["revision"].as_i64(), Some(revision), "{version} {stage}");
            assert!(keys["kvs"].as_array().unwrap().len() > 20, "{version} {stage}");
        }
        assert!(facts(version, "s3-final", "alarms.txt").contains("NOSPACE"), "{version}");
        assert!(facts(version, "s2-auth", "users.txt").lines().any(|user| user == "root"), "{version}");
    }
}

#[test]
fn data_dirs_unpack_with_their_modes_and_holes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = data_dir("3.5.30", scratch.path());
    let member = dir.join("member").metadata().unwrap();
    assert_eq!(member.permissions().mode() & 0o777, 0o700);
    let db = dir.join("member/snap/db").metadata().unwrap();
    assert_eq!(db.len(), 16_801_792);
    assert!(db.blocks() * 512 < 1 << 20, "the db's hole was filled: {} blocks", db.blocks());
}

#[test]
fn restored_dirs_have_the_digests_of_the_golden_table() {
    let table = std::fs::read_to_string(testdata::path("fixtures/restored/golden.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|row| row.split('\t').collect()).collect();
    assert!(rows.len() >= 15, "{} rows", rows.len());
    for row in rows {
        let version = row[0].split('/').next().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        testdata::unpack(&format!("restored/{version}-by-{}.tar.zst", row[1]), scratch.path());
        let tree = fingerprint(&scratch.path().join("member"));
        assert_eq!(tree.sha256("wal/0000000000000000-0000000000000000.wal"), Some(row[2]), "{row:?}");
        assert_eq!(tree.sha256(format!("snap/{}", row[3])), Some(row[4]), "{row:?}");
    }
}
