//! The survey: every page of every input looked at, every tree followed, the leaves of records sorted.

mod marks;
mod newer;
mod parts;
mod reports;

use std::path::PathBuf;

use bbolt::carve::{self, Carved, Element, Leaf, Place, Run, carve};
use bbolt::page_file::PageFile;
use bbolt::reach::{Hole, Start};
use bbolt::{Source, Watch};
use rayon::prelude::*;

use super::classify::{Class, Judged, Point, judge};
use super::inputs::{Input, Inputs, Pages, ensure_unchanged};
use super::report::{InputReport, Origin};
use super::trees::{Candidate, Generation, Looks, MOST_ORPHANS, MOST_TREES, follow};
use super::{SalvageError, SalvageOptions};
use crate::finding::Finding;
use crate::log_files::LogFiles;
use crate::schema::KEY;
use marks::mark_tree;
use parts::{disown_parts, disown_remnants};
use reports::{blank_report, complete, hash_finding, unknown_report};

/// One database file, looked at page by page.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// What the user gave.
    pub(crate) path: PathBuf,
    /// The file itself.
    pub(crate) file: PathBuf,
    /// Its pages.
    pub(crate) pages: Pages,
    /// Every leaf in it, by ascending index.
    pub(crate) runs: Vec<Run>,
    /// What each of [`Self::runs`] holds.
    pub(crate) classes: Vec<Class>,
    /// What was seen of it, for the report.
    pub(crate) report: InputReport,
}

impl SourceFile {
    /// The leaves of one class.
    pub(crate) fn leaves_of(&self, class: Class) -> impl Iterator<Item = &Run> {
        self.runs.iter().zip(&self.classes).filter(move |(_, of)| **of == class).map(|(run, _)| run)
    }
}

/// A leaf of records, or a root bucket's leaf in which the records stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyLeaf {
    /// Its first revision.
    pub(crate) first: Place64,
    /// Its last revision.
    pub(crate) last: Place64,
    /// The candidate trees that reach it, bit *i* for tree *i*.
    pub(crate) trees: u64,
    /// Which of the source's runs it is.
    pub(crate) run: u32,
    /// Which of the sources it is in.
    pub(crate) source: u16,
    /// Whether it is a root bucket's leaf.
    pub(crate) is_inline: bool,
}

const _: () = assert!(size_of::<KeyLeaf>() <= 48);

/// A [`Point`] in 12 bytes: what is beyond the 32nd bit of a place within a revision is cut off, which keeps the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C, packed(4))]
pub(crate) struct Place64 {
    main: i64,
    sub: u32,
}

impl From<Point> for Place64 {
    fn from(point: Point) -> Self {
        Self { main: point.main, sub: u32::try_from(point.sub).unwrap_or(u32::MAX) }
    }
}

impl Place64 {
    /// The main revision.
    pub(crate) fn main(self) -> i64 {
        self.main
    }
}

/// All that was found in the inputs.
#[derive(Debug)]
pub struct Evidence {
    pub(crate) options: SalvageOptions,
    pub(crate) sources: Vec<SourceFile>,
    pub(crate) logs: Vec<LogFiles>,
    /// Inputs in which not even the pages could be told apart.
    pub(crate) unknown: Vec<InputReport>,
    /// The trees, the one to be believed first before all others.
    pub(crate) trees: Vec<Candidate>,
    /// Every leaf of the root bucket.
    pub(crate) generations: Vec<Generation>,
    /// The leaves of records, by their first revision.
    pub(crate) leaves: Vec<KeyLeaf>,
    /// That a snapshot is not what its SHA-256 was made of.
    pub(crate) changed: Vec<Finding>,
    /// For each source, whether it shows no sign of damage.
    pub(crate) in_order: Vec<bool>,
    /// Whether the file of the first tree shows no sign of damage, so that what is newer than that tree is what transactions left
    /// behind that had not come to their end when the file was copied.
    pub(crate) is_intact: bool,
}

/// Surveys the inputs at `paths`: database files, snapshots, member dirs and data dirs of one member, in any order.
///
/// # Errors
/// When an input cannot be opened, a running server holds its lock, nothing of etcd is found, or the user asked to stop.
pub fn gather(
    paths: &[PathBuf],
    options: &SalvageOptions,
    watch: &dyn Watch,
) -> Result<Evidence, SalvageError> {
    survey(Inputs::open(paths, options, watch)?, options, watch).map_err(|error| match error {
        // A directory without a database is no file that could be named.
        SalvageError::Nothing { .. } => {
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            SalvageError::Nothing { paths: paths.join(", ") }
        }
        other => other,
    })
}

/// As [`gather`], of files in memory.
///
/// # Errors
/// As [`gather`].
pub fn gather_bytes(
    files: Vec<Vec<u8>>,
    options: &SalvageOptions,
    watch: &dyn Watch,
) -> Result<Evidence, SalvageError> {
    survey(Inputs::of_memory(files), options, watch)
}

/// What is gathered of one file before the trees of all are ranked.
struct Found {
    source: SourceFile,
    judged: Vec<Judged>,
    trees: Vec<Candidate>,
    generations: Vec<Generation>,
}

fn survey(inputs: Inputs, options: &SalvageOptions, watch: &dyn Watch) -> Result<Evidence, SalvageError> {
    let Inputs { files, logs } = inputs;
    let paths: Vec<String> = files.iter().map(|input| input.path.display().to_string()).collect();
    let (mut unknown, mut changed) = (Vec::new(), Vec::new());
    let mut found: Vec<Found> = Vec::new();
    for input in files {
        let number = found.len();
        let Input { path, file, kind, bytes, notes } = input;
        changed.extend(hash_finding(&bytes, &file, watch)?);
        let report = blank_report(&path, &file, kind, &bytes, notes);
        match PageFile::search(bytes, options.page_size) {
            Ok(pages) => {
                let source = SourceFile { path, file, pages, runs: Vec::new(), classes: Vec::new(), report };
                found.push(look_at(source, number, watch)?);
            }
            Err(error) => unknown.push(unknown_report(report, &error)),
        }
    }
    let mut evidence = Evidence {
        options: options.clone(),
        sources: Vec::new(),
        logs,
        unknown,
        trees: Vec::new(),
        generations: Vec::new(),
        leaves: Vec::new(),
        changed,
        in_order: Vec::new(),
        is_intact: false,
    };
    let has_some = |found: &Found| found.source.classes.iter().any(|class| *class != Class::Other);
    if !found.iter().any(has_some) && evidence.logs.is_empty() {
        return Err(SalvageError::Nothing { paths: paths.join(", ") });
    }
    let mut trees = Vec::new();
    for found in &mut found {
        trees.append(&mut found.trees);
        evidence.generations.append(&mut found.generations);
    }
    evidence.rank(&found, trees);
    evidence.mark(found);
    Ok(evidence)
}

/// Looks at every page of one file and follows its trees.
fn look_at(mut source: SourceFile, number: usize, watch: &dyn Watch) -> Result<Found, SalvageError> {
    let pages = &source.pages;
    watch.begin("looking at every page", pages.source().len_bytes());
    let mut trees = Vec::new();
    let mut newest_use = None;
    let active = pages.active_slot();
    for slot in active.into_iter().chain(active.map(|slot| 1 - slot)) {
        let Some(Ok(meta)) = pages.metas().get(slot) else { continue };
        let is_newest = active == Some(slot);
        let origin = if is_newest { Origin::NewestMeta } else { Origin::OtherMeta };
        let (candidate, tree) = follow(pages, number, origin, Start::Page(meta.root), watch)?;
        if is_newest {
            newest_use = Some(tree.used);
        }
        // Two metas may name the same root.
        if resolves(&candidate) && !trees.iter().any(|tree: &Candidate| tree.start == candidate.start) {
            trees.push(candidate);
        }
    }
    let mut carved =
        carve(pages, newest_use.as_ref(), &judge, watch).map_err(|_| SalvageError::Interrupted)?;
    drop(newest_use);
    add_wanted(pages, &mut carved, &trees, watch)?;
    let spans = carved.runs.iter().filter_map(|(_, judged)| judged.span);
    let most = spans.map(|(_, last)| last.main).max().unwrap_or_default();
    trees.iter_mut().for_each(|tree| tree.settle(most));
    let (mut generations, mut looks) = (Vec::new(), Looks::default());
    for (run, judged) in &carved.runs {
        if judged.class == Class::Root {
            generations.extend(Generation::of(pages, number, run, &mut looks));
        }
    }
    for generation in &mut generations {
        generation.facts.drop_impossible(most);
        generation.revision = generation.facts.last_revision(generation.revision, most);
    }
    let followed = trees.len();
    follow_orphans(pages, number, &generations, &mut trees, watch)?;
    trees.iter_mut().skip(followed).for_each(|tree| tree.settle(most));
    disown_parts(pages, &carved.kinds, &mut trees);
    if trees.len() > followed {
        add_wanted(pages, &mut carved, &trees, watch)?;
    }
    for (run, judged) in &mut carved.runs {
        // A leaf with one element that cannot be is damaged, and by how much is not known. What is wrong with one that was found damaged
        // before is not that alone.
        judged.is_odd &= !run.is_flawed && run.cut.is_none();
        run.is_flawed |= judged.is_odd;
    }
    complete(&mut source.report, &source.pages, &carved);
    let (runs, judged): (Vec<Run>, Vec<Judged>) = carved.runs.into_iter().unzip();
    source.classes = judged.iter().map(|judged| judged.class).collect();
    source.runs = runs;
    Ok(Found { source, judged, trees, generations })
}

/// Adds the leaves that a tree names, that are not in their places, and that lie in the overflow of others.
fn add_wanted(
    pages: &Pages,
    carved: &mut Carved<Judged>,
    trees: &[Candidate],
    watch: &dyn Watch,
) -> Result<(), SalvageError> {
    let holes = || {
        let buckets = trees.iter().flat_map(|tree| tree.buckets.iter().flat_map(|bucket| &bucket.holes));
        buckets.chain(trees.iter().flat_map(|tree| &tree.root_holes))
    };
    let mut ids: Vec<u64> = holes().map(|hole| hole.page.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let found = carve::wanted(pages, carved, &ids, &judge, watch).map_err(|_| SalvageError::Interrupted)?;
    let belongs = |(run, _): &(Run, Judged)| {
        if carved.runs.binary_search_by_key(&run.index, |(known, _)| known.index).is_ok() {
            return false;
        }
        let Some(leaf) = Leaf::open(pages, run) else { return false };
        let mut keys = leaf.elements().filter(Element::has_key).map(|element| element.key);
        let (Some(first), last) = (keys.next(), keys.last()) else { return false };
        let fits = |hole: &Hole| {
            hole.page.0 == run.id && hole.contains(first) && hole.contains(last.unwrap_or(first))
        };
        holes().any(fits)
    };
    let new: Vec<(Run, Judged)> = found.into_iter().filter(belongs).collect();
    carved.runs.extend(new);
    carved.runs.sort_unstable_by_key(|(run, _)| run.index);
    Ok(())
}

/// Whether a tree's root leads to anything.
fn resolves(candidate: &Candidate) -> bool {
    !candidate.buckets.is_empty()
}

/// Follows the newest of the roots that no valid meta names, where the metas do not tell all.
fn follow_orphans(
    pages: &Pages,
    number: usize,
    generations: &[Generation],
    trees: &mut Vec<Candidate>,
    watch: &dyn Watch,
) -> Result<(), SalvageError> {
    let is_enough = trees.first().is_some_and(|tree| tree.origin == Origin::NewestMeta && tree.is_sound);
    let known = trees.iter().map(|tree| tree.revision).max().unwrap_or_default();
    // What changes no key leaves the revision alone: where a meta is lost, the index of the last entry tells of a later state.
    let index = trees.iter().map(|tree| tree.facts.consistent_index).max().flatten();
    let has_lost_meta = !pages.metas().iter().all(Result::is_ok);
    let is_later = |generation: &Generation| {
        let last = (generation.revision, generation.facts.consistent_index);
        generation.revision > known || has_lost_meta && last > (known, index)
    };
    let index_of = |tree: &Candidate| match tree.start {
        Start::Page(id) => pages.index_of(id),
        Start::Index(index) => Some(index),
    };
    let taken: Vec<u64> = trees.iter().filter_map(index_of).collect();
    let mut orphans: Vec<&Generation> = generations
        .iter()
        .filter(|generation| !taken.contains(&generation.run.index))
        .filter(|generation| !is_enough || is_later(generation))
        .collect();
    orphans.sort_by_key(|orphan| {
        let place = orphan.run.place != Place::Displaced;
        std::cmp::Reverse((orphan.revision, orphan.facts.consistent_index, place, orphan.run.index))
    });
    for orphan in orphans.into_iter().take(MOST_ORPHANS) {
        let (candidate, _) =
            follow(pages, number, Origin::OrphanRoot, Start::Index(orphan.run.index), watch)?;
        if resolves(&candidate) {
            trees.push(candidate);
        }
    }
    Ok(())
}

impl Evidence {
    /// Puts the trees in the order in which they are believed, and says whether the first of them stands in an intact file.
    fn rank(&mut self, found: &[Found], mut trees: Vec<Candidate>) {
        disown_remnants(&mut trees);
        // Of a tree whose end is lost, its index tells how far it went at least.
        let reached: Vec<(Option<u64>, i64)> =
            trees.iter().map(|tree| (tree.facts.consistent_index, tree.revision)).collect();
        let went_to = |tree: &Candidate| {
            let not_later =
                |(index, _): &&(Option<u64>, i64)| index.is_some() && *index <= tree.facts.consistent_index;
            let known = reached.iter().filter(not_later).map(|(_, revision)| *revision).max();
            if tree.is_open_ended() { known.unwrap_or_default().max(tree.revision) } else { tree.revision }
        };
        // In a file that is in order, what is newer than its tree belongs to a transaction that had not come to its end.
        let newest_of = |source: usize| {
            trees.iter().find(|tree| tree.source == source && tree.origin == Origin::NewestMeta)
        };
        let in_order: Vec<Option<i64>> = found
            .iter()
            .enumerate()
            .map(|(number, found)| {
                let newest = newest_of(number).filter(|newest| found.is_intact(newest))?;
                let mut orphans =
                    trees.iter().filter(|tree| tree.source == number && tree.origin == Origin::OrphanRoot);
                (!orphans.any(|orphan| is_rolled_back(newest, orphan))).then_some(newest.revision)
            })
            .collect();
        // Revisions grow with the entries. A root that no valid meta names, of an earlier entry than a whole tree, and yet with later
        // revisions, leads to pages that were used again for something newer.
        let is_later = |later: &Candidate, orphan: &Candidate| {
            let index = |of: &Candidate| of.facts.consistent_index;
            later.source == orphan.source
                && later.is_sound
                && later.facts.compaction().is_none_or(|compaction| compaction <= later.last)
                && index(orphan).is_some()
                && index(orphan) < index(later)
        };
        let revision_of = |tree: &Candidate| {
            let revision = went_to(tree);
            let later =
                trees.iter().filter(|later| tree.origin == Origin::OrphanRoot && is_later(later, tree));
            if let Some(bound) = later.map(|later| later.revision).min().filter(|bound| *bound < revision) {
                return bound;
            }
            match in_order.get(tree.source).copied().flatten().filter(|_| tree.origin == Origin::OrphanRoot) {
                Some(newest) => revision.min(newest),
                None => revision,
            }
        };
        let revisions: Vec<i64> = trees.iter().map(revision_of).collect();
        let mut keyed: Vec<(i64, Candidate)> = revisions.into_iter().zip(trees).collect();
        let has_lost_meta = |source: usize| {
            let metas = found.get(source).map(|found| found.source.pages.metas());
            metas.is_some_and(|metas| !metas.iter().all(Result::is_ok))
        };
        let rank = |tree: &Candidate| match tree.origin {
            Origin::NewestMeta => 0,
            // The meta that is lost may have named it.
            Origin::OrphanRoot if tree.is_sound && has_lost_meta(tree.source) => 0,
            Origin::OtherMeta | Origin::OrphanRoot => 1,
        };
        keyed.sort_by_key(|(revision, tree)| {
            let index = tree.facts.consistent_index;
            let is_orphan = tree.origin == Origin::OrphanRoot;
            // What has its end stands before what is only said to reach as far.
            (std::cmp::Reverse(*revision), rank(tree), std::cmp::Reverse(index), is_orphan, tree.source)
        });
        keyed.truncate(MOST_TREES);
        self.trees = keyed.into_iter().map(|(_, tree)| tree).collect();
        self.in_order = in_order.iter().map(Option::is_some).collect();
    }

    /// Sorts the leaves of records, and marks which trees reach them.
    fn mark(&mut self, found: Vec<Found>) {
        let mut leaves: Vec<KeyLeaf> = Vec::new();
        for (number, found) in found.into_iter().enumerate() {
            let Found { mut source, judged, .. } = found;
            let first = leaves.len();
            for (at, judged) in judged.iter().enumerate() {
                let Some((from, to)) = judged.span else { continue };
                leaves.push(KeyLeaf {
                    first: from.into(),
                    last: to.into(),
                    trees: 0,
                    // There are fewer leaves than pages, and fewer sources than fit.
                    run: u32::try_from(at).unwrap_or(u32::MAX),
                    source: u16::try_from(number).unwrap_or(u16::MAX),
                    is_inline: judged.class == Class::Root,
                });
            }
            let mut of_source = leaves.split_off(first);
            let mut in_doubt = Vec::new();
            for (bit, tree) in self.trees.iter_mut().enumerate().filter(|(_, tree)| tree.source == number) {
                mark_tree(tree, 1 << bit, &source, &judged, &mut of_source, &mut in_doubt);
            }
            for run in in_doubt {
                let run = usize::try_from(run).ok().and_then(|run| source.runs.get_mut(run));
                run.into_iter().for_each(|run| run.is_flawed = true);
            }
            leaves.append(&mut of_source);
            self.sources.push(source);
        }
        for leaf in &leaves {
            if let Some(source) =
                self.sources.get_mut(usize::from(leaf.source)).filter(|_| leaf.trees == 0 && !leaf.is_inline)
            {
                source.report.histogram.unreached_key_leaves += 1;
            }
        }
        leaves.par_sort_unstable_by_key(|leaf| (leaf.first, leaf.source, leaf.run));
        self.leaves = leaves;
        // What lacks leaves that it must have is not in order, whatever its pages look like.
        for tree in self.trees.iter().filter(|tree| tree.origin == Origin::NewestMeta && !tree.is_sound) {
            if let Some(in_order) = self.in_order.get_mut(tree.source) {
                *in_order = false;
            }
        }
        self.is_intact = self.trees.first().is_some_and(|first| {
            first.origin == Origin::NewestMeta && self.in_order.get(first.source) == Some(&true)
        });
    }

    /// Length of a leaf of records in bytes.
    pub(crate) fn len_of(&self, leaf: &KeyLeaf) -> u64 {
        let source = self.sources.get(usize::from(leaf.source));
        let run = source.and_then(|source| Some((source, source.runs.get(usize::try_from(leaf.run).ok()?)?)));
        run.map_or(0, |(source, run)| u64::from(source.pages.page_size()) * u64::from(run.pages))
    }

    /// Length of all leaves of records in bytes: what a sweep reads.
    pub(crate) fn leaf_bytes(&self) -> u64 {
        self.leaves.iter().map(|leaf| self.len_of(leaf)).sum()
    }

    /// Makes sure that nobody wrote to a file since it was opened.
    pub(crate) fn ensure_unchanged(&self) -> Result<(), SalvageError> {
        for source in &self.sources {
            let changed =
                |error| SalvageError::Changed { path: source.path.display().to_string(), source: error };
            ensure_unchanged(source.pages.source().inner()).map_err(changed)?;
        }
        for log in &self.logs {
            log.ensure_unchanged()?;
        }
        Ok(())
    }

    /// All inputs as the report has them.
    pub(crate) fn input_reports(&self) -> Vec<InputReport> {
        self.sources.iter().map(|source| source.report.clone()).chain(self.unknown.iter().cloned()).collect()
    }
}

impl Found {
    /// Whether nothing in the file speaks of damage, `newest` being the tree of its newest meta.
    fn is_intact(&self, newest: &Candidate) -> bool {
        let report = &self.source.report;
        newest.is_sound
            && self.source.pages.metas().iter().all(Result::is_ok)
            && self.source.pages.first_page() == 0
            && report.bad_ranges.is_empty()
            && report.histogram.unreadable == 0
            && report.ends_whole()
    }
}

/// Whether `orphan` is a later state than the newest meta's `newest`, which itself shows no damage: one that is whole, or of which most
/// is new. Anything less is what a transaction left behind that had not come to its end when the file was copied.
fn is_rolled_back(newest: &Candidate, orphan: &Candidate) -> bool {
    if orphan.revision <= newest.revision {
        return false;
    }
    let leaves = |of: &Candidate| of.bucket(KEY).map(|key| key.leaves.clone()).unwrap_or_default();
    let mut known = leaves(newest);
    known.sort_unstable();
    let of_orphan = leaves(orphan);
    let new = of_orphan.iter().filter(|leaf| known.binary_search(leaf).is_err()).count();
    orphan.is_sound || new >= 4 && new * 2 > of_orphan.len()
}
