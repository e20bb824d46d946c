//! `v2 list`: the keys of the v2 API that a member holds.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::facts::{self, Facts, FactsError, What};
use snapshot::finding::Finding;
use snapshot::log_files::LogFilesError;
use snapshot::mvcc::Release;
use snapshot::v2_migrate::{V2_KEYS, auth, behind};
use snapshot::v2tree::{V2Node, V2Tree};
use snapshot::whole_member;

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Where clients' keys are in the store.
const CLIENTS: &str = "/1";

/// Lists the keys of the v2 API, as a server that starts on this data would have them
///
/// Up to 3.5 these keys are in no database but in the newest .snap and all entries of the log behind it, which are applied here. The
/// lines are those of etcdctl ls with ETCDCTL_API=2, in the order of the names; keys that a listing there hides, with a name
/// that begins with an underscore, are shown too. The files are only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue v2 list /var/lib/etcd -r
  etcd-rescue v2 list /var/lib/etcd /services -r -w json")]
pub(crate) struct ListArgs {
    /// A data dir, a member dir or a .snap file
    #[arg(value_name = "DIR|FILE")]
    input: PathBuf,
    /// The directory to list, or one key [default: /]
    #[arg(value_name = "KEY")]
    path: Option<String>,
    /// List all that lies below
    #[arg(short, long)]
    recursive: bool,
    /// Put a slash behind directories
    #[arg(short = 'p')]
    slash: bool,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: String,
    /// The last entry that was applied.
    raft_index: u64,
    /// The v2 store's index.
    v2_index: u64,
    nodes: Vec<NodeJson>,
    findings: &'a [Finding],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeJson {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    dir: bool,
    created_index: u64,
    modified_index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<String>,
    hidden: bool,
}

/// Lists.
///
/// # Errors
/// When the files do not tell what is in the store, or there is no such key.
pub(crate) fn run(args: &ListArgs, context: &Context) -> Result<Outcome, Failure> {
    let options = context.facts_options(args.wal_dir.as_deref());
    let mut facts =
        facts::gather(&args.input, &options, context.watch.as_ref()).map_err(|error| match error {
            FactsError::Interrupted => LogFilesError::Interrupted.into(),
            error => Failure::failed(error.to_string()),
        })?;
    // Why there is none that can be read, such as that a server holds it.
    match facts.log.take() {
        Some(Err(error)) if facts.looked.what != What::Snap => return Err(error.into()),
        log => facts.log = log,
    }
    let tree = tree(&facts).map_err(|why| Failure::failed(format!("{}: {why}", args.input.display())))?;
    let asked = args.path.as_deref().unwrap_or("/");
    let path = format!("{CLIENTS}/{asked}").into_bytes();
    let Some(node) = tree.node(&path) else {
        return Err(Failure::failed(format!(
            "{}: there is no v2 key {}",
            args.input.display(),
            shown(asked)
        )));
    };
    let nodes: Vec<V2Node> =
        if node.value.is_some() { vec![node] } else { tree.below(&path, args.recursive).collect() };
    let mut findings = whole_member::findings(&facts);
    // That there are such keys is what was asked.
    findings.retain(|found| found.code != V2_KEYS);
    findings.extend(auth(&tree));
    let log = facts.log_facts().filter(|_| facts.looked.what != What::Snap);
    findings.extend(log.and_then(|log| behind(&log.files, &log.report.log, tree.raft_index())));
    let mut outcome = Outcome::default();
    outcome.note_findings(&findings);
    outcome.result = match context.format {
        Format::Simple => {
            let mut lines = String::new();
            for node in &nodes {
                lines.push_str(&shown(&key(node)));
                if args.slash && node.value.is_none() {
                    lines.push('/');
                }
                lines.push('\n');
            }
            lines
        }
        format => {
            let rows: Vec<Vec<Cell>> = nodes.iter().map(row).collect();
            let json = Json {
                path: args.input.display().to_string(),
                raft_index: tree.raft_index(),
                v2_index: tree.current_index(),
                nodes: nodes.iter().map(node_json).collect(),
                findings: &findings,
            };
            output::render(format, &rows, &json)?
        }
    };
    Ok(outcome)
}

/// The store of a member as far as a server takes it, or that of one `.snap`.
fn tree(facts: &Facts) -> Result<V2Tree, String> {
    if facts.looked.what == What::Snap {
        let snap = facts.snaps().first().ok_or("there is no .snap")?;
        let content = snap.read().map_err(|error| error.to_string())?;
        return V2Tree::from_json(content.data(), Release::NEWEST).map_err(|error| error.to_string());
    }
    V2Tree::reached(facts).map_err(|error| error.to_string())
}

/// The key as clients name it.
fn key(node: &V2Node) -> String {
    let key = node.path.get(CLIENTS.len()..).unwrap_or_default();
    String::from_utf8_lossy(key).into_owned()
}

fn value(node: &V2Node) -> Option<String> {
    node.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
}

fn row(node: &V2Node) -> Vec<Cell> {
    let value = value(node).unwrap_or_default();
    let expires = node.expires.map(|time| time.to_string()).unwrap_or_default();
    vec![
        Cell::new("key", "Key", &shown(&key(node))),
        Cell::new("value", "Value", &shown(&value)),
        Cell::new("dir", "Dir", &node.value.is_none()),
        Cell::new("created", "CreatedIndex", &node.created_index),
        Cell::new("modified", "ModifiedIndex", &node.modified_index),
        Cell::new("expires", "Expiration", &expires),
    ]
}

fn node_json(node: &V2Node) -> NodeJson {
    NodeJson {
        key: key(node),
        value: value(node),
        dir: node.value.is_none(),
        created_index: node.created_index,
        modified_index: node.modified_index,
        expiration: node.expires.map(|time| time.utc().to_string()),
        hidden: node.is_hidden,
    }
}
