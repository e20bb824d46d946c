//! Files that are in order: nothing may be missing, and nothing come back.

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
