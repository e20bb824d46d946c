//! Real etcd on what was generated: etcdutl comes to the facts, servers serve restored dbs, and a server that has
//! nothing but the log comes to the db's content by itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{PRESETS, image, records, replay, small};
use generate::{EntryKind, Facts, KeyShape, LogOptions, Preset, Shape, db_file, log_dir};
use serde_json::Value;
use snapshot::opened::{InputOptions, open};
use snapshot::restore::{Output, RestoreOptions, restore};
use snapshot::target::TargetVersion;
use testdata::oracle::{Launch, Server, Tools, Version};

const PEER_URL: &str = "http://127.0.0.1:1380";

/// Restores the snapshot as the only member of a new cluster.
fn restored(snapshot: &Path, data_dir: &Path) {
    let options = RestoreOptions {
        initial_cluster: format!("m1={PEER_URL}"),
        token: "generated".to_owned(),
        output: Output::OneMember {
            name: "m1".to_owned(),
            advertise_peer_urls: PEER_URL.to_owned(),
            data_dir: data_dir.to_owned(),
            wal_dir: None,
        },
        skip_hash_check: false,
        at_revision: None,
        bump_revision: None,
        target: None,
        keep_alarms: false,
        owner: None,
        dry_run: false,
        clean: false,
    };
    let report = restore(&open(snapshot, &InputOptions::default(), &()).unwrap(), &options, &()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// What etcdctl says of a key: create revision, mod revision, version, lease.
type Row = [i64; 4];

fn row(kv: &Value) -> (String, Row) {
    let number = |name: &str| kv[name].as_i64().unwrap_or(0);
    (
        kv["key"].as_str().unwrap().to_owned(),
        [number("create_revision"), number("mod_revision"), number("version"), number("lease")],
    )
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0_usize, |word, i| word << 8 | usize::from(*chunk.get(i).unwrap_or(&0)));
        for place in 0..4 {
            let letter = ALPHABET[word >> (18 - 6 * place) & 63];
            out.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// The server has exactly the live keys of the history.
fn assert_served(server: &Server, shape: &Shape, facts: &Facts) {
    let (whole, _) = image(&Shape { compacted: false, ..shape.clone() });
    let live = replay(&records(&whole));
    let expected: BTreeMap<String, (Row, String)> = live
        .values()
        .map(|r| (base64(&r.key), ([r.created, r.modified, r.version, r.lease], base64(&r.value))))
        .collect();
    let all = server.get_all();
    assert_eq!(all.revision, i64::from(facts.revision));
    let served: BTreeMap<String, (Row, String)> = all
        .kvs
        .iter()
        .map(|kv| {
            let (key, row) = row(kv);
            (key, (row, kv["value"].as_str().unwrap_or_default().to_owned()))
        })
        .collect();
    assert_eq!(served.len(), expected.len());
    assert!(served == expected, "the server has other values or revisions");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_status_of_etcdutl_is_the_facts() {
    let dir = tempfile::tempdir().unwrap();
    for (number, preset) in PRESETS.into_iter().enumerate() {
        let path = dir.path().join(format!("{number}.db"));
        let facts = db_file(&small(preset), &path, true, &()).unwrap();
        for version in [Version::V3_5_1, Version::V3_5New] {
            let status = Tools::find(version)
                .etcdutl(["snapshot", "status", path.to_str().unwrap(), "-w", "json"])
                .json();
            assert_eq!(
                (&status["hash"], &status["revision"], &status["totalKey"], &status["totalSize"]),
                (&facts.hash.into(), &facts.revision.into(), &facts.pairs.into(), &facts.image_bytes.into()),
                "{preset:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_restored_dbs_are_served() {
    let dir = tempfile::tempdir().unwrap();
    for (preset, written_by, version) in [
        (Preset::Big, TargetVersion::V3_4, Version::V3_4),
        (Preset::Frag, TargetVersion::V3_4, Version::V3_4),
        (Preset::Big, TargetVersion::V3_5, Version::V3_5_1),
        (Preset::Frag, TargetVersion::V3_5, Version::V3_5New),
        (Preset::Flat, TargetVersion::V3_5, Version::V3_5New),
    ] {
        let shape = Shape { written_by, ..small(preset) };
        let name = format!("{preset:?}-{written_by}-{version:?}");
        let snapshot = dir.path().join(format!("{name}.db"));
        let facts = db_file(&shape, &snapshot, true, &()).unwrap();
        let data_dir = dir.path().join(&name);
        restored(&snapshot, &data_dir);
        let mut server = Launch::new(version, &data_dir, "m1").start();
        assert_served(&server, &shape, &facts);
        // It is a store one can work with: a deletion, a put and a compaction go through the trees.
        let key = server.get_all().kvs[0]["key"].as_str().unwrap().to_owned();
        let first =
            replay(&records(&image(&Shape { compacted: false, ..shape }).0)).into_keys().next().unwrap();
        assert_eq!(key, base64(&first));
        assert_eq!(server.delete(String::from_utf8(first).unwrap()), 1);
        let revision = server.put("/generated/more", "x");
        assert_eq!(revision, i64::from(facts.revision) + 2);
        server.compact(revision);
        let hash = server.hashkv(0);
        server.restart();
        assert_eq!(server.hashkv(0).hash, hash.hash);
        server.stop();
    }
}

/// The proof of the history: etcd makes the store itself, from the requests, and comes to the same hash over every byte
/// of every record. The log has several segments.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_replayed_logs_make_the_same_store() {
    let dir = tempfile::tempdir().unwrap();
    for (preset, compacted, version, keys, entries) in [
        (Preset::Big, false, Version::V3_5_1, KeyShape::Kubernetes, EntryKind::Mixed),
        (Preset::Flat, false, Version::V3_5_1, KeyShape::Kubernetes, EntryKind::Mixed),
        (Preset::Frag, true, Version::V3_5New, KeyShape::Deep, EntryKind::Txn),
        (Preset::Flat, false, Version::V3_4, KeyShape::Flat, EntryKind::Put),
    ] {
        let written_by = if version == Version::V3_4 { TargetVersion::V3_4 } else { TargetVersion::V3_5 };
        let shape = Shape { compacted, written_by, keys, ..small(preset) };
        let name = format!("{preset:?}-{compacted}-{version:?}");
        let snapshot = dir.path().join(format!("{name}.db"));
        let facts = db_file(&shape, &snapshot, true, &()).unwrap();
        let from_db = dir.path().join(format!("{name}-db"));
        restored(&snapshot, &from_db);
        let from_log = dir.path().join(format!("{name}-log"));
        let options = LogOptions { segment_bytes: 200 << 10, entries };
        let log = log_dir(&shape, &from_log.join("member/wal"), options, &()).unwrap();
        assert!(log.segments > 1, "{} bytes in one segment", log.record_bytes);

        let mut replayed = Launch::new(version, &from_log, "m1").start();
        assert_served(&replayed, &shape, &facts);
        let leases = replayed.etcdctl(["lease", "list", "-w", "json"]).json();
        assert_eq!(leases["leases"].as_array().unwrap().len(), usize::try_from(facts.leases).unwrap());
        let made = replayed.hashkv(0);
        replayed.stop();
        let mut served = Launch::new(version, &from_db, "m1").start();
        let read = served.hashkv(0);
        assert_eq!((made.hash, made.revision), (read.hash, read.revision), "{name}");
        served.stop();
        assert_log_is_read_by(&from_log);
    }
}

/// etcd's own repair and verification found nothing to do: no segment was set aside.
fn assert_log_is_read_by(data_dir: &Path) {
    let names = fs::read_dir(data_dir.join("member/wal")).unwrap();
    let broken = names
        .map(|entry| entry.unwrap().file_name())
        .find(|name| !name.to_str().unwrap().ends_with(".wal") && !name.to_str().unwrap().ends_with(".tmp"));
    assert_eq!(broken, None);
}
