//! What a case answers, held against the slow way: a scan of its sources by the rest of the house.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

#[path = "../../snapshot/tests/common/space.rs"]
mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use casefile::rows::{Parting, RevisionRow, Standing};
use casefile::{AddOptions, Case, Find, Timeline, add};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use snapshot::mvcc::{Index, IndexOptions, KeyValue, Release, Revision};
use space::Space;

/// What a cluster was asked for: a put of this value, or a deletion.
type Ask = (usize, Option<u8>);

const KEYS: [&str; 6] = ["a", "b", "c/1", "c/2", "c0", "d"];

/// A member that applied `asks`, compacted at `compacted` where that is a revision it has.
fn member(asks: &[Ask], compacted: i64) -> Space {
    let mut space = Space::default();
    for (key, value) in asks {
        match value {
            Some(value) => space.put(KEYS[*key], &"value ".repeat(usize::from(*value))),
            None if space.versions.contains_key(KEYS[*key]) => space.delete(KEYS[*key]),
            // Nothing to delete: no revision, so that one ask is one revision.
            None => space.put(KEYS[*key], "instead"),
        }
    }
    // A transaction of two puts, of which the second has a lease.
    let main = space.next();
    for (sub, key, lease) in [(0, "c/1", 0), (1, "t", 77)] {
        let kv = KeyValue {
            key: key.as_bytes(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            value: b"x",
            lease,
        };
        let mut record = Vec::new();
        kv.encode(&mut record);
        space.records.insert(Revision { main, sub, tombstone: false }.encode(), record);
    }
    if compacted > 1 && compacted <= space.revision {
        space.compact(compacted, Release::NEWEST);
    }
    space
}

/// A case of these databases, named 0, 1 and so on.
fn case_of(spaces: &[Space], dir: &Path, options: &AddOptions) -> PathBuf {
    let path = dir.join("evidence.case");
    Case::create(&path, "case new").unwrap();
    for (at, space) in spaces.iter().enumerate() {
        let file = dir.join(format!("{at}.db"));
        // When a file was last written to is part of what a case holds of it.
        if !file.exists() {
            fs::write(&file, space.file()).unwrap();
        }
        assert!(!add(&path, &at.to_string(), &file, options, &()).unwrap().was_there);
    }
    path
}

/// A record, and who has it so.
type Known = BTreeMap<(i64, i64, Vec<u8>, bool, i64, i64, i64, Vec<u8>), BTreeSet<u32>>;

/// All records of all sources, by a scan.
fn scan(spaces: &[Space]) -> Known {
    let mut known = Known::new();
    for (at, space) in (0..).zip(spaces) {
        let file = space.file();
        let db = space::db(&file);
        let index = Index::build(&db, &IndexOptions::default(), &()).unwrap();
        for history in index.histories() {
            for entry in history.entries() {
                let record = index.record(entry).unwrap();
                let kv = KeyValue::decode(&record.bytes).unwrap();
                let revision = record.revision;
                let of = (kv.create_revision, kv.version, kv.lease);
                let row =
                    (revision.main, revision.sub, kv.key.to_vec(), revision.tombstone, of.0, of.1, of.2);
                let row = (row.0, row.1, row.2, row.3, row.4, row.5, row.6, kv.value.to_vec());
                known.entry(row).or_default().insert(at);
            }
        }
    }
    known
}

/// Rows of a case as a scan has them; values come out of the sources, and every citation is read.
fn answered(case: &Case, rows: &[RevisionRow], dir: &Path) -> Known {
    let mut known = Known::new();
    for row in rows {
        let value = if row.tombstone { Vec::new() } else { case.value(row).unwrap() };
        if !row.tombstone {
            assert_eq!(Sha256::digest(&value)[..16], row.value_hash);
        }
        let holders: BTreeSet<u32> = row.held.iter().map(|held| held.source).collect();
        for held in &row.held {
            let cited = case.cite(held);
            let bytes = fs::read(dir.join(&cited.file)).unwrap();
            assert_eq!(testdata::sha256_hex(&bytes), cited.sha256);
            let from = usize::try_from(cited.offset).unwrap();
            let record = &bytes[from..from + usize::try_from(cited.len_bytes).unwrap()];
            assert_eq!(KeyValue::decode(record).unwrap().key, row.key);
            assert_eq!(cited.offset / 4096, cited.page.unwrap());
        }
        let id = (row.main, row.sub, row.key.clone(), row.tombstone);
        let numbers = (row.create_revision, row.version, row.lease);
        let before = known.insert((id.0, id.1, id.2, id.3, numbers.0, numbers.1, numbers.2, value), holders);
        assert_eq!(before, None, "one row for what is the same");
    }
    known
}

fn gathered(ask: impl FnOnce(&mut dyn FnMut(&RevisionRow) -> ControlFlow<()>)) -> Vec<RevisionRow> {
    let mut rows = Vec::new();
    ask(&mut |row| {
        rows.push(row.clone());
        ControlFlow::Continue(())
    });
    rows
}

fn only(
    known: &Known,
    wanted: impl Fn(&(i64, i64, Vec<u8>, bool, i64, i64, i64, Vec<u8>), &BTreeSet<u32>) -> bool,
) -> Known {
    known
        .iter()
        .filter(|(row, holders)| wanted(row, holders))
        .map(|(row, holders)| (row.clone(), holders.clone()))
        .collect()
}

/// Whether sources have something different at a revision: at this operation of it, or, of those that keep history there, at any.
fn is_contested(known: &Known, spaces: &[Space], (main, sub): (i64, i64)) -> bool {
    let rows_of = |source: u32| -> Vec<_> {
        known
            .iter()
            .filter(|(row, holders)| row.0 == main && holders.contains(&source))
            .map(|(row, _)| row)
            .collect()
    };
    let kept: Vec<Vec<_>> = (0..)
        .zip(spaces)
        .filter(|(_, space)| space.finished.is_none_or(|compacted| main > compacted))
        .map(|(number, _)| rows_of(number))
        .filter(|rows| !rows.is_empty())
        .collect();
    let differ = kept.iter().any(|rows| *rows != kept[0]);
    differ
        || (0..=9).any(|sub| known.keys().filter(|row| (row.0, row.1) == (main, sub)).count() > 1)
        || sub > 9
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    prop::collection::vec((0..KEYS.len(), prop::option::weighted(0.75, 0..9_u8)), 4..40)
}

fn part(of: usize, share: f64) -> usize {
    let share = f64::from(u32::try_from(of).unwrap()) * share;
    format!("{share:.0}").parse().unwrap()
}

/// How many histories each test has: `PROPTEST_CASES`, more in a soak, and otherwise what a gate has time for.
fn cases() -> u32 {
    let is_set = |name| std::env::var_os(name).is_some();
    match (is_set("PROPTEST_CASES"), is_set("ETCD_RESCUE_SOAK")) {
        (true, _) => ProptestConfig::default().cases,
        (false, true) => 150,
        (false, false) => 24,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_a_scan(
        asks in asks(),
        ends in prop::array::uniform3(0.3..1.0_f64),
        cuts in prop::array::uniform3(0.0..1.6_f64),
        fault in 0.0..1.0_f64,
        faulty in any::<bool>(),
        range in (0..45_i64, 0..45_i64),
        embed_values in any::<bool>(),
    ) {
        let lens = ends.map(|share| part(asks.len(), share).max(1));
        let mut others = asks.clone();
        let at = part(lens[1].min(asks.len()) - 1, fault);
        let is_faulty = faulty && others[at].1.is_some();
        if is_faulty {
            others[at].1 = others[at].1.map(|value| value + 20);
        }
        let spaces: Vec<Space> = [&asks, &others, &asks].iter().zip(lens).zip(cuts).map(|((asks, len), cut)| {
            let compacted = if cut >= 1.0 { 0 } else { i64::try_from(part(len, cut)).unwrap() + 1 };
            member(&asks[..len], compacted)
        }).collect();
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let path = case_of(&spaces, dir, &AddOptions { embed_values, ..AddOptions::default() });
        let case = Case::open(&path).unwrap();
        let known = scan(&spaces);
        for (space, source) in spaces.iter().zip(case.sources()) {
            let found = source.key_space.as_ref().unwrap();
            prop_assert_eq!(found.records, space.records.len() as u64);
            prop_assert_eq!((found.last, found.compacted), (space.revision, space.finished));
            prop_assert!(found.is_whole());
        }

        for key in KEYS.iter().chain(&["t", "", "nobody"]) {
            let life = case.key(key.as_bytes()).unwrap();
            let expected = only(&known, |row, _| row.2 == key.as_bytes());
            prop_assert_eq!(answered(&case, &life.steps, dir), expected);
            prop_assert!(life.steps.is_sorted_by_key(|row| (row.main, row.sub)));
        }

        let (from, to) = (range.0.min(range.1), range.0.max(range.1));
        for prefix in ["", "c", "c/", "x"] {
            let asked = Timeline { prefix: prefix.into(), from, to };
            let rows = gathered(|each| case.timeline(&asked, each).unwrap());
            let is_in = |row: &(i64, i64, Vec<u8>, bool, i64, i64, i64, Vec<u8>)| {
                (from..=to).contains(&row.0) && row.2.starts_with(prefix.as_bytes())
            };
            prop_assert_eq!(answered(&case, &rows, dir), only(&known, |row, _| is_in(row)));
            for row in &rows {
                prop_assert_eq!(row.contested, is_contested(&known, &spaces, (row.main, row.sub)), "{:?}", row);
            }

            let mut expected: BTreeMap<Vec<u8>, BTreeSet<(i64, u32)>> = BTreeMap::new();
            let rows = gathered(|each| {
                let answer = case.at(to, prefix.as_bytes(), each).unwrap();
                for (number, standing) in &answer.standings {
                    let space = &spaces[usize::try_from(*number).unwrap()];
                    let can_tell = to <= space.revision && space.finished.is_none_or(|compacted| to >= compacted);
                    assert_eq!(*standing == Standing::Asked, can_tell, "{standing:?}");
                    if !can_tell {
                        continue;
                    }
                    let file = space.file();
                    let db = space::db(&file);
                    let index = Index::build(&db, &IndexOptions::default(), &()).unwrap();
                    for history in index.histories() {
                        let key = history.key().unwrap().to_vec();
                        if let Some(entry) = history.at(to).filter(|_| key.starts_with(prefix.as_bytes())) {
                            expected.entry(key).or_default().insert((entry.main(), *number));
                        }
                    }
                }
            });
            let mut found: BTreeMap<Vec<u8>, BTreeSet<(i64, u32)>> = BTreeMap::new();
            for row in &rows {
                found.entry(row.key.clone()).or_default().extend(row.held.iter().map(|held| (row.main, held.source)));
            }
            prop_assert_eq!(found, expected);
            prop_assert!(rows.is_sorted_by_key(|row| &row.key));
        }

        let find = |asked: Find| gathered(|each| case.find(&asked, each).unwrap());
        let deleted = find(Find { deleted: true, ..Find::default() });
        prop_assert_eq!(answered(&case, &deleted, dir), only(&known, |row, _| row.3));
        let leased = find(Find { lease: Some(77), ..Find::default() });
        prop_assert_eq!(answered(&case, &leased, dir), only(&known, |row, _| row.6 == 77));
        let alone = find(Find { only_in: Some(1), ..Find::default() });
        prop_assert_eq!(answered(&case, &alone, dir), only(&known, |_, holders| holders.iter().eq([&1])));
        let hash = Sha256::digest("instead")[..5].to_vec();
        let hashed = find(Find { value_hash: Some(hash), prefix: b"c".to_vec(), ..Find::default() });
        let is_instead = only(&known, |row, _| row.7 == b"instead" && row.2.starts_with(b"c"));
        prop_assert_eq!(answered(&case, &hashed, dir), is_instead);
    }

    /// Members that applied the same differ in how far they came, and in nothing else, wherever each was compacted; what one has
    /// otherwise is found where both still show it.
    #[test]
    fn sources_part_where_they_were_made_to(
        asks in asks(),
        ends in prop::array::uniform2(0.3..1.0_f64),
        cuts in prop::array::uniform2(0.0..1.6_f64),
        fault in 0.0..1.0_f64,
    ) {
        let lens = ends.map(|share| part(asks.len(), share).max(1));
        let compacted = |at: usize| if cuts[at] >= 1.0 { 0 } else { i64::try_from(part(lens[at], cuts[at])).unwrap() + 1 };
        // Without the transaction at the end, which comes at another revision in each.
        let space = |asks: &[Ask], at: usize| {
            let mut space = member(&asks[..lens[at]], 0);
            space.records.retain(|key, _| Revision::parse(key).unwrap().main < space.revision);
            space.revision -= 1;
            if (2..=space.revision).contains(&compacted(at)) {
                space.compact(compacted(at), Release::NEWEST);
            }
            space
        };
        let diff = |spaces: &[Space]| {
            let scratch = tempfile::tempdir().unwrap();
            let case = Case::open(&case_of(spaces, scratch.path(), &AddOptions::default())).unwrap();
            let mut rows = Vec::new();
            let diff = case.diff(&case.sources()[0], &case.sources()[1], &mut |row| {
                rows.push(row.clone());
                ControlFlow::Continue(())
            }).unwrap();
            (diff, rows)
        };
        let spaces = [space(&asks, 0), space(&asks, 1)];
        let (same, rows) = diff(&spaces);
        prop_assert_eq!((same.missing, same.differs, same.part), (0, 0, None), "{:?}", rows);
        prop_assert!(rows.iter().all(|row| row.parting == Parting::Tail));
        let ends = spaces.each_ref().map(|space| space.revision);
        let tail = |of: usize, end: i64| {
            let behind = end.max(spaces[1 - of].finished.unwrap_or_default());
            spaces[of].records.keys().filter(|key| Revision::parse(key).unwrap().main > behind).count() as u64
        };
        prop_assert_eq!(same.tail, tail(0, ends[1]) + tail(1, ends[0]));

        let at = part(lens[1].min(asks.len()) - 1, fault);
        let mut others = asks.clone();
        prop_assume!(others[at].1.is_some());
        others[at].1 = others[at].1.map(|value| value + 20);
        let spaces = [space(&asks, 0), space(&others, 1)];
        let revision = Revision { main: i64::try_from(at).unwrap() + 2, sub: 0, tombstone: false };
        let in_both = spaces.iter().all(|space| space.records.contains_key(&revision.encode()));
        let (parted, _) = diff(&spaces);
        prop_assert_eq!(parted.missing, 0);
        prop_assert_eq!(parted.part, in_both.then_some(revision.main));
        prop_assert_eq!(parted.differs, u64::from(in_both));
    }

    /// Two cases of the same sources have the same contents, and a case is found as it was made.
    #[test]
    fn the_same_sources_make_the_same_case(asks in asks(), cut in 2..9_i64) {
        let spaces = [member(&asks, 0), member(&asks, cut)];
        let scratch = tempfile::tempdir().unwrap();
        let contents = [0, 1].map(|_| {
            let path = case_of(&spaces, scratch.path(), &AddOptions { embed_values: true, ..AddOptions::default() });
            let contents = Case::open(&path).unwrap().contents(&()).unwrap();
            fs::remove_file(path).unwrap();
            contents
        });
        prop_assert_eq!(&contents[0], &contents[1]);
    }
}
