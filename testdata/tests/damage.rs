//! The table of damage can be made, is the same each time, and changes what its rows say.
#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use testdata::damage::{Base, DAMAGES, LOG_VERSIONS, Remedy};

/// The four real logs come first, unchanged.
const REAL: usize = 4;

#[test]
fn names_differ_and_codes_are_sorted() {
    let names: BTreeSet<&str> = DAMAGES.iter().map(|damage| damage.name).collect();
    assert_eq!(names.len(), DAMAGES.len());
    for damage in DAMAGES {
        assert!(damage.codes.is_sorted(), "{}", damage.name);
        assert!(damage.name.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric()), "{}", damage.name);
        assert!(damage.remedy != Remedy::Lossless || !damage.codes.is_empty(), "{}", damage.name);
    }
}

/// The rows on logs of one segment, each on one version's log; those on several segments are large, and the oracle tests
/// make them.
#[test]
fn every_row_changes_its_files_and_does_so_again() {
    let scratch = tempfile::tempdir().unwrap();
    for base in [Base::Killed, Base::Overwritten] {
        let clean = LOG_VERSIONS.map(|version| {
            let member = base.unpack(version, &scratch.path().join(version).join(base.name()));
            let content = contents(member.path());
            (member, content)
        });
        for (number, damage) in DAMAGES.iter().enumerate().filter(|(_, damage)| damage.base == base) {
            let (member, content) = &clean[number % clean.len()];
            let make = || {
                let dir = scratch.path().join("copy");
                damage.damage(&mut member.copy_to(&dir));
                let found = contents(&dir);
                std::fs::remove_dir_all(&dir).unwrap();
                found
            };
            let made = make();
            assert_eq!(made == *content, number < REAL, "{}", damage.name);
            if number % 8 == 5 {
                assert_eq!(made, make(), "{}", damage.name);
            }
        }
        for (member, content) in &clean {
            assert_eq!(contents(member.path()), *content, "a copy was no copy");
        }
    }
}

/// Names, lengths and first MiB (in which all records are) of the segments and `.snap` files in a data dir.
fn contents(dir: &Path) -> BTreeMap<String, (u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for part in ["member/wal", "member/snap"] {
        for entry in std::fs::read_dir(dir.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = Vec::new();
            let file = File::open(&path).unwrap();
            let len = file.metadata().unwrap().len();
            if !path.ends_with("db") {
                file.take(1 << 20).read_to_end(&mut bytes).unwrap();
            }
            found.insert(path.strip_prefix(dir).unwrap().display().to_string(), (len, bytes));
        }
    }
    found
}
