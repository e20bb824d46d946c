//! `snapshot save`: the snapshot a server would send, made from a dead member's db (FORMATS D).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bbolt::{Db, Io, OpenError as DbError, Source, Unmetered, Watch};

use crate::contents::Contents;
use crate::copy::{self, SpaceError};
use crate::edited::{self, Change, EditError, EditOptions};
use crate::finding::Finding;
use crate::fold::{self, Entries, FoldError, FoldOptions, FoldReport, Point};
use crate::image;
use crate::integrity::{self, Changed, Digest, HashingError, Integrity, TRAILER_BYTES, Verdict};
use crate::log_files::LogFiles;
use crate::mvcc::Store;
use crate::opened::Opened;
use crate::overlay::Overlay;
use crate::plan::Until;
use crate::replicate::{ReplicateError, replicate};
use crate::schema::Schema;
use crate::stage::{self, Kind, Owner, Stage, StageError};
use crate::status::{self, Examined, StatusError};
use crate::structure::{is_damaged, way_out};

/// What to write where.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// The snapshot to write; it must not exist.
    pub output: PathBuf,
    /// Do everything but write.
    pub dry_run: bool,
    /// Who shall own it.
    pub owner: Option<Owner>,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct SaveReport {
    /// The snapshot.
    pub output: PathBuf,
    /// Length of its image, without its hash, in bytes.
    pub image_bytes: u64,
    /// The image's SHA-256; `None` where it is known only when it was written.
    pub digest: Option<Digest>,
    /// The last revision in it.
    pub revision: i64,
    /// Index of the last raft entry in it.
    pub consistent_index: u64,
    /// True when the db came from a member, whose log is not in the snapshot.
    pub log_not_folded: bool,
    /// What was folded of the log, where it was.
    pub fold: Option<FoldReport>,
    /// What is wrong with the db, short of damage.
    pub findings: Vec<Finding>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The db is damaged.
    #[error(
        "{path}: its structure is damaged ({} finding(s)): a snapshot of it would be refused, or crash a server; \
         nothing was written. 'etcd-rescue salvage {path} --dry-run' says what can be saved of it", findings.len()
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// The input has a hash already, and it does not match.
    #[error(
        "{path}: expected sha256 {expected}, got {computed}: the file changed after it was taken, and a new hash would \
         hide that; nothing was written"
    )]
    HashMismatch {
        /// The file.
        path: String,
        /// The trailer.
        expected: String,
        /// The image's hash.
        computed: String,
    },
    /// The input has a hash already, and it matches.
    #[error("{path}: has an integrity hash already, and it matches; nothing was written")]
    HasHash {
        /// The file.
        path: String,
    },
    /// The db cannot be read.
    #[error(transparent)]
    Examine(StatusError),
    /// The db cannot be opened.
    #[error("{path}: {source}{}", way_out(source))]
    Db {
        /// The file.
        path: String,
        /// Why.
        source: DbError,
    },
    /// The db cannot be hashed.
    #[error("{path}: {source}")]
    Hashing {
        /// The file.
        path: String,
        /// Why.
        source: HashingError,
    },
    /// The log cannot be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The folded db cannot be written anew.
    #[error(transparent)]
    Rebuild(Box<EditError>),
    /// The folded db would not be what it should: an error in this program.
    #[error(
        "{path}: the database with its log folded in does not pass its own check ({what}); nothing was written. Please report this; \
         --no-replay saves the database alone"
    )]
    Folded {
        /// What was given.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The output lies in the input, which is evidence.
    #[error(
        "{}: lies in {}, which is the input and stays as it is; give a place outside of it", output.display(), input.display()
    )]
    Inside {
        /// The output.
        output: PathBuf,
        /// The directory of the input that it lies in.
        input: PathBuf,
    },
    /// The output cannot be where it should.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// There is no room.
    #[error("{0}; nothing was written")]
    Space(#[from] SpaceError),
    /// The image could not be written, or read back.
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
        /// The output.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The input was not the same each time it was read.
    #[error("{path}: {source}. Nothing was left behind")]
    Changed {
        /// The file.
        path: String,
        /// Where.
        source: Changed,
    },
    /// What was read back is not what was written.
    #[error("{}: read back and found different from what was written; do not trust this disk", path.display())]
    ReadBack {
        /// The output.
        path: PathBuf,
    },
    /// The user asked to stop.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

impl SaveError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Examine(error) => error.exit_code(),
            Self::Fold(error) => error.exit_code(),
            Self::Rebuild(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Damaged { findings, .. } => findings,
            Self::Fold(error) => error.findings(),
            Self::Rebuild(error) => error.findings(),
            _ => &[],
        }
    }
}

impl From<EditError> for SaveError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Output(error) => error,
            other => Self::Rebuild(Box::new(other)),
        }
    }
}

/// Writes the image of `input`'s db that a server would send, with its SHA-256, to a new file of mode 0600: the pages up
/// to the high-water mark, both metas made from the one in force.
///
/// # Errors
/// When the db is damaged, its own hash does not match, or the output cannot be written; nothing is left behind then.
pub fn save(input: &Opened, options: &SaveOptions, watch: &dyn Watch) -> Result<SaveReport, SaveError> {
    stage::examine(&options.output, Kind::File)?;
    let path = || input.path().display().to_string();
    let examined = examine_sound(input, watch)?;
    let db = input.db().map_err(|source| SaveError::Db { path: path(), source })?;
    let [meta0, meta1] = image::meta_pages(db.meta());
    let metas = [(0, meta0.as_slice()), (u64::from(db.page_size()), meta1.as_slice())];
    let written = write(input, &db, &metas, options, watch)?;
    let (revision, consistent_index) = examined
        .contents
        .map(|(contents, schema)| (contents.revision, schema.consistent_index))
        .unwrap_or_default();
    let mut findings = examined.findings;
    findings.extend(input.pending_snapshots(consistent_index));
    Ok(SaveReport {
        output: options.output.clone(),
        image_bytes: written.image_bytes,
        digest: Some(written.digest),
        revision,
        consistent_index,
        log_not_folded: input.wal_dir().is_some() || examined.verdict.integrity == Integrity::Absent,
        fold: None,
        findings,
    })
}

/// As [`save()`], with what the log `files` has beyond `input`'s db folded in.
///
/// # Errors
/// As [`save()`], and when the log cannot be folded; nothing is left behind then.
pub fn save_folded(
    input: &Opened,
    files: &LogFiles,
    fold: &FoldOptions,
    options: &SaveOptions,
    watch: &dyn Watch,
) -> Result<SaveReport, SaveError> {
    let output = options.output.as_path();
    stage::ensure_owner(options.owner)?;
    if let Some(holding) = files.holding(output) {
        return Err(SaveError::Inside { output: output.to_owned(), input: holding.to_owned() });
    }
    stage::examine(output, Kind::File)?;
    let path = || input.path().display().to_string();
    edited::verify_hash(input, watch)?;
    let db = input.db().map_err(|source| SaveError::Db { path: path(), source })?;
    let (folded, report) = fold::fold(input, &db, Entries::OfLog(files), fold, watch)?;
    let edits = folded.edits();
    let (image_bytes, digest, mut findings) = match folded.change(&edits) {
        None => {
            let saved = save(input, options, watch)?;
            (saved.image_bytes, saved.digest, saved.findings)
        }
        Some(Change::Patch(patch)) => {
            let image = edited::patched(input, patch);
            let findings = examine_folded(&image, &path(), &report, watch)?;
            let folded = Db::from_source(&image).map_err(|source| SaveError::Db { path: path(), source })?;
            let [meta0, meta1] = image::meta_pages(folded.meta());
            let metas = [(0, meta0.as_slice()), (u64::from(folded.page_size()), meta1.as_slice())];
            let over = metas.into_iter().chain(patch.data_writes());
            let written = write_image(input, patch.len_bytes(), over, options, watch)?;
            (written.image_bytes, Some(written.digest), findings)
        }
        Some(change @ Change::Rebuild { .. }) => {
            let (output, io) = (output.to_owned(), Io::Mmap);
            let options =
                EditOptions { output, dry_run: options.dry_run, owner: options.owner, io, with_hash: true };
            let written = edited::write(input, None, change, &options, watch)?;
            (written.after_bytes.saturating_sub(TRAILER_BYTES), written.digest, Vec::new())
        }
    };
    findings.extend(report.findings.iter().cloned());
    let Point { revision, index, .. } = report.after;
    Ok(SaveReport {
        output: options.output.clone(),
        image_bytes,
        digest,
        revision,
        consistent_index: index,
        log_not_folded: false,
        fold: Some(report),
        findings,
    })
}

/// Examines `image`, a db with its log folded in as `report` tells, as if it had been given: it is sound, and stands where the
/// replay came to.
fn examine_folded<S: Source>(
    image: &S,
    path: &str,
    report: &FoldReport,
    watch: &dyn Watch,
) -> Result<Vec<Finding>, SaveError> {
    let wrong = |what: String| SaveError::Folded { path: path.to_owned(), what };
    let examined = status::examine(image, path, false, watch).map_err(|error| match error {
        StatusError::Interrupted => SaveError::Interrupted,
        other => wrong(other.to_string()),
    })?;
    if let Some(finding) = examined.findings.iter().find(|_| is_damaged(&examined.findings)) {
        return Err(wrong(finding.to_string()));
    }
    let (contents, schema) = examined.contents.ok_or_else(|| wrong("it holds nothing".to_owned()))?;
    ensure_stands_there(&contents, &schema, path, report)?;
    Ok(examined.findings)
}

/// Makes sure that a folded db, which holds `contents` and `schema`, stands where the replay came to.
pub(crate) fn ensure_stands_there(
    contents: &Contents,
    schema: &Schema,
    path: &str,
    report: &FoldReport,
) -> Result<(), SaveError> {
    let revision = Store::of(schema, contents.revision, report.release).current_revision;
    let found = (revision, schema.consistent_index);
    let expected = (report.after.revision, report.after.index);
    if found == expected {
        return Ok(());
    }
    let what = format!("revision and entry {found:?} instead of {expected:?}");
    Err(SaveError::Folded { path: path.to_owned(), what })
}

/// Examines `input` and refuses a damaged one, or one whose own hash does not match.
pub(crate) fn examine_sound(input: &Opened, watch: &dyn Watch) -> Result<Examined, SaveError> {
    let path = || input.path().display().to_string();
    let examined = status::examine(input.source(), &path(), true, watch).map_err(|error| match error {
        StatusError::Interrupted => SaveError::Interrupted,
        other => SaveError::Examine(other),
    })?;
    if let Verdict {
        integrity: Integrity::Mismatch,
        expected: Some(expected),
        computed: Some(computed),
        ..
    } = examined.verdict
    {
        let (expected, computed) = (expected.to_string(), computed.to_string());
        return Err(SaveError::HashMismatch { path: path(), expected, computed });
    }
    if is_damaged(&examined.findings) {
        return Err(SaveError::Damaged { path: path(), findings: examined.findings });
    }
    Ok(examined)
}

/// An image that was written, and read back.
pub(crate) struct Written {
    pub(crate) image_bytes: u64,
    pub(crate) digest: Digest,
}

/// Writes the pages of `db` up to its high-water mark, under `patches`, and their SHA-256.
pub(crate) fn write(
    input: &Opened,
    db: &Db<&bbolt::FileSource>,
    patches: &[(u64, &[u8])],
    options: &SaveOptions,
    watch: &dyn Watch,
) -> Result<Written, SaveError> {
    write_image(input, db.meta().logical_bytes(), patches.iter().copied(), options, watch)
}

/// Writes `input`, cut or extended to `image_bytes`, under `patches`, and its SHA-256.
fn write_image<'p>(
    input: &'p Opened,
    image_bytes: u64,
    patches: impl IntoIterator<Item = (u64, &'p [u8])>,
    options: &SaveOptions,
    watch: &dyn Watch,
) -> Result<Written, SaveError> {
    let output = options.output.as_path();
    let overlay = Overlay::new(input.source(), image_bytes, patches);
    copy::ensure_space(output, image_bytes + TRAILER_BYTES)?;
    if options.dry_run {
        watch.begin("hashing", image_bytes);
        let digest = integrity::sha256(&overlay, image_bytes, watch).map_err(|e| not_hashed(e, input))?;
        return Ok(Written { image_bytes, digest });
    }
    let stage = Stage::new(output, Kind::File)?;
    let Some(file) = stage.file() else {
        return Err(StageError::NotADirectory(output.to_owned()).into());
    };
    let digest = hashed_into(file, stage.path(), output, &overlay, input, watch)?;
    stage.commit(options.owner)?;
    Ok(Written { image_bytes, digest })
}

/// Writes `image`, which is `input` under patches, with its SHA-256 behind it to the fresh file `file` (at `path`, later
/// called `output`), and reads all of it back.
pub(crate) fn hashed_into<S: Source>(
    file: &File,
    path: &Path,
    output: &Path,
    image: &Overlay<'_, S>,
    input: &Opened,
    watch: &dyn Watch,
) -> Result<Digest, SaveError> {
    let image_bytes = image.len_bytes();
    // Every byte is written once and read back once.
    watch.begin("writing", 2 * image_bytes);
    let stop = AtomicBool::new(false);
    let until = Until { watch, stop: &stop };
    let (digest, written) = rayon::join(
        || {
            integrity::sha256_and_sums(image, image_bytes, &Unmetered(&until))
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))
                .map_err(|error| not_hashed(error, input))
        },
        || {
            replicate(image, 0, input.source().file(), &[(file, path)], &until)
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))
        },
    );
    let (digest, hashed, written) = match (digest, written) {
        (Ok((digest, sums)), Ok(written)) => (digest, sums, written.image),
        (Err(error), Ok(_) | Err(ReplicateError::Interrupted)) => return Err(error),
        (_, Err(error)) => return Err(not_written(error, input, output)),
    };
    // Hash and copy read the input each on its own.
    integrity::ensure_same(&hashed, &written)
        .and_then(|()| input.ensure_not_written_to())
        .map_err(|source| SaveError::Changed { path: input.path().display().to_string(), source })?;
    attach(file, output, image_bytes, digest)?;
    Ok(digest)
}

/// Writes `digest` behind the `image_bytes` of the file that will be called `output`, syncs, and reads it back.
pub(crate) fn attach(file: &File, output: &Path, image_bytes: u64, digest: Digest) -> Result<(), SaveError> {
    let mut trailer = [0; 32];
    file.write_all_at(&digest.0, image_bytes)
        .and_then(|()| copy::sync_and_drop_cache(file))
        .and_then(|()| file.read_exact_at(&mut trailer, image_bytes))
        .map_err(|source| SaveError::Io { path: output.to_owned(), source })?;
    if trailer == digest.0 { Ok(()) } else { Err(SaveError::ReadBack { path: output.to_owned() }) }
}

fn not_hashed(error: HashingError, input: &Opened) -> SaveError {
    match error {
        HashingError::Interrupted => SaveError::Interrupted,
        source @ HashingError::Source(_) => {
            SaveError::Hashing { path: input.path().display().to_string(), source }
        }
    }
}

/// What it means to the user that `output` could not be made from `input`.
pub(crate) fn not_written(error: ReplicateError, input: &Opened, output: &Path) -> SaveError {
    let path = output.to_owned();
    match error {
        ReplicateError::Interrupted => SaveError::Interrupted,
        ReplicateError::Image(source) => {
            SaveError::Hashing { path: input.path().display().to_string(), source: source.into() }
        }
        ReplicateError::Differs { .. } => match input.ensure_not_written_to() {
            Ok(()) => SaveError::ReadBack { path },
            Err(source) => SaveError::Changed { path: input.path().display().to_string(), source },
        },
        source @ ReplicateError::Target { .. } => SaveError::Write { path, source },
    }
}
