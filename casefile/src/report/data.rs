//! What a report shows, as plain values: a report is a function of these and of nothing else.

use crate::case::Command;
use crate::custody::SealState;
use crate::rows::Diff;
use crate::source::{PageRun, Source};

/// All that a report shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data {
    /// The case itself.
    pub case: CaseFacts,
    /// What was put into it, in the order of adding.
    pub sources: Vec<Examined>,
    /// How sources compare, in pairs.
    pub partings: Vec<Pair>,
}

/// The case itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseFacts {
    /// The name of the case file.
    pub name: String,
    /// The version of its schema.
    pub schema: u32,
    /// The program that wrote the report, with its version.
    pub tool: String,
    /// Commands that changed the case, oldest first.
    pub commands: Vec<Command>,
    /// The last seal, when there is one.
    pub seal: Option<Seal>,
}

/// A seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The SHA-256 of its manifest, in hexadecimal.
    pub sha256: String,
    /// What it comes to now.
    pub state: SealState,
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// What the case keeps of it as a whole.
    pub source: Source,
    /// Which of its database's pages is whose, in the order of the file.
    pub pages: Vec<PageRun>,
    /// Its key space by prefix.
    pub space: Vec<Prefix>,
    /// How many records it has by revision, ascending.
    pub history: Vec<Bin>,
}

/// Keys that begin alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix {
    /// How they begin; for [`Prefix::is_rest`] what is left over, in words.
    pub name: String,
    /// Whether this is all that is too small to be named.
    pub is_rest: bool,
    /// Keys that are there at the last revision.
    pub live_keys: u64,
    /// Bytes of the records that are in force: those of keys and values.
    pub live_bytes: u64,
    /// Records that are superseded, and deletions.
    pub history_records: u64,
    /// Bytes of those.
    pub history_bytes: u64,
    /// The same by longer prefixes, one level of them; empty where there are none.
    pub below: Vec<Prefix>,
}

/// Records of one stretch of revisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bin {
    /// First revision of the stretch.
    pub first: i64,
    /// Last revision of it.
    pub last: i64,
    /// Records in it.
    pub records: u64,
}

/// How two sources compare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pair {
    /// The name of the one.
    pub one: String,
    /// The name of the other.
    pub other: String,
    /// In what they differ.
    pub diff: Diff,
    /// Some of the revisions that differ or that one of them lacks within what both cover, ascending.
    pub samples: Vec<Sample>,
}

/// One revision in two sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// The revision.
    pub main: i64,
    /// The operation within it.
    pub sub: i64,
    /// In the one source.
    pub one: Option<Version>,
    /// In the other.
    pub other: Option<Version>,
}

/// What a source holds at a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// The key.
    pub key: Vec<u8>,
    /// Whether it is a deletion.
    pub deleted: bool,
    /// The version of the key.
    pub version: i64,
    /// The length of the value.
    pub value_len: u64,
    /// The beginning of the value's SHA-256, in hexadecimal.
    pub value_hash: Option<String>,
    /// The value, where it can be had.
    pub value: Option<Vec<u8>>,
    /// Where it stands: file and offset.
    pub place: String,
}

impl Examined {
    /// The length of its database in bytes; of a packed one, unpacked.
    #[must_use]
    pub fn database_bytes(&self) -> Option<u64> {
        let file = self.source.files.get(self.source.database?)?;
        Some(file.unpacked.as_ref().map_or(file.len_bytes, |(len, _)| *len))
    }
}
