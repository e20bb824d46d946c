//! `salvage`: what is left of a database, in the states in which it is found, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, symlink};
use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::Value;

use crate::run::{Ran, Room};

const PAGE: usize = 4096;

/// A member that was alone and ended in good order, in `data`; its db in `alone.db`; what it holds in `truth.jsonl`.
fn room() -> Room {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    fs::copy(room.path().join("data/member/snap/db"), room.path().join("alone.db")).unwrap();
    let truth = room.run("kv export alone.db --history -o truth.jsonl");
    assert_eq!(truth.code, 0, "{truth:?}");
    room
}

/// Overwrites pages of a file with zeros.
fn zero(room: &Room, name: &str, pages: impl IntoIterator<Item = usize>) {
    let file = fs::OpenOptions::new().write(true).open(room.path().join(name)).unwrap();
    for page in pages {
        file.write_all_at(&[0; PAGE], (page * PAGE) as u64).unwrap();
    }
}

/// As [`room`], but of the leaves of records only the last are left in `alone.db`: revisions 47 to 76 are nowhere in it.
fn hit() -> Room {
    let room = room();
    zero(&room, "alone.db", 4..=7);
    room
}

/// Runs `salvage` with the words of `line`; what was given is what it was, times and all, and nothing unfinished is left.
#[track_caller]
fn salvage(room: &Room, line: &str) -> Ran {
    let outputs: BTreeSet<String> = line
        .split_whitespace()
        .zip(line.split_whitespace().skip(1))
        .filter(|(flag, _)| ["-o", "--report"].contains(flag))
        .map(|(_, output)| output.to_owned())
        .collect();
    let inputs = |room: &Room| -> Vec<_> {
        let names = room.names().into_iter().filter(|name| !outputs.contains(name));
        names.map(|name| (testdata::fingerprint(&room.path().join(&name)), name)).collect()
    };
    let before = inputs(room);
    let ran = room.run(&format!("salvage {line}"));
    assert_eq!(inputs(room), before, "{line}: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{line}: {ran:?}");
    ran
}

/// It ends with this code and these words, prints no result and writes nothing.
#[track_caller]
fn refused(room: &Room, line: &str, code: i32, words: &[&str]) {
    let before = room.names();
    let ran = salvage(room, line);
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line}: {ran:?}");
    for word in words {
        assert!(ran.stderr.contains(word), "{line}: no {word:?} in {}", ran.stderr);
    }
    assert_eq!(room.names(), before, "{line}");
}

/// Every record of a db, as `kv export` lists them.
fn records(room: &Room, name: &str) -> BTreeSet<String> {
    let ran = room.run(&format!("kv export {name} --history"));
    // A deletion of what is lost is a warning.
    let is_fine = ran.code == 0 || ran.stderr.lines().all(|line| line.starts_with("warning ETCD-TOMBSTONE"));
    assert!(is_fine, "{name}: {}", ran.stderr);
    ran.stdout.lines().map(str::to_owned).collect()
}

fn truth(room: &Room) -> BTreeSet<String> {
    String::from_utf8(room.read("truth.jsonl")).unwrap().lines().map(str::to_owned).collect()
}

/// What is written is a snapshot with its hash, sound, and restores.
#[track_caller]
fn assert_sound(room: &Room, name: &str) {
    let hash = room.run(&format!("snapshot hash {name}"));
    assert!(hash.code == 0 && hash.stderr.contains("verified"), "{hash:?}");
    let checked = room.run(&format!("bbolt check {name}"));
    assert_eq!((checked.code, checked.stdout.as_str()), (0, "OK\n"), "{checked:?}");
    let restored = room.run(&format!("snapshot restore {name} --data-dir restored"));
    assert_eq!(restored.code, 0, "{restored:?}");
    fs::remove_dir_all(room.path().join("restored")).unwrap();
}

#[test]
fn a_sound_file_comes_out_as_it_went_in() {
    let room = room();
    for given in ["alone.db", "data", "data/member"] {
        let ran = salvage(&room, &format!("{given} -o saved.db"));
        assert_eq!(ran.code, 0, "{given}: {ran:?}");
        assert_eq!(records(&room, "saved.db"), truth(&room), "{given}");
        assert_sound(&room, "saved.db");
        fs::remove_file(room.path().join("saved.db")).unwrap();
    }
}

#[test]
fn without_metas_everything_is_found() {
    let room = room();
    zero(&room, "alone.db", [0, 1]);
    let ran = salvage(&room, "alone.db -o saved.db");
    // Whether there was a newer state nobody can tell then.
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(records(&room, "saved.db"), truth(&room));
    assert_sound(&room, "saved.db");
    assert!(ran.stdout.starts_with("In short\n  alone.db was given, with no log."), "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains("\n  etcd-rescue snapshot restore saved.db --data-dir restored --bump-revision auto\n"),
        "{}",
        ran.stdout
    );
}

/// Its log has every entry since the first one.
#[test]
fn with_its_log_nothing_is_lost_of_a_file_that_is_gone() {
    let room = room();
    let pages = room.read("data/member/snap/db").len() / PAGE;
    zero(&room, "data/member/snap/db", 0..pages);
    let ran = salvage(&room, "data -o saved.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(room.run("hashkv saved.db").stdout, room.run("hashkv alone.db").stdout);
    assert_sound(&room, "saved.db");
}

/// A power cut can leave files without a byte in them. They do not keep the others out.
#[test]
fn an_empty_file_is_only_a_loss() {
    let room = room();
    room.write("data/member/snap/db", b"");
    room.write("data/member/snap/0000000000000099.snap.db", b"");
    // Without its log, the one without a byte may have been the newer one.
    for (given, code) in
        [("data", 0), ("data/member/snap/db --wal-dir data", 0), ("data/member/snap/db alone.db", 3)]
    {
        let ran = salvage(&room, &format!("{given} -o saved.db"));
        assert_eq!(ran.code, code, "{given}: {ran:?}");
        assert!(ran.stdout.contains("it is empty"), "{given}: {}", ran.stdout);
        assert_eq!(records(&room, "saved.db"), truth(&room), "{given}");
        fs::remove_file(room.path().join("saved.db")).unwrap();
    }
    refused(&room, "data --no-replay --dry-run", 1, &["data/member/snap/db is empty"]);
}

/// What is given twice counts once.
#[rstest]
#[case("data data/member ./data")]
#[case("data alone.db --wal-dir data/member/wal")]
fn one_log_is_read_once(#[case] paths: &str) {
    let room = room();
    let ran = salvage(&room, &format!("{paths} --dry-run -w json"));
    assert_eq!((ran.code, ran.json()["logs"].as_array().unwrap().len()), (0, 1), "{ran:?}");
}

/// Its structure is sound, and its hash says that something in it is not what it was.
#[test]
fn a_snapshot_that_was_changed_is_told() {
    let room = room();
    assert_eq!(salvage(&room, "alone.db -o saved.db").code, 0);
    let mut changed = room.read("saved.db");
    *changed.last_mut().unwrap() ^= 1;
    room.write("changed.db", &changed);
    let ran = salvage(&room, "changed.db --dry-run");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("error SNAP-HASH-MISMATCH: changed.db: "), "{}", ran.stderr);
    // The log has every value.
    let ran = salvage(&room, "changed.db data --plan 1 --dry-run -w json");
    let is_single = ran.json()["account"]["single"].as_u64().unwrap() > 0;
    assert_eq!(ran.code, if is_single { 3 } else { 0 }, "{ran:?}");
    assert!(ran.stderr.contains(" SNAP-HASH-MISMATCH: changed.db: "), "{}", ran.stderr);
}

#[test]
fn certain_loss_has_to_be_accepted() {
    let room = hit();
    let dry = salvage(&room, "alone.db --dry-run --report dry.json");
    assert_eq!(dry.code, 3, "{dry:?}");
    assert!(dry.stderr.contains("Dry run: nothing was written but the report dry.json."), "{dry:?}");
    assert!(dry.stdout.contains("-o saved.db --accept-loss\n"), "{}", dry.stdout);

    let ran = salvage(&room, "alone.db -o saved.db --report refused.json");
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stdout.contains("Certainly lost: ") && ran.stdout.contains("  missing "), "{}", ran.stdout);
    assert!(ran.stderr.contains("--accept-loss writes what was found"), "{}", ran.stderr);
    assert!(!room.path().join("saved.db").exists());

    let ran = salvage(&room, "alone.db -o saved.db --accept-loss -w json");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_sound(&room, "saved.db");
    let (saved, truth) = (records(&room, "saved.db"), truth(&room));
    assert!(saved.is_subset(&truth) && saved.len() < truth.len(), "{} of {}", saved.len(), truth.len());

    // What is said to be missing is what is missing.
    let json = ran.json();
    let account = &json["account"];
    assert_eq!(account["records"].as_u64().unwrap(), saved.len() as u64);
    let revision = |line: &String| serde_json::from_str::<Value>(line).unwrap()["revision"].as_i64().unwrap();
    let compacted = account["compactRevision"].as_i64().unwrap_or(1);
    let has: BTreeSet<i64> = saved.iter().map(revision).collect();
    let lost: Vec<i64> =
        truth.iter().map(revision).filter(|main| *main > compacted && !has.contains(main)).collect();
    let told = account["missing"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|range| range["from"].as_i64().unwrap()..=range["to"].as_i64().unwrap());
    let told: Vec<i64> = told.collect();
    let lost: Vec<i64> = lost.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(told, lost);
    assert_eq!(account["missingRevisions"].as_u64().unwrap(), lost.len() as u64);

    // The report is the same, whoever writes it.
    let of = |name: &str| -> Value { serde_json::from_slice(&room.read(name)).unwrap() };
    let (dry, refused) = (of("dry.json"), of("refused.json"));
    assert_eq!(
        (&dry["dryRun"], &refused["refused"], &json["refused"]),
        (&true.into(), &true.into(), &false.into())
    );
    assert_eq!((&dry["account"], &refused["account"]), (account, account));
    assert_eq!((&refused["output"], &json["output"]["path"]), (&Value::Null, &"saved.db".into()));
}

#[rstest]
#[case::to_half(2, 1)]
#[case::to_a_piece_of_a_page(64, 7)]
fn a_file_that_was_cut_short(#[case] part: usize, #[case] more: usize) {
    let room = room();
    let whole = room.read("alone.db");
    room.write("cut.db", &whole[..whole.len() / part + more]);
    let ran = salvage(&room, "cut.db -o saved.db --accept-loss");
    assert!([0, 3].contains(&ran.code), "{ran:?}");
    assert!(records(&room, "saved.db").is_subset(&truth(&room)));
    assert_sound(&room, "saved.db");
}

#[test]
fn a_file_without_its_head() {
    let room = room();
    let whole = room.read("alone.db");
    room.write("tail.db", &whole[5 * PAGE..]);
    let ran = salvage(&room, "tail.db --dry-run");
    assert!(ran.stdout.contains("its first 5 pages are cut off"), "{ran:?}");
}

#[rstest]
#[case::no_file("none.db --dry-run", 1, &["none.db: No such file"])]
#[case::empty("empty --dry-run", 1, &["empty is empty"])]
#[case::empty_ones("empty zero.snap.db --dry-run", 1, &["empty is empty"])]
#[case::text("text --dry-run", 1, &["text", "nothing of an etcd database was found", "Is it the right file?"])]
#[case::zeros("zeros --dry-run", 1, &["zeros", "nothing of an etcd database was found"])]
#[case::no_directory("dir --dry-run", 1, &["dir: is a directory, and neither a data dir"])]
#[case::exists("alone.db -o text", 1, &["text exists already"])]
#[case::is_a_directory("alone.db -o dir", 1, &["dir is a directory"])]
#[case::report_exists("alone.db --dry-run --report text", 1, &["text exists already"])]
#[case::inside("data -o data/saved.db", 1, &["data/saved.db: lies in data, which is the input and stays as it is"])]
#[case::inside_by_a_link("data -o link/saved.db", 1, &["link/saved.db: lies in data"])]
#[case::report_inside("data --dry-run --report data/member/r.json", 1, &["lies in data"])]
#[case::inside_the_log("alone.db --wal-dir data/member/wal -o data/member/wal/s.db", 1, &["lies in data/member/wal"])]
#[case::nothing_asked("alone.db", 2, &["-o FILE, --dry-run or --extract PREFIX: one of them is needed"])]
#[case::no_path("--dry-run", 2, &["<PATH>..."])]
#[case::no_such_way("alone.db --plan 99 -o saved.db", 2, &["--plan 99: there are ways 1 to "])]
#[case::way_zero("alone.db --plan 0 -o saved.db", 2, &["--plan"])]
#[case::odd_page("alone.db --page-size 5000 --dry-run", 2, &["a power of two"])]
#[case::huge_page("alone.db --page-size 1073741824 --dry-run", 2, &["from 1024 to 16777216"])]
#[case::clean_of_nothing("alone.db --dry-run --clean", 2, &["--clean and --owner are about the file that -o names"])]
#[case::dry_extract("alone.db --extract / --dry-run", 2, &["leave --dry-run out"])]
#[case::values_of_nothing("alone.db --dry-run --values", 2, &["--extract"])]
#[case::table_of_lines("alone.db --extract / -w table", 2, &["leave -w out"])]
#[case::same_file("alone.db -o x --report x", 2, &["name the same file"])]
#[case::log_and_none("data --wal-dir data/member/wal --no-replay --dry-run", 2, &["cannot be used with"])]
#[case::same_file_by_another_name("alone.db -o x --report ./x", 2, &["name the same file"])]
#[case::same_file_by_a_link("alone.db -o dir/x --report dirs/x", 2, &["name the same file"])]
#[case::no_such_log("alone.db --wal-dir dir --dry-run", 1, &["dir: is a directory, and neither"])]
#[case::no_such_log_of_a_member("data --wal-dir dir --dry-run", 1, &["dir: is a directory, and neither"])]
#[case::map_of_packed("packed.db --bad-map all.map --dry-run", 1, &["--bad-map: packed.db is packed", "unpack the file"])]
#[case::packed_and_cut("cut.zst --dry-run", 1, &["cut.zst: cannot unpack the zstd", "'zstd -dc'"])]
#[case::no_such_release("data --as-etcd 3 --dry-run", 2, &["--as-etcd"])]
#[case::no_map("alone.db --bad-map none.map --dry-run", 1, &["--bad-map none.map: No such file"])]
#[case::map_of_whom("alone.db text --bad-map text.map --dry-run", 2, &["--bad-map text.map: of which PATH?"])]
#[case::map_is_text("alone.db --bad-map text --dry-run", 1, &["--bad-map text: line 1", "ddrescue"])]
#[case::map_is_none("alone.db --bad-map alone.db --dry-run", 1, &["--bad-map alone.db: is no text"])]
#[case::map_is_a_directory("alone.db --bad-map dir --dry-run", 1, &["--bad-map dir: is no map"])]
fn what_is_refused(#[case] line: &str, #[case] code: i32, #[case] words: &[&str]) {
    let room = room();
    room.write("empty", b"");
    room.write("text", b"It was a dark and stormy night.\n");
    room.write("zeros", &[0; 5 * PAGE]);
    room.write("zero.snap.db", b"");
    room.write("all.map", b"0x0 + 1\n0x0 0x2000000 +\n");
    let packed = zstd::bulk::compress(&room.read("alone.db"), 1).unwrap();
    room.write("packed.db", &packed);
    room.write("cut.zst", &packed[..packed.len() - 3]);
    fs::create_dir(room.path().join("dir")).unwrap();
    symlink("dir", room.path().join("dirs")).unwrap();
    symlink("data/member", room.path().join("link")).unwrap();
    refused(&room, line, code, words);
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// As with `| head`.
#[test]
fn a_reader_who_goes_away_is_told_nothing_false() {
    let room = room();
    let args = ["salvage", "alone.db", "--extract", "/", "--revisions"];
    for kept in [0, 200] {
        let mut command = Command::new(crate::run::binary());
        command.args(args).current_dir(room.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut vec![0; kept]).unwrap();
        drop(stdout);
        let ran = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(0), "{told}");
        assert!(!told.contains("nothing that was found") && !told.contains("rror"), "{told}");
    }
}

/// Somebody needs one key and nothing else.
#[test]
fn one_key_out_of_a_wreck() {
    let room = hit();
    // What stands in the last leaves.
    let ran = salvage(&room, "alone.db --extract /big/70k -q");
    assert_eq!(ran.code, 3, "{ran:?}");
    let found = lines(&ran);
    assert_eq!(found.len(), 1, "{found:?}");
    let exported = room.run("kv export data/member/snap/db --prefix /big/70k");
    let exported: Value = serde_json::from_str(&exported.stdout).unwrap();
    for name in ["key", "value", "create_revision", "mod_revision", "version", "lease"] {
        assert_eq!(found[0][name], exported[name], "{name}");
    }
    // It stands where it is said to stand.
    let file = room.read("alone.db");
    let value = exported["value"].as_str().unwrap();
    let sources = found[0]["sources"].as_array().unwrap();
    assert!(!sources.is_empty() && found[0].get("disagreeing").is_none());
    for source in sources {
        let from = usize::try_from(source["offset"].as_u64().unwrap()).unwrap();
        let there = String::from_utf8_lossy(&file[from..from + value.len() + 100]).into_owned();
        assert!(there.contains(value) && source["file"] == "alone.db", "{source}");
    }

    let ran = salvage(&room, "alone.db --extract /big/70k --values -q");
    assert_eq!(ran.stdout, value);
    let ran = salvage(&room, "alone.db --extract /big/70k --values -o value");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert_eq!(room.read("value"), value.as_bytes());
    assert!(ran.stderr.contains("1 key in value: "), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("newer values of these keys, or more of them, may be lost"),
        "{}",
        ran.stderr
    );
    refused(&room, "alone.db --extract /big/70k -o value", 1, &["value exists already"]);
    assert_eq!(salvage(&room, "alone.db --extract /none").stdout, "");
    let none = salvage(&room, "alone.db --extract /none");
    assert!(
        none.code == 3 && none.stderr.contains("nothing that was found begins with \"/none\""),
        "{none:?}"
    );
}

#[test]
fn what_is_extracted_of_a_sound_file_is_what_it_holds() {
    let room = room();
    let strip = |line: &Value| {
        let mut line = line.as_object().unwrap().clone();
        line.retain(|name, _| !["trust", "sources", "from_log", "compacted_before"].contains(&name.as_str()));
        Value::Object(line).to_string()
    };
    let sorted = |ran: &Ran| -> BTreeSet<String> { lines(ran).iter().map(strip).collect() };
    for (flags, export) in [("", ""), (" --revisions", " --history")] {
        let ran = salvage(&room, &format!("alone.db --extract /{flags}"));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(
            sorted(&ran),
            sorted(&room.run(&format!("kv export alone.db --prefix /{export}"))),
            "{flags}"
        );
        assert!(ran.stderr.lines().last().unwrap().contains(" confirmed, "), "{}", ran.stderr);
        // To a file it is the same.
        let to_file = salvage(&room, &format!("alone.db --extract /{flags} -o lines"));
        assert_eq!((to_file.code, room.read("lines")), (0, ran.stdout.into_bytes()));
        fs::remove_file(room.path().join("lines")).unwrap();
    }
    let several = salvage(&room, "alone.db --extract /a/key00 --values");
    assert!(several.stderr.contains("7 values stand one behind the other: /a/key00"), "{}", several.stderr);
    let report = salvage(&room, "alone.db --extract /a/key00 --report r.json");
    assert_eq!(report.code, 0);
    let report: Value = serde_json::from_slice(&room.read("r.json")).unwrap();
    assert_eq!(report["account"]["missingRevisions"], 0);
}

/// A copy from before the damage has what is lost since, whatever order they are given in.
#[rstest]
#[case("alone.db older.db")]
#[case("older.db alone.db")]
#[case("older.db data/member/snap alone.db")]
fn several_files_feed_one_result(#[case] paths: &str) {
    let room = room();
    fs::copy(room.path().join("alone.db"), room.path().join("older.db")).unwrap();
    zero(&room, "alone.db", 4..=7);
    zero(&room, "older.db", [0, 1, 3]);
    let ran = salvage(&room, &format!("{paths} -o saved.db"));
    assert!([0, 3].contains(&ran.code), "{ran:?}");
    assert_eq!(records(&room, "saved.db"), truth(&room), "{}", ran.stdout);
    assert_sound(&room, "saved.db");
}

#[test]
fn every_way_can_be_taken() {
    let room = hit();
    let dry = salvage(&room, "alone.db --dry-run -w json").json();
    let ways = dry["ways"].as_array().unwrap();
    assert!(ways.len() > 1, "{ways:?}");
    for way in ways {
        let number = &way["number"];
        let ran = salvage(&room, &format!("alone.db --plan {number} -o saved.db --accept-loss -w json"));
        assert!([0, 3].contains(&ran.code), "{ran:?}");
        let json = ran.json();
        assert_eq!((&json["chosen"], &json["account"]["records"]), (number, &way["records"]));
        assert_eq!(json["output"]["records"], way["records"]);
        assert_sound(&room, "saved.db");
        fs::remove_file(room.path().join("saved.db")).unwrap();
    }
}

#[test]
fn what_a_compaction_removed_comes_back_when_asked() {
    let room = room();
    let ran = salvage(&room, "alone.db -o saved.db --include-compacted -w json");
    let (json, saved, truth) = (ran.json(), records(&room, "saved.db"), truth(&room));
    assert!(saved.is_superset(&truth), "{ran:?}");
    let back = json["account"]["resurrected"].as_u64().unwrap();
    assert_eq!(saved.len() as u64, truth.len() as u64 + back);
    assert_sound(&room, "saved.db");
}

/// A map says that what looks like data was never read.
#[test]
fn what_a_map_calls_bad_is_not_believed() {
    let room = room();
    let length = room.read("alone.db").len();
    // Pages 4 to 7 were not read.
    let map = format!(
        "# Mapfile. Created by GNU ddrescue\n0x0 + 1\n0x0 0x4000 +\n0x4000 0x4000 -\n0x8000 {:#x} +\n",
        length - 0x8000
    );
    room.write("ok.map", map.as_bytes());
    fs::copy(room.path().join("alone.db"), room.path().join("copy.db")).unwrap();
    let hit = hit();
    let zeroed = salvage(&hit, "alone.db --dry-run -w json").json();
    for line in ["alone.db --bad-map ok.map", "alone.db --bad-map alone.db=ok.map"] {
        let ran = salvage(&room, &format!("{line} --dry-run -w json"));
        assert_eq!(ran.code, 3, "{ran:?}");
        let json = ran.json();
        assert_eq!(json["account"]["missing"], zeroed["account"]["missing"]);
        assert_eq!(json["inputs"][0]["badRanges"], serde_json::json!([{"from": 0x4000, "to": 0x8000}]));
        assert_eq!(json["inputs"][0]["badBytes"], 0x4000);
    }
    let told = salvage(&room, "alone.db --bad-map ok.map --dry-run").stdout;
    assert!(told.contains("16 kB cannot be read: 0x4000 to 0x8000"), "{told}");
    assert!(told.contains("salvage alone.db --bad-map ok.map -o saved.db --accept-loss"), "{told}");
    // It is of one of two files, and the other has it all.
    let ran = salvage(&room, "alone.db copy.db --bad-map alone.db=ok.map -o saved.db");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(records(&room, "saved.db"), truth(&room));
    // Of a member the map is that of its database, not of one that it was sent.
    room.write("none.map", format!("0x0 + 1\n0x0 {length} -\n").as_bytes());
    fs::copy(room.path().join("alone.db"), room.path().join("data/member/snap/0000000000000099.snap.db"))
        .unwrap();
    let ran = salvage(&room, "data --no-replay --bad-map none.map --dry-run -w json");
    let inputs = ran.json()["inputs"].clone();
    let bad: Vec<u64> =
        inputs.as_array().unwrap().iter().map(|of| of["badBytes"].as_u64().unwrap()).collect();
    assert!(bad.contains(&(length as u64)) && bad.contains(&0), "{inputs}");
    let ran = salvage(&room, "copy.db --bad-map none.map --dry-run");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("--bad-map none.map: says that 17 MB were never read; copy.db has 17 MB"),
        "{ran:?}"
    );
    // A map of a whole disk has other offsets.
    room.write("disk.map", b"0x0 + 1\n0x0 0x40000000 +\n");
    let ran = salvage(&room, "alone.db --bad-map disk.map --dry-run");
    assert!(
        ran.stderr.contains("warning: --bad-map disk.map: is of 1.1 GB, and alone.db has 17 MB"),
        "{}",
        ran.stderr
    );
}

#[rstest]
#[case("table")]
#[case("fields")]
fn other_formats(#[case] format: &str) {
    let room = hit();
    let ran = salvage(&room, &format!("alone.db --dry-run -w {format}"));
    assert_eq!(ran.code, 3);
    for part in ["30", "79"] {
        assert!(ran.stdout.contains(part), "{}", ran.stdout);
    }
}

/// Whatever is in the files, it does not steer the terminal.
#[test]
fn names_are_fit_for_a_terminal() {
    let room = room();
    fs::rename(room.path().join("alone.db"), room.path().join("a\u{1b}[2J.db")).unwrap();
    let ran = room.run_words(&["salvage", "a\u{1b}[2J.db", "--dry-run"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{ran:?}");
}
