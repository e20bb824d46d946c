//! What the predictions mean for whoever holds the directory, and what to run next.

use super::predict::{Expected, Prediction, predictions};
use crate::boot::{Found, RELEASES, Release, Start};
use crate::facts::{Facts, What};
use crate::finding::Finding;
use crate::force_new::Plan;
use crate::structure::is_damaged;
use crate::target::TargetVersion;

/// What becomes of a start, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outlook {
    /// A server starts from it and has everything that is in it.
    BootsAsIs,
    /// A server starts from it, and something of what is in the files is lost or passed over.
    BootsWithLoss,
    /// No server of the release that wrote it starts from it as it should.
    NeedsRepair,
    /// This is no directory that a server starts from.
    NotAMember,
}

/// What is to be expected of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In a word.
    pub outlook: Outlook,
    /// Whether the pages of the db were walked: without that nothing is certain.
    pub structure_checked: bool,
    /// The release that this is about: the newest of the minor version that wrote the data.
    pub release: Release,
    /// Why, one sentence's part each.
    pub reasons: Vec<String>,
    /// What every release does.
    pub predictions: Vec<Prediction>,
    /// The command to run next.
    pub next: Next,
    /// Commands that are the way out where other members of its cluster are lost; empty where it has none, or nothing can be made of it.
    pub of_cluster: Vec<Next>,
}

/// A command of `etcd-rescue` about the path that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Its words before the path.
    pub command: &'static str,
    /// Its words behind the path; empty where there are none.
    pub flags: &'static str,
    /// Whether it reads the log, and so takes `--wal-dir`.
    pub reads_log: bool,
    /// What it is for.
    pub purpose: &'static str,
}

impl Next {
    const fn of(command: &'static str, flags: &'static str, purpose: &'static str) -> Self {
        Self { command, flags, reads_log: true, purpose }
    }

    /// A command about the database alone.
    const fn of_db(command: &'static str, flags: &'static str, purpose: &'static str) -> Self {
        Self { command, flags, reads_log: false, purpose }
    }
}

/// Judges `facts`. `structure` are the findings of a check of the db's pages; `None` when they were not walked.
#[must_use]
pub fn verdict(facts: &Facts, structure: Option<&[Finding]>) -> Verdict {
    let release = about(facts);
    let predictions = predictions(facts, structure);
    let own = predictions.iter().find(|prediction| prediction.release == release);
    let (outlook, mut reasons) = match own.map(|prediction| &prediction.expected) {
        None => (Outlook::NotAMember, Vec::new()),
        Some(Expected::Unknown(why)) => (Outlook::NeedsRepair, vec![why.clone()]),
        Some(Expected::Start(start)) => of_start(start),
    };
    let mut outlook = outlook;
    if own.is_some()
        && let Some(id) = removed(facts)
    {
        outlook = Outlook::NeedsRepair;
        reasons.push(format!("member {id:x} was removed from its cluster"));
    }
    let damaged = structure.is_some_and(is_damaged);
    let next = next(facts, outlook, own, damaged);
    let structure_checked = structure.is_some() || facts.database.is_none();
    let of_cluster = of_cluster(facts, outlook, damaged);
    Verdict { outlook, structure_checked, release, reasons, predictions, next, of_cluster }
}

/// The release that wrote the data, as far as it is known: the newest patches of that minor version.
fn about(facts: &Facts) -> Release {
    let minor = facts
        .database_facts()
        .and_then(|database| database.schema.written_by())
        .map_or(TargetVersion::V3_5, |(minor, _)| minor);
    let of_minor = RELEASES.into_iter().rfind(|release| release.minor == minor);
    of_minor.unwrap_or(RELEASES[2])
}

/// The log's own member, when the db has it among the removed ones.
pub(super) fn removed(facts: &Facts) -> Option<u64> {
    let id = facts.log_facts()?.report.log.metadata.as_ref().map(wal::Metadata::node_id)?;
    facts.database_facts()?.removed.contains(&id).then_some(id)
}

fn of_start(start: &Start) -> (Outlook, Vec<String>) {
    match start {
        Start::Fails { words: "", cause } => (Outlook::NeedsRepair, vec![cause.clone()]),
        Start::Fails { words, cause } => (Outlook::NeedsRepair, vec![format!("{cause} (\"{words}\")")]),
        Start::FoundsNewCluster => (
            Outlook::NeedsRepair,
            vec!["there is no log: a server would found a new cluster over what is in the db".to_owned()],
        ),
        Start::Starts(found) => of_found(found, Vec::new()),
        Start::StartsAfterCut { found, file, dropped_bytes, .. } => {
            of_found(found, vec![format!("a server cuts {dropped_bytes} bytes off {file}")])
        }
    }
}

fn of_found(found: &Found, mut reasons: Vec<String>) -> (Outlook, Vec<String>) {
    if let Some(lost) = &found.lost {
        reasons.push(format!("entries {} to {} are lost without a word", lost.start(), lost.end()));
    }
    if let Some(ahead) = found.db_ahead {
        reasons.push(format!(
            "the db is ahead of its log, at entry {ahead}, and new entries up to there are passed over"
        ));
    }
    if found.voterless {
        reasons.push("raft then knows of no voter, and alone the member never serves".to_owned());
        return (Outlook::NeedsRepair, reasons);
    }
    let outlook = if reasons.is_empty() { Outlook::BootsAsIs } else { Outlook::BootsWithLoss };
    (outlook, reasons)
}

/// What to run next.
fn next(facts: &Facts, outlook: Outlook, own: Option<&Prediction>, damaged: bool) -> Next {
    let has_db = facts.database.is_some();
    let log_is_damaged = facts.log_facts().is_some_and(|log| log.report.log_is_damaged());
    match outlook {
        Outlook::BootsWithLoss if log_is_damaged => {
            Next::of("wal repair", "", "says what of the log can be kept, before a server cuts it")
        }
        Outlook::BootsAsIs | Outlook::BootsWithLoss => Next::of(
            "snapshot save",
            "-o saved.db",
            "takes a copy of all it knows before a server starts on it",
        ),
        Outlook::NeedsRepair if damaged => Next::of(
            "salvage",
            "--dry-run",
            "says what can be saved of the db and its log; 'bbolt check' lists what is wrong",
        ),
        Outlook::NeedsRepair => match own.map(|prediction| &prediction.expected) {
            Some(Expected::Start(Start::Fails { .. })) if log_is_damaged => Next::of(
                "wal repair",
                "",
                "says what of the log can be kept; with -o OUT it writes a repaired copy",
            ),
            _ if has_db && facts.log_facts().is_none() => Next::of_db(
                "snapshot restore",
                "--no-replay --data-dir restored",
                "makes a new cluster of what is in the db; another member of the cluster may know more",
            ),
            _ if has_db => Next::of(
                "snapshot restore",
                "--data-dir restored",
                "makes a new cluster of what it knows; another member of the cluster may know more",
            ),
            _ => Next::of("wal dump", "", "shows what the log holds"),
        },
        Outlook::NotAMember => match facts.looked.what {
            What::Database | What::Snapshot | What::ReceivedDatabase if damaged => Next::of_db(
                "salvage",
                "--dry-run",
                "says what can be saved of it; 'bbolt check' lists what is wrong",
            ),
            What::Snapshot => Next::of_db(
                "snapshot restore",
                "--data-dir restored",
                "makes a data dir of it that a server starts from",
            ),
            What::Database | What::ReceivedDatabase => Next::of_db(
                "snapshot restore",
                "--skip-hash-check --data-dir restored",
                "makes a data dir of it that a server starts from",
            ),
            What::Snap | What::SnapDir => Next::of_db("snap dump", "", "shows what is in it"),
            _ => Next::of_db("wal dump", "", "shows what is in it"),
        },
    }
}

/// What leads out where the member is one of several voters and others are lost.
fn of_cluster(facts: &Facts, outlook: Outlook, damaged: bool) -> Vec<Next> {
    let is_one_of_several = facts.raft_members().is_some_and(|(voters, _)| voters.len() > 1);
    let has_db = facts
        .database
        .as_ref()
        .is_some_and(|database| database.as_ref().is_ok_and(|opened| opened.facts.is_ok()));
    if damaged
        || !is_one_of_several
        || !has_db
        || !matches!(facts.looked.what, What::DataDir | What::MemberDir)
    {
        return Vec::new();
    }
    let mut found = vec![Next::of(
        "compare",
        "",
        "shows what of it is certain, and how to recover; with the directories of the other members behind it, all that they know",
    )];
    if matches!(outlook, Outlook::BootsAsIs | Outlook::BootsWithLoss) && Plan::of(facts).is_ok() {
        found.push(Next::of(
            "cluster force-new",
            "-o forced",
            "makes a cluster of one of it, where no other member is left",
        ));
    }
    found
}
