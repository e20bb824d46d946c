//! What answers are made of: revisions and log entries, each with where it stands.

use serde::Serialize;

/// Where something stands, fit to be cited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Citation {
    /// The source's name.
    pub source: String,
    /// The file, as [`SourceFile::path`](crate::source::SourceFile::path) has it.
    pub file: String,
    /// The SHA-256 of that file, hexadecimal.
    pub sha256: String,
    /// Of a packed file: the SHA-256 of what it was unpacked to. The offset is in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpacked_sha256: Option<String>,
    /// First byte in the file: of the record in its page, or of the frame of the log.
    pub offset: u64,
    /// Bytes from there on; of an entry of the log, of its frame.
    pub len_bytes: u64,
    /// The page, in a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u64>,
}

/// A copy of a revision in one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The source's number.
    pub source: u32,
    /// Its page in the database.
    pub page: u64,
    /// File offset of the record (the protobuf message) in the database.
    pub offset: u64,
    /// Length of the record in bytes.
    pub len_bytes: u64,
    /// The record's place among those of its source, from 0.
    pub ordinal: u64,
}

/// One revision of one key, and which sources have it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRow {
    /// The key.
    pub key: Vec<u8>,
    /// The store's revision.
    pub main: i64,
    /// The operation's number within it.
    pub sub: i64,
    /// True when it deleted the key.
    pub tombstone: bool,
    /// Revision of the put that created the key; 0 in a tombstone.
    pub create_revision: i64,
    /// Number of puts since the creation, this one included; 0 in a tombstone.
    pub version: i64,
    /// The lease, or 0.
    pub lease: i64,
    /// Length of the value in bytes.
    pub value_len: u64,
    /// The first 16 bytes of the value's SHA-256; zeros in a tombstone.
    pub value_hash: [u8; 16],
    /// Who has it so, by ascending number of the source; at least one.
    pub held: Vec<Held>,
    /// True when another source has something else at this revision, whichever operation of it: the sources part here, or before.
    pub contested: bool,
    /// As a state at a revision: true when all who have it so are damaged where something newer would stand.
    pub may_be_old: bool,
}

/// What an answer says of one source, so that silence means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It was asked, and its answer is among the rows.
    Asked,
    /// It has no key space, or none that could be read.
    NoKeySpace,
    /// It was compacted beyond the revision asked for.
    Compacted {
        /// Up to which revision.
        at: i64,
    },
    /// It ends before the revision asked for.
    EndsBefore {
        /// Its last revision.
        last: i64,
    },
    /// It was asked, and part of its key space is unreadable: what is not among the rows may have been there.
    Damaged,
}

/// The life of one key across all sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The key.
    pub key: Vec<u8>,
    /// Its revisions by ascending revision; what two sources have differently is two rows.
    pub steps: Vec<RevisionRow>,
    /// Entries of the logs that name the key, a range it is in, or revoke a lease it had, by source and index.
    pub log: Vec<LogRow>,
    /// Each source by its number, and how far it can tell.
    pub standings: Vec<(u32, Standing)>,
}

/// Keys that an entry of the log names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The key, or the first key of the range.
    pub key: Vec<u8>,
    /// Empty for the key alone; `\0` for all keys from the first on; else the key after the last.
    pub range_end: Vec<u8>,
}

/// What became of an entry of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryStanding {
    /// A server that reads the log has it.
    Counts,
    /// A later entry of the same log took its place.
    Overwritten,
    /// It stands where no server comes to: behind a break or a length word of zero.
    OutOfReach,
}

/// One entry of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// The source's number.
    pub source: u32,
    /// Its place in the log.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// What it asks for, in a word: `put`, `delete_range`, `txn`, `compaction`, `conf_change`, `nothing`, …
    pub kind: String,
    /// Whether it counts.
    pub standing: EntryStanding,
    /// Whether it counts and the last hard state of its log says that it is committed.
    pub committed: bool,
    /// The keys it names: written, read or compared.
    pub touched: Vec<Touched>,
    /// The leases it names.
    pub leases: Vec<i64>,
    /// The v2 paths it names.
    pub paths: Vec<Vec<u8>>,
    /// The revision that a compaction is up to.
    pub compacts: Option<i64>,
    /// The place of the segment among the source's files.
    pub file: usize,
    /// File offset of the frame.
    pub offset: u64,
    /// Length of the frame in bytes.
    pub len_bytes: u64,
}

/// The key space at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The revision.
    pub revision: i64,
    /// Each source by its number, and whether it could be asked.
    pub standings: Vec<(u32, Standing)>,
    /// How many keys had a value, by at least one source.
    pub keys: u64,
    /// How many of them some source that was asked has otherwise, or not at all.
    pub contested: u64,
    /// How many rows may not be the newest, for damage.
    pub may_be_old: u64,
}

/// Why a revision is in one source only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parting {
    /// The other source ends before it.
    Tail,
    /// The other source reaches beyond it and has it not: it is missing there, or was never part of its history.
    Missing,
    /// The other source has it not, and is damaged where it would be: nobody can tell.
    Unreadable,
    /// Both have a revision of this number, and they differ.
    Differs,
}

/// One difference between two sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffRow {
    /// What the first has.
    pub a: Option<RevisionRow>,
    /// What the second has.
    pub b: Option<RevisionRow>,
    /// Why.
    pub parting: Parting,
}

/// In what two sources differ, as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// From which revision on both have their history; before it only what was kept at that revision is compared.
    pub from: i64,
    /// The last revision both reach.
    pub to: i64,
    /// Revisions that are in both and the same.
    pub same: u64,
    /// Differences behind the end of one of them.
    pub tail: u64,
    /// Revisions that one has and the other lacks.
    pub missing: u64,
    /// Revisions that one has, and that would lie where the other is damaged.
    pub unreadable: u64,
    /// Revisions that differ.
    pub differs: u64,
    /// The first revision that is missing in one or differs, where there is one: there they part.
    pub part: Option<i64>,
    /// The ids of their clusters, where these differ: their revisions and entries are numbered apart.
    pub clusters: Option<(u64, u64)>,
    /// The first entry that both logs have in different terms: index, term in the first, term in the second.
    pub log_part: Option<(u64, u64, u64)>,
    /// Entries that the logs share: first and last index that both have in the same term.
    pub log_common: Option<(u64, u64)>,
}
