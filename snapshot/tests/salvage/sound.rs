//! Files that are in order: nothing may be missing, and nothing come back.

use snapshot::mvcc::{KeyValue, Revision};
use snapshot::salvage::Trust;
use snapshot::salvage::report::WayKind;

use crate::member::{Member, salvage, survey};

#[test]
fn a_sound_file_comes_out_as_it_is_by_its_newest_meta() {
    for (seed, revisions) in [(1, 0), (2, 3), (3, 60), (4, 3000)] {
        let mut member = Member::new(seed);
        member.live(revisions);
        member.build();
        let outcome = salvage(&[&member.file]);
        outcome.has_exactly(&member.space.records);
        let report = &outcome.report;
        assert_eq!(report.chosen_way().unwrap().kind, WayKind::NewestMeta);
        assert_eq!(report.exit_code(), 0, "{:#?}", report.findings);
        assert!(report.account.is_complete());
        assert!(outcome.records.values().all(|(_, trust)| *trust == Trust::Single));
        let written = &outcome.written["members"];
        assert_eq!(written.len(), 1);
    }
}

#[test]
fn what_older_generations_left_behind_confirms_and_brings_nothing_back() {
    for seed in 10..14 {
        let mut member = Member::new(seed);
        member.live(800);
        member.build();
        member.live(200);
        member.commit(false);
        member.compact(700);
        member.commit(true);
        member.live(300);
        member.commit(false);
        let outcome = salvage(&[&member.file]);
        outcome.has_exactly(&member.space.records);
        let report = &outcome.report;
        assert_eq!(report.exit_code(), 0, "{:#?}", report.findings);
        assert_eq!(report.chosen_way().unwrap().kind, WayKind::NewestMeta);
        assert!(report.account.confirmed > 0 && report.account.dropped.compacted > 0);
        assert_eq!(report.account.compact_revision, Some(700));
    }
}

#[test]
fn bytes_that_are_no_database_are_refused() {
    for bytes in [vec![0; 100_000], vec![0xAB; 70_001], b"hello".to_vec()] {
        let error = survey(&[&bytes]).unwrap_err();
        assert!(error.to_string().contains("nothing of an etcd database"), "{error}");
    }
}

/// Up to 3.5.14 a compaction at a deletion removes that too, and there may be no record as late as the compaction.
#[test]
fn a_compaction_that_removed_the_last_record_is_no_older_state() {
    let mut member = Member::new(15);
    member.live(60);
    member.space.put("/last", "x");
    member.build();
    member.space.delete("/last");
    member.ever.extend(member.space.records.clone());
    member.index += 1;
    member.commit(false);
    let last = member.space.records.keys().next_back().cloned().unwrap();
    let revision = Revision::parse(&last).unwrap().main;
    member.index += 1;
    member.space.compact(revision, "3.5.1".parse().unwrap());
    assert!(!member.space.records.contains_key(&last));
    member.commit(true);
    let outcome = salvage(&[&member.file]);
    outcome.has_exactly(&member.space.records);
    assert_eq!(outcome.report.chosen_way().unwrap().kind, WayKind::NewestMeta);
    assert_eq!(outcome.report.exit_code(), 0, "{:#?}", outcome.report.findings);
    assert_eq!(outcome.report.trees[0].revision, revision);
}

/// What looks like damage where it is not: sectors of zeros in a value, and a place that a deletion of a range left high.
#[test]
fn what_values_and_places_may_be_is_no_damage() {
    let mut member = Member::new(16);
    member.live(60);
    for (at, byte) in [0u8, 0xff].into_iter().enumerate() {
        let space = &mut member.space;
        let main = space.next();
        let mut value = format!("{at}").into_bytes();
        value.resize(5000 + at * 20_000, byte);
        value.push(b'.');
        let key = format!("/blank/{at}");
        space.add(
            false,
            &KeyValue {
                key: key.as_bytes(),
                value: &value,
                create_revision: main,
                mod_revision: main,
                version: 1,
                ..KeyValue::default()
            },
        );
    }
    member.live(40);
    let first = member.space.records.keys().next().cloned().unwrap();
    let value = member.space.records.remove(&first).unwrap();
    let main = Revision::parse(&first).unwrap().main;
    let far = Revision { main, sub: 300, tombstone: false };
    member.space.records.insert(far.encode(), value);
    let (finished, compacted) = (Some(main), main);
    (member.space.finished, member.space.scheduled) = (finished, Some(compacted));
    member.ever = member.space.records.clone();
    member.build();
    let outcome = salvage(&[&member.file]);
    outcome.has_exactly(&member.space.records);
    assert_eq!(outcome.report.exit_code(), 0, "{:#?}", outcome.report.findings);
}
