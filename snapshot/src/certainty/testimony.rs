//! What one member's files testify.

use wal::fault::LogFaultKind;
use wal::log::{EntryRun, Located, Log, Reach, Segments, ServerEndKind};
use wal::raftpb::HardState;
use wal::raftpb::walpb::Snapshot;
use wal::scan::{Item, scan};
use wal::{EntryRef, RecordType};

use super::{Config, Known, Point, Source, Stretch, Testimony};
use crate::facts::{DatabaseFacts, Facts};
use crate::force_new::traces::traces;
use crate::log_files::LogFiles;

/// The most configurations of a testimony. There is one change at a time that is not known to be committed, so that a real
/// log has two or three of them.
const MOST_CONFIGS: usize = 64;

/// The most voters of a configuration. etcd's own advice ends at seven.
const MOST_VOTERS: usize = 256;

impl Testimony {
    /// What these files testify; `None` where there is neither a log of a directory nor a database that can be read.
    ///
    /// The marks are left to [`super::contents::mark`].
    #[must_use]
    pub fn of(facts: &Facts) -> Option<Self> {
        let log = facts.log_facts().filter(|log| !log.files.is_single_segment());
        let log = log.map(|log| (&log.files, &log.report.log)).filter(|(_, log)| !log.segments.is_empty());
        let snap = facts.newest_snap.as_ref().map(|snap| (snap.facts.index, snap.facts.term));
        Self::of_parts(log, facts.database_facts(), snap)
    }

    /// What this log testifies, with the database beside it and the newest `.snap` (its index and term), as far as there are such:
    /// also a log that was mended since the files were gathered, as long as `files` are those it came from.
    #[must_use]
    pub fn of_parts(
        log: Option<(&LogFiles, &Log)>,
        database: Option<&DatabaseFacts>,
        snap: Option<(u64, u64)>,
    ) -> Option<Self> {
        let applied = database.map(|database| Point {
            index: database.schema.consistent_index,
            term: database.schema.term.filter(|term| *term > 0),
        });
        let mut testimony = match log {
            Some((files, log)) => of_log(files, log, applied, snap),
            None => of_database(applied?, snap),
        };
        if testimony.configs.is_empty()
            && let Some(row) = database.and_then(|database| database.conf_state.as_ref())
        {
            let voters = row.voters.iter().chain(&row.voters_outgoing).copied().collect();
            let config = Config { voters, learners: row.learners.iter().copied().collect() };
            // What the log changes behind the database is not followed: without its begin it says nothing of who voted.
            let last = testimony.stretches.last().map_or(0, |stretch| stretch.last);
            let applied = applied.map_or(0, |applied| applied.index);
            if log.is_none_or(|(_, log)| !changes_behind(log, applied)) || last <= applied {
                testimony.configs.push((applied, config));
            }
        }
        Some(testimony)
    }
}

/// Whether members change behind the entry `index`.
fn changes_behind(log: &Log, index: u64) -> bool {
    log.more_conf_changes > 0 || log.conf_changes.iter().any(|change| change.value.index > index)
}

/// Of a database of its own, or beside a log that cannot be opened.
fn of_database(applied: Point, snap: Option<(u64, u64)>) -> Testimony {
    let snap = snap.map(|(index, term)| Known { index, term: Some(term), source: Source::Snapshot });
    let known = Known { index: applied.index, term: applied.term, source: Source::ConsistentIndex };
    let committed: Vec<Known> = snap.into_iter().chain([known]).filter(|known| known.index > 0).collect();
    Testimony {
        member_id: None,
        term: committed.iter().filter_map(|known| known.term).max().unwrap_or_default(),
        base: applied,
        stretches: Vec::new(),
        settled_to: 0,
        committed,
        may_lack_its_end: true,
        configs: Vec::new(),
        forced: Vec::new(),
    }
}

fn of_log(files: &LogFiles, log: &Log, applied: Option<Point>, snap: Option<(u64, u64)>) -> Testimony {
    let own_commit = log.commit();
    let (base, sent) = base(log, own_commit);
    let (stretches, junctions) = stretches(log, base, sent);
    let last = stretches.last().map_or(base.index, |stretch| stretch.last);
    let records = log.snapshots.iter().map(|record| (record.value.index(), record.value.term()));
    let snapshots = records.chain(snap).filter(|(index, _)| *index > 0);
    let mut committed: Vec<Known> =
        snapshots.map(|(index, term)| Known { index, term: Some(term), source: Source::Snapshot }).collect();
    committed.sort_unstable_by_key(|known| (known.index, known.term));
    committed.dedup();
    for state in [&log.server_hard_state, &log.hard_state].into_iter().flatten() {
        let index = state.value.commit();
        if index > base.index {
            let term = log.term_of(index).filter(|_| stands_for(state, index, &junctions));
            committed.push(Known { index, term, source: Source::Commit });
        }
    }
    let reached = committed.iter().map(|known| known.index).max().unwrap_or_default();
    let reached = reached.max(applied.map_or(0, |applied| applied.index));
    let may_lack_its_end = !is_whole(log, base) || !junctions.is_empty() || last < reached;
    if let Some(applied) = applied.filter(|applied| applied.index > 0) {
        // A server applies what is in its log. Of a log whose end may be lost nobody knows whether what stands there is what it had
        // when it applied.
        let of_log =
            || log.term_of(applied.index).filter(|_| !may_lack_its_end && applied.index > base.index);
        let of_base = || base.term.filter(|_| applied.index == base.index);
        let term = applied.term.or_else(of_log).or_else(of_base);
        committed.push(Known { index: applied.index, term, source: Source::ConsistentIndex });
    }
    let of_entries = stretches.iter().map(|stretch| stretch.term).max();
    let of_state = log.hard_state.as_ref().map(|state| state.value.term());
    let settled_to = if may_lack_its_end { settled(files, log) } else { last };
    Testimony {
        member_id: log.metadata.as_ref().map(wal::Metadata::node_id),
        term: of_entries.max(of_state).unwrap_or_default(),
        base,
        stretches,
        settled_to,
        configs: configs(files, log, &committed),
        committed,
        may_lack_its_end,
        forced: traces(log),
    }
}

/// What the log goes on from, and the record that says so where the leader sent that as a snapshot.
///
/// A member that was sent a snapshot goes on from there, and entries that it had at or behind the snapshot's index may be of another
/// branch; they stay in the files all the same. That the leader sent it is seen by the log, which has the snapshot's entry
/// where the member made the snapshot itself. One beyond the commit was not taken over.
fn base<'a>(log: &'a Log, commit: u64) -> (Point, Option<&'a Located<Snapshot>>) {
    let begins = log.standing_runs().next().map_or(0, |run| run.first_index.saturating_sub(1));
    let at = |record: &&'a Located<Snapshot>| (record.value.index(), record.value.term());
    let known = log.snapshots.iter().filter(|record| record.value.index() > 0);
    let sent = known.clone().filter(|record| {
        let (index, term) = at(record);
        index <= commit && index >= begins && log.term_of(index) != Some(term)
    });
    if let Some(record) = sent.max_by_key(at) {
        let (index, term) = at(&record);
        return (Point { index, term: Some(term) }, Some(record));
    }
    let term =
        known.map(|record| at(&record)).filter(|(index, _)| *index == begins).map(|(_, term)| term).max();
    (Point { index: begins, term: term.or((begins == 0).then_some(0)) }, None)
}

/// The entries that stand, and the runs before which some may be missing, or may have been overwritten by such as are missing.
///
/// A run that goes on in the term of the one before it goes on from it: the entry before an entry of its term is of the same
/// leader. The entries before a snapshot that was sent are an earlier state of the member's, and do not lead to what follows.
fn stretches(log: &Log, base: Point, sent: Option<&Located<Snapshot>>) -> (Vec<Stretch>, Vec<EntryRun>) {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut junctions = Vec::new();
    let mut before: Option<&EntryRun> = None;
    for run in log.standing_runs() {
        let Some(last) = run.standing_last else { continue };
        let is_old = sent.is_some_and(|sent| (run.segment, run.first_offset) < (sent.segment, sent.offset));
        let (first, last) = if is_old {
            (run.first_index, last.min(base.index.saturating_sub(1)))
        } else {
            (run.first_index.max(base.index.saturating_add(1)), last)
        };
        if first > last {
            continue;
        }
        if first > base.index && stretches.last().is_none_or(|before| before.last <= base.index) {
            // The first behind the base. Whoever had the base committed has nothing else before it.
            let adjoins = base.index.checked_add(1) == Some(first);
            if !adjoins {
                junctions.push(*run);
            }
            let follows = adjoins && base.term.is_some();
            stretches.push(Stretch { first, last, term: run.term, mark: 0, follows });
        } else if let (Some(previous), Some(stretch)) = (before, stretches.last_mut()) {
            let adjoins = stretch.last.checked_add(1) == Some(first);
            let is_broken = run.behind_break || run.reach != previous.reach;
            let follows = adjoins && run.term >= stretch.term && (!is_broken || run.term == stretch.term);
            // What is missing before a snapshot that was sent came with an earlier one.
            if !follows && !is_old {
                junctions.push(*run);
            }
            if follows && run.term == stretch.term {
                stretch.last = last;
            } else {
                stretches.push(Stretch { first, last, term: run.term, mark: 0, follows });
            }
        } else {
            stretches.push(Stretch { first, last, term: run.term, mark: 0, follows: first == 1 });
        }
        before = Some(run);
    }
    (stretches, junctions)
}

/// Whether the entry `index` is still the one which `state` called committed: what is committed is never overwritten, but behind a
/// break that stands before `state`, the one that was committed may be missing, and an older one seem to stand.
fn stands_for(state: &Located<HardState>, index: u64, junctions: &[EntryRun]) -> bool {
    junctions.iter().all(|junction| {
        let is_before = (junction.segment, junction.first_offset) < (state.segment, state.offset);
        junction.first_index <= index || !is_before
    })
}

/// Whether nothing shows that the log may have had more.
fn is_whole(log: &Log, base: Point) -> bool {
    let harmless = log.faults.iter().all(|fault| match fault.kind {
        LogFaultKind::Padding | LogFaultKind::SnapshotBeyondCommit { .. } => true,
        LogFaultKind::EntryGap { found, .. } => found <= base.index.saturating_add(1),
        _ => false,
    });
    harmless
        && log.more_faults == 0
        && log.more_runs == 0
        && log.server_end.is_some_and(|end| end.kind == ServerEndKind::Clean)
        && log.standing_runs().all(|run| run.reach == Reach::Read)
}

/// See [`Testimony::settled_to`].
fn settled(files: &LogFiles, log: &Log) -> u64 {
    let Some(state) = &log.hard_state else { return 0 };
    let mut settled = 0;
    for run in log.standing_runs() {
        let Some(last) = run.standing_last else { continue };
        if (run.segment, run.last_offset) < (state.segment, state.offset) {
            settled = last.max(settled);
        } else if (run.segment, run.first_offset) < (state.segment, state.offset) {
            let piece = files.piece(run.segment);
            let records = scan(&piece.bytes).filter_map(|item| match item {
                Item::Record(found) if found.record.record_type == RecordType::Entry => Some(found.record),
                _ => None,
            });
            let of_run = records
                .skip_while(|record| record.offset < run.first_offset)
                .take_while(|record| record.offset < state.offset);
            let indexes = of_run.filter_map(|record| EntryRef::decode(record.data).ok());
            settled = indexes.map(|entry| entry.index.min(last)).max().unwrap_or_default().max(settled);
        }
    }
    settled
}

/// Who takes part, from the configuration before the one in force at what the member knows to be committed.
fn configs(files: &LogFiles, log: &Log, committed: &[Known]) -> Vec<(u64, Config)> {
    let settled = committed.iter().filter(|known| known.term.is_some()).map(|known| known.index).max();
    let Some(mut configs) = Config::history(files, log, MOST_CONFIGS, MOST_VOTERS) else { return Vec::new() };
    let in_force = configs.partition_point(|(made, _)| *made <= settled.unwrap_or_default());
    configs.drain(..in_force.saturating_sub(2).min(configs.len()));
    configs
}
