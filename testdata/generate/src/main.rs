//! The generator's command line: arguments in, facts out.
#![forbid(unsafe_code)]

mod args;
mod progress;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use generate::GenerateError;
use serde::Serialize;

use args::{Args, Format};
use progress::Progress;

/// It could not be done.
const FAILED: u8 = 1;
/// The arguments make no sense.
const USAGE: u8 = 2;

/// What was written, for people and programs.
#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    db: Option<generate::Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<generate::LogFacts>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let shape = match args.shape() {
        Ok(shape) => shape,
        Err(message) => return fail(&message, USAGE),
    };
    let progress = match Progress::listen(args.quiet) {
        Ok(progress) => progress,
        Err(error) => return fail(&format!("cannot listen for signals: {error}"), FAILED),
    };
    let outcome = run(&args, &shape, &progress);
    progress.finish();
    match outcome {
        Ok(report) => show(&report, args.format),
        Err(error) if error.is_usage() => fail(&error.to_string(), USAGE),
        Err(error) => fail(&error.to_string(), progress.exit_code().unwrap_or(FAILED)),
    }
}

fn run(args: &Args, shape: &generate::Shape, progress: &Progress) -> Result<Report, GenerateError> {
    let outputs = args.outputs();
    for path in outputs.leftovers()? {
        // Nobody is left to hear that standard error cannot be written.
        let _written = writeln!(
            io::stderr(),
            "warning: {} is what an earlier run left when it was killed; it is of no use, and can be removed",
            path.display()
        );
    }
    let generate::Written { db, log } = outputs.write(shape, progress)?;
    Ok(Report { db, log })
}

fn show(report: &Report, format: Format) -> ExitCode {
    let text = match format {
        Format::Simple => simple(report),
        Format::Json => serde_json::to_string(report).map(|json| json + "\n"),
    };
    let written = text
        .map_err(io::Error::from)
        .and_then(|text| io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()));
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(&format!("writing to standard output: {error}"), FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// A line for each fact, in the order of the JSON.
fn simple(report: &Report) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for (what, facts) in
        [("db", serde_json::to_value(&report.db)?), ("log", serde_json::to_value(&report.log)?)]
    {
        for (name, value) in facts.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!("{what} {}: {value}\n", name.replace('_', " ")));
        }
    }
    Ok(text)
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Nobody is left to hear that standard error cannot be written.
    let _written = writeln!(io::stderr(), "error: {message}");
    ExitCode::from(code)
}
