//! From which snapshot the backup starts, which entries it has, and what db and hard state say of them.

use std::ops::RangeInclusive;

use bbolt::Watch;
use wal::log::Log;
use wal::raftpb::{ConfState, HardState};

use super::identity::Identity;
use super::{BackupError, BackupOptions};
use crate::appended::ensure_readable;
use crate::boot::SnapshotPoint;
use crate::facts::{Facts, FactsOptions, LogFacts};
use crate::lone::Config;
use crate::membership::Member;
use crate::mvcc::Release;
use crate::opened::{self, Opened};
use crate::schema::Schema;
use crate::snap_files::{SnapFacts, SnapFile, SnapKind};
use crate::v2tree::{V2Tree, V2TreeError};

/// What a backup consists of.
#[derive(Debug)]
pub struct Plan {
    /// The ids of the member it is taken from, and of its cluster.
    pub from: (u64, u64),
    /// Its own.
    pub identity: Identity,
    /// The snapshot it starts from; 0 and 0 when it starts from none.
    pub start: SnapshotPoint,
    /// That snapshot's `.snap`, rewritten.
    pub snap: Option<NewSnap>,
    /// The last entry; that of the snapshot when no entry follows it.
    pub last: u64,
    /// The last entry that a start with `--force-new-cluster` keeps.
    pub commit: u64,
    /// The hard state; `None` for a log in which nothing ever was.
    pub state: Option<HardState>,
    /// The last entry in the backup's database.
    pub consistent_index: u64,
    /// Its term, where the database is to say it.
    pub term: Option<u64>,
    /// The database that a server would put in the place of the one there, and that is taken instead of it.
    pub waiting: Option<Opened>,
}

/// A `.snap` to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnap {
    /// Its name, which stays.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What is known of the database that goes into a backup.
struct Base {
    consistent_index: u64,
    waiting: Option<Opened>,
}

impl Plan {
    /// Decides from what is known of a member's directory.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn of(
        facts: &Facts,
        options: &BackupOptions,
        input: &FactsOptions,
        watch: &dyn Watch,
    ) -> Result<Self, BackupError> {
        let path = || facts.path.display().to_string();
        let broken = |what: String| BackupError::BrokenLog { path: path(), what };
        let log_facts = log_of(facts)?;
        let (files, log) = (&log_facts.files, &log_facts.report.log);
        ensure_readable(log).map_err(|what| broken(what.to_owned()))?;
        let Some(metadata) = log.metadata else {
            return Err(broken("the log does not say whose it is".to_owned()));
        };
        let schema = facts.database_facts().map(|database| &database.schema);
        if options.with_v3 {
            ensure_database(facts)?;
        }
        let own = schema.map_or(0, |schema| schema.consistent_index);
        let state = log.server_hard_state.as_ref().map(|state| state.value).unwrap_or_default();

        let (snap, base) =
            match newest(facts, log, state.commit().max(own), options.with_v3, own, input, watch) {
                Some((snap, base)) => (Some(snap), base),
                None => (None, Base { consistent_index: own, waiting: None }),
            };
        let start = snap.map_or(SnapshotPoint { index: 0, term: 0 }, |(_, facts)| SnapshotPoint {
            index: facts.index,
            term: facts.term,
        });
        let last = log.last_index().unwrap_or_default().max(start.index);
        if last > start.index && log.first_index().is_none_or(|first| first > start.index.saturating_add(1)) {
            return Err(broken(format!(
                "its log begins with entry {}, and no .snap that can be used reaches that far",
                log.first_index().unwrap_or_default()
            )));
        }
        let in_database = Some(base.consistent_index).filter(|index| options.with_v3 || *index <= last);
        let known = state.commit().max(start.index).max(in_database.unwrap_or_default());
        if known > last {
            return Err(broken(format!(
                "its log ends at entry {last}, and entries up to {known} belong to the database or were committed"
            )));
        }
        // Who alone votes commits all it has when it starts.
        let config = Config::of_log(files, log, known);
        let is_lone = config.is_some_and(|config| config.voters.iter().eq([&metadata.node_id()]));
        let commit = if is_lone { last } else { known };

        let term_of = |index| if index == start.index { Some(start.term) } else { log.term_of(index) };
        let term = state.term().max(term_of(commit).unwrap_or_default()).max(start.term);
        let state = HardState { term: Some(term), vote: Some(state.vote()), commit: Some(commit) };
        let (consistent_index, row) = if options.with_v3 {
            (base.consistent_index, None)
        } else {
            // A database that 3.4 wrote has no term, and none that looks as if 3.5 had been there.
            let is_3_4 = schema.is_some_and(|schema| schema.term.is_none());
            (commit, term_of(commit).filter(|term| *term > 0 && !is_3_4))
        };
        let identity = Identity::new(options.node_id, options.cluster_id, options.now_ms);
        let snap = snap.map(|(file, _)| rewritten(file, start, &identity, &path())).transpose()?;
        Ok(Self {
            from: (metadata.node_id(), metadata.cluster_id()),
            identity,
            start,
            snap,
            last,
            commit,
            state: (term > 0 || commit > 0).then_some(state),
            consistent_index,
            term: row,
            waiting: base.waiting,
        })
    }

    /// The indexes of its entries; an empty range when there is none.
    #[must_use]
    pub fn entries(&self) -> RangeInclusive<u64> {
        self.start.index.saturating_add(1)..=self.last
    }

    /// The members that raft is told of by the snapshot: the one that holds the others' place. `None` without a snapshot, where raft
    /// hears of nobody.
    #[must_use]
    pub fn conf_state(&self) -> Option<ConfState> {
        self.snap.as_ref().map(|_| ConfState {
            voters: vec![self.identity.placeholder_id],
            auto_leave: Some(false),
            ..ConfState::default()
        })
    }
}

/// The log of a member's directory.
pub(super) fn log_of(facts: &Facts) -> Result<&LogFacts, BackupError> {
    let no_member = |what| BackupError::NoMember { path: facts.path.display().to_string(), what };
    let log = facts.log_facts().ok_or_else(|| {
        no_member("has no log (where etcd was started with --wal-dir, give that directory with --wal-dir)")
    })?;
    if log.files.is_single_segment() {
        return Err(no_member("is one segment of a log"));
    }
    Ok(log)
}

fn ensure_database(facts: &Facts) -> Result<(), BackupError> {
    match &facts.database {
        Some(Ok(database)) => match &database.facts {
            Ok(_) => Ok(()),
            Err(error) => Err(BackupError::Database {
                path: database.input.path().display().to_string(),
                reason: error.to_string(),
            }),
        },
        _ => Err(BackupError::NoMember {
            path: facts.path.display().to_string(),
            what: "has no database; --with-v3=false makes a backup of the v2 store alone",
        }),
    }
}

/// The newest `.snap` that can be read, that lies within what was committed, and that database and log go with. Whether the log has
/// a record of it does not matter: the backup's has one.
fn newest<'f>(
    facts: &'f Facts,
    log: &Log,
    known: u64,
    with_v3: bool,
    consistent_index: u64,
    input: &FactsOptions,
    watch: &dyn Watch,
) -> Option<((&'f SnapFile, &'f SnapFacts), Base)> {
    let snaps = facts.snaps();
    let files = snaps.iter().rev().filter(|file| matches!(file.kind(), SnapKind::Snap { .. }));
    files.filter_map(|file| Some((file, file.facts().ok()?))).find_map(|(file, snap)| {
        let is_possible = snap.index > 0
            && snap.index <= known
            && log.term_of(snap.index).is_none_or(|term| term == snap.term)
            && log.last_index().is_none_or(|last| {
                last <= snap.index
                    || log.first_index().is_some_and(|first| first <= snap.index.saturating_add(1))
            });
        if !is_possible {
            return None;
        }
        if !with_v3 || snap.index <= consistent_index {
            return Some(((file, snap), Base { consistent_index, waiting: None }));
        }
        // The database came with the snapshot, and waits until the server starts (FORMATS F.1).
        let waiting = snaps.iter().find(|other| other.kind() == SnapKind::Database { index: snap.index })?;
        let waiting = opened::open(waiting.path(), &input.input, watch).ok()?;
        let consistent_index = Schema::read(&waiting.db().ok()?).ok()?.consistent_index;
        (consistent_index >= snap.index)
            .then_some(((file, snap), Base { consistent_index, waiting: Some(waiting) }))
    })
}

fn rewritten(
    file: &SnapFile,
    start: SnapshotPoint,
    identity: &Identity,
    path: &str,
) -> Result<NewSnap, BackupError> {
    let unreadable =
        |reason: String| BackupError::Snap { path: path.to_owned(), name: file.name().to_owned(), reason };
    let snapshot = file.read().map_err(|error| unreadable(error.to_string()))?;
    let data =
        with_only(snapshot.data(), &identity.placeholder()).map_err(|error| unreadable(error.to_string()))?;
    let voters = [identity.placeholder_id];
    let bytes = wal::encode_snap(&data, start.index, start.term, &voters, wal::Dialect::V3_5);
    Ok(NewSnap { name: wal::snap_name(start.term, start.index), bytes })
}

/// The v2 store with `member` in the place of all members; keys of clients stay.
fn with_only(json: &[u8], member: &Member) -> Result<Vec<u8>, V2TreeError> {
    let mut tree = V2Tree::from_json(json, Release::NEWEST)?;
    tree.replace_members([member])?;
    tree.to_json()
}
