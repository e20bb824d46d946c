//! By which rules a record counts: what the trees say of it, what a compaction says, and which of its copies is to be believed.
//!
//! The trees are asked in the order in which they are believed. A tree that reaches the record says that it belongs. A tree that goes
//! as far, has no gap there and does not reach it says that it does not: at or below its compaction that removed it, above it is of
//! another history. Where the first tree has a gap the next one is asked. What no tree speaks of is taken; at or below the
//! compaction only the newest of each key, by the rule that a server compacts by (FORMATS C.4), and then it is open whether it
//! was deleted since.

mod lineage;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::PoisonError;

use bbolt::Watch;
use rayon::prelude::*;

use super::SalvageError;
use super::classify::{Point, key_of_torn};
use super::evidence::{Evidence, KeyLeaf};
use super::report::Origin;
use super::sweep::{Copy, Group, SECTOR_BYTES, State, Sweep, Trust};
use super::trees::{Candidate, Facts, Gap};
use super::ways::Says;
use crate::mvcc::{KeyValue, Release};
use crate::newest::Newest;

/// What the trees and the compaction say of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Tree number *n* reaches it, and no tree that is believed more says otherwise.
    InTree(u8),
    /// It belongs into a gap of every tree that goes as far.
    InGap,
    /// It is newer than all trees.
    Beyond,
    /// A compaction removed it.
    Compacted,
    /// A tree goes further and does not have it, and no compaction explains that.
    Foreign,
}

/// What becomes of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What the trees and the compaction say.
    pub(crate) standing: Standing,
    /// The copy that is to be believed, of those that are whole; `None`: there are only torn ones.
    pub(crate) chosen: Option<usize>,
    /// How far.
    pub(crate) trust: Trust,
    /// Whether whole copies differ.
    pub(crate) is_disputed: bool,
    /// Whether a compaction had removed it and it is taken all the same.
    pub(crate) is_resurrected: bool,
}

impl Verdict {
    /// Whether the record belongs into what is known to have existed.
    pub(crate) fn belongs(&self) -> bool {
        self.is_resurrected || !matches!(self.standing, Standing::Compacted | Standing::Foreign)
    }
}

/// What is asked of a tree about every revision.
#[derive(Debug)]
struct TreeRule {
    bit: u64,
    /// The last main revision of which it says anything.
    current: i64,
    /// The compaction that was ordered last: what it may have removed is not missing.
    compaction: i64,
    /// The compaction that was finished last: what stands at or below it was kept.
    finished: i64,
    /// Up to which main revision it is believed when it does not have a record. Pages of an old tree may have been used again, for
    /// leaves that fit between their neighbours and hold less: of such trees only what they reach counts. The newest of them
    /// is believed about what was compacted.
    denies_upto: i64,
    gaps: Vec<(Point, Option<Point>)>,
}

impl TreeRule {
    /// `strangers` has for each source from which main revision on it is of another history.
    fn of(number: usize, tree: &Candidate, strangers: &[i64]) -> Self {
        let current = if tree.is_open_ended() { i64::MAX } else { tree.revision };
        let parted = strangers.get(tree.source).copied().unwrap_or(i64::MAX);
        let current = current.min(parted.saturating_sub(1));
        Self {
            bit: 1 << number,
            current,
            compaction: tree.facts.compaction().unwrap_or_default(),
            finished: tree.facts.finished.unwrap_or_default(),
            denies_upto: match tree.origin {
                Origin::NewestMeta | Origin::OtherMeta => i64::MAX,
                Origin::OrphanRoot if number == 0 => tree.facts.compaction().unwrap_or_default(),
                Origin::OrphanRoot => 0,
            },
            gaps: tree.gaps.iter().map(|gap: &Gap| (gap.from, gap.to)).collect(),
        }
    }

    fn has_gap_at(&self, point: Point) -> bool {
        let behind = self.gaps.partition_point(|(from, _)| *from <= point);
        let gap = behind.checked_sub(1).and_then(|at| self.gaps.get(at));
        gap.is_some_and(|(_, to)| to.is_none_or(|to| point < to))
    }
}

/// The rules for all that was found.
#[derive(Debug)]
pub(crate) struct Rules {
    trees: Vec<TreeRule>,
    /// The compaction that is known of; 0 for none.
    pub(crate) compaction: i64,
    /// Revisions in a row of which no tree says anything, as main revisions, first and last, ascending.
    pub(crate) silent: Vec<(i64, i64)>,
    /// For each range of the sweep, which of the records at or below the compaction are the newest of their keys; `None` where
    /// that is never asked.
    kept: Option<Vec<Kept>>,
    /// Whether anything tells up to which revision was compacted. Where nothing does, what no longer stands in the tree may have been
    /// removed rightly.
    pub(crate) knows_compaction: bool,
    /// For each source, from which main revision on it is of another history than the first tree; `i64::MAX`: it is not.
    pub(crate) strangers: Vec<i64>,
    include_compacted: bool,
    release: Release,
    /// What the log says of the records, as soon as it was asked.
    pub(crate) log: Says,
}

/// Which of the records of a range stay, in their order: a bit each.
#[derive(Debug, Default)]
struct Kept {
    words: Vec<u64>,
}

impl Kept {
    fn contains(&self, ordinal: u64) -> bool {
        let word = usize::try_from(ordinal / 64).ok().and_then(|word| self.words.get(word));
        word.is_some_and(|word| word & 1 << (ordinal % 64) != 0)
    }

    fn insert(&mut self, ordinal: u64) {
        let Ok(word) = usize::try_from(ordinal / 64) else { return };
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << (ordinal % 64);
        }
    }
}

/// One walk over a range, which counts the records at or below the compaction as the rules did when they were made.
#[derive(Debug)]
pub(crate) struct Judge<'r> {
    rules: &'r Rules,
    range: usize,
    ordinal: u64,
}

impl Rules {
    /// Makes the rules: from the trees alone where that is enough, with a sweep over all records where a compaction has to be
    /// repeated.
    pub(crate) fn new(
        evidence: &Evidence,
        sweep: &Sweep<'_>,
        release: Release,
        watch: &dyn Watch,
    ) -> Result<Self, SalvageError> {
        let strangers = lineage::strangers(evidence, sweep, watch)?;
        let rule = |(number, tree)| TreeRule::of(number, tree, &strangers);
        let trees: Vec<TreeRule> = evidence.trees.iter().enumerate().map(rule).collect();
        let silent = silent(&trees);
        let mut rules = Self {
            compaction: compaction(evidence),
            knows_compaction: knows_compaction(evidence),
            strangers,
            silent,
            trees,
            kept: None,
            include_compacted: evidence.options.include_compacted,
            release,
            log: Says::default(),
        };
        let says_all = rules.trees.first().is_some_and(|first| {
            first.current >= rules.compaction
                && first.gaps.iter().all(|(from, _)| from.main > rules.compaction)
        });
        if rules.compaction > 0 && !says_all {
            rules.kept = Some(rules.repeat_compaction(evidence, sweep, watch)?);
        }
        Ok(rules)
    }

    /// Which records at or below the compaction are the newest of their keys, of all that may belong.
    fn repeat_compaction(
        &self,
        evidence: &Evidence,
        sweep: &Sweep<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Kept>, SalvageError> {
        let newest = Newest::new();
        watch.begin("repeating the compaction", evidence.leaf_bytes());
        (0..sweep.ranges()).into_par_iter().try_for_each(|range| {
            // There are fewer ranges than fit.
            let mut batch = newest.begin(u16::try_from(range).unwrap_or_default());
            let walked = sweep.walk(range, watch, &mut |group| {
                if group.main > self.compaction {
                    return ControlFlow::Break(());
                }
                if self.is_counted(group) {
                    let key = key_of(group).unwrap_or_default();
                    newest.add(&mut batch, key, !is_tombstone(group));
                }
                ControlFlow::Continue(())
            });
            newest.end(batch);
            walked
        })?;
        let kept = Mutex::new(BTreeMap::<u16, Kept>::new());
        // Of a tombstone it is asked at which revision it stands, so all are kept here and sifted when they are met.
        newest.for_each(|range, record, _| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).entry(range).or_default().insert(record);
        });
        let mut kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((0..sweep.ranges())
            .map(|range| u16::try_from(range).ok().and_then(|range| kept.remove(&range)).unwrap_or_default())
            .collect())
    }

    /// Whether a group at or below the compaction takes part in its being repeated: those too that it removed, since they tell of
    /// older ones of their keys that it removed them as well.
    fn is_counted(&self, group: &Group<'_>) -> bool {
        self.standing_by_trees(group) != Standing::Foreign
    }

    /// What the trees say.
    #[inline]
    fn standing_by_trees(&self, group: &Group<'_>) -> Standing {
        let mut reached = 0;
        let mut is_foreign = true;
        for copy in group.copies {
            if !self.is_of_stranger(group.main, copy) {
                reached |= copy.trees;
                is_foreign = false;
            }
        }
        if is_foreign {
            return Standing::Foreign;
        }
        let point = Point { main: group.main, sub: group.sub };
        let mut is_beyond = true;
        for (number, tree) in self.trees.iter().enumerate() {
            if reached & tree.bit != 0 {
                // There are at most 64.
                return Standing::InTree(u8::try_from(number).unwrap_or(u8::MAX));
            }
            if point.main > tree.current {
                continue;
            }
            is_beyond = false;
            if point.main > tree.denies_upto || tree.has_gap_at(point) {
                continue;
            }
            if point.main <= tree.compaction {
                return Standing::Compacted;
            }
            return Standing::Foreign;
        }
        if is_beyond { Standing::Beyond } else { Standing::InGap }
    }

    /// Whether a copy of main revision `main` is of another history than the first tree.
    #[inline]
    fn is_of_stranger(&self, main: i64, copy: &Copy<'_>) -> bool {
        self.strangers.get(usize::from(copy.source)).is_some_and(|parted| main >= *parted)
    }

    /// A judge for one walk over range `range` of the sweep.
    pub(crate) fn judge(&self, range: usize) -> Judge<'_> {
        Judge { rules: self, range, ordinal: 0 }
    }
}

impl Judge<'_> {
    /// What becomes of a group. All groups of the range must be asked about, once and in order.
    #[inline]
    pub(crate) fn verdict(&mut self, group: &Group<'_>) -> Verdict {
        let rules = self.rules;
        let mut standing = rules.standing_by_trees(group);
        let mut is_open = false;
        if let Some(kept) = rules.kept.as_ref().filter(|_| group.main <= rules.compaction) {
            let is_counted = standing != Standing::Foreign;
            let ordinal = self.ordinal;
            self.ordinal += u64::from(is_counted);
            if is_counted && !matches!(standing, Standing::InTree(0) | Standing::Compacted) {
                let is_newest = kept.get(self.range).is_some_and(|kept| kept.contains(ordinal));
                let stays = !is_tombstone(group)
                    || group.main == rules.compaction && rules.release.keeps_tombstone_at_compaction();
                let tree = match standing {
                    Standing::InTree(number) => rules.trees.get(usize::from(number)),
                    _ => None,
                };
                let point = Point { main: group.main, sub: group.sub };
                // Of one that was ordered and not finished a tree still has what it was to remove; one that is not believed has anything.
                let knows =
                    tree.is_some_and(|tree| tree.finished >= rules.compaction && !tree.has_gap_at(point));
                // A tree that had everything up to the compaction when it was written shows what the compaction did.
                let was_seen = tree.is_some_and(|tree| {
                    tree.current >= rules.compaction
                        && tree.gaps.first().is_none_or(|(from, _)| from.main > rules.compaction)
                });
                if !knows {
                    if is_newest && stays {
                        is_open = !was_seen;
                    } else {
                        standing = Standing::Compacted;
                    }
                }
            }
        }
        let mut verdict = if rules.strangers.is_empty() {
            believe(group, &|_| false)
        } else {
            believe(group, &|copy| rules.is_of_stranger(group.main, copy))
        };
        verdict.standing = standing;
        let may_be_compacted = !rules.knows_compaction && standing != Standing::InTree(0);
        if is_open || may_be_compacted {
            verdict.trust = Trust::Suspect;
        }
        if rules.log.denies(group.main, group.sub) {
            verdict.trust = Trust::Suspect;
        } else if verdict.trust == Trust::Single && rules.log.confirms(group.main) {
            verdict.trust = Trust::Confirmed;
        }
        if standing == Standing::Compacted && rules.include_compacted && verdict.chosen.is_some() {
            verdict.is_resurrected = true;
            verdict.trust = Trust::Suspect;
        }
        verdict
    }
}

/// The compaction that is known of: that of the first tree, or of a generation that is newer than it.
fn compaction(evidence: &Evidence) -> i64 {
    let Some(first) = evidence.trees.first() else {
        let known = evidence.generations.iter().filter_map(|generation| generation.facts.compaction());
        return known.max().unwrap_or_default();
    };
    let of_first = first.facts.compaction();
    if evidence.is_intact {
        return of_first.unwrap_or_default();
    }
    // A generation is newer when its own last record is: indexes begin anew with a restore.
    let is_newer = |revision: i64| of_first.is_none() || revision > first.revision;
    let generations = evidence.generations.iter();
    let newer =
        generations.filter(|generation| is_newer(generation.revision)).filter_map(|of| of.facts.compaction());
    let trees = evidence
        .trees
        .iter()
        .filter(|tree| is_newer(tree.revision))
        .filter_map(|tree| tree.facts.compaction());
    newer.chain(trees).chain(of_first).max().unwrap_or_default()
}

/// Whether the first tree, or a generation that is as new, has its bucket `meta`.
fn knows_compaction(evidence: &Evidence) -> bool {
    let has_rows = |facts: &Facts| *facts != Facts::default();
    let Some(first) = evidence.trees.first() else {
        return evidence.generations.iter().any(|generation| has_rows(&generation.facts));
    };
    let as_new = |revision: i64| revision >= first.revision;
    first.has_meta()
        || evidence.trees.iter().any(|tree| as_new(tree.revision) && tree.has_meta())
        || evidence
            .generations
            .iter()
            .any(|generation| as_new(generation.revision) && has_rows(&generation.facts))
}

/// Revisions of which no tree says anything.
fn silent(trees: &[TreeRule]) -> Vec<(i64, i64)> {
    let mut silent = vec![(1, i64::MAX)];
    for tree in trees {
        let mut of_tree: Vec<(i64, i64)> = Vec::new();
        let gap = |(from, to): &(Point, Option<Point>)| {
            // Exclusive: one before, unless some of that main revision is in the gap.
            let last = to.map_or(i64::MAX, |to| if to.sub > 0 { to.main } else { to.main - 1 });
            (from.main.max(1), last)
        };
        for (from, to) in tree.gaps.iter().map(gap).filter(|(from, to)| from <= to) {
            match of_tree.last_mut().filter(|last| last.1 >= from.saturating_sub(1)) {
                Some(last) => last.1 = last.1.max(to),
                None => of_tree.push((from, to)),
            }
        }
        let upto = tree.current.min(tree.denies_upto);
        if upto < i64::MAX {
            of_tree.retain(|(from, _)| *from <= upto);
            match of_tree.last_mut().filter(|last| last.1 >= upto) {
                Some(last) => last.1 = i64::MAX,
                None => of_tree.push((upto + 1, i64::MAX)),
            }
        }
        silent = intersection(&silent, &of_tree);
    }
    silent
}

/// What is in both of two ascending lists of ranges.
pub(crate) fn intersection(a: &[(i64, i64)], b: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let (mut at, mut bt) = (0, 0);
    let mut both = Vec::new();
    while let (Some(x), Some(y)) = (a.get(at), b.get(bt)) {
        let (from, to) = (x.0.max(y.0), x.1.min(y.1));
        if from <= to {
            both.push((from, to));
        }
        if x.1 < y.1 {
            at += 1;
        } else {
            bt += 1;
        }
    }
    both
}

/// The key of the record, from whichever copy tells it.
pub(crate) fn key_of<'g>(group: &Group<'g>) -> Option<&'g [u8]> {
    let of = |copy: &Copy<'g>| match copy.state {
        State::Torn => key_of_torn(copy.value),
        State::Doubtful | State::Whole => KeyValue::decode(copy.value).ok().map(|kv| kv.key),
    };
    group.copies.iter().filter(|copy| copy.state == State::Whole).chain(group.copies).find_map(of)
}

fn is_tombstone(group: &Group<'_>) -> bool {
    group.copies.iter().max_by_key(|copy| copy.state).is_some_and(|copy| copy.is_tombstone)
}

/// Which copy is to be believed, and how far. Copies of another history count where there are no others, and speak for nothing. The
/// standing is for the caller to add.
#[inline]
fn believe(group: &Group<'_>, is_of_stranger: &dyn Fn(&Copy<'_>) -> bool) -> Verdict {
    let mut verdict = Verdict {
        standing: Standing::Beyond,
        chosen: None,
        trust: Trust::Suspect,
        is_disputed: false,
        is_resurrected: false,
    };
    if let [copy] = group.copies {
        if copy.state != State::Torn {
            verdict.chosen = Some(0);
            verdict.trust = if copy.state == State::Whole { Trust::Single } else { Trust::Suspect };
        }
        return verdict;
    }
    let has_own = group.copies.iter().any(|copy| !is_of_stranger(copy));
    let own = |(_, copy): &(usize, &Copy<'_>)| !has_own || !is_of_stranger(copy);
    let best = group.copies.iter().enumerate().filter(own).map(|(_, copy)| copy.state).max();
    let Some(best) = best.filter(|state| *state != State::Torn) else { return verdict };
    let of_best = || group.copies.iter().enumerate().filter(own).filter(|(_, copy)| copy.state == best);
    let is_same = |a: &Copy<'_>, b: &Copy<'_>| a.is_tombstone == b.is_tombstone && a.value == b.value;
    // Among copies of equal worth those win that are equal to another one from another page, then those of which no sector is one
    // byte repeated, then those of the better tree.
    let first_tree = |copy: &Copy<'_>| copy.trees.trailing_zeros();
    let differ = of_best().any(|(_, copy)| of_best().next().is_some_and(|(_, first)| !is_same(first, copy)));
    let mut chosen: Option<(bool, bool, u32, usize)> = None;
    for (at, copy) in of_best() {
        verdict.is_disputed |=
            group.copies.get(chosen.map_or(at, |chosen| chosen.3)).is_some_and(|other| !is_same(other, copy));
        let is_backed = of_best().any(|(_, other)| other.page != copy.page && is_same(other, copy));
        let better = (!is_backed, differ && has_blank_sector(copy), first_tree(copy), at);
        if chosen.is_none_or(|chosen| better < chosen) {
            chosen = Some(better);
        }
        // Who has that many copies made them; the first are as good as any.
        if at > MOST_COMPARED {
            break;
        }
    }
    let Some((is_alone, _, _, at)) = chosen else { return verdict };
    verdict.chosen = Some(at);
    let differs = |chosen: &Copy<'_>| {
        group.copies.iter().any(|copy| is_of_stranger(copy) && copy.state == best && !is_same(copy, chosen))
    };
    let differs_from_stranger = has_own && group.copies.get(at).is_some_and(differs);
    verdict.trust = match best {
        State::Whole
            if !is_alone
                && !differs_from_stranger
                && (!verdict.is_disputed
                    || !is_disputed_by_backed(group, at) && !is_disputed_by_tree(group, at)) =>
        {
            Trust::Confirmed
        }
        State::Whole if !verdict.is_disputed => Trust::Single,
        // What makes one of two equal copies doubtful is hardly damage that hit both.
        State::Doubtful if !is_alone && !verdict.is_disputed && !differs_from_stranger => Trust::Single,
        _ => Trust::Suspect,
    };
    verdict
}

/// Whether a sector of the record is one byte repeated: a sector that was lost looks so, and so may a value.
fn has_blank_sector(copy: &Copy<'_>) -> bool {
    let sector_bytes = SECTOR_BYTES as u64;
    let to_sector = copy.offset.next_multiple_of(sector_bytes) - copy.offset;
    let sectors =
        usize::try_from(to_sector).ok().and_then(|start| copy.value.get(start..)).unwrap_or_default();
    let mut sectors = sectors.chunks_exact(SECTOR_BYTES);
    sectors.any(|sector| sector.iter().all(|byte| sector.first() == Some(byte)))
}

/// Most copies of one revision that are held against each other.
const MOST_COMPARED: usize = 64;

/// Whether against the copy at `at`, which another one backs, stand two that back each other as well.
fn is_disputed_by_backed(group: &Group<'_>, at: usize) -> bool {
    let Some(chosen) = group.copies.get(at) else { return false };
    let others = || {
        let whole = group.copies.iter().take(MOST_COMPARED).filter(|copy| copy.state == State::Whole);
        whole.filter(|copy| copy.is_tombstone != chosen.is_tombstone || copy.value != chosen.value)
    };
    others().any(|copy| {
        others().any(|other| {
            other.page != copy.page && other.is_tombstone == copy.is_tombstone && other.value == copy.value
        })
    })
}

/// Whether against the copy at `at` stands that of the first tree, in a file that has none like it: what two pages of another file agree
/// on may be another history.
fn is_disputed_by_tree(group: &Group<'_>, at: usize) -> bool {
    let Some(chosen) = group.copies.get(at) else { return false };
    let whole = || group.copies.iter().take(MOST_COMPARED).filter(|copy| copy.state == State::Whole);
    let is_like = |copy: &Copy<'_>| copy.is_tombstone == chosen.is_tombstone && copy.value == chosen.value;
    let Some(of_tree) = whole().find(|copy| copy.trees & 1 != 0 && !is_like(copy)) else { return false };
    !whole().any(|copy| copy.source == of_tree.source && is_like(copy))
}

/// Whether the file of the first tree is in order, so that nothing was lost and what is newer is not missed.
pub(crate) fn counts_beyond(evidence: &Evidence) -> bool {
    let Some(first) = evidence.trees.first().filter(|_| evidence.is_intact) else { return true };
    if first.origin != Origin::NewestMeta {
        return true;
    }
    let is_newer = |leaf: &&KeyLeaf| leaf.first.main() > first.revision && leaf.trees & 1 == 0;
    let newer = || evidence.leaves.iter().filter(is_newer);
    let is_in_order = |leaf: &KeyLeaf| evidence.in_order.get(usize::from(leaf.source)) == Some(&true);
    newer().count() as u64 > first.leaves / 2 + 8 || !newer().all(is_in_order)
}
