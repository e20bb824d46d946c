//! Putting the keys of an index in their order.

use std::borrow::Cow;

use bbolt::{Db, Source};
use rayon::prelude::*;

use super::entry::{self, Entry};
use super::{KeySpaceError, RecordError};

/// The number of each shard's first entry, and each key's first entry in the order of the keys.
pub(super) fn keys_in_order<S: Source>(
    db: &Db<S>,
    shards: &[Vec<Entry>],
) -> Result<(Vec<u32>, Vec<u32>), KeySpaceError> {
    let mut bases = Vec::with_capacity(shards.len());
    let mut keys: Vec<(Cow<'_, [u8]>, u32)> = Vec::new();
    let mut base = 0u32;
    for shard in shards {
        bases.push(base);
        let firsts: Vec<_> = (base..).zip(shard).filter(|(_, entry)| entry.is_first()).collect();
        let read = |(number, entry): &(u32, &Entry)| Ok((entry::key(db.source(), entry)?, *number));
        let read: Result<Vec<_>, RecordError> = firsts.par_iter().map(read).collect();
        keys.extend(read?);
        // All together they fit.
        base = base.saturating_add(u32::try_from(shard.len()).unwrap_or(u32::MAX));
    }
    keys.par_sort_unstable();
    Ok((bases, keys.into_iter().map(|(_, number)| number).collect()))
}
