//! `member add`: a member more.

use std::time::{SystemTime, UNIX_EPOCH};

use bbolt::goquote;
use clap::Args;
use snapshot::member_edit::{Edit, MemberEditReport};
use snapshot::membership::{Member, hex_id, parse_hex_id};

use super::member_edit::{self, Edited, peer_urls};
use super::member_place::MemberPlaceArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::Format;

/// Adds a member to the cluster of its only voter, as etcdctl member add does, but without a server
///
/// What the new member is to be started with is printed as etcdctl prints it. A voter makes two of them, and the cluster needs both: it
/// takes no write until the new one runs. --learner adds one without a vote, which can be promoted when it has caught up.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue member add /var/lib/etcd n2 --peer-urls https://10.0.0.8:2380 --learner -o /var/lib/etcd-new")]
pub(crate) struct AddArgs {
    #[command(flatten)]
    edit: MemberPlaceArgs,
    /// How the new member will be called
    #[arg(value_name = "NAME")]
    name: String,
    /// Where the other members reach it, comma-separated
    #[arg(long, value_name = "URLS")]
    peer_urls: String,
    /// Without a vote
    #[arg(long)]
    learner: bool,
    /// The new member's id, in hexadecimal [default: made of its addresses and the time, as etcd makes it]
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
}

/// Adds.
///
/// # Errors
/// When an address or the name is another's, others vote, or the output cannot be written.
pub(crate) fn run(args: &AddArgs, context: &Context) -> Result<Outcome, Failure> {
    if args.name.is_empty() || args.name.contains([',', '=']) {
        return Err(Failure::usage(format!(
            "{:?}: no name that --initial-cluster could hold: it must not be empty, nor have ',' or '=' in it",
            args.name
        )));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let edit = Edit::Add {
        name: args.name.clone(),
        peer_urls: peer_urls(&args.peer_urls)?,
        is_learner: args.learner,
        id: args.id.as_deref().map(id).transpose()?,
        now_seconds: now.map_or(0, |now| now.as_secs()),
    };
    let line = |member: &Member, cluster_id| {
        format!("Member {:>16} added to cluster {:>16}", hex_id(member.id), hex_id(cluster_id))
    };
    let Edited { report, mut outcome } = member_edit::run(&args.edit, &edit, false, &line, context)?;
    if context.format == Format::Simple {
        outcome.result += &environment(args, &report);
    }
    let unnamed: Vec<String> =
        report.members.iter().filter(|m| m.name.is_empty()).map(|m| hex_id(m.id)).collect();
    if !unnamed.is_empty() {
        outcome.after.push(Note::Warning(format!(
            "warning: these files do not say what {} is called: put its name before the '=' of ETCD_INITIAL_CLUSTER that has none",
            unnamed.join(" and ")
        )));
    }
    outcome.after.push(Note::Prose(if args.learner {
        "Start the new member with these settings and an empty data dir once this one runs; it receives the data, and votes when it is \
         promoted."
            .to_owned()
    } else {
        "The cluster has two votes from now on and needs both: start the new member with these settings and an empty data dir at once \
         when this one is started. It takes no write before, and no further change of members can be made offline. Should the new one end with \
         \"member count is unequal\", this one had not read its log yet: start the new one again."
            .to_owned()
    }));
    Ok(outcome)
}

fn id(text: &str) -> Result<u64, Failure> {
    parse_hex_id(text).ok_or_else(|| Failure::usage(format!("--id: {text:?} is no id in hexadecimal")))
}

/// What the new member is started with, in etcdctl's form.
fn environment(args: &AddArgs, report: &MemberEditReport) -> String {
    let urls = report
        .members
        .iter()
        .flat_map(|member| member.peer_urls.iter().map(move |url| format!("{}={url}", member.name)));
    let cluster = urls.collect::<Vec<_>>().join(",");
    let quoted = |text: &str| {
        let mut out = Vec::new();
        goquote::quote(text.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quoted(&args.name),
        quoted(&cluster),
        quoted(&args.peer_urls)
    )
}
