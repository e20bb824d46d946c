//! The values themselves, for a case that is to answer without its sources.

use std::borrow::Cow;

use bbolt::{Source, Watch};
use rayon::prelude::*;
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use snapshot::mvcc::KeyValue;

use super::AddError;
use crate::block::unpack;
use crate::case::Part;
use crate::error::CaseError;

/// How hard values are packed: Zstandard's own default.
const LEVEL: i32 = 3;
/// Blocks whose values are packed at a time.
const BLOCKS_AT_ONCE: usize = 64;

/// Writes the values of all records of source `number`, whose blocks are written: those of each block in one piece.
///
/// ```text
/// row     = ordinal of the first record of the block -> its values one behind the other (Zstandard)
/// ```
pub(super) fn write<S: Source>(
    write: &WriteTransaction,
    number: u32,
    source: &S,
    watch: &dyn Watch,
) -> Result<(), AddError> {
    let (blocks, values) = (Part::Blocks.of(number), Part::Values.of(number));
    let blocks = write.open_table(TableDefinition::<u64, &[u8]>::new(&blocks)).map_err(CaseError::from)?;
    let mut table = write.open_table(TableDefinition::<u64, &[u8]>::new(&values)).map_err(CaseError::from)?;
    let mut rows = blocks.range::<u64>(..).map_err(CaseError::from)?;
    loop {
        let mut some = Vec::with_capacity(BLOCKS_AT_ONCE);
        for row in rows.by_ref().take(BLOCKS_AT_ONCE) {
            let (first, block) = row.map_err(CaseError::from)?;
            some.push((first.value(), block.value().to_vec()));
        }
        if some.is_empty() {
            return Ok(());
        }
        if watch.interrupted() {
            return Err(AddError::Interrupted);
        }
        let packed = some.par_iter().map(|(first, block)| Ok((*first, pack(block, source)?)));
        for (first, row) in packed.collect::<Result<Vec<_>, CaseError>>()? {
            table.insert(first, row.as_slice()).map_err(CaseError::from)?;
        }
    }
}

/// The values of a block's records.
fn pack<S: Source>(block: &[u8], source: &S) -> Result<Vec<u8>, CaseError> {
    let mut plain = Vec::new();
    for record in unpack(block)?.into_iter().filter(|record| !record.tombstone) {
        // Read a moment ago; what cannot be read again is left empty, which its hash tells.
        let bytes = source.bytes(record.offset, record.len_bytes).unwrap_or(Cow::Borrowed(&[]));
        let value = KeyValue::decode(&bytes).map_or(&[][..], |kv| kv.value);
        let len = usize::try_from(record.value_len).unwrap_or(usize::MAX);
        if value.len() == len {
            plain.extend_from_slice(value);
        } else {
            plain.resize(plain.len().saturating_add(len), 0);
        }
    }
    zstd::bulk::compress(&plain, LEVEL).map_err(|error| CaseError::Database(redb::Error::Io(error)))
}
