//! Files written whole, page by page, in the data dirs of real servers: they boot, delete, put, compact, stop and start
//! again, with as many leaves as make a branch full, or leave one or two over.
//!
//! About a minute and a half in all on two cores.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bbolt::{Build, BuildOptions, Db, LeafRange, NodeKind};
use rstest::rstest;
use serde_json::Value;
use snapshot::mvcc::{KeyValue, Revision};
use support::{Plan, Truth, assert_members, decoded, defrag, exercise, rescue, status_by, text};
use testdata::oracle::{Judge, Launch, Server, Tools, Version};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The data of which each server makes the most.
fn fixture_for(version: Version) -> &'static str {
    match version {
        Version::V3_4 => "3.4.23",
        Version::V3_5_1 => "3.5.1",
        Version::V3_5New => "3.5.30",
    }
}

/// A restored member, not yet booted.
struct Restored {
    scratch: tempfile::TempDir,
    truth: Truth,
    plan: Plan,
    /// What `-w json` told.
    told: Value,
}

impl Restored {
    fn new(version: Version, stage: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let truth = Truth::of(fixture_for(version), stage, scratch.path());
        let plan = Plan::new(1);
        let data_dir = scratch.path().join("m1");
        let line = plan.restore_line(&truth.snapshot, 0);
        let told =
            rescue(line.iter().map(String::as_str).chain(["--data-dir", text(&data_dir), "-w", "json"]))
                .json();
        Self { scratch, truth, plan, told }
    }

    fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("m1")
    }

    fn db(&self) -> PathBuf {
        self.data_dir().join("member/snap/db")
    }

    /// All top-level buckets.
    fn buckets(&self) -> BTreeMap<Vec<u8>, Pairs> {
        let db = Db::from_source(fs::read(self.db()).unwrap()).unwrap();
        let mut buckets = BTreeMap::new();
        let mut names = db.root().cursor();
        while let Some(name) = names.next().unwrap().map(|item| item.key.to_vec()) {
            let mut pairs = Pairs::new();
            let mut cursor = names.bucket().unwrap().unwrap().cursor();
            while let Some(item) = cursor.next().unwrap() {
                pairs.insert(item.key.to_vec(), item.value.to_vec());
            }
            buckets.insert(name, pairs);
        }
        buckets
    }

    /// Puts `file` in place of the db, once bbolt, in the judge, and etcdutl accept it; the latter must count
    /// `pairs` and see `revision`.
    fn replace_db(&self, file: &[u8], pairs: usize, revision: i64) {
        fs::write(self.db(), file).unwrap();
        judge_copy(&self.db(), self.scratch.path());
        let tools = Tools::find(Version::V3_5_1);
        let status = status_by(&tools, &self.db());
        assert_eq!(
            (status["totalKey"].as_u64(), status["revision"].as_i64()),
            (Some(pairs as u64), Some(revision))
        );
        let again = self.scratch.path().join("restored-by-etcdutl");
        tools
            .etcdutl([
                "snapshot",
                "restore",
                text(&self.db()),
                "--skip-hash-check",
                "--data-dir",
                text(&again),
            ])
            .ok();
    }

    fn start(&self, version: Version) -> Server {
        let launch = Launch::new(version, &self.data_dir(), "m1").peer_url(&self.plan.members[0].1);
        self.truth.root().into_iter().fold(launch, |launch, root| launch.user(&root)).start()
    }
}

/// Lets the judge loose on a copy of a db.
#[track_caller]
fn judge_copy(db: &Path, scratch: &Path) {
    let copy = scratch.join("judged.db");
    fs::copy(db, &copy).unwrap();
    Judge::find().accept(1, 6, &[copy]);
}

/// The same buckets as a fresh file.
fn build(buckets: &BTreeMap<Vec<u8>, Pairs>, options: BuildOptions) -> Vec<u8> {
    let mut file = Vec::new();
    let mut build = Build::new(&mut file, options).unwrap();
    for (name, pairs) in buckets {
        build.begin_bucket(name).unwrap();
        for (key, value) in pairs {
            build.put(key, value).unwrap();
        }
        build.end_bucket().unwrap();
    }
    build.finish().unwrap();
    file
}

fn pair_count(buckets: &BTreeMap<Vec<u8>, Pairs>) -> usize {
    buckets.values().map(Pairs::len).sum()
}

/// A restored db written anew at any fill and page size serves what it served, and works.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_restored_db_written_anew(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values((50, 4096), (100, 4096), (90, 16_384))] fill_and_page: (u8, u32),
) {
    let (leaf_fill_percent, page_size) = fill_and_page;
    let restored = Restored::new(version, "s3-final");
    let tools = Tools::find(Version::V3_5_1);
    let before = status_by(&tools, &restored.db());
    let buckets = restored.buckets();
    let options = BuildOptions { page_size, leaf_fill_percent, ..BuildOptions::default() };
    restored.replace_db(&build(&buckets, options), pair_count(&buckets), restored.truth.revision);
    // Over the names, keys and values of all buckets, whatever pages they are on.
    assert_eq!(status_by(&tools, &restored.db())["hash"], before["hash"]);

    let truth = &restored.truth;
    let mut server = restored.start(version);
    truth.assert_served(&server);
    assert_members(&server, &restored.plan, &restored.told);
    truth.assert_auth(&server);
    let kvs = exercise(&server, truth);
    let hash = server.hashkv(0);
    server.restart();
    assert_eq!((server.get_all().kvs, server.hashkv(0)), (kvs, hash));
    truth.assert_leases_and_accounts(&server);
    server.stop();
    judge_copy(&restored.db(), restored.scratch.path());
}

/// Protobuf: a field that is a varint.
fn field(out: &mut Vec<u8>, tag: u8, value: i64) {
    out.push(tag << 3);
    let mut rest = u64::try_from(value).unwrap();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7F).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
}

/// Keys that the revisions below are of.
const OURS: &str = "/written/";
const KEYS: i64 = 5;

/// The key and value of the revision with this number of ours.
fn written(number: i64) -> (String, String) {
    (format!("{OURS}{}", number % KEYS), format!("{number:0900}"))
}

/// A record as etcd keeps it for revision `first + number`: all are of a few keys, so that a compaction takes nearly all
/// of them out again.
fn revision(first: i64, number: i64, value_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let main = first + number;
    let (name, value) = written(number);
    let kv = KeyValue {
        key: name.as_bytes(),
        create_revision: first + number % KEYS,
        mod_revision: main,
        version: number / KEYS + 1,
        value: &value.as_bytes()[value.len() - value_bytes..],
        lease: 0,
    };
    let mut record = Vec::new();
    kv.encode(&mut record);
    (Revision { main, sub: 0, tombstone: false }.encode(), record)
}

/// Behind all leases of the fixtures.
const FIRST_LEASE: i64 = 0x7F00_0000_0000_0000;

fn lease(number: i64) -> (Vec<u8>, Vec<u8>) {
    let id = FIRST_LEASE + number;
    let mut record = Vec::new();
    field(&mut record, 1, id);
    field(&mut record, 2, 8_000_000);
    (id.to_be_bytes().to_vec(), record)
}

fn leaf_count(file: &[u8], bucket: &str) -> usize {
    let db = Db::from_source(file).unwrap();
    let bucket = db.bucket(bucket.as_bytes()).unwrap().unwrap();
    bucket.leaf_ranges(1).unwrap().iter().map(LeafRange::leaf_count).sum()
}

/// Adds pairs to `bucket` until it has that many leaves; returns how many pairs those were.
fn grow(
    buckets: &mut BTreeMap<Vec<u8>, Pairs>,
    options: BuildOptions,
    bucket: &str,
    leaves: usize,
    pair: impl Fn(i64) -> (Vec<u8>, Vec<u8>),
) -> i64 {
    let mut count = 0;
    loop {
        let now = leaf_count(&build(buckets, options), bucket);
        if now >= leaves {
            assert_eq!(now, leaves, "{bucket} had more from the start");
            return count;
        }
        // A pair makes at most one more leaf.
        for _ in now..leaves {
            let (key, value) = pair(count);
            assert!(buckets.get_mut(bucket.as_bytes()).unwrap().insert(key, value).is_none());
            count += 1;
        }
    }
}

/// How many children a branch of keys of this length has at most.
fn fan_out(page_size: u32, key_bytes: usize) -> usize {
    (usize::try_from(page_size).unwrap() - 16) / (16 + key_bytes)
}

/// Asserts that `server` holds the recorded keys and the last value of each of ours.
#[track_caller]
fn assert_holds(server: &Server, truth: &Truth, count: i64, value_bytes: usize) {
    let all = server.get_all();
    assert_eq!(all.revision, truth.revision + count);
    let (ours, theirs): (Vec<_>, Vec<_>) =
        all.kvs.into_iter().partition(|kv| decoded(&kv["key"]).starts_with(OURS.as_bytes()));
    assert_eq!(theirs, truth.kvs);
    let last = count - KEYS..count;
    let mut expected: Vec<_> = last
        .map(|number| {
            let (name, value) = written(number);
            let value = value[value.len() - value_bytes..].to_owned();
            (name, value, truth.revision + 1 + number, number / KEYS + 1)
        })
        .collect();
    expected.sort();
    let ours: Vec<_> = ours
        .iter()
        .map(|kv| {
            let utf8 = |field: &str| String::from_utf8(decoded(&kv[field])).unwrap();
            (
                utf8("key"),
                utf8("value"),
                kv["mod_revision"].as_i64().unwrap(),
                kv["version"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(ours, expected);
}

/// Leases that `server` lists.
fn lease_count(server: &Server) -> usize {
    server.etcdctl(["lease", "list", "-w", "json"]).json()["leases"].as_array().map_or(0, Vec::len)
}

/// Deletes, puts, revokes and compacts until little is left of what was written, with a stop and a start between.
fn wear_down(mut server: Server, restored: &Restored, count: i64, leases: i64) {
    let first = restored.truth.revision;
    // Part of the leaves goes, the others stay as they were written.
    server.compact(first + count / 3);
    assert_eq!(server.put(format!("{OURS}new"), "1"), first + count + 1);
    assert_eq!(server.delete(format!("{OURS}2")), 1);
    server.compact(first + count - 1);
    assert_eq!(server.hashkv(0).compact_revision, first + count - 1);
    let before = lease_count(&server);
    let mut revoked = 0;
    // The last leaves of leases are left with a few each.
    for number in (0..leases).rev().take(36).filter(|number| number % 6 > 0) {
        server.etcdctl(["lease", "revoke", &format!("{:x}", FIRST_LEASE + number)]).ok();
        revoked += 1;
    }
    assert_eq!(lease_count(&server), before - revoked);

    let (all, hash) = (server.get_all(), server.hashkv(0));
    server.stop();
    judge_copy(&restored.db(), restored.scratch.path());
    server.restart();
    assert_eq!((server.get_all(), server.hashkv(0)), (all, hash));
    assert_eq!(lease_count(&server), before - revoked);
    assert_eq!(server.put(format!("{OURS}new"), "2"), first + count + 3);
    server.compact(first + count + 3);
    defrag(&server);
    server.stop();
    judge_copy(&restored.db(), restored.scratch.path());
}

/// Serves and wears down a db whose buckets have these numbers of leaves.
fn shaped(version: Version, page_size: u32, key_leaves: usize, lease_leaves: usize, value_bytes: usize) {
    let restored = Restored::new(version, "s1-precompact");
    let options = BuildOptions { page_size, ..BuildOptions::default() };
    let mut buckets = restored.buckets();
    let first = restored.truth.revision + 1;
    let count = grow(&mut buckets, options, "key", key_leaves, |number| revision(first, number, value_bytes));
    let leases = grow(&mut buckets, options, "lease", lease_leaves, lease);
    let file = build(&buckets, options);
    assert_eq!((leaf_count(&file, "key"), leaf_count(&file, "lease")), (key_leaves, lease_leaves));
    restored.replace_db(&file, pair_count(&buckets), restored.truth.revision + count);

    let server = restored.start(version);
    assert_holds(&server, &restored.truth, count, value_bytes);
    assert_members(&server, &restored.plan, &restored.told);
    assert_eq!(lease_count(&server), buckets[&b"lease"[..]].len());
    wear_down(server, &restored, count, leases);
}

/// Pages as etcd has them; the keys' leaves fill one branch but for one, fill it, or leave one or two over.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_keys_around_the_fan_out(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(-1, 0, 1, 2)] over: isize,
) {
    let leaves = fan_out(4096, 17).checked_add_signed(over).unwrap();
    shaped(version, 4096, leaves, 1, 900);
}

/// Small pages, where leases too need branches: both buckets at once, with one branch and with two full ones.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_leases_around_the_fan_out(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(0, 1, 2)] over: usize,
) {
    let branches = if version == Version::V3_5New { 2 } else { 1 };
    shaped(version, 1024, 2 * fan_out(1024, 17) + over, branches * fan_out(1024, 8) + over, 200);
}

/// What all these cases are about: the same file with one child taken from a branch passes etcdutl's check, boots, and
/// kills the server as soon as the page below that branch is to be merged.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_branch_with_one_child_kills_a_server() {
    let restored = Restored::new(Version::V3_5_1, "s1-precompact");
    let options = BuildOptions { page_size: 1024, ..BuildOptions::default() };
    let mut buckets = restored.buckets();
    grow(&mut buckets, options, "lease", fan_out(1024, 8) + 2, lease);
    let mut file = build(&buckets, options);
    let (branch, left): (u64, Vec<Vec<u8>>) = {
        let db = Db::from_source(file.as_slice()).unwrap();
        let root = db.bucket(b"lease").unwrap().unwrap().root_node().unwrap();
        let branch = db.node(root.child(root.count() - 1)).unwrap();
        assert_eq!((branch.kind(), branch.count()), (NodeKind::Branch, 2));
        let leaf = db.node(branch.child(0)).unwrap();
        (db.offset_of(branch.id()), (0..leaf.count()).map(|index| leaf.key(index).to_vec()).collect())
    };
    // The number of elements lies behind the page's number and flags.
    let count = usize::try_from(branch).unwrap() + 10;
    file[count..count + 2].copy_from_slice(&1u16.to_le_bytes());
    fs::write(restored.db(), &file).unwrap();
    status_by(&Tools::find(Version::V3_5_1), &restored.db());
    let copies: Vec<PathBuf> = (0..4).map(|n| restored.scratch.path().join(format!("{n}.db"))).collect();
    for copy in &copies {
        fs::copy(restored.db(), copy).unwrap();
    }
    let verdicts = Judge::find().verdicts(1, 6, &copies);
    assert!(verdicts.iter().any(Result::is_err), "{verdicts:?}");

    let mut server = restored.start(Version::V3_5_1);
    for key in &left[2..] {
        let id = i64::from_be_bytes(key.as_slice().try_into().unwrap());
        // At some point of this it dies.
        server.etcdctl(["lease", "revoke", &format!("{id:x}")]);
        if server.exited().is_some() {
            break;
        }
    }
    assert!(server.wait_exit(Duration::from_secs(20)).is_some(), "it lives");
    assert!(server.log().contains("parent must have at least 2 children"));
}
