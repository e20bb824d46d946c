//! `wal verify`: a log held against its own rules, against the snaps and the database beside it, and against what a server does
//! with it.
//!
//! What is wrong within the log comes from [`wal::log::read`]; here it gets a severity, and what lies beside the log is looked
//! at. A finding is an error where a server fails or loses something, a warning where it lives with it.

mod beside;
mod start;
mod words;

use bbolt::{OpenOptions, Watch};
use wal::fault::{LogFault, LogFaultKind};
use wal::log::Interrupted;

use crate::boot::Verdict;
use crate::finding::{Finding, Severity};
use crate::log_files::{LogFiles, LogFilesError, progress};

pub use beside::{DatabaseFacts, StartPoint};
pub use wal::fault::After;
pub use wal::log::{Log, SegmentFacts, SegmentStop};
pub use words::after as after_in_words;

/// One finding, with what stands behind the place it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFinding {
    /// What is wrong, and where.
    pub finding: Finding,
    /// What stands behind a break.
    pub after: Option<After>,
}

impl From<Finding> for LogFinding {
    fn from(finding: Finding) -> Self {
        Self { finding, after: None }
    }
}

/// What was found.
#[derive(Debug)]
pub struct LogReport {
    /// The log.
    pub log: Log,
    /// What is wrong: first with the log, in the order of its records, then with what lies beside it.
    pub findings: Vec<LogFinding>,
    /// How many more findings there are than are listed.
    pub more_findings: u64,
    /// The snapshot a server of 3.4 to 3.6 starts from, as far as the files tell.
    pub start: StartPoint,
    /// The database beside the log; `None` when there is none.
    pub database: Option<Result<DatabaseFacts, String>>,
    /// What each release does with it when it starts. Empty where that cannot be told: of a single segment, and beside a
    /// database that cannot be read.
    pub verdicts: Vec<Verdict>,
    /// Whether the verdicts suppose that the snapshots and the database which the log speaks of are there, since they were
    /// not looked at.
    pub supposes_snaps: bool,
}

impl LogReport {
    /// True when nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Entries beyond the last known commit. A server of one member commits them when it starts; in a cluster its leader
    /// decides.
    #[must_use]
    pub fn uncommitted(&self) -> u64 {
        self.log.last_index().unwrap_or_default().saturating_sub(self.log.commit())
    }

    /// Whether one of the findings is about the log itself, and not only about what lies beside it.
    #[must_use]
    pub fn log_is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|found| found.finding.severity == Severity::Error && found.finding.code.starts_with("WAL-"))
    }
}

/// Verifies the log `files`, and holds it against what lies beside it. `database` is how the database is opened.
///
/// # Errors
/// When somebody wrote to the files meanwhile, or the user asked to stop. Damage is no error but in the report.
pub fn verify(
    files: &LogFiles,
    database: &OpenOptions,
    watch: &dyn Watch,
) -> Result<LogReport, LogFilesError> {
    watch.begin("verifying the log", files.len_bytes());
    let log = wal::log::read(files, &progress(watch)).map_err(|Interrupted| LogFilesError::Interrupted)?;
    let mut report = judge(log, files, database);
    start::foretell(&mut report, files, watch)?;
    files.ensure_unchanged()?;
    Ok(report)
}

/// What is wrong with `log`, which was read from `files`, and with what lies beside it.
#[must_use]
pub fn findings(log: &Log, files: &LogFiles) -> Vec<Finding> {
    let report = judge(log.clone(), files, &OpenOptions::default());
    report.findings.into_iter().map(|found| found.finding).collect()
}

/// What `log`, which was read from `files`, means together with what lies beside it.
fn judge(log: Log, files: &LogFiles, database: &OpenOptions) -> LogReport {
    let single = files.is_single_segment();
    let start = beside::start_point(&log, files);
    let mut findings: Vec<LogFinding> = log
        .faults
        .iter()
        .filter(|fault| !(single && needs_the_others(fault, &log)))
        .map(|fault| match fault.kind {
            LogFaultKind::EntryGap { found, .. } if !single && found <= start.index.saturating_add(1) => {
                covered_gap(of_fault(fault, &log), start.index)
            }
            _ => of_fault(fault, &log),
        })
        .collect();
    let database = files.db_path().filter(|_| !single).map(|path| beside::read_database(path, database));
    if !single {
        findings
            .extend(beside::hold(&log, files, &start, database.as_ref()).into_iter().map(LogFinding::from));
    }
    LogReport {
        more_findings: log.more_faults,
        log,
        findings,
        start,
        database,
        verdicts: Vec::new(),
        supposes_snaps: false,
    }
}

/// Entries that are missing where no server reads: each starts from the snapshot at `start`, which has what they did. So is a
/// log from which a repair had to leave an entry out.
fn covered_gap(mut gap: LogFinding, start: u64) -> LogFinding {
    gap.finding.severity = Severity::Warning;
    gap.finding.message += &format!(
        "; servers start from the snapshot at entry {start}, which covers what is missing, and need nothing before it"
    );
    gap
}

/// Whether what is wrong may well be right together with the segments before this one, which were not asked for.
fn needs_the_others(fault: &LogFault, log: &Log) -> bool {
    match fault.kind {
        LogFaultKind::CommitBeyond { .. } => log.entries == 0,
        LogFaultKind::SnapshotBeyondCommit { .. } => log.hard_state.is_none(),
        _ => false,
    }
}

/// How bad a fault is.
fn severity(fault: &LogFault, log: &Log) -> Severity {
    let in_last = fault.segment.is_some_and(|at| at + 1 == log.segments.len());
    let nothing_behind =
        fault.after.is_some_and(|after| after.well_formed_records == 0 && after.bit_flip.is_none());
    match &fault.kind {
        // The tail of a write that nobody was told of: a server cuts it off.
        LogFaultKind::Record(
            wal::FaultKind::LengthCut { .. } | wal::FaultKind::RecordCut { .. } | wal::FaultKind::Torn { .. },
        ) if in_last && nothing_behind => Severity::Warning,
        LogFaultKind::AfterEnd { .. } if in_last => Severity::Warning,
        LogFaultKind::EmptySegment { .. }
        | LogFaultKind::Padding
        | LogFaultKind::SnapshotBeyondCommit { .. }
        | LogFaultKind::TooManyRuns { .. } => Severity::Warning,
        _ => Severity::Error,
    }
}

fn of_fault(fault: &LogFault, log: &Log) -> LogFinding {
    let mut message = fault.to_string();
    if let Some(after) = &fault.after {
        let behind = words::after(after);
        if !behind.is_empty() {
            message += "; ";
            message += &behind;
        }
    }
    let mut finding = Finding::new(fault.code(), severity(fault, log), message);
    finding.offset = fault.offset;
    finding.record = fault.record;
    if !fault.file.is_empty() {
        finding = finding.in_file(fault.file.clone());
    }
    LogFinding { finding, after: fault.after }
}
