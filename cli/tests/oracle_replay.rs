//! Seeded random histories of every kind of request on live servers whose databases lag behind their logs, and which were
//! killed: what is folded offline is what the same server makes of the same files when it starts. From the database as
//! the kill left it, and from early copies of it under the final log, so that every kind of entry is replayed.
//!
//! `ETCD_RESCUE_SOAK=1` makes it thousands; `ETCD_RESCUE_SEED=N` is one history alone, for whoever looks for what went wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use bbolt::{Db, check};
use rstest::rstest;
use snapshot::mvcc::{Index, IndexOptions, KeyValue, Release, hashkv};
use support::{code, kv_of, listed, rescue, text};
use testdata::damage::Rng;
use testdata::oracle::{
    Answers, Gateway, Killed, Kv, Mixture, PASSWORDS, Tools, Truth, Version, data_dir_in,
};

/// Steps of one history.
const STEPS: usize = 140;
/// Histories of one version, shared by its tests: in the gate, and in a soak.
const HISTORIES: u64 = 20;
const HISTORIES_OF_A_SOAK: u64 = 1000;
const SHARES: u64 = 2;

/// The seeds of one share.
fn seeds(share: u64) -> Range<u64> {
    if let Ok(seed) = env::var("ETCD_RESCUE_SEED") {
        let seed = seed.parse().unwrap();
        return if share == 0 { seed..seed + 1 } else { 0..0 };
    }
    let all = if env::var_os("ETCD_RESCUE_SOAK").is_some() { HISTORIES_OF_A_SOAK } else { HISTORIES };
    let each = all / SHARES;
    share * each..(share + 1) * each
}

/// Pairs of each bucket.
type Rows = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn db_of(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/db")
}

/// Every pair of a file that is proved sound first.
fn rows_of(db: &Path) -> Rows {
    let bytes = fs::read(db).unwrap();
    let db = Db::from_source(bytes.as_slice()).unwrap();
    let report = check(&db, &());
    assert!(report.is_sound(), "{:?}", report.findings);
    let mut rows = Rows::new();
    let mut names = db.root().cursor();
    while let Some(item) = names.next().unwrap() {
        let name = item.key.to_vec();
        let bucket = db.bucket(&name).unwrap().unwrap();
        let mut pairs = BTreeMap::new();
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next().unwrap() {
            pairs.insert(item.key.to_vec(), item.value.to_vec());
        }
        rows.insert(name, pairs);
    }
    rows
}

fn copied(from: &Path, to: &Path) {
    // A segment of the log is 64 MB of which little was written.
    let status = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status().unwrap();
    assert!(status.success());
}

/// A member that was killed, early copies of its database, and its own word on what it held before.
struct History {
    version: Version,
    killed: Killed,
    live: Answers,
    /// The last entry of the log, when nothing was under way at the kill.
    last_index: u64,
    /// Copies of the database under which the whole log can be put.
    early: Vec<PathBuf>,
    label: String,
}

impl History {
    fn made(version: Version, seed: u64, scratch: &Path) -> Self {
        let mut mixture = Mixture::start(version, seed, scratch);
        let mut rng = Rng::seeded_by(&format!("history {seed}"));
        let mut early = Vec::new();
        let mut copy = |mixture: &Mixture, name: &str| {
            if mixture.keeps_its_log_whole() {
                let path = scratch.join(name);
                mixture.copy_db(&path);
                early.push(path);
            }
        };
        copy(&mixture, "first.db");
        let before = usize::try_from(rng.below(STEPS as u64)).unwrap();
        mixture.steps(before);
        if rng.below(2) == 0 {
            mixture.commit_by_compaction();
            copy(&mixture, "middle.db");
        }
        mixture.steps(STEPS - before);
        let live = mixture.answers();
        let last_index = mixture.last_index();
        let killed = mixture.kill(rng.below(2) == 0);
        Self { version, killed, live, last_index, early, label: format!("{version:?}, seed {seed}") }
    }

    /// Starts the server again, on `data_dir`, asks it, and ends it: its database is then as far as its log.
    fn booted(&self, data_dir: &Path) -> Booted {
        let launch = self.killed.launch.clone().data_dir(data_dir);
        // Reads after a resumed compaction need commits; of flags the last one counts.
        let mut server = launch.args(["--backend-batch-interval=20ms"]).spawn();
        let mut gateway = Gateway::ready(&mut server);
        let answers = Answers::of(&mut gateway);
        server.stop();
        Booted { answers, rows: rows_of(&db_of(data_dir)) }
    }

    #[track_caller]
    fn none(&self, parting: Option<String>, what: &str) {
        if let Some(parting) = parting {
            panic!("{}: {what}: {parting}\n{}", self.label, self.killed.told.join("\n"));
        }
    }
}

/// Where two servers, or a server and a folded file, part.
fn parting(ours: &Answers, theirs: &Answers) -> Option<String> {
    let (a, b) = (&ours.truth, &theirs.truth);
    for (revision, listing) in &a.listings {
        match b.listings.get(revision) {
            Some(other) if other != listing => {
                return Some(format!("revision {revision}: {listing:?}\nagainst {other:?}"));
            }
            _ => {}
        }
    }
    if (a.revision, a.compact_revision) != (b.revision, b.compact_revision) {
        let (a, b) = ((a.revision, a.compact_revision), (b.revision, b.compact_revision));
        return Some(format!("revision and compaction: {a:?} against {b:?}"));
    }
    if let Some((revision, hash)) =
        a.hashes.iter().find(|(revision, hash)| b.hashes.get(revision) != Some(hash))
    {
        return Some(format!("hash at {revision}: {hash} against {:?}", b.hashes.get(revision)));
    }
    let parts = [
        ("leases", format!("{:?}", ours.leases), format!("{:?}", theirs.leases)),
        ("users", format!("{:?}", ours.users), format!("{:?}", theirs.users)),
        ("roles", format!("{:?}", ours.roles), format!("{:?}", theirs.roles)),
        ("alarms", format!("{:?}", ours.alarms), format!("{:?}", theirs.alarms)),
        ("members", format!("{:?}", ours.members), format!("{:?}", theirs.members)),
    ];
    let (what, a, b) = parts.into_iter().find(|(_, a, b)| a != b)?;
    Some(format!("{what}: {a}\nagainst {b}"))
}

/// What a server makes of its files when it starts.
struct Booted {
    answers: Answers,
    rows: Rows,
}

/// A file that was folded offline.
struct Folded {
    path: PathBuf,
    rows: Rows,
    told: String,
}

/// The release whose rules a server follows.
fn release_of(version: Version) -> String {
    Tools::find(version).release()
}

impl Folded {
    fn made(history: &History, dir: &Path, more: &[&str]) -> Self {
        let path = dir.with_extension("folded");
        let _ = fs::remove_file(&path);
        let release = release_of(history.version);
        let mut args = vec!["snapshot", "save", text(dir), "-o", text(&path), "--as-etcd", &release];
        args.extend(more);
        let ran = rescue(&args);
        assert!(
            matches!(code(&ran), 0 | 3),
            "{}: {ran:?}\n{}",
            history.label,
            history.killed.told.join("\n")
        );
        let rows = rows_of(&path);
        Self { path, rows, told: format!("{}\n{}", ran.stdout, ran.stderr) }
    }
}

/// A row of a user, with the hash of a password replaced by the password: servers up to 3.4 hash it when they apply an entry,
/// each time with another salt.
fn without_salt(row: &[u8]) -> Vec<u8> {
    const HASH_BYTES: usize = 60;
    let Some(at) = row.windows(4).position(|window| window == b"$2a$" || window == b"$2b$") else {
        return row.to_vec();
    };
    let hash = std::str::from_utf8(&row[at..at + HASH_BYTES]).unwrap();
    let password = PASSWORDS.iter().find(|password| bcrypt::verify(password, hash).unwrap());
    let password = password.unwrap_or_else(|| panic!("{hash} is of no password that was given"));
    [&row[..at], password.as_bytes(), &row[at + HASH_BYTES..]].concat()
}

/// Rows as far as two runs of a server agree on them.
fn comparable(rows: &Rows, version: Version, is_compacting: bool, has_version: bool) -> Rows {
    let mut rows = rows.clone();
    rows.retain(|_, pairs| !pairs.is_empty());
    // What the replay says of these is looked at one by one.
    rows.remove(b"meta".as_slice());
    if is_compacting {
        rows.remove(b"key".as_slice());
    }
    if version == Version::V3_4
        && let Some(users) = rows.get_mut(b"authUsers".as_slice())
    {
        for row in users.values_mut() {
            *row = without_salt(row);
        }
    }
    if !has_version && let Some(cluster) = rows.get_mut(b"cluster".as_slice()) {
        cluster.remove(b"clusterVersion".as_slice());
    }
    rows.retain(|_, pairs| !pairs.is_empty());
    rows
}

fn number_in_meta(rows: &Rows, key: &str) -> Option<u64> {
    let value = rows.get(b"meta".as_slice())?.get(key.as_bytes())?;
    Some(u64::from_be_bytes(value.get(..8)?.try_into().unwrap()))
}

/// Shown of a row that differs.
fn shown(row: Option<&Vec<u8>>) -> String {
    row.map_or_else(|| "nothing".to_owned(), |row| row.escape_ascii().to_string())
}

impl History {
    /// Every row of every bucket is what the server has after it started from the same files.
    fn rows_agree(&self, folded: &Folded, booted: &Booted, what: &str) {
        let (scheduled, finished) = ("scheduledCompactRev", "finishedCompactRev");
        let is_compacting = [&folded.rows, &booted.rows]
            .iter()
            .any(|rows| number_in_meta(rows, scheduled) != number_in_meta(rows, finished));
        // A server that was killed before its cluster had a version, or more than the first, gives it one when it starts again.
        let cluster = folded.rows.get(b"cluster".as_slice());
        let version = cluster.and_then(|rows| rows.get(b"clusterVersion".as_slice()));
        let has_version = version.is_some_and(|version| version != b"3.0.0");
        let ours = comparable(&folded.rows, self.version, is_compacting, has_version);
        let theirs = comparable(&booted.rows, self.version, is_compacting, has_version);
        let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let nothing = BTreeMap::new();
        for name in names {
            let (a, b) = (ours.get(name).unwrap_or(&nothing), theirs.get(name).unwrap_or(&nothing));
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let odd = keys.into_iter().find(|key| a.get(*key) != b.get(*key));
            let parting = odd.map(|key| {
                let (name, row) = (name.escape_ascii(), key.escape_ascii());
                let (a, b) = (shown(a.get(key)), shown(b.get(key)));
                format!("bucket {name}, row {row}:\nours   {a}\ntheirs {b}\n{}", folded.told)
            });
            self.none(parting, what);
        }
        if !is_compacting {
            let (a, b) = (number_in_meta(&folded.rows, finished), number_in_meta(&booted.rows, finished));
            self.none((a != b).then(|| format!("compacted at {a:?} against {b:?}")), what);
        }
        let index = number_in_meta(&folded.rows, "consistent_index");
        if !self.killed.was_busy {
            // 3.5.1 answers before its log has the entry: a lone member may lose the last one (etcd issue 14370).
            let is_lost = self.version == Version::V3_5_1 && index == self.last_index.checked_sub(1);
            let odd = index != Some(self.last_index) && !is_lost;
            self.none(
                odd.then(|| format!("index {index:?}, not {}\n{}", self.last_index, folded.told)),
                what,
            );
        }
        let state = |rows: &Rows| rows.get(b"meta".as_slice())?.get(b"confState".as_slice()).cloned();
        if let (Some(a), Some(b)) = (state(&folded.rows), state(&booted.rows)) {
            let parting = (a != b).then(|| format!("{} against {}", a.escape_ascii(), b.escape_ascii()));
            self.none(parting, what);
        }
    }

    /// The folded file lists and hashes as the server does; up to `last`, where the fold was to stop.
    fn key_space_agrees(&self, folded: &Folded, truth: &Truth, last: i64, what: &str) {
        let bytes = fs::read(&folded.path).unwrap();
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let release: Release = release_of(self.version).parse().unwrap();
        let options = IndexOptions { release, ..IndexOptions::default() };
        let index = Index::build(&db, &options, &()).unwrap();
        let revision = index.store().current_revision;
        let parting = (revision != last).then(|| format!("revision {revision}, not {last}\n{}", folded.told));
        self.none(parting, what);
        for (revision, listing) in truth.listings.range(..=last) {
            let entries = index.histories().filter_map(|one| one.at(*revision));
            let records: Vec<_> = entries.map(|entry| index.record(entry).unwrap().bytes).collect();
            let ours: Vec<Kv> =
                records.iter().map(|bytes| kv_of(&KeyValue::decode(bytes).unwrap())).collect();
            let odd = ours != *listing;
            self.none(
                odd.then(|| format!("revision {revision}:\nours   {ours:?}\ntheirs {listing:?}")),
                what,
            );
        }
        let compact = index.store().compact_revision.unwrap_or(-1);
        if compact == truth.compact_revision {
            for (revision, hash) in truth.hashes.range(..=last) {
                let ours = u64::from(hashkv(&db, *revision, release, &()).unwrap().hash);
                self.none((ours != *hash).then(|| format!("hash at {revision}: {ours}, not {hash}")), what);
            }
        }
        for revision in BTreeSet::from([truth.oldest.min(last), i64::midpoint(truth.oldest, last), last]) {
            if let Some(listing) = truth.listings.get(&revision) {
                let ours = listed(&folded.path, revision);
                let odd = ours != *listing;
                self.none(odd.then(|| format!("kv list --rev {revision}: {ours:?}\nnot {listing:?}")), what);
            }
        }
    }

    /// What a server makes of `dir`, and what is folded from it.
    fn replay_agrees(&self, dir: &Path, what: &str) -> (Folded, Booted) {
        let folded = Folded::made(self, dir, &[]);
        let theirs = dir.with_extension("theirs");
        copied(dir, &theirs);
        let booted = self.booted(&theirs);
        fs::remove_dir_all(&theirs).unwrap();
        self.rows_agree(&folded, &booted, what);
        let truth = &booted.answers.truth;
        self.key_space_agrees(&folded, truth, truth.revision, what);
        (folded, booted)
    }

    /// A fold that stops at a revision on the way: beyond the database, for a log leads only forward, and at one that is still there.
    fn early_stop_agrees(&self, dir: &Path, booted: &Booted) {
        let truth = &booted.answers.truth;
        let bytes = fs::read(db_of(dir)).unwrap();
        let db = Db::from_source(bytes.as_slice()).unwrap();
        let release: Release = release_of(self.version).parse().unwrap();
        let options = IndexOptions { release, ..IndexOptions::default() };
        let begun = Index::build(&db, &options, &()).unwrap().store().current_revision;
        let first = begun.max(truth.oldest);
        let Some(span) = u64::try_from(truth.revision - first).ok().filter(|span| *span > 0) else {
            return;
        };
        let at = first + 1 + i64::try_from(Rng::seeded_by(&self.label).below(span)).unwrap();
        let folded = Folded::made(self, dir, &["--to-revision", &at.to_string()]);
        self.key_space_agrees(&folded, truth, at, &format!("--to-revision {at}"));
        fs::remove_file(&folded.path).unwrap();
    }

    /// The folded file is a snapshot to etcd's own tools, and a cluster restored from it holds the same.
    fn restore_agrees(&self, folded: &Folded, booted: &Booted, scratch: &Path) {
        let restored = scratch.join("restored");
        let tools = Tools::find(self.version);
        let url = "http://localhost:2380";
        let cluster = format!("m1={url}");
        let args = ["snapshot", "restore", text(&folded.path), "--data-dir", text(&restored), "--name", "m1"];
        let members = ["--initial-cluster", &cluster, "--initial-advertise-peer-urls", url];
        let args = args.iter().chain(&members);
        let ran = if self.version == Version::V3_4 { tools.etcdctl(args) } else { tools.etcdutl(args) };
        ran.ok();
        let again = self.booted(&restored);
        // Its members are those of the new cluster; and 3.5.1 does not find leases with IDs below zero when it starts.
        let mut answers = Answers { members: booted.answers.members.clone(), ..again.answers };
        let mut before = booted.answers.clone();
        for answers in [&mut answers, &mut before] {
            answers.leases.retain(|id, _| *id > 0);
        }
        self.none(parting(&answers, &before), "restored from the folded file");
        fs::remove_dir_all(&restored).unwrap();
    }
}

/// The file is restored by etcd's tools in one of so many histories.
const RESTORED: u64 = 5;

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_what_is_folded_is_what_a_server_boots_to(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(0, 1)] share: u64,
) {
    for seed in seeds(share) {
        let scratch = tempfile::tempdir().unwrap();
        let history = History::made(version, seed, scratch.path());
        let dir = data_dir_in(scratch.path());
        let (folded, booted) = history.replay_agrees(&dir, "the db as the kill left it");
        if !history.killed.was_busy && !history.killed.is_two_minded {
            history.none(parting(&booted.answers, &history.live), "booted against live");
        }
        if seed % RESTORED == 0 {
            history.restore_agrees(&folded, &booted, scratch.path());
        }
        for early in &history.early {
            let name = early.file_stem().unwrap().to_str().unwrap();
            let dir = scratch.path().join(name);
            copied(&data_dir_in(scratch.path()), &dir);
            fs::copy(early, db_of(&dir)).unwrap();
            let (_, again) = history.replay_agrees(&dir, &format!("the {name} db"));
            if !history.killed.is_two_minded {
                history.none(parting(&again.answers, &booted.answers), "early against late");
            }
            history.early_stop_agrees(&dir, &again);
            fs::remove_dir_all(&dir).unwrap();
        }
    }
}
