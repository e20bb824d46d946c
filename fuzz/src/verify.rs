//! Every check of a member's directory.

use std::fs;

use snapshot::facts::FactsOptions;
use snapshot::verify::{Expected, verify};

use crate::db::repair_metas;

/// Verifies a data dir whose db is the input: with no log, and with a `.snap` and a segment made of the same bytes.
pub(crate) fn of_a_member(bytes: &[u8]) {
    let db = repair_metas(bytes);
    let Ok(dir) = tempfile::tempdir() else { return };
    let (snap, wal) = (dir.path().join("member/snap"), dir.path().join("member/wal"));
    if fs::create_dir_all(&snap).is_err() || fs::write(snap.join("db"), &db).is_err() {
        return;
    }
    for with_log in [false, true] {
        if with_log {
            let written = fs::create_dir_all(&wal)
                .and_then(|()| fs::write(wal.join(wal::segment_name(0, 0)), bytes))
                .and_then(|()| fs::write(snap.join(wal::snap_name(1, 2)), bytes));
            if written.is_err() {
                return;
            }
        }
        let Ok(report) = verify(dir.path(), &FactsOptions::default(), &()) else { continue };
        assert!(!report.checked.is_empty());
        for prediction in &report.verdict.predictions {
            assert!(!matches!(&prediction.expected, Expected::Unknown(why) if why.is_empty()));
        }
    }
}
