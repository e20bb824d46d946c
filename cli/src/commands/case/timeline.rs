//! `case timeline`: all revisions of all sources in their order.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use casefile::Timeline;
use clap::Args;

use super::rows::{self, ShownArgs};
use super::{CaseFile, ValueArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};

/// Lists the revisions of all sources in their order, and who has each
///
/// With -w json each is an object on a line of its own. Exit code 3 when sources have something different at the same revision.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case timeline incident.case --prefix /registry/secrets/
  etcd-rescue case timeline incident.case --from-rev 4000 --to-rev 4100 --cite")]
pub(crate) struct TimelineArgs {
    #[command(flatten)]
    file: CaseFile,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    prefix: Option<OsString>,
    /// From this revision on
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    from_rev: i64,
    /// Up to this revision
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(0..))]
    to_rev: Option<i64>,
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    shown: ShownArgs,
}

/// Lists them.
///
/// # Errors
/// When the case cannot be read.
pub(super) fn run(args: &TimelineArgs, context: &Context) -> Result<Outcome, Failure> {
    if args.to_rev.is_some_and(|to| to < args.from_rev) {
        return Err(Failure::usage("--to-rev: is before --from-rev: there is nothing between them"));
    }
    let case = args.values.open(&args.file, context)?;
    let asked = Timeline {
        prefix: args.prefix.clone().unwrap_or_default().into_vec(),
        from: args.from_rev,
        to: args.to_rev.unwrap_or(i64::MAX),
    };
    let printed = rows::print(&case, (&args.shown, args.values.values), context, |printer| {
        case.timeline(&asked, &mut |row| printer.revision(row))
    })?;
    let mut outcome = Outcome { after: rows::coverage(&case, |_| false), ..Outcome::default() };
    outcome.after.extend(rows::behind_logs(case.sources()));
    outcome.after.extend(printed.notes);
    if printed.no_values > 0 {
        outcome.code = exit::FINDINGS;
    }
    if printed.contested > 0 {
        outcome.code = exit::FINDINGS;
        outcome.after.push(Note::Warning(format!(
            "{} of {} rows are not the same in all sources that have their revision",
            printed.contested, printed.rows
        )));
    }
    Ok(outcome)
}
