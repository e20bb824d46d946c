//! etcd's range request, answered from a file: which keys, at which revision, in which order, how many.
//!
//! The rules are those of the server's applier (`etcdserver/apply.go` of 3.4, `etcdserver/txn/range.go` of 3.7), also where they
//! surprise: a limit without an order is taken before the sort, not after it.

use std::borrow::Cow;

use bbolt::{Source, Watch};

use super::{Entry, Index, IndexOptions, KeyRange, KeyValue, RecordError, Release, RevisionError};
use crate::finding::Finding;
use crate::gosort;

/// Which way results are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Not asked for: ascending, and the limit is taken before the sort.
    #[default]
    None,
    /// Ascending.
    Ascend,
    /// Descending.
    Descend,
}

/// What results are ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The number of puts since the key was created.
    Version,
    /// The revision that created the key.
    Create,
    /// The revision of the last put.
    Modify,
    /// The value.
    Value,
}

/// `etcdserverpb.RangeRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// The keys.
    pub range: KeyRange,
    /// The revision to read at; 0 for the current one.
    pub revision: i64,
    /// How many records at most; 0 for all.
    pub limit: i64,
    /// Which way they are ordered.
    pub sort_order: SortOrder,
    /// What they are ordered by.
    pub sort_target: SortTarget,
    /// Whether values are left out.
    pub keys_only: bool,
    /// Whether records are only counted.
    pub count_only: bool,
    /// Revisions of creation, the least and the greatest; 0 for no bound.
    pub create_revisions: (i64, i64),
    /// Revisions of the last put, the least and the greatest; 0 for no bound.
    pub mod_revisions: (i64, i64),
}

impl RangeRequest {
    /// What an index must hold to answer this request: nothing of it is needed that comes later than the revision asked for.
    #[must_use]
    pub fn index_options(&self, release: Release, skip_bad: bool) -> IndexOptions {
        let upto = (self.revision > 0).then_some(self.revision);
        IndexOptions { range: self.range.clone(), upto, skip_bad, release }
    }
}

/// `etcdserverpb.RangeResponse`, its records still in the file.
#[derive(Debug, Clone, Default)]
pub struct RangeAnswer<'i> {
    /// The records found, in order.
    pub records: Vec<&'i Entry>,
    /// Whether there are more than were asked for.
    pub more: bool,
    /// How many keys there are in the range at the revision, whatever limit and filters.
    pub count: i64,
    /// The store's current revision.
    pub revision: i64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The store does not have the revision.
    #[error("etcdserver: {0}")]
    Revision(#[from] RevisionError),
    /// A record cannot be read again.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl QueryError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            _ => 1,
        }
    }

    /// Findings that go with it: none, those of the file are the index's.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
}

/// Answers `request` from `index`, which holds at least what [`RangeRequest::index_options`] asks for.
///
/// # Errors
/// When the revision is not kept, a record cannot be read again, or the user asked to stop.
pub fn range<'i, S: Source>(
    index: &'i Index<'_, S>,
    request: &RangeRequest,
    watch: &dyn Watch,
) -> Result<RangeAnswer<'i>, QueryError> {
    let revision = index.store().resolve(request.revision)?;
    let mut live = Vec::new();
    for history in index.histories() {
        if let Some(entry) = history.at(revision)
            && (request.range.is_all() || request.range.contains(&history.key()?))
        {
            live.push(entry);
        }
    }
    if watch.interrupted() {
        return Err(QueryError::Interrupted);
    }
    let count = i64::try_from(live.len()).unwrap_or(i64::MAX);
    let read = |entry: &&Entry| index.record(entry).map(|record| record.bytes);
    let (records, more) = arrange(live, request, read)?;
    Ok(RangeAnswer { records, more, count, revision: index.store().current_revision })
}

/// What of the `live` keys, which are in order, `request` asks for, in its order; and whether there is more. `read` gives the
/// record of one.
fn arrange<'d, T, E>(
    mut live: Vec<T>,
    request: &RangeRequest,
    read: impl Fn(&T) -> Result<Cow<'d, [u8]>, E>,
) -> Result<(Vec<T>, bool), E> {
    if request.count_only {
        return Ok((Vec::new(), false));
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let filtered = request.create_revisions != (0, 0) || request.mod_revisions != (0, 0);
    if let Some(limit) = limit
        && request.sort_order == SortOrder::None
        && !filtered
    {
        // One more than asked for tells that there is more.
        live.truncate(limit.saturating_add(1));
    }
    if filtered {
        let within = |revision: i64, (least, greatest): (i64, i64)| {
            revision >= least && (greatest == 0 || revision <= greatest)
        };
        let mut passed = Vec::new();
        for found in live {
            let record = read(&found)?;
            let kv = KeyValue::decode(&record).unwrap_or_default();
            let passes = within(kv.mod_revision, request.mod_revisions)
                && within(kv.create_revision, request.create_revisions);
            drop(record);
            if passes {
                passed.push(found);
            }
        }
        live = passed;
    }
    sort(&mut live, request, read)?;
    let more = limit.is_some_and(|limit| live.len() > limit);
    live.truncate(limit.unwrap_or(usize::MAX));
    Ok((live, more))
}

/// Sorts what is in the order of its keys.
fn sort<'d, T, E>(
    live: &mut Vec<T>,
    request: &RangeRequest,
    read: impl Fn(&T) -> Result<Cow<'d, [u8]>, E>,
) -> Result<(), E> {
    let descending = request.sort_order == SortOrder::Descend;
    if request.sort_target == SortTarget::Key {
        if descending {
            live.reverse();
        }
        return Ok(());
    }
    let mut sortable = Vec::with_capacity(live.len());
    for found in live.drain(..) {
        let record = read(&found)?;
        let kv = KeyValue::decode(&record).unwrap_or_default();
        let number = match request.sort_target {
            SortTarget::Version => kv.version,
            SortTarget::Create => kv.create_revision,
            SortTarget::Modify => kv.mod_revision,
            SortTarget::Key | SortTarget::Value => 0,
        };
        drop(record);
        sortable.push((number, found));
    }
    let mut failure = None;
    let by_value = request.sort_target == SortTarget::Value;
    let mut is_less = |(a, first): &(i64, T), (b, second): &(i64, T)| {
        if !by_value {
            return a < b;
        }
        match (read(first), read(second)) {
            (Ok(a), Ok(b)) => {
                let value = |record| KeyValue::decode(record).unwrap_or_default().value;
                value(&a) < value(&b)
            }
            (Err(error), _) | (_, Err(error)) => {
                failure = Some(error);
                false
            }
        }
    };
    if descending {
        gosort::sort(&mut sortable, |a, b| is_less(b, a));
    } else {
        gosort::sort(&mut sortable, is_less);
    }
    live.extend(sortable.into_iter().map(|(_, found)| found));
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys `a` to `e`, with versions 1 and 2 by turns, created in the order of their keys.
    fn live() -> Vec<Vec<u8>> {
        let record = |(at, key): (i64, &u8)| {
            let (create_revision, mod_revision) = (at + 2, 100 - at);
            let key = std::slice::from_ref(key);
            let kv =
                KeyValue { key, create_revision, mod_revision, version: at % 2 + 1, value: b"v", lease: 0 };
            let mut record = Vec::new();
            kv.encode(&mut record);
            record
        };
        (0..).zip(b"abcde").map(record).collect()
    }

    fn arranged(request: &RangeRequest) -> (String, bool) {
        let read = |record: &Vec<u8>| Ok::<_, QueryError>(Cow::Owned(record.clone()));
        let (found, more) = arrange(live(), request, read).unwrap();
        let keys = found.iter().map(|record| KeyValue::decode(record).unwrap().key[0]);
        (String::from_utf8(keys.collect()).unwrap(), more)
    }

    #[test]
    fn a_limit_without_an_order_is_taken_before_the_sort() {
        let request = RangeRequest { sort_target: SortTarget::Modify, limit: 2, ..RangeRequest::default() };
        assert_eq!(arranged(&request), ("cb".to_owned(), true));
        let ordered = RangeRequest { sort_order: SortOrder::Ascend, ..request };
        assert_eq!(arranged(&ordered), ("ed".to_owned(), true));
    }

    #[test]
    fn filters_orders_and_limits() {
        let request = RangeRequest { limit: 4, sort_order: SortOrder::Descend, ..RangeRequest::default() };
        assert_eq!(arranged(&request), ("edcb".to_owned(), true));
        let request = RangeRequest { sort_target: SortTarget::Version, ..request };
        assert_eq!(arranged(&request), ("bdac".to_owned(), true));
        let request = RangeRequest { create_revisions: (3, 5), limit: 3, ..RangeRequest::default() };
        assert_eq!(arranged(&request), ("bcd".to_owned(), false));
        let request = RangeRequest { mod_revisions: (0, 98), limit: 1, ..RangeRequest::default() };
        assert_eq!(arranged(&request), ("c".to_owned(), true));
        let request = RangeRequest { count_only: true, ..RangeRequest::default() };
        assert_eq!(arranged(&request), (String::new(), false));
    }
}
