use super::*;
use crate::gotime::Time;
use prost::Message as _;
use wal::EntryRef;

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/../testdata/v2store/{name}.json.zst", env!("CARGO_MANIFEST_DIR"));
    zstd::decode_all(std::fs::read(&path).unwrap().as_slice()).unwrap()
}

/// A `etcdserverpb.Request` as a server writes it.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(uint64, required, tag = "1")]
    id: u64,
    #[prost(string, required, tag = "2")]
    method: String,
    #[prost(bytes, required, tag = "3")]
    path: Vec<u8>,
    #[prost(bytes, required, tag = "4")]
    value: Vec<u8>,
    #[prost(bool, required, tag = "5")]
    dir: bool,
    #[prost(bytes, required, tag = "6")]
    previous_value: Vec<u8>,
    #[prost(uint64, required, tag = "7")]
    previous_index: u64,
    #[prost(bool, optional, tag = "8")]
    previous_exists: Option<bool>,
    #[prost(int64, required, tag = "9")]
    expiration: i64,
    #[prost(bool, required, tag = "12")]
    recursive: bool,
    #[prost(int64, required, tag = "15")]
    time: i64,
    #[prost(bool, optional, tag = "17")]
    refresh: Option<bool>,
}

fn ask(method: &str, path: &str, value: &str) -> Request {
    let (path, value) = (path.as_bytes().to_vec(), value.as_bytes().to_vec());
    Request { id: 7, method: method.to_owned(), path, value, ..Request::default() }
}

impl V2Tree {
    fn asked(&mut self, request: &Request) -> Done {
        let data = request.encode_to_vec();
        let entry = EntryRef { index: self.raft_index + 1, term: 2, data: &data, ..EntryRef::default() };
        self.apply(&entry).unwrap()
    }

    fn value(&self, path: &str) -> Option<String> {
        Some(String::from_utf8(self.node(path.as_bytes())?.value?.to_vec()).unwrap())
    }
}

fn tree() -> V2Tree {
    V2Tree::empty("3.4".parse().unwrap())
}

#[test]
fn what_servers_and_tools_wrote_is_written_again_to_the_byte() {
    for name in [
        "live-3.4.23",
        "live-3.5.1",
        "live-3.5.30-cluster3-n1",
        "live-3.5.30",
        "live-3.6.14",
        "live-3.7.1",
        "restored-3.4.23",
        "restored-3.5.1",
        "restored-3.6.14-order-123",
        "restored-3.6.14-order-231",
        "restored-3.7.1-order-231",
        "restored-3.7.1-order-312",
    ] {
        let theirs = golden(name);
        let tree = V2Tree::from_json(&theirs, Release::NEWEST).unwrap();
        assert_eq!(
            String::from_utf8(tree.to_json().unwrap()).unwrap(),
            String::from_utf8(theirs.clone()).unwrap(),
            "{name}"
        );
        let read = crate::v2store::read(&theirs).unwrap();
        assert!(!read.members.is_empty());
        for member in &read.members {
            assert_eq!(tree.member(member.id), Some(member), "{name}");
        }
        assert_eq!(
            (tree.cluster_version(), tree.current_index()),
            (read.cluster_version, read.current_index)
        );
    }
}

#[test]
fn an_edit_of_a_member_is_what_a_server_would_have_done_and_nothing_where_it_is_so() {
    let before = golden("live-3.5.30-cluster3-n1");
    let mut tree = V2Tree::from_json(&before, Release::NEWEST).unwrap();
    let members = crate::v2store::read(&before).unwrap().members;
    for member in &members {
        tree.set_member(member).unwrap();
    }
    tree.set_version(&tree.cluster_version().unwrap()).unwrap();
    tree.remove_member(0x1234).unwrap();
    assert_eq!(tree.to_json().unwrap(), before);
    let mut moved = members[1].clone();
    moved.peer_urls = vec!["https://moved:2380".to_owned()];
    tree.set_member(&moved).unwrap();
    tree.remove_member(members[2].id).unwrap();
    let new = Member {
        id: 0xabc,
        name: "new".to_owned(),
        peer_urls: vec!["http://new:2380".to_owned()],
        ..Member::default()
    };
    tree.set_member(&new).unwrap();
    tree.set_version("3.4.0").unwrap();
    let after = crate::v2store::read(&tree.to_json().unwrap()).unwrap();
    let mut want = vec![members[0].clone(), moved, new];
    want.sort_by_key(|member| member.id);
    assert_eq!(after.members, want);
    assert!(after.removed.contains(&members[2].id));
    assert_eq!(after.cluster_version.as_deref(), Some("3.4.0"));
    // An update, a deletion and what notes it, a creation, two values set.
    assert_eq!(after.current_index, crate::v2store::read(&before).unwrap().current_index + 6);
    assert_eq!((after.foreign.count, after.unexpected.count), (0, 0));
}

#[test]
fn requests_do_what_they_ask_for_or_are_refused() {
    let mut tree = tree();
    assert_eq!(tree.asked(&ask("PUT", "/1/a/b", "one")), Done::Changed);
    assert_eq!(tree.value("/1/a/b").as_deref(), Some("one"));
    assert_eq!(tree.asked(&ask("PUT", "/1/a", "x")), Done::Refused(Refusal::NotAFile));
    assert_eq!(tree.asked(&ask("PUT", "/1/a/b/c", "x")), Done::Refused(Refusal::NotADir));
    assert_eq!(tree.asked(&ask("PUT", "/1", "x")), Done::Refused(Refusal::ReadOnly));
    let exists = |exists| Request { previous_exists: Some(exists), ..ask("PUT", "/1/a/b", "two") };
    assert_eq!(tree.asked(&exists(false)), Done::Refused(Refusal::Exists));
    assert_eq!(tree.asked(&exists(true)), Done::Changed);
    assert_eq!(
        tree.asked(&Request { path: b"/1/none".to_vec(), ..exists(true) }),
        Done::Refused(Refusal::NotFound)
    );
    let swap = |previous: &str| Request {
        previous_value: previous.as_bytes().to_vec(),
        ..ask("PUT", "/1/a/b", "three")
    };
    assert_eq!(tree.asked(&swap("one")), Done::Refused(Refusal::TestFailed));
    assert_eq!(tree.asked(&swap("two")), Done::Changed);
    let index = tree.current_index();
    let swap = Request { previous_index: index, previous_exists: Some(true), ..ask("PUT", "/1/a/b", "four") };
    assert_eq!(tree.asked(&swap), Done::Changed);
    assert_eq!(tree.asked(&swap), Done::Refused(Refusal::TestFailed));
    assert_eq!(tree.asked(&ask("DELETE", "/1/a", "")), Done::Refused(Refusal::NotAFile));
    assert_eq!(
        tree.asked(&Request { dir: true, ..ask("DELETE", "/1/a", "") }),
        Done::Refused(Refusal::NotEmpty)
    );
    assert_eq!(
        tree.asked(&Request { previous_index: 1, ..ask("DELETE", "/1/a/b", "") }),
        Done::Refused(Refusal::TestFailed)
    );
    assert_eq!(tree.asked(&ask("POST", "/1/queue", "job")), Done::Changed);
    let unique = format!("/1/queue/{:020}", tree.current_index());
    assert_eq!(tree.value(&unique).as_deref(), Some("job"));
    assert_eq!(tree.asked(&Request { recursive: true, ..ask("DELETE", "/1/a", "") }), Done::Changed);
    assert_eq!(tree.node(b"/1/a"), None);
    assert_eq!(tree.asked(&ask("BREW", "/1/a", "")), Done::Nothing);
}

#[test]
fn what_expires_goes_in_the_order_of_its_time_with_an_index_each() {
    let mut tree = tree();
    let second = 1_000_000_000;
    let start = 1_700_000_000 * second;
    let put =
        |path: &str, after: i64| Request { expiration: start + after * second, ..ask("PUT", path, "v") };
    tree.asked(&put("/1/late", 9));
    tree.asked(&put("/1/soon", 1));
    tree.asked(&Request { dir: true, ..put("/1/dir", 5) });
    tree.asked(&put("/1/dir/inner", 7));
    // Before the year 2000 is never.
    tree.asked(&Request { expiration: 5, ..ask("PUT", "/1/never", "v") });
    let refresh = Request { refresh: Some(true), previous_exists: Some(true), ..put("/1/soon", 6) };
    assert_eq!(tree.asked(&Request { value: Vec::new(), ..refresh }), Done::Changed);
    assert_eq!(tree.value("/1/soon").as_deref(), Some("v"));
    let sync = |after: i64| Request { time: start + after * second, ..ask("SYNC", "", "") };
    let before = tree.current_index();
    assert_eq!(tree.asked(&sync(4)), Done::Nothing);
    assert_eq!(tree.asked(&sync(8)), Done::Changed);
    // The directory with what lies in it, and the key that was refreshed.
    assert_eq!(tree.current_index(), before + 2);
    let left: Vec<Vec<u8>> = tree.below(b"/1", true).map(|node| node.path).collect();
    assert_eq!(left, [b"/1/late".to_vec(), b"/1/never".to_vec()]);
    assert_eq!(tree.node(b"/1/never").unwrap().expires, None);
    let expires = tree.node(b"/1/late").unwrap().expires.unwrap();
    assert_eq!(expires, Time::of_unix_nanoseconds(start + 9 * second));
    // What comes back is the same tree.
    let json = tree.to_json().unwrap();
    let again = V2Tree::from_json(&json, tree.release).unwrap();
    assert_eq!(again.to_json().unwrap(), json);
    assert_eq!(again.nodes.first_to_expire().map(|id| again.nodes.path(id)), Some(b"/1/late".to_vec()));
}

#[test]
fn a_directory_is_given_a_new_time_by_3_4_and_not_by_3_5() {
    for (release, changes) in [("3.4", true), ("3.5", false)] {
        let mut tree = V2Tree::empty(release.parse().unwrap());
        tree.asked(&Request { dir: true, ..ask("PUT", "/1/d", "") });
        let asked = Request {
            previous_exists: Some(true),
            expiration: i64::MAX,
            dir: true,
            ..ask("PUT", "/1/d", "")
        };
        assert_eq!(tree.asked(&asked) == Done::Changed, changes);
        assert_eq!(tree.node(b"/1/d").unwrap().expires.is_some(), changes);
    }
}

#[test]
fn stores_that_no_server_wrote_are_refused() {
    let node = |path: &str, children: &str| {
        format!(
            r#"{{"Path":"{path}","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{children}}}"#
        )
    };
    let store = |root: &str| format!(r#"{{"Root":{root},"CurrentIndex":3,"CurrentVersion":2}}"#);
    let read = |text: &str| V2Tree::from_json(text.as_bytes(), Release::NEWEST);
    // What is left out is as in a new store.
    let least = read(&store(&node("/", "{}"))).unwrap();
    assert_eq!(least.current_index(), 3);
    assert_eq!(least.below(b"/", false).count(), 2);
    for (text, what) in [
        ("".to_owned(), "an object expected at byte 0"),
        ("{}".to_owned(), "without a root"),
        (store(&node("/", "null")), "without a root"),
        (store(&node("/0", "{}")), "the node at / says that it is \"/0\""),
        (store(&node("/", &format!(r#"{{"1":{}}}"#, node("/2", "{}")))), "the node at /1 says"),
        (store(&node("/", &format!(r#"{{"a/b":{}}}"#, node("/a/b", "{}")))), "a name that no server gives"),
        (store(r#"{"Children":{}}"#), "the node at / says that it is \"\""),
        (store(&node("/", "{}")) + "x", "the end expected"),
        (store(&node("/", "{}").replace("0001-01-01T00:00:00Z", "now")), "a time expected"),
        (
            store(&node("/", "{}")).replace("\"CurrentIndex\"", r#""WatcherHub":{"EventHistory":{"Queue":{"Events":[null],"Back":1,"Capacity":1}}},"CurrentIndex""#),
            "events",
        ),
        (
            store(&node("/", &format!(r#"{{"0":{}}}"#, node("/0", &format!(r#"{{"members":{}}}"#, node("/0/members", &format!(r#"{{"7":{}}}"#, node("/0/members/7", "{}")))))))),
            "/0/members/7: no member's",
        ),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(what), "{error}: {what}");
    }
}

#[test]
fn no_depth_of_a_path_is_a_depth_of_calls() {
    let mut tree = tree();
    let deep = |levels: usize| format!("/1{}", "/d".repeat(levels - 1));
    assert_eq!(tree.asked(&ask("PUT", &deep(1_000), "v")), Done::Changed);
    assert_eq!(
        tree.asked(&ask("PUT", &deep(1_001).replace("/1/d", "/1/e"), "v")),
        Done::Refused(Refusal::TooDeep)
    );
    let json = tree.to_json().unwrap();
    assert_eq!(V2Tree::from_json(&json, tree.release).unwrap().to_json().unwrap(), json);
    assert_eq!(tree.below(b"/1", true).count(), 999);
}
