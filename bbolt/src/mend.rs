//! Tree pages of which a bit turned in a number that all the others tell: for salvage.
//!
//! Every known writer lays keys and values back to back, right behind the table of elements, in its order.

use crate::page::{
    ELEMENT_BYTES, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, HEADER_BYTES, PageHeader,
};

/// Longest page in bytes.
const MOST_PAGE_BYTES: usize = 65_536;

/// The header of a tree page as it was before a bit turned in its flags or its count, as far as the table behind it tells; otherwise as it
/// is. Every known writer lays keys and values back to back, right behind the table, so that the first key tells the count, and the
/// table the kind. `bytes` may be the first page of several.
#[must_use]
pub fn mended_header(bytes: &[u8], header: &PageHeader) -> PageHeader {
    let there = (u64::from(header.overflow) + 1).saturating_mul(bytes.len() as u64);
    let is_laid_out =
        |flags: u16, count: u16| laid_out(bytes, flags, count).is_some_and(|end| count > 0 && end <= there);
    let with_flags = |flags: u16| match told_count(bytes, flags) {
        // Where all of a longer table but the place of its first element speaks for the count that is said, it is that place which is wrong.
        Some(count) if count != header.count && is_laid_out(flags, count) => {
            if header.count > count && mended_element(bytes, flags, header.count).is_some() {
                PageHeader { flags, ..*header }
            } else {
                PageHeader { flags, count, ..*header }
            }
        }
        _ => PageHeader { flags, ..*header },
    };
    match header.flags {
        FLAG_BRANCH | FLAG_LEAF => with_flags(header.flags),
        FLAG_META | FLAG_FREELIST => *header,
        unknown => {
            let mut kinds =
                [FLAG_LEAF, FLAG_BRANCH].into_iter().filter(|kind| (kind ^ unknown).count_ones() == 1);
            let kind = kinds.find(|kind| is_laid_out(*kind, header.count));
            kind.map_or(*header, |flags| PageHeader { flags, ..*header })
        }
    }
}

/// How many elements a page with these flags has by the place of its first key.
fn told_count(bytes: &[u8], flags: u16) -> Option<u16> {
    let at = HEADER_BYTES + if flags == FLAG_LEAF { 4 } else { 0 };
    let word = bytes.get(at..at + 4)?;
    let table_bytes = usize::try_from(u32::from_le_bytes(word.try_into().ok()?)).ok()?;
    u16::try_from(table_bytes / ELEMENT_BYTES).ok().filter(|_| table_bytes.is_multiple_of(ELEMENT_BYTES))
}

/// Where the last of `count` elements of a page with these flags ends, in bytes from the start of `bytes`, if they lie back to back from
/// the end of their table on, as every known writer leaves them. The table has to lie in `bytes`, what it tells of need not.
#[must_use]
pub fn laid_out(bytes: &[u8], flags: u16, count: u16) -> Option<u64> {
    let at = match flags {
        FLAG_BRANCH => 0,
        FLAG_LEAF => 4,
        _ => return None,
    };
    let table = bytes.get(HEADER_BYTES..HEADER_BYTES + usize::from(count) * ELEMENT_BYTES)?;
    let mut end = (HEADER_BYTES + table.len()) as u64;
    for (index, entry) in (0..count).zip(table.chunks_exact(ELEMENT_BYTES)) {
        let word = |at: usize| {
            let word = entry.get(at..at + 4).and_then(|word| word.try_into().ok());
            u64::from(u32::from_le_bytes(word.unwrap_or_default()))
        };
        let place = (HEADER_BYTES + usize::from(index) * ELEMENT_BYTES) as u64;
        let is_key = word(at + 4) > 0 || flags == FLAG_BRANCH && index == 0;
        if place + word(at) != end || !is_key {
            return None;
        }
        end += word(at + 4) + if flags == FLAG_LEAF { word(12) } else { 0 };
    }
    Some(end)
}

/// How many further pages a tree page has by where its last element ends, in pages of the length of `first`, its first one; `None` where
/// its table does not tell. Old versions of bbolt took a page more where the last one was just full.
#[must_use]
pub fn filled_overflow(first: &[u8], header: &PageHeader) -> Option<u32> {
    let page_bytes = first.len().max(1) as u64;
    // Most pages are one, and their last element ends in it.
    if header.overflow == 0 && last_end(first, header).is_some_and(|end| end <= page_bytes) {
        return Some(0);
    }
    let PageHeader { flags, count, .. } = mended_header(first, header);
    let end = laid_out(first, flags, count).filter(|_| count > 0)?;
    let told = u32::try_from(end.div_ceil(page_bytes).saturating_sub(1)).ok()?;
    let is_full = end.is_multiple_of(page_bytes) && told.checked_add(1) == Some(header.overflow);
    Some(if is_full { header.overflow } else { told })
}

/// Where the last element ends by what its own entry says, in bytes from the start of `bytes`.
fn last_end(bytes: &[u8], header: &PageHeader) -> Option<u64> {
    let at = HEADER_BYTES + usize::from(header.count.checked_sub(1)?) * ELEMENT_BYTES;
    let entry = bytes.get(at..at + ELEMENT_BYTES)?;
    let word = |at: usize| {
        let word = entry.get(at..at + 4).and_then(|word| word.try_into().ok());
        u64::from(u32::from_le_bytes(word.unwrap_or_default()))
    };
    match header.flags {
        FLAG_LEAF => Some(at as u64 + word(4) + word(8) + word(12)),
        FLAG_BRANCH => Some(at as u64 + word(0) + word(4)),
        _ => None,
    }
}

/// As [`filled_overflow`]; what its header declares where its table does not tell, or tells something that is more than a bit off.
#[must_use]
pub fn told_overflow(first: &[u8], header: &PageHeader) -> u32 {
    let declared = header.overflow;
    // A length in the table that is wrong tells of any number of pages; a header that is wrong by a bit is believed to be.
    let told = filled_overflow(first, header).filter(|told| (told ^ declared).count_ones() == 1);
    told.unwrap_or(declared)
}

/// Whether `bytes` begin with a tree page that has elements, laid out as every known writer does, within the pages that it declares.
#[must_use]
pub fn is_laid_out(bytes: &[u8], header: &PageHeader) -> bool {
    let pages = u64::from(header.overflow) + 1;
    let is_tree_page = [FLAG_BRANCH, FLAG_LEAF].contains(&header.flags) && header.count > 0 && header.id > 1;
    is_tree_page
        && laid_out(bytes, header.flags, header.count)
            .is_some_and(|end| end <= pages.saturating_mul(bytes.len().min(MOST_PAGE_BYTES) as u64))
}

/// An element as a table has it, and as it was before a bit of it turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MendedElement {
    /// Where its entry begins, in bytes from the start of the page.
    pub entry: usize,
    /// Where its key begins, counted from there.
    pub position: u32,
    /// Length of its key in bytes.
    pub key_bytes: u32,
    /// Length of its value in bytes; 0 in a branch.
    pub value_bytes: u32,
}

impl MendedElement {
    /// Writes it into the table of a page with these flags, which `bytes` begin with.
    pub fn write(&self, bytes: &mut [u8], flags: u16) {
        let words = if flags == FLAG_LEAF {
            vec![(4, self.position), (8, self.key_bytes), (12, self.value_bytes)]
        } else {
            vec![(0, self.position), (4, self.key_bytes)]
        };
        for (at, word) in words {
            if let Some(place) = bytes.get_mut(self.entry + at..self.entry + at + 4) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

fn is_a_bit_off(a: u32, b: u32) -> bool {
    (a ^ b).count_ones() == 1
}

/// The one element of a page with these flags and so many elements that has a bit too many or too few in its place or its lengths, as
/// those around it tell; `None` where there is none, or more is wrong. `bytes` have the table, and what they tell of has to lie in them.
#[must_use]
pub fn mended_element(bytes: &[u8], flags: u16, count: u16) -> Option<MendedElement> {
    if laid_out(bytes, flags, count).is_some_and(|end| end <= bytes.len() as u64) {
        return None;
    }
    let (at, is_leaf) = match flags {
        FLAG_BRANCH => (0, false),
        FLAG_LEAF => (4, true),
        _ => return None,
    };
    let table_bytes = usize::from(count) * ELEMENT_BYTES;
    let table = bytes.get(HEADER_BYTES..HEADER_BYTES + table_bytes)?;
    let element = |index: usize| {
        let entry = table.get(index * ELEMENT_BYTES..(index + 1) * ELEMENT_BYTES)?;
        let word = |at: usize| {
            let word = entry.get(at..at + 4).and_then(|word| word.try_into().ok());
            u32::from_le_bytes(word.unwrap_or_default())
        };
        Some(MendedElement {
            entry: HEADER_BYTES + index * ELEMENT_BYTES,
            position: word(at),
            key_bytes: word(at + 4),
            value_bytes: if is_leaf { word(12) } else { 0 },
        })
    };
    let start = |of: &MendedElement| of.entry as u64 + u64::from(of.position);
    let len = |of: &MendedElement| u64::from(of.key_bytes) + u64::from(of.value_bytes);
    let mut expected = (HEADER_BYTES + table_bytes) as u64;
    let (mut mended, mut last) = (None, 0);
    for index in 0..usize::from(count) {
        let mut this = element(index)?;
        let next = element(index + 1);
        if start(&this) != expected {
            let position = u32::try_from(expected.checked_sub(this.entry as u64)?).ok()?;
            let is_told = next.is_none_or(|next| start(&next) == expected + len(&this));
            if mended.is_some() || !is_told || !is_a_bit_off(this.position, position) {
                return None;
            }
            this.position = position;
            mended = Some(this);
        }
        // Where the one behind is followed as it says, it is this one's length that is wrong. Of the last one its key tells, which is like
        // the one before it.
        let alike = |next: &MendedElement, start: u64| {
            let key = |start: u64, of: &MendedElement| {
                let start = usize::try_from(start).ok()?;
                bytes.get(start..start.checked_add(of.key_bytes as usize)?)
            };
            let keys =
                key(expected, &this).unwrap_or_default().iter().zip(key(start, next).unwrap_or_default());
            keys.filter(|(a, b)| a == b).count()
        };
        let is_sure = |next: &MendedElement| match element(index + 2) {
            Some(behind) => start(&behind) == start(next) + len(next),
            None => alike(next, start(next)) >= alike(next, expected + len(&this)),
        };
        if let Some(next) = next.filter(|next| start(next) != expected + len(&this) && is_sure(next)) {
            let wanted = start(&next).checked_sub(expected)?;
            let (key, value) = (u64::from(this.key_bytes), u64::from(this.value_bytes));
            let told = |rest: u64| wanted.checked_sub(rest).and_then(|told| u32::try_from(told).ok());
            let of_key = told(value).filter(|told| *told > 0 && is_a_bit_off(*told, this.key_bytes));
            let of_value = told(key).filter(|told| is_leaf && is_a_bit_off(*told, this.value_bytes));
            // Keys are mostly of one length.
            let is_like_others = this.key_bytes == last || this.key_bytes == next.key_bytes;
            if mended.is_some() {
                return None;
            }
            match (of_key, of_value) {
                (Some(key_bytes), value) if !is_like_others || value.is_none() => this.key_bytes = key_bytes,
                (_, Some(value_bytes)) => this.value_bytes = value_bytes,
                _ => return None,
            }
            mended = Some(this);
        }
        expected += len(&this);
        last = this.key_bytes;
    }
    mended.filter(|_| expected <= bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leaf of one page with these lengths of keys and values.
    fn leaf(lens: &[(u32, u32)]) -> Vec<u8> {
        let mut page = vec![0; 4096];
        let count = u16::try_from(lens.len()).unwrap();
        page[..16].copy_from_slice(&PageHeader { id: 7, flags: FLAG_LEAF, count, overflow: 0 }.encode());
        let mut start = 16 + 16 * lens.len();
        for (index, (key_bytes, value_bytes)) in lens.iter().enumerate() {
            let entry = 16 + 16 * index;
            let position = u32::try_from(start - entry).unwrap();
            let (key_bytes, value_bytes) = (*key_bytes, *value_bytes);
            MendedElement { entry, position, key_bytes, value_bytes }.write(&mut page, FLAG_LEAF);
            page[start..start + 8].copy_from_slice(&(300 + index as u64).to_be_bytes());
            page[start + key_bytes as usize..start + (key_bytes + value_bytes) as usize].fill(b'v');
            start += (key_bytes + value_bytes) as usize;
        }
        page
    }

    #[test]
    fn every_bit_of_a_table_but_the_last_length_is_told_by_the_others() {
        let lens = [(17, 60), (17, 300), (17, 5), (18, 9), (17, 40)];
        let sound = leaf(&lens);
        assert_eq!(mended_element(&sound, FLAG_LEAF, 5), None);
        let (mut told, mut all) = (0, 0);
        for index in 0..lens.len() {
            // Of what is behind the last element nothing is known.
            let words = if index + 1 < lens.len() { 4..16 } else { 4..8 };
            for (byte, bit) in words.flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
                let mut page = sound.clone();
                page[16 + 16 * index + byte] ^= 1 << bit;
                let header = PageHeader::parse(&page).unwrap();
                assert_eq!(mended_header(&page, &header), header, "{index} {byte} {bit}");
                let mended = mended_element(&page, FLAG_LEAF, 5);
                mended.unwrap_or_else(|| panic!("{index} {byte} {bit}")).write(&mut page, FLAG_LEAF);
                all += 1;
                told += usize::from(page == sound);
            }
        }
        // The length that is wrong of one whose key is longer than all others is not told for certain.
        assert!(all - told < 20, "{told} of {all}");
    }

    #[test]
    fn a_turned_count_is_no_turned_place() {
        let sound = leaf(&[(17, 60), (17, 300), (17, 5)]);
        for bit in 0..16 {
            let mut page = sound.clone();
            page[10 + bit / 8] ^= 1 << (bit % 8);
            let header = PageHeader::parse(&page).unwrap();
            assert_eq!(mended_header(&page, &header).count, 3, "{bit}");
        }
    }
}
