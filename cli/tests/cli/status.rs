//! `snapshot status`: integrity, damage, kinds of input.

use insta::assert_snapshot;
use rstest::rstest;

use crate::run::Room;

#[test]
fn verified() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("snapshot status snapshot.db");
    assert_eq!(ran.code, 0);
    assert_snapshot!(ran.stderr, @r"integrity: verified (sha256 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b)");
}

#[test]
fn without_trailer() {
    let room = Room::new();
    let bytes = testdata::snapshot("3.5.30", "s3-final");
    room.write("db", &bytes[..bytes.len() - 32]);
    let ran = room.run("snapshot status db -w json");
    assert_eq!(ran.code, 0);
    assert_eq!(ran.json()["integrity"], "absent");
    assert_snapshot!(ran.stderr, @r"integrity: absent: the file carries no SHA-256, as a db from a data dir does not and a snapshot does");
}

#[test]
fn wrong_trailer() {
    let room = Room::new();
    let mut bytes = testdata::snapshot("3.5.30", "s3-final");
    *bytes.last_mut().expect("a last byte") ^= 1;
    room.write("db", &bytes);
    let ran = room.run("snapshot status db -w json");
    assert_eq!(ran.code, 3);
    assert_eq!(ran.json()["integrity"], "mismatch");
    assert_snapshot!(ran.stderr, @r"
    integrity: mismatch
    error SNAP-HASH-MISMATCH: the image's SHA-256 is 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b, its trailer says 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5a: the file changed after it was taken. Copy it again, or use another snapshot
    ");
    let quiet = room.run("snapshot status db -w json -q");
    assert_eq!(quiet, ran, "a mismatch is told even with --quiet");
}

#[rstest]
#[case("")]
#[case("=true")]
#[case("=T")]
fn hash_check_skipped(#[case] value: &str) {
    let room = Room::new();
    let mut bytes = testdata::snapshot("3.5.30", "s3-final");
    *bytes.last_mut().expect("a last byte") ^= 1;
    room.write("db", &bytes);
    let ran = room.run(&format!("snapshot status --skip-hash-check{value} db -w json"));
    assert_eq!(ran.code, 0);
    assert_eq!(ran.json()["integrity"], "unchecked");
}

#[test]
fn hash_check_not_skipped_after_all() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("snapshot status --skip-hash-check --skip-hash-check=false snapshot.db -w json");
    assert_eq!(ran.json()["integrity"], "verified");
}

#[test]
fn a_data_dir_and_a_member_dir() {
    let room = Room::new();
    testdata::data_dir("3.6.14", room.path());
    let data_dir = room.run("snapshot status data");
    assert_eq!(data_dir.code, 0, "{data_dir:?}");
    let member_dir = room.run("snapshot status data/member --io=pread");
    assert_eq!(member_dir.stdout, data_dir.stdout);
    let file = room.run("snapshot status data/member/snap/db --no-lock");
    assert_eq!(file.stdout, data_dir.stdout);
}

#[test]
fn quiet_tells_nothing_of_sound_data() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("--quiet snapshot status snapshot.db");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn damage_is_a_list_of_findings() {
    let room = Room::new();
    let bytes = testdata::snapshot("3.5.30", "s3-final");
    // Half of its pages are gone.
    room.write("cut.db", &bytes[..bytes.len() / 2 / 4096 * 4096]);
    let ran = room.run("snapshot status cut.db -w json");
    assert_eq!(ran.code, 3, "{ran:?}");
    let json = ran.json();
    assert!(json["findings"].as_array().is_some_and(|findings| !findings.is_empty()), "{json}");
    assert!(json.get("hash").is_none(), "{json}");
    assert!(ran.stderr.lines().any(|line| line.starts_with("error ")), "{}", ran.stderr);
    let simple = room.run("snapshot status cut.db");
    assert_eq!((simple.code, simple.stdout.as_str()), (3, ""));
    let quiet = room.run("snapshot status cut.db -q");
    assert!(quiet.stderr.starts_with("error "), "{}", quiet.stderr);
}

#[test]
fn a_missing_file() {
    let ran = Room::new().run("snapshot status nowhere.db");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_snapshot!(ran.stderr, @r"Error: nowhere.db: No such file or directory (os error 2)");
}
