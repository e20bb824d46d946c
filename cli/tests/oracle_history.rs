//! Seeded random histories on live servers: what is read, hashed, compacted and restored from their files is what the servers
//! say themselves, at every revision they keep. About 100 s in all on two cores.
//!
//! `ETCD_RESCUE_SOAK=1` makes it thousands; `ETCD_RESCUE_SEED=N` is one history alone, for whoever looks for what went wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::env;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use bbolt::Db;
use rstest::rstest;
use snapshot::schema::{KEY, Schema};

use testdata::key_space::KeySpace;
use testdata::oracle::{Ending, Gateway, Launch, QUICK, Server, Truth, Version, Workload};

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
        let mut server = Launch::new(self.version, data_dir, "m1").args(QUICK).spawn();
        let gateway = Gateway::ready(&mut server);
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

/// The model's view of a file.
fn model(db: &Path, version: Version) -> KeySpace {
    let db = Db::from_source(fs::read(db).unwrap()).unwrap();
    let schema = Schema::read(&db).unwrap();
    let mut pairs = Vec::new();
    let bucket = db.bucket(KEY).unwrap().unwrap();
    let mut cursor = bucket.cursor();
    while let Some(item) = cursor.next().unwrap() {
        pairs.push((item.key.to_vec(), item.value.to_vec()));
    }
    KeySpace::new(pairs, schema.scheduled_compact, schema.finished_compact, version == Version::V3_5New)
        .unwrap()
}

/// The plain model is what the servers do; what is faster is held against both.
fn the_model_agrees(history: &History, truth: &Truth) {
    let model = model(&db_of(&history.data_dir), history.version);
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

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_files_say_what_the_servers_said(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(0, 1)] share: u64,
) {
    for seed in seeds(share) {
        let scratch = tempfile::tempdir().unwrap();
        let history = History::made(version, seed, scratch.path());
        let theirs = scratch.path().join("theirs");
        copied(&history.data_dir, &theirs);
        let (server, mut gateway) = history.served(&theirs);
        let truth = Truth::of(&mut gateway);
        the_model_agrees(&history, &truth);
        drop(server);
    }
}
