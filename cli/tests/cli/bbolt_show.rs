//! The commands under `bbolt` that show a file: against what bbolt 1.5.0 printed of the same file, and on files that are broken.

use rstest::rstest;
use serde_json::Value;

use crate::run::Room;

/// The file of which bbolt 1.5.0's samples are.
fn room() -> Room {
    Room::with_snapshot("3.5.30", "s3-final")
}

/// A room in which that file has `bytes` at `offset`.
fn damaged(edits: &[(usize, &[u8])]) -> Room {
    let room = room();
    let mut file = room.read("snapshot.db");
    for (offset, bytes) in edits {
        file[*offset..*offset + bytes.len()].copy_from_slice(bytes);
    }
    room.write("snapshot.db", &file);
    room
}

const PAGE: usize = 4096;

/// Every command line of which there is a sample of bbolt 1.5.0, to the byte.
#[rstest]
#[case("buckets", 1)]
#[case("get", 1)]
#[case("info", 1)]
#[case("inspect", 1)]
#[case("keys", 2)]
#[case("page", 4)]
#[case("pages", 1)]
#[case("stats", 1)]
fn as_bbolt_1_5_0_printed(#[case] name: &str, #[case] runs: usize) {
    let room = room();
    let text = testdata::sample(&format!("bbolt-{name}-1.5.0.txt"));
    let mut seen = 0;
    for run in text.split("$ bbolt-1.5.0 ").skip(1) {
        let (command, rest) = run.split_once("\n--- stdout\n").unwrap();
        let (stdout, _) = rest.split_once("\n--- stderr\n").unwrap();
        let ran = room.run(&format!("bbolt {}", command.replace("work/db", "snapshot.db")));
        assert_eq!(ran.stdout, stdout, "{command}");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{command}");
        seen += 1;
    }
    assert_eq!(seen, runs);
}

#[test]
fn as_json() {
    let room = room();
    assert_eq!(room.run("bbolt info snapshot.db -w json").stdout, "{\"pageSize\":4096}\n");
    let lines = |line: &str| -> Vec<Value> {
        let ran = room.run(line);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let pages = lines("bbolt pages snapshot.db -w json");
    assert_eq!(pages[3], serde_json::json!({"id": 3, "type": "free"}));
    assert_eq!(pages[8], serde_json::json!({"id": 8, "type": "leaf", "items": 3, "overflow": 22}));
    let keys = lines("bbolt keys snapshot.db meta -w json");
    assert_eq!(keys[1], serde_json::json!({"key": "consistent_index"}));
    let buckets = lines("bbolt buckets snapshot.db -w json");
    assert_eq!(buckets[0], serde_json::json!({"key": "alarm", "bucket": true}));
    let keys = lines("bbolt keys snapshot.db key -w json");
    assert_eq!(keys.len(), 76);
    let value = lines("bbolt get snapshot.db meta consistent_index -w json --format hex");
    assert_eq!(value, [serde_json::json!({"value_hex": "00000000000000be"})]);
    let page = lines("bbolt page snapshot.db 0 31 -w json");
    assert_eq!(page[0]["meta"]["checksum"], "1aec4d3d1f127d29");
    assert_eq!(page[1]["elements"].as_array().unwrap().len(), 4);
    let item = lines("bbolt page-item snapshot.db 2 5 --key-only -w json");
    assert_eq!(item, [serde_json::json!({"key": "key"})]);
    let dump = lines("bbolt dump snapshot.db 1 -w json");
    assert!(dump[0]["bytes_hex"].as_str().unwrap().starts_with("01000000000000000400"), "{dump:?}");
    assert_eq!(lines("bbolt stats snapshot.db -w json")[0]["keys"], 96);
    assert_eq!(lines("bbolt inspect snapshot.db -w json")[0]["buckets"][5]["keyN"], 76);
    assert_eq!(lines("bbolt pages --map -w json snapshot.db")[0]["counts"]["overflow"], 44);
}

#[test]
fn a_picture() {
    let room = room();
    let ran = room.run("bbolt pages --map --width 33 snapshot.db");
    let expected = " 0 MML.LL..Looooooooooooooooooooo
30 oBLoooooooooooooooooooooo..

M meta: 2
B branch: 1
L leaf: 5
o overflow: 44
. free: 5
A cell is one page; the numbers are those of the first page of each line.
";
    assert_eq!(ran.stdout, expected);
}

#[test]
fn an_element_out_of_its_page_is_marked_and_the_others_are_shown() {
    let room = damaged(&[(4 * PAGE + 16 + 4, b"\xff\xff\xff\x7f")]);
    let ran = room.run("bbolt page snapshot.db 4");
    assert_eq!(ran.code, 3);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[6].starts_with("! BBOLT-ELEMENT-BOUNDS: element 0: "), "{}", lines[6]);
    assert_eq!(lines.iter().filter(|line| line.contains("5f00000000000000")).count(), 41);
    let ran = room.run("bbolt pages snapshot.db");
    assert_eq!(ran.code, 3);
    assert!(
        ran.stdout.contains("4        leaf?      42            ! BBOLT-ELEMENT-BOUNDS\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.starts_with("error BBOLT-ELEMENT-BOUNDS: page 4 at 0x4010: "), "{}", ran.stderr);
    let ran = room.run("bbolt keys snapshot.db key");
    assert_eq!((ran.code, ran.stdout.lines().count()), (3, 75));
    let ran = room.run("bbolt page-item snapshot.db 4 0");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(room.run("bbolt page-item snapshot.db 4 1 --key-only").code, 0);
}

/// The root bucket's leaf declares 65535 elements: its ten are found all the same.
#[test]
fn a_count_beyond_the_page_hides_nothing() {
    let room = damaged(&[(2 * PAGE + 10, b"\xff\xff")]);
    let ran = room.run("bbolt buckets snapshot.db");
    assert_eq!((ran.code, ran.stdout.lines().count()), (3, 10), "{}", ran.stderr);
    assert!(ran.stderr.contains("BBOLT-ELEMENT-COUNT"), "{}", ran.stderr);
    let ran = room.run("bbolt keys snapshot.db key");
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 76), "{}", ran.stderr);
    let ran = room.run("bbolt page snapshot.db 2");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("\"meta\": <pgid=0,seq=0>\n! BBOLT-ELEMENT-COUNT"), "{}", ran.stdout);
}

#[test]
fn a_page_of_zeros_costs_what_was_in_it() {
    let room = damaged(&[(5 * PAGE, &[0; PAGE])]);
    let ran = room.run("bbolt keys snapshot.db key");
    assert_eq!((ran.code, ran.stdout.lines().count()), (3, 48));
    let ran = room.run("bbolt inspect snapshot.db -w json");
    assert_eq!((ran.code, &ran.json()["buckets"][5]["keyN"]), (3, &Value::from(48)));
    let ran = room.run("bbolt stats snapshot.db");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("\tNumber of logical leaf pages: 3\n"), "{}", ran.stdout);
    let ran = room.run("bbolt pages --map --width 33 snapshot.db");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains(" 0 MML?LX??L"), "{}", ran.stdout);
    // Looked for in every leaf there is.
    let ran = room.run("bbolt get snapshot.db meta consistent_index --format hex");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "00000000000000be\n"));
}

#[test]
fn pages_are_shown_without_a_valid_meta() {
    let room = damaged(&[(16, &[0; 64]), (PAGE + 16, &[0; 64])]);
    let ran = room.run("bbolt info snapshot.db");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "Page Size: 4096\n"));
    let ran = room.run("bbolt pages snapshot.db");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("\n31       branch?    4            \n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("error BBOLT-META-MAGIC: page 1 at 0x1000"), "{}", ran.stderr);
    assert_eq!(room.run("bbolt page snapshot.db 31").code, 0);
    assert_eq!(room.run("bbolt page snapshot.db 0").code, 3);
    assert_eq!(room.run("bbolt dump snapshot.db 31").code, 0);
    let ran = room.run("bbolt buckets snapshot.db");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("'etcd-rescue bbolt pages snapshot.db'"), "{}", ran.stderr);
    assert_eq!(room.run("bbolt info snapshot.db --page-size 1024").stdout, "Page Size: 1024\n");
    assert_eq!(room.run("bbolt info snapshot.db --page-size 1000").code, 1);
}

#[test]
fn a_file_cut_short_is_listed_as_far_as_it_goes() {
    let room = room();
    let mut file = room.read("snapshot.db");
    file.truncate(20 * PAGE + 100);
    room.write("snapshot.db", &file);
    let ran = room.run("bbolt pages snapshot.db");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.ends_with("8        leaf?      3      22    \n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("BBOLT-SHORT-FILE"), "{}", ran.stderr);
    let ran = room.run("bbolt page snapshot.db 8");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("! BBOLT-TRUNCATED: needs bytes up to 126976"), "{}", ran.stdout);
    let ran = room.run("bbolt dump snapshot.db 20 21");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.ends_with("0014060 4647 3868\n\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("page 21 is out of range: the file has 21 pages"), "{}", ran.stderr);
}

#[rstest]
#[case("keys snapshot.db nosuch", 1, "bucket not found: \"nosuch\"")]
#[case("keys snapshot.db meta term", 1, "bucket not found: \"meta\"/\"term\"")]
#[case("get snapshot.db meta nosuch", 1, "key not found: \"nosuch\" in bucket \"meta\"")]
#[case("get snapshot.db meta --parse-format hex 6", 2, "not a key in hexadecimal")]
#[case("get snapshot.db meta", 2, "")]
#[case("keys snapshot.db", 2, "")]
#[case("keys snapshot.db meta --format text", 2, "is no format")]
#[case("page snapshot.db", 2, "")]
#[case("page snapshot.db 1 --all", 2, "")]
#[case("page snapshot.db 999", 1, "page 999: is out of range: the file has 57 pages")]
#[case("page snapshot.db 9", 1, "page 9: is overflow of a page in front of it")]
#[case("page-item snapshot.db 2 99", 1, "page 2 has 10 items")]
#[case("page-item snapshot.db 2 65536", 1, "there is no item 65536")]
#[case("page-item snapshot.db 31 0", 1, "page 31 is no leaf but branch")]
#[case("page-item snapshot.db 2 0 --key-only --value-only", 2, "")]
#[case("pages snapshot.db --width 10", 2, "")]
#[case("stats snapshot.db -w table", 2, "-w simple and -w json only")]
fn what_cannot_be(#[case] line: &str, #[case] code: i32, #[case] says: &str) {
    let ran = room().run(&format!("bbolt {line}"));
    assert_eq!(ran.code, code, "{line}: {}", ran.stderr);
    assert!(ran.stderr.contains(says), "{line}: {}", ran.stderr);
}
