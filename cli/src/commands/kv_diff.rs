//! `kv diff`: in what the keys of two files differ, or those of one at two revisions.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bbolt::fault::readable;
use clap::Args;
use serde_json::{Map, Value, json};
use snapshot::kv_diff::{Change, Counts, DiffError, Kind, Side, diff};
use snapshot::mvcc::{Index, IndexOptions, KeyRange, KeyValue};

use super::kv_input;
use super::kv_usage::insert_bytes;
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::output::Format;
use crate::stream;

/// Tells which keys differ between two files, two members, or two revisions of one
///
/// A line each, in the order of the keys: + only the second has it, - only the first has it, ~ its value is another, = the value is
/// the same but was put at another revision or with another lease. With -w json each is an object, and values are in it with
/// --values. Exit code 3 when there are differences.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue kv diff member-a/db member-b/db
  etcd-rescue kv diff snapshot.db --rev-a 1200 --rev-b 1300 --prefix /registry/pods/
  etcd-rescue kv diff monday.db friday.db -w json | jq -r 'select(.change == \"removed\") | .key'")]
pub(crate) struct DiffArgs {
    /// A snapshot, a db file, a member dir or a data dir
    #[arg(value_name = "A")]
    first: PathBuf,
    /// What it is compared with [default: itself]
    #[arg(value_name = "B")]
    second: Option<PathBuf>,
    /// The revision of A [default: the current one]
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    rev_a: i64,
    /// The revision of B [default: the current one]
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    rev_b: i64,
    /// Only keys that begin so
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    prefix: Option<OsString>,
    /// With -w json: the values too
    #[arg(long)]
    values: bool,
    /// Go on past what is damaged
    #[arg(long)]
    skip_bad: bool,
}

/// Compares.
///
/// # Errors
/// When an input cannot be read or does not have its revision, or is damaged and `--skip-bad` was not given.
pub(crate) fn run(args: &DiffArgs, context: &Context) -> Result<Outcome, Failure> {
    if !matches!(context.format, Format::Simple | Format::Json) {
        return Err(Failure::usage("kv diff prints -w simple or -w json"));
    }
    if args.values && context.format != Format::Json {
        return Err(Failure::usage("--values goes with -w json"));
    }
    if args.rev_a < 0 || args.rev_b < 0 {
        return Err(Failure::usage("--rev-a, --rev-b: revisions are not negative"));
    }
    if args.second.is_none() && args.rev_a == args.rev_b {
        return Err(Failure::usage(
            "nothing to compare: name a second file, or two revisions with --rev-a and --rev-b",
        ));
    }
    let watch = context.watch.as_ref();
    let first = kv_input::open(&args.first, context)?;
    let second = args.second.as_ref().map(|path| kv_input::open(path, context)).transpose()?;
    let (first, second) = (&first, second.as_ref().unwrap_or(&first));
    let range = args.prefix.clone().map(|prefix| KeyRange::prefix(&prefix.into_vec()));
    let options = |upto: i64| IndexOptions {
        range: range.clone().unwrap_or_default(),
        upto: (upto > 0).then_some(upto),
        skip_bad: args.skip_bad,
        ..IndexOptions::default()
    };
    let (first_db, second_db) = (first.db()?, second.db()?);
    let a = Index::build(&first_db, &options(args.rev_a), watch)
        .map_err(|error| first.not_read(&error, !args.skip_bad))?;
    let b = Index::build(&second_db, &options(args.rev_b), watch)
        .map_err(|error| second.not_read(&error, !args.skip_bad))?;
    watch.finish();
    let mut outcome = Outcome::default();
    for (input, index) in [(first, &a), (second, &b)] {
        let name = input.opened.path().display().to_string();
        let notes = input.notes.iter().cloned().chain(input.behind_its_log(index.schema()));
        outcome.before.extend(notes.map(|note| note.about(&name)));
        outcome.note_findings(index.findings());
        if args.second.is_none() {
            break;
        }
    }
    let sides = (Side { index: &a, revision: args.rev_a }, Side { index: &b, revision: args.rev_b });
    let mut done = Ok(Counts::default());
    stream::to_stdout(|out| {
        let mut take = |change: &Change<'_>| match context.format {
            Format::Json => writeln!(out, "{}", object(change, args.values)),
            _ => line(change, out),
        };
        done = match diff(&sides.0, &sides.1, &mut take, watch) {
            Err(DiffError::Write(error)) => return Err(error),
            done => done,
        };
        Ok(())
    })?;
    let counts = done?;
    outcome.after.push(Note::Prose(format!(
        "{} added, {} removed, {} changed, {} rewritten, {} the same",
        counts.added, counts.removed, counts.changed, counts.rewritten, counts.same
    )));
    if !counts.is_same() {
        outcome.code = exit::FINDINGS;
    }
    Ok(outcome)
}

fn line(change: &Change<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mark = match change.kind {
        Kind::Added => '+',
        Kind::Removed => '-',
        Kind::Changed => '~',
        Kind::Rewritten => '=',
    };
    let of = |kv: &KeyValue<'_>| {
        let lease = if kv.lease == 0 { String::new() } else { format!(", lease {:x}", kv.lease) };
        format!("revision {}, version {}, {} bytes{lease}", kv.mod_revision, kv.version, kv.value.len())
    };
    write!(out, "{mark} {}: ", readable(change.key))?;
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => writeln!(out, "{} -> {}", of(before), of(after)),
        (Some(only), None) | (None, Some(only)) => writeln!(out, "{}", of(only)),
        (None, None) => writeln!(out),
    }
}

fn object(change: &Change<'_>, values: bool) -> Value {
    let kind = match change.kind {
        Kind::Added => "added",
        Kind::Removed => "removed",
        Kind::Changed => "changed",
        Kind::Rewritten => "rewritten",
    };
    let side = |kv: &KeyValue<'_>| {
        let mut side = Map::new();
        side.insert("createRevision".to_owned(), json!(kv.create_revision));
        side.insert("modRevision".to_owned(), json!(kv.mod_revision));
        side.insert("version".to_owned(), json!(kv.version));
        if kv.lease != 0 {
            side.insert("lease".to_owned(), json!(format!("{:x}", kv.lease)));
        }
        side.insert("valueBytes".to_owned(), json!(kv.value.len()));
        if values {
            insert_bytes(&mut side, "value", kv.value);
        }
        Value::Object(side)
    };
    let mut object = Map::from_iter([("change".to_owned(), json!(kind))]);
    insert_bytes(&mut object, "key", change.key);
    for (name, kv) in [("before", &change.before), ("after", &change.after)] {
        if let Some(kv) = kv {
            object.insert(name.to_owned(), side(kv));
        }
    }
    Value::Object(object)
}
