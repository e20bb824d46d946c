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
    ///
    /// What stays, whatever is left out: names and paths of sources, names, hashes and lengths of their files, names of buckets, IDs, names and
    /// URLs of members, versions, revisions, terms and indexes, numbers and lengths of keys and values, where they stand, and who examined.
    /// With 'secrets' and 'values' notes and command lines stay as they were typed. The case file is not changed: it has all of it.
    #[arg(long, value_name = "WHAT")]
    redact: Option<RedactArg>,
    /// Remove what earlier, killed runs left at the same place
    #[arg(long)]
    clean: bool,
}

/// `--redact`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RedactArg {
    /// Values, and their hashes, of keys whose names hold secret, token, passw, credential, private, certificate, oauth, apikey or api-key
    Secrets,
    /// All values and their hashes; their lengths stay, and so do names of keys
    Values,
    /// Names of keys and prefixes (numbers stand for them), all values and their hashes, and all text that may name keys: what findings say
    /// beyond code, title, file and offset; why a verdict is as it is; why something was not checked; notes; what follows the names of
    /// commands in the custody
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
