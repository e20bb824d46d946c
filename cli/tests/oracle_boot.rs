//! Restored clusters boot on real servers, hold what was recorded, and work.
//!
//! Only 3.4 and 3.5 servers install by name, so only their data boots here; what 3.6 and 3.7 data becomes is held
//! against etcdutl in `oracle_files`.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::Value;
use support::{Plan, Truth, assert_members, defrag, exercise, only_file, rescue, text};
use testdata::fingerprint;
use testdata::oracle::{Client, Cluster, Launch, Run, Tools, Version, free_ports};

/// Restores one member; returns what `-w json` told.
fn restore_one(truth: &Truth, plan: &Plan, data_dir: &Path) -> Value {
    let before = fingerprint(&truth.snapshot);
    let line = plan.restore_line(&truth.snapshot, 0);
    let flags = ["--initial-cluster-token", "oracle", "--data-dir", text(data_dir), "-w", "json"];
    let json = rescue(line.iter().map(String::as_str).chain(flags)).json();
    assert_eq!(fingerprint(&truth.snapshot), before);
    json
}

fn one_member(truth: &Truth, version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("m1");
    let plan = Plan::new(1);
    let json = restore_one(truth, &plan, &data_dir);

    let mut launch = Launch::new(version, &data_dir, "m1").peer_url(&plan.members[0].1);
    if let Some(root) = truth.root() {
        launch = launch.user(&root);
    }
    let mut server = launch.start();
    truth.assert_served(&server);
    assert_members(&server, &plan, &json);
    truth.assert_auth(&server);

    let kvs = exercise(&server, truth);
    let hash = server.hashkv(0);
    server.restart();
    let all = server.get_all();
    assert_eq!((all.revision, &all.kvs), (hash.revision, &kvs));
    assert_eq!(server.hashkv(0), hash);
    assert_members(&server, &plan, &json);
    truth.assert_leases_and_accounts(&server);
    defrag(&server);
    assert_eq!(server.put("/oracle/later", "y"), hash.revision + 1);
    server.stop();
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_member_of_3_4_data(
    #[values("s1-precompact", "s2-auth", "s3-final")] stage: &str,
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] server: Version,
) {
    let dir = tempfile::tempdir().unwrap();
    one_member(&Truth::of("3.4.23", stage, dir.path()), server);
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_member_of_3_5_data(
    #[values("3.5.1", "3.5.30")] fixture: &str,
    #[values("s1-precompact", "s2-auth", "s3-final")] stage: &str,
    #[values(Version::V3_5_1, Version::V3_5New)] server: Version,
) {
    let dir = tempfile::tempdir().unwrap();
    one_member(&Truth::of(fixture, stage, dir.path()), server);
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_member_of_a_clusters_compressed_snapshot(
    #[values(Version::V3_5_1, Version::V3_5New)] server: Version,
) {
    one_member(&Truth::of_cluster3(), server);
}

/// Restores all members with the layout of the server that is to start them.
fn restore_all(truth: &Truth, plan: &Plan, version: Version, dir: &Path) -> Value {
    let before = fingerprint(&truth.snapshot);
    let json = rescue([
        "snapshot",
        "restore",
        text(&truth.snapshot),
        "--all-members",
        "-o",
        text(dir),
        "--initial-cluster",
        &plan.initial_cluster(),
        "--target-version",
        version.minor(),
        "-w",
        "json",
    ])
    .json();
    assert_eq!(fingerprint(&truth.snapshot), before);
    json
}

fn three_members(truth: &Truth, version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("restored");
    let plan = Plan::new(3);
    let json = restore_all(truth, &plan, version, &dir);

    let mut cluster = Cluster::start(plan.members.iter().map(|(name, url)| {
        let launch = Launch::new(version, &dir.join(name), name).peer_url(url);
        truth.root().into_iter().fold(launch, |launch, root| launch.user(&root))
    }));
    for member in cluster.members() {
        truth.assert_keys(member);
        assert_members(member, &plan, &json);
    }
    truth.assert_leases_and_accounts(&cluster.members()[1]);
    truth.assert_auth(&cluster.members()[2]);

    let kvs = exercise(&cluster.members()[0], truth);
    let assert_equal = |cluster: &Cluster, kvs: &[Value]| {
        let hash = cluster.client().hashkv(0);
        for member in cluster.members() {
            // A linearizable read first: a member may answer hashkv before it has caught up.
            let all = member.get_all();
            assert_eq!((all.revision, all.kvs.as_slice()), (hash.revision, kvs));
            assert_eq!(member.hashkv(hash.revision), hash);
        }
    };
    assert_equal(&cluster, &kvs);
    cluster.restart();
    assert_equal(&cluster, &kvs);
    assert_members(cluster.client(), &plan, &json);
    truth.assert_leases_and_accounts(cluster.client());
    defrag(&cluster.members()[2]);
    cluster.members()[1].put("/oracle/later", "y");
    let kvs = cluster.client().get_all().kvs;
    assert_equal(&cluster, &kvs);
    cluster.stop();
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_three_members_of_3_4_data(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] server: Version,
) {
    let dir = tempfile::tempdir().unwrap();
    three_members(&Truth::of("3.4.23", "s3-final", dir.path()), server);
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_three_members_of_3_5_data(
    #[values("3.5.1", "3.5.30")] fixture: &str,
    #[values(Version::V3_5_1, Version::V3_5New)] server: Version,
) {
    let dir = tempfile::tempdir().unwrap();
    three_members(&Truth::of(fixture, "s3-final", dir.path()), server);
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_three_members_of_a_clusters_compressed_snapshot(
    #[values(Version::V3_5_1, Version::V3_5New)] server: Version,
) {
    three_members(&Truth::of_cluster3(), server);
}

/// The three runs that a runbook makes, one for each member, give what one run with `--all-members` gives.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_members_restored_one_by_one_are_one_cluster() {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of("3.5.30", "s1-precompact", scratch.path());
    let plan = Plan::new(3);
    let together = scratch.path().join("together");
    restore_all(&truth, &plan, Version::V3_5New, &together);
    let mut dirs = Vec::new();
    for (number, (name, _)) in plan.members.iter().enumerate() {
        // A runbook's relative names: the directory is called after the member.
        support::rescue_in(scratch.path(), plan.restore_line(&truth.snapshot, number)).ok();
        let dir = scratch.path().join(format!("{name}.etcd"));
        assert_eq!(fingerprint(&dir).contents(), fingerprint(&together.join(name)).contents());
        dirs.push(dir);
    }
    let cluster = Cluster::start(
        plan.members
            .iter()
            .zip(&dirs)
            .map(|((name, url), dir)| Launch::new(Version::V3_5New, dir, name).peer_url(url)),
    );
    for member in cluster.members() {
        truth.assert_served(member);
    }
}

/// IDs and log are those of the real tool for the same flags.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_the_log_of_fresh_urls_is_the_real_tools() {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of("3.5.1", "s2-auth", scratch.path());
    let plan = Plan::new(1);
    let ours = scratch.path().join("ours");
    restore_one(&truth, &plan, &ours);
    for version in [Version::V3_5_1, Version::V3_5New] {
        let theirs = scratch.path().join(version.minor()).join(format!("{version:?}"));
        let line = plan.restore_line(&truth.snapshot, 0);
        let flags = ["--initial-cluster-token", "oracle", "--data-dir", text(&theirs)];
        Tools::find(version).etcdutl(line.iter().map(String::as_str).chain(flags)).ok();
        for (below, suffix) in [("member/wal", ".wal"), ("member/snap", ".snap")] {
            let read = |dir: &Path| fs::read(only_file(&dir.join(below), suffix)).unwrap();
            assert!(read(&ours) == read(&theirs), "{suffix} differs from etcdutl's, {version:?}");
        }
    }
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How one printed command starts its member.
struct Printed {
    /// Flags, `--name value` each.
    flags: BTreeMap<String, String>,
}

impl Printed {
    /// The flags of each command of `script`, split into words by a real shell.
    fn parse(script: &str) -> Vec<Self> {
        let shell = format!("etcd() {{ printf '%s\\n' \"$@\" --; }}\n{script}");
        let mut command = Command::new("sh");
        command.args(["-euc", &shell]);
        let said = Run::to_end(command).ok().stdout;
        said.split_terminator("--\n")
            .map(|words| {
                let words: Vec<&str> = words.lines().collect();
                let pairs = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
                Self { flags: pairs.collect() }
            })
            .collect()
    }

    /// Starts etcd with these flags and nothing else; only the client URLs, which the output calls a guess to adjust, go
    /// to a port that is known to be free.
    fn start(mut self, tools: &Tools) -> (Process, Client) {
        let client_url = format!("http://127.0.0.1:{}", free_ports(1)[0]);
        for flag in ["--listen-client-urls", "--advertise-client-urls"] {
            let guess = self.flags.insert(flag.to_owned(), client_url.clone());
            assert!(guess.is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{flag} was not printed");
        }
        let mut command = tools.command("etcd");
        for (flag, value) in &self.flags {
            command.args([flag, value]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        (Process(child), Client::new(tools.clone(), client_url, None))
    }
}

/// Waits until `client` sees a leader.
#[track_caller]
fn wait_for_leader(client: &Client) {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        match client.try_status() {
            Ok(status) if status.leader != 0 => return,
            other => assert!(Instant::now() < deadline, "no leader: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[rstest]
#[case::data_3_4_23_on_v3_4("3.4.23", Version::V3_4)]
#[case::data_3_5_30_on_v3_5_1("3.5.30", Version::V3_5_1)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_the_printed_commands_start_the_cluster(#[case] fixture: &str, #[case] version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of(fixture, "s1-precompact", scratch.path());
    let plan = Plan::new(3);
    // A blank in the path: the printed words must survive a shell.
    let dir = scratch.path().join("restored here");
    let cluster = plan.initial_cluster();
    let args = [
        "snapshot",
        "restore",
        text(&truth.snapshot),
        "--all-members",
        "-o",
        text(&dir),
        "--initial-cluster",
        &cluster,
    ];
    let run = rescue(args).ok();
    let (_, next) = run.stderr.split_once("What to run next:\n\n").expect("it says what to run next");
    // Commands with their titles; the advice follows after a line that continues none.
    let script: Vec<&str> = next
        .split("\n\n")
        .filter(|piece| piece.starts_with("# member"))
        .flat_map(str::lines)
        .scan(true, |in_command, line| {
            let is_part = line.starts_with('#') || line.starts_with("etcd ") || line.starts_with("  --");
            *in_command = is_part;
            Some(is_part.then_some(line))
        })
        .flatten()
        .collect();
    let printed = Printed::parse(&script.join("\n"));
    assert_eq!(printed.len(), 3, "{}", run.stderr);

    let tools = Tools::find(version);
    let running: Vec<_> = printed.into_iter().map(|command| command.start(&tools)).collect();
    for (_, client) in &running {
        wait_for_leader(client);
        truth.assert_served(client);
    }
    assert_eq!(running[0].1.members().len(), 3);
    running[1].1.put("/oracle/printed", "1");
    assert_eq!(running[2].1.get_all().revision, truth.revision + 1);
}

/// `--emit env` starts a member through etcd's environment alone.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_the_emitted_environment_starts_a_member() {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of("3.5.1", "s1-precompact", scratch.path());
    let plan = Plan::new(1);
    let dir = scratch.path().join("restored here");
    let line = plan.restore_line(&truth.snapshot, 0);
    let flags = ["--data-dir", text(&dir), "--emit", "env"];
    let run = rescue(line.iter().map(String::as_str).chain(flags)).ok();
    // A shell reads the file, as systemd would.
    let mut command = Command::new("sh");
    command
        .args(["-euc", &format!("set -a\n{}\nenv -0", run.stdout)])
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let told = Run::to_end(command).ok().stdout;
    let mut settings: BTreeMap<&str, String> = told
        .split_terminator('\0')
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("ETCD_"))
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
    let client_url = format!("http://127.0.0.1:{}", free_ports(1)[0]);
    for setting in ["ETCD_LISTEN_CLIENT_URLS", "ETCD_ADVERTISE_CLIENT_URLS"] {
        assert!(settings.insert(setting, client_url.clone()).is_some(), "{setting} is missing: {settings:?}");
    }
    let tools = Tools::find(Version::V3_5_1);
    let mut etcd = tools.command("etcd");
    etcd.envs(&settings).env_remove("ETCDCTL_API").stdout(Stdio::null()).stderr(Stdio::null());
    let _process = Process(etcd.spawn().unwrap());
    let client = Client::new(tools, client_url, None);
    wait_for_leader(&client);
    truth.assert_served(&client);
}
