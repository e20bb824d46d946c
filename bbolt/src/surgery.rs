//! Surgery: the edits of single pages that people know from the bbolt tool, as data.
//!
//! Each operation looks at a [`PageFile`] and gives an [`Edit`]: the bytes to write, what every page named was before and is
//! after, and what to know about it. Nothing is written here, and nothing a page says is trusted. What bbolt does with any
//! file, and what later costs data, is refused unless the caller accepts it (FORMATS A.10): to give a broken meta a fresh
//! checksum, or to write over pages that are in use.

mod clear;
mod copy;
mod freelist;
mod in_use;
mod metas;
mod state;

use std::fmt;

pub use clear::{clear_page, clear_page_elements};
pub use copy::copy_page;
pub use freelist::{abandon_freelist, rebuild_freelist};
pub use metas::{MetaField, UnknownField, revert_meta_page, update_meta};
pub use state::PageState;

use crate::fault::Fault;
use crate::meta::MetaFault;
use crate::page::PageId;
use crate::page_file::PageFile;
use crate::source::Source;
use crate::watch::Watch;

/// How many pages a message names.
const MOST_NAMED_PAGES: usize = 8;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// [`revert_meta_page`].
    RevertMetaPage,
    /// [`copy_page`].
    CopyPage {
        /// The page whose bytes are taken.
        from: PageId,
        /// Where they go.
        to: PageId,
    },
    /// [`clear_page`].
    ClearPage {
        /// The page.
        page: PageId,
    },
    /// [`clear_page_elements`].
    ClearPageElements {
        /// The page.
        page: PageId,
        /// The first element.
        start: u32,
        /// One past the last; `None` for all the rest.
        end: Option<u32>,
    },
    /// [`abandon_freelist`].
    AbandonFreelist,
    /// [`rebuild_freelist`].
    RebuildFreelist,
    /// [`update_meta`].
    UpdateMeta {
        /// Which meta, 0 or 1.
        slot: u64,
        /// What is set to what.
        fields: Vec<(MetaField, u64)>,
    },
}

impl Operation {
    /// Its edit of `file`.
    ///
    /// # Errors
    /// As the function of that name.
    pub fn plan<S: Source>(
        &self,
        file: &PageFile<S>,
        accepted: Accepted,
        watch: &dyn Watch,
    ) -> Result<Edit, SurgeryError> {
        match self {
            Self::RevertMetaPage => revert_meta_page(file),
            Self::CopyPage { from, to } => copy_page(file, *from, *to, accepted, watch),
            Self::ClearPage { page } => clear_page(file, *page, accepted, watch),
            Self::ClearPageElements { page, start, end } => {
                clear_page_elements(file, *page, *start, *end, accepted, watch)
            }
            Self::AbandonFreelist => abandon_freelist(file, accepted),
            Self::RebuildFreelist => rebuild_freelist(file, watch),
            Self::UpdateMeta { slot, fields } => update_meta(file, *slot, fields, accepted),
        }
    }
}

/// What the caller takes upon itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Pages that are in use may be written over.
    pub loss: bool,
    /// A meta that is not valid may be given a fresh checksum.
    pub invalid_meta: bool,
}

/// Bytes to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where, in bytes from the start of the file.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// What becomes of one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub page: PageId,
    /// What it is in the file.
    pub before: PageState,
    /// What it will be.
    pub after: PageState,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} before: {}\npage {0} after:  {}", self.page, self.before, self.after)
    }
}

/// An edit that nobody has made yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    writes: Vec<Write>,
    changes: Vec<Change>,
    warnings: Vec<Warning>,
}

impl Edit {
    /// The bytes to write, in no particular order; no two overlap. Empty when the file is as it should be already.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// What becomes of the pages that the operation is about, also of those that stay as they are.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What to know.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Where the last write ends, in bytes: at least this long the edited file is.
    #[must_use]
    pub fn end(&self) -> u64 {
        let end = |write: &Write| write.offset.saturating_add(write.bytes.len() as u64);
        self.writes.iter().map(end).max().unwrap_or_default()
    }

    /// True when pages went out of use that a persisted freelist does not list.
    #[must_use]
    pub fn abandons_pages(&self) -> bool {
        self.warnings.iter().any(|warning| matches!(warning, Warning::PagesAbandoned { .. }))
    }

    /// Makes the edit in a copy of the file in memory; a shorter `file` grows.
    pub fn apply_to_vec(&self, file: &mut Vec<u8>) {
        for write in &self.writes {
            // Beyond the address space no copy of the file can be.
            let Ok(start) = usize::try_from(write.offset) else { continue };
            let end = start.saturating_add(write.bytes.len());
            if file.len() < end {
                file.resize(end, 0);
            }
            if let Some(place) = file.get_mut(start..end) {
                place.copy_from_slice(&write.bytes);
            }
        }
    }

    /// Page `id` of `file`, and what follows it, become `bytes`.
    fn set<S: Source>(&mut self, file: &PageFile<S>, id: PageId, bytes: Vec<u8>) {
        let offset = file.offset_of(id);
        let before = PageState::in_file(file, id);
        self.changes.push(Change { page: id, before, after: PageState::of(id, &bytes) });
        let same = file.source().bytes(offset, bytes.len() as u64).is_ok_and(|now| *now == *bytes);
        if !same {
            self.writes.push(Write { offset, bytes });
        }
    }

    /// Page `id` of `file` stays as it is.
    fn keep<S: Source>(&mut self, file: &PageFile<S>, id: PageId) {
        let state = PageState::in_file(file, id);
        self.changes.push(Change { page: id, before: state.clone(), after: state });
    }

    fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }
}

/// What to know about an edit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// A meta that is not valid was left alone.
    #[error("meta {slot} is left as it is, since it is not valid: {fault}")]
    InvalidMetaKept {
        /// Which, 0 or 1.
        slot: u64,
        /// What is wrong with it.
        fault: MetaFault,
    },
    /// A meta that was not valid has a fresh checksum.
    #[error(
        "meta {slot} was not valid ({fault}); with its new checksum whoever opens the file believes what it says, also what \
         nobody has set right"
    )]
    InvalidMetaAccepted {
        /// Which, 0 or 1.
        slot: u64,
        /// What was wrong with it.
        fault: MetaFault,
    },
    /// The meta is still not valid.
    #[error("meta {slot} is still not valid: {fault}")]
    StillInvalid {
        /// Which, 0 or 1.
        slot: u64,
        /// What is wrong with it.
        fault: MetaFault,
    },
    /// The meta that was edited is not the one that counts.
    #[error(
        "meta {slot} is not in force: meta {active} has the higher transaction number, {txid}, which an update cannot set. \
         revert-meta-page puts the other meta in its place"
    )]
    NotInForce {
        /// The one edited, 0 or 1.
        slot: u64,
        /// The one in force.
        active: u64,
        /// Its transaction number.
        txid: u64,
    },
    /// A meta says that pages are longer or shorter than they were.
    #[error("meta {slot} now says that pages have {page_size} bytes; those of this file have {of_file}")]
    PageSizeChanged {
        /// Which, 0 or 1.
        slot: u64,
        /// What it says, in bytes.
        page_size: u32,
        /// What the pages have, in bytes.
        of_file: u32,
    },
    /// Pages changed hands, and a freelist is kept that knows nothing of it.
    #[error(
        "the freelist that the file keeps does not know of this: 'surgery freelist abandon' does away with it"
    )]
    FreelistStale,
    /// Pages went out of use.
    #[error("{}", abandoned(.pages, *.is_branch))]
    PagesAbandoned {
        /// Those that were overflow: the first, and one past the last.
        pages: Option<(PageId, PageId)>,
        /// True when the page was a branch, so that what lay below may be out of use too.
        is_branch: bool,
    },
    /// A branch without children.
    #[error(
        "page {page} is a branch without children now: check reports it as BBOLT-EMPTY-BRANCH as long as the page is in use, \
         and a server dies when it comes there. Its parent's element has to go too"
    )]
    EmptyBranch {
        /// The page.
        page: PageId,
    },
    /// A leaf without elements.
    #[error(
        "page {page} is a leaf without elements now: right for the root of an empty bucket, while below a branch check \
         reports it as BBOLT-EMPTY-LEAF, and its parent's element has to go too"
    )]
    EmptyLeaf {
        /// The page.
        page: PageId,
    },
    /// The page has nothing to do with what the file holds.
    #[error("no meta reaches page {page}: what the file holds stays the same")]
    NotInUse {
        /// The page.
        page: PageId,
    },
    /// The page lies where the next transaction writes.
    #[error(
        "page {page} lies behind the high-water mark, {high_water_mark}: nothing may point to it, and the next transaction may \
         write over it"
    )]
    BehindHighWaterMark {
        /// The page.
        page: PageId,
        /// That of the meta in force, in pages.
        high_water_mark: u64,
    },
    /// Pages that are in use are written over.
    #[error("{}", written_over(.pages))]
    WrittenOver {
        /// The pages.
        pages: Vec<PageId>,
    },
    /// A tree could not be walked to its end.
    #[error("which pages are in use is known only in part, since a tree is damaged: {fault}")]
    InUseInPart {
        /// The first fault met.
        fault: Box<Fault>,
    },
    /// There is no tree to walk.
    #[error("which pages are in use is not known, since no meta is valid")]
    InUseUnknown,
    /// There is one state left where there were two.
    #[error(
        "both metas now lead to the state of transaction {txid}: the one that meta {slot} led to before is given up, and \
         revert-meta-page cannot bring it back"
    )]
    OlderStateGivenUp {
        /// The transaction kept.
        txid: u64,
        /// The slot that was written.
        slot: u64,
    },
}

impl Warning {
    /// A name for it in JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InvalidMetaKept { .. } => "invalidMetaKept",
            Self::InvalidMetaAccepted { .. } => "invalidMetaAccepted",
            Self::StillInvalid { .. } => "stillInvalid",
            Self::NotInForce { .. } => "notInForce",
            Self::PageSizeChanged { .. } => "pageSizeChanged",
            Self::FreelistStale => "freelistStale",
            Self::PagesAbandoned { .. } => "pagesAbandoned",
            Self::EmptyBranch { .. } => "emptyBranch",
            Self::EmptyLeaf { .. } => "emptyLeaf",
            Self::NotInUse { .. } => "notInUse",
            Self::BehindHighWaterMark { .. } => "behindHighWaterMark",
            Self::WrittenOver { .. } => "writtenOver",
            Self::InUseInPart { .. } => "inUseInPart",
            Self::InUseUnknown => "inUseUnknown",
            Self::OlderStateGivenUp { .. } => "olderStateGivenUp",
        }
    }
}

fn abandoned(pages: &Option<(PageId, PageId)>, is_branch: bool) -> String {
    let overflow = pages.map(|(first, end)| match end.0.saturating_sub(1) {
        last if last == first.0 => format!("page {first} is no longer in use"),
        last => format!("pages {first} to {last} are no longer in use"),
    });
    let below = is_branch.then(|| "pages below the elements taken out may be out of use".to_owned());
    let what: Vec<String> = overflow.into_iter().chain(below).collect();
    format!("{}; where the file keeps a freelist, it does not list them", what.join(", and "))
}

fn written_over(pages: &[PageId]) -> String {
    format!("{} in use: what is written over is lost", counted(pages))
}

/// Pages by number, as far as a message should go.
fn counted(pages: &[PageId]) -> String {
    let named: Vec<String> = pages.iter().take(MOST_NAMED_PAGES).map(PageId::to_string).collect();
    match pages {
        [_] => format!("page {} is", named.join(", ")),
        _ if pages.len() > MOST_NAMED_PAGES => {
            format!("pages {} and {} more are", named.join(", "), pages.len() - MOST_NAMED_PAGES)
        }
        _ => format!("pages {} are", named.join(", ")),
    }
}

/// Why there is no edit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SurgeryError {
    /// A page cannot be had, or is not what it has to be.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A page cannot be copied onto itself.
    #[error("page {page} cannot be copied onto itself")]
    SamePage {
        /// The page.
        page: PageId,
    },
    /// The operation is for pages of trees.
    #[error("page {page} is a meta page; 'surgery meta update' and 'surgery revert-meta-page' are for those")]
    MetaPage {
        /// The page, 0 or 1.
        page: PageId,
    },
    /// The page has no elements to clear.
    #[error(
        "page {page} has flags {flags:#06x}: only a branch (0x0001) or a leaf (0x0002) has elements to clear"
    )]
    NotATreePage {
        /// The page.
        page: PageId,
        /// Its header's flags.
        flags: u16,
    },
    /// There are no elements from `start` to `end`.
    #[error("page {page} has {count} elements, 0 to {}: there are none from {start} up to {end}", count.saturating_sub(1))]
    ElementRange {
        /// The page.
        page: PageId,
        /// How many elements it has.
        count: u16,
        /// The first to clear.
        start: u32,
        /// One past the last.
        end: u32,
    },
    /// The range is empty or turned around.
    #[error(
        "the first element to clear, {start}, has to be smaller than the end, {end}, which is not cleared itself"
    )]
    EmptyRange {
        /// The first to clear.
        start: u32,
        /// One past the last.
        end: u32,
    },
    /// What stays does not fit, since elements share bytes.
    #[error(
        "the elements of page {page} that stay need {needed_bytes} bytes, more than its {page_bytes}: they share some"
    )]
    DoesNotFit {
        /// The page.
        page: PageId,
        /// What they need, in bytes.
        needed_bytes: u64,
        /// Length of the page with its overflow, in bytes.
        page_bytes: u64,
    },
    /// There is no such meta.
    #[error("there is no meta {slot}: it is 0 or 1")]
    NoSuchMeta {
        /// What was asked for.
        slot: u64,
    },
    /// Pages cannot be that long.
    #[error("{page_size} bytes are no possible page size: it is a power of two from 512 to 16777216")]
    ImpossiblePageSize {
        /// What was asked for.
        page_size: u64,
    },
    /// Neither meta is valid.
    #[error("neither meta is valid (meta 0: {meta0}; meta 1: {meta1}): there is no state to go by")]
    NoMeta {
        /// What is wrong with meta 0.
        meta0: MetaFault,
        /// What is wrong with meta 1.
        meta1: MetaFault,
    },
    /// The meta to go back to is not valid.
    #[error(
        "meta {other} is not valid ({fault}), so there is no older state to go back to; meta {active} is in force. \
         'surgery copy-page --from-page {active} --to-page {other}' mends meta {other}"
    )]
    OtherMetaInvalid {
        /// The meta in force.
        active: u64,
        /// The other.
        other: u64,
        /// What is wrong with the other.
        fault: MetaFault,
    },
    /// The meta to copy is not valid.
    #[error("meta {slot} is not valid ({fault}), and a copy of it would not be either")]
    SourceMetaInvalid {
        /// Which, 0 or 1.
        slot: u64,
        /// What is wrong with it.
        fault: MetaFault,
    },
    /// A fresh checksum would make a broken meta look right.
    #[error(
        "meta {slot} is not valid ({fault}), and a new checksum would make it look right, with all that is wrong in it; \
         --accept-invalid-meta does it all the same"
    )]
    MetaInvalid {
        /// Which, 0 or 1.
        slot: u64,
        /// What is wrong with it.
        fault: MetaFault,
    },
    /// The file keeps a freelist.
    #[error("the file keeps a freelist already, at page {page}: 'surgery freelist abandon' first")]
    FreelistPersisted {
        /// Its page.
        page: PageId,
    },
    /// What is free cannot be told.
    #[error("the tree is damaged, so that free pages cannot be told from lost ones: {fault}")]
    Damaged {
        /// The first fault met.
        fault: Box<Fault>,
    },
    /// The page is none of its own.
    #[error(
        "page {page} is part of page {head}, which is in use and goes on behind it: it has no header of its own; \
         --accept-loss treats it as a page all the same"
    )]
    InsidePage {
        /// The page.
        page: PageId,
        /// The page whose overflow it is.
        head: PageId,
    },
    /// Pages that are in use would be written over.
    #[error("{} in use and would be written over; --accept-loss does it all the same", counted(pages))]
    WouldWriteOver {
        /// The pages.
        pages: Vec<PageId>,
    },
    /// No further transaction can be numbered, or no further page.
    #[error("there is no {what} left")]
    Exhausted {
        /// What has run out.
        what: &'static str,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What kind of "no" it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The parameters make no sense, whatever the file.
    Usage,
    /// It cannot be done with this file.
    Failed,
    /// It would cost data, or hide that some is lost.
    Refused,
    /// The user asked to stop.
    Interrupted,
}

impl SurgeryError {
    /// What kind of "no" it is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::SamePage { .. }
            | Self::MetaPage { .. }
            | Self::EmptyRange { .. }
            | Self::NoSuchMeta { .. }
            | Self::ImpossiblePageSize { .. } => ErrorClass::Usage,
            Self::Fault(_)
            | Self::NotATreePage { .. }
            | Self::ElementRange { .. }
            | Self::DoesNotFit { .. }
            | Self::NoMeta { .. }
            | Self::Exhausted { .. } => ErrorClass::Failed,
            Self::OtherMetaInvalid { .. }
            | Self::SourceMetaInvalid { .. }
            | Self::MetaInvalid { .. }
            | Self::FreelistPersisted { .. }
            | Self::Damaged { .. }
            | Self::InsidePage { .. }
            | Self::WouldWriteOver { .. } => ErrorClass::Refused,
            Self::Interrupted => ErrorClass::Interrupted,
        }
    }
}

/// The two metas' faults, when neither is valid.
fn no_meta<S: Source>(file: &PageFile<S>) -> SurgeryError {
    let [meta0, meta1] =
        file.metas().each_ref().map(|meta| meta.as_ref().err().cloned().unwrap_or(MetaFault::Missing));
    SurgeryError::NoMeta { meta0, meta1 }
}
