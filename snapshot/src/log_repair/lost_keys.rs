//! Which keys the entries name that a repair drops.

use std::collections::BTreeSet;

use wal::repair::DroppedRun;
use wal::{EntryRef, Log, RecordType, Segments};

use crate::request;

/// How many keys are listed at most.
pub const MOST_KEYS: usize = 1000;

/// The keys that dropped entries name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostKeys {
    /// The first [`MOST_KEYS`] of them in their order, ranges as their first key.
    pub keys: BTreeSet<Vec<u8>>,
    /// There are more.
    pub more: bool,
    /// Entries that were looked into.
    pub entries: u64,
    /// Those that ask for nothing a key is in: a leader's first, membership, leases.
    pub without_keys: u64,
}

impl LostKeys {
    /// Looks into entries of a log.
    #[must_use]
    pub fn of(dropped: &[DroppedRun], segments: &impl Segments) -> Self {
        let mut lost = Self::default();
        let mut runs: Vec<&DroppedRun> = dropped.iter().collect();
        runs.sort_by_key(|run| (run.segment, run.from));
        let mut at = 0;
        while let Some(first) = runs.get(at) {
            let count = runs
                .get(at..)
                .unwrap_or_default()
                .iter()
                .take_while(|run| run.segment == first.segment)
                .count();
            let piece = segments.piece(first.segment);
            for run in runs.get(at..at.saturating_add(count)).unwrap_or_default() {
                let range = usize::try_from(run.from).ok().zip(usize::try_from(run.to).ok());
                if let Some(bytes) = range.and_then(|(from, to)| piece.bytes.get(from..to)) {
                    lost.look_into(bytes);
                }
            }
            at = at.saturating_add(count.max(1));
        }
        lost
    }

    /// Looks into the entries of `log` behind `index` that count.
    #[must_use]
    pub fn behind(index: u64, log: &Log, segments: &impl Segments) -> Self {
        let mut lost = Self::default();
        for at in 0..log.segments.len() {
            let is_behind = |last: u64| last > index;
            if !log.runs.iter().any(|run| run.segment == at && run.standing_last.is_some_and(is_behind)) {
                continue;
            }
            let piece = segments.piece(at);
            for item in wal::scan::scan(&piece.bytes) {
                let wal::scan::Item::Record(found) = item else { continue };
                let record = found.record;
                if record.record_type != RecordType::Entry {
                    continue;
                }
                let Ok(entry) = EntryRef::decode(record.data) else { continue };
                if is_behind(entry.index) && !log.is_overwritten(at, record.offset, entry.index) {
                    lost.count(&entry);
                }
            }
        }
        lost
    }

    fn look_into(&mut self, bytes: &[u8]) {
        // The chain is not that of a whole segment: a checksum that does not hold says nothing here.
        for item in wal::scan::scan(bytes) {
            let record = match &item {
                wal::scan::Item::Record(found) => Some(found.record),
                wal::scan::Item::Fault(broken) => broken.record,
                wal::scan::Item::Skipped(_) => None,
            };
            let Some(record) = record.filter(|record| record.record_type == RecordType::Entry) else {
                continue;
            };
            if let Ok(entry) = EntryRef::decode(record.data) {
                self.count(&entry);
            }
        }
    }

    fn count(&mut self, entry: &EntryRef<'_>) {
        self.entries = self.entries.saturating_add(1);
        let mut named = false;
        if entry.entry_type == 0
            && let request::Decoded::V3(request) | request::Decoded::V2(request) = request::decode(entry.data)
        {
            for range in request.keys() {
                named = true;
                self.add(range.key);
            }
            for path in request.paths() {
                named = true;
                self.add(path);
            }
        }
        if !named {
            self.without_keys = self.without_keys.saturating_add(1);
        }
    }

    fn add(&mut self, key: &[u8]) {
        if self.keys.len() < MOST_KEYS {
            self.keys.insert(key.to_vec());
        } else if !self.keys.contains(key) {
            self.more = true;
        }
    }
}
