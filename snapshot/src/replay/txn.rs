//! Transactions, with those that lie in them (FORMATS G.7).
//!
//! All compares are evaluated before anything is written, those of inner transactions too. That makes the operations of the
//! branches they choose one list, in the order in which they are carried out. Then all of it is checked, also before anything is
//! written, and only then carried out, as one revision. Nesting costs no stack.

use std::cmp::Ordering;

use bbolt::Source;

use super::keys::{Keys, NEVER_COMPACTED};
use super::write::{Delete, Put, one_revision};
use super::{Applied, StopReason, Why};
use crate::mvcc::{KeyValue, RecordError, Release};
use crate::request::schema::Label;
use crate::request::{Item, Message, Value};

/// Alternatives of `etcdserverpb.RequestOp`.
const RANGE: i32 = 1;
const PUT: i32 = 2;
const DELETE_RANGE: i32 = 3;
const TXN: i32 = 4;

/// Fields of `etcdserverpb.TxnRequest`.
const COMPARE: i32 = 1;
const SUCCESS: i32 = 2;
const FAILURE: i32 = 3;

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) applied: Applied,
    /// True when the member that proposed it refused it, for what it reads.
    pub(super) proposer_refused: bool,
}

/// An operation of the branches that were chosen.
enum Operation<'a> {
    /// A read at this revision.
    Range {
        revision: i64,
        is_inner: bool,
    },
    Put(Put<'a>),
    Delete(Delete<'a>),
}

/// Applies a transaction as a server of `release` does that nobody waits for.
pub(super) fn apply<S: Source>(
    keys: &mut Keys<'_, S>,
    request: Message<'_>,
    release: Release,
) -> Result<Outcome, StopReason> {
    let operations = chosen(keys, request)?;
    let mut proposer_refused = false;
    for operation in &operations {
        let why = match operation {
            Operation::Put(put) => put.refused(keys)?,
            Operation::Range { revision, is_inner } => {
                let refused = range_refused(keys, *revision);
                let is_checked = *is_inner || release.checks_txn_ranges();
                proposer_refused |= refused.is_some() && !is_checked;
                refused.filter(|_| is_checked)
            }
            Operation::Delete(_) => None,
        };
        if let Some(why) = why {
            return Ok(Outcome { applied: Applied::Nothing(why), proposer_refused: false });
        }
    }
    let writes = operations.iter().any(|operation| !matches!(operation, Operation::Range { .. }));
    let reads_only = !writes && is_read_only(request);
    let otherwise = match (writes, reads_only) {
        (true, _) => Why::NoKey,
        (_, true) => Why::ReadOnly,
        _ => Why::CompareFailed,
    };
    let applied = one_revision(keys, otherwise, |keys| {
        operations.iter().try_for_each(|operation| match operation {
            Operation::Range { .. } => Ok(()),
            Operation::Put(put) => put.write(keys),
            Operation::Delete(delete) => delete.write(keys),
        })
    })?;
    Ok(Outcome { applied, proposer_refused: proposer_refused && writes })
}

/// Whether a transaction costs space, as far as servers of `release` look into it (FORMATS G.5).
pub(super) fn costs_space(request: Message<'_>, release: Release) -> bool {
    let mut pending = vec![request];
    while let Some(txn) = pending.pop() {
        for (field, inner) in operations_of(txn, SUCCESS).chain(operations_of(txn, FAILURE)) {
            match field {
                PUT => return true,
                TXN if release.counts_nested_puts() => pending.push(inner),
                _ => {}
            }
        }
    }
    false
}

/// Whether no branch has anything but reads.
fn is_read_only(txn: Message<'_>) -> bool {
    operations_of(txn, SUCCESS).chain(operations_of(txn, FAILURE)).all(|(field, _)| field == RANGE)
}

/// The operations in a branch, each with the alternative it is.
fn operations_of(txn: Message<'_>, branch: i32) -> impl Iterator<Item = (i32, Message<'_>)> {
    txn.messages_in(branch)
        .filter_map(|operation| operation.children().next())
        .map(|(field, message)| (field.number, message))
}

/// The operations that the compares choose, in the order in which they are carried out.
fn chosen<'a, S: Source>(
    keys: &mut Keys<'_, S>,
    txn: Message<'a>,
) -> Result<Vec<Operation<'a>>, RecordError> {
    let mut operations = Vec::new();
    let mut open = vec![operations_of(txn, branch_of(keys, txn)?)];
    while let depth = open.len()
        && let Some(branch) = open.last_mut()
    {
        match branch.next() {
            None => {
                open.pop();
            }
            Some((RANGE, range)) => {
                let revision = range.number(4).cast_signed();
                operations.push(Operation::Range { revision, is_inner: depth > 1 });
            }
            Some((PUT, put)) => operations.push(Operation::Put(Put::of(put))),
            Some((DELETE_RANGE, delete)) => operations.push(Operation::Delete(Delete::of(delete))),
            Some((_, inner)) => {
                let branch = branch_of(keys, inner)?;
                open.push(operations_of(inner, branch));
            }
        }
    }
    Ok(operations)
}

/// The branch that the compares of `txn` choose.
fn branch_of<S: Source>(keys: &mut Keys<'_, S>, txn: Message<'_>) -> Result<i32, RecordError> {
    for compare in txn.messages_in(COMPARE) {
        if !Compare::of(compare).holds(keys)? {
            return Ok(FAILURE);
        }
    }
    Ok(SUCCESS)
}

/// Why a read at this revision is refused.
fn range_refused<S: Source>(keys: &Keys<'_, S>, revision: i64) -> Option<Why> {
    match revision {
        0 => None,
        later if later > keys.current_revision() => Some(Why::FutureRevision),
        earlier if earlier < keys.compact_revision.max(NEVER_COMPACTED) => Some(Why::Compacted),
        _ => None,
    }
}

/// `etcdserverpb.Compare`.
#[derive(Debug, Clone, Copy, Default)]
struct Compare<'a> {
    result: i32,
    target: i32,
    key: &'a [u8],
    range_end: &'a [u8],
    /// The alternative that was given, by its field.
    given: Option<(i32, Value<'a>)>,
}

/// `Compare.CompareResult`.
const EQUAL: i32 = 0;
const GREATER: i32 = 1;
const LESS: i32 = 2;
const NOT_EQUAL: i32 = 3;

/// `Compare.CompareTarget`.
const TARGET_VERSION: i32 = 0;
const TARGET_CREATE: i32 = 1;
const TARGET_MOD: i32 = 2;
const TARGET_VALUE: i32 = 3;
const TARGET_LEASE: i32 = 4;

impl<'a> Compare<'a> {
    fn of(request: Message<'a>) -> Self {
        let mut compare = Self::default();
        for item in request.items() {
            let Item::Known { field, value, .. } = item else { continue };
            match (field.number, value) {
                (1, Value::Number(result)) => compare.result = enumerated(result),
                (2, Value::Number(target)) => compare.target = enumerated(target),
                (3, Value::Bytes(key)) => compare.key = key,
                (64, Value::Bytes(end)) => compare.range_end = end,
                (number, value) if field.label == Label::Oneof => compare.given = Some((number, value)),
                _ => {}
            }
        }
        compare
    }

    /// Whether it holds for every key there is in its range. Where there is none, a value is never as asked; all other targets
    /// are 0.
    fn holds<S: Source>(&self, keys: &mut Keys<'_, S>) -> Result<bool, RecordError> {
        if self.range_end.is_empty() {
            return Ok(match keys.newest(self.key)? {
                Some(newest) => self.holds_for(&newest.kv()),
                None => self.holds_without_key(),
            });
        }
        let (mut any, mut all) = (false, true);
        keys.all_in(self.key, self.range_end, |kv| {
            any = true;
            all = self.holds_for(kv);
            all
        })?;
        Ok(if any { all } else { self.holds_without_key() })
    }

    fn holds_without_key(&self) -> bool {
        self.target != TARGET_VALUE && self.holds_for(&KeyValue::default())
    }

    fn holds_for(&self, kv: &KeyValue<'_>) -> bool {
        let order = match self.target {
            TARGET_VERSION => kv.version.cmp(&self.number(4)),
            TARGET_CREATE => kv.create_revision.cmp(&self.number(5)),
            TARGET_MOD => kv.mod_revision.cmp(&self.number(6)),
            TARGET_VALUE => {
                let value = match self.given {
                    Some((7, Value::Bytes(value))) => value,
                    _ => &[],
                };
                kv.value.cmp(value)
            }
            TARGET_LEASE => kv.lease.cmp(&self.number(8)),
            _ => Ordering::Equal,
        };
        match self.result {
            EQUAL => order.is_eq(),
            GREATER => order.is_gt(),
            LESS => order.is_lt(),
            NOT_EQUAL => order.is_ne(),
            _ => true,
        }
    }

    /// The number that was given in this field; 0 when another alternative was.
    fn number(&self, field: i32) -> i64 {
        match self.given {
            Some((given, Value::Number(number))) if given == field => number.cast_signed(),
            _ => 0,
        }
    }
}

/// An enum's value as servers keep it: the low 32 bits.
fn enumerated(number: u64) -> i32 {
    let [low @ .., _, _, _, _] = number.to_le_bytes();
    i32::from_le_bytes(low)
}
