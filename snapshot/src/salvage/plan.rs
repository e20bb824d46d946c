//! The plan: all ways out, best first, with what each loses.

use std::ops::ControlFlow;

use bbolt::Watch;

use super::account::{self, Counted, keys};
use super::evidence::Evidence;
use super::ground::{Ground, Selection};
use super::joined::{self, LogCount};
use super::report::{
    Account, Known, Listed, LogReport, Losses, Origin, Report, RevisionRange, TreeReport, WayKind, WayReport,
};
use super::rules::{Rules, counts_beyond};
use super::sweep::Sweep;
use super::ways::{FromLogs, LogWay, Small};
use super::{SalvageError, Salvaged, log, small};
use crate::finding::{Finding, Severity};
use crate::mvcc::{Release, Revision};

/// Most trees that are offered as ways of their own.
const MOST_TREE_WAYS: usize = 8;

/// What a way takes.
#[derive(Debug)]
pub(crate) enum Taking {
    /// Records that were found.
    Found(Selection),
    /// What a log was applied to, and what came of it.
    Log(Box<LogWay>),
}

/// One way out, with all that is known of it.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) kind: WayKind,
    pub(crate) taking: Taking,
    pub(crate) tree: Option<usize>,
    pub(crate) account: Account,
    pub(crate) notes: Vec<String>,
}

/// All ways out, best first, with what each loses.
#[derive(Debug)]
pub struct Plan<'e> {
    pub(crate) ground: Ground<'e>,
    pub(crate) ways: Vec<Way>,
    pub(crate) counted: Counted,
    known: Known,
    logs: Vec<LogReport>,
    findings: Vec<Finding>,
    /// The last entry that is known to be committed, and which ones can be read.
    committed: u64,
    /// Records that the log says were written, that trees should have, and that are in none.
    missing: u64,
    readable: Vec<(u64, u64)>,
    /// The small buckets of each selection that is a way.
    small: Vec<(Selection, Small)>,
}

impl Evidence {
    /// Counts what was found, tries what logs there are, and lists the ways out.
    ///
    /// # Errors
    /// When a temporary file cannot be written, a log changed meanwhile, or the user asked to stop.
    pub fn plan(&self, watch: &dyn Watch) -> Result<Plan<'_>, SalvageError> {
        let sweep = Sweep::new(self);
        let release = self.options.as_etcd.unwrap_or(Release::NEWEST);
        let rules = Rules::new(self, &sweep, release, watch)?;
        let mut ground = Ground { evidence: self, sweep, rules, counts_beyond: counts_beyond(self) };
        let trees = self.trees.len().min(MOST_TREE_WAYS);
        let mut selections: Vec<Selection> = (0..trees).map(Selection::Tree).collect();
        selections.extend([Selection::Leaves, Selection::Carved]);
        let mut from_logs =
            if self.logs.is_empty() { FromLogs::default() } else { log::ways(&ground, watch)? };
        ground.rules.log = std::mem::take(&mut from_logs.says);
        let counted = account::count(&ground, &selections, watch)?;
        let has_nothing = self.trees.is_empty() && counted.known == 0 && from_logs.ways.is_empty();
        if let Some(why) = from_logs.not_alone.filter(|_| has_nothing) {
            let paths: Vec<String> =
                self.logs.iter().map(|log| log.wal_dir().display().to_string()).collect();
            return Err(SalvageError::LogIsNotAll { paths: paths.join(", "), why });
        }
        let known = counted.known(&ground);
        let mut plan = Plan {
            known,
            counted,
            ways: Vec::new(),
            logs: from_logs.reports,
            findings: from_logs.findings,
            committed: from_logs.committed,
            missing: from_logs.missing,
            readable: from_logs.readable,
            small: Vec::new(),
            ground,
        };
        plan.known.last_revision = plan.known.last_revision.max(from_logs.last_revision);
        plan.offer_found(&selections, watch)?;
        for way in from_logs.ways {
            plan.offer_log(way, watch)?;
        }
        // A stable sort: among equals the simplest stays first, but for older trees: what beside the keys goes with those is as old.
        let is_older = |way: &Way| matches!(way.taking, Taking::Found(Selection::Tree(number)) if number > 0);
        plan.ways.sort_by_key(|way| (way.account.loses, way.account.suspect, is_older(way)));
        Ok(plan)
    }
}

impl Plan<'_> {
    fn offer_found(&mut self, selections: &[Selection], watch: &dyn Watch) -> Result<(), SalvageError> {
        let first = self.counted.has.first().copied().unwrap_or_default();
        let has_trees = !self.ground.evidence.trees.is_empty();
        for (at, selection) in selections.iter().enumerate() {
            let has = self.counted.has.get(at).copied().unwrap_or_default();
            let (kind, tree) = match *selection {
                Selection::Tree(number) => {
                    match self.ground.evidence.trees.get(number).map(|tree| tree.origin) {
                        Some(Origin::NewestMeta) => (WayKind::NewestMeta, Some(number)),
                        Some(Origin::OtherMeta) => (WayKind::OtherMeta, Some(number)),
                        _ => (WayKind::OrphanRoot, Some(number)),
                    }
                }
                Selection::Leaves => {
                    let has_gaps =
                        self.ground.evidence.trees.first().is_some_and(|tree| !tree.has_all_keys());
                    // A record whose copy in the tree is damaged may have a better one elsewhere.
                    let is_no_better = has.records == first.records && has.suspect >= first.suspect;
                    if !has_trees || !has_gaps && is_no_better {
                        continue;
                    }
                    (WayKind::Leaves, Some(0))
                }
                _ => {
                    if has_trees && (has.beyond == 0 || has.records == 0) {
                        continue;
                    }
                    (WayKind::Carved, has_trees.then_some(0))
                }
            };
            let mut account = self.counted.account(&self.ground, at, *selection);
            let small = self.small_of(*selection, watch)?;
            account.buckets.clone_from(&small.reports);
            account.loses.small = small.lost;
            account.compact_revision = small.compact_revision();
            let unseen = self.known.last_revision.saturating_sub(self.counted.last);
            if let Ok(unseen) = u64::try_from(unseen)
                && unseen > 0
            {
                account.loses.revisions += unseen;
                account.missing_revisions += unseen;
                account
                    .missing
                    .push(RevisionRange { from: self.counted.last + 1, to: self.known.last_revision });
            }
            account.loses.records += self.missing;
            account.loses.entries = self.committed.saturating_sub(self.entry_of(*selection, has.beyond));
            let notes = self.notes(kind);
            self.ways.push(Way { kind, taking: Taking::Found(*selection), tree, account, notes });
        }
        Ok(())
    }

    /// The last entry of the log that a selection has; the last of all where nobody knows.
    fn entry_of(&self, selection: Selection, beyond: u64) -> u64 {
        let number = match selection {
            Selection::Tree(number) => number,
            Selection::Carved if beyond > 0 => return u64::MAX,
            _ => 0,
        };
        let tree = self.ground.evidence.trees.get(number);
        tree.and_then(|tree| tree.facts.consistent_index).unwrap_or(u64::MAX)
    }

    fn notes(&self, kind: WayKind) -> Vec<String> {
        let mut notes = Vec::new();
        if kind == WayKind::Carved && !self.ground.counts_beyond {
            notes.push(
                "the file itself is in order; what is newer than its tree is what a transaction left behind that had not come to its \
                 end when the file was copied"
                    .to_owned(),
            );
        }
        notes
    }

    fn offer_log(&mut self, way: LogWay, watch: &dyn Watch) -> Result<(), SalvageError> {
        let LogCount { mut account, only_log } =
            joined::count(&self.ground, &way, &self.counted, self.known.last_revision, watch)?;
        // What only the log tells of is known as well, and the ways without it lack it.
        if way.kind == WayKind::SurvivorsAndLog {
            let without_log = self.ways.iter_mut().filter(|way| matches!(way.taking, Taking::Found(_)));
            for account in without_log.map(|way| &mut way.account) {
                account.missing_records += only_log;
                account.loses.records += only_log;
            }
        }
        account.buckets.clone_from(&way.small);
        account.loses.entries = self.committed.saturating_sub(way.last_entry);
        if way.kind == WayKind::TreeAndLog {
            account.loses.records += self.missing;
        }
        let notes = way.notes.clone();
        self.ways.push(Way {
            kind: way.kind,
            tree: way.tree,
            account,
            notes,
            taking: Taking::Log(Box::new(way)),
        });
        Ok(())
    }

    /// The small buckets that go with the records of a selection.
    fn small_of(&mut self, selection: Selection, watch: &dyn Watch) -> Result<&Small, SalvageError> {
        let known = self.small.iter().position(|(of, _)| *of == selection);
        let at = match known {
            Some(at) => at,
            None => {
                let mut small = small::gather(&self.ground, selection, watch)?;
                let tree = if let Selection::Tree(number) = selection { number } else { 0 };
                if let Some(why) = self.ground.evidence.newer_may_be_lost(tree) {
                    small::may_be_older(&mut small, &why);
                }
                self.small.push((selection, small));
                self.small.len() - 1
            }
        };
        self.small.get(at).map(|(_, small)| small).ok_or(SalvageError::Interrupted)
    }

    /// The small buckets of a way that was planned.
    pub(crate) fn small_of_way(&self, way: &Way) -> Option<&Small> {
        let Taking::Found(selection) = &way.taking else { return None };
        self.small.iter().find(|(of, _)| of == selection).map(|(_, small)| small)
    }

    /// How many ways there are.
    #[must_use]
    pub fn ways(&self) -> usize {
        self.ways.len()
    }

    pub(crate) fn way(&self, number: usize) -> Result<&Way, SalvageError> {
        let no_such = SalvageError::NoSuchWay { wanted: number, ways: self.ways.len() };
        number.checked_sub(1).and_then(|at| self.ways.get(at)).ok_or(no_such)
    }

    /// What is known of way `number`, from 1, and of all others: the report of a dry run.
    ///
    /// # Errors
    /// When there is no such way, or the user asked to stop.
    pub fn report(&self, number: usize, watch: &dyn Watch) -> Result<Report, SalvageError> {
        let way = self.way(number)?;
        let mut account = way.account.clone();
        // Values of which there are two copies, or which the log has, are right all the same.
        let severity = if account.single == 0 { Severity::Warning } else { Severity::Error };
        let changed = self.ground.evidence.changed.iter().cloned();
        let mut findings: Vec<Finding> = changed.map(|finding| Finding { severity, ..finding }).collect();
        findings.extend(self.findings.iter().cloned());
        let walk = |each: &mut dyn FnMut(Revision, &[u8]) -> ControlFlow<()>| {
            watch.begin("looking for what stands in for what is lost", self.ground.evidence.leaf_bytes());
            self.records(number, watch, &mut |record| each(record.revision, record.value))
        };
        keys::look_up(&mut account, self.ground.rules.compaction, &walk)?;
        if account.dropped.torn > 0 {
            (account.lost_keys, account.more_lost_keys) = self.counted.lost_keys(&walk)?;
        }
        if let Taking::Found(_) = way.taking {
            findings.extend(self.small_of_way(way).map(|small| small.findings.clone()).unwrap_or_default());
        }
        if let Taking::Log(log) = &way.taking {
            findings.extend(log.findings.iter().cloned());
        }
        findings.extend(self.ground.strangers());
        findings.extend(self.counted.findings());
        findings.extend(of_account(&account));
        findings.extend(self.of_log(&account));
        Ok(Report {
            inputs: self.ground.evidence.input_reports(),
            logs: self.logs.clone(),
            trees: (0..self.ground.evidence.trees.len())
                .filter_map(|number| self.tree_report(number))
                .collect(),
            reference: (!self.ground.evidence.trees.is_empty()).then_some(0),
            known: self.known,
            ways: (1..).zip(&self.ways).map(|(number, way)| self.way_report(number, way)).collect(),
            chosen: number,
            account,
            output: None,
            findings,
        })
    }

    /// That entries of the log are known to be committed and are not in a way.
    fn of_log(&self, account: &Account) -> Option<Finding> {
        let lost = account.loses.entries;
        let first = self.committed.checked_sub(lost)?.saturating_add(1);
        let is_in = |(from, to): &(u64, u64)| {
            let (from, to) = ((*from).max(first), (*to).min(self.committed));
            (from <= to).then_some((from, to))
        };
        let listed: Vec<String> = self
            .readable
            .iter()
            .filter_map(is_in)
            .take(10)
            .map(|(from, to)| format!("{from} to {to}"))
            .collect();
        let readable = if listed.is_empty() {
            String::new()
        } else {
            format!(
                ". Of these {} can be read ('wal dump' shows what they ask for), but not applied, since those before them are lost",
                listed.join(", ")
            )
        };
        let message = format!(
            "entries {first} to {} of the log are known to be committed and are not in this way, which lacks what they wrote{readable}",
            self.committed
        );
        (lost > 0).then(|| Finding::new("SALVAGE-LOG-SHORT", Severity::Error, message))
    }

    fn tree_report(&self, number: usize) -> Option<TreeReport> {
        let tree = self.ground.evidence.trees.get(number)?;
        let mut holes = Listed::default();
        self.counted.holes(&self.ground, number, true).into_iter().for_each(|hole| holes.push(hole));
        Some(TreeReport {
            input: tree.source,
            origin: tree.origin,
            root_page: tree.root_page,
            consistent_index: tree.facts.consistent_index.unwrap_or_default(),
            term: tree.facts.term,
            revision: tree.revision,
            compact_revision: tree.facts.compaction(),
            leaves: tree.leaves,
            holes: holes.listed,
            more_holes: holes.more,
            is_sound: tree.is_sound,
        })
    }

    fn way_report(&self, number: usize, way: &Way) -> WayReport {
        let tree = way.tree.and_then(|number| self.ground.evidence.trees.get(number));
        let of_tree = tree.map(|tree| {
            let file = self
                .ground
                .evidence
                .sources
                .get(tree.source)
                .filter(|_| self.ground.evidence.sources.len() > 1);
            let of_file = file.map(|file| format!(" of {}", file.path.display())).unwrap_or_default();
            match tree.origin {
                Origin::NewestMeta => format!("newest meta{of_file}"),
                Origin::OtherMeta => format!("other meta{of_file}"),
                Origin::OrphanRoot => format!("orphan root at page {}{of_file}", tree.root_page),
            }
        });
        let of_tree = of_tree.unwrap_or_else(|| "no tree".to_owned());
        let name = match way.kind {
            WayKind::NewestMeta | WayKind::OtherMeta | WayKind::OrphanRoot => of_tree,
            WayKind::Leaves => format!("{of_tree}, its gaps filled from all leaves"),
            WayKind::Carved => "all that was carved".to_owned(),
            WayKind::TreeAndLog => format!("{of_tree} + log"),
            WayKind::SurvivorsAndLog => "survivors + log".to_owned(),
            WayKind::LogAlone => "log alone".to_owned(),
        };
        WayReport {
            number,
            kind: way.kind,
            name,
            tree: way.tree,
            records: way.account.records,
            last_revision: way.account.last_revision,
            loses: way.account.loses,
            notes: way.notes.clone(),
        }
    }

    /// Shows `each` the records of way `number`, from 1, in the order of their revisions, with what speaks for each, until it says
    /// that it is enough: for extracting keys, and for holding a salvage against the truth.
    ///
    /// # Errors
    /// When there is no such way, the database that a log was applied to cannot be read again, or the user asked to stop.
    pub fn records(
        &self,
        number: usize,
        watch: &dyn Watch,
        each: &mut dyn FnMut(&Salvaged<'_>) -> ControlFlow<()>,
    ) -> Result<(), SalvageError> {
        match &self.way(number)?.taking {
            Taking::Found(selection) => self.ground.records(*selection, watch, &mut |taken| {
                each(&Salvaged {
                    revision: taken.revision(),
                    value: taken.copy.value,
                    trust: taken.trust,
                    is_from_log: false,
                    is_resurrected: taken.verdict.is_resurrected,
                    copies: taken.group.copies,
                })
            }),
            Taking::Log(way) => joined::records(&self.ground, way, watch, each),
        }
    }

    /// The path of a source, as [`Copy::source`](super::Copy::source) has it.
    #[must_use]
    pub fn path_of(&self, source: u16) -> Option<&std::path::Path> {
        self.ground.evidence.sources.get(usize::from(source)).map(|source| source.file.as_path())
    }
}

/// That something is missing, as findings.
fn of_account(account: &Account) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |code, message: String| findings.push(Finding::new(code, Severity::Error, message));
    let Losses { open_holes, suspect, .. } = account.loses;
    if account.missing_revisions > 0 {
        let range = |range: &RevisionRange| match range.to - range.from {
            0 => range.from.to_string(),
            _ => format!("{} to {}", range.from, range.to),
        };
        let listed: Vec<String> = account.missing.iter().take(10).map(range).collect();
        let more = if account.missing.len() > 10 || account.more_missing > 0 { ", …" } else { "" };
        add(
            "SALVAGE-MISSING",
            format!("{} revision(s) are missing: {}{more}", account.missing_revisions, listed.join(", ")),
        );
    }
    let found = account.dropped.unfilled;
    if found > 0 {
        add("SALVAGE-MISSING", format!("{found} record(s) that were found are not in this way"));
    }
    let halves = account.halves();
    if halves > 0 {
        let listed: Vec<String> = account.half_revisions.iter().take(10).map(i64::to_string).collect();
        let more = if halves > 10 { ", …" } else { "" };
        add(
            "SALVAGE-HALF",
            format!(
                "{halves} transaction(s) come out in half, those of revision {}{more}",
                listed.join(", ")
            ),
        );
    }
    if account.missing_records > 0 {
        add(
            "SALVAGE-MISSING",
            format!(
                "{} record(s) that certainly existed were found nowhere, beside those of missing revisions",
                account.missing_records
            ),
        );
    }
    if account.dropped.torn > 0 {
        add(
            "SALVAGE-TORN",
            format!("of {} record(s) only parts were found; they are missing", account.dropped.torn),
        );
    }
    if open_holes > 0 {
        add(
            "SALVAGE-HOLE",
            format!(
                "{open_holes} part(s) of the key space could not be reached, and what else stood there besides what was found is not known"
            ),
        );
    }
    if suspect > 0 {
        add("SALVAGE-SUSPECT", format!("{suspect} record(s) are open to doubt"));
    }
    findings
}
