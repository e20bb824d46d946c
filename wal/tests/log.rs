//! Logs of several segments: against a plain fold over the messages, against what etcd-dump-logs printed, and damaged.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use prost::Message;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use testdata::damage::{Base, DAMAGES, LOG_VERSIONS};
use wal::frame::write_frame;
use wal::log::{Interrupted, MAX_FAULTS, MAX_RUNS, Reach, SegmentStop, ServerEndKind};
use wal::raftpb::{ConfChange, Entry, EntryType, HardState};
use wal::{
    Log, LogFaultKind, LogWriter, MemoryLog, Metadata, Part, Piece, SegmentName, Segments, Unreadable, list,
    log, walpb,
};

fn read(segments: &impl Segments) -> Log {
    log::read(segments, &|_| ControlFlow::Continue(())).unwrap()
}

fn codes(log: &Log) -> BTreeSet<&'static str> {
    log.faults.iter().map(wal::LogFault::code).collect()
}

/// The segments of a directory.
fn of_dir(dir: &Path) -> MemoryLog {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files = list(names)
        .segments
        .into_iter()
        .map(|segment| (segment.name.clone(), sparse(&dir.join(&segment.name))))
        .collect();
    MemoryLog::new(files)
}

/// A file's bytes. Its holes are not touched: most of a segment is one.
fn sparse(path: &Path) -> Vec<u8> {
    let file = fs::File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    let mut at = 0;
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).unwrap();
        let range = usize::try_from(data).unwrap()..usize::try_from(at).unwrap();
        file.read_exact_at(&mut bytes[range], data).unwrap();
    }
    bytes
}

/// What a plain reader makes of a log: frames split by hand, messages decoded by prost, no checksum looked at.
#[derive(Default)]
struct Plain {
    /// Index to term and data, after raft's rule.
    entries: BTreeMap<u64, (u64, Vec<u8>)>,
    /// Where each entry stands: segment, offset, index, term.
    places: Vec<(usize, u64, u64, u64)>,
    state: Option<HardState>,
    snapshots: Vec<walpb::Snapshot>,
    conf_changes: Vec<u64>,
    records: u64,
}

fn plain(log: &MemoryLog) -> Plain {
    let mut plain = Plain::default();
    for (segment, _) in log.names().iter().enumerate() {
        let bytes = log.piece(segment).bytes.into_owned();
        let mut at = 0;
        while at < bytes.len() {
            let word = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            if word == 0 {
                break;
            }
            let len = usize::try_from(word & 0xff_ffff).unwrap();
            let record = walpb::Record::decode(&bytes[at + 8..at + 8 + len]).unwrap();
            plain.records += 1;
            match record.record_type() {
                2 => {
                    let entry = Entry::decode(record.data()).unwrap();
                    plain.entries.split_off(&entry.index());
                    plain.entries.insert(entry.index(), (entry.term(), entry.data().to_vec()));
                    plain.places.push((segment, u64::try_from(at).unwrap(), entry.index(), entry.term()));
                    if entry.entry_type() == 1 {
                        plain.conf_changes.push(entry.index());
                    }
                }
                3 => plain.state = Some(HardState::decode(record.data()).unwrap()),
                5 => plain.snapshots.push(walpb::Snapshot::decode(record.data()).unwrap()),
                _ => {}
            }
            at += 8 + len.next_multiple_of(8);
        }
    }
    plain
}

/// A sound log, against the plain fold.
fn agrees(log: &Log, plain: &Plain) {
    assert_eq!(log.records(), plain.records);
    assert_eq!(log.entries, u64::try_from(plain.places.len()).unwrap());
    assert_eq!(log.last_index(), plain.entries.keys().next_back().copied());
    for (index, (term, _)) in &plain.entries {
        assert_eq!(log.term_of(*index), Some(*term), "entry {index}");
    }
    let standing: u64 = log.standing_runs().map(|run| run.standing_last.unwrap() - run.first_index + 1).sum();
    assert_eq!(standing, u64::try_from(plain.entries.len()).unwrap());
    // The entry that counts is the last one of its index.
    let mut last_place = BTreeMap::new();
    for (segment, offset, index, _) in &plain.places {
        last_place.insert(*index, (*segment, *offset));
    }
    let mut overwritten = Vec::new();
    for (segment, offset, index, term) in &plain.places {
        let counts = plain.entries.contains_key(index) && last_place[index] == (*segment, *offset);
        assert_eq!(log.is_overwritten(*segment, *offset, *index), !counts, "entry {index} at {offset:#x}");
        if !counts {
            overwritten.push((*segment, *index, *term));
        }
    }
    let told: Vec<(usize, u64, u64)> = log
        .overwritten()
        .flat_map(|range| range.indexes.map(move |index| (range.segment, index, range.term)))
        .collect();
    assert_eq!(told, overwritten);
    assert_eq!(log.hard_state.as_ref().map(|state| state.value), plain.state);
    assert_eq!(log.server_hard_state, log.hard_state);
    let snapshots: Vec<&walpb::Snapshot> = log.snapshots.iter().map(|snapshot| &snapshot.value).collect();
    assert!(snapshots.into_iter().eq(&plain.snapshots));
    let changes: Vec<u64> = log.conf_changes.iter().map(|change| change.value.index).collect();
    assert_eq!(changes, plain.conf_changes);
    assert_eq!(log.server_end.unwrap().kind, ServerEndKind::Clean);
    assert!(log.runs.iter().all(|run| run.reach == Reach::Read));
}

#[derive(Debug, Clone)]
enum Step {
    Entries(u8, u8),
    ConfChange,
    /// A new leader, which overwrites so many entries.
    Election(u8),
    State,
    Snapshot,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..20, 0u8..200).prop_map(|(count, len)| Step::Entries(count, len)),
        1 => Just(Step::ConfChange),
        2 => (0u8..12).prop_map(Step::Election),
        2 => Just(Step::State),
        1 => Just(Step::Snapshot),
        2 => Just(Step::Cut),
    ]
}

fn entry(entry_type: EntryType, term: u64, index: u64, data: Vec<u8>) -> Entry {
    Entry { entry_type: Some(entry_type.into()), term: Some(term), index: Some(index), data: Some(data) }
}

/// A log as raft may write it: nothing committed is overwritten.
fn write(steps: &[Step]) -> Vec<(String, Vec<u8>)> {
    let mut writer = LogWriter::new(Metadata { node_id: Some(7), cluster_id: Some(9) });
    let mut files = vec![(writer.segment_name(), Vec::new())];
    let (mut index, mut term, mut commit) = (0u64, 1u64, 0u64);
    for step in steps {
        match step {
            Step::Entries(count, len) => {
                for _ in 0..*count {
                    index += 1;
                    writer.push_entry(&entry(EntryType::Normal, term, index, vec![0x42; usize::from(*len)]));
                }
            }
            Step::ConfChange => {
                index += 1;
                let change = ConfChange { node_id: Some(index), ..ConfChange::default() };
                writer.push_entry(&entry(EntryType::ConfChange, term, index, change.encode_to_vec()));
            }
            Step::Election(back) => {
                term += 1;
                index = commit.max(index.saturating_sub(u64::from(*back))) + 1;
                writer.push_entry(&entry(EntryType::Normal, term, index, Vec::new()));
            }
            Step::State => {
                commit = index;
                writer.push_hard_state(HardState { term: Some(term), vote: Some(7), commit: Some(commit) });
            }
            Step::Snapshot => {
                writer.push_snapshot(&walpb::Snapshot {
                    index: Some(commit),
                    term: Some(term),
                    conf_state: None,
                });
            }
            Step::Cut => {
                writer.cut(&mut files.last_mut().unwrap().1).unwrap();
                files.push((writer.segment_name(), Vec::new()));
            }
        }
    }
    let file = &mut files.last_mut().unwrap().1;
    writer.flush(file).unwrap();
    file.resize(file.len() + 640, 0);
    files
}

proptest! {
    #[test]
    fn a_sound_log_is_what_a_plain_reader_makes_of_it(steps in prop::collection::vec(step(), 0..60)) {
        let segments = MemoryLog::new(write(&steps));
        let log = read(&segments);
        prop_assert_eq!(&log.faults, &[]);
        agrees(&log, &plain(&segments));
    }

    /// Any bytes in any number of segments.
    #[test]
    fn any_bytes_are_safe(files in prop::collection::vec((0u64..4, 0u64..4, prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..300)), 0..5)) {
        let files = files.into_iter().map(|(seq, index, bytes)| (wal::segment_name(seq, index), bytes)).collect();
        let log = read(&MemoryLog::new(files));
        prop_assert!(!log.faults.is_empty());
        for fault in &log.faults {
            prop_assert!(fault.code().starts_with("WAL-") && !fault.to_string().is_empty());
        }
    }
}

fn single(version: &str, scratch: &Path) -> PathBuf {
    testdata::data_dir(version, scratch).join("member/wal")
}

/// The numbers after these words of a sample of etcd-dump-logs.
fn number(sample: &str, name: &str, radix: u32) -> u64 {
    let rest = sample.split(&format!("{name}=")).nth(1).unwrap();
    u64::from_str_radix(rest.split_whitespace().next().unwrap(), radix).unwrap()
}

/// The rows of entries in a sample: term, index, whether it changes members.
fn rows(sample: &str) -> Vec<(u64, u64, bool)> {
    sample
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let (term, index) = (columns.next()?.trim().parse().ok()?, columns.next()?.trim().parse().ok()?);
            Some((term, index, columns.next()? == "conf"))
        })
        .collect()
}

/// Real logs are clean, and hold what the plain fold and etcd-dump-logs 3.6.14 found in them.
#[test]
fn logs_of_servers_agree_with_etcd_dump_logs() {
    let mut dirs = Vec::new();
    let scratch = tempfile::tempdir().unwrap();
    for version in testdata::VERSIONS {
        let dir = single(version, &scratch.path().join(version));
        dirs.push((dir, format!("dump-logs-3.6.14-on-{version}.txt")));
    }
    testdata::unpack("3.5.30/cluster3/data.tar.zst", scratch.path());
    for member in ["n1", "n2", "n3"] {
        let found = walk(scratch.path())
            .into_iter()
            .find(|dir| dir.ends_with(format!("{member}/member/wal")))
            .unwrap();
        dirs.push((found, format!("dump-logs-3.6.14-cluster-3.5.30-{member}.txt")));
    }
    let mut compared = 0;
    for (dir, sample) in dirs {
        let segments = of_dir(&dir);
        let log = read(&segments);
        assert_eq!(log.faults, [], "{sample}");
        let plain = plain(&segments);
        agrees(&log, &plain);
        let sample = testdata::sample(&sample);
        // The first run of the tool; a sample may hold several.
        let first = sample.split("--- rc=").next().unwrap();
        let metadata = log.metadata.unwrap();
        assert_eq!(metadata.node_id(), number(first, "nodeID", 16));
        assert_eq!(metadata.cluster_id(), number(first, "clusterID", 16));
        assert_eq!(log.commit(), number(first, "commitIndex", 10));
        assert_eq!(log.last_index(), Some(number(first, "lastIndex", 10)));
        for (term, index, conf) in rows(first) {
            assert_eq!(log.term_of(index), Some(term));
            assert_eq!(log.conf_changes.iter().any(|change| change.value.index == index), conf);
            compared += 1;
        }
    }
    assert!(compared > 50, "{compared} rows");
}

/// All directories below.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(dir) = found.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.push(path);
            }
        }
    }
    found
}

/// Logs of several segments, of one whose first segments were purged, and one with overwritten entries.
#[test]
fn logs_of_several_segments() {
    for version in LOG_VERSIONS {
        for base in Base::ALL {
            let scratch = tempfile::tempdir().unwrap();
            let member = base.unpack(version, scratch.path());
            let segments = of_dir(&walk(member.path()).into_iter().find(|dir| dir.ends_with("wal")).unwrap());
            let log = read(&segments);
            assert_eq!(log.faults, [], "{version} {base:?}");
            agrees(&log, &plain(&segments));
            assert_eq!(log.overwritten().count() > 0, base == Base::Overwritten, "{version} {base:?}");
            assert_eq!(log.segments[0].head_crc != Some(0), base == Base::Purged, "{version} {base:?}");
            assert_eq!(
                log.first_index(),
                Some(if base == Base::Purged { log.runs[0].first_index } else { 1 })
            );
        }
    }
}

/// A log whose last segment's end is more entries away than any real one's.
fn hand_made(records: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut crc) = (Vec::new(), 0);
    let mut frame = |record_type: i64, data: Option<&[u8]>| {
        crc = wal::crc::update(crc, data.unwrap_or_default());
        let record =
            walpb::Record { record_type: Some(record_type), crc: Some(crc), data: data.map(<[u8]>::to_vec) };
        write_frame(&record.encode_to_vec(), &mut bytes);
    };
    frame(4, None);
    for (record_type, data) in records {
        frame(*record_type, Some(data));
    }
    bytes
}

const FIRST: &str = "0000000000000000-0000000000000000.wal";

fn one_file(bytes: Vec<u8>) -> MemoryLog {
    MemoryLog::new(vec![(FIRST.to_owned(), bytes)])
}

fn metadata() -> (i64, Vec<u8>) {
    (1, vec![8, 7, 16, 9])
}

/// Terms that alternate at every entry: no real log does, and memory stays bounded.
#[test]
fn runs_are_bounded() {
    let extra = 1000;
    let mut records = vec![metadata()];
    for index in 1..=u64::try_from(MAX_RUNS + extra).unwrap() {
        let entry = Entry { term: Some(index), index: Some(index), ..Entry::default() };
        records.push((2, entry.encode_to_vec()));
    }
    let log = read(&one_file(hand_made(&records)));
    assert_eq!((log.runs.len(), log.more_runs), (MAX_RUNS, 1000));
    assert_eq!(codes(&log), BTreeSet::from(["WAL-RUNS"]));
    assert_eq!(log.entries, u64::try_from(MAX_RUNS + extra).unwrap());
    // What was followed is right.
    assert_eq!(log.term_of(77), Some(77));
}

/// Every record broken: most faults are listed, the rest are counted.
#[test]
fn faults_are_bounded() {
    let records: Vec<_> = std::iter::once(metadata()).chain((0..6000).map(|_| (9, vec![1, 2, 3]))).collect();
    let log = read(&one_file(hand_made(&records)));
    assert_eq!((log.faults.len(), log.more_faults), (MAX_FAULTS, 6000 - u64::try_from(MAX_FAULTS).unwrap()));
    assert_eq!(codes(&log), BTreeSet::from(["WAL-RECORD-TYPE"]));
}

fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Vec<(i64, Vec<u8>)> {
    indexes.map(|index| (2, entry(EntryType::Normal, term, index, vec![7; 90]).encode_to_vec())).collect()
}

fn state(commit: u64) -> (i64, Vec<u8>) {
    (3, HardState { term: Some(1), vote: Some(7), commit: Some(commit) }.encode_to_vec())
}

fn snapshot(index: u64) -> (i64, Vec<u8>) {
    (5, walpb::Snapshot { index: Some(index), term: Some(1), conf_state: None }.encode_to_vec())
}

/// What messages say to each other, each in a log whose checksums hold.
#[test]
fn what_raft_would_not_write() {
    let log = |records: &[Vec<(i64, Vec<u8>)>]| read(&one_file(hand_made(&records.concat())));
    let told = |records: &[Vec<(i64, Vec<u8>)>]| -> Vec<LogFaultKind> {
        log(records).faults.into_iter().map(|fault| fault.kind).collect()
    };
    let head = || vec![metadata()];
    assert_eq!(told(&[head(), entries(1..=3, 1), vec![state(3)]]), []);
    assert_eq!(
        told(&[head(), entries(1..=3, 1), entries(6..=7, 1)]),
        [LogFaultKind::EntryGap { after: 3, found: 6 }]
    );
    // A follower that was sent a snapshot goes on behind it.
    let received = [head(), entries(1..=3, 1), vec![snapshot(5), state(5)], entries(6..=7, 1)];
    assert_eq!(told(&received), []);
    assert_eq!((log(&received).first_index(), log(&received).last_index()), (Some(6), Some(7)));
    assert_eq!(
        told(&[head(), entries(1..=3, 2), entries(4..=4, 1)]),
        [LogFaultKind::TermBack { index: 4, term: 1, before: 2 }]
    );
    // An older term may overwrite a newer one: it belongs to a leader elected since.
    assert_eq!(told(&[head(), entries(1..=3, 1), entries(4..=5, 3), entries(4..=4, 2)]), []);
    assert_eq!(
        told(&[head(), entries(1..=3, 1), vec![state(4)]]),
        [LogFaultKind::CommitBeyond { commit: 4, last: 3 }]
    );
    assert_eq!(
        told(&[head(), entries(1..=3, 1), vec![snapshot(3), state(2)]]),
        [LogFaultKind::SnapshotBeyondCommit { index: 3, commit: 2 }]
    );
    assert_eq!(told(&[entries(1..=3, 1)]), [LogFaultKind::NoMetadata]);
    assert_eq!(read(&MemoryLog::default()).faults[0].kind, LogFaultKind::NoSegments);
    // The head's type is not covered by its CRC.
    let mut bytes = hand_made(&[metadata()]);
    bytes[9] = 3;
    let faults = read(&one_file(bytes)).faults;
    assert!(faults.iter().any(|fault| matches!(fault.kind, LogFaultKind::Head { .. })), "{faults:?}");
}

/// Of a damaged record: what follows, and the bit.
#[test]
fn what_stands_behind_a_break() {
    let sound = hand_made(&[vec![metadata()], entries(1..=9, 1), vec![state(9)]].concat());
    let mut bytes = sound.clone();
    bytes.resize(sound.len() + 4096, 0);
    let length = |records: &[(i64, Vec<u8>)]| hand_made(records).len();
    let fourth = length(&[vec![metadata()], entries(1..=3, 1)].concat());
    let fifth = u64::try_from(length(&[vec![metadata()], entries(1..=4, 1)].concat())).unwrap();
    for (at, bit, part) in [
        (1usize, 3u8, Part::Length),
        (9, 3, Part::Type),
        (12, 2, Part::Crc),
        (50, 6, Part::Data),
        (8, 5, Part::Framing),
    ] {
        let mut damaged = bytes.clone();
        damaged[fourth + at] ^= 1 << bit;
        let log = read(&one_file(damaged));
        let [fault] = log.faults.as_slice() else { panic!("{part:?}: {:?}", log.faults) };
        let after = fault.after.unwrap();
        let flip = after.bit_flip.unwrap();
        assert_eq!((flip.offset, flip.bit, flip.part), (u64::try_from(fourth + at).unwrap(), bit, part));
        assert_eq!((after.well_formed_records, after.first_at), (6, Some(fifth)), "{part:?}");
        assert!(!after.zeros_to_end);
        assert_eq!(after.next_segment_continues, None);
        let end = log.server_end.unwrap();
        assert_eq!((end.offset, end.segment), (u64::try_from(fourth).unwrap(), 0));
        assert_eq!(end.kind == ServerEndKind::CutOff, log.segments[0].end.is_cut_off_at_start());
        assert_eq!(
            log.runs.iter().map(|run| run.reach).collect::<Vec<_>>(),
            [Reach::Read, Reach::AfterBreak]
        );
        assert_eq!(log.server_hard_state, None);
        assert_eq!(log.hard_state.map(|state| state.reach), Some(Reach::AfterBreak));
    }
    // The tail of a write that power loss cut short.
    let cut = sound.len() - 20;
    bytes[cut..].fill(0);
    let log = read(&one_file(bytes));
    let [fault] = log.faults.as_slice() else { panic!("{:?}", log.faults) };
    let after = fault.after.unwrap();
    assert!(after.zeros_to_end && after.first_at.is_none() && after.well_formed_records == 0, "{fault:?}");
}

/// A disk that gives out the first bytes of the second segment only.
struct Dying(MemoryLog, usize);

impl Segments for Dying {
    fn names(&self) -> &[SegmentName] {
        self.0.names()
    }

    fn piece(&self, at: usize) -> Piece<'_> {
        let mut piece = self.0.piece(at);
        if at == 1 {
            piece.bytes = Cow::Owned(piece.bytes[..self.1].to_vec());
            let offset = u64::try_from(self.1).unwrap();
            piece.unreadable = Some(Unreadable { offset, message: "Input/output error".to_owned() });
        }
        piece
    }
}

#[test]
fn what_stands_before_an_unreadable_sector_is_read() {
    let files = write(&[Step::Entries(9, 100), Step::Cut, Step::Entries(9, 100)]);
    let sound = read(&MemoryLog::new(files.clone()));
    let dying = Dying(MemoryLog::new(files), 512);
    let log = read(&dying);
    let [fault] = log.faults.as_slice() else { panic!("{:?}", log.faults) };
    assert_eq!((fault.code(), fault.offset, fault.segment), ("WAL-UNREADABLE", Some(512), Some(1)));
    assert_eq!(log.segments[1].end, SegmentStop::Unreadable);
    assert_eq!(log.server_end.unwrap().kind, ServerEndKind::Stops);
    assert_eq!(sound.last_index(), Some(18));
    assert!((10..18).contains(&log.last_index().unwrap()));
}

/// The crc record at the head of a segment is covered by nothing but its neighbours.
#[test]
fn a_bit_of_the_head() {
    let files = write(&[Step::Entries(9, 100), Step::Cut, Step::Entries(9, 100), Step::State]);
    for bit in 0..4 {
        let mut files = files.clone();
        files[1].1[12] ^= 1 << bit;
        let log = read(&MemoryLog::new(files));
        let [fault] = log.faults.as_slice() else { panic!("{:?}", log.faults) };
        let flip = fault.after.unwrap().bit_flip.unwrap();
        assert_eq!((fault.code(), flip.offset, flip.bit, flip.part), ("WAL-CHAIN", 12, bit, Part::Crc));
        assert_eq!(log.last_index(), Some(18));
    }
}

#[test]
fn progress_counts_every_byte_and_can_stop() {
    let segments = MemoryLog::new(write(&[Step::Entries(19, 100), Step::Cut, Step::Entries(9, 100)]));
    let told = AtomicU64::new(0);
    let log = log::read(&segments, &|bytes| {
        told.fetch_add(bytes, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    assert_eq!(told.into_inner(), log.unwrap().len_bytes());
    assert_eq!(log::read(&segments, &|_| ControlFlow::Break(())), Err(Interrupted));
}

/// What only those know who see the db and the `.snap` files as well.
const BESIDE_THE_LOG: [&str; 2] = ["WAL-BEHIND-DB", "WAL-SNAPSHOT-NO-FILE"];

/// The table of damage: the codes expected there that are this crate's business. (Takes 20 s: each row is a directory of
/// up to four segments of 64 MB.)
#[test]
fn damage_is_found() {
    let mut wrong = Vec::new();
    for damage in DAMAGES {
        let scratch = tempfile::tempdir().unwrap();
        let member = damage.make("3.5.16", scratch.path());
        let Some(dir) = walk(member.path()).into_iter().find(|dir| dir.ends_with("wal")) else { continue };
        let log = read(&of_dir(&dir));
        let expected: BTreeSet<&str> = damage
            .codes
            .iter()
            .copied()
            .filter(|code| code.starts_with("WAL-") && !BESIDE_THE_LOG.contains(code))
            .collect();
        if codes(&log) != expected {
            let told: Vec<String> = log.faults.iter().map(ToString::to_string).collect();
            wrong.push(format!("{} ({}): expected {expected:?}, found {told:#?}", damage.name, damage.story));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
