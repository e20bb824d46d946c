//! Writes big etcd files from a seed: dbs and logs as servers leave them, at any size, the same bytes each time.
//!
//! A [`Shape`] says what a store looks like, and a [`Preset`] is a shape that was measured. [`db`] streams its backend
//! into a file and returns the [`Facts`] that any reader of the file must come to; [`log_dir`] writes the log whose
//! replay makes the same store; [`Outputs`] is both, or neither. Both tell one history, so a server that replays the log comes to the db's revision,
//! keys and hash by itself.
//!
//! Memory is some 30 bytes for each key that ever lived; values follow from the seed and their revision and are made
//! when they are written. A tool for development: nothing that ships depends on it.
#![forbid(unsafe_code)]

mod content;
mod db;
mod entries;
mod error;
mod facts;
mod file;
mod history;
mod log;
mod names;
mod outputs;
mod random;
mod request;
mod shape;
mod values;

pub use db::db;
pub use error::GenerateError;
pub use facts::{Facts, LogFacts};
pub use log::{EntryKind, LogOptions};
pub use outputs::{DbOutput, LogOutput, Outputs, Written, db_file, log_dir};
pub use shape::{KeyShape, Preset, SCALE_ONE, Shape, ShapeError, Sweep};
