//! The proof, on all cores, that every tree is sound.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::walk::{Found, Sink, Subtree, Walk};
use super::{MOST_RUNS, Meter, Statistics, Visit};
use crate::db::Db;
use crate::freelist::Freelist;
use crate::page::{FLAG_BRANCH, Node, PageId};
use crate::page_use::PageUse;
use crate::source::Source;

/// Subtrees after which a bucket is not split further.
pub(super) const ENOUGH_SUBTREES: usize = 512;
/// Most bytes of keys copied to bound the subtrees of one round.
pub(super) const MOST_BOUND_BYTES: usize = 64 << 20;

/// What a proof comes to.
pub(super) struct Proof<R> {
    pub(super) seen: PageUse,
    pub(super) statistics: Statistics,
    pub(super) interrupted: bool,
    pub(super) buckets: Vec<(PageId, Vec<R>)>,
}

/// A share of one round of the proof: subtrees of one bucket, next to each other.
pub(super) struct Share {
    pub(super) bucket: usize,
    pub(super) number: u16,
    pub(super) subtrees: std::ops::Range<usize>,
}

/// Cuts `subtrees`, which are in order of their buckets, into at most [`MOST_RUNS`] shares a bucket.
pub(super) fn shares(subtrees: &[Subtree]) -> Vec<Share> {
    let most = subtrees.len().div_ceil(usize::from(MOST_RUNS)).max(1);
    let mut shares: Vec<Share> = Vec::new();
    for (index, subtree) in subtrees.iter().enumerate() {
        let number = match shares.last_mut() {
            Some(last) if last.bucket == subtree.bucket && last.subtrees.len() < most => {
                last.subtrees.end = index + 1;
                continue;
            }
            Some(last) if last.bucket == subtree.bucket => last.number + 1,
            _ => 0,
        };
        shares.push(Share { bucket: subtree.bucket, number, subtrees: index..index + 1 });
    }
    shares
}

/// What `visit` wants remembered of each of `buckets`, whose names stand in pages that were found sound.
pub(super) fn remembered<S: Source, V: Visit>(
    db: &Db<S>,
    buckets: &[Found],
    visit: &V,
) -> Option<Vec<V::Bucket>> {
    let mut holder: Option<Node<'_>> = None;
    let mut remembered = Vec::with_capacity(buckets.len());
    for found in buckets {
        let node = match holder.take().filter(|node| node.id() == found.holder) {
            Some(node) => node,
            None => db.node(found.holder).ok()?,
        };
        remembered.push(visit.bucket(node.key(found.element)));
        holder = Some(node);
    }
    Some(remembered)
}

/// Proves on all cores that every tree is sound; `None` when that fails, for whatever reason.
pub(super) fn prove<S: Source, V: Visit>(
    db: &Db<S>,
    meter: &Meter<'_>,
    freelist: Option<&Freelist>,
    visit: &V,
) -> Option<Proof<V::Run>> {
    let seen = PageUse::new(db.page_count());
    let (disproved, interrupted) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut statistics = Statistics::default();
    Walk::new(db, &seen, meter, &interrupted, Sink::Disproved(&disproved)).claim_freelist(freelist);
    let mut buckets = vec![Found::root(db)];
    let mut visited = Vec::new();
    // Round 0 walks the root bucket, round 1 the top-level buckets that it names, and so on.
    let mut round = 0u32;
    while !buckets.is_empty() && !disproved.load(Ordering::Relaxed) && !interrupted.load(Ordering::Relaxed) {
        let mut splitter = Walk::new(db, &seen, meter, &interrupted, Sink::Disproved(&disproved));
        splitter.in_root_bucket = round == 0;
        let mut subtrees = Vec::new();
        for (bucket, found) in buckets.iter().enumerate() {
            splitter.split(found.subtree(bucket), &mut subtrees);
        }
        statistics.add(&splitter.statistics);
        splitter.look();
        let remembered = if round == 1 { remembered(db, &buckets, visit)? } else { Vec::new() };
        let walk_share = |share: &Share| {
            let mut run = remembered.get(share.bucket).map(|bucket| visit.begin(*bucket, share.number));
            let mut on_leaf = |node: &Node<'_>| {
                if let Some(run) = &mut run {
                    visit.leaf(run, node);
                }
            };
            let mut walk = Walk::new(db, &seen, meter, &interrupted, Sink::Disproved(&disproved));
            walk.on_leaf = Some(&mut on_leaf);
            walk.in_root_bucket = round == 0;
            for subtree in subtrees.get(share.subtrees.clone()).unwrap_or_default() {
                if walk.stopped() {
                    break;
                }
                walk.subtree(subtree);
            }
            walk.look();
            let (leaf_depths, part, found) = (walk.leaf_depths, walk.statistics, walk.found);
            if let Some(run) = &mut run {
                visit.end(run);
            }
            (leaf_depths, part, found, run)
        };
        let shares = shares(&subtrees);
        let results: Vec<_> = shares.par_iter().map(walk_share).collect();
        let mut depths: Vec<Option<usize>> = vec![None; buckets.len()];
        let mut inner = Vec::new();
        for (share, (leaf_depths, part, found, run)) in shares.iter().zip(results) {
            statistics.add(&part);
            inner.extend(found);
            if let (Some((least, most, _)), Some(depth)) = (leaf_depths, depths.get_mut(share.bucket))
                && (least != most || *depth.get_or_insert(most) != most)
            {
                disproved.store(true, Ordering::Relaxed);
            }
            if let (Some(run), Some(found)) = (run, buckets.get(share.bucket)) {
                match visited.last_mut() {
                    Some((_, runs)) if share.number > 0 => Vec::push(runs, run),
                    _ => visited.push((found.root, vec![run])),
                }
            }
        }
        buckets = inner;
        round += 1;
    }
    let interrupted = interrupted.into_inner();
    (interrupted || !disproved.into_inner()).then_some(Proof {
        seen,
        statistics,
        interrupted,
        buckets: visited,
    })
}

impl<S: Source> Walk<'_, '_, S> {
    /// Goes down from `top`, level by level, until there is work for every core, and adds what is left to `out`.
    pub(super) fn split(&mut self, top: Subtree, out: &mut Vec<Subtree>) {
        let mut level = vec![top];
        while level.len() < ENOUGH_SUBTREES {
            let is_branch = |tree: &Subtree| self.db.header(tree.page).is_ok_and(|h| h.flags == FLAG_BRANCH);
            if !level.iter().all(is_branch) {
                break;
            }
            let mut next = Vec::new();
            for tree in &level {
                let Some(node) = self.enter(tree.page, tree.parent, tree.bounds(), tree.depth) else {
                    return;
                };
                for index in 0..node.count() {
                    let low = node.key(index);
                    let high = if index + 1 < node.count() {
                        Some(node.key(index + 1))
                    } else {
                        tree.high.as_deref()
                    };
                    self.bound_bytes = self
                        .bound_bytes
                        .saturating_add(low.len())
                        .saturating_add(high.map_or(0, <[u8]>::len));
                    if self.bound_bytes > MOST_BOUND_BYTES {
                        // Keys that share their bytes: no file that bbolt wrote. One thread needs no copies.
                        self.disprove();
                        return;
                    }
                    next.push(Subtree {
                        bucket: tree.bucket,
                        page: node.child(index),
                        parent: node.id(),
                        depth: tree.depth + 1,
                        low: low.to_vec(),
                        high: high.map(<[u8]>::to_vec),
                    });
                }
            }
            level = next;
        }
        out.append(&mut level);
    }
}
