//! `defrag`: a data dir's db without its free pages, in place.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use snapshot::compact_file::{self, CompactOptions, Survey};
use snapshot::datadir;
use snapshot::defrag::{self, AS_ETCD, DefragOptions};
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::opened::OpenError;
use snapshot::replaced;

use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{self, Note, Outcome};
use crate::output::{self, Cell};

/// Gives the free pages of a member's database back, as etcdutl defrag does
///
/// The member must not run. A new database is written beside the old one, synced, read back and compared, and only then put
/// in its place by one rename; the old one is then gone, unless --keep-original leaves a copy, or -o leaves it alone. What is kept of
/// the history stays: only a compaction, by a running etcd, makes revisions free.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue defrag --data-dir /var/lib/etcd --dry-run
  etcd-rescue defrag --data-dir /var/lib/etcd")]
pub(crate) struct DefragArgs {
    /// The data dir or member dir of a member that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Write the defragmented copy here, and leave the database alone; the file must not exist
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Leave a copy of the old database beside the new one
    #[arg(long, conflicts_with = "output")]
    keep_original: bool,
    /// Do everything but write
    #[arg(long)]
    dry_run: bool,
    /// Remove what earlier, killed runs left at the same place
    #[arg(long)]
    clean: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: String,
    size_before: u64,
    in_use_before: u64,
    size_after: u64,
    buckets: u64,
    keys: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    dry_run: bool,
    findings: &'a [Finding],
    warnings: &'a [String],
}

/// What was, or would be, done.
struct Done {
    path: PathBuf,
    report: compact_file::CompactReport,
    original: Option<PathBuf>,
    warnings: Vec<String>,
}

/// Defragments.
///
/// # Errors
/// When a server holds the database, it is damaged, or the new one cannot be written.
pub(crate) fn run(args: &DefragArgs, context: &Context) -> Result<Outcome, Failure> {
    let db = datadir::locate(&args.data_dir).map_err(OpenError::from)?.db;
    // What is staged lies beside the file, where the db is a link to it.
    let file = db.canonicalize().unwrap_or_else(|_| db.clone());
    let place = args.output.as_deref().unwrap_or(&file);
    let (input, notes) = match &args.output {
        Some(_) => context.open(&args.data_dir)?,
        None => context.open_to_replace(&args.data_dir)?,
    };
    if args.output.is_none() {
        replaced::ensure_in_place(&input)?;
    }
    let left = Leftovers::sweep(place, args.clean && !args.dry_run)?;
    if let Some(output) = &args.output {
        compact_file::ensure_free(output)?;
    }
    let watch = context.watch.as_ref();
    let survey = compact_file::survey(&input, &AS_ETCD, watch)?;
    watch.finish();
    let mut before = notes;
    before.extend(left.notes());
    before.push(Note::Prose(plan(&db, &survey)));
    outcome::tell(&before, context.quiet);
    let done = match &args.output {
        Some(output) => {
            let options = CompactOptions {
                output: output.clone(),
                rebuild: AS_ETCD,
                dry_run: args.dry_run,
                owner: None,
            };
            let report = compact_file::compact(&input, &survey, &options, watch)?;
            Done { path: output.clone(), report, original: None, warnings: Vec::new() }
        }
        None => {
            let options = DefragOptions { dry_run: args.dry_run, keep_original: args.keep_original };
            let done = defrag::defrag(&input, &survey, options, watch)?;
            Done { path: db, report: done.compact, original: done.original, warnings: done.warnings }
        }
    };
    shown(args, context, &survey, &done)
}

/// What is going to happen.
fn plan(db: &Path, survey: &Survey) -> String {
    let size = humanize::bytes;
    let expected = survey.expected_bytes;
    let freed = match survey.file_bytes.checked_sub(expected).filter(|freed| *freed > 0) {
        Some(freed) => format!("frees about {}", size(freed)),
        None => "frees nothing".to_owned(),
    };
    format!(
        "{}: {} long, {} of it in use; about {} afterwards, which {freed}. History that was not compacted stays.",
        db.display(),
        size(survey.file_bytes),
        size(survey.in_use_bytes),
        size(expected),
    )
}

fn shown(args: &DefragArgs, context: &Context, survey: &Survey, done: &Done) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    outcome.note_findings(&survey.findings);
    let path = done.path.display().to_string();
    let (before, after) = (done.report.before_bytes, done.report.after_bytes);
    let original = done.original.as_ref().map(|path| path.display().to_string());
    let json = Json {
        path: path.clone(),
        size_before: before,
        in_use_before: survey.in_use_bytes,
        size_after: after,
        buckets: done.report.rebuilt.content.buckets,
        keys: done.report.rebuilt.content.pairs,
        original: original.clone(),
        dry_run: args.dry_run,
        findings: &survey.findings,
        warnings: &done.warnings,
    };
    let row = vec![
        Cell::new("path", "Path", &path),
        Cell::shown("before", "Size before", &humanize::bytes(before), &before),
        Cell::shown("in use", "In use before", &humanize::bytes(survey.in_use_bytes), &survey.in_use_bytes),
        Cell::shown("after", "Size after", &humanize::bytes(after), &after),
    ];
    outcome.result = output::render(context.format, &[row], &json)?;
    outcome.after.extend(done.warnings.iter().map(|text| Note::Warning(format!("warning: {text}"))));
    outcome.after.push(Note::Prose(if args.dry_run {
        format!("Dry run: nothing was written. {path} would be the database described above.")
    } else if args.output.is_some() {
        format!("Wrote {path}; {} is unchanged.", args.data_dir.display())
    } else {
        format!("{path} is defragmented: it holds the same keys, and a server starts from it as before.")
    }));
    if let Some(original) = original {
        outcome.after.push(Note::Prose(format!(
            "The old database is {original}, which no etcd loads; remove it when it is not needed any more."
        )));
    }
    Ok(outcome)
}
