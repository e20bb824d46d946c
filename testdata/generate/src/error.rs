//! Why nothing was generated.

use std::io;
use std::path::PathBuf;

use snapshot::gourl::UrlError;
use snapshot::stage::StageError;

use crate::shape::ShapeError;

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The shape is none.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The writer of dbs refused, or the system refused it.
    #[error(transparent)]
    Build(#[from] bbolt::BuildError),
    /// The output could not be made or named.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The system refused.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A member's address is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A segment of no bytes would be cut for ever.
    #[error("segments of {given} bytes: they have from 4096 to 17179869184")]
    SegmentBytes {
        /// What was asked for.
        given: u64,
    },
    /// Entries are made in memory.
    #[error(
        "entries of about {bytes} bytes: a log's have 268435456 at most on average; ask for more revisions"
    )]
    LargeEntries {
        /// The mean.
        bytes: u64,
    },
    /// A db in a log's directory, or both under one name.
    #[error("the db {} and the log {}: neither can be or hold the other", db.display(), log.display())]
    Nested {
        /// The db.
        db: PathBuf,
        /// The log's directory.
        log: PathBuf,
    },
    /// The log could not have its name when the db had one already.
    #[error("{error}; {} is whole and could not be taken away again", path.display())]
    DbStays {
        /// The db.
        path: PathBuf,
        /// Why the log has no name.
        error: Box<GenerateError>,
    },
    /// The user asked to stop.
    #[error("interrupted; nothing was written")]
    Interrupted,
}

impl GenerateError {
    /// True when it is what was asked for that makes no sense, and not the system that refused.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Shape(_) | Self::SegmentBytes { .. } | Self::LargeEntries { .. } | Self::Nested { .. }
        )
    }

    /// The error of having failed at `doing`.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }
}
