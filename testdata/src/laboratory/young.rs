//! A young database inside an old file: a tree of two pages, as the file's first transactions left it, and metas that name it.

use std::collections::BTreeMap;

use super::plain::{Pairs, meta_checksum};
use crate::key_space::revision_of;

const HEADER: usize = 16;
const ELEMENT: usize = 16;
const BUCKET: u32 = 1;
/// Of this transaction is the newer one of the two metas.
const TXID: u64 = 5;

/// A leaf with these elements: flags, key, value.
fn leaf(id: usize, elements: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
    let mut page = vec![0; HEADER + ELEMENT * elements.len()];
    page[..8].copy_from_slice(&(id as u64).to_le_bytes());
    page[8] = 2;
    page[10..12].copy_from_slice(&u16::try_from(elements.len()).expect("few elements").to_le_bytes());
    for (number, (flags, key, value)) in elements.iter().enumerate() {
        let entry = HEADER + ELEMENT * number;
        let words = [*flags, word(page.len() - entry), word(key.len()), word(value.len())];
        for (at, word) in words.iter().enumerate() {
            page[entry + 4 * at..][..4].copy_from_slice(&word.to_le_bytes());
        }
        page.extend_from_slice(key);
        page.extend_from_slice(value);
    }
    page
}

fn word(number: usize) -> u32 {
    u32::try_from(number).expect("a small page")
}

/// A meta page of this slot that names `root`.
pub(super) fn meta(slot: u64, page_size: usize, root: usize, high_water_mark: usize) -> Vec<u8> {
    let mut page = vec![0; HEADER + 64];
    page[..8].copy_from_slice(&slot.to_le_bytes());
    page[8] = 4;
    // The newer transaction is odd, and so in slot 1.
    let txid = TXID - 1 + slot;
    let fields: [&[u8]; 8] = [
        &0xed0c_daed_u32.to_le_bytes(),
        &2_u32.to_le_bytes(),
        &word(page_size).to_le_bytes(),
        &[0; 4],
        &(root as u64).to_le_bytes(),
        &[0; 8],
        &u64::MAX.to_le_bytes(),
        &[(high_water_mark as u64).to_le_bytes(), txid.to_le_bytes()].concat(),
    ];
    let meta = fields.concat();
    page[HEADER..HEADER + meta.len()].copy_from_slice(&meta);
    let sum = meta_checksum(&page[HEADER..]);
    page[HEADER + 56..].copy_from_slice(&sum.to_le_bytes());
    page
}

/// The leaf of bucket `key` and the root bucket's leaf of a database that has the first of these records, as many as fit a page,
/// and what of the other buckets fits; they lie at pages `key` and `root`. Its log was applied to an index that the first
/// revisions can have.
pub(super) fn tree(
    page_size: usize,
    (key, root): (usize, usize),
    history: &Pairs,
    buckets: &BTreeMap<Vec<u8>, Pairs>,
) -> [Vec<u8>; 2] {
    let mut first: Vec<(u32, &[u8], &[u8])> = Vec::new();
    let mut used = HEADER;
    for (revision, value) in history {
        used += ELEMENT + revision.len() + value.len();
        if used > page_size {
            break;
        }
        first.push((0, revision, value));
    }
    assert!(!first.is_empty(), "the first record is longer than a page");
    let of_key = leaf(key, &first);
    let last = first.last().and_then(|(_, revision, _)| revision_of(revision)).map_or(1, |(main, ..)| main);
    let index = (last + 3).cast_unsigned().to_be_bytes();

    let mut inline = Vec::new();
    for (name, pairs) in buckets {
        if name == b"key" {
            inline.push((name, [(key as u64).to_le_bytes(), [0; 8]].concat()));
            continue;
        }
        let is_young = |row: &[u8]| !row.ends_with(b"CompactRev");
        let rows = pairs.iter().filter(|(row, _)| name != b"meta" || is_young(row)).map(|(row, value)| {
            let value = if row == b"consistent_index" { &index[..] } else { value.as_slice() };
            (0, row.as_slice(), value)
        });
        let rows: Vec<_> = rows.collect();
        let page = leaf(0, &rows);
        let is_short = page.len() <= page_size / 4;
        inline.push((name, [vec![0; HEADER], if is_short { page } else { leaf(0, &[]) }].concat()));
    }
    let elements: Vec<_> =
        inline.iter().map(|(name, value)| (BUCKET, name.as_slice(), value.as_slice())).collect();
    [of_key, leaf(root, &elements)]
}
