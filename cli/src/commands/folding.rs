//! What the commands share that fold a member's log into its database.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};
use snapshot::datadir::Kind;
use snapshot::fold::{FoldError, FoldOptions, FoldReport, Point};
use snapshot::log_files::{self, LogFiles, LogFilesError};
use snapshot::lone;
use snapshot::mvcc::Release;
use snapshot::opened::Opened;
use snapshot::replay::range::{LeftOut, because};

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Note;
use crate::shown::shown;

/// Whether and how far the log is folded in.
#[derive(Debug, Clone, Args)]
pub(crate) struct FoldArgs {
    /// Take the database alone, without what only the log holds
    #[arg(long, conflicts_with_all = ["to_index", "to_revision", "as_etcd"])]
    no_replay: bool,
    #[command(flatten)]
    how_far: HowFarArgs,
}

/// How far the log is folded in, and by whose rules.
#[derive(Debug, Clone, Args)]
pub(crate) struct HowFarArgs {
    /// Apply the log up to this raft index
    #[arg(long, value_name = "N", conflicts_with = "to_revision")]
    to_index: Option<u64>,
    /// Apply the log as far as this revision lasts: up to the write that makes the next one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    to_revision: Option<i64>,
    /// The release whose rules hold while the log is applied [default: the last of the minor version that wrote the data]
    #[arg(long, value_name = "X.Y.Z")]
    as_etcd: Option<Release>,
}

impl HowFarArgs {
    /// How far to fold.
    pub(crate) fn options(&self) -> FoldOptions {
        FoldOptions { to_index: self.to_index, to_revision: self.to_revision, as_etcd: self.as_etcd }
    }
}

impl FoldArgs {
    /// How far to fold.
    pub(crate) fn options(&self) -> FoldOptions {
        self.how_far.options()
    }

    /// The log that is to be folded into `input`: that of a data dir, or the one in `wal_dir`, which the flag `wal_flag` named.
    /// `None` for a file of its own, or where the database alone was asked for.
    ///
    /// # Errors
    /// When there should be a log and is none, it cannot be opened, or the flags ask for what a file alone does not have.
    pub(crate) fn log(
        &self,
        input: &Opened,
        wal_dir: Option<&Path>,
        wal_flag: &str,
        context: &Context,
    ) -> Result<Option<LogFiles>, Failure> {
        if self.no_replay {
            return match wal_dir {
                Some(_) => {
                    Err(Failure::usage(format!("{wal_flag} names a log, and --no-replay leaves it out")))
                }
                None => Ok(None),
            };
        }
        let watch = context.watch.as_ref();
        let found = match (input.kind(), wal_dir) {
            (Kind::File, Some(wal_dir)) => {
                log_files::open(wal_dir, &context.log_options(None), watch).map(Some)
            }
            (_, wal_dir) => lone::log_of(input, &context.log_options(wal_dir), watch),
        };
        let files = found.map_err(|error| match error {
            LogFilesError::NoLog { .. } => Failure::from(FoldError::NoLog(error)),
            other => other.into(),
        })?;
        let asked = [
            ("--to-index", self.how_far.to_index.is_some()),
            ("--to-revision", self.how_far.to_revision.is_some()),
            ("--as-etcd", self.how_far.as_etcd.is_some()),
        ];
        match asked.iter().find(|(_, given)| *given && files.is_none()) {
            Some((flag, _)) => Err(Failure::usage(format!(
                "{flag} is about a log, and the input is a file without one; give the data dir, or the log's directory with \
                 {wal_flag}"
            ))),
            None => Ok(files),
        }
    }
}

/// Where a database stands, in words.
pub(crate) fn point(point: &Point) -> String {
    let term = if point.term > 0 { format!(" of term {}", point.term) } else { String::new() };
    format!("revision {}, entry {}{term}", point.revision, point.index)
}

/// Where the database stood and where it stands, by what, and what is left out.
pub(crate) fn story(report: &FoldReport) -> Vec<Note> {
    let range = &report.range;
    let mut notes = vec![Note::Prose(format!("The database was at {}.", point(&report.before)))];
    let voter =
        if range.is_lone { "; its member alone votes, and commits all of it when it starts" } else { "" };
    let log = match range.log_first {
        Some(first) => format!("entries {first} to {}", range.log_last),
        None => "no entries".to_owned(),
    };
    notes.push(Note::Prose(format!(
        "The log in {} has {log}, with a commit of {}{voter}.",
        shown(&wal_dirs(report).join(", ")),
        range.commit
    )));
    let account = &report.account;
    if account.entries == 0 {
        notes.push(Note::Prose(format!(
            "Nothing was folded in: the last entry to apply is {}, {}.",
            range.last,
            because(range.bound)
        )));
    } else {
        notes.extend(applied(report));
    }
    notes.extend(
        range.left_out.iter().map(|left| Note::Warning(format!("warning: left out: {}", left_out(left)))),
    );
    notes
}

/// What was applied, and where the database stands then.
pub(crate) fn applied(report: &FoldReport) -> Vec<Note> {
    let (range, account) = (&report.range, &report.account);
    let mut notes = Vec::new();
    let kinds = listed(account.by_kind.iter().map(|(kind, count)| ((*kind).to_owned(), *count)));
    notes.push(Note::Prose(format!(
        "Folded in: {}, {} of which changed something ({kinds}), by the rules of etcd {}: {}.",
        if account.entries == 1 { "1 entry".to_owned() } else { format!("{} entries", account.entries) },
        account.changed,
        report.release,
        shown(&report.release_reason)
    )));
    if !account.without_effect.is_empty() {
        let reasons = listed(account.without_effect.iter().map(|(why, count)| (words(why), *count)));
        let count: u64 = account.without_effect.values().sum();
        notes.push(Note::Prose(format!("Without effect: {count} ({reasons}).")));
    }
    notes.push(Note::Prose(format!("It is now at {}: {}.", point(&report.after), because(range.bound))));
    notes
}

fn wal_dirs(report: &FoldReport) -> Vec<String> {
    report.wal_dirs.iter().map(|dir| dir.display().to_string()).collect()
}

fn left_out(left: &LeftOut) -> String {
    let (first, last) = (left.entries.start(), left.entries.end());
    let why = left.why.words();
    if first == last {
        format!("entry {first}: {why}")
    } else {
        format!("{} entries, {first} to {last}: {why}", left.count())
    }
}

/// Names with their numbers, those with most first.
fn listed(counts: impl Iterator<Item = (String, u64)>) -> String {
    let mut counts: Vec<(String, u64)> = counts.collect();
    counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// A reason as words: its name in JSON, without the hyphens.
fn words(reason: &impl serde::Serialize) -> String {
    let name = serde_json::to_value(reason).unwrap_or_default();
    name.as_str().unwrap_or_default().replace('-', " ")
}

/// The same for programs.
pub(crate) fn json(report: &FoldReport) -> Value {
    let (range, account) = (&report.range, &report.account);
    let left_out: Vec<Value> = range
        .left_out
        .iter()
        .map(|left| {
            json!({
                "first": left.entries.start(),
                "last": left.entries.end(),
                "entries": left.count(),
                "why": left.why,
            })
        })
        .collect();
    let disagreements: Vec<Value> = account
        .disagreements
        .iter()
        .map(|(what, count)| json!({ "what": what, "entries": count.entries, "first": count.first }))
        .collect();
    json!({
        "walDir": wal_dirs(report).join(", "),
        "db": report.before,
        "folded": report.after,
        "log": { "first": range.log_first, "last": range.log_last, "commit": range.commit },
        "loneVoter": range.is_lone,
        "endsBecause": range.bound,
        "asEtcd": report.release.to_string(),
        "asEtcdReason": report.release_reason,
        "entries": account.entries,
        "changed": account.changed,
        "byKind": account.by_kind,
        "withoutEffect": account.without_effect,
        "compactions": account.compactions,
        "disagreements": disagreements,
        "leftOutEntries": report.left_out(),
        "leftOut": left_out,
        "stopped": report.stop.as_ref().map(|stop| {
            json!({ "index": stop.index, "term": stop.term, "reason": stop.reason.to_string() })
        }),
    })
}
