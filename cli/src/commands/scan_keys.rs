//! `scan-keys`: the revisions on all pages of a db, as etcd-dump-db prints them.

use std::path::PathBuf;

use clap::Args;
use snapshot::views::{self, ScanOptions};

use super::view;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};

/// Prints the revisions on all pages of a db, also on those that are not in use any more
///
/// The output is that of etcd-dump-db 3.6, page by page. No tree is followed, so it does not matter which are broken; without a valid
/// meta all pages of the file are looked at. With -w json each record says whether its page is still in use. What is broken is marked
/// where it stands. The file is only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue scan-keys /var/lib/etcd 70
  etcd-rescue scan-keys broken.db 0 -w json | jq 'select(.reachable | not)'")]
pub(crate) struct ScanKeysArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "PATH")]
    input: PathBuf,
    /// The first revision printed; 0 for all
    #[arg(value_name = "START_REV", allow_negative_numbers = true)]
    start_revision: i64,
    /// Length of a page in bytes, where the file does not say it
    #[arg(long, value_name = "BYTES")]
    page_size: Option<u32>,
}

/// Prints the revisions.
///
/// # Errors
/// When the file cannot be read or is no bbolt file, or stdout cannot be written.
pub(crate) fn run(args: &ScanKeysArgs, context: &Context) -> Result<Outcome, Failure> {
    let form = view::require_lines_or_json(context)?;
    let (input, notes) = context.open(&args.input)?;
    let pages = view::pages_of_size(&input, args.page_size)?;
    let options = ScanOptions { form, start_revision: args.start_revision };
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    let scanned = view::stream(context, |out, watch| views::scan(&pages, &options, out, watch))?;
    if let Some(scanned) = scanned {
        if scanned.others > 0 {
            let text = format!(
                "{} elements on leaves are no revisions: rows of other buckets, or remains of them.",
                scanned.others
            );
            outcome.after.push(Note::Prose(text));
        }
        if scanned.remains > 0 {
            let text = format!(
                "{} marks are of pages not in use, where old bytes may be overwritten in part: no fault of the file.",
                scanned.remains
            );
            outcome.after.push(Note::Prose(text));
        }
        view::note(&scanned.seen, &mut outcome);
    }
    Ok(outcome)
}
