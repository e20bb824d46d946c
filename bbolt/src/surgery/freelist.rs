//! `freelist abandon`, `freelist rebuild`: the list of free pages that a file may keep.

use super::in_use::InUse;
use super::metas::{meta_of, sum};
use super::{Accepted, Edit, SurgeryError, Warning, no_meta};
use crate::fault::FaultKind;
use crate::freelist::COUNT_IN_FIRST_ID;
use crate::meta::{Meta, NO_FREELIST};
use crate::page::{FLAG_FREELIST, HEADER_BYTES, PageHeader, PageId};
use crate::page_file::PageFile;
use crate::source::Source;
use crate::watch::Watch;

/// Where a meta page names the freelist.
const FREELIST_AT: usize = HEADER_BYTES + 32;
/// Length of a page number in a freelist, in bytes.
const ID_BYTES: usize = 8;

/// Says in both metas that no freelist is kept, so that whoever opens the file next finds the free pages by a walk.
///
/// A meta that is not valid is left alone, unless `accepted.invalid_meta`: a new checksum could bring it back.
///
/// # Errors
/// When neither meta is valid.
pub fn abandon_freelist<S: Source>(file: &PageFile<S>, accepted: Accepted) -> Result<Edit, SurgeryError> {
    if file.meta().is_none() && !accepted.invalid_meta {
        let fault = meta_of(file, 0)?.as_ref().err().cloned();
        return Err(fault.map_or_else(|| no_meta(file), |fault| SurgeryError::MetaInvalid { slot: 0, fault }));
    }
    let mut edit = Edit::default();
    for slot in 0..2 {
        let page = PageId(slot);
        let before = meta_of(file, slot)?;
        if let Err(fault) = before
            && !accepted.invalid_meta
        {
            edit.warn(Warning::InvalidMetaKept { slot, fault: fault.clone() });
            edit.keep(file, page);
            continue;
        }
        let mut bytes = file.first(page)?.into_owned();
        if let Some(place) = bytes.get_mut(FREELIST_AT..FREELIST_AT + ID_BYTES) {
            place.copy_from_slice(&NO_FREELIST.to_le_bytes());
        }
        sum(&mut bytes);
        match (Meta::parse(&bytes), before) {
            (Err(fault), _) => edit.warn(Warning::StillInvalid { slot, fault }),
            (Ok(_), Err(fault)) => edit.warn(Warning::InvalidMetaAccepted { slot, fault: fault.clone() }),
            (Ok(_), Ok(_)) => {}
        }
        edit.set(file, page, bytes);
    }
    Ok(edit)
}

/// Writes the list of free pages, and in the older meta's place a new one that names it, as bbolt's own next commit would: in
/// the first run of free pages that is long enough, else at the high-water mark (FORMATS A.6).
///
/// Only the state in force is kept. Pages that the older meta alone reaches count as free.
///
/// # Errors
/// When no meta is valid, the file keeps a freelist, or the tree is damaged.
pub fn rebuild_freelist<S: Source>(file: &PageFile<S>, watch: &dyn Watch) -> Result<Edit, SurgeryError> {
    let (Some(meta), Some(active)) = (file.meta(), file.active_slot()) else { return Err(no_meta(file)) };
    if meta.freelist != NO_FREELIST {
        return Err(SurgeryError::FreelistPersisted { page: PageId(meta.freelist) });
    }
    let Meta { high_water_mark, txid, .. } = *meta;
    let damaged = |fault| SurgeryError::Damaged { fault: Box::new(fault) };
    if high_water_mark > file.page_count() {
        let kind = FaultKind::ShortFile {
            high_water_mark,
            needed_bytes: meta.logical_bytes(),
            file_bytes: file.source().len_bytes(),
        };
        return Err(damaged(file.fault(PageId(active as u64), 0, kind)));
    }
    let in_use = InUse::of_tree(file, meta, watch)?;
    if let Some(fault) = in_use.fault {
        return Err(damaged(fault));
    }
    let mut free: Vec<PageId> = (2..high_water_mark).map(PageId).filter(|id| !in_use.contains(*id)).collect();

    let page_size = file.page_size() as usize;
    // Room for all, also for the pages that the list itself is about to take out of it; one more word when the count does
    // not fit its field.
    let words = free.len() + usize::from(free.len() >= usize::from(COUNT_IN_FIRST_ID));
    let pages = (HEADER_BYTES + words * ID_BYTES) / page_size + 1;
    let (id, high_water_mark) = match take_run(&mut free, pages) {
        Some(id) => (id, high_water_mark),
        None => {
            let end = high_water_mark.checked_add(pages as u64);
            (PageId(high_water_mark), end.ok_or(SurgeryError::Exhausted { what: "page number" })?)
        }
    };
    let overflow =
        u32::try_from(pages - 1).map_err(|_| SurgeryError::Exhausted { what: "room for overflow" })?;

    let other = 1 - active as u64;
    let step = if txid % 2 == other { 2 } else { 1 };
    let next = txid.checked_add(step).ok_or(SurgeryError::Exhausted { what: "transaction number" })?;
    let new = Meta { freelist: id.0, high_water_mark, txid: next, ..*meta };

    let mut edit = Edit::default();
    edit.set(file, id, list(id, overflow, &free, pages * page_size));
    edit.set(file, PageId(other), new.page(other));
    edit.warn(Warning::OlderStateGivenUp { txid, slot: other });
    Ok(edit)
}

/// Takes the first `pages` free pages that follow each other out of `free`, which ascends.
fn take_run(free: &mut Vec<PageId>, pages: usize) -> Option<PageId> {
    let mut length = 0;
    let mut previous = None;
    for (at, id) in free.iter().enumerate() {
        length = if previous == id.0.checked_sub(1) { length + 1 } else { 1 };
        previous = Some(id.0);
        if length == pages {
            let start = at + 1 - pages;
            let first = free.get(start).copied()?;
            free.drain(start..=at);
            return Some(first);
        }
    }
    None
}

/// A freelist page with its overflow, `len_bytes` in all.
fn list(id: PageId, overflow: u32, free: &[PageId], len_bytes: usize) -> Vec<u8> {
    let fits = u16::try_from(free.len()).ok().filter(|count| *count < COUNT_IN_FIRST_ID);
    let count = fits.unwrap_or(COUNT_IN_FIRST_ID);
    let mut page = Vec::with_capacity(len_bytes);
    page.extend(PageHeader { id: id.0, flags: FLAG_FREELIST, count, overflow }.encode());
    if fits.is_none() {
        page.extend((free.len() as u64).to_le_bytes());
    }
    page.extend(free.iter().flat_map(|id| id.0.to_le_bytes()));
    page.resize(len_bytes, 0);
    page
}
