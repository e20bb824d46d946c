//! Which version of etcd brought what an entry can hold: the annotations in etcd's definitions at v3.7.1, as far as etcd itself
//! looks at them (`server/storage/wal/version.go`).
//!
//! It looks at a request and the messages that lie in it once, not at those in lists: what the operations of a transaction are
//! does not count.

use crate::request::schema::{self, MessageType};

/// What a message came with.
#[derive(Debug)]
pub(super) struct Since {
    /// Its full name in etcd's definitions.
    pub(super) name: &'static str,
    /// How its fields are called and typed.
    pub(super) kind: &'static MessageType,
    /// The minor version that brought it; `None` where nobody wrote that down.
    pub(super) minor: Option<i64>,
    /// The numbers of the fields that a later version brought, each with that.
    pub(super) fields: &'static [(i32, i64)],
    /// The numbers of the fields that hold one of some names, each with those.
    pub(super) names: &'static [(i32, &'static Names)],
    /// The numbers of the fields that hold one message, each with that.
    pub(super) messages: &'static [(i32, &'static Since)],
}

/// What a set of names came with.
#[derive(Debug)]
pub(super) struct Names {
    /// Its full name.
    pub(super) name: &'static str,
    /// The minor version that brought it.
    pub(super) minor: Option<i64>,
    /// Those of its values that a later version brought, each with that and its full name.
    pub(super) values: &'static [(i32, i64, &'static str)],
}

const fn plain(name: &'static str, kind: &'static MessageType, minor: i64) -> Since {
    Since { name, kind, minor: Some(minor), fields: &[], names: &[], messages: &[] }
}

const fn names(name: &'static str, minor: i64) -> Names {
    Names { name, minor: Some(minor), values: &[] }
}

static SORT_ORDER: Names = names("etcdserverpb.RangeRequest.SortOrder", 0);
static SORT_TARGET: Names = names("etcdserverpb.RangeRequest.SortTarget", 0);
static ALARM_ACTION: Names = names("etcdserverpb.AlarmRequest.AlarmAction", 0);
static ALARM_TYPE: Names =
    Names { name: "etcdserverpb.AlarmType", minor: Some(0), values: &[(2, 3, "etcdserverpb.CORRUPT")] };
static PERMISSION_TYPE: Names = Names { name: "authpb.Permission.Type", minor: None, values: &[] };

static HEADER: Since =
    Since { fields: &[(3, 1)], ..plain("etcdserverpb.RequestHeader", &schema::REQUEST_HEADER, 0) };
static RANGE: Since = Since {
    fields: &[(10, 1), (11, 1), (12, 1), (13, 1)],
    names: &[(5, &SORT_ORDER), (6, &SORT_TARGET)],
    ..plain("etcdserverpb.RangeRequest", &schema::RANGE, 0)
};
static PUT: Since =
    Since { fields: &[(4, 1), (5, 2), (6, 2)], ..plain("etcdserverpb.PutRequest", &schema::PUT, 0) };
static DELETE_RANGE: Since =
    Since { fields: &[(3, 1)], ..plain("etcdserverpb.DeleteRangeRequest", &schema::DELETE_RANGE, 0) };
static TXN: Since = plain("etcdserverpb.TxnRequest", &schema::TXN, 0);
static COMPACTION: Since = plain("etcdserverpb.CompactionRequest", &schema::COMPACTION, 0);
static LEASE_GRANT: Since = plain("etcdserverpb.LeaseGrantRequest", &schema::LEASE_GRANT, 0);
static LEASE_REVOKE: Since = plain("etcdserverpb.LeaseRevokeRequest", &schema::LEASE_REVOKE, 0);
static LEASE_CHECKPOINT: Since = plain("etcdserverpb.LeaseCheckpointRequest", &schema::LEASE_CHECKPOINTS, 4);
static ALARM: Since = Since {
    names: &[(1, &ALARM_ACTION), (3, &ALARM_TYPE)],
    ..plain("etcdserverpb.AlarmRequest", &schema::ALARM, 0)
};
static AUTH_ENABLE: Since = plain("etcdserverpb.AuthEnableRequest", &schema::NOTHING, 0);
static AUTH_DISABLE: Since = plain("etcdserverpb.AuthDisableRequest", &schema::NOTHING, 0);
static AUTH_STATUS: Since = plain("etcdserverpb.AuthStatusRequest", &schema::NOTHING, 5);
static AUTHENTICATE: Since = plain("etcdserverpb.InternalAuthenticateRequest", &schema::AUTHENTICATE, 0);
static USER_ADD_OPTIONS: Since =
    Since { minor: None, ..plain("authpb.UserAddOptions", &schema::USER_ADD_OPTIONS, 0) };
static USER_ADD: Since = Since {
    fields: &[(3, 4), (4, 5)],
    messages: &[(3, &USER_ADD_OPTIONS)],
    ..plain("etcdserverpb.AuthUserAddRequest", &schema::AUTH_USER_ADD, 0)
};
static USER_DELETE: Since = plain("etcdserverpb.AuthUserDeleteRequest", &schema::NAME, 0);
static USER_GET: Since = plain("etcdserverpb.AuthUserGetRequest", &schema::NAME, 0);
static USER_CHANGE_PASSWORD: Since = Since {
    fields: &[(3, 5)],
    ..plain("etcdserverpb.AuthUserChangePasswordRequest", &schema::AUTH_USER_CHANGE_PASSWORD, 0)
};
static USER_GRANT_ROLE: Since =
    plain("etcdserverpb.AuthUserGrantRoleRequest", &schema::AUTH_USER_GRANT_ROLE, 0);
static USER_REVOKE_ROLE: Since =
    plain("etcdserverpb.AuthUserRevokeRoleRequest", &schema::AUTH_USER_REVOKE_ROLE, 0);
static USER_LIST: Since = plain("etcdserverpb.AuthUserListRequest", &schema::NOTHING, 0);
static ROLE_LIST: Since = plain("etcdserverpb.AuthRoleListRequest", &schema::NOTHING, 0);
static ROLE_ADD: Since = plain("etcdserverpb.AuthRoleAddRequest", &schema::NAME, 0);
static ROLE_DELETE: Since = plain("etcdserverpb.AuthRoleDeleteRequest", &schema::ROLE, 0);
static ROLE_GET: Since = plain("etcdserverpb.AuthRoleGetRequest", &schema::ROLE, 0);
static PERMISSION: Since = Since {
    minor: None,
    names: &[(1, &PERMISSION_TYPE)],
    ..plain("authpb.Permission", &schema::PERMISSION, 0)
};
static ROLE_GRANT: Since = Since {
    messages: &[(2, &PERMISSION)],
    ..plain("etcdserverpb.AuthRoleGrantPermissionRequest", &schema::AUTH_ROLE_GRANT_PERMISSION, 0)
};
static ROLE_REVOKE: Since =
    plain("etcdserverpb.AuthRoleRevokePermissionRequest", &schema::AUTH_ROLE_REVOKE_PERMISSION, 0);
static CLUSTER_VERSION_SET: Since = plain("membershippb.ClusterVersionSetRequest", &schema::VERSION, 5);
static ATTRIBUTES: Since = plain("membershippb.Attributes", &schema::ATTRIBUTES, 5);
static MEMBER_ATTR_SET: Since = Since {
    messages: &[(2, &ATTRIBUTES)],
    ..plain("membershippb.ClusterMemberAttrSetRequest", &schema::CLUSTER_MEMBER_ATTR_SET, 5)
};
static DOWNGRADE_INFO_SET: Since =
    plain("membershippb.DowngradeInfoSetRequest", &schema::DOWNGRADE_INFO_SET, 5);
static DOWNGRADE_VERSION_TEST: Since = plain("etcdserverpb.DowngradeVersionTestRequest", &schema::VERSION, 6);

/// `etcdserverpb.InternalRaftRequest`, what an entry asks for.
pub(super) static REQUEST: Since = Since {
    name: "etcdserverpb.InternalRaftRequest",
    kind: &schema::INTERNAL_RAFT_REQUEST,
    minor: Some(0),
    fields: &[(11, 4), (1013, 5), (1300, 5), (1301, 5), (1302, 5), (9900, 6)],
    names: &[],
    messages: &[
        (100, &HEADER),
        (3, &RANGE),
        (4, &PUT),
        (5, &DELETE_RANGE),
        (6, &TXN),
        (7, &COMPACTION),
        (8, &LEASE_GRANT),
        (9, &LEASE_REVOKE),
        (10, &ALARM),
        (11, &LEASE_CHECKPOINT),
        (1000, &AUTH_ENABLE),
        (1011, &AUTH_DISABLE),
        (1013, &AUTH_STATUS),
        (1012, &AUTHENTICATE),
        (1100, &USER_ADD),
        (1101, &USER_DELETE),
        (1102, &USER_GET),
        (1103, &USER_CHANGE_PASSWORD),
        (1104, &USER_GRANT_ROLE),
        (1105, &USER_REVOKE_ROLE),
        (1106, &USER_LIST),
        (1107, &ROLE_LIST),
        (1200, &ROLE_ADD),
        (1201, &ROLE_DELETE),
        (1202, &ROLE_GET),
        (1203, &ROLE_GRANT),
        (1204, &ROLE_REVOKE),
        (1300, &CLUSTER_VERSION_SET),
        (1301, &MEMBER_ATTR_SET),
        (1302, &DOWNGRADE_INFO_SET),
        (9900, &DOWNGRADE_VERSION_TEST),
    ],
};

impl Since {
    /// The full name of one of its fields.
    pub(super) fn field_name(&self, number: i32) -> String {
        let field = self.kind.fields.iter().find(|field| field.number == number);
        format!("{}.{}", self.name, field.map_or("?", |field| field.name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::request::schema::{Field, Kind, Label};

    /// Whether a message in this field is looked into: one that stands in a list is not.
    fn is_looked_into(field: &Field) -> bool {
        matches!(field.kind, Kind::Message(_)) && field.label != Label::Repeated
    }

    /// Every annotation of the table by its full name, walked from the request.
    fn table() -> BTreeMap<String, Option<i64>> {
        let mut found = BTreeMap::new();
        let mut stack = vec![&REQUEST];
        while let Some(message) = stack.pop() {
            found.insert(message.name.to_owned(), message.minor);
            for field in message.kind.fields {
                let since = message.fields.iter().find(|(number, _)| *number == field.number);
                found.insert(message.field_name(field.number), since.map(|(_, minor)| *minor));
            }
            for (_, names) in message.names {
                found.insert(names.name.to_owned(), names.minor);
                found.extend(names.values.iter().map(|(_, minor, name)| ((*name).to_owned(), Some(*minor))));
            }
            stack.extend(message.messages.iter().map(|(_, message)| *message));
        }
        // 3.7 does not know it any more, and nobody ever wrote down which version brought it.
        found.remove("etcdserverpb.InternalRaftRequest.v2");
        found
    }

    /// `samples/etcd-version-annotations-3.7.1.tsv` is what etcd's own list of annotations says of these messages, names of
    /// values included.
    #[test]
    fn the_table_is_that_of_etcd_3_7_1() {
        let theirs: BTreeMap<String, Option<i64>> = testdata::sample("etcd-version-annotations-3.7.1.tsv")
            .lines()
            .map(|line| {
                let (name, version) = line.split_once('\t').unwrap();
                (name.to_owned(), version.strip_prefix("3.").map(|minor| minor.parse().unwrap()))
            })
            .collect();
        let ours = table();
        assert!(ours.len() > 100, "{}", ours.len());
        for (name, minor) in &ours {
            assert_eq!(theirs.get(name), Some(minor), "{name}");
        }
        for (name, minor) in theirs.iter().filter(|(_, minor)| minor.is_some()) {
            assert_eq!(ours.get(name), Some(minor), "{name}");
        }
    }

    /// Whatever lies once in a message of the table is in the table: none is forgotten.
    #[test]
    fn every_message_and_every_set_of_names_is_in_it() {
        let mut stack = vec![&REQUEST];
        while let Some(message) = stack.pop() {
            for field in message.kind.fields.iter().filter(|field| field.name != "v2") {
                let at = message.messages.iter().find(|(number, _)| *number == field.number);
                assert_eq!(at.is_some(), is_looked_into(field), "{}", message.field_name(field.number));
                if let (Kind::Message(kind), Some((_, of))) = (field.kind, at) {
                    assert!(std::ptr::eq(kind, of.kind), "{}", of.name);
                }
                let names = message.names.iter().any(|(number, _)| *number == field.number);
                assert_eq!(
                    names,
                    matches!(field.kind, Kind::Enum(_)),
                    "{}",
                    message.field_name(field.number)
                );
            }
            stack.extend(message.messages.iter().map(|(_, message)| *message));
        }
    }
}
