//! `bbolt surgery`. What it says on stdout when it is done is bbolt 1.5's (`oracle_surgery.rs` holds it beside the tool).

use std::fs;

use insta::assert_snapshot;

use crate::run::Room;

/// A room with the image of a real snapshot, without its SHA-256.
fn room() -> Room {
    let room = Room::new();
    let snapshot = testdata::snapshot("3.4.23", "s1-precompact");
    room.write("source.db", &snapshot[..snapshot.len() - 32]);
    room
}

#[test]
fn before_and_after_are_told_and_the_result_is_checked() {
    let room = room();
    let before = testdata::fingerprint(&room.path().join("source.db"));
    let ran = room.run("bbolt surgery clear-page source.db --pageId 4 -o out.db");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_snapshot!(ran.stdout, @"The page (4) was cleared");
    assert_snapshot!(ran.stderr, @r#"
    page 4 before: a leaf of 22 elements, id 4, overflow 0
    page 4 after:  a leaf of 0 elements, id 4, overflow 0
    warning: page 4 is a leaf without elements now: right for the root of an empty bucket, while below a branch check reports it as BBOLT-EMPTY-LEAF, and its parent's element has to go too
    Findings before: 0, after: 1, of which new: 1.
    new: error BBOLT-EMPTY-LEAF: page 4 at 0x4000: is an empty leaf below a branch (bucket "key")
    The edited copy is out.db. It has 1 finding.
    "#);
    // The next step of the same operation.
    let ran = room
        .run("bbolt surgery clear-page-elements out.db --pageId 6 --from-index 2 --to-index 3 -o next.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(testdata::fingerprint(&room.path().join("source.db")), before);
    assert_eq!(room.names(), ["next.db", "out.db", "source.db"]);
}

#[test]
fn json_names_what_is_done() {
    let room = room();
    let ran = room.run("bbolt surgery freelist rebuild source.db -o out.db -w json");
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    assert_eq!(json["operation"], "freelist rebuild");
    assert_eq!(json["written"], true);
    assert_eq!(json["changes"][0]["after"]["type"], "freelist");
    assert_eq!(json["changes"][1]["after"]["freelist"], json["changes"][0]["page"]);
    assert_eq!((&json["findingsBefore"], &json["findingsAfter"]), (&0.into(), &0.into()));
    assert_eq!(json["warnings"][0]["kind"], "olderStateGivenUp");
    let ran = room.run("bbolt surgery revert-meta-page source.db -o other.db -w table");
    assert!(ran.code == 0 && ran.stdout.contains("│ PAGE │"), "{ran:?}");
    let ran = room.run("bbolt surgery revert-meta-page source.db -o fields.db -w fields");
    assert!(ran.code == 0 && ran.stdout.starts_with("\"Page\" : "), "{ran:?}");
}

#[test]
fn a_dry_run_checks_and_writes_nothing() {
    let room = room();
    let ran = room.run("bbolt surgery clear-page source.db --pageId 4 -o out.db --dry-run");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert!(ran.stderr.contains("Dry run: nothing was written"), "{ran:?}");
    assert!(ran.stderr.contains("BBOLT-EMPTY-LEAF"), "{ran:?}");
    assert_eq!(room.names(), ["source.db"]);
}

#[test]
fn what_would_be_lost_is_refused() {
    let room = room();
    let pages = [
        ("copy-page --from-page 30 --to-page 2", 4, "pages 3, 4, 6, 7 are in use"),
        ("copy-page --from-page 3 --to-page 31", 4, "page 31 is part of page 30"),
        ("clear-page --pageId 1", 2, "page 1 is a meta page"),
        ("clear-page --pageId 5000", 1, "the file ends"),
        ("copy-page --from-page 0 --to-page 3", 2, "page 0 is a meta page"),
        ("clear-page-elements --pageId 3 --from-index 3 --to-index 3", 2, "has to be smaller than the end"),
        ("clear-page-elements --pageId 3 --from-index 0 --to-index 99", 1, "has 42 elements"),
        ("clear-page-elements --pageId 3 --from-index 0 --to-index -2", 2, "-1 is the end of the page"),
        ("clear-page-elements --pageId 3 --from-index -1 --to-index 1", 2, "counted from 0"),
        ("meta update --fields txid:3", 2, "no field that can be set"),
        ("meta update --fields root", 2, "a field, a colon and a value"),
        ("meta update --fields root:+3", 2, "no value for root"),
        ("meta update --fields pageSize:5000", 2, "no possible page size"),
        ("meta update --meta-page 2", 2, "there is no meta 2"),
    ];
    for (operation, code, why) in pages {
        let ran = room.run(&format!("bbolt surgery {operation} source.db -o out.db"));
        let told =
            ran.stderr.contains(why) || (why == "the file ends" && ran.stderr.contains("the file ends at"));
        assert!(ran.code == code && told, "{operation}: {ran:?}");
        assert_eq!(room.names(), ["source.db"], "{operation}");
    }
    let ran =
        room.run("bbolt surgery copy-page --from-page 30 --to-page 2 --accept-loss source.db -o out.db");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("what is written over is lost"), "{ran:?}");
}

#[test]
fn an_existing_output_stays() {
    let room = room();
    room.write("out.db", b"precious");
    let ran = room.run("bbolt surgery revert-meta-page source.db -o out.db");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(room.read("out.db"), b"precious");
    let ran = room.run("bbolt surgery revert-meta-page source.db -o source.db");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(room.run("bbolt surgery revert-meta-page source.db").code, 2);
}

#[test]
fn both_metas_are_validated_wherever_the_second_is() {
    let room = room();
    let ran = room.run("bbolt surgery meta validate source.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_snapshot!(ran.stdout, @r"
    The meta page 0 is valid!
    The meta page 1 is valid!
    ");
    let mut bytes = room.read("source.db");
    bytes[40] ^= 1;
    room.write("torn.db", &bytes);
    let ran = room.run("bbolt surgery meta validate torn.db");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_snapshot!(ran.stdout, @r"
    WARNING: The meta page 0 isn't valid: checksum error!
    The meta page 1 is valid!
    ");
    assert!(ran.stderr.starts_with("warning BBOLT-META-CHECKSUM: page 0 is no valid meta"), "{ran:?}");
    // With the page size gone too, which the tool would take from there.
    bytes[..4096].fill(0);
    room.write("zeroed.db", &bytes);
    let ran = room.run("bbolt surgery meta validate zeroed.db");
    assert_snapshot!(ran.stdout, @r"
    WARNING: The meta page 0 isn't valid: invalid database!
    The meta page 1 is valid!
    ");
    bytes[4096 + 20] ^= 1;
    room.write("both.db", &bytes);
    let ran = room.run("bbolt surgery meta validate both.db -w json");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.json()["inForce"], serde_json::Value::Null);
    assert_eq!(room.run("bbolt surgery meta validate both.db --page-size 77").code, 2);

    // A broken meta gets no fresh checksum unasked, and both can be set right by hand.
    let ran = room.run("bbolt surgery meta update both.db --meta-page 1 -o out.db");
    assert!(ran.code == 4 && ran.stderr.contains("--accept-invalid-meta"), "{ran:?}");
    let ran = room.run("bbolt surgery meta update both.db --meta-page 1 --accept-invalid-meta -o out.db");
    assert_eq!(ran.code, 3, "{ran:?}");
    let ran = room.run("bbolt surgery copy-page out.db --from-page 1 --to-page 0 -o mended.db");
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// A hash that is not that of the edited pages is not carried on.
#[test]
fn a_snapshots_hash_goes_with_the_edit() {
    let room = room();
    testdata::snapshot_file("3.4.23", "s1-precompact", room.path());
    let ran = room.run("bbolt surgery freelist rebuild 3.4.23-s1-precompact.snapshot.db -o out.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("the output has none"), "{ran:?}");
    assert_eq!(room.read("out.db").len(), room.read("source.db").len());
    assert_eq!(room.run("snapshot hash out.db --attach -o hashed.db").code, 0);
    // Where nothing changes, it still is.
    let ran = room.run("bbolt surgery freelist abandon 3.4.23-s1-precompact.snapshot.db -o same.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("nothing changes"), "{ran:?}");
    assert_eq!(room.read("same.db"), room.read("3.4.23-s1-precompact.snapshot.db"));
    assert!(fs::metadata(room.path().join("out.db")).is_ok());
}

#[test]
fn no_freelist_is_made_of_a_damaged_file() {
    let room = room();
    let mut bytes = room.read("source.db");
    // Two keys of a leaf out of order: a walk does not mind, the check does.
    bytes[3 * 4096 + 16 + 16 * 42 + 3] ^= 0xFF;
    room.write("damaged.db", &bytes);
    let ran = room.run("bbolt surgery freelist rebuild damaged.db -o out.db");
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("error BBOLT-"), "{ran:?}");
    assert_eq!(room.names(), ["damaged.db", "source.db"]);
}
