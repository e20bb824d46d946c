//! Going back: the key space as it was at an earlier revision, which the history still holds.
//!
//! Only keys go back. Leases, users and roles are not versioned and stay as they are, so that what keys say of leases may not
//! fit any more, and that is told.

use bbolt::{Db, Fault, Source, Watch};

use crate::contents::Contents;
use crate::finding::Finding;
use crate::lease::{Attached, Lease, Leases};
use crate::mvcc::{Index, IndexOptions, KeySpaceError, Release, RevisionError, Store};
use crate::schema::Schema;

/// Leases that a notice names.
const NAMED_LEASES: usize = 8;

/// What going back means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Back {
    /// The revision gone back to.
    pub revision: i64,
    /// The revision the data had come to.
    pub from: i64,
    /// Keys whose lease is gone.
    pub findings: Vec<Finding>,
    without_keys: u64,
    first_without_keys: Vec<i64>,
}

/// Why the key space cannot go back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackError {
    /// The history does not hold the revision.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// The history cannot be read.
    #[error(transparent)]
    Read(#[from] KeySpaceError),
}

impl From<Fault> for BackError {
    fn from(fault: Fault) -> Self {
        Self::Read(fault.into())
    }
}

impl BackError {
    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Revision(_) => &[],
            Self::Read(error) => error.findings(),
        }
    }
}

impl Back {
    /// What it means for `db`, which holds `schema` and `contents`, to go back to `revision`.
    ///
    /// # Errors
    /// When that revision is not kept, or has not come yet; when the history cannot be read, or the user asked to stop.
    pub fn to<S: Source>(
        revision: i64,
        db: &Db<S>,
        schema: &Schema,
        contents: &Contents,
        watch: &dyn Watch,
    ) -> Result<Self, BackError> {
        let store = Store::of(schema, contents.revision, Release::default());
        let revision = store.resolve(revision)?;
        let options = IndexOptions { upto: Some(revision), ..IndexOptions::default() };
        let index = Index::build(db, &options, watch)?;
        let attached = Attached::at(&index, revision, watch)?;
        let leases = Leases::read(db)?;
        let gone = leases.gone(&index, &attached).map_err(KeySpaceError::from)?;
        let bare: Vec<i64> = leases.without_keys(&attached).map(|lease: Lease| lease.id).collect();
        Ok(Self {
            revision,
            from: store.current_revision,
            findings: gone.into_iter().collect(),
            without_keys: bare.len() as u64,
            first_without_keys: bare.into_iter().take(NAMED_LEASES).collect(),
        })
    }

    /// What there is to know about it, one sentence each; `bumped_to` is the revision it was raised to.
    #[must_use]
    pub fn notices(&self, bumped_to: Option<i64>) -> Vec<String> {
        let mut notices = Vec::new();
        if self.without_keys > 0 {
            let named: Vec<String> = self.first_without_keys.iter().map(|id| format!("{id:016x}")).collect();
            let more = if self.without_keys > named.len() as u64 { ", …" } else { "" };
            notices.push(format!(
                "{} lease(s) have no key at revision {} ({}{more}); they stay, and expire as they would",
                self.without_keys,
                self.revision,
                named.join(", ")
            ));
        }
        if self.revision < self.from && bumped_to.is_none() {
            notices.push(format!(
                "WARNING: clients of the old cluster have seen revisions up to {} at least. This one counts on from {}, and gives \
                 the same revisions again to other writes: their watches, caches and locks will misbehave, and Kubernetes will \
                 serve what is no longer there. --bump-revision auto raises the revision beyond all they have seen; without it, \
                 restart every client",
                self.from, self.revision
            ));
        }
        notices
    }
}
