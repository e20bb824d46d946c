//! Shapes small enough for tests, and a reader of what was generated that knows nothing of the generator.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part, and fails where it cannot"
)]

use std::collections::BTreeMap;

use bbolt::Db;
use generate::{Facts, Preset, Shape, Sweep};
use snapshot::mvcc::{KeyValue, Revision};

/// The presets at about a thousandth of their size, with transactions of a few operations.
pub(crate) fn small(preset: Preset) -> Shape {
    let shape = Shape::preset(preset, 11).scaled(1_200).unwrap();
    Shape {
        revisions: shape.revisions.max(90),
        value_max_bytes: 5_000,
        value_mean_bytes: 1_200,
        leases: 3,
        ..shape
    }
}

/// All three.
pub(crate) const PRESETS: [Preset; 3] = [Preset::Big, Preset::Frag, Preset::Flat];

/// A store of a few dozen records.
pub(crate) fn tiny() -> Shape {
    Shape {
        revisions: 20,
        records: 60,
        deletes: 10,
        live_keys: 25,
        sweep: Some(Sweep { revisions: 2, live_keys: 15 }),
        value_min_bytes: 3,
        value_max_bytes: 900,
        value_mean_bytes: 200,
        ..Shape::preset(Preset::Big, 3)
    }
}

/// The db of `shape` in memory.
pub(crate) fn image(shape: &Shape) -> (Vec<u8>, Facts) {
    let mut image = Vec::new();
    let facts = generate::db(shape, &mut image, &()).unwrap();
    (image, facts)
}

/// A record of bucket `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) revision: Revision,
    pub(crate) key: Vec<u8>,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) value: Vec<u8>,
    pub(crate) lease: i64,
}

/// A bucket's pairs.
pub(crate) fn pairs(image: &[u8], bucket: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let db = Db::from_source(image).unwrap();
    let bucket = db.bucket(bucket).unwrap().unwrap();
    let mut cursor = bucket.cursor();
    let mut pairs = Vec::new();
    while let Some(item) = cursor.next().unwrap() {
        assert!(!item.is_bucket);
        pairs.push((item.key.to_vec(), item.value.to_vec()));
    }
    pairs
}

/// Bucket `key`.
pub(crate) fn records(image: &[u8]) -> Vec<Record> {
    let record = |(key, value): (Vec<u8>, Vec<u8>)| {
        let kv = KeyValue::decode(&value).unwrap();
        Record {
            revision: Revision::parse(&key).unwrap(),
            key: kv.key.to_vec(),
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            value: kv.value.to_vec(),
            lease: kv.lease,
        }
    };
    pairs(image, b"key").into_iter().map(record).collect()
}

/// The live keys, each with its newest record, as a server would come to them by putting and deleting in order. Holds
/// every record of a store without compaction to the rules of FORMATS G.7.
pub(crate) fn replay(records: &[Record]) -> BTreeMap<Vec<u8>, Record> {
    let mut live: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
    let mut last = (1, 0);
    let mut touched = Vec::new();
    for record in records {
        let Revision { main, sub, tombstone } = record.revision;
        assert!(
            (main, sub) == (last.0, last.1 + 1) || (main, sub) == (last.0 + 1, 0),
            "{main}.{sub} follows {last:?}"
        );
        if main != last.0 {
            touched.clear();
        }
        last = (main, sub);
        assert!(!touched.contains(&record.key), "revision {main} writes a key twice");
        touched.push(record.key.clone());
        let before = live.remove(&record.key);
        if tombstone {
            assert!(before.is_some(), "{main}.{sub} deletes what is not there");
            assert_eq!((record.created, record.modified, record.version, record.lease), (0, 0, 0, 0));
            continue;
        }
        let (created, version) = before.map_or((main, 1), |before| (before.created, before.version + 1));
        assert_eq!((record.created, record.modified, record.version), (created, main, version));
        live.insert(record.key.clone(), record.clone());
    }
    live
}
