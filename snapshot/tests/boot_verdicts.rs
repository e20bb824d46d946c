//! What is foretold of a start, against what real servers did with every row of the table of damage
//! (`testdata/log-boots`, which `oracle_log_boots` has them do again).
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeMap;
use std::env;
use std::ops::ControlFlow;

use bbolt::OpenOptions;
use snapshot::boot::{Beside, Start, verdicts};
use snapshot::log_files::{self, LogOptions};
use snapshot::schema::Schema;
use testdata::damage::{Base, DAMAGES, MemberDir};

/// Of a line of the table: outcome, and what raft found or the server said.
#[derive(Debug, PartialEq, Eq)]
struct Booted {
    outcome: String,
    numbers: Option<[u64; 4]>,
    words: String,
}

fn booted(version: &str) -> BTreeMap<String, Booted> {
    let table = std::fs::read_to_string(testdata::path(&format!("log-boots/{version}.tsv"))).unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| {
            let [name, outcome, snapshot, commit, index, term, _, words] =
                line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let numbers: Option<Vec<u64>> =
                [snapshot, commit, index, term].iter().map(|number| number.parse().ok()).collect();
            let booted = Booted {
                outcome: outcome.to_owned(),
                numbers: numbers.map(|numbers| numbers.try_into().unwrap()),
                words: words.to_owned(),
            };
            (name.to_owned(), booted)
        })
        .collect()
}

fn foretold(member: &MemberDir, booted_release: &str) -> (Start, Vec<Start>) {
    let files = log_files::open(member.path(), &LogOptions::default(), &()).unwrap();
    let log = wal::log::read(&files, &|_| ControlFlow::Continue(())).unwrap();
    let schema = files.db_path().map(|path| {
        let db = bbolt::open(path, &OpenOptions::default()).unwrap();
        Schema::read(&db).unwrap()
    });
    let beside = Beside::of(&files, schema.as_ref());
    let all = verdicts(&beside.scene(&log, &files));
    let own =
        all.iter().find(|verdict| verdict.release.booted == Some(booted_release)).unwrap().start.clone();
    (own, all.into_iter().map(|verdict| verdict.start).collect())
}

/// What a verdict says, in the table's terms; of a failure the table's words, when those foretold are among them.
fn in_the_tables_terms(start: &Start, recorded: &Booted) -> Booted {
    let (outcome, found, words) = match start {
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

fn the_servers_did_so(version: &str) {
    let recorded = booted(version);
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for base in Base::ALL {
        // 250 MB a row: the other versions' in the soak.
        if base == Base::Segments && version != "3.5.16" && env::var_os("ETCD_RESCUE_SOAK").is_none() {
            continue;
        }
        let clean = base.unpack(version, &scratch.path().join(base.name()));
        for damage in DAMAGES.iter().filter(|damage| damage.base == base) {
            let dir = scratch.path().join("copy");
            let mut member = clean.copy_to(&dir);
            damage.damage(&mut member);
            let (start, _) = foretold(&member, version);
            let told = in_the_tables_terms(&start, &recorded[damage.name]);
            if told != recorded[damage.name] {
                wrong.push(format!(
                    "{}: foretold {start:?}, the server {:?}",
                    damage.name, recorded[damage.name]
                ));
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::remove_dir_all(clean.path()).unwrap();
    }
    assert!(wrong.is_empty(), "{version}: {wrong:#?}");
}

#[test]
fn etcd_3_4_does_what_is_foretold() {
    the_servers_did_so("3.4.23");
}

#[test]
fn etcd_3_5_1_does_what_is_foretold() {
    the_servers_did_so("3.5.1");
}

#[test]
fn etcd_3_5_16_does_what_is_foretold() {
    the_servers_did_so("3.5.16");
}
