//! What the entries of a log may have written into the key space, told from the entries alone.
//!
//! An entry makes one revision at most. Whether it did, and by which branch of a transaction, depends on the store it was applied to,
//! of which parts are lost; what it would have written does not. So each entry that may have written is one [`Step`], with the
//! records it would have made as hashes: they are held against the records that are left.

use std::collections::HashSet;

use wal::EntryRef;
use wal::raftpb::EntryType;

use super::asked::{Asked, Write, key_hash};
use crate::request::{self, Decoded};

/// Most steps that are told apart: what is kept of one takes some 100 bytes.
pub(super) const MOST_STEPS: usize = 4 << 20;
/// Most operations of all of them: 24 bytes each.
const MOST_ALL_OPS: usize = 8 << 20;
/// Most single deletions in a transaction of which each may have found its key or not.
const MOST_DELETIONS: u32 = 4;

/// What an operation writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A record with this value and lease.
    Put,
    /// A record that keeps the value or the lease of the one before it.
    Keep,
    /// A tombstone, where the key is there.
    Delete,
}

/// An operation that writes one record at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) what: What,
    /// Hash of the user's key.
    pub(super) key: u64,
    /// Hash of all that the record says but for its numbers; of no meaning for [`What::Keep`].
    pub(super) content: u64,
}

/// The operations of one branch of a transaction, or of a request that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Branch {
    first: u32,
    count: u32,
    /// Whether others follow of which the entry does not say how many records they write, or which.
    pub(super) is_open: bool,
}

/// That a transaction writes its first branch if the key's last put has this revision (0: if the key is not there), else its
/// second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guard {
    /// Hash of the key.
    pub(super) key: u64,
    pub(super) revision: i64,
}

/// An entry that may have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The entry.
    pub(super) index: u64,
    /// What it writes if its compares hold, and if they do not; a request without compares has the first alone.
    pub(super) branches: [Branch; 2],
    /// Whether it has compares, and so may take the second branch.
    pub(super) has_compares: bool,
    /// Whether it may have written nothing, whatever the store was.
    pub(super) can_be_refused: bool,
    /// Whether all that it writes are tombstones.
    pub(super) only_deletes: bool,
    pub(super) guard: Option<Guard>,
}

impl Step {
    /// Whether each branch that it may take puts a key.
    pub(super) fn branches_write(&self, steps: &Steps) -> bool {
        let writes = |branch: &Branch| steps.ops(branch).iter().any(|op| op.what != What::Delete);
        let [first, second] = &self.branches;
        writes(first) && (!self.has_compares || writes(second))
    }
}

/// All that a log may have written.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    ops: Vec<Op>,
    /// Compactions that were asked for: entry and revision.
    pub(super) compactions: Vec<(u64, i64)>,
    /// Whether something may have stood before the store: an alarm, or users' permissions.
    pub(super) has_gates: bool,
    /// The first entry that says nothing to us, or one too many: from there on nothing is known.
    pub(super) ends_at: Option<u64>,
    /// Hashes of the keys of which some entry keeps the value or the lease.
    pub(super) kept: HashSet<u64>,
    /// The last entry that was taken in.
    pub(super) last: u64,
}

impl Steps {
    /// Takes in the next entry.
    pub(super) fn push(&mut self, entry: &EntryRef<'_>) {
        if self.ends_at.is_some() {
            return;
        }
        self.last = entry.index;
        if entry.entry_type != EntryType::Normal as i32 {
            return;
        }
        let request = match request::decode(entry.data) {
            Decoded::Nothing | Decoded::V2(_) => return,
            Decoded::Undecodable { .. } => return self.end(entry.index),
            Decoded::V3(request) => request,
        };
        let kind = request.kind();
        if kind == "none" || self.steps.len() >= MOST_STEPS || self.ops.len() >= MOST_ALL_OPS {
            return self.end(entry.index);
        }
        let whole = request.message();
        let asked = whole.children().find(|(field, _)| field.name == kind).map(|(_, asked)| asked);
        let header = whole.children().find(|(field, _)| field.name == "header").map(|(_, header)| header);
        // Who asks says so once authentication is on.
        self.has_gates |= header.is_some_and(|header| !header.data(2).is_empty());
        self.has_gates |= matches!(kind, "alarm" | "auth_enable");
        let Some(asked) = asked else { return };
        if kind == "compaction" {
            self.compactions.push((entry.index, asked.number(1).cast_signed()));
        } else if let Some(asked) = Asked::of(kind, asked) {
            self.add(entry.index, &asked);
        }
    }

    fn end(&mut self, index: u64) {
        self.ends_at = Some(index);
        self.last = index.saturating_sub(1);
    }

    fn add(&mut self, index: u64, asked: &Asked<'_>) {
        let [success, failure] = &asked.branches;
        let [more, more_else] = asked.has_more;
        self.kept.extend(asked.keeps.iter().map(|key| key_hash(key)));
        let is_revoke = asked.revokes.is_some();
        let branches = [self.branch(success, more || is_revoke), self.branch(failure, more_else)];
        self.steps.push(Step {
            index,
            branches,
            has_compares: asked.has_compares,
            can_be_refused: asked.can_be_refused,
            only_deletes: asked.only_deletes(),
            guard: asked.guard.map(|(key, revision)| Guard { key: key_hash(key), revision }),
        });
    }

    fn branch(&mut self, writes: &[Write<'_>], is_open: bool) -> Branch {
        let first = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
        let (mut count, mut deletions) = (0, 0);
        for write in writes {
            deletions += u32::from(write.is_delete);
            // Which of so many found their keys, nobody can say; nor how many keys are in a range.
            let Some(op) = write.op().filter(|_| deletions <= MOST_DELETIONS) else {
                return Branch { first, count, is_open: true };
            };
            self.ops.push(op);
            count += 1;
        }
        Branch { first, count, is_open }
    }

    /// The operations of a branch.
    pub(super) fn ops(&self, branch: &Branch) -> &[Op] {
        let first = branch.first as usize;
        self.ops.get(first..first.saturating_add(branch.count as usize)).unwrap_or_default()
    }

    /// The number of steps up to the entry `index`.
    pub(super) fn up_to(&self, index: u64) -> usize {
        self.steps.partition_point(|step| step.index <= index)
    }
}
