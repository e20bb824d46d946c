//! A member that has all that a server needs: a database, and a log from which one starts. What edits a member's log or
//! identity begins here.

use std::path::Path;

use bbolt::Watch;
use wal::Metadata;
use wal::log::Log;

use crate::appended::ensure_readable;
use crate::facts::{self, DatabaseFacts, Facts, FactsError, FactsOptions, LogFacts};
use crate::finding::Finding;
use crate::log_files::{LogFiles, LogFilesError};
use crate::opened::{self, OpenError, Opened};
use crate::schema::Schema;
use crate::snap_files::SnapKind;

/// Why something is not a whole member.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WholeError {
    /// There is nothing at the path.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// A file of its own, or a directory without a database.
    #[error(
        "{path}: {what}; a member's data dir is needed, with its database and its log. From a database or snapshot alone, 'etcd-rescue \
         snapshot restore' makes a new cluster"
    )]
    NoMember {
        /// What was given.
        path: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogFilesError),
    /// The database cannot be read.
    #[error("{path}: {reason}; 'etcd-rescue bbolt check {path}' tells more. Nothing was written")]
    Database {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// No server starts from the log as it is.
    #[error(
        "{path}: {what}. 'etcd-rescue wal verify {path}' says more, 'etcd-rescue wal repair {path} -o REPAIRED' makes a copy that can be given \
         to this command. Nothing was written"
    )]
    BrokenLog {
        /// What was given.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl WholeError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Facts(FactsError::Interrupted) => 130,
            Self::Open(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Open(error) => error.findings(),
            _ => &[],
        }
    }
}

/// The parts of a whole member.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// All that is known of it.
    pub facts: &'a Facts,
    /// The open database file.
    pub input: &'a Opened,
    /// What the database says of itself.
    pub database: &'a DatabaseFacts,
    /// The open segments.
    pub files: &'a LogFiles,
    /// What was made of them.
    pub of_log: &'a LogFacts,
    /// The log, all of which a server reads.
    pub log: &'a Log,
    /// Whose log it is.
    pub metadata: Metadata,
}

/// Gathers what is known of `path`, whose database and log can be opened, where there are any.
///
/// # Errors
/// [`WholeError`].
pub fn open(path: &Path, input: &FactsOptions, watch: &dyn Watch) -> Result<Facts, WholeError> {
    let mut facts = facts::gather(path, input, watch)?;
    match facts.database.take() {
        Some(Err(error)) => return Err(error.into()),
        database => facts.database = database,
    }
    match facts.log.take() {
        Some(Err(error)) => return Err(error.into()),
        log => facts.log = log,
    }
    Ok(facts)
}

/// What is wrong with the log of `facts`, or with what lies beside it, and yet does not keep a server from starting.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let log = facts.log_facts();
    log.map_or_else(Vec::new, |log| log.report.findings.iter().map(|found| found.finding.clone()).collect())
}

impl<'a> Whole<'a> {
    /// The parts of `facts`.
    ///
    /// # Errors
    /// [`WholeError`]: one is missing, or no server reads all of the log.
    pub fn of(facts: &'a Facts) -> Result<Self, WholeError> {
        let path = || facts.path.display().to_string();
        let no_member = |what| WholeError::NoMember { path: path(), what };
        let of_log = facts.log_facts().ok_or_else(|| {
            no_member(
                "has no log (where etcd was started with --wal-dir, give that directory with --wal-dir)",
            )
        })?;
        let (input, database) = match &facts.database {
            Some(Ok(database)) => match &database.facts {
                Ok(facts) => (&database.input, facts),
                Err(error) => {
                    return Err(WholeError::Database {
                        path: database.input.path().display().to_string(),
                        reason: error.to_string(),
                    });
                }
            },
            _ => return Err(no_member("has no database")),
        };
        if of_log.files.is_single_segment() {
            return Err(no_member("is one segment of a log"));
        }
        let broken = |what: &str| WholeError::BrokenLog { path: path(), what: what.to_owned() };
        let log = &of_log.report.log;
        ensure_readable(log).map_err(broken)?;
        let metadata = log.metadata.ok_or_else(|| broken("the log does not say whose it is"))?;
        Ok(Self { facts, input, database, files: &of_log.files, of_log, log, metadata })
    }

    /// That its log is no log to go on with.
    #[must_use]
    pub fn broken(&self, what: impl Into<String>) -> WholeError {
        WholeError::BrokenLog { path: self.facts.path.display().to_string(), what: what.into() }
    }

    /// The term of the snapshot from which a server starts.
    #[must_use]
    pub fn snapshot_term(&self) -> u64 {
        self.of_log.report.start.term
    }

    /// The last entry in the database that a server starts on, and the last one in the snapshot from which it starts. A database
    /// that was received from a leader waits beside that of before, until the server starts (FORMATS F.1).
    ///
    /// # Errors
    /// When the database that belongs to the snapshot is not there.
    pub fn applied(&self) -> Result<(u64, u64), WholeError> {
        let consistent_index = self.database.schema.consistent_index;
        let snapshot = self.of_log.report.start.index;
        if snapshot <= consistent_index {
            return Ok((consistent_index, snapshot));
        }
        let snaps = self.facts.snaps();
        let waiting = snaps.iter().find(|snap| snap.kind() == SnapKind::Database { index: snapshot });
        let received = waiting.and_then(|snap| {
            let input = opened::open(snap.path(), &opened::InputOptions::default(), &()).ok()?;
            Some(Schema::read(&input.db().ok()?).ok()?.consistent_index)
        });
        if let Some(index) = received.filter(|index| *index >= snapshot) {
            return Ok((index, snapshot));
        }
        Err(self.broken(format!(
            "servers start from the snapshot at entry {snapshot}, the database ends at {consistent_index}, and the one that came with the \
             snapshot is not there"
        )))
    }
}
