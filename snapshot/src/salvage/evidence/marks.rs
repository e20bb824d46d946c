//! Which leaves a tree reaches, and what of its key space it turns out to lack.

use bbolt::carve::Leaf;
use bbolt::reach::Content;
use bbolt::{Node, PageId};

use super::{KeyLeaf, SourceFile};
use crate::salvage::classify::{Entry, Judged, Point, entries};
use crate::salvage::inputs::Pages;
use crate::salvage::trees::{Candidate, Gap};
use crate::schema::KEY;

/// Sets `bit` for the leaves that `tree` reaches. What it reaches and was not carved is a gap, and so is what a leaf that it reaches must
/// have and has not; `judged` is what was seen of each of the source's runs. Adds to `in_doubt` the runs in which places within
/// a revision are missing that no transaction leaves out, or are higher than one goes: their keys are damaged, or come from elsewhere.
pub(super) fn mark_tree(
    tree: &mut Candidate,
    bit: u64,
    source: &SourceFile,
    judged: &[Judged],
    leaves: &mut [KeyLeaf],
    in_doubt: &mut Vec<u32>,
) {
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
        let is_odd = |node: Node<'_>| {
            (0..node.count())
                .any(|at| Entry::of(node.key(at), node.value(at), node.is_bucket(at), true) == Entry::Odd)
        };
        if tree.gaps.is_empty() && key.nodes(pages).any(is_odd) {
            tree.gaps.push(odd_gap(tree.root_page, Point::default(), None, 1));
            tree.is_sound = false;
        }
        return;
    }
    // Above the compaction no revision is missing in a history, so between the leaves of a tree none is either, unless a page of
    // another transaction stands where a leaf was.
    let has_meta = key.content != Content::Unknown && has_meta;
    let compaction = if has_meta { tree.facts.compaction().unwrap_or_default().max(1) } else { i64::MAX };
    // The last record behind which all that comes next is known; the compaction itself is one.
    let mut dense = has_meta.then(|| behind(compaction));
    // The last main revision reached, be it below the compaction.
    let mut reached = 0;
    let mut lost: Vec<Gap> = Vec::new();
    // Of a leaf that is cut or damaged, what it held up to where the next one begins is not known.
    let mut is_open = false;
    let mut ends: Vec<Point> = Vec::new();
    for id in std::mem::take(&mut key.leaves) {
        let index = pages.index_of(id).unwrap_or(u64::MAX);
        let found = leaves.binary_search_by_key(&index, index_of).ok();
        let run = found.and_then(|at| leaves.get(at)).and_then(run_of);
        let run_number = found.and_then(|at| leaves.get(at)).map_or(u32::MAX, |leaf| leaf.run);
        let seen = usize::try_from(run_number).ok().and_then(|at| judged.get(at));
        let is_odd = seen.is_some_and(|seen| seen.is_odd);
        let is_whole = run.is_some_and(|run| run.cut.is_none() && (!run.is_flawed || is_odd));
        let before = dense.filter(|_| !is_open);
        let mut ends_open = !is_whole;
        let mut oddities = Vec::new();
        if is_odd && let Some(leaf) = run.and_then(|run| Leaf::open(pages, run)) {
            oddities = odd_gaps(&leaf, id.0);
            ends_open |= oddities.last().is_some_and(|gap| gap.to.is_none());
        }
        if let Some((leaf, (first, last))) =
            found.and_then(|at| leaves.get_mut(at)).zip(seen.and_then(|seen| seen.span))
        {
            leaf.trees |= bit;
            in_doubt.extend(seen.filter(|seen| seen.is_far).map(|_| run_number));
            dense = has_meta.then(|| dense.unwrap_or_default().max(last));
            // What an odd element in front of it held is in a gap of its own.
            let begins_odd = oddities.first().is_some_and(|gap| gap.to.is_some_and(|to| to <= first));
            if let Some(before) = before.filter(|before| {
                !begins_odd && *before < first && !before.is_before(first) && !is_bump(pages, id)
            }) {
                let from = following(before, first);
                let mut gap = absent(&tree.gaps, id.0, from, first);
                if first.sub > 0 || from.sub > 0 {
                    in_doubt.extend(gap.as_ref().map(|_| run_number));
                }
                // What lacks all that came right behind the compaction may lack what was kept below it as well.
                if let Some(gap) = gap.as_mut().filter(|_| before == behind(compaction)) {
                    gap.from = behind(reached);
                }
                lost.extend(gap);
            }
            reached = last.main;
            ends.push(last);
            let is_broken = seen.is_some_and(|seen| seen.broken_at > compaction);
            if is_whole && has_meta && is_broken {
                let Some(leaf) = run.and_then(|run| Leaf::open(pages, run)) else { continue };
                for (from, to) in skipped(&leaf, first.max(behind(compaction)), &oddities) {
                    let gap = absent(&tree.gaps, id.0, from, to);
                    if to.sub > 0 || from.sub > 0 {
                        in_doubt.extend(gap.as_ref().map(|_| run_number));
                    }
                    lost.extend(gap);
                }
            }
        } else {
            // What it held is in the gap, and where it ended is not known.
            dense = None;
            ends_open = true;
        }
        let found_odd = !oddities.is_empty();
        if !found_odd && !ends_open && !is_open {
            continue;
        }
        let Ok(node) = pages.mended_node(id) else { continue };
        let Some(first) = node.count().checked_sub(1).map(|_| Point::of_bound(node.key(0))) else { continue };
        if let Some(gap) = lost.last_mut().filter(|_| is_open) {
            gap.to = Some(first);
        }
        is_open = ends_open;
        if !is_whole {
            lost.push(lost_leaf(id.0, first, None));
        }
        lost.append(&mut oddities);
        if found_odd {
            lost.sort_by_key(|gap| gap.from);
        }
    }
    if has_meta {
        extend_gaps(&mut tree.gaps, &ends, compaction);
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

/// Has gaps above the compaction begin right behind the last record of the leaf before, `ends` of which ascend: nothing is missing there, and
/// the key of a branch by which a gap is known may be damaged.
fn extend_gaps(gaps: &mut [Gap], ends: &[Point], compaction: i64) {
    let mut covered = Point::default();
    for gap in gaps {
        let before = ends.partition_point(|end| *end < gap.from).checked_sub(1).and_then(|at| ends.get(at));
        let before = before.copied().unwrap_or_default().max(behind(compaction));
        let start = following(before, gap.from);
        if before >= covered && start < gap.from {
            gap.from = start;
        }
        covered = gap.to.unwrap_or(Point { main: i64::MAX, sub: i64::MAX });
    }
}

/// Behind all of a main revision, where no record stands that could be named.
fn behind(main: i64) -> Point {
    if main > 0 { Point { main, sub: i64::MAX } } else { Point::default() }
}

/// The first record that comes behind `before` in a history that is not compacted, if what is met next is `found`.
fn following(before: Point, found: Point) -> Point {
    match before.sub.checked_add(1) {
        Some(sub) if found.main == before.main => Point { main: before.main, sub },
        _ => Point { main: before.main.saturating_add(1), sub: 0 },
    }
}

/// The gap of the records from `first` up to `end`, unless what lies between is one already; `gaps` ascend.
fn absent(gaps: &[Gap], page: u64, first: Point, end: Point) -> Option<Gap> {
    let before = gaps.partition_point(|gap| gap.from < end).checked_sub(1).and_then(|at| gaps.get(at));
    if before.is_some_and(|gap| gap.to.is_none_or(|to| to > first)) {
        return None;
    }
    let fault = if end.sub > 0 {
        format!(
            "page {page}: places {} to {} of revision {} should stand in or before it; it is damaged, or of another transaction",
            if first.main == end.main { first.sub } else { 0 },
            end.sub - 1,
            end.main
        )
    } else {
        format!(
            "page {page}: revisions {} to {} should stand in or before it; it, or the leaf before, is of another transaction",
            first.main,
            end.main - 1
        )
    };
    Some(Gap { from: first, to: Some(end), page, fault, lost: 0 })
}

/// Records above `from` that a leaf skips: the first that is missing, and the first that is there again. What lies in one of
/// `gaps`, which ascend, is missing already.
fn skipped(leaf: &Leaf<'_>, from: Point, gaps: &[Gap]) -> Vec<(Point, Point)> {
    let mut last = from;
    let mut skipped = Vec::new();
    for (point, _, is_blank) in records(leaf) {
        let Some(point) = point else { continue };
        if point > last && !last.is_before(point) && !is_blank {
            let first = following(last, point);
            let is_known = gaps.iter().any(|gap| gap.from < point && gap.to.is_none_or(|to| to >= point));
            if first < point && !is_known {
                skipped.push((first, point));
            }
        }
        last = last.max(point);
    }
    skipped
}

/// Whether a leaf begins with the blank record by which a restore with `--bump-revision` goes on at a higher revision: none is missing
/// before it.
fn is_bump(pages: &Pages, id: PageId) -> bool {
    pages.mended_node(id).is_ok_and(|node| node.count() > 0 && node.value(0).is_empty())
}

/// The elements of a leaf: the record that each is, or none, what its key says, and whether it is the blank one of a restore.
fn records<'l>(leaf: &'l Leaf<'_>) -> impl Iterator<Item = (Option<Point>, &'l [u8], bool)> {
    entries(leaf).map(|(element, entry)| {
        let point = if let Entry::At(point, _) = entry { Some(point) } else { None };
        (point, element.key, element.value_bytes == 0)
    })
}

/// The gaps in a leaf where elements are no records: from the record before to the one behind. Of those behind the last record the gap has
/// no end.
fn odd_gaps(leaf: &Leaf<'_>, page: u64) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut before: Option<Point> = None;
    let mut pending: Option<(Point, u64)> = None;
    for (point, key, _) in records(leaf) {
        match point {
            Some(point) => {
                if let Some((from, count)) = pending.take() {
                    gaps.push(odd_gap(page, from.min(point), Some(point), count));
                }
                before = Some(point);
            }
            None => {
                let from = before.map_or_else(
                    || Point::of_bound(key),
                    |before| Point { main: before.main, sub: before.sub.saturating_add(1) },
                );
                pending = pending.map_or(Some((from, 1)), |(from, count)| Some((from, count + 1)));
            }
        }
    }
    gaps.extend(pending.map(|(from, count)| odd_gap(page, from, None, count)));
    gaps
}

fn odd_gap(page: u64, from: Point, to: Option<Point>, lost: u64) -> Gap {
    let fault = format!("page {page}: {lost} element(s) of it are no records, or others than their keys say");
    Gap { from, to, page, fault, lost }
}

fn lost_leaf(page: u64, from: Point, to: Option<Point>) -> Gap {
    let fault = format!("page {page}: a part of it was written over or is not there");
    Gap { from, to, page, fault, lost: 0 }
}
