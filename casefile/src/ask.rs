//! Questions: what all questions share, which is reading the records of a source and putting those of several side by side.

mod at;
mod diff;
mod find;
mod key;
mod log;
mod merge;

use std::cell::RefCell;
use std::rc::Rc;

use redb::{ReadableTable, ReadableTableMetadata as _};

use crate::block::{Record, first_revision, unpack};
use crate::case::{Case, NumberedRows, Part};
use crate::codec::BadBlock;
use crate::error::CaseError;
use crate::key_table;
use crate::rows::{Citation, Held, LogRow, RevisionRow, Standing};
use crate::source::{KeySpace, PageRun, Source};

pub use find::Find;
pub use log::LogQuery;
pub use merge::Timeline;

/// A block of records, unpacked, and the ordinal of its first.
type Block = (u64, Rc<Vec<Record>>);

/// The key space of one source, being read.
pub(crate) struct Reading<'c> {
    pub(crate) source: &'c Source,
    pub(crate) space: &'c KeySpace,
    pub(crate) blocks: NumberedRows,
    pub(crate) keys: NumberedRows,
    block: RefCell<Option<Block>>,
}

impl<'c> Reading<'c> {
    /// The key space of `source`; `None` when it has none.
    pub(crate) fn open(case: &Case, source: &'c Source) -> Result<Option<Self>, CaseError> {
        let tables = (case.part(Part::Blocks, source.number)?, case.part(Part::Keys, source.number)?);
        let (Some(space), (Some(blocks), Some(keys))) = (&source.key_space, tables) else { return Ok(None) };
        Ok(Some(Self { source, space, blocks, keys, block: RefCell::default() }))
    }

    /// The block in which this ordinal is.
    fn block_of(&self, ordinal: u64) -> Result<Block, CaseError> {
        if let Some((first, records)) = &*self.block.borrow()
            && ordinal.checked_sub(*first).is_some_and(|at| at < records.len() as u64)
        {
            return Ok((*first, Rc::clone(records)));
        }
        let Some(row) = self.blocks.range::<u64>(..=ordinal)?.next_back() else {
            return Err(BadBlock.into());
        };
        let (first, row) = row?;
        let block = (first.value(), Rc::new(unpack(row.value())?));
        *self.block.borrow_mut() = Some(block.clone());
        Ok(block)
    }

    /// The record of this ordinal.
    pub(crate) fn record(&self, ordinal: u64) -> Result<Record, CaseError> {
        let (first, records) = self.block_of(ordinal)?;
        let at = ordinal.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| records.get(at)).copied().ok_or_else(|| BadBlock.into())
    }

    /// The ordinal of the first record that is not before this revision; that behind the last where there is none.
    pub(crate) fn lower_bound(&self, revision: (i64, i64)) -> Result<u64, CaseError> {
        let Some((last, _)) = self.blocks.last()? else { return Ok(0) };
        // Of the blocks, those that begin below `low` do not begin behind the revision, those from `high` on do.
        let (mut low, mut high) = (0, last.value().saturating_add(1));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let Some(row) = self.blocks.range::<u64>(..=middle)?.next_back() else { return Ok(0) };
            let (first, block) = row?;
            if first_revision(block.value())? < revision {
                low = middle;
            } else if first.value() <= low {
                break;
            } else {
                high = first.value();
            }
        }
        let (first, records) = self.block_of(low)?;
        let before = records.partition_point(|record| (record.main, record.sub) < revision);
        Ok(first.saturating_add(before as u64))
    }

    /// The name of the key of this number.
    pub(crate) fn name(&self, number: u32) -> Result<Vec<u8>, CaseError> {
        let number = u64::from(number);
        let Some(row) = self.keys.range::<u64>(..=number)?.next_back() else { return Err(BadBlock.into()) };
        let (first, row) = row?;
        Ok(key_table::key_at(row.value(), number.saturating_sub(first.value()))?)
    }

    /// Where a record of this source stands.
    pub(crate) fn held(&self, record: &Record, ordinal: u64) -> Held {
        Held {
            source: self.source.number,
            page: record.page,
            offset: record.offset,
            len_bytes: record.len_bytes,
            ordinal,
        }
    }

    /// What can be said of this source about `revision`.
    pub(crate) fn standing(&self, revision: i64) -> Standing {
        let compacted = self.space.compacted.filter(|compacted| revision < *compacted);
        match compacted {
            Some(at) => Standing::Compacted { at },
            None if revision > self.space.revision && !self.space.is_hole(revision) => {
                Standing::EndsBefore { last: self.space.revision }
            }
            None if !self.space.is_whole() => Standing::Damaged,
            None => Standing::Asked,
        }
    }
}

/// Whether two records are the same, but for their keys and where they stand.
pub(crate) fn is_same(a: &Record, b: &Record) -> bool {
    let of = |record: &Record| {
        let numbers = (record.main, record.sub, record.create_revision, record.version, record.lease);
        (numbers, record.tombstone, record.value_len, record.value_hash)
    };
    of(a) == of(b)
}

/// The row of a record that nobody was asked about yet.
pub(crate) fn row_of(record: &Record, key: Vec<u8>, held: Vec<Held>) -> RevisionRow {
    RevisionRow {
        key,
        main: record.main,
        sub: record.sub,
        tombstone: record.tombstone,
        create_revision: record.create_revision,
        version: record.version,
        lease: record.lease,
        value_len: record.value_len,
        value_hash: record.value_hash,
        held,
        contested: false,
        may_be_old: false,
    }
}

impl Case {
    /// The key spaces of all sources that have one.
    pub(crate) fn readings(&self) -> Result<Vec<Reading<'_>>, CaseError> {
        let open = self.sources.iter().map(|source| Reading::open(self, source));
        Ok(open.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Where a copy of a revision stands, fit to be cited.
    #[must_use]
    pub fn cite(&self, held: &Held) -> Citation {
        let source = usize::try_from(held.source).ok().and_then(|number| self.sources.get(number));
        let file = source.and_then(|source| source.database);
        self.citation(source, file, held.offset, held.len_bytes, Some(held.page))
    }

    /// Where an entry of a log stands, fit to be cited.
    #[must_use]
    pub fn cite_entry(&self, row: &LogRow) -> Citation {
        let source = usize::try_from(row.source).ok().and_then(|number| self.sources.get(number));
        self.citation(source, Some(row.file), row.offset, row.len_bytes, None)
    }

    fn citation(
        &self,
        source: Option<&Source>,
        file: Option<usize>,
        offset: u64,
        len_bytes: u64,
        page: Option<u64>,
    ) -> Citation {
        let file = source.zip(file).and_then(|(source, file)| source.files.get(file));
        Citation {
            source: source.map(|source| source.name.clone()).unwrap_or_default(),
            file: file.map(|file| file.path.clone()).unwrap_or_default(),
            sha256: file.map(|file| file.sha256.clone()).unwrap_or_default(),
            unpacked_sha256: file.and_then(|file| Some(file.unpacked.as_ref()?.1.clone())),
            offset,
            len_bytes,
            page,
        }
    }

    /// Who owns which page of the database of `source`, in the order of the pages; empty without one.
    ///
    /// # Errors
    /// When the case is damaged.
    pub fn page_runs(&self, source: &Source) -> Result<Vec<PageRun>, CaseError> {
        let Some(table) = self.part(Part::Pages, source.number)? else { return Ok(Vec::new()) };
        let mut runs = Vec::with_capacity(usize::try_from(table.len()?).unwrap_or_default());
        for row in table.range::<u64>(..)? {
            let (first, row) = row?;
            runs.extend(crate::ingest::pages::unpack(first.value(), row.value())?);
        }
        Ok(runs)
    }
}
