//! `case key`: the life of one key across all sources.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::Args;

use super::rows::{self, ShownArgs};
use super::{CaseFile, ValueArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};

/// Tells the life of a key across all sources: every revision, who has it, and the log entries that name it
///
/// With -w json each revision, log entry and source is an object on a line of its own. Exit code 3 when sources have something different at the
/// same revision.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case key incident.case /registry/secrets/default/db --cite
  etcd-rescue case key incident.case /registry/leases/kube-system/scheduler --log -w json")]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    file: CaseFile,
    /// The key
    // Not called `key`: clap would take it for etcdctl's flag of that name.
    #[arg(value_name = "KEY")]
    first_key: OsString,
    /// The log entries that name the key, too
    #[arg(long)]
    log: bool,
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    shown: ShownArgs,
}

/// Tells it.
///
/// # Errors
/// When the case cannot be read.
pub(super) fn run(args: &KeyArgs, context: &Context) -> Result<Outcome, Failure> {
    let case = args.values.open(&args.file, context)?;
    let life = case.key(&args.first_key.clone().into_vec()).map_err(|error| error.about(case.path()))?;
    let printed = rows::print(&case, (&args.shown, args.values.values), context, |printer| {
        let revisions = life.steps.iter().all(|row| printer.revision(row).is_continue());
        if revisions && (!args.log || life.log.iter().all(|row| printer.entry(row).is_continue())) {
            for (source, standing) in &life.standings {
                if printer.standing(*source, standing).is_break() {
                    break;
                }
            }
        }
        Ok(())
    })?;
    let mut outcome = Outcome { after: rows::standings(&case, &life.standings), ..Outcome::default() };
    outcome.after.extend(rows::behind_logs(case.sources()));
    outcome.after.extend(printed.notes);
    if life.steps.is_empty() {
        outcome.after.push(Note::Prose("No source has a revision of that key.".to_owned()));
    }
    if !life.log.is_empty() && !args.log {
        let named = rows::counted(life.log.len() as u64, "log entry names", "log entries name");
        outcome.after.push(Note::Prose(format!("{named} it: --log shows them")));
    }
    if printed.contested + printed.no_values > 0 {
        outcome.code = exit::FINDINGS;
    }
    Ok(outcome)
}
