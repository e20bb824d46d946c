//! Seeded random workloads on a live server, and the server's own truth of what they left.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::HashKv;
use super::gateway::{Gateway, Kv};
use super::server::{Launch, Server};
use crate::base64;
use crate::damage::Rng;

/// Flags with which a lone server elects itself at once, and makes snapshots of its log on the way.
pub const QUICK: [&str; 3] = ["--heartbeat-interval=10", "--election-timeout=100", "--snapshot-count=60"];

/// What a server holds, at every revision it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// The store's revision.
    pub revision: i64,
    /// The oldest revision that can be read: the compacted one, 1 before the first compaction.
    pub oldest: i64,
    /// -1 for never compacted.
    pub compact_revision: i64,
    /// Every key, for each revision from the oldest on.
    pub listings: BTreeMap<i64, Vec<Kv>>,
    /// hashkv, for each revision but the compacted one, whose hash depends on when it is asked.
    pub hashes: BTreeMap<i64, u64>,
}

impl Truth {
    /// Asks for everything at every revision from `oldest` on.
    #[track_caller]
    pub fn of(gateway: &mut Gateway) -> Self {
        let HashKv { revision, compact_revision, .. } = gateway.hashkv(0).expect("a hash of now");
        let oldest = compact_revision.max(1);
        let mut truth = Self { revision, oldest, compact_revision, ..Self::default() };
        for at in oldest..=revision {
            truth.listings.insert(at, gateway.list(at).unwrap_or_else(|e| panic!("revision {at}: {e}")));
            if at != compact_revision {
                let hash = gateway.hashkv(at).unwrap_or_else(|e| panic!("hash at revision {at}: {e}"));
                assert_eq!((hash.revision, hash.compact_revision), (revision, compact_revision));
                truth.hashes.insert(at, hash.hash);
            }
        }
        if oldest > 1 {
            assert!(gateway.list(oldest - 1).is_err(), "revision {} can be read", oldest - 1);
        }
        truth
    }
}

/// How a workload ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server was stopped: the database is as far as the log.
    Stopped,
    /// The server was killed as soon as it had taken a compaction: the database has it scheduled, and not finished.
    KilledWhileCompacting,
}

/// A workload that is under way on a server of its own.
#[derive(Debug)]
pub struct Workload {
    server: Server,
    gateway: Gateway,
    rng: Rng,
    keys: Vec<Vec<u8>>,
    leases: Vec<i64>,
    /// Out of a hundred steps.
    deletes: u64,
    transactions: u64,
    compact_every: u64,
    revision: i64,
    compacted: i64,
    /// What was done, for whoever has to find out why a history disagrees.
    told: Vec<String>,
}

/// Parts of keys: some sort before and after each other's extensions.
const DIRECTORIES: [&[u8]; 6] = [
    b"/registry/events/default/",
    b"/registry/pods/kube-system/",
    b"/registry/leases/",
    b"/a",
    b"",
    b"\xff\x00/",
];

impl Workload {
    /// Starts `launch`, whose data dir is new, for the history of `seed`.
    #[track_caller]
    pub fn start(launch: Launch, seed: u64) -> Self {
        let mut server = launch.args(QUICK).spawn();
        let gateway = Gateway::ready(&mut server);
        let mut rng = Rng::seeded_by(&format!("history {seed}"));
        let count = 3 + rng.below(30);
        let keys = (0..count)
            .map(|number| {
                let mut key = rng.pick(&DIRECTORIES).to_vec();
                match rng.below(8) {
                    0 => key.extend_from_slice(&[0, 0xff, u8::try_from(number).expect("few keys")]),
                    1 => key.extend_from_slice("größe".as_bytes()),
                    _ => key.extend_from_slice(format!("{}", number / 2).as_bytes()),
                }
                // Keys may be equal; none may be empty.
                if key.is_empty() { b"k".to_vec() } else { key }
            })
            .collect();
        let (deletes, transactions) = (5 + rng.below(40), rng.below(40));
        let compact_every = 15 + rng.below(80);
        Self {
            server,
            gateway,
            rng,
            keys,
            leases: Vec::new(),
            deletes,
            transactions,
            compact_every,
            revision: 1,
            compacted: 0,
            told: Vec::new(),
        }
    }

    /// What was done so far, a line for each step.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Does `count` steps.
    #[track_caller]
    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Everything the server holds.
    #[track_caller]
    pub fn truth(&mut self) -> Truth {
        Truth::of(&mut self.gateway)
    }

    /// Ends the server; returns what was done.
    #[track_caller]
    pub fn end(mut self, ending: Ending) -> Vec<String> {
        match ending {
            Ending::Stopped => self.server.stop(),
            Ending::KilledWhileCompacting => {
                // A revision that was not compacted, and a record for it to remove.
                self.put();
                self.put();
                let at = self.compacted + 1 + self.below(self.revision - self.compacted);
                self.gateway.compact(at, false).unwrap_or_else(|e| panic!("compaction at {at}: {e}"));
                self.server.kill();
                self.told.push(format!("compact {at}, killed"));
            }
        }
        self.told
    }

    fn below(&mut self, limit: i64) -> i64 {
        let limit = u64::try_from(limit).expect("a positive limit");
        i64::try_from(self.rng.below(limit)).expect("below an i64")
    }

    fn key(&mut self) -> Vec<u8> {
        self.rng.pick(&self.keys).clone()
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.rng.below(40) {
            0 => 9000,
            1..4 => 1500,
            4..8 => 0,
            _ => self.rng.below(60),
        };
        let byte = u8::try_from(self.rng.below(256)).expect("a byte");
        vec![byte; usize::try_from(len).expect("short")]
    }

    #[track_caller]
    fn step(&mut self) {
        match self.rng.below(100) {
            0..4 => self.grant(),
            4..6 => self.revoke(),
            6 => self.restart(),
            7 | 8 => self.delete_range(),
            n if n < 9 + self.deletes => self.delete(),
            n if n < 9 + self.deletes + self.transactions => self.transaction(),
            _ => self.put(),
        }
        if self.rng.below(self.compact_every) == 0 && self.revision > self.compacted {
            self.compact();
        }
    }

    #[track_caller]
    fn done(&mut self, what: &str, answer: &Value) {
        let revision = answer["header"]["revision"].as_str().expect("a revision").parse().expect("a number");
        assert!(revision >= self.revision, "{what}: revision {revision} after {}", self.revision);
        self.revision = revision;
        self.told.push(format!("{revision}: {what}"));
    }

    #[track_caller]
    fn put(&mut self) {
        let body = self.put_body(None);
        let answer = self.gateway.must("/v3/kv/put", &body);
        self.done(&format!("put {}", shortened(&body)), &answer);
    }

    /// A put of `key`, or of any.
    fn put_body(&mut self, key: Option<&[u8]>) -> Value {
        let key = key.map_or_else(|| self.key(), <[u8]>::to_vec);
        let value = self.value();
        let lease = match self.rng.below(4) {
            0 if !self.leases.is_empty() => *self.rng.pick(&self.leases),
            _ => 0,
        };
        json!({ "key": base64::encode(&key), "value": base64::encode(&value), "lease": lease.to_string() })
    }

    #[track_caller]
    fn delete(&mut self) {
        let body = json!({ "key": base64::encode(&self.key()) });
        let answer = self.gateway.must("/v3/kv/deleterange", &body);
        self.done(&format!("delete {}", shortened(&body)), &answer);
    }

    #[track_caller]
    fn delete_range(&mut self) {
        let (a, b) = (self.key(), self.key());
        let (from, to) = if a < b { (a, b) } else { (b, a) };
        let body = json!({ "key": base64::encode(&from), "range_end": base64::encode(&to) });
        let answer = self.gateway.must("/v3/kv/deleterange", &body);
        self.done(&format!("delete range {}", shortened(&body)), &answer);
    }

    /// Puts, deletes and ranges of different keys behind a comparison; a server refuses two changes of one key.
    #[track_caller]
    fn transaction(&mut self) {
        let mut free = self.keys.clone();
        free.sort();
        free.dedup();
        let compared = self.key();
        let mut branches = [Vec::new(), Vec::new()];
        for branch in &mut branches {
            for _ in 0..self.rng.below(6) {
                if free.is_empty() {
                    break;
                }
                let at = usize::try_from(self.rng.below(free.len() as u64)).expect("an index");
                let key = free.swap_remove(at);
                let encoded = base64::encode(&key);
                branch.push(match self.rng.below(6) {
                    0 => json!({ "request_range": { "key": encoded } }),
                    1 | 2 => json!({ "request_delete_range": { "key": encoded } }),
                    3 => {
                        let inner = json!({ "request_put": self.put_body(Some(&key)) });
                        json!({ "request_txn": { "success": [inner] } })
                    }
                    _ => json!({ "request_put": self.put_body(Some(&key)) }),
                });
            }
        }
        let [success, failure] = branches;
        let body = json!({
            "compare": [{ "result": "GREATER", "target": "VERSION", "key": base64::encode(&compared), "version": "1" }],
            "success": success, "failure": failure,
        });
        let answer = self.gateway.must("/v3/kv/txn", &body);
        self.done(&format!("txn {}", shortened(&body)), &answer);
    }

    #[track_caller]
    fn grant(&mut self) {
        let id = 1 + i64::try_from(self.told.len()).expect("few steps");
        let answer = self.gateway.must("/v3/lease/grant", &json!({ "ID": id.to_string(), "TTL": "100000" }));
        self.leases.push(id);
        self.done(&format!("grant {id}"), &answer);
    }

    #[track_caller]
    fn revoke(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        let at = usize::try_from(self.rng.below(self.leases.len() as u64)).expect("an index");
        let id = self.leases.swap_remove(at);
        let answer = self.gateway.must("/v3/lease/revoke", &json!({ "ID": id.to_string() }));
        self.done(&format!("revoke {id}"), &answer);
        // A header may tell of the revision before the deletions.
        self.revision = self.gateway.revision();
    }

    #[track_caller]
    fn compact(&mut self) {
        let at = match self.rng.below(3) {
            0 => self.revision,
            _ => self.compacted + 1 + self.below(self.revision - self.compacted),
        };
        self.gateway.compact(at, true).unwrap_or_else(|e| panic!("compaction at {at}: {e}"));
        self.compacted = at;
        self.told.push(format!("compact {at}"));
    }

    #[track_caller]
    fn restart(&mut self) {
        self.server.spawn_again();
        self.gateway = Gateway::ready(&mut self.server);
        self.told.push("restart".to_owned());
    }
}

/// `body` with long values cut.
fn shortened(body: &Value) -> String {
    let text = body.to_string();
    let mut out = String::new();
    for (number, part) in text.split('"').enumerate() {
        if number > 0 {
            out.push('"');
        }
        out.extend(part.chars().take(40));
    }
    out
}
