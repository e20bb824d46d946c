//! Specimens that real servers wrote.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::specimen::{Parts, Specimen};
use crate::base64;
use crate::damage::Rng;
use crate::oracle::{Gateway, HashKv, Kv, Launch, Server, Tools, Version};

/// Commits come after so many operations and never by the clock, so that the same history has the same pages.
const BATCHED: [&str; 2] = ["--backend-batch-interval=1h", "--backend-batch-limit=25"];
/// No commit but the one at the end.
const ONE_COMMIT: [&str; 2] = ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"];
/// A lone server elects itself at once, and keeps its log.
const ALONE: [&str; 2] = ["--heartbeat-interval=10", "--election-timeout=100"];
/// Keys that a history writes to.
const KEYS: u64 = 260;
/// Steps of the stages of a history.
const STEPS: [usize; 4] = [120, 800, 900, 150];
/// How a file is read while its server writes it: so many bytes, then a pause.
const CHUNK_BYTES: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(4);

/// A specimen, and the member that it is the database of.
#[derive(Debug)]
pub struct Served {
    /// The database and what is in it.
    pub specimen: Specimen,
    /// The member's data dir, as its server left it when it was stopped.
    pub data_dir: PathBuf,
    /// What the server said of its key space before it was stopped.
    pub hash: HashKv,
    /// Every key it had then.
    pub listing: Vec<Kv>,
    /// Whether the log holds everything from its first entry on. Else it begins with a database that was restored.
    pub is_log_whole: bool,
}

/// The flags of a server of this version.
fn flags(version: Version, batches: [&str; 2]) -> Vec<String> {
    let freelist = match version {
        Version::V3_4 => &["--experimental-backend-bbolt-freelist-type=array"][..],
        // Maps of Go are walked in no order. And what is lost with the machine is not of interest.
        Version::V3_5_1 | Version::V3_5New => &["--backend-bbolt-freelist-type=array", "--unsafe-no-fsync"],
    };
    ALONE.iter().chain(&batches).chain(freelist).map(|flag| (*flag).to_owned()).collect()
}

/// One history under way.
struct History {
    rng: Rng,
    leases: Vec<i64>,
    steps: i64,
}

fn text(bytes: &[u8]) -> Value {
    Value::String(base64::encode(bytes))
}

impl History {
    fn key(&mut self) -> Vec<u8> {
        let number = self.rng.below(KEYS);
        let kind = ["pods", "secrets", "events", "leases"][usize::try_from(number % 4).expect("below 4")];
        format!("/registry/{kind}/ns-{:02}/name-{number:04}", number % 13).into_bytes()
    }

    /// Most fit a page, some take a few, one in a hundred takes many; some are one byte again and again, as sparse data is.
    fn value(&mut self) -> Vec<u8> {
        let len = match self.rng.below(100) {
            0 => 20_000 + self.rng.below(30_000),
            1..6 => 3_000 + self.rng.below(9_000),
            6..12 => self.rng.below(12),
            12..60 => 80 + self.rng.below(400),
            _ => 400 + self.rng.below(1_500),
        };
        let len = usize::try_from(len).expect("short");
        match self.rng.below(25) {
            0 => vec![0; len],
            1 => vec![b'x'; len],
            _ => {
                let mut value = Vec::with_capacity(len + 8);
                while value.len() < len {
                    value.extend_from_slice(format!("{:016x} ", self.rng.next_u64()).as_bytes());
                }
                value.truncate(len);
                value
            }
        }
    }

    fn put(&mut self, key: &[u8]) -> Value {
        let lease = match self.rng.below(8) {
            0 if !self.leases.is_empty() => *self.rng.pick(&self.leases),
            _ => 0,
        };
        json!({ "key": text(key), "value": text(&self.value()), "lease": lease.to_string() })
    }

    #[track_caller]
    fn step(&mut self, gateway: &mut Gateway) {
        self.steps += 1;
        let key = self.key();
        match self.rng.below(100) {
            0..10 => drop(gateway.must("/v3/kv/deleterange", &json!({ "key": text(&key) }))),
            10 => {
                let end = [&key[..key.len() - 1], b"~"].concat();
                gateway.must("/v3/kv/deleterange", &json!({ "key": text(&key), "range_end": text(&end) }));
            }
            11..25 => {
                let mut keys: Vec<Vec<u8>> = (0..2 + self.rng.below(4)).map(|_| self.key()).collect();
                keys.sort();
                keys.dedup();
                let operations: Vec<Value> = keys
                    .iter()
                    .map(|key| match self.rng.below(5) {
                        0 => json!({ "request_delete_range": { "key": text(key) } }),
                        _ => json!({ "request_put": self.put(key) }),
                    })
                    .collect();
                gateway.must("/v3/kv/txn", &json!({ "success": operations }));
            }
            25 | 26 => {
                gateway.must("/v3/lease/grant", &json!({ "ID": self.steps.to_string(), "TTL": "100000" }));
                self.leases.push(self.steps);
            }
            27 if self.leases.len() > 1 => {
                let lease = self.leases.remove(0);
                gateway.must("/v3/lease/revoke", &json!({ "ID": lease.to_string() }));
            }
            _ => {
                let body = self.put(&key);
                gateway.must("/v3/kv/put", &body);
            }
        }
    }

    #[track_caller]
    fn steps(&mut self, gateway: &mut Gateway, count: usize) {
        (0..count).for_each(|_| self.step(gateway));
    }
}

fn db_of(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/db")
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A server under the history, and what of its file was kept.
struct Stage {
    version: Version,
    server: Server,
    history: History,
    kept: Vec<Vec<u8>>,
}

impl Stage {
    #[track_caller]
    fn ready(&mut self) -> Gateway {
        Gateway::ready(&mut self.server)
    }

    /// Stops the server, keeps a copy of its file, and starts it again.
    #[track_caller]
    fn keep(&mut self, batches: [&str; 2]) -> Gateway {
        self.server.stop();
        self.kept.push(read(&db_of(self.server.data_dir())));
        self.server.set_args(flags(self.version, batches));
        self.server.spawn_again();
        self.ready()
    }

    /// As [`Self::keep`], and goes on in a new data dir that etcdutl restored from the file.
    #[track_caller]
    fn keep_and_restore(&mut self, to: &Path) -> Gateway {
        self.server.stop();
        let db = db_of(self.server.data_dir());
        self.kept.push(read(&db));
        let (name, url) = (self.server.name().to_owned(), self.server.peer_url().to_owned());
        let cluster = format!("{name}={url}");
        let paths = [&db, to].map(|path| path.to_str().expect("a plain path"));
        let tools = Tools::find(self.version);
        let line =
            ["snapshot", "restore", paths[0], "--skip-hash-check", "--data-dir", paths[1], "--name", &name];
        let more = ["--initial-cluster", &cluster, "--initial-advertise-peer-urls", &url];
        tools.etcdutl(line.into_iter().chain(more)).ok();
        let launch = self.server.launch().clone().data_dir(to);
        self.server = launch.spawn();
        self.ready()
    }
}

/// Copies a file from its start to its end while somebody writes it.
fn copied_while_written(path: &Path) -> Vec<u8> {
    let reading = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let len = file.metadata()?.len();
        let (mut copy, mut chunk) = (Vec::new(), vec![0; CHUNK_BYTES]);
        while (copy.len() as u64) < len {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            copy.extend_from_slice(&chunk[..read]);
            // What lies behind the last page is nothing that a server writes meanwhile.
            if chunk.iter().any(|byte| *byte != 0) {
                thread::sleep(PAUSE);
            }
        }
        Ok(copy)
    };
    reading().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Steps that go on until the file was copied.
#[track_caller]
fn copied_under_load(stage: &mut Stage, gateway: &mut Gateway, fewest: usize) -> Vec<u8> {
    let (is_copied, path) = (AtomicBool::new(false), db_of(stage.server.data_dir()));
    thread::scope(|scope| {
        let copy = scope.spawn(|| {
            let copy = copied_while_written(&path);
            is_copied.store(true, Ordering::Relaxed);
            copy
        });
        let mut done = 0;
        while done < fewest || !is_copied.load(Ordering::Relaxed) {
            stage.history.step(gateway);
            done += 1;
        }
        copy.join().expect("reading a file does not panic")
    })
}

impl Served {
    /// Has a server of `version` live through the history of `seed` below the directory `scratch`. The history is the same each
    /// time but for what `is_copied` asks for: a copy made while the server writes, which takes as long as it takes.
    #[track_caller]
    pub fn new(version: Version, seed: u64, is_copied: bool, scratch: &Path) -> Self {
        let data_dir = scratch.join("data");
        let launch = Launch::new(version, &data_dir, "m1");
        let launch = launch.args(flags(version, BATCHED));
        let url = launch.peer().to_owned();
        // So that it can be restored to the same addresses.
        let launch = launch
            .args([format!("--initial-cluster=m1={url}"), format!("--initial-advertise-peer-urls={url}")]);
        let rng = Rng::seeded_by(&format!("laboratory {seed}"));
        let history = History { rng, leases: Vec::new(), steps: 0 };
        let mut stage = Stage { version, server: launch.spawn(), history, kept: Vec::new() };
        let mut gateway = stage.ready();
        for name in ["root", "reader"] {
            gateway.must("/v3/auth/role/add", &json!({ "name": name }));
            gateway.must("/v3/auth/user/add", &json!({ "name": name, "options": { "no_password": true } }));
            gateway.must("/v3/auth/user/grant", &json!({ "user": name, "role": name }));
        }
        stage.history.steps(&mut gateway, STEPS[0]);
        gateway = stage.keep(BATCHED);
        stage.history.steps(&mut gateway, STEPS[1]);
        let is_log_whole = version != Version::V3_5New;
        gateway = if is_log_whole {
            stage.keep(BATCHED)
        } else {
            stage.keep_and_restore(&scratch.join("restored"))
        };
        let now = gateway.revision();
        gateway.compact(now * 2 / 3, true).unwrap_or_else(|e| panic!("{e}"));
        stage.history.steps(&mut gateway, STEPS[2]);
        gateway = stage.keep(BATCHED);
        let now = gateway.revision();
        gateway.compact(now - 300, true).unwrap_or_else(|e| panic!("{e}"));
        let copied = is_copied.then(|| copied_under_load(&mut stage, &mut gateway, STEPS[2] / 2));
        if !is_copied {
            stage.history.steps(&mut gateway, STEPS[2] / 2);
        }
        gateway = stage.keep(ONE_COMMIT);
        stage.history.steps(&mut gateway, STEPS[3]);
        let hash = gateway.hashkv(0).expect("a hash of now");
        let listing = gateway.list(0).expect("all keys of now");
        stage.server.stop();
        let data_dir = stage.server.data_dir().to_owned();
        let file = read(&db_of(&data_dir));
        let before = stage.kept.pop();
        let young =
            stage.kept.first().map(|file| [0, 1].map(|slot| file[slot * 4096..(slot + 1) * 4096].to_vec()));
        let parts = Parts { file, before, young, copied, earlier: stage.kept, ..Parts::default() };
        let specimen = Specimen::new(&Tools::find(version).release(), parts);
        Self { specimen, data_dir, hash, listing, is_log_whole }
    }
}
