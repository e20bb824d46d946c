//! Files of a few pages, made by hand as nobody's server writes them.

use bbolt::carve::{Run, carve};
use bbolt::holes::Holes;

use super::classify::{Class, judge};
use super::inputs::{Bytes, Pages};

const PAGE: usize = 4096;

/// Bytes of a leaf with these pairs, all of which are buckets or none.
pub(super) fn leaf(id: u64, pairs: &[(&[u8], Vec<u8>)], is_bucket: bool) -> Vec<u8> {
    let mut page = id.to_le_bytes().to_vec();
    page.extend(2_u16.to_le_bytes());
    page.extend(u16::try_from(pairs.len()).unwrap().to_le_bytes());
    page.extend(0_u32.to_le_bytes());
    let mut at = pairs.len() * 16;
    for (number, (key, value)) in pairs.iter().enumerate() {
        let words = [usize::from(is_bucket), at - number * 16, key.len(), value.len()];
        page.extend(words.iter().flat_map(|word| u32::try_from(*word).unwrap().to_le_bytes()));
        at += key.len() + value.len();
    }
    for (key, value) in pairs {
        page.extend_from_slice(key);
        page.extend(value);
    }
    page
}

/// A bucket whose root is page `root`.
pub(super) fn bucket(root: u64) -> Vec<u8> {
    [root.to_le_bytes(), [0; 8]].concat()
}

/// These pages one behind the other.
pub(super) fn file(pages: impl IntoIterator<Item = Vec<u8>>) -> Pages {
    let padded = |mut page: Vec<u8>| {
        page.resize(PAGE, 0);
        page
    };
    let bytes: Vec<u8> = pages.into_iter().flat_map(padded).collect();
    Pages::search(Holes::new(Bytes::Memory(bytes), Vec::new()), Some(4096)).unwrap()
}

/// The leaves of the root bucket in it.
pub(super) fn roots(pages: &Pages) -> Vec<Run> {
    let carved = carve(pages, None, &judge, &()).unwrap();
    carved.runs.into_iter().filter(|(_, judged)| judged.class == Class::Root).map(|(run, _)| run).collect()
}
