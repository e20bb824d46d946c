//! What real programs do with every row of the table of damaged bbolt files is what the table says they do.

use std::fs;
use std::process::Command;

use testdata::bbolt_damage::{DAMAGES, Peer};
use testdata::oracle::{Bbolt, Run, Tools, Version};

/// What bbolt does with a cycle takes memory until there is none, or until Go's limit of 1 GB a stack: it is given less.
const MEMORY_KIB: u32 = 2 << 20;

/// `command`, with bounds of memory and time around it.
fn bounded(command: &Command) -> Command {
    let mut around = Command::new("sh");
    around.arg("-c").arg(format!("ulimit -v {MEMORY_KIB}; ulimit -c 0; exec timeout 20 \"$@\"")).arg("sh");
    around.arg(command.get_program()).args(command.get_args());
    around
}

fn outcome(run: &Run) -> Peer {
    let crashed = ["panic: ", "fatal error: ", "goroutine "].iter().any(|word| run.stderr.contains(word));
    let counted = |text: &str| text.contains("errors found");
    match run.status.code() {
        Some(124) => Peer::Hangs,
        _ if crashed => Peer::Panics,
        None => Peer::Panics,
        Some(0) => Peer::SaysOk,
        Some(_) if counted(&run.stdout) || counted(&run.stderr) => Peer::Reports,
        Some(_) => Peer::Refuses,
    }
}

/// About 10 s.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_peers_do_with_damaged_files_what_the_table_says() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (bbolt, etcdutl) = (Bbolt::find(), Tools::find(Version::V3_5_1));
    assert!(bbolt.release().starts_with("1.4."), "{}", bbolt.release());
    let mut wrong = Vec::new();
    for damage in DAMAGES {
        let file = scratch.path().join("db");
        let file = file.to_str().expect("text");
        let run_on = |command: Command| {
            fs::write(file, damage.make()).expect("a file");
            let run = Run::to_end(bounded(&command));
            (outcome(&run), run)
        };
        let mut check = bbolt.command();
        check.args(["check", file]);
        let mut status = etcdutl.command("etcdutl");
        status.args(["snapshot", "status", file]);
        let (checked, check) = run_on(check);
        let (told, status) = run_on(status);
        if (checked, told) != (damage.bbolt, damage.etcdutl) {
            let tail = |run: &Run| {
                format!(
                    "{} {}",
                    run.stdout.chars().take(160).collect::<String>(),
                    run.stderr.chars().take(160).collect::<String>()
                )
                .replace('\n', " | ")
            };
            wrong.push(format!(
                "{} {checked:?} {told:?}, the table has {:?} {:?}\n    {}\n    {}",
                damage.name,
                damage.bbolt,
                damage.etcdutl,
                tail(&check),
                tail(&status)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}
