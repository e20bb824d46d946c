//! The log of a history: the requests whose replay makes the store that the db holds.

use std::fs::File;
use std::io::{BufWriter, Write};

use bbolt::Watch;
use prost::Message;
use snapshot::membership::{Member, hex_id};
use snapshot::stage::{FILE_MODE, Kind, Stage};
use snapshot::target::TargetVersion;
use wal::raftpb::{ConfChange, ConfChangeType, Entry, EntryType, HardState};
use wal::{LogWriter, Metadata, SEGMENT_SIZE_BYTES};

use crate::content::{Cluster, Content, LEASE_TTL_S};
use crate::db::{expected_bytes, expected_record_bytes, go_on};
use crate::entries::{BOOT_TERM, TERM};
use crate::error::GenerateError;
use crate::facts::LogFacts;
use crate::history::{History, How, Op};
use crate::outputs::LogOutput;
use crate::random::{Random, purpose};
use crate::request::{
    Attributes, ClusterVersionSet, Compaction, CompareModRevision, DeleteRange, Header, LeaseGrant,
    MemberAttributesSet, Op as RequestedOp, Put, Range, Request, RequestOp, Txn, V2Request,
};
use crate::shape::Shape;

/// Entries that a server saves together at most, a hard state behind them.
const LARGEST_BATCH: u32 = 8;
/// One in this many single operations is a plain request where they are mixed.
const PLAIN: u32 = 4;
/// Bytes an entry has at most, on average: each is made in memory. What servers take in is far less, 1.5 MiB by default.
const LARGEST_ENTRY_BYTES: u64 = 256 << 20;

/// What is asked of a server in one operation. Revisions of more than one are transactions, but for range deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntryKind {
    /// A quarter plain requests, else transactions that compare the key's revision, as Kubernetes sends them.
    #[default]
    Mixed,
    /// Plain requests.
    Put,
    /// Transactions, range deletes included.
    Txn,
}

/// How a log is cut, and what its entries look like.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// A segment is cut once it has this many bytes; 64,000,000 by default, as etcd does.
    pub segment_bytes: u64,
    /// What is asked of a server in one operation.
    pub entries: EntryKind,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_SIZE_BYTES, entries: EntryKind::default() }
    }
}

impl LogOptions {
    /// Holds the options against what `shape` asks for.
    pub(crate) fn validate(&self, shape: &Shape) -> Result<(), GenerateError> {
        if !(1 << 12..=1 << 34).contains(&self.segment_bytes) {
            return Err(GenerateError::SegmentBytes { given: self.segment_bytes });
        }
        let operations = u64::from(shape.records.div_ceil(shape.revisions.max(1)));
        let bytes = operations * expected_record_bytes(shape);
        if bytes > LARGEST_ENTRY_BYTES { Err(GenerateError::LargeEntries { bytes }) } else { Ok(()) }
    }
}

/// A log in the making.
pub(crate) struct LogDir {
    stage: Stage,
    options: LogOptions,
}

impl LogDir {
    /// Makes room for the log.
    pub(crate) fn open(output: &LogOutput) -> Result<Self, GenerateError> {
        Ok(Self { stage: Stage::new(&output.dir, Kind::Dir)?, options: output.options })
    }

    pub(crate) fn write(&self, shape: &Shape, watch: &dyn Watch) -> Result<LogFacts, GenerateError> {
        log(shape, &self.stage, self.options, watch)
    }

    pub(crate) fn commit(self) -> Result<(), GenerateError> {
        Ok(self.stage.commit(None)?)
    }
}

fn log(
    shape: &Shape,
    stage: &Stage,
    options: LogOptions,
    watch: &dyn Watch,
) -> Result<LogFacts, GenerateError> {
    let cluster = Cluster::new(shape.members)?;
    watch.begin("writing the log", expected_bytes(shape));
    let mut out = Segments::new(stage, &cluster, options)?;
    out.members(&cluster, shape.written_by)?;
    let content = Content::new(shape);
    let mut requests = Requests {
        content: &content,
        kind: options.entries,
        random: Random::new(shape.seed, purpose::REQUESTS),
    };
    for number in 0..content.leases() {
        go_on(watch)?;
        let grant = LeaseGrant { ttl: LEASE_TTL_S, id: content.lease_id(number) };
        out.request(Request { lease_grant: Some(grant), ..Request::default() })?;
    }
    let mut history = History::new(shape);
    let mut ops = Vec::new();
    while let Some(how) = history.next(&mut ops) {
        go_on(watch)?;
        let written = out.request(requests.revision(&ops, how, history.main(), watch)?)?;
        watch.advance(written);
    }
    if shape.compacted {
        let compaction = Compaction { revision: i64::from(history.main()), physical: false };
        out.request(Request { compaction: Some(compaction), ..Request::default() })?;
    }
    out.finish(&history)
}

/// The requests that made a history.
struct Requests<'a> {
    content: &'a Content,
    kind: EntryKind,
    random: Random,
}

impl Requests<'_> {
    /// The request that made a revision.
    fn revision(
        &mut self,
        ops: &[Op],
        how: How,
        main: u32,
        watch: &dyn Watch,
    ) -> Result<Request, GenerateError> {
        Ok(match (ops, how) {
            ([first, .., last], How::RangeDelete) => {
                let mut range_end = self.content.name(last.key());
                // The end is not part of the range, and nothing lies between a key and itself with a zero byte.
                range_end.push(0);
                let range = DeleteRange { key: self.content.name(first.key()), range_end };
                match self.kind {
                    EntryKind::Txn => {
                        transaction(Vec::new(), vec![RequestedOp::DeleteRange(range)], Vec::new())
                    }
                    EntryKind::Mixed | EntryKind::Put => plain(RequestedOp::DeleteRange(range)),
                }
            }
            ([single], _) => {
                let op = self.op(single, main, 0);
                let is_plain = match self.kind {
                    EntryKind::Mixed => self.random.below(PLAIN) == 0,
                    EntryKind::Put => true,
                    EntryKind::Txn => false,
                };
                if is_plain {
                    plain(op)
                } else {
                    let key = self.content.name(single.key());
                    let compare = CompareModRevision::equals(key.clone(), i64::from(single.previous()));
                    transaction(vec![compare], vec![op], vec![RequestedOp::Range(Range { key })])
                }
            }
            (many, _) => {
                let mut requested = Vec::with_capacity(many.len());
                for (one, sub) in many.iter().zip(0..) {
                    go_on(watch)?;
                    requested.push(self.op(one, main, sub));
                }
                transaction(Vec::new(), requested, Vec::new())
            }
        })
    }

    fn op(&self, op: &Op, main: u32, sub: u32) -> RequestedOp {
        let content = self.content;
        match *op {
            Op::Put { key, version, .. } => {
                let mut value = Vec::new();
                content.push_value(key, version, main, sub, &mut value);
                RequestedOp::Put(Put { key: content.name(key), value, lease: content.lease_of(key) })
            }
            Op::Delete { key, .. } => {
                RequestedOp::DeleteRange(DeleteRange { key: content.name(key), range_end: Vec::new() })
            }
        }
    }
}

/// A request of one operation alone.
fn plain(op: RequestedOp) -> Request {
    match op {
        RequestedOp::Put(put) => Request { put: Some(put), ..Request::default() },
        RequestedOp::DeleteRange(delete) => Request { delete_range: Some(delete), ..Request::default() },
        range @ RequestedOp::Range(_) => transaction(Vec::new(), vec![range], Vec::new()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{KeyShape, Preset};

    /// Plain requests, single operations that compare, range deletes in a transaction, larger transactions.
    fn count(keys: KeyShape, kind: EntryKind) -> [u32; 4] {
        let shape = Shape { keys, ..Shape::preset(Preset::Frag, 4).scaled(500).unwrap() };
        let shape = Shape { revisions: 300, ..shape };
        let content = Content::new(&shape);
        let mut requests = Requests { content: &content, kind, random: Random::new(4, purpose::REQUESTS) };
        let (mut history, mut ops, mut counts) = (History::new(&shape), Vec::new(), [0; 4]);
        while let Some(how) = history.next(&mut ops) {
            let request = requests.revision(&ops, how, history.main(), &()).unwrap();
            let range = match &request {
                Request { put: Some(_), txn: None, delete_range: None, .. } => {
                    counts[0] += 1;
                    None
                }
                Request { put: None, txn: None, delete_range: Some(range), .. } => {
                    counts[0] += 1;
                    Some(range.clone())
                }
                Request { put: None, txn: Some(txn), delete_range: None, .. } => {
                    let range = match txn.success.as_slice() {
                        [RequestOp { op: Some(RequestedOp::DeleteRange(range)) }] => Some(range.clone()),
                        _ => None,
                    };
                    let place = match (how, ops.len()) {
                        (How::RangeDelete, _) => 2,
                        (How::Txn, 1) => 1,
                        (How::Txn, _) => 3,
                    };
                    assert_eq!(txn.compare.len(), usize::from(place == 1));
                    counts[place] += 1;
                    range
                }
                other => panic!("{other:?}"),
            };
            if how == How::RangeDelete {
                let range = range.unwrap();
                // Each key it deletes lies in it, and no key that lives on.
                let names: Vec<_> = ops.iter().map(|op| content.name(op.key())).collect();
                assert!(names.iter().all(|name| *name >= range.key && *name < range.range_end));
                let survivors = (0..shape.creations()).filter(|key| history.is_live(*key));
                for name in survivors.map(|key| content.name(key)) {
                    assert!(name < range.key || name >= range.range_end);
                }
            }
        }
        counts
    }

    #[test]
    fn entries_are_of_the_kind_that_is_asked_for() {
        for keys in [KeyShape::Kubernetes, KeyShape::Flat, KeyShape::Sixty, KeyShape::Deep] {
            let [plain, compared, ranges, larger] = count(keys, EntryKind::Mixed);
            assert!(plain > 6 && compared > plain && ranges == 0 && larger > 0);
            let put = count(keys, EntryKind::Put);
            assert_eq!(put, [plain + compared, 0, 0, larger]);
            assert_eq!(count(keys, EntryKind::Txn), [0, plain + compared - 6, 6, larger]);
        }
    }
}
