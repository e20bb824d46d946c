//! `recover`: what is left of a cluster's members in, data directories of a living cluster out (FORMATS R.2, R.3; laws 5, 11, 12).
//!
//! A db is chosen to begin with: the furthest that can be read and that the logs lead on from (`base`). What the logs have
//! behind it, certain or possible, is taken from whichever has it ([`line`]), applied as `snapshot save` does, and restored as `snapshot
//! restore` does. Logs that a repair mends without loss are mended in a copy before they are asked (`mend`). What is known to be
//! lost is told and has to be accepted (`loss`); what cannot be excluded is a finding.

mod base;
mod line;
mod loss;
mod mend;
mod whose;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use bbolt::Watch;

use crate::compare::{self, CompareError, TailEntry};
use crate::facts::FactsOptions;
use crate::finding::{Finding, Severity};
use crate::fold::{Entries, FoldError, FoldOptions, Point};
use crate::log_repair::RepairError;
use crate::replay::range::{Bound, RangeError};
use crate::restore::{self, RestoreError, RestoreOptions, RestoreReport, restore_folded};
use crate::survivors::{self, GivenPath, Survivors, SurvivorsError};

use base::Candidate;
use line::Line;

pub use loss::Loss;
pub use mend::Mended;

/// What to make of them.
#[derive(Debug, Clone)]
pub struct RecoverOptions {
    /// The cluster to make, and where.
    pub restore: RestoreOptions,
    /// How far the logs are applied, and by whose rules.
    pub fold: FoldOptions,
    /// Leave out what is only possibly committed.
    pub certain_only: bool,
    /// Whose db to begin with: one of the paths that are given, or a db in it.
    pub base: Option<PathBuf>,
    /// Go on although something is lost.
    pub accept_loss: bool,
    /// Where large things are put that are needed meanwhile.
    pub tmp_dir: PathBuf,
}

/// The db that was begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The db's file.
    pub path: PathBuf,
    /// Where it stood.
    pub point: Point,
}

/// A db that was not begun with, though it was the better one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The db's file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// Entries that are in a log and not in the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Their indexes.
    pub entries: RangeInclusive<u64>,
    /// Why.
    pub why: String,
}

/// What was done.
#[derive(Debug)]
pub struct RecoverReport {
    /// The db that was begun with.
    pub base: Base,
    /// Those that would have been better, and cannot be used.
    pub unfit: Vec<Unfit>,
    /// Logs that were mended in a copy.
    pub mended: Vec<Mended>,
    /// The last entry that is certain to be committed and can be read.
    pub certain_to: u64,
    /// The last entry in the result.
    pub applied_to: u64,
    /// Entries that may be committed, whether they are in the result or not.
    pub possible: Vec<RangeInclusive<u64>>,
    /// What they ask for, the first of them.
    pub tail: Vec<TailEntry>,
    /// Entries that are not in the result.
    pub left_out: Vec<LeftOut>,
    /// What is lost, and was accepted.
    pub losses: Vec<Loss>,
    /// What the restore did.
    pub restore: RestoreReport,
    /// What is to be known of all this; those of the restore are among them.
    pub findings: Vec<Finding>,
}

/// Why nothing was recovered. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// They cannot be taken together.
    #[error(transparent)]
    Survivors(#[from] SurvivorsError),
    /// A log cannot be mended for a reason that is not the log's.
    #[error(transparent)]
    Mend(RepairError),
    /// The directory for what is needed meanwhile cannot be used.
    #[error("cannot mend a log in a copy below {}: {error}; --tmp-dir takes another directory", path.display())]
    TmpDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The members given tell two histories.
    #[error(
        "these tell two histories of one cluster, which nobody can merge: {apart}. Recover from those of the one, or from those of \
         the other; 'etcd-rescue compare' shows what each has"
    )]
    Histories {
        /// Where they part, and which belong together.
        apart: String,
    },
    /// There is no db to begin with.
    #[error("there is no database to begin with: {}. {}", in_words(unfit), way_out(from_first))]
    NoBase {
        /// Those that were looked at, and why not.
        unfit: Vec<Unfit>,
        /// What was given of the members whose logs have all there ever was.
        from_first: Vec<PathBuf>,
    },
    /// The databases differ where they should not, and nothing says which of them is right.
    #[error(
        "the databases do not hold the same at a revision that they have in common, and there is no majority that says which is right. \
         'etcd-rescue compare' shows the keys that differ and who has what; --base DIR says whose database to take"
    )]
    DataDiffers {
        /// Where they differ.
        findings: Vec<Finding>,
    },
    /// They were changed while they were compared, or the user asked to stop.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// `--base` names nothing that was given.
    #[error("--base {}: is none of what was given, and no database in it", .0.display())]
    BaseNotGiven(PathBuf),
    /// Something is known to be lost.
    #[error(
        "this loses {}. Nothing was written; --accept-loss goes on without it", losses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Loss {
        /// What.
        losses: Vec<Loss>,
        /// What is to be known beside it.
        findings: Vec<Finding>,
    },
    /// The entry asked for is not there.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The output, or the directory for what is needed meanwhile, lies in what was given, which is evidence.
    #[error("{}: lies in {}, which is the input and stays as it is; give a place outside of it", output.display(), input.display())]
    Inside {
        /// The output.
        output: PathBuf,
        /// What was given.
        input: PathBuf,
    },
    /// It could not be restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

fn in_words(unfit: &[Unfit]) -> String {
    if unfit.is_empty() {
        return "none of what was given has one".to_owned();
    }
    unfit
        .iter()
        .map(|unfit| format!("{}: {}", unfit.path.display(), unfit.why))
        .collect::<Vec<_>>()
        .join("; ")
}

/// What can be done without a db, where the logs of `from_first` have all there ever was.
fn way_out(from_first: &[PathBuf]) -> String {
    if from_first.is_empty() {
        return "The logs hold what was to be changed, and not what it was changed in: give an older snapshot of this cluster too, if \
                there is one"
            .to_owned();
    }
    let paths: Vec<_> = from_first.iter().map(|path| path.display().to_string()).collect();
    format!(
        "Every entry since the cluster began is in the log of {}, and etcd makes the database anew from that: move a damaged 'db' out of a copy \
         of the directory, start an etcd of the old version on the copy for some seconds, with the old name and settings, while all \
         other members stay down, stop it, and give the copy to recover",
        paths.join(", and in that of ")
    )
}

impl RecoverError {
    /// The process's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Survivors(error) => error.exit_code(),
            Self::Mend(error) => error.exit_code(),
            Self::Restore(error) => error.exit_code(),
            Self::Range(error) => error.exit_code(),
            Self::BaseNotGiven(_) => 2,
            Self::Compare(error) => error.exit_code(),
            Self::Histories { .. } | Self::DataDiffers { .. } | Self::Loss { .. } => 4,
            Self::TmpDir { .. } | Self::NoBase { .. } | Self::Inside { .. } => 1,
        }
    }

    /// Findings that go with it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Survivors(error) => error.findings(),
            Self::Restore(error) => error.findings(),
            Self::Range(error) => error.findings(),
            Self::Compare(error) => error.findings(),
            Self::Loss { findings, .. } | Self::DataDiffers { findings } => findings,
            _ => &[],
        }
    }
}

/// Makes of what is left of a cluster the data directories of a new one.
///
/// `facts` says how files are opened.
///
/// # Errors
/// [`RecoverError`]; nothing is left behind then.
pub fn recover(
    given: &[GivenPath],
    facts: &FactsOptions,
    options: &RecoverOptions,
    watch: &dyn Watch,
) -> Result<RecoverReport, RecoverError> {
    restore::ensure_ready(&options.restore)?;
    let survivors = survivors::gather(given, facts, watch)?;
    ensure_outside(&survivors, options)?;
    let workshop = mend::mend(&survivors, &options.tmp_dir, &facts.input.open, watch)?;
    let of_logs = log_findings(&survivors);
    match workshop.replaced(given) {
        None => Job { survivors: &survivors, facts, options, watch }.run(Vec::new(), of_logs),
        Some(replaced) => {
            drop(survivors);
            let mut survivors = survivors::gather(&replaced, facts, watch)?;
            workshop.distrust_ends(&mut survivors);
            Job { survivors: &survivors, facts, options, watch }.run(workshop.mended(), of_logs)
        }
    }
}

/// Makes sure that neither the output nor what is needed meanwhile lies in what was given.
fn ensure_outside(survivors: &Survivors, options: &RecoverOptions) -> Result<(), RecoverError> {
    let older = survivors.set_aside.iter().map(|aside| &aside.survivor);
    for survivor in survivors.all.iter().chain(older) {
        let given = &survivor.given;
        let inputs = std::iter::once(given.path.as_path()).chain(given.wal_dir.as_deref());
        let inputs: Vec<_> = inputs.filter(|path| path.is_dir()).collect();
        for output in options.restore.output.places().chain([options.tmp_dir.as_path()]) {
            if let Some(input) = crate::log_files::holding(inputs.iter().copied(), output) {
                return Err(RecoverError::Inside { output: output.to_owned(), input: input.to_owned() });
            }
        }
    }
    Ok(())
}

/// What is wrong with the logs, each with the member it is of.
fn log_findings(survivors: &Survivors) -> Vec<Finding> {
    let logs = survivors.all.iter().filter_map(|survivor| Some((survivor, survivor.facts.log_facts()?)));
    logs.flat_map(|(survivor, log)| {
        log.report.findings.iter().map(move |found| {
            let mut finding = found.finding.clone();
            finding.message = format!("{}: {}", survivor.called(), finding.message);
            finding
        })
    })
    .collect()
}

/// One recovery under way.
struct Job<'a> {
    survivors: &'a Survivors,
    facts: &'a FactsOptions,
    options: &'a RecoverOptions,
    watch: &'a dyn Watch,
}

impl Job<'_> {
    fn run(&self, mended: Vec<Mended>, of_logs: Vec<Finding>) -> Result<RecoverReport, RecoverError> {
        let Self { survivors, options, .. } = *self;
        line::ensure_one_history(survivors)?;
        let line = Line::of(survivors);
        let (candidates, mut unfit) = base::candidates(survivors, &self.facts.input, self.watch)?;
        let mut findings = survivors.findings.clone();
        findings.extend(of_logs);
        let whose = whose::whose(survivors, options.base.as_deref(), self.watch)?;
        findings.extend(whose.findings);
        let base = options.base.as_deref();
        let candidates = base::of(candidates, survivors, base, &whose.trusted, &unfit)?;
        let candidates = base::in_order(candidates, &line, options, &mut unfit)?;
        for candidate in &candidates {
            let losses = loss::of(survivors, &line, candidate, options);
            if !losses.is_empty() && !options.accept_loss {
                findings.extend(unfit.iter().map(fallback));
                return Err(RecoverError::Loss { losses, findings });
            }
            match self.restore(candidate, &line) {
                Ok(restore) => {
                    let base = Base { path: candidate.path.clone(), point: candidate.point() };
                    findings.extend(unfit.iter().map(fallback));
                    return self.report(Told { base, unfit, mended, losses, restore, findings }, &line);
                }
                Err(error) if base::is_of_the_base(&error) => {
                    let why = base::why(&error, candidate);
                    unfit.push(Unfit { path: candidate.path.clone(), why });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(RecoverError::NoBase { unfit, from_first: line::from_first(survivors) })
    }

    /// Applies what follows `candidate`, and restores.
    fn restore(&self, candidate: &Candidate<'_>, line: &Line<'_>) -> Result<RestoreReport, RestoreError> {
        let options = self.options;
        let bound = match (options.fold.to_index, options.certain_only) {
            (Some(_), _) => Bound::Asked,
            (None, true) => Bound::Certain,
            (None, false) => Bound::EndOfLogs,
        };
        let last = self.last(line);
        let history = line.history(candidate, last, bound);
        let input = candidate.input();
        restore_folded(
            input,
            Entries::Chosen(&history),
            &options.fold,
            &options.restore,
            &options.tmp_dir,
            self.watch,
        )
    }

    /// The last entry that is to be in the result.
    fn last(&self, line: &Line<'_>) -> u64 {
        let most =
            if self.options.certain_only { self.survivors.judgement.certain_to.index } else { line.last() };
        self.options.fold.to_index.map_or(most, |asked| asked.min(most))
    }

    fn report(&self, told: Told, line: &Line<'_>) -> Result<RecoverReport, RecoverError> {
        let Told { base, unfit, mended, losses, restore, mut findings } = told;
        let applied_to = restore.fold.as_ref().map_or(base.point.index, |fold| fold.after.index);
        let possible = line.possible(base.point.index);
        let mut tail = compare::read_tail(self.survivors, self.watch)?.entries;
        tail.retain(|entry| {
            entry.is_on_chain && possible.iter().any(|entries| entries.contains(&entry.index))
        });
        findings.extend(self.tail(&possible, applied_to));
        findings.extend(self.without_logs(&base));
        findings.extend(restore.findings.iter().cloned());
        Ok(RecoverReport {
            certain_to: self.survivors.judgement.certain_to.index.max(base.point.index),
            applied_to,
            left_out: line.left_out(&base, applied_to, self.options),
            base,
            unfit,
            mended,
            possible,
            tail,
            losses,
            restore,
            findings,
        })
    }

    /// That the end of the logs may never have been committed.
    fn tail(&self, possible: &[RangeInclusive<u64>], applied_to: u64) -> Option<Finding> {
        let first = *possible.first()?.start();
        let last = *possible.last()?.end();
        let count = last.saturating_sub(first).saturating_add(1);
        let entries = if count == 1 {
            format!("entry {first}")
        } else {
            format!("{count} entries, {first} to {last},")
        };
        let they = if count == 1 { "It is" } else { "They are" };
        let message = if applied_to >= last {
            format!(
                "{entries} may or may not have been committed: the files given do not tell. {they} in the result, so that no write \
                 is lost that was acknowledged; a write that nobody was told of may be there too. --certain-only leaves it out"
            )
        } else if applied_to < first {
            format!(
                "{entries} may or may not have been committed: the files given do not tell. {they} not in the result, and writes \
                 that were acknowledged may be among them"
            )
        } else {
            format!(
                "{entries} may or may not have been committed: the files given do not tell. Those up to {applied_to} are in the result, \
                 and writes that were acknowledged may be among the rest"
            )
        };
        Some(Finding::new("ETCD-TAIL-POSSIBLE", Severity::Warning, message))
    }

    /// That nothing says what came after the db.
    fn without_logs(&self, base: &Base) -> Option<Finding> {
        let has_log = self.survivors.all.iter().any(|survivor| {
            survivor.facts.log_facts().is_some_and(|log| !log.report.log.segments.is_empty())
        });
        (!has_log).then(|| {
            let message = format!(
                "no log was given: what was written behind entry {}, revision {}, is in none of these files, and nothing tells how much \
                 that is",
                base.point.index, base.point.revision
            );
            Finding::new("ETCD-NO-LOG", Severity::Warning, message)
        })
    }
}

/// What is known when it is done.
struct Told {
    base: Base,
    unfit: Vec<Unfit>,
    mended: Vec<Mended>,
    losses: Vec<Loss>,
    restore: RestoreReport,
    findings: Vec<Finding>,
}

/// That a better db cannot be used.
fn fallback(unfit: &Unfit) -> Finding {
    let message = format!("{} was not begun with: {}", unfit.path.display(), unfit.why);
    Finding::new("ETCD-BASE-FALLBACK", Severity::Warning, message).in_file(unfit.path.display().to_string())
}
