//! `kv delete`: keys deleted by one new revision, as a server would record it, or removed with all their history.
//!
//! **Deleted** (FORMATS G.7): a tombstone for every key in the range that is there, in the order of the keys, all of one new
//! revision, numbered from 0. Nothing there: no revision. Clients that watch learn of it, and the history before stays until
//! it is compacted.
//!
//! **Purged**: the records are gone as if they had never been, so that no reader of the file finds them. The store must not
//! fall back to an earlier revision by that: a server gives revisions out anew from the last record on, and clients take
//! the second state of a revision for the first. So where the last record goes and no finished compaction holds the revision,
//! a tombstone of the empty key, which nobody can ask for and the next compaction removes, stands at the store's
//! revision. Servers before 3.4.36 and 3.5.18 pass over a tombstone of a key they do not know, later ones index it; all take its
//! revision for the store's.

use bbolt::rebuild::{Edits, Put, Revise};
use bbolt::{Db, Fault, RebuildError, Source, Watch};

use crate::compact::other_pairs;
use crate::edited::{Change, Expected};
use crate::finding::Finding;
use crate::mvcc::{
    Index, IndexOptions, KeyRange, KeySpaceError, KeyValue, RecordError, Release, Revision, Sifted, Store,
    sift,
};
use crate::schema::KEY;

/// Why nothing is deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The key space cannot be read.
    #[error("{0}; nothing was written")]
    Read(#[from] KeySpaceError),
    /// There is no revision after the store's.
    #[error("the store is at revision {0}, the last there can be; nothing was written")]
    Exhausted(i64),
}

impl From<Fault> for DeleteError {
    fn from(fault: Fault) -> Self {
        Self::Read(fault.into())
    }
}

impl From<RecordError> for DeleteError {
    fn from(error: RecordError) -> Self {
        Self::Read(error.into())
    }
}

impl DeleteError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Read(KeySpaceError::Damaged { .. } | KeySpaceError::Records { .. }) => 3,
            Self::Read(error) => error.exit_code(),
            Self::Exhausted(_) => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Read(error) => error.findings(),
            Self::Exhausted(_) => &[],
        }
    }
}

/// A deletion by one new revision.
#[derive(Debug)]
pub struct Deletion<'d, S> {
    index: Index<'d, S>,
    /// The revision before.
    pub current_revision: i64,
    /// The new revision; the one before when nothing is deleted.
    pub revision: i64,
    /// Keys that are deleted.
    pub deleted: u64,
    /// Keys among them that hang on a lease. The leases stay, without these keys.
    pub leased: u64,
    pairs_after: u64,
}

impl<'d, S: Source> Deletion<'d, S> {
    /// Finds what there is to delete in `range`, having checked the structure of all of `db`. What is kept in memory is the
    /// index of the range.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn plan(db: &'d Db<S>, range: KeyRange, watch: &dyn Watch) -> Result<Self, DeleteError> {
        let options = IndexOptions { range, ..IndexOptions::default() };
        let index = Index::build(db, &options, watch)?;
        let current_revision = index.store().current_revision;
        let next = current_revision.checked_add(1).ok_or(DeleteError::Exhausted(current_revision))?;
        let (mut deleted, mut leased) = (0, 0);
        for history in index.histories() {
            let Some(live) = history.at(current_revision) else { continue };
            deleted += 1;
            let record = index.record(live)?;
            leased += u64::from(KeyValue::decode(&record.bytes).is_ok_and(|kv| kv.lease != 0));
        }
        let mut pairs_after = other_pairs(db)? + deleted;
        if let Some(bucket) = db.bucket(KEY)? {
            for range in bucket.leaf_ranges(1)? {
                for node in range.nodes() {
                    pairs_after += u64::from(node?.count());
                }
            }
        }
        let revision = if deleted > 0 { next } else { current_revision };
        Ok(Self { index, current_revision, revision, deleted, leased, pairs_after })
    }

    /// What is odd about the file.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        self.index.findings()
    }

    /// The edits that carry it out.
    #[must_use]
    pub fn edits(&self) -> Edits<'_> {
        let mut edits = Edits::default();
        edits.revise(KEY, self);
        edits
    }

    /// The change that carries it out, given its [`Self::edits`].
    #[must_use]
    pub fn change<'e>(&self, edits: &'e Edits<'e>) -> Change<'e> {
        Change::Rebuild { edits, expected: Expected { pairs: Some(self.pairs_after) } }
    }
}

impl<S: Source> Revise for Deletion<'_, S> {
    fn keeps(&self, _ordinal: u64) -> bool {
        true
    }

    fn append(&self, put: &mut Put<'_>) -> Result<(), RebuildError> {
        let mut record = Vec::new();
        let mut revision = Revision { main: self.revision, sub: 0, tombstone: true };
        for history in self.index.histories() {
            if history.at(self.current_revision).is_none() {
                continue;
            }
            let key = history.key().map_err(|error| RebuildError::Appended(error.to_string()))?;
            record.clear();
            KeyValue { key: &key, ..KeyValue::default() }.encode(&mut record);
            put(&revision.encode(), &record)?;
            revision.sub += 1;
        }
        Ok(())
    }
}

/// The removal of keys with all their history.
#[derive(Debug)]
pub struct Purge {
    /// The records.
    pub sifted: Sifted,
    /// The store's revision, before and after.
    pub current_revision: i64,
    /// True when a tombstone of the empty key keeps the store at its revision.
    pub is_held: bool,
    pairs_after: u64,
}

impl Purge {
    /// Finds what there is to remove in `range`, having checked the structure of all of `db`.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn plan<S: Source>(db: &Db<S>, range: &KeyRange, watch: &dyn Watch) -> Result<Self, DeleteError> {
        let sifted = sift(db, |_, kv| !range.contains(kv.key), watch)?;
        let store = Store::read(db, Release::default())?;
        let current_revision = store.current_revision;
        let dropped = sifted.records_before > sifted.records_after;
        // No release counts on from less than these two; only the later ones know a compaction that did not finish.
        let held_by_all = sifted.last_kept.max(store.finished.unwrap_or_default());
        let is_held = dropped && held_by_all < current_revision;
        let pairs_after = other_pairs(db)? + sifted.records_after + u64::from(is_held);
        Ok(Self { sifted, current_revision, is_held, pairs_after })
    }

    /// The edits that carry it out.
    #[must_use]
    pub fn edits(&self) -> Edits<'_> {
        let mut edits = Edits::default();
        edits.revise(KEY, self);
        edits
    }

    /// The change that carries it out, given its [`Self::edits`].
    #[must_use]
    pub fn change<'e>(&self, edits: &'e Edits<'e>) -> Change<'e> {
        Change::Rebuild { edits, expected: Expected { pairs: Some(self.pairs_after) } }
    }
}

impl Revise for Purge {
    fn keeps(&self, ordinal: u64) -> bool {
        self.sifted.kept.contains(ordinal)
    }

    fn append(&self, put: &mut Put<'_>) -> Result<(), RebuildError> {
        if !self.is_held {
            return Ok(());
        }
        // All that stays is of earlier revisions.
        let last = Revision { main: self.current_revision, sub: 0, tombstone: true };
        put(&last.encode(), &[])
    }
}
