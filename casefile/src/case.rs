//! A case, open for questions; making one, and putting a changed one in the place of the old.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bbolt::Watch;
use redb::{
    Builder, Database, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};
use snapshot::stage::{Kind, Stage};

use crate::container::{Container, Draft, finish};
use crate::error::CaseError;
use crate::lock::{lock, resolved};
use crate::place::Place;
use crate::source::Source;
use crate::value::Values;

/// This program's version, as a case names it.
pub const TOOL: &str = concat!("etcd-rescue ", env!("CARGO_PKG_VERSION"));

/// What redb may keep in memory, in bytes.
const CACHE_BYTES: usize = 64 << 20;

pub(crate) type Numbered<'a> = TableDefinition<'a, u64, &'static [u8]>;
pub(crate) type NumberedRows = ReadOnlyTable<u64, &'static [u8]>;

/// Number of a source: what is known of it, as JSON.
pub(crate) const SOURCES: Numbered<'static> = TableDefinition::new("sources");
/// Commands that changed the case, as JSON, in order.
pub(crate) const COMMANDS: Numbered<'static> = TableDefinition::new("custody.commands");
/// Seals, as JSON, in order.
pub(crate) const SEALS: Numbered<'static> = TableDefinition::new("custody.seals");

/// A table of one source.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// First ordinal: a block of records.
    Blocks,
    /// First number: keys and the ordinals of their records.
    Keys,
    /// First ordinal: values, where they were asked for.
    Values,
    /// First ordinal: entries of the log.
    Log,
    /// First number: keys that entries name, and the ordinals of the entries.
    LogKeys,
    /// Ordinals of entries that name ranges, or take leases and with them keys.
    LogRanges,
    /// First page: runs of pages.
    Pages,
}

impl Part {
    /// The table's name in the case.
    pub(crate) fn of(self, source: u32) -> String {
        let part = match self {
            Self::Blocks => "blocks",
            Self::Keys => "keys",
            Self::Values => "values",
            Self::Log => "log",
            Self::LogKeys => "log-keys",
            Self::LogRanges => "log-ranges",
            Self::Pages => "pages",
        };
        format!("s{source}.{part}")
    }
}

/// A command that changed the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The command line, as it was given.
    pub line: String,
    /// The program's name and version.
    pub tool: String,
    /// The names of the sources that it added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
}

impl Command {
    pub(crate) fn now(line: &str) -> Self {
        Self { line: line.to_owned(), tool: TOOL.to_owned(), added: Vec::new() }
    }
}

/// A case, open for questions. Nobody can change what it answers from: a writer makes a new file.
pub struct Case {
    pub(crate) path: PathBuf,
    pub(crate) sources: Vec<Source>,
    /// Sources that lie elsewhere now, by number.
    pub(crate) places: BTreeMap<u32, Place>,
    pub(crate) values: Values,
    pub(crate) read: ReadTransaction,
    // Behind the transaction, which must go first.
    _database: ReadOnlyDatabase,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case")
            .field("path", &self.path)
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl Case {
    /// Makes an empty case at `path`, where nothing may be. `command` is the command line that did it.
    ///
    /// # Errors
    /// When something is there, or the system refuses; nothing is left behind.
    pub fn create(path: &Path, command: &str) -> Result<(), CaseError> {
        let stage = Stage::new(path, Kind::File)?;
        let (file, draft) = handles(&stage)?;
        let mut database = draft_in(draft)?;
        let write = database.begin_write()?;
        {
            write.open_table(SOURCES)?;
            write.open_table(SEALS)?;
            let mut commands = write.open_table(COMMANDS)?;
            commands.insert(0, serde_json::to_vec(&Command::now(command))?.as_slice())?;
        }
        write.commit()?;
        database.compact()?;
        database.close()?;
        finish(&file).map_err(|source| CaseError::Io { path: path.to_owned(), source })?;
        Ok(stage.commit(None)?)
    }

    /// Opens the case at `path` for reading.
    ///
    /// # Errors
    /// When it is no case file, of another version, or damaged as far as that shows here.
    pub fn open(path: &Path) -> Result<Self, CaseError> {
        Self::of(path, Container::open(path)?)
    }

    pub(crate) fn of(path: &Path, container: Container) -> Result<Self, CaseError> {
        Self::loaded(path, container).map_err(|error| error.about(path))
    }

    fn loaded(path: &Path, container: Container) -> Result<Self, CaseError> {
        let database = builder().open_read_only_with_backend(container)?;
        let read = redb::ReadableDatabase::begin_read(&database)?;
        let mut sources: Vec<Source> = Vec::new();
        for row in read.open_table(SOURCES)?.range::<u64>(..)? {
            sources.push(serde_json::from_slice(row?.1.value())?);
        }
        Ok(Self {
            path: path.to_owned(),
            sources,
            places: BTreeMap::new(),
            values: Values::default(),
            read,
            _database: database,
        })
    }

    /// Where the case is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was added, in the order of adding: a source's number is its place.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The source of this name.
    ///
    /// # Errors
    /// [`CaseError::NoSource`], with the names there are.
    pub fn source(&self, name: &str) -> Result<&Source, CaseError> {
        self.sources.iter().find(|source| source.name == name).ok_or_else(|| CaseError::NoSource {
            name: name.to_owned(),
            known: self.sources.iter().map(|source| source.name.clone()).collect(),
        })
    }

    /// The commands that made the case what it is, in order.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn commands(&self) -> Result<Vec<Command>, CaseError> {
        let table = self.read.open_table(COMMANDS)?;
        table.range::<u64>(..)?.map(|row| Ok(serde_json::from_slice(row?.1.value())?)).collect()
    }

    /// A table of a source; `None` when it has none.
    pub(crate) fn part(&self, part: Part, source: u32) -> Result<Option<NumberedRows>, CaseError> {
        match self.read.open_table(TableDefinition::<u64, &[u8]>::new(&part.of(source))) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A database in the making in `file`, which is empty.
pub(crate) fn draft_in(file: File) -> Result<Database, CaseError> {
    Ok(builder().create_with_backend(Draft(file))?)
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Two handles of the staged file: one to finish it by, and one for redb.
fn handles(stage: &Stage) -> Result<(File, File), CaseError> {
    let refused = |source| CaseError::Io { path: stage.path().to_owned(), source };
    let file = stage.file().ok_or_else(|| refused(io::Error::from(io::ErrorKind::IsADirectory)))?;
    Ok((file.try_clone().map_err(refused)?, file.try_clone().map_err(refused)?))
}

/// A case that is being changed: locked, and read as it was.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) case: Case,
    file: File,
}

impl Locked {
    /// Locks the case at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, CaseError> {
        // The file itself is replaced, and not a link to it.
        let path = &resolved(path)?;
        // What is no case is told before anybody is waited for.
        Container::open(path)?;
        let file = lock(path)?;
        let again = file.try_clone().map_err(|source| CaseError::Io { path: path.to_owned(), source })?;
        Ok(Self { case: Case::of(path, Container::of(path, again)?)?, file })
    }

    /// Whether `path` leads to this case.
    pub(crate) fn is(&self, path: &Path) -> bool {
        let id = |meta: io::Result<Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
        let own = id(self.file.metadata());
        own.is_some() && own == id(path.metadata())
    }

    /// Puts a case in the place of this one that has what `change` writes besides. Whatever ends it early leaves the old one. A command
    /// that `continues` is the one that was recorded last.
    pub(crate) fn change<E: From<CaseError>>(
        self,
        command: &Command,
        continues: bool,
        watch: &dyn Watch,
        change: impl FnOnce(&WriteTransaction) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.case.path.clone();
        let (stage, file, database) = self.draft(watch).map_err(|error| error.about(&path))?;
        let write = database.begin_write().map_err(CaseError::from)?;
        change(&write)?;
        if watch.interrupted() {
            return Err(CaseError::Interrupted.into());
        }
        let done = || -> Result<(), CaseError> {
            record(&write, command, continues)?;
            write.commit()?;
            let mut database = database;
            database.compact()?;
            database.close()?;
            let refused = |source| CaseError::Io { path: path.clone(), source };
            finish(&file).map_err(refused)?;
            keep_mode(&file, &self.file).map_err(refused)?;
            Ok(stage.replace(&self.file)?)
        };
        Ok(done().map_err(|error| error.about(&path))?)
    }

    fn draft(&self, watch: &dyn Watch) -> Result<(Stage, File, Database), CaseError> {
        let path = &self.case.path;
        let stage = Stage::for_replacement(path)?;
        let (file, draft) = handles(&stage)?;
        Container::open(path)?.copy_to(&file, watch)?;
        let database = builder()
            .create_with_backend(Draft(draft))
            .map_err(|error| CaseError::from(error).about(path))?;
        Ok((stage, file, database))
    }
}

/// Records the command that changes the case: once, however many sources it adds.
fn record(write: &WriteTransaction, command: &Command, continues: bool) -> Result<(), CaseError> {
    let mut table = write.open_table(COMMANDS)?;
    let last = match table.last()? {
        Some((number, row)) => Some((number.value(), serde_json::from_slice::<Command>(row.value())?)),
        None => None,
    };
    let (number, row) = match last {
        Some((number, mut row)) if continues && (&row.line, &row.tool) == (&command.line, &command.tool) => {
            row.added.extend(command.added.iter().cloned());
            (number, row)
        }
        Some((number, _)) => (number + 1, command.clone()),
        None => (0, command.clone()),
    };
    table.insert(number, serde_json::to_vec(&row)?.as_slice())?;
    Ok(())
}

/// Gives the new file the owner and the mode of the old one. Where the group cannot be kept, no group gets what another had.
fn keep_mode(new: &File, old: &File) -> io::Result<()> {
    let (meta, made) = (old.metadata()?, new.metadata()?);
    let mut mode = meta.mode() & 0o777;
    if (meta.uid(), meta.gid()) != (made.uid(), made.gid())
        && std::os::unix::fs::fchown(new, Some(meta.uid()), Some(meta.gid())).is_err()
        && meta.gid() != made.gid()
    {
        mode &= 0o707;
    }
    new.set_permissions(Permissions::from_mode(mode))
}

/// Adds a row behind the last of `table`.
pub(crate) fn append(write: &WriteTransaction, table: Numbered<'_>, row: &[u8]) -> Result<(), CaseError> {
    let mut table = write.open_table(table)?;
    let next = table.last()?.map_or(0, |(number, _)| number.value() + 1);
    table.insert(next, row)?;
    Ok(())
}
