//! The metas beyond what opening asks of them.

use super::list::Findings;
use crate::db::Db;
use crate::fault::{Fault, FaultKind, Span};
use crate::meta::{META_BYTES, NO_FREELIST};
use crate::page::{FLAG_META, HEADER_BYTES, PageHeader, PageId};
use crate::source::Source;

pub(super) fn active_page<S: Source>(db: &Db<S>) -> PageId {
    PageId(db.active_slot() as u64)
}

pub(super) fn page_in_range<S: Source>(db: &Db<S>, page: u64) -> bool {
    (2..db.meta().high_water_mark).contains(&page)
}

/// Byte offsets, within a meta page, of the fields that findings point at.
pub(super) const AT_ROOT: u64 = HEADER_BYTES as u64 + 16;
pub(super) const AT_FREELIST: u64 = HEADER_BYTES as u64 + 32;
pub(super) const AT_HIGH_WATER_MARK: u64 = HEADER_BYTES as u64 + 40;

/// The metas beyond what opening asks of them. That the two transaction numbers differ by one, or which slot has the
/// even one, is no invariant: snapshots and bbolt's surgery break both (FORMATS A.2).
pub(super) fn check_metas<S: Source>(db: &Db<S>, list: &mut Findings) {
    let page_size = u64::from(db.page_size());
    let file_bytes = db.source().len_bytes();
    for (slot, meta) in (0u64..).zip(db.metas()) {
        let page = PageId(slot);
        let is_active = page == active_page(db);
        let offset = slot * page_size;
        let mut push = |at: u64, len: u64, kind| {
            let span = Span { offset: offset + at, len };
            list.push(Fault { page, span, kind }, None, Vec::new(), None);
        };
        let meta = match meta {
            Ok(meta) => meta,
            Err(fault) => {
                push(HEADER_BYTES as u64, META_BYTES as u64, FaultKind::OtherMeta { fault: fault.clone() });
                continue;
            }
        };
        let header = db.source().bytes(offset, HEADER_BYTES as u64).ok();
        if let Some(header) = header.and_then(|bytes| PageHeader::parse(&bytes))
            && (header.id != slot || header.flags != FLAG_META)
        {
            let kind = FaultKind::MetaHeader { id: header.id, flags: header.flags };
            push(0, HEADER_BYTES as u64, kind);
        }
        let high_water_mark = meta.high_water_mark;
        let range = 2..high_water_mark;
        let outside = |field, found, at| (field, found, at);
        let root = (!range.contains(&meta.root.0)).then(|| outside("root page", meta.root.0, AT_ROOT));
        let freelist = (meta.freelist != NO_FREELIST && !range.contains(&meta.freelist))
            .then(|| outside("freelist", meta.freelist, AT_FREELIST));
        for (field, found, at) in root.into_iter().chain(freelist) {
            let kind = if is_active {
                FaultKind::MetaRange { field, found, high_water_mark }
            } else {
                FaultKind::OtherMetaRange { field, found, high_water_mark }
            };
            push(at, 8, kind);
        }
        if is_active && meta.logical_bytes() > file_bytes {
            let needed_bytes = meta.logical_bytes();
            push(AT_HIGH_WATER_MARK, 8, FaultKind::ShortFile { high_water_mark, needed_bytes, file_bytes });
        }
    }
}
