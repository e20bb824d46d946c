//! `case seal`: a manifest of a case, and its hash.

use casefile::SealOptions;
use clap::Args;

use super::CaseFile;
use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};

/// Seals a case: puts a manifest of all hashes and commands into it, and tells the SHA-256 of the manifest
///
/// Note that SHA-256 somewhere else: whoever has it can tell with 'case verify' that the case, and what it is about, are what they were. With -w
/// json the manifest itself is printed, byte for byte: its SHA-256 is the seal. Nothing is read from a clock; a time that matters is for --note.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case seal incident.case --examiner 'A. Example' --note '2 May 2026, 14:10 UTC, desk 3'
  etcd-rescue case seal incident.case -w json | tee manifest.json | sha256sum")]
pub(crate) struct SealArgs {
    #[command(flatten)]
    file: CaseFile,
    /// Who seals it, for the record
    #[arg(long, value_name = "TEXT")]
    examiner: Option<String>,
    /// What is to be known of it, for the record
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Remove what earlier, killed runs left at the same place
    #[arg(long)]
    clean: bool,
}

/// Seals it.
///
/// # Errors
/// When the case cannot be read or written.
pub(super) fn run(args: &SealArgs, context: &Context) -> Result<Outcome, Failure> {
    let options = SealOptions {
        examiner: args.examiner.clone(),
        note: args.note.clone(),
        command: super::command_line(),
    };
    let case = args.file.to_change()?;
    let left = Leftovers::sweep(&case, args.clean)?;
    let seal = casefile::seal(&case, &options, context.watch.as_ref())?;
    context.watch.finish();
    let digest = seal.digest.clone();
    let result = match context.format {
        Format::Json => seal.manifest,
        format => output::render(format, &[vec![Cell::new("seal", "Seal", &digest)]], &())?,
    };
    let mut outcome = Outcome { result, before: left.notes().collect(), ..Outcome::default() };
    outcome
        .after
        .push(Note::Prose(format!("Sealed: the manifest's SHA-256 is {digest}. Keep it elsewhere too.")));
    Ok(outcome)
}
