//! `snapshot save`: a snapshot from a dead member's files.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::datadir::Kind;
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::integrity::Digest;
use snapshot::save::{self, SaveOptions};

use super::folding::{self, FoldArgs};
use super::writing::WriteArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell};
use crate::shown::shown;

const EXAMPLE: &str = "\
Example:
  etcd-rescue snapshot save /var/lib/etcd -o snapshot.db
  etcd-rescue snapshot save /var/lib/etcd --to-revision 123456 -o before.db
  etcd-rescue snapshot save older.db --wal-dir /var/lib/etcd/member/wal -o newer.db";

/// Makes a snapshot, with its integrity hash, from the files of a member that does not run
///
/// The result is what the server would have sent: etcdutl restores it without --skip-hash-check. Of a data dir, what the member's
/// log holds beyond its database is applied to it as the server would have: up to the last entry that is known to be
/// committed, or, where the member alone votes, to the log's end. It says what was applied, and what was left out and why.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct SaveArgs {
    /// The data dir, member dir or db file of a member that does not run
    #[arg(value_name = "DIR")]
    input: PathBuf,
    /// The snapshot to write; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The log's directory, where etcd was given one of its own; for a db or snapshot file, the log to fold into it
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    #[command(flatten)]
    fold: FoldArgs,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: String,
    size: u64,
    sha256: Option<&'a Digest>,
    revision: i64,
    consistent_index: u64,
    log_not_folded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fold: Option<serde_json::Value>,
    dry_run: bool,
    findings: &'a [Finding],
}

/// Saves.
///
/// # Errors
/// When the input cannot be read or is damaged, or the output cannot be written.
pub(crate) fn run(args: SaveArgs, context: &Context) -> Result<Outcome, Failure> {
    let Some(output) = args.output else {
        return Err(no_output(&args.input));
    };
    let owner = args.write.owner()?;
    let (input, notes) = context.open(&args.input)?;
    let left = Leftovers::sweep(&output, args.write.clean && !args.write.dry_run)?;
    let log = args.fold.log(&input, args.wal_dir.as_deref(), "--wal-dir", context)?;
    let options = SaveOptions { output, dry_run: args.write.dry_run, owner };
    let watch = context.watch.as_ref();
    let report = match &log {
        Some(files) => save::save_folded(&input, files, &args.fold.options(), &options, watch)?,
        None => save::save(&input, &options, watch)?,
    };

    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    outcome.before.extend(left.notes());
    outcome.note_findings(&report.findings);
    outcome.before.extend(report.fold.iter().flat_map(folding::story));
    let path = report.output.display().to_string();
    let json = Json {
        path: path.clone(),
        size: report.image_bytes,
        sha256: report.digest.as_ref(),
        revision: report.revision,
        consistent_index: report.consistent_index,
        log_not_folded: report.log_not_folded,
        fold: report.fold.as_ref().map(folding::json),
        dry_run: args.write.dry_run,
        findings: &report.findings,
    };
    let sha256 = report.digest.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let row = vec![
        Cell::new("path", "Path", &path),
        Cell::shown("size", "Size", &humanize::bytes(report.image_bytes), &report.image_bytes),
        Cell::new("sha256", "SHA256", &sha256),
        Cell::new("revision", "Revision", &report.revision),
        Cell::new("consistent index", "Consistent index", &report.consistent_index),
    ];
    outcome.result = output::render(context.format, &[row], &json)?;
    outcome.after.push(Note::Prose(if args.write.dry_run {
        format!("Dry run: nothing was written. {path} would be the snapshot described above.")
    } else {
        format!("Snapshot saved at {path}. To restore it: etcd-rescue snapshot restore {path}")
    }));
    if report.log_not_folded {
        outcome.after.push(Note::Warning(format!(
            "warning: the log was not folded: the snapshot ends at the database's consistent index {}, and \
             entries that only the log of {} holds are not in it{}",
            report.consistent_index,
            shown(&args.input.display().to_string()),
            if input.kind() == Kind::File {
                ". Given the data dir, or the log with --wal-dir, this command folds it"
            } else {
                ""
            }
        )));
    }
    Ok(outcome)
}

/// Without `-o` this may be `etcdctl snapshot save FILE`, which asks a server.
fn no_output(input: &std::path::Path) -> Failure {
    let input = input.display();
    Failure::usage(format!(
        "-o FILE is missing: this command makes a snapshot from a dead member's files and asks no server. \
         From files: etcd-rescue snapshot save DIR -o FILE. From a running server: etcdctl snapshot save {input}"
    ))
}
