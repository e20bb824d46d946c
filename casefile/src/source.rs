//! What a case keeps of a source as a whole: files and hashes, whose they are, how far they go, what is wrong with them.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// One thing that was added to a case under one name: a data dir, a db, a snapshot, a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its number in the case, from 0 in the order of adding.
    pub number: u32,
    /// The name it was given.
    pub name: String,
    /// The path, made absolute; links in it are not resolved. Bytes that are no UTF-8, control characters and backslashes are written as
    /// `\x` and two hexadecimal digits, here and in every other path.
    pub path: String,
    /// The log's directory, where one was given apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_dir: Option<String>,
    /// What it is: `data-dir`, `member-dir`, `database`, `snapshot`, … as `inspect` names it.
    pub what: String,
    /// Every file of it that was read or hashed, by path.
    pub files: Vec<SourceFile>,
    /// Links that the way to its files led through, named as files are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// The place of the database among [`Self::files`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<usize>,
    /// Whose it is.
    pub identity: Identity,
    /// Its key space, where there is a database that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_space: Option<KeySpace>,
    /// Its log, where there is one that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSummary>,
    /// The pages of its database, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<PageMap>,
    /// The members it knows of, by id.
    pub members: Vec<MemberRow>,
    /// The files of its `snap` directory.
    pub snaps: Vec<SnapRow>,
    /// What is to be expected of it.
    pub verdict: Verdict,
    /// What was checked, and what was not.
    pub checked: Vec<Checked>,
    /// What is wrong with it.
    pub findings: Vec<FindingRow>,
    /// How many more findings about the log there are than are listed.
    pub more_findings: u64,
    /// Whether the values lie in the case.
    pub has_values: bool,
    /// Who added it, as that person wished to be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examiner: Option<String>,
    /// What that person noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceFile {
    /// Its path from the path that was given, such as `member/snap/db`, or `../snap/db` from a `wal` directory; of a source that is one file,
    /// its name. With a log apart, `wal-dir:` and the name.
    pub path: String,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// When it was last written to, in seconds and nanoseconds since 1970, by the file system's word.
    pub modified: (i64, i64),
    /// Of a packed database: length and SHA-256 of what it was unpacked to. Offsets in citations are in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<(u64, String)>,
    /// Why it has no hash: the disk does not hand out all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// Whose files these are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The member, by its log.
    #[serde(default, with = "optional_id", skip_serializing_if = "Option::is_none")]
    pub member: Option<u64>,
    /// The cluster, by its log.
    #[serde(default, with = "optional_id", skip_serializing_if = "Option::is_none")]
    pub cluster: Option<u64>,
    /// The member's name, where some source in the files has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which version wrote the data, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_by: Option<String>,
    /// The cluster's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_version: Option<String>,
}

/// The key space of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeySpace {
    /// Records, tombstones included.
    pub records: u64,
    /// Distinct keys in them.
    pub keys: u64,
    /// Keys whose newest record is a put.
    pub live_keys: u64,
    /// Length of all values in bytes.
    pub value_bytes: u64,
    /// The first record's revision; 0 without one.
    pub first: i64,
    /// The last record's revision; 0 without one.
    pub last: i64,
    /// The revision at which a server begins: that of the last record, or of a compaction beyond it.
    pub revision: i64,
    /// Up to which revision history was compacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compacted: Option<i64>,
    /// The last raft entry that was applied.
    pub consistent_index: u64,
    /// That entry's term, where the database has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Records that are no records of a key, and could not be taken.
    pub unreadable: u64,
    /// Stretches of revisions that lie below damaged pages: the first revision that may be missing, and the first behind them (`None`:
    /// to the end).
    pub holes: Vec<(i64, Option<i64>)>,
}

impl KeySpace {
    /// Whether every record that the tree should have was read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.unreadable == 0 && self.holes.is_empty()
    }

    /// Whether some of these revisions would lie below a damaged page, so that nothing follows from their not being there.
    #[must_use]
    pub fn has_hole(&self, revisions: RangeInclusive<i64>) -> bool {
        // The first revision behind may begin below the damaged page, too.
        let meets = |(first, behind): &(i64, Option<i64>)| {
            !revisions.is_empty()
                && first <= revisions.end()
                && behind.is_none_or(|behind| *revisions.start() <= behind)
        };
        self.holes.iter().any(meets)
    }

    /// Whether `revision` would lie below a damaged page.
    #[must_use]
    pub fn is_hole(&self, revision: i64) -> bool {
        self.has_hole(revision..=revision)
    }

    /// Whether the key space at `revision` can be told from it: it reaches so far, and history is kept from there on.
    #[must_use]
    pub fn reaches(&self, revision: i64) -> bool {
        revision <= self.revision && self.compacted.is_none_or(|compacted| revision >= compacted)
    }
}

/// A log as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogSummary {
    /// Entries found, overwritten ones included.
    pub entries: u64,
    /// The index of the first entry from which entries follow without a gap up to the last, as far as a server comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The index of the last entry that a server comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The commit index of the last hard state; 0 without one.
    pub commit: u64,
    /// The term of the last hard state; 0 without one.
    pub term: u64,
    /// Which terms the entries are of that count and that a server comes to, by ascending index.
    pub terms: Vec<TermRun>,
    /// Snapshot records: index and term.
    pub snapshots: Vec<(u64, u64)>,
    /// The names of the segments, as they stand in [`Source::files`].
    pub segments: Vec<usize>,
}

/// Entries that follow each other in one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermRun {
    /// The first entry's index.
    pub first: u64,
    /// The last entry's index.
    pub last: u64,
    /// Their term.
    pub term: u64,
}

/// What the pages of a database come to; `Case::page_runs` has them one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageMap {
    /// Length of a page in bytes.
    pub page_size: u32,
    /// Pages of the file.
    pub pages: u64,
    /// Names of the buckets that [`PageUse::Leaf`] counts by; bytes that are no UTF-8 are replaced.
    pub buckets: Vec<String>,
    /// Pages that nothing reaches.
    pub free_pages: u64,
    /// Pages that are damaged, and pages of which nobody can tell for what is damaged.
    pub damaged_pages: u64,
}

/// What a run of pages is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageUse {
    /// One of the two metas.
    Meta,
    /// The list of free pages.
    Freelist,
    /// A branch, of whatever bucket, or a page of the root bucket.
    Branch,
    /// Leaves of the bucket of this number in [`PageMap::buckets`], their overflow included.
    Leaf(u32),
    /// Nothing reaches it.
    Free,
    /// It lies behind the high-water mark: the file was made longer than the database is.
    Beyond,
    /// It is damaged where something should be.
    Damaged,
    /// Nothing known reaches it, and since something is damaged that says little.
    Unknown,
}

/// Pages of one kind that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRun {
    /// The first page.
    pub first: u64,
    /// How many.
    pub pages: u64,
    /// What they are.
    pub usage: PageUse,
}

/// A member of a cluster, as a source knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberRow {
    /// Its id.
    #[serde(with = "id")]
    pub id: u64,
    /// Its name; empty where that is not known.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it replicates without a vote.
    pub is_learner: bool,
    /// Whether raft's configuration has it; `None` where that is not known.
    pub in_raft: Option<bool>,
    /// Whether the database has a row about it.
    pub in_database: bool,
}

/// A file of a `snap` directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapRow {
    /// Its place among [`Source::files`].
    pub file: usize,
    /// What its name says it is: `snap`, `database`, `broken`, `temporary`, `defrag-leftover`, `other`.
    pub kind: String,
    /// The last entry in it, by its content where that can be read, else by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// That entry's term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// What is to be expected of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// In a word, as `verify` has it: `boots-as-is`, `boots-with-loss`, `needs-repair`, `not-a-member`.
    pub outlook: String,
    /// Why, one sentence's part each.
    pub reasons: Vec<String>,
    /// The release it is about.
    pub release: String,
    /// The command to run next, without the program's name, with the path made absolute.
    pub next: String,
    /// What that is for.
    pub purpose: String,
}

/// One thing that was to be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What it is.
    pub what: String,
    /// Whether it was.
    pub done: bool,
    /// How much there was of it, or why it was not.
    pub detail: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingRow {
    /// Its code, as in `docs/findings.md`.
    pub code: String,
    /// `error` or `warning`.
    pub severity: String,
    /// What was expected and what was found.
    pub message: String,
    /// The place of the file among [`Source::files`], where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<usize>,
    /// First byte in that file it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// An id as hexadecimal text: 64 bits break many readers of JSON.
mod id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

mod optional_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(id: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => super::id::serialize(id, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| u64::from_str_radix(&text, 16).map_err(D::Error::custom)).transpose()
    }
}
