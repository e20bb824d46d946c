//! What `verify` says of a start, tried: situations made from what real servers left, each booted on each server that can be
//! had, and the outcome held against the prediction, words and numbers. About 15 seconds a version.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use bbolt::Db;
use bbolt::graft::{Graft, Pairs};
use serde_json::Value;
use snapshot::schema::{
    ALARM, AUTH, AUTH_ENABLED, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, CLUSTER, CONSISTENT_INDEX, DOWNGRADE,
    FINISHED_COMPACT, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META, SCHEDULED_COMPACT, TERM,
};
use testdata::damage::boot::{Found, Outcome, boot};
use testdata::damage::{Base, MemberDir};
use testdata::oracle::Version;

/// One situation: its name, what it is made of, and how.
type Situation = (&'static str, Base, fn(&mut MemberDir));

const SITUATIONS: &[Situation] = &[
    ("untouched", Base::Killed, |_| {}),
    ("no-snapshot", Base::Overwritten, |_| {}),
    ("both-metas-gone", Base::Killed, |member| {
        let db = db_of(member);
        for page in [0, 4096] {
            member.zero(&db, page + 16..page + 80);
        }
    }),
    ("newest-meta-gone", Base::Killed, |member| {
        let db = db_of(member);
        let bytes = fs::read(&db).unwrap();
        let txid = |page: usize| u64::from_le_bytes(bytes[page + 64..page + 72].try_into().unwrap());
        let newest = if txid(0) > txid(4096) { 0 } else { 4096 };
        member.zero(&db, newest + 16..newest + 80);
    }),
    ("no-db", Base::Killed, |member| {
        let db = db_of(member);
        member.remove(&db);
    }),
    ("no-db-no-snapshot", Base::Overwritten, |member| {
        let db = db_of(member);
        member.remove(&db);
    }),
    ("no-log-directory", Base::Killed, |member| fs::remove_dir_all(member.wal_dir()).unwrap()),
    ("db-older-than-snapshot", Base::Killed, |member| {
        row(member, META, CONSISTENT_INDEX, &50_u64.to_be_bytes());
    }),
    ("db-at-no-entry", Base::Killed, |member| row(member, META, CONSISTENT_INDEX, &0_u64.to_be_bytes())),
    ("db-beyond-log", Base::Killed, |member| row(member, META, CONSISTENT_INDEX, &200_u64.to_be_bytes())),
    ("db-of-another-term", Base::Killed, |member| row(member, META, TERM, &7_u64.to_be_bytes())),
    ("consistent-index-of-three-bytes", Base::Killed, |member| {
        row(member, META, CONSISTENT_INDEX, &[0, 0, 84]);
    }),
    ("compaction-of-five-bytes", Base::Killed, |member| {
        row(member, META, FINISHED_COMPACT, &[0, 0, 0, 0, 7]);
    }),
    ("compaction-ahead", Base::Killed, |member| {
        let mut revision = 500_i64.to_be_bytes().to_vec();
        revision.push(b'_');
        revision.extend(0_i64.to_be_bytes());
        row(member, META, SCHEDULED_COMPACT, &revision);
    }),
    ("lease-that-is-none", Base::Killed, |member| row(member, LEASE, &7_i64.to_be_bytes(), &[0xff])),
    ("lease-under-a-short-key", Base::Killed, |member| row(member, LEASE, b"abc", &[8, 7, 16, 60])),
    ("keys-without-their-lease", Base::Killed, |member| {
        record(member, &[0x0a, 1, b'l', 0x10, 99, 0x18, 99, 0x20, 1, 0x30, 77]);
    }),
    ("record-that-is-none", Base::Killed, |member| record(member, &[0x0a, 0xff])),
    ("alarm-that-is-none", Base::Killed, |member| row(member, ALARM, &[0xff], &[])),
    ("alarm-of-no-space", Base::Killed, |member| row(member, ALARM, &[8, 1, 16, 1], &[])),
    ("alarm-of-corruption", Base::Killed, |member| row(member, ALARM, &[8, 1, 16, 2], &[])),
    ("auth-revision-of-two-bytes", Base::Killed, |member| row(member, AUTH, AUTH_REVISION, &[0, 1])),
    ("auth-without-root", Base::Killed, |member| row(member, AUTH, AUTH_ENABLED, &[1])),
    ("user-that-is-none", Base::Killed, |member| row(member, AUTH_USERS, b"ann", &[0x0a, 0xff])),
    ("user-of-a-role-that-is-none", Base::Killed, |member| {
        row(member, AUTH_ROLES, b"dev", &[0x0a, 0xff]);
        row(member, AUTH_USERS, b"ann", b"\x0a\x03ann\x1a\x03dev");
    }),
    ("role-that-is-none", Base::Killed, |member| row(member, AUTH_ROLES, b"dev", &[0x0a, 0xff])),
    ("downgrade-that-is-no-json", Base::Killed, |member| row(member, CLUSTER, DOWNGRADE, b"{")),
    ("downgrade-to-3.4", Base::Killed, |member| {
        row(member, CLUSTER, DOWNGRADE, br#"{"target-version":"3.4.0","enabled":true}"#);
    }),
    ("downgrade-to-3.5", Base::Killed, |member| {
        row(member, CLUSTER, DOWNGRADE, br#"{"target-version":"3.5.0","enabled":true}"#);
    }),
    ("downgrade-to-no-version", Base::Killed, |member| {
        row(member, CLUSTER, DOWNGRADE, br#"{"target-version":"x","enabled":true}"#);
    }),
    ("member-that-is-none", Base::Killed, |member| row(member, MEMBERS, b"1", b"{")),
    ("member-under-no-id", Base::Killed, |member| row(member, MEMBERS, b"me", br#"{"id":1}"#)),
    ("removed-member-under-no-id", Base::Killed, |member| row(member, MEMBERS_REMOVED, b"me", b"removed")),
    ("another-member-in-the-db", Base::Killed, |member| {
        row(member, MEMBERS, b"1", br#"{"id":1,"peerURLs":["http://127.0.0.1:1"]}"#);
    }),
    ("newest-snap-is-no-store", Base::Killed, |member| store(member, b"{")),
    ("newest-snap-has-v2-keys", Base::Killed, |member| {
        let text = String::from_utf8(store_of(member)).unwrap();
        let empty = r#""1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"#;
        let at = text.find(empty).unwrap() + empty.len();
        let key = r#""old":{"Path":"/1/old","CreatedIndex":9,"ModifiedIndex":9,"ExpireTime":"0001-01-01T00:00:00Z","Value":"x","Children":null}"#;
        store(member, format!("{}{key}{}", &text[..at], &text[at..]).as_bytes());
    }),
    ("snap-without-record", Base::Killed, |member| member.forge_snap(90)),
    ("newer-snap-with-its-record", Base::Killed, |member| {
        member.forge_snap(90);
        let segment = member.last_segment();
        member.append(&segment, 5, &[8, 90, 16, 2]);
    }),
    ("received-db-for-the-newer-snap", Base::Killed, |member| {
        member.forge_snap(90);
        let segment = member.last_segment();
        member.append(&segment, 5, &[8, 90, 16, 2]);
        let db = db_of(member);
        member.copy(&db, "000000000000005a.snap.db");
        edited(&db.with_file_name("000000000000005a.snap.db"), |graft| {
            put(graft, META, CONSISTENT_INDEX, &90_u64.to_be_bytes());
        });
    }),
    ("received-db-of-an-older-entry", Base::Killed, |member| {
        member.forge_snap(90);
        let segment = member.last_segment();
        member.append(&segment, 5, &[8, 90, 16, 2]);
        member.copy(&db_of(member), "000000000000005a.snap.db");
    }),
    ("commit-beyond-the-last-entry", Base::Killed, |member| {
        let segment = member.last_segment();
        let state = member.hard_state(&segment, 120);
        member.append(&segment, 3, &state);
    }),
    ("commit-before-the-snapshot", Base::Killed, |member| {
        let segment = member.last_segment();
        let state = member.hard_state(&segment, 60);
        member.append(&segment, 3, &state);
    }),
    ("entry-that-is-no-request", Base::Killed, |member| entry(member, 0, &[0xff, 0xff])),
    ("entry-of-no-type", Base::Killed, |member| entry(member, 9, &[])),
    ("entry-of-a-later-version", Base::Killed, |member| {
        entry(member, 0, b"\xa2\x06\x02\x08\x07\x82\x7d\x02\x08\x01");
    }),
    ("entry-that-asks-for-nothing", Base::Killed, |member| entry(member, 0, b"\xa2\x06\x02\x08\x07")),
    ("entry-that-makes-the-cluster-3.7", Base::Killed, |member| {
        entry(member, 0, b"\xa2\x06\x02\x08\x07\xa2\x51\x07\x0a\x053.7.0");
    }),
    ("v2-entry-that-makes-the-cluster-3.6", Base::Killed, |member| {
        entry(member, 0, b"\x08\x07\x12\x03PUT\x1a\x0a/0/version\x22\x053.6.0");
    }),
    ("entry-that-removes-the-member", Base::Killed, |member| {
        let (id, ..) = last_entry(member);
        let mut change = vec![0x08, 1, 0x10, 1, 0x18];
        push_varint(&mut change, id);
        entry(member, 1, &change);
    }),
];

/// The member's id, and index and term of its last entry.
fn last_entry(member: &MemberDir) -> (u64, u64, u64) {
    let bytes = fs::read(member.last_segment()).unwrap();
    let (mut id, mut last) = (0, (0, 0));
    for record in wal::read_segment(&bytes).flatten() {
        match record.payload() {
            Ok(wal::Payload::Metadata(metadata)) => id = metadata.node_id(),
            Ok(wal::Payload::Entry(entry)) => last = (entry.index, entry.term),
            _ => {}
        }
    }
    (id, last.0, last.1)
}

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

/// Puts a committed entry behind the last one of the log.
fn entry(member: &mut MemberDir, entry_type: u8, data: &[u8]) {
    let segment = member.last_segment();
    let (_, index, term) = last_entry(member);
    let mut bytes = vec![0x08, entry_type, 0x10];
    push_varint(&mut bytes, term);
    bytes.push(0x18);
    push_varint(&mut bytes, index + 1);
    bytes.push(0x22);
    push_varint(&mut bytes, data.len() as u64);
    bytes.extend(data);
    member.append(&segment, 2, &bytes);
    let state = member.hard_state(&segment, index + 1);
    member.append(&segment, 3, &state);
}

fn db_of(member: &MemberDir) -> std::path::PathBuf {
    member.snap_dir().join("db")
}

/// Grafts what `edit` does onto a db.
fn edited(path: &Path, edit: impl FnOnce(&mut Graft<'_, Vec<u8>>)) {
    let mut file = fs::read(path).unwrap();
    let db = Db::from_source(file.clone()).unwrap();
    let mut graft = Graft::new(&db);
    edit(&mut graft);
    graft.finish().unwrap().apply_to_vec(&mut file);
    fs::write(path, file).unwrap();
}

fn put(graft: &mut Graft<'_, Vec<u8>>, bucket: &[u8], key: &[u8], value: &[u8]) {
    let mut pairs: Pairs = graft.pairs(bucket).unwrap().unwrap_or_default();
    pairs.insert(key.to_vec(), value.to_vec());
    graft.replace_bucket(bucket, pairs).unwrap();
}

/// Puts a row into a small bucket of the member's db.
fn row(member: &MemberDir, bucket: &[u8], key: &[u8], value: &[u8]) {
    edited(&db_of(member), |graft| put(graft, bucket, key, value));
}

/// Puts a record behind the last one of the key space.
fn record(member: &MemberDir, value: &[u8]) {
    let mut key = 99_i64.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend(0_i64.to_be_bytes());
    edited(&db_of(member), |graft| {
        graft.append(KEY, vec![(key, value.to_vec())]).unwrap();
    });
}

/// The v2 store in the newest `.snap`.
fn store_of(member: &MemberDir) -> Vec<u8> {
    wal::decode_snap(&fs::read(member.last_snap()).unwrap()).unwrap().data().to_vec()
}

/// Puts another v2 store into the newest `.snap`, whose checksum is right.
fn store(member: &mut MemberDir, json: &[u8]) {
    let path = member.last_snap();
    let facts = snapshot::snap_files::facts_of(&wal::decode_snap(&fs::read(&path).unwrap()).unwrap());
    let voters = &facts.conf_state.voters;
    let bytes = wal::encode_snap(json, facts.index, facts.term, voters, wal::Dialect::V3_5);
    fs::write(&path, bytes).unwrap();
}

/// What `verify -w json` says.
fn verified(dir: &Path) -> (Value, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_etcd-rescue"))
        .args(["-w", "json", "verify"])
        .arg(dir)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(matches!(ran.status.code(), Some(0 | 3)), "{}: {told}", ran.status);
    (serde_json::from_slice(&ran.stdout).unwrap(), told)
}

/// Whether the server did what was foretold; what was not foretold is neither.
fn is_as_foretold(prediction: &Value, outcome: &Outcome) -> bool {
    let number = |name: &str| prediction[name].as_u64().unwrap();
    let same = |found: &Found| {
        let foretold = [number("snapshotIndex"), number("commit"), number("lastIndex"), number("lastTerm")];
        foretold == [found.snapshot, found.commit, found.last_index, found.last_term]
    };
    match (prediction["outcome"].as_str().unwrap(), outcome) {
        ("starts", Outcome::Starts(found)) => same(found) && prediction["voterless"] == false,
        ("starts", Outcome::NoLeader(found)) => same(found) && prediction["voterless"] == true,
        ("startsAfterCut", Outcome::Cuts(found)) => same(found),
        ("foundsNewCluster", Outcome::NewCluster { .. }) => true,
        ("fails", Outcome::Fails { words }) => words.contains(prediction["words"].as_str().unwrap()),
        _ => false,
    }
}

fn predictions_hold(version: Version, name: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let mut outcomes = std::collections::BTreeSet::new();
    let mut try_one = |situation: &str, dir: &Path| {
        let (report, told) = verified(dir);
        let predictions = report["predictions"].as_array().unwrap();
        let prediction = predictions.iter().find(|prediction| prediction["booted"] == name).unwrap();
        let outcome = boot(version, dir);
        outcomes.insert(prediction["outcome"].as_str().unwrap().to_owned());
        if !is_as_foretold(prediction, &outcome) {
            wrong.push(format!("{situation}: {outcome:?}\n  foretold: {prediction}\n  {told}"));
        }
    };
    for base in [Base::Killed, Base::Overwritten] {
        let clean = base.unpack(name, &scratch.path().join(base.name()));
        for (situation, _, make) in SITUATIONS.iter().filter(|(_, of, _)| *of == base) {
            let dir = scratch.path().join("copy");
            make(&mut clean.copy_to(&dir));
            try_one(situation, &dir);
            fs::remove_dir_all(&dir).unwrap();
        }
    }
    // Data of newer versions, and of the other.
    for of in ["3.6.14", "3.7.1", "3.5.1", "3.4.23"] {
        let dir = testdata::data_dir(of, &scratch.path().join(of));
        try_one(&format!("data of {of}"), &dir);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(["starts", "fails", "foundsNewCluster"].iter().all(|outcome| outcomes.contains(*outcome)));
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_3_4_does_what_was_foretold() {
    predictions_hold(Version::V3_4, "3.4.23");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_3_5_1_does_what_was_foretold() {
    predictions_hold(Version::V3_5_1, "3.5.1");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_newer_3_5_does_what_was_foretold() {
    predictions_hold(Version::V3_5New, "3.5.16");
}
