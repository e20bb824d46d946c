//! The check engine: every invariant of bbolt's own check and those it leaves out (FORMATS A.8).
//!
//! A sound file is proved sound by all cores at once, each taking subtrees (`prove`). As soon as anything is wrong that
//! proof is given up and one thread walks the file again in key order (`search`), so that the list of findings is
//! complete, and the same on every run and machine. Beyond the findings, memory is two bits a page and a few bytes a bucket.

mod free;
mod list;
mod metas;
mod prove;
mod search;
mod walk;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::db::Db;
use crate::fault::Fault;
use crate::freelist::Freelist;
use crate::page::{Node, PageId};
use crate::source::Source;
use crate::watch::Watch;
use free::{check_freed_in_use, check_freelist};
use list::Findings;
use metas::{active_page, check_metas, page_in_range};
use prove::prove;
use search::search;
use walk::Found;

/// Most findings a report keeps; the rest are counted.
pub const MOST_FINDINGS: usize = 100_000;
/// Pages from which on it pays to wake the other cores.
const PARALLEL_FROM_PAGES: u64 = 1024;
/// Most runs into which a bucket's leaves are cut for a [`Visit`]: enough to keep all cores busy to the end, few enough
/// for what each costs.
pub const MOST_RUNS: u16 = 256;

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
            let (seen, statistics, interrupted) = search(db, &meter, freelist.as_ref(), None, &mut list);
            (seen, statistics, interrupted, None)
        }
    };

    statistics.pages = pages;
    statistics.meta_pages = db.metas().iter().flatten().count() as u64;
    if !interrupted {
        check_freelist(db, freelist.as_ref(), &seen, &mut list);
    }
    // A damaged branch may name the metas, which are none of those counted.
    let metas = [PageId(0), PageId(1)].into_iter().filter(|page| seen.is_used(*page)).count() as u64;
    let used = seen.used() - metas;
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
    list.sort();
    let report = Report { findings: list.kept, dropped: list.dropped, statistics, interrupted };
    Visited { report, buckets: buckets.filter(|_| !interrupted) }
}

/// Checks only what lies below `page`, as if it were a bucket's root: its subtree and the buckets in it.
///
/// The metas, the freelist itself and what nothing reaches are left out; that a page of the subtree is listed as free is
/// not. `page` may be one that no tree reaches, such as an older version of a leaf. `watch` hears of the pages walked.
pub fn check_from<S: Source>(db: &Db<S>, page: PageId, watch: &dyn Watch) -> Report {
    let meter = Meter { watch, told: AtomicU64::new(0) };
    let mut list = Findings::default();
    let (seen, mut statistics, interrupted) = search(db, &meter, None, Some(Found::page(page)), &mut list);
    statistics.pages = db.page_count();
    if !interrupted {
        check_freed_in_use(db, db.freelist().ok().as_ref(), &seen, &mut list);
    }
    list.sort();
    Report { findings: list.kept, dropped: list.dropped, statistics, interrupted }
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
