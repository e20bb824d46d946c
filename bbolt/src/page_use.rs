//! Which pages are in use, two bits each.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::page::PageId;

/// How each page of a file is used: as the head of a page, as its overflow, or not at all. Two bits a page.
#[derive(Debug)]
pub struct PageUse {
    words: Vec<AtomicU64>,
    pages: u64,
}

const HEAD: u64 = 0b01;
const OVERFLOW: u64 = 0b10;

impl PageUse {
    /// No page of `pages` is used yet.
    #[must_use]
    pub fn new(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(32)).unwrap_or_default();
        Self { words: std::iter::repeat_with(AtomicU64::default).take(words).collect(), pages }
    }

    /// Number of pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The word that has the bits of `id`, and where in it they are.
    fn word(&self, id: PageId) -> Option<(&AtomicU64, u64)> {
        let word = self.words.get(usize::try_from(id.0 / 32).ok()?)?;
        Some((word, (id.0 % 32) * 2))
    }

    fn bits(&self, id: PageId) -> u64 {
        self.word(id).map_or(0, |(word, shift)| word.load(Ordering::Relaxed) >> shift & (HEAD | OVERFLOW))
    }

    /// True when `id` starts a page that a tree, or the file itself, names.
    #[must_use]
    pub fn is_head(&self, id: PageId) -> bool {
        self.bits(id) & HEAD != 0
    }

    /// True when `id` lies in the overflow of such a page.
    #[must_use]
    pub fn is_overflow(&self, id: PageId) -> bool {
        self.bits(id) & OVERFLOW != 0
    }

    /// True when `id` is used either way.
    #[must_use]
    pub fn is_used(&self, id: PageId) -> bool {
        self.bits(id) != 0
    }

    /// Number of pages in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        const EACH_PAGE: u64 = 0x5555_5555_5555_5555;
        let used = |word: &AtomicU64| {
            let bits = word.load(Ordering::Relaxed);
            u64::from(((bits | bits >> 1) & EACH_PAGE).count_ones())
        };
        self.words.iter().map(used).sum()
    }

    fn mark(&self, id: PageId, what: u64) -> bool {
        match self.word(id) {
            Some((word, shift)) if id.0 < self.pages => {
                word.fetch_or(what << shift, Ordering::Relaxed) >> shift & (HEAD | OVERFLOW) == 0
            }
            _ => true,
        }
    }

    /// Marks `id` as the head of a page; false when it was in use already. Pages outside the file are nobody's.
    pub(crate) fn claim_head(&self, id: PageId) -> bool {
        self.mark(id, HEAD)
    }

    /// Marks the `overflow` pages behind `id`; the first that was in use already is returned.
    pub(crate) fn claim_overflow(&self, id: PageId, overflow: u32) -> Option<PageId> {
        let end = id.0.saturating_add(u64::from(overflow)).min(self.pages.saturating_sub(1));
        (id.0.saturating_add(1)..=end).map(PageId).fold(None, |taken, page| {
            let free = self.mark(page, OVERFLOW);
            taken.or_else(|| (!free).then_some(page))
        })
    }

    /// Marks page `id` and its `overflow`; false when one of them was in use already.
    pub fn claim(&self, id: PageId, overflow: u32) -> bool {
        let is_head_alone = self.claim_head(id);
        self.claim_overflow(id, overflow).is_none() && is_head_alone
    }
}
