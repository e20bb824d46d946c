//! What the files of real members testify, and what comes of it together. testdata/README.md says how they died.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use snapshot::certainty::{Class, Parting, Point, Source, Testimony, Why, contents, judge};
use snapshot::facts::{self, Facts, FactsOptions};
use wal::log::{Log, MemoryLog};
use wal::raftpb::walpb::Snapshot;
use wal::raftpb::{Entry, HardState};
use wal::{LogWriter, Metadata};

fn facts(path: &Path) -> Facts {
    facts::gather(path, &FactsOptions::default(), &()).unwrap()
}

/// The three members of a cluster: n2 was killed first, at entry 1810; n3 later, at 4252; then n1 was stopped without a quorum.
fn three() -> (tempfile::TempDir, [PathBuf; 3]) {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", scratch.path());
    let dirs = ["n1", "n2", "n3"].map(|name| {
        let dir = scratch.path().join(name);
        if dir.join("member").is_dir() { dir } else { scratch.path().join("data").join(name) }
    });
    (scratch, dirs)
}

fn heard(facts: &[Facts]) -> Vec<Testimony> {
    let mut testimonies: Vec<Testimony> = facts.iter().map(|facts| Testimony::of(facts).unwrap()).collect();
    let logs: Vec<_> = facts.iter().map(Facts::log_facts).collect();
    contents::mark(&mut testimonies, &logs, &()).unwrap();
    testimonies
}

#[test]
fn two_of_three_prove_their_last_entry_and_the_third_lacks_it() {
    let (_scratch, dirs) = three();
    let facts = dirs.each_ref().map(|dir| facts(dir));
    let testimonies = heard(&facts);
    for (testimony, (last, commit)) in testimonies.iter().zip([(4252, 4251), (1810, 1809), (4252, 4251)]) {
        assert!(!testimony.may_lack_its_end, "{testimony:?}");
        assert_eq!(testimony.base, Point { index: 0, term: Some(0) });
        assert_eq!(testimony.stretches.last().unwrap().last, last);
        let commits = testimony.committed.iter().filter(|known| known.source == Source::Commit);
        assert_eq!(commits.map(|known| known.index).max(), Some(commit));
        assert!(testimony.stretches.iter().all(|stretch| stretch.mark == 0 && stretch.follows));
    }
    let all = judge(&testimonies);
    assert_eq!(all.certain_to, Point { index: 4252, term: Some(3) });
    assert_eq!(all.chain.last().unwrap().why, Why::Quorum);
    assert!(all.is_complete() && all.branches.is_empty() && all.unread.is_empty(), "{all:?}");
    assert_eq!(all.voters.len(), 3);
    let mut next = 1;
    for part in &all.chain {
        assert_eq!((part.first, part.class), (next, Class::Certain));
        next = part.last + 1;
    }
    assert_eq!(next, 4253);

    // One alone: no leader has told it of its last entry, and nobody knows what the others had.
    let one = judge(&testimonies[2..]);
    assert_eq!((one.certain_to.index, one.has_quorum, one.unread.len()), (4251, false, 2));
    let tail = one.chain.last().unwrap();
    assert_eq!((tail.first, tail.last, tail.class, tail.why), (4252, 4252, Class::Possible, Why::Undecided));

    // With the one that died early it is a quorum; whether the third had the last entry is open.
    let two = judge(&testimonies[1..]);
    assert_eq!((two.certain_to.index, two.has_quorum), (4251, true));
    assert_eq!(two.chain.last().unwrap().class, Class::Possible);
}

/// The last segment loses its end in the middle of a record: what is left was there all the same, and that the rest is
/// missing proves nothing.
#[test]
fn a_log_that_was_cut_denies_nothing() {
    let (_scratch, dirs) = three();
    let wal = dirs[2].join("member/wal");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "wal"));
    names.sort();
    let whole = Testimony::of(&facts(&dirs[2])).unwrap();
    let of_log = facts(&dirs[2]);
    let end = of_log.log_facts().unwrap().report.log.segments.last().unwrap().end_offset;
    drop(of_log);
    OpenOptions::new().write(true).open(names.last().unwrap()).unwrap().set_len(end - 900).unwrap();
    let facts = dirs.each_ref().map(|dir| facts(dir));
    let testimonies = heard(&facts);
    let cut = &testimonies[2];
    let last = cut.stretches.last().unwrap().last;
    assert!(last > 4200 && last < 4252, "{last}");
    assert!(cut.may_lack_its_end && cut.settled_to <= last && cut.settled_to + 3 > last, "{cut:?}");
    assert_eq!(cut.configs, whole.configs);
    let judgement = judge(&testimonies);
    assert_eq!((judgement.certain_to.index, judgement.has_quorum), (4251, true));
    let tail = judgement.chain.last().unwrap();
    assert_eq!((tail.last, tail.class, tail.holders.as_slice()), (4252, Class::Possible, &[0_usize][..]));
}

/// Killed servers of one member: the last entries are only in the log, and the next start commits all of them.
#[test]
fn a_lone_voter_is_certain_of_all_it_has() {
    for version in ["3.4.23", "3.5.16"] {
        let scratch = tempfile::tempdir().unwrap();
        testdata::unpack(&format!("{version}/killed/data.tar.zst"), scratch.path());
        let testimonies = heard(&[facts(&scratch.path().join("data"))]);
        let judgement = judge(&testimonies);
        assert_eq!(judgement.certain_to.index, 96, "{version}: {judgement:?}");
        assert!(judgement.is_complete(), "{version}");
    }
}

/// A database alone says how far the history went, and since 3.5 in which term.
#[test]
fn a_database_alone_names_nobody_and_denies_nothing() {
    for (version, has_term) in [("3.4.23", false), ("3.5.1", true)] {
        let scratch = tempfile::tempdir().unwrap();
        let data = testdata::data_dir(version, scratch.path());
        let facts = facts(&data.join("member/snap/db"));
        let testimony = Testimony::of(&facts).unwrap();
        assert_eq!((testimony.member_id, testimony.may_lack_its_end), (None, true));
        let known = testimony.committed.last().unwrap();
        assert_eq!(known.source, Source::ConsistentIndex);
        assert_eq!(known.term.is_some(), has_term, "{version}");
        let judgement = judge(std::slice::from_ref(&testimony));
        assert_eq!(judgement.known_to, known.index);
        assert_eq!(judgement.certain_to.index, if has_term { known.index } else { 0 });
        assert!(judgement.chain.is_empty() && !judgement.has_quorum);
    }
}

/// A log of a new cluster: these entries (term and data) from index 1 on.
fn log_of(member: u64, entries: &[(u64, &str)]) -> (MemoryLog, Log) {
    let metadata = Metadata { node_id: Some(member), cluster_id: Some(9) };
    let mut writer = LogWriter::new(metadata);
    for (index, (term, data)) in (1_u64..).zip(entries) {
        let data = Some(data.as_bytes().to_vec());
        writer.push_entry(&Entry { index: Some(index), term: Some(*term), data, ..Entry::default() });
    }
    let term = entries.last().map(|(term, _)| *term);
    writer.push_hard_state(HardState { term, vote: Some(0), commit: Some(1) });
    let mut bytes = Vec::new();
    writer.flush(&mut bytes).unwrap();
    let log = MemoryLog::new(vec![(writer.segment_name(), bytes)]);
    let read = wal::log::read(&log, &|_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(read.last_index(), Some(u64::try_from(entries.len()).unwrap()));
    (log, read)
}

/// A member that was behind twice, and each time was sent a snapshot in place of entries: its log is what it ever was.
#[test]
fn entries_that_came_as_snapshots_are_no_lost_end() {
    let mut writer = LogWriter::new(Metadata { node_id: Some(1), cluster_id: Some(9) });
    let state = |commit| HardState { term: Some(2), vote: Some(0), commit: Some(commit) };
    for (sent, entries) in [(None, 1..=3), (Some(5), 6..=8), (Some(12), 13..=14)] {
        if let Some(index) = sent {
            writer.push_snapshot(&Snapshot { index: Some(index), term: Some(2), conf_state: None });
        }
        for index in entries {
            writer.push_entry(&Entry { index: Some(index), term: Some(2), ..Entry::default() });
            writer.push_hard_state(state(index));
        }
    }
    let mut bytes = Vec::new();
    writer.flush(&mut bytes).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join(writer.segment_name()), bytes).unwrap();
    let facts = facts(scratch.path());
    let testimony = Testimony::of(&facts).unwrap();
    assert_eq!(testimony.base, Point { index: 12, term: Some(2) });
    assert!(!testimony.may_lack_its_end, "{testimony:?}");
}

#[test]
fn entries_of_one_index_and_term_that_differ_part_two_histories() {
    let common = [(1, "a"), (1, "b"), (2, "c")];
    let of = |rest: &[(u64, &'static str)]| [&common[..], rest].concat();
    let logs = [
        log_of(1, &of(&[(2, "removes 2"), (2, ""), (3, "x"), (3, "")])),
        log_of(2, &of(&[(2, "put"), (2, ""), (3, "x")])),
        log_of(3, &of(&[(2, "put"), (2, "")])),
    ];
    let template = {
        let scratch = tempfile::tempdir().unwrap();
        testdata::unpack("3.5.16/killed/data.tar.zst", scratch.path());
        Testimony::of(&facts(&scratch.path().join("data"))).unwrap()
    };
    let mut testimonies: Vec<Testimony> = (1..)
        .zip(&logs)
        .map(|(member, (_, log))| {
            let mut testimony = Testimony {
                member_id: Some(member),
                base: Point { index: 0, term: Some(0) },
                committed: Vec::new(),
                configs: Vec::new(),
                ..template.clone()
            };
            testimony.stretches = log
                .standing_runs()
                .map(|run| snapshot::certainty::Stretch {
                    first: run.first_index,
                    last: run.standing_last.unwrap(),
                    term: run.term,
                    mark: 0,
                    follows: true,
                })
                .collect();
            testimony
        })
        .collect();
    let given: Vec<_> = logs.iter().map(|(bytes, log)| Some((bytes, log))).collect();
    contents::mark_logs(&mut testimonies, &given, &()).unwrap();
    let marks: Vec<Vec<(u64, u64, u64)>> = testimonies
        .iter()
        .map(|one| one.stretches.iter().map(|s| (s.first, s.last, u64::from(s.mark > 0))).collect())
        .collect();
    // What follows is told apart also where it looks alike, and what is alike up to there is one.
    assert_eq!(marks[0], [(1, 2, 0), (3, 3, 0), (4, 5, 1), (6, 7, 1)]);
    assert_eq!(marks[1], [(1, 2, 0), (3, 3, 0), (4, 5, 1), (6, 6, 1)]);
    assert_eq!(marks[2], [(1, 2, 0), (3, 3, 0), (4, 5, 1)]);
    assert_eq!(testimonies[1].stretches[2].mark, testimonies[2].stretches[2].mark);
    assert_ne!(testimonies[0].stretches[2].mark, testimonies[1].stretches[2].mark);
    let judgement = judge(&testimonies);
    let conflict = judgement.conflicts.first().unwrap();
    assert_eq!((conflict.after, conflict.parting), (3, Parting::SameTerm));
    let mut sides = conflict.sides.clone();
    sides.sort();
    assert_eq!(sides, [vec![0], vec![1, 2]]);
}
