//! The table of damages, repaired: each row as far as its remedy says, the copy read back, and the input untouched.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;

use bbolt::{Io, Lock, OpenOptions};
use snapshot::log_files::{self, LogFiles, LogOptions};
use snapshot::log_repair::{Held, RepairError, RepairOptions, RepairReport, repair};
use testdata::damage::{DAMAGES, LOG_VERSIONS, MemberDir, Remedy};
use testdata::fingerprint;

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
