//! What is certain: the points that somebody knows of, and those that a quorum proves.

use std::collections::BTreeSet;

use super::tree::{Parent, Tree};
use super::votes;
use super::{Conflict, Testimony, Why};

/// The most rounds in which what is certain is sought; each goes over one change of members that is not yet known to be
/// committed, of which raft allows one at a time.
const MOST_ROUNDS: usize = 64;

/// What is being judged.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) testimonies: &'a [Testimony],
    pub(super) tree: Tree,
    /// Of each row the last index that is certain.
    pub(super) certain: Vec<Option<(u64, Why)>>,
    /// Of each row the last index before its first on its path that is certain; 0 for none.
    before: Vec<u64>,
    /// Of each row the first index that is not committed; so is all behind it.
    pub(super) dead: Vec<Option<(u64, Why)>>,
    pub(super) conflicts: Vec<Conflict>,
    /// See [`super::Judgement::behind`].
    pub(super) behind: BTreeSet<usize>,
    /// Whether testimonies contradict what is certain.
    pub(super) is_stale: bool,
}

impl<'a> Case<'a> {
    pub(super) fn of(testimonies: &'a [Testimony]) -> Self {
        let tree = Tree::of(testimonies);
        let rows = tree.rows.len();
        let mut case = Self {
            testimonies,
            tree,
            certain: vec![None; rows],
            before: vec![0; rows],
            dead: vec![None; rows],
            conflicts: Vec::new(),
            behind: BTreeSet::new(),
            is_stale: false,
        };
        case.known();
        case.propagate();
        for _ in 0..MOST_ROUNDS {
            if !(case.quorums() | case.lone_voters()) {
                break;
            }
            case.propagate();
        }
        case
    }

    /// What a member knows to be committed is: the leader counted a quorum before it said so, and a member applies, and makes
    /// snapshots of, nothing else. It does not matter how old the files are, for what is committed once remains so.
    fn known(&mut self) {
        for (at, testimony) in self.testimonies.iter().enumerate() {
            for known in &testimony.committed {
                let row = known.term.and_then(|term| self.tree.find(at, known.index, term));
                if let Some(row) = row {
                    self.settle(row, known.index, Why::Known(at, known.source));
                }
            }
        }
    }

    /// Notes that `row` is certain up to `index`; whether that is news.
    fn settle(&mut self, row: usize, index: u64, why: Why) -> bool {
        match self.certain.get_mut(row) {
            Some(certain) if certain.is_none_or(|(known, _)| known < index) => {
                *certain = Some((index, why));
                true
            }
            _ => false,
        }
    }

    /// All before a certain entry is certain.
    fn propagate(&mut self) {
        for at in (0..self.tree.ascending.len()).rev() {
            let Some(row) = self.tree.ascending.get(at).copied() else { continue };
            let certain = self.certain.get(row).copied().flatten();
            if let (Some((_, why)), Some(Parent::At(parent, last))) = (certain, self.parent(row)) {
                self.settle(parent, last, why);
            }
        }
        for at in 0..self.tree.ascending.len() {
            let Some(row) = self.tree.ascending.get(at).copied() else { continue };
            let before = match self.parent(row) {
                Some(Parent::At(parent, last)) => self.certain_at(parent, last),
                _ => 0,
            };
            if let Some(slot) = self.before.get_mut(row) {
                *slot = before;
            }
        }
    }

    pub(super) fn parent(&self, row: usize) -> Option<Parent> {
        self.tree.rows.get(row).map(|row| row.parent)
    }

    /// The last certain index on the path to entry `index` of `row`, itself included; 0 when none is.
    pub(super) fn certain_at(&self, row: usize, index: u64) -> u64 {
        match self.certain.get(row).copied().flatten() {
            Some((certain, _)) => certain.min(index),
            None => self.before.get(row).copied().unwrap_or_default(),
        }
    }

    /// The testimonies whose logs lead to entry `index` of `row` or beyond it.
    pub(super) fn leading_to(&self, row: usize, index: u64) -> impl Iterator<Item = usize> {
        (0..self.testimonies.len())
            .filter(move |at| self.tree.end_in(*at, row).is_some_and(|end| end >= index))
    }

    /// A quorum that holds entry `index` of `row`, or one behind it of that row, where no member of the quorum has been in a
    /// later term than the row's, proves it.
    ///
    /// Let the row be of term T, and take the first leader of a term T' beyond T that lacks the entry. It was elected by a
    /// quorum of a configuration that may be in force ([`votes`]), so that one of its voters, V, is in ours. V's files
    /// say that V had the entry while it was in no term beyond T, so V voted in T' afterwards. It still had the entry, for only
    /// leaders between T and T' could have overwritten it, and they had it. A voter refuses whose log ends with a lower term
    /// than its own, or with the same and is shorter; so the leader's log ends in T or later, with the entry (a log
    /// that ends with an entry of a term is its leader's log up to there). That contradicts that it lacks it.
    ///
    /// In figure 8 of the raft paper an entry of an old term is on a quorum, sent by a leader of a later one: those who got it
    /// so are in that later term, and do not count. Only the terms of those who are counted matter, and not, as law 12
    /// has it, of all who can be read: one that went through elections alone has no part in the argument. Old copies and logs
    /// that lost their ends are earlier states of their members, to which the argument applies as well; but the last write
    /// of a log that lost its end may be there in part, entries without the term that was written with them, so that of such
    /// a log only what a later hard state vouches for is counted ([`Testimony::settled_to`]).
    fn quorums(&mut self) -> bool {
        let terms: BTreeSet<u64> = self.testimonies.iter().map(|testimony| testimony.term).collect();
        let rows: Vec<usize> = (0..self.tree.rows.len())
            .filter(|row| self.tree.rows.get(*row).is_some_and(|row| terms.contains(&row.term)))
            .collect();
        let mut is_news = false;
        for row in rows {
            let Some(term) = self.tree.rows.get(row).map(|row| row.term) else { continue };
            let ends: Vec<(u64, u64)> = self
                .testimonies
                .iter()
                .enumerate()
                .filter(|(_, testimony)| testimony.term == term)
                .filter_map(|(at, testimony)| {
                    let end = self.tree.end_in(at, row)?;
                    let end = if testimony.may_lack_its_end { end.min(testimony.settled_to) } else { end };
                    Some((end, testimony.member_id?))
                })
                .collect();
            let mut candidates: BTreeSet<u64> = ends.iter().map(|(end, _)| *end).collect();
            if let Some(last) = candidates.last().copied() {
                let first = self.certain_at(row, last).saturating_add(1);
                for at in self.leading_to(row, first) {
                    let account = self.testimonies.get(at).into_iter();
                    candidates.extend(account.flat_map(|account| votes::changes(account, first, last)));
                }
            }
            let proven = candidates.into_iter().rev().find(|index| {
                let members =
                    ends.iter().filter(|(end, _)| end >= index).map(|(_, member)| *member).collect();
                self.is_elected_by(row, *index, &members)
            });
            if let Some(index) = proven {
                is_news |= self.settle(row, index, Why::Quorum);
            }
        }
        is_news
    }

    /// Whether `members` are a quorum of each configuration that may be in force about the entry, by all accounts of it.
    fn is_elected_by(&self, row: usize, index: u64, members: &BTreeSet<u64>) -> bool {
        let first = self.tree.rows.get(row).map_or(u64::MAX, |row| row.first);
        if index < first {
            return false;
        }
        let certain = self.certain_at(row, index);
        let mut accounts = self
            .leading_to(row, index)
            .filter_map(|at| votes::in_force(self.testimonies.get(at)?, certain, index, false))
            .peekable();
        accounts.peek().is_some()
            && accounts.all(|mut configs| configs.all(|config| votes::is_quorum(config, members)))
    }

    /// A member that alone votes commits what it has when it starts, and nobody is elected without it: its log is never
    /// overwritten. So its entries are certain as far as no other configuration may be in force.
    fn lone_voters(&mut self) -> bool {
        let mut is_news = false;
        for (at, testimony) in self.testimonies.iter().enumerate() {
            let Some(member) = testimony.member_id else { continue };
            let Some(end) = self.tree.paths.get(at).and_then(|path| path.last().copied()) else { continue };
            let first = self.certain_at(end.row, end.last).saturating_add(1);
            let mut candidates: BTreeSet<u64> = votes::changes(testimony, first, end.last).collect();
            candidates.insert(end.last);
            let own = BTreeSet::from([member]);
            let proven = candidates.into_iter().rev().find_map(|index| {
                let row = self.tree.at(at, index)?.row;
                let certain = self.certain_at(row, index);
                let mut configs = votes::in_force(testimony, certain, index, false)?;
                configs.all(|config| config.voters == own).then_some((row, index))
            });
            if let Some((row, index)) = proven {
                is_news |= self.settle(row, index, Why::LoneVoter(at));
            }
        }
        is_news
    }
}
