//! What the fuzz targets need beside what everybody may call. No part of what the library promises.

use redb::{TableDefinition, TableHandle as _};

use crate::case::Case;
use crate::container::{Container, finish};
use crate::error::CaseError;
use crate::{block, ingest, key_table, log_block};

/// What becomes of a row: of this table, this number, and these bytes.
pub type Change<'c> = &'c mut dyn FnMut(&str, u64, &[u8]) -> Option<Vec<u8>>;

/// A case like `case`, in a file without a name, each row of which is what `change` makes of the row of this table and number; without one
/// where that is nothing. All its checksums fit, whatever its rows say.
///
/// # Errors
/// When no file can be made, or the outcome is no case.
pub fn changed(case: &Case, change: Change<'_>) -> Result<Case, CaseError> {
    let refused = |source| CaseError::Io { path: case.path().to_owned(), source };
    let file = tempfile::tempfile().map_err(refused)?;
    let database = crate::case::draft_in(file.try_clone().map_err(refused)?)?;
    let write = database.begin_write()?;
    for table in case.read.list_tables()? {
        let name = table.name();
        let from = case.read.open_table(TableDefinition::<u64, &[u8]>::new(name))?;
        let mut to = write.open_table(TableDefinition::<u64, &[u8]>::new(name))?;
        for row in from.range::<u64>(..)? {
            let (number, row) = row?;
            if let Some(row) = change(name, number.value(), row.value()) {
                to.insert(number.value(), row.as_slice())?;
            }
        }
    }
    write.commit()?;
    database.close()?;
    finish(&file).map_err(refused)?;
    Case::of(case.path(), Container::of(case.path(), file)?)
}

/// Decodes `bytes` as every kind of row.
pub fn decode(bytes: &[u8]) {
    let _ = block::unpack(bytes);
    let _ = block::first_revision(bytes);
    let _ = key_table::unpack(0, bytes);
    let _ = log_block::extent_of(bytes);
    let _ = log_block::unpack(bytes);
    let _ = ingest::pages::unpack(0, bytes);
}
