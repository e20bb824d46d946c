//! `--extract`: some keys and nothing else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use snapshot::salvage::extract::{self, ExtractError, Extracted, Form, Selection};
use snapshot::salvage::{Plan, Report};

use super::words::{counted, grouped, listed, named};
use super::{Done, SalvageArgs};
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{self, Note, Outcome};
use crate::shown::shown;
use crate::stream;

/// Most values that are named when several stand one behind the other.
const MOST_NAMED: usize = 20;

/// Extracts the keys that begin with `prefix` by this way.
pub(super) fn run(
    args: &SalvageArgs,
    prefix: &OsStr,
    plan: &Plan<'_>,
    way: usize,
    mut outcome: Outcome,
    context: &Context,
) -> Result<Outcome, Failure> {
    let form = if args.values { Form::Values } else { Form::Lines };
    let selection = Selection { prefix: prefix.as_bytes(), revisions: args.revisions, form };
    let watch = context.watch.as_ref();
    let report = plan.report(way, watch)?;
    let extracted = match &args.output {
        Some(output) => {
            let owner = args.write.owner()?;
            Some(extract::to_file(plan, way, &selection, output, owner, watch)?)
        }
        None => {
            context.watch.finish();
            outcome::tell(&std::mem::take(&mut outcome.before), context.quiet);
            let mut extracted = None;
            stream::to_stdout(|out| match extract::write(plan, way, &selection, out, watch) {
                Err(ExtractError::Out(error)) => Err(error),
                other => {
                    extracted = Some(other);
                    Ok(())
                }
            })?;
            extracted.transpose()?
        }
    };
    context.watch.finish();
    // Who reads had enough, as `head` has: of what was not written nothing is to be said.
    let Some(extracted) = extracted else {
        super::write_report(&report, Done::DryRun, args)?;
        outcome.code = report.exit_code();
        return Ok(outcome);
    };
    super::write_report(&report, Done::DryRun, args)?;
    outcome.after = told(args, prefix, &report, &extracted);
    let is_certain = extracted.suspect == 0 && extracted.records > 0 && report.exit_code() == exit::DONE;
    outcome.code = if is_certain { exit::DONE } else { exit::FINDINGS };
    Ok(outcome)
}

/// What was extracted, and what may be missing.
fn told(args: &SalvageArgs, prefix: &OsStr, report: &Report, extracted: &Extracted) -> Vec<Note> {
    let Extracted { records, confirmed, single, suspect, values } = extracted;
    let prefix = shown(&prefix.to_string_lossy());
    let mut notes = Vec::new();
    if *records == 0 {
        notes.push(Note::Warning(format!(
            "warning: nothing that was found begins with {prefix:?}: the prefix may be wrong, or these keys are lost. \
             'etcd-rescue salvage ... --dry-run' says what is missing"
        )));
        return notes;
    }
    let what = if args.revisions { "record" } else { "key" };
    let place = args.output.as_deref().map_or_else(String::new, |output| format!(" in {}", named(output)));
    notes.push(Note::Prose(format!(
        "{}{place}: {} confirmed, {} single, {} suspect.",
        counted(*records, what),
        grouped(*confirmed),
        grouped(*single),
        grouped(*suspect)
    )));
    if args.values && *records > 1 {
        let each = values.listed.iter().map(|(key, bytes)| {
            format!("{} ({})", shown(&String::from_utf8_lossy(key)), counted(*bytes, "byte"))
        });
        notes.push(Note::Warning(format!(
            "warning: {} values stand one behind the other: {}",
            grouped(*records),
            listed(each, MOST_NAMED, values.more)
        )));
    }
    if report.exit_code() != exit::DONE {
        notes.push(Note::Warning(
            "warning: of the database something is missing or open to doubt, and so newer values of these keys, or more of them, may \
             be lost. --dry-run in place of --extract says what is"
                .to_owned(),
        ));
    }
    notes
}
