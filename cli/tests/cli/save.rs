//! `snapshot save`.

use insta::assert_snapshot;

use crate::run::Room;

#[test]
fn a_saved_snapshot_is_verified_and_restores() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    let before = testdata::fingerprint(&room.path().join("data"));
    let ran = room.run("snapshot save data -o saved.db --no-replay");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_snapshot!(ran.stdout, @r"saved.db, 234 kB, 09d65f8484d69f04cfbb4beff6d60672f5e56569778d9c8e8feed0f201f576e3, 79, 190");
    assert_snapshot!(ran.stderr, @r"
    Snapshot saved at saved.db. To restore it: etcd-rescue snapshot restore saved.db
    warning: the log was not folded: the snapshot ends at the database's consistent index 190, and entries that only the log of data holds are not in it
    ");
    assert_eq!(room.run("snapshot hash saved.db").code, 0);
    assert_eq!(room.run("snapshot restore saved.db").code, 0);
    // Its server had stopped in good order: the log has no more.
    let folded = room.run("snapshot save data -o folded.db");
    assert_eq!(folded.code, 0, "{folded:?}");
    assert_eq!(folded.stdout, ran.stdout.replace("saved", "folded"));
    assert_snapshot!(folded.stderr, @r"
    The database was at revision 79, entry 190 of term 3.
    The log in data/member/wal has entries 1 to 190, with a commit of 190; its member alone votes, and commits all of it when it starts.
    Nothing was folded in: the last entry to apply is 190, the last of the log that a server reads.
    Snapshot saved at folded.db. To restore it: etcd-rescue snapshot restore folded.db
    ");
    assert_eq!(testdata::fingerprint(&room.path().join("data")), before);
}

/// testdata/README.md: the db of n2 ends at entry 1800, its commit is 1809, and 1810 was on its way.
#[test]
fn the_log_of_a_dead_member_is_folded_and_what_is_left_out_is_told() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    let before = testdata::fingerprint(&room.path().join("n2"));
    let ran = room.run("snapshot save n2 -o out/n2.db");
    assert_eq!(ran.code, 3, "what may have been committed is a finding: {ran:?}");
    assert!(ran.stdout.ends_with(", 1796, 1809\n"), "{ran:?}");
    assert_snapshot!(ran.stderr, @r"
    warning ETCD-REPLAY-UNCERTAIN: 1 of the log's entries, those behind 1809, are left out: this member was not told whether they are committed. If they are, another member's files say so, and clients may have been told that they were done
    The database was at revision 1787, entry 1800 of term 2.
    The log in n2/member/wal has entries 1 to 1810, with a commit of 1809.
    Folded in: 9 entries, 9 of which changed something (put 9), by the rules of etcd 3.5: its cluster version is 3.5.0.
    It is now at revision 1796, entry 1809 of term 2: the last that is known to be committed.
    warning: left out: entry 1810: not known to be committed
    Snapshot saved at out/n2.db. To restore it: etcd-rescue snapshot restore out/n2.db
    ");
    let json = room.run("snapshot save n2 -o out/n2-1803.db --to-index 1803 -w json").json();
    let fold = &json["fold"];
    assert_eq!(json["logNotFolded"], false);
    assert_eq!(fold["db"], serde_json::json!({"revision": 1787, "consistentIndex": 1800, "term": 2}));
    assert_eq!(fold["folded"], serde_json::json!({"revision": 1790, "consistentIndex": 1803, "term": 2}));
    assert_eq!(fold["byKind"], serde_json::json!({"put": 3}));
    assert_eq!(
        fold["leftOut"],
        serde_json::json!([
            {"first": 1804, "last": 1809, "entries": 6, "why": "asked"},
            {"first": 1810, "last": 1810, "entries": 1, "why": "not-committed"},
        ])
    );
    let by_revision = room.run("snapshot save n2 -o out/by-revision.db --to-revision 1790 -w json").json();
    assert_eq!(by_revision["sha256"], json["sha256"]);
    assert_eq!(by_revision["fold"]["leftOutEntries"], 7);
    assert_eq!(testdata::fingerprint(&room.path().join("n2")), before);
}

/// n1 and n3 were members of one cluster and had committed the same.
#[test]
fn what_two_members_had_committed_is_the_same_once_it_is_folded() {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    for name in ["n1", "n3"] {
        // Entry 4252 is in both logs, and neither knows whether it is committed.
        assert_eq!(room.run(&format!("snapshot save {name} -o {name}.db")).code, 3);
    }
    let (one, three) = (room.run("hashkv n1.db"), room.run("hashkv n3.db"));
    assert_eq!(one.code, 0, "{one:?}");
    assert_eq!(one.stdout, three.stdout);
    // The bare db of the one that was killed has less.
    assert_eq!(room.run("snapshot save n3 -o bare.db --no-replay").code, 0);
    assert_ne!(room.run("hashkv bare.db").stdout, one.stdout);
}

/// The hash that the live server gave, before it was killed.
#[test]
fn a_killed_servers_folded_db_has_the_hash_it_served() {
    for (version, revision) in [("3.4.23", 93), ("3.5.1", 93), ("3.5.16", 93)] {
        let room = Room::new();
        testdata::unpack(&format!("{version}/killed/data.tar.zst"), room.path());
        let facts = testdata::path(&format!("fixtures/{version}/killed/facts/hashkv.json"));
        let facts: serde_json::Value =
            serde_json::from_slice(&std::fs::read(facts).expect("facts")).expect("JSON");
        let live = &facts[0]["HashKV"];
        let ran = room.run("snapshot save data -o saved.db -w json").json();
        assert_eq!((&ran["revision"], &ran["consistentIndex"]), (&revision.into(), &96.into()), "{version}");
        let ours = room.run("hashkv saved.db -w json").json();
        assert_eq!(ours["hash"], live["hash"], "{version}");
        assert_eq!(live["header"]["revision"], revision, "{version}");
    }
}

#[test]
fn how_far_the_log_is_folded_can_be_told_within_its_limits() {
    let room = Room::new();
    testdata::unpack("3.5.16/killed/data.tar.zst", room.path());
    for (flags, code, said) in [
        ("--to-index 84", 0, "Nothing was folded in: the last entry to apply is 84, as was asked"),
        ("--to-index 83", 1, "--to-index 83: the database has come to entry 84 already"),
        ("--to-index 97", 1, "--to-index 97: the last entry that can be applied is 96"),
        ("--to-revision 80", 1, "--to-revision 80: the database has come to revision 81 already"),
        ("--to-revision 94", 1, "--to-revision 94: the last that can be reached is 93, at entry 96"),
        ("--to-revision 81", 0, "Nothing was folded in"),
        ("--to-index 90 --to-revision 90", 2, "cannot be used with"),
        ("--no-replay --to-index 90", 2, "cannot be used with"),
        ("--no-replay --wal-dir data/member/wal", 2, "--no-replay leaves it out"),
        ("--as-etcd 2.3", 2, "is no release of etcd 3"),
        ("--as-etcd 3.5.1", 0, "by the rules of etcd 3.5.1: asked for with --as-etcd"),
    ] {
        let ran = room.run(&format!("snapshot save data -o x.db --dry-run {flags}"));
        assert_eq!(ran.code, code, "{flags}: {ran:?}");
        assert!(ran.stderr.contains(said), "{flags}: {ran:?}");
    }
    assert_eq!(room.names(), ["data"]);
    // A db file of its own has no log but the one that is named.
    let db = "data/member/snap/db";
    let ran = room.run(&format!("snapshot save {db} -o x.db --to-index 90"));
    assert_eq!((ran.code, ran.stderr.contains("--to-index is about a log")), (2, true), "{ran:?}");
    let bare = room.run(&format!("snapshot save {db} -o x.db -w json"));
    assert_eq!(bare.json()["consistentIndex"], 84);
    assert!(bare.stderr.contains("Given the data dir, or the log with --wal-dir, this command folds it"));
    let both = room.run(&format!("snapshot save {db} --wal-dir data/member/wal -o y.db -w json")).json();
    assert_eq!(both["consistentIndex"], 96);
    let inside = room.run("snapshot save data -o data/member/x.db");
    assert_eq!((inside.code, inside.stderr.contains("lies in data")), (1, true), "{inside:?}");
}

#[test]
fn json_and_dry_run() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    let ran = room.run("snapshot save data -o saved.db --dry-run -w json");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(room.names(), ["data"]);
    let json = ran.json();
    assert_eq!(json["dryRun"], true);
    assert_eq!(json["path"], "saved.db");
    assert_eq!(json["logNotFolded"], false);
    assert_eq!(json["fold"]["entries"], 0);
    let sha256 = json["sha256"].as_str().expect("a hash").to_owned();
    let written = room.run("snapshot save data -o saved.db -w json").json();
    assert_eq!(written["sha256"], sha256.as_str());
    assert_eq!(written["dryRun"], false);
}

#[test]
fn an_existing_file_stays() {
    let room = Room::new();
    testdata::data_dir("3.5.30", room.path());
    room.write("saved.db", b"precious");
    let ran = room.run("snapshot save data -o saved.db");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(room.read("saved.db"), b"precious");
}

#[test]
fn the_online_form_is_explained() {
    let ran = Room::new().run("--endpoints http://10.0.0.1:2379 snapshot save backup.db");
    assert_eq!(ran.code, 2);
    assert_snapshot!(ran.stderr, @r"
    warning: --endpoints is ignored: etcd-rescue reads files and connects to nothing, so it may be left out
    Error: -o FILE is missing: this command makes a snapshot from a dead member's files and asks no server. From files: etcd-rescue snapshot save DIR -o FILE. From a running server: etcdctl snapshot save backup.db
    ");
}
