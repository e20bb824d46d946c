//! `snapshot restore`: the runbooks people type, and what the command tells them.

use insta::assert_snapshot;
use rstest::rstest;

use crate::run::{Ran, Room};

const THREE: &str = "m1=http://host1:2380,m2=http://host2:2380,m3=http://host3:2380";

/// The story without what depends on who runs the tests.
fn story(ran: &Ran) -> String {
    let of_root = |line: &&str| !line.starts_with("The files belong to root") && !line.contains("chown -R");
    ran.stderr.lines().filter(of_root).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_tutorials_three_commands() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    for member in ["m1", "m2", "m3"] {
        let host = member.replace('m', "host");
        let ran = room.run(&format!(
            "snapshot restore snapshot.db --name {member} --initial-cluster {THREE} --initial-cluster-token \
             etcd-cluster-1 --initial-advertise-peer-urls http://{host}:2380"
        ));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.ends_with(&format!(", {member}.etcd\n")), "{}", ran.stdout);
    }
    assert_eq!(room.names(), ["m1.etcd", "m2.etcd", "m3.etcd", "snapshot.db"]);
}

#[test]
fn the_story_of_one_of_three() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run(&format!(
        "snapshot restore snapshot.db --name m1 --initial-cluster {THREE} --initial-advertise-peer-urls \
         http://host1:2380 --wal-dir wal"
    ));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_snapshot!(ran.stdout, @r"m1, fbc843a22595e32e, m1.etcd, wal");
    assert_snapshot!(story(&ran), @r"
    integrity: verified (sha256 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b)
    Laid out for etcd 3.5: its cluster version is 3.5.0
    note: the old cluster's confState stays in the db, as etcdutl leaves it: no server starts from it, and the first change of members rewrites it
    note: alarms were dropped, since the members that raised them no longer exist: NOSPACE of member 2fa0a134ee80bef8 (--keep-alarms keeps them, as etcdutl does)
    Cluster 8bec6b870b7f17ac (token etcd-cluster) of 3 members, revision 79, database of 238 kB

    What to run next:

    # member m1 on host1
    etcd \
      --name m1 \
      --data-dir ROOM/m1.etcd \
      --wal-dir ROOM/wal \
      --initial-advertise-peer-urls http://host1:2380 \
      --listen-peer-urls http://0.0.0.0:2380 \
      --listen-client-urls http://0.0.0.0:2379 \
      --advertise-client-urls http://host1:2379 \
      --initial-cluster m1=http://host1:2380,m2=http://host2:2380,m3=http://host3:2380 \
      --initial-cluster-token etcd-cluster \
      --initial-cluster-state existing \
      --quota-backend-bytes 2147483648

    m1: ROOM/m1.etcd and ROOM/wal belong on host1. Copy them there with owners and modes kept (for example rsync -a), or leave them if this is host1; at another path, change the flags.
    The other members must be restored from this same snapshot, with the same --initial-cluster and --initial-cluster-token: run this again for each, with --name m2 --initial-advertise-peer-urls http://host2:2380, with --name m3 --initial-advertise-peer-urls http://host3:2380; or restore all at once with --all-members -o DIR.
    Start the members together: 2 of 3 must run before the cluster answers.
    The client URLs in the flags are a guess, for a snapshot does not hold them: adjust them. --initial-cluster-state existing changes nothing for a restored directory, and keeps etcd from starting an empty cluster should the directory not be where the flags say.
    --quota-backend-bytes 2147483648: a NOSPACE alarm was dropped, so the old cluster had reached its quota with this database of 238 kB; compact and defragment once it runs.
    3 leases start again with their full time to live when a leader is elected; their keys expire that much later, those with the same time to live together.
    Authentication is on: the users, passwords and roles of the snapshot are in force.
    ");
}

#[test]
fn all_members_with_connection_flags() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    let ran = room.run(&format!(
        "--endpoints=https://10.0.0.1:2379 --cacert ca.crt --cert c.crt --key c.key snapshot restore snapshot.db \
         --all-members -o out --initial-cluster {THREE} -w table"
    ));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_snapshot!(ran.stdout, @r"
    ┌──────┬──────────────────┬──────────┐
    │ NAME │        ID        │ DATA DIR │
    ├──────┼──────────────────┼──────────┤
    │   m1 │ fbc843a22595e32e │   out/m1 │
    │   m2 │ 821dff9f6146bf9c │   out/m2 │
    │   m3 │ 3c92eb771bf16d7c │   out/m3 │
    └──────┴──────────────────┴──────────┘
    ");
    let first = ran.stderr.lines().next().expect("a warning");
    assert_snapshot!(first, @r"warning: --endpoints, --cacert, --cert, --key are ignored: etcd-rescue reads files and connects to nothing, so they may be left out");
    for member in ["m1", "m2", "m3"] {
        assert!(room.path().join("out").join(member).join("member/snap/db").is_file());
    }
}

#[test]
fn a_raw_db_into_var_lib() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    let refused = room.run("snapshot restore data/member/snap/db --data-dir=lib/etcd");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("Error: snapshot missing hash but --skip-hash-check=false"));
    for (place, flag) in [("a", "--skip-hash-check"), ("b", "--skip-hash-check=true")] {
        let ran = room.run(&format!("snapshot restore data/member/snap/db {flag} --data-dir={place}"));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(room.path().join(place).join("member/wal").is_dir());
    }
}

#[test]
fn json_is_one_object_with_hex_ids_and_commands() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("snapshot restore snapshot.db --dry-run -w json --emit env");
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    assert_eq!(json["clusterId"], "cdf818194e3a8c32");
    assert_eq!(json["members"][0]["id"], "8e9e05c52164694d");
    assert_eq!(json["members"][0]["command"][0], "etcd");
    assert_eq!(json["dryRun"], true);
    assert_eq!(json["targetVersion"], "3.5");
    assert!(json["emitted"].as_str().expect("a text").contains("ETCD_NAME=default\n"));
    assert_eq!(room.names(), ["snapshot.db"]);
}

#[rstest]
#[case("flags", "etcd \\\n  --name default")]
#[case("env", "ETCD_NAME=default")]
#[case("systemd", "ExecStart=/usr/bin/etcd")]
#[case("static-pod", "kind: Pod")]
fn emit_is_the_result(#[case] form: &str, #[case] piece: &str) {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    let ran = room.run(&format!("snapshot restore snapshot.db --dry-run --emit {form}"));
    assert!(ran.stdout.starts_with("# member default on localhost"), "{}", ran.stdout);
    assert!(ran.stdout.contains(piece), "{}", ran.stdout);
    let quiet = room.run(&format!("snapshot restore snapshot.db --dry-run --emit {form} --quiet"));
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), (ran.stdout.as_str(), ""));
}

#[test]
fn the_owner_is_who_the_unit_runs_as() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    let ran = room.run("snapshot restore snapshot.db --dry-run --emit systemd --owner 998:997");
    assert!(ran.stdout.contains("\nUser=998\n"), "{}", ran.stdout);
    assert!(!ran.stderr.contains("chown"), "{}", ran.stderr);
}

#[test]
fn a_bump() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("snapshot restore snapshot.db --bump-revision 1000 --mark-compacted --quiet");
    assert_eq!(ran.code, 0, "{ran:?}");
    let status = room.run("snapshot status default.etcd -w json").json();
    assert_eq!(status["revision"], 1079);
}

#[rstest]
#[case("--bump-revision 10", "--mark-compacted required if --bump-revision > 0")]
#[case("--mark-compacted", "--mark-compacted is for --bump-revision above 0")]
#[case("--bump-revision 0 --mark-compacted=true", "--mark-compacted is for --bump-revision above 0")]
#[case("--owner no-such-user-here", "there is no user \"no-such-user-here\"")]
#[case("--target-version 3.3", "3.4, 3.5, 3.6 and 3.7")]
#[case("--all-members", "--output")]
#[case("-o out", "--all-members")]
#[case("--all-members -o out --name m1", "cannot be used with")]
#[case("--all-members -o out --data-dir d", "cannot be used with")]
#[case("--all-members -o out --wal-dir d", "cannot be used with")]
#[case("--all-members -o out --initial-advertise-peer-urls http://localhost:2380", "cannot be used with")]
#[case("--emit nomad", "invalid value 'nomad'")]
#[case("--bump-revision -1", "is not a number from 0")]
fn usage_errors(#[case] flags: &str, #[case] text: &str) {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    let ran = room.run(&format!("snapshot restore snapshot.db {flags}"));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains(text), "{}", ran.stderr);
    assert_eq!(room.names(), ["snapshot.db"]);
}

#[rstest]
#[case("--name zz --initial-cluster m1=http://127.0.0.1:1", "\"zz\" is not in --initial-cluster")]
#[case("--initial-cluster default=nonsense", "nonsense")]
fn what_does_not_fit(#[case] flags: &str, #[case] text: &str) {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    let ran = room.run(&format!("snapshot restore snapshot.db {flags}"));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.starts_with("Error: ") && ran.stderr.contains(text), "{}", ran.stderr);
    assert_eq!(room.names(), ["snapshot.db"]);
}

#[test]
fn the_memory_map_size_is_spoken_of_only_in_the_debug_log() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    let flags = "snapshot restore snapshot.db --dry-run --initial-memory-map-size 0x1000";
    assert!(!room.run(flags).stderr.contains("memory-map"));
    let debug = room.run(&format!("{flags} --log-level debug"));
    assert!(debug.stderr.contains("--initial-memory-map-size has no effect"), "{}", debug.stderr);
}
