//! One command, one file; here they are told apart and their outcome is shown.

pub(crate) mod alarm_disarm;
pub(crate) mod alarm_list;
pub(crate) mod auth_reset;
pub(crate) mod auth_show;
pub(crate) mod backup;
pub(crate) mod bbolt_buckets;
pub(crate) mod bbolt_check;
pub(crate) mod bbolt_compact;
pub(crate) mod bbolt_dump;
mod bbolt_file;
pub(crate) mod bbolt_get;
pub(crate) mod bbolt_info;
pub(crate) mod bbolt_inspect;
pub(crate) mod bbolt_keys;
pub(crate) mod bbolt_page;
pub(crate) mod bbolt_page_item;
pub(crate) mod bbolt_pages;
pub(crate) mod bbolt_stats;
pub(crate) mod bbolt_surgery;
pub(crate) mod bbolt_surgery_validate;
pub(crate) mod bbolt_version;
pub(crate) mod case;
pub(crate) mod cluster_force_new;
pub(crate) mod compact;
pub(crate) mod compare;
pub(crate) mod completion;
pub(crate) mod defrag;
pub(crate) mod edit;
mod folding;
pub(crate) mod hash;
pub(crate) mod hashkv;
pub(crate) mod inspect;
pub(crate) mod iterate_bucket;
pub(crate) mod kv_delete;
pub(crate) mod kv_diff;
pub(crate) mod kv_export;
pub(crate) mod kv_get;
pub(crate) mod kv_history;
mod kv_input;
pub(crate) mod kv_list;
mod kv_query;
mod kv_range;
pub(crate) mod kv_usage;
pub(crate) mod lease_list;
pub(crate) mod list_bucket;
pub(crate) mod man;
pub(crate) mod member_add;
mod member_edit;
pub(crate) mod member_list;
mod member_place;
pub(crate) mod member_plan;
pub(crate) mod member_promote;
pub(crate) mod member_remove;
pub(crate) mod member_update;
mod members;
pub(crate) mod migrate;
pub(crate) mod recover;
mod restoring;
pub(crate) mod salvage;
pub(crate) mod scan_keys;
mod small_buckets;
pub(crate) mod snap_dump;
pub(crate) mod snapshot_hash;
pub(crate) mod snapshot_restore;
pub(crate) mod snapshot_save;
pub(crate) mod snapshot_status;
pub(crate) mod v2_list;
pub(crate) mod v2_migrate;
pub(crate) mod verify;
pub(crate) mod version;
mod view;
pub(crate) mod wal_dump;
pub(crate) mod wal_repair;
pub(crate) mod wal_verify;
mod writing;

use crate::args::{Alarm, Auth, Bbolt, Cli, Cluster, Kv, Lease, Member, Root, Snap, Snapshot, V2, Wal};
use crate::context::Context;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::outcome::{self, Note, Outcome};

/// Runs what the command line asks for; gives the exit code.
pub(crate) fn run(cli: Cli) -> u8 {
    let quiet = cli.global.quiet;
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            let failure = Failure::failed(format!("listening for signals: {error}"));
            outcome::show_failure(&failure);
            return failure.code;
        }
    };
    let ignored = cli.connection.given(&cli.command);
    if !ignored.is_empty() {
        let (are, they) = if ignored.len() == 1 { ("is", "it") } else { ("are", "they") };
        let text = format!(
            "warning: {} {are} ignored: etcd-rescue reads files and connects to nothing, so {they} may be left out",
            ignored.join(", ")
        );
        outcome::tell(&[Note::Warning(text)], quiet);
    }
    match dispatch(cli, interrupt.clone()) {
        Ok(outcome) => outcome.show(quiet),
        Err(failure) => {
            outcome::show_failure(&failure);
            interrupt.exit_code().unwrap_or(failure.code)
        }
    }
}

fn dispatch(cli: Cli, interrupt: Interrupt) -> Result<Outcome, Failure> {
    let command = match cli.command {
        Root::Completion(args) => return completion::run(&args),
        Root::Man(args) => return man::run(&args),
        other => other,
    };
    let context = Context::new(&cli.global, command.has_protobuf(), interrupt)?;
    let outcome = match command {
        Root::Snapshot(Snapshot::Status(args)) => snapshot_status::run(&args, &context),
        Root::Snapshot(Snapshot::Restore(args)) => snapshot_restore::run(*args, &context),
        Root::Snapshot(Snapshot::Save(args)) => snapshot_save::run(args, &context),
        Root::Snapshot(Snapshot::Hash(args)) => snapshot_hash::run(&args, &context),
        Root::Wal(Wal::Dump(args)) => wal_dump::run(&args, &context),
        Root::Wal(Wal::Repair(args)) => wal_repair::run(args, &context),
        Root::Wal(Wal::Verify(args)) => wal_verify::run(&args, &context),
        Root::Snap(Snap::Dump(args)) => snap_dump::run(&args, &context),
        Root::Bbolt(Bbolt::Check(args)) => bbolt_check::run(&args, &context),
        Root::Bbolt(Bbolt::Info(args)) => bbolt_info::run(&args, &context),
        Root::Bbolt(Bbolt::Buckets(args)) => bbolt_buckets::run(&args, &context),
        Root::Bbolt(Bbolt::Keys(args)) => bbolt_keys::run(&args, &context),
        Root::Bbolt(Bbolt::Get(args)) => bbolt_get::run(&args, &context),
        Root::Bbolt(Bbolt::Pages(args)) => bbolt_pages::run(&args, &context),
        Root::Bbolt(Bbolt::Page(args)) => bbolt_page::run(&args, &context),
        Root::Bbolt(Bbolt::PageItem(args)) => bbolt_page_item::run(&args, &context),
        Root::Bbolt(Bbolt::Dump(args)) => bbolt_dump::run(&args, &context),
        Root::Bbolt(Bbolt::Stats(args)) => bbolt_stats::run(&args, &context),
        Root::Bbolt(Bbolt::Inspect(args)) => bbolt_inspect::run(&args, &context),
        Root::Bbolt(Bbolt::Version(_)) => bbolt_version::run(&context),
        Root::Bbolt(Bbolt::Surgery(args)) => bbolt_surgery::run(*args, &context),
        Root::Kv(Kv::Delete(args)) => kv_delete::run(&args, &context),
        Root::Kv(Kv::Get(args)) => kv_get::run(&args, &context),
        Root::Kv(Kv::List(args)) => kv_list::run(&args, &context),
        Root::Kv(Kv::Diff(args)) => kv_diff::run(&args, &context),
        Root::Kv(Kv::Usage(args)) => kv_usage::run(&args, &context),
        Root::Lease(Lease::List(args)) => lease_list::run(&args, &context),
        Root::Auth(Auth::Show(args)) => auth_show::run(&args, &context),
        Root::Auth(Auth::Reset(args)) => auth_reset::run(&args, &context),
        Root::Alarm(Alarm::Disarm(args)) => alarm_disarm::run(&args, &context),
        Root::Alarm(Alarm::List(args)) => alarm_list::run(&args, &context),
        Root::Kv(Kv::History(args)) => kv_history::run(&args, &context),
        Root::Kv(Kv::Export(args)) => kv_export::run(&args, &context),
        Root::Inspect(args) => inspect::run(&args, &context),
        Root::Recover(args) => recover::run(*args, &context),
        Root::Salvage(args) => salvage::run(&args, &context),
        Root::ListBucket(args) => list_bucket::run(&args, &context),
        Root::IterateBucket(args) => iterate_bucket::run(&args, &context),
        Root::Hash(args) => hash::run(&args, &context),
        Root::HashKv(args) => hashkv::run(&args, &context),
        Root::ScanKeys(args) => scan_keys::run(&args, &context),
        Root::Bbolt(Bbolt::Compact(args)) => bbolt_compact::run(&args, &context),
        Root::Defrag(args) => defrag::run(&args, &context),
        Root::Backup(args) => backup::run(&args, &context),
        Root::Compact(args) => compact::run(&args, &context),
        Root::Migrate(args) => migrate::run(&args, &context),
        Root::Cluster(Cluster::ForceNew(args)) => cluster_force_new::run(&args, &context),
        Root::Member(Member::List(args)) => member_list::run(&args, &context),
        Root::Member(Member::Plan(args)) => member_plan::run(&args, &context),
        Root::Member(Member::Update(args)) => member_update::run(&args, &context),
        Root::Member(Member::Add(args)) => member_add::run(&args, &context),
        Root::Member(Member::Remove(args)) => member_remove::run(&args, &context),
        Root::Member(Member::Promote(args)) => member_promote::run(&args, &context),
        Root::V2(V2::List(args)) => v2_list::run(&args, &context),
        Root::V2(V2::Migrate(args)) => v2_migrate::run(&args, &context),
        Root::Compare(args) => compare::run(&args, &context),
        Root::Case(command) => case::run(&command, &context),
        Root::Verify(args) => verify::run(&args, &context),
        Root::Version(_) => version::run(&context),
        Root::Completion(args) => completion::run(&args),
        Root::Man(args) => man::run(&args),
    };
    context.watch.finish();
    outcome
}
