//! Where a dump begins, and what it says before and behind the entries.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use wal::Log;
use wal::log::ServerEndKind;
use wal::raftpb::ConfState;

use crate::log_files::LogFiles;
use crate::snap_files::{SnapFacts, SnapFile, SnapFileError, SnapKind};

/// Where a dump is asked to begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Begin {
    /// Behind the newest snapshot that a server would load; with the first entry if there is none.
    #[default]
    NewestSnapshot,
    /// Behind the snapshot in this file of the snap directory.
    Snapshot(String),
    /// With the entry of this index.
    Index(u64),
    /// With the first entry.
    First,
}

/// A `.snap` that was not taken for the newest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Passed {
    /// It cannot be read.
    #[error("{name}: {reason}; the one before it is tried")]
    Unreadable {
        /// The file's name.
        name: String,
        /// Why.
        reason: SnapFileError,
    },
    /// The log does not know it.
    #[error("{name}: the log has no committed record of it, so that no server would load it")]
    NotInLog {
        /// The file's name.
        name: String,
    },
}

/// Why a dump cannot begin behind the snapshot that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A log alone was given.
    #[error("--start-snap needs a data dir or a member dir: no snap directory lies beside this log")]
    NoSnapDir,
    /// The name is a path.
    #[error("--start-snap takes the name of a file in the snap directory, not a path")]
    NotAName,
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: SnapFileError,
    },
}

/// Where a dump begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the first entry there is; there is no snapshot.
    First,
    /// With all there is, as asked for; the first entry has this index.
    All(u64),
    /// With the entry of this index, as asked for.
    Index(u64),
    /// Behind a snapshot.
    Behind(SnapFacts),
}

impl Start {
    /// Finds the place; with the snapshots that were passed over.
    pub(super) fn find(
        begin: &Begin,
        files: &LogFiles,
        log: &Log,
    ) -> Result<(Self, Vec<Passed>), StartError> {
        let start = match begin {
            Begin::NewestSnapshot => return Ok(Self::newest(files, log)),
            Begin::Snapshot(name) => Self::Behind(named(name, files)?),
            Begin::Index(index) => Self::Index(*index),
            Begin::First => Self::All(log.first_index().unwrap_or_default()),
        };
        Ok((start, Vec::new()))
    }

    /// The newest snapshot that can be read and that the log has a committed record of, as servers up to 3.6 choose it
    /// (FORMATS F.1).
    fn newest(files: &LogFiles, log: &Log) -> (Self, Vec<Passed>) {
        let mut passed = Vec::new();
        let snaps = files.snaps().iter().rev().filter(|file| matches!(file.kind(), SnapKind::Snap { .. }));
        for file in snaps {
            let name = file.name().to_owned();
            let facts = match file.facts() {
                Ok(facts) => facts,
                Err(reason) => {
                    passed.push(Passed::Unreadable { name, reason: reason.clone() });
                    continue;
                }
            };
            let recorded = log.snapshots.iter().any(|record| {
                (record.value.index(), record.value.term()) == (facts.index, facts.term)
                    && facts.index <= log.commit()
            });
            if recorded {
                return (Self::Behind(facts.clone()), passed);
            }
            passed.push(Passed::NotInLog { name });
        }
        (Self::First, passed)
    }

    /// The first index that is shown.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        match self {
            Self::First | Self::All(_) => 0,
            Self::Index(index) => *index,
            Self::Behind(facts) => facts.index.saturating_add(1),
        }
    }
}

/// The snapshot in the file of this name, with or without `.snap` at its end.
fn named(name: &str, files: &LogFiles) -> Result<SnapFacts, StartError> {
    let dir = files.snap_dir().ok_or(StartError::NoSnapDir)?;
    if name.contains('/') {
        return Err(StartError::NotAName);
    }
    let suffix = if name.ends_with(".snap") { "" } else { ".snap" };
    let path = dir.join(format!("{name}{suffix}"));
    match SnapFile::at(&path) {
        Ok(file) => {
            file.facts().cloned().map_err(|reason| StartError::Content { path, reason: reason.clone() })
        }
        Err(source) => Err(StartError::Io { path, source }),
    }
}

/// How many entries count from index `from` on and before `to`, and the last of them.
pub(super) fn entries_in(log: &Log, from: u64, to: u64) -> (u64, Option<u64>) {
    let mut count = 0_u64;
    let mut last = None;
    for run in log.standing_runs() {
        let Some(standing_last) = run.standing_last else { continue };
        let first = run.first_index.max(from);
        let Some(end) = standing_last.checked_add(1).map(|end| end.min(to)) else { continue };
        if first < end {
            count = count.saturating_add(end - first);
            last = end.checked_sub(1);
        }
    }
    (count, last)
}

/// What etcd-dump-logs prints before the rows.
pub(super) fn rows(start: &Start, log: &Log, end: Option<u64>, columns: &str) -> String {
    let mut out = match start {
        Start::First => "Snapshot:\nempty\nStart dumping log entries from snapshot.\n".to_owned(),
        Start::All(index) | Start::Index(index) => format!("Start dumping log entries from index {index}.\n"),
        Start::Behind(facts) => {
            let nodes: Vec<String> = facts.conf_state.voters.iter().map(|id| format!("{id:x}")).collect();
            format!(
                "Snapshot:\nterm={} index={} nodes=[{}] confstate={}\nStart dumping log entries from snapshot.\n",
                facts.term,
                facts.index,
                nodes.join(" "),
                conf_state(&facts.conf_state)
            )
        }
    };
    let metadata = log.metadata.unwrap_or_default();
    let state = log.hard_state.as_ref().map(|state| state.value).unwrap_or_default();
    let (entries, last) = entries_in(log, start.first_index(), end.unwrap_or(u64::MAX));
    // Writing to memory does not fail.
    let _ = writeln!(
        out,
        "WAL metadata:\nnodeID={:x} clusterID={:x} term={} commitIndex={} vote={:x}\nWAL entries: {entries}",
        metadata.node_id(),
        metadata.cluster_id(),
        state.term(),
        state.commit(),
        state.vote()
    );
    if let Some(last) = last {
        let _ = writeln!(out, "lastIndex={last}");
    }
    let _ = writeln!(out, "{:>4}\t{:>10}\ttype\tdata{columns}", "term", "index");
    out
}

/// A conf state as Go's JSON encoder shows it: lists only if they are not empty.
fn conf_state(state: &ConfState) -> String {
    let mut out = String::from("{");
    let lists = [
        ("voters", &state.voters),
        ("learners", &state.learners),
        ("voters_outgoing", &state.voters_outgoing),
        ("learners_next", &state.learners_next),
    ];
    for (name, ids) in lists {
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            let _ = write!(out, "\"{name}\":[{}],", ids.join(","));
        }
    }
    let _ = write!(out, "\"auto_leave\":{}}}", state.auto_leave());
    out
}

/// The last line of the raw form.
pub(super) fn raw_end(log: &Log) -> &'static str {
    match log.server_end.map(|end| end.kind) {
        Some(ServerEndKind::CutOff) => {
            "ErrUnexpectedEOF: The last record might be corrupted, error: unexpected EOF.\n"
        }
        Some(ServerEndKind::Stops) => "Error: a server stops at what is marked above.\n",
        Some(ServerEndKind::Clean) | None => "EOF: All entries were processed.\n",
    }
}
