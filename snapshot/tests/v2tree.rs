//! The v2 store held against what servers made of the same log: `fixtures/v2` are stopped members of 3.4.23 and 3.5.1 with
//! `--enable-v2`, `--snapshot-count 20` and all of the log, on which the v2 API was used in every way it has
//! (`testdata/make-v2.sh`); and the databases that 3.4.23's own `etcdctl migrate` made of the first.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bbolt::{Db, Watch};
use snapshot::facts::{self, FactsOptions};
use snapshot::member_copy::{CopyOptions, Publish};
use snapshot::v2_migrate::{self, MigrateError, MigrateOptions, Migration};
use snapshot::v2tree::{V2Tree, V2TreeError};
use testdata as fixture;

const VERSIONS: [&str; 2] = ["3.4.23", "3.5.1"];
/// The entries at which the servers took snapshots.
const SNAPSHOTS: [u64; 3] = [0x15, 0x2a, 0x3f];

fn member(version: &str, dir: &Path) -> PathBuf {
    fixture::unpack(&format!("v2/{version}.tar.zst"), dir);
    dir.join("data")
}

fn snap(data: &Path, index: u64) -> PathBuf {
    data.join(format!("member/snap/{:016x}-{index:016x}.snap", 2))
}

fn store(data: &Path, index: u64) -> Vec<u8> {
    let snapshot = wal::decode_snap(&fs::read(snap(data, index)).unwrap()).unwrap();
    snapshot.data().to_vec()
}

fn tree(data: &Path, up_to: u64) -> Result<V2Tree, V2TreeError> {
    let quiet: &dyn Watch = &();
    V2Tree::at(&facts::gather(data, &FactsOptions::default(), quiet).unwrap(), up_to)
}

/// Without what no file tells: seconds that were left by the server's clock, and how often it was read.
fn told(json: &[u8]) -> String {
    let text = String::from_utf8(json.to_vec()).unwrap();
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) =
        [",\"ttl\":", "\"getsSuccess\":", "\"getsFail\":"].iter().filter_map(|name| rest.find(name)).min()
    {
        let (before, after) = rest.split_at(at);
        let colon = after.find(':').unwrap() + 1;
        out.push_str(before);
        rest = after[colon..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        if !after.starts_with(",\"ttl\":") {
            out.push_str(&after[..colon]);
        }
    }
    out + rest
}

#[test]
fn a_tree_from_any_earlier_snap_and_the_log_is_the_servers_own_later_one() {
    for version in VERSIONS {
        let dir = tempfile::tempdir().unwrap();
        let data = member(version, dir.path());
        let theirs: BTreeMap<u64, Vec<u8>> = SNAPSHOTS.map(|index| (index, store(&data, index))).into();
        // The one at the very entry, as it lies there.
        for (index, json) in &theirs {
            let ours = String::from_utf8(tree(&data, *index).unwrap().to_json().unwrap()).unwrap();
            // Bytes that are no text were escaped when they were written, and are a character since they were read.
            let json = String::from_utf8(json.clone()).unwrap().replace("\\ufffd", "\u{fffd}");
            assert_eq!(ours, json, "{version} {index}");
        }
        // From one that is left, and from the beginning of the log.
        for left in [Some(SNAPSHOTS[0]), None] {
            for index in SNAPSHOTS.into_iter().filter(|index| Some(*index) != left) {
                drop(fs::remove_file(snap(&data, index)));
            }
            for (index, json) in theirs.iter().filter(|(index, _)| Some(**index) > left) {
                let ours = tree(&data, *index).unwrap();
                assert_eq!(told(&ours.to_json().unwrap()), told(json), "{version} from {left:?} to {index}");
                assert_eq!(ours.raft_index(), *index);
            }
        }
        let beyond = tree(&data, 10_000).unwrap_err();
        assert!(matches!(beyond, V2TreeError::Short { .. }), "{beyond}");
    }
}

#[test]
fn the_keys_are_those_the_server_answered_with() {
    for version in VERSIONS {
        let dir = tempfile::tempdir().unwrap();
        let data = member(version, dir.path());
        let quiet: &dyn Watch = &();
        let tree = V2Tree::reached(&facts::gather(&data, &FactsOptions::default(), quiet).unwrap()).unwrap();
        let answer = fs::read(fixture::path(&format!("fixtures/v2/{version}.get.json"))).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let mut theirs = BTreeMap::new();
        let mut open = vec![&answer["node"]];
        while let Some(node) = open.pop() {
            open.extend(node["nodes"].as_array().into_iter().flatten());
            if let Some(key) = node["key"].as_str() {
                let of = |name: &str| node[name].as_u64().unwrap();
                let expires = node["expiration"].as_str().map(str::to_owned);
                let value = node["value"].as_str().map(str::to_owned);
                theirs.insert(key.to_owned(), (value, of("createdIndex"), of("modifiedIndex"), expires));
            }
        }
        let ours: BTreeMap<String, _> = tree
            .below(b"/1", true)
            .filter(|node| !node.is_hidden)
            .map(|node| {
                let text = |bytes: &[u8]| {
                    String::from_utf8(snapshot::v2tree::as_json_reads(bytes).into_owned()).unwrap()
                };
                let value = node.value.as_deref().map(text);
                let expires = node.expires.map(|time| time.to_string());
                (text(&node.path[2..]), (value, node.created_index, node.modified_index, expires))
            })
            .collect();
        assert_eq!(ours, theirs, "{version}");
        let hidden: Vec<Vec<u8>> =
            tree.below(b"/1", true).filter(|node| node.is_hidden).map(|node| node.path).collect();
        assert_eq!(hidden, [b"/1/_hidden".to_vec(), b"/1/_hidden/secret".to_vec()]);
    }
}

fn migrate(data: &Path, out: &Path, options: MigrateOptions) -> Result<Migration, MigrateError> {
    let publish = Publish::Copy { output: out.to_owned(), output_wal_dir: None };
    let copy = CopyOptions { publish, ..CopyOptions::default() };
    v2_migrate::migrate(data, options, &copy, &FactsOptions::default(), &())
}

/// Bucket `key` and the consistent index.
fn records(db: Vec<u8>) -> (BTreeMap<Vec<u8>, Vec<u8>>, Vec<u8>) {
    let db = Db::from_source(db).unwrap();
    let graft = bbolt::Graft::new(&db);
    let meta = graft.pairs(b"meta").unwrap().unwrap();
    (graft.pairs(b"key").unwrap().unwrap(), meta[&b"consistent_index"[..]].clone())
}

#[test]
fn what_is_migrated_is_what_etcdctl_migrates() {
    for (name, no_ttl, keys) in [("3.4.23.migrated", false, 22), ("3.4.23.migrated-no-ttl", true, 21)] {
        let dir = tempfile::tempdir().unwrap();
        let data = member("3.4.23", dir.path());
        let out = dir.path().join("out");
        let done = migrate(&data, &out, MigrateOptions { no_ttl, ..MigrateOptions::default() }).unwrap();
        let ours = records(fs::read(out.join("member/snap/db")).unwrap());
        assert_eq!(ours, records(fixture::decompressed(&format!("fixtures/v2/{name}.db.zst"))), "{name}");
        assert_eq!((done.keys, done.left_out_hidden, done.expiring + done.left_out_expiring), (keys, 1, 1));
        assert!(done.findings.iter().any(|found| found.code == "ETCD-V2-HIDDEN"));
        // The store itself goes along, so that a server with --enable-v2 has its keys as before.
        assert_eq!(tree(&out, done.fold.after.index).unwrap().to_json().unwrap(), {
            tree(&data, done.fold.after.index).unwrap().to_json().unwrap()
        });
        // Once is enough.
        let again = migrate(&out, &dir.path().join("again"), MigrateOptions::default()).unwrap_err();
        assert!(matches!(again, MigrateError::NotEmpty { .. }), "{again}");
        assert_eq!(again.exit_code(), 4);
    }
}

#[test]
fn hidden_keys_are_taken_along_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = member("3.5.1", dir.path());
    let plain = migrate(&data, &dir.path().join("plain"), MigrateOptions::default()).unwrap();
    let options = MigrateOptions { hidden: true, ..MigrateOptions::default() };
    let whole = migrate(&data, &dir.path().join("whole"), options).unwrap();
    assert_eq!((whole.keys, whole.left_out_hidden), (plain.keys + 1, 0));
    assert_ne!(whole.digest, plain.digest);
    assert!(!whole.findings.iter().any(|found| found.code == "ETCD-V2-HIDDEN"));
}

#[test]
fn a_member_without_v2_keys_is_refused_whatever_else_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let data = fixture::data_dir("3.4.23", dir.path());
    let refused = migrate(&data, &dir.path().join("out"), MigrateOptions::default()).unwrap_err();
    assert!(matches!(refused, MigrateError::NoKeys { .. }), "{refused}");
    assert!(!dir.path().join("out").exists());
}
