//! `cluster force-new`: what `etcd --force-new-cluster` does, without a server (FORMATS I.1).
//!
//! The member keeps its identity, its data and its history up to the last entry that is known to be committed: the commit of its
//! log, or the database's consistent index where that is more, which servers before 3.5.22 and 3.6.1 forget. Behind that entry
//! the log gets one change of members for each other one, which removes it, and a hard state that has all of them committed.
//! Whatever server starts on the copy applies them first, and is the only voter from then on. No flag is needed for that start,
//! and the next one does not do it again.
//!
//! `plan` decides from what is known of the directory; [`member_copy`](crate::member_copy) copies everything byte for byte, but
//! for the end of the last segment, and reads it back. [`traces`] tells from a log that this, or the server's own way, was gone
//! before.

mod plan;
pub mod traces;

use std::path::{Path, PathBuf};

use bbolt::Watch;

use crate::facts::FactsOptions;
use crate::finding::{Finding, Severity};
use crate::log_repair::LostKeys;
use crate::lone;
use crate::member_copy::{Copied, CopyOptions, MemberCopy, MemberCopyError};
use crate::membership::{Member, hex_id};
use crate::whole_member::{self, WholeError};

pub use plan::Plan;

/// A member that takes no part any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What is known of it; of one that no file tells of, only the id.
    pub member: Member,
    /// Whether it only learned.
    pub learns: bool,
}

/// Entries that are not in the copy's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The first one's index.
    pub first: u64,
    /// The last one's.
    pub last: u64,
    /// What keys they name.
    pub keys: LostKeys,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct ForceNewReport {
    /// The member, as it is known in its cluster.
    pub member: Member,
    /// The cluster's id, which stays.
    pub cluster_id: u64,
    /// The others.
    pub removed: Vec<Removed>,
    /// Whether the member only learned, and votes from now on.
    pub promoted: bool,
    /// The last entry of the history that is kept.
    pub commit: u64,
    /// The last entry of the copy's log, which is committed there.
    pub last_index: u64,
    /// The term of the entries that were added.
    pub term: u64,
    /// What the log had beyond `commit`.
    pub dropped: Option<Dropped>,
    /// Names of files beside the log and the database that are not in the copy, since no server needs them.
    pub left_out: Vec<String>,
    /// What is to be known of the input, and of what nobody can know.
    pub findings: Vec<Finding>,
    /// What earlier, killed runs left for the same output.
    pub leftovers: Vec<PathBuf>,
    /// What of that was removed.
    pub cleaned: Vec<PathBuf>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForceNewError {
    /// It is no member from which a server starts.
    #[error(transparent)]
    Whole(#[from] WholeError),
    /// Nothing says who the members are.
    #[error(
        "{path}: neither the log nor the .snap files say who the members of its cluster are, so that nobody knows whom to remove. \
         'etcd-rescue snapshot restore {path}' makes a new cluster from its data. Nothing was written"
    )]
    UnknownMembers {
        /// What was given.
        path: String,
    },
    /// It was removed before.
    #[error(
        "{path}: member {} was removed from its cluster, and no server takes a removed member back: it cannot be the one that stays. \
         'etcd-rescue snapshot restore {path}' makes a new cluster from its data. Nothing was written", hex_id(*member_id)
    )]
    Gone {
        /// What was given.
        path: String,
        /// The member's id.
        member_id: u64,
    },
    /// There is nobody to remove.
    #[error(
        "{path}: member {} is the only one of its cluster already: start etcd on it as it is. Nothing was written", hex_id(*member_id)
    )]
    Alone {
        /// What was given.
        path: String,
        /// The member's id.
        member_id: u64,
    },
    /// The copy could not be written.
    #[error(transparent)]
    Copy(#[from] MemberCopyError),
}

impl ForceNewError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Whole(error) => error.exit_code(),
            Self::Copy(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Whole(error) => error.findings(),
            Self::Copy(error) => error.findings(),
            _ => &[],
        }
    }
}

/// Makes of the member at `path` the only one of its cluster, in a copy.
///
/// # Errors
/// [`ForceNewError`]; nothing is left behind then.
pub fn force_new(
    path: &Path,
    options: &CopyOptions,
    input: &FactsOptions,
    watch: &dyn Watch,
) -> Result<ForceNewReport, ForceNewError> {
    let facts = whole_member::open(path, input, watch)?;
    let plan = Plan::of(&facts)?;
    let copy = MemberCopy { facts: &facts, db: None, snap: None, appended: Some(&plan.appended) };
    let Copied { leftovers, cleaned, left_out, .. } = copy.write(options, input, watch)?;
    let mut findings = whole_member::findings(&facts);
    findings.extend(plan.uncertain());
    let Plan { member, cluster_id, removed, promoted, commit, last_index, term, dropped, .. } = plan;
    Ok(ForceNewReport {
        member,
        cluster_id,
        removed,
        promoted,
        commit,
        last_index,
        term,
        dropped,
        left_out,
        findings,
        leftovers,
        cleaned,
    })
}

impl Plan {
    /// What nobody can tell from one directory: whether the entries that are dropped, or such as it never got, were committed.
    fn uncertain(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(dropped) = &self.dropped {
            let (first, last) = (dropped.first, dropped.last);
            let entries = if first == last {
                format!("entry {first} of the log is")
            } else {
                format!("entries {first} to {last} of the log are")
            };
            findings.push(Finding::new(
                "ETCD-TAIL-DROPPED",
                Severity::Warning,
                format!(
                    "{entries} not in the new history: this member does not know that the cluster had committed so far. If it had, clients were \
                     told that it is done; 'etcd-rescue recover' keeps what may have been"
                ),
            ));
        }
        let read = usize::from(self.is_voter);
        if read <= self.voters / 2 {
            let others: Vec<u64> = self
                .removed
                .iter()
                .filter(|removed| !removed.learns)
                .map(|removed| removed.member.id)
                .collect();
            findings.push(Finding::new(
                "ETCD-NO-QUORUM-READ",
                Severity::Warning,
                format!(
                    "{read} of {} voters was read: {} may have committed writes that are not in this directory, and then they are in no file that was \
                     given",
                    self.voters,
                    lone::ids(&others)
                ),
            ));
        }
        findings
    }
}
