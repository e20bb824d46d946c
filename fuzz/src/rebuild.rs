//! Rebuilding whatever opens: what comes out is sound and holds what went in.

use bbolt::rebuild::content;
use bbolt::{Db, RebuildOptions, check, rebuild};

use crate::db;

/// Opens the bytes, as they are and with the metas' checksums set right, and streams them into a new file at both fills
/// that commands use.
pub(crate) fn any(bytes: &[u8]) {
    stream(bytes);
    stream(&db::repair_metas(bytes));
}

fn stream(bytes: &[u8]) {
    let Ok(db) = Db::from_source(bytes) else { return };
    for leaf_fill_percent in [90, 100] {
        let mut out = Vec::new();
        let options = RebuildOptions { leaf_fill_percent, ..RebuildOptions::default() };
        let Ok(rebuilt) = rebuild(&db, &mut out, &options, &()) else {
            assert!(Db::from_source(out.as_slice()).is_err(), "a failed run left a database");
            continue;
        };
        let new = match Db::from_source(out.as_slice()) {
            Ok(new) => new,
            Err(error) => panic!("{error}"),
        };
        let report = check(&new, &());
        assert!(report.findings.is_empty() && report.is_sound(), "{:?}", report.findings);
        assert_eq!(content(&new, &()).ok(), Some(rebuilt.content));
        assert_eq!(content(&db, &()).ok(), Some(rebuilt.content));
    }
}
