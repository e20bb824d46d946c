//! The index of the key space: every record of a key, found by the key, in 32 bytes a record and 4 a key.
//!
//! A key is known by 96 bits of a keyed hash whose own key is drawn anew for each index, so no file can be made in which two
//! keys meet; with 100 million keys, two of them meet by chance in fewer than one of 10^13 runs. Keys and values stay where they
//! are, in the file.

mod entry;
mod fill;
mod order;

use std::borrow::Cow;

use bbolt::{Db, PageFile, Source, SourceError, Unmetered, Watch};

pub use entry::Entry;

use super::pass::{KeySpaceError, Take, pass};
use super::{DecodeError, KeyRange, KeyValue, Release, Revision, Store};
use crate::finding::Finding;
use crate::schema::{KEY, Schema};
use crate::structure;
use crate::views::{self, ViewError};
use fill::Filling;

/// What an index holds.
#[derive(Debug, Clone, Default)]
pub struct IndexOptions {
    /// The keys; all by default.
    pub range: KeyRange,
    /// Leave out the records of later revisions.
    pub upto: Option<i64>,
    /// Go on past what is damaged or no record.
    pub skip_bad: bool,
    /// The release whose rules say where the store starts and what is kept.
    pub release: Release,
}

/// Why a record cannot be read again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Its bytes cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is another thing where it was: the file changed, or the disk does not answer the same twice.
    #[error("the value at {offset:#x} does not belong to revision {main} any more")]
    Changed {
        /// First byte of the value.
        offset: u64,
        /// The revision that it belonged to.
        main: i64,
    },
    /// As above.
    #[error("the value at {offset:#x}: {source}")]
    Decode {
        /// First byte of the value.
        offset: u64,
        /// Why.
        source: DecodeError,
    },
}

/// A record, read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'d> {
    /// Its key in the bucket.
    pub revision: Revision,
    /// Its value, for [`KeyValue::decode`].
    pub bytes: Cow<'d, [u8]>,
}

/// The records of a range of keys, in the order of the keys.
#[derive(Debug)]
pub struct Index<'d, S> {
    db: &'d Db<S>,
    schema: Schema,
    store: Store,
    findings: Vec<Finding>,
    shards: Vec<Vec<Entry>>,
    /// The number of each shard's first entry among those of all.
    bases: Vec<u32>,
    /// Each key's first entry, in the order of the keys.
    keys: Vec<u32>,
}

/// The records of one key.
#[derive(Debug)]
pub struct History<'i, 'd, S> {
    index: &'i Index<'d, S>,
    entries: &'i [Entry],
}

impl<S> Clone for History<'_, '_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for History<'_, '_, S> {}

/// The keys of an index, in their order; or from the last one back.
#[derive(Debug)]
pub struct Histories<'i, 'd, S> {
    index: &'i Index<'d, S>,
    keys: std::slice::Iter<'i, u32>,
}

impl<'d, S: Source> Index<'d, S> {
    /// Reads bucket `key` of `db` once, and proves the structure of all of `db` on the way.
    ///
    /// # Errors
    /// When the structure is damaged or a pair is no record, but for [`IndexOptions::skip_bad`]; when a record cannot be read
    /// again, there are more than 2^32 in the range, or the user asked to stop.
    pub fn build(db: &'d Db<S>, options: &IndexOptions, watch: &dyn Watch) -> Result<Self, KeySpaceError> {
        let (taken, mut findings) = match pass(db, || Filling::new(options), watch) {
            Ok(passed) => ((passed.take, passed.runs), passed.findings),
            Err(KeySpaceError::Damaged { findings }) if options.skip_bad => {
                (past_damage(db, options, watch)?, findings)
            }
            Err(error) => return Err(error),
        };
        let schema = match Schema::read(db) {
            Err(fault) if options.skip_bad => {
                findings.push(structure::of_fault(&fault));
                Schema::default()
            }
            schema => schema?,
        };
        let (filling, runs) = taken;
        let (filled, last_record) = filling.filled(runs, options, &mut findings)?;
        let store = Store::of(&schema, last_record, options.release);
        findings.extend(store.ahead(&schema));
        let (mut shards, odd) = filled.sorted(db, &store)?;
        findings.extend(odd.into_findings());
        let (bases, keys) = order::keys_in_order(db, &mut shards, watch)?;
        Ok(Self { db, schema, store, findings, shards, bases, keys })
    }

    /// What the store is taken for.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The small buckets, which were read on the way.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &'d Db<S> {
        self.db
    }

    /// What is wrong, or odd, with the file and the records in the range.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Number of records.
    #[must_use]
    pub fn revision_count(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    /// Number of keys.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// What the index takes of the heap, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let entries: usize = self.shards.iter().map(Vec::capacity).sum();
        entries * size_of::<Entry>() + (self.keys.capacity() + self.bases.capacity()) * size_of::<u32>()
    }

    /// The keys, in their order.
    #[must_use]
    pub fn histories(&self) -> Histories<'_, 'd, S> {
        Histories { index: self, keys: self.keys.iter() }
    }

    /// The key number `number`, from 0, in their order: for those who share the keys among threads.
    #[must_use]
    pub fn history(&self, number: usize) -> Option<History<'_, 'd, S>> {
        self.keys.get(number).map(|first| self.history_at(*first))
    }

    /// The number of keys before `key`, in their order.
    ///
    /// # Errors
    /// When a record cannot be read again.
    pub fn lower_bound(&self, key: &[u8]) -> Result<usize, RecordError> {
        let (mut low, mut high) = (0, self.keys.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(history) = self.history(middle) else { break };
            if *history.key()? < *key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The records of `key`; `None` when there are none in the range.
    ///
    /// # Errors
    /// When a record cannot be read again.
    pub fn find(&self, key: &[u8]) -> Result<Option<History<'_, 'd, S>>, RecordError> {
        let Some(history) = self.history(self.lower_bound(key)?) else { return Ok(None) };
        Ok((*history.key()? == *key).then_some(history))
    }

    /// The record of `entry`, read again.
    ///
    /// # Errors
    /// When its bytes cannot be had, or are others.
    pub fn record(&self, entry: &Entry) -> Result<Record<'d>, RecordError> {
        entry::read(self.db.source(), entry)
    }

    fn history_at(&self, first: u32) -> History<'_, 'd, S> {
        let (shard, start) = order::place(&self.bases, first);
        let entries = self.shards.get(shard).map_or(&[][..], Vec::as_slice);
        History { index: self, entries: entry::one_key(entries, start) }
    }
}

impl<'i, 'd, S: Source> History<'i, 'd, S> {
    /// The key.
    ///
    /// # Errors
    /// When the record that says so cannot be read again.
    pub fn key(&self) -> Result<Cow<'d, [u8]>, RecordError> {
        match self.entries.first() {
            Some(entry) => entry::key(self.index.db.source(), entry),
            None => Ok(Cow::Borrowed(&[])),
        }
    }

    /// The key's records, by ascending revision; there is at least one.
    #[must_use]
    pub fn entries(&self) -> &'i [Entry] {
        self.entries
    }

    /// The put that is the key's value at `revision`; `None` when the key is not there then (FORMATS C.3).
    #[must_use]
    pub fn at(&self, revision: i64) -> Option<&'i Entry> {
        let later = self.entries.partition_point(|entry| entry.main() <= revision);
        self.entries.get(..later)?.last().filter(|entry| !entry.is_tombstone())
    }
}

impl<'i, 'd, S: Source> Iterator for Histories<'i, 'd, S> {
    type Item = History<'i, 'd, S>;

    fn next(&mut self) -> Option<Self::Item> {
        self.keys.next().map(|first| self.index.history_at(*first))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.keys.size_hint()
    }

    fn nth(&mut self, skipped: usize) -> Option<Self::Item> {
        self.keys.nth(skipped).map(|first| self.index.history_at(*first))
    }
}

impl<S: Source> DoubleEndedIterator for Histories<'_, '_, S> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.keys.next_back().map(|first| self.index.history_at(*first))
    }
}

impl<S: Source> ExactSizeIterator for Histories<'_, '_, S> {}

/// Fills an index with what can be read of bucket `key`, whose structure is damaged.
fn past_damage<'o, S: Source>(
    db: &Db<S>,
    options: &'o IndexOptions,
    watch: &dyn Watch,
) -> Result<(Filling<'o>, Vec<fill::Run>), KeySpaceError> {
    let filling = Filling::new(options);
    let mut run = filling.begin(0);
    if let Ok(pages) = PageFile::new(db.source(), Some(db.page_size())) {
        let mut take = |pair: views::PairAt<'_>| filling.pair(&mut run, &pair);
        // Without a bucket there are no records; the check has said why.
        if let Err(ViewError::Interrupted) = views::pairs(&pages, KEY, &mut take, &Unmetered(watch)) {
            return Err(KeySpaceError::Interrupted);
        }
    }
    filling.end(&mut run);
    Ok((filling, vec![run]))
}
