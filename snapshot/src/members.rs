//! Who belongs to a cluster, by the account that its servers go by (FORMATS B.5, F.2, F.3, I.4).
//!
//! There are three accounts, and releases believe different ones. Up to 3.5 a server takes its members from the v2 store: the one
//! in the newest `.snap` that the log knows, and all entries behind it. From 3.6 on it takes them from the rows of bucket `members`
//! and the entries behind the database's last one. Raft elects by a third, the configuration in the `.snap` or the log's snapshot
//! record and the changes behind it; only 3.7 makes it of the rows. [`at`] gives the members as the release sees them that wrote
//! the data, [`by`] as another one would.

pub(crate) mod entries;
mod sources;
pub(crate) mod store;

use std::collections::{BTreeMap, BTreeSet};

use bbolt::graft::GraftError;

use crate::facts::Facts;
use crate::fold;
use crate::membership::Member;
use crate::mvcc::Release;
use crate::replay::Cluster;
use crate::replay::small::Small;
use crate::target::minor_of;

pub use sources::{Source, Sources, applied_at_start, sources};
pub use store::StoreError;

/// Whose account it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    /// The rows of the database, and entries behind its last one.
    Rows,
    /// The v2 store of a `.snap`, or an empty one where the log begins with its first entry, and entries behind it.
    V2Store,
}

/// Who belongs to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The members, by their ids. A name is empty until the member has published it; in the v2 store of a restored directory
    /// none is.
    pub members: BTreeMap<u64, Member>,
    /// The ids of those that were members, and may not come back.
    pub removed: BTreeSet<u64>,
    /// The version the cluster agreed on, as written (`3.5.0`); `None` before it did.
    pub version: Option<String>,
    /// The target of a downgrade under way, as written.
    pub downgrade_target: Option<String>,
    /// Whose account it is.
    pub account: Account,
    /// The release by whose rules: the last of a minor version, where only that is known.
    pub release: Release,
}

impl Membership {
    fn of(cluster: &Cluster, account: Account, release: Release) -> Self {
        Self {
            members: cluster.members().clone(),
            removed: cluster.removed().clone(),
            version: cluster.version().map(str::to_owned),
            downgrade_target: cluster.downgrade_target().map(str::to_owned),
            account,
            release,
        }
    }
}

/// Why nobody can say who the members are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// Neither a database nor a log.
    #[error("{path}: there is no database that says who belongs to the cluster")]
    NoDatabase {
        /// What was given.
        path: String,
    },
    /// The database cannot be read.
    #[error("{path}: {reason}; 'etcd-rescue bbolt check {path}' tells more")]
    Database {
        /// The database, or what was given.
        path: String,
        /// Why.
        reason: String,
    },
    /// The log cannot be opened.
    #[error("{path}: {reason}")]
    Log {
        /// What was given.
        path: String,
        /// Why.
        reason: String,
    },
    /// A row of the members is none.
    #[error(
        "{path}: {reason}; a server that goes by the rows does not start on it. 'etcd-rescue verify {path}' tells more"
    )]
    Row {
        /// What was given.
        path: String,
        /// Which, and why.
        reason: String,
    },
    /// The v2 store and the log do not say.
    #[error("{path}: {source}")]
    Store {
        /// What was given.
        path: String,
        /// Why.
        source: StoreError,
    },
    /// The rows are of a later entry, and an entry between changes them.
    #[error(
        "{path}: entry {change} changed who belongs to the cluster, and the database has it already: its rows do not say who did at entry {index}"
    )]
    Past {
        /// What was given.
        path: String,
        /// The entry asked for.
        index: u64,
        /// The first entry behind it that changed something.
        change: u64,
    },
}

impl MembersError {
    /// The process's exit code for it: 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        1
    }
}

/// Who belongs to the cluster once the entries up to `index` are applied, as the release sees it that wrote the data: up to 3.5
/// by the v2 store and the entries behind it, from 3.6 on by the database's rows and the entries behind its last one. Where an
/// entry makes 3.6 or later the cluster's version, by the rows too: no older server starts then. A database of its own has
/// only its rows.
///
/// Entries that the log does not have are not missed: `u64::MAX` stands for all there are.
///
/// # Errors
/// [`MembersError`].
pub fn at(facts: &Facts, index: u64) -> Result<Membership, MembersError> {
    let release = release_of(facts)?;
    let membership = by(facts, index, release)?;
    let raised = membership.version.as_deref().and_then(minor_of).filter(|minor| *minor > release.minor());
    match raised.and_then(|minor| format!("3.{minor}").parse::<Release>().ok()) {
        Some(later) if !later.takes_members_from_v2store() && release.takes_members_from_v2store() => {
            by(facts, index, later)
        }
        _ => Ok(membership),
    }
}

/// As [`at`], with the names and client URLs that only the database's rows know: the v2 store of a restored directory has none
/// until its members start.
///
/// # Errors
/// [`MembersError`].
pub fn named_at(facts: &Facts, index: u64) -> Result<Membership, MembersError> {
    Ok(filled(at(facts, index)?, facts))
}

/// `membership`, with what only the rows know.
pub(crate) fn filled(mut membership: Membership, facts: &Facts) -> Membership {
    for row in facts.database_facts().map_or(&[][..], |database| database.members.as_slice()) {
        if let Some(member) = membership.members.get_mut(&row.id) {
            if member.name.is_empty() {
                member.name.clone_from(&row.name);
            }
            if member.client_urls.is_empty() {
                member.client_urls.clone_from(&row.client_urls);
            }
        }
    }
    membership
}

/// As [`at`], as `release` sees it, whoever wrote the data.
///
/// # Errors
/// [`MembersError`].
pub fn by(facts: &Facts, index: u64, release: Release) -> Result<Membership, MembersError> {
    let path = || facts.path.display().to_string();
    if let Some(Err(error)) = &facts.log {
        return Err(MembersError::Log { path: path(), reason: error.to_string() });
    }
    let rows = rows(facts)?;
    let log = facts.log_facts().filter(|log| !log.files.is_single_segment());
    let (cluster, account) = match log {
        Some(log) if release.takes_members_from_v2store() => {
            let cluster = store::cluster(&log.files, &log.report.log, index, release)
                .map_err(|source| MembersError::Store { path: path(), source })?;
            (cluster.beside(&rows), Account::V2Store)
        }
        log => {
            let mut cluster = rows;
            if let Some(reason) = cluster.unreadable_row() {
                return Err(MembersError::Row { path: path(), reason: reason.to_owned() });
            }
            if let Some(log) = log {
                let applied = facts.database_facts().map_or(0, |database| database.schema.consistent_index);
                let (files, log) = (&log.files, &log.report.log);
                if let Some(change) = entries::first(files, log, index, applied) {
                    return Err(MembersError::Past { path: path(), index, change });
                }
                entries::follow(&mut cluster, files, log, (applied, index), release);
            }
            (cluster, Account::Rows)
        }
    };
    Ok(Membership::of(&cluster, account, release))
}

/// The release whose rules hold for the data, as [`fold::release`] tells.
///
/// # Errors
/// When there is no database, or it cannot be read.
pub fn release_of(facts: &Facts) -> Result<Release, MembersError> {
    Ok(fold::release(&database(facts)?.schema, None).0)
}

/// Whether an entry behind `since` up to `up_to` that the log has changes members or version.
#[must_use]
pub fn changes_between(facts: &Facts, since: u64, up_to: u64) -> bool {
    let log = facts.log_facts().filter(|log| !log.files.is_single_segment() && since < up_to);
    log.is_some_and(|log| entries::first(&log.files, &log.report.log, since, up_to).is_some())
}

fn database(facts: &Facts) -> Result<&crate::facts::DatabaseFacts, MembersError> {
    let path = || facts.path.display().to_string();
    let of_file = |reason: String| MembersError::Database { path: path(), reason };
    match &facts.database {
        None => Err(MembersError::NoDatabase { path: path() }),
        Some(Err(error)) => Err(of_file(error.to_string())),
        Some(Ok(database)) => database.facts.as_ref().map_err(|error| of_file(error.to_string())),
    }
}

/// The members by the rows, as the database has them.
fn rows(facts: &Facts) -> Result<Cluster, MembersError> {
    let path = || facts.path.display().to_string();
    let of_file = |reason: String| MembersError::Database { path: path(), reason };
    database(facts)?;
    let Some(Ok(database)) = &facts.database else {
        return Err(MembersError::NoDatabase { path: path() });
    };
    let db = database.input.db().map_err(|error| of_file(error.to_string()))?;
    let small = Small::read(&db).map_err(|error: GraftError| of_file(error.to_string()))?;
    Ok(Cluster::of(&small))
}
