//! Surveys against the check, which walks on its own, on every real file and on files with nested buckets and with damage.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use bbolt::page_file::PageFile;
use bbolt::render::listing::{Listing, Marks};
use bbolt::render::map::{Kind, Map, MapOptions};
use bbolt::survey::{Standing, Standings, Survey, SurveyOptions, survey};
use bbolt::{Db, PageId, Stats, check};
use common::{Builder, all_real, bucket, inline_value, pair};

fn surveyed(db: &Db<&[u8]>) -> Survey {
    survey(db, &SurveyOptions::default(), &()).unwrap()
}

/// What the check counts on its own way through the trees.
fn agrees_with_the_check(name: &str, bytes: &[u8]) {
    let db = Db::from_source(bytes).unwrap();
    let report = check(&db, &());
    assert!(report.is_sound(), "{name}: {:?}", report.findings);
    let survey = surveyed(&db);
    assert!(survey.is_whole, "{name}");
    let sum =
        |of: fn(&bbolt::survey::Counts) -> u64| survey.buckets.iter().map(|b| of(&b.counts)).sum::<u64>();
    let statistics = &report.statistics;
    assert_eq!(sum(|c| c.branch_pages), statistics.branch_pages, "{name}");
    assert_eq!(sum(|c| c.leaf_pages), statistics.leaf_pages, "{name}");
    assert_eq!(sum(|c| c.branch_overflow_pages + c.leaf_overflow_pages), statistics.overflow_pages, "{name}");
    assert_eq!(sum(|c| c.branch_used_bytes + c.leaf_used_bytes), statistics.in_use_bytes, "{name}");
    assert_eq!(sum(|c| c.buckets), statistics.buckets, "{name}");
    assert_eq!(sum(|c| c.inline_buckets), statistics.inline_buckets, "{name}");
    assert_eq!(sum(|c| c.elements - c.buckets + c.inline_elements), statistics.keys, "{name}");
    let standings = Standings::new(&db, survey);
    assert!(standings.is_sound(), "{name}");
    let free = (0..db.page_count()).filter(|id| standings.of(PageId(*id)) == Standing::Free).count() as u64;
    assert_eq!(free, statistics.free_pages, "{name}");
}

#[test]
fn real_files() {
    let files = all_real();
    assert!(files.len() > 15);
    for (name, bytes) in files {
        agrees_with_the_check(&name, &bytes);
    }
}

/// A bucket `outer` of two leaves, in it an inline bucket and `inner`, in that `innermost` with a tree of three levels.
fn nested() -> Vec<u8> {
    let mut builder = Builder::new(512);
    let many: Vec<_> = (0..60).map(|i| pair(&format!("k{i:03}"), &"v".repeat(40))).collect();
    let innermost = builder.tree(&many, 6, 4);
    let inner = builder.leaf(&[bucket("innermost", innermost), pair("x", "y")]);
    let inline = (1, b"in".to_vec(), inline_value(&[pair("a", "b"), pair("c", "d")]));
    let outer = builder.tree(&[inline, bucket("inner", inner), pair("z", &"w".repeat(300))], 2, 4);
    builder.finish(&[bucket("outer", outer)])
}

#[test]
fn nested_buckets() {
    let bytes = nested();
    agrees_with_the_check("nested", &bytes);
    let db = Db::from_source(&bytes[..]).unwrap();
    let survey = surveyed(&db);
    let stats = Stats::new(&db, &survey);
    // By bbolt's rules: levels of a bucket and of the deepest below it add up, names of buckets are keys.
    assert_eq!((stats.top_level_buckets, stats.buckets, stats.inline_buckets), (1, 4, 1));
    assert_eq!(stats.keys, 3 + 2 + 60 + 2);
    assert_eq!(stats.levels, 2 + 1 + 3);
    let of_prefix = |prefix: &[u8]| {
        let options = SurveyOptions { prefix: prefix.to_vec(), list_inline: false };
        Stats::new(&db, &bbolt::survey::survey(&db, &options, &()).unwrap())
    };
    assert_eq!(of_prefix(b"out"), stats);
    assert_eq!(of_prefix(b"p"), Stats::default());
}

#[test]
fn a_cycle_ends_the_walk_and_nothing_is_said_to_be_free() {
    let mut builder = Builder::new(512);
    let leaf = builder.leaf(&[pair("a", "1")]);
    let branch = builder.next_id();
    builder.branch(&[("a", leaf), ("b", branch)]);
    let lost = builder.leaf(&[pair("c", "3")]);
    let bytes = builder.finish(&[bucket("key", branch)]);
    let db = Db::from_source(&bytes[..]).unwrap();
    let survey = surveyed(&db);
    assert!(!survey.is_whole);
    let standings = Standings::new(&db, survey);
    assert!(!standings.is_sound());
    assert_eq!(standings.of(PageId(leaf)), Standing::Used);
    assert_eq!(standings.of(PageId(lost)), Standing::Unknown);
}

#[test]
fn what_the_freelist_forgets_is_lost_and_drawn_as_unreachable() {
    let mut builder = Builder::new(512);
    let leaf = builder.leaf(&[pair("a", "1")]);
    let free = builder.leaf(&[]);
    let lost = builder.leaf(&[pair("long", &"x".repeat(1200))]);
    let freelist = builder.freelist(&[free]);
    let root = builder.leaf(&[bucket("key", leaf)]);
    let bytes = builder.finish_at(root, freelist);
    let db = Db::from_source(&bytes[..]).unwrap();
    let standings = Standings::new(&db, surveyed(&db));
    assert!(!standings.is_sound());
    assert_eq!(
        [leaf, free, lost].map(|id| standings.of(PageId(id))),
        [Standing::Used, Standing::Free, Standing::Lost]
    );
    let pages = PageFile::new(&bytes[..], None).unwrap();
    let marks = Marks::new();
    let listing = Listing::new(&pages, Some(&standings), &marks);
    let mut text = Vec::new();
    listing.write(false, &mut text, &()).unwrap();
    let expected = "\
0        meta       0            \n\
1        meta       0            \n\
2        leaf       1            \n\
3        free                    \n\
4        leaf       1      2     \n\
7        freelist   1            \n\
8        leaf       1            \n";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    let draw = |width, most_lines, faulty: &BTreeSet<PageId>| {
        Map::new(&listing, faulty, MapOptions { width, most_lines, colour: false })
    };
    let map = draw(80, 40, &BTreeSet::new());
    assert_eq!((map.pages_per_cell, map.letters().as_str()), (1, "MML.UooFL"));
    // Three cells in one line: the most telling page of each.
    let map = draw(5, 1, &BTreeSet::from([PageId(8)]));
    assert_eq!((map.pages_per_cell, map.letters().as_str()), (3, "MUX"));
    assert_eq!(map.cells, [Kind::Meta, Kind::Unreachable, Kind::Faulty]);
    let mut text = Vec::new();
    map.write(&mut text, false).unwrap();
    assert!(text.starts_with(b"0 MUX\n\nM meta: 2\n"), "{}", String::from_utf8_lossy(&text));
    let mut coloured = Vec::new();
    map.write(&mut coloured, true).unwrap();
    assert!(coloured.windows(8).any(|bytes| bytes == b"\x1b[30;43m"));
    // However narrow, a cell a line.
    assert_eq!(draw(0, 100, &BTreeSet::new()).cells_per_line, 1);
}

#[test]
fn a_damaged_file_is_surveyed_the_same_way_every_time() {
    let sound = common::cluster_snapshot();
    let page_size = 4096;
    for page in 2..sound.len() / page_size {
        let mut bytes = sound.clone();
        // The page becomes a copy of another, whose children are then reached twice, and its own not at all.
        let other = 2 + (page * 7) % (sound.len() / page_size - 2);
        let from = other * page_size;
        bytes.copy_within(from..from + page_size, page * page_size);
        bytes[page * page_size..page * page_size + 8].copy_from_slice(&(page as u64).to_le_bytes());
        let db = Db::from_source(&bytes[..]).unwrap();
        let (first, second) = (surveyed(&db), surveyed(&db));
        assert_eq!(first.is_whole, second.is_whole);
        let counts = |survey: &Survey| survey.buckets.iter().map(|b| (b.root, b.counts)).collect::<Vec<_>>();
        assert_eq!(counts(&first), counts(&second), "page {page}");
        assert_eq!(first.used.used(), second.used.used(), "page {page}");
        if check(&db, &()).is_sound() {
            assert!(first.is_whole, "page {page}");
        }
    }
}
