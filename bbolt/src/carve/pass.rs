//! The pass over all pages: which of them are heads in their places, and what belongs to them.

use std::borrow::Cow;
use std::ops::Range;

use super::{Cut, Leaf, PageKind, Place, Run};
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
    page_size: usize,
    whole: Option<Cow<'s, [u8]>>,
    pieces: Vec<Option<Cow<'s, [u8]>>>,
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

    /// Some of its pages in one piece, if it has them in one.
    fn run(&self, index: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?.checked_mul(self.page_size)?;
        self.whole.as_deref()?.get(at..at.checked_add(len)?)
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
        let pieces = one_by_one.map(|index| self.bytes(index, self.len_of(index, 1)).ok()).collect();
        Window { first: range.start, page_size, whole, pieces }
    }

    /// The header of page `index`, if that is a head in its place. `bytes` begin with the page's first.
    pub(super) fn head(&self, index: u64, bytes: &[u8]) -> Option<PageHeader> {
        let id = index.checked_add(self.pages.first_page())?;
        let header = PageHeader::parse(bytes).filter(|header| header.id == id)?;
        let is_taken = || self.reached.is_some_and(|reached| reached.is_overflow(PageId(index)));
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
                None => PageKind::Unreadable,
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
            let inside = usize::try_from(next.min(range.end) - range.start).unwrap_or_default();
            part.kinds.resize(inside, PageKind::Overflow);
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
        let (mut pages, mut cut) = self.extent(window, index, header.overflow);
        let kind = match header.flags {
            FLAG_LEAF => PageKind::Leaf,
            FLAG_BRANCH => return (PageKind::Branch, pages),
            FLAG_META => return (PageKind::Meta, pages),
            _ => return (PageKind::Freelist, pages),
        };
        let len = self.len_of(index, u64::from(pages));
        let inside = usize::try_from(len).ok().and_then(|len| window.run(index, len));
        let bytes = match inside.or_else(|| window.page(index).filter(|page| page.len() as u64 == len)) {
            Some(bytes) => {
                self.pages.source().will_read((index + u64::from(pages)) * self.page_size(), AHEAD_BYTES);
                Cow::Borrowed(bytes)
            }
            None => match self.bytes(index, len) {
                Ok(bytes) => bytes,
                Err(_) => {
                    // A page behind the window, the start of which could be read.
                    let is_readable = |at: &u64| self.bytes(*at, self.len_of(*at, 1)).is_ok();
                    let more = (index + 1..index + u64::from(pages)).take_while(is_readable).count();
                    (pages, cut) = (u32::try_from(more + 1).unwrap_or(pages), Some(Cut::Unreadable));
                    match self.bytes(index, self.len_of(index, u64::from(pages))) {
                        Ok(bytes) => bytes,
                        Err(_) => return (kind, pages),
                    }
                }
            },
        };
        let place = match self.reached {
            Some(reached) if reached.is_head(PageId(index)) => Place::Reached,
            _ => Place::Placed,
        };
        let (id, count, declared) = (header.id, header.count, header.overflow.saturating_add(1));
        let run = Run { index, id, pages, declared, count, place, cut, is_flawed: false };
        let leaf = self.leaf(bytes, run);
        runs.push((*leaf.run(), (self.judge)(&leaf)));
        (kind, pages)
    }

    /// The leaf that `run` is, with what a look at its elements says of it.
    pub(super) fn leaf<'b>(&self, bytes: Cow<'b, [u8]>, mut run: Run) -> Leaf<'b> {
        let offset = run.index.saturating_mul(self.page_size());
        let len = bytes.len() as u64;
        let leaf = Leaf::new(bytes, offset, run, self.page_size());
        let looked = leaf.look();
        run.is_flawed = looked.is_flawed;
        // Pages that no element needs are no loss.
        run.cut = run.cut.filter(|_| looked.is_flawed || looked.end > len);
        leaf.with_run(run)
    }

    /// How many pages behind page `index` are its own, itself included, of the `overflow` further ones that it declares.
    fn extent(&self, window: &Window<'_>, index: u64, overflow: u32) -> (u32, Option<Cut>) {
        let end = index.saturating_add(u64::from(overflow));
        for (next, pages) in (index + 1..=end).zip(1..) {
            if next >= self.page_count() {
                return (pages, Some(Cut::EndOfFile));
            }
            let ahead;
            let page = match window.page(next) {
                Some(page) => Some(page),
                None if self.is_in(window, next) => None,
                None => {
                    ahead = self.bytes(next, self.len_of(next, 1).min(HEADER_BYTES as u64)).ok();
                    ahead.as_deref()
                }
            };
            let Some(page) = page else { return (pages, Some(Cut::Unreadable)) };
            if self.head(next, page).is_some() {
                return (pages, Some(Cut::WrittenOver));
            }
        }
        let is_cut =
            self.len_of(index, u64::from(overflow) + 1) < (u64::from(overflow) + 1) * self.page_size();
        (overflow.saturating_add(1), is_cut.then_some(Cut::EndOfFile))
    }

    fn is_in(&self, window: &Window<'_>, index: u64) -> bool {
        index - window.first < window.pieces.len() as u64
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
