//! The plainest reading of a bbolt file (FORMATS A.1 to A.5): metas, pages, elements, and what a walk from a meta reaches. It
//! shares no code with the crates it is held against, and knows nothing of how to go on where something is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes of a page header, of an element, and of a bucket's header.
const SIXTEEN: usize = 16;
/// Flags of a page.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const FREELIST: u16 = 16;
/// No tree of a test is deeper.
const DEEPEST: usize = 20;
/// The freelist's page where none is kept.
const NO_FREELIST: u64 = u64::MAX;

/// A meta whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainMeta {
    /// Of the file, in bytes.
    pub page_size: usize,
    /// The page of the root bucket.
    pub root: usize,
    /// The first page of the freelist, where one is kept.
    pub freelist: Option<usize>,
    /// One past the last page that was ever given out.
    pub high_water_mark: usize,
    /// Number of the transaction.
    pub txid: u64,
}

/// What a page's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainHead {
    /// Its number.
    pub id: u64,
    /// Its kind.
    pub flags: u16,
    /// Elements.
    pub count: usize,
    /// Pages of the run, the first one counted.
    pub pages: usize,
}

/// An element of a leaf: where its entry in the table, its key and its value lie in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainPair {
    /// Of the table.
    pub entry: Range<usize>,
    /// The key.
    pub key: Range<usize>,
    /// The value, which follows the key.
    pub value: Range<usize>,
    /// Whether the value is that of a bucket.
    pub is_bucket: bool,
}

/// A page run that a walk came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainNode {
    /// Its first page.
    pub page: usize,
    /// How many pages it has.
    pub pages: usize,
    /// Branch or leaf.
    pub is_leaf: bool,
    /// The branches above it, from the root of its bucket on.
    pub above: Vec<usize>,
    /// The bucket it is of; `None` for the root bucket.
    pub bucket: Option<Vec<u8>>,
}

/// The pairs of a bucket.
pub type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything that a walk from a root reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainTree {
    /// Page runs, in the order of the walk.
    pub nodes: Vec<PlainNode>,
    /// By name, inline ones too.
    pub buckets: BTreeMap<Vec<u8>, Pairs>,
}

/// A file.
#[derive(Clone, Copy, Debug)]
pub struct PlainFile<'a> {
    bytes: &'a [u8],
    page_size: usize,
}

/// The little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field: [u8; N] = bytes.get(at..at.checked_add(N)?)?.try_into().ok()?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn index<const N: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(number::<N>(bytes, at)?).ok()
}

/// The checksum of a meta: FNV-1a over its first 56 bytes.
#[must_use]
pub fn meta_checksum(meta: &[u8]) -> u64 {
    meta[..56]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The meta in the page that starts at `at`.
fn meta_at(bytes: &[u8], at: usize) -> Option<PlainMeta> {
    let meta = bytes.get(at.checked_add(SIXTEEN)?..)?.get(..64)?;
    let is_valid = number::<4>(meta, 0)? == 0xed0c_daed
        && number::<4>(meta, 4)? == 2
        && number::<8>(meta, 56)? == meta_checksum(meta);
    let freelist = number::<8>(meta, 32)?;
    is_valid.then_some(PlainMeta {
        page_size: index::<4>(meta, 8)?,
        root: index::<8>(meta, 16)?,
        freelist: if freelist == NO_FREELIST { None } else { usize::try_from(freelist).ok() },
        high_water_mark: index::<8>(meta, 40)?,
        txid: number::<8>(meta, 48)?,
    })
}

/// The elements of a leaf whose header starts at `start`, in bytes that end at `end`. One that does not lie inside, or whose
/// entry does not, is left out.
fn pairs_at(bytes: &[u8], start: usize, end: usize, count: usize) -> Vec<PlainPair> {
    let end = end.min(bytes.len());
    let pair = |at: usize| {
        let entry = start + SIXTEEN + at * SIXTEEN..start + 2 * SIXTEEN + at * SIXTEEN;
        if entry.end > end {
            return None;
        }
        let word = |number: usize| index::<4>(bytes, entry.start + 4 * number);
        let key = entry.start.checked_add(word(1)?)?;
        let value = key.checked_add(word(2)?)?;
        let last = value.checked_add(word(3)?)?;
        let is_bucket = word(0)? & 1 == 1;
        (last <= end).then_some(PlainPair { entry, key: key..value, value: value..last, is_bucket })
    };
    (0..count)
        .map_while(|at| if start + SIXTEEN + at * SIXTEEN < end { Some(pair(at)) } else { None })
        .flatten()
        .collect()
}

impl<'a> PlainFile<'a> {
    /// A file with a valid meta in page 0, or at the start of what would be page 1 for some page size.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut places = [0].into_iter().chain((10..17).map(|shift| 1 << shift));
        let page_size = places.find_map(|at| meta_at(bytes, at))?.page_size;
        Some(Self { bytes, page_size })
    }

    /// A file of pages of this size, whatever it says.
    #[must_use]
    pub fn with_page_size(bytes: &'a [u8], page_size: usize) -> Self {
        Self { bytes, page_size }
    }

    /// Of a page, in bytes.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// How many pages there are, a last one that is cut short counted.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.bytes.len().div_ceil(self.page_size)
    }

    /// The bytes of one page; of a last page as many as there are.
    #[must_use]
    pub fn page(&self, page: usize) -> &'a [u8] {
        let start = (page * self.page_size).min(self.bytes.len());
        &self.bytes[start..(start + self.page_size).min(self.bytes.len())]
    }

    /// The bytes at a place that was told.
    #[must_use]
    pub fn bytes(&self, span: &Range<usize>) -> &'a [u8] {
        &self.bytes[span.clone()]
    }

    /// The meta of slot 0 or 1, if it is valid.
    #[must_use]
    pub fn meta(&self, slot: usize) -> Option<PlainMeta> {
        meta_at(self.bytes, slot * self.page_size).filter(|meta| meta.page_size == self.page_size)
    }

    /// The valid meta of the later transaction, and its slot.
    #[must_use]
    pub fn newest(&self) -> Option<(usize, PlainMeta)> {
        (0..2).filter_map(|slot| Some((slot, self.meta(slot)?))).max_by_key(|(_, meta)| meta.txid)
    }

    /// What the header of a page says; `None` when the page does not have one that a branch, a leaf or a freelist can have.
    #[must_use]
    pub fn head(&self, page: usize) -> Option<PlainHead> {
        let at = page.checked_mul(self.page_size)?;
        let flags = u16::try_from(number::<2>(self.bytes, at + 8)?).ok()?;
        let head = PlainHead {
            id: number::<8>(self.bytes, at)?,
            flags,
            count: index::<2>(self.bytes, at + 10)?,
            pages: index::<4>(self.bytes, at + 12)?.checked_add(1)?,
        };
        let is_one = matches!(flags, BRANCH | LEAF | FREELIST) && head.pages <= self.pages();
        is_one.then_some(head)
    }

    /// The elements of the leaf that starts at this page, as far as they lie inside the run and the file.
    #[must_use]
    pub fn leaf(&self, page: usize) -> Vec<PlainPair> {
        let Some(head) = self.head(page).filter(|head| head.flags == LEAF) else { return Vec::new() };
        pairs_at(self.bytes, page * self.page_size, (page + head.pages) * self.page_size, head.count)
    }

    /// The elements of the leaf or branch that starts at this page: where the entry of each lies, and its key.
    #[must_use]
    pub fn entries(&self, page: usize) -> Vec<(Range<usize>, Range<usize>)> {
        let Some(head) = self.head(page).filter(|head| head.flags == BRANCH) else {
            return self.leaf(page).into_iter().map(|pair| (pair.entry, pair.key)).collect();
        };
        let entry = |at: usize| {
            let start = page * self.page_size + SIXTEEN + at * SIXTEEN;
            let key = start + index::<4>(self.bytes, start)?;
            Some((start..start + SIXTEEN, key..key + index::<4>(self.bytes, start + 4)?))
        };
        (0..head.count).filter_map(entry).collect()
    }

    /// The children of a branch: where each pointer lies in the file, and the page it names.
    #[must_use]
    pub fn children(&self, page: usize) -> Vec<(usize, usize)> {
        let Some(head) = self.head(page).filter(|head| head.flags == BRANCH) else { return Vec::new() };
        let pointer = |at: usize| page * self.page_size + SIXTEEN + at * SIXTEEN + 8;
        (0..head.count).filter_map(|at| Some((pointer(at), index::<8>(self.bytes, pointer(at))?))).collect()
    }

    /// Everything below the root bucket's page `root`; `None` when a page is not what it has to be, or is met twice.
    #[must_use]
    pub fn tree(&self, root: usize) -> Option<PlainTree> {
        let mut tree = PlainTree::default();
        let mut seen = BTreeSet::new();
        let mut roots = Vec::new();
        for pair in self.walk(root, None, &mut tree, &mut seen)? {
            if !pair.is_bucket {
                return None;
            }
            let name = self.bytes[pair.key].to_vec();
            match index::<8>(self.bytes, pair.value.start)? {
                0 => {
                    let start = pair.value.start + SIXTEEN;
                    let count = index::<2>(self.bytes, start + 10)?;
                    let inside = pairs_at(self.bytes, start, pair.value.end, count);
                    if inside.len() != count {
                        return None;
                    }
                    tree.buckets.insert(name, self.owned(inside));
                }
                page => roots.push((name, page)),
            }
        }
        for (name, page) in roots {
            let pairs = self.walk(page, Some(&name), &mut tree, &mut seen)?;
            tree.buckets.insert(name, self.owned(pairs));
        }
        Some(tree)
    }

    fn owned(&self, pairs: Vec<PlainPair>) -> Pairs {
        pairs
            .into_iter()
            .map(|pair| (self.bytes[pair.key].to_vec(), self.bytes[pair.value].to_vec()))
            .collect()
    }

    /// The elements of all leaves of one bucket, in their order.
    fn walk(
        &self,
        root: usize,
        bucket: Option<&Vec<u8>>,
        tree: &mut PlainTree,
        seen: &mut BTreeSet<usize>,
    ) -> Option<Vec<PlainPair>> {
        let (mut todo, mut pairs) = (vec![(root, Vec::new())], Vec::new());
        while let Some((page, above)) = todo.pop() {
            let head = self.head(page)?;
            let is_new = (page..page + head.pages).all(|page| seen.insert(page));
            if !is_new || head.id != u64::try_from(page).ok()? || above.len() > DEEPEST {
                return None;
            }
            let is_leaf = head.flags == LEAF;
            if is_leaf {
                let own = self.leaf(page);
                if own.len() != head.count {
                    return None;
                }
                pairs.extend(own);
            } else {
                let children = self.children(page);
                if head.flags != BRANCH || children.len() != head.count {
                    return None;
                }
                let below: Vec<usize> = above.iter().copied().chain([page]).collect();
                todo.extend(children.iter().rev().map(|(_, child)| (*child, below.clone())));
            }
            tree.nodes.push(PlainNode { page, pages: head.pages, is_leaf, above, bucket: bucket.cloned() });
        }
        Some(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bbolt_damage::Base;

    /// The page numbers and the story of a file that bbolt's own library wrote (`bbolt_damage::Base::Library`).
    #[test]
    fn a_file_of_the_library_is_read_as_its_maker_tells() {
        let bytes = Base::Library.bytes();
        let file = PlainFile::of(&bytes).unwrap();
        assert_eq!((file.page_size(), file.pages()), (4096, 209));
        let (slot, meta) = file.newest().unwrap();
        assert_eq!((slot, meta.txid, meta.root, meta.freelist), (0, 6, 207, Some(208)));
        assert_eq!(file.meta(1).map(|meta| (meta.txid, meta.root, meta.freelist)), Some((5, 3, Some(197))));
        assert_eq!(file.children(206).iter().map(|(_, child)| *child).collect::<Vec<_>>(), [205, 179]);
        assert_eq!(file.head(188).map(|head| (head.flags, head.pages)), Some((LEAF, 9)));
        let tree = file.tree(meta.root).unwrap();
        let leaves = |bucket: &[u8]| {
            tree.nodes.iter().filter(|node| node.is_leaf && node.bucket.as_deref() == Some(bucket)).count()
        };
        assert_eq!((leaves(b"tree"), leaves(b"large")), (129, 2));
        assert_eq!(tree.buckets[&b"large"[..]].len(), 6);
    }

    #[test]
    fn a_snapshot_of_a_server_is_read_as_the_server_tells() {
        let bytes = Base::Etcd.bytes();
        let file = PlainFile::of(&bytes).unwrap();
        let (_, meta) = file.newest().unwrap();
        let tree = file.tree(meta.root).unwrap();
        let key: Vec<_> = tree.nodes.iter().filter(|node| node.bucket.as_deref() == Some(b"key")).collect();
        let seen: Vec<_> = key.iter().map(|node| (node.page, node.pages, node.is_leaf)).collect();
        assert_eq!(seen, [(33, 1, false), (5, 1, true), (7, 23, true), (31, 1, true)]);
        assert_eq!(key[1].above, [33]);
        let last = tree.buckets[&b"key"[..]].last_key_value().unwrap().0;
        let (_, revision, _) = crate::hashkv_facts("3.5.1", "s3-final");
        assert_eq!(last[..8], revision.to_be_bytes());
        assert_eq!(tree.buckets[&b"meta"[..]][&b"consistent_index"[..]].len(), 8);
        // A page that is not what it has to be, and one that is met twice.
        for (page, with) in [(5, 0), (31, 33)] {
            let mut bad = bytes.clone();
            let copy = bytes[with * 4096..(with + 1) * 4096].to_vec();
            bad[page * 4096..(page + 1) * 4096].copy_from_slice(&copy);
            assert!(PlainFile::of(&bad).unwrap().tree(meta.root).is_none());
        }
        let mut bad = bytes.clone();
        let (pointer, _) = file.children(33)[2];
        bad[pointer] = 5;
        assert!(PlainFile::of(&bad).unwrap().tree(meta.root).is_none());
    }
}
