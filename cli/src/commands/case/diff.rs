//! `case diff`: in what two sources differ.

use casefile::rows::{Diff, DiffRow, Parting};
use clap::Args;

use super::CaseFile;
use super::rows::{self, ShownArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::shown::shown;

/// Tells in what two sources differ, revision by revision
///
/// What a compaction took is no difference. < is only in the first, > only in the second; of a revision that both have otherwise there are both.
/// What lies behind the end of one of them is counted, and shown with --tail. Exit code 3 when they differ within what both cover.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case diff incident.case n1 n2
  etcd-rescue case diff incident.case n1 n3 --tail --cite -w json")]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    file: CaseFile,
    /// The name of the one
    #[arg(value_name = "SOURCE")]
    one: String,
    /// The name of the other
    #[arg(value_name = "SOURCE")]
    other: String,
    /// What lies behind the end of one of them, too
    #[arg(long)]
    tail: bool,
    #[command(flatten)]
    shown: ShownArgs,
}

/// Tells it.
///
/// # Errors
/// When the case cannot be read, or has no such source.
pub(super) fn run(args: &DiffArgs, context: &Context) -> Result<Outcome, Failure> {
    let case = args.file.open()?;
    let (one, other) = (case.source(&args.one)?, case.source(&args.other)?);
    if one.number == other.number {
        return Err(Failure::usage("nothing to compare: name two sources"));
    }
    let printed = rows::print(&case, (&args.shown, false), context, |printer| {
        case.diff(one, other, &mut |DiffRow { a, b, parting }| {
            if *parting == Parting::Tail && !args.tail {
                return std::ops::ControlFlow::Continue(());
            }
            for (mark, row) in [("<", a), (">", b)] {
                if let Some(row) = row {
                    printer.revision_as(Some(mark), row)?;
                }
            }
            std::ops::ControlFlow::Continue(())
        })
    })?;
    let mut outcome = Outcome { after: printed.notes, ..Outcome::default() };
    if let Some(diff) = printed.answer {
        outcome.after.extend(story(&diff, &shown(&args.one), &shown(&args.other)));
        if diff.part.is_some() || diff.log_part.is_some() {
            outcome.code = exit::FINDINGS;
        }
    }
    Ok(outcome)
}

fn story(diff: &Diff, one: &str, other: &str) -> Vec<Note> {
    let mut notes = vec![Note::Prose(match diff.part {
        Some(part) => format!("they part at revision {part}"),
        None if diff.same == 0 => "they have no revision in common".to_owned(),
        None => format!("they hold the same from revision {} to {}", diff.from, diff.to),
    })];
    notes.push(Note::Prose(format!(
        "{} revisions the same, {} different, {} in one only, {} behind the end of one",
        diff.same, diff.differs, diff.missing, diff.tail
    )));
    if let Some((first, last)) = diff.log_common {
        notes.push(Note::Prose(format!("their logs have entries {first} to {last} in the same terms")));
    }
    if let Some((index, in_one, in_other)) = diff.log_part {
        notes.push(Note::Warning(format!(
            "their logs part at entry {index}: term {in_one} in {one}, term {in_other} in {other}"
        )));
    }
    notes
}
