//! What a database holds, record by record: the plainest reading.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bbolt::Db;
use snapshot::mvcc::{KeyValue, Release, hashkv};
use testdata::oracle::Acknowledged;

/// Keys with their values, or none where they were deleted, in the order of their sub-revisions.
pub(crate) type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Every record of the key space.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    pub(crate) by_revision: BTreeMap<i64, Changes>,
    /// Up to where the log was applied, by the database's own word.
    pub(crate) consistent_index: u64,
}

impl Records {
    pub(crate) fn of(db: &Path) -> Self {
        let bytes = fs::read(db).unwrap_or_else(|e| panic!("{}: {e}", db.display()));
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let mut records = Self::default();
        let bucket = db.bucket(b"key").unwrap().unwrap();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next().unwrap() {
            let revision = i64::from_be_bytes(item.key[..8].try_into().unwrap());
            let kv = KeyValue::decode(item.value).unwrap();
            let is_tombstone = item.key.len() > 17;
            let record = (kv.key.to_vec(), (!is_tombstone).then(|| kv.value.to_vec()));
            records.by_revision.entry(revision).or_default().push(record);
        }
        let meta = db.bucket(b"meta").unwrap().unwrap();
        let mut cursor = meta.cursor();
        while let Some(item) = cursor.next().unwrap() {
            if item.key == b"consistent_index" {
                records.consistent_index = u64::from_be_bytes(item.value.try_into().unwrap());
            }
        }
        records
    }

    /// Whether it holds what the write wrote, at the revision at which that was acknowledged.
    pub(crate) fn hold(&self, write: &Acknowledged) -> bool {
        self.by_revision.get(&write.revision) == Some(&write.effect)
    }

    /// The first revision at which one of these has another record than the first, or none.
    pub(crate) fn parting(all: &[Self]) -> Option<i64> {
        let revisions = all.iter().flat_map(|records| records.by_revision.keys());
        let differs = |at: &&i64| all.iter().any(|one| one.by_revision.get(at) != all[0].by_revision.get(at));
        revisions.filter(differs).min().copied()
    }

    /// The newest revision with a record.
    pub(crate) fn revision(&self) -> i64 {
        self.by_revision.last_key_value().map_or(1, |(revision, _)| *revision)
    }
}

/// The hash of a file's key space up to a revision, as a server of this release takes it.
pub(crate) fn hash_at(db: &Path, revision: i64, release: &str) -> u64 {
    let bytes = fs::read(db).unwrap_or_else(|e| panic!("{}: {e}", db.display()));
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let release: Release = release.parse().unwrap();
    u64::from(hashkv(&db, revision, release, &()).unwrap().hash)
}
