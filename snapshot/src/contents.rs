//! One pass over everything a db holds: etcd's status hash, the revision, the live keys (FORMATS C.7).

use bbolt::bucket::Root;
use bbolt::check::{MOST_RUNS, Visit, check_visiting};
use bbolt::{Bucket, Db, Fault, LeafRange, Node, PageId, Source, Unmetered, Watch};
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};
use rayon::prelude::*;

use crate::finding::Finding;
use crate::mvcc::{BadRecords, KeyValue, Revision};
use crate::newest::{Batch, Newest};
use crate::schema::KEY;
use crate::structure::{self, Interrupted, is_damaged};

/// CRC-32C, the checksum of everything in etcd.
pub const CRC_32C: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// Where Kubernetes keeps its objects, unless told otherwise.
const REGISTRY_PREFIX: &[u8] = b"/registry/";

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
    join(db, &Reading::new(), Vec::new(), watch)
}

/// Checks the structure of `db` and reads all of it, in the same pass where that can be done, else in two. There are no
/// contents when a finding says that the structure is damaged.
///
/// `watch` hears of the bytes of all pages.
///
/// # Errors
/// When the user asked to stop.
pub(crate) fn check_and_read<S: Source>(
    db: &Db<S>,
    watch: &dyn Watch,
) -> Result<(Vec<Finding>, Option<Contents>), Interrupted> {
    let reading = Reading::new();
    let visited = check_visiting(db, watch, &reading);
    let mut findings = structure::findings(&visited.report)?;
    if is_damaged(&findings) {
        return Ok((findings, None));
    }
    let contents = match visited.buckets {
        Some(buckets) => join(db, &reading, buckets, &Unmetered(watch)),
        None => {
            drop(reading);
            read(db, &Unmetered(watch))
        }
    };
    match contents {
        Ok(contents) => Ok((findings, Some(contents))),
        Err(ContentsError::Interrupted) => Err(Interrupted),
        Err(ContentsError::Fault(fault)) => {
            findings.push(structure::of_fault(&fault));
            Ok((findings, None))
        }
    }
}

/// Puts together what runs of leaves came to, and reads the buckets that have none in `visited`, which is in order of names.
fn join<S: Source>(
    db: &Db<S>,
    reading: &Reading,
    visited: Vec<(PageId, Vec<Run>)>,
    watch: &dyn Watch,
) -> Result<Contents, ContentsError> {
    let mut visited = visited.into_iter().peekable();
    let mut crc = Piece::default();
    let mut records = Records::default();
    let mut names = db.root().cursor();
    while let Some(item) = names.next()? {
        let name = item.key.to_vec();
        let Some(bucket) = names.bucket()? else { continue };
        crc = crc.followed_by(Piece::of(&name));
        let was_visited =
            |(root, _): &(PageId, Vec<Run>)| matches!(bucket.root(), Root::Page(id) if id == root);
        let runs = match visited.next_if(was_visited) {
            Some((_, runs)) => runs,
            None => read_bucket(&bucket, &name, reading, watch)?,
        };
        // Joining two costs some microseconds; that of hundreds is shared.
        crc =
            crc.followed_by(runs.par_iter().map(|run| run.piece).reduce(Piece::default, Piece::followed_by));
        for run in runs {
            records.append(run.records);
        }
    }
    Ok(Contents {
        hash: crc.crc(),
        revision: records.revision.unwrap_or_default(),
        live_keys: reading.keys.live(),
        has_registry_keys: records.has_registry_keys,
        findings: records.bad.into_findings(),
    })
}

fn read_bucket<S: Source>(
    bucket: &Bucket<'_, S>,
    name: &[u8],
    reading: &Reading,
    watch: &dyn Watch,
) -> Result<Vec<Run>, ContentsError> {
    let kind = reading.bucket(name);
    let parts = match kind {
        Kind::Records => rayon::current_num_threads().min(usize::from(MOST_RUNS)),
        Kind::Other => 1,
    };
    let read = |(number, range): (usize, &LeafRange<'_, S>)| -> Result<Run, ContentsError> {
        // There are fewer ranges than fit.
        let mut run = reading.begin(kind, u16::try_from(number).unwrap_or_default());
        for node in range.nodes() {
            if watch.interrupted() {
                return Err(ContentsError::Interrupted);
            }
            let node = node?;
            reading.leaf(&mut run, &node);
            watch.advance(node.len_bytes());
        }
        reading.end(&mut run);
        Ok(run)
    };
    bucket.leaf_ranges(parts)?.par_iter().enumerate().map(read).collect()
}

/// What a bucket holds, as far as this pass asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Revisions of the key space.
    Records,
    Other,
}

/// One pass over a db, on all threads.
struct Reading {
    keys: Newest,
}

/// One run of leaves under way, and what it came to.
struct Run {
    crc: Digest,
    piece: Piece,
    batch: Option<Batch>,
    records: Records,
}

/// What is known of the records of some leaves.
#[derive(Default)]
struct Records {
    revision: Option<i64>,
    has_registry_keys: bool,
    bad: BadRecords,
}

impl Reading {
    fn new() -> Self {
        Self { keys: Newest::new() }
    }
}

impl Visit for Reading {
    type Bucket = Kind;
    type Run = Run;

    fn bucket(&self, name: &[u8]) -> Kind {
        if name == KEY { Kind::Records } else { Kind::Other }
    }

    fn begin(&self, bucket: Kind, number: u16) -> Run {
        let batch = (bucket == Kind::Records).then(|| self.keys.begin(number));
        Run { crc: Digest::new(CRC_32C), piece: Piece::default(), batch, records: Records::default() }
    }

    fn leaf(&self, run: &mut Run, leaf: &Node<'_>) {
        run.piece.len_bytes += hash_node(&mut run.crc, leaf);
        if let Some(batch) = &mut run.batch {
            run.records.read_node(leaf, &self.keys, batch);
        }
    }

    fn end(&self, run: &mut Run) {
        run.piece.crc = run.crc.finalize();
        if let Some(batch) = run.batch.take() {
            self.keys.end(batch);
        }
    }
}

/// Adds a leaf's keys and values to `crc`; returns their length in bytes.
pub(crate) fn hash_node(crc: &mut Digest, node: &Node<'_>) -> u64 {
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

impl Records {
    fn read_node(&mut self, node: &Node<'_>, keys: &Newest, batch: &mut Batch) {
        for index in 0..node.count() {
            let Some(revision) = Revision::parse(node.key(index)) else {
                let key = bbolt::fault::readable(node.key(index));
                self.bad.malformed(node, index, &format!("key {key} is no revision"));
                continue;
            };
            self.revision = Some(revision.main);
            match KeyValue::decode(node.value(index)) {
                Ok(kv) => {
                    self.has_registry_keys |= kv.key.starts_with(REGISTRY_PREFIX);
                    keys.add(batch, kv.key, !revision.tombstone);
                }
                Err(error) => {
                    let what = format!("revision {}/{}: {error}", revision.main, revision.sub);
                    self.bad.malformed(node, index, &what);
                }
            }
        }
    }

    /// Adds what follows in key order.
    fn append(&mut self, later: Self) {
        self.revision = later.revision.or(self.revision);
        self.has_registry_keys |= later.has_registry_keys;
        self.bad.append(later.bad);
    }
}

/// The CRC-32C of some bytes, and how many there were: enough to join it to what stands before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Piece {
    crc: u64,
    len_bytes: u64,
}

impl Piece {
    /// What `digest`, which took `len_bytes`, came to.
    pub(crate) fn new(digest: &Digest, len_bytes: u64) -> Self {
        Self { crc: digest.finalize(), len_bytes }
    }

    /// The CRC-32C of these bytes.
    pub(crate) fn crc(self) -> u32 {
        // The algorithm is 32 bits wide: nothing is cut off.
        u32::try_from(self.crc).unwrap_or_default()
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digest = Digest::new(CRC_32C);
        digest.update(bytes);
        Self { crc: digest.finalize(), len_bytes: bytes.len() as u64 }
    }

    /// Both in a row.
    pub(crate) fn followed_by(self, next: Self) -> Self {
        match (self.len_bytes, next.len_bytes) {
            (0, _) => next,
            (_, 0) => self,
            (len_bytes, more) => Self {
                crc: checksum_combine(CRC_32C, self.crc, next.crc, more),
                len_bytes: len_bytes.saturating_add(more),
            },
        }
    }
}
