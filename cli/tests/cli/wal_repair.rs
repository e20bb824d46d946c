//! `wal repair`: what it says, writes and refuses.

use testdata::damage::Damage;
use testdata::fingerprint;

use crate::run::Room;

/// A room with a damaged member in `node/data`.
fn room(damage: &str) -> Room {
    let room = Room::new();
    let _ = Damage::named(damage).make("3.5.16", &room.path().join("node"));
    room
}

#[test]
fn a_torn_tail_is_planned_and_cut_without_a_flag() {
    let room = room("torn-tail");
    let before = fingerprint(&room.path().join("node"));
    let planned = room.run("wal repair node/data");
    assert_eq!(planned.code, 3, "{planned:?}");
    assert!(
        planned
            .stdout
            .starts_with("put right: 0000000000000000-0000000000000000.wal: the last record, at 0x")
    );
    assert!(planned.stderr.contains("-o DIR writes the mended copy"), "{planned:?}");
    assert!(!planned.stderr.contains("rejoin"), "{planned:?}");
    let dry = room.run("wal repair node/data -o out --dry-run");
    assert_eq!((dry.code, room.names()), (3, vec!["node".to_owned()]), "{dry:?}");
    let done = room.run("wal repair node/data -o out -w json");
    assert_eq!(done.code, 0, "{done:?}");
    let json = done.json();
    assert_eq!(json["written"], true);
    assert_eq!(json["changes"][0]["kind"], "tailDropped");
    assert_eq!(json["losses"].as_array().unwrap().len(), 0);
    assert_eq!(json["mustNotRejoin"], false);
    assert!(json["hardState"]["vote"].is_string());
    let again = room.run("wal repair out");
    assert_eq!((again.code, again.stdout.lines().next()), (0, Some("nothing to repair")), "{again:?}");
    assert_eq!(room.run("wal verify out").code, 0);
    let taken = room.run("wal repair node/data -o out");
    assert_eq!(taken.code, 1, "{taken:?}");
    assert_eq!(fingerprint(&room.path().join("node")), before);
}

#[test]
fn nothing_is_written_into_the_input() {
    let room = room("torn-tail");
    let before = fingerprint(&room.path().join("node"));
    for output in [
        "node/data/mended",
        "node/data/member/wal/mended",
        "node/data/member/snap/a/b",
        "node/data/member/../x",
    ] {
        let refused = room.run(&format!("wal repair node/data -o {output}"));
        assert_eq!(refused.code, 1, "{output}: {refused:?}");
        assert!(refused.stderr.contains("stays as it is"), "{output}: {refused:?}");
        assert_eq!(fingerprint(&room.path().join("node")), before, "{output}");
    }
    assert_eq!(room.run("wal repair node/data -o node/beside").code, 0);
}

#[test]
fn loss_needs_the_flag_and_is_told() {
    let room = room("zero-sector-late");
    let held = room.run("wal repair node/data -o out");
    assert_eq!(held.code, 4, "{held:?}");
    assert!(held.stdout.contains("lost: "), "{held:?}");
    assert!(held.stderr.contains("--accept-loss") && held.stderr.contains("never rejoin"), "{held:?}");
    assert_eq!(room.names(), ["node"]);
    let done = room.run("wal repair node/data -o out --accept-loss -w json");
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!((&done.json()["written"], &done.json()["mustNotRejoin"]), (&true.into(), &true.into()));
    assert_eq!(room.run("wal repair out").code, 0);
    let table = room.run("wal repair node/data -w table");
    assert!(table.stdout.contains("DETAIL") && table.stdout.contains("lost"), "{table:?}");
}

#[test]
fn what_a_snapshot_covers_keeps_nobody_from_rejoining() {
    let room = room("zero-sector-middle");
    let held = room.run("wal repair node/data");
    assert_eq!(held.code, 4, "{held:?}");
    assert!(held.stdout.contains("which servers start from, covers what was committed of them"), "{held:?}");
    assert!(!held.stderr.contains("rejoin"), "{held:?}");
    let mended = room.run("wal repair node/data -o out --accept-loss");
    assert_eq!(mended.code, 0, "{mended:?}");
    let gap = room.run("wal verify out");
    assert_eq!(gap.code, 3, "{gap:?}");
    assert!(gap.stderr.contains("warning WAL-ENTRY-GAP") && !gap.stderr.contains("wal repair"), "{gap:?}");
    assert!(gap.stderr.contains("which covers what is missing"), "{gap:?}");
    assert_eq!(room.run("wal repair out").code, 0);
}

#[test]
fn a_log_alone_is_not_cut_below_what_is_committed() {
    let room = room("zero-sector-late");
    let refused = room.run("wal repair node/data/member/wal -o out --accept-loss");
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stdout.contains("refused: the log would end at entry"), "{refused:?}");
    assert!(refused.stderr.contains("Give the data dir"), "{refused:?}");
    assert_eq!(room.names(), ["node"]);
    let json = room.run("wal repair node/data/member/wal -w json").json();
    assert_eq!(json["held"], "refused");
}

#[test]
fn what_is_no_log_is_said() {
    let room = room("torn-tail");
    let one = room.run("wal repair node/data/member/wal/0000000000000000-0000000000000000.wal");
    assert_eq!(one.code, 1);
    assert!(one.stderr.contains("is one segment"), "{one:?}");
    assert_eq!(room.run("wal repair nothing").code, 1);
    assert_eq!(room.run("wal repair").code, 2);
}
