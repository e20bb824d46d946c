//! `case findings`: what is wrong with the sources.

use clap::Args;
use serde::Serialize;

use super::CaseFile;
use super::rows::ShownArgs;
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Lists what is wrong with the sources of a case
///
/// With -w json each finding is an object on a line of its own. 'verify --explain CODE' says what a code means. Exit code 3 when there are any.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case findings incident.case --source n2")]
pub(crate) struct FindingsArgs {
    #[command(flatten)]
    file: CaseFile,
    /// Only those of this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    #[command(flatten)]
    shown: ShownArgs,
}

#[derive(Serialize)]
struct Json<'a> {
    source: &'a str,
    code: &'a str,
    severity: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// Lists them.
///
/// # Errors
/// When the case cannot be read, or has no such source.
pub(super) fn run(args: &FindingsArgs, context: &Context) -> Result<Outcome, Failure> {
    let case = args.file.open()?;
    let only = args.source.as_ref().map(|name| case.source(name)).transpose()?;
    let mut outcome = Outcome::default();
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for source in case.sources().iter().filter(|source| only.is_none_or(|only| only.number == source.number))
    {
        for finding in &source.findings {
            let file = super::file_of(source, finding.file);
            let sha256 = finding.file.and_then(|at| source.files.get(at)).map(|file| file.sha256.as_str());
            let mut row = vec![
                Cell::new("source", "Source", &shown(&source.name)),
                Cell::new("severity", "Severity", &finding.severity),
                Cell::new("code", "Code", &finding.code),
                Cell::new("finding", "Finding", &shown(&finding.message)),
                Cell::new("file", "File", &shown(file.unwrap_or_default())),
                Cell::new(
                    "offset",
                    "Offset",
                    &finding.offset.map_or_else(String::new, |offset| format!("{offset:#x}")),
                ),
            ];
            if args.shown.cite {
                row.push(Cell::new("file sha256", "File SHA256", sha256.unwrap_or_default()));
            }
            rows.push(row);
            objects.push(Json {
                source: &source.name,
                code: &finding.code,
                severity: &finding.severity,
                message: &finding.message,
                file,
                sha256,
                offset: finding.offset,
            });
        }
        if source.more_findings > 0 {
            let text =
                format!("{}: {} more findings about the log", shown(&source.name), source.more_findings);
            outcome.after.push(Note::Warning(text));
        }
    }
    if objects.is_empty() {
        outcome.after.push(Note::Prose("No findings.".to_owned()));
    } else {
        outcome.code = exit::FINDINGS;
    }
    outcome.result = match context.format {
        Format::Json => objects.iter().map(output::json).collect::<Result<_, _>>()?,
        Format::Simple => rows.iter().map(|row| line(row)).collect(),
        format => output::render(format, &rows, &())?,
    };
    Ok(outcome)
}

/// A finding as other commands show it, with its place behind it.
fn line(row: &[Cell]) -> String {
    let text = |at: usize| row.get(at).map_or("", |cell| cell.text.as_str());
    let sha256 = if text(6).is_empty() { String::new() } else { format!(", sha256 {}", text(6)) };
    let place = match (text(4), text(5)) {
        ("", "") => String::new(),
        (file, "") => format!(" ({file}{sha256})"),
        (file, offset) => format!(" ({file} at {offset}{sha256})"),
    };
    format!("{}: {} {}: {}{place}\n", text(0), text(1), text(2), text(3))
}
