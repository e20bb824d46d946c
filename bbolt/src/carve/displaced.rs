//! Leaves that say they were elsewhere, in what no run of a head in its place has taken.

use super::pass::Pass;
use super::{Cut, Leaf, PageKind, Place, Run};
use crate::mend::laid_out;
use crate::page::{HEADER_BYTES, PageHeader};
use crate::source::Source;

/// Most pages of a candidate that came to nothing, of which those behind the first are looked at once more: no page is read more often
/// than that.
const MOST_AGAIN: u32 = 8;

/// A leaf that was found, or pages that look so much like one that nothing else is looked for in them.
pub(super) struct Taken<T> {
    pub(super) run: Run,
    /// What the judge says; `None` when its keys do not ascend or none of its elements is whole.
    pub(super) judged: Option<T>,
}

/// The candidates of `kinds`, by index, in groups that have nothing to do with each other.
pub(super) fn groups(kinds: &[PageKind]) -> Vec<Vec<u64>> {
    let mut groups: Vec<Vec<u64>> = Vec::new();
    let mut is_open = false;
    for (index, kind) in (0..).zip(kinds) {
        match kind {
            PageKind::Displaced => match groups.last_mut().filter(|_| is_open) {
                Some(group) => group.push(index),
                None => {
                    groups.push(vec![index]);
                    is_open = true;
                }
            },
            PageKind::Zero | PageKind::Unknown | PageKind::Unreadable => {}
            _ => is_open = false,
        }
    }
    groups
}

impl<S: Source, T> Pass<'_, S, T> {
    /// Takes what is a leaf of one group of candidates, in order, each page once.
    pub(super) fn displaced(&self, kinds: &[PageKind], group: &[u64]) -> Vec<Taken<T>> {
        let mut taken: Vec<Taken<T>> = Vec::new();
        let mut end = 0;
        for index in group {
            if *index < end {
                continue;
            }
            if let Some(found) = self.displaced_at(kinds, *index) {
                // What is no leaf has no claim on the pages behind; they are looked at again where those are few.
                let is_leaf = found.judged.is_some();
                let pages = if is_leaf || found.run.pages > MOST_AGAIN { found.run.pages } else { 1 };
                end = index + u64::from(pages);
                taken.push(found);
            }
        }
        taken
    }

    fn displaced_at(&self, kinds: &[PageKind], index: u64) -> Option<Taken<T>> {
        let header = self.first_of_displaced(index)?;
        let (pages, cut) = self.displaced_extent(kinds, index, &header);
        let declared = header.overflow.saturating_add(1);
        let (id, count, place) = (header.id, header.count, Place::Displaced);
        let run = Run { index, id, pages, declared, count, place, cut, is_flawed: false };
        let leaf = Leaf::read(self.pages, run).looked_at();
        let is_leaf = !leaf.run().is_flawed && leaf.elements().next().is_some_and(|first| first.is_whole());
        Some(Taken { run: *leaf.run(), judged: is_leaf.then(|| (self.judge)(&leaf)) })
    }

    /// The header of page `index`, if its elements lie as every known writer leaves them: back to back from the end of the table,
    /// as long together as the pages declared. That is in the first page, so that no candidate costs more than a page before it has
    /// pages of its own.
    fn first_of_displaced(&self, index: u64) -> Option<PageHeader> {
        let page = self.bytes(index, self.len_of(index, 1)).ok()?;
        let header = PageHeader::parse(&page).filter(|header| self.is_displaced(index, header))?;
        let end = laid_out(&page, header.flags, header.count)?;
        let needed = end.div_ceil(self.page_size());
        let declared = u64::from(header.overflow) + 1;
        // Old versions of bbolt took a page more where the last one was just full.
        let is_full = end.is_multiple_of(self.page_size());
        (needed == declared || is_full && needed + 1 == declared).then_some(header)
    }

    /// As that of a head in its place. Heads that are displaced by as much are of the same kind of damage, and cut it too.
    fn displaced_extent(&self, kinds: &[PageKind], index: u64, header: &PageHeader) -> (u32, Option<Cut>) {
        let displacement = header.id.wrapping_sub(index);
        for (next, pages) in (index + 1..=index + u64::from(header.overflow)).zip(1..) {
            let kind = usize::try_from(next).ok().and_then(|next| kinds.get(next));
            let cut = match kind {
                None => Cut::EndOfFile,
                Some(PageKind::Zero | PageKind::Unknown | PageKind::Unreadable) => continue,
                Some(PageKind::Displaced) => {
                    let page = self.bytes(next, self.len_of(next, 1).min(HEADER_BYTES as u64)).ok();
                    let found = page.and_then(|page| PageHeader::parse(&page));
                    if found.is_none_or(|found| found.id.wrapping_sub(next) != displacement) {
                        continue;
                    }
                    Cut::WrittenOver
                }
                Some(_) => Cut::WrittenOver,
            };
            return (pages, Some(cut));
        }
        self.all_of_it(index, header.overflow)
    }
}
