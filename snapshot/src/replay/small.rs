//! The buckets beside `key`, whole in memory: what entries change in them is few rows of few.

use bbolt::graft::{Graft, GraftError, Pairs};
use bbolt::{Db, Source};

use crate::schema;

/// A bucket that is held whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The store's own numbers.
    Meta,
    /// The leases.
    Lease,
    /// The alarms.
    Alarm,
    /// Authentication's switch and revision.
    Auth,
    /// The users.
    AuthUsers,
    /// The roles.
    AuthRoles,
    /// The members.
    Members,
    /// The ids of removed members.
    MembersRemoved,
    /// The cluster's version and downgrade.
    Cluster,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Meta,
        Self::Lease,
        Self::Alarm,
        Self::Auth,
        Self::AuthUsers,
        Self::AuthRoles,
        Self::Members,
        Self::MembersRemoved,
        Self::Cluster,
    ];

    /// The bucket's name in the file.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Meta => schema::META,
            Self::Lease => schema::LEASE,
            Self::Alarm => schema::ALARM,
            Self::Auth => schema::AUTH,
            Self::AuthUsers => schema::AUTH_USERS,
            Self::AuthRoles => schema::AUTH_ROLES,
            Self::Members => schema::MEMBERS,
            Self::MembersRemoved => schema::MEMBERS_REMOVED,
            Self::Cluster => schema::CLUSTER,
        }
    }
}

/// The small buckets of a db, and what became of them. A bucket that the db lacks is empty, and is made by the first row put in
/// it, as a server makes it when it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Small {
    meta: Held,
    lease: Held,
    alarm: Held,
    auth: Held,
    auth_users: Held,
    auth_roles: Held,
    members: Held,
    members_removed: Held,
    cluster: Held,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held {
    rows: Pairs,
    changed: bool,
}

impl Small {
    /// Reads the buckets of `db`.
    ///
    /// # Errors
    /// When a page on the way is damaged, or one of the buckets is not plain rows.
    pub fn read<S: Source>(db: &Db<S>) -> Result<Self, GraftError> {
        let (file, mut small) = (Graft::new(db), Self::default());
        for name in Name::ALL {
            small.held_mut(name).rows = file.pairs(name.bytes())?.unwrap_or_default();
        }
        Ok(small)
    }

    /// The rows of a bucket, by key.
    #[must_use]
    pub const fn rows(&self, bucket: Name) -> &Pairs {
        &self.held(bucket).rows
    }

    /// One row's value.
    #[must_use]
    pub fn get(&self, bucket: Name, key: &[u8]) -> Option<&[u8]> {
        self.rows(bucket).get(key).map(Vec::as_slice)
    }

    /// Makes this the value of the row. Says whether that changed anything.
    pub fn put(&mut self, bucket: Name, key: &[u8], value: Vec<u8>) -> bool {
        let held = self.held_mut(bucket);
        let changed = held.rows.get(key) != Some(&value);
        if changed {
            held.rows.insert(key.to_vec(), value);
            held.changed = true;
        }
        changed
    }

    /// Takes the row away. Says whether there was one.
    pub fn delete(&mut self, bucket: Name, key: &[u8]) -> bool {
        let held = self.held_mut(bucket);
        let changed = held.rows.remove(key).is_some();
        held.changed |= changed;
        changed
    }

    /// The buckets that were changed, with all of their rows.
    pub fn changed(&self) -> impl Iterator<Item = (Name, &Pairs)> {
        let held = Name::ALL.into_iter().map(|name| (name, self.held(name)));
        held.filter(|(_, held)| held.changed).map(|(name, held)| (name, &held.rows))
    }

    const fn held(&self, bucket: Name) -> &Held {
        match bucket {
            Name::Meta => &self.meta,
            Name::Lease => &self.lease,
            Name::Alarm => &self.alarm,
            Name::Auth => &self.auth,
            Name::AuthUsers => &self.auth_users,
            Name::AuthRoles => &self.auth_roles,
            Name::Members => &self.members,
            Name::MembersRemoved => &self.members_removed,
            Name::Cluster => &self.cluster,
        }
    }

    const fn held_mut(&mut self, bucket: Name) -> &mut Held {
        match bucket {
            Name::Meta => &mut self.meta,
            Name::Lease => &mut self.lease,
            Name::Alarm => &mut self.alarm,
            Name::Auth => &mut self.auth,
            Name::AuthUsers => &mut self.auth_users,
            Name::AuthRoles => &mut self.auth_roles,
            Name::Members => &mut self.members,
            Name::MembersRemoved => &mut self.members_removed,
            Name::Cluster => &mut self.cluster,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_changed() {
        let mut small = Small::default();
        assert_eq!(small.changed().count(), 0);
        assert!(small.put(Name::Auth, schema::AUTH_ENABLED, vec![1]));
        assert!(!small.put(Name::Auth, schema::AUTH_ENABLED, vec![1]));
        assert!(!small.delete(Name::Alarm, b"none"));
        assert_eq!(small.get(Name::Auth, schema::AUTH_ENABLED), Some(&[1_u8][..]));
        let changed: Vec<_> = small.changed().map(|(name, rows)| (name.bytes(), rows.len())).collect();
        assert_eq!(changed, [(&b"auth"[..], 1)]);
        assert!(small.delete(Name::Auth, schema::AUTH_ENABLED));
        let (name, rows) = small.changed().next().unwrap();
        assert_eq!((name, rows.len()), (Name::Auth, 0));
    }

    #[test]
    fn every_bucket_is_read_under_its_own_name() {
        let mut small = Small::default();
        for name in Name::ALL {
            small.put(name, name.bytes(), Vec::new());
        }
        for name in Name::ALL {
            assert_eq!(small.rows(name).keys().collect::<Vec<_>>(), [name.bytes()]);
        }
    }
}
