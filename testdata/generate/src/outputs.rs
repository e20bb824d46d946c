//! Everything one run writes: opened before anything is made, named when all of it is whole.

use std::path::{Path, PathBuf};

use bbolt::Watch;
use snapshot::stage::{self, Relation, StageError};

use crate::db::go_on;
use crate::error::GenerateError;
use crate::facts::{Facts, LogFacts};
use crate::file::DbFile;
use crate::log::{LogDir, LogOptions};
use crate::shape::Shape;

/// Where a db goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbOutput {
    /// The file, which must not exist.
    pub path: PathBuf,
    /// Whether it ends with the SHA-256 of the image, as snapshots do.
    pub trailer: bool,
}

/// Where a log goes, and how it is written.
#[derive(Debug, Clone)]
pub struct LogOutput {
    /// The directory, which must not exist or be empty.
    pub dir: PathBuf,
    /// How it is written.
    pub options: LogOptions,
}

/// What is to be written of one history.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// The db.
    pub db: Option<DbOutput>,
    /// The log whose replay makes the same store, as the member with the least ID would have it that led from the first
    /// election on. It is complete: a server that has nothing else replays all of it.
    pub log: Option<LogOutput>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The db's facts.
    pub db: Option<Facts>,
    /// The log's.
    pub log: Option<LogFacts>,
}

impl Outputs {
    /// What runs that were killed left for these outputs.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>, StageError> {
        let db = self.db.iter().map(|db| &db.path);
        let mut found = Vec::new();
        for path in db.chain(self.log.iter().map(|log| &log.dir)) {
            found.extend(stage::abandoned(path)?);
        }
        Ok(found)
    }

    /// Writes all of them, or none: they get their names one after the other once all are whole and on the disk, and the
    /// first is taken away again when the second cannot have its name.
    ///
    /// # Errors
    /// [`GenerateError`]. Nothing is left behind then, but for [`GenerateError::DbStays`], which says so.
    pub fn write(&self, shape: &Shape, watch: &dyn Watch) -> Result<Written, GenerateError> {
        shape.validate()?;
        if let Some(log) = &self.log {
            log.options.validate(shape)?;
        }
        if let (Some(db), Some(log)) = (&self.db, &self.log)
            && stage::relation(&db.path, &log.dir)? != Relation::Apart
        {
            return Err(GenerateError::Nested { db: db.path.clone(), log: log.dir.clone() });
        }
        // Of two stages the one that was opened later is dropped first, and with it what lies in directories of the other.
        let mut db = self.db.as_ref().map(DbFile::open).transpose()?;
        let log = self.log.as_ref().map(LogDir::open).transpose()?;
        let written = Written {
            db: db.as_mut().map(|db| db.write(shape, watch)).transpose()?,
            log: log.as_ref().map(|log| log.write(shape, watch)).transpose()?,
        };
        go_on(watch)?;
        let published = db.map(DbFile::commit).transpose()?;
        let named = log.map(LogDir::commit).transpose();
        match (named, published) {
            (Ok(_), _) => Ok(written),
            (Err(error), Some(db)) => Err(db.take_back(error)),
            (Err(error), None) => Err(error),
        }
    }
}

/// Writes the db of `shape` to `path`, which must not exist: with `trailer` as a snapshot, which ends with the SHA-256
/// of the image, and else as a db.
///
/// # Errors
/// [`GenerateError`]; nothing is left behind then.
pub fn db_file(shape: &Shape, path: &Path, trailer: bool, watch: &dyn Watch) -> Result<Facts, GenerateError> {
    shape.validate()?;
    let mut file = DbFile::open(&DbOutput { path: path.to_owned(), trailer })?;
    let facts = file.write(shape, watch)?;
    go_on(watch)?;
    file.commit()?;
    Ok(facts)
}

/// Writes the log of `shape` to the directory `dir`, which must not exist or be empty.
///
/// # Errors
/// [`GenerateError`]; nothing is left behind then.
pub fn log_dir(
    shape: &Shape,
    dir: &Path,
    options: LogOptions,
    watch: &dyn Watch,
) -> Result<LogFacts, GenerateError> {
    shape.validate()?;
    options.validate(shape)?;
    let log = LogDir::open(&LogOutput { dir: dir.to_owned(), options })?;
    let facts = log.write(shape, watch)?;
    go_on(watch)?;
    log.commit()?;
    Ok(facts)
}
