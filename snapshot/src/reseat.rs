//! A member from which servers start at another point: at the last entry that its database has, from a fresh `.snap` (FORMATS I.4).
//!
//! A server takes members and cluster version from the `.snap` and the entries behind it (up to 3.5), or from the database (from 3.6 on).
//! To change them on a member that will rejoin its peers, nothing may be appended to its log: the others would have another history
//! (law 11 of the design). So both are edited, and a `.snap` with the edited v2 store is put where the database stands, with a
//! record of it in the log. No entry before that point is looked at any more, and none behind it speaks of members.
//!
//! **Where that is.** At the database's consistent index. Servers of 3.4 move that index only with the key space, and all of them
//! write it with a delay; so entries behind it that are committed and do nothing to the key space, leases, users or alarms are taken along:
//! what they did to the members is then in rows and v2 store, and the consistent index is raised over them.
//!
//! **The hard state** is written anew only where the commit on disk is below that point, as it may lawfully be (FORMATS E.8): a
//! snapshot record counts only up to the commit (E.7). Term and vote stay. An entry is never written, and none is lost.

mod rows;
mod store;

use std::ops::ControlFlow;

use bbolt::graft::GraftError;
use bbolt::{OpenError as DbError, Patch};
use wal::EntryRef;
use wal::raftpb::{ConfState, HardState, walpb};

use crate::appended::Appended;
use crate::finding::Finding;
use crate::lone::{Config, Effect, each_standing, effect};
use crate::member_copy::FreshSnap;
use crate::members::{self, MembersError, Membership};
use crate::membership::{Member, hex_id};
use crate::migrate::steps::Edit;
use crate::request::{self, Decoded};
use crate::target::TargetVersion;
use crate::v2tree::V2TreeError;
use crate::whole_member::{Whole, WholeError};

/// What is to be different.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reseat<'a> {
    /// Members with other peer URLs than before, by their ids; the rest of them stays as it is.
    pub set: &'a [Member],
    /// The cluster's version (`3.5.0`), where that is to be another one. A downgrade that is under way is then forgotten.
    pub cluster_version: Option<&'a str>,
    /// Other rows of the database that are to be different.
    pub rows: &'a [Edit],
}

/// What makes the member a reseated one: the parts of a [`MemberCopy`](crate::member_copy::MemberCopy).
#[derive(Debug)]
pub struct Reseated {
    /// The entry from which servers start.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The members at that point, edited.
    pub membership: Membership,
    /// Who of them votes.
    pub config: Config,
    /// The pages that are different in the database.
    pub db: Patch,
    /// The `.snap`.
    pub snap: FreshSnap,
    /// What stands behind the end of the log.
    pub appended: Appended,
}

/// Why a member cannot be reseated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReseatError {
    /// It is no member from which a server starts.
    #[error(transparent)]
    Whole(#[from] WholeError),
    /// The database cannot be opened.
    #[error("{path}: {source}; nothing was written")]
    Db {
        /// The file.
        path: String,
        /// Why.
        source: DbError,
    },
    /// The database cannot be edited.
    #[error("{path}: {source}; nothing was written")]
    Graft {
        /// The file.
        path: String,
        /// Why.
        source: GraftError,
    },
    /// Servers would not start on this database.
    #[error("{path}: {}. Start etcd on it once, as it was, so that it finishes; or edit its peers. Nothing was written", finding.message)]
    Waiting {
        /// What was given.
        path: String,
        /// What lies beside it.
        finding: Box<Finding>,
    },
    /// A snapshot record is ahead of the database.
    #[error(
        "{path}: its log has a snapshot at entry {snapshot}, and the database ends at {index}: no server starts from that without the \
         database that came with it. Nothing was written"
    )]
    Ahead {
        /// What was given.
        path: String,
        /// The snapshot's entry.
        snapshot: u64,
        /// The database's last entry.
        index: u64,
    },
    /// An entry behind the database changes what is to be edited.
    #[error(
        "{path}: entry {entry} of the log, which the database does not have yet, {what}: a server that applies it would undo the edit. Start etcd \
         on a copy of this directory for a moment, as it was started before (it needs no peers to apply what is committed), stop it, \
         and edit that copy. Nothing was written"
    )]
    Undone {
        /// What was given.
        path: String,
        /// The entry.
        entry: u64,
        /// What it does.
        what: &'static str,
    },
    /// Nothing says who the members are.
    #[error(
        "{path}: neither the log nor the .snap files say who votes in its cluster. 'etcd-rescue snapshot restore {path}' makes a new cluster \
         from its data. Nothing was written"
    )]
    UnknownMembers {
        /// What was given.
        path: String,
    },
    /// Raft and the cluster's own list name different members.
    #[error(
        "{path}: at entry {index} raft knows the members {}, and the cluster's own list has {}: which of them a server will report depends on its \
         release. 'etcd-rescue member list --sources {path}' shows where they differ. Nothing was written",
        crate::lone::ids(raft),
        crate::lone::ids(listed)
    )]
    Disagree {
        /// What was given.
        path: String,
        /// The entry.
        index: u64,
        /// By raft's account.
        raft: Vec<u64>,
        /// By the v2 store, or by the database's rows.
        listed: Vec<u64>,
    },
    /// There is no member of that id.
    #[error("{path}: the cluster has no member {} at entry {index}. Nothing was written", hex_id(*id))]
    NoSuchMember {
        /// What was given.
        path: String,
        /// The entry.
        index: u64,
        /// The id.
        id: u64,
    },
    /// Who the members are cannot be told.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// The v2 store cannot be made.
    #[error(transparent)]
    Store(#[from] V2TreeError),
}

impl ReseatError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Whole(error) => error.exit_code(),
            Self::Undone { .. } => 4,
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Whole(error) => error.findings(),
            Self::Waiting { finding, .. } => std::slice::from_ref(finding),
            _ => &[],
        }
    }
}

impl Reseat<'_> {
    /// Makes of the member's files what is to be written.
    ///
    /// # Errors
    /// [`ReseatError`].
    pub fn plan(&self, whole: &Whole<'_>) -> Result<Reseated, ReseatError> {
        let path = || whole.facts.path.display().to_string();
        let seat = Seat::find(whole, self.cluster_version.is_some())?;
        let Seat { index, term, .. } = seat;
        let config = Config::of_log(whole.files, whole.log, index)
            .filter(|config| !config.voters.is_empty())
            .ok_or_else(|| ReseatError::UnknownMembers { path: path() })?;
        let mut membership = members::at(whole.facts, index)?;
        let raft: Vec<u64> = config.voters.union(&config.learners).copied().collect();
        let listed: Vec<u64> = membership.members.keys().copied().collect();
        if raft != listed {
            return Err(ReseatError::Disagree { path: path(), index, raft, listed });
        }
        for edited in self.set {
            let member = membership.members.get_mut(&edited.id).ok_or_else(|| ReseatError::NoSuchMember {
                path: path(),
                index,
                id: edited.id,
            })?;
            member.peer_urls.clone_from(&edited.peer_urls);
        }
        if let Some(version) = self.cluster_version {
            membership.version = Some(version.to_owned());
        }
        let release = release_of(whole);
        let db = rows::edit(whole, self, &seat, &membership, &config)?;
        let data = store::of(whole, self, index, &membership)?;
        let conf_state = ConfState {
            voters: config.voters.iter().copied().collect(),
            learners: config.learners.iter().copied().collect(),
            auto_leave: Some(false),
            ..ConfState::default()
        };
        let record = walpb::Snapshot {
            index: Some(index),
            term: Some(term),
            // 3.4 writes none, and 3.5 refuses to write a record without (FORMATS X.42).
            conf_state: (release > TargetVersion::V3_4).then(|| conf_state.clone()),
        };
        let is_recorded = whole.log.snapshots.iter().any(|known| {
            (known.value.index(), known.value.term()) == (index, term)
                && (known.value.conf_state.is_some() || release == TargetVersion::V3_4)
        });
        let appended =
            Appended::behind(whole.log, &[], seat.state, (!is_recorded).then_some(&record), config.clone())
                .map_err(|what| whole.broken(what))?;
        let snap = FreshSnap {
            name: wal::snap_name(term, index),
            bytes: wal::encode_snapshot(data, index, term, conf_state),
        };
        Ok(Reseated { index, term, membership, config, db, snap, appended })
    }
}

/// The release whose files they are.
fn release_of(whole: &Whole<'_>) -> TargetVersion {
    whole.database.schema.written_by().map_or(TargetVersion::V3_4, |(version, _)| version)
}

/// The entry at which the member is seated.
struct Seat {
    index: u64,
    term: u64,
    /// The database's own last entry.
    applied: u64,
    /// The hard state to write, where the log's own does not reach so far.
    state: Option<HardState>,
}

impl Seat {
    fn find(whole: &Whole<'_>, sets_version: bool) -> Result<Self, ReseatError> {
        let path = || whole.facts.path.display().to_string();
        let log = whole.log;
        let applied = whole.database.schema.consistent_index;
        if let Some(finding) = whole.input.pending_snapshots(applied) {
            return Err(ReseatError::Waiting { path: path(), finding: Box::new(finding) });
        }
        let start = &whole.of_log.report.start;
        let last = log.last_index().unwrap_or_default().max(start.index);
        if applied > last {
            return Err(whole
                .broken(format!("its log ends at entry {last}, and the database has entries up to {applied}"))
                .into());
        }
        let state = log.server_hard_state.as_ref().map(|state| state.value).unwrap_or_default();
        let index = quiet_until(whole, applied, state.commit());
        let recorded = log.snapshots.iter().map(|record| record.value.index());
        if let Some(snapshot) = recorded.filter(|snapshot| *snapshot <= state.commit()).max()
            && snapshot > index
        {
            return Err(ReseatError::Ahead { path: path(), snapshot, index: applied });
        }
        ensure_not_undone(whole, index, sets_version)?;
        let term = log
            .term_of(index)
            .or_else(|| (start.index == index).then_some(start.term))
            .or_else(|| whole.database.schema.term.filter(|_| index == applied))
            .ok_or_else(|| whole.broken(format!("its log does not say of which term entry {index} is")))?;
        let raised =
            HardState { term: Some(state.term().max(term)), vote: Some(state.vote()), commit: Some(index) };
        Ok(Self { index, term, applied, state: (state.commit() < index).then_some(raised) })
    }
}

/// The last entry up to `commit`, of those behind `applied`, before one that does something to the data.
fn quiet_until(whole: &Whole<'_>, applied: u64, commit: u64) -> u64 {
    let mut index = applied;
    each_standing(whole.files, whole.log, applied, &mut |entry| {
        if entry.index > commit
            || entry.index != index.saturating_add(1)
            || effect(entry) != Effect::Nothing
            || sets_downgrade(entry)
        {
            return ControlFlow::Break(());
        }
        index = entry.index;
        ControlFlow::Continue(())
    });
    index
}

/// Makes sure that no entry behind `index` changes members, or the version where that is edited.
fn ensure_not_undone(whole: &Whole<'_>, index: u64, sets_version: bool) -> Result<(), ReseatError> {
    let mut undone = None;
    each_standing(whole.files, whole.log, index, &mut |entry| {
        let what = if entry.entry_type != 0 {
            "changes the members of the cluster"
        } else if sets_version && (sets_cluster_version(entry) || sets_downgrade(entry)) {
            "sets the cluster's version"
        } else {
            return ControlFlow::Continue(());
        };
        undone = Some((entry.index, what));
        ControlFlow::Break(())
    });
    match undone {
        None => Ok(()),
        Some((entry, what)) => {
            Err(ReseatError::Undone { path: whole.facts.path.display().to_string(), entry, what })
        }
    }
}

fn sets_downgrade(entry: &EntryRef<'_>) -> bool {
    matches!(request::decode(entry.data), Decoded::V3(request) if request.kind() == "downgrade_info_set")
}

fn sets_cluster_version(entry: &EntryRef<'_>) -> bool {
    const METHOD: i32 = 2;
    const PATH: i32 = 3;
    match request::decode(entry.data) {
        Decoded::V3(request) => request.kind() == "cluster_version_set",
        Decoded::V2(request) => {
            let asked = request.message();
            asked.data(METHOD) == b"PUT" && asked.data(PATH) == b"/0/version"
        }
        Decoded::Nothing | Decoded::Undecodable { .. } => false,
    }
}
