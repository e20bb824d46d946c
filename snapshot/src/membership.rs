//! Who belongs to a cluster: `--initial-cluster`, the IDs that follow from it, and the member record etcd keeps.
//!
//! IDs are hashes of text (FORMATS H.1), so they need no server: every host that restores with the same flags comes to
//! the same IDs. Member records exist as one JSON text in the backend and in conf change entries (FORMATS B.5, checked
//! against the logs etcd's own restore writes), and split in two in the v2 store (FORMATS F.2).

use std::collections::BTreeMap;
use std::fmt;

use sha1::{Digest, Sha1};

use crate::gojson;
use crate::gourl::{PeerUrls, UrlError};

/// `id` as etcd prints it and as it stands in bucket keys and v2 paths: lower-case hex without leading zeros.
#[must_use]
pub fn hex_id(id: u64) -> String {
    format!("{id:x}")
}

/// Reads what [`hex_id`] prints, with leading zeros allowed as etcd allows them.
#[must_use]
pub fn parse_hex_id(text: &str) -> Option<u64> {
    // `from_str_radix` would also take a sign.
    if text.starts_with(['+', '-']) { None } else { u64::from_str_radix(text, 16).ok() }
}

/// The ID of a member that was there from the start: SHA-1 over its sorted URLs and the cluster token, first 8 bytes
/// (FORMATS H.1). Members added to a running cluster have the time in their ID too and cannot be recomputed.
#[must_use]
pub fn member_id(urls: &PeerUrls, token: &str) -> u64 {
    let mut hash = Sha1::new();
    for url in urls.as_slice() {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    first_eight(&hash.finalize())
}

/// The cluster's ID: SHA-1 over the ascending member IDs, first 8 bytes (FORMATS H.1).
#[must_use]
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

fn first_eight(hash: &[u8]) -> u64 {
    hash.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// A member as etcd records it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The raft ID.
    pub id: u64,
    /// Empty until the member has started once (or, in a restored dir, known from the flags).
    pub name: String,
    /// Where the other members reach it; sorted.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// Replicates without a vote (3.4 and later).
    pub is_learner: bool,
}

/// Why a text is no member record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberJsonError {
    /// Not JSON, or a field of another kind than etcd writes.
    #[error("not a member record: {0}")]
    Json(#[from] serde_json::Error),
    /// No `id`.
    #[error("a member record without an id")]
    NoId,
}

impl Member {
    /// The record as Go encodes it: `id`, `peerURLs`, then `isLearner`, `name` and `clientURLs` where they say
    /// something. This is the value in bucket `members` and the context of a conf change.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = b"{\"id\":".to_vec();
        gojson::push_u64(&mut out, self.id);
        out.extend_from_slice(b",\"peerURLs\":");
        self.push_raft_fields(&mut out);
        if !self.name.is_empty() {
            out.extend_from_slice(b",\"name\":");
            gojson::push_string(&mut out, self.name.as_bytes());
        }
        self.push_client_urls(&mut out, b",");
        out.push(b'}');
        out
    }

    /// The half the v2 store keeps as `raftAttributes`.
    #[must_use]
    pub fn raft_attributes_json(&self) -> Vec<u8> {
        let mut out = b"{\"peerURLs\":".to_vec();
        self.push_raft_fields(&mut out);
        out.push(b'}');
        out
    }

    /// The half the v2 store keeps as `attributes`, once the member has published it.
    #[must_use]
    pub fn attributes_json(&self) -> Vec<u8> {
        let mut out = b"{".to_vec();
        if !self.name.is_empty() {
            out.extend_from_slice(b"\"name\":");
            gojson::push_string(&mut out, self.name.as_bytes());
        }
        let comma: &[u8] = if self.name.is_empty() { b"" } else { b"," };
        self.push_client_urls(&mut out, comma);
        out.push(b'}');
        out
    }

    fn push_raft_fields(&self, out: &mut Vec<u8>) {
        if self.peer_urls.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            gojson::push_strings(out, &self.peer_urls);
        }
        if self.is_learner {
            out.extend_from_slice(b",\"isLearner\":true");
        }
    }

    fn push_client_urls(&self, out: &mut Vec<u8>, comma: &[u8]) {
        if !self.client_urls.is_empty() {
            out.extend_from_slice(comma);
            out.extend_from_slice(b"\"clientURLs\":");
            gojson::push_strings(out, &self.client_urls);
        }
    }

    /// Reads a member record. Unknown fields are passed over, missing and `null` ones are empty, and bytes that are no
    /// UTF-8 are replaced, all as Go's decoder does.
    ///
    /// # Errors
    /// [`MemberJsonError`]: not JSON, a field of the wrong kind, or no `id`.
    pub fn from_json(json: &[u8]) -> Result<Member, MemberJsonError> {
        let fields = Fields::read(json)?;
        let id = fields.id.ok_or(MemberJsonError::NoId)?;
        let mut member = Member { id, ..Member::default() };
        member.take(fields);
        Ok(member)
    }

    /// Takes over what one of the two halves of the v2 store says.
    ///
    /// # Errors
    /// Not JSON, or a field of the wrong kind.
    pub fn merge_attributes(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        self.take(Fields::read(json)?);
        Ok(())
    }

    fn take(&mut self, fields: Fields) {
        if let Some(urls) = fields.peer_urls {
            self.peer_urls = urls;
        }
        if let Some(urls) = fields.client_urls {
            self.client_urls = urls;
        }
        if let Some(name) = fields.name {
            self.name = name;
        }
        if let Some(learner) = fields.is_learner {
            self.is_learner = learner;
        }
    }
}

#[derive(serde::Deserialize)]
struct Fields {
    id: Option<u64>,
    #[serde(rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
    name: Option<String>,
    #[serde(rename = "isLearner")]
    is_learner: Option<bool>,
}

impl Fields {
    fn read(json: &[u8]) -> Result<Fields, serde_json::Error> {
        serde_json::from_str(&String::from_utf8_lossy(json))
    }
}

/// Why an `--initial-cluster` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Nothing in it.
    #[error("--initial-cluster names no member")]
    Empty,
    /// `name` or `name=`, without a URL.
    #[error("empty URL given for {name:?} in --initial-cluster")]
    NoUrl {
        /// The member.
        name: String,
    },
    /// `=url`.
    #[error("--initial-cluster gives {url:?} to a member without a name")]
    NoName {
        /// What stands after the `=`.
        url: String,
    },
    /// A URL that is none.
    #[error("{name:?} in --initial-cluster: {error}")]
    Url {
        /// The member.
        name: String,
        /// What is wrong.
        error: UrlError,
    },
    /// One URL twice, for one member or for two.
    #[error(
        "--initial-cluster gives the URL {url} to {first:?} and to {second:?}; every member needs its own"
    )]
    DuplicateUrl {
        /// The URL, as Go prints it.
        url: String,
        /// The first member with it.
        first: String,
        /// The second, which may be the first again.
        second: String,
    },
    /// Two members with one ID.
    #[error("members {first:?} and {second:?} would have the same ID {id:x}")]
    DuplicateId {
        /// The ID.
        id: u64,
        /// The first member with it.
        first: String,
        /// The second.
        second: String,
    },
    /// An ID raft keeps for "nobody".
    #[error("member {name:?} would have the ID 0, which raft cannot use; change its URL or the token")]
    ZeroId {
        /// The member.
        name: String,
    },
    /// `--name` is not among the members.
    #[error("{name:?} is not in --initial-cluster, which has {members}", members = quoted_list(.present))]
    NotPresent {
        /// The name asked for.
        name: String,
        /// The names there are.
        present: Vec<String>,
    },
    /// The member's own URLs differ from those the cluster has for it.
    #[error(
        "--initial-cluster has {cluster} for {name:?}, but --initial-advertise-peer-urls is {advertised}; they must be \
         the same text (no name is resolved)"
    )]
    AdvertiseMismatch {
        /// The member.
        name: String,
        /// Its URLs in `--initial-cluster`.
        cluster: PeerUrls,
        /// Its URLs in `--initial-advertise-peer-urls`.
        advertised: PeerUrls,
    },
}

fn quoted_list(names: &[String]) -> String {
    names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
}

/// A parsed `--initial-cluster`: at least one member, no URL twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialCluster {
    members: BTreeMap<String, PeerUrls>,
}

impl InitialCluster {
    /// Reads `name=url,name=url2,other=url3`; a repeated name collects URLs. As in etcd, empty items are passed over
    /// and names are taken as they stand, spaces included.
    ///
    /// # Errors
    /// [`ClusterError`], the first fault in order of names.
    pub fn parse(text: &str) -> Result<InitialCluster, ClusterError> {
        let mut typed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (name, url) = item.split_once('=').unwrap_or((item, ""));
            if name.is_empty() {
                return Err(ClusterError::NoName { url: url.to_owned() });
            }
            typed.entry(name).or_default().push(url);
        }
        if typed.is_empty() {
            return Err(ClusterError::Empty);
        }
        let mut members = BTreeMap::new();
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        for (name, urls) in typed {
            if urls.iter().any(|url| url.is_empty()) {
                return Err(ClusterError::NoUrl { name: name.to_owned() });
            }
            let urls =
                PeerUrls::new(&urls).map_err(|error| ClusterError::Url { name: name.to_owned(), error })?;
            for url in urls.as_slice() {
                if let Some(first) = owners.insert(url.clone(), name) {
                    return Err(ClusterError::DuplicateUrl {
                        url: url.clone(),
                        first: first.to_owned(),
                        second: name.to_owned(),
                    });
                }
            }
            members.insert(name.to_owned(), urls);
        }
        Ok(InitialCluster { members })
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The URLs of the member called `name`.
    ///
    /// # Errors
    /// [`ClusterError::NotPresent`].
    pub fn urls(&self, name: &str) -> Result<&PeerUrls, ClusterError> {
        self.members.get(name).ok_or_else(|| ClusterError::NotPresent {
            name: name.to_owned(),
            present: self.members.keys().cloned().collect(),
        })
    }

    /// Holds the member's own idea of its URLs against the cluster's, as text after Go's normalisation. etcd would
    /// also accept two texts that resolve to one address; this tool asks no name server.
    ///
    /// # Errors
    /// [`ClusterError::NotPresent`], [`ClusterError::AdvertiseMismatch`].
    pub fn check_advertised(&self, name: &str, advertised: &PeerUrls) -> Result<(), ClusterError> {
        let cluster = self.urls(name)?;
        if cluster == advertised {
            return Ok(());
        }
        Err(ClusterError::AdvertiseMismatch {
            name: name.to_owned(),
            cluster: cluster.clone(),
            advertised: advertised.clone(),
        })
    }

    /// The members with the IDs that `token` gives them, ascending by ID: the order in which etcd writes them.
    ///
    /// # Errors
    /// [`ClusterError::ZeroId`], [`ClusterError::DuplicateId`].
    pub fn members(&self, token: &str) -> Result<Vec<Member>, ClusterError> {
        let mut by_id: BTreeMap<u64, Member> = BTreeMap::new();
        for (name, urls) in &self.members {
            let id = member_id(urls, token);
            if id == 0 {
                return Err(ClusterError::ZeroId { name: name.clone() });
            }
            let member =
                Member { id, name: name.clone(), peer_urls: urls.as_slice().to_vec(), ..Member::default() };
            if let Some(first) = by_id.insert(id, member) {
                return Err(ClusterError::DuplicateId { id, first: first.name, second: name.clone() });
            }
        }
        Ok(by_id.into_values().collect())
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, urls) in &self.members {
            for url in urls.as_slice() {
                write!(f, "{separator}{name}={url}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}
