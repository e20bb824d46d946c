//! One hazard each: several files, sectors that cannot be read, loss that is refused, ways that are chosen.

use std::ops::Range;

use snapshot::mvcc::Revision;
use snapshot::salvage::report::WayKind;
use snapshot::salvage::{SalvageError, SalvageOptions, Trust, WriteOptions, gather, write};

use crate::member::{Member, PAGE, salvage, salvage_with, show, survey};

fn grown(seed: u64) -> Member {
    let mut member = Member::new(seed);
    member.live(900);
    member.build();
    member.live(100);
    member.commit(false);
    member
}

/// The public case: a young tree in force, tens of thousands of keys in freed pages.
#[test]
fn a_file_whose_metas_were_rolled_back_gives_what_is_in_freed_pages() {
    let mut member = Member::new(30);
    member.live(12);
    member.build();
    let young = member.file[..2 * PAGE].to_vec();
    member.live(2500);
    member.commit(false);
    member.compact(1800);
    member.commit(true);
    let mut file = member.file.clone();
    file[..2 * PAGE].copy_from_slice(&young);
    let outcome = salvage(&[&file]);
    outcome.has_exactly(&member.space.records);
    assert_eq!(outcome.report.chosen_way().unwrap().kind, WayKind::OrphanRoot);
    assert_eq!(outcome.report.account.compact_revision, Some(1800));
    // The young tree is offered too, and said to lose nearly all.
    let as_is = outcome.report.ways.iter().find(|way| way.kind == WayKind::NewestMeta).unwrap();
    assert!(as_is.loses.records > 600 && as_is.loses.is_certain());
    // With its root gone as well, leaves are left: what a compaction removed does not come back unmarked.
    let root = outcome.report.trees[0].root_page;
    let mut worse = file.clone();
    let at = usize::try_from(root).unwrap() * PAGE;
    worse[at..at + PAGE].fill(0);
    let outcome = salvage(&[&worse]);
    outcome.is_right_about(&member.ever);
    assert!(member.space.records.keys().all(|key| outcome.records.contains_key(key)));
    assert_eq!(outcome.report.exit_code(), 3);
}

#[test]
fn files_of_different_age_complete_each_other() {
    let mut member = Member::new(31);
    member.live(1200);
    member.build();
    let older = member.file.clone();
    member.live(300);
    member.commit(false);
    let mut newer = member.file.clone();
    // Every second page of the newer one is lost, but for the metas and what came since.
    let pages = older.len() / PAGE;
    for page in (2..pages).step_by(2) {
        newer[page * PAGE..(page + 1) * PAGE].fill(0xEE);
    }
    for files in [[&older[..], &newer[..]], [&newer[..], &older[..]]] {
        let outcome = salvage(&files);
        outcome.has_exactly(&member.space.records);
        assert_eq!(outcome.report.account.missing_revisions, 0);
    }
    let alone = salvage(&[&newer]);
    assert!(alone.report.account.loses.is_certain());
    // A copy of a file says nothing that the file does not.
    let twice = salvage(&[&newer, &newer]);
    assert_eq!(twice.report.account.confirmed, alone.report.account.confirmed);
    assert_eq!(twice.report.account.records, alone.report.account.records);
}

#[test]
fn files_of_different_members_are_told() {
    let (one, other) = (grown(32), grown(33));
    let outcome = show(&[&one.file, &other.file]).unwrap();
    assert!(outcome.report.findings.iter().any(|finding| finding.code == "SALVAGE-STRANGERS"));
    assert!(outcome.records.values().all(|(_, trust)| *trust != Trust::Confirmed));
}

#[test]
fn what_cannot_be_read_is_salvaged_around() {
    let member = grown(34);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, &member.file).unwrap();
    let pages = member.pages() as u64;
    let bad: Vec<Range<u64>> =
        (0..6).map(|at| (2 + at * pages / 7) * 4096 + 512..(2 + at * pages / 7) * 4096 + 1024).collect();
    let options = SalvageOptions { bad_maps: vec![(None, bad.clone())], ..SalvageOptions::default() };
    let evidence = gather(std::slice::from_ref(&path), &options, &()).unwrap();
    let plan = evidence.plan(&()).unwrap();
    let report = plan.report(1, &()).unwrap();
    assert_eq!(report.inputs[0].bad_bytes, 6 * 512);
    assert_eq!(report.exit_code(), 3);
    let records = report.account.records;
    assert!(records > 800 && records < member.space.records.len() as u64, "{records}");
    // Sector by sector more is left than where the whole page is gone.
    let mut zeroed = member.file.clone();
    for range in bad {
        let from = usize::try_from(range.start / 4096 * 4096).unwrap();
        zeroed[from..from + PAGE].fill(0);
    }
    let account = show(&[&zeroed]).unwrap().report.account;
    assert!(records - report.account.suspect > account.records - account.suspect + 10);
    assert_eq!(std::fs::read(&path).unwrap(), member.file);
}

#[test]
fn certain_loss_is_refused_and_nothing_written() {
    let mut member = grown(35);
    for page in [9, 10, 11] {
        member.fill_page(page, 0);
    }
    let evidence = survey(&[&member.file]).unwrap();
    let plan = evidence.plan(&()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.db");
    let mut options = WriteOptions { output: Some(output.clone()), accept_loss: false, owner: None };
    let error = write(&plan, 1, &options, &()).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    let SalvageError::Refused { report } = &error else { panic!("{error}") };
    assert!(report.account.missing_revisions > 0 && !report.account.missing.is_empty());
    assert!(error.to_string().contains("--accept-loss"), "{error}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    options.accept_loss = true;
    for number in 1..=plan.ways() {
        let output = dir.path().join(format!("out{number}.db"));
        let options = WriteOptions { output: Some(output.clone()), ..options.clone() };
        let report = write(&plan, number, &options, &()).unwrap();
        assert_eq!(report.chosen, number);
        assert_eq!(report.output.unwrap().records, report.account.records);
        assert!(output.exists());
    }
    let error = write(&plan, plan.ways() + 1, &options, &()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    // What is there is not written over.
    let there = WriteOptions { output: Some(dir.path().join("out1.db")), ..options };
    assert_eq!(write(&plan, 1, &there, &()).unwrap_err().exit_code(), 1);
}

#[test]
fn what_a_compaction_removed_comes_back_only_when_asked_for() {
    let mut member = Member::new(36);
    member.live(600);
    member.build();
    member.compact(500);
    member.commit(true);
    member.live(50);
    member.commit(false);
    let asked = SalvageOptions { include_compacted: true, ..SalvageOptions::default() };
    let outcome = salvage_with(&[&member.file], &asked);
    // Records that a compaction had removed are known then, and the newest meta's tree lacks them.
    assert_eq!(outcome.report.chosen_way().unwrap().kind, WayKind::Leaves);
    assert!(outcome.report.account.resurrected > 100);
    assert!(member.ever.keys().all(|key| outcome.records.contains_key(key)));
    for (key, (value, trust)) in &outcome.records {
        assert!(member.ever[key] == *value);
        assert_eq!(*trust == Trust::Suspect, !member.space.records.contains_key(key));
    }
}

#[test]
fn a_long_value_over_which_a_page_was_written_is_torn_and_named() {
    let mut member = Member::new(37);
    member.live(30);
    let long = "x".repeat(20_000);
    member.space.put("/registry/long", "first");
    member.space.put("/registry/long", &long);
    member.live(30);
    member.ever.extend(member.space.records.clone());
    member.build();
    let value = member.file.windows(64).position(|window| window == &long.as_bytes()[..64]).unwrap();
    let page = value / PAGE + 2;
    // A leaf as one of an older transaction, in its place.
    let header = bbolt::PageHeader { id: page as u64, flags: 2, count: 1, overflow: 0 };
    let key = Revision { main: 3, sub: 0, tombstone: true }.encode();
    let mut fake = header.encode().to_vec();
    for word in [0u32, 16, u32::try_from(key.len()).unwrap(), 3] {
        fake.extend(word.to_le_bytes());
    }
    fake.extend(&key);
    fake.extend(b"\x0a\x01k");
    fake.resize(PAGE, 0);
    let mut file = member.file.clone();
    file[page * PAGE..(page + 1) * PAGE].copy_from_slice(&fake);
    // A tree that reaches the value is believed, and the value is open to doubt.
    let outcome = salvage(&[&file]);
    let suspects: Vec<_> =
        outcome.records.iter().filter(|(_, (_, trust))| *trust == Trust::Suspect).collect();
    assert_eq!(suspects.len(), 1);
    assert_eq!(outcome.report.exit_code(), 3);
    // Without a tree it is torn, and the one before it stands in.
    let mut lost = file.clone();
    for tree in &outcome.report.trees {
        let at = usize::try_from(tree.root_page).unwrap() * PAGE;
        lost[at..at + PAGE].fill(0);
    }
    let outcome = salvage(&[&lost]);
    let named = &outcome.report.account.lost_keys;
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(named[0].key, "\"/registry/long\"");
    assert!(named[0].is_newest && named[0].stands_in == Some(named[0].revision - 1));
    assert!(outcome.report.account.dropped.torn == 1 && outcome.report.account.loses.is_certain());
}
