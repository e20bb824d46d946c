//! Copies of one member, taken at different times: the later one says all that the earlier one does.
//!
//! A member only ever appends to its log, and its term never falls. So of two copies the later one is that of the higher term,
//! and of the longer log where that is the same. When the two hold different entries where either knows them to be committed,
//! neither is a copy of the other: the member was started, or given to force-new, from both.

use std::collections::BTreeMap;

use super::Survivor;
use crate::certainty::Testimony;

/// An earlier copy of a member of which there is a later one.
#[derive(Debug)]
pub struct SetAside {
    /// The copy.
    pub survivor: Survivor,
    /// The place of the later one among [`Survivors::all`](super::Survivors::all).
    pub newer: usize,
    /// What says that it is the earlier one, as a sentence's end.
    pub why: String,
}

/// How late a copy was taken; later ones are larger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    term: u64,
    /// Number of the last segment, and how far a server reads in it.
    end: (u64, u64),
    last_index: u64,
    commit: u64,
    consistent_index: u64,
    revision: i64,
}

impl Age {
    fn of(survivor: &Survivor) -> Self {
        let mut age = Self::default();
        if let Some(log) = survivor.facts.log_facts() {
            let log = &log.report.log;
            age.term = log.hard_state.as_ref().map_or(0, |state| state.value.term());
            age.end = log.segments.last().map_or((0, 0), |last| (last.name.seq, last.end_offset));
            age.last_index = log.last_index().unwrap_or_default();
            age.commit = log.commit();
        }
        if let Some(database) = survivor.facts.database_facts() {
            age.consistent_index = database.schema.consistent_index;
            age.revision = database.revision();
        }
        age
    }

    /// What is less in `self` than in `newer`.
    fn why(self, newer: Self) -> String {
        let (old, new) = (self, newer);
        if old.term != new.term {
            format!("its log knows of term {}, the later one's of term {}", old.term, new.term)
        } else if old.last_index != new.last_index {
            format!("its log ends at entry {}, the later one's at {}", old.last_index, new.last_index)
        } else if old.commit != new.commit {
            format!("its log has commit {}, the later one's {}", old.commit, new.commit)
        } else if old.consistent_index != new.consistent_index {
            format!("its db has entry {}, the later one's {}", old.consistent_index, new.consistent_index)
        } else if old == new {
            "both stand at the same entry".to_owned()
        } else {
            "the later one's log is longer".to_owned()
        }
    }
}

/// Sets the earlier copies of each member aside. Those that are no copies of one another stay.
pub(super) fn set_aside(all: Vec<Survivor>) -> (Vec<Survivor>, Vec<SetAside>) {
    let ages: Vec<Age> = all.iter().map(Age::of).collect();
    let mut of_member: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, survivor) in all.iter().enumerate() {
        if let Some(identity) = &survivor.identity {
            of_member.entry(identity.member_id).or_default().push(at);
        }
    }
    // The place of the later one, by that of the earlier.
    let mut later: BTreeMap<usize, usize> = BTreeMap::new();
    for places in of_member.values_mut() {
        // The first one given of two that stand alike.
        places.sort_by_key(|at| std::cmp::Reverse(ages.get(*at).copied().unwrap_or_default()));
        let mut kept: Vec<usize> = Vec::new();
        for at in places.iter().copied() {
            let copied = kept.iter().copied().find(|newer| {
                let pair = all.get(at).zip(all.get(*newer));
                pair.is_some_and(|(older, newer)| is_copy(older, newer))
            });
            match copied {
                Some(newer) => _ = later.insert(at, newer),
                None => kept.push(at),
            }
        }
    }
    let mut place_now = BTreeMap::new();
    let (mut stay, mut aside) = (Vec::new(), Vec::new());
    for (at, survivor) in all.into_iter().enumerate() {
        match later.get(&at) {
            Some(newer) => aside.push((at, *newer, survivor)),
            None => {
                place_now.insert(at, stay.len());
                stay.push(survivor);
            }
        }
    }
    let age = |at: usize| ages.get(at).copied().unwrap_or_default();
    let aside = aside.into_iter().map(|(at, newer, survivor)| SetAside {
        survivor,
        newer: place_now.get(&newer).copied().unwrap_or_default(),
        why: age(at).why(age(newer)),
    });
    (stay, aside.collect())
}

/// Whether nothing in `older` speaks against its being an earlier state of `newer`.
fn is_copy(older: &Survivor, newer: &Survivor) -> bool {
    match (&older.testimony, &newer.testimony) {
        (Some(older), Some(newer)) => parting(older, newer).is_none(),
        _ => true,
    }
}

/// The first entry in which `older` cannot be an earlier state of the log of `newer`: there is another one of its index and term,
/// or another than the one that `older` knew to be committed.
fn parting(older: &Testimony, newer: &Testimony) -> Option<u64> {
    let committed = older.committed.iter().map(|known| known.index).max().unwrap_or_default();
    let committed = committed.max(older.base.index);
    let mut newers = newer.stretches.iter().peekable();
    for old in &older.stretches {
        while newers.next_if(|new| new.last < old.first).is_some() {}
        let mut behind = newers.clone();
        while let Some(new) = behind.next_if(|new| new.first <= old.last) {
            let first = old.first.max(new.first);
            let same_term = old.term == new.term;
            if (same_term && old.mark != new.mark) || (!same_term && first <= committed) {
                return Some(first);
            }
        }
    }
    None
}
