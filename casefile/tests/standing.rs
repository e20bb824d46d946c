//! How far an answer may be believed: entries that do not count, databases that are damaged or behind their logs, other clusters.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

#[allow(dead_code, reason = "others compact it, too")]
#[path = "../../snapshot/tests/common/space.rs"]
mod space;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use casefile::rows::{EntryStanding, LogRow, Parting, RevisionRow, Standing};
use casefile::{AddOptions, Case, LogQuery, Timeline, add};
use snapshot::mvcc::{KeyValue, Revision};
use space::Space;

/// A case of these sources.
fn case_of(dir: &Path, sources: &[(&str, &Path)]) -> Case {
    let path = dir.join("c.case");
    Case::create(&path, "case new").unwrap();
    for (name, source) in sources {
        add(&path, name, source, &AddOptions::default(), &()).unwrap();
    }
    Case::open(&path).unwrap()
}

fn at(case: &Case, revision: i64) -> (Vec<RevisionRow>, casefile::rows::At) {
    let mut rows = Vec::new();
    let at = case.at(revision, b"", &mut |row| {
        rows.push(row.clone());
        ControlFlow::Continue(())
    });
    (rows, at.unwrap())
}

fn log(case: &Case) -> Vec<LogRow> {
    let mut rows = Vec::new();
    case.log(&LogQuery::default(), &mut |row| {
        rows.push(row.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

/// testdata/README.md, `overwritten`: n1's entries `/lost/1` to `/lost/8` were never committed, whatever stands at their indexes now.
#[test]
fn entries_that_were_overwritten_are_not_committed() {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("3.4.23/overwritten/three.tar.zst", scratch.path());
    let n1 = ["n1", "three/n1"]
        .map(|below| scratch.path().join(below))
        .into_iter()
        .find(|dir| dir.is_dir())
        .unwrap();
    let case = case_of(scratch.path(), &[("n1", &n1)]);
    for number in 1..=8 {
        let life = case.key(format!("/lost/{number}").as_bytes()).unwrap();
        assert!(life.steps.is_empty());
        assert!(!life.log.is_empty());
        for row in &life.log {
            assert_eq!((row.standing, row.committed), (EntryStanding::Overwritten, false));
        }
    }
    let kept = case.key(b"/kept/after/1").unwrap();
    assert!(kept.log.iter().any(|row| row.standing == EntryStanding::Counts && row.committed));
}

/// What stands behind a break is no part of the log that a server has.
#[test]
fn a_log_reaches_as_far_as_a_server_comes() {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/single/data.tar.zst", scratch.path());
    let dir = ["data", "."]
        .map(|below| scratch.path().join(below))
        .into_iter()
        .find(|dir| dir.join("member").is_dir())
        .unwrap();
    let sound = case_of(scratch.path(), &[("sound", &dir)]);
    let entries = log(&sound);
    let middle = &entries[entries.len() / 2];
    let source = &sound.sources()[0];
    let segment = dir.join(&source.files[middle.file].path);
    let mut bytes = fs::read(&segment).unwrap();
    let place = usize::try_from(middle.offset).unwrap() + 12;
    bytes[place] ^= 0x20;
    fs::write(&segment, bytes).unwrap();
    fs::remove_file(sound.path()).unwrap();
    let broken = case_of(scratch.path(), &[("broken", &dir)]);
    let summary = broken.sources()[0].log.as_ref().unwrap();
    assert!(summary.last.unwrap_or_default() < middle.index, "{summary:?}");
    assert!(summary.terms.iter().all(|run| run.last < middle.index));
    for row in log(&broken) {
        let is_reached = row.index < middle.index;
        assert_eq!(row.standing == EntryStanding::Counts, is_reached, "{row:?}");
        assert!(is_reached || !row.committed, "{row:?}");
    }
}

#[test]
fn entries_say_which_lease_path_or_revision_they_are_about() {
    let scratch = tempfile::tempdir().unwrap();
    testdata::unpack("3.4.23/segments/data.tar.zst", scratch.path());
    let single = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/single/data.tar.zst", single.path());
    let dir = |root: &Path| {
        ["data", "."]
            .map(|below| root.join(below))
            .into_iter()
            .find(|dir| dir.join("member").is_dir())
            .unwrap()
    };
    let case =
        case_of(scratch.path(), &[("segments", &dir(scratch.path())), ("single", &dir(single.path()))]);
    let rows = log(&case);
    for row in &rows {
        assert_eq!(row.compacts.is_some(), row.kind == "compaction", "{row:?}");
        if row.kind.starts_with("lease_") {
            assert!(!row.leases.is_empty() || row.kind == "lease_checkpoint", "{row:?}");
        }
    }
    // Versions and members are told by way of the v2 store.
    assert!(
        rows.iter().any(|row| row.kind == "v2" && !row.paths.is_empty()),
        "{:?}",
        rows.iter().map(|row| &row.kind).collect::<std::collections::BTreeSet<_>>()
    );
    // A key that went with its lease: the entry that took it names the lease, not the key.
    let revoked: Vec<i64> =
        rows.iter().filter(|row| row.kind == "lease_revoke").flat_map(|row| row.leases.clone()).collect();
    assert!(!revoked.is_empty());
    let mut with_lease = Vec::new();
    case.timeline(&Timeline::default(), &mut |row| {
        if revoked.contains(&row.lease) {
            with_lease.push(row.clone());
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    for row in with_lease {
        let life = case.key(&row.key).unwrap();
        assert!(
            life.log.iter().any(|entry| entry.kind == "lease_revoke" && entry.leases.contains(&row.lease))
        );
    }
}

#[test]
fn the_numbers_of_two_clusters_have_nothing_to_do_with_each_other() {
    let scratch = tempfile::tempdir().unwrap();
    let dirs = ["3.4.23/segments", "3.5.16/segments"].map(|name| {
        let root = scratch.path().join(name);
        fs::create_dir_all(&root).unwrap();
        testdata::unpack(&format!("{name}/data.tar.zst"), &root);
        ["data", "."]
            .map(|below| root.join(below))
            .into_iter()
            .find(|dir| dir.join("member").is_dir())
            .unwrap()
    });
    let case = case_of(scratch.path(), &[("one", &dirs[0]), ("other", &dirs[1])]);
    let diff = case.diff(&case.sources()[0], &case.sources()[1], &mut |_| ControlFlow::Continue(())).unwrap();
    let ids = [0, 1].map(|at| case.sources()[at].identity.cluster.unwrap());
    assert_eq!(diff.clusters, Some((ids[0], ids[1])));
    assert_eq!((diff.log_common, diff.log_part), (None, None));
}

/// Each leaf of a database in turn is gone: what is told to be the state is, or is told to be doubtful.
#[test]
fn a_state_that_damage_may_have_made_old_is_told_to_be() {
    let mut space = Space::default();
    for round in 0..40 {
        for key in 0..30 {
            space.put(&format!("key/{key:02}"), &format!("{round} {}", "v".repeat(60)));
        }
    }
    space.delete("key/07");
    let file = space.file();
    let truth = |revision: i64| {
        let mut state: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for (id, record) in &space.records {
            let (id, kv) = (Revision::parse(id).unwrap(), KeyValue::decode(record).unwrap());
            if id.main <= revision && id.tombstone {
                state.remove(kv.key);
            } else if id.main <= revision {
                state.insert(kv.key.to_vec(), id.main);
            }
        }
        state
    };
    let leaves: Vec<usize> = (2..file.len() / 4096).filter(|page| file[page * 4096 + 8] == 2).collect();
    assert!(leaves.len() > 20);
    let (mut old, mut lost_end) = (0, 0);
    for (number, page) in
        leaves.iter().enumerate().filter(|(number, _)| number % 4 == 0 || number + 3 > leaves.len())
    {
        let scratch = tempfile::tempdir().unwrap();
        let (good, bad) = (scratch.path().join("good.db"), scratch.path().join("bad.db"));
        fs::write(&good, &file).unwrap();
        let mut damaged = file.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0);
        fs::write(&bad, damaged).unwrap();
        let case = case_of(scratch.path(), &[("good", &good), ("bad", &bad)]);
        let source = &case.sources()[1];
        let Some(space_of) = &source.key_space else { continue };
        if space_of.is_whole() {
            // The leaf was not one of the key space.
            continue;
        }
        for revision in [100, 600, space.revision - 20, space.revision] {
            let truth = truth(revision);
            let (rows, told) = at(&case, revision);
            for row in &rows {
                let by_bad = row.held.iter().any(|held| held.source == 1);
                let by_good = row.held.iter().any(|held| held.source == 0);
                assert_eq!(by_good, truth.get(&row.key) == Some(&row.main), "page {page}, {row:?}");
                if by_bad && truth.get(&row.key) != Some(&row.main) {
                    assert!(row.may_be_old, "page {page} ({number}) at {revision}: {row:?}");
                    old += 1;
                }
            }
            assert_eq!(told.contested, 0, "damage contradicts nobody");
            assert_ne!(told.standings[1].1, Standing::Asked);
        }
        let mut rows = Vec::new();
        let diff = case.diff(&case.sources()[0], source, &mut |row| {
            rows.push(row.clone());
            ControlFlow::Continue(())
        });
        let diff = diff.unwrap();
        assert_eq!((diff.part, diff.differs, diff.missing), (None, 0, 0));
        assert!(diff.unreadable > 0 && rows.iter().all(|row| row.parting == Parting::Unreadable));
        lost_end += u64::from(rows.iter().any(|row| row.a.as_ref().unwrap().main == space.revision));
    }
    assert!(old > 0 && lost_end > 0);
}
