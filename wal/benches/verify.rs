//! How fast a log is verified: read to its end, every checksum, message and index held against its neighbours.
//!
//! `cargo bench -p etcd-rescue-wal` makes its own logs in memory, of one GiB each unless `ETCD_RESCUE_BENCH_BYTES` says
//! otherwise (2147483648 for two): segments of 64 MB, with entries of 1 to 8 KiB, and with entries whose frames take some
//! 100 bytes, a hard state behind each eighth. Beside it runs what any reader has to do at least: one CRC-32C pass over
//! the same bytes, by one thread. Figures are per byte, and per record for the small ones.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wal::raftpb::{Entry, HardState};
use wal::{LogWriter, MemoryLog, Metadata, SEGMENT_SIZE_BYTES, Segments, log};

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

/// A log of about `bytes` bytes, its entries with `least` to `most` bytes of data.
fn generate(bytes: u64, least: u64, most: u64) -> MemoryLog {
    let mut rng = Rng(1);
    let noise: Vec<u8> = (0..1 << 20).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
    let mut writer = LogWriter::new(Metadata { node_id: Some(rng.below(1 << 31)), cluster_id: Some(2) });
    let mut files = vec![(writer.segment_name(), Vec::new())];
    let (mut index, mut written) = (0u64, 0);
    while written + writer.segment_bytes() < bytes {
        for _ in 0..8 {
            index += 1;
            let len = usize::try_from(least + rng.below(most - least)).unwrap();
            let start = usize::try_from(rng.below(1 << 19)).unwrap();
            let data = noise[start..start + len].to_vec();
            writer.push_entry(&Entry {
                entry_type: Some(0),
                term: Some(3),
                index: Some(index),
                data: Some(data),
            });
        }
        writer.push_hard_state(HardState { term: Some(3), vote: Some(1), commit: Some(index) });
        if writer.segment_bytes() >= SEGMENT_SIZE_BYTES {
            written += writer.segment_bytes();
            writer.cut(&mut files.last_mut().unwrap().1).unwrap();
            files.push((writer.segment_name(), Vec::new()));
        }
    }
    writer.flush(&mut files.last_mut().unwrap().1).unwrap();
    MemoryLog::new(files)
}

fn verify(c: &mut Criterion) {
    for (shape, least, most) in [("1 to 8 KiB", 1 << 10, 8 << 10), ("60 bytes", 50, 70)] {
        let segments = generate(bench_bytes(), least, most);
        let once = log::read(&segments, &|_| ControlFlow::Continue(())).unwrap();
        assert!(once.faults.is_empty(), "{:?}", once.faults);
        let mut group = c.benchmark_group(format!("entries of {shape}"));
        group.sample_size(10).measurement_time(Duration::from_secs(10));
        group.throughput(Throughput::Bytes(once.len_bytes()));
        group.bench_function("one CRC pass", |b| {
            b.iter(|| {
                (0..segments.names().len())
                    .fold(0, |crc, at| wal::crc::update(crc, black_box(&segments.piece(at).bytes)))
            });
        });
        group.bench_function("verify", |b| {
            b.iter(|| log::read(&segments, &|_| ControlFlow::Continue(())).unwrap());
        });
        group.throughput(Throughput::Elements(once.records()));
        group.bench_function("verify, records", |b| {
            b.iter(|| log::read(&segments, &|_| ControlFlow::Continue(())).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, verify);
criterion_main!(benches);
