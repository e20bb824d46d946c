//! `defrag`: a data dir's db written anew and put in the place of the old one, as etcdutl does (FORMATS J).
//!
//! How one takes the place of the other is [`replaced`]'s business. A defragmentation by etcdutl lets a server that was
//! started meanwhile run on a file without a name; this one does not.

use std::path::PathBuf;

use bbolt::{FreelistSync, RebuildOptions, Watch};

use crate::compact_file::{self, CompactError, CompactReport, Survey};
use crate::finding::Finding;
use crate::opened::Opened;
use crate::replaced::{self, ReplaceError, ReplaceOptions};

/// How etcd's defragmentation makes files, but for the sequences, which it leaves at 0 and etcd does not use.
pub const AS_ETCD: RebuildOptions = RebuildOptions {
    page_size: None,
    leaf_fill_percent: 90,
    freelist: FreelistSync::NotPersisted,
    keep_sequences: true,
};

/// How to go about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefragOptions {
    /// Do everything but write.
    pub dry_run: bool,
    /// Leave a copy of the old db beside the new one.
    pub keep_original: bool,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct DefragReport {
    /// The db.
    pub db: PathBuf,
    /// The sizes.
    pub compact: CompactReport,
    /// The copy of the old one, where one was asked for.
    pub original: Option<PathBuf>,
    /// What the user must know of it, a sentence each.
    pub warnings: Vec<String>,
}

/// Why the db is still the old one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefragError {
    /// The new db could not be made.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// It could not be put in place.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
}

impl DefragError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Compact(error) => error.exit_code(),
            Self::Replace(error) => error.exit_code(),
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Compact(error) => error.findings(),
            Self::Replace(_) => &[],
        }
    }
}

/// Writes the db of `input`, a data dir opened under the exclusive lock, anew in its place.
///
/// # Errors
/// When the db is damaged or the new one cannot be written; the db is the old one then, and nothing is left beside it.
pub fn defrag(
    input: &Opened,
    survey: &Survey,
    options: DefragOptions,
    watch: &dyn Watch,
) -> Result<DefragReport, DefragError> {
    if options.dry_run {
        replaced::ensure_in_place(input)?;
        let compact = compact_file::measured(input, survey, &AS_ETCD, watch)?;
        let db = replaced::file_of(input)?;
        return Ok(DefragReport { db, compact, original: None, warnings: Vec::new() });
    }
    let how = ReplaceOptions { expected_bytes: survey.expected_bytes, keep_original: options.keep_original };
    let make =
        |stage: &_| compact_file::write(input, survey, &AS_ETCD, stage, watch).map_err(DefragError::from);
    let replaced = replaced::replace(input, how, make, watch)?;
    Ok(DefragReport {
        db: replaced.db,
        compact: compact_file::report(survey, replaced.made),
        original: replaced.original,
        warnings: replaced.warnings,
    })
}
