//! Logs written record by record, against the logs of real servers, and cut into segments.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::golden;
use proptest::prelude::*;
use prost::Message;
use wal::raftpb::{Entry, EntryType, HardState};
use wal::{
    LogWriter, Metadata, Payload, Record, RecordType, SEGMENT_SIZE_BYTES, Saved, parse_segment_name,
    read_segment, summarize, walpb,
};

/// What servers wrote, read and written again, is the same to the byte: types, CRCs, lengths and padding.
#[test]
fn logs_of_servers_are_written_again() {
    for version in ["3.4.23", "3.5.30", "3.7.1"] {
        let bytes = golden(&format!("live-{version}.wal.zst"));
        let summary = summarize(&bytes).unwrap();
        let mut writer = LogWriter::new(summary.metadata.unwrap());
        // The writer itself begins with crc, metadata and the snapshot at 0.
        for record in read_segment(&bytes).skip(3) {
            let record = record.unwrap();
            match record.payload().unwrap() {
                Payload::Entry(_) => writer.push_entry(&Entry::decode(record.data).unwrap()),
                Payload::State(state) => writer.push_hard_state(state),
                Payload::Snapshot(snapshot) => writer.push_snapshot(&snapshot),
                other => panic!("{version}: {other:?} in the middle of a segment"),
            }
        }
        let mut written = Vec::new();
        writer.flush(&mut written).unwrap();
        let end = usize::try_from(summary.end_offset).unwrap();
        assert_eq!(written, bytes[..end], "{version}");
        assert_eq!(writer.segment_bytes(), summary.end_offset);
        assert_eq!(writer.segment_name(), "0000000000000000-0000000000000000.wal");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Entry(Vec<u8>),
    State,
    Snapshot,
    Flush,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Step::Entry),
        2 => Just(Step::State),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Flush),
        1 => Just(Step::Cut),
    ]
}

/// One segment as it was written: its name, and its file.
type Segment = (String, Vec<u8>);

fn write(steps: &[Step]) -> Vec<Segment> {
    let mut writer = LogWriter::new(Metadata { node_id: Some(7), cluster_id: Some(9) });
    let mut segments = vec![(writer.segment_name(), Vec::new())];
    let mut index = 0;
    for step in steps {
        let file = &mut segments.last_mut().unwrap().1;
        match step {
            Step::Entry(data) => {
                index += 1;
                writer.push_entry(&Entry {
                    entry_type: Some(EntryType::Normal.into()),
                    term: Some(2),
                    index: Some(index),
                    data: Some(data.clone()),
                });
            }
            Step::State => {
                writer.push_hard_state(HardState { term: Some(2), vote: Some(7), commit: Some(index) });
            }
            Step::Snapshot => {
                writer.push_snapshot(&walpb::Snapshot {
                    index: Some(index),
                    term: Some(2),
                    conf_state: None,
                });
            }
            Step::Flush => {
                writer.flush(file).unwrap();
                assert_eq!(writer.segment_bytes(), u64::try_from(file.len()).unwrap());
            }
            Step::Cut => {
                writer.cut(file).unwrap();
                segments.push((writer.segment_name(), Vec::new()));
            }
        }
    }
    writer.flush(&mut segments.last_mut().unwrap().1).unwrap();
    segments
}

fn types(records: &[Record<'_>]) -> Vec<RecordType> {
    records.iter().map(|record| record.record_type).collect()
}

proptest! {
    /// The chain of FORMATS E.3, over all segments: each begins with the CRC the one before ended with, the same
    /// metadata and the last state, and together they hold what was pushed, in order.
    #[test]
    fn segments_are_one_chain(steps in prop::collection::vec(step(), 0..60)) {
        let segments = write(&steps);
        let (mut crc, mut last_index, mut state) = (0, 0, None);
        let mut entries = Vec::new();
        let mut pushed_states = 0;
        for (number, (name, bytes)) in segments.iter().enumerate() {
            let first = number == 0;
            let named = (u64::try_from(number).unwrap(), if first { 0 } else { last_index + 1 });
            prop_assert_eq!(parse_segment_name(name), Some(named));
            let records: Vec<Record<'_>> = read_segment(bytes).collect::<Result<_, _>>().unwrap();
            let head = if first {
                vec![RecordType::Crc, RecordType::Metadata, RecordType::Snapshot]
            } else if state.is_some() {
                vec![RecordType::Crc, RecordType::Metadata, RecordType::State]
            } else {
                vec![RecordType::Crc, RecordType::Metadata]
            };
            prop_assert_eq!(types(&records[..head.len()]), head.clone());
            prop_assert_eq!(records[0].crc, crc);
            prop_assert_eq!(records[1].data, [8, 7, 16, 9]);
            if !first && let Some(state) = state {
                prop_assert_eq!(records[2].payload().unwrap(), Payload::State(state));
            }
            for record in &records[head.len()..] {
                match record.payload().unwrap() {
                    Payload::Entry(entry) => {
                        last_index = entry.index;
                        entries.push(entry.data.to_vec());
                    }
                    Payload::State(pushed) => {
                        state = Some(pushed);
                        pushed_states += 1;
                    }
                    Payload::Snapshot(_) => {}
                    other => prop_assert!(false, "{:?} in the middle of a segment", other),
                }
            }
            crc = records.last().unwrap().crc;
        }
        let pushed: Vec<Vec<u8>> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Entry(data) => Some(data.clone()),
                _ => None,
            })
            .collect();
        prop_assert_eq!(entries, pushed);
        prop_assert_eq!(pushed_states, steps.iter().filter(|step| matches!(step, Step::State)).count());
    }
}

/// A file that takes no more.
struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_segment_that_cannot_be_written_goes_on() {
    let mut writer = LogWriter::new(Metadata { node_id: Some(1), cluster_id: Some(2) });
    let before = (writer.segment_name(), writer.segment_bytes(), writer.crc());
    assert_eq!(writer.cut(&mut Full).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!((writer.segment_name(), writer.segment_bytes(), writer.crc()), before);
    let mut file = Vec::new();
    writer.flush(&mut file).unwrap();
    assert_eq!(read_segment(&file).count(), 3);
}

/// A segment whose records end just where a server would cut, written in pieces that the buffer holds back or not.
#[test]
fn a_cut_is_due_by_what_was_handed_to_the_file() {
    let metadata = Metadata { node_id: Some(1), cluster_id: Some(2) };
    let entry = |index: u64, len: usize| {
        let entry = Entry {
            entry_type: Some(EntryType::Normal.into()),
            term: Some(1),
            index: Some(index),
            data: Some(vec![7; len]),
        };
        Message::encode_to_vec(&entry)
    };
    let state = |commit: u64| {
        Message::encode_to_vec(&HardState { term: Some(1), vote: Some(1), commit: Some(commit) })
    };
    let mut writer = LogWriter::new(metadata);
    let mut file = Vec::new();
    let big = entry(1, 1_000_000);
    for _ in 0..63 {
        assert_eq!(writer.save([big.as_slice()], Some(&state(1))).unwrap(), Saved::Synced);
    }
    // The commit alone moves: nothing is synced, and what waits in the buffer does not count.
    let missing = SEGMENT_SIZE_BYTES - writer.segment_bytes();
    let fill = entry(2, usize::try_from(missing).unwrap() - 8192);
    assert_eq!(writer.save([fill.as_slice()], None).unwrap(), Saved::Synced);
    for commit in 0..200 {
        assert_eq!(writer.save([], Some(&state(commit + 2))).unwrap(), Saved::Buffered);
    }
    assert!(writer.segment_bytes() < SEGMENT_SIZE_BYTES);
    let small = entry(3, 10_000);
    assert_eq!(writer.save([small.as_slice()], None).unwrap(), Saved::Synced);
    assert!(writer.segment_bytes() > SEGMENT_SIZE_BYTES);
    // Now it counts, even without a sync of its own.
    assert_eq!(writer.save([], Some(&state(300))).unwrap(), Saved::CutDue);
    writer.cut(&mut file).unwrap();
    assert_eq!(writer.segment_name(), "0000000000000001-0000000000000004.wal");
    // An empty hard state is none.
    let before = writer.segment_bytes();
    let empty = HardState { term: Some(0), vote: Some(0), commit: Some(0) };
    assert_eq!(writer.save([], Some(&Message::encode_to_vec(&empty))).unwrap(), Saved::Buffered);
    assert_eq!(writer.segment_bytes(), before);
    assert!(writer.save([b"\x1a\xff".as_slice()], None).is_err());
    assert_eq!(writer.segment_bytes(), before);
}
