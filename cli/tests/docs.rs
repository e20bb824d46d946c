//! The documents are true: every example in them is run, every finding code is explained, every link leads somewhere.
//!
//! A fence ```` ```console ```` holds commands after `$ ` and what they print. The commands of one document run in order, in a
//! directory of their own, with `etcd-rescue` (or `cargo run --release -p etcd-rescue --`) being the binary under test; stdout
//! and stderr come together, as on a terminal. In what is expected, `...` stands for anything within a line, and a line of
//! `...` for any number of lines. A command must succeed, unless the next one is `echo $?`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the documents show in place of the directory the examples run in.
const SHOWN_HOME: &str = "/home/me/etcd-rescue";

/// Their `sh` fences are run, on real clusters, by `oracle_runbooks`.
const RUNBOOKS: &str = "docs/runbooks";

/// The languages a fence may have: console is run, the others are not.
const LANGUAGES: [&str; 4] = ["console", "sh", "text", "yaml"];

/// Lines with an etcd-rescue command outside of a console fence, and why they are not run.
const NOT_RUN: [(&str, &str, &str); 7] = [
    ("CONTRIBUTING.md", "cargo build -p etcd-rescue", "the build itself"),
    ("README.md", "install -m 0755 target/", "the path of a release build, which takes minutes"),
    ("docs/restore.md", "scp etcd-rescue snapshot.db node-a:", "needs the operator's hosts"),
    ("docs/restore.md", "etcd-rescue snapshot restore snapshot.db --name n1 \\", "writes /var/lib/etcd"),
    ("docs/restore.md", "etcd-rescue snapshot restore snapshot.db --name node-a", "writes /var/lib/etcd"),
    ("docs/salvage.md", "etcd-rescue salvage db.img --bad-map db.map", "needs a broken disk, and ddrescue"),
    ("docs/salvage.md", "etcd-rescue salvage db.img older.db", "needs a broken disk, and ddrescue"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The documents with examples, relative to the repository.
fn documents() -> Vec<String> {
    let mut found: Vec<String> = ["docs", RUNBOOKS]
        .iter()
        .flat_map(|dir| fs::read_dir(root().join(dir)).unwrap().map(move |entry| (dir, entry.unwrap())))
        .map(|(dir, entry)| format!("{dir}/{}", entry.file_name().into_string().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    found.push("README.md".to_owned());
    found.push("CONTRIBUTING.md".to_owned());
    found.sort();
    found
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap()
}

/// A fenced block: its language, the number of its first line, its lines.
#[derive(Debug, PartialEq)]
struct Fence<'a> {
    language: &'a str,
    line: usize,
    lines: Vec<&'a str>,
}

fn fences(text: &str) -> Vec<Fence<'_>> {
    let mut found: Vec<Fence<'_>> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                open = true;
                found.push(Fence { language, line: index + 2, lines: Vec::new() });
            }
            None if open => found.last_mut().unwrap().lines.push(line),
            None => {}
        }
    }
    assert!(!open, "a fence is not closed");
    found
}

/// One command and what it is said to print.
#[derive(Debug, PartialEq)]
struct Example {
    line: usize,
    command: String,
    expected: Vec<String>,
}

fn examples(fence: &Fence<'_>) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut continued = false;
    for (index, line) in fence.lines.iter().enumerate() {
        if continued {
            let command = &mut found.last_mut().unwrap().command;
            command.push('\n');
            command.push_str(line);
            continued = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ") {
            found.push(Example {
                line: fence.line + index,
                command: command.to_owned(),
                expected: Vec::new(),
            });
            continued = line.ends_with('\\');
        } else {
            let example = found.last_mut().expect("a console fence begins with a command");
            example.expected.push((*line).to_owned());
        }
    }
    found
}

/// True when `line` is what `pattern` says, `...` standing for anything. Editors take blanks off the ends of lines, so those
/// do not count.
fn line_matches(pattern: &str, line: &str) -> bool {
    let (pattern, line) = (pattern.trim_end(), line.trim_end());
    let pieces: Vec<&str> = pattern.split("...").collect();
    let [first, middle @ .., last] = pieces.as_slice() else { return pattern == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// True when `lines` are what `patterns` say, a pattern of `...` standing for any number of lines.
fn output_matches(patterns: &[String], lines: &[&str]) -> bool {
    // Which counts of lines the patterns so far can have used up.
    let mut reached = vec![false; lines.len() + 1];
    reached[0] = true;
    for pattern in patterns {
        let mut next = vec![false; lines.len() + 1];
        if pattern == "..." {
            let first = reached.iter().position(|used| *used).unwrap_or(next.len());
            next[first..].fill(true);
        } else {
            for (index, line) in lines.iter().enumerate() {
                next[index + 1] = reached[index] && line_matches(pattern, line);
            }
        }
        reached = next;
    }
    reached[lines.len()]
}

/// A directory as the documents assume it, and the programs they name.
struct Scratch {
    _keep: tempfile::TempDir,
    home: PathBuf,
    bin: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        // Restores take hundreds of megabytes: not where /tmp may be memory.
        let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let at = fs::canonicalize(keep.path()).unwrap();
        let (home, bin) = (at.join("home"), at.join("bin"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_etcd-rescue"), bin.join("etcd-rescue")).unwrap();
        let cargo = bin.join("cargo");
        fs::write(
            &cargo,
            "#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = 'run --release -p etcd-rescue --' ] || exit 99\nshift 5\n\
             exec etcd-rescue \"$@\"\n",
        )
        .unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        // What README's reader has is the repository; the other documents say that they assume these two.
        symlink(testdata::path("fixtures").parent().unwrap(), home.join("testdata")).unwrap();
        fs::write(home.join("snapshot.db"), testdata::snapshot("3.5.30", "s3-final")).unwrap();
        testdata::data_dir("3.5.30", &home.join("unpacked"));
        fs::rename(home.join("unpacked/data"), home.join("dead-node")).unwrap();
        fs::remove_dir_all(home.join("unpacked")).unwrap();
        Self { _keep: keep, home, bin }
    }

    /// Three members of one cluster, which a document may assume that speaks of `dead-nodes`.
    fn with_members(self) -> Self {
        testdata::unpack("3.5.30/cluster3/data.tar.zst", &self.home.join("dead-nodes"));
        self
    }

    /// A member of 3.6, which a document may assume that speaks of `unpacked-3.6`.
    fn with_newer_member(self) -> Self {
        testdata::data_dir("3.6.14", &self.home.join("unpacked"));
        fs::rename(self.home.join("unpacked/data"), self.home.join("unpacked-3.6")).unwrap();
        fs::remove_dir(self.home.join("unpacked")).unwrap();
        self
    }

    /// Runs `command` after one that ended with `status`; gives its status and all it printed.
    fn run(&self, command: &str, status: i32) -> (i32, String) {
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1 </dev/null\n(exit {status})\n{command}")])
            .current_dir(&self.home)
            .env("PATH", path)
            .env_remove("TMPDIR")
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let shown = printed.replace(&self.home.display().to_string(), SHOWN_HOME);
        (output.status.code().unwrap(), shown)
    }
}

#[test]
fn every_example_prints_what_the_documents_say() {
    let mut wrong = Vec::new();
    let mut commands = 0;
    for document in documents() {
        let text = read(&document);
        let all: Vec<Example> = fences(&text)
            .iter()
            .filter(|fence| fence.language == "console")
            .flat_map(|fence| examples(fence))
            .collect();
        if all.is_empty() {
            continue;
        }
        let mut scratch = Scratch::new();
        if text.contains("dead-nodes") {
            scratch = scratch.with_members();
        }
        if text.contains("unpacked-3.6") {
            scratch = scratch.with_newer_member();
        }
        let mut status = 0;
        for (index, example) in all.iter().enumerate() {
            commands += 1;
            let printed;
            (status, printed) = scratch.run(&example.command, status);
            let at = format!("{document}:{}: {}", example.line, example.command);
            let asked = all.get(index + 1).is_some_and(|next| next.command == "echo $?");
            if status != 0 && !asked {
                wrong.push(format!("{at}\nended with {status}:\n{printed}"));
            }
            let lines: Vec<&str> = printed.lines().collect();
            if !output_matches(&example.expected, &lines) {
                let expected = example.expected.join("\n");
                wrong.push(format!("{at}\n--- expected\n{expected}\n--- printed\n{printed}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(commands >= 15, "only {commands} examples were found");
}

#[test]
fn what_is_not_run_is_listed_here() {
    let mut used = BTreeSet::new();
    for document in documents() {
        let text = read(&document);
        for fence in fences(&text) {
            let at = format!("{document}:{}", fence.line);
            assert!(LANGUAGES.contains(&fence.language), "{at}: a fence of language {:?}", fence.language);
            if fence.language == "console" || (fence.language == "sh" && document.starts_with(RUNBOOKS)) {
                continue;
            }
            let calls = |line: &&&str| {
                line.split_whitespace().any(|word| word == "etcd-rescue" || word.ends_with("/etcd-rescue"))
            };
            for line in fence.lines.iter().filter(calls) {
                let listed = NOT_RUN
                    .iter()
                    .position(|(file, start, _)| *file == document && line.trim().starts_with(start));
                let Some(index) = listed else {
                    panic!("{at}: a command that is neither run nor listed: {line}")
                };
                used.insert(index);
            }
        }
    }
    assert_eq!(used.len(), NOT_RUN.len(), "NOT_RUN lists lines that are gone");
}

/// Every flag that the documents show with a command of ours exists, also where it is not run.
#[test]
fn every_flag_exists() {
    let scratch = Scratch::new();
    let mut known = BTreeSet::new();
    for command in [
        "",
        "snapshot status",
        "snapshot restore",
        "snapshot save",
        "snapshot hash",
        "wal verify",
        "verify",
        "wal repair",
        "snap dump",
        "man",
    ] {
        let (status, help) = scratch.run(&format!("etcd-rescue {command} --help"), 0);
        assert_eq!(status, 0, "{help}");
        known.extend(flags(&help).map(str::to_owned));
    }
    assert!(known.contains("--all-members") && known.contains("--io"), "{known:?}");
    // Flags of programs that stand on one line with ours.
    let foreign = ["--release"];
    for document in documents() {
        let text = read(&document);
        for (index, line) in text.lines().enumerate() {
            let ours = line.split("etcd-rescue snapshot").skip(1);
            for flag in ours.flat_map(flags).filter(|flag| !foreign.contains(flag)) {
                assert!(known.contains(flag), "{document}:{}: there is no flag {flag}", index + 1);
            }
        }
    }
}

/// The words of `text` that are long flags.
fn flags(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.len() > 2 && word.starts_with("--") && !word[2..].starts_with('-'))
}

#[test]
fn every_link_leads_somewhere() {
    let mut all = documents();
    all.extend(["ARCHITECTURE.md", "SHORTCOMINGS.md", "CHANGELOG.md"].map(str::to_owned));
    let mut links = 0;
    for document in all {
        let text = read(&document);
        let base = root().join(&document).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            assert!(!file.is_empty() && base.join(file).exists(), "{document}: no {target}");
            links += 1;
        }
    }
    assert!(links > 5, "only {links} links were found");
}

/// `docs/findings.md` explains each code of the crates `snapshot` and `wal`, and none that there is not. (Those of `bbolt`
/// are held against it there.)
#[test]
fn every_finding_is_explained() {
    let ours = |part: &&str| {
        let family = ["SNAP-", "ETCD-", "WAL-", "SALVAGE-"].iter().any(|start| part.starts_with(start));
        family
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-')
    };
    let mut used = BTreeSet::new();
    let mut paths = ["snapshot/src", "wal/src"].map(|dir| root().join(dir)).to_vec();
    while let Some(path) = paths.pop() {
        // The catalogue, from which the document is made, uses none.
        if path.ends_with("finding/catalogue") || path.ends_with("finding/catalogue.rs") {
            continue;
        }
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let source = fs::read_to_string(path).unwrap();
        used.extend(source.split('"').filter(ours).map(str::to_owned));
    }
    let text = read("docs/findings.md");
    let explained: BTreeSet<String> = text.split('`').filter(ours).map(str::to_owned).collect();
    assert_eq!(used, explained);
    assert!(used.len() > 10, "{used:?}");
}

#[test]
fn the_matcher_knows_right_from_wrong() {
    let matches = |pattern: &str, text: &str| {
        let patterns: Vec<String> = pattern.lines().map(str::to_owned).collect();
        output_matches(&patterns, &text.lines().collect::<Vec<_>>())
    };
    assert!(matches("", ""));
    assert!(matches("a\nb", "a\nb"));
    assert!(matches("...", "") && matches("...", "a\nb"));
    assert!(matches("a\n...\nd", "a\nb\nc\nd") && matches("a\n...\nd", "a\nd"));
    assert!(matches("...\nc\n...", "a\nc\nb\nc\nd"));
    assert!(matches("size ... of ...", "size 3 MB of 7") && matches("size...", "size "));
    assert!(!matches("", "a") && !matches("a", "") && !matches("a", "a\nb") && !matches("a\nb", "b\na"));
    assert!(!matches("a\n...\nd", "a\nb") && !matches("a...b...a", "aba-"));
    assert!(!matches("...\nx\n...", "a\nb"));

    let text = "x\n```console\n$ one \\\n  two\nout\n$ three\n```\ny\n```sh\nz\n```\n";
    let found = fences(text);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], Fence { language: "sh", line: 10, lines: vec!["z"] });
    let commands = examples(&found[0]);
    assert_eq!(commands.len(), 2);
    assert_eq!((commands[0].line, commands[0].command.as_str()), (3, "one \\\n  two"));
    assert_eq!((commands[0].expected.as_slice(), commands[1].expected.len()), (&["out".to_owned()][..], 0));
}
