//! Why nothing was generated.

use std::io;

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
    /// The user asked to stop.
    #[error("interrupted; nothing was written")]
    Interrupted,
}

impl GenerateError {
    /// The error of having failed at `doing`.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }
}
