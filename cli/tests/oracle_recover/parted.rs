//! A member whose data parted from that of the others: found down to the first revision, outvoted by two, and without a majority
//! taken from nobody who was not named.

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use testdata::damage::Rng;
use testdata::oracle::{Tools, Trio, Version, tag_in};
use testdata::plain_log::PlainLog;

use super::kept::db_of;
use super::real::Real;
use super::records::{Records, hash_at};
use super::support::{Plan, text};
use super::told::{Comparison, Recovery};

const NAME: &[u8] = b"consistent_index";

/// Makes a database say that it has one entry more than it has, as servers of 3.5.0 to 3.5.2 may leave it when they are killed
/// (etcd issue 13766). Pages carry no checksum.
fn skip_an_entry(db: &Path, to: u64) {
    let mut bytes = fs::read(db).unwrap();
    let found: Vec<usize> =
        (0..bytes.len() - NAME.len()).filter(|at| bytes[*at..].starts_with(NAME)).collect();
    assert!(!found.is_empty());
    for at in found {
        let value = at + NAME.len();
        bytes[value..value + 8].copy_from_slice(&to.to_be_bytes());
    }
    fs::write(db, bytes).unwrap();
}

/// Clusters that are made before one is there whose first two members agree: killed servers of 3.5.1 part by themselves in one of
/// some dozen.
const CLUSTERS: usize = 6;

/// Three members that were stopped, the last of which never applied one of the writes, and the first revision at which it parts from
/// the others.
fn parted(version: Version, scratch: &Path) -> (Vec<PathBuf>, i64) {
    let mut rng = Rng::seeded_by("parted");
    for number in 0..CLUSTERS {
        let scratch = scratch.join(format!("cluster-{number}"));
        fs::create_dir(&scratch).unwrap();
        let (dirs, agree) = one_skipped(version, &scratch, &mut rng);
        let records: Vec<Records> = dirs.iter().map(|dir| Records::of(&db_of(dir))).collect();
        if agree {
            return (dirs, Records::parting(&records).unwrap());
        }
        assert_eq!(version, Version::V3_5_1, "the members parted by themselves");
        let pair = Comparison::of(&[&dirs[0], &dirs[1]]);
        assert!(!pair.agree, "{:?}", pair.run);
        assert_eq!(pair.first_revision, Records::parting(&records[..2]), "{:?}", pair.run);
    }
    panic!("{CLUSTERS} clusters in a row parted by themselves");
}

/// Three members that were stopped, the last of which never applied one of the writes, and whether the other two agree.
fn one_skipped(version: Version, scratch: &Path, rng: &mut Rng) -> (Vec<PathBuf>, bool) {
    let flags: Vec<String> = Vec::new();
    let mut trio = Trio::start(version, scratch, &flags);
    let _ = trio.loaded_and_killed("r0", rng);
    let dirs: Vec<PathBuf> = trio.members().iter().map(|member| member.data_dir().to_owned()).collect();
    let early = scratch.join("early.db");
    fs::copy(db_of(&dirs[2]), &early).unwrap();
    trio.spawn_again(&[0, 1, 2], &flags);
    let _ = trio.ready(&[0, 1, 2]);
    let _ = trio.loaded_and_killed("r1", rng);

    // The db of a moment ago, and the first entry behind it that is a client's: that one is left out.
    let log = PlainLog::read(&dirs[2].join("member/wal"));
    let applied = Records::of(&early).consistent_index;
    let is_write = |index: &u64| log.entries.get(index).is_some_and(|entry| tag_in(&entry.data).is_some());
    let skipped = (applied + 1..=log.last_index()).find(is_write).unwrap();
    fs::copy(&early, db_of(&dirs[2])).unwrap();
    skip_an_entry(&db_of(&dirs[2]), skipped);

    trio.spawn_again(&[0, 1, 2], &flags);
    let mut real = Real::settled(&mut trio, &[0, 1, 2], "r2");
    // A revision that a member has which lost one or two.
    real.revision -= 3;
    let hashes = real.hashes();
    assert!(hashes[0] != hashes[2] && hashes[1] != hashes[2], "{hashes:x?}");
    trio.stop();
    (dirs, hashes[0] == hashes[1])
}

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_member_that_skipped_a_write_is_found_and_outvoted(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let (dirs, first) = parted(version, scratch.path());
    let dirs: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
    for members in [&dirs[..], &dirs[1..], &[dirs[2], dirs[0]]] {
        let comparison = Comparison::of(members);
        assert!(!comparison.agree, "{:?}", comparison.run);
        assert_eq!(comparison.first_revision, Some(first), "{:?}", comparison.run);
    }
    let both = Comparison::of(&dirs[..2]);
    assert!(both.agree, "{:?}", both.run);

    let release = Tools::find(version).release();
    let (plan, sound) = (Plan::new(1), db_of(dirs[0]));
    let is_the_first_ones = |output: &Path, recovery: &Recovery| {
        let (db, revision) = (db_of(&output.join("m1")), recovery.revision());
        assert_eq!(revision, Records::of(&sound).revision(), "{:?}", recovery.run);
        assert_eq!(
            hash_at(&db, revision, &release),
            hash_at(&sound, revision, &release),
            "{:?}",
            recovery.run
        );
    };
    let at = |name: &str| scratch.path().join(name);
    let of_all = Recovery::of(&[dirs[2], dirs[1], dirs[0]], &at("all"), &plan.initial_cluster(), &[]);
    assert_eq!(of_all.code, 3, "{:?}", of_all.run);
    assert!(of_all.findings().contains(&"ETCD-DATA-DIFFERS".to_owned()), "{:?}", of_all.run);
    is_the_first_ones(&at("all"), &of_all);

    let two = [dirs[2], dirs[0]];
    let refused = Recovery::of(&two, &at("two"), &plan.initial_cluster(), &[]);
    assert!(refused.code == 4 && refused.run.stderr.contains("--base"), "{:?}", refused.run);
    assert!(!at("two").exists());
    let chosen = Recovery::of(&two, &at("two"), &plan.initial_cluster(), &["--base", text(dirs[0])]);
    assert_eq!(chosen.code, 3, "{:?}", chosen.run);
    is_the_first_ones(&at("two"), &chosen);
}
