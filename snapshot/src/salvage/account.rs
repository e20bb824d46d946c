//! The account: what each way has and lacks, counted in one sweep on all cores.

mod gaps;
pub(crate) mod keys;

use std::collections::HashMap;
use std::ops::ControlFlow;

use bbolt::Watch;
use bbolt::fault::readable;
use rayon::prelude::*;

use self::gaps::Named;
use super::SalvageError;
use super::classify::Point;
use super::ground::{Ground, Selection};
use super::report::{Account, Dropped, HoleReport, Known, Listed, Losses, MOST_LISTED, RevisionRange};
use super::rules::{Standing, Verdict, intersection, key_of};
use super::sweep::{Copy, Group, Trust};
use super::ways::is_in;
use crate::finding::{Finding, Severity};

/// Revisions with two values that may be damage, whatever share they are.
const MOST_DISPUTES: u64 = 10;
/// Places of one revision that are believed to be missing before one that was found. A transaction has 128 at most, unless a server was told
/// otherwise; of more it is rather the place that is wrong, and one at least is missing.
const MOST_SKIPPED: u64 = 1024;
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
    /// Main revisions that are known and of which it lacks something, be it that of this nothing was found.
    lacking: u64,
    /// Those of them of which it has something.
    halves: u64,
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
        self.halves += next.halves;
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
    /// Records that certainly existed, of which nothing was found, and whose main revisions are not missing as a whole.
    pub(crate) absent: u64,
    /// For each way that was counted, the main revisions that it has in part.
    halves: Vec<Listed<i64>>,
    /// Which of the records that the first tree's branches name were met.
    met: Named,
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
    /// What the first tree's branches name.
    named: &'g Named,
    /// Of these the next that may be met.
    next_named: usize,
    /// The main revision at hand, if it is known, and the ways that lack something of it, or have something, a bit each.
    main: i64,
    lacking: u32,
    having: u32,
    /// Above the compaction: the place in it that comes next, and how many were passed over that must have been there.
    next_sub: i64,
    absent: u64,
}

/// Counts what each of `selections` has and lacks.
pub(crate) fn count(
    ground: &Ground<'_>,
    selections: &[Selection],
    watch: &dyn Watch,
) -> Result<Counted, SalvageError> {
    let selections = selections.get(..MOST_COUNTED).unwrap_or(selections);
    watch.begin("counting what was found", ground.evidence.leaf_bytes());
    let named = Named::of(ground);
    let counted = || Counted {
        has: vec![Has::default(); selections.len()],
        halves: vec![Listed::default(); selections.len()],
        met: named.unmet(),
        ..Counted::default()
    };
    let ranges = (0..ground.sweep.ranges()).into_par_iter();
    let parts: Vec<Counted> = ranges
        .map(|range| {
            let mut counting = Counting {
                ground,
                selections,
                counted: counted(),
                named: &named,
                next_named: 0,
                main: 0,
                lacking: 0,
                having: 0,
                next_sub: 0,
                absent: 0,
            };
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
    let mut all = counted();
    for part in parts {
        all.append(ground, part);
    }
    all.end(ground);
    Ok(all)
}

impl Counting<'_> {
    #[inline]
    fn add(&mut self, group: &Group<'_>, verdict: &Verdict) {
        let ground = self.ground;
        self.meet(Point { main: group.main, sub: group.sub });
        let counted = &mut self.counted;
        counted.copies += group.copies.len() as u64;
        counted.copied += u64::from(group.copies.len() > 1);
        let is_known = ground.knows(verdict);
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
            self.pass(group.sub);
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
                Some((_, trust)) => {
                    has.add(group, trust, verdict, is_known);
                    self.having |= u32::from(is_known) << at;
                }
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

    /// Notes that a record was found, whatever it is worth.
    #[inline]
    fn meet(&mut self, point: Point) {
        let named = self.named.points();
        if self.next_named == 0 {
            // A range begins anywhere.
            self.next_named = named.partition_point(|named| *named < point);
        }
        while named.get(self.next_named).is_some_and(|named| *named < point) {
            self.next_named += 1;
        }
        if named.get(self.next_named) == Some(&point) {
            self.counted.met.insert(self.next_named);
        }
    }

    /// Goes on to place `sub` of the main revision at hand: above the compaction the places are numbered without gaps.
    #[inline]
    fn pass(&mut self, sub: i64) {
        let rules = &self.ground.rules;
        if self.main <= rules.compaction || !rules.knows_compaction {
            return;
        }
        if sub > self.next_sub && is_in(&rules.silent, self.main) {
            let skipped = u64::try_from(sub - self.next_sub).unwrap_or_default();
            self.absent += if skipped > MOST_SKIPPED { 1 } else { skipped };
        }
        self.next_sub = sub.saturating_add(1);
    }

    fn end_main(&mut self) {
        if self.main > self.ground.rules.compaction && self.ground.rules.knows_compaction {
            // What a branch names behind the last that was found.
            let behind = Point { main: self.main, sub: self.next_sub };
            if let Some(last) = self.named.last_of_main(behind) {
                self.absent += u64::try_from(last.sub - behind.sub + 1).unwrap_or_default();
            }
        }
        let is_absent = self.absent > 0;
        for (at, has) in self.counted.has.iter_mut().enumerate() {
            let lacks = is_absent || self.lacking >> at & 1 != 0;
            has.lacking += u64::from(lacks);
            if lacks && self.having >> at & 1 != 0 {
                has.halves += 1;
                if let Some(halves) = self.counted.halves.get_mut(at) {
                    halves.push(self.main);
                }
            }
        }
        self.counted.absent += self.absent;
        (self.lacking, self.having, self.next_sub, self.absent) = (0, 0, 0, 0);
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
        for (halves, more) in self.halves.iter_mut().zip(next.halves) {
            halves.append(more);
        }
        self.met.join(&next.met);
        self.absent += next.absent;
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
        // Where nobody knows what was compacted, nothing is certain that is not there.
        if from > to || !ground.rules.knows_compaction {
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

    /// What way number `at` of those that were counted lacks of what is known to have been there; `holes` has what else it may lack.
    pub(crate) fn loses(&self, at: usize, holes: &[HoleReport]) -> Losses {
        let has = self.has.get(at).copied().unwrap_or_default();
        Losses {
            revisions: has.lacking + self.missing,
            records: self.known - has.known + self.absent,
            entries: 0,
            open_holes: holes.iter().filter(|hole| hole.is_open).count() as u64,
            small: 0,
            suspect: has.suspect,
        }
    }

    /// The account of way number `at` of those that were counted, without its small buckets and its lost keys.
    pub(crate) fn account(&self, ground: &Ground<'_>, at: usize, selection: Selection) -> Account {
        let has = self.has.get(at).copied().unwrap_or_default();
        let all_holes = self.holes_of(ground, selection);
        let loses = self.loses(at, &all_holes);
        let mut holes = Listed::default();
        all_holes.into_iter().for_each(|hole| holes.push(hole));
        let halves = self.halves.get(at).cloned().unwrap_or_default();
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
            missing_records: self.absent,
            half_revisions: halves.listed,
            more_half_revisions: halves.more,
            keys: 0,
            exposed_keys: 0,
            superseded: 0,
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
            findings.push(Finding::new("SALVAGE-FOREIGN", Severity::Error, message));
        }
        findings
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
