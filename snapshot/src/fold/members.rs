//! Who belongs to the cluster where a db stands, as servers up to 3.5 know it: by the v2 store of the newest `.snap` and the
//! changes behind it, whatever the rows of the db say (FORMATS I.4).

use prost::Message;
use wal::raftpb::EntryType;
use wal::{EntryRef, Log};

use crate::log_files::LogFiles;
use crate::lone::is_followed;
use crate::mvcc::Release;
use crate::replay::Cluster;
use crate::replay::small::Small;
use crate::snap_files::SnapKind;
use crate::v2store::{self, V2Store};

/// The members at the entry `up_to`; `None` when neither a `.snap` nor the log's beginning tells, and for
/// releases that go by the rows.
pub(super) fn of_store(
    files: &LogFiles,
    log: &Log,
    small: &Small,
    up_to: u64,
    release: Release,
) -> Option<Cluster> {
    if !release.takes_members_from_v2store() || log.more_conf_changes > 0 {
        return None;
    }
    let (store, since) = newest(files, log, up_to).filter(|(_, since)| is_followed(log, *since, up_to))?;
    let mut cluster = Cluster::of_store(&store);
    for located in &log.conf_changes {
        let entry = &located.value;
        let is_between = entry.index > since && entry.index <= up_to;
        if is_between && !log.is_overwritten(located.segment, located.offset, entry.index) {
            let data = entry.change.encode_to_vec();
            let entry_type = EntryType::ConfChange as i32;
            let entry = EntryRef { entry_type, index: entry.index, term: entry.term, data: &data };
            cluster.follow(&entry, release);
        }
    }
    let cluster = cluster.with_attributes_of(&Cluster::of(small));
    Some(match log.metadata.and_then(|metadata| metadata.node_id) {
        Some(id) => cluster.with_local(id),
        None => cluster,
    })
}

/// The newest store that the log knows, and the entry at which it was taken. A log that begins with the first entry began with an
/// empty one.
fn newest(files: &LogFiles, log: &Log, up_to: u64) -> Option<(V2Store, u64)> {
    let recorded = |index: u64, term: u64| {
        let mut records = log.snapshots.iter();
        index <= up_to && records.any(|r| (r.value.index(), r.value.term()) == (index, term))
    };
    let snaps = files.snaps().iter().rev().filter(|snap| matches!(snap.kind(), SnapKind::Snap { .. }));
    for snap in snaps {
        let Ok(facts) = snap.facts() else { continue };
        if recorded(facts.index, facts.term) {
            let store = v2store::read(snap.read().ok()?.data()).ok()?;
            return Some((store, facts.index));
        }
    }
    let first = log.standing_runs().next()?.first_index;
    (first == 1).then(|| (V2Store::default(), 0))
}
