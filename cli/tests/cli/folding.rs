//! Members whose log cannot be folded into their database, or not all of it: what is refused, what is said, and what accepts it.

use std::fs;
use std::os::unix::fs::FileExt;

use wal::raftpb::{Entry, HardState};

use crate::run::{LogEnd, Ran, Room};

const SEGMENT: &str = "data/member/wal/0000000000000000-0000000000000000.wal";

/// A server that was killed: its db ends at entry 84, its log at 96.
fn killed() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.16/killed/data.tar.zst", room.path());
    room
}

/// Both commands refuse with this code and these words, and leave nothing.
fn refused(room: &Room, code: i32, words: &[&str]) {
    for line in ["snapshot save data -o x.db", "snapshot restore data --data-dir x"] {
        let ran = room.run(line);
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{line}: {ran:?}");
        assert!(!room.names().iter().any(|name| name.starts_with('x')), "{:?}", room.names());
    }
}

fn saved(room: &Room, flags: &str) -> Ran {
    let ran = room.run(&format!("snapshot save data -o saved.db {flags}"));
    assert!([0, 3].contains(&ran.code), "{ran:?}");
    fs::remove_file(room.path().join("saved.db")).expect("a snapshot");
    ran
}

/// Adds entries to the log, behind the last.
fn append(room: &Room, requests: &[&[u8]], commit: u64) {
    let path = room.path().join(SEGMENT);
    let mut end = LogEnd::of(path);
    let last = end.last;
    for (index, data) in (last.0 + 1..).zip(requests) {
        let (term, data) = (Some(last.1), Some(data.to_vec()));
        end.writer.push_entry(&Entry { entry_type: Some(0), term, index: Some(index), data });
    }
    end.writer.push_hard_state(HardState { term: Some(last.1), vote: None, commit: Some(commit) });
    end.write();
}

#[test]
fn without_a_log_the_database_alone_has_to_be_asked_for() {
    let room = killed();
    fs::rename(room.path().join("data/member/wal"), room.path().join("wal")).unwrap();
    refused(&room, 4, &["has no log", "--no-replay takes the database alone"]);
    let bare = saved(&room, "--no-replay");
    assert!(bare.stdout.ends_with(", 81, 84\n"), "{bare:?}");
    let apart = saved(&room, "--wal-dir wal");
    assert!(apart.stdout.ends_with(", 93, 96\n"), "{apart:?}");
    let ran = room.run("snapshot restore data --input-wal-dir wal --data-dir y -w json");
    assert_eq!(ran.json()["fold"]["folded"]["revision"], 93, "{ran:?}");
    fs::create_dir(room.path().join("data/member/wal")).unwrap();
    refused(&room, 4, &["has no segment of a log", "--no-replay takes the database alone"]);
}

#[test]
fn without_a_database_the_way_to_one_is_told() {
    let room = killed();
    fs::rename(room.path().join("data/member/snap/db"), room.path().join("older.db")).unwrap();
    refused(
        &room,
        1,
        &["no database", "data/member/snap/db is missing", "snapshot save FILE --wal-dir data/member/wal"],
    );
    let ran = room.run("snapshot save older.db --wal-dir data/member/wal -o y.db");
    assert!(ran.code == 0 && ran.stdout.ends_with(", 93, 96\n"), "{ran:?}");
    // A directory of nothing in particular is none of a member.
    fs::create_dir(room.path().join("empty")).unwrap();
    let ran = room.run("snapshot save empty -o x.db");
    assert!(ran.code == 1 && ran.stderr.contains("neither a data dir"), "{ran:?}");
}

#[test]
fn a_log_of_another_cluster_and_one_that_is_too_old_are_refused() {
    let room = killed();
    let other = Room::new();
    testdata::unpack("3.5.1/killed/data.tar.zst", other.path());
    let theirs = other.path().join("data/member/wal").display().to_string();
    let ran = room.run(&format!("snapshot save data --wal-dir {theirs} -o x.db"));
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("belong to different clusters"), "{ran:?}");

    // The log as it was before its last records.
    let path = room.path().join(SEGMENT);
    let bytes = fs::read(&path).unwrap();
    let entries = wal::read_segment(&bytes).map_while(Result::ok);
    let cut = entries.filter(|record| record.record_type == wal::RecordType::Entry).nth(79).unwrap().offset;
    let zeros = vec![0; bytes.len() - usize::try_from(cut).unwrap()];
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&zeros, cut).unwrap();
    refused(&room, 4, &["the database ends at entry 84", "at 79", "--no-replay"]);
}

#[test]
fn a_damaged_log_is_refused_and_followed_as_far_as_asked() {
    let room = killed();
    let path = room.path().join(SEGMENT);
    let bytes = fs::read(&path).unwrap();
    let mut entries = wal::read_segment(&bytes).map_while(Result::ok);
    let entry = entries
        .find(|record| {
            record.record_type == wal::RecordType::Entry
                && wal::EntryRef::decode(record.data).is_ok_and(|entry| entry.index == 91)
        })
        .unwrap();
    let at = entry.offset + 8 + entry.raw.len() as u64 - 2;
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xa5], at).unwrap();
    refused(
        &room,
        4,
        &["no server starts from it", "can be followed to entry 90", "wal repair", "--to-index 90"],
    );
    let short = saved(&room, "--to-index 90");
    assert_eq!(short.code, 3, "{short:?}");
    assert!(short.stdout.ends_with(", 87, 90\n"), "{short:?}");
    assert!(short.stderr.contains("behind a break of the log"), "{short:?}");
    let bare = saved(&room, "--no-replay");
    assert!(bare.stdout.ends_with(", 81, 84\n"), "{bare:?}");
}

/// A request of a version to come, made here: field 999 of `InternalRaftRequest`.
#[test]
fn an_unknown_request_ends_it_and_what_is_left_out_is_counted() {
    let room = killed();
    let put = b"\x08\x07\x22\x06\x0a\x01k\x12\x01v";
    append(&room, &[put, b"\x08\x07\xba\x3e\x02\x08\x01", put, put], 100);
    let ran = saved(&room, "-w json");
    assert_eq!(ran.code, 3, "{ran:?}");
    let json = ran.json();
    assert_eq!((&json["revision"], &json["consistentIndex"]), (&94.into(), &97.into()), "{json:#}");
    assert_eq!(json["fold"]["stopped"]["index"], 98);
    assert_eq!(
        json["fold"]["leftOut"],
        serde_json::json!([{"first": 98, "last": 100, "entries": 3, "why": "behind-unknown"}])
    );
    assert!(ran.stderr.contains("error ETCD-REPLAY-STOP: entry 98"), "{ran:?}");
    let ran = room.run("snapshot save data -o x.db --to-revision 95");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("the last that can be reached is 94, at entry 97"), "{ran:?}");
    let ran = saved(&room, "--to-index 97");
    assert!(!ran.stderr.contains("ETCD-REPLAY-STOP"), "{ran:?}");
}

/// The cluster was upgraded, and the db does not know of it yet: a server of its version would not start on what comes out.
#[test]
fn a_log_that_raises_the_cluster_version_is_applied_by_the_rules_of_that_version() {
    let room = killed();
    let put = b"\x08\x07\x22\x06\x0a\x01k\x12\x01v";
    append(&room, &[b"\x08\x07\xa2\x51\x07\x0a\x053.6.0", put], 98);
    let fold = |flags: &str| saved(&room, flags).json()["fold"].clone();
    let json = fold("-w json");
    assert_eq!(
        (&json["asEtcd"], &json["folded"]["consistentIndex"]),
        (&"3.6".into(), &98.into()),
        "{json:#}"
    );
    assert_eq!(json["asEtcdReason"], "its log raises the cluster version to 3.6.0");
    assert_eq!(fold("-w json --to-revision 94")["asEtcd"], "3.6");
    assert_eq!(fold("-w json --to-index 96")["asEtcd"], "3.5");
    assert_eq!(fold("-w json --as-etcd 3.5.16")["asEtcd"], "3.5.16");
}

/// With a compaction in the log records go, and the db is written anew, with its hash.
#[test]
fn a_compaction_in_the_log_takes_its_records_away() {
    let room = killed();
    let put = b"\x08\x07\x22\x06\x0a\x01k\x12\x01v";
    // At revision 94, that of the first put of k.
    append(&room, &[put, put, b"\x08\x07\x3a\x02\x08\x5e", put], 100);
    let json = saved(&room, "-w json").json();
    let fold = &json["fold"];
    assert_eq!((&fold["compactions"], &fold["folded"]["revision"]), (&1.into(), &96.into()), "{json:#}");
    assert_eq!(saved(&room, "-w json").json()["sha256"], json["sha256"]);
    let dry = room.run("snapshot save data -o x.db --dry-run -w json").json();
    assert_eq!((&dry["sha256"], &dry["size"]), (&serde_json::Value::Null, &json["size"]));

    assert_eq!(room.run("snapshot save data -o y.db").code, 0);
    assert_eq!(room.run("snapshot restore data --data-dir direct").code, 0);
    assert_eq!(room.run("snapshot restore y.db --data-dir through").code, 0);
    let db = |dir: &str| room.read(&format!("{dir}/member/snap/db"));
    assert!(db("direct") == db("through"), "one way gives another db than the other");
    let hash = room.run("hashkv y.db -w json").json();
    assert_eq!(hash["compactRevision"], 94, "{hash:#}");
    let gone = room.run("kv get k --rev 93 y.db");
    assert!(gone.code != 0 || gone.stdout.is_empty(), "{gone:?}");
    assert_eq!(room.run("snapshot hash y.db").code, 0);
    assert_eq!(room.run("verify y.db").code, 0);
}

/// A data dir restores without a waiver: nobody expects a hash of it. A db file of its own does not.
#[test]
fn a_data_dir_restores_to_what_its_log_held() {
    let room = killed();
    let before = testdata::fingerprint(&room.path().join("data"));
    for (flags, revision) in
        [("", 93), ("--to-index 90", 87), ("--to-revision 85", 85), ("--at-revision 90", 90)]
    {
        let ran = room.run(&format!("snapshot restore data --data-dir out/m {flags} -w json"));
        assert_eq!(ran.code, 0, "{flags}: {ran:?}");
        assert_eq!(ran.json()["revision"], revision, "{flags}: {ran:?}");
        assert!(!ran.stderr.contains("was not folded"), "{ran:?}");
        fs::remove_dir_all(room.path().join("out")).unwrap();
    }
    let dry = room.run("snapshot restore data --data-dir out/m --dry-run -w json");
    assert_eq!((dry.code, &dry.json()["revision"]), (0, &93.into()), "{dry:?}");
    let bare = room.run("snapshot restore data --data-dir out/m --no-replay");
    assert!(bare.code == 1 && bare.stderr.contains("snapshot missing hash"), "{bare:?}");
    let ran = room.run("snapshot restore data --data-dir data/member/new");
    assert!(ran.code == 1 && ran.stderr.contains("lies in data"), "{ran:?}");
    assert_eq!(room.names(), ["data"]);
    assert_eq!(testdata::fingerprint(&room.path().join("data")), before);
}
