//! What entries of a log ask a server to do (FORMATS G.1, G.2): the requests a generated log carries.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Header {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Put {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) lease: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteRange {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Range {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
}

/// `Compare` of a key's last revision, the one comparison Kubernetes makes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CompareModRevision {
    /// 0: equal.
    #[prost(int32, tag = "1")]
    pub(crate) result: i32,
    /// 2: the revision.
    #[prost(int32, tag = "2")]
    pub(crate) target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key: Vec<u8>,
    /// One of several in the message; written even when it is 0.
    #[prost(int64, optional, tag = "6")]
    pub(crate) mod_revision: Option<i64>,
}

impl CompareModRevision {
    pub(crate) fn equals(key: Vec<u8>, revision: i64) -> Self {
        Self { result: 0, target: 2, key, mod_revision: Some(revision) }
    }
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Op {
    #[prost(message, tag = "1")]
    Range(Range),
    #[prost(message, tag = "2")]
    Put(Put),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRange),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestOp {
    #[prost(oneof = "Op", tags = "1, 2, 3")]
    pub(crate) op: Option<Op>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Txn {
    #[prost(message, repeated, tag = "1")]
    pub(crate) compare: Vec<CompareModRevision>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Compaction {
    #[prost(int64, tag = "1")]
    pub(crate) revision: i64,
    #[prost(bool, tag = "2")]
    pub(crate) physical: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseGrant {
    #[prost(int64, tag = "1")]
    pub(crate) ttl: i64,
    #[prost(int64, tag = "2")]
    pub(crate) id: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClusterVersionSet {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attributes {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) client_urls: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemberAttributesSet {
    #[prost(uint64, tag = "1")]
    pub(crate) member_id: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) attributes: Option<Attributes>,
}

/// `InternalRaftRequest`, one of whose fields besides the header is set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(message, optional, tag = "4")]
    pub(crate) put: Option<Put>,
    #[prost(message, optional, tag = "5")]
    pub(crate) delete_range: Option<DeleteRange>,
    #[prost(message, optional, tag = "6")]
    pub(crate) txn: Option<Txn>,
    #[prost(message, optional, tag = "7")]
    pub(crate) compaction: Option<Compaction>,
    #[prost(message, optional, tag = "8")]
    pub(crate) lease_grant: Option<LeaseGrant>,
    #[prost(message, optional, tag = "100")]
    pub(crate) header: Option<Header>,
    #[prost(message, optional, tag = "1300")]
    pub(crate) cluster_version_set: Option<ClusterVersionSet>,
    #[prost(message, optional, tag = "1301")]
    pub(crate) member_attributes_set: Option<MemberAttributesSet>,
}

/// A request of the v2 API, as servers up to 3.5 publish members and the cluster's version: proto2, every field that
/// is not a pointer in Go's struct written out, zero or not.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct V2Request {
    #[prost(uint64, optional, tag = "1")]
    id: Option<u64>,
    #[prost(string, optional, tag = "2")]
    method: Option<String>,
    #[prost(string, optional, tag = "3")]
    path: Option<String>,
    #[prost(string, optional, tag = "4")]
    value: Option<String>,
    #[prost(bool, optional, tag = "5")]
    dir: Option<bool>,
    #[prost(string, optional, tag = "6")]
    prev_value: Option<String>,
    #[prost(uint64, optional, tag = "7")]
    prev_index: Option<u64>,
    #[prost(int64, optional, tag = "9")]
    expiration: Option<i64>,
    #[prost(bool, optional, tag = "10")]
    wait: Option<bool>,
    #[prost(uint64, optional, tag = "11")]
    since: Option<u64>,
    #[prost(bool, optional, tag = "12")]
    recursive: Option<bool>,
    #[prost(bool, optional, tag = "13")]
    sorted: Option<bool>,
    #[prost(bool, optional, tag = "14")]
    quorum: Option<bool>,
    #[prost(int64, optional, tag = "15")]
    time: Option<i64>,
    #[prost(bool, optional, tag = "16")]
    stream: Option<bool>,
}

impl V2Request {
    /// Sets `path` to `value`.
    pub(crate) fn put(id: u64, path: String, value: String) -> Self {
        Self {
            id: Some(id),
            method: Some("PUT".to_owned()),
            path: Some(path),
            value: Some(value),
            dir: Some(false),
            prev_value: Some(String::new()),
            prev_index: Some(0),
            expiration: Some(0),
            wait: Some(false),
            since: Some(0),
            recursive: Some(false),
            sorted: Some(false),
            quorum: Some(false),
            time: Some(0),
            stream: Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use wal::raftpb::EntryType;
    use wal::{Payload, read_segment};

    use super::*;

    /// The data of all entries of a real server's log that ask for something.
    fn requests_of(version: &str) -> Vec<Vec<u8>> {
        let name = format!("../../wal/tests/golden/live-{version}.wal.zst");
        let packed = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        let log = zstd::decode_all(packed.as_slice()).unwrap();
        read_segment(&log)
            .filter_map(|record| match record.unwrap().payload().unwrap() {
                Payload::Entry(entry) if entry.entry_type == i32::from(EntryType::Normal) => {
                    Some(entry.data.to_vec())
                }
                _ => None,
            })
            .filter(|data| !data.is_empty())
            .collect()
    }

    /// Of the requests real servers logged, those of the kinds generated here are written again to the byte.
    #[test]
    fn requests_of_servers_are_written_again() {
        for (version, kinds) in [
            ("3.4.23", &["put", "delete", "txn", "compaction", "lease"][..]),
            ("3.5.30", &["put", "delete", "txn", "compaction", "lease"]),
            ("3.7.1", &["put", "delete", "txn", "compaction", "lease", "version", "attributes"]),
        ] {
            let mut again: BTreeMap<&str, u32> = BTreeMap::new();
            for data in requests_of(version) {
                let Ok(request) = Request::decode(data.as_slice()) else { continue };
                let kind = match &request {
                    Request { put: Some(_), .. } => "put",
                    Request { delete_range: Some(_), .. } => "delete",
                    Request { txn: Some(_), .. } => "txn",
                    Request { compaction: Some(_), .. } => "compaction",
                    Request { lease_grant: Some(_), .. } => "lease",
                    Request { cluster_version_set: Some(_), .. } => "version",
                    Request { member_attributes_set: Some(_), .. } => "attributes",
                    _ => continue,
                };
                if request.encode_to_vec() == data {
                    *again.entry(kind).or_default() += 1;
                }
            }
            for kind in kinds {
                assert!(again.contains_key(kind), "{version}: no {kind} among {again:?}");
            }
            assert!(again["put"] > 50, "{version}: {again:?}");
        }
    }

    #[test]
    fn v2_requests_of_servers_are_written_again() {
        for version in ["3.4.23", "3.5.30"] {
            let mut paths = Vec::new();
            for data in requests_of(version) {
                let Ok(read) = V2Request::decode(data.as_slice()) else { continue };
                if read.method.as_deref() != Some("PUT") {
                    continue;
                }
                let path = read.path.unwrap();
                assert_eq!(
                    V2Request::put(read.id.unwrap(), path.clone(), read.value.unwrap()).encode_to_vec(),
                    data
                );
                paths.push(path);
            }
            assert!(paths.iter().any(|path| path.ends_with("/attributes")), "{version}: {paths:?}");
            assert!(paths.iter().any(|path| path == "/0/version"), "{version}: {paths:?}");
        }
    }
}
