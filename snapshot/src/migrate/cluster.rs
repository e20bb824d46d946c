//! What a migration leaves alone, and over which a server ends: the version that the cluster has agreed on, below which none starts,
//! and keys of the v2 API, on which 3.6 does not.

use crate::finding::{Finding, Severity};
use crate::schema::Schema;
use crate::semver::Semver;
use crate::snap_files::{SnapFile, SnapKind};
use crate::target::minor_of;
use crate::v2_migrate::V2_KEYS;
use crate::v2store::{self, V2Store};

use super::needs::Needs;
use super::steps::FIRST_KEPT;

/// Code of a cluster's version that is later than the release that is to start.
const CLUSTER_VERSION_AHEAD: &str = "ETCD-CLUSTER-VERSION-AHEAD";

/// That a server of `target` would not start, where the cluster's version is later: by the database, by the v2 store of the newest
/// `.snap`, from which servers up to 3.5 have it, or by an entry behind that.
///
/// A downgrade that is under way to just this version lets the server start.
pub(super) fn ahead(
    schema: &Schema,
    snaps: Option<&[SnapFile]>,
    needs: Option<&Needs>,
    target: &Semver,
) -> Option<Finding> {
    let allowed = schema.downgrade_target.as_deref().and_then(minor_of).map(i64::from);
    if allowed == Some(target.minor) {
        return None;
    }
    let mut places = Vec::new();
    let mut look = |version: &str, place: String| {
        let found = Semver::parse(version).ok().filter(|version| target.is_before(&version.to_minor()));
        places.extend(found.map(|version| (version, place)));
    };
    look(&schema.cluster_version, "row clusterVersion of bucket cluster".to_owned());
    if let Some((name, version)) = snaps.and_then(of_newest) {
        look(&version, name);
    }
    for (index, version) in needs.into_iter().flat_map(|needs| &needs.cluster_versions) {
        look(version, format!("entry {index} of the log"));
    }
    let (version, _) = places.first()?;
    let places: Vec<&str> = places.iter().map(|(_, place)| place.as_str()).collect();
    let message = format!(
        "the cluster has agreed on {}, by {}: etcd {} ends at its start with \"server version is lower than determined cluster version\". What \
         is migrated is the storage alone, as by etcdutl; --set-cluster-version sets this version too",
        version.short(),
        places.join(", "),
        target.short(),
    );
    Some(Finding::new(CLUSTER_VERSION_AHEAD, Severity::Error, message))
}

/// The cluster's version in the v2 store of the newest `.snap` that can be read, and the file's name.
fn of_newest(snaps: &[SnapFile]) -> Option<(String, String)> {
    let (name, store) = newest(snaps)?;
    Some((name.to_owned(), store.cluster_version?))
}

/// The v2 store of the newest `.snap` that can be read, and the file's name.
fn newest(snaps: &[SnapFile]) -> Option<(&str, V2Store)> {
    let newest = snaps.iter().rev().filter(|file| matches!(file.kind(), SnapKind::Snap { .. }));
    let (name, snapshot) = newest.filter_map(|file| Some((file.name(), file.read().ok()?))).next()?;
    Some((name, v2store::read(snapshot.data()).ok()?))
}

/// That a server of `target` ends over keys of the v2 API, or does not see them, by the newest `.snap` and the entries behind it.
pub(super) fn v2_keys(snaps: Option<&[SnapFile]>, needs: Option<&Needs>, target: &Semver) -> Option<Finding> {
    let in_snap = snaps.and_then(newest).map_or(0, |(_, store)| store.foreign.count);
    of_v2_keys(in_snap, needs.map_or(0, |needs| needs.v2_writes), target)
}

/// As [`v2_keys`], where so many are in the `.snap` and so many requests behind it write such.
pub(super) fn of_v2_keys(in_snap: u64, behind: u64, target: &Semver) -> Option<Finding> {
    if target.is_before(&FIRST_KEPT) || (in_snap == 0 && behind == 0) {
        return None;
    }
    let message = format!(
        "the v2 store has {in_snap} keys or users of the v2 API, and {behind} request(s) behind it write such: etcd 3.6 refuses to start over \
         them, and later ones do not see them. 'etcd-rescue v2 list' shows them, 'etcd-rescue v2 migrate' makes keys of the v3 API of them"
    );
    Some(Finding::new(V2_KEYS, Severity::Error, message))
}
