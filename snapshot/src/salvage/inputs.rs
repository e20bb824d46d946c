//! The inputs of a salvage: whatever the user has of one member, opened for reading only.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use bbolt::file::{FileError, open_read_only, take_lock};
use bbolt::holes::Holes;
use bbolt::page_file::PageFile;
use bbolt::{FileSource, Io, Source, SourceError, Watch};

use super::report::InputKind;
use super::{MOST_SOURCES, SalvageError, SalvageOptions};
use crate::datadir::{Kind, LocateError};
use crate::input::InputError;
use crate::integrity::Changed;
use crate::log_files::{self, LogFiles, LogFilesError, LogOptions};
use crate::opened::{self, OpenError, Opened};
use crate::snap_files::{self, SnapKind};

/// The bytes of a database file, wherever they are.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// A file, opened as all jobs do, unpacked where that was needed.
    Opened(Opened),
    /// A file whose very beginning the disk refuses, so that it cannot be asked what it is.
    Plain(FileSource),
    /// Bytes in memory: for tests and fuzzing.
    Memory(Vec<u8>),
}

impl Source for Bytes {
    fn len_bytes(&self) -> u64 {
        match self {
            Self::Opened(opened) => opened.source().len_bytes(),
            Self::Plain(file) => file.len_bytes(),
            Self::Memory(bytes) => bytes.len_bytes(),
        }
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        match self {
            Self::Opened(opened) => opened.source().bytes(offset, len),
            Self::Plain(file) => file.bytes(offset, len),
            Self::Memory(bytes) => bytes.bytes(offset, len),
        }
    }

    fn will_read(&self, offset: u64, len: u64) {
        match self {
            Self::Opened(opened) => opened.source().will_read(offset, len),
            Self::Plain(file) => file.will_read(offset, len),
            Self::Memory(_) => {}
        }
    }
}

/// A database file as pages, without what must not be read of it.
pub(crate) type Pages = PageFile<Holes<Bytes>>;

/// One database file that was opened.
#[derive(Debug)]
pub(crate) struct Input {
    /// What the user gave.
    pub(crate) path: PathBuf,
    /// The file itself.
    pub(crate) file: PathBuf,
    /// What it is.
    pub(crate) kind: InputKind,
    /// Its bytes.
    pub(crate) bytes: Holes<Bytes>,
    /// What was done to open it, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// All that was opened.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) files: Vec<Input>,
    /// The logs, each with the `.snap` files beside it.
    pub(crate) logs: Vec<LogFiles>,
}

/// Makes sure that nobody wrote to a file since it was opened.
pub(crate) fn ensure_unchanged(bytes: &Bytes) -> Result<(), Changed> {
    match bytes {
        Bytes::Opened(opened) => opened.ensure_not_written_to(),
        Bytes::Plain(_) | Bytes::Memory(_) => Ok(()),
    }
}

impl Inputs {
    /// Opens all of `paths`: files, member dirs, data dirs, with the log and the received databases that lie beside them.
    pub(crate) fn open(
        paths: &[PathBuf],
        options: &SalvageOptions,
        watch: &dyn Watch,
    ) -> Result<Self, SalvageError> {
        let mut inputs = Self::default();
        for path in paths {
            inputs.add(path, options, watch)?;
        }
        // Beside others an empty file is only a loss; alone it is the wrong file.
        if inputs.logs.is_empty()
            && options.wal_dir.is_none()
            && let Some(first) = inputs.files.first()
            && inputs.files.iter().all(|input| input.bytes.len_bytes() == 0)
        {
            return Err(SalvageError::Open(OpenError::Input(InputError::Empty(first.file.clone()))));
        }
        if let Some(wal_dir) =
            options.wal_dir.as_deref().filter(|_| inputs.logs.is_empty() && !options.no_replay)
        {
            inputs.push_log(log_files::open(wal_dir, &log_options(options, None), watch)?);
        }
        // Without a segment it is another directory than was meant: silence would leave the log out.
        if let Some(wal_dir) = options.wal_dir.as_deref().filter(|_| !options.no_replay)
            && inputs.logs.iter().all(|log| log.listing().segments.is_empty())
        {
            let error = LocateError::NoLog { path: wal_dir.to_owned() };
            return Err(LogFilesError::Locate(error).into());
        }
        if inputs.files.len() > MOST_SOURCES {
            return Err(SalvageError::TooMany { found: inputs.files.len() });
        }
        Ok(inputs)
    }

    fn add(&mut self, path: &Path, options: &SalvageOptions, watch: &dyn Watch) -> Result<(), SalvageError> {
        let is_dir = path.is_dir();
        let mut nothing = None;
        match open(path, options, watch) {
            Ok((bytes, file, kind, notes)) => self.push(path, file, kind, bytes, notes, options)?,
            // The log alone may be enough, and so may a database that the member was sent.
            Err(SalvageError::Open(OpenError::Locate(error))) if is_dir && error.is_no_database() => {
                nothing = Some(error);
            }
            Err(error) => return Err(error),
        }
        if !is_dir {
            return Ok(());
        }
        for snap in [path.join("member/snap"), path.join("snap")] {
            for received in snap_files::list(&snap).unwrap_or_default() {
                if let SnapKind::Database { .. } = received.kind() {
                    let (bytes, file, _, notes) = open(received.path(), options, watch)?;
                    self.push(path, file, InputKind::Received, bytes, notes, options)?;
                    nothing = None;
                }
            }
        }
        if !options.no_replay {
            match log_files::open(path, &log_options(options, options.wal_dir.clone()), watch) {
                Ok(files) => {
                    self.push_log(files);
                    nothing = None;
                }
                // A member whose log lies elsewhere, or a directory of snapshots.
                Err(LogFilesError::NoLog { .. } | LogFilesError::Locate(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        nothing.map_or(Ok(()), |error| Err(SalvageError::Open(OpenError::Locate(error))))
    }

    /// Adds a log, unless it was given before.
    fn push_log(&mut self, files: LogFiles) {
        if !self.logs.iter().any(|log| is_same(log.wal_dir(), files.wal_dir())) {
            self.logs.push(files);
        }
    }

    fn push(
        &mut self,
        path: &Path,
        file: PathBuf,
        kind: InputKind,
        bytes: Bytes,
        notes: Vec<String>,
        options: &SalvageOptions,
    ) -> Result<(), SalvageError> {
        if self.files.iter().any(|input| is_same(&input.file, &file)) {
            return Ok(());
        }
        // Of a directory a map is that of its database, not of those that the member was sent.
        let is_named = |of: &Path| is_same(of, &file) || (kind != InputKind::Received && is_same(of, path));
        let is_alone = kind != InputKind::Received;
        let maps = options.bad_maps.iter();
        let mut of_this = maps.filter(|(of, _)| of.as_deref().map_or(is_alone, is_named)).peekable();
        if of_this.peek().is_some() && matches!(&bytes, Bytes::Opened(opened) if !opened.is_in_place()) {
            return Err(SalvageError::MapOfPacked { path: file.display().to_string() });
        }
        let bad = of_this.flat_map(|(_, ranges)| ranges.iter().cloned()).collect();
        self.files.push(Input { path: path.to_owned(), file, kind, bytes: Holes::new(bytes, bad), notes });
        Ok(())
    }

    /// Bytes in memory as the inputs.
    pub(crate) fn of_memory(files: Vec<Vec<u8>>) -> Self {
        let input = |(number, bytes): (usize, Vec<u8>)| {
            let name = PathBuf::from(format!("memory:{number}"));
            let bytes = Holes::new(Bytes::Memory(bytes), Vec::new());
            Input { path: name.clone(), file: name, kind: InputKind::Memory, bytes, notes: Vec::new() }
        };
        Self { files: files.into_iter().enumerate().map(input).collect(), logs: Vec::new() }
    }
}

/// Whether two paths lead to the same place.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

fn log_options(options: &SalvageOptions, wal_dir: Option<PathBuf>) -> LogOptions {
    LogOptions { io: options.input.open.io, lock: options.input.open.lock, wal_dir }
}

type Found = (Bytes, PathBuf, InputKind, Vec<String>);

fn open(path: &Path, options: &SalvageOptions, watch: &dyn Watch) -> Result<Found, SalvageError> {
    match opened::open(path, &options.input, watch) {
        Ok(opened) => {
            let kind = match opened.kind() {
                Kind::File => InputKind::File,
                Kind::MemberDir | Kind::DataDir => InputKind::Member,
            };
            let (file, notes) = (opened.db_path().to_owned(), opened.notes().to_vec());
            Ok((Bytes::Opened(opened), file, kind, notes))
        }
        Err(OpenError::Input(InputError::Unreadable { path: file, error })) => {
            let refused = |source| OpenError::File(FileError::Io { path: file.clone(), source });
            let opened = open_read_only(&file).map_err(refused)?;
            take_lock(&opened, &file, options.input.open.lock, watch).map_err(OpenError::File)?;
            let source = FileSource::new(opened, &file, Io::Pread).map_err(refused)?;
            let note = format!(
                "its very beginning cannot be read ({error}), so it was taken for a plain database and is read with pread"
            );
            Ok((Bytes::Plain(source), file, InputKind::File, vec![note]))
        }
        Err(OpenError::Input(InputError::Corrupt { path, kind, after_bytes, error })) if after_bytes > 0 => {
            let (path, error) = (path.display().to_string(), error.to_string());
            Err(SalvageError::CutPacked { path, kind, after_bytes, error })
        }
        // A file that was lost whole, as after a power cut: the log or other files may have what stood in it.
        Err(OpenError::Input(InputError::Empty(file))) => {
            let kind = if path.is_dir() { InputKind::Member } else { InputKind::File };
            Ok((
                Bytes::Memory(Vec::new()),
                file,
                kind,
                vec!["it is empty: it has no bytes at all".to_owned()],
            ))
        }
        Err(OpenError::Input(InputError::Interrupted) | OpenError::File(FileError::Interrupted)) => {
            Err(SalvageError::Interrupted)
        }
        Err(error) => Err(error.into()),
    }
}
