//! Finding the database, or the log, from what the user points at: a file, a member dir, a data dir (FORMATS E.1, F.1).

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
    /// A member's directory without its database.
    #[error(
        "{}: has a log in {} and no database: {} is missing. A log holds what was to be changed, and not what it was changed in. With \
         an older database or a snapshot that the log reaches back to, 'etcd-rescue snapshot save FILE --wal-dir {} -o OUT' puts the \
         two together; otherwise another member, or a snapshot alone, is what there is", path.display(), wal_dir.display(),
        db.display(), wal_dir.display()
    )]
    DatabaseGone {
        /// The directory.
        path: PathBuf,
        /// Where the database should be.
        db: PathBuf,
        /// The log's directory.
        wal_dir: PathBuf,
    },
    /// A directory with neither a log nor snaps.
    #[error(
        "{}: is a directory, and neither a data dir (it has no member/wal and no member/snap), a member dir (no wal, no \
         snap) nor a log's own directory (no *.wal file); give the directory etcd was started with as --data-dir, and \
         its --wal-dir where it had one", path.display()
    )]
    NoLog {
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

impl LocateError {
    /// Whether the path is a directory in which there is no database.
    #[must_use]
    pub const fn is_no_database(&self) -> bool {
        matches!(self, Self::NoDatabase { .. } | Self::DatabaseGone { .. })
    }
}

/// Where a log and what belongs to it lie. Any of the three may be missing, but not the log and the snaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlaces {
    /// The log's directory.
    pub wal_dir: Option<PathBuf>,
    /// The one segment that was asked for.
    pub segment: Option<PathBuf>,
    /// The member's `snap` directory, where there is one.
    pub snap_dir: Option<PathBuf>,
    /// The member's database, where there is one.
    pub db: Option<PathBuf>,
}

/// Finds the log `path` names: a data dir, a member dir, a log's own directory or a single segment. `wal_dir` is the log's
/// directory where etcd was given one of its own (`--wal-dir`). No database is needed.
///
/// # Errors
/// When `path` does not exist, or is a directory in which neither a log nor snaps are.
pub fn locate_log(path: &Path, wal_dir: Option<&Path>) -> Result<LogPlaces, LocateError> {
    let is_dir = |path: &Path| match path.metadata() {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(LocateError::Io { path: path.to_owned(), source })
        }
        Err(_) => Ok(false),
    };
    let must_be =
        |path: &Path| path.metadata().map_err(|source| LocateError::Io { path: path.to_owned(), source });
    if let Some(wal_dir) = wal_dir
        && !must_be(wal_dir)?.is_dir()
    {
        return Err(LocateError::NotADirectory { path: wal_dir.to_owned() });
    }
    let snaps = |snap: PathBuf| -> Result<(Option<PathBuf>, Option<PathBuf>), LocateError> {
        let db = snap.join("db");
        let is_file = db.metadata().is_ok_and(|metadata| metadata.is_file());
        Ok((is_dir(&snap)?.then_some(snap), is_file.then_some(db)))
    };
    if !must_be(path)?.is_dir() {
        return match wal_dir {
            Some(_) => Err(LocateError::NotADirectory { path: path.to_owned() }),
            None => Ok(LogPlaces { wal_dir: None, segment: Some(path.to_owned()), snap_dir: None, db: None }),
        };
    }
    for member in [path.join("member"), path.to_owned()] {
        let log = wal_dir.map_or_else(|| member.join("wal"), Path::to_owned);
        let (snap_dir, db) = snaps(member.join("snap"))?;
        let log = if wal_dir.is_some() || is_dir(&log)? { Some(log) } else { None };
        let is_member =
            if wal_dir.is_some() { snap_dir.is_some() } else { log.is_some() || snap_dir.is_some() };
        if is_member {
            return Ok(LogPlaces { wal_dir: log, segment: None, snap_dir, db });
        }
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let named = |name: &str| absolute.file_name().is_some_and(|found| found == name);
    let names = path.read_dir().map_err(|source| LocateError::Io { path: path.to_owned(), source })?;
    let (mut segments, mut snap_files) = (false, false);
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let stem = name.strip_suffix(".broken").unwrap_or(&name);
        segments |= wal::parse_segment_name(stem).is_some();
        snap_files |= wal::parse_snap_name(stem).is_some() || wal::parse_snap_db_name(stem).is_some();
    }
    let beside = |name: &str| absolute.parent().map(|parent| parent.join(name));
    if wal_dir.is_none() && (segments || named("wal")) {
        let (snap_dir, db) = match beside("snap").filter(|_| named("wal")) {
            Some(snap) => snaps(snap)?,
            None => (None, None),
        };
        return Ok(LogPlaces { wal_dir: Some(path.to_owned()), segment: None, snap_dir, db });
    }
    if snap_files || named("snap") {
        let (snap_dir, db) = snaps(path.to_owned())?;
        let log = match (wal_dir, beside("wal").filter(|_| named("snap"))) {
            (Some(given), _) => Some(given.to_owned()),
            (None, Some(wal)) if is_dir(&wal)? => Some(wal),
            (None, _) => None,
        };
        return Ok(LogPlaces { wal_dir: log, segment: None, snap_dir, db });
    }
    Err(LocateError::NoLog { path: path.to_owned() })
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
    for member in [path.join("member"), path.to_owned()] {
        let (wal_dir, db) = (member.join("wal"), member.join("snap").join("db"));
        if wal_dir.is_dir() {
            return Err(LocateError::DatabaseGone { path: path.to_owned(), db, wal_dir });
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
