//! `kv get`, `kv list`, `kv history` and `kv export` on data of real servers.

use insta::assert_snapshot;
use rstest::rstest;
use serde_json::Value;

use crate::run::Room;

#[rstest]
fn every_fixture_lists_what_its_server_listed(#[values("s1-precompact", "s2-auth", "s3-final")] stage: &str) {
    for version in testdata::VERSIONS {
        let room = Room::with_snapshot(version, stage);
        let ran = room.run("kv list snapshot.db -w json");
        assert_eq!(ran.code, 0, "{version} {stage}: {ran:?}");
        let (ours, facts) = (ran.json(), testdata::facts_json(version, stage, "keys.json"));
        assert_eq!(
            (&ours["kvs"], &ours["count"]),
            (&facts[0]["kvs"], &facts[0]["count"]),
            "{version} {stage}"
        );
        assert_eq!(ours["header"]["revision"], facts[0]["header"]["revision"], "{version} {stage}");
    }
}

/// A snapshot does not say whose it is, a member's directory does.
#[test]
fn the_header_of_a_data_dir_is_that_of_its_server() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    let ran = room.run("kv get data /a/key001 -w json");
    let facts = testdata::facts_json("3.5.30", "s3-final", "keys.json");
    assert_eq!(ran.json()["header"], facts[0]["header"]);
    let fields = room.run("kv get data /a/key001 -w fields --hex").stdout;
    assert_snapshot!(fields, @r#"
    "ClusterID" : a507366ae314f9c
    "MemberID" : 2fa0a134ee80bef8
    "Revision" : 79
    "RaftTerm" : 3
    "Key" : "/a/key001"
    "CreateRevision" : 2
    "ModRevision" : 41
    "Version" : 11
    "Value" : "update 10"
    "Lease" : 0000000000000000
    "More" : false
    "Count" : 1
    "#);
}

#[test]
fn what_cannot_be_asked_is_refused_in_etcdctl_s_words() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    for (line, code, message) in [
        ("kv get snapshot.db a -w table", 4, "table not supported as output format"),
        (
            "kv get snapshot.db a --prefix --from-key",
            2,
            "`--prefix` and `--from-key` cannot be set at the same time",
        ),
        ("kv get snapshot.db a b --prefix", 2, "too many arguments, only accept one argument when"),
        (
            "kv get snapshot.db a --range-end b --from-key",
            2,
            "too many arguments, only accept one argument when",
        ),
        ("kv get snapshot.db a --keys-only --count-only", 2, "cannot be set at the same time, choose one"),
        ("kv get snapshot.db a --count-only", 2, "--count-only is only for `--write-out=fields`"),
        (
            "kv get snapshot.db a --print-value-only -w json",
            2,
            "print-value-only is only for `--write-out=simple`",
        ),
        ("kv get snapshot.db a --order up", 2, "bad sort order up"),
        ("kv get snapshot.db a --sort-by size", 2, "bad sort target size"),
        ("kv get snapshot.db a --consistency x", 2, "unknown consistency flag \"x\""),
        ("kv list snapshot.db --min-mod-rev 9 --max-mod-rev 8", 2, "getMinModRev(=9) > getMaxModRev(=8)"),
        (
            "kv get snapshot.db a --rev 45",
            1,
            "required revision has been compacted; kept are revisions 46 to 79",
        ),
        (
            "kv get snapshot.db a --rev 80",
            1,
            "required revision is a future revision; kept are revisions 46 to 79",
        ),
        ("kv history snapshot.db a -w fields", 2, "this command prints -w simple or -w json"),
        ("kv history snapshot.db a --rev 80", 1, "required revision is a future revision"),
        ("kv export snapshot.db --as db", 2, "-o FILE is missing"),
        ("kv export snapshot.db --as db -o x --skip-bad", 2, "--skip-bad does not go with --as db"),
        ("kv export snapshot.db --dry-run", 2, "about the file that -o names"),
        ("kv export snapshot.db -o x --rev 45", 1, "required revision has been compacted"),
        ("kv export snapshot.db -o snapshot.db", 1, "exists already"),
    ] {
        let ran = room.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line}: {ran:?}");
        assert!(ran.stderr.contains(message), "{line}: {}", ran.stderr);
    }
    assert_eq!(room.names(), ["snapshot.db"]);
}

#[test]
fn keys_are_counted_filtered_and_ordered() {
    let room = Room::with_snapshot("3.5.30", "s2-auth");
    let count = room.run("kv list snapshot.db /b/ --count-only -w json").json();
    assert_eq!((count["count"].as_i64(), &count["kvs"]), (Some(19), &Value::Null));
    assert_eq!(room.run("kv get snapshot.db /b/1 --print-value-only --hex").stdout, "\\x78\\x31\n");
    let newest = room.run("kv list snapshot.db /b/ --sort-by modify --order descend --limit 2 --keys-only");
    assert_eq!(newest.stdout, "/b/20\n\n/b/19\n\n", "{newest:?}");
    let made = room.run("kv list snapshot.db --min-create-rev 48 --max-create-rev 48 --keys-only").stdout;
    assert_eq!(made, "/a/key003\n\n");
}

#[test]
fn a_history_says_what_is_kept_and_what_is_not() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("kv history snapshot.db --prefix /a/key00");
    assert_eq!(ran.code, 0, "{ran:?}");
    let first: Vec<&str> = ran.stdout.lines().take(10).collect();
    assert_snapshot!(first.join("\n"), @r"
    /a/key001
      ...: 10 versions since the key was created at revision 2: compacted
      41: put, version 11, 9 bytes
    /a/key003
      ...: what was then deleted: compacted
      46: deleted
      48: created, version 1, 9 bytes
    /a/key004
      5: created, version 1, 7 bytes
      47: deleted
    ");
    assert_snapshot!(ran.stderr, @"The store is at revision 79, compacted at 46: what newer records had superseded up to there is gone.");
    let json = room.run("kv history snapshot.db /a/key003 -w json --values -q");
    assert_snapshot!(json.stdout, @r#"
    {"key":"/a/key003","step":"compacted"}
    {"key":"/a/key003","step":"delete","revision":46,"sub_revision":0,"record_bytes":11}
    {"key":"/a/key003","step":"put","revision":48,"sub_revision":0,"record_bytes":28,"create_revision":48,"version":1,"value_bytes":9,"value":"recreated"}
    "#);
    assert_eq!(room.run("kv history snapshot.db /nokey").stdout, "");
}

/// Before the compaction nothing is missing: as many records as the key has versions.
#[test]
fn a_whole_history_has_every_version() {
    let room = Room::with_snapshot("3.5.30", "s1-precompact");
    let ran = room.run("kv history snapshot.db /a/key001");
    let versions: Vec<String> = (1..12).map(|version| format!("version {version},")).collect();
    let lines: Vec<&str> = ran.stdout.lines().skip(1).collect();
    assert_eq!(lines.len(), versions.len(), "{ran:?}");
    assert!(lines.iter().zip(&versions).all(|(line, version)| line.contains(version)), "{ran:?}");
}

#[test]
fn lines_hold_what_the_server_listed() {
    let room = Room::with_snapshot("3.6.14", "s3-final");
    let printed = room.run("kv export snapshot.db -q");
    let ran = room.run("kv export snapshot.db -o keys.jsonl -w json");
    assert_eq!((printed.code, ran.code), (0, 0), "{ran:?}");
    assert_eq!(String::from_utf8(room.read("keys.jsonl")).unwrap(), printed.stdout);
    assert_eq!(ran.json()["size"], printed.stdout.len());
    let facts = testdata::facts_json("3.6.14", "s3-final", "keys.json");
    let lines: Vec<Value> = printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let served = facts[0]["kvs"].as_array().unwrap();
    assert_eq!(lines.len(), served.len());
    for (line, kv) in lines.iter().zip(served) {
        for number in ["create_revision", "mod_revision", "version"] {
            assert_eq!(line[number], kv[number], "{line}");
        }
        let lease = kv["lease"].as_i64().map(|lease| format!("{lease:x}"));
        assert_eq!(line["lease"].as_str(), lease.as_deref(), "{line}");
    }
    assert!(lines.iter().any(|line| line["key_hex"].is_string()), "one key is no text");
}

#[test]
fn a_database_of_some_keys_holds_these_and_the_revision() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let dry = room.run("kv export snapshot.db --prefix /b/ --as db -o b.db --dry-run");
    assert_eq!((dry.code, room.names().len()), (0, 1), "{dry:?}");
    let ran = room.run("kv export snapshot.db --prefix /b/ --as db -o b.db");
    assert_eq!((ran.code, &ran.stdout), (0, &dry.stdout), "{ran:?}");
    assert!(ran.stderr.contains("users, roles, alarms and members of snapshot.db are not in it"), "{ran:?}");
    let (all, some) = ("kv list snapshot.db /b/ -w json -q", "kv list b.db -w json -q");
    assert_eq!(room.run(some), room.run(all));
    assert_eq!(room.run("bbolt check b.db").code, 0);
    assert_eq!(room.run("snapshot hash b.db").code, 0);
    assert_eq!(room.run("bbolt keys b.db authUsers").stdout, "");
    let gone = room.run("kv list b.db --rev 78");
    assert!(gone.stderr.contains("kept are revisions 79 to 79"), "{gone:?}");

    room.run("kv export snapshot.db --prefix /a/ --history --rev 60 --as db -o a.db");
    let (of_all, of_some) =
        ("kv list snapshot.db /a/ --rev 50 -w json -q", "kv list a.db --rev 50 -w json -q");
    let kvs = |line: &str| room.run(line).json()["kvs"].clone();
    assert_eq!(kvs(of_some), kvs(of_all));
    assert_eq!(room.run("kv list a.db -w json -q").json()["header"]["revision"], 60);
}

/// A member that was killed: its log is ahead of its database, which is all that is read.
#[test]
fn a_database_behind_its_log_is_told() {
    let room = Room::new();
    testdata::unpack("3.4.23/killed/data.tar.zst", room.path());
    let ran = room.run("kv list data --count-only -w json -q");
    assert_eq!((ran.code, ran.json()["count"].as_i64()), (0, Some(40)), "{ran:?}");
    let warning = "the log goes on to entry 96, the database ends at its consistent index 84";
    assert!(ran.stderr.contains(warning), "{ran:?}");
    let history = room.run("kv history data /nokey -q");
    assert!(history.stderr.contains(warning), "{history:?}");
    let export = room.run("kv export data -o keys.jsonl -q");
    assert!(export.stderr.contains(warning), "{export:?}");
}

/// The first put of `/a/key004` no longer decodes: nothing is printed but with `--skip-bad`, and never a database.
#[test]
fn what_is_no_record_stops_all_but_those_who_asked_to_go_on() {
    let room = Room::new();
    let mut bytes = testdata::snapshot("3.5.30", "s2-auth");
    let put = [&[0, 0, 0, 0, 0, 0, 0, 5, b'_', 0, 0, 0, 0, 0, 0, 0, 0][..], b"\x0a"].concat();
    let places: Vec<usize> =
        (0..bytes.len() - put.len()).filter(|at| bytes[*at..].starts_with(&put)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + put.len() - 1] = 0xff;
    }
    bytes.truncate(bytes.len() - 32);
    room.write("db", &bytes);
    for line in [
        "kv list db -w json",
        "kv get db /a/key004",
        "kv history db /a/key004",
        "kv export db",
        "kv export db -o x",
    ] {
        let ran = room.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{line}: {ran:?}");
        assert!(
            ran.stderr.contains("error ETCD-RECORD") && ran.stderr.contains("--skip-bad goes on"),
            "{line}: {ran:?}"
        );
        let ran = room.run(&format!("{line} --skip-bad"));
        assert_eq!(ran.code, 3, "{line}: {ran:?}");
        assert!(ran.stderr.contains("error ETCD-RECORD"), "{line}: {ran:?}");
    }
    let ran = room.run("kv export db --as db -o y");
    assert_eq!((ran.code, room.names()), (1, vec!["db".to_owned(), "x".to_owned()]), "{ran:?}");
    assert!(!ran.stderr.contains("--skip-bad"), "{ran:?}");
    let ran = room.run("kv history db /a/key004 --skip-bad");
    assert!(
        ran.stdout.contains("what was then deleted: not in this file, and no compaction tells why"),
        "{ran:?}"
    );
}
