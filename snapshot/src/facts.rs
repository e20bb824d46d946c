//! What a path is, and all that its files say without a replay, gathered once: what `inspect` shows and `verify` judges.
//!
//! [`gather`] takes whatever a person may point at. Nothing here is judged but by those who already do (`log_verify` of the
//! log, `Schema` of the rows); what cannot be read is kept as the reason why, and the rest is gathered all the same.

mod database;
mod pending;
mod what;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bbolt::Watch;
use rayon::prelude::*;
use wal::log::Segments;
use wal::raftpb::EntryType;
use wal::{Payload, read_segment};

use crate::log_files::{self, LogFiles, LogFilesError, LogOptions};
use crate::log_verify::{self, LogReport};
use crate::lone::Config;
use crate::members;
use crate::membership::Member;
use crate::opened::{self, InputOptions, OpenError, Opened};
use crate::request::{self, Decoded};
use crate::snap_files::{self, SnapFacts, SnapFile, SnapKind};
use crate::v2store::{self, V2Store};

pub use database::{ConfStateRow, DatabaseError, DatabaseFacts, Shape};
pub use pending::Deadly;
pub use what::{Looked, MOST_WITHIN, What, look};

/// How what lies at a path is opened.
#[derive(Debug, Clone, Default)]
pub struct FactsOptions {
    /// How the database is opened, and where it is unpacked to.
    pub input: InputOptions,
    /// How the log is opened, and where it lies where etcd was given a directory of its own for it.
    pub log: LogOptions,
}

/// Why nothing can be said of a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// There is nothing at the path, or the system does not let us look.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// All that is known of one path. The files stay open, and locked where that was asked for, as long as this lives.
#[derive(Debug)]
pub struct Facts {
    /// The path as it was given.
    pub path: PathBuf,
    /// What it is, and what lies where.
    pub looked: Looked,
    /// The database; `None` when there is none.
    pub database: Option<Result<Database, OpenError>>,
    /// The log; `None` when there is none.
    pub log: Option<Result<LogFacts, LogFilesError>>,
    /// The newest `.snap` that can be read.
    pub newest_snap: Option<NewestSnap>,
    /// Files beside the database, where there is no log that has them.
    snaps: Vec<SnapFile>,
    /// The members as a server sees them that starts on these files; empty where nobody can say. Asked for once: it reads the log.
    current: OnceLock<BTreeMap<u64, Member>>,
}

/// A database that could be opened.
#[derive(Debug)]
pub struct Database {
    /// The open file.
    pub input: Opened,
    /// What it says without a walk of its pages; an error when it is no bbolt database, or damaged on the way.
    pub facts: Result<DatabaseFacts, DatabaseError>,
}

/// A log that could be opened.
#[derive(Debug)]
pub struct LogFacts {
    /// The open segments, and the files beside the database.
    pub files: LogFiles,
    /// What [`log_verify`] finds.
    pub report: LogReport,
    /// Requests of the v2 API behind [`Facts::newest_snap`] that change something beside the cluster's own rows.
    pub v2_writes: u64,
    /// What a server that applies what the database does not have yet ends over, and the first entry that does each.
    pub deadly: Vec<(Deadly, u64)>,
}

/// A member, and who knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMember {
    /// Its id.
    pub id: u64,
    /// Its row in the database.
    pub in_database: Option<Member>,
    /// Its entry in the v2 store of the newest `.snap`.
    pub in_snap: Option<Member>,
    /// What a server that starts on the files knows of it, by the account that its release goes by.
    pub current: Option<Member>,
    /// Whether raft's configuration has it; `None` where that is not known.
    pub in_raft: Option<bool>,
    /// Whether it is a learner there.
    pub learns: bool,
}

impl KnownMember {
    /// What is known of it: as a server sees it that starts on the files, else its row in the database, and where that is silent the
    /// v2 store. 3.5.1 leaves name and client URLs out of the row, and 3.5.1 to 3.5.19 leave a row as it was when an address
    /// changes.
    #[must_use]
    pub fn best(&self) -> Option<Member> {
        if self.current.is_some() {
            return self.current.clone();
        }
        let (row, stored) = (self.in_database.as_ref(), self.in_snap.as_ref());
        let mut member = row.or(stored)?.clone();
        if let Some(stored) = stored {
            if member.name.is_empty() {
                member.name.clone_from(&stored.name);
            }
            if member.client_urls.is_empty() {
                member.client_urls.clone_from(&stored.client_urls);
            }
        }
        Some(member)
    }
}

/// A `.snap` that can be read.
#[derive(Debug)]
pub struct NewestSnap {
    /// Its name.
    pub name: String,
    /// Index, term and members in it.
    pub facts: SnapFacts,
    /// The v2 store in it.
    pub store: Result<V2Store, v2store::V2StoreError>,
}

impl Facts {
    /// The facts of the database, where it could be read.
    #[must_use]
    pub fn database_facts(&self) -> Option<&DatabaseFacts> {
        self.database.as_ref()?.as_ref().ok()?.facts.as_ref().ok()
    }

    /// The log, where it could be opened.
    #[must_use]
    pub fn log_facts(&self) -> Option<&LogFacts> {
        self.log.as_ref()?.as_ref().ok()
    }

    /// The files beside the database: `.snap`, `.snap.db` and what else lies there.
    #[must_use]
    pub fn snaps(&self) -> &[SnapFile] {
        self.log_facts().map_or(self.snaps.as_slice(), |log| log.files.snaps())
    }

    /// Entries that the log has and the database does not: as many as a replay has to look at. `None` without both.
    #[must_use]
    pub fn not_in_database(&self) -> Option<u64> {
        let last = self.log_facts()?.report.log.last_index()?;
        Some(last.saturating_sub(self.database_facts()?.schema.consistent_index))
    }

    /// Voters and learners by raft's own account: those of the newest snapshot that the log knows, and the changes since. `None`
    /// without a log of a directory, and where it names nobody.
    #[must_use]
    pub fn raft_members(&self) -> Option<(BTreeSet<u64>, BTreeSet<u64>)> {
        let log = self.log_facts().filter(|log| !log.files.is_single_segment())?;
        let Config { voters, learners } = Config::of_log(&log.files, &log.report.log, u64::MAX)?;
        (!voters.is_empty() || !learners.is_empty()).then_some((voters, learners))
    }

    /// All members that any source names, ascending: the database's rows, the newest `.snap`, raft's configuration.
    #[must_use]
    pub fn members(&self) -> Vec<KnownMember> {
        let rows = self.database_facts().map_or(&[][..], |database| database.members.as_slice());
        let snap = self.newest_snap.as_ref();
        let store = snap.and_then(|snap| snap.store.as_ref().ok());
        let stored = store.map_or(&[][..], |store| store.members.as_slice());
        let (voters, learners) = match (self.raft_members(), snap) {
            (Some(config), _) => config,
            (None, Some(snap)) => {
                let of = |ids: &[u64]| ids.iter().copied().collect();
                (of(&snap.facts.conf_state.voters), of(&snap.facts.conf_state.learners))
            }
            (None, None) => (BTreeSet::new(), BTreeSet::new()),
        };
        let raft_known = !voters.is_empty() || !learners.is_empty();
        let mut ids: BTreeSet<u64> = voters.union(&learners).copied().collect();
        ids.extend(rows.iter().chain(stored).map(|member| member.id));
        let of = |members: &[Member], id: u64| members.iter().find(|member| member.id == id).cloned();
        let current = self.current.get_or_init(|| {
            let known = members::named_at(self, members::applied_at_start(self));
            known.map(|membership| membership.members).unwrap_or_default()
        });
        ids.into_iter()
            .map(|id| KnownMember {
                id,
                in_database: of(rows, id),
                in_snap: of(stored, id),
                current: current.get(&id).cloned(),
                in_raft: raft_known.then(|| voters.contains(&id) || learners.contains(&id)),
                learns: learners.contains(&id),
            })
            .collect()
    }

    /// Whose files these are, by the log: the ids of member and cluster.
    #[must_use]
    pub fn identity(&self) -> Option<(u64, u64)> {
        let metadata = self.log_facts()?.report.log.metadata?;
        Some((metadata.node_id(), metadata.cluster_id()))
    }

    /// Keys of the v2 API in the newest `.snap`, and requests behind it that write such: nothing will carry them over into the
    /// v3 key space, and etcd 3.6 refuses to start on them (FORMATS F.3).
    #[must_use]
    pub fn v2_user_data(&self) -> (u64, u64) {
        let store = self.newest_snap.as_ref().and_then(|snap| snap.store.as_ref().ok());
        (store.map_or(0, |store| store.foreign.count), self.log_facts().map_or(0, |log| log.v2_writes))
    }
}

/// Gathers what is known of `path`.
///
/// # Errors
/// When there is nothing at `path`, or the user asked to stop. What lies there and cannot be read is no error but a fact.
pub fn gather(path: &Path, options: &FactsOptions, watch: &dyn Watch) -> Result<Facts, FactsError> {
    let looked = look(path, options.log.wal_dir.as_deref())?;
    let read_log = || looked.log.as_deref().map(|log| log_files::open(log, &options.log, watch));
    let read_database = || looked.db.as_deref().map(|db| database(db, &options.input, watch));
    // A lock that a server holds is waited for once, not twice.
    let (database, files) = rayon::join(read_database, read_log);
    let interrupted = matches!(&database, Some(Err(error)) if error.exit_code() == 130)
        || matches!(&files, Some(Err(LogFilesError::Interrupted)));
    if interrupted || watch.interrupted() {
        return Err(FactsError::Interrupted);
    }
    let mut snaps = Vec::new();
    if let Some(dir) = &looked.snap_dir
        && !matches!(files, Some(Ok(_)))
    {
        // A directory that cannot be listed has no files that could be told of.
        snaps = snap_files::list(dir).unwrap_or_default();
    } else if looked.what == What::Snap {
        snaps.extend(SnapFile::at(path));
    }
    let beside = match &files {
        Some(Ok(files)) => files.snaps(),
        _ => &snaps,
    };
    let newest_snap = newest(beside);
    let from = newest_snap.as_ref().map_or(0, |snap| snap.facts.index);
    let log = match files {
        None => None,
        Some(Err(error)) => Some(Err(error)),
        Some(Ok(files)) => match log_verify::verify(&files, &options.input.open, watch) {
            Err(LogFilesError::Interrupted) => return Err(FactsError::Interrupted),
            Err(error) => Some(Err(error)),
            Ok(report) => {
                let v2_writes = v2_writes(&report, &files, from, watch)?;
                let in_database = match &database {
                    Some(Ok(database)) => database.facts.as_ref().map_or(0, |f| f.schema.consistent_index),
                    _ => 0,
                };
                let deadly = pending::deadly(&report.log, &files, in_database, from);
                Some(Ok(LogFacts { files, report, v2_writes, deadly }))
            }
        },
    };
    let current = OnceLock::new();
    Ok(Facts { path: path.to_owned(), looked, database, log, newest_snap, snaps, current })
}

fn database(path: &Path, options: &InputOptions, watch: &dyn Watch) -> Result<Database, OpenError> {
    let input = opened::open(path, options, watch)?;
    let facts = match input.db() {
        Ok(db) => DatabaseFacts::read(&db).map_err(DatabaseError::from),
        Err(error) => Err(DatabaseError::from(error)),
    };
    Ok(Database { input, facts })
}

/// The newest `.snap` that can be read, in the order in which servers look at them; one that was asked for by name in any case.
fn newest(snaps: &[SnapFile]) -> Option<NewestSnap> {
    let is_snap = |file: &&SnapFile| matches!(file.kind(), SnapKind::Snap { .. });
    snaps.iter().rev().filter(is_snap).find_map(|file| {
        let snapshot = file.read().ok()?;
        let facts = snap_files::facts_of(&snapshot);
        Some(NewestSnap { name: file.name().to_owned(), facts, store: v2store::read(snapshot.data()) })
    })
}

/// Counts the requests of the v2 API behind entry `from` that write outside of `/0`, where the cluster keeps its own rows.
fn v2_writes(report: &LogReport, files: &LogFiles, from: u64, watch: &dyn Watch) -> Result<u64, FactsError> {
    let log = &report.log;
    let places: Vec<usize> = (0..log.segments.len())
        .filter(|at| log.runs.iter().any(|run| run.segment == *at && run.last_index > from))
        .collect();
    let counts: Result<Vec<u64>, FactsError> = places
        .par_iter()
        .with_max_len(1)
        .map(|at| {
            if watch.interrupted() {
                return Err(FactsError::Interrupted);
            }
            let piece = files.piece(*at);
            let mut count = 0;
            for record in read_segment(&piece.bytes).flatten() {
                let Ok(Payload::Entry(entry)) = record.payload() else { continue };
                // A v2 request begins with its ID, which servers always write; most v3 requests begin otherwise, and need not
                // be taken apart.
                let may_be_v2 = entry.index > from
                    && entry.entry_type == i32::from(EntryType::Normal)
                    && entry.data.first() == Some(&0x08);
                if may_be_v2 && writes_v2(entry.data) && !log.is_overwritten(*at, record.offset, entry.index)
                {
                    count += 1;
                }
            }
            Ok(count)
        })
        .collect();
    Ok(counts?.into_iter().fold(0, u64::saturating_add))
}

/// Whether the request in `data` is one of the v2 API that writes something other than the cluster's own rows.
pub(crate) fn writes_v2(data: &[u8]) -> bool {
    const METHOD: i32 = 2;
    const PATH: i32 = 3;
    let Decoded::V2(request) = request::decode(data) else { return false };
    let message = request.message();
    let path = message.data(PATH);
    let own = path == b"/0" || path.starts_with(b"/0/");
    matches!(message.data(METHOD), b"PUT" | b"POST" | b"DELETE") && !own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_the_v2_api_is_told_from_what_a_member_says_of_itself() {
        // {ID: 7, Method: …, Path: …}
        assert!(writes_v2(b"\x08\x07\x12\x03PUT\x1a\x06/1/foo"));
        assert!(writes_v2(b"\x08\x07\x12\x06DELETE\x1a\x06/1/foo"));
        assert!(writes_v2(b"\x08\x07\x12\x03PUT\x1a\x0a/2/users/a"));
        assert!(!writes_v2(b"\x08\x07\x12\x03PUT\x1a\x0a/0/version"));
        assert!(!writes_v2(b"\x08\x07\x12\x04QGET\x1a\x06/1/foo"));
        assert!(!writes_v2(b"\x08\x07\x12\x04SYNC\x1a\x00"));
        assert!(!writes_v2(b"\x1a\x03\x0a\x01k"));
    }
}
