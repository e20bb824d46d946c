//! What a page is, in a line.

use std::fmt;

use crate::fault::Fault;
use crate::freelist::COUNT_IN_FIRST_ID;
use crate::meta::{Meta, MetaFault, NO_FREELIST};
use crate::page::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, HEADER_BYTES, PageHeader, PageId};
use crate::page_file::PageFile;
use crate::source::Source;

/// What a page is, as far as its own first bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageState {
    /// Page 0 or 1.
    Meta(Result<Meta, MetaFault>),
    /// Any other.
    Page {
        /// What it says of itself.
        header: PageHeader,
        /// How many elements, or free pages, it says it has.
        items: u64,
    },
    /// The file ends before it.
    Absent,
    /// It cannot be read.
    Unreadable(Box<Fault>),
}

impl PageState {
    /// What page `id` of `file` is.
    pub(super) fn in_file<S: Source>(file: &PageFile<S>, id: PageId) -> Self {
        match file.first(id) {
            Ok(bytes) => match (Self::of(id, &bytes), usize::try_from(id.0).ok()) {
                // The file knows better which page size is right.
                (Self::Meta(_), Some(slot)) => {
                    Self::Meta(file.metas().get(slot).cloned().unwrap_or(Err(MetaFault::Missing)))
                }
                (state, _) => state,
            },
            Err(_) if id.0 >= file.page_count() => Self::Absent,
            Err(fault) => Self::Unreadable(Box::new(fault)),
        }
    }

    /// What page `id` is when it has these `bytes`.
    pub(super) fn of(id: PageId, bytes: &[u8]) -> Self {
        if id.0 < 2 {
            return Self::Meta(Meta::parse(bytes));
        }
        let Some(header) = PageHeader::parse(bytes) else { return Self::Absent };
        let first_id = bytes.get(HEADER_BYTES..HEADER_BYTES + 8).and_then(|word| word.try_into().ok());
        let items = match first_id {
            Some(word) if header.flags == FLAG_FREELIST && header.count == COUNT_IN_FIRST_ID => {
                u64::from_le_bytes(word)
            }
            _ => u64::from(header.count),
        };
        Self::Page { header, items }
    }
}

impl fmt::Display for PageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta(Ok(meta)) => {
                let Meta { page_size, root, freelist, high_water_mark, txid, .. } = meta;
                write!(f, "a valid meta of transaction {txid}: root {root}, ")?;
                match *freelist {
                    NO_FREELIST => f.write_str("no freelist")?,
                    page => write!(f, "freelist {page}")?,
                }
                write!(f, ", high-water mark {high_water_mark}, page size {page_size}")
            }
            Self::Meta(Err(fault)) => write!(f, "no valid meta: {fault}"),
            Self::Page { header, items } => {
                let plural = if *items == 1 { "" } else { "s" };
                match header.flags {
                    FLAG_BRANCH => write!(f, "a branch of {items} element{plural}")?,
                    FLAG_LEAF => write!(f, "a leaf of {items} element{plural}")?,
                    FLAG_FREELIST => write!(f, "a freelist of {items} page{plural}")?,
                    FLAG_META => f.write_str("a meta page, out of its place")?,
                    flags => write!(f, "no page of any known kind (flags {flags:#06x})")?,
                }
                write!(f, ", id {}, overflow {}", header.id, header.overflow)
            }
            Self::Absent => f.write_str("beyond the end of the file"),
            Self::Unreadable(fault) => write!(f, "{fault}"),
        }
    }
}
