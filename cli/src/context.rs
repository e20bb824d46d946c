//! The global flags, resolved once into plain values.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bbolt::{Io, Lock, OpenOptions};
use snapshot::facts::FactsOptions;
use snapshot::log_files::LogOptions;
use snapshot::opened::{self, InputOptions, Opened};
use snapshot::seen::SeenOptions;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{GlobalArgs, IoArg, LogLevel};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::outcome::Note;
use crate::output::{self, Format};
use crate::progress::{LogWriter, Progress};

/// What every command knows.
#[derive(Debug)]
pub(crate) struct Context {
    /// How the result is written; protobuf only for a command that has it.
    pub(crate) format: Format,
    /// What the job reports to.
    pub(crate) watch: Arc<Progress>,
    /// Whether only warnings are told, for those who tell before the end.
    pub(crate) quiet: bool,
    input: InputOptions,
}

impl Context {
    /// Resolves `args`, and starts the log.
    ///
    /// # Errors
    /// When the output format is protobuf, and the command does not have it.
    pub(crate) fn new(args: &GlobalArgs, has_protobuf: bool, interrupt: Interrupt) -> Result<Self, Failure> {
        if args.write_out == Format::Protobuf && !has_protobuf {
            return Err(output::no_protobuf());
        }
        let watch = Arc::new(Progress::new(interrupt, args.quiet));
        let level = match args.log_level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        };
        let log = LogWriter(Arc::clone(&watch));
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || log.clone())
            .init();
        let lock = if args.no_lock {
            Lock::None
        } else {
            Lock::Shared { timeout: (!args.timeout.is_zero()).then_some(args.timeout) }
        };
        let io = match args.io {
            IoArg::Mmap => Io::Mmap,
            IoArg::Pread => Io::Pread,
        };
        let input = InputOptions { open: OpenOptions { io, lock }, tmp_dir: args.tmp_dir.clone() };
        Ok(Self { format: args.write_out, watch, quiet: args.quiet, input })
    }

    /// How files are read.
    pub(crate) fn io(&self) -> Io {
        self.input.open.io
    }

    /// Where large things are put that are needed while the job runs.
    pub(crate) fn tmp_dir(&self) -> PathBuf {
        self.input.tmp_dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// How a database is opened, where it is not the input.
    pub(crate) fn open_options(&self) -> OpenOptions {
        self.input.open
    }

    /// How what the user points at is opened.
    pub(crate) fn input_options(&self) -> InputOptions {
        self.input.clone()
    }

    /// How a log is opened whose directory is `wal_dir`, where it has one of its own.
    pub(crate) fn log_options(&self, wal_dir: Option<&Path>) -> LogOptions {
        let OpenOptions { io, lock } = self.input.open;
        LogOptions { io, lock, wal_dir: wal_dir.map(Path::to_owned) }
    }

    /// How what is left of a cluster is opened, to see how far it had come.
    pub(crate) fn seen_options(&self) -> SeenOptions {
        SeenOptions { input: self.input.clone(), log: self.log_options(None) }
    }

    /// How all that lies at a path is opened.
    pub(crate) fn facts_options(&self, wal_dir: Option<&Path>) -> FactsOptions {
        FactsOptions { input: self.input.clone(), log: self.log_options(wal_dir) }
    }

    /// Opens the database in a data dir under the lock a server takes, for it is to be replaced.
    ///
    /// # Errors
    /// When there is no database, a server holds it, or `--no-lock` was given.
    pub(crate) fn open_to_replace(&self, data_dir: &Path) -> Result<(Opened, Vec<Note>), Failure> {
        let Lock::Shared { timeout } = self.input.open.lock else {
            return Err(Failure::usage(
                "--no-lock: the database is replaced, and only its lock tells that no server runs on it; leave --no-lock \
                 out, or write a copy with -o OUT",
            ));
        };
        let open = OpenOptions { lock: Lock::Exclusive { timeout }, ..self.input.open };
        let input =
            opened::open(data_dir, &InputOptions { open, ..self.input.clone() }, self.watch.as_ref())?;
        let notes = input.notes().iter().cloned().map(Note::Prose).collect();
        Ok((input, notes))
    }

    /// Opens what the user points at; the notes say what that took.
    ///
    /// # Errors
    /// When there is nothing there that can be read.
    pub(crate) fn open(&self, path: &Path) -> Result<(Opened, Vec<Note>), Failure> {
        let input = opened::open(path, &self.input, self.watch.as_ref())?;
        let notes = input.notes().iter().cloned().map(Note::Prose).collect();
        Ok((input, notes))
    }
}
