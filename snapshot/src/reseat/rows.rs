//! The rows of the database that say who the members are, and which version the cluster has.

use std::collections::BTreeMap;

use bbolt::Patch;
use bbolt::gojson;
use bbolt::graft::{Graft, GraftError, Pairs};

use super::{Reseat, ReseatError, Seat};
use crate::lone::Config;
use crate::members::Membership;
use crate::membership::{Member, hex_id};
use crate::schema::{
    CLUSTER, CLUSTER_VERSION, CONF_STATE, CONSISTENT_INDEX, DOWNGRADE, MEMBERS, MEMBERS_REMOVED, META, TERM,
};
use crate::whole_member::Whole;

/// The value of a row of bucket `members_removed`.
const REMOVED: &[u8] = b"removed";

/// The pages that are different in the database: the rows of the edited members, and where entries were taken along, of all whom
/// these changed.
pub(super) fn edit(
    whole: &Whole<'_>,
    asked: &Reseat<'_>,
    seat: &Seat,
    membership: &Membership,
    config: &Config,
) -> Result<Patch, ReseatError> {
    let path = || whole.input.path().display().to_string();
    let db = whole.input.db().map_err(|source| ReseatError::Db { path: path(), source })?;
    let mut graft = Graft::new(&db);
    let patch = (|| {
        let moves = seat.index > seat.applied;
        let mut rows = graft.pairs(MEMBERS)?.unwrap_or_default();
        for member in membership.members.values() {
            let key = hex_id(member.id).into_bytes();
            let is_edited = asked.set.iter().any(|edited| edited.id == member.id);
            let row = rows.get(&key).and_then(|row| Member::from_json(row).ok());
            if is_edited || (moves && row.as_ref().is_none_or(|row| differs(row, member))) {
                rows.insert(key, of(row, member).to_json());
            }
        }
        if moves && !membership.removed.is_empty() {
            let mut removed = graft.pairs(MEMBERS_REMOVED)?.unwrap_or_default();
            for id in &membership.removed {
                rows.remove(hex_id(*id).as_bytes());
                removed.entry(hex_id(*id).into_bytes()).or_insert_with(|| REMOVED.to_vec());
            }
            graft.replace_bucket(MEMBERS_REMOVED, removed)?;
        }
        graft.replace_bucket(MEMBERS, rows)?;
        if let Some(version) =
            membership.version.as_ref().filter(|_| moves || asked.cluster_version.is_some())
        {
            let mut cluster = graft.pairs(CLUSTER)?.unwrap_or_default();
            cluster.insert(CLUSTER_VERSION.to_vec(), version.clone().into_bytes());
            if asked.cluster_version.is_some() {
                cluster.remove(DOWNGRADE);
            }
            graft.replace_bucket(CLUSTER, cluster)?;
        }
        if moves {
            let mut meta = graft.pairs(META)?.unwrap_or_default();
            move_to(&mut meta, seat, config);
            graft.replace_bucket(META, meta)?;
        }
        for edit in asked.rows {
            let mut rows = graft.pairs(edit.bucket)?.unwrap_or_default();
            edit.make(&mut rows);
            graft.replace_bucket(edit.bucket, rows)?;
        }
        graft.finish()
    })();
    patch.map_err(|source: GraftError| ReseatError::Graft { path: path(), source })
}

/// Whether entries that were taken along changed what a row says.
fn differs(row: &Member, member: &Member) -> bool {
    row.peer_urls != member.peer_urls
        || row.is_learner != member.is_learner
        || (!member.name.is_empty() && (row.name != member.name || row.client_urls != member.client_urls))
}

/// The row of `member`: what its old one says and nobody else does stays.
fn of(row: Option<Member>, member: &Member) -> Member {
    let mut new = member.clone();
    if let Some(row) = row.filter(|_| new.name.is_empty()) {
        new.name = row.name;
        new.client_urls = row.client_urls;
    }
    new
}

fn move_to(meta: &mut Pairs, seat: &Seat, config: &Config) {
    meta.insert(CONSISTENT_INDEX.to_vec(), seat.index.to_be_bytes().to_vec());
    // 3.4 keeps no term; and the row of raft's members is written with the first change of them.
    if let Some(term) = meta.get_mut(TERM) {
        *term = seat.term.to_be_bytes().to_vec();
    }
    if let Some(row) = meta.get_mut(CONF_STATE) {
        *row = conf_state(config);
    }
}

/// The row `confState` as servers write it (FORMATS B.1).
fn conf_state(config: &Config) -> Vec<u8> {
    let lists = BTreeMap::from([(1, ("voters", &config.voters)), (2, ("learners", &config.learners))]);
    let mut row = b"{".to_vec();
    for (name, ids) in lists.into_values().filter(|(_, ids)| !ids.is_empty()) {
        row.extend_from_slice(format!("\"{name}\":[").as_bytes());
        for (at, id) in ids.iter().enumerate() {
            if at > 0 {
                row.push(b',');
            }
            gojson::push_u64(&mut row, *id);
        }
        row.extend_from_slice(b"],");
    }
    row.extend_from_slice(b"\"auto_leave\":false}");
    row
}
