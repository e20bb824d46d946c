//! `verify`: every check there is, of one path or several, and what a server would do; what the codes of findings mean.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use snapshot::boot::Release;
use snapshot::finding::catalogue::{self, Entry};
use snapshot::verify::{self, Checked, Expected, Next, Outlook, Prediction, Report, Verdict};

use super::wal_verify::{start_in_words, start_json};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::next_steps::quoted_path;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// The exit code of a job that the user stopped.
const INTERRUPTED: u8 = 130;

/// What `--explain` takes for all codes.
const ALL: &str = "all";

/// Checks everything there is of a member, a db, a snapshot or a log, and tells how a start would go
///
/// Walks every page of the db, reads every record of its key space and of the log, every row of the small buckets and the .snap files,
/// and holds them against each other: entries, terms, members, leases, alarms, versions. Each finding on stderr says where it is; the
/// result says what was checked and what was not, and what each release of etcd does with the directory. Exit code 3 when there are
/// findings.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue verify /var/lib/etcd
  etcd-rescue verify --explain WAL-CRC")]
pub(crate) struct VerifyArgs {
    /// Data dirs, member dirs, dbs, snapshots, logs' directories
    #[arg(value_name = "PATH", required_unless_present = "explain")]
    inputs: Vec<PathBuf>,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Say what a finding's code means and what to do; 'all' prints docs/findings.md
    #[arg(long, value_name = "CODE", conflicts_with_all = ["inputs", "wal_dir"])]
    explain: Option<String>,
}

/// Verifies, or explains.
///
/// # Errors
/// When there is nothing of etcd's, it is locked, somebody writes to it, or there is no such code.
pub(crate) fn run(args: &VerifyArgs, context: &Context) -> Result<Outcome, Failure> {
    if let Some(code) = &args.explain {
        let result = explain(code, context.format)?;
        return Ok(Outcome { result, ..Outcome::default() });
    }
    if args.wal_dir.is_some() && args.inputs.len() > 1 {
        return Err(Failure::usage("--wal-dir: is the log's directory of one member; give one PATH with it"));
    }
    let options = context.facts_options(args.wal_dir.as_deref());
    let several = args.inputs.len() > 1;
    let mut outcome = Outcome::default();
    let mut failed = false;
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for input in &args.inputs {
        let name = shown(&input.display().to_string());
        let report = match verify::verify(input, &options, context.watch.as_ref()) {
            Ok(report) => report,
            // What cannot be verified does not keep the others from it.
            Err(error) if several && error.exit_code() != INTERRUPTED => {
                outcome.before.push(Note::Warning(shown(&format!("Error: {error}"))));
                failed = true;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut of_this = Outcome::default();
        of_this.note_findings(&report.findings);
        if report.more_findings > 0 {
            let more = format!("{} more findings about the log are not listed", report.more_findings);
            of_this.before.push(Note::Warning(more));
        }
        let notes = of_this.before.into_iter();
        outcome.before.extend(notes.map(|note| if several { note.about(&name) } else { note }));
        outcome.code = outcome.code.max(of_this.code);
        if matches!(report.verdict.outlook, Outlook::NeedsRepair | Outlook::BootsWithLoss) {
            outcome.code = outcome.code.max(exit::FINDINGS);
        }
        match context.format {
            Format::Simple => {
                if several {
                    outcome.result += &format!("{name}:\n");
                }
                outcome.result += &simple(&report);
            }
            Format::Json => objects.push(to_json(&report, args.wal_dir.as_deref())),
            Format::Table | Format::Fields | Format::Protobuf => rows.push(row(&name, &report)),
        }
        let verdict = &report.verdict;
        for (word, next) in std::iter::once(("next", &verdict.next))
            .chain(verdict.of_cluster.iter().map(|next| ("where others of its cluster are lost", next)))
        {
            let command = command(next, &report, args.wal_dir.as_deref());
            outcome.after.push(Note::Prose(format!("{word}: '{}' {}", shown(&command), next.purpose)));
        }
    }
    if failed {
        outcome.code = exit::FAILED;
    }
    match context.format {
        Format::Simple => {}
        Format::Json => {
            for object in &objects {
                outcome.result += &output::json(object)?;
            }
        }
        format => outcome.result = output::render(format, &rows, &())?,
    }
    Ok(outcome)
}

/// `next` as a shell takes it.
fn command(next: &Next, report: &Report, wal_dir: Option<&Path>) -> String {
    let mut line = format!("etcd-rescue {} {}", next.command, quoted_path(&report.facts.path));
    if let Some(dir) = wal_dir.filter(|_| next.reads_log) {
        line += &format!(" --wal-dir {}", quoted_path(dir));
    }
    if !next.flags.is_empty() {
        line += &format!(" {}", next.flags);
    }
    line
}

const fn word(outlook: Outlook) -> &'static str {
    match outlook {
        Outlook::BootsAsIs => "boots as is",
        Outlook::BootsWithLoss => "boots with loss",
        Outlook::NeedsRepair => "needs repair",
        Outlook::NotAMember => "no member's directory: no server starts from it",
    }
}

fn row(name: &str, report: &Report) -> Vec<Cell> {
    let done = report.checked.iter().filter(|checked| checked.done).count();
    let findings = (report.findings.len() as u64).saturating_add(report.more_findings);
    vec![
        Cell::new("path", "Path", name),
        Cell::new("verdict", "Verdict", word(report.verdict.outlook)),
        Cell::new("findings", "Findings", &findings),
        Cell::new("checked", "Checked", &done),
        Cell::new("not checked", "Not checked", &(report.checked.len() - done)),
    ]
}

fn simple(report: &Report) -> String {
    let mut lines = Vec::new();
    for Checked { what, done, detail } in &report.checked {
        let how = if *done { "checked" } else { "not checked" };
        lines.push(format!("{how}: {what} ({})", shown(detail)));
    }
    lines.extend(predictions_in_words(&report.verdict.predictions));
    let Verdict { outlook, release, reasons, .. } = &report.verdict;
    let mut last = format!("verdict: {}", word(*outlook));
    if !report.verdict.predictions.is_empty() {
        last += &format!(", on etcd {}", release.patches);
    }
    if !reasons.is_empty() {
        last += &format!(": {}", shown(&reasons.join("; ")));
    }
    lines.push(last);
    lines.into_iter().map(|line| line + "\n").collect()
}

/// One line for releases that do the same, and are known in the same way.
fn predictions_in_words(predictions: &[Prediction]) -> Vec<String> {
    let mut groups: Vec<(Vec<&Release>, &Expected)> = Vec::new();
    for Prediction { release, expected } in predictions {
        let same = |(releases, found): &&mut (Vec<&Release>, &Expected)| {
            *found == expected
                && releases.first().is_some_and(|first| first.booted.is_some() == release.booted.is_some())
        };
        match groups.iter_mut().find(same) {
            Some((releases, _)) => releases.push(release),
            None => groups.push((vec![release], expected)),
        }
    }
    let line = |(releases, expected): &(Vec<&Release>, &Expected)| {
        let names: Vec<&str> = releases.iter().map(|release| release.patches).collect();
        let names = names.join(", ");
        match expected {
            Expected::Unknown(why) => format!("etcd {names}: cannot be told, {}", shown(why)),
            Expected::Start(start) => {
                let booted = releases.iter().all(|release| release.booted.is_some());
                let basis = if booted { "as real servers did" } else { "from the source" };
                format!("etcd {names} ({basis}): {}", start_in_words(start))
            }
        }
    };
    groups.iter().map(line).collect()
}

fn to_json(report: &Report, wal_dir: Option<&Path>) -> Value {
    let verdict = &report.verdict;
    let predictions: Vec<Value> = verdict
        .predictions
        .iter()
        .map(|prediction| match &prediction.expected {
            Expected::Start(start) => start_json(&prediction.release, start),
            Expected::Unknown(why) => json!({
                "releases": prediction.release.patches,
                "booted": prediction.release.booted,
                "outcome": "unknown",
                "cause": why,
            }),
        })
        .collect();
    let of_cluster: Vec<String> =
        verdict.of_cluster.iter().map(|next| command(next, report, wal_dir)).collect();
    json!({
        "path": report.facts.path.display().to_string(),
        "what": report.facts.looked.what,
        "clean": report.findings.is_empty(),
        "verdict": verdict.outlook,
        "release": verdict.release.patches,
        "reasons": verdict.reasons,
        "next": command(&verdict.next, report, wal_dir),
        "ofCluster": of_cluster,
        "checked": report.checked,
        "predictions": predictions,
        "findings": report.findings,
        "moreFindings": report.more_findings,
    })
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
            .filter(|known| !code.is_empty() && known.contains(&code.to_ascii_uppercase()))
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
