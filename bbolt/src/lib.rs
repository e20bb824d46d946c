//! bbolt files: the pages, trees and buckets in which etcd keeps its data.
//!
//! A file is an array of pages; pages 0 and 1 are metas, the newer valid one names the root bucket, and every
//! bucket is a B+tree of branch and leaf pages. [`Db`] opens such a file from any [`Source`] of bytes (a map, `pread`,
//! a slice), picks the meta and hands out validated [`Node`] views; [`Bucket`], [`Cursor`] and [`LeafRange`] walk
//! keys in order; [`check`](check::check) finds every broken invariant; [`build`] writes a fresh file from sorted
//! pairs, [`rebuild`](mod@rebuild) one from another file, and [`graft`] edits a copy in a handful of pages.
//!
//! Nothing here knows etcd. No content of a file makes this crate panic, loop, recurse without bound or allocate
//! more than the file's own size justifies; damage is a [`Fault`] with a page and a byte span.
#![deny(unsafe_code)]

pub mod bucket;
pub mod build;
pub mod carve;
pub mod check;
pub mod cursor;
pub mod db;
pub mod fault;
pub mod file;
pub mod freelist;
pub mod gojson;
pub mod goquote;
pub mod graft;
pub mod holes;
pub mod map;
pub mod mend;
pub mod meta;
pub mod page;
pub mod page_file;
pub mod page_use;
pub mod range;
pub mod reach;
pub mod rebuild;
pub mod render;
pub mod source;
pub mod stats;
pub mod surgery;
pub mod survey;
mod tree;
pub mod watch;

pub use bucket::Bucket;
pub use build::{Build, BuildError, BuildOptions, Built, FreelistSync, PageWriter};
pub use carve::{Carved, carve};
pub use check::{Finding, Report, Severity, Statistics, check, check_from};
pub use cursor::{Cursor, Item};
pub use db::{Db, OpenError};
pub use fault::{Fault, FaultKind, Span};
pub use file::{FileSource, Io, Lock, OpenOptions, open};
pub use freelist::Freelist;
pub use graft::{Graft, GraftError, Patch};
pub use holes::{BadMap, BadMapError, Holes};
pub use meta::{Meta, MetaFault};
pub use page::{Node, NodeKind, PageHeader, PageId};
pub use page_file::{PageFile, PageFileError};
pub use range::{LeafRange, PageSet};
pub use reach::{Tree, reach};
pub use rebuild::{Content, RebuildError, RebuildOptions, Rebuilt, rebuild};
pub use source::{Source, SourceError};
pub use stats::Stats;
pub use watch::{Unmetered, Watch};
