//! `compact`: a compaction without a server, and a defragmentation with it.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::{Value, json};
use snapshot::compact::{self, At, Plan, PrefixUse};
use snapshot::edited::EditReport;
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::lone::{Purpose, Standing};
use snapshot::mvcc::{Release, Store};
use snapshot::target::minor_of;

use super::edit::{EditArgs, Editing};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{self, Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Prefixes that people are shown.
const LISTED_PREFIXES: usize = 20;
/// Prefixes in JSON.
const MOST_LISTED_PREFIXES: usize = 1000;
/// A Kubernetes cluster's history of five minutes at some hundred writes a second fits in it.
const EXAMPLE: &str = "\
Example:
  etcd-rescue compact snapshot.db --keep-revisions 1000 --dry-run
  etcd-rescue compact snapshot.db --keep-revisions 1000 -o small.db
  etcd-rescue compact /var/lib/etcd --rev 123456 -o compacted";

/// Writes a compacted and defragmented copy of a database, snapshot or data dir
///
/// Of every key the newest value at the revision stays, and all that came later; what newer revisions superseded goes, as
/// etcd's own compaction has it. The copy comes out without free pages: nothing needs defragmenting afterwards. A file gives a file, for a
/// restore; a data dir gives a data dir with its log, for the only member of a cluster. --dry-run says what it would free, and whose it is.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
#[command(group(ArgGroup::new("at").required(true).args(["rev", "keep_revisions"])))]
pub(crate) struct CompactArgs {
    /// A db, a snapshot (also compressed), a data dir or a member dir
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// The revision to compact at
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    rev: Option<i64>,
    /// Compact this many revisions before the current one
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(i64).range(0..))]
    keep_revisions: Option<i64>,
    /// The release whose rules hold: those up to 3.4.33 and 3.5.15 also remove a deletion made by the very revision N
    /// [default: the newest]
    #[arg(long, value_name = "X.Y.Z")]
    as_etcd: Option<Release>,
    #[command(flatten)]
    edit: EditArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: Option<String>,
    revision: i64,
    compacted_before: Option<i64>,
    current_revision: i64,
    /// A compaction that was ordered and never finished.
    pending_compaction: Option<i64>,
    as_etcd: String,
    size_before: u64,
    size_after: u64,
    records_before: u64,
    records_after: u64,
    tombstones_at_revision: u64,
    sha256: Option<String>,
    prefixes: Option<Vec<Value>>,
    member: bool,
    other_members: Vec<String>,
    pending_entries: u64,
    diverges: bool,
    dry_run: bool,
    findings: &'a [Finding],
}

/// Compacts.
///
/// # Errors
/// When the input cannot be read or may not be edited, the revision cannot be compacted, or the output cannot be written.
pub(crate) fn run(args: &CompactArgs, context: &Context) -> Result<Outcome, Failure> {
    let at = match (args.rev, args.keep_revisions) {
        (Some(revision), _) => At::Revision(revision),
        (None, keep) => At::Keep(keep.unwrap_or_default()),
    };
    let release = args.as_etcd.unwrap_or_default();
    let watch = context.watch.as_ref();
    let mut editing = args.edit.open(&args.input, context)?;
    let shown_path = editing.input.path().display().to_string();
    let (plan, prefixes, standing) = {
        let db = editing
            .input
            .db()
            .map_err(|source| snapshot::save::SaveError::Db { path: shown_path.clone(), source })?;
        let read =
            |fault: bbolt::Fault| Failure::failed(format!("{shown_path}: {fault}; nothing was written"));
        let store = Store::read(&db, release).map_err(read)?;
        let revision = compact::resolve(&store, at)?;
        let standing = editing.ensure_alone(Purpose::Compaction { revision }, context)?;
        let plan = compact::plan(&db, at, release, watch)?;
        let prefixes = if args.edit.write.dry_run {
            Some(compact::by_prefix(&db, plan.kept(), watch).map_err(compact::CompactError::from)?)
        } else {
            None
        };
        (plan, prefixes, standing)
    };
    watch.finish();
    let before = std::mem::take(&mut editing.before);
    outcome::tell(&before, context.quiet);
    let edits = plan.edits();
    let report = editing.write(plan.change(&edits), context)?;
    let story = story(&editing, &plan, &standing, &report);
    result(args, context, &editing, &plan, prefixes.as_deref(), &standing, &report).map(|mut outcome| {
        outcome.after.extend(story);
        outcome
    })
}

fn result(
    args: &CompactArgs,
    context: &Context,
    editing: &Editing,
    plan: &Plan,
    prefixes: Option<&[PrefixUse]>,
    standing: &Standing,
    report: &EditReport,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let compaction = &plan.compaction;
    let findings: Vec<Finding> = compaction.findings.iter().chain(&standing.findings).cloned().collect();
    outcome.note_findings(&findings);
    let (before, after) = (report.before_bytes, report.after_bytes);
    let json = Json {
        path: editing.output(),
        revision: plan.revision(),
        compacted_before: compaction.store.finished,
        current_revision: compaction.store.current_revision,
        pending_compaction: plan.pending(),
        as_etcd: plan.release.to_string(),
        size_before: before,
        size_after: after,
        records_before: compaction.records_before,
        records_after: compaction.records_after,
        tombstones_at_revision: plan.tombstones_at_revision,
        sha256: report.digest.as_ref().map(ToString::to_string),
        prefixes: prefixes.map(|all| all.iter().take(MOST_LISTED_PREFIXES).map(prefix_json).collect()),
        member: standing.is_member,
        other_members: standing.others.iter().map(|id| format!("{id:x}")).collect(),
        pending_entries: standing.pending,
        diverges: standing.diverges,
        dry_run: args.edit.write.dry_run,
        findings: &findings,
    };
    let row = vec![
        Cell::new("revision", "Revision", &plan.revision()),
        Cell::shown("before", "Size before", &humanize::bytes(before), &before),
        Cell::shown("after", "Size after", &humanize::bytes(after), &after),
        Cell::new("records before", "Records before", &compaction.records_before),
        Cell::new("records after", "Records after", &compaction.records_after),
    ];
    outcome.result = match context.format {
        Format::Simple => {
            let mut text = simple(plan, report);
            text += &prefixes.map(prefix_lines).unwrap_or_default();
            text
        }
        format => output::render(format, &[row], &json)?,
    };
    Ok(outcome)
}

/// The numbers, a line each.
fn simple(plan: &Plan, report: &EditReport) -> String {
    let compaction = &plan.compaction;
    let dropped = compaction.records_before - compaction.records_after;
    let size = |bytes: u64| format!("{bytes} bytes ({})", humanize::bytes(bytes));
    format!(
        "revision: {} (of {}, compacted at {} before)\nrecords: {} -> {} ({dropped} dropped)\nsize: {} -> {}\n",
        plan.revision(),
        compaction.store.current_revision,
        compaction.store.finished.map_or_else(|| "none".to_owned(), |revision| revision.to_string()),
        compaction.records_before,
        compaction.records_after,
        size(report.before_bytes),
        size(report.after_bytes),
    )
}

/// Whose bytes go, those with most first.
fn prefix_lines(prefixes: &[PrefixUse]) -> String {
    let mut text = "dropped by prefix (records, bytes; of records, bytes):\n".to_owned();
    let losing = prefixes.iter().filter(|found| found.dropped_records > 0);
    for found in losing.clone().take(LISTED_PREFIXES) {
        let name = match found.prefix.as_deref() {
            None => "(others)".to_owned(),
            Some([]) => "(keys without /)".to_owned(),
            Some(prefix) => shown(&String::from_utf8_lossy(prefix)),
        };
        text += &format!(
            "  {name} {}, {}; of {}, {}\n",
            found.dropped_records,
            humanize::bytes(found.dropped_bytes),
            found.records,
            humanize::bytes(found.bytes)
        );
    }
    let more = losing.count().saturating_sub(LISTED_PREFIXES);
    if more > 0 {
        text += &format!("  and {more} more prefixes (-w json lists them)\n");
    }
    text
}

fn prefix_json(found: &PrefixUse) -> Value {
    let text = found.prefix.as_deref().map(std::str::from_utf8);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (prefix, prefix_hex) = match (text, found.prefix.as_deref()) {
        (Some(Err(_)), Some(bytes)) => (None, Some(hex(bytes))),
        (Some(Ok(text)), _) => (Some(text), None),
        _ => (None, None),
    };
    let mut object = json!({
        "prefix": prefix,
        "records": found.records,
        "bytes": found.bytes,
        "droppedRecords": found.dropped_records,
        "droppedBytes": found.dropped_bytes,
    });
    if let (Some(object), Some(prefix)) = (object.as_object_mut(), prefix_hex) {
        object.insert("prefix_hex".to_owned(), prefix.into());
    }
    object
}

fn story(editing: &Editing, plan: &Plan, standing: &Standing, report: &EditReport) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(pending) = plan.pending() {
        notes.push(Note::Prose(format!(
            "A compaction at {pending} was ordered and not finished when the database was last written; it is in this one."
        )));
    }
    if plan.tombstones_at_revision > 0 {
        notes.push(Note::Prose(tombstones(editing, plan)));
    }
    notes.extend(editing.story(standing, report));
    if standing.is_member && !standing.diverges {
        notes.push(Note::Warning(
            "warning: no peer may join this member with data of before: a member compacted alone is ahead of the others, and etcd's check \
             for corruption raises a CORRUPT alarm over it. New, empty members can be added"
                .to_owned(),
        ));
    }
    notes
}

/// What became of the deletions at the very revision, about which releases differ.
fn tombstones(editing: &Editing, plan: &Plan) -> String {
    let (count, revision) = (plan.tombstones_at_revision, plan.revision());
    let minor =
        minor_of(&editing.schema.storage_version).or_else(|| minor_of(&editing.schema.cluster_version));
    if !plan.release.keeps_tombstone_at_compaction() {
        return format!(
            "{count} deletion(s) by revision {revision} itself are removed, as etcd {} does: a watch from {revision} on does not hear of them.",
            plan.release
        );
    }
    let older = match minor {
        Some(minor @ (4 | 5)) => format!(
            " The data was last served by etcd 3.{minor}, whose early releases (up to 3.4.33 and 3.5.15) would remove them; they read \
             either, and hash the same at every later revision. --as-etcd 3.{minor}.0 removes them."
        ),
        _ => String::new(),
    };
    format!(
        "{count} deletion(s) by revision {revision} itself stay, so that a watch from {revision} on hears of them.{older}"
    )
}
