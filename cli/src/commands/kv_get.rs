//! `kv get`: a key or a range of keys at any kept revision, as etcdctl answers.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::Args;
use snapshot::mvcc::KeyRange;

use super::kv_query::{self, QueryArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Gets the key or a range of keys, at any revision that is kept
///
/// The output is that of etcdctl asking a server that runs on this data, with -w simple, json, fields and protobuf. What a member's
/// log holds beyond its database is not in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue kv get /var/lib/etcd /registry/namespaces/default --rev 1200 --print-value-only
  etcd-rescue kv get snapshot.db --prefix /registry/pods/ --keys-only")]
pub(crate) struct GetArgs {
    /// A snapshot, a db file, a member dir or a data dir
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// The key, or the first of a range
    // Not called `key`: clap would take it for etcdctl's flag of that name.
    #[arg(value_name = "KEY")]
    first_key: OsString,
    /// The first key beyond the range
    #[arg(value_name = "RANGE_END")]
    end: Option<OsString>,
    /// The first key beyond the range, where it is not given as an argument
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, conflicts_with = "end")]
    range_end: Option<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// All keys from KEY on
    #[arg(long)]
    from_key: bool,
    #[command(flatten)]
    query: QueryArgs,
}

/// Gets.
///
/// # Errors
/// When the flags contradict each other, the input cannot be read, or the revision is not kept.
pub(crate) fn run(args: &GetArgs, context: &Context) -> Result<Outcome, Failure> {
    if args.prefix && args.from_key {
        return Err(Failure::usage("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    let end = args.end.as_ref().or(args.range_end.as_ref());
    if end.is_some() && (args.prefix || args.from_key) {
        return Err(Failure::usage(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    let key = args.first_key.clone().into_vec();
    let range = match end {
        _ if args.prefix => KeyRange::prefix(&key),
        _ if args.from_key && key.is_empty() => KeyRange::prefix(&[]),
        _ if args.from_key => KeyRange::from_key(&key),
        _ if key.is_empty() => return Err(Failure::failed("etcdserver: key is not provided")),
        Some(end) => KeyRange::between(&key, end.as_bytes()),
        None => KeyRange::single(&key),
    };
    kv_query::run(&args.input, range, &args.query, context)
}
