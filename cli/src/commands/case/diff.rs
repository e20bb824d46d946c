//! `case diff`: in what two sources differ.

use casefile::Source;
use casefile::rows::{Diff, DiffRow, Parting};
use casefile::source::KeySpace;
use clap::Args;

use super::CaseFile;
use super::rows::{self, ShownArgs, unreadable};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::shown::shown;

/// Tells in what two sources differ, revision by revision
///
/// What a compaction took is no difference, and neither is what would lie where one of them is damaged. < is only in the first, > only in the
/// second; of a revision that both have otherwise there are both. What lies behind the end of one of them, or would lie where it is damaged, is
/// counted, and shown with --tail. Exit code 3 when they differ within what both cover, when both logs call different entries of one index
/// committed, or when a part could not be compared.
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
    /// What lies behind the end of one of them, or where one of them is damaged, too
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
            if matches!(parting, Parting::Tail | Parting::Unreadable) && !args.tail {
                return std::ops::ControlFlow::Continue(());
            }
            for (mark, row) in [("<", a), (">", b)] {
                if let Some(row) = row {
                    printer.revision_as(Some((mark, *parting)), row)?;
                }
            }
            std::ops::ControlFlow::Continue(())
        })
    })?;
    let mut outcome = Outcome { after: printed.notes, ..Outcome::default() };
    if let Some(diff) = printed.answer {
        outcome.after.extend(story(&diff, one, other, args.tail));
        let is_whole = |source: &Source| source.key_space.as_ref().is_some_and(KeySpace::is_whole);
        let two_histories = diff.log_part.is_some_and(|(index, ..)| are_committed(index, one, other));
        if diff.part.is_some()
            || two_histories
            || diff.clusters.is_some()
            || !is_whole(one)
            || !is_whole(other)
        {
            outcome.code = exit::FINDINGS;
        }
    }
    Ok(outcome)
}

/// Whether both logs call their entry of this index committed. Where one does not, a leader of a later term replaced what nobody was told of.
fn are_committed(index: u64, one: &Source, other: &Source) -> bool {
    [one, other].iter().all(|source| source.log.as_ref().is_some_and(|log| index <= log.commit))
}

fn story(diff: &Diff, one: &Source, other: &Source, is_shown: bool) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some((a, b)) = diff.clusters {
        let (one, other) = (shown(&one.name), shown(&other.name));
        notes.push(Note::Warning(format!(
            "{one} is of cluster {a:x}, {other} of cluster {b:x}: their revisions and entries are numbered apart, and what is the same under one \
             number may be so by chance"
        )));
    }
    for source in [one, other] {
        match &source.key_space {
            None => notes
                .push(Note::Warning(format!("{}: has no key space that could be read", shown(&source.name)))),
            Some(space) if !space.is_whole() => {
                notes.push(Note::Warning(format!("{}: {}", shown(&source.name), unreadable(space))));
            }
            Some(_) => {}
        }
    }
    if let (Some(a), Some(b)) = (&one.key_space, &other.key_space) {
        notes.push(Note::Prose(match diff.part {
            Some(part) => format!("they part at revision {part}"),
            None if diff.same == 0 => "they have no revision in common".to_owned(),
            None => {
                let as_far = if diff.unreadable > 0 { ", as far as both can be read" } else { "" };
                format!("they hold the same from revision {} to {}{as_far}", diff.from.max(1), diff.to)
            }
        }));
        let damaged = match diff.unreadable {
            0 => String::new(),
            some => format!(", {some} where one of them is damaged"),
        };
        notes.push(Note::Prose(format!(
            "{} the same, {} different, {} in one only{damaged}",
            rows::counted(diff.same, "revision", "revisions"),
            diff.differs,
            diff.missing
        )));
        if diff.tail > 0 {
            let (longer, shorter, last) =
                if a.last > b.last { (one, other, b.last) } else { (other, one, a.last) };
            let (longer, shorter) = (shown(&longer.name), shown(&shorter.name));
            let more = rows::counted(diff.tail, "revision", "revisions");
            notes.push(Note::Prose(format!(
                "{shorter} ends at revision {last}; {longer} has {more} behind that"
            )));
        }
        if !is_shown && diff.tail + diff.unreadable > 0 {
            notes.push(Note::Prose("(--tail shows these, too)".to_owned()));
        }
    }
    notes.extend(rows::behind_logs([one, other]));
    if let Some((first, last)) = diff.log_common {
        notes.push(Note::Prose(format!("their logs have entries {first} to {last} in the same terms")));
    }
    if let Some((index, in_one, in_other)) = diff.log_part {
        let (one_name, other_name) = (shown(&one.name), shown(&other.name));
        let text = format!(
            "their logs part at entry {index}: term {in_one} in {one_name}, term {in_other} in {other_name}"
        );
        notes.push(if are_committed(index, one, other) {
            Note::Warning(format!("{text}; both call it committed: these are two histories"))
        } else {
            Note::Prose(format!("{text}; not both call it committed"))
        });
    }
    notes
}
