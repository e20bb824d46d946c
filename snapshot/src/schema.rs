//! The backend's small buckets as types (FORMATS B.1, B.3): what a db says of itself beside its keys.

use bbolt::fault::readable as readable_key;
use bbolt::{Bucket, Db, Fault, Source};
use prost::Message;

use crate::finding::{Finding, Severity};
use crate::mvcc::Revision;
use crate::target::{TargetVersion, minor_of};

/// Bucket of the versioned keys.
pub const KEY: &[u8] = b"key";
/// Bucket of the store's own numbers.
pub const META: &[u8] = b"meta";
/// Bucket of the leases.
pub const LEASE: &[u8] = b"lease";
/// Bucket of the alarms.
pub const ALARM: &[u8] = b"alarm";
/// Bucket of authentication's switch and revision.
pub const AUTH: &[u8] = b"auth";
/// Bucket of the users.
pub const AUTH_USERS: &[u8] = b"authUsers";
/// Bucket of the roles.
pub const AUTH_ROLES: &[u8] = b"authRoles";
/// Bucket of the members.
pub const MEMBERS: &[u8] = b"members";
/// Bucket of the removed members' ids.
pub const MEMBERS_REMOVED: &[u8] = b"members_removed";
/// Bucket of the cluster's version and downgrade.
pub const CLUSTER: &[u8] = b"cluster";

/// In [`META`]: index of the last raft entry applied, u64 big-endian.
pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
/// In [`META`], since 3.5: term of that entry, u64 big-endian.
pub const TERM: &[u8] = b"term";
/// In [`META`], since 3.5: the raft configuration, as JSON.
pub const CONF_STATE: &[u8] = b"confState";
/// In [`META`], since 3.6: version of the schema.
pub const STORAGE_VERSION: &[u8] = b"storageVersion";
/// In [`META`]: the revision up to which a compaction was ordered, in the form of a revision key.
pub const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
/// In [`META`]: the revision up to which a compaction is complete, in the form of a revision key.
pub const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
/// In [`CLUSTER`]: the cluster's version, as text.
pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
/// In [`CLUSTER`], since 3.5: a downgrade under way, as JSON.
pub const DOWNGRADE: &[u8] = b"downgrade";
/// In [`AUTH`]: one byte, 1 when authentication is on.
pub const AUTH_ENABLED: &[u8] = b"authEnabled";
/// In [`AUTH`]: how often users, roles or the switch were changed, u64 big-endian.
pub const AUTH_REVISION: &[u8] = b"authRevision";

/// What a db says of itself beside its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// The names of the top-level buckets, ascending.
    pub buckets: Vec<Vec<u8>>,
    /// Index of the last raft entry applied; 0 when there is none.
    pub consistent_index: u64,
    /// Term of that entry; `None` before 3.5.
    pub term: Option<u64>,
    /// Version of the schema, as written; empty before 3.6.
    pub storage_version: String,
    /// The cluster's version, as written; empty when there is none.
    pub cluster_version: String,
    /// A downgrade under way: its target, as written.
    pub downgrade_target: Option<String>,
    /// True when the row about a downgrade cannot be read, over which a server dies.
    pub unreadable_downgrade: bool,
    /// True when the db holds a raft configuration.
    pub has_conf_state: bool,
    /// Alarms, in the order of their keys.
    pub alarms: Vec<Alarm>,
    /// Number of alarm rows that cannot be read, over which a server dies.
    pub unreadable_alarms: u64,
    /// The member rows' values, in the order of their ids.
    pub members: Vec<Vec<u8>>,
    /// Number of leases.
    pub leases: u64,
    /// True when authentication is on.
    pub auth_enabled: bool,
    /// Revision up to which a compaction was ordered.
    pub scheduled_compact: Option<i64>,
    /// Revision up to which a compaction is complete.
    pub finished_compact: Option<i64>,
    /// Rows that a server could not read.
    pub findings: Vec<Finding>,
}

/// One active alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// The member that raised it.
    pub member_id: u64,
    /// What for: 1 NOSPACE, 2 CORRUPT.
    pub kind: i32,
}

/// `Alarm::kind` of a full database.
pub const ALARM_NOSPACE: i32 = 1;
/// `Alarm::kind` of a member that differs from the others.
pub const ALARM_CORRUPT: i32 = 2;

impl Alarm {
    /// The alarm that a key of bucket [`ALARM`] says; `None` when it says none.
    #[must_use]
    pub fn parse(key: &[u8]) -> Option<Self> {
        let alarm = AlarmMember::decode(key).ok()?;
        Some(Self { member_id: alarm.member_id, kind: alarm.alarm })
    }

    /// The key that says this alarm, as a server writes it.
    #[must_use]
    pub fn to_key(self) -> Vec<u8> {
        AlarmMember { member_id: self.member_id, alarm: self.kind }.encode_to_vec()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct AlarmMember {
    #[prost(uint64, tag = "1")]
    member_id: u64,
    #[prost(int32, tag = "2")]
    alarm: i32,
}

/// `leasepb.Lease`, the value of a row of [`LEASE`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LeaseRow {
    /// The lease's id.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// For how long it was granted, in seconds.
    #[prost(int64, tag = "2")]
    pub ttl: i64,
    /// What was left at its last checkpoint, in seconds; 0 without one.
    #[prost(int64, tag = "3")]
    pub remaining_ttl: i64,
}

/// `authpb.User`, the value of a row of [`AUTH_USERS`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserRow {
    /// The user's name.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// The bcrypt hash of its password.
    #[prost(bytes = "vec", tag = "2")]
    pub password: Vec<u8>,
    /// Its roles, in order.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub roles: Vec<Vec<u8>>,
    /// Since 3.4: how it was added.
    #[prost(message, optional, tag = "4")]
    pub options: Option<UserOptions>,
}

/// `authpb.UserAddOptions`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct UserOptions {
    /// The user proves who it is by a certificate, and has no password.
    #[prost(bool, tag = "1")]
    pub no_password: bool,
}

/// `authpb.Role`, the value of a row of [`AUTH_ROLES`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RoleRow {
    /// The role's name.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// What it allows, in the order of the keys.
    #[prost(message, repeated, tag = "2")]
    pub permissions: Vec<Permission>,
}

/// `authpb.Permission`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Permission {
    /// 0 to read, 1 to write, 2 for both.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The key, or the first key of the range.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    /// Empty for the key alone; `\0` for all keys from the first on; else the key after the last.
    #[prost(bytes = "vec", tag = "3")]
    pub range_end: Vec<u8>,
}

#[derive(serde::Deserialize)]
struct Downgrade {
    #[serde(rename = "target-version", default)]
    target_version: String,
    #[serde(default)]
    enabled: bool,
}

/// The target of a downgrade under way, by the row about it.
///
/// # Errors
/// When the row is no such JSON, over which a server dies.
pub(crate) fn downgrade_target(row: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let Downgrade { target_version, enabled } = serde_json::from_slice(row)?;
    Ok(enabled.then_some(target_version))
}

impl Schema {
    /// That there is no bucket `key`, where there is none: what else a command finds in such a file says nothing of etcd.
    #[must_use]
    pub fn no_key_bucket(&self) -> Option<Finding> {
        (!self.buckets.iter().any(|name| name == KEY)).then(no_key_bucket)
    }

    /// Reads the small buckets of `db`. Rows that do not parse count as absent.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn read<S: Source>(db: &Db<S>) -> Result<Self, Fault> {
        let mut schema = Self::default();
        let mut names = db.root().cursor();
        while let Some(item) = names.next()? {
            if item.is_bucket {
                schema.buckets.push(item.key.to_vec());
            }
        }
        if let Some(meta) = db.bucket(META)? {
            let number = |key| Ok(meta.get(key)?.and_then(|v| v.try_into().ok()).map(u64::from_be_bytes));
            schema.consistent_index = number(CONSISTENT_INDEX)?.unwrap_or_default();
            schema.term = number(TERM)?;
            schema.storage_version = text(&meta, STORAGE_VERSION)?;
            schema.has_conf_state = meta.get(CONF_STATE)?.is_some();
            let revision = |key| Ok(meta.get(key)?.and_then(|v| Revision::parse(&v)).map(|r| r.main));
            schema.scheduled_compact = revision(SCHEDULED_COMPACT)?;
            schema.finished_compact = revision(FINISHED_COMPACT)?;
        }
        if let Some(cluster) = db.bucket(CLUSTER)? {
            schema.cluster_version = text(&cluster, CLUSTER_VERSION)?;
            match cluster.get(DOWNGRADE)?.map(|row| downgrade_target(&row)) {
                Some(Ok(target)) => schema.downgrade_target = target,
                Some(Err(error)) => {
                    schema.unreadable_downgrade = true;
                    let message = format!("bucket cluster, row downgrade: {error}; a restore drops it");
                    schema.findings.push(Finding::new("ETCD-DOWNGRADE", Severity::Error, message));
                }
                None => {}
            }
        }
        if let Some(alarms) = db.bucket(ALARM)? {
            let mut cursor = alarms.cursor();
            while let Some(item) = cursor.next()? {
                match Alarm::parse(item.key) {
                    Some(alarm) => schema.alarms.push(alarm),
                    None => schema.unreadable_alarms += 1,
                }
            }
            if schema.unreadable_alarms > 0 {
                let message = format!(
                    "bucket alarm: {} row(s) are no alarm; a restore drops them",
                    schema.unreadable_alarms
                );
                schema.findings.push(Finding::new("ETCD-ALARM", Severity::Error, message));
            }
        }
        if let Some(members) = db.bucket(MEMBERS)? {
            let mut cursor = members.cursor();
            while let Some(item) = cursor.next()? {
                schema.members.push(item.value.to_vec());
            }
        }
        let lease = |key: &[u8], value: &[u8]| key.len() == 8 && LeaseRow::decode(value).is_ok();
        schema.leases = schema.check_rows(db, LEASE, "lease", lease)?;
        schema.check_rows(db, AUTH_USERS, "authUsers", |_, value| UserRow::decode(value).is_ok())?;
        schema.check_rows(db, AUTH_ROLES, "authRoles", |_, value| RoleRow::decode(value).is_ok())?;
        if let Some(auth) = db.bucket(AUTH)? {
            schema.auth_enabled = auth.get(AUTH_ENABLED)?.is_some_and(|v| v == [1]);
        }
        Ok(schema)
    }

    /// Counts the rows of `bucket`, and finds those that are not `readable`: a server dies when it starts on one.
    fn check_rows<S: Source>(
        &mut self,
        db: &Db<S>,
        bucket: &[u8],
        shown: &str,
        readable: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<u64, Fault> {
        let (mut count, mut unreadable, mut first) = (0, 0u64, None);
        each_row(db, bucket, |key, value, offset| {
            count += 1;
            if !readable(key, value) {
                unreadable += 1;
                first.get_or_insert_with(|| (readable_key(key), offset));
            }
        })?;
        if let Some((key, offset)) = first {
            let message = format!(
                "bucket {shown}: {unreadable} row(s) cannot be read, the first with key {key}; a server dies when it \
                 starts on them"
            );
            let finding = Finding::new("ETCD-ROW", Severity::Error, message);
            self.findings.push(Finding { offset: Some(offset), ..finding });
        }
        Ok(count)
    }

    /// The version of etcd that wrote the data, and what says so; `None` when nothing does.
    ///
    /// The storage version (3.6 and later keep one) comes first, then the cluster version; a db with a term was
    /// last written by 3.5 or later, whatever an older cluster version says. Versions older or newer than those known
    /// count as the nearest one.
    #[must_use]
    pub fn written_by(&self) -> Option<(TargetVersion, String)> {
        let (what, text) = if self.storage_version.is_empty() {
            ("cluster version", &self.cluster_version)
        } else {
            ("storage version", &self.storage_version)
        };
        let minor = minor_of(text)?;
        let has_term = self.term.is_some_and(|term| term > 0);
        let version = match minor {
            0..=4 if has_term => {
                let reason = format!("its {what} is {text}, but only 3.5 and later keep a term");
                return Some((TargetVersion::V3_5, reason));
            }
            0..=4 => TargetVersion::V3_4,
            5 => TargetVersion::V3_5,
            6 => TargetVersion::V3_6,
            _ => TargetVersion::V3_7,
        };
        let nearest = if minor == version.minor() { "" } else { ", the nearest version known" };
        Some((version, format!("its {what} is {text}{nearest}")))
    }
}

/// Shows `look` the rows of `bucket` in the order of their keys: key, value, and the file offset of the leaf they lie in. Without
/// such a bucket there are none.
///
/// # Errors
/// When a page on the way is damaged.
pub(crate) fn each_row<S: Source>(
    db: &Db<S>,
    bucket: &[u8],
    mut look: impl FnMut(&[u8], &[u8], u64),
) -> Result<(), Fault> {
    let Some(rows) = db.bucket(bucket)? else { return Ok(()) };
    for range in rows.leaf_ranges(1)? {
        for node in range.nodes() {
            let node = node?;
            for index in 0..node.count() {
                look(node.key(index), node.value(index), node.offset());
            }
        }
    }
    Ok(())
}

/// That there is no bucket `key`.
pub(crate) fn no_key_bucket() -> Finding {
    let message = "there is no bucket key: this is a bbolt database, but hardly one of etcd";
    Finding::new("ETCD-NO-BUCKET", Severity::Error, message)
}

fn text<S: Source>(bucket: &Bucket<'_, S>, key: &[u8]) -> Result<String, Fault> {
    Ok(bucket.get(key)?.map(|v| String::from_utf8_lossy(&v).into_owned()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_is_told_from_storage_version_term_and_cluster_version() {
        let of = |storage: &str, cluster: &str, term| {
            let schema = Schema {
                storage_version: storage.to_owned(),
                cluster_version: cluster.to_owned(),
                term,
                ..Schema::default()
            };
            schema.written_by().map(|(version, _)| version)
        };
        assert_eq!(of("3.6.0", "3.5.0", Some(3)), Some(TargetVersion::V3_6));
        assert_eq!(of("", "3.5.0", Some(3)), Some(TargetVersion::V3_5));
        assert_eq!(of("", "3.4.0", Some(3)), Some(TargetVersion::V3_5));
        assert_eq!(of("", "3.4.0", None), Some(TargetVersion::V3_4));
        assert_eq!(of("", "3.3.0", None), Some(TargetVersion::V3_4));
        assert_eq!(of("3.9.0", "3.9.0", Some(1)), Some(TargetVersion::V3_7));
        for unknown in ["", "2.3.8", "three"] {
            assert_eq!(of("", unknown, None), None);
        }
    }
}
