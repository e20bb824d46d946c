//! `wal verify` and `snap dump`, as a user sees them.

use std::fs::{self, File};

use insta::assert_snapshot;
use rstest::rstest;
use serde_json::Value;
use testdata::fingerprint;

use crate::run::Room;

const SEGMENT: &str = "data/member/wal/0000000000000000-0000000000000000.wal";
const NEWEST: &str = "data/member/snap/0000000000000003-00000000000000b6.snap";

/// A room with the data dir of a real server, called `data`.
fn with_data(version: &str) -> Room {
    let room = Room::new();
    testdata::data_dir(version, room.path());
    room
}

/// A room with a damaged copy of that of 3.5.30, called `data`.
fn with_damaged(name: &str) -> Room {
    let room = Room::new();
    testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), room.path());
    fs::rename(room.path().join(name), room.path().join("data")).expect("renamed");
    room
}

#[test]
fn a_sound_log_for_people() {
    let ran = with_data("3.5.30").run("wal verify data");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_snapshot!(ran.stdout, @r#"
    0000000000000000-0000000000000000.wal: 390 records, 190 entries (1 of term 1 to 190 of term 3), zeros from 0x32610 on
    member 2fa0a134ee80bef8 of cluster a507366ae314f9c
    1 segment, 64 MB, 390 records, 190 entries
    term 3, vote for 2fa0a134ee80bef8, commit 190
    entries 1 to 190, all known to be committed
    snapshot to start from: 0000000000000003-00000000000000b6.snap, entry 182
    db: up to entry 190
    etcd 3.4.10 and later (as real servers did): does not start ("lower than determined cluster version"): the cluster had agreed on 3.5, which 3.4 does not speak
    etcd 3.5.0 to 3.5.4, 3.5.5 and later (as real servers did): starts, from the snapshot at entry 182, with entries up to 190 and commit 190
    etcd 3.6, 3.7 (from the source): starts, from the snapshot at entry 182, with entries up to 190 and commit 190
    "#);
}

#[test]
fn a_sound_log_as_a_table_and_as_fields() {
    let room = with_data("3.5.30");
    assert_snapshot!(room.run("wal verify data -w table").stdout, @r#"
    ┌───────────────────────────────────────┬───────┬─────────┬─────────┬───────┬──────┬──────┬─────────┬───────┐
    │                SEGMENT                │ SIZE  │ RECORDS │ ENTRIES │ FIRST │ LAST │ TERM │ ENDS AT │ WITH  │
    ├───────────────────────────────────────┼───────┼─────────┼─────────┼───────┼──────┼──────┼─────────┼───────┤
    │ 0000000000000000-0000000000000000.wal │ 64 MB │     390 │     190 │     1 │  190 │    3 │ 0x32610 │ zeros │
    └───────────────────────────────────────┴───────┴─────────┴─────────┴───────┴──────┴──────┴─────────┴───────┘
    "#);
    assert_snapshot!(room.run("wal verify data -w fields").stdout, @r#"
    "Directory" : data/member/wal
    "Segments" : 1
    "Records" : 390
    "Entries" : 190
    "Member" : 2fa0a134ee80bef8
    "Cluster" : a507366ae314f9c
    "Term" : 3
    "Vote" : 2fa0a134ee80bef8
    "Commit" : 190
    "First index" : 1
    "Last index" : 190
    "Uncommitted" : 0
    "Overwritten" : 0
    "Snapshot index" : 182
    "Consistent index" : 190
    "Findings" : 0
    "Segment" : 0000000000000000-0000000000000000.wal
    "Size" : 64000000
    "Records" : 390
    "Entries" : 190
    "First entry" : 1
    "Last entry" : 190
    "Last term" : 3
    "Ends at" : 0x32610
    "Ends with" : zeros
    "#);
}

#[test]
fn a_break_for_people() {
    let ran = with_damaged("wal-crc-mismatch-middle").run("wal verify data");
    assert_eq!(ran.code, 3);
    assert_snapshot!(ran.stderr, @r#"
    error WAL-CRC: 0000000000000000-0000000000000000.wal: record 195 at 0x190f0: crc 2aa22131, expected bba70a99; 194 well-formed records follow, the first at 0x19110
    next: 'etcd-rescue wal repair data' shows what can be kept and what would be lost; with -o OUT it writes a repaired copy
    "#);
    assert_snapshot!(ran.stdout, @r#"
    0000000000000000-0000000000000000.wal: 389 records, 190 entries (1 of term 1 to 190 of term 3), broken at 0x190f0 (WAL-CRC)
    member 2fa0a134ee80bef8 of cluster a507366ae314f9c
    1 segment, 64 MB, 389 records, 190 entries
    term 3, vote for 2fa0a134ee80bef8, commit 190
    entries 1 to 190, all known to be committed
    snapshot to start from: 0000000000000002-000000000000004e.snap, entry 78
    db: up to entry 190
    etcd 3.4.10 and later, 3.5.0 to 3.5.4, 3.5.5 and later (as real servers did): does not start ("crc mismatch"): 0000000000000000-0000000000000000.wal at 0x190f0: crc 2aa22131, expected bba70a99
    etcd 3.6, 3.7 (from the source): does not start ("crc mismatch"): 0000000000000000-0000000000000000.wal at 0x190f0: crc 2aa22131, expected bba70a99
    "#);
}

#[test]
fn a_torn_tail_for_people() {
    let ran = with_damaged("wal-truncated-mid-record").run("wal verify data");
    assert_eq!(ran.code, 3);
    assert_snapshot!(ran.stderr, @r#"
    warning WAL-RECORD-CUT: 0000000000000000-0000000000000000.wal: record 389 at 0x325e8: declares 32 bytes with padding where the file has 12 left; no well-formed record follows in this segment
    next: nothing needs to be done before etcd starts on it
    "#);
}

#[test]
fn findings_in_json_have_their_address() {
    let ran = with_damaged("wal-crc-mismatch-middle").run("wal verify data -w json");
    assert_eq!(ran.code, 3);
    let json = ran.json();
    assert_eq!(json["clean"], false);
    assert_eq!(json["memberId"], "2fa0a134ee80bef8");
    assert_eq!(json["segments"][0]["end"], "broken");
    let finding = &json["findings"][0];
    assert_eq!(finding["code"], "WAL-CRC");
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["file"], "0000000000000000-0000000000000000.wal");
    // The position etcd-dump-logs names.
    assert_eq!(finding["offset"], 102_640);
    assert_eq!(finding["record"], 195);
    assert_eq!(finding["after"]["wellFormedRecords"], 194);
    assert_eq!(finding["after"]["zerosToEnd"], false);
    assert_eq!(json["verdicts"][1]["booted"], "3.5.1");
    assert_eq!(json["verdicts"][1]["words"], "crc mismatch");
    assert_eq!(json["verdicts"].as_array().map(Vec::len), Some(5));
    assert_eq!(json["verdicts"][1]["outcome"], "fails");
}

#[test]
fn the_reader_and_the_way_the_log_is_named_make_no_difference() {
    let room = with_data("3.6.14");
    let all = room.run("wal verify data -w json").json();
    for line in ["wal verify data/member -w json", "wal verify data --io pread --no-lock -w json"] {
        let mut other = room.run(line).json();
        other["walDir"] = all["walDir"].clone();
        assert_eq!(other, all, "{line}");
    }
    fs::rename(room.path().join("data/member/wal"), room.path().join("log")).expect("renamed");
    let apart = room.run("wal verify data --wal-dir log -w json").json();
    assert_eq!(apart["segments"], all["segments"]);
    assert_eq!(apart["verdicts"], all["verdicts"]);
    let ran = room.run("wal verify data");
    assert_eq!(ran.code, 1);
    assert_snapshot!(ran.stderr, @r#"Error: data: has no log (there is no directory wal in the member); if etcd was started with --wal-dir, give that directory with --wal-dir"#);
}

#[rstest]
#[case("wal verify", 2, "required")]
#[case("wal verify data extra", 2, "unexpected argument")]
#[case("wal verify data --accept-loss", 2, "unexpected argument")]
#[case("wal verify data -w protobuf", 4, "protobuf not supported")]
#[case("wal verify nowhere", 1, "nowhere: No such file")]
#[case("wal verify empty", 1, "neither a data dir")]
#[case("wal verify data/member/snap/db", 1, "is a database")]
#[case("wal verify notes.txt", 1, "is not named like a segment")]
#[case("wal verify data --wal-dir notes.txt", 1, "is a file")]
#[case("snap dump", 2, "required")]
#[case("snap dump nowhere", 1, "nowhere: No such file")]
#[case("snap dump notes.txt", 1, "is no snapshot by its name")]
#[case("snap dump data/member/snap/db", 1, "is no snapshot by its name")]
#[case("snap dump data -w protobuf", 4, "protobuf not supported")]
fn what_cannot_be_done_says_why(#[case] line: &str, #[case] code: i32, #[case] says: &str) {
    let room = with_data("3.5.1");
    room.write("notes.txt", b"not a log");
    fs::create_dir(room.path().join("empty")).expect("made");
    let ran = room.run(line);
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(says), "{ran:?}");
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_running_server_is_noticed() {
    let room = with_data("3.5.1");
    let lock = File::options().read(true).write(true).open(room.path().join(SEGMENT)).expect("it opens");
    lock.lock().expect("the exclusive lock a server holds");
    let ran = room.run("wal verify data --timeout 200ms");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("still locked after") && ran.stderr.contains("running etcd"), "{ran:?}");
    let ran = room.run("wal verify data --no-lock");
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn evidence_is_not_touched() {
    let room = with_damaged("wal-torn-zero-sectors");
    let before = fingerprint(room.path());
    for line in
        ["wal verify data", "wal verify data --io pread", "snap dump data", "snap dump data/member/snap"]
    {
        room.run(line);
        assert_eq!(fingerprint(room.path()), before, "{line}");
    }
}

#[test]
fn garbage_is_findings_and_no_crash() {
    let room = with_data("3.5.1");
    let path = room.path().join(SEGMENT);
    let good = fs::read(&path).expect("read");
    let mut seed = 7_u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_le_bytes()[3]
    };
    let garbage: Vec<u8> = (0..100_000).map(|_| noise()).collect();
    for bytes in [&garbage[..], &[0xff; 4096], &[0; 4096], &good[..1], &good[..13], &good[..5000], b""] {
        fs::write(&path, bytes).expect("written");
        for line in ["wal verify data -w json", "wal verify data --io pread -w json"] {
            let ran = room.run(line);
            assert_eq!(ran.code, 3, "{ran:?}");
            assert!(ran.json()["findings"].as_array().is_some_and(|findings| !findings.is_empty()));
        }
    }
}

#[test]
fn one_snap_for_people() {
    let ran = with_data("3.5.30").run(&format!("snap dump {NEWEST}"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_snapshot!(ran.stdout, @r#"
    data/member/snap/0000000000000003-00000000000000b6.snap: 7.5 kB, crc ok
      term 3, index 182
      voters 2fa0a134ee80bef8
      cluster version 3.5.0, v2 index 4
      member 2fa0a134ee80bef8 n1: peers http://127.0.0.1:24111; clients http://127.0.0.1:24110
    "#);
}

#[test]
fn snaps_as_a_table_and_as_fields() {
    let room = Room::new();
    testdata::unpack("restored/3.5.30-by-3.5.1.tar.zst", room.path());
    assert_snapshot!(room.run("snap dump . -w table").stdout, @r#"
    ┌────────────────────────────────────────┬────────┬────────┬──────┬───────┬────────────────────────────────────────────────────┬──────────┬───────────────────────────────────────────────────────┬─────────┬─────────┬──────────────────┬──────────┐
    │                  FILE                  │  SIZE  │ STATE  │ TERM │ INDEX │                       VOTERS                       │ LEARNERS │                        MEMBERS                        │ REMOVED │ VERSION │ CONSISTENT INDEX │ REVISION │
    ├────────────────────────────────────────┼────────┼────────┼──────┼───────┼────────────────────────────────────────────────────┼──────────┼───────────────────────────────────────────────────────┼─────────┼─────────┼──────────────────┼──────────┤
    │ 0000000000000001-0000000000000003.snap │ 7.6 kB │ crc ok │    1 │     3 │ 2700a49d914fd7e8 d29e86650eb44eaf d59e5ef9ab212e1b │          │ 2700a49d914fd7e8= d29e86650eb44eaf= d59e5ef9ab212e1b= │         │         │                  │          │
    └────────────────────────────────────────┴────────┴────────┴──────┴───────┴────────────────────────────────────────────────────┴──────────┴───────────────────────────────────────────────────────┴─────────┴─────────┴──────────────────┴──────────┘
    "#);
    assert_snapshot!(room.run("snap dump . -w fields").stdout, @r#"
    "File" : 0000000000000001-0000000000000003.snap
    "Size" : 7565
    "State" : crc ok
    "Term" : 1
    "Index" : 3
    "Voters" : 2700a49d914fd7e8 d29e86650eb44eaf d59e5ef9ab212e1b
    "Learners" : 
    "Members" : 2700a49d914fd7e8= d29e86650eb44eaf= d59e5ef9ab212e1b=
    "Removed" : 
    "Cluster version" : 
    "Consistent index" : 
    "Revision" :
    "#);
}

#[test]
fn damaged_and_left_behind_snaps() {
    let room = with_damaged("snap-corrupt-newest");
    let snap_dir = room.path().join("data/member/snap");
    for entry in fs::read_dir(&snap_dir).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.to_str().is_some_and(|path| path.contains("0000002-")) {
            fs::remove_file(path).expect("removed");
        }
    }
    fs::write(snap_dir.join("0000000000000001-0000000000000007.snap.broken"), b"").expect("written");
    fs::write(snap_dir.join("tmp0815"), b"x").expect("written");
    fs::write(snap_dir.join("00000000000000ff.snap.db"), b"x").expect("written");
    let ran = room.run("snap dump data");
    assert_eq!(ran.code, 3);
    assert_snapshot!(ran.stderr, @r#"
    warning SNAP-BROKEN-LEFT: 0000000000000001-0000000000000007.snap.broken: a server could not read it and put it aside; what is wrong with it: the snapshot is empty (0 bytes, crc 00000000)
    error SNAP-CRC: 0000000000000003-00000000000000b6.snap: crc 85a25174, expected 93db53d9; etcd 3.4 to 3.6 put it aside as .snap.broken and start from the one before it
    error SNAP-DB: 00000000000000ff.snap.db: is no readable database: 1 bytes are too few for a bbolt database, which has at least two pages. A member whose newest .snap is of entry 255 does not start
    warning SNAP-LEFTOVER: tmp0815: a database that was being received, or a file that was being written, when the member stopped; a server removes it when it starts
    "#);
    assert_snapshot!(ran.stdout, @r#"
    data/member/snap/0000000000000001-0000000000000007.snap.broken: 0 B, the snapshot is empty (0 bytes, crc 00000000)

    data/member/snap/0000000000000003-000000000000009c.snap: 7.5 kB, crc ok
      term 3, index 156
      voters 2fa0a134ee80bef8
      cluster version 3.5.0, v2 index 4
      member 2fa0a134ee80bef8 n1: peers http://127.0.0.1:24111; clients http://127.0.0.1:24110

    data/member/snap/0000000000000003-00000000000000b6.snap: 7.5 kB, crc 85a25174, expected 93db53d9
      term 3, index 182
      voters 2fa0a134ee80bef8
      cluster version 3.5.0, v2 index 4
      member 2fa0a134ee80bef8 n1: peers http://127.0.0.1:24111; clients http://127.0.0.1:24110

    data/member/snap/00000000000000ff.snap.db: 1 B, no readable database

    data/member/snap/tmp0815: 1 B, unfinished
    "#);
}

/// The members of the newest `.snap` are those the live server's etcdctl listed, and raft's those that etcd-dump-logs prints.
#[test]
fn members_are_those_the_servers_listed() {
    for version in testdata::VERSIONS {
        let room = with_data(version);
        let json = room.run("snap dump data -w json").json();
        let newest = json["files"].as_array().and_then(|files| files.last()).expect("a .snap");
        let listed = &testdata::facts_json(version, "s3-final", "members.json")[0]["members"][0];
        let member = &newest["v2Store"]["members"][0];
        let id = listed["ID"].as_u64().expect("an ID");
        assert_eq!(member["id"], format!("{id:x}"));
        for field in ["name", "peerURLs", "clientURLs"] {
            assert_eq!(member[field], listed[field], "{version} {field}");
        }
        assert_as_dumped(newest, &testdata::sample(&format!("dump-logs-3.6.14-on-{version}.txt")));
    }
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    for name in ["n1", "n2", "n3"] {
        let json = room.run(&format!("snap dump {name} -w json")).json();
        let newest = json["files"].as_array().and_then(|files| files.last()).expect("a .snap");
        assert_as_dumped(newest, &testdata::sample(&format!("dump-logs-3.6.14-cluster-3.5.30-{name}.txt")));
        assert_eq!(json["findings"], Value::Array(Vec::new()));
    }
}

/// `term=3 index=182 nodes=[2fa0a134ee80bef8] confstate={...}` is how etcd-dump-logs begins.
#[track_caller]
fn assert_as_dumped(snap: &Value, sample: &str) {
    let line = sample.lines().find(|line| line.starts_with("term=")).expect("the head of a dump");
    let voters: Vec<&str> =
        snap["confState"]["voters"].as_array().expect("voters").iter().filter_map(Value::as_str).collect();
    let head =
        format!("term={} index={} nodes=[{}] confstate=", snap["term"], snap["index"], voters.join(" "));
    assert!(line.starts_with(&head), "{line}\n{head}");
}

/// Names in a `.snap` come from whoever wrote it.
#[test]
fn control_characters_do_not_reach_the_terminal() {
    let room = Room::new();
    let store = "{\"Root\":{\"Children\":{\"0\":{\"Children\":{\"members\":{\"Children\":{\"1\":{\"Children\":{\
         \"raftAttributes\":{\"Value\":\"{\\\"peerURLs\\\":[\\\"http://a:1\\\"]}\"},\
         \"attributes\":{\"Value\":\"{\\\"name\\\":\\\"\\\\u001b[2J\\\"}\"}}}}}}},\
         \"1\":{\"Children\":{\"\\u001b[31m\":{\"Value\":\"\"}}}}},\"CurrentIndex\":1,\"CurrentVersion\":2}";
    room.write("0000000000000001-0000000000000002.snap", &snap(store.as_bytes()));
    let ran = room.run("snap dump 0000000000000001-0000000000000002.snap");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{ran:?}");
    assert!(ran.stdout.contains("\\u{1b}[2J"), "{ran:?}");
    assert!(ran.stderr.contains("SNAP-V2-KEYS"), "{ran:?}");
}

/// A `.snap` of this v2 store at entry 2 of term 1, with voter 1.
fn snap(store: &[u8]) -> Vec<u8> {
    let field = |key: u8, bytes: &[u8]| {
        let mut out = vec![key];
        let mut len = bytes.len();
        while len >= 0x80 {
            out.push(u8::try_from(len & 0x7f).expect("7 bits") | 0x80);
            len >>= 7;
        }
        out.push(u8::try_from(len).expect("7 bits"));
        out.extend_from_slice(bytes);
        out
    };
    let data = [field(0x0a, store), field(0x12, &[0x0a, 2, 0x08, 1, 0x10, 2, 0x18, 1])].concat();
    let mut crc = crc_32c(&data);
    let mut out = vec![0x08];
    while crc >= 0x80 {
        out.push(u8::try_from(crc & 0x7f).expect("7 bits") | 0x80);
        crc >>= 7;
    }
    out.push(u8::try_from(crc).expect("7 bits"));
    out.extend(field(0x12, &data));
    out
}

/// The checksum bit by bit, so that this file needs no crate of ours.
fn crc_32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
