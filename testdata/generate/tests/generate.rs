//! What is generated is what was asked for, and a history that a server could have had.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::fs;

use bbolt::{Db, check};
use common::{PRESETS, image, pairs, records, replay, small, tiny};
use generate::{KeyShape, LogOptions, Preset, Shape, Sweep, log_dir};
use proptest::prelude::*;
use snapshot::schema::Schema;
use snapshot::target::TargetVersion;
use wal::raftpb::{EntryType, HardState};
use wal::{SEGMENT_SIZE_BYTES, segment_name, summarize};

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for (number, preset) in PRESETS.into_iter().enumerate() {
        let shape = Shape { revisions: 40, records: 120, deletes: 12, live_keys: 60, ..small(preset) };
        let shape = Shape { sweep: shape.sweep.map(|sweep| Sweep { live_keys: 20, ..sweep }), ..shape };
        let (bytes, facts) = image(&shape);
        assert!(image(&shape) == (bytes.clone(), facts));
        let (other, _) = image(&Shape { seed: shape.seed + 1, ..shape.clone() });
        assert!(records(&bytes)[0].key != records(&other)[0].key);
        let options = LogOptions { segment_bytes: 16 << 10, ..LogOptions::default() };
        let files = [0, 1].map(|again| {
            let wal = dir.path().join(format!("{number}-{again}"));
            log_dir(&shape, &wal, options, &()).unwrap();
            let mut files: Vec<_> = fs::read_dir(&wal)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| {
                    (path.file_name().unwrap().to_owned(), testdata::sha256_hex(fs::read(path).unwrap()))
                })
                .collect();
            files.sort();
            files
        });
        assert!(files[0].len() > 2);
        assert_eq!(files[0], files[1]);
    }
}

#[test]
fn histories_are_consistent_and_as_large_as_asked() {
    for preset in [Preset::Big, Preset::Flat] {
        let shape = small(preset);
        let (image, facts) = image(&shape);
        let records = records(&image);
        let live = replay(&records);
        assert_eq!(facts.live_keys, u64::from(shape.live_keys));
        assert_eq!(facts.live_keys, u64::try_from(live.len()).unwrap());
        assert_eq!(facts.records, u64::try_from(records.len()).unwrap());
        assert_eq!((facts.records, facts.tombstones), (shape.records.into(), shape.deletes.into()));
        assert_eq!(i64::from(facts.revision), records.last().unwrap().revision.main);
        assert_eq!(facts.revision, shape.last_revision());
        assert_eq!(facts.compact_revision, None);
        assert!(live.values().any(|record| record.version > 2));
        let again: BTreeSet<_> = records.iter().filter(|r| r.version == 1).map(|r| &r.key).collect();
        assert!(again.len() < records.iter().filter(|r| r.version == 1).count(), "no key was made again");
        let leases: BTreeSet<i64> = live.values().map(|r| r.lease).filter(|lease| *lease != 0).collect();
        let granted =
            pairs(&image, b"lease").into_iter().map(|(key, _)| i64::from_be_bytes(key.try_into().unwrap()));
        assert_eq!(leases, granted.collect());
    }
}

#[test]
fn a_compacted_store_keeps_the_newest_puts_and_leaves_the_rest_in_free_pages() {
    let shape = small(Preset::Frag);
    let (bytes, facts) = image(&shape);
    let whole = Shape { compacted: false, ..shape.clone() };
    let (before, before_facts) = image(&whole);
    let live = replay(&records(&before));
    assert_eq!(before_facts.live_keys, u64::from(shape.sweep.unwrap().live_keys));
    assert_eq!((facts.live_keys, facts.revision), (before_facts.live_keys, before_facts.revision));
    assert_eq!(facts.compact_revision, Some(facts.revision));

    let last = i64::from(facts.revision);
    let kept = records(&bytes);
    let (tombstones, puts): (Vec<_>, Vec<_>) = kept.iter().partition(|record| record.revision.tombstone);
    let mut expected: Vec<_> = live.values().collect();
    expected.sort_by_key(|record| record.revision);
    assert_eq!(puts, expected);
    assert!(!tombstones.is_empty() && tombstones.iter().all(|record| record.revision.main == last));

    let db = Db::from_source(bytes.as_slice()).unwrap();
    let report = check(&db, &());
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let share = report.statistics.free_pages * 100 / report.statistics.pages;
    assert!((50..95).contains(&share), "{share} % of the pages are free");
    // What was removed is still there, whole, in pages that nothing reaches.
    let values: BTreeSet<_> = kept.iter().map(|record| &record.value).collect();
    let whole = records(&before);
    let gone = whole.iter().filter(|record| !record.value.is_empty() && !values.contains(&record.value));
    let gone: Vec<_> = gone.step_by(100).collect();
    assert!(gone.len() > 5);
    for record in gone {
        let found = bytes.windows(record.value.len()).any(|window| window == record.value);
        assert!(found, "no trace of revision {:?}", record.revision);
    }
    let schema = Schema::read(&db).unwrap();
    assert_eq!((schema.scheduled_compact, schema.finished_compact), (Some(last), Some(last)));
}

#[test]
fn small_buckets_are_those_of_each_version() {
    for (version, cluster, term, storage) in [
        (TargetVersion::V3_4, "3.4.0", None, ""),
        (TargetVersion::V3_5, "3.5.0", Some(2), ""),
        (TargetVersion::V3_6, "3.6.0", Some(2), "3.6.0"),
        (TargetVersion::V3_7, "3.7.0", Some(2), "3.7.0"),
    ] {
        let (image, facts) = image(&Shape { written_by: version, members: 3, ..tiny() });
        let schema = Schema::read(&Db::from_source(image.as_slice()).unwrap()).unwrap();
        let names: Vec<_> = schema.buckets.iter().map(|name| String::from_utf8_lossy(name)).collect();
        assert_eq!(
            names,
            [
                "alarm",
                "auth",
                "authRoles",
                "authUsers",
                "cluster",
                "key",
                "lease",
                "members",
                "members_removed",
                "meta"
            ]
        );
        assert_eq!((schema.cluster_version.as_str(), schema.term), (cluster, term));
        assert_eq!(schema.storage_version, storage);
        assert_eq!(schema.has_conf_state, term.is_some());
        assert_eq!((schema.members.len(), u64::from(facts.leases)), (3, schema.leases));
        assert_eq!(schema.consistent_index, facts.consistent_index);
        assert_eq!(schema.written_by().map(|(by, _)| by), Some(version));
        assert!(schema.findings.is_empty() && !schema.auth_enabled && schema.alarms.is_empty());
    }
}

/// The log ends where the db's consistent index says it does, and its segments are as servers leave them.
#[test]
fn logs_are_complete() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { members: 3, compacted: true, ..tiny() };
    let wal = dir.path().join("wal");
    let facts =
        log_dir(&shape, &wal, LogOptions { segment_bytes: 4096, ..LogOptions::default() }, &()).unwrap();
    let (_, db) = image(&shape);
    assert_eq!(
        (facts.entries, facts.revision, facts.live_keys),
        (db.consistent_index, db.revision, db.live_keys)
    );
    let (mut index, mut seq, mut metadata, mut bytes_seen) = (0, 0, None, 0);
    let mut state = HardState::default();
    let mut kinds = Vec::new();
    loop {
        let name = segment_name(seq, if seq == 0 { 0 } else { index + 1 });
        let Ok(bytes) = fs::read(wal.join(name)) else { break };
        let summary = summarize(&bytes).unwrap();
        assert_eq!(*metadata.get_or_insert(summary.metadata), summary.metadata);
        for entry in &summary.entries {
            assert_eq!(entry.index, index + 1);
            index = entry.index;
            kinds.push(entry.entry_type);
        }
        let last = seq + 1 == facts.segments;
        let len = u64::try_from(bytes.len()).unwrap();
        assert_eq!(len, if last { SEGMENT_SIZE_BYTES } else { summary.end_offset });
        bytes_seen += summary.end_offset;
        state = summary.hard_state.unwrap_or(state);
        seq += 1;
    }
    assert_eq!((seq, index), (facts.segments, facts.entries));
    assert!(seq > 3);
    assert_eq!(bytes_seen, facts.record_bytes);
    assert_eq!((state.commit(), state.term()), (index, 2));
    assert_eq!(kinds.iter().filter(|kind| **kind == i32::from(EntryType::ConfChange)).count(), 3);
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let counts = (prop_oneof![1_u32..30, 200_u32..201], 0_u32..40, 1_u32..60, 0_u32..60);
    (any::<u64>(), counts, 0_u32..3, any::<bool>(), 10_u32..17, 0_u32..3_000).prop_map(
        |(seed, (revisions, deletes, live_keys, updates), sweeps, compacted, page_bits, value_max_bytes)| {
            let records = (2 * deletes + live_keys + updates).max(revisions);
            let sweep = (sweeps > 0 && live_keys > sweeps)
                .then(|| Sweep { revisions: sweeps, live_keys: (live_keys - sweeps) / 2 });
            Shape {
                revisions,
                records,
                deletes,
                live_keys,
                sweep,
                compacted,
                page_size: 1 << page_bits,
                value_min_bytes: 0,
                value_max_bytes,
                value_mean_bytes: value_max_bytes / 3,
                leases: seed.leading_zeros() % 4,
                keys: [KeyShape::Kubernetes, KeyShape::Flat, KeyShape::Sixty, KeyShape::Deep]
                    [usize::try_from(seed % 4).unwrap()],
                ..Shape::preset(Preset::Big, seed)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape_is_sound_and_told_truly(shape in any_shape()) {
        let (bytes, facts) = image(&shape);
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let report = check(&db, &());
        prop_assert!(report.findings.is_empty(), "{:?}", report.findings);
        prop_assert_eq!(db.page_size(), shape.page_size);
        prop_assert_eq!(report.statistics.keys, facts.pairs);
        prop_assert_eq!(facts.revision, shape.last_revision());
        let whole = Shape { compacted: false, ..shape.clone() };
        let all = records(&image(&whole).0);
        let live = replay(&all);
        prop_assert_eq!(facts.live_keys, u64::try_from(live.len()).unwrap());
        let puts = records(&bytes).into_iter().filter(|record| !record.revision.tombstone).count();
        prop_assert_eq!(facts.puts, u64::try_from(puts).unwrap());
        if shape.compacted {
            prop_assert_eq!(facts.puts, facts.live_keys);
        }
        // A transaction cannot write a key twice, so large ones in a small store do less than was asked.
        let done = u32::try_from(all.len()).unwrap() - shape.sweep.map_or(0, |sweep| shape.live_keys - sweep.live_keys);
        prop_assert!(done <= shape.records);
        if shape.revisions == shape.records {
            let left = shape.sweep.map_or(shape.live_keys, |sweep| sweep.live_keys);
            prop_assert_eq!((done, facts.live_keys), (shape.records, u64::from(left)));
        }
    }
}
