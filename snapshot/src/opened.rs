//! An input, opened: a snapshot, a db or a directory that holds one, compressed or not.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bbolt::file::{FileError, lock_shared};
use bbolt::{Db, FileSource, Lock, OpenError as DbError, OpenOptions, Watch};

use crate::datadir::{Kind, LocateError, Located, locate};
use crate::finding::Finding;
use crate::input::{self, Container, InputError};

/// How inputs are opened.
#[derive(Debug, Clone, Default)]
pub struct InputOptions {
    /// How the file is read, and whether it is locked.
    pub open: OpenOptions,
    /// Where compressed inputs are unpacked to; the system's directory for temporary files when `None`.
    pub tmp_dir: Option<PathBuf>,
}

/// Why an input could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no database at the path.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The file cannot be opened, or is locked.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process, in all likelihood a running etcd, holds the exclusive lock.
    #[error(
        "{}: still locked after {waited:?}, in all likelihood by a running etcd, which holds the lock of its database. Stop \
         that etcd and run this again, or take a snapshot of it with 'etcdctl snapshot save'; --timeout waits longer",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The file is no plain or compressed database.
    #[error(transparent)]
    Input(#[from] InputError),
}

impl OpenError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input(InputError::Interrupted) => 130,
            _ => 1,
        }
    }

    /// Findings that go with it: none, since nothing was read yet.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// An opened input. The file stays open, and locked where that was asked for, as long as this lives.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    located: Located,
    source: FileSource,
    notes: Vec<String>,
}

impl Opened {
    /// The path as the user gave it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the path is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.located.kind
    }

    /// The database's own path.
    #[must_use]
    pub fn db_path(&self) -> &Path {
        &self.located.db
    }

    /// The log's directory, when the path is a directory that has one.
    #[must_use]
    pub fn wal_dir(&self) -> Option<&Path> {
        self.located.wal_dir.as_deref()
    }

    /// What was done to open it, for the user to know: one sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The bytes, trailer included.
    #[must_use]
    pub fn source(&self) -> &FileSource {
        &self.source
    }

    /// The database in it.
    ///
    /// # Errors
    /// When it is no bbolt database.
    pub fn db(&self) -> Result<Db<&FileSource>, DbError> {
        Db::from_source(&self.source)
    }
}

/// Opens what `path` names: a snapshot or db file (also as `.gz`, `.zst` or one-entry `.zip`), a member dir, a data dir.
///
/// # Errors
/// When there is no database at `path`, it cannot be opened or unpacked, or a running server holds its lock.
pub fn open(path: &Path, options: &InputOptions, watch: &dyn Watch) -> Result<Opened, OpenError> {
    let located = locate(path)?;
    let mut unpacking = input::InputOptions::default();
    if let Some(tmp_dir) = &options.tmp_dir {
        unpacking.tmp_dir.clone_from(tmp_dir);
    }
    let input = input::open(&located.db, &unpacking, watch)?;
    let mut notes = Vec::new();
    if input.container == Container::Plain {
        wait_for_lock(&input.file, &located.db, options.open.lock, watch)?;
    } else {
        notes.push(format!("{}: {} in {}", path.display(), input.description(), unpacking.tmp_dir.display()));
    }
    let source = FileSource::new(input.file, &located.db, options.open.io)
        .map_err(|source| FileError::Io { path: located.db.clone(), source })?;
    Ok(Opened { path: path.to_owned(), located, source, notes })
}

/// How often a held lock is tried again, as bbolt does.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Takes the shared lock on `file` as `lock` asks, as long as the user does not ask to stop.
fn wait_for_lock(file: &File, path: &Path, lock: Lock, watch: &dyn Watch) -> Result<(), OpenError> {
    let Lock::Shared { timeout } = lock else { return Ok(()) };
    let start = Instant::now();
    let mut told = false;
    loop {
        match lock_shared(file, path, Lock::Shared { timeout: Some(Duration::ZERO) }) {
            Err(FileError::Locked { .. }) => {}
            taken => return Ok(taken?),
        }
        if watch.interrupted() {
            return Err(InputError::Interrupted.into());
        }
        if let Some(waited) = timeout.filter(|most| start.elapsed() >= *most) {
            return Err(OpenError::Locked { path: path.to_owned(), waited });
        }
        if !told {
            tracing::warn!(
                "{} is locked, in all likelihood by a running etcd; waiting for it to stop",
                path.display()
            );
            told = true;
        }
        sleep(LOCK_RETRY);
    }
}
