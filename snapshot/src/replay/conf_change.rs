//! Entries that change who belongs to the cluster: checked against who does, and carried out (FORMATS G.7).

use std::collections::BTreeSet;

use super::cluster::{Cluster, RaftChange, changed_if};
use super::small::Small;
use super::{Applied, StopReason, Why};
use crate::membership::Member;
use crate::mvcc::Release;
use crate::request::ConfChange;

/// `raftpb.ConfChangeType`: adds a voter, or makes one of a learner.
const ADD: i32 = 0;
/// `raftpb.ConfChangeType`: removes a member.
const REMOVE: i32 = 1;
/// `raftpb.ConfChangeType`: changes a member's addresses.
const UPDATE: i32 = 2;
/// `raftpb.ConfChangeType`: adds a learner.
const ADD_LEARNER: i32 = 3;

/// What the context says beside the member.
#[derive(serde::Deserialize)]
struct Context {
    #[serde(rename = "isPromote", default)]
    is_promote: Option<bool>,
}

/// Carries out the change in the data of an entry; without the small buckets, only to `cluster`.
///
/// # Errors
/// When it cannot be read, or a server dies over it.
pub(super) fn apply(
    cluster: &mut Cluster,
    mut small: Option<&mut Small>,
    data: &[u8],
    release: Release,
) -> Result<Applied, StopReason> {
    let applied = carry_out(cluster, small.as_deref_mut(), data, release)?;
    let cleaned = small.is_some_and(|small| cluster.remove_zombies(small, release));
    Ok(if cleaned { Applied::Changed } else { applied })
}

fn carry_out(
    cluster: &mut Cluster,
    small: Option<&mut Small>,
    data: &[u8],
    release: Release,
) -> Result<Applied, StopReason> {
    let dies = |what: String| StopReason::Dies(what);
    let change =
        ConfChange::v1(data).map_err(|error| dies(format!("it is no change of members: {error}")))?;
    let (message, context) = (change.message(), change.context());
    let (kind, id) = (message.enumeration(2), message.number(3));
    cluster.known()?;
    let is_invalid = Ok(Applied::Nothing(Why::InvalidConfChange));
    if cluster.removed.contains(&id) {
        return Ok(Applied::Nothing(Why::RemovedMember));
    }
    let known = cluster.members.get(&id);
    match kind {
        ADD | ADD_LEARNER => {
            let member = context_of(context)?;
            if is_promote(context)? {
                if !known.is_some_and(|known| known.is_learner) {
                    return is_invalid;
                }
                same(id, &member)?;
                let mut cluster = Change { cluster, small, release };
                cluster.raft(kind, id)?;
                if let Some(known) = cluster.cluster.members.get_mut(&id) {
                    known.is_learner = false;
                }
                return Ok(cluster.save(id));
            }
            let is_one_too_many = member.is_learner
                && (kind == ADD_LEARNER || release.takes_members_from_v2store())
                && cluster.members.values().filter(|member| member.is_learner).count()
                    >= cluster.most_learners;
            if known.is_some() || is_one_too_many || takes_address(cluster, None, &member) {
                return is_invalid;
            }
            same(id, &member)?;
            let mut cluster = Change { cluster, small, release };
            cluster.raft(kind, id)?;
            cluster.cluster.members.insert(id, member);
            Ok(cluster.save(id))
        }
        REMOVE => {
            if known.is_none() {
                return is_invalid;
            }
            let mut cluster = Change { cluster, small, release };
            cluster.raft(kind, id)?;
            cluster.cluster.members.remove(&id);
            cluster.cluster.removed.insert(id);
            Ok(cluster.remove(id))
        }
        UPDATE => {
            if known.is_none() {
                return is_invalid;
            }
            let member = context_of(context)?;
            if takes_address(cluster, Some(id), &member) {
                return is_invalid;
            }
            same(id, &member)?;
            let mut cluster = Change { cluster, small, release };
            cluster.raft(kind, id)?;
            if let Some(known) = cluster.cluster.members.get_mut(&id) {
                known.peer_urls = member.peer_urls;
                if !release.updates_only_addresses() {
                    known.is_learner = member.is_learner;
                }
            }
            Ok(cluster.save(id))
        }
        _ => Err(dies(format!("it is a change of members of the unknown kind {kind}"))),
    }
}

/// A change that is valid.
struct Change<'a> {
    cluster: &'a mut Cluster,
    small: Option<&'a mut Small>,
    release: Release,
}

impl Change<'_> {
    /// Raft's part, before the server's own.
    fn raft(&mut self, kind: i32, id: u64) -> Result<(), StopReason> {
        match kind {
            ADD => self.cluster.change_raft(RaftChange::Voter, id),
            ADD_LEARNER => self.cluster.change_raft(RaftChange::Learner, id),
            REMOVE => self.cluster.change_raft(RaftChange::Gone, id),
            _ => Ok(()),
        }
    }

    fn save(&mut self, id: u64) -> Applied {
        let Self { cluster, small: Some(small), release } = self else { return Applied::Changed };
        let saved = cluster.save(small, id, *release);
        self.finish(saved)
    }

    fn remove(&mut self, id: u64) -> Applied {
        let Self { small: Some(small), .. } = self else { return Applied::Changed };
        let removed = Cluster::remove_row(small, id);
        self.finish(removed)
    }

    fn finish(&mut self, changed: bool) -> Applied {
        let Self { cluster, small: Some(small), release } = self else { return Applied::Changed };
        let configured = cluster.save_raft(small, *release);
        changed_if(changed || configured)
    }
}

/// The member in the context.
fn context_of(context: &[u8]) -> Result<Member, StopReason> {
    Member::from_json(context).map_err(|error| StopReason::Dies(error.to_string()))
}

fn is_promote(context: &[u8]) -> Result<bool, StopReason> {
    let context: Context = serde_json::from_str(&String::from_utf8_lossy(context))
        .map_err(|error| StopReason::Dies(format!("not a member record: {error}")))?;
    Ok(context.is_promote.unwrap_or_default())
}

/// That entry and context speak of one member; a server dies when they do not.
fn same(id: u64, member: &Member) -> Result<(), StopReason> {
    if id == member.id {
        return Ok(());
    }
    Err(StopReason::Dies(format!("it changes member {id:x}, and its context says {:x}", member.id)))
}

/// Whether another member has one of the new addresses.
fn takes_address(cluster: &Cluster, but: Option<u64>, member: &Member) -> bool {
    let others = cluster.members.iter().filter(|(id, _)| Some(**id) != but);
    let taken: BTreeSet<&str> =
        others.flat_map(|(_, other)| other.peer_urls.iter().map(String::as_str)).collect();
    member.peer_urls.iter().any(|url| taken.contains(url.as_str()))
}
