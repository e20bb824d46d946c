//! One record in an index, and reading it again.

use std::borrow::Cow;

use bbolt::Source;

use super::{KeyValue, Record, RecordError, Revision};
use crate::mvcc::REVISION_KEY_BYTES;

/// One record of a key: its revision, and where it stands.
///
/// ```text
///  0           8         12    16                              24     32
///  | hash high | hash low | len | offset << 2, first, tombstone | main |
/// ```
///
/// `first` is set on the first record of a key, once the records are sorted. In such a record the hash then makes room for
/// bytes of the key.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry {
    pub(super) high: u64,
    pub(super) low: u32,
    len: u32,
    at: u64,
    main: i64,
}

const _: () = assert!(size_of::<Entry>() == 32);

const TOMBSTONE: u64 = 1;
const FIRST: u64 = 2;
const OFFSET_SHIFT: u32 = 2;

impl Entry {
    /// A record of the key with this hash, whose value is `len` bytes at `offset`.
    #[inline]
    pub(super) fn new((high, low): (u64, u32), revision: Revision, offset: u64, len: usize) -> Self {
        let tombstone = if revision.tombstone { TOMBSTONE } else { 0 };
        Self {
            high,
            low,
            // A page's element has 32 bits for it.
            len: u32::try_from(len).unwrap_or(u32::MAX),
            at: offset << OFFSET_SHIFT | tombstone,
            main: revision.main,
        }
    }

    /// The store's revision.
    #[inline]
    #[must_use]
    pub fn main(&self) -> i64 {
        self.main
    }

    /// True when the record is a tombstone.
    #[inline]
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.at & TOMBSTONE != 0
    }

    /// First byte of the record's value, a `mvccpb.KeyValue`, in the file. Its bucket key stands right before it.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at >> OFFSET_SHIFT
    }

    /// Length of that value in bytes.
    #[inline]
    #[must_use]
    pub fn len_bytes(&self) -> u32 {
        self.len
    }

    /// Length of the bucket key and the value in bytes: what the record takes of its page, but for the 16 of its element.
    #[must_use]
    pub fn pair_bytes(&self) -> u64 {
        self.bucket_key_bytes() + u64::from(self.len)
    }

    fn bucket_key_bytes(&self) -> u64 {
        REVISION_KEY_BYTES as u64 + u64::from(self.is_tombstone())
    }

    pub(super) fn hash(&self) -> (u64, u32) {
        (self.high, self.low)
    }

    pub(super) fn is_first(&self) -> bool {
        self.at & FIRST != 0
    }

    pub(super) fn set_first(&mut self) {
        self.at |= FIRST;
    }
}

/// The records of the key whose first is number `start` of `entries`.
pub(super) fn one_key(entries: &[Entry], start: usize) -> &[Entry] {
    let rest = entries.get(start..).unwrap_or_default();
    let more = rest.iter().skip(1).take_while(|entry| !entry.is_first()).count();
    rest.get(..=more).unwrap_or_default()
}

/// The record of `entry`, read again.
pub(super) fn read<'d, S: Source>(source: &'d S, entry: &Entry) -> Result<Record<'d>, RecordError> {
    let before = entry.bucket_key_bytes();
    let changed = || RecordError::Changed { offset: entry.offset(), main: entry.main };
    let start = entry.offset().checked_sub(before).ok_or_else(changed)?;
    let pair = source.bytes(start, entry.pair_bytes())?;
    let (key, value) = split(pair, usize::try_from(before).unwrap_or(usize::MAX)).ok_or_else(changed)?;
    let revision = Revision::parse(&key).ok_or_else(changed)?;
    if revision.main != entry.main || revision.tombstone != entry.is_tombstone() {
        return Err(changed());
    }
    Ok(Record { revision, bytes: value })
}

type KeyAndValue<'d> = (Cow<'d, [u8]>, Cow<'d, [u8]>);

fn split(pair: Cow<'_, [u8]>, at: usize) -> Option<KeyAndValue<'_>> {
    match pair {
        Cow::Borrowed(pair) => {
            pair.split_at_checked(at).map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value)))
        }
        Cow::Owned(mut pair) if at <= pair.len() => {
            let value = pair.split_off(at);
            Some((Cow::Owned(pair), Cow::Owned(value)))
        }
        Cow::Owned(_) => None,
    }
}

/// The user's key that the record of `entry` is of.
pub(super) fn key<'d, S: Source>(source: &'d S, entry: &Entry) -> Result<Cow<'d, [u8]>, RecordError> {
    let decode = |source| RecordError::Decode { offset: entry.offset(), source };
    match source.bytes(entry.offset(), entry.len.into())? {
        Cow::Borrowed(value) => KeyValue::decode(value).map(|kv| Cow::Borrowed(kv.key)).map_err(decode),
        Cow::Owned(value) => KeyValue::decode(&value).map(|kv| Cow::Owned(kv.key.to_vec())).map_err(decode),
    }
}
