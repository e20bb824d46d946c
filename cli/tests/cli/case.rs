//! `case`, as a user sees it, on three members of a real cluster that were killed one after the other.

use std::fs;
use std::path::Path;

use serde_json::Value;
use testdata::fingerprint;

use crate::run::{Ran, Room};

/// A room with the members `n1`, `n2` and `n3`, and a case of them.
///
/// By the facts that were recorded beside them n1's database has entry 4251 and revision 4237, n2's 1800 and 1787, n3's 4235 and 4221; the
/// logs of n1 and n3 end at entry 4252 of term 3, that of n2 at 1810 of term 2.
fn with_case() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    ok(&room, "case new c.case");
    ok(&room, "case add c.case n1=n1 n2=n2 n3=n3");
    room
}

#[track_caller]
fn ok(room: &Room, line: &str) -> Ran {
    let ran = room.run(line);
    assert_eq!(ran.code, 0, "{line}: {ran:?}");
    ran
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_type<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == name).collect()
}

#[test]
fn what_each_member_has_and_where_it_ends_comes_out_right() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let before: Vec<_> = ["n1", "n2", "n3"].map(|name| fingerprint(&room.path().join(name))).into();
    ok(&room, "case new c.case");
    ok(&room, "case add c.case n1=n1 n2=n2 n3=n3");
    let sources = lines(&ok(&room, "case sources c.case -w json"));
    let numbers = |at: usize| {
        let (space, log) = (&sources[at]["keySpace"], &sources[at]["log"]);
        (
            space["revision"].as_i64().unwrap(),
            space["consistentIndex"].as_u64().unwrap(),
            log["last"].as_u64().unwrap(),
        )
    };
    assert_eq!(
        (numbers(0), numbers(1), numbers(2)),
        ((4237, 4251, 4252), (1787, 1800, 1810), (4221, 4235, 4252))
    );

    // n2 was killed early: it lacks a tail, and nothing else.
    for (one, other, tail) in [("n1", "n2", 2450), ("n1", "n3", 16), ("n3", "n2", 2434)] {
        let diff = ok(&room, &format!("case diff c.case {one} {other} --tail -w json"));
        let rows = lines(&diff);
        assert_eq!(rows.len(), tail, "{one} {other}");
        assert!(rows.iter().all(|row| row["change"] == "<" && row["sources"] == serde_json::json!([one])));
        assert!(diff.stderr.contains("they hold the same"), "{diff:?}");
        assert_eq!(lines(&ok(&room, &format!("case diff c.case {one} {other} -w json"))).len(), 0);
    }
    assert_eq!(lines(&ok(&room, "case find c.case --only-in n1 -w json")).len(), 16);
    assert_eq!(lines(&ok(&room, "case timeline c.case --from-rev 4222 -w json")).len(), 16);

    // The one entry that n2 has and never applied.
    let entries = lines(&ok(&room, "case log c.case --index 1810 -w json"));
    let of =
        |entry: &Value| (entry["source"].as_str().unwrap().to_owned(), entry["committed"].as_bool().unwrap());
    assert_eq!(
        entries.iter().map(of).collect::<Vec<_>>(),
        [("n1".to_owned(), true), ("n2".to_owned(), false), ("n3".to_owned(), true)]
    );
    assert!(
        entries.iter().all(|entry| entry["keys"][0]["key"] == "/load/00174" && entry["term"] == 2),
        "{entries:?}"
    );
    let after: Vec<_> = ["n1", "n2", "n3"].map(|name| fingerprint(&room.path().join(name))).into();
    assert_eq!(before, after, "evidence was written to");
}

/// The slow way is `kv history` of each member by itself.
#[test]
fn the_life_of_a_key_is_what_each_member_says_of_it() {
    let room = with_case();
    let life = lines(&ok(&room, "case key c.case /load/00174 --cite -w json"));
    let revisions = of_type(&life, "revision");
    for name in ["n1", "n2", "n3"] {
        let slow = lines(&ok(&room, &format!("kv history {name} /load/00174 -w json")));
        let number = |row: &Value, name: &str| row[name].as_i64().unwrap();
        let expected: Vec<_> =
            slow.iter().map(|row| (number(row, "revision"), number(row, "version"))).collect();
        let holds = |row: &&&Value| row["sources"].as_array().unwrap().iter().any(|source| source == name);
        let found: Vec<_> = revisions
            .iter()
            .filter(holds)
            .map(|row| (number(row, "revision"), number(row, "version")))
            .collect();
        assert_eq!(found, expected, "{name}");
    }
    // A citation is good for what it cites: the bytes there hold the key.
    for row in revisions {
        for cited in row["citations"].as_array().unwrap() {
            let path = format!("{}/{}", cited["source"].as_str().unwrap(), cited["file"].as_str().unwrap());
            let bytes = room.read(&path);
            assert_eq!(cited["sha256"], testdata::sha256_hex(&bytes));
            let from = usize::try_from(cited["offset"].as_u64().unwrap()).unwrap();
            let len = usize::try_from(cited["lenBytes"].as_u64().unwrap()).unwrap();
            let record = &bytes[from..from + len];
            assert!(record.windows(11).any(|window| window == b"/load/00174"), "{cited}");
        }
    }
    assert_eq!(of_type(&life, "standing").len(), 3);
    let with_log = lines(&ok(&room, "case key c.case /load/00174 --log -w json"));
    assert_eq!(of_type(&with_log, "entry").len(), 27);
}

#[test]
fn the_key_space_at_a_revision_is_what_a_member_lists() {
    let room = with_case();
    let at = ok(&room, "case at c.case 1700 -w json");
    let rows = lines(&at);
    let found: Vec<_> =
        of_type(&rows, "revision").iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect();
    let listed = ok(&room, "kv list n2 --rev 1700 --keys-only");
    let keys: Vec<_> = listed.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(found, keys);
    // Beyond the end of n2 it says so.
    let late = ok(&room, "case at c.case 4000 --prefix /load/0017 -w json");
    let rows = lines(&late);
    let standing = of_type(&rows, "standing");
    assert_eq!(standing[1]["standing"], "ends-before");
    assert!(late.stderr.contains("n2: ends at revision 1787"), "{late:?}");
}

#[test]
fn tables_and_lines_show_the_same() {
    let room = with_case();
    insta::assert_snapshot!(ok(&room, "case timeline c.case --from-rev 1786 --to-rev 1788 -w table").stdout, @r#""#);
    insta::assert_snapshot!(ok(&room, "case timeline c.case --from-rev 1787 --to-rev 1788 --cite").stdout, @r#""#);
    insta::assert_snapshot!(ok(&room, "case log c.case --index 1809..1810 --source n2 --cite").stdout, @r#""#);
    insta::assert_snapshot!(ok(&room, "case sources c.case -w table").stdout, @r#""#);
}

#[test]
fn values_come_out_of_the_case_or_out_of_the_source_where_it_still_is() {
    let room = with_case();
    ok(&room, "case new v.case");
    ok(&room, "case add v.case n2=n2 --embed-values");
    let value = |line: &str| lines(&ok(&room, line))[0].clone();
    let kept = value("case timeline v.case --from-rev 1787 --to-rev 1787 --values -w json");
    let read = value("case timeline c.case --from-rev 1787 --to-rev 1787 --values -w json");
    assert_eq!((&kept["value"], kept["value"].is_string()), (&read["value"], true));
    let listed = ok(&room, &format!("kv get n2 {} --print-value-only", kept["key"].as_str().unwrap()));
    assert_eq!(listed.stdout.trim_end(), kept["value"].as_str().unwrap());
    for name in ["n1", "n2", "n3"] {
        fs::rename(room.path().join(name), room.path().join(format!("{name}.away"))).unwrap();
    }
    let kept = value("case timeline v.case --from-rev 1787 --to-rev 1787 --values -w json");
    assert_eq!(kept["value"], read["value"]);
    let gone = value("case timeline c.case --from-rev 1787 --to-rev 1787 --values -w json");
    assert!(
        gone["value"].is_null() && gone["noValue"].as_str().unwrap().contains("--embed-values"),
        "{gone}"
    );
}

#[test]
fn the_same_again_is_passed_over_and_what_changed_is_refused() {
    let room = with_case();
    let before = room.read("c.case");
    let again = ok(&room, "case add c.case n1=n1");
    assert!(again.stdout.contains("was there") && room.read("c.case") == before, "{again:?}");
    flip(&room.path().join("n1/member/snap/db"), 100);
    let refused = room.run("case add c.case n1=n1");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("member/snap/db") && refused.stderr.contains("not replaced"),
        "{refused:?}"
    );
    assert!(room.read("c.case") == before);
    // Nothing of the second is lost when the third is refused.
    let partly = room.run("case add c.case again=n2 n1=n1");
    assert_eq!(partly.code, 1, "{partly:?}");
    assert!(partly.stderr.contains("in the case: again"), "{partly:?}");
    assert_eq!(lines(&ok(&room, "case sources c.case -w json")).len(), 4);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_seal_holds_until_something_changes() {
    let room = with_case();
    let manifest = ok(&room, "case seal c.case --examiner somebody -w json");
    let digest = testdata::sha256_hex(manifest.stdout.as_bytes());
    assert!(manifest.stderr.contains(&digest), "{manifest:?}");
    let json: Value = serde_json::from_str(&manifest.stdout).unwrap();
    assert_eq!(json["examiner"], "somebody");
    assert!(json["commands"][1]["line"].as_str().unwrap().starts_with("etcd-rescue case add c.case n1=n1"));
    let verified = ok(&room, &format!("case verify c.case --seal {digest}"));
    assert!(verified.stderr.contains("the case is what was sealed"), "{verified:?}");
    let other = room.run(&format!("case verify c.case --seal {}", "0".repeat(64)));
    assert_eq!(other.code, 3, "{other:?}");
    ok(&room, "case add c.case more=n2");
    let outgrown = ok(&room, "case verify c.case -w json");
    assert_eq!(outgrown.json()["seal"], "outgrown");
    flip(&room.path().join("n3/member/snap/db"), 5_000);
    fs::remove_file(room.path().join("n1/member/snap/db")).unwrap();
    let changed = room.run("case verify c.case -w json");
    assert_eq!(changed.code, 3, "{changed:?}");
    let states: Vec<_> = changed.json()["files"].as_array().unwrap().clone();
    let of = |source: &str| {
        let db = |row: &&Value| row["source"] == source && row["file"] == "member/snap/db";
        states.iter().find(db).unwrap()["state"].clone()
    };
    assert!(of("n3")["changed"].is_object() && of("n1")["not-there"].is_object(), "{states:?}");
    assert_eq!(of("n2"), "same");
}

#[test]
fn a_report_is_written_once_and_what_is_left_out_is_not_in_it() {
    let room = with_case();
    let written = ok(&room, "case report c.case -o report.html -w json");
    let report = room.read("report.html");
    assert_eq!(written.json()["sha256"], testdata::sha256_hex(&report));
    let text = String::from_utf8(report).unwrap();
    for part in ["n1 and n2", "is the same", "/load/", "4252 of term 3", "1810 of term 2"] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("<script") && text.matches("http-equiv=\"Content-Security-Policy\"").count() == 1);
    let refused = room.run("case report c.case -o report.html");
    assert_eq!(refused.code, 1, "{refused:?}");
    ok(&room, "case report c.case -o short.html --redact keys");
    let short = String::from_utf8(room.read("short.html")).unwrap();
    assert!(!short.contains("/load/") && short.contains("left out of this report"));
    ok(&room, "case report c.case -o again.html");
    assert!(room.read("again.html") == text.into_bytes(), "two reports on one case differ");
}

#[test]
fn what_is_no_case_is_refused_by_name() {
    let room = with_case();
    room.write("empty", b"");
    room.write("text", &[b'x'; 10_000]);
    for name in ["empty", "text", "n1/member/snap/db"] {
        for line in ["case sources", "case report -o r.html", "case seal", "case verify"] {
            let ran = room.run(&format!("{line} {name}"));
            assert_eq!(ran.code, 1, "{line}: {ran:?}");
            assert!(ran.stderr.contains(&format!("{name}: is no case file")), "{line}: {ran:?}");
        }
    }
    let mut newer = room.read("c.case");
    newer[16] += 1;
    room.write("newer", &newer);
    let ran = room.run("case key newer k");
    assert!(ran.code == 1 && ran.stderr.contains("version 2"), "{ran:?}");
    let mut short = room.read("c.case");
    short.truncate(short.len() - 1);
    room.write("short", &short);
    let ran = room.run("case key short k");
    assert!(ran.code == 1 && ran.stderr.contains("is damaged"), "{ran:?}");
    let missing = room.run("case diff c.case n1 n9");
    assert!(missing.code == 1 && missing.stderr.contains("it has n1, n2, n3"), "{missing:?}");
}

#[test]
fn what_makes_no_sense_is_a_matter_of_usage() {
    let room = Room::new();
    for line in [
        "case add c.case nothing",
        "case add c.case =x",
        "case add c.case n=",
        "case add c.case a=x b=y --wal-dir z",
        "case find c.case",
        "case find c.case --value-hash xyz",
        "case log c.case --index 9..1",
        "case at c.case 0",
        "case key c.case",
        "case report c.case",
    ] {
        assert_eq!(room.run(line).code, 2, "{line}");
    }
    assert_eq!(room.names(), [""; 0]);
}
