//! Which entries follow a db, and how far they may be applied (FORMATS G.4, R.2, E.8, W).
//!
//! A db holds everything up to its consistent index. What follows is applied up to the last entry that is known to be
//! committed: the commit of the log's hard state, or the consistent index where that is more, for a server syncs its hard
//! state late. A member who alone votes commits all it has when it starts, so there it is the last entry a server reads.
//!
//! Nothing is guessed. A log that does not go with the db, that has a gap, or that breaks where entries are needed is
//! refused, with what accepts it; what is left out is counted, with the reason.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use wal::EntryRef;
use wal::log::{Log, Reach, Segments, ServerEndKind};
use wal::scan::{Item, scan};

use crate::finding::Finding;
use crate::log_files::LogFiles;
use crate::lone;
use crate::membership::{Member, hex_id};
use crate::opened::Opened;
use crate::schema::Schema;
use crate::snap_files::{SnapFile, SnapKind};

/// The entries to apply to a db.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The last entry in the db.
    pub after: u64,
    /// The last entry to apply; [`Self::after`] when there is none.
    pub last: u64,
    /// What ends it there.
    pub bound: Bound,
    /// The first entry of the log, where it has one.
    pub log_first: Option<u64>,
    /// The last entry of the log, applied or not.
    pub log_last: u64,
    /// The commit of the log's last hard state.
    pub commit: u64,
    /// Whether the member is the only voter of its cluster, and so commits all it has.
    pub is_lone: bool,
    /// Entries of the log that are not applied, and why.
    pub left_out: Vec<LeftOut>,
}

/// Entries that one log has.
#[derive(Debug, Clone)]
pub struct Stretch<'a> {
    /// The log's files.
    pub files: &'a LogFiles,
    /// What was read of them.
    pub log: &'a Log,
    /// The entries' indexes.
    pub entries: RangeInclusive<u64>,
}

impl Stretch<'_> {
    /// Length in bytes of what it has of `range`, and of what stands between that.
    fn len_bytes(&self, range: &Range) -> u64 {
        let first = (*self.entries.start()).max(range.after.saturating_add(1));
        let last = (*self.entries.end()).min(range.last);
        let runs = self.log.standing_runs().filter(|run| run.standing_last.is_some_and(|end| end >= first));
        let runs = runs.filter(|run| run.first_index <= last);
        runs.map(|run| run.last_offset.saturating_sub(run.first_offset)).fold(0, u64::saturating_add)
    }
}

/// Why the last entry to apply is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// It is the last that a server reads, and the only voter commits all it has.
    EndOfLog,
    /// It is the last that is known to be committed.
    Commit,
    /// The db has come further than the commit on disk.
    ConsistentIndex,
    /// It is the last of all logs that were given.
    EndOfLogs,
    /// It is the last that is certain to be committed, by all logs that were given.
    Certain,
    /// It was asked for.
    Asked,
}

/// Entries that are not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Their indexes.
    pub entries: RangeInclusive<u64>,
    /// Why.
    pub why: WhyLeftOut,
}

impl LeftOut {
    /// How many they are.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.entries.end() - self.entries.start()).saturating_add(1)
    }
}

/// Why entries are not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyLeftOut {
    /// Not known to be committed: no leader has told this member that they are.
    NotCommitted,
    /// They may be committed, and only what is certain was asked for.
    OnlyPossible,
    /// The user asked to stop before them.
    Asked,
    /// They stand behind a break, or where a server does not read.
    BehindBreak,
    /// They stand behind an entry that cannot be applied.
    BehindUnknown,
}

impl Range {
    /// How many entries are left out because of `why`.
    #[must_use]
    pub fn left_out_by(&self, why: WhyLeftOut) -> u64 {
        self.left_out.iter().filter(|left| left.why == why).map(LeftOut::count).sum()
    }

    /// Ends the range at the entry `last`; those behind it are left out because of `why`.
    pub fn end_at(&mut self, last: u64, why: WhyLeftOut) {
        let (first, until) = (last.saturating_add(1), self.last);
        self.last = self.last.min(last).max(self.after);
        if first > until {
            return;
        }
        match self.left_out.first_mut().filter(|next| next.why == why) {
            Some(next) => next.entries = first..=*next.entries.end(),
            None => self.left_out.insert(0, LeftOut { entries: first..=until, why }),
        }
    }

    /// The indexes of the entries to apply.
    #[must_use]
    pub fn entries(&self) -> RangeInclusive<u64> {
        self.after.saturating_add(1)..=self.last
    }

    /// Length in bytes of what the logs have of the entries in the range, and of what stands between them.
    #[must_use]
    pub fn len_bytes(&self, stretches: &[Stretch<'_>]) -> u64 {
        stretches.iter().map(|stretch| stretch.len_bytes(self)).fold(0, u64::saturating_add)
    }
}

impl WhyLeftOut {
    /// The reason in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotCommitted => "not known to be committed",
            Self::OnlyPossible => "possibly committed, and only what is certain was asked for",
            Self::Asked => "stopped before them, as was asked",
            Self::BehindBreak => "behind a break of the log",
            Self::BehindUnknown => "an entry that no known server applies, and what follows it",
        }
    }
}

/// Why a log is not applied to a db.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// There is no log.
    #[error(
        "{}: has no segment of a log, and what the member knew beyond its database is nowhere else. Give the log's directory with \
         --wal-dir where etcd had one of its own; --no-replay takes the database alone", path.display()
    )]
    NoLog {
        /// The log's directory.
        path: PathBuf,
    },
    /// The member was being sent a whole database, and its log does not reach from the one it has to that.
    #[error("{path}: {}. The log does not lead there; --no-replay takes the older database alone", finding.message)]
    NewerSnapshot {
        /// What was given.
        path: String,
        /// What lies beside the db.
        finding: Box<Finding>,
    },
    /// None of the members that the log knows is one of the db's.
    #[error(
        "{path}: the log in {} is that of member {} in cluster {}, and of the members that it knows none is in the database ({}): they \
         belong to different clusters. Put the log that goes with the database beside it; --no-replay takes the database alone",
        wal_dir.display(), hex_id(*member_id), hex_id(*cluster_id), lone::ids(members)
    )]
    Foreign {
        /// What was given.
        path: String,
        /// The log's directory.
        wal_dir: PathBuf,
        /// Whose log it is.
        member_id: u64,
        /// In which cluster.
        cluster_id: u64,
        /// The members in the db.
        members: Vec<u64>,
    },
    /// The entry at the consistent index is another than the db's.
    #[error(
        "{path}: the database was written at entry {index} of term {db}, and entry {index} in the log of {} is of term {log}: they tell \
         different histories. Put the log that goes with the database beside it; --no-replay takes the database alone",
        wal_dir.display()
    )]
    Term {
        /// What was given.
        path: String,
        /// The log's directory.
        wal_dir: PathBuf,
        /// The db's last entry.
        index: u64,
        /// Its term by the db.
        db: u64,
        /// Its term by the log.
        log: u64,
    },
    /// Entries are missing.
    #[error(
        "{path}: the database ends at entry {after}, and the next one in the log of {} is {found}: {} between them are missing. A newer \
         database of this member, or a snapshot that reaches entry {}, may stand in (FILE --wal-dir DIR); --to-index {after} or \
         --no-replay takes the database alone",
        wal_dir.display(), entries(found.saturating_sub(*after).saturating_sub(1)), found.saturating_sub(1)
    )]
    Gap {
        /// What was given.
        path: String,
        /// The log's directory.
        wal_dir: PathBuf,
        /// The last entry before them.
        after: u64,
        /// The first entry behind them.
        found: u64,
    },
    /// The db has come further than the log.
    #[error(
        "{path}: the database ends at entry {index}, the log in {} at {last}: the log is older than the database, or its end is lost, \
         and nothing can be told of what came after. --no-replay takes the database alone", wal_dir.display()
    )]
    Ahead {
        /// What was given.
        path: String,
        /// The log's directory.
        wal_dir: PathBuf,
        /// The db's last entry.
        index: u64,
        /// The log's.
        last: u64,
    },
    /// The log breaks off before the last entry that is needed.
    #[error(
        "{path}: the log in {} {what}, and entries up to {needed} belong to the database. It can be followed to entry {usable}: \
         'etcd-rescue wal verify' says what is wrong, 'etcd-rescue wal repair' mends it; --to-index {usable} accepts the loss of \
         what follows", wal_dir.display()
    )]
    Broken {
        /// What was given.
        path: String,
        /// The log's directory.
        wal_dir: PathBuf,
        /// How.
        what: &'static str,
        /// The last entry up to which it holds.
        usable: u64,
        /// The last entry that is needed, as far as is known.
        needed: u64,
    },
    /// The index asked for is in the db.
    #[error(
        "{path}: --to-index {index}: the database has come to entry {after} already, and entries cannot be taken back. 'snapshot \
         restore --at-revision' takes the keys back to an earlier revision"
    )]
    TooEarly {
        /// What was given.
        path: String,
        /// The index.
        index: u64,
        /// The db's last entry.
        after: u64,
    },
    /// The index asked for is beyond what may be applied.
    #[error("{path}: --to-index {index}: the last entry that can be applied is {limit}, {}", because(*bound))]
    TooLate {
        /// What was given.
        path: String,
        /// The index.
        index: u64,
        /// The last that may be.
        limit: u64,
        /// Why.
        bound: Bound,
    },
    /// The log is not what it was a moment ago.
    #[error(
        "{}: entry {index} is not where it was found before: the log is being written to. Stop what writes to it, or copy it first",
        wal_dir.display()
    )]
    Changed {
        /// The log's directory.
        wal_dir: PathBuf,
        /// The entry.
        index: u64,
    },
}

impl RangeError {
    /// The process's exit code for it: 4 where a flag accepts the loss.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::TooEarly { .. } | Self::TooLate { .. } | Self::Changed { .. } => 1,
            _ => 4,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::NewerSnapshot { finding, .. } => std::slice::from_ref(finding),
            _ => &[],
        }
    }
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// Why the last entry is the last, as the end of a sentence.
#[must_use]
pub const fn because(bound: Bound) -> &'static str {
    match bound {
        Bound::EndOfLog => "the last of the log that a server reads",
        Bound::Commit => "the last that is known to be committed",
        Bound::ConsistentIndex => "where the database stands",
        Bound::EndOfLogs => "the last of the logs that were given",
        Bound::Certain => "the last that is certain to be committed",
        Bound::Asked => "as was asked",
    }
}

/// How far the entries behind the db can be followed, and what ends that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Followed {
    /// To the log's end.
    End(u64),
    /// To a break, or to where a server does not read.
    Break(u64),
    /// To a hole, behind which this entry stands.
    Hole(u64, u64),
}

impl Followed {
    const fn last(self) -> u64 {
        match self {
            Self::End(last) | Self::Break(last) | Self::Hole(last, _) => last,
        }
    }

    /// Follows the entries of `log` behind `after`.
    fn of(log: &Log, after: u64) -> Self {
        let mut last = after;
        for run in log.standing_runs() {
            let Some(run_last) = run.standing_last.filter(|run_last| *run_last > last) else { continue };
            // What lies before the db's last entry is not needed, so that a break there takes nothing away.
            if run.reach == Reach::Hidden || (run.behind_break && run.first_index > after) {
                return Self::Break(last);
            }
            if run.first_index > last.saturating_add(1) {
                return Self::Hole(last, run.first_index);
            }
            last = run_last;
        }
        if log.more_runs > 0 { Self::Break(last) } else { Self::End(last) }
    }
}

/// Finds the entries that follow `input`, whose small buckets are `schema`, in `log`, which was read from `files`. `to_index` is the
/// last one the user wants.
///
/// # Errors
/// [`RangeError`], when the log does not go with the db or does not reach as far as it must.
pub fn find(
    input: &Opened,
    schema: &Schema,
    files: &LogFiles,
    log: &Log,
    to_index: Option<u64>,
) -> Result<Range, RangeError> {
    let path = input.path().display().to_string();
    let after = schema.consistent_index;
    let scene = Scene::of(&path, schema, files, log)?;
    let found = scene.range(to_index);
    // Where the log goes on from the db, all that is in the newer snapshot is in the log too.
    let reached = match &found {
        Ok(range) => range.last,
        Err(RangeError::Gap { after, .. }) => *after,
        Err(_) => return found,
    };
    let is_newer = |snap: &SnapFile| matches!(snap.kind(), SnapKind::Database { index } if index > reached);
    let newer = files.snaps().iter().any(is_newer).then(|| input.pending_snapshots(after)).flatten();
    match newer.filter(|_| to_index.is_none()) {
        Some(finding) => Err(RangeError::NewerSnapshot { path, finding: Box::new(finding) }),
        None => found,
    }
}

/// Finds the entries that follow a db that is called `path` and whose small buckets are `schema`, in `log`, which was read from
/// `files`, as far as they can be followed: where the log breaks off, what stands behind that is left out.
///
/// # Errors
/// [`RangeError`], when the log does not go with the db, or its first entry behind the db is not there.
pub fn as_far_as_it_goes(
    path: &Path,
    schema: &Schema,
    files: &LogFiles,
    log: &Log,
) -> Result<Range, RangeError> {
    let scene = Scene::of(&path.display().to_string(), schema, files, log)?;
    match Followed::of(log, scene.after) {
        Followed::Hole(after, _) | Followed::Break(after) if after == scene.after => scene.range(None),
        followed => scene.followed(followed, None),
    }
}

/// What a range depends on.
struct Scene<'a> {
    path: String,
    wal_dir: &'a Path,
    log: &'a Log,
    after: u64,
    commit: u64,
    is_lone: bool,
}

impl<'a> Scene<'a> {
    fn of(path: &str, schema: &Schema, files: &'a LogFiles, log: &'a Log) -> Result<Self, RangeError> {
        let after = schema.consistent_index;
        if log.segments.is_empty() {
            return Err(RangeError::NoLog { path: files.wal_dir().to_owned() });
        }
        ensure_same_history(path, schema, files.wal_dir(), log)?;
        let commit = log.commit();
        let is_lone = votes_alone(files, log, commit.max(after));
        Ok(Self { path: path.to_owned(), wal_dir: files.wal_dir(), log, after, commit, is_lone })
    }

    fn range(&self, to_index: Option<u64>) -> Result<Range, RangeError> {
        let Self { log, after, .. } = *self;
        let (path, wal_dir) = (|| self.path.clone(), || self.wal_dir.to_owned());
        if let Some(index) = to_index.filter(|index| *index < after) {
            return Err(RangeError::TooEarly { path: path(), index, after });
        }
        let snapshots = log.snapshots.iter().map(|record| record.value.index());
        let known = log.last_index().max(snapshots.max()).unwrap_or_default();
        if known < after {
            return Err(RangeError::Ahead { path: path(), wal_dir: wal_dir(), index: after, last: known });
        }
        let followed = Followed::of(log, after);
        if to_index.is_none() {
            self.ensure_reaches(followed)?;
        }
        self.followed(followed, to_index)
    }

    /// The range where the entries can be followed so far.
    fn followed(&self, followed: Followed, to_index: Option<u64>) -> Result<Range, RangeError> {
        let Self { log, after, commit, is_lone, .. } = *self;
        let usable = followed.last();
        let (bound, limit) = if is_lone {
            (Bound::EndOfLog, usable)
        } else if commit > after {
            (Bound::Commit, commit.min(usable))
        } else {
            (Bound::ConsistentIndex, after)
        };
        let last = match to_index {
            Some(index) if index > limit => {
                return Err(RangeError::TooLate { path: self.path.clone(), index, limit, bound });
            }
            Some(index) => index,
            None => limit,
        };
        let mut left_out = Vec::new();
        let mut leave = |first: u64, last: u64, why| {
            if first <= last {
                left_out.push(LeftOut { entries: first..=last, why });
            }
        };
        leave(last.saturating_add(1), limit, WhyLeftOut::Asked);
        leave(limit.saturating_add(1), usable, WhyLeftOut::NotCommitted);
        leave(usable.saturating_add(1), log.last_index().unwrap_or_default(), WhyLeftOut::BehindBreak);
        Ok(Range {
            after,
            last,
            bound: if to_index.is_some() { Bound::Asked } else { bound },
            log_first: log.first_index(),
            log_last: log.last_index().unwrap_or_default(),
            commit,
            is_lone,
            left_out,
        })
    }

    /// Makes sure that all that is known to belong to the db can be followed.
    fn ensure_reaches(&self, followed: Followed) -> Result<(), RangeError> {
        let (path, wal_dir) = (self.path.clone(), self.wal_dir.to_owned());
        let usable = followed.last();
        if let Followed::Hole(after, found) = followed {
            return Err(RangeError::Gap { path, wal_dir, after, found });
        }
        let found = self.log.last_index().unwrap_or_default();
        let needed = if self.is_lone { self.commit.max(found) } else { self.commit };
        let stops = self.log.server_end.is_none_or(|end| end.kind == ServerEndKind::Stops);
        let what = if stops {
            "is damaged, so that no server starts from it"
        } else if self.commit <= usable {
            return Ok(());
        } else if found <= usable {
            "ends before the last entry that it says is committed"
        } else {
            "breaks off before the last entry that it says is committed"
        };
        Err(RangeError::Broken { path, wal_dir, what, usable, needed: needed.max(usable) })
    }
}

/// Whether this member alone votes, by raft's own account, once it has applied what is known to be committed.
fn votes_alone(files: &LogFiles, log: &Log, committed: u64) -> bool {
    let own = log.metadata.as_ref().map(wal::Metadata::node_id);
    own.is_some_and(|own| lone::voters(files, log, committed) == BTreeSet::from([own]))
}

/// Makes sure that db and log are of one cluster, and agree about the entry at which the db stands.
fn ensure_same_history(path: &str, schema: &Schema, wal_dir: &Path, log: &Log) -> Result<(), RangeError> {
    let index = schema.consistent_index;
    let of_record = || {
        let mut records = log.snapshots.iter().filter(|record| record.value.index() == index);
        records.next_back().map(|record| record.value.term())
    };
    let db = schema.term.filter(|term| *term > 0);
    let found = log.term_of(index).or_else(of_record);
    if let Some((db, found)) = db.zip(found).filter(|(db, found)| db != found) {
        return Err(RangeError::Term {
            path: path.to_owned(),
            wal_dir: wal_dir.to_owned(),
            index,
            db,
            log: found,
        });
    }
    let members: Vec<u64> =
        schema.members.iter().filter_map(|row| Member::from_json(row).ok()).map(|member| member.id).collect();
    let Some(metadata) = log.metadata.as_ref().filter(|_| !members.is_empty()) else { return Ok(()) };
    let founding = log.conf_changes.iter().filter(|change| change.value.index <= index).count();
    if db.is_none() && u64::try_from(founding).is_ok_and(|founding| founding == index) {
        // What 3.4 restored has the rows of the members that were, until a server has started and written its own, which
        // it does before it writes any key.
        return Ok(());
    }
    let mut known = BTreeSet::from([metadata.node_id()]);
    known.extend(log.conf_changes.iter().map(|change| change.value.change.node_id()));
    for state in log.snapshots.iter().filter_map(|record| record.value.conf_state.as_ref()) {
        let lists = [&state.voters, &state.voters_outgoing, &state.learners, &state.learners_next];
        known.extend(lists.into_iter().flatten());
    }
    if members.iter().any(|id| known.contains(id)) {
        return Ok(());
    }
    Err(RangeError::Foreign {
        path: path.to_owned(),
        wal_dir: wal_dir.to_owned(),
        member_id: metadata.node_id(),
        cluster_id: metadata.cluster_id(),
        members,
    })
}

/// Why [`each`] ended early.
#[derive(Debug)]
pub enum EachError<E> {
    /// The log changed.
    Range(RangeError),
    /// `visit` wants no more.
    Visit(E),
}

/// Shows `visit` these `entries`, which `stretches` have by ascending index, in order.
///
/// # Errors
/// [`EachError::Visit`] with what `visit` said; [`RangeError::Changed`] when a log is not the one that was read.
pub fn each<E>(
    entries: RangeInclusive<u64>,
    stretches: &[Stretch<'_>],
    mut visit: impl FnMut(&EntryRef<'_>) -> Result<(), E>,
) -> Result<(), EachError<E>> {
    let (mut next, end) = entries.into_inner();
    for stretch in stretches {
        let last = (*stretch.entries.end()).min(end);
        if *stretch.entries.start() <= next && next <= last {
            of_stretch(stretch.files, stretch.log, next..=last, &mut visit)?;
            next = last.saturating_add(1);
        }
    }
    if next > end {
        return Ok(());
    }
    let wal_dir = stretches.last().map_or_else(PathBuf::new, |stretch| stretch.files.wal_dir().to_owned());
    Err(EachError::Range(RangeError::Changed { wal_dir, index: next }))
}

/// Shows `visit` the `entries` of one log.
fn of_stretch<E>(
    files: &LogFiles,
    log: &Log,
    entries: RangeInclusive<u64>,
    visit: &mut impl FnMut(&EntryRef<'_>) -> Result<(), E>,
) -> Result<(), EachError<E>> {
    let (mut next, last) = entries.into_inner();
    for at in 0..log.segments.len() {
        if next > last {
            break;
        }
        let is_needed = |run: &&wal::log::EntryRun| {
            run.segment == at && run.standing_last.is_some_and(|last| last >= next)
        };
        let Some(first) = log.standing_runs().find(is_needed) else { continue };
        let piece = files.piece(at);
        for item in scan(&piece.bytes) {
            let Item::Record(found) = item else { continue };
            let record = found.record;
            if record.offset < first.first_offset || record.record_type != wal::RecordType::Entry {
                continue;
            }
            let Ok(entry) = EntryRef::decode(record.data) else { continue };
            if entry.index < next || log.is_overwritten(at, record.offset, entry.index) {
                continue;
            }
            if entry.index != next {
                break;
            }
            visit(&entry).map_err(EachError::Visit)?;
            if entry.index >= last {
                return Ok(());
            }
            next = next.saturating_add(1);
        }
    }
    if next > last {
        return Ok(());
    }
    Err(EachError::Range(RangeError::Changed { wal_dir: files.wal_dir().to_owned(), index: next }))
}
