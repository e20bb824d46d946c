//! What an entry asks to have written into the key space.

use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;
use wal::EntryRef;
use wal::raftpb::EntryType;

use super::steps::{Op, What};
use crate::replay::write::Put;
use crate::request::{self, Decoded, Item, Message, Value};

/// Most operations of one transaction that are looked at. Servers take 128 unless they are told otherwise.
const MOST_OPS: usize = 4096;

/// A hash of parts, each with its length.
fn hash(parts: &[&[u8]], number: i64) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in parts {
        part.hash(&mut hasher);
    }
    number.hash(&mut hasher);
    hasher.finish()
}

/// The hash of a user's key.
pub(super) fn key_hash(key: &[u8]) -> u64 {
    hash(&[b"key", key], 0)
}

/// The hash of what a put says beside its numbers.
pub(super) fn put_hash(key: &[u8], value: &[u8], lease: i64) -> u64 {
    hash(&[b"put", key, value], lease)
}

/// The hash of what a tombstone says.
pub(super) fn tombstone_hash(key: &[u8]) -> u64 {
    hash(&[b"delete", key], 0)
}

/// `etcdserverpb.PutRequest` and `DeleteRangeRequest`, as far as they say what is written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Write<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) lease: i64,
    pub(super) keeps_value: bool,
    pub(super) keeps_lease: bool,
    pub(super) is_delete: bool,
    /// Of a deletion: empty for that of one key.
    pub(super) range_end: &'a [u8],
}

impl<'a> Write<'a> {
    fn put(request: Message<'a>) -> Self {
        let Put { key, value, lease, ignore_value, ignore_lease } = Put::of(request);
        Self { key, value, lease, keeps_value: ignore_value, keeps_lease: ignore_lease, ..Self::default() }
    }

    fn delete(request: Message<'a>) -> Self {
        Self { key: request.data(1), range_end: request.data(2), is_delete: true, ..Self::default() }
    }

    /// What it writes by itself; `None` for the deletion of a range.
    pub(super) fn op(&self) -> Option<Op> {
        let key = key_hash(self.key);
        if self.is_delete {
            let op = Op { what: What::Delete, key, content: tombstone_hash(self.key) };
            return self.range_end.is_empty().then_some(op);
        }
        if self.keeps_value || self.keeps_lease {
            return Some(Op { what: What::Keep, key, content: 0 });
        }
        Some(Op { what: What::Put, key, content: put_hash(self.key, self.value, self.lease) })
    }

    /// Whether a server may refuse it for what the store is.
    const fn can_be_refused(&self) -> bool {
        self.lease != 0 || self.keeps_value || self.keeps_lease
    }
}

/// What a request may write.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked<'a> {
    /// The writes of each branch up to the first that lies in a transaction of its own.
    pub(super) branches: [Vec<Write<'a>>; 2],
    /// Whether more follows that is not told.
    pub(super) has_more: [bool; 2],
    pub(super) has_compares: bool,
    /// That the branches are chosen by one key's last revision, and by nothing else.
    pub(super) guard: Option<(&'a [u8], i64)>,
    /// The lease whose keys it deletes.
    pub(super) revokes: Option<i64>,
    pub(super) can_be_refused: bool,
    /// Keys of which it keeps the value or the lease, in transactions of its own too.
    pub(super) keeps: Vec<&'a [u8]>,
}

/// Fields of `TxnRequest` and `Compare`.
const COMPARE: i32 = 1;
const SUCCESS: i32 = 2;
const FAILURE: i32 = 3;
const TARGET_MOD: i32 = 2;

impl<'a> Asked<'a> {
    /// What a request of this kind may write; `None` where it writes no key.
    pub(super) fn of(kind: &str, request: Message<'a>) -> Option<Self> {
        let alone = |write: Write<'a>| Self {
            can_be_refused: write.can_be_refused(),
            keeps: (write.keeps_value || write.keeps_lease).then_some(write.key).into_iter().collect(),
            branches: [vec![write], Vec::new()],
            ..Self::default()
        };
        match kind {
            "put" => Some(alone(Write::put(request))),
            "delete_range" => Some(alone(Write::delete(request))),
            "lease_revoke" => Some(Self {
                revokes: Some(request.number(1).cast_signed()),
                can_be_refused: true,
                ..Self::default()
            }),
            "txn" => Self::of_txn(request),
            _ => None,
        }
    }

    fn of_txn(txn: Message<'a>) -> Option<Self> {
        let mut compares = txn.messages_in(COMPARE);
        let (first, second) = (compares.next(), compares.next());
        let has_compares = first.is_some();
        let (success, more) = branch_of(txn, SUCCESS);
        let (failure, more_else) = if has_compares { branch_of(txn, FAILURE) } else { (Vec::new(), false) };
        if success.is_empty() && failure.is_empty() && !more && !more_else {
            return None;
        }
        // Reads of a revision that is compacted or yet to come refuse it all, on some servers (FORMATS X 48).
        let reads = txn.walk().any(|inner| {
            std::ptr::eq(inner.kind(), &raw const request::schema::RANGE) && inner.number(4) != 0
        });
        let is_put = |inner: &Message<'a>| std::ptr::eq(inner.kind(), &raw const request::schema::PUT);
        let puts = txn.walk().filter(is_put).map(Write::put);
        let keeps = puts.filter(|put| put.keeps_value || put.keeps_lease).map(|put| put.key).collect();
        let refusing = success.iter().chain(&failure).any(Write::can_be_refused);
        Some(Self {
            branches: [success, failure],
            has_more: [more, more_else],
            has_compares,
            guard: first.filter(|_| second.is_none()).and_then(guard_of),
            revokes: None,
            keeps,
            can_be_refused: refusing || reads || more || more_else,
        })
    }

    /// Whether all that it may write are tombstones.
    pub(super) fn only_deletes(&self) -> bool {
        self.has_more == [false; 2] && self.branches.iter().flatten().all(|write| write.is_delete)
    }
}

/// The writes of a branch up to the first that lies in a transaction of its own, and whether there is such a one.
fn branch_of(txn: Message<'_>, branch: i32) -> (Vec<Write<'_>>, bool) {
    let mut writes = Vec::new();
    for operation in txn.messages_in(branch) {
        match operation.children().next() {
            _ if writes.len() >= MOST_OPS => return (writes, true),
            Some((field, put)) if field.number == 2 => writes.push(Write::put(put)),
            Some((field, delete)) if field.number == 3 => writes.push(Write::delete(delete)),
            Some((field, _)) if field.number == 4 => return (writes, true),
            _ => {}
        }
    }
    (writes, false)
}

/// The compare as one of a key's last revision, where it is such a one.
fn guard_of(compare: Message<'_>) -> Option<(&[u8], i64)> {
    let is_equal = compare.enumeration(1) == 0 && compare.enumeration(2) == TARGET_MOD;
    let is_single = compare.data(64).is_empty();
    let given = compare.items().filter_map(|item| match item {
        Item::Known { field, value, .. } if (4..=8).contains(&field.number) => Some((field.number, value)),
        _ => None,
    });
    let revision = match given.last() {
        Some((6, Value::Number(revision))) => revision.cast_signed(),
        // Another alternative than the target's counts as 0, as does none.
        _ => 0,
    };
    (is_equal && is_single).then(|| (compare.data(3), revision))
}

/// Shows `look` what an entry asks to have written into the key space; what it says, where there is anything.
pub(super) fn asked_of<T>(entry: &EntryRef<'_>, look: impl FnOnce(&Asked<'_>) -> T) -> Option<T> {
    if entry.entry_type != EntryType::Normal as i32 {
        return None;
    }
    let Decoded::V3(request) = request::decode(entry.data) else { return None };
    let kind = request.kind();
    let whole = request.message();
    let (_, asked) = whole.children().find(|(field, _)| field.name == kind)?;
    Asked::of(kind, asked).as_ref().map(look)
}
