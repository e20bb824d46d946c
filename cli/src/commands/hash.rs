//! `hash`: the backend's hash, as etcd-dump-db prints it.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::views;

use super::view;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Format};
use crate::shown::shown;

/// Prints the hash of all buckets that a server of 3.6 or 3.7 would answer
///
/// The output is that of etcd-dump-db. It is not the hash that snapshot status prints: rows of bucket meta in which members may differ
/// are left out. The file is only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue hash /var/lib/etcd")]
pub(crate) struct HashArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "PATH")]
    input: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HashJson {
    db_path: String,
    hash: u32,
}

/// Prints the hash.
///
/// # Errors
/// When the file cannot be read, has no valid meta, or a page of it is damaged.
pub(crate) fn run(args: &HashArgs, context: &Context) -> Result<Outcome, Failure> {
    view::require_lines_or_json(context)?;
    let (input, notes) = context.open(&args.input)?;
    let failed = |text: String| Failure::failed(format!("{}: {text}", args.input.display()));
    let db = input.db().map_err(|error| failed(error.to_string()))?;
    let hash = views::hash(&db, context.watch.as_ref()).map_err(|error| failed(error.to_string()))?;
    let db_path = shown(&input.db_path().display().to_string());
    let result = if context.format == Format::Json {
        output::json(&HashJson { db_path, hash })?
    } else {
        format!("db path: {db_path}\nHash: {hash}\n")
    };
    Ok(Outcome { before: notes, result, ..Outcome::default() })
}
