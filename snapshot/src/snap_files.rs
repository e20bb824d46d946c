//! The files beside the database: snapshots, databases that wait for their installation, and what was left behind (FORMATS F.1).
//!
//! A server that lists these files renames some and removes others; nothing here does.

mod describe;

use std::borrow::Cow;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bbolt::file::open_read_only;
use bbolt::{FileSource, Io, Source};
use wal::SnapError;
use wal::raftpb::{ConfState, Snapshot, SnapshotMetadata};

pub use describe::{Database, Described, describe};

/// Longest `.snap` that is read, in bytes. What etcd 3 keeps in one is some kilobytes; a v2 store that was used in earnest has
/// some hundred megabytes, and a file cannot make us allocate more than this.
pub const MOST_SNAP_BYTES: u64 = 512 << 20;

/// What a name in a `snap` directory says its file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapKind {
    /// `TERM-INDEX.snap`: a raft snapshot with the v2 store.
    Snap {
        /// The term in the name.
        term: u64,
        /// The raft index in the name.
        index: u64,
    },
    /// `INDEX.snap.db`: a whole database from the leader, to be installed when the member starts.
    Database {
        /// The raft index in the name.
        index: u64,
    },
    /// `….snap.broken`: a server could not read it and put it aside.
    Broken,
    /// `tmp…` or `….tmp`: a database that was being received.
    Temporary,
    /// `db.tmp…`: what a defragmentation left behind. A server removes it.
    DefragLeftover,
    /// The database itself.
    Db,
    /// A name etcd does not know.
    Other,
}

impl SnapKind {
    /// What the file of this name is.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        if let Some((term, index)) = wal::parse_snap_name(name) {
            return Self::Snap { term, index };
        }
        if let Some(index) = wal::parse_snap_db_name(name) {
            return Self::Database { index };
        }
        match name {
            "db" => Self::Db,
            _ if name.ends_with(".broken") => Self::Broken,
            _ if name.starts_with("db.tmp") => Self::DefragLeftover,
            _ if name.starts_with("tmp") || name.ends_with(".tmp") => Self::Temporary,
            _ => Self::Other,
        }
    }
}

/// What changes when somebody writes to a file: its length, and the time of the last write in seconds and nanoseconds.
pub(crate) type Stamp = (u64, i64, i64);

pub(crate) fn stamp_of(meta: &Metadata) -> Stamp {
    (meta.len(), meta.mtime(), meta.mtime_nsec())
}

/// One file of a `snap` directory.
#[derive(Debug)]
pub struct SnapFile {
    path: PathBuf,
    name: String,
    kind: SnapKind,
    stamp: Stamp,
    facts: OnceLock<Result<SnapFacts, SnapFileError>>,
}

/// What a `.snap` says without its v2 store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapFacts {
    /// The last entry in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members at that point.
    pub conf_state: ConfState,
    /// Length of the v2 store's JSON in bytes.
    pub data_len_bytes: u64,
}

/// Why a `.snap` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapFileError {
    /// The system refused, or the disk failed.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// No `.snap` of a server is that long.
    #[error("has {len_bytes} bytes, more than the {MOST_SNAP_BYTES} that are read of a .snap")]
    TooLong {
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// Its content is damaged.
    #[error(transparent)]
    Content(#[from] SnapError),
}

impl SnapFileError {
    /// The stable code of the error, `SNAP-…`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "SNAP-UNREADABLE",
            Self::TooLong { .. } => "SNAP-TOO-LONG",
            Self::Content(error) => error.code(),
        }
    }
}

impl SnapFile {
    /// The file at `path`, not opened yet.
    ///
    /// # Errors
    /// When the system does not tell what it is.
    pub fn at(path: &Path) -> io::Result<Self> {
        let meta = path.metadata()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kind = SnapKind::of_name(&name);
        Ok(Self { path: path.to_owned(), name, kind, stamp: stamp_of(&meta), facts: OnceLock::new() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its name says it is.
    #[must_use]
    pub const fn kind(&self) -> SnapKind {
        self.kind
    }

    /// Its length in bytes when it was found.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.stamp.0
    }

    /// Length and time of the last write when it was found.
    pub(crate) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The snapshot in it, v2 store included. Reads the file each time.
    ///
    /// # Errors
    /// [`SnapFileError`]; the rules are those of etcd's snapshotter.
    pub fn read(&self) -> Result<Snapshot, SnapFileError> {
        Ok(wal::decode_snap(&self.bytes()?)?)
    }

    /// Its bytes, read each time.
    fn bytes(&self) -> Result<Vec<u8>, SnapFileError> {
        let refused = |error: io::Error| SnapFileError::Unreadable(error.to_string());
        let file = open_read_only(&self.path).map_err(refused)?;
        let meta = file.metadata().map_err(refused)?;
        if !meta.is_file() {
            return Err(SnapFileError::Unreadable("not a regular file".to_owned()));
        }
        let len_bytes = meta.len();
        if len_bytes > MOST_SNAP_BYTES {
            return Err(SnapFileError::TooLong { len_bytes });
        }
        let source = FileSource::new(file, &self.path, Io::Pread).map_err(refused)?;
        let bytes = source.bytes(0, len_bytes);
        bytes.map(Cow::into_owned).map_err(|error| SnapFileError::Unreadable(error.to_string()))
    }

    /// Index, term and members in it, read once.
    ///
    /// # Errors
    /// As [`SnapFile::read`].
    pub fn facts(&self) -> Result<&SnapFacts, &SnapFileError> {
        self.facts.get_or_init(|| self.read().map(|snapshot| facts_of(&snapshot))).as_ref()
    }
}

/// What `snapshot` says without its v2 store.
#[must_use]
pub fn facts_of(snapshot: &Snapshot) -> SnapFacts {
    let metadata = snapshot.metadata.as_ref();
    SnapFacts {
        index: metadata.map_or(0, SnapshotMetadata::index),
        term: metadata.map_or(0, SnapshotMetadata::term),
        conf_state: metadata.and_then(|metadata| metadata.conf_state.clone()).unwrap_or_default(),
        data_len_bytes: snapshot.data().len() as u64,
    }
}

/// All files of the `snap` directory `dir`, by name.
///
/// # Errors
/// When the directory cannot be listed.
pub fn list(dir: &Path) -> io::Result<Vec<SnapFile>> {
    let mut found = Vec::new();
    for entry in dir.read_dir()? {
        match SnapFile::at(&entry?.path()) {
            Ok(file) => found.push(file),
            // Gone since, or a link to nowhere: nothing a server could read either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        for (name, kind) in [
            ("0000000000000003-00000000000000b6.snap", SnapKind::Snap { term: 3, index: 0xb6 }),
            ("00000000000000b6.snap.db", SnapKind::Database { index: 0xb6 }),
            ("0000000000000003-00000000000000b6.snap.broken", SnapKind::Broken),
            ("db", SnapKind::Db),
            ("db.tmp.123", SnapKind::DefragLeftover),
            ("tmp123", SnapKind::Temporary),
            ("0000000000000003-00000000000000b6.snap.tmp", SnapKind::Temporary),
            ("lost+found", SnapKind::Other),
            (".snap", SnapKind::Other),
        ] {
            assert_eq!(SnapKind::of_name(name), kind, "{name}");
        }
    }

    #[test]
    fn a_directory_under_a_snaps_name_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("1-2.snap")).unwrap();
        let files = list(dir.path()).unwrap();
        let error = files.first().unwrap().facts().unwrap_err();
        assert_eq!(error.code(), "SNAP-UNREADABLE");
    }

    #[test]
    fn a_sparse_giant_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0000000000000001-0000000000000002.snap");
        std::fs::File::create(&path).unwrap().set_len(MOST_SNAP_BYTES + 1).unwrap();
        let error = SnapFile::at(&path).unwrap().read().unwrap_err();
        assert_eq!(error, SnapFileError::TooLong { len_bytes: MOST_SNAP_BYTES + 1 });
    }
}
