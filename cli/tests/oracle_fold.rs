//! What `snapshot save` and `snapshot restore` fold out of a killed member's files is what its server serves once it is started
//! again, and the real tools take it. About 8 s in all on two cores.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use support::{assert_status_agrees, code, rescue, text};
use testdata::fingerprint;
use testdata::oracle::{Answers, Gateway, Launch, Mixture, Run, Tools, Version};

/// Steps of the workload: requests of every kind, a few compactions among them.
const STEPS: usize = 120;

/// The tool that restores for a version: etcdctl in 3.4, etcdutl later.
fn restore_by(tools: &Tools, file: &Path, data_dir: &Path) -> Run {
    let args = ["snapshot", "restore", text(file), "--name", "m1", "--data-dir", text(data_dir)];
    let cluster = ["--initial-cluster", "m1=http://localhost:2380"];
    let all = args.into_iter().chain(cluster);
    if tools.version() == Version::V3_4 { tools.etcdctl(all) } else { tools.etcdutl(all) }
}

/// What a server serves that is started with `launch`. Members and alarms are its cluster's own and do not go along. A lease with a
/// negative ID is there in a server that applied its grant, and early 3.5 servers that start on a db which has it do not load it.
fn served(launch: Launch) -> Answers {
    let mut server = launch.spawn();
    let mut gateway = Gateway::ready(&mut server);
    let mut answers = Answers::of(&mut gateway);
    server.stop();
    answers.leases.retain(|id, _| *id >= 0);
    Answers { members: BTreeMap::default(), alarms: Default::default(), ..answers }
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_killed_member_folded_serves_what_it_serves_started_again(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let tools = Tools::find(version);
    let mut mixture = Mixture::start(version, 7, scratch.path());
    let at = |name: &str| scratch.path().join(name);
    let early = at("early.db");
    mixture.copy_db(&early);
    mixture.steps(STEPS);
    let killed = mixture.kill(false);
    let data = at("data");
    let before = fingerprint(&data);

    let (saved, release) = (at("saved.db"), tools.release());
    // From an early copy of the db every entry of the log is applied, and not only those of the last commit. Of some histories
    // etcd itself makes two things.
    let log = data.join("member/wal");
    let mut line = vec!["snapshot", "save", "-o", text(&saved), "--as-etcd", &release, "-w", "json"];
    if killed.is_two_minded {
        line.push(text(&data));
    } else {
        line.extend([text(&early), "--wal-dir", text(&log)]);
    }
    let run = rescue(line);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert!([0, 3].contains(&code(&run)), "{run:?}\n{:#?}", killed.told);
    assert!(killed.is_two_minded || json["fold"]["entries"].as_u64() > Some(50), "{json:#}");
    assert_eq!(json["fold"]["leftOutEntries"], 0, "{json:#}");
    assert_status_agrees(&tools, &saved);
    let theirs = at("by-them");
    restore_by(&tools, &saved, &theirs).ok();
    let ours = at("by-us");
    let args = ["snapshot", "restore", text(&data), "--name", "m1", "--data-dir", text(&ours)];
    let cluster = ["--initial-cluster", "m1=http://localhost:2380", "--as-etcd", &release];
    let run = rescue(args.into_iter().chain(cluster));
    assert!([0, 3].contains(&code(&run)), "{run:?}");
    assert_eq!(fingerprint(&data), before);

    let again = at("again");
    assert!(Command::new("cp").arg("-a").args([&data, &again]).status().unwrap().success());
    let expected = served(killed.launch.clone().data_dir(&again));
    for restored in [&theirs, &ours] {
        let found = served(killed.launch.clone().data_dir(restored));
        assert_eq!(found, expected, "{}\n{:#?}", restored.display(), killed.told);
    }
}
