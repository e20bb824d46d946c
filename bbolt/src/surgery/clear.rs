//! `clear-page`, `clear-page-elements`: elements taken out of a branch or leaf.

use std::ops::Range;

use super::in_use::InUse;
use super::{Accepted, Edit, SurgeryError, Warning};
use crate::fault::{Fault, FaultKind, Span};
use crate::page::{ELEMENT_BYTES, FLAG_BRANCH, FLAG_LEAF, HEADER_BYTES, PageHeader, PageId};
use crate::page_file::PageFile;
use crate::source::Source;
use crate::watch::Watch;

/// Takes all elements out of page `page`. Its overflow goes out of use, whether or not it lies within the file.
///
/// # Errors
/// As [`clear_page_elements`].
pub fn clear_page<S: Source>(
    file: &PageFile<S>,
    page: PageId,
    accepted: Accepted,
    watch: &dyn Watch,
) -> Result<Edit, SurgeryError> {
    clear_page_elements(file, page, 0, None, accepted, watch)
}

/// Takes the elements from `start` up to, without, `end` (`None`: all the rest) out of page `page`.
///
/// Where elements stay behind the gap, what stays is written anew without one, as bbolt does; else only the header changes.
/// The overflow then ends where the last element that stays does. bbolt takes what the elements would need if they followed
/// each other closely, and cuts off the last one where they do not.
///
/// # Errors
/// When the page is no branch or leaf, does not say that it is `page`, has no such elements, has elements among those that
/// stay which leave it, or is part of another one's overflow (unless `accepted.loss`).
pub fn clear_page_elements<S: Source>(
    file: &PageFile<S>,
    page: PageId,
    start: u32,
    end: Option<u32>,
    accepted: Accepted,
    watch: &dyn Watch,
) -> Result<Edit, SurgeryError> {
    if page.0 < 2 {
        return Err(SurgeryError::MetaPage { page });
    }
    if let Some(end) = end.filter(|end| start >= *end) {
        return Err(SurgeryError::EmptyRange { start, end });
    }
    let header = file.header(page)?;
    if header.id != page.0 {
        return Err(file.fault(page, 0, FaultKind::WrongId { found: header.id }).into());
    }
    let PageHeader { flags, count, .. } = header;
    if flags != FLAG_BRANCH && flags != FLAG_LEAF {
        return Err(SurgeryError::NotATreePage { page, flags });
    }
    let in_use = InUse::of_metas(file, watch)?;
    if let Some(head) = in_use.head_of(page).filter(|_| !accepted.loss) {
        return Err(SurgeryError::InsidePage { page, head });
    }
    let mut edit = Edit::default();
    edit.warnings.extend(in_use.warning(file));
    if !in_use.contains(page) && file.meta().is_some() && in_use.fault.is_none() {
        edit.warn(Warning::NotInUse { page });
    }
    if count == 0 {
        edit.keep(file, page);
        return Ok(edit);
    }
    let range_error =
        || SurgeryError::ElementRange { page, count, start, end: end.unwrap_or(u32::from(count)) };
    let first = u16::try_from(start).ok().filter(|start| *start < count).ok_or_else(range_error)?;
    let past = u16::try_from(end.unwrap_or(u32::from(count))).map_err(|_| range_error())?;
    if past > count {
        return Err(range_error());
    }
    let (after, bytes) =
        if past == count { cut(file, header, first)? } else { close_gap(file, header, first..past)? };
    let is_branch = flags == FLAG_BRANCH;
    if after.overflow != header.overflow || is_branch {
        let ends = [after.overflow, header.overflow].map(|pages| page.0.saturating_add(u64::from(pages)));
        let pages = (after.overflow != header.overflow)
            .then(|| (PageId(ends[0].saturating_add(1)), PageId(ends[1].saturating_add(1))));
        edit.warn(Warning::PagesAbandoned { pages, is_branch });
    }
    match after.count {
        0 if is_branch => edit.warn(Warning::EmptyBranch { page }),
        0 => edit.warn(Warning::EmptyLeaf { page }),
        _ => {}
    }
    edit.set(file, page, bytes);
    Ok(edit)
}

/// The header and the bytes of the page when it ends behind its first `kept` elements.
fn cut<S: Source>(
    file: &PageFile<S>,
    header: PageHeader,
    kept: u16,
) -> Result<(PageHeader, Vec<u8>), SurgeryError> {
    let page = PageId(header.id);
    let page_size = u64::from(file.page_size());
    let overflow = match kept {
        0 => 0,
        // What is cut off may be broken, and its overflow not there.
        _ => {
            let bytes = file.whole(page)?;
            let mut used_bytes = 0;
            for index in 0..kept {
                let element = Element::read(file, header, index, &bytes)?;
                used_bytes = used_bytes.max(element.data.end as u64);
            }
            overflow_of(used_bytes, page_size).min(header.overflow)
        }
    };
    let after = PageHeader { count: kept, overflow, ..header };
    let mut bytes = file.first(page)?.into_owned();
    if let Some(place) = bytes.first_chunk_mut() {
        *place = after.encode();
    }
    Ok((after, bytes))
}

/// The header and the bytes of the page without the elements in `gap`, behind which there are more.
fn close_gap<S: Source>(
    file: &PageFile<S>,
    header: PageHeader,
    gap: Range<u16>,
) -> Result<(PageHeader, Vec<u8>), SurgeryError> {
    let page = PageId(header.id);
    let old = file.whole(page)?;
    let kept = (0..gap.start)
        .chain(gap.end..header.count)
        .map(|index| Element::read(file, header, index, &old))
        .collect::<Result<Vec<_>, _>>()?;
    let table_bytes = HEADER_BYTES + kept.len() * ELEMENT_BYTES;
    let data_bytes = kept.iter().map(|element| element.data.len() as u64).fold(0, u64::saturating_add);
    let used_bytes = data_bytes.saturating_add(table_bytes as u64);
    let page_bytes = old.len() as u64;
    if used_bytes > page_bytes {
        return Err(SurgeryError::DoesNotFit { page, needed_bytes: used_bytes, page_bytes });
    }
    let overflow = overflow_of(used_bytes, u64::from(file.page_size()));
    let count = u16::try_from(kept.len()).unwrap_or(header.count);
    let after = PageHeader { count, overflow, ..header };
    let mut written = Vec::with_capacity(old.len());
    written.extend(after.encode());
    let mut data_at = table_bytes;
    for element in &kept {
        let position = u32::try_from(data_at - written.len()).unwrap_or(u32::MAX);
        written.extend(element.at(header.flags, position));
        data_at += element.data.len();
    }
    for element in kept {
        written.extend(old.get(element.data).unwrap_or_default());
    }
    // Behind what is used, bbolt leaves what was there.
    written.extend(old.get(written.len()..).unwrap_or_default());
    let page_size = usize::try_from(file.page_size()).unwrap_or(usize::MAX);
    written.truncate((overflow as usize + 1).saturating_mul(page_size));
    Ok((after, written))
}

fn overflow_of(used_bytes: u64, page_size: u64) -> u32 {
    u32::try_from(used_bytes.div_ceil(page_size).saturating_sub(1)).unwrap_or(u32::MAX)
}

/// One element of a page, whose others need not make sense.
struct Element {
    table: [u8; ELEMENT_BYTES],
    /// Where its key, and value, lie in the page.
    data: Range<usize>,
}

impl Element {
    fn read<S: Source>(
        file: &PageFile<S>,
        header: PageHeader,
        index: u16,
        page: &[u8],
    ) -> Result<Self, SurgeryError> {
        let id = PageId(header.id);
        let at = HEADER_BYTES + usize::from(index) * ELEMENT_BYTES;
        let Some(table) = page.get(at..).and_then(|rest| rest.first_chunk::<ELEMENT_BYTES>()) else {
            let room_bytes = page.len().saturating_sub(HEADER_BYTES);
            let (declared, most) = (u64::from(header.count), (room_bytes / ELEMENT_BYTES) as u64);
            let kind = FaultKind::TooManyElements { declared, room_bytes: room_bytes as u64, most };
            return Err(file.fault(id, header.overflow, kind).into());
        };
        let word = |at: usize| {
            let word = table.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
            u64::from(u32::from_le_bytes(word))
        };
        let (position, key_bytes, value_bytes) =
            if header.flags == FLAG_BRANCH { (word(0), word(4), 0) } else { (word(4), word(8), word(12)) };
        let fault = |kind| {
            let offset = file.offset_of(id).saturating_add(at as u64);
            Fault { page: id, span: Span { offset, len: ELEMENT_BYTES as u64 }, kind }
        };
        let (start, len) = (at as u64 + position, key_bytes + value_bytes);
        let page_bytes = page.len() as u64;
        let data = match (usize::try_from(start), usize::try_from(start + len)) {
            (Ok(start), Ok(end)) if end <= page.len() => start..end,
            _ => {
                let kind = FaultKind::ElementOutOfPage { index, position: start, len, page_bytes };
                return Err(fault(kind).into());
            }
        };
        if key_bytes == 0 {
            return Err(fault(FaultKind::EmptyKey { index }).into());
        }
        Ok(Self { table: *table, data })
    }

    /// The element as it stands in the table when its data is `position` bytes behind it.
    fn at(&self, flags: u16, position: u32) -> [u8; ELEMENT_BYTES] {
        let mut table = self.table;
        let place = if flags == FLAG_BRANCH { 0..4 } else { 4..8 };
        if let Some(place) = table.get_mut(place) {
            place.copy_from_slice(&position.to_le_bytes());
        }
        table
    }
}
