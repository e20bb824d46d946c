//! Users, roles and the switch of authentication, as a db has them (FORMATS B.1, B.3, G.6).

mod reset;

pub use reset::{BCRYPT_COST, MOST_PASSWORD_BYTES, Reset, ResetError, ResetPatch, reset};

use std::collections::BTreeSet;
use std::str::FromStr;

use bbolt::fault::readable;
use bbolt::{Db, Fault, Source};
use prost::Message;

use crate::finding::{Finding, Severity};
use crate::schema::{
    AUTH, AUTH_ENABLED, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, Permission, RoleRow, UserRow, each_row,
};

/// The user that may do everything, if it has the role of that name.
pub const ROOT: &[u8] = b"root";
/// Where a range of keys without an end ends.
pub const NO_END: &[u8] = b"\0";
/// Findings told one by one; the rest are counted.
const MOST_FINDINGS: usize = 100;

/// What a db knows of authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// True when a client has to say who it is.
    pub enabled: bool,
    /// How often users, roles or the switch were changed; 0 before the first start.
    pub revision: u64,
    /// The users, by their names.
    pub users: Vec<User>,
    /// The roles, by their names.
    pub roles: Vec<Role>,
    /// Rows on which a server dies, and what keeps users from what they should be allowed.
    pub findings: Vec<Finding>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Vec<u8>,
    /// Its roles, as they stand in the row.
    pub roles: Vec<Vec<u8>>,
    /// True when it was added without a password, for certificates.
    pub no_password: bool,
    /// What is kept of its password.
    pub password: Password,
}

/// What is kept of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Nothing.
    None,
    /// A bcrypt hash.
    Bcrypt {
        /// The base-2 logarithm of the number of rounds.
        cost: u32,
        /// The hash with its salt, as text.
        hash: String,
    },
    /// Something with which nobody can log in.
    Unknown(Vec<u8>),
}

impl Password {
    fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::None;
        }
        let text = std::str::from_utf8(bytes).ok();
        match text.and_then(|text| Some((text, bcrypt::HashParts::from_str(text).ok()?))) {
            Some((text, parts)) => Self::Bcrypt { cost: parts.get_cost(), hash: text.to_owned() },
            None => Self::Unknown(bytes.to_vec()),
        }
    }
}

impl User {
    /// Whether a server finds the role `root` among its roles. It looks for it as in a sorted list, and misses it in one that is
    /// not.
    #[must_use]
    pub fn is_root(&self) -> bool {
        let at = self.roles.partition_point(|role| role.as_slice() < ROOT);
        self.roles.get(at).is_some_and(|role| role == ROOT)
    }
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: Vec<u8>,
    /// What it allows.
    pub permissions: Vec<Permission>,
}

/// The value behind the last key that begins with `prefix`, as etcd's clients compute it: the last byte that can be raised is;
/// `\0` when there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(at) => {
            let mut end: Vec<u8> = prefix.get(..=at).unwrap_or_default().to_vec();
            if let Some(last) = end.last_mut() {
                *last = last.saturating_add(1);
            }
            end
        }
        None => NO_END.to_vec(),
    }
}

impl Auth {
    /// Reads the three buckets of `db`. Rows that cannot be read are findings.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn read<S: Source>(db: &Db<S>) -> Result<Self, Fault> {
        let mut auth = Self::default();
        let mut found = Found::default();
        if let Some(bucket) = db.bucket(AUTH)? {
            auth.enabled = bucket.get(AUTH_ENABLED)?.is_some_and(|value| value == [1]);
            if let Some(value) = bucket.get(AUTH_REVISION)? {
                match value.first_chunk() {
                    Some(number) => auth.revision = u64::from_be_bytes(*number),
                    None => found.error(
                        format!(
                            "bucket auth, row authRevision: {} byte(s) instead of 8; a server dies when it starts on it",
                            value.len()
                        ),
                        None,
                    ),
                }
            }
        }
        each_row(db, AUTH_USERS, |key, value, offset| match UserRow::decode(value) {
            Ok(row) => {
                if let Some(role) = row.roles.iter().find(|role| std::str::from_utf8(role).is_err()) {
                    found.error(
                        format!(
                            "bucket authUsers, user {}: the name of role {} is no UTF-8; etcd 3.7 dies on it",
                            readable(key),
                            readable(role)
                        ),
                        Some(offset),
                    );
                }
                found.name("authUsers", key, &row.name, offset);
                auth.users.push(User {
                    name: key.to_vec(),
                    no_password: row.options.is_some_and(|options| options.no_password),
                    password: Password::of(&row.password),
                    roles: row.roles,
                });
            }
            Err(error) => found.unreadable("authUsers", key, &error, offset),
        })?;
        each_row(db, AUTH_ROLES, |key, value, offset| match RoleRow::decode(value) {
            Ok(row) => {
                found.name("authRoles", key, &row.name, offset);
                auth.roles.push(Role { name: key.to_vec(), permissions: row.permissions });
            }
            Err(error) => found.unreadable("authRoles", key, &error, offset),
        })?;
        auth.look_at_users(&mut found);
        auth.look_at_roles(&mut found);
        auth.findings = found.into_findings();
        Ok(auth)
    }

    /// The user of this name.
    #[must_use]
    pub fn user(&self, name: &[u8]) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    fn look_at_users(&self, found: &mut Found) {
        if self.enabled {
            match self.user(ROOT) {
                None => found.warning(
                    "authentication is on and there is no user root: only another user with the role root can administer \
                     it"
                    .to_owned(),
                ),
                Some(root) if !root.is_root() => found.warning(
                    "authentication is on and user root does not have the role root: it may do no more than its other \
                     roles allow"
                        .to_owned(),
                ),
                Some(_) => {}
            }
        }
        let known: BTreeSet<&[u8]> = self.roles.iter().map(|role| role.name.as_slice()).collect();
        for user in &self.users {
            let name = readable(&user.name);
            if !user.roles.is_sorted() {
                found.warning(format!(
                    "user {name}: its roles are not in order; a server may not find the role root among them"
                ));
            }
            // The role root needs no row.
            let missing = |role: &&[u8]| *role != ROOT && !known.contains(role);
            if let Some(role) = user.roles.iter().map(Vec::as_slice).find(missing) {
                found.warning(format!("user {name}: has the role {}, which does not exist", readable(role)));
            }
            if matches!(user.password, Password::Unknown(_)) {
                found.warning(format!(
                    "user {name}: what is kept of its password is no bcrypt hash; nobody can log in with it"
                ));
            }
        }
    }

    fn look_at_roles(&self, found: &mut Found) {
        for role in &self.roles {
            for permission in &role.permissions {
                let Permission { kind, key, range_end } = permission;
                let name = readable(&role.name);
                if !(0..=2).contains(kind) {
                    found.warning(format!(
                        "role {name}: a permission of the unknown type {kind} allows nothing"
                    ));
                }
                let is_range = !range_end.is_empty() && range_end != NO_END;
                if is_range && range_end <= key {
                    found.warning(format!(
                        "role {name}: the range from {} to {} is empty, and allows nothing",
                        readable(key),
                        readable(range_end)
                    ));
                }
            }
        }
    }
}

/// What is wrong, as it is found.
#[derive(Default)]
struct Found {
    listed: Vec<Finding>,
    more: u64,
}

impl Found {
    fn add(&mut self, finding: Finding) {
        if self.listed.len() < MOST_FINDINGS {
            self.listed.push(finding);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    fn error(&mut self, message: String, offset: Option<u64>) {
        self.add(Finding { offset, ..Finding::new("ETCD-ROW", Severity::Error, message) });
    }

    fn warning(&mut self, message: String) {
        self.add(Finding::new("ETCD-AUTH", Severity::Warning, message));
    }

    fn unreadable(&mut self, bucket: &str, key: &[u8], error: &prost::DecodeError, offset: u64) {
        let message = format!(
            "bucket {bucket}, row {}: {error}; a server dies when it starts on it, or when it first needs it",
            readable(key)
        );
        self.error(message, Some(offset));
    }

    fn name(&mut self, bucket: &str, key: &[u8], name: &[u8], offset: u64) {
        if key != name {
            let message =
                format!("bucket {bucket}, row {}: its value calls itself {}", readable(key), readable(name));
            self.add(Finding {
                offset: Some(offset),
                ..Finding::new("ETCD-AUTH", Severity::Warning, message)
            });
        }
    }

    fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.listed;
        if self.more > 0 {
            let message = format!("{} more findings about users and roles are not listed", self.more);
            findings.push(Finding::new("ETCD-AUTH", Severity::Warning, message));
        }
        findings
    }
}
