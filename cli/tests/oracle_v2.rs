//! The v2 store held against real servers with `--enable-v2`, on which random requests are made by HTTP: our tree from an early
//! `.snap` and the log is the server's own later `.snap`; what `v2 migrate` writes is what 3.4.23's `etcdctl migrate` writes, and
//! servers start on it and serve the keys. About seven seconds a version and test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use bbolt::{Db, Graft};
use serde_json::Value;
use snapshot::facts::{self, FactsOptions};
use snapshot::v2tree::V2Tree;
use support::{code, rescue, text};
use testdata::fingerprint;
use testdata::oracle::{Gateway, Server, Tools, Version};

const V2: [&str; 3] = ["--enable-v2=true", "--snapshot-count", "40"];

/// Numbers that are the same for one seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// A request of any kind on one of few keys, the root among them if that `has_root`: a server keeps it, and etcdctl, which reads the same
/// requests when it migrates, does not.
fn ask(gateway: &mut Gateway, dice: &mut Dice, has_root: bool) {
    let path = dice.of(&["a", "a/b", "a/b/c", "a/d", "e", "e/f", "_h/i", "e/_j", "k/l/m/n", "q", ""]);
    let path = if path.is_empty() && !has_root { "a" } else { path };
    let path = format!("/v2/keys/{path}");
    let value = dice.of(&["value=one", "value=two", "value=%3Cthree%3E%26%E2%82%AC", "value=", "value=%FE"]);
    let (method, query, form) = match dice.below(16) {
        0..=4 => ("PUT", "", value.to_owned()),
        5 => ("PUT", "", "dir=true".to_owned()),
        6 => ("PUT", "", format!("{value}&prevExist=true")),
        7 => ("PUT", "", format!("{value}&prevExist=false")),
        8 => ("PUT", "", format!("{value}&prevValue=one")),
        9 => ("PUT", "", format!("{value}&ttl={}", 1 + dice.below(3))),
        10 => ("PUT", "", format!("ttl={}&refresh=true&prevExist=true", 1 + 100 * dice.below(2))),
        11 => (
            "PUT",
            "",
            format!("dir=true&ttl={}&prevExist={}", 1 + dice.below(4), dice.of(&["true", "false"])),
        ),
        12 => ("POST", "", value.to_owned()),
        13 => ("DELETE", dice.of(&["", "?prevValue=two", "?dir=true"]), String::new()),
        14 => ("DELETE", "?recursive=true", String::new()),
        _ => ("GET", "?recursive=true&quorum=true", String::new()),
    };
    gateway.form(method, &format!("{path}{query}"), &form);
}

/// A stopped member with keys, and the last answer of its server.
fn used(version: Version, scratch: &Path, seed: u64, has_root: bool) -> (PathBuf, Value) {
    let data = scratch.join("data");
    let mut server = Server::start(version, &data, "n1", &V2);
    let mut gateway = Gateway::ready(&mut server);
    let mut dice = Dice(seed);
    for round in 0..4 {
        for _ in 0..45 {
            ask(&mut gateway, &mut dice, has_root);
        }
        if round % 2 == 0 {
            // What expires does.
            sleep(Duration::from_millis(1200));
        } else {
            server.stop();
            server.restart();
            gateway = Gateway::ready(&mut server);
        }
    }
    for key in ["last/one", "last/two", "_hidden"] {
        assert_eq!(gateway.form("PUT", &format!("/v2/keys/{key}"), "value=kept"), 201);
    }
    gateway.form("PUT", "/v2/keys/last/long", "value=expires&ttl=1000000");
    let url = format!("{}/v2/keys/?recursive=true&sorted=true", server.client_url());
    let curl =
        std::process::Command::new("curl").args(["-sf", &url]).output().expect("tests need the program curl");
    let answer = serde_json::from_slice(&curl.stdout).unwrap();
    server.stop();
    (data, answer)
}

fn snaps(data: &Path) -> BTreeMap<u64, PathBuf> {
    let names = fs::read_dir(data.join("member/snap")).unwrap().map(|entry| entry.unwrap().path());
    let snaps = names.filter_map(|path| {
        let (_, index) = wal::parse_snap_name(path.file_name()?.to_str()?)?;
        Some((index, path))
    });
    snaps.collect()
}

/// A store without what no file tells: the seconds that an event had left, and how often a server read.
fn told(json: &[u8]) -> Value {
    let mut store: Value = serde_json::from_slice(json).unwrap();
    for count in ["getsSuccess", "getsFail", "watchers"] {
        store["Stats"][count] = Value::Null;
    }
    for event in store["WatcherHub"]["EventHistory"]["Queue"]["Events"].as_array_mut().unwrap() {
        for node in ["node", "prevNode"] {
            if let Some(node) = event.get_mut(node).and_then(Value::as_object_mut) {
                node.remove("ttl");
            }
        }
    }
    store
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_v2_trees_are_those_of_the_server() {
    for (version, seed) in Version::ALL.into_iter().zip(71..) {
        let scratch = tempfile::tempdir().unwrap();
        let (data, _) = used(version, scratch.path(), seed, true);
        let found = snaps(&data);
        let theirs: BTreeMap<u64, Vec<u8>> = found
            .iter()
            .map(|(index, path)| {
                (*index, wal::decode_snap(&fs::read(path).unwrap()).unwrap().data().to_vec())
            })
            .collect();
        assert!(theirs.len() >= 4, "{version:?}: {:?}", theirs.keys());
        // From each alone to all that came later; in the end from the log's beginning.
        for kept in found.keys().copied().map(Some).chain([None]) {
            let copy = tempfile::tempdir().unwrap();
            let copied =
                std::process::Command::new("cp").arg("-a").arg(&data).arg(copy.path()).status().unwrap();
            assert!(copied.success());
            let copy = copy.path().join("data");
            for (_, path) in snaps(&copy).iter().filter(|(index, _)| Some(**index) != kept) {
                fs::remove_file(path).unwrap();
            }
            let facts = facts::gather(&copy, &FactsOptions::default(), &()).unwrap();
            for (index, json) in theirs.iter().filter(|(index, _)| Some(**index) >= kept) {
                let ours = V2Tree::at(&facts, *index).unwrap().to_json().unwrap();
                assert_eq!(told(&ours), told(json), "{version:?}, seed {seed}, from {kept:?} to {index}");
            }
        }
    }
}

/// Values by key in what a server answered, directories and what is hidden left out as there.
fn values(answer: &Value) -> BTreeMap<String, String> {
    let (mut values, mut open) = (BTreeMap::new(), vec![&answer["node"]]);
    while let Some(node) = open.pop() {
        open.extend(node["nodes"].as_array().into_iter().flatten());
        if let (Some(key), Some(value)) = (node["key"].as_str(), node["value"].as_str()) {
            values.insert(key.to_owned(), value.to_owned());
        }
    }
    values
}

fn records(data: &Path) -> (BTreeMap<Vec<u8>, Vec<u8>>, Vec<u8>) {
    let db = Db::from_source(fs::read(data.join("member/snap/db")).unwrap()).unwrap();
    let graft = Graft::new(&db);
    let meta = graft.pairs(b"meta").unwrap().unwrap();
    (graft.pairs(b"key").unwrap().unwrap(), meta[&b"consistent_index"[..]].clone())
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_v2_migrated_keys_are_those_of_etcdctl_and_are_served() {
    for (version, seed) in Version::ALL.into_iter().zip(81..) {
        let scratch = tempfile::tempdir().unwrap();
        let (data, answer) = used(version, scratch.path(), seed, false);
        let before = fingerprint(&data);
        let out = scratch.path().join("out");
        let run = rescue(["-w", "json", "v2", "migrate", text(&data), "-o", text(&out)]);
        // A hidden key is left out.
        assert_eq!(code(&run), 3, "{version:?}: {}", run.stderr);
        assert_eq!(fingerprint(&data), before, "the input changed");
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let wanted = values(&answer);
        if version == Version::V3_4 {
            let theirs = scratch.path().join("theirs");
            assert!(
                std::process::Command::new("cp").arg("-a").args([&data, &theirs]).status().unwrap().success()
            );
            let run = Tools::find(version).etcdctl(["migrate", "--data-dir", text(&theirs)]);
            assert_eq!(code(&run), 0, "{}", run.stderr);
            assert_eq!(records(&out), records(&theirs), "seed {seed}");
        }
        for again in [version, Version::V3_5New] {
            let mut server = Server::start(again, &out, "n1", &V2);
            let mut gateway = Gateway::ready(&mut server);
            assert_eq!(gateway.revision(), report["revision"].as_i64().unwrap(), "{again:?}");
            let served: BTreeMap<String, String> = gateway
                .list(0)
                .unwrap()
                .into_iter()
                .map(|kv| (String::from_utf8(kv.key).unwrap(), String::from_utf8(kv.value).unwrap()))
                .collect();
            // What had a second to live may have gone in the v2 store meanwhile.
            for (key, value) in &wanted {
                assert_eq!(served.get(key), Some(value), "{again:?}: {key}");
            }
            assert!(served.contains_key("/last/long"));
            let client = &*server;
            let revision = client.put("new", "key");
            assert_eq!(client.delete("/last/one"), 1);
            client.compact(revision);
            client.put("/last/one", "kept");
            client.delete("/last/one");
            client.put("/last/one", "kept");
            server.stop();
            server.restart();
            assert_eq!(server.get_all().kvs.iter().filter(|kv| kv["key"] == "bmV3").count(), 1);
            // As it was, for the next.
            server.stop();
            fs::remove_dir_all(&out).unwrap();
            assert_eq!(code(&rescue(["v2", "migrate", text(&data), "-o", text(&out)])), 3);
        }
    }
}
