//! What lies beside a log, as far as a start depends on it.

use super::{Scene, SnapshotPoint};
use crate::log_files::LogFiles;
use crate::schema::Schema;
use crate::snap_files::SnapKind;
use crate::target::minor_of;

/// What a member's directory has beside its log: gathered once, lent to a [`Scene`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beside {
    /// See [`Scene::snaps`].
    pub snaps: Vec<SnapshotPoint>,
    /// See [`Scene::received_dbs`].
    pub received_dbs: Vec<u64>,
    /// See [`Scene::stray_wal_names`].
    pub stray_wal_names: bool,
    /// See [`Scene::consistent_index`].
    pub consistent_index: Option<u64>,
    /// See [`Scene::cluster_minor`].
    pub cluster_minor: Option<u32>,
}

impl Beside {
    /// What lies beside the log of `files`; `database` is what the db says, `None` without one.
    #[must_use]
    pub fn of(files: &LogFiles, database: Option<&Schema>) -> Self {
        let mut beside = Self {
            stray_wal_names: files.listing().other.iter().any(|name| name.ends_with(".wal")),
            consistent_index: database.map(|schema| schema.consistent_index),
            cluster_minor: database.and_then(|schema| minor_of(&schema.cluster_version)),
            ..Self::default()
        };
        for file in files.snaps().iter().rev() {
            match file.kind() {
                SnapKind::Snap { .. } => {
                    let point = |facts: &crate::snap_files::SnapFacts| SnapshotPoint {
                        index: facts.index,
                        term: facts.term,
                    };
                    beside.snaps.extend(file.facts().map(point));
                }
                SnapKind::Database { index } => beside.received_dbs.push(index),
                _ => {}
            }
        }
        beside
    }

    /// The scene of `log`, which was read from `segments`.
    #[must_use]
    pub fn scene<'a>(&'a self, log: &'a wal::Log, segments: &'a dyn wal::Segments) -> Scene<'a> {
        Scene {
            log,
            segments,
            stray_wal_names: self.stray_wal_names,
            snaps: &self.snaps,
            received_dbs: &self.received_dbs,
            consistent_index: self.consistent_index,
            cluster_minor: self.cluster_minor,
            last_v2_request: None,
        }
    }
}
