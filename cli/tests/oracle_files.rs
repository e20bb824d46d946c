//! Files that etcd-rescue makes are files the real tools take, and the other way round.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rstest::rstest;
use support::{Plan, Truth, assert_status_agrees, code, rescue, text};
use testdata::fingerprint;
use testdata::oracle::{Launch, Run, Server, Tools, Version, free_ports};

/// The tool that restores for a version: etcdctl in 3.4, etcdutl later.
fn restore_by(tools: &Tools, file: &Path, data_dir: &Path) -> Run {
    let args = ["snapshot", "restore", text(file), "--data-dir", text(data_dir)];
    if tools.version() == Version::V3_4 { tools.etcdctl(args) } else { tools.etcdutl(args) }
}

/// Asserts that every real tool restores `file` with its hash check on, and says of it what ours says.
fn assert_tools_accept(file: &Path, versions: &[Version], scratch: &Path) {
    for version in versions {
        let tools = Tools::find(*version);
        assert_status_agrees(&tools, file);
        restore_by(&tools, file, &scratch.join(format!("by-{version:?}"))).ok();
    }
}

/// `snapshot save` of `input` into `output`, which leaves the input alone.
fn save(input: &Path, output: &Path) -> Run {
    let before = fingerprint(input);
    let run = rescue(["snapshot", "save", text(input), "-o", text(output)]).ok();
    assert_eq!(fingerprint(input), before);
    assert_eq!(fs::metadata(output).unwrap().permissions().mode() & 0o777, 0o600);
    run
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_stopped_members_files_become_a_snapshot(
    #[values("3.4.23", "3.5.1", "3.5.30", "3.6.14", "3.7.1")] fixture: &str,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = testdata::data_dir(fixture, scratch.path());
    let output = scratch.path().join("made.db");
    let run = save(&data_dir, &output);
    assert!(run.stderr.contains("The database was at revision"), "{run:?}");
    // 3.4's tool knows nothing that its server did not write, the later ones read all there is.
    let versions: &[Version] =
        if fixture.starts_with("3.4") { &Version::ALL } else { &[Version::V3_5_1, Version::V3_5New] };
    assert_tools_accept(&output, versions, scratch.path());

    // A file that lost its hash gets one back that the real tools believe.
    let raw = scratch.path().join("raw.db");
    let image = fs::read(&output).unwrap();
    fs::write(&raw, &image[..image.len() - 32]).unwrap();
    let refused = restore_by(&Tools::find(Version::V3_5New), &raw, &scratch.path().join("refused"));
    assert!(refused.stderr.contains("snapshot missing hash"), "{refused:?}");
    let hashed = scratch.path().join("hashed.db");
    let before = fingerprint(&raw);
    rescue(["snapshot", "hash", text(&raw), "--attach", "-o", text(&hashed)]).ok();
    assert_eq!(fingerprint(&raw), before);
    assert!(fs::read(&hashed).unwrap() == image);
    restore_by(&Tools::find(Version::V3_5New), &hashed, &scratch.path().join("from-hashed")).ok();
}

/// `snapshot hash --attach` on the db file itself, which is longer than its image.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_raw_db_gets_a_hash_that_the_tools_believe() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = testdata::data_dir("3.5.1", scratch.path());
    let hashed = scratch.path().join("hashed.db");
    rescue(["snapshot", "hash", text(&data_dir.join("member/snap/db")), "--attach", "-o", text(&hashed)])
        .ok();
    assert_eq!(code(&rescue(["snapshot", "hash", text(&hashed)])), 0);
    assert_tools_accept(&hashed, &[Version::V3_5_1, Version::V3_5New], scratch.path());
}

/// A server of its own, with a few keys.
fn fresh(version: Version, data_dir: &Path) -> Server {
    let url = format!("http://127.0.0.1:{}", free_ports(1)[0]);
    let server = Launch::new(version, data_dir, "n1")
        .peer_url(&url)
        .args(["--initial-cluster", &format!("n1={url}"), "--initial-advertise-peer-urls", &url])
        .start();
    for n in 0..20 {
        server.put(format!("/k/{n}"), format!("value {n}"));
    }
    assert_eq!(server.delete("/k/3"), 1);
    server
}

/// The last revision of `fresh`.
const LAST: i64 = 22;

/// Waits until the db in `data_dir` holds everything: etcd writes batches, every 100 ms.
fn wait_until_written(data_dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let run = rescue(["snapshot", "status", text(data_dir), "--no-lock", "-w", "json"]);
        let revision = serde_json::from_str::<serde_json::Value>(&run.stdout)
            .ok()
            .and_then(|status| status["revision"].as_i64());
        if revision == Some(LAST) {
            return;
        }
        assert!(Instant::now() < deadline, "{run:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_killed_servers_files_become_a_snapshot(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("killed");
    let mut server = fresh(version, &data_dir);
    wait_until_written(&data_dir);
    let keys = server.get_all();
    let hash = server.hashkv(0);
    server.kill();

    let output = scratch.path().join("made.db");
    save(&data_dir, &output);
    assert_tools_accept(&output, &Version::ALL, scratch.path());

    // What the tool made of our snapshot serves what the dead server served.
    let own = scratch.path().join(format!("by-{version:?}"));
    let restored = Launch::new(version, &own, "default").start();
    let all = restored.get_all();
    assert_eq!(all, keys);
    assert_eq!(restored.hashkv(0), hash);
}

/// Ours, made from a copy of the files of a server at rest, is to the byte what that server sends: header pages from the
/// newest meta with its txid and the one before, every other page as it lies in the file, the free ones too.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_save_is_to_the_byte_what_a_quiet_server_sends(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("live");
    let server = fresh(version, &data_dir);
    wait_until_written(&data_dir);
    // Sending makes some servers commit first (3.5.16 writes its consistent index anew), and each commits now and then on
    // its own account: what was sent and what is copied after it are of one state when both have the same txid, and
    // nothing was being written meanwhile when two copies agree.
    for attempt in 0..20 {
        let dir = scratch.path().join(format!("attempt{attempt}"));
        let sent = dir.join("sent.db");
        let [copied, again] = ["copied", "again"].map(|name| dir.join(name).join("member/snap"));
        for to in [&copied, &again] {
            fs::create_dir_all(to).unwrap();
        }
        server.etcdctl(["snapshot", "save", text(&sent)]).ok();
        for to in [&copied, &again] {
            fs::copy(data_dir.join("member/snap/db"), to.join("db")).unwrap();
        }
        if fs::read(copied.join("db")).unwrap() != fs::read(again.join("db")).unwrap() {
            continue;
        }
        let ours = dir.join("ours.db");
        let copied = dir.join("copied");
        rescue(["snapshot", "save", text(&copied), "-o", text(&ours), "--no-replay"]).ok();
        let [theirs_image, ours_image] = [&sent, &ours].map(|file| fs::read(file).unwrap());
        if txid(&theirs_image) != txid(&ours_image) {
            continue;
        }
        assert!(ours_image == theirs_image, "the snapshots differ");
        assert_tools_accept(&ours, &Version::ALL, &dir);
        return;
    }
    panic!("the server never rested");
}

/// The txid of the first meta page (FORMATS A.2).
fn txid(image: &[u8]) -> u64 {
    u64::from_le_bytes(image[64..72].try_into().unwrap())
}

/// A db under a running server: its lock is respected, and said to be one; `--no-lock` reads all the same.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_running_server_is_recognised_by_its_lock(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("live");
    let mut server = fresh(version, &data_dir);
    wait_until_written(&data_dir);
    let output = scratch.path().join("out");
    let (dir, db, out) = (text(&data_dir), data_dir.join("member/snap/db"), text(&output));
    let jobs: [&[&str]; 4] = [
        &["snapshot", "status", dir, "--timeout", "1s"],
        &["snapshot", "status", text(&db), "--timeout", "1s"],
        &["snapshot", "save", dir, "-o", out, "--timeout", "1s"],
        &["snapshot", "restore", dir, "--skip-hash-check", "--data-dir", out, "--timeout", "1s"],
    ];
    for job in jobs {
        let started = Instant::now();
        let run = rescue(job);
        assert_eq!((code(&run), run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(
            run.stderr.contains("still locked after 1s") && run.stderr.contains("a running etcd"),
            "{run:?}"
        );
        assert!(started.elapsed() >= Duration::from_secs(1), "it did not wait");
        assert!(!output.exists());
    }
    let status = rescue(["snapshot", "status", dir, "--no-lock", "-w", "json"]).json();
    assert_eq!(status["revision"], LAST);
    // The server noticed nothing.
    assert_eq!(server.put("/k/after", "1"), LAST + 1);
    server.stop();
    let status = rescue(["snapshot", "status", dir, "--timeout", "1s", "-w", "json"]).json();
    assert_eq!(status["revision"], LAST + 1);
}

/// Backends equal bucket by bucket: the status hash covers every bucket's name, keys and values. With alarms kept, as
/// etcdutl keeps them, it must be the one of etcdutl's own restore, which for 3.6 and 3.7 data is what can be
/// proved here: no such server installs by name.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_restored_backends_are_etcdutls(
    #[values("3.4.23", "3.5.1", "3.5.30", "3.6.14", "3.7.1")] fixture: &str,
    #[values(Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let tools = Tools::find(version);
    let scratch = tempfile::tempdir().unwrap();
    for stage in testdata::STAGES {
        let truth = Truth::of(fixture, stage, scratch.path());
        let plan = Plan::new(3);
        let cluster = plan.initial_cluster();
        let (name, url) = &plan.members[1];
        let restore = ["snapshot", "restore", text(&truth.snapshot), "--initial-cluster", &cluster];
        let one = ["--name", name, "--initial-advertise-peer-urls", url];
        let theirs = scratch.path().join(format!("{stage}-etcdutl"));
        tools.etcdutl(restore.iter().chain(&one).chain(&["--data-dir", text(&theirs)])).ok();
        let expected = support::status_by(&tools, &theirs.join("member/snap/db"));

        let targets: &[&str] = match fixture {
            "3.6.14" => &["", "3.6", "3.7"],
            "3.7.1" => &["", "3.7"],
            // By default 3.4 data is laid out for 3.4, with less in it than etcdutl writes.
            "3.4.23" => &["3.5", "3.6", "3.7"],
            _ => &["", "3.5", "3.6", "3.7"],
        };
        for target in targets {
            let ours = scratch.path().join(format!("{stage}-{target}"));
            let mut args: Vec<&str> = restore.iter().chain(&one).copied().collect();
            args.extend(["--keep-alarms", "--data-dir", text(&ours)]);
            if !target.is_empty() {
                args.extend(["--target-version", target]);
            }
            rescue(&args).ok();
            let db = ours.join("member/snap/db");
            let status = assert_status_agrees(&tools, &db);
            assert_eq!(status["hash"], expected["hash"], "{fixture} {stage} for {target:?}");
            assert_eq!(status["revision"], truth.revision);
            assert_eq!(status["totalKey"], truth.kvs.len());
        }
    }
}
