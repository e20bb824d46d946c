//! The account: what each way has and lacks, counted in one sweep on all cores.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bbolt::Watch;
use bbolt::fault::readable;
use rayon::prelude::*;

use super::SalvageError;
use super::classify::Point;
use super::ground::{Ground, Selection};
use super::report::{
    Account, Dropped, HoleReport, Known, Listed, Losses, LostKey, MOST_LISTED, RevisionRange,
};
use super::rules::{Standing, Verdict, intersection, key_of};
use super::sweep::{Copy, Group, Trust};
use crate::finding::{Finding, Severity};
use crate::mvcc::KeyValue;

/// Revisions with two values that may be damage, whatever share they are.
const MOST_DISPUTES: u64 = 10;
/// Most ways that are counted at once: a bit each.
const MOST_COUNTED: usize = 32;

/// What one way has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Has {
    pub(crate) records: u64,
    pub(crate) confirmed: u64,
    pub(crate) single: u64,
    pub(crate) suspect: u64,
    pub(crate) beyond: u64,
    pub(crate) resurrected: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Of the records that are known, those it has.
    known: u64,
    /// Main revisions that are known and of which it lacks something.
    lacking: u64,
    /// Records that it has and that do not count as known.
    disputed: u64,
}

impl Has {
    fn add(&mut self, group: &Group<'_>, trust: Trust, verdict: &Verdict, is_known: bool) {
        self.records += 1;
        match trust {
            Trust::Confirmed => self.confirmed += 1,
            Trust::Single => self.single += 1,
            Trust::Suspect => self.suspect += 1,
        }
        self.beyond += u64::from(verdict.standing == Standing::Beyond);
        self.resurrected += u64::from(verdict.is_resurrected);
        self.known += u64::from(is_known);
        self.disputed += u64::from(verdict.is_disputed);
        if self.first == 0 {
            self.first = group.main;
        }
        self.last = group.main;
    }

    fn append(&mut self, next: &Self) {
        self.records += next.records;
        self.confirmed += next.confirmed;
        self.single += next.single;
        self.suspect += next.suspect;
        self.beyond += next.beyond;
        self.resurrected += next.resurrected;
        self.known += next.known;
        self.lacking += next.lacking;
        self.disputed += next.disputed;
        if self.first == 0 {
            self.first = next.first;
        }
        self.last = self.last.max(next.last);
    }
}

/// A record of which there are only torn copies.
#[derive(Debug, Clone)]
pub(crate) struct Torn {
    point: Point,
    /// The user's key, where it can be read.
    key: Option<Vec<u8>>,
}

/// What a sweep over all groups came to.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// For each way that was counted, in their order.
    pub(crate) has: Vec<Has>,
    /// Records that are known, those of which only torn copies were found included.
    pub(crate) known: u64,
    copies: u64,
    copied: u64,
    pub(crate) disputes: u64,
    /// The first and last main revision that is known.
    first: i64,
    pub(crate) last: i64,
    /// Main revisions that certainly existed and of which nothing was found.
    pub(crate) missing: u64,
    missing_ranges: Listed<RevisionRange>,
    pub(crate) torn: Listed<Torn>,
    compacted: u64,
    foreign: u64,
    beyond: u64,
    /// Records found for each gap of the first tree, by its number.
    filled: HashMap<usize, u64>,
    findings: Listed<Finding>,
}

/// Counts one range.
struct Counting<'g> {
    ground: &'g Ground<'g>,
    selections: &'g [Selection],
    counted: Counted,
    /// The main revision at hand, if it is known, and the ways that lack something of it, a bit each.
    main: i64,
    lacking: u32,
}

/// Counts what each of `selections` has and lacks.
pub(crate) fn count(
    ground: &Ground<'_>,
    selections: &[Selection],
    watch: &dyn Watch,
) -> Result<Counted, SalvageError> {
    let selections = selections.get(..MOST_COUNTED).unwrap_or(selections);
    watch.begin("counting what was found", ground.evidence.leaf_bytes());
    let ranges = (0..ground.sweep.ranges()).into_par_iter();
    let parts: Vec<Counted> = ranges
        .map(|range| {
            let counted = Counted { has: vec![Has::default(); selections.len()], ..Counted::default() };
            let mut counting = Counting { ground, selections, counted, main: 0, lacking: 0 };
            let mut judge = ground.rules.judge(range);
            ground.sweep.walk(range, watch, &mut |group| {
                let verdict = judge.verdict(group);
                counting.add(group, &verdict);
                ControlFlow::Continue(())
            })?;
            counting.end_main();
            Ok(counting.counted)
        })
        .collect::<Result<_, SalvageError>>()?;
    let mut all = Counted { has: vec![Has::default(); selections.len()], ..Counted::default() };
    for part in parts {
        all.append(ground, part);
    }
    Ok(all)
}

impl Counting<'_> {
    #[inline]
    fn add(&mut self, group: &Group<'_>, verdict: &Verdict) {
        let ground = self.ground;
        let counted = &mut self.counted;
        counted.copies += group.copies.len() as u64;
        counted.copied += u64::from(group.copies.len() > 1);
        let is_known = verdict.belongs() && (ground.counts_beyond || verdict.standing != Standing::Beyond);
        match verdict.standing {
            Standing::Compacted if !verdict.is_resurrected => counted.compacted += 1,
            Standing::Foreign => counted.foreign += 1,
            Standing::Beyond if !is_known => counted.beyond += 1,
            _ => {}
        }
        if is_known {
            if self.main != group.main {
                self.end_main();
                self.begin_main(group.main);
            }
            self.counted.known += 1;
            if verdict.chosen.is_none() {
                self.counted.torn.push(Torn {
                    point: Point { main: group.main, sub: group.sub },
                    key: key_of(group).map(<[u8]>::to_vec),
                });
            } else if let Some(gap) = self.gap_at(group, verdict) {
                *self.counted.filled.entry(gap).or_default() += 1;
            }
            if verdict.is_disputed {
                self.counted.disputes += 1;
                let finding = disputed(ground, group, verdict);
                self.counted.findings.push(finding);
            }
        }
        for (at, (selection, has)) in self.selections.iter().zip(&mut self.counted.has).enumerate() {
            match selection.takes(group, verdict) {
                Some((_, trust)) => has.add(group, trust, verdict, is_known),
                None => self.lacking |= u32::from(is_known) << at,
            }
        }
    }

    /// The gap of the first tree that a record fills.
    fn gap_at(&self, group: &Group<'_>, verdict: &Verdict) -> Option<usize> {
        if verdict.standing == Standing::InTree(0) {
            return None;
        }
        let point = Point { main: group.main, sub: group.sub };
        let gaps = &self.ground.evidence.trees.first()?.gaps;
        let at = gaps.partition_point(|gap| gap.from <= point).checked_sub(1)?;
        gaps.get(at)?.contains(point).then_some(at)
    }

    fn begin_main(&mut self, main: i64) {
        let counted = &mut self.counted;
        if counted.first == 0 {
            counted.first = main;
        } else {
            counted.missing_between(self.ground, counted.last, main);
        }
        counted.last = main;
        self.main = main;
    }

    fn end_main(&mut self) {
        for (at, has) in self.counted.has.iter_mut().enumerate() {
            has.lacking += u64::from(self.lacking >> at & 1);
        }
        self.lacking = 0;
    }
}

/// What is wrong with a revision of which there are different values.
fn disputed(ground: &Ground<'_>, group: &Group<'_>, verdict: &Verdict) -> Finding {
    let place = |copy: &Copy<'_>| {
        let source = ground.evidence.sources.get(usize::from(copy.source));
        let file = source.map(|source| source.file.display().to_string()).unwrap_or_default();
        format!("{file} at {:#x} (page {})", copy.offset, copy.page)
    };
    let chosen = verdict.chosen.and_then(|at| group.copies.get(at));
    let other = chosen.and_then(|chosen| {
        group.copies.iter().find(|copy| {
            copy.state == chosen.state
                && (copy.value != chosen.value || copy.is_tombstone != chosen.is_tombstone)
        })
    });
    let key = key_of(group).map(readable).unwrap_or_default();
    let message = format!(
        "revision {}/{} of key {key} has two values: {} and {}; the first was taken{}",
        group.main,
        group.sub,
        chosen.map(place).unwrap_or_default(),
        other.map(place).unwrap_or_default(),
        if verdict.trust == Trust::Confirmed {
            ", which another copy confirms"
        } else {
            ", and nothing but its place speaks for it"
        },
    );
    let finding = Finding::new("SALVAGE-DISAGREE", Severity::Error, message);
    Finding { offset: chosen.map(|copy| copy.offset), ..finding }
}

impl Counted {
    /// Adds what the range behind came to.
    fn append(&mut self, ground: &Ground<'_>, next: Self) {
        for (has, more) in self.has.iter_mut().zip(&next.has) {
            has.append(more);
        }
        if next.first != 0 {
            let compaction = ground.rules.compaction;
            let before = if self.last == 0 { compaction.max(1) } else { self.last };
            self.missing_between(ground, before, next.first);
            if self.first == 0 {
                self.first = next.first;
            }
            self.last = next.last;
        }
        self.known += next.known;
        self.copies += next.copies;
        self.copied += next.copied;
        self.disputes += next.disputes;
        self.missing += next.missing;
        self.compacted += next.compacted;
        self.foreign += next.foreign;
        self.beyond += next.beyond;
        for (gap, filled) in next.filled {
            *self.filled.entry(gap).or_default() += filled;
        }
        self.missing_ranges.append(next.missing_ranges);
        self.torn.append(next.torn);
        self.findings.append(next.findings);
    }

    /// Notes the main revisions between two that are known, above the compaction and where no tree says that there are none.
    fn missing_between(&mut self, ground: &Ground<'_>, before: i64, after: i64) {
        let from = before.max(ground.rules.compaction).saturating_add(1);
        let to = after.saturating_sub(1);
        if from > to {
            return;
        }
        let silent = &ground.rules.silent;
        let first = silent.partition_point(|(_, last)| *last < from);
        for (from, to) in intersection(&[(from, to)], silent.get(first..).unwrap_or_default()) {
            self.missing += u64::try_from(to - from + 1).unwrap_or_default();
            self.missing_ranges.push(RevisionRange { from, to });
        }
    }

    /// What is known of all that existed.
    pub(crate) fn known(&self, ground: &Ground<'_>) -> Known {
        Known {
            records: self.known - self.torn.count(),
            first_revision: self.first,
            last_revision: self.last,
            compact_revision: (ground.rules.compaction > 0).then_some(ground.rules.compaction),
            copies: self.copies,
            copied_revisions: self.copied,
            disagreements: self.disputes,
        }
    }

    /// What way number `at` of those that were counted lacks of what is known; `gaps` says which gaps stay open in it.
    pub(crate) fn loses(&self, at: usize, holes: &[HoleReport]) -> Losses {
        let has = self.has.get(at).copied().unwrap_or_default();
        // A branch never names an empty page.
        let is_empty = |hole: &&HoleReport| hole.is_open && hole.filled == 0 && hole.to.is_some();
        let empty = holes.iter().filter(is_empty).count() as u64;
        Losses {
            revisions: has.lacking + self.missing,
            records: self.known - has.known + empty,
            open_holes: holes.iter().filter(|hole| hole.is_open).count() as u64,
            small: 0,
            suspect: has.suspect,
        }
    }

    /// The gaps of tree `number`. What was found for those of the first tree is known.
    pub(crate) fn holes(&self, ground: &Ground<'_>, number: usize, is_filled: bool) -> Vec<HoleReport> {
        let Some(tree) = ground.evidence.trees.get(number) else { return Vec::new() };
        let compaction = ground.rules.compaction;
        let hole = |(at, gap): (usize, &super::trees::Gap)| {
            let from = gap.from.main;
            let to = gap.to.map(|to| if to.sub > 0 { to.main } else { to.main.saturating_sub(1) });
            // Above the compaction every revision is accounted for, up to the last that is known.
            let span = (from.max(1), to.unwrap_or(i64::MAX));
            let is_silent =
                |upto: i64| intersection(&[span], &ground.rules.silent).iter().any(|(from, _)| *from <= upto);
            let is_open = if number == 0 {
                is_silent(compaction) || to.is_none() && is_silent(i64::MAX)
            } else {
                from <= compaction
            };
            HoleReport {
                from: (from > 0).then_some(from),
                to,
                page: gap.page,
                fault: gap.fault.clone(),
                filled: if is_filled && number == 0 {
                    self.filled.get(&at).copied().unwrap_or_default()
                } else {
                    0
                },
                is_open,
            }
        };
        let mut holes: Vec<HoleReport> = tree.gaps.iter().enumerate().map(hole).collect();
        if let Some(fault) = ground.evidence.newer_may_be_lost(number).filter(|_| !tree.is_open_ended()) {
            holes.push(HoleReport {
                from: Some(tree.revision.max(self.last).saturating_add(1)),
                to: None,
                page: tree.root_page,
                fault,
                filled: 0,
                is_open: true,
            });
        }
        holes
    }

    /// The account of way number `at` of those that were counted, without its small buckets and its lost keys.
    pub(crate) fn account(&self, ground: &Ground<'_>, at: usize, selection: Selection) -> Account {
        let has = self.has.get(at).copied().unwrap_or_default();
        let all_holes = match selection {
            Selection::Tree(number) => self.holes(ground, number, false),
            _ => self.holes(ground, 0, true),
        };
        let loses = self.loses(at, &all_holes);
        let mut holes = Listed::default();
        all_holes.into_iter().for_each(|hole| holes.push(hole));
        let takes_beyond = matches!(selection, Selection::Carved);
        let unknown_beyond = if takes_beyond { 0 } else { self.beyond };
        Account {
            records: has.records,
            confirmed: has.confirmed,
            single: has.single,
            suspect: has.suspect,
            from_log: 0,
            beyond: has.beyond,
            first_revision: has.first,
            last_revision: has.last,
            compact_revision: None,
            missing_revisions: self.missing,
            missing: self.missing_ranges.listed.clone(),
            more_missing: self.missing_ranges.more,
            more_holes: holes.more,
            holes: holes.listed,
            lost_keys: Vec::new(),
            more_lost_keys: 0,
            dropped: Dropped {
                compacted: self.compacted,
                foreign: self.foreign,
                beyond: unknown_beyond,
                unfilled: (self.known - self.torn.count()).saturating_sub(has.known),
                torn: self.torn.count(),
            },
            resurrected: has.resurrected,
            disagreements: has.disputed,
            buckets: Vec::new(),
            loses,
        }
    }

    /// Findings about the records.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.findings.listed.clone();
        if self.findings.more > 0 {
            let message =
                format!("{} more revisions have different values and are not listed", self.findings.more);
            findings.push(Finding::new("SALVAGE-DISAGREE", Severity::Error, message));
        }
        if self.disputes >= MOST_DISPUTES && self.disputes.saturating_mul(10) > self.copied {
            let message = format!(
                "the copies of {} of {} revisions differ: the files are hardly of one member, or not of one history. Salvage each \
                 alone",
                self.disputes, self.copied
            );
            findings.push(Finding::new("SALVAGE-STRANGERS", Severity::Error, message));
        }
        if self.foreign > 0 {
            let message = format!(
                "{} record(s) are on pages of their own and not in the tree that goes further: they are of another history, or were \
                 never committed, and were left out",
                self.foreign
            );
            findings.push(Finding::new("SALVAGE-FOREIGN", Severity::Warning, message));
        }
        findings
    }

    /// Looks up what stands in for the records of which only torn copies were found, in what `selection` takes.
    pub(crate) fn lost_keys(
        &self,
        ground: &Ground<'_>,
        selection: Selection,
        watch: &dyn Watch,
    ) -> Result<(Vec<LostKey>, u64), SalvageError> {
        let named: Vec<(&Torn, &[u8])> =
            self.torn.listed.iter().filter_map(|torn| Some((torn, torn.key.as_deref()?))).collect();
        if named.is_empty() {
            return Ok((Vec::new(), self.torn.count()));
        }
        let mut newest: HashMap<&[u8], Option<i64>> = named.iter().map(|(_, key)| (*key, None)).collect();
        watch.begin("looking for older versions", ground.evidence.leaf_bytes());
        ground.records(selection, watch, &mut |taken| {
            if let Ok(kv) = KeyValue::decode(taken.copy.value)
                && let Some(found) = newest.get_mut(kv.key)
            {
                *found = Some(taken.group.main);
            }
            ControlFlow::Continue(())
        })?;
        let lost: Vec<LostKey> = named
            .iter()
            .map(|(torn, key)| {
                let found = newest.get(key).copied().flatten();
                let is_newest = found.is_none_or(|found| found < torn.point.main);
                LostKey {
                    key: readable(key),
                    revision: torn.point.main,
                    sub: torn.point.sub,
                    is_newest,
                    stands_in: found,
                }
            })
            .collect();
        let more = self.torn.count().saturating_sub(lost.len() as u64);
        Ok((lost, more))
    }
}

impl<T> Listed<T> {
    /// Adds those of another list behind these.
    pub(crate) fn append(&mut self, next: Self) {
        let room = MOST_LISTED.saturating_sub(self.listed.len());
        let left = next.listed.len().saturating_sub(room) as u64;
        self.listed.extend(next.listed.into_iter().take(room));
        self.more += next.more + left;
    }
}
