//! The inputs of a salvage: whatever the user has of one member, opened for reading only.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use bbolt::file::{FileError, open_read_only, take_lock};
use bbolt::holes::Holes;
use bbolt::page_file::PageFile;
use bbolt::{FileSource, Io, Source, SourceError, Watch};

use super::report::InputKind;
use super::{MOST_SOURCES, SalvageError, SalvageOptions};
use crate::datadir::Kind;
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
        if let Some(wal_dir) =
            options.wal_dir.as_deref().filter(|_| inputs.logs.is_empty() && !options.no_replay)
        {
            let files = log_files::open(wal_dir, &log_options(options, None), watch)?;
            inputs.logs.push(files);
        }
        if inputs.files.len() > MOST_SOURCES {
            return Err(SalvageError::TooMany { found: inputs.files.len() });
        }
        Ok(inputs)
    }

    fn add(&mut self, path: &Path, options: &SalvageOptions, watch: &dyn Watch) -> Result<(), SalvageError> {
        let is_dir = path.is_dir();
        match open(path, options, watch) {
            Ok((bytes, file, kind, notes)) => self.push(path, file, kind, bytes, notes, options),
            // The log alone may be enough, and so may a database that the member was sent.
            Err(SalvageError::Open(OpenError::Locate(error))) if is_dir && error.is_no_database() => {}
            Err(error) => return Err(error),
        }
        if !is_dir {
            return Ok(());
        }
        for snap in [path.join("member/snap"), path.join("snap")] {
            for received in snap_files::list(&snap).unwrap_or_default() {
                if let SnapKind::Database { .. } = received.kind() {
                    let (bytes, file, _, notes) = open(received.path(), options, watch)?;
                    self.push(path, file, InputKind::Received, bytes, notes, options);
                }
            }
        }
        if options.no_replay {
            return Ok(());
        }
        match log_files::open(path, &log_options(options, options.wal_dir.clone()), watch) {
            Ok(files) => self.logs.push(files),
            // A member whose log lies elsewhere, or a directory of snapshots.
            Err(LogFilesError::NoLog { .. } | LogFilesError::Locate(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn push(
        &mut self,
        path: &Path,
        file: PathBuf,
        kind: InputKind,
        bytes: Bytes,
        notes: Vec<String>,
        options: &SalvageOptions,
    ) {
        let is_same = |a: &Path, b: &Path| {
            a == b || a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b))
        };
        if self.files.iter().any(|input| is_same(&input.file, &file)) {
            return;
        }
        let maps = options.bad_maps.iter();
        let of_this =
            maps.filter(|(of, _)| of.as_deref().is_none_or(|of| is_same(of, path) || is_same(of, &file)));
        let bad = of_this.flat_map(|(_, ranges)| ranges.iter().cloned()).collect();
        self.files.push(Input { path: path.to_owned(), file, kind, bytes: Holes::new(bytes, bad), notes });
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
        Err(OpenError::Input(InputError::Interrupted) | OpenError::File(FileError::Interrupted)) => {
            Err(SalvageError::Interrupted)
        }
        Err(error) => Err(error.into()),
    }
}
