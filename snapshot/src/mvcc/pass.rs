//! One pass over the records of bucket `key`, on all threads, that proves the structure of the whole file on the way.

use bbolt::bucket::Root;
use bbolt::check::{MOST_RUNS, Visit, check_visiting};
use bbolt::{Bucket, Db, Fault, LeafRange, Node, PageId, Source, Unmetered, Watch};
use rayon::prelude::*;

use super::bad_records::{BadRecords, Pair};
use super::{KeyValue, Revision};
use crate::finding::Finding;
use crate::schema::{KEY, no_key_bucket};
use crate::structure::{self, Interrupted, is_damaged};

/// Why the key space cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeySpaceError {
    /// The file's structure is damaged.
    #[error(
        "the structure of the database is damaged: {} finding(s); 'etcd-rescue salvage PATH --dry-run' says what can be saved \
         of it", findings.len()
    )]
    Damaged {
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// Pairs of bucket `key` are no records.
    #[error("bucket key holds what is no record of a key: {} finding(s)", findings.len())]
    Records {
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// A page is damaged that was not a moment ago, or that the job looked at before it checked the structure.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// What was read cannot be read again.
    #[error("reading a record again: {0}")]
    Unreadable(#[from] super::RecordError),
    /// More records than there are numbers for.
    #[error(
        "there are more than {most} records in the range of keys, or in one part of the file: too many to be told apart"
    )]
    TooManyRecords {
        /// How many there may be.
        most: u64,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl From<Interrupted> for KeySpaceError {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl KeySpaceError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Interrupted) { 130 } else { 1 }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Damaged { findings } | Self::Records { findings } => findings,
            _ => &[],
        }
    }
}

/// What is to be done with the records.
pub(super) trait Take: Sync {
    /// What a run of leaves comes to.
    type Run: Send;
    /// A run of leaves starts; `number` is smaller than [`MOST_RUNS`] and ascends with the keys.
    fn begin(&self, number: u16) -> Self::Run;
    /// The run's next leaf, in key order.
    fn leaf(&self, run: &mut Self::Run, leaf: &Node<'_>);
    /// The run is complete.
    fn end(&self, run: &mut Self::Run);
}

/// What a pass comes to.
pub(super) struct Passed<T: Take> {
    /// Whoever took the records.
    pub(super) take: T,
    /// The runs, in key order.
    pub(super) runs: Vec<T::Run>,
    /// What a server lives with in the structure; and that there is no bucket `key`.
    pub(super) findings: Vec<Finding>,
}

/// Whoever makes of a [`Take`] a visitor of the check.
struct KeyBucket<'t, T>(&'t T);

impl<T: Take> Visit for KeyBucket<'_, T> {
    type Bucket = bool;
    type Run = Option<T::Run>;

    fn bucket(&self, name: &[u8]) -> bool {
        name == KEY
    }

    fn begin(&self, is_key: bool, number: u16) -> Option<T::Run> {
        is_key.then(|| self.0.begin(number))
    }

    fn leaf(&self, run: &mut Option<T::Run>, leaf: &Node<'_>) {
        if let Some(run) = run {
            self.0.leaf(run, leaf);
        }
    }

    fn end(&self, run: &mut Option<T::Run>) {
        if let Some(run) = run {
            self.0.end(run);
        }
    }
}

/// Checks the structure of `db` and gives all records of bucket `key` to what `make` makes: in one pass where that can be
/// done, else in two, and then `make` is asked again.
///
/// # Errors
/// When the structure is damaged, or the user asked to stop.
pub(super) fn pass<S: Source, T: Take>(
    db: &Db<S>,
    make: impl Fn() -> T,
    watch: &dyn Watch,
) -> Result<Passed<T>, KeySpaceError> {
    watch.begin("reading", db.meta().logical_bytes());
    let take = make();
    let visited = check_visiting(db, watch, &KeyBucket(&take));
    let mut findings = structure::findings(&visited.report)?;
    if is_damaged(&findings) {
        return Err(KeySpaceError::Damaged { findings });
    }
    let Some(bucket) = db.bucket(KEY)? else {
        findings.push(no_key_bucket());
        return Ok(Passed { take, runs: Vec::new(), findings });
    };
    if let (Some(buckets), Root::Page(root)) = (visited.buckets, bucket.root()) {
        let runs = buckets.into_iter().find(|(found, _)| found == root).map(|(_, runs)| runs);
        let runs = runs.unwrap_or_default().into_iter().flatten().collect();
        return Ok(Passed { take, runs, findings });
    }
    drop(take);
    let take = make();
    let watch = Unmetered(watch);
    let read = |(number, range): (usize, &LeafRange<'_, S>)| -> Result<T::Run, KeySpaceError> {
        // There are fewer ranges than fit.
        let mut run = take.begin(u16::try_from(number).unwrap_or_default());
        for node in range.nodes() {
            if watch.interrupted() {
                return Err(KeySpaceError::Interrupted);
            }
            take.leaf(&mut run, &node?);
        }
        take.end(&mut run);
        Ok(run)
    };
    let runs = bucket
        .leaf_ranges(usize::from(MOST_RUNS))?
        .par_iter()
        .enumerate()
        .map(read)
        .collect::<Result<_, _>>()?;
    Ok(Passed { take, runs, findings })
}

/// Reads the leaf `id` of bucket `key` again, which a pass met.
///
/// # Errors
/// When it cannot be read, or is another page now.
pub(super) fn leaf_again<'d, S: Source>(
    bucket: &Bucket<'d, S>,
    id: PageId,
) -> Result<Node<'d>, KeySpaceError> {
    match bucket.root() {
        Root::Inline(node) => Ok(node.clone()),
        Root::Page(_) => Ok(bucket.db().node(id)?),
    }
}

/// The record that `pair` is.
///
/// # Errors
/// Why it is none, in words.
#[inline]
pub(super) fn record_of<'n>(pair: &Pair<'n>) -> Result<(Revision, KeyValue<'n>), String> {
    let revision = revision_of(pair)?;
    let kv = KeyValue::decode(pair.value)
        .map_err(|error| format!("revision {}/{}: {error}", revision.main, revision.sub))?;
    Ok((revision, kv))
}

/// The revision that `pair` is of.
///
/// # Errors
/// Why it is of none, in words.
#[inline]
pub(super) fn revision_of(pair: &Pair<'_>) -> Result<Revision, String> {
    let revision = Revision::parse(pair.key).filter(|_| !pair.is_bucket);
    revision.ok_or_else(|| {
        let what = if pair.is_bucket { "is a bucket" } else { "is no revision" };
        format!("key {} {what}", bbolt::fault::readable(pair.key))
    })
}

/// The findings of `bad`, or an error with them when some are no records.
///
/// # Errors
/// [`KeySpaceError::Records`].
pub(super) fn only_records(bad: BadRecords) -> Result<Vec<Finding>, KeySpaceError> {
    let malformed = bad.has_malformed();
    let findings = bad.into_findings();
    if malformed { Err(KeySpaceError::Records { findings }) } else { Ok(findings) }
}
