//! A member's database over several generations, each written behind the one before, and what came of a salvage of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use bbolt::{Build, BuildOptions, Db, Graft};
use snapshot::mvcc::{Release, Revision};
use snapshot::salvage::report::Report;
use snapshot::salvage::{
    Evidence, Plan, SalvageError, SalvageOptions, Trust, WriteOptions, gather_bytes, write,
};

use crate::common::space::Space;

/// Pairs of a bucket.
pub(crate) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) const PAGE: usize = 4096;

/// A database and the pages that its earlier generations left behind.
#[derive(Clone, Default)]
pub(crate) struct Member {
    pub(crate) space: Space,
    pub(crate) file: Vec<u8>,
    pub(crate) index: u64,
    /// Every record that ever was, by its key in bucket `key`.
    pub(crate) ever: Pairs,
    random: u64,
}

impl Member {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: seed, index: 3, ..Self::default() }
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % below
    }

    /// Writes `count` revisions of some keys: puts of every length, some of which are longer than a page, and deletions.
    pub(crate) fn live(&mut self, count: u64) {
        for _ in 0..count {
            let key = format!("/registry/pods/{}", self.random(40 + count / 4));
            self.index += 1;
            if self.random(8) == 0 && self.space.versions.contains_key(&key) {
                self.space.delete(&key);
                continue;
            }
            let len = match self.random(40) {
                0 => 9000,
                1 => 5000,
                n => 20 + n * 9,
            };
            let letter = char::from(b'a' + u8::try_from(self.random(26)).unwrap());
            let value: String = (0..len)
                .map(|at| if at % 7 == 3 { letter } else { char::from(b'A' + (at % 26) as u8) })
                .collect();
            self.space.put(&key, &format!("{}:{value}", self.space.revision));
        }
        self.ever.extend(self.space.records.clone());
    }

    /// Compacts at `revision`.
    pub(crate) fn compact(&mut self, revision: i64) {
        self.index += 1;
        self.space.compact(revision, Release::NEWEST);
    }

    fn meta(&self) -> Pairs {
        let mut meta = Pairs::new();
        meta.insert(b"consistent_index".to_vec(), self.index.to_be_bytes().to_vec());
        meta.insert(b"term".to_vec(), 2u64.to_be_bytes().to_vec());
        let rows =
            [("finishedCompactRev", self.space.finished), ("scheduledCompactRev", self.space.scheduled)];
        for (row, main) in rows.into_iter().filter_map(|(row, main)| Some((row, main?))) {
            meta.insert(row.into(), Revision { main, sub: 0, tombstone: false }.encode());
        }
        meta
    }

    /// Writes the file anew.
    pub(crate) fn build(&mut self) {
        let mut file = Vec::new();
        let mut build = Build::new(&mut file, BuildOptions::default()).unwrap();
        for name in ["alarm", "auth", "authRoles", "authUsers", "cluster"] {
            build.begin_bucket(name.as_bytes()).unwrap();
            if name == "cluster" {
                build.put(b"clusterVersion", b"3.5.0").unwrap();
            }
            build.end_bucket().unwrap();
        }
        build.begin_bucket(b"key").unwrap();
        for (key, value) in &self.space.records {
            build.put(key, value).unwrap();
        }
        build.end_bucket().unwrap();
        build.begin_bucket(b"lease").unwrap();
        build.end_bucket().unwrap();
        build.begin_bucket(b"members").unwrap();
        build.put(b"8e9e05c52164694d", br#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default","clientURLs":["http://localhost:2379"]}"#).unwrap();
        build.end_bucket().unwrap();
        build.begin_bucket(b"members_removed").unwrap();
        build.end_bucket().unwrap();
        build.begin_bucket(b"meta").unwrap();
        for (key, value) in self.meta() {
            build.put(&key, &value).unwrap();
        }
        build.end_bucket().unwrap();
        build.finish().unwrap();
        self.file = file;
    }

    /// Writes the generation at hand behind the ones before: all of bucket `key` anew, as after a compaction, or what came since.
    pub(crate) fn commit(&mut self, all: bool) {
        let before = std::mem::take(&mut self.file);
        let db = Db::from_source(&before[..]).unwrap();
        let mut graft = Graft::new(&db);
        if all {
            graft.replace_bucket(b"key", self.space.records.clone()).unwrap();
        } else {
            let have = graft.pairs(b"key").unwrap().unwrap();
            let last = have.keys().next_back().cloned().unwrap_or_default();
            let new = self.space.records.range(last.clone()..).filter(|(key, _)| **key > last);
            graft.append(b"key", new.map(|(key, value)| (key.clone(), value.clone())).collect()).unwrap();
        }
        graft.replace_bucket(b"meta", self.meta()).unwrap();
        let patch = graft.finish().unwrap();
        let mut file = before.clone();
        file.resize(usize::try_from(patch.len_bytes()).unwrap().max(file.len()), 0);
        for (offset, bytes) in patch.data_writes().chain(patch.meta_writes()) {
            let offset = usize::try_from(offset).unwrap();
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        self.file = file;
    }

    pub(crate) fn pages(&self) -> usize {
        self.file.len() / PAGE
    }

    pub(crate) fn fill_page(&mut self, page: usize, byte: u8) {
        self.file[page * PAGE..(page + 1) * PAGE].fill(byte);
    }
}

/// What came of a salvage.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    /// The records of the way that was taken, with the trust in each.
    pub(crate) records: BTreeMap<Vec<u8>, (Vec<u8>, Trust)>,
    /// What was written: every bucket.
    pub(crate) written: crate::common::Dump,
}

pub(crate) fn survey(files: &[&[u8]]) -> Result<Evidence, SalvageError> {
    gather_bytes(files.iter().map(|file| file.to_vec()).collect(), &SalvageOptions::default(), &())
}

/// Salvages `files` by the best way, loss accepted.
pub(crate) fn salvage(files: &[&[u8]]) -> Outcome {
    salvage_with(files, &SalvageOptions::default())
}

pub(crate) fn salvage_with(files: &[&[u8]], options: &SalvageOptions) -> Outcome {
    let evidence = gather_bytes(files.iter().map(|file| file.to_vec()).collect(), options, &()).unwrap();
    let plan = evidence.plan(&()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.db");
    let options = WriteOptions { output: Some(output.clone()), accept_loss: true, owner: None };
    let report = write(&plan, 1, &options, &()).unwrap();
    let mut outcome = shown(&plan, report);
    outcome.written = without_hash(&output);
    let shown: Pairs = outcome.records.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
    assert!(outcome.written["key"] == shown, "what was shown is not what was written");
    outcome
}

/// As [`salvage`], and nothing is written.
pub(crate) fn show(files: &[&[u8]]) -> Result<Outcome, SalvageError> {
    let evidence = survey(files)?;
    let plan = evidence.plan(&())?;
    Ok(shown(&plan, plan.report(1, &())?))
}

fn shown(plan: &Plan<'_>, report: Report) -> Outcome {
    let mut records = BTreeMap::new();
    plan.records(1, &(), &mut |record| {
        records.insert(record.revision.encode(), (record.value.to_vec(), record.trust));
        ControlFlow::Continue(())
    })
    .unwrap();
    let account = &report.account;
    assert_eq!(account.records, records.len() as u64);
    assert_eq!(account.confirmed + account.single + account.suspect, account.records);
    Outcome { report, records, written: crate::common::Dump::new() }
}

/// What the snapshot at `path` holds; its hash must be right.
fn without_hash(path: &Path) -> crate::common::Dump {
    let opened = crate::common::opened(path, bbolt::Io::Mmap);
    let verdict = snapshot::integrity::verify(opened.source(), &()).unwrap();
    assert!(verdict.expected.is_some() && verdict.expected == verdict.computed);
    crate::common::dump(path)
}

impl Outcome {
    /// That no record is wrong that is called confirmed or single, and that none was never written.
    pub(crate) fn is_right_about(&self, ever: &Pairs) {
        for (key, (value, trust)) in &self.records {
            let revision = Revision::parse(key).unwrap();
            match ever.get(key) {
                Some(right) if right == value => {}
                other => assert!(
                    *trust == Trust::Suspect,
                    "{revision:?} is {trust:?} and wrong: {:?} instead of {:?}",
                    &value[..value.len().min(40)],
                    other.map(|value| &value[..value.len().min(40)])
                ),
            }
        }
    }

    /// That it has exactly these records, all right.
    pub(crate) fn has_exactly(&self, records: &Pairs) {
        let missing: Vec<_> = records
            .keys()
            .filter(|key| !self.records.contains_key(*key))
            .map(|key| Revision::parse(key))
            .collect();
        let extra: Vec<_> = self
            .records
            .keys()
            .filter(|key| !records.contains_key(*key))
            .map(|key| Revision::parse(key))
            .collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, too many {extra:?}");
        for (key, (value, _)) in &self.records {
            assert!(records[key] == *value, "{:?}", Revision::parse(key));
        }
    }
}
