//! `kv get`: a key or a range of keys at any kept revision, as etcdctl answers.

use std::path::PathBuf;

use clap::Args;

use super::kv_query::{self, QueryArgs};
use super::kv_range::RangeArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Gets the key or a range of keys, at any revision that is kept
///
/// The output is that of etcdctl asking a server that runs on this data, with -w simple, json, fields and protobuf. What a member's
/// log holds beyond its database is not in it; 'snapshot save' folds that into a snapshot.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue kv get /var/lib/etcd /registry/namespaces/default --rev 1200 --print-value-only
  etcd-rescue kv get snapshot.db --prefix /registry/pods/ --keys-only")]
pub(crate) struct GetArgs {
    /// A snapshot, a db file, a member dir or a data dir
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    #[command(flatten)]
    keys: RangeArgs,
    #[command(flatten)]
    query: QueryArgs,
}

/// Gets.
///
/// # Errors
/// When the flags contradict each other, the input cannot be read, or the revision is not kept.
pub(crate) fn run(args: &GetArgs, context: &Context) -> Result<Outcome, Failure> {
    kv_query::run(&args.input, args.keys.range()?, &args.query, context)
}
