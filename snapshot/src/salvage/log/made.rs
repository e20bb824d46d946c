//! A base with entries applied to it, as a database without a name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bbolt::rebuild::edit;
use bbolt::{Db, FileSource, Io, RebuildError, Watch};

use super::reading::Read;
use crate::defrag::AS_ETCD;
use crate::edited::{Change, EditError};
use crate::fold::{FoldError, FoldOptions, FoldReport, History, fold_history};
use crate::mvcc::Release;
use crate::replay::range::{Range, RangeError, Stretch, as_far_as_it_goes};
use crate::salvage::SalvageError;
use crate::salvage::ground::Ground;
use crate::schema::Schema;

/// What a base is called where something is said of it.
const BASE: &str = "what was salvaged";

/// That a database that was made here cannot be read.
pub(super) fn unreadable(what: &str) -> SalvageError {
    let path = PathBuf::from("the database that the log was applied to");
    EditError::ReadBack { path, what: what.to_owned() }.into()
}

/// A base, and what came of it.
#[derive(Debug)]
pub(super) struct Made {
    /// The database, with the entries in it.
    pub(super) db: FileSource,
    /// What was applied; `None` when there was nothing to apply.
    pub(super) fold: Option<Box<FoldReport>>,
    /// Which entries they were, and which are left out.
    pub(super) range: Range,
}

/// Why the log cannot be applied to a base.
#[derive(Debug)]
pub(super) enum NotMade {
    /// It does not go with it.
    Refused(String),
    /// It is that of another cluster.
    Foreign(String),
    /// It goes with it, but entries up to this one, which are committed, cannot be applied.
    Broken(String, u64),
    /// The job cannot go on.
    Failed(SalvageError),
}

impl From<SalvageError> for NotMade {
    fn from(error: SalvageError) -> Self {
        Self::Failed(error)
    }
}

/// A sentence without the path it begins with, and without what flags there are to accept it: none of those is of this command.
fn reason(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let text = text.strip_prefix(&format!("{BASE}: ")).unwrap_or(&text);
    let end = [
        ". Put the log",
        ". A newer database",
        "; --no-replay",
        ": 'etcd-rescue wal verify'",
        ". --no-replay",
    ]
    .iter()
    .filter_map(|flags| text.find(flags))
    .min();
    end.and_then(|end| text.get(..end)).unwrap_or(text).to_owned()
}

impl From<RangeError> for NotMade {
    fn from(error: RangeError) -> Self {
        let why = reason(&error);
        match error {
            RangeError::Gap { found, .. } => Self::Broken(why, found.saturating_sub(1)),
            RangeError::Broken { needed, .. } => Self::Broken(why, needed),
            RangeError::Ahead { .. } => Self::Broken(why, 0),
            RangeError::Foreign { .. } => Self::Foreign(why),
            _ => Self::Refused(why),
        }
    }
}

/// What differs from a base.
enum Difference {
    None,
    /// What is written over it, and where.
    Writes(Vec<(u64, Vec<u8>)>),
    /// A file in place of it.
    Fresh(File),
}

/// Applies what the log has behind `base` to it.
pub(super) fn make(
    ground: &Ground<'_>,
    read: &Read<'_>,
    base: FileSource,
    release: Option<Release>,
    watch: &dyn Watch,
) -> Result<Made, NotMade> {
    let path = Path::new(BASE);
    let refused = |source| temporary(ground, source);
    let (difference, fold, range) = apply(ground, read, &base, release, watch)?;
    let file = match difference {
        Difference::None => return Ok(Made { db: base, fold, range }),
        Difference::Fresh(file) => file,
        Difference::Writes(writes) => {
            let file = base.file().try_clone().map_err(refused)?;
            // Nothing may change under a map.
            drop(base);
            for (offset, bytes) in writes {
                file.write_all_at(&bytes, offset).map_err(refused)?;
            }
            file
        }
    };
    let db = FileSource::new(file, path, Io::Mmap).map_err(refused)?;
    Ok(Made { db, fold, range })
}

type Applied = (Difference, Option<Box<FoldReport>>, Range);

fn apply(
    ground: &Ground<'_>,
    read: &Read<'_>,
    base: &FileSource,
    release: Option<Release>,
    watch: &dyn Watch,
) -> Result<Applied, NotMade> {
    let path = Path::new(BASE);
    let db = Db::from_source(base).map_err(|error| unreadable(&error.to_string()))?;
    let schema = Schema::read(&db).map_err(|fault| unreadable(&fault.to_string()))?;
    let range = as_far_as_it_goes(path, &schema, read.files, &read.log)?;
    if range.entries().is_empty() {
        return Ok((Difference::None, None, range));
    }
    let stretch = Stretch { files: read.files, log: &read.log, entries: range.entries() };
    let logs = vec![(read.files, &read.log)];
    let history = History { range, stretches: vec![stretch], logs, newest: None };
    let options = FoldOptions { as_etcd: release, ..FoldOptions::default() };
    let (folded, fold) = fold_history(path, &db, &history, &options, watch).map_err(|error| match error {
        FoldError::Interrupted => NotMade::Failed(SalvageError::Interrupted),
        FoldError::Files(error) | FoldError::NoLog(error) => NotMade::Failed(error.into()),
        error => NotMade::Refused(reason(&error)),
    })?;
    let edits = folded.edits();
    let difference = match folded.change(&edits) {
        None => Difference::None,
        Some(Change::Patch(patch)) => {
            let all = patch.data_writes().chain(patch.meta_writes());
            Difference::Writes(all.map(|(offset, bytes)| (offset, bytes.to_vec())).collect())
        }
        Some(Change::Rebuild { edits, .. }) => {
            let (file, _) = ground.temporary()?;
            watch.begin("applying the log", db.meta().logical_bytes());
            edit(&db, &file, &AS_ETCD, edits, watch).map_err(|error| match error {
                RebuildError::Interrupted => SalvageError::Interrupted,
                error => unreadable(&error.to_string()),
            })?;
            Difference::Fresh(file)
        }
    };
    let range = fold.range.clone();
    Ok((difference, Some(Box::new(fold)), range))
}

fn temporary(ground: &Ground<'_>, source: io::Error) -> SalvageError {
    let dir = ground.evidence.options.input.tmp_dir.clone().unwrap_or_else(std::env::temp_dir);
    SalvageError::Temporary { dir, source }
}
