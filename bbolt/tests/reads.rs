//! Opening, cursors and leaf ranges, on real files and on built ones of every page size.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test may panic as the test itself may"
)]

mod common;

use bbolt::bucket::Root;
use bbolt::{Bucket, Db, Io, Lock, MetaFault, OpenError, OpenOptions, PageId, Source, open};
use common::*;
use proptest::prelude::*;
use rstest::rstest;

type Pair = (Vec<u8>, Vec<u8>);

fn forward<S: Source>(bucket: &Bucket<'_, S>) -> Vec<Pair> {
    let mut cursor = bucket.cursor();
    let mut out = Vec::new();
    while let Some(item) = cursor.next().unwrap() {
        out.push((item.key.to_vec(), item.value.to_vec()));
    }
    out
}

fn backward<S: Source>(bucket: &Bucket<'_, S>) -> Vec<Pair> {
    let mut cursor = bucket.cursor();
    let mut out = Vec::new();
    while let Some(item) = cursor.prev().unwrap() {
        out.push((item.key.to_vec(), item.value.to_vec()));
    }
    out.reverse();
    out
}

fn by_ranges<S: Source>(bucket: &Bucket<'_, S>, parts: usize) -> Vec<Pair> {
    let mut out = Vec::new();
    let ranges = bucket.leaf_ranges(parts).unwrap();
    assert!(ranges.len() <= parts.max(1));
    for range in ranges {
        assert!(range.leaf_count() > 0);
        for node in range.nodes() {
            let node = node.unwrap();
            out.extend((0..node.count()).map(|i| (node.key(i).to_vec(), node.value(i).to_vec())));
        }
    }
    out
}

/// Every top-level bucket by name.
fn buckets<'d, S: Source>(db: &'d Db<S>) -> Vec<(Vec<u8>, Bucket<'d, S>)> {
    forward(&db.root())
        .into_iter()
        .map(|(name, _)| (name.clone(), db.bucket(&name).unwrap().unwrap()))
        .collect()
}

fn all_files() -> Vec<(String, Vec<u8>)> {
    let mut files = all_real();
    files.push(("1 KiB pages".into(), built(1024, 3000)));
    files.push(("64 KiB pages".into(), built(65536, 3000)));
    files
}

#[test]
fn every_way_of_reading_gives_the_same() {
    for (name, bytes) in all_files() {
        let db = Db::from_source(bytes.as_slice()).unwrap();
        for (bucket_name, bucket) in buckets(&db) {
            let all = forward(&bucket);
            assert!(all.is_sorted_by(|a, b| a.0 < b.0), "{name}");
            assert_eq!(all, backward(&bucket), "{name}: backward");
            for parts in [0, 1, 2, 3, 4, 7, 16, 1000] {
                assert_eq!(all, by_ranges(&bucket, parts), "{name} {bucket_name:?} in {parts}");
            }
            assert_eq!(all.is_empty(), bucket.cursor().first().unwrap().is_none());
        }
    }
}

#[test]
fn known_content() {
    let bytes = snapshot_3_7();
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let names: Vec<_> = buckets(&db).into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect();
    let expected = "alarm auth authRoles authUsers cluster key lease members members_removed meta";
    assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
    let cluster = db.bucket(b"cluster").unwrap().unwrap();
    assert!(matches!(cluster.root(), Root::Inline(_)));
    assert_eq!(cluster.get(b"clusterVersion").unwrap().unwrap(), b"3.7.0");
    assert_eq!(cluster.get(b"clusterVersio").unwrap(), None);
    assert!(db.bucket(b"nothing").unwrap().is_none());
    let key = db.bucket(b"key").unwrap().unwrap();
    assert!(matches!(key.root(), Root::Page(_)));
    // The 93 KB value of the fixture lies in overflow pages.
    assert!(forward(&key).iter().any(|(_, value)| value.len() > 90_000));
}

#[test]
fn nested_buckets() {
    let bytes = built(1024, 100);
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let inner = db.bucket(b"nested").unwrap().unwrap().bucket(b"inner").unwrap().unwrap();
    let expected: Vec<Pair> = pairs(50).into_iter().map(|(_, key, value)| (key, value)).collect();
    assert_eq!(forward(&inner), expected);
    // A bucket is no value, a value is no bucket.
    let outer = db.bucket(b"nested").unwrap().unwrap();
    assert_eq!(outer.get(b"inner").unwrap(), None);
    assert!(outer.bucket(b"a").unwrap().is_none());
}

/// `key` itself, a key just below, and one just above it.
#[test]
fn seek_finds_the_first_key_not_smaller() {
    for (name, bytes) in all_files() {
        let db = Db::from_source(bytes.as_slice()).unwrap();
        for (_, bucket) in buckets(&db) {
            let keys: Vec<Vec<u8>> = forward(&bucket).into_iter().map(|(key, _)| key).collect();
            let mut cursor = bucket.cursor();
            assert_eq!(cursor.seek(b"").unwrap().map(|i| i.key.to_vec()), keys.first().cloned(), "{name}");
            assert_eq!(cursor.seek(&[0xFF; 40]).unwrap(), None, "{name}");
            for (index, key) in keys.iter().enumerate() {
                assert_eq!(cursor.seek(key).unwrap().unwrap().key, key, "{name}");
                let before = index.checked_sub(1).map(|i| keys[i].clone());
                assert_eq!(cursor.prev().unwrap().map(|i| i.key.to_vec()), before, "{name}");
                let above = [key.as_slice(), &[0]].concat();
                let next = keys.get(index + 1);
                assert_eq!(cursor.seek(&above).unwrap().map(|i| i.key.to_vec()).as_ref(), next, "{name}");
                let mut below = key.clone();
                below.pop();
                let expected = keys.iter().find(|k| **k >= below);
                assert_eq!(cursor.seek(&below).unwrap().map(|i| i.key.to_vec()).as_ref(), expected, "{name}");
            }
        }
    }
}

#[test]
fn ends_of_a_bucket() {
    let bytes = built(1024, 100);
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let mut cursor = db.bucket(b"key").unwrap().unwrap().cursor();
    assert_eq!(cursor.item(), None);
    assert_eq!(cursor.last().unwrap().unwrap().key, b"key00000099");
    assert_eq!(cursor.next().unwrap(), None);
    assert_eq!(cursor.first().unwrap().unwrap().key, b"key00000000");
    assert_eq!(cursor.item().unwrap().key, b"key00000000");
    assert_eq!(cursor.prev().unwrap(), None);
    for name in [&b"empty"[..], b"alarm"] {
        let mut cursor = db.bucket(name).unwrap().unwrap().cursor();
        assert_eq!(cursor.first().unwrap(), None);
        assert_eq!(cursor.last().unwrap(), None);
        assert_eq!(cursor.seek(b"x").unwrap(), None);
        assert_eq!(cursor.next().unwrap(), None);
    }
}

/// Meta 0 gone: meta 1 is searched at every page size.
#[rstest]
fn any_page_size_opens_by_either_meta(
    #[values(1024, 2048, 4096, 8192, 16384, 32768, 65536)] page_size: usize,
    #[values(0, 1)] lost: usize,
) {
    let sound = built(page_size, 500);
    let mut bytes = sound.clone();
    bytes[lost * page_size..lost * page_size + 80].fill(0);
    let db = Db::from_source(bytes.as_slice()).unwrap();
    assert_eq!(db.page_size() as usize, page_size);
    assert_eq!(db.active_slot(), 1 - lost);
    assert!(matches!(db.metas()[lost], Err(MetaFault::Magic { found: 0 })));
    let whole = Db::from_source(sound.as_slice()).unwrap();
    assert_eq!(
        forward(&db.bucket(b"key").unwrap().unwrap()),
        forward(&whole.bucket(b"key").unwrap().unwrap())
    );
}

#[test]
fn the_higher_valid_transaction_wins() {
    let mut victim = Victim::new(cluster_snapshot());
    let meta = victim.meta();
    for (txids, expected) in [((4, 5), 1), ((6, 5), 0), ((5, 5), 0)] {
        for (slot, txid) in [(0, txids.0), (1, txids.1)] {
            let meta = bbolt::Meta { txid, ..meta };
            victim.page(slot)[16..80].copy_from_slice(&meta.encode());
        }
        assert_eq!(Db::from_source(victim.bytes.as_slice()).unwrap().active_slot(), expected, "{txids:?}");
    }
}

#[test]
fn a_torn_newer_meta_falls_back_to_the_older() {
    let mut victim = Victim::new(cluster_snapshot());
    let newer = Db::from_source(victim.bytes.as_slice()).unwrap().active_slot();
    victim.page(newer as u64)[70] ^= 0x10;
    let db = Db::from_source(victim.bytes.as_slice()).unwrap();
    assert_eq!(db.active_slot(), 1 - newer);
    assert!(matches!(db.metas()[newer], Err(MetaFault::Checksum { .. })));
}

#[test]
fn files_that_do_not_open() {
    let sound = cluster_snapshot();
    for len in [0, 1, 16, 79] {
        let error = Db::from_source(&sound[..len]).unwrap_err();
        assert!(matches!(error, OpenError::TooSmall { .. }), "{len}: {error}");
    }
    let mut bad = sound.clone();
    bad[70] ^= 1;
    bad[4096 + 70] ^= 1;
    let error = Db::from_source(bad.as_slice()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::NoMeta { meta0: MetaFault::Checksum { .. }, meta1: MetaFault::Checksum { .. } }
        ),
        "{error}"
    );
    let mut zero = sound.clone();
    zero[..8192].fill(0);
    assert!(matches!(Db::from_source(zero.as_slice()), Err(OpenError::NoMeta { .. })));
    let mut version = sound;
    for at in [20, 4096 + 20] {
        version[at] = 3;
    }
    let error = Db::from_source(version.as_slice()).unwrap_err();
    assert!(error.to_string().contains("version is 3, expected 2"), "{error}");
    assert!(Db::from_source(&b"#!/bin/sh\n".repeat(1000)[..]).is_err());
}

/// What a big-endian machine writes: the same words, their bytes reversed.
#[test]
fn big_endian_files_are_refused_by_name() {
    for only in [None, Some(0), Some(1)] {
        let mut bytes = built(4096, 10);
        for slot in (0..2).filter(|slot| only.is_none_or(|o| o == *slot)) {
            let at = slot * 4096 + 16;
            for word in [0..4, 4..8, 8..12, 12..16, 16..24, 24..32, 32..40, 40..48, 48..56] {
                bytes[at + word.start..at + word.end].reverse();
            }
        }
        if only == Some(0) {
            bytes[4096..8192].fill(0);
        }
        if only == Some(1) {
            bytes[..4096].fill(0);
        }
        let error = Db::from_source(bytes.as_slice()).unwrap_err();
        assert!(matches!(error, OpenError::BigEndian), "{error}");
        assert!(error.to_string().contains("big-endian"));
    }
}

#[test]
fn files_read_like_slices() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in all_files() {
        let path = dir.path().join("db");
        std::fs::write(&path, &bytes).unwrap();
        let slice = Db::from_source(bytes.as_slice()).unwrap();
        for io in [Io::Mmap, Io::Pread] {
            let options = OpenOptions { io, lock: Lock::Shared { timeout: None } };
            let db = open(&path, &options).unwrap();
            assert_eq!(db.meta(), slice.meta());
            for ((_, a), (_, b)) in buckets(&db).iter().zip(buckets(&slice)) {
                assert_eq!(forward(a), forward(&b), "{name} {io:?}");
                assert_eq!(backward(a), backward(&b), "{name} {io:?}");
                assert_eq!(by_ranges(a, 3), by_ranges(&b, 3), "{name} {io:?}");
            }
            assert_eq!(bbolt::check(&db, &()), bbolt::check(&slice, &()), "{name} {io:?}");
        }
    }
}

/// A cursor that met damage says so each time, and can be placed elsewhere.
#[test]
fn a_cursor_outlives_a_fault() {
    let mut victim = Victim::new(cluster_snapshot());
    victim.zero(victim.leaves[2]);
    let db = Db::from_source(victim.bytes.as_slice()).unwrap();
    let bucket = db.bucket(b"key").unwrap().unwrap();
    let mut cursor = bucket.cursor();
    let mut before = 0;
    let fault = loop {
        match cursor.next() {
            Ok(item) => assert!(item.is_some()),
            Err(fault) => break fault,
        }
        before += 1;
    };
    assert_eq!((fault.code(), fault.page), ("BBOLT-WRONG-ID", PageId(victim.leaves[2])));
    assert!(before > 0);
    assert_eq!(cursor.item(), None);
    assert!(cursor.last().unwrap().is_some());
    // Ranges go on where the damage ends.
    let results: Vec<_> = bucket
        .leaf_ranges(1)
        .unwrap_or_default()
        .iter()
        .flat_map(|r| r.nodes().map(|n| n.is_ok()).collect::<Vec<_>>())
        .collect();
    assert!(results.is_empty(), "a zeroed page is no leaf, so the split itself reports it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any sorted pairs, any shape of tree, any page size: what was put in comes out, in every way of reading.
    #[test]
    fn built_trees_read_back(
        keys in proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..12), proptest::collection::vec(any::<u8>(), 0..40), 0..300),
        per_leaf in 1usize..12,
        per_branch in 3usize..9,
        page_size in prop::sample::select(vec![1024usize, 4096, 65536]),
        wanted in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let elements: Vec<Element> = keys.iter().map(|(k, v)| (0, k.clone(), v.clone())).collect();
        let mut file = Builder::new(page_size);
        let root = if elements.is_empty() { file.leaf(&[]) } else { file.tree(&elements, per_leaf, per_branch) };
        let bytes = file.finish(&[bucket("b", root)]);
        let db = Db::from_source(bytes.as_slice()).unwrap();
        prop_assert_eq!(bbolt::check(&db, &()).findings, []);
        let bucket = db.bucket(b"b").unwrap().unwrap();
        let expected: Vec<Pair> = keys.clone().into_iter().collect();
        prop_assert_eq!(&forward(&bucket), &expected);
        prop_assert_eq!(&backward(&bucket), &expected);
        prop_assert_eq!(&by_ranges(&bucket, 3), &expected);
        let found = bucket.cursor().seek(&wanted).unwrap().map(|i| i.key.to_vec());
        prop_assert_eq!(found.as_ref(), keys.range(wanted.clone()..).next().map(|(k, _)| k));
        prop_assert_eq!(bucket.get(&wanted).unwrap(), keys.get(&wanted).cloned());
    }
}

/// Real databases whose metas were damaged: bbolt opens the one by its other meta, and not the other.
#[test]
fn real_damaged_metas() {
    let unpack = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), dir.path());
        let mut found = vec![dir.path().to_owned()];
        loop {
            let path = found.pop().expect("the archive holds a db");
            if path.is_dir() {
                found.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.ends_with("snap/db") {
                return std::fs::read(path).unwrap();
            }
        }
    };
    let one = unpack("db-meta0-corrupt");
    let db = Db::from_source(one.as_slice()).unwrap();
    assert!(db.metas()[0].is_err());
    assert_eq!(db.active_slot(), 1);
    let report = bbolt::check(&db, &());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(report.findings.len(), 1);
    assert!(!forward(&db.bucket(b"key").unwrap().unwrap()).is_empty());
    let both = unpack("db-both-meta-corrupt");
    assert!(matches!(Db::from_source(both.as_slice()), Err(OpenError::NoMeta { .. })));
}
