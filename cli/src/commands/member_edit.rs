//! What `member update`, `add`, `remove` and `promote` share: the edit, and its story.

use std::path::{Path, PathBuf};

use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::gourl::PeerUrls;
use snapshot::member_edit::{self, Edit, MemberEditOptions, MemberEditReport, Way};
use snapshot::membership::{Member, hex_id};

use super::member_place::MemberPlaceArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::next_steps::{grow, quoted_path};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    cluster_id: String,
    member_id: String,
    changed: Vec<MemberJson<'a>>,
    members: Vec<MemberJson<'a>>,
    #[serde(flatten)]
    way: WayJson,
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_wal_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    left_out: &'a [String],
    dry_run: bool,
    findings: &'a [Finding],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberJson<'a> {
    id: String,
    name: &'a str,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "clientURLs")]
    client_urls: &'a [String],
    is_learner: bool,
}

#[derive(Serialize)]
#[serde(rename_all_fields = "camelCase", untagged)]
enum WayJson {
    Entries { first_entry: u64, last_entry: u64 },
    Reseated { snapshot_index: u64 },
}

impl<'a> From<&'a Member> for MemberJson<'a> {
    fn from(member: &'a Member) -> Self {
        Self {
            id: hex_id(member.id),
            name: &member.name,
            peer_urls: &member.peer_urls,
            client_urls: &member.client_urls,
            is_learner: member.is_learner,
        }
    }
}

/// Reads `--peer-urls`.
///
/// # Errors
/// When one of them is none.
pub(super) fn peer_urls(list: &str) -> Result<PeerUrls, Failure> {
    PeerUrls::from_list(list).map_err(|error| Failure::usage(format!("--peer-urls: {error}")))
}

/// An edit that was made, and how its result reads.
pub(super) struct Edited {
    pub(super) report: MemberEditReport,
    pub(super) outcome: Outcome,
}

/// Edits; `line` is how etcdctl tells of one changed member, by the ids of member and cluster.
///
/// # Errors
/// When the edit is refused, or cannot be written.
pub(super) fn run(
    args: &MemberPlaceArgs,
    edit: &Edit,
    on_every_member: bool,
    line: &dyn Fn(&Member, u64) -> String,
    context: &Context,
) -> Result<Edited, Failure> {
    let options = MemberEditOptions { copy: args.copy()?, on_every_member };
    let input = context.facts_options(args.wal_dir.as_deref());
    let report = member_edit::edit(&args.input, edit, &options, &input, context.watch.as_ref())?;

    let mut outcome = Outcome::default();
    let left = Leftovers { found: report.copied.leftovers.clone(), removed: report.copied.cleaned.clone() };
    outcome.before.extend(left.notes());
    outcome.note_findings(&report.findings);
    outcome
        .before
        .extend(report.copied.warnings.iter().map(|text| Note::Warning(format!("warning: {}", shown(text)))));
    outcome.result = result(args, context, &report, line)?;
    outcome.after = story(args, &report);
    Ok(Edited { report, outcome })
}

fn result(
    args: &MemberPlaceArgs,
    context: &Context,
    report: &MemberEditReport,
    line: &dyn Fn(&Member, u64) -> String,
) -> Result<String, Failure> {
    if context.format == Format::Simple {
        return Ok(report.changed.iter().map(|member| line(member, report.cluster_id) + "\n").collect());
    }
    let path = |path: &PathBuf| path.display().to_string();
    let json = Json {
        cluster_id: hex_id(report.cluster_id),
        member_id: hex_id(report.own_id),
        changed: report.changed.iter().map(MemberJson::from).collect(),
        members: report.members.iter().map(MemberJson::from).collect(),
        way: match report.way {
            Way::Entries { first, last } => WayJson::Entries { first_entry: first, last_entry: last },
            Way::Reseated { index } => WayJson::Reseated { snapshot_index: index },
        },
        output: if args.in_place { Some(path(&args.input)) } else { args.output.as_ref().map(path) },
        output_wal_dir: args.output_wal_dir.as_ref().map(path),
        original: report.copied.original.as_ref().map(path),
        left_out: &report.copied.left_out,
        dry_run: args.write.dry_run,
        findings: &report.findings,
    };
    let row = |member: &Member| {
        vec![
            Cell::new("cluster id", "Cluster ID", &hex_id(report.cluster_id)),
            Cell::new("member id", "Member ID", &hex_id(member.id)),
            Cell::new("name", "Name", &shown(&member.name)),
            Cell::new("peer addrs", "Peer addresses", &shown(&member.peer_urls.join(","))),
            Cell::new("is learner", "Is learner", &member.is_learner),
        ]
    };
    let rows: Vec<_> = report.changed.iter().map(row).collect();
    output::render(context.format, &rows, &json)
}

/// What was written where, and what to do with it.
fn story(args: &MemberPlaceArgs, report: &MemberEditReport) -> Vec<Note> {
    let mut notes = Vec::new();
    let given = |path: &Path| shown(&path.display().to_string());
    match (&args.output, &report.copied.original) {
        _ if args.write.dry_run => notes.push(Note::Prose("Dry run: nothing was written.".to_owned())),
        (_, Some(original)) => notes.push(Note::Prose(format!(
            "{} is edited. The old member is {}, which no etcd reads; remove it when it is not needed any more.",
            given(&args.input),
            quoted_path(original)
        ))),
        (Some(output), None) => notes.push(Note::Prose(format!(
            "Wrote {}; {} is unchanged.",
            quoted_path(output),
            given(&args.input)
        ))),
        (None, None) => {}
    }
    let what = if args.in_place { "Left in the old member" } else { "Not copied" };
    let is_older = |name: &&String| name.ends_with(".snap") && matches!(report.way, Way::Reseated { .. });
    let (older, others): (Vec<&String>, Vec<&String>) = report.copied.left_out.iter().partition(is_older);
    if !older.is_empty() {
        notes.push(Note::Prose(format!(
            "{what}: {} older .snap file(s), from which a server would take the old addresses.",
            older.len()
        )));
    }
    if !others.is_empty() {
        let names: Vec<&str> = others.into_iter().map(String::as_str).collect();
        notes.push(Note::Prose(format!("{what}, since no server needs them: {}.", shown(&names.join(", ")))));
    }
    let others: Vec<String> = report
        .members
        .iter()
        .filter(|member| member.id != report.own_id)
        .map(|member| format!("{} ({})", shown(&grow::name(member)), hex_id(member.id)))
        .collect();
    if matches!(report.way, Way::Reseated { .. }) && !others.is_empty() {
        notes.push(Note::Prose(format!(
            "The same command is to be run on the directory of each other member before any of them is started: {}. 'etcd-rescue member plan \
             DIR...' with all edited directories then says whether they agree.",
            others.join(", ")
        )));
    }
    let wal_dir = args
        .output_wal_dir
        .as_ref()
        .map_or_else(String::new, |wal_dir| format!(" and --wal-dir {}", quoted_path(wal_dir)));
    let data_dir = match &args.output {
        Some(output) => format!(", with --data-dir {}{wal_dir}", quoted_path(output)),
        None => String::new(),
    };
    // Started with the old one, the member would take its log for that of the copy.
    let data_dir = match (&args.output, &args.wal_dir, &args.output_wal_dir) {
        (Some(_), Some(_), None) => data_dir + " and without --wal-dir (its log lies in it now)",
        _ => data_dir,
    };
    let own = report.changed.iter().find(|member| member.id == report.own_id);
    let listen = own.map_or_else(String::new, |own| {
        format!(
            ", and with --listen-peer-urls for its new address ({}); --initial-cluster and --initial-advertise-peer-urls are no longer looked at",
            shown(&own.peer_urls.join(","))
        )
    });
    notes.push(Note::Prose(format!("Start etcd as this member was started{data_dir}{listen}.")));
    notes
}
