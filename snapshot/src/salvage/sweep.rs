//! All copies of every revision, in the order of the revisions.
//!
//! A revision has one value for ever, so every whole record anywhere in the files is evidence for it. The leaves of records of all
//! sources, sorted by their first revision, are merged; what lies at one revision is a [`Group`]. Nothing is kept for a revision:
//! a sweep is run once to count and once more to write.

use serde::Serialize;

/// How far a value can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Only copies that are damaged in part or that differ, or a record of which it is open whether it was deleted since.
    Suspect,
    /// One whole copy.
    Single,
    /// Two independent equal copies, or the log's word.
    Confirmed,
}

/// What a copy is worth by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Bytes of it are not there, or are no record of this revision.
    Torn,
    /// All there and possible, but a sector of it is one repeated byte, or a page in it begins as pages do: something else may
    /// have been written over a part of it.
    Doubtful,
    /// All there, and what a server writes for this revision.
    Whole,
}

/// A copy of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy<'a> {
    /// Which of the sources it lies in.
    pub source: u16,
    /// Which candidate trees reach the leaf that it lies in: bit *i* for tree *i*.
    pub trees: u16,
    /// What it is worth.
    pub state: State,
    /// Whether its key has the mark of a tombstone.
    pub is_tombstone: bool,
    /// Number of the page that its leaf says it is. Copies under one number are not independent: a file that was copied carries its
    /// damage along, and so does a page.
    pub page: u64,
    /// Where the value starts in the file, in bytes.
    pub offset: u64,
    /// The record as it stands there; of a torn one, what is there of it.
    pub value: &'a [u8],
}

/// All copies of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// The main revision.
    pub main: i64,
    /// The place within it.
    pub sub: i64,
    /// At least one; in no particular order.
    pub copies: &'a [Copy<'a>],
}
