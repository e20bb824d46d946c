//! A carved leaf: its elements, as far as they are there.

use std::borrow::Cow;
use std::ops::Range;

use super::{Cut, Run};
use crate::mend::{mended_element, mended_header};
use crate::page::{ELEMENT_BYTES, FLAG_BUCKET, FLAG_LEAF, HEADER_BYTES, PageHeader};
use crate::page_file::PageFile;
use crate::source::Source;

/// What a disk gives or refuses as a whole at least, in bytes.
const SECTOR_BYTES: u64 = 512;
/// Longest key that bbolt takes, in bytes.
const MOST_KEY_BYTES: u32 = 32_768;

/// A leaf with what is there of its elements.
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    bytes: Cow<'a, [u8]>,
    run: Run,
    offset: u64,
    /// Bytes that the run would have, were it not cut.
    declared_bytes: u64,
    /// Bytes of the run, counted from its head, that could not be read: ascending, apart from each other, whole sectors.
    bad: Vec<Range<u64>>,
}

/// One element of a carved leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'l> {
    /// Its number within the leaf.
    pub index: u16,
    /// Where its key starts in the file, in bytes; the value follows right behind.
    pub offset: u64,
    /// The bytes of its key that are there.
    pub key: &'l [u8],
    /// The bytes of its value that are there.
    pub value: &'l [u8],
    /// How long the key is, in bytes.
    pub key_bytes: u32,
    /// How long the value is, in bytes.
    pub value_bytes: u32,
    /// True when the value is a bucket.
    pub is_bucket: bool,
}

impl Element<'_> {
    /// True when all bytes of key and value are there. Whether they are the right ones is for the caller to judge.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.has_key() && self.value.len() as u64 == u64::from(self.value_bytes)
    }

    /// True when all bytes of the key are there.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.len() as u64 == u64::from(self.key_bytes)
    }

    /// Where its value starts in the file, in bytes.
    #[must_use]
    pub fn value_offset(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.key_bytes))
    }
}

impl<'a> Leaf<'a> {
    /// The leaf of a run that [`carve`](super::carve()) found in the same file; `None` when its head cannot be read any more.
    #[must_use]
    pub fn open<S: Source>(pages: &'a PageFile<S>, run: &Run) -> Option<Self> {
        let mut leaf = Self::read(pages, *run);
        if run.is_flawed {
            leaf.mend_element();
        }
        let is_lost = leaf.bytes.is_empty() || leaf.bad.first().is_some_and(|bad| bad.start == 0);
        (!is_lost).then_some(leaf)
    }

    /// `bytes`, all of a run and read without fault.
    pub(super) fn new<S: Source>(pages: &PageFile<S>, bytes: Cow<'a, [u8]>, run: Run) -> Self {
        let page_size = u64::from(pages.page_size());
        let (offset, declared_bytes) =
            (run.index.saturating_mul(page_size), u64::from(run.declared) * page_size);
        Self { bytes, run, offset, declared_bytes, bad: Vec::new() }
    }

    /// The bytes of a run, with zeros where they cannot be read.
    pub(super) fn read<S: Source>(pages: &'a PageFile<S>, run: Run) -> Self {
        let page_size = u64::from(pages.page_size());
        let mut leaf = Self::new(pages, Cow::Borrowed(&[]), run);
        let there = pages.source().len_bytes().saturating_sub(leaf.offset);
        let len = (u64::from(run.pages) * page_size).min(there);
        if let Ok(bytes) = pages.source().bytes(leaf.offset, len) {
            return Self { bytes, ..leaf };
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        for page in 0..u64::from(run.pages) {
            let start = page * page_size;
            let page_len = page_size.min(len.saturating_sub(start));
            match pages.source().bytes(leaf.offset.saturating_add(start), page_len) {
                Ok(page) => bytes.extend_from_slice(&page),
                Err(_) => {
                    let (sectors, bad) = in_sectors(pages, leaf.offset.saturating_add(start), page_len);
                    bytes.extend_from_slice(&sectors);
                    for bad in bad {
                        let (from, to) = (start + bad.start, start + bad.end);
                        match leaf.bad.last_mut().filter(|bad| bad.end == from) {
                            Some(bad) => bad.end = to,
                            None => leaf.bad.push(from..to),
                        }
                    }
                }
            }
        }
        Self { bytes: Cow::Owned(bytes), ..leaf }
    }

    /// The run it is.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Where its head starts in the file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of its run; zeros where they cannot be read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements of which at least a byte is there, by ascending number.
    ///
    /// All of a sound leaf that is not cut, and all of them whole. Of a cut one those in front of the cut, and the one across it. Of a
    /// flawed one those that lie within it and share no bytes; their keys need not ascend, and one may be there twice: which of
    /// them is damaged only those can tell who know what the keys and values mean.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        let look = Look { end: self.table_end(), follows: 0, is_flawed: false, is_torn: false };
        Elements { leaf: self, next: 0, last: &[], look }
    }

    /// Element `index`, if [`Self::elements`] has it.
    #[must_use]
    pub fn element(&self, index: u16) -> Option<Element<'_>> {
        if self.run.is_flawed {
            return self.elements().find(|element| element.index >= index).filter(|e| e.index == index);
        }
        let element = self.part(index, &self.entry(index)?);
        (!element.key.is_empty()).then_some(element)
    }

    /// Where element `index` says that it lies, whatever that is worth; `None` when there is none or it is cut off.
    #[inline]
    fn entry(&self, index: u16) -> Option<Entry> {
        if index >= self.run.count {
            return None;
        }
        let at = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
        let entry = self.bytes.get(at..at + ELEMENT_BYTES)?;
        if !self.bad.is_empty() && self.there(at as u64, (at + ELEMENT_BYTES) as u64).len() < ELEMENT_BYTES {
            // Of what is not known nothing is said.
            return Some(Entry { start: 0, key_bytes: 0, value_bytes: 0, is_bucket: false });
        }
        let word = |at: usize| {
            let word = entry.get(at..at + 4).and_then(|word| word.try_into().ok());
            u32::from_le_bytes(word.unwrap_or_default())
        };
        let (flags, key_bytes, value_bytes) = (word(0), word(8), word(12));
        let start = at as u64 + u64::from(word(4));
        Some(Entry { start, key_bytes, value_bytes, is_bucket: flags & FLAG_BUCKET != 0 })
    }

    /// Takes the number of elements that the table has, where the head says another one: all of the table speaks for it.
    fn mend_count(&mut self) {
        let Some(header) = PageHeader::parse(&self.bytes) else { return };
        let header = PageHeader { flags: FLAG_LEAF, count: self.run.count, ..header };
        let first = usize::try_from(self.declared_bytes / u64::from(self.run.declared.max(1))).ok();
        let first = first.and_then(|page_size| self.bytes.get(..page_size)).unwrap_or(&self.bytes);
        self.run.count = mended_header(first, &header).count;
    }

    /// Puts the one element right that the others tell to be a bit off; whether there was one.
    fn mend_element(&mut self) -> bool {
        let bytes = self.bytes.get(..usize::try_from(self.declared_bytes).unwrap_or(usize::MAX));
        let mended = bytes.and_then(|bytes| mended_element(bytes, FLAG_LEAF, self.run.count));
        if let Some(element) = mended {
            element.write(self.bytes.to_mut(), FLAG_LEAF);
        }
        mended.is_some()
    }

    /// What is there of an element, which may be nothing.
    #[inline]
    fn part(&self, index: u16, entry: &Entry) -> Element<'_> {
        Element {
            index,
            offset: self.offset.saturating_add(entry.start),
            key: self.there(entry.start, entry.key_end()),
            value: self.there(entry.key_end(), entry.end()),
            key_bytes: entry.key_bytes,
            value_bytes: entry.value_bytes,
            is_bucket: entry.is_bucket,
        }
    }

    /// The bytes from `from` on, up to `to` or the first that is not there.
    #[inline]
    fn there(&self, from: u64, to: u64) -> &[u8] {
        let bad = self.bad.iter().find(|bad| bad.end > from);
        let end = bad.map_or(u64::MAX, |bad| bad.start.max(from)).min(to).min(self.bytes.len() as u64);
        match (usize::try_from(from), usize::try_from(end)) {
            (Ok(from), Ok(end)) => self.bytes.get(from..end).unwrap_or_default(),
            _ => &[],
        }
    }

    fn table_end(&self) -> u64 {
        (HEADER_BYTES + usize::from(self.run.count) * ELEMENT_BYTES) as u64
    }

    fn look(&self) -> Look {
        let mut elements = self.elements();
        while elements.next().is_some() {}
        elements.look
    }

    /// The leaf with what a look at all its elements says of the run: flaws, and whether the cut, if there is one, cost anything.
    pub(super) fn looked_at(mut self) -> Self {
        self.mend_count();
        let mut look = self.look();
        if look.is_flawed && self.mend_element() {
            look = Look { is_flawed: true, ..self.look() };
        }
        let Look { is_flawed, is_torn, .. } = look;
        let unreadable = (!self.bad.is_empty()).then_some(Cut::Unreadable);
        self.run.is_flawed = is_flawed;
        self.run.cut = self.run.cut.or(unreadable).filter(|_| is_flawed || is_torn);
        self
    }
}

/// What can be read of `len` bytes at byte `offset` of the file, sector by sector, with zeros where nothing can, and what that is, from
/// the first of the bytes on.
pub(super) fn in_sectors<S: Source>(
    pages: &PageFile<S>,
    offset: u64,
    len: u64,
) -> (Vec<u8>, Vec<Range<u64>>) {
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    let mut bad: Vec<Range<u64>> = Vec::new();
    let mut start = 0;
    while start < len {
        let sector_len = SECTOR_BYTES.min(len - start);
        match pages.source().bytes(offset.saturating_add(start), sector_len) {
            Ok(sector) => bytes.extend_from_slice(&sector),
            Err(_) => {
                bytes.resize(bytes.len() + usize::try_from(sector_len).unwrap_or_default(), 0);
                match bad.last_mut().filter(|bad| bad.end == start) {
                    Some(bad) => bad.end = start + sector_len,
                    None => bad.push(start..start + sector_len),
                }
            }
        }
        start += sector_len;
    }
    (bytes, bad)
}

/// What a look at the elements comes to.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Where the last element ends that has bytes of its own, counted from the head, in bytes.
    end: u64,
    /// The number of the element that should begin there.
    follows: u16,
    /// Whether an element is at fault.
    is_flawed: bool,
    /// Whether an element that is not at fault is not whole.
    is_torn: bool,
}

/// Where an element says that it lies, counted from the head in bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u64,
    key_bytes: u32,
    value_bytes: u32,
    is_bucket: bool,
}

impl Entry {
    fn key_end(&self) -> u64 {
        self.start + u64::from(self.key_bytes)
    }

    fn end(&self) -> u64 {
        self.key_end() + u64::from(self.value_bytes)
    }
}

/// The elements of a leaf, see [`Leaf::elements`].
#[derive(Debug, Clone)]
pub struct Elements<'l> {
    leaf: &'l Leaf<'l>,
    next: u16,
    /// The last whole key.
    last: &'l [u8],
    look: Look,
}

impl<'l> Elements<'l> {
    /// The element where the one before it ends, if it does not say so itself and the one behind it begins where it then ends: every known
    /// writer lays them back to back.
    #[inline]
    fn mended(&self, index: u16, entry: &Entry) -> Option<Entry> {
        if entry.start == self.look.end || index != self.look.follows {
            return None;
        }
        let start = self.look.end;
        let mended = Entry { start, ..*entry };
        let behind = self.leaf.entry(index + 1);
        let is_impossible = entry.start < self.look.end || entry.end() > self.leaf.declared_bytes;
        let is_wrong = match behind {
            Some(behind) => behind.start == mended.end(),
            None => is_impossible || self.is_likelier(index, entry, start, self.last),
        };
        is_wrong.then_some(mended)
    }

    /// Of the last element, behind which nothing tells where it ends: whether its key is more like that before it, `last`, if it begins
    /// at `start`, than it is where it says.
    fn is_likelier(&self, index: u16, entry: &Entry, start: u64, last: &[u8]) -> bool {
        let alike = |start: u64| {
            let key = self.leaf.part(index, &Entry { start, ..*entry }).key;
            key.iter().zip(last).filter(|(a, b)| a == b).count()
        };
        alike(start) > alike(entry.start)
    }

    /// Whether element `index`, which should begin at `start`, where the one with key `last` ends, and says otherwise, is the one that is
    /// wrong: it ends where the one behind it begins, if it begins there.
    fn is_misplaced(&self, index: u16, start: u64, last: &[u8]) -> bool {
        let Some(entry) = self.leaf.entry(index).filter(|entry| entry.start != start) else { return false };
        let end = Entry { start, ..entry }.end();
        end <= self.leaf.declared_bytes
            && match self.leaf.entry(index.saturating_add(1)) {
                Some(behind) => behind.start == end,
                None => self.is_likelier(index, &entry, start, last),
            }
    }

    /// What is there of the element, unless it cannot be. Where two elements share bytes, the one is held to be at fault that
    /// reaches into the other.
    #[inline]
    fn possible(&mut self, index: u16, entry: &Entry) -> Option<Element<'l>> {
        let leaf = self.leaf;
        let mended = self.mended(index, entry);
        // Where the one before ends otherwise than this one begins, one of the two is damaged.
        self.look.is_flawed |= index == self.look.follows && entry.start != self.look.end;
        let entry = mended.as_ref().unwrap_or(entry);
        let end = entry.end();
        let is_key = (1..=MOST_KEY_BYTES).contains(&entry.key_bytes);
        if !is_key || entry.start < self.look.end || end > leaf.declared_bytes {
            return None;
        }
        let behind = leaf.entry(index + 1).filter(|behind| behind.start >= entry.start);
        let element = leaf.part(index, entry);
        if behind.is_some_and(|behind| behind.start < end) && !self.is_misplaced(index + 1, end, element.key)
        {
            return None;
        }
        self.look.end = end;
        self.look.follows = index + 1;
        if element.has_key() {
            self.look.is_flawed |= self.last >= element.key;
            self.last = element.key;
        }
        Some(element)
    }
}

impl<'l> Iterator for Elements<'l> {
    type Item = Element<'l>;

    fn next(&mut self) -> Option<Element<'l>> {
        while let Some(entry) = self.leaf.entry(self.next) {
            let index = self.next;
            self.next += 1;
            let Some(element) = self.possible(index, &entry) else {
                self.look.is_flawed = true;
                continue;
            };
            self.look.is_torn |= !element.is_whole();
            if !element.key.is_empty() {
                return Some(element);
            }
        }
        self.look.is_torn |= self.next < self.leaf.run.count;
        None
    }
}
