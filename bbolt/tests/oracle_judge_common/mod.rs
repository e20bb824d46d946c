//! Files on their way to the judge, and what it must see in them.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use testdata::oracle::{Digest, Judge, Sight};

/// Transactions that each file has to survive three times over.
pub(crate) const ROUNDS: usize = 8;

/// Files that wait for their verdict together.
const AT_ONCE: usize = 25;

/// What a bucket should hold; the root bucket is one without a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) sequence: u64,
    pub(crate) entries: BTreeMap<Vec<u8>, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Value(Vec<u8>),
    Bucket(Content),
}

impl Content {
    /// Top-level buckets of plain pairs.
    pub(crate) fn of_buckets(model: &BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>) -> Self {
        let bucket = |pairs: &BTreeMap<Vec<u8>, Vec<u8>>| {
            let entries = pairs.iter().map(|(key, value)| (key.clone(), Entry::Value(value.clone())));
            Entry::Bucket(Self { sequence: 0, entries: entries.collect() })
        };
        let entries = model.iter().map(|(name, pairs)| (name.clone(), bucket(pairs)));
        Self { sequence: 0, entries: entries.collect() }
    }

    /// What the judge is to see in a file with this root bucket.
    pub(crate) fn sight(&self) -> Sight {
        let mut seen = (0, 0, Digest::default());
        self.add_to(&mut seen);
        Sight { buckets: seen.0, keys: seen.1, digest: seen.2.value() }
    }

    fn add_to(&self, seen: &mut (u64, u64, Digest)) {
        for (key, entry) in &self.entries {
            match entry {
                Entry::Value(value) => {
                    seen.1 += 1;
                    seen.2.pair(key, value);
                }
                Entry::Bucket(inner) => {
                    seen.0 += 1;
                    seen.2.begin_bucket(key, inner.sequence);
                    inner.add_to(seen);
                    seen.2.end_bucket();
                }
            }
        }
    }
}

/// Files before the judge, a batch at a time.
pub(crate) struct Dock {
    judge: Judge,
    dir: tempfile::TempDir,
    /// Of the first file of the next batch.
    seed: usize,
    judged: usize,
    waiting: Vec<(PathBuf, Sight)>,
}

impl Dock {
    pub(crate) fn new(seed: usize) -> Self {
        Self { judge: Judge::find(), dir: tempfile::tempdir().unwrap(), seed, judged: 0, waiting: Vec::new() }
    }

    /// A new name for a file that is about to be written and then given to [`Dock::accept_file`].
    pub(crate) fn path(&self, label: &str) -> PathBuf {
        self.dir.path().join(format!("{}-{label}", self.seed + self.waiting.len()))
    }

    /// Wants `file` to hold `content` and to live; `label` tells which it is when it does not.
    #[track_caller]
    pub(crate) fn accept(&mut self, label: &str, file: &[u8], content: &Content) {
        let path = self.path(label);
        fs::write(&path, file).unwrap();
        self.accept_file(path, content);
    }

    /// [`Dock::accept`] of a file that is already at its [`Dock::path`].
    #[track_caller]
    pub(crate) fn accept_file(&mut self, path: PathBuf, content: &Content) {
        self.waiting.push((path, content.sight()));
        if self.waiting.len() == AT_ONCE {
            self.judge();
        }
    }

    #[track_caller]
    fn judge(&mut self) {
        let (files, expected): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().unzip();
        let seen = self.judge.accept(self.seed, ROUNDS, &files);
        for ((seen, expected), file) in seen.iter().zip(&expected).zip(&files) {
            assert_eq!(seen, expected, "{}", file.display());
            fs::remove_file(file).unwrap();
        }
        self.seed += files.len();
        self.judged += files.len();
    }

    /// Judges those that still wait; at least `least` must have been judged in all.
    #[track_caller]
    pub(crate) fn close(mut self, least: usize) {
        self.judge();
        assert!(self.judged >= least, "only {} files were judged", self.judged);
    }
}
