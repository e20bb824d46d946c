//! Which records can stay: those that follow each other in one chain, and behind a break those that raft's indexes and
//! terms still prove to belong there.
//!
//! Behind records that are lost, an entry with index `i` may stay when `i - 1` is there and nothing lost can have
//! overwritten what is there. That is so when nothing lost can have been an entry; when a hard state before the break
//! says that `i - 1` is committed; or when entry `i - 1` has the same term, since one leader wrote both, and a leader
//! never overwrites its own entries. Where entries are missing in between, those behind them may stay if a snapshot that
//! servers start from covers all that are missing.

use std::collections::{HashMap, HashSet};

use super::survey::{Break, File, Run, Seen, Span};
use crate::segment::Fault;

/// Records that stay: whole frames of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Index into the files.
    pub(super) file: usize,
    pub(super) from: u64,
    pub(super) to: u64,
    /// The chain goes on from the records that stay before it.
    pub(super) chained: bool,
}

/// Why records were left out, or are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// Index into the files; where the break is.
    pub(super) file: usize,
    pub(super) offset: u64,
    /// What is wrong there; `None` where only the chain does not go on, or an index.
    pub(super) fault: Option<Fault>,
    /// What could have stood in what cannot be read.
    pub(super) may_hold_entries: bool,
    /// Records that hold and do not stay.
    pub(super) records: u64,
    pub(super) runs: Vec<(usize, Run)>,
    /// What records among it say they are, which nothing bears out.
    pub(super) claims: Vec<(usize, Run)>,
    /// The raft indexes that are missing before the record that stays after it.
    pub(super) missing: Option<(u64, u64)>,
    /// How it goes on.
    pub(super) end: LostEnd,
}

/// How a log goes on behind what was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LostEnd {
    /// With a record that holds.
    Joined,
    /// Not at all.
    Cut,
}

/// The records that stay, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) kept: Vec<Kept>,
    pub(super) lost: Vec<Lost>,
    /// Bytes between records of one chain: the file, where, how many.
    pub(super) gaps: Vec<(usize, u64, u64)>,
    pub(super) history: History,
    /// What hard states that stay said, and whether `last` is the last of them.
    pub(super) states: Seen,
    pub(super) last_state_known: bool,
    /// No hard state that came after all that stay can be among what is lost: the last vote is known.
    pub(super) vote_known: bool,
    /// Snapshot records that stay.
    pub(super) snapshots: Vec<(u64, u64)>,
    /// The last file's records end in a write that did not reach the disk.
    pub(super) torn_tail: Option<usize>,
    /// For each file with records that stay: the last entry before it, and the last entry or snapshot.
    pub(super) last_before: Vec<(usize, u64, u64)>,
}

/// The entries of a log by raft's rule: a later one ends what stood from its index on.
#[derive(Debug, Default, Clone)]
pub(super) struct History {
    runs: Vec<(u64, u64, u64)>,
}

impl History {
    pub(super) fn push(&mut self, run: &Run) {
        while let Some(last) = self.runs.last_mut() {
            if last.0 >= run.first {
                self.runs.pop();
                continue;
            }
            last.1 = last.1.min(run.first.saturating_sub(1));
            break;
        }
        match self.runs.last_mut() {
            Some(last) if last.2 == run.term && last.1.checked_add(1) == Some(run.first) => last.1 = run.last,
            _ => self.runs.push((run.first, run.last, run.term)),
        }
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.runs.first().map(|run| run.0)
    }

    pub(super) fn last(&self) -> Option<(u64, u64)> {
        self.runs.last().map(|run| (run.1, run.2))
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        let at = self.runs.partition_point(|run| run.1 < index);
        self.runs.get(at).filter(|run| run.0 <= index).map(|run| run.2)
    }

    /// The first entry from which on none is missing.
    pub(super) fn first_without_gap(&self) -> Option<u64> {
        let mut first = None;
        for pair in self.runs.iter().rev() {
            match first {
                Some(known) if pair.1.checked_add(1) != Some(known) => break,
                _ => first = Some(pair.0),
            }
        }
        first
    }

    /// The stretches of entries between which indexes are missing.
    pub(super) fn stretches(&self) -> Vec<(u64, u64)> {
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for (first, last, _) in &self.runs {
            match stretches.last_mut() {
                Some(stretch) if stretch.1.checked_add(1) == Some(*first) => stretch.1 = *last,
                _ => stretches.push((*first, *last)),
            }
        }
        stretches
    }

    /// The ranges of entries and their terms.
    pub(super) fn runs(&self) -> &[(u64, u64, u64)] {
        &self.runs
    }
}

fn runs_from(span: &Span, from: u64) -> &[Run] {
    span.runs.get(span.runs.partition_point(|run| run.from < from)..).unwrap_or_default()
}

/// What to do with a span from an offset on.
#[derive(Debug, Clone, Copy)]
enum Step {
    Keep { from: u64, chained: bool },
    Search { from: u64 },
}

struct Joiner<'a> {
    files: &'a [File],
    /// The highest snapshot that servers can start from.
    covered: Option<u64>,
    out: Joined,
    /// The rolling CRC behind what stays; `None` behind a break.
    chain: Option<u32>,
    /// Looking for what goes on behind a break.
    open: Option<Lost>,
    /// Of the snapshot records passed.
    snapshot_indexes: HashSet<u64>,
}

/// Joins what `files` hold.
pub(super) fn join(files: &[File], covered: Option<u64>) -> Joined {
    let mut joiner = Joiner {
        files,
        covered,
        out: Joined { last_state_known: true, vote_known: true, ..Joined::default() },
        chain: None,
        open: None,
        snapshot_indexes: HashSet::new(),
    };
    for (at, file) in files.iter().enumerate() {
        for (number, span) in file.spans.iter().enumerate() {
            joiner.span(at, number, span);
        }
        joiner.tail(at, file);
    }
    if let Some(mut lost) = joiner.open.take() {
        lost.end = LostEnd::Cut;
        joiner.out.lost.push(lost);
    }
    joiner.out
}

impl Joiner<'_> {
    fn span(&mut self, at: usize, number: usize, span: &Span) {
        let is_start = self.out.kept.is_empty() && self.open.is_none();
        let is_chained = match (self.chain, span.seed) {
            (Some(chain), Some(seed)) => chain == seed,
            (Some(_), None) => false,
            (None, seed) => is_start && seed.is_some() && !span.before.is_loss(),
        };
        if is_chained && self.open.is_none() {
            let gap: u64 = span.before.skipped.iter().map(|skipped| skipped.len_bytes).sum();
            if gap > 0 {
                self.out.gaps.push((at, span.from.saturating_sub(gap), gap));
            }
            self.take(at, span, Step::Keep { from: span.from, chained: true });
            return;
        }
        if self.open.is_none() {
            self.begin_loss(at, &span.before, span.from, number == 0 && !span.before.is_loss());
        } else if let Some(open) = &mut self.open {
            open.may_hold_entries |= span.before.may_hold_entries;
            open.claims.extend(span.before.claims.iter().map(|run| (at, *run)));
        }
        self.take(at, span, Step::Search { from: span.from });
    }

    /// Goes through a span: keeps, looks for what can follow, keeps.
    fn take(&mut self, at: usize, span: &Span, first: Step) {
        let mut marks: HashMap<u64, u64> = HashMap::new();
        for mark in &span.snapshots {
            marks.entry(mark.index).or_insert(mark.offset);
        }
        let mut step = Some(first);
        while let Some(here) = step {
            step = match here {
                Step::Keep { from, chained } => {
                    self.walk(at, span, from, chained, &marks).map(|from| Step::Search { from })
                }
                Step::Search { from } => {
                    self.search(at, span, from).map(|from| Step::Keep { from, chained: false })
                }
            };
        }
        self.snapshot_indexes.extend(marks.into_keys());
    }

    /// A break, at what lies before a span or between two segments.
    fn begin_loss(&mut self, at: usize, between: &Break, from: u64, is_between_segments: bool) {
        self.out.vote_known = false;
        let skipped = between.skipped.iter().map(|skipped| skipped.offset).min();
        let offset = between.faults.iter().map(|fault| fault.offset).chain(skipped).min();
        self.open = Some(Lost {
            file: at,
            offset: offset.unwrap_or(from),
            fault: between.faults.first().cloned(),
            may_hold_entries: between.may_hold_entries
                || is_between_segments
                || !between.is_loss()
                || !between.skipped.is_empty(),
            records: 0,
            runs: Vec::new(),
            claims: between.claims.iter().map(|run| (at, *run)).collect(),
            missing: None,
            end: LostEnd::Joined,
        });
        self.chain = None;
    }

    /// Looks in `span`, from `from` on, for an entry that can stay; gives the offset from which on records do.
    fn search(&mut self, at: usize, span: &Span, from: u64) -> Option<u64> {
        let mut open = self.open.take()?;
        let is_whole = from == span.from;
        let mut first = true;
        for run in runs_from(span, from) {
            let allowed = self.allows(run, &open);
            let Some(missing) = allowed else {
                open.runs.push((at, *run));
                first = false;
                continue;
            };
            open.missing = missing;
            let start = if first && is_whole { span.from } else { run.from };
            open.end = LostEnd::Joined;
            if start != span.from {
                // Hard states before it in the span do not stay.
                self.out.last_state_known = false;
            }
            self.out.lost.push(open);
            return Some(start);
        }
        if span.runs.is_empty() && is_whole && !open.may_hold_entries && open.runs.is_empty() {
            // Hard states and snapshots alone, where nothing but such is lost.
            open.end = LostEnd::Joined;
            self.out.lost.push(open);
            return Some(span.from);
        }
        open.records = open.records.saturating_add(span.records);
        self.open = Some(open);
        None
    }

    /// Whether a run can follow what stays, and which indexes are then missing before it.
    fn allows(&self, run: &Run, open: &Lost) -> Option<Option<(u64, u64)>> {
        let before = run.first.saturating_sub(1);
        let Some((last, _)) = self.out.history.last() else {
            // No entry stays before it, and a log may begin anywhere; where this one did its first name says.
            let named = self.files.first().map_or(1, |file| file.index.max(1));
            return Some((named <= before).then_some((named, before)));
        };
        // Nobody overwrites what is committed: it is an older part of the log, or a copy of one, in the wrong place.
        if run.first <= self.out.states.commit {
            return None;
        }
        if before > last {
            return self
                .covered
                .filter(|covered| *covered >= before)
                .map(|_| Some((last.saturating_add(1), before)));
        }
        let is_safe = !open.may_hold_entries
            || before <= self.out.states.commit
            || self.out.history.first().is_none_or(|first| first > before)
            || self.out.history.term_of(before) == Some(run.term);
        is_safe.then_some(None)
    }

    /// Keeps `span` from `from` on, as far as its entries follow each other; gives the offset of the one that does not.
    fn walk(
        &mut self,
        at: usize,
        span: &Span,
        from: u64,
        chained: bool,
        marks: &HashMap<u64, u64>,
    ) -> Option<u64> {
        let starts_file = self.out.kept.last().is_none_or(|kept| kept.file != at);
        if starts_file {
            let entry = self.out.history.last().map_or(0, |(last, _)| last);
            self.out.last_before.push((at, entry, self.out.last_index()));
        }
        let mut first = true;
        for run in runs_from(span, from) {
            let last = self.out.history.last().map(|(last, _)| last);
            let follows = last.is_none_or(|last| run.first <= last.saturating_add(1))
                || self.covered.is_some_and(|covered| covered.saturating_add(1) >= run.first)
                || run.first.checked_sub(1).is_some_and(|before| {
                    self.snapshot_indexes.contains(&before)
                        || marks.get(&before).is_some_and(|offset| *offset < run.from)
                });
            if (chained || !first) && !follows {
                self.keep(at, span, from, run.from, chained);
                self.out.states.commit = self.out.states.commit.max(run.commit_before);
                self.out.last_state_known = false;
                self.out.vote_known = false;
                self.open = Some(Lost {
                    file: at,
                    offset: run.from,
                    fault: None,
                    may_hold_entries: true,
                    records: 0,
                    runs: Vec::new(),
                    claims: Vec::new(),
                    missing: None,
                    end: LostEnd::Joined,
                });
                self.chain = None;
                return Some(run.from);
            }
            first = false;
            self.out.history.push(run);
        }
        self.keep(at, span, from, span.to, chained);
        self.out.states = self.out.states.and(&span.states);
        // Every hard state says all of it. Of a part of a span nobody knows whether the last one is in it.
        self.out.vote_known |= from == span.from && span.states.last.is_some();
        self.chain = Some(span.crc);
        None
    }

    fn keep(&mut self, at: usize, span: &Span, from: u64, to: u64, chained: bool) {
        if from < to {
            self.out.kept.push(Kept { file: at, from, to, chained });
        }
        let marks = span.snapshots.iter().filter(|mark| (from..to).contains(&mark.offset));
        self.out.snapshots.extend(marks.map(|mark| (mark.index, mark.term)));
    }

    /// What lies behind a file's last span.
    fn tail(&mut self, at: usize, file: &File) {
        if !file.tail.is_loss() {
            return;
        }
        let is_last = at + 1 == self.files.len();
        if is_last && self.open.is_none() && file.tail.is_torn_tail() {
            self.out.torn_tail = Some(at);
            return;
        }
        if let Some(open) = &mut self.open {
            open.claims.extend(file.tail.claims.iter().map(|run| (at, *run)));
        } else {
            let from = file.spans.last().map_or(0, |span| span.to);
            self.begin_loss(at, &file.tail, from, false);
        }
        // Nobody knows how much stood between the break and the end of the file.
        if let Some(open) = &mut self.open {
            open.may_hold_entries = true;
        }
    }
}

impl Joined {
    /// The index of the last entry or snapshot that stays, as a writer counts.
    pub(super) fn last_index(&self) -> u64 {
        let entry = self.history.last().map_or(0, |(last, _)| last);
        self.snapshots.iter().map(|(index, _)| *index).fold(entry, u64::max)
    }
}
