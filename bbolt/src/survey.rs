//! Which pages are in use, and what each bucket's tree is made of: one walk over everything that a meta leads to.
//!
//! All cores walk at once. A page that cannot be followed, or that is used twice, ends that; one thread then walks again in
//! key order, so that what is said of a damaged file is the same every time. What is wrong is [`check`](mod@crate::check)'s to
//! say: a survey only knows whether it saw everything.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::bucket::{Bucket, Root};
use crate::db::Db;
use crate::freelist::Freelist;
use crate::meta::NO_FREELIST;
use crate::page::{FLAG_BRANCH, FLAG_LEAF, MAX_DEPTH, Node, NodeKind, PageId};
use crate::page_use::PageUse;
use crate::source::Source;
use crate::watch::Watch;

/// Subtrees after which trees are not split further.
const ENOUGH_SUBTREES: usize = 512;
/// How much of a page is fetched while the one before it is worked on.
const AHEAD_BYTES: u64 = 1024;
/// Pages between two looks at [`Watch::interrupted`].
const PAGES_PER_LOOK: u64 = 256;

/// What one bucket's own tree is made of. Nested buckets with pages count for themselves, inline ones here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Branch pages, without overflow.
    pub branch_pages: u64,
    /// Further pages of branches.
    pub branch_overflow_pages: u64,
    /// Leaf pages, without overflow.
    pub leaf_pages: u64,
    /// Further pages of leaves.
    pub leaf_overflow_pages: u64,
    /// Elements of the leaves: keys, and names of buckets.
    pub elements: u64,
    /// How many of those are names of buckets.
    pub buckets: u64,
    /// How many of those buckets are inline.
    pub inline_buckets: u64,
    /// Elements of the inline buckets.
    pub inline_elements: u64,
    /// Bytes of branches up to the end of their last element.
    pub branch_used_bytes: u64,
    /// Bytes of leaves up to the end of their last element.
    pub leaf_used_bytes: u64,
    /// Bytes of inline pages up to the end of their last element.
    pub inline_used_bytes: u64,
    /// Levels of pages.
    pub levels: u64,
}

impl Counts {
    /// Adds what another part of the same bucket comes to.
    pub(crate) fn add(&mut self, other: &Self) {
        self.branch_pages += other.branch_pages;
        self.branch_overflow_pages += other.branch_overflow_pages;
        self.leaf_pages += other.leaf_pages;
        self.leaf_overflow_pages += other.leaf_overflow_pages;
        self.elements += other.elements;
        self.buckets += other.buckets;
        self.inline_buckets += other.inline_buckets;
        self.inline_elements += other.inline_elements;
        self.branch_used_bytes = self.branch_used_bytes.saturating_add(other.branch_used_bytes);
        self.leaf_used_bytes = self.leaf_used_bytes.saturating_add(other.leaf_used_bytes);
        self.inline_used_bytes = self.inline_used_bytes.saturating_add(other.inline_used_bytes);
        self.levels = self.levels.max(other.levels);
    }
}

/// One bucket with pages of its own, or an inline one where these were asked for.
#[derive(Debug, Clone, Copy)]
pub struct Surveyed {
    /// The bucket it lies in, as an index into [`Survey::buckets`]; the root bucket names itself.
    pub outer: usize,
    /// The leaf its name stands in; of the root bucket, its meta.
    pub holder: PageId,
    /// The element of that leaf.
    pub element: u16,
    /// The root page; page 0 when it is inline.
    pub root: PageId,
    /// What its tree is made of.
    pub counts: Counts,
}

/// What is surveyed.
#[derive(Debug, Clone, Default)]
pub struct SurveyOptions {
    /// Of the top-level buckets only those whose names begin so.
    pub prefix: Vec<u8>,
    /// Whether inline buckets are listed too.
    pub list_inline: bool,
}

/// What a survey saw.
#[derive(Debug)]
pub struct Survey {
    /// How each page is used that is above or at no fault. The metas and a persisted freelist are used.
    pub used: PageUse,
    /// The buckets, outer ones before what is in them, those of one bucket side by side in key order. The root bucket is the
    /// first.
    pub buckets: Vec<Surveyed>,
    /// True when every page named is a page of its kind and used once, so that what is not in use is not reachable.
    pub is_whole: bool,
}

/// The user asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Walks everything that the meta in force leads to.
///
/// `watch` hears of the bytes of the pages in use.
///
/// # Errors
/// [`Interrupted`].
pub fn survey<S: Source>(
    db: &Db<S>,
    options: &SurveyOptions,
    watch: &dyn Watch,
) -> Result<Survey, Interrupted> {
    let parallel = Walk::new(db, options, watch, true).run()?;
    if parallel.is_whole {
        return Ok(parallel);
    }
    Walk::new(db, options, watch, false).run()
}

/// The leaves of one tree.
#[derive(Debug)]
pub struct Leaves {
    /// The leaves that can be come to, in key order, each once; also such that call themselves leaves and are unsound.
    pub pages: Vec<PageId>,
    /// True when every page named is a page of its kind and used once.
    pub is_whole: bool,
}

/// The leaves below `root`, without those of nested buckets.
///
/// # Errors
/// [`Interrupted`].
pub fn leaves<S: Source>(db: &Db<S>, root: PageId, watch: &dyn Watch) -> Result<Leaves, Interrupted> {
    let options = SurveyOptions::default();
    let parallel = Walk::new(db, &options, watch, true).leaves(root)?;
    if parallel.is_whole {
        return Ok(parallel);
    }
    Walk::new(db, &options, watch, false).leaves(root)
}

/// A subtree to walk.
#[derive(Clone, Copy)]
struct Subtree {
    bucket: usize,
    page: PageId,
    depth: usize,
}

/// What part of a walk comes to.
#[derive(Default)]
struct Part {
    counts: Vec<(usize, Counts)>,
    found: Vec<Surveyed>,
    leaves: Vec<PageId>,
}

impl Part {
    fn counts(&mut self, bucket: usize) -> Option<&mut Counts> {
        if self.counts.last().is_none_or(|(last, _)| *last != bucket) {
            self.counts.push((bucket, Counts::default()));
        }
        self.counts.last_mut().map(|(_, counts)| counts)
    }
}

struct Walk<'w, S> {
    db: &'w Db<S>,
    options: &'w SurveyOptions,
    watch: &'w dyn Watch,
    is_parallel: bool,
    /// Whether leaves are listed, and not looked into.
    only_leaves: bool,
    used: PageUse,
    broken: AtomicBool,
    interrupted: AtomicBool,
}

impl<'w, S: Source> Walk<'w, S> {
    fn new(db: &'w Db<S>, options: &'w SurveyOptions, watch: &'w dyn Watch, is_parallel: bool) -> Self {
        let used = PageUse::new(db.page_count());
        let (broken, interrupted) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { db, options, watch, is_parallel, only_leaves: false, used, broken, interrupted }
    }

    fn run(self) -> Result<Survey, Interrupted> {
        self.used.claim(PageId(0), 0);
        self.used.claim(PageId(1), 0);
        match self.db.freelist() {
            Ok(Freelist::NotPersisted) => {}
            Ok(Freelist::Persisted { page, overflow, .. }) => {
                if !self.used.claim(page, overflow) {
                    self.breaks();
                }
            }
            Err(_) => self.breaks(),
        }
        let holder = PageId(self.db.active_slot() as u64);
        let root = self.db.meta().root;
        let mut buckets = vec![Surveyed { outer: 0, holder, element: 0, root, counts: Counts::default() }];
        let mut round = 0..1;
        while !round.is_empty() {
            let tops = round.clone().filter_map(|bucket| {
                let page = buckets.get(bucket)?.root;
                (page.0 != 0).then_some(Subtree { bucket, page, depth: 0 })
            });
            let mut parts = Vec::new();
            let subtrees = self.split(tops.collect(), &mut parts);
            self.walk(&subtrees, &mut parts)?;
            let next = buckets.len();
            for part in parts {
                for (bucket, counts) in &part.counts {
                    if let Some(bucket) = buckets.get_mut(*bucket) {
                        bucket.counts.add(counts);
                    }
                }
                buckets.extend(part.found);
            }
            round = next..buckets.len();
        }
        Ok(Survey { used: self.used, buckets, is_whole: !self.broken.into_inner() })
    }

    fn leaves(mut self, root: PageId) -> Result<Leaves, Interrupted> {
        self.only_leaves = true;
        let mut parts = Vec::new();
        let subtrees = self.split(vec![Subtree { bucket: 0, page: root, depth: 0 }], &mut parts);
        self.walk(&subtrees, &mut parts)?;
        let pages = parts.into_iter().flat_map(|part| part.leaves).collect();
        Ok(Leaves { pages, is_whole: !self.broken.into_inner() })
    }

    fn walk(&self, subtrees: &[Subtree], parts: &mut Vec<Part>) -> Result<(), Interrupted> {
        let share = subtrees.len().div_ceil(ENOUGH_SUBTREES).max(1);
        let walk = |subtrees: &[Subtree]| self.subtrees(subtrees);
        if self.is_parallel {
            parts.par_extend(subtrees.par_chunks(share).map(walk));
        } else {
            parts.extend(subtrees.chunks(share).map(walk));
        }
        if self.interrupted.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    fn breaks(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// True when going on makes no sense: the walk will be done again, or the user had enough.
    fn stopped(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || (self.is_parallel && self.broken.load(Ordering::Relaxed))
    }

    /// Goes down level by level until there is work for all cores.
    fn split(&self, mut level: Vec<Subtree>, parts: &mut Vec<Part>) -> Vec<Subtree> {
        while level.len() < ENOUGH_SUBTREES && !self.stopped() {
            let mut part = Part::default();
            let mut next = Vec::new();
            let mut any = false;
            for subtree in &level {
                let is_branch = self.db.header(subtree.page).is_ok_and(|header| header.flags == FLAG_BRANCH);
                if !is_branch {
                    next.push(*subtree);
                } else if let Some(node) = self.enter(*subtree, &mut part) {
                    any = true;
                    next.extend(children(*subtree, &node));
                }
            }
            parts.push(part);
            level = next;
            if !any {
                break;
            }
        }
        level
    }

    fn subtrees(&self, subtrees: &[Subtree]) -> Part {
        let mut part = Part::default();
        let mut stack: Vec<Subtree> = subtrees.iter().rev().copied().collect();
        let mut pages = 0u64;
        while let Some(subtree) = stack.pop() {
            pages += 1;
            if pages.is_multiple_of(PAGES_PER_LOOK) {
                self.watch.advance(PAGES_PER_LOOK * u64::from(self.db.page_size()));
                if self.watch.interrupted() {
                    self.interrupted.store(true, Ordering::Relaxed);
                }
                if self.stopped() {
                    return part;
                }
            }
            if let Some(next) = stack.last() {
                self.db.will_read(next.page, AHEAD_BYTES);
            }
            let Some(node) = self.enter(subtree, &mut part) else { continue };
            match node.kind() {
                NodeKind::Branch => stack.extend(children(subtree, &node).rev()),
                NodeKind::Leaf if self.only_leaves => part.leaves.push(node.id()),
                NodeKind::Leaf => self.buckets(subtree, &node, &mut part),
            }
        }
        self.watch.advance(pages % PAGES_PER_LOOK * u64::from(self.db.page_size()));
        part
    }

    /// Counts the page; `None` when it cannot be followed.
    fn enter(&self, subtree: Subtree, part: &mut Part) -> Option<Node<'w>> {
        let node = match self.db.node(subtree.page) {
            Ok(node) if subtree.depth <= MAX_DEPTH => node,
            _ => {
                self.breaks();
                self.unsound_leaf(subtree, part);
                return None;
            }
        };
        let pages = node.len_bytes() / u64::from(self.db.page_size());
        let overflow = pages.saturating_sub(1);
        if !self.used.claim(subtree.page, u32::try_from(overflow).unwrap_or(u32::MAX)) {
            self.breaks();
            return None;
        }
        if let Some(counts) = part.counts(subtree.bucket) {
            counts.levels = counts.levels.max(subtree.depth as u64 + 1);
            match node.kind() {
                NodeKind::Branch => {
                    counts.branch_pages += 1;
                    counts.branch_overflow_pages += overflow;
                    counts.branch_used_bytes += node.used_bytes();
                }
                NodeKind::Leaf => {
                    counts.leaf_pages += 1;
                    counts.leaf_overflow_pages += overflow;
                    counts.leaf_used_bytes += node.used_bytes();
                    counts.elements += u64::from(node.count());
                }
            }
        }
        Some(node)
    }

    /// Keeps a leaf that calls itself one where it should be, however unsound it is.
    fn unsound_leaf(&self, subtree: Subtree, part: &mut Part) {
        let header = self.db.header(subtree.page).ok();
        let is_leaf = header.is_some_and(|header| header.flags == FLAG_LEAF && header.id == subtree.page.0);
        if self.only_leaves && is_leaf && subtree.depth <= MAX_DEPTH && self.used.claim(subtree.page, 0) {
            part.leaves.push(subtree.page);
        }
    }

    /// Looks into the buckets that a leaf names.
    fn buckets(&self, subtree: Subtree, node: &Node<'w>, part: &mut Part) {
        for element in (0..node.count()).filter(|element| node.is_bucket(*element)) {
            if subtree.bucket == 0 && !node.key(element).starts_with(&self.options.prefix) {
                continue;
            }
            let Some(counts) = part.counts(subtree.bucket) else { return };
            counts.buckets += 1;
            let (outer, holder) = (subtree.bucket, node.id());
            let inner = match Bucket::from_element(self.db, node, element) {
                Ok(inner) => inner,
                Err(_) => {
                    self.breaks();
                    continue;
                }
            };
            match inner.root() {
                Root::Page(root) => {
                    part.found.push(Surveyed {
                        outer,
                        holder,
                        element,
                        root: *root,
                        counts: Counts::default(),
                    });
                }
                Root::Inline(page) => {
                    counts.inline_buckets += 1;
                    counts.inline_elements += u64::from(page.count());
                    counts.inline_used_bytes += page.used_bytes();
                    if self.options.list_inline {
                        let elements = u64::from(page.count());
                        let counts = Counts { elements, ..Counts::default() };
                        part.found.push(Surveyed { outer, holder, element, root: PageId(0), counts });
                    }
                }
            }
        }
    }
}

fn children<'n>(parent: Subtree, node: &'n Node<'_>) -> impl DoubleEndedIterator<Item = Subtree> + 'n {
    let Subtree { bucket, depth, .. } = parent;
    (0..node.count()).map(move |index| Subtree { bucket, page: node.child(index), depth: depth + 1 })
}

/// What a page is, for whoever lists all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A tree, or the file itself, names it.
    Used,
    /// It belongs to the page in front of it.
    Overflow,
    /// It is free, by the freelist or because nothing reaches it.
    Free,
    /// Nothing reaches it, and the freelist does not list it.
    Lost,
    /// Nothing known reaches it; what lies below a damaged page cannot be told from what is free.
    Unknown,
}

/// How each page of a file is used, the freelist's word included.
#[derive(Debug)]
pub struct Standings {
    used: PageUse,
    free: Option<PageUse>,
    is_whole: bool,
    is_consistent: bool,
}

impl Standings {
    /// What `survey`, of all buckets, and the freelist say.
    #[must_use]
    pub fn new<S: Source>(db: &Db<S>, survey: Survey) -> Self {
        let used = survey.used;
        let mut is_consistent = true;
        let free = match db.freelist() {
            Ok(Freelist::Persisted { free, .. }) => {
                let listed = PageUse::new(used.pages());
                for id in &free {
                    let is_new = listed.claim(*id, 0);
                    is_consistent &= is_new && id.0 < used.pages() && !used.is_used(*id);
                }
                is_consistent &= listed.used() + used.used() == used.pages();
                Some(listed)
            }
            Ok(Freelist::NotPersisted) | Err(_) => None,
        };
        let is_whole = survey.is_whole && (free.is_some() || db.meta().freelist == NO_FREELIST);
        Self { used, free, is_whole, is_consistent }
    }

    /// True when the walk met no damage and the freelist, where there is one, agrees with it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.is_whole && self.is_consistent
    }

    /// Number of pages that both the high-water mark and the file allow.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.used.pages()
    }

    /// How page `id` is used.
    #[must_use]
    pub fn of(&self, id: PageId) -> Standing {
        // bbolt asks the freelist first, also of a page in use.
        match &self.free {
            Some(free) if free.is_head(id) => Standing::Free,
            _ if self.used.is_head(id) => Standing::Used,
            _ if self.used.is_overflow(id) => Standing::Overflow,
            _ if !self.is_whole => Standing::Unknown,
            Some(_) => Standing::Lost,
            None => Standing::Free,
        }
    }
}
