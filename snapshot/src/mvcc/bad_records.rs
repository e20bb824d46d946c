//! Records that are not what they should be, told with their places: the first hundred one by one, the rest counted.

use bbolt::Node;

use crate::finding::{Finding, Severity};
use crate::views::PairAt;

/// Records told one by one; the rest are counted.
const MOST_FINDINGS: usize = 100;

/// A pair of bucket `key`, and where it stands.
pub(super) type Pair<'n> = PairAt<'n>;

/// Element `index` of `leaf`.
#[inline]
pub(super) fn pair_of<'n>(leaf: &'n Node<'_>, index: u16) -> Pair<'n> {
    Pair {
        key: leaf.key(index),
        value: leaf.value(index),
        is_bucket: leaf.is_bucket(index),
        page: leaf.id(),
        element: index,
        offset: leaf.offset().saturating_add(leaf.value_range(index).start as u64),
    }
}

/// What is wrong with some records.
#[derive(Debug, Default)]
pub(crate) struct BadRecords {
    findings: Vec<Finding>,
    malformed: u64,
    unlisted: u64,
}

impl BadRecords {
    /// Element `index` of `leaf` is no record: `what` says why.
    pub(crate) fn malformed(&mut self, leaf: &Node<'_>, index: u16, what: &str) {
        self.malformed_pair(&pair_of(leaf, index), what);
    }

    /// As [`Self::malformed`].
    pub(super) fn malformed_pair(&mut self, pair: &Pair<'_>, what: &str) {
        self.malformed += 1;
        let (page, element) = (pair.page, pair.element);
        let what = || format!("page {page}, element {element}: {what}");
        self.add(pair.offset, "ETCD-RECORD", Severity::Error, what);
    }

    /// A server lives with the record whose value starts at `offset`, and whoever reads it should know `what`.
    pub(super) fn odd(&mut self, offset: u64, code: &'static str, what: impl FnOnce() -> String) {
        self.add(offset, code, Severity::Warning, what);
    }

    fn add(&mut self, offset: u64, code: &'static str, severity: Severity, message: impl FnOnce() -> String) {
        if self.findings.len() >= MOST_FINDINGS {
            self.unlisted += 1;
            return;
        }
        let finding = Finding::new(code, severity, message());
        self.findings.push(Finding { offset: Some(offset), ..finding });
    }

    /// Adds what follows in key order.
    pub(crate) fn append(&mut self, later: Self) {
        let room = MOST_FINDINGS.saturating_sub(self.findings.len());
        let beyond = later.findings.len().saturating_sub(room) as u64;
        self.findings.extend(later.findings.into_iter().take(room));
        self.malformed += later.malformed;
        self.unlisted += later.unlisted + beyond;
    }

    /// Whether there are some that are no records.
    pub(super) fn has_malformed(&self) -> bool {
        self.malformed > 0
    }

    /// The findings, and one that counts those not listed.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings;
        if self.unlisted > 0 {
            let severity = if self.malformed > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("{} more records of bucket key are malformed", self.unlisted);
            findings.push(Finding::new("ETCD-RECORD", severity, message));
        }
        findings
    }
}
