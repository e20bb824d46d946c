//! What is not committed, and what makes it rash to say so.

use std::collections::BTreeSet;

use super::case::Case;
use super::tree::Parent;
use super::{Config, Why, votes};

/// The most rows that are compared with each other, and at whose ends copies are looked for that are too old.
const MOST_ROWS: usize = 256;

/// Where a row is certain: its first and last index, and the row.
type Certain = (u64, u64, usize);

impl Case<'_> {
    /// The certain parts of all rows, by ascending index.
    pub(super) fn certain_parts(&self) -> Vec<Certain> {
        let rows = self.tree.rows.iter().zip(&self.certain).enumerate();
        let mut parts: Vec<Certain> =
            rows.filter_map(|(at, (row, certain))| Some((row.first, (*certain)?.0, at))).collect();
        parts.sort_unstable();
        parts
    }

    /// Looks for testimonies that lack what they must have had.
    ///
    /// One whose log ends before what it knows to be committed itself has lost its end. And where so many lack a certain entry
    /// that no quorum can have had it, one of them is an older copy of its member or has lost its end in silence. Nobody
    /// can say which, and then the next entry that they lack may have been acknowledged as well.
    pub(super) fn find_stale(&mut self) {
        for (at, testimony) in self.testimonies.iter().enumerate() {
            let end = testimony.stretches.last().map(|stretch| stretch.last);
            let known = testimony.committed.iter().map(|known| known.index).max().unwrap_or_default();
            if end.is_some_and(|end| end < known) {
                self.behind.insert(at);
            }
        }
        let parts = self.certain_parts();
        for (first, last, row) in parts.iter().rev().take(MOST_ROWS).copied() {
            let mut points = BTreeSet::from([last]);
            for testimony in self.testimonies {
                points.extend(votes::changes(testimony, first, last));
            }
            for index in points {
                let lacking = self.lacking(row, index, None);
                if !self.could_be_committed(row, index, index, &lacking) {
                    self.is_stale = true;
                    let all = 0..self.testimonies.len();
                    let behind: Vec<usize> = all.filter(|at| self.lacks(*at, row, index, None)).collect();
                    self.behind.extend(behind);
                }
            }
        }
    }

    /// Finds out what is not committed.
    ///
    /// * *Conflicts*: another entry of its index is certain. There is one history.
    /// * *Lacked*: who has had a committed entry keeps it. So an entry that was committed is still in the files of a quorum, and
    ///   where so many voters lack it that the rest, unread ones and broken logs included, are no quorum in any
    ///   configuration that may have been in force, it was not. This takes the files to be those the members died with.
    /// * *Superseded*: a leader of a later term lacked it, for another entry of that term stands at or before its index, or on
    ///   another branch behind it. Whoever is elected has all that is committed, so it was not committed then. A still
    ///   later leader may have committed it, but only together with an entry of its own term behind it; where too many
    ///   lack such an entry, none did.
    ///
    /// What follows an entry that is not committed is not committed either. Where histories part, or copies are too old,
    /// these arguments do not hold, and nothing is said to be lost.
    pub(super) fn find_lost(&mut self) {
        if !self.conflicts.is_empty() {
            return;
        }
        let parts = self.certain_parts();
        let compares = self
            .tree
            .rows
            .iter()
            .zip(&self.certain)
            .filter(|(row, certain)| certain.is_none_or(|(certain, _)| certain < row.last));
        let is_few = compares.count() <= MOST_ROWS;
        for at in 0..self.tree.ascending.len() {
            let Some(row) = self.tree.ascending.get(at).copied() else { continue };
            let dead = self.inherited(row).or_else(|| self.lost_from(row, &parts, is_few));
            if let Some(slot) = self.dead.get_mut(row) {
                *slot = dead;
            }
        }
    }

    fn inherited(&self, row: usize) -> Option<(u64, Why)> {
        let Some(Parent::At(parent, last)) = self.parent(row) else { return None };
        let (from, why) = self.dead.get(parent).copied().flatten()?;
        let first = self.tree.rows.get(row)?.first;
        (from <= last).then_some((first, why))
    }

    fn lost_from(&self, row: usize, parts: &[Certain], is_few: bool) -> Option<(u64, Why)> {
        let known = *self.tree.rows.get(row)?;
        let certain = self.certain.get(row).copied().flatten().map_or(0, |(certain, _)| certain);
        let from = known.first.max(certain.saturating_add(1));
        if from > known.last {
            return None;
        }
        let at = parts.partition_point(|(_, last, _)| *last < from);
        let other = parts.get(at).map(|(first, _, _)| (from.max(*first), Why::Conflicts));
        let conflict = other.filter(|(index, _)| *index <= known.last);
        if self.is_stale {
            return conflict;
        }
        let until = conflict.map_or(known.last, |(index, _)| index.saturating_sub(1));
        let mut points = BTreeSet::from([from]);
        for (at, testimony) in self.testimonies.iter().enumerate() {
            points.extend(self.tree.end_in(at, row).map(|end| end.saturating_add(1)));
            points.extend(votes::changes(testimony, from, until).map(|made| made.saturating_add(1)));
        }
        if is_few {
            // Where another row leaves this one.
            points.extend(self.tree.rows.iter().map(|other| match other.parent {
                Parent::At(parent, last) if parent == row => last.saturating_add(1),
                _ => other.first,
            }));
        }
        let lost = points.iter().filter(|index| (from..=until).contains(*index)).find_map(|index| {
            let certain = self.certain_at(row, *index);
            if !self.could_be_committed(row, *index, certain, &self.lacking(row, *index, None)) {
                return Some((*index, Why::Lacked));
            }
            let term = if is_few { self.superseded_by(row, *index)? } else { return None };
            let lacking = self.lacking(row, *index, Some(term));
            (!self.could_be_committed(row, *index, certain, &lacking)).then_some((*index, Why::Superseded))
        });
        lost.or(conflict)
    }

    /// Whether this testimony shows that its member lacks entry `index` of `row`, or an entry of a term beyond `later` behind it.
    fn lacks(&self, at: usize, row: usize, index: u64, later: Option<u64>) -> bool {
        let Some(testimony) = self.testimonies.get(at) else { return false };
        if testimony.may_lack_its_end || index <= testimony.base.index {
            return false;
        }
        let has = self.tree.end_in(at, row).is_some_and(|end| end >= index);
        let last = self.tree.paths.get(at).and_then(|path| self.tree.rows.get(path.last()?.row));
        !has || later.is_some_and(|later| last.is_none_or(|last| last.term <= later))
    }

    /// The members of whom all testimonies show that they lack it.
    fn lacking(&self, row: usize, index: u64, later: Option<u64>) -> BTreeSet<u64> {
        let mut lacking = BTreeSet::new();
        let mut others = BTreeSet::new();
        for (at, testimony) in self.testimonies.iter().enumerate() {
            let side = if self.lacks(at, row, index, later) { &mut lacking } else { &mut others };
            side.extend(testimony.member_id);
        }
        lacking.difference(&others).copied().collect()
    }

    /// Whether the voters that do not lack it are a quorum of a configuration that may have been in force when it was
    /// committed. True where nobody knows who votes.
    fn could_be_committed(&self, row: usize, index: u64, certain: u64, lacking: &BTreeSet<u64>) -> bool {
        let mut accounts = self
            .leading_to(row, index)
            .filter_map(|at| votes::in_force(self.testimonies.get(at)?, certain, index, true))
            .peekable();
        if accounts.peek().is_none() {
            return true;
        }
        let could = |config: &Config| {
            let rest = config.voters.difference(lacking).copied().collect();
            votes::is_quorum(config, &rest)
        };
        accounts.flatten().any(could)
    }

    /// The highest term of a leader that lacked entry `index` of `row`, beyond the row's own.
    fn superseded_by(&self, row: usize, index: u64) -> Option<u64> {
        let term = self.tree.rows.get(row)?.term;
        let rows = self.tree.rows.iter().enumerate().filter(|(_, other)| other.term > term);
        let lacked = rows.filter(|(at, other)| {
            other.first <= index
                || self.tree.ancestor(*at, other.first, index, MOST_ROWS).is_some_and(|found| found != row)
        });
        lacked.map(|(_, other)| other.term).max()
    }
}
