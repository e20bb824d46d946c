//! Filling an index from all threads at once, and bringing each key's records together.
//!
//! Records go into one of 64 shards, by their key's hash. Each shard is a list of pieces, so that it grows without ever being
//! there twice; only when it is sorted are they joined, one shard after the other.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bbolt::fault::readable;
use bbolt::{Db, Node, Source};
use rayon::prelude::*;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::entry::{self, Entry};
use super::{IndexOptions, KeySpaceError, RecordError, Store};
use crate::finding::Finding;
use crate::mvcc::bad_records::{BadRecords, Pair, pair_of};
use crate::mvcc::pass::{Take, only_records, record_of};

/// The number of shards is 2 to this.
const SHARD_BITS: u32 = 6;
const SHARDS: usize = 1 << SHARD_BITS;
/// Records that a thread collects for one shard before it takes the shard's lock.
const BATCH: usize = 64;
/// Records in the largest piece of a shard.
const PIECE: usize = 4096;
/// Most records: an index gives them numbers of 32 bits.
const MOST_RECORDS: u64 = 1 << 32;

/// An index under way.
pub(super) struct Filling<'o> {
    options: &'o IndexOptions,
    keys: [u64; 2],
    shards: Vec<Mutex<Shard>>,
    records: AtomicU64,
    /// Batches whose run is over, to be used again.
    idle: Mutex<Vec<Batch>>,
}

/// One run of leaves under way, and what it came to.
pub(super) struct Run {
    batch: Option<Batch>,
    last_record: i64,
    bad: BadRecords,
}

/// Records on their way into the shards, from one thread.
struct Batch {
    /// [`BATCH`] places for each shard.
    entries: Vec<Entry>,
    lens: [usize; SHARDS],
}

#[derive(Default)]
struct Shard {
    pieces: Vec<Vec<Entry>>,
    len: usize,
}

/// An index with all its records, in no order.
pub(super) struct Filled {
    shards: Vec<Shard>,
}

impl<'o> Filling<'o> {
    pub(super) fn new(options: &'o IndexOptions) -> Self {
        let random = RandomState::new();
        Self {
            options,
            keys: [random.hash_one(0), random.hash_one(1)],
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            records: AtomicU64::new(0),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// All records, the main revision of the last one, and what is wrong with some.
    pub(super) fn filled(
        self,
        runs: Vec<Run>,
        options: &IndexOptions,
        findings: &mut Vec<Finding>,
    ) -> Result<(Filled, i64), KeySpaceError> {
        let (mut bad, mut last_record) = (BadRecords::default(), 0);
        for run in runs {
            bad.append(run.bad);
            last_record = last_record.max(run.last_record);
        }
        findings.extend(if options.skip_bad { bad.into_findings() } else { only_records(bad)? });
        let left = std::mem::take(&mut *lock(&self.idle));
        for mut batch in left {
            for shard in 0..SHARDS {
                self.flush(&mut batch, shard);
            }
        }
        if self.records.into_inner() > MOST_RECORDS {
            return Err(KeySpaceError::TooManyRecords { most: MOST_RECORDS });
        }
        let unlocked = |shard: Mutex<Shard>| shard.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((Filled { shards: self.shards.into_iter().map(unlocked).collect() }, last_record))
    }

    /// Adds what `pair` is, when it is in the range.
    pub(super) fn pair(&self, run: &mut Run, pair: &Pair<'_>) {
        let (revision, kv) = match record_of(pair) {
            Ok(record) => record,
            Err(what) => return run.bad.malformed_pair(pair, &what),
        };
        run.last_record = run.last_record.max(revision.main);
        if !self.options.range.contains(kv.key) || self.options.upto.is_some_and(|upto| revision.main > upto)
        {
            return;
        }
        // A tombstone's record has no revision of its own, nor has the record that a restore leaves at a bumped one.
        if kv.mod_revision != revision.main && !revision.tombstone && !pair.value.is_empty() {
            run.bad.odd(pair.offset, "ETCD-MOD-REVISION", || {
                format!(
                    "page {}, element {}: the record of revision {} says that it is of revision {}",
                    pair.page, pair.element, revision.main, kv.mod_revision
                )
            });
        }
        if let Some(batch) = &mut run.batch {
            self.add(batch, kv.key, |hash| Entry::new(hash, revision, pair.offset, pair.value.len()));
        }
    }

    #[inline]
    fn add(&self, batch: &mut Batch, key: &[u8], entry: impl FnOnce((u64, u32)) -> Entry) {
        let mut hasher = SipHasher13::new_with_keys(self.keys[0], self.keys[1]);
        hasher.write(key);
        let hash = hasher.finish128();
        let low = u32::try_from(hash.h2 >> u32::BITS).unwrap_or_default();
        // The upper bits of a u64 shifted down to fewer than 32 fit any usize.
        let shard = usize::try_from(hash.h1 >> (u64::BITS - SHARD_BITS)).unwrap_or_default();
        let Some(len) = batch.lens.get_mut(shard) else { return };
        if let Some(place) = batch.entries.get_mut(shard * BATCH + *len) {
            *place = entry((hash.h1, low));
            *len += 1;
        }
        if *len == BATCH {
            self.flush(batch, shard);
        }
    }

    fn flush(&self, batch: &mut Batch, index: usize) {
        let (Some(shard), Some(len)) = (self.shards.get(index), batch.lens.get_mut(index)) else { return };
        if *len == 0 {
            return;
        }
        let start = index * BATCH;
        let entries = batch.entries.get(start..start + *len).unwrap_or_default();
        // Beyond that many the index is refused; what is in it does not matter then.
        if self.records.fetch_add(entries.len() as u64, Ordering::Relaxed) <= MOST_RECORDS {
            lock(shard).extend(entries);
        }
        *len = 0;
    }
}

impl Take for Filling<'_> {
    type Run = Run;

    fn begin(&self, _number: u16) -> Run {
        let idle = lock(&self.idle).pop();
        let batch = idle
            .unwrap_or_else(|| Batch { entries: vec![Entry::default(); SHARDS * BATCH], lens: [0; SHARDS] });
        Run { batch: Some(batch), last_record: 0, bad: BadRecords::default() }
    }

    fn leaf(&self, run: &mut Run, leaf: &Node<'_>) {
        for index in 0..leaf.count() {
            self.pair(run, &pair_of(leaf, index));
        }
    }

    fn end(&self, run: &mut Run) {
        if let Some(batch) = run.batch.take() {
            lock(&self.idle).push(batch);
        }
    }
}

impl Shard {
    fn extend(&mut self, mut entries: &[Entry]) {
        while !entries.is_empty() {
            let full = self.pieces.last().is_none_or(|piece| piece.len() == piece.capacity());
            if full {
                self.pieces.push(Vec::with_capacity((self.len / 8).clamp(BATCH, PIECE)));
            }
            let Some(piece) = self.pieces.last_mut() else { return };
            let room = (piece.capacity() - piece.len()).min(entries.len());
            let (now, later) = entries.split_at(room);
            piece.extend_from_slice(now);
            self.len += room;
            entries = later;
        }
    }

    fn joined(self) -> Vec<Entry> {
        let mut joined = Vec::with_capacity(self.len);
        for piece in self.pieces {
            joined.extend_from_slice(&piece);
        }
        joined
    }
}

impl Filled {
    /// The records of each shard, by key and revision, with the first of each key marked; and what is odd about histories.
    pub(super) fn sorted<S: Source>(
        self,
        db: &Db<S>,
        store: &Store,
    ) -> Result<(Vec<Vec<Entry>>, BadRecords), RecordError> {
        let joining = Mutex::new(());
        let sort = |shard: Shard| -> Result<(Vec<Entry>, BadRecords), RecordError> {
            let mut entries = {
                // One shard at a time is there twice.
                let _alone = lock(&joining);
                shard.joined()
            };
            entries.sort_unstable_by_key(|entry| (entry.hash(), entry.main(), entry.offset()));
            settle(db.source(), &mut entries)?;
            let mut before = None;
            for entry in &mut entries {
                if before.replace(entry.hash()) != Some(entry.hash()) {
                    entry.set_first();
                }
            }
            let bad = orphans(db, &entries, store)?;
            Ok((entries, bad))
        };
        let sorted: Vec<_> = self.shards.into_par_iter().map(sort).collect::<Result<_, _>>()?;
        let (mut shards, mut bad) = (Vec::with_capacity(sorted.len()), BadRecords::default());
        for (entries, odd) in sorted {
            shards.push(entries);
            bad.append(odd);
        }
        Ok((shards, bad))
    }
}

/// Puts records of one key that have the same main revision, of which no server makes several, in the order of the bucket.
fn settle<S: Source>(source: &S, entries: &mut [Entry]) -> Result<(), RecordError> {
    for equal in entries.chunk_by_mut(|a, b| a.hash() == b.hash() && a.main() == b.main()) {
        if equal.len() > 1 {
            let read = |entry: &Entry| Ok((entry::read(source, entry)?.revision, *entry));
            let mut records = equal.iter().map(read).collect::<Result<Vec<_>, RecordError>>()?;
            records.sort_by_key(|(revision, _)| *revision);
            for (place, (_, entry)) in equal.iter_mut().zip(records) {
                *place = entry;
            }
        }
    }
    Ok(())
}

/// Tombstones of keys that are not there. Up to the compacted revision those are what a compaction left.
fn orphans<S: Source>(db: &Db<S>, entries: &[Entry], store: &Store) -> Result<BadRecords, RecordError> {
    let mut bad = BadRecords::default();
    let mut is_there = false;
    for entry in entries {
        is_there &= !entry.is_first();
        let kept = store.compact_revision.is_some_and(|compacted| entry.main() <= compacted);
        if entry.is_tombstone() && !is_there && !kept {
            let key = entry::key(db.source(), entry)?;
            bad.odd(entry.offset(), "ETCD-TOMBSTONE", || {
                let page = entry.offset() / u64::from(db.page_size());
                format!(
                    "page {page}: revision {} deletes key {}, which is not there",
                    entry.main(),
                    readable(&key)
                )
            });
        }
        is_there = !entry.is_tombstone();
    }
    Ok(bad)
}

/// A thread that panicked would have taken the process with it; what it left is whole in any case.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
