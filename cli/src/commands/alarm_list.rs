//! `alarm list`: the alarms that stand in a db.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::alarm;
use snapshot::finding::Finding;
use snapshot::membership::{Member, hex_id};
use snapshot::schema::{Alarm, Schema};

use super::{kv_input, small_buckets};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Lists the alarms that keep a cluster from taking writes
///
/// The lines are those of etcdctl; the file is only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue alarm list /var/lib/etcd")]
pub(crate) struct ListArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
}

#[derive(Serialize)]
struct Json<'a> {
    alarms: Vec<AlarmJson>,
    findings: &'a [Finding],
}

/// One alarm as our own JSON has it.
#[derive(Serialize)]
pub(super) struct AlarmJson {
    #[serde(rename = "memberID")]
    member_id: String,
    alarm: String,
    /// The name of the member, where the db still knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// Lists them.
///
/// # Errors
/// When the file cannot be read or is damaged where they lie.
pub(crate) fn run(args: &ListArgs, context: &Context) -> Result<Outcome, Failure> {
    let mut input = kv_input::open(&args.input, context)?;
    let schema = small_buckets::schema(&input)?;
    let mut outcome = Outcome { before: std::mem::take(&mut input.notes), ..Outcome::default() };
    outcome.before.extend(input.behind_its_log(&schema));
    let mut findings: Vec<Finding> =
        schema.findings.iter().filter(|finding| finding.code == "ETCD-ALARM").cloned().collect();
    findings.extend(schema.no_key_bucket());
    outcome.note_findings(&findings);
    let json = Json { alarms: json(&schema), findings: &findings };
    outcome.result = match context.format {
        Format::Simple => lines(&schema),
        format => output::render(format, &rows(&schema), &json)?,
    };
    Ok(outcome)
}

/// The alarms as etcdctl prints them.
pub(super) fn lines(schema: &Schema) -> String {
    schema.alarms.iter().map(|alarm| alarm::text(alarm) + "\n").collect()
}

/// The alarms as our own JSON has them.
pub(super) fn json(schema: &Schema) -> Vec<AlarmJson> {
    let of = |alarm: &Alarm| AlarmJson {
        member_id: hex_id(alarm.member_id),
        alarm: kind(alarm),
        name: name(schema, alarm),
    };
    schema.alarms.iter().map(of).collect()
}

/// The alarms as a table.
pub(super) fn rows(schema: &Schema) -> Vec<Vec<Cell>> {
    let of = |alarm: &Alarm| {
        vec![
            Cell::new("member id", "MemberID", &hex_id(alarm.member_id)),
            Cell::new("name", "Name", &shown(&name(schema, alarm).unwrap_or_default())),
            Cell::new("alarm", "AlarmType", &kind(alarm)),
        ]
    };
    schema.alarms.iter().map(of).collect()
}

fn kind(alarm: &Alarm) -> String {
    alarm::kind_name(alarm.kind).map_or_else(|| alarm.kind.to_string(), str::to_owned)
}

fn name(schema: &Schema, alarm: &Alarm) -> Option<String> {
    let mut members = schema.members.iter().filter_map(|row| Member::from_json(row).ok());
    members.find(|member| member.id == alarm.member_id).map(|member| member.name)
}
