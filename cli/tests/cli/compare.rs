//! `compare`, as a user sees it, on three members of a real cluster that were killed one after the other.

use std::fs;
use std::path::Path;

use serde_json::Value;
use testdata::fingerprint;

use crate::run::{Ran, Room};

/// A room with the members `n1`, `n2` and `n3`.
///
/// n2 was killed early; n3 later, under load; n1 was then stopped. By the facts that were recorded beside them n1's database has
/// entry 4251, n2's 1800 and n3's 4235; n1 and n3 have commit 4251 and entry 4252, n2 has commit 1809 and entry 1810.
fn with_members() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    room
}

fn codes(ran: &Ran) -> Vec<String> {
    let json = ran.json();
    let codes = json["findings"].as_array().unwrap().iter();
    codes.map(|found| found["code"].as_str().unwrap().to_owned()).collect()
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Puts other bytes, of the same length, in the place of `old` wherever it stands in `file`; gives how often that was.
fn patch(file: &Path, old: &[u8], new: &[u8]) -> usize {
    assert_eq!(old.len(), new.len());
    let mut bytes = fs::read(file).unwrap();
    let mut count = 0;
    for at in 0..bytes.len() - old.len() {
        if bytes[at..].starts_with(old) {
            bytes[at..at + old.len()].copy_from_slice(new);
            count += 1;
        }
    }
    fs::write(file, bytes).unwrap();
    count
}

#[test]
fn three_killed_members_are_ranked_and_share_one_history() {
    let room = with_members();
    let before: Vec<_> = ["n1", "n2", "n3"].map(|name| fingerprint(&room.path().join(name))).into();
    let ran = room.run("compare n2 n3 n1 -w json");
    let json = ran.json();
    assert_eq!((ran.code, codes(&ran)), (0, vec![]), "{}", ran.stderr);
    let of = |name: &str| {
        let members = json["members"].as_array().unwrap();
        members.iter().find(|member| member["name"] == name).unwrap().clone()
    };
    let numbers = |name: &str| {
        ["rank", "consistentIndex", "commit", "lastIndex"].map(|what| of(name)[what].as_u64().unwrap())
    };
    assert_eq!(numbers("n1"), [1, 4251, 4251, 4252]);
    assert_eq!(numbers("n3"), [2, 4235, 4251, 4252]);
    assert_eq!(numbers("n2"), [3, 1800, 1809, 1810]);
    assert_eq!(of("n1")["writtenBy"], "3.5");
    let history = &json["history"];
    assert_eq!(history["voters"].as_array().unwrap().len(), 3);
    assert_eq!((&history["hasQuorum"], history["unread"].as_array().unwrap().len()), (&Value::Bool(true), 0));
    assert!(history["certainTo"].as_u64().unwrap() >= 4251, "{history}");
    let chain = history["chain"].as_array().unwrap();
    assert_eq!(chain.last().unwrap()["last"], 4252);
    for pair in chain.windows(2) {
        assert_eq!(pair[0]["last"].as_u64().unwrap() + 1, pair[1]["first"].as_u64().unwrap());
    }
    let data = &json["data"];
    assert_eq!((&data["agree"], &data["comparedTo"]), (&Value::Bool(true), &of("n2")["revision"]));
    assert_eq!(data["groups"][0].as_array().unwrap().len(), 3);
    for (name, before) in ["n1", "n2", "n3"].iter().zip(before) {
        assert_eq!(fingerprint(&room.path().join(name)), before);
    }
    // The same through pread, and by the member dirs with their logs named.
    let other = room.run("compare n2 n3 n1 -w json --io pread --no-lock");
    assert_eq!(other.json(), json);
    for name in ["n1", "n2"] {
        fs::rename(room.path().join(name).join("member/wal"), room.path().join(format!("{name}-log")))
            .unwrap();
    }
    let apart = room.run("compare n1 n2 --wal-dir n1-log --wal-dir n2-log -w json").json();
    assert_eq!(apart["history"]["voters"], history["voters"]);
    assert_eq!(apart["history"]["hasQuorum"], true);
}

#[test]
fn what_a_lone_survivor_cannot_know_is_said() {
    let room = with_members();
    let ran = room.run("compare n2");
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("ETCD-NO-QUORUM-READ"), "{}", ran.stderr);
    assert!(ran.stdout.contains("(not given)") && ran.stdout.contains("n3"), "{}", ran.stdout);
    let ran = room.run("compare n2 -w json");
    let json = ran.json();
    assert_eq!(codes(&ran), ["ETCD-NO-QUORUM-READ"]);
    assert_eq!(json["history"]["unread"].as_array().unwrap().len(), 2);
    assert!(json["history"]["certainTo"].as_u64().unwrap() >= 1809);
}

#[test]
fn a_directory_that_is_given_twice_is_refused() {
    let room = with_members();
    std::os::unix::fs::symlink("n1", room.path().join("link")).unwrap();
    for other in ["n1", "./n1", "link", "n1/member", "n1/member/snap/db", "link/member"] {
        let ran = room.run(&format!("compare n1 n3 {other}"));
        assert_eq!(ran.code, 2, "{other}: {}", ran.stderr);
        assert!(ran.stderr.contains("counted twice") && ran.stderr.contains("n1"), "{}", ran.stderr);
    }
    fs::rename(room.path().join("n3/member/wal"), room.path().join("log")).unwrap();
    let ran = room.run("compare n3 n2 --wal-dir log --wal-dir log");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[test]
fn members_of_different_clusters_are_told_apart() {
    let room = with_members();
    testdata::data_dir("3.6.14", room.path());
    let ran = room.run("compare n1 data n2");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    for said in ["different clusters", "n1 is member", "data is member", "n2 is member"] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    // A database alone says by its members where it belongs.
    fs::copy(room.path().join("data/member/snap/db"), room.path().join("other.db")).unwrap();
    fs::copy(room.path().join("n3/member/snap/db"), room.path().join("ours.db")).unwrap();
    let ran = room.run("compare n1 other.db");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let ran = room.run("compare n1 n2 ours.db -w json");
    let json = ran.json();
    assert_eq!((ran.code, &json["data"]["agree"]), (0, &Value::Bool(true)), "{}", ran.stderr);
    assert_eq!(json["data"]["groups"][0].as_array().unwrap().len(), 3);
}

#[test]
fn an_earlier_copy_of_a_member_gives_way_to_the_later_one() {
    let room = with_members();
    let (now, then) = (room.path().join("n1"), room.path().join("n1-yesterday"));
    copy(&now, &then);
    // What n1 was before its log had the last entries: a server's log ends in zeros.
    let wal = then.join("member/wal");
    let mut segments: Vec<_> = fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    segments.sort();
    let segment = segments.last().unwrap();
    let dump = room.run("wal dump n1-yesterday -w json");
    let cut = dump
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["Index"] == 4250)
        .find_map(|line| line["offset"].as_u64());
    let cut = usize::try_from(cut.unwrap()).unwrap();
    let mut bytes = fs::read(segment).unwrap();
    bytes[cut..].fill(0);
    fs::write(segment, bytes).unwrap();
    for line in ["compare n1-yesterday n1 n3 -w json", "compare n1 n3 n1-yesterday -w json"] {
        let ran = room.run(line);
        let json = ran.json();
        assert_eq!((ran.code, codes(&ran)), (3, vec!["ETCD-STALE-COPY".to_owned()]), "{}", ran.stderr);
        assert_eq!(json["setAside"][0]["path"], "n1-yesterday");
        assert_eq!(json["setAside"][0]["newer"], "n1");
        assert_eq!(json["members"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_value_that_differs_is_found_at_its_revision() {
    let room = with_members();
    // bbolt's pages have no checksum: the file is sound, and says something else.
    let puts = room.run("kv history n2 --prefix /load -w json --values");
    let put: Value = serde_json::from_str(puts.stdout.lines().nth(7).unwrap()).unwrap();
    let (key, value) = (put["key"].as_str().unwrap().to_owned(), put["value"].as_str().unwrap().to_owned());
    let revision = put["revision"].as_i64().unwrap();
    let mut other = value.clone().into_bytes();
    other[0] ^= 1;
    assert!(patch(&room.path().join("n3/member/snap/db"), value.as_bytes(), &other) > 0);
    let ran = room.run("compare n1 n2 n3 -w json");
    let json = ran.json();
    assert_eq!((ran.code, codes(&ran)), (3, vec!["ETCD-DATA-DIFFERS".to_owned()]), "{}", ran.stderr);
    let data = &json["data"];
    assert_eq!(
        (&data["agree"], &data["firstRevision"]),
        (&Value::Bool(false), &Value::from(revision)),
        "{data}"
    );
    assert_eq!(data["atFirstRevision"][0]["key"], key.as_str());
    assert_eq!(data["groups"][0].as_array().unwrap().len(), 2);
    let ran = room.run("compare n1 n2 n3");
    for said in [format!("first difference, at revision {revision}"), key, "ETCD-DATA-DIFFERS".to_owned()] {
        assert!(ran.stdout.contains(&said) || ran.stderr.contains(&said), "{said}: {ran:?}");
    }
}

#[test]
fn what_cannot_be_compared_is_said_plainly() {
    let room = with_members();
    for (line, code, says) in [
        ("compare", 2, "<DIR>"),
        ("compare n1 n2 --wal-dir n1/member/wal", 2, "once for each"),
        ("compare nowhere n1", 1, "nowhere"),
        ("compare n1 .", 1, "several of etcd's"),
        ("compare n1 --limit many", 2, "--limit"),
        ("compare n1 -w protobuf", 4, "protobuf"),
    ] {
        let ran = room.run(line);
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(ran.stderr.contains(says), "{line}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{line}");
    }
    // A member without its database, and one with nothing but it.
    fs::remove_file(room.path().join("n2/member/snap/db")).unwrap();
    fs::remove_dir_all(room.path().join("n3/member/wal")).unwrap();
    let ran = room.run("compare n1 n2 n3 -w json");
    let json = ran.json();
    assert_eq!(json["members"].as_array().unwrap().len(), 3, "{ran:?}");
    assert_eq!(json["data"]["groups"][0].as_array().unwrap().len(), 2);
    for format in ["table", "fields", "simple"] {
        let ran = room.run(&format!("compare n1 n2 n3 -w {format}"));
        assert!(ran.stdout.contains("n1") && ran.stdout.contains("4252"), "{format}: {}", ran.stdout);
    }
}

#[test]
fn a_member_that_was_made_a_cluster_by_force_tells_another_history() {
    let room = with_members();
    // Its last entry was not known to be committed, and is left out: a finding.
    assert_eq!(room.run("cluster force-new n1 -o forked").code, 3);
    for line in ["compare forked n1 n2", "compare n3 forked"] {
        let ran = room.run(&format!("{line} -w json"));
        let json = ran.json();
        assert_eq!((ran.code, codes(&ran)), (3, vec!["ETCD-TWO-HISTORIES".to_owned()]), "{}", ran.stderr);
        // The fork was made where n1 had its last commit.
        assert_eq!(json["history"]["conflicts"][0]["after"], 4251, "{}", json["history"]);
        let ran = room.run(line);
        assert!(ran.stderr.contains("decide which history counted"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("--initial-cluster"), "{}", ran.stderr);
    }
    let both = room.run("compare forked n1");
    assert!(both.stderr.contains("n1 (forked)") && both.stderr.contains("n1 (n1)"), "{}", both.stderr);
    // By itself each is sound, and the new cluster has one voter.
    let json = room.run("compare forked -w json").json();
    assert_eq!(
        (json["history"]["voters"].as_array().unwrap().len(), &json["history"]["hasQuorum"]),
        (1, &Value::Bool(true))
    );
}
