//! `compact` and `kv delete`, as far as no server is needed to see it (`oracle_compact.rs` has those).

use std::collections::BTreeMap;
use std::fs;

use bbolt::{Db, Graft, check};
use snapshot::mvcc::{KeyValue, Revision};
use testdata::{data_dir, unpack};

use crate::run::Room;

/// What a bucket of a file holds, which must be sound.
fn pairs(file: &[u8], bucket: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let db = Db::from_source(file).unwrap();
    let report = check(&db, &());
    assert!(report.is_sound() && report.findings.is_empty(), "{:?}", report.findings);
    let mut pairs = BTreeMap::new();
    let bucket = db.bucket(bucket.as_bytes()).unwrap().unwrap();
    let mut cursor = bucket.cursor();
    while let Some(item) = cursor.next().unwrap() {
        pairs.insert(item.key.to_vec(), item.value.to_vec());
    }
    pairs
}

fn at(main: i64) -> Vec<u8> {
    Revision { main, sub: 0, tombstone: false }.encode()
}

/// `snapshot.db` of the room with these rows of bucket `meta`, and without its hash.
fn with_meta(room: &Room, name: &str, rows: &[(&str, i64)]) {
    let mut file = room.read("snapshot.db");
    file.truncate(file.len() - 32);
    let patch = {
        let db = Db::from_source(file.as_slice()).unwrap();
        let mut graft = Graft::new(&db);
        let mut meta = graft.pairs(b"meta").unwrap().unwrap();
        meta.extend(rows.iter().map(|(name, main)| (name.as_bytes().to_vec(), at(*main))));
        graft.replace_bucket(b"meta", meta).unwrap();
        graft.finish().unwrap()
    };
    patch.apply_to_vec(&mut file);
    room.write(name, &file);
}

/// The naive rule, record by record: FORMATS C.4.
fn kept(records: &BTreeMap<Vec<u8>, Vec<u8>>, revision: i64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let parsed = |key: &[u8]| Revision::parse(key).unwrap();
    let mut last: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (key, value) in records.iter().filter(|(key, _)| parsed(key).main <= revision) {
        last.insert(KeyValue::decode(value).unwrap().key.to_vec(), key.clone());
    }
    let stays = |key: &Vec<u8>, value: &[u8]| {
        let found = parsed(key);
        let newest = last.get(KeyValue::decode(value).unwrap().key) == Some(key);
        found.main > revision || newest && (!found.tombstone || found.main == revision)
    };
    records
        .iter()
        .filter(|(key, value)| stays(key, value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[test]
fn every_revision_of_a_real_store_compacts_to_what_the_rule_leaves() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let before = room.read("snapshot.db");
    let (records, meta) = (pairs(&before, "key"), pairs(&before, "meta"));
    let json = room.run("compact snapshot.db --keep-revisions 0 --dry-run -w json").json();
    let (first, last) =
        (json["compactedBefore"].as_i64().unwrap(), json["currentRevision"].as_i64().unwrap());
    assert!(last - first > 20);
    for revision in (first + 1..=last).rev().step_by(3) {
        let forecast = room.run(&format!("compact snapshot.db --rev {revision} --dry-run -w json")).json();
        let ran = room.run(&format!("compact snapshot.db --rev {revision} -o {revision}.db -w json"));
        assert_eq!(ran.code, 0, "{ran:?}");
        let after = room.read(&format!("{revision}.db"));
        assert_eq!(pairs(&after, "key"), kept(&records, revision), "at {revision}");
        let mut expected = meta.clone();
        expected.insert(b"scheduledCompactRev".to_vec(), at(revision));
        expected.insert(b"finishedCompactRev".to_vec(), at(revision));
        assert_eq!(pairs(&after, "meta"), expected);
        for bucket in ["lease", "alarm", "auth", "authUsers", "members", "cluster"] {
            assert_eq!(pairs(&after, bucket), pairs(&before, bucket), "{bucket}");
        }
        assert_eq!(forecast["sizeAfter"].as_u64(), Some(after.len() as u64), "the forecast is exact");
        let of_prefixes: u64 = forecast["prefixes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|prefix| prefix["droppedRecords"].as_u64().unwrap())
            .sum();
        assert_eq!(of_prefixes, (records.len() - pairs(&after, "key").len()) as u64);
        // It ends with its hash, as the input does.
        let status = room.run(&format!("snapshot status {revision}.db"));
        assert!(status.code == 0 && status.stderr.contains("integrity: verified"), "{status:?}");
    }
    assert_eq!(room.read("snapshot.db"), before);
}

#[test]
fn a_revision_that_cannot_be_compacted_is_refused() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    for (line, message) in [
        ("compact snapshot.db --rev 46 -o out.db", "mvcc: required revision has been compacted: 46"),
        ("compact snapshot.db --rev 3000 -o out.db", "mvcc: required revision is a future revision: 3000"),
        ("compact snapshot.db --keep-revisions 3000 -o out.db", "--keep-revisions 3000: the store is at"),
    ] {
        let ran = room.run(line);
        assert!(ran.code == 1 && ran.stderr.contains(message), "{line}: {ran:?}");
    }
    for line in [
        "compact snapshot.db -o out.db",
        "compact snapshot.db --rev 50 --keep-revisions 3 -o out.db",
        "compact snapshot.db --rev 0 -o out.db",
        "compact snapshot.db --rev 50",
        "compact snapshot.db --rev 50 -o out.db --as-etcd 2.3",
        "compact snapshot.db --rev 50 -o out.db --wal-dir .",
    ] {
        assert_eq!(room.run(line).code, 2, "{line}");
    }
    assert_eq!(room.names(), ["snapshot.db"]);
}

#[test]
fn a_compaction_that_was_ordered_is_finished_or_overtaken() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    with_meta(&room, "plain.db", &[]);
    with_meta(&room, "pending.db", &[("scheduledCompactRev", 60)]);
    for revision in [60, 65] {
        room.run(&format!("compact plain.db --rev {revision} -o plain-{revision}.db"));
        let ran = room.run(&format!("compact pending.db --rev {revision} -o pending-{revision}.db"));
        assert!(ran.code == 0 && ran.stderr.contains("A compaction at 60 was ordered"), "{ran:?}");
        assert_eq!(room.read(&format!("plain-{revision}.db")), room.read(&format!("pending-{revision}.db")));
    }
    let ran = room.run("compact pending.db --rev 59 -o out.db");
    assert!(ran.code == 1 && ran.stderr.contains("59 is not beyond 60"), "{ran:?}");
}

#[test]
fn deletions_by_the_very_revision_stay_unless_an_old_release_is_asked_for() {
    let room = Room::with_snapshot("3.4.23", "s3-final");
    let records = pairs(&room.read("snapshot.db"), "key");
    let revisions = records.keys().filter_map(|key| Revision::parse(key));
    let revision =
        revisions.filter(|found| found.tombstone && found.main > 47).map(|found| found.main).max().unwrap();
    let ran = room.run(&format!("compact snapshot.db --rev {revision} -o new.db"));
    assert!(ran.code == 0 && ran.stderr.contains("itself stay"), "{ran:?}");
    assert!(ran.stderr.contains("--as-etcd 3.4.0 removes them"), "{ran:?}");
    let ran = room.run(&format!("compact snapshot.db --rev {revision} --as-etcd 3.4.23 -o old.db"));
    assert!(ran.code == 0 && ran.stderr.contains("itself are removed"), "{ran:?}");
    let (new, old) = (pairs(&room.read("new.db"), "key"), pairs(&room.read("old.db"), "key"));
    let only_new: Vec<_> = new.keys().filter(|key| !old.contains_key(*key)).collect();
    assert!(!only_new.is_empty() && old.keys().all(|key| new.contains_key(key)));
    assert!(only_new.iter().all(|key| {
        let found = Revision::parse(key).unwrap();
        found.tombstone && found.main == revision
    }));
    // Neither changes what can be read.
    let list = |name: &str| room.run(&format!("kv list {name} -w fields")).stdout;
    assert_eq!(list("new.db"), list("old.db"));
}

#[test]
fn a_damaged_snapshot_is_not_compacted() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let mut wrong = room.read("snapshot.db");
    *wrong.last_mut().unwrap() ^= 1;
    room.write("wrong.db", &wrong);
    let ran = room.run("compact wrong.db --keep-revisions 5 -o out.db");
    assert!(ran.code == 1 && ran.stderr.contains("expected sha256"), "{ran:?}");
    let mut torn = room.read("snapshot.db");
    torn.truncate(torn.len() - 32);
    let end = torn.len();
    for page in (3 * 4096..end).step_by(4096) {
        torn[page + 8] = 0x77;
    }
    room.write("torn.db", &torn);
    for line in ["compact torn.db --keep-revisions 5 -o out.db", "kv delete torn.db --prefix / -o out.db"] {
        let ran = room.run(line);
        assert!(ran.code != 0 && ran.stderr.contains("BBOLT-") || ran.stderr.contains("page "), "{ran:?}");
    }
    assert!(!room.names().iter().any(|name| name.starts_with("out")));
}

#[test]
fn a_delete_writes_one_revision_of_tombstones_in_the_order_of_the_keys() {
    let room = Room::with_snapshot("3.6.14", "s2-auth");
    let before = pairs(&room.read("snapshot.db"), "key");
    let keys = room.run("kv list snapshot.db /a/ --keys-only").stdout;
    let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
    assert!(keys.len() > 3);
    let ran = room.run("kv delete snapshot.db --prefix /a/ -o out.db -w json");
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    assert_eq!(json["deleted"].as_u64(), Some(keys.len() as u64));
    let main = json["revision"].as_i64().unwrap();
    assert_eq!(main, json["revisionBefore"].as_i64().unwrap() + 1);
    let mut expected = before;
    for (sub, key) in keys.iter().enumerate() {
        let revision = Revision { main, sub: i64::try_from(sub).unwrap(), tombstone: true };
        let mut record = Vec::new();
        KeyValue { key: key.as_bytes(), ..KeyValue::default() }.encode(&mut record);
        expected.insert(revision.encode(), record);
    }
    assert_eq!(pairs(&room.read("out.db"), "key"), expected);
    assert_eq!(room.run("kv list out.db /a/ --keys-only").stdout, "");

    // The flags of etcdctl; and nothing there, nothing new.
    for (line, deleted) in [
        ("kv delete snapshot.db /a/ /a0 -o between.db", keys.len()),
        ("kv delete snapshot.db /a/ --range-end /a0 --dry-run", keys.len()),
        ("kv delete snapshot.db /nobody -o none.db", 0),
    ] {
        let ran = room.run(line);
        assert_eq!((ran.code, ran.stdout), (0, format!("{deleted}\n")), "{line}");
    }
    assert_eq!(room.read("between.db"), room.read("out.db"));
    assert_eq!(pairs(&room.read("none.db"), "key"), pairs(&room.read("snapshot.db"), "key"));
    assert_eq!(room.run("kv delete snapshot.db /a/ --prefix --from-key -o x.db").code, 2);
}

#[test]
fn a_purge_leaves_no_record_of_a_key_and_holds_the_revision() {
    let room = Room::with_snapshot("3.7.1", "s3-final");
    let before = pairs(&room.read("snapshot.db"), "key");
    let last = Revision::parse(before.last_key_value().unwrap().0).unwrap().main;
    let others = |value: &[u8]| !KeyValue::decode(value).unwrap().key.starts_with(b"/a/");
    let ran = room.run("kv delete snapshot.db --purge --prefix /a/ -o out.db");
    assert!(ran.code == 0 && ran.stderr.contains("--bump-revision"), "{ran:?}");
    let after = pairs(&room.read("out.db"), "key");
    let kept: BTreeMap<_, _> = before.into_iter().filter(|(_, value)| others(value)).collect();
    let held = Revision { main: last, sub: 0, tombstone: true }.encode();
    for (key, value) in &after {
        assert!(kept.get(key) == Some(value) || *key == held && value.is_empty(), "{key:?}");
    }
    assert!(kept.keys().all(|key| after.contains_key(key)));
    assert_eq!(Revision::parse(after.last_key_value().unwrap().0).unwrap().main, last);
    // All of them: the revision is held by the tombstone alone.
    assert_eq!(room.run("kv delete snapshot.db --purge --prefix= -o none.db").code, 2);
    let ran = room.run_words(&["kv", "delete", "snapshot.db", "--purge", "--prefix", "", "-o", "none.db"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(pairs(&room.read("none.db"), "key"), BTreeMap::from([(held, Vec::new())]));
}

#[test]
fn a_member_of_a_cluster_is_not_edited_alone() {
    let room = Room::new();
    unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let member = room
        .names()
        .into_iter()
        .find_map(|top| {
            let below = fs::read_dir(room.path().join(&top)).unwrap().flatten();
            let mut dirs = below.map(|entry| entry.path()).chain([room.path().join(&top)]);
            dirs.find(|dir| dir.join("member").is_dir())
        })
        .unwrap();
    let member = member.to_str().unwrap();
    for line in [
        vec!["compact", member, "--keep-revisions", "5", "-o", "out"],
        vec!["kv", "delete", member, "--prefix", "/", "-o", "out"],
        vec!["kv", "delete", member, "--prefix", "/", "--purge", "-o", "out"],
    ] {
        let ran = room.run_words(&line);
        assert!(ran.code == 4 && ran.stderr.contains("2 other member(s)"), "{ran:?}");
        assert!(ran.stderr.contains("--diverge"), "{ran:?}");
        assert!(!room.path().join("out").exists());
    }
    let ran = room.run_words(&["compact", member, "--keep-revisions", "5", "-o", "out", "--diverge"]);
    assert!(ran.code == 0 && ran.stderr.contains("must never meet its old peers"), "{ran:?}");
    // The db alone is for a restore, and is taken as it is.
    let db = format!("{member}/member/snap/db");
    assert_eq!(room.run_words(&["compact", &db, "--keep-revisions", "5", "-o", "out.db"]).code, 0);
}

/// A server cuts the end off such a log and starts; whoever takes the copy for sound has to be told.
#[test]
fn what_is_wrong_with_the_log_is_told() {
    for (fault, code) in
        [("wal-torn-zero-sectors", "WAL-TORN"), ("wal-truncated-mid-record", "WAL-RECORD-CUT")]
    {
        let room = Room::new();
        unpack(&format!("3.5.30/damaged/{fault}.tar.zst"), room.path());
        let line = format!("compact {fault} --keep-revisions 5 -o out -w json");
        let ran = room.run(&line);
        assert!(ran.code == 3 && ran.stderr.contains(code) && ran.stdout.contains(code), "{ran:?}");
        let ran = room.run(&format!("alarm disarm {fault} -o disarmed --diverge"));
        assert!(ran.code == 3 && ran.stderr.contains(code), "{ran:?}");
    }
}

/// Nobody is left behind by an edit of the only member, so that nothing is said of peers.
#[test]
fn a_lone_member_behind_its_log_is_not_told_of_peers() {
    let room = Room::new();
    unpack("3.5.1/killed/data.tar.zst", room.path());
    let refused = room.run("kv delete data --prefix / -o out");
    assert!(refused.code == 4 && refused.stderr.contains("12 of the entries between"), "{refused:?}");
    let ran = room.run("kv delete data --prefix / -o out --diverge");
    assert!(ran.stderr.contains("accepted with --diverge"), "{ran:?}");
    assert!(ran.code == 0 && !ran.stderr.contains("old peers"), "{ran:?}");
}

#[test]
fn a_directory_gives_a_directory_with_the_same_log() {
    for version in ["3.4.23", "3.5.30", "3.6.14", "3.7.1"] {
        let room = Room::new();
        data_dir(version, room.path());
        let inside = room.run("compact data --keep-revisions 5 -o data/member/out");
        assert!(inside.code == 1 && inside.stderr.contains("lies in data"), "{inside:?}");
        let ran = room.run("compact data --keep-revisions 5 -o out -w json");
        assert_eq!(ran.code, 0, "{version}: {ran:?}");
        assert!(ran.stderr.contains("no peer may join this member"), "{ran:?}");
        for dir in ["member/wal", "member/snap"] {
            for entry in fs::read_dir(room.path().join("data").join(dir)).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                let copy = room.path().join("out").join(dir).join(&name);
                let is_copied = name.ends_with(".wal") || name.ends_with(".snap");
                assert_eq!(copy.exists(), is_copied || name == "db", "{version}: {dir}/{name}");
                assert!(!is_copied || fs::read(&copy).unwrap() == fs::read(entry.path()).unwrap(), "{name}");
            }
        }
        let (old, new) = (room.read("data/member/snap/db"), room.read("out/member/snap/db"));
        assert_eq!(
            pairs(&old, "meta").get(&b"consistent_index"[..]),
            pairs(&new, "meta").get(&b"consistent_index"[..])
        );
        assert_eq!(room.run("wal verify out").code, room.run("wal verify data").code);
        let again = room.run("compact data --keep-revisions 5 -o out");
        assert!(again.code == 1 && again.stderr.contains("not empty"), "{again:?}");
        // A log of its own; the copy has it where etcd looks for it.
        fs::rename(room.path().join("data/member/wal"), room.path().join("log")).unwrap();
        let missing = room.run("compact data --keep-revisions 5 -o apart");
        assert!(missing.code == 1 && missing.stderr.contains("--wal-dir"), "{missing:?}");
        let ran = room.run("compact data --keep-revisions 5 -o apart --wal-dir log");
        assert!(ran.code == 0 && ran.stderr.contains("start etcd without --wal-dir"), "{ran:?}");
        assert_eq!(room.read("apart/member/snap/db"), new);
    }
}
