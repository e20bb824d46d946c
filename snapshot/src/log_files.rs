//! A log on disk: its segments and the snaps beside it, opened for reading only.
//!
//! [`open`] takes whatever a user has of a member: the data dir, the member dir, the log's own directory or one segment. A
//! database need not be there. Segments are locked as a server locks them, only shared, so that a running etcd is noticed and
//! none starts meanwhile.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bbolt::file::{FileError, open_read_only, take_lock};
use bbolt::{FileSource, Io, Lock, Source, Watch};
use wal::directory::{self, Listing, SegmentName};
use wal::log::{Piece, Segments, Unreadable};

use crate::datadir::{LocateError, locate_log};
use crate::finding::Finding;
use crate::snap_files::{self, SnapFile, Stamp, stamp_of};

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// How segments are read. With [`Io::Pread`] each is held in memory while it is looked at, and what stands before a sector
    /// that cannot be read is had.
    pub io: Io,
    /// Whether segments are locked.
    pub lock: Lock,
    /// The log's directory, where etcd was given one of its own.
    pub wal_dir: Option<PathBuf>,
}

impl Default for LogOptions {
    /// Mapped, locked with etcdutl's ten seconds, the log where etcd puts it.
    fn default() -> Self {
        let bbolt::OpenOptions { io, lock } = bbolt::OpenOptions::default();
        Self { io, lock, wal_dir: None }
    }
}

/// Longest segment that is read with `pread`, in bytes: all of it is in memory at a time. Servers begin a new segment after
/// 64 MB.
pub const MOST_PREAD_BYTES: u64 = 2 << 30;

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogFilesError {
    /// There is no log at the path.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A data dir whose log lies elsewhere, or is gone.
    #[error(
        "{}: has no log (there is no directory wal in the member); if etcd was started with --wal-dir, give that directory \
         with --wal-dir", path.display()
    )]
    NoLog {
        /// What was given.
        path: PathBuf,
    },
    /// A database where a log was meant.
    #[error(
        "{}: is a database, no segment of a log; give the data dir it lies in, or 'etcd-rescue snapshot status' the \
         database", path.display()
    )]
    Database {
        /// The file.
        path: PathBuf,
    },
    /// A `.snap` where a log was meant.
    #[error("{}: is a snapshot of the v2 store, no segment of a log; 'etcd-rescue snap dump' shows it", path.display())]
    Snap {
        /// The file.
        path: PathBuf,
    },
    /// A file whose name does not say which segment it is.
    #[error(
        "{}: is not named like a segment (0000000000000000-0000000000000000.wal: its number and the index of its first \
         entry); give a copy of it such a name, or give the directory it lies in", path.display()
    )]
    NotASegment {
        /// The file.
        path: PathBuf,
    },
    /// Too long to be held in memory.
    #[error(
        "{}: has {len_bytes} bytes; with --io pread a segment is held in memory, and at most {MOST_PREAD_BYTES} bytes \
         are. Read it with --io mmap", path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// Another process, in all likelihood a running etcd, holds the exclusive lock.
    #[error(
        "{}: still locked after {waited:?}, in all likelihood by a running etcd, which holds the locks of its log. Stop that \
         etcd and run this again; --timeout waits longer, and --no-lock reads what is being written to", path.display()
    )]
    Locked {
        /// The segment.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// Somebody wrote to a file while it was read.
    #[error("{}: {what} while it was read; nothing that was found can be relied on. Stop what writes to it, or copy it first", path.display())]
    Changed {
        /// The file or directory.
        path: PathBuf,
        /// What happened to it.
        what: &'static str,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl LogFilesError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            _ => 1,
        }
    }

    /// Findings that go with it: none, since nothing was read yet.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// One segment.
#[derive(Debug)]
enum Opened {
    /// Its bytes, and what [`LogFiles::ensure_unchanged`] compares.
    Bytes(FileSource, Stamp),
    /// It could not be opened, which is a fact about the disk and not about who asks.
    Refused(String),
}

/// A log and the snaps beside it, opened for reading only. The segments stay open, and locked where that was asked for, as long
/// as this lives.
#[derive(Debug)]
pub struct LogFiles {
    path: PathBuf,
    wal_dir: PathBuf,
    single: bool,
    listing: Listing,
    opened: Vec<Opened>,
    snap_dir: Option<PathBuf>,
    snaps: Vec<SnapFile>,
    db: Option<PathBuf>,
}

/// The names in `dir`, as text; bytes that are no UTF-8 are replaced, and such names are none of a segment.
fn names(dir: &Path) -> Result<Vec<String>, LogFilesError> {
    let refused = |source| LogFilesError::Io { path: dir.to_owned(), source };
    let entries = dir.read_dir().map_err(refused)?;
    let text = |name: OsString| name.to_string_lossy().into_owned();
    entries.map(|entry| Ok(text(entry.map_err(refused)?.file_name()))).collect()
}

/// The name that says which segment the single file at `path` is: its own, or what it was before a server put it aside.
fn single_name(path: &Path) -> Result<String, LogFilesError> {
    let owned = || path.to_owned();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if wal::parse_segment_name(name.strip_suffix(".broken").unwrap_or(&name)).is_some() {
        return Ok(name);
    }
    if wal::parse_snap_name(name.strip_suffix(".broken").unwrap_or(&name)).is_some() {
        return Err(LogFilesError::Snap { path: owned() });
    }
    let file = open_read_only(path).map_err(|source| LogFilesError::Io { path: owned(), source })?;
    // bbolt's magic number behind the header of page 0 (FORMATS A.2).
    let mut head = [0; 20];
    if file.read_exact_at(&mut head, 0).is_ok() && head.get(16..) == Some(&0xED0C_DAED_u32.to_le_bytes()) {
        return Err(LogFilesError::Database { path: owned() });
    }
    Err(LogFilesError::NotASegment { path: owned() })
}

/// Opens the log that `path` names: a data dir, a member dir, a log's own directory or one segment.
///
/// A directory without segments is opened too; that there are none is for whoever reads the log to say.
///
/// # Errors
/// When there is no log at `path`, the system does not let us read it, or a running server holds its lock.
pub fn open(path: &Path, options: &LogOptions, watch: &dyn Watch) -> Result<LogFiles, LogFilesError> {
    let places = locate_log(path, options.wal_dir.as_deref())?;
    let (wal_dir, listing, single) = match (places.segment, places.wal_dir) {
        (Some(segment), _) => {
            let name = single_name(&segment)?;
            let (seq, index) =
                wal::parse_segment_name(name.strip_suffix(".broken").unwrap_or(&name)).unwrap_or_default();
            let dir = segment.parent().unwrap_or(Path::new("")).to_owned();
            let segments = vec![SegmentName { name, seq, index }];
            (dir, Listing { segments, ..Listing::default() }, true)
        }
        (None, Some(dir)) => {
            let listing = directory::list(names(&dir)?);
            (dir, listing, false)
        }
        (None, None) => return Err(LogFilesError::NoLog { path: path.to_owned() }),
    };
    let mut opened = Vec::with_capacity(listing.segments.len());
    for segment in &listing.segments {
        opened.push(open_segment(&wal_dir.join(&segment.name), options, watch)?);
    }
    let snaps = match &places.snap_dir {
        Some(dir) => {
            snap_files::list(dir).map_err(|source| LogFilesError::Io { path: dir.clone(), source })?
        }
        None => Vec::new(),
    };
    Ok(LogFiles {
        path: path.to_owned(),
        wal_dir,
        single,
        listing,
        opened,
        snap_dir: places.snap_dir,
        snaps,
        db: places.db,
    })
}

fn open_segment(path: &Path, options: &LogOptions, watch: &dyn Watch) -> Result<Opened, LogFilesError> {
    if watch.interrupted() {
        return Err(LogFilesError::Interrupted);
    }
    let refused = |source: io::Error| match source.kind() {
        // Whoever runs this may not, or opened too much: nothing that the log could be blamed for.
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
            Err(LogFilesError::Io { path: path.to_owned(), source })
        }
        _ if source.raw_os_error().is_some_and(|code| code == EMFILE || code == ENFILE) => {
            Err(LogFilesError::Io { path: path.to_owned(), source })
        }
        _ => Ok(Opened::Refused(source.to_string())),
    };
    let file = match open_read_only(path) {
        Ok(file) => file,
        Err(error) => return refused(error),
    };
    let meta = file.metadata().map_err(|source| LogFilesError::Io { path: path.to_owned(), source })?;
    if !meta.is_file() {
        return Ok(Opened::Refused("not a regular file".to_owned()));
    }
    take_lock(&file, path, options.lock, watch).map_err(|error| match error {
        FileError::Locked { path, waited } => LogFilesError::Locked { path, waited },
        FileError::Interrupted => LogFilesError::Interrupted,
        FileError::Io { path, source } => LogFilesError::Io { path, source },
        other => LogFilesError::Io { path: path.to_owned(), source: io::Error::other(other.to_string()) },
    })?;
    // Under the lock: nobody writes from here on.
    let meta = file.metadata().map_err(|source| LogFilesError::Io { path: path.to_owned(), source })?;
    if options.io == Io::Pread && meta.len() > MOST_PREAD_BYTES {
        return Err(LogFilesError::TooLong { path: path.to_owned(), len_bytes: meta.len() });
    }
    match FileSource::new(file, path, options.io) {
        Ok(source) => Ok(Opened::Bytes(source, stamp_of(&meta))),
        Err(error) => refused(error),
    }
}

const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();

impl LogFiles {
    /// The path as the user gave it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory the segments lie in.
    #[must_use]
    pub fn wal_dir(&self) -> &Path {
        &self.wal_dir
    }

    /// True when one segment was asked for, and what stands before and behind it is not looked at.
    #[must_use]
    pub const fn is_single_segment(&self) -> bool {
        self.single
    }

    /// The member's `snap` directory, where it is known.
    #[must_use]
    pub fn snap_dir(&self) -> Option<&Path> {
        self.snap_dir.as_deref()
    }

    /// The member's database, where there is one.
    #[must_use]
    pub fn db_path(&self) -> Option<&Path> {
        self.db.as_deref()
    }

    /// The names in the log's directory.
    #[must_use]
    pub const fn listing(&self) -> &Listing {
        &self.listing
    }

    /// The path of the segment `at` this place of the listing; the directory when there is none.
    #[must_use]
    pub fn segment_path(&self, at: usize) -> PathBuf {
        self.listing
            .segments
            .get(at)
            .map_or_else(|| self.wal_dir.clone(), |name| self.wal_dir.join(&name.name))
    }

    /// Length in bytes of the segment `at` this place of the listing.
    #[must_use]
    pub fn segment_len_bytes(&self, at: usize) -> u64 {
        match self.opened.get(at) {
            Some(Opened::Bytes(source, _)) => source.len_bytes(),
            Some(Opened::Refused(_)) | None => 0,
        }
    }

    /// Length of all segments in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        (0..self.opened.len()).map(|at| self.segment_len_bytes(at)).sum()
    }

    /// The files of the `snap` directory, by name.
    #[must_use]
    pub fn snaps(&self) -> &[SnapFile] {
        &self.snaps
    }

    /// The directory of those read here in which `output` would lie, wherever links lead: evidence stays as it is, and nothing
    /// is made there.
    #[must_use]
    pub fn holding(&self, output: &Path) -> Option<&Path> {
        holding([Some(self.path()), Some(self.wal_dir()), self.snap_dir()].into_iter().flatten(), output)
    }

    /// Makes sure that nobody wrote to a segment or a snap, added or removed one, since they were opened.
    ///
    /// # Errors
    /// [`LogFilesError::Changed`], also when that cannot be told any more.
    pub fn ensure_unchanged(&self) -> Result<(), LogFilesError> {
        let changed = |path: PathBuf, what| Err(LogFilesError::Changed { path, what });
        for (at, opened) in self.opened.iter().enumerate() {
            if let Opened::Bytes(source, before) = opened
                && source.file().metadata().map(|meta| stamp_of(&meta)).ok() != Some(*before)
            {
                return changed(self.segment_path(at), "was written to");
            }
        }
        if !self.single && names(&self.wal_dir).map(directory::list).ok().as_ref() != Some(&self.listing) {
            return changed(self.wal_dir.clone(), "got or lost files");
        }
        let Some(dir) = &self.snap_dir else { return Ok(()) };
        let stamps = |files: &[SnapFile]| -> BTreeMap<PathBuf, Option<Stamp>> {
            // A running server writes to its db all the time, which is no part of this.
            let is_snap = |file: &&SnapFile| file.kind() != snap_files::SnapKind::Db;
            files.iter().filter(is_snap).map(|file| (file.path().to_owned(), Some(file.stamp()))).collect()
        };
        if snap_files::list(dir).map(|now| stamps(&now)).ok() != Some(stamps(&self.snaps)) {
            return changed(dir.clone(), "got, lost or changed files");
        }
        Ok(())
    }
}

/// The first of the directories `inputs` in which `output` would lie, wherever links lead.
pub(crate) fn holding<'p>(mut inputs: impl Iterator<Item = &'p Path>, output: &Path) -> Option<&'p Path> {
    let absolute = std::path::absolute(output).unwrap_or_else(|_| output.to_owned());
    let there = absolute.ancestors().find_map(|path| path.canonicalize().ok())?;
    inputs.find(|input| input.canonicalize().is_ok_and(|input| there.starts_with(input)))
}

impl Segments for LogFiles {
    fn names(&self) -> &[SegmentName] {
        &self.listing.segments
    }

    fn piece(&self, at: usize) -> Piece<'_> {
        match self.opened.get(at) {
            Some(Opened::Bytes(source, _)) => read_piece(source),
            Some(Opened::Refused(message)) => Piece {
                bytes: Cow::Borrowed(&[]),
                unreadable: Some(Unreadable { offset: 0, message: message.clone() }),
            },
            None => Piece { bytes: Cow::Borrowed(&[]), unreadable: None },
        }
    }
}

/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// How much is read at once where a chunk could not be, in bytes: what disks give or refuse as a whole.
const SECTOR_BYTES: usize = 512;

/// All bytes of `source`, up to the first that cannot be read.
fn read_piece(source: &FileSource) -> Piece<'_> {
    let len_bytes = source.len_bytes();
    if let FileSource::Map(..) = source {
        return match source.bytes(0, len_bytes) {
            Ok(bytes) => Piece { bytes, unreadable: None },
            Err(error) => Piece {
                bytes: Cow::Borrowed(&[]),
                unreadable: Some(Unreadable { offset: 0, message: error.to_string() }),
            },
        };
    }
    let (bytes, unreadable) = read_all(source.file(), usize::try_from(len_bytes).unwrap_or(0));
    Piece { bytes: Cow::Owned(bytes), unreadable }
}

fn read_all(file: &File, len: usize) -> (Vec<u8>, Option<Unreadable>) {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    let mut step = CHUNK_BYTES;
    let unreadable = |offset: usize, message: String| Some(Unreadable { offset: offset as u64, message });
    while filled < len {
        let end = len.min(filled.saturating_add(step));
        let offset = filled as u64;
        let Some(room) = bytes.get_mut(filled..end) else { break };
        match file.read_at(room, offset) {
            Ok(0) => {
                bytes.truncate(filled);
                return (bytes, unreadable(filled, "the file was cut short while it was read".to_owned()));
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if step > SECTOR_BYTES => step = SECTOR_BYTES,
            Err(error) => {
                bytes.truncate(filled);
                return (bytes, unreadable(filled, error.to_string()));
            }
        }
    }
    (bytes, None)
}

/// What tells `watch` of the bytes of a log that were dealt with, and hears from it whether to go on.
pub(crate) fn progress(watch: &dyn Watch) -> impl Fn(u64) -> ControlFlow<()> + Sync + '_ {
    move |bytes| {
        watch.advance(bytes);
        if watch.interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
