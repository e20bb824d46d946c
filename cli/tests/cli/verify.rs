//! `verify`, as a user sees it.

use std::fs;

use rstest::rstest;
use testdata::fingerprint;

use crate::run::Room;

/// A room with the data dir of a real server, called `data`.
fn with_data(version: &str) -> Room {
    let room = Room::new();
    testdata::data_dir(version, room.path());
    room
}

#[rstest]
fn members_of_all_versions_boot_as_they_are(
    #[values("3.4.23", "3.5.1", "3.5.30", "3.6.14", "3.7.1")] version: &str,
) {
    let room = with_data(version);
    let before = fingerprint(&room.path().join("data"));
    let ran = room.run("verify data -w json");
    let json = ran.json();
    let codes: Vec<&str> =
        json["findings"].as_array().unwrap().iter().filter_map(|found| found["code"].as_str()).collect();
    // The alarm was raised on purpose when these were made.
    assert_eq!((ran.code, codes), (3, vec!["ETCD-ALARM-RAISED"]));
    assert_eq!(json["verdict"], "boots-as-is");
    let minor = version.rsplit_once('.').unwrap().0;
    assert!(json["release"].as_str().unwrap().starts_with(minor), "{}", json["release"]);
    assert_eq!(json["predictions"].as_array().unwrap().len(), 5);
    let done = json["checked"].as_array().unwrap().iter().filter(|checked| checked["done"] == true);
    assert!(done.count() >= 7, "{}", json["checked"]);
    assert_eq!(fingerprint(&room.path().join("data")), before);
    let mut other = room.run("verify data --io pread --no-lock -w json").json();
    other["next"] = json["next"].clone();
    assert_eq!(other, json);
}

#[test]
fn what_was_not_checked_is_said() {
    let room = with_data("3.5.30");
    fs::rename(room.path().join("data/member/wal"), room.path().join("log")).unwrap();
    let ran = room.run("verify data");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("not checked: log (there is none here)"), "{}", ran.stdout);
    assert!(ran.stdout.contains("verdict: needs repair"), "{}", ran.stdout);
    assert!(ran.stderr.contains("WAL-NO-SEGMENTS") && ran.stderr.contains("--wal-dir"), "{}", ran.stderr);
    let apart = room.run("verify data --wal-dir log");
    assert!(apart.stdout.contains("verdict: boots as is"), "{}", apart.stdout);
    assert!(!apart.stderr.contains("WAL-NO-SEGMENTS"), "{}", apart.stderr);
}

#[test]
fn several_paths_are_told_apart() {
    let room = with_data("3.5.30");
    room.write("snapshot.db", &testdata::snapshot("3.5.30", "s3-final"));
    let mut short = testdata::snapshot("3.5.30", "s3-final");
    short.truncate(4096 * 40);
    room.write("short.db", &short);
    let ran = room.run("verify data snapshot.db short.db");
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("short.db: error BBOLT-SHORT-FILE"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("snapshot.db: error"), "{}", ran.stderr);
    assert!(ran.stdout.contains("snapshot.db:\nchecked: integrity hash (SHA-256"), "{}", ran.stdout);
    let lines = room.run("verify data snapshot.db short.db -w json").stdout;
    assert_eq!(lines.lines().count(), 3);
}

#[test]
fn a_removed_member_is_told_that_it_is() {
    let room = Room::new();
    testdata::unpack("restored/3.5.30-by-3.4.23.tar.zst", room.path());
    let dir = fs::read_dir(room.path()).unwrap().next().unwrap().unwrap().file_name();
    let ran = room.run_words(&["verify", dir.to_str().unwrap()]);
    // Etcd 3.4 leaves term and members of the old cluster.
    assert_eq!(ran.code, 3);
    for code in ["warning ETCD-MEMBERS", "warning ETCD-TERM"] {
        assert!(ran.stderr.contains(code), "{}", ran.stderr);
    }
}

#[rstest]
#[case("verify", 2, "required")]
#[case("verify nowhere", 1, "nowhere: No such file")]
#[case("verify notes.txt", 1, "none of etcd's files")]
#[case("verify data -w protobuf", 4, "protobuf not supported")]
#[case("verify data data --wal-dir log", 2, "of one member")]
#[case("verify data --explain WAL-CRC", 2, "cannot be used with")]
#[case("verify --explain meta-range", 2, "BBOLT-META-RANGE, BBOLT-OLDER-META-RANGE")]
#[case("verify --explain nothing", 2, "--explain all")]
fn what_is_not_possible_is_said(#[case] line: &str, #[case] code: i32, #[case] says: &str) {
    let room = with_data("3.5.1");
    room.write("notes.txt", b"notes");
    let ran = room.run(line);
    assert_eq!(ran.code, code, "{}", ran.stderr);
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
}

#[test]
fn codes_are_explained_for_people_and_for_programs() {
    let room = Room::new();
    let ran = room.run("verify --explain wal-crc");
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.starts_with("WAL-CRC: ") && ran.stdout.contains("\nRemedy: "), "{}", ran.stdout);
    assert!(!ran.stdout.contains('`'));
    assert_eq!(room.run("verify --explain WAL-CRC -w json").json()["code"], "WAL-CRC");
    let all = room.run("verify --explain all -w json").json();
    assert!(all.as_array().unwrap().len() > 100);
}

#[test]
fn the_next_command_is_fit_for_a_shell_and_knows_where_the_log_is() {
    let room = with_data("3.5.30");
    fs::rename(room.path().join("data/member/wal"), room.path().join("the log")).unwrap();
    fs::rename(room.path().join("data"), room.path().join("a member's")).unwrap();
    let ran = room.run_words(&["verify", "a member's", "--wal-dir", "the log", "-w", "json"]);
    let next = ran.json()["next"].as_str().unwrap().to_owned();
    assert_eq!(next, r"etcd-rescue snapshot save 'a member'\''s' --wal-dir 'the log' -o saved.db");
}

#[test]
fn a_path_that_is_not_there_does_not_hide_the_others() {
    let room = with_data("3.5.30");
    let ran = room.run("verify nowhere data");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("nowhere: No such file"), "{}", ran.stderr);
    assert!(ran.stdout.contains("verdict: boots as is"), "{}", ran.stdout);
}

#[test]
fn the_restore_that_is_named_next_can_be_run() {
    let room = with_data("3.5.30");
    let ran = room.run("verify data/member/snap/db -w json");
    let next = ran.json()["next"].as_str().unwrap().to_owned();
    let restored = room.run(next.strip_prefix("etcd-rescue ").unwrap());
    assert!(room.path().join("restored/member").is_dir(), "{next}: {}", restored.stderr);
}
