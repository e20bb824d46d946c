//! An edited copy of what was given: of a file a file, of a member's directory a data dir with all that belongs to it.
//!
//! What is changed in the database is made elsewhere: as a [`Patch`] where a few small buckets change, as [`Edits`] where
//! pairs go from the middle of a large one and the file is written anew. The log's segments and the `.snap` files are
//! copied byte for byte: a server goes on from the same entry, for an edit leaves `consistent_index` alone. Whether a member may
//! be edited at all is [`lone`](crate::lone)'s business.
//!
//! A file that ended with its SHA-256, which must match, gives one that does: whoever takes a snapshot to a restore wants
//! `snapshot restore` and `etcdutl` to take what comes out without `--skip-hash-check`. A bare database gives a bare one.
//!
//! Outputs are staged, synced, read back and only then given their names; the inputs are never written to.

use std::fs::File;
use std::path::{Path, PathBuf};

use bbolt::file::open_read_only;
use bbolt::rebuild::{Edits, content, edit, edited_bytes};
use bbolt::{Content, Db, FileSource, Io, Patch, RebuildError, Source, Unmetered, Watch, check};
use wal::log::Segments;

use crate::copy;
use crate::defrag::AS_ETCD;
use crate::finding::Finding;
use crate::integrity::{self, Digest, HashingError, Integrity};
use crate::log_files::{LogFiles, LogFilesError};
use crate::opened::Opened;
use crate::overlay::Overlay;
use crate::replicate::replicate;
use crate::save::{self, SaveError, not_written};
use crate::snap_files::SnapKind;
use crate::stage::{self, FILE_MODE, Kind, Owner, SNAP_MODE, Stage, StageError};
use crate::stream_file;
use crate::structure::{self, is_damaged};

const SNAP_DIR: &str = "member/snap";
const WAL_DIR: &str = "member/wal";
const DB: &str = "db";

/// What is to be different in the database.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Some pages. The edited structure is checked before a byte is written.
    Patch(&'a Patch),
    /// The file is written anew under these edits, as etcd's defragmentation would. The structure of the input was checked by
    /// whoever made the edits.
    Rebuild {
        /// The edits.
        edits: &'a Edits<'a>,
        /// What the new database must hold, counted by whoever made the edits.
        expected: Expected,
    },
}

/// What an edited database must hold, where that is known without writing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Pairs in all buckets.
    pub pairs: Option<u64>,
}

/// What to write where.
#[derive(Debug, Clone)]
pub struct EditOptions {
    /// The file, or for a member's directory the data dir, to write. It must not exist; an empty directory will do for the
    /// second.
    pub output: PathBuf,
    /// Do everything but write.
    pub dry_run: bool,
    /// Who shall own it.
    pub owner: Option<Owner>,
    /// How files are read that are only copied.
    pub io: Io,
    /// End the output with its SHA-256 also where the input has none.
    pub with_hash: bool,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct EditReport {
    /// Length of the database as it was, in bytes, padding and hash included.
    pub before_bytes: u64,
    /// Length of the edited one in bytes, its hash included.
    pub after_bytes: u64,
    /// Whether input and output end with a SHA-256.
    pub has_hash: bool,
    /// The output's SHA-256, where it has one and was written.
    pub digest: Option<Digest>,
    /// Segments of the log that were copied.
    pub segments: u64,
    /// `.snap` files that were copied.
    pub snaps: u64,
    /// Length of all these in bytes.
    pub copied_bytes: u64,
    /// Names of files that lie beside these and are not in the output, since no server needs them.
    pub left_out: Vec<String>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] SaveError),
    /// The log cannot be read.
    #[error(transparent)]
    Files(#[from] LogFilesError),
    /// The new database could not be made.
    #[error("{path}: {source}; nothing was left behind")]
    Rebuild {
        /// The input.
        path: String,
        /// Why.
        source: RebuildError,
    },
    /// What was read back is not what was to be written.
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
}

impl From<StageError> for EditError {
    fn from(error: StageError) -> Self {
        Self::Output(error.into())
    }
}

impl EditError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Output(SaveError::Damaged { .. }) => 3,
            Self::Output(error) => error.exit_code(),
            Self::Files(error) => error.exit_code(),
            Self::Rebuild { source: RebuildError::Interrupted, .. } => 130,
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Output(error) => error.findings(),
            Self::Files(error) => error.findings(),
            _ => &[],
        }
    }
}

/// Makes sure that the output can be where it should, before all the work. `files` is the input's log, where it is a member's
/// directory.
///
/// # Errors
/// [`SaveError::Inside`], and when something is there already.
pub fn ensure_free(options: &EditOptions, files: Option<&LogFiles>) -> Result<(), EditError> {
    let output = options.output.as_path();
    stage::ensure_owner(options.owner)?;
    if let Some(input) = files.and_then(|files| files.holding(output)) {
        return Err(SaveError::Inside { output: output.to_owned(), input: input.to_owned() }.into());
    }
    let kind = if files.is_some() { Kind::Dir } else { Kind::File };
    stage::examine(output, kind)?;
    Ok(())
}

/// What [`write()`] would come to, to the byte; nothing is written. The input is checked as it would be.
///
/// # Errors
/// When the input is damaged or its SHA-256 does not match.
pub fn forecast(
    input: &Opened,
    files: Option<&LogFiles>,
    change: Change<'_>,
    watch: &dyn Watch,
) -> Result<EditReport, EditError> {
    foresee(input, files, change, false, watch)
}

fn foresee(
    input: &Opened,
    files: Option<&LogFiles>,
    change: Change<'_>,
    with_hash: bool,
    watch: &dyn Watch,
) -> Result<EditReport, EditError> {
    let path = || input.path().display().to_string();
    let db = input.db().map_err(|source| SaveError::Db { path: path(), source })?;
    let has_hash = verify_hash(input, watch)? || with_hash;
    let image_bytes = match change {
        Change::Patch(patch) => {
            check_patched(input, patch, watch)?;
            patch.len_bytes()
        }
        Change::Rebuild { edits, .. } => {
            watch.begin("measuring", db.meta().logical_bytes());
            edited_bytes(&db, &AS_ETCD, edits, watch)
                .map_err(|source| EditError::Rebuild { path: path(), source })?
        }
    };
    let member = files.map(Member::of);
    Ok(EditReport {
        before_bytes: input.source().len_bytes(),
        after_bytes: image_bytes + if has_hash { integrity::TRAILER_BYTES } else { 0 },
        has_hash,
        digest: None,
        segments: member.as_ref().map_or(0, |member| member.segments.len() as u64),
        snaps: member.as_ref().map_or(0, |member| member.snaps.len() as u64),
        copied_bytes: member.as_ref().map_or(0, |member| member.len_bytes),
        left_out: member.map(|member| member.left_out).unwrap_or_default(),
    })
}

/// Writes `input` with `change` made in its database, and `files`, where it is a member's directory, as they are.
///
/// # Errors
/// When the input is damaged or its SHA-256 does not match, or the output cannot be written; nothing is left behind then.
pub fn write(
    input: &Opened,
    files: Option<&LogFiles>,
    change: Change<'_>,
    options: &EditOptions,
    watch: &dyn Watch,
) -> Result<EditReport, EditError> {
    ensure_free(options, files)?;
    let output = options.output.as_path();
    let mut report = foresee(input, files, change, options.with_hash, watch)?;
    let need_bytes = report.after_bytes.saturating_add(report.copied_bytes);
    copy::ensure_space(output, need_bytes).map_err(SaveError::from)?;
    if options.dry_run {
        return Ok(report);
    }
    let path = || input.path().display().to_string();
    let db = input.db().map_err(|source| SaveError::Db { path: path(), source })?;
    let job = Job { input, db: &db, change, has_hash: report.has_hash, options, watch };
    let stage = Stage::new(output, if files.is_some() { Kind::Dir } else { Kind::File })?;
    let Some(files) = files else {
        let file = stage.file().ok_or_else(|| StageError::NotADirectory(output.to_owned()))?;
        report.digest = job.write_db(file, stage.path())?;
        job.ensure_unchanged()?;
        stage.commit(options.owner)?;
        return Ok(report);
    };
    stage.create_dir_all(SNAP_DIR)?;
    stage.create_dir_all(WAL_DIR)?;
    let name = Path::new(SNAP_DIR).join(DB);
    let file = stage.create_file(&name, FILE_MODE)?;
    report.digest = job.write_db(&file, &stage.path().join(&name))?;
    Member::of(files).copy(&stage, &job)?;
    job.ensure_unchanged()?;
    files.ensure_unchanged()?;
    if watch.interrupted() {
        return Err(SaveError::Interrupted.into());
    }
    stage.commit_with_log(Path::new(WAL_DIR), options.owner)?;
    Ok(report)
}

/// Writes the database of `input` anew under `edits` to the fresh file `file`, which nobody else has; what it then is, is for
/// whoever reads it to check.
pub(crate) fn rebuild_into(
    file: &File,
    input: &Opened,
    edits: &Edits<'_>,
    expected: Expected,
    watch: &dyn Watch,
) -> Result<(), EditError> {
    let path = || input.path().display().to_string();
    let failed = |source| EditError::Rebuild { path: path(), source };
    let db = input.db().map_err(|source| SaveError::Db { path: path(), source })?;
    watch.begin("rebuilding", db.meta().logical_bytes());
    let rebuilt = edit(&db, file, &AS_ETCD, edits, watch).map_err(failed)?;
    if expected.pairs.is_some_and(|pairs| pairs != rebuilt.content.pairs) {
        let what = format!("{} pairs instead of {expected:?}", rebuilt.content.pairs);
        return Err(EditError::ReadBack { path: input.path().to_owned(), what });
    }
    Ok(())
}

/// Whether `input` ends with its SHA-256, which must be right.
pub(crate) fn verify_hash(input: &Opened, watch: &dyn Watch) -> Result<bool, SaveError> {
    let (image_bytes, has_hash) = integrity::image_bytes(input.source().len_bytes());
    if !has_hash {
        return Ok(false);
    }
    watch.begin("hashing", image_bytes);
    let path = || input.path().display().to_string();
    let verdict = integrity::verify(input.source(), watch).map_err(|source| match source {
        HashingError::Interrupted => SaveError::Interrupted,
        source @ HashingError::Source(_) => SaveError::Hashing { path: path(), source },
    })?;
    match (verdict.integrity, verdict.expected, verdict.computed) {
        (Integrity::Mismatch, Some(expected), Some(computed)) => {
            let (expected, computed) = (expected.to_string(), computed.to_string());
            Err(SaveError::HashMismatch { path: path(), expected, computed })
        }
        _ => Ok(true),
    }
}

/// `input` under `patch`, up to the new high-water mark.
pub(crate) fn patched<'a>(input: &'a Opened, patch: &'a Patch) -> Overlay<'a, FileSource> {
    let writes = patch.data_writes().chain(patch.meta_writes());
    Overlay::new(input.source(), patch.len_bytes(), writes)
}

/// Checks the structure of `input` under `patch`.
pub(crate) fn check_patched(input: &Opened, patch: &Patch, watch: &dyn Watch) -> Result<(), SaveError> {
    let path = || input.path().display().to_string();
    let image = patched(input, patch);
    let db = Db::from_source(&image).map_err(|source| SaveError::Db { path: path(), source })?;
    watch.begin("checking", image.len_bytes());
    let findings = structure::check(&db, watch).map_err(|_| SaveError::Interrupted)?;
    if is_damaged(&findings) { Err(SaveError::Damaged { path: path(), findings }) } else { Ok(()) }
}

/// One edit under way.
struct Job<'a> {
    input: &'a Opened,
    db: &'a Db<&'a FileSource>,
    change: Change<'a>,
    has_hash: bool,
    options: &'a EditOptions,
    watch: &'a dyn Watch,
}

impl Job<'_> {
    fn output(&self) -> &Path {
        &self.options.output
    }

    fn ensure_unchanged(&self) -> Result<(), SaveError> {
        self.input
            .ensure_not_written_to()
            .map_err(|source| SaveError::Changed { path: self.input.path().display().to_string(), source })
    }

    /// Writes the edited database to the fresh file `file` at `path`, reads it back and checks it.
    fn write_db(&self, file: &File, path: &Path) -> Result<Option<Digest>, EditError> {
        match self.change {
            Change::Patch(patch) => {
                let image = patched(self.input, patch);
                if self.has_hash {
                    let (input, output) = (self.input, self.output());
                    return Ok(Some(save::hashed_into(file, path, output, &image, input, self.watch)?));
                }
                self.watch.begin("writing", 2 * image.len_bytes());
                replicate(&image, 0, self.input.source().file(), &[(file, path)], self.watch)
                    .map_err(|error| not_written(error, self.input, self.output()))?;
                Ok(None)
            }
            Change::Rebuild { edits, expected } => self.rebuild(file, path, edits, expected),
        }
    }

    fn rebuild(
        &self,
        file: &File,
        path: &Path,
        edits: &Edits<'_>,
        expected: Expected,
    ) -> Result<Option<Digest>, EditError> {
        let output = self.output();
        self.watch.begin("writing", self.db.meta().logical_bytes());
        let produced =
            stream_file::write(file, path, |stream| edit(self.db, stream, &AS_ETCD, edits, self.watch));
        let (rebuilt, back) = produced
            .map_err(|source| SaveError::Write { path: output.to_owned(), source })?
            .map_err(|source| EditError::Rebuild { path: self.input.path().display().to_string(), source })?;
        let differs = |what: &str| EditError::ReadBack { path: output.to_owned(), what: what.to_owned() };
        if (back.len_bytes, back.crc32c) != (rebuilt.built.len_bytes, rebuilt.built.crc32c) {
            return Err(differs("its checksum"));
        }
        if expected.pairs.is_some_and(|pairs| pairs != rebuilt.content.pairs) {
            return Err(differs(&format!("{} pairs instead of {expected:?}", rebuilt.content.pairs)));
        }
        let io = |source| SaveError::Io { path: output.to_owned(), source };
        let read = File::open(path).and_then(|file| FileSource::new(file, path, Io::Mmap)).map_err(io)?;
        let digest = self.verify(&read, &rebuilt.content)?;
        if let Some(digest) = digest {
            save::attach(file, output, rebuilt.built.len_bytes, digest)?;
        }
        Ok(digest)
    }

    /// Reads what was written as any reader would: its structure is sound, and it holds what was put into it.
    fn verify(&self, written: &FileSource, wanted: &Content) -> Result<Option<Digest>, EditError> {
        let interrupted = || EditError::from(SaveError::Interrupted);
        let differs = |what: String| EditError::ReadBack { path: self.output().to_owned(), what };
        let db = Db::from_source(written).map_err(|error| differs(error.to_string()))?;
        let len_bytes = written.len_bytes();
        self.watch.begin("verifying", len_bytes);
        let unmetered = Unmetered(self.watch);
        let hash = || self.has_hash.then(|| integrity::sha256(written, len_bytes, &unmetered)).transpose();
        let (report, (found, digest)) =
            rayon::join(|| check(&db, self.watch), || rayon::join(|| content(&db, &unmetered), hash));
        if report.interrupted {
            return Err(interrupted());
        }
        if let Some(finding) = report.findings.first() {
            return Err(differs(finding.fault.to_string()));
        }
        let found = match found {
            Ok(found) => found,
            Err(RebuildError::Interrupted) => return Err(interrupted()),
            Err(error) => return Err(differs(error.to_string())),
        };
        if found != *wanted {
            return Err(differs(format!("{found:?} instead of {wanted:?}")));
        }
        match digest {
            Ok(digest) => Ok(digest),
            Err(HashingError::Interrupted) => Err(interrupted()),
            Err(error) => Err(differs(error.to_string())),
        }
    }
}

/// What lies beside a member's database and is copied as it is.
struct Member {
    segments: Vec<PathBuf>,
    snaps: Vec<PathBuf>,
    len_bytes: u64,
    left_out: Vec<String>,
}

impl Member {
    fn of(files: &LogFiles) -> Self {
        let names = files.names();
        let segments: Vec<PathBuf> = (0..names.len()).map(|at| files.segment_path(at)).collect();
        let listing = files.listing();
        let others = listing.broken.iter().chain(&listing.temporary).chain(&listing.other);
        let mut member = Self {
            segments,
            snaps: Vec::new(),
            len_bytes: files.len_bytes(),
            left_out: others.cloned().collect(),
        };
        for snap in files.snaps() {
            match snap.kind() {
                SnapKind::Snap { .. } => {
                    member.snaps.push(snap.path().to_owned());
                    member.len_bytes = member.len_bytes.saturating_add(snap.len_bytes());
                }
                SnapKind::Db => {}
                // A whole database of another time, which the member has outgrown or never finished.
                _ => member.left_out.push(snap.name().to_owned()),
            }
        }
        member
    }

    fn copy(&self, stage: &Stage, job: &Job<'_>) -> Result<(), EditError> {
        job.watch.begin("copying the log", 2 * self.len_bytes);
        for (paths, dir, mode) in [(&self.segments, WAL_DIR, FILE_MODE), (&self.snaps, SNAP_DIR, SNAP_MODE)] {
            for from in paths {
                let name = Path::new(dir).join(from.file_name().unwrap_or_default());
                copied(stage, from, &name, mode, job.options.io, job.input, job.watch)?;
            }
        }
        Ok(())
    }
}

/// Copies the file `from`, one of those of the member whose database is `input`, to `name` in the stage, byte for byte, and reads it
/// back.
pub(crate) fn copied(
    stage: &Stage,
    from: &Path,
    name: &Path,
    mode: u32,
    io: Io,
    input: &Opened,
    watch: &dyn Watch,
) -> Result<(), SaveError> {
    let to = stage.create_file(name, mode)?;
    let source = open_read_only(from)
        .and_then(|file| FileSource::new(file, from, io))
        .map_err(|source| SaveError::Io { path: from.to_owned(), source })?;
    let image = Overlay::new(&source, source.len_bytes(), []);
    let path = stage.path().join(name);
    replicate(&image, 0, source.file(), &[(&to, &path)], watch)
        .map_err(|error| not_written(error, input, &path))?;
    Ok(())
}
