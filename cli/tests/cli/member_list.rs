//! `member list`, held against what etcdctl printed of the live servers whose files these are.

use rstest::rstest;
use testdata::fingerprint;

use crate::run::Room;

#[rstest]
fn the_json_is_what_etcdctl_printed(#[values("3.4.23", "3.5.1", "3.5.30", "3.6.14", "3.7.1")] version: &str) {
    let room = Room::new();
    testdata::data_dir(version, room.path());
    let before = fingerprint(&room.path().join("data"));
    let ran = room.run("member list data -w json");
    assert_eq!(ran.stdout, testdata::facts(version, "s3-final", "members.json"), "{version}");
    // 3.5.1 kept the rows of this member up to date; nothing else is to be found in any of them.
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(before == fingerprint(&room.path().join("data")), "listing changes nothing");
}

#[test]
fn each_of_three_killed_members_lists_the_three() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let recorded: serde_json::Value = {
        let path = testdata::path("fixtures/3.5.30/cluster3/facts/members.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    for name in ["n1", "n2", "n3"] {
        let ran = room.run(&format!("member list {name} -w json"));
        assert_eq!((ran.code, &ran.json()["members"]), (0, &recorded["members"]), "{name}: {}", ran.stderr);
    }
    // As etcdctl of 3.5 draws it: `oracle_member_list` holds every format against the real one.
    let drawn = room.run("member list n2 -w table").stdout;
    assert!(drawn.contains("|        ID        | STATUS  | NAME |       PEER ADDRS       |      CLIENT ADDRS      | IS LEARNER |\n"), "{drawn}");
    assert_eq!(drawn.lines().count(), 7, "{drawn}");
    let sources = room.run("member list n2 --sources -w json").json();
    assert_eq!(sources["account"], "v2-store");
    assert_eq!(sources["memberId"], "3fe4b3a4dda901c1");
    let names: Vec<&str> =
        sources["sources"].as_array().unwrap().iter().map(|said| said["source"].as_str().unwrap()).collect();
    assert_eq!(names, ["database", "snap", "etcd-3.4-3.5", "etcd-3.6-3.7", "raft"]);
}

/// A restore by etcdctl 3.4 leaves the rows of the old cluster, which 3.6 would bring back to life.
#[test]
fn where_sources_disagree_it_says_so() {
    let room = Room::new();
    testdata::unpack("restored/3.5.30-by-3.4.23.tar.zst", room.path());
    let dir = std::fs::read_dir(room.path()).unwrap().next().unwrap().unwrap().file_name();
    let dir = dir.to_str().unwrap();
    let ran = room.run(&format!("member list {dir} -w json"));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.json()["members"].as_array().unwrap().len(), 3);
    assert_eq!(ran.stderr.matches("warning ETCD-MEMBERS: ").count(), 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("has a row in the database, and does not belong to the cluster"));
    let sources = room.run(&format!("member list {dir} --sources -w json")).json();
    let rows = sources["sources"].as_array().unwrap().iter().find(|said| said["source"] == "database");
    assert_eq!(rows.unwrap()["members"].as_array().unwrap().len(), 1);
    let shown = room.run(&format!("member list {dir} --sources -w table"));
    assert!(shown.stdout.contains("absent"), "{}", shown.stdout);
}

#[test]
fn a_snapshot_lists_its_rows_and_what_is_no_database_is_refused() {
    let room = Room::with_snapshot("3.7.1", "s3-final");
    let ran = room.run("member list snapshot.db");
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 1), "{ran:?}");
    assert!(ran.stdout.contains(", started, n1, http://127.0.0.1:24211, http://127.0.0.1:24210, false"));
    room.write("text", b"no database");
    for (line, code, words) in [
        ("member list text", 1, "text: "),
        ("member list absent", 1, "absent: "),
        ("member list snapshot.db --sources -w protobuf", 4, "protobuf not supported"),
        ("member list", 2, "<DIR>"),
    ] {
        let ran = room.run(line);
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(ran.stderr.contains(words), "{line}: {}", ran.stderr);
    }
}

#[test]
fn what_is_damaged_is_told_and_the_other_source_shown() {
    let room = Room::new();
    let list = |damage: &str| {
        testdata::unpack(&format!("3.5.30/damaged/{damage}.tar.zst"), &room.path().join(damage));
        let dir = std::fs::read_dir(room.path().join(damage)).unwrap().next().unwrap().unwrap().file_name();
        room.run(&format!("member list {damage}/{}", dir.to_str().unwrap()))
    };
    let one = "2fa0a134ee80bef8, started, n1, http://127.0.0.1:24111, http://127.0.0.1:24110, false\n";
    for (damage, code, words) in [
        ("snap-corrupt-newest", 0, ""),
        ("db-both-meta-corrupt", 3, "What the newest .snap and the log say is shown instead"),
        ("wal-crc-mismatch-middle", 0, "no server starts from this log as it is"),
    ] {
        let ran = list(damage);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, one), "{damage}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{damage}: {}", ran.stderr);
    }
}
