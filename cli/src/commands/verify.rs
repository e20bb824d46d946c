//! `verify`: what the codes of findings mean.

use clap::Args;
use snapshot::finding::catalogue::{self, Entry};

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Outcome;
use crate::output::{self, Format};

/// What `--explain` takes for all codes.
const ALL: &str = "all";

/// Explains the codes of findings: cause, consequence, remedy
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue verify --explain WAL-CRC")]
pub(crate) struct VerifyArgs {
    /// Say what a finding's code means and what to do; 'all' prints docs/findings.md
    #[arg(long, value_name = "CODE", required = true)]
    explain: String,
}

/// Explains.
///
/// # Errors
/// When there is no such code.
pub(crate) fn run(args: &VerifyArgs, context: &Context) -> Result<Outcome, Failure> {
    let result = explain(&args.explain, context.format)?;
    Ok(Outcome { result, ..Outcome::default() })
}

fn explain(code: &str, format: Format) -> Result<String, Failure> {
    if code.eq_ignore_ascii_case(ALL) {
        return match format {
            Format::Json => output::json(&catalogue::all().collect::<Vec<_>>()),
            _ => Ok(catalogue::document()),
        };
    }
    let Some(entry) = catalogue::find(code) else {
        let near: Vec<&str> = catalogue::all()
            .map(|entry| entry.code)
            .filter(|known| known.contains(&code.to_ascii_uppercase()))
            .collect();
        let hint = if near.is_empty() {
            "'--explain all' lists them".to_owned()
        } else {
            format!("there are {}", near.join(", "))
        };
        return Err(Failure::usage(format!("--explain {code}: there is no such code; {hint}")));
    };
    match format {
        Format::Json => output::json(entry),
        _ => Ok(in_words(entry)),
    }
}

/// For a terminal, where backquotes are not what they are in Markdown.
fn in_words(entry: &Entry) -> String {
    let Entry { code, title, cause, consequence, remedy } = entry;
    format!("{code}: {title}\n\nCause: {cause}\nConsequence: {consequence}\nRemedy: {remedy}\n")
        .replace('`', "'")
}
