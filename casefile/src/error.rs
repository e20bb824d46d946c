//! Why a case cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use snapshot::finding::Finding;
use snapshot::stage::StageError;

use crate::codec::BadBlock;

/// Why a case cannot be opened, asked or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The disk is full.
    #[error(
        "{}: {source}: a change needs room for the whole case beside it. The case is as it was; make room, and run this again",
        path.display()
    )]
    NoRoom {
        /// The case.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is something else.
    #[error("{}: is no case file: {what}. 'etcd-rescue case new' makes one", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        what: &'static str,
    },
    /// Another version of this program made it.
    #[error(
        "{}: is a case file of version {version}, and this program reads version {known}. Use the program that made it, or add the \
         sources to a new case", path.display()
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version that is read.
        known: u32,
    },
    /// Its bytes are not those that were written.
    #[error("{}: the case file is damaged: {what}. Copy it again from where it came, or add the sources to a new case", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// Somebody is writing to it.
    #[error("{}: {} is writing to this case; wait until that is done, and run this again", path.display(), holder(*process))]
    Busy {
        /// The file.
        path: PathBuf,
        /// The id of the process, where the system tells.
        process: Option<u32>,
    },
    /// There is no source of this name.
    #[error("the case has no source named {name:?}; it has {}", listed(known))]
    NoSource {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The database in the case refuses.
    #[error(
        "the case file cannot be used: {0}. Copy it again from where it came, or add the sources to a new case"
    )]
    Database(#[from] redb::Error),
    /// A block of the case is not what was written.
    #[error(
        "the case file is damaged: {0}. Copy it again from where it came, or add the sources to a new case"
    )]
    Block(#[from] BadBlock),
    /// A row of the case is not what was written.
    #[error(
        "the case file is damaged: a row in it cannot be read: {0}. Copy it again from where it came, or add the sources to a new case"
    )]
    Row(#[from] serde_json::Error),
    /// The new file cannot be made or put in its place.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl CaseError {
    /// The same about the case at `path`, which the database in it does not know.
    #[must_use]
    pub fn about(self, path: &Path) -> Self {
        let damaged = |what| Self::Damaged { path: path.to_owned(), what };
        let (path, source) = match self {
            Self::Database(redb::Error::Io(source)) if source.kind() == io::ErrorKind::InvalidData => {
                return damaged(source.to_string());
            }
            Self::Database(redb::Error::Io(source)) => (path.to_owned(), source),
            Self::Io { path, source } => (path, source),
            Self::Database(error) => return damaged(error.to_string()),
            Self::Block(_) => return damaged("a block in it cannot be decoded".to_owned()),
            Self::Row(error) => return damaged(format!("a row in it cannot be read: {error}")),
            other => return other,
        };
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom { path, source },
            _ => Self::Io { path, source },
        }
    }

    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Interrupted) { 130 } else { 1 }
    }

    /// Findings that go with it: none.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for CaseError {
            fn from(error: redb::$error) -> Self {
                Self::Database(error.into())
            }
        })*
    };
}
from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError, CompactionError);
