//! `migrate`: a member's database made to fit another minor version of etcd.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::datadir;
use snapshot::finding::Finding;
use snapshot::migrate::needs::{Blocking, Need};
use snapshot::migrate::{self, MigrateOptions, MigrateReport};
use snapshot::opened::OpenError;
use snapshot::semver::Semver;

use super::writing::WriteArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{self, Note, Outcome};
use crate::output::{self, Cell};
use crate::shown::shown;

/// Makes a member's database fit another minor version of etcd, as etcdutl migrate does
///
/// The member must not run. From 3.6 on a database says which version's rows it has, and this changes what it says, a minor version at a time,
/// from 3.5 to 3.7 and back. On the way down the log is read: an entry that the older version does not know keeps the database as it
/// is, and is named. The version that the cluster has agreed on is another one, which stays; where a server of the target would end
/// over it that is said.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue migrate --data-dir /var/lib/etcd --target-version 3.5 --dry-run
  etcd-rescue migrate --data-dir /var/lib/etcd --target-version 3.6 --keep-original")]
pub(crate) struct MigrateArgs {
    /// The data dir or member dir of a member that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The version to migrate to, as X.Y; not older than 3.5
    #[arg(long, value_name = "X.Y")]
    target_version: String,
    /// Write the version also where there is no way to it, or entries of the log are in it
    #[arg(long)]
    force: bool,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Write a migrated copy of the whole data dir here, and leave the input alone; it must not exist or be empty
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Leave a copy of the old database beside the new one
    #[arg(long, conflicts_with = "output")]
    keep_original: bool,
    /// Make the cluster's version the target's too, so that a server of it starts: the whole member gets a fresh snapshot
    #[arg(long)]
    set_cluster_version: bool,
    /// The same is done on every member of the cluster
    #[arg(long, requires = "set_cluster_version")]
    on_every_member: bool,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: String,
    from: String,
    to: String,
    steps: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forced: Option<&'a str>,
    cluster_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    dry_run: bool,
    findings: &'a [Finding],
    warnings: &'a [String],
}

/// What the entries behind the log's last snapshot need.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogJson<'a> {
    entries: u64,
    needs: Option<&'a Need>,
    blocking: &'a [Blocking],
    blocking_count: u64,
}

/// Migrates.
///
/// # Errors
/// When a server holds the database, there is no way to the version or entries are in it, or the new database cannot be written.
pub(crate) fn run(args: &MigrateArgs, context: &Context) -> Result<Outcome, Failure> {
    let target =
        migrate::target(&args.target_version).map_err(|error| Failure::usage(shown(&error.to_string())))?;
    if args.output.is_none() && args.write.owner.is_some() {
        return Err(Failure::usage(
            "--owner is about a copy, and needs -o OUT: in place the database keeps the owner it has",
        ));
    }
    let options = MigrateOptions {
        target,
        force: args.force,
        output: args.output.clone(),
        keep_original: args.keep_original,
        dry_run: args.write.dry_run,
        owner: args.write.owner()?,
    };
    if args.set_cluster_version {
        let input = context.facts_options(args.wal_dir.as_deref());
        let watch = context.watch.as_ref();
        let report = migrate::migrate_whole(
            &args.data_dir,
            &options,
            args.on_every_member,
            args.write.clean,
            &input,
            watch,
        )?;
        let left = Leftovers { found: report.leftovers.clone(), removed: report.cleaned.clone() };
        outcome::tell(&left.notes().collect::<Vec<_>>(), context.quiet);
        return told(args, context, &report);
    }
    let db = datadir::locate(&args.data_dir).map_err(OpenError::from)?.db;
    // What is staged lies beside the file, where the db is a link to it.
    let file = db.canonicalize().unwrap_or(db);
    let (input, mut before) = match &args.output {
        Some(_) => context.open(&args.data_dir)?,
        None => context.open_to_replace(&args.data_dir)?,
    };
    let place = args.output.as_deref().unwrap_or(&file);
    let left = Leftovers::sweep(place, args.write.clean && !args.write.dry_run)?;
    before.extend(left.notes());
    outcome::tell(&before, context.quiet);
    let log = context.log_options(args.wal_dir.as_deref());
    let report = migrate::migrate(&input, &log, &options, context.watch.as_ref())?;
    told(args, context, &report)
}

fn told(args: &MigrateArgs, context: &Context, report: &MigrateReport) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    outcome.before.extend(in_etcds_words(report).into_iter().map(Note::Prose));
    outcome.note_findings(&report.findings);
    let path = |path: &PathBuf| path.display().to_string();
    let needs = report.needs.as_ref();
    let json = Json {
        path: path(&report.db),
        from: report.from.to_string(),
        to: report.to.to_string(),
        steps: report.steps.iter().map(Semver::to_string).collect(),
        forced: report.forced.as_deref(),
        cluster_version: &report.cluster_version,
        log: needs.map(|needs| LogJson {
            entries: needs.entries,
            needs: needs.highest.as_ref().map(|(need, _)| need),
            blocking: &needs.blocking,
            blocking_count: needs.blocking_count,
        }),
        output: args.output.as_ref().map(path),
        original: report.original.as_ref().map(path),
        dry_run: args.write.dry_run,
        findings: &report.findings,
        warnings: &report.warnings,
    };
    let row = vec![
        Cell::new("path", "Path", &json.path),
        Cell::new("from", "From", &json.from),
        Cell::new("to", "To", &json.to),
        Cell::new("cluster version", "Cluster version", &shown(&report.cluster_version)),
    ];
    outcome.result = output::render(context.format, &[row], &json)?;
    outcome.after.extend(report.warnings.iter().map(|text| Note::Warning(format!("warning: {text}"))));
    outcome.after.extend(story(args, report).into_iter().map(Note::Prose));
    Ok(outcome)
}

/// What etcdutl logs.
fn in_etcds_words(report: &MigrateReport) -> Vec<String> {
    let short = report.to.short();
    if let Some(why) = &report.forced {
        let is_kept = !report.to.is_before(&migrate::steps::FIRST_KEPT);
        let forcefully = if is_kept {
            format!("forcefully set storage version {{\"storage-version\": \"{short}\"}}")
        } else {
            "forcefully cleared storage version".to_owned()
        };
        return vec![format!("normal migrate failed, trying with force: {}", shown(why)), forcefully];
    }
    if report.is_up_to_date() {
        return vec![format!("storage version up-to-date {{\"storage-version\": \"{short}\"}}")];
    }
    let step = |to| format!("updated storage version {{\"new-storage-version\": \"{to}\"}}");
    report.steps.iter().map(step).collect()
}

/// What became of which files.
fn story(args: &MigrateArgs, report: &MigrateReport) -> Vec<String> {
    let db = report.db.display();
    if args.write.dry_run {
        return vec!["Dry run: nothing was written.".to_owned()];
    }
    let mut told = Vec::new();
    match &args.output {
        Some(output) => {
            told.push(format!("Wrote {}; {} is unchanged.", output.display(), args.data_dir.display()));
        }
        None if report.steps.is_empty() && report.forced.is_none() && report.seat.is_none() => {
            told.push(format!("{db} was not changed."));
        }
        None => told.push(format!("{db} is one of {} now.", report.to.short())),
    }
    if let Some(seat) = report.seat {
        told.push(format!(
            "The cluster's version is {} here. Servers start from a fresh snapshot at entry {seat}; nothing was added to the log's entries.",
            report.to.short()
        ));
    }
    if let Some(original) = &report.original {
        told.push(format!(
            "What was there before is {}, which no etcd loads; remove it when it is not needed any more.",
            original.display()
        ));
    }
    if !report.left_out.is_empty() {
        told.push(format!("Not copied, since no server needs them: {}.", shown(&report.left_out.join(", "))));
    }
    told
}
