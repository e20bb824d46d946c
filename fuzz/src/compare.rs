//! Two members held against each other.

use std::fs;
use std::io;
use std::path::Path;

use snapshot::certainty::Class;
use snapshot::compare::{CompareOptions, compare};
use snapshot::facts::FactsOptions;
use snapshot::schema::{CONSISTENT_INDEX, TERM};
use snapshot::survivors::{GivenPath, gather};

use crate::key_space::file;
use crate::wal::logs_of;

/// A data dir of this log, its db being at the entry `consistent_index`.
pub(crate) fn member(dir: &Path, consistent_index: u8, log: &[(String, Vec<u8>)]) -> io::Result<()> {
    let meta = [
        (CONSISTENT_INDEX.to_vec(), u64::from(consistent_index).to_be_bytes().to_vec()),
        (TERM.to_vec(), 1u64.to_be_bytes().to_vec()),
    ];
    let db = file(&[], &meta).map_err(io::Error::other)?;
    let (snap, wal) = (dir.join("member/snap"), dir.join("member/wal"));
    fs::create_dir_all(&snap)?;
    fs::create_dir_all(&wal)?;
    fs::write(snap.join("db"), db)?;
    log.iter().try_for_each(|(name, bytes)| fs::write(wal.join(name), bytes))
}

/// Lays two members out and shows them to `look`, with their logs as they are and then with every checksum repaired: of `bytes` the
/// entries to which their dbs have come, one byte each, the length of the first one's log, and their logs.
pub(crate) fn of_two(bytes: &[u8], mut look: impl FnMut(&Path, [GivenPath; 2])) {
    let [one_at, other_at, low, high, logs @ ..] = bytes else { return };
    let len = usize::from(u16::from_le_bytes([*low, *high])).min(logs.len());
    let (one, other) = logs.split_at(len);
    for (one, other) in logs_of(one).into_iter().zip(logs_of(other)) {
        let Ok(dir) = tempfile::tempdir() else { return };
        let (first, second) = (dir.path().join("one"), dir.path().join("other"));
        if member(&first, *one_at, &one).and_then(|()| member(&second, *other_at, &other)).is_err() {
            return;
        }
        look(dir.path(), [GivenPath::from(first), GivenPath::from(second)]);
    }
}

/// Compares [two members](of_two). Who is named is one of them, what is certain is one history, and nothing is both certain
/// and not committed.
pub(crate) fn pair(bytes: &[u8]) {
    of_two(bytes, |_, given| {
        let survivors = match gather(&given, &FactsOptions::default(), &()) {
            Ok(survivors) => survivors,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        };
        let judgement = &survivors.judgement;
        let mut behind = 0;
        for judged in &judgement.chain {
            assert!(judged.first > behind && judged.first <= judged.last, "{judgement:?}");
            assert!(judged.class != Class::NotCommitted, "{judgement:?}");
            behind = judged.last;
        }
        for judged in judgement.chain.iter().chain(&judgement.branches) {
            assert!(judged.holders.iter().all(|at| survivors.witness(*at).is_some()), "{judgement:?}");
            assert!(!survivors.called(&judged.holders).is_empty(), "{judgement:?}");
        }
        match compare(&survivors, &CompareOptions::default(), &()) {
            Ok(comparison) => assert!(comparison.members.len() <= survivors.all.len()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}
