//! Opening: page size, the two metas and which of them wins, and pages by number (FORMATS A.2, A.3).

use std::borrow::Cow;

use crate::bucket::Bucket;
use crate::fault::{Fault, FaultKind, Span};
use crate::freelist::Freelist;
use crate::meta::{META_PAGE_BYTES, Meta, MetaFault};
use crate::page::{HEADER_BYTES, Node, PageHeader, PageId};
use crate::source::{Source, SourceError};

/// Why a file is not a bbolt database that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not even one meta fits.
    #[error("{len_bytes} bytes are too few for a bbolt database, which has at least two pages")]
    TooSmall {
        /// The length in bytes.
        len_bytes: u64,
    },
    /// Written on a big-endian machine (s390x, ppc64, mips).
    #[error(
        "this is a bbolt database of a big-endian machine (s390x, ppc64, mips), which is not supported: \
         bbolt keeps its numbers in the machine's byte order; use a tool on such a machine"
    )]
    BigEndian,
    /// No valid meta, neither at the start nor at any possible second page.
    #[error("no valid meta page: meta 0: {meta0}; meta 1: {meta1}")]
    NoMeta {
        /// What is wrong with meta 0.
        meta0: MetaFault,
        /// What is wrong with the best candidate for meta 1.
        meta1: MetaFault,
    },
    /// Reading failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Smallest page size looked for, in bytes.
const SMALLEST_PAGE_BYTES: u64 = 1024;
/// How often that is doubled: up to 16 MiB, as bbolt does.
const PAGE_SIZE_DOUBLINGS: u32 = 14;

/// An open database.
#[derive(Debug)]
pub struct Db<S> {
    source: S,
    metas: [Result<Meta, MetaFault>; 2],
    active_slot: usize,
    meta: Meta,
}

impl<S: Source> Db<S> {
    /// Opens the database in `source`: finds the page size (from meta 0, else from a meta 1 at any power of two
    /// from 1 KiB to 16 MiB) and picks the valid meta with the higher transaction number.
    ///
    /// # Errors
    /// When no meta is valid, the file is of a big-endian machine, or the metas cannot be read.
    pub fn from_source(source: S) -> Result<Self, OpenError> {
        let len_bytes = source.len_bytes();
        if len_bytes < META_PAGE_BYTES {
            return Err(OpenError::TooSmall { len_bytes });
        }
        let meta0 = read_meta(&source, 0);
        let (meta1, page_size) = match &meta0 {
            Ok(meta) => (read_meta(&source, u64::from(meta.page_size)), meta.page_size),
            Err(fault0) => {
                let (found, best_fault) = search_meta1(&source);
                match found {
                    Some(meta) => (Ok(meta), meta.page_size),
                    None if *fault0 == MetaFault::BigEndian || best_fault == MetaFault::BigEndian => {
                        return Err(OpenError::BigEndian);
                    }
                    None => return Err(OpenError::NoMeta { meta0: fault0.clone(), meta1: best_fault }),
                }
            }
        };
        // A second meta with another page size was read from where it does not belong.
        let meta1 = match meta1 {
            Ok(meta) if meta.page_size != page_size => Err(MetaFault::PageSize { found: meta.page_size }),
            other => other,
        };
        let (active_slot, meta) = match (&meta0, &meta1) {
            (Ok(a), Ok(b)) if b.txid > a.txid => (1, *b),
            (Ok(a), _) => (0, *a),
            (Err(_), Ok(b)) => (1, *b),
            (Err(fault0), Err(fault1)) => {
                return Err(OpenError::NoMeta { meta0: fault0.clone(), meta1: fault1.clone() });
            }
        };
        Ok(Self { source, metas: [meta0, meta1], active_slot, meta })
    }

    /// The meta in force.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Both metas, slot 0 first.
    pub fn metas(&self) -> &[Result<Meta, MetaFault>; 2] {
        &self.metas
    }

    /// The slot, 0 or 1, of the meta in force.
    #[must_use]
    pub fn active_slot(&self) -> usize {
        self.active_slot
    }

    /// Length of a page in bytes.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// Where the bytes come from.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The larger high-water mark of the valid metas, in pages: new pages may be appended from there.
    #[must_use]
    pub fn highest_water_mark(&self) -> u64 {
        self.metas.iter().flatten().map(|m| m.high_water_mark).max().unwrap_or_default()
    }

    /// The number of pages, metas included, that both the high-water mark and the file's length allow.
    #[must_use]
    pub fn page_count(&self) -> u64 {
        self.meta.high_water_mark.min(self.source.len_bytes() / u64::from(self.meta.page_size))
    }

    /// The header of page `id`.
    ///
    /// # Errors
    /// When the page lies outside 2..high-water mark or the file, or cannot be read.
    pub fn header(&self, id: PageId) -> Result<PageHeader, Fault> {
        let bytes = self.raw(id, HEADER_BYTES as u64)?;
        PageHeader::parse(&bytes).ok_or_else(|| self.fault(id, 0, self.truncated(id, 0)))
    }

    /// Page `id` with its overflow as a branch or leaf.
    ///
    /// # Errors
    /// When the page is out of bounds, calls itself otherwise, is no tree page, or has elements outside itself.
    pub fn node(&self, id: PageId) -> Result<Node<'_>, Fault> {
        let page_size = u64::from(self.page_size());
        let first = self.raw(id, page_size)?;
        let Some(header) = PageHeader::parse(&first) else {
            return Err(self.fault(id, 0, self.truncated(id, 0)));
        };
        if header.id != id.0 {
            return Err(self.fault(id, 0, FaultKind::WrongId { found: header.id }));
        }
        let bytes = self.with_overflow(id, first, header.overflow)?;
        Node::parse(bytes, id, self.offset_of(id))
    }

    /// The root bucket, whose keys are the names of the top-level buckets.
    #[must_use]
    pub fn root(&self) -> Bucket<'_, S> {
        Bucket::at_page(self, self.meta.root, self.meta.sequence)
    }

    /// The top-level bucket `name`; `None` when there is none.
    ///
    /// # Errors
    /// When a page on the way, or the bucket's own header, is damaged.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_, S>>, Fault> {
        self.root().bucket(name)
    }

    /// The freelist as the file keeps it.
    ///
    /// # Errors
    /// When the page the meta names is out of bounds, is no freelist, or declares more ids than it holds.
    pub fn freelist(&self) -> Result<Freelist, Fault> {
        Freelist::read(self)
    }

    /// Where page `id` starts in the file, in bytes (saturating: such a page is never within the file).
    #[must_use]
    pub fn offset_of(&self, id: PageId) -> u64 {
        id.0.saturating_mul(u64::from(self.page_size()))
    }

    /// Says that the first `len` bytes of page `id` are read very soon.
    pub(crate) fn will_read(&self, id: PageId, len: u64) {
        self.source.will_read(self.offset_of(id), len);
    }

    /// A page and its `overflow` further pages in one piece, given its first page.
    pub(crate) fn with_overflow<'a>(
        &'a self,
        id: PageId,
        first: Cow<'a, [u8]>,
        overflow: u32,
    ) -> Result<Cow<'a, [u8]>, Fault> {
        if overflow == 0 {
            return Ok(first);
        }
        let pages = u64::from(overflow) + 1;
        if id.0.saturating_add(pages) > self.meta.high_water_mark {
            let kind = FaultKind::OutOfBounds { high_water_mark: self.meta.high_water_mark };
            return Err(self.fault(id, overflow, kind));
        }
        let len = pages * u64::from(self.page_size());
        self.source.bytes(self.offset_of(id), len).map_err(|e| self.source_fault(id, overflow, &e))
    }

    /// The first `len` bytes of page `id`, which must lie within 2..high-water mark.
    pub(crate) fn raw(&self, id: PageId, len: u64) -> Result<Cow<'_, [u8]>, Fault> {
        if id.0 < 2 || id.0 >= self.meta.high_water_mark {
            let kind = FaultKind::OutOfBounds { high_water_mark: self.meta.high_water_mark };
            return Err(self.fault(id, 0, kind));
        }
        self.source.bytes(self.offset_of(id), len).map_err(|e| self.source_fault(id, 0, &e))
    }

    /// A fault about page `id` and its `overflow` further pages.
    pub(crate) fn fault(&self, id: PageId, overflow: u32, kind: FaultKind) -> Fault {
        let len = (u64::from(overflow) + 1).saturating_mul(u64::from(self.page_size()));
        Fault { page: id, span: Span { offset: self.offset_of(id), len }, kind }
    }

    fn truncated(&self, id: PageId, overflow: u32) -> FaultKind {
        let len = (u64::from(overflow) + 1).saturating_mul(u64::from(self.page_size()));
        FaultKind::Truncated {
            needed_bytes: self.offset_of(id).saturating_add(len),
            file_bytes: self.source.len_bytes(),
        }
    }

    fn source_fault(&self, id: PageId, overflow: u32, error: &SourceError) -> Fault {
        let kind = match error {
            SourceError::OutOfRange { .. } => self.truncated(id, overflow),
            SourceError::Read { .. } => FaultKind::Unreadable { message: error.to_string() },
        };
        self.fault(id, overflow, kind)
    }
}

pub(crate) fn read_meta<S: Source>(source: &S, offset: u64) -> Result<Meta, MetaFault> {
    match source.bytes(offset, META_PAGE_BYTES) {
        Ok(bytes) => Meta::parse(&bytes),
        Err(SourceError::OutOfRange { .. }) => Err(MetaFault::Missing),
        Err(error @ SourceError::Read { .. }) => Err(MetaFault::Unreadable { message: error.to_string() }),
    }
}

/// Looks for a meta 1 at every possible page size; also returns the most telling fault met on the way.
pub(crate) fn search_meta1<S: Source>(source: &S) -> (Option<Meta>, MetaFault) {
    let mut best_fault = MetaFault::Missing;
    for doubling in 0..=PAGE_SIZE_DOUBLINGS {
        let offset = SMALLEST_PAGE_BYTES << doubling;
        match read_meta(source, offset) {
            Ok(meta) if u64::from(meta.page_size) == offset => return (Some(meta), best_fault),
            Ok(meta) => best_fault = MetaFault::PageSize { found: meta.page_size },
            // A wrong magic is what any other page shows; the rest says that this is where meta 1 was.
            Err(MetaFault::Magic { .. }) if best_fault != MetaFault::Missing => {}
            Err(MetaFault::Missing) => break,
            Err(fault) => best_fault = fault,
        }
    }
    (None, best_fault)
}
