//! A data dir's db replaced by another one, in one rename: what `defrag` and `migrate` do in place.
//!
//! 1. The db is locked as a server locks it, so that none runs on it meanwhile.
//! 2. The new one is staged beside it as `db.etcd-rescue-partial`, read back and verified by whoever makes it; owner,
//!    permissions and extended attributes (an SELinux label among them) are those of the old one.
//! 3. With `--keep-original` a copy of the old one is written beside it first.
//! 4. One rename puts the new one in place; the directory is synced.
//! 5. The metas of the old file, which has no name any more, are overwritten with zeros; only then is its lock let go.
//!
//! **Why 5.** A server that is started while the lock is held has opened the old file and tries its lock again and again.
//! Once the lock is let go it would run on a file without a name, and all it wrote to its db would be gone when it ends;
//! a defragmentation by etcdutl has this hole. With its metas gone the old file is no database: the server ends with
//! `invalid database`, and when it is started again it opens the new one. One that is started after the rename opens the
//! new file, which is whole. So no server runs on the old file. The exceptions: where the old file has another name, a hard
//! link, somebody wants it kept, and it is not touched; where the directory cannot be synced the old file may be what a loss
//! of power leaves, and it is not touched either (both are told of); and a run that is killed between 4 and 5.
//!
//! | cut after | `db` is | beside it | etcd |
//! |---|---|---|---|
//! | 2 | the old one | `db.etcd-rescue-partial`, perhaps in part | starts on the old one |
//! | 3 | the old one | the same, and the copy of the old one | starts on the old one |
//! | 4, 5 | the old or the new one, whole | the copy, where one was asked for | starts on it |

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use bbolt::{Source, Watch};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::copy::{self, SpaceError};
use crate::datadir::Kind as InputKind;
use crate::finding::Finding;
use crate::integrity::Changed;
use crate::opened::Opened;
use crate::overlay::Overlay;
use crate::replicate::{ReplicateError, replicate};
use crate::stage::{Kind, Stage, StageError};

/// How the copy of the old db is called: `db` and this, and a number where that is taken. etcd removes names that begin
/// with `db.tmp`, and reads those that end in `.snap` and `.snap.db`.
const KEPT_SUFFIX: &str = ".original";
/// How many names are tried for it.
const KEPT_NAMES: u32 = 1000;
/// Most bytes of the list of a file's extended attributes, and of one of them: the kernel's own bound.
const MOST_ATTRIBUTE_BYTES: usize = 65_536;

/// A db that was replaced.
#[derive(Debug, Clone)]
pub struct Replaced<T> {
    /// The db: the file itself, where its name in the data dir is a link.
    pub db: PathBuf,
    /// What the one who made the new one has to say of it.
    pub made: T,
    /// The copy of the old one, where one was asked for.
    pub original: Option<PathBuf>,
    /// What the user must know of it, a sentence each.
    pub warnings: Vec<String>,
}

/// What the new db needs, and whether the old one is kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplaceOptions {
    /// About how long the new one is going to be, in bytes.
    pub expected_bytes: u64,
    /// Leave a copy of the old one beside it.
    pub keep_original: bool,
}

/// Why the db is still the old one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// Not a data dir.
    #[error(
        "{path}: is a file; a db is put in place only in a data dir or member dir. For a file of its own, -o OUT writes a \
         copy"
    )]
    NotADirectory {
        /// The path.
        path: String,
    },
    /// The db is not there any more, or is packed.
    #[error(
        "{path}: is not the file that was opened: another job has put one in its place, or it is compressed. Nothing was \
         changed; run this again, or use -o OUT"
    )]
    NotInPlace {
        /// The db.
        path: String,
    },
    /// Only root can make a file that belongs to somebody else.
    #[error(
        "{path}: belongs to user {uid} and group {gid}, and this process may not make a file that does: {source}. Run it as root, or as that \
         user. Nothing was changed"
    )]
    Owner {
        /// The db.
        path: String,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// The system's reason.
        source: io::Error,
    },
    /// The copy of the old db could not be written.
    #[error("{}: {source}; the db is unchanged", path.display())]
    Keep {
        /// The copy.
        path: PathBuf,
        /// Why.
        source: ReplicateError,
    },
    /// The system refused before the new db was in place.
    #[error("{}: {source}; the db is unchanged", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The new db cannot be staged, or cannot get its name.
    #[error("{0}; the db is unchanged")]
    Stage(#[from] StageError),
    /// The new db has its name, and the directory cannot be synced.
    #[error(
        "{path}: the new database is in place, but not for certain on the disk: {source}. After a loss of power the old one may \
         be there, whole. A server that was started while this ran may hold the old file: stop and start it before it is \
         relied on"
    )]
    NotSynced {
        /// The db.
        path: String,
        /// The system's reason.
        source: StageError,
    },
    /// There is no room.
    #[error("{0}; the db is unchanged. -o OUT writes a copy to another disk")]
    Space(#[from] SpaceError),
    /// The old db was written to.
    #[error("{path}: {source}. The db is as it was found")]
    Changed {
        /// The file.
        path: String,
        /// Where.
        source: Changed,
    },
}

impl ReplaceError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Keep { source: ReplicateError::Interrupted, .. } => 130,
            _ => 1,
        }
    }

    /// Findings that go with it: none, for nothing of the data is judged here.
    #[must_use]
    pub const fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// Makes sure that `input` is a db that can be replaced, before all the work.
///
/// # Errors
/// [`ReplaceError::NotADirectory`], [`ReplaceError::NotInPlace`].
pub fn ensure_in_place(input: &Opened) -> Result<(), ReplaceError> {
    let path = input.db_path().display().to_string();
    if input.kind() == InputKind::File {
        return Err(ReplaceError::NotADirectory { path });
    }
    if input.is_in_place() { Ok(()) } else { Err(ReplaceError::NotInPlace { path }) }
}

/// The db of `input` as a file: what takes its place is not to take that of a link to it.
///
/// # Errors
/// When the system does not say where it is.
pub fn file_of(input: &Opened) -> Result<PathBuf, ReplaceError> {
    let io_error = |source| ReplaceError::Io { path: input.db_path().to_owned(), source };
    input.db_path().canonicalize().map_err(io_error)
}

/// Puts what `make` writes into the stage in the place of the db of `input`, a data dir opened under the exclusive lock.
///
/// # Errors
/// When the new one cannot be made or put in place; the db is the old one then, and nothing is left beside it.
pub fn replace<T, E: From<ReplaceError>>(
    input: &Opened,
    options: ReplaceOptions,
    make: impl FnOnce(&Stage) -> Result<T, E>,
    watch: &dyn Watch,
) -> Result<Replaced<T>, E> {
    ensure_in_place(input)?;
    let db = file_of(input)?;
    let io_error = |source| ReplaceError::Io { path: db.clone(), source };
    let kept_bytes = if options.keep_original { input.source().len_bytes() } else { 0 };
    let need_bytes = options.expected_bytes.saturating_add(kept_bytes);
    copy::ensure_space(&db, need_bytes).map_err(ReplaceError::from)?;
    let old = input.source().file();
    // For its metas. Where this user may not write the file, no server of theirs could.
    let condemned = OpenOptions::new().write(true).open(&db).map_err(io_error)?;
    let is_same = same_file(old, &condemned).map_err(io_error)?;
    if !is_same {
        let path = input.db_path().display().to_string();
        return Err(ReplaceError::NotInPlace { path }.into());
    }
    let stage = Stage::for_replacement(&db).map_err(ReplaceError::from)?;
    let made = make(&stage)?;
    let (original, mut warnings) = put(input, stage, &db, options.keep_original, watch)?;
    warnings.extend(condemn(&condemned, input));
    Ok(Replaced { db, made, original, warnings })
}

/// Gives what is staged the name of the db. Returns the copy of the old one, and what to know of both.
fn put(
    input: &Opened,
    stage: Stage,
    db: &Path,
    keep_original: bool,
    watch: &dyn Watch,
) -> Result<(Option<PathBuf>, Vec<String>), ReplaceError> {
    let shown = || input.db_path().display().to_string();
    let old = input.source().file();
    let new = stage.file().ok_or_else(|| StageError::NotADirectory(db.to_owned()))?;
    let mut warnings = take_after(old, new, db)?;
    let original = if keep_original {
        let (kept, more) = keep(input, db, watch)?;
        warnings.extend(more);
        Some(kept)
    } else {
        None
    };
    input.ensure_not_written_to().map_err(|source| ReplaceError::Changed { path: shown(), source })?;
    let kept = match original {
        Some(kept) => {
            let path = kept.final_path().to_owned();
            kept.commit(None)?;
            Some(path)
        }
        None => None,
    };
    if let Err(source) = stage.replace(old) {
        let is_old = leads_to(db, old);
        // Where the db is there itself, a copy of it is what nobody asked for.
        if let Some(kept) = kept.filter(|_| is_old) {
            drop(fs::remove_file(kept));
        }
        return Err(match source {
            StageError::Io { .. } if !is_old => ReplaceError::NotSynced { path: shown(), source },
            source => source.into(),
        });
    }
    Ok((kept, warnings))
}

/// True when the name `path` is still that of `file`, also when that cannot be told.
fn leads_to(path: &Path, file: &File) -> bool {
    File::open(path).and_then(|named| same_file(&named, file)).unwrap_or(true)
}

fn same_file(a: &File, b: &File) -> io::Result<bool> {
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Makes the old file, which has lost its name, a file that no server runs on; a sentence when that cannot be.
fn condemn(old: &File, input: &Opened) -> Option<String> {
    let what = "a server that was started while this ran may hold the old file: stop and start it before it is relied on";
    let names = match old.metadata() {
        Ok(found) => found.nlink(),
        Err(error) => return Some(format!("the old db cannot be looked at ({error}); {what}")),
    };
    if names > 0 {
        return Some(format!("the old db has {names} other name(s), hard links, and is still there; {what}"));
    }
    let page_bytes = input.db().map_or(4096, |db| db.page_size());
    let zeros = vec![0; 2 * usize::try_from(page_bytes).unwrap_or_default()];
    let len = zeros.len().min(usize::try_from(input.source().len_bytes()).unwrap_or(usize::MAX));
    match old.write_all_at(&zeros[..len], 0) {
        Ok(()) => None,
        Err(error) => Some(format!("the old db's metas cannot be overwritten ({error}); {what}")),
    }
}

/// Gives `new` the owner, permissions and extended attributes of `old`; `db` is what errors name. Returns what could not be had,
/// short of the owner.
pub(crate) fn take_after(old: &File, new: &File, db: &Path) -> Result<Vec<String>, ReplaceError> {
    let io_error = |source| ReplaceError::Io { path: db.to_owned(), source };
    let (found, made) = (old.metadata().map_err(io_error)?, new.metadata().map_err(io_error)?);
    if (found.uid(), found.gid()) != (made.uid(), made.gid()) {
        let (uid, gid) = (found.uid(), found.gid());
        fchown(new, Some(uid), Some(gid)).map_err(|source| ReplaceError::Owner {
            path: db.display().to_string(),
            uid,
            gid,
            source,
        })?;
    }
    new.set_permissions(Permissions::from_mode(found.mode() & 0o7777)).map_err(io_error)?;
    let mut warnings = Vec::new();
    let mut names = vec![0; MOST_ATTRIBUTE_BYTES];
    let names = match rustix::fs::flistxattr(old, names.as_mut_slice()) {
        Ok(len) => names.get(..len).unwrap_or_default(),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => &[],
        Err(error) => {
            warnings.push(format!("the extended attributes of {} cannot be listed: {error}", db.display()));
            &[]
        }
    };
    let mut value = vec![0; MOST_ATTRIBUTE_BYTES];
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let copied = rustix::fs::fgetxattr(old, name, value.as_mut_slice()).and_then(|len| {
            rustix::fs::fsetxattr(new, name, value.get(..len).unwrap_or_default(), XattrFlags::empty())
        });
        if let Err(error) = copied {
            let name = String::from_utf8_lossy(name);
            warnings.push(format!(
                "the extended attribute {name} of {} cannot be given to the new one: {error}",
                db.display()
            ));
        }
    }
    Ok(warnings)
}

/// Stages a copy of the old db beside it, under a name that no etcd loads or removes.
fn keep(input: &Opened, db: &Path, watch: &dyn Watch) -> Result<(Stage, Vec<String>), ReplaceError> {
    let kept = kept_path(db).ok_or_else(|| StageError::Exists(with_suffix(db, KEPT_SUFFIX)))?;
    let io_error = |source| ReplaceError::Io { path: kept.clone(), source };
    let stage = Stage::new(&kept, Kind::File)?;
    let file = stage.file().ok_or_else(|| StageError::NotADirectory(kept.clone()))?;
    let source = input.source();
    let image = Overlay::new(source, source.len_bytes(), []);
    watch.begin("keeping the original", 2 * source.len_bytes());
    replicate(&image, 0, source.file(), &[(file, stage.path())], watch)
        .map_err(|source| ReplaceError::Keep { path: kept.clone(), source })?;
    let warnings = take_after(source.file(), file, &kept)?;
    let written = source.file().metadata().and_then(|found| found.modified()).map_err(io_error)?;
    // When it was last written says how old the data in it is.
    file.set_modified(written).map_err(io_error)?;
    Ok((stage, warnings))
}

fn with_suffix(db: &Path, suffix: &str) -> PathBuf {
    let mut name = db.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    db.with_file_name(name)
}

/// The first name for the copy that is free.
fn kept_path(db: &Path) -> Option<PathBuf> {
    let numbered = (1..KEPT_NAMES).map(|number| with_suffix(db, &format!("{KEPT_SUFFIX}.{number}")));
    std::iter::once(with_suffix(db, KEPT_SUFFIX))
        .chain(numbered)
        .find(|path| fs::symlink_metadata(path).is_err())
}
