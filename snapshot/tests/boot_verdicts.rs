//! What is foretold of a start, against what real servers did with every row of the table of damage
//! (`testdata/log-boots`, which `oracle_log_boots` has them do again).
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod boots;

use std::env;
use std::ops::ControlFlow;

use boots::{booted, foretold, in_the_tables_terms};
use snapshot::boot::{Beside, Start, verdicts};
use snapshot::log_files::{self, LogOptions};
use testdata::damage::{Base, DAMAGES, MemberDir};

fn the_servers_did_so(version: &str) {
    let recorded = booted(version);
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for base in Base::ALL {
        // 250 MB a row: the other versions' in the soak.
        if base == Base::Segments && version != "3.5.16" && env::var_os("ETCD_RESCUE_SOAK").is_none() {
            continue;
        }
        let clean = base.unpack(version, &scratch.path().join(base.name()));
        for damage in DAMAGES.iter().filter(|damage| damage.base == base) {
            let dir = scratch.path().join("copy");
            let mut member = clean.copy_to(&dir);
            damage.damage(&mut member);
            let start = foretold(&member, version);
            let told = in_the_tables_terms(&start, &recorded[damage.name]);
            if told != recorded[damage.name] {
                wrong.push(format!(
                    "{}: foretold {start:?}, the server {:?}",
                    damage.name, recorded[damage.name]
                ));
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::remove_dir_all(clean.path()).unwrap();
    }
    assert!(wrong.is_empty(), "{version}: {wrong:#?}");
}

#[test]
fn etcd_3_4_does_what_is_foretold() {
    the_servers_did_so("3.4.23");
}

#[test]
fn etcd_3_5_1_does_what_is_foretold() {
    the_servers_did_so("3.5.1");
}

#[test]
fn etcd_3_5_16_does_what_is_foretold() {
    the_servers_did_so("3.5.16");
}

/// Damage to a whole log of four segments, whose start lies in the third, and what 3.4.23 and 3.5.16 did with it.
#[test]
fn damage_around_the_heads_of_segments() {
    let scratch = tempfile::tempdir().unwrap();
    let clean = Base::Segments.unpack("3.5.16", &scratch.path().join("clean"));
    type Apply = fn(&mut MemberDir, usize);
    let zero_start: Apply = |member, at| member.zero(&member.segments()[at].clone(), 0..16);
    let snapshot_type: Apply = |member, at| member.put(&member.segments()[at].clone(), 9, &[5]);
    let unknown_type: Apply = |member, at| member.put(&member.segments()[at].clone(), 9, &[6]);
    let rows: [(&str, Apply, usize, Option<&str>); 8] = [
        // What was read last before the zeros is what the next head is held against.
        ("zeros", zero_start, 1, Some("crc mismatch")),
        ("zeros", zero_start, 2, Some("crc mismatch")),
        // A head of another type is a record without data to who comes from the segment before.
        ("a snapshot", snapshot_type, 1, None),
        ("a snapshot", snapshot_type, 2, Some("crc mismatch")),
        ("a snapshot", snapshot_type, 3, None),
        ("an unknown type", unknown_type, 1, None),
        ("an unknown type", unknown_type, 2, Some("crc mismatch")),
        ("an unknown type", unknown_type, 3, Some("unexpected block type")),
    ];
    for (what, apply, at, fails) in rows {
        let dir = scratch.path().join("copy");
        let mut member = clean.copy_to(&dir);
        apply(&mut member, at);
        let start = foretold(&member, "3.5.16");
        match (&start, fails) {
            (Start::Fails { words, .. }, Some(expected)) => assert_eq!(*words, expected, "{what} in {at}"),
            (Start::Starts(found), None) => {
                assert_eq!((found.snapshot.index, found.last.index), (404, 449), "{what} in {at}");
            }
            other => panic!("{what} in {at}: {other:?}"),
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// A server looks for snapshot records in all segments, and takes hard states and snapshot records apart as it goes: 3.5.16
/// panics over one in the first segment, though it would read its entries from the third. Over an entry it does not.
#[test]
fn records_that_are_no_message_before_the_start() {
    let scratch = tempfile::tempdir().unwrap();
    let member = Base::Segments.unpack("3.5.16", scratch.path());
    let files = log_files::open(member.path(), &LogOptions::default(), &()).unwrap();
    let sound = wal::log::read(&files, &|_| ControlFlow::Continue(())).unwrap();
    let beside = Beside {
        snaps: vec![snapshot::boot::SnapshotPoint { index: 404, term: 2 }],
        consistent_index: Some(449),
        ..Beside::default()
    };
    for (what, fails) in [("state", true), ("snapshot", true), ("entry", false)] {
        let mut log = sound.clone();
        log.faults.push(wal::LogFault {
            segment: Some(0),
            file: String::new(),
            record: Some(20),
            offset: Some(0x400),
            kind: wal::LogFaultKind::Record(wal::FaultKind::Payload {
                what,
                len: 2,
                reason: wal::PayloadError::TooLarge { limit: 1 },
            }),
            after: None,
        });
        let start = verdicts(&beside.scene(&log, &files)).remove(2).start;
        assert_eq!(matches!(start, Start::Fails { words: "unmarshal", .. }), fails, "{what}: {start:?}");
    }
}

/// A server reads entries from the segment of its snapshot on: that those before are another member's it does not see.
#[test]
fn metadata_of_segments_before_the_start_does_not_matter() {
    let scratch = tempfile::tempdir().unwrap();
    let mut member = Base::Segments.unpack("3.5.16", scratch.path());
    // The last segment's alone: a conflict for who starts at the snapshot in the one before it.
    member.change_metadata_of_last();
    let start = foretold(&member, "3.5.16");
    assert!(matches!(start, Start::Fails { words: "conflicting metadata found", .. }), "{start:?}");
    // Without a segment between it and the snapshot it starts from, it is the only metadata read.
    let files = log_files::open(member.path(), &LogOptions::default(), &()).unwrap();
    let log = wal::log::read(&files, &|_| ControlFlow::Continue(())).unwrap();
    let beside = Beside {
        snaps: vec![snapshot::boot::SnapshotPoint { index: 430, term: 2 }],
        consistent_index: Some(449),
        ..Beside::default()
    };
    let mut log = log;
    let mut point = log.snapshots.last().unwrap().clone();
    (point.value.index, point.value.term) = (Some(430), Some(2));
    log.snapshots.push(point);
    let verdict = verdicts(&beside.scene(&log, &files)).remove(2);
    let Start::Starts(found) = verdict.start else { panic!("{verdict:?}") };
    assert_eq!((found.snapshot.index, found.last.index), (430, 449));
}

/// Real servers of 3.4.23, 3.5.1 and 3.5.16 come up on this and wait for a leader for ever.
#[test]
fn a_log_without_a_hard_state_names_no_voter() {
    let scratch = tempfile::tempdir().unwrap();
    let member = Base::Overwritten.unpack("3.5.16", scratch.path());
    let files = log_files::open(member.path(), &LogOptions::default(), &()).unwrap();
    let mut log = wal::log::read(&files, &|_| ControlFlow::Continue(())).unwrap();
    let no_voters = |log: &wal::Log| -> Vec<bool> {
        let all = verdicts(&Beside::default().scene(log, &files));
        all.iter()
            .map(|verdict| match &verdict.start {
                Start::Starts(found) => found.voterless,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(no_voters(&log), [false; 5]);
    log.hard_state = None;
    log.server_hard_state = None;
    assert_eq!(no_voters(&log), [true, true, true, true, false]);
}
