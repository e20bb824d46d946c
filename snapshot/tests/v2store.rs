//! The v2 stores of live servers, of restored ones, and of no one.
#![allow(clippy::expect_used, reason = "a helper of a test fails as a test does")]

use std::fmt::Write;

use proptest::prelude::*;
use snapshot::membership::{InitialCluster, Member};
use snapshot::target::TargetVersion;
use snapshot::v2store::{self, V2StoreError};

fn stored(name: &str) -> Vec<u8> {
    let path = format!("{}/../testdata/v2store/{name}.json.zst", env!("CARGO_MANIFEST_DIR"));
    let packed = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    zstd::decode_all(packed.as_slice()).expect("zstd")
}

fn member(id: u64, name: &str, peer: &str, client: &str) -> Member {
    Member {
        id,
        name: name.to_owned(),
        peer_urls: vec![peer.to_owned()],
        client_urls: vec![client.to_owned()],
        is_learner: false,
    }
}

#[test]
fn live_servers_are_read() {
    for (name, version) in [
        ("live-3.4.23", "3.4.0"),
        ("live-3.5.1", "3.5.0"),
        ("live-3.5.30", "3.5.0"),
        ("live-3.6.14", "3.6.0"),
        ("live-3.7.1", "3.7.0"),
    ] {
        let store = v2store::read(&stored(name)).expect(name);
        assert_eq!(store.cluster_version.as_deref(), Some(version), "{name}");
        assert_eq!(store.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["n1"], "{name}");
        assert_eq!((store.foreign.count, store.unexpected.count), (0, 0), "{name}");
        assert!(store.removed.is_empty(), "{name}");
    }
    let store = v2store::read(&stored("live-3.5.30-cluster3-n1")).expect("cluster3");
    assert_eq!(
        store.members,
        [
            member(0x3e2f_70db_3bda_20b4, "n3", "http://127.0.0.1:22105", "http://127.0.0.1:22104"),
            member(0x3fe4_b3a4_dda9_01c1, "n2", "http://127.0.0.1:22103", "http://127.0.0.1:22102"),
            member(0x6b71_6060_8ed2_c2e8, "n1", "http://127.0.0.1:22101", "http://127.0.0.1:22100"),
        ]
    );
    assert_eq!(store.removed, [0x2606_f2df_55cc_e61f]);
    assert_eq!(store.current_index, 10);
}

#[test]
fn restored_stores_are_read() {
    for name in ["restored-3.4.23", "restored-3.6.14-order-231", "restored-3.7.1-order-312"] {
        let store = v2store::read(&stored(name)).expect(name);
        let ids: Vec<u64> = store.members.iter().map(|m| m.id).collect();
        assert_eq!(ids, [0x2700_a49d_914f_d7e8, 0xd29e_8665_0eb4_4eaf, 0xd59e_5ef9_ab21_2e1b]);
        assert!(store.members.iter().all(|m| m.name.is_empty()), "names come when a member publishes them");
        assert_eq!((store.cluster_version, store.current_index), (None, 3));
    }
}

#[test]
fn v2_keys_and_auth_are_told_from_what_every_server_has() {
    let store = |top: &str| v2store::read(format!(r#"{{"Root":{{"Children":{{{top}}}}}}}"#).as_bytes());
    let empty_auth = r#""1":{"Children":{}},"2":{"Children":{"enabled":{"Value":"false"},"users":{"Children":{}},"roles":{"Children":{}}}}"#;
    assert_eq!(store(empty_auth).expect("a store").foreign.count, 0);
    let used = store(r#""1":{"Children":{"a":{"Children":{"b":{"Value":"x"}}}}},"3":{"Value":""},"2":{"Children":{"users":{"Children":{"root":{"Value":"{}"}}},"enabled":{"Value":"true"}}}"#)
        .expect("a store")
        .foreign;
    assert_eq!(used.count, 5);
    let mut paths = used.first;
    paths.sort();
    assert_eq!(paths, ["/1/a", "/1/a/b", "/2/enabled", "/2/users/root", "/3"]);
    let mut many = String::from(r#""1":{"Children":{"#);
    for i in 0..1000 {
        write!(many, r#"{}"k{i}":{{}}"#, if i > 0 { "," } else { "" }).expect("a String");
    }
    let many = store(&(many + "}}")).expect("a store").foreign;
    assert_eq!((many.count, many.first.len()), (1000, 20));
}

#[test]
fn strange_membership_is_listed() {
    let store = v2store::read(
        br#"{"Root":{"Children":{"0":{"Children":{"x":{},"removed_members":{"Children":{"0f":{},"zz":{}}},
            "members":{"Children":{"nothex":{},"1":{"Children":{"raftAttributes":{"Value":"{}"},"extra":{}}},"2":{"Children":{}}}}}}}}}"#,
    )
    .expect("a store");
    assert_eq!(store.members.iter().map(|m| m.id).collect::<Vec<_>>(), [1]);
    assert_eq!(store.removed, [0xf]);
    let mut paths = store.unexpected.first;
    paths.sort();
    assert_eq!(
        paths,
        ["/0/members/1/extra", "/0/members/2", "/0/members/nothex", "/0/removed_members/zz", "/0/x"]
    );
}

#[test]
fn what_is_no_store_is_a_typed_error() {
    for bad in [&b""[..], b"null", b"[]", b"{", b"\xff\xfe", b"7"] {
        assert!(
            matches!(v2store::read(bad), Err(V2StoreError::Json(_))),
            "{:?}",
            String::from_utf8_lossy(bad)
        );
    }
    assert!(matches!(v2store::read(b"{}"), Err(V2StoreError::NoRoot)));
    let attributes = br#"{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"1":{"Children":{"raftAttributes":{"Value":"no"}}}}}}}}}}"#;
    assert!(matches!(
        v2store::read(attributes),
        Err(V2StoreError::Attributes { path, .. }) if path == "/0/members/1/raftAttributes"
    ));
    let deep = [br#"{"Root":"#.to_vec(), br#"{"Children":{"a":"#.repeat(100_000)].concat();
    assert!(matches!(v2store::read(&deep), Err(V2StoreError::Json(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read(ports in prop::collection::btree_set(1u16.., 1..20), token: String) {
        let text: Vec<String> = ports.iter().map(|p| format!("m{p}=http://h:{p}")).collect();
        let members = InitialCluster::parse(&text.join(",")).and_then(|c| c.members(&token)).expect("sound");
        for version in TargetVersion::ALL {
            let store = v2store::read(&v2store::restored_store(&members, version)).expect("ours");
            let nameless: Vec<Member> =
                members.iter().cloned().map(|m| Member { name: String::new(), ..m }).collect();
            prop_assert_eq!(&store.members, &nameless);
        }
    }

    #[test]
    fn a_flipped_byte_is_no_panic(at in 0usize..7000, byte: u8) {
        let mut json = stored("live-3.5.30-cluster3-n1");
        let at = at % json.len();
        json[at] = byte;
        drop(v2store::read(&json));
        json.truncate(at);
        prop_assert!(v2store::read(&json).is_err());
    }
}
