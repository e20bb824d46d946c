//! Users, roles and the switch: what entries make of them (FORMATS G.7).
//!
//! Every change that takes effect raises the revision by one, but for turning authentication on. Whether the one who asked may is
//! the business of [`gate`](super::gate).

use prost::Message as _;
use sha2::{Digest, Sha256};

use super::small::{Name, Small};
use super::{Applied, Moment, StopReason, Why, base64, gate};
use crate::auth::{BCRYPT_COST, MOST_PASSWORD_BYTES, ROOT};
use crate::gosort;
use crate::mvcc::Release;
use crate::request::Message;
use crate::schema::{AUTH_ENABLED, AUTH_REVISION, Permission, RoleRow, UserOptions, UserRow};
use bbolt::fault::readable;

/// The value of [`AUTH_ENABLED`] when authentication is on.
const ON: &[u8] = &[1];
/// And when it is off.
const OFF: &[u8] = &[0];

/// Whether authentication is on.
pub(super) fn is_enabled(small: &Small) -> bool {
    small.get(Name::Auth, AUTH_ENABLED) == Some(ON)
}

/// The revision of users and roles. A server that starts on none begins at 1.
///
/// # Errors
/// When its row is too short, over which a server dies.
pub(super) fn revision(small: &Small) -> Result<u64, StopReason> {
    let Some(row) = small.get(Name::Auth, AUTH_REVISION) else { return Ok(1) };
    let revision = row.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let revision = revision.ok_or_else(|| {
        StopReason::Dies(format!("bucket auth, row authRevision: {} byte(s) instead of 8", row.len()))
    })?;
    Ok(revision.max(1))
}

/// A row, read. A server dies over one that cannot be.
pub(super) fn decoded<T>(
    bucket: Name,
    key: &[u8],
    row: Result<T, prost::DecodeError>,
) -> Result<T, StopReason> {
    row.map_err(|error| {
        let bucket = readable(bucket.bytes());
        StopReason::Dies(format!("bucket {bucket}, row {}: {error}", readable(key)))
    })
}

/// Go's `sort.Search`: the first of the numbers below `len` that is `enough`, when all that follow one that is are as well. Of others
/// it finds the same as Go does.
pub(super) fn search(len: usize, enough: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (0, len);
    while from < to {
        let middle = from + (to - from) / 2;
        if enough(middle) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}

/// Whether this kind of request is one about users, roles or the switch that may change something.
pub(super) fn is_change(kind: &str) -> bool {
    matches!(
        kind,
        "auth_enable"
            | "auth_disable"
            | "auth_user_add"
            | "auth_user_delete"
            | "auth_user_change_password"
            | "auth_user_grant_role"
            | "auth_user_revoke_role"
            | "auth_role_add"
            | "auth_role_delete"
            | "auth_role_grant_permission"
            | "auth_role_revoke_permission"
    )
}

/// Carries out a request for which [`is_change`] holds.
///
/// # Errors
/// When a row cannot be read that the server would read, or for a request over which it dies.
pub(super) fn apply(
    small: &mut Small,
    kind: &str,
    asked: Message<'_>,
    moment: &Moment,
    release: Release,
) -> Result<Applied, StopReason> {
    let mut auth = Auth { small, moment, release };
    match kind {
        "auth_enable" => auth.enable(),
        "auth_disable" => auth.disable(),
        "auth_user_add" => auth.add_user(asked),
        "auth_user_delete" => auth.delete_user(asked.data(1)),
        "auth_user_change_password" => auth.change_password(asked),
        "auth_user_grant_role" => auth.grant_role(asked.data(1), asked.data(2)),
        "auth_user_revoke_role" => auth.revoke_role(asked.data(1), asked.data(2)),
        "auth_role_add" => auth.add_role(asked.data(1)),
        "auth_role_delete" => auth.delete_role(asked.data(1)),
        "auth_role_grant_permission" => auth.grant_permission(asked),
        "auth_role_revoke_permission" => auth.revoke_permission(asked.data(1), asked.data(2), asked.data(3)),
        _ => Err(StopReason::UnknownRequest),
    }
}

/// The change cannot be.
const INVALID: Applied = Applied::Nothing(Why::InvalidAuthChange);

struct Auth<'a> {
    small: &'a mut Small,
    moment: &'a Moment,
    release: Release,
}

impl Auth<'_> {
    fn enable(&mut self) -> Result<Applied, StopReason> {
        if is_enabled(self.small) {
            return Ok(Applied::Nothing(Why::AlreadySo));
        }
        let Some(root) = self.user(ROOT)? else { return Ok(INVALID) };
        if !gate::is_root(&root) {
            return Ok(INVALID);
        }
        self.small.put(Name::Auth, AUTH_ENABLED, ON.to_vec());
        Ok(Applied::Changed)
    }

    fn disable(&mut self) -> Result<Applied, StopReason> {
        if !is_enabled(self.small) {
            return Ok(Applied::Nothing(Why::AlreadySo));
        }
        let raised = self.raised()?;
        self.small.put(Name::Auth, AUTH_ENABLED, OFF.to_vec());
        Ok(self.commit(raised))
    }

    fn add_user(&mut self, asked: Message<'_>) -> Result<Applied, StopReason> {
        let name = asked.data(1);
        if name.is_empty() || self.user(name)?.is_some() {
            return Ok(INVALID);
        }
        let no_password = asked.message(3).is_some_and(|options| options.number(1) != 0);
        let password = if no_password {
            Vec::new()
        } else {
            match self.password(name, asked.data(2), asked.data(4)) {
                Some(password) => password,
                None => return Ok(INVALID),
            }
        };
        let options = Some(UserOptions { no_password });
        self.put_user(&UserRow { name: name.to_vec(), password, roles: Vec::new(), options })
    }

    fn delete_user(&mut self, name: &[u8]) -> Result<Applied, StopReason> {
        if (is_enabled(self.small) && name == ROOT) || self.user(name)?.is_none() {
            return Ok(INVALID);
        }
        let raised = self.raised()?;
        self.small.delete(Name::AuthUsers, name);
        Ok(self.commit(raised))
    }

    fn change_password(&mut self, asked: Message<'_>) -> Result<Applied, StopReason> {
        let name = asked.data(1);
        let Some(user) = self.user(name)? else { return Ok(INVALID) };
        let no_password = user.options.is_some_and(|options| options.no_password);
        // Up to 3.4 a user who had been added without one gets a password.
        let password = if no_password && self.release.minor() > 4 {
            Vec::new()
        } else {
            match self.password(name, asked.data(2), asked.data(3)) {
                Some(password) => password,
                None => return Ok(INVALID),
            }
        };
        self.put_user(&UserRow { name: name.to_vec(), password, ..user })
    }

    fn grant_role(&mut self, name: &[u8], role: &[u8]) -> Result<Applied, StopReason> {
        let Some(mut user) = self.user(name)? else { return Ok(INVALID) };
        if role != ROOT && self.role(role)?.is_none() {
            return Ok(INVALID);
        }
        let at =
            search(user.roles.len(), |at| user.roles.get(at).is_none_or(|other| other.as_slice() >= role));
        if user.roles.get(at).is_some_and(|other| other == role) {
            return Ok(Applied::Nothing(Why::AlreadySo));
        }
        user.roles.push(role.to_vec());
        user.roles.sort_unstable();
        self.put_user(&user)
    }

    fn revoke_role(&mut self, name: &[u8], role: &[u8]) -> Result<Applied, StopReason> {
        if is_enabled(self.small) && name == ROOT && role == ROOT {
            return Ok(INVALID);
        }
        let Some(mut user) = self.user(name)? else { return Ok(INVALID) };
        let before = user.roles.len();
        user.roles.retain(|other| other != role);
        if user.roles.len() == before {
            return Ok(INVALID);
        }
        self.put_user(&user)
    }

    fn add_role(&mut self, name: &[u8]) -> Result<Applied, StopReason> {
        if name.is_empty() || self.role(name)?.is_some() {
            return Ok(INVALID);
        }
        self.put_role(&RoleRow { name: name.to_vec(), permissions: Vec::new() })
    }

    fn delete_role(&mut self, name: &[u8]) -> Result<Applied, StopReason> {
        if (is_enabled(self.small) && name == ROOT) || self.role(name)?.is_none() {
            return Ok(INVALID);
        }
        let raised = self.raised()?;
        let mut users = Vec::new();
        for (key, row) in self.small.rows(Name::AuthUsers) {
            let mut user = decoded(Name::AuthUsers, key, UserRow::decode(row.as_slice()))?;
            let before = user.roles.len();
            user.roles.retain(|role| role != name);
            if user.roles.len() < before {
                users.push(user);
            }
        }
        self.small.delete(Name::AuthRoles, name);
        for user in users {
            self.small.put(Name::AuthUsers, &user.name, user.encode_to_vec());
        }
        Ok(self.commit(raised))
    }

    fn grant_permission(&mut self, asked: Message<'_>) -> Result<Applied, StopReason> {
        let permission = asked.message(2).map(|permission| Permission {
            kind: permission.enumeration(1),
            key: permission.data(2).to_vec(),
            range_end: permission.data(3).to_vec(),
        });
        let Some(permission) = permission else {
            if self.release.minor() > 4 {
                return Ok(INVALID);
            }
            return Err(StopReason::Dies("a permission is to be granted, and none is given".to_owned()));
        };
        if self.release.refuses_empty_permissions()
            && !gate::is_range_of_keys(&permission.key, &permission.range_end)
        {
            return Ok(INVALID);
        }
        let Some(mut role) = self.role(asked.data(1))? else { return Ok(INVALID) };
        let known = &mut role.permissions;
        let at = search(known.len(), |at| known.get(at).is_none_or(|other| other.key >= permission.key));
        let same =
            |other: &&mut Permission| other.key == permission.key && other.range_end == permission.range_end;
        if let Some(other) = known.get_mut(at).filter(same) {
            other.kind = permission.kind;
        } else {
            known.push(permission);
            let before = |one: &Permission, other: &Permission| one.key < other.key;
            if self.release.sorts_as_old_go() {
                gosort::sort_before_1_19(known, before);
            } else {
                gosort::sort(known, before);
            }
        }
        self.put_role(&role)
    }

    fn revoke_permission(
        &mut self,
        name: &[u8],
        key: &[u8],
        range_end: &[u8],
    ) -> Result<Applied, StopReason> {
        let Some(mut role) = self.role(name)? else { return Ok(INVALID) };
        let before = role.permissions.len();
        role.permissions.retain(|known| known.key != key || known.range_end != range_end);
        if role.permissions.len() == before {
            return Ok(INVALID);
        }
        self.put_role(&role)
    }

    fn user(&self, name: &[u8]) -> Result<Option<UserRow>, StopReason> {
        let row = self.small.get(Name::AuthUsers, name);
        row.map(|row| decoded(Name::AuthUsers, name, UserRow::decode(row))).transpose()
    }

    fn role(&self, name: &[u8]) -> Result<Option<RoleRow>, StopReason> {
        let row = self.small.get(Name::AuthRoles, name);
        row.map(|row| decoded(Name::AuthRoles, name, RoleRow::decode(row))).transpose()
    }

    fn put_user(&mut self, user: &UserRow) -> Result<Applied, StopReason> {
        let raised = self.raised()?;
        self.small.put(Name::AuthUsers, &user.name, user.encode_to_vec());
        Ok(self.commit(raised))
    }

    fn put_role(&mut self, role: &RoleRow) -> Result<Applied, StopReason> {
        let raised = self.raised()?;
        self.small.put(Name::AuthRoles, &role.name, role.encode_to_vec());
        Ok(self.commit(raised))
    }

    /// The revision after the change.
    fn raised(&self) -> Result<u64, StopReason> {
        Ok(revision(self.small)?.wrapping_add(1))
    }

    fn commit(&mut self, raised: u64) -> Applied {
        self.small.put(Name::Auth, AUTH_REVISION, raised.to_be_bytes().to_vec());
        Applied::Changed
    }

    /// What a server keeps of a password; `None` when it keeps none.
    ///
    /// From 3.5 on the hash is in the log. Before, the password itself is, and every member makes a hash of its own from it. Its
    /// salt is here made from the entry's place, so that the same files give the same bytes whenever they are read; of the password
    /// itself nothing goes into it.
    fn password(&self, user: &[u8], password: &[u8], hashed: &[u8]) -> Option<Vec<u8>> {
        let is_old = self.release.minor() <= 4 && hashed.is_empty();
        if !is_old && (password.is_empty() || !hashed.is_empty()) {
            return base64::decode(hashed);
        }
        if password.len() > MOST_PASSWORD_BYTES && self.release.refuses_long_passwords() {
            return None;
        }
        let mut place = Sha256::new();
        place.update(self.moment.term.to_be_bytes());
        place.update(self.moment.index.to_be_bytes());
        place.update(user);
        let salt = *place.finalize().first_chunk()?;
        let parts = bcrypt::hash_with_salt(password, BCRYPT_COST, salt).ok()?;
        Some(parts.format_for_version(bcrypt::Version::TwoA).into_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests;
