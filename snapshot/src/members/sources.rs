//! What each source says of the members, and what servers will report once they started: for people who look before they edit.

use std::collections::{BTreeMap, BTreeSet};

use wal::log::ServerEndKind;

use super::{Account, MembersError, Membership, by, entries, named_at, store};
use crate::facts::Facts;
use crate::finding::{Finding, Severity};
use crate::log_tail::Identity;
use crate::lone::Config;
use crate::membership::{Member, hex_id};
use crate::mvcc::Release;

/// Who says something about the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The rows of bucket `members`, as they stand in the database.
    Database,
    /// The v2 store, as it stands in the newest `.snap`.
    Snap,
    /// A server of 3.4 or 3.5, once it applied what it applies when it starts.
    #[serde(rename = "etcd-3.4-3.5")]
    ServerTo3_5,
    /// A server of 3.6 or later, once it did.
    #[serde(rename = "etcd-3.6-3.7")]
    ServerFrom3_6,
    /// Raft's configuration then. It has ids only.
    Raft,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Database, Self::Snap, Self::ServerTo3_5, Self::ServerFrom3_6, Self::Raft];

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Snap => "newest .snap",
            Self::ServerTo3_5 => "etcd 3.4, 3.5",
            Self::ServerFrom3_6 => "etcd 3.6, 3.7",
            Self::Raft => "raft",
        }
    }
}

/// The members of a directory, by all who know of them.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The last entry that a server applies by itself when it starts: the log's last where the member alone votes, else the last
    /// that is known to be committed. The database's, where there is no log.
    pub index: u64,
    /// The first entry behind that which changes members or version, where the log has one: it counts once it is known to be
    /// committed.
    pub pending: Option<u64>,
    /// Whether no server starts from the log as it is: then this is what is known, and not what one would report.
    pub log_is_broken: bool,
    /// Whose directory it is; zeros where that is not known.
    pub identity: Identity,
    /// What a server of the release that wrote the data reports then. Names and client URLs that its source does not have are those of
    /// the rows: in a restored directory only these know them until the members publish their own.
    pub membership: Membership,
    /// What each source says; none that says nothing.
    pub said: BTreeMap<Source, BTreeMap<u64, Member>>,
    /// Where they disagree, and which source is missing.
    pub findings: Vec<Finding>,
}

/// All that the files behind `facts` say of the members.
///
/// # Errors
/// [`MembersError`], where neither rows nor v2 store can be read.
pub fn sources(facts: &Facts) -> Result<Sources, MembersError> {
    let index = applied_at_start(facts);
    let mut findings = Vec::new();
    let to_3_5 = view(facts, index, 5);
    let from_3_6 = view(facts, index, 7);
    let membership = match named_at(facts, index) {
        Ok(membership) => membership,
        Err(error) => instead(facts, index, error, &mut findings)?,
    };
    let mut said = BTreeMap::new();
    if let Some(database) = facts.database_facts() {
        said.insert(Source::Database, of(&database.members));
    }
    if let Some(Ok(store)) = facts.newest_snap.as_ref().map(|snap| &snap.store) {
        said.insert(Source::Snap, of(&store.members));
    }
    if let Some(seen) = to_3_5.as_ref().filter(|seen| seen.account == Account::V2Store) {
        said.insert(Source::ServerTo3_5, seen.members.clone());
    }
    if let Some(seen) = &from_3_6 {
        said.insert(Source::ServerFrom3_6, seen.members.clone());
    }
    if let Some(config) = raft(facts, index) {
        said.insert(Source::Raft, config);
    }
    findings.extend(differences(&said, &membership));
    let log = facts.log_facts().filter(|log| !log.files.is_single_segment());
    let pending = log.and_then(|log| entries::first(&log.files, &log.report.log, index, u64::MAX));
    let log_is_broken = log.is_some_and(|log| {
        let end = log.report.log.server_end;
        end.is_none_or(|end| end.kind == ServerEndKind::Stops)
    });
    Ok(Sources { index, pending, log_is_broken, identity: identity(facts), membership, said, findings })
}

/// The index of the last entry that a server applies by itself when it starts on these files.
#[must_use]
pub fn applied_at_start(facts: &Facts) -> u64 {
    let applied = facts.database_facts().map_or(0, |database| database.schema.consistent_index);
    let Some(log) = facts.log_facts().filter(|log| !log.files.is_single_segment()) else { return applied };
    let hard_state = log.report.log.server_hard_state.as_ref();
    let commit = hard_state.map_or(0, |state| state.value.commit()).max(applied);
    log.applied_alone(commit, log.report.log.last_index().unwrap_or_default()).max(commit)
}

/// What the last release of a minor version sees; `None` where its source says nothing.
fn view(facts: &Facts, index: u64, minor: u32) -> Option<Membership> {
    let release: Release = format!("3.{minor}").parse().ok()?;
    by(facts, index, release).ok()
}

fn of(members: &[Member]) -> BTreeMap<u64, Member> {
    members.iter().map(|member| (member.id, member.clone())).collect()
}

/// The other account, where that which counts cannot be had.
fn instead(
    facts: &Facts,
    index: u64,
    error: MembersError,
    findings: &mut Vec<Finding>,
) -> Result<Membership, MembersError> {
    let (membership, what) = match &error {
        MembersError::Store { .. } | MembersError::Log { .. } => (of_rows(facts), "the rows of the database"),
        MembersError::Database { .. } | MembersError::NoDatabase { .. } | MembersError::Row { .. } => {
            (of_store(facts, index), "the newest .snap and the log")
        }
        MembersError::Past { .. } => (None, ""),
    };
    let Some(membership) = membership.filter(|membership| !membership.members.is_empty()) else {
        return Err(error);
    };
    let message = format!("{error}. What {what} say is shown instead");
    findings.push(Finding::new("ETCD-MEMBERS", Severity::Error, message));
    Ok(membership)
}

/// The members by the rows alone.
fn of_rows(facts: &Facts) -> Option<Membership> {
    let database = facts.database_facts()?;
    let version = Some(database.schema.cluster_version.clone()).filter(|version| !version.is_empty());
    Some(Membership {
        members: of(&database.members),
        removed: database.removed.iter().copied().collect(),
        version,
        downgrade_target: database.schema.downgrade_target.clone(),
        account: Account::Rows,
        release: Release::NEWEST,
    })
}

/// The members without a database.
fn of_store(facts: &Facts, index: u64) -> Option<Membership> {
    let log = facts.log_facts().filter(|log| !log.files.is_single_segment())?;
    let release = "3.5".parse().ok()?;
    let cluster = store::cluster(&log.files, &log.report.log, index, release).ok()?;
    Some(Membership::of(&cluster, Account::V2Store, release))
}

/// Raft's configuration at the entry `index`, as members without anything but id and role.
fn raft(facts: &Facts, index: u64) -> Option<BTreeMap<u64, Member>> {
    let log = facts.log_facts().filter(|log| !log.files.is_single_segment())?;
    let Config { voters, learners } = Config::of_log(&log.files, &log.report.log, index)?;
    let member = |id: &u64, is_learner: bool| (*id, Member { id: *id, is_learner, ..Member::default() });
    let all: BTreeMap<u64, Member> =
        voters.iter().map(|id| member(id, false)).chain(learners.iter().map(|id| member(id, true))).collect();
    (!all.is_empty()).then_some(all)
}

fn identity(facts: &Facts) -> Identity {
    let (member_id, cluster_id) = facts.identity().unwrap_or_default();
    let log = facts.log_facts().map(|log| &log.report.log);
    let state = log.and_then(|log| log.server_hard_state.as_ref());
    Identity { cluster_id, member_id, raft_term: state.map_or(0, |state| state.value.term()) }
}

/// Where those who will start disagree: releases among themselves, and the members with raft.
fn differences(said: &BTreeMap<Source, BTreeMap<u64, Member>>, membership: &Membership) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, message| findings.push(Finding::new("ETCD-MEMBERS", severity, message));
    if let (Some(old), Some(new)) = (said.get(&Source::ServerTo3_5), said.get(&Source::ServerFrom3_6)) {
        let ids: BTreeSet<&u64> = old.keys().chain(new.keys()).collect();
        for id in ids {
            if let Some(what) = difference(old.get(id), new.get(id)) {
                find(
                    Severity::Warning,
                    format!(
                        "member {}: {what}. Servers of 3.4 and 3.5 go by the .snap and the log, those of 3.6 and later by the rows of the \
                         database: an upgrade or a downgrade would change the cluster",
                        hex_id(*id)
                    ),
                );
            }
        }
    }
    if let Some(raft) = said.get(&Source::Raft) {
        let roles = |members: &BTreeMap<u64, Member>| -> BTreeMap<u64, bool> {
            members.values().map(|member| (member.id, member.is_learner)).collect()
        };
        if roles(raft) != roles(&membership.members) {
            find(
                Severity::Warning,
                format!(
                    "the cluster's members are [{}], those by whom raft elects are [{}]: one of the files was edited, or is of another time",
                    role_list(&membership.members),
                    role_list(raft)
                ),
            );
        }
    }
    findings
}

/// In what two accounts of one member differ, beside its name and client URLs, which it publishes again when it starts.
fn difference(old: Option<&Member>, new: Option<&Member>) -> Option<String> {
    match (old, new) {
        (Some(old), Some(new)) => {
            let sorted = |member: &Member| {
                let mut urls = member.peer_urls.clone();
                urls.sort();
                urls
            };
            if sorted(old) != sorted(new) {
                let urls = |member: &Member| member.peer_urls.join(",");
                return Some(format!(
                    "its peer URLs are {} by .snap and log, {} by the database",
                    urls(old),
                    urls(new)
                ));
            }
            (old.is_learner != new.is_learner).then(|| {
                let role = |member: &Member| if member.is_learner { "only learns" } else { "votes" };
                format!("it {} by .snap and log, and {} by the database", role(old), role(new))
            })
        }
        (Some(_), None) => {
            Some("it belongs to the cluster by .snap and log, and has no row in the database".to_owned())
        }
        (None, Some(_)) => Some(
            "it has a row in the database, and does not belong to the cluster by .snap and log".to_owned(),
        ),
        (None, None) => None,
    }
}

fn role_list(members: &BTreeMap<u64, Member>) -> String {
    let one = |member: &Member| hex_id(member.id) + if member.is_learner { " (learner)" } else { "" };
    members.values().map(one).collect::<Vec<_>>().join(", ")
}
