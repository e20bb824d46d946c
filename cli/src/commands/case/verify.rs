//! `case verify`: whether a case and its evidence are what they were.

use casefile::{CustodyRow, FileState, SealState};
use clap::Args;
use serde::Serialize;

use super::CaseFile;
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Reads a case and all its sources again, and tells what is no longer as it was
///
/// Every byte of the case is held against its checksums, the last seal against what was sealed, and every file of every source against its SHA-256.
/// Exit code 3 when anything is not what it was, or not there.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case verify incident.case
  etcd-rescue case verify incident.case --seal 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    file: CaseFile,
    /// The SHA-256 that sealing it told
    #[arg(long, value_name = "SHA256")]
    seal: Option<String>,
}

/// Files of a source that are named when they are not what they were.
const MOST_NAMED: usize = 8;

#[derive(Serialize)]
struct Json<'a> {
    seal: SealState,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    contents: &'a str,
    files: &'a [CustodyRow],
}

/// Reads it again.
///
/// # Errors
/// When the case itself is damaged or cannot be read.
pub(super) fn run(args: &VerifyArgs, context: &Context) -> Result<Outcome, Failure> {
    let case = args.file.open()?;
    let custody = case.verify(context.watch.as_ref())?;
    context.watch.finish();
    let mut outcome = Outcome::default();
    if !custody.holds() {
        outcome.code = exit::FINDINGS;
    }
    let (is_good, text) = match custody.seal {
        SealState::Absent => (true, "seal: there is none".to_owned()),
        SealState::Holds => (true, "seal: the case is what was sealed".to_owned()),
        SealState::Outgrown => {
            (true, "seal: what was sealed is what it was; sources were added since".to_owned())
        }
        SealState::Broken => (false, "seal: broken: the case is not what was sealed".to_owned()),
    };
    outcome.before.push(if is_good { Note::Prose(text) } else { Note::Warning(text) });
    if let Some(given) = &args.seal
        && custody.digest.as_ref().is_none_or(|digest| !digest.eq_ignore_ascii_case(given))
    {
        outcome.code = exit::FINDINGS;
        let has = custody.digest.as_deref().unwrap_or("none");
        outcome.before.push(Note::Warning(format!(
            "the case has not the seal that was given: it has {has}, and {} was expected",
            shown(given)
        )));
    }
    outcome.result = match context.format {
        Format::Json => output::json(&Json {
            seal: custody.seal,
            digest: custody.digest.as_deref(),
            contents: &custody.contents,
            files: &custody.rows,
        })?,
        format => {
            let rows: Vec<_> = custody.rows.iter().map(row).collect();
            output::render(format, &rows, &())?
        }
    };
    for source in case.sources() {
        outcome.after.extend(changed(&source.name, &custody.rows));
    }
    let same = custody.rows.iter().filter(|row| row.state == FileState::Same).count();
    outcome.after.push(Note::Prose(format!("{same} of {} files are what they were", custody.rows.len())));
    Ok(outcome)
}

/// What is not what it was of one source.
fn changed(source: &str, rows: &[CustodyRow]) -> Vec<Note> {
    let of_source = rows.iter().filter(|row| row.source == source);
    let (total, others): (usize, Vec<&CustodyRow>) =
        (of_source.clone().count(), of_source.filter(|row| row.state != FileState::Same).collect());
    let source = shown(source);
    let is_gone = others.iter().all(|row| matches!(row.state, FileState::NotThere { .. }));
    if let Some(first) = others.first().filter(|_| is_gone && others.len() == total && total > 1) {
        let text = format!(
            "{source}: none of its {total} files is there, such as {}: {}",
            shown(&first.file),
            state(first)
        );
        return vec![Note::Warning(text)];
    }
    let line = |row: &&CustodyRow| format!("{source}: {}: {}", shown(&row.file), state(row));
    let mut notes: Vec<Note> = others.iter().take(MOST_NAMED).map(|row| Note::Warning(line(row))).collect();
    if others.len() > MOST_NAMED {
        notes.push(Note::Warning(format!(
            "{source}: {} more files are not what they were",
            others.len() - MOST_NAMED
        )));
    }
    notes
}

fn row(row: &CustodyRow) -> Vec<Cell> {
    vec![
        Cell::new("source", "Source", &shown(&row.source)),
        Cell::new("file", "File", &shown(&row.file)),
        Cell::new("sha256", "SHA256", &row.sha256),
        Cell::new("state", "State", &state(row)),
    ]
}

fn state(row: &CustodyRow) -> String {
    match &row.state {
        FileState::Same => "same".to_owned(),
        FileState::Changed { len_bytes, sha256 } => format!("changed: {len_bytes} bytes, sha256 {sha256}"),
        FileState::NotThere { why } => format!("not there: {}", shown(why)),
    }
}
