//! `case log`: entries of all logs.

use std::ops::RangeInclusive;

use casefile::LogQuery;
use clap::Args;

use super::CaseFile;
use super::rows::{self, ShownArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};

/// Lists log entries of all sources, by index and term
///
/// Source by source, with what each entry asks for, the keys it names, and whether it counts. With -w json each is an object on a line of its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case log incident.case --index 1800..1810
  etcd-rescue case log incident.case --term 3 --source n1 --cite")]
pub(crate) struct LogArgs {
    #[command(flatten)]
    file: CaseFile,
    /// Only entries with this index, or from the first to the last of two with '..' between them
    #[arg(long, value_name = "INDEX[..INDEX]", value_parser = range)]
    index: Option<Range>,
    /// Only entries of this term, or of those from the first to the last of two with '..' between them
    #[arg(long, value_name = "TERM[..TERM]", value_parser = range)]
    term: Option<Range>,
    /// Only the log of this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    #[command(flatten)]
    shown: ShownArgs,
}

/// Numbers from one to another, both included.
#[derive(Debug, Clone)]
struct Range(RangeInclusive<u64>);

fn range(text: &str) -> Result<Range, String> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
    let wrong = || format!("{text:?} is neither a number nor two with '..' between them");
    let (first, last) = match text.split_once("..") {
        None => (number(text), number(text)),
        Some((first, "")) => (number(first), Some(u64::MAX)),
        Some(("", last)) => (Some(0), number(last)),
        Some((first, last)) => (number(first), number(last)),
    };
    let (first, last) = (first.ok_or_else(wrong)?, last.ok_or_else(wrong)?);
    if first > last { Err(format!("{text:?} ends before it begins")) } else { Ok(Range(first..=last)) }
}

/// Lists them.
///
/// # Errors
/// When the case cannot be read, or has no such source.
pub(super) fn run(args: &LogArgs, context: &Context) -> Result<Outcome, Failure> {
    let case = args.file.open()?;
    let all = LogQuery::default();
    let asked = LogQuery {
        source: args.source.as_ref().map(|name| case.source(name).map(|source| source.number)).transpose()?,
        indexes: args.index.clone().map_or(all.indexes, |range| range.0),
        terms: args.term.clone().map_or(all.terms, |range| range.0),
    };
    let printed = rows::print(&case, (&args.shown, false), context, |printer| {
        case.log(&asked, &mut |row| printer.entry(row))
    })?;
    let mut outcome = Outcome { after: printed.notes, ..Outcome::default() };
    if printed.rows == 0 {
        outcome.after.push(Note::Prose("No log has such an entry.".to_owned()));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range("7").unwrap().0, 7..=7);
        assert_eq!(range("7..9").unwrap().0, 7..=9);
        assert_eq!(range("7..").unwrap().0, 7..=u64::MAX);
        assert_eq!(range("..7").unwrap().0, 0..=7);
        for wrong in ["", "x", "9..7", "-1", "+1", "1...2", "1..2..3"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
