//! Which of the two ways an edit goes, whether it may, and what is to be written for it.

use bbolt::Patch;
use wal::raftpb::{ConfChange, HardState};

use super::{Edit, MemberEditError, Way, changes, who};
use crate::appended::{Appended, conf_entries};
use crate::facts::Facts;
use crate::lone::Config;
use crate::member_copy::FreshSnap;
use crate::members::{self, Membership};
use crate::membership::{Member, member_id};
use crate::reseat::{Reseat, Reseated};
use crate::whole_member::Whole;

/// What is to be done to a member's files.
#[derive(Debug)]
pub struct Plan {
    /// The member whose directory it is.
    pub own_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// Those that are changed, as they will be; one that is removed as it was.
    pub changed: Vec<Member>,
    /// All members, as a server will know them.
    pub members: Vec<Member>,
    /// How it is done.
    pub way: Way,
    /// What is different in the copy.
    pub parts: Parts,
}

/// What is different in the copy of a member.
#[derive(Debug)]
pub struct Parts {
    /// Pages of the database.
    pub db: Option<Patch>,
    /// The `.snap`.
    pub snap: Option<FreshSnap>,
    /// What stands behind the end of the log.
    pub appended: Appended,
}

/// What an edit comes to.
struct Effect {
    changed: Vec<Member>,
    /// The members afterwards.
    members: Vec<Member>,
    changes: Vec<ConfChange>,
    config: Config,
}

impl Plan {
    /// Decides from what is known of a member's directory. `on_every_member` says that the same edit is made on the others.
    ///
    /// # Errors
    /// [`MemberEditError`].
    pub fn of(facts: &Facts, edit: &Edit, on_every_member: bool) -> Result<Self, MemberEditError> {
        let whole = Whole::of(facts)?;
        let path = || facts.path.display().to_string();
        let own = whole.metadata.node_id();
        let (applied, snapshot) = whole.applied()?;
        let state = whole.log.server_hard_state.as_ref().map(|state| state.value).unwrap_or_default();
        let last = whole.log.last_index().unwrap_or_default().max(snapshot);
        let known = state.commit().max(applied);
        if known > last {
            return Err(whole
                .broken(format!(
                    "its log ends at entry {last}, and entries up to {known} belong to the database or were committed"
                ))
                .into());
        }
        let config_at = |index| {
            Config::of_log(whole.files, whole.log, index)
                .filter(|config| !config.voters.is_empty())
                .ok_or_else(|| MemberEditError::UnknownVoters { path: path() })
        };
        let (at_commit, config) = (config_at(known)?, config_at(u64::MAX)?);
        let is_alone = |config: &Config| config.voters.iter().eq([&own]);
        if is_alone(&at_commit) && is_alone(&config) {
            let term =
                state.term().max(whole.log.term_of(last).unwrap_or_default()).max(whole.snapshot_term());
            return Self::alone(&whole, edit, config, &state, last, term);
        }
        if !config.voters.contains(&own) && !config.learners.contains(&own) {
            let members = config.voters.union(&config.learners).copied().collect();
            return Err(MemberEditError::Stranger { path: path(), own, members });
        }
        Self::among_others(&whole, edit, &config, on_every_member)
    }

    /// By entries: the member alone decides.
    fn alone(
        whole: &Whole<'_>,
        edit: &Edit,
        config: Config,
        state: &HardState,
        last: u64,
        term: u64,
    ) -> Result<Self, MemberEditError> {
        let path = whole.facts.path.display().to_string();
        let membership = members::named_at(whole.facts, u64::MAX)?;
        let raft: Vec<u64> = config.voters.union(&config.learners).copied().collect();
        let listed: Vec<u64> = membership.members.keys().copied().collect();
        if raft != listed {
            return Err(MemberEditError::Disagree { path, raft, listed });
        }
        let own = whole.metadata.node_id();
        let Effect { changed, members, changes, config } = Effect::of(&membership, edit, config, own, &path)?;
        let entries = conf_entries(changes, last, term);
        let last_index = last.saturating_add(u64::try_from(entries.len()).unwrap_or_default());
        let committed = HardState { term: Some(term), vote: Some(state.vote()), commit: Some(last_index) };
        let appended = Appended::behind(whole.log, &entries, Some(committed), None, config)
            .map_err(|what| whole.broken(what))?;
        Ok(Self {
            own_id: own,
            cluster_id: whole.metadata.cluster_id(),
            changed,
            members,
            way: Way::Entries { first: last.saturating_add(1), last: last_index },
            parts: Parts { db: None, snap: None, appended },
        })
    }

    /// By a fresh snapshot: nothing may be in this log that is not in the others'.
    fn among_others(
        whole: &Whole<'_>,
        edit: &Edit,
        config: &Config,
        on_every_member: bool,
    ) -> Result<Self, MemberEditError> {
        let path = whole.facts.path.display().to_string();
        let voters = || config.voters.iter().copied().collect();
        let several = |what| MemberEditError::Several { path: path.clone(), what, voters: voters() };
        let membership = members::named_at(whole.facts, u64::MAX)?;
        let (set, members) = match edit {
            Edit::Add { .. } => return Err(several("who is added")),
            Edit::Remove { .. } => return Err(several("who is removed")),
            Edit::Promote { .. } => return Err(several("who votes")),
            Edit::Update { .. } | Edit::UpdateAll(_) => set(&membership, edit, &path)?,
        };
        if !on_every_member {
            let urls = |member: &Member| {
                let one = |url: &String| format!("{}={url}", member.name).replace(char::is_control, "?");
                member.peer_urls.iter().map(one).collect::<Vec<_>>().join(",")
            };
            let plan = members.iter().map(urls).collect::<Vec<_>>().join(",");
            return Err(MemberEditError::NotEveryMember { path, members, plan });
        }
        let reseat = Reseat { set: &set, ..Reseat::default() };
        let Reseated { index, membership, db, snap, appended, .. } = reseat.plan(whole)?;
        Ok(Self {
            own_id: whole.metadata.node_id(),
            cluster_id: whole.metadata.cluster_id(),
            changed: set,
            members: members::filled(membership, whole.facts).members.into_values().collect(),
            way: Way::Reseated { index },
            parts: Parts { db: Some(db), snap: Some(snap), appended },
        })
    }
}

/// The members that get other addresses, and all of them as they will be.
fn set(
    membership: &Membership,
    edit: &Edit,
    path: &str,
) -> Result<(Vec<Member>, Vec<Member>), MemberEditError> {
    let wanted = match edit {
        Edit::Update { who: given, peer_urls } => {
            vec![who::with_urls(who::find(membership, given, path)?, peer_urls)]
        }
        Edit::UpdateAll(list) => who::addressed(membership, list, path)?,
        Edit::Add { .. } | Edit::Remove { .. } | Edit::Promote { .. } => Vec::new(),
    };
    let is_other = |member: &Member| {
        membership.members.get(&member.id).is_some_and(|known| known.peer_urls != member.peer_urls)
    };
    let set: Vec<Member> = wanted.into_iter().filter(is_other).collect();
    if set.is_empty() {
        return Err(MemberEditError::Unchanged { path: path.to_owned() });
    }
    let mut all = membership.members.clone();
    all.extend(set.iter().map(|member| (member.id, member.clone())));
    let all: Vec<Member> = all.into_values().collect();
    let changed: Vec<u64> = set.iter().map(|member| member.id).collect();
    who::ensure_apart(&all, &changed)?;
    Ok((set, all))
}

impl Effect {
    fn of(
        membership: &Membership,
        edit: &Edit,
        mut config: Config,
        own: u64,
        path: &str,
    ) -> Result<Self, MemberEditError> {
        let mut members = membership.members.clone();
        let (changed, changes) = match edit {
            Edit::Update { .. } | Edit::UpdateAll(_) => {
                let (set, _) = set(membership, edit, path)?;
                let changes = changes::updates(&members, &set)?;
                members.extend(set.iter().map(|member| (member.id, member.clone())));
                (set, changes)
            }
            Edit::Add { name, peer_urls, is_learner, id, now_seconds } => {
                let named = members.values().find(|member| !name.is_empty() && member.name == *name);
                if let Some(named) = named {
                    return Err(MemberEditError::NameTaken { name: name.clone(), id: named.id });
                }
                if let Some(learner) = config.learners.iter().next().filter(|_| *is_learner) {
                    return Err(MemberEditError::TooManyLearners { id: *learner });
                }
                let taken = |id: &u64| members.contains_key(id) || membership.removed.contains(id);
                let ids = (*now_seconds..).map(|seconds| member_id(peer_urls, &seconds.to_string()));
                if let Some(id) = id.filter(|id| *id == 0 || taken(id)) {
                    return Err(MemberEditError::IdTaken { id });
                }
                let mut free = id.iter().copied().chain(ids).filter(|id| *id != 0 && !taken(id));
                let member = Member {
                    id: free.next().unwrap_or_default(),
                    name: name.clone(),
                    peer_urls: peer_urls.as_slice().to_vec(),
                    is_learner: *is_learner,
                    ..Member::default()
                };
                members.insert(member.id, member.clone());
                let all: Vec<Member> = members.values().cloned().collect();
                who::ensure_apart(&all, &[member.id])?;
                let list = if *is_learner { &mut config.learners } else { &mut config.voters };
                list.insert(member.id);
                let change = changes::added(&member);
                (vec![member], vec![change])
            }
            Edit::Remove { who: given } => {
                let member = who::find(membership, given, path)?.clone();
                if member.id == own {
                    return Err(MemberEditError::LastVoter { path: path.to_owned(), id: own });
                }
                members.remove(&member.id);
                config.learners.remove(&member.id);
                (vec![member.clone()], vec![changes::removed(member.id)])
            }
            Edit::Promote { who: given } => {
                let member = who::find(membership, given, path)?;
                if !config.learners.remove(&member.id) {
                    return Err(MemberEditError::NoLearner { id: member.id });
                }
                config.voters.insert(member.id);
                let voter = Member { is_learner: false, ..member.clone() };
                members.insert(voter.id, voter.clone());
                (vec![voter.clone()], vec![changes::promoted(voter.id)])
            }
        };
        Ok(Self { changed, members: members.into_values().collect(), changes, config })
    }
}
