//! `kv export`: keys as JSON lines, or as a database of their own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use bbolt::Unmetered;
use clap::{Args, ValueEnum};
use serde::Serialize;
use snapshot::edited::EditOptions;
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::kv_export::{self, DbExport, ExportError, Selection};
use snapshot::mvcc::{Index, IndexOptions, KeyRange};

use super::kv_input::{self, KvInput};
use super::writing::WriteArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{self, Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::stream;

/// Writes keys as JSON lines or to a new database, as they were at a revision or with all their kept history
///
/// Lines have the key, the value, its revisions, its version and its lease; bytes that are no text stand in hexadecimal. A database
/// (--as db) holds the chosen records as they are, at the revision they were taken at, and is a snapshot to restore from; users,
/// roles, alarms and members are not in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue kv export snapshot.db --prefix /registry/configmaps/ | jq -r .key
  etcd-rescue kv export /var/lib/etcd --rev 1200 -o keys.jsonl
  etcd-rescue kv export /var/lib/etcd --prefix /app/ --as db -o app.db")]
pub(crate) struct ExportArgs {
    /// A snapshot, a db file, a member dir or a data dir
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    prefix: Option<OsString>,
    /// The revision at which keys are taken [default: the current one]
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    rev: i64,
    /// Every record that is kept up to the revision, deletions included
    #[arg(long)]
    history: bool,
    /// What is written
    #[arg(long = "as", value_name = "WHAT", default_value = "lines")]
    form: Form,
    /// The file to write; it must not exist [default for lines: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
    /// Go on past what is damaged; what can be read is written; not for a database
    #[arg(long)]
    skip_bad: bool,
}

/// `--as`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A JSON object a line.
    Lines,
    /// A database.
    Db,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: &'a str,
    records: u64,
    size: u64,
    revision: i64,
    dry_run: bool,
    findings: &'a [Finding],
}

/// Exports.
///
/// # Errors
/// When the flags contradict each other, the input cannot be read, the revision is not kept, or the output cannot be written.
pub(crate) fn run(args: &ExportArgs, context: &Context) -> Result<Outcome, Failure> {
    if args.form == Form::Db && args.output.is_none() {
        return Err(Failure::usage("-o FILE is missing: a database is written to a file"));
    }
    if args.form == Form::Db && args.skip_bad {
        return Err(Failure::usage(
            "--skip-bad does not go with --as db: what a database would lack would not be known",
        ));
    }
    if args.output.is_none() && (args.write.dry_run || args.write.clean || args.write.owner.is_some()) {
        return Err(Failure::usage("--dry-run, --clean and --owner are about the file that -o names"));
    }
    let owner = args.write.owner()?;
    let input = kv_input::open(&args.input, context)?;
    let left = match &args.output {
        Some(output) => Some(Leftovers::sweep(output, args.write.clean && !args.write.dry_run)?),
        None => None,
    };
    let db = input.db()?;
    let range = match args.prefix.clone().map(OsString::into_vec) {
        Some(prefix) if !prefix.is_empty() => KeyRange::prefix(&prefix),
        // The empty key is no user's; a database without it may start at a lower revision.
        _ if args.form == Form::Db => KeyRange::all(),
        _ => KeyRange::prefix(&[]),
    };
    let upto = (args.rev > 0).then_some(args.rev);
    let options = IndexOptions { range, upto, skip_bad: args.skip_bad, ..IndexOptions::default() };
    let watch = context.watch.as_ref();
    let offer = args.form == Form::Lines && !args.skip_bad;
    let index = Index::build(&db, &options, watch).map_err(|error| input.not_read(&error, offer))?;
    let selection = Selection { revision: args.rev.max(0), history: args.history };
    let revision = index.store().resolve(selection.revision).map_err(|error| {
        let path = args.input.display();
        Failure::failed(format!("{path}: {error}"))
    })?;
    let mut outcome = Outcome { before: input.notes.clone(), ..Outcome::default() };
    outcome.before.extend(input.behind_its_log(index.schema()));
    outcome.before.extend(left.iter().flat_map(Leftovers::notes));
    let Some(output) = &args.output else {
        outcome::tell(&outcome.before, context.quiet);
        outcome.before.clear();
        to_stdout(&index, selection, context)?;
        outcome.note_findings_after(index.findings());
        return Ok(outcome);
    };
    outcome.note_findings(index.findings());
    let path = output.display().to_string();
    let (records, size) = match args.form {
        Form::Lines if args.write.dry_run => {
            stage_is_free(output)?;
            let mut counted = Counted::default();
            let records = kv_export::write_lines(&index, selection, &mut counted, &Unmetered(watch))?;
            (records, counted.0)
        }
        Form::Lines => kv_export::to_file(&input.opened, &index, selection, output, owner, watch)?,
        Form::Db => {
            let options = EditOptions {
                output: output.clone(),
                dry_run: args.write.dry_run,
                owner,
                io: context.io(),
                with_hash: false,
            };
            let made = kv_export::to_db(&input.opened, &index, selection, &options, watch)?;
            outcome.after.extend(about(&made, &input, &path));
            (made.records, made.report.after_bytes)
        }
    };
    let json = Json {
        path: &path,
        records,
        size,
        revision,
        dry_run: args.write.dry_run,
        findings: index.findings(),
    };
    let row = vec![
        Cell::new("path", "Path", &path),
        Cell::new("records", "Records", &records),
        Cell::shown("size", "Size", &humanize::bytes(size), &size),
        Cell::new("revision", "Revision", &revision),
    ];
    outcome.result = output::render(context.format, &[row], &json)?;
    if args.write.dry_run {
        let text = format!("Dry run: nothing was written. {path} would be the file described above.");
        outcome.after.push(Note::Prose(text));
    }
    Ok(outcome)
}

/// Prints the lines.
fn to_stdout<S: bbolt::Source>(
    index: &Index<'_, S>,
    selection: Selection,
    context: &Context,
) -> Result<(), Failure> {
    if !matches!(context.format, Format::Simple | Format::Json) {
        return Err(Failure::usage(
            "lines on standard output are JSON; leave -w out, or write a file with -o",
        ));
    }
    context.watch.finish();
    let mut failed = None;
    stream::to_stdout(|out| match kv_export::write_lines(index, selection, out, context.watch.as_ref()) {
        Ok(_) => Ok(()),
        Err(ExportError::Out(error)) => Err(error),
        Err(error) => {
            failed = Some(error);
            Ok(())
        }
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Makes sure that the output can be where it should.
fn stage_is_free(output: &Path) -> Result<(), Failure> {
    kv_export::ensure_free(output).map_err(Failure::from)
}

/// How many bytes were written to it.
#[derive(Default)]
struct Counted(u64);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the user should know of the new database.
fn about(made: &DbExport, input: &KvInput, path: &str) -> Vec<Note> {
    let mut notes = vec![Note::Warning(format!(
        "{path} holds keys and the {} lease(s) they have, and starts at revision {}; users, roles, alarms and members of {} are not \
         in it: a server restored from it lets everybody in",
        made.leases,
        made.revision,
        input.opened.path().display()
    ))];
    if made.lost_leases > 0 {
        notes.push(Note::Warning(format!(
            "{} lease(s) of these keys are not in the input; a server keeps such keys, and they never expire",
            made.lost_leases
        )));
    }
    if made.marked {
        notes.push(Note::Prose(format!(
            "No chosen record is of revision {}, so a record of the empty key stands there, as after a restore with \
             --bump-revision: without it a server would start below. No request reads it.",
            made.revision
        )));
    }
    let flag = if made.report.has_hash { "" } else { " --skip-hash-check" };
    notes.push(Note::Prose(format!("To restore it: etcd-rescue snapshot restore {path}{flag}")));
    notes
}
