//! Which leaves a tree reaches, and what of its key space it turns out to lack.

use bbolt::PageId;
use bbolt::reach::Content;

use super::{KeyLeaf, SourceFile};
use crate::salvage::classify::Point;
use crate::salvage::inputs::Pages;
use crate::salvage::trees::{Candidate, Gap};
use crate::schema::KEY;

/// Sets `bit` for the leaves that `tree` reaches. What it reaches and was not carved is a gap.
pub(super) fn mark_tree(tree: &mut Candidate, bit: u64, source: &SourceFile, leaves: &mut [KeyLeaf]) {
    let has_meta = tree.has_meta();
    let Some(key) = tree.buckets.iter_mut().find(|bucket| bucket.name == KEY) else { return };
    let pages = &source.pages;
    let run_of = |leaf: &KeyLeaf| usize::try_from(leaf.run).ok().and_then(|at| source.runs.get(at));
    // Leaves are in the order of their runs, and those in the order of their places.
    let index_of = |leaf: &KeyLeaf| run_of(leaf).map_or(u64::MAX, |run| run.index);
    if let Content::Inline { offset, .. } = key.content {
        let index = offset / u64::from(pages.page_size());
        let at = leaves.partition_point(|leaf| index_of(leaf) <= index);
        match at.checked_sub(1).and_then(|at| leaves.get_mut(at)).filter(|leaf| leaf.is_inline) {
            Some(leaf) => leaf.trees |= bit,
            None if key.nodes(pages).all(|node| node.count() == 0) => {}
            None => tree.gaps.push(lost_leaf(tree.root_page, Point::default(), None)),
        }
        return;
    }
    // Above the compaction no main revision is missing in a history, so between the leaves of a tree none is either, unless a page of
    // another transaction stands where a leaf was.
    let has_meta = key.content != Content::Unknown && has_meta;
    let mut dense = has_meta.then(|| tree.facts.compaction().unwrap_or_default().max(1));
    let compaction = dense.unwrap_or(i64::MAX);
    // The last main revision reached, be it below the compaction.
    let mut reached = 0;
    let mut lost: Vec<Gap> = Vec::new();
    let mut skips: Vec<i64> = Vec::new();
    // Of a leaf that is cut or damaged, what it held up to where the next one begins is not known.
    let mut is_open = false;
    for id in std::mem::take(&mut key.leaves) {
        let index = pages.index_of(id).unwrap_or(u64::MAX);
        let found = leaves.binary_search_by_key(&index, index_of).ok();
        let run = found.and_then(|at| leaves.get(at)).and_then(run_of);
        let is_whole = run.is_some_and(|run| run.cut.is_none() && !run.is_flawed);
        let before = dense;
        if let Some(leaf) = found.and_then(|at| leaves.get_mut(at)) {
            leaf.trees |= bit;
            dense = has_meta.then(|| before.unwrap_or_default().max(leaf.last.main()));
            let before = before.filter(|_| !is_open);
            let from = before.map(|before| before.saturating_add(1));
            if let Some(from) = from.filter(|from| leaf.first.main() > *from) {
                let mut gap = absent(&tree.gaps, id.0, from, leaf.first.main());
                skips.extend(gap.as_ref().map(|_| leaf.first.main() - from));
                // What lacks all that came right behind the compaction may lack what was kept below it as well.
                if let Some(gap) = gap.as_mut().filter(|_| before == Some(compaction)) {
                    gap.from = behind(reached);
                }
                lost.extend(gap);
            }
            reached = leaf.last.main();
            let from = leaf.first.main().max(compaction);
            let records = run.map_or(0, |run| i64::from(run.count));
            if is_whole && before.is_some() && leaf.last.main().saturating_sub(from) >= records {
                for (from, to) in skipped(pages, id, from) {
                    let gap = absent(&tree.gaps, id.0, from, to);
                    skips.extend(gap.as_ref().map(|_| to - from));
                    lost.extend(gap);
                }
            }
        } else {
            // What it held is in the gap, and where it ended is not known.
            dense = None;
        }
        if is_whole && !is_open {
            continue;
        }
        let Ok(node) = pages.node(id) else { continue };
        let Some(first) = node.count().checked_sub(1).map(|_| Point::of_bound(node.key(0))) else { continue };
        if let Some(gap) = lost.last_mut().filter(|_| is_open) {
            gap.to = Some(first);
        }
        is_open = !is_whole;
        if is_open {
            lost.push(lost_leaf(id.0, first, None));
        }
    }
    if tree.gaps.is_empty() && lost.len() == skips.len() && are_bumps(&skips, pages.page_size()) {
        lost.clear();
    }
    if !lost.is_empty() {
        tree.is_sound = false;
        tree.gaps.append(&mut lost);
        tree.gaps.sort_by_key(|gap| gap.from);
        // What was a gap before may lie in one of these.
        let mut end = Some(Point::default());
        tree.gaps.retain_mut(|gap| {
            let is_new = end.is_some_and(|end| gap.from >= end || gap.to.is_none_or(|to| to > end));
            if let Some(end) = end.filter(|_| is_new) {
                gap.from = gap.from.max(end);
            }
            if is_new {
                end = gap.to;
            }
            is_new
        });
    }
}

/// Times that a store was restored with a higher revision, at most.
const MOST_BUMPS: usize = 3;
/// The bytes of the smallest record: its head, its key, and its value.
const LEAST_RECORD_BYTES: i64 = 16 + 17 + 6;

/// Whether so many revisions were skipped each time as no page has room for. Then none stood there that a page of another transaction
/// took the place of: a restore with `--bump-revision` goes on at a higher revision.
fn are_bumps(skips: &[i64], page_size: u32) -> bool {
    let most = i64::from(page_size) / LEAST_RECORD_BYTES;
    skips.len() <= MOST_BUMPS && skips.iter().all(|skip| *skip > most)
}

/// Behind all of a main revision, where no record stands that could be named.
fn behind(main: i64) -> Point {
    if main > 0 { Point { main, sub: i64::MAX } } else { Point::default() }
}

/// The gap of the main revisions from `from` up to `to`, unless what lies between is one already; `gaps` ascend.
fn absent(gaps: &[Gap], page: u64, from: i64, to: i64) -> Option<Gap> {
    let (first, end) = (Point { main: from, sub: 0 }, Point { main: to, sub: 0 });
    let before = gaps.partition_point(|gap| gap.from < end).checked_sub(1).and_then(|at| gaps.get(at));
    if before.is_some_and(|gap| gap.to.is_none_or(|to| to > first)) {
        return None;
    }
    let fault = format!(
        "page {page}: revisions {from} to {} should stand in or before it; it, or the leaf before, is of another transaction",
        to - 1
    );
    Some(Gap { from: first, to: Some(end), page, fault })
}

/// Main revisions above `from` that a leaf skips: the first that is missing, and the first that is there again.
fn skipped(pages: &Pages, id: PageId, from: i64) -> Vec<(i64, i64)> {
    let Ok(node) = pages.node(id) else { return Vec::new() };
    let mut last = from;
    let mut skipped = Vec::new();
    for at in 0..node.count() {
        let Some((point, _)) = Point::parse(node.key(at)) else { continue };
        if point.main > last.saturating_add(1) {
            skipped.push((last + 1, point.main));
        }
        last = last.max(point.main);
    }
    skipped
}

fn lost_leaf(page: u64, from: Point, to: Option<Point>) -> Gap {
    let fault = format!("page {page}: a part of it was written over or is not there");
    Gap { from, to, page, fault }
}
