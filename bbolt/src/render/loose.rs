//! A tree page whose elements are looked at one by one: what can still be shown of a page that is no sound
//! [`Node`](crate::Node).

use std::borrow::Cow;

use crate::fault::{Fault, FaultKind, Span};
use crate::page::{
    ELEMENT_BYTES, FLAG_BRANCH, FLAG_BUCKET, FLAG_LEAF, HEADER_BYTES, NodeKind, PageHeader, PageId, overlap,
    showable_elements,
};

/// One element that lies within its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'p> {
    /// The key.
    pub key: &'p [u8],
    /// A leaf's value; empty on a branch.
    pub value: &'p [u8],
    /// True when the value is a bucket.
    pub is_bucket: bool,
    /// A branch's child; page 0 on a leaf.
    pub child: PageId,
}

/// A branch or leaf of which only the header is believed.
#[derive(Debug)]
pub struct Loose<'a> {
    bytes: Cow<'a, [u8]>,
    id: PageId,
    offset: u64,
    kind: NodeKind,
    declared: u16,
    count: u16,
    /// For how many there is room.
    most: u16,
}

impl<'a> Loose<'a> {
    /// The page in `bytes`, which lies at `offset` and is called `id` in faults.
    ///
    /// # Errors
    /// When there is no whole header, or its flags are neither a branch's nor a leaf's.
    pub fn new(bytes: Cow<'a, [u8]>, id: PageId, offset: u64) -> Result<Self, Fault> {
        let len = bytes.len() as u64;
        let fault = |kind| Fault { page: id, span: Span { offset, len }, kind };
        let Some(header) = PageHeader::parse(&bytes) else {
            let needed_bytes = offset.saturating_add(HEADER_BYTES as u64);
            return Err(fault(FaultKind::Truncated { needed_bytes, file_bytes: offset.saturating_add(len) }));
        };
        let kind = match header.flags {
            FLAG_BRANCH => NodeKind::Branch,
            FLAG_LEAF => NodeKind::Leaf,
            flags => return Err(fault(FaultKind::NotATreePage { flags })),
        };
        let most = u16::try_from((bytes.len() - HEADER_BYTES) / ELEMENT_BYTES).unwrap_or(u16::MAX);
        let mut page = Self { bytes, id, offset, kind, declared: header.count, count: header.count, most: 0 };
        if header.count > most {
            page.count = page.count_by_first_key().min(most);
        }
        page.count = showable_elements(&page.bytes, kind, page.count);
        page.most = most;
        Ok(page)
    }

    /// How many elements stand before the first key, which every known writer puts right behind the last element.
    fn count_by_first_key(&self) -> u16 {
        let position = match self.kind {
            NodeKind::Branch => self.u32_at(HEADER_BYTES),
            NodeKind::Leaf => self.u32_at(HEADER_BYTES + 4),
        };
        u16::try_from(position / 16).unwrap_or(u16::MAX)
    }

    /// Branch or leaf.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// Number of elements looked at: those declared or, where there is no room for these, those in front of the first key.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Number of elements that the header declares.
    #[must_use]
    pub fn declared(&self) -> u16 {
        self.declared
    }

    /// What is wrong with all elements together: there is no room for so many as the header declares, or some share their bytes.
    /// Where they share them too often, not all are looked at.
    #[must_use]
    pub fn count_fault(&self) -> Option<Fault> {
        let room_bytes = self.bytes.len().saturating_sub(HEADER_BYTES) as u64;
        let kind = if self.declared > self.most {
            Some(FaultKind::TooManyElements {
                declared: self.declared.into(),
                room_bytes,
                most: room_bytes / ELEMENT_BYTES as u64,
            })
        } else {
            overlap(&self.bytes, self.kind, self.declared)
        };
        let span = Span { offset: self.offset, len: self.bytes.len() as u64 };
        kind.map(|kind| Fault { page: self.id, span, kind })
    }

    /// Element `index`, which is smaller than [`Self::count`].
    ///
    /// # Errors
    /// When its key or value does not lie within the page.
    pub fn element(&self, index: u16) -> Result<Element<'_>, Fault> {
        let at = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
        let is_leaf = self.kind == NodeKind::Leaf;
        let (position, key_len, value_len) = if is_leaf {
            (self.u32_at(at + 4), self.u32_at(at + 8), self.u32_at(at + 12))
        } else {
            (self.u32_at(at), self.u32_at(at + 4), 0)
        };
        let start = at as u64 + u64::from(position);
        let key_end = start + u64::from(key_len);
        let end = key_end + u64::from(value_len);
        let data_start = (HEADER_BYTES + usize::from(self.count) * ELEMENT_BYTES) as u64;
        let parts = self.part(start, key_end).zip(self.part(key_end, end));
        let Some((key, value)) = parts.filter(|_| start >= data_start && index < self.count) else {
            let (len, page_bytes) = (end - start, self.bytes.len() as u64);
            let kind = FaultKind::ElementOutOfPage { index, position: start, len, page_bytes };
            return Err(self.element_fault(index, kind));
        };
        let child =
            if is_leaf { 0 } else { u64::from(self.u32_at(at + 8)) | u64::from(self.u32_at(at + 12)) << 32 };
        let is_bucket = is_leaf && self.u32_at(at) & FLAG_BUCKET != 0;
        Ok(Element { key, value, is_bucket, child: PageId(child) })
    }

    /// A fault about element `index`.
    #[must_use]
    pub fn element_fault(&self, index: u16, kind: FaultKind) -> Fault {
        let at = (HEADER_BYTES + usize::from(index) * ELEMENT_BYTES) as u64;
        let span = Span { offset: self.offset.saturating_add(at), len: ELEMENT_BYTES as u64 };
        Fault { page: self.id, span, kind }
    }

    fn part(&self, start: u64, end: u64) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    fn u32_at(&self, at: usize) -> u32 {
        let mut word = [0; 4];
        if let Some(bytes) = self.bytes.get(at..at + 4) {
            word.copy_from_slice(bytes);
        }
        u32::from_le_bytes(word)
    }
}

/// Root page and sequence at the start of a bucket's value; `None` when it is too short for them.
#[must_use]
pub fn bucket_header(value: &[u8]) -> Option<(PageId, u64)> {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(value.get(at..at + 8)?);
        Some(u64::from_le_bytes(word))
    };
    Some((PageId(word(0)?), word(8)?))
}
