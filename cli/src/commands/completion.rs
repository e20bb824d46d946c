//! `completion`: completions for a shell.

use clap::Args;
use clap_complete::Shell;

use crate::args;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Prints completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  etcd-rescue completion bash > /etc/bash_completion.d/etcd-rescue")]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Makes the completions.
///
/// # Errors
/// None so far.
pub(crate) fn run(args: &CompletionArgs) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    let mut command = args::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    Ok(Outcome { result: String::from_utf8_lossy(&text).into_owned(), ..Outcome::default() })
}
