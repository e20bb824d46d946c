//! Records made again from what the log says was written, and from what is known of their keys before and behind.
//!
//! Key, value and lease of a record are the entry's. What else it says, when the key was created and how often it was put since, follows
//! from the key's history: from the record before it where none between can be missing, from the revision that the transaction itself asked
//! for, or from the record behind it. A record of which nothing of this tells is made all the same, for the sake of its value, and is open
//! to doubt.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::lost::{Kept, Known, Making, Wanted};
use super::steps::What;
use crate::mvcc::{KeyValue, Revision};

/// What is known to have happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) main: i64,
    pub(super) sub: i64,
    /// The numbers of a put; `None` for a deletion.
    pub(super) put: Option<Numbers>,
    /// Its value, where that may be kept by a later put.
    pub(super) value: Option<Vec<u8>>,
    /// Whether a compaction has removed it: something came after it that is not known.
    pub(super) is_gone: bool,
}

/// What a put says beside key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) create_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
    /// Whether that is certain.
    pub(super) is_certain: bool,
}

/// A record made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) revision: Revision,
    pub(super) value: Vec<u8>,
    pub(super) is_certain: bool,
}

/// What is known of keys, each by ascending revisions.
pub(super) type Histories = BTreeMap<Vec<u8>, Vec<Event>>;

/// Makes records again.
pub(super) struct Filling<'a> {
    known: Known<'a>,
    histories: Histories,
    /// Main revisions before each of the table that may hold what nobody knows: those that trees say nothing of, and all.
    unknown: [Vec<u32>; 2],
    /// Deletions of ranges and leases of which it is not known what they deleted.
    sweeps: Vec<(i64, Vec<Kept>, Option<i64>, bool)>,
    filled: Vec<Filled>,
    /// Main revisions that could not be made again, or not in full.
    unmade: BTreeSet<i64>,
}

impl<'a> Filling<'a> {
    pub(super) fn new(known: Known<'a>, histories: Histories) -> Self {
        let count = |is_unknown: &dyn Fn(i64) -> bool| {
            let mut before = vec![0];
            let mut count = 0;
            for main in known.mains() {
                count += u32::from(is_unknown(main));
                before.push(count);
            }
            before
        };
        let unsaid = |main| known.aligned.edge(main).is_none();
        let unknown = [count(&|main| unsaid(main) && known.may_have_more(main)), count(&unsaid)];
        Self { known, histories, unknown, sweeps: Vec::new(), filled: Vec::new(), unmade: BTreeSet::new() }
    }

    /// Makes the records of all `makings`, which ascend, and gives those that are lacking, by ascending revisions.
    pub(super) fn run(&mut self, makings: &[Making], wanted: &Wanted) -> (Vec<Filled>, BTreeSet<i64>) {
        for making in makings {
            self.make(making);
        }
        self.ask_those_behind();
        self.keep_newest_compacted(wanted);
        self.filled.sort_unstable_by_key(|filled| filled.revision);
        (std::mem::take(&mut self.filled), std::mem::take(&mut self.unmade))
    }

    /// Whether something may have happened to the key between two main revisions, both exclusive, that is not known.
    pub(super) fn is_open(&self, key: &[u8], lease: i64, after: i64, before: i64) -> bool {
        let Known { compacted, .. } = self.known;
        // What came before a record that was compacted itself was compacted too, and no tree misses it. Nor does one miss what came behind a
        // record that no tree has.
        let is_unsaid = before <= compacted || (after > 0 && self.known.may_have_more(after));
        let end = if is_unsaid { before.min(compacted.saturating_add(1)) } else { after };
        if self.has_unknown(after, end, true) || self.has_unknown(end.max(after + 1) - 1, before, false) {
            return true;
        }
        let first = self.sweeps.partition_point(|(main, ..)| *main <= after);
        let sweeps = self.sweeps.get(first..).unwrap_or_default();
        sweeps.iter().take_while(|(main, ..)| *main < before).any(|(_, ranges, revoked, has_more)| {
            *has_more
                || ranges.iter().any(|range| range.sweeps(key))
                || revoked.is_some_and(|revoked| lease != 0 && revoked == lease)
        })
    }

    /// Whether something may have been written in a main revision between two, both exclusive, that neither a record nor the log tells of,
    /// nor a tree unless `all` are meant.
    fn has_unknown(&self, after: i64, before: i64, all: bool) -> bool {
        let (from, to) = (after.saturating_add(1), before.saturating_sub(1));
        if from > to {
            return false;
        }
        let known = &self.known;
        // Outside of the table trees alone say what there was.
        let outside = [(from, to.min(known.table.first() - 1)), (from.max(known.table.last() + 1), to)];
        let is_unknown = |(from, to): &(i64, i64)| {
            let first = known.unsure.partition_point(|main| main < from);
            let is_unsure = known.unsure.get(first).is_some_and(|main| main <= to);
            from <= to && (all || is_unsure || known.is_silent_between(*from, *to))
        };
        if outside.iter().any(is_unknown) {
            return true;
        }
        let [silent, every] = &self.unknown;
        let counts = if all { every } else { silent };
        let place = |main: i64| usize::try_from(main.saturating_sub(known.table.first()).max(0)).unwrap_or(0);
        let at = |main: i64| counts.get(place(main)).or(counts.last()).copied().unwrap_or_default();
        at(before) > at(from)
    }

    /// Whether trees say everything of a main revision, so that what they do not have of it was not there.
    pub(super) fn is_told(&self, main: i64) -> bool {
        main > self.known.compacted && !self.known.is_silent(main)
    }

    /// The last thing known of a key before a place.
    fn last(&self, key: &[u8], main: i64, sub: i64) -> Option<&Event> {
        let events = self.histories.get(key)?;
        let at = events.partition_point(|event| (event.main, event.sub) < (main, sub));
        events.get(at.checked_sub(1)?)
    }

    /// The last put of a key that is there before a place; `None` when it was deleted, or never there.
    fn live(&self, key: &[u8], main: i64, sub: i64) -> Option<(&Event, Numbers)> {
        // What a compaction removed is there no more; but it was when that was still to come.
        let is_there = |event: &&Event| !event.is_gone || main <= self.known.compacted;
        let event = self.last(key, main, sub).filter(is_there)?;
        event.put.map(|numbers| (event, numbers))
    }

    fn add(&mut self, key: &[u8], event: Event) {
        let events = self.histories.entry(key.to_vec()).or_default();
        let at = events.partition_point(|other| (other.main, other.sub) < (event.main, event.sub));
        match events.get_mut(at).filter(|other| (other.main, other.sub) == (event.main, event.sub)) {
            Some(other) => *other = event,
            None => events.insert(at, event),
        }
    }

    fn make(&mut self, making: &Making) {
        let main = making.main;
        let mut sub: i64 = 0;
        let mut deletions = 0;
        let mut is_told = true;
        for write in &making.writes {
            if write.is_delete && !write.range_end.is_empty() {
                let keys = self.swept(write, main, sub);
                self.delete_all(keys, (main, &mut sub), &mut is_told);
                continue;
            }
            if write.is_delete {
                // Behind the first range it is not known from the other records whether the key was there.
                let is_there = if deletions < 8 && is_told {
                    deletions += 1;
                    making.edge.found & (1 << (deletions - 1)) != 0
                } else {
                    self.live(&write.key, main, sub).is_some()
                };
                if is_there {
                    self.delete(&write.key, main, sub, is_told);
                    sub += 1;
                }
                continue;
            }
            self.put(write, making, main, sub, is_told);
            sub += 1;
        }
        if let Some(lease) = making.revokes {
            let keys = self.on_lease(lease, main);
            self.delete_all(keys, (main, &mut sub), &mut is_told);
        }
        if making.has_more || !is_told {
            let ranges = making.writes.iter().filter(|write| !write.range_end.is_empty()).cloned().collect();
            self.sweeps.push((main, ranges, making.revokes, making.has_more));
            if main > self.known.compacted && self.known.may_have_more(main) {
                self.unmade.insert(main);
            }
        }
    }

    /// The keys of a range that are there.
    fn swept(&self, range: &Kept, main: i64, sub: i64) -> Vec<Vec<u8>> {
        let from = self
            .histories
            .range::<[u8], _>((std::ops::Bound::Included(range.key.as_slice()), std::ops::Bound::Unbounded));
        let in_it = from.take_while(|(key, _)| range.sweeps(key)).map(|(key, _)| key);
        in_it.filter(|key| self.live(key, main, sub).is_some()).cloned().collect()
    }

    /// The keys that hang on a lease.
    fn on_lease(&self, lease: i64, main: i64) -> Vec<Vec<u8>> {
        let hangs = |key: &&Vec<u8>| self.live(key, main, 0).is_some_and(|(_, put)| put.lease == lease);
        self.histories.keys().filter(hangs).cloned().collect()
    }

    /// Deletes keys at the next places of a revision, as far as it is known that these are all.
    fn delete_all(&mut self, keys: Vec<Vec<u8>>, (main, sub): (i64, &mut i64), is_told: &mut bool) {
        // A key that is not known at all may have been there too, unless nothing is missing from the beginning on.
        *is_told &= !self.is_open(&[], 0, 0, main);
        for key in keys {
            self.delete(&key, main, *sub, *is_told);
            *sub += 1;
        }
    }

    fn delete(&mut self, key: &[u8], main: i64, sub: i64, is_certain: bool) {
        self.add(key, Event { main, sub, put: None, value: None, is_gone: false });
        let place = u32::try_from(sub).unwrap_or(u32::MAX);
        if main > self.known.compacted && !self.known.has(main, place, None) {
            let mut value = Vec::new();
            KeyValue { key, ..KeyValue::default() }.encode(&mut value);
            let revision = Revision { main, sub, tombstone: true };
            self.filled.push(Filled { revision, value, is_certain });
        }
    }

    fn put(&mut self, write: &Kept, making: &Making, main: i64, sub: i64, is_told: bool) {
        let place = u32::try_from(sub).unwrap_or(u32::MAX);
        let op = making.edge.ops(self.known.steps).nth(usize::try_from(sub).unwrap_or(usize::MAX));
        let op = op.map(|(_, op)| op).filter(|op| is_told && op.what != What::Delete);
        let survived = self.known.has(main, place, op);
        if survived && !self.histories.contains_key(&write.key) {
            return;
        }
        let is_listed = |event: &&Event| (event.main, event.sub) == (main, sub) && event.put.is_some();
        if survived
            && self.histories.get(&write.key).is_some_and(|events| events.iter().any(|e| is_listed(&e)))
        {
            return;
        }
        let before = self.live(&write.key, main, sub).map(|(event, put)| (event.clone(), put));
        let (mut value, mut lease, mut has_value) = (write.value.clone(), write.lease, true);
        if write.keeps_value || write.keeps_lease {
            match &before {
                Some((event, put)) => {
                    lease = if write.keeps_lease { put.lease } else { lease };
                    if write.keeps_value {
                        has_value = event.value.is_some();
                        value = event.value.clone().unwrap_or_default();
                    }
                }
                None => has_value = false,
            }
        }
        let guard = making.guard.as_ref().filter(|(key, _)| *key == write.key).map(|(_, revision)| *revision);
        let asked = match (guard, &before) {
            // It asked that the key be not there.
            (Some(0), _) => Some((main, 1, true)),
            (Some(revision), Some((event, put))) if event.main == revision => {
                Some((put.create_revision, put.version.saturating_add(1), put.is_certain))
            }
            (Some(_), _) => None,
            (None, _) => {
                let after = self.last(&write.key, main, sub).map_or(0, |event| event.main);
                let lease = before.as_ref().map_or(0, |(_, put)| put.lease);
                let is_open = self.is_open(&write.key, lease, after, main);
                let certain = before.as_ref().is_none_or(|(_, put)| put.is_certain) && !is_open;
                let next =
                    before.as_ref().map(|(_, put)| (put.create_revision, put.version.saturating_add(1)));
                let (create_revision, version) = next.unwrap_or((main, 1));
                Some((create_revision, version, certain))
            }
        };
        let guess =
            before.as_ref().map(|(_, put)| (put.create_revision, put.version.saturating_add(1), false));
        let (create_revision, version, is_certain) = asked.or(guess).unwrap_or((main, 1, false));
        let keeps_unknown = (write.keeps_value || write.keeps_lease) && !is_certain;
        let numbers = Numbers { create_revision, version, lease, is_certain: is_certain && is_told };
        let kept = Some(value.clone()).filter(|_| has_value);
        let is_gone = main <= self.known.compacted && !survived && !self.known.may_have_more(main);
        self.add(&write.key, Event { main, sub, put: Some(numbers), value: kept, is_gone });
        if survived {
            return;
        }
        if !has_value || keeps_unknown {
            self.unmade.insert(main);
        }
        if has_value {
            let is_certain = numbers.is_certain && !keeps_unknown;
            let kv = KeyValue {
                key: &write.key,
                create_revision,
                mod_revision: main,
                version,
                value: &value,
                lease,
            };
            let mut encoded = Vec::new();
            kv.encode(&mut encoded);
            let revision = Revision { main, sub, tombstone: false };
            self.filled.push(Filled { revision, value: encoded, is_certain });
        }
    }

    /// Holds each put against the record behind it: makes certain what the record before it did not tell, and open to doubt where the
    /// two say different things.
    fn ask_those_behind(&mut self) {
        for at in (0..self.filled.len()).rev() {
            let Some(found) = self.filled.get(at).and_then(|filled| self.told_from_behind(filled)) else {
                continue;
            };
            let Some(filled) = self.filled.get_mut(at) else { continue };
            let Revision { main, sub, .. } = filled.revision;
            let Ok(kv) = KeyValue::decode(&filled.value) else { continue };
            let (create_revision, version) = found;
            let is_same = (kv.create_revision, kv.version) == found;
            if filled.is_certain && !is_same {
                filled.is_certain = false;
                continue;
            }
            let key = kv.key.to_vec();
            let numbers = Numbers { create_revision, version, lease: kv.lease, is_certain: true };
            let mut value = Vec::new();
            KeyValue { create_revision, version, ..kv }.encode(&mut value);
            filled.value = value;
            filled.is_certain = true;
            let events = self.histories.get_mut(&key).into_iter().flatten();
            if let Some(event) = events.into_iter().find(|event| (event.main, event.sub) == (main, sub)) {
                event.put = Some(numbers);
            }
        }
    }

    /// When the key was created and how often it was put, by the next record of it.
    fn told_from_behind(&self, filled: &Filled) -> Option<(i64, i64)> {
        let Revision { main, sub, tombstone: false } = filled.revision else { return None };
        let kv = KeyValue::decode(&filled.value).ok()?;
        let events = self.histories.get(kv.key)?;
        let next = events.get(events.partition_point(|event| (event.main, event.sub) <= (main, sub)))?;
        let numbers = next.put.filter(|numbers| numbers.is_certain && numbers.version > 1)?;
        let version = numbers.version - 1;
        let goes_on = numbers.create_revision <= main && (version == 1) == (numbers.create_revision == main);
        let is_known = !self.is_open(kv.key, kv.lease, main, next.main) && !self.unmade.contains(&main);
        (goes_on && is_known).then_some((numbers.create_revision, version))
    }

    /// Of records at or below the compaction only the last of each key is there, where it is a put.
    fn keep_newest_compacted(&mut self, wanted: &Wanted) {
        let compacted = self.known.compacted;
        let mut newest: HashMap<&[u8], (i64, i64, bool, i64)> = HashMap::new();
        for (key, events) in &self.histories {
            let below = events.partition_point(|event| event.main <= compacted);
            if let Some(last) = below.checked_sub(1).and_then(|at| events.get(at)) {
                let lease = last.put.map_or(0, |put| put.lease);
                newest.insert(key, (last.main, last.sub, last.put.is_some(), lease));
            }
        }
        let mut filled = std::mem::take(&mut self.filled);
        filled.retain_mut(|filled| {
            let Revision { main, sub, .. } = filled.revision;
            if main > compacted {
                return true;
            }
            let Ok(kv) = KeyValue::decode(&filled.value) else { return false };
            let is_newest = matches!(newest.get(kv.key), Some((m, s, true, _)) if (*m, *s) == (main, sub));
            let was_sought = wanted.keys.contains(&super::asked::key_hash(kv.key));
            // What came behind it and was lost too may have been the key's.
            let is_open = self.is_open(kv.key, kv.lease, main, compacted.saturating_add(1));
            filled.is_certain &= !is_open;
            // What trees say everything of and do not have was removed.
            let place = u32::try_from(sub).unwrap_or(u32::MAX);
            let may_be = self.known.may_have_more(main) || self.known.has(main, place, None);
            is_newest && was_sought && may_be
        });
        self.filled = filled;
    }
}
