//! The files of a `snap` directory, damaged in every way that has a code.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::fs;
use std::path::{Path, PathBuf};

use bbolt::Io;
use snapshot::membership::Member;
use snapshot::snap_files::{SnapFile, SnapKind, describe, list};
use snapshot::target::TargetVersion;
use snapshot::v2store::restored_store;
use wal::{Dialect, encode_snap, snap_name};

fn member(id: u64) -> Member {
    Member { id, name: format!("m{id}"), peer_urls: vec![format!("http://h:{id}")], ..Member::default() }
}

fn store(ids: &[u64]) -> Vec<u8> {
    restored_store(&ids.iter().map(|id| member(*id)).collect::<Vec<_>>(), TargetVersion::V3_5)
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// The codes found in the one file of these bytes and this name.
fn codes(name: &str, bytes: &[u8]) -> Vec<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    let file = SnapFile::at(&put(dir.path(), name, bytes)).unwrap();
    let described = describe(&file, Io::Mmap);
    assert!(described.findings.iter().all(|finding| finding.file.as_deref() == Some(name)));
    described.findings.iter().map(|finding| finding.code).collect()
}

fn good() -> (String, Vec<u8>) {
    (snap_name(2, 9), encode_snap(&store(&[1, 2]), 9, 2, &[1, 2], Dialect::V3_5))
}

#[test]
fn a_sound_one_has_no_findings() {
    let (name, bytes) = good();
    assert_eq!(codes(&name, &bytes), [""; 0]);
}

#[test]
fn each_damage_has_its_code() {
    let (name, bytes) = good();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 0x10;
    let snap = |json: &[u8], voters: &[u64]| encode_snap(json, 9, 2, voters, Dialect::V3_5);
    let with = |from: &str, to: &str| {
        let text = String::from_utf8(store(&[1, 2])).unwrap();
        assert!(text.contains(from));
        snap(text.replace(from, to).as_bytes(), &[1, 2])
    };
    let renamed = snap_name(3, 9);
    let cases: [(&str, &str, Vec<u8>); 10] = [
        ("SNAP-EMPTY", &name, Vec::new()),
        ("SNAP-UNDECODABLE", &name, b"\xff\xff not a snapshot".to_vec()),
        ("SNAP-CRC", &name, flipped),
        ("SNAP-PAYLOAD", &name, {
            let data = vec![0xff; 7];
            let mut envelope = vec![8];
            prost::encoding::encode_varint(u64::from(wal::crc::checksum(&data)), &mut envelope);
            envelope.extend([0x12, 7]);
            envelope.extend(data);
            envelope
        }),
        ("SNAP-NAME", &renamed, bytes.clone()),
        ("SNAP-V2STORE", &name, snap(b"{\"Root\":", &[1, 2])),
        (
            "SNAP-V2-KEYS",
            &name,
            with(
                "\"/1\",\"CreatedIndex\":0,\"ModifiedIndex\":0,\"ExpireTime\":\"0001-01-01T00:00:00Z\",\"Value\":\"\",\"Children\":{}",
                "\"/1\",\"Children\":{\"old\":{\"Value\":\"v\"}}",
            ),
        ),
        ("SNAP-V2-UNKNOWN", &name, with("{\"members\":", "{\"strange\":{\"Value\":\"\"},\"members\":")),
        ("SNAP-MEMBERS", &name, snap(&store(&[1, 2]), &[1, 2, 3])),
        ("SNAP-MEMBERS", &name, snap(&store(&[1, 2]), &[])),
    ];
    for (code, name, bytes) in cases {
        assert_eq!(codes(name, &bytes), [code]);
    }
}

#[test]
fn every_truncation_and_every_flipped_byte_is_found_out() {
    let (name, bytes) = good();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(&name);
    let step = 7;
    for at in (0..bytes.len()).step_by(step) {
        fs::write(&path, &bytes[..at]).unwrap();
        assert!(!describe(&SnapFile::at(&path).unwrap(), Io::Pread).findings.is_empty(), "cut at {at}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x04;
        fs::write(&path, &flipped).unwrap();
        assert!(!describe(&SnapFile::at(&path).unwrap(), Io::Pread).findings.is_empty(), "byte {at}");
    }
}

#[test]
fn what_a_wrong_checksum_covers_is_shown_all_the_same() {
    let (name, bytes) = good();
    let dir = tempfile::tempdir().unwrap();
    let mut flipped = bytes;
    // Within the JSON's event list, which nobody reads.
    let at = flipped.windows(9).position(|window| window == b"null,null").unwrap();
    flipped[at] = b' ';
    flipped[at + 1..at + 4].copy_from_slice(b"  0");
    let file = SnapFile::at(&put(dir.path(), &name, &flipped)).unwrap();
    let described = describe(&file, Io::Mmap);
    assert!(matches!(described.envelope, Some(Err(_))));
    let facts = described.facts.unwrap();
    assert_eq!((facts.term, facts.index, facts.conf_state.voters.as_slice()), (2, 9, &[1, 2][..]));
    assert_eq!(described.store.unwrap().members.len(), 2);
}

#[test]
fn what_servers_leave_behind_is_named() {
    let (name, bytes) = good();
    assert_eq!(codes(&format!("{name}.broken"), &bytes), ["SNAP-BROKEN-LEFT"]);
    assert_eq!(codes(&format!("{name}.broken"), b""), ["SNAP-BROKEN-LEFT"]);
    assert_eq!(codes("tmp0815", b"x"), ["SNAP-LEFTOVER"]);
    assert_eq!(codes("db.tmp.42", b"x"), ["SNAP-LEFTOVER"]);
    assert_eq!(codes("0000000000000009.snap.db", b"not a database"), ["SNAP-DB"]);
    assert_eq!(codes("0000000000000009.snap.db", b""), ["SNAP-DB"]);
    assert_eq!(codes("db", b"x"), [""; 0]);
    assert_eq!(codes("notes.txt", b"x"), [""; 0]);
}

#[test]
fn a_pending_database_tells_its_index_and_revision() {
    let dir = tempfile::tempdir().unwrap();
    let image = testdata::snapshot("3.5.30", "s1-precompact");
    let file = SnapFile::at(&put(dir.path(), "0000000000000064.snap.db", &image)).unwrap();
    for io in [Io::Mmap, Io::Pread] {
        let described = describe(&file, io);
        let database = described.database.unwrap();
        let status = &testdata::facts_json("3.5.30", "s1-precompact", "endpoint-status.json")[0][0]["Status"];
        assert_eq!(Some(database.revision), status["header"]["revision"].as_i64());
        // The status was asked for a few reads, which are entries too, before the snapshot.
        let applied = status["raftAppliedIndex"].as_u64().unwrap();
        assert!((applied..applied + 10).contains(&database.consistent_index), "{database:?}, {applied}");
        assert_eq!(described.findings.first().unwrap().code, "SNAP-DB-PENDING");
    }
}

#[test]
fn the_files_come_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir("3.5.30", dir.path());
    let files = list(&data.join("member/snap")).unwrap();
    let names: Vec<&str> = files.iter().map(SnapFile::name).collect();
    assert_eq!(names.len(), 8);
    assert!(names.is_sorted());
    let db: Vec<&SnapFile> = files.iter().filter(|file| file.kind() == SnapKind::Db).collect();
    assert_eq!(db.len(), 1);
    for file in files.iter().filter(|file| file.kind() != SnapKind::Db) {
        let facts = file.facts().unwrap();
        assert_eq!(file.kind(), SnapKind::Snap { term: facts.term, index: facts.index });
    }
}
