//! What is known of each main revision that the log may have made.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::asked::{key_hash, put_hash, tombstone_hash};
use super::steps::{Guard, Op, What};
use crate::mvcc::{KeyValue, Revision};

/// Most records that are kept: 24 bytes each.
const MOST_RECORDS: usize = 32 << 20;

/// A record that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) sub: u32,
    pub(super) is_tombstone: bool,
    /// Hash of the user's key.
    pub(super) key: u64,
    /// Hash of what it says beside its numbers.
    pub(super) content: u64,
}

impl Known {
    /// The record at `revision`, whose value is `value`; `None` when that is none.
    pub(super) fn of(revision: Revision, value: &[u8]) -> Option<Self> {
        let kv = KeyValue::decode(value).ok()?;
        let content =
            if revision.tombstone { tombstone_hash(kv.key) } else { put_hash(kv.key, kv.value, kv.lease) };
        let sub = u32::try_from(revision.sub).ok()?;
        Some(Self { sub, is_tombstone: revision.tombstone, key: key_hash(kv.key), content })
    }

    /// Whether this operation writes its key.
    pub(super) fn is_of(&self, op: &Op) -> bool {
        self.key == op.key && self.is_tombstone == (op.what == What::Delete)
    }

    /// Whether this operation writes it.
    pub(super) fn is_by(&self, op: &Op) -> bool {
        match op.what {
            What::Keep => !self.is_tombstone && self.key == op.key,
            What::Put | What::Delete => self.content == op.content,
        }
    }
}

/// The main revisions in a row that a log may have made, and the records of each that are known.
#[derive(Debug, Default)]
pub(super) struct Table {
    first: i64,
    /// Where the records of each begin, and an end.
    starts: Vec<u32>,
    records: Vec<Known>,
    /// Where each key is known to have been written, by the hash of the key: places of main revisions, ascending.
    by_key: HashMap<u64, Vec<u32>>,
    /// Whether each may have records that are not known.
    open: Vec<bool>,
    /// Main revisions before each that may have records that are not known; one more than there are.
    open_before: Vec<u32>,
}

impl Table {
    /// A table of the main revisions `mains`; records are put in it in their order, then it is [`Self::close`]d.
    pub(super) fn new(mains: &RangeInclusive<i64>) -> Self {
        Self { first: *mains.start(), ..Self::default() }
    }

    /// Adds a record, which lies behind those before; whether there was room.
    pub(super) fn push(&mut self, main: i64, known: Known) -> bool {
        let Ok(place) = usize::try_from(main.saturating_sub(self.first)) else { return true };
        if self.records.len() >= MOST_RECORDS {
            return false;
        }
        let count = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        if self.starts.len() <= place {
            self.starts.resize(place + 1, count);
        }
        let writers = self.by_key.entry(known.key).or_default();
        let at = u32::try_from(place).unwrap_or(u32::MAX);
        if writers.last() != Some(&at) {
            writers.push(at);
        }
        self.records.push(known);
        true
    }

    /// Ends the table at the main revision `last`. `is_open` says which of those that are known in part may have more.
    pub(super) fn close(&mut self, last: i64, is_open: impl Fn(i64) -> bool) {
        let len = usize::try_from(last.saturating_sub(self.first).saturating_add(1)).unwrap_or(0);
        let count = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        self.starts.resize(len + 1, count);
        let is_open = |place| self.at_place(place).is_empty() || is_open(self.main_at(place));
        self.open = (0..len).map(is_open).collect();
        self.count_open();
    }

    fn count_open(&mut self) {
        let mut open = 0;
        self.open_before = Vec::with_capacity(self.open.len() + 1);
        for is_open in &self.open {
            self.open_before.push(open);
            open += u32::from(*is_open);
        }
        self.open_before.push(open);
    }

    /// The same table with all records of the main revisions that `made` knows; `None` where there is no room.
    pub(super) fn with(&self, made: impl Fn(i64) -> Option<Vec<Known>>) -> Option<Self> {
        let mut fuller = Self { first: self.first, ..Self::default() };
        let mut open = Vec::with_capacity(self.len());
        for place in 0..self.len() {
            let main = self.main_at(place);
            let all = made(main);
            let records = all.as_deref().unwrap_or_else(|| self.at_place(place));
            for known in records {
                if !fuller.push(main, *known) {
                    return None;
                }
            }
            open.push(all.is_none() && self.open.get(place).copied().unwrap_or(true));
        }
        let count = u32::try_from(fuller.records.len()).unwrap_or(u32::MAX);
        fuller.starts.resize(self.starts.len(), count);
        fuller.open = open;
        fuller.count_open();
        Some(fuller)
    }

    /// Whether the key with this hash is known to have been written in one of them.
    pub(super) fn has_key(&self, key: u64) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The first main revision.
    pub(super) const fn first(&self) -> i64 {
        self.first
    }

    /// The last main revision; before the first where there is none.
    pub(super) fn last(&self) -> i64 {
        self.main_at(self.len()).saturating_sub(1)
    }

    /// How many main revisions there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    fn main_at(&self, place: usize) -> i64 {
        self.first.saturating_add(i64::try_from(place).unwrap_or(i64::MAX))
    }

    pub(super) fn place(&self, main: i64) -> Option<usize> {
        usize::try_from(main.checked_sub(self.first)?).ok().filter(|place| *place < self.len())
    }

    fn at_place(&self, place: usize) -> &[Known] {
        let (from, to) = (self.starts.get(place), self.starts.get(place + 1));
        let (Some(from), Some(to)) = (from, to) else { return &[] };
        self.records.get(*from as usize..*to as usize).unwrap_or_default()
    }

    /// The records known of a main revision.
    pub(super) fn at(&self, main: i64) -> &[Known] {
        self.place(main).map_or(&[], |place| self.at_place(place))
    }

    /// Whether nothing is unknown of the main revisions behind `after` and before `before`, all of which lie in the table.
    pub(super) fn is_closed_between(&self, after: i64, before: i64) -> bool {
        let from = self.place(after.saturating_add(1));
        if after.saturating_add(1) >= before {
            return true;
        }
        let to = usize::try_from(before.saturating_sub(self.first)).ok();
        let open = |place: Option<usize>| self.open_before.get(place?).copied();
        matches!((open(from), open(to)), (Some(from), Some(to)) if from == to)
    }

    /// The last main revision before `before` of which it is known that it wrote the key, and whether it put it.
    fn last_write(&self, key: u64, before: i64) -> Option<(i64, bool)> {
        let writers = self.by_key.get(&key)?;
        let at = writers.partition_point(|place| self.main_at(*place as usize) < before);
        let main = self.main_at(*writers.get(at.checked_sub(1)?)? as usize);
        let last = self.at(main).iter().rev().find(|known| known.key == key)?;
        Some((main, !last.is_tombstone))
    }

    /// Whether what a transaction asks of the store holds where the next main revision is `next`; `None` where nobody knows.
    pub(super) fn holds(&self, guard: &Guard, next: i64) -> Option<bool> {
        if guard.revision >= next || guard.revision < 0 {
            return Some(false);
        }
        match self.last_write(guard.key, next) {
            Some((main, is_put)) => {
                let is_as_asked = if is_put { main == guard.revision } else { guard.revision == 0 };
                // Whatever was written since is not known to be, and could make it hold; but not where it is older than that.
                if !is_as_asked && guard.revision != 0 && guard.revision <= main {
                    return Some(false);
                }
                self.is_closed_between(main, next).then_some(is_as_asked)
            }
            None => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn put(main: i64, key: &[u8]) -> (i64, Known) {
        let mut value = Vec::new();
        KeyValue { key, mod_revision: main, version: 1, create_revision: main, value: b"v", lease: 0 }
            .encode(&mut value);
        (main, Known::of(Revision { main, sub: 0, tombstone: false }, &value).unwrap())
    }

    fn deleted(main: i64, key: &[u8]) -> (i64, Known) {
        let mut value = Vec::new();
        KeyValue { key, ..KeyValue::default() }.encode(&mut value);
        (main, Known::of(Revision { main, sub: 0, tombstone: true }, &value).unwrap())
    }

    fn table(records: &[(i64, Known)], last: i64) -> Table {
        let mut table = Table::new(&(10..=last));
        for (main, known) in records {
            assert!(table.push(*main, *known));
        }
        table.close(last, |_| false);
        table
    }

    #[test]
    fn what_a_transaction_asks_is_told_where_nothing_is_missing_between() {
        let table =
            table(&[put(10, b"a"), put(11, b"b"), deleted(13, b"a"), put(14, b"b"), put(15, b"c")], 20);
        assert_eq!((table.first(), table.last(), table.len()), (10, 20, 11));
        let asks = |key: &[u8], revision, next| table.holds(&Guard { key: key_hash(key), revision }, next);
        assert_eq!(asks(b"a", 10, 12), Some(true));
        assert_eq!(asks(b"a", 0, 12), Some(false));
        // 12 is not known: it may have written it again.
        assert_eq!(asks(b"b", 11, 13), None);
        assert_eq!(asks(b"b", 12, 13), None);
        // But not what is older than what is known.
        assert_eq!(asks(b"b", 9, 13), Some(false));
        assert_eq!(asks(b"b", 11, 15), Some(false));
        assert_eq!(asks(b"a", 0, 15), Some(true));
        assert_eq!(asks(b"a", 13, 15), Some(false));
        assert_eq!(asks(b"a", 0, 17), None);
        assert_eq!(asks(b"never", 0, 12), None);
        assert_eq!(asks(b"a", 30, 20), Some(false));
    }

    #[test]
    fn what_is_known_in_part_counts_as_open() {
        let mut table = Table::new(&(10..=12));
        for (main, known) in [put(10, b"a"), put(11, b"b"), put(12, b"c")] {
            table.push(main, known);
        }
        table.close(12, |main| main == 11);
        assert!(table.is_closed_between(10, 11));
        assert!(!table.is_closed_between(10, 12));
        assert!(table.is_closed_between(11, 12));
        assert!(table.is_closed_between(11, 13));
        // What lies before the table is not known.
        assert!(!table.is_closed_between(5, 12));
    }
}
