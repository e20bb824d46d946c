//! Releases of etcd, where they differ in what they make of the same key space (FORMATS C.2, C.4, C.5, X 17 to 19).

use std::fmt;
use std::str::FromStr;

use crate::target::TargetVersion;

/// A release of etcd 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    minor: u32,
    patch: u32,
}

/// What is no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no release of etcd 3, such as 3.5.9, or 3.5 for the last of them")]
pub struct ReleaseError {
    text: String,
}

impl Release {
    /// The rules of the newest releases of every minor version, which agree.
    pub const NEWEST: Self = Self { minor: u32::MAX, patch: u32::MAX };

    /// Whether this is a release of 3.6 or later, or has at least the patch given for its minor version.
    fn since(self, v3_4: u32, v3_5: u32) -> bool {
        match self.minor {
            0..=3 => false,
            4 => self.patch >= v3_4,
            5 => self.patch >= v3_5,
            _ => true,
        }
    }

    /// The number of the minor version.
    #[must_use]
    pub fn minor(self) -> u32 {
        self.minor
    }

    /// As [`Release::since`], with the patch of 3.6; 3.7 and later are.
    fn since_patch(self, v3_4: u32, v3_5: u32, v3_6: u32) -> bool {
        if self.minor == 6 { self.patch >= v3_6 } else { self.since(v3_4, v3_5) }
    }

    /// Whether root may revoke a lease with keys though users were changed since it asked.
    #[must_use]
    pub fn revokes_leases_for_root(self) -> bool {
        self.since(27, 10)
    }

    /// Whether permissions are asked for inside a transaction that lies in another.
    #[must_use]
    pub fn asks_inside_nested_txns(self) -> bool {
        self.since_patch(42, 28, 9)
    }

    /// Whether a put in a transaction is asked about its lease and the value it returns, as one outside is.
    #[must_use]
    pub fn asks_all_of_puts_in_txns(self) -> bool {
        self.since_patch(44, 30, 11)
    }

    /// Whether its programs were built by Go before 1.19, which leaves elements that tie in another order than later Go. It is known
    /// of 3.5 only: of 3.4 there are programs of one patch built by either.
    #[must_use]
    pub fn sorts_as_old_go(self) -> bool {
        self.minor == 5 && self.patch < 9
    }

    /// Whether a role is refused a permission for a range that holds no key, or begins with an empty one.
    #[must_use]
    pub fn refuses_empty_permissions(self) -> bool {
        self.since(25, 8)
    }

    /// Whether a password of more than 72 bytes is refused, of which earlier releases used the first 72.
    #[must_use]
    pub fn refuses_long_passwords(self) -> bool {
        self.since(28, 10)
    }

    /// Whether the row of a member that has one is written again when its attributes, addresses or role change. From 3.5.1 to 3.5.19
    /// it stayed as it was first written (etcd issue 19557).
    #[must_use]
    pub fn rewrites_member_rows(self) -> bool {
        self.minor != 5 || self.patch == 0 || self.patch >= 20
    }

    /// Whether an update of a member changes nothing but its addresses. Earlier releases also made a learner a voter, by what
    /// they kept of it.
    #[must_use]
    pub fn updates_only_addresses(self) -> bool {
        self.minor > 4 && self.since_patch(0, 31, 12)
    }

    /// Whether a member that publishes its own attributes removes the rows of members whom the v2 store does not know.
    #[must_use]
    pub fn removes_zombies(self) -> bool {
        self.minor == 5 && self.patch >= 26
    }

    /// Whether who belongs to the cluster is what the v2 store says, and not what the db does.
    #[must_use]
    pub fn takes_members_from_v2store(self) -> bool {
        self.minor <= 5
    }

    /// Whether an update of a directory of the v2 API sets anew when that expires; 3.5 refuses it, and counts it as done.
    #[must_use]
    pub fn sets_time_of_v2_dirs(self) -> bool {
        self.minor <= 4
    }

    /// Whether a compaction leaves a tombstone at exactly its own revision, and a hash leaves it out. Earlier releases remove
    /// it.
    #[must_use]
    pub fn keeps_tombstone_at_compaction(self) -> bool {
        self.since(34, 16)
    }

    /// Whether hashing at exactly the compacted revision is allowed.
    #[must_use]
    pub fn hashes_at_compaction(self) -> bool {
        self.since(27, 10)
    }

    /// Whether a store starts at the revision of a compaction that was ordered, when no record is as late.
    #[must_use]
    pub fn starts_at_scheduled_compaction(self) -> bool {
        self.since(32, 14)
    }

    /// Whether a server that starts finds leases whose ID is below zero, or the largest there is: earlier releases read from ID 0
    /// up to, and without, the largest. No client makes such IDs by itself.
    #[must_use]
    pub fn loads_every_lease(self) -> bool {
        self.since(20, 3)
    }

    /// Whether a db keeps the term of the last entry applied beside its index.
    #[must_use]
    pub fn keeps_term(self) -> bool {
        self.minor >= 5
    }

    /// Whether a server that nobody waits for checks what a transaction reads: earlier releases take such operations out of it
    /// first (FORMATS X 48).
    #[must_use]
    pub fn checks_txn_ranges(self) -> bool {
        self.minor >= 7
    }

    /// Whether the puts of a transaction in a transaction count when there is no space (FORMATS G.5).
    #[must_use]
    pub fn counts_nested_puts(self) -> bool {
        match self.minor {
            0..=4 => false,
            5 => self.patch >= 33,
            6 => self.patch >= 14,
            7 => self.patch >= 1,
            _ => true,
        }
    }

    /// Whether permissions are asked for whatever alarms stand. Up to 3.5 a server that sees an alarm raised forgets to, until
    /// it is disarmed or the server starts again.
    #[must_use]
    pub fn asks_permissions_under_alarms(self) -> bool {
        self.minor >= 6
    }

    /// Whether a tombstone that is its key's first record is indexed; what reads and compactions answer does not depend on it.
    #[must_use]
    pub fn indexes_first_tombstone(self) -> bool {
        self.since(36, 18)
    }
}

impl From<TargetVersion> for Release {
    /// The last release of a minor version.
    fn from(version: TargetVersion) -> Self {
        Self { minor: version.minor(), patch: u32::MAX }
    }
}

impl Default for Release {
    fn default() -> Self {
        Self::NEWEST
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEWEST => f.write_str("newest"),
            Self { minor, patch: u32::MAX } => write!(f, "3.{minor}"),
            Self { minor, patch } => write!(f, "3.{minor}.{patch}"),
        }
    }
}

impl FromStr for Release {
    type Err = ReleaseError;

    /// Reads `3.5.9`, also with a `v` before it; `3.5` is the last release of 3.5.
    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let error = || ReleaseError { text: text.to_owned() };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let (major, minor, patch) = (parts.next(), parts.next().and_then(number), parts.next());
        let patch = match patch {
            Some(patch) => number(patch),
            None => Some(u32::MAX),
        };
        match (major, minor, patch, parts.next()) {
            (Some("3"), Some(minor), Some(patch), None) => Ok(Self { minor, patch }),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        text.parse().unwrap()
    }

    #[test]
    fn leases_with_odd_ids_are_loaded_since_a_patch() {
        let loads = |text| release(text).loads_every_lease();
        assert_eq!(
            ["3.3.27", "3.4.19", "3.4.20", "3.5.2", "3.5.3", "3.6.0"].map(loads),
            [false, false, true, false, true, true]
        );
    }

    #[test]
    fn the_rules_change_with_the_patch_that_changed_them() {
        for (text, keeps, hashes, starts, indexes) in [
            ("3.3.27", false, false, false, false),
            ("3.4.26", false, false, false, false),
            ("3.4.27", false, true, false, false),
            ("3.4.32", false, true, true, false),
            ("3.4.34", true, true, true, false),
            ("3.4.36", true, true, true, true),
            ("3.5.9", false, false, false, false),
            ("v3.5.10", false, true, false, false),
            ("3.5.14", false, true, true, false),
            ("3.5.16", true, true, true, false),
            ("3.5.18", true, true, true, true),
            ("3.4", true, true, true, true),
            ("3.6.0", true, true, true, true),
            ("3.9.1", true, true, true, true),
        ] {
            let release = release(text);
            assert_eq!(
                (
                    release.keeps_tombstone_at_compaction(),
                    release.hashes_at_compaction(),
                    release.starts_at_scheduled_compaction(),
                    release.indexes_first_tombstone()
                ),
                (keeps, hashes, starts, indexes),
                "{text}"
            );
        }
        assert!(Release::default().keeps_tombstone_at_compaction());
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for text in ["", "3", "3.", "3.5.", "3.5.1.2", "3.+5", "2.3.8", "4.0", "3.5.99999999999", "three"] {
            assert!(text.parse::<Release>().is_err(), "{text}");
        }
        assert_eq!(release("v3.5.9").to_string(), "3.5.9");
        assert_eq!(release("3.5").to_string(), "3.5");
    }
}
