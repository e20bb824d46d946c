//! `snapshot save`.

use insta::assert_snapshot;

use crate::run::Room;

#[test]
fn a_saved_snapshot_is_verified_and_restores() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    let before = testdata::fingerprint(&room.path().join("data"));
    let ran = room.run("snapshot save data -o saved.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_snapshot!(ran.stdout, @r"saved.db, 234 kB, 09d65f8484d69f04cfbb4beff6d60672f5e56569778d9c8e8feed0f201f576e3, 79, 190");
    assert_snapshot!(ran.stderr, @r"
    Snapshot saved at saved.db. To restore it: etcd-rescue snapshot restore saved.db
    warning: the log was not folded: the snapshot ends at the database's consistent index 190, and entries that only the log of data holds are not in it
    ");
    assert_eq!(room.run("snapshot hash saved.db").code, 0);
    assert_eq!(room.run("snapshot restore saved.db").code, 0);
    assert_eq!(testdata::fingerprint(&room.path().join("data")), before);
}

#[test]
fn json_and_dry_run() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    let ran = room.run("snapshot save data -o saved.db --dry-run -w json");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(room.names(), ["data"]);
    let json = ran.json();
    assert_eq!(json["dryRun"], true);
    assert_eq!(json["path"], "saved.db");
    assert_eq!(json["logNotFolded"], true);
    let sha256 = json["sha256"].as_str().expect("a hash").to_owned();
    let written = room.run("snapshot save data -o saved.db -w json").json();
    assert_eq!(written["sha256"], sha256.as_str());
    assert_eq!(written["dryRun"], false);
}

#[test]
fn an_existing_file_stays() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    room.write("saved.db", b"precious");
    let ran = room.run("snapshot save data -o saved.db");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(room.read("saved.db"), b"precious");
}

#[test]
fn the_online_form_is_explained() {
    let ran = Room::new().run("--endpoints http://10.0.0.1:2379 snapshot save backup.db");
    assert_eq!(ran.code, 2);
    assert_snapshot!(ran.stderr, @r"
    warning: --endpoints is ignored: etcd-rescue reads files and connects to nothing, so it may be left out
    Error: -o FILE is missing: this command makes a snapshot from a dead member's files and asks no server. From files: etcd-rescue snapshot save DIR -o FILE. From a running server: etcdctl snapshot save backup.db
    ");
}
