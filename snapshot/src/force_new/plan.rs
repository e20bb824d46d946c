//! Whom to remove, behind which entry, and the records that do it.

use std::collections::BTreeSet;

use wal::log::Log;
use wal::raftpb::{ConfChange, ConfChangeType, HardState};

use super::{Dropped, ForceNewError, Removed};
use crate::appended::{Appended, conf_entries};
use crate::facts::Facts;
use crate::log_repair::LostKeys;
use crate::lone::Config;
use crate::membership::Member;
use crate::whole_member::Whole;

/// Where a server that adds itself says it can be reached: it knows no better at that time (etcdserver/raft.go, all releases).
const SELF_URL: &str = "http://localhost:2380";

/// What is to be done to a member's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The member, as it is known in its cluster.
    pub member: Member,
    /// The cluster's id.
    pub cluster_id: u64,
    /// The others, ascending by id.
    pub removed: Vec<Removed>,
    /// How many voters there were.
    pub voters: usize,
    /// Whether the member is one of them.
    pub is_voter: bool,
    /// Whether the member only learned.
    pub promoted: bool,
    /// The last entry that is kept.
    pub commit: u64,
    /// The last entry behind it that is added.
    pub last_index: u64,
    /// Their term.
    pub term: u64,
    /// What the log had beyond `commit`.
    pub dropped: Option<Dropped>,
    /// The records that are added.
    pub appended: Appended,
}

impl Plan {
    /// Decides from what is known of a member's directory.
    ///
    /// # Errors
    /// [`ForceNewError`].
    pub fn of(facts: &Facts) -> Result<Self, ForceNewError> {
        let whole = Whole::of(facts)?;
        let Whole { files, log, metadata, .. } = whole;
        let path = || facts.path.display().to_string();
        let broken = |what: &str| whole.broken(what);
        let member_id = metadata.node_id();

        let (applied, snapshot) = whole.applied()?;
        let state = log.server_hard_state.as_ref().map(|state| state.value).unwrap_or_default();
        let last = log.last_index().unwrap_or_default().max(snapshot);
        let known = state.commit().max(applied);
        if known > last {
            return Err(broken(&format!(
                "its log ends at entry {last}, and entries up to {known} belong to the database or were committed"
            )).into());
        }
        let config_at = |index| Config::of_log(files, log, index).filter(|config| !is_empty(config));
        let unknown = || ForceNewError::UnknownMembers { path: path() };
        let at_commit = config_at(known).ok_or_else(unknown)?;
        // Who alone votes commits all it has when it starts.
        let (commit, config) = if at_commit.voters.iter().eq([&member_id]) {
            (last, config_at(last).ok_or_else(unknown)?)
        } else {
            (known, at_commit)
        };

        let role = Role::of(member_id, &config);
        if role == Role::Stranger && was_removed(facts, log, member_id, commit) {
            return Err(ForceNewError::Gone { path: path(), member_id });
        }
        let removed = removed(facts, log, &config, member_id);
        if removed.is_empty() && role == Role::Voter {
            return Err(ForceNewError::Alone { path: path(), member_id });
        }
        let member = known_member(facts, log, member_id);
        let term = state.term().max(log.term_of(commit).unwrap_or_default()).max(whole.snapshot_term());
        let changes = changes(&member, role, &removed);
        let entries = conf_entries(changes, commit, term);
        let last_index = commit.saturating_add(u64::try_from(entries.len()).unwrap_or_default());
        let committed = HardState { term: Some(term), vote: Some(state.vote()), commit: Some(last_index) };
        let alone = Config { voters: BTreeSet::from([member_id]), ..Config::default() };
        let appended =
            Appended::behind(log, &entries, Some(committed), None, alone).map_err(|what| broken(&what))?;
        let dropped = (commit < last).then(|| Dropped {
            first: commit.saturating_add(1),
            last,
            keys: LostKeys::behind(commit, log, files),
        });
        Ok(Self {
            member,
            cluster_id: metadata.cluster_id(),
            removed,
            voters: config.voters.len(),
            is_voter: role == Role::Voter,
            promoted: role == Role::Learner,
            commit,
            last_index,
            term,
            dropped,
            appended,
        })
    }
}

fn is_empty(config: &Config) -> bool {
    config.voters.is_empty() && config.learners.is_empty()
}

/// What the member is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Voter,
    Learner,
    /// None of its members: so are the directories that `etcdctl backup` wrote.
    Stranger,
}

impl Role {
    fn of(id: u64, config: &Config) -> Self {
        if config.voters.contains(&id) {
            Self::Voter
        } else if config.learners.contains(&id) {
            Self::Learner
        } else {
            Self::Stranger
        }
    }
}

/// Whether the member was removed by an entry up to `up_to`, or database or `.snap` name it among those that were.
fn was_removed(facts: &Facts, log: &Log, id: u64, up_to: u64) -> bool {
    let by_log = log.conf_changes.iter().any(|entry| {
        let change = &entry.value.change;
        change.change_type() == ConfChangeType::RemoveNode as i32
            && change.node_id() == id
            && entry.value.index <= up_to
            && !log.is_overwritten(entry.segment, entry.offset, entry.value.index)
    });
    let store = facts.newest_snap.as_ref().and_then(|snap| snap.store.as_ref().ok());
    by_log
        || facts.database_facts().is_some_and(|database| database.removed.contains(&id))
        || store.is_some_and(|store| store.removed.contains(&id))
}

/// What is known of the member `id`: by the database and the newest `.snap`, and by the entries that brought it.
fn known_member(facts: &Facts, log: &Log, id: u64) -> Member {
    let known = facts.members().into_iter().find(|member| member.id == id).and_then(|member| member.best());
    let contexts = log.conf_changes.iter().rev().filter(|entry| entry.value.change.node_id() == id);
    let told: Vec<Member> =
        contexts.filter_map(|entry| Member::from_json(entry.value.change.context()).ok()).collect();
    let mut member = known.unwrap_or_else(|| Member { id, ..Member::default() });
    if member.peer_urls.is_empty() {
        member.peer_urls =
            told.iter().map(|told| told.peer_urls.clone()).find(|urls| !urls.is_empty()).unwrap_or_default();
    }
    if member.name.is_empty() {
        let names = told.iter().map(|told| told.name.clone());
        member.name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    }
    member
}

fn removed(facts: &Facts, log: &Log, config: &Config, own: u64) -> Vec<Removed> {
    let all: BTreeSet<u64> = config.voters.union(&config.learners).copied().collect();
    let others = all.into_iter().filter(|id| *id != own);
    let of = |id| Removed { member: known_member(facts, log, id), learns: !config.voters.contains(&id) };
    others.map(of).collect()
}

/// The changes of members, in the order of a server's own: the member itself first, where it does not vote yet.
fn changes(member: &Member, role: Role, removed: &[Removed]) -> Vec<ConfChange> {
    let of = |change_type: ConfChangeType, id: u64, context: Option<Vec<u8>>| ConfChange {
        id: Some(0),
        change_type: Some(change_type.into()),
        node_id: Some(id),
        context,
    };
    let own = match role {
        Role::Voter => None,
        Role::Learner => Some(promotion(member)),
        Role::Stranger => {
            let own = Member { id: member.id, peer_urls: vec![SELF_URL.to_owned()], ..Member::default() };
            Some(own.to_json())
        }
    };
    let own = own.map(|context| of(ConfChangeType::AddNode, member.id, Some(context)));
    let others = removed.iter().map(|removed| of(ConfChangeType::RemoveNode, removed.member.id, None));
    own.into_iter().chain(others).collect()
}

/// The context of the entry by which a learner becomes a voter: the member, and that it is promoted (membership/cluster.go,
/// `ConfigChangeContext`). A server takes one without that mark for an attempt to add a member twice.
fn promotion(member: &Member) -> Vec<u8> {
    let voter = Member { is_learner: false, ..member.clone() };
    let mut json = voter.to_json();
    json.pop();
    json.extend_from_slice(b",\"isPromote\":true}");
    json
}
