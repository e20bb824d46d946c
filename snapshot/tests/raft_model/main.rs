//! The classification of entries held against a model of raft: members crash, restart, are parted and changed, messages are late,
//! lost and come twice; then some of the disks are judged, and the model goes on in many ways.
//!
//! *Certain* is never said of an entry that any of them loses, nor of one that a member could lose by winning an election
//! there and then; *not committed* is never said of one that was acknowledged. Whole suite: some seconds.

#![allow(clippy::unwrap_used, reason = "a test")]

mod hostile;
mod raft;
mod scripted;
mod testify;

use std::collections::BTreeMap;

use raft::World;
use snapshot::certainty::{Class, Judged, Judgement, Testimony, Why, judge};
use testify::testify;

/// How often each answer was given, and why.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, judgement: &Judgement, acknowledged: &[u64]) {
        for part in judgement.chain.iter().chain(&judgement.branches) {
            let name = match part.why {
                Why::Known(..) => "known",
                Why::Quorum => "quorum",
                Why::LoneVoter(_) => "lone voter",
                Why::Undecided => "undecided",
                Why::Passed => "passed",
                Why::Conflicts => "conflicts",
                Why::Lacked => "lacked",
                Why::Superseded => "superseded",
            };
            *self.0.entry(name).or_default() += part.last - part.first + 1;
            let was = part.class == Class::Possible && was_acknowledged(acknowledged, part);
            *self.0.entry("possible and acknowledged").or_default() += u64::from(was);
        }
        *self.0.entry("stale").or_default() += u64::from(!judgement.behind.is_empty());
    }
}

fn term_of(acknowledged: &[u64], index: u64) -> Option<u64> {
    acknowledged.get(usize::try_from(index - 1).unwrap()).copied()
}

/// Whether any entry of `part` was acknowledged.
fn was_acknowledged(acknowledged: &[u64], part: &Judged) -> bool {
    (part.first..=part.last).any(|index| term_of(acknowledged, index) == Some(part.term))
}

fn certain(judgement: &Judgement) -> impl Iterator<Item = &Judged> {
    judgement.chain.iter().chain(&judgement.branches).filter(|part| part.class == Class::Certain)
}

/// Holds a judgement against the world it was made in: now, and as it goes on.
fn hold(world: &World, judgement: &Judgement, what: &str) {
    assert!(judgement.conflicts.is_empty(), "{what}: {:?}", judgement.conflicts);
    let still = |world: &World, when: usize| {
        for part in certain(judgement) {
            for index in [part.first, part.last] {
                let lost = world.could_lose(index, part.term);
                assert_eq!(
                    lost, None,
                    "{what}: {part:?} is lost after {when} steps, when that member is elected"
                );
                let known = term_of(&world.committed, index);
                assert!(
                    known.is_none_or(|term| term == part.term),
                    "{what}: {part:?} is another entry after {when} steps: {known:?}"
                );
            }
        }
    };
    still(world, 0);
    for future in 0..2 {
        let mut world = world.clone();
        world.random.0 ^= 0x5bd1_e995 << future;
        if future == 1 {
            let ids: Vec<u64> = world.nodes.keys().copied().collect();
            for id in ids {
                world.nodes.get_mut(&id).unwrap().is_up = false;
                world.restart(id);
            }
        }
        for step in 1..=60 {
            world.step();
            if step % 6 == 0 {
                still(&world, step);
            }
        }
    }
}

/// Nothing that was acknowledged is said not to be committed.
fn hold_acknowledged(world: &World, judgement: &Judgement, what: &str) {
    for part in judgement.chain.iter().chain(&judgement.branches) {
        let wrong = part.class == Class::NotCommitted && was_acknowledged(&world.committed, part);
        assert!(!wrong, "{what}: {part:?} was acknowledged");
    }
}

/// The chain is one history, and has what was acknowledged and is in a log that was read.
fn hold_chain(world: &World, testimonies: &[Testimony], judgement: &Judgement, what: &str) {
    let ends = judgement.chain.windows(2);
    for pair in ends {
        assert!(pair[0].last < pair[1].first, "{what}: {pair:?}");
        assert!(pair[0].class <= pair[1].class, "{what}: {pair:?}");
    }
    assert!(judgement.chain.iter().all(|part| part.class != Class::NotCommitted), "{what}");
    if !judgement.has_quorum {
        return;
    }
    // What the best log no longer has is in the database beside it.
    let base = testimonies.iter().map(|testimony| testimony.base.index).max().unwrap_or_default();
    for stretch in testimonies.iter().flat_map(|testimony| &testimony.stretches) {
        for index in stretch.first.max(base + 1)..=stretch.last {
            if term_of(&world.committed, index) != Some(stretch.term) {
                continue;
            }
            let has = |part: &Judged| (part.first..=part.last).contains(&index) && part.term == stretch.term;
            assert!(
                judgement.chain.iter().any(has),
                "{what}: entry {index} of term {} was acknowledged and is held, but not in the chain: {judgement:#?}",
                stretch.term
            );
        }
    }
}

fn run(seeds: std::ops::Range<u64>, changes: usize) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let voters = [3, 3, 5, 1, 2, 4][usize::try_from(seed % 6).unwrap()];
        let mut world = World::new(voters, seed * 7919 + 1, changes);
        for round in 0..4 {
            let steps = 20 + world.random.below(120);
            for _ in 0..steps {
                world.step();
            }
            let what = format!("seed {seed}, round {round}");
            let mut choose = world.random.clone();
            let kept: Vec<u64> = world.nodes.keys().copied().filter(|_| !choose.one_in(3)).collect();
            let now: Vec<Testimony> =
                kept.iter().map(|id| testify(*id, &world.nodes[id].disk, &world.founders, false)).collect();
            let judgement = judge(&now);
            assert!(judgement.behind.is_empty(), "{what}: {now:#?}");
            hold(&world, &judgement, &what);
            hold_acknowledged(&world, &judgement, &what);
            hold_chain(&world, &now, &judgement, &what);
            tally.count(&judgement, &world.committed);

            // Some logs have lost their ends, and it shows.
            let cut = |id: &u64, choose: &mut raft::Random, shows: bool| {
                let node = &world.nodes[id];
                if node.past.is_empty() || choose.one_in(2) {
                    return testify(*id, &node.disk, &world.founders, false);
                }
                let (disk, is_torn) = &node.past[node.past.len() - 1 - choose.below(node.past.len().min(20))];
                testify(*id, disk, &world.founders, shows || *is_torn)
            };
            let torn: Vec<Testimony> = kept.iter().map(|id| cut(id, &mut choose, true)).collect();
            let judgement = judge(&torn);
            hold(&world, &judgement, &format!("{what}, cut"));
            hold_acknowledged(&world, &judgement, &format!("{what}, cut"));
            tally.count(&judgement, &world.committed);

            // Some are older copies, and nothing shows it: what is certain is so all the same.
            let old: Vec<Testimony> = kept.iter().map(|id| cut(id, &mut choose, false)).collect();
            let judgement = judge(&old);
            hold(&world, &judgement, &format!("{what}, old copies"));
            tally.count(&judgement, &world.committed);
        }
    }
    tally
}

#[test]
fn nothing_certain_is_lost_and_nothing_acknowledged_is_denied() {
    let tally = run(0..3000, 0);
    for answer in ["known", "quorum", "lone voter", "undecided", "conflicts", "lacked", "superseded", "stale"]
    {
        assert!(tally.0.get(answer).is_some_and(|count| *count > 100), "{answer}: {tally:?}");
    }
    assert!(tally.0["possible and acknowledged"] > 100, "{tally:?}");
}

#[test]
fn nor_while_members_come_and_go() {
    let tally = run(0..3000, 4);
    for answer in ["known", "quorum", "lone voter", "undecided", "conflicts", "lacked", "superseded", "stale"]
    {
        assert!(tally.0.get(answer).is_some_and(|count| *count > 100), "{answer}: {tally:?}");
    }
}
