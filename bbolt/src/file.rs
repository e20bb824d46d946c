//! Opening a file on disk: mapped or with `pread`, under the shared lock that a running etcd refuses.

use std::borrow::Cow;
use std::fs::{File, OpenOptions as FsOpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::db::{Db, OpenError};
use crate::map::Map;
use crate::source::{Pread, Source, SourceError};
use crate::watch::Watch;

/// How a file is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Io {
    /// Mapped into memory: fastest.
    #[default]
    Mmap,
    /// With `pread`: for dying disks, and file systems that cannot map.
    Pread,
}

/// Whether a file is locked while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Not at all: for read-only media, file systems without locks, and files no server can have open.
    None,
    /// A shared `flock`, which a running etcd's exclusive one keeps out. `timeout` `None` waits for ever.
    Shared {
        /// How long to wait for it.
        timeout: Option<Duration>,
    },
    /// An exclusive `flock`, as a server takes it: for whoever puts another file in this one's place.
    Exclusive {
        /// How long to wait for it; `None` waits for ever.
        timeout: Option<Duration>,
    },
}

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// How it is read.
    pub io: Io,
    /// Whether it is locked.
    pub lock: Lock,
}

impl Default for OpenOptions {
    /// Mapped, and locked with etcdutl's ten seconds.
    fn default() -> Self {
        Self { io: Io::Mmap, lock: Lock::Shared { timeout: Some(Duration::from_secs(10)) } }
    }
}

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process, in all likelihood a running etcd, holds the exclusive lock.
    #[error(
        "{}: still locked after {waited:?}, in all likelihood by a running etcd, which holds the lock of its database. \
         Stop that etcd and run this again, or take a snapshot of it with 'etcdctl snapshot save'; --timeout waits \
         longer", path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The file is no readable bbolt database.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
}

/// How often a held lock is tried again, as bbolt does.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// The bytes of a file on disk.
#[derive(Debug)]
pub enum FileSource {
    /// Mapped, with the file kept open for its lock.
    Map(Map, File),
    /// Read with `pread`.
    Pread(Pread),
}

impl FileSource {
    /// The bytes of `file`, which `path` names in messages.
    ///
    /// # Errors
    /// When the file cannot be mapped or its length cannot be had.
    pub fn new(file: File, path: &Path, how: Io) -> io::Result<Self> {
        match how {
            // An empty file cannot be mapped; `pread` reads it as the nothing it is.
            Io::Mmap if file.metadata()?.len() > 0 => Ok(Self::Map(Map::new(&file, path)?, file)),
            Io::Mmap | Io::Pread => Pread::new(file).map(Self::Pread),
        }
    }
    /// The open file behind the bytes.
    #[must_use]
    pub fn file(&self) -> &File {
        match self {
            Self::Map(_, file) => file,
            Self::Pread(pread) => pread.file(),
        }
    }
}

impl Source for FileSource {
    fn len_bytes(&self) -> u64 {
        match self {
            Self::Map(map, _) => map.len_bytes(),
            Self::Pread(pread) => pread.len_bytes(),
        }
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        match self {
            Self::Map(map, _) => map.bytes(offset, len),
            Self::Pread(pread) => pread.bytes(offset, len),
        }
    }

    fn will_read(&self, offset: u64, len: u64) {
        match self {
            Self::Map(map, _) => map.will_read(offset, len),
            Self::Pread(pread) => pread.will_read(offset, len),
        }
    }
}

/// Opens the database at `path`, read-only.
///
/// # Errors
/// When the file cannot be opened, stays locked, or is no bbolt database.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Db<FileSource>, FileError> {
    let io_error = |source| FileError::Io { path: path.to_owned(), source };
    let file = open_read_only(path).map_err(io_error)?;
    take_lock(&file, path, options.lock, &())?;
    let source = FileSource::new(file, path, options.io).map_err(io_error)?;
    Db::from_source(source).map_err(|source| FileError::Open { path: path.to_owned(), source })
}

/// Opens `path` for reading, without updating its access time where the system allows that (it does for the file's owner
/// and for root).
///
/// # Errors
/// When the file cannot be opened, or is a directory.
pub fn open_read_only(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: a FIFO given by mistake must not hang; it means nothing to a regular file.
    let quiet = OFlags::NOATIME | OFlags::NONBLOCK;
    let open =
        |flags: OFlags| FsOpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = match open(quiet) {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => open(OFlags::NONBLOCK)?,
        other => other?,
    };
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory, expected a file"));
    }
    Ok(file)
}

/// Takes the lock on `file` that `lock` asks for; it lasts as long as the file stays open.
///
/// # Errors
/// When the lock is still held at the end of the timeout, the user asked to stop, or the file system has no locks.
pub fn take_lock(file: &File, path: &Path, lock: Lock, watch: &dyn Watch) -> Result<(), FileError> {
    let (timeout, operation) = match lock {
        Lock::None => return Ok(()),
        Lock::Shared { timeout } => (timeout, FlockOperation::NonBlockingLockShared),
        Lock::Exclusive { timeout } => (timeout, FlockOperation::NonBlockingLockExclusive),
    };
    let start = Instant::now();
    let mut told = false;
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(errno) => {
                let hint = "cannot be locked (--no-lock reads without a lock, for read-only media)";
                let source = io::Error::new(io::Error::from(errno).kind(), format!("{hint}: {errno}"));
                return Err(FileError::Io { path: path.to_owned(), source });
            }
        }
        if watch.interrupted() {
            return Err(FileError::Interrupted);
        }
        if let Some(waited) = timeout.filter(|most| start.elapsed() >= *most) {
            return Err(FileError::Locked { path: path.to_owned(), waited });
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
