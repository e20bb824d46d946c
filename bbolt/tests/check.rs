//! The check engine on sound files and on a table of damaged ones, each made here from a real file.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test itself may")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use bbolt::check::MOST_FINDINGS;
use bbolt::page::{FLAG_BRANCH, FLAG_LEAF};
use bbolt::{Db, Meta, PageId, Report, Severity, Watch, check};
use common::*;
use rstest::rstest;

fn report(bytes: &[u8]) -> Report {
    check(&Db::from_source(bytes).unwrap(), &())
}

fn codes(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().map(|f| f.fault.code()).collect()
}

fn has(report: &Report, code: &str, page: u64) -> bool {
    report.findings.iter().any(|f| f.fault.code() == code && f.fault.page == PageId(page))
}

#[track_caller]
fn assert_has(report: &Report, code: &str, page: u64) {
    assert!(has(report, code, page), "no {code} on page {page} in {:#?}", report.findings);
}

fn victim() -> Victim {
    Victim::new(cluster_snapshot())
}

#[test]
fn real_files_are_clean() {
    for (name, bytes) in all_real() {
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let report = check(&db, &());
        assert_eq!(report.findings, [], "{name}");
        assert!(report.is_sound(), "{name}");
        let s = report.statistics;
        assert_eq!(s.pages, db.meta().high_water_mark, "{name}");
        assert_eq!(
            s.meta_pages + s.freelist_pages + s.branch_pages + s.leaf_pages + s.overflow_pages + s.free_pages,
            s.pages,
            "{name}: every page is something"
        );
        let mut root = db.root().cursor();
        let mut names = 0;
        while root.next().unwrap().is_some_and(|item| item.is_bucket) {
            names += 1;
        }
        assert_eq!(s.buckets, names, "{name}");
        let mut keys = 0;
        let mut root = db.root().cursor();
        while root.next().unwrap().is_some() {
            let mut cursor = root.bucket().unwrap().unwrap().cursor();
            while cursor.next().unwrap().is_some() {
                keys += 1;
            }
        }
        assert_eq!(s.keys, keys, "{name}");
        assert!(s.in_use_bytes > 50_000 && s.in_use_bytes < s.pages * 4096, "{name}");
        assert!((2..5).contains(&s.depth), "{name}");
    }
}

#[rstest]
fn built_files_are_clean(#[values(512, 1024, 4096, 16384, 65536)] page_size: usize) {
    let report = report(&built(page_size, 3000));
    assert_eq!(report.findings, []);
    let s = report.statistics;
    assert_eq!((s.keys, s.buckets, s.inline_buckets, s.free_pages), (3000 + 50 + 2 + 2, 6, 2, 0));
}

/// The parallel proof and the walk by one thread agree on what there is.
#[test]
fn proof_and_search_count_alike() {
    let bytes = built(1024, 20_000);
    let proved = report(&bytes);
    assert!(proved.statistics.pages > 2048);
    assert_eq!(proved.findings, []);
    // A fault in an inline bucket stops the proof and hides no page.
    let mut damaged = bytes.clone();
    let root = usize::try_from(Db::from_source(bytes.as_slice()).unwrap().meta().root.0).unwrap();
    let at = damaged[root * 1024..].windows(2).position(|w| w == b"ax").unwrap() + root * 1024;
    damaged[at] = b'c';
    let searched = report(&damaged);
    assert_eq!(codes(&searched), ["BBOLT-KEY-ORDER"].into());
    assert_eq!(searched.findings[0].bucket, [b"meta"]);
    assert_eq!(proved.statistics, searched.statistics);
}

/// One damage: what it is called, what it does to a sound file, and the code and page it must be reported with.
type Damage = (&'static str, fn(&mut Victim) -> (&'static str, u64));

/// Every damage to tree pages is found at its page, and nothing panics or loops.
const DAMAGES: &[Damage] = &[
    ("leaf zeroed", |v| {
        v.zero(v.leaves[3]);
        ("BBOLT-WRONG-ID", v.leaves[3])
    }),
    ("branch zeroed", |v| {
        v.zero(v.branch);
        ("BBOLT-WRONG-ID", v.branch)
    }),
    ("root page zeroed", |v| {
        v.zero(v.root);
        ("BBOLT-WRONG-ID", v.root)
    }),
    ("zeroed, but for the id", |v| {
        let id = v.leaves[3];
        v.zero(id);
        v.put64(id, 0, id);
        ("BBOLT-PAGE-TYPE", id)
    }),
    ("two pages swapped", |v| {
        let (a, b) = (v.leaves[2], v.leaves[4]);
        let first = v.page(a).to_vec();
        let second = v.page(b).to_vec();
        v.page(a).copy_from_slice(&second);
        v.page(b).copy_from_slice(&first);
        ("BBOLT-WRONG-ID", b)
    }),
    ("two pages swapped, ids put right: the later one's keys are too small", |v| {
        let (a, b) = (v.leaves[2], v.leaves[4]);
        let first = v.page(a).to_vec();
        let second = v.page(b).to_vec();
        v.page(a).copy_from_slice(&second);
        v.page(b).copy_from_slice(&first);
        v.put64(a, 0, a);
        v.put64(b, 0, b);
        ("BBOLT-BELOW-SEPARATOR", b)
    }),
    ("two children swapped: the earlier one's keys are too large", |v| {
        let (a, b) = (v.leaves[2], v.leaves[4]);
        v.put64(v.branch, 16 + 2 * 16 + 8, b);
        v.put64(v.branch, 16 + 4 * 16 + 8, a);
        ("BBOLT-ABOVE-BOUND", b)
    }),
    ("page id off by one", |v| {
        v.put64(v.leaves[5], 0, v.leaves[5] + 1);
        ("BBOLT-WRONG-ID", v.leaves[5])
    }),
    ("a cycle", |v| {
        v.put64(v.branch, 16 + 8, v.branch);
        ("BBOLT-MULTIPLE-REFERENCES", v.branch)
    }),
    ("a bucket whose root is the root bucket's page", |v| {
        let at = bucket_value_at(v, b"key");
        v.put64(v.root, at, v.root);
        ("BBOLT-MULTIPLE-REFERENCES", v.root)
    }),
    ("a shared child", |v| {
        v.put64(v.branch, 16 + 16 + 8, v.leaves[0]);
        ("BBOLT-MULTIPLE-REFERENCES", v.leaves[0])
    }),
    ("a child beyond the high-water mark", |v| {
        v.put64(v.branch, 16 + 16 + 8, 1 << 40);
        ("BBOLT-OUT-OF-BOUNDS", 1 << 40)
    }),
    ("a child just at the high-water mark, which bbolt lets pass", |v| {
        let mark = v.meta().high_water_mark;
        v.put64(v.branch, 16 + 16 + 8, mark);
        ("BBOLT-OUT-OF-BOUNDS", mark)
    }),
    ("a meta as child", |v| {
        v.put64(v.branch, 16 + 16 + 8, 1);
        ("BBOLT-OUT-OF-BOUNDS", 1)
    }),
    ("keys out of order", |v| {
        let id = v.leaves[1];
        let second = v.get64(id, 16 + 16 + 8);
        let position = u32::from_le_bytes(v.page(id)[16 + 20..16 + 24].try_into().unwrap());
        v.put64(id, 16 + 8, second);
        v.put32(id, 16 + 4, position + 16);
        ("BBOLT-KEY-ORDER", id)
    }),
    ("an empty key", |v| {
        v.put32(v.leaves[1], 16 + 8, 0);
        ("BBOLT-EMPTY-KEY", v.leaves[1])
    }),
    ("an element past its page", |v| {
        v.put32(v.leaves[1], 16 + 16 + 4, 0xFFFF_0000);
        ("BBOLT-ELEMENT-BOUNDS", v.leaves[1])
    }),
    ("a value past its page", |v| {
        v.put32(v.leaves[1], 16 + 16 + 12, u32::MAX);
        ("BBOLT-ELEMENT-BOUNDS", v.leaves[1])
    }),
    ("an element inside the element table", |v| {
        v.put32(v.leaves[1], 16 + 4, 0);
        ("BBOLT-ELEMENT-BOUNDS", v.leaves[1])
    }),
    ("more elements than fit", |v| {
        v.put16(v.leaves[1], 10, 0xFFFF);
        ("BBOLT-ELEMENT-COUNT", v.leaves[1])
    }),
    ("overflow past the file", |v| {
        v.put32(v.leaves[1], 12, 0xFFFF);
        ("BBOLT-OUT-OF-BOUNDS", v.leaves[1])
    }),
    ("overflow of the largest number", |v| {
        v.put32(v.leaves[1], 12, u32::MAX);
        ("BBOLT-OUT-OF-BOUNDS", v.leaves[1])
    }),
    ("a leaf without elements", |v| {
        v.put16(v.leaves[1], 10, 0);
        ("BBOLT-EMPTY-LEAF", v.leaves[1])
    }),
    ("a branch without children", |v| {
        v.put16(v.branch, 10, 0);
        ("BBOLT-EMPTY-BRANCH", v.branch)
    }),
    ("a branch with one child", |v| {
        v.put16(v.branch, 10, 1);
        ("BBOLT-LONE-CHILD", v.branch)
    }),
    ("a leaf that says it is a branch", |v| {
        v.put16(v.leaves[1], 8, 1);
        ("BBOLT-ELEMENT-BOUNDS", v.leaves[1])
    }),
    ("a bucket's value too short", |v| {
        let at = element_of(v, b"key");
        v.put32(v.root, at + 12, 8);
        ("BBOLT-BUCKET-LENGTH", v.root)
    }),
    ("an inline bucket's value without its page", |v| {
        let at = element_of(v, b"alarm");
        v.put32(v.root, at + 12, 24);
        ("BBOLT-BUCKET-LENGTH", v.root)
    }),
    ("an inline page that is a branch", |v| {
        let at = bucket_value_at(v, b"members") + 16;
        v.put16(v.root, at + 8, 1);
        ("BBOLT-INLINE-TYPE", v.root)
    }),
    ("an inline page with more elements than fit", |v| {
        let at = bucket_value_at(v, b"members") + 16;
        v.put16(v.root, at + 10, 900);
        ("BBOLT-ELEMENT-COUNT", v.root)
    }),
    ("an element past its inline page", |v| {
        let at = bucket_value_at(v, b"members") + 16;
        v.put32(v.root, at + 16 + 4, 4000);
        ("BBOLT-ELEMENT-BOUNDS", v.root)
    }),
    ("a bucket in an inline bucket", |v| {
        let at = bucket_value_at(v, b"members") + 16;
        v.put32(v.root, at + 16, 1);
        ("BBOLT-BUCKET-IN-INLINE", v.root)
    }),
    ("an ordinary key of `key` marked as bucket", |v| {
        v.put32(v.leaves[1], 16, 1);
        ("BBOLT-MULTIPLE-REFERENCES", 0)
    }),
    ("the root bucket names page 2^64-1", |v| {
        let at = bucket_value_at(v, b"key");
        v.put64(v.root, at, u64::MAX);
        ("BBOLT-OUT-OF-BOUNDS", u64::MAX)
    }),
];

/// Offset of the element `name` in the root leaf.
fn element_of(victim: &Victim, name: &[u8]) -> usize {
    let db = Db::from_source(victim.bytes.as_slice()).unwrap();
    let node = db.node(PageId(victim.root)).unwrap();
    let index = (0..node.count()).find(|i| node.key(*i) == name).unwrap();
    16 + usize::from(index) * 16
}

fn bucket_value_at(victim: &Victim, name: &[u8]) -> usize {
    let db = Db::from_source(victim.bytes.as_slice()).unwrap();
    let node = db.node(PageId(victim.root)).unwrap();
    let index = (0..node.count()).find(|i| node.key(*i) == name).unwrap();
    node.value_range(index).start
}

#[test]
fn every_damage_is_found_where_it_is() {
    for (name, damage) in DAMAGES {
        let mut victim = victim();
        let (code, page) = damage(&mut victim);
        let found = report(&victim.bytes);
        assert!(!found.is_sound(), "{name}");
        // What a value read as bucket header points at depends on the data; that it is reported does not.
        if page != 0 {
            assert!(has(&found, code, page), "{name}: no {code} on page {page} in {:#?}", found.findings);
        }
        assert_eq!(found, report(&victim.bytes), "{name}: the same on every run");
        for finding in &found.findings {
            assert_eq!(finding.severity, Severity::Error, "{name}");
            assert!(!finding.fault.to_string().is_empty());
        }
        let sorted = found.findings.is_sorted_by_key(|f| (f.fault.page, f.fault.span, f.fault.code()));
        assert!(sorted, "{name}");
    }
}

/// A finding says which bucket and which keys it costs, and who names the page.
#[test]
fn a_finding_has_an_address() {
    let mut victim = victim();
    let leaf = victim.leaves[3];
    let sound = victim.bytes.clone();
    victim.zero(leaf);
    let found = report(&victim.bytes);
    let [finding] = found.findings.as_slice() else { panic!("{:#?}", found.findings) };
    assert_eq!(finding.bucket, [b"key"]);
    assert_eq!(finding.parent, Some(PageId(victim.branch)));
    assert_eq!(finding.fault.span.offset, leaf * 4096);
    let db = Db::from_source(sound.as_slice()).unwrap();
    let root = db.node(PageId(victim.branch)).unwrap();
    assert_eq!(finding.key_range, Some((root.key(3).to_vec(), Some(root.key(4).to_vec()))));
    assert_eq!(finding.fault.to_string(), format!("page {leaf} at {:#x}: calls itself page 0", leaf * 4096));
}

/// The second user is reported once, and names the first.
#[test]
fn a_shared_child_names_its_first_user() {
    let mut victim = victim();
    victim.put64(victim.branch, 16 + 16 + 8, victim.leaves[0]);
    let alarm = element_of(&victim, b"key");
    assert!(alarm > 0);
    let found = report(&victim.bytes);
    let [finding] = found.findings.as_slice() else { panic!("{:#?}", found.findings) };
    let page = victim.leaves[0];
    assert_eq!(
        finding.fault.to_string(),
        format!("page {page} at {:#x}: is used more than once: also by page {}", page * 4096, victim.branch)
    );
}

/// A page's overflow that runs into another page.
#[test]
fn overflow_over_another_page_is_found() {
    let mut file = Builder::new(1024);
    let a = file.leaf(&[pair("a", "1")]);
    let b = file.leaf(&[pair("b", "2")]);
    let root = file.branch(&[("a", a), ("b", b)]);
    let mut bytes = file.finish(&[bucket("key", root)]);
    let at = usize::try_from(a).unwrap() * 1024 + 12;
    bytes[at] = 1;
    let found = report(&bytes);
    let [finding] = found.findings.as_slice() else { panic!("{:#?}", found.findings) };
    assert_eq!((finding.fault.code(), finding.fault.page), ("BBOLT-MULTIPLE-REFERENCES", PageId(b)));
    assert!(finding.fault.to_string().ends_with(&format!("also by page {a}")));
}

#[test]
fn shapes_that_kill_a_server_later() {
    let mut file = Builder::new(1024);
    let a = file.leaf(&[pair("a", "1")]);
    let b = file.leaf(&[pair("b", "2")]);
    let c = file.leaf(&[pair("c", "3")]);
    let low = file.branch(&[("a", a), ("b", b)]);
    let root = file.branch(&[("a", low), ("c", c)]);
    let found = report(&file.finish(&[bucket("key", root)]));
    assert_eq!(found.findings.len(), 1);
    assert_has(&found, "BBOLT-UNEVEN-DEPTH", c);

    let mut file = Builder::new(1024);
    let a = file.leaf(&[pair("a", "1")]);
    let b = file.leaf(&[]);
    let root = file.branch(&[("a", a), ("b", b)]);
    let found = report(&file.finish(&[bucket("key", root)]));
    assert_eq!(found.findings.len(), 1);
    assert_has(&found, "BBOLT-EMPTY-LEAF", b);
}

/// A thousand and more pages: the proof meets it on many threads, the list is that of one.
#[test]
fn uneven_depth_in_a_large_file() {
    let mut file = Builder::new(1024);
    let large = file.tree(&pairs(20_000), 9, 7);
    let last = file.leaf(&[pair("zzz", "")]);
    let root = file.branch(&[("key00000000", large), ("zzz", last)]);
    let found = report(&file.finish(&[bucket("key", root)]));
    assert_eq!(found.findings.len(), 1);
    assert_has(&found, "BBOLT-UNEVEN-DEPTH", last);
}

#[test]
fn seventy_levels_end() {
    let mut file = Builder::new(1024);
    let mut child = file.leaf(&[pair("a", "1")]);
    for _ in 0..70 {
        let side = file.leaf(&[pair("b", "2")]);
        child = file.branch(&[("a", child), ("b", side)]);
    }
    let bytes = file.finish(&[bucket("key", child)]);
    let found = report(&bytes);
    assert!(codes(&found).contains("BBOLT-TOO-DEEP"), "{:?}", codes(&found));
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let bucket = db.bucket(b"key").unwrap().unwrap();
    assert_eq!(bucket.cursor().first().unwrap_err().code(), "BBOLT-TOO-DEEP");
    assert_eq!(bucket.leaf_ranges(2).unwrap_err().code(), "BBOLT-TOO-DEEP");
}

/// Ten thousand buckets, each inside the one before: a stack of our own, or none left.
#[test]
fn deeply_nested_buckets_end() {
    let mut file = Builder::new(512);
    let mut inner = file.leaf(&[(0, b"k".to_vec(), Vec::new())]);
    for _ in 0..10_000 {
        inner = file.leaf(&[bucket("b", inner)]);
    }
    let mut bytes = file.finish(&[bucket("b", inner)]);
    let found = report(&bytes);
    assert_eq!((found.findings.len(), found.statistics.buckets), (0, 10_001));
    let innermost = 2 * 512;
    bytes[innermost] = 77;
    let found = report(&bytes);
    assert_eq!(found.findings.len(), 1);
    assert_eq!(found.findings[0].bucket.len(), 10_001);
}

#[rstest]
#[case::root_in_the_metas(|m: &mut Meta| m.root = PageId(1), "BBOLT-META-RANGE", 0)]
#[case::root_beyond(|m: &mut Meta| m.root = PageId(u64::MAX), "BBOLT-META-RANGE", 0)]
#[case::freelist_beyond(|m: &mut Meta| m.freelist = m.high_water_mark, "BBOLT-META-RANGE", 0)]
#[case::freelist_zero(|m: &mut Meta| m.freelist = 0, "BBOLT-META-RANGE", 0)]
#[case::high_water_mark_beyond_the_file(|m: &mut Meta| m.high_water_mark = u64::MAX, "BBOLT-SHORT-FILE", 0)]
#[case::no_pages(|m: &mut Meta| m.high_water_mark = 0, "BBOLT-META-RANGE", 0)]
fn valid_checksum_impossible_meta(#[case] edit: fn(&mut Meta), #[case] code: &str, #[case] page: u64) {
    let mut victim = victim();
    let mut meta = victim.meta();
    edit(&mut meta);
    victim.put_metas(meta);
    let found = report(&victim.bytes);
    assert!(!found.is_sound());
    assert_has(&found, code, page);
}

/// The other meta's damage costs nothing yet: bbolt and etcd open such a file.
#[test]
fn a_bad_second_meta_is_a_warning() {
    let mut victim = victim();
    let other = 1 - Db::from_source(victim.bytes.as_slice()).unwrap().active_slot() as u64;
    victim.page(other)[40] ^= 1;
    let found = report(&victim.bytes);
    assert!(found.is_sound());
    let [finding] = found.findings.as_slice() else { panic!("{:#?}", found.findings) };
    assert_eq!((finding.fault.code(), finding.severity), ("BBOLT-META-CHECKSUM", Severity::Warning));
    assert_eq!(finding.fault.page, PageId(other));
    assert_eq!(found.statistics.meta_pages, 1);
}

/// bbolt never reads a meta page's header.
#[test]
fn a_zeroed_meta_header_is_a_warning() {
    let mut victim = victim();
    victim.page(0)[..16].fill(0);
    let found = report(&victim.bytes);
    assert!(found.is_sound());
    assert_eq!(codes(&found), ["BBOLT-META-HEADER"].into());
}

/// `surgery revert-meta-page` leaves two metas of one transaction; snapshots any parity. Neither is damage.
#[test]
fn transaction_numbers_are_no_findings() {
    let mut victim = victim();
    let meta = victim.meta();
    for txid in [8, 9] {
        victim.put_metas(Meta { txid, ..meta });
        assert_eq!(report(&victim.bytes).findings, []);
    }
    let page = victim.page(0)[16..80].to_vec();
    victim.page(1)[16..80].copy_from_slice(&page);
    assert_eq!(report(&victim.bytes).findings, []);
}

/// Pages of the file that its tree does not use.
fn unused(victim: &Victim) -> Vec<u64> {
    let all_free: Vec<u64> = (2..victim.meta().high_water_mark).collect();
    let lists_all = report(&victim.with_freelist(&all_free).bytes);
    let used: BTreeSet<u64> = lists_all.findings.iter().map(|f| f.fault.page.0).collect();
    assert_eq!(codes(&lists_all), ["BBOLT-REACHABLE-FREED"].into());
    all_free.into_iter().filter(|id| !used.contains(id)).collect()
}

#[test]
fn a_sound_freelist_is_clean() {
    let victim = victim();
    let free = unused(&victim);
    assert!(free.len() > 3);
    let found = report(&victim.with_freelist(&free).bytes);
    assert_eq!(found.findings, []);
    let s = found.statistics;
    assert_eq!((s.freelist_pages, s.free_pages), (1, free.len() as u64));
    assert_eq!(free.len() as u64, report(&victim.bytes).statistics.free_pages);
}

#[test]
fn damaged_freelists() {
    let victim = victim();
    let free = unused(&victim);
    let page = victim.meta().high_water_mark;
    let with = |extra: &[u64]| report(&victim.with_freelist(&[&free, extra].concat()).bytes);

    let live = victim.leaves[2];
    let found = with(&[live]);
    assert_has(&found, "BBOLT-REACHABLE-FREED", live);
    // The address is that of the entry in the freelist.
    let at = page * 4096 + 16 + 8 * free.len() as u64;
    assert_eq!(found.findings[0].fault.span.offset, at);
    assert_eq!(found.findings.len(), 1);

    assert_has(&with(&[page]), "BBOLT-REACHABLE-FREED", page);
    let twice = with(&[free[0]]);
    assert_eq!(twice.findings.len(), 1);
    assert_has(&twice, "BBOLT-FREED-TWICE", free[0]);
    for outside in [0, 1, page + 1, u64::MAX] {
        assert_has(&with(&[outside]), "BBOLT-FREE-OUT-OF-BOUNDS", outside);
    }
    let lost = report(&victim.with_freelist(&free[1..]).bytes);
    assert_eq!(lost.findings.len(), 1);
    assert_has(&lost, "BBOLT-UNREACHABLE-UNFREED", free[0]);

    let mut zeroed = victim.with_freelist(&free);
    zeroed.zero(page);
    let found = report(&zeroed.bytes);
    assert_eq!(found.findings.len(), 1, "an unreadable freelist says nothing of other pages");
    assert_has(&found, "BBOLT-FREELIST-TYPE", page);

    let mut renamed = victim.with_freelist(&free);
    renamed.put64(page, 0, 5);
    assert_has(&report(&renamed.bytes), "BBOLT-WRONG-ID", page);

    let mut shared = victim.with_freelist(&free);
    shared.put64(victim.branch, 16 + 16 + 8, page);
    assert_has(&report(&shared.bytes), "BBOLT-MULTIPLE-REFERENCES", page);
}

/// Count 0xFFFF: the first id is the count.
#[test]
fn a_long_freelist_counts_in_its_first_id() {
    let victim = victim();
    let free = unused(&victim);
    let page = victim.meta().high_water_mark;
    let mut long = victim.with_freelist(&[&[free.len() as u64], free.as_slice()].concat());
    long.put16(page, 10, 0xFFFF);
    assert_eq!(report(&long.bytes).findings, []);
    for count in [4096 / 8, u64::MAX, 1 << 61] {
        long.put64(page, 16, count);
        let found = report(&long.bytes);
        assert_eq!(found.findings.len(), 1);
        assert_has(&found, "BBOLT-ELEMENT-COUNT", page);
    }
}

/// Cut at each page and at one byte before and behind it, a file does not open or is not sound, and nothing panics.
#[test]
fn truncation_at_each_page() {
    let victim = victim();
    let end = victim.at(victim.meta().high_water_mark);
    for page in 0..=end / 4096 {
        for len in [(page * 4096).saturating_sub(1), page * 4096, page * 4096 + 1] {
            let cut = &victim.bytes[..len.min(victim.bytes.len())];
            match Db::from_source(cut) {
                Err(_) => assert!(len < 4096, "meta 0 is whole at {len}"),
                Ok(db) if len < end => {
                    let found = check(&db, &());
                    assert!(!found.is_sound(), "cut at {len}");
                    assert!(codes(&found).contains("BBOLT-SHORT-FILE"), "cut at {len}");
                }
                Ok(db) => assert!(check(&db, &()).is_sound(), "cut at {len}"),
            }
        }
    }
}

/// A hostile file has more faults than anybody wants to read, and they all name long keys.
#[test]
fn findings_are_bounded() {
    let mut file = Builder::new(4096);
    let broken: Vec<Element> = (0..60_000).map(|_| pair("same", "")).collect();
    let roots: Vec<u64> = (0..3).map(|_| file.leaf(&broken)).collect();
    let found = report(&file.finish(&[bucket("a", roots[0]), bucket("b", roots[1]), bucket("c", roots[2])]));
    assert_eq!(found.findings.len(), MOST_FINDINGS);
    assert_eq!(found.dropped, 3 * 59_999 - found.findings.len() as u64);
    assert!(!found.is_sound());

    let mut file = Builder::new(4096);
    let root = file.leaf(&broken);
    let name = "n".repeat(30_000);
    let found = report(&file.finish(&[bucket(&name, root)]));
    assert_eq!(found.findings.len() as u64 + found.dropped, 59_999);
    let named: usize = found.findings.iter().map(|f| f.bucket[0].len()).sum();
    assert!(named <= 64 << 20, "{named}");
}

/// Threads race; the list does not.
#[rstest]
fn the_list_is_the_same_on_any_number_of_threads(#[values(1, 2, 5)] threads: usize) {
    let sound = built(1024, 20_000);
    let db = Db::from_source(sound.as_slice()).unwrap();
    let is_single = |page: u64| db.header(PageId(page)).is_ok_and(|h| h.id == page && h.overflow == 0);
    let single: Vec<u64> = (2..2000).filter(|page| is_single(*page) && is_single(page + 1)).collect();
    let mut bytes = sound.clone();
    let mut damaged = 0;
    for page in single.iter().step_by(53) {
        bytes[usize::try_from(*page).unwrap() * 1024 + 12] = 1;
        damaged += 1;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let found = pool.install(|| report(&bytes));
    assert!(damaged > 10);
    assert_eq!(
        found.findings.iter().filter(|f| f.fault.code() == "BBOLT-MULTIPLE-REFERENCES").count(),
        damaged
    );
    assert_eq!(found, report(&bytes));
}

#[derive(Default)]
struct Meter {
    bytes: AtomicU64,
    stop_after: Option<u64>,
}

impl Watch for Meter {
    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn interrupted(&self) -> bool {
        self.stop_after.is_some_and(|most| self.bytes.load(Ordering::Relaxed) >= most)
    }
}

#[test]
fn progress_ends_at_the_files_size() {
    let sound = built(1024, 20_000);
    let mut damaged = sound.clone();
    damaged[1500 * 1024 + 12] = 1;
    for bytes in [cluster_snapshot(), sound, damaged] {
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let meter = Meter::default();
        check(&db, &meter);
        let whole = db.page_count() * u64::from(db.page_size());
        assert_eq!(meter.bytes.into_inner(), whole);
    }
}

#[test]
fn an_interrupted_check_says_so() {
    let sound = built(1024, 20_000);
    let mut damaged = sound.clone();
    damaged[3 * 1024] ^= 1;
    for bytes in [sound, damaged] {
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let meter = Meter { stop_after: Some(0), ..Meter::default() };
        let found = check(&db, &meter);
        assert!(found.interrupted && !found.is_sound());
        assert!(found.statistics.keys < 20_000);
    }
}

/// Elements that all share one long key's bytes, ascending: the bounds of subtrees are not copied without limit.
#[test]
fn shared_key_bytes_do_not_multiply() {
    let mut file = Builder::new(65536);
    while file.next_id() < 1100 {
        file.leaf(&[pair("x", "")]);
    }
    // One branch page over many pages: key i is the first i bytes of the same run of bytes.
    let count = 20_000usize;
    let mut body = Vec::new();
    for i in 0..count {
        let position = u32::try_from((count - i) * 16).unwrap();
        body.extend(position.to_le_bytes());
        body.extend(u32::try_from(i + 1).unwrap().to_le_bytes());
        body.extend(2u64.to_le_bytes());
    }
    body.extend(vec![b'x'; count]);
    let root = file.page(FLAG_BRANCH, count, &body);
    let found = report(&file.finish(&[bucket("key", root)]));
    assert_eq!((found.findings.len(), found.dropped), (1, 0));
    assert_has(&found, "BBOLT-ELEMENT-OVERLAP", root);
    let named: usize = found
        .findings
        .iter()
        .filter_map(|f| f.key_range.as_ref())
        .map(|(low, high)| low.len() + high.as_ref().map_or(0, Vec::len))
        .sum();
    assert!(named <= 64 << 20);
}

/// One damaged length, within its page: the value runs over the key behind it. bbolt serves it, and its check is silent.
#[test]
fn a_value_that_runs_over_its_neighbour_is_found() {
    let mut file = Builder::new(1024);
    let leaf = file.leaf(&[pair("a", &"1".repeat(600)), pair("b", &"2".repeat(300))]);
    let mut bytes = file.finish(&[bucket("key", leaf)]);
    assert!(report(&bytes).is_sound());
    let length_at = usize::try_from(leaf).unwrap() * 1024 + 16 + 12;
    bytes[length_at..length_at + 4].copy_from_slice(&(600u32 + 100).to_le_bytes());
    let found = report(&bytes);
    assert_eq!(found.findings.len(), 1, "{found:#?}");
    assert_has(&found, "BBOLT-ELEMENT-OVERLAP", leaf);
}

/// Two megabytes whose every bucket is inline and the same: 65,000 times 65,000 keys, hours of work for who goes through each.
#[test]
fn inline_buckets_that_share_their_page_cost_no_time() {
    let count = 65_000usize;
    let table = |flags: u32, len: &dyn Fn(usize) -> (usize, usize, usize)| {
        let mut table = Vec::new();
        for index in 0..count {
            let (start, key, value) = len(index);
            let position = 16 * (count - index) + start;
            let words = [flags as usize, position, key, value].map(|word| u32::try_from(word).unwrap());
            table.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        table
    };
    let mut inline = inline_value(&[]);
    inline[16 + 10..16 + 12].copy_from_slice(&u16::try_from(count).unwrap().to_le_bytes());
    inline.extend(table(0, &|index| (2 * index, 2, 0)));
    inline.extend((0..count).flat_map(|index| u16::try_from(index).unwrap().to_be_bytes()));
    let mut body = table(1, &|index| (count - 1 - index, index + 1, inline.len()));
    body.extend(vec![b'a'; count]);
    body.extend(&inline);
    let mut file = Builder::new(4096);
    let leaf = file.page(FLAG_LEAF, count, &body);
    let bytes = file.finish(&[bucket("key", leaf)]);
    let found = report(&bytes);
    assert_eq!(found.findings.len(), 1);
    assert_has(&found, "BBOLT-ELEMENT-OVERLAP", leaf);
}

/// Buckets in buckets, each with a fault: their names are not put together again for every one of them.
#[test]
fn faults_in_deeply_nested_buckets_cost_no_time() {
    let mut file = Builder::new(512);
    let depth = 40_000;
    for _ in 0..depth {
        let inner = file.next_id() + 1;
        file.leaf(&[bucket("b", inner), pair("z", ""), pair("z", "")]);
    }
    file.leaf(&[pair("a", "")]);
    let found = report(&file.finish(&[bucket("b", 2)]));
    assert_eq!(found.findings.len() as u64 + found.dropped, depth);
    assert!(found.dropped > 0);
}

/// `docs/findings.md` explains each code there is, and none that there is not.
#[test]
fn every_code_is_documented() {
    let codes_in = |text: &'static str, quote: char| -> BTreeSet<&'static str> {
        text.split(quote).filter(|part| part.starts_with("BBOLT-") && !part.contains(' ')).collect()
    };
    let mut used = codes_in(include_str!("../src/fault.rs"), '"');
    used.extend(codes_in(include_str!("../src/meta.rs"), '"'));
    let documented = codes_in(include_str!("../../docs/findings.md"), '`');
    assert_eq!(used, documented);
    assert!(used.len() > 30);
}
