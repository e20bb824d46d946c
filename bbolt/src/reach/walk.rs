//! The walk down one tree, level by level: all cores look, one thread decides.

use std::borrow::Cow;
use std::collections::HashMap;

use rayon::prelude::*;

use super::{Content, Hole, Reached, Start};
use crate::bucket::Root;
use crate::fault::{Fault, FaultKind, readable};
use crate::mend::{is_laid_out, laid_out, mended_header};
use crate::page::{FLAG_BRANCH, FLAG_LEAF, HEADER_BYTES, MAX_DEPTH, Node, NodeKind, PageHeader, PageId};
use crate::page_file::PageFile;
use crate::page_use::PageUse;
use crate::source::Source;
use crate::survey::Interrupted;
use crate::watch::Watch;

/// How often a page is looked into that turns out not to belong where it is named.
const MOST_TRIES: u8 = 8;
/// How much of a page is fetched while the one before it is worked on, in bytes.
const AHEAD_BYTES: u64 = 1024;

/// Longest key that bbolt takes, in bytes.
const MOST_KEY_BYTES: u64 = 32_768;

/// A walk over the trees of one file.
pub(super) struct Walk<'w, S> {
    pages: &'w PageFile<S>,
    judge: &'w (dyn Fn(&[u8], &Node<'_>) -> bool + Sync),
    watch: &'w dyn Watch,
    /// By index.
    used: PageUse,
    /// How often pages were looked into in vain, by index.
    tries: HashMap<u64, u8>,
}

/// A part of a tree, in key order among its like.
enum Part {
    Leaf(PageId),
    Branch(Box<Branch>),
    Hole(Box<Hole>),
}

/// A branch whose children are next, and the keys that it answers for.
struct Branch {
    page: PageId,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

/// What a page that is named turns out to be.
enum Look {
    /// What it should be, if nothing else has it.
    Sound { kind: NodeKind, overflow: u32 },
    /// Something else.
    Wrong {
        /// `None` when the caller refused it.
        fault: Option<Box<Fault>>,
        /// Whether it was looked into.
        was_tried: bool,
    },
}

impl From<Fault> for Look {
    fn from(fault: Fault) -> Self {
        Self::Wrong { fault: Some(Box::new(fault)), was_tried: false }
    }
}

impl Look {
    fn in_vain(fault: Fault) -> Self {
        Self::Wrong { fault: Some(Box::new(fault)), was_tried: true }
    }
}

/// Who names a page, and what it may hold.
#[derive(Clone, Copy)]
struct Named<'k> {
    page: PageId,
    /// The branch that names it; the page itself where that is none.
    parent: PageId,
    /// Where the walk began at an index: whatever stands there.
    is_any: bool,
    /// The key that the branch has for it; `None` where no branch names it.
    separator: Option<&'k [u8]>,
    low: &'k [u8],
    high: Option<&'k [u8]>,
}

impl<'w, S: Source> Walk<'w, S> {
    pub(super) fn new(
        pages: &'w PageFile<S>,
        judge: &'w (dyn Fn(&[u8], &Node<'_>) -> bool + Sync),
        watch: &'w dyn Watch,
    ) -> Self {
        Self { pages, judge, watch, used: PageUse::new(pages.page_count()), tries: HashMap::new() }
    }

    pub(super) fn into_used(self) -> PageUse {
        self.used
    }

    /// The tree page in the place of `page`, whatever it calls itself.
    pub(super) fn node(&self, page: PageId) -> Result<Node<'w>, Fault> {
        let node = Node::parse_mended(self.pages.told(page)?, page, self.pages.offset_of(page))?;
        Ok(self.with_separators(node))
    }

    /// A branch whose keys do not ascend, or do not lie as every known writer leaves them, if that is because one of them is not the first
    /// key of the child that it is for: with that key.
    fn with_separators(&self, node: Node<'w>) -> Node<'w> {
        let is_laid_out = || laid_out(node.bytes(), FLAG_BRANCH, node.count()).is_some();
        if node.kind() == NodeKind::Leaf || node.check_order().is_ok() && is_laid_out() {
            return node;
        }
        let mut wrong = (0..node.count()).filter_map(|index| {
            let key = self.first_key_of(node.child(index))?;
            (key != node.key(index)).then_some((index, key))
        });
        let (Some((index, key)), None) = (wrong.next(), wrong.next()) else { return node };
        match node.with_key(index, &key) {
            Some(mended) if mended.check_order().is_ok() => mended,
            _ => node,
        }
    }

    /// The first key of a page that is where it says that it is, and a tree page.
    fn first_key_of(&self, page: PageId) -> Option<Vec<u8>> {
        let first = self.pages.first(page).ok()?;
        let header = PageHeader::parse(&first)
            .map(|header| mended_header(&first, &header))
            .filter(|header| header.id == page.0 && [FLAG_BRANCH, FLAG_LEAF].contains(&header.flags))?;
        self.first_key(page, &first, &header).map(Cow::into_owned)
    }

    /// The bucket that an element of the root bucket's leaf describes, and its tree.
    pub(super) fn bucket(&mut self, holder: &Node<'_>, index: u16) -> Result<Reached, Interrupted> {
        let name = holder.key(index).to_vec();
        let lost = |name: Vec<u8>, fault: Option<Fault>| {
            let everything = Hole { from: Vec::new(), to: None, page: holder.id(), fault };
            Reached { name, content: Content::Unknown, leaves: Vec::new(), holes: vec![everything] }
        };
        match Root::from_element(holder, index) {
            Err(fault) => Ok(lost(name, Some(fault))),
            Ok((Root::Page(root), _)) => {
                let (leaves, holes) = self.tree(&name, Start::Page(root))?;
                Ok(Reached { name, content: Content::Tree(root), leaves, holes })
            }
            Ok((Root::Inline(node), _)) => match node.check_order() {
                Err(fault) => Ok(lost(name, Some(fault))),
                Ok(()) if inline_miscount(&node).is_some() => {
                    let fault = inline_miscount(&node).map(|kind| node.fault(kind));
                    Ok(lost(name, fault))
                }
                Ok(()) if !(self.judge)(&name, &node) => Ok(lost(name, None)),
                Ok(()) => {
                    let content = Content::Inline { offset: node.offset(), len: node.len_bytes() };
                    Ok(Reached { name, content, leaves: Vec::new(), holes: Vec::new() })
                }
            },
        }
    }

    /// The leaves below `start`, and what is missing between them, both in key order.
    pub(super) fn tree(
        &mut self,
        bucket: &[u8],
        start: Start,
    ) -> Result<(Vec<PageId>, Vec<Hole>), Interrupted> {
        let (page, is_any) = match start {
            Start::Page(page) => (page, false),
            Start::Index(index) => (self.pages.id_at(index), true),
        };
        let root = Named { page, parent: page, is_any, separator: None, low: &[], high: None };
        let look = self.look(bucket, root, true);
        let mut parts = vec![self.decide(root, look)];
        for depth in 1.. {
            let branches: Vec<&Branch> = parts.iter().filter_map(Part::branch).collect();
            if branches.is_empty() {
                break;
            }
            let children = |branch: &&Branch| {
                if self.watch.interrupted() {
                    Err(Interrupted)
                } else {
                    Ok(self.children(bucket, branch, depth))
                }
            };
            let looks = branches.par_iter().map(children).collect::<Result<Vec<_>, _>>()?;
            let kind = most_are(&looks);
            let mut looks = looks.into_iter();
            let mut next = Vec::with_capacity(parts.len());
            for part in parts {
                match (part, &mut looks) {
                    (Part::Branch(branch), looks) => {
                        if let Some(looks) = looks.next() {
                            self.descend(&branch, looks, kind, &mut next);
                        }
                    }
                    (part, _) => next.push(part),
                }
            }
            parts = next;
        }
        let (mut leaves, mut holes) = (Vec::with_capacity(parts.len()), Vec::new());
        for part in parts {
            match part {
                Part::Leaf(page) => leaves.push(page),
                Part::Hole(hole) => holes.push(*hole),
                Part::Branch(_) => {}
            }
        }
        Ok((leaves, holes))
    }

    /// What the pages are that a branch names, in its order.
    fn children(&self, bucket: &[u8], branch: &Branch, depth: usize) -> Result<Vec<Look>, Fault> {
        let node = self.node(branch.page)?;
        if depth > MAX_DEPTH {
            return Err(node.fault(FaultKind::TooDeep { most: MAX_DEPTH }));
        }
        let look = |index: u16| {
            if index + 1 < node.count() {
                self.pages.source().will_read(self.pages.offset_of(node.child(index + 1)), AHEAD_BYTES);
            }
            self.look(bucket, branch.child(&node, index), false)
        };
        Ok((0..node.count()).map(look).collect())
    }

    /// Adds what the children of `branch` come to: those that are of the kind that most of their level are of.
    fn descend(
        &mut self,
        branch: &Branch,
        looks: Result<Vec<Look>, Fault>,
        of_level: NodeKind,
        parts: &mut Vec<Part>,
    ) {
        let read = looks.and_then(|looks| Ok((self.node(branch.page)?, looks)));
        match read {
            Ok((node, looks)) => {
                for (index, look) in (0..node.count()).zip(looks) {
                    let mut named = branch.child(&node, index);
                    if index == 0 {
                        // Keys in front of a branch's first are looked for below its first child.
                        named.low = &branch.low;
                    }
                    let look = match look {
                        Look::Sound { kind, .. } if kind != of_level => {
                            Look::Wrong { fault: None, was_tried: true }
                        }
                        look => look,
                    };
                    // A branch's key that is a bit too high must not hide what its child begins with.
                    let before = index.checked_sub(1).map(|before| node.key(before));
                    let is_in_hole = matches!(parts.last(), Some(Part::Hole(_)));
                    let begins = matches!(look, Look::Wrong { .. }) && !is_in_hole;
                    let begins = before.filter(|_| begins).and_then(|_| self.first_key_of(named.page));
                    let begins = begins.filter(|key| {
                        key.as_slice() < named.low
                            && before.is_some_and(|before| before < key.as_slice())
                            && differs_by_a_bit(key, named.low)
                    });
                    named.low = begins.as_deref().unwrap_or(named.low);
                    parts.push(self.decide(named, look));
                }
            }
            // Too deep, or a disk that does not read the same twice.
            Err(fault) => {
                let (from, to) = (branch.low.clone(), branch.high.clone());
                parts.push(Part::Hole(Box::new(Hole { from, to, page: branch.page, fault: Some(fault) })));
            }
        }
    }

    /// Takes a page that is sound and that nothing else has taken. `named` has the keys that it answers for.
    fn decide(&mut self, named: Named<'_>, look: Look) -> Part {
        let page = named.page;
        let keys = || (named.low.to_vec(), named.high.map(<[u8]>::to_vec));
        let index = self.pages.index_of(page);
        let (fault, was_tried) = match (look, index) {
            (Look::Sound { kind, overflow }, Some(index)) if self.take(index, overflow) => {
                return match kind {
                    NodeKind::Leaf => Part::Leaf(page),
                    NodeKind::Branch => {
                        let (low, high) = keys();
                        Part::Branch(Box::new(Branch { page, low, high }))
                    }
                };
            }
            (Look::Sound { .. }, _) => (Some(Box::new(self.used_twice(named))), true),
            (Look::Wrong { fault, was_tried }, _) => (fault, was_tried),
        };
        if let Some(index) = index.filter(|_| was_tried) {
            let tries = self.tries.entry(index).or_default();
            *tries = tries.saturating_add(1);
        }
        let (from, to) = keys();
        Part::Hole(Box::new(Hole { from, to, page, fault: fault.map(|fault| *fault) }))
    }

    /// Marks page `index` and its overflow as used; false when one of them is already, and then none is marked.
    fn take(&self, index: u64, overflow: u32) -> bool {
        let end = index.saturating_add(u64::from(overflow));
        let is_free = (index..=end).all(|index| !self.used.is_used(PageId(index)));
        is_free && self.used.claim(PageId(index), overflow)
    }

    fn used_twice(&self, named: Named<'_>) -> Fault {
        self.pages.fault(named.page, 0, FaultKind::MultipleReferences { first_user: named.parent })
    }

    /// Whether a page is what it is named as, whoever else names it.
    fn look(&self, bucket: &[u8], named: Named<'_>, is_root: bool) -> Look {
        let Named { page, is_any, .. } = named;
        let index = self.pages.index_of(page);
        if index.is_some_and(|index| {
            self.used.is_used(PageId(index))
                || self.tries.get(&index).is_some_and(|tries| *tries >= MOST_TRIES)
        }) {
            return self.used_twice(named).into();
        }
        let first = match self.pages.first(page) {
            Ok(first) => first,
            Err(fault) => return fault.into(),
        };
        let Some(header) = PageHeader::parse(&first) else {
            return Look::Wrong { fault: None, was_tried: false };
        };
        let header = mended_header(&first, &header);
        let wrong = |kind| Look::from(self.pages.fault(page, 0, kind));
        let is_own = header.id == page.0 || self.is_a_bit_off(named, &first, &header);
        if !is_own && !is_any {
            return wrong(FaultKind::WrongId { found: header.id });
        }
        if ![FLAG_BRANCH, FLAG_LEAF].contains(&header.flags) {
            return wrong(FaultKind::NotATreePage { flags: header.flags });
        }
        match self.first_key_fault(named, &first, &header) {
            Ok(()) => {}
            Err(Some(fault)) => return fault.into(),
            Err(None) => return Look::Wrong { fault: None, was_tried: false },
        }
        // A damaged header must not claim the pages behind, nor leave its own ones to others.
        let overflow = self.pages.told_overflow(page, &first, &header);
        let bytes = if overflow == 0 { Ok(first) } else { self.pages.told(page) };
        let node = match bytes.and_then(|bytes| Node::parse_mended(bytes, page, self.pages.offset_of(page))) {
            Ok(node) => self.with_separators(node),
            Err(fault) => return Look::in_vain(fault),
        };
        self.watch.advance(node.len_bytes());
        if let Err(fault) = sound(&node, named, is_root) {
            return Look::in_vain(fault);
        }
        if node.kind() == NodeKind::Leaf && !(self.judge)(bucket, &node) {
            return Look::Wrong { fault: None, was_tried: true };
        }
        // What is not in its place has no claim on the pages behind.
        let overflow = if is_own { overflow } else { 0 };
        Look::Sound { kind: node.kind(), overflow }
    }

    /// Whether a page has a bit too many or too few in its number, and is in all else what it is named as.
    fn is_a_bit_off(&self, named: Named<'_>, first: &[u8], header: &PageHeader) -> bool {
        (header.id ^ named.page.0).count_ones() == 1
            && is_laid_out(first, header)
            && named.separator.is_some()
            && named.separator == self.first_key(named.page, first, header).as_deref()
    }

    /// What is wrong with the first key of a page beside the branch above, found out before any work is done that grows with the
    /// page: of all branches of a level at most one has bounds that a page fits into.
    ///
    /// bbolt writes the branches above with every page, and has in them the page's first key as it is. A page with another one, though it
    /// fits between its neighbours, was freed and used again for something else since: no fault is named for that.
    fn first_key_fault(
        &self,
        named: Named<'_>,
        first: &[u8],
        header: &PageHeader,
    ) -> Result<(), Option<Fault>> {
        let Some(key) = self.first_key(named.page, first, header) else { return Ok(()) };
        if let Some(kind) = out_of_bounds(&key, 0, named) {
            return Err(Some(self.pages.fault(named.page, 0, kind)));
        }
        if named.separator.is_some_and(|separator| separator != key.as_ref()) { Err(None) } else { Ok(()) }
    }

    /// The first key of a page, if it lies within the page.
    fn first_key<'f>(&'f self, page: PageId, first: &'f [u8], header: &PageHeader) -> Option<Cow<'f, [u8]>> {
        if header.count == 0 {
            return None;
        }
        let word = |at: usize| {
            let word = first.get(at..at + 4).and_then(|word| word.try_into().ok());
            u64::from(u32::from_le_bytes(word.unwrap_or_default()))
        };
        let at = if header.flags == FLAG_LEAF { HEADER_BYTES + 4 } else { HEADER_BYTES };
        let start = HEADER_BYTES as u64 + word(at);
        let len = word(at + 4).min(MOST_KEY_BYTES);
        let end = start + len;
        if end <= first.len() as u64 {
            let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
            return first.get(start..end).map(Cow::Borrowed);
        }
        let is_within = end <= (u64::from(header.overflow) + 1) * u64::from(self.pages.page_size());
        let offset = self.pages.offset_of(page).saturating_add(start);
        is_within.then(|| self.pages.source().bytes(offset, len).ok())?
    }
}

impl Part {
    fn branch(&self) -> Option<&Branch> {
        match self {
            Self::Branch(branch) => Some(branch),
            Self::Leaf(_) | Self::Hole(_) => None,
        }
    }
}

impl Branch {
    /// The child that element `index` of `node`, which is this branch, names.
    fn child<'k>(&'k self, node: &'k Node<'_>, index: u16) -> Named<'k> {
        let high = if index + 1 < node.count() { Some(node.key(index + 1)) } else { self.high.as_deref() };
        let separator = node.key(index);
        let page = node.child(index);
        Named { page, parent: self.page, is_any: false, separator: Some(separator), low: separator, high }
    }
}

/// Whether two keys are equal but for one bit.
fn differs_by_a_bit(a: &[u8], b: &[u8]) -> bool {
    let bits: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
    a.len() == b.len() && bits == 1
}

/// What is wrong with the count of an inline page: of one without elements nothing stands behind its header.
fn inline_miscount(node: &Node<'_>) -> Option<FaultKind> {
    let is_empty = node.count() == 0 && node.len_bytes() > HEADER_BYTES as u64;
    let (position, table_end) = (node.len_bytes(), HEADER_BYTES as u64);
    node.miscount().or_else(|| is_empty.then_some(FaultKind::Miscounted { declared: 0, position, table_end }))
}

/// The kind that most of the pages of one level are of; leaves when there are as many of both. All leaves of a bucket lie equally deep,
/// so a page of the other kind is of another transaction.
fn most_are(looks: &[Result<Vec<Look>, Fault>]) -> NodeKind {
    let (mut leaves, mut branches) = (0u64, 0u64);
    for look in looks.iter().flatten().flatten() {
        match look {
            Look::Sound { kind: NodeKind::Leaf, .. } => leaves += 1,
            Look::Sound { kind: NodeKind::Branch, .. } => branches += 1,
            Look::Wrong { .. } => {}
        }
    }
    if branches > leaves { NodeKind::Branch } else { NodeKind::Leaf }
}

/// What is wrong with `key`, of element `index`, beside the branch above.
fn out_of_bounds(key: &[u8], index: u16, named: Named<'_>) -> Option<FaultKind> {
    if key < named.low {
        return Some(FaultKind::BelowSeparator { key: readable(key), separator: readable(named.low) });
    }
    let bound = named.high.filter(|high| key >= *high)?;
    Some(FaultKind::AboveBound { index, key: readable(key), bound: readable(bound) })
}

/// That a page whose elements lie within it has some, in order and within the bounds of the branch above.
fn sound(node: &Node<'_>, named: Named<'_>, is_root: bool) -> Result<(), Fault> {
    let Some(last) = node.count().checked_sub(1) else {
        return match node.kind() {
            NodeKind::Branch => Err(node.fault(FaultKind::EmptyBranch)),
            NodeKind::Leaf if is_root => Ok(()),
            NodeKind::Leaf => Err(node.fault(FaultKind::EmptyLeaf)),
        };
    };
    node.check_order()?;
    for index in [0, last] {
        if let Some(kind) = out_of_bounds(node.key(index), index, named) {
            return Err(node.element_fault(index, kind));
        }
    }
    Ok(())
}
