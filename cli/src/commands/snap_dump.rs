//! `snap dump`: what the files beside a database say: raft snapshots with the v2 store, and what was left behind.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bbolt::Watch;
use clap::Args;
use serde::Serialize;
use snapshot::datadir::{LocateError, locate_log};
use snapshot::finding::Finding;
use snapshot::log_files::LogFilesError;
use snapshot::snap_files::{self, Described, SnapFile, SnapKind};

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Shows what .snap files say: index, term, members, and whether they are sound
///
/// Reads every file of a member's snap directory, or those given: raft snapshots with the v2 store in them, whole databases
/// that wait for their installation (.snap.db), and what was put aside or left behind. No file is renamed or removed, as a
/// server does. What is wrong is listed on stderr, with exit code 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue snap dump /var/lib/etcd
  etcd-rescue --write-out=json snap dump member/snap/0000000000000003-00000000000000b6.snap")]
pub(crate) struct DumpArgs {
    /// Data dirs, member dirs, snap directories, or single files
    #[arg(value_name = "DIR|FILE", required = true)]
    inputs: Vec<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    files: Vec<FileJson<'a>>,
    findings: Vec<&'a Finding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileJson<'a> {
    path: String,
    kind: &'static str,
    size_bytes: u64,
    /// Of a `.snap`: the checksum holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conf_state: Option<ConfStateJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v2_store: Option<StoreJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consistent_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfStateJson {
    voters: Vec<String>,
    learners: Vec<String>,
    voters_outgoing: Vec<String>,
    learners_next: Vec<String>,
    auto_leave: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreJson<'a> {
    size_bytes: u64,
    current_index: u64,
    cluster_version: Option<&'a str>,
    members: Vec<MemberJson<'a>>,
    removed_members: Vec<String>,
    foreign_nodes: u64,
    foreign_paths: &'a [String],
    unexpected_nodes: u64,
    unexpected_paths: &'a [String],
}

#[derive(Serialize)]
struct MemberJson<'a> {
    id: String,
    name: &'a str,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "clientURLs")]
    client_urls: &'a [String],
    #[serde(rename = "isLearner")]
    is_learner: bool,
}

/// Reads the files.
///
/// # Errors
/// When there are no such files, or they cannot be listed.
pub(crate) fn run(args: &DumpArgs, context: &Context) -> Result<Outcome, Failure> {
    let mut files = Vec::new();
    for input in &args.inputs {
        gather(input, &mut files)?;
    }
    let total: u64 = files.iter().map(SnapFile::len_bytes).sum();
    context.watch.begin("reading snapshots", total);
    let mut described = Vec::with_capacity(files.len());
    for file in &files {
        if context.watch.interrupted() {
            return Err(LogFilesError::Interrupted.into());
        }
        described.push(snap_files::describe(file, context.io()));
        context.watch.advance(file.len_bytes());
    }
    let findings: Vec<Finding> = described.iter().flat_map(|file| file.findings.iter().cloned()).collect();
    let mut outcome = Outcome::default();
    outcome.note_findings(&findings);
    outcome.result = result(&described, context.format)?;
    Ok(outcome)
}

/// The files `input` names. A database in a directory is not among them: other commands read those.
fn gather(input: &Path, files: &mut Vec<SnapFile>) -> Result<(), Failure> {
    let io = |path: &Path, source| {
        Failure::from(LogFilesError::Locate(LocateError::Io { path: path.to_owned(), source }))
    };
    let places = locate_log(input, None).map_err(LogFilesError::Locate)?;
    if let Some(file) = places.segment {
        let file = SnapFile::at(&file).map_err(|error| io(input, error))?;
        if matches!(file.kind(), SnapKind::Db | SnapKind::Other) {
            return Err(Failure::failed(format!(
                "{}: is no snapshot by its name (TERM-INDEX.snap or INDEX.snap.db); 'etcd-rescue snapshot status' reads \
                 databases, 'etcd-rescue wal verify' logs",
                input.display()
            )));
        }
        files.push(file);
        return Ok(());
    }
    let Some(dir) = places.snap_dir else {
        return Err(Failure::failed(format!(
            "{}: has no directory snap; give the directory etcd was started with as --data-dir",
            input.display()
        )));
    };
    let found = snap_files::list(&dir).map_err(|error| io(&dir, error))?;
    files.extend(found.into_iter().filter(|file| file.kind() != SnapKind::Db));
    Ok(())
}

fn hex_ids(ids: &[u64]) -> Vec<String> {
    ids.iter().map(|id| format!("{id:x}")).collect()
}

fn kind_name(kind: SnapKind) -> &'static str {
    match kind {
        SnapKind::Snap { .. } => "snap",
        SnapKind::Database { .. } => "database",
        SnapKind::Broken => "broken",
        SnapKind::Temporary => "temporary",
        SnapKind::DefragLeftover => "defragLeftover",
        SnapKind::Db => "db",
        SnapKind::Other => "other",
    }
}

fn result(files: &[Described<'_>], format: Format) -> Result<String, Failure> {
    match format {
        Format::Simple => Ok(files.iter().map(simple).collect::<Vec<_>>().join("\n")),
        Format::Json => output::json(&Json {
            files: files.iter().map(json).collect(),
            findings: files.iter().flat_map(|file| &file.findings).collect(),
        }),
        _ => {
            let rows: Vec<Vec<Cell>> = files.iter().map(row).collect();
            output::render(format, &rows, &())
        }
    }
}

fn json<'a>(file: &'a Described<'_>) -> FileJson<'a> {
    let conf_state = file.facts.as_ref().map(|facts| ConfStateJson {
        voters: hex_ids(&facts.conf_state.voters),
        learners: hex_ids(&facts.conf_state.learners),
        voters_outgoing: hex_ids(&facts.conf_state.voters_outgoing),
        learners_next: hex_ids(&facts.conf_state.learners_next),
        auto_leave: facts.conf_state.auto_leave(),
    });
    let v2_store = file.store.as_ref().map(|store| StoreJson {
        size_bytes: file.facts.as_ref().map_or(0, |facts| facts.data_len_bytes),
        current_index: store.current_index,
        cluster_version: store.cluster_version.as_deref(),
        members: store
            .members
            .iter()
            .map(|member| MemberJson {
                id: format!("{:x}", member.id),
                name: &member.name,
                peer_urls: &member.peer_urls,
                client_urls: &member.client_urls,
                is_learner: member.is_learner,
            })
            .collect(),
        removed_members: hex_ids(&store.removed),
        foreign_nodes: store.foreign.count,
        foreign_paths: &store.foreign.first,
        unexpected_nodes: store.unexpected.count,
        unexpected_paths: &store.unexpected.first,
    });
    FileJson {
        path: file.file.path().display().to_string(),
        kind: kind_name(file.file.kind()),
        size_bytes: file.file.len_bytes(),
        sound: file.envelope.as_ref().map(Result::is_ok),
        term: file.facts.as_ref().map(|facts| facts.term),
        index: file.facts.as_ref().map(|facts| facts.index),
        conf_state,
        v2_store,
        consistent_index: file.database.as_ref().map(|database| database.consistent_index),
        revision: file.database.as_ref().map(|database| database.revision),
    }
}

/// What a file's state is, in a word or a sentence.
fn state(file: &Described<'_>) -> String {
    match (&file.envelope, file.file.kind()) {
        (Some(Ok(())), _) => "crc ok".to_owned(),
        (Some(Err(error)), _) => error.to_string(),
        (None, SnapKind::Database { .. }) if file.database.is_some() => "a database".to_owned(),
        (None, SnapKind::Database { .. }) => "no readable database".to_owned(),
        (None, SnapKind::Temporary) => "unfinished".to_owned(),
        (None, SnapKind::DefragLeftover) => "left behind".to_owned(),
        (None, _) => "not a file of etcd".to_owned(),
    }
}

fn simple(file: &Described<'_>) -> String {
    let mut out = format!(
        "{}: {}, {}\n",
        shown(&file.file.path().display().to_string()),
        snapshot::humanize::bytes(file.file.len_bytes()),
        state(file)
    );
    // Writing to a string cannot fail.
    let mut line = |text: String| _ = writeln!(out, "  {text}");
    if let Some(facts) = &file.facts {
        let conf = &facts.conf_state;
        line(format!("term {}, index {}", facts.term, facts.index));
        let mut members = format!("voters {}", list(&hex_ids(&conf.voters)));
        for (what, ids) in [
            ("learners", &conf.learners),
            ("outgoing voters", &conf.voters_outgoing),
            ("next learners", &conf.learners_next),
        ] {
            if !ids.is_empty() {
                members += &format!("; {what} {}", list(&hex_ids(ids)));
            }
        }
        if conf.auto_leave() {
            members += "; left by itself";
        }
        line(members);
    }
    if let Some(store) = &file.store {
        line(format!(
            "cluster version {}, v2 index {}",
            store.cluster_version.as_deref().map_or_else(|| "not set".to_owned(), shown),
            store.current_index
        ));
        for member in &store.members {
            let name = if member.name.is_empty() { "(not started)".to_owned() } else { shown(&member.name) };
            line(format!(
                "member {:x} {name}{}: peers {}; clients {}",
                member.id,
                if member.is_learner { " (learner)" } else { "" },
                list(&member.peer_urls),
                list(&member.client_urls)
            ));
        }
        if !store.removed.is_empty() {
            line(format!("removed {}", list(&hex_ids(&store.removed))));
        }
        for (what, paths) in [("v2 keys", &store.foreign), ("unknown nodes", &store.unexpected)] {
            if paths.count > 0 {
                line(format!("{} {what}: {}", paths.count, list(&paths.first)));
            }
        }
    }
    if let Some(database) = &file.database {
        line(format!("consistent index {}, revision {}", database.consistent_index, database.revision));
    }
    out
}

fn list(texts: &[String]) -> String {
    if texts.is_empty() {
        return "none".to_owned();
    }
    texts.iter().map(|text| shown(text)).collect::<Vec<_>>().join(" ")
}

fn row(file: &Described<'_>) -> Vec<Cell> {
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let facts = file.facts.as_ref();
    let conf = facts.map(|facts| &facts.conf_state);
    let ids = |ids: Option<&Vec<u64>>| ids.map_or_else(String::new, |ids| hex_ids(ids).join(" "));
    let store = file.store.as_ref();
    let members = store.map_or_else(String::new, |store| {
        let members = store.members.iter().map(|member| format!("{:x}={}", member.id, shown(&member.name)));
        members.collect::<Vec<_>>().join(" ")
    });
    let database = file.database.as_ref();
    vec![
        Cell::new("file", "File", &shown(file.file.name())),
        Cell::shown(
            "size",
            "Size",
            &snapshot::humanize::bytes(file.file.len_bytes()),
            &file.file.len_bytes(),
        ),
        Cell::new("state", "State", &state(file)),
        Cell::new("term", "Term", &number(facts.map(|facts| facts.term))),
        Cell::new("index", "Index", &number(facts.map(|facts| facts.index))),
        Cell::new("voters", "Voters", &ids(conf.map(|conf| &conf.voters))),
        Cell::new("learners", "Learners", &ids(conf.map(|conf| &conf.learners))),
        Cell::new("members", "Members", &members),
        Cell::new("removed", "Removed", &ids(store.map(|store| &store.removed))),
        Cell::new(
            "version",
            "Cluster version",
            &store.and_then(|store| store.cluster_version.as_deref()).map_or_else(String::new, shown),
        ),
        Cell::new("consistent index", "Consistent index", &number(database.map(|db| db.consistent_index))),
        Cell::new(
            "revision",
            "Revision",
            &database.map_or_else(String::new, |database| database.revision.to_string()),
        ),
    ]
}
