//! Files on their way to the judge, and what it must see in them.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bbolt::{Db, LeafRange};
use testdata::oracle::{Digest, Judge, Sight};

/// Transactions that each file has to survive three times over.
pub(crate) const ROUNDS: usize = 8;

/// Files that wait for their verdict together.
const AT_ONCE: usize = 25;

/// What the judge is to see in a file of these buckets and pairs.
pub(crate) fn sight_of(buckets: &BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>) -> Sight {
    let mut digest = Digest::default();
    for (name, pairs) in buckets {
        digest.begin_bucket(name, 0);
        for (key, value) in pairs {
            digest.pair(key, value);
        }
        digest.end_bucket();
    }
    let keys = buckets.values().map(|pairs| pairs.len() as u64).sum();
    Sight { buckets: buckets.len() as u64, keys, digest: digest.value() }
}

/// Leaves of the top-level bucket `name`.
pub(crate) fn leaf_count(file: &[u8], name: &[u8]) -> usize {
    let db = Db::from_source(file).unwrap();
    db.bucket(name).unwrap().unwrap().leaf_ranges(1).unwrap().iter().map(LeafRange::leaf_count).sum()
}

/// How many children a branch has at most when its keys are a 32nd of a page long.
pub(crate) fn fan_out(page_size: usize) -> usize {
    (page_size - 16) / (page_size / 32 + 16)
}

/// Numbers of leaves that leave 0, 1 or 2 over, or one short, when they are shared out to one branch or two.
pub(crate) fn leaf_counts(page_size: usize) -> Vec<usize> {
    let one = fan_out(page_size);
    let around = |middle: usize| middle - 1..=middle + 2;
    around(one).chain(around(2 * one)).collect()
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

    /// Wants `file` to hold what makes such a sight, and to live; `label` tells which it is when it does not.
    #[track_caller]
    pub(crate) fn accept(&mut self, label: &str, file: &[u8], expected: Sight) {
        let path = self.dir.path().join(format!("{}-{label}", self.seed + self.waiting.len()));
        fs::write(&path, file).unwrap();
        self.waiting.push((path, expected));
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
