//! The case file: what many data dirs, dbs, snapshots and logs hold, in one file that answers at once and can be cited.
//!
//! [`add`] reads a source once and keeps where everything in it stands, not the values; [`Case`] answers. A case is one redb
//! database in a `container` of checked chunks, written anew and put in the place of the old one by one rename. [`source`] says
//! what is kept of a source as a whole, [`rows`] what answers are made of.
#![forbid(unsafe_code)]

mod ask;
mod block;
mod case;
mod codec;
mod container;
mod custody;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod ingest;
mod key_table;
mod lock;
mod log_block;
mod names;
mod place;
pub mod report;
mod reread;
pub mod rows;
pub mod source;
mod value;

pub use ask::{Find, LogQuery, Timeline};
pub use case::{Case, Command, TOOL};
pub use codec::BadBlock;
pub use container::SCHEMA_VERSION;
pub use custody::{Custody, Seal, SealOptions, SealRow, SealState, seal};
pub use error::CaseError;
pub use ingest::{AddError, AddOptions, Added, MOST_FILES, add};
pub use reread::{CustodyRow, FileState};
pub use rows::{Citation, Held, LogRow, RevisionRow};
pub use source::Source;
pub use value::ValueError;
