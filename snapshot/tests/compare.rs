//! Databases of several members held against each other, where it is known in what they differ.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::space::Space;
use proptest::prelude::*;
use snapshot::compare::{Data, Held, compare_data};
use snapshot::facts::FactsOptions;
use snapshot::mvcc::Release;
use snapshot::survivors::{GivenPath, Survivors, SurvivorsError, gather};

/// What a cluster was asked for: a put of this value, or a deletion.
type Ask = (usize, Option<u8>);

const KEYS: [&str; 5] = ["a", "b", "c/1", "c/2", "d"];

/// A member that applied `asks`, compacted at `compacted` where that is a revision it has.
fn member(asks: &[Ask], compacted: i64) -> Space {
    let mut space = Space::default();
    for (key, value) in asks {
        match value {
            Some(value) => space.put(KEYS[*key], &value.to_string()),
            None if space.versions.contains_key(KEYS[*key]) => space.delete(KEYS[*key]),
            // Nothing to delete: no revision, so that one ask is one revision.
            None => space.put(KEYS[*key], "instead"),
        }
    }
    if compacted > 1 && compacted <= space.revision {
        space.compact(compacted, Release::NEWEST);
    }
    space
}

fn survivors(spaces: &[Space], dir: &Path) -> Survivors {
    let given: Vec<GivenPath> = spaces
        .iter()
        .enumerate()
        .map(|(at, space)| {
            let path = dir.join(format!("{at}.db"));
            fs::write(&path, space.file()).unwrap();
            GivenPath::from(path)
        })
        .collect();
    gather(&given, &FactsOptions::default(), &()).unwrap()
}

fn compared(spaces: &[Space]) -> Data {
    let dir = tempfile::tempdir().unwrap();
    compare_data(&survivors(spaces, dir.path()), 10, &()).unwrap()
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    prop::collection::vec((0..KEYS.len(), prop::option::weighted(0.8, 0..9_u8)), 4..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Members that applied the same never differ, however far each came and wherever it was compacted; and one that has another value
    /// is found out at the revision of that value, as long as it is left to see.
    #[test]
    fn only_what_was_made_to_differ_differs(
        asks in asks(),
        ends in prop::array::uniform3(0.3..1.0_f64),
        cuts in prop::array::uniform3(0.0..1.4_f64),
        fault in 0.0..1.0_f64,
    ) {
        let part = |of: usize, share: f64| {
            let share = f64::from(u32::try_from(of).unwrap()) * share;
            format!("{share:.0}").parse::<usize>().unwrap()
        };
        let lens = ends.map(|share| part(asks.len(), share).max(1));
        // More than the whole: never compacted.
        let compacted: Vec<i64> = lens.iter().zip(cuts).map(|(len, share)| match share {
            1.0.. => 0,
            _ => i64::try_from(part(*len, share)).unwrap() + 1,
        }).collect();
        let whole = |asks: &[Ask]| -> Vec<Space> {
            lens.iter().zip(&compacted).map(|(len, cut)| member(&asks[..*len], *cut)).collect()
        };
        let same = compared(&whole(&asks));
        prop_assert!(same.agrees(), "{same:?}");
        prop_assert_eq!(same.first_revision(), None);

        let mut spaces = whole(&asks);
        let at = part(lens[1].min(asks.len()) - 1, fault);
        let mut others = asks.clone();
        let was = others[at].1;
        others[at].1 = Some(was.map_or(9, |value| value + 20));
        // A deletion that became a put would change what the later asks do.
        prop_assume!(was.is_some());
        spaces[1] = member(&others[..lens[1]], compacted[1]);
        let revision = i64::try_from(at).unwrap() + 2;
        let data = compared(&spaces);
        let in_all = data.in_part.is_empty() && data.compared_to.is_some_and(|upto| revision <= upto);
        let compacted = data.compacted.unwrap_or_default();
        let name = KEYS[others[at].0];
        let is_live_at = |upto: i64| {
            let last = asks[..usize::try_from(upto - 1).unwrap()].iter().rposition(|(key, _)| KEYS[*key] == name);
            last == Some(at)
        };
        if let Some(found) = data.first_revision() {
            prop_assert_eq!(found, revision);
        }
        if in_all {
            // As etcd's own hash: of what the compaction left only that counts which is there at the revision compared at, and all of
            // it where nothing is there (FORMATS C.5, gotcha 20).
            let upto = data.compared_to.unwrap();
            let is_empty = member(&asks[..usize::try_from(upto - 1).unwrap()], 0).versions.is_empty();
            let seen = revision > compacted || is_live_at(upto) || (is_empty && is_live_at(compacted));
            prop_assert_eq!(!data.agrees(), seen, "{:?}", data);
            if seen {
                let first = data.first.as_ref().unwrap();
                prop_assert_eq!(first.may_be_earlier, revision <= compacted);
                let told: Vec<&[u8]> = first.keys.iter().map(|key| key.key.as_slice()).collect();
                prop_assert_eq!(told, vec![name.as_bytes()]);
                prop_assert_eq!(data.majority(), Some(&[0, 2][..]));
                prop_assert_eq!(data.keys.values, u64::from(is_live_at(data.compared_to.unwrap())));
            }
        } else if data.in_part.is_empty() {
            prop_assert!(data.agrees(), "{data:?}");
        }
    }
}

/// What servers of 3.5.0 to 3.5.2 do after a crash: an entry is applied twice, and every later revision is one too high.
#[test]
fn an_entry_applied_twice_shows_where_it_was() {
    let asks: Vec<Ask> = (0..30).map(|n| (n % 4, Some(u8::try_from(n).unwrap()))).collect();
    let sound = member(&asks, 0);
    let mut twice = asks.clone();
    twice.insert(11, asks[10]);
    let twice = member(&twice, 0);
    let data = compared(&[sound.clone(), twice.clone(), sound.clone()]);
    // Ask 10 is revision 12; in the other it is revisions 12 and 13.
    assert_eq!((data.first_revision(), data.majority()), (Some(13), Some(&[0, 2][..])));
    let first = data.first.unwrap();
    assert!(!first.may_be_earlier);
    let told: Vec<(&[u8], Vec<bool>)> = first
        .keys
        .iter()
        .map(|key| (key.key.as_slice(), key.held.iter().map(|(_, held)| *held != Held::Nothing).collect()))
        .collect();
    assert_eq!(told, [(&b"c/1"[..], vec![false, true]), (b"c/2", vec![true, false])]);
    // Alone against each other nobody has a majority.
    assert_eq!(compared(&[sound, twice]).majority(), None);
}

#[test]
fn a_damaged_database_does_not_keep_the_others_from_being_compared() {
    let asks: Vec<Ask> = (0..60).map(|n| (n % 5, Some(u8::try_from(n).unwrap()))).collect();
    let dir = tempfile::tempdir().unwrap();
    // The damaged one was compacted beyond the end of the others.
    let spaces = [member(&asks[..30], 0), member(&asks[..40], 5), member(&asks, 50)];
    survivors(&spaces, dir.path());
    let damaged = dir.path().join("2.db");
    let mut bytes = fs::read(&damaged).unwrap();
    // The flags of every page behind the metas.
    for page in 2..bytes.len() / 4096 {
        bytes[page * 4096 + 8] ^= 0x0f;
    }
    fs::write(&damaged, bytes).unwrap();
    let given: Vec<GivenPath> =
        (0..3).map(|at| GivenPath::from(dir.path().join(format!("{at}.db")))).collect();
    let data = compare_data(&gather(&given, &FactsOptions::default(), &()).unwrap(), 10, &()).unwrap();
    let not: Vec<(usize, bool)> =
        data.not_compared.iter().map(|not| (not.survivor, not.is_damaged)).collect();
    assert_eq!(not, [(2, true)]);
    assert_eq!(data.groups.len(), 1);
    assert_eq!((data.groups[0].survivors.as_slice(), data.compared_to), (&[0, 1][..], Some(31)));
}

fn refused(paths: &[PathBuf]) -> SurvivorsError {
    let given: Vec<GivenPath> = paths.iter().cloned().map(GivenPath::from).collect();
    gather(&given, &FactsOptions::default(), &()).unwrap_err()
}

#[test]
fn one_file_by_two_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    survivors(&[member(&[(0, Some(1))], 0)], dir.path());
    let (file, link) = (dir.path().join("0.db"), dir.path().join("link"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let hard = dir.path().join("hard");
    fs::hard_link(&file, &hard).unwrap();
    for other in [file.clone(), link, hard] {
        let error = refused(&[file.clone(), other]);
        assert!(matches!(&error, SurvivorsError::SameTwice { .. }), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    assert!(matches!(refused(&[]), SurvivorsError::None));
}
