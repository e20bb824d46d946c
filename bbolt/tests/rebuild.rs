//! `rebuild` against files of every shape: the same content, in a compact file whose pages are in key order; and damaged
//! files, which end in an error.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod build_common;
mod common;
mod graft_common;

use bbolt::bucket::Root;
use bbolt::meta::NO_FREELIST;
use std::collections::BTreeMap;

use bbolt::rebuild::{Edits, Put, Revise, content, edit, edited_bytes, rebuilt_bytes};
use bbolt::{
    Bucket, Build, BuildOptions, Db, FaultKind, FreelistSync, RebuildError, RebuildOptions, Watch, check,
    rebuild,
};
use build_common::{Event, case, kept, options, read, write};
use common::{built, cluster_snapshot, snapshot_3_7};
use graft_common::assert_shape;
use proptest::prelude::*;

/// Leaves of every bucket, nested ones included, lie in the order of their keys.
fn assert_in_key_order(file: &[u8]) {
    let db = Db::from_source(file).unwrap();
    let mut open: Vec<Bucket<'_, &[u8]>> = vec![db.root()];
    while let Some(bucket) = open.pop() {
        let mut last = 0;
        for node in bucket.leaf_ranges(1).unwrap()[0].nodes() {
            let node = node.unwrap();
            if matches!(bucket.root(), Root::Page(_)) {
                assert!(node.id().0 > last, "page {} follows page {last}", node.id());
                last = node.id().0;
            }
        }
        let mut cursor = bucket.cursor();
        while cursor.next().unwrap().is_some() {
            open.extend(cursor.bucket().unwrap());
        }
    }
}

/// Rebuilds and holds the result against everything that must be true of it.
fn assert_rebuilt(file: &[u8], options: &RebuildOptions) -> Vec<u8> {
    let db = Db::from_source(file).unwrap();
    let mut out = Vec::new();
    let rebuilt = rebuild(&db, &mut out, options, &()).unwrap();
    assert_eq!(rebuilt.built.len_bytes, out.len() as u64);
    assert_eq!(rebuilt_bytes(&db, options, &()).unwrap(), out.len() as u64);
    let mut expected = read(file);
    if !options.keep_sequences {
        for event in &mut expected {
            if let Event::Begin { sequence, .. } = event {
                *sequence = 0;
            }
        }
    }
    assert!(read(&out) == expected, "the file does not hold what the source does");
    let new = Db::from_source(out.as_slice()).unwrap();
    assert_eq!(new.meta().sequence, if options.keep_sequences { db.meta().sequence } else { 0 });
    assert_eq!(new.page_size(), options.page_size.unwrap_or(db.page_size()));
    assert_eq!(new.meta().freelist == NO_FREELIST, options.freelist == FreelistSync::NotPersisted);
    let report = check(&new, &());
    assert!(report.findings.is_empty() && report.is_sound(), "{:?}", report.findings);
    let statistics = report.statistics;
    assert_eq!((rebuilt.content.buckets, rebuilt.content.pairs), (statistics.buckets, statistics.keys));
    assert_eq!(content(&new, &()).unwrap(), rebuilt.content);
    assert!(statistics.free_pages == 0 || out.len() <= 4096, "a rebuilt file has no free pages");
    assert_shape(&out);
    assert_in_key_order(&out);
    out
}

fn rebuild_options() -> impl Strategy<Value = RebuildOptions> {
    (options(), any::<bool>(), any::<bool>()).prop_map(|(options, keeps_page_size, keep_sequences)| {
        RebuildOptions {
            page_size: (!keeps_page_size).then_some(options.page_size),
            leaf_fill_percent: options.leaf_fill_percent,
            freelist: options.freelist,
            keep_sequences,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Random nested files with free pages between, into files of any page size and fill.
    #[test]
    fn random_files(case in case(true), options in rebuild_options()) {
        let mut file = Vec::new();
        write(&mut file, &case).unwrap();
        let out = assert_rebuilt(&file, &options);
        prop_assert!(read(&out).len() == kept(&case.events).len());
        // What was rebuilt already stays as long as it is.
        prop_assert_eq!(assert_rebuilt(&out, &options).len(), out.len());
    }

    /// Random damage ends in an error or in a sound file, and never takes longer than the file is.
    #[test]
    fn damaged_files(
        page in any::<prop::sample::Index>(),
        at in 0usize..96,
        bytes in prop::collection::vec(any::<u8>(), 1..9),
        which in 0usize..3,
    ) {
        let mut file = [cluster_snapshot(), snapshot_3_7(), built(1024, 300)][which].clone();
        let page_bytes = Db::from_source(file.as_slice()).unwrap().page_size() as usize;
        let at = page.index(file.len() / page_bytes) * page_bytes + at;
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        let Ok(db) = Db::from_source(file.as_slice()) else { return Ok(()) };
        let mut out = Vec::new();
        match rebuild(&db, &mut out, &RebuildOptions::default(), &()) {
            Ok(_) => prop_assert!(check(&Db::from_source(out.as_slice()).unwrap(), &()).is_sound()),
            Err(_) => prop_assert!(Db::from_source(out.as_slice()).is_err(), "a failed run left a database"),
        }
    }
}

#[test]
fn real_files() {
    for file in [cluster_snapshot(), snapshot_3_7()] {
        let out = assert_rebuilt(&file, &RebuildOptions::default());
        assert!(out.len() <= file.len());
        let full = RebuildOptions { leaf_fill_percent: 100, ..RebuildOptions::default() };
        assert!(assert_rebuilt(&file, &full).len() <= out.len());
    }
}

/// Buckets within buckets, far deeper than a stack of calls would last.
#[test]
fn nesting_of_any_depth() {
    let mut file = Vec::new();
    let mut build =
        Build::new(&mut file, BuildOptions { page_size: 1024, ..BuildOptions::default() }).unwrap();
    for depth in 0..20_000u64 {
        build.begin_bucket(b"b").unwrap();
        build.set_sequence(depth);
    }
    build.put(b"k", b"v").unwrap();
    for _ in 0..20_000 {
        build.end_bucket().unwrap();
    }
    build.finish().unwrap();
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut out = Vec::new();
    let rebuilt = rebuild(&db, &mut out, &RebuildOptions::default(), &()).unwrap();
    assert_eq!((rebuilt.content.buckets, rebuilt.content.pairs), (20_000, 1));
    assert_eq!(content(&Db::from_source(out.as_slice()).unwrap(), &()).unwrap(), rebuilt.content);
    assert!(out == file, "the same file, for it was compact");
}

/// A bucket whose root page is that of the root bucket would be nested in itself without an end.
#[test]
fn a_bucket_in_itself() {
    let mut file = Vec::new();
    let mut build = Build::new(&mut file, BuildOptions::default()).unwrap();
    build.begin_bucket(b"b").unwrap();
    build.put(b"k", &[7; 2000]).unwrap();
    build.end_bucket().unwrap();
    build.finish().unwrap();
    let (root, at) = {
        let db = Db::from_source(file.as_slice()).unwrap();
        let node = db.root().root_node().unwrap();
        (db.meta().root, usize::try_from(node.offset()).unwrap() + node.value_range(0).start)
    };
    file[at..at + 8].copy_from_slice(&root.0.to_le_bytes());
    let db = Db::from_source(file.as_slice()).unwrap();
    let error = rebuild(&db, Vec::new(), &RebuildOptions::default(), &()).unwrap_err();
    let RebuildError::Source(fault) = error else { panic!("{error}") };
    assert!(matches!(fault.kind, FaultKind::MultipleReferences { .. }), "{fault}");
}

/// Wants to stop from the start.
struct Impatient;

impl Watch for Impatient {
    fn advance(&self, _bytes: u64) {}

    fn interrupted(&self) -> bool {
        true
    }
}

#[test]
fn an_interrupted_run_leaves_no_database() {
    let file = cluster_snapshot();
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut out = Vec::new();
    let error = rebuild(&db, &mut out, &RebuildOptions::default(), &Impatient).unwrap_err();
    assert!(matches!(error, RebuildError::Interrupted));
    assert!(Db::from_source(out.as_slice()).is_err());
}

type Pair = (Vec<u8>, Vec<u8>);

/// Leaves out the pairs at some places, and appends some.
struct Sift {
    left_out: Vec<bool>,
    appended: Vec<Pair>,
}

impl Revise for Sift {
    fn keeps(&self, ordinal: u64) -> bool {
        !self.left_out[usize::try_from(ordinal).unwrap() % self.left_out.len()]
    }

    fn append(&self, put: &mut Put<'_>) -> Result<(), RebuildError> {
        self.appended.iter().try_for_each(|(key, value)| put(key, value))
    }
}

/// What a walk meets in each top-level bucket of `file`: its name, sequence and pairs.
fn top_level(file: &[u8]) -> Vec<(Vec<u8>, u64, Vec<Pair>)> {
    let mut buckets = Vec::new();
    for event in read(file) {
        match event {
            Event::Begin { name, sequence } => buckets.push((name, sequence, Vec::new())),
            Event::Put { key, value } => buckets.last_mut().unwrap().2.push((key, value)),
            Event::End | Event::Discard => {}
        }
    }
    buckets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Edited on the way: what the plainest edit of the pairs gives, in a sound file of the length that was foretold.
    #[test]
    fn random_edits(
        case in case(false),
        left_out in prop::collection::vec(any::<bool>(), 1..9),
        appended in 0u64..40,
        rows in 0u8..5,
        revised in any::<prop::sample::Index>(),
        replaced in any::<prop::sample::Index>(),
    ) {
        let mut file = Vec::new();
        write(&mut file, &case).unwrap();
        let before = top_level(&file);
        // Also names that are not there: before, between and behind those that are.
        let mut names: Vec<Vec<u8>> = before.iter().map(|(name, ..)| name.clone()).collect();
        names.extend([b"\0".to_vec(), b"\0\0\0\0\0\0\0\x01z".to_vec(), b"zz".to_vec()]);
        let (revised, replaced) = (revised.get(&names).clone(), replaced.get(&names).clone());
        let sift = Sift {
            left_out,
            appended: (0..appended).map(|n| (vec![0xff, u8::try_from(n).unwrap()], vec![7; 90])).collect(),
        };
        let rows: BTreeMap<Vec<u8>, Vec<u8>> = (0..rows).map(|n| (vec![n + 1], vec![n; 300])).collect();
        let mut edits = Edits::default();
        edits.revise(&revised, &sift);
        edits.replace(&replaced, rows.clone());

        let mut expected: BTreeMap<_, _> =
            before.into_iter().map(|(name, sequence, pairs)| (name, (sequence, pairs))).collect();
        if revised != replaced {
            let (_, pairs) = expected.entry(revised).or_default();
            let mut ordinal = 0;
            pairs.retain(|_| {
                ordinal += 1;
                sift.keeps(ordinal - 1)
            });
            pairs.extend(sift.appended.iter().cloned());
        }
        expected.entry(replaced).or_default().1 = rows.into_iter().collect();

        let db = Db::from_source(file.as_slice()).unwrap();
        let options = RebuildOptions::default();
        let mut out = Vec::new();
        let rebuilt = edit(&db, &mut out, &options, &edits, &()).unwrap();
        let found = top_level(&out).into_iter().map(|(name, sequence, pairs)| (name, (sequence, pairs)));
        prop_assert!(found.eq(expected));
        prop_assert_eq!(edited_bytes(&db, &options, &edits, &()).unwrap(), out.len() as u64);
        let new = Db::from_source(out.as_slice()).unwrap();
        let report = check(&new, &());
        prop_assert!(report.findings.is_empty() && report.is_sound(), "{:?}", report.findings);
        prop_assert_eq!(content(&new, &()).unwrap(), rebuilt.content);
        assert_shape(&out);
        assert_in_key_order(&out);
    }
}

/// A bucket among the pairs that are sifted has no place among them: nothing is guessed.
#[test]
fn a_bucket_that_holds_buckets_is_not_sifted() {
    let mut file = Vec::new();
    let mut build = Build::new(&mut file, BuildOptions::default()).unwrap();
    build.begin_bucket(b"key").unwrap();
    build.put(b"a", b"1").unwrap();
    build.begin_bucket(b"inner").unwrap();
    build.end_bucket().unwrap();
    build.end_bucket().unwrap();
    build.finish().unwrap();
    let db = Db::from_source(file.as_slice()).unwrap();
    let sift = Sift { left_out: vec![false], appended: Vec::new() };
    let mut edits = Edits::default();
    edits.revise(b"key", &sift);
    let mut out = Vec::new();
    let error = edit(&db, &mut out, &RebuildOptions::default(), &edits, &()).unwrap_err();
    assert!(matches!(error, RebuildError::Nested { .. }), "{error}");
    assert!(Db::from_source(out.as_slice()).is_err(), "a failed run left a database");
}
