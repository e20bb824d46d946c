//! `case verify`: whether a case and its evidence are what they were.

use std::collections::BTreeMap;
use std::ffi::OsString;

use casefile::{CustodyRow, FileState, SealRow, SealState};
use clap::Args;
use serde::Serialize;

use super::{CaseFile, parted, rows};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Reads a case and all its sources again, and tells what is no longer as it was
///
/// Every byte of the case is held against its checksums, every seal against what was sealed, and every file of every source against its SHA-256.
/// Files are looked for where they were when the source was added, by its absolute path, or where --at says. Exit code 3 when anything is not what it
/// was, is not there, is new there, or is reached by a link that was none. A file with the same bytes and another time of its last write is told, and
/// is not wrong: a copy has another time.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue case verify incident.case
  etcd-rescue case verify incident.case --at n1=/mnt/copy/node1 --at n2=/mnt/copy/node2
  etcd-rescue case verify incident.case --seal 888f27b2901e62a2d006139f9a4c36d6a5f1d129b3a9b3db64f6285c1dc43b5b")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    file: CaseFile,
    /// The SHA-256 that sealing it told; also of an earlier seal than the last
    #[arg(long, value_name = "SHA256")]
    seal: Option<String>,
    /// Where a source lies now, when it is not mounted where it was added from; can be given for several
    #[arg(long, value_name = "NAME=PATH")]
    at: Vec<OsString>,
    /// Where its log lies now, of a source that was added with --wal-dir and is given with --at
    #[arg(long, value_name = "NAME=DIR", requires = "at")]
    wal_dir_at: Vec<OsString>,
}

/// Files of a source that are named when they are not what they were.
const MOST_NAMED: usize = 8;

#[derive(Serialize)]
struct Json<'a> {
    seal: SealState,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    seals: &'a [SealRow],
    contents: &'a str,
    files: &'a [CustodyRow],
}

/// Reads it again.
///
/// # Errors
/// When the case itself is damaged or cannot be read.
pub(super) fn run(args: &VerifyArgs, context: &Context) -> Result<Outcome, Failure> {
    let mut case = args.file.open()?;
    let wal_dirs =
        args.wal_dir_at.iter().map(|given| parted(given)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let places = args.at.iter().map(|given| parted(given)).collect::<Result<BTreeMap<_, _>, _>>()?;
    if let Some(name) = wal_dirs.keys().find(|name| !places.contains_key(**name)) {
        let name = shown(name);
        return Err(Failure::usage(format!("--wal-dir-at {name}=DIR: give --at {name}=PATH with it")));
    }
    for (name, path) in places {
        case.moved(name, path, wal_dirs.get(name).copied())?;
    }
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
    if let Some(given) = &args.seal {
        let (is_there, note) = sought(given, &custody.seals);
        if !is_there {
            outcome.code = exit::FINDINGS;
        }
        outcome.before.extend(note);
    }
    outcome.result = match context.format {
        Format::Json => output::json(&Json {
            seal: custody.seal,
            digest: custody.digest.as_deref(),
            seals: &custody.seals,
            contents: &custody.contents,
            files: &custody.rows,
        })?,
        format => {
            let files: Vec<_> = custody.rows.iter().map(row).collect();
            output::render(format, &files, &())?
        }
    };
    for source in case.sources() {
        outcome.after.extend(changed(&source.name, &custody.rows));
    }
    let later = custody.rows.iter().filter(|row| row.modified.is_some()).count();
    if later > 0 {
        let files = rows::counted(later as u64, "file has", "files have");
        outcome.after.push(Note::Prose(format!(
            "{files} the same bytes and another time of the last write, as a copy has"
        )));
    }
    let known = custody.rows.iter().filter(|row| !matches!(row.state, FileState::New { .. })).count();
    let same = custody.rows.iter().filter(|row| row.state == FileState::Same).count();
    outcome.after.push(Note::Prose(format!("{same} of {known} files are what they were")));
    Ok(outcome)
}

/// Whether the seal with the digest `given` is among those of the case, and what there is to say of that.
fn sought(given: &str, seals: &[SealRow]) -> (bool, Option<Note>) {
    let has = |seal: &SealRow| seal.digest.eq_ignore_ascii_case(given);
    match seals.iter().rposition(has).and_then(|at| Some((at, seals.get(at)?))) {
        // What the last one comes to is said of every case.
        Some((at, _)) if at + 1 == seals.len() => (true, None),
        Some((at, seal)) => {
            let place = format!("the seal that was given is number {} of {}", at + 1, seals.len());
            match seal.state {
                SealState::Broken => {
                    (true, Some(Note::Warning(format!("{place}: broken: the case is not what was sealed"))))
                }
                _ => (true, Some(Note::Prose(format!("{place}: what was sealed is what it was")))),
            }
        }
        None => {
            let has = seals.last().map_or("none", |seal| seal.digest.as_str());
            let text = format!(
                "the case has not the seal that was given: its last is {has}, and {} was expected",
                shown(given)
            );
            (false, Some(Note::Warning(text)))
        }
    }
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
        FileState::Same if row.modified.is_some() => "same, written at another time".to_owned(),
        FileState::Same => "same".to_owned(),
        FileState::New { len_bytes, sha256 } => format!("new: {len_bytes} bytes, sha256 {sha256}"),
        FileState::Linked { link, to } => {
            format!("same bytes, but {} is a link now, to {}", shown(link), shown(to))
        }
        FileState::Changed { len_bytes, sha256 } => format!("changed: {len_bytes} bytes, sha256 {sha256}"),
        FileState::NotThere { why } => format!("not there: {}", shown(why)),
    }
}
