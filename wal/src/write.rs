//! Writing logs: that of a freshly restored member, as each version's own tool writes it (FORMATS H.3, H.4, W), and
//! logs of any length, segment after segment, as a server goes on writing them (FORMATS E.1 to E.3, E.8).

use std::io::{self, Write};

use crate::crc;
use crate::frame::{len_u64, write_frame};
use crate::names::segment_name;
use crate::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Metadata, walpb};
use crate::record::RecordType;
use prost::Message;

/// The size in bytes to which a segment file is preallocated with zeros.
pub const SEGMENT_SIZE_BYTES: u64 = 64_000_000;

/// The term in which a restored log begins.
pub const FIRST_TERM: u64 = 1;

/// How a version's own tool encodes what it writes. All versions read all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// etcdctl 3.4: zeros written out; no members in snapshot records.
    V3_4,
    /// etcdutl 3.5 and 3.6: zeros written out; members in snapshot records.
    V3_5,
    /// etcdutl 3.7: as 3.5, but fields that were never set are left out.
    V3_7,
}

impl Dialect {
    /// A zero the program never set: 3.4 to 3.6 write it, 3.7 does not.
    fn unset<T: Default>(self) -> Option<T> {
        match self {
            Self::V3_4 | Self::V3_5 => Some(T::default()),
            Self::V3_7 => None,
        }
    }

    /// A configuration of voters alone.
    pub(crate) fn conf_state(self, voters: &[u64]) -> ConfState {
        ConfState { voters: voters.to_vec(), auto_leave: self.unset(), ..ConfState::default() }
    }
}

/// A member the log starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootMember {
    /// The member's ID.
    pub id: u64,
    /// The member as JSON, copied into the entry that adds it.
    pub context: Vec<u8>,
}

/// The one segment of a restored member's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstSegment {
    /// The ID of the member the log is for.
    pub node_id: u64,
    /// The new cluster's ID.
    pub cluster_id: u64,
    /// All members of the new cluster, this one included. Written in ascending order of ID, whatever the order here.
    pub members: Vec<BootMember>,
}

impl FirstSegment {
    /// The segment's records: crc, metadata, snapshot at 0, one entry a member, hard state, snapshot at the last entry.
    ///
    /// The file is these bytes followed by zeros up to [`SEGMENT_SIZE_BYTES`]. The vote is the smallest member ID,
    /// or 0 (nobody) without members.
    #[must_use]
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        let mut members: Vec<&BootMember> = self.members.iter().collect();
        members.sort_by_key(|member| member.id);
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();

        let mut log = Log::default();
        log.push_crc();
        log.push(
            RecordType::Metadata,
            &Metadata { node_id: Some(self.node_id), cluster_id: Some(self.cluster_id) },
        );
        // Index and term are set here in every version, so 3.7 writes these zeros too.
        log.push(RecordType::Snapshot, &walpb::Snapshot { index: Some(0), term: Some(0), conf_state: None });
        let mut last_index = 0u64;
        for member in members {
            last_index += 1;
            let change = ConfChange {
                id: dialect.unset(),
                change_type: Some(ConfChangeType::AddNode.into()),
                node_id: Some(member.id),
                context: Some(member.context.clone()),
            };
            let entry = Entry {
                entry_type: Some(EntryType::ConfChange.into()),
                term: Some(FIRST_TERM),
                index: Some(last_index),
                data: Some(change.encode_to_vec()),
            };
            log.push(RecordType::Entry, &entry);
        }
        log.push(
            RecordType::State,
            &HardState {
                term: Some(FIRST_TERM),
                vote: Some(ids.first().copied().unwrap_or_default()),
                commit: Some(last_index),
            },
        );
        let conf_state = match dialect {
            Dialect::V3_4 => None,
            Dialect::V3_5 | Dialect::V3_7 => Some(dialect.conf_state(&ids)),
        };
        log.push(
            RecordType::Snapshot,
            &walpb::Snapshot { index: Some(last_index), term: Some(FIRST_TERM), conf_state },
        );
        log.bytes
    }
}

/// A log as a server goes on writing it. Records gather in memory until [`flush`](Self::flush) or
/// [`cut`](Self::cut) hands them over.
///
/// The caller names and makes the files: [`segment_name`](Self::segment_name) says what the current one is called. A
/// segment that was cut ends with its last record, the one being written with zeros as far as it was preallocated.
#[derive(Debug)]
pub struct LogWriter {
    log: Log,
    metadata: Metadata,
    state: Option<HardState>,
    /// Of the current segment: its sequence number, and the index its name has.
    seq: u64,
    first_index: u64,
    /// The index of the last entry or snapshot written.
    last_index: u64,
    /// Length in bytes of what was handed over of the current segment.
    flushed: u64,
}

impl LogWriter {
    /// A new log: its first segment begins with a crc record, `metadata`, and a snapshot record at index 0.
    #[must_use]
    pub fn new(metadata: Metadata) -> Self {
        let mut log = Log::default();
        log.push_crc();
        log.push(RecordType::Metadata, &metadata);
        log.push(RecordType::Snapshot, &walpb::Snapshot { index: Some(0), term: Some(0), conf_state: None });
        Self { log, metadata, state: None, seq: 0, first_index: 0, last_index: 0, flushed: 0 }
    }

    /// The name of the segment that is being written.
    #[must_use]
    pub fn segment_name(&self) -> String {
        segment_name(self.seq, self.first_index)
    }

    /// Length of the current segment's records in bytes, those that were handed over included.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.flushed.saturating_add(len_u64(&self.log.bytes))
    }

    /// The rolling CRC-32C after the last record.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.log.crc
    }

    /// Adds an entry.
    pub fn push_entry(&mut self, entry: &Entry) {
        self.log.push(RecordType::Entry, entry);
        self.last_index = entry.index();
    }

    /// Adds a hard state, which every segment after this one then begins with.
    pub fn push_hard_state(&mut self, state: HardState) {
        self.log.push(RecordType::State, &state);
        self.state = Some(state);
    }

    /// Adds a snapshot record: at this point of the log a `.snap` was saved.
    pub fn push_snapshot(&mut self, snapshot: &walpb::Snapshot) {
        self.log.push(RecordType::Snapshot, snapshot);
        self.last_index = self.last_index.max(snapshot.index());
    }

    /// Hands the records gathered so far to the current segment's file.
    ///
    /// # Errors
    /// When `segment` cannot be written; the records are gathered still, and it is not known how many of their bytes
    /// were written.
    pub fn flush(&mut self, segment: &mut impl Write) -> io::Result<()> {
        segment.write_all(&self.log.bytes)?;
        self.flushed = self.segment_bytes();
        self.log.bytes.clear();
        Ok(())
    }

    /// Ends the current segment in its file, and begins the next: with a crc record that carries the rolling CRC on,
    /// the metadata again, and the last hard state if there was one.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush); the current segment then goes on.
    pub fn cut(&mut self, segment: &mut impl Write) -> io::Result<()> {
        self.flush(segment)?;
        self.seq = self.seq.saturating_add(1);
        self.first_index = self.last_index.saturating_add(1);
        self.flushed = 0;
        self.log.push_crc();
        self.log.push(RecordType::Metadata, &self.metadata);
        if let Some(state) = &self.state {
            self.log.push(RecordType::State, state);
        }
        Ok(())
    }
}

/// Records in the making, with their rolling CRC.
#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    crc: u32,
}

impl Log {
    fn push_crc(&mut self) {
        self.frame(RecordType::Crc, None);
    }

    fn push(&mut self, record_type: RecordType, message: &impl Message) {
        let data = message.encode_to_vec();
        self.crc = crc::update(self.crc, &data);
        self.frame(record_type, Some(data));
    }

    fn frame(&mut self, record_type: RecordType, data: Option<Vec<u8>>) {
        // Type and CRC are written in every dialect, zero or not.
        let record = walpb::Record { record_type: Some(record_type.number()), crc: Some(self.crc), data };
        write_frame(&record.encode_to_vec(), &mut self.bytes);
    }
}
