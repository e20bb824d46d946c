//! Real servers boot from the fixtures' data dirs and say what was recorded: the harness, the data and the
//! facts agree before anything of ours is compared with them.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use serde_json::Value;
use testdata::oracle::{Cluster, Launch, Version, free_ports};
use testdata::{data_dir, facts, facts_json, hashkv_facts};

fn boots_and_serves_what_was_recorded(fixture: &str, version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = data_dir(fixture, scratch.path());
    let mut server = Launch::new(version, &dir, "n1").user("root:rootpw").start();

    let recorded = &facts_json(fixture, "s3-final", "keys.json")[0];
    let all = server.get_all();
    assert_eq!(Some(all.revision), recorded["header"]["revision"].as_i64());
    assert_eq!(Some(&all.kvs), recorded["kvs"].as_array());

    let (hash, revision, compacted) = hashkv_facts(fixture, "s3-final");
    let live = server.hashkv(revision);
    assert_eq!((live.hash, live.revision, live.compact_revision), (hash, revision, compacted));

    let members = &facts_json(fixture, "s3-final", "members.json")[0]["members"];
    let ids: Vec<Option<u64>> = server.members().iter().map(|m| Some(m.id)).collect();
    assert_eq!(ids, [members[0]["ID"].as_u64()]);
    assert_eq!(server.members()[0].name, "n1");
    assert_eq!(
        server.etcdctl(["alarm", "list"]).ok().stdout.trim(),
        facts(fixture, "s3-final", "alarms.txt").trim()
    );

    server.restart();
    assert_eq!(server.hashkv(revision), live);
    server.stop();
    assert!(server.try_status().is_err(), "it still answers after it was stopped");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_3_4_serves_the_3_4_23_fixture() {
    boots_and_serves_what_was_recorded("3.4.23", Version::V3_4);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_3_5_1_serves_the_3_5_1_fixture() {
    boots_and_serves_what_was_recorded("3.5.1", Version::V3_5_1);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_newer_3_5_serves_the_3_5_30_fixture() {
    boots_and_serves_what_was_recorded("3.5.30", Version::V3_5New);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_three_fresh_members_write_delete_compact_and_come_back() {
    for version in Version::ALL {
        let scratch = tempfile::tempdir().unwrap();
        let peers: Vec<_> =
            free_ports(3).into_iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let initial: Vec<_> = peers.iter().enumerate().map(|(i, url)| format!("m{i}={url}")).collect();
        let mut cluster = Cluster::start(peers.iter().enumerate().map(|(i, url)| {
            let name = format!("m{i}");
            Launch::new(version, &scratch.path().join(&name), &name).peer_url(url).args([
                "--initial-cluster",
                &initial.join(","),
                "--initial-advertise-peer-urls",
                url,
            ])
        }));
        let client = cluster.client();
        assert_eq!(client.members().len(), 3, "{version:?}");
        assert_eq!(client.put("a", "1"), 2);
        assert_eq!(client.put("a", "2"), 3);
        assert_eq!(client.put("-b", "-v"), 4);
        assert_eq!(client.delete("-b"), 1);
        assert_eq!(client.delete("-b"), 0);
        client.compact(4);
        let hash = client.hashkv(5);
        assert_eq!((hash.revision, hash.compact_revision), (5, 4));

        cluster.restart();
        // A linearizable read first: a member may answer hashkv before it has caught up.
        for member in cluster.members() {
            let all = member.get_all();
            assert_eq!(all.revision, 5);
            assert_eq!(all.kvs.len(), 1);
            assert_eq!(all.kvs[0]["value"], Value::from("Mg=="));
            assert_eq!(member.hashkv(5).hash, hash.hash);
        }
    }
}
