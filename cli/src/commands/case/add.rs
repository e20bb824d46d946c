//! `case add`: sources into a case.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use casefile::{AddOptions, Added};
use clap::Args;
use serde::Serialize;

use super::{CaseFile, parted, rows};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Adds data dirs, databases, snapshots or logs to a case, each under a name
///
/// Each is read once: every file is hashed, everything is verified as 'verify' does, and every revision and log entry is noted with its place
/// and the hash of its value. What is damaged is added as far as it can be read, with its findings. A name that is there already with the same
/// files is passed over; with other files it is refused. Sources are added one by one: when one fails, those before it are in the case. Exit
/// code 3 when there are findings.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case add incident.case n1=/mnt/node1/etcd n2=/mnt/node2/etcd monday=snapshot.db
  etcd-rescue case add incident.case n3=/mnt/node3/etcd --examiner 'A. Example' --note 'disk 4711, received 2 May 2026'")]
pub(crate) struct AddArgs {
    #[command(flatten)]
    file: CaseFile,
    /// What to add, and under which name
    #[arg(value_name = "NAME=PATH", required = true)]
    sources: Vec<OsString>,
    /// The log's directory, where etcd was given one of its own; with one source only
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Put the values into the case too, so that they can be read without the source
    #[arg(long)]
    embed_values: bool,
    /// Who adds them, for the record
    #[arg(long, value_name = "TEXT")]
    examiner: Option<String>,
    /// What is to be known of them, for the record: where they come from, when they were received
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Remove what earlier, killed runs left at the same place
    #[arg(long)]
    clean: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    name: &'a str,
    path: &'a str,
    what: &'a str,
    was_there: bool,
    files: usize,
    records: u64,
    entries: u64,
    findings: usize,
}

/// Adds them.
///
/// # Errors
/// When a source cannot be read, is known with other files, or the case cannot be written.
pub(super) fn run(args: &AddArgs, context: &Context) -> Result<Outcome, Failure> {
    let given = args.sources.iter().map(|text| parted(text)).collect::<Result<Vec<_>, _>>()?;
    if args.wal_dir.is_some() && given.len() > 1 {
        return Err(Failure::usage(
            "--wal-dir: is the log's directory of one member; give one NAME=PATH with it",
        ));
    }
    let mut options = AddOptions {
        facts: context.facts_options(args.wal_dir.as_deref()),
        embed_values: args.embed_values,
        examiner: args.examiner.clone(),
        note: args.note.clone(),
        command: super::command_line(),
        continues: false,
    };
    for path in given.iter().map(|(_, path)| *path).chain(args.wal_dir.as_deref()) {
        ensure_outside(&args.file.case, path)?;
    }
    let case = args.file.to_change()?;
    let left = Leftovers::sweep(&case, args.clean)?;
    let watch = context.watch.as_ref();
    let mut outcome = Outcome { before: left.notes().collect(), ..Outcome::default() };
    let mut all = Vec::new();
    for (name, path) in given {
        let added = casefile::add(&case, name, path, &options, watch)
            .map_err(|error| told_before(error.into(), &all))?;
        // One command, however many sources it adds.
        options.continues |= !added.was_there;
        all.push(added);
    }
    watch.finish();
    for Added { source, was_there } in &all {
        let name = shown(&source.name);
        if *was_there {
            outcome.before.push(Note::Prose(format!("{name}: is in the case already, with the same files")));
        }
        for finding in &source.findings {
            outcome.code = exit::FINDINGS;
            let text = format!("{name}: {} {}: {}", finding.severity, finding.code, finding.message);
            outcome.before.push(Note::Warning(shown(&text)));
        }
        if source.more_findings > 0 {
            outcome.code = exit::FINDINGS;
            outcome.before.push(Note::Warning(format!("{name}: {} more findings", source.more_findings)));
        }
    }
    let lines: Vec<_> = all.iter().map(|added| row(added, context.format)).collect();
    let objects: Vec<_> = all.iter().map(json).collect();
    outcome.result = match context.format {
        // A line each, as of all questions.
        Format::Json => objects.iter().map(output::json).collect::<Result<_, _>>()?,
        format => output::render(format, &lines, &objects)?,
    };
    Ok(outcome)
}

/// Refuses a case below what it is to be evidence of: with every change of the case the evidence would be another.
fn ensure_outside(case: &Path, source: &Path) -> Result<(), Failure> {
    let (Ok(case_path), Ok(source_path)) = (case.canonicalize(), source.canonicalize()) else {
        return Ok(());
    };
    if !case_path.starts_with(&source_path) {
        return Ok(());
    }
    let (case, source) = (shown(&case.display().to_string()), shown(&source.display().to_string()));
    Err(Failure::failed(if case_path == source_path {
        format!("{source}: is the case itself, and no source")
    } else {
        format!(
            "{case}: lies within {source}, and would change what it is evidence of; move the case out of it, and add it again"
        )
    }))
}

/// What is in the case when a later source fails.
fn told_before(failure: Failure, all: &[Added]) -> Failure {
    if all.is_empty() {
        return failure;
    }
    let names: Vec<&str> = all.iter().map(|added| added.source.name.as_str()).collect();
    let message = format!("{} (in the case: {})", failure.message, shown(&names.join(", ")));
    Failure { message, ..failure }
}

fn json(added: &Added) -> Json<'_> {
    let source = &added.source;
    Json {
        name: &source.name,
        path: &source.path,
        what: &source.what,
        was_there: added.was_there,
        files: source.files.len(),
        records: source.key_space.as_ref().map_or(0, |space| space.records),
        entries: source.log.as_ref().map_or(0, |log| log.entries),
        findings: source.findings.len(),
    }
}

fn row(added: &Added, format: Format) -> Vec<Cell> {
    let Json { name, what, files, records, entries, findings, was_there, .. } = json(added);
    let name = shown(name);
    let number = |header, label, count, words| rows::number(format, header, label, count, words);
    vec![
        Cell::new("source", "Source", &name),
        Cell::new("what", "What", what),
        number("files", "Files", files as u64, ("file", "files")),
        number("records", "Records", records, ("record", "records")),
        number("entries", "Entries", entries, ("entry", "entries")),
        number("findings", "Findings", findings as u64, ("finding", "findings")),
        Cell::new("added", "Added", if was_there { "was there" } else { "added" }),
    ]
}
