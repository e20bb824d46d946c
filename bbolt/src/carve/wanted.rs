//! Leaves that a tree names and that are not in their places, inside of what other runs have taken.

use rayon::prelude::*;

use super::displaced::Taken;
use super::pass::Pass;
use super::{Carved, Leaf, PageKind, Run};
use crate::page::{HEADER_BYTES, PageHeader};
use crate::page_file::PageFile;
use crate::source::Source;
use crate::survey::Interrupted;
use crate::watch::Watch;

/// How many pages are looked at before it is asked whether to go on.
const STRETCH: usize = 1 << 16;

/// Looks in the overflow of the runs of `carved`, and in what is none of its runs, for sound leaves that call themselves one of `ids`, which must ascend: the pages
/// that a tree names and that are not where they should be. A page that was swapped with one of a long value lies there.
///
/// [`carve`](super::carve()) does not look there, since a value may hold the image of a database. Who asks for the pages that a tree
/// lacks, and holds what is found against the bounds that the tree sets, cannot be given others. What is found is in no run, and lies
/// in pages of another one; each such page is shown at most once more.
///
/// # Errors
/// [`Interrupted`].
pub fn wanted<S: Source, T: Send, U: Sync>(
    pages: &PageFile<S>,
    carved: &Carved<U>,
    ids: &[u64],
    judge: &(dyn Fn(&Leaf<'_>) -> T + Sync),
    watch: &dyn Watch,
) -> Result<Vec<(Run, T)>, Interrupted> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let pass = Pass { pages, reached: None, judge };
    let kinds = carved.kinds.as_slice();
    let of_stretch = |(number, stretch): (usize, &[PageKind])| {
        if watch.interrupted() {
            return Err(Interrupted);
        }
        let first = (number * STRETCH) as u64;
        // What lies behind a displaced head that came to nothing was not looked at either.
        let is_hidden = |kind: PageKind| matches!(kind, PageKind::Overflow | PageKind::Unknown);
        let overflow = (first..).zip(stretch).filter(|(_, kind)| is_hidden(**kind));
        let is_wanted = |index: &u64| {
            let head = pass.bytes(*index, pass.len_of(*index, 1).min(HEADER_BYTES as u64)).ok();
            let head = head.and_then(|head| PageHeader::parse(&head));
            head.is_some_and(|head| ids.binary_search(&head.id).is_ok() && pass.is_displaced(*index, &head))
        };
        let found: Vec<u64> = overflow.map(|(index, _)| index).filter(is_wanted).collect();
        Ok(pass.displaced(kinds, &found))
    };
    let found = kinds.par_chunks(STRETCH).enumerate().map(of_stretch).collect::<Result<Vec<_>, _>>()?;
    let whole = |Taken { run, judged }: Taken<T>| judged.map(|judged| (run, judged));
    Ok(found.into_iter().flatten().filter_map(whole).collect())
}
