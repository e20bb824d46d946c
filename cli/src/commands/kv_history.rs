//! `kv history`: every kept revision of a key, and what between them is not there.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bbolt::goquote::quote;
use clap::Args;
use snapshot::kv_export::push_number;
use snapshot::kv_history::{self, Gone, Step};
use snapshot::mvcc::{Index, IndexOptions, KeyRange, KeyValue, Record, RecordError, Store};
use snapshot::request::Style;
use snapshot::request::json::{write_bytes, write_string};

use super::{bbolt_file, kv_input};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{self, Note, Outcome};
use crate::output::Format;
use crate::shown::shown;

/// Shows every kept revision of a key: puts with version, size and lease, deletions, and what compactions took
///
/// With -w json each step is an object on a line of its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue kv history /var/lib/etcd /registry/configmaps/default/settings
  etcd-rescue kv history snapshot.db --prefix /registry/secrets/ -w json")]
pub(crate) struct HistoryArgs {
    /// A snapshot, a db file, a member dir or a data dir
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// The key
    // Not called `key`: clap would take it for etcdctl's flag of that name.
    #[arg(value_name = "KEY")]
    first_key: OsString,
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// Only revisions up to this one [default: the current one]
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    rev: Option<i64>,
    /// Show the values too
    #[arg(long)]
    values: bool,
    /// Go on past what is damaged; what can be read is shown
    #[arg(long)]
    skip_bad: bool,
}

/// Shows the history.
///
/// # Errors
/// When the input cannot be read, or nothing up to the revision is kept.
pub(crate) fn run(args: &HistoryArgs, context: &Context) -> Result<Outcome, Failure> {
    if !matches!(context.format, Format::Simple | Format::Json) {
        return Err(Failure::usage("this command prints -w simple or -w json"));
    }
    let key = args.first_key.clone().into_vec();
    let range = if args.prefix { KeyRange::prefix(&key) } else { KeyRange::single(&key) };
    let input = kv_input::open(&args.input, context)?;
    let db = input.db()?;
    let options = IndexOptions { range, upto: args.rev, skip_bad: args.skip_bad, ..IndexOptions::default() };
    let index = Index::build(&db, &options, context.watch.as_ref())
        .map_err(|error| input.not_read(&error, !args.skip_bad))?;
    let store = *index.store();
    store.resolve(args.rev.unwrap_or_default()).map_err(|error| Failure::failed(error.to_string()))?;
    context.watch.finish();
    let mut notes = input.notes.clone();
    notes.extend(input.behind_its_log(index.schema()));
    notes.push(Note::Prose(kept(&store)));
    outcome::tell(&notes, context.quiet);
    let mut unreadable = None;
    bbolt_file::to_stdout_stoppable(context.watch.as_ref(), |out| {
        let show = |out: &mut dyn Write| -> Result<(), Shown> {
            for history in index.histories() {
                let key = history.key()?;
                if context.format == Format::Simple {
                    out.write_all(printable(&key).as_bytes())?;
                    out.write_all(b"\n")?;
                }
                for step in kv_history::steps(&index, &history) {
                    let mut line = match context.format {
                        Format::Json => json(&key, &step?, args.values),
                        _ => text(&step?, args.values),
                    };
                    line.push(b'\n');
                    out.write_all(&line)?;
                }
            }
            Ok(())
        };
        match show(out) {
            Ok(()) => Ok(()),
            Err(Shown::Out(error)) => Err(error),
            Err(Shown::Record(error)) => {
                unreadable = Some(error);
                Ok(())
            }
        }
    })?;
    if let Some(error) = unreadable {
        let path = args.input.display();
        return Err(Failure::failed(format!("{path}: {error}; what was printed is not all")));
    }
    let mut outcome = Outcome::default();
    if index.key_count() == 0 {
        outcome.after.push(Note::Prose("No record of that is kept.".to_owned()));
    }
    outcome.note_findings_after(index.findings());
    Ok(outcome)
}

/// Why showing ended.
enum Shown {
    Out(io::Error),
    Record(RecordError),
}

impl From<io::Error> for Shown {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}

impl From<RecordError> for Shown {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// Which revisions are kept.
fn kept(store: &Store) -> String {
    let current = store.current_revision;
    match store.compact_revision {
        Some(compacted) => format!(
            "The store is at revision {current}, compacted at {compacted}: what newer records had superseded up to there is gone."
        ),
        None => format!("The store is at revision {current}, and was never compacted."),
    }
}

/// A key for a terminal: as it is where it is plain text, else quoted as Go does.
fn printable(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !key.is_empty() && shown(text) == text => text.to_owned(),
        _ => quoted(key),
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    quote(bytes, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn text(step: &Step<'_>, values: bool) -> Vec<u8> {
    let line = match step {
        Step::Gone(gone) => {
            let why =
                if gone.compacted { "compacted" } else { "not in this file, and no compaction tells why" };
            match (gone.versions, gone.created) {
                (Some(versions), Some(created)) => {
                    let these =
                        if versions == 1 { "1 version".to_owned() } else { format!("{versions} versions") };
                    format!("  ...: {these} since the key was created at revision {created}: {why}")
                }
                _ => format!("  ...: what was then deleted: {why}"),
            }
        }
        Step::Kept(record) => {
            let at = place(record);
            if record.revision.tombstone {
                format!("  {at}: deleted")
            } else {
                let kv = KeyValue::decode(&record.bytes).unwrap_or_default();
                let what = if kv.version == 1 { "created" } else { "put" };
                let lease = if kv.lease == 0 { String::new() } else { format!(", lease {:x}", kv.lease) };
                let value = if values { format!(", value {}", quoted(kv.value)) } else { String::new() };
                format!("  {at}: {what}, version {}, {} bytes{lease}{value}", kv.version, kv.value.len())
            }
        }
    };
    line.into_bytes()
}

/// The revision of a record, with the number of the operation within it where that is not the first.
fn place(record: &Record<'_>) -> String {
    match (record.revision.main, record.revision.sub) {
        (main, 0) => main.to_string(),
        (main, sub) => format!("{main}.{sub}"),
    }
}

fn json(key: &[u8], step: &Step<'_>, values: bool) -> Vec<u8> {
    let style = Style { cut: None, show_secrets: true };
    let mut out = vec![b'{'];
    write_bytes("key", key, &style, &mut out);
    match step {
        Step::Gone(Gone { versions, created, compacted }) => {
            write_string("step", if *compacted { "compacted" } else { "missing" }, &mut out);
            for (name, number) in [("versions", versions), ("create_revision", created)] {
                if let Some(number) = number {
                    push_number(name, *number, &mut out);
                }
            }
        }
        Step::Kept(record) => {
            let kv = KeyValue::decode(&record.bytes).unwrap_or_default();
            let deleted = record.revision.tombstone;
            write_string("step", if deleted { "delete" } else { "put" }, &mut out);
            push_number("revision", record.revision.main, &mut out);
            push_number("sub_revision", record.revision.sub, &mut out);
            push_number("record_bytes", i64::try_from(record.bytes.len()).unwrap_or(i64::MAX), &mut out);
            if !deleted {
                push_number("create_revision", kv.create_revision, &mut out);
                push_number("version", kv.version, &mut out);
                push_number("value_bytes", i64::try_from(kv.value.len()).unwrap_or(i64::MAX), &mut out);
                if kv.lease != 0 {
                    write_string("lease", &format!("{:x}", kv.lease), &mut out);
                }
                if values {
                    write_bytes("value", kv.value, &style, &mut out);
                }
            }
        }
    }
    out.push(b'}');
    out
}
