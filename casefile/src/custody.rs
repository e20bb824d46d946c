//! Custody: what a case says of its evidence, sealed; and whether evidence and case are still what they were.

use std::path::{Path, PathBuf};

use bbolt::{FileSource, Io, Source as _, Unmetered, Watch};
use redb::{ReadTransaction, TableDefinition, TableHandle as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use snapshot::integrity::{HashingError, sha256};

use crate::case::{COMMANDS, Case, Command, Locked, SEALS, SOURCES, TOOL, append};
use crate::container::{Container, SCHEMA_VERSION};
use crate::error::CaseError;
use crate::source::{Source, SourceFile};

/// Who seals a case, and how that is done.
#[derive(Debug, Clone, Default)]
pub struct SealOptions {
    /// Who does it, as that person wishes to be named.
    pub examiner: Option<String>,
    /// What that person notes, a time included where one is wished for: no clock is read here.
    pub note: Option<String>,
    /// The command line that does it.
    pub command: String,
}

/// A seal: a manifest and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The manifest, as JSON text: what every later reading compares is in it.
    pub manifest: String,
    /// The SHA-256 of that text, hexadecimal. Whoever keeps it elsewhere can tell whether the seal is the same.
    pub digest: String,
}

/// What a seal states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    tool: String,
    schema: u32,
    /// SHA-256 of all that the case holds of its sources.
    contents: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    examiner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    commands: Vec<Command>,
    sources: Vec<SealedSource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SealedSource {
    name: String,
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    examiner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    files: Vec<SourceFile>,
}

impl SealedSource {
    fn of(source: &Source) -> Self {
        Self {
            name: source.name.clone(),
            path: source.path.clone(),
            examiner: source.examiner.clone(),
            note: source.note.clone(),
            files: source.files.clone(),
        }
    }
}

/// What became of a file of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// It is what it was.
    Same,
    /// It is there, and something else.
    Changed {
        /// Its length now, in bytes.
        len_bytes: u64,
        /// Its SHA-256 now, hexadecimal.
        sha256: String,
    },
    /// It is not there, or cannot be read.
    NotThere {
        /// Why.
        why: String,
    },
}

/// A file of a source, read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustodyRow {
    /// The source's name.
    pub source: String,
    /// The file, as [`SourceFile::path`] has it.
    pub file: String,
    /// Its SHA-256 when it was added, hexadecimal.
    pub sha256: String,
    /// What became of it.
    pub state: FileState,
}

/// What a seal comes to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealState {
    /// There is none.
    Absent,
    /// The case is what was sealed.
    Holds,
    /// Sources were added since; those that were sealed are what they were.
    Outgrown,
    /// The case is not what was sealed, or the manifest not what its hash says.
    Broken,
}

/// A case held against itself and its sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Custody {
    /// Every file of every source.
    pub rows: Vec<CustodyRow>,
    /// What the last seal comes to.
    pub seal: SealState,
    /// The hash of the last seal.
    pub digest: Option<String>,
    /// SHA-256 of all that the case holds of its sources, hexadecimal: the same for two cases of the same sources.
    pub contents: String,
}

impl Custody {
    /// Whether nothing is wrong: all files are what they were, and no seal is broken.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.seal != SealState::Broken && self.rows.iter().all(|row| row.state == FileState::Same)
    }
}

/// Seals the case at `path`: writes a manifest of it into it, and gives it back.
///
/// # Errors
/// When the case cannot be read or written; it is as it was then.
pub fn seal(path: &Path, options: &SealOptions, watch: &dyn Watch) -> Result<Seal, CaseError> {
    let locked = Locked::open(path)?;
    Container::open(path)?.check_all(watch)?;
    let mut commands = locked.case.commands()?;
    commands.push(Command::now(&options.command));
    let manifest = Manifest {
        tool: TOOL.to_owned(),
        schema: SCHEMA_VERSION,
        contents: locked.case.contents(watch)?,
        examiner: options.examiner.clone(),
        note: options.note.clone(),
        commands,
        sources: locked.case.sources().iter().map(SealedSource::of).collect(),
    };
    let manifest = serde_json::to_string_pretty(&manifest)?;
    let seal = Seal { digest: digest_of(&manifest), manifest };
    let row = serde_json::to_vec(&seal)?;
    locked.change::<CaseError>(&options.command, watch, |write| append(write, SEALS, &row))?;
    Ok(seal)
}

fn digest_of(text: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    snapshot::integrity::Digest(digest).to_string()
}

impl Case {
    /// The seals of the case, in order.
    ///
    /// # Errors
    /// When the case is damaged.
    pub fn seals(&self) -> Result<Vec<Seal>, CaseError> {
        let table = self.read.open_table(SEALS)?;
        table.range::<u64>(..)?.map(|row| Ok(serde_json::from_slice(row?.1.value())?)).collect()
    }

    /// SHA-256 of all that the case holds of its sources, hexadecimal: every row of every table but those of custody, with lengths
    /// in front. Two cases of the same sources, added in the same order under the same names, have the same.
    ///
    /// # Errors
    /// When the case is damaged, or the user asked to stop.
    pub fn contents(&self, watch: &dyn Watch) -> Result<String, CaseError> {
        let custody = [COMMANDS.name().to_owned(), SEALS.name().to_owned()];
        contents_of(&self.read, &|name| !custody.iter().any(|table| table == name), watch)
    }

    /// What the contents of the case's first `count` sources were, when it had no more.
    fn contents_of_first(&self, count: usize, watch: &dyn Watch) -> Result<String, CaseError> {
        if count == self.sources.len() {
            return self.contents(watch);
        }
        let number = |name: &str| name.strip_prefix('s')?.split_once('.')?.0.parse::<usize>().ok();
        let is_of = |name: &str| number(name).is_some_and(|number| number < count);
        let all = |name: &str| name == SOURCES.name() || is_of(name);
        contents_with(&self.read, &all, Some(count as u64), watch)
    }

    /// Reads everything again: every byte of the case, every file of every source.
    ///
    /// # Errors
    /// When the case is damaged, or the user asked to stop. What became of the sources is no error.
    pub fn verify(&self, watch: &dyn Watch) -> Result<Custody, CaseError> {
        Container::open(&self.path)?.check_all(&Unmetered(watch))?;
        let files = self.sources.iter().flat_map(|source| &source.files);
        watch.begin("hashing", files.map(|file| file.len_bytes).sum());
        let mut rows = Vec::new();
        for source in &self.sources {
            for file in &source.files {
                rows.push(CustodyRow {
                    source: source.name.clone(),
                    file: file.path.clone(),
                    sha256: file.sha256.clone(),
                    state: state_of(source, file, watch)?,
                });
            }
        }
        let last = self.seals()?.pop();
        let seal = last.as_ref().map_or(Ok(SealState::Absent), |seal| self.seal_state(seal, watch))?;
        Ok(Custody { rows, seal, digest: last.map(|seal| seal.digest), contents: self.contents(watch)? })
    }

    pub(crate) fn seal_state(&self, seal: &Seal, watch: &dyn Watch) -> Result<SealState, CaseError> {
        let manifest: Manifest = match serde_json::from_str(&seal.manifest) {
            Ok(manifest) if digest_of(&seal.manifest) == seal.digest => manifest,
            _ => return Ok(SealState::Broken),
        };
        let sealed = self.sources.iter().take(manifest.sources.len()).map(SealedSource::of);
        let commands = self.commands()?;
        let is_same = sealed.eq(manifest.sources.iter().cloned())
            && commands.starts_with(&manifest.commands)
            && self.contents_of_first(manifest.sources.len(), watch)? == manifest.contents;
        Ok(match is_same {
            false => SealState::Broken,
            true if self.sources.len() > manifest.sources.len() => SealState::Outgrown,
            true => SealState::Holds,
        })
    }
}

fn contents_of(
    read: &ReadTransaction,
    counts: &dyn Fn(&str) -> bool,
    watch: &dyn Watch,
) -> Result<String, CaseError> {
    contents_with(read, counts, None, watch)
}

/// SHA-256 over the tables whose names count; of the sources only the first `most`, where that is given.
fn contents_with(
    read: &ReadTransaction,
    counts: &dyn Fn(&str) -> bool,
    most: Option<u64>,
    watch: &dyn Watch,
) -> Result<String, CaseError> {
    let mut names: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    names.retain(|name| counts(name));
    names.sort();
    let mut hasher = Sha256::new();
    let mut take = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for name in names {
        take(name.as_bytes());
        let table = read.open_table(TableDefinition::<u64, &[u8]>::new(&name))?;
        let end = most.filter(|_| name == SOURCES.name()).unwrap_or(u64::MAX);
        for row in table.range::<u64>(..end)? {
            let (number, row) = row?;
            take(&number.value().to_le_bytes());
            take(row.value());
            if watch.interrupted() {
                return Err(CaseError::Interrupted);
            }
        }
    }
    Ok(snapshot::integrity::Digest(hasher.finalize().into()).to_string())
}

/// Where a file of a source is, or was.
fn path_of(source: &Source, file: &SourceFile) -> PathBuf {
    let root = Path::new(&source.path);
    if let Some((wal_dir, below)) = source.wal_dir.as_ref().zip(file.path.strip_prefix("wal-dir:")) {
        return Path::new(wal_dir).join(below);
    }
    if root.is_dir() { root.join(&file.path) } else { root.to_owned() }
}

fn state_of(source: &Source, file: &SourceFile, watch: &dyn Watch) -> Result<FileState, CaseError> {
    let path = path_of(source, file);
    let opened = bbolt::file::open_read_only(&path).and_then(|file| FileSource::new(file, &path, Io::Pread));
    let bytes = match opened {
        Ok(bytes) => bytes,
        Err(error) => return Ok(FileState::NotThere { why: format!("{}: {error}", path.display()) }),
    };
    let len_bytes = bytes.len_bytes();
    match sha256(&bytes, len_bytes, watch) {
        Ok(digest) if digest.to_string() == file.sha256 && len_bytes == file.len_bytes => Ok(FileState::Same),
        Ok(digest) => Ok(FileState::Changed { len_bytes, sha256: digest.to_string() }),
        Err(HashingError::Interrupted) => Err(CaseError::Interrupted),
        // A sector that could not be read then cannot be read now: all that is known of it.
        Err(HashingError::Source(_)) if file.unreadable.is_some() && len_bytes == file.len_bytes => {
            Ok(FileState::Same)
        }
        Err(HashingError::Source(error)) => {
            Ok(FileState::NotThere { why: format!("{}: {error}", path.display()) })
        }
    }
}
