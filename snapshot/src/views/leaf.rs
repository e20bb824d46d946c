//! A leaf as far as it holds: its elements one by one, those that leave the page as faults.

use std::borrow::Cow;

use bbolt::page::{ELEMENT_BYTES, FLAG_BUCKET, HEADER_BYTES, overlap, showable_elements};
use bbolt::{Fault, FaultKind, NodeKind, PageFile, PageHeader, PageId, Source, Span};

/// A leaf that calls itself one; nothing else of it was held against its bytes.
#[derive(Debug)]
pub(super) struct Leaf<'a> {
    id: PageId,
    offset: u64,
    bytes: Cow<'a, [u8]>,
    declared: u16,
    /// Elements that are looked at.
    count: u16,
    /// Elements for which there is room.
    room: u16,
}

/// One element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'l> {
    pub(super) key: &'l [u8],
    pub(super) value: &'l [u8],
    pub(super) is_bucket: bool,
}

impl<'a> Leaf<'a> {
    /// The leaf on `count` pages from `id` on.
    pub(super) fn read<S: Source>(pages: &'a PageFile<S>, id: PageId, count: u64) -> Result<Self, Fault> {
        // A page that is whole by itself is the common case, and its read says what is wrong if it fails.
        let bytes = match pages.header(id)?.overflow {
            overflow if u64::from(overflow) < count => pages.whole(id)?,
            overflow => {
                let len = count.saturating_mul(u64::from(pages.page_size()));
                let fault = |error: bbolt::SourceError| {
                    pages.fault(id, overflow, FaultKind::Unreadable { message: error.to_string() })
                };
                pages.source().bytes(pages.offset_of(id), len).map_err(fault)?
            }
        };
        Ok(Self::new(bytes, id, pages.offset_of(id)))
    }

    /// The leaf that `bytes` are; a bucket's inline page when its `id` is that of the page it lies in.
    pub(super) fn new(bytes: Cow<'a, [u8]>, id: PageId, offset: u64) -> Self {
        let declared = PageHeader::parse(&bytes).map_or(0, |header| header.count);
        let room = bytes.len().saturating_sub(HEADER_BYTES) / ELEMENT_BYTES;
        let room = u16::try_from(room).unwrap_or(u16::MAX);
        let mut leaf = Self { id, offset, bytes, declared, count: declared, room };
        if declared > room {
            leaf.count = elements_before(HEADER_BYTES as u64 + u64::from(leaf.word(HEADER_BYTES + 4)), room);
        }
        leaf.count = showable_elements(&leaf.bytes, NodeKind::Leaf, leaf.count);
        leaf
    }

    pub(super) fn id(&self) -> PageId {
        self.id
    }

    /// The number of elements that the header declares.
    pub(super) fn declared(&self) -> u16 {
        self.declared
    }

    /// The number of elements: as many as the header declares, unless the table has no room for so many; then as many as stand
    /// before the first one's key.
    /// Fewer still where they share their bytes too often.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    fn word(&self, at: usize) -> u32 {
        let word = self.bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        u32::from_le_bytes(word.unwrap_or_default())
    }

    /// What is wrong with the number of elements, if anything.
    pub(super) fn count_fault(&self) -> Option<Fault> {
        let most = self.count();
        let room = self.bytes.len().saturating_sub(HEADER_BYTES) as u64;
        let kind = if self.declared > self.room {
            let (declared, most) = (u64::from(self.declared), u64::from(most));
            Some(FaultKind::TooManyElements { declared, room_bytes: room, most })
        } else {
            overlap(&self.bytes, NodeKind::Leaf, self.declared)
        };
        let span = Span { offset: self.offset, len: self.bytes.len() as u64 };
        kind.map(|kind| Fault { page: self.id, span, kind })
    }

    /// Element `index`.
    pub(super) fn element(&self, index: u16) -> Result<Element<'_>, Fault> {
        let element = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
        let [flags, position, key_len, value_len] = [0, 4, 8, 12].map(|at| self.word(element + at));
        let start = element as u64 + u64::from(position);
        let len = u64::from(key_len) + u64::from(value_len);
        let data_start = (HEADER_BYTES + usize::from(self.count()) * ELEMENT_BYTES) as u64;
        let pair = usize::try_from(start).ok().filter(|_| start >= data_start).and_then(|start| {
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            self.bytes.get(start..end)?.split_at_checked(usize::try_from(key_len).ok()?)
        });
        let Some((key, value)) = pair else {
            let page_bytes = self.bytes.len() as u64;
            let kind = FaultKind::ElementOutOfPage { index, position: start, len, page_bytes };
            return Err(self.element_fault(index, kind));
        };
        Ok(Element { key, value, is_bucket: flags & FLAG_BUCKET != 0 })
    }

    /// A fault about element `index`.
    pub(super) fn element_fault(&self, index: u16, kind: FaultKind) -> Fault {
        let element = (HEADER_BYTES + usize::from(index) * ELEMENT_BYTES) as u64;
        let span = Span { offset: self.offset.saturating_add(element), len: ELEMENT_BYTES as u64 };
        Fault { page: self.id, span, kind }
    }

    /// Where `part`, which lies in this leaf, stands in the file.
    pub(super) fn offset_of(&self, part: &[u8]) -> u64 {
        let within = (part.as_ptr() as usize).saturating_sub(self.bytes.as_ptr() as usize);
        self.offset.saturating_add(within as u64)
    }
}

/// How many elements a table has when its first key stands at `first_key` of the page, or `room` when that makes no sense.
pub(super) fn elements_before(first_key: u64, room: u16) -> u16 {
    let before = first_key.saturating_sub(HEADER_BYTES as u64) / ELEMENT_BYTES as u64;
    u16::try_from(before).ok().filter(|before| (1..=room).contains(before)).unwrap_or(room)
}
