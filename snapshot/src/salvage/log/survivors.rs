//! The log beside what survived: records that only the log still has, and what it says of the others.
//!
//! Where no tree is sound that the log leads on from, and it does not begin with nothing, entries cannot simply be applied. But each of them made
//! one revision at most, in their order, and most of what they made is still there: which entry made which revision is found out by
//! that, and what is lost between is made again. What stands in the log behind the last record is then applied to it all, as to any
//! base.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use bbolt::{FileSource, Watch};

use super::bases::{Attempt, Origin, Tried};
use super::held::{Held, Question, Witness, hold, ranges};
use super::lost::Known;
use super::reading::{Read, release_of};
use crate::finding::{Finding, Severity};
use crate::mvcc::Revision;
use crate::replay::range::{self, EachError, Stretch, WhyLeftOut, as_far_as_it_goes};
use crate::salvage::SalvageError;
use crate::salvage::ground::{Ground, Selection};
use crate::salvage::report::{self, WayKind};
use crate::salvage::rules::Standing;
use crate::salvage::small;
use crate::salvage::sweep::State;
use crate::salvage::ways::{FromLogs, Says, Small};
use crate::schema::{CONSISTENT_INDEX, META, Schema, TERM};

/// For so many revisions that are as the log says one record may not be.
const MOST_DENIED_IN: u64 = 4;

/// The evidence and the entries of a log.
struct Both<'b, 'e> {
    ground: &'b Ground<'e>,
    read: &'b Read<'e>,
    first: u64,
    last: u64,
    watch: &'b dyn Watch,
    unsure: RefCell<BTreeSet<i64>>,
}

impl Witness for Both<'_, '_> {
    fn entries(&self, look: &mut dyn FnMut(&wal::EntryRef<'_>)) -> Result<(), SalvageError> {
        self.watch.begin("reading what the log asks for", self.read.log.len_bytes());
        let stretch =
            Stretch { files: self.read.files, log: &self.read.log, entries: self.first..=self.last };
        let each = range::each(self.first..=self.last, &[stretch], |entry| {
            look(entry);
            if self.watch.interrupted() { Err(()) } else { Ok(()) }
        });
        match each {
            Ok(()) => Ok(()),
            Err(EachError::Visit(())) => Err(SalvageError::Interrupted),
            Err(EachError::Range(error)) => Err(super::made::unreadable(&error.to_string())),
        }
    }

    fn survivors(&self, look: &mut dyn FnMut(Revision, &[u8], bool)) -> Result<(), SalvageError> {
        let Self { ground, watch, .. } = self;
        watch.begin("holding the log against what survived", ground.evidence.leaf_bytes());
        for range in 0..ground.sweep.ranges() {
            let mut judge = ground.rules.judge(range);
            ground.sweep.walk(range, *watch, &mut |group| {
                let verdict = judge.verdict(group);
                if verdict.standing == Standing::Foreign {
                    return ControlFlow::Continue(());
                }
                let copy = verdict.chosen.and_then(|chosen| group.copies.get(chosen));
                let is_gone = verdict.standing == Standing::Compacted;
                match copy.filter(|copy| copy.state == State::Whole && !verdict.is_disputed) {
                    Some(copy) => {
                        let tombstone = copy.is_tombstone;
                        let revision = Revision { main: group.main, sub: group.sub, tombstone };
                        look(revision, copy.value, is_gone);
                    }
                    None if !is_gone => _ = self.unsure.borrow_mut().insert(group.main),
                    None => {}
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    fn unsure(&self) -> Vec<i64> {
        self.unsure.borrow().iter().copied().collect()
    }
}

/// Tries what the log says beside what survived; whether anything came of it. Where a way with the log `is_led` from a sound tree, only if
/// the log knows better than that.
pub(super) fn beside(
    ground: &Ground<'_>,
    read: &Read<'_>,
    is_led: bool,
    found: &mut FromLogs,
    watch: &dyn Watch,
) -> Result<bool, SalvageError> {
    let Some(both) = entries(ground, read, watch) else { return Ok(false) };
    let known = small::gather(ground, Selection::Leaves, watch)?;
    let trees = tree_points(ground, read, (both.first, both.last));
    let question = Question {
        compacted: ground.rules.compaction,
        silent: &ground.rules.silent,
        has_gates: has_gates(&known),
        trees: &trees,
    };
    let held = match hold(&both, &question)? {
        Ok(held) => held,
        Err(why) => {
            refuse(found, &why);
            return Ok(false);
        }
    };
    let given = Given { known: held.known(&question), held: &held };
    let told = held.told(&question);
    let count: i64 = told.iter().map(|(from, to)| to - from + 1).sum();
    let denied = held.counts.denied.len() as u64;
    if denied.saturating_mul(MOST_DENIED_IN) > count.unsigned_abs() {
        let message = format!(
            "of the records that the log should have made {denied} are not what it says, and {count} revision(s) are: either is of another \
             history, or very much is wrong. The log was not used for what the trees have"
        );
        found.findings.push(Finding::new("SALVAGE-DISAGREE", Severity::Error, message));
        return Ok(false);
    }
    if let Some((main, _)) = held.counts.denied.first() {
        let message = format!(
            "{denied} record(s) that survived are not what the log says, the first at revision {main}, and count as suspect; the ways with the \
             log have what it says, as its checksums hold"
        );
        found.findings.push(Finding::new("SALVAGE-DISAGREE", Severity::Warning, message));
    }
    found.says = Says { told, denied: held.counts.denied.iter().copied().collect() };
    found.missing = held.counts.missing;
    if is_led && denied == 0 && held.filled.is_empty() {
        return Ok(true);
    }
    let from_log = found.says.told.clone();
    given.lead_on(ground, read, (&trees, both.first), from_log, found, watch)
}

fn refuse(found: &mut FromLogs, why: &str) {
    if let Some(report) = found.reports.iter_mut().max_by_key(|report| report.last_index) {
        report.notes.push(format!("the log, held against the records that survived: {why}"));
    }
}

/// The entries from the first of those that follow each other to the log's end up to the last that is committed.
fn entries<'b, 'e>(ground: &'b Ground<'e>, read: &'b Read<'e>, watch: &'b dyn Watch) -> Option<Both<'b, 'e>> {
    let first = read.log.first_index()?;
    let schema = Schema { consistent_index: first.checked_sub(1)?, ..Schema::default() };
    let range = as_far_as_it_goes(Path::new("the log"), &schema, read.files, &read.log).ok()?;
    // What a tree has is committed, whatever the log's hard state says.
    let applied = ground.evidence.trees.iter().filter_map(|tree| tree.facts.consistent_index).max();
    let uncertain = range.left_out.iter().find(|left| left.why == WhyLeftOut::NotCommitted);
    let limit = uncertain.map_or(range.last, |left| *left.entries.end());
    let last = range.last.max(applied.unwrap_or_default().min(limit));
    (first <= last).then_some(Both { ground, read, first, last, watch, unsure: RefCell::default() })
}

/// Whether something stands before the store that may refuse what entries ask for.
fn has_gates(small: &Small) -> bool {
    let rows = |bucket: &[u8]| small.buckets.get(bucket);
    let is_on = rows(crate::schema::AUTH)
        .and_then(|rows| rows.get(crate::schema::AUTH_ENABLED))
        .is_some_and(|value| value == &[1]);
    is_on || rows(crate::schema::ALARM).is_some_and(|rows| !rows.is_empty())
}

/// Where trees stand, as entry and revision: those of metas, whose pages nobody has written over since.
fn tree_points(ground: &Ground<'_>, read: &Read<'_>, (first, last): (u64, u64)) -> Vec<(u64, i64)> {
    let mut points = Vec::new();
    for tree in &ground.evidence.trees {
        let Some(index) = tree.facts.consistent_index else { continue };
        let is_of_meta = tree.origin != report::Origin::OrphanRoot;
        let is_in_log = (first.saturating_sub(1)..=last).contains(&index);
        let terms = (tree.facts.term.filter(|term| *term > 0), read.log.term_of(index));
        let is_other = matches!(terms, (Some(own), Some(of_log)) if own != of_log);
        if is_of_meta && is_in_log && !is_other && !tree.is_open_ended() && tree.revision > 0 {
            points.push((index, tree.revision));
        }
    }
    // A log that begins with nothing begins at revision 1.
    if first == 1 && read.begins_with_nothing() {
        points.push((0, 1));
    }
    points
}

/// What the log gives back.
struct Given<'k> {
    known: Known<'k>,
    held: &'k Held,
}

impl Given<'_> {
    /// Builds a base of what survived and what was made again, and applies to it what the log has behind.
    fn lead_on(
        &self,
        ground: &Ground<'_>,
        read: &Read<'_>,
        (trees, first): (&[(u64, i64)], u64),
        from_log: Vec<(i64, i64)>,
        found: &mut FromLogs,
        watch: &dyn Watch,
    ) -> Result<bool, SalvageError> {
        let Known { steps, aligned, .. } = self.known;
        let Held { filled, unmade, last, .. } = self.held;
        let of_step = last.steps.checked_sub(1).and_then(|step| steps.steps.get(step));
        let is_last =
            |(index, revision): &&(u64, i64)| (steps.up_to(*index), *revision) == (last.steps, last.revision);
        let of_tree = trees.iter().filter(is_last).map(|(index, _)| *index).max();
        let index =
            of_step.map_or(first.saturating_sub(1), |step| step.index).max(of_tree.unwrap_or_default());
        let ahead = ahead_of(ground, index, last.revision);
        let (index, upto) = ahead.unwrap_or((index, last.revision));
        let selection = if ahead.is_some() { Selection::Leaves } else { Selection::Upto(upto) };
        let mut small = small::gather(ground, selection, watch)?;
        let term = read.log.term_of(index).unwrap_or_default();
        set_entry(&mut small, index, term);
        let source = self.build(ground, upto, &small, watch)?;
        let certain = filled.iter().filter(|filled| filled.is_certain).count();
        let doubtful = filled.len() - certain;
        let mut notes = vec![format!(
            "held against what survived, the log says of {} revision(s) which entry made them",
            aligned.count()
        )];
        if certain > 0 {
            notes.push(format!("{certain} record(s) that were lost are made again from the log"));
        }
        if doubtful > 0 {
            notes.push(format!(
                "{doubtful} record(s) are made from the log whose value is certain, but not how often the key was written before"
            ));
        }
        if !unmade.is_empty() {
            notes
                .push(format!("{} revision(s) that the log made cannot be made again in full", unmade.len()));
        }
        let open_holes = self.open_holes(upto);
        // What is applied to a base that lacks something may come out otherwise.
        let is_complete = open_holes == 0 && doubtful == 0 && unmade.is_empty() && self.is_dense(ground);
        let attempt = Attempt {
            kind: WayKind::SurvivorsAndLog,
            tree: (!ground.evidence.trees.is_empty()).then_some(0),
            called: "what survived".to_owned(),
            small: &small,
            origin: Origin {
                from_log,
                doubtful: self.doubtful(),
                is_incomplete: !is_complete,
                open_holes,
                notes,
            },
        };
        let release = release_of(ground, read, &small);
        let mut tried = attempt.try_on(ground, read, (source, upto), Some(release), found, watch)?;
        if tried == Tried::Broken && ahead.is_some() {
            let source = self.build(ground, upto, &small, watch)?;
            tried = attempt.stand_on(ground, read, (source, upto, index), found, watch)?;
        }
        Ok(tried == Tried::Held)
    }

    /// Main revisions with records that were made again and may be wrong.
    fn doubtful(&self) -> Vec<(i64, i64)> {
        let mut mains: Vec<i64> = self
            .held
            .filled
            .iter()
            .filter(|filled| !filled.is_certain)
            .map(|filled| filled.revision.main)
            .collect();
        mains.dedup();
        ranges(mains.into_iter())
    }

    /// Whether nothing above the compaction is missing that the log did not make either.
    fn is_dense(&self, ground: &Ground<'_>) -> bool {
        let Known { table, compacted, silent, .. } = self.known;
        let first = table.first().max(compacted.saturating_add(1));
        let is_there = |main: i64| !table.at(main).is_empty() || self.known.aligned.edge(main).is_some();
        let has_older = silent.iter().any(|(from, to)| *from < table.first() && *to > compacted);
        (first..=table.last()).all(is_there) && !has_older && !ground.evidence.trees.is_empty()
    }

    /// Parts of the key space up to `last` of which neither a tree nor the log says everything.
    fn open_holes(&self, last: i64) -> u64 {
        let is_open = |(from, to): &&(i64, i64)| {
            let (from, to) = ((*from).max(1), (*to).min(last));
            let mains = self.known.mains();
            from <= to
                && (from < *mains.start()
                    || to > *mains.end()
                    || (from..=to).any(|main| {
                        self.known.aligned.edge(main).is_none() || self.held.unmade.contains(&main)
                    }))
        };
        self.known.silent.iter().filter(is_open).count() as u64
    }

    /// A database without a name of what survived up to a main revision and of what was made again.
    fn build(
        &self,
        ground: &Ground<'_>,
        upto: i64,
        small: &Small,
        watch: &dyn Watch,
    ) -> Result<FileSource, SalvageError> {
        ground.in_temporary(watch, |file| {
            ground.build_with(file, small, |build| {
                let mut filled = self.held.filled.iter().peekable();
                let mut pairs = 0;
                let mut put = |revision: &Revision, value: &[u8]| {
                    pairs += 1;
                    build.put(&revision.encode(), value)
                };
                let place = |revision: &Revision| (revision.main, revision.sub);
                ground.each_built(Selection::Upto(upto), watch, &mut |taken| {
                    let revision = taken.revision();
                    while let Some(made) = filled.next_if(|made| place(&made.revision) < place(&revision)) {
                        put(&made.revision, &made.value)?;
                    }
                    if let Some(made) = filled.next_if(|made| place(&made.revision) == place(&revision)) {
                        // What survived there is not what the log says.
                        return put(&made.revision, &made.value);
                    }
                    if self.held.is_superseded(&self.known, taken.group.main, taken.copy.value) {
                        return Ok(());
                    }
                    put(&revision, taken.copy.value)
                })?;
                for made in filled.filter(|made| made.revision.main <= upto) {
                    put(&made.revision, &made.value)?;
                }
                Ok(pairs)
            })
        })
    }
}

/// Where the tree that goes furthest stands, as entry and main revision, if that is beyond what the log is known to have made: the log
/// may be broken before it, or have been lost in part.
fn ahead_of(ground: &Ground<'_>, index: u64, revision: i64) -> Option<(u64, i64)> {
    let tree = ground.evidence.trees.first()?;
    let own = tree.facts.consistent_index.filter(|own| *own > index)?;
    let is_known = tree.origin != report::Origin::OrphanRoot && !tree.is_open_ended();
    (is_known && tree.revision >= revision).then_some((own, tree.revision))
}

/// Makes bucket `meta` say that this is the last entry.
fn set_entry(small: &mut Small, index: u64, term: u64) {
    let meta = small.buckets.entry(META.to_vec()).or_default();
    meta.insert(CONSISTENT_INDEX.to_vec(), index.to_be_bytes().to_vec());
    let keeps_term = meta.contains_key(TERM);
    if term > 0 && keeps_term {
        meta.insert(TERM.to_vec(), term.to_be_bytes().to_vec());
    }
}
