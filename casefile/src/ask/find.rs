//! `case find`: revisions by what they are, not by key or number.

use std::ops::ControlFlow;

use super::merge::Timeline;
use crate::block::Record;
use crate::case::Case;
use crate::error::CaseError;
use crate::rows::RevisionRow;

/// What is looked for. All that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Find {
    /// Puts with this lease.
    pub lease: Option<i64>,
    /// Puts of a value whose SHA-256 begins so. A case keeps 16 bytes of it; what is given beyond does not count.
    pub value_hash: Option<Vec<u8>>,
    /// Tombstones.
    pub deleted: bool,
    /// What the source of this number has, and no other source has so.
    pub only_in: Option<u32>,
    /// Keys that begin so.
    pub prefix: Vec<u8>,
}

impl Find {
    /// Whether a record is one that is looked for, whatever its key and whoever has it.
    fn takes(&self, record: &Record) -> bool {
        let by_lease = self.lease.is_none_or(|lease| !record.tombstone && record.lease == lease);
        let by_hash = self.value_hash.as_ref().is_none_or(|hash| {
            let hash = hash.get(..16).unwrap_or(hash);
            !record.tombstone && record.value_hash.starts_with(hash)
        });
        by_lease && by_hash && (!self.deleted || record.tombstone)
    }
}

impl Case {
    /// Every revision that is looked for, in order.
    ///
    /// # Errors
    /// When the case is damaged.
    pub fn find(
        &self,
        asked: &Find,
        each: &mut dyn FnMut(&RevisionRow) -> ControlFlow<()>,
    ) -> Result<(), CaseError> {
        let all = Timeline { prefix: asked.prefix.clone(), ..Timeline::default() };
        self.rows_where(&all, &|record| asked.takes(record), asked.only_in, each)
    }
}
