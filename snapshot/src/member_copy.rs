//! A copy of a member's directory in which little is different: pages of its database, the `.snap` that a server starts from,
//! records behind the end of its log. All else is copied byte for byte.
//!
//! What is different is made elsewhere: a [`Patch`], a [`FreshSnap`], [`Appended`] records. Here it is written, read back, and
//! given its name: as a data dir of its own, or in the place of the old member ([`in_place`](crate::in_place)). Nothing gets a name
//! unless the copy says what it should: the database's structure is checked under the patch, every byte is read back from the
//! device, and the log is read as a server reads it.

use std::io::{BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use bbolt::{Io, Lock, OpenError as DbError, Patch, Source, Watch};
use wal::SEGMENT_SIZE_BYTES;
use wal::log::{Segments, ServerEndKind};

use crate::appended::Appended;
use crate::copy;
use crate::edited::{check_patched, copied, patched};
use crate::facts::{Database, Facts, FactsOptions, LogFacts};
use crate::finding::Finding;
use crate::in_place::{InPlaceError, Place};
use crate::log_files::{self, LogFilesError, LogOptions, progress};
use crate::lone::{Config, ids};
use crate::replicate::replicate;
use crate::save::{SaveError, not_written};
use crate::snap_files::{SnapFile, SnapKind};
use crate::stage::{self, FILE_MODE, Kind, Owner, Remains, SNAP_MODE, Stage, StageError};
use crate::structure;

/// What is different in the copy.
#[derive(Debug, Clone, Copy)]
pub struct MemberCopy<'a> {
    /// The member.
    pub facts: &'a Facts,
    /// The pages that are different in its database; `None` for a copy byte for byte.
    pub db: Option<&'a Patch>,
    /// The only `.snap` of the copy. The others are left out then: a server that cannot read this one would go back to an older
    /// one, and to what was before the edit (FORMATS X.70). `None` keeps them all.
    pub snap: Option<&'a FreshSnap>,
    /// What stands behind the end of its log; `None` for a copy byte for byte.
    pub appended: Option<&'a Appended>,
}

/// A `.snap` to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshSnap {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Where the copy goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Publish {
    /// Nowhere: only the account of it is wanted.
    #[default]
    Nowhere,
    /// To a data dir of its own.
    Copy {
        /// The data dir. It must not exist, or be empty.
        output: PathBuf,
        /// The log's directory, where that is not to be `member/wal` of the data dir.
        output_wal_dir: Option<PathBuf>,
    },
    /// In the place of the member, which is kept beside it.
    InPlace,
}

/// How the copy is written.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// Where it goes.
    pub publish: Publish,
    /// Do everything but write.
    pub dry_run: bool,
    /// Remove what earlier, killed runs left at the same place.
    pub clean: bool,
    /// Who shall own it.
    pub owner: Option<Owner>,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// What earlier, killed runs left at the same place.
    pub leftovers: Vec<PathBuf>,
    /// What of that was removed.
    pub cleaned: Vec<PathBuf>,
    /// Names of files beside the log and the database that are not in the copy, since no server needs them.
    pub left_out: Vec<String>,
    /// Where the member's old directory is, when the copy took its place.
    pub original: Option<PathBuf>,
    /// What must be known of it, a sentence each.
    pub warnings: Vec<String>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberCopyError {
    /// The path is no member with a database and a log.
    #[error("{path}: a member's data dir is needed, with its database and its log")]
    NoMember {
        /// What was given.
        path: String,
    },
    /// The copy could not be written.
    #[error(transparent)]
    Output(#[from] SaveError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogFilesError),
    /// It cannot take the member's place.
    #[error(transparent)]
    InPlace(#[from] InPlaceError),
    /// What was read back is not what it should be.
    #[error("{path}: read back, and {what}; do not trust this disk. Nothing was left behind")]
    ReadBack {
        /// The file or directory.
        path: String,
        /// In what it differs.
        what: String,
    },
}

impl From<StageError> for MemberCopyError {
    fn from(error: StageError) -> Self {
        Self::Output(error.into())
    }
}

impl MemberCopyError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Log(error) => error.exit_code(),
            Self::Output(SaveError::Damaged { .. }) => 3,
            Self::Output(error) => error.exit_code(),
            Self::InPlace(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Output(error) => error.findings(),
            _ => &[],
        }
    }
}

/// To be called before anything is decided about an edit: where that is one in place, and an earlier one was cut off between taking
/// its place and giving the old directory a name, this is done now, or told. What lies there is edited already, so that
/// most edits are refused when they are made again. Returns the old directory's name, where it had none.
///
/// # Errors
/// [`MemberCopyError::InPlace`].
pub fn settle(
    facts: &Facts,
    options: &CopyOptions,
    input: &FactsOptions,
) -> Result<Option<PathBuf>, MemberCopyError> {
    if options.publish != Publish::InPlace {
        return Ok(None);
    }
    // Why it cannot be edited in its place is told when it is to be.
    let Ok(place) = Place::of(facts, input) else { return Ok(None) };
    Ok(place.settle(options.clean && !options.dry_run)?)
}

impl Copied {
    /// Notes what [`settle`] has done.
    pub fn note_settled(&mut self, kept: Option<PathBuf>) {
        let told = kept.map(|kept| {
            format!("an earlier edit in place was cut off; its original has its name now: {}", kept.display())
        });
        self.warnings.extend(told);
    }
}

impl MemberCopy<'_> {
    /// Checks the input, makes sure that the copy can be where it should, and writes it, unless there is nowhere to or only its
    /// account is wanted. `input` is how the member was opened.
    ///
    /// # Errors
    /// [`MemberCopyError`]; nothing is left behind then.
    pub fn write(
        &self,
        options: &CopyOptions,
        input: &FactsOptions,
        watch: &dyn Watch,
    ) -> Result<Copied, MemberCopyError> {
        let (Some(Ok(database)), Some(log)) = (&self.facts.database, self.facts.log_facts()) else {
            return Err(MemberCopyError::NoMember { path: self.facts.path.display().to_string() });
        };
        let place = match options.publish {
            Publish::InPlace => Some(Place::of(self.facts, input)?),
            _ => None,
        };
        self.ensure_sound(database, watch)?;
        stage::ensure_owner(options.owner)?;
        let (leftovers, cleaned) = self.make_room(options, place.as_ref())?;
        let mut done =
            Copied { leftovers, cleaned, left_out: self.left_out(log, place.is_some()), ..Copied::default() };
        let job = Job { copy: self, database, log, io: input.log.io, base: Path::new("member"), watch };
        match (&options.publish, place) {
            (Publish::Copy { output, output_wal_dir }, _) => {
                job.publish(output, output_wal_dir.as_deref(), options)?;
            }
            (Publish::InPlace, Some(place)) => {
                let job = Job { base: Path::new(""), ..job };
                job.swap(place, options, &mut done)?;
            }
            _ => {}
        }
        Ok(done)
    }

    /// Makes sure that the database's structure is whole, patched: the copy is to be started, and no server lives long on another.
    fn ensure_sound(&self, database: &Database, watch: &dyn Watch) -> Result<(), SaveError> {
        if let Some(patch) = self.db {
            return check_patched(&database.input, patch, watch);
        }
        let path = || database.input.path().display().to_string();
        let db = database.input.db().map_err(|source: DbError| SaveError::Db { path: path(), source })?;
        watch.begin("checking", database.input.source().len_bytes());
        let findings = structure::check(&db, watch).map_err(|_| SaveError::Interrupted)?;
        if structure::is_damaged(&findings) {
            return Err(SaveError::Damaged { path: path(), findings });
        }
        Ok(())
    }

    /// Makes sure that the output can be where it should; what earlier, killed runs left there is removed where that was asked for.
    /// Returns what they left, and what of it was removed.
    fn make_room(
        &self,
        options: &CopyOptions,
        place: Option<&Place>,
    ) -> Result<(Vec<PathBuf>, Vec<PathBuf>), MemberCopyError> {
        if let Some(place) = place {
            return Ok(place.sweep(options.clean && !options.dry_run)?);
        }
        let Publish::Copy { output, output_wal_dir } = &options.publish else {
            return Ok(Default::default());
        };
        let wal_dir = output_wal_dir.as_deref();
        Ok(make_room(self.facts, output, wal_dir, options.clean, options.dry_run)?)
    }

    /// The files beside the database that are copied, with their modes: the snapshots that a server may start from, and the databases
    /// that came with them.
    fn kept(&self) -> impl Iterator<Item = (&SnapFile, u32)> {
        let is_replaced = self.snap.is_some();
        self.facts.snaps().iter().filter_map(move |snap| match snap.kind() {
            SnapKind::Snap { .. } if !is_replaced => Some((snap, SNAP_MODE)),
            SnapKind::Database { .. } if !is_replaced => Some((snap, FILE_MODE)),
            _ => None,
        })
    }

    fn left_out(&self, log: &LogFacts, is_in_place: bool) -> Vec<String> {
        let listing = log.files.listing();
        let of_log = listing.broken.iter().chain(&listing.temporary).chain(&listing.other).cloned();
        let is_kept = |snap: &SnapFile| self.kept().any(|(other, _)| other.name() == snap.name());
        let beside = self.facts.snaps().iter().filter(|snap| snap.kind() != SnapKind::Db && !is_kept(snap));
        let mut names: Vec<String> = of_log.chain(beside.map(|snap| snap.name().to_owned())).collect();
        if is_in_place {
            // The mark of an edit in place that was cut off is no file of the member's.
            names.retain(|name| !name.ends_with(stage::PARTIAL_SUFFIX));
        }
        names
    }
}

/// Makes sure that a member's directory can be at `output`, and its log at `wal_dir`, where that is given: not within the input, and
/// where nothing is. With `clean` what earlier, killed runs left there is removed, but in a dry run. Returns what they left, and what
/// of it was removed.
///
/// # Errors
/// [`SaveError`].
pub(crate) fn make_room(
    facts: &Facts,
    output: &Path,
    wal_dir: Option<&Path>,
    clean: bool,
    dry_run: bool,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), SaveError> {
    let remains = if clean { Remains::find(output, wal_dir)? } else { Remains::default() };
    for place in [Some(output), wal_dir].into_iter().flatten() {
        if let Some(input) = facts.log_facts().and_then(|log| log.files.holding(place)) {
            return Err(SaveError::Inside { output: place.to_owned(), input: input.to_owned() });
        }
        stage::examine_without(place, Kind::Dir, &remains)?;
    }
    stage::log_below(output, wal_dir)?;
    let cleaned = if clean && !dry_run { stage::clean(output, wal_dir)? } else { Vec::new() };
    let mut leftovers = Vec::new();
    for place in [Some(output), wal_dir].into_iter().flatten() {
        leftovers.extend(stage::abandoned(place)?);
    }
    Ok((leftovers, cleaned))
}

/// One copy under way.
#[derive(Clone, Copy)]
struct Job<'a> {
    copy: &'a MemberCopy<'a>,
    database: &'a Database,
    log: &'a LogFacts,
    io: Io,
    /// Where in the stage the member's own directories are.
    base: &'a Path,
    watch: &'a dyn Watch,
}

impl Job<'_> {
    fn publish(
        &self,
        output: &Path,
        wal_dir: Option<&Path>,
        options: &CopyOptions,
    ) -> Result<(), MemberCopyError> {
        let below = stage::log_below(output, wal_dir)?;
        let apart = wal_dir.filter(|_| below.is_none());
        self.ensure_space(output, apart)?;
        if options.dry_run {
            return Ok(());
        }
        let data = Stage::new(output, Kind::Dir)?;
        let apart = apart.map(|wal_dir| Stage::new(wal_dir, Kind::Dir)).transpose()?;
        let place = below.unwrap_or_default();
        self.write(&data, apart.as_ref().unwrap_or(&data), &place)?;
        match apart {
            Some(apart) => stage::commit_pair(data, apart, options.owner)?,
            None => data.commit_with_log(&place, options.owner)?,
        }
        Ok(())
    }

    fn swap(&self, place: Place, options: &CopyOptions, done: &mut Copied) -> Result<(), MemberCopyError> {
        self.ensure_space(place.member(), None)?;
        if options.dry_run {
            return Ok(());
        }
        let staged = place.stage()?;
        self.write(&staged, &staged, Path::new("wal"))?;
        let (original, warnings) = place.swap(self.copy.facts, staged, options.owner)?;
        done.original = Some(original);
        done.warnings.extend(warnings);
        Ok(())
    }

    /// Writes everything, and reads it back.
    fn write(&self, data: &Stage, of_log: &Stage, place: &Path) -> Result<(), MemberCopyError> {
        let snap_dir = self.base.join("snap");
        data.create_dir_all(&snap_dir)?;
        self.write_db(data, &snap_dir.join("db"))?;
        for (snap, mode) in self.copy.kept() {
            self.copy(data, snap.path(), &snap_dir.join(snap.name()), mode)?;
        }
        if let Some(snap) = self.copy.snap {
            self.write_snap(data, &snap_dir.join(&snap.name), snap)?;
        }
        of_log.create_dir_all(place)?;
        self.write_log(of_log, place)?;
        if let Some(appended) = self.copy.appended {
            self.read_back(&data.path().join(self.base), &of_log.path().join(place), appended)?;
        }
        self.database.input.ensure_not_written_to().map_err(|source| SaveError::Changed {
            path: self.database.input.path().display().to_string(),
            source,
        })?;
        self.log.files.ensure_unchanged()?;
        if self.watch.interrupted() {
            return Err(SaveError::Interrupted.into());
        }
        Ok(())
    }

    fn ensure_space(&self, output: &Path, apart: Option<&Path>) -> Result<(), SaveError> {
        let snaps = self.copy.kept().map(|(snap, _)| snap.len_bytes()).fold(0, u64::saturating_add);
        let fresh = self.copy.snap.map_or(0, |snap| u64::try_from(snap.bytes.len()).unwrap_or_default());
        let db = self.copy.db.map_or_else(|| self.database.input.source().len_bytes(), Patch::len_bytes);
        let data = db.saturating_add(snaps).saturating_add(fresh);
        let log = self.log.files.len_bytes().saturating_add(SEGMENT_SIZE_BYTES);
        Ok(copy::ensure_space_for_member(output, data, apart, log)?)
    }

    fn copy(&self, stage: &Stage, from: &Path, name: &Path, mode: u32) -> Result<(), SaveError> {
        let len_bytes = from.metadata().map_or(0, |meta| meta.len());
        self.watch.begin("copying", len_bytes.saturating_mul(2));
        copied(stage, from, name, mode, self.io, &self.database.input, self.watch)
    }

    fn write_db(&self, stage: &Stage, name: &Path) -> Result<(), SaveError> {
        let input = &self.database.input;
        let Some(patch) = self.copy.db else { return self.copy(stage, input.db_path(), name, FILE_MODE) };
        let file = stage.create_file(name, FILE_MODE)?;
        let path = stage.path().join(name);
        let image = patched(input, patch);
        self.watch.begin("copying", image.len_bytes().saturating_mul(2));
        replicate(&image, 0, input.source().file(), &[(&file, &path)], self.watch)
            .map_err(|error| not_written(error, input, stage.final_path()))?;
        Ok(())
    }

    fn write_snap(&self, stage: &Stage, name: &Path, snap: &FreshSnap) -> Result<(), MemberCopyError> {
        let mut file = stage.create_file(name, SNAP_MODE)?;
        let path = stage.path().join(name);
        let failed = |source| SaveError::Io { path: path.clone(), source };
        file.write_all(&snap.bytes).and_then(|()| copy::sync_and_drop_cache(&file)).map_err(failed)?;
        let read = std::fs::read(&path).map_err(failed)?;
        if read != snap.bytes || wal::decode_snap(&read).is_err() {
            let what = "it is not what was written".to_owned();
            return Err(MemberCopyError::ReadBack { path: path.display().to_string(), what });
        }
        Ok(())
    }

    /// All segments as they are, but the last where something is to stand behind its records: that, then zeros as far as a server
    /// preallocates.
    fn write_log(&self, stage: &Stage, place: &Path) -> Result<(), SaveError> {
        let files = &self.log.files;
        let Some(last) = files.names().len().checked_sub(1) else { return Ok(()) };
        for (at, name) in files.names().iter().enumerate() {
            let name = place.join(&name.name);
            let Some(appended) = self.copy.appended.filter(|_| at == last) else {
                self.copy(stage, &files.segment_path(at), &name, FILE_MODE)?;
                continue;
            };
            let path = stage.path().join(&name);
            let failed = |source| SaveError::Io { path: path.clone(), source };
            let mut out = BufWriter::new(stage.create_file(&name, FILE_MODE)?);
            let piece = files.piece(at);
            let end = usize::try_from(appended.offset).unwrap_or(usize::MAX);
            out.write_all(piece.bytes.get(..end).unwrap_or(&piece.bytes)).map_err(failed)?;
            out.write_all(&appended.records).map_err(failed)?;
            let file = out.into_inner().map_err(IntoInnerError::into_error).map_err(failed)?;
            let records =
                appended.offset.saturating_add(u64::try_from(appended.records.len()).unwrap_or_default());
            copy::preallocate(&file, records.max(SEGMENT_SIZE_BYTES))
                .and_then(|()| copy::sync_and_drop_cache(&file))
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Reads the log of the copy from the disk, as a server would: all of it, with the members that are meant. Its checksums go on
    /// from those of the input, so that what was copied is what was there.
    fn read_back(&self, member: &Path, wal_dir: &Path, wanted: &Appended) -> Result<(), MemberCopyError> {
        let differs = |what: String| MemberCopyError::ReadBack { path: wal_dir.display().to_string(), what };
        let options = LogOptions { io: Io::Mmap, lock: Lock::None, wal_dir: Some(wal_dir.to_owned()) };
        let files = log_files::open(member, &options, self.watch)?;
        self.watch.begin("reading back", files.len_bytes());
        let log = wal::log::read(&files, &progress(self.watch)).map_err(|_| LogFilesError::Interrupted)?;
        if log.server_end.is_none_or(|end| end.kind != ServerEndKind::Clean) {
            return Err(differs("it breaks".to_owned()));
        }
        let found = log.segments.last().map(|segment| segment.end_crc);
        if found != Some(wanted.crc) {
            return Err(differs(format!("its checksum is {found:x?} instead of {:x}", wanted.crc)));
        }
        let state = log.server_hard_state.as_ref().map(|state| state.value);
        if state != wanted.state || log.last_index() != wanted.last_index {
            return Err(differs(format!(
                "it ends at entry {:?} with {state:?} instead of {:?} with {:?}",
                log.last_index(),
                wanted.last_index,
                wanted.state
            )));
        }
        let config = Config::of_log(&files, &log, u64::MAX).unwrap_or_default();
        if config != wanted.config {
            let all =
                |config: &Config| ids(&config.voters.union(&config.learners).copied().collect::<Vec<u64>>());
            return Err(differs(format!(
                "its members are {} instead of {}",
                all(&config),
                all(&wanted.config)
            )));
        }
        Ok(())
    }
}
