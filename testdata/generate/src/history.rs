//! The history: which keys each revision puts and deletes.
//!
//! Nothing but a row of 20 bytes is kept for each key, and its place among the live or the deleted ones; what a
//! revision does is made up when it is asked for, and is the same each time. Values are not part of it.

use crate::names::Names;
use crate::random::{Random, purpose};
use crate::shape::{MOST_OPS, Shape};

/// One operation of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Put {
        key: u32,
        created: u32,
        version: u32,
        /// The key's revision before, 0 when it did not exist.
        previous: u32,
    },
    Delete {
        key: u32,
        previous: u32,
    },
}

/// How a revision came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// A transaction, or a single request.
    Txn,
    /// One request that deleted all live keys from the first key of its operations to the last.
    RangeDelete,
}

/// One key's state.
#[derive(Debug, Clone, Copy, Default)]
struct Key {
    created: u32,
    modified: u32,
    sub: u32,
    /// 0 when it is deleted.
    version: u32,
    /// Its place in `live` or `deleted`.
    slot: u32,
}

/// A history in the course of being told.
#[derive(Debug)]
pub(crate) struct History {
    random: Random,
    names: Names,
    keys: Vec<Key>,
    live: Vec<u32>,
    deleted: Vec<u32>,
    /// How many keys at the front of `live` are known to be touched by this revision.
    touched: usize,
    /// The revision told last; the store starts at 1.
    main: u32,
    last_txn: u32,
    last: u32,
    creations: u32,
    updates: u32,
    deletes: u32,
    /// Of the range deletes: how many keys they take in all, and all live keys before them in order.
    swept: u32,
    in_order: Vec<u32>,
}

/// One in this many creations makes a key again that was deleted.
const REBIRTH: u32 = 4;
/// Random picks before the keys are looked at one after the other.
const TRIES: u32 = 8;
/// Operations of one transaction at most: the mean of a shape and the quarter that may come on top.
const LARGEST_TXN: u32 = MOST_OPS + MOST_OPS / 4;

impl History {
    pub(crate) fn new(shape: &Shape) -> Self {
        Self {
            random: Random::new(shape.seed, purpose::HISTORY),
            names: Names::new(shape),
            keys: Vec::new(),
            live: Vec::new(),
            deleted: Vec::new(),
            touched: 0,
            main: 1,
            last_txn: shape.revisions.saturating_add(1),
            last: shape.last_revision(),
            creations: shape.creations(),
            updates: shape.updates(),
            deletes: shape.deletes,
            swept: shape.sweep.map_or(0, |sweep| shape.live_keys.saturating_sub(sweep.live_keys)),
            in_order: Vec::new(),
        }
    }

    /// The revision told last.
    pub(crate) fn main(&self) -> u32 {
        self.main
    }

    /// Number of keys that live now.
    pub(crate) fn live_keys(&self) -> usize {
        self.live.len()
    }

    /// True when the key exists now.
    #[cfg(test)]
    pub(crate) fn is_live(&self, key: u32) -> bool {
        self.keys.get(at(key)).is_some_and(|key| key.version > 0)
    }

    /// True when this put is what its key still has now.
    pub(crate) fn is_newest(&self, key: u32, main: u32, sub: u32) -> bool {
        self.keys.get(at(key)).is_some_and(|key| key.version > 0 && key.modified == main && key.sub == sub)
    }

    /// Tells the next revision: its operations, numbered from 0, replace those in `ops`. `None` after the last.
    pub(crate) fn next(&mut self, ops: &mut Vec<Op>) -> Option<How> {
        ops.clear();
        if self.main >= self.last {
            return None;
        }
        self.main += 1;
        self.touched = 0;
        if self.main > self.last_txn {
            self.sweep(ops);
            return Some(How::RangeDelete);
        }
        let left = self.creations + self.updates + self.deletes;
        let revisions_after = self.last_txn - self.main;
        let size = self.txn_size(left, revisions_after);
        while ops.len() < size {
            let sub = u32::try_from(ops.len()).unwrap_or(u32::MAX);
            match self.op(sub) {
                Some(op) => ops.push(op),
                None => break,
            }
        }
        // What a small store could not do in this transaction is left to those after it, or not done.
        (!ops.is_empty()).then_some(How::Txn)
    }

    /// About an equal share of what is left, a quarter more or less, so that all of it is done at the end.
    fn txn_size(&mut self, left: u32, revisions_after: u32) -> usize {
        let revisions = revisions_after.saturating_add(1);
        let share = left.saturating_add(self.random.below(revisions)) / revisions;
        let quarter = share / 4;
        // A quarter of a 32-bit number twice, and one more, still is one; the sum may not be.
        let size = u64::from(share - quarter) + u64::from(self.random.below(2 * quarter + 1));
        let most = left.saturating_sub(revisions_after).max(1);
        let size =
            if revisions_after == 0 { left } else { u32::try_from(size).unwrap_or(most).clamp(1, most) };
        // Small stores put off what they cannot do, and must not come to more at the end than a shape may ask for.
        at(size.min(LARGEST_TXN))
    }

    fn op(&mut self, sub: u32) -> Option<Op> {
        let left = self.creations + self.updates + self.deletes;
        let ticket = self.random.below(left);
        if ticket >= self.creations
            && let Some(key) = self.untouched()
        {
            if ticket < self.creations + self.updates {
                self.updates -= 1;
                return Some(self.put(key, sub));
            }
            self.deletes -= 1;
            return Some(self.delete(key, sub));
        }
        if self.creations == 0 {
            return None;
        }
        self.creations -= 1;
        let again = self.random.below(REBIRTH) == 0;
        let count = u32::try_from(self.deleted.len()).unwrap_or(u32::MAX);
        let old = self.deleted.get(at(self.random.below(count))).copied();
        let old = old.filter(|key| again && self.row(*key).modified != self.main);
        let key = match old {
            Some(key) => {
                let slot = self.row(key).slot;
                self.remove(key, slot, false);
                key
            }
            None => {
                let key = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
                self.keys.push(Key::default());
                key
            }
        };
        let slot = u32::try_from(self.live.len()).unwrap_or(u32::MAX);
        self.live.push(key);
        let main = self.main;
        let row = self.row_mut(key);
        *row = Key { created: main, modified: 0, sub: 0, version: 0, slot };
        Some(self.put(key, sub))
    }

    /// A live key this revision has not touched: etcd refuses a transaction that writes a key twice.
    fn untouched(&mut self) -> Option<u32> {
        let count = u32::try_from(self.live.len()).unwrap_or(u32::MAX);
        let free = |key: &u32| self.keys.get(at(*key)).is_some_and(|row| row.modified != self.main);
        for _ in 0..TRIES {
            let key = self.live.get(at(self.random.below(count))).copied();
            if let Some(key) = key.filter(free) {
                return Some(key);
            }
        }
        // Nothing before a touched key becomes untouched within a revision: new keys come last, and what takes the place
        // of a deleted one, which was not touched, comes to the same place. So each key is passed once.
        while let Some(key) = self.live.get(self.touched) {
            if free(key) {
                return Some(*key);
            }
            self.touched += 1;
        }
        None
    }

    fn put(&mut self, key: u32, sub: u32) -> Op {
        let main = self.main;
        let row = self.row_mut(key);
        let previous = row.modified;
        row.version = row.version.saturating_add(1);
        row.modified = main;
        row.sub = sub;
        Op::Put { key, created: row.created, version: row.version, previous }
    }

    fn delete(&mut self, key: u32, sub: u32) -> Op {
        let main = self.main;
        let deleted = u32::try_from(self.deleted.len()).unwrap_or(u32::MAX);
        let row = self.row_mut(key);
        let (previous, slot) = (row.modified, row.slot);
        *row = Key { created: 0, modified: main, sub, version: 0, slot: deleted };
        self.remove(key, slot, true);
        self.deleted.push(key);
        Op::Delete { key, previous }
    }

    /// Takes a key out of `live` or `deleted`; the last one there takes its place.
    fn remove(&mut self, key: u32, slot: u32, live: bool) {
        let list = if live { &mut self.live } else { &mut self.deleted };
        debug_assert_eq!(list.get(at(slot)), Some(&key), "a key knows its place");
        if at(slot) < list.len() {
            list.swap_remove(at(slot));
        }
        if let Some(moved) = list.get(at(slot)).copied() {
            self.row_mut(moved).slot = slot;
        }
    }

    /// One range delete. Survivors lie between the ranges and after the last.
    fn sweep(&mut self, ops: &mut Vec<Op>) {
        if self.in_order.is_empty() {
            self.in_order.clone_from(&self.live);
            let names = self.names;
            self.in_order.sort_by_cached_key(|key| names.rank(*key));
        }
        let count = u64::from(self.last - self.last_txn);
        let number = u64::from(self.main - self.last_txn - 1);
        let swept = u64::from(self.swept);
        let survivors = u64::try_from(self.in_order.len()).unwrap_or(u64::MAX).saturating_sub(swept);
        let part = |of: u64, number: u64| of * number / count;
        let start = part(survivors, number) + part(swept, number);
        let end = part(survivors, number) + part(swept, number + 1);
        for (place, sub) in (start..end).zip(0..) {
            let key = self.in_order.get(usize::try_from(place).unwrap_or(usize::MAX)).copied();
            if let Some(key) = key {
                ops.push(self.delete(key, sub));
            }
        }
    }

    fn row(&self, key: u32) -> Key {
        self.keys.get(at(key)).copied().unwrap_or_default()
    }

    fn row_mut(&mut self, key: u32) -> &mut Key {
        // Keys are numbered by this type alone, each as its row is pushed.
        &mut self.keys[at(key)]
    }
}

/// A 32-bit number as an index.
fn at(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Op {
    /// The key it is about.
    pub(crate) fn key(&self) -> u32 {
        match *self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The key's revision before, 0 when it did not exist.
    pub(crate) fn previous(&self) -> u32 {
        match *self {
            Self::Put { previous, .. } | Self::Delete { previous, .. } => previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Preset;

    fn shape(revisions: u32, records: u32, live_keys: u32) -> Shape {
        Shape { revisions, records, deletes: 0, live_keys, sweep: None, ..Shape::preset(Preset::Big, 2) }
    }

    /// A store of one key puts off nearly all it is asked for, and has four thousand million operations left at the end.
    #[test]
    fn the_largest_numbers_of_operations_are_counted() {
        let shape = shape(4_295, 4_294_967_295, 1);
        assert_eq!(shape.validate(), Ok(()));
        let mut history = History::new(&shape);
        let mut ops = Vec::new();
        let mut revisions = 0;
        while history.next(&mut ops).is_some() {
            assert_eq!(ops.len(), 1);
            revisions += 1;
        }
        assert_eq!(revisions, 4_295);
    }

    /// Looking at all keys for each operation, this would take 10^11 steps.
    #[test]
    fn a_transaction_that_touches_every_key_is_told_in_one_pass() {
        let shape = shape(2, 1_900_000, 650_000);
        let mut history = History::new(&shape);
        let mut ops = Vec::new();
        assert_eq!(history.next(&mut ops), Some(How::Txn));
        let first = ops.len();
        assert_eq!(history.next(&mut ops), Some(How::Txn));
        let mut keys: Vec<u32> = ops.iter().map(Op::key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!((keys.len(), history.live_keys()), (ops.len(), 650_000));
        assert!(first > 0 && ops.len() == 650_000, "{first} and {}", ops.len());
    }
}
