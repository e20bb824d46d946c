//! The segments of a directory as one log (FORMATS E).
//!
//! [`read`] goes through all segments, several at a time, and past every break; then it joins them in the order of their
//! names: sequence, chain of checksums, metadata, and raft's rule that an entry replaces that of its index and drops all
//! that stood behind it. Entries are kept as [`EntryRun`]s, so that memory follows the number of changes of term and of
//! restarts, not of entries. What a server would read of all that is told apart by [`Reach`] and [`Log::server_end`].

mod join;
mod one;

use crate::directory::{Listing, SegmentName, list};
use crate::fault::LogFault;
use crate::frame::len_u64;
use crate::raftpb::{ConfChangeV2, HardState, Metadata, walpb};
use crate::segment::FaultKind;
use crate::summary::ConfChangeEntry;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::{ControlFlow, RangeInclusive};

/// The most faults a [`Log`] lists.
pub const MAX_FAULTS: usize = 4096;

/// The most runs of entries a [`Log`] keeps, 18 MiB of them. A log of real servers has one for each segment and each
/// change of leader; a file of alternating terms, made by hand, has one for each entry.
pub const MAX_RUNS: usize = 1 << 18;

/// The most bytes that the snapshot records and membership changes of a [`Log`] may take, each.
pub const MAX_LISTED_BYTES: u64 = 16 << 20;

/// A log's segments as bytes, however the caller comes by them.
pub trait Segments: Sync {
    /// Their names, in the order a server reads them ([`Listing::segments`]).
    fn names(&self) -> &[SegmentName];

    /// The bytes of the segment at this place among the names. Asked for once for each in a [`read`], by several threads
    /// at a time.
    fn piece(&self, at: usize) -> Piece<'_>;
}

/// The bytes of one segment, as far as they can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The file's bytes from its start.
    pub bytes: Cow<'a, [u8]>,
    /// Why they end before the file does.
    pub unreadable: Option<Unreadable>,
}

/// Where a disk refused to hand out bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// File offset of the first byte that could not be read.
    pub offset: u64,
    /// What the system said.
    pub message: String,
}

/// A log in memory: for tests, fuzzing, and files read elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryLog {
    names: Vec<SegmentName>,
    bytes: Vec<Vec<u8>>,
}

impl MemoryLog {
    /// The segments among these files; others are dropped. The order does not matter.
    #[must_use]
    pub fn new(files: Vec<(String, Vec<u8>)>) -> Self {
        let mut segments: Vec<(SegmentName, Vec<u8>)> = files
            .into_iter()
            .filter_map(|(name, bytes)| SegmentName::parse(&name).map(|name| (name, bytes)))
            .collect();
        segments.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (names, bytes) = segments.into_iter().unzip();
        Self { names, bytes }
    }

    /// The segments' names and bytes, in the order a server reads them.
    #[must_use]
    pub fn into_files(self) -> Vec<(String, Vec<u8>)> {
        self.names.into_iter().map(|name| name.name).zip(self.bytes).collect()
    }

    /// What the names are.
    #[must_use]
    pub fn listing(&self) -> Listing {
        list(self.names.iter().map(|name| name.name.clone()))
    }
}

impl Segments for MemoryLog {
    fn names(&self) -> &[SegmentName] {
        &self.names
    }

    fn piece(&self, at: usize) -> Piece<'_> {
        let bytes = self.bytes.get(at).map_or(&[][..], Vec::as_slice);
        Piece { bytes: Cow::Borrowed(bytes), unreadable: None }
    }
}

/// The caller asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Whether a server comes to a place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// It reads it, going through all segments in order.
    Read,
    /// It stands behind a length word of zero: the server passes on to the next segment without a word.
    Hidden,
    /// It stands behind a break, in this segment or an earlier one.
    AfterBreak,
}

/// Where something stands in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The segment's place among the log's segments.
    pub segment: usize,
    /// The record's place among those found in the segment, from 0.
    pub record: u64,
    /// The file offset of its frame.
    pub offset: u64,
    /// Whether a server comes to it.
    pub reach: Reach,
    /// What stands there.
    pub value: T,
}

/// How a server's reading of one segment ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentStop {
    /// At a length word of zero. In a segment that is not the last it goes on with the next one.
    ZeroLength,
    /// With the file.
    EndOfFile,
    /// At a record that does not hold.
    Broken(FaultKind),
    /// At bytes the disk does not hand out.
    Unreadable,
}

impl SegmentStop {
    /// Whether a server that meets this in a log's last segment cuts the segment there and starts (FORMATS E.5).
    #[must_use]
    pub const fn is_cut_off_at_start(&self) -> bool {
        matches!(
            self,
            Self::Broken(FaultKind::LengthCut { .. } | FaultKind::RecordCut { .. } | FaultKind::Torn { .. })
        )
    }
}

/// What one segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its name.
    pub name: SegmentName,
    /// Length of its readable bytes.
    pub len_bytes: u64,
    /// How many records hold, wherever they stand.
    pub records: u64,
    /// How many of them are entries.
    pub entries: u64,
    /// How many records a server reads before [`Self::end`], were this the only segment.
    pub read_records: u64,
    /// How a server's reading of it ends.
    pub end: SegmentStop,
    /// The file offset where that is: behind the last record it reads.
    pub end_offset: u64,
    /// The CRC its first record states, if that is a crc record.
    pub head_crc: Option<u32>,
    /// The rolling CRC where a server's reading of it ends.
    pub end_crc: u32,
    /// The rolling CRC behind the last record found anywhere in it; `None` behind a break that no record follows.
    pub last_crc: Option<u32>,
    /// Index and term of the first entry in file order.
    pub first_entry: Option<(u64, u64)>,
    /// Index and term of the last entry in file order.
    pub last_entry: Option<(u64, u64)>,
    /// Records that stand behind a length word of zero.
    pub hidden_records: u64,
    /// The file offset of the first byte that is not zero behind a length word of zero at which a server stops. A server
    /// never reads what stands there.
    pub first_nonzero_after_end: Option<u64>,
}

/// Entries of ascending, contiguous indexes and one term, following each other in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRun {
    /// The segment's place among the log's segments.
    pub segment: usize,
    /// The first entry's index.
    pub first_index: u64,
    /// The last entry's index.
    pub last_index: u64,
    /// Their term.
    pub term: u64,
    /// File offset of the frame of the first.
    pub first_offset: u64,
    /// File offset of the frame of the last.
    pub last_offset: u64,
    /// Whether a server comes to them.
    pub reach: Reach,
    /// The last of them that counts; those behind it were overwritten by later entries. `None` when all were.
    pub standing_last: Option<u64>,
    /// Whether bytes that do not hold stand between the entry before and the first of these: entries may be missing there.
    pub behind_break: bool,
}

/// Entries that later ones overwrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overwritten {
    /// The segment's place among the log's segments.
    pub segment: usize,
    /// Their indexes.
    pub indexes: RangeInclusive<u64>,
    /// Their term.
    pub term: u64,
}

/// A change of several members at once, which no etcd server writes or accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfChangeV2Entry {
    /// Its raft index.
    pub index: u64,
    /// Its raft term.
    pub term: u64,
    /// The change.
    pub change: ConfChangeV2,
}

/// How a server's reading of the log ends, going through all segments in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerEnd {
    /// The segment.
    pub segment: usize,
    /// The file offset in it.
    pub offset: u64,
    /// How.
    pub kind: ServerEndKind,
}

/// See [`ServerEnd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEndKind {
    /// At the end of the last segment: all is well.
    Clean,
    /// At a torn or cut record of the last segment, where the server cuts the file and starts.
    CutOff,
    /// At something with which it does not start.
    Stops,
}

/// A log, read to its end and past every break.
///
/// What it lists is in the order of the segments' names and, within them, of the file. The methods about entries go by
/// all that was found; [`EntryRun::reach`] and [`Located::reach`] say what of it a server would see.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// The segments.
    pub segments: Vec<SegmentFacts>,
    /// What is wrong, at most [`MAX_FAULTS`].
    pub faults: Vec<LogFault>,
    /// How many more faults there are.
    pub more_faults: u64,
    /// Whose log it is, by its first metadata record.
    pub metadata: Option<Metadata>,
    /// The bytes of that record's data.
    pub metadata_raw: Option<Vec<u8>>,
    /// All entries.
    pub runs: Vec<EntryRun>,
    /// How many runs were left out for [`MAX_RUNS`].
    pub more_runs: u64,
    /// How many entries there are, overwritten ones included.
    pub entries: u64,
    /// The last hard state.
    pub hard_state: Option<Located<HardState>>,
    /// The last hard state that a server comes to.
    pub server_hard_state: Option<Located<HardState>>,
    /// All snapshot records, up to [`MAX_LISTED_BYTES`]; a new log begins with one at index 0, term 0.
    pub snapshots: Vec<Located<walpb::Snapshot>>,
    /// How many were left out.
    pub more_snapshots: u64,
    /// The entries of type [`crate::raftpb::EntryType::ConfChange`], up to [`MAX_LISTED_BYTES`], overwritten ones
    /// included.
    pub conf_changes: Vec<Located<ConfChangeEntry>>,
    /// Those of type [`crate::raftpb::EntryType::ConfChangeV2`].
    pub conf_changes_v2: Vec<Located<ConfChangeV2Entry>>,
    /// How many of both were left out.
    pub more_conf_changes: u64,
    /// How a server's reading ends; `None` without a segment.
    pub server_end: Option<ServerEnd>,
    /// The runs with entries that count, by their place in `runs`. Their indexes ascend.
    standing: Vec<usize>,
}

/// Reads a whole log.
///
/// `progress` is told, from any thread, how many bytes were dealt with since it was called last, at least once for each
/// 4 MiB; what it answers ends the reading.
///
/// # Errors
/// [`Interrupted`] when `progress` says so. What is wrong with the log is no error but in [`Log::faults`].
pub fn read(
    segments: &impl Segments,
    progress: &(dyn Fn(u64) -> ControlFlow<()> + Sync),
) -> Result<Log, Interrupted> {
    let names = segments.names();
    let mut joined = join::Join::new(names);
    // A window at a time, so that what was gathered of hostile segments is not held for all of them at once.
    let window = rayon::current_num_threads().max(1).saturating_mul(2);
    let places: Vec<usize> = (0..names.len()).collect();
    for places in places.chunks(window) {
        let read: Result<Vec<one::One>, Interrupted> = places
            .par_iter()
            .with_max_len(1)
            .map(|at| one::read(*at, &segments.piece(*at), progress))
            .collect();
        for one in read? {
            joined.push(one);
        }
    }
    Ok(joined.finish())
}

impl Log {
    /// The index of the first entry that counts from which entries follow without a gap up to [`Self::last_index`].
    #[must_use]
    pub fn first_index(&self) -> Option<u64> {
        let mut first: Option<u64> = None;
        for run in self.standing_runs().rev() {
            if first
                .is_some_and(|first| run.standing_last.and_then(|last| last.checked_add(1)) != Some(first))
            {
                break;
            }
            first = Some(run.first_index);
        }
        first
    }

    /// The index of the last entry that counts.
    #[must_use]
    pub fn last_index(&self) -> Option<u64> {
        self.standing_runs().next_back().and_then(|run| run.standing_last)
    }

    /// The term of the entry of this index that counts; `None` when there is none.
    #[must_use]
    pub fn term_of(&self, index: u64) -> Option<u64> {
        let at = self
            .standing
            .partition_point(|at| self.runs.get(*at).is_some_and(|run| run.first_index <= index));
        let run = self.runs.get(*self.standing.get(at.checked_sub(1)?)?)?;
        (index <= run.standing_last?).then_some(run.term)
    }

    /// Whether the entry of this index at this place of the log was overwritten by a later one.
    #[must_use]
    pub fn is_overwritten(&self, segment: usize, offset: u64, index: u64) -> bool {
        let at = self.runs.partition_point(|run| (run.segment, run.first_offset) <= (segment, offset));
        let Some(run) = at.checked_sub(1).and_then(|at| self.runs.get(at)) else { return false };
        run.segment == segment
            && offset <= run.last_offset
            && run.standing_last.is_none_or(|last| index > last)
    }

    /// The entries that were overwritten, in file order.
    pub fn overwritten(&self) -> impl Iterator<Item = Overwritten> {
        self.runs.iter().filter_map(|run| {
            let first = match run.standing_last {
                Some(last) => last.checked_add(1)?,
                None => run.first_index,
            };
            (first <= run.last_index).then_some(Overwritten {
                segment: run.segment,
                indexes: first..=run.last_index,
                term: run.term,
            })
        })
    }

    /// The runs that have entries that count, by ascending index; each counts up to [`EntryRun::standing_last`].
    pub fn standing_runs(&self) -> impl DoubleEndedIterator<Item = &EntryRun> {
        self.standing.iter().filter_map(|at| self.runs.get(*at))
    }

    /// The commit index of the last hard state; 0 without one.
    #[must_use]
    pub fn commit(&self) -> u64 {
        self.hard_state.as_ref().map_or(0, |state| state.value.commit())
    }

    /// How many bytes were read.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len_bytes).fold(0, u64::saturating_add)
    }

    /// How many records hold.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).fold(0, u64::saturating_add)
    }
}

/// The offset of the last byte that is not zero, plus one.
fn nonzero_len(bytes: &[u8]) -> u64 {
    const CHUNK: usize = 256;
    let mut rest = bytes;
    while let Some((before, chunk)) = rest.split_last_chunk::<CHUNK>() {
        if *chunk != [0; CHUNK] {
            break;
        }
        rest = before;
    }
    let len = rest.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    len_u64(bytes.get(..len).unwrap_or_default())
}
