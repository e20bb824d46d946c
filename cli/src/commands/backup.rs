//! `backup`: a member's directory under another identity, as etcdctl 3.4 and etcdutl 3.5 make it.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgAction, Args};
use serde::Serialize;
use snapshot::backup::{self, BackupOptions, BackupReport};
use snapshot::finding::Finding;
use snapshot::membership::hex_id;

use super::writing::WriteArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::next_steps::quoted_path;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell};
use crate::shown::shown;
use crate::values;

/// Copies a member's directory under another identity, as etcdctl backup of 3.4 and etcdutl backup of 3.5 do
///
/// The member must not run. Node and cluster get new ids, and the members of before are taken out of log, .snap and database, so
/// that the copy never joins the cluster it was taken from. Entries keep their indexes, and the consistent index goes on naming the
/// same entry. etcd is to be started on the copy with --force-new-cluster, once. Keys of the v2 API go along; of the v3 API alone
/// 'snapshot save' makes what every release restores.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue backup --data-dir /var/lib/etcd --backup-dir /backup/etcd --dry-run
  etcd-rescue backup --data-dir /var/lib/etcd --wal-dir /wal/etcd --backup-dir /backup/etcd --backup-wal-dir /backup/wal")]
pub(crate) struct BackupArgs {
    /// The data dir or member dir of a member that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// The data dir to write; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    backup_dir: PathBuf,
    /// The log's directory to write [default: member/wal in the backup's]
    #[arg(long, value_name = "DIR")]
    backup_wal_dir: Option<PathBuf>,
    /// Whether the keys of the v3 API go along, or the v2 store alone
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", default_value = "true", value_parser = values::switch)]
    with_v3: bool,
    /// The id of the copy's member [default: made of the time]
    #[arg(long, value_name = "HEX", value_parser = values::id)]
    node_id: Option<u64>,
    /// The id of the copy's cluster [default: made of the time]
    #[arg(long, value_name = "HEX", value_parser = values::id)]
    cluster_id: Option<u64>,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    node_id: String,
    cluster_id: String,
    from_node_id: String,
    from_cluster_id: String,
    snap: Option<&'a str>,
    snapshot_index: u64,
    snapshot_term: u64,
    last_index: u64,
    commit: u64,
    consistent_index: u64,
    with_v3: bool,
    entries: EntriesJson,
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_wal_dir: Option<String>,
    start: Vec<String>,
    member_update: [String; 5],
    dry_run: bool,
    findings: &'a [Finding],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntriesJson {
    kept: u64,
    emptied_membership: u64,
    emptied_attributes: u64,
    emptied_v3: u64,
}

/// Backs up.
///
/// # Errors
/// When the input is no member whose log a server could read, or the output cannot be written.
pub(crate) fn run(args: &BackupArgs, context: &Context) -> Result<Outcome, Failure> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let options = BackupOptions {
        output: args.backup_dir.clone(),
        output_wal_dir: args.backup_wal_dir.clone(),
        with_v3: args.with_v3,
        node_id: args.node_id,
        cluster_id: args.cluster_id,
        now_ms: u64::try_from(since_1970.as_millis()).unwrap_or_default(),
        dry_run: args.write.dry_run,
        clean: args.write.clean,
        owner: args.write.owner()?,
    };
    let input = context.facts_options(args.wal_dir.as_deref());
    let report = backup::backup(&args.data_dir, &options, &input, context.watch.as_ref())?;

    let mut outcome = Outcome::default();
    let left = Leftovers { found: report.leftovers.clone(), removed: report.cleaned.clone() };
    outcome.before.extend(left.notes());
    outcome.note_findings(&report.findings);
    if report.alarms > 0 {
        outcome.before.push(Note::Warning(format!(
            "warning: the database has {} alarm(s), and they go along: until 'etcdctl alarm disarm' the copy may take no writes",
            report.alarms
        )));
    }
    outcome.before.push(Note::Prose(summary(&report, args.with_v3)));
    outcome.result = result(args, context, &report)?;
    outcome.after = story(args, &report);
    Ok(outcome)
}

fn result(args: &BackupArgs, context: &Context, report: &BackupReport) -> Result<String, Failure> {
    let path = |path: &PathBuf| path.display().to_string();
    let account = &report.account;
    let json = Json {
        node_id: hex_id(report.identity.node_id),
        cluster_id: hex_id(report.identity.cluster_id),
        from_node_id: hex_id(report.from.0),
        from_cluster_id: hex_id(report.from.1),
        snap: report.snap.as_deref(),
        snapshot_index: report.start.index,
        snapshot_term: report.start.term,
        last_index: report.last_index,
        commit: report.commit,
        consistent_index: report.consistent_index,
        with_v3: args.with_v3,
        entries: EntriesJson {
            kept: account.kept,
            emptied_membership: account.membership,
            emptied_attributes: account.attributes,
            emptied_v3: account.v3,
        },
        output: path(&args.backup_dir),
        output_wal_dir: args.backup_wal_dir.as_ref().map(path),
        start: start(args),
        member_update: member_update(report),
        dry_run: args.write.dry_run,
        findings: &report.findings,
    };
    let row = vec![
        Cell::new("node id", "Node ID", &json.node_id),
        Cell::new("cluster id", "Cluster ID", &json.cluster_id),
        Cell::new("snapshot", "Snapshot", &json.snapshot_index),
        Cell::new("last index", "Last index", &json.last_index),
        Cell::new("commit", "Commit", &json.commit),
        Cell::new("consistent index", "Consistent index", &json.consistent_index),
    ];
    output::render(context.format, &[row], &json)
}

/// The words of the first start that only the copy decides.
fn start(args: &BackupArgs) -> Vec<String> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let mut words = vec!["etcd".to_owned()];
    for (flag, path) in [("--data-dir", Some(&args.backup_dir)), ("--wal-dir", args.backup_wal_dir.as_ref())]
    {
        if let Some(path) = path {
            words.push(flag.to_owned());
            words.push(absolute(path).display().to_string());
        }
    }
    words.push("--force-new-cluster".to_owned());
    words
}

/// What tells the others where the member is: a start with `--force-new-cluster` knows no better than the default.
fn member_update(report: &BackupReport) -> [String; 5] {
    let id = hex_id(report.identity.node_id);
    ["etcdctl", "member", "update", &id, "--peer-urls=http://FILL-IN:2380"].map(str::to_owned)
}

fn summary(report: &BackupReport, with_v3: bool) -> String {
    let account = &report.account;
    let from = match report.start.index {
        0 => "Its log begins with the first entry".to_owned(),
        index => format!("It begins with the snapshot at entry {index}"),
    };
    let v3 = if with_v3 {
        String::new()
    } else {
        format!(" {} request(s) of the v3 API, and with them all their keys, are left out.", account.v3)
    };
    format!(
        "Member {} of cluster {} becomes member {} of cluster {}. {from} and ends with entry {}; {} entr(y/ies) about members are \
         emptied, each in its place.{v3}",
        hex_id(report.from.0),
        hex_id(report.from.1),
        hex_id(report.identity.node_id),
        hex_id(report.identity.cluster_id),
        report.last_index,
        account.membership.saturating_add(account.attributes),
    )
}

fn story(args: &BackupArgs, report: &BackupReport) -> Vec<Note> {
    let mut notes = Vec::new();
    if args.write.dry_run {
        notes.push(Note::Prose("Dry run: nothing was written.".to_owned()));
    } else {
        notes.push(Note::Prose(format!(
            "Wrote {}; {} is unchanged.",
            quoted_path(&args.backup_dir),
            shown(&args.data_dir.display().to_string())
        )));
    }
    let wal_dir = args
        .backup_wal_dir
        .as_ref()
        .map_or_else(String::new, |wal_dir| format!(" --wal-dir {}", quoted_path(wal_dir)));
    notes.push(Note::Prose(format!(
        "To restore it: copy it to its host, start etcd on the copy once with --data-dir {}{wal_dir} --force-new-cluster, and from then on \
         without that flag, which would throw out members that were added since. The member then says that it lives at \
         http://localhost:2380; where others are to join it, tell them better:",
        quoted_path(&args.backup_dir),
    )));
    notes.push(Note::Verbatim(format!("\n{}", member_update(report).join(" "))));
    notes
}
