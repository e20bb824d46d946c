//! `member list` on the files of stopped and killed members prints what the live cluster's own etcdctl printed before, in every
//! format to the byte: members that started, one that never did, a learner, one that moved, one that was renamed, one that was
//! removed. With 3.4.23, 3.5.1 and 3.5.16, about ten seconds each; the lists of 3.6 and 3.7 are those of the fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::path::Path;

use support::{code, rescue, text};
use testdata::fingerprint;
use testdata::oracle::{Client, Cluster, Launch, Tools, Version, free_ports};

/// Elections without waiting, and members added without it; snapshots early, so that a `.snap` has members too.
const FAST: [&str; 7] = [
    "--heartbeat-interval",
    "20",
    "--election-timeout",
    "200",
    "--strict-reconfig-check=false",
    "--snapshot-count",
    "20",
];

/// Three new members, whose directories are `n1` to `n3` in `scratch`.
fn launches(version: Version, scratch: &Path) -> Vec<Launch> {
    let urls: Vec<String> = free_ports(3).iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    let names = ["n1", "n2", "n3"];
    let cluster: Vec<String> = names.iter().zip(&urls).map(|(name, url)| format!("{name}={url}")).collect();
    let all = names.iter().zip(&urls).map(|(name, url)| {
        Launch::new(version, &scratch.join(name), name).peer_url(url).args(FAST).args([
            "--initial-advertise-peer-urls",
            url,
            "--initial-cluster",
            &cluster.join(","),
        ])
    });
    all.collect()
}

/// What etcdctl prints in each format that it has.
fn printed(client: &Client) -> Vec<(Vec<&'static str>, String)> {
    let mut formats = vec![
        vec!["-w", "simple"],
        vec!["-w", "table"],
        vec!["-w", "fields"],
        vec!["-w", "json"],
        vec!["-w", "json", "--hex"],
    ];
    formats.extend([vec!["-w", "fields", "--hex"], vec!["-w", "protobuf"]]);
    let all = formats.into_iter().map(|format| {
        let mut args = vec!["member", "list"];
        args.extend(&format);
        (format, client.etcdctl(&args).ok().stdout)
    });
    all.collect()
}

/// `text` without the number of raft's term: on a busy machine members elect once more while they stop.
fn without_term(text: &str) -> String {
    let mut out = text.to_owned();
    for label in ["\"RaftTerm\" : ", "\"raft_term\":"] {
        if let Some((before, rest)) = out.split_once(label) {
            out = format!("{before}{label}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
    }
    out
}

/// The lists of the stopped member's files, beside those that its server gave.
#[track_caller]
fn assert_lists(
    dir: &Path,
    expected: &[(Vec<&'static str>, String)],
    (findings, of_cluster): (i32, bool),
    version: Version,
) {
    let before = fingerprint(dir);
    for (format, expected) in expected {
        let mut args = vec!["member", "list", text(dir)];
        args.extend(format);
        let run = rescue(&args);
        assert_eq!(code(&run), findings, "{version:?} {format:?}: {}", run.stderr);
        if of_cluster && format.contains(&"protobuf") {
            continue;
        }
        let [ours, theirs] = if of_cluster {
            [&run.stdout, expected].map(|text| without_term(text))
        } else if format.contains(&"--hex") {
            // What etcdctl of 3.5 prints with a quote in a name is no JSON; ours has it escaped.
            [run.stdout.replace("\\\"", "\""), expected.replace("\\\"", "\"")]
        } else {
            [run.stdout, expected.clone()]
        };
        assert_eq!(ours, theirs, "{version:?} {format:?}");
    }
    assert_eq!(fingerprint(dir), before, "the input changed");
}

fn members_of_a_live_cluster(version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(launches(version, scratch.path()));
    let client = cluster.client().clone();
    for key in 0..50 {
        client.put(format!("k{key}"), "v");
    }
    // One that never starts, and only learns; no member needs it.
    let learner = format!("http://127.0.0.1:{}", free_ports(1)[0]);
    let urls = format!("--peer-urls={learner}");
    client.etcdctl(["member", "add", "learner", &urls, "--learner"]).ok();
    client.put("before", "v");
    let (own, expected) = (scratch.path().join("n1"), printed(&client));
    cluster.stop();
    assert_lists(&own, &expected, (0, true), version);
    cluster.restart();

    // One that came and went, and one more address. (A learner that is given an address is listed as a voter by servers before
    // 3.5.31, and as a learner by later ones that start on the same files: nobody's list is that of both.)
    let port = free_ports(1)[0];
    client.etcdctl(["member", "add", "gone", &format!("--peer-urls=http://127.0.0.1:{port}")]).ok();
    let gone = client.members().into_iter().find(|member| member.name.is_empty() && !member.is_learner);
    client.etcdctl(["member", "remove", &format!("{:x}", gone.unwrap().id)]).ok();
    let members = client.members();
    let n3 = members.iter().find(|member| member.name == "n3").unwrap();
    let urls = format!("--peer-urls={},http://127.0.0.1:{port}", n3.peer_urls[0]);
    client.etcdctl(["member", "update", &format!("{:x}", n3.id), &urls]).ok();
    for key in 0..2 {
        client.put(format!("l{key}"), "v");
    }
    let expected = printed(&client);
    cluster.stop();
    // 3.5.1 to 3.5.19 leave the row of the moved member as it was, which 3.6 would go by.
    let patch: Option<u32> =
        Tools::find(version).release().strip_prefix("3.5.").and_then(|patch| patch.parse().ok());
    let findings = if patch.is_some_and(|patch| (1..20).contains(&patch)) { 3 } else { 0 };
    assert_lists(&own, &expected, (findings, true), version);
}

/// A lone member under another name, which it publishes when it starts; killed, so that the log is ahead of the database.
fn a_renamed_member(version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("lone");
    let launch = Launch::new(version, &dir, "old-name").args(FAST);
    let mut server = launch.start();
    server.put("k", "v");
    server.stop();
    let mut server = Launch::new(version, &dir, "a new \"name\" – ü").args(FAST).start();
    server.put("k", "w");
    let expected = printed(&server);
    server.kill();
    assert_lists(&dir, &expected, (0, false), version);
    let sources = rescue(["member", "list", text(&dir), "--sources", "-w", "json"]);
    assert_eq!(code(&sources), 0, "{}", sources.stderr);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_members_of_3_4_23() {
    members_of_a_live_cluster(Version::V3_4);
    a_renamed_member(Version::V3_4);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_members_of_3_5_1() {
    members_of_a_live_cluster(Version::V3_5_1);
    a_renamed_member(Version::V3_5_1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_members_of_newer_3_5() {
    members_of_a_live_cluster(Version::V3_5New);
    a_renamed_member(Version::V3_5New);
}
