//! `wal verify`: whether a log is sound, what stands behind each break, and what a server would do with it.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use snapshot::boot::{Found, Release, Start, Verdict};
use snapshot::finding::Finding;
use snapshot::log_files::{self, LogFiles};
use snapshot::log_verify::{self, After, LogFinding, LogReport, SegmentFacts, SegmentStop};

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Verifies a log, and tells what etcd would do with it when it starts
///
/// Reads every record of every segment, past every break, and holds the log against the .snap files and the db beside it. Each
/// finding on stderr says where it is and what stands behind it: how many whole records, whether a single bit explains the
/// damage, whether zeros run to the end, whether the next segment goes on. Exit code 3 when there are findings.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue wal verify /var/lib/etcd
  etcd-rescue --write-out=json wal verify member/wal/0000000000000000-0000000000000000.wal")]
pub(crate) struct VerifyArgs {
    /// A data dir, a member dir, a log's directory, or one segment
    #[arg(value_name = "DIR|FILE")]
    input: PathBuf,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
}

/// Verifies the log.
///
/// # Errors
/// When there is no log, it cannot be read, or somebody writes to it.
pub(crate) fn run(args: &VerifyArgs, context: &Context) -> Result<Outcome, Failure> {
    let watch = context.watch.as_ref();
    let files = log_files::open(&args.input, &context.log_options(args.wal_dir.as_deref()), watch)?;
    let report = log_verify::verify(&files, &context.open_options(), watch)?;
    let mut outcome = Outcome::default();
    let findings: Vec<Finding> = report.findings.iter().map(|found| found.finding.clone()).collect();
    outcome.note_findings(&findings);
    if report.more_findings > 0 {
        outcome.before.push(Note::Warning(format!("{} more findings are not listed", report.more_findings)));
    }
    outcome.result = result(&report, &files, context.format)?;
    outcome.after.extend(next_step(&report, &files, args).map(Note::Prose));
    Ok(outcome)
}

/// What to run next, where something is wrong.
fn next_step(report: &LogReport, files: &LogFiles, args: &VerifyArgs) -> Option<String> {
    if report.is_clean() {
        return None;
    }
    let input = shown(&args.input.display().to_string());
    let wal_dir = args
        .wal_dir
        .as_ref()
        .map_or_else(String::new, |dir| format!(" --wal-dir {}", shown(&dir.display().to_string())));
    Some(if files.is_single_segment() {
        format!(
            "next: 'etcd-rescue wal verify {}' looks at the whole log",
            shown(&files.wal_dir().display().to_string())
        )
    } else if report.log_is_damaged() {
        format!(
            "next: 'etcd-rescue wal repair {input}{wal_dir}' shows what can be kept and what would be lost; with -o OUT it \
             writes a repaired copy"
        )
    } else if let (Some(Err(_)), Some(db)) = (&report.database, files.db_path()) {
        format!(
            "next: 'etcd-rescue snapshot status {}' says what is wrong with the db",
            shown(&db.display().to_string())
        )
    } else if report.findings.iter().any(|found| found.finding.code.starts_with("SNAP-")) {
        format!("next: 'etcd-rescue snap dump {input}' shows the .snap files")
    } else {
        "next: nothing needs to be done before etcd starts on it".to_owned()
    })
}

fn result(report: &LogReport, files: &LogFiles, format: Format) -> Result<String, Failure> {
    match format {
        Format::Simple => Ok(simple(report, files)),
        Format::Json => output::json(&to_json(report, files)),
        Format::Table => {
            let rows: Vec<Vec<Cell>> = report.log.segments.iter().map(row).collect();
            output::render(format, &rows, &())
        }
        Format::Fields | Format::Protobuf => {
            let mut rows = vec![totals(report, files)];
            rows.extend(report.log.segments.iter().map(row));
            output::render(format, &rows, &())
        }
    }
}

/// How a segment's records end, in a word or two.
fn end(segment: &SegmentFacts) -> String {
    match &segment.end {
        SegmentStop::ZeroLength => "zeros".to_owned(),
        SegmentStop::EndOfFile => "end of file".to_owned(),
        SegmentStop::Broken(fault) => fault.code().to_owned(),
        SegmentStop::Unreadable => "unreadable".to_owned(),
    }
}

fn entry(entry: Option<(u64, u64)>) -> String {
    entry.map_or_else(String::new, |(index, _)| index.to_string())
}

fn term(entry: Option<(u64, u64)>) -> String {
    entry.map_or_else(String::new, |(_, term)| term.to_string())
}

fn row(segment: &SegmentFacts) -> Vec<Cell> {
    vec![
        Cell::new("segment", "Segment", &shown(&segment.name.name)),
        Cell::shown("size", "Size", &snapshot::humanize::bytes(segment.len_bytes), &segment.len_bytes),
        Cell::new("records", "Records", &segment.records),
        Cell::new("entries", "Entries", &segment.entries),
        Cell::new("first", "First entry", &entry(segment.first_entry)),
        Cell::new("last", "Last entry", &entry(segment.last_entry)),
        Cell::new("term", "Last term", &term(segment.last_entry)),
        Cell::new("ends at", "Ends at", &format!("{:#x}", segment.end_offset)),
        Cell::new("with", "Ends with", &end(segment)),
    ]
}

/// The numbers of the log as a whole.
fn totals(report: &LogReport, files: &LogFiles) -> Vec<Cell> {
    let log = &report.log;
    let state = log.hard_state.as_ref().map(|state| state.value).unwrap_or_default();
    let metadata = log.metadata.unwrap_or_default();
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let cell = |label: &'static str, value: String| Cell::new(label, label, &value);
    vec![
        cell("Directory", shown(&files.wal_dir().display().to_string())),
        cell("Segments", log.segments.len().to_string()),
        cell("Records", log.records().to_string()),
        cell("Entries", log.entries.to_string()),
        cell("Member", format!("{:x}", metadata.node_id())),
        cell("Cluster", format!("{:x}", metadata.cluster_id())),
        cell("Term", state.term().to_string()),
        cell("Vote", format!("{:x}", state.vote())),
        cell("Commit", state.commit().to_string()),
        cell("First index", number(log.first_index())),
        cell("Last index", number(log.last_index())),
        cell("Uncommitted", report.uncommitted().to_string()),
        cell("Overwritten", overwritten_entries(report).to_string()),
        cell("Snapshot index", report.start.index.to_string()),
        cell(
            "Consistent index",
            match &report.database {
                Some(Ok(database)) => database.consistent_index().to_string(),
                Some(Err(_)) | None => String::new(),
            },
        ),
        cell("Findings", (report.findings.len() as u64).saturating_add(report.more_findings).to_string()),
    ]
}

fn overwritten_entries(report: &LogReport) -> u64 {
    report.log.overwritten().fold(0, |sum, run| {
        let count = run.indexes.end().saturating_sub(*run.indexes.start()).saturating_add(1);
        count.saturating_add(sum)
    })
}

/// How many overwritten runs are listed for people.
const LISTED_RUNS: usize = 8;

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn simple(report: &LogReport, files: &LogFiles) -> String {
    let log = &report.log;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let mut line = |text: String| _ = writeln!(out, "{text}");
    for segment in &log.segments {
        let entries = match (segment.first_entry, segment.last_entry) {
            (Some((first, first_term)), Some((last, last_term))) => format!(
                "{} ({first} of term {first_term} to {last} of term {last_term})",
                count(segment.entries, "entry", "entries")
            ),
            _ => "no entries".to_owned(),
        };
        line(format!(
            "{}: {}, {entries}, {}",
            shown(&segment.name.name),
            count(segment.records, "record", "records"),
            ends_in_words(segment)
        ));
    }
    if let Some(metadata) = &log.metadata {
        line(format!("member {:x} of cluster {:x}", metadata.node_id(), metadata.cluster_id()));
    }
    line(format!(
        "{}, {}, {}, {}",
        count(log.segments.len() as u64, "segment", "segments"),
        snapshot::humanize::bytes(log.len_bytes()),
        count(log.records(), "record", "records"),
        count(log.entries, "entry", "entries")
    ));
    if let Some(state) = &log.hard_state {
        let vote = match state.value.vote() {
            0 => "no vote".to_owned(),
            vote => format!("vote for {vote:x}"),
        };
        line(format!("term {}, {vote}, commit {}", state.value.term(), state.value.commit()));
    }
    if let (Some(first), Some(last)) = (log.first_index(), log.last_index()) {
        let uncommitted = match report.uncommitted() {
            0 => "all known to be committed".to_owned(),
            uncommitted => format!("the last {uncommitted} not known to be committed"),
        };
        line(format!("entries {first} to {last}, {uncommitted}"));
    }
    let overwritten: Vec<_> = log.overwritten().collect();
    for run in overwritten.iter().take(LISTED_RUNS) {
        line(format!(
            "overwritten: entries {} to {} of term {}",
            run.indexes.start(),
            run.indexes.end(),
            run.term
        ));
    }
    if let Some(more @ 1..) = overwritten.len().checked_sub(LISTED_RUNS) {
        line(format!("overwritten: {more} more runs of entries"));
    }
    if files.snap_dir().is_some() {
        line(match &report.start.file {
            Some(file) => format!("snapshot to start from: {}, entry {}", shown(file), report.start.index),
            None => "snapshot to start from: none".to_owned(),
        });
    } else if !files.is_single_segment() {
        line("no snap directory beside it: snapshots were not looked at".to_owned());
    }
    match &report.database {
        Some(Ok(database)) => line(format!("db: up to entry {}", database.consistent_index())),
        Some(Err(_)) => line("db: cannot be read".to_owned()),
        None if files.is_single_segment() => {
            line("one segment of a log: what stands before and behind it was not looked at".to_owned());
        }
        None => line("no db beside it".to_owned()),
    }
    for (what, names) in [
        ("copies that a server made before it cut a segment", &files.listing().broken),
        ("not a part of the log", &files.listing().other),
    ] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().take(LISTED_RUNS).map(|name| shown(name)).collect();
            line(format!("{what}: {}", names.join(", ")));
        }
    }
    for verdict in verdict_lines(report) {
        line(verdict);
    }
    out
}

/// What etcd would do, a line for each group of releases that do the same for the same reason.
fn verdict_lines(report: &LogReport) -> Vec<String> {
    let mut groups: Vec<(Vec<&Release>, &Start)> = Vec::new();
    for Verdict { release, start } in &report.verdicts {
        let same = |(releases, found): &&mut (Vec<&Release>, &Start)| {
            *found == start
                && releases.first().is_some_and(|first| first.booted.is_some() == release.booted.is_some())
        };
        match groups.iter_mut().find(same) {
            Some((releases, _)) => releases.push(release),
            None => groups.push((vec![release], start)),
        }
    }
    let mut lines: Vec<String> = groups
        .iter()
        .map(|(releases, start)| {
            let names: Vec<&str> = releases.iter().map(|release| release.patches).collect();
            let basis = if releases.iter().all(|release| release.booted.is_some()) {
                "as real servers did"
            } else {
                "from the source"
            };
            format!("etcd {} ({basis}): {}", names.join(", "), start_in_words(start))
        })
        .collect();
    if report.supposes_snaps && !lines.is_empty() {
        lines.push("this supposes that the .snap and the db which the log speaks of are there".to_owned());
    }
    lines
}

/// A start, in a sentence's end.
pub(super) fn start_in_words(start: &Start) -> String {
    match start {
        Start::Starts(found) => format!("starts, {}", found_in_words(found)),
        Start::StartsAfterCut { found, file, offset, dropped_bytes } => format!(
            "cuts {} at {offset:#x}, dropping {} bytes, keeps a copy named .broken, and starts, {}",
            shown(file),
            dropped_bytes,
            found_in_words(found)
        ),
        Start::FoundsNewCluster => {
            "takes the member for a new one, and founds a cluster over what is in the db".to_owned()
        }
        Start::Fails { words, cause } => format!("does not start (\"{words}\"): {}", shown(cause)),
    }
}

fn found_in_words(found: &Found) -> String {
    let from = match found.snapshot.index {
        0 => "from the first entry".to_owned(),
        index => format!("from the snapshot at entry {index}"),
    };
    let mut text = format!("{from}, with entries up to {} and commit {}", found.last.index, found.commit);
    if let Some(lost) = &found.lost {
        text += &format!("; entries {} to {} are lost without a word", lost.start(), lost.end());
    }
    if found.voterless {
        text += "; it then knows of no voter, and serves nobody unless a leader of its cluster finds it";
    }
    if let Some(ahead) = found.db_ahead {
        text += &format!("; the db is ahead, at entry {ahead}, and new entries up to there are not applied");
    }
    text
}

fn ends_in_words(segment: &SegmentFacts) -> String {
    let at = segment.end_offset;
    match &segment.end {
        SegmentStop::ZeroLength => format!("zeros from {at:#x} on"),
        SegmentStop::EndOfFile => format!("to the end of the file at {at:#x}"),
        SegmentStop::Broken(fault) => format!("broken at {at:#x} ({})", fault.code()),
        SegmentStop::Unreadable => format!("unreadable at {at:#x}"),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingJson<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<AfterJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AfterJson {
    well_formed_records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_at: Option<u64>,
    zeros_to_end: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bit_flip: Option<BitFlipJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_segment_continues: Option<bool>,
}

#[derive(Serialize)]
struct BitFlipJson {
    offset: u64,
    bit: u8,
    part: &'static str,
}

impl From<&After> for AfterJson {
    fn from(after: &After) -> Self {
        Self {
            well_formed_records: after.well_formed_records,
            first_at: after.first_at,
            zeros_to_end: after.zeros_to_end,
            bit_flip: after.bit_flip.map(|flip| BitFlipJson {
                offset: flip.offset,
                bit: flip.bit,
                part: flip.part.name(),
            }),
            next_segment_continues: after.next_segment_continues,
        }
    }
}

fn finding_json(found: &LogFinding) -> FindingJson<'_> {
    FindingJson { finding: &found.finding, after: found.after.as_ref().map(AfterJson::from) }
}

fn to_json(report: &LogReport, files: &LogFiles) -> Value {
    let log = &report.log;
    let segments: Vec<Value> = log.segments.iter().map(segment_json).collect();
    let findings: Vec<FindingJson<'_>> = report.findings.iter().map(finding_json).collect();
    let overwritten: Vec<Value> = log
        .overwritten()
        .map(|run| {
            let file = log.segments.get(run.segment).map(|segment| segment.name.name.as_str());
            json!({
                "file": file,
                "firstIndex": run.indexes.start(),
                "lastIndex": run.indexes.end(),
                "term": run.term,
            })
        })
        .collect();
    json!({
        "walDir": files.wal_dir().display().to_string(),
        "clean": report.is_clean(),
        "memberId": log.metadata.map(|metadata| format!("{:x}", metadata.node_id())),
        "clusterId": log.metadata.map(|metadata| format!("{:x}", metadata.cluster_id())),
        "hardState": log.hard_state.as_ref().map(|state| json!({
            "term": state.value.term(),
            "vote": format!("{:x}", state.value.vote()),
            "commit": state.value.commit(),
        })),
        "sizeBytes": log.len_bytes(),
        "records": log.records(),
        "entries": log.entries,
        "firstIndex": log.first_index(),
        "lastIndex": log.last_index(),
        "uncommitted": report.uncommitted(),
        "overwritten": overwritten,
        "start": {
            "snapshotIndex": report.start.index,
            "snapshotTerm": report.start.term,
            "file": report.start.file,
            "logReaches": report.start.log_reaches,
        },
        "consistentIndex": match &report.database {
            Some(Ok(database)) => Some(database.consistent_index()),
            Some(Err(_)) | None => None,
        },
        "verdicts": report.verdicts.iter().map(|verdict| start_json(&verdict.release, &verdict.start)).collect::<Vec<_>>(),
        "verdictsSupposeSnaps": report.supposes_snaps,
        "segments": segments,
        "brokenCopies": files.listing().broken,
        "otherFiles": files.listing().other,
        "findings": findings,
        "moreFindings": report.more_findings,
    })
}

/// A start of `release`, as an object.
pub(super) fn start_json(release: &Release, start: &Start) -> Value {
    let found = |found: &Found| {
        json!({
            "snapshotIndex": found.snapshot.index,
            "snapshotTerm": found.snapshot.term,
            "commit": found.commit,
            "lastIndex": found.last.index,
            "lastTerm": found.last.term,
            "lost": found.lost.as_ref().map(|lost| json!({ "firstIndex": lost.start(), "lastIndex": lost.end() })),
            "voterless": found.voterless,
            "dbAhead": found.db_ahead,
        })
    };
    let (outcome, rest) = match start {
        Start::Starts(with) => ("starts", found(with)),
        Start::StartsAfterCut { found: with, file, offset, dropped_bytes } => {
            let mut rest = found(with);
            rest["cut"] = json!({ "file": file, "offset": offset, "droppedBytes": dropped_bytes });
            ("startsAfterCut", rest)
        }
        Start::FoundsNewCluster => ("foundsNewCluster", json!({})),
        Start::Fails { words, cause } => ("fails", json!({ "words": words, "cause": cause })),
    };
    let mut all = json!({
        "releases": release.patches,
        "booted": release.booted,
        "outcome": outcome,
    });
    if let (Some(all), Value::Object(rest)) = (all.as_object_mut(), rest) {
        all.extend(rest);
    }
    all
}

fn segment_json(segment: &SegmentFacts) -> Value {
    let entry =
        |entry: Option<(u64, u64)>| entry.map(|(index, term)| json!({ "index": index, "term": term }));
    json!({
        "file": segment.name.name,
        "seq": segment.name.seq,
        "nameIndex": segment.name.index,
        "sizeBytes": segment.len_bytes,
        "records": segment.records,
        "entries": segment.entries,
        "firstEntry": entry(segment.first_entry),
        "lastEntry": entry(segment.last_entry),
        "endOffset": segment.end_offset,
        "end": match &segment.end {
            SegmentStop::ZeroLength => "zeros",
            SegmentStop::EndOfFile => "endOfFile",
            SegmentStop::Broken(_) => "broken",
            SegmentStop::Unreadable => "unreadable",
        },
        "crc": format!("{:08x}", segment.end_crc),
        "hiddenRecords": segment.hidden_records,
    })
}
