//! Damage of many kinds to logs of a server's shape: what is mended reads clean, and nothing outside the stated loss is
//! missing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;
use prost::Message;
use wal::raftpb::{Entry, EntryType, HardState};
use wal::repair::{Change, DbFacts, Facts, Loss, Plan, PlanError, plan, verify, write};
use wal::{LogWriter, MemoryLog, Metadata, Payload, Piece, Segments, read_segment, walpb};

type Files = Vec<(String, Vec<u8>)>;

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn entry(index: u64, term: u64) -> Vec<u8> {
    let len = usize::try_from(index * 37 % 300).unwrap();
    let data = (0..len).map(|at| u8::try_from((at * 31 + len) % 251).unwrap()).collect();
    Entry {
        entry_type: Some(EntryType::Normal.into()),
        term: Some(term),
        index: Some(index),
        data: Some(data),
    }
    .encode_to_vec()
}

/// One thing that happens to a server.
#[derive(Debug, Clone)]
enum Act {
    /// Entries, and the commit of all of them.
    Save(u8),
    /// Entries that are not committed yet.
    Ahead(u8),
    /// A new leader overwrites what is not committed.
    Leader,
    Snapshot,
    Cut,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (1..6u8).prop_map(Act::Save),
        2 => (1..4u8).prop_map(Act::Ahead),
        1 => Just(Act::Leader),
        1 => Just(Act::Snapshot),
        2 => Just(Act::Cut),
    ]
}

/// The files of a log, its entries by raft's rule, its last commit.
fn log(acts: &[Act]) -> (Files, BTreeMap<u64, u64>, u64) {
    let metadata = Metadata { node_id: Some(7), cluster_id: Some(9) };
    let mut writer = LogWriter::new(metadata);
    let mut files: Files = Vec::new();
    let mut file = Vec::new();
    let (mut term, mut last, mut commit) = (2u64, 0u64, 0u64);
    let mut entries: BTreeMap<u64, u64> = BTreeMap::new();
    let state = |term: u64, commit: u64| {
        HardState { term: Some(term), vote: Some(7), commit: Some(commit) }.encode_to_vec()
    };
    for act in acts {
        match act {
            Act::Save(count) | Act::Ahead(count) => {
                let is_committed = matches!(act, Act::Save(_));
                let mut batch = Vec::new();
                for _ in 0..*count {
                    last += 1;
                    entries.insert(last, term);
                    batch.push(entry(last, term));
                }
                commit = if is_committed { last } else { commit };
                let state = state(term, commit);
                writer.save(batch.iter().map(Vec::as_slice), Some(&state)).unwrap();
            }
            Act::Leader => {
                term += 1;
                last = commit + 1;
                entries.retain(|index, _| *index < last);
                entries.insert(last, term);
                let state = state(term, commit);
                writer.save([entry(last, term).as_slice()], Some(&state)).unwrap();
            }
            Act::Snapshot if commit > 0 => writer.push_snapshot(&walpb::Snapshot {
                index: Some(commit),
                term: entries.get(&commit).copied(),
                conf_state: None,
            }),
            Act::Snapshot => {}
            Act::Cut => {
                let name = writer.segment_name();
                writer.cut(&mut file).unwrap();
                files.push((name, std::mem::take(&mut file)));
            }
        }
    }
    let name = writer.segment_name();
    writer.flush(&mut file).unwrap();
    file.resize(file.len() + 4096, 0);
    files.push((name, file));
    (files, entries, commit)
}

fn mend(files: &Files, facts: &Facts) -> Result<(Plan, Files), PlanError> {
    let damaged = MemoryLog::new(files.clone());
    let plan = plan(&damaged, facts, &go_on)?;
    let mut out: Files = Vec::new();
    let names = std::cell::RefCell::new(Vec::new());
    let crc = write(
        &plan,
        &damaged,
        None,
        |name| {
            names.borrow_mut().push(name.to_owned());
            Ok(Vec::new())
        },
        |mut bytes: Vec<u8>, len| {
            if let Some(len) = len {
                // The real ones have 64 MB.
                assert!(len >= wal::SEGMENT_SIZE_BYTES);
                bytes.resize(bytes.len() + 512, 0);
            }
            out.push((names.borrow().last().unwrap().clone(), bytes));
            Ok(())
        },
        &go_on,
    )
    .unwrap();
    verify(&plan, facts, crc, &MemoryLog::new(out.clone()), &go_on)
        .unwrap_or_else(|unlike| panic!("{unlike}\n{plan:#?}"));
    Ok((plan, out))
}

/// Entries by raft's rule, with their bytes.
fn entries_of(files: &Files) -> BTreeMap<u64, Vec<u8>> {
    let mut entries = BTreeMap::new();
    let log = MemoryLog::new(files.clone());
    for at in 0..log.names().len() {
        let Piece { bytes, .. } = log.piece(at);
        for record in read_segment(&bytes) {
            let record = record.unwrap();
            if let Payload::Entry(entry) = record.payload().unwrap() {
                entries.split_off(&entry.index);
                entries.insert(entry.index, record.data.to_vec());
            }
        }
    }
    entries
}

/// What was read is what was written, but for what the plan calls lost.
fn assert_kept(plan: &Plan, mended: &Files, entries: &BTreeMap<u64, u64>) {
    let found = entries_of(mended);
    let lost = |index: u64| {
        plan.losses.iter().any(|loss| match loss {
            Loss::Missing { first, last, .. } | Loss::Dropped { first, last, .. } => {
                (*first..=*last).contains(&index)
            }
            _ => false,
        })
    };
    // What follows the last commit may be gone with the file or the record that held it, and nobody knows that it was
    // there.
    let known = plan.state.commit().max(plan.last.map_or(0, |last| last.0));
    // A log that begins with a later segment looks like one whose older segments a server has removed.
    let (_, base) = wal::parse_segment_name(&plan.segments[0].name).unwrap();
    let base = if base == 0 { 0 } else { base.max(plan.start + 1) };
    for (index, term) in entries.range(base..) {
        match found.get(index) {
            // What a later leader overwrote may come back with the loss of what overwrote it, where nothing is committed.
            Some(data) => assert!(
                *data == entry(*index, *term) || *index > plan.state.commit() || *index <= plan.start,
                "entry {index}\n{plan:#?}"
            ),
            None => assert!(lost(*index) || *index > known, "entry {index} is missing in silence\n{plan:#?}"),
        }
    }
    for (index, data) in &found {
        let is_known = entries.contains_key(index) || *index > plan.state.commit() || *index <= plan.start;
        assert!(is_known, "entry {index} came from nowhere\n{plan:#?}");
        let term = Entry::decode(data.as_slice()).unwrap().term();
        assert_eq!(*data, entry(*index, term), "entry {index} was never written like this");
    }
}

#[derive(Debug, Clone)]
enum Harm {
    Flip { at: prop::sample::Index, bit: u8 },
    Zero { at: prop::sample::Index, len: usize },
    Garbage { at: prop::sample::Index, bytes: Vec<u8> },
    Truncate { at: prop::sample::Index },
    Remove,
    Copy,
    Rename,
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        (at(), 1..700usize).prop_map(|(at, len)| Harm::Zero { at, len }),
        (at(), prop::collection::vec(any::<u8>(), 1..60)).prop_map(|(at, bytes)| Harm::Garbage { at, bytes }),
        at().prop_map(|at| Harm::Truncate { at }),
        Just(Harm::Remove),
        Just(Harm::Copy),
        Just(Harm::Rename),
    ]
}

fn inflict(files: &mut Files, harm: &Harm, segment: &prop::sample::Index) {
    let count = files.len();
    let at_segment = segment.index(count);
    let file = &mut files[at_segment];
    if file.1.is_empty() {
        return;
    }
    match harm {
        Harm::Flip { at, bit } => {
            let at = at.index(file.1.len());
            file.1[at] ^= 1 << bit;
        }
        Harm::Zero { at, len } => {
            let from = at.index(file.1.len());
            let to = (from + len).min(file.1.len());
            file.1[from..to].fill(0);
        }
        Harm::Garbage { at, bytes } => {
            let from = at.index(file.1.len());
            for (place, byte) in file.1[from..].iter_mut().zip(bytes) {
                *place = *byte;
            }
        }
        Harm::Truncate { at } => {
            let to = at.index(file.1.len());
            file.1.truncate(to);
        }
        Harm::Remove => {
            if count > 1 {
                files.remove(at_segment);
            }
        }
        Harm::Copy => {
            let copy = (wal::segment_name(77, 1 << 40), file.1.clone());
            files.push(copy);
        }
        Harm::Rename => file.0 = wal::segment_name(99, 3),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_sound_log_needs_nothing(acts in prop::collection::vec(act(), 1..30)) {
        let (files, entries, _) = log(&acts);
        let (plan, mended) = mend(&files, &Facts::default()).unwrap();
        prop_assert!(plan.is_sound(), "{:#?}", plan);
        let faults = wal::log::read(&MemoryLog::new(files.clone()), &go_on).unwrap().faults;
        prop_assert!(faults.is_empty(), "{:#?}", faults);
        prop_assert!(plan.added.is_empty() && plan.refusals.is_empty());
        assert_kept(&plan, &mended, &entries);
        for (was, now) in files.iter().zip(&mended) {
            prop_assert_eq!(&was.0, &now.0);
            let shorter = was.1.len().min(now.1.len());
            prop_assert!(was.1[..shorter] == now.1[..shorter]);
        }
    }

    /// One flipped bit anywhere is turned back, or was nowhere.
    #[test]
    fn a_bit_is_turned_back(
        acts in prop::collection::vec(act(), 1..20),
        segment in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let (files, entries, _) = log(&acts);
        let mut damaged = files.clone();
        inflict(&mut damaged, &Harm::Flip { at, bit }, &segment);
        let (plan, mended) = mend(&damaged, &Facts::default()).unwrap();
        if plan.losses.is_empty() {
            assert_kept(&plan, &mended, &entries);
            let known = plan.changes.iter().any(|change| matches!(change, Change::TailDropped { .. }));
            let same = files.iter().zip(&mended).all(|(was, now)| {
                was.1.iter().zip(&now.1).all(|(was, now)| was == now)
            });
            // Some bits mean nothing: of a length word, of the key of a field that is 0. Then nobody notices anything.
            let faults = wal::log::read(&MemoryLog::new(damaged.clone()), &go_on).unwrap().faults;
            prop_assert!(known || same || faults.is_empty(), "{:#?}\n{:#?}", faults, plan);
        }
    }

    #[test]
    fn nothing_is_missing_in_silence(
        acts in prop::collection::vec(act(), 1..30),
        harms in prop::collection::vec((harm(), any::<prop::sample::Index>()), 1..3),
        with_db in any::<bool>(),
    ) {
        let (mut files, entries, commit) = log(&acts);
        for (harm, segment) in &harms {
            inflict(&mut files, harm, segment);
        }
        let db = with_db.then(|| DbFacts { consistent_index: commit, term: entries.get(&commit).copied() });
        let facts = Facts { snapshots: Vec::new(), db };
        match mend(&files, &facts) {
            Ok((plan, mended)) => {
                assert_kept(&plan, &mended, &entries);
                if let Some((index, _)) = plan.new_snapshot {
                    prop_assert_eq!(index, commit);
                    prop_assert!(plan.state.commit() >= commit);
                }
                if with_db && plan.losses.is_empty() {
                    prop_assert!(plan.last.map_or(0, |last| last.0) >= commit);
                }
            }
            Err(PlanError::NoMetadata) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Nothing covers the CRC in a segment's first record but that the second one follows it.
#[test]
fn a_bit_in_the_crc_of_a_head_is_turned_back() {
    let (files, ..) = log(&[Act::Save(3), Act::Cut, Act::Save(2)]);
    for segment in 0..2 {
        for at in 0..16 {
            for bit in 0..8 {
                let mut damaged = files.clone();
                damaged[segment].1[at] ^= 1 << bit;
                let (plan, mended) = mend(&damaged, &Facts::default())
                    .unwrap_or_else(|error| panic!("segment {segment} byte {at} bit {bit}: {error}"));
                assert!(plan.losses.is_empty(), "segment {segment} byte {at} bit {bit}: {plan:#?}");
                assert_eq!(entries_of(&mended), entries_of(&files));
            }
        }
    }
}

/// A log whose second hard state, the vote of term 3, cannot be read, though what follows it can. `again` says whether a
/// later one says it too.
fn with_a_lost_vote(again: bool) -> Files {
    let mut writer = LogWriter::new(Metadata { node_id: Some(7), cluster_id: Some(9) });
    let state = |term: u64, vote: u64, commit: u64| {
        HardState { term: Some(term), vote: Some(vote), commit: Some(commit) }.encode_to_vec()
    };
    let first = [entry(1, 2), entry(2, 2)];
    writer.save(first.iter().map(Vec::as_slice), Some(&state(2, 7, 2))).unwrap();
    writer.save([], Some(&state(3, 5, 2))).unwrap();
    let last = again.then(|| state(3, 5, 3));
    writer.save([entry(3, 3).as_slice()], last.as_deref()).unwrap();
    let name = writer.segment_name();
    let mut file = Vec::new();
    writer.flush(&mut file).unwrap();
    file.resize(file.len() + 4096, 0);
    let lost = read_segment(&file)
        .map(Result::unwrap)
        .filter(|record| matches!(record.payload(), Ok(Payload::State(_))))
        .nth(1)
        .unwrap();
    let end = usize::try_from(lost.offset).unwrap() + 8 + lost.raw.len();
    let data = end - lost.data.len()..end;
    for byte in &mut file[data] {
        *byte ^= 0x55;
    }
    vec![(name, file)]
}

#[test]
fn a_member_whose_last_vote_is_lost_must_not_rejoin() {
    let (plan, _) = mend(&with_a_lost_vote(false), &Facts::default()).unwrap();
    assert!(plan.losses.iter().any(|loss| matches!(loss, Loss::Passed { .. })), "{plan:#?}");
    assert!(plan.forgets(), "{plan:#?}");
    let (plan, _) = mend(&with_a_lost_vote(true), &Facts::default()).unwrap();
    assert!(plan.losses.iter().any(|loss| matches!(loss, Loss::Passed { .. })), "{plan:#?}");
    assert!(!plan.forgets(), "{plan:#?}");
}
