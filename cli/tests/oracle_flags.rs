//! The flags of `snapshot restore` that change what a server finds, and cuts that must not let one start.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rstest::rstest;
use serde_json::Value;
use support::{Plan, Truth, assert_members, code, exercise, only_file, rescue, text};
use testdata::fingerprint;
use testdata::oracle::{Launch, Tools, Version};

/// Restores `input` as the one member of `plan`; returns what `-w json` told.
#[track_caller]
fn restore(input: &Path, plan: &Plan, data_dir: &Path, extra: &[&str]) -> Value {
    let line = plan.restore_line(input, 0);
    let more = ["--data-dir", text(data_dir), "-w", "json"];
    rescue(line.iter().map(String::as_str).chain(more).chain(extra.iter().copied())).json()
}

fn launch(version: Version, plan: &Plan, data_dir: &Path, truth: &Truth) -> Launch {
    let launch = Launch::new(version, data_dir, "m1").peer_url(&plan.members[0].1);
    truth.root().into_iter().fold(launch, |launch, root| launch.user(&root))
}

/// The db of a server that was killed: what a dead node's disk holds.
#[rstest]
#[case::data_3_4_23_on_v3_4("3.4.23", Version::V3_4)]
#[case::data_3_5_1_on_v3_5_1("3.5.1", Version::V3_5_1)]
#[case::data_3_5_30_on_v3_5new("3.5.30", Version::V3_5New)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_killed_servers_raw_db_boots(#[case] fixture: &str, #[case] version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of(fixture, "s3-final", scratch.path());
    let dead = testdata::data_dir(fixture, scratch.path());
    let mut server = Launch::new(version, &dead, "n1").user("root:rootpw").start();
    let (keys, hash) = (server.get_all(), server.hashkv(0));
    server.kill();

    let db = dead.join("member/snap/db");
    let before = fingerprint(&dead);
    let plan = Plan::new(1);
    let data_dir = scratch.path().join("m1");
    let refused = rescue(["snapshot", "restore", text(&db), "--data-dir", text(&data_dir)]);
    assert_eq!(code(&refused), 1);
    assert!(refused.stderr.contains("snapshot missing hash but --skip-hash-check=false"), "{refused:?}");
    assert!(!data_dir.exists());
    let json = restore(&db, &plan, &data_dir, &["--skip-hash-check"]);
    assert_eq!(json["integrity"], "absent");
    assert_eq!(fingerprint(&dead), before);

    let mut server = launch(version, &plan, &data_dir, &truth).start();
    assert_eq!(server.get_all(), keys);
    assert_eq!(server.hashkv(0), hash);
    truth.assert_served(&server);
    truth.assert_auth(&server);
    assert_members(&server, &plan, &json);
    let kvs = exercise(&server, &truth);
    server.restart();
    assert_eq!(server.get_all().kvs, kvs);
}

#[rstest]
#[case::data_3_4_23_on_v3_4("3.4.23", Version::V3_4)]
#[case::data_3_5_1_on_v3_5_1("3.5.1", Version::V3_5_1)]
#[case::data_3_5_30_on_v3_5new("3.5.30", Version::V3_5New)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_log_in_a_place_of_its_own_boots(
    #[case] fixture: &str,
    #[case] version: Version,
    #[values("elsewhere", "in the data dir", "in a data dir that exists")] place: &str,
) {
    let scratch = tempfile::tempdir().unwrap();
    // Memory, so that data and log have no rename between them.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let truth = Truth::of(fixture, "s2-auth", scratch.path());
    let plan = Plan::new(1);
    let data_dir = scratch.path().join("m1");
    let wal_dir = match place {
        "elsewhere" => {
            assert_ne!(
                fs::metadata(memory.path()).unwrap().dev(),
                fs::metadata(scratch.path()).unwrap().dev()
            );
            memory.path().join("m1-wal")
        }
        "in the data dir" => data_dir.join("wal"),
        _ => {
            fs::create_dir(&data_dir).unwrap();
            data_dir.join("wal")
        }
    };
    let json = restore(&truth.snapshot, &plan, &data_dir, &["--wal-dir", text(&wal_dir)]);
    assert!(!data_dir.join("member/wal").exists());
    only_file(&wal_dir, ".wal");

    let mut server = launch(version, &plan, &data_dir, &truth).args(["--wal-dir", text(&wal_dir)]).start();
    truth.assert_served(&server);
    assert_members(&server, &plan, &json);
    let kvs = exercise(&server, &truth);
    server.restart();
    assert_eq!(server.get_all().kvs, kvs);
    assert!(!data_dir.join("member/wal").exists());
}

/// An empty directory that stays the same directory, as a mount point does.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_an_empty_directory_becomes_a_data_dir() {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of("3.5.30", "s2-auth", scratch.path());
    let plan = Plan::new(1);
    let data_dir = scratch.path().join("mounted");
    fs::create_dir(&data_dir).unwrap();
    let inode = fs::metadata(&data_dir).unwrap().ino();
    restore(&truth.snapshot, &plan, &data_dir, &[]);
    assert_eq!(fs::metadata(&data_dir).unwrap().ino(), inode);
    let server = launch(Version::V3_5New, &plan, &data_dir, &truth).start();
    truth.assert_served(&server);
}

const BUMP: i64 = 1_000_000_000;

#[rstest]
#[case::data_3_4_23_on_v3_4("3.4.23", Version::V3_4)]
#[case::data_3_4_23_on_v3_5new("3.4.23", Version::V3_5New)]
#[case::data_3_5_1_on_v3_5_1("3.5.1", Version::V3_5_1)]
#[case::data_3_5_30_on_v3_5new("3.5.30", Version::V3_5New)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_bumped_revision_ends_old_watches(#[case] fixture: &str, #[case] version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of(fixture, "s1-precompact", scratch.path());
    let plan = Plan::new(1);
    let data_dir = scratch.path().join("m1");
    let flags = ["--bump-revision", "1000000000", "--mark-compacted", "--target-version", version.minor()];
    let json = restore(&truth.snapshot, &plan, &data_dir, &flags);
    let bumped = truth.revision + BUMP;
    assert_eq!(json["bumpedTo"], bumped);

    // The flags are in etcdutl since 3.5.10: the same backend, bucket by bucket.
    let tools = Tools::find(Version::V3_5New);
    if version.minor() == "3.5" {
        let theirs = scratch.path().join("etcdutl");
        let line = plan.restore_line(&truth.snapshot, 0);
        let flags = ["--data-dir", text(&theirs), "--bump-revision", "1000000000", "--mark-compacted"];
        tools.etcdutl(line.iter().map(String::as_str).chain(flags)).ok();
        let [theirs, ours] =
            [&theirs, &data_dir].map(|dir| support::status_by(&tools, &dir.join("member/snap/db")));
        assert_eq!((&ours["hash"], &ours["revision"]), (&theirs["hash"], &theirs["revision"]));
    }

    let mut server = launch(version, &plan, &data_dir, &truth).start();
    let all = server.get_all();
    assert_eq!((all.revision, &all.kvs), (bumped, &truth.kvs));
    for old in [1, truth.revision, bumped - 1] {
        let run = server.etcdctl(["watch", "/a/", "--prefix", "--rev", &old.to_string()]);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("required revision has been compacted"), "watch from {old}: {run:?}");
        let run = server.etcdctl(["get", "/a/key001", "--rev", &old.to_string()]);
        assert!(run.stderr.contains("required revision has been compacted"), "get at {old}: {run:?}");
    }
    assert_eq!(server.put("/oracle/new", "1"), bumped + 1);
    truth.assert_leases_and_accounts(&server);
    assert_members(&server, &plan, &json);
    server.restart();
    let all = server.get_all();
    assert_eq!((all.revision, all.kvs.len()), (bumped + 1, truth.kvs.len() + 1));
    exercise_after_bump(&server, bumped);
}

/// Deletes and compacts above the bump: the marker record stays, and stays out of the way.
fn exercise_after_bump(server: &testdata::oracle::Server, bumped: i64) {
    assert_eq!(server.delete("/oracle/new"), 1);
    server.compact(bumped + 2);
    assert_eq!(server.put("/oracle/newer", "1"), bumped + 3);
    let hash = server.hashkv(0);
    assert_eq!((hash.revision, hash.compact_revision), (bumped + 3, bumped + 2));
}

/// An alarm of a member that is gone would keep the new cluster from taking writes.
#[rstest]
#[case::data_3_4_23_on_v3_4("3.4.23", Version::V3_4)]
#[case::data_3_5_1_on_v3_5_1("3.5.1", Version::V3_5_1)]
#[case::data_3_5_30_on_v3_5new("3.5.30", Version::V3_5New)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_nospace_alarm_is_dropped_or_kept_as_asked(#[case] fixture: &str, #[case] version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of(fixture, "s3-final", scratch.path());
    let plan = Plan::new(1);

    let dropped = scratch.path().join("dropped");
    let json = restore(&truth.snapshot, &plan, &dropped, &[]);
    assert!(json["notices"].to_string().contains("alarms were dropped"), "{json}");
    let mut server = launch(version, &plan, &dropped, &truth).start();
    assert_eq!(server.put("/oracle/first", "1"), truth.revision + 1);
    assert_eq!(server.etcdctl(["alarm", "list"]).ok().stdout, "");
    server.stop();

    let kept = scratch.path().join("kept");
    let json = restore(&truth.snapshot, &plan, &kept, &["--keep-alarms"]);
    assert!(json["notices"].to_string().contains("alarms were kept"), "{json}");
    let server = launch(version, &plan, &kept, &truth).start();
    let refused = server.etcdctl(["put", "/oracle/first", "1"]);
    assert!(refused.stderr.contains("database space exceeded"), "{refused:?}");
    assert!(server.etcdctl(["alarm", "list"]).ok().stdout.contains("NOSPACE"));
    server.etcdctl(["alarm", "disarm"]).ok();
    assert_eq!(server.put("/oracle/first", "1"), truth.revision + 1);
}

/// A restore into two places that was killed between its renames (`snapshot::stage`, cuts 2 and 3): no server starts from
/// what is there, none makes an empty store or founds a cluster, and the next run tidies up.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_no_server_starts_from_half_a_restore(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(2, 3)] cut_after: u32,
    #[values(("m1-wal", "m1-wal.etcd-rescue-partial"), ("m1/wal", "m1/unfinished.etcd-rescue-partial/wal"))]
    (wal_dir, staged): (&str, &str),
) {
    let scratch = tempfile::tempdir().unwrap();
    let fixture = if version == Version::V3_4 { "3.4.23" } else { "3.5.30" };
    let truth = Truth::of(fixture, "s1-precompact", scratch.path());
    let plan = Plan::new(1);
    let (data_dir, wal_dir) = (scratch.path().join("m1"), scratch.path().join(wal_dir));
    let flags = ["--wal-dir", text(&wal_dir)];
    restore(&truth.snapshot, &plan, &data_dir, &flags);

    // Back to where a kill would have left it.
    let segment = fs::metadata(only_file(&wal_dir, ".wal")).unwrap();
    let db = data_dir.join("member/snap/db");
    fs::rename(&db, db.with_file_name("db.etcd-rescue-partial")).unwrap();
    let nowhere = format!("unfinished.etcd-rescue-partial/wal-{}-{}", segment.dev(), segment.ino());
    symlink(nowhere, &db).unwrap();
    if cut_after == 2 {
        let staged = scratch.path().join(staged);
        fs::create_dir_all(staged.parent().unwrap()).unwrap();
        fs::rename(&wal_dir, staged).unwrap();
    }

    // That this is the state, and not something of this test's own, the product says itself.
    let (name, url) = &plan.members[0];
    let cluster = plan.initial_cluster();
    let again = [
        "snapshot",
        "restore",
        text(&truth.snapshot),
        "--name",
        name,
        "--initial-cluster",
        &cluster,
        "--initial-advertise-peer-urls",
        url,
        "--data-dir",
        text(&data_dir),
        "--wal-dir",
        text(&wal_dir),
    ];
    let refused = rescue(again);
    assert_eq!(code(&refused), 1);
    assert!(refused.stderr.contains("unfinished restore that was cut off"), "{refused:?}");

    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o700)).unwrap();
    let before = tree(scratch.path());
    let mut server = launch(version, &plan, &data_dir, &truth)
        .args([
            "--wal-dir",
            text(&wal_dir),
            "--initial-cluster",
            &cluster,
            "--initial-advertise-peer-urls",
            url,
        ])
        .spawn();
    let status = server.wait_exit(Duration::from_secs(30)).expect("it keeps running on half a restore");
    assert!(!status.success(), "{status}");
    let log = server.log();
    assert!(log.contains("no such file or directory"), "{log}");
    assert_eq!(tree(scratch.path()), before);

    let json = restore(&truth.snapshot, &plan, &data_dir, &[flags[0], flags[1], "--clean"]);
    let mut server = launch(version, &plan, &data_dir, &truth).args(flags).start();
    truth.assert_served(&server);
    assert_members(&server, &plan, &json);
    server.stop();
    let left: Vec<_> = fingerprint(scratch.path())
        .paths()
        .filter(|p| text(p).contains("partial"))
        .map(Path::to_owned)
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// Every path below `dir`, with the digest of what is a file.
fn tree(dir: &Path) -> Vec<(PathBuf, Option<String>)> {
    let all = fingerprint(dir);
    all.paths().map(|path| (path.to_owned(), all.sha256(path).map(str::to_owned))).collect()
}
