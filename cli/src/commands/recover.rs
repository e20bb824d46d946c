//! `recover`: what is left of a cluster in, the data dirs of a living one out.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use snapshot::finding::Finding;
use snapshot::fold::Point;
use snapshot::log_files::LogOptions;
use snapshot::new_cluster::Bump;
use snapshot::recover::{self, RecoverOptions, RecoverReport};
use snapshot::restore::{Output, RestoreOptions};
use snapshot::seen::{self, Seen, SeenOptions};
use snapshot::survivors::GivenPath;

use super::folding::{self, HowFarArgs};
use super::members::MembersArgs;
use super::restoring::{self, BumpArgs, NewArgs};
use super::wal_repair::hex;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output;
use crate::shown::shown;

/// The exit code of what the user stopped.
const INTERRUPTED: u8 = 130;

/// Most entries that are told one by one on stderr.
const MOST_TOLD: usize = 20;

/// Makes a new cluster of what is left of the members of one that died
///
/// Give the data dir of every member that can still be read: one is enough, several know more. The best database among them is
/// begun with, and what the logs have behind it is applied, whichever log has it; logs are mended in a copy where that loses
/// nothing. The result is the data dirs of all members of --initial-cluster, as 'snapshot restore --all-members' writes
/// them. What is possibly committed is in the result and listed; --certain-only leaves it out. What is known to be lost has
/// to be accepted with --accept-loss. The directories that are given are never touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue recover /mnt/a/etcd /mnt/b/etcd -o recovered \\
    --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380
  etcd-rescue recover /mnt/a/etcd --dry-run -o recovered --initial-cluster m1=http://10.0.0.1:2380")]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    members: MembersArgs,
    /// The members of the new cluster, as NAME=URL with commas between them
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: String,
    /// The token of the new cluster, from which its IDs are made
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// Where the members' directories go, each under its name
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Leave out what is only possibly committed
    #[arg(long)]
    certain_only: bool,
    /// Begin with the database of this DIR
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Go on although something is known to be lost
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    how_far: HowFarArgs,
    #[command(flatten)]
    bump: BumpArgs,
    #[command(flatten)]
    new: NewArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    base: BaseJson,
    certain_to: u64,
    applied_to: u64,
    revision: i64,
    possible: Vec<Value>,
    more_possible: u64,
    left_out: Vec<Value>,
    lost: Vec<String>,
    repairs: Vec<Value>,
    restore: restoring::Json<'a>,
    findings: &'a [Finding],
    dry_run: bool,
}

#[derive(Serialize)]
struct BaseJson {
    path: String,
    index: u64,
    term: u64,
    revision: i64,
}

/// Recovers.
///
/// # Errors
/// When the flags contradict each other, what was given is not fit, or the output cannot be written.
pub(crate) fn run(args: RecoverArgs, context: &Context) -> Result<Outcome, Failure> {
    let given = args.members.given()?;
    let told = args.new.form();
    let mut restore = RestoreOptions {
        initial_cluster: args.initial_cluster,
        token: args.initial_cluster_token,
        output: Output::AllMembers { dir: args.output },
        skip_hash_check: false,
        at_revision: None,
        bump_revision: args.bump.resolve()?,
        target: args.new.target_version,
        keep_alarms: args.new.keep_alarms,
        owner: args.new.write.owner()?,
        dry_run: args.new.write.dry_run,
        clean: args.new.write.clean,
    };
    let (seen, passed_over) = if args.bump.is_auto() {
        seen_by(&given, &args.bump.seen, context)?
    } else {
        (Vec::new(), Vec::new())
    };
    if let Some(largest) = seen.iter().map(|seen| seen.revision).max() {
        restore.bump_revision = Some(Bump::Beyond { seen: largest });
    }
    let options = RecoverOptions {
        restore,
        fold: args.how_far.options(),
        certain_only: args.certain_only,
        base: args.base,
        accept_loss: args.accept_loss,
        tmp_dir: context.tmp_dir(),
    };
    let report = recover::recover(&given, &context.facts_options(None), &options, context.watch.as_ref())?;

    let mut outcome = Outcome::default();
    let left = Leftovers { found: report.restore.leftovers.clone(), removed: report.restore.cleaned.clone() };
    outcome.before.extend(left.notes());
    outcome.before.extend(seen.iter().flat_map(restoring::told));
    outcome.before.extend(passed_over);
    outcome.before.extend(story(&report));
    outcome.note_findings(&report.findings);
    restoring::render(&report.restore, &seen, context.format, &told, &mut outcome, |restore| {
        output::json(&in_json(&report, restore))
    })?;
    Ok(outcome)
}

/// What all that is left shows that clients may have seen. A member that is too damaged to show it is passed over with a warning, for
/// the others show it too, and what its log has is in the result; a source that `--seen` names is not.
fn seen_by(
    given: &[GivenPath],
    more: &[PathBuf],
    context: &Context,
) -> Result<(Vec<Seen>, Vec<Note>), Failure> {
    let watch = context.watch.as_ref();
    let show = |path: &Path, wal_dir: Option<PathBuf>| {
        let options = context.seen_options();
        let options = SeenOptions { log: LogOptions { wal_dir, ..options.log }, ..options };
        seen::of(path, &options, watch)
    };
    let (mut found, mut passed_over) = (Vec::new(), Vec::new());
    for GivenPath { path, wal_dir } in given {
        match show(path, wal_dir.clone()) {
            Ok(seen) => found.push(seen),
            Err(error) if error.exit_code() == INTERRUPTED => return Err(error.into()),
            Err(error) => passed_over.push(Note::Warning(format!(
                "warning: not seen how far clients came: {}",
                shown(&error.to_string())
            ))),
        }
    }
    for path in more {
        found.push(show(path, None)?);
    }
    Ok((found, passed_over))
}

fn entries(first: u64, last: u64) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
}

/// What was begun with, what was applied, and what is not in the result.
fn story(report: &RecoverReport) -> Vec<Note> {
    let mut notes = Vec::new();
    for mended in &report.mended {
        let wal_dir = shown(&mended.wal_dir.display().to_string());
        for change in &mended.changes {
            notes.push(Note::Prose(format!("Mended in a copy of {wal_dir}: {}", shown(&change.to_string()))));
        }
    }
    notes.push(Note::Prose(format!(
        "Begun with {}, at {}.",
        shown(&report.base.path.display().to_string()),
        folding::point(&report.base.point)
    )));
    let fold = report.restore.fold.as_ref();
    if let Some(fold) = fold.filter(|fold| fold.account.entries > 0) {
        notes.extend(folding::applied(fold));
    } else {
        notes.push(Note::Prose("No log has an entry that follows it.".to_owned()));
    }
    notes.push(Note::Prose(match report.certain_to {
        certain if certain >= report.applied_to => "All of it is certain to be committed.".to_owned(),
        certain => format!("Certain to be committed is what goes up to entry {certain}."),
    }));
    for entry in report.tail.iter().take(MOST_TOLD) {
        let what = if entry.request.is_empty() { entry.kind.to_owned() } else { shown(&entry.request) };
        notes.push(Note::Verbatim(format!(
            "  possibly committed: entry {} of term {}: {what}",
            entry.index, entry.term
        )));
    }
    let told = report.tail.len().min(MOST_TOLD) as u64;
    let untold = count_possible(report).saturating_sub(told);
    if untold > 0 {
        notes.push(Note::Verbatim(format!("  and {untold} more")));
    }
    for loss in &report.losses {
        notes.push(Note::Warning(format!("warning: lost, as was accepted: {}", shown(&loss.to_string()))));
    }
    for left in &report.left_out {
        let which = entries(*left.entries.start(), *left.entries.end());
        notes.push(Note::Warning(format!("warning: left out: {which}: {}", shown(&left.why))));
    }
    notes
}

/// How many entries may or may not be committed.
fn count_possible(report: &RecoverReport) -> u64 {
    let counts = report
        .possible
        .iter()
        .map(|entries| entries.end().saturating_sub(*entries.start()).saturating_add(1));
    counts.fold(0, u64::saturating_add)
}

fn in_json<'a>(report: &'a RecoverReport, restore: restoring::Json<'a>) -> Json<'a> {
    let Point { revision, index, term } = report.base.point;
    let left_out = report
        .left_out
        .iter()
        .map(|left| json!({ "first": left.entries.start(), "last": left.entries.end(), "why": left.why }));
    let repairs = report.mended.iter().map(|mended| {
        let changes: Vec<String> = mended.changes.iter().map(ToString::to_string).collect();
        json!({ "walDir": mended.wal_dir.display().to_string(), "changes": changes })
    });
    let possible = report.tail.iter().map(|entry| {
        let (keys, others): (Vec<_>, Vec<_>) =
            entry.keys.iter().partition(|key| std::str::from_utf8(key).is_ok());
        let keys: Vec<_> = keys.into_iter().map(|key| String::from_utf8_lossy(key)).collect();
        json!({
            "index": entry.index,
            "term": entry.term,
            "kind": entry.kind,
            "request": entry.request,
            "keys": keys,
            "keysHex": others.into_iter().map(|key| hex(key)).collect::<Vec<_>>(),
        })
    });
    Json {
        base: BaseJson { path: report.base.path.display().to_string(), index, term, revision },
        certain_to: report.certain_to,
        applied_to: report.applied_to,
        revision: report.restore.revision,
        possible: possible.collect(),
        more_possible: count_possible(report).saturating_sub(report.tail.len() as u64),
        left_out: left_out.collect(),
        lost: report.losses.iter().map(ToString::to_string).collect(),
        repairs: repairs.collect(),
        restore,
        findings: &report.findings,
        dry_run: report.restore.dry_run,
    }
}
