//! The command line as a whole: global flags, etcdctl's connection flags, the commands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{Error as ClapError, ErrorKind};
use clap::{ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands::{
    alarm_disarm, alarm_list, auth_reset, auth_show, backup, bbolt_buckets, bbolt_check, bbolt_compact,
    bbolt_dump, bbolt_get, bbolt_info, bbolt_inspect, bbolt_keys, bbolt_page, bbolt_page_item, bbolt_pages,
    bbolt_stats, bbolt_surgery, bbolt_version, case, cluster_force_new, compact, compare, completion, defrag,
    hash, hashkv, inspect, iterate_bucket, kv_delete, kv_diff, kv_export, kv_get, kv_history, kv_list,
    kv_usage, lease_list, list_bucket, man, member_add, member_list, member_plan, member_promote,
    member_remove, member_update, migrate, recover, salvage, scan_keys, snap_dump, snapshot_hash,
    snapshot_restore, snapshot_save, snapshot_status, v2_list, v2_migrate, verify, version, wal_dump,
    wal_repair, wal_verify,
};
use crate::output::Format;
use crate::values;

/// Widest help text, in columns.
const HELP_COLUMNS: usize = 100;

/// Opens, checks and restores etcd data from the files alone
///
/// No server and no network are needed, and inputs are never changed. Commands and flags that etcdutl and etcdctl have
/// mean here what they mean there.
///
/// Exit codes: 0 done and clean; 1 could not do it; 2 usage; 3 done, and the data has findings; 4 refused.
#[derive(Debug, Parser)]
#[command(name = "etcd-rescue", version, propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Example:
  etcd-rescue snapshot restore snapshot.db --all-members -o restored \\
    --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(subcommand)]
    pub(crate) command: Root,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Root {
    Inspect(inspect::InspectArgs),
    Recover(Box<recover::RecoverArgs>),
    Salvage(Box<salvage::SalvageArgs>),
    /// Looks into, makes and restores snapshots
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Snapshot(Snapshot),
    /// Reads and verifies the log
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Wal(Wal),
    /// Looks into the .snap files beside a database
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Snap(Snap),
    /// Looks into, checks and mends bbolt files of any kind, as the bbolt tool does
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Bbolt(Bbolt),
    /// Reads the versioned keys, at any revision that is kept
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Kv(Kv),
    /// Lists leases and the keys that hang on them
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Lease(Lease),
    /// Shows users and roles, and gets back in
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Auth(Auth),
    /// Lists and takes away the alarms that keep a cluster from taking writes
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Alarm(Alarm),
    /// Changes who belongs to a cluster
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Cluster(Cluster),
    /// Lists the members of a cluster and where they live, and changes that
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Member(Member),
    /// Lists the keys of the v2 API, and moves them to the v3 API
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    V2(V2),
    Verify(verify::VerifyArgs),
    Compare(compare::CompareArgs),
    /// Keeps what many nodes hold in one file, answers questions about it, and writes a report
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Case(Box<case::CaseCommand>),
    ListBucket(list_bucket::ListBucketArgs),
    IterateBucket(iterate_bucket::IterateBucketArgs),
    Hash(hash::HashArgs),
    #[command(name = "hashkv")]
    HashKv(hashkv::HashKvArgs),
    ScanKeys(scan_keys::ScanKeysArgs),
    Defrag(defrag::DefragArgs),
    Backup(backup::BackupArgs),
    Compact(compact::CompactArgs),
    Migrate(migrate::MigrateArgs),
    Completion(completion::CompletionArgs),
    Man(man::ManArgs),
    Version(version::VersionArgs),
}

/// The commands under `snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    Status(snapshot_status::StatusArgs),
    Restore(Box<snapshot_restore::RestoreArgs>),
    Save(snapshot_save::SaveArgs),
    Hash(snapshot_hash::HashArgs),
}

/// The commands under `wal`.
#[derive(Debug, Subcommand)]
pub(crate) enum Wal {
    Dump(Box<wal_dump::DumpArgs>),
    Verify(wal_verify::VerifyArgs),
    Repair(wal_repair::RepairArgs),
}

/// The commands under `snap`.
#[derive(Debug, Subcommand)]
pub(crate) enum Snap {
    Dump(snap_dump::DumpArgs),
}

/// The commands under `kv`.
#[derive(Debug, Subcommand)]
pub(crate) enum Kv {
    Get(Box<kv_get::GetArgs>),
    List(Box<kv_list::ListArgs>),
    Delete(Box<kv_delete::DeleteArgs>),
    Usage(kv_usage::UsageArgs),
    History(kv_history::HistoryArgs),
    Export(Box<kv_export::ExportArgs>),
    Diff(kv_diff::DiffArgs),
}

/// The commands under `lease`.
#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    List(lease_list::ListArgs),
}

/// The commands under `auth`.
#[derive(Debug, Subcommand)]
pub(crate) enum Auth {
    Show(auth_show::ShowArgs),
    Reset(auth_reset::ResetArgs),
}

/// The commands under `alarm`.
#[derive(Debug, Subcommand)]
pub(crate) enum Alarm {
    List(alarm_list::ListArgs),
    Disarm(alarm_disarm::DisarmArgs),
}

/// The commands under `cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    ForceNew(cluster_force_new::ForceNewArgs),
}

/// The commands under `member`.
#[derive(Debug, Subcommand)]
pub(crate) enum Member {
    List(member_list::ListArgs),
    Plan(member_plan::PlanArgs),
    Update(member_update::UpdateArgs),
    Add(member_add::AddArgs),
    Remove(member_remove::RemoveArgs),
    Promote(member_promote::PromoteArgs),
}

/// The commands under `v2`.
#[derive(Debug, Subcommand)]
pub(crate) enum V2 {
    List(v2_list::ListArgs),
    Migrate(v2_migrate::MigrateArgs),
}

/// The commands under `bbolt`.
#[derive(Debug, Subcommand)]
pub(crate) enum Bbolt {
    Check(bbolt_check::CheckArgs),
    Info(bbolt_info::InfoArgs),
    Buckets(bbolt_buckets::BucketsArgs),
    Keys(bbolt_keys::KeysArgs),
    Get(bbolt_get::GetArgs),
    Pages(bbolt_pages::PagesCommand),
    Page(bbolt_page::PageArgs),
    PageItem(bbolt_page_item::PageItemArgs),
    Dump(bbolt_dump::DumpArgs),
    Stats(bbolt_stats::StatsArgs),
    Inspect(bbolt_inspect::InspectArgs),
    Version(bbolt_version::VersionArgs),
    /// Edits single pages, always in a copy, which is checked
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Surgery(Box<bbolt_surgery::Surgery>),
    Compact(bbolt_compact::CompactArgs),
}

/// Flags every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// How the result is printed [protobuf: only where etcdctl has it]
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "simple", ignore_case = false)]
    pub(crate) write_out: Format,
    /// How long to wait for the lock a running etcd holds; 0 waits for ever
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    /// Read without a lock: read-only media, file systems without locks
    #[arg(long, global = true)]
    pub(crate) no_lock: bool,
    /// How files are read; pread for dying disks
    #[arg(long, global = true, value_name = "HOW", default_value = "mmap")]
    pub(crate) io: IoArg,
    /// Where compressed input is unpacked, to a file without a name [default: the system's]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) tmp_dir: Option<PathBuf>,
    /// No progress and no story on stderr: only warnings, findings and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log on stderr from this level on
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    pub(crate) log_level: LogLevel,
}

/// `--io`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum IoArg {
    /// Mapped into memory.
    Mmap,
    /// Read piece by piece.
    Pread,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    /// Everything.
    Debug,
    /// What is going on.
    Info,
    /// What looks wrong.
    Warn,
    /// What is wrong.
    Error,
}

/// The connection flags of etcdctl 3.4 to 3.7, and those of its version 2, which restore runbooks carry. They change
/// nothing.
#[derive(Debug, Args)]
#[command(next_help_heading = "Flags of etcdctl that are accepted and ignored, with a warning")]
pub(crate) struct ConnectionArgs {
    /// Servers to connect to
    #[arg(long, global = true, hide_short_help = true, value_name = "URLS", allow_hyphen_values = true)]
    endpoints: Option<String>,
    /// The CA bundle for servers' certificates
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", allow_hyphen_values = true)]
    cacert: Option<String>,
    /// The client's certificate
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", allow_hyphen_values = true)]
    cert: Option<String>,
    /// The client's key
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", allow_hyphen_values = true)]
    key: Option<OsString>,
    /// User name and password
    #[arg(long, global = true, hide_short_help = true, value_name = "USER", allow_hyphen_values = true)]
    user: Option<String>,
    /// Password
    #[arg(long, global = true, hide_short_help = true, value_name = "PASSWORD", allow_hyphen_values = true)]
    password: Option<String>,
    /// Token of a user
    #[arg(long, global = true, hide_short_help = true, value_name = "TOKEN", allow_hyphen_values = true)]
    auth_jwt_token: Option<String>,
    /// No check of the server's certificate
    #[arg(long, global = true, hide_short_help = true)]
    insecure_skip_tls_verify: bool,
    /// No TLS
    #[arg(long, global = true, hide_short_help = true)]
    insecure_transport: bool,
    /// SRV records that may be insecure
    #[arg(long, global = true, hide_short_help = true)]
    insecure_discovery: bool,
    /// Domain whose SRV records name the endpoints
    #[arg(short = 'd', long, global = true, hide_short_help = true, value_name = "DOMAIN")]
    #[arg(allow_hyphen_values = true)]
    discovery_srv: Option<String>,
    /// Service name in those records
    #[arg(long, global = true, hide_short_help = true, value_name = "NAME", allow_hyphen_values = true)]
    discovery_srv_name: Option<String>,
    /// Time to connect
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", allow_hyphen_values = true)]
    dial_timeout: Option<String>,
    /// Time for a command
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", allow_hyphen_values = true)]
    command_timeout: Option<String>,
    /// Time between keep-alives
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", allow_hyphen_values = true)]
    keepalive_time: Option<String>,
    /// Time for a keep-alive
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", allow_hyphen_values = true)]
    keepalive_timeout: Option<String>,
    /// Longest request
    #[arg(long, global = true, hide_short_help = true, value_name = "BYTES", allow_hyphen_values = true)]
    max_request_bytes: Option<String>,
    /// Longest answer
    #[arg(long, global = true, hide_short_help = true, value_name = "BYTES", allow_hyphen_values = true)]
    max_recv_bytes: Option<String>,
    /// Byte strings in hexadecimal
    #[arg(long, global = true, hide_short_help = true)]
    hex: bool,
    /// The client's own log
    #[arg(long, global = true, hide_short_help = true)]
    debug: bool,
    /// The CA bundle for servers' certificates, as etcdctl 2 called it
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", allow_hyphen_values = true)]
    ca_file: Option<String>,
    /// The client's certificate, as etcdctl 2 called it
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", allow_hyphen_values = true)]
    cert_file: Option<String>,
    /// The client's key, as etcdctl 2 called it
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", allow_hyphen_values = true)]
    key_file: Option<String>,
    /// No look for further servers, in etcdctl 2
    #[arg(long, global = true, hide_short_help = true)]
    no_sync: bool,
    /// Time for a command, as etcdctl 2 called it
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", allow_hyphen_values = true)]
    total_timeout: Option<String>,
}

impl ConnectionArgs {
    /// The flags that were given and mean nothing to `command`, as the user knows them. A switch given as `false` counts as
    /// not given.
    pub(crate) fn given(&self, command: &Root) -> Vec<&'static str> {
        let own_key = matches!(command, Root::Wal(Wal::Dump(_)));
        let own_hex = matches!(command, Root::Kv(Kv::Get(_) | Kv::List(_)) | Root::Member(Member::List(_)));
        let own_user = matches!(command, Root::Auth(Auth::Reset(_)));
        let own_no_sync = matches!(command, Root::Bbolt(Bbolt::Compact(_)));
        let flags = [
            ("--endpoints", self.endpoints.is_some()),
            ("--cacert", self.cacert.is_some()),
            ("--cert", self.cert.is_some()),
            ("--key", self.key.is_some() && !own_key),
            ("--user", self.user.is_some() && !own_user),
            ("--password", self.password.is_some()),
            ("--auth-jwt-token", self.auth_jwt_token.is_some()),
            ("--insecure-skip-tls-verify", self.insecure_skip_tls_verify),
            ("--insecure-transport", self.insecure_transport),
            ("--insecure-discovery", self.insecure_discovery),
            ("--discovery-srv", self.discovery_srv.is_some()),
            ("--discovery-srv-name", self.discovery_srv_name.is_some()),
            ("--dial-timeout", self.dial_timeout.is_some()),
            ("--command-timeout", self.command_timeout.is_some()),
            ("--keepalive-time", self.keepalive_time.is_some()),
            ("--keepalive-timeout", self.keepalive_timeout.is_some()),
            ("--max-request-bytes", self.max_request_bytes.is_some()),
            ("--max-recv-bytes", self.max_recv_bytes.is_some()),
            ("--hex", self.hex && !own_hex),
            ("--debug", self.debug),
            ("--ca-file", self.ca_file.is_some()),
            ("--cert-file", self.cert_file.is_some()),
            ("--key-file", self.key_file.is_some()),
            ("--no-sync", self.no_sync && !own_no_sync),
            ("--total-timeout", self.total_timeout.is_some()),
        ];
        flags.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }
}

impl Root {
    /// True when the command can print its result as protobuf, as etcdctl does.
    pub(crate) const fn has_protobuf(&self) -> bool {
        matches!(self, Self::Kv(Kv::Get(_) | Kv::List(_)) | Self::Member(Member::List(_)))
    }
}

/// The one definition that parsing, help, completions and man pages are made from.
pub(crate) fn command() -> Command {
    as_pflag(Cli::command()).max_term_width(HELP_COLUMNS)
}

/// Parses this process's arguments. `--version`, wherever it stands, is the command `version`.
///
/// # Errors
/// Help is an "error" too; all of them print themselves.
pub(crate) fn parse() -> Result<Cli, ClapError> {
    let mut command = command();
    let mut matches = match command.try_get_matches_from_mut(go_dashes(std::env::args_os())) {
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            command.try_get_matches_from_mut(["etcd-rescue", "version"])?
        }
        matches => matches?,
    };
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The flags of etcd-dump-logs, which Go's flag package takes with one dash as with two.
const DUMP_LOGS_FLAGS: [&str; 7] =
    ["start-snap", "start-index", "end-index", "entry-type", "stream-decoder", "wal-dir", "raw"];
/// The flags of `wal dump` whose value may begin with a dash.
const WITH_ANY_VALUE: [&str; 2] = ["--key", "--prefix"];

/// The arguments with two dashes where, behind `wal dump`, a flag of etcd-dump-logs has one. No short flag is among them, so
/// nothing else could be meant.
fn go_dashes(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
    let mut behind_dump = false;
    let mut literal = false;
    for arg in args {
        let before = out.last().and_then(|arg| arg.to_str());
        behind_dump |= before == Some("wal") && arg == "dump";
        literal |= arg == "--";
        let is_value = before.is_some_and(|before| WITH_ANY_VALUE.contains(&before));
        let text = arg.to_str().filter(|_| behind_dump && !literal && !is_value);
        let flag = text.and_then(|text| text.strip_prefix('-'));
        let known = flag.is_some_and(|flag| {
            let name = flag.split_once('=').map_or(flag, |(name, _)| name);
            DUMP_LOGS_FLAGS.contains(&name)
        });
        match flag {
            Some(flag) if known => out.push(format!("--{flag}").into()),
            _ => out.push(arg),
        }
    }
    out
}

/// What Go's flag package allows and clap does not: `--switch=true`, and a flag given twice, where the last one wins.
fn as_pflag(command: Command) -> Command {
    command
        .args_override_self(true)
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .hide_default_value(true)
                .value_name("BOOL")
                .value_parser(values::switch),
            _ => arg,
        })
        .mut_subcommands(as_pflag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dash_is_two_for_the_flags_of_etcd_dump_logs() {
        let dashes = |line: &str| {
            let args = go_dashes(line.split(' ').map(OsString::from));
            args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            dashes("etcd-rescue wal dump -start-index 5 -raw=true -w json dir"),
            "etcd-rescue wal dump --start-index 5 --raw=true -w json dir"
        );
        for unchanged in [
            "etcd-rescue snapshot status -raw",
            "etcd-rescue wal verify -raw",
            "etcd-rescue wal dump --key -raw dir",
            "etcd-rescue wal dump -- -raw",
            "etcd-rescue wal dump -x -rawer --raw",
        ] {
            assert_eq!(dashes(unchanged), unchanged);
        }
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }
}
