//! Grafted files before the judge: the real bbolt library deletes, puts, merges and splits in them, and after every
//! commit they must pass its check and hold what a model does. About 20 s in all on two cores.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod graft_common;
mod oracle_judge_common;

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use bbolt::graft::Pairs;
use bbolt::page::FLAG_FREELIST;
use bbolt::{Db, Graft, Meta, PageHeader};
use graft_common::{
    Model, Start, assert_shape, branch_page, bucket_value, file_of, history, leaf_page, read_all, step,
};
use oracle_judge_common::{Dock, ROUNDS, fan_out, leaf_count, leaf_counts, sight_of};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rstest::rstest;
use testdata::oracle::Judge;

const PAGE: usize = 1024;

/// Keys of the leaf with this number, and their values: two thirds of a page.
fn leaf_keys(leaf: usize) -> Vec<Vec<u8>> {
    (0..16).map(|n| format!("key-{leaf:03}-{n:02}").into_bytes()).collect()
}

fn leaf(id: u64, leaf: usize) -> Vec<u8> {
    let keys = leaf_keys(leaf);
    let elements: Vec<(u32, &[u8], &[u8])> =
        keys.iter().map(|key| (0, key.as_slice(), &[b'v'; 20][..])).collect();
    leaf_page(id, PAGE, &elements)
}

fn branch(id: u64, children: &[(usize, u64)]) -> Vec<u8> {
    let keys: Vec<Vec<u8>> = children.iter().map(|(leaf, _)| leaf_keys(*leaf)[0].clone()).collect();
    let children: Vec<(&[u8], u64)> =
        keys.iter().zip(children).map(|(key, (_, child))| (key.as_slice(), *child)).collect();
    branch_page(id, PAGE, &children)
}

/// A bucket whose tree starts at page 3 with these pages.
fn bucket_of(pages: &[Vec<u8>]) -> Vec<u8> {
    let root = leaf_page(2, PAGE, &[(1, b"key", &bucket_value(3))]);
    let pages: Vec<Vec<u8>> = std::iter::once(root).chain(pages.iter().cloned()).collect();
    file_of(u32::try_from(PAGE).unwrap(), [Some(0), Some(1)], &pages)
}

/// Leaves at one depth, two children in every branch.
fn sound() -> Vec<u8> {
    bucket_of(&[
        branch(3, &[(0, 4), (2, 5)]),
        branch(4, &[(0, 6), (1, 7)]),
        branch(5, &[(2, 8), (3, 9)]),
        leaf(6, 0),
        leaf(7, 1),
        leaf(8, 2),
        leaf(9, 3),
    ])
}

/// The second of the root's branches has a single child.
fn one_child() -> Vec<u8> {
    bucket_of(&[
        branch(3, &[(0, 4), (2, 5)]),
        branch(4, &[(0, 6), (1, 7)]),
        branch(5, &[(2, 8)]),
        leaf(6, 0),
        leaf(7, 1),
        leaf(8, 2),
    ])
}

/// A leaf beside a branch.
fn uneven_depth() -> Vec<u8> {
    bucket_of(&[
        branch(3, &[(0, 4), (2, 5)]),
        branch(4, &[(0, 6), (1, 7)]),
        leaf(5, 2),
        leaf(6, 0),
        leaf(7, 1),
    ])
}

/// The root says that its second leaf begins with a greater key than it does.
fn wrong_separator() -> Vec<u8> {
    bucket_of(&[branch(3, &[(0, 4), (2, 5)]), leaf(4, 0), leaf(5, 1)])
}

/// Two elements of a branch lead to one page.
fn page_used_twice() -> Vec<u8> {
    bucket_of(&[branch(3, &[(0, 4), (1, 5), (2, 5)]), leaf(4, 0), leaf(5, 1)])
}

/// Between two others, a leaf without keys.
fn empty_leaf() -> Vec<u8> {
    bucket_of(&[branch(3, &[(0, 4), (1, 5), (2, 6)]), leaf(4, 0), leaf_page(5, PAGE, &[]), leaf(6, 2)])
}

/// The file with its metas changed, their checksums right.
fn with_metas(mut file: Vec<u8>, change: impl Fn(&mut Meta)) -> Vec<u8> {
    let metas = Db::from_source(file.as_slice()).unwrap().metas().clone().map(Result::unwrap);
    for (slot, mut meta) in metas.into_iter().enumerate() {
        change(&mut meta);
        file[slot * PAGE + 16..][..64].copy_from_slice(&meta.encode());
    }
    file
}

/// The sound file with two pages more: 10, which no tree reaches, and the freelist with these ids.
fn with_freelist(free: &[u64]) -> Vec<u8> {
    let mut file = sound();
    file.resize(file.len() + PAGE, 0xEE);
    let count = u16::try_from(free.len()).unwrap();
    file.extend_from_slice(&PageHeader { id: 11, flags: FLAG_FREELIST, count, overflow: 0 }.encode());
    file.extend(free.iter().flat_map(|id| id.to_le_bytes()));
    file.resize(12 * PAGE, 0);
    with_metas(file, |meta| (meta.freelist, meta.high_water_mark) = (11, 12))
}

/// The freelist offers the last leaf beside the page that is free.
fn reachable_page_free() -> Vec<u8> {
    with_freelist(&[9, 10])
}

/// The last leaf lies at the high-water mark instead of below it. Of the page's number alone, bbolt's check does not
/// complain (FORMATS A.8), but the next page that bbolt allocates is this one.
fn high_water_mark_too_low() -> Vec<u8> {
    with_metas(sound(), |meta| meta.high_water_mark -= 1)
}

/// How many of some copies of a file the judge condemns, and why.
fn complaints(file: &[u8], copies: usize) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..copies).map(|n| dir.path().join(format!("{n}.db"))).collect();
    for path in &paths {
        fs::write(path, file).unwrap();
    }
    Judge::find().verdicts(1, ROUNDS, &paths).into_iter().filter_map(Result::err).collect()
}

/// Faults that only show when pages are merged or allocated, and such that bbolt finds by itself.
///
/// In which order bbolt merges pages is left to chance, and so is whether a fault comes to light: about one try of
/// thirty misses the first of these. None of four seeds seeing it would be the judge's fault.
#[rstest]
#[case::one_child(one_child(), &["parent must have at least 2 children"])]
#[case::uneven_depth(uneven_depth(), &["hangs", "panic", "fault", "should"])]
#[case::wrong_separator(wrong_separator(), &["listed and not found"])]
#[case::page_used_twice(page_used_twice(), &["multiple references"])]
#[case::empty_leaf(empty_leaf(), &["reachable freed", "should", "panic"])]
#[case::reachable_page_free(reachable_page_free(), &["page 9: reachable freed"])]
#[case::high_water_mark_too_low(high_water_mark_too_low(), &["page 9: reachable freed", "hangs", "fault", "panic"])]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_the_judge_condemns(#[case] file: Vec<u8>, #[case] why: &[&str]) {
    let complaints = complaints(&file, 4);
    assert!(!complaints.is_empty());
    for complaint in &complaints {
        assert!(why.iter().any(|why| complaint.contains(why)), "{complaint}");
    }
}

/// The same trees shaped as they should be are let off.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_the_judge_lets_sound_files_off() {
    assert_eq!(complaints(&sound(), 20), [""; 0]);
    assert_eq!(complaints(&with_freelist(&[10]), 8), [""; 0]);
}

/// What random histories of grafts make of tiny files of every page size and of real snapshots, judged after every
/// graft.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_histories(#[values(21, 22)] seed: u8) {
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let mut dock = Dock::new(usize::from(seed) * 1000);
    for case in 0..30 {
        let history = history().new_tree(&mut runner).unwrap().current();
        let mut file = history.start.bytes();
        let mut model = read_all(&file);
        for (round, ops) in history.grafts.iter().enumerate() {
            file = step(&file, &mut model, ops);
            dock.accept(&format!("history-{case}-{round}"), &file, sight_of(&model));
        }
    }
    dock.close(80);
}

/// Ascending pairs of which two fill a leaf and about thirty of their keys a branch, whatever the page size.
fn pairs(page_size: usize, numbers: Range<usize>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let key_bytes = page_size / 32;
    let pair = |number: usize| {
        let mut key = u64::try_from(number).unwrap().to_be_bytes().to_vec();
        key.resize(key_bytes, b'k');
        (key, vec![u8::try_from(number % 251).unwrap(); page_size * 2 / 5 - key_bytes - 16])
    };
    numbers.map(pair).collect()
}

fn grafted(file: &[u8], edit: impl FnOnce(&mut Graft<'_, &[u8]>)) -> Vec<u8> {
    let patch = {
        let db = Db::from_source(file).unwrap();
        let mut graft = Graft::new(&db);
        edit(&mut graft);
        graft.finish().unwrap()
    };
    let mut edited = file.to_vec();
    patch.apply_to_vec(&mut edited);
    assert_shape(&edited);
    edited
}

/// Buckets whose leaves leave 0, 1 or 2 over when they are shared out to branches, and the smallest ones: rebuilt,
/// appended to and cut to each other's sizes, in every page size.
#[rstest]
#[case(1024, true)]
#[case(2048, false)]
#[case(4096, false)]
#[case(8192, false)]
#[case(16_384, false)]
#[case(32_768, false)]
#[case(65_536, false)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_shapes(#[case] page_size: usize, #[case] three_levels: bool) {
    let page_bytes = u32::try_from(page_size).unwrap();
    let tiny = Start::Tiny { page_size: page_bytes, txids: [Some(0), Some(1)] }.bytes();
    let fan_out = fan_out(page_size);
    let mut counts = vec![0, 1, 2, 3];
    counts.extend(leaf_counts(page_size));
    if three_levels {
        counts.extend([fan_out * fan_out, fan_out * fan_out + 1, fan_out * fan_out + 2]);
    }
    let model = |count: usize| {
        let pairs: Pairs = pairs(page_size, 0..count).into_iter().collect();
        sight_of(&Model::from([(b"key".to_vec(), pairs)]))
    };
    let mut dock = Dock::new(page_size);
    for leaves in &counts {
        let count = 2 * leaves;
        let file = grafted(&tiny, |graft| {
            graft.replace_bucket(b"key", pairs(page_size, 0..count).into_iter().collect()).unwrap();
        });
        // Else these sizes would aim at nothing. A single leaf is one even of no pairs.
        assert_eq!(leaf_count(&file, b"key"), *leaves.max(&1));
        dock.accept(&format!("{leaves}-leaves"), &file, model(count));
        for more in [1, 2, 3] {
            let appended = grafted(&file, |graft| {
                graft.append(b"key", pairs(page_size, count..count + more)).unwrap();
            });
            dock.accept(&format!("{leaves}-leaves-append-{more}"), &appended, model(count + more));
        }
        for kept in [1, 2, fan_out, fan_out + 1] {
            // On a leaf's border, and a pair to the right of it.
            for kept in [2 * kept, 2 * kept + 1] {
                if kept >= count {
                    continue;
                }
                let cut = grafted(&file, |graft| {
                    graft.cut(b"key", &pairs(page_size, kept..kept + 1)[0].0).unwrap();
                });
                dock.accept(&format!("{leaves}-leaves-cut-to-{kept}-pairs"), &cut, model(kept));
            }
        }
    }
    dock.close(90);
}
