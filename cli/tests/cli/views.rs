//! `list-bucket`, `iterate-bucket`, `hash`, `scan-keys`: against what etcd-dump-db 3.6.14 printed of the same data, and on files
//! that are damaged.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::Value;

use crate::run::{Ran, Room};

const DB: &str = "data/member/snap/db";
const PAGE: usize = 4096;
/// The leaf that holds the oldest revisions, and the branch above it.
const LEAF: usize = 4;
const BRANCH: usize = 31;

/// A room with the data dir of the fixture in `data`.
fn room() -> Room {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    room
}

/// The same with `edit` applied to the db.
fn damaged(edit: impl FnOnce(&mut Vec<u8>)) -> Room {
    let room = room();
    let mut bytes = room.read(DB);
    edit(&mut bytes);
    fs::write(room.path().join(DB), bytes).unwrap();
    room
}

/// What etcd-dump-db printed, run by run: its words and its stdout.
fn samples(name: &str) -> Vec<(Vec<String>, String)> {
    let text = if Path::new(name).extension().is_some_and(|extension| extension == "zst") {
        String::from_utf8(testdata::decompressed(&format!("samples/{name}"))).unwrap()
    } else {
        testdata::sample(name)
    };
    let run = |run: &str| {
        let (command, rest) = run.split_once("\n--- stdout\n").unwrap();
        let (stdout, rest) = rest.split_once("\n--- stderr\n").unwrap();
        assert_eq!(rest.trim_end(), "--- rc=0", "{command}");
        let words =
            command.split_whitespace().map(|word| word.replace("fixtures/3.5.30/single/data", "data"));
        (words.collect(), stdout.replace("fixtures/3.5.30/single/data", "data"))
    };
    text.split("$ etcd-dump-db-3.6.14 ").skip(1).map(run).collect()
}

#[rstest]
#[case("dump-db-3.6.14.txt", 19)]
#[case("dump-db-hash-3.6.14.txt", 1)]
#[case("dump-db-key-3.6.14.txt.zst", 2)]
#[case("dump-db-scan-3.6.14.txt.zst", 1)]
fn sound_data_prints_as_etcd_dump_db_prints_it(#[case] name: &str, #[case] runs: usize) {
    let room = room();
    let before = room.read(DB);
    let samples = samples(name);
    assert_eq!(samples.len(), runs);
    for (mut words, expected) in samples {
        if words[0] == "iterate-bucket" {
            words.push("--show-secrets".to_owned());
        }
        let ran = room.run(&words.join(" "));
        assert!(ran.stdout == expected, "{words:?} printed\n{}\nexpected\n{expected}", ran.stdout);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{words:?}");
    }
    assert!(before == room.read(DB), "the db was changed");
}

#[test]
fn hashes_of_passwords_are_shown_on_demand_only() {
    let room = room();
    let hidden = room.run("iterate-bucket data authUsers");
    assert!(!hidden.stdout.contains("$2a$"), "{hidden:?}");
    assert_eq!(hidden.stdout.matches("<value removed>").count(), 3, "{hidden:?}");
    assert!(hidden.stderr.contains("--show-secrets"), "{hidden:?}");
    for line in ["iterate-bucket data authUsers -w json", "iterate-bucket data authUsers -w json --decode"] {
        let hidden = room.run(line);
        assert!(!hidden.stdout.contains("$2a$"), "{hidden:?}");
        let shown = room.run(&format!("{line} --show-secrets"));
        assert_eq!(shown.stdout.matches("$2a$").count(), 3, "{shown:?}");
    }
}

#[test]
fn a_row_that_cannot_be_read_hides_what_may_be_a_hash_in_it() {
    let room = damaged(|bytes| {
        // The name of the field of alice's roles becomes one that no version has.
        let needle = b"\x1a\x06reader\"\x00";
        let at: Vec<usize> =
            bytes.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle).map(|(at, _)| at).collect();
        assert!(!at.is_empty());
        for at in at {
            bytes[at] = 0x7a;
        }
    });
    let ran = room.run("iterate-bucket data authUsers");
    assert!(ran.stdout.contains("key=\"alice\", value=\"<value removed>\"\n"), "{ran:?}");
}

fn json_lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn json_says_which_pages_are_in_use() {
    let room = room();
    let ran = room.run("scan-keys data 0 -w json");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = json_lines(&ran);
    let of = |reachable: bool| lines.iter().filter(move |line| line["reachable"] == reachable);
    // The bucket holds as many as are on pages in use; older copies lie on the others.
    let held = room.run("iterate-bucket data key -w json --decode");
    let mut in_use: Vec<&Value> = of(true).map(|line| &line["revision"]).collect();
    let held = json_lines(&held);
    let mut held: Vec<&Value> = held.iter().map(|line| &line["revision"]).collect();
    let order = |a: &&Value, b: &&Value| {
        let place = |v: &Value| (v["main"].as_i64(), v["sub"].as_i64());
        place(a).cmp(&place(b))
    };
    in_use.sort_by(order);
    held.sort_by(order);
    assert_eq!(in_use, held);
    assert!(of(false).any(|line| line["page"] == 6), "page 6 is free and still holds a leaf");
}

#[test]
fn a_limit_ends_the_walk_and_0_is_none() {
    let room = room();
    let all = room.run("iterate-bucket data key --decode");
    assert_eq!(room.run("iterate-bucket data key --decode --limit 0").stdout, all.stdout);
    let ten: String = all.stdout.split_inclusive('\n').take(10).collect();
    assert_eq!(room.run("iterate-bucket data key --decode --limit 10").stdout, ten);
}

#[test]
fn a_lost_leaf_is_marked_and_the_rest_is_printed() {
    let sound = room().run("iterate-bucket data key --decode").stdout;
    let room = damaged(|bytes| bytes[LEAF * PAGE..(LEAF + 1) * PAGE].fill(0));
    let ran = room.run("iterate-bucket data key --decode");
    assert_eq!(ran.code, 3);
    let mark = "Error: BBOLT-WRONG-ID: page 4 at 0x4000: calls itself page 0\n";
    let (before, after) = ran.stdout.split_once(mark).unwrap();
    assert!(sound.starts_with(before) && sound.ends_with(after), "more than the leaf is gone");
    let lost = sound.lines().count() - before.lines().count() - after.lines().count();
    assert_eq!(lost, 42, "the leaf had 42 pairs");
    assert!(ran.stderr.contains("error BBOLT-WRONG-ID: page 4"), "{}", ran.stderr);
    let scanned = room.run("scan-keys data 0");
    assert_eq!((scanned.code, scanned.stdout.matches(mark).count()), (3, 1));
    let hashed = room.run("hash data");
    assert_eq!((hashed.code, hashed.stdout.as_str()), (1, ""));
    assert!(hashed.stderr.contains("page 4"), "{}", hashed.stderr);
}

#[test]
fn a_table_with_a_wrong_count_loses_nothing() {
    for page in [LEAF, BRANCH] {
        let sound = room().run("iterate-bucket data key --decode").stdout;
        let room = damaged(|bytes| bytes[page * PAGE + 10..page * PAGE + 12].fill(0xff));
        let ran = room.run("iterate-bucket data key --decode");
        assert_eq!(ran.code, 3);
        let (marks, rest): (Vec<&str>, Vec<&str>) =
            ran.stdout.lines().partition(|line| line.starts_with("Error: "));
        assert_eq!(rest, sound.lines().collect::<Vec<_>>(), "page {page}");
        assert!(marks.len() == 1 && marks[0].contains("BBOLT-ELEMENT-COUNT"), "{marks:?}");
    }
}

#[test]
fn one_bad_element_costs_one_pair() {
    let sound = room().run("scan-keys data 0").stdout;
    let element = LEAF * PAGE + 16 + 16 * 3;
    let room = damaged(|bytes| bytes[element + 4..element + 8].fill(0xff));
    let ran = room.run("scan-keys data 0");
    assert_eq!(ran.code, 3);
    let lost: Vec<&str> = sound.lines().filter(|line| !ran.stdout.contains(line)).collect();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].starts_with("pageID=4, index=3/41, "), "{lost:?}");
    assert!(ran.stdout.contains("Error: BBOLT-ELEMENT-BOUNDS: page 4 at 0x4040: element 3"));
}

#[test]
fn a_cycle_ends() {
    let child = BRANCH * PAGE + 16 + 8;
    let room = damaged(|bytes| bytes[child..child + 8].copy_from_slice(&(BRANCH as u64).to_le_bytes()));
    let ran = room.run("iterate-bucket data key -w json");
    assert_eq!(ran.code, 3);
    let last = json_lines(&ran).pop().unwrap();
    assert_eq!((&last["record"], &last["code"]), (&"fault".into(), &"BBOLT-MULTIPLE-REFERENCES".into()));
}

#[test]
fn without_a_valid_meta_the_pages_are_scanned_all_the_same() {
    let sound = room().run("scan-keys data 0").stdout;
    let room = damaged(|bytes| {
        bytes[16..80].fill(0);
        bytes[PAGE + 16..PAGE + 80].fill(0);
    });
    let ran = room.run("scan-keys data 0");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, sound.as_str()));
    assert!(ran.stderr.contains("BBOLT-META-MAGIC"), "{}", ran.stderr);
    for line in ["list-bucket data", "iterate-bucket data key"] {
        let ran = room.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
        assert!(ran.stderr.contains("scan-keys"), "{}", ran.stderr);
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let room = room();
    let ran = room.run("iterate-bucket data nope");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("there is no bucket \"nope\""), "{}", ran.stderr);
    assert_eq!(room.run("hash data -w table").code, 2);
    assert_eq!(room.run("scan-keys data first").code, 2);
    assert_eq!(room.run("scan-keys data 0 --page-size 1000").code, 1);
    assert_eq!(room.run("scan-keys data -1").stdout, room.run("scan-keys data 0").stdout);
}
