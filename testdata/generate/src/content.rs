//! What the keys of a history hold: names, values, leases, and the records these make.

use prost::Message;
use snapshot::gourl::{PeerUrls, UrlError};
use snapshot::membership::{self, Member};
use snapshot::mvcc::KeyValue;

use crate::names::Names;
use crate::random::{Random, mix};
use crate::shape::Shape;
use crate::values::{Lengths, Values};

/// The time each lease was granted for, in seconds: what Kubernetes gives events.
pub(crate) const LEASE_TTL_S: i64 = 3_600;
/// Everything that follows from a seed but is not history.
#[derive(Debug)]
pub(crate) struct Content {
    seed: u64,
    names: Names,
    values: Values,
    lengths: Lengths,
    leases: u32,
    first_lease: u64,
}

impl Content {
    pub(crate) fn new(shape: &Shape) -> Self {
        Self {
            seed: shape.seed,
            names: Names::new(shape),
            values: Values::new(shape.seed),
            lengths: Lengths::new(shape.value_min_bytes, shape.value_max_bytes, shape.value_mean_bytes),
            leases: shape.leases,
            // As large as those servers make up; all of them fit 63 bits.
            first_lease: (mix(shape.seed) >> 2) | 1 << 60,
        }
    }

    /// Appends the name of `key`.
    pub(crate) fn push_name(&self, key: u32, out: &mut Vec<u8>) {
        self.names.push(key, out);
    }

    /// The name of `key`.
    pub(crate) fn name(&self, key: u32) -> Vec<u8> {
        let mut out = Vec::new();
        self.push_name(key, &mut out);
        out
    }

    /// Appends the value that the put of `key` at revision `main`, `sub` wrote.
    pub(crate) fn push_value(&self, key: u32, version: u32, main: u32, sub: u32, out: &mut Vec<u8>) {
        let mut random = Random::new(self.seed, u64::from(main) << 32 | u64::from(sub));
        let len = self.lengths.pick(&mut random);
        self.values.push(self.names.place(key), version, len, &mut random, out);
    }

    /// The lease `key` is put with; 0 for none.
    pub(crate) fn lease_of(&self, key: u32) -> i64 {
        let leased = self.names.place(key).resource().leased;
        key.checked_rem(self.leases).filter(|_| leased).map_or(0, |number| self.lease_id(number))
    }

    /// The ID of lease `number`. IDs ascend.
    pub(crate) fn lease_id(&self, number: u32) -> i64 {
        i64::try_from(self.first_lease.wrapping_add(u64::from(number))).unwrap_or(i64::MAX)
    }

    /// Number of leases.
    pub(crate) fn leases(&self) -> u32 {
        self.leases
    }

    /// The record of a put: a `mvccpb.KeyValue`. `scratch` is room for the value.
    pub(crate) fn put_record(&self, put: Put, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        self.push_value(put.key, put.version, put.main, put.sub, scratch);
        let kv = KeyValue {
            key: &self.name(put.key),
            create_revision: put.created.into(),
            mod_revision: put.main.into(),
            version: put.version.into(),
            value: scratch,
            lease: self.lease_of(put.key),
        };
        out.clear();
        kv.encode(out);
    }

    /// The record of a delete: the key alone.
    pub(crate) fn tombstone_record(&self, key: u32, out: &mut Vec<u8>) {
        out.clear();
        KeyValue { key: &self.name(key), ..KeyValue::default() }.encode(out);
    }
}

/// One put, with everything its record says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Put {
    pub(crate) key: u32,
    pub(crate) created: u32,
    pub(crate) main: u32,
    pub(crate) sub: u32,
    pub(crate) version: u32,
}

/// A row of bucket `lease`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseRow {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) ttl: i64,
}

/// Who the store belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) id: u64,
    /// In the order of IDs.
    pub(crate) members: Vec<Member>,
}

/// The token of every cluster that was not given another.
const TOKEN: &str = "etcd-cluster";

impl Cluster {
    /// Members `m1`, `m2`, … on ports of their own of 127.0.0.1, as the IDs follow from it.
    pub(crate) fn new(count: u32) -> Result<Self, UrlError> {
        let mut members = Vec::new();
        for number in 1..=count {
            let urls = PeerUrls::new(&[format!("http://127.0.0.1:{}", 20_000 + 10 * number).as_str()])?;
            members.push(Member {
                id: membership::member_id(&urls, TOKEN),
                name: format!("m{number}"),
                peer_urls: urls.as_slice().to_vec(),
                client_urls: vec![format!("http://127.0.0.1:{}", 20_001 + 10 * number)],
                is_learner: false,
            });
        }
        members.sort_by_key(|member| member.id);
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        Ok(Self { id: membership::cluster_id(&ids), members })
    }

    /// The member whose log is written, and who led all the time.
    pub(crate) fn own_id(&self) -> u64 {
        self.members.first().map_or(0, |member| member.id)
    }

    /// All IDs, ascending.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{KeyShape, Preset};
    #[test]
    fn records_are_what_the_reader_reads() {
        let shape = Shape { value_min_bytes: 0, value_mean_bytes: 0, ..Shape::preset(Preset::Big, 5) };
        let deep = Shape { keys: KeyShape::Deep, ..Shape::preset(Preset::Big, 5) };
        for shape in [shape, Shape::preset(Preset::Big, 5), deep] {
            let content = Content::new(&shape);
            let (mut scratch, mut out) = (Vec::new(), Vec::new());
            let mut leased = 0;
            for key in 0..200 {
                let put = Put { key, created: 300, main: 70_000 + key, sub: 2, version: 130 };
                content.put_record(put, &mut scratch, &mut out);
                let kv = KeyValue::decode(&out).unwrap();
                let mut value = Vec::new();
                content.push_value(key, 130, 70_000 + key, 2, &mut value);
                assert_eq!((kv.key, kv.value), (&*content.name(key), &*value));
                assert_eq!((kv.create_revision, kv.version), (300, 130));
                assert_eq!((kv.mod_revision, kv.lease), (70_000 + i64::from(key), content.lease_of(key)));
                leased += u32::from(kv.lease != 0);
                content.tombstone_record(key, &mut out);
                assert_eq!(
                    KeyValue::decode(&out).unwrap(),
                    KeyValue { key: &content.name(key), ..KeyValue::default() }
                );
            }
            assert!(leased > 10 && leased < 100, "{leased}");
        }
    }
}
