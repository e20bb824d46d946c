//! What speaks for a newer state than the one that a tree has.

use super::Evidence;
use crate::salvage::report::Origin;
use crate::salvage::trees::Candidate;

impl Evidence {
    /// Why a tree newer than tree `number` may have been there and be lost; `None` when it is that of the newest of two valid metas, and
    /// nothing in any file speaks of a newer one.
    pub(crate) fn newer_may_be_lost(&self, number: usize) -> Option<String> {
        let tree = self.trees.get(number)?;
        match tree.origin {
            Origin::NewestMeta => {}
            Origin::OtherMeta => {
                return Some(
                    "it is not the newest: of what the newest meta names too little is left".to_owned(),
                );
            }
            Origin::OrphanRoot => {
                return Some(
                    "no valid meta names it: whether there was a newer tree, of which nothing is left, is not known"
                        .to_owned(),
                );
            }
        }
        let of_source = |number: usize| self.newest_may_be_lost(number).filter(|_| number == tree.source);
        let of_others = |number: usize| {
            let file = self.sources.get(number)?.path.display();
            let fault = self.newest_may_be_lost(number).filter(|_| number != tree.source)?;
            Some(format!("{file}: {fault}"))
        };
        let sources = || 0..self.sources.len();
        let unknown = || {
            let unknown = self.unknown.first()?;
            Some(format!("{}: nothing can be read of it; it may have been newer", unknown.path.display()))
        };
        sources()
            .find_map(of_source)
            .or_else(|| sources().find_map(of_others))
            .or_else(unknown)
            .or_else(|| self.left_behind(number, tree))
    }

    /// Why the newest tree of a source may be lost.
    fn newest_may_be_lost(&self, number: usize) -> Option<String> {
        let metas = self.sources.get(number)?.pages.metas();
        let lost = (0..).zip(metas).find_map(|(slot, meta)| Some((slot, meta.as_ref().err()?)));
        let lost = lost.map(|(slot, fault): (u8, _)| {
            format!("meta {slot}: {fault}; it may have named a newer tree, of which nothing is known")
        });
        let has_newest =
            || self.trees.iter().any(|tree| tree.source == number && tree.origin == Origin::NewestMeta);
        lost.or_else(|| {
            (!has_newest()).then(|| "of what the newest meta names too little is left".to_owned())
        })
    }

    /// That the file of tree `number` has newer records than it: of transactions that had not come to their end, what a server may have
    /// told its clients was written. A snapshot is whole without them.
    fn left_behind(&self, number: usize, tree: &Candidate) -> Option<String> {
        let bit = 1u64.checked_shl(u32::try_from(number).ok()?)?;
        let is_snapshot = |source: u16| {
            self.sources.get(usize::from(source)).is_some_and(|source| source.report.has_trailer)
        };
        let newer = self.leaves.iter().filter(|leaf| {
            leaf.trees & bit == 0 && leaf.last.main() > tree.revision && !is_snapshot(leaf.source)
        });
        let newer = newer.count();
        (newer > 0).then(|| {
            format!(
                "{newer} page(s) that it does not reach have newer records: they are of transactions that had not come to their end, which a \
                 server makes again from its log"
            )
        })
    }
}
