//! The account: whatever is certainly lost is counted, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use snapshot::mvcc::{KeyValue, Revision};
use snapshot::salvage::Salvaged;
use snapshot::salvage::report::{Account, Losses, WayKind, WayReport};
use testdata::laboratory::{PlainFile, PlainNode};

use crate::member::{Member, Outcome, PAGE, Pairs, salvage, show, survey};

/// Writes `count` transactions that put some keys each.
fn transactions(member: &mut Member, count: u64) {
    for number in 0..count {
        member.space.next();
        member.index += 1;
        let main = member.space.revision;
        for sub in 0..=i64::try_from(number % 5).unwrap() {
            let key = format!("/tx/{number}/{sub}");
            let value = format!("{main}.{sub}").repeat(20);
            let kv = KeyValue {
                key: key.as_bytes(),
                create_revision: main,
                mod_revision: main,
                version: 1,
                value: value.as_bytes(),
                lease: 0,
            };
            let mut record = Vec::new();
            kv.encode(&mut record);
            member.space.records.insert(Revision { main, sub, tombstone: false }.encode(), record);
        }
    }
    member.ever.extend(member.space.records.clone());
}

/// The leaves of bucket `key` below the newest meta, in key order: first page and pages of each.
fn leaves(file: &[u8]) -> Vec<(usize, usize)> {
    let plain = PlainFile::of(file).unwrap();
    let tree = plain.tree(plain.newest().unwrap().1.root).unwrap();
    let of_key = |node: &&PlainNode| node.bucket.as_deref() == Some(b"key") && node.is_leaf;
    let mut leaves: Vec<&PlainNode> = tree.nodes.iter().filter(of_key).collect();
    let first = |node: &&PlainNode| plain.bytes(&plain.leaf(node.page)[0].key).to_vec();
    leaves.sort_by_key(first);
    leaves.into_iter().map(|leaf| (leaf.page, leaf.pages)).collect()
}

fn without(file: &[u8], page: usize) -> Vec<u8> {
    let mut file = file.to_vec();
    file[page * PAGE..(page + 1) * PAGE].fill(0);
    file
}

/// What is lost of `truth`: records, whole main revisions above `compaction`, and main revisions of which a part is there.
fn lost(truth: &Pairs, outcome: &Outcome, compaction: i64) -> (u64, BTreeSet<i64>, BTreeSet<i64>) {
    let main = |key: &Vec<u8>| Revision::parse(key).unwrap().main;
    let gone: Vec<&Vec<u8>> = truth.keys().filter(|key| !outcome.records.contains_key(*key)).collect();
    let there: BTreeSet<i64> = outcome.records.keys().map(main).collect();
    let (parts, whole): (BTreeSet<i64>, BTreeSet<i64>) =
        gone.iter().map(|key| main(key)).partition(|main| there.contains(main));
    (gone.len() as u64, whole.into_iter().filter(|main| *main > compaction).collect(), parts)
}

fn listed(account: &Account) -> BTreeSet<i64> {
    account.missing.iter().flat_map(|range| range.from..=range.to).collect()
}

#[test]
fn of_a_leaf_that_is_lost_what_is_certain_is_counted_and_no_more() {
    let mut member = Member::new(50);
    transactions(&mut member, 300);
    member.build();
    let leaves = leaves(&member.file);
    assert!(leaves.len() > 8);
    let mut halves = 0;
    for (at, (page, pages)) in leaves.iter().enumerate() {
        assert_eq!(*pages, 1);
        let outcome = salvage(&[&without(&member.file, *page)]);
        let account = &outcome.report.account;
        let (records, whole, parts) = lost(&member.space.records, &outcome, 0);
        assert!(account.loses.is_certain(), "leaf {at}");
        assert_eq!(outcome.report.exit_code(), 3);
        if at + 1 < leaves.len() {
            assert_eq!(listed(account), whole, "leaf {at}");
            let said: BTreeSet<i64> = account.half_revisions.iter().copied().collect();
            assert_eq!(said, parts, "leaf {at}");
            assert_eq!(account.loses.revisions, (whole.len() + parts.len()) as u64);
            assert!(account.loses.open_holes == 0);
        } else {
            // Of the end it is known where it begins.
            assert!(
                listed(account).is_subset(&whole)
                    && listed(account).len() + account.half_revisions.len() == 1
            );
            assert!(account.loses.open_holes == 1);
        }
        let first = account.missing.first().map(|range| range.from);
        assert!(first.is_none_or(|first| first == *whole.first().unwrap()));
        halves += account.half_revisions.len();
        assert!(
            account.missing_records <= records
                && account.half_revisions.is_empty() == (account.missing_records == 0)
        );
    }
    // Most leaves begin or end within a transaction.
    assert!(halves > leaves.len(), "{halves} of {}", leaves.len());
}

#[test]
fn below_the_compaction_a_leaf_that_is_lost_is_a_record_at_least() {
    let mut member = Member::new(51);
    member.live(900);
    member.compact(800);
    member.build();
    for (page, _) in leaves(&member.file) {
        let outcome = salvage(&[&without(&member.file, page)]);
        let account = &outcome.report.account;
        let (records, whole, _) = lost(&member.space.records, &outcome, 800);
        assert!(records > 0 && account.loses.is_certain(), "page {page}");
        assert!(account.loses.records <= records);
        assert!(account.missing_revisions <= whole.len() as u64);
    }
}

/// Every way out of it, with what it lacks.
fn ways(file: &[u8]) -> Vec<(WayKind, Losses, Pairs)> {
    let evidence = survey(&[file]).unwrap();
    let plan = evidence.plan(&()).unwrap();
    let report = plan.report(1, &()).unwrap();
    let records = |number: usize| {
        let mut records = Pairs::new();
        let mut add = |record: &Salvaged<'_>| {
            records.insert(record.revision.encode(), record.value.to_vec());
            ControlFlow::Continue(())
        };
        plan.records(number, &(), &mut add).unwrap();
        records
    };
    let of = |way: &WayReport| (way.kind, way.loses, records(way.number));
    report.ways.iter().map(of).collect()
}

#[test]
fn no_way_says_that_nothing_is_lost_when_something_is() {
    let mut member = Member::new(52);
    member.live(200);
    member.build();
    member.live(30);
    member.commit(false);
    let before = leaves(&member.file).last().unwrap().0;
    member.live(3);
    member.commit(false);
    let leaves = leaves(&member.file);
    let last = leaves.last().unwrap().0;
    for pages in [
        &[last][..],
        &[last, before],
        &[leaves[2].0],
        &[leaves[2].0, before],
        &[0],
        &[1],
        &[0, last],
        &[1, last],
    ] {
        let mut file = member.file.clone();
        for page in pages {
            file = without(&file, *page);
        }
        for (kind, loses, records) in ways(&file) {
            let lacks = member.space.records.keys().any(|key| !records.contains_key(key));
            assert!(!lacks || !loses.is_none(), "{pages:?} {kind:?}: {loses:?}");
        }
    }
    // Of a file that is in order an older tree lacks what is newer, which is all known.
    for (kind, loses, records) in ways(&member.file) {
        let lacks = member.space.records.keys().filter(|key| !records.contains_key(*key)).count();
        assert_eq!((loses.records, loses.open_holes), (lacks as u64, 0), "{kind:?}");
    }
}

#[test]
fn deleted_keys_that_may_be_back_are_counted() {
    let mut member = Member::new(53);
    for number in 0..60 {
        member.space.put(&format!("/a/{number}"), &"a".repeat(100));
    }
    let first = member.space.revision;
    for number in 0..50 {
        match number % 3 {
            0 => member.space.put(&format!("/a/{number}"), &"b".repeat(100)),
            1 => member.space.delete(&format!("/a/{number}")),
            _ => member.space.put("/often", &"c".repeat(100)),
        }
    }
    let last = member.space.revision;
    for number in 0..40 {
        member.space.put(&format!("/b/{number}"), &"d".repeat(100));
    }
    member.space.put("/often", "at last");
    member.space.put("/a/0", "again");
    member.ever.extend(member.space.records.clone());
    member.index = 200;
    member.build();
    let mut seen = 0;
    for (page, _) in leaves(&member.file) {
        let outcome = show(&[&without(&member.file, page)]).unwrap();
        let account = &outcome.report.account;
        let missing = listed(account);
        if missing.is_empty() || missing.iter().any(|main| *main <= first || *main > last) {
            continue;
        }
        seen += 1;
        let lives = |records: &mut dyn Iterator<Item = (&Vec<u8>, &Vec<u8>)>| {
            let mut live = BTreeMap::new();
            for (revision, record) in records {
                let revision = Revision::parse(revision).unwrap();
                let key = KeyValue::decode(record).unwrap().key.to_vec();
                if revision.tombstone {
                    live.remove(&key)
                } else {
                    live.insert(key, revision.main)
                };
            }
            live
        };
        let now = lives(&mut outcome.records.iter().map(|(revision, (record, _))| (revision, record)));
        let right = lives(&mut member.space.records.iter());
        let upto = *missing.last().unwrap();
        let wrong = now.iter().filter(|(key, main)| right.get(*key) != Some(main)).count();
        assert!(wrong > 0);
        assert_eq!(account.keys, now.len() as u64);
        assert_eq!(account.exposed_keys, now.values().filter(|main| **main < upto).count() as u64);
        assert!(account.exposed_keys >= wrong as u64);
        // What was written over is nobody's newest.
        let often = missing.iter().filter(|main| (**main - first - 1) % 3 == 2).count();
        let again = missing.iter().filter(|main| **main == first + 1).count();
        assert_eq!(account.superseded, (often + again) as u64);
    }
    assert!(seen > 0);
}

/// The root page of bucket `key` was freed and used again, for a leaf of the last records: what it does not have is not denied, and what a
/// compaction had kept is neither.
#[test]
fn a_root_whose_page_was_used_again_denies_nothing() {
    let mut member = Member::new(54);
    member.live(900);
    member.compact(800);
    member.build();
    let plain = PlainFile::of(&member.file).unwrap();
    let tree = plain.tree(plain.newest().unwrap().1.root).unwrap();
    let of_key = |node: &&PlainNode| node.bucket.as_deref() == Some(b"key") && node.above.is_empty();
    let root = tree.nodes.iter().find(of_key).unwrap();
    assert!(!root.is_leaf);
    let last: Vec<(&Vec<u8>, &Vec<u8>)> = member.space.records.iter().rev().take(2).collect();
    let header = bbolt::PageHeader { id: root.page as u64, flags: 2, count: 2, overflow: 0 };
    let (mut table, mut pairs) = (header.encode().to_vec(), Vec::<u8>::new());
    for (at, (key, value)) in last.iter().rev().enumerate() {
        let position = 16 * (2 - at) + pairs.len();
        for word in [0, position, key.len(), value.len()] {
            table.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        pairs.extend(key.iter().chain(value.iter()));
    }
    table.extend(pairs);
    assert!(table.len() <= PAGE);
    table.resize(PAGE, 0);
    let mut file = member.file.clone();
    file[root.page * PAGE..(root.page + 1) * PAGE].copy_from_slice(&table);
    let outcome = salvage(&[&file]);
    let missing = member.space.records.keys().filter(|key| !outcome.records.contains_key(*key)).count();
    assert_eq!(missing, 0, "{:?}", outcome.report.account.loses);
    assert_eq!(outcome.report.exit_code(), 3);
}
