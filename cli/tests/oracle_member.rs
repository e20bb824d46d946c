//! Real servers start on members that `member update|add|remove|promote` edited, and report exactly the members that were meant, after
//! a restart too. Three that all got new addresses form their cluster again, elect, take writes and agree; a lone voter gets another
//! address, a learner, loses it or promotes it. About ten seconds a version for each of the two.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{code, rescue, text, wait_equal};
use testdata::fingerprint;
use testdata::oracle::{Client, Cluster, Gateway, Launch, Run, Server, Version, free_ports};

/// Elections without waiting, and members added without it.
const FAST: [&str; 5] =
    ["--heartbeat-interval", "20", "--election-timeout", "200", "--strict-reconfig-check=false"];
const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn urls() -> Vec<String> {
    free_ports(3).iter().map(|port| format!("http://127.0.0.1:{port}")).collect()
}

fn initial(urls: &[String]) -> String {
    let each = NAMES.iter().zip(urls).map(|(name, url)| format!("{name}={url}"));
    each.collect::<Vec<_>>().join(",")
}

/// Three new members, whose directories are `n1` to `n3` in `scratch`.
fn launches(version: Version, scratch: &Path, urls: &[String]) -> Vec<Launch> {
    let cluster = initial(urls);
    let all = NAMES.iter().zip(urls).map(|(name, url)| {
        Launch::new(version, &scratch.join(name), name)
            .peer_url(url)
            .args(FAST)
            .args(["--snapshot-count", "40", "--initial-cluster-state", "new"])
            .args(["--initial-advertise-peer-urls", url, "--initial-cluster", &cluster])
    });
    all.collect()
}

fn write(server: &Server, count: usize) {
    let mut gateway = Gateway::to(server);
    for number in 0..count {
        let key = testdata::base64::encode(format!("key-{}", number % 37).as_bytes());
        let value = testdata::base64::encode(format!("value {number}").as_bytes());
        gateway.must("/v3/kv/put", &serde_json::json!({ "key": key, "value": value }));
    }
}

/// Runs a command that ends well; gives its JSON.
#[track_caller]
fn edited(args: &[&str]) -> Value {
    let run = rescue(["-w", "json", "member"].iter().chain(args));
    assert_eq!(code(&run), 0, "{args:?}: {}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

/// Peer URLs by name, and whether it learns.
fn known(client: &Client) -> BTreeMap<String, (Vec<String>, bool)> {
    let one = |member: testdata::oracle::Member| (member.name, (member.peer_urls, member.is_learner));
    client.members().into_iter().map(one).collect()
}

fn voters(urls: &[String]) -> BTreeMap<String, (Vec<String>, bool)> {
    let each = NAMES.iter().zip(urls).map(|(name, url)| ((*name).to_owned(), (vec![url.clone()], false)));
    each.collect()
}

/// Three members, all with other addresses: two as copies, one in place.
fn addresses(version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let (old, new) = (urls(), urls());
    let launches = launches(version, scratch.path(), &old);
    let mut cluster = Cluster::start(launches.clone());
    write(&cluster.members()[0], 120);
    let truth = cluster.client().hashkv(0);
    cluster.stop();
    drop(cluster);

    let list = initial(&new);
    let mut dirs: Vec<PathBuf> = Vec::new();
    for name in NAMES {
        let dir = scratch.path().join(name);
        let before = fingerprint(&dir);
        let refused = rescue(["member", "update", text(&dir), "--initial-cluster", &list, "--in-place"]);
        assert_eq!(code(&refused), 4, "{}", refused.stderr);
        assert_eq!(fingerprint(&dir), before);
        let all = ["update", text(&dir), "--initial-cluster", &list, "--on-every-member"];
        let out = scratch.path().join(format!("{name}-new"));
        if name == "n3" {
            // A rename leaves its time on a directory, and on nothing in it.
            let within = |member: &str| ["snap", "wal"].map(|name| fingerprint(&dir.join(member).join(name)));
            let of_member = within("member");
            let report = edited(&[&all[..], &["--in-place"]].concat());
            assert_eq!(report["original"], text(&dir.join("member.original")));
            assert_eq!(within("member.original"), of_member);
            dirs.push(dir);
        } else {
            edited(&[&all[..], &["-o", text(&out)]].concat());
            assert_eq!(fingerprint(&dir), before, "the input changed");
            dirs.push(out);
        }
    }
    let moved: Vec<Launch> = launches
        .iter()
        .zip(dirs.iter().zip(&new))
        .map(|(launch, (dir, url))| launch.clone().data_dir(dir).peer_url(url))
        .collect();
    let mut cluster = Cluster::start(moved);
    for round in 0..2 {
        for member in cluster.members() {
            assert_eq!(known(member), voters(&new), "{version:?}, round {round}");
            assert_eq!(member.hashkv(truth.revision).hash, truth.hash);
        }
        write(&cluster.members()[round + 1], 60);
        for member in cluster.members() {
            wait_equal(cluster.client(), member);
        }
        if round == 0 {
            cluster.restart();
        }
    }
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_three_members_meet_at_other_addresses_3_4() {
    addresses(Version::V3_4);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_three_members_meet_at_other_addresses_3_5() {
    addresses(Version::V3_5_1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_three_members_meet_at_other_addresses_3_5_new() {
    addresses(Version::V3_5New);
}

/// What `member add` printed for the new member.
fn environment(printed: &str) -> BTreeMap<String, String> {
    let lines = printed.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), serde_json::from_str(value).unwrap())).collect()
}

/// Adds a member to that in `dir`, in a copy at `out`; gives how the new one is started, in `joined`.
fn add(dir: &Path, out: &Path, (name, url): (&str, &str), learner: bool, joined: Launch) -> Launch {
    let mut args = vec!["member", "add", text(dir), name, "--peer-urls", url, "-o", text(out)];
    args.extend(learner.then_some("--learner"));
    let run = rescue(args);
    assert_eq!(code(&run), 0, "{}", run.stderr);
    let printed = environment(&run.stdout);
    assert_eq!((printed["ETCD_NAME"].as_str(), printed.len()), (name, 4), "{}", run.stdout);
    joined
        .peer_url(&printed["ETCD_INITIAL_ADVERTISE_PEER_URLS"])
        .args(FAST)
        .args(["--initial-advertise-peer-urls", &printed["ETCD_INITIAL_ADVERTISE_PEER_URLS"]])
        .args(["--initial-cluster", &printed["ETCD_INITIAL_CLUSTER"]])
        .args(["--initial-cluster-state", &printed["ETCD_INITIAL_CLUSTER_STATE"]])
}

#[track_caller]
fn wait_known(client: &Client, wanted: &BTreeMap<String, (Vec<String>, bool)>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while known(client) != *wanted {
        assert!(Instant::now() < deadline, "{:?} instead of {wanted:?}", known(client));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Who joins asks the others' members first, and ends when it is not among them yet.
#[track_caller]
fn wait_members_for_joiners(server: &Server, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !matches!(Gateway::to(server).attempt_members_for_joiners(), Ok(Ok(found)) if found == count) {
        assert!(Instant::now() < deadline, "not {count} members");
        thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn wait_revision(client: &Client, revision: i64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    // A learner answers only to those who ask itself.
    while client.try_status().map_or(0, |status| status.revision) < revision {
        assert!(Instant::now() < deadline, "revision {revision} does not come");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The only voter: another address for itself, a learner, which is promoted in one copy and removed in another, and a second voter.
fn lone(version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name);
    let urls = urls();
    let own = |urls: &[String]| ("n1".to_owned(), (vec![urls[0].clone()], false));
    let mut server =
        Launch::new(version, &place("n1"), "n1").args(FAST).args(["--snapshot-count", "40"]).start();
    write(&server, 60);
    let truth = server.hashkv(0);
    // So that the database is behind its log.
    server.kill();

    let report =
        edited(&["update", text(&place("n1")), "n1", "--peer-urls", &urls[0], "-o", text(&place("a"))]);
    assert_eq!(report["changed"][0]["peerURLs"], serde_json::json!([urls[0]]));
    let at = |dir: &str| {
        Launch::new(version, &place(dir), "n1").args(FAST).args(["--snapshot-count", "40"]).peer_url(&urls[0])
    };
    let mut server = at("a").start();
    for _ in 0..2 {
        assert_eq!(known(&server), BTreeMap::from([own(&urls)]), "{version:?}");
        assert_eq!(server.hashkv(truth.revision).hash, truth.hash);
        server.put("after", "update");
        server.restart();
    }
    server.stop();
    // Whatever its row says.
    let inspected = rescue(["inspect", text(&place("a")), "-w", "json"]);
    let page: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(page["members"][0]["peerURLs"], serde_json::json!([urls[0]]), "{page}");

    let learner = Launch::new(version, &place("n2"), "n2");
    let launch = add(&place("a"), &place("b"), ("n2", &urls[1]), true, learner);
    let mut server = at("b").start();
    let mut learner = launch.spawn();
    let last = server.put("after", "learner");
    wait_revision(&learner, last);
    let mut wanted = BTreeMap::from([own(&urls), ("n2".to_owned(), (vec![urls[1].clone()], true))]);
    wait_known(&server, &wanted);
    server.stop();
    learner.stop();
    // The learner's directory needs an edit of its own, each command as it is printed.
    let apart = "n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380";
    for name in ["b", "n2"] {
        let copy = place(&format!("plan-{name}"));
        assert!(Command::new("cp").arg("-a").arg(place(name)).arg(copy).status().unwrap().success());
    }
    let (voter, learns) = (place("plan-b"), place("plan-n2"));
    // Servers of 3.5 before 3.5.20 leave the row of a member whose address changed as it was, which is told of.
    let is_well = |run: &Run| {
        let is_stale = version != Version::V3_4
            && run.stderr.contains("ETCD-MEMBERS:")
            && !run.stderr.contains("ETCD-MEMBERS-DIFFER");
        code(run) == if is_stale { 3 } else { 0 }
    };
    let planned = rescue(["member", "plan", text(&voter), text(&learns), "--initial-cluster", apart]);
    assert!(is_well(&planned), "{}", planned.stderr);
    let commands: Vec<&str> = planned.stdout.lines().collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let run = rescue(command.split(' ').skip(1));
        assert!(is_well(&run), "{command}: {}", run.stderr);
    }
    let agreed = rescue(["member", "plan", text(&voter), text(&learns)]);
    assert!(is_well(&agreed), "{}", agreed.stderr);

    let refused =
        rescue(["member", "add", text(&place("b")), "n3", "--learner", "--peer-urls", &urls[2], "--dry-run"]);
    assert_eq!(code(&refused), 4, "{}", refused.stderr);

    edited(&["promote", text(&place("b")), "n2", "-o", text(&place("c"))]);
    let mut server = at("c").spawn();
    learner.spawn_again();
    server.wait_ready();
    learner.wait_ready();
    wanted.insert("n2".to_owned(), (vec![urls[1].clone()], false));
    for client in [&server, &learner] {
        wait_known(client, &wanted);
    }
    learner.put("after", "promotion");
    wait_equal(&server, &learner);
    server.stop();
    learner.stop();
    let refused = rescue(["member", "remove", text(&place("c")), "n2", "--dry-run"]);
    assert_eq!(code(&refused), 4, "{}", refused.stderr);

    edited(&["remove", text(&place("b")), "n2", "-o", text(&place("d"))]);
    let mut server = at("d").start();
    for _ in 0..2 {
        assert_eq!(known(&server), BTreeMap::from([own(&urls)]), "{version:?}");
        server.put("after", "removal");
        server.restart();
    }
    server.stop();

    let second = Launch::new(version, &place("n3"), "n3");
    let launch = add(&place("d"), &place("e"), ("n3", &urls[2]), false, second);
    let mut server = at("e").spawn();
    wait_members_for_joiners(&server, 2);
    let mut second = launch.spawn();
    server.wait_ready();
    second.wait_ready();
    let wanted = BTreeMap::from([own(&urls), ("n3".to_owned(), (vec![urls[2].clone()], false))]);
    wait_known(&server, &wanted);
    second.put("after", "addition");
    wait_equal(&server, &second);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_lone_voter_decides_alone_3_4() {
    lone(Version::V3_4);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_lone_voter_decides_alone_3_5() {
    lone(Version::V3_5_1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_lone_voter_decides_alone_3_5_new() {
    lone(Version::V3_5New);
}
