//! Replay of keys, leases and compactions, held against the rules written down as plainly as they can be (FORMATS C, G.7). The model
//! shares no code with what ships; that the rules are etcd's is shown by tests with real servers.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeMap;

use bbolt::rebuild::edit;
use bbolt::{Build, BuildOptions, Db};
use proptest::prelude::*;
use snapshot::edited::Change;
use snapshot::mvcc::Release;
use snapshot::overlay::Overlay;
use snapshot::replay::{Applied, Disagreement, Replay, ReplayOptions, StopReason, Why};
use testdata::key_space::{KeySpace, bucket_key, message};
use testdata::oracle::Kv;
use wal::EntryRef;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Buckets = BTreeMap<String, Rows>;

// ---- Requests, and how they are written on the wire ----

#[derive(Debug, Clone, Default)]
struct Put {
    key: Vec<u8>,
    value: Vec<u8>,
    lease: i64,
    keep_value: bool,
    keep_lease: bool,
}

#[derive(Debug, Clone)]
enum Op {
    Put(Put),
    Delete(Vec<u8>, Vec<u8>),
    Range(i64),
    Txn(Txn),
}

#[derive(Debug, Clone, Default)]
struct Txn {
    compares: Vec<Compare>,
    success: Vec<Op>,
    failure: Vec<Op>,
}

/// Result, target, the field that is given, the number or value, key, range end.
#[derive(Debug, Clone, Default)]
struct Compare {
    result: u64,
    target: u64,
    field: u32,
    number: i64,
    value: Vec<u8>,
    key: Vec<u8>,
    end: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Request {
    Op(Op),
    Compact(i64),
    Grant(i64, i64),
    Revoke(i64),
    Checkpoint(i64, i64),
    /// Action (1 to raise, 2 to disarm) and kind (1 NOSPACE, 2 CORRUPT), of member 5.
    Alarm(u64, u64),
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

fn number(field: u32, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        varint(u64::from(field) << 3, out);
        varint(number, out);
    }
}

fn bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_bytes(put: &Put) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, &put.key, &mut out);
    bytes(2, &put.value, &mut out);
    number(3, put.lease.cast_unsigned(), &mut out);
    number(5, put.keep_value.into(), &mut out);
    number(6, put.keep_lease.into(), &mut out);
    out
}

fn delete_bytes(key: &[u8], end: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, key, &mut out);
    if !end.is_empty() {
        bytes(2, end, &mut out);
    }
    out
}

fn range_bytes(revision: i64) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, b"a", &mut out);
    number(4, revision.cast_unsigned(), &mut out);
    out
}

fn op_bytes(op: &Op) -> Vec<u8> {
    let mut out = Vec::new();
    match op {
        Op::Range(revision) => bytes(1, &range_bytes(*revision), &mut out),
        Op::Put(put) => bytes(2, &put_bytes(put), &mut out),
        Op::Delete(key, end) => bytes(3, &delete_bytes(key, end), &mut out),
        Op::Txn(txn) => bytes(4, &txn_bytes(txn), &mut out),
    }
    out
}

fn txn_bytes(txn: &Txn) -> Vec<u8> {
    let mut out = Vec::new();
    for compare in &txn.compares {
        let mut inner = Vec::new();
        number(1, compare.result, &mut inner);
        number(2, compare.target, &mut inner);
        bytes(3, &compare.key, &mut inner);
        match compare.field {
            7 => bytes(7, &compare.value, &mut inner),
            field => {
                varint(u64::from(field) << 3, &mut inner);
                varint(compare.number.cast_unsigned(), &mut inner);
            }
        }
        if !compare.end.is_empty() {
            bytes(64, &compare.end, &mut inner);
        }
        bytes(1, &inner, &mut out);
    }
    txn.success.iter().for_each(|op| bytes(2, &op_bytes(op), &mut out));
    txn.failure.iter().for_each(|op| bytes(3, &op_bytes(op), &mut out));
    out
}

fn request_bytes(request: &Request) -> Vec<u8> {
    let (mut out, mut inner) = (Vec::new(), Vec::new());
    let field = match request {
        Request::Op(Op::Range(revision)) => {
            inner = range_bytes(*revision);
            3
        }
        Request::Op(Op::Put(put)) => {
            inner = put_bytes(put);
            4
        }
        Request::Op(Op::Delete(key, end)) => {
            inner = delete_bytes(key, end);
            5
        }
        Request::Op(Op::Txn(txn)) => {
            inner = txn_bytes(txn);
            6
        }
        Request::Compact(revision) => {
            number(1, revision.cast_unsigned(), &mut inner);
            7
        }
        Request::Grant(id, ttl) => {
            number(1, ttl.cast_unsigned(), &mut inner);
            number(2, id.cast_unsigned(), &mut inner);
            8
        }
        Request::Revoke(id) => {
            number(1, id.cast_unsigned(), &mut inner);
            9
        }
        Request::Checkpoint(id, remaining) => {
            let mut one = Vec::new();
            number(1, id.cast_unsigned(), &mut one);
            number(2, remaining.cast_unsigned(), &mut one);
            bytes(1, &one, &mut inner);
            11
        }
        Request::Alarm(action, kind) => {
            number(1, *action, &mut inner);
            number(2, 5, &mut inner);
            number(3, *kind, &mut inner);
            10
        }
    };
    let mut header = Vec::new();
    number(1, 77, &mut header);
    bytes(100, &header, &mut out);
    bytes(field, &inner, &mut out);
    out
}

// ---- The model ----

#[derive(Debug, Clone)]
struct Live {
    create: i64,
    version: i64,
    changed: i64,
    value: Vec<u8>,
    lease: i64,
}

#[derive(Debug, Clone)]
struct Model {
    records: Rows,
    live: BTreeMap<Vec<u8>, Live>,
    /// Time to live and what is left of it.
    leases: BTreeMap<i64, (i64, i64)>,
    attached: BTreeMap<Vec<u8>, i64>,
    revision: i64,
    compacted: i64,
    newer_rule: bool,
    checks_reads: bool,
    keeps_checkpoints: bool,
}

/// What the model says of a request.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Changed,
    Nothing,
    Dies,
}

impl Model {
    fn new(newer_rule: bool, checks_reads: bool, keeps_checkpoints: bool) -> Self {
        Self {
            records: Rows::new(),
            live: BTreeMap::new(),
            leases: BTreeMap::new(),
            attached: BTreeMap::new(),
            revision: 1,
            compacted: -1,
            newer_rule,
            checks_reads,
            keeps_checkpoints,
        }
    }

    /// A server that starts hangs a key on the lease that it names, where that exists.
    fn restart(&mut self) {
        let leases = &self.leases;
        let named = self.live.iter().filter(|(_, live)| leases.contains_key(&live.lease));
        self.attached = named.map(|(key, live)| (key.clone(), live.lease)).collect();
    }

    fn matching(&self, key: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
        let is_in = |name: &&Vec<u8>| match end {
            [] => name.as_slice() == key,
            [0] => name.as_slice() >= key,
            end => name.as_slice() >= key && name.as_slice() < end,
        };
        self.live.keys().filter(is_in).cloned().collect()
    }

    fn holds(&self, compare: &Compare) -> bool {
        let absent = Live { create: 0, version: 0, changed: 0, value: Vec::new(), lease: 0 };
        let keys = self.matching(&compare.key, &compare.end);
        if keys.is_empty() && compare.target == 3 {
            return false;
        }
        let found: Vec<&Live> =
            if keys.is_empty() { vec![&absent] } else { keys.iter().map(|key| &self.live[key]).collect() };
        found.into_iter().all(|live| {
            let given = |field| if compare.field == field { compare.number } else { 0 };
            let order = match compare.target {
                0 => live.version.cmp(&given(4)),
                1 => live.create.cmp(&given(5)),
                2 => live.changed.cmp(&given(6)),
                3 => {
                    let value = if compare.field == 7 { compare.value.as_slice() } else { &[] };
                    live.value.as_slice().cmp(value)
                }
                _ => live.lease.cmp(&given(8)),
            };
            match compare.result {
                0 => order.is_eq(),
                1 => order.is_gt(),
                2 => order.is_lt(),
                _ => order.is_ne(),
            }
        })
    }

    fn flat<'t>(&self, txn: &'t Txn, depth: usize, out: &mut Vec<(usize, &'t Op)>) {
        let branch =
            if txn.compares.iter().all(|compare| self.holds(compare)) { &txn.success } else { &txn.failure };
        for op in branch {
            match op {
                Op::Txn(inner) => self.flat(inner, depth + 1, out),
                op => out.push((depth, op)),
            }
        }
    }

    fn refuses_put(&self, put: &Put) -> bool {
        (put.lease != 0 && !self.leases.contains_key(&put.lease))
            || ((put.keep_value || put.keep_lease) && !self.live.contains_key(&put.key))
    }

    /// False when a server dies of it.
    fn write(&mut self, op: &Op, sub: &mut i64) -> bool {
        let main = self.revision + 1;
        match op {
            Op::Range(_) | Op::Txn(_) => {}
            Op::Put(put) => {
                let before = self.live.get(&put.key).cloned();
                let (mut value, mut lease) = (put.value.clone(), put.lease);
                if put.keep_value || put.keep_lease {
                    let Some(before) = &before else { return false };
                    if put.keep_value {
                        value.clone_from(&before.value);
                    }
                    if put.keep_lease {
                        lease = before.lease;
                    }
                }
                if lease != 0 && !self.leases.contains_key(&lease) {
                    return false;
                }
                let create = before.as_ref().map_or(main, |before| before.create);
                let version = before.map_or(0, |before| before.version) + 1;
                self.attached.remove(&put.key);
                if lease != 0 {
                    self.attached.insert(put.key.clone(), lease);
                }
                let kv = Kv {
                    key: put.key.clone(),
                    value: value.clone(),
                    create_revision: create,
                    mod_revision: main,
                    version,
                    lease,
                };
                self.records.insert(bucket_key((main, *sub, false)), message(&kv));
                self.live.insert(put.key.clone(), Live { create, version, changed: main, value, lease });
                *sub += 1;
            }
            Op::Delete(key, end) => {
                for key in self.matching(key, end) {
                    self.delete(key, sub);
                }
            }
        }
        true
    }

    fn delete(&mut self, key: Vec<u8>, sub: &mut i64) {
        self.live.remove(&key);
        self.attached.remove(&key);
        let kv = Kv { key, value: vec![], create_revision: 0, mod_revision: 0, version: 0, lease: 0 };
        self.records.insert(bucket_key((self.revision + 1, *sub, true)), message(&kv));
        *sub += 1;
    }

    fn apply(&mut self, request: &Request) -> Said {
        let before = self.clone();
        let mut sub = 0;
        let changed = match request {
            Request::Op(Op::Range(_)) => return Said::Nothing,
            Request::Op(Op::Put(put)) if self.refuses_put(put) => return Said::Nothing,
            Request::Op(Op::Txn(txn)) => {
                let mut ops = Vec::new();
                before.flat(txn, 0, &mut ops);
                let refused = |revision: i64| {
                    revision != 0 && (revision > before.revision || revision < before.compacted)
                };
                for (depth, op) in &ops {
                    match op {
                        Op::Put(put) if before.refuses_put(put) => return Said::Nothing,
                        Op::Range(revision) if (*depth > 0 || self.checks_reads) && refused(*revision) => {
                            return Said::Nothing;
                        }
                        _ => {}
                    }
                }
                for (_, op) in ops {
                    if !self.write(op, &mut sub) {
                        *self = before;
                        return Said::Dies;
                    }
                }
                sub > 0
            }
            Request::Op(op) => {
                if !self.write(op, &mut sub) {
                    *self = before;
                    return Said::Dies;
                }
                sub > 0
            }
            Request::Compact(revision) => {
                if *revision <= self.compacted || *revision > self.revision {
                    return Said::Nothing;
                }
                self.compacted = *revision;
                return Said::Changed;
            }
            Request::Grant(id, ttl) => {
                if *id == 0 || *ttl > 9_000_000_000 || self.leases.contains_key(id) {
                    return Said::Nothing;
                }
                self.leases.insert(*id, ((*ttl).max(2), 0));
                return Said::Changed;
            }
            Request::Revoke(id) => {
                if !self.leases.contains_key(id) {
                    return Said::Nothing;
                }
                let keys: Vec<Vec<u8>> =
                    self.attached.iter().filter(|(_, on)| *on == id).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    self.delete(key, &mut sub);
                }
                self.leases.remove(id);
                self.revision += i64::from(sub > 0);
                return Said::Changed;
            }
            Request::Alarm(..) => unreachable!("the model knows no alarms"),
            Request::Checkpoint(id, remaining) => {
                let Some(lease) = self.leases.get_mut(id).filter(|_| self.keeps_checkpoints) else {
                    return Said::Nothing;
                };
                let changed = lease.1 != *remaining;
                lease.1 = *remaining;
                return if changed { Said::Changed } else { Said::Nothing };
            }
        };
        self.revision += i64::from(changed);
        if changed { Said::Changed } else { Said::Nothing }
    }

    /// Bucket `key`, with what the last compaction leaves of it.
    fn physical(&self) -> Rows {
        if self.compacted < 0 {
            return self.records.clone();
        }
        let space = KeySpace::new(self.records.clone(), None, None, self.newer_rule).unwrap();
        space.compacted(self.compacted).into_iter().collect()
    }

    /// All buckets, `entries` entries having been applied in term 3.
    fn buckets(&self, entries: u64, records: Rows, has_compacted: bool) -> Buckets {
        let mut meta = Rows::new();
        meta.insert(b"consistent_index".to_vec(), entries.to_be_bytes().to_vec());
        meta.insert(b"term".to_vec(), 3_u64.to_be_bytes().to_vec());
        if self.compacted >= 0 {
            let row = bucket_key((self.compacted, 0, false));
            meta.insert(b"scheduledCompactRev".to_vec(), row.clone());
            if has_compacted {
                meta.insert(b"finishedCompactRev".to_vec(), row);
            }
        }
        let lease = self.leases.iter().map(|(id, (ttl, remaining))| {
            let mut row = Vec::new();
            number(1, id.cast_unsigned(), &mut row);
            number(2, ttl.cast_unsigned(), &mut row);
            number(3, remaining.cast_unsigned(), &mut row);
            (id.to_be_bytes().to_vec(), row)
        });
        let mut cluster = Rows::new();
        let version = if self.keeps_checkpoints { "3.6.0" } else { "3.5.0" };
        cluster.insert(b"clusterVersion".to_vec(), version.into());
        [("cluster", cluster), ("key", records), ("lease", lease.collect()), ("meta", meta)]
            .map(|(name, rows)| (name.to_owned(), rows))
            .into()
    }
}

// ---- Files ----

fn image_of(buckets: &Buckets) -> Vec<u8> {
    let mut image = Vec::new();
    let mut build = Build::new(&mut image, BuildOptions::default()).unwrap();
    for (name, rows) in buckets {
        build.begin_bucket(name.as_bytes()).unwrap();
        for (key, value) in rows {
            build.put(key, value).unwrap();
        }
        build.end_bucket().unwrap();
    }
    build.finish().unwrap();
    image
}

fn dump(source: impl bbolt::Source) -> Buckets {
    let db = Db::from_source(source).unwrap();
    assert!(bbolt::check(&db, &()).findings.is_empty());
    let mut dump = Buckets::new();
    let mut names = db.root().cursor();
    while let Some(item) = names.next().unwrap() {
        let rows = dump.entry(String::from_utf8(item.key.to_vec()).unwrap()).or_default();
        let bucket = names.bucket().unwrap().unwrap();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next().unwrap() {
            rows.insert(item.key.to_vec(), item.value.to_vec());
        }
    }
    dump
}

/// What the db holds after the replay is folded into it.
fn folded(image: &Vec<u8>, replay: Replay<'_, &Vec<u8>>) -> Buckets {
    let db = Db::from_source(image).unwrap();
    let folded = replay.fold(&()).unwrap();
    let edits = folded.edits();
    match folded.change(&edits) {
        None => dump(image),
        Some(Change::Patch(patch)) => {
            let writes = patch.data_writes().chain(patch.meta_writes());
            dump(Overlay::new(image, patch.len_bytes(), writes))
        }
        Some(Change::Rebuild { edits, expected }) => {
            let mut out = Vec::new();
            let rebuilt = edit(&db, &mut out, &snapshot::defrag::AS_ETCD, edits, &()).unwrap();
            assert_eq!(expected.pairs, Some(rebuilt.content.pairs));
            dump(&out)
        }
    }
}

// ---- Random requests ----

/// A plain generator of numbers.
struct Rng(u64);

impl Rng {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn key(&mut self) -> Vec<u8> {
        [&b"a"[..], b"ab", b"b", b"c", b"c\0", b"d", b"\xff"][usize::try_from(self.below(7)).unwrap()]
            .to_vec()
    }

    fn end(&mut self) -> Vec<u8> {
        match self.below(4) {
            0 | 1 => Vec::new(),
            2 => vec![0],
            _ => self.key(),
        }
    }

    fn put(&mut self) -> Put {
        let lease = if self.below(3) == 0 { i64::try_from(self.below(5)).unwrap() } else { 0 };
        let keeps = self.below(8);
        Put {
            key: self.key(),
            value: vec![b'v'; usize::try_from(self.below(4)).unwrap()],
            lease: if keeps == 0 { 0 } else { lease },
            keep_value: keeps == 1,
            keep_lease: keeps == 0,
        }
    }

    fn revision(&mut self, now: i64) -> i64 {
        match self.below(3) {
            0 => 0,
            1 => now + i64::try_from(self.below(3)).unwrap() - 1,
            _ => i64::try_from(self.below(now.unsigned_abs() + 2)).unwrap(),
        }
    }

    fn op(&mut self, now: i64, depth: usize) -> Op {
        match self.below(if depth < 3 { 9 } else { 8 }) {
            0..=3 => Op::Put(self.put()),
            4..=6 => Op::Delete(self.key(), self.end()),
            7 => Op::Range(self.revision(now)),
            _ => Op::Txn(self.txn(now, depth + 1)),
        }
    }

    fn txn(&mut self, now: i64, depth: usize) -> Txn {
        let compares = (0..self.below(3))
            .map(|_| {
                let target = self.below(5);
                let right = u32::try_from([4, 5, 6, 7, 8][usize::try_from(target).unwrap()]).unwrap();
                Compare {
                    result: self.below(4),
                    target,
                    field: if self.below(10) == 0 { 4 } else { right },
                    number: if target == 1 || target == 2 {
                        self.revision(now)
                    } else {
                        i64::try_from(self.below(4)).unwrap()
                    },
                    value: vec![b'v'; usize::try_from(self.below(4)).unwrap()],
                    key: self.key(),
                    end: self.end(),
                }
            })
            .collect();
        let branch = |rng: &mut Self| (0..rng.below(4)).map(|_| rng.op(now, depth)).collect();
        let success = branch(self);
        Txn { compares, success, failure: branch(self) }
    }

    fn request(&mut self, now: i64) -> Request {
        let lease = i64::try_from(self.below(5)).unwrap();
        match self.below(20) {
            0..=6 => Request::Op(Op::Put(self.put())),
            7..=9 => Request::Op(Op::Delete(self.key(), self.end())),
            10..=13 => Request::Op(Op::Txn(self.txn(now, 0))),
            14 | 15 => {
                Request::Grant(lease, [0, 1, 5, 9_000_000_001][usize::try_from(self.below(4)).unwrap()])
            }
            16 | 17 => Request::Revoke(lease),
            18 => Request::Checkpoint(lease, i64::try_from(self.below(9)).unwrap()),
            _ => Request::Op(Op::Range(self.revision(now))),
        }
    }
}

/// Applies random requests, the first `before` of them to make the db, the others as its log.
fn history(seed: u64, before: usize, after: usize, compacts: bool, release: &str) {
    let mut rng = Rng(seed | 1);
    let release: Release = release.parse().unwrap();
    let keeps_checkpoints = rng.below(2) == 0;
    let mut model =
        Model::new(release.keeps_tombstone_at_compaction(), release.checks_txn_ranges(), keeps_checkpoints);
    let mut entries = 0;
    let request = |model: &Model, rng: &mut Rng| {
        if compacts && rng.below(12) == 0 {
            Request::Compact(rng.revision(model.revision))
        } else {
            rng.request(model.revision)
        }
    };
    for _ in 0..before {
        let next = request(&model, &mut rng);
        entries += u64::from(model.apply(&next) != Said::Dies);
    }
    // A compaction may have been cut off before it removed anything. A server does not go on with one at revision 0.
    let is_cut_off = rng.below(4) == 0 && model.compacted != 0;
    let records = if is_cut_off { model.records.clone() } else { model.physical() };
    let image = image_of(&model.buckets(entries, records, !is_cut_off));
    let compacted_before = model.compacted;
    model.restart();
    let db = Db::from_source(&image).unwrap();
    let options = ReplayOptions { release, ..ReplayOptions::default() };
    let mut replay = Replay::of(&db, options, &()).unwrap();
    for _ in 0..after {
        let next = request(&model, &mut rng);
        let data = request_bytes(&next);
        let entry = EntryRef { entry_type: 0, term: 3, index: entries + 1, data: &data };
        let said = match replay.apply(&entry) {
            Ok(Applied::Changed) => Said::Changed,
            Ok(Applied::Nothing(_)) => Said::Nothing,
            Err(stop) => {
                assert!(matches!(stop.reason, StopReason::Dies(_)), "{stop}");
                Said::Dies
            }
        };
        assert_eq!(said, model.apply(&next), "{next:?}");
        entries += u64::from(said != Said::Dies);
        assert_eq!(replay.revision(), model.revision, "{next:?}");
        assert_eq!(replay.compact_revision().unwrap_or(-1), model.compacted);
        assert_eq!(replay.consistent_index(), entries);
        for key in [&b"a"[..], b"ab", b"b", b"c", b"c\0", b"d", b"\xff"] {
            let newest = replay.keys().newest(key).unwrap();
            let found = newest.as_ref().map(|newest| (newest.kv().mod_revision, newest.kv().version));
            assert_eq!(found, model.live.get(key).map(|live| (live.changed, live.version)));
        }
    }
    // What is left of a compaction before the log is left to the server.
    let records = if model.compacted == compacted_before && is_cut_off {
        model.records.clone()
    } else {
        model.physical()
    };
    let has_compacted = model.compacted != compacted_before || !is_cut_off;
    assert_eq!(folded(&image, replay), model.buckets(entries, records, has_compacted));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn replayed_keys_and_leases_are_as_the_rules_have_them(
        seed in any::<u64>(),
        before in 0_usize..60,
        after in 0_usize..60,
        compacts in any::<bool>(),
        release in prop::sample::select(vec!["3.4.23", "3.5.1", "3.5.16", "3.6", "3.7"]),
    ) {
        history(seed, before, after, compacts, release);
    }
}

/// Searches among many keys are not made by one way alone.
#[test]
fn keys_are_found_among_many() {
    let mut model = Model::new(true, false, false);
    let name = |number: u64| format!("/registry/{number:06}").into_bytes();
    let put =
        |number: u64| Request::Op(Op::Put(Put { key: name(number), value: b"v".to_vec(), ..Put::default() }));
    for number in 0..20_000 {
        apply_fast(&mut model, &put(number * 7919 % 20_000 * 2));
    }
    let image = image_of(&model.buckets(20_000, model.physical(), true));
    let db = Db::from_source(&image).unwrap();
    let mut replay = Replay::of(&db, ReplayOptions::default(), &()).unwrap();
    let mut rng = Rng(7);
    for index in 20_001..=21_500 {
        let number = rng.below(40_002);
        let request = match rng.below(3) {
            0 => put(number),
            1 => Request::Op(Op::Delete(name(number), Vec::new())),
            _ => Request::Op(Op::Delete(name(number), name(number + rng.below(5)))),
        };
        let data = request_bytes(&request);
        let applied = replay.apply(&EntryRef { entry_type: 0, term: 3, index, data: &data }).unwrap();
        assert_eq!(
            applied == Applied::Changed,
            apply_fast(&mut model, &request) == Said::Changed,
            "{request:?}"
        );
    }
    assert_eq!(folded(&image, replay), model.buckets(21_500, model.physical(), true));
}

/// As [`Model::apply`], without a copy of it in case it dies.
fn apply_fast(model: &mut Model, request: &Request) -> Said {
    let Request::Op(op) = request else { return Said::Dies };
    let mut sub = 0;
    model.write(op, &mut sub);
    model.revision += i64::from(sub > 0);
    if sub > 0 { Said::Changed } else { Said::Nothing }
}

// ---- One hazard each ----

fn replayed(requests: &[Request], release: &str) -> (Vec<Applied>, BTreeMap<Disagreement, u64>, Buckets) {
    let model = Model::new(true, false, false);
    let image = image_of(&model.buckets(0, Rows::new(), true));
    let db = Db::from_source(&image).unwrap();
    let options = ReplayOptions { release: release.parse().unwrap(), ..ReplayOptions::default() };
    let mut replay = Replay::of(&db, options, &()).unwrap();
    let mut applied = Vec::new();
    for (request, index) in requests.iter().zip(1..) {
        let data = request_bytes(request);
        applied.push(replay.apply(&EntryRef { entry_type: 0, term: 3, index, data: &data }).unwrap());
    }
    let disagreements =
        replay.account().disagreements.iter().map(|(what, told)| (*what, told.entries)).collect();
    (applied, disagreements, folded(&image, replay))
}

fn put(key: &str) -> Op {
    Op::Put(Put { key: key.into(), value: b"v".to_vec(), ..Put::default() })
}

/// etcd#18667 and others: a member that nobody waits for takes reads out of a transaction before it checks it.
#[test]
fn a_transaction_that_reads_what_is_yet_to_come_is_refused_since_3_7() {
    let txn = Txn { success: vec![Op::Range(9), put("a")], ..Txn::default() };
    let inner = Txn { success: vec![Op::Txn(txn.clone())], ..Txn::default() };
    let requests = [Request::Op(Op::Txn(txn)), Request::Op(Op::Txn(inner))];
    let (applied, told, _) = replayed(&requests, "3.6.14");
    assert_eq!(applied, [Applied::Changed, Applied::Nothing(Why::FutureRevision)]);
    assert_eq!(told, [(Disagreement::TxnRange, 1)].into());
    let (applied, told, _) = replayed(&requests, "3.7.1");
    assert_eq!(applied, [Applied::Nothing(Why::FutureRevision); 2]);
    assert!(told.is_empty());
}

/// A lease may lie between its keys and those of another; all go by one revision, in the order of their names.
#[test]
fn a_revoked_lease_takes_its_keys_in_their_order() {
    let leased = |key: &str| {
        Request::Op(Op::Put(Put { key: key.into(), value: b"v".to_vec(), lease: 7, ..Put::default() }))
    };
    let requests = [
        Request::Grant(7, 60),
        leased("c"),
        leased("a"),
        leased("b"),
        Request::Op(put("b")),
        Request::Revoke(7),
        Request::Revoke(7),
    ];
    let (applied, _, buckets) = replayed(&requests, "3.6");
    assert_eq!(applied[5..], [Applied::Changed, Applied::Nothing(Why::LeaseNotFound)]);
    let last: Vec<&Vec<u8>> = buckets["key"].keys().rev().take(2).collect();
    assert_eq!(last, [&bucket_key((6, 1, true)), &bucket_key((6, 0, true))]);
    assert_eq!(buckets["key"][&bucket_key((6, 0, true))], b"\x0a\x01a");
    assert!(buckets["lease"].is_empty());
}

const RAISE: u64 = 1;
const DISARM: u64 = 2;
const NO_SPACE: u64 = 1;
const CORRUPT: u64 = 2;

/// What is refused for want of space, and what is not: a put in a transaction within another was overlooked at first.
#[test]
fn without_space_nothing_is_put_or_granted() {
    let txn = |op| Request::Op(Op::Txn(Txn { success: vec![op], ..Txn::default() }));
    let requests = [
        Request::Op(put("a")),
        Request::Alarm(RAISE, NO_SPACE),
        Request::Op(put("b")),
        Request::Grant(7, 60),
        txn(put("c")),
        txn(Op::Txn(Txn { failure: vec![put("d")], ..Txn::default() })),
        txn(Op::Txn(Txn { success: vec![put("d")], ..Txn::default() })),
        Request::Op(Op::Delete(b"a".to_vec(), vec![])),
        Request::Compact(2),
        Request::Alarm(DISARM, NO_SPACE),
        Request::Op(put("b")),
    ];
    let refused = Applied::Nothing(Why::NoSpace);
    let changed = Applied::Changed;
    for (release, counts_inner) in
        [("3.4.23", false), ("3.5.32", false), ("3.5.33", true), ("3.6.13", false), ("3.6.14", true)]
    {
        let (applied, ..) = replayed(&requests, release);
        let inner =
            if counts_inner { [refused, refused] } else { [Applied::Nothing(Why::CompareFailed), changed] };
        let expected = [
            changed, changed, refused, refused, refused, inner[0], inner[1], changed, changed, changed,
            changed,
        ];
        assert_eq!(applied, expected, "{release}");
    }
}

/// Up to 3.5 the alarm that was raised last takes the place of the others, and the first to be disarmed takes all with it.
#[test]
fn two_alarms_at_once_stand_together_since_3_6() {
    let delete = |key: &str| Request::Op(Op::Delete(key.into(), vec![]));
    let requests = [
        Request::Grant(7, 60),
        Request::Op(put("a")),
        Request::Op(put("b")),
        Request::Alarm(RAISE, CORRUPT),
        delete("a"),
        Request::Op(put("c")),
        Request::Compact(2),
        Request::Revoke(7),
        Request::Op(Op::Txn(Txn::default())),
        Request::Alarm(RAISE, NO_SPACE),
        delete("a"),
        Request::Op(put("c")),
        Request::Alarm(DISARM, NO_SPACE),
        Request::Op(put("c")),
    ];
    let (changed, corrupt) = (Applied::Changed, Applied::Nothing(Why::Corrupt));
    let no_space = Applied::Nothing(Why::NoSpace);
    let (older, newer) = ([changed, no_space, changed, changed], [corrupt, corrupt, changed, corrupt]);
    for (release, rest) in [("3.4.23", older), ("3.5.30", older), ("3.6.0", newer), ("3.7.1", newer)] {
        let (applied, ..) = replayed(&requests, release);
        assert_eq!(applied[..4], [changed; 4]);
        assert_eq!(applied[4..9], [corrupt; 5], "{release}");
        assert_eq!((applied[9], &applied[10..]), (changed, &rest[..]), "{release}");
    }
}

/// A server that starts takes both from the db, whatever release it is.
#[test]
fn alarms_in_the_db_stand_when_a_server_starts() {
    let mut buckets = Model::new(true, false, false).buckets(1, Rows::new(), true);
    let alarms = [(b"\x08\x05\x10\x01".to_vec(), vec![]), (b"\x08\x06\x10\x02".to_vec(), vec![])];
    buckets.insert("alarm".to_owned(), alarms.into());
    let image = image_of(&buckets);
    let db = Db::from_source(&image).unwrap();
    for release in ["3.4.23", "3.5.1", "3.7.1"] {
        let options = ReplayOptions { release: release.parse().unwrap(), ..ReplayOptions::default() };
        let mut replay = Replay::of(&db, options, &()).unwrap();
        let mut apply = |index, request: &Request| {
            let data = request_bytes(request);
            replay.apply(&EntryRef { entry_type: 0, term: 3, index, data: &data }).unwrap()
        };
        assert_eq!(apply(2, &Request::Op(put("a"))), Applied::Nothing(Why::Corrupt));
        // One that stands already changes nothing, also not which of them counts.
        assert_eq!(apply(3, &Request::Alarm(RAISE, NO_SPACE)), Applied::Nothing(Why::AlreadySo));
        assert_eq!(apply(4, &Request::Compact(1)), Applied::Nothing(Why::Corrupt));
    }
}

/// Whatever an entry is, it is that which follows or none.
#[test]
fn entries_out_of_turn_unknown_requests_and_joint_changes_stop_it() {
    let image = image_of(&Model::new(true, false, false).buckets(5, Rows::new(), true));
    let db = Db::from_source(&image).unwrap();
    let mut replay = Replay::of(&db, ReplayOptions::default(), &()).unwrap();
    let known = request_bytes(&Request::Op(put("a")));
    let mut with_field = known.clone();
    number(4242, 1, &mut with_field);
    let mut header = Vec::new();
    bytes(100, b"\x08\x01", &mut header);
    let entry = |index, entry_type, data| EntryRef { entry_type, term: 3, index, data };
    let mut stop = |entry| replay.apply(&entry).unwrap_err().reason;
    assert_eq!(stop(entry(5, 0, &known)), StopReason::NotNext { applied: 5 });
    assert_eq!(stop(entry(7, 0, &known)), StopReason::NotNext { applied: 5 });
    assert_eq!(stop(entry(6, 2, &[])), StopReason::ConfChangeV2);
    assert_eq!(stop(entry(6, 9, &[])), StopReason::EntryType(9));
    assert_eq!(stop(entry(6, 0, &with_field)), StopReason::UnknownField { kind: "put" });
    assert_eq!(stop(entry(6, 0, &header)), StopReason::UnknownRequest);
    assert!(matches!(stop(entry(6, 0, &[0xff])), StopReason::Undecodable { .. }));
    assert_eq!((replay.consistent_index(), replay.revision()), (5, 1));
    assert_eq!(replay.apply(&entry(6, 0, &[])), Ok(Applied::Nothing(Why::Empty)));
    assert_eq!(replay.apply(&entry(7, 0, &known)), Ok(Applied::Changed));
}
