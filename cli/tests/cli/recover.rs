//! `recover`: what is left of a cluster, in the states in which it is found, and what is refused.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::run::Room;

const ONE: &str = "--initial-cluster m1=http://10.0.0.1:2380";
const THREE: &str =
    "--initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380";

/// Three members: n2 was killed under load long before, n1 and n3 when the quorum was lost (testdata/README.md).
fn cluster() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", room.path());
    room
}

/// A member that was alone and was killed: its db ends at entry 84, its log at 96.
fn killed() -> Room {
    let room = Room::new();
    testdata::unpack("3.5.16/killed/data.tar.zst", room.path());
    room
}

/// Recovers what `line` names, takes the result away again, and gives what was said.
fn recovered(room: &Room, line: &str, code: i32) -> serde_json::Value {
    let fingerprints = || -> Vec<_> {
        let names = room.names().into_iter();
        names.map(|name| testdata::fingerprint(&room.path().join(name))).collect()
    };
    let before = fingerprints();
    let ran = room.run(&format!("recover {line} {ONE} -o out -w json"));
    assert_eq!(ran.code, code, "{line}: {ran:?}");
    assert!(room.path().join("out/m1/member/snap/db").is_file(), "{ran:?}");
    fs::remove_dir_all(room.path().join("out")).unwrap();
    assert_eq!(fingerprints(), before, "{line} changed what it was given");
    ran.json()
}

/// It ends with this code and these words, and leaves nothing.
fn refused(room: &Room, line: &str, code: i32, words: &[&str]) {
    let ran = room.run(&format!("recover {line} -o out"));
    assert_eq!(ran.code, code, "{line}: {ran:?}");
    assert!(words.iter().all(|word| ran.stderr.contains(word)), "{line}: {ran:?}");
    assert!(!room.names().iter().any(|name| name.starts_with("out")), "{:?}", room.names());
}

fn codes(json: &serde_json::Value) -> Vec<&str> {
    json["findings"].as_array().unwrap().iter().map(|found| found["code"].as_str().unwrap()).collect()
}

fn stands(json: &serde_json::Value) -> [u64; 4] {
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    [
        number(&json["base"]["index"]),
        number(&json["certainTo"]),
        number(&json["appliedTo"]),
        number(&json["revision"]),
    ]
}

/// Overwrites a part of a file.
fn damage(path: &Path, bytes: &[u8], at: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Where the frame of this entry begins in the only segment of a log, and its length.
fn entry(segment: &Path, index: u64) -> (u64, u64) {
    let bytes = fs::read(segment).unwrap();
    let mut records = wal::read_segment(&bytes).map_while(Result::ok);
    let is_it = |record: &wal::Record<'_>| {
        record.record_type == wal::RecordType::Entry
            && wal::EntryRef::decode(record.data).is_ok_and(|entry| entry.index == index)
    };
    let record = records.find(is_it).unwrap();
    (record.offset, 8 + record.raw.len() as u64)
}

const SEGMENT: &str = "member/wal/0000000000000000-0000000000000000.wal";

#[test]
fn a_lone_voter_is_recovered_whole() {
    let room = killed();
    let json = recovered(&room, "data", 0);
    assert_eq!(stands(&json), [84, 96, 96, 93]);
    assert_eq!(json["restore"]["fold"]["entries"], 12);
    assert_eq!((&json["possible"], &json["leftOut"]), (&serde_json::json!([]), &serde_json::json!([])));
    // As far as was asked.
    assert_eq!(stands(&recovered(&room, "data --to-index 90", 0)), [84, 96, 90, 87]);
    assert_eq!(stands(&recovered(&room, "data --to-revision 85", 0))[3], 85);
    refused(&room, &format!("data {ONE} --to-index 83"), 1, &["has come to entry 84 already"]);
    refused(&room, &format!("data {ONE} --to-index 97"), 1, &["the last entry that can be applied is 96"]);
    // With its log elsewhere, and where the database alone is left.
    fs::rename(room.path().join("data/member/wal"), room.path().join("wal")).unwrap();
    assert_eq!(stands(&recovered(&room, "data --wal-dir wal", 0)), [84, 96, 96, 93]);
    let json = recovered(&room, "data", 3);
    assert_eq!(stands(&json), [84, 84, 84, 81]);
    assert!(codes(&json).contains(&"ETCD-NO-LOG"), "{json:#}");
    fs::rename(room.path().join("data/member/snap/db"), room.path().join("alone.db")).unwrap();
    assert_eq!(stands(&recovered(&room, "alone.db", 3)), [84, 84, 84, 81]);
}

#[test]
fn what_cannot_be_excluded_of_a_survivor_is_a_finding() {
    let room = cluster();
    let json = recovered(&room, "n1 n2 n3", 0);
    assert_eq!(stands(&json), [4251, 4252, 4252, 4238]);

    let json = recovered(&room, "n2", 3);
    assert_eq!(stands(&json), [1800, 1809, 1810, 1797]);
    assert_eq!(codes(&json), ["ETCD-NO-QUORUM-READ", "ETCD-TAIL-POSSIBLE"], "{json:#}");
    assert_eq!(json["possible"][0]["index"], 1810);
    assert_eq!(json["possible"][0]["keys"], serde_json::json!(["/load/00174"]));

    let json = recovered(&room, "n2 --certain-only", 3);
    assert_eq!(stands(&json), [1800, 1809, 1809, 1796]);
    assert_eq!(json["leftOut"][0]["first"], 1810);
    assert!(codes(&json).contains(&"ETCD-TAIL-POSSIBLE"));
}

/// n2 fell behind long ago: its log leads on from its db to 1810, and from there those of the others do.
#[test]
fn what_one_log_lacks_comes_from_another() {
    let room = cluster();
    for name in ["n1", "n3"] {
        fs::remove_file(room.path().join(name).join("member/snap/db")).unwrap();
    }
    // That two of them have no database is a finding.
    let json = recovered(&room, "n1 n2 n3", 3);
    assert_eq!(json["base"]["path"], "n2/member/snap/db");
    assert_eq!(stands(&json), [1800, 4252, 4252, 4238]);
    assert_eq!(json["restore"]["fold"]["entries"], 2452);
    assert_eq!(recovered(&room, "n2 n3", 3)["appliedTo"], 4252);
}

#[test]
fn a_damaged_database_gives_way_to_another() {
    let room = cluster();
    let whole = recovered(&room, "n1 n3", 0);
    damage(&room.path().join("n1/member/snap/db"), &[0; 60 * 4096], 20 * 4096);
    let json = recovered(&room, "n1 n3", 3);
    assert_eq!(json["base"]["path"], "n3/member/snap/db");
    assert_eq!(json["revision"], whole["revision"]);
    assert_eq!(codes(&json), ["ETCD-BASE-FALLBACK"], "{json:#}");
    refused(&room, &format!("n1 {ONE}"), 1, &["there is no database to begin with", "is damaged"]);
    refused(&room, &format!("n1 n3 {ONE} --base n1"), 1, &["there is no database to begin with"]);
    // One that cannot be opened at all, and none.
    damage(&room.path().join("n1/member/snap/db"), &[0; 2 * 4096], 0);
    for base in ["n1", "n1/member/snap/db"] {
        let told = ["there is no database to begin with", "no valid meta page"];
        refused(&room, &format!("n1 n3 {ONE} --base {base}"), 1, &told);
    }
    fs::remove_file(room.path().join("n1/member/snap/db")).unwrap();
    refused(&room, &format!("n1 n3 {ONE} --base n1"), 1, &["n1: has no database"]);
    refused(&room, &format!("n3 {ONE} --tmp-dir n3/member"), 1, &["n3/member: lies in n3"]);
}

/// Where a log has all there ever was, a server makes the database anew; where a snapshot stands for what came before, none does.
#[test]
fn without_any_database_the_way_to_one_is_told() {
    let room = Room::new();
    testdata::unpack("3.5.16/overwritten/three.tar.zst", room.path());
    fs::remove_file(room.path().join("n1/member/snap/db")).unwrap();
    let told = ["there is no database to begin with", "since the cluster began is in the log of n1"];
    refused(&room, &format!("n1 {ONE}"), 1, &told);
    let room = killed();
    fs::remove_file(room.path().join("data/member/snap/db")).unwrap();
    refused(&room, &format!("data {ONE}"), 1, &["give an older snapshot of this cluster too"]);
}

#[test]
fn a_bit_is_turned_back_and_what_is_lost_has_to_be_accepted() {
    let room = killed();
    let segment = room.path().join("data").join(SEGMENT);
    let (offset, len) = entry(&segment, 91);
    let at = offset + len / 2;
    let byte = fs::read(&segment).unwrap()[usize::try_from(at).unwrap()];
    damage(&segment, &[byte ^ 4], at);
    let json = recovered(&room, "data", 3);
    assert_eq!(stands(&json), [84, 96, 96, 93]);
    let changes = json["repairs"][0]["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change.as_str().unwrap().contains("was written as")), "{json:#}");

    damage(&segment, &[0xa5; 16], at - 8);
    refused(
        &room,
        &format!("data {ONE}"),
        4,
        &["entry 91, which is in no log that can be read, and entries 92 to 96 behind", "--accept-loss"],
    );
    let json = recovered(&room, "data --accept-loss", 3);
    assert_eq!((&json["appliedTo"], json["lost"].as_array().unwrap().len()), (&90.into(), 1), "{json:#}");
    refused(&room, &format!("data {ONE} --dry-run"), 4, &["--accept-loss"]);
    // To ask for more than there is accepts nothing.
    refused(&room, &format!("data {ONE} --to-index 91"), 1, &["the last entry that can be applied is 90"]);
}

/// A write that the power cut is no loss that anybody was told of; all three may end so.
#[test]
fn torn_logs_are_followed_to_where_they_are_torn() {
    let room = cluster();
    for name in ["n1", "n2", "n3"] {
        let segment = room.path().join(name).join(SEGMENT);
        let bytes = fs::read(&segment).unwrap();
        let mut records = wal::read_segment(&bytes);
        assert!(records.by_ref().all(|record| record.is_ok()));
        // The length of a record of 400 bytes, and nothing of it.
        damage(&segment, &[0x90, 1, 0, 0, 0, 0, 0, 0, 8, 2, 16], records.offset());
    }
    let json = recovered(&room, "n1 n2 n3", 3);
    assert_eq!(json["appliedTo"], 4252, "{json:#}");
    assert!(codes(&json).iter().any(|code| code.starts_with("WAL-")), "{json:#}");
}

#[test]
fn what_cannot_be_taken_together_is_refused() {
    let room = cluster();
    testdata::unpack("3.5.16/killed/data.tar.zst", room.path());
    refused(&room, &format!("n1 data {ONE}"), 4, &["different clusters"]);
    refused(&room, &format!("n1 n1/member {ONE}"), 2, &["give each directory once"]);
    refused(&room, &format!("n1 {ONE} --base n2"), 2, &["--base n2", "none of what was given"]);
    refused(&room, &format!("n1 n2 {ONE} --wal-dir w"), 2, &["--wal-dir"]);
    refused(&room, "n1", 2, &["--initial-cluster"]);
    refused(&room, &format!("n1 {ONE} --bump-revision 5"), 2, &["--mark-compacted"]);
    let ran = room.run(&format!("recover n1 {ONE} -o n1/member/new"));
    assert!(ran.code == 1 && ran.stderr.contains("lies in n1"), "{ran:?}");
    fs::create_dir(room.path().join("full")).unwrap();
    room.write("full/file", b"x");
    let ran = room.run(&format!("recover n1 {ONE} -o full"));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(room.names(), ["data", "full", "n1", "n2", "n3"]);
}

/// Two copies of one member: the later one counts.
#[test]
fn an_earlier_copy_is_set_aside() {
    let room = killed();
    testdata::unpack("3.5.16/killed/data.tar.zst", &room.path().join("copy"));
    let segment = room.path().join("copy/data").join(SEGMENT);
    let (offset, _) = entry(&segment, 90);
    let len = fs::metadata(&segment).unwrap().len();
    fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(offset).unwrap();
    fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(len).unwrap();
    let json = recovered(&room, "copy/data data", 3);
    assert_eq!(stands(&json), [84, 96, 96, 93]);
    assert!(codes(&json).contains(&"ETCD-STALE-COPY"), "{json:#}");
    // It is evidence all the same.
    let ran = room.run(&format!("recover copy/data data {ONE} -o copy/data/new"));
    assert!(ran.code == 1 && ran.stderr.contains("lies in copy/data"), "{ran:?}");
}

#[test]
fn a_dry_run_gives_the_account_and_writes_nothing() {
    let room = cluster();
    let ran = room.run(&format!("recover n1 n2 n3 {THREE} -o out --dry-run -w json"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    assert_eq!((&json["dryRun"], &json["appliedTo"]), (&true.into(), &4252.into()));
    assert_eq!(json["restore"]["members"].as_array().unwrap().len(), 3);
    assert_eq!(room.names(), ["n1", "n2", "n3"]);
    let ran = room.run(&format!("recover n1 n2 n3 {THREE} -o out --bump-revision auto"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("Begun with n1/member/snap/db") && ran.stdout.contains("out/m3"), "{ran:?}");
}
