//! How fast a large file is written, checked, walked (by cursor, and by the leaves that threads share) and carved.
//!
//! `cargo bench -p etcd-rescue-bbolt` makes its own file in a temporary directory, of one GiB unless
//! `ETCD_RESCUE_BENCH_BYTES` says otherwise: etcd's revisions as keys, values of 0.5 to 8 KiB, a sixth of the pages
//! free, the same bytes on every run. Figures are per byte of that file, from a warm page cache.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::time::Duration;

use bbolt::carve::Leaf;
use bbolt::page_file::PageFile;
use bbolt::reach::Start;
use bbolt::{
    Build, BuildOptions, Built, Db, FileSource, Io, OpenOptions, PageWriter, Source, carve, check, open,
    reach,
};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use rayon::prelude::*;

/// Threads for the parallel walk; more than cores are not used.
const PARTS: usize = 64;

fn bench_bytes() -> u64 {
    match std::env::var("ETCD_RESCUE_BENCH_BYTES") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("ETCD_RESCUE_BENCH_BYTES={text}: not a number")),
        Err(_) => 1 << 30,
    }
}

/// Knuth's MMIX generator; the upper bits are the good ones.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Writes a file of about `bytes` bytes.
fn generate<W: PageWriter>(writer: W, bytes: u64) -> Built {
    let noise: Vec<u8> = {
        let mut rng = Rng(1);
        (0..1 << 20).map(|_| u8::try_from(rng.below(256)).unwrap()).collect()
    };
    let mut rng = Rng(2);
    let mut build = Build::new(writer, BuildOptions::default()).unwrap();
    let value = |rng: &mut Rng| {
        let len = usize::try_from(512 + rng.below(7680)).unwrap();
        let start = usize::try_from(rng.below(1 << 20)).unwrap().min(noise.len() - len);
        &noise[start..start + len]
    };
    build.begin_bucket(b"key").unwrap();
    let mut key = *b"\0\0\0\0\0\0\0\0_\0\0\0\0\0\0\0\0";
    let mut written = 0;
    for main in 2u64.. {
        key[..8].copy_from_slice(&main.to_be_bytes());
        for sub in 0..100u64 {
            key[9..].copy_from_slice(&sub.to_be_bytes());
            let value = value(&mut rng);
            build.put(&key, value).unwrap();
            written += (key.len() + value.len()) as u64;
        }
        if main % 5 == 0 {
            build.begin_bucket(&[&key[..], b"~"].concat()).unwrap();
            for number in 0..100u64 {
                let value = value(&mut rng);
                build.put(&number.to_be_bytes(), value).unwrap();
                written += value.len() as u64;
            }
            build.discard_bucket().unwrap();
        }
        if written >= bytes {
            break;
        }
    }
    build.end_bucket().unwrap();
    build.finish().unwrap()
}

/// Takes pages and forgets them: the writer without a disk.
struct Nowhere;

impl PageWriter for Nowhere {
    fn write_at(&mut self, _: u64, bytes: &[u8]) -> io::Result<()> {
        black_box(bytes);
        Ok(())
    }
}

fn building(group: &mut BenchmarkGroup<'_, WallTime>, dir: &Path, bytes: u64) {
    group.bench_function("build, to nowhere", |b| b.iter(|| generate(Nowhere, bytes)));
    group.bench_function("build, to a file", |b| {
        let path = dir.join("built");
        b.iter(|| generate(&File::create(&path).unwrap(), bytes));
        std::fs::remove_file(&path).unwrap();
    });
}

fn walking(group: &mut BenchmarkGroup<'_, WallTime>, db: &Db<FileSource>) {
    let bucket = || db.bucket(b"key").unwrap().unwrap();
    group.bench_function("cursor", |b| {
        b.iter(|| {
            let mut cursor = bucket().cursor();
            let mut sum = 0;
            while let Some(item) = cursor.next().unwrap() {
                sum += item.key.len() + item.value.len();
            }
            sum
        });
    });
    group.bench_function("leaf ranges, all cores", |b| {
        b.iter(|| {
            let ranges = bucket().leaf_ranges(PARTS).unwrap();
            let of_range = |range: &bbolt::LeafRange<'_, FileSource>| {
                let pairs = |node: bbolt::Node<'_>| -> usize {
                    (0..node.count()).map(|i| node.key(i).len() + node.value(i).len()).sum()
                };
                range.nodes().map(|node| pairs(node.unwrap())).sum::<usize>()
            };
            ranges.par_iter().map(of_range).sum::<usize>()
        });
    });
    group.bench_function("check", |b| {
        b.iter(|| {
            let report = check(db, &());
            assert!(report.is_sound());
            report.statistics
        });
    });
}

/// What a pass over all pages costs, beside a look at every byte of the file.
fn carving(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path) {
    let file = File::open(path).unwrap();
    let pages = PageFile::search(FileSource::new(file, path, Io::Mmap).unwrap(), None).unwrap();
    let len_bytes = pages.source().len_bytes();
    group.bench_function("every byte, all cores", |b| {
        let sum = |window: u64| {
            let offset = window << 21;
            let bytes = pages.source().bytes(offset, (len_bytes - offset).min(1 << 21)).unwrap();
            let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
            words.fold(0, u64::wrapping_add)
        };
        b.iter(|| (0..len_bytes.div_ceil(1 << 21)).into_par_iter().map(sum).reduce(|| 0, u64::wrapping_add));
    });
    let root = Start::Page(pages.meta().unwrap().root);
    group.bench_function("reach", |b| b.iter(|| reach(&pages, root, &|_, _| true, &()).unwrap()));
    let tree = reach(&pages, root, &|_, _| true, &()).unwrap();
    // First and last revision, as the caller that salvages asks.
    let judge = |leaf: &Leaf<'_>| {
        let word = |key: &[u8]| key.first_chunk().map(|word| u64::from_be_bytes(*word));
        let keys = leaf.elements().filter_map(|element| word(element.key));
        keys.fold((u64::MAX, 0), |(first, last), revision| (revision.min(first), revision.max(last)))
    };
    group.bench_function("carve", |b| b.iter(|| carve(&pages, Some(&tree.used), &judge, &()).unwrap()));
}

fn files(criterion: &mut Criterion) {
    let bytes = bench_bytes();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let built = generate(&File::create_new(&path).unwrap(), bytes);
    let mut group = criterion.benchmark_group("bbolt");
    group.throughput(Throughput::Bytes(built.len_bytes));
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    let db = open(&path, &OpenOptions::default()).unwrap();
    walking(&mut group, &db);
    drop(db);
    carving(&mut group, &path);
    building(&mut group, dir.path(), bytes);
    group.finish();
}

criterion_group!(benches, files);
criterion_main!(benches);
