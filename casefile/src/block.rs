//! Blocks of revisions: some hundred records of one source in the order of their revisions, packed to fit a page of redb.
//!
//! ```text
//! block   = count, width of a key number in bytes, key numbers (little-endian), records
//! record  = flags, then what the flags say is there:
//!           main as difference to the record before, sub, main - create, version, lease (zigzag),
//!           page as difference to the record before (zigzag), offset in the page against where it would follow (zigzag),
//!           length of the record, length of the record - length of the value, 16 bytes of the value's SHA-256
//! ```
//! The first record's differences are to zero.

use crate::codec::{BadBlock, Reader, len_of, put, put_signed};

/// What a block takes at most, in bytes, unless one record alone is longer: what fits a page of redb beside its own words.
pub(crate) const BLOCK_BYTES: usize = 4000;
/// Room for a key's number.
const KEY_NUMBER_BYTES: usize = 4;

const TOMBSTONE: u8 = 1;
const SUB: u8 = 1 << 1;
const FAR: u8 = 1 << 2;
const CREATED_BEFORE: u8 = 1 << 3;
const LEASE: u8 = 1 << 4;
const PAGE: u8 = 1 << 5;
const APART: u8 = 1 << 6;
const LONG_VERSION: u8 = 1 << 7;

/// One record of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Record {
    pub(crate) main: i64,
    pub(crate) sub: i64,
    pub(crate) tombstone: bool,
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) value_len: u64,
    pub(crate) value_hash: [u8; 16],
    pub(crate) page: u64,
    /// File offset of the record.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) len_bytes: u64,
    /// The key's number in its source.
    pub(crate) key: u32,
}

/// What the record before leaves for the differences of the next.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    main: i64,
    lease: i64,
    page: u64,
    end: u64,
}

impl Before {
    fn of(record: &Record) -> Self {
        let key_len = 17 + u64::from(record.tombstone);
        let end = record.offset.wrapping_add(record.len_bytes).wrapping_add(key_len);
        Self { main: record.main, lease: record.lease, page: record.page, end }
    }
}

/// Packs records into blocks, whose keys' numbers are only known at the end.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    records: Vec<u8>,
    keys: Vec<u32>,
    before: Before,
    done: Vec<Unkeyed>,
}

/// A block that waits for the numbers of its keys: those in it are the caller's own.
#[derive(Debug)]
pub(crate) struct Unkeyed {
    records: Box<[u8]>,
    pub(crate) keys: Box<[u32]>,
}

impl Packer {
    pub(crate) fn push(&mut self, record: &Record) {
        let mut bytes = pack(record, &self.before);
        let room = BLOCK_BYTES.saturating_sub(len_of(self.keys.len() as u64) + 1);
        let taken = self.records.len() + self.keys.len() * KEY_NUMBER_BYTES;
        if !self.keys.is_empty() && taken + bytes.len() + KEY_NUMBER_BYTES > room {
            self.close();
            bytes = pack(record, &self.before);
        }
        self.records.extend_from_slice(&bytes);
        self.keys.push(record.key);
        self.before = Before::of(record);
    }

    fn close(&mut self) {
        if !self.keys.is_empty() {
            let records = std::mem::take(&mut self.records).into_boxed_slice();
            let keys = std::mem::take(&mut self.keys).into_boxed_slice();
            self.done.push(Unkeyed { records, keys });
        }
        self.before = Before::default();
    }

    pub(crate) fn finish(mut self) -> Vec<Unkeyed> {
        self.close();
        self.done
    }
}

impl Unkeyed {
    /// The block, with the keys' numbers as `number` says.
    pub(crate) fn with_keys(&self, number: impl Fn(u32) -> u32) -> Vec<u8> {
        let numbers: Vec<u32> = self.keys.iter().map(|key| number(*key)).collect();
        let most = numbers.iter().max().copied().unwrap_or_default();
        let width = (len_in_bytes(most)).max(1);
        let mut out = Vec::with_capacity(self.records.len() + numbers.len() * width + 4);
        put(&mut out, numbers.len() as u64);
        put(&mut out, width as u64);
        for number in numbers {
            out.extend_from_slice(number.to_le_bytes().get(..width).unwrap_or_default());
        }
        out.extend_from_slice(&self.records);
        out
    }
}

const fn len_in_bytes(number: u32) -> usize {
    (32 - number.leading_zeros() as usize).div_ceil(8)
}

fn pack(record: &Record, before: &Before) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    let far = record.main.wrapping_sub(before.main);
    let expected_end = if record.page == before.page { before.end } else { 0 };
    let apart = record.offset.wrapping_sub(expected_end).cast_signed();
    let mut flags = 0;
    for (flag, is) in [
        (TOMBSTONE, record.tombstone),
        (SUB, record.sub != 0),
        (FAR, far != 1),
        (CREATED_BEFORE, record.create_revision != record.main),
        (LEASE, record.lease != before.lease),
        (PAGE, record.page != before.page),
        (APART, apart != 0),
        (LONG_VERSION, record.version != 1),
    ] {
        flags |= if is { flag } else { 0 };
    }
    out.push(flags);
    if flags & FAR != 0 {
        put_signed(&mut out, far);
    }
    if flags & SUB != 0 {
        put_signed(&mut out, record.sub);
    }
    if flags & CREATED_BEFORE != 0 {
        put_signed(&mut out, record.main.wrapping_sub(record.create_revision));
    }
    if flags & LONG_VERSION != 0 {
        put_signed(&mut out, record.version);
    }
    if flags & LEASE != 0 {
        put_signed(&mut out, record.lease);
    }
    if flags & PAGE != 0 {
        put_signed(&mut out, record.page.wrapping_sub(before.page).cast_signed());
    }
    if flags & APART != 0 {
        put_signed(&mut out, apart);
    }
    put(&mut out, record.len_bytes);
    if !record.tombstone {
        put(&mut out, record.len_bytes.wrapping_sub(record.value_len));
        out.extend_from_slice(&record.value_hash);
    }
    out
}

/// The records of a block, in order.
pub(crate) fn unpack(block: &[u8]) -> Result<Vec<Record>, BadBlock> {
    let mut reader = Reader::new(block);
    let count = reader.count()?;
    let width = usize::try_from(reader.number()?).map_err(|_| BadBlock)?;
    if !(1..=KEY_NUMBER_BYTES).contains(&width) {
        return Err(BadBlock);
    }
    let keys = reader.take(count.checked_mul(width).ok_or(BadBlock)?)?;
    let mut records = Vec::with_capacity(count);
    let mut before = Before::default();
    for key in keys.chunks_exact(width) {
        let key = key.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let record = unpack_one(&mut reader, &before, key)?;
        before = Before::of(&record);
        records.push(record);
    }
    Ok(records)
}

/// The revision of the first record of a block.
pub(crate) fn first_revision(block: &[u8]) -> Result<(i64, i64), BadBlock> {
    let mut reader = Reader::new(block);
    let count = reader.count()?;
    let width = usize::try_from(reader.number()?).map_err(|_| BadBlock)?;
    reader.take(count.checked_mul(width).ok_or(BadBlock)?)?;
    let record = unpack_one(&mut reader, &Before::default(), 0)?;
    Ok((record.main, record.sub))
}

fn unpack_one(reader: &mut Reader<'_>, before: &Before, key: u32) -> Result<Record, BadBlock> {
    let flags = reader.byte()?;
    let mut signed = |flag: u8, otherwise: i64| {
        if flags & flag != 0 { reader.signed() } else { Ok(otherwise) }
    };
    let main = before.main.wrapping_add(signed(FAR, 1)?);
    let sub = signed(SUB, 0)?;
    let create_revision = main.wrapping_sub(signed(CREATED_BEFORE, 0)?);
    let version = signed(LONG_VERSION, 1)?;
    let lease = signed(LEASE, before.lease)?;
    let page = before.page.wrapping_add(signed(PAGE, 0)?.cast_unsigned());
    let expected_end = if page == before.page { before.end } else { 0 };
    let offset = expected_end.wrapping_add(signed(APART, 0)?.cast_unsigned());
    let len_bytes = reader.number()?;
    let tombstone = flags & TOMBSTONE != 0;
    let (mut value_len, mut value_hash) = (0, [0; 16]);
    if !tombstone {
        value_len = len_bytes.wrapping_sub(reader.number()?);
        value_hash = reader.take(16)?.try_into().map_err(|_| BadBlock)?;
    }
    Ok(Record {
        main,
        sub,
        tombstone,
        create_revision,
        version,
        lease,
        value_len,
        value_hash,
        page,
        offset,
        len_bytes,
        key,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let numbers = (any::<i64>(), 0i64..3, any::<bool>(), any::<i64>(), 0i64..3, 0i64..3);
        (numbers, any::<u64>(), any::<[u8; 16]>(), 0u64..9, 0u64..9000, 0u64..200, any::<u32>()).prop_map(
            |((main, sub, tombstone, create, version, lease), value_len, hash, page, offset, len, key)| {
                let (value_len, value_hash) = if tombstone { (0, [0; 16]) } else { (value_len, hash) };
                let create_revision = if version == 1 { main } else { create };
                Record {
                    main,
                    sub,
                    tombstone,
                    create_revision,
                    version,
                    lease,
                    value_len,
                    value_hash,
                    page,
                    offset,
                    len_bytes: len,
                    key,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn records_come_back(records in prop::collection::vec(record(), 0..400)) {
            let mut packer = Packer::default();
            for record in &records {
                packer.push(record);
            }
            let mut back = Vec::new();
            for block in packer.finish() {
                let block = block.with_keys(|key| key);
                prop_assert!(block.len() <= BLOCK_BYTES, "{}", block.len());
                let records = unpack(&block).unwrap();
                prop_assert_eq!(first_revision(&block).unwrap(), (records[0].main, records[0].sub));
                back.extend(records);
            }
            prop_assert_eq!(back, records);
        }

        #[test]
        fn no_block_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = unpack(&bytes);
            _ = first_revision(&bytes);
        }
    }
}
