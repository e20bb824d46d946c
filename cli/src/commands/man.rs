//! `man`: the manual.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man;

use crate::args;
use crate::exit::Failure;
use crate::outcome::Outcome;

/// Prints the manual page, or writes one for each command
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  etcd-rescue man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Where the pages go [default: the main page goes to stdout]
    dir: Option<PathBuf>,
}

/// Makes the pages.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn run(args: &ManArgs) -> Result<Outcome, Failure> {
    let mut result = String::new();
    match &args.dir {
        None => {
            let mut page = Vec::new();
            Man::new(args::command())
                .render(&mut page)
                .map_err(|error| Failure::failed(format!("making the manual page: {error}")))?;
            result = String::from_utf8_lossy(&page).into_owned();
        }
        Some(dir) => {
            let written =
                fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(args::command(), dir));
            written.map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
            result += &format!("{}\n", dir.display());
        }
    }
    Ok(Outcome { result, ..Outcome::default() })
}
