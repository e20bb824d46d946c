//! The answers of `compare` and `recover`, as far as the test holds them against something.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use testdata::oracle::Run;

use super::support::{code, rescue, text};

/// Entries of one class.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) term: u64,
    pub(crate) class: String,
    /// Member IDs.
    pub(crate) held_by: Vec<String>,
}

/// What `compare -w json` says.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) run: Run,
    pub(crate) certain_to: u64,
    /// The last index that some file knows to be committed, whether a log has its entry or not.
    pub(crate) known_to: u64,
    pub(crate) has_quorum: bool,
    pub(crate) agree: bool,
    pub(crate) first_revision: Option<i64>,
    /// The one history that it found, ascending.
    pub(crate) chain: Vec<Stretch>,
    /// Entries off it.
    pub(crate) branches: Vec<Stretch>,
    /// The member's ID by the path that was given; none for a database alone.
    pub(crate) members: BTreeMap<String, String>,
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[track_caller]
fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[track_caller]
fn stretches(value: &Value) -> Vec<Stretch> {
    let all = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    all.iter()
        .map(|one| Stretch {
            first: number(&one["first"]),
            last: number(&one["last"]),
            term: number(&one["term"]),
            class: string(&one["class"]),
            held_by: one["heldBy"].as_array().unwrap().iter().map(string).collect(),
        })
        .collect()
}

impl Comparison {
    /// Compares what is left of one member or several.
    #[track_caller]
    pub(crate) fn of(inputs: &[&Path]) -> Self {
        let mut line = vec!["compare", "-w", "json"];
        line.extend(inputs.iter().map(|input| text(input)));
        let run = rescue(line);
        assert!(matches!(code(&run), 0 | 3), "{run:?}");
        let json: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run:?}"));
        let history = &json["history"];
        let members = json["members"].as_array().unwrap_or_else(|| panic!("{run:?}"));
        Self {
            certain_to: number(&history["certainTo"]),
            known_to: number(&history["knownTo"]),
            has_quorum: history["hasQuorum"].as_bool().unwrap(),
            agree: json["data"]["agree"].as_bool().unwrap_or(true),
            first_revision: json["data"]["firstRevision"].as_i64(),
            chain: stretches(&history["chain"]),
            branches: stretches(&history["branches"]),
            members: members
                .iter()
                .filter_map(|one| Some((string(&one["path"]), one["member"].as_str()?.to_owned())))
                .collect(),
            run,
        }
    }

    /// All that was classified.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Stretch> {
        self.chain.iter().chain(&self.branches)
    }
}

/// What `recover -w json` says.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) run: Run,
    pub(crate) code: i32,
    pub(crate) json: Value,
}

impl Recovery {
    pub(crate) fn of(inputs: &[&Path], output: &Path, initial_cluster: &str, more: &[&str]) -> Self {
        let mut line =
            vec!["recover", "-w", "json", "-o", text(output), "--initial-cluster", initial_cluster];
        line.extend(more);
        line.extend(inputs.iter().map(|input| text(input)));
        let run = rescue(line);
        let json = serde_json::from_str(&run.stdout).unwrap_or(Value::Null);
        Self { code: code(&run), run, json }
    }

    /// The last entry in the database it began with.
    #[track_caller]
    pub(crate) fn base_index(&self) -> u64 {
        number(&self.json["base"]["index"])
    }

    #[track_caller]
    pub(crate) fn number(&self, field: &str) -> u64 {
        self.json[field].as_u64().unwrap_or_else(|| panic!("{field}: {:?}", self.run))
    }

    #[track_caller]
    pub(crate) fn revision(&self) -> i64 {
        self.json["revision"].as_i64().unwrap_or_else(|| panic!("{:?}", self.run))
    }

    /// Indexes of what is in the result and may not have been committed.
    #[track_caller]
    pub(crate) fn possible(&self) -> Vec<u64> {
        let all = self.json["possible"].as_array().unwrap_or_else(|| panic!("{:?}", self.run));
        all.iter().map(|one| number(&one["index"])).collect()
    }

    /// How many of those the list leaves out.
    pub(crate) fn more_possible(&self) -> usize {
        usize::try_from(self.number("morePossible")).unwrap()
    }

    /// The codes of its findings.
    pub(crate) fn findings(&self) -> Vec<String> {
        let all = self.json["findings"].as_array().into_iter().flatten();
        all.map(|finding| string(&finding["code"])).collect()
    }
}
