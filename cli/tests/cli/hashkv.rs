//! `hashkv` beside what etcdutl 3.7.1 printed, and of several files; `kv diff`.

use insta::assert_snapshot;

use crate::run::Room;

/// Every command of the recorded session: its arguments behind the file, stdout, the first line of stderr, the exit code.
fn session() -> Vec<(String, String, String, i32)> {
    let text = testdata::sample("hashkv-3.7.1.txt");
    let commands = text.split("$ etcdutl-3.7.1 hashkv work/hk.db").skip(1);
    let parsed = commands.map(|command| {
        let (args, rest) = command.split_once("\n--- stdout\n").expect("a command");
        let (stdout, rest) = rest.split_once("\n--- stderr\n").expect("stdout ends");
        let (stderr, code) = rest.split_once("--- rc=").expect("stderr ends");
        let code = code.trim().parse().expect("a number");
        (args.trim().to_owned(), stdout.to_owned(), stderr.trim_end().to_owned(), code)
    });
    parsed.collect()
}

#[test]
fn as_etcdutl_prints_it() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let session = session();
    assert_eq!(session.len(), 10);
    for (args, stdout, stderr, code) in session {
        let ran = room.run(&format!("hashkv snapshot.db {args}"));
        assert_eq!((ran.stdout.as_str(), ran.code), (stdout.as_str(), code), "{args}");
        // Which revisions are kept is said behind etcdutl's words.
        assert!(ran.stderr.starts_with(&stderr), "{args}: {}", ran.stderr);
    }
    let ran = room.run("hashkv snapshot.db -w protobuf");
    assert_eq!((ran.code, ran.stderr.as_str()), (4, "Error: protobuf not supported as output format\n"));
}

#[test]
fn a_revision_that_is_not_kept_is_told_with_those_that_are() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("hashkv snapshot.db --rev 10");
    assert_snapshot!(ran.stderr, @"Error: mvcc: required revision has been compacted; kept are revisions 46 to 79");
    let ran = room.run("hashkv snapshot.db --rev 46 --as-etcd 3.5.9");
    assert_eq!(ran.code, 1);
    assert_snapshot!(ran.stderr, @"Error: mvcc: required revision has been compacted; kept are revisions 47 to 79");
    for wrong in ["--rev -1", "--as-etcd 2.3", "--rev x"] {
        assert_eq!(room.run(&format!("hashkv snapshot.db {wrong}")).code, 2, "{wrong}");
    }
    assert_eq!(room.run("hashkv").code, 2);
}

/// One history at three times, of which the first was never compacted; and that of another cluster.
fn room_of_several() -> Room {
    let room = Room::new();
    for (name, version, stage) in [
        ("early", "3.5.30", "s1-precompact"),
        ("late", "3.5.30", "s2-auth"),
        ("last", "3.5.30", "s3-final"),
        ("other", "3.6.14", "s3-final"),
    ] {
        room.write(name, &testdata::snapshot(version, stage));
    }
    room
}

#[test]
fn several_are_compared_at_the_last_revision_that_all_have() {
    let room = room_of_several();
    let ran = room.run("hashkv last late");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_snapshot!(ran.stdout, @r"
    last, 1467433758, 78, 46
    late, 1467433758, 78, 46
    all agree at revision 78
    ");
    let ran = room.run("hashkv early late other -w table");
    assert_eq!(ran.code, 3);
    assert_snapshot!(ran.stdout, @r"
    ┌───────┬────────────┬───────────────┬──────────────────┐
    │ PATH  │    HASH    │ HASH REVISION │ COMPACT REVISION │
    ├───────┼────────────┼───────────────┼──────────────────┤
    │ early │ 1664077011 │            56 │               46 │
    │  late │ 1664077011 │            56 │               46 │
    │ other │  204262667 │            56 │               46 │
    └───────┴────────────┴───────────────┴──────────────────┘
    at revision 56 agree: early with late; other with no other
    ");
    assert!(ran.stderr.contains("Not all are compacted at 46: early is hashed as if."), "{}", ran.stderr);
    let json = room.run("hashkv early other --rev 50 -w json").json();
    assert_eq!(json["agree"], false);
    assert_eq!(json["hashRevision"], 50);
    assert_eq!(json["members"][0]["compactRevision"], -1);
    assert_eq!(json["groups"], serde_json::json!([["early"], ["other"]]));
}

#[test]
fn several_without_a_revision_that_all_keep() {
    let room = room_of_several();
    let ran = room.run("hashkv early last --rev 60");
    assert_eq!(ran.code, 1);
    assert_snapshot!(ran.stderr, @"Error: early: mvcc: required revision is a future revision; kept are revisions 1 to 56");
    let ran = room.run("hashkv early last --rev 40");
    assert_snapshot!(ran.stderr, @"Error: last: mvcc: required revision has been compacted; kept are revisions 46 to 79");
    let ran = room.run("hashkv early nowhere");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("nowhere"), "{}", ran.stderr);
}

#[test]
fn a_damaged_file_has_no_hash() {
    let room = Room::new();
    room.write("db", &testdata::snapshot("3.5.30", "s3-final")[..200_000]);
    let ran = room.run("hashkv db");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("error BBOLT-TRUNCATED"), "{}", ran.stderr);
}

#[test]
fn keys_that_differ() {
    let room = room_of_several();
    let ran = room.run("kv diff last --rev-a 60 --rev-b 79");
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("changed"), "{}", ran.stderr);
    let lines = ran.stdout.lines().count();
    assert!(lines > 0 && ran.stdout.lines().all(|line| "+-~=".contains(&line[..1])), "{}", ran.stdout);
    let json = room.run("kv diff last --rev-a 60 --rev-b 79 -w json --values");
    let changes: Vec<serde_json::Value> =
        json.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(changes.len(), lines);
    let of = |kind: &str| changes.iter().filter(|change| change["change"] == kind).count();
    let keys = |revision: i64| {
        let listed = room.run(&format!("kv list last --rev {revision} --count-only -w json"));
        listed.json()["count"].as_u64().expect("a count")
    };
    assert_eq!(keys(60) + of("added") as u64, keys(79) + of("removed") as u64);
    for change in &changes {
        assert_eq!(change["before"].is_null(), change["change"] == "added", "{change}");
        assert_eq!(change["after"].is_null(), change["change"] == "removed", "{change}");
    }
    let same = room.run("kv diff last last");
    assert_eq!((same.code, same.stdout.as_str()), (0, ""));
    for wrong in
        ["last", "last --rev-a 60 --rev-b 60", "last late --values", "last late -w table", "last --rev-b -2"]
    {
        let ran = room.run(&format!("kv diff {wrong}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{wrong}");
    }
    let ran = room.run("kv diff last early --rev-a 10");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("the first: mvcc: required revision has been compacted"), "{}", ran.stderr);
}
