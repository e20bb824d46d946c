//! What real servers wrote in several segments, written again: where they cut, what the next segment begins with, what
//! it is called. About 10 seconds a version.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use prost::Message;
use testdata::oracle::{Launch, Run, Server, Version};
use wal::{LogWriter, RecordType, Resume, SEGMENT_SIZE_BYTES, Saved, read_segment};

/// Enough values of a megabyte for one cut; the server is stopped and started after so many.
const PUTS: usize = 66;
const PUTS_BEFORE_THE_STOP: usize = 30;
const VALUE_BYTES: usize = 1_000_003;

/// A segment as it lies in the directory.
type Segment = (String, Vec<u8>);

fn put_from_file(server: &Server, key: &str, value: &Path) {
    let mut command = server.tools().command("etcdctl");
    command.args(["--endpoints", server.client_url(), "put", key]);
    command.stdin(Stdio::from(File::open(value).unwrap()));
    Run::to_end(command).ok();
}

fn log_of(version: Version) -> Vec<Segment> {
    let dir = tempfile::tempdir().unwrap();
    let value = dir.path().join("value");
    fs::write(&value, vec![b'v'; VALUE_BYTES]).unwrap();
    let data_dir = dir.path().join("m1");
    let mut server = Launch::new(version, &data_dir, "m1").start();
    for number in 0..PUTS {
        if number == PUTS_BEFORE_THE_STOP {
            server.restart();
        }
        put_from_file(&server, &format!("k{}", number % 3), &value);
    }
    // Small saves in the second segment, too.
    for number in 0..5 {
        server.put("small", number.to_string());
    }
    server.stop();
    let wal_dir = data_dir.join("member/wal");
    let mut segments: Vec<Segment> = fs::read_dir(&wal_dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name.ends_with(".wal"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    segments.sort();
    segments
}

/// One thing a server wrote at once.
#[derive(Debug, Default)]
struct Save<'a> {
    entries: Vec<&'a [u8]>,
    state: Option<&'a [u8]>,
    snapshot: Option<&'a [u8]>,
}

/// The saves of a segment without its head. A single member with a single client saves each entry with the hard state
/// that commits it.
fn saves<'a>(bytes: &'a [u8], skip: usize) -> (Vec<Save<'a>>, u64) {
    let mut segment = read_segment(bytes);
    let mut saves: Vec<Save<'a>> = Vec::new();
    let mut save = Save::default();
    for record in segment.by_ref().skip(skip) {
        let record = record.unwrap();
        match record.record_type {
            RecordType::Entry => save.entries.push(record.data),
            RecordType::State => {
                save.state = Some(record.data);
                saves.push(std::mem::take(&mut save));
            }
            RecordType::Snapshot => saves.push(Save { snapshot: Some(record.data), ..Save::default() }),
            other => panic!("{other:?} in the middle of a segment"),
        }
    }
    if !save.entries.is_empty() {
        saves.push(save);
    }
    (saves, segment.offset())
}

/// How many records a segment begins with that the writer makes by itself: crc, metadata, and snapshot at 0 or hard
/// state.
const HEAD_RECORDS: usize = 3;

fn assert_written_again(version: Version) {
    let segments = log_of(version);
    assert!(segments.len() >= 2, "{version:?}: {} segments", segments.len());
    let metadata = read_segment(&segments[0].1)
        .map(|record| record.unwrap())
        .find(|record| record.record_type == RecordType::Metadata)
        .map(|record| record.data.to_vec())
        .unwrap();
    let mut writer = LogWriter::with_metadata(metadata.clone());
    for (at, (name, bytes)) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        assert_eq!(writer.segment_name(), *name, "{version:?}");
        let (saves, end) = saves(bytes, HEAD_RECORDS);
        let mut written = Vec::new();
        let (mut last_index, mut state) = (0, None);
        for (number, save) in saves.iter().enumerate() {
            if let Some(snapshot) = save.snapshot {
                writer.push_raw(RecordType::Snapshot, snapshot).unwrap();
                continue;
            }
            let saved = writer.save(save.entries.iter().copied(), save.state).unwrap();
            let is_cut = !is_last && number + 1 == saves.len();
            assert_eq!(saved == Saved::CutDue, is_cut, "{version:?}: save {number} of {name}: {saved:?}");
            last_index = save
                .entries
                .last()
                .map_or(last_index, |entry| wal::raftpb::Entry::decode(*entry).unwrap().index());
            state = save.state.map(<[u8]>::to_vec).or(state);
            // A writer that knows no more than a reader does goes on alike.
            if number == saves.len() / 2 {
                writer.flush(&mut written).unwrap();
                let (seq, first_index) = wal::parse_segment_name(name).unwrap();
                writer = LogWriter::resume(Resume {
                    seq,
                    first_index,
                    last_index,
                    crc: writer.crc(),
                    metadata: metadata.clone(),
                    state: state.clone(),
                    offset: writer.segment_bytes(),
                })
                .unwrap();
            }
        }
        if is_last {
            writer.flush(&mut written).unwrap();
            assert_eq!(bytes.len() as u64, SEGMENT_SIZE_BYTES);
            assert!(bytes[usize::try_from(end).unwrap()..].iter().all(|byte| *byte == 0));
        } else {
            writer.cut(&mut written).unwrap();
            assert_eq!(bytes.len() as u64, end, "{version:?}: {name} ends with its last record");
        }
        assert!(written == bytes[..usize::try_from(end).unwrap()], "{version:?}: {name} differs");
    }
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_logs_of_several_segments_3_4() {
    assert_written_again(Version::V3_4);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_logs_of_several_segments_3_5() {
    assert_written_again(Version::V3_5_1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_logs_of_several_segments_3_5_new() {
    assert_written_again(Version::V3_5New);
}
