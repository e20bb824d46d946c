//! What can be wrong with a log of several segments, and what stands behind a break.

use crate::record::RecordType;
use crate::segment::FaultKind;

/// One thing that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFault {
    /// The segment's place among the log's segments; `None` for what is wrong with the log as a whole.
    pub segment: Option<usize>,
    /// The segment's name; empty when there is none.
    pub file: String,
    /// The record's place among those found in the segment, from 0.
    pub record: Option<u64>,
    /// The file offset of the record's frame, or of the bytes meant.
    pub offset: Option<u64>,
    /// What is wrong.
    pub kind: LogFaultKind,
    /// What stands behind it; only where reading breaks.
    pub after: Option<After>,
}

impl LogFault {
    /// The stable code, `WAL-…`, as documented in `docs/findings.md`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl std::fmt::Display for LogFault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.file.is_empty() {
            write!(out, "{}: ", self.file)?;
        }
        match (self.record, self.offset) {
            (Some(record), Some(offset)) => write!(out, "record {record} at {offset:#x}: ")?,
            (None, Some(offset)) => write!(out, "at {offset:#x}: ")?,
            (Some(record), None) => write!(out, "record {record}: ")?,
            (None, None) => {}
        }
        write!(out, "{}", self.kind)
    }
}

/// What is wrong with a log. Each variant says what a server makes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogFaultKind {
    /// A record does not hold; the codes are those of [`FaultKind`].
    #[error(transparent)]
    Record(FaultKind),
    /// `WAL-NO-SEGMENTS`: the directory holds no segment. A server takes such a member for a new one.
    #[error("there is no segment")]
    NoSegments,
    /// `WAL-EMPTY-SEGMENT`: no byte of the segment was written. A server reads nothing from it and does not complain.
    #[error("holds no record: its {len_bytes} bytes are all zero")]
    EmptySegment {
        /// Length of the file in bytes.
        len_bytes: u64,
    },
    /// `WAL-SEQUENCE-GAP`: segments are missing. A server will not start if the gap lies behind the segment it starts
    /// from; it does not notice one that follows segment 0, but then the chain of checksums breaks.
    #[error("has sequence number {found} where {expected} should follow: {} missing", found.saturating_sub(*expected))]
    SequenceGap {
        /// The number that should follow.
        expected: u64,
        /// The number that does.
        found: u64,
    },
    /// `WAL-SEQUENCE-TWICE`: two segments have one sequence number. A server will not start, except after segment 0.
    #[error("has sequence number {seq}, as {other} has")]
    SequenceTwice {
        /// The number.
        seq: u64,
        /// The segment before it in the order of names.
        other: String,
    },
    /// `WAL-NAME-INDEX`: the name promises another first entry than the one that follows. A server picks the segment to
    /// start from by this number, and may start from the wrong one.
    #[error("is named for entry {named}, and entry {follows} should follow")]
    NameIndex {
        /// The index the name has.
        named: u64,
        /// One more than the last index saved before the segment was begun.
        follows: u64,
    },
    /// `WAL-HEAD`: the segment does not begin with a crc record, so its chain of checksums has no start. A server will
    /// not start from it.
    #[error("begins with a record of type {}, not crc", found.name())]
    Head {
        /// The first record's type.
        found: RecordType,
    },
    /// `WAL-CHAIN`: the segment goes on from another checksum than the one before it ends with: a segment between them
    /// is missing, records at the end of the one before are, or one of them is of another log. A server will not start.
    #[error("begins with crc {found:08x} where the segment before it ends with {expected:08x}")]
    Chain {
        /// The rolling CRC at the end of the segment before.
        expected: u32,
        /// The CRC its head states.
        found: u32,
    },
    /// `WAL-HIDDEN`: records follow a length word of zero, by which a server takes the file to be at its end. It skips
    /// them in silence; at the end of the log it overwrites them with zeros when it starts.
    #[error(
        "{records} records stand behind {gap_bytes} bytes that end the file for a server; the first at {first_at:#x}"
    )]
    Hidden {
        /// How many well-formed records there are.
        records: u64,
        /// File offset of the first.
        first_at: u64,
        /// Bytes between the end as a server sees it and the first.
        gap_bytes: u64,
    },
    /// `WAL-AFTER-END`: bytes that are no records follow the end. A server never reads them, and zeroes them when it
    /// starts.
    #[error("bytes that are no record follow the end; the first that is not zero at {first_at:#x}")]
    AfterEnd {
        /// File offset of the first that is not zero.
        first_at: u64,
    },
    /// `WAL-PADDING`: the bytes that fill a frame up to a multiple of 8 are not zero, or bits around the record that have
    /// no meaning are not as etcd writes them. Nothing covers and nothing reads them: no server notices.
    #[error("its padding, or a bit that means nothing, is not as etcd writes it")]
    Padding,
    /// `WAL-ENTRY-GAP`: raft indexes are missing between two entries. A server that needs the later one will not start.
    #[error("entry {found} follows entry {after}")]
    EntryGap {
        /// The index before.
        after: u64,
        /// The index that follows it.
        found: u64,
    },
    /// `WAL-TERM-BACK`: an entry has a lower term than the one it follows, which raft never writes.
    #[error("entry {index} has term {term}, and the one before it term {before}")]
    TermBack {
        /// The entry's index.
        index: u64,
        /// Its term.
        term: u64,
        /// The term of the entry before.
        before: u64,
    },
    /// `WAL-COMMIT-BEYOND`: the last hard state says that more entries are committed than there are: the end of the log
    /// is missing. A server stops with `is out of range`.
    #[error("commit {commit} lies beyond the last entry, {last}")]
    CommitBeyond {
        /// The commit index of the last hard state.
        commit: u64,
        /// The last entry's index; 0 without one.
        last: u64,
    },
    /// `WAL-SNAPSHOT-BEYOND-COMMIT`: a snapshot record stands for an entry that no hard state calls committed. A server
    /// ignores it, and the `.snap` of that name with it.
    #[error("a snapshot at entry {index} lies beyond the last commit, {commit}")]
    SnapshotBeyondCommit {
        /// The snapshot's index.
        index: u64,
        /// The commit index of the last hard state; 0 without one.
        commit: u64,
    },
    /// `WAL-NO-METADATA`: no record says whose log this is. A server will not start.
    #[error("no record says which member's log this is")]
    NoMetadata,
    /// `WAL-UNREADABLE`: the disk refused to hand out bytes. What stands before them was read.
    #[error("cannot be read from here on: {message}")]
    Unreadable {
        /// What the system said.
        message: String,
    },
    /// `WAL-RUNS`: term or index jump so often that their history was not kept whole. No raft log looks like that.
    #[error(
        "entries change their term or jump more than {limit} times; which of the further ones count is not worked out"
    )]
    TooManyRuns {
        /// How many runs of entries are kept.
        limit: u64,
    },
}

impl LogFaultKind {
    /// The stable code, `WAL-…`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Record(kind) => kind.code(),
            Self::NoSegments => "WAL-NO-SEGMENTS",
            Self::EmptySegment { .. } => "WAL-EMPTY-SEGMENT",
            Self::SequenceGap { .. } => "WAL-SEQUENCE-GAP",
            Self::SequenceTwice { .. } => "WAL-SEQUENCE-TWICE",
            Self::NameIndex { .. } => "WAL-NAME-INDEX",
            Self::Head { .. } => "WAL-HEAD",
            Self::Chain { .. } => "WAL-CHAIN",
            Self::Hidden { .. } => "WAL-HIDDEN",
            Self::AfterEnd { .. } => "WAL-AFTER-END",
            Self::Padding => "WAL-PADDING",
            Self::EntryGap { .. } => "WAL-ENTRY-GAP",
            Self::TermBack { .. } => "WAL-TERM-BACK",
            Self::CommitBeyond { .. } => "WAL-COMMIT-BEYOND",
            Self::SnapshotBeyondCommit { .. } => "WAL-SNAPSHOT-BEYOND-COMMIT",
            Self::NoMetadata => "WAL-NO-METADATA",
            Self::Unreadable { .. } => "WAL-UNREADABLE",
            Self::TooManyRuns { .. } => "WAL-RUNS",
        }
    }
}

/// What stands behind a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct After {
    /// How many well-formed records follow in the same segment, past further breaks too.
    pub well_formed_records: u64,
    /// File offset of the first of them.
    pub first_at: Option<u64>,
    /// No record follows, no byte behind the broken frame differs from zero, and the file ends in zeros: the picture of
    /// a write that power loss cut short.
    pub zeros_to_end: bool,
    /// The one bit that explains the break.
    pub bit_flip: Option<BitFlip>,
    /// Whether the head of the next segment states the CRC of the last record found in this one; `None` without a next
    /// segment.
    pub next_segment_continues: Option<bool>,
}

/// A single bit whose turning mends a record. With it turned the record's CRC holds and the record after it goes on
/// from there, or there is none.
///
/// Any other damage to a record of `n` bytes looks like this with a chance of at most `8 n` in 2^32, since that many
/// single bits have a checksum difference of their own: one in half a million for a kilobyte, one in 500 for a
/// megabyte. (Damage to two bits never does: the code's distance is 4.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitFlip {
    /// File offset of the byte.
    pub offset: u64,
    /// The bit in it, 0 for the lowest.
    pub bit: u8,
    /// What the byte belongs to.
    pub part: Part,
}

/// A part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The length word.
    Length,
    /// The record's type.
    Type,
    /// The record's CRC.
    Crc,
    /// The record's data.
    Data,
    /// The zeros that fill the frame up.
    Padding,
    /// The bytes that say which field follows and how long it is.
    Framing,
}

impl Part {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Type => "type",
            Self::Crc => "crc",
            Self::Data => "data",
            Self::Padding => "padding",
            Self::Framing => "framing",
        }
    }
}
