//! The pages of any file, also one without a valid meta: nothing that the file says of itself is trusted.
//!
//! [`Db`](crate::Db) follows a meta; this is for whoever looks at single pages, to show or to mend them, when there may be no
//! meta to follow. A page is there when its bytes are in the file, whatever a high-water mark says.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::db::{OpenError, read_meta, search_meta1};
use crate::fault::{Fault, FaultKind, Span};
use crate::mend::{filled_overflow, told_overflow};
use crate::meta::{META_PAGE_BYTES, Meta, MetaFault};
use crate::page::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, HEADER_BYTES, Node, PageHeader, PageId};
use crate::source::{Source, SourceError};

/// Pages of which it is asked whether another page begins there, at most.
const MOST_LOOKED_AT: usize = 16;
/// Smallest page size a file may have, in bytes.
pub const SMALLEST_PAGE_BYTES: u32 = 512;
/// Largest page size a file may have, in bytes: 16 MiB.
pub const LARGEST_PAGE_BYTES: u32 = 16 << 20;
/// Most pages looked at for each page size, when the size has to be guessed.
const MOST_PROBES: u64 = 4096;
/// Heads that say where they are before a guess is believed: one may be chance, as in a page of zeros or of text.
const ENOUGH_HEADS: u32 = 2;
/// How many heads must agree that the file begins with another page for each that says it begins with page 0. A few pages that
/// were swapped are no head cut off.
const HEADS_FOR_EACH: u32 = 4;

/// Why the pages of a file cannot be told apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageFileError {
    /// Not even one meta fits.
    #[error("{len_bytes} bytes are too few for a bbolt database, which has at least two pages")]
    TooSmall {
        /// The length in bytes.
        len_bytes: u64,
    },
    /// Written on a big-endian machine.
    #[error("{}", OpenError::BigEndian)]
    BigEndian,
    /// The page size that was asked for cannot be.
    #[error("{page_size} bytes are no possible page size: it is a power of two from 512 to 16777216")]
    ImpossiblePageSize {
        /// The page size in bytes.
        page_size: u32,
    },
    /// No meta is valid, and no page size makes sense of what is there.
    #[error(
        "no valid meta page (meta 0: {meta0}; meta 1: {meta1}), and for no page size do pages say where they are: this is no \
         bbolt database, or little is left of it; a page size may be given"
    )]
    NoPages {
        /// What is wrong with meta 0.
        meta0: MetaFault,
        /// What is wrong with the best candidate for meta 1.
        meta1: MetaFault,
    },
}

/// A file as pages.
#[derive(Debug)]
pub struct PageFile<S> {
    source: S,
    page_size: u32,
    first_page: u64,
    metas: [Result<Meta, MetaFault>; 2],
    is_guessed: bool,
}

impl<S: Source> PageFile<S> {
    /// The pages of `source`. Their size is `page_size` when that is given, else that of a valid meta (FORMATS A.3), else the
    /// one for which most pages say where they are (FORMATS A.12).
    ///
    /// # Errors
    /// When there is no room for a meta, the file is of a big-endian machine, or no page size makes sense.
    pub fn new(source: S, page_size: Option<u32>) -> Result<Self, PageFileError> {
        Self::with_sizes(source, page_size, guess_page_size)
    }

    /// As [`Self::new`] for a file whose head, or another part near its start, may have been cut out: its first page is the one for
    /// which most pages say where they are, and not page 0. Pages in front of it are not within the file. A meta counts also where
    /// it would be if nothing were cut out, when it says itself which it is.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn search(source: S, page_size: Option<u32>) -> Result<Self, PageFileError> {
        let mut pages = Self::with_sizes(source, page_size, guess)?;
        let first_page = probe(&pages.source, pages.page_size).first_page;
        if first_page == 0 {
            return Ok(pages);
        }
        let moved = [0u64, 1].map(|slot| match slot.checked_sub(first_page) {
            Some(index) => pages.meta_at(index),
            None => Err(MetaFault::Missing),
        });
        let calls_itself = |slot| pages.header(PageId(slot)).ok().map(|header| header.id) == Some(slot);
        let is_kept = [calls_itself(0), calls_itself(1)];
        for ((meta, moved), is_kept) in pages.metas.iter_mut().zip(moved).zip(is_kept) {
            if moved.is_ok() || meta.is_err() || !is_kept {
                *meta = moved;
            }
        }
        pages.first_page = first_page;
        Ok(pages)
    }

    fn with_sizes(
        source: S,
        page_size: Option<u32>,
        guess: fn(&S) -> Option<u32>,
    ) -> Result<Self, PageFileError> {
        let len_bytes = source.len_bytes();
        if len_bytes < META_PAGE_BYTES {
            return Err(PageFileError::TooSmall { len_bytes });
        }
        let meta0 = read_meta(&source, 0);
        let (page_size, is_guessed) = match (page_size, &meta0) {
            (Some(page_size), _) if is_page_size(page_size) => (page_size, false),
            (Some(page_size), _) => return Err(PageFileError::ImpossiblePageSize { page_size }),
            (None, Ok(meta)) => (meta.page_size, false),
            (None, Err(fault0)) => match search_meta1(&source) {
                (Some(meta), _) => (meta.page_size, false),
                (None, fault1) if *fault0 == MetaFault::BigEndian || fault1 == MetaFault::BigEndian => {
                    return Err(PageFileError::BigEndian);
                }
                (None, meta1) => match guess(&source) {
                    Some(page_size) => (page_size, true),
                    None => return Err(PageFileError::NoPages { meta0: fault0.clone(), meta1 }),
                },
            },
        };
        let metas = [Err(MetaFault::Missing), Err(MetaFault::Missing)];
        let mut pages = Self { source, page_size, first_page: 0, metas, is_guessed };
        pages.metas = [pages.meta_at(0), pages.meta_at(1)];
        Ok(pages)
    }

    /// The meta on the page with this index.
    fn meta_at(&self, index: u64) -> Result<Meta, MetaFault> {
        match read_meta(&self.source, index.saturating_mul(u64::from(self.page_size))) {
            // A meta with another page size does not speak of these pages.
            Ok(meta) if meta.page_size != self.page_size => {
                Err(MetaFault::PageSize { found: meta.page_size })
            }
            other => other,
        }
    }

    /// Length of a page in bytes.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// True when neither the caller nor a valid meta said what the page size is.
    #[must_use]
    pub fn is_page_size_guessed(&self) -> bool {
        self.is_guessed
    }

    /// Number of whole pages in the file.
    #[must_use]
    pub fn page_count(&self) -> u64 {
        self.source.len_bytes() / u64::from(self.page_size)
    }

    /// Where the bytes come from.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Both metas, slot 0 first, read at this page size.
    pub fn metas(&self) -> &[Result<Meta, MetaFault>; 2] {
        &self.metas
    }

    /// The slot of the meta in force: the valid one with the higher transaction number (FORMATS A.2).
    #[must_use]
    pub fn active_slot(&self) -> Option<usize> {
        match &self.metas {
            [Ok(a), Ok(b)] => Some(usize::from(b.txid > a.txid)),
            [Ok(_), Err(_)] => Some(0),
            [Err(_), Ok(_)] => Some(1),
            [Err(_), Err(_)] => None,
        }
    }

    /// The meta in force, when there is one.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        self.metas.get(self.active_slot()?)?.as_ref().ok()
    }

    /// The number of the page at the start of the file: 0, unless the file was searched and its head is cut off.
    #[must_use]
    pub fn first_page(&self) -> u64 {
        self.first_page
    }

    /// Which page of the file page `id` is, from 0; `None` when its place is not within the file.
    #[must_use]
    pub fn index_of(&self, id: PageId) -> Option<u64> {
        id.0.checked_sub(self.first_page).filter(|index| *index < self.page_count())
    }

    /// What page `index` of the file, from 0, should call itself.
    #[must_use]
    pub fn id_at(&self, index: u64) -> PageId {
        PageId(index.saturating_add(self.first_page))
    }

    /// Where page `id` starts in the file, in bytes (saturating: such a page is never within the file).
    #[must_use]
    pub fn offset_of(&self, id: PageId) -> u64 {
        let index = id.0.checked_sub(self.first_page).unwrap_or(u64::MAX);
        index.saturating_mul(u64::from(self.page_size))
    }

    /// The header of page `id`, as it stands there.
    ///
    /// # Errors
    /// When the page does not lie within the file, or cannot be read.
    pub fn header(&self, id: PageId) -> Result<PageHeader, Fault> {
        self.require(id)?;
        let bytes = self.bytes(id, HEADER_BYTES as u64)?;
        PageHeader::parse(&bytes).ok_or_else(|| self.truncated(id, 0))
    }

    /// The bytes of page `id` alone.
    ///
    /// # Errors
    /// When the page does not lie within the file, or cannot be read.
    pub fn first(&self, id: PageId) -> Result<Cow<'_, [u8]>, Fault> {
        self.require(id)?;
        self.bytes(id, u64::from(self.page_size))
    }

    /// The bytes of page `id` with the overflow that its header declares.
    ///
    /// # Errors
    /// When they do not all lie within the file, or cannot be read.
    pub fn whole(&self, id: PageId) -> Result<Cow<'_, [u8]>, Fault> {
        let first = self.first(id)?;
        let overflow = PageHeader::parse(&first).map_or(0, |header| header.overflow);
        self.with_overflow(id, first, overflow)
    }

    /// Page `id`, which begins with `first`, with `overflow` further pages.
    fn with_overflow<'s>(
        &'s self,
        id: PageId,
        first: Cow<'s, [u8]>,
        overflow: u32,
    ) -> Result<Cow<'s, [u8]>, Fault> {
        if overflow == 0 {
            return Ok(first);
        }
        let index = id.0.saturating_sub(self.first_page);
        if index.saturating_add(u64::from(overflow)) >= self.page_count() {
            return Err(self.truncated(id, overflow));
        }
        self.bytes(id, (u64::from(overflow) + 1) * u64::from(self.page_size))
    }

    /// Page `id` with its overflow as a branch or leaf.
    ///
    /// # Errors
    /// When it does not lie within the file, calls itself otherwise, is no tree page, or has elements outside itself.
    pub fn node(&self, id: PageId) -> Result<Node<'_>, Fault> {
        let found = self.header(id)?.id;
        if found != id.0 {
            return Err(self.fault(id, 0, FaultKind::WrongId { found }));
        }
        Node::parse(self.whole(id)?, id, self.offset_of(id))
    }

    /// As [`Self::node`], whatever bit of its header turned, as far as the rest of the page tells: for salvage
    /// ([`Node::parse_mended`]).
    ///
    /// # Errors
    /// As [`Self::node`].
    pub fn mended_node(&self, id: PageId) -> Result<Node<'_>, Fault> {
        let found = self.header(id)?.id;
        if (found ^ id.0).count_ones() > 1 {
            return Err(self.fault(id, 0, FaultKind::WrongId { found }));
        }
        Node::parse_mended(self.told(id)?, id, self.offset_of(id))
    }

    /// The bytes of page `id` with the overflow that its table tells of ([`Self::told_overflow`]).
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn told(&self, id: PageId) -> Result<Cow<'_, [u8]>, Fault> {
        let first = self.first(id)?;
        let overflow = PageHeader::parse(&first).map_or(0, |header| self.told_overflow(id, &first, &header));
        self.with_overflow(id, first, overflow)
    }

    /// How many further pages page `id` has, which begins with `first`: as many as its elements fill, where its header says another number
    /// and is a bit off, or claims pages with heads of their own; as many as its header says, where its elements would have to fill such pages.
    #[must_use]
    pub fn told_overflow(&self, id: PageId, first: &[u8], header: &PageHeader) -> u32 {
        let declared = header.overflow;
        let Some(filled) = filled_overflow(first, header).filter(|filled| *filled != declared) else {
            return declared;
        };
        let is_head = |page: PageId| {
            let kinds = [FLAG_BRANCH, FLAG_LEAF, FLAG_FREELIST];
            self.header(page).is_ok_and(|header| header.id == page.0 && kinds.contains(&header.flags))
        };
        let more = u64::from(filled.min(declared)) + 1..=u64::from(filled.max(declared));
        let mut pages = more.take(MOST_LOOKED_AT).filter_map(|page| id.0.checked_add(page));
        match pages.any(|page| is_head(PageId(page))) {
            true => filled.min(declared),
            false => told_overflow(first, header),
        }
    }

    /// A fault about page `id` and its `overflow` further pages.
    #[must_use]
    pub fn fault(&self, id: PageId, overflow: u32, kind: FaultKind) -> Fault {
        let len = (u64::from(overflow) + 1).saturating_mul(u64::from(self.page_size));
        Fault { page: id, span: Span { offset: self.offset_of(id), len }, kind }
    }

    fn require(&self, id: PageId) -> Result<(), Fault> {
        if self.index_of(id).is_some() { Ok(()) } else { Err(self.truncated(id, 0)) }
    }

    fn bytes(&self, id: PageId, len: u64) -> Result<Cow<'_, [u8]>, Fault> {
        self.source.bytes(self.offset_of(id), len).map_err(|error| match error {
            SourceError::OutOfRange { .. } => self.truncated(id, 0),
            SourceError::Read { .. } => {
                self.fault(id, 0, FaultKind::Unreadable { message: error.to_string() })
            }
        })
    }

    fn truncated(&self, id: PageId, overflow: u32) -> Fault {
        let len = (u64::from(overflow) + 1).saturating_mul(u64::from(self.page_size));
        let kind = FaultKind::Truncated {
            needed_bytes: self.offset_of(id).saturating_add(len),
            file_bytes: self.source.len_bytes(),
        };
        self.fault(id, overflow, kind)
    }
}

/// Whether pages may be this long: a power of two within bbolt's bounds.
#[must_use]
pub fn is_page_size(page_size: u32) -> bool {
    page_size.is_power_of_two() && (SMALLEST_PAGE_BYTES..=LARGEST_PAGE_BYTES).contains(&page_size)
}

/// The page size for which most pages say where they are, and that in a file which begins with page 0; `None` when there is none
/// for which enough do. For any but the right size only chance puts a head where its id says.
fn guess_page_size<S: Source>(source: &S) -> Option<u32> {
    let best = page_sizes().map(|page_size| (probe(source, page_size).heads_from_0, page_size));
    let (heads, page_size) = best.max_by_key(|(heads, page_size)| (*heads, u32::MAX - page_size))?;
    (heads >= ENOUGH_HEADS).then_some(page_size)
}

/// As [`guess_page_size`], in a file that may begin with any page.
fn guess<S: Source>(source: &S) -> Option<u32> {
    let best = page_sizes().map(|page_size| (probe(source, page_size).heads, page_size));
    let (heads, page_size) = best.max_by_key(|(heads, page_size)| (*heads, u32::MAX - page_size))?;
    (heads >= ENOUGH_HEADS).then_some(page_size)
}

fn page_sizes() -> impl Iterator<Item = u32> {
    (0..).map(|doubling| SMALLEST_PAGE_BYTES << doubling).take_while(|size| *size <= LARGEST_PAGE_BYTES)
}

/// What the heads looked at say of a file's layout.
struct Probed {
    /// How many say where they are in a file that begins with page 0.
    heads_from_0: u32,
    /// How many do in a file that begins with `first_page`, which is the one for which most do.
    heads: u32,
    /// 0 also where too few heads agree on anything else.
    first_page: u64,
}

/// Looks at the heads of pages of this size, evenly over the file and at most [`MOST_PROBES`]. The page at the start would say
/// where it is at any size.
fn probe<S: Source>(source: &S, page_size: u32) -> Probed {
    let pages = source.len_bytes() / u64::from(page_size);
    let step = (pages / MOST_PROBES).max(1);
    let mut votes: HashMap<u64, u32> = HashMap::new();
    for probe in 0..MOST_PROBES {
        // Not always the same distance: pages with overflow may lie at such distances too.
        let index = 1 + probe * step + probe.wrapping_mul(0x9E37_79B9) % step;
        if index >= pages {
            break;
        }
        let header = source.bytes(index * u64::from(page_size), HEADER_BYTES as u64).ok();
        let Some(header) = header.and_then(|bytes| PageHeader::parse(&bytes)) else { continue };
        let may_be = [FLAG_BRANCH, FLAG_LEAF, FLAG_META, FLAG_FREELIST].contains(&header.flags)
            && index.saturating_add(u64::from(header.overflow)) < pages;
        if let Some(first_page) = header.id.checked_sub(index).filter(|_| may_be) {
            *votes.entry(first_page).or_default() += 1;
        }
    }
    let heads_from_0 = votes.get(&0).copied().unwrap_or_default();
    let others = votes.into_iter().filter(|(first_page, _)| *first_page != 0);
    let best = others.max_by_key(|(first_page, heads)| (*heads, u64::MAX - first_page));
    let is_clear = |heads: u32| heads_from_0.saturating_mul(HEADS_FOR_EACH) < heads;
    match best.filter(|(_, heads)| *heads >= ENOUGH_HEADS && is_clear(*heads)) {
        Some((first_page, heads)) => Probed { heads_from_0, heads, first_page },
        None => Probed { heads_from_0, heads: heads_from_0, first_page: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::NO_FREELIST;

    fn meta(page_size: u32, txid: u64) -> Meta {
        let (root, freelist) = (PageId(2), NO_FREELIST);
        Meta { page_size, flags: 0, root, sequence: 0, freelist, high_water_mark: 6, txid }
    }

    /// Two metas, a leaf at 2, a branch at 3 with one page of overflow, and a leaf at 5.
    fn file(page_size: u32) -> Vec<u8> {
        let mut file = [meta(page_size, 8).page(0), meta(page_size, 9).page(1)].concat();
        let len = usize::try_from(page_size).unwrap();
        for (id, flags, overflow) in [(2, FLAG_LEAF, 0), (3, FLAG_BRANCH, 1), (5, FLAG_LEAF, 0)] {
            let header = PageHeader { id, flags, count: 0, overflow };
            file.extend(header.encode());
            file.resize(file.len() - HEADER_BYTES + len * (1 + usize::try_from(overflow).unwrap()), 0xA5);
        }
        file
    }

    #[test]
    fn a_sound_file_at_any_page_size() {
        for page_size in [512, 1024, 4096, 16384, 65536] {
            let pages = PageFile::new(file(page_size), None).unwrap();
            assert_eq!((pages.page_size(), pages.page_count()), (page_size, 6));
            assert!(!pages.is_page_size_guessed());
            assert_eq!((pages.active_slot(), pages.meta().unwrap().txid), (Some(1), 9));
            assert_eq!(pages.header(PageId(3)).unwrap().overflow, 1);
            assert_eq!(pages.first(PageId(3)).unwrap().len() as u64, u64::from(page_size));
            assert_eq!(pages.whole(PageId(3)).unwrap().len() as u64, 2 * u64::from(page_size));
            assert_eq!(pages.first(PageId(0)).unwrap().len() as u64, u64::from(page_size));
            assert_eq!(pages.node(PageId(5)).unwrap().count(), 0);
            let FaultKind::NotATreePage { flags } = pages.node(PageId(1)).unwrap_err().kind else { panic!() };
            assert_eq!(flags, FLAG_META);
        }
    }

    #[test]
    fn the_page_size_is_found_without_a_valid_meta() {
        for page_size in [1024, 4096, 16384, 65536] {
            let mut bytes = file(page_size);
            let second = usize::try_from(page_size).unwrap();
            for meta in [0, second] {
                bytes[meta..meta + second].fill(0);
            }
            let pages = PageFile::new(bytes, None).unwrap();
            assert_eq!((pages.page_size(), pages.page_count()), (page_size, 6));
            assert!(pages.is_page_size_guessed());
            assert_eq!((pages.active_slot(), pages.meta()), (None, None));
            assert_eq!(
                pages.metas(),
                &[Err(MetaFault::Magic { found: 0 }), Err(MetaFault::Magic { found: 0 })]
            );
            assert_eq!(pages.header(PageId(5)).unwrap().flags, FLAG_LEAF);
        }
    }

    #[test]
    fn one_valid_meta_is_enough() {
        let mut bytes = file(16384);
        bytes[20] ^= 1;
        let pages = PageFile::new(&bytes[..], None).unwrap();
        assert_eq!((pages.page_size(), pages.active_slot()), (16384, Some(1)));
        let mut bytes = file(16384);
        bytes[16384 + 20] ^= 1;
        let pages = PageFile::new(&bytes[..], None).unwrap();
        assert_eq!((pages.page_size(), pages.active_slot()), (16384, Some(0)));
        assert_eq!(pages.metas()[1], Err(MetaFault::Version { found: 3 }));
    }

    #[test]
    fn a_page_size_that_is_given_counts() {
        let pages = PageFile::new(file(4096), Some(1024)).unwrap();
        assert_eq!((pages.page_size(), pages.page_count()), (1024, 24));
        // Neither meta speaks of such pages.
        assert_eq!(pages.active_slot(), None);
        assert_eq!(pages.metas()[0], Err(MetaFault::PageSize { found: 4096 }));
        for page_size in [0, 511, 768, 4095, 32 << 20] {
            let error = PageFile::new(file(4096), Some(page_size)).unwrap_err();
            assert!(matches!(error, PageFileError::ImpossiblePageSize { .. }), "{error}");
        }
    }

    #[test]
    fn what_the_file_ends_before_is_not_there() {
        let mut bytes = file(4096);
        bytes.truncate(5 * 4096 - 1);
        let pages = PageFile::new(&bytes[..], None).unwrap();
        assert_eq!(pages.page_count(), 4);
        assert!(pages.first(PageId(3)).is_ok());
        let truncated = |needed_bytes| FaultKind::Truncated { needed_bytes, file_bytes: 5 * 4096 - 1 };
        assert_eq!(pages.whole(PageId(3)).unwrap_err().kind, truncated(5 * 4096));
        assert_eq!(pages.node(PageId(3)).unwrap_err().kind, truncated(5 * 4096));
        assert_eq!(pages.first(PageId(4)).unwrap_err().kind, truncated(5 * 4096));
        assert_eq!(pages.header(PageId(u64::MAX)).unwrap_err().kind, truncated(u64::MAX));
    }

    #[test]
    fn too_little_is_told_as_such() {
        for len in [0, 1, 79] {
            let error = PageFile::new(&file(4096)[..len], None).unwrap_err();
            assert!(
                matches!(error, PageFileError::TooSmall { len_bytes } if len_bytes == len as u64),
                "{error}"
            );
        }
        // A meta and nothing else: not one whole page.
        let bytes = file(4096);
        let pages = PageFile::new(&bytes[..100], None).unwrap();
        assert_eq!((pages.page_count(), pages.active_slot()), (0, Some(0)));
        assert_eq!(pages.metas()[1], Err(MetaFault::Missing));
        assert!(pages.first(PageId(0)).is_err());
    }

    #[test]
    fn what_is_no_database_is_told_as_such() {
        for byte in [0, 1, b'x', 0xff] {
            let error = PageFile::new(vec![byte; 1 << 20], None).unwrap_err();
            assert!(matches!(error, PageFileError::NoPages { .. }), "{error}");
            assert_eq!(PageFile::new(vec![byte; 1 << 20], Some(4096)).unwrap().page_count(), 256);
        }
        let mut bytes = file(4096);
        bytes[16..20].reverse();
        bytes[4096..].fill(0);
        assert!(matches!(PageFile::new(bytes, None).unwrap_err(), PageFileError::BigEndian));
    }

    #[test]
    fn a_page_that_calls_itself_otherwise_is_no_node() {
        let mut bytes = file(4096);
        bytes[2 * 4096] = 7;
        let pages = PageFile::new(bytes, None).unwrap();
        assert_eq!(pages.node(PageId(2)).unwrap_err().kind, FaultKind::WrongId { found: 7 });
        assert_eq!(pages.header(PageId(2)).unwrap().id, 7);
        assert!(pages.whole(PageId(2)).is_ok());
    }
}
