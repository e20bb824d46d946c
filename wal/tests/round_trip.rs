//! What is written is read back, for any members.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use wal::{BootMember, Dialect, FirstSegment, SegmentEnd, decode_snap, encode_snap, summarize};

fn dialect() -> impl Strategy<Value = Dialect> {
    prop::sample::select(vec![Dialect::V3_4, Dialect::V3_5, Dialect::V3_7])
}

proptest! {
    #[test]
    fn first_segment(
        dialect in dialect(),
        node_id in any::<u64>(),
        cluster_id in any::<u64>(),
        members in prop::collection::btree_map(any::<u64>(), prop::collection::vec(any::<u8>(), 0..300), 0..9),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let mut listed: Vec<BootMember> =
            members.iter().map(|(id, context)| BootMember { id: *id, context: context.clone() }).collect();
        if !listed.is_empty() {
            let by = shuffle.index(listed.len());
            listed.rotate_left(by);
        }
        let bytes = FirstSegment { node_id, cluster_id, members: listed }.encode(dialect);
        prop_assert_eq!(bytes.len() % 8, 0);
        let summary = summarize(&bytes).unwrap();
        let metadata = summary.metadata.unwrap();
        prop_assert_eq!((metadata.node_id(), metadata.cluster_id()), (node_id, cluster_id));
        let read: BTreeMap<u64, Vec<u8>> = summary
            .conf_changes
            .iter()
            .map(|entry| (entry.change.node_id(), entry.change.context().to_vec()))
            .collect();
        prop_assert_eq!(&read, &members);
        let count = u64::try_from(members.len()).unwrap();
        prop_assert_eq!(summary.records, count + 5);
        prop_assert_eq!(summary.end, SegmentEnd::EndOfFile);
        prop_assert_eq!(summary.end_offset, u64::try_from(bytes.len()).unwrap());
        let state = summary.hard_state.unwrap();
        let smallest = members.keys().next().copied().unwrap_or_default();
        prop_assert_eq!((state.term(), state.vote(), state.commit()), (1, smallest, count));
        let last = summary.snapshots.last().unwrap();
        prop_assert_eq!((last.index(), last.term()), (count, 1));
        match (&last.conf_state, dialect) {
            (None, Dialect::V3_4) => {}
            (Some(state), Dialect::V3_5 | Dialect::V3_7) => prop_assert!(state.voters.iter().eq(members.keys())),
            (other, _) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn snap(
        dialect in dialect(),
        json in prop::collection::vec(any::<u8>(), 0..500),
        index in any::<u64>(),
        term in any::<u64>(),
        voters in prop::collection::vec(any::<u64>(), 0..9),
    ) {
        let bytes = encode_snap(&json, index, term, &voters, dialect);
        let snapshot = decode_snap(&bytes).unwrap();
        prop_assert_eq!(snapshot.data(), json);
        let metadata = snapshot.metadata.unwrap();
        prop_assert_eq!((metadata.index(), metadata.term()), (index, term));
        prop_assert_eq!(metadata.conf_state.unwrap().voters, voters);
    }
}
