//! Files of real servers, against what those servers and etcd's own tools said of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::golden;
use prost::Message;
use wal::raftpb::{self, EntryType};
use wal::{Payload, SegmentEnd, decode_snap, parse_snap_name, read_segment, summarize, walpb};

/// IDs, term and index are those of `endpoint status` shortly before the stop; the log goes on a little further.
#[test]
fn segments_agree_with_endpoint_status() {
    for (version, cluster_id, member_id, raft_index) in [
        ("3.4.23", 7_087_909_722_811_158_804, 10_989_313_697_875_737_535, 155),
        ("3.5.30", 743_220_823_362_457_500, 3_431_920_164_768_104_184, 160),
        ("3.7.1", 12_937_716_605_823_897_188, 17_292_116_370_932_145_186, 175),
    ] {
        let summary = summarize(&golden(&format!("live-{version}.wal.zst"))).unwrap();
        let metadata = summary.metadata.unwrap();
        assert_eq!((metadata.cluster_id(), metadata.node_id()), (cluster_id, member_id), "{version}");
        assert_eq!(summary.end, SegmentEnd::EndOfFile);
        let state = summary.hard_state.unwrap();
        assert_eq!((state.term(), state.vote()), (3, member_id));
        assert!(state.commit() >= raft_index, "{version}: commit {}", state.commit());
        // One member, no overrides: indices 1, 2, 3, ...
        for (entry, index) in summary.entries.iter().zip(1..) {
            assert_eq!(entry.index, index, "{version}");
        }
        let last = summary.entries.last().unwrap();
        assert!(last.index >= state.commit() && last.index >= raft_index);
        // The member added itself, and nobody else came.
        let nodes: Vec<_> = summary.conf_changes.iter().map(|entry| entry.change.node_id()).collect();
        assert_eq!(nodes, [member_id], "{version}");
        // Members are in snapshot records since 3.5.
        for snapshot in summary.snapshots.iter().filter(|snapshot| snapshot.index() > 0) {
            let voters = snapshot.conf_state.as_ref().map(|state| state.voters.clone());
            assert_eq!(voters, (version != "3.4.23").then(|| vec![member_id]), "{version}");
        }
    }
}

/// etcd-dump-logs 3.6.14 on this log: "lastIndex=190", "term=3 commitIndex=190", 189 entries after the first.
#[test]
fn segment_agrees_with_etcd_dump_logs() {
    let summary = summarize(&golden("live-3.5.30.wal.zst")).unwrap();
    let metadata = summary.metadata.unwrap();
    assert_eq!((metadata.node_id(), metadata.cluster_id()), (0x2fa0_a134_ee80_bef8, 0x0a50_7366_ae31_4f9c));
    assert_eq!(summary.entries.len(), 190);
    assert_eq!(summary.entries.last().unwrap().index, 190);
    assert_eq!(summary.hard_state.unwrap().commit(), 190);
    assert_eq!(summary.entries[0].entry_type, i32::from(EntryType::ConfChange));
}

/// A rewrite of any record keeps its bytes: what servers write has no field the messages do not know.
#[test]
fn messages_of_servers_are_lossless() {
    for version in ["3.4.23", "3.5.30", "3.7.1"] {
        let bytes = golden(&format!("live-{version}.wal.zst"));
        let mut segment = read_segment(&bytes);
        for record in segment.by_ref() {
            let record = record.unwrap();
            assert_eq!(walpb::Record::decode(record.raw).unwrap().encode_to_vec(), record.raw);
            let again = match record.payload().unwrap() {
                Payload::Metadata(message) => message.encode_to_vec(),
                Payload::Entry(_) => raftpb::Entry::decode(record.data).unwrap().encode_to_vec(),
                Payload::State(message) => message.encode_to_vec(),
                Payload::Snapshot(message) => message.encode_to_vec(),
                Payload::Crc => Vec::new(),
            };
            assert!(again == record.data, "{version}, record {}", record.number);
        }
        assert!(segment.records() > 200, "{version}");
    }
}

#[test]
fn snaps_of_servers() {
    for (version, name, member_id) in [
        ("3.4.23", "0000000000000003-00000000000000b6.snap", 10_989_313_697_875_737_535_u64),
        ("3.5.1", "0000000000000003-00000000000000b6.snap", 3_551_051_184_675_482_447),
        ("3.5.30", "0000000000000003-00000000000000b6.snap", 3_431_920_164_768_104_184),
        ("3.6.14", "0000000000000003-00000000000000d0.snap", 16_164_389_209_888_717_708),
        ("3.7.1", "0000000000000003-00000000000000d0.snap", 17_292_116_370_932_145_186),
    ] {
        let snapshot = decode_snap(&golden(&format!("live-{version}.snap.zst"))).unwrap();
        assert!(snapshot.data().starts_with(b"{\"Root\":"), "{version}");
        let metadata = snapshot.metadata.unwrap();
        assert_eq!(Some((metadata.term(), metadata.index())), parse_snap_name(name), "{version}");
        assert_eq!(metadata.conf_state.unwrap().voters, [member_id], "{version}");
    }
}
