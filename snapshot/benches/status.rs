//! What `snapshot status` costs on a large file: all of it, all of it but the SHA-256, and the parts it is made of; and, of the
//! same file, the jobs on its key space.
//!
//! `cargo bench -p etcd-rescue-snapshot` makes its own file in a temporary directory, of one GiB unless
//! `ETCD_RESCUE_BENCH_BYTES` says otherwise: etcd's records of 0.5 to 4 KiB, of which about half are the newest of their
//! key, the same bytes on every run. Figures are per byte of that file, from a warm page cache.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

mod common;

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bbolt::{Build, BuildOptions, Db, FileSource, Io, Source};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use snapshot::mvcc::{Index, IndexOptions, KeyRange, KeyValue, Release, Revision, compaction, hashkv};
use snapshot::status::{StatusOptions, of_source};
use snapshot::{contents, integrity, structure};

/// Writes a snapshot of about `bytes` bytes, with its trailer, to `path`.
fn generate(path: &Path, bytes: u64) {
    let file = File::create(path).unwrap();
    let mut build = Build::new(&file, BuildOptions::default()).unwrap();
    // Knuth's MMIX generator; the upper bits are the good ones.
    let mut state = 1u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let noise: Vec<u8> = (0..1 << 20).map(|_| u8::try_from(below(256)).unwrap()).collect();
    let keys = bytes / 2300 / 2 + 1;
    build.begin_bucket(b"key").unwrap();
    let mut written = 0;
    for main in 2i64.. {
        let revision = Revision { main, sub: 0, tombstone: below(16) == 0 };
        let key = below(keys);
        let name = format!("/registry/pods/namespace-{:03}/workload-{key:08x}", key % 977);
        let len = 512 + below(3584);
        let start = usize::try_from(below((1 << 20) - len)).unwrap();
        let end = start + usize::try_from(len).unwrap();
        let kv = KeyValue {
            key: name.as_bytes(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            value: &noise[start..end],
            lease: 0,
        };
        let mut record = Vec::new();
        kv.encode(&mut record);
        build.put(&revision.encode(), &record).unwrap();
        written += record.len() as u64;
        if written >= bytes {
            break;
        }
    }
    build.end_bucket().unwrap();
    build.finish().unwrap();
    let image = FileSource::new(File::open(path).unwrap(), path, Io::Mmap).unwrap();
    let digest = integrity::sha256(&image, image.len_bytes(), &()).unwrap();
    OpenOptions::new().append(true).open(path).unwrap().write_all(&digest.0).unwrap();
}

fn status(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    generate(&path, common::bench_bytes());
    let open = |io| FileSource::new(File::open(&path).unwrap(), &path, io).unwrap();
    let source = open(Io::Mmap);
    let len_bytes = source.len_bytes();
    let mut group = criterion.benchmark_group("status");
    group.throughput(Throughput::Bytes(len_bytes)).sample_size(10).measurement_time(Duration::from_secs(10));
    // Opened anew each time, as the program does: the first touch of each page is part of the price.
    for (name, io, skip_hash_check) in [
        ("default", Io::Mmap, false),
        ("skip hash check", Io::Mmap, true),
        ("skip hash check, pread", Io::Pread, true),
    ] {
        let options = StatusOptions { skip_hash_check };
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(of_source(&open(io), "db", &options, &()).unwrap()));
        });
    }
    group.bench_function("open and metas", |bencher| {
        bencher.iter(|| black_box(*Db::from_source(open(Io::Mmap)).unwrap().meta()));
    });
    let db = Db::from_source(&source).unwrap();
    group.bench_function("structure alone", |bencher| {
        bencher.iter(|| black_box(structure::check(&db, &()).unwrap()));
    });
    group.bench_function("contents alone", |bencher| {
        bencher.iter(|| black_box(contents::read(&db, &()).unwrap()));
    });
    group.finish();

    let mut group = criterion.benchmark_group("key space");
    group.throughput(Throughput::Bytes(len_bytes)).sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("hashkv", |bencher| {
        bencher.iter(|| black_box(hashkv(&db, 0, Release::default(), &()).unwrap()));
    });
    group.bench_function("compaction", |bencher| {
        bencher.iter(|| black_box(compaction(&db, 0, Release::default(), &()).unwrap()));
    });
    for (name, range) in [("index", KeyRange::all()), ("index of one key", KeyRange::single(b"/registry/a"))]
    {
        let options = IndexOptions { range, ..IndexOptions::default() };
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(Index::build(&db, &options, &()).unwrap().key_count()));
        });
    }
    group.finish();
}

fn hash(criterion: &mut Criterion) {
    let bytes = vec![0x5au8; 256 << 20];
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(10);
    group.bench_function("sha256", |bencher| {
        bencher.iter(|| black_box(integrity::sha256(&bytes, bytes.len() as u64, &()).unwrap()));
    });
    group.bench_function("crc32c", |bencher| {
        bencher.iter(|| black_box(crc_fast::checksum(contents::CRC_32C, &bytes)));
    });
    group.finish();
}

criterion_group!(benches, status, hash);
criterion_main!(benches);
