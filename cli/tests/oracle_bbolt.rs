//! `bbolt …` beside the real bbolt tool, 1.4.3 or later: where that one succeeds, ours prints the same to the byte; where it fails, so
//! does ours.
//!
//! | differs | real | ours |
//! |---|---|---|
//! | why a command failed | on stdout | on stderr |
//! | a page number that is the overflow of another page | a line that says so, exit 0 | the same line, and an exit code of its own |
//!
//! The outputs of 1.4.3 and 1.5.0 that are recorded in `testdata/samples` are the same for all commands used here.
//! Takes some 3 s.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;

use bbolt::{Build, BuildOptions, FreelistSync};

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

/// A file with nested buckets, sequences, binary keys, long values and free pages: `free_pairs` of a page each are discarded.
fn generated(path: &Path, page_size: u32, freelist: FreelistSync, free_pairs: u32) {
    let file = fs::File::create_new(path).unwrap();
    let options = BuildOptions { page_size, freelist, ..BuildOptions::default() };
    let mut build = Build::new(&file, options).unwrap();
    let long = vec![0xB5; usize::try_from(page_size).unwrap()];
    build.begin_bucket(b"aside").unwrap();
    for number in 0..free_pairs {
        build.put(&number.to_be_bytes(), &long[..long.len() / 2]).unwrap();
    }
    build.discard_bucket().unwrap();
    build.begin_bucket(b"outer").unwrap();
    build.set_sequence(7);
    for number in 0..2000u32 {
        let value = vec![u8::try_from(number % 251).unwrap(); usize::try_from(number % 97).unwrap()];
        build.put(&[b"\x00\xff", &number.to_be_bytes()[..]].concat(), &value).unwrap();
    }
    build.begin_bucket(b"inner").unwrap();
    build.set_sequence(9);
    build.begin_bucket(b"core").unwrap();
    build.put(b"\x01", b"").unwrap();
    build.end_bucket().unwrap();
    build.put(b"long", &long.repeat(5)).unwrap();
    build.end_bucket().unwrap();
    build.put("sch\u{f6}n".as_bytes(), "\u{263a}\n\"quoted\"\\".as_bytes()).unwrap();
    build.end_bucket().unwrap();
    build.begin_bucket(b"void").unwrap();
    build.end_bucket().unwrap();
    build.finish().unwrap();
}

#[rstest::rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
#[case(4096, FreelistSync::Persisted, 60)]
#[case(16384, FreelistSync::NotPersisted, 60)]
#[case(65536, FreelistSync::Persisted, 0)]
// More free pages than a freelist's count has room for: the first id is the count.
#[case(1024, FreelistSync::Persisted, 140_000)]
fn oracle_a_generated_file_is_shown_as_bbolt_shows_it(
    #[case] page_size: u32,
    #[case] freelist: FreelistSync,
    #[case] free_pairs: u32,
) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("made.db");
    generated(&file, page_size, freelist, free_pairs);
    let mut both = Both::new();
    for line in [
        "info F",
        "buckets F",
        "pages F",
        "stats F",
        "stats F o",
        "stats F nope",
        "inspect F",
        "check F",
        "keys F outer",
        "keys F outer inner",
        "keys F outer inner core",
        "keys F void",
        "keys F outer nope",
        "get F outer inner long",
        "get F outer sch\u{f6}n",
        "get --format hex --parse-format hex F outer 00ff00000011",
        "get --format hex --parse-format hex F outer inner core 01",
        "get --parse-format hex F outer zz",
        "get F outer inner",
    ] {
        both.run(&file, line);
    }
    for format in FORMATS {
        both.run(&file, &format!("keys --format {format} F outer"));
        both.run(&file, &format!("get --format {format} F outer sch\u{f6}n"));
    }
    for page in 0..8 {
        both.run(&file, &format!("page F {page}"));
        both.run(&file, &format!("page --format-value hex F {page}"));
        both.run(&file, &format!("page-item F {page} 1"));
    }
    both.done(50);
}
