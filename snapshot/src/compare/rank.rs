//! How far each member had come, and which of them is ahead.

use std::cmp::Reverse;

use crate::survivors::{Survivor, Survivors};
use crate::target::TargetVersion;

/// How far one member had come, by its own files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its place among the survivors.
    pub survivor: usize,
    /// 1 for the one furthest ahead; those that stand alike share it.
    pub rank: usize,
    /// The highest raft term its files state; 0 where none does.
    pub term: u64,
    /// The term of the last entry it has.
    pub last_term: u64,
    /// The index of that entry: of its log, or of its database where that goes further.
    pub last_index: u64,
    /// The commit of its hard state; `None` without a log.
    pub commit: Option<u64>,
    /// The last entry in its database; `None` without one that can be read.
    pub consistent_index: Option<u64>,
    /// The revision of its database.
    pub revision: Option<i64>,
    /// The revision up to which its database was compacted.
    pub compact_revision: Option<i64>,
    /// The minor version that wrote its database.
    pub written_by: Option<TargetVersion>,
    /// Findings that are errors in its log, and whether its database cannot be read.
    pub is_damaged: bool,
}

impl Standing {
    fn of(place: usize, survivor: &Survivor) -> Self {
        let mut standing = Self { survivor: place, ..Self::default() };
        let facts = &survivor.facts;
        if let Some(database) = facts.database_facts() {
            let schema = &database.schema;
            standing.last_index = schema.consistent_index;
            standing.last_term = schema.term.unwrap_or_default();
            standing.term = standing.last_term;
            standing.consistent_index = Some(schema.consistent_index);
            standing.revision = Some(database.revision());
            standing.compact_revision = schema.finished_compact.max(schema.scheduled_compact);
            standing.written_by = schema.written_by().map(|(version, _)| version);
        }
        standing.is_damaged = facts.database.is_some() && facts.database_facts().is_none();
        if let Some(facts) = facts.log_facts() {
            let log = &facts.report.log;
            standing.term = standing.term.max(log.hard_state.as_ref().map_or(0, |state| state.value.term()));
            standing.commit = Some(log.commit());
            standing.is_damaged |= facts.report.log_is_damaged();
            if let Some(last) = log.last_index().filter(|last| *last >= standing.last_index) {
                standing.last_index = last;
                standing.last_term = log.term_of(last).unwrap_or_default();
            }
            standing.term = standing.term.max(standing.last_term);
        }
        standing
    }

    /// What raft elects by comes first, what the member knew and had applied comes next.
    fn order(&self) -> impl Ord + use<> {
        (self.last_term, self.last_index, self.commit, self.consistent_index, self.revision)
    }
}

/// All members, the one furthest ahead first: by the term and index of its last entry, by which raft elects, then by what it knew to
/// be committed, and by how far its database had come.
#[must_use]
pub fn rank(survivors: &Survivors) -> Vec<Standing> {
    let mut all: Vec<Standing> =
        survivors.all.iter().enumerate().map(|(place, one)| Standing::of(place, one)).collect();
    all.sort_by_key(|standing| Reverse(standing.order()));
    for at in 1..=all.len() {
        let Some((standing, before)) = all.get_mut(..at).and_then(<[Standing]>::split_last_mut) else {
            continue;
        };
        standing.rank = match before.last() {
            Some(before) if before.order() == standing.order() => before.rank,
            _ => at,
        };
    }
    all
}
