//! What a compaction takes from whom: records and bytes by the beginning of their keys.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bbolt::{Db, Fault, LeafRange, Source, Watch};
use rayon::prelude::*;

use crate::mvcc::{KeySpaceError, KeyValue, Ordinals};
use crate::schema::KEY;

/// Most prefixes that are told apart; what others have is counted together.
pub const MOST_PREFIXES: usize = 65_536;
/// Separates the parts of keys, in Kubernetes and nearly everywhere else.
const SEPARATOR: u8 = b'/';
/// Parts that make a prefix: `/registry/pods/`.
const PARTS: usize = 2;

/// What the keys with one prefix have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixUse {
    /// The prefix; `None` for all keys beyond the first [`MOST_PREFIXES`].
    pub prefix: Option<Vec<u8>>,
    /// Records before.
    pub records: u64,
    /// Bytes of bucket keys and values before.
    pub bytes: u64,
    /// Records that go.
    pub dropped_records: u64,
    /// Bytes of bucket keys and values that go.
    pub dropped_bytes: u64,
}

impl PrefixUse {
    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.dropped_records += other.dropped_records;
        self.dropped_bytes += other.dropped_bytes;
    }
}

/// The prefix of a key that a forecast counts it under: its first two parts, with the separator behind them, or what it
/// has of these; empty for a key without one.
#[must_use]
pub fn prefix_of(key: &[u8]) -> &[u8] {
    // The one a key begins with separates nothing.
    let first = usize::from(key.first() == Some(&SEPARATOR));
    let separators = key.iter().enumerate().skip(first).filter(|(_, byte)| **byte == SEPARATOR);
    let end = separators.take(PARTS).last().map_or(first, |(at, _)| at + 1);
    key.get(..end).unwrap_or_default()
}

#[derive(Default)]
struct Table {
    by_prefix: BTreeMap<Vec<u8>, PrefixUse>,
    others: PrefixUse,
}

impl Table {
    fn add(&mut self, prefix: &[u8], more: &PrefixUse) {
        // Most records have the prefix of others, and for those nothing is allocated.
        if let Some(found) = self.by_prefix.get_mut(prefix) {
            return found.add(more);
        }
        if self.by_prefix.len() >= MOST_PREFIXES {
            return self.others.add(more);
        }
        match self.by_prefix.entry(prefix.to_vec()) {
            Entry::Vacant(vacant) => vacant.insert(PrefixUse::default()).add(more),
            Entry::Occupied(mut found) => found.get_mut().add(more),
        }
    }
}

/// What of `db` goes when only `kept` of its records stay, by prefix: those that lose most bytes first. Of values that are no
/// records nothing is said.
///
/// # Errors
/// When a page is damaged, or the user asked to stop.
pub fn by_prefix<S: Source>(
    db: &Db<S>,
    kept: &Ordinals,
    watch: &dyn Watch,
) -> Result<Vec<PrefixUse>, KeySpaceError> {
    let Some(bucket) = db.bucket(KEY)? else { return Ok(Vec::new()) };
    watch.begin("counting", db.meta().logical_bytes());
    let ranges = bucket.leaf_ranges(rayon::current_num_threads())?;
    let counts: Result<Vec<u64>, Fault> =
        ranges.par_iter().map(|range| range.nodes().map(|node| Ok(u64::from(node?.count()))).sum()).collect();
    let mut first = 0;
    let firsts: Vec<u64> = counts?
        .into_iter()
        .map(|count| {
            first += count;
            first - count
        })
        .collect();
    let read = |(range, first): (&LeafRange<'_, S>, &u64)| -> Result<Table, KeySpaceError> {
        let (mut table, mut ordinal) = (Table::default(), *first);
        for node in range.nodes() {
            if watch.interrupted() {
                return Err(KeySpaceError::Interrupted);
            }
            let node = node?;
            for index in 0..node.count() {
                let is_kept = kept.contains(ordinal);
                ordinal += 1;
                let Ok(kv) = KeyValue::decode(node.value(index)) else { continue };
                let bytes = (node.key(index).len() + node.value(index).len()) as u64;
                let (dropped_records, dropped_bytes) = if is_kept { (0, 0) } else { (1, bytes) };
                let one = PrefixUse { prefix: None, records: 1, bytes, dropped_records, dropped_bytes };
                table.add(prefix_of(kv.key), &one);
            }
            watch.advance(node.len_bytes());
        }
        Ok(table)
    };
    let tables: Result<Vec<Table>, KeySpaceError> = ranges.par_iter().zip(&firsts).map(read).collect();
    let mut all = Table::default();
    for table in tables? {
        table.by_prefix.iter().for_each(|(prefix, found)| all.add(prefix, found));
        all.others.add(&table.others);
    }
    let named = all.by_prefix.into_iter().map(|(prefix, found)| PrefixUse { prefix: Some(prefix), ..found });
    let others = Some(all.others).filter(|others| others.records > 0);
    let mut uses: Vec<PrefixUse> = named.chain(others).collect();
    uses.sort_by(|a, b| b.dropped_bytes.cmp(&a.dropped_bytes).then_with(|| a.prefix.cmp(&b.prefix)));
    Ok(uses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_two_parts_at_the_most() {
        for (key, prefix) in [
            (&b"/registry/pods/default/web-1"[..], &b"/registry/pods/"[..]),
            (b"/registry/pods", b"/registry/"),
            (b"registry/pods/x", b"registry/pods/"),
            (b"a/b", b"a/"),
            (b"/a", b"/"),
            (b"key", b""),
            (b"", b""),
            (b"//x", b"//"),
        ] {
            assert_eq!(prefix_of(key), prefix, "{}", String::from_utf8_lossy(key));
        }
    }
}
