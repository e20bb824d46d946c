//! `case log`: entries of the logs, by index, by term, and by a key that they name.

use std::collections::{BTreeSet, HashSet};
use std::ops::{ControlFlow, RangeInclusive};

use snapshot::request::KeyRange;

use crate::case::{Case, Part};
use crate::codec::{BadBlock, Reader};
use crate::error::CaseError;
use crate::key_table;
use crate::log_block::{Entry, REVOKE, extent_of, unpack};
use crate::rows::{EntryStanding, LogRow};
use crate::source::Source;

/// Which entries are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Only those of the source of this number.
    pub source: Option<u32>,
    /// Only those with such an index.
    pub indexes: RangeInclusive<u64>,
    /// Only those of such a term.
    pub terms: RangeInclusive<u64>,
}

impl Default for LogQuery {
    /// All entries.
    fn default() -> Self {
        Self { source: None, indexes: 0..=u64::MAX, terms: 0..=u64::MAX }
    }
}

fn meet(asked: &RangeInclusive<u64>, (first, last): (u64, u64)) -> bool {
    *asked.start() <= last && first <= *asked.end()
}

fn row(source: &Source, entry: Entry) -> Option<LogRow> {
    let log = source.log.as_ref()?;
    Some(LogRow {
        source: source.number,
        index: entry.index,
        term: entry.term,
        kind: entry.kind,
        standing: entry.standing,
        committed: entry.standing == EntryStanding::Counts && entry.index <= log.commit,
        touched: entry.touched,
        leases: entry.leases,
        paths: entry.paths,
        compacts: entry.compacts,
        file: log.segments.get(entry.segment).copied()?,
        offset: entry.offset,
        len_bytes: entry.len_bytes,
    })
}

impl Case {
    /// The entries that are asked for, source by source in the order of their files.
    ///
    /// # Errors
    /// When the case is damaged.
    pub fn log(
        &self,
        asked: &LogQuery,
        each: &mut dyn FnMut(&LogRow) -> ControlFlow<()>,
    ) -> Result<(), CaseError> {
        let sources =
            self.sources().iter().filter(|source| asked.source.is_none_or(|number| source.number == number));
        for source in sources {
            let Some(table) = self.part(Part::Log, source.number)? else { continue };
            for block in table.range::<u64>(..)? {
                let block = block?.1;
                let extent = extent_of(block.value())?;
                if !meet(&asked.indexes, extent.indexes) || !meet(&asked.terms, extent.terms) {
                    continue;
                }
                for entry in unpack(block.value())? {
                    let is_asked = asked.indexes.contains(&entry.index) && asked.terms.contains(&entry.term);
                    let found = if is_asked { row(source, entry) } else { None };
                    if let Some(row) = found
                        && each(&row).is_break()
                    {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The entries of all logs that name `key`, a range that it is in, or that revoke one of the leases it had.
    pub(super) fn log_of(&self, key: &[u8], leases: &HashSet<i64>) -> Result<Vec<LogRow>, CaseError> {
        let mut rows = Vec::new();
        for source in self.sources() {
            let part = |part| self.part(part, source.number);
            let tables = (part(Part::Log)?, part(Part::LogKeys)?, part(Part::LogRanges)?);
            let (Some(log), Some(keys), Some(ranges)) = tables else { continue };
            let mut ordinals = BTreeSet::new();
            ordinals.extend(key_table::find(&keys, key)?.map(|keyed| keyed.ordinals).unwrap_or_default());
            for row in ranges.range::<u64>(..)? {
                let row = row?.1;
                let mut reader = Reader::new(row.value());
                while !reader.is_done() {
                    ordinals.insert(reader.number()?);
                }
            }
            let mut block: Option<(u64, Vec<Entry>)> = None;
            for ordinal in ordinals {
                let is_in = |(first, entries): &(u64, Vec<Entry>)| {
                    (*first..*first + entries.len() as u64).contains(&ordinal)
                };
                if !block.as_ref().is_some_and(is_in) {
                    let Some(found) = log.range::<u64>(..=ordinal)?.next_back() else {
                        return Err(BadBlock.into());
                    };
                    let (first, found) = found?;
                    block = Some((first.value(), unpack(found.value())?));
                }
                let entry = block.as_ref().and_then(|(first, entries)| {
                    entries.get(usize::try_from(ordinal.checked_sub(*first)?).ok()?)
                });
                let names = |entry: &&Entry| {
                    let is_revoked =
                        entry.kind == REVOKE && entry.leases.iter().any(|id| leases.contains(id));
                    let ranges = entry.touched.iter();
                    is_revoked
                        || ranges
                            .map(|touched| KeyRange { key: &touched.key, range_end: &touched.range_end })
                            .any(|range| range.contains(key))
                };
                rows.extend(entry.filter(names).and_then(|entry| row(source, entry.clone())));
            }
        }
        Ok(rows)
    }
}
