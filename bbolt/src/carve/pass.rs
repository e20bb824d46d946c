//! The pass over all pages: which of them are heads in their places, and what belongs to them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::leaf::in_sectors;
use super::{Cut, Leaf, PageKind, Place, Run};
use crate::mend::{mended_header, told_overflow};
use crate::page::{
    ELEMENT_BYTES, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, HEADER_BYTES, PageHeader, PageId,
};
use crate::page_file::PageFile;
use crate::page_use::PageUse;
use crate::source::{Source, SourceError};

/// What a freelist of more ids than fit its count has there (FORMATS A.6).
const COUNT_ELSEWHERE: u16 = u16::MAX;
/// How much of the next page is fetched while one is worked on, in bytes.
const AHEAD_BYTES: u64 = 512;

/// What one window of the file comes to.
pub(super) struct Part<T> {
    /// The leaves whose heads are in the window.
    pub(super) runs: Vec<(Run, T)>,
    /// What each page of it is. Those in front of its first head may yet belong to a head in another window.
    pub(super) kinds: Vec<PageKind>,
    /// The first page, by index, behind the last run: behind the window where that goes on there.
    pub(super) end: u64,
}

/// What every window is read with.
pub(super) struct Pass<'p, S, T> {
    pub(super) pages: &'p PageFile<S>,
    pub(super) reached: Option<&'p PageUse>,
    pub(super) judge: &'p (dyn Fn(&Leaf<'_>) -> T + Sync),
}

/// Pages next to each other, read in one piece or, where that fails, one by one.
struct Window<'s> {
    first: u64,
    end: u64,
    page_size: usize,
    whole: Option<Cow<'s, [u8]>>,
    pieces: Vec<Option<Cow<'s, [u8]>>>,
    /// Of pages that cannot be read as a whole, and whose first sector can: what can be read, with zeros elsewhere, by index.
    parts: HashMap<u64, Vec<u8>>,
}

impl Window<'_> {
    /// The page, which may be cut off by the end of the file; `None` when it cannot be read.
    fn page(&self, index: u64) -> Option<&[u8]> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        match &self.whole {
            Some(bytes) => {
                let from = at.checked_mul(self.page_size).filter(|from| *from < bytes.len())?;
                bytes.get(from..bytes.len().min(from + self.page_size))
            }
            None => self.pieces.get(at)?.as_deref(),
        }
    }

    /// `len` bytes from page `index` on in one piece, if they were read so.
    fn run(&self, index: u64, len: u64) -> Option<&[u8]> {
        let len = usize::try_from(len).ok()?;
        match &self.whole {
            Some(bytes) => {
                let at = usize::try_from(index.checked_sub(self.first)?).ok()?.checked_mul(self.page_size)?;
                bytes.get(at..at.checked_add(len)?)
            }
            None => self.page(index).filter(|page| page.len() == len),
        }
    }
}

impl<S: Source, T> Pass<'_, S, T> {
    /// Length of a page in bytes.
    pub(super) fn page_size(&self) -> u64 {
        u64::from(self.pages.page_size())
    }

    /// Number of pages, the last of which may be cut off by the end of the file.
    pub(super) fn page_count(&self) -> u64 {
        self.pages.source().len_bytes().div_ceil(self.page_size())
    }

    /// How many bytes there are of `pages` pages from `index` on.
    pub(super) fn len_of(&self, index: u64, pages: u64) -> u64 {
        let from = index.saturating_mul(self.page_size());
        let there = self.pages.source().len_bytes().saturating_sub(from);
        pages.saturating_mul(self.page_size()).min(there)
    }

    pub(super) fn bytes(&self, index: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        self.pages.source().bytes(index.saturating_mul(self.page_size()), len)
    }

    fn read(&self, range: Range<u64>) -> Window<'_> {
        let page_size = usize::try_from(self.page_size()).unwrap_or(usize::MAX);
        let whole = self.bytes(range.start, self.len_of(range.start, range.end - range.start)).ok();
        let one_by_one = if whole.is_some() { 0..0 } else { range.clone() };
        let pieces =
            one_by_one.map(|index| self.bytes(index, self.len_of(index, 1)).ok()).collect::<Vec<_>>();
        let mut parts = HashMap::new();
        for (index, _) in (range.start..).zip(&pieces).filter(|(_, piece)| piece.is_none()) {
            let (bytes, bad) =
                in_sectors(self.pages, index.saturating_mul(self.page_size()), self.len_of(index, 1));
            if bad.first().is_none_or(|bad| bad.start > 0) {
                parts.insert(index, bytes);
            }
        }
        Window { first: range.start, end: range.end, page_size, whole, pieces, parts }
    }

    /// The header of page `index`, if that is a head in its place. `bytes` begin with the page's first.
    pub(super) fn head(&self, index: u64, bytes: &[u8]) -> Option<PageHeader> {
        let id = index.checked_add(self.pages.first_page())?;
        let header = PageHeader::parse(bytes).filter(|header| header.id == id)?;
        let is_taken = || self.reached.is_some_and(|reached| reached.is_overflow(PageId(index)));
        let header = mended_header(bytes, &header);
        (is_possible(&header, self.page_size()) && !is_taken()).then_some(header)
    }

    /// Looks at the pages of `range` and judges the leaves whose heads are there.
    pub(super) fn window(&self, range: Range<u64>) -> Part<T> {
        let window = self.read(range.clone());
        let mut part = Part { runs: Vec::new(), kinds: Vec::new(), end: range.start };
        let mut index = range.start;
        while index < range.end {
            let mut next = index + 1;
            let kind = match window.page(index) {
                None => match window.parts.get(&index).and_then(|page| self.head(index, page)) {
                    None => PageKind::Unreadable,
                    Some(header) => {
                        let (kind, pages) = self.run(&window, index, &header, &mut part.runs);
                        next = index + u64::from(pages);
                        part.end = next;
                        kind
                    }
                },
                Some(page) => match self.head(index, page) {
                    None => self.loose(index, page),
                    Some(header) => {
                        let (kind, pages) = self.run(&window, index, &header, &mut part.runs);
                        next = index + u64::from(pages);
                        part.end = next;
                        kind
                    }
                },
            };
            part.kinds.push(kind);
            part.kinds.extend((index + 1..next.min(range.end)).map(|index| match window.page(index) {
                Some(_) => PageKind::Overflow,
                None => PageKind::Unreadable,
            }));
            index = next;
        }
        part
    }

    /// The run whose head is page `index`; its leaf is added to `runs`. What the head is, and how many pages the run has.
    fn run(
        &self,
        window: &Window<'_>,
        index: u64,
        header: &PageHeader,
        runs: &mut Vec<(Run, T)>,
    ) -> (PageKind, u32) {
        // What the header leaves out its table may have. What it has too many of ends where another head begins.
        let told = window.page(index).map_or(0, |page| told_overflow(page, header));
        let is_within = index.saturating_add(u64::from(told)) < self.page_count();
        let told = if is_within { told } else { 0 };
        let (pages, cut) = self.extent(window, index, header.overflow.max(told));
        let kind = match header.flags {
            FLAG_LEAF => PageKind::Leaf,
            FLAG_BRANCH => return (PageKind::Branch, pages),
            FLAG_META => return (PageKind::Meta, pages),
            _ => return (PageKind::Freelist, pages),
        };
        let place = match self.reached {
            Some(reached) if reached.is_head(PageId(index)) => Place::Reached,
            _ => Place::Placed,
        };
        let (id, count, declared) = (header.id, header.count, header.overflow.max(told).saturating_add(1));
        let run = Run { index, id, pages, declared, count, place, cut, is_flawed: false };
        let leaf = match window.run(index, self.len_of(index, u64::from(pages))) {
            Some(bytes) => {
                let next = (index + u64::from(pages)).saturating_mul(self.page_size());
                self.pages.source().will_read(next, AHEAD_BYTES);
                Leaf::new(self.pages, Cow::Borrowed(bytes), run)
            }
            None => Leaf::read(self.pages, run),
        };
        let leaf = leaf.looked_at();
        runs.push((*leaf.run(), (self.judge)(&leaf)));
        (kind, pages)
    }

    /// How many pages from page `index` on are its own, when it declares `overflow` further ones, and why not all of them are. Pages
    /// that cannot be read are no end: what is behind them is as likely its own as if it could be.
    fn extent(&self, window: &Window<'_>, index: u64, overflow: u32) -> (u32, Option<Cut>) {
        let end = index.saturating_add(u64::from(overflow));
        for (next, pages) in (index + 1..=end).zip(1..) {
            if next >= self.page_count() {
                return (pages, Some(Cut::EndOfFile));
            }
            let ahead;
            let page = match window.page(next) {
                None if next >= window.end => {
                    ahead = self.bytes(next, self.len_of(next, 1)).ok();
                    ahead.as_deref()
                }
                page => page,
            };
            let page = page.or_else(|| window.parts.get(&next).map(Vec::as_slice));
            if page.is_some_and(|page| self.head(next, page).is_some()) {
                return (pages, Some(Cut::WrittenOver));
            }
        }
        self.all_of_it(index, overflow)
    }

    /// A run as long as its head declares, unless the file ends within its last page.
    pub(super) fn all_of_it(&self, index: u64, overflow: u32) -> (u32, Option<Cut>) {
        let pages = overflow.saturating_add(1);
        let declared_bytes = u64::from(pages) * self.page_size();
        (pages, (self.len_of(index, u64::from(pages)) < declared_bytes).then_some(Cut::EndOfFile))
    }

    /// What a page is that is no head in its place.
    fn loose(&self, index: u64, page: &[u8]) -> PageKind {
        match PageHeader::parse(page) {
            Some(header) if self.is_displaced(index, &header) => PageKind::Displaced,
            _ if page.iter().all(|byte| *byte == 0) => PageKind::Zero,
            _ => PageKind::Unknown,
        }
    }

    /// Whether this may be the header of a leaf that belongs elsewhere. Its table must lie in its first page, as that of every
    /// leaf does which bbolt writes: leaves of more than four elements are split before they need overflow.
    pub(super) fn is_displaced(&self, index: u64, header: &PageHeader) -> bool {
        let table_end = HEADER_BYTES as u64 + u64::from(header.count) * ELEMENT_BYTES as u64;
        header.flags == FLAG_LEAF
            && header.count > 0
            && header.id > 1
            && Some(header.id) != index.checked_add(self.pages.first_page())
            && table_end < self.page_size()
    }
}

/// Whether a page can have such a header.
fn is_possible(header: &PageHeader, page_size: u64) -> bool {
    let room = (u64::from(header.overflow) + 1) * page_size - HEADER_BYTES as u64;
    let count = u64::from(header.count);
    match header.flags {
        FLAG_LEAF => count * ELEMENT_BYTES as u64 <= room,
        FLAG_BRANCH => count > 0 && count * ELEMENT_BYTES as u64 <= room,
        FLAG_FREELIST => header.count == COUNT_ELSEWHERE || count * 8 <= room,
        FLAG_META => header.id < 2,
        _ => false,
    }
}
