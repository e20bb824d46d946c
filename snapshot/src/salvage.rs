//! Salvage: from whatever is left of one member's databases and its log to one sound snapshot, with an account of what is missing
//! (FORMATS A.11, A.12).
//!
//! Revisions are immutable, so every intact leaf of records is evidence, whether a tree still reaches it or not. Four steps:
//!
//! 1. [`gather`] reads all inputs page by page, follows every tree that can be followed, and sorts the leaves of records.
//! 2. [`Evidence::plan`] sweeps over them, tries the log, and lists the ways out, best first, with what each loses.
//! 3. [`write`](write()) takes one way, builds a fresh file, reads it back, verifies it and gives it its name.
//! 4. The [`Report`] tells what was found, which of it is certain, and what is missing.
//!
//! The two rooms beside these: `small` gives the buckets beside `key` (`small::gather(&Ground, tree, watch) -> Small`), `log` tries what logs
//! there are (`log::ways(&Ground, watch) -> FromLogs`). A `Ground` is the evidence with the rules by which records count; it
//! offers `evidence` (sources, trees, leaves of every class), `sweep` over a range of revisions, `verdict` on a group, and
//! `build_base(Base, &Small) -> FileSource`, a database without a name.
//!
//! Memory follows pages, not records: 64 bytes for a page run that looks like a page, 40 bytes for a leaf of records, and a bit
//! for each record where a compaction has to be repeated. Work is bounded by the length of the files, since every page belongs to
//! one run at most.

mod account;
mod classify;
#[cfg(test)]
mod crafted;
mod evidence;
pub mod extract;
mod ground;
mod inputs;
mod joined;
mod log;
mod plan;
pub mod report;
mod rules;
mod small;
pub mod sweep;
mod trees;
mod ways;
mod write;

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use crate::edited::EditError;
use crate::finding::Finding;
use crate::integrity::Changed;
use crate::log_files::LogFilesError;
use crate::mvcc::{Release, Revision};
use crate::opened::{InputOptions, OpenError};
use crate::save::SaveError;
use crate::stage::{Owner, StageError};

pub use classify::{Class, Point};
pub use evidence::{Evidence, gather, gather_bytes};
pub use plan::Plan;
pub use report::Report;
pub use sweep::{Copy, Group, State, Trust};
pub use write::write;

/// Bytes that must not be read, of one input as it was given; `None` is all of them.
pub type Unreadable = (Option<PathBuf>, Vec<Range<u64>>);

/// How inputs are read, and by which rules.
#[derive(Debug, Clone, Default)]
pub struct SalvageOptions {
    /// How files are opened, locked and unpacked.
    pub input: InputOptions,
    /// Length of a page in bytes, where the user knows it.
    pub page_size: Option<u32>,
    /// What must not be read.
    pub bad_maps: Vec<Unreadable>,
    /// The log's directory, where etcd was given one of its own.
    pub wal_dir: Option<PathBuf>,
    /// Whether logs are left alone.
    pub no_replay: bool,
    /// Whether records come back that a compaction had removed and that older pages still hold.
    pub include_compacted: bool,
    /// The release whose rules hold when a log is replayed and a compaction is repeated; `None` for what wrote the data.
    pub as_etcd: Option<Release>,
}

/// What to write where.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The snapshot to write; it must not exist. `None` writes nothing and only draws up the account.
    pub output: Option<PathBuf>,
    /// Whether certain loss is accepted.
    pub accept_loss: bool,
    /// Who shall own the output.
    pub owner: Option<Owner>,
}

/// A record of a way, with what speaks for it.
#[derive(Debug, Clone, Copy)]
pub struct Salvaged<'a> {
    /// Its revision.
    pub revision: Revision,
    /// The record: a `mvccpb.KeyValue` as it stands in bucket `key`.
    pub value: &'a [u8],
    /// How far it can be relied on.
    pub trust: Trust,
    /// Whether the log made it, or says the same.
    pub is_from_log: bool,
    /// Whether a compaction had removed it and it is here because that was asked for.
    pub is_resurrected: bool,
    /// All copies found, those that were not chosen included; empty for a record that only the log has.
    pub copies: &'a [Copy<'a>],
}

/// Most database files of one salvage.
pub const MOST_SOURCES: usize = 1000;

/// Why nothing came of a salvage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// An input cannot be opened. Damage is no reason: it is that the system refuses, or a server is running on it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A log cannot be opened, or changed while it was read.
    #[error(transparent)]
    Files(#[from] LogFilesError),
    /// More files than can be told apart.
    #[error("{found} database files were given; {MOST_SOURCES} can be read at once")]
    TooMany {
        /// How many there were.
        found: usize,
    },
    /// Not one record, and no row of any bucket of etcd.
    #[error(
        "{paths}: nothing of an etcd database was found: no page that holds records, in whatever page size. Is it the right file? \
         A file that is compressed twice, encrypted or all zeros looks like this. Nothing was written"
    )]
    Nothing {
        /// What was given.
        paths: String,
    },
    /// A map counts the bytes of the disk, and those of a packed file are others.
    #[error(
        "--bad-map: {path} is packed, and a map counts the bytes of a file as it lay on the disk: leave the map out, or unpack the file \
         and give both"
    )]
    MapOfPacked {
        /// What was given.
        path: String,
    },
    /// A packed file was cut or damaged, and what came out before can be salvaged.
    #[error(
        "{path}: cannot unpack the {kind}, {after_bytes} bytes came out: {error}. Unpack what there is into a file ('zcat', 'zstd -dc'; \
         they end with an error too) and give that"
    )]
    CutPacked {
        /// What was given.
        path: String,
        /// How it is packed.
        kind: &'static str,
        /// How much came out.
        after_bytes: u64,
        /// What went wrong then.
        error: String,
    },
    /// Nothing was found but a log, which does not begin with an empty store.
    #[error(
        "{paths}: nothing of a database was found, and the log alone does not make one: {why}. Nothing was written"
    )]
    LogIsNotAll {
        /// What was given.
        paths: String,
        /// Where the log begins, and what would help.
        why: String,
    },
    /// No such way.
    #[error("--plan {wanted}: there are ways 1 to {ways}; --dry-run lists them. Nothing was written")]
    NoSuchWay {
        /// The number given.
        wanted: usize,
        /// How many there are.
        ways: usize,
    },
    /// Something is certainly lost, and nobody said that this is accepted.
    #[error(
        "what was found is not all that there was: {}; nothing was written. --accept-loss writes what was found, \
         --dry-run tells what is missing", lost(.report)
    )]
    Refused {
        /// All that is known, the account of the way that was to be taken with it.
        report: Box<Report>,
    },
    /// An input was not the same all the time.
    #[error("{path}: {source}. Nothing was left behind")]
    Changed {
        /// The file.
        path: String,
        /// Where.
        source: Changed,
    },
    /// The output cannot be written, or was not what it should be when it was read back.
    #[error(transparent)]
    Output(#[from] EditError),
    /// A file without a name, in which the log is applied to what survived, cannot be written.
    #[error("{}: a temporary file cannot be written: {source}; --tmp-dir takes another directory. Nothing was left behind", dir.display())]
    Temporary {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user asked to stop.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

/// What `report` says is lost, in a few words.
fn lost(report: &Report) -> String {
    let loses = report.account.loses;
    let mut what = Vec::new();
    if loses.revisions > 0 {
        what.push(format!("{} revision(s) are missing or not whole", loses.revisions));
    }
    if loses.records > 0 {
        what.push(format!("{} record(s) that are known to have been there are not in it", loses.records));
    }
    if loses.entries > 0 {
        what.push(format!("{} committed entries of the log cannot be applied", loses.entries));
    }
    what.join(", ")
}

impl From<SaveError> for SalvageError {
    fn from(error: SaveError) -> Self {
        Self::Output(error.into())
    }
}

impl From<StageError> for SalvageError {
    fn from(error: StageError) -> Self {
        Self::Output(error.into())
    }
}

impl SalvageError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Refused { .. } => 4,
            Self::NoSuchWay { .. } => 2,
            Self::Open(error) => error.exit_code(),
            Self::Files(error) => error.exit_code(),
            Self::Output(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Refused { report } => &report.findings,
            Self::Files(error) => error.findings(),
            Self::Output(error) => error.findings(),
            _ => &[],
        }
    }
}
