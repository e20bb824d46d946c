//! Random damage to a real file: whatever the bytes, everything ends, nothing panics, and the cursor trusts no page
//! that the check condemns without saying so.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test itself may")]

mod common;

use std::sync::LazyLock;

use bbolt::{Bucket, Db, Source, check};
use common::*;
use proptest::prelude::*;

static SOUND: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let freelist: Vec<u64> = (90..120).collect();
    let listed = Victim::new(cluster_snapshot()).with_freelist(&freelist).bytes;
    vec![cluster_snapshot(), snapshot_3_7(), built(1024, 300), built(1024, 10_000), listed]
});

/// Where a mutation strikes: anywhere, or in the first bytes of a page, where the damage is.
#[derive(Debug, Clone)]
struct Mutation {
    page: prop::sample::Index,
    at: usize,
    bytes: Vec<u8>,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = prop_oneof![4 => 0usize..96, 1 => 0usize..4096];
    let bytes = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 1..9),
        2 => prop::sample::select(vec![vec![0u8; 8], vec![0xFF; 8], vec![0xFF; 2], vec![1], vec![2], vec![0; 600]]),
        // Small page numbers and positions, which are believed.
        3 => (0u64..200).prop_map(|n| n.to_le_bytes().to_vec()),
    ];
    (any::<prop::sample::Index>(), at, bytes).prop_map(|(page, at, bytes)| Mutation { page, at, bytes })
}

/// Walks a bucket both ways and by ranges; `budget` keys are more than any file of that size has.
fn walk<S: Source>(bucket: &Bucket<'_, S>, budget: usize) -> (bool, usize) {
    let (mut sound, mut keys) = (true, 0);
    let mut cursor = bucket.cursor();
    let mut previous: Option<Vec<u8>> = None;
    loop {
        match cursor.next() {
            Ok(Some(item)) => {
                assert!(previous.as_deref().is_none_or(|p| p < item.key), "keys ascend or the move fails");
                previous = Some(item.key.to_vec());
                keys += 1;
            }
            Ok(None) => break,
            Err(_) => {
                sound = false;
                break;
            }
        }
        assert!(keys <= budget, "the walk does not end");
    }
    let mut cursor = bucket.cursor();
    let mut back = 0;
    while let Ok(Some(_)) = cursor.prev() {
        back += 1;
        assert!(back <= budget, "the walk back does not end");
    }
    if let Some(key) = previous {
        let _ = cursor.seek(&key).map(|item| item.is_some());
    }
    for range in bucket.leaf_ranges(3).unwrap_or_default() {
        for node in range.nodes().flatten() {
            for index in 0..node.count() {
                let _ = (node.key(index), node.value(index), node.is_bucket(index), node.child(index));
            }
            let _ = (node.contiguous_pairs().map(<[u8]>::len), node.used_bytes(), node.lower_bound(b"m"));
        }
    }
    (sound, keys)
}

fn open_check_walk(bytes: &[u8]) {
    let Ok(db) = Db::from_source(bytes) else { return };
    let report = check(&db, &());
    let _ = db.freelist();
    let mut names = db.root().cursor();
    let mut sound = true;
    let mut keys = 0;
    loop {
        match names.next() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => {
                sound = false;
                break;
            }
        }
        match names.bucket() {
            Ok(Some(bucket)) => {
                let (walked, count) = walk(&bucket, bytes.len());
                sound &= walked;
                keys += count as u64;
            }
            Ok(None) => {}
            Err(_) => sound = false,
        }
    }
    if report.is_sound() {
        assert!(sound, "the check passed what a cursor cannot read");
        assert!(keys <= report.statistics.keys + report.statistics.buckets);
    }
    for finding in report.findings.iter().take(50) {
        assert!(!finding.fault.to_string().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_mutation_panics_or_loops(
        which in any::<prop::sample::Index>(),
        mutations in proptest::collection::vec(mutation(), 1..8),
        sealed in any::<bool>(),
        cut in proptest::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = which.get(&SOUND).clone();
        let page_size = Db::from_source(bytes.as_slice()).unwrap().page_size() as usize;
        for mutation in &mutations {
            let at = mutation.page.index(bytes.len() / page_size) * page_size + mutation.at % page_size;
            for (byte, new) in bytes[at..].iter_mut().zip(&mutation.bytes) {
                *byte = *new;
            }
        }
        if sealed {
            reseal(&mut bytes, page_size);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        open_check_walk(&bytes);
    }

    /// Only pages of the trees, so that most mutations bite.
    #[test]
    fn mutated_branches_and_roots(
        mutations in proptest::collection::vec(mutation(), 1..4),
        root_too in any::<bool>(),
    ) {
        let mut victim = Victim::new(SOUND[0].clone());
        let pages = if root_too { vec![victim.root, victim.branch] } else { vec![victim.branch] };
        for mutation in &mutations {
            let page = *mutation.page.get(&pages);
            let at = victim.at(page) + mutation.at;
            for (byte, new) in victim.bytes[at..].iter_mut().zip(&mutation.bytes) {
                *byte = *new;
            }
        }
        open_check_walk(&victim.bytes);
    }
}
