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

/// What is wrong with some records: what is malformed never gives way to what is odd.
#[derive(Debug, Default)]
pub(crate) struct BadRecords {
    malformed: Listed,
    odd: Listed,
}

#[derive(Debug, Default)]
struct Listed {
    findings: Vec<Finding>,
    unlisted: u64,
}

impl Listed {
    fn add(&mut self, offset: u64, finding: impl FnOnce() -> Finding) {
        if self.findings.len() >= MOST_FINDINGS {
            self.unlisted += 1;
            return;
        }
        self.findings.push(Finding { offset: Some(offset), ..finding() });
    }

    fn append(&mut self, later: Self) {
        let room = MOST_FINDINGS.saturating_sub(self.findings.len());
        let beyond = later.findings.len().saturating_sub(room) as u64;
        self.findings.extend(later.findings.into_iter().take(room));
        self.unlisted += later.unlisted + beyond;
    }

    /// The findings, and one that counts those not listed, which are `what`.
    fn into_findings(self, what: &str) -> Vec<Finding> {
        let mut findings = self.findings;
        if let Some(last) = findings.last().filter(|_| self.unlisted > 0) {
            let message = format!("{} more records of bucket key are {what}", self.unlisted);
            findings.push(Finding::new(last.code, last.severity, message));
        }
        findings
    }
}

impl BadRecords {
    /// Element `index` of `leaf` is no record: `what` says why.
    pub(crate) fn malformed(&mut self, leaf: &Node<'_>, index: u16, what: &str) {
        self.malformed_pair(&pair_of(leaf, index), what);
    }

    /// As [`Self::malformed`].
    pub(super) fn malformed_pair(&mut self, pair: &Pair<'_>, what: &str) {
        let (page, element) = (pair.page, pair.element);
        let message = || format!("page {page}, element {element}: {what}");
        self.malformed.add(pair.offset, || Finding::new("ETCD-RECORD", Severity::Error, message()));
    }

    /// A server lives with the record whose value starts at `offset`, and whoever reads it should know `what`.
    pub(super) fn odd(&mut self, offset: u64, code: &'static str, what: impl FnOnce() -> String) {
        self.odd.add(offset, || Finding::new(code, Severity::Warning, what()));
    }

    /// Adds what follows in key order.
    pub(crate) fn append(&mut self, later: Self) {
        self.malformed.append(later.malformed);
        self.odd.append(later.odd);
    }

    /// Whether there are some that are no records.
    pub(super) fn has_malformed(&self) -> bool {
        !self.malformed.findings.is_empty()
    }

    /// The findings, and one that counts those not listed.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.malformed.into_findings("malformed");
        findings.extend(self.odd.into_findings("odd"));
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of `odd` odd records, which come first, and `malformed` malformed ones.
    fn told(odd: u64, malformed: u16) -> Vec<String> {
        let mut bad = BadRecords::default();
        for offset in 0..odd {
            bad.odd(offset, "ETCD-TOMBSTONE", || "odd".to_owned());
        }
        let mut later = BadRecords::default();
        for element in 0..malformed {
            let page = bbolt::PageId(4);
            let pair = PairAt { key: b"", value: b"", is_bucket: false, page, element, offset: 16_384 };
            later.malformed_pair(&pair, "no record");
        }
        bad.append(later);
        bad.into_findings().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_not_listed_is_called_what_it_is() {
        let many_odd = told(102, 0);
        assert_eq!(many_odd.len(), 101);
        assert_eq!(many_odd[100], "warning ETCD-TOMBSTONE: 2 more records of bucket key are odd");
        // Malformed ones are told with their places, however many are odd.
        let both = told(102, 2);
        assert_eq!(both.len(), 103);
        assert_eq!(both[1], "error ETCD-RECORD: page 4, element 1: no record");
        let many_malformed = told(1, 103);
        assert_eq!(many_malformed[100], "error ETCD-RECORD: 3 more records of bucket key are malformed");
        assert_eq!(many_malformed.len(), 102);
    }
}
