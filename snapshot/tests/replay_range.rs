//! Which entries follow a db: those of members that died, held against what their servers recorded, and what is refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bbolt::{Io, Lock};
use common::opened;
use prost::Message as _;
use snapshot::finding::Severity;
use snapshot::log_files::{self, LogFiles, LogOptions};
use snapshot::replay::range::{self, Bound, EachError, Range, RangeError, Stretch, WhyLeftOut};
use snapshot::schema::Schema;
use wal::log::Log;
use wal::raftpb::{Entry, HardState};
use wal::{LogWriter, Metadata};

/// A member's files, opened.
struct Member {
    dir: PathBuf,
    schema: Schema,
    files: LogFiles,
    log: Log,
}

impl Member {
    fn of(dir: &Path) -> Self {
        let input = opened(dir, Io::Mmap);
        let options = LogOptions { io: Io::Mmap, lock: Lock::None, wal_dir: None };
        let files = log_files::open(dir, &options, &()).unwrap();
        let log = wal::log::read(&files, &|_| std::ops::ControlFlow::Continue(())).unwrap();
        let schema = Schema::read(&input.db().unwrap()).unwrap();
        Self { dir: dir.to_owned(), schema, files, log }
    }

    /// The same with a db that stands at `index`.
    fn at(self, index: u64, term: Option<u64>) -> Self {
        Self { schema: Schema { consistent_index: index, term, ..self.schema }, ..self }
    }

    fn find(&self, to_index: Option<u64>) -> Result<Range, RangeError> {
        range::find(&opened(&self.dir, Io::Mmap), &self.schema, &self.files, &self.log, to_index)
    }

    fn indexes(&self, range: &Range) -> Vec<u64> {
        let mut seen = Vec::new();
        let visit = |entry: &wal::EntryRef<'_>| {
            seen.push(entry.index);
            Ok::<(), ()>(())
        };
        range::each(range.entries(), &self.has(1..=u64::MAX), visit).unwrap();
        seen
    }

    /// These entries, as far as the log has them.
    fn has(&self, entries: RangeInclusive<u64>) -> [Stretch<'_>; 1] {
        [Stretch { files: &self.files, log: &self.log, entries }]
    }
}

fn unpacked(rel: &str) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack(rel, scratch.path());
    let data = scratch.path().join("data");
    (scratch, data)
}

fn left(range: &Range) -> Vec<(u64, u64, WhyLeftOut)> {
    range.left_out.iter().map(|left| (*left.entries.start(), *left.entries.end(), left.why)).collect()
}

/// testdata/README.md has the table of these three: n2 and n3 were killed, n1 was stopped without a quorum.
#[test]
fn a_member_of_three_is_followed_to_its_commit() {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", scratch.path());
    for (name, after, commit, log_last) in
        [("n1", 4251, 4251, 4252), ("n2", 1800, 1809, 1810), ("n3", 4235, 4251, 4252)]
    {
        let dir = testdata::fingerprint(scratch.path());
        let member = Member::of(&find_member(scratch.path(), name));
        let range = member.find(None).unwrap();
        assert_eq!(
            (range.after, range.last, range.log_last, range.commit),
            (after, commit, log_last, commit)
        );
        assert!(!range.is_lone, "{name}");
        let bound = if after == commit { Bound::ConsistentIndex } else { Bound::Commit };
        assert_eq!(range.bound, bound, "{name}");
        assert_eq!(left(&range), [(log_last, log_last, WhyLeftOut::NotCommitted)]);
        assert_eq!(member.indexes(&range), (after + 1..=commit).collect::<Vec<_>>());
        assert_eq!(testdata::fingerprint(scratch.path()), dir);
    }
    let member = Member::of(&find_member(scratch.path(), "n2"));
    let range = member.find(Some(1803)).unwrap();
    assert_eq!((range.last, range.bound), (1803, Bound::Asked));
    assert_eq!(left(&range), [(1804, 1809, WhyLeftOut::Asked), (1810, 1810, WhyLeftOut::NotCommitted)]);
    assert_eq!(member.indexes(&range), [1801, 1802, 1803]);
    let error = member.find(Some(1810)).unwrap_err();
    assert!(matches!(error, RangeError::TooLate { limit: 1809, bound: Bound::Commit, .. }), "{error}");
    assert!(error.to_string().contains("the last entry that can be applied is 1809"), "{error}");
    assert!(matches!(member.find(Some(1799)), Err(RangeError::TooEarly { after: 1800, .. })));
    assert_eq!(member.find(Some(1800)).unwrap().last, 1800);
}

fn find_member(root: &Path, name: &str) -> PathBuf {
    [root.join(name), root.join("data"), root.join("data").join(name), root.join(name).join("data")]
        .into_iter()
        .find(|dir| dir.join("member").is_dir())
        .unwrap()
}

/// Killed servers of one member: the last entries are only in the log, and the next start commits all of them.
#[test]
fn a_lone_voter_is_followed_to_the_end_of_its_log() {
    for version in ["3.4.23", "3.5.16"] {
        let (_scratch, data) = unpacked(&format!("{version}/killed/data.tar.zst"));
        let member = Member::of(&data);
        let range = member.find(None).unwrap();
        assert!(range.is_lone && range.bound == Bound::EndOfLog, "{version}: {range:?}");
        assert_eq!((range.after, range.last, range.log_last), (84, 96, 96), "{version}");
        assert_eq!(left(&range), []);
        assert_eq!(member.indexes(&range), (85..=96).collect::<Vec<_>>());
    }
}

/// Entries that a later leader replaced are not among them, also where the log has several segments.
#[test]
fn what_was_overwritten_is_passed_over() {
    let (_scratch, data) = unpacked("3.5.16/overwritten/data.tar.zst");
    let member = Member::of(&data).at(10, None);
    assert!(member.log.overwritten().next().is_some());
    let range = member.find(None).unwrap();
    let mut terms = Vec::new();
    let visit = |entry: &wal::EntryRef<'_>| {
        terms.push((entry.index, entry.term));
        Ok::<(), ()>(())
    };
    range::each(range.entries(), &member.has(1..=u64::MAX), visit).unwrap();
    let expected: Vec<_> =
        (11..=range.last).map(|index| (index, member.log.term_of(index).unwrap())).collect();
    assert_eq!(terms, expected);

    let (_scratch, data) = unpacked("3.4.23/segments/data.tar.zst");
    let member = Member::of(&data).at(100, None);
    let range = member.find(None).unwrap();
    assert_eq!(member.indexes(&range), (101..=449).collect::<Vec<_>>());
    let mut seen = 0;
    let stopped = range::each(range.entries(), &member.has(1..=u64::MAX), |entry| {
        seen = entry.index;
        if entry.index == 300 { Err("enough") } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(EachError::Visit("enough"))));
    assert_eq!(seen, 300);
}

#[test]
fn a_log_that_begins_too_late_or_has_a_hole_is_a_gap() {
    let (_scratch, data) = unpacked("3.5.16/purged/data.tar.zst");
    let member = Member::of(&data);
    let first = member.log.first_index().unwrap();
    let whole = Member::of(&data).at(first - 1, None).find(None).unwrap();
    assert_eq!((whole.after, whole.last), (first - 1, 386));
    let error = member.at(first - 2, None).find(None).unwrap_err();
    assert!(
        matches!(error, RangeError::Gap { after, found, .. } if (after, found) == (first - 2, first)),
        "{error}"
    );
    assert_eq!(error.exit_code(), 4);
    let said = error.to_string();
    for part in
        [format!("ends at entry {}", first - 2), "1 entry between".to_owned(), "--no-replay".to_owned()]
    {
        assert!(said.contains(&part), "{said}");
    }

    let (_scratch, data) = unpacked("3.5.16/segments/data.tar.zst");
    fs::remove_file(data.join("member/wal/0000000000000001-000000000000008e.wal")).unwrap();
    let member = Member::of(&data).at(120, None);
    let error = member.find(None).unwrap_err();
    assert!(matches!(error, RangeError::Gap { after: 141, found: 281, .. }), "{error}");
    assert!(error.to_string().contains("139 entries between"), "{error}");
    // What stands before the hole is whole.
    assert_eq!(member.find(Some(141)).unwrap().last, 141);
    // A db behind the hole does not need what is missing, though no server starts from such a log.
    let whole = Member::of(&data).at(300, None);
    assert_eq!(whole.find(Some(449)).unwrap().last, 449);
}

#[test]
fn a_db_beyond_its_log_and_one_of_another_history_are_refused() {
    let (_scratch, data) = unpacked("3.5.16/killed/data.tar.zst");
    let term = Member::of(&data).schema.term;
    let error = Member::of(&data).at(97, term).find(None).unwrap_err();
    assert!(matches!(error, RangeError::Ahead { index: 97, last: 96, .. }), "{error}");
    let error = Member::of(&data).at(90, term.map(|term| term + 1)).find(None).unwrap_err();
    assert!(matches!(error, RangeError::Term { index: 90, .. }), "{error}");
    assert!(error.to_string().contains("different histories"), "{error}");
    assert!(Member::of(&data).at(90, term).find(None).is_ok());

    let (_other, other) = unpacked("3.5.1/killed/data.tar.zst");
    let member = Member::of(&data);
    let foreign = Member { schema: Schema { term: None, ..member.schema.clone() }, ..Member::of(&other) };
    // Also without a term, as before 3.5.
    let error = foreign.find(None).unwrap_err();
    assert!(matches!(error, RangeError::Foreign { .. }), "{error}");
    let term = foreign.log.term_of(84);
    let foreign = Member { schema: Schema { term, ..member.schema.clone() }, ..foreign };
    let error = foreign.find(None).unwrap_err();
    assert!(matches!(error, RangeError::Foreign { .. }), "{error}");
    assert_eq!(error.exit_code(), 4);
    // What 3.4 restored has the rows of the cluster that was, until a server has written its own.
    assert!(foreign.at(1, None).find(None).is_ok());
}

#[test]
fn a_newer_snapshot_is_refused_where_the_log_does_not_lead_there() {
    let (_scratch, data) = unpacked("3.5.16/killed/data.tar.zst");
    fs::copy(data.join("member/snap/db"), data.join("member/snap/0000000000000060.snap.db")).unwrap();
    assert_eq!(Member::of(&data).find(None).unwrap().last, 96);
    fs::copy(data.join("member/snap/db"), data.join("member/snap/0000000000000061.snap.db")).unwrap();
    assert_eq!(Member::of(&data).find(Some(90)).unwrap().last, 90);
    let error = Member::of(&data).find(None).unwrap_err();
    assert!(matches!(error, RangeError::NewerSnapshot { .. }), "{error}");
    assert_eq!(error.findings().first().unwrap().severity, Severity::Warning);
    assert!(error.to_string().contains("0000000000000061.snap.db"), "{error}");
}

/// The single fixture's last entry is 190, where its db stands. Damage behind the db is what counts.
#[test]
fn a_broken_log_is_refused_and_followed_as_far_as_asked() {
    for (name, usable) in [("wal-crc-mismatch-middle", None), ("wal-crc-mismatch-last", Some(190))] {
        let (scratch, data) = unpacked(&format!("3.5.30/damaged/{name}.tar.zst"));
        let data = if data.is_dir() { data } else { find_member(scratch.path(), name) };
        let member = Member::of(&data).at(50, None);
        let error = member.find(None).unwrap_err();
        let RangeError::Broken { usable: found, .. } = &error else { panic!("{name}: {error}") };
        let found = *found;
        assert!(found > 50 && found <= 190, "{name}: {error}");
        assert!(usable.is_none_or(|usable| usable == found), "{name}: {error}");
        let said = error.to_string();
        assert!(said.contains("wal repair") && said.contains(&format!("--to-index {found}")), "{said}");
        assert_eq!(error.exit_code(), 4);
        let range = member.find(Some(found)).unwrap();
        assert_eq!(member.indexes(&range), (51..=found).collect::<Vec<_>>());
        assert!(matches!(member.find(Some(found + 1)), Err(RangeError::TooLate { .. })), "{name}");
    }
    // The record that is cut is the last hard state. A server cuts it off and starts with the entries before it, to the last.
    let (scratch, _) = unpacked("3.5.30/damaged/wal-truncated-mid-record.tar.zst");
    let member = Member::of(&find_member(scratch.path(), "wal-truncated-mid-record"));
    let range = member.at(100, None).find(None).unwrap();
    assert_eq!((range.last, range.commit), (190, 189), "{range:?}");
}

/// A log written here: three voters, five entries, a hard state that knows of `commit`.
fn written(data: &Path, commit: u64, zeroed: bool) {
    let wal_dir = data.join("member/wal");
    fs::remove_dir_all(&wal_dir).unwrap();
    fs::create_dir(&wal_dir).unwrap();
    fs::remove_dir_all(data.join("member/snap")).ok();
    let mut writer = LogWriter::new(Metadata { node_id: Some(1), cluster_id: Some(9) });
    for id in 1..=3_u64 {
        let change = wal::raftpb::ConfChange { node_id: Some(id), ..Default::default() };
        writer.push_entry(&Entry {
            entry_type: Some(1),
            term: Some(1),
            index: Some(id),
            data: Some(change.encode_to_vec()),
        });
    }
    for index in 4..=5 {
        writer.push_entry(&Entry { entry_type: Some(0), term: Some(2), index: Some(index), data: None });
    }
    writer.push_hard_state(HardState { term: Some(2), vote: Some(1), commit: Some(commit) });
    let mut bytes = Vec::new();
    writer.flush(&mut bytes).unwrap();
    let path = wal_dir.join(wal::segment_name(0, 0));
    fs::write(&path, &bytes).unwrap();
    if zeroed {
        // A sector of the last record never reached the disk.
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(bytes.len() as u64 + 64).unwrap();
        file.write_all_at(&[1, 0], bytes.len() as u64).unwrap();
    }
}

#[test]
fn a_commit_beyond_the_log_is_refused_and_one_below_leaves_entries_out() {
    let (_scratch, data) = unpacked("3.5.16/killed/data.tar.zst");
    let db = fs::read(data.join("member/snap/db")).unwrap();
    let with = |commit: u64, zeroed: bool| {
        written(&data, commit, zeroed);
        fs::create_dir_all(data.join("member/snap")).unwrap();
        fs::write(data.join("member/snap/db"), &db).unwrap();
        Member::of(&data).at(3, None)
    };
    let range = with(4, false).find(None).unwrap();
    assert_eq!((range.last, range.is_lone, range.bound), (4, false, Bound::Commit));
    assert_eq!(left(&range), [(5, 5, WhyLeftOut::NotCommitted)]);
    // A hard state that was synced late.
    let range = with(2, false).find(None).unwrap();
    assert_eq!((range.last, range.bound), (3, Bound::ConsistentIndex));
    // Its only conf change adds member 1: it alone votes.
    let member = with(2, false);
    let one = Member { schema: Schema { consistent_index: 1, ..member.schema.clone() }, ..member };
    assert_eq!(one.find(None).unwrap().last, 2);
    let member = with(7, false);
    let error = member.find(None).unwrap_err();
    assert!(matches!(error, RangeError::Broken { usable: 5, needed: 7, .. }), "{error}");
    assert!(error.to_string().contains("ends before the last entry that it says is committed"), "{error}");
    assert_eq!(member.find(Some(5)).unwrap().last, 5);
    let range = with(5, true).find(None).unwrap();
    assert_eq!((range.last, range.left_out.len()), (5, 0));
}

/// A member that came as a learner by a snapshot, and was promoted: its log names nobody but itself. Before 3.5 the snapshot record
/// does not say who the others are, and without the `.snap` that it was, nothing does.
#[test]
fn a_member_whose_log_does_not_tell_of_the_others_is_not_taken_for_the_only_one() {
    let (_scratch, data) = unpacked("3.5.16/killed/data.tar.zst");
    let wal_dir = data.join("member/wal");
    fs::remove_file(wal_dir.join(wal::segment_name(0, 0))).unwrap();
    fs::remove_dir_all(data.join("member/snap")).ok();
    let db_at = |conf_state: Option<wal::raftpb::ConfState>| {
        let mut writer = LogWriter::new(Metadata { node_id: Some(3), cluster_id: Some(9) });
        let record = wal::walpb::Snapshot { index: Some(10), term: Some(1), conf_state };
        writer.push_snapshot(&record);
        let change = wal::raftpb::ConfChange { node_id: Some(3), ..Default::default() }.encode_to_vec();
        for (index, entry_type, data) in [(11, 0, None), (12, 1, Some(change)), (13, 0, None), (14, 0, None)]
        {
            let entry_type = Some(entry_type);
            writer.push_entry(&Entry { entry_type, term: Some(2), index: Some(index), data });
        }
        writer.push_hard_state(HardState { term: Some(2), vote: Some(3), commit: Some(12) });
        let mut bytes = Vec::new();
        writer.flush(&mut bytes).unwrap();
        fs::write(wal_dir.join(wal::segment_name(0, 0)), &bytes).unwrap();
        let (_killed, other) = unpacked("3.5.16/killed/data.tar.zst");
        fs::create_dir_all(data.join("member/snap")).unwrap();
        fs::copy(other.join("member/snap/db"), data.join("member/snap/db")).unwrap();
        let member = Member::of(&data).at(11, None);
        Member { schema: Schema { members: Vec::new(), ..member.schema.clone() }, ..member }
    };
    let range = db_at(None).find(None).unwrap();
    assert_eq!((range.last, range.is_lone, range.bound), (12, false, Bound::Commit));
    assert_eq!(left(&range), [(13, 14, WhyLeftOut::NotCommitted)]);
    let learner = |voters| wal::raftpb::ConfState { voters, learners: vec![3], ..Default::default() };
    assert!(!db_at(Some(learner(vec![1]))).find(None).unwrap().is_lone);
    let range = db_at(Some(learner(Vec::new()))).find(None).unwrap();
    assert_eq!((range.last, range.is_lone), (14, true));
}

#[test]
fn an_empty_log_is_none() {
    let (_scratch, data) = unpacked("3.5.16/killed/data.tar.zst");
    for entry in fs::read_dir(data.join("member/wal")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let error = Member::of(&data).find(None).unwrap_err();
    assert!(matches!(error, RangeError::NoLog { .. }), "{error}");
    assert!(error.to_string().contains("--no-replay"), "{error}");
    assert_eq!(error.exit_code(), 4);
}

/// What is read twice must be the same twice.
#[test]
fn a_log_that_changes_meanwhile_is_noticed() {
    let (_scratch, data) = unpacked("3.5.16/killed/data.tar.zst");
    let member = Member::of(&data);
    let range = member.find(None).unwrap();
    let segment = fs::OpenOptions::new().write(true).open(member.files.segment_path(0)).unwrap();
    segment.write_all_at(&[0; 1 << 20], 0).unwrap();
    let visit = |_: &wal::EntryRef<'_>| Ok::<(), ()>(());
    let error = range::each(range.entries(), &member.has(1..=u64::MAX), visit).unwrap_err();
    assert!(matches!(error, EachError::Range(RangeError::Changed { index: 85, .. })), "{error:?}");
}

/// The members of a cluster have the same entries, so what the one lacks comes from the other.
#[test]
fn entries_come_from_the_log_that_is_said_to_have_them() {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", scratch.path());
    let [n2, n3] = ["n2", "n3"].map(|name| Member::of(&find_member(scratch.path(), name)));
    let range = Range { last: 4252, ..n2.find(None).unwrap() };
    let [of_n2] = n2.has(1..=1805);
    let [of_n3] = n3.has(1700..=5000);
    let mut seen = Vec::new();
    let visit = |entry: &wal::EntryRef<'_>| {
        seen.push(entry.index);
        Ok::<(), ()>(())
    };
    range::each(range.entries(), &[of_n2.clone(), of_n3.clone()], visit).unwrap();
    assert_eq!(seen, (1801..=4252).collect::<Vec<_>>());
    // Nobody is said to have 1806 to 1899.
    let later = Stretch { entries: 1900..=4252, ..of_n3 };
    let visit = |_: &wal::EntryRef<'_>| Ok::<(), ()>(());
    let error = range::each(range.entries(), &[of_n2, later], visit).unwrap_err();
    assert!(matches!(error, EachError::Range(RangeError::Changed { index: 1806, .. })), "{error:?}");
}
