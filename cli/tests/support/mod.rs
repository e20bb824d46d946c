//! What the oracle tests share: recorded truth, the real binary, and what a server must say of both.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, which clippy does not see as tests"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use snapshot::mvcc::KeyValue;
use testdata::base64;
use testdata::oracle::{Client, Kv, Run, Server, Tools, free_ports};

/// Key range of `/oracle/`, which no fixture uses.
const OURS: &str = "/oracle/";
const ROOT: &str = "root:rootpw";

/// Runs the real etcd-rescue to its end.
pub(crate) fn rescue<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-rescue"));
    command.args(args).stdin(Stdio::null());
    Run::to_end(command)
}

/// [`rescue`] in another directory.
pub(crate) fn rescue_in<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-rescue"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    Run::to_end(command)
}

/// A path as a `str`: every path of these tests is one.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// The exit code; panics for a signal.
#[track_caller]
pub(crate) fn code(run: &Run) -> i32 {
    run.status.code().unwrap_or_else(|| panic!("{} ended with {}", run.command, run.status))
}

/// A lease as it was granted: what is left of it depends on the moment, its full time does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) granted_s: i64,
    /// Attached keys, in base64, sorted.
    pub(crate) keys: Vec<String>,
}

impl Lease {
    fn of(answer: &Value) -> Self {
        let keys = answer["keys"].as_array().into_iter().flatten();
        let mut keys: Vec<_> = keys.filter_map(Value::as_str).map(str::to_owned).collect();
        keys.sort();
        Self { granted_s: answer["granted-ttl"].as_i64().unwrap_or_default(), keys }
    }
}

/// What the live server's own etcdctl said when the snapshot was taken.
///
/// The recorded hashes hold on every server these tests run, though 3.4.34 and 3.5.16 changed what is hashed when a
/// tombstone lies at exactly the compacted revision (FORMATS C.5): in these fixtures none does, which the
/// recorded agreement of the old servers with the offline hash of etcdutl 3.7.1 proves
/// (`hashkv-live-vs-offline.txt`). None was taken at exactly the compacted revision either.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) label: String,
    /// The snapshot, possibly compressed.
    pub(crate) snapshot: PathBuf,
    pub(crate) kvs: Vec<Value>,
    pub(crate) hash: u64,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) leases: BTreeMap<i64, Lease>,
    /// Users with their roles; empty while auth is off.
    pub(crate) users: BTreeMap<String, Value>,
    /// Roles with their permissions.
    pub(crate) roles: BTreeMap<String, Value>,
}

impl Truth {
    /// A stage of a `single` fixture, its snapshot unpacked below `dir`.
    pub(crate) fn of(version: &str, stage: &str, dir: &Path) -> Self {
        let (hash, revision, compact_revision) = testdata::hashkv_facts(version, stage);
        let keys = &testdata::facts_json(version, stage, "keys.json")[0];
        assert_eq!(keys["header"]["revision"].as_i64(), Some(revision));
        let leases = testdata::facts_json(version, stage, "lease-ttl.json");
        Self {
            label: format!("{version} {stage}"),
            snapshot: testdata::snapshot_file(version, stage, dir),
            kvs: keys["kvs"].as_array().unwrap().clone(),
            hash,
            revision,
            compact_revision,
            leases: leases.iter().map(|l| (l["id"].as_i64().unwrap(), Lease::of(l))).collect(),
            users: described(version, stage, "users.txt", "user-get.json", "roles"),
            roles: described(version, stage, "roles.txt", "role-get.json", "perm"),
        }
    }

    /// The snapshot of the three-member fixture, as the compressed file it is.
    pub(crate) fn of_cluster3() -> Self {
        let facts = |what: &str| -> Value {
            let rel = format!("fixtures/3.5.30/cluster3/facts/{what}");
            let bytes = if what.ends_with(".zst") {
                testdata::decompressed(&rel)
            } else {
                fs::read(testdata::path(&rel)).unwrap()
            };
            serde_json::from_slice(&bytes).unwrap()
        };
        let (keys, hash) = (facts("keys.json.zst"), facts("n1.hashkv.json"));
        assert_eq!(hash[0]["HashKV"]["hash"], facts("n3.hashkv.json")[0]["HashKV"]["hash"]);
        let hash = &hash[0]["HashKV"];
        assert_eq!(keys["header"]["revision"], hash["header"]["revision"]);
        Self {
            label: "3.5.30 cluster3".to_owned(),
            snapshot: testdata::path("fixtures/3.5.30/cluster3/cluster.snapshot.db.zst"),
            kvs: keys["kvs"].as_array().unwrap().clone(),
            hash: hash["hash"].as_u64().unwrap(),
            revision: hash["header"]["revision"].as_i64().unwrap(),
            compact_revision: hash["compact_revision"].as_i64().unwrap(),
            // Not among the recorded facts: etcd 3.5.16 lists this one when booted from etcdutl 3.5.16's restore.
            leases: BTreeMap::from([(
                4_821_281_504_569_549_852,
                Lease { granted_s: 9999, keys: Vec::new() },
            )]),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }

    pub(crate) fn has_auth(&self) -> bool {
        !self.users.is_empty()
    }

    /// Who may do everything: nobody in particular while auth is off.
    pub(crate) fn root(&self) -> Option<String> {
        self.has_auth().then(|| ROOT.to_owned())
    }

    /// The first key that can be typed.
    fn plain_key(&self) -> String {
        let mut keys = self.kvs.iter().filter_map(|kv| String::from_utf8(decoded(&kv["key"])).ok());
        keys.find(|key| key.bytes().all(|b| b.is_ascii_graphic())).expect("most keys are plain")
    }

    /// Asserts that what `client` reaches holds what was recorded and nothing else.
    #[track_caller]
    pub(crate) fn assert_served(&self, client: &Client) {
        self.assert_keys(client);
        self.assert_leases_and_accounts(client);
    }

    /// Asserts that the keys, their history and the revisions are those recorded.
    #[track_caller]
    pub(crate) fn assert_keys(&self, client: &Client) {
        let all = client.get_all();
        assert_eq!(all.revision, self.revision, "{}", self.label);
        assert_eq!(all.kvs, self.kvs, "{}", self.label);
        let hash = client.hashkv(self.revision);
        assert_eq!(
            (hash.hash, hash.revision, hash.compact_revision),
            (self.hash, self.revision, self.compact_revision),
            "{}",
            self.label
        );
    }

    /// Asserts that leases, users and roles are those recorded, and that no alarm stands.
    #[track_caller]
    pub(crate) fn assert_leases_and_accounts(&self, client: &Client) {
        assert_eq!(client.etcdctl(["alarm", "list"]).ok().stdout, "", "{}", self.label);
        let listed = client.etcdctl(["lease", "list", "-w", "json"]).json();
        let ids = listed["leases"].as_array().into_iter().flatten();
        let leases: BTreeMap<i64, Lease> = ids
            .map(|lease| {
                let id = lease["id"].as_i64().unwrap();
                let hex = format!("{id:x}");
                let told = client.etcdctl(["lease", "timetolive", &hex, "--keys", "-w", "json"]).json();
                let left = told["ttl"].as_i64().unwrap();
                let lease = Lease::of(&told);
                assert!(left > 0 && left <= lease.granted_s, "{}: {told}", self.label);
                (id, lease)
            })
            .collect();
        assert_eq!(leases, self.leases, "{}", self.label);

        let names = |what: &str, list: &str| -> BTreeMap<String, Value> {
            let all = client.etcdctl([what, "list"]).ok().stdout;
            let get = |name: &str| client.etcdctl([what, "get", name, "-w", "json"]).json()[list].clone();
            all.lines().map(|name| (name.to_owned(), get(name))).collect()
        };
        assert_eq!(names("user", "roles"), self.users, "{}", self.label);
        assert_eq!(names("role", "perm"), self.roles, "{}", self.label);
    }

    /// Asserts that the recorded passwords and permissions are in force.
    #[track_caller]
    pub(crate) fn assert_auth(&self, server: &Server) {
        if !self.has_auth() {
            return;
        }
        let as_user = |user: Option<&str>| {
            Client::new(server.tools().clone(), server.client_url(), user.map(str::to_owned))
        };
        let anonymous = as_user(None).etcdctl(["get", "/a/key001"]);
        assert!(anonymous.stderr.contains("user name is empty"), "{}: {anonymous:?}", self.label);
        let wrong = as_user(Some("root:wrong")).etcdctl(["get", "/a/key001"]);
        assert!(wrong.stderr.contains("authentication failed"), "{}: {wrong:?}", self.label);
        let alice = as_user(Some("alice:alicepw"));
        let read = alice.etcdctl(["get", "/a/key001"]).ok();
        assert!(read.stdout.starts_with("/a/key001\n"), "{}: {read:?}", self.label);
        let denied = alice.etcdctl(["put", "/a/key001", "no"]);
        assert!(denied.stderr.contains("permission denied"), "{}: {denied:?}", self.label);
    }
}

fn described(version: &str, stage: &str, list: &str, get: &str, field: &str) -> BTreeMap<String, Value> {
    let names = testdata::facts(version, stage, list);
    // Stages without auth hold etcdctl's refusals in place of documents.
    if names.is_empty() {
        return BTreeMap::new();
    }
    // etcdctl 3.6 and later were also asked for names that the fixture lacks; those lines are no documents.
    let lines = testdata::facts(version, stage, get);
    let documents: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(names.len(), documents.len(), "{version} {stage} {get}");
    names.into_iter().zip(documents).map(|(name, d)| (name.to_owned(), d[field].clone())).collect()
}

/// The bytes of a JSON string in base64.
pub(crate) fn decoded(value: &Value) -> Vec<u8> {
    let digit = |c: u8| -> Option<u32> {
        let place =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|d| *d == c);
        place.and_then(|place| u32::try_from(place).ok())
    };
    let digits: Vec<u32> = value.as_str().unwrap_or_default().bytes().map_while(digit).collect();
    let mut out = Vec::new();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0, |bits, d| bits << 6 | d) << (6 * (4 - group.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    out
}

/// A new cluster on free ports of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Names and peer URLs.
    pub(crate) members: Vec<(String, String)>,
}

impl Plan {
    pub(crate) fn new(members: usize) -> Self {
        let ports = free_ports(members).into_iter().enumerate();
        Self {
            members: ports.map(|(i, p)| (format!("m{}", i + 1), format!("http://127.0.0.1:{p}"))).collect(),
        }
    }

    /// `--initial-cluster`'s value.
    pub(crate) fn initial_cluster(&self) -> String {
        self.members.iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    }

    /// What restores the member of this number from `snapshot`, for our program and for the real ones.
    pub(crate) fn restore_line(&self, snapshot: &Path, member: usize) -> Vec<String> {
        let (name, url) = &self.members[member];
        let cluster = self.initial_cluster();
        let line = ["snapshot", "restore", text(snapshot), "--name", name, "--initial-cluster", &cluster];
        line.into_iter().chain(["--initial-advertise-peer-urls", url]).map(str::to_owned).collect()
    }
}

/// Asserts that the members are those that restore told of in `json`, and no others.
#[track_caller]
pub(crate) fn assert_members(client: &Client, plan: &Plan, json: &Value) {
    let told = json["members"].as_array().unwrap();
    let mut expected: Vec<(u64, String, Vec<String>)> = told
        .iter()
        .map(|member| {
            let name = member["name"].as_str().unwrap();
            let (_, url) =
                plan.members.iter().find(|(planned, _)| planned == name).expect("a planned member");
            let id = u64::from_str_radix(member["id"].as_str().unwrap(), 16).unwrap();
            (id, name.to_owned(), vec![url.clone()])
        })
        .collect();
    expected.sort();
    assert_eq!(expected.len(), plan.members.len());
    // A member is named once it has published itself, which takes a moment after the election.
    let mut live = Vec::new();
    for _ in 0..100 {
        let members = client.members();
        assert!(members.iter().all(|m| !m.is_learner), "{members:?}");
        let named = members.iter().all(|m| !m.name.is_empty() && !m.client_urls.is_empty());
        live = members.into_iter().map(|m| (m.id, m.name, m.peer_urls)).collect();
        if named {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(live, expected);
    let status = client.endpoint_status();
    assert_eq!(Some(format!("{:x}", status.cluster_id).as_str()), json["clusterId"].as_str());
}

/// Puts, deletes, runs a transaction and compacts; returns every key after it.
#[track_caller]
pub(crate) fn exercise(server: &Server, truth: &Truth) -> Vec<Value> {
    let before = server.get_all();
    let revision = before.revision;
    let put = format!("{OURS}put");
    assert_eq!(server.put(&put, "1"), revision + 1);
    let victim = truth.plain_key();
    assert_eq!(server.delete(&victim), 1);
    assert_eq!(server.delete(&victim), 0);
    txn(
        server,
        truth.root().as_deref(),
        &format!("mod(\"{put}\") > \"0\"\n\nput {OURS}txn yes\ndel {put}\n\nput {OURS}txn no\n\n"),
    );
    server.compact(revision + 2);
    // Hashes are comparable above the compacted revision only.
    assert_eq!(server.put(format!("{OURS}last"), "x"), revision + 4);
    assert_eq!(server.hashkv(0).compact_revision, revision + 2);

    let after = server.get_all();
    let (ours, theirs): (Vec<_>, Vec<_>) =
        after.kvs.iter().cloned().partition(|kv| decoded(&kv["key"]).starts_with(OURS.as_bytes()));
    let pairs: Vec<_> = ours.iter().map(|kv| (decoded(&kv["key"]), decoded(&kv["value"]))).collect();
    let pair = |key: &str, value: &str| (format!("{OURS}{key}").into_bytes(), value.as_bytes().to_vec());
    assert_eq!(pairs, [pair("last", "x"), pair("txn", "yes")]);
    let kept: Vec<_> = before.kvs.into_iter().filter(|kv| decoded(&kv["key"]) != victim.as_bytes()).collect();
    assert_eq!(theirs, kept);
    after.kvs
}

/// Runs a transaction, which etcdctl reads from its input.
#[track_caller]
fn txn(server: &Server, user: Option<&str>, script: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), script).unwrap();
    let mut command = server.tools().command("etcdctl");
    command.args(["--endpoints", server.client_url()]);
    if let Some(user) = user {
        command.args(["--user", user]);
    }
    command.arg("txn").stdin(File::open(file.path()).unwrap());
    let run = Run::to_end(command).ok();
    assert!(run.stdout.starts_with("SUCCESS"), "{run:?}");
}

/// Defragments one server; its keys and their hash stay.
#[track_caller]
pub(crate) fn defrag(server: &Server) {
    let before = (server.get_all(), server.hashkv(0));
    server.etcdctl(["defrag"]).ok();
    assert_eq!((server.get_all(), server.hashkv(0)), before);
}

/// What a tool's `snapshot status` says of a file, as JSON: etcdutl's, or etcdctl's of 3.4.
#[track_caller]
pub(crate) fn status_by(tools: &Tools, file: &Path) -> Value {
    let args = ["snapshot", "status", text(file), "-w", "json"];
    if tools.version() == testdata::oracle::Version::V3_4 { tools.etcdctl(args) } else { tools.etcdutl(args) }
        .json()
}

/// Asserts that the real tool and ours say the same of `file`. The number of keys is left out: 3.4 and 3.5 count the
/// pairs of all buckets, ours is 3.7's number of live keys (FORMATS C.7).
#[track_caller]
pub(crate) fn assert_status_agrees(tools: &Tools, file: &Path) -> Value {
    let theirs = status_by(tools, file);
    let run = rescue(["snapshot", "status", text(file), "-w", "json"]);
    let ours = run.json();
    for field in ["hash", "revision", "totalSize"] {
        assert_eq!(ours[field], theirs[field], "{field} of {}", file.display());
    }
    ours
}

/// The only file of `dir` whose name ends so.
#[track_caller]
pub(crate) fn only_file(dir: &Path, suffix: &str) -> PathBuf {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let found: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| text(path).ends_with(suffix)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// A record as a server tells of it.
pub(crate) fn kv_of(kv: &KeyValue<'_>) -> Kv {
    Kv {
        key: kv.key.to_vec(),
        value: kv.value.to_vec(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// `kv list -w json`, by the binary.
pub(crate) fn listed(path: &Path, revision: i64) -> Vec<Kv> {
    let answer = rescue(["kv", "list", text(path), "--rev", &revision.to_string(), "-w", "json"]).json();
    let kvs = answer["kvs"].as_array().into_iter().flatten();
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let bytes = |value: &Value| base64::decode(value.as_str().unwrap_or_default());
    kvs.map(|kv| Kv {
        key: bytes(&kv["key"]),
        value: bytes(&kv["value"]),
        create_revision: number(&kv["create_revision"]),
        mod_revision: number(&kv["mod_revision"]),
        version: number(&kv["version"]),
        lease: number(&kv["lease"]),
    })
    .collect()
}

/// The same revision, and the same hash of all keys at it.
#[track_caller]
pub(crate) fn wait_equal(one: &Client, other: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (this, that) = (one.hashkv(0), other.hashkv(0));
        if this == that {
            return;
        }
        assert!(Instant::now() < deadline, "{this:?} and {that:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
