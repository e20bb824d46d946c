//! Which records survive a compaction (FORMATS C.4).

use std::collections::HashSet;

use bbolt::{Db, Source, Watch};

use super::bad_records::{BadRecords, Pair};
use super::pass::{KeySpaceError, Take, only_records, pass, revision_of};
use super::store::last_record;
use super::{AtRevisionError, Index, IndexOptions, Release, RevisionError, Store};
use crate::finding::Finding;
use crate::schema::Schema;

/// A set of a bucket's pairs, by their number in the order of the keys, from 0: one bit a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ordinals {
    words: Vec<u64>,
    pairs: u64,
}

impl Ordinals {
    /// Whether pair number `ordinal` is in.
    #[inline]
    #[must_use]
    pub fn contains(&self, ordinal: u64) -> bool {
        let word = usize::try_from(ordinal / 64).ok().and_then(|word| self.words.get(word));
        ordinal < self.pairs && word.is_some_and(|word| word & 1 << (ordinal % 64) != 0)
    }

    /// Number of pairs that the bucket has.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    fn push(&mut self, is_in: bool) {
        if self.pairs.is_multiple_of(64) {
            self.words.push(0);
        }
        if let Some(word) = self.words.last_mut().filter(|_| is_in) {
            *word |= 1 << (self.pairs % 64);
        }
        self.pairs += 1;
    }
}

/// What a compaction does to the records.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// The revision that is compacted.
    pub revision: i64,
    /// What the store is before.
    pub store: Store,
    /// The records that stay, by their number in bucket `key`.
    pub kept: Ordinals,
    /// Records before.
    pub records_before: u64,
    /// Records after.
    pub records_after: u64,
    /// Bytes of bucket keys and values before.
    pub bytes_before: u64,
    /// Bytes of bucket keys and values after.
    pub bytes_after: u64,
    /// What is odd about the file.
    pub findings: Vec<Finding>,
}

/// Which records of `db` a compaction at `revision` leaves, 0 being the current one, as `release` compacts. Proves the structure
/// of all of `db` on the way.
///
/// # Errors
/// When the revision is compacted already or has not come yet, the structure is damaged, a pair of bucket `key` is no record, or
/// the user asked to stop.
pub fn compaction<S: Source>(
    db: &Db<S>,
    revision: i64,
    release: Release,
    watch: &dyn Watch,
) -> Result<Compaction, AtRevisionError> {
    let schema = Schema::read(db).map_err(KeySpaceError::from)?;
    let store = Store::of(&schema, last_record(db).map_err(KeySpaceError::from)?, release);
    let revision = store.resolve(revision)?;
    if Some(revision) <= store.compact_revision {
        let (first, last) = (store.first_kept(), store.current_revision);
        return Err(RevisionError::Compacted { wanted: revision, first, last }.into());
    }
    let options = IndexOptions { upto: Some(revision), release, ..IndexOptions::default() };
    let index = Index::build(db, &options, watch)?;
    let mut last = HashSet::new();
    for history in index.histories() {
        let newest = history.entries().last();
        let stays = newest.filter(|entry| {
            !entry.is_tombstone() || entry.main() == revision && release.keeps_tombstone_at_compaction()
        });
        last.extend(stays.map(super::Entry::offset));
    }
    let passed = pass(db, || Deciding { last: &last, revision }, &bbolt::Unmetered(watch))?;
    let mut compaction = Compaction {
        revision,
        store,
        kept: Ordinals::default(),
        records_before: 0,
        records_after: 0,
        bytes_before: 0,
        bytes_after: 0,
        findings: index.findings().to_vec(),
    };
    let mut bad = BadRecords::default();
    for run in passed.runs {
        bad.append(run.bad);
        for (is_kept, len_bytes) in run.records {
            compaction.kept.push(is_kept);
            compaction.records_before += 1;
            compaction.bytes_before += len_bytes;
            if is_kept {
                compaction.records_after += 1;
                compaction.bytes_after += len_bytes;
            }
        }
    }
    only_records(bad)?;
    Ok(compaction)
}

struct Deciding<'l> {
    last: &'l HashSet<u64>,
    revision: i64,
}

#[derive(Default)]
struct Run {
    records: Vec<(bool, u64)>,
    bad: BadRecords,
}

impl Take for Deciding<'_> {
    type Run = Run;

    fn begin(&self) -> Run {
        Run::default()
    }

    fn pair(&self, run: &mut Run, pair: &Pair<'_>) {
        match revision_of(pair) {
            Ok(found) => {
                let is_kept = found.main > self.revision || self.last.contains(&pair.offset);
                run.records.push((is_kept, (pair.key.len() + pair.value.len()) as u64));
            }
            Err(what) => run.bad.malformed_pair(pair, &what),
        }
    }

    fn end(&self, _run: &mut Run) {}
}
