//! What an index takes of the heap, counted by the allocator; what is mapped is the system's. And that it is right on a file large
//! enough for all cores.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use bbolt::{Build, BuildOptions, Db, FileSource, Io, Source};
use peak_alloc::PeakAlloc;
use snapshot::contents::CRC_32C;
use snapshot::mvcc::{
    Index, IndexOptions, KeyRange, KeyValue, Release, Revision, compaction, hashkv, hashkv_compacted,
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The key's number, the revision, whether it was deleted.
type Record = (u64, i64, bool);

fn key_of(number: u64) -> String {
    // Names share much at their beginning, and differ in length.
    let kind = ["pods", "events", "leases"][usize::try_from(number % 3).unwrap()];
    format!("/registry/{kind}/namespace-{}/{}", number % 11, "x".repeat(usize::try_from(number % 5).unwrap()))
        + &format!("{number:x}")
}

fn make(path: &Path, records: &[Record]) {
    let file = File::create(path).unwrap();
    let mut build = Build::new(&file, BuildOptions::default()).unwrap();
    build.begin_bucket(b"key").unwrap();
    for (number, main, tombstone) in records {
        let key = key_of(*number);
        let mod_revision = if *tombstone { 0 } else { *main };
        let mut record = Vec::new();
        KeyValue { key: key.as_bytes(), mod_revision, ..KeyValue::default() }.encode(&mut record);
        build.put(&Revision { main: *main, sub: 0, tombstone: *tombstone }.encode(), &record).unwrap();
    }
    build.end_bucket().unwrap();
    build.begin_bucket(b"meta").unwrap();
    build.put(b"consistent_index", &7u64.to_be_bytes()).unwrap();
    build.end_bucket().unwrap();
    build.finish().unwrap();
}

fn open(path: &Path, io: Io) -> Db<FileSource> {
    Db::from_source(FileSource::new(File::open(path).unwrap(), path, io).unwrap()).unwrap()
}

fn pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap()
}

/// 36 bytes a record when each is of a key of its own, on top of a part that does not grow: less than the 40 that are promised.
#[test]
fn the_heap_holds_at_most_40_bytes_a_record() {
    const FIXED_BYTES: usize = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    for (count, keys) in [(400_000i64, u64::MAX), (600_000, 1000)] {
        let records: Vec<Record> = (0..count).map(|n| (n.unsigned_abs() % keys, n + 2, false)).collect();
        make(&path, &records);
        drop(records);
        let db = open(&path, Io::Mmap);
        let count = usize::try_from(count).unwrap();
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let index = pool().install(|| Index::build(&db, &IndexOptions::default(), &()).unwrap());
        let peak = HEAP.peak_usage() - before;
        assert_eq!(index.revision_count(), count as u64);
        assert!(index.bytes() >= 32 * count && index.bytes() <= 37 * count, "{}", index.bytes());
        assert!(peak >= index.bytes(), "the allocator does not count");
        assert!(peak <= FIXED_BYTES + 38 * count, "{count} records: {peak} bytes");
    }
}

fn crc_of<S: Source>(db: &Db<S>, counts: impl Fn(usize, Revision) -> bool) -> u64 {
    let mut crc = crc_fast::Digest::new(CRC_32C);
    crc.update(b"key");
    let mut cursor = db.bucket(b"key").unwrap().unwrap().cursor();
    let mut number = 0;
    while let Some(item) = cursor.next().unwrap() {
        if counts(number, Revision::parse(item.key).unwrap()) {
            crc.update(item.key);
            crc.update(item.value);
        }
        number += 1;
    }
    crc.finalize()
}

/// Keys come again in every run of leaves, and die and rise again between them; the leaves are read by several threads.
#[test]
fn a_file_for_all_cores_is_indexed_compacted_and_hashed_as_a_plain_model_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let records: Vec<Record> =
        (0..90_000i64).map(|n| ((n.unsigned_abs() * 0x9e37_79b9) % 20_011, n + 2, n % 7 == 0)).collect();
    make(&path, &records);
    let mut model: BTreeMap<Vec<u8>, Vec<(i64, bool)>> = BTreeMap::new();
    for (number, main, tombstone) in &records {
        model.entry(key_of(*number).into_bytes()).or_default().push((*main, *tombstone));
    }
    let newest = |revision: i64| -> BTreeMap<i64, bool> {
        let upto = model.values().filter_map(|key| key.iter().rfind(|(main, _)| *main <= revision));
        upto.map(|(main, tombstone)| (*main, *tombstone)).collect()
    };
    for io in [Io::Mmap, Io::Pread] {
        let db = open(&path, io);
        assert!(db.page_count() > 1024, "too small to be read by all cores");
        pool().install(|| {
            let index = Index::build(&db, &IndexOptions::default(), &()).unwrap();
            assert_eq!(index.key_count(), model.len());
            for (history, (key, records)) in index.histories().zip(&model) {
                assert_eq!(&*history.key().unwrap(), key.as_slice());
                let found: Vec<_> =
                    history.entries().iter().map(|entry| (entry.main(), entry.is_tombstone())).collect();
                assert_eq!(&found, records);
            }
            assert_eq!(index.histories().rev().count(), model.len());
            let options = IndexOptions {
                range: KeyRange::prefix(b"/registry/pods/namespace-3/"),
                upto: Some(50_000),
                ..IndexOptions::default()
            };
            let part = Index::build(&db, &options, &()).unwrap();
            let wanted = model.iter().filter(|(key, records)| {
                options.range.contains(key) && records.iter().any(|(main, _)| *main <= 50_000)
            });
            let found = part.histories().map(|history| history.key().unwrap());
            assert!(found.eq(wanted.map(|(key, _)| key.as_slice())));
            assert_eq!(part.store(), index.store());

            let whole = hashkv(&db, 0, Release::NEWEST, &()).unwrap();
            assert_eq!(u64::from(whole.hash), crc_of(&db, |_, _| true));
            let (at, compacted) = (80_000, 61_111);
            let newest_at = newest(at);
            let hash = hashkv_compacted(&db, at, Some(compacted), Release::NEWEST, &()).unwrap();
            let expected = crc_of(&db, |_, revision| {
                let superseded = revision.main <= compacted && newest_at.get(&revision.main) != Some(&false);
                revision.main <= at && !superseded
            });
            assert_eq!((u64::from(hash.hash), hash.compact_revision), (expected, compacted));

            let kept = compaction(&db, compacted, Release::NEWEST, &()).unwrap();
            let newest_kept = newest(compacted);
            let mut left = 0;
            for (ordinal, (_, main, _)) in (0..).zip(&records) {
                let stays = *main > compacted
                    || newest_kept.get(main).is_some_and(|tombstone| !tombstone || *main == compacted);
                assert_eq!(kept.kept.contains(ordinal), stays, "record {ordinal}");
                left += u64::from(stays);
            }
            assert_eq!((kept.records_before, kept.records_after), (records.len() as u64, left));
            assert!(kept.records_after < kept.records_before);
        });
    }
}
