//! What a tree still reaches, past everything that is wrong with it.
//!
//! [`reach`] walks down from a root page to the top-level buckets and the leaves of each. Where a page is damaged, cannot be read,
//! is not of its kind, is out of the bounds that the branch above sets, was met before, or is refused by the caller, the walk notes
//! a [`Hole`] and goes on beside it: an interval of keys of which this tree says nothing. All that is not in a hole is known to be
//! what the tree holds, and what it does not.
//!
//! Work and memory are bounded by the file: a page is followed once, and one that is refused is looked into a few times at most.
//! All cores walk, level by level, and which of two references to a page counts does not depend on them: the higher one, else the one
//! with the smaller keys, unless the page is out of the bounds that it sets.

mod walk;

use walk::Walk;

use crate::fault::Fault;
use crate::page::{Node, PageId};
use crate::page_file::PageFile;
use crate::page_use::PageUse;
use crate::source::Source;
use crate::survey::Interrupted;
use crate::watch::Watch;

/// Where a walk begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the page that a meta names: it must be in its place.
    Page(PageId),
    /// At a page of the file, counted from 0, whatever it calls itself.
    Index(u64),
}

/// An interval of keys of which a tree says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The first key that may be missing; empty where there is no lower bound.
    pub from: Vec<u8>,
    /// The first key behind the hole; `None` where there is no upper bound.
    pub to: Option<Vec<u8>>,
    /// The page that should have told.
    pub page: PageId,
    /// What is wrong with it; `None` when it is a sound page that the caller refused.
    pub fault: Option<Fault>,
}

impl Hole {
    /// Whether `key` may be missing because of it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && self.to.as_deref().is_none_or(|to| key < to)
    }
}

/// Where the pairs of a bucket are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Below this page. [`Reached::leaves`] has what is left of it.
    Tree(PageId),
    /// In the root bucket's leaf: `len` bytes at byte `offset` of the file are a leaf page.
    Inline {
        /// Where the page starts in the file, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// Nobody knows: the bucket's own header is damaged. There is one hole, which is everything.
    Unknown,
}

/// A top-level bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Its name.
    pub name: Vec<u8>,
    /// Where its pairs are.
    pub content: Content,
    /// Its leaves, in key order, each sound and within its bounds. Buckets in it are not followed.
    pub leaves: Vec<PageId>,
    /// What is missing, in key order and apart from each other.
    pub holes: Vec<Hole>,
}

impl Reached {
    /// The bucket's leaves, in key order; of an inline bucket its one page. One that cannot be read any more is left out.
    pub fn nodes<'p, S: Source>(&self, pages: &'p PageFile<S>) -> impl Iterator<Item = Node<'p>> {
        let inline = match self.content {
            Content::Inline { offset, len } => {
                let page = PageId(offset / u64::from(pages.page_size()));
                let bytes = pages.source().bytes(offset, len).ok();
                bytes.and_then(|bytes| Node::parse(bytes, page, offset).ok())
            }
            Content::Tree(_) | Content::Unknown => None,
        };
        inline.into_iter().chain(self.leaves.iter().filter_map(|id| pages.mended_node(*id).ok()))
    }
}

/// What a tree reaches.
#[derive(Debug)]
pub struct Tree {
    /// The top-level buckets, in key order.
    pub buckets: Vec<Reached>,
    /// Names that are missing from the root bucket, in key order: buckets may be named there.
    pub holes: Vec<Hole>,
    /// How the tree uses the pages of the file, counted from 0, the root's and the branches included: what
    /// [`carve`](crate::carve::carve()) takes.
    pub used: PageUse,
}

impl Tree {
    /// The bucket `name`.
    #[must_use]
    pub fn bucket(&self, name: &[u8]) -> Option<&Reached> {
        let index = self.buckets.binary_search_by(|bucket| bucket.name.as_slice().cmp(name)).ok()?;
        self.buckets.get(index)
    }

    /// True when nothing is missing anywhere.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.holes.is_empty() && self.buckets.iter().all(|bucket| bucket.holes.is_empty())
    }
}

/// Walks what `start` leads to.
///
/// `judge` says of a sound leaf within its bounds whether it can be of the bucket of this name; the root bucket's is empty. It may be
/// asked about a leaf more than once, and on any thread. `watch` hears of the bytes of the pages reached.
///
/// # Errors
/// [`Interrupted`]. Damage is no error but a [`Hole`].
pub fn reach<S: Source>(
    pages: &PageFile<S>,
    start: Start,
    judge: &(dyn Fn(&[u8], &Node<'_>) -> bool + Sync),
    watch: &dyn Watch,
) -> Result<Tree, Interrupted> {
    let mut walk = Walk::new(pages, judge, watch);
    let (leaves, holes) = walk.tree(&[], start)?;
    let mut buckets: Vec<Reached> = Vec::new();
    for leaf in leaves {
        // Read and found sound a moment ago, whatever it calls itself.
        let Ok(node) = walk.node(leaf) else { continue };
        for index in (0..node.count()).filter(|index| node.is_bucket(*index)) {
            buckets.push(walk.bucket(&node, index)?);
        }
    }
    Ok(Tree { buckets, holes, used: walk.into_used() })
}
