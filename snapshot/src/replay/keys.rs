//! The keys: those of the db, and over them what the entries wrote (FORMATS C, G.7).
//!
//! A key of the db costs nothing until an entry writes it. From then on its state is kept: its newest record, the numbers that
//! its next record is made of, and the lease it hangs on. Those numbers come from the db as a server has them after its start:
//! the first record of the key's generation says when it was created and how many puts there were before (FORMATS C.2).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bbolt::Source;

use super::StopReason;
use super::arena::{Arena, Place};
use super::lease::Leases;
use super::signposts::Signposts;
use crate::mvcc::{Entry, Index, KeyValue, RecordError, Revision};

/// What a store's compacted revision is while nothing was compacted, as servers have it.
pub(super) const NEVER_COMPACTED: i64 = -1;

/// Bytes of a record beside its key and value, at most.
const MOST_NUMBERS_BYTES: usize = 64;

/// The key space of a db with what entries wrote over it.
#[derive(Debug)]
pub struct Keys<'d, S> {
    pub(super) index: Index<'d, S>,
    signposts: Signposts,
    /// The leases, and which keys hang on them.
    pub(super) leases: Leases,
    current_revision: i64,
    pub(super) compact_revision: i64,
    numbers: HashMap<Arc<[u8]>, usize>,
    names: Vec<Arc<[u8]>>,
    states: Vec<State>,
    /// Keys of the index that have a state, by their number there, with the number of the state.
    of_index: HashMap<usize, usize>,
    /// The names so far in their order, as far as a range was asked for.
    ordered: BTreeMap<Arc<[u8]>, usize>,
    pub(super) records: Vec<Written>,
    arena: Arena,
    /// Number of records before the revision that is being written.
    begun: usize,
    /// States before the revision that is being written changed them.
    undo: Vec<(usize, State)>,
}

/// A record that an entry wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) revision: Revision,
    /// The key's number among those with a state.
    pub(super) key: usize,
    place: Place,
}

/// A key that an entry wrote.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Its newest record, where that is a put.
    live: Option<Live>,
    /// The lease it hangs on; 0 for none.
    lease: i64,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    create_revision: i64,
    version: i64,
    at: At,
}

#[derive(Debug, Clone, Copy)]
enum At {
    File(Entry),
    Arena(Place),
}

/// The value of a key: its newest record, which is a put.
#[derive(Debug)]
pub struct Newest<'k>(Cow<'k, [u8]>);

impl Newest<'_> {
    /// The record.
    #[must_use]
    pub fn kv(&self) -> KeyValue<'_> {
        // Checked when it was read.
        KeyValue::decode(&self.0).unwrap_or_default()
    }
}

impl<'d, S: Source> Keys<'d, S> {
    /// The keys of a db, in its newest state. The leases are those of its bucket `lease`.
    pub(super) fn new(index: Index<'d, S>, leases: Leases) -> Self {
        let store = index.store();
        let (current_revision, compact_revision) =
            (store.current_revision, store.compact_revision.unwrap_or(NEVER_COMPACTED));
        Self {
            index,
            signposts: Signposts::default(),
            leases,
            current_revision,
            compact_revision,
            numbers: HashMap::new(),
            names: Vec::new(),
            states: Vec::new(),
            of_index: HashMap::new(),
            ordered: BTreeMap::new(),
            records: Vec::new(),
            arena: Arena::default(),
            begun: 0,
            undo: Vec::new(),
        }
    }

    /// The store's revision.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        self.current_revision
    }

    /// The revision up to which the history is compacted; `None` while it never was.
    #[must_use]
    pub fn compact_revision(&self) -> Option<i64> {
        (self.compact_revision > NEVER_COMPACTED).then_some(self.compact_revision)
    }

    /// The value of `key` as it is now; `None` when it is not there.
    ///
    /// # Errors
    /// When a record of the db cannot be read again.
    pub fn newest(&self, key: &[u8]) -> Result<Option<Newest<'_>>, RecordError> {
        let live = match self.numbers.get(key) {
            Some(number) => self.states.get(*number).and_then(|state| state.live).map(|live| live.at),
            None => self.in_file(key)?.and_then(|number| self.file_record(number)).map(At::File),
        };
        live.map(|at| self.read(at)).transpose()
    }

    /// Shows `look` the value of every key in the range of a request, in no order, until it says no.
    ///
    /// # Errors
    /// When a record of the db cannot be read again.
    pub(super) fn all_in(
        &mut self,
        key: &[u8],
        range_end: &[u8],
        mut look: impl FnMut(&KeyValue<'_>) -> bool,
    ) -> Result<(), RecordError> {
        let written = self.written_in(key, range_end);
        for number in written {
            let live = self.states.get(number).and_then(|state| state.live);
            let Some(live) = live else { continue };
            if !look(&self.read(live.at)?.kv()) {
                return Ok(());
            }
        }
        for number in self.file_numbers(key, range_end)? {
            if self.of_index.contains_key(&number) {
                continue;
            }
            let Some(entry) = self.file_record(number) else { continue };
            if !look(&self.read(At::File(entry))?.kv()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Begins the writes of one revision.
    ///
    /// # Errors
    /// When there is no revision left.
    pub(super) fn begin(&mut self) -> Result<(), StopReason> {
        if self.current_revision == i64::MAX {
            return Err(StopReason::Dies("the store is at the last revision there can be".to_owned()));
        }
        self.begun = self.records.len();
        self.undo.clear();
        Ok(())
    }

    /// Ends the writes of one revision, which is one only if anything was written; whether anything was.
    pub(super) fn commit(&mut self) -> bool {
        let wrote = self.records.len() > self.begun;
        if wrote {
            self.current_revision += 1;
        }
        self.begun = self.records.len();
        self.undo.clear();
        wrote
    }

    /// Takes back what was written since [`Self::begin`].
    pub(super) fn roll_back(&mut self) {
        while let Some((number, before)) = self.undo.pop() {
            let Some(state) = self.states.get_mut(number) else { continue };
            self.leases.detach(state.lease, number);
            *state = before;
            self.leases.attach(before.lease, number);
        }
        if let Some(first) = self.records.get(self.begun) {
            self.arena.truncate(first.place);
        }
        self.records.truncate(self.begun);
    }

    /// Puts `key`, as the next operation of the revision that was begun. A lease that is not 0 must exist.
    ///
    /// # Errors
    /// When a record of the db cannot be read again, or the lease does not exist.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Result<(), StopReason> {
        let number = self.number_of(key)?;
        let before = self.states.get(number).copied().unwrap_or_default();
        if lease != 0 && !self.leases.has(lease) {
            return Err(StopReason::Dies(format!(
                "it keeps lease {lease:016x} on a key that names it, and that lease does not exist"
            )));
        }
        let revision = self.next_revision(false);
        let create_revision = before.live.map_or(revision.main, |live| live.create_revision);
        let version = before.live.map_or(0, |live| live.version).saturating_add(1);
        let kv = KeyValue { key, create_revision, mod_revision: revision.main, version, value, lease };
        let place = self.arena.add(key.len() + value.len() + MOST_NUMBERS_BYTES, |bytes| kv.encode(bytes));
        self.records.push(Written { revision, key: number, place });
        let live = Some(Live { create_revision, version, at: At::Arena(place) });
        self.set(number, before, State { live, lease });
        Ok(())
    }

    /// Deletes what is there of the range of a request, as the next operations of the revision that was begun; how many keys.
    ///
    /// # Errors
    /// When a record of the db cannot be read again.
    pub(super) fn delete_range(&mut self, key: &[u8], range_end: &[u8]) -> Result<usize, RecordError> {
        if range_end.is_empty() {
            let number = match self.numbers.get(key) {
                Some(number) => *number,
                None => match self.in_file(key)? {
                    Some(found) if self.file_record(found).is_some() => self.number_of(key)?,
                    _ => return Ok(0),
                },
            };
            return Ok(usize::from(self.delete(number)));
        }
        let mut numbers = self.written_in(key, range_end);
        for found in self.file_numbers(key, range_end)? {
            if self.of_index.contains_key(&found) || self.file_record(found).is_none() {
                continue;
            }
            let Some(history) = self.index.history(found) else { continue };
            let name = history.key()?;
            numbers.push(self.number_in_file(&name, Some(found))?);
        }
        let names = &self.names;
        numbers.sort_unstable_by_key(|number| names.get(*number));
        Ok(numbers.into_iter().map(|number| usize::from(self.delete(number))).sum())
    }

    /// Deletes the key with this state; whether it was there.
    pub(super) fn delete(&mut self, number: usize) -> bool {
        let before = self.states.get(number).copied().unwrap_or_default();
        if before.live.is_none() {
            return false;
        }
        let Some(name) = self.names.get(number).cloned() else { return false };
        let revision = self.next_revision(true);
        let kv = KeyValue { key: &name, ..KeyValue::default() };
        let place = self.arena.add(name.len() + MOST_NUMBERS_BYTES, |bytes| kv.encode(bytes));
        self.records.push(Written { revision, key: number, place });
        self.set(number, before, State::default());
        true
    }

    /// The keys that hang on `lease`, in their order; as numbers of states, which they are given.
    ///
    /// # Errors
    /// When a record of the db cannot be read again.
    pub(super) fn attached(&mut self, lease: i64) -> Result<Vec<usize>, RecordError> {
        if !self.leases.has(lease) {
            return Ok(Vec::new());
        }
        let in_file = self.leases.in_file(&self.index, lease)?;
        for found in in_file {
            if self.of_index.contains_key(&found) {
                continue;
            }
            let Some(history) = self.index.history(found) else { continue };
            let name = history.key()?;
            self.number_in_file(&name, Some(found))?;
        }
        let mut numbers = self.leases.attached(lease);
        let names = &self.names;
        numbers.sort_unstable_by_key(|number| names.get(*number));
        Ok(numbers)
    }

    /// The name of the key with this state.
    pub(super) fn name(&self, number: usize) -> &[u8] {
        self.names.get(number).map_or(&[], |name| name)
    }

    /// The value of a record that an entry wrote: a `mvccpb.KeyValue`.
    pub(super) fn bytes(&self, written: &Written) -> &[u8] {
        self.arena.bytes(written.place)
    }

    /// The records that entries wrote, in their order, as pairs of bucket `key`. Nothing can be read of them afterwards.
    pub(super) fn take_records(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pair = |record: &Written| (record.revision.encode(), self.arena.bytes(record.place).to_vec());
        let pairs = self.records.iter().map(pair).collect();
        (self.records, self.arena) = (Vec::new(), Arena::default());
        (self.numbers, self.names, self.states) = (HashMap::new(), Vec::new(), Vec::new());
        self.ordered = BTreeMap::new();
        pairs
    }

    /// Number of keys with a state.
    pub(super) fn state_count(&self) -> usize {
        self.states.len()
    }

    /// The number of the state of the key of the index with this number.
    pub(super) fn state_of(&self, number: usize) -> Option<usize> {
        self.of_index.get(&number).copied()
    }

    fn next_revision(&self, tombstone: bool) -> Revision {
        let sub = i64::try_from(self.records.len() - self.begun).unwrap_or(i64::MAX);
        // There is a next one: a revision does not begin otherwise.
        Revision { main: self.current_revision.saturating_add(1), sub, tombstone }
    }

    fn set(&mut self, number: usize, before: State, after: State) {
        self.undo.push((number, before));
        if before.lease != after.lease {
            self.leases.detach(before.lease, number);
            self.leases.attach(after.lease, number);
        }
        if let Some(state) = self.states.get_mut(number) {
            *state = after;
        }
    }

    fn read(&self, at: At) -> Result<Newest<'_>, RecordError> {
        match at {
            At::Arena(place) => Ok(Newest(Cow::Borrowed(self.arena.bytes(place)))),
            At::File(entry) => {
                let bytes = self.index.record(&entry)?.bytes;
                KeyValue::decode(&bytes)
                    .map_err(|source| RecordError::Decode { offset: entry.offset(), source })?;
                Ok(Newest(bytes))
            }
        }
    }

    /// The number in the index of `key`.
    fn in_file(&self, key: &[u8]) -> Result<Option<usize>, RecordError> {
        let number = self.signposts.lower_bound(&self.index, key)?;
        let Some(history) = self.index.history(number) else { return Ok(None) };
        Ok((*history.key()? == *key).then_some(number))
    }

    /// The newest record of the key with this number in the index, where it is a put.
    fn file_record(&self, number: usize) -> Option<Entry> {
        self.index.history(number)?.at(i64::MAX).copied()
    }

    /// The keys of the index in the range of a request, by their numbers there.
    fn file_numbers(&self, key: &[u8], range_end: &[u8]) -> Result<std::ops::Range<usize>, RecordError> {
        let first = self.signposts.lower_bound(&self.index, key)?;
        let end = match range_end {
            [] => match self.index.history(first) {
                Some(history) if *history.key()? == *key => first + 1,
                _ => first,
            },
            [0] => self.index.key_count(),
            end => self.signposts.lower_bound(&self.index, end)?.max(first),
        };
        Ok(first..end)
    }

    /// The keys with a state in the range of a request, in their order.
    fn written_in(&mut self, key: &[u8], range_end: &[u8]) -> Vec<usize> {
        if range_end.is_empty() {
            return self.numbers.get(key).copied().into_iter().collect();
        }
        for (number, name) in self.names.iter().enumerate().skip(self.ordered.len()) {
            self.ordered.insert(Arc::clone(name), number);
        }
        let end = match range_end {
            [0] => Bound::Unbounded,
            end if end <= key => return Vec::new(),
            end => Bound::Excluded(end),
        };
        self.ordered.range::<[u8], _>((Bound::Included(key), end)).map(|(_, number)| *number).collect()
    }

    /// The number of the state of `key`, which is made when there is none.
    fn number_of(&mut self, key: &[u8]) -> Result<usize, RecordError> {
        match self.numbers.get(key) {
            Some(number) => Ok(*number),
            None => {
                let found = self.in_file(key)?;
                self.number_in_file(key, found)
            }
        }
    }

    /// The number of a new state for `key`, whose number in the index is `found`.
    fn number_in_file(&mut self, key: &[u8], found: Option<usize>) -> Result<usize, RecordError> {
        let state = match found {
            Some(found) => self.state_in_file(found)?,
            None => State::default(),
        };
        let number = self.states.len();
        let name: Arc<[u8]> = Arc::from(key);
        self.leases.attach(state.lease, number);
        if self.numbers.len() == self.numbers.capacity() {
            // To make room hashes every key anew.
            self.numbers.reserve(self.numbers.len().saturating_mul(3));
        }
        self.states.push(state);
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        if let Some(found) = found {
            self.of_index.insert(found, number);
        }
        Ok(number)
    }

    /// The state that a server gives the key with this number in the index when it starts.
    fn state_in_file(&self, number: usize) -> Result<State, RecordError> {
        let none = State::default();
        let Some(history) = self.index.history(number) else { return Ok(none) };
        let entries = history.entries();
        let begin = entries.iter().rposition(Entry::is_tombstone).map_or(0, |last| last + 1);
        let generation = entries.get(begin..).unwrap_or_default();
        let (Some(first), Some(last)) = (generation.first(), generation.last()) else { return Ok(none) };
        let puts = i64::try_from(generation.len()).unwrap_or(i64::MAX);
        let (create_revision, version) = if begin == 0 {
            let record = self.read(At::File(*first))?;
            let kv = record.kv();
            (kv.create_revision, kv.version.saturating_add(puts - 1))
        } else {
            (first.main(), puts)
        };
        let lease = if self.leases.was_any_in_file() {
            let lease = self.read(At::File(*last))?.kv().lease;
            if self.leases.was_in_file(lease) { lease } else { 0 }
        } else {
            0
        };
        Ok(State { live: Some(Live { create_revision, version, at: At::File(*last) }), lease })
    }
}
