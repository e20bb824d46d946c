//! `bbolt info`: the page size.

use clap::Args;
use serde::Serialize;

use super::bbolt_file::{self, PagesArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};

/// Prints the page size
///
/// Of a file without a valid meta it is the one for which most pages say where they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt info /var/lib/etcd/member/snap/db")]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    file: PagesArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InfoJson {
    page_size: u32,
}

/// Prints the page size.
///
/// # Errors
/// When the file cannot be read or is no file of pages.
pub(crate) fn run(args: &InfoArgs, context: &Context) -> Result<Outcome, Failure> {
    let (input, notes) = context.open(&args.file.input)?;
    let pages = args.file.pages(&input)?;
    let page_size = pages.page_size();
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    outcome.note_findings(&bbolt_file::meta_findings(&pages));
    if pages.is_page_size_guessed() {
        let text = "No meta says it: at this page size the pages are where they say they are.";
        outcome.before.push(Note::Prose(text.to_owned()));
    }
    outcome.result = match context.format {
        Format::Simple => format!("Page Size: {page_size}\n"),
        format => {
            let row = vec![Cell::new("page size", "PageSize", &page_size)];
            output::render(format, &[row], &InfoJson { page_size })?
        }
    };
    Ok(outcome)
}
