//! `--in-place`: a member's whole directory, copied with what is edited, in the place of the old one, which is kept beside it.
//!
//! Nothing is written into the directory that is there. The copy is staged beside it, read back, and changes places with it in one
//! rename ([`stage`]'s `exchange`). So what a server starts on is the old directory or the new one, whole.
//!
//! A server that runs on the directory holds the locks of its database and of its log, and the job does not begin. One that is
//! started while the job runs waits for them, and would go on with the old database once they are let go: whoever holds it
//! open is looked for before the exchange, which does not happen then, and after it. What cannot be seen is a process of another
//! user, or one behind the boundary of a container.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bbolt::Lock;

use crate::facts::{Facts, FactsOptions};
use crate::replaced::{ReplaceError, take_after};
use crate::stage::{self, ExchangeError, Owner, Stage, StageError};

/// Why a member cannot be edited in its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InPlaceError {
    /// The path is not that of a member's directory.
    #[error(
        "{path}: only a data dir or member dir can be edited in place; -o OUT writes a copy. Nothing was changed"
    )]
    NoMember {
        /// What was given.
        path: String,
    },
    /// The log is not in the member's directory.
    #[error(
        "{}: the log of this member lies outside of its directory, in {}, and two directories cannot be exchanged in one step: \
         -o OUT and --output-wal-dir write a copy of both. Nothing was changed", member.display(), wal_dir.display()
    )]
    LogElsewhere {
        /// The member's directory.
        member: PathBuf,
        /// The log's.
        wal_dir: PathBuf,
    },
    /// What belongs to the member lies elsewhere.
    #[error(
        "{}: is a link, and what it leads to would not be edited but left behind; -o OUT writes a copy. Nothing was changed", path.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// `--no-lock`.
    #[error(
        "--no-lock: the member's directory is replaced, and only its locks tell that no server runs on it; leave --no-lock out, or write a copy \
         with -o OUT"
    )]
    NoLock,
    /// Somebody has the database open.
    #[error(
        "{}: is held open by process {pid}, perhaps an etcd that was started meanwhile. Stop it and run this again. The member is as it was \
         found", path.display()
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// Who.
        pid: u32,
    },
    /// The system refused.
    #[error("{}: {source}; nothing was changed", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of the copy cannot be made like the one it stands for.
    #[error(transparent)]
    Like(#[from] ReplaceError),
    /// The directories could not be exchanged, or not for certain.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl InPlaceError {
    /// The process's exit code for it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoLock => 2,
            _ => 1,
        }
    }
}

/// A member's directory that can change places with a copy.
#[derive(Debug)]
pub struct Place {
    /// The directory, links followed.
    member: PathBuf,
    handle: File,
}

impl Place {
    /// Makes sure that the member of `facts`, opened under `input`, can be edited in place; nothing is written.
    ///
    /// # Errors
    /// [`InPlaceError`].
    pub fn of(facts: &Facts, input: &FactsOptions) -> Result<Self, InPlaceError> {
        let no_member = || InPlaceError::NoMember { path: facts.path.display().to_string() };
        let (Some(Ok(database)), Some(log)) = (&facts.database, facts.log_facts()) else {
            return Err(no_member());
        };
        if matches!(input.input.open.lock, Lock::None) || matches!(input.log.lock, Lock::None) {
            return Err(InPlaceError::NoLock);
        }
        let given = log.files.snap_dir().and_then(Path::parent).ok_or_else(no_member)?;
        // A relative path that ends within the member leaves nothing here.
        let given = if given.as_os_str().is_empty() { Path::new(".") } else { given };
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| InPlaceError::Io { path, source }
        };
        let member = given.canonicalize().map_err(io_error(given))?;
        let found = member.metadata().map_err(io_error(&member))?;
        let above = member.parent().ok_or_else(no_member)?;
        if above.metadata().map_err(io_error(above))?.dev() != found.dev() {
            return Err(ExchangeError::MountPoint { path: member }.into());
        }
        let wal_dir = log.files.wal_dir();
        if wal_dir.canonicalize().map_err(io_error(wal_dir))? != member.join("wal") {
            return Err(InPlaceError::LogElsewhere { member, wal_dir: wal_dir.to_owned() });
        }
        for path in [member.join("snap"), database.input.db_path().to_owned()] {
            if path.symlink_metadata().map_err(io_error(&path))?.is_symlink() {
                return Err(InPlaceError::Link { path });
            }
        }
        if !database.input.is_in_place() {
            return Err(no_member());
        }
        let handle = File::open(&member).map_err(io_error(&member))?;
        Ok(Self { member, handle })
    }

    /// The member's directory.
    #[must_use]
    pub fn member(&self) -> &Path {
        &self.member
    }

    /// A stage beside it.
    ///
    /// # Errors
    /// [`InPlaceError::Exchange`]; nothing is left behind.
    pub(crate) fn stage(&self) -> Result<Stage, InPlaceError> {
        Ok(Stage::for_exchange(&self.member)?)
    }

    /// Ends what a run that was cut off behind its exchange had left to do, where that is wanted, and else makes sure that there was
    /// none. Returns what the old directory is called now, where it had no name of its own.
    ///
    /// # Errors
    /// [`InPlaceError::Exchange`].
    pub(crate) fn settle(&self, clean: bool) -> Result<Option<PathBuf>, InPlaceError> {
        if clean {
            return Ok(stage::settle(&self.member).map_err(ExchangeError::from)?);
        }
        stage::ensure_settled(&self.member)?;
        Ok(None)
    }

    /// Removes what killed runs staged here, where that is wanted, and never what may be an original. Returns what is left of it,
    /// and what was removed.
    ///
    /// # Errors
    /// [`InPlaceError::Exchange`].
    pub(crate) fn sweep(&self, clean: bool) -> Result<(Vec<PathBuf>, Vec<PathBuf>), InPlaceError> {
        let unstaged = |error: StageError| InPlaceError::from(ExchangeError::from(error));
        self.settle(clean)?;
        stage::ensure_no_old(&self.member)?;
        let cleaned = if clean { stage::clean(&self.member, None).map_err(unstaged)? } else { Vec::new() };
        Ok((stage::abandoned(&self.member).map_err(unstaged)?, cleaned))
    }

    /// Puts what was staged in the place of the member, file by file like those it stands for in owner, permissions and extended
    /// attributes; `owner` decides where it is given. Returns what the old directory is called, and what could not be had.
    ///
    /// # Errors
    /// [`InPlaceError`].
    pub(crate) fn swap(
        self,
        facts: &Facts,
        staged: Stage,
        owner: Option<Owner>,
    ) -> Result<(PathBuf, Vec<String>), InPlaceError> {
        let mut warnings = Vec::new();
        for name in ["", "snap", "wal"] {
            let (old, new) = (self.member.join(name), staged.path().join(name));
            let entries =
                fs::read_dir(&new).map_err(|source| InPlaceError::Io { path: new.clone(), source })?;
            for entry in entries {
                let path = entry.map_err(|source| InPlaceError::Io { path: new.clone(), source })?.path();
                if path.is_file() {
                    warnings.extend(self.like(&old.join(path.file_name().unwrap_or_default()), &path)?);
                }
            }
            warnings.extend(self.like(&old, &new)?);
        }
        warnings.sort();
        warnings.dedup();
        let db = facts.database.as_ref().and_then(|database| database.as_ref().ok());
        let in_use = || db.and_then(|db| Some((db, holder(db.input.source().file()).ok()??)));
        let refusal = |(db, pid): (&crate::facts::Database, u32)| InPlaceError::InUse {
            path: db.input.db_path().to_owned(),
            pid,
        };
        if let Some(found) = in_use() {
            return Err(refusal(found));
        }
        let kept = staged.exchange(&self.handle, owner)?;
        if let Some((_, pid)) = in_use() {
            warnings.push(format!(
                "process {pid} opened the old database while this ran: if it is an etcd, stop it and start it again before it is relied on"
            ));
        }
        Ok((kept, warnings))
    }

    /// Makes `new` like `old`, or where there is none like the database.
    fn like(&self, old: &Path, new: &Path) -> Result<Vec<String>, InPlaceError> {
        let old = if old.exists() { old.to_owned() } else { self.member.join("snap/db") };
        let open = |path: &Path| {
            File::open(path).map_err(|source| InPlaceError::Io { path: path.to_owned(), source })
        };
        Ok(take_after(&open(&old)?, &open(new)?, new)?)
    }
}

/// Another process that has `file` open, as far as this one may see.
fn holder(file: &File) -> io::Result<Option<u32>> {
    let wanted = file.metadata()?;
    let own = std::process::id();
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        for held in files.flatten() {
            let found = fs::metadata(held.path());
            if found.is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino())) {
                return Ok(Some(pid));
            }
        }
    }
    Ok(None)
}
