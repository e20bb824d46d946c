//! `status` of files large enough for all cores: right in one pass, and lean. The heap is counted by the allocator; what is
//! mapped is the system's.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use bbolt::{Build, BuildOptions, FileSource, Io};
use peak_alloc::PeakAlloc;
use snapshot::contents::{self, CRC_32C};
use snapshot::mvcc::{KeyValue, Revision};
use snapshot::status::{Status, StatusOptions, StatusReport, of_source};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Held by each test, since the heap is everybody's.
static ALONE: Mutex<()> = Mutex::new(());

/// What a file was made of.
struct Made {
    crc: crc_fast::Digest,
    revision: i64,
    live: BTreeMap<u64, bool>,
}

/// A `mvccpb.KeyValue` with `key`, which a revision's record holds.
fn record(key: u64, value_bytes: u8) -> Vec<u8> {
    let name = format!("/registry/pods/{key:016x}");
    let value = vec![b'v'; value_bytes.into()];
    let mut record = Vec::new();
    KeyValue { key: name.as_bytes(), value: &value, ..KeyValue::default() }.encode(&mut record);
    record
}

/// A db with `records` revisions, of which every `delete_each`th deletes, over keys chosen by `key_of`, between other
/// buckets: inline, nested, and with pages of their own.
fn make(path: &Path, records: i64, delete_each: i64, value_bytes: u8, key_of: impl Fn(i64) -> u64) -> Made {
    let file = File::create(path).unwrap();
    let mut build = Build::new(&file, BuildOptions::default()).unwrap();
    let mut made = Made { crc: crc_fast::Digest::new(CRC_32C), revision: 0, live: BTreeMap::new() };
    let put = |build: &mut Build<&File>, crc: &mut crc_fast::Digest, key: &[u8], value: &[u8]| {
        build.put(key, value).unwrap();
        crc.update(key);
        crc.update(value);
    };
    for name in ["alarm", "auth", "key", "lease", "meta"] {
        build.begin_bucket(name.as_bytes()).unwrap();
        made.crc.update(name.as_bytes());
        match name {
            "key" => {
                for n in 1..=records {
                    let tombstone = n % delete_each == 0;
                    let key = key_of(n);
                    let revision = Revision { main: n + 1, sub: 0, tombstone };
                    put(&mut build, &mut made.crc, &revision.encode(), &record(key, value_bytes));
                    made.live.insert(key, !tombstone);
                    made.revision = n + 1;
                }
            }
            // The hash knows a nested bucket by its name alone.
            "auth" => {
                for (nested, rows) in [("large", 500u32), ("small", 1)] {
                    build.begin_bucket(nested.as_bytes()).unwrap();
                    made.crc.update(nested.as_bytes());
                    (0..rows).for_each(|row| build.put(&row.to_be_bytes(), &[0; 40]).unwrap());
                    build.end_bucket().unwrap();
                }
            }
            "lease" => {
                for id in 0..2000u64 {
                    put(&mut build, &mut made.crc, &id.to_be_bytes(), b"\x10\x3c");
                }
            }
            "meta" => put(&mut build, &mut made.crc, b"consistent_index", &7u64.to_be_bytes()),
            _ => {}
        }
        build.end_bucket().unwrap();
    }
    build.finish().unwrap();
    made
}

fn status_of(path: &Path, io: Io) -> StatusReport {
    let source = FileSource::new(File::open(path).unwrap(), path, io).unwrap();
    of_source(&source, "db", &StatusOptions::default(), &()).unwrap()
}

fn pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap()
}

/// Keys come again in every run of leaves, and die and rise again between them.
#[test]
fn one_pass_over_all_buckets_says_what_was_written() {
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let made = make(&path, 120_000, 7, 50, |n| (n.unsigned_abs() * 0x9e37_79b9) % 20_011);
    let live = made.live.values().filter(|live| **live).count() as u64;
    for io in [Io::Mmap, Io::Pread] {
        let report = pool().install(|| status_of(&path, io));
        assert_eq!(report.findings, []);
        let Status { hash, revision, total_key, .. } = report.status.unwrap();
        assert_eq!(
            (u64::from(hash), revision, total_key),
            (made.crc.finalize(), made.revision, live),
            "{io:?}"
        );
    }
    // And so says the pass that does not check.
    let db = bbolt::open(&path, &bbolt::OpenOptions::default()).unwrap();
    assert!(db.page_count() > 2048, "too small to be read by all cores");
    let contents = pool().install(|| contents::read(&db, &()).unwrap());
    assert_eq!(
        (u64::from(contents.hash), contents.revision, contents.live_keys),
        (made.crc.finalize(), made.revision, live)
    );
    assert!(contents.has_registry_keys);
}

/// 32 bytes a distinct key, on top of a part that does not grow: less than the 64 MiB that are promised.
#[test]
fn the_heap_holds_at_most_32_bytes_a_distinct_key() {
    const FIXED_BYTES: usize = 8 << 20;
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let pool = pool();
    for (keys, io) in [(40_000, Io::Mmap), (330_000, Io::Pread), (525_000, Io::Mmap), (1_311_000, Io::Mmap)] {
        make(&path, keys, i64::MAX, 0, i64::unsigned_abs);
        let keys = usize::try_from(keys).unwrap();
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let report = pool.install(|| status_of(&path, io));
        let peak = HEAP.peak_usage() - before;
        assert_eq!(report.status.unwrap().total_key, keys as u64);
        assert!(peak >= 16 * keys, "{keys} keys in {peak} bytes: the allocator does not count");
        assert!(peak <= FIXED_BYTES + 32 * keys, "{keys} keys: {peak} bytes");
    }
}
