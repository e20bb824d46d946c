//! `cluster force-new`: the last member of a dead cluster goes on alone.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::force_new::{self, Dropped, ForceNewReport};
use snapshot::member_copy::{CopyOptions, Publish};
use snapshot::membership::{Member, hex_id};

use super::wal_repair::keys;
use super::writing::WriteArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::next_steps::grow::{self, Join};
use crate::next_steps::quoted_path;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell};
use crate::shown::shown;

/// Makes a member's directory that of a cluster of one, as etcd --force-new-cluster does, but without a server and in a copy
///
/// The member keeps its id, its cluster's id, its data and its history up to the last entry that is known to be committed; all
/// other members are removed. etcd starts on the copy without any special flag, as the only voter; the others are then added anew, and the
/// commands for that are printed. Where more than one directory is left, 'recover' makes more of them: it also keeps what may
/// have been committed.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue cluster force-new /var/lib/etcd --dry-run
  etcd-rescue cluster force-new /var/lib/etcd -o /var/lib/etcd-forced --owner etcd:etcd")]
pub(crate) struct ForceNewArgs {
    /// The data dir or member dir of a member that does not run
    #[arg(value_name = "DIR")]
    input: PathBuf,
    /// The data dir to write; it must not exist or be empty [needed but for --dry-run]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// The log's directory to write [default: member/wal in OUT]
    #[arg(long, value_name = "DIR", requires = "output")]
    output_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    member_id: String,
    cluster_id: String,
    name: &'a str,
    peer_urls: &'a [String],
    removed: Vec<String>,
    promoted: bool,
    commit: u64,
    last_index: u64,
    term: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<DroppedJson>,
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_wal_dir: Option<String>,
    start: Vec<String>,
    member_add: Vec<AddJson<'a>>,
    left_out: &'a [String],
    dry_run: bool,
    findings: &'a [Finding],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DroppedJson {
    first: u64,
    last: u64,
    keys: serde_json::Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AddJson<'a> {
    name: &'a str,
    peer_urls: &'a str,
    command: &'a [String],
    start: &'a [String],
}

/// Forces.
///
/// # Errors
/// When the input is no member whose log a server could read, or the output cannot be written.
pub(crate) fn run(args: &ForceNewArgs, context: &Context) -> Result<Outcome, Failure> {
    if args.output.is_none() && !args.write.dry_run {
        return Err(Failure::usage(
            "-o OUT is missing: the input is never changed, and the copy that etcd is to start on needs a place; --dry-run says what would \
             become of it",
        ));
    }
    let publish = args.output.clone().map_or(Publish::Nowhere, |output| Publish::Copy {
        output,
        output_wal_dir: args.output_wal_dir.clone(),
    });
    let options = CopyOptions {
        publish,
        dry_run: args.write.dry_run,
        clean: args.write.clean,
        owner: args.write.owner()?,
    };
    let input = context.facts_options(args.wal_dir.as_deref());
    let report = force_new::force_new(&args.input, &options, &input, context.watch.as_ref())?;
    let others: Vec<Member> = report.removed.iter().map(|removed| removed.member.clone()).collect();
    let joins = grow::joins(&report.member, &others);

    let mut outcome = Outcome::default();
    let left = Leftovers { found: report.leftovers.clone(), removed: report.cleaned.clone() };
    outcome.before.extend(left.notes());
    outcome.note_findings(&report.findings);
    outcome.before.extend(report.dropped.iter().map(|dropped| {
        Note::Warning(format!("warning: the dropped entries name these keys: {}", keys(&dropped.keys)))
    }));
    outcome.before.push(Note::Prose(summary(&report)));
    outcome.result = result(args, context, &report, &joins)?;
    outcome.after = story(args, &report, &joins);
    Ok(outcome)
}

fn result(
    args: &ForceNewArgs,
    context: &Context,
    report: &ForceNewReport,
    joins: &[Join],
) -> Result<String, Failure> {
    let removed: Vec<String> = report.removed.iter().map(|removed| hex_id(removed.member.id)).collect();
    let path = |path: &PathBuf| path.display().to_string();
    let dropped = |dropped: &Dropped| DroppedJson {
        first: dropped.first,
        last: dropped.last,
        keys: super::wal_repair::keys_json(&dropped.keys),
    };
    let json = Json {
        member_id: hex_id(report.member.id),
        cluster_id: hex_id(report.cluster_id),
        name: &report.member.name,
        peer_urls: &report.member.peer_urls,
        removed: removed.clone(),
        promoted: report.promoted,
        commit: report.commit,
        last_index: report.last_index,
        term: report.term,
        dropped: report.dropped.as_ref().map(dropped),
        output: args.output.as_ref().map(path),
        output_wal_dir: args.output_wal_dir.as_ref().map(path),
        start: start_words(args, report),
        member_add: joins
            .iter()
            .map(|join| AddJson {
                name: &join.name,
                peer_urls: &join.peer_urls,
                command: &join.add,
                start: &join.start,
            })
            .collect(),
        left_out: &report.left_out,
        dry_run: args.write.dry_run,
        findings: &report.findings,
    };
    let row = vec![
        Cell::new("member id", "Member ID", &json.member_id),
        Cell::new("name", "Name", &shown(&report.member.name)),
        Cell::new("cluster id", "Cluster ID", &json.cluster_id),
        Cell::new("removed", "Removed", &removed.join(" ")),
        Cell::new("commit", "Commit", &report.commit),
        Cell::new("last index", "Last index", &report.last_index),
        Cell::new("term", "Term", &report.term),
    ];
    output::render(context.format, &[row], &json)
}

/// The words of the start that only the copy decides; the rest is as it was on this member's host.
fn start_words(args: &ForceNewArgs, report: &ForceNewReport) -> Vec<String> {
    let mut words = vec!["etcd".to_owned(), "--name".to_owned(), grow::name(&report.member)];
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    for (flag, path) in [("--data-dir", &args.output), ("--wal-dir", &args.output_wal_dir)] {
        if let Some(path) = path {
            words.push(flag.to_owned());
            words.push(absolute(path).display().to_string());
        }
    }
    words
}

fn summary(report: &ForceNewReport) -> String {
    let names: Vec<String> = report
        .removed
        .iter()
        .map(|removed| format!("{} ({})", shown(&grow::name(&removed.member)), hex_id(removed.member.id)))
        .collect();
    let promoted = if report.promoted { "becomes a voter and " } else { "" };
    let without = if names.is_empty() { String::new() } else { format!(", without {}", names.join(" and ")) };
    format!(
        "Member {} ({}) of cluster {} {promoted}goes on alone from entry {} of term {}{without}.",
        shown(&grow::name(&report.member)),
        hex_id(report.member.id),
        hex_id(report.cluster_id),
        report.commit,
        report.term
    )
}

fn story(args: &ForceNewArgs, report: &ForceNewReport, joins: &[Join]) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(output) = args.output.as_ref().filter(|_| !args.write.dry_run) {
        notes.push(Note::Prose(format!(
            "Wrote {}; {} is unchanged.",
            quoted_path(output),
            shown(&args.input.display().to_string())
        )));
    } else {
        notes.push(Note::Prose("Dry run: nothing was written.".to_owned()));
    }
    let wal_dir = match (&args.output_wal_dir, &args.wal_dir) {
        (Some(wal_dir), _) => format!(" and --wal-dir {}", quoted_path(wal_dir)),
        // Started with the old one, the member would go on as one of the old cluster.
        (None, Some(_)) => " and without --wal-dir (its log lies in it now)".to_owned(),
        (None, None) => String::new(),
    };
    let output = args.output.as_ref().map_or_else(|| "OUT".to_owned(), |output| quoted_path(output));
    let name = if report.member.name.is_empty() {
        "its name as it was".to_owned()
    } else {
        format!("its name {}", shown(&report.member.name))
    };
    let urls = if report.member.peer_urls.is_empty() {
        "its peer URLs as they were".to_owned()
    } else {
        format!("its peer URLs as they were ({})", shown(&report.member.peer_urls.join(",")))
    };
    notes.push(Note::Prose(format!(
        "First make sure that no etcd runs on the directories of the removed members, nor ever starts on them again: they would go on as the old \
         cluster, under the same id. Then start etcd as this member was started, with --data-dir {output}{wal_dir}, {name} and {urls}, and \
         without --force-new-cluster. 'etcdctl member list' then shows one member."
    )));
    if !report.left_out.is_empty() {
        notes.push(Note::Prose(format!(
            "Not copied, since no server needs them: {}.",
            shown(&report.left_out.join(", "))
        )));
    }
    if !joins.is_empty() {
        notes.push(Note::Prose(format!(
            "Then add the others, one at a time: 'etcdctl member add', at once the start on its host with an empty data dir, and the next only when \
             'etcdctl endpoint health --cluster' is content. Between the two the cluster takes no writes. {} has to be filled in.",
            "/FILL-IN"
        )));
        notes.push(Note::Verbatim(format!("\n{}", grow::text(joins).trim_end())));
    }
    notes
}
