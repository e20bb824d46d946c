//! What a rebuild makes different on the way: edits of top-level buckets.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;
use std::fmt;
use std::iter::Peekable;

use super::{RebuildError, Take, append};
use crate::graft::Pairs;

/// Takes pairs, keys ascending.
pub type Put<'p> = dyn FnMut(&[u8], &[u8]) -> Result<(), RebuildError> + 'p;

/// Which pairs of a bucket stay, and what follows them. Asked once for each pass over the file; the answers must be the
/// same each time.
pub trait Revise: Sync {
    /// Whether the pair stays that is number `ordinal`, from 0, in the bucket as it is.
    fn keeps(&self, ordinal: u64) -> bool;

    /// Gives `put` the pairs that follow the last one that stays, keys ascending.
    ///
    /// # Errors
    /// What `put` says, or why there are none ([`RebuildError::Appended`]).
    fn append(&self, put: &mut Put<'_>) -> Result<(), RebuildError>;
}

pub(super) enum Edit<'e> {
    Replace(Pairs),
    Revise(&'e dyn Revise),
}

/// Edits of top-level buckets, at most one for each. A bucket that is not in the file is made.
#[derive(Default)]
pub struct Edits<'e> {
    by_name: BTreeMap<Vec<u8>, Edit<'e>>,
}

impl fmt::Debug for Edits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys().map(|name| crate::fault::readable(name))).finish()
    }
}

impl<'e> Edits<'e> {
    /// Makes `pairs` all that the bucket `name` holds. What it held before, other buckets included, is not looked at.
    pub fn replace(&mut self, name: &[u8], pairs: Pairs) -> &mut Self {
        self.by_name.insert(name.to_vec(), Edit::Replace(pairs));
        self
    }

    /// Sifts the pairs of the bucket `name`, which must not hold other buckets, and appends to it.
    pub fn revise(&mut self, name: &[u8], edit: &'e dyn Revise) -> &mut Self {
        self.by_name.insert(name.to_vec(), Edit::Revise(edit));
        self
    }

    pub(super) fn of(&self, name: &[u8]) -> Option<&Edit<'e>> {
        self.by_name.get(name)
    }

    pub(super) fn pending(&self) -> Pending<'_, 'e> {
        Pending { edits: self.by_name.iter().peekable() }
    }
}

/// The edits whose buckets the walk has not come to.
pub(super) struct Pending<'a, 'e> {
    edits: Peekable<Iter<'a, Vec<u8>, Edit<'e>>>,
}

impl Pending<'_, '_> {
    /// Shows the buckets that are not in the file and belong before `key`, to which the walk has come.
    #[inline]
    pub(super) fn before<T: Take>(&mut self, key: &[u8], take: &mut T) -> Result<(), RebuildError> {
        while let Some((name, edit)) = self.edits.next_if(|(name, _)| name.as_slice() < key) {
            made(name, edit, take)?;
        }
        Ok(())
    }

    /// The walk has come to the bucket `name`.
    pub(super) fn done(&mut self, name: &[u8]) {
        self.edits.next_if(|(next, _)| next.as_slice() == name);
    }

    /// Shows those that belong behind all that is in the file.
    pub(super) fn rest<T: Take>(self, take: &mut T) -> Result<(), RebuildError> {
        for (name, edit) in self.edits {
            made(name, edit, take)?;
        }
        Ok(())
    }
}

/// Shows a bucket that is not in the file.
fn made<T: Take>(name: &[u8], edit: &Edit<'_>, take: &mut T) -> Result<(), RebuildError> {
    match edit {
        Edit::Replace(pairs) => show(name, 0, pairs, take),
        Edit::Revise(edit) => {
            take.begin(name, 0)?;
            append(*edit, take)?;
            Ok(take.end()?)
        }
    }
}

/// Shows a bucket of these pairs.
pub(super) fn show<T: Take>(
    name: &[u8],
    sequence: u64,
    pairs: &Pairs,
    take: &mut T,
) -> Result<(), RebuildError> {
    take.begin(name, sequence)?;
    for (key, value) in pairs {
        take.put(key, value)?;
    }
    Ok(take.end()?)
}
