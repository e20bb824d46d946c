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
//! Memory: the index of the db (36 bytes a record), and all that the entries write, once; keys and values of the db stay where
//! they are.

pub mod small;

use std::collections::BTreeMap;

use crate::mvcc::{KeySpaceError, RecordError, Release};
use crate::request::WireError;

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
pub struct Moment<'o> {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Who applies it.
    pub options: &'o ReplayOptions,
}

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
}

impl ReplayError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Read(KeySpaceError::Damaged { .. } | KeySpaceError::Records { .. }) => 3,
            Self::Read(error) => error.exit_code(),
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
    /// Number of entries.
    pub entries: u64,
}

impl Account {
    /// Counts a disagreement at the entry `index`.
    pub fn disagreed(&mut self, what: Disagreement, index: u64) {
        let entry = self.disagreements.entry(what).or_insert(Disagreed { first: index, entries: 0 });
        entry.entries = entry.entries.saturating_add(1);
    }
}
