//! When keys were created and how often they were put, held against each other.
//!
//! The log says which key, value and lease a record has, and nothing of these numbers. They follow from the record of the key before it: so
//! where nothing between the two can be missing they confirm each other, or one of them is wrong.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::asked::key_hash;
use super::fill::{Filled, Filling};
use super::table::Table;
use crate::mvcc::{KeyValue, Revision};

/// A place of a record: main revision, and the place within it.
pub(super) type Place = (i64, i64);

/// What the numbers of records are worth.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Records that survived whose numbers nothing confirms.
    pub(super) unconfirmed: HashSet<Place>,
    /// Records that survived and are not what the log says, or whose numbers cannot be.
    pub(super) denied: BTreeSet<Place>,
    /// Records that the log says were written, that trees should have, and that are in none.
    pub(super) missing: u64,
}

/// The last record of a key.
#[derive(Debug, Clone, Copy)]
struct Last {
    place: Place,
    /// Of a put: when the key was created, how often it was put since, and its lease.
    put: Option<(i64, i64, i64)>,
    /// Whether that is what the log says, or self-evident.
    is_sure: bool,
    /// Whether it did not survive.
    is_made: bool,
    /// Whether more came behind it that a compaction removed.
    is_gone: bool,
}

/// Holds the records against each other, which come by ascending revisions.
pub(super) struct Counting<'c, 'f> {
    filling: &'c Filling<'f>,
    table: &'c Table,
    filled: std::iter::Peekable<std::slice::Iter<'c, Filled>>,
    last: HashMap<u64, Last>,
    counts: Counts,
}

impl<'c, 'f> Counting<'c, 'f> {
    pub(super) fn new(filling: &'c Filling<'f>, table: &'c Table, filled: &'c [Filled]) -> Self {
        let filled = filled.iter().peekable();
        Self { filling, table, filled, last: HashMap::new(), counts: Counts::default() }
    }

    /// Takes in a record that survived.
    pub(super) fn see(&mut self, revision: Revision, value: &[u8], is_gone: bool) {
        let place = (revision.main, revision.sub);
        while let Some(made) = self.filled.next_if(|made| (made.revision.main, made.revision.sub) < place) {
            self.make(made);
        }
        if let Some(made) = self.filled.next_if(|made| (made.revision.main, made.revision.sub) == place) {
            if made.value != value || made.revision.tombstone != revision.tombstone {
                self.counts.denied.insert(place);
            }
            self.follow(made.revision, &made.value, Some(made.is_certain), false);
            return;
        }
        self.follow(revision, value, None, is_gone);
    }

    /// What came of all of them.
    pub(super) fn end(mut self) -> Counts {
        while let Some(made) = self.filled.next() {
            self.make(made);
        }
        self.counts
    }

    fn make(&mut self, made: &Filled) {
        self.counts.missing += u64::from(self.filling.is_told(made.revision.main));
        self.follow(made.revision, &made.value, Some(made.is_certain), false);
    }

    /// Takes in the next record: one that survived, or one that was made and is certain or not.
    fn follow(&mut self, revision: Revision, value: &[u8], made: Option<bool>, is_gone: bool) {
        let Ok(kv) = KeyValue::decode(value) else { return };
        let hash = key_hash(kv.key);
        if !self.table.has_key(hash) && made.is_none() {
            return;
        }
        let place = (revision.main, revision.sub);
        let before = self.last.get(&hash).copied();
        let lease = before.and_then(|last| last.put).map_or(0, |(.., lease)| lease);
        let before = before.filter(|last| {
            !last.is_gone
                && (last.is_sure || !last.is_made)
                && !self.filling.is_open(kv.key, lease, last.place.0, revision.main)
        });
        let put = (!revision.tombstone).then_some((kv.create_revision, kv.version, kv.lease));
        let is_sure = match (made, put) {
            (Some(is_certain), _) => is_certain,
            (None, None) => true,
            (None, Some((create, version, _))) => self.is_sure(place, (create, version), before),
        };
        self.last.insert(hash, Last { place, put, is_sure, is_made: made.is_some(), is_gone });
    }

    /// Whether the numbers of a put that survived are confirmed by the record before it, or by themselves; what they say of that
    /// one is noted too.
    fn is_sure(&mut self, place: Place, (create, version): (i64, i64), before: Option<Last>) -> bool {
        let is_first = create == place.0;
        // A transaction may put a key that it has put before.
        let is_again = is_first && place.1 > 0;
        if is_first != (version == 1) && !is_again {
            self.counts.denied.insert(place);
            return false;
        }
        let goes_on = match before.map(|last| last.put) {
            None if is_first && version == 1 => return true,
            None => {
                self.counts.unconfirmed.insert(place);
                return false;
            }
            Some(None) => is_first && version == 1,
            Some(Some((created, versions, _))) => create == created && version == versions.saturating_add(1),
        };
        let Some(before) = before else { return false };
        if goes_on {
            // Both say the same, and neither could without the other.
            self.counts.unconfirmed.remove(&before.place);
            return true;
        }
        self.counts.denied.insert(place);
        if !before.is_sure {
            self.counts.denied.insert(before.place);
        }
        false
    }
}
