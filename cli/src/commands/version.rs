//! `version`: which etcd-rescue this is, and whose data it writes.

use clap::Args;
use serde::Serialize;
use snapshot::target::TargetVersion;

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Cell, Format};

/// Prints the version
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  etcd-rescue version")]
pub(crate) struct VersionArgs {}

#[derive(Serialize)]
struct Json {
    version: &'static str,
    targets: Vec<String>,
}

/// Tells the version.
///
/// # Errors
/// None so far.
pub(crate) fn run(context: &Context) -> Result<Outcome, Failure> {
    let targets: Vec<String> = TargetVersion::ALL.iter().map(ToString::to_string).collect();
    let json = Json { version: env!("CARGO_PKG_VERSION"), targets };
    let targets = json.targets.join(" ");
    let result = match context.format {
        Format::Simple => {
            format!("etcd-rescue version: {}\nWrites data for etcd: {targets}\n", json.version)
        }
        format => {
            let row = vec![
                Cell::new("version", "Version", json.version),
                Cell::new("writes data for etcd", "Targets", &targets),
            ];
            output::render(format, &[row], &json)?
        }
    };
    Ok(Outcome { result, ..Outcome::default() })
}
