//! `snapshot restore`: a snapshot in, data dirs that etcd boots from out.

use std::path::PathBuf;

use clap::Args;
use snapshot::fold::Entries;
use snapshot::new_cluster::Bump;
use snapshot::opened::Opened;
use snapshot::restore::{self, Output, RestoreOptions};
use snapshot::seen::{self, Seen};

use super::folding::{self, FoldArgs};
use super::restoring::{self, BumpArgs, NewArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::Outcome;
use crate::output;
use crate::values;
use crate::verdict;

/// Turns a snapshot into data dirs that etcd boots from, as members of a new cluster
///
/// The flags are those of etcdutl 3.7. With --all-members one run writes the directories of all members; otherwise run it
/// once for each member, from the same snapshot. The result appears under its name only when it was written, synced,
/// read back and verified. At the end it says what to run next: on stderr, or with --emit on stdout.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue snapshot restore snapshot.db --all-members -o restored \\
    --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380
  etcd-rescue snapshot restore /mnt/dead/var/lib/etcd --data-dir=/var/lib/etcd")]
pub(crate) struct RestoreArgs {
    /// A snapshot; a member's data dir or member dir, whose log is folded in; with --skip-hash-check also a db file
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// The data dir to write; it must not exist or be empty [default: NAME.etcd]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The WAL dir to write [default: member/wal in the data dir]
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// The members of the new cluster, as NAME=URL with commas between them
    #[arg(long, value_name = "MEMBERS", default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// The token of the new cluster, from which its IDs are made
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// This member's peer URLs, as in --initial-cluster
    #[arg(long, value_name = "URLS", default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,
    /// This member's name
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    /// Take input without a SHA-256, or with a wrong one
    #[arg(long)]
    skip_hash_check: bool,
    /// The log of the input, where etcd was given a directory of its own for it; for a file, the log to fold into it
    #[arg(long, value_name = "DIR")]
    input_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    fold: FoldArgs,
    /// Accepted for etcdutl's sake: nothing is mapped that would need it
    #[arg(long, value_name = "BYTES", value_parser = values::unsigned, hide_short_help = true)]
    initial_memory_map_size: Option<u64>,
    /// Take the keys back to this revision; leases, users and roles stay as they are
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    at_revision: Option<i64>,
    #[command(flatten)]
    bump: BumpArgs,
    /// Write the directory of every member of --initial-cluster
    #[arg(long, requires = "output")]
    #[arg(conflicts_with_all = ["name", "initial_advertise_peer_urls", "data_dir", "wal_dir"])]
    all_members: bool,
    /// With --all-members: where the members' directories go, each under its name
    #[arg(short, long, value_name = "DIR", requires = "all_members")]
    output: Option<PathBuf>,
    #[command(flatten)]
    new: NewArgs,
}

/// Restores.
///
/// # Errors
/// When the flags contradict each other, the input is not fit, or the output cannot be written.
pub(crate) fn run(args: RestoreArgs, context: &Context) -> Result<Outcome, Failure> {
    let input_path = args.input.clone();
    let bump = args.bump.clone();
    let (fold, input_wal_dir) = (args.fold.clone(), args.input_wal_dir.clone());
    let form = args.new.form();
    let mut options = resolve(args)?;
    let (input, mut notes) = context.open(&input_path)?;
    let seen = if bump.is_auto() { seen_by(&input, &bump.seen, context)? } else { Vec::new() };
    if let Some(largest) = seen.iter().map(|seen| seen.revision).max() {
        options.bump_revision = Some(Bump::Beyond { seen: largest });
    }
    notes.extend(seen.iter().flat_map(restoring::told));
    let watch = context.watch.as_ref();
    let report = match fold.log(&input, input_wal_dir.as_deref(), "--input-wal-dir", context)? {
        Some(files) => {
            let tmp_dir = context.tmp_dir();
            restore::restore_folded(
                &input,
                Entries::OfLog(&files),
                &fold.options(),
                &options,
                &tmp_dir,
                watch,
            )?
        }
        None => restore::restore(&input, &options, watch)?,
    };
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    let left = Leftovers { found: report.leftovers.clone(), removed: report.cleaned.clone() };
    outcome.before.extend(left.notes());
    outcome.note_integrity(report.verdict.integrity, verdict::beside_findings(&report.verdict));
    outcome.note_findings(&report.findings);
    outcome.before.extend(report.fold.iter().flat_map(folding::story));
    restoring::render(&report, &seen, context.format, &form, &mut outcome, |json| output::json(&json))?;
    Ok(outcome)
}

/// What the input, and all that is left beside it, show that clients may have seen.
fn seen_by(input: &Opened, sources: &[PathBuf], context: &Context) -> Result<Vec<Seen>, Failure> {
    let (options, watch) = (context.seen_options(), context.watch.as_ref());
    let mut found = vec![seen::of_opened(input, &options, watch)?];
    for source in sources {
        found.push(seen::of(source, &options, watch)?);
    }
    Ok(found)
}

/// The arguments as one plain value.
fn resolve(args: RestoreArgs) -> Result<RestoreOptions, Failure> {
    if let Some(bytes) = args.initial_memory_map_size {
        tracing::debug!(bytes, "--initial-memory-map-size has no effect: nothing is mapped for writing");
    }
    let output = match (args.all_members, args.output) {
        (true, Some(dir)) => Output::AllMembers { dir },
        (true, None) => return Err(Failure::usage("--all-members needs -o DIR")),
        (false, Some(_)) => {
            return Err(Failure::usage("-o is for --all-members; a single member has --data-dir"));
        }
        (false, None) => Output::OneMember {
            data_dir: args.data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.etcd", args.name))),
            name: args.name,
            advertise_peer_urls: args.initial_advertise_peer_urls,
            wal_dir: args.wal_dir,
        },
    };
    Ok(RestoreOptions {
        initial_cluster: args.initial_cluster,
        token: args.initial_cluster_token,
        output,
        skip_hash_check: args.skip_hash_check,
        at_revision: args.at_revision,
        bump_revision: args.bump.resolve()?,
        target: args.new.target_version,
        keep_alarms: args.new.keep_alarms,
        owner: args.new.write.owner()?,
        dry_run: args.new.write.dry_run,
        clean: args.new.write.clean,
    })
}
