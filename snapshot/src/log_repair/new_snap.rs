//! The `.snap` at the db's last entry, for a log that no longer reaches the db.

use std::collections::BTreeMap;

use bbolt::Watch;
use wal::raftpb::{ConfChangeType, ConfState, Snapshot, SnapshotMetadata};

use super::{Member as Parts, RepairError};
use crate::log_files::{LogFiles, progress};
use crate::membership::Member;
use crate::snap_files::{SnapFile, SnapKind};
use crate::target::TargetVersion;
use crate::v2store;

/// A `.snap` to write.
pub(super) struct NewSnap {
    /// Its name.
    pub(super) name: String,
    /// Its bytes; `None` when it is there already, and only its record in the log was lost.
    pub(super) bytes: Option<Vec<u8>>,
    /// Who the members are, for the record of it in the log.
    pub(super) conf_state: ConfState,
    /// Where the members come from.
    pub(super) members_from: &'static str,
}

/// Makes the `.snap` of this index and term.
///
/// Who the members are is what servers of the db's own version go by: the db from 3.5 on, which keeps it in step there; for
/// 3.4, whose db keeps rows of members long gone, the newest `.snap` and the changes of membership in the log since.
pub(super) fn make(
    index: u64,
    term: u64,
    parts: &Parts,
    files: &LogFiles,
    watch: &dyn Watch,
) -> Result<NewSnap, RepairError> {
    let here = files.snaps().iter().filter_map(|snap| Some((snap, snap.facts().ok()?)));
    if let Some((snap, facts)) =
        here.into_iter().find(|(_, facts)| (facts.index, facts.term) == (index, term))
    {
        return Ok(NewSnap {
            name: snap.name().to_owned(),
            bytes: None,
            conf_state: facts.conf_state.clone(),
            members_from: "the .snap that is there",
        });
    }
    let older = newest(files.snaps(), index);
    let store = older.and_then(|(_, snapshot)| {
        let store = v2store::read(snapshot.data()).ok()?;
        Some((snapshot, store))
    });
    let of_db: Vec<Member> =
        parts.schema.members.iter().filter_map(|row| Member::from_json(row).ok()).collect();
    let (mut members, members_from) = match &store {
        Some((snapshot, store)) if parts.schema.term.is_none() => {
            let since = snapshot.metadata.as_ref().map_or(0, SnapshotMetadata::index);
            (folded(store.members.clone(), since, index, files, watch)?, "the newest .snap and the log")
        }
        None if parts.schema.term.is_none() && of_db.is_empty() => {
            (folded(Vec::new(), 0, index, files, watch)?, "the log")
        }
        _ => (of_db, "the db"),
    };
    members.sort_by_key(|member| member.id);
    if members.is_empty() {
        return Err(RepairError::NoMembers(files.path().to_owned()));
    }
    let ids = |is_learner: bool| {
        members.iter().filter(|member| member.is_learner == is_learner).map(|member| member.id).collect()
    };
    let conf_state = ConfState {
        voters: ids(false),
        learners: ids(true),
        auto_leave: Some(false),
        ..ConfState::default()
    };
    let version = parts.schema.written_by().map_or(TargetVersion::V3_4, |(version, _)| version);
    let raft_part = |members: &[Member]| -> Vec<(u64, Vec<String>, bool)> {
        members.iter().map(|m| (m.id, m.peer_urls.clone(), m.is_learner)).collect()
    };
    let data = match &store {
        // The v2 store goes on as it is: its keys, names and versions are worth keeping.
        Some((snapshot, store)) if raft_part(&store.members) == raft_part(&members) => {
            snapshot.data().to_vec()
        }
        _ => v2store::restored_store(&members, version),
    };
    let bytes = wal::encode_snapshot(data, index, term, conf_state.clone());
    Ok(NewSnap { name: wal::snap_name(term, index), bytes: Some(bytes), conf_state, members_from })
}

/// The newest `.snap` that can be read and is not ahead of the db.
fn newest(snaps: &[SnapFile], index: u64) -> Option<(u64, Snapshot)> {
    let known = snaps.iter().filter(|snap| matches!(snap.kind(), SnapKind::Snap { .. }));
    let fit = known.filter_map(|snap| Some((snap.facts().ok()?.index, snap)));
    let (at, snap) = fit.filter(|(at, _)| *at <= index).max_by_key(|(at, _)| *at)?;
    Some((at, snap.read().ok()?))
}

/// The members after the changes of membership with an index above `since`, up to `until`.
fn folded(
    members: Vec<Member>,
    since: u64,
    until: u64,
    files: &LogFiles,
    watch: &dyn Watch,
) -> Result<Vec<Member>, RepairError> {
    let log = wal::log::read(files, &progress(watch)).map_err(|_| RepairError::Interrupted)?;
    let mut known: BTreeMap<u64, Member> = members.into_iter().map(|member| (member.id, member)).collect();
    for located in &log.conf_changes {
        let entry = &located.value;
        if entry.index <= since
            || entry.index > until
            || log.is_overwritten(located.segment, located.offset, entry.index)
        {
            continue;
        }
        let id = entry.change.node_id();
        let member = || Member::from_json(entry.change.context()).ok();
        match ConfChangeType::try_from(entry.change.change_type()) {
            Ok(ConfChangeType::RemoveNode) => {
                known.remove(&id);
            }
            Ok(ConfChangeType::AddNode | ConfChangeType::AddLearnerNode) => {
                if let Some(member) = member() {
                    known.insert(id, member);
                } else if let Some(promoted) = known.get_mut(&id) {
                    promoted.is_learner = false;
                }
            }
            Ok(ConfChangeType::UpdateNode) => {
                if let (Some(old), Some(new)) = (known.get_mut(&id), member()) {
                    old.peer_urls = new.peer_urls;
                }
            }
            Err(_) => {}
        }
    }
    Ok(known.into_values().collect())
}
