//! One thread's walk down the trees, page by page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::list::{Findings, MOST_NAMED_BYTES};
use super::metas::active_page;
use super::{Meter, Statistics};
use crate::bucket::{Bucket, Root};
use crate::db::Db;
use crate::fault::{Fault, FaultKind, readable};
use crate::freelist::Freelist;
use crate::page::{FLAG_BRANCH, FLAG_LEAF, MAX_DEPTH, Node, NodeKind, PageHeader, PageId};
use crate::page_use::PageUse;
use crate::source::Source;

/// How much of a page is fetched while the one before it is worked on: about as much as the memory delivers meanwhile.
pub(super) const AHEAD_BYTES: u64 = 1024;
/// Pages between two looks at [`Watch::interrupted`].
pub(super) const PAGES_PER_LOOK: u64 = 256;

/// The separators around a page: every key of it is at least `low` and smaller than `high`.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'k> {
    pub(super) low: &'k [u8],
    pub(super) high: Option<&'k [u8]>,
}

pub(super) const UNBOUNDED: Bounds<'static> = Bounds { low: &[], high: None };

/// A subtree to walk.
pub(super) struct Subtree {
    pub(super) bucket: usize,
    pub(super) page: PageId,
    pub(super) parent: PageId,
    pub(super) depth: usize,
    pub(super) low: Vec<u8>,
    pub(super) high: Option<Vec<u8>>,
}

impl Subtree {
    pub(super) fn bounds(&self) -> Bounds<'_> {
        Bounds { low: &self.low, high: self.high.as_deref() }
    }
}

/// A bucket with pages of its own, and where its name stands.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// The bucket it lies in, as an index into the list of buckets.
    pub(super) outer: usize,
    pub(super) holder: PageId,
    pub(super) element: u16,
    pub(super) root: PageId,
}

impl Found {
    pub(super) fn root<S: Source>(db: &Db<S>) -> Self {
        Self { outer: 0, holder: active_page(db), element: 0, root: db.meta().root }
    }

    /// A page as if it were a bucket's root; it stands for its own parent.
    pub(super) fn page(root: PageId) -> Self {
        Self { outer: 0, holder: root, element: 0, root }
    }

    pub(super) fn subtree(&self, bucket: usize) -> Subtree {
        Subtree { bucket, page: self.root, parent: self.holder, depth: 0, low: Vec::new(), high: None }
    }
}

/// What becomes of a fault.
pub(super) enum Sink<'c> {
    /// The proof fails; what else is wrong does not matter.
    Disproved(&'c AtomicBool),
    /// It is kept.
    List(&'c mut Findings),
    /// It is known already; only the first users of these pages are wanted.
    Owners(BTreeMap<PageId, Option<PageId>>),
}

/// One thread's walk.
pub(super) struct Walk<'c, 'd, S> {
    pub(super) db: &'d Db<S>,
    /// Who is shown the leaves.
    pub(super) on_leaf: Option<&'c mut dyn FnMut(&Node<'_>)>,
    pub(super) seen: &'c PageUse,
    pub(super) meter: &'c Meter<'c>,
    /// Set by whoever learns that the user asked to stop.
    pub(super) interrupted: &'c AtomicBool,
    pub(super) sink: Sink<'c>,
    pub(super) statistics: Statistics,
    /// The buckets that the walker knows, of which `bucket` is being walked; empty while proving.
    pub(super) known: Vec<Found>,
    pub(super) bucket: usize,
    /// Where the walk starts in place of the root bucket.
    pub(super) from: Option<Found>,
    /// True while the root bucket is walked, in which only buckets may be.
    pub(super) in_root_bucket: bool,
    /// Names of the bucket being walked, once somebody asked for them.
    pub(super) path: Option<(usize, Vec<Vec<u8>>)>,
    pub(super) found: Vec<Found>,
    /// Depths of the shallowest and the deepest leaf, and that of the first.
    pub(super) leaf_depths: Option<(usize, usize, usize)>,
    pub(super) walked_bytes: u64,
    /// How much of `walked_bytes` was told, or was told in an earlier walk.
    pub(super) told_bytes: u64,
    pub(super) pages_to_look: u64,
    pub(super) bound_bytes: usize,
}

impl<'c, 'd, S: Source> Walk<'c, 'd, S> {
    pub(super) fn new(
        db: &'d Db<S>,
        seen: &'c PageUse,
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
            from: None,
            in_root_bucket: false,
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
    pub(super) fn stopped(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
            || matches!(&self.sink, Sink::Disproved(flag) if flag.load(Ordering::Relaxed))
    }

    /// Walks one bucket's tree, or a part of it, in key order.
    pub(super) fn subtree(&mut self, start: &Subtree) {
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
    pub(super) fn enter(
        &mut self,
        id: PageId,
        parent: PageId,
        bounds: Bounds<'_>,
        depth: usize,
    ) -> Option<Node<'d>> {
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
    pub(super) fn load(&mut self, id: PageId, parent: PageId) -> Result<Node<'d>, Fault> {
        let db = self.db;
        if !self.seen.claim_head(id) {
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
        if overflow > 0 && end < self.seen.pages() {
            if let Some(taken) = self.seen.claim_overflow(id, overflow) {
                return Err(db.fault(taken, 0, FaultKind::MultipleReferences { first_user: id }));
            }
            self.own_overflow(id, end);
        }
        Node::parse(db.with_overflow(id, first, overflow)?, id, db.offset_of(id))
    }

    pub(super) fn own(&mut self, id: PageId, user: PageId) {
        if let Sink::Owners(owners) = &mut self.sink
            && let Some(owner) = owners.get_mut(&id)
        {
            owner.get_or_insert(user);
        }
    }

    pub(super) fn own_overflow(&mut self, id: PageId, end: u64) {
        if let Sink::Owners(owners) = &mut self.sink {
            // From `id` itself on, since a range that ends before its start panics; its owner stands already.
            for (_, owner) in owners.range_mut(id..=PageId(end.max(id.0))) {
                owner.get_or_insert(id);
            }
        }
    }

    pub(super) fn count_page(&mut self, node: &Node<'d>, depth: usize) {
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

    pub(super) fn look(&mut self) {
        if let Some(bytes) = self.walked_bytes.checked_sub(self.told_bytes).filter(|b| *b > 0) {
            self.meter.advance(bytes);
            self.told_bytes = self.walked_bytes;
        }
        if self.meter.watch.interrupted() {
            self.interrupted.store(true, Ordering::Relaxed);
        }
    }

    /// Keys ascend, and stay within the separators above.
    pub(super) fn keys(&mut self, node: &Node<'d>, parent: PageId, bounds: Bounds<'_>) {
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

    pub(super) fn leaf(&mut self, node: &Node<'d>, parent: PageId, bounds: Bounds<'_>, depth: usize) {
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
        if self.in_root_bucket && buckets < u64::from(node.count()) {
            self.values_at_top(node, parent, bounds);
        }
        self.statistics.keys += u64::from(node.count()) - buckets;
        self.statistics.buckets += buckets;
    }

    /// Told once a leaf: of a bucket's leaf that is taken for the root bucket, every element is one of these.
    fn values_at_top(&mut self, node: &Node<'d>, parent: PageId, bounds: Bounds<'_>) {
        let mut values = (0..node.count()).filter(|index| !node.is_bucket(*index));
        let Some(index) = values.next() else { return };
        let more = values.count();
        let kind = FaultKind::ValueAtTopLevel { index, key: readable(node.key(index)), more };
        self.report(node.element_fault(index, kind), Some(parent), Some(bounds));
    }

    pub(super) fn bucket_element(&mut self, node: &Node<'d>, index: u16, parent: PageId, bounds: Bounds<'_>) {
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
    pub(super) fn inline(&mut self, name: &[u8], inline: &Node<'d>, holder: PageId) {
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

    pub(super) fn report(&mut self, fault: Fault, parent: Option<PageId>, bounds: Option<Bounds<'_>>) {
        self.report_in(None, fault, parent, bounds);
    }

    pub(super) fn disprove(&self) {
        if let Sink::Disproved(flag) = &self.sink {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Hands `fault`, of the bucket being walked or of the bucket `inner` in it, to the sink.
    pub(super) fn report_in(
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
                list.is_named_out = true;
                return;
            }
            let mut bucket = path.to_vec();
            bucket.extend(inner.map(<[u8]>::to_vec));
            list.push(fault, parent, bucket, bounds);
        }
    }

    /// The names of the bucket being walked, outermost first, at most as many as a report keeps.
    pub(super) fn names(&self) -> Vec<Vec<u8>> {
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

    /// Walks all buckets from the root bucket, or from where the walk is to start, one after the other.
    pub(super) fn all(&mut self) {
        self.known = vec![self.from.unwrap_or_else(|| Found::root(self.db))];
        while let Some(found) = self.known.get(self.bucket).copied() {
            if self.stopped() {
                return;
            }
            self.leaf_depths = None;
            self.in_root_bucket = self.bucket == 0 && self.from.is_none();
            self.subtree(&found.subtree(self.bucket));
            self.known.append(&mut self.found);
            self.bucket += 1;
        }
    }

    pub(super) fn claim_freelist(&mut self, freelist: Option<&Freelist>) {
        if let Some(Freelist::Persisted { page, overflow, .. }) = freelist {
            self.seen.claim_head(*page);
            self.seen.claim_overflow(*page, *overflow);
            self.own(*page, active_page(self.db));
            self.own_overflow(*page, page.0.saturating_add(u64::from(*overflow)));
        }
    }
}
