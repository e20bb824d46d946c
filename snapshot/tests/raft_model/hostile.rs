//! Testimonies that no raft ever gave: nothing panics or goes on for ever, and the answer keeps its form.

use std::collections::BTreeSet;

use snapshot::certainty::{Config, Known, Point, Source, Stretch, Testimony, judge};
use snapshot::force_new::traces::Trace;

use crate::raft::Random;

fn number(random: &mut Random) -> u64 {
    match random.below(12) {
        0 => u64::MAX - u64::try_from(random.below(3)).unwrap(),
        1 => random.next(),
        _ => u64::try_from(random.below(12)).unwrap(),
    }
}

fn trace(random: &mut Random) -> Trace {
    let (first, last, term) = (number(random), number(random), number(random));
    Trace { first, last, term, removed: vec![number(random)] }
}

fn testimony(random: &mut Random) -> Testimony {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut next = number(random);
    for _ in 0..random.below(9) {
        let last = next.saturating_add(number(random));
        let (term, mark) = (number(random), u32::try_from(random.below(2)).unwrap());
        stretches.push(Stretch { first: next, last, term, mark, follows: random.one_in(2) });
        let Some(after) = last.checked_add(1) else { break };
        next = after.saturating_add(if random.one_in(3) { number(random) } else { 0 });
    }
    let term = |random: &mut Random| (!random.one_in(4)).then_some(number(random));
    let known =
        |random: &mut Random| Known { index: number(random), term: term(random), source: Source::Commit };
    let mut configs: Vec<(u64, Config)> = (0..random.below(4))
        .map(|_| {
            let voters: BTreeSet<u64> = (0..random.below(4)).map(|_| number(random)).collect();
            (number(random), Config { voters, learners: BTreeSet::new() })
        })
        .collect();
    configs.sort_by_key(|(made, _)| *made);
    Testimony {
        member_id: (!random.one_in(8)).then_some(number(random)),
        term: number(random),
        base: Point { index: number(random), term: term(random) },
        stretches,
        settled_to: number(random),
        committed: (0..random.below(4)).map(|_| known(random)).collect(),
        may_lack_its_end: random.one_in(3),
        configs,
        forced: (0..random.below(2)).map(|_| trace(random)).collect(),
    }
}

#[test]
fn nonsense_is_judged_all_the_same() {
    let mut listed = 0;
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let testimonies: Vec<Testimony> = (0..random.below(6)).map(|_| testimony(&mut random)).collect();
        let judgement = judge(&testimonies);
        for part in judgement.chain.iter().chain(&judgement.branches) {
            assert!(part.first <= part.last && !part.holders.is_empty(), "seed {seed}: {part:?}");
            for holder in &part.holders {
                for end in [part.first, part.last] {
                    let holds =
                        |one: &Stretch| one.term == part.term && (one.first..=one.last).contains(&end);
                    assert!(testimonies[*holder].stretches.iter().any(holds), "seed {seed}: {part:?}");
                }
            }
            listed += 1;
        }
        for pair in judgement.chain.windows(2) {
            assert!(pair[0].last < pair[1].first, "seed {seed}: {pair:?}");
        }
    }
    assert!(listed > 20_000, "{listed}");
}

/// Two logs of entries whose terms go up and down, and a third of one term: as many runs as a log may have.
#[test]
fn many_runs_are_judged_in_time() {
    const RUNS: u64 = 262_144;
    let log = |member: u64, marked: bool, commit: u64, terms: &dyn Fn(u64) -> u64| {
        let stretch = |index: u64| Stretch {
            first: index,
            last: index,
            term: terms(index),
            mark: u32::from(marked && index > 1) * u32::try_from(member).unwrap(),
            follows: true,
        };
        let voters: BTreeSet<u64> = (1..=3).collect();
        Testimony {
            member_id: Some(member),
            term: RUNS,
            base: Point { index: 0, term: Some(0) },
            stretches: (1..=RUNS).map(stretch).collect(),
            settled_to: RUNS,
            committed: vec![Known { index: commit, term: Some(terms(commit)), source: Source::Commit }],
            may_lack_its_end: false,
            configs: vec![(0, Config { voters, learners: BTreeSet::new() })],
            forced: (1..4096)
                .map(|index| Trace { first: index * 64, last: index * 64, term: 1, removed: vec![3] })
                .collect(),
        }
    };
    let up = |index: u64| index;
    let paired = |index: u64| index + 2 * (index % 2);
    let back = |index: u64| if index.is_multiple_of(2) { index } else { 1 };
    for (marked, other) in [(false, &up as &dyn Fn(u64) -> u64), (true, &up), (false, &back), (true, &paired)]
    {
        for commit in [1, RUNS - 200] {
            let start = std::time::Instant::now();
            let third = Testimony { forced: Vec::new(), ..log(3, false, 1, &|_| 7) };
            _ = judge(&[log(1, marked, commit, &up), log(2, marked, 1, other), third]);
            let seconds = start.elapsed().as_secs();
            assert!(seconds < 30, "commit {commit}, marked {marked}: {seconds} s");
        }
    }
}
