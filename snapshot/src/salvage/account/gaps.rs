//! What the gaps of the trees say: records that must have been there, and parts of which nobody knows what stood in them.

use bbolt::reach::Content;

use super::Counted;
use crate::salvage::classify::Point;
use crate::salvage::ground::{Ground, Selection};
use crate::salvage::report::HoleReport;
use crate::salvage::rules::intersection;
use crate::salvage::trees::{Candidate, Gap};
use crate::schema::KEY;

/// The records that the branches of the first tree name in front of its gaps, which certainly existed: a branch has the first key of
/// each page below it as it stands there (FORMATS A.4). With each whether it was met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    /// Ascending.
    points: Vec<Point>,
    met: Vec<bool>,
}

/// Whether a gap begins with a record, and not behind all of a main revision, or with everything.
fn is_named(from: Point) -> bool {
    from.main > 0 && from.sub < i64::MAX
}

impl Named {
    pub(super) fn of(ground: &Ground<'_>) -> Self {
        let gaps = ground.evidence.trees.first().map(|tree| tree.gaps.as_slice()).unwrap_or_default();
        let points: Vec<Point> = gaps
            .iter()
            .filter(|gap| gap.lost == 0)
            .map(|gap| gap.from)
            .filter(|from| is_named(*from))
            .collect();
        Self { met: vec![false; points.len()], points }
    }

    /// The same, of which none was met.
    pub(super) fn unmet(&self) -> Self {
        Self { points: self.points.clone(), met: vec![false; self.points.len()] }
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }

    pub(super) fn insert(&mut self, at: usize) {
        if let Some(met) = self.met.get_mut(at) {
            *met = true;
        }
    }

    /// Adds what another walk met.
    pub(super) fn join(&mut self, other: &Self) {
        for (met, other) in self.met.iter_mut().zip(&other.met) {
            *met |= other;
        }
    }

    /// The last that is named of `from`'s main revision, at or behind `from`.
    pub(super) fn last_of_main(&self, from: Point) -> Option<Point> {
        let behind = self.points.partition_point(|point| point.main <= from.main);
        let last = self.points.get(behind.checked_sub(1)?)?;
        (*last >= from).then_some(*last)
    }

    /// Those that were not met.
    fn not_met(&self) -> impl Iterator<Item = Point> {
        self.points.iter().zip(&self.met).filter(|(_, met)| !**met).map(|(point, _)| *point)
    }
}

impl Counted {
    /// Adds what the first tree's branches name and nobody has: at its end, and at or below the compaction.
    pub(super) fn end(&mut self, ground: &Ground<'_>) {
        let Some(tree) = ground.evidence.trees.first() else { return };
        let compaction = ground.rules.compaction;
        if let Some(last) = self.met.not_met().last().filter(|last| last.main > self.last.max(compaction)) {
            let before = if self.last == 0 { compaction.max(1) } else { self.last };
            self.missing_between(ground, before, last.main.saturating_add(1));
            self.last = last.main;
        }
        self.absent += self.unmet_compacted(ground).count() as u64;
        if !knows_compaction(ground, tree) {
            return;
        }
        for (at, gap) in tree.gaps.iter().enumerate() {
            // Where a main revision above the compaction is missing, or a place in one, that was counted.
            let is_counted = gap.to.is_some_and(|to| {
                to.main > compaction && to.sub > 0
                    || to.main.saturating_sub(gap.from.main.max(compaction)) > 1
            });
            if !is_counted {
                self.absent += gap.lost.saturating_sub(self.filled.get(&at).copied().unwrap_or_default());
            }
        }
        let first = tree.gaps.first().filter(|gap| gap.from.main <= 0 && !self.filled.contains_key(&0));
        if let Some(gap) = first
            && gap.to.is_some_and(|to| to.main <= compaction)
            && !is_root(tree, gap)
        {
            self.absent += 1;
        }
    }

    /// The records at or below the compaction that the first tree's branches name and nobody has.
    pub(crate) fn unmet_compacted(&self, ground: &Ground<'_>) -> impl Iterator<Item = Point> {
        let first = ground.evidence.trees.first();
        let knows = first.is_some_and(|tree| knows_compaction(ground, tree));
        let compaction = ground.rules.compaction;
        self.met.not_met().filter(move |point| knows && point.main <= compaction)
    }

    /// The gaps that are said of a way, with those of which nobody knows what else stood in them.
    pub(super) fn holes_of(&self, ground: &Ground<'_>, selection: Selection) -> Vec<HoleReport> {
        let number = if let Selection::Tree(number) = selection { number } else { 0 };
        let mut holes = self.holes(ground, number, !matches!(selection, Selection::Tree(_)));
        let trees = &ground.evidence.trees;
        let (Some(tree), Some(first)) = (trees.get(number), trees.first()) else { return holes };
        // What this tree says nothing of since it is older, and the first one cannot tell.
        if number > 0 && !tree.is_open_ended() {
            let newer = tree.revision.saturating_add(1);
            let of_first = self.holes(ground, 0, false).into_iter();
            let unknown = of_first.filter(|hole| hole.is_open && hole.to.is_none_or(|to| to >= newer));
            holes.extend(unknown.map(|hole| HoleReport { from: hole.from.max(Some(newer)), ..hole }));
        }
        if let Some(fault) = ground.evidence.newer_may_be_lost(0).filter(|_| !first.is_open_ended()) {
            let newer = HoleReport {
                from: Some(first.revision.max(self.last).saturating_add(1)),
                to: None,
                page: first.root_page,
                fault,
                filled: 0,
                is_open: true,
                is_newer: true,
            };
            holes.insert(0, newer);
        }
        holes
    }

    /// The gaps of tree `number`. What was found for those of the first tree is known.
    pub(crate) fn holes(&self, ground: &Ground<'_>, number: usize, is_filled: bool) -> Vec<HoleReport> {
        let unknown = ground.unknown_compaction().map(|fault| HoleReport {
            from: None,
            to: None,
            page: 0,
            fault,
            filled: 0,
            is_open: true,
            is_newer: false,
        });
        let Some(tree) = ground.evidence.trees.get(number) else { return unknown.into_iter().collect() };
        let hole = |(at, gap): (usize, &Gap)| {
            let from = gap.from.main.saturating_add(i64::from(gap.from.sub == i64::MAX));
            let to = gap.to.map(|to| if to.sub > 0 { to.main } else { to.main.saturating_sub(1) });
            // Above the compaction every revision is accounted for, up to the last that is known. What another tree has is known, and what
            // it denies was not there.
            let span = (from.max(1), to.unwrap_or(i64::MAX));
            let upto = if to.is_none() { i64::MAX } else { ground.rules.compaction };
            let silent = intersection(&[span], &ground.rules.silent);
            HoleReport {
                from: (from > 0).then_some(from),
                to,
                page: gap.page,
                fault: fault(ground, tree, gap),
                filled: match self.filled.get(&at) {
                    Some(filled) if is_filled && number == 0 => *filled,
                    _ => 0,
                },
                is_open: silent.iter().any(|(from, _)| *from <= upto),
                is_newer: false,
            }
        };
        tree.gaps.iter().enumerate().map(hole).chain(unknown).collect()
    }
}

/// What is wrong with the page that is to blame.
fn fault(ground: &Ground<'_>, tree: &Candidate, gap: &Gap) -> String {
    let first = ground.evidence.sources.get(tree.source).map_or(0, |source| source.pages.first_page());
    if gap.page < first {
        format!("page {}: it stood in front of where the file begins", gap.page)
    } else {
        gap.fault.clone()
    }
}

/// Whether a tree has what the compaction that is known of left. One that does not know of it, or in which it was under way, may have
/// more.
fn knows_compaction(ground: &Ground<'_>, tree: &Candidate) -> bool {
    tree.facts.finished.unwrap_or_default() >= ground.rules.compaction
}

/// Whether the page that is to blame for a gap is the root of the bucket: that may have been empty, which no other page is.
fn is_root(tree: &Candidate, gap: &Gap) -> bool {
    match tree.bucket(KEY).map(|key| key.content) {
        Some(Content::Tree(root)) => root.0 == gap.page,
        _ => true,
    }
}
