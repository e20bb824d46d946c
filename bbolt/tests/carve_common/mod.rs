//! A plain reader of undamaged files, which knows what is where, and damage by page.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::ops::Range;

use bbolt::carve::Element;
use bbolt::carve::{Carved, Leaf, Run};
use bbolt::page_file::PageFile;
use bbolt::{Source, carve};

/// Knuth's MMIX generator; the upper bits are the good ones.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = u8::try_from(self.below(256)).unwrap();
        }
    }
}

/// One element of a leaf, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// Pages of the leaf's head, of its element table up to this element, and of key and value.
    pub pages: [Range<u64>; 2],
}

/// Every element of every leaf of an undamaged file, by where its key starts in the file.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub page_size: u64,
    pub pages: u64,
    pub entries: BTreeMap<u64, Entry>,
    /// First page and number of pages of everything there is, by index, with its flags.
    pub runs: Vec<(u64, u64, u16)>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(word)
}

impl Ledger {
    /// Of a file in which each page is the next head or the overflow of the one before, as `Build` writes it: one after the
    /// other, by what each head says of its length.
    pub fn read(file: &[u8], page_size: u32) -> Self {
        Self::read_from(file, page_size, 0)
    }

    /// The same, from page `index` on.
    pub fn read_from(file: &[u8], page_size: u32, mut index: u64) -> Self {
        let page_bytes = usize::try_from(page_size).unwrap();
        let mut ledger = Self {
            page_size: page_size.into(),
            pages: (file.len() / page_bytes) as u64,
            entries: BTreeMap::new(),
            runs: Vec::new(),
        };
        while index < ledger.pages {
            let head = usize::try_from(index).unwrap() * page_bytes;
            let pages = number::<4>(file, head + 12) + 1;
            let flags = u16::try_from(number::<2>(file, head + 8)).unwrap();
            // What is left of a file that would be too short has no head.
            ledger.runs.push((index, pages, flags));
            if flags == 2 {
                ledger.leaf(file, head);
            }
            index += pages;
        }
        ledger
    }

    /// Adds the elements of the leaf that starts at byte `head`.
    pub fn leaf(&mut self, file: &[u8], head: usize) {
        let page = |at: usize| at as u64 / self.page_size;
        for element in 0..usize::try_from(number::<2>(file, head + 10)).unwrap() {
            let at = head + 16 + element * 16;
            let key_at = at + usize::try_from(number::<4>(file, at + 4)).unwrap();
            let value_at = key_at + usize::try_from(number::<4>(file, at + 8)).unwrap();
            let end = value_at + usize::try_from(number::<4>(file, at + 12)).unwrap();
            let (key, value) = (file[key_at..value_at].to_vec(), file[value_at..end].to_vec());
            let pages = [page(head)..page(at + 15) + 1, page(key_at)..page(end - 1) + 1];
            self.entries.insert(key_at as u64, Entry { key, value, pages });
        }
    }

    /// That `found` has every element that no damage touches, as it was, and no whole one besides but what damage touches.
    pub fn assert_found(&self, found: &Found, damaged: &BTreeMap<u64, Damage>) {
        let is_damaged =
            |entry: &Entry| entry.pages.iter().any(|range| damaged.range(range.clone()).next().is_some());
        for (offset, entry) in &self.entries {
            let there = found.whole.get(offset);
            if !is_damaged(entry) {
                let Some((key, value)) = there else { panic!("the element at {offset:#x} is lost") };
                assert!(*key == entry.key && *value == entry.value, "the element at {offset:#x} is another");
            }
        }
        for offset in found.whole.keys() {
            let Some(entry) = self.entries.get(offset) else { panic!("nothing is at {offset:#x}") };
            assert!(!entry.pages.iter().any(|range| {
                damaged.range(range.clone()).any(|(_, damage)| *damage == Damage::Unreadable)
            }));
        }
    }
}

/// One range of bytes that cannot be read.
pub fn one_hole(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

/// What happens to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    Zeroed,
    Randomised,
    Unreadable,
}

/// Damage for about `percent` of the pages.
pub fn plan(ledger: &Ledger, rng: &mut Rng, percent: u64) -> BTreeMap<u64, Damage> {
    let kinds = [Damage::Zeroed, Damage::Randomised, Damage::Unreadable];
    let mut damages = BTreeMap::new();
    for page in 0..ledger.pages {
        if rng.below(100) < percent {
            damages.insert(page, kinds[usize::try_from(rng.below(3)).unwrap()]);
        }
    }
    damages
}

/// The damaged file, and which of its bytes cannot be read.
pub fn damage(
    file: &[u8],
    page_size: u32,
    damages: &BTreeMap<u64, Damage>,
    rng: &mut Rng,
) -> (Vec<u8>, Vec<Range<u64>>) {
    let (mut file, mut bad) = (file.to_vec(), Vec::new());
    for (page, damage) in damages {
        let offset = page * u64::from(page_size);
        let at = usize::try_from(offset).unwrap();
        let page = &mut file[at..at + usize::try_from(page_size).unwrap()];
        match damage {
            Damage::Zeroed => page.fill(0),
            Damage::Randomised => rng.fill(page),
            Damage::Unreadable => bad.push(offset..offset + u64::from(page_size)),
        }
    }
    (file, bad)
}

/// Where a key starts in the file, the key and the value.
pub type Pairs = Vec<(u64, Vec<u8>, Vec<u8>)>;

/// What was carved from a file.
pub struct Found {
    pub carved: Carved<Pairs>,
    /// Whole elements by where their keys start.
    pub whole: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
}

/// Carves a file, and holds what is said of it against itself: each element occurs where it is said to, no two share bytes, no page
/// is in two runs, all leaves can be opened again, and the histogram counts what is there.
pub fn carved<S: Source>(source: S, page_size: u32) -> Found {
    let pages = PageFile::search(source, Some(page_size)).unwrap();
    carved_from(&pages)
}

pub fn carved_from<S: Source>(pages: &PageFile<S>) -> Found {
    let page_size = u64::from(pages.page_size());
    let judge = |leaf: &Leaf<'_>| {
        leaf.elements()
            .filter(Element::is_whole)
            .map(|e| (e.offset, e.key.to_vec(), e.value.to_vec()))
            .collect()
    };
    let carved: Carved<Pairs> = carve(pages, None, &judge, &()).unwrap();
    let len = pages.source().len_bytes();
    let mut whole = BTreeMap::new();
    let (mut end_page, mut handed_out) = (0, 0);
    for (run, elements) in &carved.runs {
        assert!(run.index >= end_page && run.pages > 0, "page {} is in two runs", run.index);
        end_page = run.index + u64::from(run.pages);
        let leaf = Leaf::open(pages, run).unwrap();
        handed_out += assert_leaf(pages.source(), &leaf, run, page_size);
        for (offset, key, value) in elements {
            assert!(whole.insert(*offset, (key.clone(), value.clone())).is_none());
        }
        let whole_again = leaf.elements().filter(Element::is_whole).count();
        assert_eq!(whole_again, elements.len());
    }
    assert!(end_page <= len.div_ceil(page_size) && handed_out <= len);
    assert_eq!(carved.kinds.len() as u64 * page_size + carved.trailing_bytes, {
        if carved.trailing_bytes > 0 { len } else { len.div_ceil(page_size) * page_size }
    });
    let histogram = &carved.histogram;
    assert_eq!(histogram.leaf + histogram.displaced, carved.runs.len() as u64);
    Found { carved, whole }
}

/// Bytes that the leaf hands out, each of which is in the file where it is said to be, and in no other element.
fn assert_leaf<S: Source>(source: &S, leaf: &Leaf<'_>, run: &Run, page_size: u64) -> u64 {
    let (start, mut end) = (run.index * page_size, run.index * page_size + 16);
    let mut handed_out = 0;
    for element in leaf.elements() {
        assert!(element.offset >= end);
        for (offset, bytes) in [(element.offset, element.key), (element.value_offset(), element.value)] {
            let len = bytes.len() as u64;
            if len > 0 {
                assert_eq!(&*source.bytes(offset, len).unwrap(), bytes);
                end = offset + len;
            }
            handed_out += len;
        }
        assert!(end <= start + u64::from(run.pages) * page_size);
        assert_eq!(leaf.element(element.index), Some(element));
    }
    handed_out
}
