//! Which entry made which revision.
//!
//! Between two places where that is known (`pins`) so many entries stand, and so many revisions: each revision was made by one of
//! the entries, in their order, and each entry made one or none. What is left of the records rules out most of the ways in which they may go together,
//! what entries ask of the store rules out more. A revision that the same entry makes in all ways that are left was made by it, also where nothing of
//! the revision itself is left.

use super::pins::Pin;
use super::steps::{Op, Step, Steps, What};
use super::table::{Known, Table};

/// Most revisions behind steps that are kept of one stretch: 4 bytes each.
const MOST_COLUMNS: usize = 1 << 24;
/// Most pairs of an entry and a revision that are held against each other, in all stretches and rounds.
const MOST_LOOKS: u64 = 1 << 28;
/// How many steps before the first pin are looked at.
pub(super) const MOST_STEPS_BEFORE: usize = 1024;
/// How often what was found is used to find more.
const MOST_ROUNDS: usize = 4;

/// How an entry made a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    /// The step's place.
    pub(super) step: u32,
    /// Which branch of it.
    pub(super) branch: u8,
    /// Which of the branch's single deletions found their key: bit *i* for the *i*th.
    pub(super) found: u8,
}

/// What entries made of revisions.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    first: i64,
    /// How each main revision from the first on was made, where only one way is possible.
    edges: Vec<Option<Edge>>,
    /// For each step whether it made nothing, or a revision that is known.
    settled: Vec<bool>,
    /// Stretches in which records and entries do not go together.
    pub(super) contradictions: usize,
    /// Stretches with too many entries and revisions to look at them all.
    pub(super) too_long: usize,
}

impl Aligned {
    /// How this main revision was made.
    pub(super) fn edge(&self, main: i64) -> Option<Edge> {
        let place = usize::try_from(main.checked_sub(self.first)?).ok()?;
        self.edges.get(place).copied().flatten()
    }
    /// How many main revisions are known to have been made by which entry.
    pub(super) fn count(&self) -> usize {
        self.edges.iter().flatten().count()
    }

    fn set(&mut self, main: i64, edge: Edge) {
        let place = usize::try_from(main.saturating_sub(self.first)).ok();
        if let Some(slot) = place.and_then(|place| self.edges.get_mut(place)) {
            *slot = Some(edge);
        }
    }
}

impl Edge {
    /// The operations that wrote, in the order of their records. Behind them there may be more where the branch is open.
    pub(super) fn ops(self, steps: &Steps) -> impl Iterator<Item = (usize, &Op)> {
        let step = steps.steps.get(self.step as usize);
        let branch = step.and_then(|step| step.branches.get(usize::from(self.branch)));
        let ops = branch.map(|branch| steps.ops(branch)).unwrap_or_default();
        let mut deletions = 0;
        ops.iter().enumerate().filter(move |(_, op)| {
            if op.what != What::Delete {
                return true;
            }
            deletions += 1;
            self.found & (1 << (deletions - 1)) != 0
        })
    }

    /// Whether it may have written more than [`Self::ops`].
    pub(super) fn is_open(self, steps: &Steps) -> bool {
        let step = steps.steps.get(self.step as usize);
        step.and_then(|step| step.branches.get(usize::from(self.branch))).is_some_and(|branch| branch.is_open)
    }
}

/// Finds out which entry made which of the revisions in `table`. `pins` are by ascending steps and revisions.
pub(super) fn align(steps: &Steps, table: &Table, pins: &[Pin]) -> Aligned {
    let mut job = Job { steps, looks: 0 };
    let mut aligned = job.round(table, pins);
    for _ in 1..MOST_ROUNDS {
        // What was found says more of what transactions ask for.
        let Some(fuller) = table.with(|main| made(&aligned, steps, main)) else { break };
        let next = job.round(&fuller, pins);
        if next.count() <= aligned.count() {
            break;
        }
        aligned = next;
    }
    aligned
}

/// The records of a main revision by the entry that made it.
fn made(aligned: &Aligned, steps: &Steps, main: i64) -> Option<Vec<Known>> {
    let edge = aligned.edge(main).filter(|edge| !edge.is_open(steps))?;
    let known = |(sub, (_, op)): (u32, (usize, &Op))| Known {
        sub,
        is_tombstone: op.what == What::Delete,
        key: op.key,
        content: op.content,
    };
    Some((0..).zip(edge.ops(steps)).map(known).collect())
}

struct Job<'s> {
    steps: &'s Steps,
    looks: u64,
}

/// The steps and revisions between two pins.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: Pin,
    to: Pin,
    /// Whether the store may have stood at any revision between them at the start.
    is_free: bool,
    asks: Asks,
}

/// What is asked of the records that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// That they are what the entry wrote.
    All,
    /// That they are of the key.
    Keys,
    /// Nothing.
    Nothing,
}

/// For each number of steps the revisions that a store may be at by then, as columns.
struct Rows {
    starts: Vec<usize>,
    columns: Vec<u32>,
}

impl Rows {
    /// The first row is made of these.
    fn new(first: Vec<u32>) -> Self {
        Self { starts: vec![0, first.len()], columns: first }
    }

    fn row(&self, at: usize) -> &[u32] {
        let (from, to) = (self.starts.get(at), self.starts.get(at + 1));
        let (Some(from), Some(to)) = (from, to) else { return &[] };
        self.columns.get(*from..*to).unwrap_or_default()
    }

    /// Adds a column to the row that is being made, where it is not the last one already.
    fn push(&mut self, column: u32) {
        let begun = self.starts.last().copied().unwrap_or_default();
        if self.columns.len() <= begun || self.columns.last() != Some(&column) {
            self.columns.push(column);
        }
    }

    fn end_row(&mut self) {
        self.starts.push(self.columns.len());
    }
}

/// One way in which a step may have written a revision, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ways {
    None,
    One(Edge),
    Several,
}

impl Ways {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, ways) | (ways, Self::None) => ways,
            (one, other) if one == other => one,
            _ => Self::Several,
        }
    }
}

impl Job<'_> {
    fn round(&mut self, table: &Table, pins: &[Pin]) -> Aligned {
        let mut aligned = Aligned {
            first: table.first(),
            edges: vec![None; table.len()],
            settled: vec![false; self.steps.steps.len()],
            ..Aligned::default()
        };
        if let Some(first) = pins.first() {
            let steps = first.steps.min(MOST_STEPS_BEFORE);
            let most = i64::try_from(steps).unwrap_or(i64::MAX);
            let from = Pin { steps: first.steps - steps, revision: first.revision.saturating_sub(most) };
            // Of a log that begins nowhere in particular nobody knows at which revision that is.
            let stretch = Stretch { from, to: *first, is_free: true, asks: Asks::All };
            self.stretch(table, stretch, &mut aligned);
        }
        for pair in pins.windows(2) {
            if let [from, to] = pair {
                // A record that has rotted says nothing of what was there; its key may, and how many there are.
                for asks in [Asks::All, Asks::Keys, Asks::Nothing] {
                    let stretch = Stretch { from: *from, to: *to, is_free: false, asks };
                    let before = aligned.contradictions;
                    self.stretch(table, stretch, &mut aligned);
                    if aligned.contradictions == before {
                        break;
                    }
                }
            }
        }
        aligned
    }

    /// Looks at the steps and revisions between two pins.
    fn stretch(&mut self, table: &Table, stretch: Stretch, aligned: &mut Aligned) {
        let Stretch { from, to, is_free, asks } = stretch;
        let count = to.steps.saturating_sub(from.steps);
        let Ok(revisions) = usize::try_from(to.revision.saturating_sub(from.revision)) else {
            aligned.contradictions += 1;
            return;
        };
        if count == 0 {
            aligned.contradictions += usize::from(revisions > 0);
            return;
        }
        let settle = |aligned: &mut Aligned, range: std::ops::Range<usize>| {
            aligned.settled.get_mut(range).into_iter().flatten().for_each(|settled| *settled = true);
        };
        if revisions == 0 && !is_free {
            // A step that must have written would have.
            return settle(aligned, from.steps..to.steps);
        }
        if revisions > count {
            aligned.contradictions += 1;
            return;
        }
        let Ok(revisions) = u32::try_from(revisions) else {
            aligned.too_long += 1;
            return;
        };
        // A store that nobody has written to stands at revision 1.
        let is_there = |column: &u32| next_after(from, *column) > 1;
        let first = if is_free { (0..=revisions).filter(is_there).collect() } else { vec![0] };
        let Some(reached) = self.reached(table, stretch, (count, revisions), Rows::new(first)) else {
            aligned.too_long += 1;
            return;
        };
        if reached.row(count).last() != Some(&revisions) {
            aligned.contradictions += 1;
            return;
        }
        // And from the back: what leads to the end.
        let mut leads = vec![revisions];
        let mut made = vec![Ways::None; revisions as usize];
        for at in (0..count).rev() {
            let step = from.steps + at;
            let mut before = Vec::with_capacity(leads.len() + 1);
            let (mut wrote, mut skipped) = (Ways::None, false);
            for column in reached.row(at) {
                let stays = leads.binary_search(column).is_ok();
                let goes = leads.binary_search(&(column + 1)).is_ok();
                if !stays && !goes {
                    continue;
                }
                let (ways, skips) = self.ways(table, step, next_after(from, *column), asks);
                let went = goes && ways != Ways::None;
                if went || (stays && skips) {
                    before.push(*column);
                }
                skipped |= stays && skips;
                if went {
                    if let Some(slot) = made.get_mut(*column as usize) {
                        *slot = slot.and(ways);
                    }
                    wrote = if wrote == Ways::None { ways } else { Ways::Several };
                }
            }
            if let Some(settled) = aligned.settled.get_mut(step) {
                *settled = matches!((wrote, skipped), (Ways::None, true) | (Ways::One(_), false));
            }
            leads = before;
        }
        // What the store may have had at the start it did not need to be made.
        let begun = leads.last().copied().unwrap_or_default();
        for (column, ways) in (0..).zip(&made).filter(|(column, _)| *column >= begun) {
            if let Ways::One(edge) = ways {
                aligned.set(next_after(from, column), *edge);
            }
        }
    }

    /// Which revisions are possible behind each of the `count` steps behind a pin, where `revisions` are made in all; `None` where there
    /// are too many to look at.
    fn reached(
        &mut self,
        table: &Table,
        Stretch { from, asks, .. }: Stretch,
        (count, revisions): (usize, u32),
        mut rows: Rows,
    ) -> Option<Rows> {
        for at in 0..count {
            if self.looks >= MOST_LOOKS || rows.columns.len() > MOST_COLUMNS {
                return None;
            }
            let left = count - at;
            let columns = rows.row(at).to_vec();
            for column in columns {
                // Each of the steps that are left makes one at most.
                if (revisions - column) as usize > left {
                    continue;
                }
                let (ways, skips) = self.ways(table, from.steps + at, next_after(from, column), asks);
                if skips {
                    rows.push(column);
                }
                if ways != Ways::None && column < revisions {
                    rows.push(column + 1);
                }
            }
            rows.end_row();
        }
        Some(rows)
    }

    /// How the step at this place may have made the main revision `next`, and whether it may have made nothing in a store that stands right before
    /// that.
    fn ways(&mut self, table: &Table, at: usize, next: i64, asks: Asks) -> (Ways, bool) {
        self.looks = self.looks.saturating_add(1);
        let Some(step) = self.steps.steps.get(at) else { return (Ways::None, true) };
        let known = if asks == Asks::Nothing { &[] } else { table.at(next) };
        let holds = step.guard.as_ref().and_then(|guard| table.holds(guard, next));
        let mut ways = Ways::None;
        let mut skips = step.can_be_refused || self.steps.has_gates;
        for number in [0, 1] {
            let is_taken = match number {
                0 => holds != Some(false),
                _ => step.has_compares && holds != Some(true),
            };
            if !is_taken {
                continue;
            }
            ways = ways.and(self.ways_of((step, at, number), known, asks, &mut skips));
        }
        (ways, skips)
    }

    /// How a branch may have made a main revision of which these records are `known`.
    fn ways_of(
        &self,
        (step, at, number): (&Step, usize, u8),
        known: &[Known],
        asks: Asks,
        skips: &mut bool,
    ) -> Ways {
        let Some(branch) = step.branches.get(usize::from(number)) else { return Ways::None };
        if step.only_deletes && known.iter().any(|known| !known.is_tombstone) {
            // It wrote none of this; it may have found nothing to delete.
            *skips = true;
            return Ways::None;
        }
        let ops = self.steps.ops(branch);
        let deletions = ops.iter().filter(|op| op.what == What::Delete).count();
        let mut ways = Ways::None;
        for found in 0..(1_u16 << deletions.min(7)) {
            let edge = Edge {
                step: u32::try_from(at).unwrap_or(u32::MAX),
                branch: number,
                found: u8::try_from(found).unwrap_or_default(),
            };
            let mut count = 0_u32;
            let mut rest = known.iter().peekable();
            let mut fits = true;
            for (_, op) in edge.ops(self.steps) {
                if let Some(known) = rest.next_if(|known| known.sub == count) {
                    fits &= known.is_by(op) || (asks == Asks::Keys && known.is_of(op));
                }
                count += 1;
            }
            // Beyond what is told there may be more only where the branch is open.
            fits &= branch.is_open || rest.next().is_none();
            if count == 0 && !branch.is_open {
                *skips = true;
                continue;
            }
            *skips |= count == 0;
            if fits {
                ways = ways.and(Ways::One(edge));
            }
        }
        ways
    }
}

/// The main revision behind the first `column` ones after a pin.
fn next_after(from: Pin, column: u32) -> i64 {
    from.revision.saturating_add(1).saturating_add(i64::from(column))
}
