//! `case`: evidence from many nodes in one file, and the questions it answers.

mod add;
mod at;
mod diff;
mod find;
mod findings;
mod key;
mod log;
mod new;
mod report;
mod rows;
mod seal;
mod sources;
mod timeline;
mod verify;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Failure;
use crate::next_steps::quoted_path;
use crate::outcome::Outcome;

/// The commands under `case`.
#[derive(Debug, Subcommand)]
pub(crate) enum CaseCommand {
    New(new::NewArgs),
    Add(add::AddArgs),
    Sources(sources::SourcesArgs),
    Findings(findings::FindingsArgs),
    Key(key::KeyArgs),
    Timeline(timeline::TimelineArgs),
    At(at::AtArgs),
    Diff(diff::DiffArgs),
    Find(find::FindArgs),
    Log(log::LogArgs),
    Report(report::ReportArgs),
    Seal(seal::SealArgs),
    Verify(verify::VerifyArgs),
}

/// Does it.
///
/// # Errors
/// When the case cannot be read or written, or a source cannot be read.
pub(crate) fn run(command: &CaseCommand, context: &Context) -> Result<Outcome, Failure> {
    match command {
        CaseCommand::New(args) => new::run(args, context),
        CaseCommand::Add(args) => add::run(args, context),
        CaseCommand::Sources(args) => sources::run(args, context),
        CaseCommand::Findings(args) => findings::run(args, context),
        CaseCommand::Key(args) => key::run(args, context),
        CaseCommand::Timeline(args) => timeline::run(args, context),
        CaseCommand::At(args) => at::run(args, context),
        CaseCommand::Diff(args) => diff::run(args, context),
        CaseCommand::Find(args) => find::run(args, context),
        CaseCommand::Log(args) => log::run(args, context),
        CaseCommand::Report(args) => report::run(args, context),
        CaseCommand::Seal(args) => seal::run(args, context),
        CaseCommand::Verify(args) => verify::run(args, context),
    }
}

/// The command line as it was given, for the custody of a case; the program under the name it is known by.
fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| quoted_path(Path::new(&word)));
    std::iter::once("etcd-rescue".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The path of a file of a source, as a person finds it: the source's own where it is that file.
fn file_of(source: &casefile::Source, file: Option<usize>) -> Option<&str> {
    file.and_then(|at| source.files.get(at)).map(|file| file.path.as_str())
}

/// The case that a command is about.
#[derive(Debug, clap::Args)]
struct CaseFile {
    /// The case file
    #[arg(value_name = "CASE")]
    case: PathBuf,
}

impl CaseFile {
    fn open(&self) -> Result<casefile::Case, Failure> {
        Ok(casefile::Case::open(&self.case)?)
    }
}
