//! `.snap` files: a checksum around a raft snapshot around the v2 store (FORMATS F.1).

use crate::crc;
use crate::frame::len_u64;
use crate::raftpb::{ConfState, Snapshot, SnapshotMetadata, snappb};
use crate::write::Dialect;
use prost::{DecodeError, Message};

/// Why bytes are not a `.snap` file. A server of 3.4 to 3.6 renames such a file to `….snap.broken` and takes the one
/// before it; 3.7 does not read `.snap` files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapError {
    /// `SNAP-EMPTY`: no bytes, no data in the envelope, or a checksum of 0, which servers take for the same.
    #[error("the snapshot is empty ({len} bytes, crc {crc:08x})")]
    Empty {
        /// Length of the file in bytes.
        len: u64,
        /// The checksum in the envelope; 0 when there is none.
        crc: u32,
    },
    /// `SNAP-UNDECODABLE`: the envelope is not one.
    #[error("not a snapshot envelope: {reason}")]
    Undecodable {
        /// Why not.
        reason: DecodeError,
    },
    /// `SNAP-CRC`: the data is not what was written, or the checksum is damaged.
    #[error("crc {found:08x}, expected {expected:08x}")]
    CrcMismatch {
        /// The checksum in the envelope.
        expected: u32,
        /// The checksum of the data as it is.
        found: u32,
    },
    /// `SNAP-PAYLOAD`: the checksum holds and yet the data is not a raft snapshot.
    #[error("its {len} bytes of data are not a raft snapshot: {reason}")]
    Payload {
        /// Length of the data in bytes.
        len: u64,
        /// Why not.
        reason: DecodeError,
    },
}

impl SnapError {
    /// The stable code of the error, `SNAP-…`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "SNAP-EMPTY",
            Self::Undecodable { .. } => "SNAP-UNDECODABLE",
            Self::CrcMismatch { .. } => "SNAP-CRC",
            Self::Payload { .. } => "SNAP-PAYLOAD",
        }
    }
}

/// The bytes of a `.snap` file: the v2 store as JSON, at this raft index and term, with these voters and no learners.
///
/// The tools write voters in ascending order of ID; the order given is kept. [`Dialect::V3_4`] and
/// [`Dialect::V3_5`] give the same bytes.
#[must_use]
pub fn encode_snap(v2store_json: &[u8], index: u64, term: u64, voters: &[u64], dialect: Dialect) -> Vec<u8> {
    encode_snapshot(v2store_json.to_vec(), index, term, dialect.conf_state(voters))
}

/// The bytes of a `.snap` file with this configuration.
#[must_use]
pub fn encode_snapshot(v2store_json: Vec<u8>, index: u64, term: u64, conf_state: ConfState) -> Vec<u8> {
    let snapshot = Snapshot {
        data: Some(v2store_json),
        metadata: Some(SnapshotMetadata {
            conf_state: Some(conf_state),
            index: Some(index),
            term: Some(term),
        }),
    };
    let data = snapshot.encode_to_vec();
    snappb::Snapshot { crc: Some(crc::checksum(&data)), data: Some(data) }.encode_to_vec()
}

/// Reads a `.snap` file, given whole.
///
/// # Errors
/// As [`SnapError`] lists them; the rules are those of etcd's snapshotter.
pub fn decode_snap(bytes: &[u8]) -> Result<Snapshot, SnapError> {
    if bytes.is_empty() {
        return Err(SnapError::Empty { len: 0, crc: 0 });
    }
    let envelope = snappb::Snapshot::decode(bytes).map_err(|reason| SnapError::Undecodable { reason })?;
    let expected = envelope.crc();
    let data = envelope.data();
    if data.is_empty() || expected == 0 {
        return Err(SnapError::Empty { len: len_u64(bytes), crc: expected });
    }
    let found = crc::checksum(data);
    if found != expected {
        return Err(SnapError::CrcMismatch { expected, found });
    }
    Snapshot::decode(data).map_err(|reason| SnapError::Payload { len: len_u64(data), reason })
}
