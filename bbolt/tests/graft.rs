//! `graft` against a model: whatever is edited, the file holds exactly that, in a shape no server dies of.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod graft_common;

use std::fs;
use std::io::Write;

use bbolt::bucket::Root;
use bbolt::graft::{GraftError, Pairs};
use bbolt::{Db, FaultKind, Graft};
use graft_common::{
    Keep, Model, Op, Spec, Start, assert_shape, branch_page, bucket_value, file_of, history, leaf_page,
    make_pairs, read_all, step,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Random edits, one graft after another, on tiny files of every page size and on real snapshots.
    #[test]
    fn histories(history in history()) {
        let mut file = history.start.bytes();
        let mut model = read_all(&file);
        for ops in &history.grafts {
            file = step(&file, &mut model, ops);
        }
    }
}

const KEY: usize = 1;

/// With 1 KiB pages, keys of 17 bytes and values of 400, a leaf takes two pairs and a branch 30 children.
const PAGE: u32 = 1024;
const VALUE: usize = 400;
const FAN_OUT: usize = 30;

fn tiny() -> Vec<u8> {
    Start::Tiny { page_size: PAGE, txids: [Some(0), Some(1)] }.bytes()
}

fn fixed_pairs(count: usize) -> Pairs {
    let spec = Spec { count, key_bytes: 17, value_bytes: 0, seed: 7 };
    make_pairs(&spec, b"key", None).into_iter().map(|(key, _)| (key, vec![b'v'; VALUE])).collect()
}

fn file_with(pairs: &Pairs) -> Vec<u8> {
    let mut file = tiny();
    let patch = {
        let db = Db::from_source(file.as_slice()).unwrap();
        let mut graft = Graft::new(&db);
        graft.replace_bucket(b"key", pairs.clone()).unwrap();
        graft.finish().unwrap()
    };
    patch.apply_to_vec(&mut file);
    file
}

/// Numbers of leaves around nothing, one leaf, and multiples of the fan-out on one and two levels.
fn leaf_counts() -> Vec<usize> {
    let mut counts = vec![0, 1, 2, 3];
    for middle in [FAN_OUT, 2 * FAN_OUT, FAN_OUT * FAN_OUT, FAN_OUT * FAN_OUT + FAN_OUT] {
        counts.extend([middle - 1, middle, middle + 1, middle + 2]);
    }
    counts
}

fn leaf_pages(file: &[u8]) -> usize {
    let db = Db::from_source(file).unwrap();
    let bucket = db.bucket(b"key").unwrap().unwrap();
    bucket.leaf_ranges(1).unwrap().iter().map(bbolt::LeafRange::leaf_count).sum()
}

/// The constants above are what the writer makes of such pairs; else the tests below would aim at nothing.
#[test]
fn fan_out_is_as_these_tests_assume() {
    for (leaves, depth) in
        [(FAN_OUT, 2), (FAN_OUT + 1, 3), (FAN_OUT * FAN_OUT, 3), (FAN_OUT * FAN_OUT + 1, 4)]
    {
        let file = file_with(&fixed_pairs(2 * leaves));
        assert_eq!(leaf_pages(&file), leaves);
        let db = Db::from_source(file.as_slice()).unwrap();
        assert_eq!(bbolt::check(&db, &()).statistics.depth, depth, "{leaves} leaves");
    }
}

/// A killer shape hides where a level is left with one page more than its parents hold: every such size is built,
/// appended to and cut to every other.
#[test]
fn shapes_around_the_fan_out() {
    let counts = leaf_counts();
    for leaves in &counts {
        let pairs = fixed_pairs(2 * leaves);
        let file = file_with(&pairs);
        assert_shape(&file);
        let model = Model::from([(b"key".to_vec(), pairs.clone())]);
        assert!(read_all(&file) == model);
        for count in [1, 2, 3, 4] {
            let op = Op::Append {
                name: KEY,
                pairs: Spec { count, key_bytes: 17, value_bytes: VALUE, seed: count as u64 },
            };
            step(&file, &mut model.clone(), &[op]);
        }
        for kept in counts.iter().filter(|kept| *kept <= leaves) {
            // On a leaf's border, and one key to each side of it.
            for keys in [(2 * kept).saturating_sub(1), 2 * kept, 2 * kept + 1] {
                step(&file, &mut model.clone(), &[Op::Cut { name: KEY, keep: Keep::First(keys) }]);
            }
        }
    }
}

/// Pairs trickle in one graft at a time, as a replay does it: branches split at the edge, never copying a leaf.
#[test]
fn many_small_appends() {
    let pairs = fixed_pairs(2 * FAN_OUT - 1);
    let mut model = Model::from([(b"key".to_vec(), pairs.clone())]);
    let mut file = file_with(&pairs);
    for round in 0..80 {
        let before = leaf_pages(&file);
        let op = Op::Append {
            name: KEY,
            pairs: Spec { count: 1, key_bytes: 17, value_bytes: VALUE, seed: round },
        };
        file = step(&file, &mut model, &[op]);
        assert_eq!(leaf_pages(&file), before + 1);
    }
}

/// An append to a big bucket writes the new leaf, one branch a level, and the root bucket; nothing else.
#[test]
fn an_append_writes_a_handful_of_pages() {
    let file = file_with(&fixed_pairs(2 * FAN_OUT * FAN_OUT + 2));
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    let last = graft.pairs(b"key").unwrap().unwrap().last_key_value().unwrap().0.clone();
    let spec = Spec { count: 1, key_bytes: 17, value_bytes: 9, seed: 1 };
    graft.append(b"key", make_pairs(&spec, b"key", Some(&last))).unwrap();
    let patch = graft.finish().unwrap();
    assert_eq!(patch.high_water_mark() - db.highest_water_mark(), 5);
}

/// Buckets in buckets, below names that no edit mentions, stay as they are, page and inline alike.
#[test]
fn untouched_buckets_keep_their_pages() {
    let inline = [bucket_value(0), leaf_page(0, 0, &[(0, b"deep", b"value")])].concat();
    let file = file_of(
        4096,
        [Some(0), Some(1)],
        &[
            leaf_page(
                2,
                4096,
                &[(1, b"inline", &inline), (1, b"nested", &bucket_value(3)), (0, b"plain", b"x")],
            ),
            leaf_page(3, 4096, &[(1, b"inner", &inline), (0, b"k", b"v"), (1, b"pages", &bucket_value(4))]),
            leaf_page(4, 4096, &[(0, b"leaf", &[7; 2000])]),
        ],
    );
    assert_shape(&file);
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    graft.replace_bucket(b"new", Pairs::from([(b"a".to_vec(), b"b".to_vec())])).unwrap();
    for error in
        [graft.replace_bucket(b"nested", Pairs::new()).unwrap_err(), graft.pairs(b"nested").unwrap_err()]
    {
        assert!(matches!(error, GraftError::NestedBucket { .. }), "{error}");
    }
    let plain = graft.replace_bucket(b"plain", Pairs::new()).unwrap_err();
    assert!(matches!(plain, GraftError::NotABucket { .. }));
    let mut edited = file.clone();
    graft.finish().unwrap().apply_to_vec(&mut edited);
    assert_shape(&edited);

    let after = Db::from_source(edited.as_slice()).unwrap();
    assert_eq!(after.root().get(b"plain").unwrap(), Some(b"x".to_vec()));
    assert_eq!(after.bucket(b"inline").unwrap().unwrap().get(b"deep").unwrap(), Some(b"value".to_vec()));
    let nested = after.bucket(b"nested").unwrap().unwrap();
    assert_eq!(nested.get(b"k").unwrap(), Some(b"v".to_vec()));
    let inner = nested.bucket(b"inner").unwrap().unwrap();
    assert_eq!(inner.get(b"deep").unwrap(), Some(b"value".to_vec()));
    let pages = nested.bucket(b"pages").unwrap().unwrap();
    assert_eq!(pages.get(b"leaf").unwrap(), Some(vec![7; 2000]));
    assert_eq!(after.bucket(b"new").unwrap().unwrap().get(b"a").unwrap(), Some(b"b".to_vec()));
    // "plain" is a value beside the buckets, as before.
    let codes: Vec<_> = bbolt::check(&after, &()).findings.iter().map(|found| found.fault.code()).collect();
    assert_eq!(codes, ["BBOLT-TOP-LEVEL-VALUE"]);

    // Cut and appended to, a leaf keeps the buckets it holds, and is not put inline with them.
    let mut graft = Graft::new(&after);
    graft.cut(b"nested", b"k").unwrap().append(b"nested", vec![(b"z".to_vec(), b"end".to_vec())]).unwrap();
    let mut again = edited.clone();
    graft.finish().unwrap().apply_to_vec(&mut again);
    assert_shape(&again);
    let last = Db::from_source(again.as_slice()).unwrap();
    let nested = last.bucket(b"nested").unwrap().unwrap();
    assert_eq!(nested.bucket(b"inner").unwrap().unwrap().get(b"deep").unwrap(), Some(b"value".to_vec()));
    assert_eq!(nested.get(b"z").unwrap(), Some(b"end".to_vec()));
    assert!(nested.bucket(b"pages").unwrap().is_none());
}

/// A root bucket of more names than a page holds gets branches of its own.
#[test]
fn a_thousand_buckets() {
    let file = tiny();
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    let mut model = Model::new();
    for number in 0..1000 {
        let name = format!("bucket-{number:04}").into_bytes();
        let pairs = fixed_pairs(number % 4);
        graft.replace_bucket(&name, pairs.clone()).unwrap();
        model.insert(name, pairs);
    }
    let mut edited = file.clone();
    graft.finish().unwrap().apply_to_vec(&mut edited);
    assert_shape(&edited);
    assert!(read_all(&edited) == model);
    step(
        &edited,
        &mut model,
        &[Op::Replace { name: 0, pairs: Spec { count: 3, key_bytes: 9, value_bytes: 9, seed: 1 } }],
    );
}

/// Cut off anywhere, the writes leave the old content or the new; never neither, never a mixture.
#[test]
fn any_prefix_of_the_writes_is_a_sound_file() {
    let pairs = fixed_pairs(40);
    let file = file_with(&pairs);
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    graft.cut(b"key", pairs.keys().nth(11).unwrap()).unwrap();
    let patch = graft.finish().unwrap();
    let mut new = file.clone();
    patch.apply_to_vec(&mut new);
    let (old_model, new_model) = (read_all(&file), read_all(&new));

    let writes: Vec<_> = patch.data_writes().chain(patch.meta_writes()).collect();
    let data_writes = writes.len() - 2;
    let mut done = file.clone();
    for (index, (offset, bytes)) in writes.iter().enumerate() {
        let at = usize::try_from(*offset).unwrap();
        // Torn at every 64 bytes, zeros behind the tear.
        for torn in (0..bytes.len()).step_by(64) {
            let mut file = done.clone();
            file.resize(file.len().max(at + bytes.len()), 0);
            file[at..at + bytes.len()].fill(0);
            file[at..at + torn].copy_from_slice(&bytes[..torn]);
            let model = read_all(&file);
            assert!(
                model == old_model || (index >= data_writes && model == new_model),
                "write {index}, {torn}"
            );
        }
        done.resize(done.len().max(at + bytes.len()), 0);
        done[at..at + bytes.len()].copy_from_slice(bytes);
    }
    assert!(done == new);
}

/// On disk, in a file padded as a server pads it, the same bytes arrive, and the padding stays.
#[test]
fn a_file_and_a_vec_get_the_same_bytes() {
    for padding in [0, 32, 100_000] {
        let mut bytes = file_with(&fixed_pairs(100));
        let db_bytes = bytes.clone();
        let db = Db::from_source(db_bytes.as_slice()).unwrap();
        let mut graft = Graft::new(&db);
        graft.replace_bucket(b"lease", fixed_pairs(9)).unwrap();
        let patch = graft.finish().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        bytes.resize(bytes.len() + padding, 0);
        file.write_all(&bytes).unwrap();
        patch.apply_to_file(&file).unwrap();
        patch.apply_to_vec(&mut bytes);
        assert!(bytes.len() as u64 >= patch.len_bytes());
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        assert!(fs::read(path).unwrap() == bytes);
    }
}

/// What bbolt cannot hold is refused at the edit, and leaves the graft as it was.
#[test]
fn keys_and_values_that_bbolt_cannot_hold() {
    let file = file_with(&fixed_pairs(5));
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    for key in [vec![], vec![b'k'; 32_769]] {
        let pair = (key.clone(), Vec::new());
        let replaced = graft.replace_bucket(b"key", Pairs::from([pair.clone()])).unwrap_err();
        assert!(matches!(replaced, GraftError::Element { .. }), "{replaced}");
        // No key is so small that it could be appended, but the longest may be large enough.
        assert!(graft.append(b"key", vec![pair]).is_err());
        assert!(matches!(graft.replace_bucket(&key, Pairs::new()).unwrap_err(), GraftError::Element { .. }));
    }
    graft.append(b"key", vec![(vec![0xFF; 32_768], Vec::new())]).unwrap();
    assert_eq!(graft.pairs(b"key").unwrap().unwrap().len(), 6);
}

/// A key that is not beyond the last would be lost to every search.
#[test]
fn keys_that_are_not_beyond_the_last() {
    let pairs = fixed_pairs(50);
    let file = file_with(&pairs);
    let db = Db::from_source(file.as_slice()).unwrap();
    let last = pairs.keys().last().unwrap().clone();
    let pair = |key: &[u8]| (key.to_vec(), Vec::new());
    let refused = |graft: &mut Graft<'_, &[u8]>, pairs: Vec<(Vec<u8>, Vec<u8>)>| {
        let error = graft.append(b"key", pairs).unwrap_err();
        assert!(matches!(error, GraftError::NotBeyondLast { .. }), "{error}");
    };
    let mut graft = Graft::new(&db);
    refused(&mut graft, vec![pair(&last)]);
    refused(&mut graft, vec![pair(b"\xFFb"), pair(b"\xFFa")]);
    graft.append(b"key", vec![pair(b"\xFFb")]).unwrap();
    refused(&mut graft, vec![pair(b"\xFFb")]);
    graft.cut(b"key", &last).unwrap();
    refused(&mut graft, vec![pair(pairs.keys().nth(48).unwrap())]);
    graft.append(b"key", vec![pair(&last)]).unwrap();
    graft.replace_bucket(b"key", Pairs::from([pair(b"m")])).unwrap();
    refused(&mut graft, vec![pair(b"l")]);
    graft.delete_bucket(b"key").unwrap();
    assert!(matches!(graft.append(b"key", vec![]).unwrap_err(), GraftError::NoSuchBucket { .. }));
    assert!(matches!(graft.cut(b"none", b"a").unwrap_err(), GraftError::NoSuchBucket { .. }));
}

/// A file shorter than its metas say: new pages would lie behind a hole that reads as zeros.
#[test]
fn a_file_cut_short_is_refused() {
    let mut file = file_with(&fixed_pairs(50));
    file.pop();
    let db = Db::from_source(file.as_slice()).unwrap();
    assert!(matches!(Graft::new(&db).finish().unwrap_err(), GraftError::CutShort { .. }));
}

/// Elements made to overlap, so that four kilobytes ask for a quarter of a megabyte; in larger pages it would be
/// terabytes.
#[test]
fn overlapping_elements_ask_for_no_memory() {
    let keys: Vec<Vec<u8>> = (0..100u8).map(|n| vec![b'k', n]).collect();
    let elements: Vec<(u32, &[u8], &[u8])> = keys.iter().map(|key| (0, key.as_slice(), &b""[..])).collect();
    let mut page = leaf_page(3, 4096, &elements);
    for index in 0..100usize {
        let at = 16 + 16 * index;
        let position = u32::from_le_bytes(page[at + 4..at + 8].try_into().unwrap());
        let room = 4096 - u32::try_from(at).unwrap() - position - 2;
        page[at + 12..at + 16].copy_from_slice(&room.to_le_bytes());
    }
    let file =
        file_of(4096, [Some(0), Some(1)], &[leaf_page(2, 4096, &[(1, b"key", &bucket_value(3))]), page]);
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    let is_told = |error| match error {
        GraftError::Fault(fault) => matches!(fault.kind, FaultKind::OverlappingElements { .. }),
        _ => false,
    };
    assert!(is_told(graft.pairs(b"key").unwrap_err()));
    let appended = graft.append(b"key", vec![(b"z".to_vec(), b"z".to_vec())]).map(drop);
    assert!(is_told(appended.and_then(|()| graft.finish().map(drop)).unwrap_err()));
}

fn fault_of(file: &[u8], edit: impl Fn(&mut Graft<'_, &[u8]>) -> Result<(), GraftError>) -> FaultKind {
    let db = Db::from_source(file).unwrap();
    let mut graft = Graft::new(&db);
    match edit(&mut graft).and_then(|()| graft.finish().map(drop)) {
        Err(GraftError::Fault(fault)) => fault.kind,
        other => panic!("{other:?}"),
    }
}

/// Damage on the way to the right edge is named, not copied into a new tree.
#[test]
fn damage_on_the_way() {
    let append = |graft: &mut Graft<'_, &[u8]>| graft.append(b"key", vec![(b"z".to_vec(), vec![])]).map(drop);
    let cut = |graft: &mut Graft<'_, &[u8]>| graft.cut(b"key", b"b").map(drop);
    let root = leaf_page(2, 4096, &[(1, b"key", &bucket_value(3))]);
    let leaf = |id, key: &'static [u8]| leaf_page(id, 4096, &[(0, key, b"v")]);
    let file = |pages: &[Vec<u8>]| {
        let all: Vec<_> = std::iter::once(root.clone()).chain(pages.iter().cloned()).collect();
        file_of(4096, [Some(0), Some(1)], &all)
    };
    // A branch that is its own child.
    let cycle = file(&[branch_page(3, 4096, &[(b"a", 3)])]);
    assert!(matches!(fault_of(&cycle, append), FaultKind::TooDeep { .. }));
    assert!(matches!(
        fault_of(&cycle, cut),
        FaultKind::MultipleReferences { .. } | FaultKind::TooDeep { .. }
    ));
    let outside = file(&[branch_page(3, 4096, &[(b"a", 4), (b"c", 99)]), leaf(4, b"a")]);
    assert!(matches!(fault_of(&outside, append), FaultKind::OutOfBounds { .. }));
    let empty =
        file(&[branch_page(3, 4096, &[(b"a", 4), (b"c", 5)]), leaf(4, b"a"), leaf_page(5, 4096, &[])]);
    assert_eq!(fault_of(&empty, append), FaultKind::EmptyLeaf);
    let unordered = file(&[branch_page(3, 4096, &[(b"c", 4), (b"a", 5)]), leaf(4, b"a"), leaf(5, b"c")]);
    assert!(matches!(fault_of(&unordered, append), FaultKind::KeyOrder { .. }));
    // A cut that leaves one child, whose neighbour is a leaf where a branch should be; and the reverse.
    let shallow = file(&[
        branch_page(3, 4096, &[(b"a", 4), (b"aa", 5)]),
        leaf(4, b"a"),
        branch_page(5, 4096, &[(b"aa", 6), (b"c", 7)]),
        leaf(6, b"aa"),
        leaf(7, b"c"),
    ]);
    assert_eq!(fault_of(&shallow, cut), FaultKind::UnevenDepth { depth: 1, expected: 2 });
    let deep = file(&[
        branch_page(3, 4096, &[(b"a", 4), (b"b", 5)]),
        branch_page(4, 4096, &[(b"a", 6), (b"aa", 7)]),
        leaf_page(5, 4096, &[(0, b"b", b"v"), (0, b"bc", b"v")]),
        leaf(6, b"a"),
        leaf(7, b"aa"),
    ]);
    let cut_within = |graft: &mut Graft<'_, &[u8]>| graft.cut(b"key", b"bc").map(drop);
    assert_eq!(fault_of(&deep, cut_within), FaultKind::UnevenDepth { depth: 2, expected: 1 });
}

/// A branch with a single child, as other writers have left behind, is gone once its spine was written anew.
#[test]
fn a_lone_child_on_the_spine_is_healed() {
    let leaf = |id, key: &'static [u8]| leaf_page(id, 4096, &[(0, key, b"v")]);
    let file = file_of(
        4096,
        [Some(0), Some(1)],
        &[
            leaf_page(2, 4096, &[(1, b"key", &bucket_value(3))]),
            branch_page(3, 4096, &[(b"a", 4), (b"m", 5)]),
            branch_page(4, 4096, &[(b"a", 6), (b"c", 7)]),
            branch_page(5, 4096, &[(b"m", 8)]),
            leaf(6, b"a"),
            leaf(7, b"c"),
            leaf(8, b"m"),
        ],
    );
    let db = Db::from_source(file.as_slice()).unwrap();
    let mut graft = Graft::new(&db);
    graft.append(b"key", vec![(b"z".to_vec(), b"v".to_vec())]).unwrap();
    let mut edited = file.clone();
    graft.finish().unwrap().apply_to_vec(&mut edited);
    assert_shape(&edited);
    let keys: Vec<_> = read_all(&edited).remove(&b"key"[..]).unwrap().into_keys().collect();
    assert_eq!(keys, [b"a".to_vec(), b"c".to_vec(), b"m".to_vec(), b"z".to_vec()]);
}

/// A server's deletes leave leaves of any fill: where a cut leaves but one of them, and that is small, the bucket goes
/// inline, as bbolt would have it.
#[test]
fn a_small_leaf_left_alone_goes_inline() {
    let file = file_of(
        4096,
        [Some(0), Some(1)],
        &[
            leaf_page(2, 4096, &[(1, b"key", &bucket_value(3))]),
            branch_page(3, 4096, &[(b"a", 4), (b"m", 5)]),
            leaf_page(4, 4096, &[(0, b"a", b"1"), (0, b"b", b"2")]),
            leaf_page(5, 4096, &[(0, b"m", &[7; 3000])]),
        ],
    );
    let db = Db::from_source(file.as_slice()).unwrap();
    for (appended, inline) in [(0, true), (3, true), (3000, false)] {
        let mut graft = Graft::new(&db);
        graft.cut(b"key", b"m").unwrap();
        graft.append(b"key", vec![(b"z".to_vec(), vec![b'z'; appended])]).unwrap();
        let mut edited = file.clone();
        graft.finish().unwrap().apply_to_vec(&mut edited);
        assert_shape(&edited);
        let after = Db::from_source(edited.as_slice()).unwrap();
        let bucket = after.bucket(b"key").unwrap().unwrap();
        assert_eq!(matches!(bucket.root(), Root::Inline(_)), inline, "{appended} bytes appended");
        assert_eq!(read_all(&edited)[&b"key"[..]].len(), 3);
    }
}

/// Transaction numbers at the end of their range are refused, not wrapped around.
#[test]
fn the_last_transaction() {
    let file = file_of(1024, [Some(u64::MAX - 1), Some(u64::MAX)], &[leaf_page(2, 1024, &[])]);
    let db = Db::from_source(file.as_slice()).unwrap();
    assert!(matches!(Graft::new(&db).finish().unwrap_err(), GraftError::Exhausted { .. }));
}
