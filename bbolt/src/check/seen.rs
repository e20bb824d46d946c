//! Which pages are in use, two bits each.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::page::PageId;

/// Two bits a page: used as the head of a page, used as its overflow.
pub(super) struct Seen {
    pub(super) words: Vec<AtomicU64>,
    pub(super) pages: u64,
}

pub(super) const HEAD: u64 = 0b01;
pub(super) const OVERFLOW: u64 = 0b10;

impl Seen {
    pub(super) fn new(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(32)).unwrap_or_default();
        Self { words: std::iter::repeat_with(AtomicU64::default).take(words).collect(), pages }
    }

    pub(super) fn word(&self, id: PageId) -> Option<(&AtomicU64, u64)> {
        let word = self.words.get(usize::try_from(id.0 / 32).ok()?)?;
        Some((word, (id.0 % 32) * 2))
    }

    /// Marks `id` as `what`; false when it was in use already. Pages outside the file are nobody's.
    pub(super) fn claim(&self, id: PageId, what: u64) -> bool {
        match self.word(id) {
            Some((word, shift)) if id.0 < self.pages => {
                word.fetch_or(what << shift, Ordering::Relaxed) >> shift & (HEAD | OVERFLOW) == 0
            }
            _ => true,
        }
    }

    /// Marks the `overflow` pages behind `id`; the first that was in use already is returned.
    pub(super) fn claim_overflow(&self, id: PageId, overflow: u32) -> Option<PageId> {
        let end = id.0.saturating_add(u64::from(overflow)).min(self.pages.saturating_sub(1));
        (id.0 + 1..=end).map(PageId).fold(None, |taken, page| {
            let free = self.claim(page, OVERFLOW);
            taken.or_else(|| (!free).then_some(page))
        })
    }

    /// Number of pages in use, without the metas, which a damaged branch may name.
    pub(super) fn used(&self) -> u64 {
        const EACH_PAGE: u64 = 0x5555_5555_5555_5555;
        let used = |word: &AtomicU64| {
            let bits = word.load(Ordering::Relaxed);
            u64::from(((bits | bits >> 1) & EACH_PAGE).count_ones())
        };
        let metas = [PageId(0), PageId(1)].into_iter().filter(|page| self.is_used(*page)).count() as u64;
        self.words.iter().map(used).sum::<u64>() - metas
    }

    pub(super) fn is_used(&self, id: PageId) -> bool {
        self.word(id)
            .is_some_and(|(word, shift)| word.load(Ordering::Relaxed) >> shift & (HEAD | OVERFLOW) != 0)
    }
}
