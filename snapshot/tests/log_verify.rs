//! Logs of real servers, held against what etcd's own tools and the servers said of them.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bbolt::{Io, Lock, OpenOptions};
use snapshot::boot::Start;
use snapshot::finding::Severity;
use snapshot::log_files::{LogFiles, LogFilesError, LogOptions, open};
use snapshot::log_verify::{LogReport, verify};

const FIRST: &str = "0000000000000000-0000000000000000.wal";

fn opened(path: &Path, io: Io) -> LogFiles {
    open(path, &LogOptions { io, ..LogOptions::default() }, &()).unwrap()
}

fn verified(path: &Path) -> LogReport {
    verify(&opened(path, Io::Mmap), &OpenOptions { io: Io::Mmap, lock: Lock::None }, &()).unwrap()
}

fn told(report: &LogReport) -> Vec<String> {
    report.findings.iter().map(|found| found.finding.to_string()).collect()
}

fn codes(report: &LogReport) -> Vec<&'static str> {
    report.findings.iter().map(|found| found.finding.code).collect()
}

#[track_caller]
fn assert_clean(report: &LogReport, what: &str) {
    assert!(report.is_clean(), "{what}: {:#?}", told(report));
}

/// The value after `key=` in what etcd-dump-logs printed.
fn dumped<'a>(sample: &'a str, key: &str) -> &'a str {
    let start = sample.find(&format!("{key}=")).unwrap_or_else(|| panic!("no {key}")) + key.len() + 1;
    sample[start..].split([' ', '\n']).next().unwrap()
}

/// Holds the report against the head of what etcd-dump-logs 3.6.14 printed of the same directory.
#[track_caller]
fn assert_as_dumped(report: &LogReport, sample: &str) {
    let number = |key| dumped(sample, key).parse::<u64>().unwrap();
    let hex = |key| u64::from_str_radix(dumped(sample, key), 16).unwrap();
    let state = report.log.hard_state.as_ref().unwrap().value;
    assert_eq!(state.commit(), number("commitIndex"));
    assert_eq!(state.vote(), hex("vote"));
    let metadata = report.log.metadata.unwrap();
    assert_eq!((metadata.node_id(), metadata.cluster_id()), (hex("nodeID"), hex("clusterID")));
    assert_eq!(report.log.last_index(), Some(number("lastIndex")));
    // Its first "term" and "index" are those of the snapshot, where it starts from one.
    assert_eq!((report.start.term, report.start.index), (number("term"), number("index")));
}

#[test]
fn the_logs_of_all_versions_are_clean_and_say_what_etcd_dump_logs_says() {
    for version in testdata::VERSIONS {
        let dir = tempfile::tempdir().unwrap();
        let report = verified(&testdata::data_dir(version, dir.path()));
        assert_clean(&report, version);
        assert_as_dumped(&report, &testdata::sample(&format!("dump-logs-3.6.14-on-{version}.txt")));
        assert_eq!(report.log.first_index(), Some(1));
    }
}

/// README: consistent index of the db, commit and last index of the log.
#[test]
fn three_members_of_which_two_were_killed() {
    let dir = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", dir.path());
    for (name, consistent_index, commit, last) in
        [("n1", 4251, 4251, 4252), ("n2", 1800, 1809, 1810), ("n3", 4235, 4251, 4252)]
    {
        let report = verified(&dir.path().join(name));
        assert_clean(&report, name);
        assert_as_dumped(&report, &testdata::sample(&format!("dump-logs-3.6.14-cluster-3.5.30-{name}.txt")));
        let database = report.database.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(database.consistent_index(), consistent_index);
        assert_eq!((report.log.commit(), report.log.last_index()), (commit, Some(last)));
        assert_eq!(report.uncommitted(), last - commit);
    }
}

#[test]
fn restored_logs_are_clean() {
    let archives = fs::read_dir(testdata::path("fixtures/restored")).unwrap();
    let mut seen = 0;
    for name in archives.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        if !name.ends_with(".tar.zst") {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        testdata::unpack(&format!("restored/{name}"), dir.path());
        let report = verified(dir.path());
        assert_clean(&report, &name);
        assert_eq!((report.log.last_index(), report.start.index), (Some(3), 3), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 15);
}

/// The positions are those that etcd-dump-logs 3.6.14 names, the last entries what etcd 3.5.30 was left with
/// (`*.report.txt`).
#[test]
fn damage_is_found_where_etcd_stumbles_over_it() {
    for (name, code, severity, offset, last) in [
        ("wal-crc-mismatch-last", "WAL-CRC", Severity::Error, 206_312, 190),
        ("wal-crc-mismatch-middle", "WAL-CRC", Severity::Error, 102_640, 190),
        ("wal-torn-zero-sectors", "WAL-TORN", Severity::Warning, 0x1a610, 145),
        ("wal-truncated-in-header", "WAL-LENGTH-CUT", Severity::Warning, 206_312, 190),
        ("wal-truncated-mid-record", "WAL-RECORD-CUT", Severity::Warning, 206_312, 190),
    ] {
        let dir = tempfile::tempdir().unwrap();
        testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), dir.path());
        let report = verified(&dir.path().join(name));
        let first = &report.findings.first().unwrap().finding;
        assert_eq!((first.code, first.severity, first.offset), (code, severity, Some(offset)), "{name}");
        assert_eq!(first.file.as_deref(), Some(FIRST));
        assert_eq!(report.log.last_index(), Some(last), "{name}");
        // Only one of them lost what the db holds.
        assert_eq!(codes(&report).contains(&"WAL-BEHIND-DB"), last == 145, "{:#?}", told(&report));
    }
}

/// The member had restarted before entry 141, and published itself with a v2 request in the next one, as 3.5 does. With the tail
/// gone that stands behind the newest usable snapshot again.
#[test]
fn requests_of_the_v2_api_keep_3_7_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/damaged/wal-torn-zero-sectors.tar.zst", dir.path());
    let report = verified(&dir.path().join("wal-torn-zero-sectors"));
    let starts: Vec<&Start> = report.verdicts.iter().map(|verdict| &verdict.start).collect();
    let [_, old, new, next, newest] = starts.as_slice() else { panic!("{starts:?}") };
    for start in [old, new, next] {
        let Start::StartsAfterCut { found, offset, .. } = start else { panic!("{start:?}") };
        assert_eq!((found.snapshot.index, found.last.index, *offset), (130, 145, 0x1a610));
        assert_eq!(found.db_ahead, Some(190));
    }
    let Start::Fails { cause, .. } = newest else { panic!("{newest:?}") };
    assert!(cause.contains("entry 142 "), "{cause}");
    // The same log whole has none behind its last snapshot.
    let report = verified(&testdata::data_dir("3.5.30", dir.path()));
    assert!(matches!(report.verdicts.last().unwrap().start, Start::Starts(_)));
}

/// Whoever has only the log is told what it is worth beside what it speaks of.
#[test]
fn a_log_alone_is_judged_as_if_its_snapshots_were_there() {
    let (keep, data) = copied();
    let apart = keep.path().join("log");
    fs::rename(data.join("member/wal"), &apart).unwrap();
    let report = verified(&apart);
    assert!(report.supposes_snaps && report.verdicts.len() == 5);
    for verdict in &report.verdicts {
        let Start::Starts(found) = &verdict.start else { panic!("{verdict:?}") };
        assert_eq!((found.snapshot.index, found.last.index), (182, 190));
    }
    assert!(verified(&apart.join(FIRST)).verdicts.is_empty(), "one segment is no log");
}

#[test]
fn a_damaged_snap_and_a_damaged_db_beside_a_sound_log() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["snap-corrupt-newest", "db-both-meta-corrupt", "db-meta0-corrupt"] {
        testdata::unpack(&format!("3.5.30/damaged/{name}.tar.zst"), dir.path());
    }
    let report = verified(&dir.path().join("snap-corrupt-newest"));
    assert_eq!(codes(&report), ["SNAP-CRC"]);
    assert!(!report.log_is_damaged());
    // etcd 3.5.30: recovered from snapshot-index 156.
    assert_eq!((report.start.index, report.start.log_reaches), (156, true));
    let report = verified(&dir.path().join("db-both-meta-corrupt"));
    assert_eq!(codes(&report), ["WAL-DB-UNREAD"]);
    assert_clean(&verified(&dir.path().join("db-meta0-corrupt")), "one meta is enough");
}

/// Whatever way the log is named, it is the same log.
#[test]
fn every_way_to_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir("3.5.30", dir.path());
    let records = verified(&data).log.records();
    let member = data.join("member");
    for (path, has_db, has_snaps) in [
        (member.clone(), true, true),
        (member.join("wal"), true, true),
        (member.join("snap"), true, true),
        (member.join("wal").join(FIRST), false, false),
    ] {
        let report = verified(&path);
        assert_clean(&report, &path.display().to_string());
        assert_eq!(report.log.records(), records);
        assert_eq!(report.database.is_some(), has_db, "{}", path.display());
        assert_eq!(opened(&path, Io::Mmap).snap_dir().is_some(), has_snaps, "{}", path.display());
    }
    // The log apart from the rest, as with --wal-dir.
    let apart = dir.path().join("log");
    fs::rename(member.join("wal"), &apart).unwrap();
    let report = verified(&apart);
    assert_clean(&report, "the log alone");
    assert!(report.database.is_none());
    assert!(matches!(open(&data, &LogOptions::default(), &()), Err(LogFilesError::NoLog { .. })));
    let options = LogOptions { wal_dir: Some(apart), ..LogOptions::default() };
    let files = open(&data, &options, &()).unwrap();
    assert!(files.db_path().is_some() && files.snap_dir().is_some());
    // A db is not needed.
    fs::remove_file(member.join("snap/db")).unwrap();
    let files = open(&data, &options, &()).unwrap();
    assert!(files.db_path().is_none() && files.snap_dir().is_some());
}

#[test]
fn maps_and_reads_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/damaged/wal-crc-mismatch-middle.tar.zst", dir.path());
    let path = dir.path().join("wal-crc-mismatch-middle");
    let options = OpenOptions { io: Io::Pread, lock: Lock::None };
    let read = verify(&opened(&path, Io::Pread), &options, &()).unwrap();
    let mapped = verified(&path);
    assert_eq!(read.findings, mapped.findings);
    assert_eq!(read.log, mapped.log);
}

fn copied() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = testdata::data_dir("3.5.1", dir.path());
    (dir, data)
}

#[test]
fn what_changes_meanwhile_is_no_result() {
    let (_keep, data) = copied();
    let segment = data.join("member/wal").join(FIRST);
    let changes: [(&str, &dyn Fn()); 4] = [
        ("written to", &|| File::options().append(true).open(&segment).unwrap().set_len(64_000_001).unwrap()),
        ("got or lost files", &|| fs::write(data.join("member/wal/1.tmp"), b"").unwrap()),
        ("got, lost or changed files", &|| fs::write(data.join("member/snap/1-2.snap"), b"").unwrap()),
        ("got, lost or changed files", &|| fs::write(data.join("member/snap/1-2.snap"), b"x").unwrap()),
    ];
    for (what, change) in changes {
        let files = opened(&data, Io::Mmap);
        files.ensure_unchanged().unwrap();
        change();
        let error = files.ensure_unchanged().unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    // The db of a running server changes all the time, and is no part of the log.
    let files = opened(&data, Io::Mmap);
    File::options().append(true).open(data.join("member/snap/db")).unwrap().set_len(20_000_000).unwrap();
    files.ensure_unchanged().unwrap();
}

#[test]
fn what_is_no_log_is_told_apart() {
    let (_keep, data) = copied();
    let why = |path: &Path| open(path, &LogOptions::default(), &()).unwrap_err().to_string();
    assert!(why(&data.join("member/snap/db")).contains("is a database"));
    let snap = fs::read_dir(data.join("member/snap")).unwrap().map(|entry| entry.unwrap().path());
    let snap = snap.into_iter().find(|path| path.extension().is_some_and(|e| e == "snap")).unwrap();
    assert!(why(&snap).contains("snap dump"));
    let other = data.join("notes");
    fs::write(&other, b"not a log").unwrap();
    assert!(why(&other).contains("is not named like a segment"));
    let empty = data.join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(why(&empty).contains("neither a data dir"));
    assert!(why(&data.join("gone")).contains("No such file"));
}

#[test]
fn an_empty_log_directory_and_an_empty_segment() {
    let (_keep, data) = copied();
    let wal = data.join("member/wal");
    fs::write(wal.join(FIRST), b"").unwrap();
    assert!(codes(&verified(&data)).contains(&"WAL-EMPTY-SEGMENT"));
    fs::remove_file(wal.join(FIRST)).unwrap();
    assert_eq!(codes(&verified(&data)), ["WAL-NO-SEGMENTS"]);
    fs::remove_dir_all(&wal).unwrap();
    fs::create_dir(&wal).unwrap();
    assert_eq!(codes(&verified(&wal)), ["WAL-NO-SEGMENTS"]);
}

/// A directory, a FIFO or a link to nowhere under a segment's name must neither hang nor end the reading.
#[test]
fn what_is_no_file_under_a_segments_name_is_a_finding() {
    let (_keep, data) = copied();
    fs::create_dir(data.join("member/wal/0000000000000001-00000000000000bf.wal")).unwrap();
    let report = verified(&data);
    assert_eq!(codes(&report), ["WAL-UNREADABLE"], "{:#?}", told(&report));
    assert_eq!(report.log.segments.len(), 2);
}

#[test]
fn a_segment_alone_is_not_blamed_for_what_the_others_hold() {
    let dir = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.16/segments/data.tar.zst", dir.path());
    let wal = dir.path().join("data/member/wal");
    let mut segments = 0;
    for entry in fs::read_dir(&wal).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            assert_clean(&verified(&path), &path.display().to_string());
            segments += 1;
        }
    }
    assert_eq!(segments, 4);
}

#[test]
fn another_members_snap_is_noticed() {
    let (_keep, data) = copied();
    let snap_dir = data.join("member/snap");
    let newest = fs::read_dir(&snap_dir).unwrap().map(|entry| entry.unwrap().path());
    let newest =
        newest.into_iter().filter(|path| path.extension().is_some_and(|e| e == "snap")).max().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    let (term, index) = wal::parse_snap_name(&name).unwrap();
    let member = snapshot::membership::Member {
        id: 7,
        peer_urls: vec!["http://x:1".to_owned()],
        ..snapshot::membership::Member::default()
    };
    let store = snapshot::v2store::restored_store(&[member], snapshot::target::TargetVersion::V3_5);
    fs::write(&newest, wal::encode_snap(&store, index, term, &[7], wal::Dialect::V3_5)).unwrap();
    assert_eq!(codes(&verified(&data)), ["WAL-SNAPSHOT-MEMBERS", "WAL-NOT-A-MEMBER"]);
    // The same file at another term.
    fs::write(&newest, wal::encode_snap(&store, index, term + 1, &[7], wal::Dialect::V3_5)).unwrap();
    let found = codes(&verified(&data));
    assert!(found.contains(&"SNAP-NAME") && found.contains(&"WAL-SNAPSHOT-TERM"), "{found:?}");
}

/// A server whose newest snapshot is newer than its db does not start, and no db is as old as can be. Booted on 3.4.23,
/// 3.5.1 and 3.5.16.
#[test]
fn a_db_that_is_gone_is_no_clean_log() {
    let (_keep, data) = copied();
    fs::remove_file(data.join("member/snap/db")).unwrap();
    let report = verified(&data);
    assert_eq!(codes(&report), ["SNAP-NO-DB"]);
    let finding = &report.findings[0].finding;
    assert_eq!(finding.severity, Severity::Error);
    assert!(finding.message.contains("there is no db,"), "{}", finding.message);
    assert!(
        report.verdicts.iter().all(
            |verdict| matches!(&verdict.start, Start::Fails { words, .. } if words.contains("database snapshot"))
        ),
        "{:?}",
        report.verdicts
    );
}
