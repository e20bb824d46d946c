//! What the commands share that write an edited copy of a file or of a member's directory.

use std::path::{Path, PathBuf};

use clap::Args;
use snapshot::edited::{self, Change, EditOptions, EditReport};
use snapshot::log_files::LogFiles;
use snapshot::lone::{self, Purpose, Standing};
use snapshot::opened::Opened;
use snapshot::save::SaveError;
use snapshot::schema::{ALARM_NOSPACE, Alarm, Schema};

use super::writing::WriteArgs;

use crate::context::Context;
use crate::exit::Failure;
use crate::leftovers::Leftovers;
use crate::outcome::Note;
use crate::shown::shown;

/// Where an edited copy goes, and what of its consequences is accepted.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The file, or for a data dir the data dir, to write; it must not exist [needed but for --dry-run]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// The log's directory, where etcd was given one of its own; the copy has its log in the member
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Accept that the copy of a data dir disagrees with its cluster, or comes before what its log still holds
    #[arg(long)]
    diverge: bool,
    #[command(flatten)]
    pub(super) write: WriteArgs,
}

/// What is being edited.
pub(crate) struct Editing {
    pub(crate) input: Opened,
    pub(crate) schema: Schema,
    /// The story so far.
    pub(crate) before: Vec<Note>,
    files: Option<LogFiles>,
    options: Option<EditOptions>,
    diverge: bool,
}

impl EditArgs {
    /// Whether a copy that disagrees with its cluster is accepted.
    pub(crate) fn diverge(&self) -> bool {
        self.diverge
    }

    /// Opens what is to be edited, and makes sure that the output can be where it should.
    ///
    /// # Errors
    /// When there is no `-o`, the input cannot be opened, or the output is there already.
    pub(crate) fn open(&self, path: &Path, context: &Context) -> Result<Editing, Failure> {
        if self.output.is_none() && !self.write.dry_run {
            return Err(Failure::usage(
                "-o OUT is missing: the input is never changed, and the edited copy needs a place; --dry-run says what it would come to",
            ));
        }
        let owner = self.write.owner()?;
        let watch = context.watch.as_ref();
        let (input, mut before) = context.open(path)?;
        let files = lone::log_of(&input, &context.log_options(self.wal_dir.as_deref()), watch)?;
        if files.is_none() && self.wal_dir.is_some() {
            return Err(Failure::usage(
                "--wal-dir: the input is a file; it is a data dir whose log may lie elsewhere",
            ));
        }
        let options = match &self.output {
            None => None,
            Some(output) => {
                let left = Leftovers::sweep(output, self.write.clean && !self.write.dry_run)?;
                before.extend(left.notes());
                let options = EditOptions {
                    output: output.clone(),
                    dry_run: self.write.dry_run,
                    owner,
                    io: context.io(),
                    with_hash: false,
                };
                edited::ensure_free(&options, files.as_ref())?;
                Some(options)
            }
        };
        let schema = {
            let shown = input.path().display().to_string();
            let db = input.db().map_err(|source| SaveError::Db { path: shown.clone(), source })?;
            Schema::read(&db).map_err(|fault| {
                Failure::failed(format!(
                    "{shown}: {fault}; 'etcd-rescue bbolt check {shown}' tells more. Nothing was written"
                ))
            })?
        };
        Ok(Editing { input, schema, before, files, options, diverge: self.diverge })
    }
}

impl Editing {
    /// Makes sure that what is edited may be (see [`lone`]).
    ///
    /// # Errors
    /// When it may not, without `--diverge`.
    pub(crate) fn ensure_alone(&self, purpose: Purpose, context: &Context) -> Result<Standing, Failure> {
        let watch = context.watch.as_ref();
        Ok(lone::ensure(&self.input, &self.schema, self.files.as_ref(), purpose, self.diverge, watch)?)
    }

    /// Writes the copy; without `-o`, only says what it would come to.
    ///
    /// # Errors
    /// When the input is damaged after all, or the output cannot be written.
    pub(crate) fn write(&self, change: Change<'_>, context: &Context) -> Result<EditReport, Failure> {
        let watch = context.watch.as_ref();
        let files = self.files.as_ref();
        Ok(match &self.options {
            Some(options) => edited::write(&self.input, files, change, options, watch)?,
            None => edited::forecast(&self.input, files, change, watch)?,
        })
    }

    /// The output, for people and for JSON; `None` without one.
    pub(crate) fn output(&self) -> Option<String> {
        self.options.as_ref().map(|options| options.output.display().to_string())
    }

    /// What to know of the copy, and to do with it.
    pub(crate) fn story(&self, standing: &Standing, report: &EditReport) -> Vec<Note> {
        let mut notes = Vec::new();
        let path = self.output().map(|path| shown(&path));
        let is_written = self.options.as_ref().is_some_and(|options| !options.dry_run);
        match (&path, is_written) {
            (Some(path), true) => notes.push(Note::Prose(format!(
                "Wrote {path}; {} is unchanged.",
                shown(&self.input.path().display().to_string())
            ))),
            (Some(path), false) => notes.push(Note::Prose(format!(
                "Dry run: nothing was written. {path} would be what is described above."
            ))),
            (None, _) => notes.push(Note::Prose("Dry run: nothing was written.".to_owned())),
        }
        let path = path.unwrap_or_else(|| "OUT".to_owned());
        if !standing.is_member {
            notes.push(Note::Prose(if report.has_hash {
                format!(
                    "The copy ends with its own SHA-256, as the input does. To start a cluster from it: etcd-rescue snapshot \
                     restore {path} ..."
                )
            } else {
                format!(
                    "The copy has no integrity hash, as the input has none; 'etcd-rescue snapshot hash {path} --attach -o SNAPSHOT' makes a \
                     snapshot of it, and 'etcd-rescue snapshot restore {path} --skip-hash-check ...' a cluster."
                )
            }));
            if self.input.wal_dir().is_some() {
                notes.push(Note::Warning(format!(
                    "warning: this is the db of a member, up to entry {}: what only that member's log holds is not in the copy; \
                     'etcd-rescue snapshot save' of its data dir folds it in",
                    standing.consistent_index
                )));
            }
            notes.push(Note::Prose(
                "Restore all members from it. In the place of one member's db it would make that member disagree with its peers."
                    .to_owned(),
            ));
        }
        if standing.is_member && self.files.as_ref().is_some_and(is_apart) {
            notes.push(Note::Prose(format!(
                "The log, which had a directory of its own, lies in {path}/member/wal: start etcd without --wal-dir."
            )));
        }
        if standing.is_member && standing.pending > 0 {
            notes.push(Note::Warning(format!(
                "warning: the log goes on beyond the database, which ends at entry {}: {} of the entries up to {} change the data, and a server \
                 applies them when it starts on the copy",
                standing.consistent_index,
                standing.pending,
                standing.last_index.unwrap_or_default()
            )));
        }
        if let Some(accepted) = standing.accepted.as_ref().filter(|_| !standing.leaves_peers) {
            notes.push(Note::Warning(format!("warning: accepted with --diverge: {accepted}")));
        }
        if standing.leaves_peers {
            notes.push(Note::Warning(
                "warning: this copy must never meet its old peers: it would disagree with them, and etcd answers that with a CORRUPT \
                 alarm or not at all. Start it alone, with --force-new-cluster, or remove the peers' data first"
                    .to_owned(),
            ));
        }
        let is_full = |alarm: &Alarm| alarm.kind == ALARM_NOSPACE;
        if self.schema.alarms.iter().any(is_full) {
            notes.push(Note::Prose(
                "A NOSPACE alarm stands in the data: a server refuses writes until 'etcdctl alarm disarm'; a restore drops it."
                    .to_owned(),
            ));
        }
        if !report.left_out.is_empty() {
            notes.push(Note::Prose(format!(
                "Not copied, since no server needs them: {}.",
                shown(&report.left_out.join(", "))
            )));
        }
        notes
    }
}

/// Whether the log lies where `--wal-dir` said.
fn is_apart(files: &LogFiles) -> bool {
    files.snap_dir().and_then(Path::parent).is_some_and(|member| member.join("wal") != files.wal_dir())
}
