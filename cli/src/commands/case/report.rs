//! `case report`: one self-contained HTML file.

use std::path::PathBuf;

use casefile::report::{self, Redact};
use clap::{Args, ValueEnum};
use serde::Serialize;
use snapshot::humanize;

use super::CaseFile;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell};
use crate::shown::shown;

/// Writes a report on a case as one HTML file, without scripts or references to elsewhere
///
/// What was examined, with hashes; verdicts; the members side by side; the history over index and revision; where members part; a page map and a
/// treemap of the key space for each database; findings with remedies; custody. It reads in light and dark, on a phone and printed: a PDF is
/// what the browser prints. Values are shown only where they are in the case, of revisions in which sources differ.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case report incident.case -o report.html
  etcd-rescue case report incident.case -o for-the-vendor.html --redact keys")]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    file: CaseFile,
    /// The file to write; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What is left out, for a report that leaves the house
    #[arg(long, value_name = "WHAT")]
    redact: Option<RedactArg>,
    /// Remove what earlier, killed runs left at the same place
    #[arg(long)]
    clean: bool,
}

/// `--redact`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RedactArg {
    /// Values of keys by whose names they are secrets, and hashes of these values.
    Secrets,
    /// All values and their hashes.
    Values,
    /// Names of keys too, and what findings say beyond their title.
    Keys,
}

#[derive(Serialize)]
struct Json<'a> {
    path: &'a str,
    size: u64,
    sha256: &'a str,
}

/// Writes it.
///
/// # Errors
/// When the case cannot be read, or the report cannot be written.
pub(super) fn run(args: &ReportArgs, context: &Context) -> Result<Outcome, Failure> {
    let case = args.file.open()?;
    let left = Leftovers::sweep(&args.output, args.clean)?;
    let redact = args.redact.map(|redact| match redact {
        RedactArg::Secrets => Redact::Secrets,
        RedactArg::Values => Redact::Values,
        RedactArg::Keys => Redact::Keys,
    });
    let watch = context.watch.as_ref();
    let written = report::write(&case, redact, &args.output, watch)?;
    watch.finish();
    let path = shown(&args.output.display().to_string());
    let json = Json { path: &path, size: written.len_bytes, sha256: &written.sha256 };
    let row = vec![
        Cell::new("path", "Path", &path),
        Cell::shown("size", "Size", &humanize::bytes(written.len_bytes), &written.len_bytes),
        Cell::new("sha256", "SHA256", &written.sha256),
    ];
    let mut outcome = Outcome { before: left.notes().collect(), ..Outcome::default() };
    outcome.result = output::render(context.format, &[row], &json)?;
    outcome.after.push(Note::Prose(format!("Open {path} in a browser; its print is the PDF.")));
    Ok(outcome)
}
