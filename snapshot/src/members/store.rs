//! Who belongs to the cluster as servers up to 3.5 know it: by the v2 store of the newest `.snap` and the entries behind it,
//! whatever the rows of the db say (FORMATS I.4).

use wal::Log;

use super::entries;
use crate::log_files::LogFiles;
use crate::lone::is_followed;
use crate::mvcc::Release;
use crate::replay::Cluster;
use crate::snap_files::SnapKind;
use crate::v2store::{self, V2Store, V2StoreError};

/// Why there is no such account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Entries are missing between the newest `.snap` that the log knows, or its beginning, and the entry asked for.
    #[error(
        "the log does not reach back to entry {}, and no .snap that it knows says who belonged to the cluster by then", since.saturating_add(1)
    )]
    Unfollowed {
        /// The last entry that is accounted for.
        since: u64,
    },
    /// The v2 store in the `.snap` cannot be read.
    #[error("{name}: {source}")]
    Store {
        /// The file's name.
        name: String,
        /// Why.
        source: V2StoreError,
    },
}

/// The members once the entries up to `up_to` are applied.
///
/// # Errors
/// When neither a `.snap` nor the log's beginning tells.
pub(crate) fn cluster(
    files: &LogFiles,
    log: &Log,
    up_to: u64,
    release: Release,
) -> Result<Cluster, StoreError> {
    let (store, since) = newest(files, log, up_to)?;
    if !is_followed(log, since, up_to) {
        return Err(StoreError::Unfollowed { since });
    }
    let mut cluster = Cluster::of_store(&store);
    entries::follow(&mut cluster, files, log, (since, up_to), release);
    Ok(match log.metadata.and_then(|metadata| metadata.node_id) {
        Some(id) => cluster.with_local(id),
        None => cluster,
    })
}

/// The newest store that the log knows, and the entry at which it was taken. A log that begins with the first entry began with an
/// empty one.
fn newest(files: &LogFiles, log: &Log, up_to: u64) -> Result<(V2Store, u64), StoreError> {
    let recorded = |index: u64, term: u64| {
        let mut records = log.snapshots.iter();
        index <= up_to && records.any(|r| (r.value.index(), r.value.term()) == (index, term))
    };
    let snaps = files.snaps().iter().rev().filter(|snap| matches!(snap.kind(), SnapKind::Snap { .. }));
    for snap in snaps {
        let Ok(facts) = snap.facts() else { continue };
        if recorded(facts.index, facts.term)
            && let Ok(snapshot) = snap.read()
        {
            let store = v2store::read(snapshot.data())
                .map_err(|source| StoreError::Store { name: snap.name().to_owned(), source })?;
            return Ok((store, facts.index));
        }
    }
    match log.standing_runs().next() {
        Some(first) if first.first_index == 1 => Ok((V2Store::default(), 0)),
        _ => Err(StoreError::Unfollowed { since: 0 }),
    }
}
