//! The versioned key space: what bucket `key` holds, read as a server reads it (FORMATS B.2, B.3, C).
//!
//! [`Revision`] and [`KeyValue`] are a record's key and value; [`Store`] says how far the history goes and from where on it is
//! kept; [`Index`] finds every record of a key; [`compaction`](compaction()) and [`hashkv`](hashkv()) decide record by record.
//! They all read bucket `key` in one pass, on all threads, which proves the structure of the file on the way.

mod bad_records;
mod hashkv;
mod index;
mod keep;
mod key_range;
mod key_value;
mod ordinals;
mod pass;
pub mod query;
mod release;
mod revision;
mod sift;
mod store;

pub(crate) use bad_records::BadRecords;
pub use hashkv::{HashKv, hashkv, hashkv_compacted};
pub use index::{Entry, Histories, History, Index, IndexOptions, Record, RecordError};
pub use keep::{Compaction, compaction};
pub use key_range::KeyRange;
pub use key_value::{DecodeError, KeyValue};
pub use ordinals::Ordinals;
pub use pass::KeySpaceError;
pub use release::{Release, ReleaseError};
pub use revision::{REVISION_KEY_BYTES, Revision};
pub use sift::{Sifted, sift};
pub use store::{AtRevisionError, RevisionError, Store};
