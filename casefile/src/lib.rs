//! The case file: what many data dirs, dbs, snapshots and logs hold, in one file that answers at once and can be cited.
//!
//! `add` reads a source once and keeps where everything in it stands, not the values; `Case` answers. A case is one redb
//! database in a `container` of checked chunks, written anew and put in the place of the old one by one rename. [`source`] says
//! what is kept of a source as a whole, [`rows`] what answers are made of.
#![forbid(unsafe_code)]

pub mod report;
pub mod rows;
pub mod source;

pub use rows::{Citation, Held, LogRow, RevisionRow};
pub use source::Source;
