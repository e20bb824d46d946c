//! A staged directory that changes places with one that is there: `--in-place` of a member's whole directory.
//!
//! The stage holds, from its first moment, a file whose name says that it is unfinished ([`MARK`]). One rename exchanges stage and
//! directory (`RENAME_EXCHANGE`), so that the name leads to the one or to the other, whole, at every moment. Then the old one,
//! which has the stage's name, gets its own, and at last the mark goes. Each step is on disk before the next begins.
//!
//! | cut after | the directory | beside it | etcd |
//! |---|---|---|---|
//! | staging | the old one | `….etcd-rescue-partial`, marked: the new one | starts on the old one |
//! | the exchange | the new one, marked | `….etcd-rescue-partial`, not marked: the old one | starts on the new one |
//! | the old one's naming | the new one, marked | `….original` | starts on the new one |
//! | the mark's removal | the new one | `….original` | starts on the new one |
//!
//! So the mark tells which of the two lies where. [`settle`] ends what was cut after the exchange; nothing that may be the old one
//! is ever removed. etcd passes over a file in `member` that it does not know.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::clean::is_partial;
use super::{
    FILE_MODE, Kind, Owner, Stage, StageError, ensure_writable, failed, leads_to, new_file, parent_of,
    rename_new, sync,
};

/// The file that says that a directory has not come to its place, or that the one that was there has not got its name.
const MARK: &str = "in-place.etcd-rescue-partial";
/// How the old directory is called: its name and this, and a number where that is taken.
const KEPT_SUFFIX: &str = ".original";
/// How many names are tried for it.
const KEPT_NAMES: u32 = 1000;

/// Why two directories did not change places, or not for certain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Staging, or naming, failed before anything had its name.
    #[error("{0}; nothing was changed")]
    Stage(#[from] StageError),
    /// The file system does not exchange directories.
    #[error(
        "{}: this file system cannot exchange two directories in one step, and in two a loss of power between them would leave no member \
         at all. Nothing was changed; -o OUT writes a copy instead", path.display()
    )]
    Unable {
        /// The directory.
        path: PathBuf,
    },
    /// It is a mount point.
    #[error(
        "{}: is a mount point, and cannot change places with another directory. Nothing was changed; -o OUT writes a copy instead",
        path.display()
    )]
    MountPoint {
        /// The directory.
        path: PathBuf,
    },
    /// An earlier run was cut off behind the exchange.
    #[error(
        "{}: an earlier edit in place was cut off: what lies here is edited already, and {} is the original. --clean gives the original its \
         name", path.display(), old.display()
    )]
    Unfinished {
        /// The directory.
        path: PathBuf,
        /// Where the old one is.
        old: PathBuf,
    },
    /// What a stage is called and is none.
    #[error(
        "{}: may be the original of an edit in place that was cut off, and the file that would say so is gone. Look at it ('etcd-rescue inspect'), \
         and give it another name, or remove it. Nothing was changed", old.display()
    )]
    Doubtful {
        /// The directory.
        old: PathBuf,
    },
    /// The new one is in place, and the disk could not be told so.
    #[error(
        "{}: the edited directory is in its place, and the original is {}, but that is not for certain on the disk: {source}. After a loss of \
         power it may be the other way round", path.display(), old.display()
    )]
    NotSynced {
        /// The directory.
        path: PathBuf,
        /// Where the old one is.
        old: PathBuf,
        /// What failed.
        source: StageError,
    },
}

impl Stage {
    /// Makes room for a directory that is to change places with the directory `final_path`, for [`exchange`](Stage::exchange).
    ///
    /// # Errors
    /// [`ExchangeError`]; nothing is left behind.
    pub fn for_exchange(final_path: &Path) -> Result<Self, ExchangeError> {
        ensure_settled(final_path)?;
        ensure_writable(&parent_of(final_path))?;
        let stage = Self::make(final_path, Kind::Dir, false)?;
        // On disk before anything else is: a stage without it is taken for the old directory, unless it is empty.
        let mark = stage.root.join(MARK);
        new_file(&mark, FILE_MODE).and_then(|file| file.sync_all()).map_err(failed("create", &mark))?;
        sync(&stage.root)?;
        stage.probe()?;
        Ok(stage)
    }

    /// Finds out, before all the work, whether directories can be exchanged here at all.
    fn probe(&self) -> Result<(), ExchangeError> {
        let (one, other) = (self.create_dir_all("one")?, self.create_dir_all("other")?);
        let exchanged = exchange_names(&one, &other);
        for path in [one, other] {
            fs::remove_dir(&path).map_err(failed("remove", &path))?;
        }
        exchanged.map_err(|error| self.refusal(error))
    }

    fn refusal(&self, error: Errno) -> ExchangeError {
        let path = self.final_path.clone();
        match error {
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => ExchangeError::Unable { path },
            Errno::BUSY | Errno::XDEV => ExchangeError::MountPoint { path },
            error => StageError::Io { doing: "exchange", path, error: error.into() }.into(),
        }
    }

    /// Syncs what was written, and exchanges it with `old`, which must still be what the final name leads to. Returns what the
    /// old one is called now.
    ///
    /// # Errors
    /// [`ExchangeError`]. All but [`ExchangeError::NotSynced`] and [`ExchangeError::Unfinished`] leave everything as it was.
    pub fn exchange(mut self, old: &File, owner: Option<Owner>) -> Result<PathBuf, ExchangeError> {
        let place = self.final_path.clone();
        let kept = kept_path(&place).ok_or_else(|| StageError::Exists(with_suffix(&place, "")))?;
        self.seal(owner)?;
        if !leads_to(&place, old).map_err(failed("look at", &place))? {
            return Err(StageError::Overtaken(place).into());
        }
        exchange_names(&self.root, &place).map_err(|error| self.refusal(error))?;
        // From here on the stage's name is that of the old one, which is never removed.
        self.finish();
        let staged = self.root.clone();
        let parent = parent_of(&place);
        let not_synced =
            |source| ExchangeError::NotSynced { path: place.clone(), old: staged.clone(), source };
        sync(&parent).map_err(not_synced)?;
        rename_new(&staged, &kept).map_err(not_synced)?;
        let not_synced = |source| ExchangeError::NotSynced { path: place.clone(), old: kept.clone(), source };
        sync(&parent).map_err(not_synced)?;
        unmark(&place).map_err(not_synced)?;
        Ok(kept)
    }
}

fn exchange_names(one: &Path, other: &Path) -> Result<(), Errno> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
}

fn unmark(place: &Path) -> Result<(), StageError> {
    let mark = place.join(MARK);
    fs::remove_file(&mark).map_err(failed("remove", &mark))?;
    sync(place)
}

/// Where the old directory is, when an exchange with `place` was cut off before that got its name.
fn unsettled(place: &Path) -> Result<Option<PathBuf>, StageError> {
    if fs::symlink_metadata(place.join(MARK)).is_err() {
        return Ok(None);
    }
    old_beside(place)
}

/// A directory beside `place` that has a stage's name and is none, since it has no mark and is not empty: a run that is killed
/// between making its stage and marking it leaves an empty one.
fn old_beside(place: &Path) -> Result<Option<PathBuf>, StageError> {
    let parent = parent_of(place);
    let mut start = place.file_name().unwrap_or_default().to_owned();
    start.push(".");
    for entry in fs::read_dir(&parent).map_err(failed("list", &parent))? {
        let name = entry.map_err(failed("list", &parent))?.file_name();
        let path = parent.join(&name);
        let is_beside = name.as_encoded_bytes().starts_with(start.as_encoded_bytes()) && is_partial(&name);
        if is_beside && path.is_dir() && fs::symlink_metadata(path.join(MARK)).is_err() {
            let mut within = fs::read_dir(&path).map_err(failed("list", &path))?;
            if within.next().is_some() {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Makes sure that no earlier run was cut off between its exchange with `place` and the naming of the old directory.
///
/// # Errors
/// [`ExchangeError::Unfinished`].
pub fn ensure_settled(place: &Path) -> Result<(), ExchangeError> {
    match unsettled(place)? {
        Some(old) => Err(ExchangeError::Unfinished { path: place.to_owned(), old }),
        None => Ok(()),
    }
}

/// Makes sure that nothing beside `place` that has a stage's name may be the old directory: whoever took the mark away by hand took
/// away what tells.
///
/// # Errors
/// [`ExchangeError::Doubtful`].
pub fn ensure_no_old(place: &Path) -> Result<(), ExchangeError> {
    match old_beside(place)? {
        Some(old) => Err(ExchangeError::Doubtful { old }),
        None => Ok(()),
    }
}

/// Ends what a run that was killed behind its exchange with `place` had left to do: the old directory gets its name, and the mark
/// goes. Returns the old one's name, where it had none. To be called before anything unfinished is removed there.
///
/// # Errors
/// [`StageError`]; a later call goes on.
pub fn settle(place: &Path) -> Result<Option<PathBuf>, StageError> {
    let old = unsettled(place)?;
    let kept = match &old {
        Some(old) => {
            let kept = kept_path(place).ok_or_else(|| StageError::Exists(with_suffix(place, "")))?;
            let parent = parent_of(place);
            // The exchange itself may not be on disk yet.
            sync(&parent)?;
            rename_new(old, &kept)?;
            sync(&parent)?;
            Some(kept)
        }
        None => None,
    };
    if fs::symlink_metadata(place.join(MARK)).is_ok() {
        unmark(place)?;
    }
    Ok(kept)
}

fn with_suffix(place: &Path, number: &str) -> PathBuf {
    let mut name: OsString = place.file_name().unwrap_or_default().to_owned();
    name.push(KEPT_SUFFIX);
    name.push(number);
    place.with_file_name(name)
}

/// The first name for the old directory that is free.
fn kept_path(place: &Path) -> Option<PathBuf> {
    let numbered = (1..KEPT_NAMES).map(|number| with_suffix(place, &format!("-{number}")));
    std::iter::once(with_suffix(place, ""))
        .chain(numbered)
        .find(|path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn old(dir: &Path) -> PathBuf {
        let member = dir.join("member");
        fs::create_dir(&member).unwrap();
        fs::write(member.join("what"), "old").unwrap();
        member
    }

    fn staged(member: &Path) -> Stage {
        let stage = Stage::for_exchange(member).unwrap();
        fs::write(stage.path().join("what"), "new").unwrap();
        stage
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn what(path: &Path) -> String {
        fs::read_to_string(path.join("what")).unwrap()
    }

    #[test]
    fn the_old_one_is_kept_under_a_name_that_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let member = old(dir.path());
        fs::write(dir.path().join("member.original"), "in the way").unwrap();
        let handle = File::open(&member).unwrap();
        let kept = staged(&member).exchange(&handle, None).unwrap();
        assert_eq!(kept, dir.path().join("member.original-1"));
        assert_eq!((what(&member), what(&kept)), ("new".to_owned(), "old".to_owned()));
        assert_eq!(names(dir.path()), ["member", "member.original", "member.original-1"]);
        assert_eq!(names(&member), ["what"]);
    }

    #[test]
    fn a_stage_that_is_dropped_leaves_the_old_one_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let member = old(dir.path());
        drop(staged(&member));
        assert_eq!((names(dir.path()), what(&member)), (vec!["member".to_owned()], "old".to_owned()));
        assert_eq!(settle(&member).unwrap(), None);
        // A directory that took the other's name meanwhile stays where it is.
        let stage = staged(&member);
        let handle = File::open(&member).unwrap();
        fs::rename(&member, dir.path().join("elsewhere")).unwrap();
        fs::create_dir(&member).unwrap();
        let error = stage.exchange(&handle, None).unwrap_err();
        assert!(matches!(error, ExchangeError::Stage(StageError::Overtaken(_))), "{error}");
        assert_eq!(names(dir.path()), ["elsewhere", "member"]);
    }

    /// What is left when the machine stops behind the exchange, and behind the naming of the old one.
    #[test]
    fn what_was_cut_off_behind_the_exchange_is_ended_and_nothing_old_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let member = old(dir.path());
        let mut stage = staged(&member);
        exchange_names(&stage.root, &member).unwrap();
        stage.finish();
        let error = Stage::for_exchange(&member).unwrap_err();
        assert!(matches!(error, ExchangeError::Unfinished { .. }), "{error}");
        let kept = settle(&member).unwrap().unwrap();
        assert_eq!((what(&member), what(&kept)), ("new".to_owned(), "old".to_owned()));
        assert_eq!(names(dir.path()), ["member", "member.original"]);
        fs::write(member.join(MARK), "").unwrap();
        assert_eq!(settle(&member).unwrap(), None);
        assert_eq!(names(&member), ["what"]);
    }

    /// A run that was killed before it could mark its stage, then one that was killed behind its exchange.
    #[test]
    fn an_empty_stage_without_a_mark_is_not_taken_for_the_old_one() {
        for empty in ["member.0.etcd-rescue-partial", "member.z.etcd-rescue-partial"] {
            let dir = tempfile::tempdir().unwrap();
            let member = old(dir.path());
            fs::create_dir(dir.path().join(empty)).unwrap();
            assert_eq!(settle(&member).unwrap(), None);
            let mut stage = staged(&member);
            exchange_names(&stage.root, &member).unwrap();
            stage.finish();
            let kept = settle(&member).unwrap().unwrap();
            assert_eq!((what(&member), what(&kept)), ("new".to_owned(), "old".to_owned()));
            ensure_no_old(&member).unwrap();
            assert_eq!(names(dir.path()).len(), 3);
        }
    }

    #[test]
    fn what_may_be_the_old_one_is_not_removed_when_its_mark_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let member = old(dir.path());
        let mut stage = staged(&member);
        ensure_no_old(&member).unwrap();
        exchange_names(&stage.root, &member).unwrap();
        stage.finish();
        fs::remove_file(member.join(MARK)).unwrap();
        let error = ensure_no_old(&member).unwrap_err();
        assert!(matches!(error, ExchangeError::Doubtful { .. }), "{error}");
    }

    #[test]
    fn a_stage_that_was_cut_off_before_the_exchange_is_not_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let member = old(dir.path());
        let mut stage = staged(&member);
        stage.finish();
        assert_eq!(settle(&member).unwrap(), None);
        assert_eq!(names(dir.path()), ["member", "member.etcd-rescue-partial"]);
        assert_eq!(what(&member), "old");
    }
}
