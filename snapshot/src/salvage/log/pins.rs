//! Where entry and revision are known to belong together.
//!
//! A tree says at which entry it stands and at which revision. And a record whose content one entry alone asks for, and that is found
//! at one revision alone, was written by that entry, unless all that it says was also written before the log began or by an entry that is
//! lost. Such a coincidence stands alone: of all that seem to belong together those are taken that agree on the order, which is the
//! longest chain of them.

use std::collections::HashMap;

use super::steps::{Steps, What};

/// That a store in which the first `steps` steps have been applied stands at this main revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pin {
    pub(super) steps: usize,
    pub(super) revision: i64,
}

/// A step, and a main revision that it seems to have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hit {
    /// The number of steps before it.
    step: i64,
    main: i64,
    /// A tree's word, which says of no step that it wrote, but of all of them how far they came.
    is_tree: bool,
}

/// Which step alone asks for a content, and where that was seen.
#[derive(Debug, Clone, Copy)]
struct Asked {
    step: u32,
    /// The first and last place within a main revision where it may stand.
    subs: (u32, u32),
    seen_at: i64,
}

/// In place of a step: several ask for it.
const SEVERAL: u32 = u32::MAX;
/// In place of a revision: it was not seen yet, and it was seen at several.
const NOWHERE: i64 = -1;
const EVERYWHERE: i64 = -2;

/// Finds out which records belong to which steps, as the records pass by.
#[derive(Debug, Default)]
pub(super) struct Finder {
    by_content: HashMap<u64, Asked>,
}

impl Finder {
    pub(super) fn new(steps: &Steps) -> Self {
        let mut by_content: HashMap<u64, Asked> = HashMap::new();
        for (at, step) in steps.steps.iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(SEVERAL);
            let mut puts = 0;
            let in_branch = |branch| (0..).zip(steps.ops(branch));
            for (place, op) in step.branches.iter().flat_map(in_branch) {
                // Deletions before it may have found nothing.
                puts = if place == 0 { 0 } else { puts };
                let subs = (puts, place);
                puts += u32::from(op.what != What::Delete);
                // A tombstone says no more than the key, and what keeps a value the same as the put before it.
                if op.what == What::Put && !steps.kept.contains(&op.key) {
                    let asked =
                        by_content.entry(op.content).or_insert(Asked { step: at, subs, seen_at: NOWHERE });
                    if asked.step != at {
                        asked.step = SEVERAL;
                    }
                    asked.subs = (asked.subs.0.min(subs.0), asked.subs.1.max(subs.1));
                }
            }
        }
        by_content.retain(|_, asked| asked.step != SEVERAL);
        Self { by_content }
    }

    /// Takes in a record.
    pub(super) fn see(&mut self, main: i64, sub: u32, content: u64) {
        if let Some(asked) = self.by_content.get_mut(&content) {
            if !(asked.subs.0..=asked.subs.1).contains(&sub) {
                asked.seen_at = EVERYWHERE;
                return;
            }
            asked.seen_at = match asked.seen_at {
                NOWHERE => main,
                before if before == main => main,
                _ => EVERYWHERE,
            };
        }
    }

    /// Where entries and revisions belong together, by ascending steps; `trees` are places of which trees say so.
    pub(super) fn pins(self, steps: &Steps, trees: &[Pin]) -> Pins {
        let seen = self.by_content.into_values().filter(|asked| asked.seen_at >= 0);
        let mut hits: Vec<Hit> =
            seen.map(|asked| Hit { step: asked.step.into(), main: asked.seen_at, is_tree: false }).collect();
        hits.sort_unstable_by_key(|hit| (hit.main, hit.step));
        hits.dedup();
        let all = hits.len();
        // A revision is made by one step.
        let mains: Vec<i64> = hits.iter().map(|hit| hit.main).collect();
        let is_alone =
            |main: i64| mains.partition_point(|m| *m <= main) - mains.partition_point(|m| *m < main) == 1;
        hits.retain(|hit| is_alone(hit.main));
        let count = |steps: usize| i64::try_from(steps).unwrap_or(i64::MAX);
        let of_tree = |pin: &Pin| Hit { step: count(pin.steps) - 1, main: pin.revision, is_tree: true };
        hits.extend(trees.iter().map(of_tree));
        hits.sort_unstable_by_key(|hit| (hit.main, hit.step, hit.is_tree));
        // No more revisions pass than steps do.
        let hits = longest(&hits, |hit| hit.step.saturating_sub(hit.main));
        // And a step that must have written has written.
        let certain = Certain::of(steps);
        let hits = longest(&hits, |hit| {
            let done = hit.step.saturating_add(i64::from(hit.is_tree));
            let written = certain.before(usize::try_from(done).unwrap_or(0));
            hit.main.saturating_sub(i64::from(written))
        });
        let held = hits.iter().filter(|hit| !hit.is_tree).count();
        let pins_of = |hit: &Hit| {
            let step = usize::try_from(hit.step).ok();
            let before = step.map(|steps| Pin { steps, revision: hit.main.saturating_sub(1) });
            let behind = Pin { steps: step.map_or(0, |step| step + 1), revision: hit.main };
            [before.filter(|_| !hit.is_tree), Some(behind)]
        };
        let mut pins: Vec<Pin> = hits.iter().flat_map(pins_of).flatten().collect();
        pins.sort_unstable();
        pins.dedup();
        Pins { pins, held, odd: all - held }
    }
}

/// Where entries and revisions belong together.
#[derive(Debug, Default)]
pub(super) struct Pins {
    /// By ascending steps and revisions.
    pub(super) pins: Vec<Pin>,
    /// Records that say so.
    pub(super) held: usize,
    /// Records that seem to belong to an entry and cannot, by the order of the others.
    pub(super) odd: usize,
}

/// How many of the first steps must have written.
struct Certain(Vec<u32>);

impl Certain {
    fn of(steps: &Steps) -> Self {
        let mut count = 0;
        let mut before = vec![0];
        for step in &steps.steps {
            let writes = !step.can_be_refused && !steps.has_gates && step.branches_write(steps);
            count += u32::from(writes);
            before.push(count);
        }
        Self(before)
    }

    fn before(&self, step: usize) -> u32 {
        self.0.get(step).copied().unwrap_or_default()
    }
}

/// The longest part of `hits` in which `number` does not go down.
fn longest(hits: &[Hit], number: impl Fn(&Hit) -> i64) -> Vec<Hit> {
    // For each length the place of the smallest last number of such a part, and before each place the one before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(hits.len());
    let of = |at: &usize| hits.get(*at).map(&number).unwrap_or_default();
    for (at, hit) in hits.iter().enumerate() {
        let value = number(hit);
        let len = ends.partition_point(|end| of(end) <= value);
        before.push(len.checked_sub(1).and_then(|last| ends.get(last).copied()));
        match ends.get_mut(len) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut part = Vec::with_capacity(ends.len());
    let mut next = ends.last().copied();
    while let Some(at) = next {
        part.extend(hits.get(at).copied());
        next = before.get(at).copied().flatten();
    }
    part.reverse();
    part
}
