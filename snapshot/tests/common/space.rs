//! A key space that tests write to, and files made of it.

use std::collections::BTreeMap;

use bbolt::{Build, BuildOptions, Db};
use snapshot::mvcc::{KeyValue, Release, Revision, compaction};

/// A key space in memory, as files are made of it.
#[derive(Clone, Default)]
pub(crate) struct Space {
    pub(crate) records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) versions: BTreeMap<String, (i64, i64)>,
    pub(crate) revision: i64,
    pub(crate) scheduled: Option<i64>,
    pub(crate) finished: Option<i64>,
}

impl Space {
    pub(crate) fn put(&mut self, key: &str, value: &str) {
        let main = self.next();
        let (create_revision, version) = self.versions.get(key).copied().unwrap_or((main, 0));
        let version = version + 1;
        self.versions.insert(key.to_owned(), (create_revision, version));
        let (key, value) = (key.as_bytes(), value.as_bytes());
        self.add(false, &KeyValue { key, create_revision, mod_revision: main, version, value, lease: 0 });
    }

    pub(crate) fn delete(&mut self, key: &str) {
        self.next();
        self.versions.remove(key);
        self.add(true, &KeyValue { key: key.as_bytes(), ..KeyValue::default() });
    }

    pub(crate) fn next(&mut self) -> i64 {
        self.revision = self.revision.max(1) + 1;
        self.revision
    }

    pub(crate) fn add(&mut self, tombstone: bool, kv: &KeyValue<'_>) {
        let mut record = Vec::new();
        kv.encode(&mut record);
        self.records.insert(Revision { main: self.revision, sub: 0, tombstone }.encode(), record);
    }

    /// A db file of it.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let mut build = Build::new(&mut file, BuildOptions::default()).unwrap();
        build.begin_bucket(b"key").unwrap();
        for (key, value) in &self.records {
            build.put(key, value).unwrap();
        }
        build.end_bucket().unwrap();
        build.begin_bucket(b"meta").unwrap();
        let meta = [("finishedCompactRev", self.finished), ("scheduledCompactRev", self.scheduled)];
        for (row, main) in meta.into_iter().filter_map(|(row, main)| Some((row, main?))) {
            build.put(row.as_bytes(), &Revision { main, sub: 0, tombstone: false }.encode()).unwrap();
        }
        build.end_bucket().unwrap();
        build.finish().unwrap();
        file
    }

    /// Removes what a compaction removes.
    pub(crate) fn compact(&mut self, revision: i64, release: Release) {
        let file = self.file();
        let kept = compaction(&db(&file), revision, release, &()).unwrap().kept;
        assert_eq!(kept.pairs(), self.records.len() as u64);
        let mut ordinal = 0..;
        self.records.retain(|_, _| kept.contains(ordinal.next().unwrap()));
        (self.scheduled, self.finished) = (Some(revision), Some(revision));
    }
}

/// The database in it.
pub(crate) fn db(file: &[u8]) -> Db<&[u8]> {
    Db::from_source(file).unwrap()
}
