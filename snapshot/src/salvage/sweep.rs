//! All copies of every revision, in the order of the revisions.
//!
//! A revision has one value for ever, so every whole record anywhere in the files is evidence for it. The leaves of records of all
//! sources, sorted by their first revision, are merged; what lies at one revision is a [`Group`]. Nothing is kept for a revision:
//! a sweep is run once to count and once more to write.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{ControlFlow, Range};

use bbolt::carve::{Element, Leaf, Place};
use bbolt::mend::is_laid_out;
use bbolt::page::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META};
use bbolt::{Node, PageHeader, Watch};
use serde::Serialize;

use super::SalvageError;
use super::classify::{Entry, Point, entries, inline_records};
use super::evidence::{Evidence, KeyLeaf, Place64};
use crate::mvcc::KeyValue;

/// How far a value can be relied on.
///
/// Two copies on different pages are held to be independent. They are not where bbolt copied a page that had gone wrong already: then
/// both say the same wrong thing, and nothing in the file can tell. Only the log's checksums, or another member, can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Only copies that are damaged in part or that differ, or a record of which it is open whether it was deleted since.
    Suspect,
    /// One whole copy.
    Single,
    /// Two independent equal copies, or the log's word. Two generations of a page that had rotted before the second was written from the
    /// first are equal too, and cannot be told from sound ones: pages have no checksum.
    Confirmed,
}

/// What a copy is worth by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Bytes of it are not there, or are no record of this revision.
    Torn,
    /// All there and possible, but something else may have been written over a part of it: a sector of it is all zeros or all ones,
    /// a page in it begins as pages do, its leaf is not in its place, what stands behind it or elsewhere in its leaf cannot be, or
    /// it has more in it than a server writes.
    Doubtful,
    /// All there, and what a server writes for this revision.
    Whole,
}

/// A copy of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy<'a> {
    /// Which of the sources it lies in.
    pub source: u16,
    /// Which candidate trees reach the leaf that it lies in: bit *i* for tree *i*.
    pub trees: u64,
    /// What it is worth.
    pub state: State,
    /// Whether its key has the mark of a tombstone.
    pub is_tombstone: bool,
    /// Number of the page that its leaf says it is. Copies under one number are not independent: a file that was copied carries its
    /// damage along, and so does a page.
    pub page: u64,
    /// Where the value starts in the file, in bytes.
    pub offset: u64,
    /// The record as it stands there; of a torn one, what is there of it.
    pub value: &'a [u8],
}

/// All copies of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// The main revision.
    pub main: i64,
    /// The place within it.
    pub sub: i64,
    /// At least one; in no particular order.
    pub copies: &'a [Copy<'a>],
}

/// How many ranges of revisions a sweep is cut into at most: what all cores take turns at.
const MOST_RANGES: usize = 256;
/// Leaves in a range at least, so that a small file is swept in few.
const LEAVES_A_RANGE: usize = 64;
/// Leaves of which it is known how far they reach together, so that those that end before a range need not be asked one by one.
const BLOCK: usize = 1024;
/// What a disk gives or refuses as a whole, in bytes.
pub(crate) const SECTOR_BYTES: usize = 512;

/// All leaves of records, cut into ranges of main revisions that can be swept one beside the other.
#[derive(Debug)]
pub(crate) struct Sweep<'e> {
    evidence: &'e Evidence,
    /// Where each range begins, by main revision; it ends where the next begins.
    bounds: Vec<i64>,
    /// The last main revision in each block of leaves.
    lasts: Vec<i64>,
}

impl<'e> Sweep<'e> {
    /// A sweep over all that was found.
    pub(crate) fn new(evidence: &'e Evidence) -> Self {
        let leaves = &evidence.leaves;
        let ranges = (leaves.len() / LEAVES_A_RANGE).clamp(1, MOST_RANGES);
        let step = leaves.len().div_ceil(ranges).max(1);
        let mut bounds: Vec<i64> = leaves.iter().step_by(step).map(|leaf| leaf.first.main()).collect();
        bounds.dedup();
        if let Some(first) = bounds.first_mut() {
            *first = i64::MIN;
        }
        let last = |block: &[KeyLeaf]| block.iter().map(|leaf| leaf.last.main()).max().unwrap_or_default();
        Self { evidence, bounds, lasts: leaves.chunks(BLOCK).map(last).collect() }
    }

    /// How many ranges there are.
    pub(crate) fn ranges(&self) -> usize {
        self.bounds.len()
    }

    /// Where the leaves of range `number` are, and up to which main revision it goes.
    fn range(&self, number: usize) -> (i64, i64) {
        let from = self.bounds.get(number).copied().unwrap_or(i64::MAX);
        let to = self.bounds.get(number + 1).map_or(i64::MAX, |next| next - 1);
        (from, to)
    }

    /// Shows `each` the groups of range `number`, in the order of their revisions, until it says that it is enough.
    ///
    /// # Errors
    /// [`SalvageError::Interrupted`].
    pub(crate) fn walk(
        &self,
        number: usize,
        watch: &dyn Watch,
        each: &mut dyn FnMut(&Group<'_>) -> ControlFlow<()>,
    ) -> Result<(), SalvageError> {
        let (from, to) = self.range(number);
        self.between(from, to, watch, each)
    }

    /// Shows `each` the groups of the main revisions `from` to `to`, in order.
    ///
    /// # Errors
    /// [`SalvageError::Interrupted`].
    pub(crate) fn between(
        &self,
        from: i64,
        to: i64,
        watch: &dyn Watch,
        each: &mut dyn FnMut(&Group<'_>) -> ControlFlow<()>,
    ) -> Result<(), SalvageError> {
        let leaves = &self.evidence.leaves;
        let first = leaves.partition_point(|leaf| leaf.first.main() < from);
        let end = leaves.partition_point(|leaf| leaf.first.main() <= to);
        let mut merge = Merge {
            evidence: self.evidence,
            from,
            to,
            open: Vec::new(),
            idle: Vec::new(),
            heads: BinaryHeap::new(),
        };
        // Those that begin before the range and reach into it.
        for (block, last) in self.lasts.iter().enumerate().take_while(|(block, _)| block * BLOCK < first) {
            if *last < from {
                continue;
            }
            let of_block = leaves.get(block * BLOCK..first.min((block + 1) * BLOCK)).unwrap_or_default();
            for leaf in of_block.iter().filter(|leaf| leaf.last.main() >= from) {
                merge.open(leaf);
            }
        }
        merge.run(leaves.get(first..end).unwrap_or_default(), watch, each)
    }
}

/// A record as it lies in an open leaf.
#[derive(Debug, Clone, Copy)]
struct Head {
    point: Point,
    is_tombstone: bool,
    /// Where what is there of the value begins in the leaf's bytes, and its length.
    start: usize,
    len: usize,
    /// Whether all of it is there.
    is_whole: bool,
}

impl Head {
    /// The record that an element of a leaf is that begins at `offset` of the file.
    #[inline]
    fn of(element: &Element<'_>, offset: u64) -> Option<Self> {
        if !element.has_key() || element.is_bucket {
            return None;
        }
        let (point, is_tombstone) = Point::parse(element.key)?;
        let start = usize::try_from(element.value_offset().checked_sub(offset)?).ok()?;
        Some(Self { point, is_tombstone, start, len: element.value.len(), is_whole: element.is_whole() })
    }
}

/// What a leaf's records are taken from.
#[derive(Debug)]
enum Entries<'e> {
    /// A leaf whose elements are sound: each is found by its number.
    Sound(Leaf<'e>),
    /// A damaged leaf: those of its elements that can be, by revision.
    Listed(Leaf<'e>, Vec<Head>),
    /// The page of a bucket that stands in a root bucket's leaf.
    Inline(Node<'e>),
}

/// A leaf that the merge has come to and not left.
#[derive(Debug)]
struct Open<'e> {
    entries: Entries<'e>,
    /// Where the bytes begin in the file.
    offset: u64,
    source: u16,
    trees: u64,
    /// Number of the page that it says it is.
    page: u64,
    is_displaced: bool,
    /// Length of a page, and the number of the first page of the leaf where it lies.
    page_size: usize,
    first_page: u64,
    next: usize,
    head: Head,
}

impl<'e> Open<'e> {
    fn new(evidence: &'e Evidence, leaf: &KeyLeaf, from: i64) -> Option<Self> {
        let source = evidence.sources.get(usize::from(leaf.source))?;
        let run = source.runs.get(usize::try_from(leaf.run).ok()?)?;
        let opened = Leaf::open(&source.pages, run)?;
        let (entries, offset) = if leaf.is_inline {
            let (node, offset) = inline_records(&opened)?;
            let owned = Node::parse(node.bytes().to_vec().into(), node.id(), node.offset()).ok()?;
            (Entries::Inline(owned), offset)
        } else if run.is_flawed {
            let offset = opened.offset();
            let mut listed: Vec<Head> = entries(&opened)
                .filter(|(_, entry)| *entry != Entry::Odd)
                .filter_map(|(element, _)| Head::of(&element, offset))
                .collect();
            listed.sort_by_key(|head| head.point);
            // What stands there twice says one of them wrongly, and only one can be right.
            listed.dedup_by_key(|head| head.point);
            (Entries::Listed(opened, listed), offset)
        } else {
            let offset = opened.offset();
            (Entries::Sound(opened), offset)
        };
        let mut open = Self {
            entries,
            offset,
            source: leaf.source,
            trees: leaf.trees,
            page: run.id,
            is_displaced: run.place == Place::Displaced,
            page_size: usize::try_from(source.pages.page_size()).ok()?,
            first_page: run.index.saturating_add(source.pages.first_page()),
            next: 0,
            head: Head { point: Point::default(), is_tombstone: false, start: 0, len: 0, is_whole: false },
        };
        open.skip_to(from);
        open.advance().then_some(open)
    }

    fn count(&self) -> usize {
        match &self.entries {
            Entries::Sound(leaf) => usize::from(leaf.run().count),
            Entries::Listed(_, listed) => listed.len(),
            Entries::Inline(node) => usize::from(node.count()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.entries {
            Entries::Sound(leaf) | Entries::Listed(leaf, _) => leaf.bytes(),
            Entries::Inline(node) => node.bytes(),
        }
    }

    #[inline]
    fn at(&self, at: usize) -> Option<Head> {
        let index = u16::try_from(at).ok()?;
        match &self.entries {
            Entries::Sound(leaf) => {
                let element = leaf.element(index)?;
                Head::of(&element, self.offset)
            }
            Entries::Listed(_, listed) => listed.get(at).copied(),
            Entries::Inline(node) => {
                let entry = Entry::of(node.key(index), node.value(index), node.is_bucket(index), true);
                let Entry::At(point, is_tombstone) = entry else { return None };
                let range = node.value_range(index);
                Some(Head { point, is_tombstone, start: range.start, len: range.len(), is_whole: true })
            }
        }
    }

    /// Goes to the first entry that is not before main revision `from`.
    fn skip_to(&mut self, from: i64) {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_before(middle, from) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.next = low;
    }

    /// Whether entry `at` stands before main revision `from`. What is behind a cut has no key, and stands behind all.
    fn is_before(&self, at: usize, from: i64) -> bool {
        let index = u16::try_from(at).unwrap_or(u16::MAX);
        let bound = from.max(0).to_be_bytes();
        match &self.entries {
            Entries::Sound(leaf) => {
                leaf.element(index).filter(Element::has_key).is_some_and(|element| element.key < &bound[..])
            }
            Entries::Listed(_, listed) => listed.get(at).is_some_and(|head| head.point.main < from),
            Entries::Inline(node) => node.key(index) < &bound[..],
        }
    }

    /// Takes the next record; false when there is none.
    #[inline]
    fn advance(&mut self) -> bool {
        let count = self.count();
        while self.next < count {
            let head = self.at(self.next);
            self.next += 1;
            // Of a put and a tombstone at one place in one leaf, which no server writes, the put counts.
            if let Some(head) = head.filter(|head| head.point != self.head.point) {
                self.head = head;
                return true;
            }
        }
        false
    }

    /// The record at hand as a copy.
    #[inline]
    fn copy(&self) -> Copy<'_> {
        let Head { point, is_tombstone, start, len, is_whole } = self.head;
        let value = self.bytes().get(start..start + len).unwrap_or_default();
        let worth = if is_whole { worth_of(value, point.main, is_tombstone) } else { State::Torn };
        let state = if worth != State::Whole {
            worth
        } else if self.is_displaced
            || matches!(self.entries, Entries::Listed(..))
            || self.is_doubtful(start, len)
        {
            State::Doubtful
        } else {
            State::Whole
        };
        Copy {
            source: self.source,
            trees: self.trees,
            state,
            is_tombstone,
            page: self.page,
            offset: self.offset.saturating_add(start as u64),
            value,
        }
    }

    /// Whether the element behind the one at hand cannot be, though all of it is there.
    fn is_next_impossible(&self) -> bool {
        let (Entries::Sound(leaf), Ok(next)) = (&self.entries, u16::try_from(self.next)) else {
            return false;
        };
        leaf.element(next).filter(Element::is_whole).is_some_and(|element| {
            Point::parse(element.key).is_none_or(|(point, is_tombstone)| {
                worth_of(element.value, point.main, is_tombstone) != State::Whole
            })
        })
    }

    /// Whether something else may have been written over a part of the bytes from `start` on: a sector of zeros or of ones, a
    /// page that says that it is where it is, a tree page of elsewhere, or a page in which what follows cannot be.
    fn is_doubtful(&self, start: usize, len: usize) -> bool {
        if matches!(self.entries, Entries::Inline(_)) {
            return false;
        }
        let (bytes, end) = (self.bytes(), start + len);
        let mut sector = start.next_multiple_of(SECTOR_BYTES);
        while sector < end {
            // The one in which it ends is lost as a whole too, with what is behind it.
            let sector_end = (sector + SECTOR_BYTES).min(bytes.len());
            let blank = bytes.get(sector..sector_end).and_then(blank_byte);
            let run =
                blank.map(|byte| run_of(bytes.get(start..end).unwrap_or_default(), sector - start, byte));
            match run {
                Some(run) if is_of_sectors(&run, start, end) => return true,
                Some(run) => sector = (start + run.end).max(sector_end),
                None => sector = sector_end,
            }
            sector = sector.next_multiple_of(SECTOR_BYTES);
        }
        let last_page = end / self.page_size;
        if start / self.page_size < last_page
            && !end.is_multiple_of(self.page_size)
            && self.is_next_impossible()
        {
            return true;
        }
        let mut page = start.next_multiple_of(self.page_size);
        while page < end {
            let id = self.first_page.saturating_add((page / self.page_size) as u64);
            let header = bytes.get(page..).and_then(PageHeader::parse);
            let is_head = |header: PageHeader| {
                header.id == id && [FLAG_BRANCH, FLAG_LEAF, FLAG_META, FLAG_FREELIST].contains(&header.flags)
            };
            let is_foreign = |header: PageHeader| is_laid_out(bytes.get(page..).unwrap_or_default(), &header);
            if page > 0 && header.is_some_and(|header| is_head(header) || is_foreign(header)) {
                return true;
            }
            page += self.page_size;
        }
        false
    }
}

/// The byte of which all of a sector is, if that is one which a lost sector has.
fn blank_byte(sector: &[u8]) -> Option<u8> {
    let byte = *sector.first().filter(|byte| [0, 0xff].contains(*byte))?;
    sector.iter().all(|other| *other == byte).then_some(byte)
}

/// Where in `value` the run of `byte` begins and ends that stands at `at`.
fn run_of(value: &[u8], at: usize, byte: u8) -> Range<usize> {
    let is_other = |other: &u8| *other != byte;
    let before = value.get(..at).and_then(|before| before.iter().rposition(is_other));
    let behind = value.get(at..).and_then(|behind| behind.iter().position(is_other));
    before.map_or(0, |last| last + 1)..behind.map_or(value.len(), |first| at + first)
}

/// Whether a run of one byte in a record from `start` to `end`, counted from the head of its page, begins or ends with a sector, as it
/// does where one was lost, and as it hardly does where it is a part of the value.
fn is_of_sectors(run: &Range<usize>, start: usize, end: usize) -> bool {
    let (from, to) = (start + run.start, start + run.end);
    from.is_multiple_of(SECTOR_BYTES) || to < end && to.is_multiple_of(SECTOR_BYTES)
}

/// What `value` is worth as the record of main revision `main`: the message fills it, a put says its own revision, a tombstone has a
/// key and nothing else (FORMATS B.3). What `snapshot restore --bump-revision` writes is empty. What no known server's encoder
/// makes of that is open to doubt.
#[inline]
fn worth_of(value: &[u8], main: i64, is_tombstone: bool) -> State {
    let possible = |is_possible: bool| if is_possible { State::Whole } else { State::Torn };
    if value.is_empty() {
        return possible(!is_tombstone);
    }
    let Ok(kv) = KeyValue::decode(value) else { return State::Torn };
    let is_possible = if is_tombstone {
        KeyValue { key: kv.key, ..KeyValue::default() } == kv && !kv.key.is_empty()
    } else {
        kv.mod_revision == main && kv.create_revision > 0 && kv.create_revision <= main && kv.version >= 1
    };
    if is_possible && kv.encoded_bytes() != value.len() {
        return State::Doubtful;
    }
    possible(is_possible)
}

/// Leaves merged by revision.
struct Merge<'e> {
    evidence: &'e Evidence,
    from: i64,
    to: i64,
    open: Vec<Option<Open<'e>>>,
    /// Places in `open` that are free.
    idle: Vec<usize>,
    /// The record at hand of each open leaf, and its place in `open`.
    heads: BinaryHeap<Reverse<(Point, usize)>>,
}

impl<'e> Merge<'e> {
    fn open(&mut self, leaf: &KeyLeaf) {
        let Some(opened) = Open::new(self.evidence, leaf, self.from) else { return };
        let point = opened.head.point;
        let slot = match self.idle.pop() {
            Some(slot) => slot,
            None => {
                self.open.push(None);
                self.open.len() - 1
            }
        };
        if let Some(place) = self.open.get_mut(slot) {
            *place = Some(opened);
        }
        self.heads.push(Reverse((point, slot)));
    }

    fn close(&mut self, slot: usize) {
        if let Some(place) = self.open.get_mut(slot) {
            *place = None;
        }
        self.idle.push(slot);
    }

    fn run(
        mut self,
        leaves: &[KeyLeaf],
        watch: &dyn Watch,
        each: &mut dyn FnMut(&Group<'_>) -> ControlFlow<()>,
    ) -> Result<(), SalvageError> {
        let mut coming = leaves.iter().peekable();
        let mut at_one: Vec<usize> = Vec::new();
        let mut room: Vec<Copy<'static>> = Vec::new();
        loop {
            let head = self.heads.peek().map(|Reverse((point, _))| *point);
            // The place of a leaf that comes may be cut to 32 bits, so it is opened a little early at worst.
            while let Some(leaf) = coming.next_if(|leaf| head.is_none_or(|head| leaf.first <= head.into())) {
                if watch.interrupted() {
                    return Err(SalvageError::Interrupted);
                }
                watch.advance(self.evidence.len_of(leaf));
                self.open(leaf);
                if head.is_none() {
                    break;
                }
            }
            if head.is_none() && !self.heads.is_empty() {
                continue;
            }
            let Some(Reverse((point, slot))) = self.heads.pop() else {
                if coming.peek().is_none() {
                    return Ok(());
                }
                continue;
            };
            if point.main > self.to {
                self.close(slot);
                continue;
            }
            let until = match (self.heads.peek(), coming.peek()) {
                (None, None) => None,
                (head, leaf) => {
                    let head = head.map(|Reverse((point, _))| Place64::from(*point));
                    let leaf = leaf.map(|leaf| leaf.first);
                    head.into_iter().chain(leaf).min()
                }
            };
            // Nobody else has anything up to there: the common case, in which nothing is compared with anything.
            if until.is_none_or(|until| Place64::from(point) < until) {
                let Some(Some(open)) = self.open.get_mut(slot) else { continue };
                loop {
                    let copy = open.copy();
                    let group = Group {
                        main: open.head.point.main,
                        sub: open.head.point.sub,
                        copies: std::slice::from_ref(&copy),
                    };
                    if each(&group).is_break() {
                        return Ok(());
                    }
                    if !open.advance() {
                        self.close(slot);
                        break;
                    }
                    let point = open.head.point;
                    if point.main > self.to || until.is_some_and(|until| Place64::from(point) >= until) {
                        self.heads.push(Reverse((point, slot)));
                        break;
                    }
                }
                continue;
            }
            at_one.clear();
            at_one.push(slot);
            while let Some(Reverse((_, slot))) =
                self.heads.peek().copied().filter(|Reverse((other, _))| *other == point)
            {
                self.heads.pop();
                at_one.push(slot);
            }
            let mut copies = emptied(room);
            copies.extend(at_one.iter().filter_map(|slot| self.open.get(*slot)?.as_ref()).map(Open::copy));
            let is_enough = each(&Group { main: point.main, sub: point.sub, copies: &copies }).is_break();
            room = emptied(copies);
            if is_enough {
                return Ok(());
            }
            for slot in &at_one {
                let Some(Some(open)) = self.open.get_mut(*slot) else { continue };
                if open.advance() {
                    let point = open.head.point;
                    self.heads.push(Reverse((point, *slot)));
                } else {
                    self.close(*slot);
                }
            }
        }
    }
}

/// The room of a vector, for copies that live as long as they may: what is collected from itself is not allocated anew.
fn emptied<'to>(copies: Vec<Copy<'_>>) -> Vec<Copy<'to>> {
    copies.into_iter().map_while(|_| None).collect()
}
