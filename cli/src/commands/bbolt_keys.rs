//! `bbolt keys`: the keys of one bucket.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bbolt::render::bytes::ByteFormat;
use bbolt::render::keys::{self, KeyOptions};
use bbolt::{Bucket, Db, Source};
use clap::Args;

use super::bbolt_file;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{self, Outcome};

/// Prints the keys of a bucket
///
/// With -w json each key is an object on a line of its own. Of a damaged bucket the keys are printed that can be come to.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt keys /var/lib/etcd/member/snap/db key
  etcd-rescue bbolt keys app.db outer inner --format hex")]
pub(crate) struct KeysArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// The bucket's name, after those of the buckets it lies in
    #[arg(value_name = "BUCKET", required = true)]
    buckets: Vec<OsString>,
    /// How keys are shown: auto|ascii-encoded|hex|bytes|redacted
    #[arg(short, long, value_name = "FORMAT", default_value = "auto")]
    format: ByteFormat,
}

/// Prints the keys.
///
/// # Errors
/// When there is no such bucket, the file has no valid meta, or stdout cannot be written.
pub(crate) fn run(args: &KeysArgs, context: &Context) -> Result<Outcome, Failure> {
    let json = bbolt_file::is_json(context)?;
    let (input, notes) = context.open(&args.input)?;
    let db = bbolt_file::db(&input, &args.input)?;
    let names: Vec<Vec<u8>> = args.buckets.iter().cloned().map(OsString::into_vec).collect();
    let bucket = bbolt_file::bucket(&db, &names, context)?;
    let outcome = Outcome { before: notes, ..Outcome::default() };
    print(&db, &bucket, &names, KeyOptions { json, format: args.format }, outcome, context)
}

/// Prints the keys of `bucket`, whose names are `names`.
///
/// # Errors
/// When stdout cannot be written, or the user asks to stop.
pub(crate) fn print<S: Source>(
    db: &Db<S>,
    bucket: &Bucket<'_, S>,
    names: &[Vec<u8>],
    options: KeyOptions,
    mut outcome: Outcome,
    context: &Context,
) -> Result<Outcome, Failure> {
    outcome::tell(&outcome.before, context.quiet);
    outcome.before.clear();
    let watch = context.watch.as_ref();
    let written = bbolt_file::to_stdout(|mut out| keys::write(bucket, options, &mut out, watch))?;
    let Some(shown) = written else { return Ok(outcome) };
    let mut findings = bbolt_file::db_meta_findings(db);
    if !shown.is_whole || !shown.faults.is_empty() {
        let (report, all) = bbolt_file::checked(db, context)?;
        // Those of the bucket alone, where there are any.
        let here = report.findings.iter().zip(&all).filter(|(found, _)| found.bucket == names);
        let here: Vec<_> = here.map(|(_, finding)| finding.clone()).collect();
        findings.extend(if here.is_empty() { all } else { here });
    }
    outcome.note_findings_after(&findings);
    Ok(outcome)
}
