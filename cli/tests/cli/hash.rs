//! `snapshot hash`.

use insta::assert_snapshot;
use rstest::rstest;

use crate::run::Room;

fn without_trailer() -> Room {
    let room = Room::new();
    let bytes = testdata::snapshot("3.5.30", "s3-final");
    room.write("db", &bytes[..bytes.len() - 32]);
    room
}

#[test]
fn verified() {
    let ran = Room::with_snapshot("3.5.30", "s3-final").run("snapshot hash snapshot.db");
    assert_eq!(ran.code, 0);
    assert_snapshot!(ran.stdout, @r"verified, 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b, 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b");
}

#[test]
fn absent_says_what_can_be_done() {
    let ran = without_trailer().run("snapshot hash db -w table");
    assert_eq!(ran.code, 3);
    assert_snapshot!(ran.stdout, @r"
    ┌───────────┬─────────────────┬──────────────────────────────────────────────────────────────────┐
    │ INTEGRITY │ EXPECTED SHA256 │                         COMPUTED SHA256                          │
    ├───────────┼─────────────────┼──────────────────────────────────────────────────────────────────┤
    │    absent │                 │ 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b │
    └───────────┴─────────────────┴──────────────────────────────────────────────────────────────────┘
    ");
    assert_snapshot!(ran.stderr, @r"
    integrity: absent: the file carries no SHA-256, as a db from a data dir does not and a snapshot does; its content has sha256 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b
    To restore it as it is: etcd-rescue snapshot restore db --skip-hash-check. To give it a hash, when you know that it is what was saved: etcd-rescue snapshot hash db --attach -o OUT
    ");
}

#[test]
fn mismatch() {
    let room = Room::new();
    let mut bytes = testdata::snapshot("3.5.30", "s3-final");
    bytes[9000] ^= 1;
    room.write("db", &bytes);
    let ran = room.run("snapshot hash db -w json --quiet");
    assert_eq!(ran.code, 3);
    let json = ran.json();
    assert_eq!(json["integrity"], "mismatch");
    assert_ne!(json["expected"], json["computed"]);
    assert!(ran.stderr.starts_with("integrity: mismatch"), "{}", ran.stderr);
}

#[test]
fn attached_makes_what_was_cut_off() {
    let room = without_trailer();
    let dry = room.run("snapshot hash db --attach -o whole.db --dry-run");
    assert_eq!((dry.code, room.names()), (0, vec!["db".to_owned()]), "{dry:?}");
    let ran = room.run("snapshot hash db --attach -o whole.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(room.read("whole.db") == testdata::snapshot("3.5.30", "s3-final"));
    assert_snapshot!(ran.stdout, @r"whole.db, 234 kB, 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b");
    assert_snapshot!(ran.stderr, @r"Wrote whole.db, which ends with the hash of what it holds; db is unchanged.");
}

#[rstest]
#[case("--attach", "-o OUT")]
#[case("-o out.db", "--attach")]
#[case("--dry-run", "--attach")]
fn flags_that_need_each_other(#[case] flags: &str, #[case] named: &str) {
    let room = without_trailer();
    let ran = room.run(&format!("snapshot hash db {flags}"));
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.starts_with("Error: ") && ran.stderr.contains(named), "{}", ran.stderr);
    assert_eq!(room.names(), ["db"]);
}
