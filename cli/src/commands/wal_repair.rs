//! `wal repair`: what can be made of a damaged log, and the mended copy.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use snapshot::log_files;
use snapshot::log_repair::{
    self, Added, Change, Held, Loss, LostKeys, Plan, Refusal, RepairOptions, RepairReport,
};

use super::writing::WriteArgs;

use crate::context::Context;
use crate::exit::{self, Failure};
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Plans the repair of a damaged log; with -o writes the mended copy
///
/// Without -o nothing is written: the plan says what would be put right, what would be lost, and how the log would end. What
/// loses nothing known is done without a flag: a single bit that explains the damage is turned back, a last record that was
/// not written whole is cut off as etcd does. The rest needs --accept-loss. Given a data dir, the copy is a data dir that
/// etcd starts from; given the log's own directory, it is a log. The original is never touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue wal repair /var/lib/etcd
  etcd-rescue wal repair /var/lib/etcd -o repaired --accept-loss")]
pub(crate) struct RepairArgs {
    /// A data dir, a member dir, or a log's directory
    #[arg(value_name = "DIR")]
    input: PathBuf,
    /// The directory to write: a data dir, or a log's directory when one was given; it must not exist or be empty
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The log's directory, where etcd was given one of its own; the copy has its log in the member
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Write although something is lost
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    write: WriteArgs,
}

/// Plans, and repairs.
///
/// # Errors
/// When the log cannot be read or nothing can be made of it, or the copy cannot be written.
pub(crate) fn run(args: RepairArgs, context: &Context) -> Result<Outcome, Failure> {
    let options = RepairOptions {
        output: args.output,
        accept_loss: args.accept_loss,
        dry_run: args.write.dry_run,
        clean: args.write.clean,
        owner: args.write.owner()?,
    };
    let watch = context.watch.as_ref();
    let files = log_files::open(&args.input, &context.log_options(args.wal_dir.as_deref()), watch)?;
    let report = log_repair::repair(&files, &options, &context.open_options(), watch)?;

    let mut outcome = Outcome::default();
    let left = Leftovers { found: report.leftovers.clone(), removed: report.cleaned.clone() };
    outcome.before.extend(left.notes());
    outcome.result = match context.format {
        Format::Simple => simple(&report),
        Format::Json => output::json(&to_json(&report, &options))?,
        format => output::render(format, &rows(&report), &())?,
    };
    outcome.code = code(&report);
    outcome.after = story(&report, &options);
    Ok(outcome)
}

/// 0 when nothing is wrong, or all was put right; 3 when a plan alone found something; 4 when it was refused.
fn code(report: &RepairReport) -> u8 {
    match report.held {
        Some(Held::Refused | Held::Loss) => exit::REFUSED,
        None if report.written || report.is_sound() => exit::DONE,
        None => exit::FINDINGS,
    }
}

/// What happened, and what to know.
fn story(report: &RepairReport, options: &RepairOptions) -> Vec<Note> {
    let mut notes = Vec::new();
    let warn = |text: String| Note::Warning(text);
    for snap in &report.unreadable_snaps {
        notes.push(warn(format!(
            "warning: {} cannot be read and is left out of a copy: {}",
            shown(&snap.name),
            shown(&snap.reason)
        )));
    }
    for name in &report.newer_snaps {
        notes.push(warn(format!(
            "warning: {} is ahead of the db, and the database that should have come with it is not there: a server \
             that starts from it ends, so it is left out of a copy",
            shown(name)
        )));
    }
    match report.held {
        Some(Held::Refused) => notes.push(warn(
            "Refused: the log alone would end before what is committed, and nothing would hold the rest. Give the data dir, \
             whose db may hold it; or rebuild the member from its peers"
                .to_owned(),
        )),
        Some(Held::Loss) => notes.push(warn(
            "Refused: this loses what is listed as lost. --accept-loss accepts it; nothing was written".to_owned(),
        )),
        None => {}
    }
    if report.plan.forgets() {
        notes.push(warn(
            "warning: a member whose acknowledged log was cut must never rejoin its old cluster: it would vote again on what it \
             has forgotten. Remove it there and add a new member, or, where no peer is left, start the copy with \
             --force-new-cluster"
                .to_owned(),
        ));
    }
    if let (true, Some(output)) = (report.written, &options.output) {
        notes.push(Note::Prose(format!("The mended copy is {}.", shown(&output.display().to_string()))));
    } else if options.dry_run && report.held.is_none() && options.output.is_some() {
        notes.push(Note::Prose("Dry run: nothing was written.".to_owned()));
    } else if options.output.is_none() && !report.is_sound() {
        let flag = if report.plan.losses.is_empty() { "" } else { " --accept-loss" };
        notes.push(Note::Prose(format!("This is a plan: -o DIR{flag} writes the mended copy.")));
    }
    notes
}

/// The story of the log as it would be.
fn simple(report: &RepairReport) -> String {
    let mut out = String::new();
    let plan = &report.plan;
    // Writing to a string cannot fail.
    let mut line = |text: String| _ = writeln!(out, "{text}");
    if report.is_sound() {
        line("nothing to repair".to_owned());
    }
    for change in &plan.changes {
        line(format!("put right: {}", shown(&change.to_string())));
    }
    for loss in &plan.losses {
        line(format!("lost: {}", shown(&loss.to_string())));
    }
    for refusal in &plan.refusals {
        line(format!("refused: {refusal}"));
    }
    let lost = &report.lost_keys;
    if lost.entries > 0 {
        line(format!("keys in what does not stay: {}", keys(lost)));
    }
    let claimed = &report.claimed_keys;
    if claimed.entries > 0 {
        line(format!("keys in what cannot be proven, as its bytes are now: {}", keys(claimed)));
    }
    if let Some((index, term)) = plan.new_snapshot {
        let from = report.members_from.unwrap_or("the db");
        line(format!("a .snap at entry {index} of term {term} is made, its members from {from}"));
    }
    line(format!(
        "the log then has {} and ends {}: term {}, vote {:x}, commit {}",
        entries(plan),
        end(plan),
        plan.state.term(),
        plan.state.vote(),
        plan.state.commit()
    ));
    out
}

/// How many keys people are shown.
const LISTED_KEYS: usize = 20;

/// The keys of entries, and how many entries name none.
pub(super) fn keys(lost: &LostKeys) -> String {
    let named: Vec<String> = lost.keys.iter().take(LISTED_KEYS).map(|key| text(key)).collect();
    let more = if lost.more || lost.keys.len() > LISTED_KEYS { ", and more" } else { "" };
    let keys = if named.is_empty() { "none".to_owned() } else { format!("{}{more}", named.join(", ")) };
    let entries = |count: u64| if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") };
    let without = match lost.without_keys {
        0 => String::new(),
        count => format!(
            ", of which {} about no key: membership, users, leases, or nothing",
            match count {
                1 => "1 is".to_owned(),
                many => format!("{many} are"),
            }
        ),
    };
    format!("{keys} (in {}{without})", entries(lost.entries))
}

/// A key fit for a terminal.
fn text(key: &[u8]) -> String {
    shown(&String::from_utf8_lossy(key))
}

fn entries(plan: &Plan) -> String {
    match (plan.first_index, plan.last) {
        (Some(_), Some(_)) => {
            let stretches = plan.stretches.iter().map(|(first, last)| {
                if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
            });
            stretches.collect::<Vec<_>>().join(" and ")
        }
        _ => "no entries".to_owned(),
    }
}

fn end(plan: &Plan) -> String {
    match (plan.last, plan.start) {
        (Some((last, _)), start) if start > last => format!("at the snapshot at entry {start}"),
        (Some((last, term)), _) => format!("with entry {last} of term {term}"),
        (None, start) => format!("at the snapshot at entry {start}"),
    }
}

/// A row for each thing that is put right or lost.
fn rows(report: &RepairReport) -> Vec<Vec<Cell>> {
    let row = |what: &str, place: Place, detail: String| {
        vec![
            Cell::new("what", "What", what),
            Cell::new("segment", "Segment", &shown(&place.file)),
            Cell::new(
                "offset",
                "Offset",
                &place.offset.map_or_else(String::new, |offset| format!("{offset:#x}")),
            ),
            Cell::new("detail", "Detail", &shown(&detail)),
        ]
    };
    let plan = &report.plan;
    let mut rows: Vec<Vec<Cell>> =
        plan.changes.iter().map(|change| row("put right", place(change), change.to_string())).collect();
    rows.extend(plan.losses.iter().map(|loss| row("lost", place_of_loss(loss), loss.to_string())));
    rows.extend(plan.refusals.iter().map(|refusal| row("refused", Place::default(), refusal.to_string())));
    if rows.is_empty() {
        rows.push(row("sound", Place::default(), "nothing to repair".to_owned()));
    }
    rows
}

#[derive(Default)]
struct Place {
    file: String,
    offset: Option<u64>,
}

fn at(file: &str, offset: u64) -> Place {
    Place { file: file.to_owned(), offset: Some(offset) }
}

fn place(change: &Change) -> Place {
    match change {
        Change::BitTurned { file, offset, .. }
        | Change::PaddingZeroed { file, offset }
        | Change::TailDropped { file, offset, .. }
        | Change::Rejoined { file, offset, .. }
        | Change::AfterEndZeroed { file, offset } => at(file, *offset),
        Change::Renamed { file, .. } | Change::CopyDropped { file, .. } | Change::EmptyDropped { file } => {
            Place { file: file.clone(), offset: None }
        }
        _ => Place::default(),
    }
}

fn place_of_loss(loss: &Loss) -> Place {
    match loss {
        Loss::Passed { file, offset, .. } | Loss::Cut { file, offset, .. } => at(file, *offset),
        Loss::Claimed { file, from, .. } => at(file, *from),
        Loss::Foreign { file } => Place { file: file.clone(), offset: None },
        _ => Place::default(),
    }
}

fn change_kind(change: &Change) -> &'static str {
    match change {
        Change::BitTurned { .. } => "bitTurned",
        Change::PaddingZeroed { .. } => "paddingZeroed",
        Change::TailDropped { .. } => "tailDropped",
        Change::Rejoined { .. } => "rejoined",
        Change::AfterEndZeroed { .. } => "afterEndZeroed",
        Change::Renamed { .. } => "renamed",
        Change::CopyDropped { .. } => "copyDropped",
        Change::EmptyDropped { .. } => "emptyDropped",
        Change::StartMade { .. } => "startMade",
        Change::StateAdded { .. } => "stateAdded",
        _ => "other",
    }
}

fn loss_json(loss: &Loss) -> Value {
    let place = place_of_loss(loss);
    let (kind, range, term) = match loss {
        Loss::Passed { .. } => ("passed", None, None),
        Loss::Cut { .. } => ("cut", None, None),
        Loss::Missing { first, last, .. } => ("missing", Some((first, last)), None),
        Loss::Dropped { first, last, term, .. } => ("dropped", Some((first, last)), Some(term)),
        Loss::Claimed { first, last, term, .. } => ("claimed", Some((first, last)), Some(term)),
        Loss::Foreign { .. } => ("foreign", None, None),
        Loss::Commit { .. } => ("commit", None, None),
        Loss::SnapshotMade { .. } => ("snapshotMade", None, None),
        _ => ("other", None, None),
    };
    let covered = match loss {
        Loss::Missing { covered, .. } | Loss::Dropped { covered, .. } => Some(covered.is_some()),
        _ => None,
    };
    json!({
        "kind": kind,
        "file": Some(place.file).filter(|file| !file.is_empty()),
        "offset": place.offset,
        "firstIndex": range.map(|range| range.0),
        "lastIndex": range.map(|range| range.1),
        "term": term,
        "covered": covered,
        "message": loss.to_string(),
    })
}

fn to_json(report: &RepairReport, options: &RepairOptions) -> Value {
    let plan = &report.plan;
    let change = |change: &Change| {
        let place = place(change);
        json!({
            "kind": change_kind(change),
            "file": Some(place.file).filter(|file| !file.is_empty()),
            "offset": place.offset,
            "message": change.to_string(),
        })
    };
    let refusal = |refusal: &Refusal| json!({ "message": refusal.to_string() });
    json!({
        "sound": report.is_sound(),
        "newerSnaps": report.newer_snaps,
        "written": report.written,
        "dryRun": options.dry_run,
        "held": report.held.map(|held| match held {
            Held::Loss => "loss",
            Held::Refused => "refused",
        }),
        "output": options.output.as_ref().map(|output| output.display().to_string()),
        "changes": plan.changes.iter().map(change).collect::<Vec<_>>(),
        "losses": plan.losses.iter().map(loss_json).collect::<Vec<_>>(),
        "refusals": plan.refusals.iter().map(refusal).collect::<Vec<_>>(),
        "lostKeys": keys_json(&report.lost_keys),
        "claimedKeys": keys_json(&report.claimed_keys),
        "mustNotRejoin": plan.forgets(),
        "consistentIndex": report.consistent_index,
        "stretches": plan.stretches,
        "firstIndex": plan.first_index,
        "lastIndex": plan.last.map(|last| last.0),
        "lastTerm": plan.last.map(|last| last.1),
        "startIndex": plan.start,
        "hardState": {
            "term": plan.state.term(),
            "vote": format!("{:x}", plan.state.vote()),
            "commit": plan.state.commit(),
        },
        "newSnapshot": plan.new_snapshot.map(|(index, term)| json!({
            "index": index,
            "term": term,
            "membersFrom": report.members_from,
        })),
        "added": plan.added.iter().map(added).collect::<Vec<_>>(),
        "segments": plan.segments.iter().map(|segment| json!({
            "name": segment.name,
            "from": segment.source.and_then(|at| report.segments.get(at)),
        })).collect::<Vec<_>>(),
        "unreadableSnaps": report.unreadable_snaps.iter().map(|snap| json!({
            "name": snap.name,
            "reason": snap.reason,
        })).collect::<Vec<_>>(),
    })
}

/// Keys that are no UTF-8 stand in hexadecimal.
pub(super) fn keys_json(lost: &LostKeys) -> Value {
    let keys = lost.keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
    let others = lost.keys.iter().filter(|key| std::str::from_utf8(key).is_err());
    json!({
        "keys": keys.collect::<Vec<_>>(),
        "keys_hex": others.map(|key| hex(key)).collect::<Vec<_>>(),
        "more": lost.more,
        "entries": lost.entries,
        "withoutKeys": lost.without_keys,
    })
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn added(added: &Added) -> Value {
    match added {
        Added::Snapshot { index, term } => json!({ "record": "snapshot", "index": index, "term": term }),
        Added::State(state) => json!({
            "record": "state",
            "term": state.term(),
            "vote": format!("{:x}", state.vote()),
            "commit": state.commit(),
        }),
    }
}
