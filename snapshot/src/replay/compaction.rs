//! Compactions: what is left of the records of the db and of those that entries wrote (FORMATS C.4).
//!
//! A compaction in the log takes effect at once for what later entries may read. Records go only in the end, under the last one:
//! what an earlier compaction leaves and the last one does not is gone either way, and nothing that the earlier one takes would
//! be left by the last.

use bbolt::{Source, Watch};
use rayon::prelude::*;

use super::keys::Keys;
use super::{Applied, Why};
use crate::mvcc::{Index, KeySpaceError, RecordError, Release, Sifted, sift};
use crate::request::Message;

/// Keys that one thread looks at before it asks whether to go on.
const KEYS_AT_ONCE: usize = 4096;

/// Main and sub revision of a record.
type Of = (i64, i64);

/// What a compaction leaves.
#[derive(Debug)]
pub(super) struct Kept {
    /// Of the records of the db.
    pub(super) in_file: Sifted,
    /// Of those that entries wrote, by their place among them.
    pub(super) written: Vec<bool>,
}

/// Applies a compaction.
pub(super) fn apply<S: Source>(keys: &mut Keys<'_, S>, request: Message<'_>) -> Applied {
    let revision = request.number(1).cast_signed();
    if revision <= keys.compact_revision {
        return Applied::Nothing(Why::Compacted);
    }
    if revision > keys.current_revision() {
        return Applied::Nothing(Why::FutureRevision);
    }
    keys.compact_revision = revision;
    Applied::Changed
}

/// What a compaction at `revision` leaves. Reads all records of the db once more.
///
/// # Errors
/// When a record cannot be read again, or the user asked to stop.
pub(super) fn kept<S: Source>(
    keys: &Keys<'_, S>,
    revision: i64,
    release: Release,
    watch: &dyn Watch,
) -> Result<Kept, KeySpaceError> {
    let keeps_tombstones = release.keeps_tombstone_at_compaction();
    // Of each key the revision that an entry wrote it at first: from there on no record of the db is its newest.
    let mut first_written = vec![i64::MAX; keys.state_count()];
    let mut written = vec![true; keys.records.len()];
    let mut is_newest = vec![true; keys.state_count()];
    for (place, record) in keys.records.iter().enumerate().rev() {
        let at = record.revision;
        if let Some(first) = first_written.get_mut(record.key) {
            *first = at.main;
        }
        let newest = is_newest.get_mut(record.key).filter(|_| at.main <= revision);
        let Some(newest) = newest else { continue };
        let stays = *newest && (!at.tombstone || keeps_tombstones && at.main == revision);
        *newest = false;
        if let Some(is_kept) = written.get_mut(place) {
            *is_kept = stays;
        }
    }
    let index = &keys.index;
    let of_key = |number: usize| -> Result<Option<Of>, RecordError> {
        let entries = index.history(number).map_or(&[][..], |history| history.entries());
        let later = entries.partition_point(|entry| entry.main() <= revision);
        let Some(newest) = entries.get(..later).and_then(<[_]>::last) else { return Ok(None) };
        let first = keys.state_of(number).and_then(|state| first_written.get(state).copied());
        let is_outdone = first.is_some_and(|first| first <= revision);
        let goes = newest.is_tombstone() && !(keeps_tombstones && newest.main() == revision);
        if is_outdone || goes {
            return Ok(None);
        }
        let at = index.record(newest)?.revision;
        Ok(Some((at.main, at.sub)))
    };
    let newest = newest_of_all(index, of_key, watch)?;
    let in_file = sift(
        index.db(),
        |at, _| at.main > revision || newest.binary_search(&(at.main, at.sub)).is_ok(),
        watch,
    )?;
    Ok(Kept { in_file, written })
}

/// What `of_key` says of all keys of the index, in order.
fn newest_of_all<S: Source>(
    index: &Index<'_, S>,
    of_key: impl Fn(usize) -> Result<Option<Of>, RecordError> + Sync,
    watch: &dyn Watch,
) -> Result<Vec<Of>, KeySpaceError> {
    let some = |from: usize| -> Result<Vec<Of>, KeySpaceError> {
        if watch.interrupted() {
            return Err(KeySpaceError::Interrupted);
        }
        let numbers = from..index.key_count().min(from.saturating_add(KEYS_AT_ONCE));
        let mut found = Vec::new();
        for number in numbers {
            found.extend(of_key(number)?);
        }
        Ok(found)
    };
    let starts: Vec<usize> = (0..index.key_count()).step_by(KEYS_AT_ONCE).collect();
    let parts: Result<Vec<Vec<Of>>, KeySpaceError> = starts.into_par_iter().map(some).collect();
    let mut all = parts?.concat();
    all.par_sort_unstable();
    Ok(all)
}
