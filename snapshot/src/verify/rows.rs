//! The small buckets, row by row, as a server reads them when it starts (FORMATS B.1). Leases, users and roles have readers of
//! their own, whose findings are not repeated; here is what those do not look at, and over which row which release stumbles.

use std::collections::BTreeSet;

use bbolt::fault::readable;
use bbolt::{Db, Fault, Source};
use prost::Message;

use crate::boot::Release;
use crate::facts::ConfStateRow;
use crate::finding::{Finding, Severity};
use crate::membership::{Member, parse_hex_id};
use crate::mvcc::Revision;
use crate::schema::{
    ALARM, AUTH, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, Alarm, CLUSTER, CLUSTER_VERSION, CONF_STATE,
    CONSISTENT_INDEX, DOWNGRADE, FINISHED_COMPACT, LEASE, LeaseRow, MEMBERS, MEMBERS_REMOVED, META, RoleRow,
    SCHEDULED_COMPACT, STORAGE_VERSION, TERM, UserRow, each_row,
};
use crate::target::{TargetVersion, minor_of};

/// Code of a row that a server cannot read.
pub(super) const ROW: &str = "ETCD-ROW";
/// Most rows that are listed one by one.
const MOST_FINDINGS: usize = 100;

/// When in its start a server comes to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Before it has its log.
    Opening,
    /// With the cluster's version.
    Cluster,
    Leases,
    KeySpace,
    Auth,
    Alarms,
}

/// A row over which some releases end.
pub(super) struct Stumble {
    pub(super) stage: Stage,
    /// The words in which a release ends; `None` where it does not.
    pub(super) words: fn(&Release) -> Option<&'static str>,
    pub(super) cause: String,
}

#[derive(serde::Deserialize)]
struct DowngradeRow {
    #[serde(rename = "target-version", default)]
    target_version: String,
    #[serde(default)]
    enabled: bool,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) findings: Vec<Finding>,
    pub(super) stumbles: Vec<Stumble>,
    unlisted: u64,
}

/// Looks at the small buckets of `db`.
pub(super) fn look<S: Source>(db: &Db<S>) -> Result<Rows, Fault> {
    let mut rows = Rows::default();
    each_row(db, META, |key, value, offset| rows.of_meta(key, value, offset))?;
    each_row(db, LEASE, |key, value, _| rows.of_lease(key, value))?;
    each_row(db, ALARM, |key, _, _| rows.of_alarm(key))?;
    each_row(db, AUTH, |key, value, _| rows.of_auth(key, value))?;
    let mut bad_roles = BTreeSet::new();
    each_row(db, AUTH_ROLES, |key, value, _| {
        if RoleRow::decode(value).is_err() {
            bad_roles.insert(key.to_vec());
        }
    })?;
    each_row(db, AUTH_USERS, |key, value, _| rows.of_user(key, value, &bad_roles))?;
    each_row(db, MEMBERS, |key, value, offset| rows.of_member(key, value, offset))?;
    each_row(db, MEMBERS_REMOVED, |key, _, offset| rows.of_removed(key, offset))?;
    each_row(db, CLUSTER, |key, value, offset| rows.of_cluster(key, value, offset))?;
    if rows.unlisted > 0 {
        let message = format!("{} more rows of the small buckets are not what they should be", rows.unlisted);
        rows.findings.push(Finding::new(ROW, Severity::Error, message));
    }
    Ok(rows)
}

impl Rows {
    fn find(&mut self, severity: Severity, bucket: &str, key: &[u8], what: &str, offset: u64) {
        if self.findings.len() >= MOST_FINDINGS {
            self.unlisted = self.unlisted.saturating_add(1);
            return;
        }
        let message = format!("bucket {bucket}, row {}: {what}", readable(key));
        self.findings.push(Finding { offset: Some(offset), ..Finding::new(ROW, severity, message) });
    }

    /// One row of each kind is enough to end a server.
    fn stumble(
        &mut self,
        stage: Stage,
        words: fn(&Release) -> Option<&'static str>,
        cause: impl FnOnce() -> String,
    ) {
        if !self.stumbles.iter().any(|known| known.stage == stage) {
            self.stumbles.push(Stumble { stage, words, cause: cause() });
        }
    }

    fn of_meta(&mut self, key: &[u8], value: &[u8], offset: u64) {
        let len = value.len();
        if [CONSISTENT_INDEX, TERM].contains(&key) && len != 8 {
            self.find(
                Severity::Error,
                "meta",
                key,
                &format!("{len} byte(s) where 8 were expected; a server dies of fewer"),
                offset,
            );
            if len < 8 && key == CONSISTENT_INDEX {
                self.stumble(
                    Stage::Opening,
                    |_| Some("index out of range"),
                    || format!("the consistent index has {len} byte(s) and not 8"),
                );
            }
        } else if [SCHEDULED_COMPACT, FINISHED_COMPACT].contains(&key) && Revision::parse(value).is_none() {
            self.find(
                Severity::Error,
                "meta",
                key,
                &format!("{len} byte(s) that are no revision; a server dies of fewer than 17"),
                offset,
            );
            if len < 17 {
                self.stumble(
                    Stage::KeySpace,
                    |_| Some("out of range"),
                    || format!("row {} has {len} byte(s) and not 17", readable(key)),
                );
            }
        } else if key == CONF_STATE && serde_json::from_slice::<ConfStateRow>(value).is_err() {
            let what = "is no JSON of a raft configuration; no server starts from it, and the next change of members rewrites it";
            self.find(Severity::Warning, "meta", key, what, offset);
        } else if key == STORAGE_VERSION && text_minor(value).is_none() {
            let what = "is no version; 3.6 and later cannot tell what wrote the file";
            self.find(Severity::Warning, "meta", key, what, offset);
        }
    }

    fn of_lease(&mut self, key: &[u8], value: &[u8]) {
        if LeaseRow::decode(value).is_err() {
            self.stumble(
                Stage::Leases,
                |_| Some("lease"),
                || format!("bucket lease, row {}: is no lease", readable(key)),
            );
        }
    }

    fn of_alarm(&mut self, key: &[u8]) {
        if Alarm::parse(key).is_none() {
            self.stumble(
                Stage::Alarms,
                |_| Some(""),
                || format!("bucket alarm, row {}: is no alarm", readable(key)),
            );
        }
    }

    fn of_auth(&mut self, key: &[u8], value: &[u8]) {
        if key == AUTH_REVISION && value.len() < 8 {
            self.stumble(
                Stage::Auth,
                |_| Some("index out of range"),
                || format!("bucket auth, row authRevision: has {} byte(s) and not 8", value.len()),
            );
        }
    }

    /// A server reads all users when it starts, and of the roles those that users have; before 3.5.5 one of 3.5 does when it
    /// first needs them.
    fn of_user(&mut self, key: &[u8], value: &[u8], bad_roles: &BTreeSet<Vec<u8>>) {
        let cause = match UserRow::decode(value) {
            Err(_) => "is no user".to_owned(),
            Ok(user) => match user.roles.iter().find(|role| bad_roles.contains(*role)) {
                Some(role) => format!("has the role {}, whose row is none", readable(role)),
                None => return,
            },
        };
        let words = |release: &Release| match (release.minor, release.booted) {
            (TargetVersion::V3_5, Some("3.5.1")) => None,
            _ => Some("failed to unmarshal"),
        };
        self.stumble(Stage::Auth, words, || format!("bucket authUsers, row {}: {cause}", readable(key)));
    }

    fn of_member(&mut self, key: &[u8], value: &[u8], offset: u64) {
        let id = std::str::from_utf8(key).ok().and_then(parse_hex_id);
        let what = match (id, Member::from_json(value)) {
            (None, _) => "its key is no member's id".to_owned(),
            (Some(_), Err(error)) => error.to_string(),
            (Some(id), Ok(member)) if member.id != id => {
                format!("its value is that of member {:x}", member.id)
            }
            _ => return,
        };
        let what = format!("{what}; 3.6 and later start with the members of this bucket, and die of it");
        self.find(Severity::Error, "members", key, &what, offset);
        self.stumble(Stage::Cluster, from_3_6_members, || {
            format!("bucket members, row {}: is no member", readable(key))
        });
    }

    fn of_removed(&mut self, key: &[u8], offset: u64) {
        if std::str::from_utf8(key).ok().and_then(parse_hex_id).is_none() {
            self.find(
                Severity::Error,
                "members_removed",
                key,
                "is no member's id; 3.6 and later die of it",
                offset,
            );
            self.stumble(Stage::Cluster, from_3_6_members, || {
                format!("bucket members_removed, row {}: is no id", readable(key))
            });
        }
    }

    fn of_cluster(&mut self, key: &[u8], value: &[u8], offset: u64) {
        if key == CLUSTER_VERSION && text_minor(value).is_none() {
            let what = "is no version; 3.6 and later die of it";
            self.find(Severity::Error, "cluster", key, what, offset);
            self.stumble(
                Stage::Cluster,
                |release| (release.minor >= TargetVersion::V3_6).then_some("dotted-tri format"),
                || format!("the cluster's version {} is none", readable(value)),
            );
        }
        if key == DOWNGRADE {
            self.of_downgrade(value, offset);
        }
    }

    fn of_downgrade(&mut self, value: &[u8], offset: u64) {
        let Ok(row) = serde_json::from_slice::<DowngradeRow>(value) else {
            return self.stumble(
                Stage::Cluster,
                |release| from_3_5(release, "failed to unmarshal downgrade information"),
                || "the row about a downgrade is no JSON".to_owned(),
            );
        };
        if row.enabled && minor_of(&row.target_version).is_none() {
            let what = "its target is no version; a server of 3.5 or later dies of it";
            self.find(Severity::Error, "cluster", DOWNGRADE, what, offset);
            self.stumble(
                Stage::Cluster,
                |release| from_3_5(release, "unexpected version format of the downgrade target version"),
                || format!("the target of the downgrade is {:?}", row.target_version),
            );
        }
    }
}

fn from_3_5(release: &Release, words: &'static str) -> Option<&'static str> {
    (release.minor >= TargetVersion::V3_5).then_some(words)
}

fn from_3_6_members(release: &Release) -> Option<&'static str> {
    (release.minor >= TargetVersion::V3_6).then_some("member")
}

fn text_minor(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok().and_then(minor_of)
}
