use super::*;
use crate::replay::asked::{Asked, asked};
use crate::request::schema::{CLUSTER_MEMBER_ATTR_SET, DOWNGRADE_INFO_SET, V2_REQUEST};
use crate::schema::{MEMBERS, MEMBERS_REMOVED};

const VOTER: &str = r#"{"id":1,"peerURLs":["http://a:2380"],"name":"m1","clientURLs":["http://a:2379"]}"#;

fn release(text: &str) -> Release {
    text.parse().unwrap()
}

fn small() -> Small {
    let mut small = Small::default();
    small.put(Name::Members, b"1", VOTER.as_bytes().to_vec());
    small
}

fn change(kind: u64, id: u64, context: &str) -> Vec<u8> {
    asked().number(1, 77).number(2, kind).number(3, id).bytes(4, context).into_bytes()
}

fn learner(id: u64, url: &str) -> String {
    format!(r#"{{"id":{id},"peerURLs":["{url}"],"isLearner":true,"isPromote":false}}"#)
}

fn row(small: &Small, id: &str) -> Option<String> {
    small.get(Name::Members, id.as_bytes()).map(|row| String::from_utf8(row.to_vec()).unwrap())
}

fn conf_state(small: &Small) -> String {
    String::from_utf8(small.get(Name::Meta, CONF_STATE).unwrap().to_vec()).unwrap()
}

const NO: Applied = Applied::Nothing(Why::InvalidConfChange);

/// The life of a member as 3.6 keeps it.
#[test]
fn a_learner_comes_is_promoted_moves_and_goes() {
    let (mut small, r) = (small(), release("3.6"));
    let mut cluster = Cluster::of(&small);
    let mut apply =
        |small: &mut Small, data: &[u8]| conf_change::apply(&mut cluster, Some(small), data, r).unwrap();
    assert_eq!(apply(&mut small, &change(3, 10, &learner(10, "http://b:2380"))), Applied::Changed);
    assert_eq!(row(&small, "a").unwrap(), r#"{"id":10,"peerURLs":["http://b:2380"],"isLearner":true}"#);
    assert_eq!(conf_state(&small), r#"{"voters":[1],"learners":[10],"auto_leave":false}"#);
    for (data, why) in [
        (change(3, 10, &learner(10, "http://c:2380")), "it is there"),
        (change(3, 11, &learner(11, "http://c:2380")), "one learner is enough"),
        (change(0, 11, r#"{"id":11,"peerURLs":["http://b:2380"]}"#), "the address is taken"),
        (change(0, 11, r#"{"id":11,"peerURLs":["http://c:2380"],"isPromote":true}"#), "it is not there"),
        (change(0, 1, r#"{"id":1,"peerURLs":null,"isPromote":true}"#), "it votes already"),
        (change(1, 11, ""), "it is not there"),
        (change(2, 11, r#"{"id":11,"peerURLs":["http://c:2380"]}"#), "it is not there"),
        (change(2, 10, r#"{"id":10,"peerURLs":["http://a:2380"]}"#), "the address is taken"),
    ] {
        let before = small.clone();
        assert_eq!(apply(&mut small, &data), NO, "{why}");
        assert_eq!(small, before);
    }
    let moved = change(2, 10, r#"{"id":10,"peerURLs":["http://b:2380","http://d:2380"]}"#);
    assert_eq!(apply(&mut small, &moved), Applied::Changed);
    let promoted = change(0, 10, r#"{"id":10,"peerURLs":null,"isPromote":true}"#);
    assert_eq!(apply(&mut small, &promoted), Applied::Changed);
    assert_eq!(row(&small, "a").unwrap(), r#"{"id":10,"peerURLs":["http://b:2380","http://d:2380"]}"#);
    assert_eq!(conf_state(&small), r#"{"voters":[1,10],"auto_leave":false}"#);
    assert_eq!(apply(&mut small, &change(1, 10, "")), Applied::Changed);
    assert_eq!(row(&small, "a"), None);
    assert_eq!(small.get(Name::MembersRemoved, b"a").unwrap(), b"removed");
    assert_eq!(conf_state(&small), r#"{"voters":[1],"auto_leave":false}"#);
    let again = apply(&mut small, &change(0, 10, r#"{"id":10,"peerURLs":["http://e:2380"]}"#));
    assert_eq!(again, Applied::Nothing(Why::RemovedMember));
}

#[test]
fn what_a_server_dies_of() {
    let mut cluster = Cluster::of(&small());
    for data in [
        change(3, 10, &learner(11, "http://b:2380")),
        change(0, 10, "no json"),
        change(0, 10, r#"{"peerURLs":["http://b:2380"]}"#),
        change(4, 10, ""),
        change(1, 1, ""),
        vec![0xff],
        Vec::new(),
    ] {
        let mut small = small();
        let before = small.clone();
        let stopped = conf_change::apply(&mut cluster, Some(&mut small), &data, release("3.5"));
        assert!(matches!(stopped, Err(StopReason::Dies(_))), "{stopped:?}");
        assert_eq!(small, before);
    }
}

/// Up to 3.4 there is no row of raft's configuration; from 3.5.1 to 3.5.19 a member's row stays as it was written first.
#[test]
fn rows_by_release() {
    for (text, promoted, kept) in [
        ("3.4.23", r#"{"id":10,"peerURLs":["http://b:2380"]}"#, None),
        ("3.5.0", r#"{"id":10,"peerURLs":["http://b:2380"]}"#, Some(())),
        ("3.5.16", r#"{"id":10,"peerURLs":["http://b:2380"],"isLearner":true}"#, Some(())),
        ("3.5.20", r#"{"id":10,"peerURLs":["http://b:2380"]}"#, Some(())),
        ("3.7", r#"{"id":10,"peerURLs":["http://b:2380"]}"#, Some(())),
    ] {
        let (mut small, r) = (small(), release(text));
        let mut cluster = Cluster::of(&small);
        for data in [
            change(3, 10, &learner(10, "http://b:2380")),
            change(0, 10, r#"{"id":10,"peerURLs":null,"isPromote":true}"#),
        ] {
            assert_eq!(conf_change::apply(&mut cluster, Some(&mut small), &data, r), Ok(Applied::Changed));
        }
        assert_eq!(row(&small, "a").unwrap(), promoted, "{text}");
        assert_eq!(small.get(Name::Meta, CONF_STATE).map(|_| ()), kept, "{text}");
    }
}

/// An update carries no word about learning, and older patches take that for a no.
#[test]
fn an_update_makes_a_voter_of_a_learner_in_older_patches() {
    for (text, is_learner) in [
        ("3.4.45", false),
        ("3.5.30", false),
        ("3.5.31", true),
        ("3.6.11", false),
        ("3.6.12", true),
        ("3.7.0", true),
    ] {
        let (mut small, r) = (small(), release(text));
        let mut cluster = Cluster::of(&small);
        for data in [
            change(3, 10, &learner(10, "http://b:2380")),
            change(2, 10, r#"{"id":10,"peerURLs":["http://c:2380"]}"#),
        ] {
            conf_change::apply(&mut cluster, Some(&mut small), &data, r).unwrap();
        }
        assert_eq!(
            Member::from_json(row(&small, "a").unwrap().as_bytes()).unwrap().is_learner,
            is_learner,
            "{text}"
        );
    }
}

fn attributes(id: u64, name: &str) -> Asked {
    asked().number(1, id).message(2, asked().bytes(1, name).bytes(2, "http://x:1").bytes(2, "http://y:2"))
}

fn set(cluster: &mut Cluster, small: &mut Small, text: &str, request: &Asked) -> Result<Applied, StopReason> {
    request.seen(&CLUSTER_MEMBER_ATTR_SET, |asked| cluster.set_attributes(Some(small), asked, release(text)))
}

#[test]
fn attributes_of_known_removed_and_unknown_members() {
    let mut small = small();
    small.put(Name::MembersRemoved, b"2", b"removed".to_vec());
    let mut cluster = Cluster::of(&small);
    assert_eq!(set(&mut cluster, &mut small, "3.6", &attributes(1, "m<1>")), Ok(Applied::Changed));
    assert_eq!(
        row(&small, "1").unwrap(),
        r#"{"id":1,"peerURLs":["http://a:2380"],"name":"m\u003c1\u003e","clientURLs":["http://x:1","http://y:2"]}"#
    );
    let again = set(&mut cluster, &mut small, "3.6", &attributes(1, "m<1>"));
    assert_eq!(again, Ok(Applied::Nothing(Why::AlreadySo)));
    assert_eq!(
        set(&mut cluster, &mut small, "3.6", &attributes(2, "m")),
        Ok(Applied::Nothing(Why::RemovedMember))
    );
    assert_eq!(set(&mut cluster, &mut small, "3.6", &attributes(3, "m")), Ok(NO));
    assert!(matches!(set(&mut cluster, &mut small, "3.6", &asked().number(1, 1)), Err(StopReason::Dies(_))));
    // With neither, nothing is left of them but the addresses of the peers.
    let none = asked().number(1, 1).message(2, asked());
    set(&mut cluster, &mut small, "3.6", &none).unwrap();
    assert_eq!(row(&small, "1").unwrap(), r#"{"id":1,"peerURLs":["http://a:2380"]}"#);
}

fn v2(method: &str, path: &str, value: &str) -> Asked {
    asked().number(1, 4).bytes(2, method).bytes(3, path).bytes(4, value)
}

#[test]
fn requests_of_the_v2_store() {
    let mut small = small();
    let mut cluster = Cluster::of(&small);
    let mut apply = |small: &mut Small, request: &Asked| {
        request.seen(&V2_REQUEST, |asked| v2::apply(&mut cluster, Some(small), asked, release("3.5")))
    };
    let json = r#"{"name":"n","clientURLs":["http://z:1"]}"#;
    let path = "/0/members/1/attributes";
    assert_eq!(apply(&mut small, &v2("PUT", path, json)), Ok(Applied::Changed));
    assert_eq!(
        row(&small, "1").unwrap(),
        r#"{"id":1,"peerURLs":["http://a:2380"],"name":"n","clientURLs":["http://z:1"]}"#
    );
    assert_eq!(apply(&mut small, &v2("PUT", "/0/version", "3.5.0")), Ok(Applied::Changed));
    assert_eq!(small.get(Name::Cluster, CLUSTER_VERSION).unwrap(), b"3.5.0");
    let before = small.clone();
    for (request, why) in [
        (v2("PUT", "/1/key", "v"), Why::V2UserKey),
        (v2("POST", "/1/key", "v"), Why::V2UserKey),
        (v2("DELETE", "/1/key", ""), Why::V2UserKey),
        (v2("PUT", path, r#"{"name":"other"}"#).number(8, 0), Why::V2UserKey),
        (v2("PUT", "/0/version", "3.6.0").number(7, 3), Why::V2UserKey),
        (v2("PUT", "/0/version", "3.6.0").bytes(6, "3.4.0"), Why::V2UserKey),
        (v2("QGET", "/1/key", ""), Why::ReadOnly),
        (v2("SYNC", "", ""), Why::NoEffect),
        (v2("", "", ""), Why::NoEffect),
    ] {
        assert_eq!(apply(&mut small, &request), Ok(Applied::Nothing(why)));
        assert_eq!(small, before);
    }
    for request in [v2("PUT", path, "no json"), v2("PUT", "/0/version", "three")] {
        assert!(matches!(apply(&mut small, &request), Err(StopReason::Dies(_))));
    }
}

#[test]
fn versions_as_a_server_writes_them() {
    for (text, written) in [
        ("3.5.0", Some("3.5.0")),
        ("03.5.00", Some("3.5.0")),
        ("3.6.0-rc.1+x-y", Some("3.6.0-rc.1+x-y")),
        ("3.5", None),
        ("3.5.0.1", None),
        ("3..0", None),
        ("+3.5.0", None),
        ("3.5.99999999999999999999", None),
        ("", None),
    ] {
        let mut small = Small::default();
        let mut cluster = Cluster::default();
        let set = cluster.set_version(Some(&mut small), text.as_bytes());
        assert_eq!(set.is_ok(), written.is_some(), "{text}");
        assert_eq!(cluster.version(), written, "{text}");
        assert_eq!(small.get(Name::Cluster, CLUSTER_VERSION), written.map(str::as_bytes), "{text}");
    }
}

#[test]
fn downgrades_begin_and_end() {
    let mut small = Small::default();
    let mut cluster = Cluster::default();
    let mut set = |request: Asked, small: &mut Small| {
        request.seen(&DOWNGRADE_INFO_SET, |asked| cluster.set_downgrade(Some(small), asked));
        cluster.downgrade_target().map(str::to_owned)
    };
    assert_eq!(set(asked().number(1, 1).bytes(2, "3.5.0"), &mut small).as_deref(), Some("3.5.0"));
    assert_eq!(small.get(Name::Cluster, DOWNGRADE).unwrap(), br#"{"target-version":"3.5.0","enabled":true}"#);
    assert_eq!(set(asked().bytes(2, "3.5.0"), &mut small), None);
    assert_eq!(small.get(Name::Cluster, DOWNGRADE).unwrap(), br#"{"target-version":"","enabled":false}"#);
}

/// After a restore by 3.4 the rows are those of the cluster that was, and the v2 store has the new one.
#[test]
fn members_of_the_v2_store_and_rows_of_another_cluster() {
    let mut small = small();
    small.put(Name::Members, b"99", br#"{"id":153,"peerURLs":["http://b:2380"],"name":"old"}"#.to_vec());
    let new = Member {
        id: 2,
        name: "new".to_owned(),
        peer_urls: vec!["http://b:2380".to_owned()],
        ..Member::default()
    };
    let store = V2Store { members: vec![new], ..V2Store::default() };
    let mut cluster = Cluster::of_store(&store).with_local(2);
    // In the db already: only the cluster follows.
    let added = change(3, 10, &learner(10, "http://c:2380"));
    cluster.follow(&EntryRef { entry_type: 1, term: 2, index: 5, data: &added }, release("3.5.16"));
    assert!(cluster.members.contains_key(&10));
    let mut of = cluster.clone();
    assert_eq!(set(&mut of, &mut small, "3.5.25", &attributes(2, "new")), Ok(Applied::Changed));
    assert!(row(&small, "99").is_some() && row(&small, "2").is_some());
    assert_eq!(set(&mut cluster, &mut small, "3.5.26", &attributes(2, "new")), Ok(Applied::Changed));
    assert_eq!((row(&small, "99"), row(&small, "1")), (None, None), "zombies go");
    assert_eq!(small.get(Name::MembersRemoved, b"99").unwrap(), b"removed");
}

#[test]
fn rows_that_are_none_are_only_told_when_members_matter() {
    for (bucket, key) in [(MEMBERS, b"not hex"), (MEMBERS_REMOVED, b"not hex")] {
        let name = Name::ALL.into_iter().find(|name| name.bytes() == bucket).unwrap();
        let mut small = small();
        small.put(name, key, VOTER.as_bytes().to_vec());
        let mut cluster = Cluster::of(&small);
        let stopped = set(&mut cluster, &mut small, "3.6", &attributes(1, "m"));
        assert!(matches!(stopped, Err(StopReason::Dies(_))));
    }
}
