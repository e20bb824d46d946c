//! Tables of keys: which keys there are, in order, and at which ordinals each is met. One row holds as many as fit a page of redb.
//!
//! ```text
//! row     = number of its first key -> keys
//! key     = bytes shared with the key before, the rest of it, count of ordinals, ordinals as differences
//! ```
//! A key's number is its place among all keys. The first key of a row shares nothing, so that rows can be searched by halves.

use redb::{ReadableTable, Table};

use crate::block::BLOCK_BYTES;
use crate::codec::{BadBlock, Reader, put, put_bytes};
use crate::error::CaseError;

/// Most bytes that the keys of one row share with those before them: as many keys as a row has, of all of its length.
const MOST_SHARED_BYTES: usize = BLOCK_BYTES * BLOCK_BYTES;

/// A key and where it is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) number: u64,
    pub(crate) key: Vec<u8>,
    pub(crate) ordinals: Vec<u64>,
}

/// Writes keys, which must come in ascending order, to `table`.
pub(crate) struct KeyWriter<'t, 'txn> {
    table: &'t mut Table<'txn, u64, &'static [u8]>,
    row: Vec<u8>,
    first: u64,
    next: u64,
    before: Vec<u8>,
}

impl<'t, 'txn> KeyWriter<'t, 'txn> {
    pub(crate) fn new(table: &'t mut Table<'txn, u64, &'static [u8]>) -> Self {
        Self { table, row: Vec::new(), first: 0, next: 0, before: Vec::new() }
    }

    pub(crate) fn push(
        &mut self,
        key: &[u8],
        ordinals: impl ExactSizeIterator<Item = u64>,
    ) -> Result<(), redb::Error> {
        let mut places = Vec::new();
        put(&mut places, ordinals.len() as u64);
        let mut before = 0;
        for ordinal in ordinals {
            put(&mut places, ordinal.wrapping_sub(before));
            before = ordinal;
        }
        let shared = self.before.iter().zip(key).take_while(|(a, b)| a == b).count();
        let room = self.row.len() + key.len() - shared + places.len() + 10;
        let shared = if !self.row.is_empty() && room > BLOCK_BYTES {
            self.flush()?;
            0
        } else if self.row.is_empty() {
            0
        } else {
            shared
        };
        put(&mut self.row, shared as u64);
        put_bytes(&mut self.row, key.get(shared..).unwrap_or_default());
        self.row.extend_from_slice(&places);
        self.before.clear();
        self.before.extend_from_slice(key);
        self.next += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), redb::Error> {
        if !self.row.is_empty() {
            self.table.insert(self.first, self.row.as_slice())?;
            self.row.clear();
            self.first = self.next;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<u64, redb::Error> {
        self.flush()?;
        Ok(self.next)
    }
}

/// The keys of a row whose first one has the number `first`.
pub(crate) fn unpack(first: u64, row: &[u8]) -> Result<Vec<Keyed>, BadBlock> {
    let mut reader = Reader::new(row);
    let mut keys: Vec<Keyed> = Vec::new();
    let mut shared_bytes = 0usize;
    while !reader.is_done() {
        let shared = usize::try_from(reader.number()?).map_err(|_| BadBlock)?;
        let before = keys.last().map_or(&[][..], |keyed| keyed.key.as_slice());
        let mut key = before.get(..shared).ok_or(BadBlock)?.to_vec();
        shared_bytes += shared;
        if shared_bytes > MOST_SHARED_BYTES {
            return Err(BadBlock);
        }
        key.extend_from_slice(reader.bytes()?);
        let count = reader.count()?;
        let mut ordinals = Vec::with_capacity(count);
        let mut ordinal = 0u64;
        for _ in 0..count {
            ordinal = ordinal.wrapping_add(reader.number()?);
            ordinals.push(ordinal);
        }
        keys.push(Keyed { number: first.wrapping_add(keys.len() as u64), key, ordinals });
    }
    Ok(keys)
}

/// The key that stands `at` keys behind the first of a row, alone: nothing else of the row is kept on the way to it.
pub(crate) fn key_at(row: &[u8], at: u64) -> Result<Vec<u8>, BadBlock> {
    let mut reader = Reader::new(row);
    let mut key = Vec::new();
    for _ in 0..=at {
        let shared = usize::try_from(reader.number()?).map_err(|_| BadBlock)?;
        if shared > key.len() {
            return Err(BadBlock);
        }
        key.truncate(shared);
        key.extend_from_slice(reader.bytes()?);
        for _ in 0..reader.count()? {
            reader.number()?;
        }
    }
    Ok(key)
}

fn first_key(row: &[u8]) -> Result<&[u8], BadBlock> {
    let mut reader = Reader::new(row);
    if reader.number()? != 0 {
        return Err(BadBlock);
    }
    reader.bytes()
}

/// The number of the row in which `key` would be: the last that does not begin behind it.
fn row_of(table: &impl ReadableTable<u64, &'static [u8]>, key: &[u8]) -> Result<u64, CaseError> {
    let Some((last, _)) = table.last()? else { return Ok(0) };
    // Rows below `low` may hold it, those from `high` on begin behind it.
    let (mut low, mut high) = (0, last.value().saturating_add(1));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        // The row that has the number in the middle, whatever it begins with.
        let Some(row) = table.range(..=middle)?.next_back() else { return Ok(0) };
        let (first, row) = row?;
        if first_key(row.value())? <= key {
            low = middle;
        } else if first.value() <= low {
            // Nothing begins in between.
            return Ok(low);
        } else {
            high = first.value();
        }
    }
    Ok(low)
}

/// The key itself, where it is there.
pub(crate) fn find(
    table: &impl ReadableTable<u64, &'static [u8]>,
    key: &[u8],
) -> Result<Option<Keyed>, CaseError> {
    let number = row_of(table, key)?;
    let Some(row) = table.range(..=number)?.next_back() else { return Ok(None) };
    let (first, row) = row?;
    Ok(unpack(first.value(), row.value())?.into_iter().find(|keyed| keyed.key == key))
}

/// Keys in order, from the first that begins with a prefix to the last.
pub(crate) struct WithPrefix {
    rows: redb::Range<'static, u64, &'static [u8]>,
    row: std::vec::IntoIter<Keyed>,
    prefix: Vec<u8>,
}

impl WithPrefix {
    pub(crate) fn new(
        table: &redb::ReadOnlyTable<u64, &'static [u8]>,
        prefix: &[u8],
    ) -> Result<Self, CaseError> {
        let number = row_of(table, prefix)?;
        let first =
            table.range::<u64>(..=number)?.next_back().transpose()?.map_or(0, |(first, _)| first.value());
        let rows = table.range::<u64>(first..)?;
        Ok(Self { rows, row: Vec::new().into_iter(), prefix: prefix.to_vec() })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Keyed>, CaseError> {
        loop {
            for keyed in self.row.by_ref() {
                if keyed.key.starts_with(&self.prefix) {
                    return Ok(Some(keyed));
                }
                if keyed.key.as_slice() > self.prefix.as_slice() {
                    return Ok(None);
                }
            }
            let Some(row) = self.rows.next() else { return Ok(None) };
            let (first, row) = row?;
            self.row = unpack(first.value(), row.value())?.into_iter();
        }
    }
}

/// The number of the first key that is not before `key`; that behind the last where there is none.
pub(crate) fn lower_bound(
    table: &impl ReadableTable<u64, &'static [u8]>,
    key: &[u8],
) -> Result<u64, CaseError> {
    let number = row_of(table, key)?;
    let Some(row) = table.range(..=number)?.next_back() else { return Ok(0) };
    let (first, row) = row?;
    let keys = unpack(first.value(), row.value())?;
    let before = keys.partition_point(|keyed| keyed.key.as_slice() < key);
    Ok(first.value().saturating_add(before as u64))
}

/// The numbers of the keys that begin with `prefix`.
pub(crate) fn numbers_with(
    table: &impl ReadableTable<u64, &'static [u8]>,
    prefix: &[u8],
) -> Result<std::ops::Range<u64>, CaseError> {
    let from = lower_bound(table, prefix)?;
    let mut behind = prefix.to_vec();
    // The first key that is behind all with the prefix: its last byte that is not 0xff, one higher.
    while behind.pop_if(|byte| *byte == u8::MAX).is_some() {}
    let Some(last) = behind.last_mut() else { return Ok(from..u64::MAX) };
    *last += 1;
    Ok(from..lower_bound(table, &behind)?)
}
