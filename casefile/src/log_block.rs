//! Blocks of a log: some hundred entries in the order of the files, packed.
//!
//! ```text
//! block   = smallest index, largest index, smallest term, largest term, length, packed entries (Zstandard)
//! entry   = index, term, kind, standing, segment, offset, length of the frame, count of keys, keys, count of leases, leases,
//!           count of paths, paths, 1 and the revision of a compaction, or 0
//! key     = key, end of the range
//! ```

use crate::codec::{BadBlock, Reader, put, put_bytes, put_signed, unpacked};
use crate::rows::{EntryStanding, Touched};

/// Most keys, and most leases and paths, that are kept of one entry. A server takes 128 operations a transaction unless told otherwise.
pub(crate) const MOST_TOUCHED: usize = 1 << 16;
/// The kind of an entry that takes a lease, and with it all keys that have it.
pub(crate) const REVOKE: &str = "lease_revoke";
/// Longest block unpacked, in bytes.
const MOST_BLOCK_BYTES: usize = 64 << 20;
/// Most bytes that are kept of what one entry names.
pub(crate) const MOST_NAMED_BYTES: usize = 8 << 20;
/// Entries of a block.
pub(crate) const ENTRIES_PER_BLOCK: usize = 256;

/// An entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) kind: String,
    pub(crate) standing: EntryStanding,
    pub(crate) touched: Vec<Touched>,
    pub(crate) leases: Vec<i64>,
    pub(crate) paths: Vec<Vec<u8>>,
    pub(crate) compacts: Option<i64>,
    /// The segment's place among the log's segments.
    pub(crate) segment: usize,
    pub(crate) offset: u64,
    pub(crate) len_bytes: u64,
}

/// What a block says of its entries in front of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) indexes: (u64, u64),
    pub(crate) terms: (u64, u64),
}

pub(crate) fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut plain = Vec::new();
    for entry in entries {
        put(&mut plain, entry.index);
        put(&mut plain, entry.term);
        put_bytes(&mut plain, entry.kind.as_bytes());
        plain.push(match entry.standing {
            EntryStanding::Counts => 0,
            EntryStanding::Overwritten => 1,
            EntryStanding::OutOfReach => 2,
        });
        put(&mut plain, entry.segment as u64);
        put(&mut plain, entry.offset);
        put(&mut plain, entry.len_bytes);
        put(&mut plain, entry.touched.len() as u64);
        for touched in &entry.touched {
            put_bytes(&mut plain, &touched.key);
            put_bytes(&mut plain, &touched.range_end);
        }
        put(&mut plain, entry.leases.len() as u64);
        entry.leases.iter().for_each(|lease| put_signed(&mut plain, *lease));
        put(&mut plain, entry.paths.len() as u64);
        entry.paths.iter().for_each(|path| put_bytes(&mut plain, path));
        plain.push(u8::from(entry.compacts.is_some()));
        if let Some(revision) = entry.compacts {
            put_signed(&mut plain, revision);
        }
    }
    let mut block = Vec::new();
    let (indexes, terms) = (entries.iter().map(|entry| entry.index), entries.iter().map(|entry| entry.term));
    for bound in [indexes.clone().min(), indexes.max(), terms.clone().min(), terms.max()] {
        put(&mut block, bound.unwrap_or_default());
    }
    put(&mut block, plain.len() as u64);
    // What cannot be packed is kept as it is: nothing packed begins with a 0.
    match zstd::bulk::compress(&plain, 1) {
        Ok(packed) => block.extend_from_slice(&packed),
        Err(_) => {
            block.push(0);
            block.extend_from_slice(&plain);
        }
    }
    block
}

/// What a block says of its entries, and the rest of it.
fn extent(block: &[u8]) -> Result<(Extent, Reader<'_>), BadBlock> {
    let mut reader = Reader::new(block);
    let indexes = (reader.number()?, reader.number()?);
    let terms = (reader.number()?, reader.number()?);
    Ok((Extent { indexes, terms }, reader))
}

pub(crate) fn extent_of(block: &[u8]) -> Result<Extent, BadBlock> {
    Ok(extent(block)?.0)
}

/// A count of what one entry names.
const fn few(count: usize) -> Result<usize, BadBlock> {
    if count <= MOST_TOUCHED { Ok(count) } else { Err(BadBlock) }
}

pub(crate) fn unpack(block: &[u8]) -> Result<Vec<Entry>, BadBlock> {
    let (_, mut reader) = extent(block)?;
    let len =
        usize::try_from(reader.number()?).ok().filter(|len| *len <= MOST_BLOCK_BYTES).ok_or(BadBlock)?;
    let packed = reader.take(reader.left())?;
    let plain = match packed.split_first() {
        Some((0, plain)) => plain.to_vec(),
        _ => unpacked(packed, 0, len as u64)?,
    };
    let mut reader = Reader::new(&plain);
    let mut entries = Vec::new();
    while !reader.is_done() {
        if entries.len() >= ENTRIES_PER_BLOCK {
            return Err(BadBlock);
        }
        let (index, term) = (reader.number()?, reader.number()?);
        let kind = String::from_utf8_lossy(reader.bytes()?).into_owned();
        let standing = match reader.byte()? {
            0 => EntryStanding::Counts,
            1 => EntryStanding::Overwritten,
            2 => EntryStanding::OutOfReach,
            _ => return Err(BadBlock),
        };
        let segment = usize::try_from(reader.number()?).map_err(|_| BadBlock)?;
        let (offset, len_bytes) = (reader.number()?, reader.number()?);
        let mut touched = Vec::new();
        for _ in 0..few(reader.count()?)? {
            let key = reader.bytes()?.to_vec();
            touched.push(Touched { key, range_end: reader.bytes()?.to_vec() });
        }
        let leases = (0..few(reader.count()?)?).map(|_| reader.signed()).collect::<Result<_, _>>()?;
        let paths =
            (0..few(reader.count()?)?).map(|_| Ok(reader.bytes()?.to_vec())).collect::<Result<_, _>>()?;
        let compacts = if reader.byte()? == 0 { None } else { Some(reader.signed()?) };
        entries.push(Entry {
            index,
            term,
            kind,
            standing,
            touched,
            leases,
            paths,
            compacts,
            segment,
            offset,
            len_bytes,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let keys = prop::collection::vec(("[a-c]{0,9}", "[a-c]{0,3}"), 0..4);
        let about = (prop::collection::vec(any::<i64>(), 0..3), prop::option::of(any::<i64>()));
        (any::<u64>(), any::<u64>(), "[a-z_]{0,12}", 0usize..3, keys, 0usize..9, any::<u64>(), about)
            .prop_map(|(index, term, kind, standing, keys, segment, offset, (leases, compacts))| Entry {
                paths: leases.iter().map(|lease| lease.to_string().into_bytes()).collect(),
                leases,
                compacts,
                index,
                term,
                kind,
                standing: [EntryStanding::Counts, EntryStanding::Overwritten, EntryStanding::OutOfReach]
                    [standing],
                touched: keys
                    .into_iter()
                    .map(|(key, end)| Touched { key: key.into_bytes(), range_end: end.into_bytes() })
                    .collect(),
                segment,
                offset,
                len_bytes: index >> 3,
            })
    }

    proptest! {
        #[test]
        fn entries_come_back(entries in prop::collection::vec(entry(), 1..40)) {
            let block = pack(&entries);
            prop_assert_eq!(unpack(&block).unwrap(), entries.clone());
            let extent = extent_of(&block).unwrap();
            prop_assert_eq!(extent.indexes.0, entries.iter().map(|entry| entry.index).min().unwrap());
            prop_assert_eq!(extent.terms.1, entries.iter().map(|entry| entry.term).max().unwrap());
        }

        #[test]
        fn no_block_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            _ = unpack(&bytes);
        }
    }
}
