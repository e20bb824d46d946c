//! `wal verify` and `verify` on every row of the table of damage: the codes that the row expects, no others, and the inputs as they were.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::env;
use std::process::Command;

use serde_json::Value;
use testdata::damage::{Base, DAMAGES, LOG_VERSIONS, MemberDir};
use testdata::fingerprint;

fn verified(command: &[&str], member: &MemberDir) -> (Option<i32>, BTreeSet<String>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_etcd-rescue"))
        .args(command)
        .arg("--write-out=json")
        .arg(member.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let codes =
        result["findings"].as_array().unwrap().iter().map(|found| found["code"].as_str().unwrap().to_owned());
    (output.status.code(), codes.collect(), told)
}

/// The rows of `bases`, each on the logs of these versions.
fn rows_are_found(bases: &[Base], versions: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for version in versions {
        for base in bases {
            let clean = base.unpack(version, &scratch.path().join(base.name()));
            for (number, damage) in DAMAGES.iter().enumerate().filter(|(_, damage)| damage.base == *base) {
                let dir = scratch.path().join("copy");
                let mut member = clean.copy_to(&dir);
                damage.damage(&mut member);
                // Hashing takes longer than verifying; a few rows will do.
                let before = (*base != Base::Segments && number % 8 == 6).then(|| fingerprint(&dir));
                let (exit, found, told) = verified(&["wal", "verify"], &member);
                // With the db there may be more to find, and never less.
                let whole = verified(&["verify"], &member);
                let has_all = found.is_subset(&whole.1) && !whole.2.contains("panicked");
                if !has_all || whole.0 != Some(if whole.1.is_empty() { 0 } else { 3 }) {
                    wrong.push(format!("{version} {}: verify {whole:?}, wal verify {found:?}", damage.name));
                }
                if let Some(before) = before {
                    assert_eq!(fingerprint(&dir), before, "{version} {}", damage.name);
                }
                let expected: BTreeSet<String> = damage.codes.iter().map(|code| (*code).to_owned()).collect();
                if found != expected || exit != Some(if expected.is_empty() { 0 } else { 3 }) {
                    wrong.push(format!(
                        "{version} {}: exit {exit:?}, found {found:?}, expected {expected:?}\n{told}",
                        damage.name
                    ));
                }
                std::fs::remove_dir_all(&dir).unwrap();
            }
            std::fs::remove_dir_all(clean.path()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn versions() -> &'static [&'static str] {
    if env::var_os("ETCD_RESCUE_SOAK").is_some() { &LOG_VERSIONS } else { &LOG_VERSIONS[2..] }
}

#[test]
fn damage_to_one_segment_is_found() {
    rows_are_found(&[Base::Killed, Base::Overwritten], versions());
}

#[test]
fn damage_to_several_segments_is_found() {
    rows_are_found(&[Base::Segments, Base::Purged], versions());
}
