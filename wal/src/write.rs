//! Writing logs: that of a freshly restored member, as each version's own tool writes it (FORMATS H.3, H.4, W), and
//! logs of any length, segment after segment, as a server goes on writing them (FORMATS E.1 to E.3, E.8).

use std::io::{self, Write};

use crate::crc;
use crate::frame::{LENGTH_WORD_BYTES, LengthWord, len_u64};
use crate::names::segment_name;
use crate::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Metadata, walpb};
use crate::record::RecordType;
use crate::wire::{Value, WireError, next_field};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost::{DecodeError, Message};

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
///
/// [`save`](Self::save) also says when a server would have ended the segment, which depends on more than its length:
/// a server looks at what it has handed to the file, and up to 128 KiB wait in its buffer.
#[derive(Debug)]
pub struct LogWriter {
    log: Log,
    metadata: Vec<u8>,
    state: Option<Vec<u8>>,
    /// Term and vote of `state`: when they change a server syncs.
    promised: (u64, u64),
    /// Of the current segment: its sequence number, and the index its name has.
    seq: u64,
    first_index: u64,
    /// The index of the last entry or snapshot written.
    last_index: u64,
    /// Length in bytes of what was handed over of the current segment.
    flushed: u64,
    pages: Pages,
}

/// Where a log goes on: what its reader knows at the end of its last segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The last segment's sequence number.
    pub seq: u64,
    /// The index in the last segment's name.
    pub first_index: u64,
    /// The index of the last entry record in the log, by place; 0 when there is none.
    pub last_index: u64,
    /// The rolling CRC-32C after the last record.
    pub crc: u32,
    /// The data of the metadata record, as it stands there: a server compares the bytes.
    pub metadata: Vec<u8>,
    /// The data of the last hard state record, if there is one.
    pub state: Option<Vec<u8>>,
    /// The file offset in the last segment where its records end, in bytes.
    pub offset: u64,
}

/// Why data cannot be saved: it is not the message it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// Not an entry.
    #[error("not an entry: {0}")]
    Entry(WireError),
    /// Not a hard state.
    #[error("not a hard state: {0}")]
    State(DecodeError),
    /// Not a snapshot record.
    #[error("not a snapshot record: {0}")]
    Snapshot(DecodeError),
}

/// What a server does at the end of a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Nothing: only the commit index moved, which a crash may forget.
    Buffered,
    /// It syncs.
    Synced,
    /// It ends the segment: [`LogWriter::cut`].
    CutDue,
}

impl LogWriter {
    /// A new log: its first segment begins with a crc record, `metadata`, and a snapshot record at index 0.
    #[must_use]
    pub fn new(metadata: Metadata) -> Self {
        Self::with_metadata(metadata.encode_to_vec())
    }

    /// The same with the metadata's bytes as they are.
    #[must_use]
    pub fn with_metadata(metadata: Vec<u8>) -> Self {
        let mut writer = Self {
            log: Log::default(),
            metadata,
            state: None,
            promised: (0, 0),
            seq: 0,
            first_index: 0,
            last_index: 0,
            flushed: 0,
            pages: Pages::default(),
        };
        writer.push_head();
        writer.push_snapshot(&walpb::Snapshot { index: Some(0), term: Some(0), conf_state: None });
        writer
    }

    /// Goes on with an existing log, behind the last record of its last segment.
    ///
    /// # Errors
    /// [`SaveError::State`].
    pub fn resume(at: Resume) -> Result<Self, SaveError> {
        let promised = match &at.state {
            Some(state) => promise(state)?.unwrap_or_default(),
            None => (0, 0),
        };
        Ok(Self {
            log: Log { bytes: Vec::new(), crc: at.crc },
            metadata: at.metadata,
            state: at.state,
            promised,
            seq: at.seq,
            first_index: at.first_index,
            last_index: at.last_index,
            flushed: at.offset,
            pages: Pages { written: at.offset, buffered: 0 },
        })
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

    /// Adds what raft hands over at once: entries, then the hard state if it changed, each as the bytes of its message.
    /// An empty hard state is not written, as no server writes one.
    ///
    /// # Errors
    /// [`SaveError`]: what came before the data that is wrong was added.
    pub fn save<'d>(
        &mut self,
        entries: impl IntoIterator<Item = &'d [u8]>,
        state: Option<&[u8]>,
    ) -> Result<Saved, SaveError> {
        let promised = self.promised;
        let mut must_sync = false;
        for entry in entries {
            self.push_raw(RecordType::Entry, entry)?;
            must_sync = true;
        }
        if let Some(state) = state {
            self.push_raw(RecordType::State, state)?;
        }
        must_sync |= self.promised != promised;
        if self.pages.written >= SEGMENT_SIZE_BYTES {
            return Ok(Saved::CutDue);
        }
        if must_sync {
            self.pages.sync();
            return Ok(Saved::Synced);
        }
        Ok(Saved::Buffered)
    }

    /// Adds a record with this data, which keeps its bytes. Of type crc and metadata there is nothing to add: the
    /// writer knows both, and the call does nothing.
    ///
    /// # Errors
    /// [`SaveError`]: the data is not what its type promises; nothing was added.
    pub fn push_raw(&mut self, record_type: RecordType, data: &[u8]) -> Result<(), SaveError> {
        match record_type {
            RecordType::Metadata | RecordType::Crc => {}
            RecordType::Entry => {
                let index = entry_index(data).map_err(SaveError::Entry)?;
                self.push(record_type, data);
                self.last_index = index;
            }
            RecordType::State => {
                if let Some(promised) = promise(data)? {
                    self.push(record_type, data);
                    self.promised = promised;
                    self.state = Some(data.to_vec());
                }
            }
            RecordType::Snapshot => {
                let snapshot = walpb::Snapshot::decode(data).map_err(SaveError::Snapshot)?;
                self.push(record_type, data);
                self.last_index = self.last_index.max(snapshot.index());
                // A server syncs after each of these.
                self.pages.sync();
            }
        }
        Ok(())
    }

    /// Adds an entry.
    pub fn push_entry(&mut self, entry: &Entry) {
        self.push(RecordType::Entry, &entry.encode_to_vec());
        self.last_index = entry.index();
    }

    /// Adds a hard state, which every segment after this one then begins with.
    pub fn push_hard_state(&mut self, state: HardState) {
        let data = state.encode_to_vec();
        self.push(RecordType::State, &data);
        self.promised = (state.term(), state.vote());
        self.state = Some(data);
    }

    /// Adds a snapshot record: at this point of the log a `.snap` was saved.
    pub fn push_snapshot(&mut self, snapshot: &walpb::Snapshot) {
        self.push(RecordType::Snapshot, &snapshot.encode_to_vec());
        self.last_index = self.last_index.max(snapshot.index());
        self.pages.sync();
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
        self.pages = Pages::default();
        self.push_head();
        if let Some(state) = self.state.take() {
            self.push(RecordType::State, &state);
            self.state = Some(state);
        }
        self.pages.sync();
        Ok(())
    }

    fn push_head(&mut self) {
        let before = len_u64(&self.log.bytes);
        self.log.push_crc();
        self.log.push_data(RecordType::Metadata, &self.metadata);
        self.pages.push(len_u64(&self.log.bytes).saturating_sub(before));
    }

    fn push(&mut self, record_type: RecordType, data: &[u8]) {
        let before = len_u64(&self.log.bytes);
        self.log.push_data(record_type, data);
        self.pages.push(len_u64(&self.log.bytes).saturating_sub(before));
    }
}

/// The raft index of an entry.
fn entry_index(data: &[u8]) -> Result<u64, WireError> {
    let mut index = 0;
    let mut rest = data;
    while let Some((field, value)) = next_field(&mut rest)? {
        match (field, value) {
            (3, Value::Varint(number)) => index = number,
            (3, other) => return Err(WireError::WireType { field, wire_type: other.wire_type() }),
            _ => {}
        }
    }
    Ok(index)
}

/// Term and vote of a hard state; `None` for an empty one.
fn promise(data: &[u8]) -> Result<Option<(u64, u64)>, SaveError> {
    let state = HardState::decode(data).map_err(SaveError::State)?;
    let is_empty = (state.term(), state.vote(), state.commit()) == (0, 0, 0);
    Ok((!is_empty).then(|| (state.term(), state.vote())))
}

/// How much of a segment a server has handed to the file: it gathers up to 128 KiB, and hands over whole pages when
/// more comes, and all of it when it syncs.
#[derive(Debug, Clone, Copy, Default)]
struct Pages {
    /// Bytes in the file.
    written: u64,
    /// Bytes in the buffer.
    buffered: u64,
}

impl Pages {
    const PAGE_BYTES: u64 = 4096;
    const BUFFER_BYTES: u64 = 128 * 1024;

    /// Takes in a frame: its length word and the rest come one after the other.
    fn push(&mut self, frame_bytes: u64) {
        self.take(WORD_BYTES);
        self.take(frame_bytes.saturating_sub(WORD_BYTES));
    }

    fn take(&mut self, bytes: u64) {
        let end = self.written.saturating_add(self.buffered).saturating_add(bytes);
        if self.buffered.saturating_add(bytes) <= Self::BUFFER_BYTES {
            self.buffered = self.buffered.saturating_add(bytes);
            return;
        }
        let last_page = end - end % Self::PAGE_BYTES;
        let begun = self.written.saturating_add(self.buffered);
        let page_in_buffer = begun.next_multiple_of(Self::PAGE_BYTES);
        if begun != page_in_buffer && end < page_in_buffer {
            // The page that was begun is not full yet, and the buffer has room for a page more.
            self.buffered = self.buffered.saturating_add(bytes);
            return;
        }
        // What is left of a page stays in the buffer, and so does a page that comes out even: only more than one
        // goes past it.
        let rest = end.saturating_sub(page_in_buffer);
        self.written = if rest > Self::PAGE_BYTES { last_page } else { page_in_buffer };
        self.buffered = end.saturating_sub(self.written);
    }

    fn sync(&mut self) {
        self.written = self.written.saturating_add(self.buffered);
        self.buffered = 0;
    }
}

/// [`LENGTH_WORD_BYTES`] as file offsets count.
const WORD_BYTES: u64 = 8;
const _: () = assert!(LENGTH_WORD_BYTES == 8);

/// Records in the making, with their rolling CRC.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    pub(crate) crc: u32,
}

impl Log {
    pub(crate) fn push_crc(&mut self) {
        self.frame(RecordType::Crc, None);
    }

    fn push(&mut self, record_type: RecordType, message: &impl Message) {
        self.push_data(record_type, &message.encode_to_vec());
    }

    pub(crate) fn push_data(&mut self, record_type: RecordType, data: &[u8]) {
        self.crc = crc::update(self.crc, data);
        self.frame(record_type, Some(data));
    }

    fn frame(&mut self, record_type: RecordType, data: Option<&[u8]>) {
        // Type and CRC are written in every dialect, zero or not.
        let mut head = Vec::with_capacity(HEAD_BYTES);
        encode_key(1, WireType::Varint, &mut head);
        encode_varint(record_type.number().cast_unsigned(), &mut head);
        encode_key(2, WireType::Varint, &mut head);
        encode_varint(u64::from(self.crc), &mut head);
        if let Some(data) = data {
            encode_key(3, WireType::LengthDelimited, &mut head);
            encode_varint(len_u64(data), &mut head);
        }
        let data = data.unwrap_or_default();
        let length = LengthWord::for_record(len_u64(&head).saturating_add(len_u64(data)));
        self.bytes.extend_from_slice(&length.to_word().to_le_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(data);
        self.bytes.extend((0..length.pad_len_bytes).map(|_| 0));
    }
}

/// Room for what stands before a record's data: three keys, a type of one digit, a CRC, a length.
const HEAD_BYTES: usize = 3 + 1 + 5 + 10;
