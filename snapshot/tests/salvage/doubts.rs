//! What speaks against a tree that looks sound: another history in another file, pages of other transactions, lost rows of bucket `meta`.

use snapshot::mvcc::Revision;
use snapshot::salvage::Trust;
use snapshot::salvage::report::Origin;

use crate::member::{Member, PAGE, Pairs, salvage, show};

fn main_of(key: &[u8]) -> i64 {
    Revision::parse(key).unwrap().main
}

/// A member with records up to revision `upto` as `member` has them, and others behind.
fn parted(member: &Member, upto: u64, behind: u64) -> Member {
    let mut other = member.clone();
    other.live(upto);
    // Another history from here on.
    other.random(2);
    other.live(behind);
    other
}

#[test]
fn a_compaction_that_was_not_finished_removed_nothing_for_certain() {
    let mut member = Member::new(50);
    member.live(600);
    member.build();
    // Ordered, not done.
    member.space.scheduled = Some(500);
    member.live(5);
    member.commit(false);
    member.compact(500);
    member.live(20);
    member.commit(true);
    let sound = salvage(&[&member.file]);
    sound.has_exactly(&member.space.records);
    let tree = &sound.report.trees[0];
    assert!(tree.compact_revision == Some(500) && tree.is_sound);
    let dead = |key: &[u8]| !member.space.records.contains_key(key);
    // Each leaf of the newest tree, where the older ones stay as they were.
    let mut came_back = 0;
    for page in 2..member.pages() {
        let mut damaged = member.clone();
        damaged.fill_page(page, 0);
        let outcome = show(&[&damaged.file]).unwrap();
        outcome.is_right_about(&member.ever);
        // With its root gone, what the older one has is all that is known.
        if outcome.report.trees[0].origin != Origin::NewestMeta {
            assert_eq!(outcome.report.exit_code(), 3);
            continue;
        }
        for (key, (_, trust)) in &outcome.records {
            if dead(key) {
                came_back += 1;
                assert_eq!(*trust, Trust::Suspect, "page {page}: {:?} is back", Revision::parse(key));
            }
        }
    }
    println!("{came_back} came back, marked");
}

#[test]
fn an_older_history_does_not_outvote_the_tree() {
    // Both have the same first 300 revisions; the one that goes further was restored there.
    let mut base = Member::new(51);
    base.live(300);
    let mut older = parted(&base, 0, 200);
    older.build();
    // Each record twice, on different pages.
    older.commit(true);
    let mut newer = base.clone();
    newer.live(400);
    newer.build();
    let differing =
        older.space.records.iter().filter(|(key, value)| newer.ever.get(*key) != Some(value)).count();
    assert!(differing > 100, "{differing}");
    for files in [[&older.file[..], &newer.file[..]], [&newer.file[..], &older.file[..]]] {
        let outcome = salvage(&files);
        outcome.has_exactly(&newer.space.records);
        outcome.is_right_about(&newer.ever);
        assert!(outcome.report.findings.iter().any(|finding| finding.code == "SALVAGE-STRANGERS"));
        assert_eq!(outcome.report.exit_code(), 3);
        // What they have in common speaks for each other.
        let confirmed = outcome.records.iter().filter(|(_, (_, trust))| *trust == Trust::Confirmed);
        let (mut common, mut apart) = (0, 0);
        for (key, _) in confirmed {
            *(if base.ever.contains_key(key) { &mut common } else { &mut apart }) += 1;
        }
        assert!(common > 200 && apart == 0, "{common} {apart}");
    }
    // Where the newer file has lost a page, the other history does not fill it.
    let mut damaged = newer.clone();
    let last = damaged.pages() - 4;
    damaged.fill_page(last, 0xEE);
    let outcome = salvage(&[&older.file, &damaged.file]);
    outcome.is_right_about(&newer.ever);
}

#[test]
fn without_bucket_meta_nobody_knows_what_was_compacted() {
    let mut member = Member::new(52);
    member.live(500);
    member.build();
    member.compact(450);
    member.live(20);
    member.commit(true);
    // No root bucket and no rows of meta, wherever they are.
    let mut file = member.file.clone();
    for page in 0..member.pages() {
        let at = page * PAGE;
        let has = |what: &[u8]| file[at..at + PAGE].windows(what.len()).any(|window| window == what);
        if page < 2 || has(b"members_removed") || has(b"consistent_index") {
            file[at..at + PAGE].fill(0);
        }
    }
    let outcome = salvage(&[&file]);
    assert!(outcome.report.trees.is_empty());
    assert_eq!(outcome.report.known.compact_revision, None);
    assert!(member.space.records.keys().all(|key| outcome.records.contains_key(key)));
    assert!(outcome.records.values().all(|(_, trust)| *trust == Trust::Suspect));
    // That revisions are not there is no loss for certain.
    assert!(!outcome.report.account.loses.is_certain(), "{:?}", outcome.report.account.loses);
    assert!(outcome.report.account.holes.iter().any(|hole| hole.fault.contains("compacted")));
    assert_eq!(outcome.report.exit_code(), 3);
}

#[test]
fn a_tree_whose_leaf_was_used_again_is_not_believed() {
    let mut member = Member::new(53);
    member.live(400);
    member.build();
    member.live(60);
    member.commit(false);
    member.live(60);
    let before = member.file.clone();
    member.commit(false);
    let sound = salvage(&[&member.file]);
    sound.has_exactly(&member.space.records);
    assert_eq!(sound.report.exit_code(), 0, "{:?}", sound.report.findings);
    // Of a leaf of the newest tree, the last records are gone, as when a later transaction split it; its page is in order.
    let mut tried = 0;
    for page in before.len() / PAGE..member.pages() {
        let at = page * PAGE;
        let header = bbolt::PageHeader::parse(&member.file[at..]).unwrap();
        let is_leaf = header.flags == 2 && header.count > 6 && header.id == page as u64;
        let key = is_leaf.then(|| {
            let pos = u32::from_le_bytes(member.file[at + 20..at + 24].try_into().unwrap()) as usize;
            member.file[at + 16 + pos..at + 16 + pos + 17].to_vec()
        });
        if !key.is_some_and(|key| member.ever.contains_key(&key)) {
            continue;
        }
        let mut file = member.file.clone();
        let count = header.count - 3;
        file[at + 10..at + 12].copy_from_slice(&count.to_le_bytes());
        let outcome = salvage(&[&file]);
        let missing: Pairs = member
            .space
            .records
            .iter()
            .filter(|(key, _)| !outcome.records.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        tried += 1;
        let is_last = missing.keys().all(|key| main_of(key) > outcome.report.account.last_revision);
        if !is_last {
            assert_eq!(outcome.report.exit_code(), 3);
            assert!(outcome.report.account.missing_revisions >= missing.len() as u64);
        }
        outcome.is_right_about(&member.ever);
    }
    assert!(tried > 0);
}

#[test]
fn newer_pages_behind_a_tree_that_is_in_order_are_told() {
    let mut member = Member::new(54);
    member.live(400);
    member.build();
    member.live(10);
    let before = member.file.clone();
    member.live(10);
    member.commit(false);
    // The pages of the last transaction were written, and its meta was not.
    let mut file = member.file.clone();
    file[..2 * PAGE].copy_from_slice(&before[..2 * PAGE]);
    let outcome = show(&[&file]).unwrap();
    assert_eq!(outcome.report.exit_code(), 3, "{:?}", outcome.report.account);
    // An older file in order beside a newer one of which nothing is left but pages.
    let mut newer = member.file.clone();
    newer[..2 * PAGE].fill(0);
    let outcome = show(&[&before, &newer]).unwrap();
    assert!(member.space.records.keys().all(|key| outcome.records.contains_key(key)));
    assert_eq!(outcome.report.exit_code(), 3);
}

#[test]
fn of_a_lost_meta_the_newer_tree_is_found_by_its_index() {
    let mut member = Member::new(55);
    member.live(200);
    member.build();
    member.live(20);
    member.commit(false);
    // An entry that changes no key.
    member.index += 1;
    member.commit(false);
    let index = member.index;
    let metas: Vec<u64> =
        [0, PAGE].map(|at| u64::from_le_bytes(member.file[at + 64..at + 72].try_into().unwrap())).to_vec();
    let newest = usize::from(metas[1] > metas[0]);
    member.fill_page(newest, 0);
    let outcome = salvage(&[&member.file]);
    outcome.has_exactly(&member.space.records);
    assert_eq!(outcome.report.trees[0].consistent_index, index);
    assert_eq!(outcome.report.exit_code(), 3);
    // The other one was newer, as far as anyone can know.
    let members = outcome.report.account.buckets.iter().find(|bucket| bucket.name == "members").unwrap();
    assert!(members.trust == Trust::Suspect && !members.notes.is_empty());
}

#[test]
fn what_stands_before_a_lost_page_of_a_long_leaf_is_kept() {
    let mut member = Member::new(56);
    member.live(20);
    let long = "y".repeat(6000);
    for number in 0..4 {
        member.space.put("/registry/long", &format!("{number}{long}"));
    }
    member.ever.extend(member.space.records.clone());
    member.build();
    let there = |file: &[u8], value: &[u8]| file.windows(value.len()).any(|window| window == value);
    for page in 2..member.pages() {
        let header = bbolt::PageHeader::parse(&member.file[page * PAGE..]).unwrap();
        if header.id == page as u64 {
            continue;
        }
        let mut damaged = member.clone();
        damaged.fill_page(page, 0);
        let outcome = show(&[&damaged.file]).unwrap();
        for (key, value) in &member.space.records {
            let mut pair = key.clone();
            pair.extend(value);
            if there(&damaged.file, &pair) {
                let found = outcome.records.get(key);
                assert!(
                    found.is_some_and(|(found, _)| found == value),
                    "page {page}: {:?}",
                    Revision::parse(key)
                );
            }
        }
        outcome.is_right_about(&member.ever);
    }
}

/// A restore with `--bump-revision` goes on at a revision far above the last one, in a tree that is in order.
#[test]
fn revisions_that_a_restore_passed_over_are_not_missing() {
    let mut member = Member::new(59);
    member.live(300);
    member.space.revision += 1_000_000;
    // The blank record by which a restore holds the higher revision.
    let blank = Revision { main: member.space.revision, sub: 0, tombstone: false };
    member.space.records.insert(blank.encode(), Vec::new());
    member.live(300);
    member.build();
    let sound = salvage(&[&member.file]);
    sound.has_exactly(&member.space.records);
    assert_eq!(sound.report.exit_code(), 0, "{:?}", sound.report.findings);
    assert_eq!(sound.report.account.missing_revisions, 0);
}
