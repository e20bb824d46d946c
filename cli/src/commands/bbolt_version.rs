//! `bbolt version`: which bbolt tool these commands print like.

use clap::Args;
use serde_json::json;

use super::bbolt_file;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// The version of the bbolt tool whose output is printed.
const BBOLT_VERSION: &str = "1.5.0";

/// Prints which bbolt's output these commands print
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  etcd-rescue bbolt version")]
pub(crate) struct VersionArgs {}

/// Tells the version.
///
/// # Errors
/// For an output format that is neither lines nor JSON.
pub(crate) fn run(context: &Context) -> Result<Outcome, Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let result = if bbolt_file::is_json(context)? {
        format!("{}\n", json!({ "bbolt": BBOLT_VERSION, "etcdRescue": own }))
    } else {
        format!("bbolt Version: {BBOLT_VERSION}\netcd-rescue Version: {own}\n")
    };
    Ok(Outcome { result, ..Outcome::default() })
}
