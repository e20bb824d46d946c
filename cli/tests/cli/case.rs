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

/// The slow way is `wal dump`: the same entries at the same offsets, and the same of them committed.
#[test]
fn the_logs_are_what_each_member_dumps() {
    let room = with_case();
    for name in ["n1", "n2", "n3"] {
        let slow = lines(&room.run(&format!("wal dump {name} --start-index 0 -w json")));
        let slow: Vec<_> = slow
            .iter()
            .filter(|row| row["record"] == "entry")
            .map(|row| {
                [&row["Index"], &row["Term"], &row["offset"], &row["committed"], &row["kind"]]
                    .map(Value::clone)
            })
            .collect();
        let found = lines(&ok(&room, &format!("case log c.case --source {name} --cite -w json")));
        let found: Vec<_> = found
            .iter()
            .map(|row| {
                let offset = &row["citations"][0]["offset"];
                [&row["index"], &row["term"], offset, &row["committed"], &row["kind"]].map(Value::clone)
            })
            .collect();
        assert!(!found.is_empty() && found == slow, "{name}: {} and {}", found.len(), slow.len());
    }
    let term = lines(&ok(&room, "case log c.case --term 3.. --source n1 -w json"));
    assert!(term.len() == 4252 - 1810 && term.iter().all(|row| row["term"] == 3), "{}", term.len());
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
    insta::assert_snapshot!(ok(&room, "case timeline c.case --from-rev 1787 --to-rev 1788 -w table").stdout, @r#"
    ┌──────────┬───────────────┬──────┬─────────┬───────┬───────┬─────────────────────┬────────────┬───────────┐
    │ REVISION │      KEY      │ WHAT │ VERSION │ BYTES │ LEASE │ VALUE SHA256 BEGINS │  SOURCES   │ CONTESTED │
    ├──────────┼───────────────┼──────┼─────────┼───────┼───────┼─────────────────────┼────────────┼───────────┤
    │     1787 │ "/load/00164" │  put │       5 │   102 │       │    184a36682adbd161 │ n1, n2, n3 │           │
    │     1788 │ "/load/00165" │  put │       5 │   102 │       │    86783fefc83fa37d │     n1, n3 │           │
    └──────────┴───────────────┴──────┴─────────┴───────┴───────┴─────────────────────┴────────────┴───────────┘
    "#);
    insta::assert_snapshot!(ok(&room, "case timeline c.case --from-rev 1787 --to-rev 1788 --cite").stdout, @r#"
    1787 "/load/00164": put, version 5, 102 bytes, value sha256 184a36682adbd161…; in n1, n2, n3
        n1: member/snap/db, sha256 667608c60aa878e5313dd6c71497a0b6e5528c7fefe1342ce91bdab82ba04ba5, 125 bytes at 0x4e191, page 78
        n2: member/snap/db, sha256 87d74074c1de9f6dc05ea45a0ae279acd130d0b33e52109ff18acd7ea6023746, 125 bytes at 0x51e63, page 81
        n3: member/snap/db, sha256 01e740fed0f7e6cd627d247025ef3d096534bc741ff2b47a8922d55e020f0bb0, 125 bytes at 0x54191, page 84
    1788 "/load/00165": put, version 5, 102 bytes, value sha256 86783fefc83fa37d…; in n1, n3
        n1: member/snap/db, sha256 667608c60aa878e5313dd6c71497a0b6e5528c7fefe1342ce91bdab82ba04ba5, 125 bytes at 0x4e21f, page 78
        n3: member/snap/db, sha256 01e740fed0f7e6cd627d247025ef3d096534bc741ff2b47a8922d55e020f0bb0, 125 bytes at 0x5421f, page 84
    "#);
    insta::assert_snapshot!(ok(&room, "case timeline c.case --from-rev 4237 --cite -w table").stdout, @r#"
    ┌──────────┬───────────────┬──────┬─────────┬───────┬───────┬─────────────────────┬─────────┬───────────┬────────────────┬──────────────────────────────────────────────────────────────────┬─────────┬────────┬──────┐
    │ REVISION │      KEY      │ WHAT │ VERSION │ BYTES │ LEASE │ VALUE SHA256 BEGINS │ SOURCES │ CONTESTED │      FILE      │                           FILE SHA256                            │ OFFSET  │ LENGTH │ PAGE │
    ├──────────┼───────────────┼──────┼─────────┼───────┼───────┼─────────────────────┼─────────┼───────────┼────────────────┼──────────────────────────────────────────────────────────────────┼─────────┼────────┼──────┤
    │     4237 │ "/load/00279" │  put │      11 │   102 │       │    82fa506798c1cfbc │      n1 │           │ member/snap/db │ 667608c60aa878e5313dd6c71497a0b6e5528c7fefe1342ce91bdab82ba04ba5 │ 0xb7799 │    125 │  183 │
    └──────────┴───────────────┴──────┴─────────┴───────┴───────┴─────────────────────┴─────────┴───────────┴────────────────┴──────────────────────────────────────────────────────────────────┴─────────┴────────┴──────┘
    "#);
    insta::assert_snapshot!(ok(&room, "case log c.case --index 1809..1810 --source n2 --cite").stdout, @r#"
    entry 1809 of term 2 in n2: put "/load/00173"; counts, committed
        n2: member/wal/0000000000000000-0000000000000000.wal, sha256 d9927d3062552b2b4d032a08d801e4904fd2ace621ed6e97cc6c2e1452fb0594, 160 bytes at 0x53a88
    entry 1810 of term 2 in n2: put "/load/00174"; counts
        n2: member/wal/0000000000000000-0000000000000000.wal, sha256 d9927d3062552b2b4d032a08d801e4904fd2ace621ed6e97cc6c2e1452fb0594, 168 bytes at 0x53b50
    "#);
    insta::assert_snapshot!(ok(&room, "case log c.case --index 1810 -w table").stdout, @r#"
    ┌────────┬───────┬──────┬──────┬───────────────┬──────────┬───────────┐
    │ SOURCE │ INDEX │ TERM │ KIND │     NAMES     │ STANDING │ COMMITTED │
    ├────────┼───────┼──────┼──────┼───────────────┼──────────┼───────────┤
    │     n1 │  1810 │    2 │  put │ "/load/00174" │   counts │       yes │
    │     n2 │  1810 │    2 │  put │ "/load/00174" │   counts │           │
    │     n3 │  1810 │    2 │  put │ "/load/00174" │   counts │       yes │
    └────────┴───────┴──────┴──────┴───────────────┴──────────┴───────────┘
    "#);
    // The last column has full paths, and is as wide as those of this machine.
    let table = ok(&room, "case sources c.case -w table").stdout;
    let cut = |line: &str| {
        let strokes: Vec<_> = line.match_indices(['┬', '┼', '┴', '│']).map(|(at, _)| at).collect();
        // A line of cells ends with a stroke, too.
        let from_end = if line.starts_with('│') { 2 } else { 1 };
        line[..strokes[strokes.len() - from_end]].trim_end().to_owned()
    };
    insta::assert_snapshot!(table.lines().map(cut).collect::<Vec<_>>().join("\n"), @r#"
    ┌────────┬──────────┬──────────────────┬───────┬─────────┬──────────┬───────────┬────────────────┬─────────────┬──────────
    │ SOURCE │   WHAT   │      MEMBER      │ FILES │ RECORDS │ REVISION │ COMPACTED │   LAST ENTRY   │   VERDICT   │ FINDINGS
    ├────────┼──────────┼──────────────────┼───────┼─────────┼──────────┼───────────┼────────────────┼─────────────┼──────────
    │     n1 │ data-dir │ 6b7160608ed2c2e8 │    23 │    4236 │     4237 │         - │ 4252 of term 3 │ boots-as-is │        0
    │     n2 │ data-dir │ 3fe4b3a4dda901c1 │    11 │    1786 │     1787 │         - │ 1810 of term 2 │ boots-as-is │        0
    │     n3 │ data-dir │ 3e2f70db3bda20b4 │    24 │    4220 │     4221 │         - │ 4252 of term 3 │ boots-as-is │        0
    └────────┴──────────┴──────────────────┴───────┴─────────┴──────────┴───────────┴────────────────┴─────────────┴──────────
    "#);
    insta::assert_snapshot!(ok(&room, "case sources c.case").stdout, @r#"
    n1, data-dir, member 6b7160608ed2c2e8, 23 files, records 4236, revision 4237, compacted at -, last entry 4252 of term 3, boots-as-is, 0 findings, ROOM/n1
    n2, data-dir, member 3fe4b3a4dda901c1, 11 files, records 1786, revision 1787, compacted at -, last entry 1810 of term 2, boots-as-is, 0 findings, ROOM/n2
    n3, data-dir, member 3e2f70db3bda20b4, 24 files, records 4220, revision 4221, compacted at -, last entry 4252 of term 3, boots-as-is, 0 findings, ROOM/n3
    "#);
    // Under a table of revisions there is one of log entries.
    let both = ok(&room, "case key c.case /load/00174 --log -w table").stdout;
    assert_eq!((both.matches('┌').count(), both.lines().count()), (2, 2 * 4 + 11 + 27));
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
    let gone = room.run("case timeline c.case --from-rev 1787 --to-rev 1787 --values -w json");
    let row = lines(&gone)[0].clone();
    assert!(row["value"].is_null() && row["noValue"].as_str().unwrap().contains("--embed-values"), "{row}");
    assert!(gone.code == 3 && gone.stderr.contains("1 value could not be had"), "{gone:?}");
    // What stands in the place of the value now is not taken for it.
    let cited = &lines(&ok(&room, "case timeline c.case --from-rev 4237 --cite -w json"))[0]["citations"][0];
    fs::rename(room.path().join("n1.away"), room.path().join("n1")).unwrap();
    let read = "case timeline c.case --from-rev 4237 --values -w table";
    assert!(ok(&room, read).stdout.contains("\"v1079-15dce7085aef8d2bcb78"));
    flip(
        &room.path().join("n1/member/snap/db"),
        usize::try_from(cited["offset"].as_u64().unwrap()).unwrap() + 40,
    );
    let changed = room.run(read);
    assert!(changed.code == 3 && changed.stderr.contains("the file changed since"), "{changed:?}");
    assert!(!changed.stdout.contains("v1079"), "{changed:?}");
}

/// Pages of a database are destroyed: what was in them is no difference of the histories, and who is asked says so.
#[test]
fn what_is_damaged_is_told_and_is_no_difference() {
    let room = with_case();
    let cited = |at: u64| {
        let row =
            &lines(&ok(&room, &format!("case timeline c.case --from-rev {at} --to-rev {at} --cite -w json")))
                [0];
        row["citations"][0]["page"].as_u64().unwrap()
    };
    let mut bytes = room.read("n1/member/snap/db");
    for page in [cited(400), cited(1800)] {
        let at = usize::try_from(page).unwrap() * 4096;
        bytes[at..at + 16].fill(b'X');
    }
    room.write("damaged.db", &bytes);
    room.write("cut.db", &bytes[..200_000]);
    let added = room.run("case add c.case damaged=damaged.db cut=cut.db");
    assert!(added.code == 3 && added.stderr.contains("damaged: error BBOLT-WRONG-ID"), "{added:?}");
    let findings = room.run("case findings c.case --source damaged -w json");
    assert_eq!(findings.code, 3);
    assert!(lines(&findings).iter().all(|row| row["code"] == "BBOLT-WRONG-ID" && row["offset"].is_u64()));
    let cited = room.run("case findings c.case --source damaged --cite");
    let sha256 = format!("(damaged.db at 0x14000, sha256 {})", testdata::sha256_hex(&bytes));
    assert!(cited.stdout.lines().next().unwrap().ends_with(&sha256), "{cited:?}");
    let diff = room.run("case diff c.case n1 damaged -w json");
    assert_eq!((diff.code, diff.stdout.as_str()), (3, ""));
    insta::assert_snapshot!(diff.stderr, @"
    damaged: revisions 384 to 406, 1787 to 1809 lie below damaged pages
    they hold the same from revision 1 to 4237, as far as both can be read
    4190 revisions the same, 0 different, 0 in one only, 46 where one of them is damaged
    (--tail shows these, too)
    ");
    let torn = room.run("case diff c.case n1 damaged --tail -w json");
    assert!(lines(&torn).iter().all(|row| row["why"] == "unreadable" && row["change"] == "<"));
    assert_eq!(lines(&torn).len(), 46);
    let at = room.run("case at c.case 420");
    assert!(at.stderr.contains(" 0 contested") && at.stderr.contains("cut: has no key space"), "{at:?}");
    assert!(
        at.stderr.contains("damaged: revisions 384 to 406, 1787 to 1809 lie below damaged pages"),
        "{at:?}"
    );
    let cut = room.run("case diff c.case n1 cut");
    assert!(cut.code == 3 && cut.stderr.contains("cut: has no key space that could be read"), "{cut:?}");
}

#[test]
fn a_case_is_not_part_of_its_own_evidence() {
    let room = with_case();
    ok(&room, "case new n2/member/inside.case");
    for source in ["n2=n2", "x=.", "y=n2/member"] {
        let refused = room.run(&format!("case add n2/member/inside.case {source}"));
        assert!(refused.code == 1 && refused.stderr.contains("move the case out of it"), "{refused:?}");
    }
    let refused = room.run("case add c.case c=c.case");
    assert!(refused.code == 1 && refused.stderr.contains("is the case itself"), "{refused:?}");
    fs::remove_file(room.path().join("n2/member/inside.case")).unwrap();
    // Beside a source it is nobody's evidence.
    room.write("snapshot.db", &testdata::snapshot("3.5.30", "s1-precompact"));
    ok(&room, "case add c.case s=snapshot.db");
    assert_eq!(ok(&room, "case verify c.case").code, 0);
}

#[test]
fn names_and_paths_of_all_kinds() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    ok(&room, "case new c.case");
    let odd = "we\tird\nna=me.db";
    fs::copy(room.path().join("snapshot.db"), room.path().join(odd)).unwrap();
    let tab = format!("n={odd}");
    for source in
        ["two words=snapshot.db", "ü=snapshot.db", "-x=snapshot.db", "a'b=snapshot.db", tab.as_str()]
    {
        let ran = room.run_words(&["case", "add", "c.case", "--", source]);
        assert_eq!(ran.code, 0, "{source}: {ran:?}");
    }
    let sources = ok(&room, "case sources c.case --files");
    assert_eq!(sources.stdout.lines().count(), 5, "{sources:?}");
    assert!(sources.stdout.contains("n, we\\x09ird\\x0ana=me.db, "), "{sources:?}");
    let control = room.run_words(&["case", "add", "c.case", "a\nb=snapshot.db"]);
    assert!(control.code == 1 && control.stderr.contains("is no name for a source"), "{control:?}");
    assert_eq!(ok(&room, "case find c.case --only-in=-x").stdout, "");
    let commands = ok(&room, "case seal c.case -w json").json();
    assert_eq!(commands["commands"][1]["line"], "etcd-rescue case add c.case -- 'two words=snapshot.db'");
}

/// Whoever comes second is told who is there, and the case is what it was.
#[test]
fn one_writer_at_a_time() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    ok(&room, "case new c.case");
    let before = room.read("c.case");
    let held = fs::File::open(room.path().join("c.case")).unwrap();
    held.lock().unwrap();
    for line in ["case add c.case s=snapshot.db", "case seal c.case"] {
        let second = room.run(line);
        let us = format!("process {} is writing to this case; wait until that is done", std::process::id());
        assert!(second.code == 1 && second.stderr.contains(&us), "{second:?}");
    }
    // Questions need not wait.
    ok(&room, "case sources c.case");
    assert!(room.read("c.case") == before);
    drop(held);
    ok(&room, "case add c.case s=snapshot.db");
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let room = with_case();
    for format in ["simple", "table", "json"] {
        let mut child = std::process::Command::new(crate::run::binary())
            .args(["case", "timeline", "c.case", "-w", format])
            .current_dir(room.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ran = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(0) && !told.contains("rror"), "{format}: {told}");
    }
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
    // As it is, and not with the paths that other tests are shown.
    let sealed =
        room.command().args("case seal c.case --examiner somebody -w json".split(' ')).output().unwrap();
    let digest = testdata::sha256_hex(&sealed.stdout);
    assert!(String::from_utf8_lossy(&sealed.stderr).contains(&digest), "{sealed:?}");
    let manifest = Ran { code: 0, stdout: String::from_utf8(sealed.stdout).unwrap(), stderr: String::new() };
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
