//! `case diff`: in what two sources differ, revision by revision, compactions taken into account.
//!
//! A record that one source has is *expected* in another that reaches so far when history is kept there, or when the compaction that
//! took the history had to leave it: the last record of its key up to the compacted revision, if it is no tombstone (FORMATS C.4).
//! What is expected and not there is a difference. What a compaction explains is none.

use std::ops::ControlFlow;

use super::Reading;
use super::merge::{Merge, Met, revisions};
use crate::case::Case;
use crate::error::CaseError;
use crate::key_table::WithPrefix;
use crate::rows::{Diff, DiffRow, Parting};
use crate::source::{KeySpace, LogSummary, Source, TermRun};

/// Which records of a source a compaction of another must have left: a bit for each record up to the compacted revision.
struct Left {
    words: Vec<u64>,
}

impl Left {
    fn by(compacted: i64, reading: &Reading<'_>) -> Result<Self, CaseError> {
        let behind = reading.lower_bound((compacted.saturating_add(1), i64::MIN))?;
        let mut words = vec![0; usize::try_from(behind.div_ceil(64)).unwrap_or_default()];
        if behind == 0 {
            return Ok(Self { words });
        }
        let mut keys = WithPrefix::new(&reading.keys, b"")?;
        while let Some(keyed) = keys.next()? {
            let before = keyed.ordinals.partition_point(|ordinal| *ordinal < behind);
            let Some(last) = before.checked_sub(1).and_then(|at| keyed.ordinals.get(at)) else { continue };
            if let Some(word) = usize::try_from(last / 64).ok().and_then(|at| words.get_mut(at)) {
                *word |= 1u64 << (last % 64);
            }
        }
        Ok(Self { words })
    }

    fn has(&self, ordinal: u64) -> bool {
        let word = usize::try_from(ordinal / 64).ok().and_then(|at| self.words.get(at));
        word.is_some_and(|word| word & 1u64 << (ordinal % 64) != 0)
    }
}

/// What the other source should have of what one has.
struct Other<'c> {
    space: &'c KeySpace,
    last: i64,
    compacted: i64,
    /// Whether the one is damaged up to the compaction: what it has may have been overwritten by what cannot be read.
    is_doubtful: bool,
    /// `None` where the one ends before the compaction: what it has may have been overwritten behind its end.
    left: Option<Left>,
}

impl<'c> Other<'c> {
    fn new(one: &Reading<'_>, other: &Reading<'c>) -> Result<Self, CaseError> {
        let compacted = other.space.compacted.unwrap_or(0);
        let reaches = one.space.revision >= compacted;
        let left = reaches.then(|| Left::by(compacted, one)).transpose()?;
        let is_doubtful = one.space.holes.iter().any(|(from, _)| *from <= compacted);
        Ok(Self { space: other.space, last: other.space.last, compacted, is_doubtful, left })
    }

    /// Why the other source has not this record; `None` when a compaction explains it.
    fn lacks(&self, met: &Met) -> Option<Parting> {
        let record = &met.record;
        if record.main > self.compacted {
            return Some(match record.main > self.last {
                _ if self.space.is_hole(record.main) => Parting::Unreadable,
                true => Parting::Tail,
                false => Parting::Missing,
            });
        }
        let is_left = self.left.as_ref().is_some_and(|left| left.has(met.ordinal));
        let is_unreadable = self.is_doubtful || self.space.is_hole(record.main);
        let why = if is_unreadable { Parting::Unreadable } else { Parting::Missing };
        (is_left && !record.tombstone).then_some(why)
    }
}

impl Case {
    /// In what the key spaces and logs of two sources differ; `each` gets every revision that does, in order.
    ///
    /// # Errors
    /// When the case is damaged.
    pub fn diff(
        &self,
        a: &Source,
        b: &Source,
        each: &mut dyn FnMut(&DiffRow) -> ControlFlow<()>,
    ) -> Result<Diff, CaseError> {
        let clusters = a.identity.cluster.zip(b.identity.cluster).filter(|(one, other)| one != other);
        let mut diff = Diff { clusters, ..Diff::default() };
        // Entries of two clusters have nothing to do with each other, whatever their numbers.
        if clusters.is_none() {
            (diff.log_part, diff.log_common) = (log_part(a, b), log_common(a, b));
        }
        let (Some(one), Some(other)) = (Reading::open(self, a)?, Reading::open(self, b)?) else {
            return Ok(diff);
        };
        diff.from = one.space.compacted.max(other.space.compacted).unwrap_or(0);
        diff.to = one.space.last.min(other.space.last);
        let expects = [Other::new(&one, &other)?, Other::new(&other, &one)?];
        let readings = [one, other];
        let mut merge = Merge::new(&readings, &revisions(0..=i64::MAX))?;
        loop {
            let met = merge.next()?;
            let (row, main) = match met.as_slice() {
                [] => return Ok(diff),
                [first, second] if merge.are_same(first, second)? => {
                    diff.same += 1;
                    continue;
                }
                [first, second, ..] => {
                    let a = merge.row(&[*first], true)?;
                    let b = merge.row(&[*second], true)?;
                    (DiffRow { a, b, parting: Parting::Differs }, first.record.main)
                }
                [only] => {
                    let Some(parting) = expects.get(only.at).and_then(|other| other.lacks(only)) else {
                        continue;
                    };
                    let row = merge.row(&[*only], false)?;
                    let (a, b) = if only.at == 0 { (row, None) } else { (None, row) };
                    (DiffRow { a, b, parting }, only.record.main)
                }
            };
            match row.parting {
                Parting::Tail => diff.tail += 1,
                Parting::Missing => diff.missing += 1,
                Parting::Unreadable => diff.unreadable += 1,
                Parting::Differs => diff.differs += 1,
            }
            if matches!(row.parting, Parting::Missing | Parting::Differs) {
                diff.part = diff.part.or(Some(main));
            }
            if each(&row).is_break() {
                return Ok(diff);
            }
        }
    }
}

fn terms(source: &Source) -> &[TermRun] {
    source.log.as_ref().map_or(&[], |log: &LogSummary| &log.terms)
}

/// Stretches of entries that two logs both have, with the terms in each, by ascending index.
fn both<'t>(a: &'t [TermRun], b: &'t [TermRun]) -> impl Iterator<Item = (u64, u64, u64, u64)> + 't {
    let (mut at, mut bt) = (0, 0);
    std::iter::from_fn(move || {
        while let (Some(one), Some(other)) = (a.get(at), b.get(bt)) {
            let (first, last) = (one.first.max(other.first), one.last.min(other.last));
            if one.last <= other.last {
                at += 1;
            } else {
                bt += 1;
            }
            if first <= last {
                return Some((first, last, one.term, other.term));
            }
        }
        None
    })
}

/// The first entry that both logs have in different terms.
fn log_part(a: &Source, b: &Source) -> Option<(u64, u64, u64)> {
    let part = both(terms(a), terms(b)).find(|(_, _, one, other)| one != other);
    part.map(|(first, _, one, other)| (first, one, other))
}

/// The entries from the first that both logs have in the same term up to where they part or one of them ends.
fn log_common(a: &Source, b: &Source) -> Option<(u64, u64)> {
    let mut stretches = both(terms(a), terms(b)).skip_while(|(_, _, one, other)| one != other);
    let (first, mut last, ..) = stretches.next()?;
    for (from, to, one, other) in stretches {
        if one != other || last.checked_add(1) != Some(from) {
            break;
        }
        last = to;
    }
    Some((first, last))
}
