//! What the commands share that make the directories of a new cluster.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::integrity::Integrity;
use snapshot::new_cluster::Bump;
use snapshot::restore::RestoreReport;
use snapshot::seen::{Evidence, Seen};
use snapshot::target::TargetVersion;

use super::folding;
use super::writing::WriteArgs;
use crate::exit::Failure;
use crate::next_steps::{self, Form, Situation, Start};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;
use crate::values;

/// Whether and how far revisions are raised.
#[derive(Debug, Clone, Args)]
pub(super) struct BumpArgs {
    /// By how much to raise the latest revision, so that watchers of the old cluster notice; auto is 10^9, or 10^6 above all that
    /// the input and --seen show that clients may have seen, whichever is more
    #[arg(long, value_name = "REVISIONS|auto", default_value = "0", value_parser = bump)]
    #[arg(allow_hyphen_values = true)]
    bump_revision: BumpArg,
    /// Mark everything below the raised revision as compacted; required with --bump-revision above 0, implied by auto
    #[arg(long)]
    mark_compacted: bool,
    /// With --bump-revision auto: what else is left of the cluster: data dirs, dbs, snapshots, logs
    #[arg(long, value_name = "PATH", num_args = 1.., action = clap::ArgAction::Append)]
    pub(super) seen: Vec<PathBuf>,
}

/// What the new cluster is like, beside its members.
#[derive(Debug, Clone, Args)]
pub(super) struct NewArgs {
    /// The etcd version that will start it: 3.4, 3.5, 3.6 or 3.7 [default: told from the data]
    #[arg(long, value_name = "VERSION")]
    pub(super) target_version: Option<TargetVersion>,
    /// Keep alarms, though the members they name are gone
    #[arg(long)]
    pub(super) keep_alarms: bool,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    /// What to print on stdout about starting the members
    #[arg(long, value_name = "FORM")]
    emit: Option<Form>,
}

/// `--bump-revision`.
#[derive(Debug, Clone, Copy)]
enum BumpArg {
    Auto,
    By(u64),
}

fn bump(text: &str) -> Result<BumpArg, String> {
    if text == "auto" {
        return Ok(BumpArg::Auto);
    }
    values::unsigned(text).map(BumpArg::By).map_err(|error| format!("{error}, nor auto"))
}

impl BumpArgs {
    /// Whether what clients may have seen decides.
    pub(super) fn is_auto(&self) -> bool {
        matches!(self.bump_revision, BumpArg::Auto)
    }

    /// What the flags come to; with auto, before it is known what clients may have seen.
    ///
    /// # Errors
    /// When they contradict each other.
    pub(super) fn resolve(&self) -> Result<Option<Bump>, Failure> {
        let bump_revision = match (self.bump_revision, self.mark_compacted) {
            (BumpArg::By(0), false) => None,
            (BumpArg::By(0), true) => {
                return Err(Failure::usage(
                    "--mark-compacted is for --bump-revision above 0, and disallowed without it",
                ));
            }
            (BumpArg::By(_), false) => {
                return Err(Failure::usage("--mark-compacted required if --bump-revision > 0"));
            }
            (BumpArg::By(bump), true) => Some(Bump::By(bump)),
            // What the sources show is not known yet.
            (BumpArg::Auto, _) => Some(Bump::Beyond { seen: 0 }),
        };
        if !self.seen.is_empty() && !matches!(self.bump_revision, BumpArg::Auto) {
            return Err(Failure::usage(
                "--seen is for --bump-revision auto, which reckons with what it shows",
            ));
        }
        Ok(bump_revision)
    }
}

/// How the end is told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    emit: Option<Form>,
    user: Option<String>,
    situation: Situation,
}

impl NewArgs {
    /// How the end is told.
    pub(super) fn form(&self) -> Told {
        let user = self.write.owner.as_deref().map(|text| text.split(':').next().unwrap_or(text).to_owned());
        let situation = Situation {
            root_without_owner: self.write.owner.is_none() && rustix::process::geteuid().is_root(),
            form: self.emit.unwrap_or(Form::Flags),
        };
        Told { emit: self.emit, user, situation }
    }
}

/// A restore for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Json<'a> {
    dry_run: bool,
    integrity: Integrity,
    target_version: TargetVersion,
    target_reason: &'a str,
    cluster_id: String,
    token: &'a str,
    members: Vec<MemberJson<'a>>,
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    back_from: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bumped_to: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    seen: Vec<SeenJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fold: Option<serde_json::Value>,
    db_size: u64,
    leases: u64,
    auth_enabled: bool,
    notices: &'a [String],
    findings: &'a [Finding],
    next: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    emitted: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberJson<'a> {
    name: &'a str,
    id: String,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wal_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeenJson {
    path: String,
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    db_revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writes_in_log: Option<u64>,
    doubts: Vec<String>,
}

impl From<&Seen> for SeenJson {
    fn from(seen: &Seen) -> Self {
        let (db_revision, writes_in_log) = match seen.evidence {
            Evidence::Database { revision, writes, .. } => (Some(revision), Some(writes)),
            Evidence::Requests => (None, None),
        };
        let path = seen.path.display().to_string();
        Self { path, revision: seen.revision, db_revision, writes_in_log, doubts: seen.doubts.clone() }
    }
}

/// One source in a sentence, and why it may not be all.
pub(super) fn told(seen: &Seen) -> Vec<Note> {
    let path = shown(&seen.path.display().to_string());
    let sentence = match seen.evidence {
        Evidence::Database { revision, writes: 0, .. } => {
            format!("seen: {path} had come to revision {revision}")
        }
        Evidence::Database { revision, consistent_index, writes } => format!(
            "seen: {path} may have come to revision {}: its db to {revision}, and what its log has behind index \
             {consistent_index} may have made {writes} more",
            seen.revision
        ),
        Evidence::Requests => format!("seen: {path} shows revision {} at least", seen.revision),
    };
    let doubts = seen.doubts.iter().map(|doubt| Note::Warning(format!("warning: {}", shown(doubt))));
    std::iter::once(Note::Prose(sentence)).chain(doubts).collect()
}

/// The report as result and story: with `emit` what starts the members is the result, otherwise the members are.
///
/// # Errors
/// When the result cannot be written in this format.
pub(super) fn render(
    report: &RestoreReport,
    seen: &[Seen],
    format: Format,
    told: &Told,
    outcome: &mut Outcome,
    in_json: impl FnOnce(Json<'_>) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let Told { emit, ref user, situation } = *told;
    let user = user.as_deref();
    let starts = next_steps::starts(report);
    let advice = next_steps::advice(report, &starts, situation);
    outcome
        .before
        .push(Note::Prose(format!("Laid out for etcd {}: {}", report.target, report.target_reason)));
    outcome.before.extend(report.notices.iter().map(|notice| {
        let text = format!("note: {notice}");
        if notice.starts_with("WARNING") { Note::Warning(text) } else { Note::Prose(text) }
    }));
    outcome.before.push(Note::Prose(summary(report)));
    let emitted = emit.map(|form| next_steps::emit(form, &starts, user));
    let members = members(report);
    match (format, emitted) {
        (Format::Json, emitted) => {
            outcome.result = in_json(json(report, seen, &starts, &advice, emitted.as_deref()))?;
        }
        (format, Some(emitted)) => {
            let members = output::render(format, &members, &())?;
            outcome.before.push(Note::Verbatim(members.trim_end().to_owned()));
            outcome.result = emitted;
        }
        (format, None) => {
            outcome.result = output::render(format, &members, &())?;
            let commands = next_steps::emit(Form::Flags, &starts, user);
            outcome.after.push(Note::Verbatim(format!("\nWhat to run next:\n\n{commands}")));
        }
    }
    if emit.is_some() {
        outcome.after.push(Note::Verbatim(String::new()));
    }
    outcome.after.extend(advice);
    if report.dry_run {
        let text = "Dry run: nothing was written; the above is what a run without --dry-run would have done.";
        outcome.after.push(Note::Prose(text.to_owned()));
    }
    Ok(())
}

fn summary(report: &RestoreReport) -> String {
    let members = match report.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let bumped =
        report.bumped_to.map_or_else(String::new, |to| format!(", raised to {to} and compacted below"));
    let back = report.back_from.map_or_else(String::new, |from| format!(" (taken back from {from})"));
    format!(
        "Cluster {:x} (token {}) of {members}, revision {}{back}{bumped}, database of {}",
        report.cluster_id,
        report.token,
        report.revision,
        humanize::bytes(report.db_bytes)
    )
}

fn members(report: &RestoreReport) -> Vec<Vec<Cell>> {
    let separate_wal = report.members.iter().any(|member| member.wal_dir.is_some());
    let restored = report.members.iter().filter_map(|member| {
        let mut row = vec![
            Cell::new("name", "Name", &member.name),
            Cell::new("id", "ID", &format!("{:x}", member.id)),
            Cell::new("data dir", "Data dir", &member.data_dir.as_ref()?.display()),
        ];
        if separate_wal {
            let wal_dir = member.wal_dir.as_ref().map_or_else(String::new, |dir| dir.display().to_string());
            row.push(Cell::new("wal dir", "WAL dir", &wal_dir));
        }
        Some(row)
    });
    restored.collect()
}

fn json<'a>(
    report: &'a RestoreReport,
    seen: &[Seen],
    starts: &[Start],
    advice: &'a [Note],
    emitted: Option<&'a str>,
) -> Json<'a> {
    let members = report.members.iter().map(|member| MemberJson {
        name: &member.name,
        id: format!("{:x}", member.id),
        peer_urls: &member.peer_urls,
        data_dir: member.data_dir.as_ref().map(|dir| dir.display().to_string()),
        wal_dir: member.wal_dir.as_ref().map(|dir| dir.display().to_string()),
        command: starts.iter().find(|start| start.name == member.name).map(Start::argv),
    });
    Json {
        dry_run: report.dry_run,
        integrity: report.verdict.integrity,
        target_version: report.target,
        target_reason: &report.target_reason,
        cluster_id: format!("{:x}", report.cluster_id),
        token: &report.token,
        members: members.collect(),
        revision: report.revision,
        back_from: report.back_from,
        bumped_to: report.bumped_to,
        seen: seen.iter().map(SeenJson::from).collect(),
        fold: report.fold.as_ref().map(folding::json),
        db_size: report.db_bytes,
        leases: report.leases,
        auth_enabled: report.auth_enabled,
        notices: &report.notices,
        findings: &report.findings,
        next: advice.iter().map(|note| note.text().trim()).collect(),
        emitted,
    }
}
