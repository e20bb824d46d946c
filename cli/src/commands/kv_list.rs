//! `kv list`: all keys, or those with a prefix, at any kept revision.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::Args;
use snapshot::mvcc::KeyRange;

use super::kv_query::{self, QueryArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Lists the keys with a prefix and their values, or all of them, at any revision that is kept
///
/// This is what `kv get --prefix` prints, and what `etcdctl get --prefix` would print of a server that runs on this data.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue kv list /var/lib/etcd --keys-only
  etcd-rescue kv list snapshot.db /registry/pods/ --rev 1200 -w json")]
pub(crate) struct ListArgs {
    /// A snapshot, a db file, a member dir or a data dir
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// What the keys begin with [default: all keys]
    #[arg(value_name = "PREFIX")]
    prefix: Option<OsString>,
    #[command(flatten)]
    query: QueryArgs,
}

/// Lists.
///
/// # Errors
/// When the input cannot be read, or the revision is not kept.
pub(crate) fn run(args: &ListArgs, context: &Context) -> Result<Outcome, Failure> {
    let prefix = args.prefix.clone().unwrap_or_default().into_vec();
    kv_query::run(&args.input, KeyRange::prefix(&prefix), &args.query, context)
}
