//! `compare`: what is left of a cluster held against each other.

mod json;
mod words;

use clap::Args;
use snapshot::compare::{self, CompareOptions, Standing};
use snapshot::survivors::{self, Survivors};

use super::members::MembersArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Ranks what is left of a cluster's members, and tells where they part and what is certain
///
/// Says of every member how far it had come; of the entries of their logs which are certain to be committed, which may be, and which were
/// provably never; and whether their databases hold the same, down to the first revision and the keys in which they differ. Earlier copies
/// of a member are set aside; files of different clusters are refused. Exit code 3 when something is wrong, or when too few voters were given
/// to know what a majority had.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue compare /mnt/node1/etcd /mnt/node2/etcd /mnt/node3/etcd
  etcd-rescue compare node1 node2 -w json | jq '.history.certainTo'")]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    members: MembersArgs,
    /// The most keys that are told of those that differ, and the most entries of those that are not certain
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// Compares.
///
/// # Errors
/// When a file cannot be opened or is locked, a directory was given twice, they are of different clusters, or the user asked to
/// stop.
pub(crate) fn run(args: &CompareArgs, context: &Context) -> Result<Outcome, Failure> {
    let given = args.members.given()?;
    let watch = context.watch.as_ref();
    let survivors = survivors::gather(&given, &context.facts_options(None), watch)?;
    let comparison = compare::compare(&survivors, &CompareOptions { keys: args.limit }, watch)?;
    watch.finish();
    let mut outcome = Outcome::default();
    for survivor in &survivors.all {
        let name = shown(&survivor.given.path.display().to_string());
        let mut of_this = Outcome::default();
        if let Some(log) = survivor.facts.log_facts() {
            let found: Vec<_> = log.report.findings.iter().map(|found| found.finding.clone()).collect();
            of_this.note_findings(&found);
        }
        outcome.code = outcome.code.max(of_this.code);
        outcome.before.extend(of_this.before.into_iter().map(|note| note.about(&name)));
    }
    outcome.note_findings(&comparison.findings);
    outcome.result = match context.format {
        Format::Simple => words::of(&survivors, &comparison, args.limit),
        Format::Json => output::json(&json::of(&survivors, &comparison))?,
        format => {
            let rows: Vec<_> = comparison.members.iter().map(|standing| row(standing, &survivors)).collect();
            output::render(format, &rows, &())?
        }
    };
    outcome.after.extend(words::next(&survivors, &comparison).into_iter().map(Note::Prose));
    Ok(outcome)
}

fn row(standing: &Standing, survivors: &Survivors) -> Vec<Cell> {
    let survivor = survivors.all.get(standing.survivor);
    let path = survivor.map_or_else(String::new, |one| shown(&one.given.path.display().to_string()));
    let member = survivor.map_or_else(String::new, |one| shown(&one.called()));
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let revision = standing.revision.map_or_else(String::new, |revision| revision.to_string());
    vec![
        Cell::new("rank", "Rank", &standing.rank),
        Cell::new("member", "Member", &member),
        Cell::new("term", "Term", &standing.term),
        Cell::new("last entry", "Last entry", &standing.last_index),
        Cell::new("commit", "Commit", &number(standing.commit)),
        Cell::new("db at entry", "Db at entry", &number(standing.consistent_index)),
        Cell::new("revision", "Revision", &revision),
        Cell::new("path", "Path", &path),
    ]
}
