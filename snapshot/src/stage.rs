//! Staged output: written under a name that says so, synced, and only then given its own name.
//!
//! # Where
//! An output that does not exist yet is staged beside its place as `<name>.etcd-rescue-partial`; one that is an empty
//! directory or mount point is staged inside it as `unfinished.etcd-rescue-partial`, and its entries move up one by one.
//! Anything else that exists is refused. A [`Stage`] that is dropped without [`commit`](Stage::commit) removes what it
//! made; after a SIGKILL the name tells what it is, [`leftovers`] finds it and [`clean`] removes it.
//!
//! # Two renames, one restore
//! With a log directory of its own (`--wal-dir`, perhaps on another file system) no single rename can publish both; nor
//! can one when the log lies in the data dir beside `member` and the data dir exists, so that `member` and the log move
//! up one after the other. Each half alone is dangerous to start: etcd given a log without a db replays it onto an
//! *empty store*; given a db without a log it founds a *new cluster* on the old data, whose consistent index then
//! swallows that cluster's first entries. So neither order of two renames is safe, and [`commit_pair`] and
//! [`commit_with_log`](Stage::commit_with_log) use three:
//!
//! 1. In the staged data dir the db is set aside as `member/snap/db.etcd-rescue-partial`, and `member/snap/db` becomes a
//!    symbolic link into a directory that does not exist. etcd opens the backend before it looks at the log and cannot
//!    open (or create) this one, so it stops there, having changed nothing.
//! 2. The data dir (in an existing one: `member`) gets its name, and its parent is synced.
//! 3. The log dir (or the directory in the data dir that holds it) gets its name, and its parent is synced.
//! 4. The db is renamed over the link: one atomic POSIX rename, on one file system. The directory is synced.
//!
//! | cut after | data dir, or `member` in it | log dir, or what holds it in the data dir | etcd |
//! |---|---|---|---|
//! | 1 | in `….etcd-rescue-partial` | in `….etcd-rescue-partial` | finds neither: as before the restore |
//! | 2 | its name, link in place of the db | in `….etcd-rescue-partial` | stops: cannot open the backend |
//! | 3 | its name, link in place of the db | its name | stops: cannot open the backend |
//! | 4 | complete | complete | starts |
//!
//! Other entries of an existing directory are whole members of a cluster, each with its log: they move up one by one.
//!
//! Tried with etcd 3.4.23 and 3.5.1: after cut 2 and 3 both panic (`failed to open database`, `no such file or
//! directory`) and change no file, while a log without its db and a db without its log both start. 3.6 and 3.7 open
//! the backend first too, by their sources; no such server was at hand.
//!
//! A failure after the first name was given takes the names back the other way round, each step on disk before the next:
//!
//! | step | data dir, or `member` in it | log dir, or what holds it in the data dir | etcd |
//! |---|---|---|---|
//! | if the db was in place: a link like the first is renamed over it | its name, link in place of the db | its name | stops: cannot open the backend |
//! | the log's name goes | its name, link in place of the db | in `….etcd-rescue-partial` | stops: cannot open the backend |
//! | the data dir's name goes | in `….etcd-rescue-partial` | in `….etcd-rescue-partial` | as before the restore |
//!
//! Where a step fails the rest is not tried and nothing removed: what then stands is one of these rows, for [`clean`], or
//! complete.
//!
//! The link names the log segment's device and inode, so that [`clean`] removes that log and no other, and never the
//! link while that log may still be somewhere: its page tells how.

mod clean;
mod exchange;

pub(crate) use clean::Remains;
use clean::is_partial;
pub use clean::{abandoned, clean, leftovers};
pub use exchange::{ExchangeError, ensure_no_old, ensure_settled, settle};

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Access, CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

/// How the name of everything unfinished ends.
pub const PARTIAL_SUFFIX: &str = ".etcd-rescue-partial";
/// Mode of directories, as etcd makes them (FORMATS W).
pub const DIR_MODE: u32 = 0o700;
/// Mode of the db, of log segments, and of snapshots.
pub const FILE_MODE: u32 = 0o600;
/// Mode of `.snap` files; the umask applies.
pub const SNAP_MODE: u32 = 0o644;

/// How often a stage is made anew, and how often its lock is tried, before it gets another name.
const TRIES: u32 = 1000;
/// Between two tries for a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

const INSIDE: &str = "unfinished";
const LINK_DIR: &str = "unfinished.etcd-rescue-partial";
const MEMBER: &str = "member";
const WAL_DIR: &str = "member/wal";
const DB: &str = "member/snap/db";
const DB_ASIDE: &str = "member/snap/db.etcd-rescue-partial";

/// What is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One file.
    File,
    /// A directory with all that is in it.
    Dir,
}

/// Who shall own an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group, if it is to change too.
    pub gid: Option<u32>,
}

/// Why an output could not be staged or given its name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The system refused.
    #[error("cannot {doing} {}: {error}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The output's place, or the nearest directory above it, may not be written.
    #[error("cannot create {}: cannot write to {}: {error}", path.display(), place.display())]
    NotWritable {
        /// The output.
        path: PathBuf,
        /// The directory.
        place: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is a file of that name.
    #[error("{} exists already; it is not overwritten", .0.display())]
    Exists(PathBuf),
    /// There is something in the directory.
    #[error("{} is not empty (it holds {found:?}); it is not overwritten", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One of the names in it.
        found: OsString,
    },
    /// A file was to be written, and there is a directory.
    #[error("{} is a directory; a file name was expected", .0.display())]
    Directory(PathBuf),
    /// A directory was to be written, and there is a file.
    #[error("{} is a file; a directory name was expected", .0.display())]
    NotADirectory(PathBuf),
    /// An earlier run was killed between two renames.
    #[error(
        "{} holds an unfinished restore that was cut off; etcd cannot start from it; --clean, together with the same \
         --wal-dir as then, removes it", .0.display()
    )]
    Unfinished(PathBuf),
    /// An earlier run was killed between two renames, and its log is not where [`clean`] may look.
    #[error(
        "{} holds an unfinished restore whose log, in a --wal-dir of its own, is not {}: etcd would start from that log \
         alone, so --clean removes neither. Give the same --wal-dir as then; if that log is gone, remove {} by hand",
        data.display(),
        wal.as_ref().map_or_else(|| "known".to_owned(), |wal| format!("in {}", wal.display())),
        data.join(MEMBER).display()
    )]
    LogNotFound {
        /// The data directory.
        data: PathBuf,
        /// The log directory that was given.
        wal: Option<PathBuf>,
    },
    /// The log directory would lie among the files of the member.
    #[error(
        "--wal-dir {}: of the places in the data dir's member directory only member/wal can hold the log; give --wal-dir \
         a directory of its own", .0.display()
    )]
    WalInMember(PathBuf),
    /// Only root gives files away.
    #[error(
        "--owner: cannot change the owner to user {uid} as user {euid}: Operation not permitted; run as root, or leave \
         --owner out"
    )]
    Owner {
        /// Who this process is.
        euid: u32,
        /// Who was to own the output.
        uid: u32,
    },
    /// No name to write to: `/`, `..` or an empty path.
    #[error("{:?} does not name an output", .0)]
    NoName(PathBuf),
    /// Something of that name appeared while the output was written.
    #[error("{} appeared while the output was being written; nothing was overwritten", .0.display())]
    Overtaken(PathBuf),
    /// Another process is writing there.
    #[error("{} is in use by a running process", .0.display())]
    InUse(PathBuf),
    /// The log directory lies in the data directory or the reverse, where a pair was asked for.
    #[error(
        "--data-dir {} and --wal-dir {}: the log can lie below the data dir or elsewhere, but its directory can neither be \
         nor hold the data dir; give --wal-dir a directory of its own", data.display(), wal.display()
    )]
    Nested {
        /// The data directory.
        data: PathBuf,
        /// The log directory.
        wal: PathBuf,
    },
    /// The caller has not written what makes up a restored member.
    #[error("{} was not written", .0.display())]
    Incomplete(PathBuf),
}

/// Turns an `io::Error` into one that says what was being done to which path.
fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |error| StageError::Io { doing, path, error }
}

/// An output in the making. Dropped without [`commit`](Stage::commit) it removes all it made.
#[derive(Debug)]
pub struct Stage {
    final_path: PathBuf,
    root: PathBuf,
    kind: Kind,
    /// Staged within the existing `final_path` instead of beside it.
    inside: bool,
    /// Directories made on the way to `final_path`, outermost first.
    made_parents: Vec<PathBuf>,
    /// The staged file, or the directory, held open for the lock on it that [`clean`] respects.
    handle: Option<File>,
    leftovers: Vec<PathBuf>,
    /// Names moved up out of the stage so far, when `inside`.
    moved: Vec<OsString>,
    /// Who owned the existing directory, once it was handed to another.
    owner_before: Option<Owner>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Staged,
    Published,
    Done,
}

impl Stage {
    /// Makes room for an output that will be called `final_path`. Missing parent directories are made, 0700.
    ///
    /// # Errors
    /// [`StageError`]: something is there already, or the system refuses. Nothing is left behind.
    pub fn new(final_path: &Path, kind: Kind) -> Result<Stage, StageError> {
        let inside = examine(final_path, kind)?;
        Self::make(final_path, kind, inside)
    }

    /// Makes room for a file that is to take the place of the file `final_path`, for [`replace`](Stage::replace).
    ///
    /// # Errors
    /// [`StageError`]; nothing is left behind.
    pub fn for_replacement(final_path: &Path) -> Result<Stage, StageError> {
        ensure_writable(&parent_of(final_path)).map_err(|error| match error {
            StageError::NotWritable { place, error, .. } => {
                StageError::NotWritable { path: final_path.to_owned(), place, error }
            }
            other => other,
        })?;
        Self::make(final_path, Kind::File, false)
    }

    fn make(final_path: &Path, kind: Kind, inside: bool) -> Result<Stage, StageError> {
        let left = leftovers(final_path)?;
        let (parent, name) = if inside {
            (final_path.to_owned(), OsStr::new(INSIDE))
        } else {
            let name = final_path.file_name().ok_or_else(|| StageError::NoName(final_path.to_owned()))?;
            (parent_of(final_path), name)
        };
        let mut stage = Stage {
            final_path: final_path.to_owned(),
            root: PathBuf::new(),
            kind,
            inside,
            made_parents: Vec::new(),
            handle: None,
            leftovers: left,
            moved: Vec::new(),
            owner_before: None,
            state: State::Staged,
        };
        make_missing(&parent, &mut stage.made_parents)?;
        for staged in partial_names(name) {
            let root = parent.join(staged);
            // A --clean of somebody else's may take it away between being made and being locked.
            for _ in 0..TRIES {
                match make_locked(&root, kind).map_err(failed("create", &root))? {
                    Made::Locked(handle) => {
                        stage.root = root;
                        stage.handle = Some(handle);
                        return Ok(stage);
                    }
                    Made::Taken => break,
                    Made::Lost => {}
                }
            }
        }
        Err(StageError::Exists(parent.join(name)))
    }

    /// Where to write: the directory that will become the output, or the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What the output will be called.
    #[must_use]
    pub fn final_path(&self) -> &Path {
        &self.final_path
    }

    /// The file to write to, open for reading and writing; `None` for a directory.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        self.handle.as_ref().filter(|_| self.kind == Kind::File)
    }

    /// What earlier runs left for the same output.
    #[must_use]
    pub fn leftovers(&self) -> &[PathBuf] {
        &self.leftovers
    }

    /// Makes `relative` and the directories above it, 0700.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn create_dir_all(&self, relative: impl AsRef<Path>) -> Result<PathBuf, StageError> {
        let path = self.root.join(relative);
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(&path)
            .map_err(failed("create directory", &path))?;
        Ok(path)
    }

    /// Makes the file `relative`, which must not exist, open for reading and writing. The umask applies to `mode`.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn create_file(&self, relative: impl AsRef<Path>, mode: u32) -> Result<File, StageError> {
        let path = self.root.join(relative);
        new_file(&path, mode).map_err(failed("create", &path))
    }

    /// Syncs all that was written, hands it to `owner`, and gives it its name; then syncs the directory above.
    ///
    /// # Errors
    /// [`StageError`]; nothing is left behind, and what appeared meanwhile under the final name is untouched.
    pub fn commit(mut self, owner: Option<Owner>) -> Result<(), StageError> {
        self.seal(owner)?;
        self.publish()?;
        self.finish();
        Ok(())
    }

    /// Syncs what was written and puts it in the place of `old`, which must still be what the final name leads to, by
    /// one rename: the name leads to the one or to the other, whole, at every moment. Then syncs the directory above.
    ///
    /// # Errors
    /// [`StageError::Overtaken`] when the name leads elsewhere; [`StageError::Io`]. The old file is in place then, unless
    /// it is the directory that cannot be synced: which of the two a loss of power would leave is not known in that case.
    pub fn replace(mut self, old: &File) -> Result<(), StageError> {
        self.seal(None)?;
        if !leads_to(&self.final_path, old).map_err(failed("look at", &self.final_path))? {
            return Err(StageError::Overtaken(self.final_path.clone()));
        }
        fs::rename(&self.root, &self.final_path).map_err(failed("rename", &self.root))?;
        self.finish();
        sync(&self.place())
    }

    /// The same for a data directory whose log lies in it, in the directory `log` (relative): etcd starts from both or
    /// from nothing; the module's page tells how.
    ///
    /// # Errors
    /// [`StageError`]; nothing is left behind, unless taking it back fails too: then what etcd cannot start from.
    pub fn commit_with_log(self, log: &Path, owner: Option<Owner>) -> Result<(), StageError> {
        self.commit_with_log_stepwise(log, owner, &mut |_| Ok(()))
    }

    fn commit_with_log_stepwise(
        mut self,
        log: &Path,
        owner: Option<Owner>,
        before: &mut dyn FnMut(Step) -> io::Result<()>,
    ) -> Result<(), StageError> {
        // Where one rename publishes both there is nothing to cut.
        if !self.inside || log.starts_with(MEMBER) {
            return self.commit(owner);
        }
        let bar = set_db_aside(&self.root, &self.root.join(log))?;
        self.seal(owner)?;
        let place = self.final_path.clone();
        let mut step = |step| before(step).map_err(failed("publish", &place));
        step(Step::Data)?;
        self.move_up(vec![MEMBER.into()])?;
        let published = (|| {
            sync(&place)?;
            step(Step::Wal)?;
            self.move_up(self.staged_names()?)?;
            sync(&place)?;
            step(Step::Db)?;
            put_db_in_place(&place)?;
            step(Step::InPlace)
        })();
        if let Err(e) = published {
            let is_back = bar_again(&place, &bar).and_then(|()| {
                step(Step::BackWal)?;
                self.take_back(1)?;
                step(Step::BackData)?;
                self.take_back(0)
            });
            if is_back.is_err() {
                self.state = State::Done;
            }
            return Err(e);
        }
        step(Step::Finish).ok();
        self.finish();
        Ok(())
    }

    /// Owner and sync for every file and directory, insides first.
    fn seal(&mut self, owner: Option<Owner>) -> Result<(), StageError> {
        for parent in &self.made_parents {
            set_owner(parent, owner)?;
        }
        self.hand_over_place(owner)?;
        let mut dirs = Vec::new();
        let mut open = vec![self.root.clone()];
        while let Some(path) = open.pop() {
            let kind = fs::symlink_metadata(&path).map_err(failed("look at", &path))?.file_type();
            set_owner(&path, owner)?;
            if kind.is_dir() {
                for entry in fs::read_dir(&path).map_err(failed("list", &path))? {
                    open.push(entry.map_err(failed("list", &path))?.path());
                }
                dirs.push(path);
            } else if kind.is_file() {
                sync(&path)?;
            }
        }
        for dir in dirs.iter().rev() {
            sync(dir)?;
        }
        // The stage's own name is to last before anything gets its final one: of a pair, the data dir could otherwise be
        // found with the link in place of its db and without the log that the link names, where --clean must refuse.
        sync(&parent_of(&self.root))?;
        self.made_parents.iter().try_for_each(|parent| sync(&parent_of(parent)))
    }

    /// Hands an output directory that was there before to `owner`. What it is called by may be a link to it.
    fn hand_over_place(&mut self, owner: Option<Owner>) -> Result<(), StageError> {
        let Some(owner) = owner.filter(|_| self.inside) else { return Ok(()) };
        let meta = fs::metadata(&self.final_path).map_err(failed("look at", &self.final_path))?;
        if meta.uid() == owner.uid && owner.gid.is_none_or(|gid| gid == meta.gid()) {
            return Ok(());
        }
        std::os::unix::fs::chown(&self.final_path, Some(owner.uid), owner.gid)
            .map_err(failed("change the owner of", &self.final_path))?;
        self.owner_before = Some(Owner { uid: meta.uid(), gid: Some(meta.gid()) });
        Ok(())
    }

    /// Gives the output its name. On an error everything is back in the stage.
    fn publish(&mut self) -> Result<(), StageError> {
        let renamed = if self.inside {
            self.staged_names().and_then(|names| self.move_up(names))
        } else {
            rename_new(&self.root, &self.final_path)
        };
        let synced = renamed.and_then(|()| {
            self.state = State::Published;
            sync(&self.place())
        });
        if synced.is_err() {
            drop(self.take_back(0));
        }
        synced
    }

    /// The directory in which names change when the output gets its own.
    fn place(&self) -> PathBuf {
        if self.inside { self.final_path.clone() } else { parent_of(&self.final_path) }
    }

    fn staged_names(&self) -> Result<Vec<OsString>, StageError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed("list", &self.root))? {
            names.push(entry.map_err(failed("list", &self.root))?.file_name());
        }
        names.sort();
        Ok(names)
    }

    fn move_up(&mut self, names: Vec<OsString>) -> Result<(), StageError> {
        for name in names {
            rename_new(&self.root.join(&name), &self.final_path.join(&name))?;
            self.moved.push(name);
        }
        Ok(())
    }

    /// Takes the name away again; of entries that moved up one by one, the first `keep` stay. Synced if any went.
    fn take_back(&mut self, keep: usize) -> Result<(), StageError> {
        let mut is_changed = false;
        if self.inside {
            while self.moved.len() > keep {
                let Some(name) = self.moved.last() else { break };
                rename_new(&self.final_path.join(name), &self.root.join(name))?;
                self.moved.pop();
                is_changed = true;
            }
        } else if self.state == State::Published {
            rename_new(&self.final_path, &self.root)?;
            is_changed = true;
        }
        if keep == 0 {
            self.state = State::Staged;
        }
        if is_changed { sync(&self.place()) } else { Ok(()) }
    }

    fn finish(&mut self) {
        self.state = State::Done;
        if self.inside {
            // Empty by now; if it will not go it is named for what it is.
            drop(fs::remove_dir(&self.root));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.state == State::Done {
            return;
        }
        drop(self.take_back(0));
        if let Some(Owner { uid, gid }) = self.owner_before {
            drop(std::os::unix::fs::chown(&self.final_path, Some(uid), gid));
        }
        if !self.root.as_os_str().is_empty() {
            drop(match self.kind {
                Kind::Dir => fs::remove_dir_all(&self.root),
                Kind::File => fs::remove_file(&self.root),
            });
        }
        for parent in self.made_parents.iter().rev() {
            drop(fs::remove_dir(parent));
        }
    }
}

/// Gives a data directory (with its `member/snap/db`) and its separate log directory their names so that etcd starts
/// from both or from nothing; the module's page tells how.
///
/// # Errors
/// [`StageError`]; nothing is left behind, unless taking it back fails too: then what etcd cannot start from.
pub fn commit_pair(data: Stage, wal: Stage, owner: Option<Owner>) -> Result<(), StageError> {
    commit_pair_stepwise(data, wal, owner, &mut |_| Ok(()))
}

/// The moments before which [`commit_pair`] and [`Stage::commit_with_log`] can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Data,
    Wal,
    Db,
    /// The db is in place, and all could still fail.
    InPlace,
    Finish,
    /// On the way back: the log loses its name.
    BackWal,
    /// On the way back: the data dir, or `member`, does.
    BackData,
}

fn commit_pair_stepwise(
    mut data: Stage,
    mut wal: Stage,
    owner: Option<Owner>,
    before: &mut dyn FnMut(Step) -> io::Result<()>,
) -> Result<(), StageError> {
    if relation(&data.final_path, &wal.final_path)? != Relation::Apart {
        let (data, wal) = (data.final_path.clone(), wal.final_path.clone());
        return Err(StageError::Nested { data, wal });
    }
    let bar = set_db_aside(&data.root, &wal.root)?;
    data.seal(owner)?;
    wal.seal(owner)?;
    let mut step = |step, path: &Path| before(step).map_err(failed("publish", path));
    step(Step::Data, &data.final_path)?;
    data.publish()?;
    let published = (|| {
        step(Step::Wal, &wal.final_path)?;
        wal.publish()?;
        step(Step::Db, &data.final_path)?;
        put_db_in_place(&data.final_path)?;
        step(Step::InPlace, &data.final_path)
    })();
    if let Err(e) = published {
        let is_back = bar_again(&data.final_path, &bar).and_then(|()| {
            step(Step::BackWal, &wal.final_path)?;
            wal.take_back(0)?;
            // It may have lost its name before, where the disk could not be told.
            sync(&wal.place())?;
            step(Step::BackData, &data.final_path)?;
            data.take_back(0)
        });
        if is_back.is_err() {
            wal.state = State::Done;
            data.state = State::Done;
        }
        return Err(e);
    }
    step(Step::Finish, &data.final_path).ok();
    wal.finish();
    data.finish();
    Ok(())
}

/// The link in place of the db.
struct Bar {
    target: PathBuf,
    /// Device and inode of the db.
    db: (u64, u64),
}

fn set_db_aside(data: &Path, wal: &Path) -> Result<Bar, StageError> {
    let (db, aside) = (data.join(DB), data.join(DB_ASIDE));
    let meta = match fs::symlink_metadata(&db) {
        Ok(meta) if meta.is_file() => meta,
        _ => return Err(StageError::Incomplete(db)),
    };
    let mut segment = None;
    for entry in fs::read_dir(wal).map_err(failed("list", wal))? {
        let path = entry.map_err(failed("list", wal))?.path();
        if path.extension().is_some_and(|e| e == "wal") {
            segment = Some(fs::metadata(&path).map_err(failed("look at", &path))?);
        }
    }
    let segment = segment.ok_or_else(|| StageError::Incomplete(wal.join("*.wal")))?;
    rename_new(&db, &aside)?;
    let bar = Bar { target: link_target(&segment), db: (meta.dev(), meta.ino()) };
    symlink(&bar.target, &db).map_err(failed("link", &db))?;
    Ok(bar)
}

/// Ends what [`set_db_aside`] began.
fn put_db_in_place(data: &Path) -> Result<(), StageError> {
    let (from, to) = (data.join(DB_ASIDE), data.join(DB));
    fs::rename(&from, &to).map_err(failed("rename", &from))?;
    sync(&parent_of(&to))
}

/// Undoes [`put_db_in_place`], if that got so far, at the cost of the db: with its log it is about to be removed.
fn bar_again(data: &Path, bar: &Bar) -> Result<(), StageError> {
    if unfinished_link(data).is_some() {
        return Ok(());
    }
    let (from, to) = (data.join(DB_ASIDE), data.join(DB));
    let meta = fs::symlink_metadata(&to).map_err(failed("look at", &to))?;
    if (meta.dev(), meta.ino()) != bar.db {
        return Err(StageError::Overtaken(to));
    }
    symlink(&bar.target, &from).map_err(failed("link", &from))?;
    fs::rename(&from, &to).map_err(failed("rename", &from))?;
    sync(&parent_of(&to))
}

fn link_target(segment: &fs::Metadata) -> PathBuf {
    Path::new(LINK_DIR).join(format!("wal-{}-{}", segment.dev(), segment.ino()))
}

/// What the link in place of the db of an unfinished restore points to; `None` if there is no such link.
fn unfinished_link(data_dir: &Path) -> Option<PathBuf> {
    fs::read_link(data_dir.join(DB)).ok().filter(|target| target.starts_with(LINK_DIR))
}

/// How two output paths lie to each other; neither needs to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// Neither in the other.
    Apart,
    /// The log lies in the data directory, at this path below it: it is part of one stage.
    WalInData(PathBuf),
    /// The same path, or the data lies in the log directory.
    Impossible,
}

/// How `data` and `wal` lie to each other.
///
/// # Errors
/// [`StageError::Io`] when the current directory cannot be told.
pub fn relation(data: &Path, wal: &Path) -> Result<Relation, StageError> {
    // Links are followed as far as the path exists; `..` then leads where the system says.
    let plain = |path: &Path| -> Result<PathBuf, StageError> {
        let absolute = std::path::absolute(path).map_err(failed("resolve", path))?;
        let mut out = PathBuf::new();
        for part in absolute.components() {
            match part {
                std::path::Component::ParentDir => {
                    out.pop();
                }
                part => out.push(part),
            }
            if let Ok(real) = fs::canonicalize(&out) {
                out = real;
            }
        }
        Ok(out)
    };
    let (data, wal) = (plain(data)?, plain(wal)?);
    Ok(match wal.strip_prefix(&data) {
        Ok(below) if !below.as_os_str().is_empty() => Relation::WalInData(below.to_owned()),
        Ok(_) => Relation::Impossible,
        Err(_) if data.starts_with(&wal) => Relation::Impossible,
        Err(_) => Relation::Apart,
    })
}

/// Where the log of the data dir `data` goes, whose log is to be in `wal_dir`: a place below the data dir, or `None` for a stage of
/// its own.
///
/// # Errors
/// [`StageError::Nested`], [`StageError::WalInMember`]: no two renames publish both so that etcd starts from both or from nothing.
pub(crate) fn log_below(data: &Path, wal_dir: Option<&Path>) -> Result<Option<PathBuf>, StageError> {
    let Some(wal_dir) = wal_dir else { return Ok(Some(PathBuf::from(WAL_DIR))) };
    match relation(data, wal_dir)? {
        Relation::Apart => Ok(None),
        Relation::WalInData(below) if below.starts_with(MEMBER) && below != Path::new(WAL_DIR) => {
            Err(StageError::WalInMember(wal_dir.to_owned()))
        }
        Relation::WalInData(below) => Ok(Some(below)),
        Relation::Impossible => Err(StageError::Nested { data: data.to_owned(), wal: wal_dir.to_owned() }),
    }
}

/// What came of making a staged file or directory.
enum Made {
    /// It is there and locked, if the file system knows locks.
    Locked(File),
    /// The name was in use.
    Taken,
    /// It was made, and somebody cleaned it away before it was locked.
    Lost,
}

/// Makes the file or directory `root` and locks it.
fn make_locked(root: &Path, kind: Kind) -> io::Result<Made> {
    let made = match kind {
        Kind::Dir => DirBuilder::new().mode(DIR_MODE).create(root).map(|()| None),
        Kind::File => new_file(root, FILE_MODE).map(Some),
    };
    let opened = match made {
        Ok(Some(file)) => Ok(file),
        Ok(None) => File::open(root),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Made::Taken),
        Err(e) => return Err(e),
    };
    let handle = match opened {
        Ok(handle) => handle,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Made::Lost),
        Err(e) => return Err(e),
    };
    for _ in 0..TRIES {
        match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            // One who looks, or cleans, holds it for a moment.
            Err(Errno::WOULDBLOCK) => sleep(LOCK_PAUSE),
            // A file system without locks only loses the protection from an early --clean.
            Ok(()) | Err(_) => {
                let is_named = leads_to(root, &handle)?;
                return Ok(if is_named { Made::Locked(handle) } else { Made::Lost });
            }
        }
    }
    // Whoever holds it for so long may be writing there: a directory cleaned away and made again by another run.
    Ok(Made::Taken)
}

/// True when the name `path` is that of the open file or directory `handle`.
fn leads_to(path: &Path, handle: &File) -> io::Result<bool> {
    let held = handle.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// True if the output is to be staged inside `path`, an empty directory; false if `path` is free. Either way this user
/// may write there.
pub(crate) fn examine(path: &Path, kind: Kind) -> Result<bool, StageError> {
    examine_without(path, kind, &Remains::default())
}

/// The same, as it will be when `remains` are removed.
pub(crate) fn examine_without(path: &Path, kind: Kind, remains: &Remains) -> Result<bool, StageError> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // A link to nowhere is something too, and a rename would not replace it.
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(StageError::Exists(path.to_owned())),
                Err(_) => ensure_writable(path).map(|()| false),
            };
        }
        Err(e) => return Err(failed("look at", path)(e)),
    };
    match kind {
        Kind::File if meta.is_dir() => return Err(StageError::Directory(path.to_owned())),
        Kind::File => return Err(StageError::Exists(path.to_owned())),
        Kind::Dir if !meta.is_dir() => return Err(StageError::NotADirectory(path.to_owned())),
        Kind::Dir => {}
    }
    if unfinished_link(path).is_some() && !remains.includes(&path.join(MEMBER)) {
        return Err(StageError::Unfinished(path.to_owned()));
    }
    for entry in fs::read_dir(path).map_err(failed("list", path))? {
        let entry = entry.map_err(failed("list", path))?;
        let found = entry.file_name();
        // A fresh ext4 mount point has this directory, and a killed run its stage.
        let counts_as_empty =
            is_partial(&found) || (found == "lost+found" && entry.file_type().is_ok_and(|t| t.is_dir()));
        if !counts_as_empty && !remains.includes(&entry.path()) {
            return Err(StageError::NotEmpty { path: path.to_owned(), found });
        }
    }
    ensure_writable(path).map(|()| true)
}

/// Asks whether entries can be made in `path` or, where there is nothing yet, in the nearest directory above.
fn ensure_writable(path: &Path) -> Result<(), StageError> {
    for place in path.ancestors() {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        match rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(e) => {
                let (path, place) = (path.to_owned(), place.to_owned());
                return Err(StageError::NotWritable { path, place, error: e.into() });
            }
        }
    }
    Ok(())
}

/// Refuses an owner to whom this process cannot give files.
pub(crate) fn ensure_owner(owner: Option<Owner>) -> Result<(), StageError> {
    ensure_owner_as(rustix::process::geteuid().as_raw(), owner)
}

fn ensure_owner_as(euid: u32, owner: Option<Owner>) -> Result<(), StageError> {
    match owner {
        Some(Owner { uid, .. }) if euid != 0 && uid != euid => Err(StageError::Owner { euid, uid }),
        _ => Ok(()),
    }
}

/// The names for something unfinished that is or will be called `name`, in the order in which they are tried.
fn partial_names(name: &OsStr) -> impl Iterator<Item = OsString> + '_ {
    let pid = std::process::id();
    (0..TRIES).map(move |attempt| {
        let mut staged = name.to_owned();
        match attempt {
            0 => {}
            1 => staged.push(format!(".{pid}")),
            n => staged.push(format!(".{pid}.{n}")),
        }
        staged.push(PARTIAL_SUFFIX);
        staged
    })
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes `dir` and what is missing above it; `made` gets each directory made, outermost first.
fn make_missing(dir: &Path, made: &mut Vec<PathBuf>) -> Result<(), StageError> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|p| !p.as_os_str().is_empty() && fs::metadata(p).is_err()).collect();
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(DIR_MODE).create(path) {
            Ok(()) => made.push(path.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(e) => return Err(failed("create directory", path)(e)),
        }
    }
    Ok(())
}

fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
}

fn set_owner(path: &Path, owner: Option<Owner>) -> Result<(), StageError> {
    match owner {
        Some(owner) => std::os::unix::fs::lchown(path, Some(owner.uid), owner.gid)
            .map_err(failed("change the owner of", path)),
        None => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), StageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

/// Renames without ever replacing anything.
fn rename_new(from: &Path, to: &Path) -> Result<(), StageError> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(StageError::Overtaken(to.to_owned())),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_new_portable(from, to),
        Err(e) => Err(failed("rename", from)(e.into())),
    }
}

/// The same where the file system has no such rename: a directory may replace an empty one, which is made first, and
/// making it fails if anything is there; a file is linked under its new name, which fails likewise.
fn rename_new_portable(from: &Path, to: &Path) -> Result<(), StageError> {
    let taken = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            StageError::Overtaken(to.to_owned())
        }
        _ => failed("rename", from)(error),
    };
    let meta = fs::symlink_metadata(from).map_err(failed("look at", from))?;
    if meta.is_dir() {
        DirBuilder::new().mode(DIR_MODE).create(to).map_err(taken)?;
        return fs::rename(from, to).map_err(|e| {
            drop(fs::remove_dir(to));
            taken(e)
        });
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).map_err(failed("remove", from)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(taken(e)),
        // No hard links either: hold the name with an empty file and replace that.
        Err(_) => {
            drop(new_file(to, FILE_MODE).map_err(taken)?);
            fs::rename(from, to).map_err(|e| {
                drop(fs::remove_file(to));
                taken(e)
            })
        }
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
