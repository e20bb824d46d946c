//! What `case add` costs for each record of a source, and `case key` of the case that comes of it.
//!
//! `cargo bench -p etcd-rescue-casefile` makes its own file in a temporary directory, of 64 MiB unless `ETCD_RESCUE_BENCH_BYTES` says
//! otherwise: keys of 60 bytes, values of 64, of each key three records or so, the same bytes on every run. Ingest is counted in
//! records, from a warm page cache, hashes and the checks of `verify` included. A key is asked of a case that was opened for it, as
//! the program does, and of one that is open.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bbolt::{Build, BuildOptions};
use casefile::{AddOptions, Case, Timeline, add};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use snapshot::mvcc::{KeyValue, Revision};

const BYTES: u64 = 64 << 20;
/// What a record takes in the file, more or less.
const RECORD_BYTES: u64 = 190;

fn bench_bytes() -> u64 {
    match std::env::var("ETCD_RESCUE_BENCH_BYTES") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("ETCD_RESCUE_BENCH_BYTES={text}: not a number")),
        Err(_) => BYTES,
    }
}

fn name(key: u64) -> String {
    format!("/registry/pods/namespace-{:03}/workload-{key:08x}-0123456789abcdef01", key % 977)
}

/// Writes a database of so many records to `path`.
fn generate(path: &Path, records: u64) {
    let mut build = Build::new(File::create(path).unwrap(), BuildOptions::default()).unwrap();
    // Knuth's MMIX generator; the upper bits are the good ones.
    let mut state = 1u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    build.begin_bucket(b"key").unwrap();
    for main in (2i64..).take(usize::try_from(records).unwrap()) {
        let revision = Revision { main, sub: 0, tombstone: below(16) == 0 };
        let name = name(below(records / 3 + 1));
        let value: Vec<u8> = (0..64).map(|_| u8::try_from(below(256)).unwrap()).collect();
        let put = KeyValue {
            key: name.as_bytes(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            value: &value,
            lease: 0,
        };
        let gone = KeyValue { key: name.as_bytes(), ..KeyValue::default() };
        let mut record = Vec::new();
        if revision.tombstone { gone } else { put }.encode(&mut record);
        build.put(&revision.encode(), &record).unwrap();
    }
    build.end_bucket().unwrap();
    build.finish().unwrap();
}

fn case(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (source, path) = (dir.path().join("db"), dir.path().join("evidence.case"));
    let records = bench_bytes() / RECORD_BYTES;
    generate(&source, records);

    let mut group = criterion.benchmark_group("case");
    group.throughput(Throughput::Elements(records)).sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("add", |bencher| {
        let fresh = || {
            _ = fs::remove_file(&path);
            Case::create(&path, "").unwrap();
        };
        let add = |()| add(&path, "a", &source, &AddOptions::default(), &()).unwrap();
        bencher.iter_batched(fresh, add, BatchSize::PerIteration);
    });
    group.bench_function("timeline", |bencher| {
        let case = Case::open(&path).unwrap();
        bencher.iter(|| {
            let mut rows = 0u64;
            case.timeline(&Timeline::default(), &mut |row| {
                rows += u64::from(row.main > 0);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
            black_box(rows)
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("case key");
    let asked = name(records / 7);
    group.bench_function("opened anew", |bencher| {
        bencher.iter(|| black_box(Case::open(&path).unwrap().key(asked.as_bytes()).unwrap().steps.len()));
    });
    let open = Case::open(&path).unwrap();
    group.bench_function("open", |bencher| {
        bencher.iter(|| black_box(open.key(asked.as_bytes()).unwrap().steps.len()));
    });
    group.finish();
}

criterion_group!(benches, case);
criterion_main!(benches);
