//! The v2 store as live data: the tree that servers up to 3.5 keep in memory, with the keys of the v2 API, the members and the
//! cluster's version (FORMATS F.2).
//!
//! It is in no database. A server reads it from the newest `.snap` and applies to it every entry behind that; so does
//! [`V2Tree::at`]: creations, updates, comparisons, deletions, keys that expire, events, counts, changes of members. What comes out
//! is written back byte for byte as the server would ([`V2Tree::to_json`] says what no file tells). It can also be changed as the
//! server changes it for its cluster: [`V2Tree::set_member`], [`V2Tree::remove_member`], [`V2Tree::set_version`].
//!
//! Up to 3.5 this is who belongs to the cluster. From 3.6 on a server only writes it, from its rows: [`V2Tree::of_rows`].
//!
//! The rules are those of `etcdserver/api/v2store` and `apply_v2.go`, 3.4.23 to 3.5.30, where they agree but for one
//! ([`Release::sets_time_of_v2_dirs`]).

mod apply;
mod event;
mod json;
mod node;
mod ops;
mod read;
mod replace;
mod stats;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests;
mod walk;
mod write;

use std::collections::BTreeSet;

use wal::Log;

use crate::facts::Facts;
use crate::fold;
use crate::log_files::LogFiles;
use crate::lone::{self, is_followed};
use crate::membership::{Member, MemberJsonError, hex_id, parse_hex_id};
use crate::mvcc::Release;
use crate::replay::Cluster;
use crate::replay::range::{self, EachError, RangeError, Stretch};
use crate::schema::Schema;
use crate::snap_files::{MOST_SNAP_BYTES, SnapFileError, SnapKind};
use crate::v2store::V2Store;

use event::History;
use node::{Id, Node, Nodes, ROOT};
use ops::Write;
use stats::{Stat, Stats};

pub use apply::Done;
pub use json::{JsonError, as_json_reads};
pub use ops::Refusal;
pub use walk::{V2Node, Walk};

/// What a store that was never written to says of its version.
const VERSION: i64 = 2;

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum V2TreeError {
    /// Not the JSON of a store.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// No tree in it.
    #[error("a v2 store without a root")]
    NoRoot,
    /// A node's path is not where it lies.
    #[error("v2 store: the node at {path} says that it is {says:?}")]
    Path {
        /// Where it lies.
        path: String,
        /// What it says.
        says: String,
    },
    /// A node has a name that no server gives.
    #[error("v2 store: the node at {path} has a name that no server gives, or lies too deep")]
    Name {
        /// Where it lies.
        path: String,
    },
    /// The ring of events does not hold together.
    #[error("v2 store: its events are none of a server's: their numbers do not fit each other")]
    History,
    /// What it says of a member cannot be read.
    #[error("v2 store, {path}: {error}")]
    Member {
        /// The path of the node.
        path: String,
        /// What is wrong with its value.
        error: MemberJsonError,
    },
    /// A member without addresses, over which a server dies.
    #[error("v2 store, {path}: no member's: it has no id in its name, or no raftAttributes in it")]
    NoMember {
        /// The path of the node.
        path: String,
    },
    /// The store refuses a change of the cluster's own nodes.
    #[error("v2 store, {path}: {refusal}")]
    Refused {
        /// The path of the node.
        path: String,
        /// Why.
        refusal: Refusal,
    },
    /// Its JSON is too long.
    #[error("the v2 store is longer than the {MOST_SNAP_BYTES} bytes that are read of a .snap")]
    TooLong,
    /// There is no log.
    #[error("there is no log that could be read, and without one nobody can say what is in the v2 store")]
    NoLog,
    /// A `.snap` that a server would start from cannot be read.
    #[error("{name}: {error}")]
    Snap {
        /// Its name.
        name: String,
        /// Why.
        error: SnapFileError,
    },
    /// A `.snap` that a server would start from holds no store.
    #[error("{name}: {error}")]
    Store {
        /// Its name.
        name: String,
        /// Why.
        error: Box<V2TreeError>,
    },
    /// Nothing tells how the store began.
    #[error(
        "no .snap that the log knows is there, and the log, which begins with entry {first}, does not tell how the v2 store began"
    )]
    NoBeginning {
        /// The first entry of the log.
        first: u64,
    },
    /// The log does not have all entries that were asked for.
    #[error("the log does not have all entries from {since} to {up_to}; it ends with {last}")]
    Short {
        /// The last entry in the `.snap`.
        since: u64,
        /// The entry asked for.
        up_to: u64,
        /// The last entry there is.
        last: u64,
    },
    /// An entry that was not the next.
    #[error("entry {index} does not follow entry {applied}, the last that was applied")]
    NotNext {
        /// Its index.
        index: u64,
        /// The last that was applied.
        applied: u64,
    },
    /// An entry over which a server dies.
    #[error("a server that applies entry {index} dies: {why}")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        why: String,
    },
    /// The log changed while it was read.
    #[error(transparent)]
    Log(#[from] RangeError),
}

/// A v2 store.
#[derive(Debug, Clone)]
pub struct V2Tree {
    nodes: Nodes,
    history: History,
    current_index: u64,
    stats: Stats,
    version: i64,
    release: Release,
    /// The members, as the nodes below `/0` say.
    cluster: Cluster,
    raft_index: u64,
}

impl V2Tree {
    /// The store of a member that was never started: two empty directories, for the cluster and for clients.
    #[must_use]
    pub fn empty(release: Release) -> Self {
        let mut tree = Self {
            nodes: Nodes::default(),
            history: History::default(),
            current_index: 0,
            stats: Stats::default(),
            version: VERSION,
            release,
            cluster: Cluster::of_store(&V2Store::default()),
            raft_index: 0,
        };
        tree.found_namespaces();
        tree
    }

    /// Makes the two directories that a server makes before it reads anything.
    fn found_namespaces(&mut self) {
        for name in [b"0", b"1"] {
            if self.nodes.child(ROOT, name).is_none() {
                self.nodes.add(Node::dir(name, ROOT, 0));
            }
        }
    }

    /// The store of a cluster that has just been made of these members, created in this order and nothing else; a member that is
    /// there already stays as it is. `looks_first`: from 3.6 on a tool looks for members first, and counts that.
    #[must_use]
    pub fn created<'a>(members: impl IntoIterator<Item = &'a Member>, looks_first: bool) -> Self {
        let mut tree = Self::empty(Release::NEWEST);
        if looks_first {
            tree.stats.count(Stat::GetsFail);
        }
        let mut known = V2Store::default();
        for member in members {
            // Refused only for one that was created already.
            if tree.create_member(member).is_ok() {
                known.members.push(Member { name: String::new(), client_urls: Vec::new(), ..member.clone() });
            }
        }
        tree.cluster = Cluster::of_store(&known);
        tree
    }

    /// The store as 3.6 and later write it into a `.snap`: made of the rows of the database alone, without keys of clients. These
    /// servers create members in any order, we by ascending id.
    ///
    /// # Errors
    /// Never but for one id twice.
    pub fn of_rows(members: &[Member], removed: &[u64], version: Option<&str>) -> Result<Self, V2TreeError> {
        let mut tree = Self::created([], true);
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by_key(|member| member.id);
        for member in members {
            tree.create_member(member).map_err(|refusal| refused(member.id, refusal))?;
            if !member.client_urls.is_empty() {
                tree.set_attributes(member).map_err(|refusal| refused(member.id, refusal))?;
            }
        }
        for id in removed {
            tree.note_removed(*id).map_err(|refusal| refused(*id, refusal))?;
        }
        if let Some(version) = version {
            tree.set_version(version)?;
        }
        tree.cluster = tree.cluster_of_nodes()?;
        Ok(tree)
    }

    /// The store once all entries up to `up_to` are applied: from the newest `.snap` that the log knows and that is no later, or
    /// from the log's beginning. The rules are those of the release that wrote the data.
    ///
    /// # Errors
    /// When no log can be read, it does not lead from such a `.snap` to `up_to` without a gap, or an entry is one over which a
    /// server dies.
    pub fn at(facts: &Facts, up_to: u64) -> Result<Self, V2TreeError> {
        let log = facts.log_facts().ok_or(V2TreeError::NoLog)?;
        let release = match facts.database_facts() {
            Some(database) => release_of(&database.schema),
            None => Release::NEWEST,
        };
        Self::of_log(&log.files, &log.report.log, up_to, release)
    }

    /// The store as far as a server takes it that starts on these files: up to the last entry that is known to be committed, or
    /// for the only voter, who commits all it has, up to the last.
    ///
    /// # Errors
    /// As [`V2Tree::at`].
    pub fn reached(facts: &Facts) -> Result<Self, V2TreeError> {
        let Some(log) = facts.log_facts() else { return Self::at(facts, 0) };
        let (files, log) = (&log.files, &log.report.log);
        let applied = facts.database_facts().map_or(0, |database| database.schema.consistent_index);
        let committed = log.commit().max(applied);
        let own = log.metadata.as_ref().map(wal::Metadata::node_id);
        let is_lone = own.is_some_and(|own| lone::voters(files, log, committed) == BTreeSet::from([own]));
        let last = log.last_index().unwrap_or_default();
        Self::at(facts, if is_lone { last.max(committed) } else { committed })
    }

    /// As [`V2Tree::at`], of a log that was read already.
    ///
    /// # Errors
    /// As [`V2Tree::at`].
    pub fn of_log(files: &LogFiles, log: &Log, up_to: u64, release: Release) -> Result<Self, V2TreeError> {
        let mut tree = Self::begin(files, log, up_to, release)?;
        let since = tree.raft_index;
        let last = log.last_index().unwrap_or_default().max(since);
        if up_to > last || !is_followed(log, since, up_to) {
            return Err(V2TreeError::Short { since, up_to, last });
        }
        let whole = Stretch { files, log, entries: since.saturating_add(1)..=up_to };
        let applied = range::each(whole.entries.clone(), &[whole], |entry| tree.apply(entry).map(drop));
        match applied {
            Ok(()) => Ok(tree),
            Err(EachError::Range(error)) => Err(error.into()),
            Err(EachError::Visit(error)) => Err(error),
        }
    }

    /// The store from which the log leads to `up_to`.
    fn begin(files: &LogFiles, log: &Log, up_to: u64, release: Release) -> Result<Self, V2TreeError> {
        let is_recorded = |index: u64, term: u64| {
            let mut records = log.snapshots.iter();
            index <= up_to
                && records.any(|record| (record.value.index(), record.value.term()) == (index, term))
        };
        let snaps = files.snaps().iter().rev();
        let mut snaps = snaps
            .filter(|snap| matches!(snap.kind(), SnapKind::Snap { term, index } if is_recorded(index, term)));
        // One that cannot be read is put aside by a server, which then looks at the next.
        if let Some((snap, facts)) = snaps.find_map(|snap| Some((snap, snap.facts().ok()?))) {
            let name = snap.name();
            let content = snap.read().map_err(|error| V2TreeError::Snap { name: name.to_owned(), error })?;
            let mut tree = Self::from_json(content.data(), release)
                .map_err(|error| V2TreeError::Store { name: name.to_owned(), error: Box::new(error) })?;
            tree.raft_index = facts.index;
            return Ok(tree);
        }
        match log.first_index() {
            Some(1) => Ok(Self::empty(release)),
            None if up_to == 0 => Ok(Self::empty(release)),
            first => Err(V2TreeError::NoBeginning { first: first.unwrap_or_default() }),
        }
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn raft_index(&self) -> u64 {
        self.raft_index
    }

    /// How many changes the store has seen: the v2 API's index.
    #[must_use]
    pub fn current_index(&self) -> u64 {
        self.current_index
    }

    /// What the store says of a member.
    #[must_use]
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.cluster.members().get(&id)
    }

    /// Brings the nodes of a member to what `member` says, by the changes that a server would make: one is created that is not
    /// there, addresses and role are updated, name and client URLs set, each only where it differs. A name that `member` does not
    /// have stays.
    ///
    /// # Errors
    /// When the store has something else where a member should be.
    pub fn set_member(&mut self, member: &Member) -> Result<(), V2TreeError> {
        let path = apply::raft_path(member.id);
        let value = member.raft_attributes_json();
        let done = match self.node(path.as_bytes()).and_then(|node| node.value) {
            None => self.create_member(member),
            Some(known) if *known == *value => Ok(()),
            Some(_) => self.update(path.as_bytes(), Write::value(&value)),
        };
        done.map_err(|refusal| refused(member.id, refusal))?;
        let attributes = format!("/0/members/{}/attributes", hex_id(member.id));
        let known = self.node(attributes.as_bytes()).and_then(|node| node.value);
        let says_nothing = member.name.is_empty() && member.client_urls.is_empty();
        if !says_nothing && known.is_none_or(|known| *known != *member.attributes_json()) {
            self.set_attributes(member).map_err(|refusal| refused(member.id, refusal))?;
        }
        self.cluster = self.cluster_of_nodes()?;
        Ok(())
    }

    /// Removes a member, and notes that it was one; nothing when it is none.
    ///
    /// # Errors
    /// When the store has something else where a member should be.
    pub fn remove_member(&mut self, id: u64) -> Result<(), V2TreeError> {
        if self.member(id).is_some() {
            self.remove_nodes(id).map_err(|refusal| refused(id, refusal))?;
            self.cluster = self.cluster_of_nodes()?;
        }
        Ok(())
    }

    /// Sets the cluster's version, such as `3.5.0`; nothing when that is what it is.
    ///
    /// # Errors
    /// When the store has a directory in its place.
    pub fn set_version(&mut self, version: &str) -> Result<(), V2TreeError> {
        if self.cluster_version().as_deref() == Some(version) {
            return Ok(());
        }
        let refused = |refusal| V2TreeError::Refused { path: "/0/version".to_owned(), refusal };
        self.set(b"/0/version", Write::value(version.as_bytes())).map_err(refused)
    }

    /// The cluster's version, where one was set.
    #[must_use]
    pub fn cluster_version(&self) -> Option<String> {
        let value = self.node(b"/0/version")?.value?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// The members by the nodes below `/0`, as a starting server reads them.
    fn cluster_of_nodes(&self) -> Result<Cluster, V2TreeError> {
        let children = |path: &[&[u8]]| -> Vec<(Box<[u8]>, Id)> {
            let id = self.find(path).ok();
            let children = id.and_then(|id| self.nodes[id].children.as_ref());
            children.into_iter().flatten().map(|(name, id)| (name.clone(), *id)).collect()
        };
        let id_of = |name: &[u8]| std::str::from_utf8(name).ok().and_then(parse_hex_id);
        let path = |id: Id| String::from_utf8_lossy(&self.nodes.path(id)).into_owned();
        let mut store = V2Store::default();
        for (name, node) in children(&[b"0", b"members"]) {
            let id = id_of(&name).ok_or_else(|| V2TreeError::NoMember { path: path(node) })?;
            let mut member = Member { id, ..Member::default() };
            let mut has_addresses = false;
            for half in ["raftAttributes", "attributes"] {
                let Some(half_id) = self.nodes.child(node, half.as_bytes()) else { continue };
                has_addresses |= half == "raftAttributes";
                member
                    .merge_attributes(&self.nodes[half_id].value)
                    .map_err(|error| V2TreeError::Member { path: path(half_id), error: error.into() })?;
            }
            if !has_addresses {
                return Err(V2TreeError::NoMember { path: path(node) });
            }
            store.members.push(member);
        }
        let removed = children(&[b"0", b"removed_members"]);
        store.removed.extend(removed.iter().filter_map(|(name, _)| id_of(name)));
        Ok(Cluster::of_store(&store))
    }
}

/// The release by whose rules requests of the v2 API are applied to data with these small buckets.
#[must_use]
pub fn release_of(schema: &Schema) -> Release {
    fold::release(schema, None).0
}

fn refused(id: u64, refusal: Refusal) -> V2TreeError {
    V2TreeError::Refused { path: format!("/0/members/{}", hex_id(id)), refusal }
}
