//! The key space of one source by prefix: two levels behind what nearly all keys have in common, the largest named, the others together.
//!
//! First each record is added to the sums of its key; then the keys come in their order, so that only the prefixes that the current key has
//! are open, and of those that are closed only the largest are kept. Memory is the sums.

use bbolt::Watch;

use super::data::Prefix;
use super::markup;
use crate::ask::Reading;
use crate::block::Record;
use crate::error::CaseError;
use crate::key_table::WithPrefix;

/// Prefixes of the first level that are named.
const NAMED: usize = 24;
/// Prefixes of the second level that are named, within each of the first.
const NAMED_BELOW: usize = 12;
/// What ends a part of a key.
const SEPARATOR: u8 = b'/';

/// The records of one key.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    bytes: u64,
    records: u32,
    /// Bytes of the last record; 0 when it is a deletion.
    last_bytes: u32,
}

/// The records of each key, by its number.
#[derive(Debug, Default)]
pub(super) struct Sums(Vec<Sum>);

impl Sums {
    /// Adds `record`; records come in the order of their revisions.
    pub(super) fn take(&mut self, record: &Record) {
        let Ok(key) = usize::try_from(record.key) else { return };
        if self.0.len() <= key {
            self.0.resize(key + 1, Sum::default());
        }
        // What the record takes as a pair of the bucket: a revision, and the mark of a deletion behind it.
        let bytes = record.len_bytes.saturating_add(17 + u64::from(record.tombstone));
        let Some(sum) = self.0.get_mut(key) else { return };
        sum.bytes = sum.bytes.saturating_add(bytes);
        sum.records = sum.records.saturating_add(1);
        sum.last_bytes = if record.tombstone { 0 } else { u32::try_from(bytes).unwrap_or(u32::MAX) };
    }

    fn of(&self, key: u64) -> Sum {
        usize::try_from(key).ok().and_then(|key| self.0.get(key)).copied().unwrap_or_default()
    }
}

impl Prefix {
    fn add(&mut self, other: &Self) {
        self.live_keys += other.live_keys;
        self.live_bytes = self.live_bytes.saturating_add(other.live_bytes);
        self.history_records += other.history_records;
        self.history_bytes = self.history_bytes.saturating_add(other.history_bytes);
    }

    fn add_key(&mut self, sum: Sum) {
        let is_live = sum.last_bytes > 0;
        self.add(&Self {
            live_keys: u64::from(is_live),
            live_bytes: u64::from(sum.last_bytes),
            history_records: u64::from(sum.records).saturating_sub(u64::from(is_live)),
            history_bytes: sum.bytes.saturating_sub(u64::from(sum.last_bytes)),
            ..Self::default()
        });
    }

    fn bytes(&self) -> u64 {
        self.live_bytes.saturating_add(self.history_bytes)
    }
}

/// The largest of any number of prefixes.
#[derive(Debug)]
struct Largest {
    most: usize,
    named: Vec<Prefix>,
    rest: Prefix,
    unnamed: u64,
}

impl Largest {
    fn of(most: usize) -> Self {
        let rest = Prefix { is_rest: true, ..Prefix::default() };
        Self { most, named: Vec::new(), rest, unnamed: 0 }
    }

    fn push(&mut self, prefix: Prefix) {
        self.named.push(prefix);
        if self.named.len() >= self.most.saturating_mul(4) {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.named.sort_by(|one, next| next.bytes().cmp(&one.bytes()).then_with(|| one.name.cmp(&next.name)));
        for small in self.named.drain(self.most.min(self.named.len())..) {
            self.rest.add(&small);
            self.unnamed += 1;
        }
    }

    fn finish(mut self) -> Vec<Prefix> {
        self.prune();
        if self.unnamed > 0 {
            self.rest.name =
                if self.unnamed == 1 { "1 other".to_owned() } else { format!("{} others", self.unnamed) };
            self.named.push(self.rest);
        }
        self.named
    }
}

/// A prefix of the first level while its keys come.
struct Open {
    name: Vec<u8>,
    prefix: Prefix,
    below: Largest,
    inner: Option<(Vec<u8>, Prefix)>,
}

impl Open {
    fn of(name: &[u8]) -> Self {
        Self { name: name.to_vec(), prefix: Prefix::default(), below: Largest::of(NAMED_BELOW), inner: None }
    }

    fn take(&mut self, inner: &[u8], sum: Sum) {
        self.prefix.add_key(sum);
        if self.inner.as_ref().is_none_or(|(name, _)| name != inner) {
            self.close_inner();
            self.inner = Some((inner.to_vec(), Prefix::default()));
        }
        if let Some((_, prefix)) = &mut self.inner {
            prefix.add_key(sum);
        }
    }

    fn close_inner(&mut self) {
        if let Some((name, mut prefix)) = self.inner.take() {
            prefix.name = markup::name(&name);
            self.below.push(prefix);
        }
    }

    fn close(mut self) -> Prefix {
        self.close_inner();
        let below = self.below.finish();
        // One prefix below says nothing that this one does not.
        let below = if below.len() > 1 { below } else { Vec::new() };
        Prefix { name: markup::name(&self.name), below, ..self.prefix }
    }
}

/// `key` up to the separator that ends the part behind its first `from` bytes, that included; all of it without one. A part is not empty.
fn part(key: &[u8], from: usize) -> &[u8] {
    let begin = key.iter().skip(from).take_while(|byte| **byte == SEPARATOR).count().saturating_add(from);
    let at = key.iter().skip(begin).position(|byte| *byte == SEPARATOR);
    at.and_then(|at| key.get(..begin + at + 1)).unwrap_or(key)
}

/// Keys that are looked at for what most have in common, and in how many of them it must be.
const SAMPLES: u32 = 64;
const MOST_SAMPLES: usize = 48;
/// Parts that what they have in common has at most.
const TRUNK_PARTS: u32 = 16;

/// What nearly all of `keys`, which ascend, have in common, up to a separator: a few others, such as `compact_rev_key` beside all of Kubernetes,
/// do not keep the rest from being told apart.
fn trunk(keys: &[Vec<u8>]) -> Vec<u8> {
    let mut trunk: &[u8] = &[];
    for _ in 0..TRUNK_PARTS {
        let longer = keys
            .iter()
            .filter(|key| key.starts_with(trunk))
            .map(|key| part(key, trunk.len()))
            .filter(|part| part.last() == Some(&SEPARATOR));
        let longer: Vec<&[u8]> = longer.collect();
        // Those that begin alike stand together.
        let most = longer.chunk_by(|one, next| one == next).max_by_key(|same| same.len()).unwrap_or_default();
        let Some(part_of_most) = most.first().filter(|_| most.len() >= MOST_SAMPLES.min(keys.len())) else {
            break;
        };
        // Behind it there must be parts to tell apart, not the last part of each key.
        let behind = keys.iter().filter(|key| key.starts_with(part_of_most));
        let has_parts = |key: &&Vec<u8>| part(key, part_of_most.len()).last() == Some(&SEPARATOR);
        if behind.filter(has_parts).count() * 2 < most.len() {
            break;
        }
        trunk = part_of_most;
    }
    trunk.to_vec()
}

/// What `one` and `other` have in common up to a separator, and so all keys between them.
fn common(one: &[u8], other: &[u8]) -> usize {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    one.iter().take(same).rposition(|byte| *byte == SEPARATOR).map_or(0, |at| at + 1)
}

/// The key space of `reading` by prefix, the largest first.
///
/// # Errors
/// When the case is damaged, or the user asked to stop.
pub(super) fn of(reading: &Reading<'_>, sums: &Sums, watch: &dyn Watch) -> Result<Vec<Prefix>, CaseError> {
    let Some(last) = u32::try_from(sums.0.len()).ok().and_then(|keys| keys.checked_sub(1)) else {
        return Ok(Vec::new());
    };
    let samples = (0..SAMPLES).map(|at| u64::from(at) * u64::from(last) / u64::from(SAMPLES - 1));
    let samples = samples.map(|number| reading.name(u32::try_from(number).unwrap_or(last)));
    let trunk = trunk(&samples.collect::<Result<Vec<_>, _>>()?);
    let mut keys = WithPrefix::new(&reading.keys, b"")?;
    let (mut top, mut open): (Largest, Option<Open>) = (Largest::of(NAMED), None);
    while let Some(keyed) = keys.next()? {
        let outer = part(&keyed.key, common(&keyed.key, &trunk));
        if open.as_ref().is_none_or(|open| open.name != outer) {
            if watch.interrupted() {
                return Err(CaseError::Interrupted);
            }
            if let Some(closed) = open.take() {
                top.push(closed.close());
            }
        }
        let inner = part(&keyed.key, outer.len());
        open.get_or_insert_with(|| Open::of(outer)).take(inner, sums.of(keyed.number));
    }
    if let Some(closed) = open {
        top.push(closed.close());
    }
    Ok(top.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_parts() {
        assert_eq!(part(b"/registry/pods/a", 10), b"/registry/pods/");
        assert_eq!(part(b"/registry/pods/a", 15), b"/registry/pods/a");
        assert_eq!(part(b"flat", 0), b"flat");
        assert_eq!(part(b"flat", 9), b"flat");
        assert_eq!(part(b"/a/b", 0), b"/a/");
        assert_eq!(part(b"//", 0), b"//");
        assert_eq!(common(b"/registry/pods/a", b"/registry/services/b"), 10);
        assert_eq!(common(b"a", b"b"), 0);
        assert_eq!(common(b"/a/b", b"/a/b"), 3);
    }

    #[test]
    fn a_few_keys_beside_the_others_change_nothing() {
        let key = |at: usize| match at {
            0 => b"compact_rev_key".to_vec(),
            63 => b"zk".to_vec(),
            at => format!("/registry/{}/{at:03}", if at < 40 { "events" } else { "pods" }).into_bytes(),
        };
        let mut keys: Vec<_> = (0..64).map(key).collect();
        keys.sort();
        assert_eq!(trunk(&keys), b"/registry/");
        assert_eq!(part(b"/registry/pods/1", common(b"/registry/pods/1", b"/registry/")), b"/registry/pods/");
        assert_eq!(part(b"compact_rev_key", common(b"compact_rev_key", b"/registry/")), b"compact_rev_key");
        assert_eq!(part(b"/other/1", common(b"/other/1", b"/registry/")), b"/other/");
        assert_eq!(trunk(&[]), b"");
        assert_eq!(trunk(&[b"/a/b/c".to_vec()]), b"/a/");
        let flat: Vec<Vec<u8>> = (0..64).map(|at| format!("/load/{at:03}").into_bytes()).collect();
        assert_eq!(trunk(&flat), b"");
    }

    #[test]
    fn the_largest_are_named_and_nothing_is_lost() {
        let mut largest = Largest::of(3);
        for bytes in 0..100 {
            let name = format!("p{bytes}");
            largest.push(Prefix { name, live_bytes: bytes, live_keys: 1, ..Prefix::default() });
        }
        let all = largest.finish();
        let named: Vec<_> = all.iter().map(|prefix| prefix.name.as_str()).collect();
        assert_eq!(named, ["p99", "p98", "p97", "97 others"]);
        assert_eq!(all.iter().map(|prefix| prefix.live_bytes).sum::<u64>(), 4950);
        assert_eq!(all.iter().map(|prefix| prefix.live_keys).sum::<u64>(), 100);
        assert!(all[3].is_rest);
    }

    #[test]
    fn history_is_what_is_superseded_or_deleted() {
        let mut sums = Sums::default();
        let record = |key, len_bytes, tombstone| Record { key, len_bytes, tombstone, ..Record::default() };
        for one in [record(0, 10, false), record(1, 20, false), record(0, 30, false), record(1, 5, true)] {
            sums.take(&one);
        }
        let mut prefix = Prefix::default();
        prefix.add_key(sums.of(0));
        assert_eq!((prefix.live_keys, prefix.live_bytes), (1, 47));
        assert_eq!((prefix.history_records, prefix.history_bytes), (1, 27));
        prefix.add_key(sums.of(1));
        assert_eq!((prefix.live_keys, prefix.live_bytes), (1, 47));
        assert_eq!((prefix.history_records, prefix.history_bytes), (3, 27 + 37 + 23));
    }
}
