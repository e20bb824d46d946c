//! IDs and member records against the vectors of FORMATS H.1, V and the logs that etcd's own restore wrote.
#![allow(clippy::expect_used, reason = "a helper of a test fails as a test does")]

use proptest::prelude::*;
use snapshot::gourl::PeerUrls;
use snapshot::membership::{
    ClusterError, InitialCluster, Member, MemberJsonError, cluster_id, hex_id, member_id, parse_hex_id,
};

const GOLDEN: &str = "m1=http://127.0.0.1:1380,m2=http://127.0.0.1:2380,m3=http://127.0.0.1:3380";

fn ids(cluster: &str, token: &str) -> (Vec<String>, String) {
    let members = InitialCluster::parse(cluster).and_then(|c| c.members(token)).expect("a sound cluster");
    let ids: Vec<u64> = members.iter().map(|m| m.id).collect();
    (ids.iter().map(|id| hex_id(*id)).collect(), hex_id(cluster_id(&ids)))
}

#[test]
fn ids_are_those_etcd_computes() {
    // The default single member, in every etcd log on earth.
    let one = ids("default=http://localhost:2380", "etcd-cluster");
    assert_eq!(one, (vec!["8e9e05c52164694d".to_owned()], "cdf818194e3a8c32".to_owned()));
    // The Procfile cluster.
    let (members, cluster) = ids(
        "infra1=http://127.0.0.1:12380,infra2=http://127.0.0.1:22380,infra3=http://127.0.0.1:32380",
        "etcd-cluster-1",
    );
    assert_eq!(members, ["8211f1d0f64f3269", "91bc3c398fb3c146", "fd422379fda50e48"]);
    assert_eq!(cluster, "ef37ad9dc622a7c4");
    // Written by `snapshot restore` of 3.4.23 to 3.7.1 into the goldens' logs: metadata of m2.
    let (members, cluster) = ids(GOLDEN, "golden");
    assert_eq!(members, ["2700a49d914fd7e8", "d29e86650eb44eaf", "d59e5ef9ab212e1b"]);
    assert_eq!(cluster, "7540b913454cd2e2");
}

#[test]
fn urls_are_sorted_and_normalised_before_they_are_hashed() {
    let id = |urls: &[&str]| member_id(&PeerUrls::new(urls).expect("URLs"), "t");
    assert_eq!(id(&["http://b:1", "http://a:1"]), id(&[" http://a:1", "HTTP://b:1 "]));
    assert_ne!(id(&["http://localhost:2380"]), id(&["http://127.0.0.1:2380"]));
}

#[test]
fn member_json_is_what_the_logs_and_rows_hold() {
    let members = InitialCluster::parse(GOLDEN).and_then(|c| c.members("golden")).expect("sound");
    let json: Vec<String> = members.iter().map(|m| String::from_utf8(m.to_json()).expect("UTF-8")).collect();
    // Contexts of the three conf changes in the goldens' logs.
    assert_eq!(
        json,
        [
            r#"{"id":2810427164133939176,"peerURLs":["http://127.0.0.1:2380"],"name":"m2"}"#,
            r#"{"id":15176715562881666735,"peerURLs":["http://127.0.0.1:3380"],"name":"m3"}"#,
            r#"{"id":15392845002809880091,"peerURLs":["http://127.0.0.1:1380"],"name":"m1"}"#,
        ]
    );
    let learner = Member {
        id: 1,
        name: "<a&b>".to_owned(),
        peer_urls: vec!["http://a:1".to_owned()],
        client_urls: vec!["http://c:2".to_owned(), "http://d:3".to_owned()],
        is_learner: true,
    };
    assert_eq!(
        String::from_utf8_lossy(&learner.to_json()),
        r#"{"id":1,"peerURLs":["http://a:1"],"isLearner":true,"name":"\u003ca\u0026b\u003e","clientURLs":["http://c:2","http://d:3"]}"#
    );
    assert_eq!(
        String::from_utf8_lossy(&learner.raft_attributes_json()),
        r#"{"peerURLs":["http://a:1"],"isLearner":true}"#
    );
    assert_eq!(
        String::from_utf8_lossy(&learner.attributes_json()),
        r#"{"name":"\u003ca\u0026b\u003e","clientURLs":["http://c:2","http://d:3"]}"#
    );
    assert_eq!(Member { id: 7, ..Member::default() }.to_json(), br#"{"id":7,"peerURLs":null}"#);
    assert_eq!(Member::default().attributes_json(), b"{}");
}

#[test]
fn member_json_is_read_leniently() {
    let read = |json: &[u8]| Member::from_json(json);
    let member = read(br#"{"clientURLs":null,"peerURLs":null,"new":[1],"id":18446744073709551615}"#);
    assert_eq!(member.expect("a member"), Member { id: u64::MAX, ..Member::default() });
    assert_eq!(read(b"{\"id\":1,\"name\":\"a\xff\"}").expect("lossy").name, "a\u{fffd}");
    assert!(matches!(read(br#"{"name":"a"}"#), Err(MemberJsonError::NoId)));
    for bad in [
        &b""[..],
        b"{",
        b"null,",
        br#"{"id":-1}"#,
        br#"{"id":"1"}"#,
        b"\xff",
        br#"{"id":18446744073709551616}"#,
    ] {
        assert!(matches!(read(bad), Err(MemberJsonError::Json(_))), "{:?}", String::from_utf8_lossy(bad));
    }
    assert!(read(&[b'['; 100_000]).is_err(), "depth is bounded");
}

#[test]
fn ids_are_hex_without_padding() {
    assert_eq!(hex_id(0x0abc), "abc");
    assert_eq!(parse_hex_id("00abc"), Some(0xabc));
    for bad in ["", "+1", "-1", "0x1", "11111111111111111", "g"] {
        assert_eq!(parse_hex_id(bad), None, "{bad}");
    }
}

#[test]
fn a_name_may_repeat_and_collects_its_urls() {
    let cluster = InitialCluster::parse("a=http://h:2,b=http://h:3,,a=http://h:1,").expect("two members");
    assert_eq!(cluster.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(cluster.urls("a").expect("a").as_slice(), ["http://h:1", "http://h:2"]);
    assert_eq!(cluster.to_string(), "a=http://h:1,a=http://h:2,b=http://h:3");
}

#[test]
fn bad_clusters_are_named() {
    let said = |text: &str| InitialCluster::parse(text).expect_err(text).to_string();
    assert_eq!(said(""), "--initial-cluster names no member");
    assert_eq!(said(",,"), "--initial-cluster names no member");
    assert_eq!(said("m1"), "empty URL given for \"m1\" in --initial-cluster");
    assert_eq!(said("m1=http://h:1,m1="), "empty URL given for \"m1\" in --initial-cluster");
    assert_eq!(said("=http://h:1"), "--initial-cluster gives \"http://h:1\" to a member without a name");
    assert_eq!(
        said("m1=h:1"),
        "\"m1\" in --initial-cluster: URL scheme must be http, https, unix, or unixs: h:1"
    );
    assert_eq!(
        said("m1=http://h:1,m2=HTTP://h:1"),
        "--initial-cluster gives the URL http://h:1 to \"m1\" and to \"m2\"; every member needs its own"
    );
    assert!(matches!(
        InitialCluster::parse("m1=http://h:1,m1=http://h:1"),
        Err(ClusterError::DuplicateUrl { first, second, .. }) if first == second
    ));
    let cluster = InitialCluster::parse("m1=http://h:1,m2=http://h:2").expect("sound");
    assert_eq!(
        cluster.urls("m3").expect_err("absent").to_string(),
        "\"m3\" is not in --initial-cluster, which has \"m1\", \"m2\""
    );
}

#[test]
fn the_advertised_urls_must_be_the_same_text() {
    let cluster = InitialCluster::parse("m1=http://localhost:2380,m1=http://h:1").expect("sound");
    let check = |list: &str| cluster.check_advertised("m1", &PeerUrls::from_list(list).expect("URLs"));
    assert_eq!(check("http://h:1, HTTP://localhost:2380"), Ok(()));
    let error = check("http://127.0.0.1:2380").expect_err("another text").to_string();
    assert!(
        error.contains("http://h:1,http://localhost:2380") && error.contains("http://127.0.0.1:2380"),
        "{error}"
    );
}

#[test]
fn two_members_with_one_id_are_refused() {
    // The hash runs over the URLs without a separator, and a token follows likewise: these two texts are one.
    let cluster = InitialCluster::parse("a=unix:x,b=unix:xunix:y,a=unix:y").expect("no URL twice");
    assert!(matches!(cluster.members("t"), Err(ClusterError::DuplicateId { .. })));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        id: u64,
        name: String,
        peer_urls: Vec<String>,
        client_urls: Vec<String>,
        is_learner: bool,
    ) {
        let member = Member { id, name, peer_urls, client_urls, is_learner };
        prop_assert_eq!(&Member::from_json(&member.to_json()).expect("ours"), &member);
        let mut merged = Member { id, ..Member::default() };
        merged.merge_attributes(&member.raft_attributes_json()).expect("ours");
        merged.merge_attributes(&member.attributes_json()).expect("ours");
        prop_assert_eq!(merged, member);
    }

    #[test]
    fn no_text_breaks_the_parsers(text: String, bytes: Vec<u8>) {
        if let Ok(cluster) = InitialCluster::parse(&text) {
            prop_assert_eq!(InitialCluster::parse(&cluster.to_string()), Ok(cluster));
        }
        drop(Member::from_json(&bytes));
    }
}
