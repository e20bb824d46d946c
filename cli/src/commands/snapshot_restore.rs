//! `snapshot restore`: a snapshot in, data dirs that etcd boots from out.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::integrity::Integrity;
use snapshot::new_cluster::Bump;
use snapshot::opened::Opened;
use snapshot::restore::{self, Output, RestoreOptions, RestoreReport};
use snapshot::seen::{self, Evidence, Seen};
use snapshot::target::TargetVersion;

use super::folding::{self, FoldArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::next_steps::{self, Form, Situation, Start};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::owner::Accounts;
use crate::shown::shown;
use crate::values;
use crate::verdict;

/// Turns a snapshot into data dirs that etcd boots from, as members of a new cluster
///
/// The flags are those of etcdutl 3.7. With --all-members one run writes the directories of all members; otherwise run it
/// once for each member, from the same snapshot. The result appears under its name only when it was written, synced,
/// read back and verified. At the end it says what to run next: on stderr, or with --emit on stdout.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue snapshot restore snapshot.db --all-members -o restored \\
    --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380
  etcd-rescue snapshot restore /mnt/dead/var/lib/etcd --data-dir=/var/lib/etcd")]
pub(crate) struct RestoreArgs {
    /// A snapshot; a member's data dir or member dir, whose log is folded in; with --skip-hash-check also a db file
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// The data dir to write; it must not exist or be empty [default: NAME.etcd]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The WAL dir to write [default: member/wal in the data dir]
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// The members of the new cluster, as NAME=URL with commas between them
    #[arg(long, value_name = "MEMBERS", default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// The token of the new cluster, from which its IDs are made
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// This member's peer URLs, as in --initial-cluster
    #[arg(long, value_name = "URLS", default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,
    /// This member's name
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    /// Take input without a SHA-256, or with a wrong one
    #[arg(long)]
    skip_hash_check: bool,
    /// The log of the input, where etcd was given a directory of its own for it; for a file, the log to fold into it
    #[arg(long, value_name = "DIR")]
    input_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    fold: FoldArgs,
    /// Accepted for etcdutl's sake: nothing is mapped that would need it
    #[arg(long, value_name = "BYTES", value_parser = values::unsigned, hide_short_help = true)]
    initial_memory_map_size: Option<u64>,
    /// Take the keys back to this revision; leases, users and roles stay as they are
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    at_revision: Option<i64>,
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
    seen: Vec<PathBuf>,
    /// Write the directory of every member of --initial-cluster
    #[arg(long, requires = "output")]
    #[arg(conflicts_with_all = ["name", "initial_advertise_peer_urls", "data_dir", "wal_dir"])]
    all_members: bool,
    /// With --all-members: where the members' directories go, each under its name
    #[arg(short, long, value_name = "DIR", requires = "all_members")]
    output: Option<PathBuf>,
    /// The etcd version that will start it: 3.4, 3.5, 3.6 or 3.7 [default: told from the data]
    #[arg(long, value_name = "VERSION")]
    target_version: Option<TargetVersion>,
    /// Keep alarms, though the members they name are gone
    #[arg(long)]
    keep_alarms: bool,
    /// Do everything but write
    #[arg(long)]
    dry_run: bool,
    /// Who owns the result, by name or number
    #[arg(long, value_name = "USER[:GROUP]")]
    owner: Option<String>,
    /// What to print on stdout about starting the members
    #[arg(long, value_name = "FORM")]
    emit: Option<Form>,
    /// Remove what earlier, killed runs left at the same place
    #[arg(long)]
    clean: bool,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
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

/// Restores.
///
/// # Errors
/// When the flags contradict each other, the input is not fit, or the output cannot be written.
pub(crate) fn run(args: RestoreArgs, context: &Context) -> Result<Outcome, Failure> {
    let emit = args.emit;
    let user = args.owner.as_deref().map(|text| text.split(':').next().unwrap_or(text).to_owned());
    let input_path = args.input.clone();
    let is_auto = matches!(args.bump_revision, BumpArg::Auto);
    let sources = args.seen.clone();
    let (fold, input_wal_dir) = (args.fold.clone(), args.input_wal_dir.clone());
    let mut options = resolve(args)?;
    let situation = Situation {
        root_without_owner: options.owner.is_none() && rustix::process::geteuid().is_root(),
        form: emit.unwrap_or(Form::Flags),
    };
    let (input, mut notes) = context.open(&input_path)?;
    let seen = if is_auto { seen_by(&input, &sources, context)? } else { Vec::new() };
    if let Some(largest) = seen.iter().map(|seen| seen.revision).max() {
        options.bump_revision = Some(Bump::Beyond { seen: largest });
    }
    notes.extend(seen.iter().flat_map(told));
    let watch = context.watch.as_ref();
    let report = match fold.log(&input, input_wal_dir.as_deref(), "--input-wal-dir", context)? {
        Some(files) => {
            let tmp_dir = context.tmp_dir();
            restore::restore_folded(&input, &files, &fold.options(), &options, &tmp_dir, watch)?
        }
        None => restore::restore(&input, &options, watch)?,
    };
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    let left = Leftovers { found: report.leftovers.clone(), removed: report.cleaned.clone() };
    outcome.before.extend(left.notes());
    outcome.note_integrity(report.verdict.integrity, verdict::beside_findings(&report.verdict));
    outcome.note_findings(&report.findings);
    outcome.before.extend(report.fold.iter().flat_map(folding::story));
    render(&report, &seen, context.format, emit, user.as_deref(), situation, &mut outcome)?;
    Ok(outcome)
}

/// What the input, and all that is left beside it, show that clients may have seen.
fn seen_by(input: &Opened, sources: &[PathBuf], context: &Context) -> Result<Vec<Seen>, Failure> {
    let (options, watch) = (context.seen_options(), context.watch.as_ref());
    let mut found = vec![seen::of_opened(input, &options, watch)?];
    for source in sources {
        found.push(seen::of(source, &options, watch)?);
    }
    Ok(found)
}

/// One source in a sentence, and why it may not be all.
fn told(seen: &Seen) -> Vec<Note> {
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

/// The arguments as one plain value.
fn resolve(args: RestoreArgs) -> Result<RestoreOptions, Failure> {
    let bump_revision = match (args.bump_revision, args.mark_compacted) {
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
    if !args.seen.is_empty() && !matches!(args.bump_revision, BumpArg::Auto) {
        return Err(Failure::usage("--seen is for --bump-revision auto, which reckons with what it shows"));
    }
    if let Some(bytes) = args.initial_memory_map_size {
        tracing::debug!(bytes, "--initial-memory-map-size has no effect: nothing is mapped for writing");
    }
    let owner = args.owner.map(|text| Accounts::of_system().resolve(&text)).transpose();
    let owner = owner.map_err(Failure::usage)?;
    let output = match (args.all_members, args.output) {
        (true, Some(dir)) => Output::AllMembers { dir },
        (true, None) => return Err(Failure::usage("--all-members needs -o DIR")),
        (false, Some(_)) => {
            return Err(Failure::usage("-o is for --all-members; a single member has --data-dir"));
        }
        (false, None) => Output::OneMember {
            data_dir: args.data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.etcd", args.name))),
            name: args.name,
            advertise_peer_urls: args.initial_advertise_peer_urls,
            wal_dir: args.wal_dir,
        },
    };
    Ok(RestoreOptions {
        initial_cluster: args.initial_cluster,
        token: args.initial_cluster_token,
        output,
        skip_hash_check: args.skip_hash_check,
        at_revision: args.at_revision,
        bump_revision,
        target: args.target_version,
        keep_alarms: args.keep_alarms,
        owner,
        dry_run: args.dry_run,
        clean: args.clean,
    })
}

/// The report as result and story: with `emit` what starts the members is the result, otherwise the members are.
fn render(
    report: &RestoreReport,
    seen: &[Seen],
    format: Format,
    emit: Option<Form>,
    user: Option<&str>,
    situation: Situation,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
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
            outcome.result = output::json(&json(report, seen, &starts, &advice, emitted.as_deref()))?;
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
