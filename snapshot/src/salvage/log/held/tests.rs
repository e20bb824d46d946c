//! Random histories, of which random records are lost: whatever is made again was so, or is said to be open to doubt; and nothing is
//! lost that is not said to be.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../../../tests/common/key_model.rs"]
mod key_model;

use std::collections::{BTreeMap, BTreeSet};

use key_model::{Model, Op, Put, Request, Rng, Said, Txn, request_bytes};

use super::*;

/// A history, and what a member has left of it.
#[derive(Default)]
struct Fake {
    entries: Vec<(u64, Vec<u8>)>,
    survivors: BTreeMap<Vec<u8>, (Vec<u8>, bool)>,
    /// Every record that ever was, and those that are there at the end.
    ever: BTreeMap<Vec<u8>, Vec<u8>>,
    truth: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Which entry made which main revision.
    made_by: BTreeMap<i64, u64>,
    compacted: i64,
    last: i64,
    newer_rule: bool,
    silent: Vec<(i64, i64)>,
    trees: Vec<(u64, i64)>,
    unsure: BTreeSet<i64>,
}

impl Witness for Fake {
    fn entries(&self, look: &mut dyn FnMut(&EntryRef<'_>)) -> Result<(), SalvageError> {
        for (index, data) in &self.entries {
            look(&EntryRef { entry_type: 0, term: 2, index: *index, data });
        }
        Ok(())
    }

    fn survivors(&self, look: &mut dyn FnMut(Revision, &[u8], bool)) -> Result<(), SalvageError> {
        for (at, (value, is_gone)) in &self.survivors {
            look(Revision::parse(at).unwrap(), value, *is_gone);
        }
        Ok(())
    }

    fn unsure(&self) -> Vec<i64> {
        self.unsure.iter().copied().collect()
    }
}

/// Gives puts values that nobody else puts, as most values of a store are.
fn tell_apart(op: &mut Op, rng: &mut Rng, count: &mut u64) {
    match op {
        Op::Put(put) if !put.keep_value => {
            *count += 1;
            put.value = format!("{}-{count}", rng.below(1 << 40)).into_bytes();
        }
        Op::Txn(Txn { success, failure, .. }) => {
            success.iter_mut().chain(failure).for_each(|op| tell_apart(op, rng, count));
        }
        _ => {}
    }
}

impl Fake {
    /// A history of `before` requests that are no longer in the log and `after` that are.
    fn new(rng: &mut Rng, (before, after): (u64, u64)) -> Self {
        let mut model = Model::new(rng.below(2) == 0, rng.below(2) == 0, true);
        let mut fake = Self { newer_rule: model.newer_rule, ..Self::default() };
        fake.go_on(&mut model, rng, before);
        fake.entries.clear();
        fake.made_by.clear();
        fake.go_on(&mut model, rng, after);
        fake.end(&model);
        if before == 0 {
            fake.trees.push((0, 1));
        }
        fake
    }

    fn go_on(&mut self, model: &mut Model, rng: &mut Rng, count: u64) {
        let mut unique = 0;
        for _ in 0..count {
            let mut request = match rng.below(14) {
                0 => Request::Compact(rng.revision(model.revision)),
                // What Kubernetes asks for: a put if the key is as it was read.
                1..=3 => guarded(model, rng),
                _ => rng.request(model.revision),
            };
            if let Request::Op(op) = &mut request {
                tell_apart(op, rng, &mut unique);
            }
            let (before, was) = (model.revision, model.clone());
            if model.apply(&request) == Said::Dies {
                continue;
            }
            if writes_twice(model, before) {
                // Servers refuse what puts a key twice.
                *model = was;
                continue;
            }
            let index = self.entries.last().map_or(self.last_index() + 1, |(index, _)| index + 1);
            self.entries.push((index, request_bytes(&request)));
            if model.revision > before {
                self.made_by.insert(model.revision, index);
            }
        }
    }

    fn last_index(&self) -> u64 {
        self.entries.last().map_or(100, |(index, _)| *index)
    }

    fn end(&mut self, model: &Model) {
        self.ever.clone_from(&model.records);
        self.truth = model.physical();
        self.compacted = model.compacted.max(0);
        self.last = model.revision;
    }

    /// Loses records of some main revisions in a row.
    fn lose(&mut self, rng: &mut Rng) {
        let mut from = 1;
        for _ in 0..=rng.below(3) {
            let number =
                |below: i64, rng: &mut Rng| i64::try_from(rng.below(below.max(1).unsigned_abs())).unwrap();
            let start = from + number(self.last - from + 1, rng);
            let end = start + number(12, rng);
            if start > self.last {
                break;
            }
            self.silent.push((start, end));
            from = end + 2;
        }
        let is_open = rng.below(3) == 0;
        if is_open {
            self.silent.retain(|(_, to)| *to < self.last);
            let from = self.silent.last().map_or(1, |(_, to)| to + 2);
            self.silent.push((from.max(self.last - 3), i64::MAX));
        } else if rng.below(4) > 0 {
            self.trees.push((self.last_index(), self.last));
        }
        let odds = 1 + rng.below(4);
        for (at, value) in &self.ever {
            let main = Revision::parse(at).unwrap().main;
            let stays = if lost::is_in(&self.silent, main) {
                // What was compacted may lie around, and what was not may be gone.
                rng.below(4) < odds - 1
            } else {
                self.truth.contains_key(at) || rng.below(3) == 0
            };
            let is_damaged = stays && rng.below(30) == 0;
            if is_damaged && self.truth.contains_key(at) {
                self.unsure.insert(main);
            } else if stays && !is_damaged {
                self.survivors.insert(at.clone(), (value.clone(), false));
            }
        }
        // Whoever compacts what is left sees no other ones.
        let mut newest: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (at, (value, _)) in &self.survivors {
            if Revision::parse(at).unwrap().main <= self.compacted {
                newest.insert(KeyValue::decode(value).unwrap().key.to_vec(), at.clone());
            }
        }
        for (at, (value, is_gone)) in &mut self.survivors {
            let revision = Revision::parse(at).unwrap();
            if revision.main > self.compacted {
                continue;
            }
            *is_gone = if lost::is_in(&self.silent, revision.main) {
                let stays = !revision.tombstone || (self.newer_rule && revision.main == self.compacted);
                newest[KeyValue::decode(value).unwrap().key] != *at || !stays
            } else {
                !self.truth.contains_key(at)
            };
        }
    }

    fn question(&self) -> Question<'_> {
        Question { compacted: self.compacted, silent: &self.silent, has_gates: false, trees: &self.trees }
    }

    /// That all that was made and is said to be certain was so.
    fn is_certain_of(&self, held: &Held) {
        for filled in held.filled.iter().filter(|filled| filled.is_certain) {
            let at = filled.revision.encode();
            let right = self.truth.get(&at).map(|value| KeyValue::decode(value).unwrap());
            let made = KeyValue::decode(&filled.value).unwrap();
            assert_eq!(Some(made), right, "{:?} is said to be certain", filled.revision);
        }
    }

    /// That all that was made was so, and all that is lacking is said to be.
    fn is_right(&self, held: &Held) {
        let question = self.question();
        let known = held.known(&question);
        for main in known.mains() {
            if let Some(edge) = held.aligned.edge(main) {
                let index = held.steps.steps[edge.step as usize].index;
                assert_eq!(self.made_by.get(&main), Some(&index), "who made {main}");
            }
        }
        let mut has = BTreeMap::new();
        for (at, (value, is_gone)) in &self.survivors {
            let main = Revision::parse(at).unwrap().main;
            let is_superseded = held.is_superseded(&known, main, value);
            assert!(
                !is_superseded || !self.truth.contains_key(at),
                "{:?} was not superseded",
                Revision::parse(at)
            );
            if !is_gone && !is_superseded {
                has.insert(at.clone(), value.clone());
            }
        }
        self.is_certain_of(held);
        has.extend(held.filled.iter().map(|filled| (filled.revision.encode(), filled.value.clone())));
        let told: BTreeSet<i64> = held.told(&question).iter().flat_map(|(from, to)| *from..=*to).collect();
        for (at, value) in &self.truth {
            let revision = Revision::parse(at).unwrap();
            if revision.main > held.last.revision {
                break;
            }
            let is_said = !known.mains().contains(&revision.main)
                || held.aligned.edge(revision.main).is_none()
                // What is damaged is counted where it lies.
                || self.unsure.contains(&revision.main)
                || held.unmade.contains(&revision.main);
            assert!(has.contains_key(at) || is_said, "{revision:?} is lost and nobody says so");
            if told.contains(&revision.main) {
                let doubtful =
                    held.filled.iter().any(|filled| filled.revision == revision && !filled.is_certain);
                assert!(has.get(at) == Some(value) || doubtful, "{revision:?} is not as told");
            }
        }
        for at in has.keys().filter(|at| told.contains(&Revision::parse(at).unwrap().main)) {
            let doubtful =
                held.filled.iter().any(|filled| filled.revision.encode() == **at && !filled.is_certain);
            assert!(self.ever.contains_key(at) || doubtful, "{:?} never was", Revision::parse(at));
        }
    }
}

/// Whether a key has several records of the main revision behind `before`.
fn writes_twice(model: &Model, before: i64) -> bool {
    let first = Revision { main: before + 1, sub: 0, tombstone: false }.encode();
    let mut keys = BTreeSet::new();
    model.records.range(first..).any(|(_, value)| !keys.insert(KeyValue::decode(value).unwrap().key))
}

/// A put if the key is still as somebody read it, which it may not be.
fn guarded(model: &Model, rng: &mut Rng) -> Request {
    let key = rng.key();
    let now = model.live.get(&key).map_or(0, |live| live.changed);
    let number = if rng.below(4) == 0 { rng.revision(model.revision) } else { now };
    let compare = key_model::Compare { target: 2, field: 6, number, key: key.clone(), ..Default::default() };
    let put = Op::Put(Put { key, value: vec![b'v'; 3], ..Put::default() });
    let failure = if rng.below(2) == 0 { vec![Op::Range(0)] } else { Vec::new() };
    Request::Op(Op::Txn(Txn { compares: vec![compare], success: vec![put], failure }))
}

fn held(fake: &Fake) -> Option<Held> {
    hold(fake, &fake.question()).unwrap().ok()
}

/// How many histories are tried.
fn seeds() -> std::ops::Range<u64> {
    0..if std::env::var_os("ETCD_RESCUE_SOAK").is_some() { 20_000 } else { 250 }
}

#[test]
fn what_is_made_again_was_so() {
    for seed in seeds() {
        let mut rng = Rng(seed * 2 + 1);
        let (before, after) = (rng.below(60), 10 + rng.below(110));
        let mut fake = Fake::new(&mut rng, (before, after));
        fake.lose(&mut rng);
        if let Some(held) = held(&fake) {
            fake.is_right(&held);
            assert!(held.counts.denied.is_empty(), "{seed}: {:?}", held.counts);
        }
    }
}

#[test]
fn a_value_that_rotted_is_not_called_right() {
    for seed in seeds() {
        let mut rng = Rng(seed * 2 + 1);
        let (before, after) = (rng.below(60), 10 + rng.below(110));
        let mut fake = Fake::new(&mut rng, (before, after));
        fake.trees.push((fake.last_index(), fake.last));
        fake.survivors = fake.truth.iter().map(|(at, value)| (at.clone(), (value.clone(), false))).collect();
        let puts: Vec<Vec<u8>> = fake.survivors.keys().filter(|at| at.len() == 17).cloned().collect();
        if puts.is_empty() {
            continue;
        }
        let at = puts[usize::try_from(rng.below(puts.len() as u64)).unwrap()].clone();
        let (value, _) = fake.survivors[&at].clone();
        let kv = KeyValue::decode(&value).unwrap();
        let rotten = [kv.value, b"?"].concat();
        let kv = match rng.below(3) {
            0 => KeyValue { value: &rotten, ..kv },
            1 => KeyValue { version: kv.version + 1, ..kv },
            _ => KeyValue { create_revision: kv.create_revision - 1, ..kv },
        };
        let mut changed = Vec::new();
        kv.encode(&mut changed);
        fake.survivors.insert(at.clone(), (changed, false));
        let Some(held) = held(&fake) else { continue };
        let revision = Revision::parse(&at).unwrap();
        let told = held.told(&fake.question());
        let is_filled = held.filled.iter().any(|filled| filled.revision == revision);
        assert!(!lost::is_in(&told, revision.main) || is_filled, "{seed}: {revision:?}");
        fake.is_certain_of(&held);
    }
}

/// A member that was parted from another one and went on alone: its log has the same beginning.
#[test]
fn the_log_of_another_history_gives_what_both_had() {
    for seed in seeds() {
        let mut rng = Rng(seed * 2 + 1);
        let mut model = Model::new(true, true, true);
        let mut one = Fake { newer_rule: true, ..Fake::default() };
        let (before, common, own) = (rng.below(40), 5 + rng.below(55), 5 + rng.below(55));
        one.go_on(&mut model, &mut rng, before);
        one.entries.clear();
        one.made_by.clear();
        one.go_on(&mut model, &mut rng, common);
        let mut other = Fake { entries: one.entries.clone(), ..Fake::default() };
        other.go_on(&mut model.clone(), &mut rng, own);
        one.go_on(&mut model, &mut rng, own);
        one.end(&model);
        one.lose(&mut rng);
        one.trees.clear();
        one.entries = other.entries;
        if let Some(held) = held(&one) {
            one.is_certain_of(&held);
        }
    }
}

/// That the histories above are ones in which much comes back.
#[test]
fn most_of_what_is_lost_comes_back() {
    let (mut lost, mut back) = (0, 0);
    for seed in 0..60 {
        let mut rng = Rng(seed * 2 + 1);
        let mut fake = Fake::new(&mut rng, (20, 100));
        fake.lose(&mut rng);
        let Some(held) = held(&fake) else { continue };
        let has = |at: &Vec<u8>| {
            held.filled.iter().any(|filled| filled.is_certain && filled.revision.encode() == *at)
        };
        for at in fake.truth.keys().filter(|at| !fake.survivors.contains_key(*at)) {
            lost += 1;
            back += u64::from(has(at));
        }
    }
    assert!(lost > 100 && back * 10 > lost, "{back} of {lost}");
}
