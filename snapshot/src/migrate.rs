//! `migrate`: a member's database made to fit another minor version of etcd, as `etcdutl migrate` of 3.6 and 3.7 does (FORMATS J).
//!
//! From 3.6 on a database says in one row of bucket `meta` which version's rows it has. [`steps`] knows what each version changed, and
//! goes the way up or down; [`needs`] which entries of the log, behind its last snapshot, an older version would not understand, by
//! `since`'s table. Such entries keep a database from being made older; with `force` the row is written all the same.
//!
//! What etcdutl leaves alone is the *cluster's* version: a server ends when it is older than that. So whoever goes down is told
//! (`cluster`).
//!
//! Where etcdutl 3.6 and 3.7 differ, this is 3.7.1: the log is read from the last snapshot record that a server believes, not from
//! the newest `.snap`, and a database counts as one of 3.5 when it has a term, with or without a `confState`. Where 3.7.1 panics (a
//! request of the v2 API behind the snapshot) this does as 3.6.14.

mod cluster;
pub mod needs;
mod since;
pub mod steps;
mod whole;

use std::path::PathBuf;

use bbolt::graft::Graft;
use bbolt::{Fault, GraftError, OpenError as DbError, Patch, Watch};
use wal::log::ServerEndKind;

use crate::datadir::Kind as InputKind;
use crate::edited::{self, Change, EditError, EditOptions};
use crate::finding::{Finding, Severity};
use crate::log_files::{self, LogFiles, LogFilesError, LogOptions, progress};
use crate::log_verify;
use crate::lone::ids;
use crate::member_copy::MemberCopyError;
use crate::opened::Opened;
use crate::replaced::{self, ReplaceError, ReplaceOptions};
use crate::replicate::replicate;
use crate::reseat::ReseatError;
use crate::save::{SaveError, not_written};
use crate::schema::Schema;
use crate::semver::{Semver, SemverError, quoted};
use crate::stage::{Owner, Stage, StageError};
use crate::whole_member::WholeError;

pub use whole::migrate_whole;

use needs::{Blocking, Needs};
use steps::{Edit, NoWay};

/// The oldest version there is a way to.
const OLDEST: Semver = Semver::minor(3, 5);
/// Most entries that a message or a list of findings names.
const MOST_NAMED: usize = 20;

/// Why a text is no version to migrate to, in etcdutl's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not two numbers.
    #[error("wrong target version format, expected \"X.Y\", got {}", quoted(.0))]
    Format(String),
    /// Two texts, but no version.
    #[error("failed to parse target version: {0}")]
    NoVersion(#[from] SemverError),
    /// Older than what has versions at all.
    #[error("target version {} not supported. Minimal \"3.5\"", quoted(&.0.short()))]
    TooOld(Semver),
}

/// Reads a version to migrate to, such as `3.6`.
///
/// # Errors
/// [`TargetError`].
pub fn target(text: &str) -> Result<Semver, TargetError> {
    if text.matches('.').count() != 1 {
        return Err(TargetError::Format(text.to_owned()));
    }
    let version = Semver::parse(&format!("{text}.0"))?;
    if version.is_before(&OLDEST) { Err(TargetError::TooOld(version)) } else { Ok(version) }
}

/// What to do, and where.
#[derive(Debug, Clone, Default)]
pub struct MigrateOptions {
    /// The version to migrate to ([`target`]).
    pub target: Semver,
    /// Write the version also where there is no way to it, or entries are in it.
    pub force: bool,
    /// The data dir to write; `None` to put the new database in the place of the old one.
    pub output: Option<PathBuf>,
    /// In place: leave a copy of the old database beside the new one.
    pub keep_original: bool,
    /// Do everything but write.
    pub dry_run: bool,
    /// Who shall own the output.
    pub owner: Option<Owner>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrateReport {
    /// The database that is, or would be, of the new version.
    pub db: PathBuf,
    /// The version it had.
    pub from: Semver,
    /// The version it has now.
    pub to: Semver,
    /// The versions it went through, the last one included; empty where nothing was to be done, or it was forced.
    pub steps: Vec<Semver>,
    /// Why it had to be forced.
    pub forced: Option<String>,
    /// What the entries behind the log's last snapshot need; `None` where the log was not read, since nothing was to be done.
    pub needs: Option<Needs>,
    /// The version that the cluster has agreed on, by the database.
    pub cluster_version: String,
    /// The copy of the old database, where one was asked for.
    pub original: Option<PathBuf>,
    /// The entry from which servers start now, where the cluster's version was set.
    pub seat: Option<u64>,
    /// Names of files that are not in the output, since no server needs them.
    pub left_out: Vec<String>,
    /// What earlier, killed runs left at the place of a whole member.
    pub leftovers: Vec<PathBuf>,
    /// What of that was removed.
    pub cleaned: Vec<PathBuf>,
    /// What to know of the result.
    pub findings: Vec<Finding>,
    /// What could not be had, a sentence each.
    pub warnings: Vec<String>,
}

impl MigrateReport {
    /// Whether the database was of the version asked for already.
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.from == self.to
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// A file of its own.
    #[error(
        "{path}: is a file; a data dir is needed, since the log decides what its database may become. A snapshot fits every version: 'etcd-rescue \
         snapshot restore' with --target-version makes a data dir of it"
    )]
    NotADirectory {
        /// The path.
        path: String,
    },
    /// The database is none, or damaged.
    #[error("{path}: {reason}; 'etcd-rescue bbolt check {path}' tells more. Nothing was changed")]
    Database {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// It is older than 3.5.
    #[error(
        "missing term information: {path} was last written by 3.4 or older, or by a 3.5 that has applied nothing since. Start etcd 3.5 on it \
         once, and let it take writes; then this works. Nothing was changed"
    )]
    NoTerm {
        /// The file.
        path: String,
    },
    /// The log cannot be opened.
    #[error("failed to open wal: {0}. Nothing was changed")]
    Log(#[source] LogFilesError),
    /// A server does not get through the log.
    #[error(
        "failed to read wal: {path}: {what}. 'etcd-rescue wal verify {path}' says more, 'etcd-rescue wal repair {path} -o REPAIRED' makes a copy \
         that can be given to this command. Nothing was changed"
    )]
    BrokenLog {
        /// The log's directory.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// There is no way from one version to the other.
    #[error(
        "cannot create migration plan: {0}. With --force the version is written all the same, which no server may like. Nothing was changed"
    )]
    NoWay(#[from] NoWay),
    /// Entries are in the way.
    #[error(
        "{words}. {count} entr{} behind the log's last snapshot, at {from}, would be misunderstood. Start the version that wrote them once \
         more and let it take a snapshot, or accept with --force that a server may end over them. Nothing was changed",
        if *count == 1 { "y" } else { "ies" }
    )]
    Blocked {
        /// What etcdutl says.
        words: String,
        /// How many there are.
        count: u64,
        /// The snapshot's index.
        from: u64,
        /// They, one by one.
        findings: Vec<Finding>,
    },
    /// The database cannot be edited.
    #[error("{path}: {source}. Nothing was changed")]
    Graft {
        /// The file.
        path: String,
        /// Why.
        source: GraftError,
    },
    /// The member has peers.
    #[error(
        "{path}: its cluster has the members {}, and its version is one that all of them must agree on. Run this command on the data dir of \
         each of them, with --on-every-member, before any is started. Nothing was changed",
        ids(members)
    )]
    SeveralMembers {
        /// What was given.
        path: String,
        /// Who votes or listens.
        members: Vec<u64>,
    },
    /// It has keys that the target does not take.
    #[error(
        "{path}: {}. A server older than {} will not start on what is written, and one of it neither, or the keys are lost to it; --force \
         writes it all the same. Nothing was changed",
        finding.message, target.short()
    )]
    V2Keys {
        /// What was given.
        path: String,
        /// The version asked for.
        target: Semver,
        /// They.
        finding: Box<Finding>,
    },
    /// It is no member from which a server starts.
    #[error(transparent)]
    Whole(#[from] WholeError),
    /// It cannot start from another point.
    #[error(transparent)]
    Reseat(#[from] ReseatError),
    /// The whole member cannot be written.
    #[error(transparent)]
    Copy(#[from] MemberCopyError),
    /// The copy cannot be written, or what is to be written is not sound.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The new database cannot be put in place.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
}

impl From<SaveError> for MigrateError {
    fn from(error: SaveError) -> Self {
        Self::Edit(error.into())
    }
}

impl MigrateError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Log(error) => error.exit_code(),
            Self::Blocked { .. } | Self::NoWay(_) | Self::SeveralMembers { .. } | Self::V2Keys { .. } => 4,
            Self::Whole(error) => error.exit_code(),
            Self::Reseat(error) => error.exit_code(),
            Self::Copy(error) => error.exit_code(),
            Self::Edit(error) => error.exit_code(),
            Self::Replace(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Log(error) => error.findings(),
            Self::Blocked { findings, .. } => findings,
            Self::Whole(error) => error.findings(),
            Self::Reseat(error) => error.findings(),
            Self::Copy(error) => error.findings(),
            Self::Edit(error) => error.findings(),
            _ => &[],
        }
    }
}

/// The version of the rows in a database, as 3.7.1 tells it: the one it names, or 3.5 where it has a term; `None` of an older one.
#[must_use]
pub fn version_of(schema: &Schema) -> Option<Semver> {
    let has_term = schema.term.is_some_and(|term| term > 0);
    Semver::parse(&schema.storage_version).ok().or_else(|| has_term.then_some(OLDEST))
}

/// What is to be done to a database, and what keeps it from being done.
struct Plan {
    edits: Vec<Edit>,
    report: MigrateReport,
}

/// Makes the database of `input`, a data dir, one of the version asked for: in its place, for which it is opened under the exclusive
/// lock, or in a copy of the whole directory. `log` is how its log is opened.
///
/// # Errors
/// [`MigrateError`]; the input is as it was then, and nothing is left behind.
pub fn migrate(
    input: &Opened,
    log: &LogOptions,
    options: &MigrateOptions,
    watch: &dyn Watch,
) -> Result<MigrateReport, MigrateError> {
    let path = || input.db_path().display().to_string();
    if input.kind() == InputKind::File {
        return Err(MigrateError::NotADirectory { path: path() });
    }
    let open = |reason: DbError| MigrateError::Database { path: path(), reason: reason.to_string() };
    let damaged = |fault: Fault| MigrateError::Database { path: path(), reason: fault.to_string() };
    let schema = Schema::read(&input.db().map_err(open)?).map_err(damaged)?;
    let from = version_of(&schema).ok_or_else(|| MigrateError::NoTerm { path: path() })?;
    let files = if from == options.target && options.output.is_none() {
        None
    } else {
        Some(log_files::open(input.path(), log, watch).map_err(MigrateError::Log)?)
    };
    let Plan { edits, mut report } = plan(input, &schema, from, files.as_ref(), None, options, watch)?;
    let needs = report.needs.as_ref();
    let ahead = cluster::ahead(&schema, files.as_ref().map(LogFiles::snaps), needs, &options.target);
    report.findings.extend(ahead);
    report.findings.extend(cluster::v2_keys(files.as_ref().map(LogFiles::snaps), needs, &options.target));
    match (&options.output, &files) {
        (Some(output), Some(files)) => {
            let patch = patch(input, &edits)?;
            let how = EditOptions {
                output: output.clone(),
                dry_run: options.dry_run,
                owner: options.owner,
                io: log.io,
                with_hash: false,
            };
            let done = edited::write(input, Some(files), Change::Patch(&patch), &how, watch)?;
            report.left_out = done.left_out;
            report.db = output.join("member").join("snap").join("db");
        }
        _ if edits.is_empty() => {}
        _ => in_place(input, &edits, options, &mut report, watch)?,
    }
    Ok(report)
}

/// What is to be done to the database of `input`, whose version is `from`, and what is to be known of it. Servers will start behind the
/// entry `seat`, where one is given, and else behind the log's last snapshot.
fn plan(
    input: &Opened,
    schema: &Schema,
    from: Semver,
    files: Option<&LogFiles>,
    seat: Option<u64>,
    options: &MigrateOptions,
    watch: &dyn Watch,
) -> Result<Plan, MigrateError> {
    let mut plan = Plan {
        edits: Vec::new(),
        report: MigrateReport {
            db: input.db_path().to_owned(),
            from,
            to: options.target.clone(),
            steps: Vec::new(),
            forced: None,
            needs: None,
            cluster_version: schema.cluster_version.clone(),
            original: None,
            seat: None,
            left_out: Vec::new(),
            leftovers: Vec::new(),
            cleaned: Vec::new(),
            findings: Vec::new(),
            warnings: Vec::new(),
        },
    };
    let report = &mut plan.report;
    report.findings.extend(input.pending_snapshots(schema.consistent_index));
    let target = &options.target;
    if let Some(files) = files.filter(|_| report.from != *target) {
        let (needs, snapshot) = read_log(files, seat, target, watch)?;
        let way = steps::steps(&report.from, target).map_err(MigrateError::from).and_then(|way| {
            let older = target.is_before(&report.from) && needs.blocking_count > 0;
            if older { Err(blocked(&needs, target, snapshot)) } else { Ok(way) }
        });
        match way {
            Ok(way) => {
                report.steps = way.iter().map(|step| step.to.clone()).collect();
                plan.edits = way.into_iter().flat_map(|step| step.edits).collect();
            }
            Err(error) if options.force => {
                report.findings.extend_from_slice(error.findings());
                report.forced = Some(match error {
                    MigrateError::Blocked { words, .. } => words,
                    MigrateError::NoWay(why) => format!("cannot create migration plan: {why}"),
                    other => other.to_string(),
                });
                plan.edits = vec![Edit::of_version(target)];
            }
            Err(error) => return Err(error),
        }
        report.needs = Some(needs);
    }
    Ok(plan)
}

/// What the log needs behind `seat`, or else behind its last snapshot, and the index of that.
fn read_log(
    files: &LogFiles,
    seat: Option<u64>,
    target: &Semver,
    watch: &dyn Watch,
) -> Result<(Needs, u64), MigrateError> {
    let interrupted = |_| MigrateError::Log(LogFilesError::Interrupted);
    watch.begin("reading the log", files.len_bytes());
    let log = wal::log::read(files, &progress(watch)).map_err(interrupted)?;
    if log.server_end.is_none_or(|end| end.kind == ServerEndKind::Stops) {
        let found = log_verify::findings(&log, files);
        let what = found.into_iter().find(|finding| finding.severity == Severity::Error);
        return Err(MigrateError::BrokenLog {
            path: files.wal_dir().display().to_string(),
            what: what.map_or_else(|| "it has no segment".to_owned(), |finding| finding.to_string()),
        });
    }
    let snapshot = seat.unwrap_or_else(|| needs::last_snapshot(&log));
    let needs = needs::of_log(&log, files, snapshot, target, watch).map_err(MigrateError::Log)?;
    files.ensure_unchanged().map_err(MigrateError::Log)?;
    Ok((needs, snapshot))
}

fn blocked(needs: &Needs, target: &Semver, snapshot: u64) -> MigrateError {
    let needed =
        needs.highest.as_ref().map(|(need, _)| &need.version).filter(|needed| target.is_before(needed));
    let words = match needed {
        Some(needed) => format!(
            "cannot downgrade storage, WAL contains newer entries, as the target version ({target}) is lower than the version ({needed}) \
             detected from WAL logs"
        ),
        None => format!(
            "cannot downgrade storage, WAL contains entries of which nobody can say whether {} understands them",
            target.short()
        ),
    };
    let mut findings: Vec<Finding> =
        needs.blocking.iter().take(MOST_NAMED).map(|entry| in_the_way(entry, target)).collect();
    let named = u64::try_from(findings.len()).unwrap_or(u64::MAX);
    if let Some(more) = needs.blocking_count.checked_sub(named).filter(|more| *more > 0) {
        findings.push(Finding::new(
            DOWNGRADE_BLOCKED,
            Severity::Error,
            format!("{more} more entries are in the way"),
        ));
    }
    MigrateError::Blocked { words, count: needs.blocking_count, from: snapshot, findings }
}

/// Code of an entry that an older version would not understand.
const DOWNGRADE_BLOCKED: &str = "ETCD-DOWNGRADE-BLOCKED";

fn in_the_way(entry: &Blocking, target: &Semver) -> Finding {
    let why = match &entry.need {
        Ok(need) => format!("needs etcd {} for its {}", need.version.short(), need.by),
        Err(unclear) => format!("cannot be understood: {unclear}"),
    };
    let message =
        format!("entry {} of term {} {why}; {} does not know it", entry.index, entry.term, target.short());
    Finding::new(DOWNGRADE_BLOCKED, Severity::Error, message)
}

/// The pages that make these edits.
fn patch(input: &Opened, edits: &[Edit]) -> Result<Patch, MigrateError> {
    let path = || input.db_path().display().to_string();
    let db = input.db().map_err(|source| SaveError::Db { path: path(), source })?;
    let failed = |source| MigrateError::Graft { path: path(), source };
    let mut graft = Graft::new(&db);
    for edit in edits {
        let mut rows = graft.pairs(edit.bucket).map_err(failed)?.unwrap_or_default();
        edit.make(&mut rows);
        graft.replace_bucket(edit.bucket, rows).map_err(failed)?;
    }
    graft.finish().map_err(failed)
}

/// Puts the edited database in the place of the old one.
fn in_place(
    input: &Opened,
    edits: &[Edit],
    options: &MigrateOptions,
    report: &mut MigrateReport,
    watch: &dyn Watch,
) -> Result<(), MigrateError> {
    replaced::ensure_in_place(input)?;
    let patch = patch(input, edits)?;
    edited::check_patched(input, &patch, watch)?;
    if options.dry_run {
        return Ok(());
    }
    let how = ReplaceOptions { expected_bytes: patch.len_bytes(), keep_original: options.keep_original };
    let make = |stage: &Stage| write_db(input, &patch, stage, watch);
    let done = replaced::replace(input, how, make, watch)?;
    report.original = done.original;
    report.warnings.extend(done.warnings);
    Ok(())
}

/// Writes the edited database into the stage, and reads it back.
fn write_db(input: &Opened, patch: &Patch, stage: &Stage, watch: &dyn Watch) -> Result<(), MigrateError> {
    let not_a_file = || StageError::NotADirectory(stage.path().to_owned());
    let file = stage.file().ok_or_else(not_a_file).map_err(SaveError::from)?;
    let image = edited::patched(input, patch);
    watch.begin("writing", 2 * patch.len_bytes());
    replicate(&image, 0, input.source().file(), &[(file, stage.path())], watch)
        .map_err(|error| not_written(error, input, stage.path()))?;
    Ok(())
}
