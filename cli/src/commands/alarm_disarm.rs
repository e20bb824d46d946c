//! `alarm disarm`: a copy without alarms.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::alarm;
use snapshot::edited::Change;
use snapshot::finding::Finding;
use snapshot::lone::Purpose;

use super::alarm_list::{self, AlarmJson};
use super::edit::EditArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Format};

/// Takes all alarms away, in a copy
///
/// It prints the alarms that it took away, as etcdctl does. What raised an alarm is still there: a full database is compacted and
/// defragmented first, or the alarm comes back. A restore drops alarms by itself. The input is only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue alarm disarm /var/lib/etcd -o /var/lib/etcd.disarmed")]
pub(crate) struct DisarmArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    #[command(flatten)]
    edit: EditArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: Option<String>,
    size: u64,
    disarmed: Vec<AlarmJson>,
    unreadable: u64,
    dry_run: bool,
    findings: &'a [Finding],
}

/// Disarms.
///
/// # Errors
/// When there is no alarm, the input may not be edited or is damaged, or the output cannot be written.
pub(crate) fn run(args: &DisarmArgs, context: &Context) -> Result<Outcome, Failure> {
    let mut editing = args.edit.open(&args.input, context)?;
    let schema = editing.schema.clone();
    let path = args.input.display();
    if schema.alarms.is_empty() && schema.unreadable_alarms == 0 {
        return Err(Failure::failed(format!("{path}: no alarm stands in it; nothing was written")));
    }
    let patch = {
        let failed = |what: &dyn std::fmt::Display| Failure::failed(format!("{path}: {what}"));
        let db = editing.input.db().map_err(|error| failed(&error))?;
        alarm::disarmed(&db).map_err(|error| failed(&error))?
    };
    let standing = editing.ensure_alone(Purpose::Edit, context)?;
    let report = editing.write(Change::Patch(&patch), context)?;
    // The story of the copy is that of data without alarms.
    editing.schema.alarms.clear();
    let mut outcome = Outcome { before: std::mem::take(&mut editing.before), ..Outcome::default() };
    outcome.note_findings(&standing.findings);
    outcome.after = editing.story(&standing, &report);
    let json = Json {
        path: editing.output(),
        size: report.after_bytes,
        disarmed: alarm_list::json(&schema),
        unreadable: schema.unreadable_alarms,
        dry_run: args.edit.write.dry_run,
        findings: &standing.findings,
    };
    outcome.result = match context.format {
        Format::Simple => alarm_list::lines(&schema),
        format => output::render(format, &alarm_list::rows(&schema), &json)?,
    };
    Ok(outcome)
}
