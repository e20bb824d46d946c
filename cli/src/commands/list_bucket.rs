//! `list-bucket`: the buckets of a db, as etcd-dump-db lists them.

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

/// Lists the buckets of a db
///
/// The output is that of etcd-dump-db; the file is only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue list-bucket /var/lib/etcd")]
pub(crate) struct ListBucketArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "PATH")]
    input: PathBuf,
}

#[derive(Serialize)]
struct ListJson {
    buckets: Vec<String>,
}

/// Lists the buckets.
///
/// # Errors
/// When the file cannot be read or has no valid meta.
pub(crate) fn run(args: &ListBucketArgs, context: &Context) -> Result<Outcome, Failure> {
    view::require_lines_or_json(context)?;
    let (input, notes) = context.open(&args.input)?;
    let pages = view::pages(&input)?;
    let listed = views::list(&pages).map_err(|error| view::failure(&error))?;
    let names = listed.names.iter().map(|name| shown(&String::from_utf8_lossy(name)));
    let result = if context.format == Format::Json {
        output::json(&ListJson { buckets: names.collect() })?
    } else {
        names.map(|name| name + "\n").collect()
    };
    let mut outcome = Outcome { before: notes, result, ..Outcome::default() };
    outcome.note_findings(&listed.seen.findings);
    view::note_more(&listed.seen, &mut outcome.before);
    Ok(outcome)
}
