//! `case add`: a source read once, and everything in it with where it stands.
//!
//! While one part of the cores computes the hashes of all files, the rest verifies the source as `verify` does; then the trees of
//! its database are walked past whatever is wrong with them, and its log is read past every break. The case is only changed when all
//! that is done and nobody wrote to the source meanwhile.

pub(crate) mod files;
mod log;
pub(crate) mod pages;
mod records;
mod source;
mod values;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bbolt::reach::{Start, reach};
use bbolt::{FileSource, PageFile, Source as _, Watch};
use snapshot::facts::{FactsError, FactsOptions, look};
use snapshot::finding::Finding;
use snapshot::integrity::{HashingError, sha256, verify_whole};
use snapshot::mvcc::Revision;
use snapshot::schema::KEY;
use snapshot::verify::{Report, VerifyError, verify_hashed};

pub use files::MOST_FILES;

use crate::case::{Command, Locked, SOURCES};
use crate::error::CaseError;
use crate::place::Place;
use crate::source::{KeySpace, Source, SourceFile};
use files::Found;

/// How a source is added.
#[derive(Debug, Clone, Default)]
pub struct AddOptions {
    /// How its files are opened, and where its log lies where etcd was given a directory of its own for it.
    pub facts: FactsOptions,
    /// Whether the values go into the case.
    pub embed_values: bool,
    /// Who adds it, as that person wishes to be named.
    pub examiner: Option<String>,
    /// What that person notes.
    pub note: Option<String>,
    /// The command line that does it, for the custody of the case.
    pub command: String,
    /// Whether that command line added a source before this one: it is recorded once.
    pub continues: bool,
}

/// What came of adding a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// What the case keeps of it.
    pub source: Source,
    /// True when the same files were in the case under this name: nothing was done.
    pub was_there: bool,
}

/// Why a source was not added. The case is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// The case cannot be read or written.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// The name is none.
    #[error("{name:?} is no name for a source: it is empty, or has '=' or a control character in it")]
    Name {
        /// What was given.
        name: String,
    },
    /// The source cannot be verified at all.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// There is nothing at the path.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// A file of the source cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Somebody wrote to a file of the source.
    #[error("{}: was written to while it was read; the case is as it was. Stop what writes to it, or copy it first", path.display())]
    Written {
        /// The file.
        path: PathBuf,
    },
    /// The name is taken by other files.
    #[error(
        "{name}: the case has a source of this name, and these files of it are others now: {}. Evidence that changed is not \
         replaced; give it a name of its own, or find out who changed it",
        listed(files)
    )]
    Changed {
        /// The name.
        name: String,
        /// Files that differ, are gone or are new, as the case names them.
        files: Vec<String>,
    },
    /// The source is there, and its values are to be put in the case.
    #[error(
        "{name}: the case has this source, without its values, and they are not added to it. Add it under another name with \
         --embed-values, or make a new case"
    )]
    WithoutValues {
        /// The name.
        name: String,
    },
    /// The case lies within the source.
    #[error(
        "{}: is this case itself, and lies among the files of the source: it would change what it is evidence of. Make the case \
         elsewhere", path.display()
    )]
    Itself {
        /// The case, as the source has it.
        path: PathBuf,
    },
    /// More files than a source may have.
    #[error("{}: has more than {MOST_FILES} files; give the data dir itself", path.display())]
    TooManyFiles {
        /// The path.
        path: PathBuf,
    },
    /// More records than there are numbers for.
    #[error("the database has more than {most} records, too many for a case")]
    TooManyRecords {
        /// How many there may be.
        most: u64,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Files that are named of those that changed.
const MOST_NAMED: usize = 8;

fn listed(files: &[String]) -> String {
    let some = files.get(..MOST_NAMED.min(files.len())).unwrap_or_default().join(", ");
    match files.len().checked_sub(MOST_NAMED) {
        None | Some(0) => some,
        Some(more) => format!("{some} and {more} more"),
    }
}

impl AddError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Case(error) => error.exit_code(),
            Self::Verify(error) => error.exit_code(),
            Self::Interrupted | Self::Facts(FactsError::Interrupted) => 130,
            _ => 1,
        }
    }

    /// Findings that go with it: none.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// What was read of a source, before it is written.
struct Read {
    records: Option<records::Records>,
    key_space: Option<KeySpace>,
    pages: Option<pages::Pages>,
    entries: Option<log::Entries>,
}

/// Adds what lies at `path` to the case at `case`, under `name`.
///
/// # Errors
/// [`AddError`]; the case is as it was. Damage of the source is no error but what the case says of it.
pub fn add(
    case: &Path,
    name: &str,
    path: &Path,
    options: &AddOptions,
    watch: &dyn Watch,
) -> Result<Added, AddError> {
    if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
        return Err(AddError::Name { name: name.to_owned() });
    }
    let locked = Locked::open(case)?;
    // Where it lies is kept, so that it is found again from anywhere.
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| AddError::File { path: path.to_owned(), source })
    };
    let (path, mut facts) = (&absolute(path)?, options.facts.clone());
    facts.log.wal_dir = facts.log.wal_dir.as_deref().map(absolute).transpose()?;
    let place_at = Place::new(path, facts.log.wal_dir.as_deref());
    let looked = look(path, place_at.wal_dir())?;
    let found = files::find(path, place_at.wal_dir(), &looked)?;
    if let Some(file) = found.iter().find(|file| locked.is(&file.path)) {
        return Err(AddError::Itself { path: file.path.clone() });
    }
    let io = options.facts.input.open.io;
    watch.begin("hashing", found.iter().map(|file| file.len_bytes).sum());
    if let Some(known) = locked.case.sources().iter().find(|source| source.name == name) {
        let files = files::hash(&found, io, watch)?;
        let differing = files::differing(&known.files, &files);
        if differing.is_empty() {
            if options.embed_values && !known.has_values && known.key_space.is_some() {
                return Err(AddError::WithoutValues { name: name.to_owned() });
            }
            return Ok(Added { source: known.clone(), was_there: true });
        }
        return Err(AddError::Changed { name: name.to_owned(), files: differing });
    }
    let place = looked.db.as_deref().and_then(|path| place_of(path, &found));
    let (report, files) = verified(path, &facts, &found, place, watch)?;
    let database = report.facts.database.as_ref().and_then(|database| database.as_ref().ok());
    let database = database.map(|database| &database.input);
    let read = read(&report, watch)?;
    let number = u32::try_from(locked.case.sources().len()).unwrap_or(u32::MAX);
    let given = source::Given { number, name, options, found: &found, place: &place_at };
    let source = source::describe(&given, &report, &read, files, place);
    files::ensure_unchanged(&found)?;
    let command = Command { added: vec![name.to_owned()], ..Command::now(&options.command) };
    let changed = locked.change::<AddError>(&command, options.continues, watch, |write| {
        if let Some(records) = &read.records {
            records.write(write, number)?;
            if let Some(input) = database.filter(|_| options.embed_values) {
                values::write(write, number, input.source(), watch)?;
            }
        }
        if let Some(pages) = &read.pages {
            pages.write(write, number)?;
        }
        if let Some(entries) = &read.entries {
            entries.write(write, number)?;
        }
        let row = serde_json::to_vec(&source).map_err(CaseError::from)?;
        crate::case::append(write, SOURCES, &row)?;
        files::ensure_unchanged(&found)
    });
    changed.map_err(|error| match error {
        AddError::Case(error) => AddError::Case(error.about(case)),
        other => other,
    })?;
    Ok(Added { source, was_there: false })
}

/// The place of the file at `path` among those that were found.
fn place_of(path: &Path, found: &[Found]) -> Option<usize> {
    let same = |file: &&Found| file.path == path || file.path.canonicalize().ok() == path.canonicalize().ok();
    let place = found.iter().position(|file| file.path == path);
    place.or_else(|| found.iter().find(same).and_then(|file| found.iter().position(|other| other == file)))
}

/// Length and hash of what a packed database was unpacked to, where that is none; `None` when it cannot be read.
fn unpacked(source: &FileSource, watch: &dyn Watch) -> Result<Option<(u64, String)>, AddError> {
    match sha256(source, source.len_bytes(), watch) {
        Ok(digest) => Ok(Some((source.len_bytes(), digest.to_string()))),
        Err(HashingError::Interrupted) => Err(AddError::Interrupted),
        Err(HashingError::Source(_)) => Ok(None),
    }
}

/// What `verify` finds, and all files with their hashes. The database, at `place`, is read once for its hash and its trailer.
fn verified(
    path: &Path,
    facts: &FactsOptions,
    found: &[Found],
    place: Option<usize>,
    watch: &dyn Watch,
) -> Result<(Report, Vec<SourceFile>), AddError> {
    let io = facts.input.open.io;
    let mut others = found.to_vec();
    let database = place.filter(|place| *place < others.len()).map(|place| (place, others.remove(place)));
    let whole = OnceLock::new();
    let hash = |source: &FileSource| {
        let (verdict, digest) = verify_whole(source, watch)?;
        _ = whole.set((source.len_bytes(), digest.to_string()));
        Ok(verdict)
    };
    let quiet = bbolt::Unmetered(watch);
    let (hashed, report) =
        rayon::join(|| files::hash(&others, io, watch), || verify_hashed(path, facts, &hash, &quiet));
    let (mut files, report) = (hashed?, report?);
    if let Some((place, file)) = database {
        let input = report.facts.database.as_ref().and_then(|database| database.as_ref().ok());
        let is_packed = input.is_some_and(|database| !database.input.notes().is_empty());
        let known = match (whole.into_inner(), input) {
            (None, Some(database)) if is_packed => unpacked(database.input.source(), watch)?,
            (known, _) => known,
        };
        let hashed = match known.clone().filter(|_| !is_packed) {
            Some((_, sha256)) => file.hashed(sha256),
            None => files::hash_one(&file, io, watch)?,
        };
        // Of a packed one, what it was unpacked to.
        files.insert(place, SourceFile { unpacked: known.filter(|_| is_packed), ..hashed });
    }
    Ok((report, files))
}

fn read(report: &Report, watch: &dyn Watch) -> Result<Read, AddError> {
    let mut read = Read { records: None, key_space: None, pages: None, entries: None };
    if let Some(Ok(database)) = &report.facts.database {
        read_database(database.input.source(), &mut read, watch)?;
        if let (Some(space), Some(facts)) = (&mut read.key_space, report.facts.database_facts()) {
            let schema = &facts.schema;
            space.compacted = schema.finished_compact.max(schema.scheduled_compact);
            space.revision = space.last.max(space.compacted.unwrap_or_default()).max(1);
            space.consistent_index = schema.consistent_index;
            space.term = schema.term;
        }
    }
    if let Some(facts) = report.facts.log_facts() {
        watch.begin("reading the log", facts.files.len_bytes());
        read.entries = Some(log::read(&facts.files, &facts.report.log, watch)?);
    }
    Ok(read)
}

fn read_database(source: &FileSource, read: &mut Read, watch: &dyn Watch) -> Result<(), AddError> {
    let Ok(file) = PageFile::new(source, None) else { return Ok(()) };
    let Some(root) = file.meta().map(|meta| meta.root) else { return Ok(()) };
    let is_records = |name: &[u8], node: &bbolt::Node<'_>| {
        name != KEY || node.count() == 0 || Revision::parse(node.key(0)).is_some()
    };
    watch.begin("walking the pages", source.len_bytes());
    let Ok(tree) = reach(&file, Start::Page(root), &is_records, watch) else {
        return Err(AddError::Interrupted);
    };
    read.pages = Some(pages::map(&file, &tree));
    let Some(bucket) = tree.bucket(KEY) else { return Ok(()) };
    watch.begin("reading", bucket.leaves.len() as u64 * u64::from(file.page_size()));
    let records = records::read(&file, bucket, watch)?;
    let mut space = records.summary();
    let bound = |key: &[u8]| Revision::parse(key).map(|revision| revision.main);
    space.holes = bucket
        .holes
        .iter()
        .map(|hole| (bound(&hole.from).unwrap_or(0), hole.to.as_deref().and_then(bound)))
        .collect();
    space.revision = space.last.max(1);
    read.records = Some(records);
    read.key_space = Some(space);
    Ok(())
}
