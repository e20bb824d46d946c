//! Requests as etcd takes them, how they are written on the wire, random ones, and a model of what they do to keys and leases, as plain as
//! the rules can be written down (FORMATS C, G.7). It shares no code with what ships.
#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::BTreeMap;

use testdata::key_space::{KeySpace, bucket_key, message};
use testdata::oracle::Kv;

pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
pub(crate) type Buckets = BTreeMap<String, Rows>;

// ---- Requests, and how they are written on the wire ----

#[derive(Debug, Clone, Default)]
pub(crate) struct Put {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) lease: i64,
    pub(crate) keep_value: bool,
    pub(crate) keep_lease: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Put(Put),
    Delete(Vec<u8>, Vec<u8>),
    Range(i64),
    Txn(Txn),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Txn {
    pub(crate) compares: Vec<Compare>,
    pub(crate) success: Vec<Op>,
    pub(crate) failure: Vec<Op>,
}

/// Result, target, the field that is given, the number or value, key, range end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compare {
    pub(crate) result: u64,
    pub(crate) target: u64,
    pub(crate) field: u32,
    pub(crate) number: i64,
    pub(crate) value: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Op(Op),
    Compact(i64),
    Grant(i64, i64),
    Revoke(i64),
    Checkpoint(i64, i64),
    /// Action (1 to raise, 2 to disarm) and kind (1 NOSPACE, 2 CORRUPT), of member 5.
    Alarm(u64, u64),
}

pub(crate) fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

pub(crate) fn number(field: u32, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        varint(u64::from(field) << 3, out);
        varint(number, out);
    }
}

pub(crate) fn bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_bytes(put: &Put) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, &put.key, &mut out);
    bytes(2, &put.value, &mut out);
    number(3, put.lease.cast_unsigned(), &mut out);
    number(5, put.keep_value.into(), &mut out);
    number(6, put.keep_lease.into(), &mut out);
    out
}

pub(crate) fn delete_bytes(key: &[u8], end: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, key, &mut out);
    if !end.is_empty() {
        bytes(2, end, &mut out);
    }
    out
}

pub(crate) fn range_bytes(revision: i64) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, b"a", &mut out);
    number(4, revision.cast_unsigned(), &mut out);
    out
}

pub(crate) fn op_bytes(op: &Op) -> Vec<u8> {
    let mut out = Vec::new();
    match op {
        Op::Range(revision) => bytes(1, &range_bytes(*revision), &mut out),
        Op::Put(put) => bytes(2, &put_bytes(put), &mut out),
        Op::Delete(key, end) => bytes(3, &delete_bytes(key, end), &mut out),
        Op::Txn(txn) => bytes(4, &txn_bytes(txn), &mut out),
    }
    out
}

pub(crate) fn txn_bytes(txn: &Txn) -> Vec<u8> {
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

pub(crate) fn request_bytes(request: &Request) -> Vec<u8> {
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
pub(crate) struct Live {
    pub(crate) create: i64,
    pub(crate) version: i64,
    pub(crate) changed: i64,
    pub(crate) value: Vec<u8>,
    pub(crate) lease: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) records: Rows,
    pub(crate) live: BTreeMap<Vec<u8>, Live>,
    /// Time to live and what is left of it.
    pub(crate) leases: BTreeMap<i64, (i64, i64)>,
    pub(crate) attached: BTreeMap<Vec<u8>, i64>,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) newer_rule: bool,
    pub(crate) checks_reads: bool,
    pub(crate) keeps_checkpoints: bool,
}

/// What the model says of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Changed,
    Nothing,
    Dies,
}

impl Model {
    pub(crate) fn new(newer_rule: bool, checks_reads: bool, keeps_checkpoints: bool) -> Self {
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
    pub(crate) fn restart(&mut self) {
        let leases = &self.leases;
        let named = self.live.iter().filter(|(_, live)| leases.contains_key(&live.lease));
        self.attached = named.map(|(key, live)| (key.clone(), live.lease)).collect();
    }

    pub(crate) fn matching(&self, key: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
        let is_in = |name: &&Vec<u8>| match end {
            [] => name.as_slice() == key,
            [0] => name.as_slice() >= key,
            end => name.as_slice() >= key && name.as_slice() < end,
        };
        self.live.keys().filter(is_in).cloned().collect()
    }

    pub(crate) fn holds(&self, compare: &Compare) -> bool {
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

    pub(crate) fn flat<'t>(&self, txn: &'t Txn, depth: usize, out: &mut Vec<(usize, &'t Op)>) {
        let branch =
            if txn.compares.iter().all(|compare| self.holds(compare)) { &txn.success } else { &txn.failure };
        for op in branch {
            match op {
                Op::Txn(inner) => self.flat(inner, depth + 1, out),
                op => out.push((depth, op)),
            }
        }
    }

    pub(crate) fn refuses_put(&self, put: &Put) -> bool {
        (put.lease != 0 && !self.leases.contains_key(&put.lease))
            || ((put.keep_value || put.keep_lease) && !self.live.contains_key(&put.key))
    }

    /// False when a server dies of it.
    pub(crate) fn write(&mut self, op: &Op, sub: &mut i64) -> bool {
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

    pub(crate) fn delete(&mut self, key: Vec<u8>, sub: &mut i64) {
        self.live.remove(&key);
        self.attached.remove(&key);
        let kv = Kv { key, value: vec![], create_revision: 0, mod_revision: 0, version: 0, lease: 0 };
        self.records.insert(bucket_key((self.revision + 1, *sub, true)), message(&kv));
        *sub += 1;
    }

    pub(crate) fn apply(&mut self, request: &Request) -> Said {
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
    pub(crate) fn physical(&self) -> Rows {
        if self.compacted < 0 {
            return self.records.clone();
        }
        let space = KeySpace::new(self.records.clone(), None, None, self.newer_rule).unwrap();
        space.compacted(self.compacted).into_iter().collect()
    }

    /// All buckets, `entries` entries having been applied in term 3.
    pub(crate) fn buckets(&self, entries: u64, records: Rows, has_compacted: bool) -> Buckets {
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

// ---- Random requests ----

/// A plain generator of numbers.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    pub(crate) fn key(&mut self) -> Vec<u8> {
        [&b"a"[..], b"ab", b"b", b"c", b"c\0", b"d", b"\xff"][usize::try_from(self.below(7)).unwrap()]
            .to_vec()
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        match self.below(4) {
            0 | 1 => Vec::new(),
            2 => vec![0],
            _ => self.key(),
        }
    }

    pub(crate) fn put(&mut self) -> Put {
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

    pub(crate) fn revision(&mut self, now: i64) -> i64 {
        match self.below(3) {
            0 => 0,
            1 => now + i64::try_from(self.below(3)).unwrap() - 1,
            _ => i64::try_from(self.below(now.unsigned_abs() + 2)).unwrap(),
        }
    }

    pub(crate) fn op(&mut self, now: i64, depth: usize) -> Op {
        match self.below(if depth < 3 { 9 } else { 8 }) {
            0..=3 => Op::Put(self.put()),
            4..=6 => Op::Delete(self.key(), self.end()),
            7 => Op::Range(self.revision(now)),
            _ => Op::Txn(self.txn(now, depth + 1)),
        }
    }

    pub(crate) fn txn(&mut self, now: i64, depth: usize) -> Txn {
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

    pub(crate) fn request(&mut self, now: i64) -> Request {
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
