//! The real bbolt tool. It reads without writing, but for `surgery`, `compact` and `bench`; of a damaged file it may make
//! anything, so it is given copies.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use super::tools::{Run, bare_command, installed};

/// The program, as `scripts/install-oracles.sh` built it.
#[derive(Clone, Debug)]
pub struct Bbolt {
    dir: PathBuf,
}

impl Bbolt {
    /// Finds the program. Panics when it is missing: an oracle test without its oracle fails.
    pub fn find() -> Self {
        Self { dir: installed("bbolt", &["bbolt"]) }
    }

    /// The release, e.g. `1.4.3`, as recorded by the install script.
    pub fn release(&self) -> String {
        let file = self.dir.join("VERSION");
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().to_owned()
    }

    /// Runs the tool to its end. Its panics are ends too: exit code 2 and a trace on stderr.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let mut command = self.command();
        command.args(args);
        Run::to_end(command)
    }

    /// The tool without arguments, for whoever runs it within bounds of its own.
    pub fn command(&self) -> Command {
        bare_command(self.dir.join("bbolt"))
    }
}
