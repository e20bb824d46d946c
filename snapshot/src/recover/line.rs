//! The line of entries that the result follows: the one history that is certain, and what may come after it, with the logs that have
//! each of them.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::base::{Candidate, Stand};
use super::loss::is_broken;
use super::{Base, LeftOut, RecoverError, RecoverOptions};
use crate::certainty::{Class, Conflict, Judged};
use crate::facts::LogFacts;
use crate::fold::History;
use crate::mvcc::Release;
use crate::replay::range::{self, Bound, Range, Stretch, WhyLeftOut};
use crate::survivors::{Survivor, Survivors};

/// See the module.
pub(super) struct Line<'s> {
    survivors: &'s Survivors,
}

/// Refuses what tells several histories.
pub(super) fn ensure_one_history(survivors: &Survivors) -> Result<(), RecoverError> {
    let conflicts = &survivors.judgement.conflicts;
    if conflicts.is_empty() {
        return Ok(());
    }
    let paths = |side: &[usize]| {
        let given = side.iter().filter_map(|at| survivors.witness(*at));
        given.map(|survivor| survivor.given.path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    // Where the same two part again is of no interest.
    let mut told: Vec<[&[usize]; 2]> = Vec::new();
    let mut apart = Vec::new();
    let mut in_order: Vec<&Conflict> = conflicts.iter().collect();
    in_order.sort_by_key(|conflict| conflict.after);
    for Conflict { after, sides: [one, other], .. } in in_order {
        if told.contains(&[one, other]) || told.contains(&[other, one]) {
            continue;
        }
        told.push([one, other]);
        let (one, other) = (paths(one), paths(other));
        apart.push(format!(
            "behind entry {after} the one history is that of {one}, the other that of {other}"
        ));
    }
    Err(RecoverError::Histories { apart: apart.join("; ") })
}

/// What was given of those whose log has every entry since the cluster began with nothing: a server makes the db anew from it.
pub(super) fn from_first(survivors: &Survivors) -> Vec<PathBuf> {
    let has_all = |survivor: &&Survivor| {
        survivor.facts.log_facts().is_some_and(|facts| {
            let log = &facts.report.log;
            // A restored cluster begins with what it was restored from, and a snapshot stands for what came before it.
            log.first_index() == Some(1)
                && log.snapshots.iter().all(|record| record.value.index() == 0)
                && !is_broken(log)
        })
    };
    survivors.all.iter().filter(has_all).map(|survivor| survivor.given.path.clone()).collect()
}

impl<'s> Line<'s> {
    pub(super) fn of(survivors: &'s Survivors) -> Self {
        Self { survivors }
    }

    fn chain(&self) -> &'s [Judged] {
        &self.survivors.judgement.chain
    }

    /// Its last entry; 0 when it has none.
    pub(super) fn last(&self) -> u64 {
        self.chain().last().map_or(0, |judged| judged.last)
    }

    fn term_of(&self, index: u64) -> Option<u64> {
        let judged = self.chain().iter().find(|judged| (judged.first..=judged.last).contains(&index));
        judged.map(|judged| judged.term)
    }

    /// Its first entry behind `index`.
    pub(super) fn next_after(&self, index: u64) -> Option<u64> {
        let next = self.chain().iter().find(|judged| judged.last > index)?;
        Some(next.first.max(index.saturating_add(1)))
    }

    /// How far it leads on from `index` without a gap.
    pub(super) fn reached(&self, index: u64) -> u64 {
        self.chain().iter().fold(index, |reached, judged| {
            let leads_on = judged.first <= reached.saturating_add(1) && judged.last > reached;
            if leads_on { judged.last } else { reached }
        })
    }

    /// The last entry that may be applied to a db that stands at `index`.
    pub(super) fn limit(&self, index: u64, options: &RecoverOptions) -> u64 {
        let reached = self.reached(index);
        if options.certain_only {
            reached.min(self.survivors.judgement.certain_to.index).max(index)
        } else {
            reached
        }
    }

    /// Where `candidate` stands to it.
    pub(super) fn stand(&self, candidate: &Candidate<'_>) -> Stand {
        if let Some((own, theirs)) = candidate.term.zip(self.term_of(candidate.index))
            && own != theirs
        {
            return Stand::Off { own, theirs };
        }
        match self.next_after(self.reached(candidate.index)) {
            Some(next) => Stand::Gap(next),
            None => Stand::On,
        }
    }

    /// Its entries behind `candidate` up to `last`, as far as it leads on, with the logs that have them.
    pub(super) fn history(&self, candidate: &Candidate<'_>, last: u64, bound: Bound) -> History<'s> {
        let (after, reached) = (candidate.index, self.reached(candidate.index));
        let last = last.min(reached).max(after);
        let why = if bound == Bound::Certain { WhyLeftOut::OnlyPossible } else { WhyLeftOut::Asked };
        let left_out =
            (last < reached).then(|| range::LeftOut { entries: last.saturating_add(1)..=reached, why });
        let range = Range {
            after,
            last,
            bound,
            log_first: self.chain().first().map(|judged| judged.first),
            log_last: self.last(),
            commit: self.survivors.judgement.certain_to.index,
            is_lone: false,
            left_out: left_out.into_iter().collect(),
        };
        let logs = self.logs().map(|log| (&log.files, &log.report.log)).collect();
        History { range, stretches: self.stretches(after, last), logs, newest: self.newest() }
    }

    /// The newest release that any of the members ran.
    fn newest(&self) -> Option<(Release, String)> {
        let of = |survivor: &Survivor| {
            let (version, _) = survivor.facts.database_facts()?.schema.written_by()?;
            Some((version, survivor.called()))
        };
        let (version, called) =
            self.survivors.all.iter().filter_map(of).max_by_key(|(version, _)| *version)?;
        let release = version.to_string().parse().ok()?;
        Some((release, format!("{called} ran {version}, the newest of them")))
    }

    fn logs(&self) -> impl Iterator<Item = &'s LogFacts> {
        self.survivors.all.iter().filter_map(|survivor| survivor.facts.log_facts())
    }

    /// Who has each of the entries behind `after` up to `last`: one log as long as it has them.
    pub(super) fn stretches(&self, after: u64, last: u64) -> Vec<Stretch<'s>> {
        let mut found: Vec<Stretch<'s>> = Vec::new();
        let mut holder = None;
        for judged in self.chain() {
            let entries = judged.first.max(after.saturating_add(1))..=judged.last.min(last);
            if entries.is_empty() {
                continue;
            }
            let stays = holder.filter(|at| judged.holders.contains(at));
            let Some(at) = stays.or_else(|| self.longest(judged)) else { break };
            let Some(log) = self.survivors.witness(at).and_then(|survivor| survivor.facts.log_facts()) else {
                break;
            };
            match found.last_mut().filter(|_| holder == Some(at)) {
                Some(stretch) => stretch.entries = *stretch.entries.start()..=*entries.end(),
                None => found.push(Stretch { files: &log.files, log: &log.report.log, entries }),
            }
            holder = Some(at);
        }
        found
    }

    /// Of those who have `judged` the one whose log goes on longest.
    fn longest(&self, judged: &Judged) -> Option<usize> {
        let last = |at: &usize| {
            let held = self.chain().iter().filter(|other| other.holders.contains(at));
            held.map(|other| other.last).max()
        };
        judged.holders.iter().copied().max_by_key(last)
    }

    /// Its entries behind `index` that are only possibly committed.
    pub(super) fn possible(&self, index: u64) -> Vec<RangeInclusive<u64>> {
        let possible = self.chain().iter().filter(|judged| judged.class == Class::Possible);
        let mut found: Vec<RangeInclusive<u64>> = Vec::new();
        for judged in possible {
            let entries = judged.first.max(index.saturating_add(1))..=judged.last;
            match found.last_mut().filter(|before| before.end().saturating_add(1) == *entries.start()) {
                _ if entries.is_empty() => {}
                Some(before) => *before = *before.start()..=*entries.end(),
                None => found.push(entries),
            }
        }
        found
    }

    /// What the logs have behind `base`, and the result, which ends at `applied_to`, does not.
    pub(super) fn left_out(&self, base: &Base, applied_to: u64, options: &RecoverOptions) -> Vec<LeftOut> {
        let mut found = Vec::new();
        let reached = self.reached(base.point.index);
        if applied_to < reached {
            let why = if options.fold.to_index.is_some() || options.fold.to_revision.is_some() {
                WhyLeftOut::Asked.words()
            } else if options.certain_only && applied_to >= self.survivors.judgement.certain_to.index {
                WhyLeftOut::OnlyPossible.words()
            } else {
                WhyLeftOut::BehindUnknown.words()
            };
            found.push(LeftOut { entries: applied_to.saturating_add(1)..=reached, why: why.to_owned() });
        }
        if let Some(next) = self.next_after(reached) {
            let why = format!(
                "those between {reached} and {next} are missing, without which they cannot be applied"
            );
            found.push(LeftOut { entries: next..=self.last(), why });
        }
        for branch in &self.survivors.judgement.branches {
            let held_by = self.survivors.called(&branch.holders);
            let why = match branch.class {
                Class::NotCommitted => {
                    format!("of term {}, held by {held_by}: provably never committed", branch.term)
                }
                Class::Possible => format!(
                    "of term {}, held by {held_by}: an election among these members would drop them for the others",
                    branch.term
                ),
                Class::Certain => format!("of term {}, held by {held_by}: of another history", branch.term),
            };
            found.push(LeftOut { entries: branch.first..=branch.last, why });
        }
        found
    }
}
