//! The laboratory's ledger says of a database what the server says that wrote it, and its book of damage what the bytes say.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeSet;

use testdata::damage::Rng;
use testdata::key_space::KeySpace;
use testdata::laboratory::{DAMAGES, Damage, Ledger, Served, What};
use testdata::oracle::Version;

/// Rows that a database without a freelist leaves as it is.
fn needs_a_freelist(damage: &Damage) -> bool {
    damage.name.starts_with("freelist-")
}

fn the_ledger_is_the_servers(served: &Served, newer_rule: bool) {
    let Served { specimen, hash, listing, .. } = served;
    let (ledger, (revision, compacted)) = (specimen.ledger(), specimen.revisions());
    assert_eq!((revision, compacted), (hash.revision, hash.compact_revision));
    let space = KeySpace::new(ledger.truth.clone(), Some(compacted), Some(compacted), newer_rule).unwrap();
    assert_eq!(u64::from(space.hashkv(revision)), hash.hash);
    assert_eq!(space.list(revision), *listing);
    let keys: BTreeSet<&[u8]> = listing.iter().map(|kv| kv.key.as_slice()).collect();
    let alive = Ledger::alive(&ledger.truth);
    assert_eq!(alive.keys().map(Vec::as_slice).collect::<BTreeSet<_>>(), keys);

    // Enough to be damaged: records that were compacted, records that lie in freed pages too, values over several pages.
    let counts = ledger.counts();
    assert!(counts.iter().all(|count| *count > 0));
    let twice = counts.iter().filter(|count| **count > 1).count();
    assert!(twice > 50, "{twice} of {} lie in freed pages too", counts.len());
    assert!(ledger.history.len() > ledger.truth.len() + 500);
    assert!(ledger.truth.values().filter(|value| value.len() > 2 * 4096).count() > 5);
    assert!(specimen.meta().high_water_mark * 4096 > 5 << 18, "{:?}", specimen.meta());
    assert!(specimen.nodes_of_key().filter(|node| !node.is_leaf).count() > 3);
}

fn the_book_is_right(served: &Served) {
    let specimen = &served.specimen;
    let all = specimen.ledger().truth.len();
    for damage in DAMAGES.iter().filter(|damage| !needs_a_freelist(damage)) {
        let mut again = Vec::new();
        for _ in 0..2 {
            let mut damaged = specimen.whole();
            let is_done = damage.apply(specimen, &mut damaged, &mut Rng::seeded_by(damage.name));
            assert!(is_done && damaged.bytes() != specimen.whole().bytes(), "{}", damage.name);
            again.push(damaged);
        }
        assert_eq!(again[0].bytes(), again[1].bytes(), "{}", damage.name);
        let damaged = &again[0];
        damaged.assert_booked(&specimen.files());
        let there = specimen.there(damaged);
        let seen = specimen.ledger().seen(damaged.file());
        assert!(there.is_subset(&seen), "{}", damage.name);
        // A header may be damaged, or a run cut in two, and what is read of it be right all the same.
        assert!(
            seen.len() - there.len() <= all / 20,
            "{}: {} seen, {} there",
            damage.name,
            seen.len(),
            there.len()
        );
        let keeps_all =
            matches!(damage.what, What::Metas(..) | What::YoungMetas | What::Cycle | What::RootInKey);
        assert!(!keeps_all || there.len() == all, "{}", damage.name);
        assert!(
            !there.is_empty() || damage.what == What::Truncated,
            "{}: nothing of {all} left",
            damage.name
        );
    }
}

fn trial(version: Version, newer_rule: bool) {
    let scratch = tempfile::tempdir().unwrap();
    let served = Served::new(version, 1, true, scratch.path());
    the_ledger_is_the_servers(&served, newer_rule);
    the_book_is_right(&served);
    assert!(served.data_dir.join("member/wal").is_dir());
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_ledger_of_3_4() {
    trial(Version::V3_4, false);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_ledger_of_3_5_1() {
    trial(Version::V3_5_1, false);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_a_ledger_of_3_5_new() {
    trial(Version::V3_5New, true);
}
