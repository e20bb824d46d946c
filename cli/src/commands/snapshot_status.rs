//! `snapshot status`: what etcdutl prints of a snapshot, and whether it can be trusted.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::integrity::{Integrity, Verdict};
use snapshot::status::{self, Status, StatusOptions, StatusReport};
use snapshot::structure::is_damaged;

use super::salvage;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Cell, Format};
use crate::verdict;

/// Tells hash, revision, number of keys, size and version of a snapshot, and whether it is sound
///
/// The output is that of etcdutl 3.7; the JSON has one more field, `integrity`. Unlike etcdutl this verifies the SHA-256 that
/// a snapshot carries and the structure of the database; what is wrong is listed on stderr, with exit code 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue --write-out=table snapshot status snapshot.db
  etcd-rescue snapshot status /var/lib/etcd")]
pub(crate) struct StatusArgs {
    /// A snapshot, a db file, a member dir or a data dir; files may be compressed (gzip, zstd, zip)
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// Do not compute the SHA-256
    #[arg(long)]
    skip_hash_check: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    status: &'a Status,
    integrity: Integrity,
}

#[derive(Serialize)]
struct DamagedJson<'a> {
    integrity: Integrity,
    findings: &'a [Finding],
}

/// Reads the status.
///
/// # Errors
/// When the input cannot be read, or is no database.
pub(crate) fn run(args: &StatusArgs, context: &Context) -> Result<Outcome, Failure> {
    let (input, notes) = context.open(&args.input)?;
    let options = StatusOptions { skip_hash_check: args.skip_hash_check };
    let report = status::status(&input, &options, context.watch.as_ref())?;
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    outcome.note_integrity(report.verdict.integrity, verdict::beside_findings(&report.verdict));
    outcome.note_findings(&report.findings);
    outcome.result = result(&report, context.format)?;
    if is_damaged(&report.findings) {
        outcome.after.push(salvage::hint(&args.input));
    }
    Ok(outcome)
}

fn result(report: &StatusReport, format: Format) -> Result<String, Failure> {
    let Verdict { integrity, .. } = report.verdict;
    let Some(status) = &report.status else {
        // What the other formats would show in place of the numbers would be taken for them.
        return match format {
            Format::Json => output::json(&DamagedJson { integrity, findings: &report.findings }),
            _ => Ok(String::new()),
        };
    };
    let row = vec![
        Cell::shown("hash", "Hash", &format!("{:x}", status.hash), &status.hash),
        Cell::new("revision", "Revision", &status.revision),
        Cell::new("total keys", "Keys", &status.total_key),
        Cell::shown("total size", "Size", &humanize::bytes(status.total_size), &status.total_size),
        Cell::new("version", "Version", &status.version),
    ];
    output::render(format, &[row], &Json { status, integrity })
}
