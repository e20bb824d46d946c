//! What a runbook says to type, and where.
//!
//! A fence ```` ```sh ```` begins with a comment that names the hosts, `# on m1` or `# on m1, m2 and m3`; the commands behind it are typed
//! there, on several hosts at the same time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One fence.
#[derive(Debug)]
pub(crate) struct Block {
    /// The last heading of the second level before it.
    pub(crate) heading: String,
    /// The line of its first command, counted from 1.
    pub(crate) line: usize,
    /// Where it is typed.
    pub(crate) hosts: Vec<String>,
    /// What is typed, a command each, with line numbers.
    pub(crate) commands: Vec<(usize, String)>,
}

/// One document.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) blocks: Vec<Block>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks")
}

/// The names of all runbooks, sorted. README.md is their index.
pub(crate) fn pages() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    names.sort();
    names
}

impl Page {
    #[track_caller]
    pub(crate) fn read(name: &str) -> Self {
        let path = directory().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self::of(name, &text)
    }

    #[track_caller]
    pub(crate) fn of(name: &str, text: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let mut heading = String::new();
        let mut fence: Option<(usize, Vec<&str>)> = None;
        let mut skipped = false;
        for (index, line) in text.lines().enumerate() {
            let at = format!("{name}:{}", index + 1);
            if let Some((start, lines)) = &mut fence {
                if line == "```" {
                    let (first, rest) = lines.split_first().unwrap_or_else(|| panic!("{at}: an empty fence"));
                    blocks.push(Block {
                        heading: heading.clone(),
                        line: *start + 1,
                        hosts: hosts(first)
                            .unwrap_or_else(|| panic!("{at}: '# on HOST' is missing: {first}")),
                        commands: commands(rest, *start + 1),
                    });
                    fence = None;
                } else {
                    lines.push(line);
                }
            } else if skipped {
                assert!(!line.contains("etcd-rescue "), "{at}: a command that is not run: {line}");
                skipped = line != "```";
            } else if let Some(language) = line.strip_prefix("```") {
                match language {
                    "sh" => fence = Some((index + 2, Vec::new())),
                    "text" => skipped = true,
                    other => panic!("{at}: a fence of language {other:?}"),
                }
            } else if let Some(title) = line.strip_prefix("## ") {
                title.clone_into(&mut heading);
            }
        }
        assert!(fence.is_none() && !skipped, "{name}: a fence is not closed");
        assert!(!blocks.is_empty(), "{name} has nothing to run");
        Self { name: name.to_owned(), blocks }
    }
}

/// The hosts of `# on m1, m2 and m3`.
fn hosts(comment: &str) -> Option<Vec<String>> {
    let names = comment.strip_prefix("# on ")?.replace(" and ", ", ");
    let names: Vec<String> = names.split(", ").map(str::to_owned).collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(' ')).then_some(names)
}

/// Lines to commands: what a backslash, an open construct or a here-document continues belongs together.
fn commands(lines: &[&str], first: usize) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in lines.iter().enumerate() {
        let (start, text) = match open.take() {
            None if line.is_empty() || line.starts_with('#') => continue,
            None => (first + index, (*line).to_owned()),
            Some((start, text)) => (start, format!("{text}\n{line}")),
        };
        if is_whole(&text) { found.push((start, text)) } else { open = Some((start, text)) }
    }
    assert!(open.is_none(), "a command does not end: {open:?}");
    found
}

fn is_whole(text: &str) -> bool {
    let ended = |word: &str| text.lines().skip(1).any(|line| line == word);
    let document = text.split_once("<<'").and_then(|(_, rest)| rest.split_once('\''));
    if text.ends_with('\\') || document.is_some_and(|(word, _)| !ended(word)) {
        return false;
    }
    let checked = Command::new("sh").args(["-n", "-c", text]).output().unwrap();
    checked.status.success()
}

#[test]
fn a_page_is_taken_apart() {
    let text = "# T\n\n## One\n\n```sh\n# on m1\na \\\n  b\n# why\nfor x in 1; do\n  c\ndone\n```\n\n```text\nout\n```\n\n## Two\n```sh\n# on m1, \
                m2 and m3\ncat >f <<'END'\nx=1\n# y\nEND\nd\n```\n";
    let page = Page::of("t.md", text);
    let shown: Vec<_> = page.blocks.iter().map(|b| (b.heading.as_str(), b.line, b.hosts.len())).collect();
    assert_eq!(shown, [("One", 7, 1), ("Two", 22, 3)]);
    let typed = |n: usize| -> Vec<(usize, &str)> {
        page.blocks[n].commands.iter().map(|(line, text)| (*line, text.as_str())).collect()
    };
    assert_eq!(typed(0), [(7, "a \\\n  b"), (10, "for x in 1; do\n  c\ndone")]);
    assert_eq!(typed(1), [(22, "cat >f <<'END'\nx=1\n# y\nEND"), (26, "d")]);
    for wrong in [
        "```sh\na\n```\n",
        "```sh\n# on m1\na \\\n```\n",
        "```sh\n# on m1\na\n",
        "no fence\n",
        "```text\netcd-rescue x\n```\n",
    ] {
        assert!(std::panic::catch_unwind(|| Page::of("t.md", wrong)).is_err(), "{wrong}");
    }
}
