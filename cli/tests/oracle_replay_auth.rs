//! Storms of changes to users, roles and members on real servers whose databases lag behind their logs: what is folded offline
//! has the same rows, byte for byte, as the same files after their servers started on them. Two members: one that was
//! there from the start, and one that joined as a learner, was promoted, moved, and came back under another name.
//! Takes about 10 s for each version, alone on two cores.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use bbolt::Db;
use prost::Message;
use rstest::rstest;
use serde_json::{Value, json};
use snapshot::replay::small::{Name, Small};
use snapshot::schema::{CONF_STATE, UserRow};
use support::{code, rescue, text};
use testdata::base64;
use testdata::damage::Rng;
use testdata::oracle::{Gateway, Launch, NEVER_OLD, Server, Tools, Version, free_ports, token, token_flag};

const PASSWORDS: [&str; 3] = ["p0", "secret-1", "p\u{e4}ss 2"];
const USERS: [&str; 4] = ["alice", "bob", "d\u{e4}ve", "root"];
const ROLES: [&str; 3] = ["r1", "r2", "root"];
/// Changes asked for in one storm. Where a log holds passwords themselves, each that counts costs a hash.
const CHANGES: usize = 120;
const CHANGES_IN_CLEAR: usize = 50;

/// One member, its files, and its database as it was soon after the first start.
struct Member {
    server: Server,
    launch: Launch,
    early: PathBuf,
}

impl Member {
    fn start(version: Version, dir: &Path, name: &str, cluster: &str, url: &str, state: &str) -> Self {
        let flags = [
            "--heartbeat-interval=20",
            "--election-timeout=200",
            "--backend-batch-interval=100h",
            "--backend-batch-limit=100000000",
            "--snapshot-count=1000000",
            "--bcrypt-cost=4",
            "--initial-advertise-peer-urls",
            url,
            "--initial-cluster",
            cluster,
            "--initial-cluster-state",
            state,
        ];
        let launch = Launch::new(version, &dir.join(name), name).peer_url(url).args(flags);
        let launch = launch.args([token_flag(dir)]);
        let server = launch.clone().spawn();
        Self { server, launch, early: dir.join(format!("{name}.early.db")) }
    }

    fn copy_early(&self) {
        fs::copy(db_of(self.server.data_dir()), &self.early).unwrap();
    }
}

fn db_of(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/db")
}

fn copied(from: &Path, to: &Path) {
    // A segment of the log is 64 MB of which little was written.
    let status = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status().unwrap();
    assert!(status.success());
}

fn small_of(db: &Path) -> Small {
    let bytes = fs::read(db).unwrap();
    Small::read(&Db::from_source(bytes.as_slice()).unwrap()).unwrap()
}

/// Until it is answered, as it is once a learner has caught up, or a member is back.
#[track_caller]
fn insist(gateway: &mut Gateway, path: &str, body: &Value) -> Value {
    let mut last = String::new();
    for _ in 0..200 {
        match gateway.call(path, body) {
            Ok(answer) => return answer,
            Err(refusal) => last = refusal,
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{path} {body}: {last}");
}

/// Changes of users and roles, most of which take effect. Keys repeat, so that permissions tie in their order.
fn storm(gateway: &mut Gateway, rng: &mut Rng, changes: usize, told: &mut Vec<String>) {
    for _ in 0..changes {
        let (user, role) = (*rng.pick(&USERS), *rng.pick(&ROLES));
        let (key, end) = (*rng.pick(&["a", "b", "c"]), *rng.pick(&["", "\0", "d", "e", "f", "a"]));
        let (key, end) = (base64::encode(key.as_bytes()), base64::encode(end.as_bytes()));
        let password = *rng.pick(&PASSWORDS);
        let (path, body) = match rng.below(20) {
            0..3 => ("user/add", json!({ "name": user, "password": password })),
            3 => ("user/add", json!({ "name": user, "options": { "no_password": true } })),
            4 => ("user/changepw", json!({ "name": user, "password": password })),
            5..8 => ("user/grant", json!({ "user": user, "role": role })),
            8 => ("user/revoke", json!({ "name": user, "role": role })),
            9 if rng.below(3) == 0 => ("user/delete", json!({ "name": user })),
            10..12 => ("role/add", json!({ "name": role })),
            12 if rng.below(8) == 0 => ("role/delete", json!({ "role": role })),
            13 => ("role/revoke", json!({ "role": role, "key": key, "range_end": end })),
            _ => {
                let kind = *rng.pick(&["READ", "WRITE", "READWRITE"]);
                (
                    "role/grant",
                    json!({ "name": role, "perm": { "permType": kind, "key": key, "range_end": end } }),
                )
            }
        };
        let answer = gateway.call(&format!("/v3/auth/{path}"), &body);
        told.push(format!("{path} {body}: {}", answer.err().unwrap_or_default()));
    }
}

fn enable_auth(gateway: &mut Gateway) {
    for (path, body) in [
        ("user/add", json!({ "name": "root", "password": "p0" })),
        ("user/grant", json!({ "user": "root", "role": "root" })),
    ] {
        // Some of it may be there.
        let _ = gateway.call(&format!("/v3/auth/{path}"), &body);
    }
    gateway.must("/v3/auth/enable", &json!({}));
    gateway.set_token(Some(token("root", NEVER_OLD)));
}

/// The same rows but for passwords, each of which must be one that was given.
#[track_caller]
fn rows_agree(ours: &Small, theirs: &Small, is_salted: bool, what: &str) {
    for name in Name::ALL {
        if name == Name::Meta {
            continue;
        }
        let (a, b) = (ours.rows(name), theirs.rows(name));
        let keys: Vec<_> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let (a, b) = (a.get(key), b.get(key));
            if let (Name::AuthUsers, true, Some(a), Some(b)) = (name, is_salted, a, b) {
                let (a, b) = (UserRow::decode(a.as_slice()).unwrap(), UserRow::decode(b.as_slice()).unwrap());
                assert_eq!((&a.name, &a.roles, a.options), (&b.name, &b.roles, b.options), "{what}");
                let is_of = |row: &UserRow, password: &str| {
                    bcrypt::verify(password, std::str::from_utf8(&row.password).unwrap()).unwrap()
                };
                let both = |password: &&str| {
                    a.password == b.password || (is_of(&a, password) && is_of(&b, password))
                };
                assert!(PASSWORDS.iter().any(both), "{what}: password of {:?}", a.name);
                continue;
            }
            let shown = |row: Option<&Vec<u8>>| row.map(|row| row.escape_ascii().to_string());
            assert_eq!(shown(a), shown(b), "{what}: bucket {name:?}, row {}", key.escape_ascii());
        }
    }
    let state = |small: &Small| small.get(Name::Meta, CONF_STATE).map(|row| row.escape_ascii().to_string());
    assert_eq!(state(ours), state(theirs), "{what}: raft's configuration");
}

#[rstest]
#[case(Version::V3_4)]
#[case(Version::V3_5_1)]
#[case(Version::V3_5New)]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_folded_rows_are_a_servers(#[case] version: Version) {
    let scratch = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded_by(&format!("auth storm {version:?}"));
    let mut told = Vec::new();
    let changes = if version == Version::V3_4 { CHANGES_IN_CLEAR } else { CHANGES };
    let ports = free_ports(4);
    let url = |at: usize| format!("http://127.0.0.1:{}", ports[at]);
    let (first, second) = (format!("n1={}", url(0)), format!("n1={},n2={}", url(0), url(1)));

    let mut one = Member::start(version, scratch.path(), "n1", &first, &url(0), "new");
    let mut gateway = Gateway::ready(&mut one.server);
    one.copy_early();
    storm(&mut gateway, &mut rng, changes, &mut told);

    // A learner joins, is promoted and moves; another is added, moved, removed and added again, which is one of a new id.
    let learner = |at: usize| json!({ "peerURLs": [url(at)], "isLearner": true });
    let id_of = |answer: &Value| answer["member"]["ID"].as_str().unwrap().to_owned();
    let id = id_of(&gateway.must("/v3/cluster/member/add", &learner(1)));
    let two = Member::start(version, scratch.path(), "n2", &second, &url(1), "existing");
    thread::sleep(Duration::from_millis(500));
    two.copy_early();
    insist(&mut gateway, "/v3/cluster/member/promote", &json!({ "ID": id }));
    enable_auth(&mut gateway);
    insist(&mut gateway, "/v3/cluster/member/update", &json!({ "ID": id, "peerURLs": [url(1), url(3)] }));
    let other = id_of(&insist(&mut gateway, "/v3/cluster/member/add", &learner(2)));
    // An address that is taken, one learner too many, and a member that never was.
    for (path, body) in [
        ("update", json!({ "ID": other, "peerURLs": [url(0)] })),
        ("add", learner(1)),
        ("remove", json!({ "ID": "12345" })),
        ("promote", json!({ "ID": other })),
    ] {
        let answer = gateway.call(&format!("/v3/cluster/member/{path}"), &body);
        assert!(answer.is_err(), "{path} {body}: {answer:?}");
    }
    insist(&mut gateway, "/v3/cluster/member/remove", &json!({ "ID": other }));
    let again = id_of(&insist(&mut gateway, "/v3/cluster/member/add", &learner(2)));
    insist(&mut gateway, "/v3/cluster/member/update", &json!({ "ID": again, "peerURLs": [url(3) + "0"] }));
    storm(&mut gateway, &mut rng, changes, &mut told);

    // Back under another name, and with that other attributes.
    let Member { server, launch, early } = two;
    drop(server);
    let launch = launch.args(["--name=renamed"]);
    let mut two = Member { server: launch.clone().spawn(), launch, early };
    two.server.wait_ready();
    storm(&mut gateway, &mut rng, changes, &mut told);
    // What follows the last change carries its commit to both.
    for _ in 0..3 {
        insist(&mut gateway, "/v3/kv/put", &json!({ "key": base64::encode(b"k") }));
        thread::sleep(Duration::from_millis(100));
    }
    one.server.kill();
    two.server.kill();

    let release = Tools::find(version).release();
    for with_early in [false, true] {
        let mut folded = Vec::new();
        let mut launches = Vec::new();
        for member in [&one, &two] {
            let name = format!("{}-{with_early}", member.server.name());
            let dir = scratch.path().join(&name);
            copied(member.server.data_dir(), &dir);
            if with_early {
                fs::copy(&member.early, db_of(&dir)).unwrap();
            }
            let file = scratch.path().join(format!("{name}.snapshot"));
            let ran = rescue(["snapshot", "save", text(&dir), "-o", text(&file), "--as-etcd", &release]);
            assert!(matches!(code(&ran), 0 | 3), "{ran:?}");
            folded.push((name, small_of(&file), ran));
            launches.push(member.launch.clone().data_dir(&dir));
        }
        let mut booted = testdata::oracle::Cluster::start(launches);
        booted.stop();
        for ((name, ours, ran), server) in folded.iter().zip(booted.members()) {
            let theirs = small_of(&db_of(server.data_dir()));
            let what = format!("{name}\n{}\n{}\n{}", told.join("\n"), ran.stdout, ran.stderr);
            rows_agree(ours, &theirs, version == Version::V3_4, &what);
        }
    }
}
