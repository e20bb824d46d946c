//! `bbolt stats`: pages, keys and bytes of the buckets.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bbolt::survey::{SurveyOptions, survey};
use bbolt::{Stats, Watch};
use clap::Args;
use serde_json::json;

use super::bbolt_file;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Prints numbers of pages, keys and bytes
///
/// Of a damaged file they are those of what can be come to.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt stats /var/lib/etcd/member/snap/db
  etcd-rescue bbolt stats snapshot.db auth")]
pub(crate) struct StatsArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Only top-level buckets whose names begin so
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: OsString,
}

/// Prints the numbers.
///
/// # Errors
/// When the file has no valid meta, or the user asks to stop.
pub(crate) fn run(args: &StatsArgs, context: &Context) -> Result<Outcome, Failure> {
    let json = bbolt_file::is_json(context)?;
    let (input, notes) = context.open(&args.input)?;
    let db = bbolt_file::db(&input, &args.input)?;
    let watch = context.watch.as_ref();
    watch.begin("counting", db.page_count().saturating_mul(u64::from(db.page_size())));
    let options = SurveyOptions { prefix: args.prefix.clone().into_vec(), list_inline: false };
    let survey = survey(&db, &options, watch).map_err(|_| bbolt_file::interrupted())?;
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    let mut findings = bbolt_file::db_meta_findings(&db);
    if !survey.is_whole {
        findings = bbolt_file::checked(&db, context)?.1;
    }
    outcome.note_findings(&findings);
    let stats = Stats::new(&db, &survey);
    outcome.result = if json {
        let value = json!({
            "buckets": stats.top_level_buckets,
            "allBuckets": stats.buckets,
            "inlineBuckets": stats.inline_buckets,
            "inlineUsedBytes": stats.inline_used_bytes,
            "keys": stats.keys,
            "levels": stats.levels,
            "branchPages": stats.branch_pages,
            "branchOverflowPages": stats.branch_overflow_pages,
            "branchAllocatedBytes": stats.branch_allocated_bytes,
            "branchUsedBytes": stats.branch_used_bytes,
            "leafPages": stats.leaf_pages,
            "leafOverflowPages": stats.leaf_overflow_pages,
            "leafAllocatedBytes": stats.leaf_allocated_bytes,
            "leafUsedBytes": stats.leaf_used_bytes,
        });
        format!("{value}\n")
    } else {
        format!("{stats}\n")
    };
    Ok(outcome)
}
