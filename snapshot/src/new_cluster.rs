//! Making a db, a log and a `.snap` belong to a new cluster (FORMATS H.3, H.4, X 57–72): the edits, as bytes to write.

use std::collections::BTreeMap;

use bbolt::graft::{Graft, GraftError, Patch};
use bbolt::{Db, Fault, Source};
use wal::{BootMember, FIRST_TERM, FirstSegment};

use crate::membership::{self, Member, hex_id};
use crate::mvcc::Revision;
use crate::schema::{
    ALARM, ALARM_CORRUPT, ALARM_NOSPACE, Alarm, CLUSTER, CONSISTENT_INDEX, DOWNGRADE, KEY, MEMBERS,
    MEMBERS_REMOVED, META, SCHEDULED_COMPACT, Schema, TERM,
};
use crate::target::{TargetVersion, minor_of};
use crate::v2store;

/// The cluster to be, and what of the old one goes along.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Its members, ascending by id.
    pub members: Vec<Member>,
    /// The etcd its files are written for.
    pub target: TargetVersion,
    /// The revision the key space goes back to; `None` for all of it. It must be one that the history still holds.
    pub at_revision: Option<i64>,
    /// How far the revision is raised, everything up to there marked for compaction.
    pub bump_revision: Option<Bump>,
    /// Keep alarms, though the members that raised them are gone.
    pub keep_alarms: bool,
}

/// How far the revision is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bump {
    /// By this much.
    By(u64),
    /// By [`LEAST_BUMP`], and to [`BEYOND_SEEN`] above what any client may have seen, whichever is more.
    Beyond {
        /// The largest revision that a client may have seen, where that is more than the data has itself.
        seen: i64,
    },
}

/// The least by which [`Bump::Beyond`] raises: what etcd's own guide recommends.
pub const LEAST_BUMP: u64 = 1_000_000_000;
/// How far above what clients may have seen [`Bump::Beyond`] raises.
pub const BEYOND_SEEN: u64 = 1_000_000;
/// Revisions that a raise leaves for later writes.
const ROOM: i64 = 1 << 40;

impl Bump {
    /// How much is added to the revision `from`; `in_data` is the last revision the data had.
    #[must_use]
    pub fn amount(self, from: i64, in_data: i64) -> u64 {
        match self {
            Self::By(amount) => amount,
            Self::Beyond { seen } => {
                // Between two revisions lie no more than 2^63.
                let distance = seen.max(in_data).saturating_sub(from).max(0).cast_unsigned();
                distance.saturating_add(BEYOND_SEEN).max(LEAST_BUMP)
            }
        }
    }
}

/// Why a db cannot be made to belong to the new cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewClusterError {
    /// The db cannot be edited.
    #[error(transparent)]
    Graft(#[from] GraftError),
    /// The raised revision is no revision any more.
    #[error(
        "--bump-revision: revision {from} plus {by} is more than a revision can be (2^63 - 1), or leaves fewer than {ROOM} for \
         what is to be written: at the last one a server dies of the next write, and at every start after it"
    )]
    BumpTooFar {
        /// The last revision of the data.
        from: i64,
        /// What should be added.
        by: u64,
    },
}

/// The edited backend.
#[derive(Debug)]
pub struct Backend {
    /// The pages that make the new cluster's db out of the old one's.
    pub patch: Patch,
    /// The revision at which the new cluster begins, before it is raised.
    pub revision: i64,
    /// The raised revision, where it was raised.
    pub bumped_to: Option<i64>,
    /// True when an alarm about a full database was dropped.
    pub dropped_nospace_alarm: bool,
    /// What was dropped, changed or left, and why: one sentence each.
    pub notices: Vec<String>,
}

impl NewCluster {
    /// The cluster's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        let ids: Vec<u64> = self.members.iter().map(|member| member.id).collect();
        membership::cluster_id(&ids)
    }

    /// Index of the last entry of a new member's log: one conf change a member.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.members.len() as u64
    }

    /// The first segment of the log of the member `node_id`, as the target's own tool writes it, without the zeros up
    /// to its full length.
    #[must_use]
    pub fn first_segment(&self, node_id: u64) -> Vec<u8> {
        let members = self.members.iter().map(|m| BootMember { id: m.id, context: m.to_json() }).collect();
        FirstSegment { node_id, cluster_id: self.id(), members }.encode(self.target.dialect())
    }

    /// The `.snap` of every member, as the target's own tool writes it.
    #[must_use]
    pub fn snap(&self) -> Vec<u8> {
        let ids: Vec<u64> = self.members.iter().map(|member| member.id).collect();
        let store = v2store::restored_store(&self.members, self.target);
        wal::encode_snap(&store, self.last_index(), FIRST_TERM, &ids, self.target.dialect())
    }

    /// The edits that make `db`, with the last revision `revision`, the new cluster's. They are the same for every
    /// member.
    ///
    /// # Errors
    /// When a bucket to edit is damaged, or the bump goes too far.
    pub fn edit<S: Source>(
        &self,
        db: &Db<S>,
        schema: &Schema,
        revision: i64,
    ) -> Result<Backend, NewClusterError> {
        let mut graft = Graft::new(db);
        let mut notices = Vec::new();

        let mut meta = graft.pairs(META)?.unwrap_or_default();
        meta.insert(CONSISTENT_INDEX.to_vec(), self.last_index().to_be_bytes().to_vec());
        if self.target == TargetVersion::V3_4 {
            if meta.remove(TERM).is_some() {
                notices.push(
                    "the term of the old cluster's log was dropped: etcd 3.4 knows none (etcdctl 3.4 leaves the \
                     old one, which is wrong for the new log)"
                        .to_owned(),
                );
            }
        } else {
            meta.insert(TERM.to_vec(), FIRST_TERM.to_be_bytes().to_vec());
        }
        if schema.has_conf_state {
            notices.push(
                "the old cluster's confState stays in the db, as etcdutl leaves it: no server starts from it, and \
                 the first change of members rewrites it"
                    .to_owned(),
            );
        }

        // Where a compaction went beyond the last record, the server counts on from there (FORMATS X.18).
        let compacted = schema.scheduled_compact.max(schema.finished_compact).unwrap_or_default();
        let in_data = revision.max(compacted);
        let revision = self.at_revision.unwrap_or(in_data);
        if revision < in_data {
            // No record of the revision after that one is smaller than this key.
            let next = Revision { main: revision.saturating_add(1), sub: 0, tombstone: false };
            graft.cut(KEY, &next.encode())?;
            notices.push(format!(
                "the keys were taken back from revision {in_data} to {revision}; leases, users and roles stay as they were \
                 at {in_data}. The bytes of what came later are still in free pages of the new db, until 'etcd-rescue defrag \
                 --data-dir' before the start, or 'etcdctl defrag' after it"
            ));
        }
        let bumped_to = self.bumped_revision(revision, in_data)?;
        if let Some(main) = bumped_to {
            let dummy = Revision { main, sub: 0, tombstone: false }.encode();
            meta.insert(SCHEDULED_COMPACT.to_vec(), dummy.clone());
            graft.append(KEY, vec![(dummy, Vec::new())])?;
            notices.push(format!(
                "the revision was raised from {revision} to {main} and everything up to there marked for \
                 compaction: watchers and caches of the old cluster learn that they must start over"
            ));
        }
        if revision < in_data
            && bumped_to.is_none()
            && starts_at(db, schema, revision).map_err(GraftError::from)? < revision
        {
            let held = Revision { main: revision, sub: 0, tombstone: true };
            graft.append(KEY, vec![(held.encode(), Vec::new())])?;
            notices.push(format!(
                "no record of revision {revision} is kept: a tombstone of the empty key, which the next compaction removes, \
                 holds the store there"
            ));
        }
        graft.replace_bucket(META, meta)?;

        self.edit_members(&mut graft, schema, &mut notices)?;
        let dropped_nospace_alarm = self.edit_alarms(&mut graft, schema, &mut notices)?;
        self.edit_cluster(&mut graft, schema, &mut notices)?;
        Ok(Backend { patch: graft.finish()?, revision, bumped_to, dropped_nospace_alarm, notices })
    }

    fn bumped_revision(&self, revision: i64, in_data: i64) -> Result<Option<i64>, NewClusterError> {
        let Some(by) = self.bump_revision.map(|bump| bump.amount(revision, in_data)) else { return Ok(None) };
        let bumped = i64::try_from(by).ok().and_then(|by| revision.checked_add(by));
        let bumped = bumped.filter(|bumped| *bumped <= i64::MAX - ROOM);
        bumped.map(Some).ok_or(NewClusterError::BumpTooFar { from: revision, by })
    }

    fn edit_members<S: Source>(
        &self,
        graft: &mut Graft<'_, S>,
        schema: &Schema,
        notices: &mut Vec<String>,
    ) -> Result<(), GraftError> {
        let rows: BTreeMap<_, _> =
            self.members.iter().map(|m| (hex_id(m.id).into_bytes(), m.to_json())).collect();
        graft.replace_bucket(MEMBERS, rows)?;
        graft.replace_bucket(MEMBERS_REMOVED, BTreeMap::new())?;
        if self.target == TargetVersion::V3_4 && !schema.members.is_empty() {
            notices.push(
                "the old cluster's members were replaced in the db (etcdctl 3.4 leaves them, and they come back as \
                 ghosts after an upgrade to 3.6)"
                    .to_owned(),
            );
        }
        let old: Vec<Member> = schema.members.iter().filter_map(|row| Member::from_json(row).ok()).collect();
        let learners: Vec<&str> = old.iter().filter(|m| m.is_learner).map(|m| m.name.as_str()).collect();
        if !learners.is_empty() {
            notices.push(format!(
                "the old cluster had {} learner(s) ({}): a restored cluster starts with voters only, so every \
                 member of --initial-cluster is one",
                learners.len(),
                learners.join(", ")
            ));
        }
        Ok(())
    }

    fn edit_alarms<S: Source>(
        &self,
        graft: &mut Graft<'_, S>,
        schema: &Schema,
        notices: &mut Vec<String>,
    ) -> Result<bool, GraftError> {
        if schema.unreadable_alarms > 0 {
            let mut rows = graft.pairs(ALARM)?.unwrap_or_default();
            rows.retain(|key, _| Alarm::parse(key).is_some());
            graft.replace_bucket(ALARM, rows)?;
            notices.push(format!(
                "{} row(s) of bucket alarm were dropped: they are no alarms, and a server dies on them",
                schema.unreadable_alarms
            ));
        }
        if schema.alarms.is_empty() {
            return Ok(false);
        }
        let names: Vec<String> = schema
            .alarms
            .iter()
            .map(|alarm| {
                let kind = match alarm.kind {
                    ALARM_NOSPACE => "NOSPACE".to_owned(),
                    ALARM_CORRUPT => "CORRUPT".to_owned(),
                    other => format!("type {other}"),
                };
                format!("{kind} of member {}", hex_id(alarm.member_id))
            })
            .collect();
        let names = names.join(", ");
        if self.keep_alarms {
            notices.push(format!(
                "alarms were kept as asked, though their members no longer exist: {names}. Until 'etcdctl alarm \
                 disarm' they keep the new cluster from taking writes"
            ));
            return Ok(false);
        }
        graft.replace_bucket(ALARM, BTreeMap::new())?;
        notices.push(format!(
            "alarms were dropped, since the members that raised them no longer exist: {names} (--keep-alarms keeps \
             them, as etcdutl does)"
        ));
        Ok(schema.alarms.iter().any(|alarm| alarm.kind == ALARM_NOSPACE))
    }

    fn edit_cluster<S: Source>(
        &self,
        graft: &mut Graft<'_, S>,
        schema: &Schema,
        notices: &mut Vec<String>,
    ) -> Result<(), GraftError> {
        let mut rows = graft.pairs(CLUSTER)?;
        let missing = rows.is_none();
        if let Some(target) = &schema.downgrade_target {
            rows.get_or_insert_default().remove(DOWNGRADE);
            notices.push(format!(
                "a downgrade of the old cluster to {target} was under way; its order was dropped, since a server of \
                 another version refuses to start over it"
            ));
        }
        if schema.unreadable_downgrade {
            rows.get_or_insert_default().remove(DOWNGRADE);
            notices.push(
                "the row about a downgrade was dropped: it cannot be read, and a server dies on it"
                    .to_owned(),
            );
        }
        if missing || schema.downgrade_target.is_some() || schema.unreadable_downgrade {
            graft.replace_bucket(CLUSTER, rows.unwrap_or_default())?;
        }
        for (what, version) in
            [("cluster version", &schema.cluster_version), ("storage version", &schema.storage_version)]
        {
            if minor_of(version).is_some_and(|minor| minor > self.target.minor()) {
                notices.push(format!(
                    "WARNING: the data's {what} is {version}: an etcd {} may refuse to start on it; start etcd of \
                     that version, or a later one",
                    self.target
                ));
            }
        }
        Ok(())
    }
}

/// The revision at which any release would start the store in `db`, were all beyond `revision` cut away (FORMATS C.2). A purge
/// leaves revisions without a record.
fn starts_at<S: Source>(db: &Db<S>, schema: &Schema, revision: i64) -> Result<i64, Fault> {
    // A store without records is at revision 1.
    let mut last = schema.finished_compact.unwrap_or_default().max(1);
    let Some(bucket) = db.bucket(KEY)? else { return Ok(last) };
    let mut cursor = bucket.cursor();
    let next = Revision { main: revision.saturating_add(1), sub: 0, tombstone: false };
    let mut item = if cursor.seek(&next.encode())?.is_some() { cursor.prev()? } else { cursor.last()? };
    while let Some(found) = item {
        if let Some(record) = Revision::parse(found.key) {
            last = last.max(record.main);
            break;
        }
        item = cursor.prev()?;
    }
    Ok(last)
}
