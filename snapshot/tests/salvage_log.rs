//! Salvage with the log: databases of real servers damaged, their logs whole; what comes out is held against what the servers
//! said before they ended, never against what this program makes of the undamaged files.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bbolt::{Db, Lock, OpenOptions};
use common::dump;
use serde_json::Value;
use snapshot::mvcc::{KeyValue, Release, Revision, hashkv};
use snapshot::opened::InputOptions;
use snapshot::salvage::report::{Report, WayKind};
use snapshot::salvage::{SalvageError, SalvageOptions, Trust, WriteOptions, gather, write};
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
        // Long values stand at the end, and what is around them is short.
        let head = &data[..data.len().min(1024)];
        data.ends_with(part) || (part.len() < 100 && head.windows(part.len()).any(|window| window == part))
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
        // All of them take a minute: by default two of those that come back, and one of which the log has a part.
        let is_soak = std::env::var_os("ETCD_RESCUE_SOAK").is_some();
        let (mut left_whole, mut left_in_part) = if is_soak { (usize::MAX, usize::MAX) } else { (2, 1) };
        for page in leaves {
            let records = records_on(&scene.db(), page);
            let is_covered = records.iter().all(|(_, value)| is_in_log(&log, value));
            let left = if is_covered { &mut left_whole } else { &mut left_in_part };
            if *left == 0 {
                continue;
            }
            *left -= 1;
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
                // What was compacted may have been written again in between, which only a later record of the key can tell.
                let oldest = Revision::parse(&records[0].0).unwrap().main;
                if oldest > report.account.compact_revision.unwrap() {
                    assert_eq!(report.exit_code(), 0, "{told}");
                }
                whole += 1;
            } else {
                assert_eq!(report.exit_code(), 3, "{told}");
                in_part += 1;
            }
            fs::remove_file(scene.output()).unwrap();
            fs::write(scene.db(), &sound).unwrap();
        }
    }
    assert!(whole > 1 && in_part > 0, "{whole} {in_part}");
}

/// A data dir that was restored and never started: its log has its members and says that the rest is in a database.
#[test]
fn the_log_of_a_restored_member_makes_no_database_alone() {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("restored/3.5.30-by-3.5.1.tar.zst", scratch.path());
    let db = scratch.path().join("member/snap/db");
    let sound = fs::read(&db).unwrap();
    fs::write(&db, vec![0; sound.len()]).unwrap();
    let given = [scratch.path().to_owned()];
    let refused = gather(&given, &SalvageOptions::default(), &()).unwrap().plan(&()).unwrap_err();
    assert!(matches!(refused, SalvageError::LogIsNotAll { .. }), "{refused}");
    assert_eq!(refused.exit_code(), 1);
    assert!(refused.to_string().contains("was restored from a snapshot"), "{refused}");
    // With the database that such a restore makes once more it is enough.
    let again = scratch.path().join("again.db");
    fs::write(&again, sound).unwrap();
    let evidence = gather(&[given[0].clone(), again], &SalvageOptions::default(), &()).unwrap();
    let plan = evidence.plan(&()).unwrap();
    let report = plan.report(1, &()).unwrap();
    assert!(report.account.records > 0 && !report.account.loses.is_certain(), "{:#?}", report.account.loses);
}

#[test]
fn a_log_that_begins_somewhere_makes_no_database_alone() {
    let scene = Scene::new("3.5.16", "purged");
    scene.damage(|bytes| bytes.fill(0));
    let refused = gather(&[scene.data()], &scene.options(), &()).unwrap().plan(&()).unwrap_err();
    assert!(matches!(refused, SalvageError::LogIsNotAll { .. }), "{refused}");
    assert!(refused.to_string().contains("it begins with entry "), "{refused}");
}

/// Flips a bit in what entry `index` carries.
fn break_entry(scene: &Scene, log: &PlainLog, index: u64) {
    let data = &log.entries[&index].data;
    let tail = &data[data.len().saturating_sub(100)..];
    assert!(tail.len() > 20);
    let mut broken = 0;
    for file in fs::read_dir(scene.data().join("member/wal")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let found: Vec<usize> = memchr_all(&bytes, tail);
        broken += found.len();
        found.iter().for_each(|at| bytes[*at + 10] ^= 1);
        if !found.is_empty() {
            fs::write(&path, bytes).unwrap();
        }
    }
    assert_eq!(broken, 1);
}

/// Where `part` begins in `bytes`.
fn memchr_all(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let begins = |at: &usize| bytes[*at] == part[0] && bytes[*at..].starts_with(part);
    (0..bytes.len()).filter(begins).collect()
}

/// The first entry behind `index` that carries enough to be found.
fn entry_behind(log: &PlainLog, index: u64) -> u64 {
    *log.entries.range(index + 1..).find(|(_, entry)| entry.data.len() > 60).unwrap().0
}

fn refused(scene: &Scene) -> Report {
    let evidence = gather(&[scene.data()], &scene.options(), &()).unwrap();
    let plan = evidence.plan(&()).unwrap();
    let options = WriteOptions { output: Some(scene.output()), accept_loss: false, owner: None };
    match write(&plan, 1, &options, &()) {
        Err(SalvageError::Refused { report }) => *report,
        other => panic!("{other:?}"),
    }
}

fn finding<'r>(report: &'r Report, code: &str) -> &'r str {
    let found = report.findings.iter().find(|finding| finding.code == code);
    found.map_or_else(|| panic!("{:#?}", report.findings), |finding| finding.message.as_str())
}

#[test]
fn what_stands_behind_a_break_of_the_log_is_lost_for_certain() {
    let scene = Scene::new("3.5.16", "killed");
    let log = PlainLog::read(&scene.data().join("member/wal"));
    let last = *log.entries.keys().next_back().unwrap();
    let index = entry_behind(&log, last / 2);
    break_entry(&scene, &log, index);
    scene.damage(|bytes| bytes.fill(0));
    let report = refused(&scene);
    assert_eq!(chosen(&report), WayKind::LogAlone, "{:#?}", report.ways);
    assert_eq!(report.account.loses.entries, log.commit.max(last) - (index - 1), "{:#?}", report.ways);
    let message = finding(&report, "SALVAGE-LOG-SHORT");
    assert!(message.contains(&format!("entries {index} to ")), "{message}");
    assert!(message.contains(&format!(" {} to ", index + 1)), "{message}");
}

#[test]
fn a_break_right_behind_a_sound_tree_is_told() {
    for version in VERSIONS {
        let scene = Scene::new(version, "killed");
        let sound = scene.salvaged(&[scene.data()]);
        fs::remove_file(scene.output()).unwrap();
        let tree = sound.trees[0].consistent_index;
        let log = PlainLog::read(&scene.data().join("member/wal"));
        let index = entry_behind(&log, tree);
        break_entry(&scene, &log, index);
        let report = refused(&scene);
        let last = log.commit.max(*log.entries.keys().next_back().unwrap());
        assert_eq!(report.account.loses.entries, last - (index - 1), "{version}: {:#?}", report.ways);
    }
}

/// Changes the record of the newest revision that `choose` likes, on its page of a sound tree; the revision.
fn change_record(
    scene: &Scene,
    choose: impl Fn(&KeyValue<'_>) -> bool,
    how: impl Fn(&mut Vec<u8>),
) -> Revision {
    let bytes = fs::read(scene.db()).unwrap();
    for page in key_leaves(&scene.db()).into_iter().rev() {
        for (at, value) in records_on(&scene.db(), page).into_iter().rev() {
            let revision = Revision::parse(&at).unwrap();
            let found = memchr_all(&bytes[page * PAGE..], &value);
            if revision.tombstone || !choose(&KeyValue::decode(&value).unwrap()) || found.is_empty() {
                continue;
            }
            let mut changed = value.clone();
            how(&mut changed);
            assert_eq!(changed.len(), value.len());
            let from = page * PAGE + found[0];
            scene.damage(|bytes| bytes[from..from + value.len()].copy_from_slice(&changed));
            return revision;
        }
    }
    panic!("there is no such record");
}

#[test]
fn a_wrong_value_in_a_sound_tree_is_seen_where_the_log_has_it() {
    each(&["killed"], |version, kind| {
        let scene = Scene::new(version, kind);
        let sound = scene.salvaged(&[scene.data()]);
        assert_eq!(sound.exit_code(), 0, "{:#?}", sound.findings);
        assert!(sound.account.confirmed > 0);
        let right = dump(&scene.output())["key"].clone();
        fs::remove_file(scene.output()).unwrap();
        let log = PlainLog::read(&scene.data().join("member/wal"));
        let is_long = |kv: &KeyValue<'_>| {
            let mut value = Vec::new();
            kv.encode(&mut value);
            kv.value.len() > 4 && is_in_log(&log, &value)
        };
        // The last byte of a record is one of its value, or of its lease.
        let revision = change_record(
            &scene,
            |kv| kv.lease == 0 && is_long(kv),
            |value| {
                *value.last_mut().unwrap() ^= 1;
            },
        );
        let report = scene.salvaged(&[scene.data()]);
        let told = format!("{version} {kind} {revision:?}: {:#?}\n{:#?}", report.ways, report.logs);
        // A log that has everything from the first entry on needs nothing else.
        let is_by_log = [WayKind::SurvivorsAndLog, WayKind::LogAlone].contains(&chosen(&report));
        assert!(is_by_log, "{told}");
        let message = finding(&report, "SALVAGE-DISAGREE");
        assert!(message.contains(&format!("revision {}", revision.main)), "{message}");
        assert_eq!(dump(&scene.output())["key"], right, "{told}");
        assert_eq!(report.exit_code(), 0, "{told}");
    });
}

/// The log does not say how often a key was put: the records of the key do, one by the other.
#[test]
fn a_wrong_version_in_a_sound_tree_is_seen() {
    let scene = Scene::new("3.5.16", "killed");
    let right = dump(&scene.db())["key"].clone();
    // Its version is the third number of a record, one byte behind the tag 0x20.
    let is_put_again = |kv: &KeyValue<'_>| (2..100).contains(&kv.version);
    let revision = change_record(&scene, is_put_again, |value| {
        let kv = KeyValue::decode(value).unwrap();
        let version = kv.version + 1;
        let kv = KeyValue { version, ..kv };
        let mut changed = Vec::new();
        kv.encode(&mut changed);
        *value = changed;
    });
    let evidence = gather(&[scene.data()], &scene.options(), &()).unwrap();
    let plan = evidence.plan(&()).unwrap();
    let report = plan.report(1, &()).unwrap();
    assert_eq!(report.exit_code(), 3, "{:#?}", report.account);
    assert!(finding(&report, "SALVAGE-DISAGREE").contains(&format!("revision {}", revision.main)));
    plan.records(1, &(), &mut |record| {
        let is_right = right.get(&record.revision.encode()).is_none_or(|right| right == record.value);
        assert!(is_right || record.trust == Trust::Suspect, "{:?} {:?}", record.revision, record.trust);
        ControlFlow::Continue(())
    })
    .unwrap();
}

/// The database of one member and the log of another one, which had the same keys.
#[test]
fn the_log_of_another_member_is_not_merged() {
    for version in VERSIONS {
        for is_damaged in [false, true] {
            let (scene, other) = (Scene::new(version, "purged"), Scene::new(version, "segments"));
            let truth = dump(&scene.db())["key"].clone();
            let leaves = key_leaves(&scene.db());
            if is_damaged {
                scene.damage(|bytes| zero(bytes, leaves[leaves.len() / 2]));
            }
            fs::remove_dir_all(scene.data().join("member/wal")).unwrap();
            fs::rename(other.data().join("member/wal"), scene.data().join("member/wal")).unwrap();
            let report = scene.salvaged(&[scene.data()]);
            let told = format!("{version} {is_damaged}: {:#?}\n{:#?}", report.ways, report.logs);
            let found = dump(&scene.output())["key"].clone();
            for (at, value) in &found {
                assert_eq!(truth.get(at), Some(value), "{told}");
            }
            assert!(is_damaged || found == truth, "{told}");
            assert_eq!(report.account.loses.entries, 0, "{told}");
            let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code).collect();
            assert!(is_damaged || codes.contains(&"SALVAGE-LOG-FOREIGN"), "{codes:?} {told}");
        }
    }
}
