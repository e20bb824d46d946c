//! What came of a log, held against what survived.
//!
//! Every whole copy of a revision that the log made says whether it made it right: a base that is not the one the entries were
//! proposed to counts other revisions, and differs from some revision on. A record that has rotted differs alone, and what follows it is
//! equal again.

use std::ops::ControlFlow;

use bbolt::{Db, FileSource, Watch};

use crate::mvcc::Revision;
use crate::salvage::SalvageError;
use crate::salvage::ground::Ground;
use crate::salvage::rules::Standing;
use crate::salvage::sweep::{Group, State};
use crate::schema::{KEY, Schema};

/// Of so many records that are held against the log one may differ.
const MOST_DIFFERING_IN: u64 = 20;

/// Most records that differ of which it is kept which they are.
const MOST_DENIED: usize = 1 << 16;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verified {
    /// Revisions of which a whole copy says the same as the log.
    pub(super) equal: u64,
    /// Revisions of which all whole copies say something else.
    pub(super) differing: u64,
    /// The first of these.
    pub(super) first_differing: Option<i64>,
    /// The last of these.
    last_differing: i64,
    /// The last revision of which a copy says the same.
    last_equal: i64,
    /// The last revision of which there is a whole copy, whether the log comes to it or not.
    pub(super) last_seen: i64,
    /// Records that differ, by main revision and the place in it, ascending: so many as may differ where it holds.
    pub(super) denied: Vec<(i64, i64)>,
    /// Records that the log made, up to the last revision of the newest tree, and of which there is no copy at all.
    pub(super) absent: u64,
}

impl Verified {
    /// Whether what the log made is what there was.
    pub(super) fn holds(&self) -> bool {
        self.differing == 0
            || (self.last_equal > self.last_differing
                && self.differing.saturating_mul(MOST_DIFFERING_IN) <= self.equal)
    }
}

/// Holds the records of `db` above the main revision `base` against all that survived.
pub(super) fn verify(
    ground: &Ground<'_>,
    db: &FileSource,
    base: i64,
    watch: &dyn Watch,
) -> Result<Verified, SalvageError> {
    let unreadable = |what: String| super::made::unreadable(&what);
    let db = Db::from_source(db).map_err(|error| unreadable(error.to_string()))?;
    let schema = Schema::read(&db).map_err(|fault| unreadable(fault.to_string()))?;
    let compacted = schema.scheduled_compact.max(schema.finished_compact).unwrap_or_default();
    let mut verified = Verified::default();
    let upto = ground.evidence.trees.first().map_or(0, |tree| tree.revision);
    // Releases differ in what they do with a deletion at the compaction.
    let is_expected =
        |revision: &Revision| revision.main <= upto && !(revision.tombstone && revision.main <= compacted);
    let Some(bucket) = db.bucket(KEY).map_err(|fault| unreadable(fault.to_string()))? else {
        return Ok(verified);
    };
    // What the compaction removed in the log's database, and not in the tree.
    let is_finished =
        ground.evidence.trees.first().is_some_and(|tree| tree.facts.finished == Some(compacted));
    let is_kept = |group: &Group<'_>| {
        is_finished && group.copies.iter().any(|copy| copy.trees & 1 != 0 && !copy.is_tombstone)
    };
    let (mut failed, mut met) = (None, None);
    let mut records = bucket.cursor();
    let first = Revision { main: base.saturating_add(1), sub: 0, tombstone: false }.encode();
    let mut at = match records.seek(&first) {
        Ok(item) => item.and_then(|item| Some((Revision::parse(item.key)?, item.value.to_vec()))),
        Err(fault) => return Err(unreadable(fault.to_string())),
    };
    watch.begin("holding the log against what survived", ground.evidence.leaf_bytes());
    for range in 0..ground.sweep.ranges() {
        let mut judge = ground.rules.judge(range);
        ground.sweep.walk(range, watch, &mut |group| {
            let verdict = judge.verdict(group);
            let mut whole = group.copies.iter().filter(|copy| copy.state == State::Whole).peekable();
            if group.main <= base {
                return ControlFlow::Continue(());
            }
            let point = (group.main, group.sub);
            if whole.peek().is_some() {
                verified.last_seen = verified.last_seen.max(group.main);
            }
            while let Some((revision, _)) =
                at.as_ref().filter(|(revision, _)| (revision.main, revision.sub) < point)
            {
                let is_met = met == Some((revision.main, revision.sub));
                verified.absent += u64::from(!is_met && is_expected(revision));
                at = match records.next() {
                    Ok(item) => item.and_then(|item| Some((Revision::parse(item.key)?, item.value.to_vec()))),
                    Err(fault) => {
                        failed = Some(unreadable(fault.to_string()));
                        return ControlFlow::Break(());
                    }
                };
            }
            met = Some(point);
            if whole.peek().is_none() {
                return ControlFlow::Continue(());
            }
            let Some((revision, value)) = &at else {
                // Behind the last record of the log: it may not have come so far.
                return ControlFlow::Continue(());
            };
            if (revision.main, revision.sub) == point {
                let is_same =
                    whole.any(|copy| copy.value == *value && copy.is_tombstone == revision.tombstone);
                if is_same {
                    verified.equal += 1;
                    verified.last_equal = group.main;
                } else {
                    verified.differs(point);
                }
            } else if (group.main > compacted || is_kept(group)) && verdict.standing != Standing::Foreign {
                verified.differs(point);
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failed.take() {
            return Err(error);
        }
    }
    while let Some((revision, _)) = &at {
        let is_met = met == Some((revision.main, revision.sub));
        verified.absent += u64::from(!is_met && is_expected(revision));
        at = match records.next() {
            Ok(item) => item.and_then(|item| Some((Revision::parse(item.key)?, item.value.to_vec()))),
            Err(fault) => return Err(unreadable(fault.to_string())),
        };
    }
    Ok(verified)
}

impl Verified {
    fn differs(&mut self, (main, sub): (i64, i64)) {
        self.differing += 1;
        if self.denied.len() < MOST_DENIED {
            self.denied.push((main, sub));
        }
        self.first_differing.get_or_insert(main);
        self.last_differing = main;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_alone_is_rot_and_what_differs_from_there_on_is_another_history() {
        let of = |equal, differing: &[i64], last_equal| {
            let mut verified = Verified { equal, last_equal, ..Verified::default() };
            differing.iter().for_each(|main| verified.differs((*main, 0)));
            verified.holds()
        };
        assert!(of(0, &[], 0));
        assert!(of(100, &[], 100));
        assert!(of(100, &[50], 100));
        assert!(!of(100, &[101], 100));
        assert!(!of(0, &[2], 0));
        assert!(!of(30, &[5, 9], 40));
        assert!(of(40, &[5, 9], 60));
    }
}
