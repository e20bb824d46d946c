//! `case at`: the key space at a revision.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use casefile::rows::Standing;
use clap::Args;

use super::rows::{self, ShownArgs};
use super::{CaseFile, ValueArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};

/// Lists the keys as they were at a revision, by every source that can tell
///
/// With -w json each key is an object on a line of its own, and each source. Exit code 3 when sources have a key otherwise, or not at all,
/// and when one of them is damaged.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case at incident.case 4100 --prefix /registry/pods/default/")]
pub(crate) struct AtArgs {
    #[command(flatten)]
    file: CaseFile,
    /// The revision
    #[arg(value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    revision: i64,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    prefix: Option<OsString>,
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    shown: ShownArgs,
}

/// Lists them.
///
/// # Errors
/// When the case cannot be read.
pub(super) fn run(args: &AtArgs, context: &Context) -> Result<Outcome, Failure> {
    let case = args.values.open(&args.file, context)?;
    let prefix = args.prefix.clone().unwrap_or_default().into_vec();
    let printed = rows::print(&case, (&args.shown, args.values.values), context, |printer| {
        let at = case.at(args.revision, &prefix, &mut |row| printer.revision(row))?;
        for (source, standing) in &at.standings {
            if printer.standing(*source, standing).is_break() {
                break;
            }
        }
        Ok(at)
    })?;
    let mut outcome = Outcome { after: printed.notes, ..Outcome::default() };
    if let Some(at) = printed.answer {
        outcome.after.extend(rows::standings(&case, &at.standings));
        outcome.after.extend(rows::behind_logs(case.sources()));
        outcome.after.push(Note::Prose(format!(
            "{} at revision {}, {} contested",
            rows::counted(at.keys, "key", "keys"),
            at.revision,
            at.contested
        )));
        if at.may_be_old > 0 {
            outcome.after.push(Note::Warning(format!(
                "{} may not be the newest: their sources are damaged where something newer would stand",
                rows::counted(at.may_be_old, "of these states", "of these states")
            )));
        }
        let is_damaged = |(_, standing): &(u32, Standing)| *standing == Standing::Damaged;
        if at.contested > 0 || at.standings.iter().any(is_damaged) {
            outcome.code = exit::FINDINGS;
        }
    }
    if printed.no_values > 0 {
        outcome.code = exit::FINDINGS;
    }
    Ok(outcome)
}
