//! The generator as a program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

const SMALL: [&str; 4] = ["--scale", "0.0001", "--seed", "5"];

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(cargo_bin("etcd-rescue-generate"))
        .args(SMALL)
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_snapshot_a_db_and_a_log_are_written_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let told = json(&run(dir.path(), &["-o", "a.snapshot", "--trailer", "--wal", "m1/wal", "-w", "json"]));
    let snapshot = fs::read(dir.path().join("a.snapshot")).unwrap();
    let image_bytes = usize::try_from(told["db"]["image_bytes"].as_u64().unwrap()).unwrap();
    assert_eq!(snapshot.len(), image_bytes + 32);
    let trailer: String = snapshot[image_bytes..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(testdata::sha256_hex(&snapshot[..image_bytes]), trailer);
    assert_eq!(told["db"]["consistent_index"], told["log"]["entries"]);
    assert!(dir.path().join("m1/wal/0000000000000000-0000000000000000.wal").is_file());

    let plain = run(dir.path(), &["-o", "a.db"]);
    let text = String::from_utf8(plain.stdout).unwrap();
    assert_eq!(fs::read(dir.path().join("a.db")).unwrap(), snapshot[..image_bytes]);
    assert!(text.contains(&format!("db live keys: {}\n", told["db"]["live_keys"])), "{text}");
}

#[test]
fn exit_codes_are_those_of_the_main_program() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("taken"), "x").unwrap();
    for (arguments, code, said) in [
        (&[][..], 2, "required"),
        (&["-o", "a", "--txn-size", "0"], 2, "cannot share"),
        (&["-o", "a", "--page-size", "1000"], 1, "1000"),
        (&["-o", "taken"], 1, "exists already"),
        (&["--wal", "w", "--segment-bytes", "1"], 1, "segments of 1 bytes"),
    ] {
        let output = run(dir.path(), arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["taken"]);
    assert_eq!(fs::read(dir.path().join("taken")).unwrap(), b"x");
}

#[test]
fn a_run_that_is_asked_to_stop_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(cargo_bin("etcd-rescue-generate"))
        .args(["--preset", "big", "--scale", "2", "-o", "a.db"])
        .current_dir(dir.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let partial = dir.path().join("a.db.etcd-rescue-partial");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fs::metadata(&partial).is_ok_and(|file| file.len() > 0) {
        assert!(Instant::now() < deadline, "it did not begin to write");
        thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
