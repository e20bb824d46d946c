//! `case at`: the key space at a revision, as every source that can tell has it.

use std::ops::ControlFlow;

use super::{Reading, is_same, row_of};
use crate::block::Record;
use crate::case::Case;
use crate::error::CaseError;
use crate::key_table::WithPrefix;
use crate::rows::{At, RevisionRow, Standing};
use crate::source::KeySpace;

/// Keys whose records are looked up at a time, in the order of the records.
const KEYS_AT_ONCE: usize = 100_000;

/// The keys of one source that had a value at a revision, in order.
struct States<'r, 'c> {
    reading: &'r Reading<'c>,
    keys: WithPrefix,
    /// The ordinal of the first record behind the revision.
    behind: u64,
    some: std::vec::IntoIter<State>,
}

#[derive(Debug, Clone)]
struct State {
    key: Vec<u8>,
    ordinal: u64,
    record: Record,
}

impl<'r, 'c> States<'r, 'c> {
    fn new(reading: &'r Reading<'c>, revision: i64, prefix: &[u8]) -> Result<Self, CaseError> {
        let behind = reading.lower_bound((revision.saturating_add(1), i64::MIN))?;
        Ok(Self {
            reading,
            keys: WithPrefix::new(&reading.keys, prefix)?,
            behind,
            some: Vec::new().into_iter(),
        })
    }

    fn next(&mut self) -> Result<Option<State>, CaseError> {
        loop {
            if let Some(state) = self.some.next() {
                return Ok(Some(state));
            }
            let mut some: Vec<(Vec<u8>, u64)> = Vec::new();
            while some.len() < KEYS_AT_ONCE {
                let Some(keyed) = self.keys.next()? else { break };
                let before = keyed.ordinals.partition_point(|ordinal| *ordinal < self.behind);
                let last = before.checked_sub(1).and_then(|at| keyed.ordinals.get(at)).copied();
                some.extend(last.map(|ordinal| (keyed.key, ordinal)));
                // Keys without a record so early are passed over, and are no end.
            }
            if some.is_empty() {
                return Ok(None);
            }
            some.sort_unstable_by_key(|(_, ordinal)| *ordinal);
            let mut states = Vec::with_capacity(some.len());
            for (key, ordinal) in some {
                let record = self.reading.record(ordinal)?;
                if !record.tombstone {
                    states.push(State { key, ordinal, record });
                }
            }
            states.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            self.some = states.into_iter();
        }
    }
}

impl Case {
    /// The keys that begin with `prefix` and had a value at `revision`, in order, as every source has them that can tell. What
    /// sources have differently is several rows; a key that one of them lacks is contested too.
    ///
    /// # Errors
    /// When the case is damaged.
    pub fn at(
        &self,
        revision: i64,
        prefix: &[u8],
        each: &mut dyn FnMut(&RevisionRow) -> ControlFlow<()>,
    ) -> Result<At, CaseError> {
        let readings = self.readings()?;
        let mut streams = Vec::new();
        let mut at = At { revision, standings: Vec::new(), keys: 0, contested: 0, may_be_old: 0 };
        for source in self.sources() {
            let reading = readings.iter().find(|reading| reading.source.number == source.number);
            let standing = reading.map_or(Standing::NoKeySpace, |reading| reading.standing(revision));
            if let (Some(reading), Standing::Asked | Standing::Damaged) = (reading, &standing) {
                let mut states = States::new(reading, revision, prefix)?;
                let head = states.next()?;
                streams.push((states, head));
            }
            at.standings.push((source.number, standing));
        }
        while let Some(key) =
            streams.iter().filter_map(|(_, head)| head.as_ref().map(|head| &head.key)).min().cloned()
        {
            let mut rows: Vec<(Record, RevisionRow, Vec<&KeySpace>)> = Vec::new();
            let mut lacking = 0;
            for (states, head) in &mut streams {
                let space = states.reading.space;
                let Some(state) = head.take_if(|state| state.key == key) else {
                    // Of a damaged source that says nothing.
                    lacking += usize::from(space.is_whole());
                    continue;
                };
                let held = states.reading.held(&state.record, state.ordinal);
                match rows.iter_mut().find(|(first, ..)| is_same(first, &state.record)) {
                    Some((_, row, spaces)) => {
                        row.held.push(held);
                        spaces.push(space);
                    }
                    None => {
                        rows.push((state.record, row_of(&state.record, state.key, vec![held]), vec![space]));
                    }
                }
                *head = states.next()?;
            }
            // What a damaged source has last is no contradiction where it may have lost something newer.
            let newest = rows.iter().map(|(record, ..)| record.main).max().unwrap_or_default();
            let was_followed = |(record, _, spaces): &&(Record, RevisionRow, Vec<&KeySpace>)| {
                record.main < newest && spaces.iter().all(|space| space.is_hole(newest))
            };
            let versions = rows.len() - rows.iter().filter(was_followed).count();
            // Nor is it one that another lacks what may have been deleted there.
            let is_old = |record: &Record, spaces: &[&KeySpace]| {
                spaces.iter().all(|space| space.has_hole(record.main.saturating_add(1)..=revision))
            };
            let is_certain = rows.iter().any(|(record, _, spaces)| !is_old(record, spaces));
            let contested = versions > 1 || (lacking > 0 && is_certain);
            at.keys += 1;
            at.contested += u64::from(contested);
            for (record, row, spaces) in rows {
                let may_be_old = is_old(&record, &spaces);
                at.may_be_old += u64::from(may_be_old);
                if each(&RevisionRow { contested, may_be_old, ..row }).is_break() {
                    return Ok(at);
                }
            }
        }
        Ok(at)
    }
}
