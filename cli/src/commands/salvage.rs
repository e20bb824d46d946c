//! `salvage`: what is left of a member's databases and log in, one sound snapshot out, with an account of what is missing.

mod account;
mod extracted;
mod next;
mod summary;
mod survey;
#[cfg(test)]
mod tests;
mod words;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bbolt::BadMap;
use clap::Args;
use serde::Serialize;
use snapshot::humanize;
use snapshot::mvcc::Release;
use snapshot::salvage::{self, Report, SalvageError, SalvageOptions, Unreadable, WriteOptions};
use snapshot::text_file::{self, TextFileError};

use super::writing::WriteArgs;
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::leftovers::Leftovers;
use crate::next_steps::quoted_path;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Most findings that are told on stderr; the report has more.
const MOST_TOLD: usize = 20;
/// The shortest and the longest page that a bbolt file can have, in bytes.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1024..=16 << 20;
/// Longest map of bad ranges that is read, in bytes: a line for each of some million ranges.
const MOST_MAP_BYTES: u64 = 64 << 20;

const EXAMPLE: &str = "\
Example:
  etcd-rescue salvage /var/lib/etcd --dry-run
  etcd-rescue salvage /var/lib/etcd -o saved.db --accept-loss
  etcd-rescue salvage disk.img older.db --bad-map disk.img=disk.map -o saved.db --report account.json
  etcd-rescue salvage broken.db --extract /registry/secrets/prod/tls";

/// Gets the keys out of a database that etcd cannot open, and says what is missing
///
/// Give whatever is left of one member: its data dir, with the log; a db or snapshot in any state, also cut, or without its first pages;
/// older copies of it. Every page is looked at, whether a tree still reaches it or not. The result is one snapshot, which 'snapshot
/// restore' makes a data dir of. First it says what was found and which ways lead out, with what each loses; then what is confirmed,
/// what rests on one copy, what is open to doubt, and what is missing. What is certainly lost has to be accepted with
/// --accept-loss. What is given is never changed.
///
/// Exit codes: 0 nothing is missing or in doubt; 3 something is, and it is said what; 4 refused, since something is certainly lost.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct SalvageArgs {
    /// What is left of one member: data dirs, dbs, snapshots, of any age and in any state
    #[arg(value_name = "PATH", required = true)]
    inputs: Vec<PathBuf>,
    /// The snapshot to write; with --extract the file for what is extracted; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Take this way out, by its number in the list of ways [default: the first, which loses least]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    plan: Option<u64>,
    /// Write although something is certainly lost
    #[arg(long)]
    accept_loss: bool,
    /// Also bring back what a compaction had removed, where old pages still hold it: deleted keys come back too
    #[arg(long)]
    include_compacted: bool,
    /// A map of what could not be read, as ddrescue writes it; which PATH it is of, where several are given
    #[arg(long, value_name = "[PATH=]MAP")]
    bad_map: Vec<OsString>,
    /// Length of a page in bytes, where nothing in the file tells it
    #[arg(long, value_name = "BYTES", value_parser = page_size)]
    page_size: Option<u32>,
    /// The log's directory, where etcd was given one of its own; for a db or snapshot file, the log that goes with it
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Leave the log alone
    #[arg(long, conflicts_with = "wal_dir")]
    no_replay: bool,
    /// The release whose rules hold for log and compaction [default: the last of the minor version that wrote the data]
    #[arg(long, value_name = "X.Y.Z")]
    as_etcd: Option<Release>,
    /// Write only the keys that begin so, as JSON lines, to standard output or -o
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    extract: Option<OsString>,
    /// With --extract: every revision that was found, deletions included, not only the newest of each key
    #[arg(long, requires = "extract")]
    revisions: bool,
    /// With --extract: only the values, byte for byte, nothing between them
    #[arg(long, requires = "extract")]
    values: bool,
    /// Write all that was found out, as JSON, to this file too, also on a dry run and when it is refused; it must not exist
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
}

/// The report, and what was done.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    dry_run: bool,
    refused: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// What became of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Written,
    DryRun,
    Refused,
}

/// What a damaged database's other commands say: that there is this one.
pub(super) fn hint(path: &Path) -> Note {
    Note::Prose(format!(
        "If etcd wrote it: 'etcd-rescue salvage {} --dry-run' says what can be saved of it.",
        shown(&quoted_path(path))
    ))
}

fn page_size(text: &str) -> Result<u32, String> {
    let size: u32 = text.parse().map_err(|error| format!("{error}"))?;
    if size.is_power_of_two() && PAGE_SIZES.contains(&size) {
        Ok(size)
    } else {
        Err(format!(
            "a page has a power of two of bytes, from {} to {}; etcd's has 4096 on most machines",
            PAGE_SIZES.start(),
            PAGE_SIZES.end()
        ))
    }
}

/// Salvages.
///
/// # Errors
/// When the flags contradict each other, nothing can be read, or the output cannot be written. That loss was not accepted is an
/// outcome of its own, with the account.
pub(crate) fn run(args: &SalvageArgs, context: &Context) -> Result<Outcome, Failure> {
    ensure_sensible(args, context)?;
    let owner = args.write.owner()?;
    let mut outcome = Outcome::default();
    let mut said_of_maps = Vec::new();
    let options = SalvageOptions {
        input: context.input_options(),
        page_size: args.page_size,
        bad_maps: bad_maps(args, &mut said_of_maps)?,
        wal_dir: args.wal_dir.clone(),
        no_replay: args.no_replay,
        include_compacted: args.include_compacted,
        as_etcd: args.as_etcd,
    };
    let warned = said_of_maps.iter().map(|said| Note::Warning(format!("warning: {said}")));
    outcome.before.extend(warned);
    for output in [&args.output, &args.report].into_iter().flatten() {
        let inputs = args.inputs.iter().chain(&args.wal_dir).map(PathBuf::as_path);
        text_file::ensure_outside(inputs, output)?;
        text_file::ensure_free(output)?;
        let left = Leftovers::sweep(output, args.write.clean && !args.write.dry_run)?;
        outcome.before.extend(left.notes());
    }
    let watch = context.watch.as_ref();
    let evidence = salvage::gather(&args.inputs, &options, watch)
        .map_err(|error| nothing_found(error, &said_of_maps))?;
    let plan = evidence.plan(watch)?;
    let way = usize::try_from(args.plan.unwrap_or(1)).unwrap_or(usize::MAX);
    if let Some(prefix) = &args.extract {
        return extracted::run(args, prefix, &plan, way, outcome, context);
    }
    let write = WriteOptions {
        output: args.output.clone().filter(|_| !args.write.dry_run),
        accept_loss: args.accept_loss || args.write.dry_run,
        owner,
    };
    let (report, done) = match salvage::write(&plan, way, &write, watch) {
        Ok(report) if report.output.is_some() => (Box::new(report), Done::Written),
        Ok(report) => (Box::new(report), Done::DryRun),
        Err(SalvageError::Refused { report }) => (report, Done::Refused),
        Err(error) => return Err(error.into()),
    };
    watch.finish();
    tell_findings(&report, args, &mut outcome);
    write_report(&report, done, args)?;
    outcome.result = result(&report, done, args, context.format)?;
    outcome.code = match done {
        Done::Refused => exit::REFUSED,
        Done::Written | Done::DryRun => report.exit_code(),
    };
    outcome.after.extend(words::last(&report, done, args));
    Ok(outcome)
}

/// Makes sure that the flags go together.
fn ensure_sensible(args: &SalvageArgs, context: &Context) -> Result<(), Failure> {
    if args.output.is_none() && !args.write.dry_run && args.extract.is_none() {
        return Err(Failure::usage(
            "-o FILE, --dry-run or --extract PREFIX: one of them is needed. --dry-run says what can be saved, and writes nothing",
        ));
    }
    if args.output.is_none() && (args.write.clean || args.write.owner.is_some()) {
        return Err(Failure::usage("--clean and --owner are about the file that -o names"));
    }
    if args.extract.is_some() {
        if args.write.dry_run {
            return Err(Failure::usage(
                "--extract writes what it finds and changes nothing else: leave --dry-run out, or --extract",
            ));
        }
        if !matches!(context.format, Format::Simple | Format::Json) {
            return Err(Failure::usage("what --extract writes is JSON lines, or values; leave -w out"));
        }
    }
    if let (Some(output), Some(report)) = (&args.output, &args.report)
        && (output == report || place(output).is_some_and(|there| place(report) == Some(there)))
    {
        return Err(Failure::usage("--report and -o name the same file"));
    }
    Ok(())
}

/// That nothing was found; a map that does not fit may be why.
fn nothing_found(error: SalvageError, said_of_maps: &[String]) -> Failure {
    let is_for_maps = matches!(error, SalvageError::Nothing { .. });
    let mut failure = Failure::from(error);
    for said in said_of_maps.iter().filter(|_| is_for_maps) {
        failure.message += &format!(". {said}");
    }
    failure
}

/// Where a file will be that is not there yet, wherever links lead.
fn place(path: &Path) -> Option<PathBuf> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(dir.canonicalize().ok()?.join(path.file_name()?))
}

/// The maps of `--bad-map`, each with the path it is of.
fn bad_maps(args: &SalvageArgs, notes: &mut Vec<String>) -> Result<Vec<Unreadable>, Failure> {
    args.bad_map.iter().map(|text| bad_map(text, &args.inputs, notes)).collect()
}

fn bad_map(text: &OsStr, inputs: &[PathBuf], notes: &mut Vec<String>) -> Result<Unreadable, Failure> {
    let named = inputs.iter().find_map(|input| {
        let rest = text.as_bytes().strip_prefix(input.as_os_str().as_bytes())?;
        Some((input, PathBuf::from(OsStr::from_bytes(rest.strip_prefix(b"=")?))))
    });
    let (input, map) = match (named, inputs) {
        (Some(named), _) => named,
        (None, [only]) => (only, PathBuf::from(text)),
        (None, _) => {
            return Err(Failure::usage(format!(
                "--bad-map {}: of which PATH? With several of them it is PATH=MAP, PATH as it was given",
                shown(&text.to_string_lossy())
            )));
        }
    };
    let failed = |what: String| Failure::failed(format!("--bad-map {}: {what}", words::named(&map)));
    let length = fs::metadata(&map).map_err(|error| failed(error.to_string()))?;
    if !length.is_file() || length.len() > MOST_MAP_BYTES {
        return Err(failed(format!(
            "is no map: a map is a file of text of at most {}",
            humanize::bytes(MOST_MAP_BYTES)
        )));
    }
    let text = fs::read(&map).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| {
        failed("is no text, and so no map; ddrescue calls it its mapfile or logfile".to_owned())
    })?;
    let read = BadMap::parse(&text).map_err(|error| failed(error.to_string()))?;
    // What is in a directory has another length than what is given.
    if let Ok(file) = fs::metadata(input)
        && file.is_file()
    {
        let bad = |range: &Range<u64>| range.end.min(file.len()).saturating_sub(range.start);
        let unread: u64 = read.bad.iter().map(bad).sum();
        let said = if file.len() < read.end {
            Some(format!("is of {}, and", humanize::bytes(read.end)))
        } else if unread > file.len() / 2 {
            Some(format!("says that {} were never read;", humanize::bytes(unread)))
        } else {
            None
        };
        if let Some(said) = said {
            notes.push(format!(
                "--bad-map {}: {said} {} has {}: a map of a whole disk has other offsets than a file on it",
                words::named(&map),
                words::named(input),
                humanize::bytes(file.len())
            ));
        }
    }
    let of = (inputs.len() > 1).then(|| input.clone());
    Ok((of, read.bad))
}

/// Tells the first of the findings; all that are known are in the report.
fn tell_findings(report: &Report, args: &SalvageArgs, outcome: &mut Outcome) {
    let told = report.findings.iter().take(MOST_TOLD);
    outcome.before.extend(told.map(|finding| Note::Warning(shown(&finding.to_string()))));
    let more = report.findings.len().saturating_sub(MOST_TOLD);
    if more > 0 {
        let place = match &args.report {
            Some(file) => format!("{} has them", shown(&file.display().to_string())),
            None => "--report FILE or -w json lists them".to_owned(),
        };
        outcome.before.push(Note::Warning(format!("{more} more findings: {place}")));
    }
}

/// Writes the file of `--report`.
fn write_report(report: &Report, done: Done, args: &SalvageArgs) -> Result<(), Failure> {
    let Some(path) = &args.report else { return Ok(()) };
    let text = serde_json::to_string_pretty(&json(report, done))
        .map_err(|error| Failure::failed(format!("writing JSON: {error}")))?;
    let owner = args.write.owner()?;
    let written: Result<_, TextFileError> = text_file::write(
        path,
        owner,
        |out| {
            // What fails here fails again, with its reason, when the file is completed.
            _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
            Ok(())
        },
        || Ok(()),
    );
    written.map(drop).map_err(|error| {
        let mut failure = Failure::from(error);
        if let Some(output) = report.output.as_ref() {
            failure.message += &format!(". The snapshot {} is written", output.path.display());
        }
        failure
    })
}

fn json(report: &Report, done: Done) -> Json<'_> {
    Json { dry_run: done == Done::DryRun, refused: done == Done::Refused, report }
}

fn result(report: &Report, done: Done, args: &SalvageArgs, format: Format) -> Result<String, Failure> {
    if format == Format::Simple {
        return Ok([
            summary::of(report, done, args),
            survey::of(report),
            account::of(report),
            next::of(report, done, args),
        ]
        .join("\n"));
    }
    let account = &report.account;
    let path = report.output.as_ref().map_or_else(String::new, |output| output.path.display().to_string());
    let way = report.chosen_way().map_or("", |way| way.name.as_str());
    let row = vec![
        Cell::new("path", "Path", &path),
        Cell::new("way", "Way", way),
        Cell::new("records", "Records", &account.records),
        Cell::new("revision", "Revision", &account.last_revision),
        Cell::new("confirmed", "Confirmed", &account.confirmed),
        Cell::new("single", "Single", &account.single),
        Cell::new("suspect", "Suspect", &account.suspect),
        Cell::new("missing revisions", "Missing revisions", &account.missing_revisions),
    ];
    output::render(format, &[row], &json(report, done))
}
