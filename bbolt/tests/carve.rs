//! What is carved from damaged files, held against a ledger that a plain reader made of the undamaged ones.
#![allow(clippy::unwrap_used, reason = "tests")]

mod build_common;
mod carve_common;
mod common;
mod graft_common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bbolt::carve::{Cut, Element, Leaf, PageKind, Place};
use bbolt::page::{FLAG_BRANCH, FLAG_LEAF};
use bbolt::page_file::PageFile;
use bbolt::page_use::PageUse;
use bbolt::reach::Start;
use bbolt::survey::Interrupted;
use bbolt::{Db, FileSource, Holes, MetaFault, PageHeader, PageId, Watch, carve};
use build_common::case;
use carve_common::{Found, Ledger, Rng, carved, carved_from, damage, one_hole, plan};
use common::{Builder, Victim, all_real, bucket, built, cluster_snapshot, pair};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Random files, discarded buckets among their pages, with random pages zeroed, randomised or unreadable: every element that no
    /// damaged page touches is found where it is, and nothing else that is whole but what touches a damaged page.
    #[test]
    fn whatever_is_not_damaged_is_found(case in case(true), seed in any::<u64>(), share in 1u64..60) {
        let mut undamaged = Vec::new();
        build_common::write(&mut undamaged, &case).unwrap();
        let ledger = Ledger::read(&undamaged, case.options.page_size);
        let mut rng = Rng(seed);
        let damages = plan(&ledger, &mut rng, share);
        let (file, bad) = damage(&undamaged, case.options.page_size, &damages, &mut rng);
        let found = carved(Holes::new(file.as_slice(), bad), case.options.page_size);
        ledger.assert_found(&found, &damages);
    }

    /// Pages swapped in pairs, and pages copied over others.
    #[test]
    fn pages_in_wrong_places_are_found(case in case(true), seed in any::<u64>(), swaps in 1usize..6) {
        let mut file = Vec::new();
        build_common::write(&mut file, &case).unwrap();
        let ledger = Ledger::read(&file, case.options.page_size);
        let page_size = case.options.page_size as usize;
        // Single pages, the metas not among them, so that none is part of a longer run.
        let singles: Vec<u64> =
            ledger.runs.iter().filter(|(index, pages, _)| *index > 1 && *pages == 1).map(|run| run.0).collect();
        let mut rng = Rng(seed);
        // Where the content of a page now is.
        let mut places: BTreeMap<u64, Vec<u64>> = singles.iter().map(|page| (*page, vec![*page])).collect();
        let mut content = places.keys().map(|page| (*page, *page)).collect::<BTreeMap<u64, u64>>();
        for _ in 0..swaps.min(singles.len() / 2) {
            let a = singles[usize::try_from(rng.below(singles.len() as u64)).unwrap()];
            let b = singles[usize::try_from(rng.below(singles.len() as u64)).unwrap()];
            let at = |page: u64| usize::try_from(page).unwrap() * page_size;
            let (page_a, page_b) = (file[at(a)..][..page_size].to_vec(), file[at(b)..][..page_size].to_vec());
            file[at(b)..][..page_size].copy_from_slice(&page_a);
            let was = content.insert(b, content[&a]).unwrap();
            if rng.below(3) > 0 {
                file[at(a)..][..page_size].copy_from_slice(&page_b);
                content.insert(a, was);
            }
        }
        places.values_mut().for_each(Vec::clear);
        for (place, page) in &content {
            places.get_mut(page).unwrap().push(*place);
        }
        let found = carved_from(&PageFile::new(file.as_slice(), None).unwrap());
        let mut expected: Vec<u64> = Vec::new();
        for (offset, entry) in &ledger.entries {
            let page = entry.pages[0].start;
            match places.get(&page) {
                Some(places) => expected.extend(places.iter().map(|place| offset - page * page_size as u64 + place * page_size as u64)),
                None => expected.push(*offset),
            }
        }
        expected.sort_unstable();
        prop_assert_eq!(found.whole.keys().copied().collect::<Vec<_>>(), expected);
        for (run, _) in &found.carved.runs {
            let is_in_place = content.get(&run.index).is_none_or(|page| *page == run.index);
            prop_assert_eq!(run.place == Place::Placed, is_in_place);
        }
    }

    /// Cut off anywhere, at the start by whole pages and at the end by bytes.
    #[test]
    fn what_is_left_of_a_cut_file_is_found(case in case(false), head in 0u64..300, tail in any::<u64>()) {
        let mut file = Vec::new();
        build_common::write(&mut file, &case).unwrap();
        let page_size = u64::from(case.options.page_size);
        let ledger = Ledger::read(&file, case.options.page_size);
        let head = head % (ledger.pages / 2).max(1);
        let end = file.len() as u64 - tail % (file.len() as u64 / 2);
        let left = &file[usize::try_from(head * page_size).unwrap()..usize::try_from(end).unwrap()];
        let Ok(pages) = PageFile::search(left, Some(case.options.page_size)) else { return Ok(()) };
        // Too few heads to tell by: nothing can be said.
        let heads = ledger.runs.iter().filter(|run| run.0 > head && (run.0 + run.1) * page_size <= end).count();
        if heads < 3 {
            return Ok(());
        }
        prop_assert_eq!(pages.first_page(), head);
        let found = carved_from(&pages);
        let runs: BTreeMap<u64, u64> = ledger.runs.iter().map(|run| (run.0, run.1)).collect();
        for (offset, entry) in &ledger.entries {
            let run = runs.range(..=entry.pages[0].start).next_back().unwrap();
            let there = *run.0 >= head && offset + (entry.key.len() + entry.value.len()) as u64 <= end;
            let there = there.then(|| (entry.key.clone(), entry.value.clone()));
            prop_assert_eq!(found.whole.get(&offset.wrapping_sub(head * page_size)), there.as_ref());
        }
    }
}

/// A file of this page size with leaves and branches, and what a plain reader finds in it.
fn file_of(page_size: usize) -> (Vec<u8>, Ledger) {
    let file = built(page_size, 900);
    let ledger = Ledger::read_from(&file, u32::try_from(page_size).unwrap(), 2);
    (file, ledger)
}

#[test]
fn every_page_size_with_and_without_metas() {
    for page_size in [512, 1024, 4096, 16384, 65536] {
        let (mut file, ledger) = file_of(page_size);
        for has_metas in [true, false] {
            if !has_metas {
                file[..2 * page_size].fill(0);
            }
            let pages = PageFile::search(file.as_slice(), None).unwrap();
            assert_eq!((pages.page_size() as usize, pages.first_page()), (page_size, 0));
            assert_eq!(pages.is_page_size_guessed(), !has_metas);
            let found = carved_from(&pages);
            ledger.assert_found(&found, &BTreeMap::new());
            let histogram = found.carved.histogram;
            let of = |flags| ledger.runs.iter().filter(|run| run.2 == flags).count() as u64;
            assert_eq!((histogram.leaf, histogram.branch), (of(FLAG_LEAF), of(FLAG_BRANCH)));
            assert_eq!((histogram.meta, histogram.zero), if has_metas { (2, 0) } else { (0, 2) });
            assert_eq!(histogram.unknown + histogram.displaced + histogram.unreadable, 0);
        }
    }
}

#[test]
fn the_first_page_is_voted_for() {
    for (page_size, cut) in [(512, 1), (512, 2), (1024, 7), (4096, 3), (16384, 1), (16384, 12)] {
        let (file, ledger) = file_of(page_size);
        let left = &file[cut * page_size..];
        let pages = PageFile::search(left, None).unwrap();
        assert_eq!((pages.page_size() as usize, pages.first_page()), (page_size, cut as u64));
        // The second meta is there when one page is gone.
        let metas = pages.metas();
        assert_eq!(metas[0], Err(MetaFault::Missing));
        assert_eq!(metas[1].is_ok(), cut == 1);
        assert_eq!(pages.index_of(PageId(cut as u64 + 1)), Some(1));
        assert_eq!((pages.index_of(PageId(0)), pages.index_of(PageId(ledger.pages))), (None, None));
        assert!(pages.node(PageId(ledger.runs[ledger.runs.len() - 1].0)).is_ok());
        assert!(pages.node(PageId(0)).is_err());
        let found = carved_from(&pages);
        assert!(found.carved.runs.iter().all(|(run, _)| run.place == Place::Placed));
        let offset = (cut * page_size) as u64;
        let expected = ledger.entries.range(offset..).map(|(at, entry)| (at - offset, entry));
        let expected: BTreeMap<_, _> =
            expected.map(|(at, entry)| (at, (entry.key.clone(), entry.value.clone()))).collect();
        assert!(expected.len() > 500 && found.whole == expected);
    }
    // A meta that is valid, and pages that say otherwise.
    let (file, _) = file_of(1024);
    let shifted = [&file[..2048], &file[5 * 1024..]].concat();
    let pages = PageFile::search(shifted.as_slice(), None).unwrap();
    assert_eq!((pages.first_page(), pages.active_slot()), (3, Some(0)));
    assert!(pages.metas().iter().all(Result::is_ok));
    let tree = bbolt::reach(&pages, Start::Page(pages.meta().unwrap().root), &|_, _| true, &()).unwrap();
    // Three pages are gone, the first leaves of the bucket that was written first.
    assert_eq!((tree.holes.len(), tree.bucket(b"key").unwrap().holes.len()), (0, 3));
    assert_eq!(PageFile::new(shifted.as_slice(), None).unwrap().first_page(), 0);
}

#[test]
fn real_files_are_all_there() {
    for (name, file) in all_real() {
        let db = Db::from_source(file.as_slice()).unwrap();
        let mut expected = BTreeMap::new();
        let mut names = db.root().cursor();
        while let Some(item) = names.next().unwrap() {
            let _ = item;
            let Some(bucket) = names.bucket().unwrap() else { continue };
            let bbolt::bucket::Root::Page(_) = bucket.root() else { continue };
            for range in bucket.leaf_ranges(1).unwrap() {
                for node in range.nodes() {
                    let node = node.unwrap();
                    for index in 0..node.count() {
                        let value_at = node.offset() + node.value_range(index).start as u64;
                        let (key, value) = (node.key(index).to_vec(), node.value(index).to_vec());
                        expected.insert(value_at - key.len() as u64, (key, value));
                    }
                }
            }
        }
        let found = carved(file.as_slice(), db.page_size());
        assert!(expected.iter().all(|(offset, pair)| found.whole.get(offset) == Some(pair)), "{name}");
        assert!(found.carved.runs.iter().all(|(run, _)| run.place == Place::Placed), "{name}");
        assert_eq!(found.carved.trailing_bytes, file.len() as u64 % u64::from(db.page_size()), "{name}");
        assert_eq!(found.carved.histogram.meta, 2, "{name}");
    }
}

/// A leaf of three values, the second over a page long, on pages 2 to 7, another leaf on 8.
fn long_leaf() -> Vec<u8> {
    let mut file = Builder::new(1024);
    let leaf =
        file.leaf(&[pair("a", &"1".repeat(900)), pair("b", &"2".repeat(3000)), pair("c", &"3".repeat(2000))]);
    let other = file.leaf(&[pair("d", "4")]);
    assert_eq!((leaf, other), (2, 8));
    file.finish(&[bucket("key", 2)])
}

fn header(file: &mut [u8], page: u64, header: &PageHeader) {
    let at = usize::try_from(page).unwrap() * 1024;
    file[at..at + 16].copy_from_slice(&header.encode());
}

fn leaf_at<'a>(pages: &'a PageFile<&[u8]>, found: &Found, index: u64) -> Leaf<'a> {
    Leaf::open(pages, &found.carved.run(index).unwrap().0).unwrap()
}

#[test]
fn overflow_that_was_written_over_is_cut() {
    let mut file = long_leaf();
    // A leaf of one page in the middle of the second value, as a later transaction would have put it there.
    let new = Builder::page_of_leaf(1024, 4, &[pair("e", "5")]);
    file[4 * 1024..5 * 1024].copy_from_slice(&new);
    let pages = PageFile::search(file.as_slice(), None).unwrap();
    let found = carved_from(&pages);
    let run = found.carved.run(2).unwrap().0;
    assert_eq!((run.pages, run.declared, run.cut, run.is_flawed), (2, 6, Some(Cut::WrittenOver), false));
    let leaf = leaf_at(&pages, &found, 2);
    let elements: Vec<_> = leaf.elements().collect();
    assert_eq!(elements.len(), 2);
    assert!(elements[0].is_whole() && elements[0].value == "1".repeat(900).as_bytes());
    let start = 16 + 3 * 16 + 1 + 900;
    assert_eq!((elements[1].key, elements[1].offset), (&b"b"[..], 2 * 1024 + start));
    assert!(!elements[1].is_whole() && elements[1].has_key());
    assert_eq!((elements[1].value.len() as u64, elements[1].value_bytes), (2048 - start - 1, 3000));
    assert_eq!(found.carved.run(4).unwrap().0.place, Place::Placed);
    // What is behind belongs to nobody.
    assert_eq!(found.carved.kind(5), Some(PageKind::Unknown));
    assert_eq!(found.whole.len(), 4);

    // A tree that reaches the long leaf knows better.
    let used = PageUse::new(pages.page_count());
    used.claim(PageId(2), 5);
    let carved =
        carve(&pages, Some(&used), &|leaf: &Leaf<'_>| leaf.elements().filter(Element::is_whole).count(), &())
            .unwrap();
    let runs: Vec<_> =
        carved.runs.iter().map(|(run, whole)| (run.index, run.pages, run.place, *whole)).collect();
    assert_eq!(runs, [(2, 6, Place::Reached, 3), (8, 1, Place::Placed, 1), (9, 1, Place::Placed, 1)]);
    assert_eq!((carved.histogram.overflow, carved.histogram.unknown), (5, 0));
}

#[test]
fn a_cut_that_costs_nothing_is_none() {
    let mut file = long_leaf();
    // Pages that no element needs.
    header(&mut file, 2, &PageHeader { id: 2, flags: FLAG_LEAF, count: 3, overflow: 40 });
    let found = carved(file.as_slice(), 1024);
    let run = found.carved.run(2).unwrap().0;
    assert_eq!((run.pages, run.declared, run.cut), (6, 41, None));
    assert_eq!(found.whole.len(), 5);
}

#[test]
fn what_cannot_be_read_is_a_gap() {
    let file = long_leaf();
    // Within the second value: the third is whole.
    let found = carved(Holes::new(file.as_slice(), one_hole(4 * 1024 + 7..4 * 1024 + 8)), 1024);
    let run = found.carved.run(2).unwrap().0;
    assert_eq!((run.pages, run.cut, run.is_flawed), (6, Some(Cut::Unreadable), false));
    let keys: Vec<_> = found.carved.run(2).unwrap().1.iter().map(|(_, key, _)| key.as_slice()).collect();
    assert_eq!(keys, [b"a", b"c"]);
    assert_eq!(found.carved.kind(4), Some(PageKind::Unreadable));
    assert_eq!(found.carved.histogram.unreadable, 1);
    assert_eq!(found.carved.histogram.overflow, 4);
    // The head: nothing of it.
    let found = carved(Holes::new(file.as_slice(), one_hole(2 * 1024..2 * 1024 + 1)), 1024);
    assert!(found.carved.run(2).is_none());
    assert_eq!(found.whole.len(), 2);
    // All of it.
    let found = carved(Holes::new(file.as_slice(), one_hole(0..u64::MAX)), 1024);
    assert!(found.carved.runs.is_empty());
    assert_eq!(found.carved.histogram.unreadable, 10);
}

#[test]
fn a_value_may_hold_the_image_of_a_database() {
    // The image begins at a page of the file and says so for the file it comes from; or, worse, for the file it is in.
    let (image, _) = file_of(512);
    let mut file = Builder::new(512);
    let padding = 512 - 16 - 16 - 1;
    let mut value = vec![b'x'; padding];
    value.extend(&image);
    let placed = Builder::page_of_leaf(512, 5, &[pair("false", "value")]);
    value[padding + 2 * 512..padding + 3 * 512].copy_from_slice(&placed);
    let elements = [(0, b"k".to_vec(), value)];
    let leaf = file.leaf(&elements);
    assert_eq!(leaf, 2);
    let file = file.finish(&[bucket("key", leaf)]);
    let pages = PageFile::search(file.as_slice(), None).unwrap();
    let used = bbolt::reach(&pages, Start::Page(pages.meta().unwrap().root), &|_, _| true, &()).unwrap().used;
    let carved = carve(&pages, Some(&used), &|leaf: &Leaf<'_>| leaf.elements().count(), &()).unwrap();
    let runs: Vec<_> =
        carved.runs.iter().map(|(run, count)| (run.index, run.place, run.cut, *count)).collect();
    let root = pages.page_count() - 1;
    assert_eq!(runs, [(2, Place::Reached, None, 1), (root, Place::Reached, None, 1)]);
    assert_eq!(carved.histogram.displaced, 0);
    // Where no tree reaches the value, what claims to be in its place is believed, and cuts it; the rest of the image, behind, is
    // displaced.
    let carved = carve(&pages, None, &|leaf: &Leaf<'_>| leaf.elements().count(), &()).unwrap();
    let run = carved.run(2).unwrap().0;
    assert_eq!((run.pages, run.cut), (3, Some(Cut::WrittenOver)));
    assert_eq!(carved.run(5).unwrap().0.place, Place::Placed);
    assert!(carved.histogram.displaced > 10);
    assert!(
        carved.runs.iter().all(|(run, _)| run.place == Place::Displaced || [2, 5, root].contains(&run.index))
    );
}

#[test]
fn a_displaced_leaf_is_cut_by_its_like() {
    // A sound file, all of whose pages but the first ones lie one page too far on.
    let file = long_leaf();
    let shifted = [&file[..2048], &[0; 1024], &file[2048..]].concat();
    let pages = PageFile::new(shifted.as_slice(), None).unwrap();
    let found = carved_from(&pages);
    let runs: Vec<_> =
        found.carved.runs.iter().map(|(run, _)| (run.index, run.id, run.pages, run.place, run.cut)).collect();
    let displaced = Place::Displaced;
    assert_eq!(runs, [(3, 2, 6, displaced, None), (9, 8, 1, displaced, None), (10, 9, 1, displaced, None)]);
    let mut written_over = shifted.clone();
    written_over[5 * 1024..6 * 1024].copy_from_slice(&Builder::page_of_leaf(1024, 4, &[pair("e", "5")]));
    let found = carved(written_over.as_slice(), 1024);
    // Most heads say that the file begins one page before page 0, which no file does.
    let runs: Vec<_> = found.carved.runs.iter().map(|(run, _)| (run.index, run.pages, run.cut)).collect();
    assert_eq!(runs, [(3, 2, Some(Cut::WrittenOver)), (5, 1, None), (9, 1, None), (10, 1, None)]);
}

#[test]
fn of_a_displaced_leaf_all_must_be_sound() {
    let sound = Builder::page_of_leaf(1024, 77, &[pair("a", "1"), pair("b", "2")]);
    let with = |change: fn(&mut [u8])| {
        let mut page = sound.clone();
        change(&mut page);
        let mut file = long_leaf();
        file.extend(&page);
        carved(file.as_slice(), 1024).carved.run(10).map(|run| run.0.place)
    };
    assert_eq!(with(|_| {}), Some(Place::Displaced));
    // Its own place, too.
    assert_eq!(with(|page| page[0] = 10), Some(Place::Placed));
    let changes: [fn(&mut [u8]); 6] = [
        // A meta, a branch, no elements.
        |page| page[0] = 1,
        |page| page[8] = 1,
        |page| page[10] = 0,
        // More pages than it needs; a gap before the first key; keys that do not ascend.
        |page| page[12] = 1,
        |page| page[20] += 1,
        |page| page[48] = b'z',
    ];
    for change in changes {
        assert_eq!(with(change), None);
    }
}

#[test]
fn of_a_flawed_leaf_what_can_be_is_handed_out() {
    let elements: Vec<_> = (0..5).map(|i| pair(&format!("key{i}"), "value")).collect();
    let flawed = |element: usize, word: usize, value: u32| {
        let mut file = long_leaf();
        let mut page = Builder::page_of_leaf(1024, 10, &elements);
        let at = 16 + element * 16 + word * 4;
        page[at..at + 4].copy_from_slice(&value.to_le_bytes());
        file.extend(page);
        let found = carved(file.as_slice(), 1024);
        let (run, whole) = found.carved.run(10).unwrap();
        assert!(run.is_flawed);
        whole.iter().map(|(_, key, _)| String::from_utf8(key.clone()).unwrap()).collect::<Vec<_>>().join(" ")
    };
    // Positions out of the page, before the table's end, into the next element: the elements around tell the right one. Lengths likewise
    // where they are a bit off.
    assert_eq!(flawed(2, 1, 5000), "key0 key1 key2 key3 key4");
    assert_eq!(flawed(2, 1, 3), "key0 key1 key2 key3 key4");
    assert_eq!(flawed(2, 1, 16 * 3 + 2 * 9 + 4), "key0 key1 key2 key3 key4");
    assert_eq!(flawed(2, 3, 900), "key0 key1 key3 key4");
    assert_eq!(flawed(2, 3, 6), "key0 key1 key3 key4");
    assert_eq!(flawed(4, 3, u32::MAX), "key0 key1 key2 key3");
    assert_eq!(flawed(0, 2, 0), "key0 key1 key2 key3 key4");
    assert_eq!(flawed(0, 2, u32::MAX), "key1 key2 key3 key4");
    // The last element may be as long as the page: nothing speaks against it but what it holds.
    let mut file = long_leaf();
    let mut page = Builder::page_of_leaf(1024, 10, &elements);
    let at = page.windows(4).position(|key| key == b"key2").unwrap();
    page[at + 3] = b'9';
    file.extend(page);
    let found = carved(file.as_slice(), 1024);
    let (run, whole) = found.carved.run(10).unwrap();
    assert!(run.is_flawed && whole.len() == 5, "keys out of order are for others to judge");
}

/// Heads that claim the same pages, elements that share bytes, sizes beyond everything.
#[test]
fn hostile_heads_share_nothing() {
    let mut rng = Rng(7);
    for round in 0..300 {
        let mut file = long_leaf();
        file.resize(64 * 1024, 0);
        for page in 10..64u64 {
            let id = if rng.below(3) == 0 { rng.below(80) } else { page };
            let flags = [FLAG_LEAF, FLAG_LEAF, FLAG_LEAF, FLAG_BRANCH, 0x10, 4, 0, 3]
                [usize::try_from(rng.below(8)).unwrap()];
            let count = u16::try_from(rng.below(62)).unwrap();
            let overflow = [0, 1, 3, 70, u32::MAX][usize::try_from(rng.below(5)).unwrap()];
            header(&mut file, page, &PageHeader { id, flags, count, overflow });
            let at = usize::try_from(page).unwrap() * 1024 + 16;
            for word in file[at..at + 62 * 16].chunks_exact_mut(4) {
                let value = [0, 1, 16, rng.below(1024), rng.below(70_000), u64::from(u32::MAX)];
                let value = u32::try_from(value[usize::try_from(rng.below(6)).unwrap()]).unwrap();
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
        let page_size = if round % 5 == 0 { 512 } else { 1024 };
        let found = carved(file.as_slice(), page_size);
        assert!(page_size == 512 || !found.carved.runs.is_empty());
    }
}

#[test]
fn an_empty_leaf_is_one_and_other_pages_are_counted() {
    let mut file = Builder::new(1024);
    let empty = file.leaf(&[]);
    let list = file.freelist(&[5, 6]);
    let root = file.next_id();
    let mut bytes = file.finish(&[bucket("empty", empty)]);
    bytes.resize(8 * 1024, 0);
    bytes[7 * 1024 + 900] = 1;
    // A hash behind it, and the part of a page.
    let mut with_hash = bytes.clone();
    with_hash.extend([7; 32]);
    for (file, trailing) in [(bytes, 0), (with_hash, 32)] {
        let found = carved(file.as_slice(), 1024);
        use PageKind::{Freelist, Leaf, Meta, Unknown, Zero};
        assert_eq!(found.carved.kinds, [Meta, Meta, Leaf, Freelist, Leaf, Zero, Zero, Unknown]);
        assert_eq!(found.carved.trailing_bytes, trailing);
        assert_eq!((empty, list, root), (2, 3, 4));
        for kind in [Meta, Leaf, Freelist, Zero, Unknown] {
            let count = found.carved.kinds.iter().filter(|found| **found == kind).count() as u64;
            assert_eq!(found.carved.histogram.of(kind), count);
        }
    }
}

/// Files read with `pread` and longer than a window give what a slice gives, with holes and without.
#[test]
fn every_way_to_read_gives_the_same() {
    let mut file = Builder::new(4096);
    let many: Vec<_> = (0..3000).map(|i| pair(&format!("{i:05}"), &"v".repeat(i % 4000))).collect();
    let mut root = file.tree(&many, 5, 7);
    // Across the end of the first window.
    let long = file.leaf(&[pair("long", &"l".repeat(3 << 20)), pair("short", "s")]);
    root = root.max(long);
    let bytes = file.finish(&[bucket("key", root)]);
    assert!(bytes.len() > 8 << 20);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, &bytes).unwrap();
    let open = |io| FileSource::new(std::fs::File::open(&path).unwrap(), &path, io).unwrap();
    let holes = vec![5000..5001, 40_000..70_000, (2 << 20) - 1..(2 << 20) + 1, (7 << 20)..(7 << 20) + 5];
    for bad in [Vec::new(), holes] {
        let slice = carved(Holes::new(bytes.as_slice(), bad.clone()), 4096);
        let pread = carved(Holes::new(open(bbolt::Io::Pread), bad.clone()), 4096);
        let map = carved(Holes::new(open(bbolt::Io::Mmap), bad), 4096);
        for other in [pread, map] {
            assert_eq!(other.carved.runs, slice.carved.runs);
            assert_eq!(other.carved.kinds, slice.carved.kinds);
        }
        assert!(slice.carved.run(long).unwrap().0.pages > 700);
    }
}

/// Stops at the third look, and adds up what it hears.
struct Stops {
    looks: AtomicU64,
    most: u64,
    bytes: AtomicU64,
}

impl Watch for Stops {
    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn interrupted(&self) -> bool {
        self.looks.fetch_add(1, Ordering::Relaxed) >= self.most
    }
}

#[test]
fn the_user_hears_of_every_byte_and_may_stop() {
    let mut file = cluster_snapshot();
    file.resize(9 << 20, 0);
    let pages = PageFile::search(file.as_slice(), None).unwrap();
    let watch = |most| Stops { looks: AtomicU64::new(0), most, bytes: AtomicU64::new(0) };
    let heard = watch(u64::MAX);
    carve(&pages, None, &|_: &Leaf<'_>| (), &heard).unwrap();
    assert_eq!(heard.bytes.into_inner(), file.len() as u64);
    for most in 0..5 {
        assert!(matches!(carve(&pages, None, &|_: &Leaf<'_>| (), &watch(most)), Err(Interrupted)));
    }
}

/// Bits flipped and bytes cut in a real file: whatever comes of it, what is said of it holds.
#[test]
fn whatever_is_done_to_a_real_file_the_bounds_hold() {
    let victim = Victim::new(cluster_snapshot());
    let mut rng = Rng(11);
    for _ in 0..60 {
        let mut file = victim.bytes.clone();
        for _ in 0..rng.below(40) {
            let page = rng.below(file.len() as u64 / 4096);
            let within = if rng.below(2) == 0 { 64 } else { 4096 };
            let at = usize::try_from(page * 4096 + rng.below(within)).unwrap();
            file[at] ^= 1 << rng.below(8);
        }
        file.truncate(file.len() - usize::try_from(rng.below(20_000)).unwrap());
        let found = carved(file.as_slice(), 4096);
        assert!(found.whole.len() > 1000);
    }
}
