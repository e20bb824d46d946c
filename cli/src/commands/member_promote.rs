//! `member promote`: a vote for a learner.

use clap::Args;
use snapshot::member_edit::Edit;
use snapshot::membership::{Member, hex_id};

use super::member_edit;
use super::member_place::MemberPlaceArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};

/// Makes a learner a voter, as etcdctl member promote does, but without a server
///
/// The cluster then has two votes and needs both: without the member that was promoted it takes no write. A server promotes only a
/// learner that has caught up; from files nobody can tell, so it should have been running when the cluster stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue member promote /var/lib/etcd 8211f1d0f64f3269 -o /var/lib/etcd-new")]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    edit: MemberPlaceArgs,
    /// The learner, by its id as etcdctl prints it or by its name
    #[arg(value_name = "ID|NAME")]
    who: String,
}

/// Promotes.
///
/// # Errors
/// When there is no such learner, others vote, or the output cannot be written.
pub(crate) fn run(args: &PromoteArgs, context: &Context) -> Result<Outcome, Failure> {
    let edit = Edit::Promote { who: args.who.clone() };
    let line = |member: &Member, cluster_id| {
        format!("Member {:>16} promoted in cluster {:>16}", hex_id(member.id), hex_id(cluster_id))
    };
    let mut outcome = member_edit::run(&args.edit, &edit, false, &line, context)?.outcome;
    outcome.after.push(Note::Prose(
        "The cluster has two votes from now on and needs both: it elects, and takes writes, only while the promoted member runs. No further \
         change of members can be made offline."
            .to_owned(),
    ));
    Ok(outcome)
}
