//! Whether entries of equal index and term are equal in several logs.
//!
//! Raft makes one entry for an index and a term. Two that differ are of two histories: a member that was given to
//! `--force-new-cluster` goes on in the term in which its peers go on. What follows two such entries is different also where it
//! looks alike, so that from the first of them on the logs are told apart by [`Stretch::mark`].
//!
//! Each entry that several logs have is hashed under a key drawn anew, by all cores, `WINDOW` entries at a time: eight bytes
//! for each of them in each log.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use bbolt::Watch;
use rayon::prelude::*;
use wal::log::{Log, Segments};
use wal::scan::{Item, scan};
use wal::{EntryRef, RecordType};

use super::{Stretch, Testimony};
use crate::facts::LogFacts;

/// How many entries of each log are hashed at a time.
const WINDOW: u64 = 1 << 18;

/// The user asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Entries of one term that at least two logs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    term: u64,
    first: u64,
    last: u64,
}

/// Marks the entries of `testimonies` whose contents differ. `logs` has the log of each, in their order; `None` where a
/// testimony comes without one.
///
/// # Errors
/// When the user asked to stop.
pub fn mark(
    testimonies: &mut [Testimony],
    logs: &[Option<&LogFacts>],
    watch: &dyn Watch,
) -> Result<(), Interrupted> {
    let logs: Vec<Option<(&_, &Log)>> =
        logs.iter().map(|log| log.map(|log| (&log.files, &log.report.log))).collect();
    mark_logs(testimonies, &logs, watch)
}

/// As [`mark`], of logs however they were read.
///
/// # Errors
/// When the user asked to stop.
pub fn mark_logs<S: Segments>(
    testimonies: &mut [Testimony],
    logs: &[Option<(&S, &Log)>],
    watch: &dyn Watch,
) -> Result<(), Interrupted> {
    let parted = find(testimonies, logs, watch)?;
    // Who has parted from whom says which history one tells.
    let mut numbers: BTreeMap<BTreeSet<usize>, u32> = BTreeMap::from([(BTreeSet::new(), 0)]);
    for (at, testimony) in testimonies.iter_mut().enumerate() {
        let mut from: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
        for ((one, other), index) in &parted {
            if at == *one || at == *other {
                from.entry(*index).or_default().insert(if at == *one { *other } else { *one });
            }
        }
        let mut others = BTreeSet::new();
        for (index, parted) in from {
            others.extend(parted);
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            let mark = *numbers.entry(others.clone()).or_insert(next);
            part(&mut testimony.stretches, index, mark);
        }
    }
    Ok(())
}

/// Gives all entries from `index` on this mark.
fn part(stretches: &mut Vec<Stretch>, index: u64, mark: u32) {
    let at = stretches.partition_point(|stretch| stretch.last < index);
    if let Some(stretch) = stretches.get_mut(at).filter(|stretch| stretch.first < index) {
        let rest = Stretch { first: index, follows: true, ..*stretch };
        stretch.last = index.saturating_sub(1);
        stretches.insert(at.saturating_add(1), rest);
    }
    for stretch in stretches.iter_mut().filter(|stretch| stretch.first >= index) {
        stretch.mark = mark;
    }
}

/// The first index at which each two of them differ, where they do.
fn find<S: Segments>(
    testimonies: &[Testimony],
    logs: &[Option<(&S, &Log)>],
    watch: &dyn Watch,
) -> Result<BTreeMap<(usize, usize), u64>, Interrupted> {
    let key = RandomState::new();
    let mut parted = BTreeMap::new();
    for window in windows(shared(testimonies)) {
        let hashed: Result<Vec<Vec<u64>>, Interrupted> = logs
            .par_iter()
            .map(|log| match log {
                Some((segments, log)) => hash(&window, *segments, log, &key, watch),
                None => Ok(Vec::new()),
            })
            .collect();
        let hashed = hashed?;
        for (slot, index) in window.iter().flat_map(|span| span.first..=span.last).enumerate() {
            let of = |at: usize| hashed.get(at)?.get(slot).copied().filter(|hash| *hash != 0);
            let held: Vec<(usize, u64)> = (0..hashed.len()).filter_map(|at| Some((at, of(at)?))).collect();
            if held.windows(2).all(|pair| matches!(pair, [one, other] if one.1 == other.1)) {
                continue;
            }
            for (at, (one, hash)) in held.iter().enumerate() {
                for (other, _) in held.iter().skip(at).filter(|(_, other)| other != hash) {
                    let first = parted.entry((*one, *other)).or_insert(index);
                    *first = index.min(*first);
                }
            }
        }
    }
    Ok(parted)
}

/// The entries that at least two of them have, by term and index.
fn shared(testimonies: &[Testimony]) -> Vec<Span> {
    let mut edges: Vec<(u64, u64, bool)> = testimonies
        .iter()
        .flat_map(|testimony| &testimony.stretches)
        // No log comes to the last index there is.
        .filter(|stretch| stretch.last < u64::MAX)
        .flat_map(|stretch| {
            // An end comes before a begin of the same place.
            [(stretch.term, stretch.first, true), (stretch.term, stretch.last.saturating_add(1), false)]
        })
        .collect();
    edges.sort_unstable();
    let mut spans: Vec<Span> = Vec::new();
    let mut depth: usize = 0;
    let mut from = 0;
    for (term, index, begins) in edges {
        if depth >= 2 && index > from {
            spans.push(Span { term, first: from, last: index.saturating_sub(1) });
        }
        from = index;
        depth = if begins { depth.saturating_add(1) } else { depth.saturating_sub(1) };
    }
    spans
}

/// The same entries in parts of at most [`WINDOW`].
fn windows(spans: Vec<Span>) -> Vec<Vec<Span>> {
    let mut windows: Vec<Vec<Span>> = Vec::new();
    let mut room = 0;
    for mut span in spans {
        loop {
            if room == 0 {
                windows.push(Vec::new());
                room = WINDOW;
            }
            let last = span.last.min(span.first.saturating_add(room - 1));
            room -= last.saturating_sub(span.first).saturating_add(1).min(room);
            if let Some(window) = windows.last_mut() {
                window.push(Span { last, ..span });
            }
            if last >= span.last {
                break;
            }
            span.first = last.saturating_add(1);
        }
    }
    windows
}

/// The hash of each entry of `window` in this log; 0 for one that it does not have.
fn hash<S: Segments>(
    window: &[Span],
    segments: &S,
    log: &Log,
    key: &RandomState,
    watch: &dyn Watch,
) -> Result<Vec<u64>, Interrupted> {
    let mut slots: Vec<usize> = Vec::with_capacity(window.len());
    let mut len: usize = 0;
    for span in window {
        slots.push(len);
        len = len
            .saturating_add(usize::try_from(span.last - span.first).unwrap_or(usize::MAX))
            .saturating_add(1);
    }
    let mut hashes = vec![0; len];
    let slot_of = |entry: &EntryRef<'_>| {
        let at = window.partition_point(|span| (span.term, span.first) <= (entry.term, entry.index));
        let span = window.get(at.checked_sub(1)?)?;
        let is_in = span.term == entry.term && entry.index <= span.last;
        let slot = slots.get(at.checked_sub(1)?)?;
        is_in.then_some(slot.checked_add(usize::try_from(entry.index - span.first).ok()?)?)
    };
    for at in 0..log.segments.len() {
        let mut runs = log.standing_runs().filter(|run| run.segment == at);
        let is_needed = runs.any(|run| {
            let next = window.partition_point(|span| (span.term, span.last) < (run.term, run.first_index));
            window.get(next).is_some_and(|span| span.term == run.term && span.first <= run.last_index)
        });
        if !is_needed {
            continue;
        }
        if watch.interrupted() {
            return Err(Interrupted);
        }
        let piece = segments.piece(at);
        for item in scan(&piece.bytes) {
            let Item::Record(found) = item else { continue };
            if found.record.record_type != RecordType::Entry {
                continue;
            }
            let Ok(entry) = EntryRef::decode(found.record.data) else { continue };
            let slot = slot_of(&entry).and_then(|slot| hashes.get_mut(slot));
            if let Some(slot) = slot
                && !log.is_overwritten(at, found.record.offset, entry.index)
            {
                *slot = key.hash_one((entry.entry_type, entry.data)).max(1);
            }
        }
    }
    Ok(hashes)
}
