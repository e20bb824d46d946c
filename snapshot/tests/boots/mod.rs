//! What is foretold of a start, in the terms of the tables of what servers did.
#![allow(dead_code, reason = "each test binary uses its share")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bbolt::OpenOptions;
use snapshot::boot::{Beside, Start, verdicts};
use snapshot::log_files::{self, LogOptions};
use snapshot::schema::Schema;
use testdata::damage::MemberDir;

/// Of a line of the table: outcome, and what raft found or the server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Booted {
    pub(crate) outcome: String,
    pub(crate) numbers: Option<[u64; 4]>,
    pub(crate) words: String,
}

pub(crate) fn booted(version: &str) -> BTreeMap<String, Booted> {
    let table = std::fs::read_to_string(testdata::path(&format!("log-boots/{version}.tsv"))).unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| {
            let (name, rest) = line.split_once('\t').unwrap();
            (name.to_owned(), Booted::parse(rest))
        })
        .collect()
}

impl Booted {
    /// The columns behind the damage's name.
    pub(crate) fn parse(columns: &str) -> Self {
        let [outcome, snapshot, commit, index, term, _, words] =
            columns.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let numbers: Option<Vec<u64>> =
            [snapshot, commit, index, term].iter().map(|number| number.parse().ok()).collect();
        Self {
            outcome: outcome.to_owned(),
            numbers: numbers.map(|numbers| numbers.try_into().unwrap()),
            words: words.to_owned(),
        }
    }
}

/// What is foretold of the release that was booted.
pub(crate) fn foretold(member: &MemberDir, booted_release: &str) -> Start {
    let files = log_files::open(member.path(), &LogOptions::default(), &()).unwrap();
    let log = wal::log::read(&files, &|_| ControlFlow::Continue(())).unwrap();
    let schema = files.db_path().map(|path| {
        let db = bbolt::open(path, &OpenOptions::default()).unwrap();
        Schema::read(&db).unwrap()
    });
    let beside = Beside::of(&files, schema.as_ref());
    let all = verdicts(&beside.scene(&log, &files));
    all.into_iter().find(|verdict| verdict.release.booted == Some(booted_release)).unwrap().start
}

/// What a verdict says, in the table's terms; of a failure the table's words, when those foretold are among them.
pub(crate) fn in_the_tables_terms(start: &Start, recorded: &Booted) -> Booted {
    let (outcome, found, words) = match start {
        Start::Starts(found) | Start::StartsAfterCut { found, .. } if found.voterless => {
            ("no-leader", Some(found), "-")
        }
        Start::Starts(found) => ("starts", Some(found), "-"),
        Start::StartsAfterCut { found, .. } => ("cuts", Some(found), "-"),
        Start::FoundsNewCluster => ("new-cluster", None, "-"),
        Start::Fails { words, .. } if recorded.words.contains(words) => {
            ("fails", None, recorded.words.as_str())
        }
        Start::Fails { words, .. } => ("fails", None, *words),
    };
    Booted {
        outcome: outcome.to_owned(),
        numbers: found.map(|found| [found.snapshot.index, found.commit, found.last.index, found.last.term]),
        words: words.to_owned(),
    }
}
