//! Splitting a bucket into runs of leaves, so that several threads can walk it.

use crate::bucket::{Bucket, Root};
use crate::db::Db;
use crate::fault::{Fault, FaultKind};
use crate::page::{FLAG_BRANCH, FLAG_LEAF, MAX_DEPTH, Node, NodeKind, PageId};
use crate::source::Source;

/// A run of a bucket's leaves, in key order and disjoint from every other run of the same split.
#[derive(Debug)]
pub struct LeafRange<'d, S> {
    db: &'d Db<S>,
    leaves: Leaves<'d>,
}

#[derive(Debug)]
enum Leaves<'d> {
    Pages(Vec<PageId>),
    Inline(Box<Node<'d>>),
}

impl<'d, S: Source> LeafRange<'d, S> {
    /// Number of leaves.
    #[must_use]
    pub fn leaf_count(&self) -> usize {
        match &self.leaves {
            Leaves::Pages(pages) => pages.len(),
            Leaves::Inline(_) => 1,
        }
    }

    /// The leaves, in key order, each validated. Order within and between leaves is not looked at.
    pub fn nodes(&self) -> impl Iterator<Item = Result<Node<'d>, Fault>> + '_ {
        let (pages, inline) = match &self.leaves {
            Leaves::Pages(pages) => (pages.as_slice(), None),
            Leaves::Inline(node) => (&[][..], Some(Ok(Node::clone(node)))),
        };
        let db = self.db;
        pages.iter().map(move |id| leaf(db, *id)).chain(inline)
    }
}

fn leaf<S: Source>(db: &Db<S>, id: PageId) -> Result<Node<'_>, Fault> {
    let node = db.node(id)?;
    match node.kind() {
        NodeKind::Leaf => Ok(node),
        NodeKind::Branch => Err(node.fault(FaultKind::NotATreePage { flags: FLAG_BRANCH })),
    }
}

pub(crate) fn split<'d, S: Source>(
    bucket: &Bucket<'d, S>,
    parts: usize,
) -> Result<Vec<LeafRange<'d, S>>, Fault> {
    let db = bucket.db();
    let pages = match bucket.root() {
        Root::Inline(node) => {
            return Ok(vec![LeafRange { db, leaves: Leaves::Inline(Box::new(node.clone())) }]);
        }
        Root::Page(root) => leaf_pages(db, *root)?,
    };
    let parts = parts.clamp(1, pages.len().max(1));
    let (share, more) = (pages.len() / parts, pages.len() % parts);
    let mut ranges = Vec::with_capacity(parts);
    let mut rest = pages.as_slice();
    for part in 0..parts {
        let (head, tail) = rest.split_at(share + usize::from(part < more));
        ranges.push(LeafRange { db, leaves: Leaves::Pages(head.to_vec()) });
        rest = tail;
    }
    Ok(ranges)
}

/// Every leaf below `root`, in key order. Of a leaf only the header is read; each page, overflow included, counts
/// once, so work and memory are bounded by the file.
fn leaf_pages<S: Source>(db: &Db<S>, root: PageId) -> Result<Vec<PageId>, Fault> {
    let mut seen = PageSet::new(db.page_count());
    let mut leaves = Vec::new();
    let mut stack = vec![(root, root, 0)];
    while let Some((id, parent, depth)) = stack.pop() {
        if depth > MAX_DEPTH {
            return Err(db.fault(id, 0, FaultKind::TooDeep { most: MAX_DEPTH }));
        }
        if !seen.insert(id) {
            return Err(db.fault(id, 0, FaultKind::MultipleReferences { first_user: parent }));
        }
        let header = db.header(id)?;
        let end = id.0.saturating_add(u64::from(header.overflow)).min(db.page_count().saturating_sub(1));
        for page in (id.0 + 1..=end).map(PageId) {
            if !seen.insert(page) {
                return Err(db.fault(page, 0, FaultKind::MultipleReferences { first_user: id }));
            }
        }
        if header.flags == FLAG_LEAF {
            leaves.push(id);
            continue;
        }
        let node = db.node(id)?;
        if node.kind() == NodeKind::Leaf {
            leaves.push(id);
            continue;
        }
        if node.count() == 0 {
            return Err(node.fault(FaultKind::EmptyBranch));
        }
        stack.extend((0..node.count()).rev().map(|index| (node.child(index), id, depth + 1)));
    }
    Ok(leaves)
}

/// A set of the pages of one file, one bit a page. Pages beyond the file are never new: reading them is a fault anyway.
#[derive(Debug)]
pub struct PageSet {
    words: Vec<u64>,
    pages: u64,
}

impl PageSet {
    /// The empty set of the pages of a file that has this many.
    #[must_use]
    pub fn new(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(64)).unwrap_or_default();
        Self { words: vec![0; words], pages }
    }

    /// Whether `id` is in.
    #[must_use]
    pub fn contains(&self, id: PageId) -> bool {
        let word = usize::try_from(id.0 / 64).ok().and_then(|i| self.words.get(i));
        word.is_some_and(|word| word & 1u64 << (id.0 % 64) != 0)
    }

    /// Adds `id`; false when it is in already. A page outside the file is reported as new, for its reader to refuse.
    pub fn insert(&mut self, id: PageId) -> bool {
        if id.0 >= self.pages {
            return true;
        }
        let Some(word) = usize::try_from(id.0 / 64).ok().and_then(|i| self.words.get_mut(i)) else {
            return true;
        };
        let bit = 1u64 << (id.0 % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}
