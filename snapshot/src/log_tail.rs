//! Whose log it is and how far it goes, by its last segment alone: what an answer's header needs, and whoever must say that
//! a db is behind its log.

use wal::log::Segments;
use wal::record::Payload;
use wal::segment::read_segment;

/// Who answers a request: the ids in the header of every response of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id; 0 when it is not known.
    pub cluster_id: u64,
    /// The member's id; 0 when it is not known.
    pub member_id: u64,
    /// The raft term the member was in; 0 when it is not known.
    pub raft_term: u64,
}

/// The end of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogTail {
    /// Whose log it is.
    pub identity: Identity,
    /// Index of the last entry; 0 when there is none.
    pub last_index: u64,
}

/// Reads the last segment of `log` up to its end or to what is broken in it: metadata and hard state are repeated at the start
/// of each segment (FORMATS E.1). `None` without a segment.
#[must_use]
pub fn read(log: &impl Segments) -> Option<LogTail> {
    let names = log.names();
    let at = names.len().checked_sub(1)?;
    // A segment that was begun and has no entries yet is named by the one to come.
    let mut tail = LogTail { last_index: names.get(at)?.index.saturating_sub(1), ..LogTail::default() };
    let piece = log.piece(at);
    for record in read_segment(&piece.bytes).map_while(Result::ok) {
        match record.payload() {
            Ok(Payload::Metadata(metadata)) => {
                tail.identity.cluster_id = metadata.cluster_id.unwrap_or_default();
                tail.identity.member_id = metadata.node_id.unwrap_or_default();
            }
            Ok(Payload::State(state)) => tail.identity.raft_term = state.term.unwrap_or_default(),
            Ok(Payload::Entry(entry)) => tail.last_index = entry.index,
            Ok(Payload::Crc | Payload::Snapshot(_)) => {}
            Err(_) => break,
        }
    }
    Some(tail)
}
