//! `v2 list` and `v2 migrate`: what they say, write and refuse.

use std::fs;

use serde_json::{Value, json};
use testdata::fingerprint;
use wal::raftpb::{Entry, HardState};

use crate::run::{LogEnd, Room};

/// A room with `data`, a stopped member of 3.4.23 with keys of the v2 API.
fn room() -> Room {
    let room = Room::new();
    testdata::unpack("v2/3.4.23.tar.zst", room.path());
    room
}

#[test]
fn keys_are_listed_as_etcdctl_lists_them_and_hidden_ones_too() {
    let room = room();
    let before = fingerprint(room.path());
    let top = room.run("v2 list data");
    assert_eq!((top.code, top.stderr.as_str()), (0, ""), "{top:?}");
    assert_eq!(top.stdout, "/_hidden\n/app\n/bytes\n/dir\n/empty\n/queue\n/tree\n/ttl\n");
    let below = room.run("v2 list data /dir/ -r -p");
    assert_eq!(below.stdout, "/dir/inner/\n/dir/inner/deep\n");
    let key = room.run("v2 list data /bytes -w json").json();
    assert_eq!(key["nodes"][0]["value"], json!("a\u{fffd}\u{fffd}b"));
    assert_eq!(key["nodes"][0]["hidden"], false);
    let all = room.run("v2 list data -r -w json").json();
    assert_eq!(all["nodes"][1]["key"], "/_hidden/secret");
    assert_eq!((&all["nodes"][1]["hidden"], &all["nodes"][2]["hidden"]), (&json!(true), &json!(false)));
    let expires = room.run("v2 list data /ttl -r -w json").json();
    let times = expires["nodes"].as_array().unwrap().iter().filter(|node| node["expiration"].is_string());
    assert_eq!(times.count(), 2);
    // A .snap alone knows nothing of what came later.
    let snap = room.run("v2 list data/member/snap/0000000000000002-0000000000000015.snap /app/key1 -w json");
    assert_eq!(snap.json()["nodes"][0]["value"], "swapped", "{snap:?}");
    let none = room.run("v2 list data /none");
    assert_eq!((none.code, none.stdout.as_str()), (1, ""));
    assert!(none.stderr.contains("there is no v2 key /none"), "{none:?}");
    assert_eq!(fingerprint(room.path()), before);
}

#[test]
fn a_member_is_migrated_into_a_copy_or_in_its_place() {
    let room = room();
    let before = fingerprint(&room.path().join("data"));
    let dry = room.run("v2 migrate data -o out --dry-run -w json");
    assert_eq!((dry.code, room.path().join("out").exists()), (3, false), "{dry:?}");
    let ran = room.run("v2 migrate data -o out -w json");
    assert_eq!(ran.code, 3, "{ran:?}");
    let (mut told, report) = (dry.json(), ran.json());
    told["dryRun"] = false.into();
    assert_eq!(told, report);
    assert_eq!((report["keys"].as_u64(), report["revision"].as_u64()), (Some(22), Some(52)));
    assert_eq!(report["findings"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["findings"][0]["code"], "ETCD-V2-HIDDEN");
    assert_eq!(fingerprint(&room.path().join("data")), before);
    let got = room.run("kv get out /app/key1 --print-value-only");
    assert_eq!((got.code, got.stdout.as_str()), (0, "again 1\n"), "{got:?}");
    let whole = room.run("v2 migrate data --in-place --hidden -w json");
    assert_eq!(whole.code, 0, "{whole:?}");
    let replaced: Value = whole.json();
    assert_eq!(replaced["keys"], 23);
    assert!(replaced["original"].as_str().unwrap().ends_with("data/member.original"), "{replaced}");
    assert!(room.path().join("data/member.original/snap/db").exists());
    let got = room.run("kv get data /_hidden/secret --print-value-only");
    assert_eq!((got.code, got.stdout.as_str()), (0, "hidden\n"), "{got:?}");
    let again = room.run("v2 migrate data -o twice");
    assert_eq!((again.code, room.path().join("twice").exists()), (4, false));
    assert!(again.stderr.contains("the v3 key space was written to already"), "{again:?}");
}

#[test]
fn what_cannot_be_migrated_is_refused_and_leaves_nothing() {
    let room = room();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    fs::create_dir(room.path().join("full")).unwrap();
    fs::write(room.path().join("full/file"), "x").unwrap();
    for (line, code, says) in [
        ("v2 migrate data", 2, "-o OUT is missing"),
        ("v2 migrate data -o out --in-place", 2, "cannot be used with"),
        ("v2 migrate data -o full", 1, "full"),
        ("v2 migrate none -o out", 1, "none"),
        ("v2 migrate data/member/snap/db -o out", 1, "a member's data dir is needed"),
        ("v2 migrate n1 -o out", 4, "--on-every-member"),
        ("v2 migrate n1 -o out --on-every-member", 4, "there are no v2 keys to migrate"),
        ("v2 list data/member/snap/db", 1, "there is no log"),
    ] {
        let ran = room.run(line);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains(says), "{line}: {}", ran.stderr);
        assert!(!room.path().join("out").exists(), "{line}");
    }
}

/// `/1` with one key, `/2` with a user and a role.
#[test]
fn users_of_the_v2_api_are_no_keys_and_are_told_of() {
    let node = |path: &str, children: &str| {
        format!(
            r#"{{"Path":"{path}","CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{children}}}"#
        )
    };
    let auth = |half: &str, name: &str| {
        let one = node(&format!("/2/{half}/{name}"), "null");
        format!(r#""{half}":{}"#, node(&format!("/2/{half}"), &format!(r#"{{"{name}":{one}}}"#)))
    };
    let v2 = node("/2", &format!("{{{},{}}}", auth("roles", "guest"), auth("users", "root")));
    let v1 = node("/1", &format!(r#"{{"key":{}}}"#, node("/1/key", "null")));
    let root = node("/", &format!(r#"{{"1":{v1},"2":{v2}}}"#));
    let json = format!(r#"{{"Root":{root},"CurrentIndex":9,"CurrentVersion":2}}"#);
    let room = Room::new();
    let bytes = wal::encode_snap(json.as_bytes(), 9, 2, &[1], wal::Dialect::V3_4);
    fs::write(room.path().join(wal::snap_name(2, 9)), bytes).unwrap();
    let ran = room.run(&format!("v2 list {}", wal::snap_name(2, 9)));
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "/key\n"), "{ran:?}");
    assert!(ran.stderr.contains("ETCD-V2-AUTH: the v2 store has 1 user(s) and 1 role(s)"), "{ran:?}");
}

#[test]
fn what_keeps_a_store_from_being_read_is_named_once() {
    let room = room();
    testdata::unpack("3.6.14/single/data.tar.zst", &room.path().join("new"));
    let held =
        fs::File::open(room.path().join("data/member/wal/0000000000000000-0000000000000000.wal")).unwrap();
    held.lock().unwrap();
    let locked = room.run("v2 list data --timeout 1s");
    assert_eq!((locked.code, locked.stdout.as_str()), (1, ""), "{locked:?}");
    assert!(locked.stderr.contains("still locked after 1s"), "{locked:?}");
    drop(held);
    let file = room.run("v2 list data/member/snap/db");
    assert_eq!(file.stderr.matches("data/member/snap/db").count(), 1, "{file:?}");
    // Where there are no keys of v2, those of v3 are in nobody's way.
    let none = room.run("v2 migrate new/data -o out");
    assert_eq!(none.code, 4, "{none:?}");
    assert!(none.stderr.contains("there are no v2 keys to migrate"), "{none:?}");
}

/// One more voter joins, which is committed, and then comes a request of which nobody knows whether it is.
fn with_an_uncertain_request(room: &Room) {
    let path = room.path().join("data/member/wal/0000000000000000-0000000000000000.wal");
    let mut end = LogEnd::of(path);
    let last = end.last;
    let context = br#"{"id":2,"peerURLs":["http://h:2"]}"#;
    let change =
        [&[0x08, 0, 0x10, 0, 0x18, 2, 0x22, u8::try_from(context.len()).unwrap()], &context[..]].concat();
    let request = b"\x08\x07\x12\x03PUT\x1a\x07/1/late\x22\x01x".to_vec();
    let entry = |entry_type, index, data| Entry {
        entry_type: Some(entry_type),
        term: Some(last.1),
        index: Some(index),
        data: Some(data),
    };
    end.writer.push_entry(&entry(1, last.0 + 1, change));
    end.writer.push_hard_state(HardState { term: Some(last.1), vote: None, commit: Some(last.0 + 1) });
    end.writer.push_entry(&entry(0, last.0 + 2, request));
    end.write();
}

#[test]
fn requests_that_may_be_committed_are_told_of() {
    let room = room();
    with_an_uncertain_request(&room);
    let listed = room.run("v2 list data");
    assert!(listed.code == 3 && !listed.stdout.contains("late"), "{listed:?}");
    let told = "ETCD-V2-UNCERTAIN: 1 request(s) of the v2 API behind entry";
    assert!(listed.stderr.contains(told), "{listed:?}");
    let refused = room.run("v2 migrate data -o out");
    assert_eq!(refused.code, 4, "{refused:?}");
    let ran = room.run("v2 migrate data -o out --on-every-member --hidden");
    assert!(ran.code == 3 && ran.stderr.contains(told), "{ran:?}");
    let late = room.run("kv get out /late");
    assert_eq!(late.stdout, "", "{late:?}");
}

#[test]
fn a_log_with_a_hole_is_no_v2_store() {
    let room = room();
    // The only .snap left is none that the log leads on from: its first entry stands behind a break.
    for name in ["15", "2a", "3f"] {
        fs::remove_file(
            room.path().join(format!("data/member/snap/0000000000000002-00000000000000{name}.snap")),
        )
        .unwrap();
    }
    let whole = room.run("v2 list data -r");
    assert_eq!(whole.code, 3, "{whole:?}");
    let log = room.path().join("data/member/wal/0000000000000000-0000000000000000.wal");
    let mut bytes = fs::read(&log).unwrap();
    let at = bytes.windows(5).position(|window| window == b"key11").unwrap();
    bytes[at] ^= 1;
    fs::write(&log, bytes).unwrap();
    let broken = room.run("v2 list data -r");
    assert_eq!((broken.code, broken.stdout.as_str()), (1, ""), "{broken:?}");
    let migrated = room.run("v2 migrate data -o out");
    assert_eq!((migrated.code, room.path().join("out").exists()), (1, false), "{migrated:?}");
}
