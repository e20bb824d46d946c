//! What real programs do with every row of the table of damaged bbolt files is what the table says they do.
#![allow(clippy::expect_used, reason = "tests")]

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use testdata::bbolt_damage::{DAMAGES, Damage, Peer};
use testdata::oracle::{Bbolt, Run, Tools, Version};

/// Of memory, bbolt takes in a cycle what Go gives it, 1 GB a stack and more for copies of it.
const MEMORY_KIB: u32 = 3_000_000;
/// A program that is said to hang is given this long; one that crashes on these files does so within milliseconds.
const HANGS_AFTER_S: u32 = 1;
/// One that is not said to hang.
const ENDS_WITHIN_S: u32 = 20;
const THREADS: usize = 3;
/// bbolt checks beside its main thread: it can print OK, and even end, before the check has come to its panic.
const TRIES: usize = 20;

/// `command`, with bounds of memory and time around it.
fn bounded(command: &Command, seconds: u32) -> Command {
    let mut around = Command::new("sh");
    let script = format!("ulimit -v {MEMORY_KIB}; ulimit -c 0; exec timeout -s KILL {seconds} \"$@\"");
    around.arg("-c").arg(script).arg("sh");
    around.arg(command.get_program()).args(command.get_args());
    around
}

fn outcome(run: &Run) -> Peer {
    let crashed = ["panic: ", "fatal error: ", "goroutine "].iter().any(|word| run.stderr.contains(word));
    let counted = |text: &str| text.contains("errors found");
    match run.status.code() {
        // What `timeout` ends itself with after it killed.
        Some(137) | None => Peer::Hangs,
        _ if crashed => Peer::Panics,
        Some(0) => Peer::SaysOk,
        Some(_) if counted(&run.stdout) || counted(&run.stderr) => Peer::Reports,
        Some(_) => Peer::Refuses,
    }
}

/// What the program does with a copy of the damaged file, where that is not what is expected of it.
fn surprise(damage: &Damage, expected: Peer, file: &str, command: &Command) -> Option<String> {
    fs::write(file, damage.make()).expect("a file");
    let seconds = if expected == Peer::Hangs { HANGS_AFTER_S } else { ENDS_WITHIN_S };
    let mut surprise = None;
    for _ in 0..TRIES {
        let run = Run::to_end(bounded(command, seconds));
        let outcome = outcome(&run);
        if outcome == expected {
            return None;
        }
        let said: String = run.stderr.chars().take(300).collect();
        surprise = Some(format!("{}: {outcome:?}, the table has {expected:?}: {said}", damage.name));
    }
    surprise
}

/// About 15 s, most of it waiting for what hangs.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_peers_do_with_damaged_files_what_the_table_says() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (bbolt, etcdutl) = (Bbolt::find(), Tools::find(Version::V3_5_1));
    assert!(bbolt.release().starts_with("1.4."), "{}", bbolt.release());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = |thread: usize| {
        let file = scratch.path().join(format!("db{thread}"));
        let file = file.to_str().expect("text");
        while let Some(damage) = DAMAGES.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut check = bbolt.command();
            check.args(["check", file]);
            let mut status = etcdutl.command("etcdutl");
            status.args(["snapshot", "status", file]);
            for (expected, command) in [(damage.bbolt, check), (damage.etcdutl, status)] {
                let told = surprise(damage, expected, file, &command);
                wrong.lock().expect("no test panics with it").extend(told);
            }
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(thread));
        }
    });
    let wrong = wrong.into_inner().expect("no test panics with it");
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}
