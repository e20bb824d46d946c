//! Histories of random edits, the model they are compared with, and a shape walker that shares no code with the
//! writer or the check engine's rules.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, HashMap};

use bbolt::graft::Pairs;
use bbolt::meta::NO_FREELIST;
use bbolt::page::{FLAG_BRANCH, FLAG_LEAF, FLAG_META};
use bbolt::{Db, Graft, Meta, NodeKind, PageHeader, PageId, check};
use proptest::prelude::*;

/// What every bucket holds.
pub(crate) type Model = BTreeMap<Vec<u8>, Pairs>;

/// The buckets that histories edit; in `key`, keys look like etcd's revisions.
pub(crate) const NAMES: [&[u8]; 4] = [b"auth", b"key", b"lease", b"members"];

/// How a history begins.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    /// Two metas with these transaction numbers (`None`: torn) and an empty root leaf.
    Tiny { page_size: u32, txids: [Option<u64>; 2] },
    /// A real server's snapshot.
    Real { version: &'static str, stage: &'static str },
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Replace { name: usize, pairs: Spec },
    Append { name: usize, pairs: Spec },
    Cut { name: usize, keep: Keep },
    Delete { name: usize },
}

/// How much a cut leaves.
#[derive(Debug, Clone)]
pub(crate) enum Keep {
    Permille(usize),
    First(usize),
    AllBut(usize),
}

/// Pairs to make: `count` of them, lengths picked by `seed`.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) count: usize,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) seed: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) start: Start,
    pub(crate) grafts: Vec<Vec<Op>>,
}

fn start() -> impl Strategy<Value = Start> {
    let txids = prop_oneof![
        4 => Just([Some(0), Some(1)]),
        1 => Just([Some(8), Some(7)]),
        1 => Just([Some(7), Some(6)]),
        1 => Just([Some(5), Some(5)]),
        1 => Just([None, Some(3)]),
        1 => Just([Some(4), None]),
    ];
    prop_oneof![
        6 => (10u32..=16, txids).prop_map(|(log, txids)| Start::Tiny { page_size: 1 << log, txids }),
        1 => (0usize..testdata::VERSIONS.len(), 0usize..testdata::STAGES.len()).prop_map(|(v, s)| Start::Real {
            version: testdata::VERSIONS[v],
            stage: testdata::STAGES[s],
        }),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let count = prop_oneof![3 => 0usize..4, 4 => 0usize..60, 3 => 0usize..1500];
    let key_bytes = prop_oneof![8 => 8usize..40, 2 => 8usize..700, 1 => 8usize..=32_768];
    let value_bytes =
        prop_oneof![6 => 0usize..80, 3 => 0usize..1200, 2 => 0usize..9000, 1 => 0usize..200_000];
    (count, key_bytes, value_bytes, any::<u64>()).prop_map(|(count, key_bytes, value_bytes, seed)| {
        // At most about a megabyte an edit.
        let count = count.min((1 << 20) / (key_bytes + value_bytes));
        Spec { count, key_bytes, value_bytes, seed }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    let keep = prop_oneof![
        (0usize..=1000).prop_map(Keep::Permille),
        (0usize..6).prop_map(Keep::First),
        (0usize..6).prop_map(Keep::AllBut),
    ];
    prop_oneof![
        3 => (name.clone(), spec()).prop_map(|(name, pairs)| Op::Replace { name, pairs }),
        4 => (name.clone(), spec()).prop_map(|(name, pairs)| Op::Append { name, pairs }),
        4 => (name.clone(), keep).prop_map(|(name, keep)| Op::Cut { name, keep }),
        1 => name.prop_map(|name| Op::Delete { name }),
    ]
}

pub(crate) fn history() -> impl Strategy<Value = History> {
    let grafts = prop::collection::vec(prop::collection::vec(op(), 0..4), 1..7);
    (start(), grafts).prop_map(|(start, grafts)| History { start, grafts })
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX generator; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// Ascending pairs behind `last`, whose first eight bytes count.
pub(crate) fn make_pairs(spec: &Spec, name: &[u8], last: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rng = Rng(spec.seed);
    let mut number = last.map_or(0, |key| {
        let mut head = [0; 8];
        let len = key.len().min(8);
        head[..len].copy_from_slice(&key[..len]);
        u64::from_be_bytes(head) + 1
    });
    let mut pairs = Vec::new();
    for _ in 0..spec.count {
        let mut key = number.to_be_bytes().to_vec();
        if name == b"key" {
            key.push(b'_');
            key.extend_from_slice(&0u64.to_be_bytes());
        } else {
            let extra = rng.below(spec.key_bytes - 7);
            key.resize(8 + extra, b'k');
        }
        let value = vec![u8::try_from(rng.below(256)).unwrap(); rng.below(spec.value_bytes + 1)];
        pairs.push((key, value));
        number += 1 + rng.below(3) as u64;
    }
    pairs
}

fn meta_page(slot: u64, meta: &Meta) -> Vec<u8> {
    let mut page = PageHeader { id: slot, flags: FLAG_META, count: 0, overflow: 0 }.encode().to_vec();
    page.extend_from_slice(&meta.encode());
    page.resize(meta.page_size as usize, 0);
    page
}

/// One leaf page; with a page size of 0, the unpadded page of an inline bucket.
pub(crate) fn leaf_page(id: u64, page_size: usize, elements: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
    let count = u16::try_from(elements.len()).unwrap();
    let mut page = PageHeader { id, flags: FLAG_LEAF, count, overflow: 0 }.encode().to_vec();
    let mut data = Vec::new();
    for (index, (flags, key, value)) in elements.iter().enumerate() {
        let position = (elements.len() - index) * 16 + data.len();
        for word in [*flags as usize, position, key.len(), value.len()] {
            page.extend_from_slice(&u32::try_from(word).unwrap().to_le_bytes());
        }
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    page.extend_from_slice(&data);
    assert!(page_size == 0 || page.len() <= page_size);
    if page_size > 0 {
        page.resize(page_size, 0);
    }
    page
}

/// One branch page.
pub(crate) fn branch_page(id: u64, page_size: usize, children: &[(&[u8], u64)]) -> Vec<u8> {
    let count = u16::try_from(children.len()).unwrap();
    let mut page = PageHeader { id, flags: FLAG_BRANCH, count, overflow: 0 }.encode().to_vec();
    let mut data = Vec::new();
    for (index, (key, child)) in children.iter().enumerate() {
        let position = (children.len() - index) * 16 + data.len();
        page.extend_from_slice(&u32::try_from(position).unwrap().to_le_bytes());
        page.extend_from_slice(&u32::try_from(key.len()).unwrap().to_le_bytes());
        page.extend_from_slice(&child.to_le_bytes());
        data.extend_from_slice(key);
    }
    page.extend_from_slice(&data);
    page.resize(page_size, 0);
    page
}

/// A file of these pages behind two metas that name page 2 as root.
pub(crate) fn file_of(page_size: u32, txids: [Option<u64>; 2], pages: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    let bytes: usize = pages.iter().map(Vec::len).sum();
    for (slot, txid) in (0..).zip(txids) {
        let meta = Meta {
            page_size,
            flags: 0,
            root: PageId(2),
            sequence: 0,
            freelist: NO_FREELIST,
            high_water_mark: 2 + bytes as u64 / u64::from(page_size),
            txid: txid.unwrap_or_default(),
        };
        let mut page = meta_page(slot, &meta);
        if txid.is_none() {
            page[40] ^= 0xFF;
        }
        file.extend_from_slice(&page);
    }
    file.extend(pages.iter().flatten());
    file
}

/// The value of a bucket whose tree starts at `root`.
pub(crate) fn bucket_value(root: u64) -> Vec<u8> {
    [root.to_le_bytes(), [0; 8]].concat()
}

impl Start {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Tiny { page_size, txids } => {
                file_of(*page_size, *txids, &[leaf_page(2, *page_size as usize, &[])])
            }
            Self::Real { version, stage } => testdata::snapshot(version, stage),
        }
    }
}

/// All top-level buckets and their pairs, by cursor.
pub(crate) fn read_all(file: &[u8]) -> Model {
    let db = Db::from_source(file).unwrap();
    let mut model = Model::new();
    let mut names = db.root().cursor();
    while let Some(name) = names.next().unwrap().map(|item| item.key.to_vec()) {
        let mut pairs = Pairs::new();
        let mut cursor = names.bucket().unwrap().unwrap().cursor();
        while let Some(item) = cursor.next().unwrap() {
            assert!(!item.is_bucket);
            pairs.insert(item.key.to_vec(), item.value.to_vec());
        }
        model.insert(name, pairs);
    }
    model
}

/// Applies one edit to graft and model alike.
pub(crate) fn edit(graft: &mut Graft<'_, &[u8]>, model: &mut Model, op: &Op) {
    match op {
        Op::Replace { name, pairs } => {
            let pairs: Pairs = make_pairs(pairs, NAMES[*name], None).into_iter().collect();
            graft.replace_bucket(NAMES[*name], pairs.clone()).unwrap();
            model.insert(NAMES[*name].to_vec(), pairs);
        }
        Op::Append { name, pairs } => {
            let Some(all) = model.get_mut(NAMES[*name]) else {
                assert!(graft.append(NAMES[*name], Vec::new()).is_err());
                return;
            };
            let pairs = make_pairs(pairs, NAMES[*name], all.last_key_value().map(|(key, _)| key.as_slice()));
            graft.append(NAMES[*name], pairs.clone()).unwrap();
            all.extend(pairs);
        }
        Op::Cut { name, keep } => {
            let Some(all) = model.get_mut(NAMES[*name]) else {
                assert!(graft.cut(NAMES[*name], b"x").is_err());
                return;
            };
            let kept = match keep {
                Keep::Permille(share) => all.len() * share / 1000,
                Keep::First(count) => *count,
                Keep::AllBut(count) => all.len().saturating_sub(*count),
            };
            let from = all.keys().nth(kept).cloned().unwrap_or_else(|| vec![0xFF; 9]);
            graft.cut(NAMES[*name], &from).unwrap();
            all.split_off(&from);
        }
        Op::Delete { name } => {
            graft.delete_bucket(NAMES[*name]).unwrap();
            model.remove(NAMES[*name]);
        }
    }
    for name in NAMES {
        assert_eq!(graft.pairs(name).unwrap().as_ref(), model.get(name), "pairs() as edited so far");
    }
}

/// One graft of these edits onto `file`, with everything that must hold of the result.
pub(crate) fn step(file: &[u8], model: &mut Model, ops: &[Op]) -> Vec<u8> {
    let db = Db::from_source(file).unwrap();
    let mut graft = Graft::new(&db);
    for op in ops {
        edit(&mut graft, model, op);
    }
    let patch = graft.finish().unwrap();
    let page_size = u64::from(patch.page_size());
    let first = db.highest_water_mark() * page_size;
    let mut next = first;
    for (offset, bytes) in patch.data_writes() {
        assert_eq!(offset, next, "new pages leave no gap");
        next += bytes.len() as u64;
    }
    assert_eq!(next, patch.len_bytes());

    let mut edited = file.to_vec();
    patch.apply_to_vec(&mut edited);
    let old = 2 * usize::try_from(page_size).unwrap()..usize::try_from(first).unwrap();
    assert!(edited[old.clone()] == file[old], "a page of the source changed");
    assert_metas(&db, &edited, patch.txid());
    assert!(read_all(&edited) == *model, "the file does not hold what the model does");
    assert_shape(&edited);
    let report = check(&Db::from_source(edited.as_slice()).unwrap(), &());
    assert!(report.findings.is_empty() && report.is_sound(), "{:?}", report.findings);
    edited
}

/// Both metas valid, same root, one transaction apart, each in the slot of its parity, newer than any before.
fn assert_metas(before: &Db<&[u8]>, edited: &[u8], txid: u64) {
    let after = Db::from_source(edited).unwrap();
    let [Ok(meta0), Ok(meta1)] = after.metas() else { panic!("{:?}", after.metas()) };
    assert_eq!((meta0.root, meta0.high_water_mark), (meta1.root, meta1.high_water_mark));
    assert_eq!((meta0.freelist, meta1.freelist), (NO_FREELIST, NO_FREELIST));
    assert_eq!((meta0.txid % 2, meta1.txid % 2), (0, 1));
    assert_eq!(meta0.txid.abs_diff(meta1.txid), 1);
    assert_eq!(after.meta().txid, txid);
    assert!(before.metas().iter().flatten().all(|m| m.txid < txid));
    assert_ne!(after.active_slot(), before.active_slot(), "the meta in force is overwritten last");
}

/// An inline bucket's page, header and elements by their own offsets (FORMATS A.1, A.4), lists pairs only.
fn assert_no_bucket_inline(page: &[u8]) {
    let count = u16::from_le_bytes(page[10..12].try_into().unwrap());
    for (index, element) in page[16..].chunks_exact(16).take(usize::from(count)).enumerate() {
        let flags = u32::from_le_bytes(element[..4].try_into().unwrap());
        assert_eq!(flags & 1, 0, "element {index} of an inline bucket is a bucket");
    }
}

/// Walks every bucket: leaves at one depth, two children a branch, no empty page but an empty bucket's root, branch
/// keys equal to their child's first key, no page used twice, inline exactly what bbolt keeps inline, which has no bucket
/// in it.
pub(crate) fn assert_shape(file: &[u8]) {
    let db = Db::from_source(file).unwrap();
    let page_size = u64::from(db.page_size());
    let mut users: HashMap<u64, u64> = HashMap::new();
    // Root page, and whether it is a bucket that could be inline.
    let mut roots = vec![(db.meta().root, false)];
    while let Some((root, may_inline)) = roots.pop() {
        let mut leaf_depth = None;
        let mut stack = vec![(root, 0, None::<Vec<u8>>)];
        while let Some((id, depth, separator)) = stack.pop() {
            let node = db.node(id).unwrap();
            node.check_order().unwrap();
            let pages = node.len_bytes() / page_size;
            for page in id.0..id.0 + pages {
                assert!(page >= 2 && page < db.meta().high_water_mark);
                assert_eq!(users.insert(page, root.0), None, "page {page} is used twice");
            }
            assert!(node.count() > 0 || depth == 0, "page {id} is empty");
            if let Some(separator) = separator {
                assert_eq!(node.key(0), separator, "page {id}: its parent names another key");
            }
            if node.kind() == NodeKind::Branch {
                assert!(node.count() >= 2, "page {id} is a branch with {} children", node.count());
                stack.extend(
                    (0..node.count()).map(|i| (node.child(i), depth + 1, Some(node.key(i).to_vec()))),
                );
                continue;
            }
            assert_eq!(*leaf_depth.get_or_insert(depth), depth, "page {id}: depth");
            let mut used = 16;
            let mut has_bucket = false;
            for index in 0..node.count() {
                used += 16 + node.key(index).len() + node.value(index).len();
                let value = node.value(index);
                if !node.is_bucket(index) {
                    continue;
                }
                has_bucket = true;
                match u64::from_le_bytes(value[..8].try_into().unwrap()) {
                    0 => {
                        assert!(value.len() as u64 <= 16 + page_size / 4, "an inline bucket is too long");
                        assert_no_bucket_inline(&value[16..]);
                    }
                    child => roots.push((PageId(child), true)),
                }
            }
            if may_inline && depth == 0 {
                assert!(used as u64 > page_size / 4 || has_bucket, "page {id} should have been inline");
            }
        }
    }
}
