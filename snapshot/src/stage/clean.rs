//! What killed runs left: finding it, and removing it so that no cut of the removal makes a server start wrongly.
//!
//! A restore that was cut between its renames (the parent module tells of them) is removed as it was published, the
//! other way round, and each step lasts on disk before the next begins:
//!
//! 1. The log segment, if it has its name, gets one that ends in [`PARTIAL_SUFFIX`], in its directory or, if that is in
//!    the data dir, there; what it leaves empty in the data dir goes.
//! 2. `member` gets such a name too: with it goes the link in place of the db, in one rename.
//! 3. All that is so named is removed, in no order: none of it counts for etcd.
//!
//! | cut after | data dir | log dir, or what holds it in the data dir | etcd | the next `--clean` |
//! |---|---|---|---|---|
//! | 0 | link in place of the db | its name, or staged | stops: cannot open the backend | does all |
//! | 1 | link in place of the db | no segment that etcd would read | stops: cannot open the backend | finds the segment by its inode, goes on |
//! | 2 | no `member` | no segment that etcd would read | as before the restore | removes the names |
//! | within 3 | no `member` | no segment that etcd would read | as before the restore | removes the names |
//!
//! So until the link is gone the log it names is there to be found, and it goes only when no log could be started alone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{
    MEMBER, PARTIAL_SUFFIX, Relation, StageError, failed, leads_to, link_target, parent_of, partial_names,
    relation, rename_new, sync, unfinished_link,
};

/// What earlier runs left behind for the output `final_path`: staged names beside it and in it, and a data directory
/// whose db was never put in place.
///
/// # Errors
/// [`StageError::Io`] when a directory cannot be listed.
pub fn leftovers(final_path: &Path) -> Result<Vec<PathBuf>, StageError> {
    let mut found = partials(final_path)?;
    if unfinished_link(final_path).is_some() {
        found.push(final_path.join(MEMBER));
    }
    found.sort();
    Ok(found)
}

/// Those of [`leftovers`] that no running process is writing.
///
/// # Errors
/// As [`leftovers`].
pub fn abandoned(final_path: &Path) -> Result<Vec<PathBuf>, StageError> {
    let mut found = leftovers(final_path)?;
    found.retain(|path| {
        let Ok(handle) = File::open(path) else { return true };
        // Shared, so that two who only look do not take each other for writers.
        rustix::fs::flock(&handle, FlockOperation::NonBlockingLockShared) != Err(Errno::WOULDBLOCK)
    });
    Ok(found)
}

/// The names beside `final_path` and in it that say they are unfinished.
fn partials(final_path: &Path) -> Result<Vec<PathBuf>, StageError> {
    let mut found = Vec::new();
    if let Some(name) = final_path.file_name() {
        let mut start = name.as_bytes().to_vec();
        start.push(b'.');
        collect_partials(&parent_of(final_path), &start, &mut found)?;
    }
    collect_partials(final_path, b"", &mut found)?;
    Ok(found)
}

fn collect_partials(dir: &Path, start: &[u8], found: &mut Vec<PathBuf>) -> Result<(), StageError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(failed("list", dir)(e)),
    };
    for entry in entries {
        let name = entry.map_err(failed("list", dir))?.file_name();
        if name.as_bytes().starts_with(start) && is_partial(&name) {
            found.push(dir.join(name));
        }
    }
    Ok(())
}

/// True for a name that says that it is unfinished.
pub(super) fn is_partial(name: &OsStr) -> bool {
    name.as_bytes().ends_with(PARTIAL_SUFFIX.as_bytes())
}

/// What [`clean`] removes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The log of an unfinished restore, when it has its name.
    segment: Option<PathBuf>,
    /// The directories in the data dir that hold nothing else, innermost first.
    emptied: Vec<PathBuf>,
    /// The `member` with the link in place of its db.
    member: Option<PathBuf>,
    /// What says by its name that it is unfinished.
    partials: Vec<PathBuf>,
}

impl Remains {
    /// What there is to remove for the output `final_path` and, for a restore, its `wal_dir`.
    ///
    /// # Errors
    /// [`StageError::LogNotFound`] when there is the link of an unfinished restore, but not the log it names: it would be
    /// left without a db; [`StageError::Io`].
    pub(crate) fn find(final_path: &Path, wal_dir: Option<&Path>) -> Result<Self, StageError> {
        let mut remains = Self { partials: partials(final_path)?, ..Self::default() };
        let below = match wal_dir.map(|wal_dir| relation(final_path, wal_dir)).transpose()? {
            Some(Relation::WalInData(below)) => Some(below),
            _ => None,
        };
        // By way of the data dir, so that the paths found can be compared.
        let in_data = below.as_ref().map(|below| final_path.join(below));
        let wal_dir = in_data.as_deref().or(wal_dir);
        if let Some(wal_dir) = wal_dir {
            remains.partials.extend(partials(wal_dir)?);
        }
        remains.partials.sort();
        // The two places may be spelt differently, and have a name in common.
        let mut seen = BTreeSet::new();
        remains.partials.retain(|path| {
            fs::symlink_metadata(path).map_or(true, |meta| seen.insert((meta.dev(), meta.ino())))
        });
        let Some(target) = unfinished_link(final_path) else { return Ok(remains) };
        remains.member = Some(final_path.join(MEMBER));
        let not_found =
            || StageError::LogNotFound { data: final_path.to_owned(), wal: wal_dir.map(Path::to_owned) };
        let dir = wal_dir.ok_or_else(not_found)?;
        remains.segment = segment_in(dir, &target)?.filter(|path| !path.file_name().is_some_and(is_partial));
        let mut is_found = remains.segment.is_some();
        for partial in &remains.partials {
            let below = below.as_ref().map(|below| partial.join(below));
            is_found |= is_segment(partial, &target)?;
            for staged in [Some(partial.clone()), below].into_iter().flatten() {
                is_found |= segment_in(&staged, &target)?.is_some();
            }
        }
        if !is_found {
            return Err(not_found());
        }
        if let Some(in_data) = &in_data {
            // What an earlier removal has taken from there is gone, or leaves a directory empty.
            let mut only = remains.segment.clone();
            for dir in in_data.ancestors().take_while(|dir| *dir != final_path) {
                let mut names = match fs::read_dir(dir) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    names => names.map_err(failed("list", dir))?,
                };
                if !names.all(|entry| entry.is_ok_and(|entry| Some(entry.path()) == only)) {
                    break;
                }
                remains.emptied.push(dir.to_owned());
                only = Some(dir.to_owned());
            }
        }
        Ok(remains)
    }

    /// True when `path` will be gone.
    pub(super) fn includes(&self, path: &Path) -> bool {
        let mut all = self.segment.iter().chain(&self.emptied).chain(&self.member).chain(&self.partials);
        all.any(|remains| remains == path)
    }
}

/// The moments before which [`clean`] can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CleanStep {
    /// The segment gets another name.
    Segment,
    /// A directory that held it goes.
    Emptied,
    /// `member` gets another name.
    Member,
    /// One of the names that say so is removed.
    Partial,
}

/// Removes what [`leftovers`] finds, and after a cut between the last two renames of a pair the log in `wal_dir` that
/// belongs to it. Returns what was removed. A later call ends what a killed one began.
///
/// # Errors
/// [`StageError::LogNotFound`] when that log cannot be found, [`StageError::InUse`] when a running process is writing
/// there, and nothing was removed; [`StageError::Io`].
pub fn clean(final_path: &Path, wal_dir: Option<&Path>) -> Result<Vec<PathBuf>, StageError> {
    clean_stepwise(final_path, wal_dir, &mut |_| Ok(()))
}

pub(super) fn clean_stepwise(
    final_path: &Path,
    wal_dir: Option<&Path>,
    before: &mut dyn FnMut(CleanStep) -> io::Result<()>,
) -> Result<Vec<PathBuf>, StageError> {
    let remains = Remains::find(final_path, wal_dir)?;
    let mut step = |step, path: &Path| before(step).map_err(failed("remove", path));
    let mut locks = Vec::new();
    if remains.member.is_some() {
        // A run between its renames holds these: its stages have their final names already.
        for place in [Some(final_path), wal_dir].into_iter().flatten() {
            match lock(place) {
                Err(StageError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                locked => locks.push(locked?),
            }
        }
    }
    for path in &remains.partials {
        locks.push(lock(path)?);
    }
    // A run may have ended well before it could be locked out.
    if Remains::find(final_path, wal_dir)? != remains {
        return Err(StageError::InUse(final_path.to_owned()));
    }
    let Remains { segment, emptied, member, partials } = remains;
    let mut removed = Vec::new();
    // Where each is now, and what it is told as.
    let mut doomed: Vec<(PathBuf, PathBuf)> = Vec::new();
    if let Some(path) = segment {
        step(CleanStep::Segment, &path)?;
        let dir = parent_of(&path);
        // Nothing is to keep the directories in the data dir from going.
        let to = if emptied.is_empty() { dir.as_path() } else { final_path };
        doomed.push((set_aside(&path, to)?, path));
        sync(to)?;
        sync(&dir)?;
    }
    for dir in emptied {
        step(CleanStep::Emptied, &dir)?;
        fs::remove_dir(&dir).map_err(failed("remove", &dir))?;
        sync(&parent_of(&dir))?;
    }
    if let Some(path) = member {
        step(CleanStep::Member, &path)?;
        // A killed run may have given the segment its other name and not got to sync that.
        let log_place = wal_dir.and_then(|dir| dir.ancestors().find(|dir| dir.is_dir()));
        [log_place, Some(final_path)].into_iter().flatten().try_for_each(sync)?;
        doomed.push((set_aside(&path, final_path)?, path));
    }
    if final_path.is_dir() {
        // Nor may a killed run have synced that `member` lost its name, and the log may be among what goes now.
        sync(final_path)?;
    }
    doomed.extend(partials.into_iter().map(|path| (path.clone(), path)));
    for (path, told) in doomed {
        step(CleanStep::Partial, &path)?;
        remove(&path)?;
        removed.push(told);
    }
    drop(locks);
    Ok(removed)
}

/// Gives `path` a name in `dir` that says that it is unfinished.
fn set_aside(path: &Path, dir: &Path) -> Result<PathBuf, StageError> {
    let name = path.file_name().ok_or_else(|| StageError::NoName(path.to_owned()))?;
    for name in partial_names(name) {
        let to = dir.join(name);
        match rename_new(path, &to) {
            Err(StageError::Overtaken(_)) => {}
            renamed => return renamed.map(|()| to),
        }
    }
    Err(StageError::Exists(dir.join(name)))
}

/// The log segment in `dir` that the link `target` names.
fn segment_in(dir: &Path, target: &Path) -> Result<Option<PathBuf>, StageError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(failed("list", dir)(e)),
    };
    for entry in entries {
        let path = entry.map_err(failed("list", dir))?.path();
        if is_segment(&path, target)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_segment(path: &Path, target: &Path) -> Result<bool, StageError> {
    let meta = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    Ok(meta.is_file() && link_target(&meta) == target)
}

/// Locks `path` against its writer and other cleaners, as far as the file system knows locks; a link has no writer.
fn lock(path: &Path) -> Result<Option<File>, StageError> {
    if fs::symlink_metadata(path).map_err(failed("look at", path))?.is_symlink() {
        return Ok(None);
    }
    let handle = File::open(path).map_err(failed("open", path))?;
    if rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Err(StageError::InUse(path.to_owned()));
    }
    // Between being opened and being locked it may have been published, and the name taken by another run's stage.
    if !leads_to(path, &handle).map_err(failed("look at", path))? {
        return Err(StageError::InUse(path.to_owned()));
    }
    Ok(Some(handle))
}

fn remove(path: &Path) -> Result<(), StageError> {
    let meta = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .map_err(failed("remove", path))
}
