//! The trees that can still be followed: from both metas, and from roots that no valid meta names.

use std::collections::HashMap;

use bbolt::carve::{Element, Leaf, Run};
use bbolt::page::{MAX_DEPTH, NodeKind};
use bbolt::reach::{Content, Hole, Reached, Start, Tree, reach};
use bbolt::{Node, PageId, Unmetered, Watch};

use super::SalvageError;
use super::classify::{Class, Entry, Point, class_of, inline_page};
use super::inputs::Pages;
use super::report::Origin;
use crate::mvcc::Revision;
use crate::schema::{CONSISTENT_INDEX, FINISHED_COMPACT, KEY, META, SCHEDULED_COMPACT, TERM};

/// Most trees of one salvage: a bit each in what is kept of a leaf.
pub(crate) const MOST_TREES: usize = 64;
/// Most trees from roots that no valid meta names, of one file.
pub(crate) const MOST_ORPHANS: usize = 4;

/// What a generation says of itself in its bucket `meta`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Index of the last entry in it; `None` when that row is not there.
    pub(crate) consistent_index: Option<u64>,
    /// That entry's term.
    pub(crate) term: Option<u64>,
    /// The compaction that was ordered last.
    pub(crate) scheduled: Option<i64>,
    /// The compaction that was finished last.
    pub(crate) finished: Option<i64>,
}

impl Facts {
    /// Takes a row of bucket `meta`.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        let number = || value.try_into().ok().map(u64::from_be_bytes);
        let revision = || Revision::parse(value).map(|revision| revision.main);
        match key {
            CONSISTENT_INDEX => self.consistent_index = number(),
            TERM => self.term = number(),
            SCHEDULED_COMPACT => self.scheduled = revision(),
            FINISHED_COMPACT => self.finished = revision(),
            _ => {}
        }
    }

    fn of(node: &Node<'_>) -> Self {
        let mut facts = Self::default();
        (0..node.count()).for_each(|at| facts.add(node.key(at), node.value(at)));
        facts
    }

    /// The last revision of a database whose last record is of revision `last`: the compaction may have removed what was there behind it.
    pub(crate) fn last_revision(&self, last: i64, most: i64) -> i64 {
        self.compaction().filter(|compaction| *compaction <= most).unwrap_or_default().max(last)
    }

    /// What of it cannot be, where no record at all is later than revision `most`: a compaction far beyond that, or one that was finished
    /// and never ordered. That row is dropped; whether there was one.
    pub(crate) fn drop_impossible(&mut self, most: i64) -> bool {
        let is_far = |of: Option<i64>| of.is_some_and(|main| main.saturating_sub(most) > RARELY_BEYOND);
        let (is_finished_far, is_scheduled_far) = (is_far(self.finished), is_far(self.scheduled));
        if is_finished_far {
            self.finished = self.scheduled.filter(|_| !is_scheduled_far);
        }
        if is_scheduled_far {
            self.scheduled = self.finished;
        }
        let is_never_ordered = self.scheduled.is_some() && self.finished > self.scheduled;
        if is_never_ordered {
            self.scheduled = self.finished;
        }
        is_finished_far || is_scheduled_far || is_never_ordered
    }

    /// The last compaction it knows of, finished or not: a server goes on with one that is not.
    pub(crate) fn compaction(&self) -> Option<i64> {
        self.scheduled.max(self.finished)
    }
}

/// Revisions that a compaction is rarely beyond the last record: those behind were all deletions, and removed.
const RARELY_BEYOND: i64 = 1 << 16;

/// A part of a tree's key space that cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The first revision that may stand in it.
    pub(crate) from: Point,
    /// The first that may not; `None`: none.
    pub(crate) to: Option<Point>,
    /// The page that is to blame.
    pub(crate) page: u64,
    /// What is wrong with it.
    pub(crate) fault: String,
    /// How many records certainly stood in it, where elements of a leaf are none; 0 where that is not known. Where it is not 0, no
    /// record is known to have stood at its very beginning.
    pub(crate) lost: u64,
}

impl Gap {
    fn of(hole: &Hole) -> Self {
        let from = if hole.from.is_empty() { Point::default() } else { Point::of_bound(&hole.from) };
        Self {
            from,
            to: hole.to.as_deref().map(Point::of_bound),
            page: hole.page.0,
            fault: fault_of(hole),
            lost: 0,
        }
    }

    pub(crate) fn contains(&self, point: Point) -> bool {
        self.from <= point && self.to.is_none_or(|to| point < to)
    }
}

/// What is wrong where a hole is.
fn fault_of(hole: &Hole) -> String {
    let refused = || format!("page {}: it is sound, and does not belong there", hole.page.0);
    hole.fault.as_ref().map_or_else(refused, ToString::to_string)
}

/// A tree that could be followed.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Which of the sources it is in.
    pub(crate) source: usize,
    /// How its root was found.
    pub(crate) origin: Origin,
    /// Where its root is.
    pub(crate) start: Start,
    /// The page that its root says it is.
    pub(crate) root_page: u64,
    /// Its top-level buckets, by name. The leaves of bucket `key` are taken out once they are marked.
    pub(crate) buckets: Vec<Reached>,
    /// Names that are missing from its root bucket.
    pub(crate) root_holes: Vec<Hole>,
    /// What its bucket `meta` says.
    pub(crate) facts: Facts,
    /// Revision of the last record it reaches; 0 for none.
    pub(crate) last: i64,
    /// Its last revision: that of its last record, or of its compaction, which may have removed that.
    pub(crate) revision: i64,
    /// Parts of bucket `key` that it does not reach, ascending.
    pub(crate) gaps: Vec<Gap>,
    /// Leaves of bucket `key` that it reaches.
    pub(crate) leaves: u64,
    /// Whether all of it could be followed, every bucket.
    pub(crate) is_sound: bool,
}

impl Candidate {
    /// Holds bucket `meta` against the records of its file, the last of which is of revision `most`: with a row that cannot be the bucket
    /// is damaged.
    pub(crate) fn settle(&mut self, most: i64) {
        if self.facts.drop_impossible(most) {
            let page = PageId(self.root_page);
            if let Some(meta) = self.buckets.iter_mut().find(|bucket| bucket.name == META) {
                meta.holes.push(Hole { from: Vec::new(), to: None, page, fault: None });
            }
            self.is_sound = false;
        }
        self.revision = self.facts.last_revision(self.last, most);
    }

    /// Its bucket `name`.
    pub(crate) fn bucket(&self, name: &[u8]) -> Option<&Reached> {
        self.buckets.iter().find(|bucket| bucket.name == name)
    }

    /// Whether what stands at its end may be missing, so that its last revision is a lower bound.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.gaps.last().is_some_and(|gap| gap.to.is_none())
    }

    /// Whether all of its bucket `meta` could be followed, so that what it does not tell of never was.
    pub(crate) fn has_meta(&self) -> bool {
        let meta = self.bucket(META);
        meta.is_some_and(|meta| meta.holes.is_empty() && meta.content != Content::Unknown)
    }

    /// Whether all of its key space could be followed.
    pub(crate) fn has_all_keys(&self) -> bool {
        self.gaps.is_empty()
    }
}

/// Whether a leaf can be of a bucket: what a walk asks. A root bucket that is linked inside `key` cannot (FORMATS A.11).
fn may_be(bucket: &[u8], node: &Node<'_>) -> bool {
    let Some(last) = node.count().checked_sub(1) else { return true };
    match bucket {
        KEY => [0, last].iter().all(|at| !node.is_bucket(*at) && Point::parse(node.key(*at)).is_some()),
        [] => class_of(node) == Class::Root,
        _ => !matches!(class_of(node), Class::Key | Class::Root),
    }
}

/// Follows the tree that begins at `start`.
pub(crate) fn follow(
    pages: &Pages,
    source: usize,
    origin: Origin,
    start: Start,
    watch: &dyn Watch,
) -> Result<(Candidate, Tree), SalvageError> {
    let mut tree = reach(pages, start, &may_be, &Unmetered(watch)).map_err(|_| SalvageError::Interrupted)?;
    let root_page = match start {
        Start::Page(id) => id.0,
        Start::Index(index) => index.saturating_add(pages.first_page()),
    };
    let is_sound = tree.is_whole();
    let buckets = std::mem::take(&mut tree.buckets);
    let mut candidate = Candidate {
        source,
        origin,
        start,
        root_page,
        root_holes: std::mem::take(&mut tree.holes),
        facts: Facts::default(),
        last: 0,
        revision: 0,
        gaps: Vec::new(),
        leaves: 0,
        is_sound,
        buckets,
    };
    if let Some(meta) = candidate.bucket(META) {
        let mut facts = Facts::default();
        for node in meta.nodes(pages) {
            (0..node.count()).for_each(|at| facts.add(node.key(at), node.value(at)));
        }
        candidate.facts = facts;
    }
    let Some(key) = candidate.bucket(KEY) else {
        let fault = match candidate.root_holes.first() {
            Some(hole) => fault_of(hole),
            None => "its root bucket has no bucket key".to_owned(),
        };
        candidate.gaps = vec![Gap { from: Point::default(), to: None, page: root_page, fault, lost: 0 }];
        candidate.is_sound = false;
        return Ok((candidate, tree));
    };
    let gaps = key.holes.iter().map(Gap::of).collect();
    let last = match key.content {
        Content::Inline { .. } => key.nodes(pages).last().and_then(|node| last_revision(&node)),
        Content::Tree(_) | Content::Unknown => {
            let nodes = key.leaves.iter().rev().filter_map(|id| pages.mended_node(*id).ok());
            nodes.filter_map(|node| last_revision(&node)).next()
        }
    };
    candidate.leaves = key.leaves.len() as u64;
    candidate.gaps = gaps;
    candidate.last = last.map_or(0, |point| point.main);
    candidate.revision = candidate.last;
    Ok((candidate, tree))
}

fn last_revision(node: &Node<'_>) -> Option<Point> {
    // What says another revision than its key is not the last.
    (0..node.count()).rev().find_map(|at| {
        match Entry::of(node.key(at), node.value(at), node.is_bucket(at), true) {
            Entry::At(point, _) => Some(point),
            Entry::Odd => None,
        }
    })
}

/// A leaf of the root bucket: what a generation of the whole database left behind.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    /// Which of the sources it is in.
    pub(crate) source: usize,
    /// The leaf.
    pub(crate) run: Run,
    /// What its bucket `meta` says, where that stands in it or can be found.
    pub(crate) facts: Facts,
    /// The last revision below the right edge of its bucket `key`, as far as that can be followed; 0 for none.
    pub(crate) revision: i64,
}

/// What pages said that were looked at for one generation, so that the next that names them does not read them again: a crafted file has
/// a root on each of its pages, all of which lead to the one that takes longest. Memory: 40 bytes for each page.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    facts: HashMap<PageId, Option<Facts>>,
    edges: HashMap<PageId, Option<Point>>,
}

impl Generation {
    /// What the root bucket's leaf `run` says. `looks` is of the same file.
    pub(crate) fn of(pages: &Pages, source: usize, run: &Run, looks: &mut Looks) -> Option<Self> {
        let leaf = Leaf::open(pages, run)?;
        let element = |name: &[u8]| leaf.elements().find(|element| element.key == name && element.is_bucket);
        let facts = element(META).and_then(|meta| looks.facts(pages, &meta)).unwrap_or_default();
        let revision =
            element(KEY).and_then(|key| looks.right_edge(pages, &key)).map_or(0, |point| point.main);
        Some(Self { source, run: *run, facts, revision })
    }
}

impl Looks {
    /// The facts in a bucket that is inline or has one leaf.
    fn facts(&mut self, pages: &Pages, element: &Element<'_>) -> Option<Facts> {
        if let Some((node, _)) = inline_page(element) {
            return Some(Facts::of(&node));
        }
        let page = root_of(element)?;
        *self.facts.entry(page).or_insert_with(|| {
            let node = pages.mended_node(page).ok().filter(|node| node.kind() == NodeKind::Leaf);
            node.map(|node| Facts::of(&node))
        })
    }

    /// The last revision of a bucket `key`.
    fn right_edge(&mut self, pages: &Pages, element: &Element<'_>) -> Option<Point> {
        if let Some((node, _)) = inline_page(element) {
            return last_revision(&node);
        }
        let mut page = root_of(element)?;
        let mut passed = Vec::new();
        let mut edge = None;
        while passed.len() < MAX_DEPTH {
            if let Some(known) = self.edges.get(&page) {
                edge = *known;
                break;
            }
            passed.push(page);
            let Ok(node) = pages.mended_node(page) else { break };
            if node.kind() == NodeKind::Leaf {
                edge = last_revision(&node);
                break;
            }
            let Some(last) = node.count().checked_sub(1) else { break };
            page = node.child(last);
        }
        self.edges.extend(passed.into_iter().map(|page| (page, edge)));
        edge
    }
}

/// The root page of a bucket that is not inline.
fn root_of(element: &Element<'_>) -> Option<PageId> {
    let root = u64::from_le_bytes(element.value.get(..8)?.try_into().ok()?);
    (root != 0).then_some(PageId(root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salvage::crafted::{bucket, file, leaf, roots};

    /// A file in which every page is a root that leads to one long leaf would otherwise take time by the square of its length.
    #[test]
    fn what_many_roots_share_is_read_once() {
        let root = |id| leaf(id, &[(b"key", bucket(4)), (b"meta", bucket(5))], true);
        let revision = |main: u64| [&main.to_be_bytes()[..], b"_", &[0; 8]].concat();
        let records = leaf(4, &[(&revision(7), Vec::new()), (&revision(9), Vec::new())], false);
        let meta = leaf(5, &[(b"consistent_index", 21_u64.to_be_bytes().to_vec())], false);
        let whole = file([vec![], vec![], root(2), root(3), records, meta]);
        let runs = roots(&whole);
        assert_eq!(runs.len(), 2);
        let said = |pages: &Pages, run: &Run, looks: &mut Looks| {
            let generation = Generation::of(pages, 0, run, looks).unwrap();
            (generation.facts.consistent_index, generation.revision)
        };
        let mut looks = Looks::default();
        assert_eq!(said(&whole, &runs[0], &mut looks), (Some(21), 9));
        // The second time the two pages are not there to be read.
        let gone = file([vec![], vec![], root(2), root(3), vec![], vec![]]);
        assert_eq!(said(&gone, &runs[1], &mut looks), (Some(21), 9));
        assert_eq!(said(&gone, &runs[1], &mut Looks::default()), (None, 0));
    }

    /// A circle of branches ends.
    #[test]
    fn an_edge_that_leads_back_has_no_revision() {
        let mut branch = 4_u64.to_le_bytes().to_vec();
        branch.extend([1, 0, 1, 0, 0, 0, 0, 0]);
        branch.extend([16_u32, 17].iter().flat_map(|word| word.to_le_bytes()));
        branch.extend(4_u64.to_le_bytes());
        branch.extend([&1_u64.to_be_bytes()[..], b"_", &[0; 8]].concat());
        let pages = file([vec![], vec![], leaf(2, &[(b"key", bucket(4))], true), vec![], branch]);
        let run = roots(&pages)[0];
        assert_eq!(Generation::of(&pages, 0, &run, &mut Looks::default()).unwrap().revision, 0);
    }
}
