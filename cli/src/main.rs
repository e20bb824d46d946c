//! The `etcd-rescue` binary: arguments in, tables, JSON and progress out. What is done, the libraries do.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod context;
mod etcdctl_output;
mod exit;
mod interrupt;
mod leftovers;
mod next_steps;
mod outcome;
mod output;
mod owner;
mod page;
mod progress;
mod shown;
mod stream;
mod url;
mod values;
mod verdict;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse() {
        Ok(cli) => ExitCode::from(commands::run(cli)),
        Err(error) => ExitCode::from(exit::usage(&error)),
    }
}
