//! Seeded random histories on live servers: what is read, hashed, compacted and restored from their files is what the servers
//! say themselves, at every revision they keep. About 100 s in all on two cores.
//!
//! `ETCD_RESCUE_SOAK=1` makes it thousands; `ETCD_RESCUE_SEED=N` is one history alone, for whoever looks for what went wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::env;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use bbolt::{Db, check};
use rstest::rstest;
use serde_json::json;
use snapshot::mvcc::query::{RangeRequest, range};
use snapshot::mvcc::{Index, IndexOptions, KeyRange, KeyValue, Release, hashkv};
use snapshot::schema::{KEY, Schema};
use support::{code, kv_of, listed, rescue, text};
use testdata::base64;
use testdata::damage::Rng;
use testdata::key_space::KeySpace;
use testdata::oracle::{Ending, Gateway, Kv, Launch, QUICK, Server, Tools, Truth, Version, Workload};

/// Steps of one history.
const STEPS: usize = 120;
/// Histories of one version, shared by its tests: in the gate, and in a soak.
const HISTORIES: u64 = 14;
const HISTORIES_OF_A_SOAK: u64 = 1000;
const SHARES: u64 = 2;

/// The seeds of one share.
fn seeds(share: u64) -> Range<u64> {
    if let Ok(seed) = env::var("ETCD_RESCUE_SEED") {
        let seed = seed.parse().unwrap();
        return if share == 0 { seed..seed + 1 } else { 0..0 };
    }
    let all = if env::var_os("ETCD_RESCUE_SOAK").is_some() { HISTORIES_OF_A_SOAK } else { HISTORIES };
    let each = all / SHARES;
    share * each..(share + 1) * each
}

/// The dir of a server that has ended, and what to say when something disagrees.
struct History {
    version: Version,
    data_dir: PathBuf,
    told: Vec<String>,
    label: String,
}

fn db_of(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/db")
}

fn copied(from: &Path, to: &Path) {
    // A segment of the log is 64 MB of which little was written.
    let status = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status().unwrap();
    assert!(status.success());
}

impl History {
    fn made(version: Version, seed: u64, scratch: &Path) -> Self {
        let data_dir = scratch.join("data");
        let mut workload = Workload::start(Launch::new(version, &data_dir, "m1"), seed);
        workload.steps(STEPS);
        let ending = if seed % 3 == 2 { Ending::KilledWhileCompacting } else { Ending::Stopped };
        let told = workload.end(ending);
        Self { version, data_dir, told, label: format!("{version:?}, seed {seed}") }
    }

    /// A server on `data_dir`.
    fn served(&self, data_dir: &Path) -> (Server, Gateway) {
        let schema = Schema::read(&Db::from_source(fs::read(db_of(data_dir)).unwrap()).unwrap()).unwrap();
        let mut server = Launch::new(self.version, data_dir, "m1").args(QUICK).spawn();
        let gateway = Gateway::ready(&mut server);
        if schema.scheduled_compact > schema.finished_compact {
            // What a resumed compaction removed stays in the server's hashes until it is committed, after 100 ms; it counts
            // where no key is there.
            sleep(Duration::from_millis(400));
        }
        (server, gateway)
    }

    /// Says where two answers part.
    #[track_caller]
    fn same<T: PartialEq + std::fmt::Debug>(&self, ours: &T, theirs: &T, what: &str) {
        assert!(
            ours == theirs,
            "{}: {what}\nours   {ours:?}\ntheirs {theirs:?}\n{}",
            self.label,
            self.told.join("\n")
        );
    }
}

/// The release whose rules a server follows.
fn release_of(version: Version) -> String {
    match version {
        Version::V3_4 => "3.4.23".to_owned(),
        Version::V3_5_1 => "3.5.1".to_owned(),
        Version::V3_5New => Tools::find(version).release(),
    }
}

/// A file as a slice, its small buckets, and its pairs as the model takes them.
struct Opened {
    bytes: Vec<u8>,
    release: Release,
}

impl Opened {
    fn new(db: &Path, version: Version) -> Self {
        Self { bytes: fs::read(db).unwrap(), release: release_of(version).parse().unwrap() }
    }

    fn db(&self) -> Db<&[u8]> {
        Db::from_source(self.bytes.as_slice()).unwrap()
    }

    fn model(&self, version: Version) -> KeySpace {
        let db = self.db();
        let schema = Schema::read(&db).unwrap();
        let mut pairs = Vec::new();
        let bucket = db.bucket(KEY).unwrap().unwrap();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next().unwrap() {
            pairs.push((item.key.to_vec(), item.value.to_vec()));
        }
        let newer_rule = version == Version::V3_5New;
        KeySpace::new(pairs, schema.scheduled_compact, schema.finished_compact, newer_rule).unwrap()
    }
}

/// The plain model is what the servers do; what is faster is held against both.
fn the_model_agrees(history: &History, opened: &Opened, truth: &Truth) {
    let model = opened.model(history.version);
    history.same(&model.revision(), &truth.revision, "revision");
    history.same(&model.compact_revision(), &truth.compact_revision, "compact revision");
    for (revision, listing) in &truth.listings {
        history.same(&model.list(*revision), listing, &format!("the model at revision {revision}"));
    }
    for (revision, hash) in &truth.hashes {
        let ours = u64::from(model.hashkv(*revision));
        history.same(&ours, hash, &format!("the model's hash at revision {revision}"));
    }
}

/// Every revision by the library, some by the binary.
fn reading_agrees(history: &History, data_dir: &Path, opened: &Opened, truth: &Truth) {
    let db = opened.db();
    let options = IndexOptions { release: opened.release, ..IndexOptions::default() };
    let index = Index::build(&db, &options, &()).unwrap();
    history.same(&index.store().current_revision, &truth.revision, "the index: revision");
    history.same(
        &index.store().compact_revision.unwrap_or(-1),
        &truth.compact_revision,
        "the index: compaction",
    );
    for (revision, listing) in &truth.listings {
        let entries = index.histories().filter_map(|one| one.at(*revision));
        let records: Vec<_> = entries.map(|entry| index.record(entry).unwrap().bytes).collect();
        let ours: Vec<Kv> = records.iter().map(|bytes| kv_of(&KeyValue::decode(bytes).unwrap())).collect();
        history.same(&ours, listing, &format!("the index at revision {revision}"));
        let request = RangeRequest { range: KeyRange::all(), revision: *revision, ..RangeRequest::default() };
        let index = Index::build(&db, &request.index_options(opened.release, false), &()).unwrap();
        let entries = range(&index, &request, &()).unwrap().records.into_iter();
        let records: Vec<_> = entries.map(|entry| index.record(entry).unwrap().bytes).collect();
        let ours: Vec<Kv> = records.iter().map(|bytes| kv_of(&KeyValue::decode(bytes).unwrap())).collect();
        history.same(&ours, listing, &format!("a range request at revision {revision}"));
    }
    for (revision, hash) in &truth.hashes {
        let ours = hashkv(&db, *revision, opened.release, &()).unwrap();
        history.same(&u64::from(ours.hash), hash, &format!("hashkv at revision {revision}"));
    }
    for revision in [truth.oldest, (truth.oldest + truth.revision) / 2, truth.revision] {
        history.same(
            &listed(data_dir, revision),
            &truth.listings[&revision],
            &format!("kv list --rev {revision}"),
        );
        let Some(hash) = truth.hashes.get(&revision) else { continue };
        let ours = rescue([
            "hashkv",
            text(data_dir),
            "--rev",
            &revision.to_string(),
            "--as-etcd",
            &release_of(history.version),
            "-w",
            "json",
        ]);
        history.same(&ours.json()["hash"].as_u64().unwrap(), hash, &format!("hashkv --rev {revision}"));
    }
}

/// A revision that can be compacted, another for each history.
fn some_revision(history: &History, truth: &Truth) -> Option<i64> {
    let oldest = truth.compact_revision.max(0) + 1;
    let span = u64::try_from(truth.revision - oldest + 1).unwrap();
    // A history may end with a compaction of all of it.
    (span > 0).then(|| oldest + i64::try_from(Rng::seeded_by(&history.label).below(span)).unwrap())
}

/// A put, a deletion, a compaction and a restart, and what is there after each.
fn used(history: &History, server: &mut Server, gateway: &mut Gateway, victim: Option<&Kv>) -> Vec<Truth> {
    let mut seen = vec![Truth::of(gateway)];
    let put = json!({ "key": base64::encode(b"after"), "value": base64::encode(b"x") });
    gateway.must("/v3/kv/put", &put);
    if let Some(kv) = victim {
        gateway.must("/v3/kv/deleterange", &json!({ "key": base64::encode(&kv.key) }));
    }
    gateway.must("/v3/kv/put", &put);
    let revision = gateway.revision();
    gateway.compact(revision - 1, true).unwrap_or_else(|e| panic!("{}: {e}", history.label));
    seen.push(Truth::of(gateway));
    server.spawn_again();
    *gateway = Gateway::ready(server);
    seen.push(Truth::of(gateway));
    seen
}

/// A member that `compact` wrote lives on as one whose server compacted by itself.
fn compaction_agrees(history: &History, scratch: &Path, theirs: (&mut Server, &mut Gateway), truth: &Truth) {
    let (their_server, their_gateway) = theirs;
    let Some(at) = some_revision(history, truth) else { return };
    let ours = scratch.join("ours");
    let release = release_of(history.version);
    let ran = rescue([
        "compact",
        text(&history.data_dir),
        "--rev",
        &at.to_string(),
        "--as-etcd",
        &release,
        "-o",
        text(&ours),
    ]);
    assert!(matches!(code(&ran), 0 | 3), "{}: compact at {at}: {ran:?}", history.label);
    let bytes = fs::read(db_of(&ours)).unwrap();
    let report = check(&Db::from_source(bytes.as_slice()).unwrap(), &());
    assert!(report.is_sound(), "{}: compact at {at}: {:?}", history.label, report.findings);
    their_gateway.compact(at, true).unwrap_or_else(|e| panic!("{}: {e}", history.label));
    let victim = truth.listings[&truth.revision].first();
    let (mut server, mut gateway) = history.served(&ours);
    let ours = used(history, &mut server, &mut gateway, victim);
    let theirs = used(history, their_server, their_gateway, victim);
    for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        history.same(ours, theirs, &format!("after compact at {at}, step {step}"));
    }
    server.stop();
    drop(server);
}

/// A cluster restored at a revision holds what was there then.
fn restore_agrees(history: &History, scratch: &Path, truth: &Truth) {
    let Some(at) = some_revision(history, truth) else { return };
    let restored = scratch.join("restored");
    let ran = rescue([
        "snapshot",
        "restore",
        text(&db_of(&history.data_dir)),
        "--skip-hash-check",
        "--at-revision",
        &at.to_string(),
        "--data-dir",
        text(&restored),
    ]);
    // Leases stay as they are: keys whose lease was revoked later are told of.
    let is_told = code(&ran) == 3 && ran.stderr.contains("ETCD-LEASE-GONE");
    assert!(code(&ran) == 0 || is_told, "{}: {ran:?}", history.label);
    let (_server, mut gateway) = history.served(&restored);
    let ours = Truth::of(&mut gateway);
    history.same(&ours.revision, &at, "the restored revision");
    history.same(&ours.compact_revision, &truth.compact_revision, "the restored compaction");
    for (revision, listing) in &ours.listings {
        history.same(listing, &truth.listings[revision], &format!("restored at {at}: revision {revision}"));
    }
    for (revision, hash) in &ours.hashes {
        history.same(hash, &truth.hashes[revision], &format!("restored at {at}: hash at {revision}"));
    }
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_files_say_what_the_servers_said(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(0, 1)] share: u64,
) {
    for seed in seeds(share) {
        let scratch = tempfile::tempdir().unwrap();
        let history = History::made(version, seed, scratch.path());
        let opened = Opened::new(&db_of(&history.data_dir), version);
        let theirs = scratch.path().join("theirs");
        copied(&history.data_dir, &theirs);
        let (mut server, mut gateway) = history.served(&theirs);
        let truth = Truth::of(&mut gateway);
        the_model_agrees(&history, &opened, &truth);
        reading_agrees(&history, &history.data_dir, &opened, &truth);
        restore_agrees(&history, scratch.path(), &truth);
        compaction_agrees(&history, scratch.path(), (&mut server, &mut gateway), &truth);
    }
}
