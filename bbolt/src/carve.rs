//! Every plausible leaf of a file, whether a tree leads to it or not.
//!
//! bbolt never overwrites a page that the last two transactions reach, and leaves those that it frees as they are. So a damaged file
//! holds more than its trees do. [`carve`] looks at every page once, on all cores, and divides the file into *runs*: a page with
//! the overflow that belongs to it.
//!
//! # Whose page is it?
//! 1. What a tree reaches in a sound place ([`reach`](mod@crate::reach)) keeps all the overflow that it declares.
//! 2. Any other page that says of itself that it is where it is, and could be one, is the head of a run. The run ends where it says,
//!    at the end of the file, or at the next such head, whichever comes first: of overflow that was written over, the first page that
//!    was is always such a head. Of pages within it that cannot be read, nothing is handed out.
//! 3. Outside of those, a leaf that says it were elsewhere (swapped, duplicated, shifted) counts if all of it is sound. It is not
//!    looked for inside the runs of 1 and 2, since a value may hold the image of a database, nor does it ever cut one.
//!
//! # Bounds
//! Each page belongs to at most one run, the elements of a run share no bytes, and each run is shown to the judge once. So all that
//! is handed out is together no longer than the file, and so is the work, whatever the file holds. Memory is
//! 32 bytes and a `T` a leaf, and one byte a page.

mod displaced;
mod leaf;
mod pass;
mod wanted;

use std::ops::Range;

use rayon::prelude::*;

use crate::page_file::PageFile;
use crate::page_use::PageUse;
use crate::source::Source;
use crate::survey::Interrupted;
use crate::watch::Watch;

use displaced::Taken;
use pass::{Part, Pass};

pub use leaf::{Element, Elements, Leaf};
pub use wanted::wanted;

/// How much of the file is read at once and worked on by one core, in bytes.
const WINDOW_BYTES: u64 = 2 << 20;

/// What speaks for a run being where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A tree reaches it.
    Reached,
    /// It says of itself that it is where it is.
    Placed,
    /// It says that it is elsewhere: swapped, duplicated or shifted, or part of a value whose head is lost. Whoever writes
    /// values into the database can make such a page, so it never confirms anything.
    Displaced,
}

/// Why not all elements of a run are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The file ends within it.
    EndOfFile,
    /// The next page is the head of another run: it was written over.
    WrittenOver,
    /// It is as long as it should be, and some of it cannot be read.
    Unreadable,
}

/// A leaf page and the overflow that is still its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Which page of the file its head is, from 0.
    pub index: u64,
    /// What the head calls itself. Where it stands in its place this is `index` plus the file's first page.
    pub id: u64,
    /// How many pages it has, the last of which may be cut off by the end of the file.
    pub pages: u32,
    /// How many pages the head declares, itself included.
    pub declared: u32,
    /// How many elements the head declares.
    pub count: u16,
    /// Whether it is where it belongs.
    pub place: Place,
    /// Why some of its elements are not whole; `None` when all are.
    pub cut: Option<Cut>,
    /// True when some elements cannot be, or keys do not ascend: such a page is damaged, or a mixture of two writes.
    pub is_flawed: bool,
}

const _: () = assert!(size_of::<Run>() <= 32);

/// What one page of a file is, as far as the page itself can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PageKind {
    /// It cannot be read.
    Unreadable,
    /// Nothing but zeros.
    Zero,
    /// None of the others: overflow whose head is lost, or damage.
    Unknown,
    /// A meta in its place.
    Meta,
    /// The head of a freelist in its place.
    Freelist,
    /// The head of a branch in its place.
    Branch,
    /// The head of a leaf in its place.
    Leaf,
    /// The head of a leaf that is not in its place.
    Displaced,
    /// It belongs to the head in front of it.
    Overflow,
}

/// How many pages are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Pages that cannot be read.
    pub unreadable: u64,
    /// Pages of zeros.
    pub zero: u64,
    /// Pages that are none of the others.
    pub unknown: u64,
    /// Metas in their places.
    pub meta: u64,
    /// Heads of freelists.
    pub freelist: u64,
    /// Heads of branches.
    pub branch: u64,
    /// Heads of leaves in their places.
    pub leaf: u64,
    /// Heads of leaves that are not in their places.
    pub displaced: u64,
    /// Pages that belong to the head in front of them.
    pub overflow: u64,
}

/// What was carved from one file.
#[derive(Debug)]
pub struct Carved<T> {
    /// The leaves, by ascending index, each with what the judge said of it.
    pub runs: Vec<(Run, T)>,
    /// What each page is, by index. A part of a page at the end of the file counts when it begins a run.
    pub kinds: Vec<PageKind>,
    /// How many of each.
    pub histogram: Histogram,
    /// Bytes at the end of the file that are in no page: a snapshot has its hash there.
    pub trailing_bytes: u64,
}

/// Looks at every page of `pages` and shows each leaf to `judge`, on all cores and in no order, while it is in the cache.
///
/// `reached` is how a tree uses the pages, by index, as [`Tree::used`](crate::reach::Tree::used) has it: those runs are whole whatever
/// stands inside them. `watch` hears of every byte of the file once.
///
/// # Errors
/// [`Interrupted`]. A page that cannot be read is no error but a [`PageKind`].
pub fn carve<S: Source, T: Send>(
    pages: &PageFile<S>,
    reached: Option<&PageUse>,
    judge: &(dyn Fn(&Leaf<'_>) -> T + Sync),
    watch: &dyn Watch,
) -> Result<Carved<T>, Interrupted> {
    let pass = Pass { pages, reached, judge };
    let (page_size, page_count) = (pass.page_size(), pass.page_count());
    let window_pages = (WINDOW_BYTES / page_size).max(1);
    let windows: Vec<Range<u64>> = (0..page_count.div_ceil(window_pages))
        .map(|window| window * window_pages..page_count.min((window + 1) * window_pages))
        .collect();
    let of_window = |window: &Range<u64>| {
        if watch.interrupted() {
            return Err(Interrupted);
        }
        let part = pass.window(window.clone());
        watch.advance(pass.len_of(window.start, window.end - window.start));
        Ok(part)
    };
    let parts = windows.par_iter().map(of_window).collect::<Result<Vec<_>, _>>()?;
    let mut carved = joined(parts);
    let groups = displaced::groups(&carved.kinds);
    let of_group = |group: &Vec<u64>| {
        if watch.interrupted() { Err(Interrupted) } else { Ok(pass.displaced(&carved.kinds, group)) }
    };
    let taken = groups.par_iter().map(of_group).collect::<Result<Vec<_>, _>>()?;
    carved.add(taken);
    carved.count(pages.source().len_bytes() % page_size);
    Ok(carved)
}

/// What the windows come to, side by side: what stands in front of a window's first head may belong to the run before.
fn joined<T>(parts: Vec<Part<T>>) -> Carved<T> {
    let mut kinds: Vec<PageKind> = Vec::with_capacity(parts.iter().map(|part| part.kinds.len()).sum());
    let mut runs = Vec::with_capacity(parts.iter().map(|part| part.runs.len()).sum());
    let mut end = 0u64;
    for mut part in parts {
        let first = kinds.len() as u64;
        let of_run = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
        for kind in part.kinds.iter_mut().take(of_run) {
            if matches!(kind, PageKind::Zero | PageKind::Unknown | PageKind::Displaced) {
                *kind = PageKind::Overflow;
            }
        }
        kinds.append(&mut part.kinds);
        runs.append(&mut part.runs);
        end = end.max(part.end);
    }
    Carved { runs, kinds, histogram: Histogram::default(), trailing_bytes: 0 }
}

impl<T> Carved<T> {
    /// What page `index` is.
    #[must_use]
    pub fn kind(&self, index: u64) -> Option<PageKind> {
        self.kinds.get(usize::try_from(index).ok()?).copied()
    }

    /// The leaf whose head is page `index`.
    #[must_use]
    pub fn run(&self, index: u64) -> Option<&(Run, T)> {
        let at = self.runs.binary_search_by_key(&index, |(run, _)| run.index).ok()?;
        self.runs.get(at)
    }

    /// Puts the displaced leaves between the others; candidates that came to nothing are unknown.
    fn add(&mut self, groups: Vec<Vec<Taken<T>>>) {
        for kind in self.kinds.iter_mut().filter(|kind| **kind == PageKind::Displaced) {
            *kind = PageKind::Unknown;
        }
        let before = self.runs.len();
        for Taken { run, judged } in groups.into_iter().flatten() {
            let Some(judged) = judged else { continue };
            let pages = usize::try_from(run.index).ok().zip(usize::try_from(run.pages).ok());
            let kinds = pages.and_then(|(index, pages)| self.kinds.get_mut(index..index + pages));
            for (number, kind) in kinds.unwrap_or_default().iter_mut().enumerate() {
                match (number, &kind) {
                    (0, _) => *kind = PageKind::Displaced,
                    (_, PageKind::Unreadable) => {}
                    _ => *kind = PageKind::Overflow,
                }
            }
            self.runs.push((run, judged));
        }
        if self.runs.len() > before {
            self.runs.sort_unstable_by_key(|(run, _)| run.index);
        }
    }

    /// Counts the pages. `rest_bytes` is the length of the part of a page at the end of the file.
    fn count(&mut self, rest_bytes: u64) {
        if rest_bytes > 0 && matches!(self.kinds.last(), Some(PageKind::Zero | PageKind::Unknown)) {
            self.kinds.pop();
            self.trailing_bytes = rest_bytes;
        }
        for kind in &self.kinds {
            *self.histogram.of_mut(*kind) += 1;
        }
    }
}

impl Histogram {
    /// How many pages are of this kind.
    #[must_use]
    pub fn of(&self, kind: PageKind) -> u64 {
        let mut histogram = *self;
        *histogram.of_mut(kind)
    }

    fn of_mut(&mut self, kind: PageKind) -> &mut u64 {
        match kind {
            PageKind::Unreadable => &mut self.unreadable,
            PageKind::Zero => &mut self.zero,
            PageKind::Unknown => &mut self.unknown,
            PageKind::Meta => &mut self.meta,
            PageKind::Freelist => &mut self.freelist,
            PageKind::Branch => &mut self.branch,
            PageKind::Leaf => &mut self.leaf,
            PageKind::Displaced => &mut self.displaced,
            PageKind::Overflow => &mut self.overflow,
        }
    }
}
