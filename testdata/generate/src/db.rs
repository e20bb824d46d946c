//! The db of a history: all buckets a server has, in one pass.

use bbolt::build::PageWriter;
use bbolt::{Build, BuildOptions, Watch};
use crc_fast::{CrcAlgorithm, Digest};
use prost::Message;
use snapshot::membership::hex_id;
use snapshot::mvcc::Revision;
use snapshot::schema;
use snapshot::target::TargetVersion;

use crate::content::{Cluster, Content, LEASE_TTL_S, LeaseRow, Put};
use crate::entries;
use crate::error::GenerateError;
use crate::facts::Facts;
use crate::history::{History, Op};
use crate::names::Names;
use crate::random::{Random, purpose};
use crate::shape::Shape;

/// Authentication was never on: servers write this row when they start.
const AUTH_REVISION: &[u8] = b"authRevision";
/// Stale records are gathered until they make a run of this many bytes at least, and then become free pages at once.
const SHORTEST_RUN_BYTES: u32 = 8 << 10;
/// What may come on top of it, in bytes.
const RUN_SPREAD_BYTES: u32 = 248 << 10;

/// Writes the db of `shape` to `writer`, as an image without trailer.
///
/// # Errors
/// [`GenerateError`]. Nothing that opens as a db was written then: metas come last.
pub fn db<W: PageWriter>(shape: &Shape, writer: W, watch: &dyn Watch) -> Result<Facts, GenerateError> {
    shape.validate()?;
    let cluster = Cluster::new(shape.members)?;
    let content = Content::new(shape);
    let options = BuildOptions { page_size: shape.page_size, ..BuildOptions::default() };
    let mut out =
        Rows { build: Build::new(writer, options)?, hash: Digest::new(CrcAlgorithm::Crc32Iscsi), pairs: 0 };
    let version = shape.written_by;
    let cluster_version = format!("3.{}.0", version.minor());

    out.bucket(schema::ALARM, &[])?;
    out.bucket(schema::AUTH, &[(AUTH_REVISION.to_vec(), 1_u64.to_be_bytes().to_vec())])?;
    out.bucket(schema::AUTH_ROLES, &[])?;
    out.bucket(schema::AUTH_USERS, &[])?;
    out.bucket(schema::CLUSTER, &[(schema::CLUSTER_VERSION.to_vec(), cluster_version.clone().into_bytes())])?;
    watch.begin("writing", expected_bytes(shape));
    let key = out.keys(shape, &content, watch)?;
    out.begin(schema::LEASE)?;
    for number in 0..content.leases() {
        go_on(watch)?;
        let id = content.lease_id(number);
        out.put(&id.to_be_bytes(), &LeaseRow { id, ttl: LEASE_TTL_S }.encode_to_vec())?;
    }
    out.build.end_bucket()?;
    let mut members: Vec<_> =
        cluster.members.iter().map(|member| (hex_id(member.id).into_bytes(), member.to_json())).collect();
    members.sort();
    out.bucket(schema::MEMBERS, &members)?;
    out.bucket(schema::MEMBERS_REMOVED, &[])?;
    let consistent_index = entries::last_index(shape, key.revision);
    out.bucket(schema::META, &meta_rows(version, &cluster, consistent_index, key.compact_revision))?;

    let [.., a, b, c, d] = out.hash.finalize().to_be_bytes();
    let built = out.build.finish()?;
    Ok(Facts {
        revision: key.revision,
        compact_revision: key.compact_revision,
        records: key.puts + key.tombstones,
        puts: key.puts,
        tombstones: key.tombstones,
        live_keys: key.live_keys,
        pairs: out.pairs,
        hash: u32::from_be_bytes([a, b, c, d]),
        leases: content.leases(),
        members: shape.members,
        consistent_index,
        cluster_version,
        page_size: shape.page_size,
        image_bytes: built.len_bytes,
    })
}

/// The error of a job that is to stop.
pub(crate) fn go_on(watch: &dyn Watch) -> Result<(), GenerateError> {
    if watch.interrupted() { Err(GenerateError::Interrupted) } else { Ok(()) }
}

/// About how many bytes of records a shape has, stale ones included.
pub(crate) fn expected_bytes(shape: &Shape) -> u64 {
    let puts = u64::from(shape.records.saturating_sub(shape.deletes));
    puts * expected_record_bytes(shape)
}

/// About how many bytes of record a put has.
pub(crate) fn expected_record_bytes(shape: &Shape) -> u64 {
    const AROUND_KEY_AND_VALUE: u64 = 40;
    u64::from(shape.value_mean_bytes) + Names::new(shape).expected_bytes() + AROUND_KEY_AND_VALUE
}

/// The rows of bucket `meta`, ascending.
fn meta_rows(
    version: TargetVersion,
    cluster: &Cluster,
    consistent_index: u64,
    compact_revision: Option<u32>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let compact =
        compact_revision.map(|main| Revision { main: i64::from(main), sub: 0, tombstone: false }.encode());
    let mut rows = Vec::new();
    let mut row = |key: &[u8], value: Vec<u8>| rows.push((key.to_vec(), value));
    if version >= TargetVersion::V3_5 {
        let voters: Vec<String> = cluster.ids().iter().map(u64::to_string).collect();
        row(
            schema::CONF_STATE,
            format!("{{\"voters\":[{}],\"auto_leave\":false}}", voters.join(",")).into_bytes(),
        );
    }
    row(schema::CONSISTENT_INDEX, consistent_index.to_be_bytes().to_vec());
    if let Some(revision) = compact {
        row(schema::FINISHED_COMPACT, revision.clone());
        row(schema::SCHEDULED_COMPACT, revision);
    }
    if version >= TargetVersion::V3_6 {
        row(schema::STORAGE_VERSION, format!("3.{}.0", version.minor()).into_bytes());
    }
    if version >= TargetVersion::V3_5 {
        row(schema::TERM, entries::TERM.to_be_bytes().to_vec());
    }
    rows
}

/// What bucket `key` came to.
struct KeyBucket {
    revision: u32,
    compact_revision: Option<u32>,
    puts: u64,
    tombstones: u64,
    live_keys: u64,
}

/// Rows on their way into the file.
struct Rows<W: PageWriter> {
    build: Build<W>,
    hash: Digest,
    pairs: u64,
}

impl<W: PageWriter> Rows<W> {
    fn begin(&mut self, name: &[u8]) -> Result<(), GenerateError> {
        self.hash.update(name);
        Ok(self.build.begin_bucket(name)?)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), GenerateError> {
        self.hash.update(key);
        self.hash.update(value);
        self.pairs += 1;
        Ok(self.build.put(key, value)?)
    }

    fn bucket(&mut self, name: &[u8], rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), GenerateError> {
        self.begin(name)?;
        for (key, value) in rows {
            self.put(key, value)?;
        }
        Ok(self.build.end_bucket()?)
    }

    /// Bucket `key`. After a compaction only the newest put of each live key is kept, and the tombstones of the
    /// compaction's own revision, as newer releases do (FORMATS C.4); what it removed lies in free pages.
    fn keys(
        &mut self,
        shape: &Shape,
        content: &Content,
        watch: &dyn Watch,
    ) -> Result<KeyBucket, GenerateError> {
        let mut ops = Vec::new();
        let outcome = if shape.compacted {
            let mut history = History::new(shape);
            while history.next(&mut ops).is_some() {
                go_on(watch)?;
            }
            Some(history)
        } else {
            None
        };
        let compact_revision = outcome.as_ref().map(History::main);
        let mut history = History::new(shape);
        let mut stale = Stale::new(shape.seed);
        let (mut puts, mut tombstones) = (0, 0);
        let (mut scratch, mut record) = (Vec::new(), Vec::new());
        self.begin(schema::KEY)?;
        while history.next(&mut ops).is_some() {
            let main = history.main();
            for (op, sub) in ops.iter().zip(0..) {
                go_on(watch)?;
                let (kept, tombstone) = match *op {
                    Op::Put { key, created, version, .. } => {
                        content.put_record(
                            Put { key, created, main, sub, version },
                            &mut scratch,
                            &mut record,
                        );
                        (outcome.as_ref().is_none_or(|outcome| outcome.is_newest(key, main, sub)), false)
                    }
                    Op::Delete { key, .. } => {
                        content.tombstone_record(key, &mut record);
                        (compact_revision.is_none_or(|revision| revision == main), true)
                    }
                };
                let revision = Revision { main: i64::from(main), sub: i64::from(sub), tombstone }.encode();
                watch.advance(u64::try_from(record.len()).unwrap_or_default());
                if kept {
                    self.put(&revision, &record)?;
                    puts += u64::from(!tombstone);
                    tombstones += u64::from(tombstone);
                } else if stale.push(&revision, &record) {
                    stale.free(&revision, &mut self.build)?;
                }
            }
        }
        let beyond = Revision { main: i64::from(history.main()) + 1, sub: 0, tombstone: false }.encode();
        stale.free(&beyond, &mut self.build)?;
        self.build.end_bucket()?;
        let live_keys = u64::try_from(history.live_keys()).unwrap_or(u64::MAX);
        Ok(KeyBucket { revision: history.main(), compact_revision, puts, tombstones, live_keys })
    }
}

/// Records that a compaction removed, until they make a run of pages.
struct Stale {
    random: Random,
    bytes: Vec<u8>,
    /// Lengths of each key and value in `bytes`.
    lens: Vec<(usize, usize)>,
    run_bytes: usize,
}

impl Stale {
    fn new(seed: u64) -> Self {
        let mut stale = Self {
            random: Random::new(seed, purpose::FREE_RUNS),
            bytes: Vec::new(),
            lens: Vec::new(),
            run_bytes: 0,
        };
        stale.restart();
        stale
    }

    fn restart(&mut self) {
        self.bytes.clear();
        self.lens.clear();
        let run = SHORTEST_RUN_BYTES + self.random.below(RUN_SPREAD_BYTES);
        self.run_bytes = usize::try_from(run).unwrap_or_default();
    }

    /// True when there is enough for a run.
    fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.lens.push((key.len(), value.len()));
        self.bytes.len() >= self.run_bytes
    }

    /// Writes the records to pages of a bucket that is given up, so that the pages are free and still hold them. Its
    /// name has to follow all keys that were put and to precede all that will be.
    fn free<W: PageWriter>(&mut self, name: &[u8], build: &mut Build<W>) -> Result<(), GenerateError> {
        build.begin_bucket(name)?;
        let mut rest = self.bytes.as_slice();
        for (key_bytes, value_bytes) in &self.lens {
            let (key, after) = rest.split_at_checked(*key_bytes).unwrap_or_default();
            let (value, after) = after.split_at_checked(*value_bytes).unwrap_or_default();
            build.put(key, value)?;
            rest = after;
        }
        build.discard_bucket()?;
        self.restart();
        Ok(())
    }
}
