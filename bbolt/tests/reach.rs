//! What a damaged tree still reaches: leaves and holes, held against the undamaged tree.
#![allow(clippy::unwrap_used, reason = "tests")]

mod build_common;
mod carve_common;
mod common;
mod graft_common;

use std::collections::{BTreeMap, BTreeSet};

use bbolt::bucket::Root;
use bbolt::carve::{Leaf, Place};
use bbolt::page_file::PageFile;
use bbolt::reach::{Content, Start, Tree, reach};
use bbolt::survey::{Interrupted, SurveyOptions, leaves, survey};
use bbolt::{Db, FaultKind, Holes, Node, NodeKind, PageId, Source, Watch, carve};
use build_common::case;
use carve_common::{Ledger, Rng, damage, one_hole, plan};
use common::{Builder, Victim, all_real, bucket, inline_value, pair, pairs};
use proptest::prelude::*;

fn everything(_: &[u8], _: &Node<'_>) -> bool {
    true
}

/// What the meta in force reaches.
fn reached<S: Source>(source: S) -> Tree {
    let pages = PageFile::search(source, None).unwrap();
    let root = pages.meta().unwrap().root;
    let tree = reach(&pages, Start::Page(root), &everything, &()).unwrap();
    assert_tidy(&tree);
    tree
}

/// Holes of one bucket lie in key order and apart from each other.
fn assert_tidy(tree: &Tree) {
    for holes in tree.buckets.iter().map(|bucket| &bucket.holes).chain([&tree.holes]) {
        for hole in holes {
            assert!(hole.to.as_ref().is_none_or(|to| hole.from < *to));
        }
        for pair in holes.windows(2) {
            assert!(pair[0].to.as_ref().is_some_and(|to| *to <= pair[1].from));
        }
    }
    assert!(tree.buckets.windows(2).all(|pair| pair[0].name < pair[1].name));
}

/// The keys of a bucket's leaves, or of its inline page.
fn keys<S: Source>(pages: &PageFile<S>, tree: &Tree, name: &[u8]) -> Vec<Vec<u8>> {
    let nodes = tree.bucket(name).unwrap().nodes(pages);
    nodes.flat_map(|node| (0..node.count()).map(|i| node.key(i).to_vec()).collect::<Vec<_>>()).collect()
}

#[test]
fn sound_files_are_reached_as_they_are() {
    for (name, file) in all_real() {
        let db = Db::from_source(file.as_slice()).unwrap();
        let tree = reached(file.as_slice());
        assert!(tree.is_whole(), "{name}");
        let survey = survey(&db, &SurveyOptions::default(), &()).unwrap();
        for page in (2..db.page_count()).map(PageId) {
            // No server wrote a freelist into these.
            assert_eq!(tree.used.is_head(page), survey.used.is_head(page), "{name} {page}");
            assert_eq!(tree.used.is_overflow(page), survey.used.is_overflow(page), "{name} {page}");
        }
        let pages = PageFile::search(file.as_slice(), None).unwrap();
        let mut names = db.root().cursor();
        let mut buckets = 0;
        while let Some(item) = names.next().unwrap() {
            let name = item.key.to_vec();
            let bucket = names.bucket().unwrap().unwrap();
            let found = tree.bucket(&name).unwrap();
            match bucket.root() {
                Root::Page(root) => {
                    assert_eq!(found.content, Content::Tree(*root));
                    assert_eq!(found.leaves, leaves(&db, *root, &()).unwrap().pages);
                }
                Root::Inline(node) => {
                    assert_eq!(
                        found.content,
                        Content::Inline { offset: node.offset(), len: node.len_bytes() }
                    );
                }
            }
            let mut expected = Vec::new();
            let mut cursor = bucket.cursor();
            while let Some(item) = cursor.next().unwrap() {
                expected.push(item.key.to_vec());
            }
            assert_eq!(keys(&pages, &tree, &name), expected);
            buckets += 1;
        }
        assert_eq!(tree.buckets.len(), buckets);
    }
}

/// A leaf of an undamaged file.
struct ModelLeaf {
    /// The top-level bucket it is of; empty for the root bucket.
    bucket: Vec<u8>,
    page: PageId,
    keys: Vec<Vec<u8>>,
    /// The pages from the root bucket's root down to it, with their overflow.
    path: Vec<u64>,
}

/// Every leaf of an undamaged file that is of a top-level bucket.
struct Model {
    leaves: Vec<ModelLeaf>,
}

impl Model {
    fn read(file: &[u8]) -> Self {
        let db = Db::from_source(file).unwrap();
        let mut model = Self { leaves: Vec::new() };
        // Bucket, page, pages above.
        let mut stack = vec![(Vec::new(), db.meta().root, Vec::new())];
        while let Some((bucket, page, mut path)) = stack.pop() {
            let node = db.node(page).unwrap();
            let overflow = node.len_bytes() / u64::from(db.page_size());
            path.extend(page.0..page.0 + overflow);
            let keys: Vec<Vec<u8>> = (0..node.count()).map(|i| node.key(i).to_vec()).collect();
            if node.kind() == NodeKind::Branch {
                stack.extend((0..node.count()).map(|i| (bucket.clone(), node.child(i), path.clone())));
                continue;
            }
            if bucket.is_empty() {
                for (index, name) in (0..).zip(&keys) {
                    let inner = bbolt::Bucket::from_element(&db, &node, index).unwrap();
                    if let Root::Page(root) = inner.root() {
                        stack.push((name.clone(), *root, path.clone()));
                    }
                }
            }
            model.leaves.push(ModelLeaf { bucket, page, keys, path });
        }
        model
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// With random pages zeroed, randomised or unreadable, a leaf is reached when nothing on the way to it is damaged and is not when
    /// any head on it is, and what is not reached is in a hole, and nothing else.
    #[test]
    fn what_is_not_reached_is_in_a_hole(case in case(true), seed in any::<u64>(), share in 0u64..20) {
        let mut file = Vec::new();
        build_common::write(&mut file, &case).unwrap();
        let model = Model::read(&file);
        let ledger = Ledger::read(&file, case.options.page_size);
        let root = Db::from_source(file.as_slice()).unwrap().meta().root;
        let mut rng = Rng(seed);
        let damages = plan(&ledger, &mut rng, share);
        let (damaged, bad) = damage(&file, case.options.page_size, &damages, &mut rng);
        let pages = PageFile::search(Holes::new(damaged.as_slice(), bad), Some(case.options.page_size)).unwrap();
        let tree = reach(&pages, Start::Page(root), &everything, &()).unwrap();
        assert_tidy(&tree);
        let heads: BTreeSet<u64> = ledger.runs.iter().map(|run| run.0).collect();
        for ModelLeaf { bucket: name, page, keys, path } in &model.leaves {
            let is_touched = path.iter().any(|page| damages.contains_key(page));
            let is_lost = path.iter().any(|page| heads.contains(page) && damages.contains_key(page));
            let bucket = tree.bucket(name);
            if name.is_empty() {
                for key in keys {
                    let is_there = tree.bucket(key).is_some();
                    prop_assert!(is_there || is_touched);
                    let is_in_hole = tree.holes.iter().any(|hole| hole.contains(key));
                    prop_assert!(is_there != is_in_hole || is_touched && !is_lost);
                }
                continue;
            }
            let is_reached = bucket.is_some_and(|bucket| bucket.leaves.contains(page));
            prop_assert!(is_reached || is_touched);
            prop_assert!(!is_reached || !is_lost);
            let Some(bucket) = bucket else { continue };
            prop_assert_eq!(tree.used.is_head(PageId(page.0)), is_reached);
            // A branch with damage in its overflow may be in order, with other keys than it had.
            if path.iter().any(|page| !heads.contains(page) && damages.contains_key(page)) {
                continue;
            }
            for key in keys {
                prop_assert_eq!(bucket.holes.iter().any(|hole| hole.contains(key)), !is_reached);
            }
        }
    }
}

/// The bucket `key` of a tree of three levels, and two small ones.
fn victim() -> Victim {
    let mut file = Builder::new(512);
    let key = file.tree(&pairs(600), 5, 9);
    let lease = file.tree(&pairs(40), 5, 9);
    let meta = (1, b"meta".to_vec(), inline_value(&[pair("a", "x"), pair("b", "")]));
    Victim::new(file.finish(&[bucket("key", key), bucket("lease", lease), meta]))
}

/// The holes of the bucket `key`: page, first and last key, what is wrong.
fn holes_of(tree: &Tree) -> Vec<(u64, String, String, &'static str)> {
    let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
    let holes = tree.bucket(b"key").unwrap().holes.iter();
    holes
        .map(|hole| {
            let code = hole.fault.as_ref().map_or("refused", |fault| fault.code());
            (hole.page.0, text(&hole.from), hole.to.as_deref().map(text).unwrap_or_default(), code)
        })
        .collect()
}

fn first_key(victim: &Victim, leaf: usize) -> String {
    let db = Db::from_source(victim.bytes.as_slice()).unwrap();
    String::from_utf8(db.node(PageId(victim.leaves[leaf])).unwrap().key(0).to_vec()).unwrap()
}

fn child_at(element: usize) -> usize {
    16 + element * 16 + 8
}

#[test]
fn a_hole_is_as_wide_as_the_branch_says() {
    let sound = victim();
    for (leaf, is_first) in [(0, true), (3, false)] {
        let mut file = sound.clone();
        file.zero(file.leaves[leaf]);
        let from = if is_first { String::new() } else { first_key(&sound, leaf) };
        let expected = (sound.leaves[leaf], from, first_key(&sound, leaf + 1), "BBOLT-WRONG-ID");
        assert_eq!(holes_of(&reached(file.bytes.as_slice())), [expected]);
    }
    // The last leaf of a branch: up to the next branch's first key.
    let mut file = sound.clone();
    file.zero(*file.leaves.last().unwrap());
    let holes = holes_of(&reached(file.bytes.as_slice()));
    assert_eq!((holes.len(), holes[0].1.as_str(), holes[0].2.as_str()), (1, "key00000040", "key00000045"));
    // The branch itself, and the bucket's root.
    let mut file = sound.clone();
    file.zero(file.branch);
    let holes = holes_of(&reached(file.bytes.as_slice()));
    assert_eq!((holes.len(), holes[0].1.as_str(), holes[0].2.as_str()), (1, "", "key00000045"));
    let mut file = sound.clone();
    let tree = reached(sound.bytes.as_slice());
    let Content::Tree(root) = tree.bucket(b"key").unwrap().content else { panic!() };
    file.zero(root.0);
    let tree = reached(file.bytes.as_slice());
    assert_eq!(holes_of(&tree), [(root.0, String::new(), String::new(), "BBOLT-WRONG-ID")]);
    assert!(tree.bucket(b"key").unwrap().leaves.is_empty() && !tree.is_whole());
    assert!(
        tree.bucket(b"lease").unwrap().holes.is_empty() && tree.bucket(b"meta").unwrap().holes.is_empty()
    );
}

/// A page that was freed and used again: it calls itself right and fits between its neighbours, and is not what the branch names.
#[test]
fn a_page_that_begins_otherwise_than_its_branch_says_is_a_hole() {
    let sound = victim();
    let mut file = sound.clone();
    let key = first_key(&sound, 3);
    let page = file.page(file.leaves[3]);
    let at = page.windows(key.len()).position(|there| there == key.as_bytes()).unwrap();
    page[at + key.len() - 1] += 1;
    let tree = reached(file.bytes.as_slice());
    let [hole] = tree.bucket(b"key").unwrap().holes.as_slice() else { panic!() };
    assert_eq!((hole.page.0, hole.from.as_slice(), &hole.fault), (sound.leaves[3], key.as_bytes(), &None));
    assert_eq!(hole.to.as_deref(), Some(first_key(&sound, 4).as_bytes()));
}

#[test]
fn swapped_pages_are_two_holes_and_swapped_names_too() {
    let sound = victim();
    let (a, b) = (sound.leaves[2], sound.leaves[6]);
    // The pages themselves.
    let mut file = sound.clone();
    let (page_a, page_b) = (file.page(a).to_vec(), file.page(b).to_vec());
    file.page(a).copy_from_slice(&page_b);
    file.page(b).copy_from_slice(&page_a);
    let holes = holes_of(&reached(file.bytes.as_slice()));
    assert_eq!(
        holes.iter().map(|hole| (hole.0, hole.3)).collect::<Vec<_>>(),
        [(a, "BBOLT-WRONG-ID"), (b, "BBOLT-WRONG-ID")]
    );
    // Their names in the branch.
    let mut file = sound.clone();
    file.put64(file.branch, child_at(2), b);
    file.put64(file.branch, child_at(6), a);
    let holes = holes_of(&reached(file.bytes.as_slice()));
    let codes: Vec<_> = holes.iter().map(|hole| (hole.0, hole.3)).collect();
    assert_eq!(codes, [(b, "BBOLT-ABOVE-BOUND"), (a, "BBOLT-BELOW-SEPARATOR")]);
}

#[test]
fn a_page_named_twice_stays_where_it_belongs() {
    let sound = victim();
    for (wrong, right) in [(2, 6), (6, 2)] {
        let mut file = sound.clone();
        file.put64(file.branch, child_at(wrong), sound.leaves[right]);
        let tree = reached(file.bytes.as_slice());
        let holes = holes_of(&tree);
        assert_eq!((holes.len(), holes[0].1.as_str()), (1, first_key(&sound, wrong).as_str()));
        let leaves = &tree.bucket(b"key").unwrap().leaves;
        assert_eq!(leaves.iter().filter(|leaf| leaf.0 == sound.leaves[right]).count(), 1);
    }
}

#[test]
fn cycles_end() {
    let sound = victim();
    let tree = reached(sound.bytes.as_slice());
    let Content::Tree(root) = tree.bucket(b"key").unwrap().content else { panic!() };
    // A branch that names itself, the root above it, the root bucket's leaf: in the first place, where any key fits, and in another.
    for (element, page) in
        [(0, sound.branch), (0, root.0), (0, sound.root), (3, sound.branch), (3, root.0), (3, sound.root)]
    {
        let mut file = sound.clone();
        file.put64(file.branch, child_at(element), page);
        let holes = holes_of(&reached(file.bytes.as_slice()));
        assert_eq!((holes.len(), holes[0].0), (1, page), "element {element}, page {page}");
        assert!(
            ["BBOLT-MULTIPLE-REFERENCES", "BBOLT-ABOVE-BOUND", "BBOLT-BELOW-SEPARATOR"].contains(&holes[0].3)
        );
    }
    // Two buckets with one tree.
    let mut file = Builder::new(512);
    let tree = file.tree(&pairs(50), 5, 9);
    let file = file.finish(&[bucket("key", tree), bucket("lease", tree)]);
    let tree = reached(file.as_slice());
    assert!(tree.bucket(b"key").unwrap().holes.is_empty());
    let lease = tree.bucket(b"lease").unwrap();
    assert!(lease.leaves.is_empty() && lease.holes.len() == 1);
    assert_eq!(lease.holes[0].fault.as_ref().unwrap().code(), "BBOLT-MULTIPLE-REFERENCES");
}

#[test]
fn a_tree_deeper_than_any_ends() {
    let mut file = Builder::new(512);
    let mut page = file.leaf(&[pair("k", "v")]);
    for _ in 0..200 {
        page = file.branch(&[("k", page)]);
    }
    let file = file.finish(&[bucket("key", page)]);
    let holes = holes_of(&reached(file.as_slice()));
    assert_eq!((holes.len(), holes[0].3), (1, "BBOLT-TOO-DEEP"));
}

#[test]
fn what_the_caller_refuses_is_a_hole() {
    // The root bucket's leaf linked as the last child inside `key`, as etcd#15498 has it.
    let sound = victim();
    let file = {
        let mut builder = Builder::new(512);
        let leaves: Vec<u64> = (0..6).map(|i| builder.leaf(&[pair(&format!("a{i}"), "v")])).collect();
        let stray = builder.leaf(&[bucket("key", 99), bucket("lease", 98)]);
        let elements: Vec<_> = (0..6).map(|i| (format!("a{i}"), leaves[i])).collect();
        let mut elements: Vec<_> = elements.iter().map(|(key, page)| (key.as_str(), *page)).collect();
        elements.push(("b", stray));
        let root = builder.branch(&elements);
        (builder.finish(&[bucket("key", root)]), stray)
    };
    let pages = PageFile::search(file.0.as_slice(), None).unwrap();
    let judge = |name: &[u8], node: &Node<'_>| match name {
        b"" => (0..node.count()).all(|index| node.is_bucket(index)),
        _ => (0..node.count()).all(|index| !node.is_bucket(index)),
    };
    let root = pages.meta().unwrap().root;
    let tree = reach(&pages, Start::Page(root), &judge, &()).unwrap();
    assert_eq!(holes_of(&tree), [(file.1, "b".to_owned(), String::new(), "refused")]);
    assert_eq!(tree.bucket(b"key").unwrap().leaves.len(), 6);
    assert!(!tree.used.is_used(PageId(file.1)));

    // The root itself, an inline bucket.
    let pages = PageFile::search(sound.bytes.as_slice(), None).unwrap();
    let refuse = |refused: &'static [u8]| {
        let judge = move |name: &[u8], _: &Node<'_>| name != refused;
        reach(&pages, Start::Page(PageId(sound.root)), &judge, &()).unwrap()
    };
    let tree = refuse(b"");
    assert!(tree.buckets.is_empty() && tree.holes[0].fault.is_none() && tree.holes[0].to.is_none());
    let tree = refuse(b"meta");
    let meta = tree.bucket(b"meta").unwrap();
    assert_eq!((meta.content, meta.holes.len()), (Content::Unknown, 1));
    assert_eq!(meta.nodes(&pages).count(), 0);
}

#[test]
fn a_page_refused_in_one_bucket_counts_in_another() {
    let mut file = Builder::new(512);
    let page = file.leaf(&[pair("k", "v")]);
    let names: Vec<_> = (0..5).map(|i| bucket(&format!("b{i}"), page)).collect();
    let file = file.finish(&names);
    let pages = PageFile::search(file.as_slice(), None).unwrap();
    let root = pages.meta().unwrap().root;
    let judge = |name: &[u8], _: &Node<'_>| name.is_empty() || name == b"b3";
    let tree = reach(&pages, Start::Page(root), &judge, &()).unwrap();
    let leaves: Vec<_> = tree.buckets.iter().map(|bucket| bucket.leaves.len()).collect();
    assert_eq!(leaves, [0, 0, 0, 1, 0]);
    // But not for ever.
    let mut file = Builder::new(4096);
    let page = file.leaf(&[pair("k", "v")]);
    let names: Vec<_> = (10..50).map(|i| bucket(&format!("b{i}"), page)).collect();
    let file = file.finish(&names);
    let pages = PageFile::search(file.as_slice(), None).unwrap();
    let root = pages.meta().unwrap().root;
    let asked = std::sync::atomic::AtomicU64::new(0);
    let judge = |name: &[u8], _: &Node<'_>| {
        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        name.is_empty()
    };
    reach(&pages, Start::Page(root), &judge, &()).unwrap();
    assert_eq!(asked.into_inner(), 1 + 8);
}

#[test]
fn a_root_that_is_elsewhere_is_reached_by_its_index() {
    let mut file = victim();
    let end = file.bytes.len() as u64 / 512;
    let root = file.page(file.root).to_vec();
    file.bytes.extend(root);
    file.zero(file.root);
    let pages = PageFile::search(file.bytes.as_slice(), None).unwrap();
    let lost = reach(&pages, Start::Page(PageId(file.root)), &everything, &()).unwrap();
    assert!(lost.buckets.is_empty() && lost.holes.len() == 1);
    let found = reach(&pages, Start::Index(end), &everything, &()).unwrap();
    assert!(found.is_whole() && found.buckets.len() == 3);
    assert_eq!(keys(&pages, &found, b"key").len(), 600);
    assert_eq!(keys(&pages, &found, b"meta"), [b"a".to_vec(), b"b".to_vec()]);
}

#[test]
fn a_file_without_its_head_is_reached_from_a_root_leaf() {
    let file = victim();
    for cut in [1usize, 2, 5] {
        let left = &file.bytes[cut * 512..];
        let pages = PageFile::search(left, None).unwrap();
        let tree = reach(&pages, Start::Index(file.root - cut as u64), &everything, &()).unwrap();
        // The first leaves are gone with the head.
        let gone = cut.saturating_sub(2);
        assert_eq!(tree.bucket(b"key").unwrap().holes.len(), gone);
        assert_eq!(keys(&pages, &tree, b"key").len(), 600 - gone * 5);
        assert_eq!(tree.buckets.len(), 3);
        // By index, as carving counts.
        let carved = carve(&pages, Some(&tree.used), &|_: &Leaf<'_>| (), &()).unwrap();
        let reached = tree.buckets.iter().flat_map(|bucket| &bucket.leaves);
        for leaf in reached {
            let run = carved.run(pages.index_of(*leaf).unwrap()).unwrap().0;
            assert_eq!((run.id, run.place), (leaf.0, Place::Reached));
        }
    }
}

#[test]
fn damaged_bucket_elements_are_holes() {
    let short = (1, b"short".to_vec(), vec![0; 20]);
    let mut no_leaf = inline_value(&[pair("a", "x")]);
    no_leaf[16 + 8] = 1;
    let unsorted = inline_value(&[pair("b", "x"), pair("a", "x")]);
    let file = Builder::new(512);
    let root = file.next_id();
    let beyond = bucket("beyond", 1 << 40);
    let file = file.finish(&[
        beyond,
        (1, b"no leaf".to_vec(), no_leaf),
        bucket("root", root),
        short,
        (1, b"unsorted".to_vec(), unsorted),
        (0, b"value".to_vec(), b"no bucket".to_vec()),
    ]);
    let tree = reached(file.as_slice());
    let codes: Vec<_> = tree
        .buckets
        .iter()
        .map(|bucket| {
            (
                String::from_utf8_lossy(&bucket.name).into_owned(),
                bucket.holes[0].fault.as_ref().unwrap().code(),
            )
        })
        .collect();
    let expected = [
        ("beyond", "BBOLT-TRUNCATED"),
        ("no leaf", "BBOLT-INLINE-TYPE"),
        ("root", "BBOLT-MULTIPLE-REFERENCES"),
        ("short", "BBOLT-BUCKET-LENGTH"),
        ("unsorted", "BBOLT-KEY-ORDER"),
    ];
    assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code)));
    assert!(tree.buckets.iter().all(|bucket| bucket.holes.len() == 1 && bucket.holes[0].contains(b"any")));
}

#[test]
fn overflow_that_the_elements_do_not_fill_is_left_to_others() {
    // A leaf whose head was damaged so that it claims the next leaf, which comes later in the tree.
    let sound = victim();
    let mut file = sound.clone();
    let leaf = sound.leaves[2];
    file.put32(leaf, 12, 1);
    let tree = reached(file.bytes.as_slice());
    let holes = holes_of(&tree);
    // What its elements fill is one page: it takes no other.
    assert_eq!(holes.len(), 0);
    assert_eq!((tree.used.is_head(PageId(leaf)), tree.used.is_overflow(PageId(leaf + 1))), (true, false));
    let unreadable =
        reached(Holes::new(sound.bytes.as_slice(), one_hole(leaf * 512 + 500..leaf * 512 + 501)));
    let fault = unreadable.bucket(b"key").unwrap().holes[0].fault.clone().unwrap();
    assert!(matches!(fault.kind, FaultKind::Unreadable { .. }));
}

#[test]
fn no_page_twice_whatever_branches_name() {
    let sound = victim();
    let mut rng = Rng(3);
    let pages = sound.bytes.len() as u64 / 512;
    for _ in 0..400 {
        let mut file = sound.clone();
        for _ in 0..=rng.below(12) {
            let page = 2 + rng.below(pages - 2);
            // A child, a key or a count of whatever is there.
            let at = usize::try_from(8 + rng.below(200)).unwrap();
            let most = if rng.below(4) == 0 { u64::MAX } else { pages };
            let value = rng.below(most);
            file.put64(page, at, value);
        }
        let pages = PageFile::search(file.bytes.as_slice(), None).unwrap();
        let tree = reach(&pages, Start::Page(pages.meta().unwrap().root), &everything, &()).unwrap();
        assert_tidy(&tree);
        let mut seen = BTreeMap::new();
        for bucket in &tree.buckets {
            let mut last = Vec::new();
            for (leaf, node) in bucket.leaves.iter().zip(bucket.nodes(&pages)) {
                assert!(seen.insert(*leaf, ()).is_none());
                for index in 0..node.count() {
                    assert!(last.as_slice() < node.key(index), "keys ascend over all leaves");
                    last = node.key(index).to_vec();
                    assert!(!bucket.holes.iter().any(|hole| hole.contains(&last)));
                }
            }
        }
    }
}

struct Stopped;

impl Watch for Stopped {
    fn advance(&self, _: u64) {}

    fn interrupted(&self) -> bool {
        true
    }
}

#[test]
fn the_user_may_stop() {
    let file = victim();
    let pages = PageFile::search(file.bytes.as_slice(), None).unwrap();
    let root = Start::Page(PageId(file.root));
    assert!(matches!(reach(&pages, root, &everything, &Stopped), Err(Interrupted)));
}
