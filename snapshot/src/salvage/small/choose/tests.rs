use super::*;
use crate::mvcc::Revision;
use crate::schema::{FINISHED_COMPACT, LeaseRow, RoleRow, SCHEDULED_COMPACT, STORAGE_VERSION, UserOptions};
use prost::Message;

fn rows<const N: usize>(pairs: [(&[u8], Vec<u8>); N]) -> Rows {
    Rows { pairs: pairs.map(|(key, value)| (key.to_vec(), value)).into(), is_whole: true }
}

fn user(name: &[u8], role: &[u8]) -> Vec<u8> {
    let options = Some(UserOptions::default());
    UserRow { name: name.to_vec(), password: b"x".to_vec(), roles: vec![role.to_vec()], options }
        .encode_to_vec()
}

fn lease(id: i64) -> (Vec<u8>, Vec<u8>) {
    (id.to_be_bytes().to_vec(), LeaseRow { id, ttl: 60, remaining_ttl: 0 }.encode_to_vec())
}

fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// All there is of a sound tree, at entry `index`.
fn whole(name: &str, index: u64) -> Generation {
    let role = RoleRow { name: b"root".to_vec(), permissions: vec![] }.encode_to_vec();
    let member = br#"{"id":8,"peerURLs":["http://a:1"]}"#.to_vec();
    let buckets = BTreeMap::from([
        (
            Name::Meta,
            rows([
                (CONSISTENT_INDEX, number(index)),
                (TERM, number(3)),
                (STORAGE_VERSION, b"3.6.0".to_vec()),
            ]),
        ),
        (Name::Lease, Rows { pairs: [lease(1), lease(2)].into(), is_whole: true }),
        (Name::Alarm, rows([])),
        (Name::Auth, rows([(AUTH_ENABLED, vec![1]), (AUTH_REVISION, number(index / 10))])),
        (Name::AuthUsers, rows([(b"root", user(b"root", b"root"))])),
        (Name::AuthRoles, rows([(b"root", role)])),
        (Name::Members, rows([(b"8", member)])),
        (Name::MembersRemoved, rows([(b"9", b"removed".to_vec())])),
        (Name::Cluster, rows([(CLUSTER_VERSION, b"3.6.0".to_vec())])),
    ]);
    Generation { name: name.to_owned(), buckets }
}

fn without(mut generation: Generation, buckets: &[Name]) -> Generation {
    generation.buckets.retain(|name, _| !buckets.contains(name));
    generation
}

fn choice(chosen: &Chosen, bucket: Name) -> &Choice {
    chosen.choices.iter().find(|choice| choice.bucket == bucket).unwrap()
}

const AT: Wanted<'static> = Wanted {
    point: Some(Point { entry: Some((70, 3)), is_beyond: false, compacted: Some(40) }),
    leases: None,
};

#[test]
fn a_sound_tree_is_taken_as_it_is() {
    let tree = whole("tree", 70);
    let stale = whole("stale", 20);
    let chosen = choose(&[tree.clone(), stale], &[], &AT);
    assert_eq!(chosen.choices.len(), Name::ALL.len());
    for choice in &chosen.choices {
        assert_eq!((&choice.origin, choice.suspect), (&Origin::Tree, 0), "{choice:?}");
        assert_eq!(choice.consequences, []);
        if choice.bucket != Name::Meta {
            assert_eq!(chosen.buckets[&choice.bucket], tree.buckets[&choice.bucket].pairs);
        }
    }
    let meta = &chosen.buckets[&Name::Meta];
    let forty = Revision { main: 40, sub: 0, tombstone: false }.encode();
    assert_eq!((&meta[FINISHED_COMPACT], &meta[SCHEDULED_COMPACT]), (&forty, &forty));
    assert_eq!(meta[CONSISTENT_INDEX], number(70));
}

#[test]
fn nothing_left_gives_every_bucket_and_says_it_loudly() {
    let used = BTreeMap::from([(7, 2), (8, 1)]);
    let wanted = Wanted { point: None, leases: Some(&used) };
    let chosen = choose(&[], &[], &wanted);
    assert_eq!(chosen.buckets.len(), Name::ALL.len());
    assert_eq!(chosen.buckets[&Name::Auth][AUTH_REVISION], number(1));
    let all: Vec<_> = chosen.choices.iter().flat_map(|choice| choice.consequences.clone()).collect();
    for expected in [
        Consequence::AuthOff { users: 0, was_off: false },
        Consequence::LeasesLost { leases: 2, keys: 3 },
        Consequence::MembersLost,
        Consequence::RemovedLost,
        Consequence::AlarmsLost,
        Consequence::VersionLost,
        Consequence::ConsistentIndexLost,
    ] {
        assert!(all.contains(&expected), "{expected:?} in {all:?}");
        assert!(!expected.words().is_empty());
    }
}

#[test]
fn users_of_the_same_revision_are_certain_and_older_ones_are_not() {
    let parts = [Name::AuthUsers, Name::AuthRoles];
    let tree = without(whole("tree", 70), &parts);
    let older = |revision: u64| {
        let mut older = whole("older", 60);
        let auth = older.buckets.get_mut(&Name::Auth).unwrap();
        auth.pairs.insert(AUTH_REVISION.to_vec(), number(revision));
        older
    };
    let chosen = choose(&[tree.clone(), older(7)], &[], &AT);
    let users = choice(&chosen, Name::AuthUsers);
    assert_eq!((&users.origin, users.suspect), (&Origin::Generation("older".to_owned()), 0));
    assert_eq!(choice(&chosen, Name::Auth).consequences, []);
    let chosen = choose(&[tree.clone(), older(6)], &[], &AT);
    assert_eq!(choice(&chosen, Name::AuthUsers).suspect, 1);
    assert_eq!(choice(&chosen, Name::Auth).consequences, [Consequence::AuthOlder]);
    // Of several the one of the most changes, wherever it stands.
    let chosen = choose(&[tree.clone(), older(2), older(7), older(3)], &[], &AT);
    assert_eq!(choice(&chosen, Name::AuthUsers).suspect, 0);
    // The switch is on, and nobody is left who could administer it.
    let chosen = choose(&[tree], &[], &AT);
    assert_eq!(choice(&chosen, Name::Auth).consequences, [Consequence::AuthWithoutRoot]);
    assert_eq!(Consequence::AuthWithoutRoot.severity(), crate::finding::Severity::Error);
}

#[test]
fn a_switch_that_is_lost_is_off_or_that_of_an_older_page() {
    let tree = without(whole("tree", 70), &[Name::Auth]);
    let chosen = choose(std::slice::from_ref(&tree), &[], &AT);
    assert_eq!(chosen.buckets[&Name::Auth].get(AUTH_ENABLED), None);
    assert_eq!(choice(&chosen, Name::Auth).consequences, [Consequence::AuthOff { users: 1, was_off: false }]);
    let chosen = choose(&[tree.clone(), whole("older", 60)], &[], &AT);
    assert_eq!(chosen.buckets[&Name::Auth][AUTH_ENABLED], [1]);
    assert_eq!(choice(&chosen, Name::Auth).consequences, [Consequence::AuthOlder]);
    // An older page from before anybody set it up.
    let mut before = whole("before", 60);
    before.buckets.insert(Name::Auth, rows([(AUTH_REVISION, number(1))]));
    before.buckets.insert(Name::AuthUsers, rows([]));
    before.buckets.insert(Name::AuthRoles, rows([]));
    let tree = without(tree, &[Name::AuthUsers, Name::AuthRoles]);
    let chosen = choose(&[tree, before], &[], &AT);
    let follows = &choice(&chosen, Name::Auth).consequences;
    assert!(follows.contains(&Consequence::AuthOff { users: 0, was_off: true }), "{follows:?}");
}

#[test]
fn leases_come_back_where_keys_hang_on_them() {
    let mut tree = whole("tree", 70);
    tree.buckets.insert(Name::Lease, Rows { pairs: [lease(1)].into(), is_whole: false });
    let mut older = whole("older", 60);
    older.buckets.insert(Name::Lease, Rows { pairs: [lease(1), lease(2), lease(3)].into(), is_whole: true });
    let odd = (9_i64.to_be_bytes().to_vec(), lease(5).1);
    let loose = Loose { bucket: Name::Lease, pairs: [lease(4), lease(6), odd].into() };
    let used = BTreeMap::from([(1, 1), (2, 5), (6, 1), (7, 3)]);
    let chosen = choose(&[tree, older], &[loose], &Wanted { leases: Some(&used), ..AT });
    let ids: Vec<i64> = chosen.buckets[&Name::Lease]
        .keys()
        .map(|key| i64::from_be_bytes(key.as_slice().try_into().unwrap()))
        .collect();
    assert_eq!(ids, [1, 2, 6]);
    let leases = choice(&chosen, Name::Lease);
    assert_eq!((&leases.origin, leases.rows, leases.suspect), (&Origin::Merged, 3, 2));
    assert_eq!(
        leases.consequences,
        [
            Consequence::LeasesBack { leases: 2 },
            Consequence::LeasesLeftOut { leases: 2 },
            Consequence::LeasesLost { leases: 1, keys: 3 }
        ]
    );
}

#[test]
fn members_that_were_removed_do_not_come_back() {
    let tree = without(whole("tree", 70), &[Name::Members]);
    let mut older = whole("older", 60);
    let members = older.buckets.get_mut(&Name::Members).unwrap();
    members.pairs.insert(b"9".to_vec(), br#"{"id":9,"peerURLs":["http://b:1"]}"#.to_vec());
    let chosen = choose(&[tree, older], &[], &AT);
    assert_eq!(chosen.buckets[&Name::Members].keys().collect::<Vec<_>>(), [b"8"]);
    let members = choice(&chosen, Name::Members);
    assert_eq!((members.rows, members.suspect), (1, 1));
    assert_eq!(members.consequences, [Consequence::MembersOlder]);
}

#[test]
fn of_two_trees_of_one_entry_the_one_stands_in_for_the_other() {
    let tree = without(whole("tree", 70), &[Name::Members, Name::Lease]);
    let chosen = choose(&[tree, whole("other", 70)], &[], &AT);
    for bucket in [Name::Members, Name::Lease] {
        let choice = choice(&chosen, bucket);
        assert_eq!((&choice.origin, choice.suspect), (&Origin::Tree, 0), "{choice:?}");
        assert_eq!(choice.consequences, []);
    }
}

#[test]
fn rows_on_which_a_server_dies_are_left_out_and_counted() {
    let mut tree = whole("tree", 70);
    let leases = &mut tree.buckets.get_mut(&Name::Lease).unwrap().pairs;
    leases.insert(b"no lease".to_vec(), vec![0xff]);
    leases.insert(b"short".to_vec(), lease(1).1);
    let chosen = choose(&[tree], &[], &AT);
    assert_eq!(chosen.buckets[&Name::Lease].len(), 2);
    assert_eq!(choice(&chosen, Name::Lease).consequences, [Consequence::Unreadable { rows: 2 }]);
}

#[test]
fn the_schema_has_a_version_again() {
    let tree = without(whole("tree", 70), &[Name::Meta]);
    let chosen = choose(&[tree], &[], &AT);
    assert_eq!(chosen.buckets[&Name::Meta][STORAGE_VERSION], b"3.6.0");
    let meta = choice(&chosen, Name::Meta);
    let version = "3.6.0".to_owned();
    assert_eq!(meta.consequences, [Consequence::StorageVersionDerived { version }]);
}
