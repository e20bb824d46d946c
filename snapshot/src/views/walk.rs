//! The leaves of one tree in order, past whatever is broken on the way.

use bbolt::page::{ELEMENT_BYTES, FLAG_BRANCH, FLAG_LEAF, HEADER_BYTES, MAX_DEPTH};
use bbolt::{Fault, FaultKind, PageFile, PageId, PageSet, Source};

use super::leaf::{Element, Leaf, elements_before};

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Backward,
}

/// Where a bucket's tree starts.
#[derive(Debug)]
pub(super) enum Start {
    Page(PageId),
    /// The bucket's inline page, on which page it lies, and where in the file.
    Inline(Vec<u8>, PageId, u64),
}

impl Start {
    /// The tree of the bucket that `element` of `leaf` describes.
    pub(super) fn of(leaf: &Leaf<'_>, index: u16, element: &Element<'_>) -> Result<Self, Fault> {
        let bucket = || bbolt::fault::readable(element.key);
        let too_short = |needed: usize| {
            let (len, needed) = (element.value.len() as u64, needed as u64);
            leaf.element_fault(index, FaultKind::BucketTooShort { bucket: bucket(), len, needed })
        };
        let header = bbolt::bucket::BUCKET_HEADER_BYTES;
        let Some((root, _)) = element.value.split_first_chunk().filter(|_| element.value.len() >= header)
        else {
            return Err(too_short(header));
        };
        match u64::from_le_bytes(*root) {
            0 => {}
            root => return Ok(Self::Page(PageId(root))),
        }
        let page = element.value.get(header..).unwrap_or_default();
        let Some(head) = bbolt::PageHeader::parse(page) else {
            return Err(too_short(header + HEADER_BYTES));
        };
        if head.flags != FLAG_LEAF {
            let kind = FaultKind::InlineNotALeaf { bucket: bucket(), flags: head.flags };
            return Err(leaf.element_fault(index, kind));
        }
        Ok(Self::Inline(page.to_vec(), leaf.id(), leaf.offset_of(page)))
    }
}

/// What a walk comes to.
#[derive(Debug)]
pub(super) enum Step {
    /// A leaf and the number of pages that are its own.
    Leaf(PageId, u64),
    Fault(Box<Fault>),
}

/// Goes through one or several trees, of whose pages each is visited once.
pub(super) struct Walk<'p, S> {
    pages: &'p PageFile<S>,
    high_water_mark: u64,
    seen: PageSet,
    way: Way,
    stack: Vec<(PageId, PageId, usize)>,
    pending: Option<Step>,
}

impl<'p, S: Source> Walk<'p, S> {
    /// A walk that has nowhere to go yet.
    pub(super) fn new(pages: &'p PageFile<S>, high_water_mark: u64, way: Way) -> Self {
        let seen = PageSet::new(pages.page_count());
        Self { pages, high_water_mark, seen, way, stack: Vec::new(), pending: None }
    }

    /// The next steps are those of the tree at `root`, which `user` names.
    pub(super) fn enter(&mut self, root: PageId, user: PageId) {
        self.stack.push((root, user, 0));
    }

    /// The pages visited, overflow included.
    pub(super) fn into_seen(self) -> PageSet {
        self.seen
    }

    fn visit(&mut self, id: PageId, user: PageId, depth: usize) -> Result<Option<Step>, Fault> {
        if depth > MAX_DEPTH {
            return Err(self.pages.fault(id, 0, FaultKind::TooDeep { most: MAX_DEPTH }));
        }
        if id.0 < 2 || id.0 >= self.high_water_mark {
            let kind = FaultKind::OutOfBounds { high_water_mark: self.high_water_mark };
            return Err(self.pages.fault(id, 0, kind));
        }
        let header = self.pages.header(id)?;
        if !self.seen.insert(id) {
            return Err(self.pages.fault(id, 0, FaultKind::MultipleReferences { first_user: user }));
        }
        if header.id != id.0 {
            return Err(self.pages.fault(id, 0, FaultKind::WrongId { found: header.id }));
        }
        if header.flags != FLAG_LEAF && header.flags != FLAG_BRANCH {
            return Err(self.pages.fault(id, 0, FaultKind::NotATreePage { flags: header.flags }));
        }
        let own = self.own_pages(id, header.overflow);
        if header.flags == FLAG_LEAF {
            return Ok(Some(Step::Leaf(id, own)));
        }
        self.children(id, own, header.count, depth)?;
        Ok(None)
    }

    /// How many pages belong to `id`: as many as it says, unless the file ends or another page's begin; that is a fault, kept
    /// for the step after this one.
    fn own_pages(&mut self, id: PageId, overflow: u32) -> u64 {
        let declared = u64::from(overflow) + 1;
        let there = declared.min(self.pages.page_count() - id.0);
        for page in (1..there).map(|next| PageId(id.0 + next)) {
            if !self.seen.insert(page) {
                let kind = FaultKind::MultipleReferences { first_user: id };
                self.pending = Some(Step::Fault(Box::new(self.pages.fault(page, 0, kind))));
                return page.0 - id.0;
            }
        }
        if there < declared {
            let page_size = u64::from(self.pages.page_size());
            let kind = FaultKind::Truncated {
                needed_bytes: id.0.saturating_add(declared).saturating_mul(page_size),
                file_bytes: self.pages.source().len_bytes(),
            };
            self.pending = Some(Step::Fault(Box::new(self.pages.fault(id, overflow, kind))));
        }
        there
    }

    /// Puts the children of the branch `id` on the stack; their numbers stand in the table, whatever the keys are.
    fn children(&mut self, id: PageId, own: u64, count: u16, depth: usize) -> Result<(), Fault> {
        let len = own.saturating_mul(u64::from(self.pages.page_size()));
        let unreadable = |error: bbolt::SourceError| {
            self.pages.fault(id, 0, FaultKind::Unreadable { message: error.to_string() })
        };
        let bytes = self.pages.source().bytes(self.pages.offset_of(id), len).map_err(unreadable)?;
        let table = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let room = u16::try_from(table.len() / ELEMENT_BYTES).unwrap_or(u16::MAX);
        let most = if count <= room {
            count
        } else {
            let position = table.first_chunk().map_or(0, |position| u32::from_le_bytes(*position));
            elements_before(HEADER_BYTES as u64 + u64::from(position), room)
        };
        if most == 0 {
            return Err(self.pages.fault(id, 0, FaultKind::EmptyBranch));
        }
        let elements = table.chunks_exact(ELEMENT_BYTES).take(usize::from(most));
        let child = |element: &[u8]| {
            let page = element.get(8..).and_then(|page| page.try_into().ok()).map(u64::from_le_bytes);
            (PageId(page.unwrap_or_default()), id, depth + 1)
        };
        match self.way {
            Way::Forward => self.stack.extend(elements.rev().map(child)),
            Way::Backward => self.stack.extend(elements.map(child)),
        }
        if most < count {
            let (declared, room_bytes, most) = (u64::from(count), table.len() as u64, u64::from(most));
            return Err(self.pages.fault(id, 0, FaultKind::TooManyElements { declared, room_bytes, most }));
        }
        Ok(())
    }
}

impl<S: Source> Iterator for Walk<'_, S> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.pending.take() {
                return Some(step);
            }
            let (id, user, depth) = self.stack.pop()?;
            match self.visit(id, user, depth) {
                Ok(Some(step)) => return Some(step),
                Ok(None) => {}
                Err(fault) => return Some(Step::Fault(Box::new(fault))),
            }
        }
    }
}
