//! Asks a live server through its own etcdctl.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use serde_json::Value;

use super::tools::{Run, Tools};

/// etcdctl, pointed at one or more endpoints.
#[derive(Clone, Debug)]
pub struct Client {
    tools: Tools,
    endpoints: String,
    user: Option<String>,
}

/// Keys as `etcdctl get -w json` prints them.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// The store's revision when the read was served.
    pub revision: i64,
    /// Objects with `key` and `value` in base64, `create_revision`, `mod_revision`, `version`, `lease`.
    pub kvs: Vec<Value>,
}

/// An answer of `endpoint hashkv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The CRC-32C over the key bucket as etcd defines it.
    pub hash: u64,
    /// The store's revision when the hash was taken.
    pub revision: i64,
    /// The last compacted revision, -1 for none.
    pub compact_revision: i64,
}

/// A member as `member list` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Member ID.
    pub id: u64,
    /// Empty until the member has started once.
    pub name: String,
    /// Peer URLs.
    pub peer_urls: Vec<String>,
    /// Client URLs.
    pub client_urls: Vec<String>,
    /// Not yet a voter.
    pub is_learner: bool,
}

/// An answer of `endpoint status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// Member ID of the one asked.
    pub member_id: u64,
    /// Cluster ID.
    pub cluster_id: u64,
    /// The store's revision.
    pub revision: i64,
    /// Member ID of the leader it sees, 0 for none.
    pub leader: u64,
    /// Raft term.
    pub raft_term: u64,
    /// Index of the last log entry.
    pub raft_index: u64,
    /// Index of the last applied entry.
    pub raft_applied_index: u64,
    /// Standing alarms and the like.
    pub errors: Vec<String>,
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A number that etcd leaves out of its JSON when it is 0.
fn unsigned(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn signed(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

impl Client {
    /// A client of `tools` for comma-separated `endpoints`; `user` is `NAME:PASSWORD`.
    pub fn new(tools: Tools, endpoints: impl Into<String>, user: Option<String>) -> Self {
        Self { tools, endpoints: endpoints.into(), user }
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.tools.command("etcdctl");
        command.args(["--endpoints", &self.endpoints, "--dial-timeout=10s", "--command-timeout=20s"]);
        if let Some(user) = &self.user {
            command.args(["--user", user]);
        }
        command.args(args);
        command
    }

    /// Runs etcdctl with these arguments against this server.
    pub fn etcdctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        Run::to_end(self.command(args))
    }

    #[track_caller]
    fn ask(&self, args: &[&str]) -> Value {
        self.etcdctl(args.iter().chain(&["-w", "json"])).json()
    }

    /// Every key, read through a leader.
    #[track_caller]
    pub fn get_all(&self) -> Range {
        let mut answer = self.ask(&["get", "", "--prefix"]);
        Range {
            revision: signed(&answer["header"]["revision"]),
            kvs: answer["kvs"].as_array_mut().map(std::mem::take).unwrap_or_default(),
        }
    }

    /// hashkv at `revision` (0: now) of the first endpoint.
    #[track_caller]
    pub fn hashkv(&self, revision: i64) -> HashKv {
        let answer = self.ask(&["endpoint", "hashkv", &format!("--rev={revision}")]);
        let hash = &answer[0]["HashKV"];
        assert!(hash["hash"].is_u64(), "no hash in {answer}");
        HashKv {
            hash: unsigned(&hash["hash"]),
            revision: signed(&hash["header"]["revision"]),
            compact_revision: signed(&hash["compact_revision"]),
        }
    }

    /// All members, in the order of their IDs.
    #[track_caller]
    pub fn members(&self) -> Vec<Member> {
        let answer = self.ask(&["member", "list"]);
        let mut members: Vec<_> = answer["members"]
            .as_array()
            .unwrap_or_else(|| panic!("no members in {answer}"))
            .iter()
            .map(|m| Member {
                id: unsigned(&m["ID"]),
                name: m["name"].as_str().unwrap_or_default().to_owned(),
                peer_urls: strings(&m["peerURLs"]),
                client_urls: strings(&m["clientURLs"]),
                is_learner: m["isLearner"].as_bool().unwrap_or(false),
            })
            .collect();
        members.sort_by_key(|m| m.id);
        members
    }

    /// The status of the first endpoint, or why there is none (not up yet, no such user).
    pub fn try_status(&self) -> Result<Status, String> {
        let run = self.etcdctl(["endpoint", "status", "-w", "json"]);
        let answer: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
        let status = &answer[0]["Status"];
        if !run.status.success() || !status.is_object() {
            return Err(run.stderr);
        }
        Ok(Status {
            version: status["version"].as_str().unwrap_or_default().to_owned(),
            member_id: unsigned(&status["header"]["member_id"]),
            cluster_id: unsigned(&status["header"]["cluster_id"]),
            revision: signed(&status["header"]["revision"]),
            leader: unsigned(&status["leader"]),
            raft_term: unsigned(&status["raftTerm"]),
            raft_index: unsigned(&status["raftIndex"]),
            raft_applied_index: unsigned(&status["raftAppliedIndex"]),
            errors: strings(&status["errors"]),
        })
    }

    /// The status of the first endpoint.
    #[track_caller]
    pub fn endpoint_status(&self) -> Status {
        self.try_status().unwrap_or_else(|e| panic!("endpoint status of {}: {e}", self.endpoints))
    }

    /// Puts one pair and returns the revision it got.
    #[track_caller]
    pub fn put(&self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> i64 {
        let args: [OsString; 6] = [
            "put".into(),
            "-w".into(),
            "json".into(),
            "--".into(),
            key.as_ref().to_owned(),
            value.as_ref().to_owned(),
        ];
        signed(&self.etcdctl(args).json()["header"]["revision"])
    }

    /// Deletes one key and returns how many there were (0 or 1).
    #[track_caller]
    pub fn delete(&self, key: impl AsRef<OsStr>) -> u64 {
        let args: [OsString; 5] =
            ["del".into(), "-w".into(), "json".into(), "--".into(), key.as_ref().to_owned()];
        unsigned(&self.etcdctl(args).json()["deleted"])
    }

    /// Compacts at `revision` and waits until it is done in the backend too.
    #[track_caller]
    pub fn compact(&self, revision: i64) {
        self.etcdctl(["compact", "--physical", &revision.to_string()]).ok();
    }
}
