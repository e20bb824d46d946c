//! Going back to every revision that is kept, and how far the revision is raised beyond what clients have seen.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bbolt::graft::Graft;
use bbolt::{Db, Source};
use snapshot::membership::InitialCluster;
use snapshot::mvcc::Revision;
use snapshot::new_cluster::Bump;
use snapshot::plan::Plan;
use snapshot::restore::{Output, RestoreError, RestoreOptions};
use snapshot::schema::{FINISHED_COMPACT, KEY, META, SCHEDULED_COMPACT};
use snapshot::seen::{self, Evidence, Seen, SeenError, SeenOptions};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The image of a snapshot, without its hash.
fn image(version: &str, stage: &str) -> Vec<u8> {
    let mut file = testdata::snapshot(version, stage);
    file.truncate(file.len() - 32);
    file
}

fn pairs(source: impl Source, bucket: &[u8]) -> Pairs {
    let db = Db::from_source(source).unwrap();
    let mut cursor = db.bucket(bucket).unwrap().unwrap().cursor();
    let mut pairs = Pairs::new();
    while let Some(item) = cursor.next().unwrap() {
        pairs.insert(item.key.to_vec(), item.value.to_vec());
    }
    pairs
}

/// What becomes of `file`: the plan, and bucket `key` after it.
fn back(file: &Vec<u8>, to: i64, bump: Option<Bump>) -> Result<(Plan, Pairs), RestoreError> {
    let options = RestoreOptions {
        initial_cluster: String::new(),
        token: "token".to_owned(),
        output: Output::AllMembers { dir: "/nowhere".into() },
        skip_hash_check: true,
        at_revision: Some(to),
        bump_revision: bump,
        target: None,
        keep_alarms: false,
        owner: None,
        dry_run: true,
        clean: false,
    };
    let members = InitialCluster::parse("a=http://1:1").unwrap().members("token").unwrap();
    let (plan, _) = Plan::new(file, "input", members, &options, &())?;
    let edited = plan.edited(file);
    plan.verify(&edited, "input", &()).unwrap();
    let keys = pairs(&edited, KEY);
    Ok((plan, keys))
}

fn main_of(key: &[u8]) -> i64 {
    Revision::parse(key).unwrap().main
}

/// The oracle is the file itself: what is left are its records up to the revision, all of them and nothing else.
#[test]
fn every_kept_revision_can_be_gone_back_to() {
    for (version, stage) in [("3.4.23", "s1-precompact"), ("3.5.30", "s3-final"), ("3.7.1", "s3-final")] {
        go_back_to_each(version, stage);
    }
}

fn go_back_to_each(version: &str, stage: &str) {
    let file = image(version, stage);
    let records = pairs(&file, KEY);
    let last = records.keys().map(|key| main_of(key)).max().unwrap();
    let (_, _, compacted) = testdata::hashkv_facts(version, stage);
    let first = compacted.max(1);
    assert!(first < last);
    for revision in first..=last {
        let (plan, left) = back(&file, revision, None).unwrap();
        let expected: Pairs =
            records.clone().into_iter().filter(|(key, _)| main_of(key) <= revision).collect();
        assert!(left == expected, "at {revision} of {first} to {last}");
        let told =
            plan.backend.notices.iter().any(|notice| notice.starts_with("WARNING: clients of the old"));
        assert_eq!(told, revision < last);
    }
    for outside in [first - 1, last + 1] {
        // 0 stands for the last revision in etcd's requests; the command line does not let it pass.
        if outside == 0 {
            continue;
        }
        let error = back(&file, outside, None).unwrap_err();
        let kept = format!("kept are revisions {first} to {last}");
        assert!(
            matches!(error, RestoreError::AtRevision { .. }) && error.to_string().ends_with(&kept),
            "{error}"
        );
    }
}

/// `file` with these compactions in bucket `meta`.
fn compacted(file: &Vec<u8>, finished: i64, scheduled: i64) -> Vec<u8> {
    let db = Db::from_source(file).unwrap();
    let mut graft = Graft::new(&db);
    let mut meta = graft.pairs(META).unwrap().unwrap();
    for (name, main) in [(FINISHED_COMPACT, finished), (SCHEDULED_COMPACT, scheduled)] {
        meta.insert(name.to_vec(), Revision { main, sub: 0, tombstone: false }.encode());
    }
    graft.replace_bucket(META, meta).unwrap();
    let patch = graft.finish().unwrap();
    let mut file = file.clone();
    patch.apply_to_vec(&mut file);
    file
}

#[test]
fn a_compaction_that_did_not_finish_counts_as_done() {
    let file = compacted(&image("3.5.30", "s3-final"), 46, 60);
    let error = back(&file, 59, None).unwrap_err().to_string();
    assert!(error.ends_with("kept are revisions 60 to 79"), "{error}");
    let (plan, _) = back(&file, 60, None).unwrap();
    // What was compacted is never above what is left: a server would start at a revision without records.
    assert_eq!(plan.backend.revision, 60);
    let meta = pairs(plan.edited(&file), META);
    for name in [FINISHED_COMPACT, SCHEDULED_COMPACT] {
        assert!(main_of(&meta[name]) <= 60);
    }
    // Tombstones only, compacted away: the store is at 90 all the same.
    let file = compacted(&image("3.5.30", "s3-final"), 90, 90);
    assert_eq!(back(&file, 90, None).unwrap().0.backend.revision, 90);
    assert!(back(&file, 89, None).is_err() && back(&file, 91, None).is_err());
}

/// Where a purge took all records of a revision, a server would start at an earlier one, and give the rest out once more.
#[test]
fn a_revision_of_which_nothing_is_kept_is_held() {
    let file = image("3.5.30", "s3-final");
    let db = Db::from_source(&file).unwrap();
    let mut graft = Graft::new(&db);
    let mut records = graft.pairs(KEY).unwrap().unwrap();
    records.retain(|key, _| !(60..70).contains(&main_of(key)));
    graft.replace_bucket(KEY, records.clone()).unwrap();
    let patch = graft.finish().unwrap();
    let mut purged = file.clone();
    patch.apply_to_vec(&mut purged);
    for (to, is_held) in [(59, false), (60, true), (69, true), (70, false), (78, false)] {
        let (plan, left) = back(&purged, to, None).unwrap();
        assert_eq!(plan.backend.revision, to);
        let (last, value) = left.last_key_value().unwrap();
        assert_eq!((main_of(last), value.is_empty()), (to, is_held), "{to}");
        assert_eq!(Revision::parse(last).unwrap().tombstone, is_held);
        let kept = records.keys().filter(|key| main_of(key) <= to).count();
        assert_eq!(left.len(), kept + usize::from(is_held));
        assert_eq!(plan.backend.notices.iter().any(|notice| notice.starts_with("no record of")), is_held);
    }
    // A raised store needs nothing else to hold it.
    let (_, left) = back(&purged, 65, Some(Bump::By(50))).unwrap();
    assert_eq!(left.last_key_value().map(|(key, _)| main_of(key)), Some(115));
    assert!(!left.keys().any(|key| Revision::parse(key).unwrap().main == 65));
    // The store's own revision, held by a compaction, is one that no record has to have.
    let compacted = compacted(&purged, 65, 65);
    let (_, left) = back(&compacted, 65, None).unwrap();
    assert_eq!(left.last_key_value().map(|(key, _)| main_of(key)), Some(59));
}

#[test]
fn a_bump_goes_on_from_the_revision_gone_back_to() {
    let file = image("3.5.30", "s3-final");
    let seen = 3_000_000_000;
    for (bump, raised) in [
        (Bump::By(50), 110),
        (Bump::Beyond { seen: 0 }, 1_000_000_060),
        (Bump::Beyond { seen: 999_000_060 }, 1_000_000_060),
        (Bump::Beyond { seen: 999_000_061 }, 1_000_000_061),
        (Bump::Beyond { seen }, seen + 1_000_000),
    ] {
        let (plan, left) = back(&file, 60, Some(bump)).unwrap();
        assert_eq!((plan.backend.revision, plan.backend.bumped_to), (60, Some(raised)), "{bump:?}");
        let last = left.last_key_value().map(|(key, value)| (main_of(key), value.len()));
        assert_eq!(last, Some((raised, 0)));
        assert_eq!(main_of(&pairs(plan.edited(&file), META)[SCHEDULED_COMPACT]), raised);
        assert!(!plan.backend.notices.iter().any(|notice| notice.starts_with("WARNING")));
    }
    // A server at the last revision there is dies of the next write, and at every start after it.
    let most = i64::MAX.cast_unsigned();
    for bump in [Bump::Beyond { seen: i64::MAX }, Bump::By(most - 60), Bump::By(most - 60 - (1 << 20))] {
        assert!(matches!(back(&file, 60, Some(bump)), Err(RestoreError::NewCluster { .. })), "{bump:?}");
    }
    assert!(back(&file, 60, Some(Bump::By(1 << 62))).is_ok());
}

fn seen(path: &Path) -> Result<Seen, SeenError> {
    seen::of(path, &SeenOptions::default(), &())
}

/// What the fixture's README records: n1 and n3 had come to revision 4237 when they were asked, and one more put is in their
/// logs that was never committed; n2's db lacks ten entries.
#[test]
fn a_members_log_counts_beyond_its_db() {
    let dir = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", dir.path());
    for (node, index, writes, doubts) in [("n1", 4251, 1, 0), ("n2", 1800, 10, 0), ("n3", 4235, 17, 0)] {
        let of_dir = seen(&dir.path().join(node)).unwrap();
        let Evidence::Database { revision, consistent_index, writes: counted } = of_dir.evidence else {
            panic!("{of_dir:?}")
        };
        assert_eq!((consistent_index, counted, of_dir.doubts.len()), (index, writes, doubts), "{of_dir:?}");
        assert_eq!(of_dir.revision, revision + i64::try_from(writes).unwrap());
        // The same by the log's own directory, and by the db's file.
        for other in ["member/wal", "member/snap/db", "member"] {
            let same = seen(&dir.path().join(node).join(other)).unwrap();
            assert_eq!((same.revision, same.evidence), (of_dir.revision, of_dir.evidence.clone()), "{other}");
        }
    }
    let newest = seen(&dir.path().join("n1")).unwrap().revision;
    assert_eq!(newest, seen(&dir.path().join("n3")).unwrap().revision);
    assert_eq!(newest, 4238);
}

#[test]
fn a_log_alone_shows_a_lower_bound_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let alone = |data: &Path, name: &str| {
        let wal = dir.path().join(name);
        fs::rename(data.join("member/wal"), &wal).unwrap();
        wal
    };
    let data = testdata::data_dir("3.5.30", &dir.path().join("single"));
    let wal = alone(&data, "log");
    let found = seen(&wal).unwrap();
    // A compaction at 46 stands in it; all that wrote after it counts.
    assert_eq!((found.evidence, found.doubts.len()), (Evidence::Requests, 1));
    assert!((46..=79).contains(&found.revision), "{}", found.revision);
    // Where the log is gone, that is told too.
    let rest = seen(&data).unwrap();
    assert_eq!((rest.revision, rest.doubts.len()), (79, 1));

    testdata::unpack("3.5.30/cluster3/data.tar.zst", &dir.path().join("cluster"));
    let wal = alone(&dir.path().join("cluster/n2"), "other-log");
    assert!(matches!(seen(&wal), Err(SeenError::ProvesNothing { .. })));
    assert!(matches!(seen(&dir.path().join("nowhere")), Err(SeenError::Open(_))));
}

/// A database that a member was being sent, in its `snap` directory, is newer than its own.
#[test]
fn a_database_that_was_being_received_counts() {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir("3.5.30", dir.path());
    let before = seen(&data).unwrap().revision;
    let sent = compacted(&image("3.5.30", "s3-final"), 5000, 5000);
    fs::write(data.join("member/snap/00000000000003e8.snap.db"), sent).unwrap();
    assert_eq!(before, 79);
    // Entries of the log behind it count as they do behind the db.
    assert!((5000..5010).contains(&seen(&data).unwrap().revision));
}
