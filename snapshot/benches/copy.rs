//! How fast an image gets onto a disk: copied and synced, and, as a restore does it, read back from there too, for one
//! member and for three.
//!
//! `cargo bench -p etcd-rescue-snapshot --bench copy` makes its own file in the directory for temporary files, of one
//! GiB unless `ETCD_RESCUE_BENCH_BYTES` says otherwise; `TMPDIR` chooses the disk. Figures are per byte of that file, which
//! comes from a warm page cache.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bbolt::{FileSource, Io};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use snapshot::overlay::Overlay;
use snapshot::replicate::replicate;

/// Writes about `bytes` bytes, no two pages alike.
fn generate(path: &Path, bytes: u64) {
    let mut file = File::create_new(path).unwrap();
    let mut mebibyte = vec![0x5a; 1 << 20];
    for number in 0..bytes.div_ceil(1 << 20) {
        for (page, chunk) in (0u64..).zip(mebibyte.chunks_mut(4096)) {
            chunk[..8].copy_from_slice(&(number << 8 | page).to_le_bytes());
        }
        file.write_all(&mebibyte).unwrap();
    }
    file.sync_all().unwrap();
}

/// Fresh files in `dir`, which are gone when this is.
struct Fresh {
    files: Vec<(File, PathBuf)>,
}

impl Fresh {
    fn new(dir: &Path, count: usize) -> Self {
        let file = |number| {
            let path = dir.join(format!("copy{number}"));
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
            (file, path)
        };
        Self { files: (0..count).map(file).collect() }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        for (_, path) in &self.files {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Runs `job` on `count` fresh files as often as criterion wants; what it takes to make and remove them does not count.
fn timed(times: u64, dir: &Path, count: usize, job: impl Fn(&[(File, PathBuf)])) -> Duration {
    let run = |_| {
        let fresh = Fresh::new(dir, count);
        let start = Instant::now();
        job(&fresh.files);
        start.elapsed()
    };
    (0..times).map(run).sum()
}

fn copies(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    generate(&path, common::bench_bytes());
    let source = FileSource::new(File::open(&path).unwrap(), &path, Io::Mmap).unwrap();
    let len_bytes = source.file().metadata().unwrap().len();
    let metas = vec![7; 8192];
    let mut group = c.benchmark_group("copy");
    group.sample_size(10).throughput(Throughput::Bytes(len_bytes));
    group.bench_function("io::copy and sync", |b| {
        b.iter_custom(|times| {
            timed(times, dir.path(), 1, |files| {
                let mut from = File::open(&path).unwrap();
                std::io::copy(&mut from, &mut &files[0].0).unwrap();
                files[0].0.sync_all().unwrap();
            })
        });
    });
    for count in [1, 3] {
        group.bench_function(format!("replicate to {count}"), |b| {
            b.iter_custom(|times| {
                timed(times, dir.path(), count, |files| {
                    let image = Overlay::new(&source, len_bytes, [(0, metas.as_slice())]);
                    let targets: Vec<_> = files.iter().map(|(file, path)| (file, path.as_path())).collect();
                    replicate(&image, 0, source.file(), &targets, &()).unwrap();
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, copies);
criterion_main!(benches);
