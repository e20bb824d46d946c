//! `cluster force-new`: what it says, writes and refuses.

use std::fs;
use std::path::Path;

use testdata::fingerprint;

use crate::run::Room;

/// A room with the three killed members `n1` to `n3` of a cluster.
fn room() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    room
}

fn segment(dir: &Path) -> Vec<u8> {
    let mut files: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    fs::read(files.last().unwrap()).unwrap()
}

#[test]
fn only_the_end_of_the_log_is_other_than_before() {
    let room = room();
    let before = fingerprint(&room.path().join("n2"));
    let dry = room.run("cluster force-new n2 -o out --dry-run -w json");
    assert_eq!((dry.code, room.path().join("out").exists()), (3, false), "{dry:?}");
    let ran = room.run("cluster force-new n2 -o out -w json");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(fingerprint(&room.path().join("n2")), before);
    let (mut told, report) = (dry.json(), ran.json());
    told["dryRun"] = false.into();
    assert_eq!(told, report);
    assert_eq!(report["memberId"], "3fe4b3a4dda901c1");
    assert_eq!(report["removed"], serde_json::json!(["3e2f70db3bda20b4", "6b7160608ed2c2e8"]));
    assert_eq!((report["commit"].as_u64(), report["lastIndex"].as_u64()), (Some(1809), Some(1811)));
    assert_eq!(report["dropped"]["keys"]["keys"], serde_json::json!(["/load/00174"]));
    let codes: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|found| found["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["ETCD-TAIL-DROPPED", "ETCD-NO-QUORUM-READ"]);

    let path = |name: &str| room.path().join(name);
    assert_eq!(fs::read(path("n2/member/snap/db")).unwrap(), fs::read(path("out/member/snap/db")).unwrap());
    let (old, new) = (segment(&path("n2/member/wal")), segment(&path("out/member/wal")));
    let end = old.iter().rposition(|byte| *byte != 0).unwrap();
    assert_eq!(old[..=end], new[..=end]);
    assert_eq!(new.len(), 64_000_000);

    let verified = room.run("verify out -w json");
    assert_eq!(verified.code, 3, "{verified:?}");
    assert!(
        verified.stderr.contains("ETCD-FORCED-NEW: entries 1810 to 1811 of term 2 remove 3e2f70db3bda20b4, ")
    );
    let again = room.run("cluster force-new out -o twice");
    assert_eq!((again.code, path("twice").exists()), (1, false));
    assert!(again.stderr.contains("is the only one of its cluster already"), "{again:?}");
}

#[test]
fn the_log_may_lie_elsewhere_before_and_after() {
    let room = room();
    fs::rename(room.path().join("n1/member/wal"), room.path().join("wal")).unwrap();
    let none = room.run("cluster force-new n1 -o out");
    assert_eq!((none.code, room.path().join("out").exists()), (1, false), "{none:?}");
    let ran = room.run("cluster force-new n1 --wal-dir wal -o out --output-wal-dir log");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("--data-dir out and --wal-dir log"), "{ran:?}");
    assert!(!room.path().join("out/member/wal").exists());
    assert_eq!(room.run("cluster force-new out --wal-dir log --dry-run").code, 1);
    let below = room.run("cluster force-new n1 --wal-dir wal -o deep --output-wal-dir deep/member/snap/wal");
    assert_eq!((below.code, room.path().join("deep").exists()), (1, false), "{below:?}");
}

#[test]
fn what_is_no_member_is_refused_and_nothing_is_written() {
    let room = room();
    fs::write(room.path().join("snapshot.db"), testdata::snapshot("3.5.30", "s1-precompact")).unwrap();
    fs::create_dir(room.path().join("taken")).unwrap();
    fs::write(room.path().join("taken/file"), "x").unwrap();
    let (before, names) = (fingerprint(&room.path().join("n1")), room.names());
    for (line, code, words) in [
        ("n1", 2, "-o OUT is missing"),
        ("n1 -o n1/member/out", 1, "stays as it is"),
        ("n1 -o taken", 1, "taken"),
        ("n1 --output-wal-dir log --dry-run", 2, "--output"),
        ("snapshot.db -o out", 1, "has no log"),
        ("nowhere -o out", 1, "nowhere"),
        ("n1 -o out --owner nobody-of-that-name", 2, "nobody-of-that-name"),
    ] {
        let ran = room.run(&format!("cluster force-new {line}"));
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(ran.stderr.contains(words), "{line}: {ran:?}");
        assert_eq!(room.names(), names, "{line}");
    }
    assert_eq!(fingerprint(&room.path().join("n1")), before);
    assert_eq!(fs::read(room.path().join("taken/file")).unwrap(), b"x");
}

/// A log that ends before its db, a break in its middle, a torn end: the first two are a repair's business, the last is cut as a
/// server cuts it.
#[test]
fn a_log_that_is_damaged_is_repaired_first() {
    let room = room();
    let path = room.path().join("n2/member/wal/0000000000000000-0000000000000000.wal");
    let bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();

    fs::write(&path, &bytes[..end - 3]).unwrap();
    let torn = room.run("cluster force-new n2 --dry-run -w json");
    assert_eq!(torn.code, 3, "{torn:?}");
    assert!(torn.json()["lastIndex"].as_u64() >= Some(1810), "{torn:?}");

    let mut flipped = bytes.clone();
    flipped[end / 2] ^= 0x10;
    fs::write(&path, &flipped).unwrap();
    let broken = room.run("cluster force-new n2 -o out");
    assert_eq!((broken.code, room.path().join("out").exists()), (1, false), "{broken:?}");
    assert!(broken.stderr.contains("wal repair n2 -o REPAIRED"), "{broken:?}");

    // Whole records up to the middle of the log.
    let mut records = wal::read_segment(&bytes);
    while records.offset() < u64::try_from(end / 2).unwrap() {
        records.next().unwrap().unwrap();
    }
    let middle = usize::try_from(records.offset()).unwrap();
    fs::write(&path, &bytes[..middle]).unwrap();
    let short = room.run("cluster force-new n2 -o out");
    assert_eq!((short.code, room.path().join("out").exists()), (1, false), "{short:?}");
    assert!(short.stderr.contains("wal repair n2 -o REPAIRED"), "{short:?}");
}
