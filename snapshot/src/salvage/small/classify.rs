//! Which bucket rows belong to, by what they are.
//!
//! A row fits a bucket when a server could have written it there: keys of the form that the bucket has, values that decode and
//! come out the same when they are encoded again. Rows of different buckets look alike in one case only: a role without a permission is
//! written as a user without a password, roles and options would be, and since 3.4 every user has options.

use prost::Message;

use crate::membership::{Member, hex_id, parse_hex_id};
use crate::mvcc::Revision;
use crate::replay::small::Name;
use crate::schema::{
    ALARM_CORRUPT, ALARM_NOSPACE, AUTH_ENABLED, AUTH_REVISION, Alarm, CLUSTER_VERSION, CONF_STATE,
    CONSISTENT_INDEX, DOWNGRADE, FINISHED_COMPACT, LeaseRow, RoleRow, SCHEDULED_COMPACT, STORAGE_VERSION,
    TERM, UserRow, downgrade_target,
};
use crate::semver::Semver;

/// Longest value that is looked into, in bytes: what rows decode to takes some times as much for a moment. What servers take in
/// one request is 1.5 MiB.
const MOST_VALUE_BYTES: usize = 2 << 20;
/// The longest time a lease can be granted for, in seconds.
const MOST_TTL_SECONDS: i64 = 9_000_000_000;
/// What a row of bucket `members_removed` says.
const REMOVED: &[u8] = b"removed";

/// The bucket that all of these rows can be of; `None` when there is none, and when there are no rows.
///
/// What could be of `authUsers` and of `authRoles` is of the second.
pub(crate) fn bucket_of<'a>(rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Option<Name> {
    let mut left: Option<Vec<Name>> = None;
    for (key, value) in rows {
        let names = left.get_or_insert_with(|| Name::ALL.to_vec());
        names.retain(|name| fits(*name, key, value));
        if names.is_empty() {
            return None;
        }
    }
    // `authRoles` comes behind `authUsers`.
    left?.last().copied()
}

/// Whether a server could have written this row in the bucket.
#[must_use]
pub(crate) fn fits(bucket: Name, key: &[u8], value: &[u8]) -> bool {
    if key.is_empty() || value.len() > MOST_VALUE_BYTES {
        return false;
    }
    match bucket {
        Name::Meta => is_meta(key, value),
        Name::Lease => is_lease(key, value),
        Name::Alarm => value.is_empty() && is_alarm(key),
        Name::Auth => match key {
            AUTH_ENABLED => matches!(value, [0 | 1]),
            AUTH_REVISION => value.len() == 8,
            _ => false,
        },
        Name::AuthUsers => {
            // A role without permissions is not said to be none: see `bucket_of`.
            UserRow::decode(value).is_ok_and(|row| row.name == key && row.encode_to_vec() == value)
        }
        Name::AuthRoles => RoleRow::decode(value).is_ok_and(|row| {
            let is_known = row.permissions.iter().all(|permission| (0..=2).contains(&permission.kind));
            row.name == key && is_known && row.encode_to_vec() == value
        }),
        Name::Members => {
            let id = member_id(key);
            id.is_some() && Member::from_json(value).ok().map(|member| member.id) == id
        }
        Name::MembersRemoved => value == REMOVED && member_id(key).is_some(),
        Name::Cluster => match key {
            CLUSTER_VERSION => is_version(value),
            DOWNGRADE => downgrade_target(value).is_ok(),
            _ => false,
        },
    }
}

/// Whether a server reads this row of the bucket, which is known to be one of it: of a later version than those known it may have
/// more in it.
#[must_use]
pub(crate) fn is_read(bucket: Name, key: &[u8], value: &[u8]) -> bool {
    match bucket {
        Name::Meta => match key {
            CONSISTENT_INDEX | TERM => value.len() == 8,
            SCHEDULED_COMPACT | FINISHED_COMPACT => Revision::parse(value).is_some(),
            _ => true,
        },
        Name::Lease => key.len() == 8 && LeaseRow::decode(value).is_ok(),
        Name::Alarm => Alarm::parse(key).is_some(),
        Name::Auth => key != AUTH_REVISION || value.len() == 8,
        Name::AuthUsers => UserRow::decode(value).is_ok(),
        Name::AuthRoles => RoleRow::decode(value).is_ok(),
        Name::Members => {
            let id = std::str::from_utf8(key).ok().and_then(parse_hex_id);
            id.is_some() && Member::from_json(value).ok().map(|member| member.id) == id
        }
        Name::MembersRemoved => std::str::from_utf8(key).is_ok_and(|id| parse_hex_id(id).is_some()),
        Name::Cluster => match key {
            CLUSTER_VERSION => is_version(value),
            DOWNGRADE => downgrade_target(value).is_ok(),
            _ => true,
        },
    }
}

/// The id that a row's key says, written as servers write it.
fn member_id(key: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(key).ok()?;
    let id = parse_hex_id(text)?;
    (hex_id(id) == text).then_some(id)
}

fn is_version(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| Semver::parse(text).is_ok())
}

fn is_alarm(key: &[u8]) -> bool {
    Alarm::parse(key)
        .is_some_and(|alarm| (ALARM_NOSPACE..=ALARM_CORRUPT).contains(&alarm.kind) && alarm.to_key() == key)
}

fn is_lease(key: &[u8], value: &[u8]) -> bool {
    let Ok(id) = key.try_into().map(i64::from_be_bytes) else { return false };
    LeaseRow::decode(value).is_ok_and(|row| {
        let is_granted = row.id != 0 && (1..=MOST_TTL_SECONDS).contains(&row.ttl) && row.remaining_ttl >= 0;
        row.id == id && is_granted && row.encode_to_vec() == value
    })
}

fn is_meta(key: &[u8], value: &[u8]) -> bool {
    match key {
        CONSISTENT_INDEX | TERM => value.len() == 8,
        SCHEDULED_COMPACT | FINISHED_COMPACT => Revision::parse(value).is_some_and(|at| !at.tombstone),
        STORAGE_VERSION => is_version(value),
        CONF_STATE => matches!(
            serde_json::from_slice::<serde_json::Value>(value),
            Ok(serde_json::Value::Object(fields)) if fields.contains_key("auto_leave") || fields.contains_key("voters")
        ),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;
    use bbolt::{Db, Source};
    use proptest::prelude::*;

    fn rows_of<S: Source>(db: &Db<S>, bucket: Name) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let found = db.bucket(bucket.bytes()).unwrap().unwrap();
        let mut cursor = found.cursor();
        while let Some(item) = cursor.next().unwrap() {
            rows.push((item.key.to_vec(), item.value.to_vec()));
        }
        rows
    }

    fn told(rows: &[(Vec<u8>, Vec<u8>)]) -> Option<Name> {
        bucket_of(rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))
    }

    /// Every row that real servers wrote is told for what it is, and fits no other bucket but where the file's head says so.
    #[test]
    fn what_servers_wrote_is_told() {
        let mut seen = std::collections::BTreeMap::new();
        for version in testdata::VERSIONS {
            for stage in testdata::STAGES {
                let bytes = testdata::snapshot(version, stage);
                let db = Db::from_source(bytes.as_slice()).unwrap();
                for bucket in Name::ALL {
                    let rows = rows_of(&db, bucket);
                    if rows.is_empty() {
                        continue;
                    }
                    assert_eq!(told(&rows), Some(bucket), "{version} {stage}: {rows:?}");
                    for (key, value) in &rows {
                        let fitting: Vec<Name> =
                            Name::ALL.into_iter().filter(|name| fits(*name, key, value)).collect();
                        let alike = [Name::AuthUsers, Name::AuthRoles];
                        assert!(
                            fitting == [bucket] || (bucket == Name::AuthRoles && fitting == alike),
                            "{version}: {fitting:?}"
                        );
                    }
                    *seen.entry(bucket).or_insert(0) += rows.len();
                }
                // A record of a key is a row of none of them.
                let mut cursor = db.bucket(b"key").unwrap().unwrap();
                let mut cursor = std::mem::replace(&mut cursor, db.root()).cursor();
                while let Some(item) = cursor.next().unwrap() {
                    assert_eq!(bucket_of([(item.key, item.value)]), None);
                }
            }
        }
        // The fixtures have no member that was removed.
        assert_eq!(seen.len(), Name::ALL.len() - 1, "{seen:?}");
    }

    #[test]
    fn what_no_server_wrote_is_nothing() {
        assert_eq!(bucket_of([]), None);
        let of = |key: &[u8], value: &[u8]| bucket_of([(key, value)]);
        assert_eq!(of(b"8e9e05c52164694d", REMOVED), Some(Name::MembersRemoved));
        assert_eq!(of(b"8", REMOVED), Some(Name::MembersRemoved));
        for key in [&b"08"[..], b"8E", b"+8", b"", b"12345678901234567", b"xyz"] {
            assert_eq!(of(key, REMOVED), None, "{key:?}");
        }
        assert_eq!(of(b"8", br#"{"id":8,"peerURLs":["http://a:1"]}"#), Some(Name::Members));
        assert_eq!(of(b"9", br#"{"id":8,"peerURLs":["http://a:1"]}"#), None);
        assert_eq!(of(b"authEnabled", &[1]), Some(Name::Auth));
        assert_eq!(of(b"authEnabled", &[2]), None);
        assert_eq!(of(b"authRevision", &[0; 7]), None);
        assert_eq!(of(b"clusterVersion", b"3.5.0"), Some(Name::Cluster));
        assert_eq!(of(b"clusterVersion", b"three"), None);
        // A lease of another id, one without a time to live, one with a byte behind.
        let lease = |id: i64, ttl| LeaseRow { id, ttl, remaining_ttl: 0 }.encode_to_vec();
        assert_eq!(of(&7_i64.to_be_bytes(), &lease(7, 60)), Some(Name::Lease));
        assert_eq!(of(&7_i64.to_be_bytes(), &lease(8, 60)), None);
        assert_eq!(of(&7_i64.to_be_bytes(), &lease(7, 0)), None);
        assert_eq!(of(&7_i64.to_be_bytes(), &[lease(7, 60), vec![0]].concat()), None);
        // Rows that each fit some bucket, but no two the same one.
        assert_eq!(bucket_of([(&b"8"[..], REMOVED), (b"authEnabled", &[1])]), None);
    }

    proptest! {
        /// Whatever the bytes, there is an answer, and a row with one bit turned is of the same bucket or of none.
        #[test]
        fn bytes_are_looked_at_without_trust(key in prop::collection::vec(any::<u8>(), 0..24), value in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(bucket) = bucket_of([(key.as_slice(), value.as_slice())]) {
                prop_assert!(fits(bucket, &key, &value));
            }
        }
    }
}
