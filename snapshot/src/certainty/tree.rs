//! All entries of all testimonies as one tree.
//!
//! Raft's log matching: entries of equal index and term are the same entry, and so are all before them. Hence the entries of
//! one term are one row, made by one leader, which follows one entry of an earlier term. A [`Row`] is such a row; a path
//! from an entry to the root is the history before it. Two rows of one term prove two histories.

use std::collections::HashMap;

use super::{Point, Testimony};

/// The most rows of one term and mark that are told apart by name: a log whose terms go back and forth has one for each entry.
const MOST_TWINS: usize = 16;

/// What the first entry of a row follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    /// No log says.
    Unknown,
    /// Nothing: it is entry 1.
    Root,
    /// The entry of this row at this index.
    At(usize, u64),
}

/// The entries of one leader.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) term: u64,
    pub(super) mark: u32,
    /// Its first index, as far as is known.
    pub(super) first: u64,
    /// The last index that any testimony knows of.
    pub(super) last: u64,
    pub(super) parent: Parent,
}

/// A part of a row on the path of one testimony.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) row: usize,
    pub(super) first: u64,
    pub(super) last: u64,
    /// False for what lies before the log's begin.
    pub(super) is_held: bool,
}

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) rows: Vec<Row>,
    /// The rows by ascending first index: parents before children.
    pub(super) ascending: Vec<usize>,
    /// Each testimony's path, by ascending index.
    pub(super) paths: Vec<Vec<Piece>>,
    /// Pairs of rows of one term and mark that one leader cannot have made.
    pub(super) twins: Vec<(usize, usize)>,
    by_name: HashMap<(u64, u32), Vec<usize>>,
}

impl Tree {
    pub(super) fn of(testimonies: &[Testimony]) -> Self {
        let mut tree = Self::default();
        for testimony in testimonies {
            let path = tree.path(testimony);
            tree.paths.push(path);
        }
        for testimony in testimonies {
            for known in &testimony.committed {
                if let Some(term) = known.term.filter(|_| known.index > 0) {
                    tree.row(term, 0, known.index, known.index, None);
                }
            }
        }
        tree.ascending = (0..tree.rows.len()).collect();
        let Self { ascending, rows, .. } = &mut tree;
        ascending.sort_by_key(|at| rows.get(*at).map_or(0, |row| row.first));
        tree
    }

    fn path(&mut self, testimony: &Testimony) -> Vec<Piece> {
        let mut path: Vec<Piece> = Vec::new();
        let Point { index: base, term } = testimony.base;
        // Of a base's mark nothing is known but that of what follows it in the same term.
        let mark = testimony
            .stretches
            .iter()
            .find(|next| next.first > base)
            .filter(|next| Some(next.term) == term)
            .map_or(0, |next| next.mark);
        let mut pending = term.filter(|_| base > 0);
        for stretch in &testimony.stretches {
            if stretch.first > base
                && let Some(term) = pending.take()
            {
                let row = self.row(term, mark, base, base, None);
                path.push(Piece { row, first: base, last: base, is_held: false });
            }
            let before = path.last().copied().filter(|before| {
                let follows_on = before.last.checked_add(1) == Some(stretch.first);
                // Terms never go back in a log of raft's.
                let term = self.rows.get(before.row).map_or(0, |row| row.term);
                stretch.follows && follows_on && term <= stretch.term
            });
            let same = before.filter(|before| {
                self.rows
                    .get(before.row)
                    .is_some_and(|row| (row.term, row.mark) == (stretch.term, stretch.mark))
            });
            let row = if let Some(before) = same {
                if let Some(row) = self.rows.get_mut(before.row) {
                    row.last = row.last.max(stretch.last);
                }
                before.row
            } else {
                let start = match before {
                    Some(before) => Some(Parent::At(before.row, before.last)),
                    None => (stretch.first == 1).then_some(Parent::Root),
                };
                self.row(stretch.term, stretch.mark, stretch.first, stretch.last, start)
            };
            path.push(Piece { row, first: stretch.first, last: stretch.last, is_held: true });
        }
        if let Some(term) = pending {
            let row = self.row(term, mark, base, base, None);
            path.push(Piece { row, first: base, last: base, is_held: false });
        }
        path
    }

    /// The row of this name to which these entries belong; `start` is what the first of them follows, where that is an entry of
    /// another row.
    fn row(&mut self, term: u64, mark: u32, first: u64, last: u64, start: Option<Parent>) -> usize {
        let next = self.rows.len();
        let named = self.by_name.entry((term, mark)).or_default();
        let fits = named.iter().copied().find(|at| {
            self.rows.get(*at).is_some_and(|row| match (row.parent, start) {
                (Parent::Unknown, None) => true,
                (Parent::Unknown, Some(_)) => row.first >= first,
                (_, None) => row.first <= first,
                (parent, Some(start)) => row.first == first && parent == start,
            })
        });
        if let Some((at, row)) = fits.and_then(|at| Some((at, self.rows.get_mut(at)?))) {
            row.first = row.first.min(first);
            row.last = row.last.max(last);
            if let Some(start) = start {
                row.parent = start;
            }
            return at;
        }
        if named.len() < MOST_TWINS {
            if let Some(other) = named.first() {
                self.twins.push((*other, next));
            }
            named.push(next);
        }
        self.rows.push(Row { term, mark, first, last, parent: start.unwrap_or(Parent::Unknown) });
        next
    }

    /// The row of a testimony's path at this index.
    pub(super) fn at(&self, testimony: usize, index: u64) -> Option<Piece> {
        let path = self.paths.get(testimony)?;
        let at = path.partition_point(|piece| piece.last < index);
        path.get(at).copied().filter(|piece| piece.first <= index)
    }

    /// The last index of `row` on a testimony's path.
    pub(super) fn end_in(&self, testimony: usize, row: usize) -> Option<u64> {
        let (known, path) = (self.rows.get(row)?, self.paths.get(testimony)?);
        let until = path.partition_point(|piece| piece.first <= known.last);
        let from = path.partition_point(|piece| piece.last < known.first);
        let pieces = path.get(from..until)?;
        pieces.iter().rev().find(|piece| piece.row == row).map(|piece| piece.last)
    }

    /// The row that a statement about an entry is about: that of the testimony's own path, or else the only one of the term.
    pub(super) fn find(&self, testimony: usize, index: u64, term: u64) -> Option<usize> {
        let of_term = |row: usize| self.rows.get(row).is_some_and(|row| row.term == term);
        if let Some(piece) = self.at(testimony, index).filter(|piece| of_term(piece.row)) {
            return Some(piece.row);
        }
        let named = self.by_name.get(&(term, 0))?;
        named
            .iter()
            .copied()
            .find(|at| self.rows.get(*at).is_some_and(|row| row.first <= index && index <= row.last))
    }

    /// The row that the path to `(row, index)` has at `at`, not beyond `index`; `None` where that is not known.
    ///
    /// Follows at most `steps` rows, so that a log of alternating terms costs no more than it justifies.
    pub(super) fn ancestor(&self, mut row: usize, mut index: u64, at: u64, steps: usize) -> Option<usize> {
        for _ in 0..steps {
            let known = self.rows.get(row)?;
            if at > index {
                return None;
            }
            if known.first <= at {
                return Some(row);
            }
            match known.parent {
                Parent::At(parent, last) => (row, index) = (parent, last),
                Parent::Unknown | Parent::Root => return None,
            }
        }
        None
    }
}
