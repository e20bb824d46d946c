//! What real servers of 3.5 make of databases that were migrated: those of 3.5 there and back, those of 3.6 and 3.7 on the way down.
//! No server of 3.6 or 3.7 can be had here. About 15 s in all on two cores.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::path::Path;
use std::time::Duration;

use rstest::rstest;
use support::{Truth, code, rescue, text};
use testdata::oracle::{Launch, Server, Version};

const STAGE: &str = "s3-final";
const ROOT: &str = "root:rootpw";
/// Under which a server of 3.5 ends.
const TOO_OLD: &str = "server version is lower than determined cluster version";

fn migrate(data_dir: &Path, target: &str, flags: &[&str], expected: i32) -> String {
    let line = ["migrate", "--data-dir", text(data_dir), "--target-version", target];
    let run = rescue(line.iter().chain(flags));
    assert_eq!(code(&run), expected, "{run:?}");
    run.stderr
}

/// IDs, names and peer URLs of the members that the fixture's own server told of.
fn recorded_members(fixture: &str) -> Vec<(u64, String, Vec<String>)> {
    let told = &testdata::facts_json(fixture, STAGE, "members.json")[0];
    let members = told["members"].as_array().unwrap().iter();
    members
        .map(|member| {
            let urls = member["peerURLs"].as_array().unwrap().iter();
            (
                member["ID"].as_u64().unwrap(),
                member["name"].as_str().unwrap().to_owned(),
                urls.map(|url| url.as_str().unwrap().to_owned()).collect(),
            )
        })
        .collect()
}

/// Asserts that keys, history, hash and members are those that the fixture's own server told of.
fn assert_as_recorded(server: &Server, truth: &Truth, fixture: &str) {
    truth.assert_keys(server);
    let members = server.members().into_iter().map(|member| (member.id, member.name, member.peer_urls));
    assert_eq!(members.collect::<Vec<_>>(), recorded_members(fixture));
}

fn launch(version: Version, data_dir: &Path) -> Launch {
    Launch::new(version, data_dir, "n1").user(ROOT)
}

/// A row that 3.5 does not know is no harm to it, nor is one that was taken away.
#[rstest]
#[case("3.5.1", Version::V3_5_1)]
#[case("3.5.30", Version::V3_5New)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_member_of_3_5_serves_there_and_back(#[case] fixture: &str, #[case] version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of(fixture, STAGE, scratch.path());
    let data_dir = testdata::data_dir(fixture, scratch.path());
    for (target, flags) in [("3.6", &[][..]), ("3.5", &["--keep-original"]), ("3.7", &[]), ("3.5", &[])] {
        migrate(&data_dir, target, flags, 0);
        let mut server = launch(version, &data_dir).start();
        assert_as_recorded(&server, &truth, fixture);
        server.stop();
    }
}

/// What the finding says is what a server does, before the migration and after it.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_below_the_clusters_version_no_server_starts(
    #[values("3.6.14", "3.7.1")] fixture: &str,
    #[values(Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = testdata::data_dir(fixture, scratch.path());
    let told = migrate(&data_dir, "3.5", &[], 3);
    assert!(told.contains("ETCD-CLUSTER-VERSION-AHEAD") && told.contains(TOO_OLD), "{told}");
    let mut server = launch(version, &data_dir).spawn();
    let ended = server.wait_exit(Duration::from_secs(20));
    assert!(ended.is_some_and(|status| !status.success()), "it runs: {}", server.log());
    assert!(server.log().contains(TOO_OLD), "{}", server.log());
}

/// With the cluster's version lowered too, what a server of 3.6 or 3.7 left is what a server of 3.5 serves, also when it is started
/// again and has written.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_with_the_clusters_version_a_server_of_3_5_serves_it(
    #[values("3.6.14", "3.7.1")] fixture: &str,
    #[values(Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(false, true)] in_place: bool,
) {
    let scratch = tempfile::tempdir().unwrap();
    let truth = Truth::of(fixture, STAGE, scratch.path());
    let mut data_dir = testdata::data_dir(fixture, scratch.path());
    let output = scratch.path().join("copy");
    if in_place {
        migrate(&data_dir, "3.5", &["--set-cluster-version"], 0);
    } else {
        migrate(&data_dir, "3.5", &["--set-cluster-version", "-o", text(&output)], 0);
        data_dir = output;
    }
    let mut server = launch(version, &data_dir).start();
    assert_as_recorded(&server, &truth, fixture);
    server.restart();
    assert_as_recorded(&server, &truth, fixture);
    server.etcdctl(["alarm", "disarm"]).ok();
    assert_eq!(server.put("/oracle/after", "1"), truth.revision + 1);
    server.restart();
    assert_eq!(server.get_all().revision, truth.revision + 1);
    server.stop();
}
