//! Putting the keys of an index in their order, without a copy of them.
//!
//! Looking at two keys in the file for each comparison would cost a wait for memory each time. So of every key seven bytes are
//! copied to where the hash of its first record was, which is not needed any more, and compared there: those behind what all
//! keys have in common. Keys that are equal in them are sorted in the same way among themselves, and so on. Each such round
//! looks at all keys that are left, and a file can be made in which it settles a single one: after some rounds keys are compared
//! as they are, so that no file costs more than its length times the logarithm of its keys.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bbolt::{Db, Source, Watch};
use rayon::prelude::*;

use super::entry::{self, Entry};
use super::{KeySpaceError, RecordError};

/// Up to this many keys are compared as they are.
const FEW: usize = 16;
/// Keys whose bytes are copied together.
const CHUNK: usize = 1 << 16;
/// Bytes of a key that are compared at once; the eighth says how many there are.
const PREFIX: usize = 7;
/// Rounds after which keys that are still equal are compared as they are: more than names of keys have parts.
const MOST_ROUNDS: usize = 24;

/// In which shard entry `number` of all is, and where, by the number of each shard's first entry.
pub(super) fn place(bases: &[u32], number: u32) -> (usize, usize) {
    let shard = bases.partition_point(|base| *base <= number).saturating_sub(1);
    let start = number.saturating_sub(bases.get(shard).copied().unwrap_or_default());
    (shard, usize::try_from(start).unwrap_or(usize::MAX))
}

/// The number of each shard's first entry, and each key's first entry in the order of the keys.
pub(super) fn keys_in_order<S: Source>(
    db: &Db<S>,
    shards: &mut [Vec<Entry>],
    watch: &dyn Watch,
) -> Result<(Vec<u32>, Vec<u32>), KeySpaceError> {
    let mut bases = Vec::with_capacity(shards.len());
    let mut base = 0u32;
    for shard in &*shards {
        // An empty shard has no place of its own, and its number is never the last that is small enough.
        bases.push(base);
        base = base.saturating_add(u32::try_from(shard.len()).unwrap_or(u32::MAX));
    }
    let count = shards.iter().flatten().filter(|entry| entry.is_first()).count();
    let mut keys = Vec::with_capacity(count);
    keys.extend((0..).zip(shards.iter().flatten()).filter(|(_, entry)| entry.is_first()).map(|(n, _)| n));
    let mut order = Order { source: db.source(), shards, bases: &bases };
    // Ranges of keys that are equal as far as they were compared, and how far that is.
    let mut open = vec![(0..keys.len(), 0)];
    for _ in 0..MOST_ROUNDS {
        if open.is_empty() {
            break;
        }
        if watch.interrupted() {
            return Err(KeySpaceError::Interrupted);
        }
        open = order.round(&mut keys, open)?;
    }
    for (range, known) in open {
        if watch.interrupted() {
            return Err(KeySpaceError::Interrupted);
        }
        order.compare(keys.get_mut(range).unwrap_or_default(), known)?;
    }
    Ok((bases, keys))
}

struct Order<'o, S> {
    source: &'o S,
    shards: &'o mut [Vec<Entry>],
    bases: &'o [u32],
}

impl<S: Source> Order<'_, S> {
    fn entry(&self, number: u32) -> Option<&Entry> {
        let (shard, start) = place(self.bases, number);
        self.shards.get(shard)?.get(start)
    }

    fn prefix(&self, number: u32) -> u64 {
        self.entry(number).map_or(0, |entry| entry.high)
    }

    fn key(&self, number: u32) -> Result<std::borrow::Cow<'_, [u8]>, RecordError> {
        self.entry(number).map_or(Ok(std::borrow::Cow::Borrowed(&[])), |entry| entry::key(self.source, entry))
    }

    /// Sorts each of the ranges in `open` by the bytes behind those that all keys of the range share; gives the ranges of keys that
    /// are still equal.
    fn round(
        &mut self,
        keys: &mut [u32],
        open: Vec<(Range<usize>, usize)>,
    ) -> Result<Vec<(Range<usize>, usize)>, RecordError> {
        let mut depths = Vec::with_capacity(open.len());
        for (range, known) in open {
            let part = keys.get(range.clone()).unwrap_or_default();
            if part.len() <= FEW {
                depths.push((range, known));
                continue;
            }
            let depth = self.common(part, known)?;
            for chunk in part.chunks(CHUNK) {
                let read = |number: &u32| self.key(*number).map(|key| prefix(&key, depth));
                let prefixes: Vec<u64> = chunk.par_iter().map(read).collect::<Result<_, _>>()?;
                for (number, prefix) in chunk.iter().zip(prefixes) {
                    let (shard, start) = place(self.bases, *number);
                    if let Some(entry) = self.shards.get_mut(shard).and_then(|shard| shard.get_mut(start)) {
                        entry.high = prefix;
                    }
                }
            }
            depths.push((range, depth));
        }
        let (mut parts, mut rest, mut at) = (Vec::with_capacity(depths.len()), keys, 0);
        for (range, depth) in depths {
            let (_, from) = rest.split_at_mut(range.start.saturating_sub(at));
            let (part, behind) = from.split_at_mut(range.len());
            (rest, at) = (behind, range.end);
            parts.push((range.start, part, depth));
        }
        let order = &*self;
        let sorted = parts.into_par_iter().map(|(start, part, depth)| order.sort(start, part, depth));
        let equal: Vec<_> = sorted.collect::<Result<_, _>>()?;
        Ok(equal.into_iter().flatten().collect())
    }

    /// Sorts `part` of the keys, which starts at `start` and shares `depth` bytes; gives the ranges of keys that are equal in what
    /// was compared.
    fn sort(
        &self,
        start: usize,
        part: &mut [u32],
        depth: usize,
    ) -> Result<Vec<(Range<usize>, usize)>, RecordError> {
        if part.len() <= FEW {
            let read = |number: &u32| Ok((self.key(*number)?, *number));
            let mut few = part.iter().map(read).collect::<Result<Vec<_>, RecordError>>()?;
            few.sort_unstable();
            part.iter_mut().zip(few).for_each(|(place, (_, number))| *place = number);
            return Ok(Vec::new());
        }
        part.par_sort_unstable_by_key(|number| self.prefix(*number));
        let (mut equal, mut at) = (Vec::new(), start);
        for same in part.chunk_by(|a, b| self.prefix(*a) == self.prefix(*b)) {
            // Keys that end here are the same key, of which there are no two.
            let goes_on = same.first().is_some_and(|number| self.prefix(*number) & 0xff > PREFIX as u64);
            if same.len() > 1 && goes_on {
                equal.push((at..at + same.len(), depth + PREFIX));
            }
            at += same.len();
        }
        Ok(equal)
    }

    /// Sorts `part` of the keys, of which `known` bytes are known to be shared, by the keys as they are.
    fn compare(&self, part: &mut [u32], known: usize) -> Result<(), RecordError> {
        let failure = Mutex::new(None);
        let read = |number: u32| self.key(number);
        part.par_sort_unstable_by(|first, second| match (read(*first), read(*second)) {
            (Ok(a), Ok(b)) => a.get(known..).cmp(&b.get(known..)),
            // What cannot be read stands first, so that the order is one.
            (a, b) => {
                let order = a.is_ok().cmp(&b.is_ok()).then(first.cmp(second));
                if let Some(error) = a.err().or(b.err()) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
                order
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// How many bytes the keys of `part` share, of which `known` are known to be shared.
    fn common(&self, part: &[u32], known: usize) -> Result<usize, RecordError> {
        let Some(first) = part.first() else { return Ok(known) };
        let first = self.key(*first)?;
        let of_two = |number: &u32| -> Result<usize, RecordError> {
            let key = self.key(*number)?;
            let pairs = first.iter().skip(known).zip(key.iter().skip(known));
            Ok(known + pairs.take_while(|(a, b)| a == b).count())
        };
        part.par_iter().map(of_two).try_reduce(|| first.len(), |a, b| Ok(a.min(b)))
    }
}

/// The bytes of `key` from `depth` on, as far as they are compared at once, and how many more there are: sorts as the keys do.
fn prefix(key: &[u8], depth: usize) -> u64 {
    let rest = key.get(depth..).unwrap_or_default();
    let mut bytes = [0; PREFIX + 1];
    for (place, byte) in bytes.iter_mut().zip(rest.iter().take(PREFIX)) {
        *place = *byte;
    }
    bytes[PREFIX] = u8::try_from(rest.len().min(PREFIX + 1)).unwrap_or_default();
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bbolt::{Build, BuildOptions, SourceError};

    use super::super::{Index, IndexOptions, KeyValue};
    use super::*;
    use crate::mvcc::Revision;

    /// A file that counts the bytes that are read of it.
    struct Counting {
        file: Vec<u8>,
        read: AtomicU64,
    }

    impl Source for Counting {
        fn len_bytes(&self) -> u64 {
            self.file.len_bytes()
        }

        fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
            self.read.fetch_add(len, Ordering::Relaxed);
            self.file.bytes(offset, len)
        }
    }

    /// Every key is the beginning of the next, so that a round settles one of them.
    #[test]
    fn no_names_of_keys_make_sorting_long() {
        const KEYS: usize = 1500;
        let mut file = Vec::new();
        let mut build = Build::new(&mut file, BuildOptions::default()).unwrap();
        build.begin_bucket(b"key").unwrap();
        for at in 0..KEYS {
            // Not in the order of their lengths, and among other keys.
            let key = match at % 3 {
                0 => format!("z{at}"),
                _ => "k".repeat(1 + at * 601 % KEYS * PREFIX),
            };
            let main = i64::try_from(at).unwrap() + 2;
            let mut record = Vec::new();
            let kv = KeyValue { key: key.as_bytes(), mod_revision: main, ..KeyValue::default() };
            kv.encode(&mut record);
            build.put(&Revision { main, sub: 0, tombstone: false }.encode(), &record).unwrap();
        }
        build.end_bucket().unwrap();
        build.finish().unwrap();
        let len = file.len() as u64;
        let db = Db::from_source(Counting { file, read: AtomicU64::new(0) }).unwrap();
        let index = Index::build(&db, &IndexOptions::default(), &()).unwrap();
        let keys: Vec<_> = index.histories().map(|history| history.key().unwrap().into_owned()).collect();
        assert_eq!(keys.len(), KEYS);
        assert!(keys.is_sorted_by(|a, b| a < b));
        let read = db.source().read.load(Ordering::Relaxed);
        assert!(read < 120 * len, "{read} bytes read of a file of {len}");
    }

    #[test]
    fn prefixes_sort_as_keys_do() {
        let keys: [&[u8]; 9] =
            [b"", b"\0", b"\0\0", b"a", b"a\0", b"a\0\0\0\0\0\0", b"a\0\0\0\0\0\0\0", b"b", b"\xff\xff"];
        let prefixes: Vec<u64> = keys.iter().map(|key| prefix(key, 0)).collect();
        assert!(prefixes.is_sorted_by(|a, b| a < b), "{prefixes:x?}");
        assert_eq!(prefix(b"/a/b", 3), prefix(b"b", 0));
        assert_eq!(prefix(b"12345678", 0) & 0xff, 8);
        assert_eq!(prefix(b"12345678", 0), prefix(b"1234567890", 0));
    }
}
