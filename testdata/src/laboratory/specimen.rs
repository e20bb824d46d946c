//! An undamaged database of known content.

use std::collections::{BTreeMap, BTreeSet};

use super::damaged::Damaged;
use super::ledger::Ledger;
use super::plain::{Pairs, PlainFile, PlainMeta, PlainNode, PlainTree};

/// An undamaged database, what is in it, and what else of the same member a damage needs.
#[derive(Debug)]
pub struct Specimen {
    name: String,
    page_size: usize,
    /// The undamaged file, and the file as it was a commit earlier, where that is known.
    files: Vec<Vec<u8>>,
    /// Its first two pages at an early time.
    young: Option<[Vec<u8>; 2]>,
    /// A copy made while its server wrote it.
    copied: Option<Vec<u8>>,
    meta: PlainMeta,
    tree: PlainTree,
    ledger: Ledger,
}

/// What a specimen is made of.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The undamaged file.
    pub file: Vec<u8>,
    /// The file as it was a commit earlier.
    pub before: Option<Vec<u8>>,
    /// Its first two pages at an early time.
    pub young: Option<[Vec<u8>; 2]>,
    /// A copy of the file that was made while its server wrote it.
    pub copied: Option<Vec<u8>>,
    /// The file at still earlier times: what they hold is history.
    pub earlier: Vec<Vec<u8>>,
    /// More records of earlier times.
    pub history: Pairs,
}

impl Specimen {
    /// Reads what a specimen is made of; what lies behind the last page that was ever given out is cut off. Panics when a file
    /// that is no copy of a running server's is not sound.
    #[must_use]
    pub fn new(name: &str, parts: Parts) -> Self {
        let Parts { file, before, young, mut copied, earlier, history } = parts;
        let mut files: Vec<Vec<u8>> = [file].into_iter().chain(before).collect();
        let first = PlainFile::of(&files[0]).expect("a meta");
        let page_size = first.page_size();
        let end = first.newest().map_or(0, |(_, meta)| meta.high_water_mark) * page_size;
        files.iter_mut().chain(&mut copied).for_each(|file| file.truncate(end));
        let open = |bytes| PlainFile::with_page_size(bytes, page_size);
        let plain: Vec<PlainFile<'_>> = files.iter().map(|bytes| open(bytes)).collect();
        let others: Vec<PlainFile<'_>> = earlier.iter().map(|bytes| open(bytes)).collect();
        let (_, meta) = plain[0].newest().expect("a meta");
        let tree = plain[0].tree(meta.root).expect("a sound tree");
        let ledger = Ledger::of(&plain, &others, history);
        Self { name: name.to_owned(), page_size, young, copied, meta, tree, ledger, files }
    }

    /// What the tables call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of a page, in bytes.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Other bytes, as a file with pages of this size.
    #[must_use]
    pub fn read<'b>(&self, bytes: &'b [u8]) -> PlainFile<'b> {
        PlainFile::with_page_size(bytes, self.page_size)
    }

    /// The file, for damage to be done to.
    #[must_use]
    pub fn whole(&self) -> Damaged {
        Damaged::new(self.files[0].clone(), self.page_size)
    }

    /// The undamaged file, and the file a commit earlier where there is one.
    #[must_use]
    pub fn files(&self) -> Vec<PlainFile<'_>> {
        self.files.iter().map(|bytes| PlainFile::with_page_size(bytes, self.page_size)).collect()
    }

    /// What is in it, and where.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The meta in force.
    #[must_use]
    pub fn meta(&self) -> PlainMeta {
        self.meta
    }

    /// What that meta reaches.
    #[must_use]
    pub fn tree(&self) -> &PlainTree {
        &self.tree
    }

    /// The pages 0 and 1 of an early time.
    #[must_use]
    pub fn young(&self) -> Option<&[Vec<u8>; 2]> {
        self.young.as_ref()
    }

    /// A copy of the file that was made while its server wrote it.
    #[must_use]
    pub fn copied(&self) -> Option<&[u8]> {
        self.copied.as_deref()
    }

    /// The page runs of bucket `key`.
    pub fn nodes_of_key(&self) -> impl Iterator<Item = &PlainNode> {
        self.tree.nodes.iter().filter(|node| node.bucket.as_deref() == Some(b"key"))
    }

    /// Pages in use that the meta in force does not reach: freed ones, which still hold what they held.
    #[must_use]
    pub fn free_pages(&self) -> Vec<usize> {
        let reached = |node: &PlainNode| node.page..node.page + node.pages;
        let mut used: BTreeSet<usize> = self.tree.nodes.iter().flat_map(reached).collect();
        if let Some(page) = self.meta.freelist {
            let pages = self.files()[0].head(page).map_or(1, |head| head.pages);
            used.extend(page..page + pages);
        }
        (2..self.meta.high_water_mark).filter(|page| !used.contains(page)).collect()
    }

    /// The records of the truth that are left in a damaged file.
    #[must_use]
    pub fn there(&self, damaged: &Damaged) -> BTreeSet<&[u8]> {
        let mut there = self.ledger.there(damaged, &self.files());
        if !damaged.is_booked() {
            there.append(&mut self.ledger.seen(damaged.file()));
        }
        there
    }

    /// The rows of a small bucket.
    #[must_use]
    pub fn bucket(&self, name: &str) -> Option<&BTreeMap<Vec<u8>, Vec<u8>>> {
        self.tree.buckets.get(name.as_bytes())
    }

    /// The last revision, and the finished compaction (-1 for none).
    #[must_use]
    pub fn revisions(&self) -> (i64, i64) {
        let main = |key: &[u8]| i64::from_be_bytes(key[..8].try_into().expect("a revision"));
        let finished = self.bucket("meta").and_then(|meta| meta.get(&b"finishedCompactRev"[..]));
        let compacted = finished.map_or(-1, |key| main(key));
        let last = self.ledger.truth.last_key_value().map_or(1, |(key, _)| main(key));
        (last.max(compacted), compacted)
    }
}
