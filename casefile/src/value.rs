//! Values: out of the case where they were put in it, else out of the source, where it still is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bbolt::{Lock, OpenOptions, Source as _, Watch};
use sha2::{Digest, Sha256};
use snapshot::mvcc::KeyValue;
use snapshot::opened::{self, InputOptions, OpenError, Opened};

use crate::block::unpack;
use crate::case::{Case, Part};
use crate::codec::{BadBlock, unpacked};
use crate::error::CaseError;
use crate::rows::{Held, RevisionRow};
use crate::source::Source;

/// Longest stretch of values that is unpacked, in bytes: those of one block. A server takes values of 1.5 MiB unless told otherwise.
const MOST_BYTES: u64 = 512 << 20;

/// Why a value cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The case cannot be read.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// A tombstone has none.
    #[error("revision {main} deleted the key: there is no value")]
    Deleted {
        /// The revision.
        main: i64,
    },
    /// The source is not where it was.
    #[error(
        "source {name}: {error}. The case keeps where a value stands, and not the value, unless the source was added with \
         --embed-values: mount the source where it was, or say with --at {name}=PATH where it is"
    )]
    NotThere {
        /// The source's name.
        name: String,
        /// Why it cannot be opened.
        error: Rc<OpenError>,
    },
    /// The source has no database.
    #[error("source {name}: has no database to read a value from")]
    NoDatabase {
        /// The source's name.
        name: String,
    },
    /// What stands there now is something else.
    #[error("source {name}: {}: byte {offset:#x} no longer holds this revision: the file changed since it was added", path.display())]
    Changed {
        /// The source's name.
        name: String,
        /// The database.
        path: PathBuf,
        /// Where the record was.
        offset: u64,
    },
}

/// A database, or why it cannot be opened.
type Tried = Result<Rc<Opened>, Rc<OpenError>>;

/// How values are read from sources, and those that are open: each is opened once.
pub(crate) struct Values {
    input: InputOptions,
    watch: Arc<dyn Watch + Send + Sync>,
    open: RefCell<BTreeMap<u32, Tried>>,
}

impl Default for Values {
    /// Nothing is locked: what was written to since is told by the hash.
    fn default() -> Self {
        let open = OpenOptions { lock: Lock::None, ..OpenOptions::default() };
        Self { input: InputOptions { open, tmp_dir: None }, watch: Arc::new(()), open: RefCell::default() }
    }
}

impl ValueError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if let Self::Case(error) = self { error.exit_code() } else { 1 }
    }

    /// Findings that go with it: none.
    #[must_use]
    pub fn findings(&self) -> &[snapshot::finding::Finding] {
        &[]
    }
}

impl Case {
    /// The value of a revision, held against its hash: of the first of its sources that can give it.
    ///
    /// # Errors
    /// Why the last of them cannot.
    pub fn value(&self, row: &RevisionRow) -> Result<Vec<u8>, ValueError> {
        let mut why = ValueError::Deleted { main: row.main };
        if row.tombstone {
            return Err(why);
        }
        for held in &row.held {
            let Some(source) = usize::try_from(held.source).ok().and_then(|number| self.sources.get(number))
            else {
                continue;
            };
            let value =
                if source.has_values { self.kept(source, held) } else { self.read(source, held, &row.key) };
            match value {
                Ok(value) if is_value(&value, row) => return Ok(value),
                Ok(_) if source.has_values => why = ValueError::Case(BadBlock.into()),
                Ok(_) => why = self.changed(source, held),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Says how values are read from sources that [`Self::value`] has to open, and who is told while one is unpacked.
    pub fn read_values_by(&mut self, input: InputOptions, watch: Arc<dyn Watch + Send + Sync>) {
        self.values = Values { input, watch, open: RefCell::default() };
    }

    /// The database of `source`, opened once.
    fn opened(&self, source: &Source) -> Result<Rc<Opened>, ValueError> {
        let name = source.name.clone();
        let Some(path) = self.database_of(source) else { return Err(ValueError::NoDatabase { name }) };
        let Values { input, watch, open } = &self.values;
        let mut open = open.borrow_mut();
        let opened = open
            .entry(source.number)
            .or_insert_with(|| opened::open(&path, input, watch.as_ref()).map(Rc::new).map_err(Rc::new));
        opened.clone().map_err(|error| ValueError::NotThere { name, error })
    }

    /// Where the database of `source` is.
    fn database_of(&self, source: &Source) -> Option<PathBuf> {
        let file = source.files.get(source.database?)?;
        Some(self.place(source).path_of(&file.path))
    }

    fn changed(&self, source: &Source, held: &Held) -> ValueError {
        let path = self.database_of(source).unwrap_or_default();
        ValueError::Changed { name: source.name.clone(), path, offset: held.offset }
    }

    /// A value read where it stands.
    fn read(&self, source: &Source, held: &Held, key: &[u8]) -> Result<Vec<u8>, ValueError> {
        let input = self.opened(source)?;
        let Ok(record) = input.source().bytes(held.offset, held.len_bytes) else {
            return Err(self.changed(source, held));
        };
        match KeyValue::decode(&record) {
            Ok(kv) if kv.key == key => Ok(kv.value.to_vec()),
            _ => Err(self.changed(source, held)),
        }
    }

    /// A value that lies in the case.
    fn kept(&self, source: &Source, held: &Held) -> Result<Vec<u8>, ValueError> {
        let tables = (self.part(Part::Blocks, source.number)?, self.part(Part::Values, source.number)?);
        let (Some(blocks), Some(values)) = tables else { return Err(CaseError::from(BadBlock).into()) };
        Ok(kept(&blocks, &values, held.ordinal).map_err(|error| error.about(&self.path))?)
    }
}

fn kept(
    blocks: &crate::case::NumberedRows,
    values: &crate::case::NumberedRows,
    ordinal: u64,
) -> Result<Vec<u8>, CaseError> {
    let Some(block) = blocks.range::<u64>(..=ordinal)?.next_back() else { return Err(BadBlock.into()) };
    let (first, block) = block?;
    let records = unpack(block.value())?;
    let at = usize::try_from(ordinal - first.value()).map_err(|_| BadBlock)?;
    let before: u64 = records.iter().take(at).fold(0, |sum, record| sum.saturating_add(record.value_len));
    let len = records.get(at).ok_or(BadBlock)?.value_len;
    let values = values.range::<u64>(first.value()..=first.value())?.next().ok_or(BadBlock)??.1;
    if before.saturating_add(len) > MOST_BYTES {
        return Err(BadBlock.into());
    }
    Ok(unpacked(values.value(), before, len)?)
}

fn is_value(value: &[u8], row: &RevisionRow) -> bool {
    let digest: [u8; 32] = Sha256::digest(value).into();
    value.len() as u64 == row.value_len && digest.starts_with(&row.value_hash)
}
