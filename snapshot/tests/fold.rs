//! Folding a log into its db, where files change meanwhile or the user stops it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bbolt::{Io, Lock, Watch};
use common::{dump, opened};
use snapshot::fold::{FoldError, FoldOptions};
use snapshot::log_files::{self, LogFiles, LogFilesError, LogOptions};
use snapshot::save::{SaveError, SaveOptions, SaveReport, save_folded};

/// Does something when a stage begins.
struct At<'a, F>(&'a str, F);

impl<F: Fn() + Sync> Watch for At<'_, F> {
    fn begin(&self, stage: &'static str, _total_bytes: u64) {
        if stage == self.0 {
            self.1();
        }
    }
    fn advance(&self, _bytes: u64) {}
    fn interrupted(&self) -> bool {
        false
    }
}

/// Says stop once a stage has begun.
struct StopAt(&'static str, std::sync::atomic::AtomicBool);

impl Watch for StopAt {
    fn begin(&self, stage: &'static str, _total_bytes: u64) {
        self.1.fetch_or(stage == self.0, std::sync::atomic::Ordering::Relaxed);
    }
    fn advance(&self, _bytes: u64) {}
    fn interrupted(&self) -> bool {
        self.1.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn killed() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.16/killed/data.tar.zst", scratch.path());
    let data = scratch.path().join("data");
    (scratch, data)
}

fn log(data: &Path) -> LogFiles {
    log_files::open(data, &LogOptions { io: Io::Mmap, lock: Lock::None, wal_dir: None }, &()).unwrap()
}

fn run(data: &Path, output: &Path, watch: &dyn Watch) -> Result<SaveReport, SaveError> {
    let options = SaveOptions { output: output.to_owned(), dry_run: false, owner: None };
    save_folded(&opened(data, Io::Mmap), &log(data), &FoldOptions::default(), &options, watch)
}

#[test]
fn a_directory_that_is_written_to_meanwhile_is_not_folded() {
    let (scratch, data) = killed();
    let output = scratch.path().join("saved.db");
    let touch = |path: PathBuf| {
        move || {
            File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
        }
    };
    let segment = data.join("member/wal/0000000000000000-0000000000000000.wal");
    let error = run(&data, &output, &At("applying the log", touch(segment))).unwrap_err();
    assert!(matches!(error, SaveError::Fold(FoldError::Files(LogFilesError::Changed { .. }))), "{error}");
    let error = run(&data, &output, &At("writing", touch(data.join("member/snap/db")))).unwrap_err();
    assert!(matches!(error, SaveError::Changed { .. }), "{error}");
    assert!(!output.exists());
    let added = data.join("member/wal/0000000000000001-0000000000000061.wal");
    let add = || drop(File::create(&added).unwrap());
    let error = run(&data, &output, &At("applying the log", add)).unwrap_err();
    assert!(error.to_string().contains("got or lost files"), "{error}");
    std::fs::remove_file(&added).unwrap();
    assert!(run(&data, &output, &()).is_ok());
}

#[test]
fn a_user_who_stops_it_is_heard_at_every_stage() {
    let (scratch, data) = killed();
    let output = scratch.path().join("saved.db");
    for stage in ["reading the log", "applying the log", "writing"] {
        let error = run(&data, &output, &StopAt(stage, false.into())).unwrap_err();
        assert_eq!(error.exit_code(), 130, "{stage}: {error}");
        assert_eq!(scratch.path().read_dir().unwrap().count(), 1, "{stage}");
    }
}

/// What was folded lies behind what the db had, and nothing else is other than it was but where the db stands.
#[test]
fn records_of_the_log_come_behind_those_of_the_db() {
    let (scratch, data) = killed();
    let output = scratch.path().join("saved.db");
    let report = run(&data, &output, &()).unwrap();
    let (before, after) = (dump(&data.join("member/snap/db")), dump(&output));
    let fold = report.fold.unwrap();
    assert_eq!((fold.before.index, fold.after.index, fold.account.entries), (84, 96, 12));
    let added = after["key"].iter().skip(before["key"].len());
    assert_eq!(added.count(), 12);
    assert!(before["key"].iter().eq(after["key"].iter().take(before["key"].len())));
    for (bucket, pairs) in &before {
        if bucket != "key" && bucket != "meta" {
            assert_eq!(pairs, &after[bucket], "{bucket}");
        }
    }
    assert_eq!(after["meta"][b"consistent_index".as_slice()], 96_u64.to_be_bytes());
}
