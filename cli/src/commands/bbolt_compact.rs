//! `bbolt compact`: a bbolt file without its free pages.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::compact_file::{self, AS_BBOLT, CompactOptions};
use snapshot::finding::Finding;
use snapshot::humanize;

use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};

/// What bbolt takes for a transaction where it is not told.
const TX_MAX_SIZE: i64 = 65_536;

/// Writes a copy of a bbolt file without its free pages, leaves full and in the order of the keys
///
/// Every bucket is copied, nested ones too, with its sequence. The input stays as it is; one that is damaged is refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt compact -o compacted.db /var/lib/etcd/member/snap/db")]
pub(crate) struct CompactArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "SRC")]
    input: PathBuf,
    /// The file to write; it must not exist
    #[arg(short, long, value_name = "DST")]
    output: PathBuf,
    /// Accepted as bbolt's, and without effect: one pass over the file needs no transactions
    #[arg(long, value_name = "BYTES", default_value_t = TX_MAX_SIZE, allow_negative_numbers = true)]
    tx_max_size: i64,
    /// Accepted as bbolt's, and without effect: the file is synced and read back before it gets its name
    #[arg(long)]
    no_sync: bool,
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
    size_after: u64,
    gain: f64,
    buckets: u64,
    keys: u64,
    dry_run: bool,
    findings: &'a [Finding],
}

/// Compacts.
///
/// # Errors
/// When the input cannot be read or is damaged, or the output cannot be written.
pub(crate) fn run(args: &CompactArgs, context: &Context) -> Result<Outcome, Failure> {
    let (input, notes) = context.open(&args.input)?;
    let left = Leftovers::sweep(&args.output, args.clean && !args.dry_run)?;
    let watch = context.watch.as_ref();
    let options =
        CompactOptions { output: args.output.clone(), rebuild: AS_BBOLT, dry_run: args.dry_run, owner: None };
    compact_file::ensure_free(&options.output)?;
    let survey = compact_file::survey(&input, &AS_BBOLT, watch)?;
    let report = compact_file::compact(&input, &survey, &options, watch)?;

    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    outcome.before.extend(left.notes());
    outcome.note_findings(&survey.findings);
    let path = args.output.display().to_string();
    let (before, after) = (report.before_bytes, report.after_bytes);
    let gain = report.gain();
    outcome.result = if context.format == Format::Simple {
        format!("{before} -> {after} bytes (gain={gain:.2}x)\n")
    } else {
        let json = Json {
            path: path.clone(),
            size_before: before,
            size_after: after,
            gain,
            buckets: report.rebuilt.content.buckets,
            keys: report.rebuilt.content.pairs,
            dry_run: args.dry_run,
            findings: &survey.findings,
        };
        let row = vec![
            Cell::new("path", "Path", &path),
            Cell::shown("before", "Size before", &humanize::bytes(before), &before),
            Cell::shown("after", "Size after", &humanize::bytes(after), &after),
            Cell::new("gain", "Gain", &format!("{gain:.2}x")),
        ];
        output::render(context.format, &[row], &json)?
    };
    if args.dry_run {
        outcome.after.push(Note::Prose(format!(
            "Dry run: nothing was written. {path} would be the file described above."
        )));
    }
    if survey.has_hash {
        outcome.after.push(Note::Prose(format!(
            "{} ends with an integrity hash, which was not looked at; {path} has none. To make a snapshot of it: \
             etcd-rescue snapshot hash {path} --attach -o OUT",
            args.input.display()
        )));
    }
    Ok(outcome)
}
