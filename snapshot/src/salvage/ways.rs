//! The ways out, and what those need who prepare one: the room of the small buckets and that of the log.

use std::collections::BTreeMap;

use bbolt::FileSource;

use super::report::{BucketReport, LogReport, WayKind};
use crate::finding::Finding;
use crate::mvcc::Revision;
use crate::schema::{FINISHED_COMPACT, KEY, META, SCHEDULED_COMPACT};

/// The buckets beside `key` as a way has them: what goes into the output.
#[derive(Debug, Clone, Default)]
pub(crate) struct Small {
    /// Every bucket that is to exist, by name; those that a server expects are there, if only empty (FORMATS B.1).
    pub(crate) buckets: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The same for people, by name.
    pub(crate) reports: Vec<BucketReport>,
    /// Rows and buckets that are lost or were made anew.
    pub(crate) lost: u64,
    /// What is worth a complaint.
    pub(crate) findings: Vec<Finding>,
}

impl Small {
    /// Rows in all of them.
    pub(crate) fn rows(&self) -> u64 {
        let others = self.buckets.iter().filter(|(name, _)| name.as_slice() != KEY);
        others.map(|(_, rows)| rows.len() as u64).sum()
    }

    /// The compaction that bucket `meta` has.
    pub(crate) fn compact_revision(&self) -> Option<i64> {
        let meta = self.buckets.get(META)?;
        let row = |name| {
            meta.get(name).and_then(|row: &Vec<u8>| Revision::parse(row)).map(|revision| revision.main)
        };
        row(SCHEDULED_COMPACT).max(row(FINISHED_COMPACT))
    }
}

/// Which records a base has that a log is to be applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// None: the store as a server makes it.
    Empty,
    /// Those of a candidate tree, which must be sound.
    Tree(usize),
}

/// What came of a log on a base, verified against the survivors.
#[derive(Debug)]
pub(crate) struct LogWay {
    /// [`WayKind::TreeAndLog`], [`WayKind::SurvivorsAndLog`] or [`WayKind::LogAlone`].
    pub(crate) kind: WayKind,
    /// The candidate tree that it begins with.
    pub(crate) tree: Option<usize>,
    /// A sound database without a name, with all that the log says in it, small buckets included.
    pub(crate) db: FileSource,
    /// The last main revision of the base: what is above was made by the log.
    pub(crate) base_revision: i64,
    /// The last main revision in [`Self::db`].
    pub(crate) last_revision: i64,
    /// The last entry of the log that is in [`Self::db`].
    pub(crate) last_entry: u64,
    /// The small buckets, for people.
    pub(crate) small: Vec<BucketReport>,
    /// Rows and small buckets of the base that are lost or were made anew.
    pub(crate) small_lost: u64,
    /// Main revisions at or below [`Self::base_revision`] that the log made, or says the same of, as ranges, ascending.
    pub(crate) from_log: Vec<(i64, i64)>,
    /// Main revisions with records that were made from the log and may be wrong, as ranges, ascending.
    pub(crate) doubtful: Vec<(i64, i64)>,
    /// Parts of the key space in which it may lack records that nobody knows of.
    pub(crate) open_holes: u64,
    /// What is to be known of it, one sentence each.
    pub(crate) notes: Vec<String>,
    /// What is worth a complaint if this way is taken.
    pub(crate) findings: Vec<Finding>,
}

impl LogWay {
    /// Whether the log made the records of a main revision, or says the same of them.
    pub(crate) fn is_from_log(&self, main: i64) -> bool {
        main > self.base_revision || is_in(&self.from_log, main)
    }

    /// Whether records of a main revision that were made from the log may be wrong.
    pub(crate) fn is_doubtful(&self, main: i64) -> bool {
        is_in(&self.doubtful, main)
    }
}

/// Whether a main revision is in one of the ranges, which ascend.
pub(crate) fn is_in(ranges: &[(i64, i64)], main: i64) -> bool {
    let behind = ranges.partition_point(|(from, _)| *from <= main);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, to)| main <= *to)
}

/// What the log says of records that survived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Says {
    /// Main revisions whose records are as the log says, as ranges, ascending.
    pub(crate) told: Vec<(i64, i64)>,
    /// Records, by main revision and the place within it, that are not what the log says they are, ascending.
    pub(crate) denied: Vec<(i64, i64)>,
}

impl Says {
    /// Whether all records of a main revision are as the log says.
    pub(crate) fn confirms(&self, main: i64) -> bool {
        is_in(&self.told, main)
    }

    /// Whether a record is not what the log says it is.
    pub(crate) fn denies(&self, main: i64, sub: i64) -> bool {
        self.denied.binary_search(&(main, sub)).is_ok()
    }
}

/// All that the log's room says.
#[derive(Debug, Default)]
pub(crate) struct FromLogs {
    /// The ways that were verified, in no order.
    pub(crate) ways: Vec<LogWay>,
    /// One for each log.
    pub(crate) reports: Vec<LogReport>,
    /// What is wrong with the logs, and bases that were refused.
    pub(crate) findings: Vec<Finding>,
    /// The last main revision that a log is known to have made, whether a way leads there or not; 0 for none.
    pub(crate) last_revision: i64,
    /// What the log says of records that survived.
    pub(crate) says: Says,
    /// Records that the log says were written, that trees should have, and that are in none.
    pub(crate) missing: u64,
    /// The last entry that is known to be committed, of a log that goes with what was found; 0 for none.
    pub(crate) committed: u64,
    /// The entries that can be read, as ranges, ascending.
    pub(crate) readable: Vec<(u64, u64)>,
    /// Why the log makes no database by itself, where it does not.
    pub(crate) not_alone: Option<String>,
}
