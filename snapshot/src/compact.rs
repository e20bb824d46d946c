//! `compact`: a compaction of the key space, as a server would do it, and a defragmentation in the same pass (FORMATS C.4, R.5).
//!
//! Records that the compaction leaves are streamed into a fresh file; bucket `meta` gets the revision as the compaction
//! ordered last and finished last. All else stays, `consistent_index` and the leases above all: what the log of a member has
//! beyond its database is applied to the result as it would have been.

mod by_prefix;

use bbolt::graft::{Graft, GraftError, Pairs};
use bbolt::rebuild::{Edits, Put, Revise};
use bbolt::{Db, Fault, RebuildError, Source, Watch};

pub use by_prefix::{MOST_PREFIXES, PrefixUse, by_prefix, prefix_of};

use crate::edited::{Change, Expected};
use crate::finding::Finding;
use crate::mvcc::{
    AtRevisionError, Compaction, KeySpaceError, Ordinals, Release, Revision, RevisionError, Store, compaction,
};
use crate::schema::{FINISHED_COMPACT, KEY, META, SCHEDULED_COMPACT};

/// Where to compact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At this revision.
    Revision(i64),
    /// This many revisions before the current one.
    Keep(i64),
}

/// What a compaction comes to.
#[derive(Debug)]
pub struct Plan {
    /// The records.
    pub compaction: Compaction,
    /// The release whose rules hold.
    pub release: Release,
    /// Tombstones at exactly the compaction's revision, which some releases keep and others remove.
    pub tombstones_at_revision: u64,
    /// Bucket `meta` as it will be.
    meta: Pairs,
    /// Pairs that all buckets will hold.
    pairs_after: u64,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// The revision is compacted already.
    #[error(
        "mvcc: required revision has been compacted: {revision} is not beyond {compacted}, up to which the history is gone; \
         {compacted} to {current} are kept. 'etcd-rescue defrag' gives free pages back without a compaction"
    )]
    Compacted {
        /// What was asked for.
        revision: i64,
        /// The compacted revision.
        compacted: i64,
        /// The store's revision.
        current: i64,
    },
    /// The revision has not come yet.
    #[error("mvcc: required revision is a future revision: {revision} is beyond {current}, the store's")]
    Future {
        /// What was asked for.
        revision: i64,
        /// The store's revision.
        current: i64,
    },
    /// There are not so many revisions.
    #[error(
        "--keep-revisions {keep}: the store is at revision {current}, and the first it can be compacted at is 1"
    )]
    TooFew {
        /// How many were to be kept.
        keep: i64,
        /// The store's revision.
        current: i64,
    },
    /// The key space cannot be read.
    #[error("{0}; nothing was written")]
    Read(#[from] KeySpaceError),
    /// Bucket `meta` cannot be read.
    #[error("{0}; nothing was written")]
    Meta(#[from] GraftError),
}

impl From<Fault> for CompactError {
    fn from(fault: Fault) -> Self {
        Self::Read(fault.into())
    }
}

impl From<AtRevisionError> for CompactError {
    fn from(error: AtRevisionError) -> Self {
        match error {
            AtRevisionError::Read(error) => Self::Read(error),
            AtRevisionError::Revision(RevisionError::Compacted { wanted: revision, first, last }) => {
                Self::Compacted { revision, compacted: first, current: last }
            }
            AtRevisionError::Revision(RevisionError::Future { wanted: revision, last, .. }) => {
                Self::Future { revision, current: last }
            }
        }
    }
}

impl CompactError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Read(KeySpaceError::Damaged { .. } | KeySpaceError::Records { .. }) => 3,
            Self::Read(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Read(error) => error.findings(),
            _ => &[],
        }
    }
}

/// The revision that `at` means to `store`.
///
/// # Errors
/// When it is compacted already, has not come yet, or there are not so many revisions.
pub fn resolve(store: &Store, at: At) -> Result<i64, CompactError> {
    let current = store.current_revision;
    let revision = match at {
        At::Revision(revision) => revision,
        At::Keep(keep) => match current.checked_sub(keep) {
            Some(revision) if revision >= 1 => revision,
            _ => return Err(CompactError::TooFew { keep, current }),
        },
    };
    if revision > current {
        return Err(CompactError::Future { revision, current });
    }
    // A compaction that was ordered can still be finished.
    let compacted = store.compact_revision.unwrap_or_default();
    let is_pending = store.has_pending_compaction() && revision == compacted;
    if revision <= compacted && !is_pending {
        return Err(CompactError::Compacted { revision, compacted, current });
    }
    Ok(revision)
}

/// Says what a compaction of `db` comes to, having checked the structure of all of it.
///
/// # Errors
/// When the revision cannot be compacted, or the file is damaged.
pub fn plan<S: Source>(
    db: &Db<S>,
    at: At,
    release: Release,
    watch: &dyn Watch,
) -> Result<Plan, CompactError> {
    let revision = resolve(&Store::read(db, release)?, at)?;
    let compaction = compaction(db, revision, release, watch)?;
    let mut meta = Graft::new(db).pairs(META)?.unwrap_or_default();
    let rows = meta.len();
    let at = Revision { main: revision, sub: 0, tombstone: false }.encode();
    meta.insert(SCHEDULED_COMPACT.to_vec(), at.clone());
    meta.insert(FINISHED_COMPACT.to_vec(), at);
    let more = (meta.len() - rows) as u64;
    let pairs_after = other_pairs(db)? + compaction.records_after + more;
    let tombstones_at_revision = tombstones_at(db, revision)?;
    Ok(Plan { compaction, release, tombstones_at_revision, meta, pairs_after })
}

impl Plan {
    /// The revision that is compacted.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.compaction.revision
    }

    /// A compaction that was ordered and never finished, and that this one takes care of.
    #[must_use]
    pub fn pending(&self) -> Option<i64> {
        let store = &self.compaction.store;
        store.compact_revision.filter(|_| store.has_pending_compaction())
    }

    /// The edits that carry it out.
    #[must_use]
    pub fn edits(&self) -> Edits<'_> {
        let mut edits = Edits::default();
        edits.revise(KEY, self);
        edits.replace(META, self.meta.clone());
        edits
    }

    /// The change that carries it out, given its [`Self::edits`].
    #[must_use]
    pub fn change<'e>(&self, edits: &'e Edits<'e>) -> Change<'e> {
        Change::Rebuild { edits, expected: Expected { pairs: Some(self.pairs_after) } }
    }

    /// The records that stay.
    #[must_use]
    pub fn kept(&self) -> &Ordinals {
        &self.compaction.kept
    }
}

impl Revise for Plan {
    fn keeps(&self, ordinal: u64) -> bool {
        self.compaction.kept.contains(ordinal)
    }

    fn append(&self, _put: &mut Put<'_>) -> Result<(), RebuildError> {
        Ok(())
    }
}

/// Pairs in all buckets but `key`.
pub(crate) fn other_pairs<S: Source>(db: &Db<S>) -> Result<u64, Fault> {
    let mut pairs = 0;
    let mut names = db.root().cursor();
    while let Some(item) = names.next()? {
        let is_key = item.key == KEY;
        let is_bucket = item.is_bucket;
        pairs += u64::from(!is_bucket);
        if is_key || !is_bucket {
            continue;
        }
        let Some(bucket) = names.bucket()? else { continue };
        for range in bucket.leaf_ranges(1)? {
            for node in range.nodes() {
                pairs += u64::from(node?.count());
            }
        }
    }
    Ok(pairs)
}

/// Tombstones of this revision.
fn tombstones_at<S: Source>(db: &Db<S>, revision: i64) -> Result<u64, Fault> {
    let Some(bucket) = db.bucket(KEY)? else { return Ok(0) };
    let mut cursor = bucket.cursor();
    let mut item = cursor.seek(&Revision { main: revision, sub: 0, tombstone: false }.encode())?;
    let mut tombstones = 0;
    while let Some(found) = item.and_then(|item| Revision::parse(item.key)).filter(|r| r.main == revision) {
        tombstones += u64::from(found.tombstone);
        item = cursor.next()?;
    }
    Ok(tombstones)
}
