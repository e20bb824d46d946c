//! `bbolt inspect`: the buckets and how many keys they have, as JSON.

use std::path::PathBuf;

use bbolt::Watch;
use bbolt::render::inspect;
use bbolt::survey::{SurveyOptions, survey};
use clap::Args;

use super::bbolt_file;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{self, Outcome};

/// Prints the tree of buckets as JSON
///
/// With -w json it stands on one line. Of a damaged file it is what can be come to.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt inspect /var/lib/etcd/member/snap/db")]
pub(crate) struct InspectArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    input: PathBuf,
}

/// Prints the tree.
///
/// # Errors
/// When the file has no valid meta, or stdout cannot be written.
pub(crate) fn run(args: &InspectArgs, context: &Context) -> Result<Outcome, Failure> {
    let one_line = bbolt_file::is_json(context)?;
    let (input, notes) = context.open(&args.input)?;
    let db = bbolt_file::db(&input, &args.input)?;
    let watch = context.watch.as_ref();
    watch.begin("counting", db.page_count().saturating_mul(u64::from(db.page_size())));
    let options = SurveyOptions { list_inline: true, ..SurveyOptions::default() };
    let survey = survey(&db, &options, watch).map_err(|_| bbolt_file::interrupted())?;
    context.watch.finish();
    outcome::tell(&notes, context.quiet);
    let mut outcome = Outcome::default();
    let written = bbolt_file::to_stdout_stoppable(watch, |out| inspect::write(out, &db, &survey, one_line))?;
    if written.is_none() {
        return Ok(outcome);
    }
    let mut findings = bbolt_file::db_meta_findings(&db);
    if !survey.is_whole {
        findings = bbolt_file::checked(&db, context)?.1;
    }
    outcome.note_findings_after(&findings);
    Ok(outcome)
}
