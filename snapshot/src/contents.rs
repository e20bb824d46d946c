//! One pass over everything a db holds: etcd's status hash, the revision, the live keys (FORMATS C.7).

use std::hash::{BuildHasher, RandomState};

use bbolt::{Bucket, Db, Fault, LeafRange, Node, Source, Watch};
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rayon::prelude::*;

use crate::finding::{Finding, Severity};
use crate::mvcc::{KeyValue, Revision};
use crate::schema::KEY;

/// CRC-32C, the checksum of everything in etcd.
pub const CRC_32C: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// Where Kubernetes keeps its objects, unless told otherwise.
const REGISTRY_PREFIX: &[u8] = b"/registry/";
/// Malformed records told one by one; the rest are counted.
const MOST_FINDINGS: usize = 100;

/// What a db holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// CRC-32C over every bucket's name and its keys and values, in order: `snapshot status`'s hash.
    pub hash: u32,
    /// The last record's revision; 0 when there is none.
    pub revision: i64,
    /// Number of distinct keys whose newest record is a put: what 3.6 and later count.
    pub live_keys: u64,
    /// True when some record's key starts with `/registry/`.
    pub has_registry_keys: bool,
    /// Records that are not what they should be.
    pub findings: Vec<Finding>,
}

/// Why the pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// A page on the way is damaged; check first.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Reads all of `db`, whose structure was found sound, on all threads.
///
/// # Errors
/// When a page is damaged after all, or the user asked to stop.
pub fn read<S: Source>(db: &Db<S>, watch: &dyn Watch) -> Result<Contents, ContentsError> {
    let hasher = RandomState::new();
    let mut crc = Joined::default();
    let mut keys = KeyPart::default();
    let mut names = db.root().cursor();
    while let Some(item) = names.next()? {
        let name = item.key.to_vec();
        let Some(bucket) = names.bucket()? else { continue };
        crc.push(&Piece::of(&name));
        let is_key = name == KEY;
        for part in read_bucket(&bucket, is_key.then_some(&hasher), watch)? {
            crc.push(&part.piece);
            keys.append(part, db.source());
        }
    }
    let live_keys = keys.table.iter().filter(|entry| entry.is_live()).count() as u64;
    let mut findings = keys.findings;
    if keys.malformed > findings.len() as u64 {
        let more = keys.malformed - findings.len() as u64;
        let message = format!("{more} more records of bucket key are malformed");
        findings.push(Finding::new("ETCD-RECORD", Severity::Error, message));
    }
    Ok(Contents {
        hash: crc.value,
        revision: keys.revision.unwrap_or_default(),
        live_keys,
        has_registry_keys: keys.has_registry_keys,
        findings,
    })
}

/// What one run of leaves holds.
#[derive(Default)]
struct KeyPart {
    piece: Piece,
    revision: Option<i64>,
    table: HashTable<LastRecord>,
    has_registry_keys: bool,
    findings: Vec<Finding>,
    malformed: u64,
}

/// The newest record seen of one key: where the key stands in the file, and whether the record is a put.
#[derive(Clone, Copy)]
struct LastRecord {
    offset: u64,
    /// Length of the key in bytes, and the top bit for a put. bbolt's values are shorter than 2^31.
    len_and_live: u32,
    hash: u32,
}

const LIVE: u32 = 1 << 31;

impl LastRecord {
    fn is_live(self) -> bool {
        self.len_and_live & LIVE != 0
    }

    fn len(self) -> u64 {
        u64::from(self.len_and_live & !LIVE)
    }

    /// The 32 bits kept of the hash, spread over 64 as the table wants them.
    fn spread(self) -> u64 {
        u64::from(self.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

fn read_bucket<S: Source>(
    bucket: &Bucket<'_, S>,
    keys: Option<&RandomState>,
    watch: &dyn Watch,
) -> Result<Vec<KeyPart>, ContentsError> {
    let parts = if keys.is_some() { rayon::current_num_threads() } else { 1 };
    let ranges = bucket.leaf_ranges(parts)?;
    let read = |range: &LeafRange<'_, S>| -> Result<KeyPart, ContentsError> {
        let mut part = KeyPart::default();
        let mut crc = Digest::new(CRC_32C);
        for node in range.nodes() {
            if watch.interrupted() {
                return Err(ContentsError::Interrupted);
            }
            let node = node?;
            part.piece.len_bytes += hash_node(&mut crc, &node);
            if let Some(hasher) = keys {
                part.read_node(&node, bucket.db().source(), hasher);
            }
            watch.advance(node.len_bytes());
        }
        part.piece.crc = crc.finalize();
        Ok(part)
    };
    ranges.par_iter().map(read).collect()
}

/// Adds a leaf's keys and values to `crc`; returns their length in bytes.
fn hash_node(crc: &mut Digest, node: &Node<'_>) -> u64 {
    let has_bucket = (0..node.count()).any(|index| node.is_bucket(index));
    if let Some(pairs) = node.contiguous_pairs().filter(|_| !has_bucket) {
        crc.update(pairs);
        return pairs.len() as u64;
    }
    let mut len_bytes = 0;
    for index in 0..node.count() {
        // etcd sees a nested bucket as a key without value.
        let value = if node.is_bucket(index) { &[][..] } else { node.value(index) };
        crc.update(node.key(index));
        crc.update(value);
        len_bytes += (node.key(index).len() + value.len()) as u64;
    }
    len_bytes
}

impl KeyPart {
    fn read_node<S: Source>(&mut self, node: &Node<'_>, source: &S, hasher: &RandomState) {
        for index in 0..node.count() {
            let Some(revision) = Revision::parse(node.key(index)) else {
                let key = bbolt::fault::readable(node.key(index));
                self.malformed(node, index, &format!("key {key} is no revision"));
                continue;
            };
            self.revision = Some(revision.main);
            let record = node.value(index);
            let key = match KeyValue::decode(record) {
                Ok(kv) => kv.key,
                Err(error) => {
                    self.malformed(
                        node,
                        index,
                        &format!("revision {}/{}: {error}", revision.main, revision.sub),
                    );
                    continue;
                }
            };
            self.has_registry_keys |= key.starts_with(REGISTRY_PREFIX);
            let position = node.value_range(index).start + position_in(record, key);
            let live = if revision.tombstone { 0 } else { LIVE };
            let (Ok(len), Ok(hash)) = (u32::try_from(key.len()), u32::try_from(hasher.hash_one(key) >> 32))
            else {
                continue;
            };
            let entry =
                LastRecord { offset: node.offset() + position as u64, len_and_live: len | live, hash };
            self.put(entry, key, source);
        }
    }

    fn put<S: Source>(&mut self, new: LastRecord, key: &[u8], source: &S) {
        let same = |old: &LastRecord| {
            old.hash == new.hash
                && old.len() == new.len()
                && source.bytes(old.offset, old.len()).is_ok_and(|bytes| *bytes == *key)
        };
        match self.table.entry(new.spread(), same, |entry| entry.spread()) {
            Entry::Occupied(mut old) => *old.get_mut() = new,
            Entry::Vacant(slot) => _ = slot.insert(new),
        }
    }

    /// Adds what follows in key order.
    fn append<S: Source>(&mut self, later: Self, source: &S) {
        self.revision = later.revision.or(self.revision);
        self.has_registry_keys |= later.has_registry_keys;
        self.malformed += later.malformed;
        let room = MOST_FINDINGS.saturating_sub(self.findings.len());
        self.findings.extend(later.findings.into_iter().take(room));
        if self.table.is_empty() {
            self.table = later.table;
            return;
        }
        for entry in later.table {
            if let Ok(key) = source.bytes(entry.offset, entry.len()) {
                self.put(entry, &key, source);
            }
        }
    }

    fn malformed(&mut self, node: &Node<'_>, index: u16, what: &str) {
        self.malformed += 1;
        if self.findings.len() < MOST_FINDINGS {
            let offset = node.offset() + node.value_range(index).start as u64;
            let message = format!("page {}, element {index}: {what}", node.id());
            let finding = Finding::new("ETCD-RECORD", Severity::Error, message);
            self.findings.push(Finding { offset: Some(offset), ..finding });
        }
    }
}

/// Where `part`, a slice of `whole`, starts in it; 0 for an empty one, which may lie anywhere.
fn position_in(whole: &[u8], part: &[u8]) -> usize {
    if part.is_empty() { 0 } else { part.as_ptr().addr().saturating_sub(whole.as_ptr().addr()) }
}

/// The CRC-32C of some bytes, and how many there were: enough to join it to what stands before.
#[derive(Default)]
struct Piece {
    crc: u64,
    len_bytes: u64,
}

impl Piece {
    fn of(bytes: &[u8]) -> Self {
        let mut digest = Digest::new(CRC_32C);
        digest.update(bytes);
        Self { crc: digest.finalize(), len_bytes: bytes.len() as u64 }
    }
}

/// The CRC-32C of pieces in a row.
#[derive(Default)]
struct Joined {
    value: u32,
}

impl Joined {
    fn push(&mut self, piece: &Piece) {
        if piece.len_bytes > 0 {
            let joined = checksum_combine(CRC_32C, u64::from(self.value), piece.crc, piece.len_bytes);
            self.value = u32::try_from(joined).unwrap_or_default();
        }
    }
}
