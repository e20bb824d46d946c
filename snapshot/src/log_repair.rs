//! Repairing a member's log: the plan, what it loses in keys, and the mended copy (FORMATS E.5, F, H.5).
//!
//! What can be made of the log itself is [`wal::repair`]'s business. Here the db and the `.snap` files beside it are brought in:
//! they say which entries nobody needs any more, and where a server can start when the log no longer reaches the db. Then a
//! `.snap` is written at the db's last entry, with the members as the db or the newest `.snap` has them.
//!
//! The output is staged, synced, read back and only then given its name. The inputs are never written to.

mod lost_keys;
mod new_snap;
mod output;

pub use lost_keys::{LostKeys, MOST_KEYS};
pub use wal::repair::{Added, Change, Loss, MendedSegment, Plan, Refusal};

use std::io;
use std::path::{Path, PathBuf};

use bbolt::{OpenError as DbError, OpenOptions, Watch};
use wal::Segments;
use wal::repair::{DbFacts, Facts, PlanError, Unlike, WriteError};

use crate::copy::SpaceError;
use crate::finding::Finding;
use crate::integrity::Changed;
use crate::log_files::{LogFiles, LogFilesError, progress};
use crate::opened::{self, InputOptions, OpenError, Opened};
use crate::replicate::ReplicateError;
use crate::schema::Schema;
use crate::snap_files::{SnapFile, SnapKind};
use crate::stage::{Owner, StageError};

/// What to do with the plan.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Where the mended copy goes; `None` to plan only.
    pub output: Option<PathBuf>,
    /// Write although something is lost.
    pub accept_loss: bool,
    /// Do everything but write.
    pub dry_run: bool,
    /// Remove what earlier, killed runs left for the same output.
    pub clean: bool,
    /// Who shall own the output.
    pub owner: Option<Owner>,
}

/// A `.snap` that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableSnap {
    /// Its name.
    pub name: String,
    /// Why it cannot be read.
    pub reason: String,
}

/// Why nothing was written, though there is a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Something would be lost, and that was not accepted.
    Loss,
    /// A log alone would end before what is committed.
    Refused,
}

/// What was planned, and done.
#[derive(Debug)]
pub struct RepairReport {
    /// The plan for the log.
    pub plan: Plan,
    /// The keys that the dropped entries name.
    pub lost_keys: LostKeys,
    /// Those that entries name which cannot be proven, as their bytes are now.
    pub claimed_keys: LostKeys,
    /// Names of the log's segments as they are.
    pub segments: Vec<String>,
    /// The db's last entry; `None` for a log alone.
    pub consistent_index: Option<u64>,
    /// `.snap` files that cannot be read and are left out.
    pub unreadable_snaps: Vec<UnreadableSnap>,
    /// `.snap` files ahead of the db, without the database that should have come with them: a server that chooses one of
    /// these ends, and so they are left out.
    pub newer_snaps: Vec<String>,
    /// Where the members of the `.snap` that is made come from.
    pub members_from: Option<&'static str>,
    /// Why nothing was written.
    pub held: Option<Held>,
    /// True when the mended copy is there.
    pub written: bool,
    /// What earlier, killed runs left for the same output.
    pub leftovers: Vec<PathBuf>,
    /// What of that was removed.
    pub cleaned: Vec<PathBuf>,
}

/// Why there is no plan, or no mended copy. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The log cannot be read.
    #[error(transparent)]
    Files(#[from] LogFilesError),
    /// One segment is no log.
    #[error("{}: is one segment; a repair needs the whole log: give the directory it lies in", .0.display())]
    OneSegment(PathBuf),
    /// Nothing can be made of the log.
    #[error("{}: {source}", path.display())]
    Plan {
        /// The log's directory.
        path: PathBuf,
        /// Why.
        source: PlanError,
    },
    /// The db cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The db cannot be read, so nobody knows where it stands.
    #[error(
        "{path}: {reason}; without knowing where the db stands nobody can say what the log may lose. 'etcd-rescue snapshot \
         status' says what is wrong with it; given the log's own directory, this repairs the log alone"
    )]
    Db {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The output lies in the input, which is evidence.
    #[error(
        "{}: lies in {}, which is the input and stays as it is; give a place outside of it", output.display(), input.display()
    )]
    Inside {
        /// The output.
        output: PathBuf,
        /// The directory of the input that it lies in.
        input: PathBuf,
    },
    /// No members could be found for the new `.snap`.
    #[error("{}: neither the db nor a .snap says who the members are, and a server needs that to start", .0.display())]
    NoMembers(PathBuf),
    /// The output cannot be where it should.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// There is no room.
    #[error("{0}; nothing was written")]
    Space(#[from] SpaceError),
    /// The log could not be written.
    #[error("{}: {source}; nothing was left behind", path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// Why.
        source: WriteError,
    },
    /// The db could not be copied.
    #[error("{}: {source}; nothing was left behind", path.display())]
    Copy {
        /// The output.
        path: PathBuf,
        /// Why.
        source: ReplicateError,
    },
    /// The system refused.
    #[error("{}: {source}; nothing was left behind", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What was read back is not what was planned.
    #[error("{}: read back, and {source}; nothing was left behind", path.display())]
    Unlike {
        /// The log that was written.
        path: PathBuf,
        /// In what.
        source: Unlike,
    },
    /// What was read back is not what was written.
    #[error("{}: read back and found different from what was written; do not trust this disk", .0.display())]
    ReadBack(PathBuf),
    /// The db was written to while it was copied.
    #[error("{path}: {source}. Nothing was left behind")]
    Changed {
        /// The file.
        path: String,
        /// Where.
        source: Changed,
    },
    /// The user asked to stop.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

impl RepairReport {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.plan.is_sound() && self.newer_snaps.is_empty()
    }
}

impl RepairError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Files(error) => error.exit_code(),
            Self::Open(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// A member's db, where there is one.
struct Member {
    input: Opened,
    schema: Schema,
}

/// Plans the repair of a log, and carries it out where that was asked for and nothing is lost, or the loss accepted.
///
/// # Errors
/// [`RepairError`]; nothing is left behind then.
pub fn repair(
    files: &LogFiles,
    options: &RepairOptions,
    open: &OpenOptions,
    watch: &dyn Watch,
) -> Result<RepairReport, RepairError> {
    if files.is_single_segment() {
        return Err(RepairError::OneSegment(files.path().to_owned()));
    }
    if let Some(output) = &options.output
        && let Some(input) = files.holding(output)
    {
        return Err(RepairError::Inside { output: output.clone(), input: input.to_owned() });
    }
    let member = member(files, open, watch)?;
    let (snapshots, unreadable_snaps) = snapshots(files.snaps());
    let plan_with = |db: Option<DbFacts>| {
        let facts = Facts { snapshots: snapshots.clone(), db };
        watch.begin("reading the log", files.len_bytes());
        let plan = wal::repair::plan(files, &facts, &progress(watch)).map_err(|source| match source {
            PlanError::Interrupted => RepairError::Interrupted,
            source => RepairError::Plan { path: files.wal_dir().to_owned(), source },
        })?;
        Ok::<_, RepairError>((plan, facts))
    };
    let db = member.as_ref().map(|member| db_facts(&member.schema));
    let waiting = db.and_then(|db| waiting(files.snaps(), db, open, watch));
    let planned = waiting.map(|waiting| plan_with(Some(waiting))).transpose()?;
    let (plan, facts) = match planned.filter(|(plan, _)| plan.new_snapshot.is_none()) {
        Some(planned) => planned,
        None => plan_with(db)?,
    };
    let lost_keys = LostKeys::of(&plan.dropped, files);
    let claimed_keys = LostKeys::of(&plan.claimed, files);
    let commit = plan.state.commit();
    let newer_snaps = member.as_ref().map_or_else(Vec::new, |member| newer(files.snaps(), member, commit));
    let mut report = RepairReport {
        lost_keys,
        claimed_keys,
        segments: files.names().iter().map(|name| name.name.clone()).collect(),
        consistent_index: facts.db.map(|db| db.consistent_index),
        unreadable_snaps,
        newer_snaps,
        members_from: None,
        held: None,
        written: false,
        leftovers: Vec::new(),
        cleaned: Vec::new(),
        plan,
    };
    let snap = match (&member, report.plan.new_snapshot) {
        (Some(member), Some((index, term))) => {
            let made = new_snap::make(index, term, member, files, watch)?;
            report.members_from = Some(made.members_from);
            Some(made)
        }
        _ => None,
    };
    if !report.plan.refusals.is_empty() {
        report.held = Some(Held::Refused);
    } else if !report.plan.losses.is_empty() && !options.accept_loss {
        report.held = Some(Held::Loss);
    }
    if let (Some(output), None) = (&options.output, report.held) {
        output::write(output, files, member.as_ref(), &facts, snap.as_ref(), &mut report, options, watch)?;
    }
    files.ensure_unchanged()?;
    Ok(report)
}

fn db_facts(schema: &Schema) -> DbFacts {
    DbFacts { consistent_index: schema.consistent_index, term: schema.term.filter(|term| *term > 0) }
}

/// The database that came with the newest `.snap` that can be read, where that is ahead of the db: a server that starts from
/// that `.snap` takes it in the db's place, and the log need not reach the older one (FORMATS F.1).
fn waiting(snaps: &[SnapFile], db: DbFacts, open: &OpenOptions, watch: &dyn Watch) -> Option<DbFacts> {
    let known = snaps.iter().filter(|snap| matches!(snap.kind(), SnapKind::Snap { .. }));
    let newest = known.filter_map(|snap| snap.facts().ok()).map(|facts| facts.index).max();
    let index = newest.filter(|index| *index > db.consistent_index)?;
    let file = snaps.iter().find(|snap| snap.kind() == SnapKind::Database { index })?;
    let options = InputOptions { open: *open, tmp_dir: None };
    let input = opened::open(file.path(), &options, watch).ok()?;
    let schema = Schema::read(&input.db().ok()?).ok()?;
    (schema.consistent_index >= index).then(|| db_facts(&schema))
}

/// The db beside the log; none when the log's own directory was given.
fn member(files: &LogFiles, open: &OpenOptions, watch: &dyn Watch) -> Result<Option<Member>, RepairError> {
    let is_log_alone = same_place(files.path(), files.wal_dir());
    let Some(path) = files.db_path().filter(|_| !is_log_alone) else { return Ok(None) };
    let options = InputOptions { open: *open, tmp_dir: None };
    let input = opened::open(path, &options, watch).map_err(RepairError::Open)?;
    let unreadable = |reason: String| RepairError::Db { path: path.display().to_string(), reason };
    let schema = {
        let db = input.db().map_err(|error: DbError| unreadable(error.to_string()))?;
        Schema::read(&db).map_err(|fault| unreadable(fault.to_string()))?
    };
    Ok(Some(Member { input, schema }))
}

fn same_place(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    a == b || real(a).is_some_and(|a| real(b) == Some(a))
}

/// The names of the `.snap` files that are ahead of the db, and whose database is not there. Servers ignore those beyond
/// the log's commit.
fn newer(snaps: &[SnapFile], member: &Member, commit: u64) -> Vec<String> {
    let has_database = |index: u64| {
        snaps.iter().any(|snap| matches!(snap.kind(), SnapKind::Database { index: of } if of == index))
    };
    let known = snaps.iter().filter(|snap| matches!(snap.kind(), SnapKind::Snap { .. }));
    let ahead = known.filter(|snap| {
        snap.facts().is_ok_and(|facts| {
            facts.index > member.schema.consistent_index
                && facts.index <= commit
                && !has_database(facts.index)
        })
    });
    ahead.map(|snap| snap.name().to_owned()).collect()
}

/// Index and term of the `.snap` files that can be read, and those that cannot.
fn snapshots(snaps: &[SnapFile]) -> (Vec<(u64, u64)>, Vec<UnreadableSnap>) {
    let (mut known, mut unreadable) = (Vec::new(), Vec::new());
    for snap in snaps.iter().filter(|snap| matches!(snap.kind(), SnapKind::Snap { .. })) {
        match snap.facts() {
            Ok(facts) => known.push((facts.index, facts.term)),
            Err(error) => {
                unreadable.push(UnreadableSnap { name: snap.name().to_owned(), reason: error.to_string() });
            }
        }
    }
    (known, unreadable)
}
