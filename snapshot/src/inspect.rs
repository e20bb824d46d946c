//! `inspect`: what a path is and how its data stands, on one page and in a second.
//!
//! Everything but the pages of the database is read in any case ([`crate::facts`]). The walk over its pages gets what is left of
//! the second, all the time it needs, or none: whether it came to its end is part of the answer, since only then may anybody
//! say that a server starts on the file.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bbolt::Watch;
use bbolt::check::Statistics;

use crate::facts::{self, Facts, FactsError, FactsOptions};
use crate::finding::{Finding, Severity};
use crate::structure;

/// How long all of it may take where nothing else is asked for, the walk over the pages included; the rest of a second goes with
/// giving back what was mapped.
pub const WALK_BUDGET: Duration = Duration::from_millis(700);
/// What the walk gets in any case, however long the log took.
const LEAST_WALK: Duration = Duration::from_millis(200);

/// How much of the database's pages is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// As much as can be done in this time, counted from the beginning of the inspection; begun and not ended counts as not
    /// done.
    Within(Duration),
    /// All of them, however long that takes.
    Whole,
    /// None.
    Skip,
}

impl Default for Walk {
    fn default() -> Self {
        Self::Within(WALK_BUDGET)
    }
}

/// What is looked at, and how it is opened.
#[derive(Debug, Clone, Default)]
pub struct InspectOptions {
    /// How the files are opened.
    pub facts: FactsOptions,
    /// How much of the database's pages is looked at.
    pub walk: Walk,
}

/// What is known of the structure of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Structure {
    /// There is no database that can be opened.
    Absent,
    /// Its pages were not all looked at.
    NotChecked {
        /// What was wrong with those that were looked at.
        findings: Vec<Finding>,
        /// Why.
        why: NotChecked,
    },
    /// Its pages were all looked at.
    Checked {
        /// What is wrong; empty or warnings only when it is sound.
        findings: Vec<Finding>,
        /// What was counted.
        statistics: Statistics,
    },
}

/// Why pages were not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotChecked {
    /// It was not asked for.
    Skipped,
    /// The time was over. A cold disk, or a large file.
    OutOfTime {
        /// How long the walk took until then.
        after: Duration,
    },
}

impl Structure {
    /// What is wrong with the structure, as far as it was looked at.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Absent => &[],
            Self::NotChecked { findings, .. } | Self::Checked { findings, .. } => findings,
        }
    }

    /// The findings of a walk that came to its end; `None` when nobody may say that the structure is sound. Damage that was met
    /// by a walk without an end is damage all the same.
    #[must_use]
    pub fn proven(&self) -> Option<&[Finding]> {
        match self {
            Self::Checked { findings, .. } => Some(findings),
            Self::NotChecked { findings, .. } if structure::is_damaged(findings) => Some(findings),
            Self::NotChecked { .. } | Self::Absent => None,
        }
    }
}

/// A path, inspected.
#[derive(Debug)]
pub struct Inspection {
    /// What its files say.
    pub facts: Facts,
    /// What is known of the database's pages.
    pub structure: Structure,
}

impl Inspection {
    /// All that is wrong: with the pages, the rows, and the log and what lies beside it, errors first.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = self.structure.findings().to_vec();
        if let Some(database) = self.facts.database_facts() {
            findings.extend(database.schema.no_key_bucket());
            findings.extend(database.schema.findings.iter().cloned());
            findings.extend(database.auth.findings.iter().cloned());
        }
        if let Some(log) = self.facts.log_facts() {
            findings.extend(log.report.findings.iter().map(|found| found.finding.clone()));
        }
        findings.sort_by_key(|finding| finding.severity != Severity::Error);
        findings
    }
}

/// Inspects `path`.
///
/// # Errors
/// When there is nothing at `path`, or the user asked to stop.
pub fn inspect(path: &Path, options: &InspectOptions, watch: &dyn Watch) -> Result<Inspection, FactsError> {
    let begun = Instant::now();
    let facts = facts::gather(path, &options.facts, watch)?;
    let most = match options.walk {
        Walk::Within(most) => Walk::Within(most.saturating_sub(begun.elapsed()).max(LEAST_WALK.min(most))),
        other => other,
    };
    let structure = walk(&facts, most, watch)?;
    Ok(Inspection { facts, structure })
}

fn walk(facts: &Facts, walk: Walk, watch: &dyn Watch) -> Result<Structure, FactsError> {
    let Some(Ok(database)) = &facts.database else { return Ok(Structure::Absent) };
    let Ok(db) = database.input.db() else { return Ok(Structure::Absent) };
    let most = match walk {
        Walk::Skip => {
            return Ok(Structure::NotChecked { findings: Vec::new(), why: NotChecked::Skipped });
        }
        Walk::Whole => None,
        Walk::Within(most) => Some(most),
    };
    let budget = Budget { watch, begun: Instant::now(), most, spent: AtomicBool::new(false) };
    let report = bbolt::check::check(&db, &budget);
    let after = budget.begun.elapsed();
    if watch.interrupted() {
        return Err(FactsError::Interrupted);
    }
    let whole = bbolt::Report { interrupted: false, ..report };
    // The report of a walk without an end is judged as far as it goes.
    let findings = structure::findings(&whole).map_err(|_| FactsError::Interrupted)?;
    Ok(if budget.spent.load(Ordering::Relaxed) {
        Structure::NotChecked { findings, why: NotChecked::OutOfTime { after } }
    } else {
        Structure::Checked { findings, statistics: whole.statistics }
    })
}

/// Ends a walk when its time is over.
struct Budget<'a> {
    watch: &'a dyn Watch,
    begun: Instant,
    most: Option<Duration>,
    spent: AtomicBool,
}

impl Watch for Budget<'_> {
    fn begin(&self, stage: &'static str, total_bytes: u64) {
        // A bar that lives for a second is only noise.
        if self.most.is_none() {
            self.watch.begin(stage, total_bytes);
        }
    }

    fn advance(&self, bytes: u64) {
        if self.most.is_none() {
            self.watch.advance(bytes);
        }
    }

    fn interrupted(&self) -> bool {
        if self.most.is_some_and(|most| self.begun.elapsed() >= most) {
            self.spent.store(true, Ordering::Relaxed);
            return true;
        }
        self.watch.interrupted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &Path, walk: Walk) -> Inspection {
        inspect(path, &InspectOptions { walk, ..InspectOptions::default() }, &()).unwrap()
    }

    #[test]
    fn structure_is_proven_only_by_a_walk_that_came_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = testdata::snapshot_file("3.5.30", "s1-precompact", dir.path());
        let whole = of(&file, Walk::Whole);
        assert_eq!(whole.structure.proven(), Some(&[][..]));
        assert!(whole.findings().is_empty());
        let none = of(&file, Walk::Within(Duration::ZERO));
        assert!(none.structure.proven().is_none(), "{:?}", none.structure);
        assert!(matches!(none.structure, Structure::NotChecked { why: NotChecked::OutOfTime { .. }, .. }));
        assert!(of(&file, Walk::Skip).structure.proven().is_none());
    }

    #[test]
    fn a_damaged_page_is_found_and_the_rest_is_told_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let data = testdata::data_dir("3.5.30", dir.path());
        let db = data.join("member/snap/db");
        let mut bytes = std::fs::read(&db).unwrap();
        // The number of elements of some leaf in the middle of the key space.
        let page = (4..200)
            .map(|page| page * 4096)
            .find(|at| bytes.get(at + 8..at + 10) == Some(&[2, 0]) && bytes.get(at + 10) > Some(&20))
            .unwrap();
        bytes[page + 10..page + 12].copy_from_slice(&[0xff, 0xff]);
        std::fs::write(&db, bytes).unwrap();
        let found = of(&data, Walk::Whole);
        assert!(structure::is_damaged(found.structure.proven().unwrap()), "{:?}", found.structure);
        assert!(found.facts.log_facts().unwrap().report.log.last_index().is_some());
    }
}
