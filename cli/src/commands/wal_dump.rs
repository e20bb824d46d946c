//! `wal dump`: the log record by record, as etcd-dump-logs prints it and as JSON lines.

mod decoder;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bbolt::{Unmetered, Watch};
use clap::Args;
use snapshot::log_dump::{
    Begin, DumpError, DumpOptions, EntryTypes, Filter, Form, LogDump, Start, StreamDecoder,
};
use snapshot::log_files;
use snapshot::request::Style;

use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{self, Note, Outcome};
use crate::output::Format;
use crate::shown::shown;
use crate::values;
use decoder::Decoder;

/// Values are cut after this many bytes. The help names the number.
const CUT_BYTES: usize = 128;

/// The kinds that etcd-dump-logs shows, as its footer names them.
const ALL_TYPES: &str = "Normal,ConfigChange";

/// Prints the log, entry by entry
///
/// The output is that of etcd-dump-logs 3.6 (with --full-values to the byte, but for --start-index, which means here what it means in
/// 3.7, and for passwords, which are not shown). With -w json every record is an object on a line of its own. What is broken is marked
/// where it stands, with exit code 3, and the rest is printed all the same. The flags of etcd-dump-logs may be written with one dash.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue wal dump /var/lib/etcd
  etcd-rescue wal dump /var/lib/etcd --all --prefix /registry/pods/ -w json | jq .request")]
pub(crate) struct DumpArgs {
    /// A data dir, a member dir, a log's own directory, or one segment
    #[arg(value_name = "DIR|FILE")]
    input: PathBuf,
    /// Begin with the first entry, not behind the newest snapshot a server would load
    #[arg(long, conflicts_with_all = ["start_index", "start_snap"])]
    all: bool,
    /// Begin with the entry of this index
    #[arg(long, value_name = "INDEX", value_parser = values::unsigned, conflicts_with = "start_snap")]
    start_index: Option<u64>,
    /// End before the entry of this index
    #[arg(long, value_name = "INDEX", value_parser = values::unsigned)]
    end_index: Option<u64>,
    /// Begin behind the snapshot in this file of the snap directory
    #[arg(long, value_name = "NAME")]
    start_snap: Option<String>,
    /// Where the log lies, if not in the member dir
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Print every record, replaced entries and checksums included, in the low-level form
    #[arg(long)]
    raw: bool,
    /// Only entries of these kinds: ConfigChange, Normal, Request, InternalRaftRequest, IRRRange, IRRPut, IRRDeleteRange, IRRTxn,
    /// IRRCompaction, IRRLeaseGrant, IRRLeaseRevoke, IRRLeaseCheckpoint
    #[arg(long, value_name = "LIST", help_heading = "Filters")]
    entry_type: Option<String>,
    /// Only entries that name this key, or a range that holds it
    // The type is that of etcdctl's flag of this name, which clap takes for the same one.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = "Filters")]
    key: Option<OsString>,
    /// Only entries that name a key that begins so, or a range that may hold one
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true, help_heading = "Filters")]
    prefix: Option<OsString>,
    /// Only entries about this member, by its ID in hexadecimal
    #[arg(long, value_name = "ID", value_parser = hexadecimal, help_heading = "Filters")]
    member: Option<u64>,
    /// Only entries that name this lease, by its ID in hexadecimal
    #[arg(long, value_name = "ID", value_parser = hexadecimal, help_heading = "Filters")]
    lease: Option<u64>,
    /// Only entries of this term
    #[arg(long, value_name = "TERM", value_parser = values::unsigned, help_heading = "Filters")]
    term: Option<u64>,
    /// Only entries behind the last known commit
    #[arg(long, help_heading = "Filters")]
    uncommitted: bool,
    /// Also entries that later ones overwrote, marked
    #[arg(long, help_heading = "Filters")]
    overwritten: bool,
    /// Do not cut values after 128 bytes
    #[arg(long)]
    full_values: bool,
    /// Show passwords and their hashes
    #[arg(long)]
    show_secrets: bool,
    /// A program that reads an entry's data as a line in hexadecimal and answers each with a line STATUS|TEXT
    #[arg(long, value_name = "COMMAND")]
    stream_decoder: Option<String>,
}

/// An ID as etcdctl prints it.
fn hexadecimal(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(format!("{text:?} is not an ID in hexadecimal"));
    }
    u64::from_str_radix(digits, 16).map_err(|_| format!("{text:?} has more than 16 digits"))
}

/// Prints the log.
///
/// # Errors
/// When the flags contradict each other, there is no log, the decoder fails, or stdout cannot be written.
pub(crate) fn run(args: &DumpArgs, context: &Context) -> Result<Outcome, Failure> {
    let mut notes = Vec::new();
    let (types, footer) = types(args, &mut notes)?;
    let options = context.log_options(args.wal_dir.as_deref());
    let files = log_files::open(&args.input, &options, context.watch.as_ref())?;
    let dump =
        LogDump::read(&files, context.watch.as_ref()).map_err(|error| Failure::failed(error.to_string()))?;
    let (start, passed) = dump.start(&begin(args)).map_err(|error| Failure::failed(error.to_string()))?;
    notes.extend(
        passed.iter().map(|passed| Note::Warning(format!("warning: {}", shown(&passed.to_string())))),
    );
    if let Start::Behind(snapshot) = &start {
        let earlier = dump.entries_before(start.first_index());
        notes.push(Note::Prose(format!(
            "{earlier} entries up to index {}, where the snapshot stands, are not shown; --all shows them.",
            snapshot.index
        )));
    }
    if !args.full_values {
        notes.push(Note::Prose(format!(
            "Values are cut after {CUT_BYTES} bytes; --full-values shows all of them."
        )));
    }
    outcome::tell(&notes, context.quiet);
    let options = DumpOptions {
        form: match (context.format == Format::Json, args.raw) {
            (true, raw) => Form::Json { crc: raw },
            (false, true) => Form::Raw,
            (false, false) => Form::Rows,
        },
        style: Style { cut: (!args.full_values).then_some(CUT_BYTES), show_secrets: args.show_secrets },
        filter: Filter {
            start: 0,
            end: args.end_index,
            types,
            key: args.key.clone().map(OsString::into_vec),
            prefix: args.prefix.clone().map(OsString::into_vec),
            member: args.member,
            lease: args.lease.map(u64::cast_signed),
            term: args.term,
            uncommitted: args.uncommitted,
            overwritten: args.overwritten || args.raw,
        },
        types: footer,
    };
    let mut decoder = match &args.stream_decoder {
        Some(command) => Some(Decoder::start(command, context)?),
        None => None,
    };
    let answers = decoder.as_mut().map(|decoder| decoder as &mut dyn StreamDecoder);
    let mut stdout = io::stdout().lock();
    context.watch.finish();
    // A bar among the rows on one terminal would spoil both.
    let unmetered = Unmetered(context.watch.as_ref());
    let watch: &dyn Watch = if stdout.is_terminal() { &unmetered } else { context.watch.as_ref() };
    let printed = dump.print(&start, &options, &mut stdout, answers, watch);
    let mut outcome = Outcome::default();
    if dump.has_faults() {
        outcome.code = exit::FINDINGS;
    }
    let dumped = match printed {
        Ok(dumped) => dumped,
        // Who read stdout had enough.
        Err(DumpError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(outcome),
        Err(DumpError::Write(error)) => {
            return Err(Failure::failed(format!("writing to standard output: {error}")));
        }
        Err(error) => return Err(Failure::failed(error.to_string())),
    };
    if let Some(decoder) = decoder {
        outcome.after.extend(decoder.finish()?);
    }
    if dumped.withheld > 0 {
        outcome.after.push(Note::Warning(format!(
            "{} entries hold passwords and were not given to the decoder; --show-secrets gives them to it",
            dumped.withheld
        )));
    }
    files.ensure_unchanged()?;
    if dump.has_faults() {
        outcome.after.push(Note::Warning(format!(
            "The log has faults, marked with their codes where they stand; 'etcd-rescue wal verify {}' says what they mean.",
            shown(&args.input.display().to_string())
        )));
    }
    Ok(outcome)
}

/// Where the flags ask to begin.
fn begin(args: &DumpArgs) -> Begin {
    match (&args.start_snap, args.start_index) {
        (Some(name), _) => Begin::Snapshot(name.clone()),
        (None, Some(index)) => Begin::Index(index),
        (None, None) if args.raw => Begin::Index(0),
        (None, None) if args.all => Begin::First,
        (None, None) => Begin::NewestSnapshot,
    }
}

/// Which kinds of entries are printed, and how the footer names them.
fn types(args: &DumpArgs, notes: &mut Vec<Note>) -> Result<(Option<EntryTypes>, String), Failure> {
    if args.raw {
        let with_raw = [
            ("--entry-type", args.entry_type.is_some()),
            ("--start-snap", args.start_snap.is_some()),
            ("--stream-decoder", args.stream_decoder.is_some()),
            ("--all", args.all),
            ("--overwritten", args.overwritten),
        ];
        if let Some((flag, _)) = with_raw.iter().find(|(_, given)| *given) {
            return Err(Failure::usage(format!(
                "{flag} does not go with --raw, which prints every record of the log"
            )));
        }
    }
    if args.stream_decoder.as_deref().is_some_and(|command| command.trim().is_empty()) {
        return Err(Failure::usage("--stream-decoder names no program"));
    }
    let Some(list) = &args.entry_type else { return Ok((None, ALL_TYPES.to_owned())) };
    let (types, unknown) = EntryTypes::parse(list);
    notes.extend(unknown.iter().map(|unknown| Note::Warning(format!("warning: {unknown}"))));
    Ok((Some(types), list.clone()))
}
