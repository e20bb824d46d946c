//! `bbolt compact`: a bbolt file written anew, without its free pages (FORMATS A.9). [`defrag`](crate::defrag) stands on it.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bbolt::check::Statistics;
use bbolt::rebuild::{content, rebuilt_bytes};
use bbolt::{
    Db, FileSource, FreelistSync, Io, OpenError as DbError, PageWriter, RebuildError, RebuildOptions,
    Rebuilt, Source, Unmetered, Watch, check, rebuild,
};

use crate::copy::{self, SpaceError};
use crate::finding::Finding;
use crate::integrity::{self, Changed};
use crate::opened::Opened;
use crate::replicate::ReplicateError;
use crate::stage::{self, Kind, Owner, Stage, StageError};
use crate::stream_file;
use crate::structure;

/// What to write where.
#[derive(Debug, Clone)]
pub struct CompactOptions {
    /// The file to write; it must not exist.
    pub output: PathBuf,
    /// How it is to be.
    pub rebuild: RebuildOptions,
    /// Do everything but write.
    pub dry_run: bool,
    /// Who shall own it.
    pub owner: Option<Owner>,
}

/// How `bbolt compact` makes files: leaves full, sequences kept, a freelist.
pub const AS_BBOLT: RebuildOptions = RebuildOptions {
    page_size: None,
    leaf_fill_percent: 100,
    freelist: FreelistSync::Persisted,
    keep_sequences: true,
};

/// What a file holds and what becomes of it.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The file's length in bytes, padding and trailer included.
    pub file_bytes: u64,
    /// Bytes of the pages that hold something.
    pub in_use_bytes: u64,
    /// How many bytes the new file will have.
    pub expected_bytes: u64,
    /// True when the file ends with an integrity hash, as a snapshot does. It is not looked at, and the new file has none.
    pub has_hash: bool,
    /// What was counted.
    pub statistics: Statistics,
    /// What is wrong with the file, short of damage.
    pub findings: Vec<Finding>,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct CompactReport {
    /// Length of the old file in bytes.
    pub before_bytes: u64,
    /// Length of the new one in bytes.
    pub after_bytes: u64,
    /// What is in it.
    pub rebuilt: Rebuilt,
}

impl CompactReport {
    /// How many times as long the file was.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "bbolt computes in f64 too")]
    pub fn gain(&self) -> f64 {
        self.before_bytes as f64 / self.after_bytes as f64
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// The file is damaged.
    #[error(
        "{path}: its structure is damaged ({} finding(s)), so what a copy would lack is not known; nothing was written. \
         'etcd-rescue bbolt check {path}' tells more. If another member or an older snapshot is whole, use that; if none is and etcd \
         wrote it, 'etcd-rescue salvage {path} --dry-run' says what can be saved", findings.len()
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// The file cannot be opened as a database.
    #[error("{path}: {source}{}", structure::way_out(source))]
    Db {
        /// The file.
        path: String,
        /// Why.
        source: DbError,
    },
    /// The file turned out to be damaged, or the new one could not be built.
    #[error("{path}: {source}; nothing was left behind")]
    Rebuild {
        /// The file.
        path: String,
        /// Why.
        source: RebuildError,
    },
    /// The output cannot be where it should.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// There is no room.
    #[error("{0}; nothing was written")]
    Space(#[from] SpaceError),
    /// The new file could not be written, or read back.
    #[error("{}: {source}; nothing was left behind", path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// Why.
        source: ReplicateError,
    },
    /// The system refused.
    #[error("{}: {source}; nothing was left behind", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The input was not the same all the time.
    #[error("{path}: {source}. Nothing was left behind")]
    Changed {
        /// The file.
        path: String,
        /// Where.
        source: Changed,
    },
    /// What was read back is not what was written.
    #[error(
        "{}: read back and found different from what was written ({what}); do not trust this disk. Nothing was left behind",
        path.display()
    )]
    ReadBack {
        /// The output.
        path: PathBuf,
        /// In what it differs.
        what: String,
    },
    /// The user asked to stop.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

impl CompactError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Damaged { .. } => 3,
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Damaged { findings, .. } => findings,
            _ => &[],
        }
    }
}

/// Makes sure that there is nothing yet where the output is to be, and that it can be written: before all the work.
///
/// # Errors
/// [`CompactError::Stage`].
pub fn ensure_free(output: &Path) -> Result<(), CompactError> {
    Ok(stage::examine(output, Kind::File).map(drop)?)
}

/// Checks all of `input`, and says what a rebuild with `options` will come to.
///
/// # Errors
/// When the file is no database or is damaged, or the user asked to stop.
pub fn survey(input: &Opened, options: &RebuildOptions, watch: &dyn Watch) -> Result<Survey, CompactError> {
    let path = || input.path().display().to_string();
    let db = input.db().map_err(|source| CompactError::Db { path: path(), source })?;
    let page_bytes = u64::from(db.page_size());
    watch.begin("checking", db.page_count().saturating_mul(page_bytes));
    let report = check(&db, watch);
    let findings = structure::findings(&report).map_err(|_| CompactError::Interrupted)?;
    if structure::is_damaged(&findings) {
        return Err(CompactError::Damaged { path: path(), findings });
    }
    let statistics = report.statistics;
    let pages = statistics.branch_pages + statistics.leaf_pages + statistics.overflow_pages;
    let in_use_bytes = pages.saturating_mul(page_bytes);
    let file_bytes = input.source().len_bytes();
    watch.begin("measuring", in_use_bytes);
    let expected_bytes = rebuilt_bytes(&db, options, watch).map_err(|error| not_built(error, input))?;
    Ok(Survey {
        file_bytes,
        in_use_bytes,
        expected_bytes,
        has_hash: integrity::image_bytes(file_bytes).1,
        statistics,
        findings,
    })
}

/// Writes `input`'s database anew to a new file with the input's permissions.
///
/// # Errors
/// When the database turns out to be damaged, or the output cannot be written; nothing is left behind then.
pub fn compact(
    input: &Opened,
    survey: &Survey,
    options: &CompactOptions,
    watch: &dyn Watch,
) -> Result<CompactReport, CompactError> {
    let output = options.output.as_path();
    let io_error = |source| CompactError::Io { path: output.to_owned(), source };
    ensure_free(output)?;
    if options.dry_run {
        return measured(input, survey, &options.rebuild, watch);
    }
    copy::ensure_space(output, survey.expected_bytes)?;
    let mode = input.db_path().metadata().map_err(io_error)?.mode() & 0o777;
    let stage = Stage::new(output, Kind::File)?;
    let rebuilt = write(input, survey, &options.rebuild, &stage, watch)?;
    let file = stage.file().ok_or_else(|| StageError::NotADirectory(output.to_owned()))?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(io_error)?;
    stage.commit(options.owner)?;
    Ok(report(survey, rebuilt))
}

/// What [`compact`] would come to, to the byte.
pub(crate) fn measured(
    input: &Opened,
    survey: &Survey,
    options: &RebuildOptions,
    watch: &dyn Watch,
) -> Result<CompactReport, CompactError> {
    let db =
        input.db().map_err(|source| CompactError::Db { path: input.path().display().to_string(), source })?;
    watch.begin("measuring", survey.in_use_bytes);
    let rebuilt = rebuild(&db, Nowhere, options, watch).map_err(|error| not_built(error, input))?;
    Ok(report(survey, rebuilt))
}

pub(crate) fn report(survey: &Survey, rebuilt: Rebuilt) -> CompactReport {
    CompactReport { before_bytes: survey.file_bytes, after_bytes: rebuilt.built.len_bytes, rebuilt }
}

/// Takes everything and keeps nothing.
struct Nowhere;

impl PageWriter for Nowhere {
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `input`'s database into the staged file, reads it back, and makes sure that it is sound and holds the same.
pub(crate) fn write(
    input: &Opened,
    survey: &Survey,
    options: &RebuildOptions,
    stage: &Stage,
    watch: &dyn Watch,
) -> Result<Rebuilt, CompactError> {
    let output = stage.final_path().to_owned();
    let file = stage.file().ok_or_else(|| StageError::NotADirectory(output.clone()))?;
    let db =
        input.db().map_err(|source| CompactError::Db { path: input.path().display().to_string(), source })?;
    watch.begin("writing", survey.in_use_bytes);
    let written = stream_file::write(file, stage.path(), |stream| rebuild(&db, stream, options, watch));
    let (rebuilt, back) = written
        .map_err(|source| CompactError::Write { path: output.clone(), source })?
        .map_err(|error| not_built(error, input))?;
    input
        .ensure_not_written_to()
        .map_err(|source| CompactError::Changed { path: input.path().display().to_string(), source })?;
    let differs = |what: &str| CompactError::ReadBack { path: output.clone(), what: what.to_owned() };
    if (back.len_bytes, back.crc32c) != (rebuilt.built.len_bytes, rebuilt.built.crc32c) {
        return Err(differs("its checksum"));
    }
    verify(stage.path(), &rebuilt, survey, watch).map_err(|error| match error {
        Unverified::Interrupted => CompactError::Interrupted,
        Unverified::Io(source) => CompactError::Io { path: output.clone(), source },
        Unverified::Differs(what) => differs(&what),
    })?;
    Ok(rebuilt)
}

enum Unverified {
    Interrupted,
    Io(io::Error),
    Differs(String),
}

/// Opens what was written as any reader would: its structure is sound, it holds what was put into it, and that is as
/// many buckets and keys as the check counted in the source, which shares no code with the copying.
fn verify(path: &Path, rebuilt: &Rebuilt, survey: &Survey, watch: &dyn Watch) -> Result<(), Unverified> {
    let file = File::open(path).map_err(Unverified::Io)?;
    let source = FileSource::new(file, path, Io::Mmap).map_err(Unverified::Io)?;
    let db = Db::from_source(&source).map_err(|error| Unverified::Differs(error.to_string()))?;
    watch.begin("verifying", rebuilt.built.len_bytes);
    let (report, found) = rayon::join(|| check(&db, watch), || content(&db, &Unmetered(watch)));
    if report.interrupted || matches!(found, Err(RebuildError::Interrupted)) {
        return Err(Unverified::Interrupted);
    }
    if let Some(finding) = report.findings.first() {
        return Err(Unverified::Differs(finding.fault.to_string()));
    }
    let found = found.map_err(|error| Unverified::Differs(error.to_string()))?;
    if found != rebuilt.content {
        return Err(Unverified::Differs(format!("{found:?} instead of {:?}", rebuilt.content)));
    }
    let counted = (survey.statistics.buckets, survey.statistics.keys);
    if (found.buckets, found.pairs) != counted {
        return Err(Unverified::Differs(format!("{found:?} instead of {counted:?}")));
    }
    Ok(())
}

fn not_built(error: RebuildError, input: &Opened) -> CompactError {
    match error {
        RebuildError::Interrupted => CompactError::Interrupted,
        source => CompactError::Rebuild { path: input.path().display().to_string(), source },
    }
}
