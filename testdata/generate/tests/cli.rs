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
    let small: &[&str] =
        if arguments.iter().any(|a| ["--scale", "--size"].contains(a)) { &[] } else { &SMALL };
    Command::new(cargo_bin("etcd-rescue-generate"))
        .args(small)
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
        (&["-o", "a", "--size", "0"], 2, "0 bytes"),
        (&["-o", "a", "--txn-size", "0"], 2, "cannot share"),
        (&["-o", "a", "--page-size", "0"], 2, "pages of 0 bytes"),
        (&["-o", "a", "--page-size", "1000"], 2, "pages of 1000 bytes"),
        (&["-o", "a", "--value-bytes", "0..4294967295"], 2, "values of 4294967295 bytes"),
        (&["-o", "a", "--leases", "4294967295"], 2, "4294967295 leases"),
        (
            &["-o", "a", "--revisions", "1", "--txn-size", "4000000000"],
            2,
            "4000000000 keys in one transaction",
        ),
        (
            &["-o", "a", "--revisions", "1", "--txn-size", "400000000", "--live-share", "1"],
            2,
            "400000000 keys",
        ),
        (&["--wal", "w", "--segment-bytes", "0"], 2, "0 bytes"),
        (&["--wal", "w", "--segment-bytes", "1"], 2, "segments of 1 bytes"),
        (&["--wal", "w", "--revisions", "1", "--txn-size", "1000000"], 2, "entries of about"),
        (&["-o", "a", "--entry-kind", "put"], 2, "--wal"),
        (&["-o", "a", "--wal", "a"], 2, "neither can be or hold"),
        (&["-o", "a/b", "--wal", "a"], 2, "neither can be or hold"),
        (&["-o", "taken"], 1, "exists already"),
        // Nothing is made before all of it can be.
        (&["-o", "new/a", "--wal", "new/w", "--segment-bytes", "1"], 2, "segments of 1 bytes"),
        (&["-o", "new/a", "--wal", "taken", "--scale", "100"], 1, "taken is a file"),
        (&["-o", "taken", "--wal", "new/w", "--scale", "100"], 1, "exists already"),
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
        .args(["--preset", "big", "--scale", "2", "-o", "a.db", "--wal", "new/member/wal"])
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

/// The first segments of a log, one after the other, without the zeros that the last one ends with.
fn log_bytes(dir: &Path) -> Vec<u8> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut all = Vec::new();
    for name in names {
        let bytes = fs::read(name).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        all.extend_from_slice(&bytes[..end]);
    }
    all
}

/// What was generated once can be generated again by every later version: these sums are of the first one that could.
#[test]
fn the_same_arguments_give_the_same_bytes_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    for (number, (arguments, db, log)) in [
        (
            "--preset big --scale 0.0005 --seed 5",
            "ec74b66e71ee6687922cb9fc0d1e0265a678772143ad41c3cd16e65bd9b8d2cd",
            "008728f6d0d01e51a7653265c629eeeec2abf109b4b800414495b5dfcb22d0e0",
        ),
        (
            "--preset frag --scale 0.0005 --seed 6 --members 3",
            "f7cb826804c53f6d696460cbac43b93ca4d0fa0cbb460f6b20163b50dbd12eda",
            "f8af308dc64253f214672118a9116c373cf58c1fc72f67fc7d6f22d49049383a",
        ),
        (
            "--preset flat --scale 0.0005 --seed 7",
            "40022a7e1314addece680b2a4a303536118d944558b354f6621d99901bf9ba13",
            "c050e735c08351e607ac51b2197bfc59398caa5a842e0f3aaaba3acd46228b88",
        ),
        // Transactions that touch nearly every key.
        (
            "--scale 1 --revisions 4 --txn-size 400 --live-share 30 --value-bytes 0..90 --value-mean 20",
            "317dff1356cb60903ad0f47902c492a95396ab00a2a62dad4347286fb92077ef",
            "a4042befebcca3e0ad2c8fe572ee993097b423427e5fe8cc204cd08546df57bf",
        ),
        (
            "--preset frag --scale 0.001 --revisions 9 --sweeps 3 --etcd 3.6 --value-bytes 0..600 --value-mean 100",
            "da3573463c5a2546ddead3b2ed8a757719a12be6797635309242caa1771f2ebe",
            "8f9b0df007a38982dae641411c863487210691429b30ac8c326190df8cffccaa",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (file, wal) = (format!("{number}.db"), format!("{number}.wal"));
        let mut all: Vec<&str> = arguments.split(' ').collect();
        all.extend(["-o", &file, "--wal", &wal, "--segment-bytes", "65536"]);
        let output = run(dir.path(), &all);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(testdata::sha256_hex(fs::read(dir.path().join(file)).unwrap()), db, "{arguments}");
        assert_eq!(testdata::sha256_hex(log_bytes(&dir.path().join(wal))), log, "{arguments}");
    }
}

#[test]
fn key_shapes_and_entry_kinds_change_what_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for (number, arguments) in [
        &["--key-shape", "kubernetes", "--entry-kind", "mixed"][..],
        &["--key-shape", "flat"],
        &["--key-shape", "deep"],
        &["--entry-kind", "put"],
        &["--entry-kind", "txn"],
    ]
    .into_iter()
    .enumerate()
    {
        let (file, wal) = (format!("{number}.db"), format!("{number}.wal"));
        let mut all = vec!["--preset", "flat", "--scale", "0.0002", "-w", "json", "-o", &file, "--wal", &wal];
        all.extend(arguments);
        let mut told = json(&run(dir.path(), &all));
        let db = testdata::sha256_hex(fs::read(dir.path().join(&file)).unwrap());
        let log = testdata::sha256_hex(log_bytes(&dir.path().join(&wal)));
        // What follows from the names' bytes; the history is the same.
        for name in ["hash", "image_bytes"] {
            told["db"][name].take();
        }
        for name in ["record_bytes", "segments"] {
            told["log"][name].take();
        }
        seen.push((db, log, told));
    }
    let [default, flat, deep, put, txn] = &seen[..] else { unreachable!() };
    assert!(default.0 != flat.0 && default.0 != deep.0 && flat.0 != deep.0);
    assert!(default.0 == put.0 && default.0 == txn.0);
    let logs: std::collections::BTreeSet<_> = seen.iter().map(|(_, log, _)| log).collect();
    assert_eq!(logs.len(), 5);
    assert!(seen.iter().all(|(_, _, told)| *told == default.2));
}

#[test]
fn what_a_killed_run_left_is_named_by_the_next_for_the_same_output() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.db.etcd-rescue-partial"), "x").unwrap();
    fs::create_dir(dir.path().join("w.etcd-rescue-partial")).unwrap();
    fs::write(dir.path().join("b.db.etcd-rescue-partial"), "x").unwrap();
    let output = run(dir.path(), &["-q", "-o", "a.db", "--wal", "w"]);
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let named: Vec<&str> = stderr.lines().collect();
    let [db, log] = named[..] else { panic!("{stderr}") };
    assert!(db.starts_with("warning: ") && db.contains("a.db.etcd-rescue-partial"), "{db}");
    assert!(log.starts_with("warning: ") && log.contains("w.etcd-rescue-partial"), "{log}");
    // Naming is not removing.
    assert_eq!(fs::read(dir.path().join("a.db.etcd-rescue-partial")).unwrap(), b"x");
    assert!(dir.path().join("w.etcd-rescue-partial").is_dir());
}
