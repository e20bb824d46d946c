//! What the log may give back: records that it is known to have made and that did not survive.

use std::collections::{HashMap, HashSet};

use super::align::{Aligned, Edge};
use super::asked::{Write, asked_of, key_hash};
use super::steps::{Op, Steps, What};
use super::table::Table;

/// All that is asked when something is to be said of a revision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) steps: &'a Steps,
    pub(super) aligned: &'a Aligned,
    /// What survived.
    pub(super) table: &'a Table,
    /// Main revisions, ascending, with records that are not in there because they are damaged.
    pub(super) unsure: &'a [i64],
    /// The compaction; 0 for none.
    pub(super) compacted: i64,
    /// Main revisions in a row of which no tree says anything, ascending.
    pub(super) silent: &'a [(i64, i64)],
}

impl Known<'_> {
    /// Whether no tree says anything of this main revision.
    pub(super) fn is_silent(&self, main: i64) -> bool {
        is_in(self.silent, main)
    }

    /// Whether no tree says anything of some main revision from `from` to `to`.
    pub(super) fn is_silent_between(&self, from: i64, to: i64) -> bool {
        let behind = self.silent.partition_point(|(_, end)| *end < from);
        from <= to && self.silent.get(behind).is_some_and(|(start, _)| *start <= to)
    }

    /// Whether something may have been written in this main revision that is neither in a tree nor in the table.
    pub(super) fn may_have_more(&self, main: i64) -> bool {
        self.is_silent(main) || self.unsure.binary_search(&main).is_ok()
    }

    /// The main revisions in the table.
    pub(super) fn mains(&self) -> std::ops::RangeInclusive<i64> {
        self.table.first()..=self.table.last()
    }

    /// How a main revision was made where that says all that was written.
    pub(super) fn closed_edge(&self, main: i64) -> Option<Edge> {
        self.aligned.edge(main).filter(|edge| !edge.is_open(self.steps))
    }

    /// Whether the record at this place of a main revision survived and is what the entry wrote.
    pub(super) fn has(&self, main: i64, sub: u32, op: Option<&Op>) -> bool {
        let found = self.table.at(main).iter().find(|known| known.sub == sub);
        found.is_some_and(|known| op.is_none_or(|op| known.is_by(op)))
    }
}

impl Known<'_> {
    /// Whether the record at this place of a main revision is lacking: it did not survive, or is not what the entry wrote. At or below the
    /// compaction it need not be there where trees say everything.
    fn is_lacking(&self, main: i64, sub: u32, op: &Op) -> bool {
        if main > self.compacted || self.is_silent(main) {
            return !self.has(main, sub, Some(op));
        }
        self.has(main, sub, None) && !self.has(main, sub, Some(op))
    }
}

/// Whether a number is in one of the ranges, which ascend.
pub(super) fn is_in(ranges: &[(i64, i64)], number: i64) -> bool {
    let behind = ranges.partition_point(|(from, _)| *from <= number);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, to)| number <= *to)
}

/// Main revisions that are to be made again, and keys whose history has to be known for that.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The main revisions and how they were made, ascending.
    pub(super) mains: Vec<(i64, Edge)>,
    /// Hashes of the keys.
    pub(super) keys: HashSet<u64>,
    /// For each key that the log is known to have written at or below the compaction the last such main revision, by its hash.
    pub(super) last_compacted: HashMap<u64, i64>,
}

/// Finds what is lacking of what the log is known to have made.
pub(super) fn wanted(known: &Known<'_>) -> Wanted {
    let mut wanted = Wanted::default();
    below_compaction(known, &mut wanted);
    let mut mains = Vec::new();
    for main in known.mains() {
        let Some(edge) = known.aligned.edge(main) else { continue };
        if main <= known.compacted {
            continue;
        }
        let lacking = |(sub, (_, op)): (u32, (usize, &Op))| known.is_lacking(main, sub, op);
        let is_lacking = (0..).zip(edge.ops(known.steps)).any(lacking);
        if is_lacking || (edge.is_open(known.steps) && known.may_have_more(main)) {
            wanted.keys.extend(edge.ops(known.steps).map(|(_, op)| op.key));
            mains.push((main, edge));
        }
    }
    // What the keys went through before is needed for their numbers.
    for main in known.mains().take_while(|main| *main <= known.compacted) {
        let Some(edge) = known.aligned.edge(main) else { continue };
        let touches = |(_, op): (usize, &Op)| wanted.keys.contains(&op.key);
        if edge.is_open(known.steps) || edge.ops(known.steps).any(touches) {
            wanted.mains.push((main, edge));
        }
    }
    if wanted.keys.is_empty() && mains.is_empty() {
        // Ranges that were deleted before the compaction matter to nobody.
        wanted.mains.clear();
    }
    wanted.mains.append(&mut mains);
    wanted
}

/// Of what was written at or below the compaction the last record of each key stays: those that are puts and did not survive.
fn below_compaction(known: &Known<'_>, wanted: &mut Wanted) {
    let mut seen: HashSet<u64> = HashSet::new();
    for main in known.mains().rev().skip_while(|main| *main > known.compacted) {
        let edge = known.aligned.edge(main);
        let ops: Vec<(u32, Op)> = match edge {
            Some(edge) => (0..).zip(edge.ops(known.steps).map(|(_, op)| *op)).collect(),
            None => Vec::new(),
        };
        for (sub, op) in ops.iter().rev() {
            if seen.insert(op.key) {
                wanted.last_compacted.insert(op.key, main);
                if op.what != What::Delete && known.is_lacking(main, *sub, op) {
                    wanted.keys.insert(op.key);
                }
            }
        }
        // What survived of a revision of which the log says nothing was the key's last then.
        seen.extend(known.table.at(main).iter().map(|record| record.key));
    }
}

/// A write of an entry, kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) lease: i64,
    pub(super) keeps_value: bool,
    pub(super) keeps_lease: bool,
    pub(super) is_delete: bool,
    pub(super) range_end: Vec<u8>,
}

impl Kept {
    fn of(write: &Write<'_>) -> Self {
        Self {
            key: write.key.to_vec(),
            value: write.value.to_vec(),
            lease: write.lease,
            keeps_value: write.keeps_value,
            keeps_lease: write.keeps_lease,
            is_delete: write.is_delete,
            range_end: write.range_end.to_vec(),
        }
    }

    /// Whether it deletes a range that has this key.
    pub(super) fn sweeps(&self, key: &[u8]) -> bool {
        self.is_delete
            && !self.range_end.is_empty()
            && self.key.as_slice() <= key
            && (self.range_end == b"\0" || key < self.range_end.as_slice())
    }
}

/// A main revision that is to be made again, with what made it.
#[derive(Debug, Clone)]
pub(super) struct Making {
    pub(super) main: i64,
    pub(super) edge: Edge,
    pub(super) writes: Vec<Kept>,
    /// The key whose last revision chose the branch, and that revision.
    pub(super) guard: Option<(Vec<u8>, i64)>,
    /// The lease whose keys were deleted.
    pub(super) revokes: Option<i64>,
    /// Whether more was written than is told here.
    pub(super) has_more: bool,
}

impl Wanted {
    /// Takes the writes of an entry, where it is one that made a main revision that is to be made again. Entries come in their order;
    /// `next` is the number of those taken before.
    pub(super) fn take(&self, steps: &Steps, entry: &wal::EntryRef<'_>, next: &mut usize) -> Option<Making> {
        let (main, edge) = *self.mains.get(*next)?;
        let step = steps.steps.get(edge.step as usize)?;
        if step.index != entry.index {
            return None;
        }
        *next += 1;
        let branch = usize::from(edge.branch);
        asked_of(entry, |asked| Making {
            main,
            edge,
            writes: asked.branches.get(branch).into_iter().flatten().map(Kept::of).collect(),
            guard: asked.guard.filter(|_| branch == 0).map(|(key, revision)| (key.to_vec(), revision)),
            revokes: asked.revokes,
            has_more: asked.has_more.get(branch).copied().unwrap_or_default(),
        })
    }
}

/// Which records have to be known for what is to be made.
#[derive(Debug)]
pub(super) struct Interest<'a> {
    keys: &'a HashSet<u64>,
    ranges: Vec<&'a Kept>,
    leases: HashSet<i64>,
    /// Keys of which a write keeps the value or the lease.
    kept: HashSet<&'a [u8]>,
}

impl<'a> Interest<'a> {
    pub(super) fn of(wanted: &'a Wanted, makings: &'a [Making], compacted: i64) -> Self {
        let above = makings.iter().filter(|making| making.main > compacted);
        let writes = makings.iter().flat_map(|making| &making.writes);
        Self {
            keys: &wanted.keys,
            ranges: above
                .clone()
                .flat_map(|making| &making.writes)
                .filter(|write| write.is_delete && !write.range_end.is_empty())
                .collect(),
            leases: above.filter_map(|making| making.revokes).collect(),
            kept: writes
                .filter(|write| write.keeps_value || write.keeps_lease)
                .map(|write| write.key.as_slice())
                .collect(),
        }
    }

    pub(super) fn wants(&self, key: &[u8], lease: i64) -> bool {
        self.keys.contains(&key_hash(key))
            || (lease != 0 && self.leases.contains(&lease))
            || self.ranges.iter().any(|range| range.sweeps(key))
    }

    /// Whether the value has to be known too.
    pub(super) fn wants_value(&self, key: &[u8]) -> bool {
        self.kept.contains(key)
    }
}
