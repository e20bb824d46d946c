//! Custody: what a case says of its evidence, sealed; and whether evidence and case are still what they were.

use std::path::Path;

use bbolt::{Unmetered, Watch};
use redb::{TableDefinition, TableHandle as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use snapshot::integrity::Digest;

use crate::case::{COMMANDS, Case, Command, Locked, SEALS, SOURCES, TOOL, append};
use crate::container::{Container, SCHEMA_VERSION};
use crate::error::CaseError;
use crate::reread::{CustodyRow, FileState, reread};
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
    /// SHA-256 of all that the case keeps of it as a whole.
    record: String,
}

impl SealedSource {
    fn of(source: &Source) -> Result<Self, CaseError> {
        Ok(Self {
            name: source.name.clone(),
            path: source.path.clone(),
            examiner: source.examiner.clone(),
            note: source.note.clone(),
            files: source.files.clone(),
            record: digest_of(&serde_json::to_vec(source)?),
        })
    }
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

/// A seal, and what it comes to now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealRow {
    /// Its hash.
    pub digest: String,
    /// What it comes to.
    pub state: SealState,
}

/// A case held against itself and its sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Custody {
    /// Every file of every source, and those that are new there.
    pub rows: Vec<CustodyRow>,
    /// What the last seal comes to.
    pub seal: SealState,
    /// The hash of the last seal.
    pub digest: Option<String>,
    /// Every seal, in order.
    pub seals: Vec<SealRow>,
    /// SHA-256 of all that the case holds of its sources, hexadecimal: the same for two cases of the same sources.
    pub contents: String,
}

impl Custody {
    /// Whether nothing is wrong: all files are what they were, and no seal is broken.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.seals.iter().all(|seal| seal.state != SealState::Broken)
            && self.rows.iter().all(|row| row.state == FileState::Same)
    }
}

/// Seals the case at `path`: writes a manifest of it into it, and gives it back.
///
/// # Errors
/// When the case cannot be read or written; it is as it was then.
pub fn seal(path: &Path, options: &SealOptions, watch: &dyn Watch) -> Result<Seal, CaseError> {
    sealed(path, options, watch).map_err(|error| error.about(path))
}

fn sealed(path: &Path, options: &SealOptions, watch: &dyn Watch) -> Result<Seal, CaseError> {
    let locked = Locked::open(path)?;
    Container::open(path)?.check_all(watch)?;
    let mut commands = locked.case.commands()?;
    let command = Command::now(&options.command);
    commands.push(command.clone());
    let manifest = Manifest {
        tool: TOOL.to_owned(),
        schema: SCHEMA_VERSION,
        contents: locked.case.contents(watch)?,
        examiner: options.examiner.clone(),
        note: options.note.clone(),
        commands,
        sources: locked.case.sources().iter().map(SealedSource::of).collect::<Result<_, _>>()?,
    };
    let manifest = serde_json::to_string_pretty(&manifest)?;
    let seal = Seal { digest: digest_of(manifest.as_bytes()), manifest };
    let row = serde_json::to_vec(&seal)?;
    locked.change::<CaseError>(&command, false, watch, |write| append(write, SEALS, &row))?;
    Ok(seal)
}

fn digest_of(bytes: &[u8]) -> String {
    Digest(Sha256::digest(bytes).into()).to_string()
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

    /// SHA-256 of all that the case holds of its sources, hexadecimal. Two cases of the same sources, added in the same order under the
    /// same names, have the same: it does not depend on where the sources lay, when their files were written, who added them and with
    /// which note. A seal states those too.
    ///
    /// # Errors
    /// When the case is damaged, or the user asked to stop.
    pub fn contents(&self, watch: &dyn Watch) -> Result<String, CaseError> {
        Ok(Parts::of(self, watch)?.contents(self.sources.len()))
    }

    /// Reads everything again: every byte of the case, every file of every source.
    ///
    /// # Errors
    /// When the case is damaged, or the user asked to stop. What became of the sources is no error.
    pub fn verify(&self, watch: &dyn Watch) -> Result<Custody, CaseError> {
        self.verified(watch).map_err(|error| error.about(&self.path))
    }

    fn verified(&self, watch: &dyn Watch) -> Result<Custody, CaseError> {
        Container::open(&self.path)?.check_all(&Unmetered(watch))?;
        let files = self.sources.iter().flat_map(|source| &source.files);
        watch.begin("hashing", files.map(|file| file.len_bytes).sum());
        let mut rows = Vec::new();
        for source in &self.sources {
            rows.extend(reread(source, &self.place(source), watch)?);
        }
        let parts = Parts::of(self, watch)?;
        let held = |seal: Seal| Ok(SealRow { state: self.held(&seal, &parts)?, digest: seal.digest });
        let seals = self.seals()?.into_iter().map(held).collect::<Result<Vec<_>, CaseError>>()?;
        let last = seals.last().cloned();
        Ok(Custody {
            rows,
            seal: last.as_ref().map_or(SealState::Absent, |seal| seal.state),
            digest: last.map(|seal| seal.digest),
            seals,
            contents: parts.contents(self.sources.len()),
        })
    }

    pub(crate) fn seal_state(&self, seal: &Seal, watch: &dyn Watch) -> Result<SealState, CaseError> {
        self.held(seal, &Parts::of(self, watch)?)
    }

    /// What `seal` comes to, in a case of these parts.
    fn held(&self, seal: &Seal, parts: &Parts) -> Result<SealState, CaseError> {
        let manifest: Manifest = match serde_json::from_str(&seal.manifest) {
            Ok(manifest) if digest_of(seal.manifest.as_bytes()) == seal.digest => manifest,
            _ => return Ok(SealState::Broken),
        };
        let count = manifest.sources.len();
        let sealed = self.sources.iter().take(count).map(SealedSource::of).collect::<Result<Vec<_>, _>>()?;
        let is_same = sealed == manifest.sources
            && self.commands()?.starts_with(&manifest.commands)
            && parts.contents(count) == manifest.contents;
        Ok(match is_same {
            false => SealState::Broken,
            true if self.sources.len() > count => SealState::Outgrown,
            true => SealState::Holds,
        })
    }
}

/// A hash of each source, and one of whatever else there is.
struct Parts {
    sources: Vec<[u8; 32]>,
    other: [u8; 32],
}

impl Parts {
    /// Reads every row of every table but those of custody.
    fn of(case: &Case, watch: &dyn Watch) -> Result<Self, CaseError> {
        let mut hashers = Vec::new();
        for source in &case.sources {
            let mut hasher = Sha256::new();
            take(&mut hasher, &portable(source)?);
            hashers.push(hasher);
        }
        let mut other = Sha256::new();
        let mut names: Vec<String> = case.read.list_tables()?.map(|table| table.name().to_owned()).collect();
        names.retain(|name| ![SOURCES.name(), COMMANDS.name(), SEALS.name()].contains(&name.as_str()));
        names.sort();
        for name in names {
            let number =
                name.strip_prefix('s').and_then(|name| name.split_once('.')?.0.parse::<usize>().ok());
            let hasher = number.and_then(|number| hashers.get_mut(number)).unwrap_or(&mut other);
            take(hasher, name.as_bytes());
            let table = case.read.open_table(TableDefinition::<u64, &[u8]>::new(&name))?;
            for row in table.range::<u64>(..)? {
                let (number, row) = row?;
                take(hasher, &number.value().to_le_bytes());
                take(hasher, row.value());
                if watch.interrupted() {
                    return Err(CaseError::Interrupted);
                }
            }
        }
        let sources = hashers.into_iter().map(|hasher| hasher.finalize().into()).collect();
        Ok(Self { sources, other: other.finalize().into() })
    }

    /// The hash of the first `count` sources.
    fn contents(&self, count: usize) -> String {
        let mut hasher = Sha256::new();
        for part in self.sources.iter().take(count).chain([&self.other]) {
            take(&mut hasher, part);
        }
        Digest(hasher.finalize().into()).to_string()
    }
}

/// Takes `bytes` into a hash, with their length in front.
fn take(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// What the case keeps of a source as a whole, without where and when its files were read, and by whom.
fn portable(source: &Source) -> Result<Vec<u8>, CaseError> {
    let mut source = source.clone();
    source.path.clear();
    source.wal_dir = source.wal_dir.map(|_| String::new());
    source.links.clear();
    source.verdict.next.clear();
    source.examiner = None;
    source.note = None;
    for file in &mut source.files {
        file.modified = (0, 0);
    }
    Ok(serde_json::to_vec(&source)?)
}
