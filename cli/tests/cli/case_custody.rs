//! `case`: what a chain of custody asks of it, as a user sees it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::run::{Ran, Room};

/// A room with the data dir `data`, and a case of it, sealed.
fn sealed() -> (Room, String) {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    ok(&room, "case new c.case");
    add(&room, "case add c.case n1=data");
    let digest = seal(&room);
    (room, digest)
}

#[track_caller]
fn ok(room: &Room, line: &str) -> Ran {
    let ran = room.run(line);
    assert_eq!(ran.code, 0, "{line}: {ran:?}");
    ran
}

/// Adds the data dir, whose alarm is a finding.
#[track_caller]
fn add(room: &Room, line: &str) -> Ran {
    let ran = room.run(line);
    assert_eq!(ran.code, 3, "{line}: {ran:?}");
    ran
}

fn seal(room: &Room) -> String {
    // Word for word: the room's path stands in it.
    let output = room.command().args(["case", "seal", "c.case", "-w", "json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    testdata::sha256_hex(output.stdout)
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

#[test]
fn a_new_file_and_a_link_are_noticed_and_another_time_is_told() {
    let (room, _) = sealed();
    let snap = room.path().join("data/member/snap");
    let bytes = fs::read(snap.join("db")).unwrap();
    fs::write(snap.join("db"), bytes).unwrap();
    let same = ok(&room, "case verify c.case");
    assert!(same.stdout.contains("same, written at another time"), "{same:?}");
    assert!(same.stderr.contains("1 file has the same bytes and another time"), "{same:?}");

    fs::write(snap.join("new.snap"), "planted").unwrap();
    let new = room.run("case verify c.case");
    assert_eq!(new.code, 3, "{new:?}");
    let line = format!("member/snap/new.snap, , new: 7 bytes, sha256 {}", testdata::sha256_hex("planted"));
    assert!(new.stdout.contains(&line), "{new:?}");
    fs::remove_file(snap.join("new.snap")).unwrap();

    fs::rename(snap.join("db"), room.path().join("db")).unwrap();
    symlink("../../../db", snap.join("db")).unwrap();
    let linked = room.run("case verify c.case");
    assert_eq!(linked.code, 3, "{linked:?}");
    assert!(linked.stdout.contains("member/snap/db is a link now, to ../../../db"), "{linked:?}");
}

#[test]
fn sources_are_found_from_another_directory_and_a_copy_there_is_not_taken_for_them() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    ok(&room, "case new c.case");
    for dir in ["a", "b"] {
        fs::create_dir(room.path().join(dir)).unwrap();
        fs::copy(room.path().join("snapshot.db"), room.path().join(dir).join("x.db")).unwrap();
    }
    let in_dir = |dir: &str, line: &str| {
        let output =
            room.command().current_dir(room.path().join(dir)).args(line.split(' ')).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    assert_eq!(in_dir("a", "case add ../c.case x=x.db").0, 0);
    let path = lines(&ok(&room, "case sources c.case -w json"))[0]["path"].as_str().unwrap().to_owned();
    assert_eq!(path, "ROOM/a/x.db");
    assert_eq!(in_dir("b", "case verify ../c.case").0, 0);
    let mut bytes = room.read("a/x.db");
    bytes[9000] ^= 4;
    room.write("a/x.db", &bytes);
    let (code, text) = in_dir("b", "case verify ../c.case");
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("changed: "), "{text}");
    // Where it lies now is for the user to say.
    assert_eq!(in_dir("b", "case verify ../c.case --at x=x.db").0, 0);
    fs::remove_file(room.path().join("a/x.db")).unwrap();
    let gone = room.run("case verify c.case");
    assert!(gone.code == 3 && gone.stdout.contains("not there: ROOM/a/x.db: "), "{gone:?}");
    let wrong = room.run("case verify c.case --at y=b/x.db");
    assert!(wrong.code == 1 && wrong.stderr.contains("no source named \"y\""), "{wrong:?}");
    assert_eq!(room.run("case verify c.case --at x").code, 2);
}

#[test]
fn values_are_read_where_the_source_is_said_to_be() {
    let (room, _) = sealed();
    // The newest of them, which is a state that the source can tell.
    let value = |line: &str| {
        let ran = room.run(line);
        lines(&ran).iter().rfind(|row| row["type"] == "revision" && row["deleted"] == false).unwrap().clone()
    };
    let read = value("case timeline c.case --values -w json")["value"].clone();
    assert!(read.is_string());
    copy(&room.path().join("data"), &room.path().join("desk"));
    fs::remove_dir_all(room.path().join("data")).unwrap();
    let gone = value("case timeline c.case --values -w json");
    assert!(gone["noValue"].as_str().unwrap().contains("--at n1=PATH"), "{gone}");
    assert_eq!(value("case timeline c.case --values --at n1=desk -w json")["value"], read);
    let key = gone["key"].as_str().unwrap();
    assert_eq!(value(&format!("case key c.case {key} --values --at n1=desk -w json"))["value"], read);
    let at = format!("case at c.case {} --values --at n1=desk -w json", gone["revision"]);
    assert!(lines(&room.run(&at)).iter().any(|row| row["value"] == read));
    assert_eq!(room.run("case timeline c.case --at n1=desk").code, 2);
}

#[test]
fn a_packed_source_is_unpacked_where_it_is_said_and_cited_with_both_hashes() {
    let room = Room::new();
    let plain = testdata::snapshot("3.5.30", "s1-precompact");
    let packed = zstd::encode_all(plain.as_slice(), 1).unwrap();
    room.write("x.db.zst", &packed);
    ok(&room, "case new c.case");
    ok(&room, "case add c.case x=x.db.zst");
    let (whole, inner) = (testdata::sha256_hex(&packed), testdata::sha256_hex(&plain));
    let cited =
        lines(&ok(&room, "case timeline c.case --to-rev 2 --cite -w json"))[0]["citations"][0].clone();
    assert_eq!(
        (&cited["sha256"], &cited["unpackedSha256"]),
        (&Value::from(whole.clone()), &Value::from(inner.clone()))
    );
    let line = ok(&room, "case timeline c.case --to-rev 2 --cite").stdout;
    assert!(line.contains(&format!("x.db.zst (unpacked), sha256 {inner}, ")), "{line}");
    let files = ok(&room, "case sources c.case --files").stdout;
    let expected =
        format!("x, x.db.zst, {}, {whole}\nx, x.db.zst (unpacked), {}, {inner}\n", packed.len(), plain.len());
    assert_eq!(files, expected);
    // The directory is used, so one that is not there is an error.
    let nowhere = room.run("--tmp-dir nowhere case timeline c.case --to-rev 2 --values");
    assert!(nowhere.code == 3 && nowhere.stderr.contains("nowhere"), "{nowhere:?}");
    ok(&room, "case timeline c.case --values");
}

#[test]
fn passwords_do_not_get_into_a_case() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    ok(&room, "case new c.case --user root:HUNTER1");
    ok(
        &room,
        "case add c.case --user=root:HUNTER2 --password HUNTER3 x=snapshot.db --auth-jwt-token HUNTER4",
    );
    let manifest = ok(&room, "--password=HUNTER5 case seal c.case -w json").stdout;
    assert!(!manifest.contains("HUNTER"), "{manifest}");
    let json: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(
        json["commands"][1]["line"],
        "etcd-rescue case add c.case --user=LEFT-OUT --password LEFT-OUT x=snapshot.db --auth-jwt-token LEFT-OUT"
    );
    ok(&room, "case report c.case -o r.html");
    assert!(!String::from_utf8(room.read("r.html")).unwrap().contains("HUNTER"));
}

#[test]
fn an_earlier_seal_is_verified_and_one_that_never_was_is_not() {
    let (room, first) = sealed();
    add(&room, "case add c.case again=data");
    let second = seal(&room);
    let verified = ok(&room, &format!("case verify c.case --seal {first}"));
    assert!(verified.stderr.contains("number 1 of 2: what was sealed is what it was"), "{verified:?}");
    let verified = ok(&room, &format!("case verify c.case --seal {} -w json", second.to_uppercase()));
    let states: Vec<_> =
        verified.json()["seals"].as_array().unwrap().iter().map(|seal| seal["state"].clone()).collect();
    assert_eq!(states, ["outgrown", "holds"]);
    let never = room.run(&format!("case verify c.case --seal {}", "0".repeat(64)));
    assert!(never.code == 3 && never.stderr.contains("has not the seal that was given"), "{never:?}");
}

#[test]
fn a_command_is_recorded_once_with_the_sources_that_it_added() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    ok(&room, "case new c.case");
    let failed = room.run("case add c.case one=snapshot.db two=snapshot.db three=gone.db");
    assert_eq!(failed.code, 1, "{failed:?}");
    let manifest = ok(&room, "case seal c.case -w json").json();
    let commands = manifest["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 3, "{commands:?}");
    assert_eq!(commands[1]["added"], serde_json::json!(["one", "two"]));
}

#[test]
fn values_are_not_left_out_without_a_word() {
    let (room, _) = sealed();
    let refused = room.run("case add c.case n1=data --embed-values");
    assert!(refused.code == 1 && refused.stderr.contains("without its values"), "{refused:?}");
}

#[test]
fn a_case_among_the_evidence_is_refused() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    ok(&room, "case new data/member/snap/c.case");
    for source in ["data", "data/member/wal", "data/member/snap/c.case"] {
        let refused = room.run(&format!("case add data/member/snap/c.case x={source}"));
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(
            refused.stderr.contains("what it is evidence of") || refused.stderr.contains("the case itself"),
            "{refused:?}"
        );
    }
}

#[test]
fn a_case_is_changed_through_a_link_and_keeps_its_mode() {
    let (room, _) = sealed();
    fs::create_dir(room.path().join("ff")).unwrap();
    symlink("../c.case", room.path().join("ff/l.case")).unwrap();
    let case = room.path().join("c.case");
    fs::set_permissions(&case, fs::Permissions::from_mode(0o644)).unwrap();
    add(&room, "case add ff/l.case again=data");
    ok(&room, "case seal ff/l.case");
    assert_eq!(fs::metadata(&case).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(lines(&ok(&room, "case sources c.case -w json")).len(), 2);
    assert_eq!(fs::read_dir(room.path().join("ff")).unwrap().count(), 1);
}

#[test]
fn a_damaged_case_says_once_that_it_is_damaged_and_which_it_is() {
    let (room, _) = sealed();
    let whole = room.read("c.case");
    for at in (4096..whole.len()).step_by(whole.len() / 9) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        room.write("c.case", &bytes);
        for line in ["case timeline c.case", "case sources c.case", "case verify c.case", "case seal c.case"]
        {
            let ran = room.run(line);
            if ran.code == 0 {
                continue;
            }
            assert_eq!(ran.code, 1, "{line}: {ran:?}");
            let error = ran.stderr.lines().find(|line| line.starts_with("Error: ")).unwrap();
            assert_eq!(error.matches("damaged").count(), 1, "{error}");
            assert!(error.contains("c.case: ") && error.contains("Copy it again"), "{error}");
        }
    }
}

fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

/// Gives a case the checksums that it should have, by the layout in docs/case.md.
fn mend(case: &mut [u8]) {
    let len = usize::try_from(u64::from_le_bytes(case[24..32].try_into().unwrap())).unwrap();
    let (database, table) = case[4096..].split_at_mut(len);
    let sums: Vec<u8> = database.chunks(16 << 10).flat_map(crc32c).collect();
    table.copy_from_slice(&sums);
    case[32..36].copy_from_slice(&crc32c(&sums));
    let head = crc32c(&case[..40]);
    case[40..44].copy_from_slice(&head);
}

/// redb takes its pages at their word. Where that ends it, that is said in a line, and not with a panic.
#[test]
fn a_case_made_by_hand_ends_with_words() {
    let (room, _) = sealed();
    let whole = room.read("c.case");
    let mut same = whole.clone();
    mend(&mut same);
    assert!(same == whole, "the layout is not what the test takes it for");
    let mut told = 0;
    for at in (4096..whole.len()).step_by(whole.len() / 24) {
        let mut bytes = whole.clone();
        let end = whole.len().min(at + 64);
        bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0xa5);
        mend(&mut bytes);
        if bytes.len() != whole.len() {
            continue;
        }
        room.write("c.case", &bytes);
        for line in ["case timeline c.case -w json", "case verify c.case", "case seal c.case"] {
            let ran = room.run(line);
            assert!(
                [0, 1, 3].contains(&ran.code) && !ran.stderr.contains("panicked"),
                "{at} {line}: {ran:?}"
            );
            told += usize::from(ran.stderr.contains("c.case: the case file is damaged"));
        }
    }
    assert!(told > 5, "{told}");
}
