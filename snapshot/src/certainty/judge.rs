//! The judgement.

use std::collections::BTreeSet;

use super::case::Case;
use super::tree::Parent;
use super::{Class, Config, Conflict, Judged, Judgement, Known, Parting, Point, Testimony, Why, votes};
use crate::force_new::traces::Trace;

/// Judges what these members' files testify. It never says *certain* of an entry that an election could lose, nor *not committed* of
/// one that a client was told of, as long as the files are those of raft's members; the arguments stand with the rules,
/// in `case` and `lost`.
///
/// Testimonies of one member may be several copies of its files, of different ages. Time and memory follow the number of
/// stretches.
#[must_use]
pub fn judge(testimonies: &[Testimony]) -> Judgement {
    let mut case = Case::of(testimonies);
    case.find_conflicts();
    case.find_stale();
    case.find_lost();
    case.finish()
}

/// The most conflicts that are told; the first says it all.
const MOST_CONFLICTS: usize = 256;

/// Entries of a row, or the part of one that is to be listed.
#[derive(Debug, Clone, Copy)]
struct Part {
    row: usize,
    first: u64,
    last: u64,
}

impl Case<'_> {
    /// Finds histories that cannot be one.
    fn find_conflicts(&mut self) {
        let mut found = Vec::new();
        for (one, other) in self.tree.twins.iter().take(MOST_CONFLICTS) {
            let row = |at: usize| self.tree.rows.get(at).copied();
            let Some((first, second)) = row(*one).zip(row(*other)) else { continue };
            let after = self.parted(*one, *other).min(first.first.max(second.first).saturating_sub(1));
            let sides = [self.in_row(*one), self.in_row(*other)];
            found.push(Conflict { after, sides, parting: Parting::SameTerm });
        }
        found.extend(self.marked());
        let parts = self.certain_parts();
        let mut end: Option<(u64, usize)> = None;
        for (first, last, row) in parts {
            if let Some((before, other)) = end.filter(|(before, _)| *before >= first) {
                let at = first.min(before);
                let sides = [
                    self.leading_to(other, at).filter(|one| self.is_at(*one, other, at)).collect(),
                    self.in_row(row),
                ];
                found.push(Conflict { after: first.saturating_sub(1), sides, parting: Parting::BothCertain });
            }
            if end.is_none_or(|(before, _)| before < last) {
                end = Some((last, row));
            }
        }
        found.extend(self.forced());
        found.sort_by_key(|conflict| conflict.after);
        found.truncate(MOST_CONFLICTS);
        found.dedup_by(|next, before| next.after == before.after && next.sides == before.sides);
        self.conflicts = found;
    }

    fn is_at(&self, at: usize, row: usize, index: u64) -> bool {
        self.tree.at(at, index).is_some_and(|piece| piece.row == row)
    }

    /// The testimonies that have entries of a row.
    fn in_row(&self, row: usize) -> Vec<usize> {
        let first = self.tree.rows.get(row).map_or(0, |row| row.first);
        self.leading_to(row, first).collect()
    }

    /// The last index that the paths to two rows share, 0 where they share none that is known.
    fn parted(&self, one: usize, other: usize) -> u64 {
        let parent = |row| match self.parent(row) {
            Some(Parent::At(parent, last)) => Some((parent, last)),
            _ => None,
        };
        let (Some(mut one), Some(mut other)) = (parent(one), parent(other)) else { return 0 };
        for _ in 0..self.tree.rows.len() {
            if one.0 == other.0 {
                return one.1.min(other.1);
            }
            let later = if one.1 >= other.1 { &mut one } else { &mut other };
            match parent(later.0) {
                Some(next) => *later = next,
                None => return 0,
            }
        }
        0
    }

    /// Entries of one index and term that differ.
    fn marked(&self) -> Vec<Conflict> {
        let mut found = Vec::new();
        for (at, row) in self.tree.rows.iter().enumerate().filter(|(_, row)| row.mark > 0) {
            let (Parent::At(parent, last), first) = (row.parent, row.first) else { continue };
            if self.tree.rows.get(parent).is_none_or(|before| before.mark == row.mark) {
                continue;
            }
            let others: Vec<usize> = self
                .tree
                .rows
                .iter()
                .enumerate()
                .filter(|(_, other)| other.term == row.term && other.mark < row.mark)
                .filter(|(_, other)| other.first <= first && first <= other.last)
                .flat_map(|(other, _)| self.leading_to(other, first))
                .collect();
            if !others.is_empty() {
                found.push(Conflict {
                    after: last,
                    sides: [others, self.in_row(at)],
                    parting: Parting::SameTerm,
                });
            }
        }
        found
    }

    /// Logs that were given to `--force-new-cluster`, and others that go on without it.
    fn forced(&self) -> Vec<Conflict> {
        let reached: Vec<u64> = (0..self.testimonies.len()).map(|at| self.reached(at)).collect();
        let mut found = Vec::new();
        let forced = self.testimonies.iter().enumerate();
        for (at, trace) in forced.flat_map(|(at, one)| one.forced.iter().map(move |trace| (at, trace))) {
            let Some(piece) = self.tree.at(at, trace.first) else { continue };
            let others: Vec<usize> = (0..self.testimonies.len())
                .filter(|other| reached.get(*other).is_some_and(|reached| *reached >= trace.first))
                .filter(|other| self.goes_without(*other, at, trace, piece.row))
                .collect();
            if !others.is_empty() {
                let sides = [others, self.leading_to(piece.row, trace.first).collect()];
                found.push(Conflict {
                    after: trace.first.saturating_sub(1),
                    sides,
                    parting: Parting::Forced,
                });
                if found.len() >= MOST_CONFLICTS {
                    break;
                }
            }
        }
        found
    }

    /// The last entry that this testimony has, or knows of.
    fn reached(&self, at: usize) -> u64 {
        let end = self.tree.paths.get(at).and_then(|path| path.last()).map_or(0, |end| end.last);
        let known = self.testimonies.get(at).into_iter().flat_map(|one| &one.committed);
        known.map(|known| known.index).max().unwrap_or_default().max(end)
    }

    /// Whether `other`, which goes as far as `trace`, a forced change in `row` of the log of `at`, tells another history.
    ///
    /// A log that has another entry there does. One that begins later, as those of members that were added afterwards do, and a
    /// database say it by their members: those that were removed by force never come back, for who is added again gets a new
    /// id. Where nobody knows them, what `other` knows to be committed tells, if the log of `at` has it.
    fn goes_without(&self, other: usize, at: usize, trace: &Trace, row: usize) -> bool {
        if self.tree.end_in(other, row).is_some_and(|end| end >= trace.first) {
            return false;
        }
        let Some(testimony) = self.testimonies.get(other) else { return false };
        if self.tree.at(other, trace.first).is_some_and(|piece| piece.is_held) {
            return true;
        }
        if let Some((_, config)) = testimony.configs.last() {
            let mut removed = trace.removed.iter();
            return removed.any(|id| config.voters.contains(id) || config.learners.contains(id));
        }
        let shares = |known: &Known| {
            let row = known.term.and_then(|term| self.tree.find(other, known.index, term));
            known.index >= trace.first && row.and_then(|row| self.tree.end_in(at, row)) >= Some(known.index)
        };
        !testimony.committed.iter().any(shares)
    }

    /// The rows from where a chain is known to begin to entry `index` of `row`.
    fn path_to(&self, row: usize, index: u64) -> Vec<Part> {
        let mut path = Vec::new();
        let mut next = Some((row, index));
        while let Some((row, last)) = next {
            let Some(known) = self.tree.rows.get(row) else { break };
            path.push(Part { row, first: known.first, last });
            next = match known.parent {
                Parent::At(parent, last) => Some((parent, last)),
                Parent::Unknown | Parent::Root => None,
            };
        }
        path.reverse();
        path
    }

    /// The end of what a log holds that is not lost, with its term.
    fn alive_end(&self, at: usize) -> Option<(u64, u64, usize)> {
        let path = self.tree.paths.get(at)?;
        path.iter().rev().find_map(|piece| {
            let row = self.tree.rows.get(piece.row)?;
            let last = match self.dead.get(piece.row).copied().flatten() {
                Some((from, _)) => piece.last.min(from.saturating_sub(1)),
                None => piece.last,
            };
            (last >= piece.first).then_some((row.term, last, piece.row))
        })
    }

    /// The last certain entry: that which most members hold, where there are several.
    fn tip(&self) -> Option<(u64, usize)> {
        let is_inner: BTreeSet<usize> = self
            .tree
            .rows
            .iter()
            .enumerate()
            .filter(|(at, _)| self.certain.get(*at).copied().flatten().is_some())
            .filter_map(|(_, row)| match row.parent {
                Parent::At(parent, last) => {
                    let certain = self.certain.get(parent).copied().flatten()?;
                    (certain.0 <= last).then_some(parent)
                }
                _ => None,
            })
            .collect();
        let parts = self.certain_parts();
        let tips = parts.iter().filter(|(_, _, row)| !is_inner.contains(row));
        if self.conflicts.is_empty() {
            return tips.map(|(_, last, row)| (*last, *row)).max();
        }
        let held = |row: usize, last: u64| self.leading_to(row, last).count();
        tips.max_by_key(|(_, last, row)| (held(*row, *last), *last, *row)).map(|(_, last, row)| (*last, *row))
    }

    /// The chain: what is certain, and what follows it on the branch of the best log.
    fn chain(&self, tip: Option<(u64, usize)>) -> (Vec<Part>, Option<(u64, usize)>) {
        let (tip_index, mut chain) = match tip {
            Some((index, row)) => (index, self.path_to(row, index)),
            None => (0, Vec::new()),
        };
        let mut end = tip;
        let ends = (0..self.testimonies.len()).filter_map(|at| self.alive_end(at));
        let mut beyond: Vec<(u64, u64, usize)> = ends.filter(|(_, last, _)| *last > tip_index).collect();
        beyond.sort_unstable();
        let mut detached = None;
        for (_, last, row) in beyond.into_iter().rev() {
            let path = self.path_to(row, last);
            let follows = match tip {
                None => true,
                Some((index, row)) => path.iter().any(|part| {
                    part.row == row && part.last >= index && self.certain_at(row, part.last) == index
                }),
            };
            let first = path.first().map_or(0, |part| part.first);
            if follows {
                chain = path;
                end = Some((last, row));
                detached = None;
                break;
            }
            // A log whose begin nobody knows may go on from there.
            let may_follow = first <= tip_index.saturating_add(1)
                && !path.iter().any(|part| self.certain.get(part.row).copied().flatten().is_some())
                && path.first().is_some_and(|part| self.parent(part.row) == Some(Parent::Unknown));
            if may_follow && detached.is_none() {
                detached = Some((path, (last, row)));
            }
        }
        if let Some((path, last)) = detached {
            let later = path.into_iter().filter(|part| part.last > tip_index);
            chain.extend(
                later.map(|part| Part { first: part.first.max(tip_index.saturating_add(1)), ..part }),
            );
            end = Some(last);
        }
        // What is certain where no log leads from there to the rest.
        let first = chain.first().map_or(u64::MAX, |part| part.first);
        if self.conflicts.is_empty() {
            let parts = self.certain_parts().into_iter().filter(|(_, last, _)| *last < first);
            let mut all: Vec<Part> = parts.map(|(first, last, row)| Part { row, first, last }).collect();
            all.append(&mut chain);
            chain = all;
        }
        (chain, end)
    }

    /// The parts of all rows that are not in `chain`.
    fn off(&self, chain: &[Part]) -> Vec<Part> {
        let mut taken: Vec<Vec<(u64, u64)>> = vec![Vec::new(); self.tree.rows.len()];
        for part in chain {
            if let Some(taken) = taken.get_mut(part.row) {
                taken.push((part.first, part.last));
            }
        }
        let mut off = Vec::new();
        for (row, (known, mut taken)) in self.tree.rows.iter().zip(taken).enumerate() {
            taken.sort_unstable();
            let mut next = known.first;
            for (first, last) in taken {
                if first > next {
                    off.push(Part { row, first: next, last: first - 1 });
                }
                next = next.max(last.saturating_add(1));
            }
            if next <= known.last {
                off.push(Part { row, first: next, last: known.last });
            }
        }
        off.sort_by_key(|part| (part.first, part.row));
        off
    }

    /// Says of each entry of `parts` that a log holds what it is.
    fn list(&self, parts: &[Part], certain_to: u64) -> Vec<Judged> {
        let mut listed: Vec<Judged> = Vec::new();
        for part in parts {
            let Some(row) = self.tree.rows.get(part.row) else { continue };
            // Of each testimony, by ascending index.
            let pieces: Vec<Vec<(u64, u64)>> = (0..self.testimonies.len())
                .map(|at| {
                    let path = self.tree.paths.get(at).map_or(&[][..], Vec::as_slice);
                    let from = path.partition_point(|piece| piece.last < part.first);
                    let until = path.partition_point(|piece| piece.first <= part.last);
                    let pieces = path.get(from..until).unwrap_or_default().iter();
                    let pieces = pieces.filter(|piece| piece.row == part.row && piece.is_held);
                    pieces.map(|piece| (piece.first, piece.last)).collect()
                })
                .collect();
            let holds = |pieces: &[(u64, u64)], first: u64, last: u64| {
                let at = pieces.partition_point(|(_, to)| *to < last);
                pieces.get(at).is_some_and(|(from, _)| *from <= first)
            };
            let certain = self.certain.get(part.row).copied().flatten();
            let dead = self.dead.get(part.row).copied().flatten();
            let mut starts = BTreeSet::from([part.first]);
            let edges = pieces.iter().flatten();
            starts.extend(edges.flat_map(|(first, last)| [*first, last.saturating_add(1)]));
            starts.extend(certain.map(|(last, _)| last.saturating_add(1)));
            starts.extend(dead.map(|(from, _)| from));
            starts.insert(certain_to.saturating_add(1));
            starts.retain(|first| (part.first..=part.last).contains(first));
            let starts: Vec<u64> = starts.into_iter().collect();
            for (at, first) in starts.iter().copied().enumerate() {
                let last = starts.get(at + 1).map_or(part.last, |next| next - 1);
                let held = pieces.iter().enumerate().filter(|(_, pieces)| holds(pieces, first, last));
                let holders: Vec<usize> = held.map(|(at, _)| at).collect();
                if holders.is_empty() {
                    continue;
                }
                let (class, why) = match (certain, dead) {
                    (Some((certain, why)), _) if first <= certain => (Class::Certain, why),
                    (_, Some((from, why))) if first >= from => (Class::NotCommitted, why),
                    _ if first <= certain_to => (Class::Possible, Why::Passed),
                    _ => (Class::Possible, Why::Undecided),
                };
                let judged = Judged { first, last, term: row.term, mark: row.mark, class, holders, why };
                match listed.last_mut().filter(|before| goes_on(before, &judged)) {
                    Some(before) => before.last = last,
                    None => listed.push(judged),
                }
            }
        }
        listed
    }

    fn finish(self) -> Judgement {
        let tip = self.tip();
        let certain_to = tip.map_or_else(Point::default, |(index, row)| Point {
            index,
            term: self.tree.rows.get(row).map(|row| row.term),
        });
        let (chain, end) = self.chain(tip);
        let off = self.off(&chain);
        let known = self.testimonies.iter().flat_map(|testimony| &testimony.committed);
        let known_to = known.map(|known| known.index).max().unwrap_or_default().max(certain_to.index);
        let voters = self.voters(end).unwrap_or_default().voters;
        let ids = |of: &dyn Fn(&Testimony) -> bool| -> BTreeSet<u64> {
            self.testimonies.iter().filter(|one| of(one)).filter_map(|one| one.member_id).collect()
        };
        let whole = ids(&|one| !one.may_lack_its_end);
        let given = ids(&|_| true);
        let config = Config { voters, learners: BTreeSet::new() };
        Judgement {
            chain: self.list(&chain, certain_to.index),
            branches: self.list(&off, certain_to.index),
            certain_to,
            known_to,
            unread: config.voters.difference(&given).copied().collect(),
            has_quorum: votes::is_quorum(&config, &whole),
            voters: config.voters,
            conflicts: self.conflicts,
            behind: self.behind.into_iter().collect(),
        }
    }

    /// Who votes once all up to `end` is applied, by the account that goes furthest.
    fn voters(&self, end: Option<(u64, usize)>) -> Option<Config> {
        let index = end.map_or(u64::MAX, |(index, _)| index);
        let leads = |at: &usize| {
            end.is_none_or(|(index, row)| self.tree.end_in(*at, row).is_some_and(|last| last >= index))
        };
        let account = |at: usize| {
            let made = self.testimonies.get(at)?.configs.iter().rev().find(|(made, _)| *made <= index)?;
            Some((made.0, at, made.1.clone()))
        };
        let all = 0..self.testimonies.len();
        let best = all.clone().filter(leads).filter_map(account).max_by_key(|(made, at, _)| (*made, *at));
        let best = best.or_else(|| all.filter_map(account).max_by_key(|(made, at, _)| (*made, *at)));
        best.map(|(_, _, config)| config)
    }
}

/// Whether `next` goes on where `before` ends, being nothing else.
fn goes_on(before: &Judged, next: &Judged) -> bool {
    before.last.checked_add(1) == Some(next.first)
        && (before.term, before.mark, before.class, before.why)
            == (next.term, next.mark, next.class, next.why)
        && before.holders == next.holders
}
