//! What one round has in hand, and what is held against what.

use std::collections::BTreeSet;
use std::path::Path;

use testdata::oracle::{Acknowledged, Round, Tag, tag_in};

use super::kept::{Kept, Shape};
use super::real::Real;
use super::records::Records;
use super::support::text;
use super::told::{Comparison, Recovery};

/// What one round has in hand.
pub(crate) struct Scene<'a> {
    pub(crate) round: &'a Round,
    /// What is left, in the order in which it is given.
    pub(crate) kept: &'a [Kept],
    pub(crate) label: String,
}

impl Scene<'_> {
    #[track_caller]
    pub(crate) fn holds(&self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            let (label, told) = (&self.label, &self.round.told);
            let kept: Vec<String> = self
                .kept
                .iter()
                .map(|kept| {
                    let (last, applied) = (kept.log.last_index(), kept.records.consistent_index);
                    format!(
                        "n{} {:?}, log to {last}, commit {}, applied {applied}",
                        kept.member + 1,
                        kept.shape,
                        kept.log.commit
                    )
                })
                .collect();
            panic!("{label}: {}\n{told}\n{}", what(), kept.join("\n"));
        }
    }

    pub(crate) fn inputs(&self) -> Vec<&Path> {
        self.kept.iter().map(|kept| kept.input.as_path()).collect()
    }

    /// Whether what is left of some member has this write, in its log or in its database.
    fn is_kept(&self, write: &Acknowledged) -> bool {
        self.kept.iter().any(|kept| kept.tags.contains_key(&write.tag) || kept.records.hold(write))
    }

    /// Everything classified is what it says to be.
    pub(crate) fn classes_are_right(&self, comparison: &Comparison, real: &Real) {
        let acknowledged: BTreeSet<&Tag> = self.round.acknowledged.iter().map(|write| &write.tag).collect();
        for stretch in comparison.all() {
            let indexes = stretch.first..=stretch.last;
            match stretch.class.as_str() {
                "certain" => {
                    let odd = indexes
                        .clone()
                        .find(|at| real.log.entries.get(at).is_none_or(|entry| entry.term != stretch.term));
                    self.holds(odd.is_none(), || {
                        let theirs = odd.and_then(|at| real.log.entries.get(&at)).map(|entry| entry.term);
                        format!("certain, and not what the cluster has ({odd:?}, there of term {theirs:?}): {stretch:?}\n{:?}", comparison.run)
                    });
                }
                "not-committed" => {
                    for kept in self.kept {
                        let entries = kept
                            .log
                            .entries
                            .range(indexes.clone())
                            .filter(|(_, entry)| entry.term == stretch.term);
                        let tag = entries
                            .filter_map(|(_, entry)| tag_in(&entry.data))
                            .find(|tag| acknowledged.contains(tag));
                        self.holds(tag.is_none(), || {
                            format!("acknowledged: {tag:?} in {stretch:?}\n{:?}", comparison.run)
                        });
                    }
                }
                "possible" => {}
                other => self.holds(false, || format!("class {other}")),
            }
            for id in &stretch.held_by {
                let holder =
                    self.kept.iter().find(|kept| comparison.members.get(text(&kept.input)) == Some(id));
                let ends = [stretch.first, stretch.last];
                let has = |kept: &Kept| ends.iter().all(|at| kept.log.has(*at, stretch.term));
                self.holds(holder.is_some_and(has), || {
                    format!("not held by {id}: {stretch:?}\n{:?}", comparison.run)
                });
            }
        }
        self.all_is_classified(comparison);
        self.quorum_is_right(comparison);
    }

    /// Two logs of three are a quorum; together they hold all that was acknowledged, which is raft's own promise.
    fn quorum_is_right(&self, comparison: &Comparison) {
        let (whole, run) = (self.kept.iter().filter(|kept| kept.has_whole_log()).count(), &comparison.run);
        self.holds(whole < 2 || comparison.has_quorum, || {
            format!("{whole} whole logs are a quorum\n{run:?}")
        });
        self.holds(self.kept.len() > 1 || !comparison.has_quorum, || {
            format!("one log is no quorum\n{run:?}")
        });
        if whole >= 2 {
            let lost = self.round.acknowledged.iter().find(|write| !self.is_kept(write));
            self.holds(lost.is_none(), || format!("two logs lack {lost:?}"));
        }
    }

    /// Each entry of each log has a class, and what a member knew to be committed is certain.
    fn all_is_classified(&self, comparison: &Comparison) {
        let start = comparison.chain.first().map_or(0, |stretch| stretch.first);
        for kept in self.kept {
            // An entry with a turned bit is none as long as nobody mended it.
            let is_readable = kept.shape != Shape::Bit;
            for (index, entry) in kept.log.entries.range(start..).filter(|_| is_readable) {
                let is_in = comparison
                    .all()
                    .any(|one| (one.first..=one.last).contains(index) && one.term == entry.term);
                self.holds(is_in, || {
                    format!("no class: {index} of term {}\n{:?}", entry.term, comparison.run)
                });
            }
            let known = kept.log.commit.min(kept.log.last_index());
            let applied = kept.records.consistent_index;
            self.holds(comparison.certain_to >= known && comparison.known_to >= known.max(applied), || {
                format!("n{} knew {known} to be committed\n{:?}", kept.member + 1, comparison.run)
            });
        }
    }

    /// Every acknowledged write that is left is in the result, and all in it was asked for.
    pub(crate) fn nothing_is_lost(&self, recovery: &Recovery, db: &Path) {
        let records = Records::of(db);
        for write in &self.round.acknowledged {
            self.holds(!self.is_kept(write) || records.hold(write), || {
                let ours = records.by_revision.get(&write.revision);
                let revisions = (write.revision, records.revision());
                format!(
                    "acknowledged and kept, but not in the result: {} {revisions:?} {ours:?}\n{:?}",
                    write.tag, recovery.run
                )
            });
        }
        let base = self.kept.iter().map(|kept| kept.records.revision()).max().unwrap();
        let (told, revision) = (recovery.revision(), records.revision());
        self.holds(told == revision && base <= revision, || {
            format!("revision {revision}, told {told}, best db {base}\n{:?}", recovery.run)
        });
    }

    /// All that is in the result and is not certain is listed.
    pub(crate) fn doubts_are_listed(&self, recovery: &Recovery, comparison: &Comparison) {
        let (certain, applied) = (recovery.number("certainTo"), recovery.number("appliedTo"));
        let (listed, run) = (recovery.possible(), &recovery.run);
        let all: Vec<u64> = (certain + 1..=applied).collect();
        let is_all = all.starts_with(&listed) && listed.len() + recovery.more_possible() == all.len();
        // What the database holds was applied, though one of 3.4 whose log is cut names no term by which to compare it.
        let compared = comparison.certain_to.max(recovery.base_index());
        self.holds(is_all && certain == compared.min(applied), || {
            format!("certain to {certain}, by comparison {compared}, applied to {applied}\n{run:?}")
        });
        let is_found = recovery.findings().contains(&"ETCD-TAIL-POSSIBLE".to_owned());
        self.holds(listed.is_empty() || is_found, || format!("{run:?}"));
    }
}
