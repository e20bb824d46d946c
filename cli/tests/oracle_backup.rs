//! `backup` against the programs that had it: etcdctl 3.4.23 and etcdutl 3.5. Log, `.snap` and database are theirs but for ids, and but
//! for what they got wrong; and real servers start on the copy with `--force-new-cluster`, serve what was there, and keep what they are
//! given. About ten seconds a version.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use serde_json::{Value, json};
use support::{code, rescue, text};
use testdata::oracle::{Gateway, HashKv, Launch, Run, Tools, Version};
use testdata::{base64, fingerprint};
use wal::RecordType;

const V2: &str = "--enable-v2=true";
const FAST: [&str; 2] = ["--heartbeat-interval=20", "--election-timeout=200"];

/// A stopped member with keys of both APIs, whose newest `.snap` is older than some changes of members.
fn stopped(version: Version, dir: &Path) -> HashKv {
    let mut server = Launch::new(version, dir, "n1").args(FAST).args([V2, "--snapshot-count", "25"]).start();
    let mut gateway = Gateway::to(&server);
    let mut fill = |from: u32, to: u32| {
        for number in from..to {
            let key = base64::encode(format!("key-{}", number % 17).as_bytes());
            let value = base64::encode(format!("value {number}").as_bytes());
            gateway.must("/v3/kv/put", &json!({ "key": key, "value": value }));
            if number % 5 == 0 {
                let made =
                    gateway.form("PUT", &format!("/v2/keys/dir/k{number}"), &format!("value=v{number}"));
                assert_eq!(made, 201);
            }
        }
    };
    fill(0, 64);
    server.etcdctl(["member", "add", "n2", "--peer-urls=http://127.0.0.1:1", "--learner"]).ok();
    let learner = server.members().into_iter().find(|member| member.is_learner).unwrap().id;
    server.etcdctl(["member", "remove", &format!("{learner:x}")]).ok();
    fill(64, 70);
    let truth = server.hashkv(0);
    server.stop();
    truth
}

/// What the original makes of `dir`.
fn original(version: Version, dir: &Path, out: &Path) {
    let tools = Tools::find(version);
    let mut command = tools.command(if version == Version::V3_4 { "etcdctl" } else { "etcdutl" });
    command.args(["backup", "--data-dir", text(dir), "--backup-dir", text(out)]);
    if version == Version::V3_4 {
        command.env("ETCDCTL_API", "2").arg("--with-v3");
    }
    Run::to_end(command).ok();
}

fn ours(dir: &Path, out: &Path, more: &[&str]) -> Value {
    let before = fingerprint(dir);
    let run = rescue(
        ["-w", "json", "backup", "--data-dir", text(dir), "--backup-dir", text(out)].iter().chain(more),
    );
    // The v2 keys that every one of these members has are told, and nothing else.
    assert_eq!(code(&run), 3, "{}", run.stderr);
    assert_eq!(fingerprint(dir), before, "the input changed");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let mut codes = report["findings"].as_array().unwrap().iter().map(|found| &found["code"]);
    assert!(codes.all(|code| code == "SNAP-V2-KEYS"), "{report}");
    report
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| text(path).ends_with(suffix));
    found.sort();
    found
}

/// The records of a log of one segment.
fn records(dir: &Path) -> Vec<(RecordType, Vec<u8>)> {
    let segments = files(&dir.join("member/wal"), ".wal");
    assert_eq!(segments.len(), 1);
    let bytes = fs::read(&segments[0]).unwrap();
    wal::read_segment(&bytes)
        .map(|record| record.unwrap())
        .map(|record| (record.record_type, record.data.to_vec()))
        .collect()
}

fn entries(records: &[(RecordType, Vec<u8>)]) -> Vec<Vec<u8>> {
    records.iter().filter(|(kind, _)| *kind == RecordType::Entry).map(|(_, data)| data.clone()).collect()
}

/// Name, voters and v2 store of the one `.snap`.
fn snap(dir: &Path) -> (String, Vec<u64>, String) {
    let snaps = files(&dir.join("member/snap"), ".snap");
    assert_eq!(snaps.len(), 1);
    let snapshot = wal::decode_snap(&fs::read(&snaps[0]).unwrap()).unwrap();
    let voters = snapshot.metadata.unwrap().conf_state.unwrap().voters;
    let name = snaps[0].file_name().unwrap().to_str().unwrap().to_owned();
    (name, voters, String::from_utf8(snapshot.data.unwrap()).unwrap())
}

fn rows(dir: &Path, bucket: &str) -> String {
    let run = rescue(["iterate-bucket", text(dir), bucket]);
    if code(&run) == 0 { run.stdout } else { String::new() }
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_backup_is_the_originals_but_for_ids(
    #[values(Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    stopped(version, &at("data"));
    original(version, &at("data"), &at("theirs"));
    ours(&at("data"), &at("ours"), &[]);

    let (own, other) = (records(&at("ours")), records(&at("theirs")));
    assert_eq!(entries(&own), entries(&other));
    let kinds = |records: &[(RecordType, Vec<u8>)]| records.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
    assert_eq!(kinds(&own), kinds(&other));
    let ((own_name, own_voters, own_store), (name, voters, store)) = (snap(&at("ours")), snap(&at("theirs")));
    assert_eq!((own_name, own_voters.len()), (name, voters.len()));
    let renamed = store.replace(&format!("{:x}", voters[0]), &format!("{:x}", own_voters[0]));
    assert_eq!(own_store, renamed);
    for bucket in ["key", "lease", "meta", "auth", "alarm", "cluster", "members_removed"] {
        assert_eq!(rows(&at("ours"), bucket), rows(&at("theirs"), bucket), "{bucket}");
    }
}

/// etcdctl 3.4 takes entries out and moves the others; what is left is what is kept in its place here.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_what_3_4_keeps_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    stopped(Version::V3_4, &at("data"));
    original(Version::V3_4, &at("data"), &at("theirs"));
    let report = ours(&at("data"), &at("ours"), &[]);
    let contents = |dir: &Path| -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for (_, data) in records(dir).iter().filter(|(kind, _)| *kind == RecordType::Entry) {
            found.push(wal::EntryRef::decode(data).unwrap().data.to_vec());
        }
        found.retain(|data| !data.is_empty());
        found
    };
    assert_eq!(contents(&at("ours")), contents(&at("theirs")));
    let commit = |dir: &Path| {
        let all = records(dir);
        let mut states = all.iter().filter(|(kind, _)| *kind == RecordType::State);
        let (_, data) = states.next_back().unwrap();
        let state: wal::raftpb::HardState = prost::Message::decode(data.as_slice()).unwrap();
        state.commit()
    };
    let emptied = report["entries"]["emptiedMembership"].as_u64().unwrap();
    assert_eq!(emptied, 2);
    // Theirs names entries that are not there as applied.
    let applied = report["consistentIndex"].as_u64().unwrap();
    assert!(commit(&at("theirs")) < applied, "{report}");
    assert!(commit(&at("ours")) >= applied, "{report}");
}

fn v2_key(server: &testdata::oracle::Server, path: &str) -> u16 {
    Gateway::to(server).form("GET", &format!("/v2/keys{path}"), "")
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_servers_start_on_a_backup_and_go_on(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(true, false)] with_v3: bool,
) {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let truth = stopped(version, &at("data"));
    let more: &[&str] = if with_v3 { &[] } else { &["--with-v3=false"] };
    let report = ours(&at("data"), &at("out"), more);
    let id = u64::from_str_radix(report["nodeId"].as_str().unwrap(), 16).unwrap();

    let launch = Launch::new(version, &at("out"), "restored").args(FAST).args([V2]);
    let mut server = launch.args(["--force-new-cluster"]).start();
    let alone = |server: &testdata::oracle::Server, url: &str| {
        let members = server.members();
        assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [id]);
        assert_eq!(members[0].peer_urls, [url]);
        let cluster = u64::from_str_radix(report["clusterId"].as_str().unwrap(), 16).unwrap();
        assert_eq!(server.endpoint_status().cluster_id, cluster);
    };
    alone(&server, "http://localhost:2380");
    let before = if with_v3 {
        assert_eq!(server.hashkv(truth.revision), truth);
        truth.revision
    } else {
        assert!(server.get_all().kvs.is_empty());
        1
    };
    assert_eq!((v2_key(&server, "/dir/k65"), v2_key(&server, "/dir/k66")), (200, 404));
    for number in 1..=3 {
        assert_eq!(server.put(format!("after-{number}"), "x"), before + number);
    }
    let words: Vec<String> = report["memberUpdate"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect();
    let url = "http://127.0.0.1:23800";
    server.etcdctl(words[1..].iter().map(|word| word.replace("http://FILL-IN:2380", url))).ok();
    server.kill();
    server.set_args(FAST.iter().chain(&[V2]).copied());
    server.restart();
    alone(&server, url);
    assert_eq!(server.get_all().revision, before + 3);
    assert_eq!(server.put("after", "restart"), before + 4);
    assert_eq!(v2_key(&server, "/dir/k65"), 200);
}
