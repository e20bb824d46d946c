//! How far a store's history goes, and from where on it is kept (FORMATS C.2).

use bbolt::{Db, Fault, Source};

use super::pass::KeySpaceError;
use super::{Release, Revision};
use crate::finding::{Finding, Severity};
use crate::schema::{KEY, Schema};

/// The revision of a store without records.
const FIRST_REVISION: i64 = 1;

/// What a server takes the key space for when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// The first revision that can be read; `None` when nothing was ever compacted. A compaction that was ordered and did not
    /// finish counts as done, since a server goes on with it when it starts.
    pub compact_revision: Option<i64>,
    /// The compaction that was ordered last, as bucket `meta` has it.
    pub scheduled: Option<i64>,
    /// The compaction that was finished last, as bucket `meta` has it.
    pub finished: Option<i64>,
    /// The revision of the last record; 0 when there is none.
    pub last_record: i64,
    /// The store's revision.
    pub current_revision: i64,
}

/// Why a revision cannot be read. The sentence begins with etcd's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// It is below the compacted one.
    #[error("mvcc: required revision has been compacted; kept are revisions {first} to {last}")]
    Compacted {
        /// The revision asked for.
        wanted: i64,
        /// The first that is kept.
        first: i64,
        /// The last.
        last: i64,
    },
    /// It is beyond the store's.
    #[error("mvcc: required revision is a future revision; kept are revisions {first} to {last}")]
    Future {
        /// The revision asked for.
        wanted: i64,
        /// The first that is kept.
        first: i64,
        /// The last.
        last: i64,
    },
}

/// Why nothing can be said about a revision.
#[derive(Debug, thiserror::Error)]
pub enum AtRevisionError {
    /// The store does not have it.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// The key space cannot be read.
    #[error(transparent)]
    Read(#[from] KeySpaceError),
}

impl AtRevisionError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Revision(_) => 1,
            Self::Read(error) => error.exit_code(),
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Revision(_) => &[],
            Self::Read(error) => error.findings(),
        }
    }
}

impl Store {
    /// What `release` takes a store for whose small buckets are `schema` and whose last record is of revision `last_record`, 0
    /// for none.
    #[must_use]
    pub fn of(schema: &Schema, last_record: i64, release: Release) -> Self {
        let (scheduled, finished) = (schema.scheduled_compact, schema.finished_compact);
        let mut current_revision = if last_record > 0 { last_record } else { FIRST_REVISION };
        current_revision = current_revision.max(finished.unwrap_or(0));
        if release.starts_at_scheduled_compaction() {
            current_revision = current_revision.max(scheduled.unwrap_or(0));
        }
        // One beyond the store's revision is refused when it is to be resumed.
        let resumed = scheduled
            .filter(|revision| (1..=current_revision).contains(revision) && Some(*revision) > finished);
        Self { compact_revision: resumed.or(finished), scheduled, finished, last_record, current_revision }
    }

    /// Reads what `release` takes the store in `db` for, without reading the history.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn read<S: Source>(db: &Db<S>, release: Release) -> Result<Self, Fault> {
        Ok(Self::of(&Schema::read(db)?, last_record(db)?, release))
    }

    /// The first revision that can be read.
    #[must_use]
    pub fn first_kept(&self) -> i64 {
        self.compact_revision.unwrap_or(FIRST_REVISION).max(FIRST_REVISION)
    }

    /// Whether a compaction was ordered that did not finish, and that a server goes on with when it starts.
    #[must_use]
    pub fn has_pending_compaction(&self) -> bool {
        self.compact_revision != self.finished
    }

    /// That a compaction is recorded beyond the last record, where that is a danger or nothing explains it.
    ///
    /// Before 3.4.34 and 3.5.16 a compaction removes the tombstones of its own revision too, so the last revisions of a sound
    /// store may have left no record. Each of them came by an entry of the log of its own.
    #[must_use]
    pub fn ahead(&self, schema: &Schema) -> Option<Finding> {
        let current = self.current_revision;
        let last = self.last_record.max(FIRST_REVISION);
        let finished = self.finished.unwrap_or_default();
        let begins_at = last.max(finished);
        let message = match self.scheduled {
            Some(scheduled) if scheduled > begins_at => format!(
                "bucket meta has a compaction at revision {scheduled} that was ordered and did not finish, the last record is of \
                 revision {}: either all later ones were tombstones that it removed, or the number is wrong. Servers before \
                 3.4.32 and 3.5.14 start at revision {begins_at} and give out again what follows; this store is at revision \
                 {current}",
                self.last_record
            ),
            _ if u64::try_from(finished.saturating_sub(last))
                .is_ok_and(|gap| gap > schema.consistent_index) =>
            {
                format!(
                    "bucket meta has a compaction at revision {finished}, the last record is of revision {}: for all later ones \
                     to have been deletions that it removed, consistent index {} is too low. The number is wrong, or the db was \
                     restored since; this store is at revision {current}",
                    self.last_record, schema.consistent_index
                )
            }
            _ => return None,
        };
        Some(Finding::new("ETCD-COMPACT-AHEAD", Severity::Warning, message))
    }

    /// The revision that a read at `revision` means: 0 and below stand for the current one.
    ///
    /// # Errors
    /// When that one is not kept, or has not come yet.
    pub fn resolve(&self, revision: i64) -> Result<i64, RevisionError> {
        let (first, last) = (self.first_kept(), self.current_revision);
        match revision {
            ..=0 => Ok(last),
            wanted if wanted > last => Err(RevisionError::Future { wanted, first, last }),
            wanted if self.compact_revision.is_some_and(|compacted| wanted < compacted) => {
                Err(RevisionError::Compacted { wanted, first, last })
            }
            wanted => Ok(wanted),
        }
    }
}

/// The main revision of the last record in `db`; 0 when there is none. Keys that are no revisions are passed over.
pub(super) fn last_record<S: Source>(db: &Db<S>) -> Result<i64, Fault> {
    let Some(bucket) = db.bucket(KEY)? else { return Ok(0) };
    let mut cursor = bucket.cursor();
    while let Some(item) = cursor.prev()? {
        if let Some(revision) = Revision::parse(item.key) {
            return Ok(revision.main);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(finished: Option<i64>, scheduled: Option<i64>, last_record: i64, release: &str) -> Store {
        let schema = Schema { finished_compact: finished, scheduled_compact: scheduled, ..Schema::default() };
        Store::of(&schema, last_record, release.parse().unwrap())
    }

    #[test]
    fn a_store_starts_where_its_release_starts_it() {
        for (finished, scheduled, last, release, compact, current) in [
            (None, None, 0, "3.7.1", None, 1),
            (None, None, 79, "3.7.1", None, 79),
            (Some(46), Some(46), 79, "3.7.1", Some(46), 79),
            // The last record was a tombstone at the compacted revision.
            (Some(80), Some(80), 79, "3.4.23", Some(80), 80),
            // Interrupted.
            (Some(46), Some(60), 79, "3.5.1", Some(60), 79),
            (None, Some(60), 79, "3.5.1", Some(60), 79),
            // Interrupted, the tombstone gone: only later releases know that the store was at 80.
            (Some(46), Some(80), 79, "3.5.13", Some(46), 79),
            (Some(46), Some(80), 79, "3.5.14", Some(80), 80),
            (Some(46), Some(80), 79, "3.4.31", Some(46), 79),
            (Some(46), Some(80), 79, "3.4.32", Some(80), 80),
        ] {
            let store = store(finished, scheduled, last, release);
            assert_eq!((store.compact_revision, store.current_revision), (compact, current), "{store:?}");
            assert_eq!(store.has_pending_compaction(), compact != finished);
        }
    }

    #[test]
    fn a_compaction_beyond_the_last_record_is_told_where_it_is_odd() {
        for (finished, scheduled, last, consistent_index, told) in [
            (None, None, 79, 100, None),
            (Some(79), Some(79), 79, 100, None),
            // The last revisions were deletions, under the older rule.
            (Some(81), Some(81), 79, 100, None),
            (Some(81), Some(46), 79, 2, None),
            (Some(2), Some(2), 0, 1, None),
            (Some(82), Some(82), 79, 2, Some("consistent index 2 is too low")),
            (Some(i64::MAX), None, 0, 100, Some("consistent index 100 is too low")),
            (Some(-5), Some(-5), 0, 0, None),
            (Some(46), Some(81), 79, 100, Some("3.5.14 start at revision 79 and give out again")),
            (None, Some(81), 79, 100, Some("3.5.14 start at revision 79 and give out again")),
            (Some(80), Some(81), 79, 100, Some("3.5.14 start at revision 80 and give out again")),
            (Some(46), Some(60), 79, 100, None),
        ] {
            let schema = Schema { consistent_index, ..Schema::default() };
            let finding = store(finished, scheduled, last, "3.7.1").ahead(&schema);
            let message = finding.map(|finding| finding.message);
            let is_right = match told {
                None => message.is_none(),
                Some(told) => message.as_ref().is_some_and(|message| message.contains(told)),
            };
            assert!(is_right, "{finished:?} {scheduled:?} {last}: {message:?}");
        }
    }

    #[test]
    fn a_revision_that_cannot_be_read_is_told_with_those_that_can() {
        let store = store(Some(46), Some(46), 79, "3.7.1");
        assert_eq!(store.resolve(0), Ok(79));
        assert_eq!(store.resolve(-3), Ok(79));
        assert_eq!(store.resolve(46), Ok(46));
        assert_eq!(store.resolve(79), Ok(79));
        assert_eq!(
            store.resolve(45).unwrap_err().to_string(),
            "mvcc: required revision has been compacted; kept are revisions 46 to 79"
        );
        assert_eq!(
            store.resolve(80).unwrap_err().to_string(),
            "mvcc: required revision is a future revision; kept are revisions 46 to 79"
        );
    }
}
