//! Every damage of the laboratory, alone and in pairs, on files of several generations: what is physically left is recovered, and
//! nothing is said that is not so.

use std::collections::BTreeSet;

use snapshot::salvage::Trust;
use testdata::bbolt_damage::Base;
use testdata::damage::Rng;
use testdata::laboratory::{DAMAGES, Damage, Damaged, Number, Parts, Specimen, What};

use crate::member::{Member, Outcome, show};

/// A member of some generations with its file at each of the last ones.
fn member(name: &str, seed: u64, revisions: u64, compacted: bool) -> Specimen {
    let mut member = Member::new(seed);
    member.live(revisions);
    member.build();
    let young = [member.file[..4096].to_vec(), member.file[4096..8192].to_vec()];
    let mut earlier = vec![member.file.clone()];
    if compacted {
        member.live(revisions / 4);
        member.commit(false);
        earlier.push(member.file.clone());
        let at = member.space.revision - i64::try_from(revisions / 8).unwrap();
        member.compact(at);
        member.commit(true);
        earlier.push(member.file.clone());
    }
    member.live(revisions / 4);
    member.commit(false);
    let before = member.file.clone();
    member.live(20);
    member.commit(false);
    let parts =
        Parts { file: member.file, before: Some(before), young: Some(young), earlier, ..Parts::default() };
    Specimen::new(name, parts)
}

fn specimens() -> Vec<Specimen> {
    let etcd = Parts { file: Base::Etcd.bytes(), ..Parts::default() };
    vec![
        member("grown", 1, 1500, false),
        member("compacted", 2, 1500, true),
        member("small", 3, 60, true),
        Specimen::new("etcd", etcd),
    ]
}

/// What a salvage made of `damaged`, held against the ledger; returns what it did not find of what is there.
#[allow(clippy::print_stdout, reason = "shown when a test fails")]
fn hold(specimen: &Specimen, damaged: &Damaged, what: &str) -> usize {
    let there: BTreeSet<&[u8]> = specimen.there(damaged);
    let Ok(outcome) = show(&[damaged.bytes()]) else {
        assert!(there.is_empty(), "{what}: nothing found, and {} records are there", there.len());
        return 0;
    };
    right(specimen, &outcome, what);
    let lost: Vec<_> = there.iter().filter(|key| !outcome.records.contains_key(**key)).collect();
    // What is not there cannot be in order. Whether the place within a revision is right nothing tells below the compaction.
    let ledger = specimen.ledger();
    if !what.contains("place-bit") && ledger.truth.keys().any(|key| !outcome.records.contains_key(key)) {
        assert!(!outcome.report.account.is_complete(), "{what}: something is missing and nothing said");
    }
    if let Some(first) = lost.first() {
        println!("{what}: {} lost, the first {:?}", lost.len(), snapshot::mvcc::Revision::parse(first));
    }
    lost.len()
}

fn right(specimen: &Specimen, outcome: &Outcome, what: &str) {
    let ledger = specimen.ledger();
    for (key, (value, trust)) in &outcome.records {
        let is_true = ledger.truth.get(key) == Some(value);
        let was_true = ledger.history.get(key) == Some(value);
        let revision = snapshot::mvcc::Revision::parse(key).unwrap();
        match trust {
            Trust::Confirmed => assert!(is_true || was_true, "{what}: {revision:?} is wrong and confirmed"),
            Trust::Single | Trust::Suspect => {}
        }
        // Where no generation that knows of the compaction is left, nobody can know.
        let knows = outcome.report.known.compact_revision.unwrap_or(-1) >= specimen.revisions().1;
        if !is_true && was_true && knows {
            assert!(
                *trust == Trust::Suspect
                    || !matches!(
                        outcome.report.chosen_way().unwrap().kind,
                        snapshot::salvage::report::WayKind::Carved
                            | snapshot::salvage::report::WayKind::Leaves
                    ),
                "{what}: {revision:?} was compacted and came back as {trust:?}: {:?} {:?} {:?}",
                outcome.report.trees,
                outcome.report.known,
                outcome.report.chosen_way()
            );
        }
    }
}

fn seeded(specimen: &Specimen, damages: &[&Damage], round: u64) -> Option<(Damaged, String)> {
    let names: Vec<&str> = damages.iter().map(|damage| damage.name).collect();
    let what = format!("{} of {}, round {round}", names.join(" and "), specimen.name());
    let mut damaged = specimen.whole();
    let mut rng = Rng::seeded_by(&what);
    let mut done = true;
    for damage in damages {
        done &= damage.apply(specimen, &mut damaged, &mut rng);
    }
    done.then_some((damaged, what))
}

/// A page that was moved into a long value is looked for only where a branch names it, and that may be lost. Of two records that say
/// they stand at the same place of their revision one is wrong, and nothing tells which.
fn is_moved(damages: &[&Damage]) -> bool {
    let may_hide = |what| matches!(what, What::Swapped(_) | What::Duplicated(_) | What::Bit(Number::Place));
    damages.iter().any(|damage| may_hide(damage.what))
}

#[test]
fn what_is_left_is_recovered_whatever_was_damaged() {
    let (mut lost, mut moved) = (0, 0);
    for specimen in specimens() {
        for damage in DAMAGES {
            for round in 0..3 {
                if let Some((damaged, what)) = seeded(&specimen, &[damage], round) {
                    let count = if is_moved(&[damage]) { &mut moved } else { &mut lost };
                    *count += hold(&specimen, &damaged, &what);
                }
            }
        }
    }
    assert_eq!(lost, 0);
    assert!(moved < 50, "{moved}");
}

#[test]
fn what_is_left_is_recovered_after_two_damages() {
    let (mut lost, mut moved, mut number) = (0, 0, 0u64);
    for specimen in specimens() {
        for (at, first) in DAMAGES.iter().enumerate() {
            for second in &DAMAGES[at..] {
                number += 1;
                // A part of them; the laboratory of real servers does all.
                if number % 7 != 0 || matches!((first.what, second.what), (What::YoungTree, What::YoungMetas))
                {
                    continue;
                }
                let Some((damaged, what)) = seeded(&specimen, &[first, second], number) else { continue };
                // What stands behind a page that was written over is in no leaf, though the leaf's head may name it.
                let is_behind = [first, second].iter().any(|damage| damage.what == What::YoungTree);
                let count = if is_behind || is_moved(&[first, second]) { &mut moved } else { &mut lost };
                *count += hold(&specimen, &damaged, &what);
            }
        }
    }
    assert_eq!(lost, 0);
    assert!(moved < 250, "{moved}");
}
