//! `backup`: what it says, writes and refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testdata::fingerprint;
use wal::{Payload, RecordType};

use crate::run::Room;

const IDS: &str = "--node-id 1f --cluster-id 2f";

/// A room with the data dir `data` of a stopped member.
fn room(version: &str) -> Room {
    let room = Room::new();
    testdata::data_dir(version, room.path());
    room
}

/// The last segment of a log.
fn segment(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    files.pop().unwrap()
}

/// Term, type and data of the entries in the segments of `dir`, by index.
fn entries(dir: &Path) -> BTreeMap<u64, (u64, i32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut files: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let bytes = fs::read(file).unwrap();
        for record in wal::read_segment(&bytes) {
            let Ok(Payload::Entry(entry)) = record.unwrap().payload() else { continue };
            found.split_off(&entry.index);
            found.insert(entry.index, (entry.term, entry.entry_type, entry.data.to_vec()));
        }
    }
    found
}

#[test]
fn entries_keep_their_places_and_nobody_of_before_is_left() {
    for version in testdata::VERSIONS {
        let room = room(version);
        let path = |name: &str| room.path().join(name);
        let before = fingerprint(&path("data"));
        let dry = room.run(&format!("backup --data-dir data --backup-dir out {IDS} --dry-run -w json"));
        assert_eq!((dry.code, path("out").exists()), (0, false), "{version}: {dry:?}");
        let ran = room.run(&format!("backup --data-dir data --backup-dir out {IDS} -w json"));
        assert_eq!(ran.code, 0, "{version}: {ran:?}");
        assert_eq!(fingerprint(&path("data")), before, "{version}");
        let (mut told, report) = (dry.json(), ran.json());
        told["dryRun"] = false.into();
        assert_eq!(told, report, "{version}");

        let (old, new) = (entries(&path("data/member/wal")), entries(&path("out/member/wal")));
        let since = report["snapshotIndex"].as_u64().unwrap();
        let last = report["lastIndex"].as_u64().unwrap();
        assert_eq!(
            new.keys().copied().collect::<Vec<_>>(),
            (since + 1..=last).collect::<Vec<_>>(),
            "{version}"
        );
        let mut emptied = 0;
        for (index, (term, entry_type, data)) in &new {
            let (was_term, was_type, was) = &old[index];
            assert_eq!(term, was_term, "{version}: {index}");
            assert_eq!(*entry_type, 0, "{version}: {index}");
            let is_emptied = *was_type == 1 || (data.is_empty() && !was.is_empty());
            assert!(is_emptied || data == was, "{version}: {index}");
            emptied += u64::from(is_emptied);
        }
        let counted = &report["entries"];
        assert_eq!(
            counted["emptiedMembership"].as_u64().unwrap() + counted["emptiedAttributes"].as_u64().unwrap(),
            emptied
        );
        assert_eq!(counted["kept"].as_u64().unwrap() + emptied, last - since, "{version}");
        assert!(since > 0 || emptied > 0, "{version}");

        // Nothing in it names a member or the cluster of before, but for the vote of a term that is over, which the originals keep too.
        let old_ids =
            [&report["fromNodeId"], &report["fromClusterId"]].map(|id| id.as_str().unwrap().to_owned());
        let log = room.run("wal dump out -w json");
        let mut others = log.stdout.lines().filter(|line| !line.contains("\"record\":\"state\""));
        assert!(others.all(|line| old_ids.iter().all(|id| !line.contains(id.as_str()))), "{version}");
        let rows = room.run("iterate-bucket out members --decode");
        assert_eq!(rows.stdout.contains("etcdctl-v2-backup"), since > 0, "{version}: {rows:?}");
        assert!(!rows.stdout.contains(&old_ids[0]), "{version}: {rows:?}");
        let index = |dir: &str| {
            room.run(&format!("inspect {dir} -w json")).json()["database"]["consistentIndex"].clone()
        };
        assert_eq!(index("out"), index("data"), "{version}");
        // All keys, at every revision that is kept.
        let hash = |dir: &str| room.run(&format!("hashkv {dir}"));
        assert_eq!(hash("out").stdout, hash("data").stdout, "{version}");
    }
}

#[test]
fn log_and_data_may_lie_apart_before_and_after() {
    let room = room("3.5.30");
    let path = |name: &str| room.path().join(name);
    fs::rename(path("data/member/wal"), path("wal")).unwrap();
    let none = room.run("backup --data-dir data --backup-dir out");
    assert_eq!((none.code, path("out").exists()), (1, false), "{none:?}");
    assert!(none.stderr.contains("--wal-dir"), "{none:?}");
    let ran = room.run("backup --data-dir data --wal-dir wal --backup-dir out --backup-wal-dir log -w json");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("--data-dir out --wal-dir log --force-new-cluster"), "{ran:?}");
    assert!(!path("out/member/wal").exists());
    assert_eq!(fs::metadata(segment(&path("log"))).unwrap().len(), 64_000_000);
    // Ids that are made are those of one moment, and nobody's.
    let report = ran.json();
    let id = |name: &str| u64::from_str_radix(report[name].as_str().unwrap(), 16).unwrap();
    assert_eq!(id("clusterId"), id("nodeId") + 1);
    assert_ne!((id("nodeId"), id("clusterId")), (id("fromNodeId"), id("fromClusterId")));
    assert!(id("nodeId") < 1 << 48, "{report}");
}

#[test]
fn without_v3_no_key_goes_along_and_no_request_for_one() {
    let room = room("3.5.30");
    let ran = room.run(&format!("backup --data-dir data --backup-dir out --with-v3=false {IDS} -w json"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.json();
    assert_eq!(report["consistentIndex"], report["commit"]);
    assert_eq!(report["withV3"], false);
    let v3 = report["entries"]["emptiedV3"].as_u64().unwrap();
    assert!(v3 > 0, "{report}");
    let status = room.run("snapshot status out -w json").json();
    assert_eq!(status["totalKey"], 0, "{status}");
    let log = room.run("wal dump out");
    assert!(!log.stdout.contains("put:<") && !log.stdout.contains("header:<"), "{log:?}");
    // Nor is the database needed.
    fs::remove_file(room.path().join("data/member/snap/db")).unwrap();
    let again = room.run(&format!("backup --data-dir data --backup-dir again --with-v3=false {IDS} -w json"));
    assert_eq!(again.json()["entries"], report["entries"], "{again:?}");
    let with = room.run("backup --data-dir data --backup-dir more");
    assert_eq!((with.code, room.path().join("more").exists()), (1, false));
    assert!(with.stderr.contains("--with-v3=false"), "{with:?}");
}

/// A server that was cut off before it wrote how far the cluster had committed: the database knows better, and a server before 3.5.22 that
/// went by the log would give the same indexes once more, to entries that its database then passes over.
#[test]
fn a_commit_below_the_consistent_index_is_raised() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let inspected = room.run("inspect n1 -w json").json();
    let applied = inspected["database"]["consistentIndex"].as_u64().unwrap();
    let path = segment(&room.path().join("n1/member/wal"));
    let bytes = fs::read(&path).unwrap();
    let mut commit = 0;
    let mut end = None;
    for record in wal::read_segment(&bytes) {
        let record = record.unwrap();
        if let Ok(Payload::State(state)) = record.payload() {
            if end.is_some() {
                break;
            }
            commit = state.commit();
        }
        let entry = if record.record_type == RecordType::Entry { record.payload().ok() } else { None };
        if let Some(Payload::Entry(entry)) = entry
            && entry.index >= applied
        {
            end = Some(usize::try_from(record.offset).unwrap() + 8 + record.raw.len().next_multiple_of(8));
        }
    }
    fs::write(&path, &bytes[..end.unwrap()]).unwrap();
    assert!(commit < applied, "{commit} {applied}");

    let ran = room.run(&format!("backup --data-dir n1 --backup-dir out {IDS} -w json"));
    assert!(matches!(ran.code, 0 | 3), "{ran:?}");
    let report = ran.json();
    assert_eq!(
        (report["commit"].as_u64(), report["consistentIndex"].as_u64()),
        (Some(applied), Some(applied))
    );
    let log = room.run("wal dump out");
    assert!(log.stdout.contains(&format!("commitIndex={applied} ")), "{log:?}");
}

#[test]
fn what_is_not_known_to_be_committed_is_told_to_be_dropped() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let ran = room.run(&format!("backup --data-dir n2 --backup-dir out {IDS} -w json"));
    assert_eq!(ran.code, 3, "{ran:?}");
    let report = ran.json();
    let codes: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().map(|found| &found["code"]).collect();
    assert_eq!(codes, ["ETCD-TAIL-DROPPED"]);
    assert!(
        ran.stderr.contains("entry 1810 is in the backup, and a start with --force-new-cluster drops it:"),
        "{ran:?}"
    );
    assert_eq!((&report["commit"], &report["lastIndex"]), (&json!(1809), &json!(1810)));
}

#[test]
fn what_is_no_member_or_has_no_place_is_refused_and_nothing_is_written() {
    let room = room("3.5.30");
    fs::write(room.path().join("snapshot.db"), testdata::snapshot("3.5.30", "s1-precompact")).unwrap();
    fs::create_dir(room.path().join("taken")).unwrap();
    fs::write(room.path().join("taken/file"), "x").unwrap();
    let (before, names) = (fingerprint(&room.path().join("data")), room.names());
    for (line, code, words) in [
        ("--data-dir data", 2, "--backup-dir"),
        ("--backup-dir out", 2, "--data-dir"),
        ("--data-dir data --backup-dir data/out", 1, "stays as it is"),
        ("--data-dir data --backup-dir taken", 1, "taken"),
        ("--data-dir data --backup-dir out --backup-wal-dir out/member/snap/wal", 1, "out/member"),
        ("--data-dir snapshot.db --backup-dir out", 1, "has no log"),
        ("--data-dir nowhere --backup-dir out", 1, "nowhere"),
        ("--data-dir data --backup-dir out --node-id 0", 2, "is no id"),
        ("--data-dir data --backup-dir out --cluster-id cluster", 2, "is no id"),
        ("--data-dir data --backup-dir out --with-v3=perhaps", 2, "neither true nor false"),
        ("--data-dir data --backup-dir out --owner nobody-of-that-name", 2, "nobody-of-that-name"),
    ] {
        let ran = room.run(&format!("backup {line}"));
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(ran.stderr.contains(words), "{line}: {ran:?}");
        assert_eq!(room.names(), names, "{line}");
    }
    assert_eq!(fingerprint(&room.path().join("data")), before);
}

/// A log that ends before its db, a break in its middle, a missing `.snap`: a repair's business, or nobody's.
#[test]
fn a_log_that_does_not_reach_is_refused() {
    let room = room("3.5.30");
    let path = segment(&room.path().join("data/member/wal"));
    let bytes = fs::read(&path).unwrap();
    let records: Vec<u64> = wal::read_segment(&bytes).map(|record| record.unwrap().offset).collect();
    let refused = |words: &str| {
        let ran = room.run("backup --data-dir data --backup-dir out");
        assert_eq!((ran.code, room.path().join("out").exists()), (1, false), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
        assert!(ran.stderr.contains("wal repair data -o REPAIRED"), "{ran:?}");
    };
    let half = usize::try_from(records[records.len() / 2]).unwrap();
    fs::write(&path, &bytes[..half]).unwrap();
    refused("its log ends at entry");
    let mut broken = bytes.clone();
    broken[half + 20] ^= 0xff;
    fs::write(&path, &broken).unwrap();
    refused("no server starts from its log");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(room.run("backup --data-dir data --backup-dir out").code, 0);
}
