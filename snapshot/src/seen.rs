//! How far clients of a cluster may have seen its revisions, by whatever is left of it: snapshots, databases, logs.
//!
//! A restored cluster that counts on from an old revision gives the same revisions again to other writes, and clients that
//! saw the first ones misbehave (FORMATS X 66). How far it has to be raised follows from the newest thing that is left. A
//! database says how far it had come; each entry of the log behind it adds one revision at most. A log alone says less: only
//! what its requests name, which is a lower bound.

use std::path::{Path, PathBuf};

use bbolt::{Db, Fault, OpenError as DbError, Source, Watch};
use wal::log::{Log, Segments};
use wal::scan::{Item, scan};
use wal::{EntryRef, RecordType};

use crate::datadir::{Kind, locate};
use crate::log_files::{self, LogFiles, LogFilesError, LogOptions, progress};
use crate::mvcc::Revision;
use crate::opened::{self, InputOptions, OpenError, Opened};
use crate::request::schema::{COMPACTION, COMPARE};
use crate::request::{Decoded, Message, decode};
use crate::schema::{KEY, Schema};
use crate::snap_files::SnapKind;

/// The largest revision that a request of a log is believed to know of. A client can compare with any number, and those near
/// the largest are not revisions.
pub const MOST_BELIEVED: i64 = 1 << 62;

/// How sources are opened.
#[derive(Debug, Clone, Default)]
pub struct SeenOptions {
    /// How databases are opened.
    pub input: InputOptions,
    /// How logs are opened.
    pub log: LogOptions,
}

/// What one source shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The source.
    pub path: PathBuf,
    /// The largest revision that a client may have seen, as far as this source knows.
    pub revision: i64,
    /// What says so.
    pub evidence: Evidence,
    /// Why clients may have seen later ones all the same, where something is missing that a member has: one sentence each.
    pub doubts: Vec<String>,
}

/// What the largest revision was taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A database.
    Database {
        /// How far it had come.
        revision: i64,
        /// The last raft entry in it.
        consistent_index: u64,
        /// How many entries of the log behind that one may have written.
        writes: u64,
    },
    /// A log alone: the largest revision that a request names, and one more for each entry behind it that may have written.
    Requests,
}

/// Why a source shows nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeenError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogFilesError),
    /// It is no database.
    #[error("{}: {source}", path.display())]
    Db {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DbError,
    },
    /// A page on the way to its last revision is damaged.
    #[error("{}: {source}; its last revision cannot be told. Give another source", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Fault,
    },
    /// No request of the log names a revision.
    #[error(
        "{}: a log without its database, and none of its requests names a revision: it shows nothing. Give the data dir it \
         belongs to, or the member's db", path.display()
    )]
    ProvesNothing {
        /// The log.
        path: PathBuf,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl SeenError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Open(error) => error.exit_code(),
            Self::Log(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it: none, since a source is not what is worked on.
    #[must_use]
    pub fn findings(&self) -> &[crate::finding::Finding] {
        &[]
    }
}

/// What `path` shows: a snapshot, a database, a member's directory, a log.
///
/// # Errors
/// When it cannot be read, or shows nothing.
pub fn of(path: &Path, options: &SeenOptions, watch: &dyn Watch) -> Result<Seen, SeenError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_segment = wal::parse_segment_name(name.strip_suffix(".broken").unwrap_or(&name)).is_some();
    let is_log = is_segment || locate(path).is_err_and(|error| error.is_no_database());
    if !is_log {
        return of_opened(&opened::open(path, &options.input, watch)?, options, watch);
    }
    let files = log_files::open(path, &options.log, watch)?;
    match files.db_path() {
        Some(db) if !files.is_single_segment() => {
            let input = opened::open(db, &options.input, watch)?;
            with_log(&input, path, Some(&files), options, watch)
        }
        _ => of_requests(path, &files, watch),
    }
}

/// The same of a database that was opened already, with the log beside it.
///
/// # Errors
/// As [`of`].
pub fn of_opened(input: &Opened, options: &SeenOptions, watch: &dyn Watch) -> Result<Seen, SeenError> {
    let files = input.wal_dir().map(|dir| log_files::open(dir, &options.log, watch)).transpose()?;
    with_log(input, input.path(), files.as_ref(), options, watch)
}

/// How far a database had come.
#[derive(Debug, Clone, Copy)]
struct Reached {
    revision: i64,
    consistent_index: u64,
}

fn with_log(
    input: &Opened,
    path: &Path,
    files: Option<&LogFiles>,
    options: &SeenOptions,
    watch: &dyn Watch,
) -> Result<Seen, SeenError> {
    let mut doubts = Vec::new();
    let mut reached = vec![reached_by(input, path)?];
    let Some(files) = files else {
        if input.kind() != Kind::File {
            doubts.push(format!(
                "{}: no log lies beside its db; what it held behind it is not counted",
                path.display()
            ));
        }
        return Ok(newest(path, &reached, &[0], doubts));
    };
    let first = reached.first().map(|db| db.consistent_index).unwrap_or_default();
    for snap in files.snaps() {
        // A whole database that the member was being sent (FORMATS F.1).
        if matches!(snap.kind(), SnapKind::Database { index } if index > first) {
            match opened::open(snap.path(), &options.input, watch).map_err(SeenError::from) {
                Ok(sent) => match reached_by(&sent, snap.path()) {
                    Ok(sent) => reached.push(sent),
                    Err(error) => doubts.push(error.to_string()),
                },
                Err(error) => doubts.push(error.to_string()),
            }
        }
    }
    let log = read(files, watch)?;
    let mut writes = vec![0_u64; reached.len()];
    each_entry(files, &log, watch, |entry, asked| {
        if may_write(asked) {
            for (db, writes) in reached.iter().zip(&mut writes) {
                *writes = writes.saturating_add(u64::from(entry.index > db.consistent_index));
            }
        }
    })?;
    let seen = newest(path, &reached, &writes, doubts);
    Ok(Seen { doubts: doubts_of_log(&log, files, &seen), ..seen })
}

/// The database that shows the largest revision.
fn newest(path: &Path, reached: &[Reached], writes: &[u64], doubts: Vec<String>) -> Seen {
    let counted = reached.iter().zip(writes).map(|(db, writes)| {
        let added = i64::try_from(*writes).unwrap_or(i64::MAX);
        (db.revision.saturating_add(added), *db, *writes)
    });
    let (revision, db, writes) = counted.max_by_key(|(revision, ..)| *revision).unwrap_or((
        0,
        Reached { revision: 0, consistent_index: 0 },
        0,
    ));
    let Reached { revision: of_db, consistent_index } = db;
    let evidence = Evidence::Database { revision: of_db, consistent_index, writes };
    Seen { path: path.to_owned(), revision, evidence, doubts }
}

fn doubts_of_log(log: &Log, files: &LogFiles, seen: &Seen) -> Vec<String> {
    let mut doubts = seen.doubts.clone();
    if !log.faults.is_empty() {
        doubts.push(format!(
            "{}: the log is damaged; entries that cannot be read are not counted ('etcd-rescue wal verify' says where)",
            files.wal_dir().display()
        ));
    }
    let consistent_index = match seen.evidence {
        Evidence::Database { consistent_index, .. } => consistent_index,
        Evidence::Requests => return doubts,
    };
    let first = log.standing_runs().next().map(|run| run.first_index);
    if let Some(first) = first.filter(|first| *first > consistent_index.saturating_add(1)) {
        doubts.push(format!(
            "{}: the log begins at index {first}, its db ends at {consistent_index}; entries between them are not counted",
            files.wal_dir().display()
        ));
    }
    doubts
}

/// How far the database of `input` had come.
fn reached_by(input: &Opened, path: &Path) -> Result<Reached, SeenError> {
    let db = input.db().map_err(|source| SeenError::Db { path: path.to_owned(), source })?;
    reached(&db).map_err(|source| SeenError::Damaged { path: path.to_owned(), source })
}

fn reached<S: Source>(db: &Db<S>) -> Result<Reached, Fault> {
    let schema = Schema::read(db)?;
    let compacted = schema.scheduled_compact.max(schema.finished_compact).unwrap_or_default();
    Ok(Reached {
        revision: last_revision(db)?.unwrap_or_default().max(compacted),
        consistent_index: schema.consistent_index,
    })
}

/// The revision of the last record, past keys that are no revisions.
fn last_revision<S: Source>(db: &Db<S>) -> Result<Option<i64>, Fault> {
    let Some(bucket) = db.bucket(KEY)? else { return Ok(None) };
    let mut cursor = bucket.cursor();
    let mut item = cursor.last()?;
    while let Some(found) = item {
        if let Some(revision) = Revision::parse(found.key) {
            return Ok(Some(revision.main));
        }
        item = cursor.prev()?;
    }
    Ok(None)
}

fn read(files: &LogFiles, watch: &dyn Watch) -> Result<Log, SeenError> {
    wal::log::read(files, &progress(watch)).map_err(|_| SeenError::Interrupted)
}

/// Shows `look` every normal entry that counts, past every break, segment by segment.
fn each_entry(
    files: &impl Segments,
    log: &Log,
    watch: &dyn Watch,
    mut look: impl FnMut(&EntryRef<'_>, &Decoded<'_>),
) -> Result<(), SeenError> {
    for at in 0..files.names().len() {
        if watch.interrupted() {
            return Err(SeenError::Interrupted);
        }
        let piece = files.piece(at);
        for item in scan(&piece.bytes) {
            let Item::Record(found) = item else { continue };
            if found.record.record_type != RecordType::Entry {
                continue;
            }
            let Ok(entry) = EntryRef::decode(found.record.data) else { continue };
            if entry.entry_type == 0 && !log.is_overwritten(at, found.record.offset, entry.index) {
                look(&entry, &decode(entry.data));
            }
        }
    }
    Ok(())
}

/// Whether an entry may have made a revision. Whether it did depends on keys, leases and permissions.
fn may_write(asked: &Decoded<'_>) -> bool {
    matches!(asked.kind(), "put" | "delete_range" | "txn" | "lease_revoke" | "undecodable")
}

/// What the requests of a log name that has no database.
fn of_requests(path: &Path, files: &LogFiles, watch: &dyn Watch) -> Result<Seen, SeenError> {
    let log = read(files, watch)?;
    let revision = named(files, &log, watch)?;
    let Some(revision) = revision else {
        return Err(SeenError::ProvesNothing { path: path.to_owned() });
    };
    let doubts = vec![format!(
        "{}: a log without its database: {revision} is the largest revision its requests let one infer, and clients may have \
         seen later ones. Give the data dir it belongs to, or the member's db",
        path.display()
    )];
    Ok(Seen { path: path.to_owned(), revision, evidence: Evidence::Requests, doubts })
}

/// The largest revision that the requests of `segments`, of which `log` is what [`wal::log::read`] says, let one infer: the
/// largest that one names, and one more for each entry behind it that may have written; `None` when none names any.
///
/// # Errors
/// [`SeenError::Interrupted`] only.
pub fn named(files: &impl Segments, log: &Log, watch: &dyn Watch) -> Result<Option<i64>, SeenError> {
    let mut largest: Option<i64> = None;
    each_entry(files, log, watch, |_, asked| {
        if let Some(request) = asked.request() {
            for revision in request.message().walk().filter_map(revision_in) {
                if revision > 0 && revision <= MOST_BELIEVED {
                    largest = largest.max(Some(revision));
                }
            }
        }
        if may_write(asked) {
            largest = largest.map(|revision| revision.saturating_add(1));
        }
    })?;
    Ok(largest)
}

/// The revision that a part of a request names because its client had seen it: one to compact at, or one that a key was last
/// written or created at.
fn revision_in(message: Message<'_>) -> Option<i64> {
    if std::ptr::eq(message.kind(), &raw const COMPACTION) {
        return Some(message.number(1).cast_signed());
    }
    // Only what is compared for equality was seen; anything may be compared for being less.
    let is_equal = message.number(1) == 0;
    (std::ptr::eq(message.kind(), &raw const COMPARE) && is_equal).then(|| match message.number(2) {
        1 => message.number(5).cast_signed(),
        2 => message.number(6).cast_signed(),
        _ => 0,
    })
}
