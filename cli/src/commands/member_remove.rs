//! `member remove`: a member less.

use clap::Args;
use snapshot::member_edit::Edit;
use snapshot::membership::{Member, hex_id};

use super::member_edit;
use super::member_place::MemberPlaceArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Removes a member from the cluster of its only voter, as etcdctl member remove does, but without a server
///
/// A cluster with one vote has other members only as learners. Where others vote, who belongs to the cluster is for a majority to
/// decide: 'cluster force-new' makes a member the only one where the others are lost.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue member remove /var/lib/etcd 8211f1d0f64f3269 -o /var/lib/etcd-new")]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    edit: MemberPlaceArgs,
    /// The member, by its id as etcdctl prints it or by its name
    #[arg(value_name = "ID|NAME")]
    who: String,
}

/// Removes.
///
/// # Errors
/// When there is no such member, others vote, or the output cannot be written.
pub(crate) fn run(args: &RemoveArgs, context: &Context) -> Result<Outcome, Failure> {
    let edit = Edit::Remove { who: args.who.clone() };
    let line = |member: &Member, cluster_id| {
        format!("Member {:>16} removed from cluster {:>16}", hex_id(member.id), hex_id(cluster_id))
    };
    Ok(member_edit::run(&args.edit, &edit, false, &line, context)?.outcome)
}
