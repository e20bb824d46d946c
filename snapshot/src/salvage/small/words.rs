//! What follows from what is not there, in words that can be read aloud.

use crate::finding::Severity;

/// What follows for whoever uses the result from what was lost of a small bucket, or put in its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", tag = "what")]
#[non_exhaustive]
pub(crate) enum Consequence {
    /// Whether authentication was on is lost; it is off.
    AuthOff {
        /// Users whose rows were found.
        users: u64,
        /// Whether an older page says that it was off, and that there were no users.
        was_off: bool,
    },
    /// Authentication is on, and no user who could administer it was found.
    AuthWithoutRoot,
    /// Users and roles are those of an earlier time.
    AuthOlder,
    /// Users and roles that were found one by one.
    AuthPieces,
    /// Whether users and roles were lost is not known: none were found, and authentication was not on.
    AuthEmpty,
    /// Live keys hang on leases whose rows are lost.
    LeasesLost {
        /// The leases.
        leases: u64,
        /// The keys.
        keys: u64,
    },
    /// Leases that only older pages have, taken since live keys hang on them.
    LeasesBack {
        /// The leases.
        leases: u64,
    },
    /// Leases that only older pages have and no live key hangs on, left out.
    LeasesLeftOut {
        /// The leases.
        leases: u64,
    },
    /// No member is known.
    MembersLost,
    /// The members are those of an earlier time, or some of them.
    MembersOlder,
    /// The ids of members that were removed are lost.
    RemovedLost,
    /// Whether an alarm stood is lost.
    AlarmsLost,
    /// The version of the cluster is lost.
    VersionLost,
    /// The version of the cluster, or of a downgrade, is that of an earlier time.
    VersionOlder,
    /// The version of the schema is lost, and made of that of the cluster.
    StorageVersionDerived {
        /// What it is now.
        version: String,
    },
    /// Which entry of the log was the last in the database is lost.
    ConsistentIndexLost,
    /// Some records may be of later entries than the one that the database names as its last.
    ConsistentIndexOlder,
    /// Rows of the tree that no server can read, left out.
    Unreadable {
        /// The rows.
        rows: u64,
    },
}

impl Consequence {
    /// The consequence in words: a sentence without its full stop.
    #[must_use]
    pub(crate) fn words(&self) -> String {
        match self {
            Self::AuthOff { was_off: true, .. } => {
                "whether authentication was on is lost, and it is OFF: an older page says that it was never set up. If it was since, whoever reaches \
                 the cluster can read and write everything"
                    .to_owned()
            }
            Self::AuthOff { users: 0, .. } => {
                "whether authentication was on is lost: it is OFF, and whoever reaches the cluster can read and write everything. If it was on, set \
                 up users and roles again before anybody is let in"
                    .to_owned()
            }
            Self::AuthOff { users, .. } => format!(
                "whether authentication was on is lost, though {users} user(s) are there: it is OFF, and whoever reaches the cluster can read \
                 and write everything. If it was on, turn it on ('etcdctl auth enable') before anybody is let in"
            ),
            Self::AuthWithoutRoot => {
                "authentication is on, and no user with the role root was found: nobody can administer it. 'etcd-rescue auth reset' makes such a \
                 user, or turns it off"
                    .to_owned()
            }
            Self::AuthOlder => {
                "users and roles are those of an older page: who was removed since is back, and passwords and permissions changed since are as \
                 they were. Look through them before anybody is let in"
                    .to_owned()
            }
            Self::AuthPieces => {
                "users and roles were found one by one, in pages of different times: some may be missing, removed ones back, and passwords and \
                 permissions old. Look through them before anybody is let in"
                    .to_owned()
            }
            Self::AuthEmpty => "users and roles that there may have been are lost; authentication was not on".to_owned(),
            Self::LeasesLost { leases, keys } => format!(
                "{keys} key(s) hang on {leases} lease(s) whose rows are lost: a server keeps such keys for ever; delete them, or put them again \
                 with a lease"
            ),
            Self::LeasesBack { leases } => format!(
                "{leases} lease(s) are taken from older pages, since live keys hang on them: they count from the start again"
            ),
            Self::LeasesLeftOut { leases } => format!(
                "{leases} lease(s) that only older pages have are left out: no live key hangs on them"
            ),
            Self::MembersLost => {
                "no member is known: make members with 'snapshot restore'. etcd 3.6 and later do not start on this database as it is"
                    .to_owned()
            }
            Self::MembersOlder => {
                "members are those of older pages; a restore writes its own in their place".to_owned()
            }
            Self::RemovedLost => {
                "which members were removed is lost: nothing would keep one of them from coming back, but for a restore, which makes a new cluster"
                    .to_owned()
            }
            Self::AlarmsLost => {
                "whether an alarm stood is lost: none does. A full database raises its own again; if members were said to differ (CORRUPT), \
                 nothing says so any more"
                    .to_owned()
            }
            Self::VersionLost => {
                "the cluster's version is lost, and whether a downgrade was under way: servers settle on a version anew".to_owned()
            }
            Self::VersionOlder => {
                "the cluster's version, or what is said of a downgrade, is that of an older page".to_owned()
            }
            Self::StorageVersionDerived { version } => format!(
                "the version of the schema is lost, and {version} by that of the cluster"
            ),
            Self::ConsistentIndexLost => {
                "which entry of the log was the last in the database is lost: restore it as a snapshot, and do not put it beside a log"
                    .to_owned()
            }
            Self::ConsistentIndexOlder => {
                "some records may be of later entries than the last that the database knows of: restore it as a snapshot, and do not put it \
                 beside a log"
                    .to_owned()
            }
            Self::Unreadable { rows } => {
                format!("{rows} row(s) are left out that no server can read, or starts on")
            }
        }
    }

    /// The code of the finding that says so.
    #[must_use]
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::AuthOff { .. }
            | Self::AuthWithoutRoot
            | Self::AuthOlder
            | Self::AuthPieces
            | Self::AuthEmpty => "SALVAGE-AUTH",
            Self::LeasesLost { .. } | Self::LeasesBack { .. } | Self::LeasesLeftOut { .. } => "SALVAGE-LEASE",
            _ => "SALVAGE-BUCKET",
        }
    }

    /// How much it matters.
    #[must_use]
    pub(crate) const fn severity(&self) -> Severity {
        match self {
            Self::AuthOff { was_off: false, .. } | Self::AuthWithoutRoot => Severity::Error,
            _ => Severity::Warning,
        }
    }
}
