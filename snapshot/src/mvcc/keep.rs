//! Which records survive a compaction (FORMATS C.4).

use bbolt::{Db, Node, Source, Watch};

use super::bad_records::{BadRecords, pair_of};
use super::pass::{KeySpaceError, Passed, Take, only_records, pass, record_of};
use super::{AtRevisionError, Ordinals, Release, RevisionError, Store};
use crate::finding::Finding;
use crate::newest::{Batch, Newest};
use crate::schema::Schema;

/// What a compaction does to the records.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// The revision that is compacted.
    pub revision: i64,
    /// What the store is before.
    pub store: Store,
    /// The records that stay, by their number in bucket `key`.
    pub kept: Ordinals,
    /// Records before.
    pub records_before: u64,
    /// Records after.
    pub records_after: u64,
    /// What is odd about the file.
    pub findings: Vec<Finding>,
}

/// Which records of `db` a compaction at `revision` leaves, 0 being the current one, as `release` compacts. Proves the structure
/// of all of `db` on the way.
///
/// # Errors
/// When the revision is compacted already or has not come yet, the structure is damaged, a pair of bucket `key` is no record, or
/// the user asked to stop.
pub fn compaction<S: Source>(
    db: &Db<S>,
    revision: i64,
    release: Release,
    watch: &dyn Watch,
) -> Result<Compaction, AtRevisionError> {
    let store = Store::read(db, release).map_err(KeySpaceError::from)?;
    let revision = store.resolve(revision)?;
    // One that was ordered and did not finish can be carried out to its end.
    let is_pending = store.has_pending_compaction() && Some(revision) == store.compact_revision;
    if Some(revision) <= store.compact_revision && !is_pending {
        let (first, last) = (store.first_kept(), store.current_revision);
        return Err(RevisionError::Compacted { wanted: revision, first, last }.into());
    }
    let Passed { take, runs, findings } = pass(db, || Deciding { newest: Newest::new(), revision }, watch)?;
    let mut compaction = Compaction {
        revision,
        store,
        kept: Ordinals::default(),
        records_before: 0,
        records_after: 0,
        findings,
    };
    let (mut bad, mut firsts) = (BadRecords::default(), Vec::new());
    let (mut below, mut upto) = (0, 0);
    for run in runs {
        bad.append(run.bad);
        firsts.push(compaction.records_before);
        below += run.below;
        upto += run.upto;
        compaction.records_before += run.records;
    }
    compaction.findings.extend(only_records(bad)?);
    let schema = Schema::read(db).map_err(KeySpaceError::from)?;
    compaction.findings.extend(compaction.store.ahead(&schema));
    if take.newest.overflowed() {
        return Err(KeySpaceError::TooManyRecords { most: 1 << 32 }.into());
    }
    let kept = &mut compaction.kept;
    *kept = Ordinals::new(compaction.records_before);
    // Records are in the order of their revisions.
    (upto..compaction.records_before).for_each(|ordinal| kept.insert(ordinal));
    take.newest.for_each(|run, record, is_put| {
        let ordinal = firsts.get(usize::from(run)).copied().unwrap_or_default() + record;
        if is_put || ordinal >= below && release.keeps_tombstone_at_compaction() {
            kept.insert(ordinal);
        }
    });
    compaction.records_after = kept.count();
    Ok(compaction)
}

struct Deciding {
    newest: Newest,
    revision: i64,
}

struct Run {
    batch: Option<Batch>,
    records: u64,
    /// Records below the revision that is compacted.
    below: u64,
    /// Records up to it.
    upto: u64,
    bad: BadRecords,
}

impl Take for Deciding {
    type Run = Run;

    fn begin(&self, number: u16) -> Run {
        Run {
            batch: Some(self.newest.begin(number)),
            records: 0,
            below: 0,
            upto: 0,
            bad: BadRecords::default(),
        }
    }

    fn leaf(&self, run: &mut Run, leaf: &Node<'_>) {
        for index in 0..leaf.count() {
            let pair = pair_of(leaf, index);
            run.records += 1;
            let (revision, kv) = match record_of(&pair) {
                Ok(record) => record,
                Err(what) => {
                    run.bad.malformed_pair(&pair, &what);
                    continue;
                }
            };
            if revision.main > self.revision {
                continue;
            }
            run.below += u64::from(revision.main < self.revision);
            run.upto += 1;
            if let Some(batch) = &mut run.batch {
                self.newest.add(batch, kv.key, !revision.tombstone);
            }
        }
    }

    fn end(&self, run: &mut Run) {
        if let Some(batch) = run.batch.take() {
            self.newest.end(batch);
        }
    }
}
