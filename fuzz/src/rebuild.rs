//! Rebuilding whatever opens, also edited on the way: what comes out is sound and holds what went in.

use bbolt::rebuild::{Edits, Put, Revise, content, edit, edited_bytes};
use bbolt::{Db, RebuildError, RebuildOptions, check, rebuild};

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
    edited(&db);
}

/// Leaves out every third pair, and appends one behind all that a test writes.
struct Thirds;

impl Revise for Thirds {
    fn keeps(&self, ordinal: u64) -> bool {
        ordinal % 3 != 2
    }

    fn append(&self, put: &mut Put<'_>) -> Result<(), RebuildError> {
        put(&[0xff; 40], b"appended")
    }
}

/// Bucket `key` sifted, `meta` replaced: sound, as long as was foretold, or an error and no database.
fn edited(db: &Db<&[u8]>) {
    let mut edits = Edits::default();
    edits.revise(b"key", &Thirds);
    edits.replace(b"meta", [(b"k".to_vec(), b"v".to_vec())].into());
    let options = RebuildOptions::default();
    let mut out = Vec::new();
    let Ok(rebuilt) = edit(db, &mut out, &options, &edits, &()) else {
        assert!(Db::from_source(out.as_slice()).is_err(), "a failed run left a database");
        return;
    };
    assert_eq!(edited_bytes(db, &options, &edits, &()).ok(), Some(out.len() as u64));
    let new = match Db::from_source(out.as_slice()) {
        Ok(new) => new,
        Err(error) => panic!("{error}"),
    };
    let report = check(&new, &());
    assert!(report.findings.is_empty() && report.is_sound(), "{:?}", report.findings);
    assert_eq!(content(&new, &()).ok(), Some(rebuilt.content));
}
