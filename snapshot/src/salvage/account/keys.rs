//! What loss means for keys: whose newest record is lost, what stands in for it, and how many may be older than they should be.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::ops::ControlFlow;

use bbolt::fault::readable;

use super::{Counted, Torn};
use crate::mvcc::{KeyValue, Revision};
use crate::salvage::SalvageError;
use crate::salvage::report::{Account, LostKey};

/// Most records that are looked at together: what is kept of a key takes some 40 bytes.
const MOST_TOGETHER: u64 = 4 << 20;

/// Shows each record of a way, in the order of their revisions, with its value.
pub(crate) type Walk<'w> =
    dyn Fn(&mut dyn FnMut(Revision, &[u8]) -> ControlFlow<()>) -> Result<(), SalvageError> + 'w;

/// The newest record of a key so far.
#[derive(Debug, Clone, Copy)]
struct Newest {
    main: i64,
    /// 0 for a tombstone.
    version: i64,
}

/// Looks up what the loss that `account` tells of means for keys: `walk` shows the records of the way.
pub(crate) fn look_up(account: &mut Account, compaction: i64, walk: &Walk<'_>) -> Result<(), SalvageError> {
    let after = last_loss(account);
    if after.is_none() && account.dropped.torn == 0 {
        return Ok(());
    }
    let after = after.unwrap_or_default();
    let is_below = |from: Option<i64>| from.unwrap_or_default() <= compaction;
    let is_base_whole = account.more_holes == 0
        && !account.holes.iter().any(|hole| hole.is_open && !hole.is_newer && is_below(hole.from));
    let hasher = RandomState::new();
    let parts = account.records / MOST_TOGETHER + 1;
    for part in 0..parts {
        let mut newest: HashMap<u64, Newest> = HashMap::new();
        let mut superseded = 0;
        walk(&mut |revision, value| {
            let Ok(kv) = KeyValue::decode(value) else { return ControlFlow::Continue(()) };
            let hash = hasher.hash_one(kv.key);
            if hash % parts == part {
                let version = if revision.tombstone { 0 } else { kv.version };
                let now = Newest { main: revision.main, version };
                let before = newest.insert(hash, now);
                if revision.main > compaction {
                    superseded += lost_between(before, (revision, &kv), compaction, is_base_whole);
                }
            }
            ControlFlow::Continue(())
        })?;
        let live = || newest.values().filter(|newest| newest.version > 0);
        account.keys += live().count() as u64;
        account.exposed_keys += live().filter(|newest| newest.main < after).count() as u64;
        account.superseded += superseded;
    }
    Ok(())
}

/// How many records of a key stood above the compaction between the one before and this, and are not there: versions count the puts
/// since the key was created. `is_base_whole`: whether all is there that the compaction left, so that what stands there of a key was its
/// newest.
fn lost_between(
    before: Option<Newest>,
    (revision, kv): (Revision, &KeyValue<'_>),
    compaction: i64,
    is_base_whole: bool,
) -> u64 {
    let before = before.filter(|before| is_base_whole || before.main > compaction);
    let created = kv.create_revision;
    let lost = match before {
        // A tombstone says nothing of what was before it, and that must have been a put.
        before if revision.tombstone => i64::from(before.is_some_and(|before| before.version == 0)),
        Some(before) if before.version > 0 && before.main >= created => kv.version - before.version - 1,
        // It was deleted in between and created anew.
        Some(before) if created > compaction => i64::from(before.version > 0) + kv.version - 1,
        None if created > compaction => kv.version - 1,
        _ => 0,
    };
    u64::try_from(lost).unwrap_or_default()
}

/// The last revision at which something is missing; `None` when nothing is.
fn last_loss(account: &Account) -> Option<i64> {
    let holes = account.holes.iter().filter(|hole| hole.is_open && !hole.is_newer);
    let ends = holes.map(|hole| hole.to.unwrap_or(i64::MAX));
    let halves = account.half_revisions.last().copied();
    let is_more = account.more_holes > 0
        || account.more_half_revisions > 0
        || account.more_missing > 0
        || account.dropped.unfilled > 0;
    let missing = account.missing.last().map(|range| range.to);
    if is_more { Some(i64::MAX) } else { ends.chain(halves).chain(missing).max() }
}

impl Counted {
    /// What stands in for the records of which only torn copies were found; `walk` shows those of the way.
    pub(crate) fn lost_keys(&self, walk: &Walk<'_>) -> Result<(Vec<LostKey>, u64), SalvageError> {
        let named: Vec<(&Torn, &[u8])> =
            self.torn.listed.iter().filter_map(|torn| Some((torn, torn.key.as_deref()?))).collect();
        if named.is_empty() {
            return Ok((Vec::new(), self.torn.count()));
        }
        let mut newest: HashMap<&[u8], Option<Revision>> =
            named.iter().map(|(_, key)| (*key, None)).collect();
        walk(&mut |revision, value| {
            if let Ok(kv) = KeyValue::decode(value)
                && let Some(found) = newest.get_mut(kv.key)
            {
                *found = Some(revision);
            }
            ControlFlow::Continue(())
        })?;
        let lost: Vec<LostKey> = named
            .iter()
            .map(|(torn, key)| {
                let found = newest.get(key).copied().flatten();
                LostKey {
                    key: readable(key),
                    revision: torn.point.main,
                    sub: torn.point.sub,
                    is_newest: found.is_none_or(|found| found.main < torn.point.main),
                    stands_in: found.filter(|found| !found.tombstone).map(|found| found.main),
                }
            })
            .collect();
        let more = self.torn.count().saturating_sub(lost.len() as u64);
        Ok((lost, more))
    }
}
