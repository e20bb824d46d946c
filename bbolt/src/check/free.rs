//! A persisted freelist against what the trees use.

use super::list::Findings;
use super::metas::page_in_range;
use super::seen::Seen;
use crate::db::Db;
use crate::fault::{Fault, FaultKind, Span};
use crate::freelist::{self, Freelist};
use crate::page::{HEADER_BYTES, PageId};
use crate::range::PageSet;
use crate::source::Source;

/// A persisted freelist against what the trees use: nothing twice, nothing in use, nothing outside, nothing lost.
pub(super) fn check_freelist<S: Source>(
    db: &Db<S>,
    freelist: Option<&Freelist>,
    seen: &Seen,
    list: &mut Findings,
) {
    let Some(Freelist::Persisted { page, free, .. }) = freelist else { return };
    let high_water_mark = db.meta().high_water_mark;
    let skipped = db.header(*page).is_ok_and(|h| h.count == freelist::COUNT_IN_FIRST_ID);
    let start = db.offset_of(*page) + HEADER_BYTES as u64 + if skipped { 8 } else { 0 };
    let mut listed = PageSet::new(db.page_count());
    for (index, id) in (0u64..).zip(free) {
        let mut push = |kind| {
            let span = Span { offset: start + index * 8, len: 8 };
            list.push(Fault { page: *id, span, kind }, Some(*page), Vec::new(), None);
        };
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
