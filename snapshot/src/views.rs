//! What etcd-dump-db prints of a db: its buckets, the pairs of one, the revisions on all pages, the hash.
//!
//! The views read pages and trust none of them: what is broken is marked where it stands, and the rest is printed all the same.
//! Leaves are formatted a batch at a time by all cores and written in order; nothing but the batches under way is in memory.

mod bucket;
mod hash;
mod leaf;
mod lines;
mod list;
mod pairs;
mod scan;
mod stream;
mod walk;

use std::io;

use bbolt::{Meta, PageFile, Source};

use crate::finding::Finding;

pub use bucket::{IterateOptions, iterate};
pub use hash::{HashError, hash};
pub use list::{Names, list};
pub(crate) use pairs::{PairAt, pairs};
pub use scan::{ScanOptions, Scanned, scan};

/// How a view is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As etcd-dump-db prints it.
    Lines,
    /// A JSON object a line.
    Json,
}

/// Findings told one by one; the rest are counted.
pub const MOST_FINDINGS: usize = 100;

/// What was printed, and what was wrong on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Viewed {
    /// Pairs printed.
    pub pairs: u64,
    /// What is wrong, in the order in which it was met; at most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more_findings: u64,
    /// Password hashes that were not shown.
    pub hidden_secrets: u64,
}

impl Viewed {
    fn add(&mut self, finding: Finding) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }

    fn append(&mut self, later: Self) {
        self.pairs += later.pairs;
        self.hidden_secrets += later.hidden_secrets;
        self.more_findings += later.more_findings;
        for finding in later.findings {
            self.add(finding);
        }
    }
}

/// Why a view ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// What takes the output refused it.
    #[error(transparent)]
    Write(io::Error),
    /// No meta is valid, so no tree can be followed.
    #[error(
        "no valid meta page, so there is no telling where the buckets are; 'etcd-rescue scan-keys' prints the revisions that are \
         on the pages"
    )]
    NoMeta,
    /// There is no such bucket.
    #[error("there is no bucket {0}; 'etcd-rescue list-bucket' names those there are")]
    NoBucket(String),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The meta in force.
fn meta_of<S: Source>(pages: &PageFile<S>) -> Result<&Meta, ViewError> {
    pages.meta().ok_or(ViewError::NoMeta)
}
