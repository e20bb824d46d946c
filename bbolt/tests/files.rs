//! Locks, and files that shrink while they are read.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test itself may")]

mod common;

use std::fs::{File, OpenOptions as FsOpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bbolt::file::FileError;
use bbolt::{Io, Lock, OpenOptions, check, open};
use common::*;
use rustix::fs::{FlockOperation, flock};

fn file(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("db");
    std::fs::write(&path, built(4096, 3000)).unwrap();
    path
}

fn shared(timeout: Option<Duration>) -> OpenOptions {
    OpenOptions { io: Io::Mmap, lock: Lock::Shared { timeout } }
}

#[test]
fn a_server_s_lock_keeps_readers_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    let server = File::open(&path).unwrap();
    flock(&server, FlockOperation::LockExclusive).unwrap();

    let start = Instant::now();
    let error = open(&path, &shared(Some(Duration::from_millis(150)))).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert!(matches!(&error, FileError::Locked { path: p, .. } if *p == path), "{error}");
    assert!(error.to_string().contains("in all likelihood by a running etcd"), "{error}");
    assert!(matches!(open(&path, &shared(Some(Duration::ZERO))), Err(FileError::Locked { .. })));

    let unlocked = OpenOptions { io: Io::Mmap, lock: Lock::None };
    assert!(check(&open(&path, &unlocked).unwrap(), &()).is_sound());

    drop(server);
    assert!(open(&path, &shared(Some(Duration::ZERO))).is_ok());
}

/// The lock comes free while we wait.
#[test]
fn waiting_ends_when_the_lock_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    let server = File::open(&path).unwrap();
    flock(&server, FlockOperation::LockExclusive).unwrap();
    let waiter = std::thread::spawn(move || open(&path, &shared(None)).map(|db| check(&db, &()).is_sound()));
    std::thread::sleep(Duration::from_millis(120));
    assert!(!waiter.is_finished());
    drop(server);
    assert!(waiter.join().unwrap().unwrap());
}

#[test]
fn readers_share_and_keep_a_server_out() {
    for io in [Io::Mmap, Io::Pread] {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        let options = OpenOptions { io, lock: Lock::Shared { timeout: Some(Duration::ZERO) } };
        let (one, two) = (open(&path, &options).unwrap(), open(&path, &options).unwrap());
        let server = File::open(&path).unwrap();
        assert!(flock(&server, FlockOperation::NonBlockingLockExclusive).is_err());
        drop((one, two));
        assert!(flock(&server, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = open(&missing, &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("missing"), "{error}");
    for io in [Io::Mmap, Io::Pread] {
        let options = OpenOptions { io, lock: Lock::None };
        let error = open(dir.path(), &options).unwrap_err().to_string();
        assert!(error.contains("directory"), "{error}");
        let empty = dir.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(matches!(open(&empty, &options), Err(FileError::Open { .. })));
    }
}

/// With `pread`, a file cut short while it is read is an ordinary finding.
#[test]
fn a_file_cut_short_under_pread_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    let db = open(&path, &OpenOptions { io: Io::Pread, lock: Lock::None }).unwrap();
    FsOpenOptions::new().write(true).open(&path).unwrap().set_len(8192).unwrap();
    let report = check(&db, &());
    assert!(!report.is_sound());
    assert!(report.findings.iter().any(|f| f.fault.code() == "BBOLT-UNREADABLE"), "{:?}", report.findings);
}

const CHILD: &str = "BBOLT_TEST_FILE";

/// Under a map it is SIGBUS, which must end as a message and exit code 1. In a process of its own: this test again.
#[test]
fn a_file_cut_short_under_a_map_is_an_error() {
    if let Some(path) = std::env::var_os(CHILD) {
        let path = Path::new(&path);
        let db = open(path, &OpenOptions { io: Io::Mmap, lock: Lock::None }).unwrap();
        FsOpenOptions::new().write(true).open(path).unwrap().set_len(8192).unwrap();
        let report = check(&db, &());
        panic!("read a page that is not there: {report:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_file_cut_short_under_a_map_is_an_error", "--nocapture"])
        .env(CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(1), "{:?}: {said}", child.status);
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    assert!(said.contains("--io pread"), "{said}");
    assert!(said.contains("at byte "), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// Reading leaves no trace on what is read.
#[test]
fn inputs_do_not_change() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    let before = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap());
    for io in [Io::Mmap, Io::Pread] {
        let db = open(&path, &OpenOptions { io, ..OpenOptions::default() }).unwrap();
        assert!(check(&db, &()).is_sound());
    }
    let after = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap());
    assert!(before.0 == after.0);
    let times = |m: &std::fs::Metadata| (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.len());
    assert_eq!(times(&before.1), times(&after.1));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
