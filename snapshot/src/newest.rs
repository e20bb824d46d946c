//! The table of distinct keys: where the newest record of each stands and whether it is a put, in 16 bytes a key.
//!
//! A key is known by 86 bits of a keyed hash and not looked at again: random memory accesses into the file would cost
//! more than all the rest of a status. The hash's own key is drawn anew for each table, so no file can be made in which
//! two keys meet; with 100 million keys, two of them meet by chance in fewer than one of 10^10 runs.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use siphasher::sip128::{Hasher128, SipHasher13};

/// The number of shards is 2 to this.
const SHARD_BITS: u32 = 6;
const SHARDS: usize = 1 << SHARD_BITS;
/// Records that a thread collects for one shard before it takes the shard's lock: many short waits for memory overlap.
const BATCH: usize = 128;
/// Slots of a shard that gets its first key.
const FIRST_SLOTS: usize = 64;
/// Slots up to which a shard doubles. Larger ones grow by a quarter, so that more than half of a table is always in use.
const DOUBLE_UP_TO: usize = 4096;

/// The newest record seen of one key.
///
/// ```text
///  high                low
///  | hash, 64 bits |   | hash, 22 | run, 9 | record, 32 | put, 1 |
/// ```
///
/// `run` is that of the bucket's leaves in which the record stands, 1 being the first, and `record` its number there. A free
/// slot's `low` is 0.
#[derive(Clone, Copy, Default)]
struct Entry {
    high: u64,
    low: u64,
}

const _: () = assert!(size_of::<Entry>() == 16);
const _: () = assert!(bbolt::check::MOST_RUNS < 1 << RUN_BITS);

const PUT: u64 = 1;
const RECORD_SHIFT: u32 = 1;
const RECORD_BITS: u32 = 32;
const RUN_BITS: u32 = 9;
const RUN_SHIFT: u32 = RECORD_SHIFT + RECORD_BITS;
const HASH_SHIFT: u32 = RUN_SHIFT + RUN_BITS;

impl Entry {
    fn is_free(self) -> bool {
        self.low == 0
    }

    fn is_same_key(self, other: Self) -> bool {
        self.high == other.high && (self.low ^ other.low) >> HASH_SHIFT == 0
    }

    /// Where the record stands: ascends with the keys of the bucket.
    fn place(self) -> u64 {
        self.low & ((1 << HASH_SHIFT) - 1) >> RECORD_SHIFT << RECORD_SHIFT
    }

    fn shard(self) -> usize {
        // The upper bits of a u64 shifted down to fewer than 32 fit any usize.
        usize::try_from(self.high >> (u64::BITS - SHARD_BITS)).unwrap_or_default()
    }
}

/// An open-addressed table. A hash's slot is its share of the table's length, so that a growing table is copied from one
/// end to the other.
#[derive(Default)]
struct Shard {
    slots: Vec<Entry>,
    used: usize,
    live: u64,
}

impl Shard {
    fn home(&self, entry: Entry) -> usize {
        let share = u128::from(entry.high << SHARD_BITS) * (self.slots.len() as u128);
        usize::try_from(share >> u64::BITS).unwrap_or_default()
    }

    /// Makes room for `more` keys, so that three slots in eleven stay free: a search looks at few slots then.
    fn reserve(&mut self, more: usize, growing: &Mutex<()>) {
        while (self.used + more) * 11 > self.slots.len() * 8 {
            let _alone = lock(growing);
            self.grow();
        }
    }

    /// Reads the slots in which `entries` belong: waits for memory that overlap here would come one by one in [`Self::put`].
    fn touch(&self, entries: &[Entry]) {
        let touched = entries
            .iter()
            .fold(0, |sum, entry| sum ^ self.slots.get(self.home(*entry)).map_or(0, |slot| slot.low));
        std::hint::black_box(touched);
    }

    fn grow(&mut self) {
        let slots = match self.slots.len() {
            0 => FIRST_SLOTS,
            slots if slots < DOUBLE_UP_TO => slots * 2,
            slots => slots + slots / 4,
        };
        let mut larger = Self { slots: vec![Entry::default(); slots], ..Self::default() };
        for entry in self.slots.iter().filter(|entry| !entry.is_free()) {
            larger.put(*entry);
        }
        *self = larger;
    }

    /// Keeps `entry` unless a later record of the same key is there. There must be a free slot.
    fn put(&mut self, entry: Entry) {
        let home = self.home(entry).min(self.slots.len());
        let (wrapped, straight) = self.slots.split_at_mut(home);
        for slot in straight.iter_mut().chain(wrapped) {
            if slot.is_free() {
                *slot = entry;
                self.used += 1;
                self.live += entry.low & PUT;
                return;
            }
            if slot.is_same_key(entry) {
                if slot.place() <= entry.place() {
                    self.live = self.live + (entry.low & PUT) - (slot.low & PUT);
                    *slot = entry;
                }
                return;
            }
        }
    }
}

/// Records on their way into the table, from one thread.
pub(crate) struct Batch {
    /// [`BATCH`] places for each shard.
    entries: Vec<Entry>,
    lens: [usize; SHARDS],
    run: u64,
    records: u64,
}

/// The table, filled from all threads at once.
pub(crate) struct Newest {
    keys: [u64; 2],
    shards: Vec<Mutex<Shard>>,
    /// Held while a shard grows: only one at a time is there twice.
    growing: Mutex<()>,
    /// Batches whose run is over, to be used again.
    idle: Mutex<Vec<Batch>>,
    /// Whether a run had more records than there are numbers for.
    overflowed: AtomicBool,
}

impl Newest {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        Self {
            keys: [random.hash_one(0), random.hash_one(1)],
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            growing: Mutex::new(()),
            idle: Mutex::new(Vec::new()),
            overflowed: AtomicBool::new(false),
        }
    }

    /// Starts run number `run` of the bucket. Records of a higher run are newer; within a run, they come in their order.
    pub(crate) fn begin(&self, run: u16) -> Batch {
        let idle = lock(&self.idle).pop();
        let mut batch = idle.unwrap_or_else(|| Batch {
            entries: vec![Entry::default(); SHARDS * BATCH],
            lens: [0; SHARDS],
            run: 0,
            records: 0,
        });
        batch.run = (u64::from(run) + 1) << RUN_SHIFT;
        batch.records = 0;
        batch
    }

    /// Adds the run's next record, one of `key`.
    #[inline]
    pub(crate) fn add(&self, batch: &mut Batch, key: &[u8], is_put: bool) {
        let mut hasher = SipHasher13::new_with_keys(self.keys[0], self.keys[1]);
        hasher.write(key);
        let hash = hasher.finish128();
        let put = if is_put { PUT } else { 0 };
        let low = hash.h2 >> HASH_SHIFT << HASH_SHIFT | batch.run | batch.records << RECORD_SHIFT | put;
        batch.records += 1;
        if batch.records >> RECORD_BITS != 0 {
            self.overflowed.store(true, Ordering::Relaxed);
            batch.records = 0;
        }
        let entry = Entry { high: hash.h1, low };
        let shard = entry.shard();
        let Some(len) = batch.lens.get_mut(shard) else { return };
        if let Some(place) = batch.entries.get_mut(shard * BATCH + *len) {
            *place = entry;
            *len += 1;
        }
        if *len == BATCH {
            self.flush(batch, shard);
        }
    }

    /// Ends a run. What is left of it goes into the table with what the next one brings.
    pub(crate) fn end(&self, batch: Batch) {
        lock(&self.idle).push(batch);
    }

    /// Number of keys whose newest record is a put, when all runs are over.
    pub(crate) fn live(&self) -> u64 {
        self.flush_all();
        self.shards.iter().map(|shard| lock(shard).live).sum()
    }

    /// Gives `take` the newest record of each key, when all runs are over: its run, its number there, and whether it is a put.
    pub(crate) fn for_each(&self, mut take: impl FnMut(u16, u64, bool)) {
        self.flush_all();
        for shard in &self.shards {
            for entry in lock(shard).slots.iter().filter(|entry| !entry.is_free()) {
                let place = entry.place();
                // Nine bits.
                let run = u16::try_from(place >> RUN_SHIFT).unwrap_or_default().saturating_sub(1);
                let record = place >> RECORD_SHIFT & ((1 << RECORD_BITS) - 1);
                take(run, record, entry.low & PUT != 0);
            }
        }
    }

    /// Whether a run had more than 2^32 records, so that the table is not to be believed.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }

    fn flush_all(&self) {
        let left = std::mem::take(&mut *lock(&self.idle));
        for mut batch in left {
            for shard in 0..SHARDS {
                self.flush(&mut batch, shard);
            }
        }
    }

    fn flush(&self, batch: &mut Batch, index: usize) {
        let (Some(shard), Some(len)) = (self.shards.get(index), batch.lens.get_mut(index)) else { return };
        if *len == 0 {
            return;
        }
        let start = index * BATCH;
        let entries = batch.entries.get(start..start + *len).unwrap_or_default();
        let mut shard = lock(shard);
        shard.reserve(entries.len(), &self.growing);
        shard.touch(entries);
        for entry in entries {
            shard.put(*entry);
        }
        *len = 0;
    }
}

/// A thread that panicked would have taken the process with it; what it left is whole in any case.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn count(runs: &[Vec<(u16, bool)>], order: &[usize]) -> u64 {
        let table = Newest::new();
        // All runs are under way at once, and end in `order`.
        let mut batches: Vec<_> = (0u16..).zip(runs).map(|(run, _)| Some(table.begin(run))).collect();
        for index in order {
            let mut batch = batches[*index].take().unwrap();
            for (key, is_put) in &runs[*index] {
                table.add(&mut batch, &key.to_le_bytes(), *is_put);
            }
            table.end(batch);
        }
        let live = table.live();
        let mut puts = 0;
        table.for_each(|run, record, is_put| {
            let (_, was_put) = runs[usize::from(run)][usize::try_from(record).unwrap()];
            assert_eq!(was_put, is_put);
            puts += u64::from(is_put);
        });
        assert_eq!(puts, live);
        live
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_newest_record_of_a_key_decides_in_whatever_order_runs_end(
            runs in prop::collection::vec(prop::collection::vec((0u16..300, any::<bool>()), 0..400), 1..6),
            seed in any::<u64>(),
        ) {
            let mut newest = BTreeMap::new();
            for (key, is_put) in runs.iter().flatten() {
                newest.insert(*key, *is_put);
            }
            let live = newest.values().filter(|is_put| **is_put).count() as u64;
            let mut order: Vec<usize> = (0..runs.len()).collect();
            order.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(seed | 1));
            prop_assert_eq!(count(&runs, &order), live);
        }
    }

    #[test]
    fn a_table_that_grew_often_has_every_key_once() {
        let table = Newest::new();
        for run in 0..3 {
            let mut batch = table.begin(run);
            for key in 0..1_000_000u64 {
                table.add(&mut batch, &key.to_le_bytes(), key % 4 != u64::from(run));
            }
            table.end(batch);
        }
        assert_eq!(table.live(), 750_000);
        let slots: usize = table.shards.iter().map(|shard| lock(shard).slots.len()).sum();
        assert!(slots * size_of::<Entry>() < 29 * 1_000_000, "{slots} slots");
    }
}
