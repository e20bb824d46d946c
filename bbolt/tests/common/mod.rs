//! Real files, a small builder of made-up ones, and the edits that damage either.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use bbolt::page::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META};
use bbolt::{Db, Meta, NodeKind, PageHeader, PageId};

/// A snapshot of three members at revision 4,000: the one real file here with more than a handful of leaves.
pub fn cluster_snapshot() -> Vec<u8> {
    let path = testdata::path("fixtures/3.5.30/cluster3/cluster.snapshot.db.zst");
    zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()
}

/// A snapshot of a 3.7 server, auth on.
pub fn snapshot_3_7() -> Vec<u8> {
    testdata::snapshot("3.7.1", "s2-auth")
}

/// Every snapshot there is, and what stopped servers left as `member/snap/db`, with its growth padding.
pub fn all_real() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("cluster snapshot".to_owned(), cluster_snapshot())];
    for version in testdata::VERSIONS {
        for stage in testdata::STAGES {
            files.push((format!("{version} {stage}"), testdata::snapshot(version, stage)));
        }
        let dir = tempfile::tempdir().unwrap();
        let db = testdata::data_dir(version, dir.path()).join("member/snap/db");
        files.push((format!("{version} db"), std::fs::read(db).unwrap()));
    }
    files
}

/// A key and a value, and the element's flags.
pub type Element = (u32, Vec<u8>, Vec<u8>);

/// Elements of a page as bbolt lays them out: the table, then keys and values back to back.
fn leaf_body(elements: &[Element]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut data: Vec<u8> = Vec::new();
    for (index, (flags, key, value)) in elements.iter().enumerate() {
        let position = (elements.len() - index) * 16 + data.len();
        for word in [*flags as usize, position, key.len(), value.len()] {
            body.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        data.extend(key);
        data.extend(value);
    }
    body.extend(data);
    body
}

fn branch_body(elements: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut data: Vec<u8> = Vec::new();
    for (index, (key, child)) in elements.iter().enumerate() {
        let position = (elements.len() - index) * 16 + data.len();
        for word in [position, key.len()] {
            body.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        body.extend(child.to_le_bytes());
        data.extend(key);
    }
    body.extend(data);
    body
}

fn header(id: u64, flags: u16, count: usize, overflow: usize) -> [u8; 16] {
    let (count, overflow) = (u16::try_from(count).unwrap(), u32::try_from(overflow).unwrap());
    PageHeader { id, flags, count, overflow }.encode()
}

/// The value of a bucket with pages of its own.
pub fn bucket_value(root: u64) -> Vec<u8> {
    [root.to_le_bytes(), [0; 8]].concat()
}

/// The value of an inline bucket.
pub fn inline_value(elements: &[Element]) -> Vec<u8> {
    [&[0; 16][..], &header(0, FLAG_LEAF, elements.len(), 0), &leaf_body(elements)].concat()
}

pub fn pair(key: &str, value: &str) -> Element {
    (0, key.into(), value.into())
}

pub fn bucket(name: &str, root: u64) -> Element {
    (1, name.into(), bucket_value(root))
}

/// Writes pages one after the other; knows no rule but the layout, so that it can break all the others.
pub struct Builder {
    page_size: usize,
    bytes: Vec<u8>,
}

impl Builder {
    pub fn new(page_size: usize) -> Self {
        Self { page_size, bytes: vec![0; 2 * page_size] }
    }

    pub fn next_id(&self) -> u64 {
        (self.bytes.len() / self.page_size) as u64
    }

    pub fn page(&mut self, flags: u16, count: usize, body: &[u8]) -> u64 {
        let id = self.next_id();
        let pages = (16 + body.len()).div_ceil(self.page_size);
        let end = self.bytes.len() + pages * self.page_size;
        self.bytes.extend(header(id, flags, count, pages - 1));
        self.bytes.extend(body);
        self.bytes.resize(end, 0);
        id
    }

    pub fn leaf(&mut self, elements: &[Element]) -> u64 {
        self.page(FLAG_LEAF, elements.len(), &leaf_body(elements))
    }

    /// The one page of a leaf that calls itself `id`, wherever it is put.
    pub fn page_of_leaf(page_size: usize, id: u64, elements: &[Element]) -> Vec<u8> {
        let mut page = [&header(id, FLAG_LEAF, elements.len(), 0)[..], &leaf_body(elements)].concat();
        assert!(page.len() <= page_size);
        page.resize(page_size, 0);
        page
    }

    pub fn branch(&mut self, elements: &[(&str, u64)]) -> u64 {
        let elements: Vec<_> =
            elements.iter().map(|(key, child)| (key.as_bytes().to_vec(), *child)).collect();
        self.page(FLAG_BRANCH, elements.len(), &branch_body(&elements))
    }

    /// A sound tree over sorted `elements`.
    pub fn tree(&mut self, elements: &[Element], per_leaf: usize, per_branch: usize) -> u64 {
        let mut level: Vec<(Vec<u8>, u64)> =
            elements.chunks(per_leaf).map(|part| (part[0].1.clone(), self.leaf(part))).collect();
        while level.len() > 1 {
            let mut above = Vec::new();
            let mut rest = level.as_slice();
            while !rest.is_empty() {
                // No branch may be left with a single child.
                let take =
                    if rest.len() == per_branch + 1 { per_branch - 1 } else { per_branch.min(rest.len()) };
                let (part, tail) = rest.split_at(take);
                above.push((part[0].0.clone(), self.page(FLAG_BRANCH, part.len(), &branch_body(part))));
                rest = tail;
            }
            level = above;
        }
        level[0].1
    }

    pub fn freelist(&mut self, ids: &[u64]) -> u64 {
        let body: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.page(FLAG_FREELIST, ids.len(), &body)
    }

    /// The file, with a root bucket of `buckets`.
    pub fn finish(mut self, buckets: &[Element]) -> Vec<u8> {
        let root = self.leaf(buckets);
        self.finish_at(root, u64::MAX)
    }

    pub fn finish_at(mut self, root: u64, freelist: u64) -> Vec<u8> {
        for (slot, txid) in [(0u64, 8), (1, 7)] {
            let meta = Meta {
                page_size: u32::try_from(self.page_size).unwrap(),
                flags: 0,
                root: PageId(root),
                sequence: 0,
                freelist,
                high_water_mark: self.next_id(),
                txid,
            };
            let at = usize::try_from(slot).unwrap() * self.page_size;
            self.bytes[at..at + 16].copy_from_slice(&header(slot, FLAG_META, 0, 0));
            self.bytes[at + 16..at + 80].copy_from_slice(&meta.encode());
        }
        self.bytes
    }
}

/// `count` pairs in key order, the values of differing length.
pub fn pairs(count: usize) -> Vec<Element> {
    (0..count).map(|i| pair(&format!("key{i:08}"), &"v".repeat(i % 97))).collect()
}

/// Many subtrees, a nested bucket, inline buckets: at 1 KiB pages enough for the parallel proof.
pub fn built(page_size: usize, keys: usize) -> Vec<u8> {
    let mut file = Builder::new(page_size);
    let key = file.tree(&pairs(keys), 9, 7);
    let inner = file.tree(&pairs(50), 9, 7);
    let outer = file.leaf(&[pair("a", "1"), bucket("inner", inner), pair("z", "26")]);
    let empty = file.leaf(&[]);
    file.finish(&[
        (1, b"alarm".to_vec(), inline_value(&[])),
        bucket("empty", empty),
        bucket("key", key),
        (1, b"meta".to_vec(), inline_value(&[pair("a", "x"), pair("b", "")])),
        bucket("nested", outer),
    ])
}

/// A file to be damaged, with the addresses of what is worth damaging.
#[derive(Clone)]
pub struct Victim {
    pub bytes: Vec<u8>,
    pub page_size: usize,
    /// The root bucket's leaf.
    pub root: u64,
    /// The first branch of the bucket `key` that has leaves for children.
    pub branch: u64,
    /// Its leaves, in key order.
    pub leaves: Vec<u64>,
}

impl Victim {
    pub fn new(bytes: Vec<u8>) -> Self {
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let (page_size, root) = (db.page_size() as usize, db.meta().root.0);
        let bucket = db.bucket(b"key").unwrap().unwrap();
        let mut node = bucket.root_node().unwrap();
        loop {
            assert_eq!(node.kind(), NodeKind::Branch);
            let child = db.node(node.child(0)).unwrap();
            if child.kind() == NodeKind::Leaf {
                break;
            }
            node = child;
        }
        let leaves: Vec<_> = (0..node.count()).map(|i| node.child(i).0).collect();
        assert!(leaves.len() > 8);
        let branch = node.id().0;
        Self { page_size, root, branch, leaves, bytes }
    }

    pub fn at(&self, page: u64) -> usize {
        usize::try_from(page).unwrap() * self.page_size
    }

    pub fn page(&mut self, page: u64) -> &mut [u8] {
        let at = self.at(page);
        let size = self.page_size;
        &mut self.bytes[at..at + size]
    }

    pub fn zero(&mut self, page: u64) {
        self.page(page).fill(0);
    }

    pub fn put16(&mut self, page: u64, at: usize, value: u16) {
        self.page(page)[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    pub fn put32(&mut self, page: u64, at: usize, value: u32) {
        self.page(page)[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub fn put64(&mut self, page: u64, at: usize, value: u64) {
        self.page(page)[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub fn get64(&self, page: u64, at: usize) -> u64 {
        let at = self.at(page) + at;
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    pub fn meta(&self) -> Meta {
        *Db::from_source(self.bytes.as_slice()).unwrap().meta()
    }

    /// Writes `meta` to both slots, the second as the transaction before, with right checksums.
    pub fn put_metas(&mut self, meta: Meta) {
        for (slot, txid) in [(0, meta.txid), (1, meta.txid - 1)] {
            let meta = Meta { txid, ..meta };
            self.page(slot)[16..80].copy_from_slice(&meta.encode());
        }
    }

    /// The file's logical part and a freelist behind it that lists `free`, named by both metas.
    pub fn with_freelist(&self, free: &[u64]) -> Self {
        let mut out = self.clone();
        let meta = self.meta();
        let page = meta.high_water_mark;
        out.bytes.truncate(out.at(page));
        let mut list = Builder { page_size: self.page_size, bytes: std::mem::take(&mut out.bytes) };
        let id = list.freelist(free);
        assert_eq!(id, page);
        out.bytes = list.bytes;
        let high_water_mark = (out.bytes.len() / self.page_size) as u64;
        out.put_metas(Meta { freelist: page, high_water_mark, ..meta });
        out
    }
}

/// Makes the checksums of both metas right again, where there are metas.
pub fn reseal(bytes: &mut [u8], page_size: usize) {
    for slot in 0..2 {
        let at = slot * page_size + 16;
        if let Some(meta) = bytes.get_mut(at..at + 64) {
            let sum = bbolt::meta::fnv1a(&meta[..56]);
            meta[56..].copy_from_slice(&sum.to_le_bytes());
        }
    }
}
