//! Folding a log into a db: what `snapshot save`, `snapshot restore` and `recover` do before all else.
//!
//! [`replay::range`](crate::replay::range) says which entries follow the db, [`Replay`] applies them; here the two meet, and the
//! account is drawn up that tells from where to where, by what, and what is left out. What becomes of the file is
//! [`Folded::change`]: some pages, which are laid over the file, or, when a compaction is among the entries, a file written anew.

use std::path::{Path, PathBuf};

use bbolt::{Db, Fault, OpenError as DbError, Source, Watch};
use wal::log::Interrupted;

use crate::datadir::Kind;
use crate::finding::{Finding, Severity};
use crate::log_files::{LogFiles, LogFilesError, progress};
use crate::log_verify;
use crate::members::store;
use crate::mvcc::Release;
use crate::opened::Opened;
use crate::replay::range::{self, EachError, Range, RangeError, Stretch, WhyLeftOut, because};
use crate::replay::small::Name;
use crate::replay::{
    Account, Cluster, Disagreement, FoldError as NotFolded, Folded, Replay, ReplayError, ReplayOptions, Stop,
    StopReason,
};
use crate::schema::{CLUSTER_VERSION, Schema};
use crate::structure::way_out;
use crate::target::minor_of;

/// How far, and by whose rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FoldOptions {
    /// The last entry to apply; `None` for all that may be.
    pub to_index: Option<u64>,
    /// The last revision to reach: the entry that makes the next one, and all behind it, are left out.
    pub to_revision: Option<i64>,
    /// The release whose rules hold; `None` for the newest of the minor version that wrote the data.
    pub as_etcd: Option<Release>,
}

/// Where the entries come from that are folded into a db.
#[derive(Debug, Clone, Copy)]
pub enum Entries<'a> {
    /// The log of the db's member; how far it goes is told from the two.
    OfLog(&'a LogFiles),
    /// Entries that were chosen, from one log or several.
    Chosen(&'a History<'a>),
}

/// Entries that follow a db, and the logs that have them. Whoever makes it answers for their being one history.
#[derive(Debug, Clone)]
pub struct History<'a> {
    /// Which entries they are, and which are left out.
    pub range: Range,
    /// Where they are: by ascending index, without a gap from the first behind [`Range::after`] to [`Range::last`].
    pub stretches: Vec<Stretch<'a>>,
    /// All logs of that history: each may be the one that says who the members are where the db stands.
    pub logs: Vec<(&'a LogFiles, &'a wal::Log)>,
    /// The newest release that any member ran, and what says so, where that is not for the db alone to say.
    pub newest: Option<(Release, String)>,
}

impl<'a> Entries<'a> {
    /// The logs.
    #[must_use]
    pub fn files(self) -> Vec<&'a LogFiles> {
        match self {
            Self::OfLog(files) => vec![files],
            Self::Chosen(history) => history.logs.iter().map(|(files, _)| *files).collect(),
        }
    }
}

/// Where a db stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// The store's revision.
    pub revision: i64,
    /// Index of the last entry in it.
    #[serde(rename = "consistentIndex")]
    pub index: u64,
    /// Term of that entry; 0 where that is not known.
    pub term: u64,
}

/// What was folded, and what was not.
#[derive(Debug, Clone)]
pub struct FoldReport {
    /// The directories of the logs that were read.
    pub wal_dirs: Vec<PathBuf>,
    /// Where the db stood.
    pub before: Point,
    /// Where it stands.
    pub after: Point,
    /// Which entries were applied and which were not.
    pub range: Range,
    /// What they were, and what came of them.
    pub account: Account,
    /// Why it ended before an entry that was to be applied.
    pub stop: Option<Stop>,
    /// Whose rules held.
    pub release: Release,
    /// Why those.
    pub release_reason: String,
    /// What is wrong with the log, or doubtful about what it came to.
    pub findings: Vec<Finding>,
}

impl FoldReport {
    /// Entries of the log that were left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.range.left_out.iter().map(range::LeftOut::count).fold(0, u64::saturating_add)
    }
}

/// Why a log was not folded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// The log cannot be read.
    #[error("{0}; --no-replay takes the database alone")]
    NoLog(LogFilesError),
    /// The log's files cannot be read, or were changed.
    #[error(transparent)]
    Files(#[from] LogFilesError),
    /// The log does not go with the db, or does not reach as far as it must.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The db cannot be opened.
    #[error("{path}: {source}{}", way_out(source))]
    Db {
        /// The file.
        path: String,
        /// Why.
        source: DbError,
    },
    /// The db is damaged.
    #[error("{path}: {source}; nothing can be applied to it")]
    Fault {
        /// The file.
        path: String,
        /// Where.
        source: Fault,
    },
    /// The db cannot be read as a server does.
    #[error("{path}: {source}")]
    Replay {
        /// The file.
        path: String,
        /// Why.
        source: ReplayError,
    },
    /// An entry cannot be applied, for a reason that is no entry's.
    #[error("{path}: {stop}. Nothing was written")]
    Stopped {
        /// What was given.
        path: String,
        /// At which entry, and why.
        stop: Stop,
    },
    /// What was applied cannot be laid over the db.
    #[error("{path}: {source}")]
    Fold {
        /// The file.
        path: String,
        /// Why.
        source: NotFolded,
    },
    /// The revision asked for is in the db.
    #[error(
        "{path}: --to-revision {revision}: the database has come to revision {at} already, and its log leads only forward. 'etcd-rescue \
         snapshot restore --at-revision {revision}' takes the keys back"
    )]
    PastRevision {
        /// What was given.
        path: String,
        /// The revision.
        revision: i64,
        /// The db's.
        at: i64,
    },
    /// The revision asked for is beyond what can be reached.
    #[error(
        "{path}: --to-revision {revision}: the last that can be reached is {reached}, at entry {index}, {why}"
    )]
    FutureRevision {
        /// What was given.
        path: String,
        /// The revision.
        revision: i64,
        /// The last there is.
        reached: i64,
        /// The last entry applied.
        index: u64,
        /// Why it is the last.
        why: &'static str,
    },
    /// The user asked to stop.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
}

impl From<Interrupted> for FoldError {
    fn from(Interrupted: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl FoldError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::NoLog(LogFilesError::NoLog { .. }) => 4,
            Self::NoLog(error) | Self::Files(error) => error.exit_code(),
            Self::Range(error) => error.exit_code(),
            Self::Replay { source, .. } => source.exit_code(),
            Self::Fold { source, .. } => source.exit_code(),
            Self::Db { .. }
            | Self::Fault { .. }
            | Self::Stopped { .. }
            | Self::PastRevision { .. }
            | Self::FutureRevision { .. } => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Range(error) => error.findings(),
            Self::Replay { source: ReplayError::Read(error), .. } => error.findings(),
            _ => &[],
        }
    }
}

/// The release whose rules hold, and why: the newest of the minor version that wrote the data. A server that starts on a
/// directory is most likely one of those.
#[must_use]
pub fn release(schema: &Schema, as_etcd: Option<Release>) -> (Release, String) {
    if let Some(release) = as_etcd {
        return (release, "asked for with --as-etcd".to_owned());
    }
    let written = schema.written_by();
    let of_minor = written.and_then(|(version, reason)| Some((version.to_string().parse().ok()?, reason)));
    of_minor
        .unwrap_or_else(|| (Release::NEWEST, "nothing in the data tells which version wrote it".to_owned()))
}

/// The release whose rules hold where the log raised the cluster's version beyond `release`, and why.
fn upgraded<S: Source>(replay: &Replay<'_, S>, release: Release) -> Option<(Release, String)> {
    let text = String::from_utf8_lossy(replay.small().get(Name::Cluster, CLUSTER_VERSION)?).into_owned();
    let minor = minor_of(&text).filter(|minor| *minor > release.minor())?;
    Some((format!("3.{minor}").parse().ok()?, format!("its log raises the cluster version to {text}")))
}

/// Applies to `db`, that of `input`, the `entries` beyond it.
///
/// # Errors
/// When a log does not go with the db, is damaged or changes meanwhile, does not reach as far as it must or was asked to,
/// or the user asked to stop.
pub fn fold<'d, S: Source>(
    input: &Opened,
    db: &'d Db<S>,
    entries: Entries<'_>,
    options: &FoldOptions,
    watch: &dyn Watch,
) -> Result<(Folded<'d, S>, FoldReport), FoldError> {
    let path = || input.path().display().to_string();
    let schema = Schema::read(db).map_err(|source| FoldError::Fault { path: path(), source })?;
    let files = match entries {
        Entries::Chosen(history) => {
            let job = Job { path: input.path(), db, history, schema: &schema, watch };
            return job.fold(options, Vec::new());
        }
        Entries::OfLog(files) => files,
    };
    watch.begin("reading the log", files.len_bytes());
    let log = wal::log::read(files, &progress(watch))?;
    let range = range::find(input, &schema, files, &log, options.to_index)?;
    let whole = Stretch { files, log: &log, entries: range.entries() };
    let history = History { range, stretches: vec![whole], logs: vec![(files, &log)], newest: None };
    let mut findings = log_verify::findings(&log, files);
    if input.kind() == Kind::File {
        // What lies beside the log belongs to another db.
        findings.retain(|found| found.code.starts_with("WAL-") && !found.code.starts_with("WAL-DB-"));
    }
    Job { path: input.path(), db, history: &history, schema: &schema, watch }.fold(options, findings)
}

/// Applies to `db`, which is called `path` where something is said of it, the entries of `history`.
///
/// # Errors
/// As [`fold`], but for what is wrong with the logs: whoever made the history answers for that.
pub fn fold_history<'d, S: Source>(
    path: &Path,
    db: &'d Db<S>,
    history: &History<'_>,
    options: &FoldOptions,
    watch: &dyn Watch,
) -> Result<(Folded<'d, S>, FoldReport), FoldError> {
    let fault = |source| FoldError::Fault { path: path.display().to_string(), source };
    let schema = Schema::read(db).map_err(fault)?;
    Job { path, db, history, schema: &schema, watch }.fold(options, Vec::new())
}

/// One fold under way.
struct Job<'j, 'd, S> {
    path: &'j Path,
    db: &'d Db<S>,
    history: &'j History<'j>,
    schema: &'j Schema,
    watch: &'j dyn Watch,
}

/// What came of applying a range.
struct Ran<'d, S> {
    replay: Replay<'d, S>,
    before: Point,
    range: Range,
    stop: Option<Stop>,
    /// The entry that went beyond the revision that was to be the last.
    overrun: Option<u64>,
}

/// Why applying ended early.
enum End {
    Stop(Stop),
    Overrun(u64),
    Interrupted,
}

impl<'d, S: Source> Job<'_, 'd, S> {
    fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Applies the entries; `findings` are what is known of the logs.
    fn fold(
        &self,
        options: &FoldOptions,
        mut findings: Vec<Finding>,
    ) -> Result<(Folded<'d, S>, FoldReport), FoldError> {
        let (mut release, mut release_reason) = release(self.schema, options.as_etcd);
        if let Some((newest, reason)) = self.history.newest.as_ref().filter(|_| options.as_etcd.is_none())
            && newest.minor() > release.minor()
        {
            (release, release_reason) = (*newest, reason.clone());
        }
        let mut ran = self.run_to(release, options.to_revision)?;
        if let Some((later, reason)) = upgraded(&ran.replay, release).filter(|_| options.as_etcd.is_none()) {
            // No server of the release that wrote the db starts on what the log makes of it.
            (release, release_reason) = (later, reason);
            ran = self.run_to(release, options.to_revision)?;
        }
        let Ran { replay, before, range, stop, .. } = ran;
        if let Some(revision) = options.to_revision.filter(|revision| *revision > replay.revision()) {
            let why =
                stop.as_ref().map_or(because(range.bound), |_| "before an entry that cannot be applied");
            let (reached, index) = (replay.revision(), range.last);
            return Err(FoldError::FutureRevision { path: self.path(), revision, reached, index, why });
        }
        let folded = replay.fold(self.watch).map_err(|source| self.not_folded(source))?;
        for (files, _) in &self.history.logs {
            files.ensure_unchanged()?;
        }
        let account = folded.account().clone();
        findings.extend(stop.as_ref().map(|stop| stopped(stop, &range)));
        findings.extend(uncertain(&range));
        let disagreements = account.disagreements.iter();
        findings.extend(disagreements.map(|(what, count)| disagreement(*what, count.entries, count.first)));
        let after =
            Point { revision: folded.revision(), index: folded.consistent_index(), term: folded.term() };
        let wal_dirs = self.history.logs.iter().map(|(files, _)| files.wal_dir().to_owned()).collect();
        let report =
            FoldReport { wal_dirs, before, after, range, account, stop, release, release_reason, findings };
        Ok((folded, report))
    }

    fn not_folded(&self, source: NotFolded) -> FoldError {
        if source.exit_code() == 130 {
            return FoldError::Interrupted;
        }
        FoldError::Fold { path: self.path(), source }
    }

    /// Applies the entries by the rules of `release`; ends before the first that makes the revision larger than `to_revision`.
    fn run_to(&self, release: Release, to_revision: Option<i64>) -> Result<Ran<'d, S>, FoldError> {
        let range = &self.history.range;
        let ran = self.run(range.clone(), release, to_revision)?;
        // The entry that goes too far has been applied, and cannot be taken back.
        let Some(index) = ran.overrun else { return Ok(ran) };
        let mut shorter = range.clone();
        shorter.end_at(index.saturating_sub(1), WhyLeftOut::Asked);
        shorter.bound = range::Bound::Asked;
        self.run(shorter, release, None)
    }

    /// Applies `range`; ends behind the first entry that makes the revision larger than `to_revision`.
    fn run(
        &self,
        mut range: Range,
        release: Release,
        to_revision: Option<i64>,
    ) -> Result<Ran<'d, S>, FoldError> {
        let options = ReplayOptions { release, ..ReplayOptions::default() };
        let mut replay =
            Replay::of(self.db, options, self.watch).map_err(|source| match source.exit_code() {
                130 => FoldError::Interrupted,
                _ => FoldError::Replay { path: self.path(), source },
            })?;
        let before =
            Point { revision: replay.revision(), index: replay.consistent_index(), term: replay.term() };
        let cluster = release.takes_members_from_v2store().then(|| {
            let mut known = self.history.logs.iter();
            known.find_map(|(files, log)| store::cluster(files, log, before.index, release).ok())
        });
        // What a restored directory's store does not say, names above all, the rows do.
        let cluster =
            cluster.flatten().map(|cluster| cluster.with_attributes_of(&Cluster::of(replay.small())));
        if let Some(cluster) = cluster {
            replay = replay.with_cluster(cluster);
        }
        if let Some(revision) = to_revision.filter(|revision| *revision < before.revision) {
            return Err(FoldError::PastRevision { path: self.path(), revision, at: before.revision });
        }
        let stretches = &self.history.stretches;
        self.watch.begin("applying the log", range.len_bytes(stretches));
        let applied = range::each(range.entries(), stretches, |entry| {
            if self.watch.interrupted() {
                return Err(End::Interrupted);
            }
            replay.apply(entry).map_err(End::Stop)?;
            self.watch.advance(entry.data.len() as u64);
            match to_revision {
                Some(revision) if replay.revision() > revision => Err(End::Overrun(entry.index)),
                _ => Ok(()),
            }
        });
        let (mut stop, mut overrun) = (None, None);
        match applied {
            Ok(()) => {}
            Err(EachError::Range(error)) => return Err(error.into()),
            Err(EachError::Visit(End::Interrupted)) => return Err(FoldError::Interrupted),
            Err(EachError::Visit(End::Overrun(index))) => overrun = Some(index),
            Err(EachError::Visit(End::Stop(found))) => {
                if matches!(found.reason, StopReason::NotNext { .. } | StopReason::Unreadable(_)) {
                    return Err(FoldError::Stopped { path: self.path(), stop: found });
                }
                range.end_at(found.index.saturating_sub(1), WhyLeftOut::BehindUnknown);
                stop = Some(found);
            }
        }
        Ok(Ran { replay, before, range, stop, overrun })
    }
}

/// That an entry ended it.
fn stopped(stop: &Stop, range: &Range) -> Finding {
    let count = range.left_out_by(WhyLeftOut::BehindUnknown);
    let message = format!(
        "{stop}. Nothing from there on was applied: {count} entries of the log that belong to the database are left out. A newer \
         etcd-rescue, or the etcd that wrote the log, may know what it means"
    );
    Finding::new("ETCD-REPLAY-STOP", Severity::Error, message)
}

/// That what is left out may have been committed, which other members would know.
fn uncertain(range: &Range) -> Option<Finding> {
    let count = range.left_out_by(WhyLeftOut::NotCommitted);
    // Who asks for less knows that there is more.
    (count > 0 && range.left_out_by(WhyLeftOut::Asked) == 0).then(|| {
        let message = format!(
            "{count} of the log's entries, those behind {}, are left out: this member was not told whether they are committed. If they are, another \
             member's files say so, and clients may have been told that they were done",
            range.last
        );
        Finding::new("ETCD-REPLAY-UNCERTAIN", Severity::Warning, message)
    })
}

/// That servers disagree.
fn disagreement(what: Disagreement, entries: u64, first: u64) -> Finding {
    let message = match what {
        Disagreement::TxnRange => format!(
            "{entries} transaction(s), the first at entry {first}, read at a revision that was compacted or yet to come: up to etcd 3.6 \
             the member that proposed such a one refused it, and the others applied it. It was applied"
        ),
        Disagreement::AlarmWithoutAuth => format!(
            "{entries} request(s), the first at entry {first}, came while an alarm stood that this log raised, with authentication on: up to \
             etcd 3.5 a server that saw the alarm raised no longer asks who may do what, and one that starts with the alarm \
             in its database does. It was done as by one that starts on this database"
        ),
    };
    Finding::new("ETCD-REPLAY-DISAGREE", Severity::Warning, message)
}
