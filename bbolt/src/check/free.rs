//! A persisted freelist against what the trees use.

use super::list::Findings;
use super::metas::page_in_range;
use crate::db::Db;
use crate::fault::{Fault, FaultKind, Span};
use crate::freelist::{self, Freelist};
use crate::page::{HEADER_BYTES, PageId};
use crate::page_use::PageUse;
use crate::range::PageSet;
use crate::source::Source;

/// A persisted freelist against what the trees use: nothing twice, nothing in use, nothing outside, nothing lost.
pub(super) fn check_freelist<S: Source>(
    db: &Db<S>,
    freelist: Option<&Freelist>,
    seen: &PageUse,
    list: &mut Findings,
) {
    let Some(Freelist::Persisted { page, free, .. }) = freelist else { return };
    let high_water_mark = db.meta().high_water_mark;
    let start = first_id_at(db, *page);
    let mut listed = PageSet::new(db.page_count());
    for (index, id) in (0u64..).zip(free) {
        let mut push = |kind| list.push(id_fault(start, index, *id, kind), Some(*page), Vec::new(), None);
        if !page_in_range(db, id.0) {
            push(FaultKind::FreeOutOfBounds { high_water_mark });
        } else if !listed.insert(*id) {
            push(FaultKind::FreedTwice);
        } else if seen.is_used(*id) {
            push(FaultKind::ReachableFreed);
        }
    }
    for id in (2..db.page_count()).map(PageId) {
        if !seen.is_used(id) && !listed.contains(id) {
            list.push(db.fault(id, 0, FaultKind::UnreachableUnfreed), None, Vec::new(), None);
        }
    }
}

/// Pages that a part of the trees uses and a persisted freelist lists.
pub(super) fn check_freed_in_use<S: Source>(
    db: &Db<S>,
    freelist: Option<&Freelist>,
    seen: &PageUse,
    list: &mut Findings,
) {
    let Some(Freelist::Persisted { page, free, .. }) = freelist else { return };
    let start = first_id_at(db, *page);
    for (index, id) in (0u64..).zip(free) {
        if page_in_range(db, id.0) && seen.is_used(*id) {
            list.push(id_fault(start, index, *id, FaultKind::ReachableFreed), Some(*page), Vec::new(), None);
        }
    }
}

/// Where the first id of the freelist at `page` stands in the file.
fn first_id_at<S: Source>(db: &Db<S>, page: PageId) -> u64 {
    let skipped = db.header(page).is_ok_and(|h| h.count == freelist::COUNT_IN_FIRST_ID);
    db.offset_of(page) + HEADER_BYTES as u64 + if skipped { 8 } else { 0 }
}

fn id_fault(start: u64, index: u64, id: PageId, kind: FaultKind) -> Fault {
    Fault { page: id, span: Span { offset: start + index * 8, len: 8 }, kind }
}
