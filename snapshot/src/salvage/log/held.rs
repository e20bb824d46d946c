//! The log held against what survived: which entry made which revision, and what is lost of that, made again.

use std::collections::{BTreeSet, HashSet};

use wal::EntryRef;

use super::align::{Aligned, MOST_STEPS_BEFORE, align};
use super::asked::key_hash;
use super::counts::{Counting, Counts};
use super::fill::{Event, Filled, Filling, Histories, Numbers};
use super::lost::{self, Interest, Known, Making, Wanted};
use super::pins::{Finder, Pin};
use super::steps::{Steps, What};
use super::table::{self, Table};
use crate::mvcc::{KeyValue, Revision};
use crate::salvage::SalvageError;

/// Of so many records that seem to belong to an entry one may not, by the order of the others.
const MOST_ODD_IN: usize = 4;

/// The log and what survived, to be gone through several times.
pub(super) trait Witness {
    /// Shows `look` the entries, in their order.
    fn entries(&self, look: &mut dyn FnMut(&EntryRef<'_>)) -> Result<(), SalvageError>;

    /// Shows `look` every record that survived whole and of which no two copies differ, by ascending revisions, and whether a
    /// compaction has removed it.
    fn survivors(&self, look: &mut dyn FnMut(Revision, &[u8], bool)) -> Result<(), SalvageError>;

    /// Main revisions, ascending, with records that survived as well and that [`Self::survivors`], which was called before, does not show: they
    /// are damaged, or their copies differ.
    fn unsure(&self) -> Vec<i64>;
}

/// What is known beside them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'q> {
    /// The compaction; 0 for none.
    pub(super) compacted: i64,
    /// Main revisions in a row of which no tree says anything, ascending.
    pub(super) silent: &'q [(i64, i64)],
    /// Whether something may have stood before the store when the log begins.
    pub(super) has_gates: bool,
    /// Entries, and the revisions at which trees say that the store stood then.
    pub(super) trees: &'q [(u64, i64)],
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) steps: Steps,
    pub(super) aligned: Aligned,
    /// What survived of the main revisions that the log may have made.
    pub(super) table: Table,
    /// Main revisions, ascending, with records that survived and are not in there.
    unsure: Vec<i64>,
    pub(super) wanted: Wanted,
    /// The records that are lost, made again, by ascending revisions.
    pub(super) filled: Vec<Filled>,
    /// Main revisions that the log made and that could not be made again in full.
    pub(super) unmade: BTreeSet<i64>,
    /// What the numbers of what survived are worth.
    pub(super) counts: Counts,
    /// Up to where it is known.
    pub(super) last: Pin,
}

impl Held {
    /// All that is asked when something is to be said of a revision.
    pub(super) fn known<'k>(&'k self, question: &Question<'k>) -> Known<'k> {
        let Self { steps, aligned, table, unsure, .. } = self;
        let Question { compacted, silent, .. } = *question;
        Known { steps, aligned, table, unsure, compacted, silent }
    }

    /// Main revisions of which the log says what was written, as ranges.
    pub(super) fn told(&self, question: &Question<'_>) -> Vec<(i64, i64)> {
        let known = self.known(question);
        let made: HashSet<(i64, i64)> =
            self.filled.iter().map(|filled| (filled.revision.main, filled.revision.sub)).collect();
        let Counts { unconfirmed, denied, .. } = &self.counts;
        let is_told = |main: &i64| {
            let Some(edge) = known.closed_edge(*main).filter(|_| !self.unmade.contains(main)) else {
                return false;
            };
            (0..).zip(edge.ops(&self.steps)).all(|(sub, (_, op))| {
                let place = (*main, i64::from(sub));
                // What a put kept of the one before it the entry does not say.
                let is_as_told = || {
                    op.what != What::Keep
                        && known.has(*main, sub, Some(op))
                        && !unconfirmed.contains(&place)
                        && !denied.contains(&place)
                };
                made.contains(&place) || is_as_told()
            })
        };
        ranges(known.mains().filter(is_told))
    }

    /// Whether the log says that the key of a record was written again, or deleted, before the compaction, of which no tree says anything.
    pub(super) fn is_superseded(&self, known: &Known<'_>, main: i64, value: &[u8]) -> bool {
        let last = &self.wanted.last_compacted;
        if last.is_empty() || main > known.compacted || !known.is_silent(main) {
            return false;
        }
        let Ok(kv) = KeyValue::decode(value) else { return false };
        last.get(&key_hash(kv.key)).is_some_and(|last| *last > main)
    }
}

/// Numbers that ascend, as ranges.
pub(super) fn ranges(numbers: impl Iterator<Item = i64>) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut().filter(|range| range.1 + 1 == number) {
            Some(range) => range.1 = number,
            None => ranges.push((number, number)),
        }
    }
    ranges
}

/// Holds the two against each other; without an error in words, why nothing came of it.
pub(super) fn hold(
    witness: &dyn Witness,
    question: &Question<'_>,
) -> Result<Result<Held, String>, SalvageError> {
    let mut steps = Steps::default();
    steps.has_gates = question.has_gates;
    witness.entries(&mut |entry| steps.push(entry))?;
    let mut finder = Finder::new(&steps);
    witness.survivors(&mut |revision, value, _| {
        if let Some(known) = table::Known::of(revision, value) {
            finder.see(revision.main, known.sub, known.content);
        }
    })?;
    let of_tree = |(index, revision): &(u64, i64)| Pin { steps: steps.up_to(*index), revision: *revision };
    let trees: Vec<Pin> =
        question.trees.iter().filter(|(index, _)| *index <= steps.last).map(of_tree).collect();
    let pins = finder.pins(&steps, &trees);
    let Some((first, last)) = pins.pins.first().zip(pins.pins.last()) else {
        return Ok(Err("nothing that it asks for is among them".to_owned()));
    };
    if pins.odd.saturating_mul(MOST_ODD_IN) > pins.held {
        return Ok(Err(format!(
            "of those that it seems to have asked for {} come in its order and {} do not: it is the log of another history",
            pins.held, pins.odd
        )));
    }
    let unsure = witness.unsure();
    let table = survived(witness, question, &unsure, (*first, *last))?;
    let aligned = align(&steps, &table, &pins.pins);
    let mut held = Held {
        steps,
        aligned,
        table,
        unsure,
        wanted: Wanted::default(),
        filled: Vec::new(),
        unmade: BTreeSet::new(),
        counts: Counts::default(),
        last: *last,
    };
    held.wanted = lost::wanted(&held.known(question));
    let mut makings: Vec<Making> = Vec::new();
    let mut next = 0;
    witness.entries(&mut |entry| makings.extend(held.wanted.take(&held.steps, entry, &mut next)))?;
    let interest = Interest::of(&held.wanted, &makings, question.compacted);
    let histories = histories(witness, &interest)?;
    let mut filling = Filling::new(held.known(question), histories);
    let (filled, unmade) = filling.run(&makings, &held.wanted);
    let mut counting = Counting::new(&filling, &held.table, &filled);
    witness.survivors(&mut |revision, value, is_gone| counting.see(revision, value, is_gone))?;
    let counts = counting.end();
    (held.filled, held.unmade, held.counts) = (filled, unmade, counts);
    Ok(Ok(held))
}

/// What survived of the main revisions that the log may have made.
fn survived(
    witness: &dyn Witness,
    question: &Question<'_>,
    unsure: &[i64],
    (first, last): (Pin, Pin),
) -> Result<Table, SalvageError> {
    let before = i64::try_from(first.steps.min(MOST_STEPS_BEFORE)).unwrap_or(0);
    let mains = first.revision.saturating_sub(before).saturating_add(1).max(2)..=last.revision;
    let mut table = Table::new(&mains);
    witness.survivors(&mut |revision, value, _| {
        if mains.contains(&revision.main)
            && let Some(known) = table::Known::of(revision, value)
        {
            table.push(revision.main, known);
        }
    })?;
    // A compaction may have removed one record of a main revision and left another.
    let is_open = |main| {
        main <= question.compacted
            || lost::is_in(question.silent, main)
            || unsure.binary_search(&main).is_ok()
    };
    table.close(*mains.end(), is_open);
    Ok(table)
}

/// What is known of the keys of interest.
fn histories(witness: &dyn Witness, interest: &Interest<'_>) -> Result<Histories, SalvageError> {
    let mut histories = Histories::new();
    witness.survivors(&mut |revision, value, is_gone| {
        let Ok(kv) = KeyValue::decode(value) else { return };
        if !interest.wants(kv.key, kv.lease) {
            return;
        }
        let put = (!revision.tombstone).then_some(Numbers {
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
            is_certain: true,
        });
        let value = interest.wants_value(kv.key).then(|| kv.value.to_vec());
        let event = Event { main: revision.main, sub: revision.sub, put, value, is_gone };
        histories.entry(kv.key.to_vec()).or_default().push(event);
    })?;
    Ok(histories)
}

#[cfg(test)]
mod tests;
