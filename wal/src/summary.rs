//! What a segment says as a whole.

use crate::frame::len_u64;
use crate::raftpb::{ConfChange, EntryType, HardState, Metadata, walpb};
use crate::record::Payload;
use crate::segment::{Fault, FaultKind, SegmentEnd, read_segment};
use prost::Message;

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<EntryHead>() == 40 && size_of::<walpb::Snapshot>() == 136);

/// An entry without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHead {
    /// Its raft index.
    pub index: u64,
    /// Its raft term.
    pub term: u64,
    /// The number of its [`EntryType`].
    pub entry_type: i32,
    /// Length of its data in bytes.
    pub data_len_bytes: u64,
    /// File offset of the frame that holds it.
    pub offset: u64,
}

/// An entry that changes the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfChangeEntry {
    /// Its raft index.
    pub index: u64,
    /// Its raft term.
    pub term: u64,
    /// The change.
    pub change: ConfChange,
}

/// What one sound segment holds.
///
/// Entries are listed as they lie in the file. Where raft wrote an index twice the later entry counts, and ends all
/// that stood after it; applying that rule is left to who reads the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentSummary {
    /// Whose log it is; `None` when no metadata record came.
    pub metadata: Option<Metadata>,
    /// All entries, in file order.
    pub entries: Vec<EntryHead>,
    /// The entries of type [`EntryType::ConfChange`], in file order.
    pub conf_changes: Vec<ConfChangeEntry>,
    /// The last hard state.
    pub hard_state: Option<HardState>,
    /// All snapshot records, in file order; a new log begins with one at index 0, term 0.
    pub snapshots: Vec<walpb::Snapshot>,
    /// How many records there are.
    pub records: u64,
    /// The file offset where the records end.
    pub end_offset: u64,
    /// How they end.
    pub end: SegmentEnd,
    /// The rolling CRC-32C after the last record.
    pub crc: u32,
    /// The file offset of the first byte after [`Self::end_offset`] that is not zero. A server never reads what
    /// stands there.
    pub first_nonzero_after_end: Option<u64>,
}

/// Reads a whole segment and every message in it.
///
/// Memory follows the number of records, not what they declare: 40 bytes an entry, 136 a snapshot record, and data
/// is copied for membership changes only. A record on disk is at least 10 bytes, a real one at least 24.
///
/// # Errors
/// The first [`Fault`]: of a frame, of the CRC chain, of a message, or metadata records that differ.
pub fn summarize(bytes: &[u8]) -> Result<SegmentSummary, Fault> {
    let mut segment = read_segment(bytes);
    let mut summary = SegmentSummary {
        metadata: None,
        entries: Vec::new(),
        conf_changes: Vec::new(),
        hard_state: None,
        snapshots: Vec::new(),
        records: 0,
        end_offset: 0,
        end: SegmentEnd::EndOfFile,
        crc: 0,
        first_nonzero_after_end: None,
    };
    let mut metadata_bytes: Option<(u64, &[u8])> = None;
    for record in segment.by_ref() {
        let record = record?;
        match record.payload()? {
            Payload::Metadata(metadata) => {
                // Servers compare the bytes, so the same values written differently conflict as well.
                if let Some((first, known)) = metadata_bytes
                    && known != record.data
                {
                    return Err(record.fault(FaultKind::MetadataConflict { first }));
                }
                metadata_bytes.get_or_insert((record.number, record.data));
                summary.metadata = Some(metadata);
            }
            Payload::Entry(entry) => {
                if entry.entry_type == i32::from(EntryType::ConfChange) {
                    let change = ConfChange::decode(entry.data)
                        .map_err(|reason| record.payload_fault("conf change", reason.into()))?;
                    summary.conf_changes.push(ConfChangeEntry {
                        index: entry.index,
                        term: entry.term,
                        change,
                    });
                }
                summary.entries.push(EntryHead {
                    index: entry.index,
                    term: entry.term,
                    entry_type: entry.entry_type,
                    data_len_bytes: len_u64(entry.data),
                    offset: record.offset,
                });
            }
            Payload::State(state) => summary.hard_state = Some(state),
            Payload::Crc => {}
            Payload::Snapshot(snapshot) => summary.snapshots.push(snapshot),
        }
    }
    summary.records = segment.records();
    summary.end_offset = segment.offset();
    summary.crc = segment.crc();
    if let Some(end) = segment.end() {
        summary.end = end;
    }
    let rest = segment.rest();
    summary.first_nonzero_after_end = rest
        .iter()
        .position(|byte| *byte != 0)
        .map(|at| summary.end_offset.saturating_add(len_u64(rest.get(..at).unwrap_or_default())));
    Ok(summary)
}
