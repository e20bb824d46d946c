//! What `wal dump` costs on a large log, in each form, and beside it one pass over the bytes and the reading of the log alone.
//!
//! `cargo bench -p etcd-rescue-snapshot --bench log_dump` writes its own log to a temporary directory, of one GiB unless
//! `ETCD_RESCUE_BENCH_BYTES` says otherwise: transactions of about a hundred puts with values of 0.5 to 8 KiB, every
//! seventeenth operation a delete, the same bytes on every run. Figures are per byte of that log, from a warm page cache;
//! what is printed goes nowhere.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

mod common;

use std::fs::{self, File};
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::encoding::encode_varint;
use snapshot::log_dump::{Begin, DumpOptions, Filter, Form, LogDump};
use snapshot::log_files::{self, LogOptions};
use snapshot::request::Style;
use wal::raftpb::{Entry, HardState};
use wal::{LogWriter, Metadata, SEGMENT_SIZE_BYTES, Segments};

/// Appends a field of bytes.
fn field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(number << 3 | 2, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a log of about `bytes` bytes into `dir`.
fn generate(dir: &Path, bytes: u64) {
    // Knuth's MMIX generator; the upper bits are the good ones.
    let mut state = 1u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let noise: Vec<u8> = (0..1 << 20).map(|_| b' ' + u8::try_from(below(95)).unwrap()).collect();
    let mut log = LogWriter::new(Metadata { node_id: Some(1), cluster_id: Some(2) });
    let mut segment = File::create(dir.join(log.segment_name())).unwrap();
    let mut written = 0;
    for index in 1.. {
        let mut txn = Vec::new();
        for _ in 0..50 + below(100) {
            let key = format!("/registry/pods/namespace-{:03}/workload-{:08x}", below(977), below(1 << 20));
            let (mut request, mut op) = (Vec::new(), Vec::new());
            field(1, key.as_bytes(), &mut request);
            if below(17) == 0 {
                field(3, &request, &mut op);
            } else {
                let len = 512 + below(7680);
                let start = usize::try_from(below((1 << 20) - len)).unwrap();
                field(2, &noise[start..start + usize::try_from(len).unwrap()], &mut request);
                field(2, &request, &mut op);
            }
            field(2, &op, &mut txn);
        }
        let mut data = Vec::new();
        field(6, &txn, &mut data);
        field(100, &[8, 200, 1], &mut data);
        written += data.len() as u64;
        log.push_entry(&Entry { entry_type: Some(0), term: Some(2), index: Some(index), data: Some(data) });
        log.push_hard_state(HardState { term: Some(2), vote: Some(1), commit: Some(index) });
        log.flush(&mut segment).unwrap();
        if written >= bytes {
            return;
        }
        if log.segment_bytes() >= SEGMENT_SIZE_BYTES {
            log.cut(&mut segment).unwrap();
            segment = File::create(dir.join(log.segment_name())).unwrap();
            log.flush(&mut segment).unwrap();
        }
    }
}

fn dump(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    generate(dir.path(), common::bench_bytes());
    let open = || log_files::open(dir.path(), &LogOptions::default(), &()).unwrap();
    let len_bytes = open().len_bytes();
    let mut group = criterion.benchmark_group("wal dump");
    group.throughput(Throughput::Bytes(len_bytes)).sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("one pass over the files", |bencher| {
        bencher.iter(|| {
            for entry in fs::read_dir(dir.path()).unwrap() {
                io::copy(&mut File::open(entry.unwrap().path()).unwrap(), &mut io::sink()).unwrap();
            }
        });
    });
    group.bench_function("one CRC-32C over the map", |bencher| {
        let files = open();
        let at = 0..files.names().len();
        bencher.iter(|| at.clone().fold(0, |crc, at| wal::crc::update(crc, &files.piece(at).bytes)));
    });
    group.bench_function("reading", |bencher| {
        bencher.iter(|| black_box(LogDump::read(&open(), &()).unwrap().has_faults()));
    });
    for (name, form, cut) in [
        ("json", Form::Json { crc: false }, Some(128)),
        ("json, full values", Form::Json { crc: false }, None),
        ("rows", Form::Rows, Some(128)),
        ("rows, full values", Form::Rows, None),
        ("raw", Form::Raw, Some(128)),
    ] {
        let style = Style { cut, show_secrets: false };
        let options = DumpOptions { form, style, filter: Filter::default(), types: String::new() };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let files = open();
                let dump = LogDump::read(&files, &()).unwrap();
                let (start, _) = dump.start(&Begin::First).unwrap();
                black_box(dump.print(&start, &options, &mut io::sink(), None, &()).unwrap())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, dump);
criterion_main!(benches);
