//! The v2 store: the JSON tree etcd keeps inside a `.snap` file (FORMATS F.2).
//!
//! etcd 3.4 and 3.5 boot their membership from it, 3.6 checks it, 3.7 only writes it. [`restored_store`] writes the
//! text that `snapshot restore` of each version writes; [`read`] reads what any server left behind.

use std::collections::{BTreeMap, BTreeSet};

use crate::membership::{Member, MemberJsonError, parse_hex_id};
use crate::target::TargetVersion;
use crate::v2tree::V2Tree;

/// How many paths of a kind a reader lists; the rest is only counted.
const LISTED_PATHS: usize = 20;
const MEMBERS: &str = "/0/members";

/// The store that a freshly restored cluster of `members` has, as the tool of `version` writes it, byte for byte.
///
/// Members are created in ascending order of ID. 3.4 and 3.5 do so too; 3.6 and 3.7 go through a Go map and create them
/// in any order, so theirs is this text up to a permutation of the indices (FORMATS W). Those two also count one failed
/// read, of the member list they make sure is not there yet.
#[must_use]
pub fn restored_store(members: &[Member], version: TargetVersion) -> Vec<u8> {
    let mut ordered: Vec<&Member> = members.iter().collect();
    ordered.sort_by_key(|member| member.id);
    V2Tree::created(ordered, version >= TargetVersion::V3_6).json()
}

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum V2StoreError {
    /// Not the JSON of a store; nesting beyond 128 levels counts as that.
    #[error("not a v2 store: {0}")]
    Json(#[from] serde_json::Error),
    /// No tree in it.
    #[error("a v2 store without a root")]
    NoRoot,
    /// A member's attributes are no JSON.
    #[error("v2 store, {path}: {error}")]
    Attributes {
        /// The path of the node.
        path: String,
        /// What is wrong with its value.
        error: MemberJsonError,
    },
}

/// What a v2 store says about a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct V2Store {
    /// The members, ascending by ID; names and client URLs where the member has published them.
    pub members: Vec<Member>,
    /// IDs that were members and may not come back, ascending.
    pub removed: Vec<u64>,
    /// The cluster's version (`3.5.0`), where one was set.
    pub cluster_version: Option<String>,
    /// How many mutations the store has seen.
    pub current_index: u64,
    /// Nodes outside `/0` beyond the empty directories etcd makes itself: v2 keys or v2 auth, over which etcd 3.6
    /// refuses to start.
    pub foreign: Paths,
    /// Nodes under `/0` that etcd does not know; most make a server panic.
    pub unexpected: Paths,
}

/// Some paths, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paths {
    /// How many there are.
    pub count: u64,
    /// The first of them, at most 20.
    pub first: Vec<String>,
}

impl Paths {
    fn push(&mut self, path: &str) {
        self.count += 1;
        if self.first.len() < LISTED_PATHS {
            self.first.push(path.to_owned());
        }
    }
}

#[derive(serde::Deserialize)]
struct RawStore {
    #[serde(rename = "Root")]
    root: Option<RawNode>,
    #[serde(rename = "CurrentIndex")]
    current_index: Option<u64>,
}

/// Nested as the JSON is; `serde_json` stops at 128 levels, which also bounds dropping it.
#[derive(serde::Deserialize)]
struct RawNode {
    #[serde(rename = "Value")]
    value: Option<String>,
    #[serde(rename = "Children")]
    children: Option<BTreeMap<String, RawNode>>,
}

impl RawNode {
    fn children(&self) -> impl Iterator<Item = (&String, &RawNode)> {
        self.children.iter().flatten()
    }

    fn value(&self) -> &str {
        self.value.as_deref().unwrap_or("")
    }
}

/// Reads the JSON of a v2 store (the `data` of a raft snapshot).
///
/// # Errors
/// [`V2StoreError`]: not a store, or a member in it that cannot be read. Nodes that etcd would not have written are no
/// error; they are listed in the result.
pub fn read(json: &[u8]) -> Result<V2Store, V2StoreError> {
    let raw: RawStore = serde_json::from_str(&String::from_utf8_lossy(json))?;
    let root = raw.root.ok_or(V2StoreError::NoRoot)?;
    let mut store = V2Store { current_index: raw.current_index.unwrap_or(0), ..V2Store::default() };
    for (name, node) in root.children() {
        let path = format!("/{name}");
        if name == "0" {
            read_cluster(&mut store, node)?;
        } else {
            list_below(&mut store.foreign, &path, node);
        }
    }
    Ok(store)
}

fn read_cluster(store: &mut V2Store, cluster: &RawNode) -> Result<(), V2StoreError> {
    let mut members = BTreeMap::new();
    let mut removed = BTreeSet::new();
    for (name, node) in cluster.children() {
        match name.as_str() {
            "members" => {
                for (name, node) in node.children() {
                    let path = format!("{MEMBERS}/{name}");
                    if let Some(member) = read_member(store, &path, name, node)? {
                        members.insert(member.id, member);
                    }
                }
            }
            "removed_members" => {
                for (name, _) in node.children() {
                    match parse_hex_id(name) {
                        Some(id) => {
                            removed.insert(id);
                        }
                        None => store.unexpected.push(&format!("/0/removed_members/{name}")),
                    }
                }
            }
            "version" => store.cluster_version = Some(node.value().to_owned()),
            _ => store.unexpected.push(&format!("/0/{name}")),
        }
    }
    store.members = members.into_values().collect();
    store.removed = removed.into_iter().collect();
    Ok(())
}

fn read_member(
    store: &mut V2Store,
    path: &str,
    name: &str,
    node: &RawNode,
) -> Result<Option<Member>, V2StoreError> {
    let Some(id) = parse_hex_id(name) else {
        store.unexpected.push(path);
        return Ok(None);
    };
    let mut member = Member { id, ..Member::default() };
    let mut has_raft_attributes = false;
    for (name, node) in node.children() {
        let path = format!("{path}/{name}");
        match name.as_str() {
            "raftAttributes" | "attributes" => {
                has_raft_attributes |= name == "raftAttributes";
                member
                    .merge_attributes(node.value().as_bytes())
                    .map_err(|e| V2StoreError::Attributes { path, error: e.into() })?;
            }
            _ => store.unexpected.push(&path),
        }
    }
    if !has_raft_attributes {
        store.unexpected.push(path);
        return Ok(None);
    }
    Ok(Some(member))
}

fn list_below(paths: &mut Paths, path: &str, node: &RawNode) {
    // Every server has /1; one that once had v2 auth compiled in has these too, whether anybody used it or not.
    let made_by_etcd = |path: &str, node: &RawNode| match path {
        "/1" | "/2" | "/2/users" | "/2/roles" => node.children.is_some(),
        "/2/enabled" => node.value() == "false",
        _ => false,
    };
    let mut open = vec![(path.to_owned(), node)];
    while let Some((path, node)) = open.pop() {
        if !made_by_etcd(&path, node) {
            paths.push(&path);
        }
        open.extend(node.children().map(|(name, child)| (format!("{path}/{name}"), child)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::InitialCluster;

    fn golden(name: &str) -> Vec<u8> {
        let path = format!("{}/../testdata/v2store/{name}.json.zst", env!("CARGO_MANIFEST_DIR"));
        let packed = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        zstd::decode_all(packed.as_slice()).expect("zstd")
    }

    /// The members of the goldens, ascending by ID.
    fn members() -> Vec<Member> {
        InitialCluster::parse("m1=http://127.0.0.1:1380,m2=http://127.0.0.1:2380,m3=http://127.0.0.1:3380")
            .and_then(|c| c.members("golden"))
            .expect("three members")
    }

    #[track_caller]
    fn assert_same(ours: &[u8], theirs: &[u8]) {
        assert_eq!(String::from_utf8_lossy(ours), String::from_utf8_lossy(theirs));
    }

    #[test]
    fn equals_the_real_tools_to_the_byte() {
        // The members given in another order than that of their IDs make no difference.
        let mut given = members();
        given.reverse();
        assert_same(&restored_store(&given, TargetVersion::V3_4), &golden("restored-3.4.23"));
        assert_same(&restored_store(&given, TargetVersion::V3_5), &golden("restored-3.5.1"));
        // One of 3.6's runs happened to create them in ascending order.
        assert_same(&restored_store(&given, TargetVersion::V3_6), &golden("restored-3.6.14-order-123"));
    }

    #[test]
    fn differs_from_other_runs_of_the_real_tools_only_by_the_order_of_creation() {
        let by_id = members();
        for (name, version, created_as) in [
            ("restored-3.6.14-order-231", TargetVersion::V3_6, [2, 3, 1]),
            ("restored-3.7.1-order-231", TargetVersion::V3_7, [2, 3, 1]),
            ("restored-3.7.1-order-312", TargetVersion::V3_7, [3, 1, 2]),
        ] {
            let mut created: Vec<(u64, &Member)> = created_as.into_iter().zip(&by_id).collect();
            created.sort_by_key(|(index, _)| *index);
            let created = created.into_iter().map(|(_, member)| member);
            let store = V2Tree::created(created, version >= TargetVersion::V3_6).json();
            assert_same(&store, &golden(name));
            assert_ne!(restored_store(&by_id, version), golden(name));
        }
        // 3.7 has no golden in our order, but writes the same text as 3.6, which has.
        assert_same(
            &restored_store(&by_id, TargetVersion::V3_7),
            &restored_store(&by_id, TargetVersion::V3_6),
        );
    }

    #[test]
    fn children_are_in_order_of_their_names_and_not_of_their_numbers() {
        let member = |id| Member { id, peer_urls: vec![format!("http://h:{id}")], ..Member::default() };
        let store = restored_store(&[member(0x9), member(0x10)], TargetVersion::V3_5);
        let text = String::from_utf8(store).expect("UTF-8");
        let (ten, nine) = (text.find("\"10\":{").expect("10"), text.find("\"9\":{").expect("9"));
        assert!(ten < nine, "Go sorts map keys as text");
        assert!(text.contains("\"/0/members/9\",\"CreatedIndex\":1,"), "created in order of numbers");
    }

    #[test]
    fn the_history_is_a_ring_of_a_thousand() {
        let members: Vec<Member> = (1..=1003)
            .map(|id| Member { id, peer_urls: vec![format!("http://h:{id}")], ..Member::default() })
            .collect();
        for (count, size, front, back, start) in
            [(999, 999, 0, 999, 1), (1000, 1000, 0, 0, 1), (1003, 1000, 3, 3, 4)]
        {
            let json = restored_store(members.get(..count).expect("enough"), TargetVersion::V3_5);
            let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            let history = &value["WatcherHub"]["EventHistory"];
            let queue = &history["Queue"];
            assert_eq!(queue["Size"], size);
            assert_eq!(queue["Front"], front);
            assert_eq!(queue["Back"], back);
            assert_eq!(history["StartIndex"], start);
            assert_eq!(history["LastIndex"], count);
            assert_eq!(queue["Events"].as_array().map(Vec::len), Some(1000));
            assert_eq!(
                queue["Events"][usize::try_from(front).expect("small")]["node"]["createdIndex"],
                start
            );
        }
    }
}
