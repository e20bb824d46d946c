//! Salvage with the log: databases of real servers damaged, their logs whole; what comes out is held against what the servers
//! said before they ended, never against what this program makes of the undamaged files.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use bbolt::{Db, Lock, OpenOptions};
use common::dump;
use serde_json::Value;
use snapshot::mvcc::{KeyValue, Release, Revision, hashkv};
use snapshot::opened::InputOptions;
use snapshot::salvage::report::{Report, WayKind};
use snapshot::salvage::{SalvageOptions, WriteOptions, gather, write};
use testdata::damage::Rng;
use testdata::plain_log::PlainLog;

/// Length of a page of every fixture.
const PAGE: usize = 4096;

/// A data dir of a real server, and what the server said before it ended.
struct Scene {
    scratch: tempfile::TempDir,
    version: &'static str,
    kind: &'static str,
}

impl Scene {
    fn new(version: &'static str, kind: &'static str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        testdata::unpack(&format!("{version}/{kind}/data.tar.zst"), scratch.path());
        Self { scratch, version, kind }
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn db(&self) -> PathBuf {
        self.data().join("member/snap/db")
    }

    fn output(&self) -> PathBuf {
        self.scratch.path().join("salvaged.db")
    }

    /// Changes the db.
    fn damage(&self, how: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.db()).unwrap();
        how(&mut bytes);
        fs::write(self.db(), bytes).unwrap();
    }

    fn facts(&self, name: &str) -> Value {
        let path = testdata::path(&format!("fixtures/{}/{}/facts/{name}", self.version, self.kind));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn options(&self) -> SalvageOptions {
        let input = InputOptions {
            open: OpenOptions { lock: Lock::None, ..OpenOptions::default() },
            tmp_dir: Some(self.scratch.path().to_owned()),
        };
        SalvageOptions { input, as_etcd: Some(self.version.parse().unwrap()), ..SalvageOptions::default() }
    }

    /// Salvages by the best way.
    fn salvaged(&self, paths: &[PathBuf]) -> Report {
        let evidence = gather(paths, &self.options(), &()).unwrap();
        let plan = evidence.plan(&()).unwrap();
        let options = WriteOptions { output: Some(self.output()), accept_loss: true, owner: None };
        write(&plan, 1, &options, &()).unwrap()
    }

    /// That the output is what the server had, and the report says so.
    #[track_caller]
    fn assert_is_all(&self, report: &Report) {
        assert_eq!(report.exit_code(), 0, "{:#?}\n{:#?}", report.account, report.findings);
        self.assert_has_all(report);
    }

    /// That the output is what the server had.
    #[track_caller]
    fn assert_has_all(&self, report: &Report) {
        let told = format!("{:#?}\n{:#?}", report.ways, report.account);
        let bytes = fs::read(self.output()).unwrap();
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let release: Release = self.version.parse().unwrap();
        let found = hashkv(&db, 0, release, &()).unwrap();
        let facts = &self.facts("hashkv.json")[0]["HashKV"];
        assert_eq!(i64::from(found.hash), facts["hash"].as_i64().unwrap(), "{told}");
        assert_eq!(found.compact_revision, facts["compact_revision"].as_i64().unwrap_or(-1), "{told}");
        assert_eq!(found.hash_revision, facts["header"]["revision"].as_i64().unwrap(), "{told}");
    }
}

/// The best way of `report`.
fn chosen(report: &Report) -> WayKind {
    report.chosen_way().unwrap().kind
}

/// The pages of a file that are leaves of records, by what they hold.
fn key_leaves(path: &Path) -> Vec<usize> {
    let db = bbolt::open(path, &OpenOptions::default()).unwrap();
    let bucket = db.bucket(b"key").unwrap().unwrap();
    let mut pages = Vec::new();
    for range in bucket.leaf_ranges(1).unwrap() {
        pages.extend(range.nodes().map(|node| usize::try_from(node.unwrap().id().0).unwrap()));
    }
    pages
}

fn zero(bytes: &mut [u8], page: usize) {
    bytes[page * PAGE..(page + 1) * PAGE].fill(0);
}

const VERSIONS: [&str; 3] = ["3.4.23", "3.5.1", "3.5.16"];

fn each(kinds: &[&'static str], test: impl Fn(&'static str, &'static str)) {
    for version in VERSIONS {
        kinds.iter().for_each(|kind| test(version, kind));
    }
}

#[test]
fn a_log_that_begins_with_nothing_is_enough() {
    each(&["killed", "segments", "overwritten"], nothing_is_left);
}

fn nothing_is_left(version: &'static str, kind: &'static str) {
    let scene = Scene::new(version, kind);
    let before = dump(&scene.db());
    // Every page but a few of the free ones.
    scene.damage(|bytes| bytes.truncate(3 * PAGE));
    scene.damage(|bytes| bytes.fill(0));
    let report = scene.salvaged(&[scene.data()]);
    assert_eq!(chosen(&report), WayKind::LogAlone, "{:#?}", report.ways);
    scene.assert_is_all(&report);
    let after = dump(&scene.output());
    for bucket in ["members", "members_removed", "cluster", "lease", "auth", "alarm"] {
        assert_eq!(after[bucket], before[bucket], "{bucket}");
    }
}

#[test]
fn a_sound_tree_is_led_on_from() {
    for version in VERSIONS {
        let scene = Scene::new(version, "killed");
        let report = scene.salvaged(&[scene.data()]);
        assert_eq!(chosen(&report), WayKind::TreeAndLog, "{:#?}", report.ways);
        scene.assert_is_all(&report);
    }
}

#[test]
fn leaves_that_are_lost_come_back_from_a_log_that_begins_with_nothing() {
    each(&["killed", "segments"], leaves_are_lost);
}

fn leaves_are_lost(version: &'static str, kind: &'static str) {
    let scene = Scene::new(version, kind);
    let leaves = key_leaves(&scene.db());
    let mut rng = Rng::seeded_by(&format!("{version} {kind}"));
    let lost: Vec<usize> = leaves.into_iter().filter(|_| rng.below(3) == 0).collect();
    assert!(!lost.is_empty());
    scene.damage(|bytes| lost.iter().for_each(|page| zero(bytes, *page)));
    let report = scene.salvaged(&[scene.data()]);
    assert_eq!(chosen(&report), WayKind::LogAlone, "{:#?}", report.ways);
    scene.assert_is_all(&report);
}

/// The records on a page of bucket `key`.
fn records_on(path: &Path, page: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let db = bbolt::open(path, &OpenOptions::default()).unwrap();
    let node = db.node(bbolt::PageId(page as u64)).unwrap();
    (0..node.count()).map(|at| (node.key(at).to_vec(), node.value(at).to_vec())).collect()
}

/// Whether the log has an entry that names the record's key and value, told from the bytes alone.
fn is_in_log(log: &PlainLog, value: &[u8]) -> bool {
    let kv = KeyValue::decode(value).unwrap();
    let has = |data: &[u8], part: &[u8]| {
        // Long values stand at the end.
        data.ends_with(part) || (part.len() < 100 && data.windows(part.len()).any(|window| window == part))
    };
    let is_it = |data: &[u8]| has(data, kv.value) && has(&data[..data.len() - kv.value.len()], kv.key);
    log.entries.values().any(|entry| is_it(&entry.data))
}

/// One leaf after the other is lost of a member whose log begins somewhere. What the log has of it comes back to the byte; the rest is
/// told; and nothing that is called confirmed is anything but what was there.
#[test]
fn a_leaf_that_is_lost_comes_back_as_far_as_the_log_has_it() {
    let (mut whole, mut in_part) = (0, 0);
    for version in VERSIONS {
        let scene = Scene::new(version, "purged");
        let log = PlainLog::read(&scene.data().join("member/wal"));
        let sound = fs::read(scene.db()).unwrap();
        let truth = dump(&scene.db())["key"].clone();
        let leaves = key_leaves(&scene.db());
        assert!(leaves.len() > 3);
        for page in leaves {
            let records = records_on(&scene.db(), page);
            let is_covered = records.iter().all(|(_, value)| is_in_log(&log, value));
            scene.damage(|bytes| zero(bytes, page));
            let report = scene.salvaged(&[scene.data()]);
            let told = format!("{version}, page {page}: {:#?}\n{:#?}", report.ways, report.logs);
            let found = dump(&scene.output())["key"].clone();
            for (at, value) in &records {
                if is_in_log(&log, value) {
                    assert_eq!(found.get(at), Some(value), "{told}");
                }
            }
            for (at, value) in &found {
                assert_eq!(truth.get(at), Some(value), "{told}");
            }
            if is_covered {
                // How often a key was put before the log began, and before the compaction, nothing tells.
                assert_eq!(found, truth, "{told}");
                assert_eq!(chosen(&report), WayKind::SurvivorsAndLog, "{told}");
                assert!(!report.account.loses.is_certain(), "{told}");
                scene.assert_has_all(&report);
                let oldest = Revision::parse(&records[0].0).unwrap().main;
                assert_eq!(
                    report.exit_code() == 0,
                    oldest > report.account.compact_revision.unwrap(),
                    "{told}"
                );
                whole += 1;
            } else {
                assert_eq!(report.exit_code(), 3, "{told}");
                in_part += 1;
            }
            fs::remove_file(scene.output()).unwrap();
            fs::write(scene.db(), &sound).unwrap();
        }
    }
    assert!(whole > 3 && in_part > 0, "{whole} {in_part}");
}
