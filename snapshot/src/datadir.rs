//! Finding the database from what the user points at: a file, a member dir, a data dir (FORMATS E.1, F.1).

use std::io;
use std::path::{Path, PathBuf};

/// What a path turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A single file: a snapshot, or a db taken from somewhere.
    File,
    /// A directory with `snap/db` in it: what etcd calls `member`.
    MemberDir,
    /// A directory with `member/snap/db` in it: what `--data-dir` names.
    DataDir,
}

/// Where a database and what belongs to it lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// What the path is.
    pub kind: Kind,
    /// The database.
    pub db: PathBuf,
    /// The log's directory, when the path is a directory that has one.
    pub wal_dir: Option<PathBuf>,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory without a database.
    #[error(
        "{}: is a directory, and neither a data dir (it has no member/snap/db) nor a member dir (it has no snap/db); \
         give the snapshot file itself, or the directory etcd was started with as --data-dir", path.display()
    )]
    NoDatabase {
        /// The directory.
        path: PathBuf,
    },
    /// A directory where only a file will do.
    #[error("{}: is a directory; this command takes a file", path.display())]
    IsADirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A file where only a directory will do.
    #[error("{}: is a file; this command takes the data dir or member dir of a member", path.display())]
    NotADirectory {
        /// The file.
        path: PathBuf,
    },
}

/// Finds the database `path` names.
///
/// # Errors
/// When `path` does not exist, or is a directory without a database.
pub fn locate(path: &Path) -> Result<Located, LocateError> {
    let metadata = path.metadata().map_err(|source| LocateError::Io { path: path.to_owned(), source })?;
    if !metadata.is_dir() {
        return Ok(Located { kind: Kind::File, db: path.to_owned(), wal_dir: None });
    }
    let candidates = [(Kind::DataDir, path.join("member")), (Kind::MemberDir, path.to_owned())];
    for (kind, member) in candidates {
        let db = member.join("snap").join("db");
        match db.metadata() {
            Ok(found) if found.is_file() => {
                let wal_dir = member.join("wal");
                return Ok(Located { kind, db, wal_dir: wal_dir.is_dir().then_some(wal_dir) });
            }
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(LocateError::Io { path: db, source });
            }
            _ => {}
        }
    }
    Err(LocateError::NoDatabase { path: path.to_owned() })
}
