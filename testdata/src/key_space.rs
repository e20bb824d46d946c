//! A key space as slow and plain as the rules of FORMATS C can be written down: what everything faster is held against.
//! It shares no code with what ships.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::Kv;

/// Main and sub revision, and whether the record is a tombstone: the order of the bucket.
pub type At = (i64, i64, bool);

/// Bucket `key`, pair by pair.
#[derive(Clone, Debug, Default)]
pub struct KeySpace {
    records: BTreeMap<At, Record>,
    /// The compacted revision; -1 for never.
    compact_revision: i64,
    /// Whether a tombstone at the compacted revision is kept and not hashed.
    newer_rule: bool,
}

#[derive(Clone, Debug)]
struct Record {
    pair: (Vec<u8>, Vec<u8>),
    kv: Kv,
}

/// What a bucket key says; `None` when it is no revision.
#[must_use]
pub fn revision_of(key: &[u8]) -> Option<At> {
    let tombstone = match (key.len(), key.get(17)) {
        (17, None) => false,
        (18, Some(b't')) => true,
        _ => return None,
    };
    let number = |at: usize| i64::from_be_bytes(key[at..at + 8].try_into().expect("eight bytes"));
    let (main, sub) = (number(0), number(9));
    (key[8] == b'_' && main >= 0 && sub >= 0).then_some((main, sub, tombstone))
}

/// The bucket key of a record.
#[must_use]
pub fn bucket_key((main, sub, tombstone): At) -> Vec<u8> {
    let mut key = [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes()].concat();
    if tombstone {
        key.push(b't');
    }
    key
}

/// `kv` as the protobuf message it is stored as.
#[must_use]
pub fn message(kv: &Kv) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = |field: u8, bytes: &[u8], out: &mut Vec<u8>| {
        if !bytes.is_empty() {
            out.push(field << 3 | 2);
            varint(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
    };
    let number = |field: u8, number: i64, out: &mut Vec<u8>| {
        if number != 0 {
            out.push(field << 3);
            varint(number.cast_unsigned(), out);
        }
    };
    bytes(1, &kv.key, &mut out);
    number(2, kv.create_revision, &mut out);
    number(3, kv.mod_revision, &mut out);
    number(4, kv.version, &mut out);
    bytes(5, &kv.value, &mut out);
    number(6, kv.lease, &mut out);
    out
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits"));
}

/// The message of a record that a server wrote; `None` for anything else.
#[must_use]
pub fn message_of(mut message: &[u8]) -> Option<Kv> {
    let mut kv = Kv { key: vec![], value: vec![], create_revision: 0, mod_revision: 0, version: 0, lease: 0 };
    let number = |message: &mut &[u8]| {
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = message.split_first()?;
            *message = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if *byte < 0x80 {
                return Some(number);
            }
        }
        None
    };
    while !message.is_empty() {
        match number(&mut message)? {
            tag @ (0x0a | 0x2a) => {
                let len = usize::try_from(number(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(len)?;
                message = rest;
                *(if tag == 0x0a { &mut kv.key } else { &mut kv.value }) = bytes.to_vec();
            }
            0x10 => kv.create_revision = number(&mut message)?.cast_signed(),
            0x18 => kv.mod_revision = number(&mut message)?.cast_signed(),
            0x20 => kv.version = number(&mut message)?.cast_signed(),
            0x30 => kv.lease = number(&mut message)?.cast_signed(),
            _ => return None,
        }
    }
    Some(kv)
}

impl KeySpace {
    /// The pairs of bucket `key`; `None` when one of them is none that a server writes. Compactions were ordered up to
    /// `scheduled` and done up to `finished`: what is between is done as a server does it when it starts. `newer_rule` is that
    /// of 3.4.34, 3.5.16 and later.
    #[must_use]
    pub fn new(
        pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        scheduled: Option<i64>,
        finished: Option<i64>,
        newer_rule: bool,
    ) -> Option<Self> {
        let mut records = BTreeMap::new();
        for pair in pairs {
            let kv = message_of(&pair.1)?;
            records.insert(revision_of(&pair.0)?, Record { pair, kv });
        }
        let mut space = Self { records, compact_revision: finished.unwrap_or(-1), newer_rule };
        // Releases of the older rule forget one that is beyond the last record.
        let beyond = |scheduled: i64| !newer_rule && scheduled > space.revision();
        if let Some(scheduled) = scheduled.filter(|at| *at > space.compact_revision && !beyond(*at)) {
            let kept: BTreeSet<Vec<u8>> =
                space.compacted(scheduled).into_iter().map(|(key, _)| key).collect();
            space.records.retain(|_, record| kept.contains(&record.pair.0));
            space.compact_revision = scheduled;
        }
        Some(space)
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        let last = self.records.last_key_value().map_or(1, |((main, ..), _)| *main);
        last.max(self.compact_revision)
    }

    /// The compacted revision, -1 for none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Every record up to `revision` that is the last one of its key.
    fn newest(&self, revision: i64) -> BTreeMap<&[u8], (At, &Record)> {
        let mut newest = BTreeMap::new();
        for (at, record) in self.records.iter().take_while(|(at, _)| at.0 <= revision) {
            newest.insert(record.kv.key.as_slice(), (*at, record));
        }
        newest
    }

    /// Every key at `revision`, in key order.
    #[must_use]
    pub fn list(&self, revision: i64) -> Vec<Kv> {
        let puts = self.newest(revision).into_values().filter(|((.., tombstone), _)| !tombstone);
        puts.map(|(_, record)| record.kv.clone()).collect()
    }

    /// hashkv at `revision`.
    #[must_use]
    pub fn hashkv(&self, revision: i64) -> u32 {
        let newest = self.newest(revision);
        let keep: BTreeSet<At> = newest.values().map(|(at, _)| *at).filter(|at| !at.2).collect();
        let mut crc = Crc::default();
        crc.update(b"key");
        for (at, record) in self.records.iter().take_while(|(at, _)| at.0 <= revision) {
            if at.0 <= self.compact_revision && !keep.is_empty() && !keep.contains(at) {
                continue;
            }
            if self.newer_rule && at.0 == self.compact_revision && at.2 {
                continue;
            }
            crc.update(&record.pair.0);
            crc.update(&record.pair.1);
        }
        crc.finish()
    }

    /// The pairs that are left after a compaction at `revision`.
    #[must_use]
    pub fn compacted(&self, revision: i64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let newest = self.newest(revision);
        let stays = |at: &At, record: &Record| {
            if at.0 > revision {
                return true;
            }
            let is_newest = newest.get(record.kv.key.as_slice()).is_some_and(|(newest, _)| newest == at);
            is_newest && (!at.2 || (self.newer_rule && at.0 == revision))
        };
        let kept = self.records.iter().filter(|(at, record)| stays(at, record));
        kept.map(|(_, record)| record.pair.clone()).collect()
    }

    /// The records of one key with their revisions, oldest first.
    #[must_use]
    pub fn history(&self, key: &[u8]) -> Vec<(At, Kv)> {
        let own = self.records.iter().filter(|(_, record)| record.kv.key == key);
        own.map(|(at, record)| (*at, record.kv.clone())).collect()
    }
}

/// CRC-32C, bit by bit.
struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..8 {
                let carry = self.0 & 1;
                self.0 = (self.0 >> 1) ^ (carry * 0x82f6_3b78);
            }
        }
    }

    fn finish(&self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str, create: i64, version: i64, at: i64) -> (Vec<u8>, Vec<u8>) {
        let kv = Kv {
            key: key.into(),
            value: value.into(),
            create_revision: create,
            mod_revision: at,
            version,
            lease: 0,
        };
        (bucket_key((at, 0, false)), message(&kv))
    }

    /// The vectors that etcd's own tests have (FORMATS V).
    #[test]
    fn hashes_are_etcds() {
        let mut crc = Crc::default();
        crc.update(b"123456789");
        assert_eq!(crc.finish(), 0xe306_9283);
        assert_eq!(KeySpace::new([], None, None, true).unwrap().hashkv(1), 1_084_519_789);
        let kv = Kv {
            key: b"test-key".into(),
            value: b"test-value".into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: 1,
        };
        let one = KeySpace::new([(bucket_key((2, 0, false)), message(&kv))], None, None, true).unwrap();
        assert_eq!(one.hashkv(2), 645_561_629);
        assert_eq!(one.list(2), [kv]);
        assert_eq!(one.list(1), []);
    }

    /// The table of etcd's key index: puts at 2, 4, 8, 10, 14, 15.1 and 16's tombstone, deletions at 6 and 12.
    #[test]
    fn compactions_keep_what_etcd_keeps() {
        let tombstone = |at: (i64, i64)| {
            let kv = Kv {
                value: vec![],
                create_revision: 0,
                mod_revision: 0,
                version: 0,
                lease: 0,
                key: b"k".into(),
            };
            (bucket_key((at.0, at.1, true)), message(&kv))
        };
        let mut pairs: Vec<_> = [2, 4, 8, 10, 14].into_iter().map(|at| put("k", "v", 2, 1, at)).collect();
        pairs.push((bucket_key((15, 1, false)), put("k", "v", 14, 2, 15).1));
        pairs.extend([tombstone((6, 0)), tombstone((12, 0)), tombstone((16, 0))]);
        let kept = |at, newer| -> Vec<i64> {
            let space = KeySpace::new(pairs.clone(), None, None, newer).unwrap();
            space.compacted(at).iter().map(|(key, _)| revision_of(key).unwrap().0).collect()
        };
        assert_eq!(kept(1, true), [2, 4, 6, 8, 10, 12, 14, 15, 16]);
        assert_eq!(kept(5, true), [4, 6, 8, 10, 12, 14, 15, 16]);
        assert_eq!(kept(6, true), [6, 8, 10, 12, 14, 15, 16]);
        assert_eq!(kept(6, false), [8, 10, 12, 14, 15, 16]);
        assert_eq!(kept(7, true), [8, 10, 12, 14, 15, 16]);
        assert_eq!(kept(15, true), [15, 16]);
        assert_eq!(kept(16, true), [16]);
        assert_eq!(kept(16, false), [0; 0]);
        assert_eq!(kept(17, true), [0; 0]);
    }

    /// The server that starts on such a file drops what a compaction left, which shows in the hash of an empty store.
    #[test]
    fn a_compaction_that_was_cut_short_is_done() {
        let tombstone =
            Kv { value: vec![], create_revision: 0, mod_revision: 0, version: 0, lease: 0, key: b"k".into() };
        let gone = (bucket_key((5, 0, true)), message(&tombstone));
        let pairs = [put("k", "v", 2, 1, 2), put("k", "v", 2, 2, 4), gone.clone()];
        let cut = KeySpace::new(pairs.clone(), Some(3), Some(2), true).unwrap();
        let done = KeySpace::new(pairs.clone(), Some(3), Some(3), true).unwrap();
        assert_eq!((cut.compact_revision(), cut.revision()), (3, 5));
        assert_eq!(cut.hashkv(5), done.hashkv(5));
        let later = KeySpace::new(pairs[1..].to_vec(), Some(4), Some(4), true).unwrap();
        let cut = KeySpace::new(pairs, Some(4), Some(2), true).unwrap();
        assert_eq!(cut.hashkv(5), later.hashkv(5));
        assert_eq!(cut.compacted(5), [gone]);
    }

    #[test]
    fn what_no_server_writes_is_no_key_space() {
        for (key, value) in [
            (b"alarm".to_vec(), vec![]),
            (bucket_key((2, 0, false)), vec![0x0a, 9]),
            (bucket_key((2, 0, false)), vec![0x38, 1]),
            (bucket_key((-2, 0, false)), vec![]),
        ] {
            assert!(KeySpace::new([(key, value)], None, None, true).is_none());
        }
    }
}
