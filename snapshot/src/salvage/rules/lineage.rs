//! Which of several files are of another history than the first tree: the member was restored, or it is not the same member.
//!
//! Damage changes a value here and there. Two histories have all revisions before they part in common, and hardly one behind.

use std::ops::ControlFlow;

use bbolt::Watch;
use rayon::prelude::*;

use super::super::SalvageError;
use super::super::evidence::Evidence;
use super::super::sweep::{Copy, Group, State, Sweep};

/// Revisions with another value, from which on a file may be of another history. Fewer may be damage.
const FEWEST: u64 = 3;
/// Most copies of one revision that are held against each other.
const MOST_COMPARED: usize = 64;

/// How a file agrees with the one of the first tree.
#[derive(Debug, Clone, Copy, Default)]
struct Agreement {
    /// Main revision of the first record that differs; 0 for none.
    parted: i64,
    same: u64,
    /// Those of the same that stand behind the first that differs.
    same_behind: u64,
    different: u64,
}

impl Agreement {
    fn append(&mut self, next: Self) {
        if self.parted == 0 {
            (self.parted, self.same_behind) = (next.parted, next.same_behind);
        } else {
            self.same_behind += next.same;
        }
        self.same += next.same;
        self.different += next.different;
    }

    fn is_stranger(&self) -> bool {
        self.different >= FEWEST && self.different >= self.same_behind
    }
}

/// For each source the main revision from which on it is of another history than the first tree, `i64::MAX` for none; nothing when all
/// are of one.
pub(super) fn strangers(
    evidence: &Evidence,
    sweep: &Sweep<'_>,
    watch: &dyn Watch,
) -> Result<Vec<i64>, SalvageError> {
    let Some(first) = evidence.trees.first().filter(|_| evidence.sources.len() > 1) else {
        return Ok(Vec::new());
    };
    let Ok(reference) = u16::try_from(first.source) else { return Ok(Vec::new()) };
    watch.begin("holding the files against each other", evidence.leaf_bytes());
    let of_range = |range: usize| {
        let mut agreements = vec![Agreement::default(); evidence.sources.len()];
        sweep.walk(range, watch, &mut |group| {
            add(&mut agreements, group, reference);
            ControlFlow::Continue(())
        })?;
        Ok(agreements)
    };
    let ranges = (0..sweep.ranges()).into_par_iter();
    let parts = ranges.map(of_range).collect::<Result<Vec<_>, SalvageError>>()?;
    let mut agreements = vec![Agreement::default(); evidence.sources.len()];
    for part in parts {
        for (all, part) in agreements.iter_mut().zip(part) {
            all.append(part);
        }
    }
    if !agreements.iter().any(Agreement::is_stranger) {
        return Ok(Vec::new());
    }
    let parted = |of: &Agreement| if of.is_stranger() { of.parted } else { i64::MAX };
    Ok(agreements.iter().map(parted).collect())
}

/// Adds what the copies of one revision say: a file that has one as the first tree's file has it agrees.
fn add(agreements: &mut [Agreement], group: &Group<'_>, reference: u16) {
    let whole = || group.copies.iter().take(MOST_COMPARED).filter(|copy| copy.state == State::Whole);
    let of_reference = || whole().filter(|copy| copy.source == reference);
    if of_reference().next().is_none() {
        return;
    }
    let is_like = |copy: &Copy<'_>| {
        of_reference().any(|other| other.is_tombstone == copy.is_tombstone && other.value == copy.value)
    };
    // What a file has several times counts once, and agrees when one of them does.
    for copy in whole().filter(|copy| copy.source != reference) {
        let of_source = || whole().filter(|other| other.source == copy.source);
        if !of_source().next().is_some_and(|first| std::ptr::eq(first, copy)) {
            continue;
        }
        let Some(agreement) = agreements.get_mut(usize::from(copy.source)) else { continue };
        if of_source().any(is_like) {
            agreement.same += 1;
            agreement.same_behind += u64::from(agreement.parted != 0);
        } else {
            agreement.different += 1;
            if agreement.parted == 0 {
                agreement.parted = group.main;
            }
        }
    }
}
