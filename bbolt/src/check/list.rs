//! The findings kept so far, within bounds.

use super::walk::Bounds;
use super::{Finding, MOST_FINDINGS, Severity};
use crate::fault::{Fault, FaultKind};
use crate::page::PageId;

/// Most bytes of bucket names and keys that the findings of a report keep together.
pub(super) const MOST_NAMED_BYTES: usize = 64 << 20;

/// The findings kept so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) kept: Vec<Finding>,
    pub(super) dropped: u64,
    pub(super) named_bytes: usize,
    /// Set once the names of a bucket found no room: to put them together again for every later fault would take time that grows
    /// with the square of how deep buckets are nested.
    pub(super) is_named_out: bool,
}

impl Findings {
    pub(super) fn push(
        &mut self,
        fault: Fault,
        parent: Option<PageId>,
        bucket: Vec<Vec<u8>>,
        bounds: Option<Bounds<'_>>,
    ) {
        let name_bytes: usize = bucket.iter().map(|name| name.len() + size_of::<Vec<u8>>()).sum();
        let bound_bytes = bounds.map_or(0, |b| b.low.len() + b.high.map_or(0, <[u8]>::len));
        let bytes = self.named_bytes.saturating_add(name_bytes).saturating_add(bound_bytes);
        if self.is_full() || bytes > MOST_NAMED_BYTES {
            self.dropped += 1;
            return;
        }
        self.named_bytes = bytes;
        let severity = severity(&fault.kind);
        let key_range = bounds.map(|b| (b.low.to_vec(), b.high.map(<[u8]>::to_vec)));
        self.kept.push(Finding { fault, severity, parent, bucket, key_range });
    }

    /// By page, then offset, then code.
    pub(super) fn sort(&mut self) {
        self.kept.sort_by(|a, b| {
            let key = |f: &Finding| (f.fault.page, f.fault.span, f.fault.code());
            key(a).cmp(&key(b))
        });
    }

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= MOST_FINDINGS || self.is_named_out
    }
}

pub(super) fn severity(kind: &FaultKind) -> Severity {
    match kind {
        FaultKind::OtherMeta { .. } | FaultKind::MetaHeader { .. } | FaultKind::OtherMetaRange { .. } => {
            Severity::Warning
        }
        _ => Severity::Error,
    }
}
