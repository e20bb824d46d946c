//! What is known to be lost: entries that were committed, or stand in a log, and cannot be had.

use wal::fault::LogFaultKind;
use wal::log::{Log, Reach, SegmentStop, ServerEndKind};

use super::RecoverOptions;
use super::base::{Candidate, Stand};
use super::line::Line;
use crate::survivors::{Survivor, Survivors};

/// Something that is known to be lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// Entries that were committed are in no log.
    #[error("{}, which {} committed by what {known_by} says, and in no log that can be read", entries(*first, *last), if first == last { "was" } else { "were" })]
    Committed {
        /// The first.
        first: u64,
        /// The last, as far as is known.
        last: u64,
        /// Who says so.
        known_by: String,
    },
    /// Entries without which what the logs have behind them cannot be applied.
    #[error(
        "{}, which {} in no log that can be read, and {} behind, which cannot be applied without",
        entries(*first, *last), if first == last { "is" } else { "are" }, entries(last.saturating_add(1), *until)
    )]
    Gap {
        /// The first that is missing.
        first: u64,
        /// The last that is missing before the next that there is.
        last: u64,
        /// The last that there is.
        until: u64,
    },
    /// Entries that stand behind a break of a log, and that nobody else has.
    #[error("what the log of {called} has behind a break at entry {after}: {}; 'etcd-rescue wal verify' says what is wrong there", beyond(*last, *after))]
    BehindBreak {
        /// Whose log.
        called: String,
        /// The last entry that can be had.
        after: u64,
        /// The last entry that stands behind it, where one can be read.
        last: Option<u64>,
    },
}

fn entries(first: u64, last: u64) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
}

fn beyond(last: Option<u64>, after: u64) -> String {
    match last {
        Some(last) => format!("entries up to {last}"),
        None => format!("how many entries follow {after} cannot be told"),
    }
}

/// What is lost when `candidate` is the db to begin with.
pub(super) fn of(
    survivors: &Survivors,
    line: &Line<'_>,
    candidate: &Candidate<'_>,
    options: &RecoverOptions,
) -> Vec<Loss> {
    if options.fold.to_index.is_some() || options.fold.to_revision.is_some() {
        // Who asks for an earlier state does without what came later.
        return Vec::new();
    }
    let mut found = Vec::new();
    let reached = line.reached(candidate.index);
    if let Stand::Gap(next) = line.stand(candidate) {
        let (first, last) = (reached.saturating_add(1), next.saturating_sub(1));
        found.push(Loss::Gap { first, last, until: line.last() });
    }
    let known = survivors.judgement.known_to;
    if known > reached.max(line.last()) {
        let knows = |survivor: &&Survivor| {
            let testimony = survivor.testimony.as_ref();
            testimony.is_some_and(|testimony| testimony.committed.iter().any(|point| point.index == known))
        };
        let known_by = survivors.all.iter().find(knows).map_or_else(String::new, Survivor::called);
        found.push(Loss::Committed { first: reached.saturating_add(1), last: known, known_by });
    }
    // What the line has behind a gap is told already.
    let told = reached.max(line.last());
    found.extend(survivors.all.iter().filter_map(|survivor| behind_break(survivors, survivor, told)));
    found
}

/// What stands behind a break of the log of `survivor`, and beyond `reached`, up to where all that is left leads.
fn behind_break(survivors: &Survivors, survivor: &Survivor, reached: u64) -> Option<Loss> {
    let log = &survivor.facts.log_facts()?.report.log;
    if !is_broken(log) {
        return None;
    }
    let called = survivor.called();
    let last = log.last_index().unwrap_or_default();
    if last > reached {
        return Some(Loss::BehindBreak { called, after: reached, last: Some(last) });
    }
    // What broke off behind its last entry may have been the next one, unless a whole log ends there too.
    let others = survivors.all.iter().filter_map(|other| other.testimony.as_ref());
    let ends_whole = others
        .filter(|other| !other.may_lack_its_end)
        .any(|other| other.stretches.last().is_some_and(|stretch| stretch.last >= reached));
    let is_last = last == reached && breaks_at_its_end(log) && !ends_whole;
    is_last.then_some(Loss::BehindBreak { called, after: last, last: None })
}

/// Whether `log` breaks behind its last entry, in another way than a write does that was cut short.
fn breaks_at_its_end(log: &Log) -> bool {
    let last = log.standing_runs().next_back().map(|run| (run.segment, run.last_offset));
    log.faults.iter().any(|fault| {
        let place = fault.segment.zip(fault.offset);
        let is_behind = place.is_some_and(|place| last.is_none_or(|last| place > last));
        let is_a_break = match &fault.kind {
            LogFaultKind::Record(kind) => !SegmentStop::Broken(kind.clone()).is_cut_off_at_start(),
            LogFaultKind::Unreadable { .. } | LogFaultKind::Hidden { .. } => true,
            _ => false,
        };
        is_behind && is_a_break
    })
}

/// Whether a server does not start from `log`, or passes over entries in it.
pub(super) fn is_broken(log: &Log) -> bool {
    log.server_end.is_some_and(|end| end.kind == ServerEndKind::Stops)
        || log.standing_runs().any(|run| run.reach == Reach::Hidden)
}
