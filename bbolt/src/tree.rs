//! Writing trees: sorted elements in, branch and leaf pages out, bottom up and in one pass (FORMATS A.4, A.7).
//!
//! A [`TreeBuilder`] holds back no more than the elements of two pages a level, so it builds a bucket of any size
//! while its elements stream by. It can also take up an existing tree at its right edge and go on from there.
//!
//! What it promises of every tree, because a server dies later of a tree without it: leaves at one depth, no empty
//! page but the root of an empty bucket, at least [`LEAST_ELEMENTS`] children in every branch, and branch keys equal
//! to the first key of the child they name (bbolt finds a node in its parent by that key).

use std::borrow::Cow;

use crate::page::{ELEMENT_BYTES, FLAG_BRANCH, FLAG_BUCKET, FLAG_LEAF, HEADER_BYTES, PageHeader, PageId};

/// Longest key in bytes, as bbolt allows.
pub(crate) const MAX_KEY_BYTES: usize = 32_768;
/// Longest value in bytes, as bbolt allows.
pub(crate) const MAX_VALUE_BYTES: usize = 0x7FFF_FFFE;
/// Fewest elements a page is closed with while more follow: bbolt splits no page below that, and a branch with one
/// child makes its rebalancing panic.
pub(crate) const LEAST_ELEMENTS: usize = 2;
/// Most elements a page is closed with. bbolt panics at 0xFFFF; one is left for a last element without company.
const MOST_ELEMENTS: usize = 0xFFFF - 2;
/// Most bytes a page with its overflow may have, so that every position in it fits 32 bits.
const MOST_NODE_BYTES: u64 = u32::MAX as u64;
/// How full leaves are made, in tenths of a page: etcd's own fill for the bucket `key` and for defragmentation.
const LEAF_FILL_TENTHS: u64 = 9;
/// How full branches are made. A tree taken up at its right edge brings a branch of any fill along, and one that
/// still fits its page is not to be split.
const BRANCH_FILL_TENTHS: u64 = 10;

/// Why a key and a value cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// bbolt panics on a key of no bytes.
    #[error("the key is empty")]
    EmptyKey,
    /// The key is longer than 32768 bytes.
    #[error("the key has {len_bytes} bytes; at most 32768 are allowed")]
    KeyTooLong {
        /// Its length in bytes.
        len_bytes: usize,
    },
    /// The value is longer than 2^31 - 2 bytes.
    #[error("the value has {len_bytes} bytes; at most 2147483646 are allowed")]
    ValueTooLong {
        /// Its length in bytes.
        len_bytes: usize,
    },
}

/// A key and its value, of lengths that were checked.
#[derive(Debug, Clone)]
pub(crate) struct LeafElement<'a> {
    key: Cow<'a, [u8]>,
    value: Cow<'a, [u8]>,
    key_bytes: u32,
    value_bytes: u32,
    is_bucket: bool,
}

impl<'a> LeafElement<'a> {
    pub(crate) fn new(
        key: impl Into<Cow<'a, [u8]>>,
        value: impl Into<Cow<'a, [u8]>>,
        is_bucket: bool,
    ) -> Result<Self, ElementError> {
        let (key, value) = (key.into(), value.into());
        let key_bytes = key_len(&key)?;
        let value_bytes = u32::try_from(value.len())
            .ok()
            .filter(|_| value.len() <= MAX_VALUE_BYTES)
            .ok_or(ElementError::ValueTooLong { len_bytes: value.len() })?;
        Ok(Self { key, value, key_bytes, value_bytes, is_bucket })
    }

    pub(crate) fn is_bucket(&self) -> bool {
        self.is_bucket
    }
}

/// The smallest key of a child page, and the child.
#[derive(Debug, Clone)]
pub(crate) struct BranchElement {
    key: Vec<u8>,
    key_bytes: u32,
    child: PageId,
}

impl BranchElement {
    pub(crate) fn new(key: Vec<u8>, child: PageId) -> Result<Self, ElementError> {
        let key_bytes = key_len(&key)?;
        Ok(Self { key, key_bytes, child })
    }

    pub(crate) fn child(&self) -> PageId {
        self.child
    }
}

fn key_len(key: &[u8]) -> Result<u32, ElementError> {
    match u32::try_from(key.len()) {
        Ok(0) => Err(ElementError::EmptyKey),
        Ok(len) if key.len() <= MAX_KEY_BYTES => Ok(len),
        _ => Err(ElementError::KeyTooLong { len_bytes: key.len() }),
    }
}

/// What the elements of leaves and branches have in common.
trait Element {
    /// The page's flag.
    const FLAG: u16;

    /// Length of the element, key and value, in bytes.
    fn len_bytes(&self) -> u64;
    /// Length of key and value in bytes.
    fn data_bytes(&self) -> u32;
    /// The element, whose key stands `position` bytes behind its start.
    fn head(&self, position: u32) -> [u8; ELEMENT_BYTES];
    fn key(&self) -> &[u8];
    fn value(&self) -> &[u8];
}

impl Element for LeafElement<'_> {
    const FLAG: u16 = FLAG_LEAF;

    fn len_bytes(&self) -> u64 {
        ELEMENT_BYTES as u64 + u64::from(self.key_bytes) + u64::from(self.value_bytes)
    }

    fn data_bytes(&self) -> u32 {
        // 32 KiB and 2 GiB: no overflow.
        self.key_bytes.saturating_add(self.value_bytes)
    }

    fn head(&self, position: u32) -> [u8; ELEMENT_BYTES] {
        let flags = if self.is_bucket { FLAG_BUCKET } else { 0 };
        let mut out = [0; ELEMENT_BYTES];
        out[..4].copy_from_slice(&flags.to_le_bytes());
        out[4..8].copy_from_slice(&position.to_le_bytes());
        out[8..12].copy_from_slice(&self.key_bytes.to_le_bytes());
        out[12..].copy_from_slice(&self.value_bytes.to_le_bytes());
        out
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> &[u8] {
        &self.value
    }
}

impl Element for BranchElement {
    const FLAG: u16 = FLAG_BRANCH;

    fn len_bytes(&self) -> u64 {
        ELEMENT_BYTES as u64 + u64::from(self.key_bytes)
    }

    fn data_bytes(&self) -> u32 {
        self.key_bytes
    }

    fn head(&self, position: u32) -> [u8; ELEMENT_BYTES] {
        let mut out = [0; ELEMENT_BYTES];
        out[..4].copy_from_slice(&position.to_le_bytes());
        out[4..8].copy_from_slice(&self.key_bytes.to_le_bytes());
        out[8..].copy_from_slice(&self.child.0.to_le_bytes());
        out
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> &[u8] {
        &[]
    }
}

/// Appends the used bytes of a page with these elements to `out`: header, element table, keys and values.
fn encode<E: Element>(id: PageId, overflow: u32, elements: &[E], out: &mut Vec<u8>) {
    // A Splitter keeps the count below 0xFFFF and all positions within 32 bits.
    let count = u16::try_from(elements.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&PageHeader { id: id.0, flags: E::FLAG, count, overflow }.encode());
    let element_bytes = u32::from(u16::try_from(ELEMENT_BYTES).unwrap_or_default());
    let mut position = element_bytes.saturating_mul(u32::from(count));
    for element in elements {
        out.extend_from_slice(&element.head(position));
        // Positions count from each element's own start, which moves on as well.
        position = position.saturating_sub(element_bytes).saturating_add(element.data_bytes());
    }
    for element in elements {
        out.extend_from_slice(element.key());
        out.extend_from_slice(element.value());
    }
}

/// Length of the page that holds `elements`, in bytes.
fn node_bytes<E: Element>(elements: &[E]) -> u64 {
    HEADER_BYTES as u64 + elements.iter().map(E::len_bytes).sum::<u64>()
}

/// The page of an inline bucket, or `None` when these elements are not to be kept inline: bbolt's rule is a single
/// leaf without buckets in it, at most a quarter of a page long (FORMATS A.5).
pub(crate) fn encode_inline(elements: &[LeafElement<'_>], page_size: u32) -> Option<Vec<u8>> {
    if node_bytes(elements) > u64::from(page_size / 4) || elements.iter().any(LeafElement::is_bucket) {
        return None;
    }
    let mut page = Vec::new();
    encode(PageId(0), 0, elements, &mut page);
    Some(page)
}

/// Decides, element by element, where one level of a tree is cut into pages.
#[derive(Debug)]
struct Splitter {
    fill_bytes: u64,
    /// Elements of a full page that waits until the page after it may stand alone.
    closed: usize,
    closed_bytes: u64,
    open: usize,
    open_bytes: u64,
}

impl Splitter {
    fn new(fill_bytes: u64) -> Self {
        Self { fill_bytes, closed: 0, closed_bytes: 0, open: 0, open_bytes: HEADER_BYTES as u64 }
    }

    /// Takes the next element's length; returns the number of elements of a page that is now complete, if any.
    fn push(&mut self, len_bytes: u64) -> Option<usize> {
        let bytes = self.open_bytes.saturating_add(len_bytes);
        let full = self.open >= LEAST_ELEMENTS && (bytes > self.fill_bytes || self.open >= MOST_ELEMENTS);
        let mut done = None;
        if full || (self.open > 0 && bytes > MOST_NODE_BYTES) {
            // Only values of gigabytes come here with a page waiting: the one after it is then closed too.
            done = Some(self.closed).filter(|n| *n > 0);
            (self.closed, self.closed_bytes) = (self.open, self.open_bytes);
            (self.open, self.open_bytes) = (1, HEADER_BYTES as u64 + len_bytes);
        } else {
            self.open += 1;
            self.open_bytes = bytes;
        }
        if self.open >= LEAST_ELEMENTS && self.closed > 0 {
            done = Some(std::mem::take(&mut self.closed));
        }
        done
    }

    /// The numbers of elements of the last pages.
    fn finish(self) -> [usize; 2] {
        let together = self.closed_bytes + self.open_bytes - HEADER_BYTES as u64;
        if self.closed == 0 || self.open >= LEAST_ELEMENTS || together > MOST_NODE_BYTES {
            [self.closed, self.open]
        } else if self.closed > LEAST_ELEMENTS && together > self.fill_bytes {
            [self.closed - 1, self.open + 1]
        } else {
            [self.closed + self.open, 0]
        }
    }
}

/// One level of a tree: the elements that are not yet on a page.
#[derive(Debug)]
struct Level<E> {
    pending: Vec<E>,
    splitter: Splitter,
}

impl<E> Level<E> {
    fn new(page_size: u32, fill_tenths: u64) -> Self {
        Self { pending: Vec::new(), splitter: Splitter::new(u64::from(page_size) * fill_tenths / 10) }
    }

    /// The splitter, to be asked how the level ends; nothing more may be pushed.
    fn take_splitter(&mut self) -> Splitter {
        std::mem::replace(&mut self.splitter, Splitter::new(0))
    }
}

/// Where finished pages go.
pub(crate) trait PageSink {
    /// Why a page could not be taken.
    type Error;

    /// The number that the next page will have.
    fn next_id(&self) -> PageId;

    /// Takes a node: a whole number of pages, which bear the number [`Self::next_id`] gave and those after it.
    fn append(&mut self, node: &[u8]) -> Result<(), Self::Error>;
}

/// Gives nodes their number and their padding.
#[derive(Debug)]
struct Writer<'s, W> {
    sink: &'s mut W,
    page_size: u32,
    scratch: Vec<u8>,
}

impl<W: PageSink> Writer<'_, W> {
    fn write<E: Element>(&mut self, elements: &[E]) -> Result<PageId, W::Error> {
        let id = self.sink.next_id();
        let page_size = u64::from(self.page_size);
        let pages = node_bytes(elements).div_ceil(page_size);
        let overflow = u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX);
        self.scratch.clear();
        encode(id, overflow, elements, &mut self.scratch);
        let padded = usize::try_from(pages * page_size).unwrap_or(self.scratch.len());
        self.scratch.resize(padded, 0);
        self.sink.append(&self.scratch)?;
        Ok(id)
    }
}

/// Builds one tree from elements pushed in ascending order.
#[derive(Debug)]
pub(crate) struct TreeBuilder<'a, 's, W> {
    writer: Writer<'s, W>,
    leaves: Level<LeafElement<'a>>,
    /// The branches above, lowest first.
    branches: Vec<Level<BranchElement>>,
}

impl<'a, 's, W: PageSink> TreeBuilder<'a, 's, W> {
    pub(crate) fn new(sink: &'s mut W, page_size: u32) -> Self {
        Self {
            writer: Writer { sink, page_size, scratch: Vec::new() },
            leaves: Level::new(page_size, LEAF_FILL_TENTHS),
            branches: Vec::new(),
        }
    }

    /// Goes on with a tree whose right spine has these elements, the root's first: pages they name stay where they
    /// are, the spine itself is written anew.
    ///
    /// So that no branch ends up with one child, the lowest level must have two elements, and every other one, or
    /// none if all above it have none.
    pub(crate) fn resume(
        sink: &'s mut W,
        page_size: u32,
        spine: Vec<Vec<BranchElement>>,
    ) -> Result<Self, W::Error> {
        let mut builder = Self::new(sink, page_size);
        let height = spine.len();
        builder.branches.resize_with(height, || Level::new(page_size, BRANCH_FILL_TENTHS));
        // The root first: what lower levels write stands to the right of what the levels above have.
        for (depth, elements) in spine.into_iter().enumerate() {
            for element in elements {
                builder.push_child(height - 1 - depth, element)?;
            }
        }
        Ok(builder)
    }

    /// Adds a key, which must be greater than all before it.
    pub(crate) fn push(&mut self, element: LeafElement<'a>) -> Result<(), W::Error> {
        let done = self.leaves.splitter.push(element.len_bytes());
        self.leaves.pending.push(element);
        match done {
            Some(count) => self.write_leaf(count),
            None => Ok(()),
        }
    }

    /// Writes what is left and returns the root page; without any element, that of an empty leaf.
    pub(crate) fn finish(mut self) -> Result<PageId, W::Error> {
        for count in self.leaves.take_splitter().finish() {
            if count > 0 {
                self.write_leaf(count)?;
            }
        }
        let mut height = 0;
        while height < self.branches.len() {
            let is_top = self.branches[height + 1..].iter().all(|above| above.pending.is_empty());
            let level = &mut self.branches[height];
            match level.pending.as_slice() {
                // The only page of the level below is the root.
                [only] if is_top => return Ok(only.child),
                _ => {}
            }
            for count in level.take_splitter().finish() {
                if count > 0 {
                    let element = self.write_branch(height, count)?;
                    self.push_child(height + 1, element)?;
                }
            }
            height += 1;
        }
        let nothing: [LeafElement<'_>; 0] = [];
        self.writer.write(&nothing)
    }

    fn write_leaf(&mut self, count: usize) -> Result<(), W::Error> {
        let page = &self.leaves.pending[..count];
        let child = self.writer.write(page)?;
        let element = BranchElement { key: page[0].key.to_vec(), key_bytes: page[0].key_bytes, child };
        self.leaves.pending.drain(..count);
        self.push_child(0, element)
    }

    /// Writes a page of the branches at `height`; returns the element for the level above.
    fn write_branch(&mut self, height: usize, count: usize) -> Result<BranchElement, W::Error> {
        let level = &mut self.branches[height];
        let page = &level.pending[..count];
        let child = self.writer.write(page)?;
        let element = BranchElement { key: page[0].key.clone(), key_bytes: page[0].key_bytes, child };
        level.pending.drain(..count);
        Ok(element)
    }

    /// Adds an element to the branches at `height`, writing every page that fills up on the way to the root.
    fn push_child(&mut self, height: usize, element: BranchElement) -> Result<(), W::Error> {
        let (mut height, mut element) = (height, element);
        loop {
            if height == self.branches.len() {
                self.branches.push(Level::new(self.writer.page_size, BRANCH_FILL_TENTHS));
            }
            let level = &mut self.branches[height];
            let done = level.splitter.push(element.len_bytes());
            level.pending.push(element);
            let Some(count) = done else { return Ok(()) };
            element = self.write_branch(height, count)?;
            height += 1;
        }
    }
}
