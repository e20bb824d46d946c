//! What was generated: the truth that a reader of the file must come to.

use serde::Serialize;

/// What a generated db holds. Counted while it was written, not read from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The last revision.
    pub revision: u32,
    /// The revision of the compaction, where there was one.
    pub compact_revision: Option<u32>,
    /// Pairs in bucket `key`.
    pub records: u64,
    /// Those of them that are puts.
    pub puts: u64,
    /// Those of them that are tombstones.
    pub tombstones: u64,
    /// Keys that exist at the last revision.
    pub live_keys: u64,
    /// Pairs in all buckets: the `totalKey` of etcdutl 3.5.
    pub pairs: u64,
    /// CRC-32C over all buckets' names and pairs: the `hash` of `snapshot status`.
    pub hash: u32,
    /// Leases.
    pub leases: u32,
    /// Members.
    pub members: u32,
    /// Index of the last log entry applied.
    pub consistent_index: u64,
    /// The cluster's version.
    pub cluster_version: String,
    /// Page size in bytes.
    pub page_size: u32,
    /// Length of the image in bytes, a trailer not counted.
    pub image_bytes: u64,
}

/// What a generated log holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFacts {
    /// Segments.
    pub segments: u64,
    /// Entries, from index 1 on.
    pub entries: u64,
    /// The last revision a server that replays all of them comes to.
    pub revision: u32,
    /// Keys that exist then.
    pub live_keys: u64,
    /// Bytes of all records with their frames; the last file is longer, and zero from there on.
    pub record_bytes: u64,
}
