//! A db and a log of one run: both or neither, whenever it is stopped or refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bbolt::Watch;
use common::tiny;
use generate::{DbOutput, GenerateError, LogOptions, LogOutput, Outputs, Preset, Shape, db, log_dir};

/// Does something when the log begins, and may ask to stop.
struct AtTheLog<F: Fn() + Sync> {
    act: F,
    stop: bool,
    reached: AtomicBool,
}

impl<F: Fn() + Sync> AtTheLog<F> {
    fn new(stop: bool, act: F) -> Self {
        Self { act, stop, reached: AtomicBool::new(false) }
    }
}

impl<F: Fn() + Sync> Watch for AtTheLog<F> {
    fn begin(&self, stage: &'static str, _total_bytes: u64) {
        if stage == "writing the log" {
            (self.act)();
            self.reached.store(true, Ordering::Relaxed);
        }
    }

    fn advance(&self, _bytes: u64) {}

    fn interrupted(&self) -> bool {
        self.stop && self.reached.load(Ordering::Relaxed)
    }
}

fn outputs(dir: &Path) -> Outputs {
    Outputs {
        db: Some(DbOutput { path: dir.join("new/a.db"), trailer: true }),
        log: Some(LogOutput { dir: dir.join("new/member/wal"), options: LogOptions::default() }),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut open = vec![dir.to_owned()];
    let mut found = Vec::new();
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn both_get_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let watch = AtTheLog::new(false, || {
        // The db is whole by now, and is not called what it will be.
        assert!(dir.path().join("new/a.db.etcd-rescue-partial").is_file());
        assert!(!dir.path().join("new/a.db").exists());
    });
    let written = outputs(dir.path()).write(&tiny(), &watch).unwrap();
    assert_eq!(written.db.unwrap().live_keys, written.log.unwrap().live_keys);
    let segment = "new/member/wal/0000000000000000-0000000000000000.wal";
    assert_eq!(names(dir.path()), ["new", "new/a.db", "new/member", "new/member/wal", segment]);
}

#[test]
fn an_interrupt_during_the_log_leaves_no_db() {
    let dir = tempfile::tempdir().unwrap();
    let watch = AtTheLog::new(true, || {});
    let error = outputs(dir.path()).write(&tiny(), &watch).unwrap_err();
    assert!(matches!(error, GenerateError::Interrupted), "{error}");
    assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
}

/// The log is named second, so somebody may take its name when the db has its own.
#[test]
fn a_log_whose_name_is_taken_meanwhile_leaves_no_db() {
    let dir = tempfile::tempdir().unwrap();
    let watch = AtTheLog::new(false, || fs::create_dir(dir.path().join("new/member/wal")).unwrap());
    let error = outputs(dir.path()).write(&tiny(), &watch).unwrap_err();
    assert!(error.to_string().contains("appeared while"), "{error}");
    assert_eq!(names(dir.path()), ["new", "new/member", "new/member/wal"]);

    // Where nothing of another's is in them, the directories made for the db go too.
    let outside = tempfile::tempdir().unwrap();
    let mut apart = outputs(dir.path());
    apart.db = Some(DbOutput { path: outside.path().join("x/y/a.db"), trailer: false });
    apart.log.as_mut().unwrap().dir = dir.path().join("wal");
    let watch = AtTheLog::new(false, || fs::write(dir.path().join("wal"), "theirs").unwrap());
    let error = apart.write(&tiny(), &watch).unwrap_err();
    assert!(error.to_string().contains("appeared while"), "{error}");
    assert!(names(outside.path()).is_empty(), "{:?}", names(outside.path()));
    assert_eq!(fs::read(dir.path().join("wal")).unwrap(), b"theirs");
}

#[test]
fn a_db_whose_name_is_taken_meanwhile_leaves_no_log() {
    struct Take<'a>(&'a Path);
    impl Watch for Take<'_> {
        fn begin(&self, stage: &'static str, _total_bytes: u64) {
            if stage == "writing the log" {
                fs::write(self.0.join("a.db"), "theirs").unwrap();
            }
        }
        fn advance(&self, _bytes: u64) {}
        fn interrupted(&self) -> bool {
            false
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut both = outputs(dir.path());
    both.db.as_mut().unwrap().path = dir.path().join("a.db");
    let error = both.write(&tiny(), &Take(dir.path())).unwrap_err();
    assert!(error.to_string().contains("appeared while"), "{error}");
    assert_eq!(names(dir.path()), ["a.db"]);
    assert_eq!(fs::read(dir.path().join("a.db")).unwrap(), b"theirs");
}

/// Asks to stop at the look of that number.
struct StopAt {
    look: u64,
    looks: AtomicU64,
    written_bytes: AtomicU64,
}

impl StopAt {
    fn look(look: u64) -> Self {
        Self { look, looks: AtomicU64::new(0), written_bytes: AtomicU64::new(0) }
    }
}

impl Watch for StopAt {
    fn advance(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn interrupted(&self) -> bool {
        self.looks.fetch_add(1, Ordering::Relaxed) >= self.look
    }
}

/// However few revisions there are, a wish to stop is noticed within each long loop.
#[test]
fn the_wish_to_stop_is_looked_at_in_every_long_loop() {
    let one = Shape {
        revisions: 1,
        records: 1_000,
        deletes: 0,
        live_keys: 1_000,
        leases: 0,
        ..Shape::preset(Preset::Big, 1)
    };
    let first_pass = Shape { revisions: 1_000, compacted: true, ..one.clone() };
    let leases = Shape { records: 1, live_keys: 1, leases: 1_000, ..one.clone() };
    let dir = tempfile::tempdir().unwrap();
    for (name, shape, nothing_yet) in
        [("operations", one, false), ("first pass", first_pass, true), ("leases", leases, false)]
    {
        let watch = StopAt::look(500);
        let stopped = db(&shape, &mut Vec::new(), &watch);
        assert!(matches!(stopped, Err(GenerateError::Interrupted)), "{name}: {stopped:?}");
        assert_eq!(watch.written_bytes.into_inner() == 0, nothing_yet, "{name}");
        let watch = StopAt::look(500);
        let stopped = log_dir(&shape, &dir.path().join("wal"), LogOptions::default(), &watch);
        assert!(matches!(stopped, Err(GenerateError::Interrupted)), "{name}: {stopped:?}");
        assert!(names(dir.path()).is_empty());
    }
}
