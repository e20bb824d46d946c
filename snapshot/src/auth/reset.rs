//! Getting back into a cluster whose passwords are lost: authentication off, or a new password, as edits of a db.

use bbolt::fault::readable;
use bbolt::graft::{Graft, GraftError, Patch};
use bbolt::{Db, Fault, Source};
use prost::Message;

use super::{Auth, ROOT, User};
use crate::schema::{AUTH, AUTH_ENABLED, AUTH_REVISION, AUTH_USERS, UserOptions, UserRow};

/// The cost of etcd's hashes, unless it is started with `--bcrypt-cost`.
pub const BCRYPT_COST: u32 = 10;
/// Longest password in bytes: bcrypt looks at no more.
pub const MOST_PASSWORD_BYTES: usize = 72;
/// Users that a message names.
const NAMED_USERS: usize = 20;

/// What is to be done.
#[derive(Clone, PartialEq, Eq)]
pub enum Reset {
    /// Authentication off, as `etcdctl auth disable` leaves it.
    Disable,
    /// A new password for one user, as `etcdctl user passwd` leaves it.
    Password {
        /// The user's name.
        user: Vec<u8>,
        /// The password.
        password: Vec<u8>,
    },
}

/// The edit, and what to know about it.
#[derive(Debug)]
pub struct ResetPatch {
    /// The pages that make the edited db.
    pub patch: Patch,
    /// Whether authentication is on then.
    pub enabled: bool,
    /// The revision of users and roles then.
    pub auth_revision: u64,
    /// One sentence each.
    pub notices: Vec<String>,
}

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResetError {
    /// A page on the way is damaged.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The db cannot be edited.
    #[error(transparent)]
    Graft(#[from] GraftError),
    /// There is nothing to do.
    #[error("authentication is off already, so that nobody needs a password; nothing was written")]
    AlreadyOff,
    /// There is no such user.
    #[error("there is no user {user}: {known}")]
    NoSuchUser {
        /// Its name, readable.
        user: String,
        /// Those there are.
        known: String,
    },
    /// The user's row cannot be read.
    #[error("the row of user {user} cannot be read: {source}; --disable turns authentication off without it")]
    Row {
        /// Its name, readable.
        user: String,
        /// Why.
        source: prost::DecodeError,
    },
    /// An empty password.
    #[error("the new password is empty")]
    NoPassword,
    /// A password that bcrypt would cut.
    #[error(
        "the new password has {len_bytes} bytes; bcrypt, and so etcd, takes {MOST_PASSWORD_BYTES} at the most"
    )]
    TooLong {
        /// Its length in bytes.
        len_bytes: usize,
    },
    /// A password that no client can send.
    #[error("the new password is no UTF-8 text; a client cannot send it")]
    NotText,
    /// The system gives no random numbers.
    #[error("hashing the new password: {what}")]
    Hash {
        /// What it said.
        what: String,
    },
    /// The revision of users and roles has no successor.
    #[error("the revision of users and roles is the largest there is, and cannot be raised")]
    RevisionUsedUp,
}

/// Makes the edit of `db`.
///
/// # Errors
/// When there is nothing to do, no such user, or the password is none; when the buckets cannot be read or edited.
pub fn reset<S: Source>(db: &Db<S>, reset: &Reset) -> Result<ResetPatch, ResetError> {
    let auth = Auth::read(db)?;
    let auth_revision = auth.revision.checked_add(1).ok_or(ResetError::RevisionUsedUp)?;
    let mut graft = Graft::new(db);
    let mut rows = graft.pairs(AUTH)?.unwrap_or_default();
    rows.insert(AUTH_REVISION.to_vec(), auth_revision.to_be_bytes().to_vec());
    let (mut enabled, mut notices) = (auth.enabled, Vec::new());
    match reset {
        Reset::Disable if !auth.enabled => return Err(ResetError::AlreadyOff),
        Reset::Disable => {
            enabled = false;
            rows.insert(AUTH_ENABLED.to_vec(), vec![0]);
            notices.push(
                "authentication is off: whoever reaches the servers may read and write everything. Users, roles and passwords \
                 stay; 'etcdctl user passwd root', then 'etcdctl auth enable', turn it on again"
                    .to_owned(),
            );
        }
        Reset::Password { user, password } => {
            let mut users = graft.pairs(AUTH_USERS)?.unwrap_or_default();
            let shown = readable(user);
            let Some(value) = users.get(user) else {
                return Err(ResetError::NoSuchUser { user: shown, known: known(&auth) });
            };
            let row = UserRow::decode(value.as_slice())
                .map_err(|source| ResetError::Row { user: shown.clone(), source })?;
            if row.options.is_some_and(|options| options.no_password) {
                notices.push(format!(
                    "user {shown} had been added without a password, for certificates; now it has one"
                ));
            }
            let edited = UserRow {
                name: user.clone(),
                password: hash(password)?,
                options: row.options.map(|_| UserOptions { no_password: false }),
                ..row
            };
            users.insert(user.clone(), edited.encode_to_vec());
            graft.replace_bucket(AUTH_USERS, users)?;
            notices.extend(what_it_may(&auth, user, &shown));
        }
    }
    graft.replace_bucket(AUTH, rows)?;
    Ok(ResetPatch { patch: graft.finish()?, enabled, auth_revision, notices })
}

/// The bcrypt hash of `password`, in the version that Go writes.
fn hash(password: &[u8]) -> Result<Vec<u8>, ResetError> {
    if password.is_empty() {
        return Err(ResetError::NoPassword);
    }
    if password.len() > MOST_PASSWORD_BYTES {
        return Err(ResetError::TooLong { len_bytes: password.len() });
    }
    if std::str::from_utf8(password).is_err() {
        return Err(ResetError::NotText);
    }
    let parts = bcrypt::hash_with_result(password, BCRYPT_COST)
        .map_err(|error| ResetError::Hash { what: error.to_string() })?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA).into_bytes())
}

/// What the user may do with its new password, where that may not be what was hoped for.
fn what_it_may(auth: &Auth, name: &[u8], shown: &str) -> Option<String> {
    if !auth.enabled {
        return Some(
            "authentication is off: nobody needs the password until 'etcdctl auth enable'".to_owned(),
        );
    }
    if auth.user(name).is_some_and(User::is_root) {
        return None;
    }
    Some(if name == ROOT {
        "user root does not have the role root: it can log in now, but may do no more than its other roles allow, and \
         administer nobody. --disable turns authentication off; then 'etcdctl user grant-role root root' and 'etcdctl auth \
         enable'"
            .to_owned()
    } else {
        format!(
            "user {shown} does not have the role root: it may do what its roles allow, and administer nobody"
        )
    })
}

fn known(auth: &Auth) -> String {
    let instead = if auth.enabled {
        "--disable turns authentication off without a user"
    } else {
        "authentication is off, so that nobody needs a password"
    };
    if auth.users.is_empty() {
        return format!("there are no users at all. {instead}");
    }
    let names: Vec<String> = auth.users.iter().take(NAMED_USERS).map(|user| readable(&user.name)).collect();
    let more = if auth.users.len() > names.len() { ", …" } else { "" };
    format!("there are {}{more}. {instead}", names.join(", "))
}
