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
    /// The log's directory, where it lies beside the db as etcd lays it out.
    pub wal_dir: Option<PathBuf>,
    /// The directory of the db, when that is a member's `snap`.
    pub snap_dir: Option<PathBuf>,
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
        return Ok(of_file(path));
    }
    let candidates = [(Kind::DataDir, path.join("member")), (Kind::MemberDir, path.to_owned())];
    for (kind, member) in candidates {
        let db = member.join("snap").join("db");
        match db.metadata() {
            Ok(found) if found.is_file() => {
                return Ok(Located { kind, ..of_file(&db) });
            }
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(LocateError::Io { path: db, source });
            }
            _ => {}
        }
    }
    Err(LocateError::NoDatabase { path: path.to_owned() })
}

/// A db on its own, or with its member around it: `…/snap/db` has its log in `…/wal`.
fn of_file(db: &Path) -> Located {
    let parent =
        |path: &Path| path.parent().filter(|found| !found.as_os_str().is_empty()).map(Path::to_owned);
    let absolute = std::path::absolute(db).unwrap_or_else(|_| db.to_owned());
    let named = |path: &Path, name: &str| path.file_name().is_some_and(|found| found == name);
    let snap_dir = parent(&absolute).filter(|dir| named(&absolute, "db") && named(dir, "snap"));
    // The way the user wrote it reads best, where it reaches that far.
    let given = parent(db).as_deref().and_then(parent);
    let member = given.or_else(|| snap_dir.as_deref().and_then(parent)).filter(|_| snap_dir.is_some());
    let wal_dir = member.map(|dir| dir.join("wal")).filter(|dir| dir.is_dir());
    Located { kind: Kind::File, db: db.to_owned(), wal_dir, snap_dir }
}
