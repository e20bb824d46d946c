//! Broken pipes, full devices, signals.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rstest::rstest;

use crate::run::{Room, binary};

#[test]
fn a_broken_pipe_is_a_clean_exit() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    for args in [&["snapshot", "status", "snapshot.db"][..], &["man"], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(binary());
        command.current_dir(room.path()).args(args).stdout(writer).stderr(Stdio::piped());
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("Error") && !stderr.contains("panic"), "{stderr}");
    }
}

#[test]
fn a_mismatch_is_code_3_even_when_nobody_reads() {
    let room = Room::new();
    let mut bytes = testdata::snapshot("3.5.30", "s3-final");
    *bytes.last_mut().expect("a last byte") ^= 1;
    room.write("db", &bytes);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = Command::new(binary())
        .current_dir(room.path())
        .args(["snapshot", "status", "db", "-q"])
        .stdout(writer)
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.expect("it runs").code(), Some(3));
}

#[test]
fn a_full_device_is_an_error() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    let output = Command::new(binary())
        .current_dir(room.path())
        .args(["snapshot", "status", "snapshot.db"])
        .stdout(full)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Error: writing to standard output"));
}

/// A job that waits for the lock this test holds, so that a signal comes before its work begins.
struct Waiting {
    room: Room,
    lock: File,
    child: Child,
}

impl Waiting {
    fn new(args: &[&str]) -> Self {
        let room = Room::with_snapshot("3.5.30", "s3-final");
        let lock = OpenOptions::new().read(true).write(true).open(room.path().join("snapshot.db"));
        let lock = lock.expect("the snapshot opens");
        lock.lock().expect("the exclusive lock a server holds");
        let child = Command::new(binary())
            .current_dir(room.path())
            .args(args)
            .args(["--timeout=0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        // The handlers are in place long before this is over.
        sleep(Duration::from_secs(2));
        Self { room, lock, child }
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.expect("there is a program called kill").success());
        sleep(Duration::from_millis(300));
    }
}

#[rstest]
#[case("-INT", 130)]
#[case("-TERM", 143)]
fn the_first_signal_stops_the_job_and_nothing_is_left(#[case] signal: &str, #[case] code: i32) {
    let waiting = Waiting::new(&["snapshot", "restore", "snapshot.db"]);
    waiting.signal(signal);
    drop(waiting.lock);
    let output = waiting.child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"), "{output:?}");
    assert_eq!(waiting.room.names(), ["snapshot.db"]);
}

#[test]
fn the_second_ctrl_c_ends_a_job_that_did_not_hear_the_first() {
    let mut waiting = Waiting::new(&["snapshot", "status", "snapshot.db"]);
    waiting.signal("-INT");
    if let Some(status) = waiting.child.try_wait().expect("its state") {
        assert_eq!(status.code(), Some(130), "the first one was heard while waiting for the lock");
        return;
    }
    waiting.signal("-INT");
    let status = waiting.child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(2));
}
