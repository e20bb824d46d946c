//! The log beside its snaps and its database.

use std::path::Path;

use bbolt::{Io, OpenOptions};
use wal::log::{Located, Log, Reach};
use wal::raftpb::ConfChangeType;
use wal::walpb;

use crate::finding::{Finding, Severity};
use crate::log_files::LogFiles;
use crate::schema::Schema;
use crate::snap_files::{SnapFacts, SnapFile, SnapKind, describe};

/// What the database beside a log says.
#[derive(Debug)]
pub struct DatabaseFacts {
    /// Its small buckets.
    pub schema: Schema,
}

impl DatabaseFacts {
    /// The last raft entry in it.
    #[must_use]
    pub const fn consistent_index(&self) -> u64 {
        self.schema.consistent_index
    }
}

/// Where a server of 3.4 to 3.6 begins to read the log: the newest sound `.snap` with a snapshot record at or below the last
/// commit (FORMATS E.7, F.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartPoint {
    /// The snapshot's last entry; 0 when it starts from none.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The `.snap`, where it starts from one.
    pub file: Option<String>,
    /// Whether the log reaches back to it.
    pub log_reaches: bool,
}

pub(super) fn read_database(path: &Path, options: &OpenOptions) -> Result<DatabaseFacts, String> {
    let db = bbolt::open(path, options).map_err(|error| error.to_string())?;
    let schema = Schema::read(&db).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(DatabaseFacts { schema })
}

/// The commit index of the last hard state that a server comes to.
fn server_commit(log: &Log) -> u64 {
    log.server_hard_state.as_ref().map_or(0, |state| state.value.commit())
}

/// The snapshot records that a server believes.
pub(super) fn valid_records(log: &Log) -> impl DoubleEndedIterator<Item = &Located<walpb::Snapshot>> {
    let commit = server_commit(log);
    log.snapshots.iter().filter(move |record| record.reach == Reach::Read && record.value.index() <= commit)
}

/// The `.snap` files, newest first as servers order them, each with what is in it; `None` for a damaged one.
fn snaps(files: &LogFiles) -> impl Iterator<Item = (&SnapFile, (u64, u64), Option<&SnapFacts>)> {
    files.snaps().iter().rev().filter_map(|file| match file.kind() {
        SnapKind::Snap { term, index } => Some((file, (term, index), file.facts().ok())),
        _ => None,
    })
}

/// The first entry there is; gaps behind it are the log's own faults.
fn begins_with(log: &Log) -> Option<u64> {
    log.standing_runs().next().map(|run| run.first_index)
}

/// The highest entry that is anywhere in the log, in a snapshot's place too.
fn highest(log: &Log) -> u64 {
    let snapshots = log.snapshots.iter().map(|record| record.value.index());
    let entries = log.runs.iter().map(|run| run.last_index);
    snapshots.chain(entries).max().unwrap_or_default()
}

/// Whether the log begins early enough for a server that starts from `index`: its first segment is named for an entry at or
/// before it, and its first entry follows at the latest.
fn reaches(log: &Log, index: u64) -> bool {
    log.segments.first().is_some_and(|segment| segment.name.index <= index)
        && begins_with(log).is_none_or(|first| first <= index.saturating_add(1))
}

pub(super) fn start_point(log: &Log, files: &LogFiles) -> StartPoint {
    let record_of = |index: u64, term: u64| {
        valid_records(log).any(|record| (record.value.index(), record.value.term()) == (index, term))
    };
    let from = |index, term, file| StartPoint { index, term, file, log_reaches: reaches(log, index) };
    if files.snap_dir().is_none() {
        let last = valid_records(log).map(|record| (record.value.index(), record.value.term())).max();
        let (index, term) = last.unwrap_or_default();
        return from(index, term, None);
    }
    let usable = snaps(files).find_map(|(file, _, facts)| {
        facts.filter(|facts| record_of(facts.index, facts.term)).map(|facts| (file, facts))
    });
    match usable {
        Some((file, facts)) => from(facts.index, facts.term, Some(file.name().to_owned())),
        None => from(0, 0, None),
    }
}

/// What is wrong between the log and what lies beside it.
pub(super) fn hold(
    log: &Log,
    files: &LogFiles,
    start: &StartPoint,
    database: Option<&Result<DatabaseFacts, String>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if log.segments.is_empty() {
        return findings;
    }
    if files.snap_dir().is_some() {
        hold_snaps(&mut findings, log, files, start);
    }
    hold_start(&mut findings, log, start);
    hold_state(&mut findings, log);
    match database {
        Some(Ok(database)) => {
            hold_database(&mut findings, log, database.consistent_index());
            findings.extend(newer_snap(files, start, Some(database.consistent_index())));
        }
        Some(Err(error)) => findings.push(Finding::new(
            "WAL-DB-UNREAD",
            Severity::Warning,
            format!("the database beside the log cannot be read, and the two are not held against each other: {error}"),
        )),
        // Where the db would lie beside the snaps, that there is none is no matter of what was asked for.
        None => findings.extend(newer_snap(files, start, None)),
    }
    findings
}

fn located(finding: Finding, log: &Log, at: &Located<walpb::Snapshot>) -> Finding {
    let finding = Finding { offset: Some(at.offset), record: Some(at.record), ..finding };
    match log.segments.get(at.segment) {
        Some(segment) => finding.in_file(segment.name.name.clone()),
        None => finding,
    }
}

/// What stands in for something that a server cannot use.
fn stand_in(start: &StartPoint) -> String {
    match (&start.file, start.log_reaches) {
        (Some(file), true) => format!("{file} stands in, and the log reaches back to it"),
        (Some(file), false) => format!("{file} would stand in, but the log does not reach back to it"),
        (None, true) => "without a snapshot a server reads the whole log".to_owned(),
        (None, false) => "no .snap stands in, and the log does not begin with the first entry".to_owned(),
    }
}

fn hold_snaps(findings: &mut Vec<Finding>, log: &Log, files: &LogFiles, start: &StartPoint) {
    for file in files.snaps() {
        for mut finding in describe(file, Io::Mmap).findings {
            if matches!(file.kind(), SnapKind::Snap { .. }) && file.facts().is_err() {
                finding.message = format!("{}; {}", finding.message, stand_in(start));
            }
            findings.push(finding);
        }
    }
    let oldest = snaps(files).map(|(_, (_, index), _)| index).min();
    let newest_record = valid_records(log).map(|record| record.value.index()).max();
    for record in valid_records(log).filter(|record| record.value.index() > 0) {
        let (index, term) = (record.value.index(), record.value.term());
        let same_index =
            snaps(files).find(|(_, (_, named), facts)| facts.map_or(*named, |facts| facts.index) == index);
        let Some((file, named, facts)) = same_index else {
            // Servers keep the five newest; that an old one is gone is the order of things.
            if oldest.map_or(Some(index) == newest_record, |oldest| index > oldest) {
                let severity = if start.log_reaches { Severity::Warning } else { Severity::Error };
                let consequence = if Some(index) == newest_record {
                    stand_in(start)
                } else {
                    "a newer one is used".to_owned()
                };
                let message = format!(
                    "the log says that a snapshot was saved at entry {index}, term {term}, and there is no {}; {consequence}",
                    wal::snap_name(term, index)
                );
                findings.push(located(Finding::new("WAL-SNAPSHOT-NO-FILE", severity, message), log, record));
            }
            continue;
        };
        let (found_term, conf_state) =
            facts.map_or((named.0, None), |facts| (facts.term, Some(&facts.conf_state)));
        if found_term != term {
            let message = format!(
                "the log's snapshot at entry {index} is of term {term}, {} is of term {found_term}: they are of \
                 different histories, and no server takes the file",
                file.name()
            );
            findings.push(located(Finding::new("WAL-SNAPSHOT-TERM", Severity::Error, message), log, record));
        } else if let (Some(in_record), Some(in_file)) = (&record.value.conf_state, conf_state) {
            let sorted = |ids: &[u64]| {
                let mut ids = ids.to_vec();
                ids.sort_unstable();
                ids
            };
            let same = sorted(&in_record.voters) == sorted(&in_file.voters)
                && sorted(&in_record.learners) == sorted(&in_file.learners);
            if !same {
                let list = |ids: &[u64]| {
                    sorted(ids).iter().map(|id| format!("{id:x}")).collect::<Vec<_>>().join(" ")
                };
                let message = format!(
                    "the log's snapshot at entry {index} has the voters [{}] and learners [{}], {} has [{}] and [{}]: one \
                     of them was edited",
                    list(&in_record.voters),
                    list(&in_record.learners),
                    file.name(),
                    list(&in_file.voters),
                    list(&in_file.learners)
                );
                findings.push(located(
                    Finding::new("WAL-SNAPSHOT-MEMBERS", Severity::Warning, message),
                    log,
                    record,
                ));
            }
        }
    }
    for (file, named, facts) in snaps(files) {
        let (term, index) = facts.map_or(named, |facts| (facts.term, facts.index));
        let told = log.snapshots.iter().any(|record| record.value.index() == index);
        // Where the entry is gone as well, the record went with it: in a segment that was purged, or in a break, or it was
        // not written any more.
        if !told && log.term_of(index).is_some() {
            let message = format!(
                "{}: the log has no record of a snapshot at entry {index}, term {term}; etcd 3.4 and later do not use the \
                 file",
                file.name()
            );
            findings.push(Finding::new("SNAP-NO-RECORD", Severity::Warning, message).in_file(file.name()));
        }
    }
    hold_member(findings, log, files);
}

/// The log's member must be one of its own newest snapshot's, or be added later.
fn hold_member(findings: &mut Vec<Finding>, log: &Log, files: &LogFiles) {
    let Some(id) = log.metadata.as_ref().map(wal::Metadata::node_id) else { return };
    let Some((file, facts)) = snaps(files).find_map(|(file, _, facts)| facts.map(|facts| (file, facts)))
    else {
        return;
    };
    let conf = &facts.conf_state;
    let known = [&conf.voters, &conf.learners, &conf.voters_outgoing].iter().any(|ids| ids.contains(&id));
    let adds = [i32::from(ConfChangeType::AddNode), i32::from(ConfChangeType::AddLearnerNode)];
    let added_later = log.conf_changes.iter().any(|entry| {
        entry.value.index > facts.index
            && entry.value.change.node_id() == id
            && adds.contains(&entry.value.change.change_type())
    });
    if !known && !added_later {
        let message = format!(
            "the log is that of member {id:x}, which {} does not count among the members: the member was removed, or log \
             and snapshots are of different members",
            file.name()
        );
        findings.push(Finding::new("WAL-NOT-A-MEMBER", Severity::Warning, message));
    }
}

fn hold_start(findings: &mut Vec<Finding>, log: &Log, start: &StartPoint) {
    // Where the log reaches a snapshot of its own, it is the .snap that is missing, which was said.
    let newest_record = valid_records(log).map(|record| record.value.index()).max();
    if start.log_reaches || newest_record.is_some_and(|index| index > 0 && reaches(log, index)) {
        return;
    }
    let from = match &start.file {
        Some(file) => format!("{file}, at entry {}", start.index),
        None if start.index > 0 => format!("its snapshot at entry {}", start.index),
        None => "the first entry".to_owned(),
    };
    let named = log.segments.first().map_or(0, |segment| segment.name.index);
    let first = begins_with(log).map_or_else(|| "no entry".to_owned(), |first| format!("entry {first}"));
    let message = format!(
        "a server starts from {from}, and the log does not reach back that far: its first segment is named for entry {named} \
         and begins with {first}. Segments are missing"
    );
    findings.push(Finding::new("WAL-START-GONE", Severity::Error, message));
}

fn hold_state(findings: &mut Vec<Finding>, log: &Log) {
    let Some(state) = &log.hard_state else {
        if log.entries > 0 {
            let message = "the log has entries and no hard state: what the member voted for and what it knew to be committed \
                           is not known, and from the log alone it counts nothing as committed";
            findings.push(Finding::new("WAL-NO-STATE", Severity::Warning, message));
        }
        return;
    };
    let last_term = log.last_index().and_then(|last| log.term_of(last));
    if let Some(last_term) = last_term
        && last_term > state.value.term()
    {
        let message = format!(
            "the last hard state is of term {}, the last entry of term {last_term}: the hard state of that term was not \
             written any more, and with it a vote may be forgotten",
            state.value.term()
        );
        findings.push(Finding::new("WAL-STATE-TERM", Severity::Warning, message));
    }
}

/// A `.snap` of a later entry than the db's last, without the database that a leader sends with it. `None` without a db,
/// which is as good as one that has no entry.
fn newer_snap(files: &LogFiles, start: &StartPoint, consistent_index: Option<u64>) -> Option<Finding> {
    let newer = |facts: &SnapFacts| {
        let received =
            |file: &SnapFile| matches!(file.kind(), SnapKind::Database { index } if index == facts.index);
        facts.index > consistent_index.unwrap_or_default() && !files.snaps().iter().any(received)
    };
    let mut sound = snaps(files).filter_map(|(file, _, facts)| facts.map(|facts| (file, facts)));
    let newest = sound.next()?;
    // The one a server starts from may be an older one.
    let used =
        std::iter::once(newest).chain(sound).find(|(file, _)| start.file.as_deref() == Some(file.name()));
    let (file, facts) =
        used.filter(|(_, facts)| newer(facts)).or(Some(newest).filter(|(_, facts)| newer(facts)))?;
    let index = facts.index;
    let (severity, consequence) = if start.file.as_deref() == Some(file.name()) {
        (Severity::Error, "a server does not start: it fails to recover its db from the snapshot")
    } else {
        (Severity::Warning, "no server uses the file, since the log does not have it as committed")
    };
    let db = consistent_index
        .map_or_else(|| "there is no db".to_owned(), |last| format!("the db has entries up to {last}"));
    let message = format!(
        "{}: is of entry {index}, {db}, and there is no {}; {consequence}",
        file.name(),
        wal::snap_db_name(index)
    );
    Some(Finding::new("SNAP-NO-DB", severity, message).in_file(file.name()))
}

fn hold_database(findings: &mut Vec<Finding>, log: &Log, consistent_index: u64) {
    let last = highest(log);
    if let Some(first) = begins_with(log)
        && first > consistent_index.saturating_add(1)
    {
        let message = format!(
            "the database ends with entry {consistent_index}, the log begins with entry {first}: {} entries are in neither",
            first.saturating_sub(consistent_index).saturating_sub(1)
        );
        findings.push(Finding::new("WAL-GAP-AFTER-DB", Severity::Error, message));
    }
    if consistent_index > last {
        let message = format!(
            "the database holds what entries up to {consistent_index} did, the log ends with entry {last}: {} entries that \
             were applied are gone from its end",
            consistent_index.saturating_sub(last)
        );
        findings.push(Finding::new("WAL-BEHIND-DB", Severity::Error, message));
    }
}
