//! The numbering of a cluster's log, which its db refers to: what comes before the first revision, and where each
//! revision's entry lies.
//!
//! | index | entry | term |
//! |---|---|---|
//! | 1 to M | one conf change for each member | 1 |
//! | next | nothing: a leader was elected | 2 |
//! | next M | each member publishes its name and client URLs | 2 |
//! | next | the cluster's version | 2 |
//! | next L | one lease each | 2 |
//! | from there on | one request for each revision | 2 |
//! | last | a compaction, where there is one | 2 |

use crate::shape::Shape;

/// The term of the members' own entries.
pub(crate) const BOOT_TERM: u64 = wal::FIRST_TERM;
/// The term of all entries after them.
pub(crate) const TERM: u64 = BOOT_TERM + 1;

/// Number of entries up to the one of revision `last`, the last.
pub(crate) fn last_index(shape: &Shape, last: u32) -> u64 {
    let members = u64::from(shape.members);
    let before = members + 1 + members + 1 + u64::from(shape.leases);
    before + u64::from(last.saturating_sub(1)) + u64::from(shape.compacted)
}
