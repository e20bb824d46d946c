//! Real servers start from what `wal repair` makes of damaged logs, and serve what they served before, or what the plan
//! says is left: at every revision they come to, the hash over all keys is that of the undamaged member. Each damage is
//! tried with one version, in turn; about 40 seconds a version.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testdata::damage::{Base, DAMAGES, MemberDir, Remedy};
use testdata::oracle::{Launch, Server, Version};

const BINARY: &str = env!("CARGO_BIN_EXE_etcd-rescue");

fn start(version: Version, dir: &Path) -> Server {
    Launch::new(version, dir, "n1").args(["--heartbeat-interval", "20", "--election-timeout", "200"]).start()
}

/// The plan as JSON, and the copy in `out`.
fn repair(input: &Path, out: &Path) -> (Option<i32>, Value, String) {
    let ran = Command::new(BINARY)
        .args(["-w", "json", "wal", "repair", "--accept-loss", "-o"])
        .arg(out)
        .arg(input)
        .output()
        .unwrap();
    let json = serde_json::from_slice(&ran.stdout).unwrap_or(Value::Null);
    (ran.status.code(), json, String::from_utf8_lossy(&ran.stderr).into_owned())
}

fn repaired_dirs_serve(version: Version, name: &str, turn: usize) {
    let scratch = tempfile::tempdir().unwrap();
    let mut bases: BTreeMap<&str, (MemberDir, Server)> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut lossless = 0;
    let tried = DAMAGES
        .iter()
        .filter(|damage| matches!(damage.remedy, Remedy::Lossless | Remedy::AcceptLoss))
        .enumerate()
        .filter(|(at, _)| at % 3 == turn);
    for (_, damage) in tried {
        let (base, healthy) = bases.entry(damage.base.name()).or_insert_with(|| {
            let base = damage.base.unpack(name, &scratch.path().join(damage.base.name()));
            let copy = scratch.path().join(format!("{}-healthy", damage.base.name()));
            let _ = base.copy_to(&copy);
            (base, start(version, &copy))
        });
        let (dir, out) = (scratch.path().join("damaged"), scratch.path().join("out"));
        damage.damage(&mut base.copy_to(&dir));
        let (code, plan, said) = repair(&dir, &out);
        if code == Some(0) {
            let mut server = start(version, &out);
            let found = server.hashkv(0);
            let before = healthy.hashkv(0);
            let same = healthy.hashkv(found.revision);
            if (found.hash, found.revision) != (same.hash, same.revision.min(found.revision)) {
                wrong.push(format!("{}: serves {found:?}, was {same:?}\n  {plan}", damage.name));
            }
            if damage.remedy == Remedy::Lossless {
                lossless += 1;
                // A write that never reached the disk whole is gone, as with a server's own repair.
                let torn =
                    plan["changes"].as_array().unwrap().iter().any(|change| change["kind"] == "tailDropped");
                if found.revision + i64::from(torn) < before.revision {
                    wrong.push(format!(
                        "{}: revision {}, was {}",
                        damage.name, found.revision, before.revision
                    ));
                }
            }
            server.put("after", "repair");
            server.restart();
            assert_eq!(server.hashkv(0).revision, found.revision + 1, "{}", damage.name);
            server.stop();
        } else {
            wrong.push(format!("{}: exit code {code:?}: {plan} {said}", damage.name));
        }
        let _ = std::fs::remove_dir_all(&dir);
        let _ = std::fs::remove_dir_all(&out);
    }
    assert!(lossless > 3, "{lossless} lossless");
    assert!(bases.len() > 1 && bases.len() <= Base::ALL.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_repaired_dirs_serve_3_4() {
    repaired_dirs_serve(Version::V3_4, "3.4.23", 0);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_repaired_dirs_serve_3_5() {
    repaired_dirs_serve(Version::V3_5_1, "3.5.1", 1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_repaired_dirs_serve_3_5_new() {
    repaired_dirs_serve(Version::V3_5New, "3.5.16", 2);
}
