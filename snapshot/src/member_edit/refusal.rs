//! Why a member was not edited.

use std::path::PathBuf;

use crate::finding::Finding;
use crate::lone::ids;
use crate::member_copy::MemberCopyError;
use crate::members::MembersError;
use crate::membership::{Member, hex_id};
use crate::reseat::ReseatError;
use crate::whole_member::WholeError;

/// Why a member was not edited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberEditError {
    /// It is no member from which a server starts.
    #[error(transparent)]
    Whole(#[from] WholeError),
    /// The edited member could not be written.
    #[error(transparent)]
    Copy(#[from] MemberCopyError),
    /// It cannot start from another point.
    #[error(transparent)]
    Reseat(#[from] ReseatError),
    /// Who the members are cannot be told.
    #[error("{0}. Nothing was written")]
    Members(#[from] MembersError),
    /// Nothing says who votes.
    #[error(
        "{path}: neither the log nor the .snap files say who votes in its cluster. 'etcd-rescue snapshot restore {path}' makes a new cluster \
         from its data. Nothing was written"
    )]
    UnknownVoters {
        /// What was given.
        path: String,
    },
    /// It is none of its cluster's members.
    #[error(
        "{path}: member {} is none of the members of its cluster any more, which are {}, and no server takes it for one. Nothing was \
         written", hex_id(*own), ids(members)
    )]
    Stranger {
        /// What was given.
        path: String,
        /// The member's id.
        own: u64,
        /// Those of the cluster.
        members: Vec<u64>,
    },
    /// Raft and the cluster's own list name different members.
    #[error(
        "{path}: raft knows the members {}, and the cluster's own list has {}: which of them a server will report depends on its release. \
         'etcd-rescue member list --sources {path}' shows where they differ. Nothing was written",
        ids(raft),
        ids(listed)
    )]
    Disagree {
        /// What was given.
        path: String,
        /// By raft's account.
        raft: Vec<u64>,
        /// By the v2 store, or by the database's rows.
        listed: Vec<u64>,
    },
    /// Nobody is meant.
    #[error("{path}: there is no member {given:?}; {}. Nothing was written", hint(.near, *.was_removed, .members))]
    NoSuchMember {
        /// What was given as the directory.
        path: String,
        /// What was given as the member.
        given: String,
        /// The ids that begin so.
        near: Vec<u64>,
        /// Whether a member of this id was removed.
        was_removed: bool,
        /// Those there are.
        members: Vec<Member>,
    },
    /// Several are meant.
    #[error(
        "{path}: {given:?} is the name of several members: {}. Give the id of one. Nothing was written",
        ids(members)
    )]
    Ambiguous {
        /// What was given as the directory.
        path: String,
        /// The name.
        given: String,
        /// Their ids.
        members: Vec<u64>,
    },
    /// `--initial-cluster` has other names than the cluster.
    #[error(
        "--initial-cluster names {}, and the members of {path} are {}: each must be in it once, by its name; 'member update ID --peer-urls' \
         takes one that has not told its name yet. Nothing was written", given.join(", "), told(members)
    )]
    OtherNames {
        /// What was given as the directory.
        path: String,
        /// The names in the list.
        given: Vec<String>,
        /// Those of the cluster.
        members: Vec<Member>,
    },
    /// Somebody else is there.
    #[error("{url:?} is an address of member {} ({:?}): every member needs its own. Nothing was written", hex_id(owner.id), owner.name)]
    UrlTaken {
        /// The address.
        url: String,
        /// Whose it is.
        owner: Box<Member>,
    },
    /// Somebody else is called so.
    #[error(
        "member {} is called {name:?} already: in --initial-cluster the two could not be told apart. Nothing was written", hex_id(*id)
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        id: u64,
    },
    /// The id is or was another's, or is none.
    #[error(
        "the id {} is or was that of a member, or stands for nobody: ids never come back. Leave --id out, and one is made as etcd makes it. \
         Nothing was written", hex_id(*id)
    )]
    IdTaken {
        /// The id.
        id: u64,
    },
    /// Addresses that go round in a circle.
    #[error(
        "the members would have each other's addresses, and a cluster that runs on one vote takes them one after the other, never two with the same: \
         give one of them an address in between first. Nothing was written"
    )]
    Circle,
    /// All is as it should be.
    #[error("{path}: the members have these addresses already. Nothing was written")]
    Unchanged {
        /// What was given.
        path: String,
    },
    /// The member's own vote is the last.
    #[error(
        "{path}: member {} is the one whose directory this is, and the only one that votes: without it there is no cluster. Nothing was \
         written", hex_id(*id)
    )]
    LastVoter {
        /// What was given.
        path: String,
        /// Its id.
        id: u64,
    },
    /// It votes already.
    #[error("member {} is a voter already; only a learner can be promoted. Nothing was written", hex_id(*id))]
    NoLearner {
        /// Its id.
        id: u64,
    },
    /// A server takes no more.
    #[error(
        "member {} is a learner of this cluster, and a server takes no more than one unless it is started with a greater --max-learners; promote or \
         remove it first. Nothing was written", hex_id(*id)
    )]
    TooManyLearners {
        /// The one there is.
        id: u64,
    },
    /// An earlier edit in place was cut off, which is ended now; this one was refused.
    #[error("{error}. But an earlier edit in place had been cut off; its original has its name now: {}", kept.display())]
    Settled {
        /// Why this one was refused.
        error: Box<Self>,
        /// What the original is called.
        kept: PathBuf,
    },
    /// Others vote too.
    #[error(
        "{path}: {what} is a decision of the whole cluster, in which {} vote(s): {}. A member whose log says so alone would have another history than the \
         others. Start the members and use 'etcdctl member ...', which needs a majority of them. Where the others are lost, \
         'etcd-rescue cluster force-new {path} -o OUT' makes this member the only one first, and 'etcd-rescue recover' makes \
         a cluster of all directories that are left. Nothing was written", voters.len(), ids(voters)
    )]
    Several {
        /// What was given.
        path: String,
        /// What was asked for.
        what: &'static str,
        /// Who votes.
        voters: Vec<u64>,
    },
    /// The others would not know.
    #[error(
        "{path}: {} member(s) belong to this cluster: {}. They find each other only when all have the same addresses, so the same command has to \
         be run on the directory of each, with none of them running; --on-every-member says that it is. 'etcd-rescue member plan DIR... \
         --initial-cluster {plan}' prints the commands for all, and checks them afterwards. Nothing was written", members.len(), told(members)
    )]
    NotEveryMember {
        /// What was given.
        path: String,
        /// The members.
        members: Vec<Member>,
        /// All addresses as they shall be.
        plan: String,
    },
}

/// Members as they are told in a message.
fn told(members: &[Member]) -> String {
    let one = |member: &Member| {
        let name = if member.name.is_empty() { "unnamed".to_owned() } else { format!("{:?}", member.name) };
        format!("{name} ({})", hex_id(member.id))
    };
    members.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What may have been meant.
fn hint(near: &[u64], was_removed: bool, members: &[Member]) -> String {
    if was_removed {
        "a member of this id was removed, and never comes back".to_owned()
    } else if near.is_empty() {
        format!("there are {}", told(members))
    } else {
        format!("with it begin the ids {}: give one whole", ids(near))
    }
}

impl MemberEditError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Whole(error) => error.exit_code(),
            Self::Copy(error) => error.exit_code(),
            Self::Reseat(error) => error.exit_code(),
            Self::Settled { error, .. } => error.exit_code(),
            Self::UrlTaken { .. }
            | Self::NameTaken { .. }
            | Self::IdTaken { .. }
            | Self::Circle
            | Self::LastVoter { .. }
            | Self::NoLearner { .. }
            | Self::TooManyLearners { .. }
            | Self::Several { .. }
            | Self::NotEveryMember { .. } => 4,
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Whole(error) => error.findings(),
            Self::Copy(error) => error.findings(),
            Self::Reseat(error) => error.findings(),
            Self::Settled { error, .. } => error.findings(),
            _ => &[],
        }
    }
}
