//! Every `bbolt` command on every row of the table of damaged bbolt files: it ends by itself, with an exit code of its own, and
//! leaves the file as it was; `bbolt check` finds what the row expects and nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testdata::bbolt_damage::{DAMAGES, Damage, PAGE};

/// No command takes a second for files of this size.
const LIMIT: Duration = Duration::from_secs(60);

/// What a command line came to.
struct Ran {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

/// Runs the program; one that runs for longer than [`LIMIT`] fails the test.
#[track_caller]
fn run(args: &[&str]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcd-rescue"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let stdout = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    });
    let stderr = thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap()
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{args:?} hangs");
        }
        thread::sleep(Duration::from_micros(500));
    };
    Ran { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// The subcommands of `group` that there are, as help lists them.
fn subcommands(group: &[&str]) -> Vec<String> {
    let ran = run(&[group, &["--help"]].concat());
    let help = String::from_utf8(ran.stdout).unwrap();
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The arguments that a command is tried with; `FILE` is the damaged file, `OUT` a path where nothing is. A command that is
/// not listed is tried with the file alone.
fn arguments(command: &str) -> &'static [&'static str] {
    match command {
        "check" => &["FILE", "--from-page 167 FILE", "--from-page 207 FILE", "--io pread FILE"],
        "keys" => &["FILE tree", "FILE inline", "FILE large", "FILE nested inner", "FILE key", "FILE no"],
        "get" => {
            &["FILE tree no", "FILE inline inline/1", "FILE large large/3", "FILE nested inner inner/001"]
        }
        "page" => &["FILE 0 1", "FILE 90 167", "FILE 207 208 5", "FILE 5000", "FILE 183", "--all FILE"],
        "page-item" => {
            &["FILE 90 0", "FILE 90 1", "FILE 167 2", "FILE 207 1", "FILE 5000 0", "FILE 90 60000"]
        }
        "dump" => &["FILE 90", "FILE 0", "FILE 188", "FILE 5000"],
        "pages" => &["FILE", "--map FILE"],
        "stats" => &["FILE", "FILE tree"],
        "compact" => &["-o OUT FILE"],
        "version" => &[""],
        "revert-meta-page" => &["FILE --output OUT"],
        "copy-page" => &[
            "FILE --from-page 90 --to-page 91 --output OUT",
            "FILE --from-page 188 --to-page 200 --output OUT",
        ],
        "clear-page" => &["FILE --pageId 90 --output OUT", "FILE --pageId 5000 --output OUT"],
        "clear-page-elements" => &[
            "FILE --pageId 90 --from-index 0 --to-index 1 --output OUT",
            "FILE --pageId 167 --from-index 2 --to-index -1 --output OUT",
        ],
        "abandon" | "rebuild" => &["FILE --output OUT"],
        "validate" => &["FILE"],
        "update" => &[
            "FILE --fields root:206 --meta-page 0 --output OUT",
            "FILE --fields pgid:209 --meta-page 1 --output OUT",
        ],
        _ => &["FILE"],
    }
}

/// Every command line there is to try, as words.
fn lines() -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut groups = vec![vec!["bbolt".to_owned()]];
    while let Some(group) = groups.pop() {
        let words: Vec<&str> = group.iter().map(String::as_str).collect();
        for name in subcommands(&words) {
            let path = [group.clone(), vec![name.clone()]].concat();
            let words: Vec<&str> = path.iter().map(String::as_str).collect();
            if !subcommands(&words).is_empty() {
                groups.push(path);
                continue;
            }
            for args in arguments(&name) {
                let args = args.split_whitespace().map(str::to_owned);
                lines.push(path.iter().cloned().chain(args).collect());
            }
        }
    }
    assert!(lines.len() >= 5, "{lines:?}");
    lines.push(["verify", "FILE"].map(str::to_owned).to_vec());
    lines
}

/// One of several shares of the rows, so that they are tried beside each other.
fn rows(share: usize) -> impl Iterator<Item = &'static Damage> {
    DAMAGES.iter().enumerate().filter(move |(number, _)| number % SHARES == share).map(|(_, damage)| damage)
}

const SHARES: usize = 4;

fn no_command_falls_over(share: usize) {
    let scratch = tempfile::tempdir().unwrap();
    let (file, out) = (scratch.path().join("db"), scratch.path().join("out"));
    let lines = lines();
    let mut wrong = Vec::new();
    for (number, damage) in rows(share).enumerate() {
        let bytes = damage.make();
        fs::write(&file, &bytes).unwrap();
        for (at, line) in lines.iter().enumerate() {
            let words: Vec<&str> = line
                .iter()
                .map(|word| match word.as_str() {
                    "FILE" => file.to_str().unwrap(),
                    "OUT" => out.to_str().unwrap(),
                    word => word,
                })
                // The other form of output is tried with a part of the rows.
                .chain((at + number).is_multiple_of(3).then_some("-wjson"))
                .collect();
            let ran = run(&words);
            if !matches!(ran.status.code(), Some(0..=4)) || ran.stderr.contains("panicked") {
                wrong.push(format!("{}: {words:?}: {}\n{}", damage.name, ran.status, ran.stderr));
            }
            remove(&out);
        }
        assert!(fs::read(&file).unwrap() == bytes, "{}: the file was changed", damage.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn no_command_falls_over_the_first_rows() {
    no_command_falls_over(0);
}

#[test]
fn no_command_falls_over_the_second_rows() {
    no_command_falls_over(1);
}

#[test]
fn no_command_falls_over_the_third_rows() {
    no_command_falls_over(2);
}

#[test]
fn no_command_falls_over_the_fourth_rows() {
    no_command_falls_over(3);
}

/// What `bbolt check -w json` finds, by code and page, each pair once; `None` when the file cannot be opened.
fn found(file: &Path) -> (Option<Vec<(String, u64)>>, Ran) {
    let ran = run(&["bbolt", "check", "-w", "json", file.to_str().unwrap()]);
    if ran.stdout.is_empty() {
        return (None, ran);
    }
    let result: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let pairs = result["findings"].as_array().unwrap().iter();
    let mut pairs: Vec<(String, u64)> = pairs
        .map(|found| (found["code"].as_str().unwrap().to_owned(), found["page"].as_u64().unwrap()))
        .collect();
    pairs.sort();
    pairs.dedup();
    (Some(pairs), ran)
}

#[test]
fn check_finds_what_each_row_expects_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("db");
    let mut wrong = Vec::new();
    for damage in DAMAGES {
        fs::write(&file, damage.make()).unwrap();
        let (found, ran) = found(&file);
        let expected = damage.expected();
        let wanted = expected
            .map(|all| all.into_iter().map(|(code, page)| (code.to_owned(), page)).collect::<Vec<_>>());
        let exit = match &wanted {
            None => 1,
            Some(all) if all.is_empty() => 0,
            Some(_) => 3,
        };
        if found != wanted || ran.status.code() != Some(exit) {
            wrong.push(format!(
                "{}: {}, expected {exit}\n  found    {found:?}\n  expected {wanted:?}\n  {}",
                damage.name, ran.status, ran.stderr
            ));
        }
        // What a file is that has not even a meta nobody can tell.
        let verified = run(&["verify", file.to_str().unwrap()]);
        let told = wanted.iter().flatten().all(|(code, _)| verified.stderr.contains(code));
        let exits: &[i32] = match &wanted {
            None => &[1, 3],
            Some(all) if all.is_empty() => &[0, 3],
            Some(_) => &[3],
        };
        if !told || !verified.status.code().is_some_and(|code| exits.contains(&code)) {
            wrong.push(format!("{}: verify: {}\n  {}", damage.name, verified.status, verified.stderr));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// A file cut at each page, and within: it is found to be short, and no cut makes anything fall over.
#[test]
fn a_cut_at_each_page_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("db");
    let whole = testdata::bbolt_damage::Base::Library.bytes();
    let pages = whole.len() / PAGE;
    for kept in 0..=pages {
        let end = (kept * PAGE + if kept % 2 == 0 { 0 } else { PAGE / 3 }).min(whole.len());
        fs::write(&file, &whole[..end]).unwrap();
        let (found, ran) = found(&file);
        let (is_short, exit) = match &found {
            None => (true, 1),
            Some(all) if end == whole.len() => (all.is_empty(), 0),
            Some(all) => (all.contains(&("BBOLT-SHORT-FILE".to_owned(), 0)), 3),
        };
        assert!(is_short, "{end} bytes: {found:?}");
        assert_eq!(ran.status.code(), Some(exit), "{end} bytes: {}", ran.stderr);
        assert!(found.is_some() || kept < 1, "{end} bytes: {}", ran.stderr);
    }
}
