//! Pages: the header, and validated views of branch and leaf pages (FORMATS A.1, A.4).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use nom::IResult;
use nom::Parser;
use nom::number::complete::{le_u16, le_u32, le_u64};

use crate::fault::{Fault, FaultKind, Span, readable};
use crate::mend::{mended_element, mended_header};

/// A page's number; it starts at byte `number * page size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u64);

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Flag of a branch page.
pub const FLAG_BRANCH: u16 = 0x01;
/// Flag of a leaf page.
pub const FLAG_LEAF: u16 = 0x02;
/// Flag of a meta page.
pub const FLAG_META: u16 = 0x04;
/// Flag of a freelist page.
pub const FLAG_FREELIST: u16 = 0x10;

/// Length of a page header in bytes.
pub const HEADER_BYTES: usize = 16;
/// Length of one leaf or branch element in bytes.
pub const ELEMENT_BYTES: usize = 16;
/// Bit of a leaf element's flags that says its value is a bucket.
pub const FLAG_BUCKET: u32 = 0x01;
/// Levels below a bucket's root at which walking stops: with two children a branch, 64 levels address more pages
/// than a 64-bit page number can.
pub const MAX_DEPTH: usize = 64;

/// The 16 bytes every page starts with.
///
/// ```text
///  0       8      10      12          16
///  | id u64 | flags | count | overflow |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// The page's own number.
    pub id: u64,
    /// Exactly one of the `FLAG_…` values in a sound page.
    pub flags: u16,
    /// Number of elements, or of ids in a freelist.
    pub count: u16,
    /// Number of further pages that belong to this one.
    pub overflow: u32,
}

impl PageHeader {
    /// Parses the header at the start of `bytes`; `None` when there are fewer than 16.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let parsed: IResult<&[u8], (u64, u16, u16, u32)> = (le_u64, le_u16, le_u16, le_u32).parse(bytes);
        let (_, (id, flags, count, overflow)) = parsed.ok()?;
        Some(Self { id, flags, count, overflow })
    }

    /// The header as it stands on disk.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&self.id.to_le_bytes());
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[10..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..].copy_from_slice(&self.overflow.to_le_bytes());
        out
    }
}

/// The two kinds of page a tree is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Keys and child pages.
    Branch,
    /// Keys and values.
    Leaf,
}

/// A validated view of a branch or leaf page: every element's key and value lie within the page, so the accessors
/// cannot fail. Key order is not part of that; see [`Node::check_order`].
#[derive(Debug, Clone)]
pub struct Node<'a> {
    bytes: Cow<'a, [u8]>,
    id: PageId,
    offset: u64,
    kind: NodeKind,
    count: u16,
}

/// Of a page whose elements are looked at one by one: how often their bytes may exceed the page's. One damaged length makes it
/// twice at most.
const MOST_SHARING: u64 = 4;

/// How many of the first `count` elements of the tree page in `bytes` may be shown: all, but where they share bytes so often that
/// no damage explains it. A file may be built so that it would take hours.
#[must_use]
pub fn showable_elements(bytes: &[u8], kind: NodeKind, count: u16) -> u16 {
    let most = (bytes.len() as u64).saturating_mul(MOST_SHARING);
    let mut shared_bytes = 0u64;
    for (index, len) in (0..count).zip(lengths(bytes, kind, count)) {
        shared_bytes += len;
        if shared_bytes > most {
            return index;
        }
    }
    count
}

/// What is wrong when those of the first `count` elements that lie within the page have more bytes than it has behind its table.
#[must_use]
pub fn overlap(bytes: &[u8], kind: NodeKind, count: u16) -> Option<FaultKind> {
    let declared_bytes = lengths(bytes, kind, count).sum();
    let table_end = HEADER_BYTES + usize::from(count) * ELEMENT_BYTES;
    let room_bytes = (bytes.len() as u64).saturating_sub(table_end as u64);
    (declared_bytes > room_bytes).then_some(FaultKind::OverlappingElements { declared_bytes, room_bytes })
}

/// How long each element's key and value are together; 0 where they leave the page.
fn lengths(bytes: &[u8], kind: NodeKind, count: u16) -> impl Iterator<Item = u64> {
    let page_bytes = bytes.len() as u64;
    let table = bytes.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(ELEMENT_BYTES);
    table.take(usize::from(count)).zip(0u64..).map(move |(element, index)| {
        let word = |at: usize| {
            let word = element.get(at..at + 4).and_then(|word| word.try_into().ok());
            u64::from(u32::from_le_bytes(word.unwrap_or_default()))
        };
        let (position, len) = match kind {
            NodeKind::Branch => (word(0), word(4)),
            NodeKind::Leaf => (word(4), word(8) + word(12)),
        };
        let start = HEADER_BYTES as u64 + index * ELEMENT_BYTES as u64 + position;
        if start + len <= page_bytes { len } else { 0 }
    })
}

impl<'a> Node<'a> {
    /// Validates `bytes`, the whole page with its overflow, as a tree page.
    ///
    /// `id` is what the page is called in faults and `offset` where it lies in the file; the header's own id is the
    /// caller's to compare, since an inline bucket's page says 0.
    ///
    /// # Errors
    /// A [`Fault`] when the header is cut, the page is neither branch nor leaf, or an element leaves the page.
    pub fn parse(bytes: Cow<'a, [u8]>, id: PageId, offset: u64) -> Result<Self, Fault> {
        let page_bytes = bytes.len() as u64;
        let fault = |kind| Fault { page: id, span: Span { offset, len: page_bytes }, kind };
        let Some(header) = PageHeader::parse(&bytes) else {
            return Err(fault(FaultKind::Truncated {
                needed_bytes: offset.saturating_add(HEADER_BYTES as u64),
                file_bytes: offset.saturating_add(page_bytes),
            }));
        };
        let kind = match header.flags {
            FLAG_BRANCH => NodeKind::Branch,
            FLAG_LEAF => NodeKind::Leaf,
            flags => return Err(fault(FaultKind::NotATreePage { flags })),
        };
        let room = bytes.len() - HEADER_BYTES;
        let table_bytes = usize::from(header.count) * ELEMENT_BYTES;
        if table_bytes > room {
            return Err(fault(FaultKind::TooManyElements {
                declared: u64::from(header.count),
                room_bytes: room as u64,
                most: (room / ELEMENT_BYTES) as u64,
            }));
        }
        let node = Self { bytes, id, offset, kind, count: header.count };
        let data_start = (HEADER_BYTES + table_bytes) as u64;
        let mut declared_bytes = 0u64;
        for index in 0..node.count {
            let element = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
            let (position, len) = match kind {
                NodeKind::Branch => (node.u32_at(element), u64::from(node.u32_at(element + 4))),
                NodeKind::Leaf => (
                    node.u32_at(element + 4),
                    u64::from(node.u32_at(element + 8)) + u64::from(node.u32_at(element + 12)),
                ),
            };
            let start = element as u64 + u64::from(position);
            if start < data_start || start + len > page_bytes {
                return Err(Fault {
                    page: id,
                    span: Span { offset: offset.saturating_add(element as u64), len: ELEMENT_BYTES as u64 },
                    kind: FaultKind::ElementOutOfPage { index, position: start, len, page_bytes },
                });
            }
            // At most 65,535 times twice 2^32.
            declared_bytes += len;
        }
        // No writer lets elements share bytes. Whoever goes through all of them then does work in proportion to the page.
        let room_bytes = page_bytes - data_start;
        if declared_bytes > room_bytes {
            return Err(node.fault(FaultKind::OverlappingElements { declared_bytes, room_bytes }));
        }
        Ok(node)
    }

    /// As [`Self::parse`], with the header that [`mended_header`] finds, and the element that [`mended_element`] does.
    ///
    /// # Errors
    /// As [`Self::parse`], and when the first key does not begin where the count says.
    pub fn parse_mended(bytes: Cow<'a, [u8]>, id: PageId, offset: u64) -> Result<Self, Fault> {
        let header = PageHeader::parse(&bytes);
        let mended = header.map(|header| mended_header(&bytes, &header));
        let element = mended.and_then(|mended| mended_element(&bytes, mended.flags, mended.count));
        if mended == header && element.is_none() {
            let node = Self::parse(bytes, id, offset)?;
            return match node.miscount() {
                Some(kind) => Err(node.fault(kind)),
                None => Ok(node),
            };
        }
        let mut bytes = bytes.into_owned();
        if let (Some(place), Some(mended)) = (bytes.get_mut(..HEADER_BYTES), mended) {
            place.copy_from_slice(&mended.encode());
        }
        if let (Some(element), Some(mended)) = (element, mended) {
            element.write(&mut bytes, mended.flags);
        }
        Self::parse(Cow::Owned(bytes), id, offset)
    }

    /// That the first key does not begin right behind the table, as every known writer has it: then the count is wrong, or the
    /// first element.
    #[must_use]
    pub fn miscount(&self) -> Option<FaultKind> {
        let table_end = HEADER_BYTES + usize::from(self.count) * ELEMENT_BYTES;
        let start = if self.count == 0 { HEADER_BYTES } else { self.key_range(0).start };
        (start != table_end).then_some(FaultKind::Miscounted {
            declared: self.count,
            position: start as u64,
            table_end: table_end as u64,
        })
    }

    /// The page's number; of an inline bucket, that of the page which holds it.
    #[must_use]
    pub fn id(&self) -> PageId {
        self.id
    }

    /// Where the page starts in the file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The page's length with its overflow, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Bytes from the page's start to the end of its last element: what a writer filled.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let Some(last) = self.count.checked_sub(1) else { return HEADER_BYTES as u64 };
        match self.kind {
            NodeKind::Branch => self.key_range(last).end as u64,
            NodeKind::Leaf => self.value_range(last).end as u64,
        }
    }

    /// Branch or leaf.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// Number of elements.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The whole page as it stands in the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key of element `index`; empty when there is no such element.
    #[inline]
    #[must_use]
    pub fn key(&self, index: u16) -> &[u8] {
        self.part(self.key_range(index))
    }

    /// The value of a leaf's element `index`; empty on a branch and when there is no such element.
    #[inline]
    #[must_use]
    pub fn value(&self, index: u16) -> &[u8] {
        self.part(self.value_range(index))
    }

    /// All keys and values in one piece, `key₀ value₀ key₁ value₁ …`, when they lie in the page just so, as every known
    /// writer leaves them: what lets a checksum take a leaf at once.
    #[must_use]
    pub fn contiguous_pairs(&self) -> Option<&[u8]> {
        let start = self.key_range(0).start;
        let mut end = start;
        for index in 0..self.count {
            if self.key_range(index).start != end {
                return None;
            }
            end = self.value_range(index).end;
        }
        Some(self.part(start..end))
    }

    /// Where the value of element `index` lies within [`Self::bytes`].
    #[inline]
    #[must_use]
    pub fn value_range(&self, index: u16) -> Range<usize> {
        if self.kind == NodeKind::Branch || index >= self.count {
            return 0..0;
        }
        let start = self.key_range(index).end;
        let element = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
        start..start + self.u32_at(element + 12) as usize
    }

    /// The value of element `index` as bytes that live as long as the source, where they are borrowed from it.
    #[must_use]
    pub fn value_cow(&self, index: u16) -> Cow<'a, [u8]> {
        let range = self.value_range(index);
        match &self.bytes {
            Cow::Borrowed(all) => Cow::Borrowed(all.get(range).unwrap_or_default()),
            Cow::Owned(all) => Cow::Owned(all.get(range).unwrap_or_default().to_vec()),
        }
    }

    /// True when a leaf's element `index` holds a bucket.
    #[inline]
    #[must_use]
    pub fn is_bucket(&self, index: u16) -> bool {
        self.kind == NodeKind::Leaf
            && index < self.count
            && self.u32_at(HEADER_BYTES + usize::from(index) * ELEMENT_BYTES) & FLAG_BUCKET != 0
    }

    /// The child page of a branch's element `index`; page 0, which is never a child, when there is none.
    #[inline]
    #[must_use]
    pub fn child(&self, index: u16) -> PageId {
        if self.kind == NodeKind::Leaf || index >= self.count {
            return PageId(0);
        }
        let at = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES + 8;
        let mut word = [0; 8];
        word.copy_from_slice(self.part(at..at + 8));
        PageId(u64::from_le_bytes(word))
    }

    /// Number of elements whose key is smaller than `key` (binary search; on a page out of order, some number).
    #[must_use]
    pub fn lower_bound(&self, key: &[u8]) -> u16 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// That keys are not empty and strictly ascend.
    ///
    /// # Errors
    /// The first element that breaks the order.
    pub fn check_order(&self) -> Result<(), Fault> {
        for index in 0..self.count {
            if let Some(fault) = self.order_fault(index) {
                return Err(fault);
            }
        }
        Ok(())
    }

    /// What is wrong with the key of element `index` beside the one before it, if anything.
    #[must_use]
    pub fn order_fault(&self, index: u16) -> Option<Fault> {
        let key = self.key(index);
        if key.is_empty() {
            return Some(self.element_fault(index, FaultKind::EmptyKey { index }));
        }
        let previous = index.checked_sub(1).map(|i| self.key(i))?;
        (previous >= key).then(|| {
            let kind = FaultKind::KeyOrder { index, key: readable(key), previous: readable(previous) };
            self.element_fault(index, kind)
        })
    }

    /// A fault about the whole page.
    #[must_use]
    pub fn fault(&self, kind: FaultKind) -> Fault {
        Fault { page: self.id, span: Span { offset: self.offset, len: self.len_bytes() }, kind }
    }

    /// A fault about element `index`.
    #[must_use]
    pub fn element_fault(&self, index: u16, kind: FaultKind) -> Fault {
        let offset = self.offset + (HEADER_BYTES + usize::from(index) * ELEMENT_BYTES) as u64;
        Fault { page: self.id, span: Span { offset, len: ELEMENT_BYTES as u64 }, kind }
    }

    /// A branch with another key for its child `index`, where the one before ends; `None` where there is no room for it.
    pub(crate) fn with_key(&self, index: u16, key: &[u8]) -> Option<Self> {
        let element = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
        let start = match index.checked_sub(1) {
            Some(before) => self.key_range(before).end,
            None => HEADER_BYTES + usize::from(self.count) * ELEMENT_BYTES,
        };
        let end = start.checked_add(key.len())?;
        let next = if index + 1 < self.count { self.key_range(index + 1).start } else { self.bytes.len() };
        let (position, len) =
            (u32::try_from(start.checked_sub(element)?).ok()?, u32::try_from(key.len()).ok()?);
        if self.kind == NodeKind::Leaf || end > next {
            return None;
        }
        let mut bytes = self.bytes.to_vec();
        bytes.get_mut(start..end)?.copy_from_slice(key);
        bytes.get_mut(element..element + 4)?.copy_from_slice(&position.to_le_bytes());
        bytes.get_mut(element + 4..element + 8)?.copy_from_slice(&len.to_le_bytes());
        Self::parse(Cow::Owned(bytes), self.id, self.offset).ok()
    }

    #[inline]
    fn key_range(&self, index: u16) -> Range<usize> {
        if index >= self.count {
            return 0..0;
        }
        let element = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
        let (position, len) = match self.kind {
            NodeKind::Branch => (self.u32_at(element), self.u32_at(element + 4)),
            NodeKind::Leaf => (self.u32_at(element + 4), self.u32_at(element + 8)),
        };
        let start = element + position as usize;
        start..start + len as usize
    }

    #[inline]
    fn part(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    #[inline]
    fn u32_at(&self, at: usize) -> u32 {
        let mut word = [0; 4];
        if let Some(bytes) = self.bytes.get(at..at + 4) {
            word.copy_from_slice(bytes);
        }
        u32::from_le_bytes(word)
    }
}
