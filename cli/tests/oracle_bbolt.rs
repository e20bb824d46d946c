//! `bbolt …` beside the real bbolt tool, 1.4.3 or later: where that one succeeds, ours prints the same to the byte; where it fails, so
//! does ours.
//!
//! | differs | real | ours |
//! |---|---|---|
//! | why a command failed | on stdout | on stderr |
//! | a page number that is the overflow of another page | a line that says so, exit 0 | the same line, and an exit code of its own |
//!
//! The outputs of 1.4.3 and 1.5.0 that are recorded in `testdata/samples` are the same for all commands used here.
//! Takes some 10 s.

mod support;

use std::fs;
use std::path::Path;

use support::{rescue, text};
use testdata::oracle::Bbolt;

/// The formats of keys and values.
const FORMATS: [&str; 5] = ["auto", "ascii-encoded", "hex", "bytes", "redacted"];

struct Both {
    real: Bbolt,
    compared: usize,
    wrong: Vec<String>,
}

impl Both {
    fn new() -> Self {
        Self { real: Bbolt::find(), compared: 0, wrong: Vec::new() }
    }

    /// Runs both with the words of `line` and, in place of `F`, `file`.
    fn run(&mut self, file: &Path, line: &str) {
        let words: Vec<&str> =
            line.split(' ').map(|word| if word == "F" { text(file) } else { word }).collect();
        let real = self.real.run(&words);
        let ours = rescue(["bbolt"].iter().chain(&words));
        self.compared += 1;
        let is_overflow = real.stdout.contains("Continuing...");
        let is_same = match (real.status.success(), ours.status.success()) {
            (true, true) => real.stdout == ours.stdout,
            (true, false) => is_overflow && real.stdout == ours.stdout,
            (false, ours) => !ours,
        };
        if !is_same {
            let (real, ours): (String, String) =
                (real.stdout.chars().take(300).collect(), ours.stdout.chars().take(300).collect());
            self.wrong.push(format!("{line}: real:\n{real}\nours:\n{ours}"));
        }
    }

    #[track_caller]
    fn done(self, at_least: usize) {
        assert!(self.compared >= at_least, "{} comparisons", self.compared);
        assert!(self.wrong.is_empty(), "{} differ: {:#?}", self.wrong.len(), self.wrong);
    }
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_server_s_file_is_shown_as_bbolt_shows_it() {
    let scratch = tempfile::tempdir().unwrap();
    let db = testdata::data_dir("3.5.30", scratch.path()).join("member/snap/db");
    let file = scratch.path().join("etcd.db");
    fs::copy(db, &file).unwrap();
    let mut both = Both::new();
    for line in
        ["info F", "buckets F", "pages F", "stats F", "stats F m", "inspect F", "page --all F", "dump F 2 3"]
    {
        both.run(&file, line);
    }
    for bucket in ["key", "meta", "authUsers", "lease", "members_removed", "nope"] {
        both.run(&file, &format!("keys F {bucket}"));
        for format in FORMATS {
            both.run(&file, &format!("keys --format {format} F {bucket}"));
        }
    }
    for format in FORMATS {
        both.run(&file, &format!("get --format {format} F meta term"));
        both.run(&file, &format!("page-item --format {format} F 4 3"));
        both.run(&file, &format!("page-item --key-only --format {format} F 31 0"));
    }
    both.run(&file, "get F cluster clusterVersion");
    both.run(&file, "get F cluster nope");
    both.run(&file, "page-item --key-only --value-only F 4 0");
    for page in [0, 1, 2, 3, 4, 5, 8, 9, 31, 32, 56, 57, 58] {
        both.run(&file, &format!("page F {page}"));
        both.run(&file, &format!("dump F {page}"));
        both.run(&file, &format!("page-item F {page} 0"));
        both.run(&file, &format!("page-item --value-only F {page} 50"));
    }
    both.done(100);
}
