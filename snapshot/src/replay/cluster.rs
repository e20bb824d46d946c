//! Who belongs to the cluster, which version it has, and what entries make of that (FORMATS B.5, G.7, I.4).
//!
//! Up to 3.5 a server takes its members from the v2 store, in the `.snap` and all entries behind it, and only writes the rows of
//! bucket `members`; from 3.6 on the rows are what counts. So members are kept here beside their rows: [`Cluster::of`] takes
//! them from the rows, [`Cluster::of_store`] from a v2 store, and [`Cluster::follow`] brings the latter up to where the db is.

use std::collections::{BTreeMap, BTreeSet};

use bbolt::fault::readable;
use bbolt::gojson;
use wal::EntryRef;
use wal::raftpb::EntryType;

use super::small::{Name, Small};
use super::{Applied, StopReason, Why, conf_change, v2};
use crate::membership::{Member, hex_id, parse_hex_id};
use crate::mvcc::Release;
use crate::request::{Decoded, Message, decode};
use crate::schema::{self, CLUSTER_VERSION, CONF_STATE, DOWNGRADE};
use crate::v2store::V2Store;

/// The value of a row of bucket `members_removed`.
const REMOVED: &[u8] = b"removed";
/// Learners that a cluster may have, unless its servers are started with another `--max-learners`.
const MOST_LEARNERS: usize = 1;

/// The members as a server knows them.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) removed: BTreeSet<u64>,
    pub(super) most_learners: usize,
    version: Option<String>,
    downgrade_target: Option<String>,
    raft: Raft,
    local: Option<u64>,
    is_of_store: bool,
    /// Why the rows say nothing. A server dies when it starts on them.
    unreadable: Option<String>,
}

/// Who votes and who only listens, as raft has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Raft {
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
}

#[derive(serde::Deserialize)]
struct ConfState {
    #[serde(default)]
    voters: BTreeSet<u64>,
    #[serde(default)]
    learners: BTreeSet<u64>,
}

impl Cluster {
    /// The members by their rows.
    #[must_use]
    pub fn of(small: &Small) -> Self {
        let mut cluster = Self::default();
        for (key, row) in small.rows(Name::Members) {
            let id = std::str::from_utf8(key).ok().and_then(parse_hex_id);
            match (id, Member::from_json(row)) {
                (Some(id), Ok(member)) => {
                    cluster.members.insert(id, member);
                }
                (None, _) => cluster.unreadable("members", key, "its key is no member's id"),
                (_, Err(error)) => cluster.unreadable("members", key, &error.to_string()),
            }
        }
        for key in small.rows(Name::MembersRemoved).keys() {
            match std::str::from_utf8(key).ok().and_then(parse_hex_id) {
                Some(id) => {
                    cluster.removed.insert(id);
                }
                None => cluster.unreadable("members_removed", key, "its key is no member's id"),
            }
        }
        cluster.version = small
            .get(Name::Cluster, CLUSTER_VERSION)
            .filter(|version| !version.is_empty())
            .map(|version| String::from_utf8_lossy(version).into_owned());
        cluster.downgrade_target =
            small.get(Name::Cluster, DOWNGRADE).and_then(|row| schema::downgrade_target(row).ok()?);
        cluster.arrange();
        // A restore leaves the row of the cluster that was.
        let row = small.get(Name::Meta, CONF_STATE).map(serde_json::from_slice::<ConfState>);
        if let Some(Ok(ConfState { voters, learners })) = row
            && voters.union(&learners).eq(cluster.members.keys())
        {
            cluster.raft = Raft { voters, learners };
        }
        cluster
    }

    /// The members by the v2 store of a `.snap`.
    #[must_use]
    pub fn of_store(store: &V2Store) -> Self {
        let members = store.members.iter().map(|member| (member.id, member.clone())).collect();
        let removed = store.removed.iter().copied().collect();
        let version = store.cluster_version.clone().filter(|version| !version.is_empty());
        let mut cluster = Self { members, removed, version, is_of_store: true, ..Self::default() };
        cluster.arrange();
        cluster
    }

    /// The members, by their ids.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<u64, Member> {
        &self.members
    }

    /// The ids of those that were members, and may not come back.
    #[must_use]
    pub const fn removed(&self) -> &BTreeSet<u64> {
        &self.removed
    }

    /// The version the cluster agreed on, as written; `None` before it did.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The target of a downgrade under way, as written.
    #[must_use]
    pub fn downgrade_target(&self) -> Option<&str> {
        self.downgrade_target.as_deref()
    }

    /// Why the rows that were to say who the members are cannot be read; a server dies over it.
    #[must_use]
    pub fn unreadable_row(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// Takes names and client URLs from what another account says of the same members.
    #[must_use]
    pub fn with_attributes_of(mut self, other: &Self) -> Self {
        for (id, member) in &mut self.members {
            if let Some(known) = other.members.get(id).filter(|known| !known.name.is_empty()) {
                member.name.clone_from(&known.name);
                member.client_urls.clone_from(&known.client_urls);
            }
        }
        self
    }

    /// Says whose files these are: the node of the log's metadata.
    #[must_use]
    pub fn with_local(self, id: u64) -> Self {
        Self { local: Some(id), ..self }
    }

    /// Takes up what only the db keeps: a downgrade under way, and how many learners were let in at once.
    #[must_use]
    pub fn beside(mut self, rows: &Self) -> Self {
        self.downgrade_target.clone_from(&rows.downgrade_target);
        self.most_learners = self.most_learners.max(rows.most_learners);
        self
    }

    /// Follows an entry that the db has: of what it does, only what it does to the members and to the cluster's version. One that no
    /// server applies does nothing.
    pub fn follow(&mut self, entry: &EntryRef<'_>, release: Release) {
        // The db is behind the entry: a server applied it, and what it was refused for is no longer known.
        drop(self.carry_out(entry, release));
    }

    /// Does to the members, the cluster's version and a downgrade what an entry asks for; `None` for one that is about neither.
    pub(crate) fn carry_out(
        &mut self,
        entry: &EntryRef<'_>,
        release: Release,
    ) -> Option<Result<Applied, StopReason>> {
        if entry.entry_type == EntryType::ConfChange as i32 {
            return Some(conf_change::apply(self, None, entry.data, release));
        }
        match decode(entry.data) {
            Decoded::V2(request) => Some(v2::apply(self, None, request.message(), release)),
            Decoded::V3(request) => {
                let number = match request.kind() {
                    super::V2 => V2_REQUEST,
                    "cluster_version_set" => VERSION_SET,
                    "cluster_member_attr_set" => ATTRIBUTES_SET,
                    "downgrade_info_set" => DOWNGRADE_SET,
                    _ => return None,
                };
                let asked = request.message().message(number)?;
                Some(match number {
                    V2_REQUEST => v2::apply(self, None, asked, release),
                    VERSION_SET => self.set_version(None, asked.data(1)),
                    ATTRIBUTES_SET => self.set_attributes(None, asked, release),
                    _ => Ok(self.set_downgrade(None, asked)),
                })
            }
            Decoded::Nothing | Decoded::Undecodable { .. } => None,
        }
    }

    /// Who raft takes for voters and learners, from who belongs to the cluster; and how many learners there may be.
    fn arrange(&mut self) {
        let (learners, voters): (Vec<_>, Vec<_>) =
            self.members.values().partition(|member| member.is_learner);
        self.raft = Raft {
            voters: voters.iter().map(|member| member.id).collect(),
            learners: learners.iter().map(|member| member.id).collect(),
        };
        self.most_learners = MOST_LEARNERS.max(learners.len());
    }

    fn unreadable(&mut self, bucket: &str, key: &[u8], what: &str) {
        self.unreadable.get_or_insert_with(|| format!("bucket {bucket}, row {}: {what}", readable(key)));
    }

    /// That the rows could be read.
    pub(super) fn known(&self) -> Result<(), StopReason> {
        self.unreadable.as_ref().map_or(Ok(()), |what| Err(StopReason::Dies(what.clone())))
    }

    /// Writes the row of a member. Says whether that changed anything.
    pub(super) fn save(&self, small: &mut Small, id: u64, release: Release) -> bool {
        let Some(member) = self.members.get(&id) else { return false };
        let key = hex_id(id);
        if !release.rewrites_member_rows() && small.get(Name::Members, key.as_bytes()).is_some() {
            return false;
        }
        small.put(Name::Members, key.as_bytes(), member.to_json())
    }

    /// Takes away the row of a member, and notes that it was removed. Says whether that changed anything.
    pub(super) fn remove_row(small: &mut Small, id: u64) -> bool {
        let key = hex_id(id);
        let removed = small.delete(Name::Members, key.as_bytes());
        small.put(Name::MembersRemoved, key.as_bytes(), REMOVED.to_vec()) || removed
    }

    /// Removes the rows of members whom the v2 store does not know, as 3.5 does from 3.5.26 on. Says whether there were any.
    pub(super) fn remove_zombies(&self, small: &mut Small, release: Release) -> bool {
        if !release.removes_zombies() || !self.is_of_store {
            return false;
        }
        let rows = small.rows(Name::Members).keys();
        let ids = rows.filter_map(|key| parse_hex_id(std::str::from_utf8(key).ok()?));
        let zombies: Vec<u64> = ids.filter(|id| !self.members.contains_key(id)).collect();
        for id in &zombies {
            Self::remove_row(small, *id);
        }
        !zombies.is_empty()
    }

    /// Carries out a `ClusterMemberAttrSetRequest`.
    pub(super) fn set_attributes(
        &mut self,
        small: Option<&mut Small>,
        asked: Message<'_>,
        release: Release,
    ) -> Result<Applied, StopReason> {
        let Some(attributes) = asked.message(2) else {
            return Err(StopReason::Dies("it sets the attributes of a member, and has none".to_owned()));
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let urls = attributes.items().filter_map(|item| match item {
            crate::request::Item::Known { field, value: crate::request::Value::Bytes(url), .. }
                if field.number == 2 =>
            {
                Some(text(url))
            }
            _ => None,
        });
        self.update_attributes(small, asked.number(1), (text(attributes.data(1)), urls.collect()), release)
    }

    /// Sets the name and the client URLs of a member.
    pub(super) fn update_attributes(
        &mut self,
        small: Option<&mut Small>,
        id: u64,
        (name, client_urls): (String, Vec<String>),
        release: Release,
    ) -> Result<Applied, StopReason> {
        self.known()?;
        let Some(member) = self.members.get_mut(&id) else {
            // A server dies of one it never knew. Files from which a member's beginnings are missing are to be read all the same.
            let why = if self.removed.contains(&id) { Why::RemovedMember } else { Why::InvalidConfChange };
            return Ok(Applied::Nothing(why));
        };
        member.name = name;
        member.client_urls = client_urls;
        let Some(small) = small else { return Ok(Applied::Changed) };
        let saved = self.save(small, id, release);
        let cleaned = self.local == Some(id) && self.remove_zombies(small, release);
        Ok(changed_if(saved || cleaned))
    }

    /// Sets the cluster's version.
    ///
    /// # Errors
    /// When the text is no version, over which a server dies.
    pub(super) fn set_version(
        &mut self,
        small: Option<&mut Small>,
        version: &[u8],
    ) -> Result<Applied, StopReason> {
        let canonical = canonical_version(version).ok_or_else(|| {
            StopReason::Dies(format!("it sets the cluster's version to {}", readable(version)))
        })?;
        self.version = Some(String::from_utf8_lossy(&canonical).into_owned());
        let Some(small) = small else { return Ok(Applied::Changed) };
        Ok(changed_if(small.put(Name::Cluster, CLUSTER_VERSION, canonical)))
    }

    /// Notes that a downgrade begins or ends.
    pub(super) fn set_downgrade(&mut self, small: Option<&mut Small>, asked: Message<'_>) -> Applied {
        let enabled = asked.number(1) != 0;
        let target = if enabled { asked.data(2) } else { &[] };
        self.downgrade_target = enabled.then(|| String::from_utf8_lossy(target).into_owned());
        let Some(small) = small else { return Applied::Changed };
        let mut row = b"{\"target-version\":".to_vec();
        gojson::push_string(&mut row, target);
        row.extend_from_slice(format!(",\"enabled\":{enabled}}}").as_bytes());
        changed_if(small.put(Name::Cluster, DOWNGRADE, row))
    }

    /// Carries out raft's part of a change of members.
    pub(super) fn change_raft(&mut self, change: RaftChange, id: u64) -> Result<(), StopReason> {
        let Raft { voters, learners } = &mut self.raft;
        if change != RaftChange::Voter && voters.iter().all(|voter| *voter == id) {
            return Err(StopReason::Dies("it leaves raft without a voter".to_owned()));
        }
        voters.remove(&id);
        learners.remove(&id);
        match change {
            RaftChange::Voter => voters.insert(id),
            RaftChange::Learner => learners.insert(id),
            RaftChange::Gone => true,
        };
        Ok(())
    }

    /// Writes raft's configuration, as releases from 3.5 on do after each change of it.
    pub(super) fn save_raft(&self, small: &mut Small, release: Release) -> bool {
        if !release.keeps_term() {
            return false;
        }
        let mut row = b"{".to_vec();
        for (name, ids) in [("voters", &self.raft.voters), ("learners", &self.raft.learners)] {
            if ids.is_empty() {
                continue;
            }
            row.extend_from_slice(format!("\"{name}\":[").as_bytes());
            for (at, id) in ids.iter().enumerate() {
                if at > 0 {
                    row.push(b',');
                }
                gojson::push_u64(&mut row, *id);
            }
            row.extend_from_slice(b"],");
        }
        row.extend_from_slice(b"\"auto_leave\":false}");
        small.put(Name::Meta, CONF_STATE, row)
    }
}

/// In `etcdserverpb.InternalRaftRequest`: `v2`.
pub(crate) const V2_REQUEST: i32 = 2;
/// In `etcdserverpb.InternalRaftRequest`: `cluster_version_set`.
pub(crate) const VERSION_SET: i32 = 1300;
/// In `etcdserverpb.InternalRaftRequest`: `cluster_member_attr_set`.
pub(crate) const ATTRIBUTES_SET: i32 = 1301;
/// In `etcdserverpb.InternalRaftRequest`: `downgrade_info_set`.
const DOWNGRADE_SET: i32 = 1302;

/// What raft makes of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RaftChange {
    /// One that votes.
    Voter,
    /// One that listens.
    Learner,
    /// None.
    Gone,
}

/// Changed, or so already.
pub(super) const fn changed_if(changed: bool) -> Applied {
    if changed { Applied::Changed } else { Applied::Nothing(Why::AlreadySo) }
}

/// A version as a server writes what it read: three numbers without zeros before them, and what follows them as it stands.
fn canonical_version(version: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(version).ok()?;
    let (numbers, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let mut parts = numbers.split('.').map(|part| {
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u64>().ok().filter(|number| is_number && *number <= i64::MAX.cast_unsigned())
    });
    let (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    Some(format!("{major}.{minor}.{patch}{rest}").into_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests;
