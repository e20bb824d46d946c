//! `bbolt surgery`: an edit of single pages, made in a copy, which is checked before it gets its name.

use std::collections::HashMap;
use std::path::PathBuf;

use bbolt::page_file::{PageFile, PageFileError};
use bbolt::surgery::{Accepted, Edit, ErrorClass, Operation, SurgeryError as EditError};
use bbolt::{Db, FileSource, Io, MetaFault, OpenError as DbError, Source, SourceError, Watch};

use crate::copy;
use crate::finding::{Finding, Severity};
use crate::integrity;
use crate::opened::Opened;
use crate::overlay::Overlay;
use crate::replicate::replicate;
use crate::save::{SaveError, not_written};
use crate::stage::{self, Kind, Owner, Stage, StageError};
use crate::structure::{self, Interrupted, is_damaged};

/// What to do, and where to write the outcome.
#[derive(Debug, Clone)]
pub struct SurgeryOptions {
    /// The edit.
    pub operation: Operation,
    /// What of its consequences is accepted.
    pub accepted: Accepted,
    /// Length of a page in bytes, where the file does not say.
    pub page_size: Option<u32>,
    /// The file to write; it must not exist.
    pub output: PathBuf,
    /// Do everything but write.
    pub dry_run: bool,
    /// Who shall own it.
    pub owner: Option<Owner>,
    /// How what was written is read to be checked.
    pub io: Io,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct SurgeryReport {
    /// The edit.
    pub edit: Edit,
    /// What is wrong with the input.
    pub before: Vec<Finding>,
    /// What is wrong with the output.
    pub after: Vec<Finding>,
    /// Those of `after` that are not in `before`.
    pub new: Vec<Finding>,
    /// True when the input ended with a SHA-256, which the output does not: it is no longer true.
    pub hash_dropped: bool,
    /// Length of the output in bytes.
    pub len_bytes: u64,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurgeryError {
    /// The input cannot be seen as pages.
    #[error("{path}: {source}; nothing was written")]
    Pages {
        /// The file.
        path: String,
        /// Why.
        source: PageFileError,
    },
    /// The edit is not to be had.
    #[error("{path}: {source}; nothing was written")]
    Edit {
        /// The file.
        path: String,
        /// Why.
        source: EditError,
    },
    /// The file is damaged, and what was asked for needs a sound one.
    #[error(
        "{path}: its structure is damaged ({} finding(s)), so that free pages cannot be told from lost ones; nothing was \
         written", findings.len()
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] SaveError),
}

impl From<Interrupted> for SurgeryError {
    fn from(_: Interrupted) -> Self {
        Self::Output(SaveError::Interrupted)
    }
}

impl SurgeryError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Pages { source: PageFileError::ImpossiblePageSize { .. }, .. } => 2,
            Self::Pages { .. } => 1,
            Self::Edit { source, .. } => match source.class() {
                ErrorClass::Usage => 2,
                ErrorClass::Failed => 1,
                ErrorClass::Refused => 4,
                ErrorClass::Interrupted => 130,
            },
            Self::Damaged { .. } => 4,
            Self::Output(error) => error.exit_code(),
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Damaged { findings, .. } => findings,
            Self::Output(error) => error.findings(),
            Self::Pages { .. } | Self::Edit { .. } => &[],
        }
    }
}

/// Copies `input` under the edit to a new file of mode 0600, whose every byte is read back, and checks that file before it
/// gets its name. All of the input's bytes are copied, also those behind the high-water mark, but for a snapshot's SHA-256 that
/// is not true any more.
///
/// # Errors
/// When the edit is refused, or the output cannot be written; nothing is left behind then. Findings are no error: damaged files
/// are what surgery is for.
pub fn operate(
    input: &Opened,
    options: &SurgeryOptions,
    watch: &dyn Watch,
) -> Result<SurgeryReport, SurgeryError> {
    let output = options.output.as_path();
    stage::examine(output, Kind::File).map_err(SaveError::from)?;
    let path = || input.path().display().to_string();
    let source = input.source();
    let file = PageFile::new(source, options.page_size)
        .map_err(|source| SurgeryError::Pages { path: path(), source })?;
    let edit = options.operation.plan(&file, options.accepted, watch);
    let edit = edit.map_err(|source| match source {
        EditError::Interrupted => SurgeryError::Output(SaveError::Interrupted),
        source => SurgeryError::Edit { path: path(), source },
    })?;
    let before = examine(source, watch)?;
    if options.operation == Operation::RebuildFreelist && is_damaged(&before) {
        return Err(SurgeryError::Damaged { path: path(), findings: before });
    }

    let (image_bytes, has_trailer) = integrity::image_bytes(source.len_bytes());
    let hash_dropped = has_trailer && !edit.writes().is_empty();
    let kept_bytes = if hash_dropped { image_bytes } else { source.len_bytes() };
    let len_bytes = kept_bytes.max(edit.end());
    let patches = edit.writes().iter().map(|write| (write.offset, write.bytes.as_slice()));
    let overlay = Overlay::new(source, len_bytes, patches);
    copy::ensure_space(output, len_bytes).map_err(SaveError::from)?;
    let after =
        if options.dry_run { examine(&overlay, watch)? } else { write(input, &overlay, options, watch)? };
    let new = those_not_in(&after, &before);
    Ok(SurgeryReport { edit, before, after, new, hash_dropped, len_bytes })
}

/// Writes `overlay`, and gives what is wrong with what was written.
fn write(
    input: &Opened,
    overlay: &Overlay<'_, FileSource>,
    options: &SurgeryOptions,
    watch: &dyn Watch,
) -> Result<Vec<Finding>, SurgeryError> {
    let output = options.output.as_path();
    let stage = Stage::new(output, Kind::File).map_err(SaveError::from)?;
    let Some(file) = stage.file() else {
        return Err(SaveError::from(StageError::NotADirectory(output.to_owned())).into());
    };
    // Every byte is written once and read back once.
    watch.begin("writing", overlay.len_bytes().saturating_mul(2));
    replicate(overlay, 0, input.source().file(), &[(file, stage.path())], watch)
        .map_err(|error| not_written(error, input, output))?;
    let written = file
        .try_clone()
        .and_then(|file| FileSource::new(file, stage.path(), options.io))
        .map_err(|source| SaveError::Io { path: output.to_owned(), source })?;
    let after = examine(&written, watch)?;
    input
        .ensure_not_written_to()
        .map_err(|source| SaveError::Changed { path: input.path().display().to_string(), source })?;
    stage.commit(options.owner).map_err(SaveError::from)?;
    Ok(after)
}

/// What is wrong with a file, also with one that does not open.
fn examine<S: Source>(source: &S, watch: &dyn Watch) -> Result<Vec<Finding>, Interrupted> {
    watch.begin("checking", source.len_bytes());
    let meta = |slot: u64, fault: &MetaFault| {
        Finding::new(fault.code(), Severity::Error, format!("page {slot} is no valid meta: {fault}"))
    };
    match Db::from_source(source) {
        Ok(db) => structure::check(&db, watch),
        Err(DbError::NoMeta { meta0, meta1 }) => Ok(vec![meta(0, &meta0), meta(1, &meta1)]),
        Err(DbError::BigEndian) => Ok(vec![meta(0, &MetaFault::BigEndian)]),
        Err(DbError::Source(SourceError::Read { message, .. })) => {
            Ok(vec![meta(0, &MetaFault::Unreadable { message })])
        }
        Err(_) => Ok(vec![meta(0, &MetaFault::Missing)]),
    }
}

/// The findings of `after` that `before` does not have, each as often as it is there more often.
fn those_not_in(after: &[Finding], before: &[Finding]) -> Vec<Finding> {
    let key = |finding: &Finding| (finding.code, finding.offset, finding.message.clone());
    let mut known: HashMap<_, u64> = HashMap::new();
    for finding in before {
        *known.entry(key(finding)).or_default() += 1;
    }
    let is_new = |finding: &&Finding| match known.get_mut(&key(finding)) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    };
    after.iter().filter(is_new).cloned().collect()
}
