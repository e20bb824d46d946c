//! A carved leaf: its elements, as far as they are there.

use std::borrow::Cow;

use super::Run;
use crate::page::{ELEMENT_BYTES, FLAG_BUCKET, HEADER_BYTES};
use crate::page_file::PageFile;
use crate::source::Source;

/// Longest key that bbolt takes, in bytes.
const MOST_KEY_BYTES: u64 = 32_768;

/// A leaf with what is there of its elements.
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    bytes: Cow<'a, [u8]>,
    run: Run,
    offset: u64,
    /// Bytes that the run would have, were it not cut.
    declared_bytes: u64,
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
    /// The leaf of a run that [`carve`](super::carve()) found in the same file; `None` when it cannot be read any more.
    #[must_use]
    pub fn open<S: Source>(pages: &'a PageFile<S>, run: &Run) -> Option<Self> {
        let page_size = u64::from(pages.page_size());
        let offset = run.index.checked_mul(page_size)?;
        let len = (u64::from(run.pages) * page_size).min(pages.source().len_bytes().checked_sub(offset)?);
        Some(Self::new(pages.source().bytes(offset, len).ok()?, offset, *run, page_size))
    }

    /// `bytes`, which stand at `offset` of the file, as what `run` says they are.
    pub(super) fn new(bytes: Cow<'a, [u8]>, offset: u64, run: Run, page_size: u64) -> Self {
        Self { bytes, run, offset, declared_bytes: u64::from(run.declared) * page_size }
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

    /// The bytes of its run.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements of which at least a byte is there, by ascending number.
    ///
    /// All of a sound leaf that is not cut, and all of them whole. Of a cut one those in front of the cut, and the one across it. Of
    /// a flawed one those that agree with their neighbours: they share no bytes, and keys ascend.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        Elements { leaf: self, next: 0, end: self.table_end(), last: &[], is_flawed: false }
    }

    /// Element `index`, if [`Self::elements`] has it.
    #[must_use]
    pub fn element(&self, index: u16) -> Option<Element<'_>> {
        if self.run.is_flawed {
            return self.elements().find(|element| element.index >= index).filter(|e| e.index == index);
        }
        self.range(index).and_then(|range| self.part(index, &range))
    }

    /// Where element `index` says that it lies, whatever that is worth; `None` when there is none or it is cut off.
    fn range(&self, index: u16) -> Option<Range> {
        if index >= self.run.count {
            return None;
        }
        let at = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
        let entry = self.bytes.get(at..at + ELEMENT_BYTES)?;
        let word = |at: usize| {
            let word = entry.get(at..at + 4).and_then(|word| word.try_into().ok());
            u32::from_le_bytes(word.unwrap_or_default())
        };
        let (flags, key_bytes, value_bytes) = (word(0), word(8), word(12));
        let start = at as u64 + u64::from(word(4));
        Some(Range { start, key_bytes, value_bytes, is_bucket: flags & FLAG_BUCKET != 0 })
    }

    /// What is there of an element; `None` when that is nothing.
    fn part(&self, index: u16, range: &Range) -> Option<Element<'_>> {
        let there = |from: u64, to: u64| {
            let len = self.bytes.len() as u64;
            let (from, to) = (usize::try_from(from.min(len)), usize::try_from(to.min(len)));
            self.bytes.get(from.unwrap_or_default()..to.unwrap_or_default()).unwrap_or_default()
        };
        let key = there(range.start, range.key_end());
        (!key.is_empty()).then(|| Element {
            index,
            offset: self.offset.saturating_add(range.start),
            key,
            value: there(range.key_end(), range.end()),
            key_bytes: range.key_bytes,
            value_bytes: range.value_bytes,
            is_bucket: range.is_bucket,
        })
    }

    fn table_end(&self) -> u64 {
        (HEADER_BYTES + usize::from(self.run.count) * ELEMENT_BYTES) as u64
    }

    /// The same bytes as another run.
    pub(super) fn with_run(self, run: Run) -> Self {
        Self { run, ..self }
    }

    /// Goes through all elements once.
    pub(super) fn look(&self) -> Look {
        let mut elements = self.elements();
        while elements.next().is_some() {}
        Look { end: elements.end, is_flawed: elements.is_flawed }
    }
}

/// What a look at all elements comes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Where the last element ends, counted from the head, whether the run does or not, in bytes.
    pub(super) end: u64,
    /// Whether an element is at fault.
    pub(super) is_flawed: bool,
}

/// Where an element says that it lies, counted from the head in bytes.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    key_bytes: u32,
    value_bytes: u32,
    is_bucket: bool,
}

impl Range {
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
    /// Where the last element ends that was looked at and has bytes of its own.
    end: u64,
    /// The last whole key that was handed out.
    last: &'l [u8],
    is_flawed: bool,
}

impl<'l> Elements<'l> {
    /// The element, unless it is at fault. What it has in common with its neighbour behind it is held against it only where the
    /// neighbour cannot be the one to blame.
    fn sound(&mut self, index: u16, range: &Range) -> Option<Element<'l>> {
        let (leaf, len) = (self.leaf, self.leaf.bytes.len() as u64);
        let (key_bytes, end) = (u64::from(range.key_bytes), range.end());
        if key_bytes == 0 || key_bytes > MOST_KEY_BYTES || range.start < self.end || end > leaf.declared_bytes
        {
            return None;
        }
        let behind = leaf.range(index + 1).filter(|behind| behind.start >= range.start);
        if behind.is_some_and(|behind| behind.start < end) {
            return None;
        }
        // Also when its key is wrong: no byte is compared with the key before it twice.
        self.end = end;
        let Some(element) = leaf.part(index, range) else {
            // Behind the cut; nothing speaks against it.
            return Some(Element { key: &[], value: &[], ..Element::absent(index) });
        };
        if element.has_key() {
            let key_behind =
                behind.filter(|b| b.key_end() <= len && u64::from(b.key_bytes) <= MOST_KEY_BYTES);
            let key_behind = key_behind.and_then(|behind| leaf.part(index + 1, &behind));
            if self.last >= element.key || key_behind.is_some_and(|behind| element.key >= behind.key) {
                return None;
            }
            self.last = element.key;
        }
        Some(element)
    }
}

impl Element<'_> {
    fn absent(index: u16) -> Self {
        let (key, value): (&[u8], &[u8]) = (&[], &[]);
        Self { index, offset: 0, key, value, key_bytes: 0, value_bytes: 0, is_bucket: false }
    }
}

impl<'l> Iterator for Elements<'l> {
    type Item = Element<'l>;

    fn next(&mut self) -> Option<Element<'l>> {
        while let Some(range) = self.leaf.range(self.next) {
            let index = self.next;
            self.next += 1;
            match self.sound(index, &range) {
                Some(element) if element.key.is_empty() => {}
                Some(element) => return Some(element),
                None => self.is_flawed = true,
            }
        }
        None
    }
}
