//! Every command that writes is in the table of jobs, with each flag by which it is told where to.

use std::collections::BTreeSet;

use super::jobs::JOBS;
use super::support_hostile::World;

/// Commands that leave nothing which a server could be started on, or which could be taken for a snapshot.
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "completion",
    "man",
    "version",
    "snapshot status",
    "snap dump",
    "wal dump",
    "wal verify",
    "bbolt check",
    "kv get",
    "kv list",
    "kv usage",
    "kv history",
    "list-bucket",
    "iterate-bucket",
    "hash",
    "hashkv",
    "kv diff",
    "scan-keys",
    "bbolt info",
    "bbolt buckets",
    "bbolt keys",
    "bbolt get",
    "bbolt pages",
    "bbolt page",
    "bbolt page-item",
    "bbolt dump",
    "bbolt stats",
    "bbolt inspect",
    "bbolt version",
    "bbolt surgery meta validate",
    "lease list",
    "auth show",
    "alarm list",
    "verify",
    "inspect",
    "compare",
    "member list",
    "member plan",
    "v2 list",
    "case sources",
    "case findings",
    "case key",
    "case timeline",
    "case at",
    "case diff",
    "case find",
    "case log",
    "case verify",
];
/// Those of them whose `--wal-dir` names a log to read.
const READ_A_LOG: [&str; 8] =
    ["wal dump", "wal verify", "inspect", "verify", "compare", "member list", "member plan", "v2 list"];
/// Those that edit a member write it by one room: what one of them is told of where to, all are.
const EDIT_A_MEMBER: [&str; 4] = ["member add", "member promote", "member remove", "member update"];
/// Those that change a case file: `case_file` cuts their power.
const CHANGE_A_CASE: [&str; 3] = ["case new", "case add", "case seal"];
/// Flags that name a place to write to.
const OUTPUT_FLAGS: [&str; 9] = [
    "--output",
    "--data-dir",
    "--wal-dir",
    "--output-wal-dir",
    "--backup-dir",
    "--backup-wal-dir",
    "--attach",
    "--all-members",
    "--clean",
];

/// The names of the subcommands, and of the flags that are not those of all commands, by `help`.
fn parts(help: &str) -> (Vec<&str>, BTreeSet<&str>) {
    let (mut section, mut commands, mut flags) = ("", Vec::new(), BTreeSet::new());
    for line in help.lines() {
        match line.strip_prefix("  ") {
            None if line.ends_with(':') => section = line,
            Some(name) if section == "Commands:" && !name.starts_with(' ') => {
                commands.extend(name.split_whitespace().next().filter(|name| *name != "help"));
            }
            Some(flag) if section == "Options:" && flag.trim_start().starts_with('-') => {
                let words = flag.split([' ', ',', '=', '[']);
                flags.extend(words.filter(|word| word.starts_with("--")));
            }
            _ => {}
        }
    }
    (commands, flags)
}

/// Every command without subcommands, and its flags.
fn commands() -> Vec<(String, BTreeSet<String>)> {
    let world = World::new();
    let (mut open, mut found) = (vec![String::new()], Vec::new());
    while let Some(command) = open.pop() {
        let ran = world.line(&format!("{command} --help"));
        ran.says(0, &[]);
        let (below, flags) = parts(&ran.stdout);
        if below.is_empty() {
            found.push((command.trim().to_owned(), flags.into_iter().map(str::to_owned).collect()));
        }
        open.extend(below.into_iter().map(|name| format!("{command} {name}")));
    }
    found
}

#[test]
fn a_command_that_writes_is_in_the_table() {
    let commands = commands();
    assert!(commands.len() > HARMLESS.len());
    for (command, flags) in &commands {
        let lines: Vec<&str> =
            JOBS.iter().map(|(_, job)| job.line).filter(|line| line.starts_with(command)).collect();
        let outputs: Vec<&str> = OUTPUT_FLAGS.into_iter().filter(|flag| flags.contains(*flag)).collect();
        if HARMLESS.contains(&command.as_str()) {
            let reads = READ_A_LOG.contains(&command.as_str());
            let outputs: Vec<&&str> =
                outputs.iter().filter(|flag| !(reads && **flag == "--wal-dir")).collect();
            assert!(outputs.is_empty() && lines.is_empty(), "{command} writes: {outputs:?} {lines:?}");
            continue;
        }
        if CHANGE_A_CASE.contains(&command.as_str()) {
            assert!(lines.is_empty() && flags.contains("--clean"), "{command}: {lines:?} {outputs:?}");
            continue;
        }
        let lines = if EDIT_A_MEMBER.contains(&command.as_str()) && !lines.is_empty() {
            let ours = |line: &&str| EDIT_A_MEMBER.iter().any(|command| line.starts_with(command));
            JOBS.iter().map(|(_, job)| job.line).filter(ours).collect()
        } else {
            lines
        };
        assert!(!lines.is_empty(), "{command} is neither harmless nor in the table of jobs");
        for flag in outputs {
            let short = if flag == "--output" { "-o" } else { flag };
            // What `--clean` is for is the same for files, whose remains are never taken for anything.
            let is_for_files = flag == "--clean" && !flags.contains("--data-dir");
            let is_used =
                lines.iter().any(|line| line.split_whitespace().any(|word| [flag, short].contains(&word)));
            // What is edited has a log that is read.
            let is_read = flag == "--wal-dir" && (flags.contains("--diverge") || command == "migrate");
            assert!(is_used || is_for_files || is_read, "no job of the table gives {command} its {flag}");
        }
    }
    let known: BTreeSet<&str> = commands.iter().map(|(command, _)| command.as_str()).collect();
    assert!(HARMLESS.iter().all(|command| known.contains(command)), "{known:?}");
}

#[test]
fn help_is_understood() {
    let help = "Does it\n\nUsage: x [OPTIONS] <COMMAND>\n\nCommands:\n  wal   Looks into\n          \
        logs\n  help  Print\n\nOptions:\n      --attach[=<BOOL>]\n          Write --more\n\n  -o, --output <OUT>\n\n\
        Global options:\n      --io <HOW>\n";
    let (commands, flags) = parts(help);
    assert_eq!(commands, ["wal"]);
    assert_eq!(flags.into_iter().collect::<Vec<_>>(), ["--attach", "--output"]);
}
