//! `bbolt info`: the page size.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Format};
use crate::stream;

/// Prints the page size
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt info /var/lib/etcd/member/snap/db")]
pub(crate) struct InfoArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    input: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InfoJson {
    page_size: u32,
}

/// Prints the page size.
///
/// # Errors
/// When the file cannot be read or has no valid meta.
pub(crate) fn run(args: &InfoArgs, context: &Context) -> Result<Outcome, Failure> {
    let (input, notes) = context.open(&args.input)?;
    let page_size = input
        .db()
        .map_err(|error| Failure::failed(format!("{}: {error}", args.input.display())))?
        .page_size();
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    if context.format == Format::Json {
        outcome.result = output::json(&InfoJson { page_size })?;
    } else {
        stream::to_stdout(|out| writeln!(out, "Page Size: {page_size}"))?;
    }
    Ok(outcome)
}
