//! Cases told by hand: figure 8 of the raft paper, and what the model does not do.

use std::collections::BTreeSet;

use snapshot::certainty::{
    Class, Config, Judgement, Known, Parting, Point, Source, Stretch, Testimony, Why, judge,
};
use snapshot::force_new::traces::Trace;

/// A whole log of member `id`, which has been in `term`: `(first, last, term)` of each stretch behind `base`.
fn member(id: u64, term: u64, base: Point, stretches: &[(u64, u64, u64)]) -> Testimony {
    let stretches: Vec<Stretch> = stretches
        .iter()
        .map(|(first, last, term)| Stretch {
            first: *first,
            last: *last,
            term: *term,
            mark: 0,
            follows: base.term.is_some(),
        })
        .collect();
    Testimony {
        member_id: Some(id),
        term,
        base,
        settled_to: stretches.last().map_or(0, |stretch| stretch.last),
        stretches,
        committed: vec![Known { index: 1, term: Some(1), source: Source::Commit }],
        may_lack_its_end: false,
        configs: vec![(0, voters(1..=5))],
        forced: Vec::new(),
    }
}

const BEGIN: Point = Point { index: 0, term: Some(0) };

fn voters(ids: std::ops::RangeInclusive<u64>) -> Config {
    Config { voters: ids.collect(), learners: BTreeSet::new() }
}

fn classes(judgement: &Judgement, index: u64) -> Vec<(u64, Class, Why)> {
    let all = judgement.chain.iter().chain(&judgement.branches);
    let at = all.filter(|part| (part.first..=part.last).contains(&index));
    at.map(|part| (part.term, part.class, part.why)).collect()
}

/// Figure 8, (c) to (e). In (c) the entry of term 2 is on a majority, and S5 can still be elected and overwrite it.
#[test]
fn figure_8() {
    let one = member(1, 4, BEGIN, &[(1, 1, 1), (2, 2, 2), (3, 3, 4)]);
    let five = member(5, 3, BEGIN, &[(1, 1, 1), (2, 2, 3)]);
    let with = |id, stretches: &[(u64, u64, u64)]| member(id, 4, BEGIN, stretches);
    let four = with(4, &[(1, 1, 1)]);
    let two = with(2, &[(1, 1, 1), (2, 2, 2)]);
    let three = with(3, &[(1, 1, 1), (2, 2, 2)]);
    let c = judge(&[one.clone(), two.clone(), three.clone(), four.clone(), five.clone()]);
    assert_eq!(c.certain_to, Point { index: 1, term: Some(1) });
    // Whoever had committed one of them since would be a leader of term 5, or that of term 4, whose own entry S1 alone has.
    assert_eq!(
        classes(&c, 2),
        [(2, Class::NotCommitted, Why::Superseded), (3, Class::NotCommitted, Why::Lacked)]
    );
    assert_eq!(classes(&c, 3), [(4, Class::NotCommitted, Why::Superseded)]);
    // Without S4 and S5 nobody knows that there is another, and without S4 one of them may have had what S1 has.
    let c = judge(&[one.clone(), two.clone(), three.clone()]);
    assert_eq!(classes(&c, 2), [(2, Class::Possible, Why::Undecided)]);
    assert_eq!(classes(&c, 3), [(4, Class::Possible, Why::Undecided)]);

    // (e): the leader of term 4 has an entry of its own on a majority.
    let two = with(2, &[(1, 1, 1), (2, 2, 2), (3, 3, 4)]);
    let three = with(3, &[(1, 1, 1), (2, 2, 2), (3, 3, 4)]);
    let e = judge(&[one.clone(), two.clone(), three.clone(), four, five.clone()]);
    assert_eq!(e.certain_to, Point { index: 3, term: Some(4) });
    assert_eq!(classes(&e, 2), [(2, Class::Certain, Why::Quorum), (3, Class::NotCommitted, Why::Conflicts)]);

    // The same, had one of the three voted in term 5 since: it may have got the entry from a leader of that term.
    let three = Testimony { term: 5, ..three };
    let e = judge(&[one, two, three, five]);
    assert_eq!(e.certain_to.index, 1);
}

/// Members whose logs begin at different places, behind snapshots of theirs.
#[test]
fn logs_that_begin_later() {
    let base = Point { index: 50, term: Some(2) };
    let mut late = member(1, 3, base, &[(51, 60, 3)]);
    late.committed = vec![Known { index: 50, term: Some(2), source: Source::Snapshot }];
    let early = member(2, 3, BEGIN, &[(1, 20, 1), (21, 50, 2), (51, 58, 3)]);
    // Its log begins somewhere in the term, and it does not say behind what.
    let short = member(3, 3, Point { index: 54, term: None }, &[(55, 60, 3)]);
    let judgement = judge(&[late, early, short]);
    // Three of the five have it up to there.
    assert_eq!(judgement.certain_to, Point { index: 58, term: Some(3) }, "{judgement:#?}");
    assert_eq!(judgement.chain.first().unwrap().first, 1);
    assert!(judgement.branches.is_empty() && judgement.conflicts.is_empty());
}

/// A database of 3.4 without its log knows an index and no term: it proves nothing of which entry stands there.
#[test]
fn an_index_without_a_term_decides_nothing() {
    let mut bare = member(1, 0, Point { index: 70, term: None }, &[]);
    bare.member_id = None;
    bare.may_lack_its_end = true;
    bare.configs.clear();
    bare.committed = vec![Known { index: 70, term: None, source: Source::ConsistentIndex }];
    let log = member(2, 3, BEGIN, &[(1, 60, 1), (61, 80, 2)]);
    let judgement = judge(&[bare, log]);
    assert_eq!((judgement.certain_to.index, judgement.known_to), (1, 70));
    assert!(classes(&judgement, 65).iter().all(|(_, class, _)| *class == Class::Possible));
}

/// A change of members in the tail: a majority of the three is none of the four that they may be by now.
#[test]
fn a_change_that_may_be_applied_needs_both_majorities() {
    let of = |id, last| {
        let mut one = member(id, 2, BEGIN, &[(1, 10, 1), (11, last, 2)]);
        one.configs = vec![(0, voters(1..=3)), (12, voters(1..=4))];
        one
    };
    let two = judge(&[of(1, 14), of(2, 14)]);
    assert_eq!(two.certain_to.index, 12, "up to the change itself the three decide: {two:#?}");
    assert_eq!(classes(&two, 13), [(2, Class::Possible, Why::Undecided)]);
    let three = judge(&[of(1, 14), of(2, 14), of(4, 13)]);
    assert_eq!(three.certain_to.index, 13);
    // A learner is no voter.
    let learns = |one: Testimony| Testimony {
        configs: vec![(0, Config { voters: (1..=3).collect(), learners: BTreeSet::from([4]) })],
        ..one
    };
    let learner = judge(&[learns(of(1, 14)), learns(of(4, 14))]);
    assert_eq!((learner.certain_to.index, learner.has_quorum), (1, false));
}

/// Two that lack what a third knows to be committed: one of the two is an old copy, and nothing is denied any more.
#[test]
fn old_copies_take_nothing_away() {
    let of = |id, last, commit| {
        let mut one = member(id, 2, BEGIN, &[(1, last, 2)]);
        one.configs = vec![(0, voters(1..=3))];
        one.committed = vec![Known { index: commit, term: Some(2), source: Source::Commit }];
        one
    };
    let sound = judge(&[of(1, 9, 5), of(2, 5, 5), of(3, 5, 5)]);
    assert_eq!(classes(&sound, 9), [(2, Class::NotCommitted, Why::Lacked)]);
    let old = judge(&[of(1, 9, 8), of(2, 5, 5), of(3, 5, 5)]);
    assert_eq!(old.behind, [1, 2]);
    assert_eq!(classes(&old, 9), [(2, Class::Possible, Why::Undecided)]);
    // One whose log ends before its own commit lost its end, and says nothing of what the others lack.
    let mut cut = of(2, 5, 8);
    cut.may_lack_its_end = true;
    let judgement = judge(&[of(1, 9, 8), cut, of(3, 5, 5)]);
    assert_eq!(judgement.behind, [1]);
    assert_eq!(classes(&judgement, 9), [(2, Class::Possible, Why::Undecided)]);
}

/// A member that was given to `--force-new-cluster` and its old peers, which went on: neither denies what the other has.
#[test]
fn a_forced_history_is_another() {
    let mut forced = member(1, 3, BEGIN, &[(1, 8, 2), (9, 10, 2), (11, 12, 3)]);
    forced.configs = vec![(0, voters(1..=3)), (10, voters(1..=1))];
    forced.committed = vec![Known { index: 11, term: Some(3), source: Source::Commit }];
    forced.forced = vec![Trace { first: 9, last: 10, term: 2, removed: vec![2, 3] }];
    let peer = |id| {
        let mut one = member(id, 4, BEGIN, &[(1, 8, 2), (9, 14, 4)]);
        one.configs = vec![(0, voters(1..=3))];
        one.committed = vec![Known { index: 8, term: Some(2), source: Source::Commit }];
        one
    };
    let judgement = judge(&[forced.clone(), peer(2)]);
    let conflict = judgement.conflicts.first().unwrap();
    assert_eq!((conflict.after, conflict.parting), (8, Parting::Forced));
    assert_eq!(conflict.sides, [vec![1], vec![0]]);
    let all = judgement.chain.iter().chain(&judgement.branches);
    assert!(all.clone().all(|part| part.class != Class::NotCommitted), "{judgement:#?}");
    // Both are certain where both know.
    let judgement = judge(&[Testimony { forced: Vec::new(), ..forced }, peer(2), peer(3)]);
    assert!(judgement.conflicts.iter().any(|conflict| conflict.parting == Parting::BothCertain));
}

/// Members that were added to a forced history have logs that begin behind its begin; a database of its has no log at all.
#[test]
fn what_was_added_to_a_forced_history_is_of_it() {
    let mut forced = member(1, 4, BEGIN, &[(1, 8, 2), (9, 10, 2), (11, 12, 3), (13, 20, 4)]);
    forced.configs = vec![(10, voters(1..=1)), (13, Config { voters: [1, 4].into(), ..Config::default() })];
    forced.committed = vec![Known { index: 20, term: Some(4), source: Source::Commit }];
    forced.forced = vec![Trace { first: 9, last: 10, term: 2, removed: vec![2, 3] }];
    let mut added = member(4, 4, Point { index: 14, term: Some(4) }, &[(15, 20, 4)]);
    added.configs = vec![(14, Config { voters: [1, 4].into(), ..Config::default() })];
    added.committed = vec![Known { index: 14, term: Some(4), source: Source::Snapshot }];
    let mut database = member(0, 3, Point { index: 12, term: Some(3) }, &[]);
    database.member_id = None;
    database.may_lack_its_end = true;
    database.committed = vec![Known { index: 12, term: Some(3), source: Source::ConsistentIndex }];
    for configs in [vec![(12, voters(1..=1))], Vec::new()] {
        database.configs = configs;
        let judgement = judge(&[forced.clone(), added.clone(), database.clone()]);
        assert_eq!(judgement.conflicts, []);
        assert_eq!(judgement.certain_to.index, 20);
    }
    // Of those that were removed, who went on without it.
    database.configs = vec![(12, voters(1..=3))];
    let judgement = judge(&[forced.clone(), added.clone(), database]);
    let sides: Vec<_> = judgement.conflicts.iter().map(|one| (one.sides.clone(), one.parting)).collect();
    assert_eq!(sides, [([vec![2], vec![0]], Parting::Forced)]);
    let mut peer = member(2, 5, Point { index: 14, term: Some(5) }, &[(15, 20, 5)]);
    peer.configs = vec![(14, voters(1..=3))];
    peer.committed = vec![Known { index: 14, term: Some(5), source: Source::Snapshot }];
    let judgement = judge(&[forced, added, peer]);
    assert!(judgement.conflicts.iter().any(|one| one.parting == Parting::Forced), "{judgement:#?}");
}
