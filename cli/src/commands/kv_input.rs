//! What the commands under `kv` open: a database, and what the log beside it says of whose it is and how far it goes.

use std::path::Path;

use bbolt::{Db, FileSource};
use snapshot::log_files;
use snapshot::log_tail::{self, Identity, LogTail};
use snapshot::mvcc::KeySpaceError;
use snapshot::opened::Opened;
use snapshot::schema::Schema;

use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::Note;
use crate::shown::shown;

/// An opened input.
pub(super) struct KvInput {
    /// The database.
    pub(super) opened: Opened,
    /// What the user should know of it.
    pub(super) notes: Vec<Note>,
    log: Option<LogTail>,
}

/// Opens what the user points at, and looks at the end of the log beside it.
///
/// # Errors
/// When there is nothing there that can be read. A log that cannot be read is a note.
pub(super) fn open(path: &Path, context: &Context) -> Result<KvInput, Failure> {
    let (opened, mut notes) = context.open(path)?;
    let mut log = None;
    if let Some(wal_dir) = opened.wal_dir() {
        match log_files::open(wal_dir, &context.log_options(None), context.watch.as_ref()) {
            Ok(files) => log = log_tail::read(&files),
            Err(error) => notes.push(Note::Warning(format!(
                "warning: the log beside the database was not looked at: {}",
                shown(&error.to_string())
            ))),
        }
    }
    Ok(KvInput { opened, notes, log })
}

impl KvInput {
    /// The database.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn db(&self) -> Result<Db<&FileSource>, Failure> {
        self.opened
            .db()
            .map_err(|error| Failure::failed(format!("{}: {error}", self.opened.path().display())))
    }

    /// Why the key space could not be read. `offer`: whether `--skip-bad` could help, and was not given.
    pub(super) fn not_read(&self, error: &KeySpaceError, offer: bool) -> Failure {
        let hint = match error {
            KeySpaceError::Damaged { .. } | KeySpaceError::Records { .. } if offer => {
                "; --skip-bad goes on past that and gives what can be read"
            }
            _ => "",
        };
        let message = format!("{}: {error}{hint}", self.opened.path().display());
        Failure { message, code: error.exit_code(), findings: error.findings().to_vec() }
    }

    /// Whose database it is, by the log beside it; zeros without one.
    pub(super) fn identity(&self) -> Identity {
        self.log.unwrap_or_default().identity
    }

    /// What the user must hear when the log goes further than `schema`, whose database it is beside.
    pub(super) fn behind_its_log(&self, schema: &Schema) -> Option<Note> {
        let LogTail { last_index, .. } = self.log?;
        let consistent_index = schema.consistent_index;
        (last_index > consistent_index).then(|| {
            Note::Warning(format!(
                "warning: the log goes on to entry {last_index}, the database ends at its consistent index \
                 {consistent_index}: what only those entries hold is not seen here"
            ))
        })
    }
}
