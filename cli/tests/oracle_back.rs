//! Going back to an earlier revision, and getting back in: held against real servers.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::Value;
use support::{Plan, code, rescue, text};
use testdata::oracle::{Client, HashKv, Launch, Server, Version};

const NEW_PASSWORD: &str = "correct horse: battery";

/// Keys and hash at each revision.
type Truth = BTreeMap<i64, (Vec<Value>, HashKv)>;

/// All keys at `revision`, as the server serves them.
fn kvs_at(server: &Server, revision: i64) -> Vec<Value> {
    let rev = format!("--rev={revision}");
    let mut answer = server.etcdctl(["get", "", "--prefix", &rev, "-w", "json"]).json();
    answer["kvs"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// Puts, deletes, a lease that goes with its key, a compaction; the directory is that of the stopped server. Gives what it
/// served at each revision above the compacted one.
fn history(version: Version, dir: &Path) -> (i64, Truth, Listed) {
    let mut server = Launch::new(version, dir, "m1").start();
    for round in 0..3 {
        for key in ["/a", "/b", "/c"] {
            server.put(key, format!("{key}{round}"));
        }
    }
    server.delete("/b");
    let granted = |ttl: &str| {
        let answer = server.etcdctl(["lease", "grant", ttl]).ok().stdout;
        answer.split_whitespace().nth(1).unwrap().to_owned()
    };
    let (short, long) = (granted("500"), granted("5000"));
    server.etcdctl(["put", "/leased/gone", "1", "--lease", &short]).ok();
    server.etcdctl(["put", "/leased/kept", "1", "--lease", &long]).ok();
    let with_both = server.put("/b", "again");
    server.etcdctl(["lease", "revoke", &short]).ok();
    server.compact(7);
    let last = server.put("/c", "last");
    // At the compacted revision itself, servers before 3.4.27 and 3.5.10 refuse a hash.
    let truth = (8..=last).map(|at| (at, (kvs_at(&server, at), server.hashkv(at)))).collect();
    let listed = Listed { leases: server.etcdctl(["lease", "list"]).ok().stdout, with_both, gone: short };
    server.stop();
    (last, truth, listed)
}

struct Listed {
    leases: String,
    with_both: i64,
    gone: String,
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_server_serves_what_it_served_then(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("old");
    let (last, truth, listed) = history(version, &dir);
    assert_eq!(rescue(["lease", "list", text(&dir)]).ok().stdout, listed.leases);

    for (back_to, raised) in [(8, true), (listed.with_both, false)] {
        let plan = Plan::new(1);
        let data_dir = scratch.path().join(format!("back-{back_to}"));
        let at = back_to.to_string();
        let mut line = plan.restore_line(&dir, 0);
        line.extend(["--skip-hash-check", "-w", "json", "--at-revision", &at].map(str::to_owned));
        line.extend(["--data-dir", text(&data_dir)].map(str::to_owned));
        if raised {
            line.extend(["--bump-revision", "auto"].map(str::to_owned));
        }
        let run = rescue(&line);
        let json: Value = serde_json::from_str(&run.stdout).unwrap();
        // With both leases' keys back, one of them hangs on a lease that was revoked.
        let is_gone = back_to == listed.with_both;
        assert_eq!(code(&run), if is_gone { 3 } else { 0 }, "{run:?}");
        assert_eq!(is_gone, run.stderr.contains(&format!("\"/leased/gone\" (lease {})", listed.gone)));
        assert_eq!(raised, !run.stderr.contains("WARNING: clients of the old cluster"));
        assert_eq!((json["revision"].as_i64(), json["backFrom"].as_i64()), (Some(back_to), Some(last)));

        let mut server = Launch::new(version, &data_dir, "m1").peer_url(&plan.members[0].1).start();
        let (kvs, hash) = &truth[&back_to];
        let served = server.get_all();
        assert_eq!(&served.kvs, kvs);
        let revision = if raised { back_to + 1_000_000_000 } else { back_to };
        assert_eq!(served.revision, revision);
        if raised {
            let old = server.etcdctl(["get", "/a", "--rev", &at]);
            assert!(old.stderr.contains("compacted"), "{old:?}");
        } else {
            assert_eq!(server.hashkv(back_to).hash, hash.hash);
            for (earlier, (kvs, _)) in truth.range(..back_to) {
                assert_eq!(&kvs_at(&server, *earlier), kvs, "at {earlier}");
            }
        }
        assert_eq!(server.put("/a", "new"), revision + 1);
        assert_eq!(server.delete("/c"), 1);
        server.compact(revision + 1);
        server.restart();
        assert_eq!(server.put("/after", "restart"), revision + 3);
        server.stop();
    }
}

/// The old directory's own log is behind its db, and its server was stopped in good order.
#[rstest]
#[case("3.4.23", Version::V3_4)]
#[case("3.5.1", Version::V3_5_1)]
#[case("3.5.30", Version::V3_5New)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_new_password_lets_in_and_a_disarmed_store_takes_writes(
    #[case] fixture: &str,
    #[case] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let dir = testdata::data_dir(fixture, &at("old"));
    let password = at("password");
    fs::write(&password, format!("{NEW_PASSWORD}\n")).unwrap();
    let alarms = rescue(["alarm", "list", text(&dir)]).ok().stdout;
    assert_eq!(alarms.trim_end(), testdata::facts(fixture, "s3-final", "alarms.txt").trim_end());
    rescue(["alarm", "disarm", text(&dir), "-o", text(&at("disarmed"))]).ok();
    let shown = rescue(["auth", "show", text(&dir)]).ok().stdout;
    let reset = at("reset");
    let from = at("disarmed");
    let flags = ["--user", "root", "--new-password-file", text(&password), "-o", text(&reset)];
    rescue(["auth", "reset", text(&from)].into_iter().chain(flags)).ok();

    let root = format!("root:{NEW_PASSWORD}");
    let mut server = Launch::new(version, &reset, "n1").user(&root).start();
    let as_user = |user: Option<&str>| {
        Client::new(server.tools().clone(), server.client_url(), user.map(str::to_owned))
    };
    let refused = as_user(Some("root:rootpw")).etcdctl(["get", "/a/key001"]);
    assert!(refused.stderr.contains("authentication failed"), "{refused:?}");
    as_user(Some("alice:alicepw")).etcdctl(["get", "/a/key001"]).ok();
    assert_eq!(server.etcdctl(["alarm", "list"]).ok().stdout, "");
    let revision = server.endpoint_status().revision;
    assert_eq!(server.put("/b/new", "1"), revision + 1);
    for role in ["reader", "rw"] {
        let told = server.etcdctl(["role", "get", role]).ok().stdout;
        assert!(shown.contains(&told), "{told} is not in {shown}");
    }
    for user in ["alice", "bob", "root"] {
        let told = server.etcdctl(["user", "get", user]).ok().stdout;
        let (name, roles) = told.split_once("\nRoles: ").unwrap();
        assert!(shown.contains(&format!("{name}\nRoles: {}", roles.trim_end())), "{told} is not in {shown}");
    }
    server.restart();
    assert_eq!(server.put("/b/new", "2"), revision + 2);
    server.stop();

    let off = at("off");
    rescue(["auth", "reset", text(&reset), "--disable", "-o", text(&off)]).ok();
    let mut server = Launch::new(version, &off, "n1").start();
    assert_eq!(server.put("/b/new", "3"), revision + 3);
    let kept = server.etcdctl(["user", "list"]).ok().stdout;
    assert!(kept.lines().any(|user| user == "root"), "{kept}");
    server.stop();
}
