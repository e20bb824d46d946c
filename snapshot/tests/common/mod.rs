//! What the tests of this crate share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part, and fails where it cannot"
)]

pub(crate) mod space;

use std::collections::BTreeMap;
use std::path::Path;

use bbolt::{Io, Lock, OpenOptions};
use snapshot::opened::{InputOptions, Opened, open};

/// A db's buckets, each with its pairs.
pub(crate) type Dump = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Opens `path` as the jobs do.
pub(crate) fn opened(path: &Path, io: Io) -> Opened {
    let lock = Lock::Shared { timeout: None };
    open(path, &InputOptions { open: OpenOptions { io, lock }, tmp_dir: None }, &()).unwrap()
}

/// Everything the db at `path` holds.
pub(crate) fn dump(path: &Path) -> Dump {
    let db = bbolt::open(path, &OpenOptions::default()).unwrap();
    let mut dump = Dump::new();
    let mut names = db.root().cursor();
    while let Some(item) = names.next().unwrap() {
        let pairs = dump.entry(String::from_utf8(item.key.to_vec()).unwrap()).or_default();
        let bucket = names.bucket().unwrap().unwrap();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next().unwrap() {
            pairs.insert(item.key.to_vec(), item.value.to_vec());
        }
    }
    dump
}
