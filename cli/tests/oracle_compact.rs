//! What `compact` and `kv delete` write is what servers make of the same data: record by record, by hash, and when it is served.
//! About 40 s in all on two cores.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bbolt::{Db, check};
use rstest::rstest;
use support::{code, rescue, text};
use testdata::oracle::{Launch, Server, Tools, Version};

fn db_of(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/db")
}

fn copied(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// The records of a file, which must be sound.
fn records(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let report = check(&db, &());
    assert!(report.is_sound(), "{}: {:?}", path.display(), report.findings);
    let mut found = BTreeMap::new();
    let bucket = db.bucket(b"key").unwrap().unwrap();
    let mut cursor = bucket.cursor();
    while let Some(item) = cursor.next().unwrap() {
        found.insert(item.key.to_vec(), item.value.to_vec());
    }
    found
}

/// A member that has served: keys put, overwritten, deleted and put again, a lease, and a deletion by the revision that is
/// returned.
fn used(version: Version, data_dir: &Path) -> (Server, i64) {
    let server = Server::start(version, data_dir, "m1", &[]);
    let value = "v".repeat(700);
    for round in 0..3 {
        for key in 0..12 {
            server.put(format!("/k/{key:03}"), format!("{round}-{key}-{value}"));
        }
        server.put(format!("/other/{round}"), "x");
        assert_eq!(server.delete("/k/007"), 1);
    }
    server.etcdctl(["lease", "grant", "3000"]).ok();
    assert_eq!(server.delete("/k/003"), 1);
    let deleted = server.get_all().revision;
    server.put("/k/003", "again");
    for key in 0..4 {
        server.put(format!("/k/{key:03}"), "late");
    }
    assert_eq!(server.delete("/k/001"), 1);
    (server, deleted)
}

/// What a server says of all it holds.
fn seen(server: &Server) -> (Vec<serde_json::Value>, i64, u64, i64) {
    let (all, hash) = (server.get_all(), server.hashkv(0));
    (all.kvs, all.revision, hash.hash, hash.compact_revision)
}

/// Serves what was written as a server lives with it: restart, put, delete, compaction, stop.
fn lives(server: &mut Server) {
    let before = seen(server);
    server.restart();
    assert_eq!(seen(server), before);
    let revision = server.put("/new", "1");
    assert_eq!(revision, before.1 + 1);
    server.put("/new", "2");
    assert_eq!(server.delete("/new"), 1);
    server.compact(revision + 1);
    let after = seen(server);
    server.restart();
    assert_eq!(seen(server), after);
    server.stop();
    records(&db_of(server.data_dir()));
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_compaction_is_that_of_a_server(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let (mut server, deleted) = used(version, &data_dir);
    server.stop();
    let release = Tools::find(version).release();
    for revision in [deleted, deleted + 3] {
        let theirs = scratch.path().join(format!("theirs-{revision}"));
        copied(&data_dir, &theirs);
        let mut server = Server::start(version, &theirs, "m1", &[]);
        server.compact(revision);
        let expected = seen(&server);
        let at_later = server.hashkv(revision + 2);
        server.stop();

        let same_rule = scratch.path().join(format!("ours-{revision}"));
        let newest_rule = scratch.path().join(format!("newest-{revision}"));
        let rev = revision.to_string();
        rescue(["compact", text(&data_dir), "--rev", &rev, "--as-etcd", &release, "-o", text(&same_rule)])
            .ok();
        rescue(["compact", text(&data_dir), "--rev", &rev, "-o", text(&newest_rule)]).ok();
        assert_eq!(records(&db_of(&same_rule)), records(&db_of(&theirs)), "at {revision}");
        // Both are served alike; one of each is enough, and the newest rule is what a release did not expect.
        let ours = if revision == deleted { newest_rule } else { same_rule };
        let mut server = Server::start(version, &ours, "m1", &[]);
        assert_eq!(seen(&server), expected, "at {revision}");
        assert_eq!(server.hashkv(revision + 2).hash, at_later.hash);
        let below = server.etcdctl(["get", "/k/000", &format!("--rev={}", revision - 1)]);
        assert!(below.stderr.contains("has been compacted"), "{below:?}");
        if revision == deleted {
            lives(&mut server);
        }
    }
}

/// What a log has beyond the db is applied to the compacted copy, as it would have been; a deletion is refused there.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_member_that_was_killed_is_compacted_and_nothing_else(
    #[values(Version::V3_4, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    // So that the db lags for certain.
    let lagging = ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"];
    let flags: &[&str] = if version == Version::V3_4 { &[] } else { &lagging };
    let mut server = Server::start(version, &data_dir, "m1", flags);
    for key in 0..9 {
        server.put(format!("/k/{key}"), "1");
    }
    server.stop();
    server.spawn_again();
    server.wait_ready();
    for key in 0..9 {
        server.put(format!("/k/{key}"), "2");
    }
    let expected = server.get_all();
    server.kill();
    let (ours, other) = (scratch.path().join("ours"), scratch.path().join("other"));
    let json =
        rescue(["compact", text(&data_dir), "--keep-revisions", "3", "-o", text(&ours), "-w", "json"]).json();
    let pending = json["pendingEntries"].as_u64().unwrap();
    let deletion = rescue(["kv", "delete", text(&data_dir), "--prefix", "/", "-o", text(&other)]);
    if version == Version::V3_5New {
        assert_eq!(pending, 9);
    }
    assert_eq!(code(&deletion), if pending > 0 { 4 } else { 0 }, "{deletion:?}");
    let mut server = Server::start(version, &ours, "m1", &[]);
    assert_eq!(server.get_all(), expected);
    lives(&mut server);
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_deletion_is_that_of_a_server_and_a_purge_keeps_the_revision(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let (mut server, _) = used(version, &data_dir);
    server.stop();
    let (theirs, ours) = (scratch.path().join("theirs"), scratch.path().join("ours"));
    rescue(["kv", "delete", text(&data_dir), "--prefix", "/k/", "-o", text(&ours)]).ok();
    copied(&data_dir, &theirs);
    let mut server = Server::start(version, &theirs, "m1", &[]);
    let before = server.get_all();
    server.etcdctl(["del", "--prefix", "/k/"]).ok();
    let expected = seen(&server);
    server.stop();
    assert_eq!(records(&db_of(&ours)), records(&db_of(&theirs)));
    let mut server = Server::start(version, &ours, "m1", &[]);
    assert_eq!(seen(&server), expected);
    lives(&mut server);

    // Purged, all that is left is what others have, and the revision goes on from where it was.
    let purged = scratch.path().join("purged.db");
    rescue(["kv", "delete", text(&db_of(&data_dir)), "--prefix", "/k/", "--purge", "-o", text(&purged)]).ok();
    let launch = Launch::new(version, &scratch.path().join("restored"), "m1");
    let mut restore = vec!["snapshot", "restore", text(&purged), "--skip-hash-check", "--name", "m1"];
    let restored = scratch.path().join("restored");
    let cluster = "m1=http://localhost:2380";
    restore.extend(["--initial-cluster", cluster, "--initial-advertise-peer-urls", "http://localhost:2380"]);
    restore.extend(["--data-dir", text(&restored)]);
    rescue(restore).ok();
    let mut server = launch.start();
    let all = server.get_all();
    assert_eq!(all.revision, before.revision, "the revision went back");
    let others: Vec<_> =
        before.kvs.into_iter().filter(|kv| !support::decoded(&kv["key"]).starts_with(b"/k/")).collect();
    assert!(!others.is_empty() && all.kvs == others, "{all:?}");
    let old = server.etcdctl(["get", "--prefix", "/k/", &format!("--rev={}", before.revision - 9)]).ok();
    assert_eq!(old.stdout, "");
    lives(&mut server);
}
