//! Real servers start on what `cluster force-new` makes of one of three dead members: with the data it had, as the only voter,
//! also a second time, and the members that are added by the printed commands catch up. Its log is the one that the server's own
//! `--force-new-cluster` writes. About ten seconds a version.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use snapshot::force_new::traces;
use support::{code, rescue, text, wait_equal};
use testdata::fingerprint;
use testdata::oracle::{Client, Cluster, Gateway, Launch, Server, Version, free_ports};

/// Elections without waiting, and members added without it.
const FAST: [&str; 5] =
    ["--heartbeat-interval", "20", "--election-timeout", "200", "--strict-reconfig-check=false"];

/// Three new members, whose directories are `n1` to `n3` in `scratch`.
fn launches(version: Version, scratch: &Path) -> Vec<Launch> {
    let urls: Vec<String> = free_ports(3).iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    let names = ["n1", "n2", "n3"];
    let cluster: Vec<String> = names.iter().zip(&urls).map(|(name, url)| format!("{name}={url}")).collect();
    let all = names.iter().zip(&urls).map(|(name, url)| {
        Launch::new(version, &scratch.join(name), name)
            .peer_url(url)
            .args(FAST)
            .args(["--snapshot-count", "40", "--initial-cluster-state", "new"])
            .args(["--initial-advertise-peer-urls", url, "--initial-cluster", &cluster.join(",")])
    });
    all.collect()
}

fn force_new(dir: &Path, out: &Path) -> Value {
    let before = fingerprint(dir);
    let run = rescue(["-w", "json", "cluster", "force-new", text(dir), "-o", text(out)]);
    assert_eq!(code(&run), 3, "{}", run.stderr);
    assert_eq!(fingerprint(dir), before, "the input changed");
    serde_json::from_str(&run.stdout).unwrap()
}

fn log_of(dir: &Path) -> wal::Log {
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    let files = dir.join("member/wal").read_dir().unwrap().map(|entry| read(entry.unwrap())).collect();
    wal::log::read(&wal::MemoryLog::new(files), &|_| std::ops::ControlFlow::Continue(())).unwrap()
}

fn id_of(hex: &Value) -> u64 {
    u64::from_str_radix(hex.as_str().unwrap(), 16).unwrap()
}

#[track_caller]
fn assert_alone(server: &Client, report: &Value, version: Version) {
    let members = server.members();
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [id_of(&report["memberId"])], "{version:?}");
    assert!(!members[0].is_learner);
    assert_eq!(server.endpoint_status().cluster_id, id_of(&report["clusterId"]));
}

/// Runs what was printed for one member: the addition word for word, and the start with a data dir.
fn join(add: &Value, own: &Server, version: Version, dir: &Path) -> Server {
    let words = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()).collect()
    };
    let command = words(&add["command"]);
    assert_eq!(command[0], "etcdctl");
    assert_eq!(command[1], format!("--endpoints={}", own.client_url()));
    own.tools().etcdctl(&command[1..]).ok();
    let start = words(&add["start"]);
    assert_eq!((start[0].as_str(), start.len() % 2), ("etcd", 1));
    let mut launch = Launch::new(version, dir, add["name"].as_str().unwrap()).args(FAST);
    for pair in start[1..].chunks(2) {
        launch = match pair[0].as_str() {
            "--name" | "--data-dir" | "--listen-client-urls" | "--advertise-client-urls" => launch,
            "--listen-peer-urls" => launch.peer_url(&pair[1]),
            _ => launch.args(pair.iter().cloned()),
        };
    }
    let mut joined = launch.spawn();
    joined.wait_ready();
    joined
}

/// The entries that the server's own way adds to the log of a copy of `dir`.
fn forced_by_server(dir: &Path, copy: &Path, launch: Launch) -> Vec<traces::Trace> {
    let copied = std::process::Command::new("cp").arg("-a").arg(dir).arg(copy).status().unwrap();
    assert!(copied.success());
    let mut server = launch.data_dir(copy).args(["--force-new-cluster"]).start();
    server.kill();
    traces::traces(&log_of(copy))
}

fn goes_on_alone(version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let launches = launches(version, scratch.path());
    let first = launches[0].clone();
    let mut cluster = Cluster::start(launches);
    let mut gateway = Gateway::to(&cluster.members()[0]);
    for number in 0..120 {
        let key = testdata::base64::encode(format!("key-{}", number % 37).as_bytes());
        let value = testdata::base64::encode(format!("value {number}").as_bytes());
        gateway.must("/v3/kv/put", &serde_json::json!({ "key": key, "value": value }));
    }
    drop(gateway);
    let truth = cluster.client().hashkv(0);
    cluster.stop();
    drop(cluster);

    let (dir, out) = (scratch.path().join("n1"), scratch.path().join("forced"));
    let report = force_new(&dir, &out);
    let by_server = forced_by_server(&dir, &scratch.path().join("by-server"), first.clone());
    let ours = log_of(&out);
    let by_us = traces::traces(&ours);
    assert_eq!(by_us.len(), 1);
    assert_eq!(by_us, by_server);
    assert_eq!(by_us[0].removed, {
        let mut removed: Vec<u64> = report["removed"].as_array().unwrap().iter().map(id_of).collect();
        removed.sort_unstable();
        removed
    });
    assert_eq!(
        (Some(by_us[0].first - 1), Some(by_us[0].last)),
        (report["commit"].as_u64(), report["lastIndex"].as_u64())
    );
    let changes = |log: &wal::Log| -> Vec<_> {
        let forced = log.conf_changes.iter().filter(|entry| entry.value.index >= by_us[0].first);
        forced.map(|entry| entry.value.clone()).collect()
    };
    assert_eq!(changes(&ours), changes(&log_of(&scratch.path().join("by-server"))));
    assert_eq!(traces::traces(&log_of(&dir)), []);

    let mut own = first.data_dir(&out).start();
    assert_alone(&own, &report, version);
    assert_eq!(own.hashkv(truth.revision), truth);
    own.put("after", "alone");
    own.restart();
    assert_alone(&own, &report, version);

    let mut joined = Vec::new();
    for add in report["memberAdd"].as_array().unwrap() {
        let dir = scratch.path().join(format!("joined-{}", joined.len()));
        joined.push(join(add, &own, version, &dir));
    }
    assert_eq!(joined.len(), 2);
    joined[1].put("after", "together");
    for member in &joined {
        wait_equal(&own, member);
    }
    let names: Vec<String> = own.members().into_iter().map(|member| member.name).collect();
    assert_eq!(std::collections::BTreeSet::from_iter(names).len(), 3);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_of_three_goes_on_alone_3_4() {
    goes_on_alone(Version::V3_4);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_of_three_goes_on_alone_3_5() {
    goes_on_alone(Version::V3_5_1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_of_three_goes_on_alone_3_5_new() {
    goes_on_alone(Version::V3_5New);
}

/// All that is left is a member that only learned. The server's own way ends in "removed all voters".
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_learner_goes_on_alone() {
    let version = Version::V3_5New;
    let scratch = tempfile::tempdir().unwrap();
    let mut voter = Launch::new(version, &scratch.path().join("n1"), "n1").args(FAST).start();
    voter.put("k", "v");
    // A single member that was started without a cluster is known by the default URL.
    let id = format!("{:x}", voter.members()[0].id);
    voter.etcdctl(["member", "update", &id, &format!("--peer-urls={}", voter.peer_url())]).ok();
    let peer = format!("http://127.0.0.1:{}", free_ports(1)[0]);
    voter.etcdctl(["member", "add", "n2", "--learner", &format!("--peer-urls={peer}")]).ok();
    let dir = scratch.path().join("n2");
    let cluster = format!("n1={},n2={peer}", voter.peer_url());
    let mut learner = Launch::new(version, &dir, "n2")
        .peer_url(&peer)
        .args(FAST)
        .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &cluster])
        .args(["--initial-cluster-state", "existing"])
        .spawn();
    let deadline = Instant::now() + Duration::from_secs(20);
    let last = voter.put("k", "w");
    // A learner answers only to those who ask itself.
    while learner.try_status().map_or(0, |status| status.revision) < last {
        assert!(Instant::now() < deadline, "the learner does not catch up: {}", learner.log());
        thread::sleep(Duration::from_millis(50));
    }
    voter.kill();
    learner.kill();
    let out = scratch.path().join("forced");
    let report = force_new(&dir, &out);
    assert_eq!(report["promoted"], true);
    let mut own = Launch::new(version, &out, "n2").args(FAST).start();
    assert_alone(&own, &report, version);
    assert_eq!(own.put("k", "x"), last + 1);
    own.restart();
    assert_alone(&own, &report, version);
}
