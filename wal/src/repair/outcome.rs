//! From what can stay to a whole log: names, what has to be added, what is lost and what must not be done.

use super::join::{Joined, Lost, LostEnd, join};
use super::order::Ordered;
use super::survey::{File, Run, Seen};
use super::{
    Added, Change, Cover, DroppedRun, Edit, Facts, Loss, MendedSegment, Passed, Plan, PlanError, Refusal,
};
use crate::names::segment_name;
use crate::raftpb::HardState;

pub(super) fn outcome(ordered: &Ordered, facts: &Facts, edits: Vec<Edit>) -> Result<Plan, PlanError> {
    let metadata = ordered.metadata.clone().ok_or(PlanError::NoMetadata)?;
    let files = &ordered.files;
    let seen =
        files.iter().flat_map(|file| &file.spans).fold(Seen::default(), |seen, span| seen.and(&span.states));
    let covered = covered(files, &seen, facts);
    let (joined, covered) = join_with(files, covered, facts);
    // In a log of which nothing is lost the last word counts, as it does for a server; an earlier, higher commit is left
    // from before an earlier repair.
    let last_word = joined.states.last.filter(|_| joined.lost.is_empty() && joined.last_state_known);
    let seen = last_word.map_or(seen, |last| Seen {
        term: last.term(),
        vote: last.vote(),
        commit: last.commit(),
        last: Some(last),
    });
    let mut end = End::of(joined, files, &seen, facts, covered);
    let mut changes = turned(files);
    let mut losses = Vec::new();
    for lost in &end.joined.lost {
        tell(lost, files, &end, &mut losses);
    }
    for (at, offset, len_bytes) in &end.joined.gaps {
        let file = name(files, *at);
        changes.push(Change::Rejoined { file, offset: *offset, len_bytes: *len_bytes });
    }
    changes.extend(behind_ends(files, &end.joined));
    for (file, other) in &ordered.copies {
        changes.push(Change::CopyDropped { file: file.name.clone(), other: other.clone() });
    }
    changes.extend(ordered.empty.iter().map(|file| Change::EmptyDropped { file: file.name.clone() }));
    losses.extend(ordered.foreign.iter().map(|file| Loss::Foreign { file: file.name.clone() }));
    changes.extend(end.makes_start.map(|index| Change::StartMade { index }));
    let segments_out = end.segments(files, &mut changes);
    let dropped = end.dropped(files, |lost| &lost.runs);
    let claimed = end.dropped(files, |lost| &lost.claims);
    losses.extend(claimed.iter().map(|run| {
        Loss::Claimed {
            file: files
                .iter()
                .find(|file| file.segment == run.segment)
                .map_or_else(String::new, |file| file.name.clone()),
            from: run.from,
            first: run.first,
            last: run.last,
            term: run.term,
        }
    }));
    losses.extend(end.missing(&dropped, &seen));
    losses.append(&mut end.losses);
    if let Some(state) = end.added_state {
        end.added.push(Added::State(state));
        if end.is_promise_only {
            changes.push(Change::StateAdded { state });
        }
    }
    let source_bytes = files.iter().map(|file| file.len_bytes).sum();
    Ok(Plan {
        changes,
        losses,
        refusals: end.refusals,
        dropped,
        claimed,
        stretches: end.joined.history.stretches(),
        segments: segments_out,
        added: end.added,
        edits,
        metadata,
        first_index: end.joined.history.first(),
        last: end.joined.history.last(),
        state: end.state,
        start: end.start,
        new_snapshot: end.new_snapshot,
        source_bytes,
        vote_known: end.joined.vote_known,
    })
}

/// Joins the records. A log that stands alone has only the snapshots it has records of, as far as they are committed in
/// it, so that one which does not stay covers nothing either.
fn join_with(files: &[File], covered: Option<u64>, facts: &Facts) -> (Joined, Option<u64>) {
    let joined = join(files, covered);
    let highest = |joined: &Joined| {
        let stays = joined.snapshots.iter().map(|(index, _)| *index);
        stays.filter(|index| *index <= joined.states.commit && Some(*index) <= covered).max()
    };
    if facts.db.is_some() || highest(&joined) == covered {
        return (joined, covered);
    }
    let less = highest(&joined);
    let joined = join(files, less);
    if highest(&joined) == less {
        return (joined, less);
    }
    let joined = join(files, None);
    let known = highest(&joined);
    (joined, known)
}

/// The highest snapshot that servers can start from: one with a record in the log, a `.snap` that can be read, and a db
/// that is not behind it. Of a log alone, the last one that is committed.
fn covered(files: &[File], seen: &Seen, facts: &Facts) -> Option<u64> {
    let marks = files.iter().flat_map(|file| &file.spans).flat_map(|span| &span.snapshots);
    let usable =
        marks.filter(|mark| mark.index <= seen.commit.max(facts.db.map_or(0, |db| db.consistent_index)));
    usable
        .filter(|mark| match facts.db {
            None => facts.snapshots.is_empty() || facts.snapshots.contains(&(mark.index, mark.term)),
            Some(db) => {
                mark.index <= db.consistent_index
                    && (mark.index == 0 || facts.snapshots.contains(&(mark.index, mark.term)))
            }
        })
        .map(|mark| mark.index)
        .max()
}

fn name(files: &[File], at: usize) -> String {
    files.get(at).map(|file| file.name.clone()).unwrap_or_default()
}

fn turned(files: &[File]) -> Vec<Change> {
    let mut changes = Vec::new();
    for file in files {
        for (edit, part) in &file.edits {
            let (file, offset) = (file.name.clone(), edit.offset);
            changes.push(match part {
                Some(part) => Change::BitTurned { file, offset, part, was: edit.was, now: edit.now },
                None => Change::PaddingZeroed { file, offset },
            });
        }
    }
    changes
}

fn tell(lost: &Lost, files: &[File], end: &End, losses: &mut Vec<Loss>) {
    let (file, offset, fault) = (name(files, lost.file), lost.offset, lost.fault.clone());
    match lost.end {
        LostEnd::Cut => losses.push(Loss::Cut { file, offset, fault, records: lost.records }),
        LostEnd::Joined => losses.push(Loss::Passed {
            file,
            offset,
            fault,
            records: lost.records,
            entries: match (lost.missing, lost.may_hold_entries) {
                (Some(_), _) => Passed::Missing,
                (None, true) => Passed::Replaced,
                (None, false) => Passed::None,
            },
        }),
    }
    if let Some((first, last)) = lost.missing {
        losses.push(Loss::Missing { first, last, covered: end.cover(last) });
    }
}

fn behind_ends(files: &[File], joined: &Joined) -> Vec<Change> {
    let mut changes = Vec::new();
    if let Some(file) = joined.torn_tail.and_then(|at| files.get(at))
        && let Some(fault) = file.tail.faults.first()
    {
        changes.push(Change::TailDropped {
            file: file.name.clone(),
            offset: fault.offset,
            fault: fault.clone(),
            claims: file.tail.claims.first().map(|run| (run.first, run.term)),
        });
    }
    for file in files {
        if let Some(offset) = file.tail.after_end {
            changes.push(Change::AfterEndZeroed { file: file.name.clone(), offset });
        }
    }
    changes
}

/// How the mended log ends, and where servers start in it.
struct End {
    joined: Joined,
    state: HardState,
    start: u64,
    new_snapshot: Option<(u64, u64)>,
    added: Vec<Added>,
    added_state: Option<HardState>,
    /// The state that is added says nothing new but a promise that was given.
    is_promise_only: bool,
    /// A snapshot is made only because servers have none to start from.
    makes_start: Option<u64>,
    losses: Vec<Loss>,
    refusals: Vec<Refusal>,
    /// The snapshot servers can start from, and the db's last entry.
    covered: Option<u64>,
    db: Option<u64>,
}

impl End {
    fn of(mut joined: Joined, files: &[File], seen: &Seen, facts: &Facts, covered: Option<u64>) -> Self {
        let last = joined.history.last().map_or(0, |(last, _)| last);
        let base = joined.kept.first().and_then(|kept| files.get(kept.file)).map_or(0, |file| file.index);
        let start = start_of(&joined, covered, base.saturating_sub(1), facts.db.is_some());
        let mut end = Self {
            state: HardState::default(),
            start: start.unwrap_or_default(),
            new_snapshot: None,
            added: Vec::new(),
            added_state: None,
            is_promise_only: false,
            makes_start: None,
            losses: Vec::new(),
            refusals: Vec::new(),
            covered,
            db: facts.db.map(|db| db.consistent_index),
            joined: Joined::default(),
        };
        let mut top = last.max(end.start);
        if let Some(db) = facts.db
            && db.consistent_index > 0
            && (start.is_none() || top < db.consistent_index)
        {
            let at = db.consistent_index;
            let begins_behind =
                joined.history.first_without_gap().is_some_and(|first| first > at.saturating_add(1));
            if begins_behind {
                // Nothing of the log follows the db.
                let runs = joined.history.runs().to_vec();
                end.losses.extend(runs.iter().map(|(first, last, term)| Loss::Dropped {
                    first: *first,
                    last: *last,
                    term: *term,
                    covered: None,
                }));
                joined = Joined { lost: joined.lost, last_before: Vec::new(), ..Joined::default() };
                top = 0;
            }
            let known = facts.snapshots.iter().find(|(index, _)| *index == at).map(|(_, term)| *term);
            let term = known.or(db.term).or_else(|| joined.history.term_of(at)).unwrap_or(seen.term).max(1);
            end.new_snapshot = Some((at, term));
            end.added.push(Added::Snapshot { index: at, term });
            if last >= at {
                // The log goes on from the db; only where to begin was missing.
                end.makes_start = Some(at);
            } else {
                end.losses.push(Loss::SnapshotMade { index: at });
            }
            end.start = at;
            top = top.max(at);
        } else if let Some(covered) = covered.filter(|covered| *covered == end.start && *covered > 0)
            && !joined.snapshots.iter().any(|(index, _)| *index == covered)
        {
            // Its record did not stay.
            let marks = files.iter().flat_map(|file| &file.spans).flat_map(|span| &span.snapshots);
            if let Some(mark) = marks.into_iter().find(|mark| mark.index == covered) {
                end.added.push(Added::Snapshot { index: covered, term: mark.term });
            }
        }
        end.refuse(&joined, seen, facts, last, top, files);
        let floor = if facts.db.is_some() { end.start } else { 0 };
        end.set_state(&joined, seen, top, floor);
        end.joined = joined;
        end
    }

    /// What holds the effect of the entries up to `last`.
    fn cover(&self, last: u64) -> Option<Cover> {
        let snapshot = self.covered.filter(|covered| *covered >= last);
        match (snapshot, self.db) {
            (Some(index), Some(_)) => Some(Cover::Snapshot(index)),
            (Some(index), None) => Some(Cover::Record(index)),
            (None, db) => db.filter(|index| *index >= last).map(Cover::Db),
        }
    }

    /// A log that stands alone must not end before what is committed: nothing is there to hold it.
    fn refuse(&mut self, joined: &Joined, seen: &Seen, facts: &Facts, last: u64, top: u64, files: &[File]) {
        let is_cut = joined.lost.iter().any(|lost| lost.end == LostEnd::Cut);
        if facts.db.is_some() {
            return;
        }
        let marks = files.iter().flat_map(|file| &file.spans).flat_map(|span| &span.snapshots);
        let snapshot = marks.map(|mark| mark.index).max().unwrap_or_default();
        if is_cut && snapshot > top {
            self.refusals.push(Refusal::BelowSnapshot { last, index: snapshot });
        }
        if seen.commit > top {
            self.refusals.push(Refusal::BelowCommit { last, commit: seen.commit });
        }
    }

    fn set_state(&mut self, joined: &Joined, seen: &Seen, top: u64, floor: u64) {
        let term = [
            joined.history.last().map_or(0, |(_, term)| term),
            self.new_snapshot.map_or(0, |(_, term)| term),
        ];
        let term = term.into_iter().fold(seen.term, u64::max);
        let vote = if term == seen.term { seen.vote } else { 0 };
        // What was lost may have overwritten what stays beyond the last commit that stays.
        let is_cut = joined.lost.iter().any(|lost| lost.end == LostEnd::Cut);
        let known = if is_cut { joined.states.commit } else { seen.commit };
        let commit = known.min(top).max(floor);
        let wanted = HardState { term: Some(term), vote: Some(vote), commit: Some(commit) };
        let last = joined.states.last.filter(|_| joined.last_state_known);
        let same = last.is_some_and(|last| (last.term(), last.vote(), last.commit()) == (term, vote, commit));
        // Without damage to it the last hard state stays as it is, whatever it says.
        let is_whole = joined.lost.is_empty() && self.new_snapshot.is_none() && seen.commit <= top;
        self.state = if is_whole { last.unwrap_or_default() } else { wanted };
        if !is_whole && !same && (term, vote, commit) != (0, 0, 0) {
            self.added_state = Some(wanted);
            self.is_promise_only = commit >= seen.commit;
        }
        if commit < seen.commit {
            self.losses.push(Loss::Commit { was: seen.commit, now: commit });
        }
    }

    /// The segments, each with the name of its place.
    fn segments(&self, files: &[File], changes: &mut Vec<Change>) -> Vec<MendedSegment> {
        let mut out: Vec<(usize, MendedSegment)> = Vec::new();
        for kept in &self.joined.kept {
            match out.last_mut().filter(|(at, _)| *at == kept.file) {
                Some((_, segment)) => match segment.parts.last_mut() {
                    Some(part) if part.1 == kept.from => part.1 = kept.to,
                    _ => segment.parts.push((kept.from, kept.to)),
                },
                None => {
                    let Some(file) = files.get(kept.file) else { continue };
                    out.push((
                        kept.file,
                        MendedSegment {
                            name: String::new(),
                            source: Some(file.segment),
                            parts: vec![(kept.from, kept.to)],
                            adds_head: kept.from > 0 || file.head.is_none(),
                            adds_metadata: !self.keeps_metadata(kept.file, files),
                        },
                    ));
                }
            }
        }
        if out.is_empty() {
            return vec![MendedSegment {
                name: segment_name(0, 0),
                source: None,
                parts: Vec::new(),
                adds_head: true,
                adds_metadata: true,
            }];
        }
        let kept: Vec<&File> = out.iter().filter_map(|(at, _)| files.get(*at)).collect();
        let mut seq = super::order::first_seq(&kept);
        for (at, segment) in &mut out {
            let Some(file) = files.get(*at) else { continue };
            let before = self.joined.last_before.iter().find(|(of, ..)| of == at);
            let index = match before {
                Some((_, entry, any)) if *any > 0 => {
                    let fits = [entry.saturating_add(1), any.saturating_add(1)].contains(&file.index);
                    if fits { file.index } else { any.saturating_add(1) }
                }
                // Nothing tells where a log begins whose older segments are gone.
                _ => file.index,
            };
            // A server looks for the last segment named for the snapshot it starts from, or an earlier entry.
            let is_first = before.is_none_or(|(_, _, any)| *any == 0);
            let index = if is_first && self.new_snapshot.is_some() { index.min(self.start) } else { index };
            segment.name = segment_name(seq, index);
            seq = seq.saturating_add(1);
            if (file.seq, file.index) != crate::names::parse_segment_name(&segment.name).unwrap_or_default() {
                changes.push(Change::Renamed { file: file.name.clone(), to: segment.name.clone() });
            }
        }
        out.into_iter().map(|(_, segment)| segment).collect()
    }

    fn keeps_metadata(&self, at: usize, files: &[File]) -> bool {
        let Some(file) = files.get(at) else { return false };
        let kept = self.joined.kept.iter().filter(|kept| kept.file == at);
        let mut spans = file.spans.iter().filter(|span| span.has_metadata);
        kept.clone().next().is_some()
            && spans.any(|span| kept.clone().any(|kept| kept.from == span.from && kept.to > span.from))
    }

    /// The entries that can be read and do not stay.
    fn dropped(&self, files: &[File], of: impl Fn(&Lost) -> &[(usize, Run)]) -> Vec<DroppedRun> {
        let history = &self.joined.history;
        let mut dropped = Vec::new();
        for (at, run) in self.joined.lost.iter().flat_map(of) {
            let Some(file) = files.get(*at) else { continue };
            // The same entries stand elsewhere in the log.
            if history.term_of(run.last) == Some(run.term) && history.term_of(run.first) == Some(run.term) {
                continue;
            }
            dropped.push(DroppedRun {
                segment: file.segment,
                first: run.first,
                last: run.last,
                term: run.term,
                from: run.from,
                to: run.to,
            });
        }
        dropped
    }

    /// The entries that do not stay, by raft index; of those that nobody can read, those of which it is known that they
    /// were there.
    fn missing(&self, dropped: &[DroppedRun], seen: &Seen) -> Vec<Loss> {
        let mut losses: Vec<Loss> = Vec::new();
        let last = self.joined.history.last().map_or(0, |(last, _)| last);
        let mut runs: Vec<&DroppedRun> = dropped.iter().collect();
        runs.sort_by_key(|run| run.first);
        let mut next = last.max(self.start.min(last)).saturating_add(1);
        for run in &runs {
            if run.first > next {
                let end = run.first.saturating_sub(1);
                losses.push(Loss::Missing { first: next, last: end, covered: self.cover(end) });
            }
            next = next.max(run.last.saturating_add(1));
        }
        let known = seen.commit.max(self.new_snapshot.map_or(0, |(index, _)| index));
        let is_whole = self.joined.lost.is_empty() && self.new_snapshot.is_none() && self.start > last;
        if known >= next && !is_whole {
            losses.push(Loss::Missing { first: next, last: known, covered: self.cover(known) });
        }
        losses.extend(dropped.iter().map(|run| Loss::Dropped {
            first: run.first,
            last: run.last,
            term: run.term,
            covered: self.cover(run.last),
        }));
        losses
    }
}

/// The snapshot servers start from: 0 for the beginning of the log; `None` when there is none that they can.
///
/// `base` is where a log without entries begins by its name.
fn start_of(joined: &Joined, covered: Option<u64>, base: u64, has_db: bool) -> Option<u64> {
    let Some(first) = joined.history.first_without_gap() else {
        return covered
            .filter(|covered| has_db || *covered >= base)
            .or((!has_db || base == 0).then_some(base));
    };
    if first <= 1 && covered.is_none_or(|covered| covered == 0) {
        return Some(0);
    }
    match covered {
        Some(covered) if first <= covered.saturating_add(1) => Some(covered),
        _ if first <= 1 => Some(0),
        // Of a log alone nobody knows which snapshots there are.
        _ if !has_db => Some(first.saturating_sub(1)),
        _ => None,
    }
}
