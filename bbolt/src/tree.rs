//! Writing trees: sorted elements in, branch and leaf pages out, bottom up and in one pass (FORMATS A.4, A.7).
//!
//! A [`TreeBuilder`] holds back no more than the elements of two pages a level, so it builds a bucket of any size
//! while its elements stream by. It can also take up an existing tree at its right edge and go on from there.
//!
//! What it promises of every tree, because a server dies later of a tree without it: leaves at one depth, no empty
//! page but the root of an empty bucket, at least [`LEAST_ELEMENTS`] children in every branch, and branch keys equal
//! to the first key of the child they name (bbolt finds a node in its parent by that key).

use std::borrow::Cow;

use crate::bucket::BUCKET_HEADER_BYTES;
use crate::page::{ELEMENT_BYTES, FLAG_BRANCH, FLAG_BUCKET, FLAG_LEAF, HEADER_BYTES, PageHeader, PageId};

/// Longest key in bytes, as bbolt allows.
pub(crate) const MAX_KEY_BYTES: usize = 32_768;
/// Longest value in bytes, as bbolt allows.
pub(crate) const MAX_VALUE_BYTES: usize = 0x7FFF_FFFE;
/// Fewest elements a page is closed with while more follow: bbolt splits no page below that, and a branch with one
/// child makes its rebalancing panic.
pub(crate) const LEAST_ELEMENTS: usize = 2;
/// Elements up to which bbolt leaves a node whole, however long they are (FORMATS A.7): of a few long values this makes
/// fewer pages, and no branch.
const WHOLE_ELEMENTS: usize = 4;
/// Most elements a page is closed with. bbolt panics at 0xFFFF; one is left for a last element without company.
const MOST_ELEMENTS: usize = 0xFFFF - 2;
/// Most bytes a page with its overflow may have: bbolt 1.3 reads each key and value through an array of 2^31 - 1 bytes
/// that starts at the element's own head, and panics where one ends beyond it.
const MOST_NODE_BYTES: u64 = 0x7FFF_FFFF;
/// Most bytes of a key and its value, so that they fit in a page of their own.
const MOST_PAIR_BYTES: u64 = MOST_NODE_BYTES - (HEADER_BYTES + ELEMENT_BYTES) as u64;
/// How full leaves are made, in percent of a page: etcd's own fill for the bucket `key` and for defragmentation.
pub(crate) const LEAF_FILL_PERCENT: u8 = 90;
/// How full branches are made. A tree taken up at its right edge brings a branch of any fill along, and one that
/// still fits its page is not to be split.
pub(crate) const BRANCH_FILL_PERCENT: u8 = 100;
/// From this length on, room for pending keys and values is made in steps of as much, or of the next pair where it is
/// longer, and no longer by doubling: of long values, none more than those pending are to have room.
const STEP_BYTES: usize = 1 << 20;
/// The share of a page, as a divisor, that an inline bucket's page may have (FORMATS A.5).
pub(crate) const INLINE_SHARE: u32 = 4;

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
    /// The key and the value do not fit in one page with its overflow, although each alone would: bbolt panics as soon
    /// as it reads beyond 2^31 - 1 bytes.
    #[error("key and value have {len_bytes} bytes; at most 2147483615 fit in one page with its overflow")]
    PairTooLong {
        /// Their length together, in bytes.
        len_bytes: u64,
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
        let len_bytes = u64::from(key_bytes) + u64::from(value_bytes);
        if len_bytes > MOST_PAIR_BYTES {
            return Err(ElementError::PairTooLong { len_bytes });
        }
        Ok(Self { key, value, key_bytes, value_bytes, is_bucket })
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

/// What a pending element names beside its key.
#[derive(Debug, Clone, Copy)]
enum Link {
    /// A value, which stands behind the key.
    Value,
    /// A bucket, which stands behind the key.
    Bucket,
    /// A page of the level below.
    Child(PageId),
}

/// An element that is on no page yet; its key and value stand in its level's bytes, behind those of the elements
/// before it.
#[derive(Debug, Clone, Copy)]
struct Pending {
    key_bytes: u32,
    value_bytes: u32,
    link: Link,
}

impl Pending {
    /// Length of key and value in bytes.
    fn data_bytes(&self) -> u32 {
        // At most MOST_PAIR_BYTES: no overflow.
        self.key_bytes.saturating_add(self.value_bytes)
    }

    /// The element as it stands on a page, its key `position` bytes behind its start.
    fn head(&self, position: u32) -> [u8; ELEMENT_BYTES] {
        let mut out = [0; ELEMENT_BYTES];
        let flags = match self.link {
            Link::Child(child) => {
                out[..4].copy_from_slice(&position.to_le_bytes());
                out[4..8].copy_from_slice(&self.key_bytes.to_le_bytes());
                out[8..].copy_from_slice(&child.0.to_le_bytes());
                return out;
            }
            Link::Bucket => FLAG_BUCKET,
            Link::Value => 0,
        };
        out[..4].copy_from_slice(&flags.to_le_bytes());
        out[4..8].copy_from_slice(&position.to_le_bytes());
        out[8..12].copy_from_slice(&self.key_bytes.to_le_bytes());
        out[12..].copy_from_slice(&self.value_bytes.to_le_bytes());
        out
    }
}

/// Decides, element by element, where one level of a tree is cut into pages.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// How full the open page is made, in bytes, and those after it.
    fill_bytes: u64,
    later_fill_bytes: u64,
    /// Elements of a full page that waits until the page after it may stand alone.
    closed: usize,
    closed_bytes: u64,
    open: usize,
    open_bytes: u64,
    /// The last elements stay in one page when there are no more of them than this, however long they are.
    whole: usize,
}

impl Splitter {
    /// Cuts pages of `page_size` bytes, `fill_percent` full. The first one is made at least as full as an inline
    /// bucket may be, so that no page of a bucket is cut off while the bucket could still become inline.
    pub(crate) fn new(page_size: u32, fill_percent: u8) -> Self {
        let later_fill_bytes = u64::from(page_size) * u64::from(fill_percent) / 100;
        Self {
            fill_bytes: later_fill_bytes.max(u64::from(page_size / INLINE_SHARE)),
            later_fill_bytes,
            closed: 0,
            closed_bytes: 0,
            open: 0,
            open_bytes: HEADER_BYTES as u64,
            whole: 0,
        }
    }

    /// The same with the last [`WHOLE_ELEMENTS`] in one page.
    pub(crate) fn keeping_few_whole(self) -> Self {
        Self { whole: WHOLE_ELEMENTS, ..self }
    }

    /// True when the two pages at hand, if they are the last, are one.
    fn stays_whole(&self) -> bool {
        self.closed + self.open <= self.whole && self.together_bytes() <= MOST_NODE_BYTES
    }

    /// Length of the two pages at hand as one.
    fn together_bytes(&self) -> u64 {
        (self.closed_bytes + self.open_bytes).saturating_sub(HEADER_BYTES as u64)
    }

    /// Takes the next element's length; returns the number of elements of a page that is now complete, if any.
    pub(crate) fn push(&mut self, len_bytes: u64) -> Option<usize> {
        let bytes = self.open_bytes.saturating_add(len_bytes);
        let full = self.open >= LEAST_ELEMENTS && (bytes > self.fill_bytes || self.open >= MOST_ELEMENTS);
        let mut done = None;
        if full || (self.open > 0 && bytes > MOST_NODE_BYTES) {
            // Only values of gigabytes come here with a page waiting: the one after it is then closed too, with a
            // single element. bbolt takes that of a leaf, and has no other room for two values it could not read from
            // one page; keys alone are too short for a branch to come to it.
            done = Some(self.closed).filter(|n| *n > 0);
            self.fill_bytes = self.later_fill_bytes;
            (self.closed, self.closed_bytes) = (self.open, self.open_bytes);
            (self.open, self.open_bytes) = (1, HEADER_BYTES as u64 + len_bytes);
        } else {
            self.open += 1;
            self.open_bytes = bytes;
        }
        if self.open >= LEAST_ELEMENTS && self.closed > 0 && !self.stays_whole() {
            done = Some(std::mem::take(&mut self.closed));
        }
        done
    }

    /// The numbers of elements of the last pages; nothing more may be pushed.
    pub(crate) fn finish(&self) -> [usize; 2] {
        let together = self.together_bytes();
        if self.closed > 0 && self.stays_whole() {
            return [self.closed + self.open, 0];
        }
        if self.closed == 0 || self.open >= LEAST_ELEMENTS || together > MOST_NODE_BYTES {
            [self.closed, self.open]
        } else if self.closed > LEAST_ELEMENTS && together > self.fill_bytes {
            [self.closed - 1, self.open + 1]
        } else {
            [self.closed + self.open, 0]
        }
    }
}

/// Where finished pages go.
pub(crate) trait PageSink {
    /// Why a page could not be taken.
    type Error;

    /// The number that the next page will have.
    fn next_id(&self) -> PageId;

    /// Takes a node in three pieces, the last one of zeros: a whole number of pages, which bear the number
    /// [`Self::next_id`] gave and those after it.
    fn append(&mut self, table: &[u8], data: &[u8], padding_bytes: usize) -> Result<(), Self::Error>;
}

/// One level of a tree: the elements that are not yet on a page.
#[derive(Debug)]
struct Level {
    /// The flag of its pages.
    flag: u16,
    elements: Vec<Pending>,
    /// Keys and values of the elements, back to back, as they stand on a page.
    data: Vec<u8>,
    splitter: Splitter,
}

impl Level {
    fn leaves(page_size: u32, fill_percent: u8) -> Self {
        let splitter = Splitter::new(page_size, fill_percent);
        Self { flag: FLAG_LEAF, elements: Vec::new(), data: Vec::new(), splitter }
    }

    fn branches(page_size: u32) -> Self {
        Self { flag: FLAG_BRANCH, ..Self::leaves(page_size, BRANCH_FILL_PERCENT) }
    }

    /// Adds an element; returns the number of elements of a page that is now complete, if any.
    fn push(&mut self, element: Pending, key: &[u8], value: &[u8]) -> Option<usize> {
        self.elements.push(element);
        let more_bytes = key.len() + value.len();
        if self.data.len() + more_bytes > self.data.capacity().max(STEP_BYTES) {
            self.data.reserve_exact(more_bytes.max(STEP_BYTES));
        }
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        self.splitter.push(ELEMENT_BYTES as u64 + u64::from(element.data_bytes()))
    }

    fn first_key(&self) -> &[u8] {
        let len = self.elements.first().map_or(0, |first| first.key_bytes as usize);
        self.data.get(..len).unwrap_or_default()
    }

    fn last_key(&self) -> Option<&[u8]> {
        let last = self.elements.last()?;
        let start = self.data.len().checked_sub(last.data_bytes() as usize)?;
        self.data.get(start..start + last.key_bytes as usize)
    }

    /// Puts header and element table of a page with the first `count` elements into `table`; returns the length of
    /// their keys and values in bytes.
    fn encode(&self, id: PageId, count: usize, page_size: u32, table: &mut Vec<u8>) -> usize {
        let elements = self.elements.get(..count).unwrap_or_default();
        let data_bytes: u64 = elements.iter().map(|element| u64::from(element.data_bytes())).sum();
        let node_bytes = (HEADER_BYTES + ELEMENT_BYTES * elements.len()) as u64 + data_bytes;
        // The splitter keeps the count below 0xFFFF and all positions within 31 bits.
        let overflow = u32::try_from(node_bytes.div_ceil(u64::from(page_size)) - 1).unwrap_or(u32::MAX);
        let count = u16::try_from(elements.len()).unwrap_or(u16::MAX);
        table.clear();
        table.extend_from_slice(&PageHeader { id: id.0, flags: self.flag, count, overflow }.encode());
        let element_bytes = u32::from(u16::try_from(ELEMENT_BYTES).unwrap_or_default());
        let mut position = element_bytes.saturating_mul(u32::from(count));
        for element in elements {
            table.extend_from_slice(&element.head(position));
            // Positions count from each element's own start, which moves on as well.
            position = position.saturating_sub(element_bytes).saturating_add(element.data_bytes());
        }
        usize::try_from(data_bytes).unwrap_or(usize::MAX)
    }

    /// Forgets the first `count` elements, whose keys and values have `data_bytes` bytes.
    fn drop_first(&mut self, count: usize, data_bytes: usize) {
        self.elements.drain(..count);
        self.data.drain(..data_bytes);
    }
}

/// Builds one tree from elements pushed in ascending order. Pages go to the sink given with each call, which must be
/// the same one every time; several trees may share it.
#[derive(Debug)]
pub(crate) struct TreeBuilder {
    page_size: u32,
    /// The leaves, then the branches above them, lowest first.
    levels: Vec<Level>,
    /// Header and element table of the page that is being written.
    table: Vec<u8>,
    /// See [`Splitter::whole`].
    whole: usize,
}

impl TreeBuilder {
    /// An empty tree, whose leaves are to be `leaf_fill_percent` full.
    pub(crate) fn new(page_size: u32, leaf_fill_percent: u8) -> Self {
        let levels = vec![Level::leaves(page_size, leaf_fill_percent)];
        Self { page_size, levels, table: Vec::new(), whole: 0 }
    }

    /// Leaves a few elements in one page where bbolt does, instead of splitting by length alone: for trees that are to be
    /// no longer than bbolt's. Of an empty tree only.
    pub(crate) fn keeping_few_whole(mut self) -> Self {
        self.whole = WHOLE_ELEMENTS;
        for level in &mut self.levels {
            level.splitter.whole = WHOLE_ELEMENTS;
        }
        self
    }

    /// Goes on with a tree whose right spine has these elements, the root's first: pages they name stay where they
    /// are, the spine itself is written anew.
    ///
    /// So that no branch ends up with one child, the lowest level must have two elements, and every other one, or
    /// none if all above it have none.
    pub(crate) fn resume<W: PageSink>(
        sink: &mut W,
        page_size: u32,
        spine: Vec<Vec<BranchElement>>,
    ) -> Result<Self, W::Error> {
        let mut builder = Self::new(page_size, LEAF_FILL_PERCENT);
        let height = spine.len();
        builder.levels.resize_with(height + 1, || Level::branches(page_size));
        // The root first: what lower levels write stands to the right of what the levels above have.
        for (depth, elements) in spine.into_iter().enumerate() {
            let level = height - depth;
            for BranchElement { key, key_bytes, child } in elements {
                let element = Pending { key_bytes, value_bytes: 0, link: Link::Child(child) };
                let done = builder.levels[level].push(element, &key, &[]);
                builder.write_full(sink, level, done)?;
            }
        }
        Ok(builder)
    }

    /// The greatest key pushed so far, if any; of a tree taken up at its edge, of those pushed since.
    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        // A page is written only when elements behind it are pending.
        self.levels.first().and_then(Level::last_key)
    }

    /// Adds a key, which must be greater than all before it.
    pub(crate) fn push<W: PageSink>(
        &mut self,
        sink: &mut W,
        element: &LeafElement<'_>,
    ) -> Result<(), W::Error> {
        let LeafElement { key, value, key_bytes, value_bytes, is_bucket } = element;
        let link = if *is_bucket { Link::Bucket } else { Link::Value };
        let pending = Pending { key_bytes: *key_bytes, value_bytes: *value_bytes, link };
        match self.levels[0].push(pending, key, value) {
            None => Ok(()),
            done => self.write_full(sink, 0, done),
        }
    }

    /// Writes what is left and returns the root page; without any element, that of an empty leaf.
    pub(crate) fn finish<W: PageSink>(mut self, sink: &mut W) -> Result<PageId, W::Error> {
        let mut height = 0;
        while let Some(level) = self.levels.get(height) {
            let is_top = self.levels[height + 1..].iter().all(|above| above.elements.is_empty());
            match level.elements.as_slice() {
                // The only page of the level below is the root.
                [Pending { link: Link::Child(only), .. }] if is_top => return Ok(*only),
                _ => {}
            }
            for count in level.splitter.finish() {
                if count > 0 {
                    self.write_full(sink, height, Some(count))?;
                }
            }
            height += 1;
        }
        let nothing = Level::leaves(self.page_size, LEAF_FILL_PERCENT);
        let id = sink.next_id();
        nothing.encode(id, 0, self.page_size, &mut self.table);
        sink.append(&self.table, &[], self.page_size as usize - self.table.len())?;
        Ok(id)
    }

    /// Ends a bucket: returns the value that describes it, with its content where bbolt would keep it inline.
    pub(crate) fn finish_bucket<W: PageSink>(self, sink: &mut W, sequence: u64) -> Result<Vec<u8>, W::Error> {
        if let Some(page) = self.inline_page() {
            let mut value = bucket_header(PageId(0), sequence).to_vec();
            value.extend_from_slice(&page);
            return Ok(value);
        }
        Ok(bucket_header(self.finish(sink)?, sequence).to_vec())
    }

    /// The page of an inline bucket, or `None` when these elements are not to be kept inline: bbolt's rule is a
    /// single leaf without buckets in it, at most a quarter of a page long (FORMATS A.5).
    fn inline_page(&self) -> Option<Vec<u8>> {
        let [leaves] = self.levels.as_slice() else { return None };
        let most_bytes = (self.page_size / INLINE_SHARE) as usize;
        let is_bucket = |element: &Pending| matches!(element.link, Link::Bucket);
        if HEADER_BYTES + ELEMENT_BYTES * leaves.elements.len() + leaves.data.len() > most_bytes
            || leaves.elements.iter().any(is_bucket)
        {
            return None;
        }
        let mut page = Vec::new();
        leaves.encode(PageId(0), leaves.elements.len(), self.page_size, &mut page);
        page.extend_from_slice(&leaves.data);
        Some(page)
    }

    /// Writes a page of the first `done` elements at `height`, and every page that fills up on the way to the root.
    fn write_full<W: PageSink>(
        &mut self,
        sink: &mut W,
        height: usize,
        done: Option<usize>,
    ) -> Result<(), W::Error> {
        let (mut height, mut done) = (height, done);
        while let Some(count) = done {
            if height + 1 == self.levels.len() {
                let mut level = Level::branches(self.page_size);
                level.splitter.whole = self.whole;
                self.levels.push(level);
            }
            let (below, above) = self.levels.split_at_mut(height + 1);
            let (Some(level), Some(parent)) = (below.last_mut(), above.first_mut()) else { return Ok(()) };
            let child = sink.next_id();
            let data_bytes = level.encode(child, count, self.page_size, &mut self.table);
            let page_size = self.page_size as usize;
            let used_bytes = self.table.len() + data_bytes;
            let padding_bytes = used_bytes.next_multiple_of(page_size) - used_bytes;
            sink.append(&self.table, &level.data[..data_bytes], padding_bytes)?;
            let key = level.first_key();
            let key_bytes = level.elements.first().map_or(0, |first| first.key_bytes);
            let element = Pending { key_bytes, value_bytes: 0, link: Link::Child(child) };
            done = parent.push(element, key, &[]);
            level.drop_first(count, data_bytes);
            height += 1;
        }
        Ok(())
    }
}

/// The header of a bucket's value.
fn bucket_header(root: PageId, sequence: u64) -> [u8; BUCKET_HEADER_BYTES] {
    let mut header = [0; BUCKET_HEADER_BYTES];
    header[..8].copy_from_slice(&root.0.to_le_bytes());
    header[8..].copy_from_slice(&sequence.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many elements each page takes when elements of these lengths come one by one.
    fn cut(splitter: &mut Splitter, lens: &[u64]) -> Vec<usize> {
        let mut counts: Vec<usize> = lens.iter().filter_map(|len| splitter.push(*len)).collect();
        counts.extend(splitter.finish().into_iter().filter(|count| *count > 0));
        counts
    }

    fn leaves(lens: &[u64]) -> Vec<usize> {
        cut(&mut Splitter::new(4096, LEAF_FILL_PERCENT), lens)
    }

    /// Page by page, the bytes each has with its head.
    fn node_bytes(counts: &[usize], lens: &[u64]) -> Vec<u64> {
        let mut rest = lens.iter();
        counts.iter().map(|count| 16 + rest.by_ref().take(*count).sum::<u64>()).collect()
    }

    /// bbolt 1.3.6 panics on a pair that ends 2^31 bytes behind its element's head. With the page's own head, two pairs
    /// of this length just fit, and each byte more is one too many.
    #[test]
    fn two_values_that_one_page_just_holds() {
        let half = (0x7FFF_FFFF - 16) / 2;
        for rest in [vec![], vec![20], vec![20; 3], vec![half; 2]] {
            let lens = |first, second| [vec![first, second], rest.clone()].concat();
            assert_eq!(leaves(&lens(half, half))[0], 2, "{rest:?}");
            assert_eq!(leaves(&lens(half, half + 1))[0], 2, "{rest:?}");
            assert_eq!(leaves(&lens(half + 1, half + 1))[0], 1, "{rest:?}");
        }
    }

    /// Values of 2 GiB, of which no page holds two: leaves of one pair each, and small pairs at the side of whichever
    /// leaves them room.
    #[test]
    fn values_that_fill_a_page_each() {
        let most = MOST_PAIR_BYTES + 16;
        assert_eq!(leaves(&[most]), [1]);
        assert_eq!(leaves(&[most; 2]), [1, 1]);
        assert_eq!(leaves(&[most; 5]), [1; 5]);
        assert_eq!(leaves(&[20, 20, most]), [2, 1]);
        assert_eq!(leaves(&[20, most, most, 20]), [1, 1, 1, 1]);
        assert_eq!(leaves(&[most, 20, 20, most]), [1, 2, 1]);
        assert_eq!(leaves(&[most - 20, 20, 20]), [2, 1]);
        assert_eq!(leaves(&[20, most - 20, 20]), [2, 1]);
    }

    /// A pair of the greatest length, which is two short of what bbolt says of a value, and one that is longer. Zeroed
    /// memory costs nothing until it is touched, and an element borrows.
    #[test]
    fn pairs_that_fit_in_a_page() {
        let zeros = vec![0; 0x7FFF_FFFE];
        let most = usize::try_from(0x7FFF_FFFF_u32 - 16 - 16).unwrap();
        for key in [&b"k"[..], &[b'k'; 32_768]] {
            let value = &zeros[..most - key.len()];
            let element = LeafElement::new(key, value, false).unwrap();
            assert_eq!(leaves(&[16 + u64::from(element.key_bytes) + u64::from(element.value_bytes)]), [1]);
            // Without the element: a failure is not to show two gigabytes.
            let long = LeafElement::new(key, &zeros[..=value.len()], false).map(|_| ()).unwrap_err();
            assert_eq!(long, ElementError::PairTooLong { len_bytes: 0x7FFF_FFE0 });
            assert!(long.to_string().contains(&most.to_string()), "{long}");
        }
    }

    fn len() -> impl Strategy<Value = u64> {
        let most = MOST_PAIR_BYTES + 16;
        prop_oneof![
            4 => 17u64..200,
            2 => 17u64..70_000,
            2 => (1u64..=4).prop_flat_map(move |parts| most / parts - 40..=most / parts),
            1 => 17..=most,
        ]
    }

    proptest! {
        /// Nothing is lost, no page is longer than bbolt can read, and a page has a single pair only where its pair and
        /// the next one, or the last page's and the one before, do not fit together.
        #[test]
        fn no_page_is_too_long(lens in prop::collection::vec(len(), 1..40), fill in 10u8..=100) {
            let counts = cut(&mut Splitter::new(4096, fill), &lens);
            prop_assert_eq!(counts.iter().sum::<usize>(), lens.len());
            let bytes = node_bytes(&counts, &lens);
            prop_assert!(bytes.iter().all(|bytes| *bytes <= 0x7FFF_FFFF), "{:?} of {:?}", bytes, counts);
            let mut first = 0;
            for (page, count) in counts.iter().enumerate() {
                let together = match lens.get(first + 1) {
                    Some(next) => 16 + lens[first] + next,
                    None if page > 0 => bytes[page - 1] + lens[first],
                    None => u64::MAX,
                };
                prop_assert!(*count > 1 || together > 0x7FFF_FFFF, "page {} of {:?}", page, counts);
                first += count;
            }
        }

        /// Branches have two children each, however long their keys.
        #[test]
        fn no_branch_has_one_child(
            keys in prop::collection::vec(prop_oneof![1u64..=64, 1u64..=32_768], 2..300),
            log in 10u32..=16,
        ) {
            let lens: Vec<u64> = keys.iter().map(|key| 16 + key).collect();
            let counts = cut(&mut Splitter::new(1 << log, BRANCH_FILL_PERCENT), &lens);
            prop_assert_eq!(counts.iter().sum::<usize>(), lens.len());
            prop_assert!(counts.iter().all(|count| *count >= 2), "{:?}", counts);
        }
    }
}
