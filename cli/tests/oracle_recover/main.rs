//! Three real members are killed in every order and at every moment while clients write and keep a list of what was
//! acknowledged. What is recovered from one to three of their dirs is held against that list and against what the same cluster
//! makes of its own files when it is started again. About 60 s for each version on two cores.
//!
//! `ETCD_RESCUE_SOAK=1` makes it ten clusters of each version; `ETCD_RESCUE_SEED=N` is one cluster alone, with this seed: what
//! is done to it is the same again, though not at the same moment. `ETCD_RESCUE_KEEP=DIR` keeps the files of a failure there.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod kept;
mod parted;
mod real;
mod records;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod told;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use kept::{Kept, Shape, copied, db_of};
use real::{Real, retried};
use records::{Records, hash_at};
use rstest::rstest;
use scene::Scene;
use serde_json::json;
use support::Plan;
use testdata::base64;
use testdata::damage::Rng;
use testdata::oracle::{Gateway, Launch, Tools, Trio, Version, drawn_flags};
use told::{Comparison, Recovery};

/// Rounds of load and kills that one cluster goes through.
const KILLS: usize = 20;
const CLUSTERS_OF_A_SOAK: u64 = 10;

fn seeds() -> Range<u64> {
    if let Ok(seed) = env::var("ETCD_RESCUE_SEED") {
        let seed = seed.parse().unwrap();
        return seed..seed + 1;
    }
    0..if env::var_os("ETCD_RESCUE_SOAK").is_some() { CLUSTERS_OF_A_SOAK } else { 1 }
}

/// One cluster, and what was seen of it.
struct Rig {
    version: Version,
    rng: Rng,
    scratch: tempfile::TempDir,
    trio: Trio,
    /// A copy of each member's database from an earlier round.
    older: [Option<PathBuf>; 3],
    tally: BTreeMap<&'static str, usize>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(dir) = env::var_os("ETCD_RESCUE_KEEP")
        {
            copied(self.scratch.path(), Path::new(&dir));
        }
    }
}

impl Rig {
    fn new(version: Version, seed: u64) -> Self {
        let mut rng = Rng::seeded_by(&format!("kills {version:?} {seed}"));
        let scratch = tempfile::tempdir().unwrap();
        let trio = Trio::start(version, scratch.path(), &drawn_flags(&mut rng));
        Self { version, rng, scratch, trio, older: [None, None, None], tally: BTreeMap::new() }
    }

    fn count(&mut self, what: &'static str, how_many: usize) {
        *self.tally.entry(what).or_default() += how_many;
    }

    /// What is kept of a round: one to three members, in any order, one of them damaged now and then.
    fn keep(&mut self, dir: &Path) -> Vec<Kept> {
        let mut members = vec![0, 1, 2];
        for at in (1..3).rev() {
            members.swap(at, *self.rng.pick(&(0..=at).collect::<Vec<_>>()));
        }
        members.truncate(*self.rng.pick(&[1, 2, 2, 3, 3]));
        let odd = members[0];
        let shape = match self.rng.below(12) {
            0 => Shape::Cut,
            1 => Shape::Torn,
            2 => Shape::Bit,
            3 => self.older[odd].clone().map_or(Shape::Whole, Shape::OlderDb),
            4 => Shape::DbAlone,
            _ => Shape::Whole,
        };
        members.sort_by_key(|_| self.rng.next_u64());
        let mut kept = Vec::new();
        for member in members {
            let shape = if member == odd { shape.clone() } else { Shape::Whole };
            let from = self.trio.members()[member].data_dir().to_owned();
            kept.push(Kept::made(member, shape, &from, &dir.join(format!("n{}", member + 1)), &mut self.rng));
        }
        kept
    }

    fn round(&mut self, name: &str, seed: u64) {
        let round = self.trio.loaded_and_killed(name, &mut self.rng);
        let dir = self.scratch.path().join(name);
        fs::create_dir(&dir).unwrap();
        let kept = self.keep(&dir);
        for member in 0..3 {
            let older = self.scratch.path().join(format!("older-{member}.db"));
            if self.rng.below(2) == 0 {
                fs::copy(db_of(self.trio.members()[member].data_dir()), &older).unwrap();
                self.older[member] = Some(older);
            }
        }
        // Two of three are a cluster as well.
        let mut up = vec![0, 1, 2];
        if self.rng.below(3) == 0 {
            up.remove(*self.rng.pick(&[0, 1, 2]));
        }
        self.trio.spawn_again(&up, &drawn_flags(&mut self.rng));
        let label = format!("{:?}, seed {seed}, {name}", self.version);
        let scene = Scene { round: &round, kept: &kept, label };
        let comparison = Comparison::of(&scene.inputs());
        let mut real = Real::settled(&mut self.trio, &up, name);
        let lost = round.acknowledged.iter().find(|write| !real.tags.contains_key(&write.tag));
        scene.holds(lost.is_none(), || format!("the cluster itself lost {lost:?}"));
        self.count("acknowledged", round.acknowledged.len());

        scene.classes_are_right(&comparison, &real);
        for one in comparison.all() {
            let what = ["certain", "possible", "not-committed"]
                .into_iter()
                .find(|class| *class == one.class)
                .unwrap();
            self.count(what, usize::try_from(one.last + 1 - one.first).unwrap());
        }
        self.recovered(&scene, &comparison, &mut real, &dir);
        self.rejoin(&scene, &up, &mut real);
        fs::remove_dir_all(&dir).unwrap();
    }

    fn recovered(&mut self, scene: &Scene<'_>, comparison: &Comparison, real: &mut Real, dir: &Path) {
        let inputs = scene.inputs();
        let plan = Plan::new(*self.rng.pick(&[1, 1, 1, 3]));
        let cluster = plan.initial_cluster();
        let output = dir.join("recovered");
        let starts = self.starting_version();
        let target = ["--target-version", starts.minor()];
        let recovery = Recovery::of(&inputs, &output, &cluster, &target);
        let lies =
            |kept: &Kept| self.version == Version::V3_5_1 && kept.lies(&scene.round.acknowledged, &real.tags);
        let is_told_lies = scene.kept.iter().any(lies);
        scene.holds(is_told_lies || matches!(recovery.code, 0 | 3), || format!("{:?}", recovery.run));
        if is_told_lies {
            self.count("databases that lie", 1);
        } else {
            let db = db_of(&output.join("m1"));
            scene.nothing_is_lost(&recovery, &db);
            scene.doubts_are_listed(&recovery, comparison);
            self.certain_part_is_the_clusters(scene, real, &db, dir);
        }
        if recovery.code != 4 {
            serves(scene, &recovery, starts, &plan, &output);
        }
    }

    /// The version that starts what is recovered: the same, or now and then a later one.
    fn starting_version(&mut self) -> Version {
        let others: Vec<Version> = Version::ALL.into_iter().filter(|other| *other >= self.version).collect();
        if self.rng.below(3) == 0 { *self.rng.pick(&others) } else { self.version }
    }

    /// Up to the last certain entry the result's history is that of the cluster, to the hash; and that is what
    /// `--certain-only` ends with.
    fn certain_part_is_the_clusters(&mut self, scene: &Scene<'_>, real: &mut Real, db: &Path, dir: &Path) {
        let output = dir.join("certain");
        let is_dry = self.rng.below(3) > 0;
        let more: &[&str] = if is_dry { &["--certain-only", "--dry-run"] } else { &["--certain-only"] };
        let certain = Recovery::of(&scene.inputs(), &output, &Plan::new(1).initial_cluster(), more);
        scene.holds(matches!(certain.code, 0 | 3), || format!("{:?}", certain.run));
        let (revision, release) = (certain.revision(), Tools::find(self.version).release());
        let to = certain.number("certainTo");
        let is_without = certain.possible().iter().all(|index| *index > to);
        scene.holds(certain.number("appliedTo") == to && is_without, || format!("{:?}", certain.run));
        let theirs = real.hash_at(0, revision);
        let ours = hash_at(db, revision, &release);
        scene.holds(ours == theirs, || {
            format!("hash at {revision} {ours:x}, not {theirs:x}\n{:?}", certain.run)
        });
        if !is_dry {
            let db = db_of(&output.join("m1"));
            let (ours, last) = (hash_at(&db, revision, &release), Records::of(&db).revision());
            scene.holds(ours == theirs && last == revision, || {
                format!("{ours:x} at {last}\n{:?}", certain.run)
            });
        }
    }

    /// Members that hold different data, as 3.5.0 to 3.5.2 may leave them: where they part is found.
    fn parting_is_found(&mut self, scene: &Scene<'_>) {
        self.trio.stop();
        let dirs: Vec<PathBuf> =
            self.trio.members().iter().map(|member| member.data_dir().to_owned()).collect();
        let records: Vec<Records> = dirs.iter().map(|dir| Records::of(&db_of(dir))).collect();
        let expected = Records::parting(&records);
        let comparison = Comparison::of(&dirs.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        scene.holds(!comparison.agree && comparison.first_revision == expected, || {
            format!("parting at {expected:?}, told {:?}\n{:?}", comparison.first_revision, comparison.run)
        });
    }

    /// All members run again and agree on all they hold; where those of 3.5.1 do not, they are dropped.
    fn rejoin(&mut self, scene: &Scene<'_>, up: &[usize], real: &mut Real) {
        let down: Vec<usize> = (0..3).filter(|at| !up.contains(at)).collect();
        self.trio.spawn_again(&down, &drawn_flags(&mut self.rng));
        drop(self.trio.ready(&down));
        let mut hashes = real.hashes();
        for member in down {
            let mut gateway = Gateway::to(&self.trio.members()[member]);
            hashes.push(retried("hashkv", || Some(gateway.attempt_hashkv(real.revision).ok()?.ok()?.hash)));
        }
        if hashes.iter().any(|hash| *hash != hashes[0]) {
            scene.holds(self.version == Version::V3_5_1, || format!("the members disagree: {hashes:x?}"));
            self.parting_is_found(scene);
            self.count("clusters that parted", 1);
            let number = self.tally["clusters that parted"];
            let dir = self.scratch.path().join(format!("again-{number}"));
            fs::create_dir(&dir).unwrap();
            self.trio = Trio::start(self.version, &dir, &drawn_flags(&mut self.rng));
            self.older = [None, None, None];
        }
    }
}

/// The new cluster starts, serves what was recovered, and takes writes.
fn serves(scene: &Scene<'_>, recovery: &Recovery, version: Version, plan: &Plan, output: &Path) {
    let launches = plan.members.iter().map(|(name, url)| {
        let flags = ["--heartbeat-interval=10", "--election-timeout=100"];
        Launch::new(version, &output.join(name), name).peer_url(url).args(flags)
    });
    let mut servers: Vec<_> = launches.map(Launch::spawn).collect();
    let mut gateways: Vec<Gateway> = servers.iter_mut().map(Gateway::ready).collect();
    let (key, value) = (base64::encode(b"after"), base64::encode(b"recovery"));
    let revision = retried("a put", || {
        let answer = gateways[0].attempt("/v3/kv/put", &json!({ "key": key, "value": value })).ok()?.ok()?;
        answer["header"]["revision"].as_str()?.parse::<i64>().ok()
    });
    scene.holds(revision == recovery.revision() + 1, || {
        format!("the put made {revision}\n{:?}", recovery.run)
    });
    let last = gateways.last_mut().unwrap();
    let found = retried("a get", || last.attempt("/v3/kv/range", &json!({ "key": key })).ok()?.ok());
    scene.holds(found["kvs"][0]["value"] == json!(value), || format!("{found}\n{:?}", recovery.run));
    for server in &mut servers {
        server.kill();
    }
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_what_is_recovered_lacks_nothing_that_was_acknowledged_and_kept(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    for seed in seeds() {
        let mut rig = Rig::new(version, seed);
        for round in 0..KILLS {
            rig.round(&format!("r{round}"), seed);
        }
        let certain = rig.tally.get("certain").copied().unwrap_or(0);
        assert!(certain > 1000 && rig.tally["acknowledged"] > 500, "{:?}", rig.tally);
        #[allow(clippy::print_stderr, reason = "what a soak shows of its clusters")]
        {
            eprintln!("{version:?}, seed {seed}: {:?}", rig.tally);
        }
    }
}
