//! Seeded random requests of every kind on a lone server whose backend commits only when it must, and which is killed: its
//! database is as far behind its log as can be.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::answers::Answers;
use super::gateway::Gateway;
use super::server::{Launch, Server};
use super::token::{NEVER_OLD, token, token_flag};
use super::tools::Version;
use crate::base64;
use crate::damage::Rng;

const KEYS: [&[u8]; 14] = [
    b"a", b"a\0", b"a/1", b"a/2", b"a/3", b"b", b"b/1", b"b/2", b"c", b"c/\xff", b"c\xff", b"d", b"z",
    b"\xff",
];
const USERS: [&str; 5] = ["alice", "bob", "carol", "d\u{e4}ve", "root"];
const ROLES: [&str; 4] = ["r1", "r2", "r3", "root"];
/// What users are given as passwords: a test that meets a hash tries each.
pub const PASSWORDS: [&str; 4] = ["p0", "secret-1", "p\u{e4}ss 2", "3"];
const LEASES: u64 = 14;
const RESULTS: [&str; 4] = ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"];

/// How often each kind of request comes, as parts of their sum.
#[derive(Clone, Copy, Debug)]
struct Weights {
    put: u64,
    delete: u64,
    transaction: u64,
    compaction: u64,
    lease: u64,
    auth: u64,
    alarm: u64,
    member: u64,
    other: u64,
}

/// A step of one kind.
type Kind = fn(&mut Mixture);

/// Requests of every kind, under way on a server of their own.
#[derive(Debug)]
pub struct Mixture {
    server: Server,
    gateway: Gateway,
    rng: Rng,
    version: Version,
    weights: Weights,
    flags: Vec<String>,
    /// The newest revision and auth revision, as far as answers told.
    revision: i64,
    compacted: i64,
    has_auth: bool,
    /// Alarms that stand.
    alarms: Vec<(u64, &'static str)>,
    learners: Vec<String>,
    own_id: String,
    /// See [`Killed::is_two_minded`].
    is_two_minded: bool,
    told: Vec<String>,
}

/// A server that was killed.
#[derive(Debug)]
pub struct Killed {
    /// The flags it ran with, for whoever starts it again.
    pub launch: Launch,
    /// What it had been asked, a line for each request.
    pub told: Vec<String>,
    /// Whether requests were under way.
    pub was_busy: bool,
    /// Whether etcd, started from an older database, may come to another end than it did live: an alarm stood while auth was
    /// on, or alarms of two kinds did; a lease has a negative ID; or a transaction was refused for a revision that it reads at.
    pub is_two_minded: bool,
}

fn encoded(bytes: &[u8]) -> String {
    base64::encode(bytes)
}

fn number_of(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Mixture {
    /// Starts a new member `m1` in `scratch/data` for the history of `seed`.
    #[track_caller]
    pub fn start(version: Version, seed: u64, scratch: &Path) -> Self {
        let mut rng = Rng::seeded_by(&format!("mixture {seed}"));
        // Half of them without a snapshot of the log on the way, some with many, each of which commits.
        let snapshot_count = *rng.pick(&[1_000_000, 1_000_000, 17, 60]);
        let mut flags = vec![
            "--heartbeat-interval=10".to_owned(),
            "--election-timeout=100".to_owned(),
            "--backend-batch-interval=100h".to_owned(),
            "--backend-batch-limit=100000000".to_owned(),
            "--bcrypt-cost=4".to_owned(),
            format!("--snapshot-count={snapshot_count}"),
            token_flag(scratch),
        ];
        if rng.below(2) == 0 {
            flags.push("--enable-v2=true".to_owned());
        }
        let launch = Launch::new(version, &scratch.join("data"), "m1").args(flags.clone());
        let mut server = launch.spawn();
        let mut gateway = Gateway::ready(&mut server);
        let members = gateway.must("/v3/cluster/member/list", &json!({}));
        let own_id = members["members"][0]["ID"].as_str().expect("a member").to_owned();
        // Each history leaves some kinds out, so that others are not drowned.
        let mut weight = |most: u64| if rng.below(3) == 0 { 0 } else { rng.below(most + 1) };
        let weights = Weights {
            put: 10 + weight(20),
            delete: weight(15),
            transaction: weight(30),
            compaction: weight(4),
            lease: weight(15),
            auth: weight(60),
            alarm: weight(4),
            member: weight(6),
            other: weight(8),
        };
        Self {
            server,
            gateway,
            rng,
            version,
            weights,
            flags,
            revision: 1,
            compacted: 0,
            has_auth: false,
            alarms: Vec::new(),
            learners: Vec::new(),
            own_id,
            is_two_minded: false,
            told: Vec::new(),
        }
    }

    /// Does `count` steps.
    #[track_caller]
    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// How many snapshots of its log the server makes: with few, an old copy of the database may be older than all of them.
    #[must_use]
    pub fn keeps_its_log_whole(&self) -> bool {
        self.flags.iter().any(|flag| flag == "--snapshot-count=1000000")
    }

    /// Everything the server holds, in its own words.
    #[track_caller]
    pub fn answers(&mut self) -> Answers {
        Answers::of(&mut self.gateway)
    }

    /// Index of the last entry of the server's log.
    #[track_caller]
    pub fn last_index(&mut self) -> u64 {
        let answer = self.as_root("/v3/maintenance/status", &json!({})).expect("a status");
        u64::try_from(number_of(&answer["raftIndex"])).expect("an index")
    }

    /// Copies the database as it is between two commits: nothing is under way, and none comes by itself.
    #[track_caller]
    pub fn copy_db(&self, to: &Path) {
        let from = self.server.data_dir().join("member/snap/db");
        fs::copy(&from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        // Commits are rare, and still one may have come meanwhile: the copy is taken twice.
        assert!(
            fs::read(&from).expect("a db") == fs::read(to).expect("a copy"),
            "the server wrote meanwhile"
        );
    }

    /// Compacts, which makes the server commit, and has nothing under way when it returns.
    #[track_caller]
    pub fn commit_by_compaction(&mut self) {
        self.put(None);
        let body = json!({ "revision": self.revision.to_string(), "physical": true });
        let answer = self.as_root("/v3/kv/compaction", &body);
        self.tell("compaction to commit", &body, &answer);
    }

    /// Kills the server, with requests under way or without.
    #[track_caller]
    pub fn kill(mut self, busy: bool) -> Killed {
        if busy {
            let mut gateway = Gateway::to(&self.server);
            gateway.set_token(Some(token("root", NEVER_OLD)));
            let mut rng = Rng::seeded_by(&format!("busy {}", self.rng.next_u64()));
            let wait = Duration::from_millis(rng.below(40));
            let writer = thread::spawn(move || while under_way(&mut gateway, &mut rng).is_ok() {});
            if self.rng.below(4) == 0 && self.revision > self.compacted {
                // The records go by themselves, later.
                let body = json!({ "revision": self.revision.to_string() });
                let answer = self.as_root("/v3/kv/compaction", &body);
                self.tell("compaction", &body, &answer);
            }
            thread::sleep(wait);
            self.server.kill();
            writer.join().expect("a writer only reports");
        } else {
            self.server.kill();
        }
        let launch = self.server.launch().clone();
        let told = std::mem::take(&mut self.told);
        Killed { launch, told, was_busy: busy, is_two_minded: self.is_two_minded }
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.rng.below(limit as u64)).expect("below an index")
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.rng.below(many) == 0
    }

    fn key(&mut self) -> &'static [u8] {
        self.rng.pick::<&[u8]>(&KEYS)
    }

    /// A key and the end of a range from it: one key, some, or all from there on.
    fn range(&mut self) -> (String, String) {
        let (a, b) = (self.key(), self.key());
        let (from, to) = if a <= b { (a, b) } else { (b, a) };
        match self.rng.below(6) {
            0 => (encoded(from), encoded(b"\0")),
            1 => (encoded(b"\0"), encoded(b"\0")),
            2 => (encoded(to), encoded(from)),
            _ => (encoded(from), encoded(to)),
        }
    }

    fn a_lease(&mut self) -> i64 {
        match self.rng.below(LEASES) {
            0 => -7,
            n => i64::try_from(n).expect("small"),
        }
    }

    fn near(&mut self, number: i64) -> i64 {
        let off = i64::try_from(self.rng.below(7)).expect("small") - 4;
        (number + off).max(0)
    }

    /// Who asks: with auth on mostly somebody who may, and all others as well.
    fn somebody(&mut self) -> Option<String> {
        if !self.has_auth {
            let is_named = self.one_in(12);
            return is_named.then(|| token("alice", 3));
        }
        let user = *self.rng.pick(&USERS);
        match self.rng.below(16) {
            0 => None,
            1 => Some(token("nobody", NEVER_OLD)),
            2 => Some(token(user, 0)),
            3 | 4 => {
                let revision = 1 + self.rng.below(24);
                Some(token(user, revision))
            }
            5 => Some(token("", NEVER_OLD)),
            6..11 => Some(token(user, NEVER_OLD)),
            _ => Some(token("root", NEVER_OLD)),
        }
    }

    fn tell(&mut self, what: &str, body: &Value, answer: &Result<Value, String>) {
        let said = match answer {
            Ok(answer) => {
                let revision = number_of(&answer["header"]["revision"]);
                self.revision = self.revision.max(revision);
                format!("{revision}")
            }
            Err(refusal) => refusal.clone(),
        };
        self.told.push(format!("{what} {body}: {said}"));
    }

    #[track_caller]
    fn as_root(&mut self, path: &str, body: &Value) -> Result<Value, String> {
        self.gateway.call_as(Some(&token("root", NEVER_OLD)), path, body)
    }

    /// A request by `who`; refusals are part of the history.
    #[track_caller]
    fn ask(&mut self, who: Option<&str>, path: &str, body: &Value) -> Result<Value, String> {
        let answer = self.gateway.call_as(who, path, body);
        let name = who.map(|token| {
            let claims = token.split('.').nth(1).unwrap_or_default();
            let padded = claims.replace('-', "+").replace('_', "/");
            String::from_utf8_lossy(&base64::decode(&padded)).into_owned()
        });
        let name = name.unwrap_or_else(|| "-".to_owned());
        self.tell(&format!("{path} by {name}"), body, &answer);
        answer
    }

    #[track_caller]
    fn by_somebody(&mut self, path: &str, body: &Value) -> Result<Value, String> {
        let who = self.somebody();
        self.ask(who.as_deref(), path, body)
    }

    /// By root, and now and then by somebody else.
    #[track_caller]
    fn by_root(&mut self, path: &str, body: &Value) -> Result<Value, String> {
        let who = if self.one_in(8) { self.somebody() } else { Some(token("root", NEVER_OLD)) };
        self.ask(who.as_deref(), path, body)
    }

    #[track_caller]
    fn step(&mut self) {
        let w = self.weights;
        let kinds: [(u64, Kind); 9] = [
            (w.put, |one| one.put(None)),
            (w.delete, Self::delete),
            (w.transaction, Self::transaction),
            (w.compaction, Self::compact),
            (w.lease, Self::lease),
            (w.auth, Self::auth),
            (w.alarm, Self::alarm),
            (w.member, Self::member),
            (w.other, Self::other),
        ];
        let mut place = self.rng.below(kinds.iter().map(|(weight, _)| weight).sum());
        for (weight, kind) in kinds {
            if place < weight {
                kind(self);
                break;
            }
            place -= weight;
        }
        // An alarm that stands for long leaves nothing to see.
        if !self.alarms.is_empty() && self.one_in(9) {
            self.disarm();
        }
        let kinds = |kind| self.alarms.iter().any(|(_, one)| *one == kind);
        self.is_two_minded |= self.has_auth && !self.alarms.is_empty();
        self.is_two_minded |= kinds("NOSPACE") && kinds("CORRUPT");
    }

    fn put_body(&mut self, key: Option<&[u8]>) -> Value {
        let key = key.unwrap_or_else(|| self.key()).to_vec();
        let len = match self.rng.below(30) {
            0 => 6000,
            1..4 => 0,
            _ => self.index(40),
        };
        let value = vec![b'a' + u8::try_from(self.rng.below(26)).expect("a letter"); len];
        let mut body = json!({ "key": encoded(&key) });
        if self.one_in(8) {
            body["ignore_value"] = json!(true);
        } else {
            body["value"] = json!(encoded(&value));
        }
        match self.rng.below(8) {
            0 => body["ignore_lease"] = json!(true),
            1..4 if self.weights.lease > 0 => body["lease"] = json!(self.a_lease().to_string()),
            _ => {}
        }
        if self.one_in(6) {
            body["prev_kv"] = json!(true);
        }
        body
    }

    #[track_caller]
    fn put(&mut self, key: Option<&[u8]>) {
        let body = self.put_body(key);
        let _ = self.by_somebody("/v3/kv/put", &body);
    }

    fn delete_body(&mut self, key: Option<&[u8]>) -> Value {
        let mut body = match key {
            Some(key) => json!({ "key": encoded(key) }),
            None if self.one_in(3) => {
                let (key, end) = self.range();
                json!({ "key": key, "range_end": end })
            }
            None => json!({ "key": encoded(self.key()) }),
        };
        if self.one_in(6) {
            body["prev_kv"] = json!(true);
        }
        body
    }

    #[track_caller]
    fn delete(&mut self) {
        let body = self.delete_body(None);
        let _ = self.by_somebody("/v3/kv/deleterange", &body);
    }

    fn compare(&mut self) -> Value {
        let result = *self.rng.pick(&RESULTS);
        let mut compare = json!({ "result": result, "key": encoded(self.key()) });
        if self.one_in(4) {
            let (key, end) = self.range();
            compare["key"] = json!(key);
            compare["range_end"] = json!(end);
        }
        let revision = self.revision;
        let (target, union, value) = match self.rng.below(5) {
            0 => ("VERSION", "version", json!(self.near(2).to_string())),
            1 => ("CREATE", "create_revision", json!(self.near(revision / 2).to_string())),
            2 => ("MOD", "mod_revision", json!(self.near(revision).to_string())),
            3 => ("LEASE", "lease", json!(self.a_lease().to_string())),
            _ => ("VALUE", "value", json!(encoded(&vec![b'm'; self.index(20)]))),
        };
        compare["target"] = json!(target);
        // Left out, it is zero or empty.
        if !self.one_in(6) {
            compare[union] = value;
        }
        compare
    }

    fn transaction_body(&mut self, depth: usize, free: &mut Vec<&'static [u8]>) -> Value {
        let compares = self.rng.below(3);
        let compare: Vec<_> = (0..compares).map(|_| self.compare()).collect();
        let mut branches = [Vec::new(), Vec::new()];
        // Both branches may write a key, one branch may not twice.
        let mut left = [free.clone(), std::mem::take(free)];
        for (branch, left) in branches.iter_mut().zip(&mut left) {
            for _ in 0..self.rng.below(4) {
                let kind = self.rng.below(10);
                if kind == 0 {
                    let (key, end) = self.range();
                    let revision = match self.rng.below(4) {
                        0 => self.near(self.compacted),
                        1 => self.near(self.revision),
                        _ => 0,
                    };
                    branch.push(json!({
                        "request_range": { "key": key, "range_end": end, "revision": revision.to_string() }
                    }));
                } else if kind < 3 && depth > 0 {
                    branch.push(json!({ "request_txn": self.transaction_body(depth - 1, left) }));
                } else if kind == 3 && self.one_in(2) {
                    let (key, end) = self.range();
                    if end == encoded(b"\0") {
                        // 3.4 takes it beside a put of a key in it, and dies of that.
                        continue;
                    }
                    branch.push(json!({ "request_delete_range": { "key": key, "range_end": end } }));
                } else if !left.is_empty() {
                    let key = left.swap_remove(self.index(left.len()));
                    branch.push(if kind < 5 {
                        json!({ "request_delete_range": self.delete_body(Some(key)) })
                    } else {
                        json!({ "request_put": self.put_body(Some(key)) })
                    });
                }
            }
        }
        let [outer, _] = left;
        *free = outer;
        let [success, failure] = branches;
        json!({ "compare": compare, "success": success, "failure": failure })
    }

    #[track_caller]
    fn transaction(&mut self) {
        let body = self.transaction_body(2, &mut KEYS.to_vec());
        if let Err(refusal) = self.by_somebody("/v3/kv/txn", &body) {
            // The proposer looks at ranges, which others, and itself when it starts again, do not.
            self.is_two_minded |= refusal.contains("compacted") || refusal.contains("future revision");
        }
    }

    #[track_caller]
    fn compact(&mut self) {
        let at = match self.rng.below(6) {
            // At 0, 3.5.16 answers a question for the hash of now with that of 0 ever after.
            0 => self.compacted.max(1),
            1 => self.revision + 3,
            2 => self.revision,
            _ => {
                let span = u64::try_from((self.revision - self.compacted).max(1)).expect("positive");
                self.compacted + 1 + i64::try_from(self.rng.below(span)).expect("small")
            }
        };
        let body = json!({ "revision": at.to_string(), "physical": self.one_in(2) });
        if self.by_somebody("/v3/kv/compaction", &body).is_ok() {
            self.compacted = at;
        }
    }

    #[track_caller]
    fn lease(&mut self) {
        let id = self.a_lease().to_string();
        if self.rng.below(3) > 0 {
            // None ends by itself while a test runs.
            let seconds = *self.rng.pick(&["600", "100000", "9000000000", "9000000001"]);
            let granted = self.by_somebody("/v3/lease/grant", &json!({ "ID": id, "TTL": seconds }));
            // A server that starts does not find it.
            self.is_two_minded |= granted.is_ok() && id.starts_with('-');
        } else {
            let _ = self.by_somebody("/v3/lease/revoke", &json!({ "ID": id }));
        }
    }

    #[track_caller]
    fn auth(&mut self) {
        let (user, role) = (*self.rng.pick(&USERS), *self.rng.pick(&ROLES));
        let password = *self.rng.pick(&PASSWORDS);
        let (path, body) = match self.rng.below(24) {
            0..4 => {
                let without = json!({ "name": user, "options": { "no_password": true } });
                let with = json!({ "name": user, "password": password });
                ("user/add", if self.one_in(4) { without } else { with })
            }
            4 => ("user/changepw", json!({ "name": user, "password": password })),
            5..9 => ("user/grant", json!({ "user": user, "role": role })),
            9 => ("user/revoke", json!({ "name": user, "role": role })),
            10 if self.one_in(2) => ("user/delete", json!({ "name": user })),
            11..13 => ("role/add", json!({ "name": role })),
            13 if self.one_in(2) => ("role/delete", json!({ "role": role })),
            14..18 => {
                let kind = *self.rng.pick(&["READ", "WRITE", "READWRITE", "READWRITE"]);
                let (key, end) = self.permitted();
                let perm = json!({ "permType": kind, "key": key, "range_end": end });
                ("role/grant", json!({ "name": role, "perm": perm }))
            }
            18 => {
                let (key, end) = self.permitted();
                ("role/revoke", json!({ "role": role, "key": key, "range_end": end }))
            }
            19 => match self.rng.below(4) {
                0 => ("user/list", json!({})),
                1 => ("user/get", json!({ "name": user })),
                2 => ("role/list", json!({})),
                _ => ("role/get", json!({ "role": role })),
            },
            20 => ("authenticate", json!({ "name": user, "password": password })),
            21 if self.version != Version::V3_4 && self.one_in(2) => ("status", json!({})),
            _ => return self.switch_auth(),
        };
        let _ = self.by_root(&format!("/v3/auth/{path}"), &body);
    }

    /// One of a few ranges, so that one granted twice, or revoked, was there.
    fn permitted(&mut self) -> (String, String) {
        let (key, end): (&[u8], &[u8]) = *self.rng.pick(&[
            (&b"a"[..], &b"b"[..]),
            (b"a/", b"c"),
            (b"b", b""),
            (b"c", b"\0"),
            (b"\0", b"\0"),
            (b"a/2", b"a/2"),
            (b"d", b"a"),
        ]);
        (encoded(key), encoded(end))
    }

    #[track_caller]
    fn switch_auth(&mut self) {
        if self.has_auth {
            if self.one_in(3) && self.by_root("/v3/auth/disable", &json!({})).is_ok() {
                self.has_auth = false;
            }
            return;
        }
        if self.rng.below(4) > 0 {
            let who = self.somebody();
            let _ =
                self.ask(who.as_deref(), "/v3/auth/user/add", &json!({ "name": "root", "password": "p0" }));
            let _ = self.ask(None, "/v3/auth/role/add", &json!({ "name": "root" }));
            let _ = self.ask(None, "/v3/auth/user/grant", &json!({ "user": "root", "role": "root" }));
        }
        if self.by_root("/v3/auth/enable", &json!({})).is_ok() {
            self.has_auth = true;
        }
    }

    #[track_caller]
    fn alarm(&mut self) {
        let kind = *self.rng.pick(&["NOSPACE", "NOSPACE", "CORRUPT"]);
        let member = *self.rng.pick(&[0, 1, 77, u64::MAX]);
        let body = json!({ "action": "ACTIVATE", "memberID": member.to_string(), "alarm": kind });
        if self.ask(None, "/v3/maintenance/alarm", &body).is_ok() {
            self.alarms.push((member, kind));
        }
        if self.one_in(5) {
            let _ = self.ask(None, "/v3/maintenance/alarm", &json!({ "action": "GET" }));
        }
    }

    #[track_caller]
    fn disarm(&mut self) {
        let at = self.index(self.alarms.len());
        let (member, kind) = self.alarms.swap_remove(at);
        let body = json!({ "action": "DEACTIVATE", "memberID": member.to_string(), "alarm": kind });
        let _ = self.ask(None, "/v3/maintenance/alarm", &body);
    }

    /// Learners alone: with a second voter there would be no quorum.
    #[track_caller]
    fn member(&mut self) {
        let url = format!("http://127.0.0.1:{}", 1 + self.rng.below(4));
        let known = match self.learners.len() {
            0 => self.own_id.clone(),
            n => {
                let at = self.index(n);
                self.learners[at].clone()
            }
        };
        match self.rng.below(7) {
            0..3 => {
                let body = json!({ "peerURLs": [url], "isLearner": true });
                if let Some(answer) = self.change_members("add", &body) {
                    self.learners.push(answer["member"]["ID"].as_str().expect("an ID").to_owned());
                }
            }
            3 => {
                let _ = self.change_members("update", &json!({ "ID": known, "peerURLs": [url] }));
            }
            4 => {
                let own = self.server.peer_url().to_owned();
                let _ = self.change_members("update", &json!({ "ID": self.own_id, "peerURLs": [own, url] }));
            }
            5 => {
                let _ = self.change_members("promote", &json!({ "ID": known }));
            }
            _ => {
                // One that was never there, when there is none to remove.
                let id = if known == self.own_id { "12345".to_owned() } else { known };
                let _ = self.change_members("remove", &json!({ "ID": id }));
            }
        }
    }

    /// A change of members by root. One that came to nothing may be one that 3.5.1 never answers: its log has it all the same.
    #[track_caller]
    fn change_members(&mut self, what: &str, body: &Value) -> Option<Value> {
        let path = format!("/v3/cluster/member/{what}");
        self.gateway.set_token(Some(token("root", NEVER_OLD)));
        let answer = self.gateway.call_for(NO_CHANGE, &path, body);
        self.gateway.set_token(None);
        let answer = answer.unwrap_or_else(|| Err("no answer".to_owned()));
        self.tell(&path, body, &answer);
        answer.ok()
    }

    /// Enables a downgrade and cancels it: no server of this version starts while one is enabled.
    #[track_caller]
    fn downgrade(&mut self) {
        let path = "/v3/maintenance/downgrade";
        let enable = json!({ "action": "ENABLE", "version": "3.4.0" });
        if self.gateway.call_for(NO_ANSWER, path, &enable).is_some() {
            // Refused.
            return;
        }
        for _ in 0..50 {
            let cancelled = self.gateway.call_for(NO_ANSWER, path, &json!({ "action": "CANCEL" }));
            if cancelled.is_none() {
                self.told.push("downgrade enabled and cancelled".to_owned());
                return;
            }
        }
        panic!("a downgrade was not cancelled");
    }

    /// Version 2, downgrades, and requests that change nothing.
    #[track_caller]
    fn other(&mut self) {
        match self.rng.below(4) {
            0 | 1 if self.flags.iter().any(|flag| flag == "--enable-v2=true") => {
                let path = format!("/v2/keys/v2/{}", self.rng.below(4));
                let (method, form) = match self.rng.below(4) {
                    0 => ("DELETE", ""),
                    1 => ("PUT", "value=x&ttl=100000"),
                    2 => ("POST", "value=y"),
                    _ => ("PUT", "value=z&prevExist=false"),
                };
                let status = self.gateway.form(method, &path, form);
                self.told.push(format!("{method} {path} {form}: {status}"));
            }
            2 if self.version != Version::V3_4 => {
                self.downgrade();
            }
            _ => {
                let (key, end) = self.range();
                let _ = self.by_somebody("/v3/kv/range", &json!({ "key": key, "range_end": end }));
            }
        }
    }
}

/// How long a change of members is waited for.
const NO_CHANGE: Duration = Duration::from_secs(2);
/// How long a downgrade request is waited for: 3.5 applies one and never answers.
const NO_ANSWER: Duration = Duration::from_millis(150);

impl Drop for Mixture {
    fn drop(&mut self) {
        if thread::panicking() {
            #[allow(clippy::print_stderr, reason = "the test runner shows it with the failure")]
            for line in &self.told {
                eprintln!("{line}");
            }
        }
    }
}

/// One of the requests that are under way when the server is killed.
fn under_way(gateway: &mut Gateway, rng: &mut Rng) -> std::io::Result<()> {
    let key = encoded(rng.pick::<&[u8]>(&KEYS));
    let answer = match rng.below(6) {
        0 => gateway.attempt("/v3/kv/deleterange", &json!({ "key": key }))?,
        1 => {
            let id = 1 + rng.below(LEASES - 1);
            gateway.attempt("/v3/lease/grant", &json!({ "ID": id.to_string(), "TTL": "100000" }))?
        }
        2 => {
            let put = json!({ "request_put": { "key": key, "value": encoded(b"in flight") } });
            gateway.attempt("/v3/kv/txn", &json!({ "success": [put] }))?
        }
        _ => gateway.attempt("/v3/kv/put", &json!({ "key": key, "value": encoded(b"flight") }))?,
    };
    // A refusal is an answer as well.
    drop(answer);
    Ok(())
}

/// Where a killed server's data is, by [`Mixture::start`].
#[must_use]
pub fn data_dir_in(scratch: &Path) -> PathBuf {
    scratch.join("data")
}
