//! Damage, with an address: what is wrong, on which page, at which bytes of the file.

use crate::meta::MetaFault;
use crate::page::PageId;

/// Where in the file a statement about bytes is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte, counted from the start of the file.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// One broken invariant of one page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page {page} at {:#x}: {kind}", span.offset)]
pub struct Fault {
    /// The page (of an inline bucket: the page that holds it).
    pub page: PageId,
    /// The bytes the statement is about.
    pub span: Span,
    /// What is wrong.
    pub kind: FaultKind,
}

impl Fault {
    /// The fault's stable code, as documented in `docs/findings.md`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}

/// What can be wrong with a page (FORMATS A.1, A.4–A.6, A.8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// The system could not read the page.
    #[error("cannot be read: {message}")]
    Unreadable {
        /// The system's words.
        message: String,
    },
    /// The page lies at or beyond the high-water mark.
    #[error("lies outside the pages 2..{high_water_mark} that the meta declares")]
    OutOfBounds {
        /// The meta's high-water mark, in pages.
        high_water_mark: u64,
    },
    /// The page, or its overflow, lies beyond the end of the file.
    #[error("needs bytes up to {needed_bytes}, but the file ends at {file_bytes}")]
    Truncated {
        /// Where the page would end, in bytes.
        needed_bytes: u64,
        /// The file's length in bytes.
        file_bytes: u64,
    },
    /// The id in the page's header is not the page's place.
    #[error("calls itself page {found}")]
    WrongId {
        /// The id in the header.
        found: u64,
    },
    /// A tree page is neither branch nor leaf.
    #[error("has flags {flags:#06x}, which is neither a branch (0x0001) nor a leaf (0x0002)")]
    NotATreePage {
        /// The header's flags.
        flags: u16,
    },
    /// The page the meta names as freelist is none.
    #[error("has flags {flags:#06x}, expected a freelist (0x0010)")]
    NotAFreelist {
        /// The header's flags.
        flags: u16,
    },
    /// More elements than the page has room for.
    #[error("declares {declared} elements; its {room_bytes} bytes hold at most {most}")]
    TooManyElements {
        /// Elements (or freelist ids) declared.
        declared: u64,
        /// Bytes of the page behind its header.
        room_bytes: u64,
        /// Elements that would fit.
        most: u64,
    },
    /// An element's key or value does not lie within the page.
    #[error(
        "element {index}: {len} bytes at {position:#x} of the page do not lie within its {page_bytes} bytes"
    )]
    ElementOutOfPage {
        /// The element's number.
        index: u16,
        /// First byte, counted from the page's start.
        position: u64,
        /// Bytes of key and value.
        len: u64,
        /// The page's length with overflow, in bytes.
        page_bytes: u64,
    },
    /// More bytes of keys and values than the page has, so some are shared.
    #[error(
        "has {declared_bytes} bytes of keys and values in the {room_bytes} behind its elements: some overlap"
    )]
    OverlappingElements {
        /// Bytes of all keys and values.
        declared_bytes: u64,
        /// Bytes of the page behind its element table.
        room_bytes: u64,
    },
    /// A key of no bytes, on which bbolt panics.
    #[error("element {index} has an empty key")]
    EmptyKey {
        /// The element's number.
        index: u16,
    },
    /// The first key does not begin where the table ends.
    #[error(
        "declares {declared} elements, whose table ends at {table_end:#x} of the page; its first key begins at {position:#x}"
    )]
    Miscounted {
        /// Elements declared.
        declared: u16,
        /// Where the first key begins, counted from the page's start.
        position: u64,
        /// Where the table ends, counted likewise.
        table_end: u64,
    },
    /// A branch page without elements.
    #[error("is a branch without children")]
    EmptyBranch,
    /// Keys of one page that do not ascend.
    #[error("element {index}: key {key} is not greater than the key before it ({previous})")]
    KeyOrder {
        /// The element's number.
        index: u16,
        /// The key, readable.
        key: String,
        /// The key before it, readable.
        previous: String,
    },
    /// A first key smaller than the branch above promised.
    #[error("first key {key} is smaller than {separator}, the key of the branch above")]
    BelowSeparator {
        /// The key, readable.
        key: String,
        /// The key in the branch above, readable.
        separator: String,
    },
    /// A key not smaller than the next one in the branch above.
    #[error("element {index}: key {key} is not smaller than {bound}, the next key of the branch above")]
    AboveBound {
        /// The element's number.
        index: u16,
        /// The key, readable.
        key: String,
        /// The next key in the branch above, readable.
        bound: String,
    },
    /// A page used twice: by two parents, or as overflow of one and head of another. A cycle looks like this.
    #[error("is used more than once: also by page {first_user}")]
    MultipleReferences {
        /// The page that named it first.
        first_user: PageId,
    },
    /// The tree is deeper than any tree of that size can be.
    #[error("lies more than {most} levels below its bucket's root")]
    TooDeep {
        /// The depth at which walking stops.
        most: usize,
    },
    /// The freelist names a page twice.
    #[error("is listed as free twice")]
    FreedTwice,
    /// The freelist names a page that a tree, or the freelist itself, uses.
    #[error("is listed as free, but is in use")]
    ReachableFreed,
    /// The freelist names a page outside the file's pages.
    #[error("is listed as free, but lies outside the pages 2..{high_water_mark}")]
    FreeOutOfBounds {
        /// The meta's high-water mark, in pages.
        high_water_mark: u64,
    },
    /// A page neither reachable nor free, in a file that persists its freelist.
    #[error("is neither reachable nor listed as free")]
    UnreachableUnfreed,
    /// A bucket's header or inline page does not fit its value.
    #[error("bucket {bucket}: its value of {len} bytes is shorter than the {needed} it needs")]
    BucketTooShort {
        /// The bucket's name, readable.
        bucket: String,
        /// Bytes of the value.
        len: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// An inline bucket whose page is not a leaf.
    #[error("bucket {bucket}: its inline page has flags {flags:#06x}, expected a leaf (0x0002)")]
    InlineNotALeaf {
        /// The bucket's name, readable.
        bucket: String,
        /// The flags found.
        flags: u16,
    },
    /// An inline bucket with a bucket in it, which bbolt never writes and cannot open.
    #[error("bucket {bucket}: an inline bucket holds the bucket {nested}")]
    BucketInInline {
        /// The outer bucket's name, readable.
        bucket: String,
        /// The inner bucket's name, readable.
        nested: String,
    },
    /// A plain value in the root bucket, where bbolt lets nobody put one: a page of another bucket stands there.
    #[error("element {index}: key {key}, {more} more like it: values where only buckets can be")]
    ValueAtTopLevel {
        /// The first such element's number.
        index: u16,
        /// Its key, readable.
        key: String,
        /// How many more the page has.
        more: usize,
    },
    /// A branch with one child: every checker passes it, the first rebalance kills the server.
    #[error("is a branch with a single child, on which a server panics at its next delete there")]
    LoneChild,
    /// Leaves of one bucket at different depths.
    #[error("is a leaf at depth {depth}; the first leaf of its bucket lies at depth {expected}")]
    UnevenDepth {
        /// This leaf's depth.
        depth: usize,
        /// The depth of the bucket's first leaf.
        expected: usize,
    },
    /// A leaf without elements below a branch.
    #[error("is an empty leaf below a branch")]
    EmptyLeaf,
    /// One meta is not valid; the other is in force.
    #[error("is no valid meta: {fault}")]
    OtherMeta {
        /// Why.
        fault: MetaFault,
    },
    /// A valid meta behind a page header that is not a meta's, which bbolt does not look at.
    #[error("holds a valid meta, but its header says page {id} with flags {flags:#06x} (expected 0x0004)")]
    MetaHeader {
        /// The id in the header.
        id: u64,
        /// The header's flags.
        flags: u16,
    },
    /// The meta in force names a page that cannot be.
    #[error("is the meta in force and names {found} as its {field}, outside the pages 2..{high_water_mark}")]
    MetaRange {
        /// What the page is named as.
        field: &'static str,
        /// The page named.
        found: u64,
        /// The meta's high-water mark, in pages.
        high_water_mark: u64,
    },
    /// The other meta, which is valid, names a page that cannot be.
    #[error("is the older meta and names {found} as its {field}, outside the pages 2..{high_water_mark}")]
    OtherMetaRange {
        /// What the page is named as.
        field: &'static str,
        /// The page named.
        found: u64,
        /// The meta's high-water mark, in pages.
        high_water_mark: u64,
    },
    /// The file is shorter than the meta in force says.
    #[error("declares {high_water_mark} pages, {needed_bytes} bytes, but the file has {file_bytes}")]
    ShortFile {
        /// The meta's high-water mark, in pages.
        high_water_mark: u64,
        /// That mark in bytes.
        needed_bytes: u64,
        /// The file's length in bytes.
        file_bytes: u64,
    },
}

impl FaultKind {
    /// The stable code, as documented in `docs/findings.md`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "BBOLT-UNREADABLE",
            Self::OutOfBounds { .. } => "BBOLT-OUT-OF-BOUNDS",
            Self::Truncated { .. } => "BBOLT-TRUNCATED",
            Self::WrongId { .. } => "BBOLT-WRONG-ID",
            Self::NotATreePage { .. } => "BBOLT-PAGE-TYPE",
            Self::NotAFreelist { .. } => "BBOLT-FREELIST-TYPE",
            Self::TooManyElements { .. } | Self::Miscounted { .. } => "BBOLT-ELEMENT-COUNT",
            Self::ElementOutOfPage { .. } => "BBOLT-ELEMENT-BOUNDS",
            Self::OverlappingElements { .. } => "BBOLT-ELEMENT-OVERLAP",
            Self::EmptyKey { .. } => "BBOLT-EMPTY-KEY",
            Self::EmptyBranch => "BBOLT-EMPTY-BRANCH",
            Self::KeyOrder { .. } => "BBOLT-KEY-ORDER",
            Self::BelowSeparator { .. } => "BBOLT-BELOW-SEPARATOR",
            Self::AboveBound { .. } => "BBOLT-ABOVE-BOUND",
            Self::MultipleReferences { .. } => "BBOLT-MULTIPLE-REFERENCES",
            Self::TooDeep { .. } => "BBOLT-TOO-DEEP",
            Self::FreedTwice => "BBOLT-FREED-TWICE",
            Self::ReachableFreed => "BBOLT-REACHABLE-FREED",
            Self::FreeOutOfBounds { .. } => "BBOLT-FREE-OUT-OF-BOUNDS",
            Self::UnreachableUnfreed => "BBOLT-UNREACHABLE-UNFREED",
            Self::BucketTooShort { .. } => "BBOLT-BUCKET-LENGTH",
            Self::InlineNotALeaf { .. } => "BBOLT-INLINE-TYPE",
            Self::BucketInInline { .. } => "BBOLT-BUCKET-IN-INLINE",
            Self::ValueAtTopLevel { .. } => "BBOLT-TOP-LEVEL-VALUE",
            Self::LoneChild => "BBOLT-LONE-CHILD",
            Self::UnevenDepth { .. } => "BBOLT-UNEVEN-DEPTH",
            Self::EmptyLeaf => "BBOLT-EMPTY-LEAF",
            Self::OtherMeta { fault } => fault.code(),
            Self::MetaHeader { .. } => "BBOLT-META-HEADER",
            Self::MetaRange { .. } => "BBOLT-META-RANGE",
            Self::OtherMetaRange { .. } => "BBOLT-OLDER-META-RANGE",
            Self::ShortFile { .. } => "BBOLT-SHORT-FILE",
        }
    }
}

/// How many bytes of a key a message shows.
const SHOWN_BYTES: usize = 64;

/// A key as a person can read it: text in quotes where it is printable ASCII, hex otherwise, cut after 64 bytes.
#[must_use]
pub fn readable(key: &[u8]) -> String {
    let shown = key.get(..SHOWN_BYTES).unwrap_or(key);
    let cut = if shown.len() < key.len() { format!("… ({} bytes)", key.len()) } else { String::new() };
    if !shown.is_empty() && shown.iter().all(|b| (0x20..0x7f).contains(b)) {
        format!("\"{}\"{cut}", String::from_utf8_lossy(shown))
    } else {
        let hex: String = shown.iter().map(|b| format!("{b:02x}")).collect();
        format!("0x{hex}{cut}")
    }
}
