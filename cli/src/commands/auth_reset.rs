//! `auth reset`: back into a cluster whose root password is lost.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use snapshot::auth::{self, MOST_PASSWORD_BYTES, Reset};
use snapshot::edited::Change;
use snapshot::finding::Finding;
use snapshot::humanize;
use snapshot::lone::Purpose;

use super::edit::EditArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell};

/// Longest file that is read for a password, in bytes.
const MOST_FILE_BYTES: u64 = 4096;

/// Turns authentication off, or gives a user a new password, in a copy
///
/// For a cluster whose root password is lost. The copy is for a restore of the whole cluster, or to start the only member of a
/// cluster on: a member that has peers is refused. The input is only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue auth reset snapshot.db --user root --new-password-file - -o reset.db
  etcd-rescue auth reset /var/lib/etcd --disable -o /var/lib/etcd.reset")]
pub(crate) struct ResetArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// Turn authentication off, as etcdctl auth disable does
    #[arg(long, conflicts_with_all = ["user", "new_password_file"], required_unless_present = "user")]
    disable: bool,
    /// The user that gets a new password
    #[arg(long, value_name = "NAME", requires = "new_password_file")]
    user: Option<String>,
    /// The file with the new password; - is standard input. One line end behind it does not count
    #[arg(long, value_name = "FILE|-", requires = "user", allow_hyphen_values = true)]
    new_password_file: Option<PathBuf>,
    #[command(flatten)]
    edit: EditArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    path: Option<String>,
    size: u64,
    enabled: bool,
    auth_revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    notices: &'a [String],
    dry_run: bool,
    findings: &'a [Finding],
}

/// Resets.
///
/// # Errors
/// When there is nothing to reset, the input may not be edited or is damaged, or the output cannot be written.
pub(crate) fn run(args: &ResetArgs, context: &Context) -> Result<Outcome, Failure> {
    let wanted = match (&args.user, &args.new_password_file) {
        (Some(user), Some(file)) => {
            Reset::Password { user: user.clone().into_bytes(), password: password(file)? }
        }
        _ => Reset::Disable,
    };
    let mut editing = args.edit.open(&args.input, context)?;
    let edit = {
        let failed =
            |what: &dyn std::fmt::Display| Failure::failed(format!("{}: {what}", args.input.display()));
        let db = editing.input.db().map_err(|error| failed(&error))?;
        auth::reset(&db, &wanted).map_err(|error| failed(&error))?
    };
    let standing = editing.ensure_alone(Purpose::Edit, context)?;
    let report = editing.write(Change::Patch(&edit.patch), context)?;
    let mut outcome = Outcome { before: std::mem::take(&mut editing.before), ..Outcome::default() };
    outcome.before.extend(edit.notices.iter().map(|notice| Note::Prose(format!("note: {notice}"))));
    outcome.note_findings(&standing.findings);
    outcome.after = editing.story(&standing, &report);
    let path = editing.output();
    let json = Json {
        path: path.clone(),
        size: report.after_bytes,
        enabled: edit.enabled,
        auth_revision: edit.auth_revision,
        user: args.user.as_deref(),
        notices: &edit.notices,
        dry_run: args.edit.write.dry_run,
        findings: &standing.findings,
    };
    let row = vec![
        Cell::new("path", "Path", &path.unwrap_or_default()),
        Cell::shown("size", "Size", &humanize::bytes(report.after_bytes), &report.after_bytes),
        Cell::new("enabled", "Enabled", &edit.enabled),
        Cell::new("auth revision", "AuthRevision", &edit.auth_revision),
    ];
    outcome.result = output::render(context.format, &[row], &json)?;
    Ok(outcome)
}

/// The password in `file`, without the line end behind it.
fn password(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(MOST_FILE_BYTES).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|file| file.take(MOST_FILE_BYTES).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::failed(format!("--new-password-file {}: {error}", file.display())))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.contains(&b'\n') {
        return Err(Failure::failed(format!(
            "--new-password-file {}: has more than one line; a password is one of {MOST_PASSWORD_BYTES} bytes at the most",
            file.display()
        )));
    }
    Ok(bytes)
}
