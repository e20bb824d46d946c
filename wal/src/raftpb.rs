//! The messages inside segments and `.snap` files (FORMATS E.9).
//!
//! All are proto2, and every scalar is an `Option`: etcd up to 3.6 writes zeros, 3.7 leaves some out, and a message
//! read here is written back with the same fields present. Getters named like the fields give the value or its
//! default. Unknown fields are dropped, so a record that must keep its bytes keeps its raw bytes.

use prost::{Enumeration, Message};

/// What an entry is to raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum EntryType {
    /// A request to the store, or nothing when the entry has no data.
    Normal = 0,
    /// A [`ConfChange`].
    ConfChange = 1,
    /// A change of several members at once. No etcd server writes these, and one that meets one stops.
    ConfChangeV2 = 2,
}

/// What a [`ConfChange`] does to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum ConfChangeType {
    /// Adds a voter, or promotes a learner.
    AddNode = 0,
    /// Removes a member.
    RemoveNode = 1,
    /// Changes a member's addresses.
    UpdateNode = 2,
    /// Adds a learner.
    AddLearnerNode = 3,
}

/// One entry of the raft log.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Entry {
    /// An [`EntryType`].
    #[prost(int32, optional, tag = "1")]
    pub entry_type: Option<i32>,
    /// The term of the leader that proposed it.
    #[prost(uint64, optional, tag = "2")]
    pub term: Option<u64>,
    /// Its place in the log.
    #[prost(uint64, optional, tag = "3")]
    pub index: Option<u64>,
    /// What it carries, by type.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub data: Option<Vec<u8>>,
}

/// What raft must remember across restarts besides its log.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HardState {
    /// The highest term seen.
    #[prost(uint64, optional, tag = "1")]
    pub term: Option<u64>,
    /// The member voted for in that term; 0 for none.
    #[prost(uint64, optional, tag = "2")]
    pub vote: Option<u64>,
    /// The highest index known to be committed. May lag behind the db (FORMATS E.8).
    #[prost(uint64, optional, tag = "3")]
    pub commit: Option<u64>,
}

/// Who votes and who only listens. Member lists are written one key a value; packed lists are read as well.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfState {
    /// Voting members.
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub voters: Vec<u64>,
    /// Members that receive the log and do not vote.
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub learners: Vec<u64>,
    /// Voters of the configuration being left, in a joint configuration.
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub voters_outgoing: Vec<u64>,
    /// Voters of the configuration being left that will be learners.
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    pub learners_next: Vec<u64>,
    /// Whether a joint configuration is left by itself.
    #[prost(bool, optional, tag = "5")]
    pub auto_leave: Option<bool>,
}

/// Where in the log a snapshot stands.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotMetadata {
    /// The members at that point.
    #[prost(message, optional, tag = "1")]
    pub conf_state: Option<ConfState>,
    /// The last entry the snapshot contains.
    #[prost(uint64, optional, tag = "2")]
    pub index: Option<u64>,
    /// That entry's term.
    #[prost(uint64, optional, tag = "3")]
    pub term: Option<u64>,
}

/// The content of a `.snap` file.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Snapshot {
    /// The v2 store as JSON (FORMATS F.2).
    #[prost(bytes = "vec", optional, tag = "1")]
    pub data: Option<Vec<u8>>,
    /// Its place in the log.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<SnapshotMetadata>,
}

/// A change of one member.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfChange {
    /// The request's ID; 0 in entries a tool wrote.
    #[prost(uint64, optional, tag = "1")]
    pub id: Option<u64>,
    /// A [`ConfChangeType`].
    #[prost(int32, optional, tag = "2")]
    pub change_type: Option<i32>,
    /// The member's ID.
    #[prost(uint64, optional, tag = "3")]
    pub node_id: Option<u64>,
    /// The member as JSON, when one is added or updated.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub context: Option<Vec<u8>>,
}

/// One step of a [`ConfChangeV2`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ConfChangeSingle {
    /// A [`ConfChangeType`].
    #[prost(int32, optional, tag = "1")]
    pub change_type: Option<i32>,
    /// The member's ID.
    #[prost(uint64, optional, tag = "2")]
    pub node_id: Option<u64>,
}

/// A change of several members at once. No etcd server writes these, and one that meets one stops.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfChangeV2 {
    /// How the joint configuration is left: 0 as raft sees fit, 1 by itself, 2 by another change.
    #[prost(int32, optional, tag = "1")]
    pub transition: Option<i32>,
    /// The steps.
    #[prost(message, repeated, tag = "2")]
    pub changes: Vec<ConfChangeSingle>,
    /// Anything the proposer adds.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub context: Option<Vec<u8>>,
}

/// Whose log this is: the data of metadata records (`etcdserverpb.Metadata`).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Metadata {
    /// The member's ID.
    #[prost(uint64, optional, tag = "1")]
    pub node_id: Option<u64>,
    /// The cluster's ID.
    #[prost(uint64, optional, tag = "2")]
    pub cluster_id: Option<u64>,
}

/// The messages of the log's own format.
pub mod walpb {
    use super::{ConfState, Message};

    /// One record of a segment. Readers use the borrowed [`crate::Record`] instead.
    #[derive(Clone, PartialEq, Eq, Message)]
    pub struct Record {
        /// A [`crate::RecordType`].
        #[prost(int64, optional, tag = "1")]
        pub record_type: Option<i64>,
        /// The rolling CRC-32C up to and with this record's data.
        #[prost(uint32, optional, tag = "2")]
        pub crc: Option<u32>,
        /// The payload, by type.
        #[prost(bytes = "vec", optional, tag = "3")]
        pub data: Option<Vec<u8>>,
    }

    /// The data of snapshot records: at this point a `.snap` was saved.
    #[derive(Clone, PartialEq, Eq, Message)]
    pub struct Snapshot {
        /// The last entry in the snapshot.
        #[prost(uint64, optional, tag = "1")]
        pub index: Option<u64>,
        /// That entry's term.
        #[prost(uint64, optional, tag = "2")]
        pub term: Option<u64>,
        /// The members at that point; absent in records of 3.4 and before, and at index 0.
        #[prost(message, optional, tag = "3")]
        pub conf_state: Option<ConfState>,
    }
}

/// The envelope of `.snap` files.
pub mod snappb {
    use super::Message;

    /// A checksum and what it covers.
    #[derive(Clone, PartialEq, Eq, Message)]
    pub struct Snapshot {
        /// CRC-32C of `data`.
        #[prost(uint32, optional, tag = "1")]
        pub crc: Option<u32>,
        /// A [`super::Snapshot`].
        #[prost(bytes = "vec", optional, tag = "2")]
        pub data: Option<Vec<u8>>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_voters_are_read_and_written_unpacked() {
        let packed = [0x0a, 0x03, 1, 2, 3];
        let state = ConfState::decode(packed.as_slice()).unwrap();
        assert_eq!(state.voters, [1, 2, 3]);
        assert_eq!(state.encode_to_vec(), [8, 1, 8, 2, 8, 3]);
    }

    #[test]
    fn explicit_zeros_survive() {
        for bytes in [&[8, 0, 16, 0, 24, 0][..], &[16, 0], &[]] {
            assert_eq!(HardState::decode(bytes).unwrap().encode_to_vec(), bytes);
            assert_eq!(Entry::decode(bytes).unwrap().encode_to_vec(), bytes);
        }
        let auto_leave = [40, 0];
        assert_eq!(ConfState::decode(auto_leave.as_slice()).unwrap().encode_to_vec(), auto_leave);
    }
}
