//! bbolt's check in the words of this crate: what every job asks of a db before it believes a word in it.

use bbolt::check::{self, Severity as CheckSeverity};
use bbolt::{Db, OpenError, Source, Watch};

use crate::finding::{Finding, Severity};

/// Code of the finding that counts those not listed.
const MORE_FINDINGS: &str = "ETCD-MORE-FINDINGS";

/// Checks the whole structure of `db`. `Err` when the user asked to stop.
///
/// # Errors
/// [`Interrupted`].
pub fn check<S: Source>(db: &Db<S>, watch: &dyn Watch) -> Result<Vec<Finding>, Interrupted> {
    findings(&check::check(db, watch))
}

/// The findings of `report`. `Err` when the user asked to stop the check.
///
/// # Errors
/// [`Interrupted`].
pub fn findings(report: &check::Report) -> Result<Vec<Finding>, Interrupted> {
    if report.interrupted {
        return Err(Interrupted);
    }
    let mut findings: Vec<Finding> = report.findings.iter().map(finding).collect();
    if report.dropped > 0 {
        let message = format!("{} more findings about the structure are not listed", report.dropped);
        findings.push(Finding::new(MORE_FINDINGS, Severity::Error, message));
    }
    Ok(findings)
}

/// True when one of `findings` is an error of the structure. What is wrong with the file around it or with rows in it
/// leaves the tree whole.
#[must_use]
pub fn is_damaged(findings: &[Finding]) -> bool {
    let structural = |code: &str| code.starts_with("BBOLT-") || code == MORE_FINDINGS;
    findings.iter().any(|finding| finding.severity == Severity::Error && structural(finding.code))
}

/// What to do about a file that does not open as a database, to be read behind `error`: empty where nothing can be done.
#[must_use]
pub fn way_out(error: &OpenError) -> &'static str {
    match error {
        OpenError::NoMeta { .. } => {
            "; if etcd wrote it, 'etcd-rescue salvage PATH --dry-run' says what can be saved of it"
        }
        _ => "",
    }
}

/// The user asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A fault met where the check had found none: the file changed meanwhile.
pub(crate) fn of_fault(fault: &bbolt::Fault) -> Finding {
    Finding::new(fault.code(), Severity::Error, fault.to_string())
}

fn finding(found: &check::Finding) -> Finding {
    let severity = match found.severity {
        CheckSeverity::Error => Severity::Error,
        CheckSeverity::Warning => Severity::Warning,
    };
    let bucket: Vec<String> = found.bucket.iter().map(|name| bbolt::fault::readable(name)).collect();
    let place = if bucket.is_empty() { String::new() } else { format!(" (bucket {})", bucket.join("/")) };
    let finding = Finding::new(found.fault.code(), severity, format!("{}{place}", found.fault));
    Finding { offset: Some(found.fault.span.offset), ..finding }
}
