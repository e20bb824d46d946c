//! `case sources`: what was added.

use casefile::Source;
use clap::Args;
use snapshot::membership::hex_id;

use super::{CaseFile, rows};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Lists the sources of a case: what they are, whose, how far they go, and with --files the hash of every file
///
/// With -w json each is an object on a line of its own, with everything the case keeps of it as a whole.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case sources incident.case -w table
  etcd-rescue case sources incident.case --files")]
pub(crate) struct SourcesArgs {
    #[command(flatten)]
    file: CaseFile,
    /// Every file with its length and its SHA-256
    #[arg(long)]
    files: bool,
}

/// Lists them.
///
/// # Errors
/// When the case cannot be read.
pub(super) fn run(args: &SourcesArgs, context: &Context) -> Result<Outcome, Failure> {
    let case = args.file.open()?;
    let sources = case.sources();
    let result = match context.format {
        Format::Json => sources.iter().map(output::json).collect::<Result<_, _>>()?,
        format => {
            let all: Vec<_> = if args.files {
                sources.iter().flat_map(files).collect()
            } else {
                sources.iter().map(|source| row(source, format)).collect()
            };
            output::render(format, &all, &())?
        }
    };
    let mut outcome = Outcome { result, ..Outcome::default() };
    if sources.is_empty() {
        outcome.after.push(Note::Prose("No sources yet: 'case add' adds them.".to_owned()));
    }
    Ok(outcome)
}

fn files(source: &Source) -> impl Iterator<Item = Vec<Cell>> {
    let row = |path: &str, len_bytes: u64, sha256: &String| {
        vec![
            Cell::new("source", "Source", &shown(&source.name)),
            Cell::new("file", "File", &shown(path)),
            Cell::new("size", "Size", &len_bytes),
            Cell::new("sha256", "SHA256", sha256),
        ]
    };
    source.files.iter().flat_map(move |file| {
        // What citations of a packed file are about.
        let unpacked = file.unpacked.as_ref();
        let unpacked =
            unpacked.map(|(len_bytes, sha256)| row(&format!("{} (unpacked)", file.path), *len_bytes, sha256));
        [row(&file.path, file.len_bytes, &file.sha256)].into_iter().chain(unpacked)
    })
}

fn row(source: &Source, format: Format) -> Vec<Cell> {
    let space = source.key_space.as_ref();
    let known = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    let named = |header, label, name: &str, value: Option<String>| {
        rows::named(header, label, format, name, known(value))
    };
    let number =
        |header, label, count: usize, words| rows::number(format, header, label, count as u64, words);
    let last = source.log.as_ref().and_then(|log| log.terms.last());
    vec![
        Cell::new("source", "Source", &shown(&source.name)),
        Cell::new("what", "What", &source.what),
        named("member", "Member", "member", source.identity.member.map(hex_id)),
        number("files", "Files", source.files.len(), ("file", "files")),
        named("records", "Records", "records", space.map(|space| space.records.to_string())),
        named("revision", "Revision", "revision", space.map(|space| space.revision.to_string())),
        named(
            "compacted",
            "Compacted",
            "compacted at",
            space.and_then(|space| space.compacted).map(|at| at.to_string()),
        ),
        named(
            "last entry",
            "Last entry",
            "last entry",
            last.map(|run| format!("{} of term {}", run.last, run.term)),
        ),
        Cell::new("verdict", "Verdict", &source.verdict.outlook),
        number("findings", "Findings", source.findings.len(), ("finding", "findings")),
        Cell::new("path", "Path", &shown(&source.path)),
    ]
}
