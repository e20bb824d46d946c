//! What the bbolt tool calls statistics: how many pages, keys and bytes the buckets have, nested ones included.

use std::fmt;

use crate::db::Db;
use crate::source::Source;
use crate::survey::Survey;

/// The numbers of all top-level buckets together, as bbolt counts them. The root bucket's own pages are in none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Top-level buckets.
    pub top_level_buckets: u64,
    /// Branch pages, without overflow.
    pub branch_pages: u64,
    /// Further pages of branches.
    pub branch_overflow_pages: u64,
    /// Leaf pages, without overflow.
    pub leaf_pages: u64,
    /// Further pages of leaves.
    pub leaf_overflow_pages: u64,
    /// Elements of all leaves; bbolt counts a nested bucket's name too.
    pub keys: u64,
    /// Levels of the deepest bucket with the deepest of its nested buckets.
    pub levels: u64,
    /// Bytes of all pages of branches.
    pub branch_allocated_bytes: u64,
    /// Bytes of branches up to the end of their last element.
    pub branch_used_bytes: u64,
    /// Bytes of all pages of leaves.
    pub leaf_allocated_bytes: u64,
    /// Bytes of leaves up to the end of their last element.
    pub leaf_used_bytes: u64,
    /// Buckets, nested and inline ones included.
    pub buckets: u64,
    /// Inline buckets.
    pub inline_buckets: u64,
    /// Bytes of inline pages up to the end of their last element.
    pub inline_used_bytes: u64,
}

impl Stats {
    /// Adds up what `survey` found in `db`.
    #[must_use]
    pub fn new<S: Source>(db: &Db<S>, survey: &Survey) -> Self {
        let mut stats = Self::default();
        let mut below = vec![0u64; survey.buckets.len()];
        for (index, bucket) in survey.buckets.iter().enumerate().rev() {
            let counts = &bucket.counts;
            let inline_levels = u64::from(counts.inline_buckets > 0);
            let inner = below.get(index).copied().unwrap_or_default().max(inline_levels);
            stats.buckets += counts.buckets;
            stats.inline_buckets += counts.inline_buckets;
            stats.keys += counts.inline_elements;
            stats.inline_used_bytes = stats.inline_used_bytes.saturating_add(counts.inline_used_bytes);
            if index == 0 {
                stats.top_level_buckets = counts.buckets;
                stats.levels = inner;
                continue;
            }
            stats.keys += counts.elements;
            stats.branch_pages += counts.branch_pages;
            stats.branch_overflow_pages += counts.branch_overflow_pages;
            stats.leaf_pages += counts.leaf_pages;
            stats.leaf_overflow_pages += counts.leaf_overflow_pages;
            stats.branch_used_bytes = stats.branch_used_bytes.saturating_add(counts.branch_used_bytes);
            stats.leaf_used_bytes = stats.leaf_used_bytes.saturating_add(counts.leaf_used_bytes);
            if let Some(outer) = below.get_mut(bucket.outer) {
                *outer = (*outer).max(counts.levels.saturating_add(inner));
            }
        }
        let page_size = u64::from(db.page_size());
        let bytes = |pages: u64, overflow: u64| pages.saturating_add(overflow).saturating_mul(page_size);
        stats.branch_allocated_bytes = bytes(stats.branch_pages, stats.branch_overflow_pages);
        stats.leaf_allocated_bytes = bytes(stats.leaf_pages, stats.leaf_overflow_pages);
        stats
    }
}

/// As bbolt 1.5 prints them, without a line end behind the last line.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Aggregate statistics for {} buckets\n", self.top_level_buckets)?;
        writeln!(f, "Page count statistics")?;
        writeln!(f, "\tNumber of logical branch pages: {}", self.branch_pages)?;
        writeln!(f, "\tNumber of physical branch overflow pages: {}", self.branch_overflow_pages)?;
        writeln!(f, "\tNumber of logical leaf pages: {}", self.leaf_pages)?;
        writeln!(f, "\tNumber of physical leaf overflow pages: {}", self.leaf_overflow_pages)?;
        writeln!(f, "Tree statistics")?;
        writeln!(f, "\tNumber of keys/value pairs: {}", self.keys)?;
        writeln!(f, "\tNumber of levels in B+tree: {}", self.levels)?;
        writeln!(f, "Page size utilization")?;
        let of = |used: u64, all: u64| Percent { used, all };
        let (used, all) = (self.branch_used_bytes, self.branch_allocated_bytes);
        writeln!(f, "\tBytes allocated for physical branch pages: {all}")?;
        writeln!(f, "\tBytes actually used for branch data: {used} ({}%)", of(used, all))?;
        let (used, all) = (self.leaf_used_bytes, self.leaf_allocated_bytes);
        writeln!(f, "\tBytes allocated for physical leaf pages: {all}")?;
        writeln!(f, "\tBytes actually used for leaf data: {used} ({}%)", of(used, all))?;
        writeln!(f, "Bucket statistics")?;
        writeln!(f, "\tTotal number of buckets: {}", self.buckets)?;
        let inline = self.inline_buckets;
        writeln!(f, "\tTotal number on inlined buckets: {inline} ({}%)", of(inline, self.buckets))?;
        let used = self.inline_used_bytes;
        write!(f, "\tBytes used for inlined buckets: {used} ({}%)", of(used, self.leaf_used_bytes))
    }
}

/// A share in whole percent, cut off, computed in single precision as bbolt does: that decides which side of a whole number a
/// large share falls on.
struct Percent {
    used: u64,
    all: u64,
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all == 0 {
            return f.write_str("0");
        }
        let percent = self.used as f32 * 100.0 / self.all as f32;
        write!(f, "{:.0}", percent.trunc())
    }
}

#[cfg(test)]
mod tests {
    use super::Percent;

    #[test]
    fn percentages_are_cut_off_in_single_precision() {
        let percent = |used, all| Percent { used, all }.to_string();
        assert_eq!(percent(150, 4096), "3");
        assert_eq!(percent(190_841, 196_608), "97");
        assert_eq!(percent(9, 10), "90");
        assert_eq!(percent(5, 0), "0");
        // 99.9999999…% is 100 in 24 bits, as a Go program prints that computes in float32.
        assert_eq!(percent(9_999_999_999, 10_000_000_000), "100");
    }
}
