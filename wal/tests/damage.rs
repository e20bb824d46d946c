//! Damaged files. Where a real program met the same damage its verdict is the one expected here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::golden;
use proptest::prelude::*;
use wal::raftpb::EntryType;
use wal::{
    BootMember, Dialect, Fault, FaultKind, FirstSegment, Payload, SegmentEnd, decode_snap, encode_snap,
    read_segment, summarize, walpb,
};

fn faults(bytes: &[u8]) -> Vec<Fault> {
    read_segment(bytes).filter_map(Result::err).collect()
}

/// The last entry index and the last commit index before the first fault.
fn progress(bytes: &[u8]) -> (u64, u64) {
    let (mut last, mut commit) = (0, 0);
    for record in read_segment(bytes).map_while(Result::ok) {
        match record.payload().unwrap() {
            Payload::Entry(entry) => last = entry.index,
            Payload::State(state) => commit = state.commit(),
            _ => {}
        }
    }
    (last, commit)
}

/// etcd-dump-logs 3.6.14: "crc mismatch: expected: 41b837a0 computed: d0bd1c08 … at position: 206312". Servers
/// refuse to start although it is the last record.
#[test]
fn crc_mismatch_in_the_last_record() {
    let mut bytes = golden("live-3.5.30.wal.zst");
    bytes[206_342] ^= 0xff;
    bytes.resize(bytes.len() + 4096, 0);
    let [fault] = faults(&bytes).try_into().unwrap();
    assert_eq!(fault.offset, 206_312);
    assert_eq!(fault.kind, FaultKind::CrcMismatch { expected: 0x41b8_37a0, found: 0xd0bd_1c08 });
    assert_eq!(fault.code(), "WAL-CRC");
    assert_eq!(summarize(&bytes).unwrap_err(), fault);
    let record = fault.record;
    assert_eq!(fault.to_string(), format!("record {record} at 0x325e8: crc d0bd1c08, expected 41b837a0"));
}

/// etcd-dump-logs 3.6.14: "crc mismatch: expected: bba70a99 computed: 2aa22131 … at position: 102640". The records
/// after it are sound and can be read.
#[test]
fn crc_mismatch_in_the_middle() {
    let sound = golden("live-3.5.30.wal.zst");
    let mut bytes = sound.clone();
    bytes[102_669] ^= 0xff;
    let [fault] = faults(&bytes).try_into().unwrap();
    assert_eq!(fault.offset, 102_640);
    assert_eq!(fault.kind, FaultKind::CrcMismatch { expected: 0xbba7_0a99, found: 0x2aa2_2131 });
    let mut segment = read_segment(&bytes);
    let held = segment.by_ref().filter(Result::is_ok).count();
    assert_eq!(held + 1, read_segment(&sound).count());
    assert_eq!(segment.end(), Some(SegmentEnd::EndOfFile));
}

/// etcd-dump-logs 3.6.14: "commitIndex=145", "lastIndex=145"; the server cuts the tail and starts.
#[test]
fn zeroed_sectors_are_a_torn_write() {
    let mut bytes = golden("live-3.5.30.wal.zst");
    bytes[109_568..].fill(0);
    let [fault] = faults(&bytes).try_into().unwrap();
    assert_eq!(fault.kind, FaultKind::Torn { sector: 109_568 });
    assert_eq!(fault.code(), "WAL-TORN");
    assert!(fault.offset < 109_568);
    assert_eq!(progress(&bytes), (145, 145));
    let mut segment = read_segment(&bytes);
    assert!(segment.by_ref().last().unwrap().is_err());
    assert_eq!((segment.end(), segment.offset()), (None, fault.offset));
}

/// etcd-dump-logs 3.6.14 on both cuts: "commitIndex=189", "lastIndex=190".
#[test]
fn cut_tails() {
    let mut bytes = golden("live-3.5.30.wal.zst");
    bytes.truncate(206_332);
    let [fault] = faults(&bytes).try_into().unwrap();
    assert_eq!((fault.code(), fault.offset), ("WAL-RECORD-CUT", 206_312));
    assert!(matches!(fault.kind, FaultKind::RecordCut { left: 12, .. }));
    assert_eq!(progress(&bytes), (190, 189));

    bytes.truncate(206_316);
    let [fault] = faults(&bytes).try_into().unwrap();
    assert_eq!((fault.code(), fault.offset), ("WAL-LENGTH-CUT", 206_312));
    assert_eq!(fault.kind, FaultKind::LengthCut { left: 4 });
    assert_eq!(progress(&bytes), (190, 189));
}

/// The server 3.5.30: "snap file is corrupt", "prev-crc":2480624601, "new-crc":2242007412.
#[test]
fn corrupt_snap() {
    let mut bytes = golden("live-3.5.30.snap.zst");
    bytes[100] ^= 0xff;
    let error = decode_snap(&bytes).unwrap_err();
    assert_eq!(error, wal::SnapError::CrcMismatch { expected: 2_480_624_601, found: 2_242_007_412 });
    assert_eq!(error.code(), "SNAP-CRC");
}

#[test]
fn snaps_that_servers_call_empty() {
    for bytes in [&[][..], &[8, 0], &[8, 1], &[8, 1, 18, 0], &[8, 0, 18, 1, 7]] {
        assert_eq!(decode_snap(bytes).unwrap_err().code(), "SNAP-EMPTY", "{bytes:?}");
    }
    assert_eq!(decode_snap(&[0xff; 40]).unwrap_err().code(), "SNAP-UNDECODABLE");
    // A checksum that holds over bytes that are no snapshot.
    let mut bytes = vec![8];
    prost::encode_length_delimiter(usize::try_from(wal::crc::checksum(b"junk")).unwrap(), &mut bytes)
        .unwrap();
    bytes.extend(b"\x12\x04junk");
    assert_eq!(decode_snap(&bytes).unwrap_err().code(), "SNAP-PAYLOAD");
}

fn small_segment(dialect: Dialect) -> Vec<u8> {
    let member = |id: u64| BootMember { id, context: format!("{{\"id\":{id}}}").into_bytes() };
    let segment =
        FirstSegment { node_id: 5, cluster_id: 6, members: vec![member(5), member(0xf000_0000_0000_0007)] };
    let mut bytes = segment.encode(dialect);
    bytes.resize(bytes.len() + 64, 0);
    bytes
}

/// Every byte set to every other value. In a record's data it is found, at that record. Elsewhere it may only do what
/// the CRC cannot see: end the log early, or call a record by another type.
#[test]
fn every_byte_flip() {
    for dialect in [Dialect::V3_4, Dialect::V3_5, Dialect::V3_7] {
        let sound = small_segment(dialect);
        let records: Vec<_> = read_segment(&sound).collect::<Result<_, _>>().unwrap();
        let base = sound.as_ptr().addr();
        let data: Vec<(u64, std::ops::Range<usize>)> = records
            .iter()
            .filter(|record| !record.data.is_empty())
            .map(|record| {
                let start = record.data.as_ptr().addr() - base;
                (record.number, start..start + record.data.len())
            })
            .collect();
        assert_eq!(data.len(), 6);
        let sound_data: Vec<&[u8]> = records.iter().map(|record| record.data).collect();
        for at in 0..sound.len() {
            for flip in 1..=255u8 {
                let mut bytes = sound.clone();
                bytes[at] ^= flip;
                let first = read_segment(&bytes).find_map(Result::err);
                let _ = summarize(&bytes);
                if let Some((number, _)) = data.iter().find(|(_, range)| range.contains(&at)) {
                    let fault = first.unwrap_or_else(|| panic!("{at} ^ {flip:#x} unseen"));
                    assert_eq!(fault.record, *number, "{at} ^ {flip:#x}: {fault}");
                } else if first.is_none() {
                    let seen: Vec<&[u8]> = read_segment(&bytes).flatten().map(|record| record.data).collect();
                    assert!(sound_data.starts_with(&seen), "{at} ^ {flip:#x}");
                }
            }
        }
    }
}

#[test]
fn every_truncation() {
    for dialect in [Dialect::V3_4, Dialect::V3_5, Dialect::V3_7] {
        let sound = small_segment(dialect);
        let whole = summarize(&sound).unwrap();
        let ends: Vec<u64> =
            read_segment(&sound).flatten().map(|record| record.offset).chain([whole.end_offset]).collect();
        for len in 0..sound.len() {
            let cut = &sound[..len];
            let len = u64::try_from(len).unwrap();
            if let Ok(summary) = summarize(cut) {
                // Only a cut between two records, or in the zeros after them, goes unseen.
                assert!(ends.contains(&len) || len >= whole.end_offset + 8, "{len}");
                assert_eq!(summary.end_offset, len.min(whole.end_offset));
            } else {
                let fault = summarize(cut).unwrap_err();
                assert!(["WAL-LENGTH-CUT", "WAL-RECORD-CUT"].contains(&fault.code()), "{len}: {fault}");
                assert!(fault.offset < len);
            }
        }
    }
}

#[test]
fn every_flip_and_cut_of_a_snap() {
    let sound = encode_snap(b"{\"Root\":{}}", 9, 2, &[1, 0xf000_0000_0000_0007], Dialect::V3_5);
    let snapshot = decode_snap(&sound).unwrap();
    for at in 0..sound.len() {
        assert!(decode_snap(&sound[..at]).is_err(), "cut at {at}");
        for flip in 1..=255u8 {
            let mut bytes = sound.clone();
            bytes[at] ^= flip;
            if let Ok(read) = decode_snap(&bytes) {
                assert_eq!(read, snapshot, "{at} ^ {flip:#x}");
            }
        }
    }
}

/// A record whose CRC holds, built by hand.
fn framed(record_type: i64, data: &[u8], crc: &mut u32, out: &mut Vec<u8>) {
    use prost::Message;
    *crc = wal::crc::update(*crc, data);
    let record = walpb::Record { record_type: Some(record_type), crc: Some(*crc), data: Some(data.to_vec()) };
    wal::frame::write_frame(&record.encode_to_vec(), out);
}

/// FORMATS X 31: the type is not covered by the CRC. The records after an unknown one are still read.
#[test]
fn unknown_type() {
    let (mut bytes, mut crc) = (Vec::new(), 0);
    framed(9, b"data", &mut crc, &mut bytes);
    framed(3, &[8, 1, 16, 2, 24, 3], &mut crc, &mut bytes);
    let seen: Vec<_> = read_segment(&bytes).collect();
    assert_eq!(seen[0], Err(Fault { record: 0, offset: 0, kind: FaultKind::UnknownType { number: 9 } }));
    assert_eq!(seen[1].as_ref().unwrap().data, [8, 1, 16, 2, 24, 3]);
    assert_eq!(seen.len(), 2);
}

/// FORMATS E.3: a later segment starts with the CRC of the one before it; in the middle of a segment the stated CRC
/// must be the chain's.
#[test]
fn crc_records() {
    use prost::Message;
    let seed = walpb::Record { record_type: Some(4), crc: Some(0x1234_5678), data: None }.encode_to_vec();
    let (mut bytes, mut crc) = (Vec::new(), 0x1234_5678);
    wal::frame::write_frame(&seed, &mut bytes);
    framed(3, &[8, 1], &mut crc, &mut bytes);
    assert_eq!(faults(&bytes), []);
    wal::frame::write_frame(&seed, &mut bytes);
    let [fault] = faults(&bytes).try_into().unwrap();
    assert_eq!(fault.kind, FaultKind::CrcRecordMismatch { expected: 0x1234_5678, found: crc });
    assert_eq!(fault.code(), "WAL-CRC-RECORD");
}

/// FORMATS X 33: the same IDs in other bytes conflict too.
#[test]
fn metadata_must_be_equal_to_the_byte() {
    let (mut bytes, mut crc) = (Vec::new(), 0);
    framed(1, &[8, 1, 16, 2], &mut crc, &mut bytes);
    framed(1, &[8, 1, 16, 2], &mut crc, &mut bytes);
    assert_eq!(summarize(&bytes).unwrap().records, 2);
    framed(1, &[16, 2, 8, 1], &mut crc, &mut bytes);
    let fault = summarize(&bytes).unwrap_err();
    assert_eq!((fault.code(), fault.record), ("WAL-METADATA-CONFLICT", 2));
}

/// A membership change that is none, inside an entry that holds.
#[test]
fn conf_change_that_is_none() {
    use prost::Message;
    let entry = wal::raftpb::Entry {
        entry_type: Some(EntryType::ConfChange.into()),
        data: Some(vec![0xff; 3]),
        ..Default::default()
    };
    let (mut bytes, mut crc) = (Vec::new(), 0);
    framed(2, &entry.encode_to_vec(), &mut crc, &mut bytes);
    assert_eq!(summarize(&bytes).unwrap_err().code(), "WAL-PAYLOAD");
}

proptest! {
    /// Any bytes in records whose frames and CRCs hold: mutations that get past the checksums.
    #[test]
    fn any_payload_is_safe(records in prop::collection::vec((0i64..7, prop::collection::vec(prop_oneof![0u8..0x40, any::<u8>()], 0..24)), 0..8)) {
        let (mut bytes, mut crc) = (Vec::new(), 0);
        for (record_type, data) in &records {
            framed(*record_type, data, &mut crc, &mut bytes);
        }
        let seen = read_segment(&bytes).count();
        prop_assert_eq!(seen, records.len());
        for record in read_segment(&bytes).flatten() {
            let _ = record.payload();
        }
        let _ = summarize(&bytes);
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..200)) {
        prop_assert!(read_segment(&bytes).count() <= bytes.len() / 8 + 1);
        let _ = summarize(&bytes);
        let _ = decode_snap(&bytes);
    }
}
