//! Which pages the metas reach.

use super::{SurgeryError, Warning};
use crate::fault::{Fault, FaultKind, readable};
use crate::meta::{Meta, NO_FREELIST};
use crate::page::{MAX_DEPTH, Node, NodeKind, PageHeader, PageId};
use crate::page_file::PageFile;
use crate::range::PageSet;
use crate::source::Source;
use crate::watch::Watch;

/// Pages between two looks at [`Watch::interrupted`].
const PAGES_PER_LOOK: u64 = 256;
/// A bucket's root page and sequence.
const BUCKET_HEADER_BYTES: usize = 16;

/// The pages that trees and freelists occupy: two bits a page.
#[derive(Debug)]
pub(super) struct InUse {
    heads: PageSet,
    overflow: PageSet,
    pages: u64,
    /// The first thing wrong that was met. What lies below it is not known.
    pub(super) fault: Option<Fault>,
}

impl InUse {
    /// What the valid metas of `file` reach: both their trees, and the freelists that they name.
    pub(super) fn of_metas<S: Source>(file: &PageFile<S>, watch: &dyn Watch) -> Result<Self, SurgeryError> {
        let mut in_use = Self::new(file);
        let mut roots = Vec::new();
        for meta in file.metas().iter().flatten() {
            if !roots.contains(&meta.root) {
                // Two states of a file share most pages.
                in_use.walk(file, meta, true, watch)?;
                roots.push(meta.root);
            }
            in_use.claim_freelist(file, meta);
        }
        Ok(in_use)
    }

    /// What the tree of `meta` reaches.
    pub(super) fn of_tree<S: Source>(
        file: &PageFile<S>,
        meta: &Meta,
        watch: &dyn Watch,
    ) -> Result<Self, SurgeryError> {
        let mut in_use = Self::new(file);
        in_use.walk(file, meta, false, watch)?;
        Ok(in_use)
    }

    fn new<S: Source>(file: &PageFile<S>) -> Self {
        let pages = file.page_count();
        Self { heads: PageSet::new(pages), overflow: PageSet::new(pages), pages, fault: None }
    }

    /// True when a tree or a freelist occupies page `id`.
    pub(super) fn contains(&self, id: PageId) -> bool {
        self.heads.contains(id) || self.overflow.contains(id)
    }

    /// True when page `id` is the first of what occupies it.
    pub(super) fn is_head(&self, id: PageId) -> bool {
        self.heads.contains(id)
    }

    /// The page whose overflow page `id` is.
    pub(super) fn head_of(&self, id: PageId) -> Option<PageId> {
        if self.heads.contains(id) || !self.overflow.contains(id) {
            return None;
        }
        (2..id.0).rev().map(PageId).find(|page| self.heads.contains(*page))
    }

    /// What to tell about how much is known.
    pub(super) fn warning<S: Source>(&self, file: &PageFile<S>) -> Option<Warning> {
        match &self.fault {
            _ if file.active_slot().is_none() => Some(Warning::InUseUnknown),
            Some(fault) => Some(Warning::InUseInPart { fault: Box::new(fault.clone()) }),
            None => None,
        }
    }

    /// Walks all buckets of `meta`. With `shared`, what an earlier walk has met is passed over.
    fn walk<S: Source>(
        &mut self,
        file: &PageFile<S>,
        meta: &Meta,
        shared: bool,
        watch: &dyn Watch,
    ) -> Result<(), SurgeryError> {
        let end = meta.high_water_mark.min(self.pages);
        let mut walked: u64 = 0;
        let mut stack = vec![(meta.root, PageId(0), 0)];
        while let Some((id, parent, depth)) = stack.pop() {
            walked += 1;
            if walked.is_multiple_of(PAGES_PER_LOOK) && watch.interrupted() {
                return Err(SurgeryError::Interrupted);
            }
            if id.0 < 2 || id.0 >= end {
                let kind = FaultKind::OutOfBounds { high_water_mark: meta.high_water_mark };
                self.note(file.fault(id, 0, kind));
                continue;
            }
            if shared && self.heads.contains(id) {
                continue;
            }
            let taken = self.overflow.contains(id);
            if !self.heads.insert(id) || taken {
                self.note(file.fault(id, 0, FaultKind::MultipleReferences { first_user: parent }));
                continue;
            }
            if depth > MAX_DEPTH {
                self.note(file.fault(id, 0, FaultKind::TooDeep { most: MAX_DEPTH }));
                continue;
            }
            let node = match file.node(id) {
                Ok(node) => node,
                Err(fault) => {
                    self.note(fault);
                    continue;
                }
            };
            self.claim_overflow(file, id, meta.high_water_mark, &node);
            match node.kind() {
                NodeKind::Branch => {
                    stack.extend((0..node.count()).rev().map(|index| (node.child(index), id, depth + 1)));
                }
                NodeKind::Leaf => {
                    for index in (0..node.count()).filter(|index| node.is_bucket(*index)) {
                        match bucket_root(&node, index) {
                            Ok(PageId(0)) => {}
                            Ok(root) => stack.push((root, id, 0)),
                            Err(fault) => self.note(fault),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn claim_overflow<S: Source>(
        &mut self,
        file: &PageFile<S>,
        id: PageId,
        high_water_mark: u64,
        node: &Node<'_>,
    ) {
        let overflow = PageHeader::parse(node.bytes()).map_or(0, |header| header.overflow);
        // The node was read with its overflow, so that all of it is in the file.
        let last = id.0.saturating_add(u64::from(overflow));
        if last >= high_water_mark {
            self.note(file.fault(id, overflow, FaultKind::OutOfBounds { high_water_mark }));
        }
        for page in (id.0 + 1..=last).map(PageId) {
            let taken = self.heads.contains(page);
            if !self.overflow.insert(page) || taken {
                self.note(file.fault(page, 0, FaultKind::MultipleReferences { first_user: id }));
            }
        }
    }

    /// The freelist is expendable: what is wrong with it is no reason to know less of the trees.
    fn claim_freelist<S: Source>(&mut self, file: &PageFile<S>, meta: &Meta) {
        let id = PageId(meta.freelist);
        if meta.freelist == NO_FREELIST || id.0 < 2 || id.0 >= self.pages {
            return;
        }
        self.heads.insert(id);
        let overflow =
            file.whole(id).ok().and_then(|bytes| PageHeader::parse(&bytes)).map_or(0, |h| h.overflow);
        for page in (1..=u64::from(overflow)).map(|n| PageId(id.0.saturating_add(n))) {
            self.overflow.insert(page);
        }
    }
}

/// The root page of the bucket in a leaf's element; page 0 for one that lies in the leaf.
fn bucket_root(node: &Node<'_>, index: u16) -> Result<PageId, Fault> {
    let value = node.value(index);
    match value.first_chunk::<8>() {
        Some(root) if value.len() >= BUCKET_HEADER_BYTES => Ok(PageId(u64::from_le_bytes(*root))),
        _ => {
            let bucket = readable(node.key(index));
            let (len, needed) = (value.len() as u64, BUCKET_HEADER_BYTES as u64);
            Err(node.element_fault(index, FaultKind::BucketTooShort { bucket, len, needed }))
        }
    }
}
