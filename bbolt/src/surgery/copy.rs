//! `copy-page`: one page's bytes at another's place.

use super::in_use::InUse;
use super::{Accepted, Edit, SurgeryError, Warning, metas};
use crate::fault::FaultKind;
use crate::meta::NO_FREELIST;
use crate::page::{PageHeader, PageId};
use crate::page_file::PageFile;
use crate::source::Source;
use crate::watch::Watch;

/// Copies page `from` with its overflow to `to`, where it gets that number. A valid meta may be copied onto the other.
///
/// What `to` itself is, is written over: that is what it is called for. Any other page in use that the copy would run over,
/// and a place in the middle of one, is refused, unless `accepted.loss`.
///
/// # Errors
/// When `from` does not say that it is `from`, the copy would not fit into the file, a meta is concerned that is not valid, or
/// pages in use would be lost.
pub fn copy_page<S: Source>(
    file: &PageFile<S>,
    from: PageId,
    to: PageId,
    accepted: Accepted,
    watch: &dyn Watch,
) -> Result<Edit, SurgeryError> {
    if from == to {
        return Err(SurgeryError::SamePage { page: from });
    }
    match (from.0, to.0) {
        (0 | 1, 0 | 1) => return metas::copy_meta(file, from.0, to.0),
        (0 | 1, _) => return Err(SurgeryError::MetaPage { page: from }),
        (_, 0 | 1) => return Err(SurgeryError::MetaPage { page: to }),
        _ => {}
    }
    let header = file.header(from)?;
    if header.id != from.0 {
        return Err(file.fault(from, 0, FaultKind::WrongId { found: header.id }).into());
    }
    let mut bytes = file.whole(from)?.into_owned();
    let last = to.0.saturating_add(u64::from(header.overflow));
    // The last page has to be there, and so is all before it.
    file.first(PageId(last))?;

    let mut edit = Edit::default();
    let in_use = InUse::of_metas(file, watch)?;
    edit.warnings.extend(in_use.warning(file));
    for page in [from, to] {
        match in_use.head_of(page) {
            Some(head) if !accepted.loss => return Err(SurgeryError::InsidePage { page, head }),
            _ => {}
        }
    }
    let lost = written_over(file, &in_use, to, last);
    if !lost.is_empty() {
        if !accepted.loss {
            return Err(SurgeryError::WouldWriteOver { pages: lost });
        }
        edit.warn(Warning::WrittenOver { pages: lost });
    }
    let replaced = file.header(to).ok().filter(|replaced| in_use.is_head(to) && replaced.id == to.0);
    let own_last = replaced.map_or(to.0, |replaced| to.0.saturating_add(u64::from(replaced.overflow)));
    if own_last > last {
        let pages = Some((PageId(last + 1), PageId(own_last.saturating_add(1))));
        edit.warn(Warning::PagesAbandoned { pages, is_branch: false });
    }
    if let Some(meta) = file.meta() {
        if to.0 >= meta.high_water_mark {
            let high_water_mark = meta.high_water_mark;
            edit.warn(Warning::BehindHighWaterMark { page: to, high_water_mark });
        } else if !in_use.contains(to) && in_use.fault.is_none() {
            edit.warn(Warning::NotInUse { page: to });
        }
        if meta.freelist != NO_FREELIST {
            edit.warn(Warning::FreelistStale);
        }
    }
    let header = PageHeader { id: to.0, ..header };
    if let Some(place) = bytes.first_chunk_mut() {
        *place = header.encode();
    }
    edit.set(file, to, bytes);
    Ok(edit)
}

/// The pages in use from `to` up to `last` that are not the one that `to` is. A freelist is nothing to put a page in place of.
fn written_over<S: Source>(file: &PageFile<S>, in_use: &InUse, to: PageId, last: u64) -> Vec<PageId> {
    let is_freelist = file.metas().iter().flatten().any(|meta| meta.freelist == to.0);
    let mut lost = Vec::new();
    let mut is_own = in_use.is_head(to) && !is_freelist;
    for page in (to.0..=last).map(PageId) {
        is_own &= page == to || !in_use.is_head(page);
        if in_use.contains(page) && !is_own {
            lost.push(page);
        }
    }
    lost
}
