//! Trees that look whole and are parts: the page with which their bucket `key` begins was used again, or never written.

use std::collections::BTreeMap;

use bbolt::carve::PageKind;
use bbolt::reach::Content;
use bbolt::{NodeKind, PageId};

use crate::salvage::classify::Point;
use crate::salvage::inputs::Pages;
use crate::salvage::report::Origin;
use crate::salvage::trees::{Candidate, Gap};
use crate::schema::KEY;

/// Where a branch names a page as one of its children, but not the first: the branch, and whether others come behind.
#[derive(Debug, Clone, Copy)]
struct Part {
    branch: PageId,
    has_more: bool,
}

/// Takes from roots the claim to be those of whole trees, where their bucket `key` begins with a page that a branch in
/// the file, `kinds` of which says where those are, names as a child that is not its first: what comes before it, and behind, is missing.
pub(super) fn disown_parts(pages: &Pages, kinds: &[PageKind], trees: &mut [Candidate]) {
    // The newest is asked about only where another whole tree with the same compaction, which removes what comes first, begins earlier.
    let first_of = |tree: &Candidate| {
        let key = tree.bucket(KEY)?;
        let node = key.leaves.first().and_then(|leaf| pages.mended_node(*leaf).ok())?;
        (node.count() > 0).then(|| Point::of_bound(node.key(0)))
    };
    let begins = |tree: &Candidate| Some((tree.facts.finished, first_of(tree)?));
    let earlier: Vec<(Option<i64>, Point)> = trees
        .iter()
        .filter(|tree| tree.is_sound && tree.facts.finished == tree.facts.scheduled)
        .filter_map(begins)
        .collect();
    let begins_late = |tree: &Candidate| {
        begins(tree).is_some_and(|(finished, first)| {
            tree.facts.scheduled == finished
                && earlier.iter().any(|(other, other_first)| *other == finished && *other_first < first)
        })
    };
    let root_of = |tree: &Candidate| match tree.bucket(KEY).map(|key| key.content) {
        Some(Content::Tree(root))
            if tree.has_all_keys() && (tree.origin != Origin::NewestMeta || begins_late(tree)) =>
        {
            Some(root)
        }
        _ => None,
    };
    // The first key of each, by its number.
    let mut roots: BTreeMap<PageId, Vec<u8>> = BTreeMap::new();
    for root in trees.iter().filter_map(root_of) {
        let node = pages.mended_node(root).ok().filter(|node| node.count() > 0);
        roots.extend(node.map(|node| (root, node.key(0).to_vec())));
    }
    if roots.is_empty() {
        return;
    }
    let mut parts: BTreeMap<PageId, Part> = BTreeMap::new();
    let ids = (pages.first_page()..).zip(kinds).filter(|(_, kind)| **kind == PageKind::Branch);
    for branch in ids.map(|(id, _)| PageId(id)) {
        let Ok(node) = pages.mended_node(branch) else { continue };
        if node.kind() != NodeKind::Branch {
            continue;
        }
        for at in 1..node.count() {
            let child = node.child(at);
            if roots.get(&child).is_some_and(|first| first == node.key(at)) {
                parts.insert(child, Part { branch, has_more: at + 1 < node.count() });
            }
        }
    }
    for tree in trees {
        if let Some((root, part)) = root_of(tree).and_then(|root| Some((root, *parts.get(&root)?))) {
            let fault = format!(
                "page {}: it is a part of what page {} leads to, and was used again since this root named it",
                root.0, part.branch.0
            );
            let gap = |from: Point, to: Option<Point>| Gap {
                from,
                to,
                page: root.0,
                fault: fault.clone(),
                lost: 0,
            };
            let first = roots.get(&root).map(|first| Point::of_bound(first));
            let end = Point { main: tree.last, sub: i64::MAX };
            tree.gaps.push(gap(Point::default(), first));
            tree.gaps.extend(part.has_more.then(|| gap(end, None)));
            tree.is_sound = false;
        }
    }
}

/// Takes the claim to be whole from trees that end before their own compaction, where another one of the file, of an earlier entry, goes
/// beyond it: revisions do not become fewer, so that the page with which its bucket `key` begins holds something older. What it has says
/// nothing then.
pub(super) fn disown_remnants(trees: &mut [Candidate]) {
    let known: Vec<(usize, Option<u64>, i64)> =
        trees.iter().map(|tree| (tree.source, tree.facts.consistent_index, tree.last)).collect();
    for tree in trees.iter_mut().filter(|tree| tree.has_all_keys()) {
        let Some(compaction) = tree.facts.compaction().filter(|compaction| *compaction > tree.last) else {
            continue;
        };
        let goes_beyond = |(source, index, revision): &&(usize, Option<u64>, i64)| {
            let is_earlier = index.is_some() && *index < tree.facts.consistent_index;
            *source == tree.source && is_earlier && *revision > compaction
        };
        let Some((.., revision)) = known.iter().find(goes_beyond) else { continue };
        let fault = format!(
            "page {}: its last revision is {}, below its compaction at {compaction}; an earlier root leads to {revision}",
            tree.root_page, tree.last
        );
        tree.gaps = vec![Gap { from: Point::default(), to: None, page: tree.root_page, fault, lost: 0 }];
        tree.is_sound = false;
    }
}
