//! `kv delete`: keys deleted, or removed with all their history, in a copy.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::edited::EditReport;
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::kv_delete::{Deletion, Purge};
use snapshot::lone::{Purpose, Standing};
use snapshot::opened::Opened;
use snapshot::save::SaveError;

use super::edit::{EditArgs, Editing};
use super::kv_range::RangeArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{self, Note, Outcome};
use crate::output::{self, Cell, Format};

/// Writes a copy in which a key or a range of keys is deleted
///
/// One new revision deletes all of them, as a server's delete-range would: what was before can be read until a compaction. With
/// --purge they are removed with all their history, in files that are about to be restored. A file gives a file; a data dir gives a data
/// dir, for the only member of a cluster.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue kv delete snapshot.db --prefix /registry/events/ -o without-events.db
  etcd-rescue kv delete snapshot.db --prefix /registry/secrets/ --purge -o without-secrets.db")]
pub(crate) struct DeleteArgs {
    /// A db, a snapshot (also compressed), a data dir or a member dir
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    #[command(flatten)]
    keys: RangeArgs,
    /// Remove the keys and all their history, as if they had never been. A data dir needs --diverge for it
    #[arg(long)]
    purge: bool,
    #[command(flatten)]
    edit: EditArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: Option<String>,
    purge: bool,
    /// Keys deleted; for a purge it is not counted.
    deleted: Option<u64>,
    /// Keys among them with a lease.
    leased: Option<u64>,
    /// Records removed.
    removed_records: Option<u64>,
    revision_before: i64,
    revision: i64,
    /// Whether an empty tombstone keeps the store at its revision.
    revision_held: bool,
    size_before: u64,
    size_after: u64,
    sha256: Option<String>,
    member: bool,
    diverges: bool,
    dry_run: bool,
    findings: &'a [Finding],
}

/// What was, or would be, done.
struct Done {
    deleted: Option<u64>,
    leased: Option<u64>,
    removed_records: Option<u64>,
    revision_before: i64,
    revision: i64,
    is_held: bool,
    findings: Vec<Finding>,
    report: EditReport,
}

/// Deletes.
///
/// # Errors
/// When the input cannot be read or may not be edited, or the output cannot be written.
pub(crate) fn run(args: &DeleteArgs, context: &Context) -> Result<Outcome, Failure> {
    let range = args.keys.range()?;
    let watch = context.watch.as_ref();
    let mut editing = args.edit.open(&args.input, context)?;
    let standing = editing.ensure_alone(Purpose::Edit, context)?;
    if args.purge && standing.is_member && !args.edit.diverge() {
        return Err(Failure::refused(format!(
            "{}: --purge takes the history out of the database, and the log beside it still holds what it removes: purge a \
             snapshot and restore from it; --diverge does it to the data dir all the same",
            args.input.display()
        )));
    }
    outcome::tell(&std::mem::take(&mut editing.before), context.quiet);
    let db = open_db(&editing.input)?;
    let mut done = if args.purge {
        let plan = Purge::plan(&db, &range, watch)?;
        let edits = plan.edits();
        let report = editing.write(plan.change(&edits), context)?;
        Done {
            deleted: None,
            leased: None,
            removed_records: Some(plan.sifted.records_before - plan.sifted.records_after),
            revision_before: plan.current_revision,
            revision: plan.current_revision,
            is_held: plan.is_held,
            findings: plan.sifted.findings.clone(),
            report,
        }
    } else {
        let plan = Deletion::plan(&db, range, watch)?;
        let edits = plan.edits();
        let report = editing.write(plan.change(&edits), context)?;
        Done {
            deleted: Some(plan.deleted),
            leased: Some(plan.leased),
            removed_records: None,
            revision_before: plan.current_revision,
            revision: plan.revision,
            is_held: false,
            findings: plan.findings().to_vec(),
            report,
        }
    };
    watch.finish();
    done.findings.extend_from_slice(&standing.findings);
    let mut outcome = result(args, context, &editing, &standing, &done)?;
    outcome.after.extend(story(&editing, &standing, &done));
    Ok(outcome)
}

fn open_db(input: &Opened) -> Result<bbolt::Db<&bbolt::FileSource>, Failure> {
    input.db().map_err(|source| SaveError::Db { path: input.path().display().to_string(), source }.into())
}

fn result(
    args: &DeleteArgs,
    context: &Context,
    editing: &Editing,
    standing: &Standing,
    done: &Done,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    outcome.note_findings(&done.findings);
    let (before, after) = (done.report.before_bytes, done.report.after_bytes);
    let json = Json {
        path: editing.output(),
        purge: args.purge,
        deleted: done.deleted,
        leased: done.leased,
        removed_records: done.removed_records,
        revision_before: done.revision_before,
        revision: done.revision,
        revision_held: done.is_held,
        size_before: before,
        size_after: after,
        sha256: done.report.digest.as_ref().map(ToString::to_string),
        member: standing.is_member,
        diverges: standing.diverges,
        dry_run: args.edit.write.dry_run,
        findings: &done.findings,
    };
    let (header, label, count) = match done.removed_records {
        Some(records) => ("removed records", "Removed records", records),
        None => ("deleted", "Deleted", done.deleted.unwrap_or_default()),
    };
    outcome.result = match context.format {
        // What etcdctl's del answers.
        Format::Simple => format!("{count}\n"),
        format => {
            let row = vec![
                Cell::new(header, label, &count),
                Cell::new("revision", "Revision", &done.revision),
                Cell::shown("before", "Size before", &humanize::bytes(before), &before),
                Cell::shown("after", "Size after", &humanize::bytes(after), &after),
            ];
            output::render(format, &[row], &json)?
        }
    };
    Ok(outcome)
}

fn story(editing: &Editing, standing: &Standing, done: &Done) -> Vec<Note> {
    let mut notes = Vec::new();
    let path = editing.output().map_or_else(|| "OUT".to_owned(), |path| crate::shown::shown(&path));
    match done.removed_records {
        None if done.deleted == Some(0) => notes.push(Note::Prose(format!(
            "None of these keys is there at revision {}: there is no new revision, and the copy holds what the input does.",
            done.revision
        ))),
        None => {
            notes.push(Note::Prose(format!(
                "Revision {} deletes {} key(s). What they held stays in the history, and in the file's size, until that is compacted: etcd-rescue \
                 compact {path} --rev {} -o SMALL",
                done.revision,
                done.deleted.unwrap_or_default(),
                done.revision
            )));
            if let Some(leased) = done.leased.filter(|leased| *leased > 0) {
                notes.push(Note::Prose(format!(
                    "{leased} of them had a lease; the leases stay, without these keys, until they expire."
                )));
            }
        }
        Some(0) => notes.push(Note::Prose(
            "There is no record of these keys: the copy holds what the input does.".to_owned(),
        )),
        Some(records) => {
            let held = if done.is_held {
                ": a tombstone of the empty key, which the next compaction removes, holds it"
            } else {
                ""
            };
            notes.push(Note::Prose(format!(
                "{records} record(s) of these keys are gone. The store stays at revision {}{held}.",
                done.revision
            )));
            notes.push(Note::Warning(format!(
                "warning: no revision says that these keys went, so clients that watched or cached them do not hear of it. Restore with \
                 'etcd-rescue snapshot restore {path} --bump-revision 1000000000 --mark-compacted ...', which makes them all start over"
            )));
            if standing.is_member {
                notes.push(Note::Warning(
                    "warning: the copy's log still holds the requests that wrote what was removed".to_owned(),
                ));
            }
        }
    }
    notes.extend(editing.story(standing, &done.report));
    notes
}
