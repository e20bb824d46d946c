//! What the commands of etcd-dump-db share.

use std::io::{self, IsTerminal, Write};

use bbolt::{FileSource, PageFile, Unmetered, Watch};
use snapshot::opened::Opened;
use snapshot::views::{Form, ViewError, Viewed};

use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::output::Format;
use crate::shown::shown;
use crate::stream;

/// The form that the output format asks for.
///
/// # Errors
/// For the formats that an etcd-dump-db never had and a list without columns has no use for.
pub(super) fn require_lines_or_json(context: &Context) -> Result<Form, Failure> {
    match context.format {
        Format::Simple => Ok(Form::Lines),
        Format::Json => Ok(Form::Json),
        Format::Table | Format::Fields | Format::Protobuf => {
            Err(Failure::usage("this command prints -w simple or -w json"))
        }
    }
}

/// The pages of `input`.
///
/// # Errors
/// When it is no bbolt file.
pub(super) fn pages(input: &Opened) -> Result<PageFile<&FileSource>, Failure> {
    pages_of_size(input, None)
}

/// The pages of `input`, which are `page_size` long where that is given.
///
/// # Errors
/// When it is no bbolt file.
pub(super) fn pages_of_size(
    input: &Opened,
    page_size: Option<u32>,
) -> Result<PageFile<&FileSource>, Failure> {
    PageFile::new(input.source(), page_size)
        .map_err(|error| Failure::failed(format!("{}: {error}", input.path().display())))
}

/// Why a view failed.
pub(super) fn failure(error: &ViewError) -> Failure {
    Failure::failed(error.to_string())
}

/// Gives `print` stdout; `None` when who read it went away.
///
/// # Errors
/// When the view fails or stdout cannot be written.
pub(super) fn stream<T>(
    context: &Context,
    print: impl FnOnce(&mut dyn Write, &dyn Watch) -> Result<T, ViewError>,
) -> Result<Option<T>, Failure> {
    // A bar among the lines on one terminal would spoil both.
    let unmetered = Unmetered(context.watch.as_ref());
    let watch: &dyn Watch = if io::stdout().is_terminal() { &unmetered } else { context.watch.as_ref() };
    let mut viewed = None;
    stream::to_stdout(|out| match print(out, watch) {
        Err(ViewError::Write(error)) => Err(error),
        other => {
            viewed = Some(other);
            Ok(())
        }
    })?;
    viewed.transpose().map_err(|error| failure(&error))
}

/// Tells what was wrong, after the result.
pub(super) fn note(seen: &Viewed, outcome: &mut Outcome) {
    if seen.findings.is_empty() {
        return;
    }
    outcome.code = exit::FINDINGS;
    outcome.after.extend(seen.findings.iter().map(|finding| Note::Warning(shown(&finding.to_string()))));
    note_more(seen, &mut outcome.after);
}

/// Tells that there are more findings than were told.
pub(super) fn note_more(seen: &Viewed, notes: &mut Vec<Note>) {
    if seen.more_findings > 0 {
        notes.push(Note::Warning(format!("{} more findings are not told here", seen.more_findings)));
    }
}
