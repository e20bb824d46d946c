//! Replay: committed entries of the log applied to a db as a server that starts on both applies them (FORMATS C, G, R.3, W).
//!
//! A [`Replay`] is a db and what the entries so far made of it: new records of keys over those of the file, and all small buckets
//! whole. [`Replay::apply`] takes one entry at a time, in the order of their indexes; [`Replay::fold`] says what differs from the
//! db in the end, as a [`Change`](crate::edited::Change).
//!
//! The server is one that *starts*: nobody waits for the answer of an entry, so that reads are not carried out, and operations
//! of a transaction that only read are taken out of it before it is looked at (up to 3.6). What the quota says does not
//! matter: an entry that is refused for it was refused by an alarm, which stands in the log too, or is in the db.
//!
//! Memory: the index of the db (36 bytes a record), all that the entries write, once, and about 250 bytes for each key they
//! write; keys and values of the db stay where they are. To make pages of it takes as much again.

mod alarms;
mod arena;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod asked;
mod auth;
mod base64;
pub(crate) mod cluster;
mod compaction;
mod conf_change;
mod fold;
mod gate;
mod interceptors;
mod keys;
mod lease;
pub mod range;
mod signposts;
pub mod small;
mod txn;
pub(crate) mod v2;
pub(crate) mod write;

use std::collections::BTreeMap;

use bbolt::graft::GraftError;
use bbolt::{Db, Source, Watch};
use wal::EntryRef;
use wal::raftpb::EntryType;

pub use cluster::Cluster;
pub use fold::{FoldError, Folded};
pub use keys::{Keys, Newest};

use crate::finding::Finding;
use crate::mvcc::{Index, IndexOptions, KeySpaceError, RecordError, Release};
use crate::request::{self, Decoded, Message, Request, WireError};
use gate::{Gate, Verdict};
use interceptors::Interceptors;
use lease::Leases;
use small::Small;

/// What cannot be seen in db and log: which server would start, and some of its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayOptions {
    /// The release that would start. A minor version without a patch is the last patch of it.
    pub release: Release,
    /// The least time to live that the server gives a lease, in seconds: 1.5 times its election timeout, rounded up (FORMATS
    /// B.4, X 52).
    pub lease_floor_seconds: i64,
    /// Whether it runs with `--experimental-enable-lease-checkpoint-persist`. Where the cluster's version is 3.6 or later it
    /// does so anyway (FORMATS G.7).
    pub persist_checkpoints: bool,
}

impl Default for ReplayOptions {
    /// The newest release, with default flags.
    fn default() -> Self {
        Self { release: Release::NEWEST, lease_floor_seconds: 2, persist_checkpoints: false }
    }
}

/// The entry that is being applied, for those who apply requests.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// In `etcdserverpb.InternalRaftRequest`: the request's id.
const ID: i32 = 1;
/// What an entry is called that asks for nothing.
const NOTHING: &str = "nothing";
/// In `etcdserverpb.InternalRaftRequest`: a request of the v2 store.
const V2: &str = "v2";
/// In `etcdserverpb.InternalRaftRequest`: who asks.
const HEADER: i32 = 100;

/// What became of an entry. In any case the consistent index moved to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It changed something beside the consistent index.
    Changed,
    /// It did not.
    Nothing(Why),
}

/// Why an entry changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Why {
    /// It holds nothing: a leader opens its term with it.
    Empty,
    /// It only reads.
    ReadOnly,
    /// No key was there to delete, and nothing else was written.
    NoKey,
    /// The branch of the transaction that its compares chose writes nothing.
    CompareFailed,
    /// All is as it asks for already.
    AlreadySo,
    /// A user may not do it.
    Denied,
    /// Users or roles were changed since it was proposed.
    OldAuthRevision,
    /// A CORRUPT alarm stands.
    Corrupt,
    /// A NOSPACE alarm stands.
    NoSpace,
    /// The revision is compacted.
    Compacted,
    /// The revision has not come yet.
    FutureRevision,
    /// Its lease does not exist.
    LeaseNotFound,
    /// The lease it grants exists.
    LeaseExists,
    /// The lease it grants lives too long.
    LeaseTooLong,
    /// The key whose value or lease it keeps is not there.
    KeyNotFound,
    /// A checkpoint of a lease that the server keeps in memory only.
    CheckpointNotKept,
    /// A change of users, roles or the switch that cannot be: a name that is missing or taken, the root user.
    InvalidAuthChange,
    /// A change of members that cannot be: an id or an address that is unknown, taken or removed.
    InvalidConfChange,
    /// A member that was removed.
    RemovedMember,
    /// A key of the v2 API, which is in no db.
    V2UserKey,
    /// A request that no release does anything about.
    NoEffect,
}

/// Rules on which servers disagree among themselves, so that the replay had to choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Disagreement {
    /// A transaction reads at a revision that is compacted or yet to come: up to 3.6 the member that proposed it refused it, the
    /// others applied it (FORMATS X 48). Applied, as others do.
    TxnRange,
    /// A request came while an alarm that this log raised stood, and authentication was on: up to 3.5 a server that saw the
    /// alarm raised no longer asks who may do what; one that starts with the alarm in its db does (FORMATS W). Applied as
    /// a server does that starts on this db.
    AlarmWithoutAuth,
}

/// Why the replay cannot go on with an entry, of which nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} of term {term}: {reason}")]
pub struct Stop {
    /// The entry's index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Why.
    pub reason: StopReason,
}

/// See [`Stop`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// It does not follow the entry that was applied last.
    #[error("it does not follow entry {applied}, the last that was applied")]
    NotNext {
        /// The entry that was applied last.
        applied: u64,
    },
    /// It asks for nothing that is known.
    #[error("it asks for something that no etcd up to 3.7 knows")]
    UnknownRequest,
    /// A request has a field that is not known.
    #[error("its request, {kind}, has a field that no etcd up to 3.7 knows")]
    UnknownField {
        /// What it asks for.
        kind: &'static str,
    },
    /// Its data is no request.
    #[error("its data is neither a request of the v3 API ({v3}) nor one of the v2 API ({v2})")]
    Undecodable {
        /// Why it is no v3 request.
        v3: WireError,
        /// Why it is no v2 request.
        v2: WireError,
    },
    /// It is of a type that raft does not have.
    #[error("it is of type {0}, which is none of raft's")]
    EntryType(i32),
    /// A change of several members at once.
    #[error("it changes several members at once (ConfChangeV2), which no etcd server does or accepts")]
    ConfChangeV2,
    /// A server that applies it dies.
    #[error("a server that applies it dies: {0}")]
    Dies(String),
    /// The db cannot be read again.
    #[error("the db cannot be read again: {0}")]
    Unreadable(String),
}

impl From<RecordError> for StopReason {
    fn from(error: RecordError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Why there is no replay on a db.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The db cannot be read.
    #[error(transparent)]
    Read(#[from] KeySpaceError),
    /// One of its small buckets is none.
    #[error(transparent)]
    Small(#[from] GraftError),
}

impl ReplayError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Read(KeySpaceError::Damaged { .. } | KeySpaceError::Records { .. }) => 3,
            Self::Read(error) => error.exit_code(),
            Self::Small(_) => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Read(error) => error.findings(),
            Self::Small(_) => &[],
        }
    }
}

/// What was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Entries applied.
    pub entries: u64,
    /// Of these, those that changed something.
    pub changed: u64,
    /// Entries by what they ask for: the name of a field of `InternalRaftRequest`, `v2`, `nothing` or `conf_change`.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Entries without effect, by the reason.
    pub without_effect: BTreeMap<Why, u64>,
    /// Where servers disagree: how often, and the first entry.
    pub disagreements: BTreeMap<Disagreement, Disagreed>,
    /// Compactions among the entries that took effect.
    pub compactions: u64,
}

/// See [`Account::disagreements`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disagreed {
    /// Index of the first entry.
    pub first: u64,
    /// Index of the last one.
    pub last: u64,
    /// Number of entries.
    pub entries: u64,
}

impl Account {
    /// Counts a disagreement at the entry `index`.
    pub fn disagreed(&mut self, what: Disagreement, index: u64) {
        let none = Disagreed { first: index, last: 0, entries: 0 };
        let told = self.disagreements.entry(what).or_insert(none);
        // An entry may give more than one occasion.
        if told.last != index {
            told.last = index;
            told.entries += 1;
        }
    }
}

/// A db, and what the entries so far made of it.
#[derive(Debug)]
pub struct Replay<'d, S> {
    options: ReplayOptions,
    keys: Keys<'d, S>,
    small: Small,
    interceptors: Interceptors,
    gate: Gate,
    cluster: Cluster,
    consistent_index: u64,
    term: u64,
    account: Account,
}

impl<'d, S: Source> Replay<'d, S> {
    /// Reads `db` as a server does that starts on it, and proves its structure on the way.
    ///
    /// # Errors
    /// When the structure is damaged, a pair of bucket `key` is no record, or the user asked to stop.
    pub fn of(db: &'d Db<S>, options: ReplayOptions, watch: &dyn Watch) -> Result<Self, ReplayError> {
        let index = IndexOptions { release: options.release, ..IndexOptions::default() };
        let index = Index::build(db, &index, watch)?;
        let small = Small::read(db)?;
        let schema = index.schema();
        let (consistent_index, term) = (schema.consistent_index, schema.term.unwrap_or_default());
        let leases = Leases::of(&small, &options);
        Ok(Self {
            options,
            interceptors: Interceptors::at_start(&small),
            gate: Gate::default(),
            cluster: Cluster::of(&small),
            keys: Keys::new(index, leases),
            small,
            consistent_index,
            term,
            account: Account::default(),
        })
    }

    /// Takes the members from a v2 store, where the server that starts does so, and not from their rows.
    #[must_use]
    pub fn with_cluster(mut self, cluster: Cluster) -> Self {
        if self.options.release.takes_members_from_v2store() {
            self.cluster = cluster;
        }
        self
    }

    /// What is wrong, or odd, with the db.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        self.keys.index.findings()
    }

    /// Index of the last entry applied.
    #[must_use]
    pub fn consistent_index(&self) -> u64 {
        self.consistent_index
    }

    /// Its term; 0 when it is not known.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.keys.current_revision()
    }

    /// The revision up to which the history is compacted; `None` while it never was.
    #[must_use]
    pub fn compact_revision(&self) -> Option<i64> {
        self.keys.compact_revision()
    }

    /// The keys as they are now.
    #[must_use]
    pub fn keys(&self) -> &Keys<'d, S> {
        &self.keys
    }

    /// The small buckets as they are now.
    #[must_use]
    pub fn small(&self) -> &Small {
        &self.small
    }

    /// What was applied.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Applies the entry that follows, as a server does that starts. Whatever becomes of its request, the consistent index moves to
    /// it.
    ///
    /// # Errors
    /// When the replay cannot go on with it; nothing of it was done then.
    pub fn apply(&mut self, entry: &EntryRef<'_>) -> Result<Applied, Stop> {
        let stop = |reason| Stop { index: entry.index, term: entry.term, reason };
        if self.consistent_index.checked_add(1) != Some(entry.index) {
            return Err(stop(StopReason::NotNext { applied: self.consistent_index }));
        }
        let (kind, applied) = self.entry(entry).map_err(stop)?;
        self.consistent_index = entry.index;
        self.term = entry.term;
        let account = &mut self.account;
        account.entries += 1;
        *account.by_kind.entry(kind).or_default() += 1;
        match applied {
            Applied::Changed => account.changed += 1,
            Applied::Nothing(why) => *account.without_effect.entry(why).or_default() += 1,
        }
        Ok(applied)
    }

    /// What differs from the db now.
    ///
    /// # Errors
    /// When the db cannot be read again, or the user asked to stop.
    pub fn fold(self, watch: &dyn Watch) -> Result<Folded<'d, S>, FoldError> {
        Folded::of(self, watch)
    }

    /// Applies an entry; what it asks for, and what became of it.
    fn entry(&mut self, entry: &EntryRef<'_>) -> Result<(&'static str, Applied), StopReason> {
        let moment = Moment { index: entry.index, term: entry.term };
        if entry.entry_type == EntryType::ConfChangeV2 as i32 {
            return Err(StopReason::ConfChangeV2);
        }
        let release = self.options.release;
        if entry.entry_type == EntryType::ConfChange as i32 {
            let applied = conf_change::apply(&mut self.cluster, Some(&mut self.small), entry.data, release)?;
            return Ok(("conf_change", applied));
        }
        if entry.entry_type != EntryType::Normal as i32 {
            return Err(StopReason::EntryType(entry.entry_type));
        }
        match request::decode(entry.data) {
            Decoded::Nothing => Ok((NOTHING, Applied::Nothing(Why::Empty))),
            Decoded::V3(request) => self.request(&request, &moment),
            Decoded::V2(request) => {
                let small = Some(&mut self.small);
                let applied = v2::apply(&mut self.cluster, small, request.message(), release)?;
                Ok((request.kind(), applied))
            }
            Decoded::Undecodable { v3, v2 } => Err(StopReason::Undecodable { v3, v2 }),
        }
    }

    /// Applies a request of the v3 API; what it asks for, and what became of it.
    fn request(
        &mut self,
        request: &Request<'_>,
        moment: &Moment,
    ) -> Result<(&'static str, Applied), StopReason> {
        if request.has_unknown_fields() {
            return Err(StopReason::UnknownField { kind: request.kind() });
        }
        let whole = request.message();
        let (mut header, mut asked, mut others) = (None, None, false);
        for (field, message) in whole.children() {
            if field.number == HEADER {
                header = Some(message);
            } else {
                others |= asked.replace((field.name, message)).is_some();
            }
        }
        if others {
            // A server takes the first by its own order.
            let kind = request.kind();
            asked =
                whole.children().find(|(field, _)| field.name == kind).map(|(_, message)| (kind, message));
        }
        let Some((kind, asked)) = asked else { return Err(StopReason::UnknownRequest) };
        if kind == V2 {
            let small = Some(&mut self.small);
            return Ok((V2, v2::apply(&mut self.cluster, small, asked, self.options.release)?));
        }
        if header.is_none() && whole.number(ID) == 0 {
            return Err(StopReason::Dies("it has neither an id nor a header".to_owned()));
        }
        if let Some(why) = self.interceptors.refused(kind, asked, self.options.release) {
            return Ok((kind, Applied::Nothing(why)));
        }
        if let Some(why) = self.denied((header, kind, asked), moment)? {
            return Ok((kind, Applied::Nothing(why)));
        }
        Ok((kind, self.admitted(kind, asked, moment)?))
    }

    /// Why users' permissions refuse a request.
    fn denied(
        &mut self,
        request: (Option<Message<'_>>, &'static str, Message<'_>),
        moment: &Moment,
    ) -> Result<Option<Why>, StopReason> {
        let Self { options, keys, small, gate, interceptors, account, .. } = self;
        let mut attached = |lease| {
            let numbers = keys.attached(lease)?;
            Ok(numbers.into_iter().map(|number| keys.name(number).to_vec()).collect())
        };
        match gate.admit(small, options.release, request, &mut attached)? {
            Verdict::Admitted => Ok(None),
            Verdict::AdmittedWithoutReads => {
                account.disagreed(Disagreement::TxnRange, moment.index);
                Ok(None)
            }
            Verdict::Refused(why) => {
                if interceptors.is_in_doubt(small, options.release) {
                    account.disagreed(Disagreement::AlarmWithoutAuth, moment.index);
                }
                Ok(interceptors.permissions.then_some(why))
            }
        }
    }

    /// Applies a request that nothing refused.
    fn admitted(
        &mut self,
        kind: &'static str,
        asked: Message<'_>,
        moment: &Moment,
    ) -> Result<Applied, StopReason> {
        let Self { options, keys, small, account, interceptors, gate, cluster, .. } = self;
        match kind {
            "put" => write::put(keys, asked),
            "delete_range" => write::delete(keys, asked),
            "txn" => {
                let outcome = txn::apply(keys, asked, options.release)?;
                if outcome.proposer_refused {
                    account.disagreed(Disagreement::TxnRange, moment.index);
                }
                Ok(outcome.applied)
            }
            "compaction" => {
                let applied = compaction::apply(keys, asked);
                account.compactions += u64::from(applied == Applied::Changed);
                Ok(applied)
            }
            "lease_grant" => Ok(lease::grant(keys, small, asked, options)),
            "lease_revoke" => lease::revoke(keys, small, asked),
            "lease_checkpoint" => Ok(lease::checkpoint(keys, small, asked, options)),
            "range"
            | "auth_status"
            | "authenticate"
            | "auth_user_get"
            | "auth_user_list"
            | "auth_role_get"
            | "auth_role_list"
            | "downgrade_version_test" => Ok(Applied::Nothing(Why::ReadOnly)),
            "alarm" => {
                let about = alarms::kind(asked);
                let before = interceptors::raised(small, about);
                let applied = alarms::apply(small, asked, options.release)?;
                interceptors.after_alarm(about, before, small, options.release);
                Ok(applied)
            }
            "cluster_version_set" => cluster.set_version(Some(small), asked.data(1)),
            "cluster_member_attr_set" => cluster.set_attributes(Some(small), asked, options.release),
            "downgrade_info_set" => Ok(cluster.set_downgrade(Some(small), asked)),
            _ if auth::is_change(kind) => {
                let applied = auth::apply(small, kind, asked, moment, options.release)?;
                if applied == Applied::Changed {
                    gate.forget();
                }
                Ok(applied)
            }
            _ => Err(StopReason::UnknownRequest),
        }
    }
}
