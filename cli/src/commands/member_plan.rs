//! `member plan`: what has to be done to each member's directory, and whether they agree.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::member_plan::{self, MemberDir, MemberPlanError, Move, Together};
use snapshot::membership::{InitialCluster, Member, hex_id};

use super::members::MembersArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::next_steps::quoted_path;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Checks that several members' directories agree on who belongs to their cluster, or plans new addresses for all of them
///
/// An address of a member is only changed when it is changed in every member's files. With --initial-cluster this prints the
/// command for each DIR, in their order; each runs as printed. Without it the directories are held against each other: the same
/// cluster, the same members, addresses and version, each DIR another member's. Files are only read. Exit code 3 when they disagree.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue member plan n1 n2 n3 --initial-cluster n1=http://10.1.0.1:2380,n2=http://10.1.0.2:2380,n3=http://10.1.0.3:2380
  etcd-rescue member plan n1 n2 n3")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    members: MembersArgs,
    /// The peer URLs that all members are to have, by their names, as in etcd's flag
    #[arg(long, value_name = "NAME=URL,…")]
    initial_cluster: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    agree: bool,
    directories: Vec<DirJson>,
    moves: Vec<MoveJson<'a>>,
    commands: Vec<Vec<String>>,
    without_directory: Vec<String>,
    findings: &'a [Finding],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DirJson {
    path: String,
    member_id: String,
    cluster_id: String,
    name: String,
    index: u64,
}

#[derive(Serialize)]
struct MoveJson<'a> {
    id: String,
    name: &'a str,
    from: &'a [String],
    to: &'a [String],
}

impl From<MemberPlanError> for Failure {
    fn from(error: MemberPlanError) -> Self {
        let code = error.exit_code();
        Self { code, ..Self::failed(shown(&error.to_string())) }
    }
}

/// Plans or checks.
///
/// # Errors
/// When a DIR is no member's, or `--initial-cluster` does not name exactly its members.
pub(crate) fn run(args: &PlanArgs, context: &Context) -> Result<Outcome, Failure> {
    let cluster = args.initial_cluster.as_deref().map(InitialCluster::parse).transpose();
    let cluster = cluster.map_err(|error| Failure::usage(error.to_string()))?;
    let together =
        member_plan::look(&args.members.given()?, &context.facts_options(None), context.watch.as_ref())?;
    let moves = match &cluster {
        Some(cluster) => together.moves(cluster)?,
        None => Vec::new(),
    };
    context.watch.finish();
    let commands: Vec<Vec<OsString>> = match &args.initial_cluster {
        Some(cluster) if !moves.is_empty() => together.dirs.iter().map(|dir| update(dir, cluster)).collect(),
        _ => Vec::new(),
    };
    let findings = together.findings();
    let mut outcome = Outcome::default();
    outcome.note_findings(&findings);
    outcome.before.extend(moves.iter().map(told));
    outcome.after = match &cluster {
        Some(_) => after_plan(&together, &moves),
        None => after_check(&together, &findings),
    };
    outcome.result = match context.format {
        Format::Simple if cluster.is_some() => commands.iter().map(|command| line(command) + "\n").collect(),
        format => output::render(
            format,
            &rows(&together, &commands),
            &json(&together, &moves, &commands, &findings),
        )?,
    };
    Ok(outcome)
}

/// The command that gives `dir` the new addresses, word for word.
fn update(dir: &MemberDir, cluster: &str) -> Vec<OsString> {
    let path = &dir.given.path;
    let mut words: Vec<OsString> = ["etcd-rescue", "member", "update"].map(OsString::from).to_vec();
    words.extend([path.into(), "--initial-cluster".into(), cluster.into()]);
    if !dir.decides_alone() {
        words.push("--on-every-member".into());
    }
    match &dir.given.wal_dir {
        None => words.push("--in-place".into()),
        // A log elsewhere cannot be swapped with its db in one step.
        Some(wal_dir) => words.extend([
            "--wal-dir".into(),
            wal_dir.into(),
            "-o".into(),
            beside(path).into(),
            "--output-wal-dir".into(),
            beside(wal_dir).into(),
        ]),
    }
    words
}

/// `words` for a shell.
fn line(words: &[OsString]) -> String {
    words.iter().map(|word| quoted_path(Path::new(word))).collect::<Vec<_>>().join(" ")
}

/// A name beside `path` for what it becomes.
fn beside(path: &Path) -> std::path::PathBuf {
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push("-moved");
    name.into()
}

fn told(change: &Move) -> Note {
    Note::Prose(shown(&format!(
        "member {} ({}): {} becomes {}",
        change.name,
        hex_id(change.id),
        change.from.join(","),
        change.to.join(",")
    )))
}

fn after_plan(together: &Together, moves: &[Move]) -> Vec<Note> {
    if moves.is_empty() {
        return vec![Note::Prose("nothing to do: every DIR has exactly these addresses".to_owned())];
    }
    let mut notes = vec![Note::Prose(
        "Run all of these before any member is started; 'etcd-rescue member plan' with the same DIRs and without --initial-cluster then \
         checks that they agree. etcd's own flags (--initial-advertise-peer-urls, --listen-peer-urls) need the new addresses too"
            .to_owned(),
    )];
    notes.extend(missing(together));
    notes
}

/// That members without a DIR need the same.
fn missing(together: &Together) -> Option<Note> {
    let without = together.without_dir();
    (!without.is_empty()).then(|| {
        let called: Vec<String> = without.iter().map(|member| called(member)).collect();
        Note::Warning(shown(&format!(
            "warning: no DIR of {} was given: do the same where its files are, or remove it from the cluster once the others run",
            called.join(", ")
        )))
    })
}

fn called(member: &Member) -> String {
    let id = hex_id(member.id);
    if member.name.is_empty() { id } else { format!("{} ({id})", member.name) }
}

fn after_check(together: &Together, findings: &[Finding]) -> Vec<Note> {
    let mut notes = Vec::new();
    let views = together.views();
    if let [(members, _)] = views.as_slice()
        && findings.is_empty()
    {
        let (dirs, members) = (together.dirs.len(), members.len());
        notes.push(Note::Prose(format!(
            "{dirs} director{} agree{} on {members} member(s), their addresses and identities",
            if dirs == 1 { "y" } else { "ies" },
            if dirs == 1 { "s" } else { "" }
        )));
    } else if views.len() > 1 {
        for (members, places) in &views {
            let dirs = places.iter().filter_map(|place| together.dirs.get(*place));
            let paths: Vec<String> = dirs.map(|dir| dir.given.path.display().to_string()).collect();
            let Some(cluster) = initial_cluster(members) else { continue };
            notes.push(Note::Prose(shown(&format!(
                "to have it everywhere as {} says, plan it:",
                paths.join(", ")
            ))));
            notes.push(Note::Verbatim(plan(together, &cluster)));
        }
    }
    notes.extend(missing(together));
    notes
}

/// The command that plans `cluster` for all that were given.
fn plan(together: &Together, cluster: &str) -> String {
    let mut words: Vec<OsString> = ["etcd-rescue", "member", "plan"].map(OsString::from).to_vec();
    words.extend(together.dirs.iter().map(|dir| dir.given.path.clone().into()));
    for wal_dir in together.dirs.iter().filter_map(|dir| dir.given.wal_dir.as_ref()) {
        words.extend(["--wal-dir".into(), wal_dir.into()]);
    }
    words.extend(["--initial-cluster".into(), cluster.into()]);
    line(&words)
}

/// The members as etcd's flag has them; `None` where one has no name.
fn initial_cluster(members: &[&Member]) -> Option<String> {
    let mut items = Vec::new();
    for member in members {
        if member.name.is_empty() {
            return None;
        }
        items.extend(member.peer_urls.iter().map(|url| format!("{}={url}", member.name)));
    }
    Some(items.join(","))
}

fn rows(together: &Together, commands: &[Vec<OsString>]) -> Vec<Vec<Cell>> {
    let row = |(place, dir): (usize, &MemberDir)| {
        let mut row = vec![
            Cell::new("Member", "Member", &shown(&dir.called())),
            Cell::new("ID", "ID", &hex_id(dir.sources.identity.member_id)),
            Cell::new("Dir", "Dir", &shown(&dir.given.path.display().to_string())),
            Cell::new("Entry", "Entry", &dir.sources.index),
        ];
        row.extend(commands.get(place).map(|command| Cell::new("Command", "Command", &line(command))));
        row
    };
    together.dirs.iter().enumerate().map(row).collect()
}

fn json<'a>(
    together: &Together,
    moves: &'a [Move],
    commands: &[Vec<OsString>],
    findings: &'a [Finding],
) -> Json<'a> {
    let dir = |dir: &MemberDir| DirJson {
        path: dir.given.path.display().to_string(),
        member_id: hex_id(dir.sources.identity.member_id),
        cluster_id: hex_id(dir.sources.identity.cluster_id),
        name: dir.called(),
        index: dir.sources.index,
    };
    Json {
        agree: !findings.iter().any(|finding| finding.code == "ETCD-MEMBERS-DIFFER"),
        directories: together.dirs.iter().map(dir).collect(),
        moves: moves
            .iter()
            .map(|change| MoveJson {
                id: hex_id(change.id),
                name: &change.name,
                from: &change.from,
                to: &change.to,
            })
            .collect(),
        commands: commands
            .iter()
            .map(|words| words.iter().map(|word| word.to_string_lossy().into_owned()).collect())
            .collect(),
        without_directory: together.without_dir().iter().map(|member| hex_id(member.id)).collect(),
        findings,
    }
}
