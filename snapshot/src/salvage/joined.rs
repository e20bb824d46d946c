//! A database that a log was applied to, held against all that was found.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bbolt::{Db, FileSource, LeafRange, Node, Source, Watch};

use super::SalvageError;
use super::Salvaged;
use super::account::Counted;
use super::classify::Point;
use super::ground::Ground;
use super::report::{Account, Listed, Losses, RevisionRange, WayKind};
use super::rules::{Verdict, intersection};
use super::sweep::{Group, Trust};
use super::ways::{LogWay, is_in};
use crate::edited::EditError;
use crate::mvcc::Revision;
use crate::schema::{KEY, Schema};

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
    /// What was found, is known to have existed, and is not in the database.
    Absent(&'a Group<'a>, &'a Verdict),
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
                        let is_chosen =
                            verdict.chosen.and_then(|chosen| group.copies.get(chosen)).is_some_and(|copy| {
                                copy.value == value && copy.is_tombstone == revision.tombstone
                            });
                        let trust = match (is_from_log, is_chosen) {
                            (true, _) => trusted(revision.main),
                            (false, true) => verdict.trust,
                            (false, false) => Trust::Suspect,
                        };
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
                if ground.knows(&verdict) {
                    Ok(each(&Joined::Absent(group, &verdict)))
                } else {
                    Ok(ControlFlow::Continue(()))
                }
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

/// What a way with a log has and lacks.
#[derive(Debug)]
pub(crate) struct LogCount {
    pub(crate) account: Account,
    /// Records at or below the compaction that it has and of which nothing else is left.
    pub(crate) only_log: u64,
}

/// Counts what a way with a log has and lacks; `last_known` is the last main revision that is known of.
pub(crate) fn count(
    ground: &Ground<'_>,
    way: &LogWay,
    counted: &Counted,
    last_known: i64,
    watch: &dyn Watch,
) -> Result<LogCount, SalvageError> {
    let db: Db<&FileSource> = Db::from_source(&way.db).map_err(|error| unreadable(&error.to_string()))?;
    let schema = Schema::read(&db).map_err(|fault| unreadable(&fault.to_string()))?;
    let compaction = schema.finished_compact.max(schema.scheduled_compact);
    // What the log made has no gaps. Of what survived beside it, what stood at or below the compaction may be lost, unless the log went on
    // to a later one.
    let compacted = compaction.unwrap_or_default();
    let has_survivors = way.kind == WayKind::SurvivorsAndLog && ground.rules.compaction >= compacted;
    let unmet = if has_survivors { counted.unmet_compacted(ground).collect() } else { BTreeSet::new() };
    watch.begin("counting what the log makes of it", ground.evidence.leaf_bytes());
    let mut tally = Tally {
        way,
        silent: &ground.rules.silent,
        compacted,
        has_survivors,
        unmet,
        account: Account { compact_revision: compaction, ..Account::default() },
        only_log: 0,
        missing: Listed::default(),
        halves: Listed::default(),
        lacking: 0,
        main: 0,
        has_some: false,
        lacks_some: false,
        next_sub: 0,
    };
    join(ground, way, watch, &mut |joined| {
        match joined {
            Joined::Record(record) => tally.record(record),
            Joined::Absent(group, verdict) => tally.absent(group, verdict),
        }
        ControlFlow::Continue(())
    })?;
    Ok(tally.done(last_known))
}

/// What was counted so far.
struct Tally<'t> {
    way: &'t LogWay,
    /// Main revisions of which no tree says anything.
    silent: &'t [(i64, i64)],
    compacted: i64,
    /// Whether records at or below the compaction are what survived.
    has_survivors: bool,
    /// Records at or below the compaction that certainly existed and were not found.
    unmet: BTreeSet<Point>,
    account: Account,
    only_log: u64,
    missing: Listed<RevisionRange>,
    halves: Listed<i64>,
    /// Main revisions of which something is missing that was found, or must have been there.
    lacking: u64,
    /// The main revision at hand, whether the way has something of it, or lacks something, and the place in it that comes next.
    main: i64,
    has_some: bool,
    lacks_some: bool,
    next_sub: i64,
}

impl Tally<'_> {
    fn record(&mut self, record: &Salvaged<'_>) {
        let Revision { main, sub, .. } = record.revision;
        let account = &mut self.account;
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
        account.last_revision = main;
        self.only_log += u64::from(record.copies.is_empty() && main <= self.compacted);
        self.unmet.remove(&Point { main, sub });
        self.go_to(main);
        if main > self.compacted && sub > self.next_sub && !record.is_from_log && is_in(self.silent, main) {
            self.account.missing_records += u64::try_from(sub - self.next_sub).unwrap_or_default();
            self.lacks_some = true;
        }
        self.next_sub = sub.saturating_add(1);
        self.has_some = true;
    }

    fn absent(&mut self, group: &Group<'_>, verdict: &Verdict) {
        let dropped = &mut self.account.dropped;
        if group.main <= self.compacted {
            match verdict.chosen {
                Some(_) => dropped.compacted += 1,
                None if self.has_survivors => {
                    self.unmet.remove(&Point { main: group.main, sub: group.sub });
                    dropped.torn += 1;
                }
                None => {}
            }
            return;
        }
        match verdict.chosen {
            Some(_) => dropped.unfilled += 1,
            None => dropped.torn += 1,
        }
        self.go_to(group.main);
        self.next_sub = group.sub.saturating_add(1);
        self.lacks_some = true;
    }

    /// Goes on to a main revision of which something is known.
    fn go_to(&mut self, main: i64) {
        if main == self.main {
            return;
        }
        self.end_main();
        let from = self.main.max(self.compacted).max(1).saturating_add(1);
        // What the log made is dense by itself: what a revision has no record of was compacted.
        let to = main.saturating_sub(1).min(self.way.base_revision);
        if from <= to {
            let first = self.silent.partition_point(|(_, last)| *last < from);
            for (from, to) in intersection(&[(from, to)], self.silent.get(first..).unwrap_or_default()) {
                self.miss(from, to);
            }
        }
        self.main = main;
    }

    fn end_main(&mut self) {
        self.lacking += u64::from(self.lacks_some);
        if self.lacks_some && self.has_some {
            self.halves.push(self.main);
        }
        (self.has_some, self.lacks_some, self.next_sub) = (false, false, 0);
    }

    fn miss(&mut self, from: i64, to: i64) {
        self.account.missing_revisions += u64::try_from(to - from + 1).unwrap_or_default();
        self.missing.push(RevisionRange { from, to });
    }

    fn done(mut self, last_known: i64) -> LogCount {
        self.end_main();
        let last = self.account.last_revision.max(self.way.last_revision);
        if last_known > last.max(self.main) {
            self.miss(last.max(self.main).saturating_add(1), last_known);
        }
        let Self { mut account, only_log, way, missing, halves, lacking, unmet, .. } = self;
        account.last_revision = last;
        account.missing_records += unmet.len() as u64;
        (account.missing, account.more_missing) = (missing.listed, missing.more);
        (account.half_revisions, account.more_half_revisions) = (halves.listed, halves.more);
        account.loses = Losses {
            revisions: lacking + account.missing_revisions,
            records: account.dropped.unfilled + account.dropped.torn + account.missing_records,
            entries: 0,
            open_holes: way.open_holes,
            small: way.small_lost,
            suspect: account.suspect,
        };
        LogCount { account, only_log }
    }
}
