//! `member list`: who belongs to a cluster, by the files of one member.

mod printed;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::facts;
use snapshot::finding::Finding;
use snapshot::members::{self, Account, Source, Sources};
use snapshot::membership::{Member, hex_id};

use super::bbolt_file;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;
use printed::Answer;

/// Lists the members of a cluster as a server reports them once it has started on this directory
///
/// The lines are those of etcdctl member list, of the version that wrote the data. Up to 3.5 the members are those of the newest
/// .snap and the log, from 3.6 on those of the database; where the sources disagree it says so, and --sources shows what
/// each says. Files are only read. Exit code 3 when they disagree.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue member list /var/lib/etcd
  etcd-rescue member list /var/lib/etcd --sources -w table")]
pub(crate) struct ListArgs {
    /// A data dir, a member dir, a db file or a snapshot
    #[arg(value_name = "DIR")]
    input: PathBuf,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Ids in hexadecimal, with -w json and, from 3.6 on, with -w fields
    #[arg(long)]
    hex: bool,
    /// What the database, the newest .snap, servers of old and new releases and raft each say of every member
    #[arg(long)]
    sources: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    member_id: String,
    cluster_id: String,
    release: String,
    account: Account,
    index: u64,
    log_is_broken: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
    cluster_version: Option<&'a str>,
    downgrade_target: Option<&'a str>,
    removed: Vec<String>,
    members: Vec<MemberJson<'a>>,
    sources: Vec<SourceJson<'a>>,
    findings: &'a [Finding],
}

#[derive(Serialize)]
struct SourceJson<'a> {
    source: Source,
    members: Vec<MemberJson<'a>>,
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

impl<'a> MemberJson<'a> {
    fn all(members: &'a BTreeMap<u64, Member>) -> Vec<Self> {
        let of = |member: &'a Member| Self {
            id: hex_id(member.id),
            name: &member.name,
            peer_urls: &member.peer_urls,
            client_urls: &member.client_urls,
            is_learner: member.is_learner,
        };
        members.values().map(of).collect()
    }
}

/// Lists them.
///
/// # Errors
/// When nothing that can be read says who the members are.
pub(crate) fn run(args: &ListArgs, context: &Context) -> Result<Outcome, Failure> {
    let input = context.facts_options(args.wal_dir.as_deref());
    let facts = facts::gather(&args.input, &input, context.watch.as_ref())
        .map_err(|error| Failure::failed(shown(&error.to_string())))?;
    let sources = members::sources(&facts).map_err(|error| Failure::failed(shown(&error.to_string())))?;
    context.watch.finish();
    let mut outcome = Outcome::default();
    outcome.note_findings(&sources.findings);
    outcome.before.extend(story(&sources));
    if args.sources {
        outcome.result = output::render(context.format, &rows(&sources), &json(&sources))?;
        return Ok(outcome);
    }
    let answer = Answer {
        identity: sources.identity,
        members: &sources.membership.members,
        minor: sources.membership.release.minor(),
        hex: args.hex,
    };
    outcome.result = match context.format {
        Format::Simple => answer.simple(),
        Format::Table => answer.table(),
        Format::Fields => answer.fields(),
        Format::Json => answer.json(),
        Format::Protobuf => {
            let bytes = answer.protobuf();
            bbolt_file::to_stdout_stoppable(context.watch.as_ref(), |out| out.write_all(&bytes))?;
            String::new()
        }
    };
    Ok(outcome)
}

/// Whose account it is, and of when.
fn story(sources: &Sources) -> Vec<Note> {
    let Sources { index, pending, membership, .. } = sources;
    let account = match membership.account {
        Account::Rows => "by the rows of the database and the log behind it",
        Account::V2Store => "by the newest .snap and the log behind it",
    };
    let mut notes = vec![Note::Prose(format!(
        "the members as etcd {} reports them once it started here, {account}, up to entry {index}",
        membership.release
    ))];
    if sources.log_is_broken {
        notes.push(Note::Warning(
            "warning: no server starts from this log as it is, and what stands behind its break is not looked at here; 'etcd-rescue wal \
             verify' says what is wrong"
                .to_owned(),
        ));
    }
    if let Some(pending) = pending {
        notes.push(Note::Warning(format!(
            "warning: entry {pending} changes members or version, and is not known to be committed: it does not count here. \
             'etcd-rescue compare' tells from several members' files whether it is"
        )));
    }
    if !membership.removed.is_empty() {
        let removed: Vec<String> = membership.removed.iter().map(|id| hex_id(*id)).collect();
        notes.push(Note::Prose(format!("removed, and never let in again: {}", removed.join(", "))));
    }
    notes
}

/// A row for each member and source.
fn rows(sources: &Sources) -> Vec<Vec<Cell>> {
    let mut ids: Vec<u64> = sources.said.values().flat_map(BTreeMap::keys).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut rows = Vec::new();
    for id in ids {
        for (source, members) in &sources.said {
            let member = members.get(&id);
            let says = match member {
                None => "absent",
                Some(member) if member.is_learner => "learner",
                Some(_) => "voter",
            };
            let text = |text: fn(&Member) -> String| shown(&member.map(text).unwrap_or_default());
            rows.push(vec![
                Cell::new("ID", "ID", &hex_id(id)),
                Cell::new("Source", "Source", source.name()),
                Cell::new("Says", "Says", says),
                Cell::new("Name", "Name", &text(|member| member.name.clone())),
                Cell::new("Peer Addrs", "PeerAddrs", &text(|member| member.peer_urls.join(","))),
                Cell::new("Client Addrs", "ClientAddrs", &text(|member| member.client_urls.join(","))),
            ]);
        }
    }
    rows
}

fn json(sources: &Sources) -> Json<'_> {
    let Sources { index, pending, log_is_broken, identity, membership, said, findings } = sources;
    Json {
        member_id: hex_id(identity.member_id),
        cluster_id: hex_id(identity.cluster_id),
        release: membership.release.to_string(),
        account: membership.account,
        index: *index,
        pending: *pending,
        log_is_broken: *log_is_broken,
        cluster_version: membership.version.as_deref(),
        downgrade_target: membership.downgrade_target.as_deref(),
        removed: membership.removed.iter().map(|id| hex_id(*id)).collect(),
        members: MemberJson::all(&membership.members),
        sources: said
            .iter()
            .map(|(source, members)| SourceJson { source: *source, members: MemberJson::all(members) })
            .collect(),
        findings,
    }
}
