//! The log of a history: the requests whose replay makes the store that the db holds.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bbolt::Watch;
use prost::Message;
use snapshot::membership::{Member, hex_id};
use snapshot::stage::{FILE_MODE, Kind, Stage};
use snapshot::target::TargetVersion;
use wal::raftpb::{ConfChange, ConfChangeType, Entry, EntryType, HardState};
use wal::{LogWriter, Metadata, SEGMENT_SIZE_BYTES};

use crate::content::{Cluster, Content, LEASE_TTL_S};
use crate::db::expected_bytes;
use crate::entries::{BOOT_TERM, TERM};
use crate::error::GenerateError;
use crate::facts::LogFacts;
use crate::history::{History, How, Op};
use crate::random::{Random, purpose};
use crate::request::{
    Attributes, ClusterVersionSet, Compaction, CompareModRevision, DeleteRange, Header, LeaseGrant,
    MemberAttributesSet, Op as RequestedOp, Put, Range, Request, RequestOp, Txn, V2Request,
};
use crate::shape::Shape;

/// Entries that a server saves together at most, a hard state behind them.
const LARGEST_BATCH: u32 = 8;
/// One in this many single operations is a plain request; the others are transactions that compare the key's
/// revision, as Kubernetes sends them.
const PLAIN: u32 = 4;

/// How a log is cut.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// A segment is cut once it has this many bytes; 64,000,000 by default, as etcd does.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_SIZE_BYTES }
    }
}

/// Writes the log of `shape` to the directory `dir`, which must not exist or be empty, as the member with the least ID
/// would have it that led from the first election on. It is complete: a server that has nothing else replays all of
/// it.
///
/// # Errors
/// [`GenerateError`]; nothing is left behind then.
pub fn log_dir(
    shape: &Shape,
    dir: &Path,
    options: LogOptions,
    watch: &dyn Watch,
) -> Result<LogFacts, GenerateError> {
    shape.validate()?;
    if !(1 << 12..=1 << 34).contains(&options.segment_bytes) {
        return Err(GenerateError::SegmentBytes { given: options.segment_bytes });
    }
    let cluster = Cluster::new(shape.members)?;
    let stage = Stage::new(dir, Kind::Dir)?;
    watch.begin("writing the log", expected_bytes(shape));
    let mut out = Segments::new(&stage, &cluster, options)?;
    out.members(&cluster, shape.written_by)?;
    let content = Content::new(shape);
    for number in 0..content.leases() {
        let grant = LeaseGrant { ttl: LEASE_TTL_S, id: content.lease_id(number) };
        out.request(Request { lease_grant: Some(grant), ..Request::default() })?;
    }
    let mut history = History::new(shape);
    let mut random = Random::new(shape.seed, purpose::REQUESTS);
    let mut ops = Vec::new();
    while let Some(how) = history.next(&mut ops) {
        if watch.interrupted() {
            return Err(GenerateError::Interrupted);
        }
        let written = out.request(revision(&content, &ops, how, history.main(), &mut random))?;
        watch.advance(written);
    }
    if shape.compacted {
        let compaction = Compaction { revision: i64::from(history.main()), physical: false };
        out.request(Request { compaction: Some(compaction), ..Request::default() })?;
    }
    let facts = out.finish(&history)?;
    stage.commit(None)?;
    Ok(facts)
}

/// The request that made a revision.
fn revision(content: &Content, ops: &[Op], how: How, main: u32, random: &mut Random) -> Request {
    let op = |op: &Op, sub: u32| match *op {
        Op::Put { key, version, .. } => {
            let mut value = Vec::new();
            content.push_value(key, version, main, sub, &mut value);
            RequestedOp::Put(Put { key: content.name(key), value, lease: content.lease_of(key) })
        }
        Op::Delete { key, .. } => {
            RequestedOp::DeleteRange(DeleteRange { key: content.name(key), range_end: Vec::new() })
        }
    };
    match (ops, how) {
        ([first, .., last], How::RangeDelete) => {
            let mut range_end = content.name(last.key());
            // The end is not part of the range, and nothing lies between a key and itself with a zero byte.
            range_end.push(0);
            let delete = DeleteRange { key: content.name(first.key()), range_end };
            Request { delete_range: Some(delete), ..Request::default() }
        }
        ([single], _) if random.below(PLAIN) == 0 => match op(single, 0) {
            RequestedOp::Put(put) => Request { put: Some(put), ..Request::default() },
            RequestedOp::DeleteRange(delete) => Request { delete_range: Some(delete), ..Request::default() },
            range @ RequestedOp::Range(_) => transaction(Vec::new(), vec![range], Vec::new()),
        },
        ([single], _) => {
            let key = content.name(single.key());
            let compare = CompareModRevision::equals(key.clone(), i64::from(single.previous()));
            transaction(vec![compare], vec![op(single, 0)], vec![RequestedOp::Range(Range { key })])
        }
        (many, _) => {
            let ops = many.iter().zip(0..).map(|(one, sub)| op(one, sub)).collect();
            transaction(Vec::new(), ops, Vec::new())
        }
    }
}

fn transaction(
    compare: Vec<CompareModRevision>,
    success: Vec<RequestedOp>,
    failure: Vec<RequestedOp>,
) -> Request {
    let ops = |ops: Vec<RequestedOp>| ops.into_iter().map(|op| RequestOp { op: Some(op) }).collect();
    Request { txn: Some(Txn { compare, success: ops(success), failure: ops(failure) }), ..Request::default() }
}

/// The segments of a log, one after the other.
struct Segments<'a> {
    stage: &'a Stage,
    options: LogOptions,
    log: LogWriter,
    file: BufWriter<File>,
    node_id: u64,
    index: u64,
    term: u64,
    /// Entries since the last hard state, and how many there are to be.
    batch: u32,
    batch_end: u32,
    random: Random,
    segments: u64,
    record_bytes: u64,
}

impl<'a> Segments<'a> {
    fn new(stage: &'a Stage, cluster: &Cluster, options: LogOptions) -> Result<Self, GenerateError> {
        let node_id = cluster.own_id();
        let log = LogWriter::new(Metadata { node_id: Some(node_id), cluster_id: Some(cluster.id) });
        let file = BufWriter::new(stage.create_file(log.segment_name(), FILE_MODE)?);
        let random = Random::new(node_id, purpose::BATCHES);
        Ok(Self {
            stage,
            options,
            log,
            file,
            node_id,
            index: 0,
            term: BOOT_TERM,
            batch: 0,
            batch_end: 1,
            random,
            segments: 1,
            record_bytes: 0,
        })
    }

    /// The entries of a cluster's first second.
    fn members(&mut self, cluster: &Cluster, version: TargetVersion) -> Result<(), GenerateError> {
        for member in &cluster.members {
            let member = Member { client_urls: Vec::new(), ..member.clone() };
            let change = ConfChange {
                id: Some(0),
                change_type: Some(ConfChangeType::AddNode.into()),
                node_id: Some(member.id),
                context: Some(member.to_json()),
            };
            self.entry(EntryType::ConfChange, Some(change.encode_to_vec()))?;
        }
        self.hard_state()?;
        self.term = TERM;
        self.entry(EntryType::Normal, None)?;
        self.hard_state()?;
        let cluster_version = format!("3.{}.0", version.minor());
        if version >= TargetVersion::V3_6 {
            for member in &cluster.members {
                let attributes =
                    Attributes { name: member.name.clone(), client_urls: member.client_urls.clone() };
                let set = MemberAttributesSet { member_id: member.id, attributes: Some(attributes) };
                self.request(Request { member_attributes_set: Some(set), ..Request::default() })?;
            }
            let set = ClusterVersionSet { version: cluster_version };
            self.request(Request { cluster_version_set: Some(set), ..Request::default() })?;
            return Ok(());
        }
        for member in &cluster.members {
            let path = format!("/0/members/{}/attributes", hex_id(member.id));
            let json = String::from_utf8_lossy(&member.attributes_json()).into_owned();
            self.v2_put(path, json)?;
        }
        self.v2_put("/0/version".to_owned(), cluster_version)
    }

    fn v2_put(&mut self, path: String, value: String) -> Result<(), GenerateError> {
        let request = V2Request::put(self.request_id(), path, value);
        self.entry(EntryType::Normal, Some(request.encode_to_vec()))
    }

    /// An entry with a request; returns its length in bytes.
    fn request(&mut self, request: Request) -> Result<u64, GenerateError> {
        let header = Some(Header { id: self.request_id() });
        let data = Request { header, ..request }.encode_to_vec();
        let len = u64::try_from(data.len()).unwrap_or_default();
        self.entry(EntryType::Normal, Some(data))?;
        Ok(len)
    }

    /// As servers number requests: some of the member's ID, then a counter.
    fn request_id(&self) -> u64 {
        self.node_id << 48 | (self.index + 1)
    }

    fn entry(&mut self, entry_type: EntryType, data: Option<Vec<u8>>) -> Result<(), GenerateError> {
        self.index += 1;
        self.log.push_entry(&Entry {
            entry_type: Some(entry_type.into()),
            term: Some(self.term),
            index: Some(self.index),
            data,
        });
        self.batch += 1;
        if self.batch >= self.batch_end {
            self.hard_state()?;
        }
        Ok(())
    }

    /// Ends a batch as servers save it: entries, then the state that says they are committed. Segments are cut between
    /// batches.
    fn hard_state(&mut self) -> Result<(), GenerateError> {
        if self.batch > 0 {
            self.batch = 0;
            self.batch_end = 1 + self.random.below(LARGEST_BATCH);
            self.log.push_hard_state(HardState {
                term: Some(self.term),
                vote: Some(if self.term == BOOT_TERM { 0 } else { self.node_id }),
                commit: Some(self.index),
            });
        }
        let io = || GenerateError::io("write a segment");
        if self.log.segment_bytes() < self.options.segment_bytes {
            return self.log.flush(&mut self.file).map_err(io());
        }
        self.record_bytes += self.log.segment_bytes();
        self.log.cut(&mut self.file).map_err(io())?;
        self.file.flush().map_err(io())?;
        self.file = BufWriter::new(self.stage.create_file(self.log.segment_name(), FILE_MODE)?);
        self.segments += 1;
        Ok(())
    }

    /// Ends the last segment, with zeros up to the size segments are preallocated to.
    fn finish(mut self, history: &History) -> Result<LogFacts, GenerateError> {
        let io = || GenerateError::io("write the last segment");
        self.hard_state()?;
        self.log.flush(&mut self.file).map_err(io())?;
        self.file.flush().map_err(io())?;
        let bytes = self.log.segment_bytes();
        self.file.get_ref().set_len(bytes.max(SEGMENT_SIZE_BYTES)).map_err(io())?;
        Ok(LogFacts {
            segments: self.segments,
            entries: self.index,
            revision: history.main(),
            live_keys: u64::try_from(history.live_keys()).unwrap_or(u64::MAX),
            record_bytes: self.record_bytes + bytes,
        })
    }
}
