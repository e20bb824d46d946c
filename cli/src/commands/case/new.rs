//! `case new`: an empty case.

use clap::Args;
use serde::Serialize;

use super::{CaseFile, rows};
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell};
use crate::shown::shown;

/// Makes an empty case file
///
/// A case holds what stands where in any number of data dirs, databases, snapshots and logs, each with the hash of its file, and answers
/// questions about all of them at once. It is one file that can be copied to another desk.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case new incident.case")]
pub(crate) struct NewArgs {
    #[command(flatten)]
    file: CaseFile,
    /// Remove what earlier, killed runs left at the same place
    #[arg(long)]
    clean: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    path: &'a str,
    schema: u32,
}

/// Makes it.
///
/// # Errors
/// When something is there, or it cannot be written.
pub(super) fn run(args: &NewArgs, context: &Context) -> Result<Outcome, Failure> {
    let left = Leftovers::sweep(&args.file.case, args.clean)?;
    casefile::Case::create(&args.file.case, &super::command_line())?;
    let path = shown(&args.file.case.display().to_string());
    let row = vec![
        Cell::new("case", "Case", &path),
        rows::named("schema", "Schema", context.format, "schema", casefile::SCHEMA_VERSION),
    ];
    let json = Json { path: &path, schema: casefile::SCHEMA_VERSION };
    let mut outcome = Outcome {
        result: output::render(context.format, &[row], &json)?,
        before: left.notes().collect(),
        ..Outcome::default()
    };
    outcome.after.push(Note::Prose(format!("An empty case. Next: etcd-rescue case add {path} NAME=PATH...")));
    Ok(outcome)
}
