//! Who belongs together: each directory once, and files of one cluster only.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{GivenPath, Survivor, SurvivorsError};
use crate::facts::{FactsError, look};
use crate::lone::ids;
use crate::membership::hex_id;

/// Where the files of one path belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belongs {
    /// The path.
    pub path: PathBuf,
    /// The member's id, by its log.
    pub member_id: Option<u64>,
    /// The cluster's id, by its log; a db without a log does not say.
    pub cluster_id: Option<u64>,
    /// The members that its files name, ascending.
    pub members: Vec<u64>,
}

impl Belongs {
    fn of(survivor: &Survivor) -> Self {
        Self {
            path: survivor.given.path.clone(),
            member_id: survivor.identity.as_ref().map(|identity| identity.member_id),
            cluster_id: survivor.identity.as_ref().map(|identity| identity.cluster_id),
            members: named(survivor).into_iter().collect(),
        }
    }
}

/// Who belongs where, as a sentence's part.
pub(super) fn in_words(belongs: &[Belongs]) -> String {
    let one = |one: &Belongs| {
        let path = one.path.display();
        match (one.member_id, one.cluster_id) {
            (Some(member), Some(cluster)) => {
                format!("{path} is member {} of cluster {}", hex_id(member), hex_id(cluster))
            }
            _ => format!("{path} is a database of the member(s) {}", ids(&one.members)),
        }
    };
    belongs.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Every member that the files of `survivor` name, also one that was removed.
fn named(survivor: &Survivor) -> BTreeSet<u64> {
    let facts = &survivor.facts;
    let removed = facts.database_facts().map_or(&[][..], |database| database.removed.as_slice());
    let own = survivor.identity.as_ref().map(|identity| identity.member_id);
    facts.members().iter().map(|known| known.id).chain(removed.iter().copied()).chain(own).collect()
}

/// Device and inode: the same file or directory, by whatever name.
type Place = (u64, u64);

fn place(path: &Path) -> Option<Place> {
    path.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Makes sure that no two of `paths` lead to the same database or log.
///
/// # Errors
/// [`SurvivorsError::SameTwice`], and when there is nothing at a path.
pub(super) fn ensure_each_once(paths: &[GivenPath]) -> Result<(), SurvivorsError> {
    let mut seen: Vec<(Place, PathBuf, &Path)> = Vec::new();
    for given in paths {
        let looked = look(&given.path, given.wal_dir.as_deref()).map_err(|error| match error {
            FactsError::Interrupted => SurvivorsError::Interrupted,
            error @ FactsError::Io { .. } => SurvivorsError::Facts(error),
        })?;
        let files: Vec<PathBuf> = [looked.db, looked.wal_dir, looked.snap_dir, Some(given.path.clone())]
            .into_iter()
            .flatten()
            .collect();
        for file in &files {
            let Some(here) = place(file) else { continue };
            if let Some((_, shared, first)) = seen.iter().find(|(there, ..)| *there == here) {
                return Err(SurvivorsError::SameTwice {
                    first: (*first).to_owned(),
                    second: given.path.clone(),
                    shared: shared.clone(),
                });
            }
        }
        // Only now: the parts of one path may well be one directory.
        seen.extend(files.into_iter().filter_map(|file| Some((place(&file)?, file, given.path.as_path()))));
    }
    Ok(())
}

/// Makes sure that all are of one cluster. A log says which; a database without one says it by the members it names, and one
/// that names nobody may be of any.
///
/// # Errors
/// [`SurvivorsError::Clusters`].
pub(super) fn ensure_one_cluster(all: &[Survivor]) -> Result<(), SurvivorsError> {
    let clusters: BTreeSet<u64> = all
        .iter()
        .filter_map(|survivor| survivor.identity.as_ref())
        .map(|identity| identity.cluster_id)
        .collect();
    let refused = || Err(SurvivorsError::Clusters { belongs: all.iter().map(Belongs::of).collect() });
    if clusters.len() > 1 {
        return refused();
    }
    let mut ours: BTreeSet<u64> =
        all.iter().filter(|survivor| survivor.identity.is_some()).flat_map(named).collect();
    let mut others: Vec<BTreeSet<u64>> =
        all.iter().filter(|survivor| survivor.identity.is_none()).map(named).collect();
    others.retain(|members| !members.is_empty());
    if ours.is_empty()
        && let Some(first) = others.first()
    {
        ours.clone_from(first);
    }
    // A database may know of members by way of another one only: they came and went in between.
    loop {
        let before = others.len();
        others.retain(|members| {
            let is_kin = !members.is_disjoint(&ours);
            if is_kin {
                ours.extend(members);
            }
            !is_kin
        });
        if others.is_empty() {
            return Ok(());
        }
        if others.len() == before {
            return refused();
        }
    }
}
