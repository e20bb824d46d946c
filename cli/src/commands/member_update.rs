//! `member update`: where members are reached.

use clap::Args;
use snapshot::member_edit::Edit;
use snapshot::membership::{InitialCluster, hex_id};

use super::member_edit::{self, peer_urls};
use super::member_place::MemberPlaceArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Gives members other peer URLs, as etcdctl member update does, but without a server
///
/// The only voter of its cluster gets the change into its log, as if a leader had proposed it. One of several voters starts from
/// a fresh snapshot with the new addresses instead, and nothing is appended to its log; since the members find each other only when
/// all have the same addresses, the same command has to be run on each directory, and --on-every-member says that it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue member update /var/lib/etcd 8e9e05c52164694d --peer-urls https://10.0.0.7:2380 -o /var/lib/etcd-new
  etcd-rescue member update /var/lib/etcd --initial-cluster n1=https://10.0.0.7:2380,n2=https://10.0.0.8:2380,n3=https://10.0.0.9:2380 \
--on-every-member --in-place")]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    edit: MemberPlaceArgs,
    /// The member, by its id as etcdctl prints it or by its name
    #[arg(value_name = "ID|NAME", required_unless_present = "initial_cluster", requires = "peer_urls")]
    who: Option<String>,
    /// Where the other members reach it from now on, comma-separated
    #[arg(long, value_name = "URLS", requires = "who")]
    peer_urls: Option<String>,
    /// Where each member is reached from now on, all of them, by their names
    #[arg(long, value_name = "NAME=URL,...", conflicts_with = "who")]
    initial_cluster: Option<String>,
    /// The same command is run on the directory of every member of the cluster, before any is started
    #[arg(long)]
    on_every_member: bool,
}

/// Updates.
///
/// # Errors
/// When there is no such member, an address is another's, others of several members are not edited too, or the output cannot be
/// written.
pub(crate) fn run(args: &UpdateArgs, context: &Context) -> Result<Outcome, Failure> {
    let edit = match (&args.who, &args.peer_urls, &args.initial_cluster) {
        (Some(who), Some(urls), _) => Edit::Update { who: who.clone(), peer_urls: peer_urls(urls)? },
        (_, _, Some(list)) => {
            Edit::UpdateAll(InitialCluster::parse(list).map_err(|error| Failure::usage(error.to_string()))?)
        }
        _ => {
            return Err(Failure::usage(
                "ID and --peer-urls are missing, or --initial-cluster for all members",
            ));
        }
    };
    let line = |member: &snapshot::membership::Member, cluster_id| {
        format!("Member {:>16} updated in cluster {:>16}", hex_id(member.id), hex_id(cluster_id))
    };
    Ok(member_edit::run(&args.edit, &edit, args.on_every_member, &line, context)?.outcome)
}
