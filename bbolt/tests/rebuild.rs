//! `rebuild` against files of every shape: the same content, in a compact file whose pages are in key order; and damaged
//! files, which end in an error.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod build_common;
mod common;
mod graft_common;

use bbolt::bucket::Root;
use bbolt::meta::NO_FREELIST;
use bbolt::rebuild::{content, rebuilt_bytes};
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
