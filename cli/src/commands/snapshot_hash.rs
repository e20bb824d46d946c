//! `snapshot hash`: the integrity hash, verified or attached.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use snapshot::finding::Finding;
use snapshot::hash;
use snapshot::humanize;
use snapshot::integrity::{Digest, Integrity};
use snapshot::save::SaveOptions;

use crate::context::Context;
use crate::exit::{self, Failure};
use crate::leftovers::Leftovers;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell};
use crate::verdict;

/// Verifies the SHA-256 a snapshot carries, or attaches one
///
/// Verified is exit code 0; a mismatch, or no hash at all, is exit code 3. --attach writes a copy that ends with the hash of what
/// the file holds, so that it restores without --skip-hash-check: do so when you know that the file is what was saved.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue snapshot hash snapshot.db
  etcd-rescue snapshot hash copied.db --attach -o snapshot.db")]
pub(crate) struct HashArgs {
    /// A snapshot or a db file
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Write a copy with a hash
    #[arg(long)]
    attach: bool,
    /// The copy; it must not exist
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// With --attach: do everything but write
    #[arg(long)]
    dry_run: bool,
    /// With --attach: remove what earlier, killed runs left at the same place
    #[arg(long)]
    clean: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifyJson<'a> {
    integrity: Integrity,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    computed: Option<&'a Digest>,
    size: u64,
    #[serde(skip_serializing_if = "<[Finding]>::is_empty")]
    findings: &'a [Finding],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttachJson<'a> {
    path: String,
    size: u64,
    sha256: &'a Digest,
    dry_run: bool,
    findings: &'a [Finding],
}

/// Verifies or attaches.
///
/// # Errors
/// When the flags contradict each other, the input cannot be read, or the output cannot be written.
pub(crate) fn run(args: &HashArgs, context: &Context) -> Result<Outcome, Failure> {
    match (&args.output, args.attach) {
        (Some(output), true) => attach(args, output, context),
        (None, true) => {
            Err(Failure::usage("--attach writes a copy: give its name with -o OUT; the input stays as it is"))
        }
        (Some(_), false) => Err(Failure::usage("-o is for --attach; without it nothing is written")),
        (None, false) if args.dry_run || args.clean => {
            Err(Failure::usage("--dry-run and --clean are for --attach; without it nothing is written"))
        }
        (None, false) => verify(args, context),
    }
}

fn verify(args: &HashArgs, context: &Context) -> Result<Outcome, Failure> {
    let (input, notes) = context.open(&args.input)?;
    let findings = hash::cuts(&input)?;
    let verdict = hash::verify(&input, context.watch.as_ref())?;
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    outcome.note_integrity(verdict.integrity, verdict::sentence(&verdict));
    outcome.note_findings(&findings);
    let json = VerifyJson {
        integrity: verdict.integrity,
        expected: verdict.expected.as_ref(),
        computed: verdict.computed.as_ref(),
        size: verdict.image_bytes,
        findings: &findings,
    };
    let show = |digest: Option<&Digest>| digest.map_or_else(String::new, ToString::to_string);
    let row = vec![
        Cell::new("integrity", "Integrity", &verdict.integrity),
        Cell::new("expected sha256", "Expected", &show(json.expected)),
        Cell::new("computed sha256", "Computed", &show(json.computed)),
    ];
    outcome.result = output::render(context.format, &[row], &json)?;
    if verdict.integrity != Integrity::Verified {
        outcome.code = exit::FINDINGS;
    }
    // A hash must not be given to a file that was cut.
    if verdict.integrity == Integrity::Absent && findings.is_empty() {
        let path = args.input.display();
        outcome.after.push(Note::Prose(format!(
            "To restore it as it is: etcd-rescue snapshot restore {path} --skip-hash-check. To give it a hash, when \
             you know that it is what was saved: etcd-rescue snapshot hash {path} --attach -o OUT"
        )));
    }
    Ok(outcome)
}

fn attach(args: &HashArgs, output: &std::path::Path, context: &Context) -> Result<Outcome, Failure> {
    let (input, notes) = context.open(&args.input)?;
    let options = SaveOptions { output: output.to_owned(), dry_run: args.dry_run, owner: None };
    let left = Leftovers::sweep(output, args.clean && !args.dry_run)?;
    let report = hash::attach(&input, &options, context.watch.as_ref())?;
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    outcome.before.extend(left.notes());
    outcome.note_findings(&report.findings);
    let path = report.output.display().to_string();
    let json = AttachJson {
        path: path.clone(),
        size: report.image_bytes,
        sha256: &report.digest,
        dry_run: args.dry_run,
        findings: &report.findings,
    };
    let row = vec![
        Cell::new("path", "Path", &path),
        Cell::shown("size", "Size", &humanize::bytes(report.image_bytes), &report.image_bytes),
        Cell::new("sha256", "SHA256", &report.digest),
    ];
    outcome.result = output::render(context.format, &[row], &json)?;
    outcome.after.push(Note::Prose(if args.dry_run {
        format!("Dry run: nothing was written. {path} would be the copy described above.")
    } else {
        format!(
            "Wrote {path}, which ends with the hash of what it holds; {} is unchanged.",
            args.input.display()
        )
    }));
    Ok(outcome)
}
