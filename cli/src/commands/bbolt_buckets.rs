//! `bbolt buckets`: the names of the top-level buckets.

use std::path::PathBuf;

use bbolt::render::bytes::ByteFormat;
use bbolt::render::keys::KeyOptions;
use clap::Args;

use super::{bbolt_file, bbolt_keys};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Prints the names of the top-level buckets
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt buckets /var/lib/etcd/member/snap/db")]
pub(crate) struct BucketsArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    input: PathBuf,
}

/// Prints the names.
///
/// # Errors
/// When the file has no valid meta, or stdout cannot be written.
pub(crate) fn run(args: &BucketsArgs, context: &Context) -> Result<Outcome, Failure> {
    let json = bbolt_file::is_json(context)?;
    let (input, notes) = context.open(&args.input)?;
    let db = bbolt_file::db(&input, &args.input)?;
    let outcome = Outcome { before: notes, ..Outcome::default() };
    let options = KeyOptions { json, format: ByteFormat::Bytes };
    bbolt_keys::print(&db, &db.root(), &[], options, outcome, context)
}
