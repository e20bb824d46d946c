//! What real servers do with damaged logs: `log-boots.tsv` is what they did, and here they do it again. Each damage is tried with
//! one version, in turn; `ETCD_RESCUE_SOAK=1` tries each with all of them.
//!
//! Run with `ETCD_RESCUE_BLESS=1` to write what a version did into the table.
#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;

use testdata::damage::boot::boot;
use testdata::damage::{Base, DAMAGES, MemberDir};
use testdata::oracle::Version;

fn table_of(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("log-boots/{version}.tsv"))
}

const HEAD: &str = "damage\toutcome\tsnapshot\tcommit\tlast index\tlast term\trevision\twords\n";

fn table_holds(server: Version, version: &str, turn: usize) {
    let is_whole = ["ETCD_RESCUE_SOAK", "ETCD_RESCUE_BLESS", "ETCD_RESCUE_DAMAGE"]
        .iter()
        .any(|name| env::var_os(name).is_some());
    let only = env::var("ETCD_RESCUE_DAMAGE").unwrap_or_default();
    let scratch = tempfile::tempdir().unwrap();
    let mut bases: BTreeMap<&str, MemberDir> = BTreeMap::new();
    let mut table = HEAD.to_owned();
    let tried: Vec<_> = (DAMAGES.iter().enumerate())
        .filter(|(at, damage)| damage.name.starts_with(&only) && (is_whole || at % 3 == turn))
        .map(|(_, damage)| damage)
        .collect();
    for damage in &tried {
        let clean = bases
            .entry(damage.base.name())
            .or_insert_with(|| damage.base.unpack(version, &scratch.path().join(damage.base.name())));
        let dir = scratch.path().join("copy");
        damage.damage(&mut clean.copy_to(&dir));
        let outcome = boot(server, &dir);
        std::fs::remove_dir_all(&dir).unwrap();
        writeln!(table, "{}\t{outcome}", damage.name).unwrap();
    }
    if env::var_os("ETCD_RESCUE_BLESS").is_some() {
        std::fs::write(table_of(version), &table).unwrap();
    }
    let recorded = std::fs::read_to_string(table_of(version)).unwrap();
    let is_tried = |line: &str| {
        let name = line.split('\t').next().unwrap();
        HEAD.starts_with(line) || tried.iter().any(|damage| damage.name == name)
    };
    let recorded: Vec<&str> = recorded.lines().filter(|line| is_tried(line)).collect();
    assert_eq!(recorded.len(), tried.len() + 1, "a damage without a row");
    let found: Vec<&str> = table.lines().collect();
    assert_eq!(found, recorded);
    assert!(tried.len() < DAMAGES.len() || bases.len() == Base::ALL.len(), "a base without rows");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_3_4_does_it_again() {
    table_holds(Version::V3_4, "3.4.23", 0);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_3_5_1_does_it_again() {
    table_holds(Version::V3_5_1, "3.5.1", 1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_newer_3_5_does_it_again() {
    table_holds(Version::V3_5New, "3.5.16", 2);
}
