//! A database that a log was applied to, held against all that was found.

use std::ops::ControlFlow;

use bbolt::{Db, FileSource, LeafRange, Node, Source, Watch};

use super::SalvageError;
use super::Salvaged;
use super::classify::Point;
use super::ground::Ground;
use super::report::{Account, Dropped, Listed, Losses, RevisionRange};
use super::rules::Standing;
use super::sweep::{Group, Trust};
use super::ways::LogWay;
use crate::edited::EditError;
use crate::mvcc::Revision;
use crate::schema::{KEY, Schema};

/// What came of counting.
#[derive(Debug)]
pub(crate) struct LogCount {
    pub(crate) account: Account,
}

/// How many parts the leaves of a database are read in.
const RANGES: usize = 4096;

/// The records of a database, one after the other.
struct Records<'d, S> {
    ranges: Vec<LeafRange<'d, S>>,
    range: usize,
    leaves: Vec<Node<'d>>,
    next: u16,
}

fn unreadable(what: &str) -> SalvageError {
    let path = std::path::PathBuf::from("the database that the log was applied to");
    EditError::ReadBack { path, what: what.to_owned() }.into()
}

impl<'d, S: Source> Records<'d, S> {
    fn of(db: &'d Db<S>) -> Result<Self, SalvageError> {
        let bucket = db.bucket(KEY).map_err(|fault| unreadable(&fault.to_string()))?;
        let ranges = match bucket {
            // The leaves of one range are held at a time.
            Some(bucket) => bucket.leaf_ranges(RANGES).map_err(|fault| unreadable(&fault.to_string()))?,
            None => Vec::new(),
        };
        Ok(Self { ranges, range: 0, leaves: Vec::new(), next: 0 })
    }

    /// The record at hand: its key and value.
    fn peek(&mut self) -> Result<Option<(Revision, &[u8])>, SalvageError> {
        loop {
            let done = self.leaves.last().is_some_and(|leaf| self.next >= leaf.count());
            if done {
                self.leaves.pop();
                self.next = 0;
            }
            if self.leaves.is_empty() {
                let Some(range) = self.ranges.get(self.range) else { return Ok(None) };
                self.range += 1;
                let nodes: Result<Vec<Node<'d>>, _> = range.nodes().collect();
                self.leaves = nodes.map_err(|fault| unreadable(&fault.to_string()))?;
                self.leaves.reverse();
                continue;
            }
            let Some(leaf) = self.leaves.last() else { continue };
            if self.next >= leaf.count() {
                continue;
            }
            if Revision::parse(leaf.key(self.next)).is_none() {
                self.next += 1;
                continue;
            }
            break;
        }
        let leaf = self.leaves.last();
        Ok(leaf.and_then(|leaf| Some((Revision::parse(leaf.key(self.next))?, leaf.value(self.next)))))
    }
}

/// Shows `each` the records of `way` in the order of their revisions, with what was found of each.
pub(crate) fn records(
    ground: &Ground<'_>,
    way: &LogWay,
    watch: &dyn Watch,
    each: &mut dyn FnMut(&Salvaged<'_>) -> ControlFlow<()>,
) -> Result<(), SalvageError> {
    join(ground, way, watch, &mut |joined| match joined {
        Joined::Record(record) => each(record),
        Joined::Absent(..) => ControlFlow::Continue(()),
    })
}

/// One step through both.
enum Joined<'a> {
    /// A record of the database.
    Record(&'a Salvaged<'a>),
    /// What was found and is not in the database, and whether it is known to have existed.
    Absent(&'a Group<'a>, bool),
}

fn join(
    ground: &Ground<'_>,
    way: &LogWay,
    watch: &dyn Watch,
    each: &mut dyn FnMut(&Joined<'_>) -> ControlFlow<()>,
) -> Result<(), SalvageError> {
    let db: Db<&FileSource> = Db::from_source(&way.db).map_err(|error| unreadable(&error.to_string()))?;
    let mut records = Records::of(&db)?;
    let mut failed = None;
    let mut has_ended = false;
    let trusted = |main| if way.is_doubtful(main) { Trust::Suspect } else { Trust::Confirmed };
    for range in 0..ground.sweep.ranges() {
        let mut judge = ground.rules.judge(range);
        ground.sweep.walk(range, watch, &mut |group| {
            let verdict = judge.verdict(group);
            let point = Point { main: group.main, sub: group.sub };
            let mut step = || -> Result<ControlFlow<()>, SalvageError> {
                while let Some((revision, value)) = records.peek()? {
                    let at = Point { main: revision.main, sub: revision.sub };
                    if at > point {
                        break;
                    }
                    let is_from_log = way.is_from_log(revision.main);
                    let (copies, trust) = if at == point {
                        let trust = if is_from_log { trusted(revision.main) } else { verdict.trust };
                        (group.copies, trust)
                    } else {
                        let trust = if is_from_log { trusted(revision.main) } else { Trust::Suspect };
                        (&[][..], trust)
                    };
                    let record =
                        Salvaged { revision, value, trust, is_from_log, is_resurrected: false, copies };
                    let flow = each(&Joined::Record(&record));
                    records.next += 1;
                    if flow.is_break() || at == point {
                        return Ok(flow);
                    }
                }
                let is_known = verdict.belongs()
                    && verdict.chosen.is_some()
                    && (ground.counts_beyond || verdict.standing != Standing::Beyond);
                Ok(each(&Joined::Absent(group, is_known)))
            };
            match step() {
                Ok(flow) => {
                    has_ended |= flow.is_break();
                    flow
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failed.take() {
            return Err(error);
        }
        if has_ended {
            return Ok(());
        }
    }
    while let Some((revision, value)) = records.peek()? {
        let is_from_log = way.is_from_log(revision.main);
        let trust = if is_from_log { trusted(revision.main) } else { Trust::Suspect };
        let record = Salvaged { revision, value, trust, is_from_log, is_resurrected: false, copies: &[] };
        if each(&Joined::Record(&record)).is_break() {
            return Ok(());
        }
        records.next += 1;
        if watch.interrupted() {
            return Err(SalvageError::Interrupted);
        }
    }
    Ok(())
}

/// Counts what a way with a log has and lacks; `last_known` is the last main revision that is known of.
pub(crate) fn count(
    ground: &Ground<'_>,
    way: &LogWay,
    last_known: i64,
    watch: &dyn Watch,
) -> Result<LogCount, SalvageError> {
    let db: Db<&FileSource> = Db::from_source(&way.db).map_err(|error| unreadable(&error.to_string()))?;
    let schema = Schema::read(&db).map_err(|fault| unreadable(&fault.to_string()))?;
    let compaction = schema.finished_compact.max(schema.scheduled_compact);
    let compacted = compaction.unwrap_or_default();
    watch.begin("counting what the log makes of it", ground.evidence.leaf_bytes());
    let mut account = Account { compact_revision: compaction, ..Account::default() };
    let mut missing: Listed<RevisionRange> = Listed::default();
    let (mut lacking, mut lacking_main, mut dropped) = (0u64, 0, Dropped::default());
    let mut gap = |from: i64, to: i64, account: &mut Account| {
        let from = from.max(compacted).saturating_add(1);
        let to = to.saturating_sub(1);
        if from <= to {
            for (from, to) in super::rules::intersection(&[(from, to)], &ground.rules.silent) {
                // What the log made is dense by itself: what a revision has no record of was compacted.
                let to = to.min(way.base_revision);
                if from <= to {
                    account.missing_revisions += u64::try_from(to - from + 1).unwrap_or_default();
                    missing.push(RevisionRange { from, to });
                }
            }
        }
    };
    join(ground, way, watch, &mut |joined| {
        match joined {
            Joined::Record(record) => {
                let main = record.revision.main;
                account.records += 1;
                match record.trust {
                    Trust::Confirmed => account.confirmed += 1,
                    Trust::Single => account.single += 1,
                    Trust::Suspect => account.suspect += 1,
                }
                account.from_log += u64::from(record.is_from_log);
                if account.first_revision == 0 {
                    account.first_revision = main;
                }
                if main != account.last_revision {
                    gap(account.last_revision.max(1), main, &mut account);
                }
                account.last_revision = main;
            }
            Joined::Absent(group, true) if group.main > compacted => {
                dropped.unfilled += 1;
                lacking += u64::from(lacking_main != group.main);
                lacking_main = group.main;
            }
            Joined::Absent(_, true) => dropped.compacted += 1,
            Joined::Absent(_, false) => {}
        }
        ControlFlow::Continue(())
    })?;
    account.last_revision = account.last_revision.max(way.last_revision);
    if last_known > account.last_revision {
        account.missing_revisions += u64::try_from(last_known - account.last_revision).unwrap_or_default();
        missing.push(RevisionRange { from: account.last_revision + 1, to: last_known });
    }
    account.dropped = dropped;
    account.more_missing = missing.more;
    account.missing = missing.listed;
    account.loses = Losses {
        revisions: lacking + account.missing_revisions,
        records: dropped.unfilled,
        open_holes: way.open_holes,
        small: way.small_lost,
        suspect: account.suspect,
    };
    Ok(LogCount { account })
}
