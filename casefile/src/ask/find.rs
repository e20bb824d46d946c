//! `case find`: revisions by what they are, not by key or number.

use std::ops::ControlFlow;

use super::merge::{Merge, Met, revisions};
use crate::block::Record;
use crate::case::Case;
use crate::error::CaseError;
use crate::key_table::numbers_with;
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
        let readings = self.readings()?;
        let mut merge = Merge::new(&readings, &revisions(0..=i64::MAX))?;
        let mut wanted = Vec::with_capacity(readings.len());
        for reading in &readings {
            let all = asked.prefix.is_empty();
            wanted.push(if all { 0..u64::MAX } else { numbers_with(&reading.keys, &asked.prefix)? });
        }
        let is_wanted = |met: &Met| {
            asked.takes(&met.record)
                && wanted.get(met.at).is_some_and(|keys| keys.contains(&u64::from(met.record.key)))
        };
        let number = |met: &Met| readings.get(met.at).map(|reading| reading.source.number);
        loop {
            let (operations, contested) = merge.next_revision()?;
            if operations.is_empty() {
                return Ok(());
            }
            for met in operations.iter().filter(|met| met.iter().any(is_wanted)) {
                for group in merge.groups(met)?.iter().filter(|group| group.iter().any(is_wanted)) {
                    let is_only =
                        asked.only_in.is_none_or(|only| group.iter().all(|met| number(met) == Some(only)));
                    let row = if is_only { merge.row(group, contested)? } else { None };
                    if let Some(row) = row
                        && each(&row).is_break()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }
}
