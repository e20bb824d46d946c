//! The hash of the key space that members compare with each other (FORMATS C.5).
//!
//! Records beyond the compacted revision are hashed in the pass that proves the structure. Up to it only those count that are
//! the newest of their key, which is known after the pass: their leaves are read again. A store that was never compacted needs
//! neither.

use bbolt::{Bucket, Db, Node, PageId, Source, Unmetered, Watch};
use crc_fast::Digest;
use rayon::prelude::*;

use super::bad_records::{BadRecords, pair_of};
use super::pass::{KeySpaceError, Passed, Take, leaf_again, only_records, pass, record_of};
use super::{AtRevisionError, Ordinals, Release, Revision, RevisionError, Store};
use crate::contents::{CRC_32C, Piece};
use crate::newest::{Batch, Newest};
use crate::schema::KEY;

/// A hash of the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The revision up to which records count.
    pub hash_revision: i64,
    /// The compacted revision, on which the hash depends; -1 when nothing was ever compacted.
    pub compact_revision: i64,
}

/// The hash of the key space in `db` at `revision`, 0 being the current one, that a server of `release` answers when it was
/// started on that file. Proves the structure of all of `db` on the way.
///
/// # Errors
/// When the revision is compacted or has not come yet, the structure is damaged, a pair of bucket `key` is no record, or the
/// user asked to stop.
pub fn hashkv<S: Source>(
    db: &Db<S>,
    revision: i64,
    release: Release,
    watch: &dyn Watch,
) -> Result<HashKv, AtRevisionError> {
    hashkv_compacted(db, revision, None, release, watch)
}

/// As [`hashkv`], as if the store had been compacted at `compacted`, where that is beyond what it was compacted at: what makes
/// hashes of stores comparable that were compacted at different revisions.
///
/// # Errors
/// As [`hashkv`].
pub fn hashkv_compacted<S: Source>(
    db: &Db<S>,
    revision: i64,
    compacted: Option<i64>,
    release: Release,
    watch: &dyn Watch,
) -> Result<HashKv, AtRevisionError> {
    let mut store = Store::read(db, release).map_err(KeySpaceError::from)?;
    // Whether the file still holds what the compaction removes. A server goes on with one that did not finish.
    let is_to_be_done = compacted > store.compact_revision || store.has_pending_compaction();
    store.compact_revision = store.compact_revision.max(compacted);
    let at_compaction = revision > 0 && store.compact_revision == Some(revision);
    if at_compaction && !release.hashes_at_compaction() {
        let (first, last) = (revision.saturating_add(1), store.current_revision);
        return Err(RevisionError::Compacted { wanted: revision, first, last }.into());
    }
    let hash_revision = store.resolve(revision)?;
    let hashing = || Hashing::new(store.compact_revision, hash_revision);
    let mut passed = HashingPassed::of(pass(db, hashing, watch)?);
    only_records(std::mem::take(&mut passed.bad))?;
    let mut piece = Piece::of(KEY);
    if let (Some(compacted), Some(bucket)) =
        (store.compact_revision, db.bucket(KEY).map_err(KeySpaceError::from)?)
    {
        let keep = match passed.live()? {
            Some(live) => Some(live),
            // When no key is there, all count that the compaction left, or will leave: what was there at its revision.
            None if is_to_be_done => {
                let hashing = || Hashing::new(Some(compacted), compacted);
                let at_compaction = HashingPassed::of(pass(db, hashing, &Unmetered(watch))?);
                Some(at_compaction.live()?.unwrap_or_else(|| Ordinals::new(at_compaction.records)))
            }
            None => None,
        };
        let skips_tombstone = release.keeps_tombstone_at_compaction();
        let rule = Rule { compacted, hash_revision, skips_tombstone, keep };
        let hashed = passed
            .earlier
            .par_iter()
            .map(|(first, leaves)| rule.hash(&bucket, *first, leaves, &Unmetered(watch)))
            .try_reduce(Piece::default, |before, after| Ok(before.followed_by(after)))?;
        piece = piece.followed_by(hashed);
    }
    // Joining two costs some microseconds; that of hundreds is shared.
    let later = passed.later.into_par_iter().reduce(Piece::default, Piece::followed_by);
    let hash = piece.followed_by(later).crc();
    Ok(HashKv { hash, hash_revision, compact_revision: store.compact_revision.unwrap_or(-1) })
}

/// What a pass came to, its runs one after the other.
struct HashingPassed {
    newest: Option<(i64, Newest)>,
    bad: BadRecords,
    /// What was hashed on the way.
    later: Vec<Piece>,
    /// For each run the number of its first pair, and the leaves to read again.
    earlier: Vec<(u64, Vec<PageId>)>,
    /// Pairs.
    records: u64,
}

impl HashingPassed {
    fn of(passed: Passed<Hashing>) -> Self {
        let newest = passed.take.newest;
        let mut all =
            Self { newest, bad: BadRecords::default(), later: Vec::new(), earlier: Vec::new(), records: 0 };
        for run in passed.runs {
            all.bad.append(run.bad);
            all.later.push(Piece::new(&run.spans.crc, run.spans.len_bytes));
            all.earlier.push((all.records, run.leaves));
            all.records += run.records;
        }
        all
    }

    /// The puts that are the newest record of their key; `None` when there is no key.
    fn live(&self) -> Result<Option<Ordinals>, KeySpaceError> {
        let Some((_, newest)) = &self.newest else { return Ok(None) };
        if newest.overflowed() {
            return Err(KeySpaceError::TooManyRecords { most: 1 << 32 });
        }
        if newest.live() == 0 {
            return Ok(None);
        }
        let mut live = Ordinals::new(self.records);
        newest.for_each(|run, record, is_put| {
            let first = self.earlier.get(usize::from(run)).map_or(0, |(first, _)| *first);
            if is_put {
                live.insert(first + record);
            }
        });
        Ok(Some(live))
    }
}

/// Which of the records up to the compacted revision count.
struct Rule {
    compacted: i64,
    hash_revision: i64,
    skips_tombstone: bool,
    /// Those that do; `None` for all.
    keep: Option<Ordinals>,
}

impl Rule {
    /// The hash of what counts in `leaves` of `bucket`, whose first pair has the number `first`.
    fn hash<S: Source>(
        &self,
        bucket: &Bucket<'_, S>,
        first: u64,
        leaves: &[PageId],
        watch: &dyn Watch,
    ) -> Result<Piece, KeySpaceError> {
        let mut spans = Spans::new();
        let mut ordinal = first;
        for id in leaves {
            if watch.interrupted() {
                return Err(KeySpaceError::Interrupted);
            }
            let leaf = leaf_again(bucket, *id)?;
            for index in 0..leaf.count() {
                let revision = Revision::parse(leaf.key(index));
                let counts = revision.is_some_and(|revision| {
                    revision.main <= self.compacted.min(self.hash_revision)
                        && self.keep.as_ref().is_none_or(|keep| keep.contains(ordinal))
                        && !(self.skips_tombstone && revision.tombstone && revision.main == self.compacted)
                });
                if counts {
                    spans.add(&leaf, index);
                }
                ordinal += 1;
            }
            spans.end(&leaf);
        }
        Ok(Piece::new(&spans.crc, spans.len_bytes))
    }
}

/// A checksum of pairs, which takes those that lie next to each other at once.
struct Spans {
    crc: Digest,
    len_bytes: u64,
    open: std::ops::Range<usize>,
}

impl Spans {
    fn new() -> Self {
        Self { crc: Digest::new(CRC_32C), len_bytes: 0, open: 0..0 }
    }

    #[inline]
    fn add(&mut self, leaf: &Node<'_>, index: u16) {
        let value = leaf.value_range(index);
        let start = value.start.saturating_sub(leaf.key(index).len());
        if start != self.open.end {
            self.end(leaf);
            self.open = start..start;
        }
        self.open.end = value.end;
    }

    fn end(&mut self, leaf: &Node<'_>) {
        let span = leaf.bytes().get(std::mem::take(&mut self.open)).unwrap_or_default();
        self.crc.update(span);
        self.len_bytes += span.len() as u64;
    }
}

struct Hashing {
    /// The compacted revision, and the newest record of each key.
    newest: Option<(i64, Newest)>,
    hash_revision: i64,
}

impl Hashing {
    fn new(compacted: Option<i64>, hash_revision: i64) -> Self {
        Self { newest: compacted.map(|compacted| (compacted, Newest::new())), hash_revision }
    }
}

struct Run {
    batch: Option<Batch>,
    /// What was hashed on the way.
    spans: Spans,
    /// The leaves with records up to the compacted revision: the run's first ones.
    leaves: Vec<PageId>,
    /// Pairs.
    records: u64,
    bad: BadRecords,
}

impl Take for Hashing {
    type Run = Run;

    fn begin(&self, number: u16) -> Run {
        Run {
            batch: self.newest.as_ref().map(|(_, newest)| newest.begin(number)),
            spans: Spans::new(),
            leaves: Vec::new(),
            records: 0,
            bad: BadRecords::default(),
        }
    }

    fn leaf(&self, run: &mut Run, leaf: &Node<'_>) {
        let mut is_earlier = false;
        for index in 0..leaf.count() {
            let pair = pair_of(leaf, index);
            run.records += 1;
            let (revision, kv) = match record_of(&pair) {
                Ok(record) => record,
                Err(what) => {
                    run.bad.malformed_pair(&pair, &what);
                    continue;
                }
            };
            if revision.main > self.hash_revision {
                continue;
            }
            let compacted = self.newest.as_ref().map(|(compacted, newest)| {
                if let Some(batch) = &mut run.batch {
                    newest.add(batch, kv.key, !revision.tombstone);
                }
                *compacted
            });
            if compacted.is_some_and(|compacted| revision.main <= compacted) {
                is_earlier = true;
            } else {
                run.spans.add(leaf, index);
            }
        }
        run.spans.end(leaf);
        if is_earlier {
            run.leaves.push(leaf.id());
        }
    }

    fn end(&self, run: &mut Run) {
        if let (Some(batch), Some((_, newest))) = (run.batch.take(), &self.newest) {
            newest.end(batch);
        }
    }
}
