//! The check engine: every invariant of bbolt's own check and those it leaves out (FORMATS A.8).
//!
//! A sound file is proved sound by all cores at once, each taking subtrees. As soon as anything is wrong that proof is
//! given up and one thread walks the file again in key order, so that the list of findings is complete, and the same
//! on every run and machine. Beyond the findings, memory is two bits a page and a few bytes a bucket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rayon::prelude::*;

use crate::bucket::{Bucket, Root};
use crate::db::Db;
use crate::fault::{Fault, FaultKind, Span, readable};
use crate::freelist::{self, Freelist};
use crate::meta::{META_BYTES, NO_FREELIST};
use crate::page::{
    FLAG_BRANCH, FLAG_LEAF, FLAG_META, HEADER_BYTES, MAX_DEPTH, Node, NodeKind, PageHeader, PageId,
};
use crate::range::PageSet;
use crate::source::Source;
use crate::watch::Watch;

/// Most findings a report keeps; the rest are counted.
pub const MOST_FINDINGS: usize = 100_000;
/// Most bytes of bucket names and keys that the findings of a report keep together.
const MOST_NAMED_BYTES: usize = 64 << 20;
/// Pages from which on it pays to wake the other cores.
const PARALLEL_FROM_PAGES: u64 = 1024;
/// Subtrees after which a bucket is not split further.
const ENOUGH_SUBTREES: usize = 512;
/// Most bytes of keys copied to bound the subtrees of one round.
const MOST_BOUND_BYTES: usize = 64 << 20;
/// Most runs into which a bucket's leaves are cut for a [`Visit`]: enough to keep all cores busy to the end, few enough
/// for what each costs.
pub const MOST_RUNS: u16 = 256;
/// How much of a page is fetched while the one before it is worked on: about as much as the memory delivers meanwhile.
const AHEAD_BYTES: u64 = 1024;
/// Pages between two looks at [`Watch::interrupted`].
const PAGES_PER_LOOK: u64 = 256;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// bbolt and etcd open, check and serve such a file.
    Warning,
    /// bbolt's check reports it, or a server fails, dies or answers wrongly because of it, at once or later.
    Error,
}

/// One broken invariant, and what it is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, on which page, at which bytes.
    pub fault: Fault,
    /// How bad that is.
    pub severity: Severity,
    /// The page that names the faulty one: its parent, the leaf with its bucket's name, or a meta (0 or 1).
    pub parent: Option<PageId>,
    /// The bucket it belongs to, outermost name first; empty for the root bucket, the metas and the freelist.
    pub bucket: Vec<Vec<u8>>,
    /// The keys that are affected: from the first, up to but without the second (`None`: to the bucket's end), by the
    /// separators of the branches above. `None` for metas and freelist.
    pub key_range: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What was checked, so that no findings mean something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pages that both the high-water mark and the file's length allow, metas included.
    pub pages: u64,
    /// Meta pages that are valid.
    pub meta_pages: u64,
    /// Pages of the freelist, with its overflow; 0 where it is not persisted.
    pub freelist_pages: u64,
    /// Branch pages, without overflow.
    pub branch_pages: u64,
    /// Leaf pages, without overflow.
    pub leaf_pages: u64,
    /// Further pages of branches and leaves.
    pub overflow_pages: u64,
    /// Pages listed as free or, where the freelist is not persisted, pages nothing reaches.
    pub free_pages: u64,
    /// Bytes of branches and leaves up to the end of their last element.
    pub in_use_bytes: u64,
    /// Buckets, nested and inline ones included, without the root bucket.
    pub buckets: u64,
    /// Buckets whose content lies in their parent's leaf.
    pub inline_buckets: u64,
    /// Keys that are not buckets.
    pub keys: u64,
    /// Levels of the deepest bucket; 1 when all roots are leaves.
    pub depth: usize,
}

impl Statistics {
    fn add(&mut self, other: &Self) {
        self.branch_pages += other.branch_pages;
        self.leaf_pages += other.leaf_pages;
        self.overflow_pages += other.overflow_pages;
        self.in_use_bytes = self.in_use_bytes.saturating_add(other.in_use_bytes);
        self.buckets += other.buckets;
        self.inline_buckets += other.inline_buckets;
        self.keys += other.keys;
        self.depth = self.depth.max(other.depth);
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The findings, ordered by page, then offset, then code; the same on every run.
    pub findings: Vec<Finding>,
    /// Findings beyond [`MOST_FINDINGS`], or beyond 64 MiB of names and keys: counted and not kept.
    pub dropped: u64,
    /// What was checked. Below a faulty page nothing is.
    pub statistics: Statistics,
    /// True when the watcher stopped the check: the list is not complete.
    pub interrupted: bool,
}

impl Report {
    /// True when everything was checked and no finding is an error.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.interrupted && self.dropped == 0 && self.findings.iter().all(|f| f.severity != Severity::Error)
    }
}

/// Checks all of `db`: metas, freelist, every bucket, every page.
///
/// `watch` hears of [`Db::page_count`] pages' bytes in all. The findings are complete but for what lies below a page
/// that cannot be followed, and bounded ([`Report::dropped`]).
pub fn check<S: Source>(db: &Db<S>, watch: &dyn Watch) -> Report {
    check_visiting(db, watch, &()).report
}

/// What else is to be done with the leaves of the top-level buckets while the check has them in the cache.
///
/// Buckets inside other buckets are not visited, nor are inline ones, whose content is their parent's.
pub trait Visit: Sync {
    /// What is to be remembered of a bucket.
    type Bucket: Copy + Send + Sync;
    /// What a run of leaves comes to.
    type Run: Send;
    /// A top-level bucket, by its name.
    fn bucket(&self, name: &[u8]) -> Self::Bucket;
    /// A run of the bucket's leaves starts; `number` is smaller than [`MOST_RUNS`] and ascends with the keys.
    fn begin(&self, bucket: Self::Bucket, number: u16) -> Self::Run;
    /// The run's next leaf, in key order. It may still turn out to be unsound.
    fn leaf(&self, run: &mut Self::Run, leaf: &Node<'_>);
    /// The run is complete.
    fn end(&self, run: &mut Self::Run);
}

impl Visit for () {
    type Bucket = ();
    type Run = ();

    fn bucket(&self, _name: &[u8]) {}
    fn begin(&self, _bucket: (), _number: u16) {}
    fn leaf(&self, _run: &mut (), _leaf: &Node<'_>) {}
    fn end(&self, _run: &mut ()) {}
}

/// A report, and what the visits of the leaves came to.
#[derive(Debug)]
pub struct Visited<R> {
    /// What the check found.
    pub report: Report,
    /// For each top-level bucket that has pages of its own, in the order of the names, its root and its runs in key order.
    /// `None` when the trees were not proved sound in one go: the file is damaged, or too small to wake all cores for.
    pub buckets: Option<Vec<(PageId, Vec<R>)>>,
}

/// As [`check`], with `visit` shown each leaf of the top-level buckets on the way.
pub fn check_visiting<S: Source, V: Visit>(db: &Db<S>, watch: &dyn Watch, visit: &V) -> Visited<V::Run> {
    let meter = Meter { watch, told: AtomicU64::new(0) };
    let pages = db.page_count();
    let mut list = Findings::default();
    check_metas(db, &mut list);
    let freelist = match db.freelist() {
        // The meta's finding says it already.
        Err(_) if !page_in_range(db, db.meta().freelist) => None,
        Err(fault) => {
            list.push(fault, Some(active_page(db)), Vec::new(), None);
            None
        }
        Ok(freelist) => Some(freelist),
    };

    let proof = (pages >= PARALLEL_FROM_PAGES && page_in_range(db, db.meta().root.0))
        .then(|| prove(db, &meter, freelist.as_ref(), visit))
        .flatten();
    let (seen, mut statistics, interrupted, buckets) = match proof {
        Some(proof) => (proof.seen, proof.statistics, proof.interrupted, Some(proof.buckets)),
        None => {
            let (seen, statistics, interrupted) = search(db, &meter, freelist.as_ref(), &mut list);
            (seen, statistics, interrupted, None)
        }
    };

    statistics.pages = pages;
    statistics.meta_pages = db.metas().iter().flatten().count() as u64;
    if !interrupted {
        check_freelist(db, freelist.as_ref(), &seen, &mut list);
    }
    let used = seen.used();
    match &freelist {
        Some(Freelist::Persisted { overflow, free, .. }) => {
            statistics.freelist_pages = u64::from(*overflow) + 1;
            statistics.free_pages = free.len() as u64;
        }
        _ => statistics.free_pages = pages.saturating_sub(2).saturating_sub(used),
    }
    if !interrupted {
        meter.finish(pages.saturating_mul(u64::from(db.page_size())));
    }
    list.kept.sort_by(|a, b| {
        let key = |f: &Finding| (f.fault.page, f.fault.span, f.fault.code());
        key(a).cmp(&key(b))
    });
    let report = Report { findings: list.kept, dropped: list.dropped, statistics, interrupted };
    Visited { report, buckets: buckets.filter(|_| !interrupted) }
}

/// Where the bytes done are told. The second walk of a damaged file tells only what the first did not get to.
struct Meter<'w> {
    watch: &'w dyn Watch,
    told: AtomicU64,
}

impl Meter<'_> {
    fn advance(&self, bytes: u64) {
        self.told.fetch_add(bytes, Ordering::Relaxed);
        self.watch.advance(bytes);
    }

    fn finish(&self, total: u64) {
        let rest = total.saturating_sub(self.told.load(Ordering::Relaxed));
        if rest > 0 {
            self.advance(rest);
        }
    }
}

/// Two bits a page: used as the head of a page, used as its overflow.
struct Seen {
    words: Vec<AtomicU64>,
    pages: u64,
}

const HEAD: u64 = 0b01;
const OVERFLOW: u64 = 0b10;

impl Seen {
    fn new(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(32)).unwrap_or_default();
        Self { words: std::iter::repeat_with(AtomicU64::default).take(words).collect(), pages }
    }

    fn word(&self, id: PageId) -> Option<(&AtomicU64, u64)> {
        let word = self.words.get(usize::try_from(id.0 / 32).ok()?)?;
        Some((word, (id.0 % 32) * 2))
    }

    /// Marks `id` as `what`; false when it was in use already. Pages outside the file are nobody's.
    fn claim(&self, id: PageId, what: u64) -> bool {
        match self.word(id) {
            Some((word, shift)) if id.0 < self.pages => {
                word.fetch_or(what << shift, Ordering::Relaxed) >> shift & (HEAD | OVERFLOW) == 0
            }
            _ => true,
        }
    }

    /// Marks the `overflow` pages behind `id`; the first that was in use already is returned.
    fn claim_overflow(&self, id: PageId, overflow: u32) -> Option<PageId> {
        let end = id.0.saturating_add(u64::from(overflow)).min(self.pages.saturating_sub(1));
        (id.0 + 1..=end).map(PageId).fold(None, |taken, page| {
            let free = self.claim(page, OVERFLOW);
            taken.or_else(|| (!free).then_some(page))
        })
    }

    /// Number of pages in use, without the metas, which a damaged branch may name.
    fn used(&self) -> u64 {
        const EACH_PAGE: u64 = 0x5555_5555_5555_5555;
        let used = |word: &AtomicU64| {
            let bits = word.load(Ordering::Relaxed);
            u64::from(((bits | bits >> 1) & EACH_PAGE).count_ones())
        };
        let metas = [PageId(0), PageId(1)].into_iter().filter(|page| self.is_used(*page)).count() as u64;
        self.words.iter().map(used).sum::<u64>() - metas
    }

    fn is_used(&self, id: PageId) -> bool {
        self.word(id)
            .is_some_and(|(word, shift)| word.load(Ordering::Relaxed) >> shift & (HEAD | OVERFLOW) != 0)
    }
}

/// The findings kept so far.
#[derive(Default)]
struct Findings {
    kept: Vec<Finding>,
    dropped: u64,
    named_bytes: usize,
}

impl Findings {
    fn push(
        &mut self,
        fault: Fault,
        parent: Option<PageId>,
        bucket: Vec<Vec<u8>>,
        bounds: Option<Bounds<'_>>,
    ) {
        let name_bytes: usize = bucket.iter().map(|name| name.len() + size_of::<Vec<u8>>()).sum();
        let bound_bytes = bounds.map_or(0, |b| b.low.len() + b.high.map_or(0, <[u8]>::len));
        let bytes = self.named_bytes.saturating_add(name_bytes).saturating_add(bound_bytes);
        if self.is_full() || bytes > MOST_NAMED_BYTES {
            self.dropped += 1;
            return;
        }
        self.named_bytes = bytes;
        let severity = severity(&fault.kind);
        let key_range = bounds.map(|b| (b.low.to_vec(), b.high.map(<[u8]>::to_vec)));
        self.kept.push(Finding { fault, severity, parent, bucket, key_range });
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= MOST_FINDINGS
    }
}

fn severity(kind: &FaultKind) -> Severity {
    match kind {
        FaultKind::OtherMeta { .. } | FaultKind::MetaHeader { .. } | FaultKind::OtherMetaRange { .. } => {
            Severity::Warning
        }
        _ => Severity::Error,
    }
}

/// The separators around a page: every key of it is at least `low` and smaller than `high`.
#[derive(Clone, Copy)]
struct Bounds<'k> {
    low: &'k [u8],
    high: Option<&'k [u8]>,
}

const UNBOUNDED: Bounds<'static> = Bounds { low: &[], high: None };

/// A subtree to walk.
struct Subtree {
    bucket: usize,
    page: PageId,
    parent: PageId,
    depth: usize,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

impl Subtree {
    fn bounds(&self) -> Bounds<'_> {
        Bounds { low: &self.low, high: self.high.as_deref() }
    }
}

/// A bucket with pages of its own, and where its name stands.
#[derive(Clone, Copy)]
struct Found {
    /// The bucket it lies in, as an index into the list of buckets.
    outer: usize,
    holder: PageId,
    element: u16,
    root: PageId,
}

impl Found {
    fn root<S: Source>(db: &Db<S>) -> Self {
        Self { outer: 0, holder: active_page(db), element: 0, root: db.meta().root }
    }

    fn subtree(&self, bucket: usize) -> Subtree {
        Subtree { bucket, page: self.root, parent: self.holder, depth: 0, low: Vec::new(), high: None }
    }
}

fn active_page<S: Source>(db: &Db<S>) -> PageId {
    PageId(db.active_slot() as u64)
}

/// What becomes of a fault.
enum Sink<'c> {
    /// The proof fails; what else is wrong does not matter.
    Disproved(&'c AtomicBool),
    /// It is kept.
    List(&'c mut Findings),
    /// It is known already; only the first users of these pages are wanted.
    Owners(BTreeMap<PageId, Option<PageId>>),
}

/// One thread's walk.
struct Walk<'c, 'd, S> {
    db: &'d Db<S>,
    /// Who is shown the leaves.
    on_leaf: Option<&'c mut dyn FnMut(&Node<'_>)>,
    seen: &'c Seen,
    meter: &'c Meter<'c>,
    /// Set by whoever learns that the user asked to stop.
    interrupted: &'c AtomicBool,
    sink: Sink<'c>,
    statistics: Statistics,
    /// The buckets that the walker knows, of which `bucket` is being walked; empty while proving.
    known: Vec<Found>,
    bucket: usize,
    /// Names of the bucket being walked, once somebody asked for them.
    path: Option<(usize, Vec<Vec<u8>>)>,
    found: Vec<Found>,
    /// Depths of the shallowest and the deepest leaf, and that of the first.
    leaf_depths: Option<(usize, usize, usize)>,
    walked_bytes: u64,
    /// How much of `walked_bytes` was told, or was told in an earlier walk.
    told_bytes: u64,
    pages_to_look: u64,
    bound_bytes: usize,
}

impl<'c, 'd, S: Source> Walk<'c, 'd, S> {
    fn new(
        db: &'d Db<S>,
        seen: &'c Seen,
        meter: &'c Meter<'c>,
        interrupted: &'c AtomicBool,
        sink: Sink<'c>,
    ) -> Self {
        Self {
            db,
            on_leaf: None,
            seen,
            meter,
            interrupted,
            sink,
            statistics: Statistics::default(),
            known: Vec::new(),
            bucket: 0,
            path: None,
            found: Vec::new(),
            leaf_depths: None,
            walked_bytes: 0,
            told_bytes: 0,
            pages_to_look: PAGES_PER_LOOK,
            bound_bytes: 0,
        }
    }

    /// True when there is no point in going on.
    fn stopped(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
            || matches!(&self.sink, Sink::Disproved(flag) if flag.load(Ordering::Relaxed))
    }

    /// Walks one bucket's tree, or a part of it, in key order.
    fn subtree(&mut self, start: &Subtree) {
        let mut stack: Vec<(Node<'d>, u16)> = Vec::new();
        match self.enter(start.page, start.parent, start.bounds(), start.depth) {
            Some(node) => stack.push((node, 0)),
            None => return,
        }
        while let Some((node, next)) = stack.last_mut() {
            if self.stopped() {
                return;
            }
            let index = *next;
            if index >= node.count() {
                stack.pop();
                continue;
            }
            *next = index + 1;
            let (child, parent) = (node.child(index), node.id());
            if index + 1 < node.count() {
                self.db.will_read(node.child(index + 1), AHEAD_BYTES);
            }
            let low = stack.last().map_or(&[][..], |(node, _)| node.key(index));
            let high = stack
                .iter()
                .rev()
                .find_map(|(node, next)| (*next < node.count()).then(|| node.key(*next)))
                .or(start.high.as_deref());
            let depth = start.depth + stack.len();
            if let Some(node) = self.enter(child, parent, Bounds { low, high }, depth) {
                stack.push((node, 0));
            }
        }
    }

    /// Checks one page; a branch is returned, for its children to be walked.
    fn enter(&mut self, id: PageId, parent: PageId, bounds: Bounds<'_>, depth: usize) -> Option<Node<'d>> {
        if depth > MAX_DEPTH {
            let fault = self.db.fault(id, 0, FaultKind::TooDeep { most: MAX_DEPTH });
            self.report(fault, Some(parent), Some(bounds));
            return None;
        }
        let node = match self.load(id, parent) {
            Ok(node) => node,
            Err(fault) => {
                // Where its overflow runs into another page, the page itself is the user.
                let user = if fault.page == id { parent } else { id };
                self.report(fault, Some(user), Some(bounds));
                return None;
            }
        };
        self.count_page(&node, depth);
        // First, since whoever takes a leaf from start to end brings it into the cache faster than a look at each key.
        if let Some(on_leaf) = self.on_leaf.as_mut().filter(|_| node.kind() == NodeKind::Leaf) {
            on_leaf(&node);
        }
        self.keys(&node, parent, bounds);
        match node.kind() {
            NodeKind::Branch => {
                match node.count() {
                    0 => self.report(node.fault(FaultKind::EmptyBranch), Some(parent), Some(bounds)),
                    1 => self.report(node.fault(FaultKind::LoneChild), Some(parent), Some(bounds)),
                    _ => {}
                }
                Some(node)
            }
            NodeKind::Leaf => {
                self.leaf(&node, parent, bounds, depth);
                None
            }
        }
    }

    /// Reads page `id` and marks all of it as used, before any work is done that grows with its content.
    fn load(&mut self, id: PageId, parent: PageId) -> Result<Node<'d>, Fault> {
        let db = self.db;
        if !self.seen.claim(id, HEAD) {
            return Err(db.fault(id, 0, FaultKind::MultipleReferences { first_user: parent }));
        }
        self.own(id, parent);
        let first = db.raw(id, u64::from(db.page_size()))?;
        let header = PageHeader::parse(&first);
        // Nothing but the first page of what is no tree page is believed.
        if let Some(header) = header.filter(|h| h.id != id.0) {
            return Err(db.fault(id, 0, FaultKind::WrongId { found: header.id }));
        }
        if let Some(header) = header.filter(|h| h.flags != FLAG_BRANCH && h.flags != FLAG_LEAF) {
            return Err(db.fault(id, 0, FaultKind::NotATreePage { flags: header.flags }));
        }
        let overflow = header.map_or(0, |h| h.overflow);
        let end = id.0.saturating_add(u64::from(overflow));
        if overflow > 0 && end < self.seen.pages {
            if let Some(taken) = self.seen.claim_overflow(id, overflow) {
                return Err(db.fault(taken, 0, FaultKind::MultipleReferences { first_user: id }));
            }
            self.own_overflow(id, end);
        }
        Node::parse(db.with_overflow(id, first, overflow)?, id, db.offset_of(id))
    }

    fn own(&mut self, id: PageId, user: PageId) {
        if let Sink::Owners(owners) = &mut self.sink
            && let Some(owner) = owners.get_mut(&id)
        {
            owner.get_or_insert(user);
        }
    }

    fn own_overflow(&mut self, id: PageId, end: u64) {
        if let Sink::Owners(owners) = &mut self.sink {
            // From `id` itself on, since a range that ends before its start panics; its owner stands already.
            for (_, owner) in owners.range_mut(id..=PageId(end.max(id.0))) {
                owner.get_or_insert(id);
            }
        }
    }

    fn count_page(&mut self, node: &Node<'d>, depth: usize) {
        let page_size = u64::from(self.db.page_size());
        match node.kind() {
            NodeKind::Branch => self.statistics.branch_pages += 1,
            NodeKind::Leaf => self.statistics.leaf_pages += 1,
        }
        self.statistics.overflow_pages += (node.len_bytes() / page_size).saturating_sub(1);
        self.statistics.in_use_bytes = self.statistics.in_use_bytes.saturating_add(node.used_bytes());
        self.statistics.depth = self.statistics.depth.max(depth + 1);
        self.walked_bytes += node.len_bytes();
        self.pages_to_look -= 1;
        if self.pages_to_look == 0 {
            self.pages_to_look = PAGES_PER_LOOK;
            self.look();
        }
    }

    fn look(&mut self) {
        if let Some(bytes) = self.walked_bytes.checked_sub(self.told_bytes).filter(|b| *b > 0) {
            self.meter.advance(bytes);
            self.told_bytes = self.walked_bytes;
        }
        if self.meter.watch.interrupted() {
            self.interrupted.store(true, Ordering::Relaxed);
        }
    }

    /// Keys ascend, and stay within the separators above.
    fn keys(&mut self, node: &Node<'d>, parent: PageId, bounds: Bounds<'_>) {
        let mut previous: &[u8] = &[];
        let mut ascending = true;
        for index in 0..node.count() {
            let key = node.key(index);
            // The empty key is not greater than any other either.
            if key <= previous {
                ascending = false;
                if let Some(fault) = node.order_fault(index) {
                    self.report(fault, Some(parent), Some(bounds));
                }
            }
            previous = key;
        }
        if node.count() > 0 && node.key(0) < bounds.low {
            let kind =
                FaultKind::BelowSeparator { key: readable(node.key(0)), separator: readable(bounds.low) };
            self.report(node.element_fault(0, kind), Some(parent), Some(bounds));
        }
        let Some(high) = bounds.high else { return };
        if ascending && previous < high {
            return;
        }
        for index in (0..node.count()).filter(|i| node.key(*i) >= high) {
            let kind = FaultKind::AboveBound { index, key: readable(node.key(index)), bound: readable(high) };
            self.report(node.element_fault(index, kind), Some(parent), Some(bounds));
        }
    }

    fn leaf(&mut self, node: &Node<'d>, parent: PageId, bounds: Bounds<'_>, depth: usize) {
        if node.count() == 0 && depth > 0 {
            self.report(node.fault(FaultKind::EmptyLeaf), Some(parent), Some(bounds));
        }
        let (least, most, first) = self.leaf_depths.unwrap_or((depth, depth, depth));
        self.leaf_depths = Some((least.min(depth), most.max(depth), first));
        if depth != first {
            let kind = FaultKind::UnevenDepth { depth, expected: first };
            self.report(node.fault(kind), Some(parent), Some(bounds));
        }
        let mut buckets = 0;
        for index in 0..node.count() {
            if node.is_bucket(index) {
                buckets += 1;
                self.bucket_element(node, index, parent, bounds);
            }
        }
        self.statistics.keys += u64::from(node.count()) - buckets;
        self.statistics.buckets += buckets;
    }

    fn bucket_element(&mut self, node: &Node<'d>, index: u16, parent: PageId, bounds: Bounds<'_>) {
        match Bucket::from_element(self.db, node, index) {
            Err(fault) => self.report(fault, Some(parent), Some(bounds)),
            Ok(bucket) => match bucket.root() {
                Root::Page(root) => {
                    let (outer, holder) = (self.bucket, node.id());
                    self.found.push(Found { outer, holder, element: index, root: *root });
                }
                Root::Inline(inline) => self.inline(node.key(index), inline, node.id()),
            },
        }
    }

    /// An inline bucket's content, which bbolt's own check skips.
    fn inline(&mut self, name: &[u8], inline: &Node<'d>, holder: PageId) {
        self.statistics.inline_buckets += 1;
        let mut nested = 0;
        let mut previous: &[u8] = &[];
        for index in 0..inline.count() {
            let key = inline.key(index);
            if key <= previous
                && let Some(fault) = inline.order_fault(index)
            {
                self.report_in(Some(name), fault, Some(holder), Some(UNBOUNDED));
            }
            previous = key;
            if inline.is_bucket(index) {
                nested += 1;
                let kind = FaultKind::BucketInInline { bucket: readable(name), nested: readable(key) };
                let fault = inline.element_fault(index, kind);
                self.report_in(Some(name), fault, Some(holder), Some(UNBOUNDED));
            }
        }
        self.statistics.keys += u64::from(inline.count()) - nested;
        self.statistics.buckets += nested;
    }

    fn report(&mut self, fault: Fault, parent: Option<PageId>, bounds: Option<Bounds<'_>>) {
        self.report_in(None, fault, parent, bounds);
    }

    fn disprove(&self) {
        if let Sink::Disproved(flag) = &self.sink {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Hands `fault`, of the bucket being walked or of the bucket `inner` in it, to the sink.
    fn report_in(
        &mut self,
        inner: Option<&[u8]>,
        fault: Fault,
        parent: Option<PageId>,
        bounds: Option<Bounds<'_>>,
    ) {
        self.disprove();
        if !matches!(&self.sink, Sink::List(list) if !list.is_full()) {
            if let Sink::List(list) = &mut self.sink {
                list.dropped += 1;
            }
            return;
        }
        if self.path.as_ref().is_none_or(|(bucket, _)| *bucket != self.bucket) {
            self.path = Some((self.bucket, self.names()));
        }
        let path = self.path.as_ref().map_or(&[][..], |(_, path)| path.as_slice());
        if let Sink::List(list) = &mut self.sink {
            // Measured before it is copied: a hostile file nests deep and names long.
            let bytes: usize = path.iter().map(|name| name.len() + size_of::<Vec<u8>>()).sum();
            if list.named_bytes.saturating_add(bytes) > MOST_NAMED_BYTES {
                list.dropped += 1;
                return;
            }
            let mut bucket = path.to_vec();
            bucket.extend(inner.map(<[u8]>::to_vec));
            list.push(fault, parent, bucket, bounds);
        }
    }

    /// The names of the bucket being walked, outermost first, at most as many as a report keeps.
    fn names(&self) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut bytes = 0usize;
        let mut bucket = self.bucket;
        while bucket != 0 && bytes <= MOST_NAMED_BYTES {
            let Some(found) = self.known.get(bucket) else { break };
            let name = self.db.node(found.holder).map(|node| node.key(found.element).to_vec());
            let name = name.unwrap_or_default();
            bytes = bytes.saturating_add(name.len()).saturating_add(size_of::<Vec<u8>>());
            names.push(name);
            bucket = found.outer;
        }
        names.reverse();
        names
    }

    /// Walks all buckets from the root bucket on, one after the other.
    fn all(&mut self) {
        self.known = vec![Found::root(self.db)];
        while let Some(found) = self.known.get(self.bucket).copied() {
            if self.stopped() {
                return;
            }
            self.leaf_depths = None;
            self.subtree(&found.subtree(self.bucket));
            self.known.append(&mut self.found);
            self.bucket += 1;
        }
    }

    fn claim_freelist(&mut self, freelist: Option<&Freelist>) {
        if let Some(Freelist::Persisted { page, overflow, .. }) = freelist {
            self.seen.claim(*page, HEAD);
            self.seen.claim_overflow(*page, *overflow);
            self.own(*page, active_page(self.db));
            self.own_overflow(*page, page.0.saturating_add(u64::from(*overflow)));
        }
    }
}

/// What a proof comes to.
struct Proof<R> {
    seen: Seen,
    statistics: Statistics,
    interrupted: bool,
    buckets: Vec<(PageId, Vec<R>)>,
}

/// A share of one round of the proof: subtrees of one bucket, next to each other.
struct Share {
    bucket: usize,
    number: u16,
    subtrees: std::ops::Range<usize>,
}

/// Cuts `subtrees`, which are in order of their buckets, into at most [`MOST_RUNS`] shares a bucket.
fn shares(subtrees: &[Subtree]) -> Vec<Share> {
    let most = subtrees.len().div_ceil(usize::from(MOST_RUNS)).max(1);
    let mut shares: Vec<Share> = Vec::new();
    for (index, subtree) in subtrees.iter().enumerate() {
        let number = match shares.last_mut() {
            Some(last) if last.bucket == subtree.bucket && last.subtrees.len() < most => {
                last.subtrees.end = index + 1;
                continue;
            }
            Some(last) if last.bucket == subtree.bucket => last.number + 1,
            _ => 0,
        };
        shares.push(Share { bucket: subtree.bucket, number, subtrees: index..index + 1 });
    }
    shares
}

/// What `visit` wants remembered of each of `buckets`, whose names stand in pages that were found sound.
fn remembered<S: Source, V: Visit>(db: &Db<S>, buckets: &[Found], visit: &V) -> Option<Vec<V::Bucket>> {
    let mut holder: Option<Node<'_>> = None;
    let mut remembered = Vec::with_capacity(buckets.len());
    for found in buckets {
        let node = match holder.take().filter(|node| node.id() == found.holder) {
            Some(node) => node,
            None => db.node(found.holder).ok()?,
        };
        remembered.push(visit.bucket(node.key(found.element)));
        holder = Some(node);
    }
    Some(remembered)
}

/// Proves on all cores that every tree is sound; `None` when that fails, for whatever reason.
fn prove<S: Source, V: Visit>(
    db: &Db<S>,
    meter: &Meter<'_>,
    freelist: Option<&Freelist>,
    visit: &V,
) -> Option<Proof<V::Run>> {
    let seen = Seen::new(db.page_count());
    let (disproved, interrupted) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut statistics = Statistics::default();
    Walk::new(db, &seen, meter, &interrupted, Sink::Disproved(&disproved)).claim_freelist(freelist);
    let mut buckets = vec![Found::root(db)];
    let mut visited = Vec::new();
    // Round 0 walks the root bucket, round 1 the top-level buckets that it names, and so on.
    let mut round = 0u32;
    while !buckets.is_empty() && !disproved.load(Ordering::Relaxed) && !interrupted.load(Ordering::Relaxed) {
        let mut splitter = Walk::new(db, &seen, meter, &interrupted, Sink::Disproved(&disproved));
        let mut subtrees = Vec::new();
        for (bucket, found) in buckets.iter().enumerate() {
            splitter.split(found.subtree(bucket), &mut subtrees);
        }
        statistics.add(&splitter.statistics);
        splitter.look();
        let remembered = if round == 1 { remembered(db, &buckets, visit)? } else { Vec::new() };
        let walk_share = |share: &Share| {
            let mut run = remembered.get(share.bucket).map(|bucket| visit.begin(*bucket, share.number));
            let mut on_leaf = |node: &Node<'_>| {
                if let Some(run) = &mut run {
                    visit.leaf(run, node);
                }
            };
            let mut walk = Walk::new(db, &seen, meter, &interrupted, Sink::Disproved(&disproved));
            walk.on_leaf = Some(&mut on_leaf);
            for subtree in subtrees.get(share.subtrees.clone()).unwrap_or_default() {
                if walk.stopped() {
                    break;
                }
                walk.subtree(subtree);
            }
            walk.look();
            let (leaf_depths, part, found) = (walk.leaf_depths, walk.statistics, walk.found);
            if let Some(run) = &mut run {
                visit.end(run);
            }
            (leaf_depths, part, found, run)
        };
        let shares = shares(&subtrees);
        let results: Vec<_> = shares.par_iter().map(walk_share).collect();
        let mut depths: Vec<Option<usize>> = vec![None; buckets.len()];
        let mut inner = Vec::new();
        for (share, (leaf_depths, part, found, run)) in shares.iter().zip(results) {
            statistics.add(&part);
            inner.extend(found);
            if let (Some((least, most, _)), Some(depth)) = (leaf_depths, depths.get_mut(share.bucket))
                && (least != most || *depth.get_or_insert(most) != most)
            {
                disproved.store(true, Ordering::Relaxed);
            }
            if let (Some(run), Some(found)) = (run, buckets.get(share.bucket)) {
                match visited.last_mut() {
                    Some((_, runs)) if share.number > 0 => Vec::push(runs, run),
                    _ => visited.push((found.root, vec![run])),
                }
            }
        }
        buckets = inner;
        round += 1;
    }
    let interrupted = interrupted.into_inner();
    (interrupted || !disproved.into_inner()).then_some(Proof {
        seen,
        statistics,
        interrupted,
        buckets: visited,
    })
}

impl<S: Source> Walk<'_, '_, S> {
    /// Goes down from `top`, level by level, until there is work for every core, and adds what is left to `out`.
    fn split(&mut self, top: Subtree, out: &mut Vec<Subtree>) {
        let mut level = vec![top];
        while level.len() < ENOUGH_SUBTREES {
            let is_branch = |tree: &Subtree| self.db.header(tree.page).is_ok_and(|h| h.flags == FLAG_BRANCH);
            if !level.iter().all(is_branch) {
                break;
            }
            let mut next = Vec::new();
            for tree in &level {
                let Some(node) = self.enter(tree.page, tree.parent, tree.bounds(), tree.depth) else {
                    return;
                };
                for index in 0..node.count() {
                    let low = node.key(index);
                    let high = if index + 1 < node.count() {
                        Some(node.key(index + 1))
                    } else {
                        tree.high.as_deref()
                    };
                    self.bound_bytes = self
                        .bound_bytes
                        .saturating_add(low.len())
                        .saturating_add(high.map_or(0, <[u8]>::len));
                    if self.bound_bytes > MOST_BOUND_BYTES {
                        // Keys that share their bytes: no file that bbolt wrote. One thread needs no copies.
                        self.disprove();
                        return;
                    }
                    next.push(Subtree {
                        bucket: tree.bucket,
                        page: node.child(index),
                        parent: node.id(),
                        depth: tree.depth + 1,
                        low: low.to_vec(),
                        high: high.map(<[u8]>::to_vec),
                    });
                }
            }
            level = next;
        }
        out.append(&mut level);
    }
}

/// Walks everything in key order on this thread and lists what is wrong.
fn search<S: Source>(
    db: &Db<S>,
    meter: &Meter<'_>,
    freelist: Option<&Freelist>,
    list: &mut Findings,
) -> (Seen, Statistics, bool) {
    let seen = Seen::new(db.page_count());
    let interrupted = AtomicBool::new(false);
    if !page_in_range(db, db.meta().root.0) {
        return (seen, Statistics::default(), false);
    }
    let before = list.kept.len();
    let mut walk = Walk::new(db, &seen, meter, &interrupted, Sink::List(list));
    walk.told_bytes = meter.told.load(Ordering::Relaxed);
    walk.claim_freelist(freelist);
    walk.all();
    walk.look();
    let statistics = walk.statistics;
    name_first_users(db, meter, freelist, list.kept.get_mut(before..).unwrap_or_default());
    (seen, statistics, interrupted.into_inner())
}

/// Fills in who used first the pages that are used twice: the same walk again, looking for just these.
fn name_first_users<S: Source>(
    db: &Db<S>,
    meter: &Meter<'_>,
    freelist: Option<&Freelist>,
    findings: &mut [Finding],
) {
    let is_double = |f: &Finding| matches!(f.fault.kind, FaultKind::MultipleReferences { .. });
    let doubles: BTreeMap<_, _> =
        findings.iter().filter(|f| is_double(f)).map(|f| (f.fault.page, None)).collect();
    if doubles.is_empty() {
        return;
    }
    let seen = Seen::new(db.page_count());
    let interrupted = AtomicBool::new(false);
    let mut walk = Walk::new(db, &seen, meter, &interrupted, Sink::Owners(doubles));
    walk.told_bytes = u64::MAX;
    walk.claim_freelist(freelist);
    walk.all();
    let Sink::Owners(owners) = walk.sink else { return };
    for finding in findings {
        if let FaultKind::MultipleReferences { first_user } = &mut finding.fault.kind
            && let Some(Some(owner)) = owners.get(&finding.fault.page)
        {
            *first_user = *owner;
        }
    }
}

fn page_in_range<S: Source>(db: &Db<S>, page: u64) -> bool {
    (2..db.meta().high_water_mark).contains(&page)
}

/// Byte offsets, within a meta page, of the fields that findings point at.
const AT_ROOT: u64 = HEADER_BYTES as u64 + 16;
const AT_FREELIST: u64 = HEADER_BYTES as u64 + 32;
const AT_HIGH_WATER_MARK: u64 = HEADER_BYTES as u64 + 40;

/// The metas beyond what opening asks of them. That the two transaction numbers differ by one, or which slot has the
/// even one, is no invariant: snapshots and bbolt's surgery break both (FORMATS A.2).
fn check_metas<S: Source>(db: &Db<S>, list: &mut Findings) {
    let page_size = u64::from(db.page_size());
    let file_bytes = db.source().len_bytes();
    for (slot, meta) in (0u64..).zip(db.metas()) {
        let page = PageId(slot);
        let is_active = page == active_page(db);
        let offset = slot * page_size;
        let mut push = |at: u64, len: u64, kind| {
            let span = Span { offset: offset + at, len };
            list.push(Fault { page, span, kind }, None, Vec::new(), None);
        };
        let meta = match meta {
            Ok(meta) => meta,
            Err(fault) => {
                push(HEADER_BYTES as u64, META_BYTES as u64, FaultKind::OtherMeta { fault: fault.clone() });
                continue;
            }
        };
        let header = db.source().bytes(offset, HEADER_BYTES as u64).ok();
        if let Some(header) = header.and_then(|bytes| PageHeader::parse(&bytes))
            && (header.id != slot || header.flags != FLAG_META)
        {
            let kind = FaultKind::MetaHeader { id: header.id, flags: header.flags };
            push(0, HEADER_BYTES as u64, kind);
        }
        let high_water_mark = meta.high_water_mark;
        let range = 2..high_water_mark;
        let outside = |field, found, at| (field, found, at);
        let root = (!range.contains(&meta.root.0)).then(|| outside("root page", meta.root.0, AT_ROOT));
        let freelist = (meta.freelist != NO_FREELIST && !range.contains(&meta.freelist))
            .then(|| outside("freelist", meta.freelist, AT_FREELIST));
        for (field, found, at) in root.into_iter().chain(freelist) {
            let kind = if is_active {
                FaultKind::MetaRange { field, found, high_water_mark }
            } else {
                FaultKind::OtherMetaRange { field, found, high_water_mark }
            };
            push(at, 8, kind);
        }
        if is_active && meta.logical_bytes() > file_bytes {
            let needed_bytes = meta.logical_bytes();
            push(AT_HIGH_WATER_MARK, 8, FaultKind::ShortFile { high_water_mark, needed_bytes, file_bytes });
        }
    }
}

/// A persisted freelist against what the trees use: nothing twice, nothing in use, nothing outside, nothing lost.
fn check_freelist<S: Source>(db: &Db<S>, freelist: Option<&Freelist>, seen: &Seen, list: &mut Findings) {
    let Some(Freelist::Persisted { page, free, .. }) = freelist else { return };
    let high_water_mark = db.meta().high_water_mark;
    let skipped = db.header(*page).is_ok_and(|h| h.count == freelist::COUNT_IN_FIRST_ID);
    let start = db.offset_of(*page) + HEADER_BYTES as u64 + if skipped { 8 } else { 0 };
    let mut listed = PageSet::new(db.page_count());
    for (index, id) in (0u64..).zip(free) {
        let mut push = |kind| {
            let span = Span { offset: start + index * 8, len: 8 };
            list.push(Fault { page: *id, span, kind }, Some(*page), Vec::new(), None);
        };
        if !page_in_range(db, id.0) {
            push(FaultKind::FreeOutOfBounds { high_water_mark });
        } else if !listed.insert(*id) {
            push(FaultKind::FreedTwice);
        } else if seen.is_used(*id) {
            push(FaultKind::ReachableFreed);
        }
    }
    for id in (2..db.page_count()).map(PageId) {
        if !seen.is_used(id) && !listed.contains(id) {
            list.push(db.fault(id, 0, FaultKind::UnreachableUnfreed), None, Vec::new(), None);
        }
    }
}
