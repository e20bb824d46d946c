//! An input, opened: a snapshot, a db or a directory that holds one, compressed or not.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bbolt::file::{FileError, take_lock};
use bbolt::{Db, FileSource, OpenError as DbError, OpenOptions, Watch};

use crate::datadir::{Kind, LocateError, Located, locate};
use crate::finding::{Finding, Severity};
use crate::input::{self, Container, InputError};
use crate::integrity::Changed;

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
    /// The file is no plain or compressed database.
    #[error(transparent)]
    Input(#[from] InputError),
}

impl OpenError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input(InputError::Interrupted) | Self::File(FileError::Interrupted) => 130,
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
    stamp: Stamp,
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

    /// The log's directory, where it lies beside the db as etcd lays it out.
    #[must_use]
    pub fn wal_dir(&self) -> Option<&Path> {
        self.located.wal_dir.as_deref()
    }

    /// Snapshots beside the db that are ahead of it, whose last raft entry is `consistent_index`: the member was being sent
    /// one when it stopped, and its db is older than the start of its log (FORMATS F.1).
    #[must_use]
    pub fn pending_snapshots(&self, consistent_index: u64) -> Option<Finding> {
        let names = self.located.snap_dir.as_deref()?.read_dir().ok()?.flatten();
        let ahead = names.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let index = wal::parse_snap_db_name(&name).or_else(|| Some(wal::parse_snap_name(&name)?.1))?;
            (index > consistent_index).then_some((index, name))
        });
        let (index, name) = ahead.max()?;
        let message = format!(
            "{name} beside the db is at index {index}, the db at {consistent_index}: this member was being sent a \
             snapshot when it stopped, and its db is older than what it had promised. A .snap.db is a whole database \
             and can be restored itself (with --skip-hash-check); another member may hold more"
        );
        Some(Finding::new("ETCD-NEWER-SNAP", Severity::Warning, message))
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

    /// Makes sure that nobody wrote to the file since it was opened.
    ///
    /// # Errors
    /// [`Changed`], also when that cannot be told any more.
    pub fn ensure_not_written_to(&self) -> Result<(), Changed> {
        match stamp(&self.source) {
            Ok(stamp) if stamp == self.stamp => Ok(()),
            _ => Err(Changed { offset: None }),
        }
    }

    /// True when the database's name still leads to the file that was opened: not when somebody has put another in its
    /// place since, nor when what is read was unpacked.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let inode = |found: io::Result<Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
        let held = inode(self.source.file().metadata());
        held.is_some() && held == inode(self.located.db.metadata())
    }

    /// The database in it.
    ///
    /// # Errors
    /// When it is no bbolt database.
    pub fn db(&self) -> Result<Db<&FileSource>, DbError> {
        Db::from_source(&self.source)
    }
}

/// What changes when somebody writes to a file: its length, and the time of the last write in seconds and nanoseconds.
type Stamp = (u64, i64, i64);

fn stamp(source: &FileSource) -> io::Result<Stamp> {
    source.file().metadata().map(|meta| (meta.len(), meta.mtime(), meta.mtime_nsec()))
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
        take_lock(&input.file, &located.db, options.open.lock, watch)?;
    } else {
        notes.push(format!("{}: {} in {}", path.display(), input.description(), unpacking.tmp_dir.display()));
    }
    let source = FileSource::new(input.file, &located.db, options.open.io)
        .map_err(|source| FileError::Io { path: located.db.clone(), source })?;
    let stamp = stamp(&source).map_err(|source| FileError::Io { path: located.db.clone(), source })?;
    Ok(Opened { path: path.to_owned(), located, source, stamp, notes })
}
