//! What a salvage found, chose, wrote and could not find: the words of the summary, and the file that `--report` writes.
//!
//! Everything here is plain data. Numbers count records (one revision of one key each) unless they say otherwise; revisions
//! are main revisions as clients know them. Lists are bounded, with the number of what they leave out beside them.

use std::path::PathBuf;

use serde::Serialize;

use super::sweep::Trust;
use crate::finding::{Finding, Severity};

/// Most ranges, keys, holes and findings of one kind that are listed; the rest is counted.
pub const MOST_LISTED: usize = 1000;

/// All of a salvage: what was read, the ways out, which was taken, and what came of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The database files that were read, in the order they were given; those found beside others behind them.
    pub inputs: Vec<InputReport>,
    /// The logs that were read.
    pub logs: Vec<LogReport>,
    /// The trees that could be followed, newest first.
    pub trees: Vec<TreeReport>,
    /// Which of [`Self::trees`] is held to be the newest sound state: what it does not have and should have counts as foreign or
    /// compacted. `None` when no tree is left.
    pub reference: Option<usize>,
    /// All that is known to have existed, as far as it can be known.
    pub known: Known,
    /// The ways out, best first. The number of a way is its place here, from 1.
    pub ways: Vec<WayReport>,
    /// The number of the way that was taken, from 1.
    pub chosen: usize,
    /// What the way that was taken has and lacks.
    pub account: Account,
    /// The file that was written; `None` on a dry run, and when it was refused.
    pub output: Option<OutputReport>,
    /// Everything worth a complaint, with its place.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The process's exit code: 0 when nothing is missing or open to doubt, 3 otherwise. That loss was refused is an error and
    /// has its own.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let is_bad = |finding: &Finding| finding.severity == Severity::Error;
        if self.account.is_complete() && !self.findings.iter().any(is_bad) { 0 } else { 3 }
    }

    /// The way that was taken.
    #[must_use]
    pub fn chosen_way(&self) -> Option<&WayReport> {
        self.ways.get(self.chosen.checked_sub(1)?)
    }
}

/// One database file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputReport {
    /// What the user gave.
    pub path: PathBuf,
    /// The file that was read, where it is another.
    pub file: PathBuf,
    /// What it is.
    pub kind: InputKind,
    /// Length in bytes, unpacked.
    pub len_bytes: u64,
    /// Whether behind its pages there are 32 bytes more, as a snapshot's SHA-256; whether they are right was not asked.
    pub has_trailer: bool,
    /// Length of a page in bytes; 0 when no page was found.
    pub page_size: u32,
    /// True when no valid meta and no user said so.
    pub is_page_size_guessed: bool,
    /// Number of the page at offset 0; not 0 where the head of the file was cut off.
    pub first_page: u64,
    /// Pages in it, the last one perhaps not whole.
    pub pages: u64,
    /// Parts of it that were not read, since a map or the disk says that they are bad, as offsets in bytes.
    pub bad_ranges: Vec<ByteRange>,
    /// Bytes in all those parts.
    pub bad_bytes: u64,
    /// Both metas, slot 0 first.
    pub metas: Vec<MetaReport>,
    /// What every page seems to be.
    pub histogram: Histogram,
    /// Sentences on what was done to open it, or why it holds nothing.
    pub notes: Vec<String>,
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InputKind {
    /// A file: a snapshot, or a db taken from somewhere.
    File,
    /// The db of a member's directory.
    Member,
    /// A database that the member was sent and had not installed (`….snap.db`).
    Received,
    /// Bytes in memory.
    Memory,
}

/// Bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ByteRange {
    /// The first.
    pub from: u64,
    /// One past the last.
    pub to: u64,
}

/// One meta page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaReport {
    /// 0 or 1.
    pub slot: u8,
    /// The transaction that wrote it; `None` when it is not valid.
    pub transaction: Option<u64>,
    /// Root page of its tree.
    pub root_page: Option<u64>,
    /// Its high-water mark in pages.
    pub high_water_mark: Option<u64>,
    /// Why it is not valid.
    pub fault: Option<String>,
}

impl InputReport {
    /// Whether it has all pages that its metas speak of, and ends with one, or with a snapshot's hash.
    pub(crate) fn ends_whole(&self) -> bool {
        let page_size = u64::from(self.page_size.max(1));
        let most = self.metas.iter().filter_map(|meta| meta.high_water_mark).max();
        (self.has_trailer || self.len_bytes.is_multiple_of(page_size))
            && most.is_none_or(|most| most <= self.len_bytes / page_size)
    }
}

/// What the pages of a file seem to be. Each page counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// Valid metas.
    pub meta: u64,
    /// Leaves of records of keys.
    pub key_leaves: u64,
    /// Leaves of the root bucket: one a generation.
    pub root_leaves: u64,
    /// Leaves of other buckets of etcd.
    pub small_leaves: u64,
    /// Leaves of what is none of etcd's.
    pub other_leaves: u64,
    /// Branches.
    pub branches: u64,
    /// Freelists.
    pub freelists: u64,
    /// Further pages of leaves, branches and freelists.
    pub overflow: u64,
    /// Pages of one repeated byte.
    pub blank: u64,
    /// Pages that could not be read.
    pub unreadable: u64,
    /// Pages of which nothing can be said.
    pub unknown: u64,
    /// Of the leaves, those that stand where they do not say.
    pub displaced: u64,
    /// Of the leaves, those that lack a part.
    pub cut: u64,
    /// Of the key leaves, those that no tree reaches: older generations, or lost ones.
    pub unreached_key_leaves: u64,
}

/// One log.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogReport {
    /// Its directory.
    pub path: PathBuf,
    /// Index of the first entry that can be read.
    pub first_index: Option<u64>,
    /// Index of the last one that can be read.
    pub last_index: Option<u64>,
    /// Index of the last one that is known to be committed.
    pub commit_index: Option<u64>,
    /// What was found about it, one sentence each.
    pub notes: Vec<String>,
}

/// A tree that could be followed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeReport {
    /// Which of [`Report::inputs`] it is in.
    pub input: usize,
    /// How its root was found.
    pub origin: Origin,
    /// Page of its root.
    pub root_page: u64,
    /// Index of the last entry in it.
    pub consistent_index: u64,
    /// That entry's term; `None` before 3.5, and where the bucket is lost.
    pub term: Option<u64>,
    /// Revision of its last record that can be reached; 0 for none.
    pub revision: i64,
    /// The last compaction it knows of.
    pub compact_revision: Option<i64>,
    /// Leaves of records that it reaches.
    pub leaves: u64,
    /// Parts of its key space that cannot be reached.
    pub holes: Vec<HoleReport>,
    /// Those not listed.
    pub more_holes: u64,
    /// Whether all of it could be followed, every bucket.
    pub is_sound: bool,
}

/// How a tree's root was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// By the meta in force.
    NewestMeta,
    /// By the other meta.
    OtherMeta,
    /// By a root bucket's leaf that no valid meta names.
    OrphanRoot,
}

/// A part of a tree's key space that cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HoleReport {
    /// The first revision it may hold; `None`: from the beginning.
    pub from: Option<i64>,
    /// The last revision it may hold; `None`: to the end.
    pub to: Option<i64>,
    /// The page that is to blame.
    pub page: u64,
    /// What is wrong with it.
    pub fault: String,
    /// Whole records that were found for it elsewhere, and taken.
    pub filled: u64,
    /// Whether there may have been more in it than what is listed as missing. False where every revision that belongs there is
    /// accounted for.
    pub is_open: bool,
    /// Whether it is no gap of a tree but what a newer tree may have had, of which nothing is left.
    pub is_newer: bool,
}

/// All that is known to have existed, by whatever copy, tree or log says so, after compaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Records of which at least one whole copy was found and that no compaction and no newer tree speaks against.
    pub records: u64,
    /// The first revision found.
    pub first_revision: i64,
    /// The last revision that is known of, by a record, a tree or the log.
    pub last_revision: i64,
    /// The compaction that is known of: what stood at or below it may rightly be gone.
    pub compact_revision: Option<i64>,
    /// Copies of records looked at, those that are equal included.
    pub copies: u64,
    /// Revisions of which more than one copy was found.
    pub copied_revisions: u64,
    /// Revisions whose copies differ.
    pub disagreements: u64,
}

/// A way out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WayReport {
    /// Its number, from 1: what `--plan` takes.
    pub number: usize,
    /// What it is.
    pub kind: WayKind,
    /// What it is, for people: `newest meta + log`.
    pub name: String,
    /// Which of [`Report::trees`] it begins with.
    pub tree: Option<usize>,
    /// Records in it; for one with the log, those before it and those the log adds.
    pub records: u64,
    /// Its last revision.
    pub last_revision: i64,
    /// What it lacks of all that is known.
    pub loses: Losses,
    /// What else is to be known before it is chosen.
    pub notes: Vec<String>,
}

/// What a way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WayKind {
    /// The tree of the meta in force, and nothing else.
    NewestMeta,
    /// The tree of the other meta, and nothing else.
    OtherMeta,
    /// The tree of a root that no valid meta names, and nothing else.
    OrphanRoot,
    /// The reference tree, its holes filled from every whole leaf there is.
    Leaves,
    /// That, and what is newer than the reference tree.
    Carved,
    /// A sound tree, and what the log says came after it.
    TreeAndLog,
    /// Whole records up to where the log begins, and the log.
    SurvivorsAndLog,
    /// An empty store, and a log that begins with one.
    LogAlone,
}

/// What a way lacks. Less is better, in the order of the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Losses {
    /// Main revisions that certainly existed and of which it has nothing, or not all.
    pub revisions: u64,
    /// Records that were found whole and are not in it; those found torn only; and those that certainly existed and of which nothing was
    /// found, but for those of revisions that are missing as a whole.
    pub records: u64,
    /// Entries of the log that are known to be committed and are not in it.
    pub entries: u64,
    /// Parts of the key space in which it may lack records that nobody knows of.
    pub open_holes: u64,
    /// Rows or whole buckets beside the keys that are lost or rebuilt.
    pub small: u64,
    /// Records in it that may be wrong, or may rightly have been deleted.
    pub suspect: u64,
}

impl Losses {
    /// Whether something is certainly lost: what is not done without `--accept-loss`.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        self.revisions > 0 || self.records > 0 || self.entries > 0
    }

    /// Whether nothing is lost and nothing open to doubt.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        !self.is_certain() && self.open_holes == 0 && self.small == 0 && self.suspect == 0
    }
}

/// What a way has and lacks, in full.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Records in the output.
    pub records: u64,
    /// Of these: with two independent equal copies, or by the log's word.
    pub confirmed: u64,
    /// Of these: with one whole copy.
    pub single: u64,
    /// Of these: open to doubt.
    pub suspect: u64,
    /// Of these: added by the log.
    pub from_log: u64,
    /// Of these: beyond the last revision of the reference tree.
    pub beyond: u64,
    /// The first revision in the output; 0 for none.
    pub first_revision: i64,
    /// The last revision in the output; 0 for none.
    pub last_revision: i64,
    /// The compaction that the output has in its bucket `meta`.
    pub compact_revision: Option<i64>,
    /// Main revisions above the compaction that certainly existed and of which the output has nothing.
    pub missing_revisions: u64,
    /// Where these are.
    pub missing: Vec<RevisionRange>,
    /// Ranges not listed.
    pub more_missing: u64,
    /// Records that certainly existed and of which nothing was found, beside those of the missing revisions: of transactions whose other
    /// records were found, and the first of pages that a branch names.
    pub missing_records: u64,
    /// Main revisions that the output has in part: transactions that come out in half.
    pub half_revisions: Vec<i64>,
    /// Those not listed.
    pub more_half_revisions: u64,
    /// Keys that exist in the output; 0 where nothing is missing, and nobody counted.
    pub keys: u64,
    /// Of these those that were not written since the last that is missing: each may have had a newer value, or may have been deleted.
    pub exposed_keys: u64,
    /// Records above the compaction that are missing and matter to history only: a later one of the same key is there, whose version
    /// tells of them.
    pub superseded: u64,
    /// Parts of the reference tree's key space that could not be reached, and what became of them.
    pub holes: Vec<HoleReport>,
    /// Those not listed.
    pub more_holes: u64,
    /// Revisions that are lost and whose key is known: of a record that is there in part.
    pub lost_keys: Vec<LostKey>,
    /// Those not listed.
    pub more_lost_keys: u64,
    /// Records found and left out.
    pub dropped: Dropped,
    /// Records that a compaction had removed and that are in the output because that was asked for.
    pub resurrected: u64,
    /// Revisions whose copies differ, where one of them had to be chosen.
    pub disagreements: u64,
    /// The buckets beside the keys.
    pub buckets: Vec<BucketReport>,
    /// What the way loses of all that is known.
    pub loses: Losses,
}

impl Account {
    /// Whether nothing is missing and nothing open to doubt.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.loses.is_none() && self.suspect == 0 && self.missing_revisions == 0
    }

    /// Transactions that come out in half.
    #[must_use]
    pub fn halves(&self) -> u64 {
        (self.half_revisions.len() as u64).saturating_add(self.more_half_revisions)
    }
}

/// Main revisions in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionRange {
    /// The first.
    pub from: i64,
    /// The last.
    pub to: i64,
}

/// A revision that is lost and whose key is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LostKey {
    /// The key, readable.
    pub key: String,
    /// The revision that is lost.
    pub revision: i64,
    /// Its place within that revision.
    pub sub: i64,
    /// Whether it is the key's newest one as far as is known; otherwise only history is lost.
    pub is_newest: bool,
    /// The newest revision of the key in the output, which stands in for it; `None` when the key is gone.
    pub stands_in: Option<i64>,
}

/// Records that were found and are not in the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// A compaction removed them, and older pages still held them.
    pub compacted: u64,
    /// The reference tree goes further and does not have them: of another history, or damage that looks whole.
    pub foreign: u64,
    /// They are newer than the tree of the way that was taken.
    pub beyond: u64,
    /// They belong into holes that the way that was taken does not fill.
    pub unfilled: u64,
    /// Of each, only torn copies were found.
    pub torn: u64,
}

/// A bucket beside the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketReport {
    /// Its name.
    pub name: String,
    /// Rows in the output.
    pub rows: u64,
    /// Where they are from.
    pub from: BucketOrigin,
    /// Trust in its rows as a whole.
    pub trust: Trust,
    /// Rows that are known to be lost.
    pub lost_rows: u64,
    /// What is to be known of it, one sentence each.
    pub notes: Vec<String>,
}

/// Where the rows of a bucket are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BucketOrigin {
    /// The tree that the way begins with.
    Tree,
    /// Leaves, or root leaves, of an older or newer generation.
    OtherGeneration,
    /// That tree or generation, and the log.
    Log,
    /// Nothing was found; made with defaults, or empty.
    Default,
}

/// The file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputReport {
    /// Where.
    pub path: PathBuf,
    /// Length in bytes, the SHA-256 included.
    pub len_bytes: u64,
    /// SHA-256 of the bytes before it, in hexadecimal digits: what the file ends with.
    pub sha256: String,
    /// The revision that a server which starts from it has, read back.
    pub revision: i64,
    /// Keys that exist in it, read back.
    pub keys: u64,
    /// Records in it, read back.
    pub records: u64,
    /// Index of the last entry in it.
    pub consistent_index: u64,
}

/// A list that keeps its first [`MOST_LISTED`] and counts the rest.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The first.
    pub listed: Vec<T>,
    /// How many more.
    pub more: u64,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { listed: Vec::new(), more: 0 }
    }
}

impl<T> Listed<T> {
    /// Adds one.
    pub fn push(&mut self, item: T) {
        if self.listed.len() < MOST_LISTED {
            self.listed.push(item);
        } else {
            self.more += 1;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.listed.len() as u64 + self.more
    }
}
