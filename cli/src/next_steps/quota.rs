//! `--quota-backend-bytes`: etcd refuses writes above it, and its default is 2 GiB.

use snapshot::restore::RestoreReport;

const GIB: u64 = 1 << 30;
/// etcd's quota when none is given, in bytes.
pub(super) const DEFAULT_BYTES: u64 = 2 * GIB;
/// The quota etcd's documentation calls the suggested maximum, in bytes.
const SUGGESTED_MAXIMUM_BYTES: u64 = 8 * GIB;

/// The quota to start with, where the default may not do: for a db over it, or one that was full.
///
/// Twice the db in whole GiB, not below the default and not above the suggested maximum; a db near or beyond that maximum
/// gets a quarter more than it holds, for below its own size it would be full at once.
pub(super) fn advised_bytes(report: &RestoreReport) -> Option<u64> {
    if report.db_bytes <= DEFAULT_BYTES && !report.dropped_nospace_alarm {
        return None;
    }
    let whole_gib = |bytes: u64| bytes.div_ceil(GIB).saturating_mul(GIB);
    let comfortable =
        whole_gib(report.db_bytes.saturating_mul(2)).clamp(DEFAULT_BYTES, SUGGESTED_MAXIMUM_BYTES);
    let least = whole_gib(report.db_bytes.saturating_add(report.db_bytes / 4));
    Some(comfortable.max(least))
}
