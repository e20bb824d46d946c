//! The databases on the bench.

use std::fs;
use std::path::{Path, PathBuf};

use generate::{LogOptions, Preset, SCALE_ONE, Shape};
use testdata::key_space::KeySpace;
use testdata::laboratory::{Damaged, Pairs, Parts, PlainMeta, PlainNode, Served, Specimen};
use testdata::oracle::{Bbolt, Version};

/// A specimen, its log, and what a server of its version says of it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) specimen: Specimen,
    /// The member's log.
    pub(crate) wal: PathBuf,
    /// hashkv of the undamaged member at its last revision.
    pub(crate) hash: u64,
    /// Who starts what is salvaged.
    pub(crate) version: Version,
    /// Whether the log holds everything from its first entry on. Else it begins with a database that was restored.
    pub(crate) is_log_whole: bool,
    /// Whether the same seed gives the same bytes. A server that lives through the same history may write some page at another
    /// time.
    pub(crate) is_fixed: bool,
}

/// A size in millionths of a preset's.
const GENERATED_SCALE: u64 = SCALE_ONE / 500;

impl Bench {
    pub(crate) fn name(&self) -> &str {
        self.specimen.name()
    }

    /// What a real server wrote.
    pub(crate) fn served(version: Version, seed: u64, scratch: &Path) -> Self {
        let Served { specimen, data_dir, hash, is_log_whole, .. } = Served::new(version, seed, true, scratch);
        let wal = data_dir.join("member/wal");
        Self { specimen, wal, hash: hash.hash, version, is_log_whole, is_fixed: false }
    }

    /// The same history on 3.5.1, to which bbolt's own tool has given a freelist.
    pub(crate) fn with_a_freelist(seed: u64, scratch: &Path) -> Self {
        let Served { specimen, data_dir, hash, .. } = Served::new(Version::V3_5_1, seed, false, scratch);
        let (db, with) = (data_dir.join("member/snap/db"), scratch.join("with-a-freelist.db"));
        let run = Bbolt::find().run([
            "surgery",
            "freelist",
            "rebuild",
            db.to_str().unwrap(),
            "--output",
            with.to_str().unwrap(),
        ]);
        let run = run.ok();
        let history = specimen.ledger().history.clone();
        let parts = Parts { file: fs::read(&with).unwrap(), history, ..Parts::default() };
        let specimen = Specimen::new("3.5.1, with a freelist", parts);
        assert!(specimen.meta().freelist.is_some(), "{run:?}");
        let (wal, version) = (data_dir.join("member/wal"), Version::V3_5_1);
        Self { specimen, wal, hash: hash.hash, version, is_log_whole: true, is_fixed: false }
    }

    /// Generated: dense, or mostly free pages after a compaction.
    pub(crate) fn generated(name: &str, preset: Preset, page_size: u32, seed: u64, scratch: &Path) -> Self {
        let shape = Shape { page_size, ..Shape::preset(preset, seed).scaled(GENERATED_SCALE).unwrap() };
        let (db, all, wal) = (scratch.join("generated.db"), scratch.join("all.db"), scratch.join("wal"));
        let facts = generate::db_file(&shape, &db, false, &()).unwrap();
        // The same history before its compaction.
        generate::db_file(&Shape { compacted: false, ..shape.clone() }, &all, false, &()).unwrap();
        generate::log_dir(&shape, &wal, LogOptions::default(), &()).unwrap();
        let parts = Parts {
            file: fs::read(&db).unwrap(),
            earlier: vec![fs::read(&all).unwrap()],
            ..Parts::default()
        };
        let specimen = Specimen::new(name, parts);
        assert_eq!(specimen.ledger().truth.len() as u64, facts.records);
        let hash = hash_of(&specimen.ledger().truth, facts.compact_revision.map(i64::from), Version::V3_5New);
        let version = Version::V3_5New;
        let hash = hash.unwrap();
        Self { specimen, wal, hash, version, is_log_whole: true, is_fixed: true }
    }

    /// Whether the log goes on from something in the damaged file that is sound: from a meta and its tree of which no page is
    /// changed, or from nothing.
    pub(crate) fn is_covered(&self, damaged: &Damaged) -> bool {
        let (file, whole) = (damaged.file(), self.specimen.files()[0]);
        let is_kept = |meta: PlainMeta| {
            let tree = file.tree(meta.root);
            let is_same = |node: &PlainNode| {
                (node.page..node.page + node.pages).all(|page| file.page(page) == whole.page(page))
            };
            tree.is_some_and(|tree| tree.nodes.iter().all(is_same))
        };
        // Of a copy made while it was written the pages are of many ages.
        self.is_log_whole
            || damaged.is_booked()
                && (0..2)
                    .filter(|slot| file.page(*slot) == whole.page(*slot))
                    .any(|slot| file.meta(slot).is_some_and(is_kept))
    }

    /// hashkv at the last revision of these records, after the specimen's compaction; `None` when one of them is none that a server
    /// writes.
    pub(crate) fn hash_of(&self, records: &Pairs, compacted: Option<i64>) -> Option<u64> {
        hash_of(records, compacted, self.version)
    }
}

fn hash_of(records: &Pairs, compacted: Option<i64>, version: Version) -> Option<u64> {
    let is_newer = version == Version::V3_5New;
    let space = KeySpace::new(records.clone(), compacted, compacted, is_newer)?;
    Some(space.hashkv(space.revision()).into())
}
