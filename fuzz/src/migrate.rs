//! Making a member fit another version.

use snapshot::log_files::LogOptions;
use snapshot::migrate::needs::of_entry;
use snapshot::migrate::{MigrateOptions, migrate, target, version_of};
use snapshot::opened::{self, InputOptions};
use snapshot::schema::Schema;
use snapshot::semver::Semver;
use wal::EntryRef;

use crate::compare::member;
use crate::wal::logs_of;

/// Migrates a member whose log is the rest of the bytes; the first one says to which version, and whether by force. What comes out is of
/// that version, and the way there and back leaves nothing behind.
pub(crate) fn any(bytes: &[u8]) {
    texts(bytes);
    for entry_type in 0..4 {
        if let Ok(Some(need)) = of_entry(&EntryRef { entry_type, data: bytes, ..EntryRef::default() }) {
            assert!(!need.by.is_empty());
        }
    }
    let [how, log @ ..] = bytes else { return };
    for files in logs_of(log) {
        let Ok(dir) = tempfile::tempdir() else { return };
        let data_dir = dir.path().join("data");
        if member(&data_dir, 1, &files).is_err() {
            return;
        }
        let to = |minor, force| MigrateOptions {
            target: Semver::minor(3, minor),
            force,
            ..MigrateOptions::default()
        };
        let (up, force) = (i64::from(5 + how % 4), how & 0x80 != 0);
        for (minor, force) in [(up, force), (5, false), (5, true)] {
            let options = to(minor, force);
            let Ok(input) = opened::open(&data_dir, &InputOptions::default(), &()) else {
                panic!("the database does not open any more")
            };
            let from = version(&input);
            let ran = migrate(&input, &LogOptions::default(), &options, &());
            drop(input);
            let Ok(input) = opened::open(&data_dir, &InputOptions::default(), &()) else {
                panic!("the database does not open any more")
            };
            match ran {
                Ok(report) => {
                    assert_eq!(version(&input), Some(options.target.clone()), "{report:?}");
                    assert!(force || report.forced.is_none(), "{report:?}");
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    assert_eq!(version(&input), from, "{error}");
                }
            }
        }
    }
}

fn version(input: &opened::Opened) -> Option<Semver> {
    version_of(&Schema::read(&input.db().ok()?).ok()?)
}

/// A version is read as it was written, and comes neither before nor after itself.
fn texts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(version) = Semver::parse(&text) {
        assert_eq!(Semver::parse(&version.to_string()).ok().as_ref(), Some(&version));
        assert!(!version.is_before(&version));
    }
    if let Ok(version) = target(&text) {
        assert!(!version.is_before(&Semver::minor(3, 5)));
    }
}
