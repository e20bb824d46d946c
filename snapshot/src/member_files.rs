//! One member's directory: writing its db, log and `.snap`, and reading all three back before anybody may start on them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bbolt::graft::Patch;
use bbolt::{Db, FaultKind, FileSource, Io, Source, Watch};
use wal::{FIRST_TERM, SEGMENT_SIZE_BYTES, segment_name, snap_name};

use crate::copy;
use crate::membership::{Member, hex_id};
use crate::new_cluster::NewCluster;
use crate::replicate::ReplicateError;
use crate::schema::Schema;
use crate::stage::{FILE_MODE, SNAP_MODE, Stage, StageError};
use crate::structure;
use crate::target::TargetVersion;
use crate::v2store;

/// Where the parts of one member go: a directory within a stage for the db and the `.snap`, and one, in the same stage
/// or another, for the log.
#[derive(Debug, Clone)]
pub struct Places<'s> {
    /// Stage of `snap_dir`.
    pub data: &'s Stage,
    /// The directory of the db and the `.snap` within it: `member/snap`.
    pub snap_dir: PathBuf,
    /// Stage of `wal_dir`.
    pub log: &'s Stage,
    /// The log's directory within it.
    pub wal_dir: PathBuf,
}

/// What every member of a new cluster has in common.
pub struct Contents<'a> {
    /// Length of the db in bytes.
    pub db_bytes: u64,
    /// The cluster.
    pub cluster: &'a NewCluster,
    /// The `.snap`.
    pub snap: &'a [u8],
}

/// Why a member could not be written, or cannot be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// A directory or file could not be made.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The db could not be written or read back.
    #[error("{}: {source}", path.display())]
    Db {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReplicateError,
    },
    /// What was read back is not what was written: the disk or its driver lies.
    #[error("{}: read back and found different from what was written ({what}); do not trust this disk", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> MemberError + '_ {
    move |source| MemberError::Io { path: path.to_owned(), source }
}

impl Places<'_> {
    fn db(&self) -> PathBuf {
        self.snap_dir.join("db")
    }

    fn segment(&self) -> PathBuf {
        self.wal_dir.join(segment_name(0, 0))
    }

    fn snap(&self, cluster: &NewCluster) -> PathBuf {
        self.snap_dir.join(snap_name(FIRST_TERM, cluster.last_index()))
    }
}

/// Bytes that one member takes on the file systems of its db and of its log.
#[must_use]
pub fn needed_bytes(patch: &Patch, snap: &[u8]) -> (u64, u64) {
    (patch.len_bytes() + snap.len() as u64, SEGMENT_SIZE_BYTES)
}

/// Makes `places`'s directories, and the file of the db, empty; returns it and its path.
///
/// # Errors
/// When the system refuses.
pub fn create(places: &Places<'_>) -> Result<(File, PathBuf), MemberError> {
    places.data.create_dir_all(&places.snap_dir)?;
    places.log.create_dir_all(&places.wal_dir)?;
    let db = places.data.create_file(places.db(), FILE_MODE)?;
    Ok((db, places.data.path().join(places.db())))
}

/// Writes `member`'s log and `.snap` to `places`, each synced, and reads them back from the disk: the log's chain and
/// records, the `.snap`'s checksum and members, and that both tell of the cluster.
///
/// # Errors
/// When the disk is full or the system refuses otherwise; [`MemberError::ReadBack`] with the first difference.
pub fn write_log(places: &Places<'_>, member: &Member, contents: &Contents<'_>) -> Result<(), MemberError> {
    let name = places.snap(contents.cluster);
    let mut snap = places.data.create_file(&name, SNAP_MODE)?;
    let path = places.data.path().join(name);
    snap.write_all(contents.snap).and_then(|()| copy::sync_and_drop_cache(&snap)).map_err(io_error(&path))?;
    verify_snap(&path, contents)?;

    let segment = places.log.create_file(places.segment(), FILE_MODE)?;
    let path = places.log.path().join(places.segment());
    copy::preallocate(&segment, SEGMENT_SIZE_BYTES)
        .and_then(|()| segment.write_all_at(&contents.cluster.first_segment(member.id), 0))
        .and_then(|()| copy::sync_and_drop_cache(&segment))
        .map_err(io_error(&path))?;
    verify_segment(&path, member, contents.cluster)
}

/// Opens the db that was written to `path`, and that is known to hold the edited db's bytes, as a server would: by its
/// name, with its length, index, term and members.
///
/// # Errors
/// [`MemberError::ReadBack`] with the first difference.
pub fn verify_db(path: &Path, contents: &Contents<'_>) -> Result<(), MemberError> {
    let differs = |what: String| MemberError::ReadBack { path: path.to_owned(), what };
    let file = File::open(path).map_err(io_error(path))?;
    let len_bytes = file.metadata().map_err(io_error(path))?.len();
    if len_bytes != contents.db_bytes {
        return Err(differs(format!("{len_bytes} bytes instead of {}", contents.db_bytes)));
    }
    let source = FileSource::new(file, path, Io::Mmap).map_err(io_error(path))?;
    let db = Db::from_source(source).map_err(|error| differs(error.to_string()))?;
    verify_schema(&db, contents.cluster).map_err(|error| differs(error.to_string()))
}

/// What is wrong with an edited backend.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// It could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// It is not what it should be.
    #[error("{0}")]
    Differs(String),
}

/// Checks an edited backend: its structure, and that its index, term and members are those of `cluster`.
///
/// # Errors
/// The first difference, or that the user asked to stop.
pub fn verify_backend<S: Source>(
    db: &Db<S>,
    cluster: &NewCluster,
    watch: &dyn Watch,
) -> Result<(), BackendError> {
    let findings = structure::check(db, watch).map_err(|_| BackendError::Interrupted)?;
    // What cannot be read makes other things look wrong.
    if let Some(finding) = findings.iter().find(|finding| finding.code.ends_with("-UNREADABLE")) {
        return Err(BackendError::Unreadable(finding.message.clone()));
    }
    if let Some(finding) = findings.first() {
        return Err(BackendError::Differs(finding.to_string()));
    }
    verify_schema(db, cluster)
}

/// The first thing that is not `cluster`'s in the index, term and members of `db`.
fn verify_schema<S: Source>(db: &Db<S>, cluster: &NewCluster) -> Result<(), BackendError> {
    let differs = |what| Err(BackendError::Differs(what));
    let schema = Schema::read(db).map_err(|fault| match fault.kind {
        FaultKind::Unreadable { .. } => BackendError::Unreadable(fault.to_string()),
        _ => BackendError::Differs(fault.to_string()),
    })?;
    if schema.consistent_index != cluster.last_index() {
        return differs(format!("consistent index {}", schema.consistent_index));
    }
    let term = (cluster.target != TargetVersion::V3_4).then_some(FIRST_TERM);
    if schema.term != term {
        return differs(format!("term {:?}", schema.term));
    }
    let mut members: Vec<Member> =
        schema.members.iter().filter_map(|row| Member::from_json(row).ok()).collect();
    members.sort_by_key(|member| member.id);
    if members != cluster.members {
        return differs("other members in the db".to_owned());
    }
    Ok(())
}

fn verify_segment(path: &Path, member: &Member, cluster: &NewCluster) -> Result<(), MemberError> {
    let differs = |what: String| MemberError::ReadBack { path: path.to_owned(), what };
    let file = File::open(path).map_err(io_error(path))?;
    let source = FileSource::new(file, path, Io::Mmap).map_err(io_error(path))?;
    let len_bytes = source.len_bytes();
    if len_bytes != SEGMENT_SIZE_BYTES {
        return Err(differs(format!("{len_bytes} bytes instead of {SEGMENT_SIZE_BYTES}")));
    }
    let bytes = source.bytes(0, len_bytes).map_err(|error| differs(error.to_string()))?;
    let summary = wal::summarize(&bytes).map_err(|fault| differs(fault.to_string()))?;
    let identity =
        summary.metadata.map(|m| (m.node_id.unwrap_or_default(), m.cluster_id.unwrap_or_default()));
    if identity != Some((member.id, cluster.id())) {
        return Err(differs(format!("node and cluster id {identity:?}")));
    }
    let contexts = summary.conf_changes.iter().map(|entry| entry.change.context.clone().unwrap_or_default());
    if !contexts.eq(cluster.members.iter().map(Member::to_json)) {
        return Err(differs("other members in the log".to_owned()));
    }
    let last = Some(cluster.last_index());
    let at_snapshot = summary.snapshots.last().and_then(|snapshot| snapshot.index);
    let commit = summary.hard_state.and_then(|state| state.commit);
    if at_snapshot != last || commit != last {
        return Err(differs(format!("snapshot at {at_snapshot:?}, commit {commit:?}, expected {last:?}")));
    }
    Ok(())
}

fn verify_snap(path: &Path, contents: &Contents<'_>) -> Result<(), MemberError> {
    let differs = |what: String| MemberError::ReadBack { path: path.to_owned(), what };
    let bytes = fs::read(path).map_err(io_error(path))?;
    let snapshot = wal::decode_snap(&bytes).map_err(|error| differs(error.to_string()))?;
    let store = v2store::read(snapshot.data.as_deref().unwrap_or_default())
        .map_err(|error| differs(error.to_string()))?;
    let urls = |members: &[Member]| -> Vec<(String, Vec<String>)> {
        members.iter().map(|m| (hex_id(m.id), m.peer_urls.clone())).collect()
    };
    if urls(&store.members) != urls(&contents.cluster.members) {
        return Err(differs("other members in the .snap".to_owned()));
    }
    Ok(())
}
