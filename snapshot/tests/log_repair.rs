//! The table of damages, repaired: each row as far as its remedy says, the copy read back, and the input untouched.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;

use bbolt::{Io, Lock, OpenOptions};
use prost::Message as _;
use snapshot::log_files::{self, LogFiles, LogOptions};
use snapshot::log_repair::{Held, RepairError, RepairOptions, RepairReport, repair};
use testdata::damage::{DAMAGES, LOG_VERSIONS, MemberDir, Remedy};
use testdata::fingerprint;
use wal::raftpb::{Entry, HardState};

fn open(path: &Path) -> LogFiles {
    let options = LogOptions { io: Io::Mmap, lock: Lock::None, wal_dir: None };
    log_files::open(path, &options, &()).unwrap()
}

fn run(path: &Path, options: &RepairOptions) -> Result<RepairReport, RepairError> {
    repair(&open(path), options, &OpenOptions { io: Io::Mmap, lock: Lock::None }, &())
}

/// Where the plan is more careful than the table: entries that are gone are a loss even where a snapshot covers them, and a
/// file that is not named like a segment is not looked into.
const OURS: [(&str, Remedy); 2] =
    [("missing-second", Remedy::AcceptLoss), ("renamed-foreign", Remedy::AcceptLoss)];

/// What the plan says can be done.
fn remedy(report: &Result<RepairReport, RepairError>) -> Remedy {
    match report {
        Err(_) => Remedy::Hopeless,
        Ok(report) if report.held == Some(Held::Refused) => Remedy::Hopeless,
        Ok(report) if !report.plan.losses.is_empty() => Remedy::AcceptLoss,
        Ok(report) if !report.is_sound() => Remedy::Lossless,
        Ok(_) => Remedy::NotNeeded,
    }
}

/// Each row is planned for one version, in turn; of every third the copy is written too, which the oracle tests do with the
/// others.
#[test]
fn every_damage_is_repaired_as_far_as_its_remedy_says() {
    let mut wrong = Vec::new();
    let scratch = tempfile::tempdir().unwrap();
    let mut bases: BTreeMap<String, MemberDir> = BTreeMap::new();
    for (at, damage) in DAMAGES.iter().enumerate() {
        let version = LOG_VERSIONS[at % LOG_VERSIONS.len()];
        let key = format!("{version}-{}", damage.base.name());
        let base = bases
            .entry(key.clone())
            .or_insert_with(|| damage.base.unpack(version, &scratch.path().join(key)));
        let input = scratch.path().join("damaged");
        damage.damage(&mut base.copy_to(&input));
        let before = fingerprint(&input);
        let planned = run(&input, &RepairOptions::default());
        let found = remedy(&planned);
        if found != OURS.iter().find(|ours| ours.0 == damage.name).map_or(damage.remedy, |ours| ours.1) {
            wrong.push(format!(
                "{version} {}: {found:?} instead of {:?}\n  {}\n  {:?}",
                damage.name,
                damage.remedy,
                damage.story,
                planned.as_ref().map(|report| (
                    report.plan.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    report.plan.losses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    &report.plan.refusals
                ))
            ));
        }
        if let Ok(report) = &planned
            && at % 6 == 0
            && report.held.is_none_or(|held| held == Held::Loss)
        {
            let out = scratch.path().join("out");
            let options =
                RepairOptions { output: Some(out.clone()), accept_loss: true, ..RepairOptions::default() };
            match run(&input, &options) {
                Ok(done) if done.written => {
                    let again = run(&out, &RepairOptions::default()).unwrap();
                    if !again.plan.is_sound() {
                        wrong.push(format!(
                            "{version} {}: the copy is not sound: {:?}",
                            damage.name, again.plan
                        ));
                    }
                    std::fs::remove_dir_all(&out).unwrap();
                }
                other => wrong.push(format!("{version} {}: not written: {:?}", damage.name, other.err())),
            }
        }
        assert_eq!(fingerprint(&input), before, "{version} {}: the input changed", damage.name);
        std::fs::remove_dir_all(&input).unwrap();
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A record in the middle that nothing mends: the plan says what is missing by index, what the record's own bytes say, marked
/// as such, and nothing that it cannot know.
#[test]
fn what_is_lost_is_told_by_index_and_key() {
    let scratch = tempfile::tempdir().unwrap();
    let mut member = testdata::damage::Base::Killed.unpack("3.5.1", scratch.path());
    let segment = member.last_segment();
    let entries = member.entries(&segment, 300);
    let frame = entries.iter().find(|frame| frame.index.is_some_and(|index| index > 44)).unwrap().clone();
    let index = frame.index.unwrap();
    // In the middle of its value.
    for at in 1..40 {
        member.flip(&segment, frame.data.end - 100 - at, at % 7);
    }
    let dir = member.path().to_owned();
    let report = run(&dir, &RepairOptions::default()).unwrap();
    let said: Vec<String> = report.plan.losses.iter().map(ToString::to_string).collect();
    let said = said.join("\n");
    assert!(said.contains(&format!("entry {index} is missing; the snapshot at entry 84, which")), "{said}");
    assert!(said.contains(&format!("cannot be proven, says it is entry {index} of term 2")), "{said}");
    assert!(said.contains("entries are among what is lost") && !said.contains("never committed"), "{said}");
    assert_eq!(report.plan.stretches, [(1, index - 1), (index + 1, 96)]);
    assert_eq!((report.claimed_keys.entries, report.claimed_keys.keys.len()), (1, 1), "{report:?}");
    assert_eq!(report.lost_keys.entries, 0);
    // A log alone does not tell whether the db is there.
    let alone = run(&dir.join("member/wal"), &RepairOptions::default()).unwrap();
    let said: Vec<String> = alone.plan.losses.iter().map(ToString::to_string).collect();
    assert!(said.join("\n").contains("where its .snap and db are there"), "{said:?}");
}

/// A torn last record of a log alone, of which a hard state before it says that it is committed: nothing else holds it.
#[test]
fn a_torn_tail_below_the_commit_is_refused_for_a_log_alone() {
    let entry = |index: u64| {
        let data = Some(vec![7; 40]);
        Entry { entry_type: Some(0), term: Some(2), index: Some(index), data }.encode_to_vec()
    };
    let state = HardState { term: Some(2), vote: Some(7), commit: Some(4) }.encode_to_vec();
    let mut writer = wal::LogWriter::new(wal::Metadata { node_id: Some(7), cluster_id: Some(9) });
    let (name, mut file) = (writer.segment_name(), Vec::new());
    let first = [entry(1), entry(2), entry(3)];
    writer.save(first.iter().map(Vec::as_slice), Some(&state)).unwrap();
    writer.save([entry(4).as_slice()], None).unwrap();
    writer.flush(&mut file).unwrap();
    file.truncate(file.len() - 20);
    let scratch = tempfile::tempdir().unwrap();
    let alone = scratch.path().join("wal");
    std::fs::create_dir(&alone).unwrap();
    std::fs::write(alone.join(name), &file).unwrap();
    let output = Some(scratch.path().join("out"));
    let report =
        run(&alone, &RepairOptions { accept_loss: true, output, ..RepairOptions::default() }).unwrap();
    assert_eq!((report.held, report.written), (Some(Held::Refused), false), "{:?}", report.plan);
    let changes: Vec<String> = report.plan.changes.iter().map(ToString::to_string).collect();
    assert!(changes[0].contains("its first bytes say that it is entry 4 of term 2"), "{changes:?}");
}
