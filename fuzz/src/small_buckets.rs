//! Leases, users and roles, alarms: whatever the bytes are, reading them ends, and what is edited is sound and says what it was
//! to say.

use bbolt::check::Severity;
use bbolt::{Db, check};
use snapshot::alarm;
use snapshot::auth::{Auth, Reset, ResetError, reset};
use snapshot::lease::{Attached, Leases};
use snapshot::mvcc::{Index, IndexOptions};
use snapshot::schema::Schema;

use crate::db::repair_metas;

/// Reads and edits the file with its metas repaired.
pub(crate) fn all(bytes: &[u8]) {
    let file = repair_metas(bytes);
    let Ok(db) = Db::from_source(&file) else { return };
    leases(&db);
    let sound = check(&db, &()).findings.iter().all(|finding| finding.severity != Severity::Error);
    let _ = Auth::read(&db);
    let (disabled, disarmed) = (reset(&db, &Reset::Disable), alarm::disarmed(&db));
    let nobody = Reset::Password { user: b"nobody of this name".to_vec(), password: b"pw".to_vec() };
    assert!(!matches!(reset(&db, &nobody), Err(ResetError::AlreadyOff)));
    if !sound {
        return;
    }
    if let Ok(edit) = disabled {
        let mut edited = file.clone();
        edit.patch.apply_to_vec(&mut edited);
        let (before, after) = (Auth::read(&db), read_sound(&edited, |db| Auth::read(db).ok()));
        let (Ok(before), Some(after)) = (before, after) else { panic!("users cannot be read any more") };
        assert!(before.enabled && !after.enabled && !edit.enabled);
        assert_eq!(before.revision.checked_add(1), Some(after.revision));
        assert_eq!((before.users, before.roles), (after.users, after.roles));
    }
    if let Ok(patch) = disarmed {
        let mut edited = file.clone();
        patch.apply_to_vec(&mut edited);
        let schema = read_sound(&edited, |db| Schema::read(db).ok());
        assert!(schema.is_none_or(|schema| schema.alarms.is_empty() && schema.unreadable_alarms == 0));
    }
}

fn read_sound<T>(file: &Vec<u8>, read: impl FnOnce(&Db<&Vec<u8>>) -> Option<T>) -> Option<T> {
    let Ok(db) = Db::from_source(file) else { panic!("an edited file does not open") };
    if let Some(finding) = check(&db, &()).findings.iter().find(|finding| finding.severity == Severity::Error)
    {
        panic!("an edited file is not sound: {}", finding.fault);
    }
    read(&db)
}

fn leases(db: &Db<&Vec<u8>>) {
    let Ok(leases) = Leases::read(db) else { return };
    assert_eq!(leases.by_expiry().len(), leases.len());
    let Ok(index) = Index::build(db, &IndexOptions::default(), &()) else { return };
    let store = *index.store();
    for revision in [store.first_kept(), store.current_revision] {
        let Ok(attached) = Attached::at(&index, revision, &()) else { continue };
        let mut keys = 0;
        for of_one in attached.by_lease() {
            assert!(!of_one.is_empty() && attached.keys_of(of_one[0].lease) == of_one);
            keys += of_one.len();
        }
        assert!(keys <= index.key_count());
        let bare = leases.without_keys(&attached).count();
        assert!(bare <= leases.len());
        let named_and_there = attached.by_lease().filter(|keys| leases.has(keys[0].lease)).count();
        assert_eq!(bare + named_and_there, leases.len());
        let all_there = attached.by_lease().all(|keys| leases.has(keys[0].lease));
        if let Ok(gone) = leases.gone(&index, &attached) {
            assert_eq!(gone.is_none(), all_there);
        }
    }
}
