//! The damage laboratory: databases of known content are damaged in every way of its table, singly and in pairs, and salvaged. What
//! comes of it is held against what the ledger says is left (`testdata::laboratory`), and served by real servers.
//! About 15 s for each database on two cores.
//!
//! `ETCD_RESCUE_SOAK=1` does each damage a hundred times, and all pairs on each database, and prints the table of `docs/salvage.md`;
//! `ETCD_RESCUE_BLESS=1` writes it there too, and `ETCD_RESCUE_SHARE=N` does so many percent of that.
//! `ETCD_RESCUE_ONLY="NAME"` or `"NAME NAME"` does one damage or pair alone, `ETCD_RESCUE_SEED=N` with another seed, and
//! `ETCD_RESCUE_KEEP=DIR` keeps the files of what failed.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod bench;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod told;
mod trial;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use bench::Bench;
use generate::Preset;
use rstest::rstest;
use testdata::damage::Rng;
use testdata::laboratory::{DAMAGES, Damage, Fill, What, Which};
use testdata::oracle::Version;

use table::Table;
use trial::{Help, How, Tally, Trial};

/// The databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Served(Version),
    WithAFreelist,
    Compacted,
    Dense,
    LargePages,
}

/// How many there are.
const KINDS: usize = 7;

impl Kind {
    fn bench(self, seed: u64, scratch: &Path) -> Bench {
        match self {
            Self::Served(version) => Bench::served(version, seed, scratch),
            Self::WithAFreelist => Bench::with_a_freelist(seed, scratch),
            Self::Compacted => Bench::generated("generated, compacted", Preset::Frag, 4096, seed, scratch),
            Self::Dense => Bench::generated("generated, dense", Preset::Flat, 4096, seed, scratch),
            Self::LargePages => {
                Bench::generated("generated, 16 KiB pages", Preset::Frag, 16_384, seed, scratch)
            }
        }
    }
}

fn is_soak() -> bool {
    env::var_os("ETCD_RESCUE_SOAK").is_some()
}

/// The seed asked for.
fn given_seed() -> Option<u64> {
    env::var("ETCD_RESCUE_SEED").ok().map(|seed| seed.parse().unwrap())
}

/// The one damage, or the two, asked for.
fn given_damages() -> Option<Vec<&'static Damage>> {
    let names = env::var("ETCD_RESCUE_ONLY").ok()?;
    Some(names.split_whitespace().map(Damage::named).collect())
}

/// All pairs of damages, each in the order of the table.
fn pairs() -> Vec<Vec<&'static Damage>> {
    let one_of =
        |(at, one): (usize, &'static Damage)| DAMAGES[at + 1..].iter().map(move |other| vec![one, other]);
    DAMAGES.iter().enumerate().flat_map(one_of).collect()
}

/// Some of `from`, by the dice.
fn some<T>(mut from: Vec<T>, count: usize, dice: &mut Rng) -> Vec<T> {
    while from.len() > count {
        let at = usize::try_from(dice.below(from.len() as u64)).unwrap();
        from.swap_remove(at);
    }
    from
}

/// Pairs that the gate tries of each database.
const PAIRS_OF_A_GATE: usize = 6;
/// Rounds of each damage alone that a soak does at least, where the dice make a difference.
const ROUNDS_OF_A_SOAK: u64 = 100;
/// Trials with the log of each database, and as many with each other help: of the gate, and of a soak.
const HELPED: [usize; 2] = [3, 120];
/// One of so many trials is done by the program, and one of three of those results started by a real server: in the gate, and in
/// a soak.
const ONE_WRITTEN_OF: [usize; 2] = [8, 12];
const ONE_SERVED_OF: usize = 3;

/// How much of a soak is done, in percent.
fn share_of_a_soak() -> u64 {
    env::var("ETCD_RESCUE_SHARE").map_or(100, |share| share.parse().unwrap())
}

/// With how many seeds a soak does a damage to each database.
fn rounds_of_a_soak(damage: &Damage) -> u64 {
    let databases = match damage.what {
        // What does not depend on the dice.
        What::CopiedWhileWritten
        | What::YoungMetas
        | What::StartZeroed
        | What::StartCutOff
        | What::Metas(_, Fill::Zeros)
        | What::Lost(Which::RootBucket | Which::RootOfKey | Which::Freelist, _, Fill::Zeros) => return 1,
        What::TornCommit => 3,
        What::Lost(Which::Freelist, ..) => 4,
        _ => KINDS as u64,
    };
    (ROUNDS_OF_A_SOAK * share_of_a_soak()).div_ceil(databases * 100)
}

/// What is tried of one database: damages and seeds.
struct Plan {
    unhelped: Vec<(Vec<&'static Damage>, u64)>,
    helped: Vec<(Vec<&'static Damage>, u64)>,
    one_written_of: usize,
}

impl Plan {
    fn drawn(seed: u64, dice: &mut Rng) -> Self {
        if let Some(damages) = given_damages() {
            let one = vec![(damages, seed)];
            return Self { unhelped: one.clone(), helped: one, one_written_of: 1 };
        }
        let which = usize::from(is_soak());
        let rounds = |damage| if is_soak() { rounds_of_a_soak(damage) } else { 1 };
        let singles = DAMAGES
            .iter()
            .flat_map(|damage| (seed..seed + rounds(damage)).map(move |seed| (vec![damage], seed)));
        let of_a_soak = |count: usize| count * usize::try_from(share_of_a_soak()).unwrap() / 100;
        let most = if is_soak() { of_a_soak(pairs().len()) } else { PAIRS_OF_A_GATE };
        let pairs = some(pairs(), most, dice);
        let unhelped: Vec<_> = singles.chain(pairs.into_iter().map(|pair| (pair, seed))).collect();
        Self {
            helped: some(unhelped.clone(), if is_soak() { of_a_soak(HELPED[1]) } else { HELPED[0] }, dice),
            unhelped,
            one_written_of: ONE_WRITTEN_OF[which],
        }
    }
}

/// Where the files of a trial lie; they are kept where that was asked for and something failed.
struct Scratch(tempfile::TempDir);

impl Drop for Scratch {
    fn drop(&mut self) {
        if (std::thread::panicking() || given_damages().is_some())
            && let Some(dir) = env::var_os("ETCD_RESCUE_KEEP")
        {
            fs::create_dir_all(&dir).unwrap();
            for entry in fs::read_dir(self.0.path()).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), Path::new(&dir).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// What the trials of one database came to, and what in them was not as it has to be.
fn tried(bench: &Bench, seed: u64) -> (Table, Vec<String>) {
    let mut dice = Rng::seeded_by(&format!("laboratory {} {seed}", bench.name()));
    let plan = Plan::drawn(seed, &mut dice);
    let scratch = Scratch(tempfile::tempdir().unwrap());
    let (dir, mut table, mut count) = (scratch.0.path(), Table::default(), 0);
    let failures: RefCell<Vec<String>> = RefCell::default();
    let is_strict = is_soak() || given_damages().is_some();
    let mut how = || {
        count += 1;
        match count {
            count if count % plan.one_written_of > 0 => How::Planned,
            count if count % (plan.one_written_of * ONE_SERVED_OF) > 0 => How::Written,
            _ => How::Served,
        }
    };
    for (damages, seed) in plan.unhelped {
        let trial = Trial { bench, damages, seed, is_strict, failures: &failures };
        let Some(tally) = trial.salvaged(Help::Nothing, how(), dir) else { continue };
        let tallies = if trial.damages.len() == 1 { &mut table.alone } else { &mut table.paired };
        for damage in &trial.damages {
            tallies.entry(damage.name).or_default().add(tally);
        }
    }
    for (damages, seed) in plan.helped {
        let trial = Trial { bench, damages, seed, is_strict, failures: &failures };
        for (help, total) in [(Help::Map, &mut table.with_map), (Help::OlderFile, &mut table.with_older)] {
            total.add(trial.salvaged(help, how(), dir).unwrap_or_default());
        }
        if let Some((is_covered, tally)) = trial.with_log(how(), dir) {
            (if is_covered { &mut table.with_log } else { &mut table.with_part_of_log }).add(tally);
        }
    }
    // Wherever the pages lie, most of what is left is recovered.
    let all = table.alone.values().chain(table.paired.values()).fold(Tally::default(), |mut all, tally| {
        all.add(*tally);
        all
    });
    if given_damages().is_none() && all.missed() > all.there / 50 {
        failures.borrow_mut().push(format!("{}: not nearly all: {all:?}", bench.name()));
    }
    (table, failures.into_inner())
}

static TABLES: Mutex<BTreeMap<Kind, Table>> = Mutex::new(BTreeMap::new());

/// Each database that is done has the table of all that are published.
fn publish(kind: Kind, table: Table) {
    let mut tables = TABLES.lock().unwrap();
    tables.insert(kind, table);
    if is_soak() && given_damages().is_none() {
        let mut all = Table::default();
        tables.values().for_each(|table| all.add(table));
        all.publish();
    }
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_what_is_left_is_salvaged(
    #[values(
        Kind::Served(Version::V3_4),
        Kind::Served(Version::V3_5_1),
        Kind::Served(Version::V3_5New),
        Kind::WithAFreelist,
        Kind::Compacted,
        Kind::Dense,
        Kind::LargePages
    )]
    kind: Kind,
) {
    let seed = given_seed().unwrap_or(1);
    let scratch = tempfile::tempdir().unwrap();
    let bench = kind.bench(seed, scratch.path());
    let (table, failures) = tried(&bench, seed);
    publish(kind, table);
    assert!(failures.is_empty(), "{} of them:\n{}", failures.len(), failures.join("\n"));
}
