//! What can be made of a damaged log, and making it.
//!
//! [`plan`] reads a log and says what a mended one consists of, what is changed for it, and what is lost. It writes
//! nothing and opens nothing. [`write()`] then makes the mended log: frames that can stay are copied as they are; where
//! records before them are lost, the chain of checksums goes on from what stays, so their CRCs are written anew, their
//! data is not. The mended log holds no damage by the same rules as the plan: [`verify`] reads it back.
//!
//! What loses nothing that is known is always part of the plan:
//!
//! - a single bit whose turning mends a record is turned back, in data, checksum, type, length or padding;
//! - a last record whose write did not reach the disk is cut off, as a server does when it starts (FORMATS E.5);
//! - records behind zeros that end a file for a server come back when the chain goes on with them;
//! - a segment is given the name that its place in the chain has; a copy of another segment is left out.
//!
//! The rest is loss, and a plan with losses is for a caller who accepts it. Which records may stay behind those that are
//! lost is told in `repair/join.rs`.

mod join;
mod order;
mod outcome;
mod survey;
mod write;

pub use write::{Unlike, WriteError, verify, write};

use std::ops::ControlFlow;

use crate::log::Segments;
use crate::raftpb::HardState;
use crate::segment::Fault;

/// What is known of the member besides its log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Index and term of the `.snap` files that can be read.
    pub snapshots: Vec<(u64, u64)>,
    /// The db, where there is one.
    pub db: Option<DbFacts>,
}

/// What is known of a member's db.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbFacts {
    /// Index of the last entry in it.
    pub consistent_index: u64,
    /// That entry's term; dbs of etcd 3.4 do not say.
    pub term: Option<u64>,
}

/// A byte that is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// The segment's place among the names.
    pub segment: usize,
    /// File offset of the byte.
    pub offset: u64,
    /// The byte as it is.
    pub was: u8,
    /// The byte as it was written.
    pub now: u8,
}

/// Something that is put right, and loses nothing that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Change {
    /// A bit is turned back: the record then holds, and the chain goes on.
    #[error(
        "{file}: the byte at {offset:#x}, of a record's {part}, is {was:02x} and was written as {now:02x}"
    )]
    BitTurned {
        /// The segment's name.
        file: String,
        /// File offset of the byte.
        offset: u64,
        /// What part of a frame it belongs to.
        part: &'static str,
        /// The byte as it is.
        was: u8,
        /// The byte as it was written.
        now: u8,
    },
    /// Padding is made zero.
    #[error("{file}: the padding at {offset:#x} is made zero")]
    PaddingZeroed {
        /// The segment's name.
        file: String,
        /// File offset of the byte.
        offset: u64,
    },
    /// The end of a write that did not reach the disk is cut off, as a server does when it starts.
    #[error(
        "{file}: the last record, at {offset:#x}, was not written whole, and is cut off as a server would: {fault}{}",
        claim(*claims)
    )]
    TailDropped {
        /// The segment's name.
        file: String,
        /// File offset from which on it is cut.
        offset: u64,
        /// What is wrong with the record.
        fault: Fault,
        /// Index and term of the entry that its first bytes say it is.
        claims: Option<(u64, u64)>,
    },
    /// Records that a server does not see come back.
    #[error(
        "{file}: the records behind {len_bytes} bytes of no record at {offset:#x} follow those before it, and move up"
    )]
    Rejoined {
        /// The segment's name.
        file: String,
        /// File offset of the gap.
        offset: u64,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// Bytes behind the end are made zero, as a server does when it starts.
    #[error("{file}: the bytes behind the end, at {offset:#x}, are made zero")]
    AfterEndZeroed {
        /// The segment's name.
        file: String,
        /// File offset of the first that is not.
        offset: u64,
    },
    /// A segment gets the name of its place.
    #[error("{file} is {to} by its checksums and its entries, and is called so")]
    Renamed {
        /// The segment's name.
        file: String,
        /// The name it gets.
        to: String,
    },
    /// A segment that holds what another begins with is left out.
    #[error("{file} holds what {other} begins with, and is left out")]
    CopyDropped {
        /// The segment's name.
        file: String,
        /// The other's name.
        other: String,
    },
    /// A segment that holds nothing is left out.
    #[error("{file} holds no record, and is left out")]
    EmptyDropped {
        /// The segment's name.
        file: String,
    },
    /// A snapshot is made at the db's last entry, since there is none that servers could start from. The log goes on from
    /// there.
    #[error("a snapshot is made at entry {index}, where the db stands, since there is none to start from")]
    StartMade {
        /// Its index.
        index: u64,
    },
    /// The promise of a hard state that does not stay is repeated.
    #[error("a hard state is added: term {}, vote {:x}, commit {}", state.term(), state.vote(), state.commit())]
    StateAdded {
        /// The state.
        state: HardState,
    },
}

/// Something that is lost, or may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// Records cannot be read or do not belong, and those behind them may stay.
    #[error(
        "{file}: {} at {offset:#x}{}; {entries}", cause(fault.as_ref()), behind(*records)
    )]
    Passed {
        /// The segment's name.
        file: String,
        /// File offset of the break.
        offset: u64,
        /// What is wrong there; `None` where the chain does not go on.
        fault: Option<Fault>,
        /// Well-formed records that do not stay.
        records: u64,
        /// What entries can have been among them.
        entries: Passed,
    },
    /// The log ends at a break.
    #[error("{file}: {} at {offset:#x}, and the log is cut there{}", cause(fault.as_ref()), behind(*records))]
    Cut {
        /// The segment's name.
        file: String,
        /// File offset of the break.
        offset: u64,
        /// What is wrong there; `None` where the chain does not go on.
        fault: Option<Fault>,
        /// Well-formed records behind it.
        records: u64,
    },
    /// Entries that nobody can read any more.
    #[error("{} missing{}", is_or_are(*first, *last), held_by(*covered))]
    Missing {
        /// The first index.
        first: u64,
        /// The last.
        last: u64,
        /// What else holds what they did.
        covered: Option<Cover>,
    },
    /// Entries that damaged records say they are, or records whose checksum cannot be checked any more. They do not stay.
    #[error(
        "{file}: {} at {from:#x}, which cannot be proven, {}",
        if first == last { "a record" } else { "records" },
        if first == last { format!("says it is entry {first} of term {term}") }
        else { format!("say they are entries {first} to {last} of term {term}") }
    )]
    Claimed {
        /// The segment's name.
        file: String,
        /// File offset of the first one's frame.
        from: u64,
        /// The first index.
        first: u64,
        /// The last.
        last: u64,
        /// Their term.
        term: u64,
    },
    /// Entries that can be read and do not stay.
    #[error(
        "{} of term {term} {} not stay{}",
        entries(*first, *last), if first == last { "does" } else { "do" }, held_by(*covered)
    )]
    Dropped {
        /// The first index.
        first: u64,
        /// The last.
        last: u64,
        /// Their term.
        term: u64,
        /// What else holds what they did.
        covered: Option<Cover>,
    },
    /// A segment of another member's log is left out.
    #[error("{file} is of another member's log, and is left out")]
    Foreign {
        /// The segment's name.
        file: String,
    },
    /// The log says less committed than it did.
    #[error("entries up to {was} were known to be committed, and the log then says {now}")]
    Commit {
        /// The highest commit a hard state said.
        was: u64,
        /// What it says then.
        now: u64,
    },
    /// A new snapshot stands for the entries up to the db's, and what only the v2 store held is lost.
    #[error("a snapshot is made at entry {index}, where the db stands")]
    SnapshotMade {
        /// Its index.
        index: u64,
    },
}

/// What can have been among records that are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// No entry.
    None,
    /// Entries, and the indexes tell that some were.
    Missing,
    /// Entries that nobody needs: an entry of each index they can have had stays.
    Replaced,
}

impl std::fmt::Display for Passed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::None => "no entry is among what is lost",
            Self::Missing => "entries are among what is lost",
            Self::Replaced => "no index is missing: an entry among what is lost was overwritten later",
        })
    }
}

/// What holds the effect of entries that the log no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// A snapshot from which servers start, with its `.snap` and a db that is as new.
    Snapshot(u64),
    /// The db, which has the entries up to this one.
    Db(u64),
    /// A snapshot of which the log, given alone, has a record.
    Record(u64),
}

fn held_by(cover: Option<Cover>) -> String {
    match cover {
        None => String::new(),
        Some(Cover::Snapshot(index)) => {
            format!(
                "; the snapshot at entry {index}, which servers start from, covers what was committed of them"
            )
        }
        Some(Cover::Db(index)) => {
            format!("; the db, which is at entry {index}, holds what was committed of them")
        }
        Some(Cover::Record(index)) => format!(
            "; the log has a record of a snapshot at entry {index}, which covers them where its .snap and db are there"
        ),
    }
}

fn entries(first: u64, last: u64) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
}

fn is_or_are(first: u64, last: u64) -> String {
    format!("{} {}", entries(first, last), if first == last { "is" } else { "are" })
}

fn claim(claims: Option<(u64, u64)>) -> String {
    claims.map_or_else(String::new, |(index, term)| {
        format!("; its first bytes say that it is entry {index} of term {term}")
    })
}

fn cause(fault: Option<&Fault>) -> String {
    fault.map_or_else(
        || "the records do not follow those before them".to_owned(),
        |fault| fault.kind.to_string(),
    )
}

fn behind(records: u64) -> String {
    match records {
        0 => String::new(),
        1 => ", with one record behind it".to_owned(),
        many => format!(", with {many} records behind it"),
    }
}

/// Why a plan must not be carried out, whatever is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The log would end before a snapshot it has a record of.
    #[error("the log would end at entry {last}, before the snapshot at entry {index}")]
    BelowSnapshot {
        /// Where the log would end.
        last: u64,
        /// The snapshot.
        index: u64,
    },
    /// The log would end before what is committed.
    #[error("the log would end at entry {last}, and entries up to {commit} are committed")]
    BelowCommit {
        /// Where the log would end.
        last: u64,
        /// The highest commit a hard state said.
        commit: u64,
    },
}

/// Entries that can be read and do not stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedRun {
    /// The segment's place among the names.
    pub segment: usize,
    /// The first index.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Their term.
    pub term: u64,
    /// File offset of the first one's frame.
    pub from: u64,
    /// File offset of the end of the last one's frame.
    pub to: u64,
}

/// One segment of the mended log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MendedSegment {
    /// Its name.
    pub name: String,
    /// The place among the names of the segment its records come from; `None` when all of it is new.
    pub source: Option<usize>,
    /// File offsets of the records that stay: from, to.
    pub parts: Vec<(u64, u64)>,
    /// It gets a crc record of its own, since the one it had does not stay.
    pub adds_head: bool,
    /// It gets a metadata record of its own.
    pub adds_metadata: bool,
}

/// A record that is added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// A snapshot record.
    Snapshot {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// A hard state.
    State(HardState),
}

/// What a mended log consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// What is put right without loss.
    pub changes: Vec<Change>,
    /// What is lost; a caller who does not accept it does not write.
    pub losses: Vec<Loss>,
    /// Why it must not be written at all.
    pub refusals: Vec<Refusal>,
    /// Entries that can be read and do not stay, in the order of the log.
    pub dropped: Vec<DroppedRun>,
    /// Entries that records say they are which cannot be proven; they do not stay either.
    pub claimed: Vec<DroppedRun>,
    /// The segments of the mended log.
    pub segments: Vec<MendedSegment>,
    /// Records added at its end, in their order.
    pub added: Vec<Added>,
    /// The bytes that are not what was written.
    pub edits: Vec<Edit>,
    /// The data of the log's metadata records.
    pub metadata: Vec<u8>,
    /// Its first entry, if it has one.
    pub first_index: Option<u64>,
    /// The indexes of its entries, first and last of each stretch without a gap.
    pub stretches: Vec<(u64, u64)>,
    /// Index and term of its last entry.
    pub last: Option<(u64, u64)>,
    /// What its last hard state says.
    pub state: HardState,
    /// The snapshot that servers start from, or 0.
    pub start: u64,
    /// A `.snap` of this index and term has to be written beside it.
    pub new_snapshot: Option<(u64, u64)>,
    /// Length of what is read to write it, in bytes.
    pub source_bytes: u64,
    /// No later vote than the last hard state's can have been lost.
    pub vote_known: bool,
}

impl Plan {
    /// Nothing is wrong with the log.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.changes.is_empty() && self.losses.is_empty()
    }

    /// The log ends before entries that were acknowledged, or may have been, or a vote may be lost: the member must not go
    /// back to its peers.
    #[must_use]
    pub fn forgets(&self) -> bool {
        // What a snapshot covers that servers start from is asked of nobody any more.
        !self.vote_known
            || self.losses.iter().any(|loss| {
                !matches!(
                    loss,
                    Loss::Passed { .. } | Loss::Claimed { .. } | Loss::Missing { covered: Some(_), .. }
                )
            })
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no segment.
    #[error("there is no segment in the log, and nothing to repair")]
    NoSegments,
    /// No record says whose log it is.
    #[error("no record that can be read says whose log this is, and without one no server starts from it")]
    NoMetadata,
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What to report progress to: it hears of bytes, and answers whether to go on.
pub type Progress<'a> = &'a (dyn Fn(u64) -> ControlFlow<()> + Sync);

/// Reads a log, and says what can be made of it.
///
/// Memory: one segment where segments are not mapped, and some dozens of bytes for each run of entries of one term.
///
/// # Errors
/// [`PlanError`].
pub fn plan(segments: &impl Segments, facts: &Facts, progress: Progress<'_>) -> Result<Plan, PlanError> {
    let names = segments.names();
    if names.is_empty() {
        return Err(PlanError::NoSegments);
    }
    let mut files = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let known = files.iter().find_map(|file: &survey::File| file.metadata.as_deref());
        let file = survey::survey(at, name, segments.piece(at), known);
        if progress(file.len_bytes).is_break() {
            return Err(PlanError::Interrupted);
        }
        files.push(file);
    }
    let edits: Vec<Edit> = files.iter().flat_map(|file| &file.edits).map(|(edit, _)| *edit).collect();
    let ordered = order::order(files, segments, &edits);
    outcome::outcome(&ordered, facts, edits)
}
