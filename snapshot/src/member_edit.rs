//! `member update`, `add`, `remove`, `promote` of a member that does not run: what the same commands of `etcdctl` do to a cluster
//! that answers (law 11 of the design; FORMATS I.4).
//!
//! - **The only voter** of its cluster commits whatever its log holds. So the log gets the changes of members that a leader would have
//!   proposed, with a hard state that has them committed, and the server that starts on it carries them out, each release in
//!   its own way: database, v2 store and raft alike.
//! - **One of several voters** must not have anything in its log that the others do not. Only addresses can be changed there, by
//!   `reseat`, with the same edit made on each of them, or they would not find each other.
//!   Who belongs to such a cluster is the cluster's to decide.
//!
//! `who` finds the member that is meant, `changes` makes the entries, `plan` decides which of the two ways it is.

mod changes;
mod plan;
mod refusal;
mod who;

use std::path::Path;

use bbolt::Watch;

use crate::facts::FactsOptions;
use crate::finding::Finding;
use crate::gourl::PeerUrls;
use crate::member_copy::{self, Copied, CopyOptions, MemberCopy};
use crate::membership::{InitialCluster, Member};
use crate::whole_member;

pub use plan::{Parts, Plan};
pub use refusal::MemberEditError;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Other peer URLs for one member.
    Update {
        /// Its id as `etcdctl` prints it, or its name.
        who: String,
        /// Where the others reach it from now on.
        peer_urls: PeerUrls,
    },
    /// Other peer URLs for all members, by their names.
    UpdateAll(InitialCluster),
    /// A new member.
    Add {
        /// How it will be called; the cluster learns that when it starts.
        name: String,
        /// Where the others reach it.
        peer_urls: PeerUrls,
        /// Without a vote.
        is_learner: bool,
        /// Its id; `None` for one made of its addresses and the time, as a server makes it.
        id: Option<u64>,
        /// Now, in seconds since 1970: a part of that id.
        now_seconds: u64,
    },
    /// A member less.
    Remove {
        /// Its id as `etcdctl` prints it, or its name.
        who: String,
    },
    /// A vote for a learner.
    Promote {
        /// Its id as `etcdctl` prints it, or its name.
        who: String,
    },
}

/// How to go about it.
#[derive(Debug, Clone, Default)]
pub struct MemberEditOptions {
    /// Where the edited member goes.
    pub copy: CopyOptions,
    /// The same edit is made on every member of the cluster.
    pub on_every_member: bool,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct MemberEditReport {
    /// The member whose directory it is.
    pub own_id: u64,
    /// The cluster's id, which stays.
    pub cluster_id: u64,
    /// Those that were changed, as they are now; one that was removed as it was.
    pub changed: Vec<Member>,
    /// All members, as a server will know them.
    pub members: Vec<Member>,
    /// How many of them vote.
    pub voters: usize,
    /// How it was done.
    pub way: Way,
    /// What was written.
    pub copied: Copied,
    /// What is to be known of the input.
    pub findings: Vec<Finding>,
}

/// How a member was edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By changes of members in its log.
    Entries {
        /// The first one's index.
        first: u64,
        /// The last one's.
        last: u64,
    },
    /// By a fresh snapshot, and no entry.
    Reseated {
        /// The entry from which servers start.
        index: u64,
    },
}

/// Makes the edit on the member at `path`.
///
/// # Errors
/// [`MemberEditError`]; nothing is left behind then.
pub fn edit(
    path: &Path,
    edit: &Edit,
    options: &MemberEditOptions,
    input: &FactsOptions,
    watch: &dyn Watch,
) -> Result<MemberEditReport, MemberEditError> {
    let facts = whole_member::open(path, input, watch)?;
    let settled = member_copy::settle(&facts, &options.copy, input)?;
    let plan = match (Plan::of(&facts, edit, options.on_every_member), &settled) {
        (Err(error), Some(kept)) => {
            return Err(MemberEditError::Settled { error: Box::new(error), kept: kept.clone() });
        }
        (plan, _) => plan?,
    };
    let Parts { db, snap, appended } = &plan.parts;
    let copy = MemberCopy { facts: &facts, db: db.as_ref(), snap: snap.as_ref(), appended: Some(appended) };
    let mut copied = copy.write(&options.copy, input, watch)?;
    copied.note_settled(settled);
    let findings = whole_member::findings(&facts);
    Ok(MemberEditReport {
        own_id: plan.own_id,
        cluster_id: plan.cluster_id,
        changed: plan.changed,
        voters: plan.parts.appended.config.voters.len(),
        members: plan.members,
        way: plan.way,
        copied,
        findings,
    })
}
