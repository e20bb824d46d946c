//! What is foretold of a start, against real servers, beyond the table of damage: logs with one more kind of damage at a place
//! chosen by a seed, and logs of other versions.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod boots;

use std::env;
use std::path::Path;

use boots::{Booted, foretold, in_the_tables_terms};
use testdata::damage::boot::boot;
use testdata::damage::{Base, MemberDir, Rng};
use testdata::oracle::Version;

/// Servers, the fixtures each wrote, and the release under which claims about it are made.
const SERVERS: [(Version, &str); 3] =
    [(Version::V3_4, "3.4.23"), (Version::V3_5_1, "3.5.1"), (Version::V3_5New, "3.5.16")];

/// Does one thing to the only segment, anywhere in its records; says what.
fn damage_somewhere(member: &mut MemberDir, rng: &mut Rng) -> String {
    let segment = member.last_segment();
    let frames = member.frames(&segment);
    let end = frames.last().unwrap().end();
    let at = rng.below(end);
    match rng.below(8) {
        0 => {
            member.set_len(&segment, at);
            format!("cut at {at:#x}")
        }
        1 => {
            let start = at / 512 * 512;
            member.zero(&segment, start..start + 512);
            format!("zero sector at {start:#x}")
        }
        2 => {
            let start = at / 4096 * 4096;
            member.zero(&segment, start..start + 4096);
            format!("zero page at {start:#x}")
        }
        3 => {
            let start = at / 512 * 512;
            member.zero(&segment, start..end.max(start));
            format!("zero from {start:#x}")
        }
        4 => {
            let bytes = rng.next_u64().to_le_bytes();
            member.put(&segment, at / 8 * 8, &bytes);
            format!("{bytes:02x?} at {:#x}", at / 8 * 8)
        }
        // Where no checksum looks: length word, tags, type, crc.
        5 | 6 => {
            let frame = rng.pick(&frames).clone();
            let (offset, bit) = (frame.offset + rng.below(frame.crc_at.end - frame.offset), rng.below(8));
            member.flip(&segment, offset, bit);
            format!("bit {bit} at {offset:#x}")
        }
        _ => {
            let bit = rng.below(8);
            member.flip(&segment, at, bit);
            format!("bit {bit} at {at:#x}")
        }
    }
}

/// Foretells what the server does with a copy, and has it do so.
fn differs(server: Version, release: &str, dir: &Path) -> Option<String> {
    let start = foretold(&MemberDir::of_data_dir(dir), release);
    let did = Booted::parse(&boot(server, dir).to_string());
    let told = in_the_tables_terms(&start, &did);
    (told != did).then(|| format!("foretold {start:?}, the server {did:?}"))
}

fn seeds_hold(server: Version, version: &str) {
    let soak = env::var_os("ETCD_RESCUE_SOAK").is_some();
    let seeds: u64 = if soak { 400 } else { 24 };
    let scratch = tempfile::tempdir().unwrap();
    let clean = Base::Killed.unpack(version, &scratch.path().join("clean"));
    let mut wrong = Vec::new();
    for seed in 0..seeds {
        let dir = scratch.path().join("copy");
        let mut member = clean.copy_to(&dir);
        let what = damage_somewhere(&mut member, &mut Rng::seeded_by(&format!("{version} {seed}")));
        if let Some(differs) = differs(server, version, &dir) {
            wrong.push(format!("{version}, seed {seed}, {what}: {differs}"));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_3_4_on_logs_damaged_anywhere() {
    seeds_hold(SERVERS[0].0, SERVERS[0].1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_3_5_1_on_logs_damaged_anywhere() {
    seeds_hold(SERVERS[1].0, SERVERS[1].1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_newer_3_5_on_logs_damaged_anywhere() {
    seeds_hold(SERVERS[2].0, SERVERS[2].1);
}

/// Each server on what the others wrote, and on what 3.6 and 3.7 did: a version does not start on a cluster that has agreed on
/// a later one.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_servers_on_logs_of_other_versions() {
    let scratch = tempfile::tempdir().unwrap();
    let mut dirs = Vec::new();
    for (_, version) in SERVERS {
        for base in [Base::Killed, Base::Overwritten] {
            let member = base.unpack(version, &scratch.path().join(format!("{version}-{}", base.name())));
            dirs.push((format!("{version} {}", base.name()), member));
        }
    }
    for version in ["3.6.14", "3.7.1"] {
        let dir = testdata::data_dir(version, &scratch.path().join(version));
        dirs.push((format!("{version} single"), MemberDir::of_data_dir(&dir)));
    }
    let mut wrong = Vec::new();
    for (name, clean) in &dirs {
        for (server, release) in SERVERS {
            let dir = scratch.path().join("copy");
            let _copy = clean.copy_to(&dir);
            if let Some(differs) = differs(server, release, &dir) {
                wrong.push(format!("{release} on {name}: {differs}"));
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
