//! Who may do what: the permissions a server asks for when it applies an entry (FORMATS G.6).
//!
//! What is asked for at which point changed with security fixes, so that two patches of one minor version may treat the same entry
//! in different ways: up to 3.4.41, 3.5.27 and 3.6.8 nobody looked into a transaction within another; up to 3.4.43, 3.5.29 and
//! 3.6.10 a put in a transaction was asked neither about its lease nor about the value it returns; up to 3.4.26 and 3.5.9 the
//! revocation of a lease with keys was refused also to root, when users had been changed since it was proposed.

use std::collections::HashMap;

use prost::Message as _;

use super::auth::{decoded, is_enabled, revision, search};
use super::small::{Name, Small};
use super::{StopReason, Why};
use crate::auth::{NO_END, ROOT};
use crate::mvcc::Release;
use crate::request::Message;
use crate::schema::{RoleRow, UserRow};

/// In `authpb.Permission`: to read.
const READ: i32 = 0;
/// In `authpb.Permission`: to write.
const WRITE: i32 = 1;
/// In `authpb.Permission`: both.
const READ_WRITE: i32 = 2;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be carried out.
    Admitted,
    /// It may be, since a server that starts leaves out the reads of a transaction; the one that proposed it asked for them too, and
    /// refused it (FORMATS X 48).
    AdmittedWithoutReads,
    /// It may not be.
    Refused(Why),
}

/// What is known of the users' permissions, until users or roles change.
#[derive(Debug, Default)]
pub(super) struct Gate {
    users: HashMap<Vec<u8>, Option<Grants>>,
}

/// What one user may do.
#[derive(Debug, Default)]
struct Grants {
    root: bool,
    read: Vec<Interval>,
    write: Vec<Interval>,
}

/// Keys from the first up to the one before the second; an empty bound is that behind all keys.
type Interval = (Vec<u8>, Vec<u8>);

/// Finds the keys that hang on a lease.
pub(super) type Attached<'f> = dyn FnMut(i64) -> Result<Vec<Vec<u8>>, StopReason> + 'f;

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Asker<'a> {
    user: &'a [u8],
    revision: u64,
}

impl Gate {
    /// Forgets what it knows, after users or roles changed.
    pub(super) fn forget(&mut self) {
        self.users.clear();
    }

    /// Whether the one who is named in the `header` may do what is asked.
    ///
    /// # Errors
    /// When the row of a user or role cannot be read, over which a server dies.
    pub(super) fn admit(
        &mut self,
        small: &Small,
        release: Release,
        (header, kind, asked): (Option<Message<'_>>, &str, Message<'_>),
        attached: &mut Attached<'_>,
    ) -> Result<Verdict, StopReason> {
        if !is_enabled(small) {
            return Ok(Verdict::Admitted);
        }
        let asker = Asker {
            user: header.map_or(&[][..], |header| header.data(2)),
            revision: header.map_or(0, |header| header.number(3)),
        };
        let mut question = Question { gate: self, small, release, asker, attached };
        if super::auth::is_change(kind) {
            return Ok(question.admin()?.map_or(Verdict::Admitted, Verdict::Refused));
        }
        let refused = match kind {
            "put" => question.put(asked)?,
            "delete_range" => question.delete(asked)?,
            "txn" => return question.txn(asked),
            "lease_revoke" => question.lease(asked.number(1).cast_signed())?,
            _ => None,
        };
        Ok(refused.map_or(Verdict::Admitted, Verdict::Refused))
    }

    fn grants(&mut self, small: &Small, user: &[u8]) -> Result<Option<&Grants>, StopReason> {
        if !self.users.contains_key(user) {
            let grants = Grants::of(small, user)?;
            self.users.insert(user.to_vec(), grants);
        }
        Ok(self.users.get(user).and_then(Option::as_ref))
    }
}

/// One request before the gate. Answers are why something is refused, or nothing.
struct Question<'q, 'f> {
    gate: &'q mut Gate,
    small: &'q Small,
    release: Release,
    asker: Asker<'q>,
    attached: &'q mut Attached<'f>,
}

impl Question<'_, '_> {
    fn admin(&mut self) -> Result<Option<Why>, StopReason> {
        if self.asker.user.is_empty() {
            return Ok(Some(Why::Denied));
        }
        let grants = self.gate.grants(self.small, self.asker.user)?;
        Ok((!grants.is_some_and(|grants| grants.root)).then_some(Why::Denied))
    }

    /// Whether the keys may be read or written, as `wanted` says.
    fn keys(&mut self, key: &[u8], range_end: &[u8], wanted: i32) -> Result<Option<Why>, StopReason> {
        if self.asker.revision == 0 {
            return Ok(Some(Why::Denied));
        }
        if self.asker.revision < revision(self.small)? {
            return Ok(Some(Why::OldAuthRevision));
        }
        let Some(grants) = self.gate.grants(self.small, self.asker.user)? else {
            return Ok(Some(Why::Denied));
        };
        if grants.root {
            return Ok(None);
        }
        let intervals = if wanted == READ { &grants.read } else { &grants.write };
        let asked = if range_end.is_empty() { point(key) } else { range(key, range_end) };
        Ok((!covers(intervals, &asked)).then_some(Why::Denied))
    }

    /// Whether all keys that hang on this lease may be written.
    fn lease(&mut self, lease: i64) -> Result<Option<Why>, StopReason> {
        let keys = (self.attached)(lease)?;
        if keys.is_empty() || (self.release.revokes_leases_for_root() && self.admin()?.is_none()) {
            return Ok(None);
        }
        for key in keys {
            if let Some(why) = self.keys(&key, &[], WRITE)? {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    fn put(&mut self, put: Message<'_>) -> Result<Option<Why>, StopReason> {
        let key = put.data(1);
        if let Some(why) = self.keys(key, &[], WRITE)? {
            return Ok(Some(why));
        }
        if let Some(why) = self.lease(put.number(3).cast_signed())? {
            return Ok(Some(why));
        }
        if put.number(4) != 0 { self.keys(key, &[], READ) } else { Ok(None) }
    }

    fn delete(&mut self, delete: Message<'_>) -> Result<Option<Why>, StopReason> {
        let (key, range_end) = (delete.data(1), delete.data(2));
        if let Some(why) = self.keys(key, range_end, WRITE)? {
            return Ok(Some(why));
        }
        if delete.number(3) != 0 { self.keys(key, range_end, READ) } else { Ok(None) }
    }

    fn txn(&mut self, txn: Message<'_>) -> Result<Verdict, StopReason> {
        let mut reads_refused = false;
        let mut open = vec![(txn, true)];
        while let Some((txn, outermost)) = open.pop() {
            for compare in txn.messages_in(1) {
                if let Some(why) = self.keys(compare.data(3), compare.data(64), READ)? {
                    return Ok(Verdict::Refused(why));
                }
            }
            for operation in txn.messages_in(2).chain(txn.messages_in(3)) {
                let refused = if let Some(read) = operation.message(1) {
                    let refused = self.keys(read.data(1), read.data(2), READ)?;
                    if outermost && !self.release.checks_txn_ranges() {
                        reads_refused |= refused.is_some();
                        None
                    } else {
                        refused
                    }
                } else if let Some(put) = operation.message(2) {
                    if self.release.asks_all_of_puts_in_txns() {
                        self.put(put)?
                    } else {
                        self.keys(put.data(1), &[], WRITE)?
                    }
                } else if let Some(delete) = operation.message(3) {
                    self.delete(delete)?
                } else if let Some(nested) = operation.message(4) {
                    if self.release.asks_inside_nested_txns() {
                        open.push((nested, false));
                    }
                    None
                } else {
                    None
                };
                if let Some(why) = refused {
                    return Ok(Verdict::Refused(why));
                }
            }
        }
        Ok(if reads_refused { Verdict::AdmittedWithoutReads } else { Verdict::Admitted })
    }
}

impl Grants {
    /// What the roles of this user allow together; `None` when there is no such user.
    fn of(small: &Small, user: &[u8]) -> Result<Option<Self>, StopReason> {
        let Some(row) = small.get(Name::AuthUsers, user) else { return Ok(None) };
        let row = decoded(Name::AuthUsers, user, UserRow::decode(row))?;
        let mut grants = Self { root: is_root(&row), ..Self::default() };
        for role in &row.roles {
            let Some(row) = small.get(Name::AuthRoles, role) else { continue };
            for permission in decoded(Name::AuthRoles, role, RoleRow::decode(row))?.permissions {
                let (key, range_end) = (&permission.key, &permission.range_end);
                let interval = if range_end.is_empty() { point(key) } else { range(key, range_end) };
                // Older patches let roles have ranges that end before they begin. They hold no key.
                if is_behind(&interval.0, &interval.1) || interval.0 == interval.1 {
                    continue;
                }
                if matches!(permission.kind, READ | READ_WRITE) {
                    grants.read.push(interval.clone());
                }
                if matches!(permission.kind, WRITE | READ_WRITE) {
                    grants.write.push(interval);
                }
            }
        }
        // No interval begins behind all keys, so that the order of bytes is that of bounds.
        grants.read.sort();
        grants.write.sort();
        Ok(Some(grants))
    }
}

/// Whether a server finds the role root among the user's: it looks for it as in a list that is in order.
pub(super) fn is_root(user: &UserRow) -> bool {
    let at = search(user.roles.len(), |at| user.roles.get(at).is_none_or(|role| role.as_slice() >= ROOT));
    user.roles.get(at).is_some_and(|role| role == ROOT)
}

fn point(key: &[u8]) -> Interval {
    let mut end = key.to_vec();
    end.push(0);
    (key.to_vec(), end)
}

fn range(key: &[u8], range_end: &[u8]) -> Interval {
    (key.to_vec(), if range_end == NO_END { Vec::new() } else { range_end.to_vec() })
}

/// Whether one bound lies behind another; an empty one lies behind all.
fn is_behind(bound: &[u8], other: &[u8]) -> bool {
    match (bound.is_empty(), other.is_empty()) {
        (_, true) => false,
        (true, false) => true,
        (false, false) => bound > other,
    }
}

/// Whether the intervals, in the order of their beginnings, leave no gap in the one that is `asked` for.
fn covers(intervals: &[Interval], asked: &Interval) -> bool {
    let (first, end) = asked;
    let mut covered: Option<&[u8]> = None;
    for (begin, after) in intervals {
        let lies_before = is_behind(begin, first) && !is_behind(end, begin);
        if lies_before || !is_behind(after, first) {
            continue;
        }
        match covered {
            None if is_behind(begin, first) => return false,
            None => covered = Some(after),
            Some(covered) if is_behind(begin, covered) => return false,
            Some(so_far) if is_behind(after, so_far) => covered = Some(after),
            Some(_) => {}
        }
    }
    covered.is_some_and(|covered| !is_behind(end, covered))
}

/// Whether this is a range of keys that a role may be given.
pub(super) fn is_range_of_keys(key: &[u8], range_end: &[u8]) -> bool {
    let is_range = range_end.is_empty() || range_end == NO_END || is_behind(range_end, key);
    !key.is_empty() && is_range
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests;
