//! The hash of the key space, and what a compaction leaves, against etcd's own numbers.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::collections::BTreeMap;

use bbolt::{Db, FileSource, Io};
use common::opened;
use common::space::{Space, db};
use snapshot::kv_diff::{Change, Counts, Side, diff};
use snapshot::mvcc::{
    AtRevisionError, HashKv, Index, IndexOptions, KeyValue, Release, Revision, Store, compaction, hashkv,
};
use testdata::{STAGES, VERSIONS, fingerprint};

/// What hash_test.go of etcd 3.7.1 expects of hashes in the middle of each cycle of puts: hash, compacted revision, revision.
const IN_THE_MIDDLE: [(u32, i64, i64); 19] = [
    (4082599214, -1, 35),
    (2279933401, 35, 106),
    (3284231217, 106, 177),
    (126286495, 177, 248),
    (900108730, 248, 319),
    (2475485232, 319, 390),
    (1226296507, 390, 461),
    (2503661030, 461, 532),
    (4155130747, 532, 603),
    (106915399, 603, 674),
    (406914006, 674, 745),
    (1882211381, 745, 816),
    (806177088, 816, 887),
    (664311366, 887, 958),
    (1496914449, 958, 1029),
    (2434525091, 1029, 1100),
    (3988652253, 1100, 1171),
    (1122462288, 1171, 1242),
    (724436716, 1242, 1883),
];

/// The same at the end of each cycle.
const AT_THE_END: [(u32, i64, i64); 19] = [
    (1913897190, -1, 73),
    (224860069, 73, 145),
    (1565167519, 145, 217),
    (1566261620, 217, 289),
    (2037173024, 289, 361),
    (691659396, 361, 433),
    (2713730748, 433, 505),
    (3919322507, 505, 577),
    (769967540, 577, 649),
    (2909194793, 649, 721),
    (1576921157, 721, 793),
    (4067701532, 793, 865),
    (2226384237, 865, 937),
    (2923408134, 937, 1009),
    (2680329256, 1009, 1081),
    (1546717673, 1081, 1153),
    (2713657846, 1153, 1225),
    (1046575299, 1225, 1297),
    (2017735779, 1297, 2508),
];

fn hash_of(space: &Space, revision: i64) -> HashKv {
    hashkv(&db(&space.file()), revision, Release::NEWEST, &()).unwrap()
}

fn pick_key(i: i64) -> &'static str {
    match i {
        _ if i % 142 == 30 => "zenek",
        _ if i % 71 == 30 => "xavery",
        _ => {
            let names = ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"];
            names[usize::try_from(i % 7).unwrap()]
        }
    }
}

/// Runs etcd's own sequence. A compaction is carried out, or only ordered and then left to whoever starts on the file.
fn sequence(in_the_middle: bool, pending: bool) -> Vec<(u32, i64, i64)> {
    let mut space = Space::default();
    let mut hashes = Vec::new();
    for (from, count) in (0..18).map(|cycle| (cycle * 71, 71)).chain([(18 * 71, 1210)]) {
        (from..=from + count).for_each(|i| space.put(pick_key(i), &i.to_string()));
        let revision = if in_the_middle { from + count / 2 } else { 0 };
        let hash = hash_of(&space, revision);
        hashes.push((hash.hash, hash.compact_revision, hash.hash_revision));
        if pending {
            space.scheduled = Some(hash.hash_revision);
        } else {
            space.compact(hash.hash_revision, Release::NEWEST);
        }
    }
    hashes
}

#[test]
fn the_hashes_of_etcd_s_own_tests() {
    for pending in [false, true] {
        assert_eq!(sequence(true, pending), IN_THE_MIDDLE, "pending: {pending}");
        assert_eq!(sequence(false, pending), AT_THE_END, "pending: {pending}");
    }
    let hash = HashKv { hash: 1084519789, hash_revision: 1, compact_revision: -1 };
    assert_eq!(hash_of(&Space::default(), 0), hash);
    let mut space = Space::default();
    space.next();
    let (key, value) = (&b"test-key"[..], &b"test-value"[..]);
    space.add(false, &KeyValue { key, create_revision: 2, mod_revision: 2, version: 1, value, lease: 1 });
    assert_eq!(hash_of(&space, 0).hash, 645561629);
}

#[test]
fn every_fixture_has_the_hash_that_its_server_gave() {
    let dir = tempfile::tempdir().unwrap();
    for version in VERSIONS {
        for stage in STAGES {
            let file = testdata::snapshot_file(version, stage, dir.path());
            let before = fingerprint(&file);
            for io in [Io::Mmap, Io::Pread] {
                let input = opened(&file, io);
                let db: Db<&FileSource> = input.db().unwrap();
                let hash = hashkv(&db, 0, version.parse().unwrap(), &()).unwrap();
                assert_eq!(
                    (u64::from(hash.hash), hash.hash_revision, hash.compact_revision),
                    testdata::hashkv_facts(version, stage),
                    "{version} {stage} {io:?}"
                );
                assert_eq!(hashkv(&db, 0, Release::NEWEST, &()).unwrap(), hash);
            }
            assert_eq!(fingerprint(&file), before);
        }
    }
    // hashkv-3.7.1.txt.
    let input = opened(&testdata::snapshot_file("3.5.30", "s3-final", dir.path()), Io::Mmap);
    let db = input.db().unwrap();
    assert_eq!(hashkv(&db, 60, Release::NEWEST, &()).unwrap().hash, 2751837507);
    for (revision, words) in [
        (10, "mvcc: required revision has been compacted; kept are revisions 46 to 79"),
        (100_000, "mvcc: required revision is a future revision; kept are revisions 46 to 79"),
    ] {
        let error = hashkv(&db, revision, Release::NEWEST, &()).unwrap_err();
        assert!(matches!(error, AtRevisionError::Revision(_)), "{error:?}");
        assert_eq!(error.to_string(), words);
    }
    assert!(hashkv(&db, 46, "3.5.9".parse().unwrap(), &()).is_err());
    assert!(hashkv(&db, 46, "3.5.10".parse().unwrap(), &()).is_ok());
}

/// key_index_test.go, TestKeyIndexCompactAndKeep: puts at 2, 4, 8, 10, 14, 15, tombstones at 6, 12, 16.
#[test]
fn a_compaction_leaves_what_etcd_s_own_tests_say() {
    let all = [2i64, 4, 6, 8, 10, 12, 14, 15, 16];
    let made = || {
        let mut space = Space::default();
        for main in all {
            while space.revision.max(1) < main - 1 {
                space.next();
            }
            if [6, 12, 16].contains(&main) { space.delete("foo") } else { space.put("foo", "bar") }
        }
        space
    };
    let mains = |space: &Space| -> Vec<i64> {
        space.records.keys().map(|key| Revision::parse(key).unwrap().main).collect()
    };
    for revision in 2..=16 {
        for (release, keeps_tombstone) in
            [("3.5.15", false), ("3.5.16", true), ("3.4.33", false), ("3.4.34", true)]
        {
            let mut space = made();
            space.compact(revision, release.parse().unwrap());
            let newest = all.iter().rev().find(|main| **main <= revision).copied();
            let left =
                newest.filter(|main| ![6, 12, 16].contains(main) || keeps_tombstone && *main == revision);
            let expected: Vec<i64> =
                left.into_iter().chain(all.into_iter().filter(|main| *main > revision)).collect();
            assert_eq!(mains(&space), expected, "{release} at {revision}");
        }
    }
    let mut space = made();
    space.compact(8, Release::NEWEST);
    let file = space.file();
    for (revision, words) in [(8, "compacted"), (17, "future")] {
        let error = compaction(&db(&file), revision, Release::NEWEST, &()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// A history with deletions, its store compacted at one revision here and another there. Above both, the hashes are equal as long
/// as nothing between the two was superseded or deleted.
#[test]
fn stores_compacted_at_different_revisions_differ_by_what_was_superseded_between() {
    let mut space = Space::default();
    for key in ["a", "b", "a", "c", "d"] {
        space.put(key, "1");
    }
    space.delete("b");
    space.put("e", "1");
    space.put("d", "2");
    let at = |compacted: i64, revision| {
        let mut space =
            Space { records: space.records.clone(), revision: space.revision, ..Space::default() };
        space.compact(compacted, Release::NEWEST);
        hash_of(&space, revision).hash
    };
    // At 8, revisions 4 to 6 are the newest records of a, c and d; 7 deletes b, and 9 supersedes 6.
    assert_eq!(at(4, 8), at(6, 8));
    assert_ne!(at(6, 8), at(8, 8));
    assert_eq!(at(4, 9), at(5, 9));
    assert_ne!(at(5, 9), at(6, 9));
}

/// What the findings of an index are called, and the errors without `skip_bad`.
fn codes(file: &[u8]) -> (Vec<&'static str>, Option<String>) {
    let db = db(file);
    let skipping = IndexOptions { skip_bad: true, ..IndexOptions::default() };
    let index = Index::build(&db, &skipping, &()).unwrap();
    for history in index.histories() {
        history.key().unwrap();
        for entry in history.entries() {
            index.record(entry).unwrap();
        }
    }
    let codes = index.findings().iter().map(|finding| finding.code).collect();
    let error = Index::build(&db, &IndexOptions::default(), &()).err().map(|error| {
        assert!(!error.findings().is_empty());
        error.to_string()
    });
    (codes, error)
}

#[test]
fn what_is_wrong_with_records_is_told() {
    let made = || {
        let mut space = Space::default();
        for key in ["a", "b", "c"] {
            space.put(key, "1");
        }
        space
    };
    assert_eq!(codes(&made().file()), (vec![], None));
    let mut space = made();
    space.records.insert(b"no revision".to_vec(), Vec::new());
    space.records.insert(Revision { main: 9, sub: 0, tombstone: false }.encode(), b"\x0a\x7fk".to_vec());
    let (found, error) = codes(&space.file());
    assert_eq!(found, ["ETCD-RECORD", "ETCD-RECORD"]);
    assert!(error.unwrap().contains("no record"));
    let refused = [
        hashkv(&db(&space.file()), 0, Release::NEWEST, &()).map(|_| ()).unwrap_err(),
        compaction(&db(&space.file()), 3, Release::NEWEST, &()).map(|_| ()).unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.findings().len() == 2 && error.exit_code() == 1));

    let mut space = made();
    space.delete("nowhere");
    space.delete("a");
    space.delete("a");
    let (found, error) = codes(&space.file());
    assert_eq!((found, error), (vec!["ETCD-TOMBSTONE", "ETCD-TOMBSTONE"], None));
    // Such a one is what a compaction leaves.
    space.scheduled = Some(5);
    space.finished = Some(5);
    assert_eq!(codes(&space.file()).0, ["ETCD-TOMBSTONE"]);

    let mut space = made();
    space.next();
    space.add(false, &KeyValue { key: b"d", create_revision: 2, mod_revision: 77, ..KeyValue::default() });
    assert_eq!(codes(&space.file()), (vec!["ETCD-MOD-REVISION"], None));
    // A bumped revision's record is empty.
    let mut space = made();
    space.revision = 1_000_000_000;
    space.add(false, &KeyValue::default());
    assert_eq!(codes(&space.file()), (vec![], None));

    let mut space = made();
    space.finished = Some(50);
    let (found, error) = codes(&space.file());
    assert_eq!((found, error), (vec!["ETCD-COMPACT-AHEAD"], None));
    assert_eq!(Store::read(&db(&space.file()), Release::NEWEST).unwrap().current_revision, 50);
}

/// Every page of the tree in turn is overwritten; what stands on the others is found all the same.
#[test]
fn what_is_left_of_a_damaged_tree_is_indexed() {
    let mut space = Space::default();
    for n in 0..400 {
        space.put(&format!("/key/{:03}", n % 50), &"v".repeat(200));
    }
    let sound = space.file();
    let page_size = usize::try_from(db(&sound).page_size()).unwrap();
    let (mut worst, mut best) = (400, 0);
    for page in 2..sound.len() / page_size {
        let mut file = sound.clone();
        file[page * page_size..(page + 1) * page_size].fill(0xa5);
        let damaged = db(&file);
        let options = IndexOptions { skip_bad: true, ..IndexOptions::default() };
        let Err(error) = Index::build(&damaged, &IndexOptions::default(), &()) else { continue };
        assert!(!error.findings().is_empty());
        let index = Index::build(&damaged, &options, &()).unwrap();
        assert!(!index.findings().is_empty());
        for history in index.histories() {
            assert!(history.key().unwrap().starts_with(b"/key/"));
        }
        worst = worst.min(index.revision_count());
        best = best.max(index.revision_count());
    }
    // Without the branch nothing is left, without a leaf nearly all.
    assert_eq!(worst, 0);
    assert!((300..400).contains(&best), "{best}");
}

/// One line a change: its kind, its key, the revisions.
fn changes(first: (&Space, i64), second: (&Space, i64)) -> (Vec<String>, Counts) {
    let files = [first.0.file(), second.0.file()];
    let dbs = [db(&files[0]), db(&files[1])];
    let index = |db| Index::build(db, &IndexOptions::default(), &()).unwrap();
    let (a, b) = (index(&dbs[0]), index(&dbs[1]));
    let (a, b) = (Side { index: &a, revision: first.1 }, Side { index: &b, revision: second.1 });
    let mut lines = Vec::new();
    let mut take = |change: &Change<'_>| {
        let revision = |kv: Option<KeyValue<'_>>| kv.map_or(0, |kv| kv.mod_revision);
        let (before, after) = (revision(change.before), revision(change.after));
        lines.push(format!("{:?} {} {before} {after}", change.kind, String::from_utf8_lossy(change.key)));
        Ok(())
    };
    let counts = diff(&a, &b, &mut take, &()).unwrap();
    (lines, counts)
}

#[test]
fn keys_that_differ_between_two_revisions_or_two_stores() {
    let mut space = Space::default();
    for (key, value) in [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")] {
        space.put(key, value);
    }
    space.put("b", "2");
    space.put("c", "1");
    space.delete("d");
    space.put("f", "1");
    let (lines, counts) = changes((&space, 6), (&space, 0));
    assert_eq!(lines, ["Changed b 3 7", "Rewritten c 4 8", "Removed d 5 0", "Added f 0 10"]);
    assert_eq!(counts, Counts { added: 1, removed: 1, changed: 1, rewritten: 1, same: 2 });
    let (lines, counts) = changes((&space, 0), (&space, 6));
    assert_eq!(lines, ["Changed b 7 3", "Rewritten c 8 4", "Added d 0 5", "Removed f 10 0"]);
    assert!(!counts.is_same());
    let (lines, counts) = changes((&space, 0), (&space, 10));
    assert_eq!((lines.len(), counts), (0, Counts { same: 5, ..Counts::default() }));
    let (lines, _) = changes((&Space::default(), 0), (&space, 2));
    assert_eq!(lines, ["Added a 0 2"]);
}

#[test]
fn an_index_answers_for_every_revision_what_the_history_says() {
    let mut space = Space::default();
    let mut states: Vec<BTreeMap<String, i64>> = vec![BTreeMap::new(), BTreeMap::new()];
    let mut seed = 7u64;
    for step in 0..3000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let key = format!("/k/{}", (seed >> 33) % 97);
        let mut state = states.last().unwrap().clone();
        if seed >> 60 < 3 && state.contains_key(&key) {
            space.delete(&key);
            state.remove(&key);
        } else {
            space.put(&key, &step.to_string());
            state.insert(key, space.revision);
        }
        states.push(state);
    }
    let file = space.file();
    let db = db(&file);
    let index = Index::build(&db, &IndexOptions::default(), &()).unwrap();
    assert_eq!(index.findings(), []);
    assert_eq!(index.revision_count(), 3000);
    assert_eq!(index.store(), &Store::read(&db, Release::NEWEST).unwrap());
    for (revision, state) in (0i64..).zip(&states) {
        let mut found = BTreeMap::new();
        for history in index.histories() {
            let key = String::from_utf8(history.key().unwrap().into_owned()).unwrap();
            found.extend(history.at(revision).map(|entry| (key, entry.main())));
        }
        assert_eq!(&found, state, "revision {revision}");
    }
    let keys: Vec<_> = index.histories().map(|history| history.key().unwrap().into_owned()).collect();
    assert!(keys.is_sorted_by(|a, b| a < b));
    assert_eq!(keys.len(), index.key_count());
    for key in &keys {
        let found = index.find(key).unwrap().unwrap();
        for entry in found.entries() {
            let record = index.record(entry).unwrap();
            let kv = KeyValue::decode(&record.bytes).unwrap();
            assert_eq!((kv.key, record.revision.main), (key.as_slice(), entry.main()));
            assert_eq!(record.revision.tombstone, entry.is_tombstone());
        }
    }
    assert!(index.find(b"/k/none").unwrap().is_none());
}
