//! The messages an entry can carry, as tables (FORMATS G.1, G.2, E.9): what is read, walked and printed is decided here.
//!
//! Fields stand in the order in which etcd's own definitions declare them, since that is the order in which etcd
//! prints them. Names are those of the protobuf definitions.

/// One message type.
#[derive(Debug)]
pub struct MessageType {
    /// Its name in etcd's definitions.
    pub name: &'static str,
    /// Its fields in the order in which they are declared; at most 64.
    pub fields: &'static [Field],
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its number on the wire.
    pub number: i32,
    /// Its name in etcd's definitions.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// How often it may stand in a message.
    pub label: Label,
    /// What its values mean to those who search or hide.
    pub role: Role,
}

/// What a field's values are.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// True or false.
    Bool,
    /// A signed number of 64 bits.
    Int64,
    /// An unsigned number of 64 bits.
    Uint64,
    /// One of these names, counted from 0; servers keep numbers without a name.
    Enum(&'static [&'static str]),
    /// Bytes.
    Bytes,
    /// Text; nobody checks that it is UTF-8.
    String,
    /// A message.
    Message(&'static MessageType),
}

/// How often a field may stand in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Once; its zero value counts as absent. Of several the last counts; messages are merged.
    Singular,
    /// Once; a zero that was written counts as present.
    Explicit,
    /// Any number of times.
    Repeated,
    /// One of the message's only group of alternatives; the last one on the wire replaces those before it.
    Oneof,
}

/// What a field's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing special.
    Plain,
    /// A key, or the first key of a range when the message has a range end.
    Key,
    /// The key after the last of a range; `\0` for no end (FORMATS G.7).
    RangeEnd,
    /// What a key holds.
    Value,
    /// A lease's ID.
    Lease,
    /// A member's ID.
    Member,
    /// Another ID.
    Id,
    /// A password, or what stands for one.
    Secret,
    /// A path in the v2 store.
    Path,
    /// A message in its serialised form.
    Encoded,
}

impl Field {
    const fn new(number: i32, name: &'static str, kind: Kind) -> Self {
        Self { number, name, kind, label: Label::Singular, role: Role::Plain }
    }

    const fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    const fn label(self, label: Label) -> Self {
        Self { label, ..self }
    }
}

use Field as F;
use Kind::{Bool, Bytes, Enum, Int64, Message, String, Uint64};
use Label::{Explicit, Oneof, Repeated};

/// `etcdserverpb.RequestHeader`.
pub static REQUEST_HEADER: MessageType = MessageType {
    name: "RequestHeader",
    fields: &[
        F::new(1, "ID", Uint64).role(Role::Id),
        F::new(2, "username", String),
        F::new(3, "auth_revision", Uint64),
    ],
};

/// `etcdserverpb.InternalRaftRequest`: what an entry asks the server for (FORMATS G.1).
pub static INTERNAL_RAFT_REQUEST: MessageType = MessageType {
    name: "InternalRaftRequest",
    fields: &[
        F::new(100, "header", Message(&REQUEST_HEADER)),
        F::new(1, "ID", Uint64).role(Role::Id),
        F::new(2, "v2", Message(&V2_REQUEST)),
        F::new(3, "range", Message(&RANGE)),
        F::new(4, "put", Message(&PUT)),
        F::new(5, "delete_range", Message(&DELETE_RANGE)),
        F::new(6, "txn", Message(&TXN)),
        F::new(7, "compaction", Message(&COMPACTION)),
        F::new(8, "lease_grant", Message(&LEASE_GRANT)),
        F::new(9, "lease_revoke", Message(&LEASE_REVOKE)),
        F::new(10, "alarm", Message(&ALARM)),
        F::new(11, "lease_checkpoint", Message(&LEASE_CHECKPOINTS)),
        F::new(1000, "auth_enable", Message(&NOTHING)),
        F::new(1011, "auth_disable", Message(&NOTHING)),
        F::new(1013, "auth_status", Message(&NOTHING)),
        F::new(1012, "authenticate", Message(&AUTHENTICATE)),
        F::new(1100, "auth_user_add", Message(&AUTH_USER_ADD)),
        F::new(1101, "auth_user_delete", Message(&NAME)),
        F::new(1102, "auth_user_get", Message(&NAME)),
        F::new(1103, "auth_user_change_password", Message(&AUTH_USER_CHANGE_PASSWORD)),
        F::new(1104, "auth_user_grant_role", Message(&AUTH_USER_GRANT_ROLE)),
        F::new(1105, "auth_user_revoke_role", Message(&AUTH_USER_REVOKE_ROLE)),
        F::new(1106, "auth_user_list", Message(&NOTHING)),
        F::new(1107, "auth_role_list", Message(&NOTHING)),
        F::new(1200, "auth_role_add", Message(&NAME)),
        F::new(1201, "auth_role_delete", Message(&ROLE)),
        F::new(1202, "auth_role_get", Message(&ROLE)),
        F::new(1203, "auth_role_grant_permission", Message(&AUTH_ROLE_GRANT_PERMISSION)),
        F::new(1204, "auth_role_revoke_permission", Message(&AUTH_ROLE_REVOKE_PERMISSION)),
        F::new(1300, "cluster_version_set", Message(&VERSION)),
        F::new(1301, "cluster_member_attr_set", Message(&CLUSTER_MEMBER_ATTR_SET)),
        F::new(1302, "downgrade_info_set", Message(&DOWNGRADE_INFO_SET)),
        F::new(9900, "downgrade_version_test", Message(&VERSION)),
    ],
};

/// `etcdserverpb.RangeRequest`.
pub static RANGE: MessageType = MessageType {
    name: "RangeRequest",
    fields: &[
        F::new(1, "key", Bytes).role(Role::Key),
        F::new(2, "range_end", Bytes).role(Role::RangeEnd),
        F::new(3, "limit", Int64),
        F::new(4, "revision", Int64),
        F::new(5, "sort_order", Enum(&["NONE", "ASCEND", "DESCEND"])),
        F::new(6, "sort_target", Enum(&["KEY", "VERSION", "CREATE", "MOD", "VALUE"])),
        F::new(7, "serializable", Bool),
        F::new(8, "keys_only", Bool),
        F::new(9, "count_only", Bool),
        F::new(10, "min_mod_revision", Int64),
        F::new(11, "max_mod_revision", Int64),
        F::new(12, "min_create_revision", Int64),
        F::new(13, "max_create_revision", Int64),
    ],
};

/// `etcdserverpb.PutRequest`.
pub static PUT: MessageType = MessageType {
    name: "PutRequest",
    fields: &[
        F::new(1, "key", Bytes).role(Role::Key),
        F::new(2, "value", Bytes).role(Role::Value),
        F::new(3, "lease", Int64).role(Role::Lease),
        F::new(4, "prev_kv", Bool),
        F::new(5, "ignore_value", Bool),
        F::new(6, "ignore_lease", Bool),
    ],
};

/// `etcdserverpb.DeleteRangeRequest`.
pub static DELETE_RANGE: MessageType = MessageType {
    name: "DeleteRangeRequest",
    fields: &[
        F::new(1, "key", Bytes).role(Role::Key),
        F::new(2, "range_end", Bytes).role(Role::RangeEnd),
        F::new(3, "prev_kv", Bool),
    ],
};

/// `etcdserverpb.TxnRequest`: the only message that can hold itself.
pub static TXN: MessageType = MessageType {
    name: "TxnRequest",
    fields: &[
        F::new(1, "compare", Message(&COMPARE)).label(Repeated),
        F::new(2, "success", Message(&REQUEST_OP)).label(Repeated),
        F::new(3, "failure", Message(&REQUEST_OP)).label(Repeated),
    ],
};

/// `etcdserverpb.RequestOp`: one operation of a transaction.
pub static REQUEST_OP: MessageType = MessageType {
    name: "RequestOp",
    fields: &[
        F::new(1, "request_range", Message(&RANGE)).label(Oneof),
        F::new(2, "request_put", Message(&PUT)).label(Oneof),
        F::new(3, "request_delete_range", Message(&DELETE_RANGE)).label(Oneof),
        F::new(4, "request_txn", Message(&TXN)).label(Oneof),
    ],
};

/// `etcdserverpb.Compare`: one condition of a transaction.
pub static COMPARE: MessageType = MessageType {
    name: "Compare",
    fields: &[
        F::new(1, "result", Enum(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])),
        F::new(2, "target", Enum(&["VERSION", "CREATE", "MOD", "VALUE", "LEASE"])),
        F::new(3, "key", Bytes).role(Role::Key),
        F::new(4, "version", Int64).label(Oneof),
        F::new(5, "create_revision", Int64).label(Oneof),
        F::new(6, "mod_revision", Int64).label(Oneof),
        F::new(7, "value", Bytes).label(Oneof).role(Role::Value),
        F::new(8, "lease", Int64).label(Oneof).role(Role::Lease),
        F::new(64, "range_end", Bytes).role(Role::RangeEnd),
    ],
};

/// `etcdserverpb.CompactionRequest`.
pub static COMPACTION: MessageType = MessageType {
    name: "CompactionRequest",
    fields: &[F::new(1, "revision", Int64), F::new(2, "physical", Bool)],
};

/// `etcdserverpb.LeaseGrantRequest`.
pub static LEASE_GRANT: MessageType = MessageType {
    name: "LeaseGrantRequest",
    fields: &[F::new(1, "TTL", Int64), F::new(2, "ID", Int64).role(Role::Lease)],
};

/// `etcdserverpb.LeaseRevokeRequest`.
pub static LEASE_REVOKE: MessageType =
    MessageType { name: "LeaseRevokeRequest", fields: &[F::new(1, "ID", Int64).role(Role::Lease)] };

/// `etcdserverpb.LeaseCheckpointRequest`.
pub static LEASE_CHECKPOINTS: MessageType = MessageType {
    name: "LeaseCheckpointRequest",
    fields: &[F::new(1, "checkpoints", Message(&LEASE_CHECKPOINT)).label(Repeated)],
};

/// `etcdserverpb.LeaseCheckpoint`.
pub static LEASE_CHECKPOINT: MessageType = MessageType {
    name: "LeaseCheckpoint",
    fields: &[F::new(1, "ID", Int64).role(Role::Lease), F::new(2, "remaining_TTL", Int64)],
};

/// `etcdserverpb.AlarmRequest`.
pub static ALARM: MessageType = MessageType {
    name: "AlarmRequest",
    fields: &[
        F::new(1, "action", Enum(&["GET", "ACTIVATE", "DEACTIVATE"])),
        F::new(2, "memberID", Uint64).role(Role::Member),
        F::new(3, "alarm", Enum(&["NONE", "NOSPACE", "CORRUPT"])),
    ],
};

/// The requests without a field: `AuthEnableRequest` and its like.
pub static NOTHING: MessageType = MessageType { name: "request without fields", fields: &[] };

/// The requests that name a user, or the role to add.
pub static NAME: MessageType =
    MessageType { name: "request with a name", fields: &[F::new(1, "name", String)] };

/// The requests that name a role.
pub static ROLE: MessageType =
    MessageType { name: "request with a role", fields: &[F::new(1, "role", String)] };

/// The requests that name a version.
pub static VERSION: MessageType =
    MessageType { name: "request with a version", fields: &[F::new(1, "ver", String)] };

/// `etcdserverpb.InternalAuthenticateRequest`. Up to 3.1 the password was in the log; the token is of use for minutes.
pub static AUTHENTICATE: MessageType = MessageType {
    name: "InternalAuthenticateRequest",
    fields: &[
        F::new(1, "name", String),
        F::new(2, "password", String).role(Role::Secret),
        F::new(3, "simple_token", String),
    ],
};

/// `etcdserverpb.AuthUserAddRequest`. Up to 3.4 the password is in clear; from 3.5 on its bcrypt hash in base64.
pub static AUTH_USER_ADD: MessageType = MessageType {
    name: "AuthUserAddRequest",
    fields: &[
        F::new(1, "name", String),
        F::new(2, "password", String).role(Role::Secret),
        F::new(3, "options", Message(&USER_ADD_OPTIONS)),
        F::new(4, "hashedPassword", String).role(Role::Secret),
    ],
};

/// `authpb.UserAddOptions`.
pub static USER_ADD_OPTIONS: MessageType =
    MessageType { name: "UserAddOptions", fields: &[F::new(1, "no_password", Bool)] };

/// `etcdserverpb.AuthUserChangePasswordRequest`; passwords as in [`AUTH_USER_ADD`].
pub static AUTH_USER_CHANGE_PASSWORD: MessageType = MessageType {
    name: "AuthUserChangePasswordRequest",
    fields: &[
        F::new(1, "name", String),
        F::new(2, "password", String).role(Role::Secret),
        F::new(3, "hashedPassword", String).role(Role::Secret),
    ],
};

/// `etcdserverpb.AuthUserGrantRoleRequest`.
pub static AUTH_USER_GRANT_ROLE: MessageType = MessageType {
    name: "AuthUserGrantRoleRequest",
    fields: &[F::new(1, "user", String), F::new(2, "role", String)],
};

/// `etcdserverpb.AuthUserRevokeRoleRequest`.
pub static AUTH_USER_REVOKE_ROLE: MessageType = MessageType {
    name: "AuthUserRevokeRoleRequest",
    fields: &[F::new(1, "name", String), F::new(2, "role", String)],
};

/// `etcdserverpb.AuthRoleGrantPermissionRequest`.
pub static AUTH_ROLE_GRANT_PERMISSION: MessageType = MessageType {
    name: "AuthRoleGrantPermissionRequest",
    fields: &[F::new(1, "name", String), F::new(2, "perm", Message(&PERMISSION))],
};

/// `authpb.Permission`.
pub static PERMISSION: MessageType = MessageType {
    name: "Permission",
    fields: &[
        F::new(1, "permType", Enum(&["READ", "WRITE", "READWRITE"])),
        F::new(2, "key", Bytes).role(Role::Key),
        F::new(3, "range_end", Bytes).role(Role::RangeEnd),
    ],
};

/// `authpb.Role`, a row of bucket `authRoles`.
pub static ROLE_ROW: MessageType = MessageType {
    name: "Role",
    fields: &[F::new(1, "name", Bytes), F::new(2, "keyPermission", Message(&PERMISSION)).label(Repeated)],
};

/// `authpb.User`, a row of bucket `authUsers`. What is kept of the password is a hash of it.
pub static USER_ROW: MessageType = MessageType {
    name: "User",
    fields: &[
        F::new(1, "name", Bytes),
        F::new(2, "password", Bytes).role(Role::Secret),
        F::new(3, "roles", String).label(Repeated),
        F::new(4, "options", Message(&USER_ADD_OPTIONS)),
    ],
};

/// `leasepb.Lease`, a row of bucket `lease`.
pub static LEASE_ROW: MessageType = MessageType {
    name: "Lease",
    fields: &[
        F::new(1, "ID", Int64).role(Role::Lease),
        F::new(2, "TTL", Int64),
        F::new(3, "RemainingTTL", Int64),
    ],
};

/// `etcdserverpb.AuthRoleRevokePermissionRequest`.
pub static AUTH_ROLE_REVOKE_PERMISSION: MessageType = MessageType {
    name: "AuthRoleRevokePermissionRequest",
    fields: &[
        F::new(1, "role", String),
        F::new(2, "key", Bytes).role(Role::Key),
        F::new(3, "range_end", Bytes).role(Role::RangeEnd),
    ],
};

/// `membershippb.ClusterMemberAttrSetRequest`.
pub static CLUSTER_MEMBER_ATTR_SET: MessageType = MessageType {
    name: "ClusterMemberAttrSetRequest",
    fields: &[
        F::new(1, "member_ID", Uint64).role(Role::Member),
        F::new(2, "member_attributes", Message(&ATTRIBUTES)),
    ],
};

/// `membershippb.Attributes`.
pub static ATTRIBUTES: MessageType = MessageType {
    name: "Attributes",
    fields: &[F::new(1, "name", String), F::new(2, "client_urls", String).label(Repeated)],
};

/// `membershippb.DowngradeInfoSetRequest`.
pub static DOWNGRADE_INFO_SET: MessageType = MessageType {
    name: "DowngradeInfoSetRequest",
    fields: &[F::new(1, "enabled", Bool), F::new(2, "ver", String)],
};

/// `etcdserverpb.Request`: what servers up to 3.5 ask for through the v2 store, and 3.6 still reads.
pub static V2_REQUEST: MessageType = MessageType {
    name: "Request",
    fields: &[
        F::new(1, "ID", Uint64).role(Role::Id),
        F::new(2, "Method", String),
        F::new(3, "Path", String).role(Role::Path),
        F::new(4, "Val", String).role(Role::Value),
        F::new(5, "Dir", Bool),
        F::new(6, "PrevValue", String).role(Role::Value),
        F::new(7, "PrevIndex", Uint64),
        F::new(8, "PrevExist", Bool).label(Explicit),
        F::new(9, "Expiration", Int64),
        F::new(10, "Wait", Bool),
        F::new(11, "Since", Uint64),
        F::new(12, "Recursive", Bool),
        F::new(13, "Sorted", Bool),
        F::new(14, "Quorum", Bool),
        F::new(15, "Time", Int64),
        F::new(16, "Stream", Bool),
        F::new(17, "Refresh", Bool).label(Explicit),
    ],
};

const CHANGE_TYPES: Kind =
    Enum(&["ConfChangeAddNode", "ConfChangeRemoveNode", "ConfChangeUpdateNode", "ConfChangeAddLearnerNode"]);

/// `raftpb.ConfChange`: the data of an entry that changes one member.
pub static CONF_CHANGE: MessageType = MessageType {
    name: "ConfChange",
    fields: &[
        F::new(2, "type", CHANGE_TYPES),
        F::new(3, "node_id", Uint64).role(Role::Member),
        F::new(4, "context", Bytes).label(Explicit),
        F::new(1, "id", Uint64).role(Role::Id),
    ],
};

/// `raftpb.ConfChangeV2`: the data of an entry that changes several members. No etcd server writes one.
pub static CONF_CHANGE_V2: MessageType = MessageType {
    name: "ConfChangeV2",
    fields: &[
        F::new(
            1,
            "transition",
            Enum(&[
                "ConfChangeTransitionAuto",
                "ConfChangeTransitionJointImplicit",
                "ConfChangeTransitionJointExplicit",
            ]),
        ),
        F::new(2, "changes", Message(&CONF_CHANGE_SINGLE)).label(Repeated),
        F::new(3, "context", Bytes).label(Explicit),
    ],
};

/// `raftpb.ConfChangeSingle`.
pub static CONF_CHANGE_SINGLE: MessageType = MessageType {
    name: "ConfChangeSingle",
    fields: &[F::new(1, "type", CHANGE_TYPES), F::new(2, "node_id", Uint64).role(Role::Member)],
};

/// `raftpb.Entry`.
pub static ENTRY: MessageType = MessageType {
    name: "Entry",
    fields: &[
        F::new(2, "Term", Uint64),
        F::new(3, "Index", Uint64),
        F::new(1, "Type", Enum(&["EntryNormal", "EntryConfChange", "EntryConfChangeV2"])),
        F::new(4, "Data", Bytes).label(Explicit).role(Role::Encoded),
    ],
};

/// `raftpb.HardState`.
pub static HARD_STATE: MessageType = MessageType {
    name: "HardState",
    fields: &[
        F::new(1, "term", Uint64),
        F::new(2, "vote", Uint64).role(Role::Member),
        F::new(3, "commit", Uint64),
    ],
};

/// `raftpb.ConfState`.
pub static CONF_STATE: MessageType = MessageType {
    name: "ConfState",
    fields: &[
        F::new(1, "voters", Uint64).label(Repeated).role(Role::Member),
        F::new(2, "learners", Uint64).label(Repeated).role(Role::Member),
        F::new(3, "voters_outgoing", Uint64).label(Repeated).role(Role::Member),
        F::new(4, "learners_next", Uint64).label(Repeated).role(Role::Member),
        F::new(5, "auto_leave", Bool),
    ],
};

/// `walpb.Snapshot`: the data of a log's snapshot record.
pub static WAL_SNAPSHOT: MessageType = MessageType {
    name: "Snapshot",
    fields: &[
        F::new(1, "index", Uint64),
        F::new(2, "term", Uint64),
        F::new(3, "conf_state", Message(&CONF_STATE)),
    ],
};

/// `etcdserverpb.Metadata`: the data of a log's metadata record.
pub static METADATA: MessageType = MessageType {
    name: "Metadata",
    fields: &[F::new(1, "NodeID", Uint64).role(Role::Member), F::new(2, "ClusterID", Uint64).role(Role::Id)],
};

/// Every message a log can hold at its top, for tests and fuzzers.
pub static TOP_LEVEL: &[&MessageType] = &[
    &INTERNAL_RAFT_REQUEST,
    &V2_REQUEST,
    &CONF_CHANGE,
    &CONF_CHANGE_V2,
    &ENTRY,
    &HARD_STATE,
    &WAL_SNAPSHOT,
    &METADATA,
];
