//! What differs from the db in the end.
//!
//! Without a compaction in the log new records stand behind those of the db, so that the file is grafted. With one, records go
//! from the middle, and the file is written anew, as after the server's own compaction. A compaction that the db had
//! ordered before and not finished is left to the server, which goes on with it when it starts.

use bbolt::graft::{Graft, GraftError, Patch};
use bbolt::rebuild::{Edits, Put, Revise};
use bbolt::{Fault, RebuildError, Source, Watch};

use super::compaction::{self, Kept};
use super::keys::Keys;
use super::small::{Name, Small};
use super::{Account, Replay};
use crate::compact::other_pairs;
use crate::edited::{Change, Expected};
use crate::mvcc::{KeySpaceError, Revision};
use crate::schema::{CONSISTENT_INDEX, FINISHED_COMPACT, KEY, SCHEDULED_COMPACT, TERM};

/// Why what was applied cannot be laid over the db.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// The pages that change cannot be made.
    #[error(transparent)]
    Graft(#[from] GraftError),
    /// The db cannot be read again.
    #[error(transparent)]
    Read(#[from] KeySpaceError),
}

impl From<Fault> for FoldError {
    fn from(fault: Fault) -> Self {
        Self::Read(fault.into())
    }
}

impl FoldError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Graft(_) => 1,
            Self::Read(error) => error.exit_code(),
        }
    }
}

/// A db with its log laid over it.
#[derive(Debug)]
pub struct Folded<'d, S> {
    keys: Keys<'d, S>,
    small: Small,
    account: Account,
    consistent_index: u64,
    term: u64,
    difference: Difference,
}

#[derive(Debug)]
enum Difference {
    None,
    Pages(Patch),
    Records { kept: Kept, pairs: u64 },
}

impl<'d, S: Source> Folded<'d, S> {
    pub(super) fn of(replay: Replay<'d, S>, watch: &dyn Watch) -> Result<Self, FoldError> {
        let Replay { options, mut keys, mut small, account, consistent_index, term, .. } = replay;
        let difference = if account.entries == 0 {
            Difference::None
        } else {
            small.put(Name::Meta, CONSISTENT_INDEX, consistent_index.to_be_bytes().to_vec());
            let keeps_term = options.release.keeps_term() || small.get(Name::Meta, TERM).is_some();
            if keeps_term && term > 0 {
                small.put(Name::Meta, TERM, term.to_be_bytes().to_vec());
            }
            if account.compactions > 0 {
                let revision = keys.compact_revision;
                let row = Revision { main: revision, sub: 0, tombstone: false }.encode();
                small.put(Name::Meta, SCHEDULED_COMPACT, row.clone());
                small.put(Name::Meta, FINISHED_COMPACT, row);
                let kept = compaction::kept(&keys, revision, options.release, watch)?;
                let pairs = pairs_after(&keys, &small, &kept)?;
                Difference::Records { kept, pairs }
            } else {
                Difference::Pages(grafted(&mut keys, &small)?)
            }
        };
        Ok(Self { keys, small, account, consistent_index, term, difference })
    }

    /// What was applied.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Index of the last entry that is in the db.
    #[must_use]
    pub fn consistent_index(&self) -> u64 {
        self.consistent_index
    }

    /// Its term; 0 when it is not known.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.keys.current_revision()
    }

    /// The revision up to which the history is compacted; `None` while it never was.
    #[must_use]
    pub fn compact_revision(&self) -> Option<i64> {
        self.keys.compact_revision()
    }

    /// The small buckets as they are in the end.
    #[must_use]
    pub fn small(&self) -> &Small {
        &self.small
    }

    /// The edits of [`Self::change`], where the file is written anew; else none.
    #[must_use]
    pub fn edits(&self) -> Edits<'_> {
        let mut edits = Edits::default();
        if let Difference::Records { .. } = self.difference {
            edits.revise(KEY, self);
            for (name, rows) in self.small.changed() {
                edits.replace(name.bytes(), rows.clone());
            }
        }
        edits
    }

    /// The change that carries it out, given its [`Self::edits`]; `None` when no entry was applied.
    #[must_use]
    pub fn change<'e>(&'e self, edits: &'e Edits<'e>) -> Option<Change<'e>> {
        match &self.difference {
            Difference::None => None,
            Difference::Pages(patch) => Some(Change::Patch(patch)),
            Difference::Records { pairs, .. } => {
                Some(Change::Rebuild { edits, expected: Expected { pairs: Some(*pairs) } })
            }
        }
    }
}

impl<S: Source> Revise for Folded<'_, S> {
    fn keeps(&self, ordinal: u64) -> bool {
        match &self.difference {
            Difference::Records { kept, .. } => kept.in_file.kept.contains(ordinal),
            Difference::None | Difference::Pages(_) => true,
        }
    }

    fn append(&self, put: &mut Put<'_>) -> Result<(), RebuildError> {
        let Difference::Records { kept, .. } = &self.difference else { return Ok(()) };
        for (record, is_kept) in self.keys.records.iter().zip(&kept.written) {
            if *is_kept {
                put(&record.revision.encode(), self.keys.bytes(record))?;
            }
        }
        Ok(())
    }
}

/// The pages that change when no record goes. Takes the records out of `keys`: they need not stand in memory once more.
fn grafted<S: Source>(keys: &mut Keys<'_, S>, small: &Small) -> Result<Patch, FoldError> {
    let db = keys.index.db();
    let mut graft = Graft::new(db);
    let records = keys.take_records();
    if !records.is_empty() {
        if db.bucket(KEY)?.is_some() {
            graft.append(KEY, records)?;
        } else {
            graft.replace_bucket(KEY, records.into_iter().collect())?;
        }
    }
    for (name, rows) in small.changed() {
        graft.replace_bucket(name.bytes(), rows.clone())?;
    }
    Ok(graft.finish()?)
}

/// Pairs that all buckets hold in the end.
fn pairs_after<S: Source>(keys: &Keys<'_, S>, small: &Small, kept: &Kept) -> Result<u64, FoldError> {
    let db = keys.index.db();
    let before = Graft::new(db);
    let mut pairs = other_pairs(db)?;
    for (name, rows) in small.changed() {
        let rows_before = before.pairs(name.bytes())?.map_or(0, |rows| rows.len());
        pairs = pairs.saturating_sub(rows_before as u64).saturating_add(rows.len() as u64);
    }
    let written = kept.written.iter().filter(|is_kept| **is_kept).count();
    Ok(pairs + kept.in_file.records_after + written as u64)
}
