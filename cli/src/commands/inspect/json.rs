//! The page as JSON: ids as hexadecimal strings, one object a path.

use serde_json::{Value, json};
use snapshot::alarm;
use snapshot::facts::{Facts, KnownMember};
use snapshot::inspect::{Inspection, NotChecked, Structure};
use snapshot::membership::hex_id;
use snapshot::snap_files::SnapKind;

use super::verdict;

/// `inspection` as JSON.
pub(super) fn of(inspection: &Inspection) -> Value {
    let facts = &inspection.facts;
    let looked = &facts.looked;
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let verdict = verdict::of(inspection);
    json!({
        "path": path(&facts.path),
        "what": looked.what,
        "seems": looked.seems,
        "within": looked.within.iter().map(path).collect::<Vec<_>>(),
        "moreWithin": looked.more_within,
        "memberId": facts.identity().map(|(member, _)| hex_id(member)),
        "clusterId": facts.identity().map(|(_, cluster)| hex_id(cluster)),
        "members": facts.members().iter().map(member).collect::<Vec<_>>(),
        "database": database(facts),
        "log": log(facts),
        "notInDatabase": facts.not_in_database(),
        "snaps": snaps(facts),
        "v2": { "nodesInSnap": facts.v2_user_data().0, "writesInLog": facts.v2_user_data().1 },
        "structure": structure(&inspection.structure),
        "findings": inspection.findings(),
        "verdict": verdict.sentences,
        "next": verdict.next,
    })
}

fn member(member: &KnownMember) -> Value {
    let known = member.best();
    let known = known.as_ref();
    json!({
        "id": hex_id(member.id),
        "name": known.map(|known| known.name.as_str()),
        "peerURLs": known.map(|known| known.peer_urls.as_slice()),
        "clientURLs": known.map(|known| known.client_urls.as_slice()),
        "isLearner": member.learns || known.is_some_and(|known| known.is_learner),
        "inDatabase": member.in_database.is_some(),
        "inSnap": member.in_snap.is_some(),
        "inRaft": member.in_raft,
    })
}

fn database(facts: &Facts) -> Value {
    let opened = match &facts.database {
        None => return Value::Null,
        Some(Err(error)) => return json!({ "error": error.to_string() }),
        Some(Ok(opened)) => opened,
    };
    let path = opened.input.db_path().display().to_string();
    let database = match &opened.facts {
        Err(error) => return json!({ "path": path, "error": error.to_string() }),
        Ok(database) => database,
    };
    let schema = &database.schema;
    let wrote = schema.written_by();
    let shape = &database.shape;
    json!({
        "path": path,
        "writtenBy": wrote.as_ref().map(|(version, _)| version),
        "writtenByReason": wrote.as_ref().map(|(_, why)| why),
        "storageVersion": schema.storage_version,
        "clusterVersion": schema.cluster_version,
        "downgradeTarget": schema.downgrade_target,
        "revision": database.revision(),
        "lastRecord": database.last_record,
        "compactRevision": schema.finished_compact,
        "scheduledCompactRevision": schema.scheduled_compact,
        "consistentIndex": schema.consistent_index,
        "term": schema.term,
        "removedMembers": database.removed.iter().map(|id| hex_id(*id)).collect::<Vec<_>>(),
        "alarms": schema.alarms.iter().map(|alarm| json!({
            "memberId": hex_id(alarm.member_id),
            "alarm": alarm::kind_name(alarm.kind),
        })).collect::<Vec<_>>(),
        "auth": {
            "enabled": database.auth.enabled,
            "revision": database.auth.revision,
            "users": database.auth.users.len(),
            "roles": database.auth.roles.len(),
        },
        "leases": schema.leases,
        "shape": {
            "sizeBytes": shape.len_bytes,
            "usedBytes": shape.used_bytes(),
            "pageSize": shape.page_size,
            "txids": shape.txids,
            "freelistKept": shape.freelist_kept,
            "hasTrailer": shape.has_trailer,
        },
    })
}

fn log(facts: &Facts) -> Value {
    let log = match &facts.log {
        None => return Value::Null,
        Some(Err(error)) => return json!({ "error": error.to_string() }),
        Some(Ok(log)) => log,
    };
    let read = &log.report.log;
    json!({
        "walDir": log.files.wal_dir().display().to_string(),
        "segments": read.segments.len(),
        "sizeBytes": read.len_bytes(),
        "firstIndex": read.first_index(),
        "lastIndex": read.last_index(),
        "hardState": read.hard_state.as_ref().map(|state| json!({
            "term": state.value.term(),
            "vote": hex_id(state.value.vote()),
            "commit": state.value.commit(),
        })),
        "starts": log.report.verdicts.iter().map(|verdict| json!({
            "version": verdict.release.minor,
            "releases": verdict.release.patches,
            "start": verdict.start,
        })).collect::<Vec<_>>(),
    })
}

fn snaps(facts: &Facts) -> Value {
    let count = |is: &dyn Fn(SnapKind) -> bool| facts.snaps().iter().filter(|file| is(file.kind())).count();
    json!({
        "snaps": count(&|kind| matches!(kind, SnapKind::Snap { .. })),
        "received": count(&|kind| matches!(kind, SnapKind::Database { .. })),
        "broken": count(&|kind| kind == SnapKind::Broken),
        "newest": facts.newest_snap.as_ref().map(|newest| json!({
            "name": newest.name,
            "index": newest.facts.index,
            "term": newest.facts.term,
            "voters": newest.facts.conf_state.voters.iter().map(|id| hex_id(*id)).collect::<Vec<_>>(),
            "clusterVersion": newest.store.as_ref().ok().and_then(|store| store.cluster_version.as_deref()),
        })),
    })
}

fn structure(structure: &Structure) -> Value {
    match structure {
        Structure::Absent => Value::Null,
        Structure::NotChecked { why, .. } => json!({
            "checked": false,
            "why": match why {
                NotChecked::Skipped => "skipped",
                NotChecked::OutOfTime { .. } => "out of time",
            },
        }),
        Structure::Checked { statistics, findings } => json!({
            "checked": true,
            "damaged": snapshot::structure::is_damaged(findings),
            "pages": statistics.pages,
            "freePages": statistics.free_pages,
            "inUseBytes": statistics.in_use_bytes,
            "keys": statistics.keys,
        }),
    }
}
