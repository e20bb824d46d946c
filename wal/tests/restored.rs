//! What a restore writes, against what each version's own tool wrote for the same flags.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::golden;
use prost::Message;
use wal::raftpb::{ConfChange, ConfChangeType, EntryType};
use wal::{
    BootMember, Dialect, FirstSegment, Metadata, Payload, RecordType, SegmentEnd, decode_snap, encode_snap,
    read_segment, snappb, summarize, walpb,
};

const TOOLS: [(&str, Dialect); 4] = [
    ("3.4.23", Dialect::V3_4),
    ("3.5.1", Dialect::V3_5),
    ("3.6.14", Dialect::V3_5),
    ("3.7.1", Dialect::V3_7),
];

/// m2 of the restore; also the smallest ID, hence the vote. IDs are SHA-1 of URL and token (FORMATS H.1).
const NODE_ID: u64 = 0x2700_a49d_914f_d7e8;
const CLUSTER_ID: u64 = 0x7540_b913_454c_d2e2;
const VOTERS: [u64; 3] = [NODE_ID, 0xd29e_8665_0eb4_4eaf, 0xd59e_5ef9_ab21_2e1b];

fn segment_like(bytes: &[u8]) -> FirstSegment {
    let summary = summarize(bytes).unwrap();
    let metadata = summary.metadata.unwrap();
    FirstSegment {
        node_id: metadata.node_id(),
        cluster_id: metadata.cluster_id(),
        members: summary
            .conf_changes
            .iter()
            .map(|entry| BootMember { id: entry.change.node_id(), context: entry.change.context().to_vec() })
            .collect(),
    }
}

#[test]
fn segments_are_those_of_the_tools() {
    for (version, dialect) in TOOLS {
        let expected = golden(&format!("restored-{version}.wal"));
        let mut segment = segment_like(&expected);
        assert_eq!(segment.encode(dialect), expected, "{version}");
        // The order in which the caller lists the members is not the order of the log.
        segment.members.reverse();
        assert_eq!(segment.encode(dialect), expected, "{version}, members reversed");
    }
}

#[test]
fn snaps_are_those_of_the_tools() {
    for (version, dialect) in TOOLS {
        let expected = golden(&format!("restored-{version}.snap.zst"));
        let snapshot = decode_snap(&expected).unwrap();
        let written = encode_snap(snapshot.data(), 3, 1, &VOTERS, dialect);
        assert!(written == expected, "{version}: .snap differs");
    }
}

#[test]
fn segments_say_what_was_restored() {
    for (version, dialect) in TOOLS {
        let mut bytes = golden(&format!("restored-{version}.wal"));
        let end = u64::try_from(bytes.len()).unwrap();
        bytes.resize(bytes.len() + 4096, 0);
        let summary = summarize(&bytes).unwrap();
        assert_eq!(summary.metadata, Some(Metadata { node_id: Some(NODE_ID), cluster_id: Some(CLUSTER_ID) }));
        assert_eq!(summary.records, 8, "{version}");
        assert_eq!(summary.end, SegmentEnd::ZeroLength);
        assert_eq!(summary.end_offset, end);
        assert_eq!(summary.first_nonzero_after_end, None);

        let ids: Vec<u64> = summary.conf_changes.iter().map(|entry| entry.change.node_id()).collect();
        assert_eq!(ids, VOTERS);
        for (entry, head) in summary.conf_changes.iter().zip(&summary.entries) {
            assert_eq!(entry.change.change_type(), i32::from(ConfChangeType::AddNode));
            assert_eq!((entry.index, entry.term), (head.index, head.term));
            assert_eq!(head.entry_type, i32::from(EntryType::ConfChange));
            assert!(entry.change.context().starts_with(b"{\"id\":"));
        }
        let places: Vec<(u64, u64)> = summary.entries.iter().map(|head| (head.index, head.term)).collect();
        assert_eq!(places, [(1, 1), (2, 1), (3, 1)]);

        let state = summary.hard_state.unwrap();
        assert_eq!((state.term(), state.vote(), state.commit()), (1, NODE_ID, 3));
        let [first, last] = summary.snapshots.as_slice() else { panic!("{version}: two snapshot records") };
        assert_eq!((first.index(), first.term(), &first.conf_state), (0, 0, &None));
        assert_eq!((last.index(), last.term()), (3, 1));
        let voters = last.conf_state.as_ref().map(|state| state.voters.as_slice());
        assert_eq!(voters, (dialect != Dialect::V3_4).then_some(&VOTERS[..]));

        bytes.push(7);
        assert_eq!(summarize(&bytes).unwrap().first_nonzero_after_end, Some(end + 4096));
    }
}

#[test]
fn snaps_say_what_was_restored() {
    for (version, dialect) in TOOLS {
        let bytes = golden(&format!("restored-{version}.snap.zst"));
        let snapshot = decode_snap(&bytes).unwrap();
        assert!(snapshot.data().starts_with(b"{\"Root\":{\"Path\":\"/\""), "{version}");
        assert!(snapshot.data().ends_with(b"\"CurrentVersion\":2}"), "{version}");
        let metadata = snapshot.metadata.unwrap();
        assert_eq!((metadata.index(), metadata.term()), (3, 1));
        let conf_state = metadata.conf_state.unwrap();
        assert_eq!(conf_state.voters, VOTERS);
        assert_eq!(conf_state.auto_leave, (dialect != Dialect::V3_7).then_some(false));
    }
}

/// Messages keep which fields were present: every record of every dialect is written back as it was.
#[test]
fn messages_are_lossless() {
    for (version, _) in TOOLS {
        let bytes = golden(&format!("restored-{version}.wal"));
        for record in read_segment(&bytes) {
            let record = record.unwrap();
            let again = match record.payload().unwrap() {
                Payload::Metadata(message) => message.encode_to_vec(),
                Payload::Entry(entry) => {
                    let change = ConfChange::decode(entry.data).unwrap();
                    assert_eq!(change.encode_to_vec(), entry.data);
                    wal::raftpb::Entry::decode(record.data).unwrap().encode_to_vec()
                }
                Payload::State(message) => message.encode_to_vec(),
                Payload::Snapshot(message) => message.encode_to_vec(),
                Payload::Crc => Vec::new(),
            };
            assert_eq!(again, record.data, "{version}, record {}", record.number);
            assert_eq!(walpb::Record::decode(record.raw).unwrap().encode_to_vec(), record.raw);
        }
        let snap = golden(&format!("restored-{version}.snap.zst"));
        assert!(snappb::Snapshot::decode(snap.as_slice()).unwrap().encode_to_vec() == snap);
    }
}

/// FORMATS V, "Computed": the head of a default one-member log.
#[test]
fn head_of_a_default_single_member() {
    let segment = FirstSegment {
        node_id: 0x8e9e_05c5_2164_694d,
        cluster_id: 0xcdf8_1819_4e3a_8c32,
        members: vec![BootMember { id: 0x8e9e_05c5_2164_694d, context: b"{}".to_vec() }],
    };
    for dialect in [Dialect::V3_4, Dialect::V3_5, Dialect::V3_7] {
        let bytes = segment.encode(dialect);
        let records: Vec<_> = read_segment(&bytes).collect::<Result<_, _>>().unwrap();
        let [crc, metadata, snapshot, ..] = records.as_slice() else { panic!("three records") };
        assert_eq!((crc.record_type, crc.crc, crc.raw), (RecordType::Crc, 0, &[8, 4, 16, 0][..]));
        assert_eq!(
            metadata.data,
            [
                0x08, 0xcd, 0xd2, 0x91, 0x8b, 0xd2, 0xb8, 0x81, 0xcf, 0x8e, 0x01, 0x10, 0xb2, 0x98, 0xea,
                0xf1, 0x94, 0x83, 0x86, 0xfc, 0xcd, 0x01
            ]
        );
        assert_eq!((metadata.crc, metadata.raw.len()), (0x5f91_c0bb, 32));
        assert_eq!((snapshot.crc, snapshot.data), (0xedb1_dd94, &[8, 0, 16, 0][..]));
    }
}

/// FORMATS V: upstream's TestNew.wal, put together from its published parts.
#[test]
fn upstream_test_new() {
    let mut bytes = Vec::new();
    bytes.extend([4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0]);
    bytes.extend([0x12, 0, 0, 0, 0, 0, 0, 0x86]);
    // 741f6a05 as a varint.
    bytes.extend([8, 1, 16, 0x85, 0xd4, 0xfd, 0xa0, 0x07, 0x1a, 8]);
    bytes.extend(b"somedata");
    bytes.extend([0; 6]);
    bytes.extend([0x0e, 0, 0, 0, 0, 0, 0, 0x82]);
    // 18206d80 as a varint.
    bytes.extend([8, 5, 16, 0x80, 0xdb, 0x81, 0xc1, 0x01, 0x1a, 4, 8, 0, 16, 0]);
    bytes.extend([0; 2]);

    let records: Vec<_> = read_segment(&bytes).collect::<Result<_, _>>().unwrap();
    let seen: Vec<_> = records.iter().map(|record| (record.record_type, record.crc, record.data)).collect();
    assert_eq!(
        seen,
        [
            (RecordType::Crc, 0, &b""[..]),
            (RecordType::Metadata, 0x741f_6a05, b"somedata"),
            (RecordType::Snapshot, 0x1820_6d80, &[8, 0, 16, 0]),
        ]
    );
    // The chain holds, the metadata is no metadata of etcd's.
    let fault = summarize(&bytes).unwrap_err();
    assert_eq!((fault.code(), fault.record, fault.offset), ("WAL-PAYLOAD", 1, 16));
}
