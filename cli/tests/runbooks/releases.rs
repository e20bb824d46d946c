//! Pages that change which etcd may open a directory, or which API its keys are of.

use std::collections::BTreeMap;
use std::fs;

use testdata::base64;
use testdata::oracle::Version;

use super::{Site, THREE, history, kept};

/// A host with the directory of a 3.6 server, which its 3.5 refuses. No 3.6 server can be installed where the tests run: this member is the
/// fixture, which one wrote.
#[track_caller]
fn host_of_3_6() -> Site {
    let mut site = Site::new(Version::V3_5New, &["m1"]);
    site.settings("m1", &["m1"], "");
    let lib = site.host("m1").path("/var/lib");
    fs::rename(testdata::data_dir("3.6.14", &lib), lib.join("etcd")).unwrap();
    let refused = site.shell("m1", "systemctl start etcd");
    assert!(refused.stderr.contains("lower than determined cluster version"), "{refused:?}");
    site.log_in("root:rootpw");
    site
}

/// That it lives on 3.5, with the keys that were recorded, and after another start.
#[track_caller]
fn assert_back(site: &Site) {
    let facts = &testdata::facts_json("3.6.14", "s3-final", "keys.json")[0]["kvs"];
    assert_eq!(&site.keys("m1", ""), facts.as_array().unwrap());
    site.shell("m1", "etcdctl alarm disarm").ok();
    site.shell("m1", "etcdctl put /after 1").ok();
    site.shell("m1", "systemctl stop etcd && systemctl start etcd").ok();
    assert_eq!(site.shell("m1", "etcdctl get /after --print-value-only").ok().stdout, "1\n");
    let status = site.shell("m1", "etcdctl endpoint status -w json").json();
    assert!(status[0]["Status"]["version"].as_str().unwrap().starts_with("3.5."), "{status}");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_back_from_3_6_by_a_restore() {
    let site = host_of_3_6();
    site.follow("3.6-back-to-3.5.md", |heading| heading.starts_with("Another way"), &[]);
    assert_back(&site);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_member_back_from_3_6() {
    let site = host_of_3_6();
    // Nothing but the NOSPACE alarm, which came with the data, is found.
    site.follow("3.6-back-to-3.5.md", |heading| heading.starts_with("One member"), &["etcd-rescue verify"]);
    assert_back(&site);
}

/// Three members of 3.5 are made what 3.6 would have, as far as versions go: a server of 3.5 refuses them.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_three_members_back_from_3_6() {
    let site = Site::new(Version::V3_5New, &THREE);
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    site.on_each(
        &THREE,
        "systemctl stop etcd && mv /var/lib/etcd /var/lib/etcd.3.5 &&
etcd-rescue migrate --data-dir /var/lib/etcd.3.5 --target-version 3.6 --set-cluster-version --on-every-member -o /var/lib/etcd",
    );
    let refused = site.shell("m1", "systemctl start etcd");
    assert!(refused.stderr.contains("lower than determined cluster version"), "{refused:?}");
    site.follow("3.6-back-to-3.5.md", |heading| heading.starts_with("Three members"), &[]);
    site.assert_lives(&THREE, "");
    assert_eq!(kept(site.keys("m3", "")), keys);
}

/// v2 keys as a program of old writes them: later values, directories, deletions, blanks and quotes in values.
const V2_HISTORY: &str = "export ETCDCTL_API=2
etcdctl set /config/db 'host=db port=5432' && etcdctl set /config/app/name one && etcdctl set /config/app/name 'the \"second\"' &&
etcdctl mkdir /empty && etcdctl set /gone x && etcdctl rm /gone && etcdctl set /top 1 && printf 'two\\nlines\\n\\n' | etcdctl set /config/file";

/// What is to be found of it.
const V2_KEYS: [(&str, &str); 4] = [
    ("/config/app/name", "the \"second\""),
    ("/config/db", "host=db port=5432"),
    ("/config/file", "two\nlines\n\n"),
    ("/top", "1"),
];

/// Keys and values that etcdctl shows.
#[track_caller]
fn pairs(site: &Site) -> BTreeMap<String, String> {
    let text =
        |value: &serde_json::Value| String::from_utf8(base64::decode(value.as_str().unwrap())).unwrap();
    site.keys("m1", "").iter().map(|kv| (text(&kv["key"]), text(&kv["value"]))).collect()
}

fn v2_pairs() -> BTreeMap<String, String> {
    V2_KEYS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_v2_data_alone() {
    let site = Site::new(Version::V3_4, &["m1"]);
    site.start_cluster(&["m1"], "ETCD_ENABLE_V2=true");
    site.shell("m1", V2_HISTORY).ok();
    site.follow(
        "v2-data-to-v3.md",
        |heading| {
            heading.starts_with("What") && !heading.ends_with("wrong") || heading.starts_with("Only v2")
        },
        &[],
    );
    assert_eq!(pairs(&site), v2_pairs());
    site.assert_lives(&["m1"], "");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_v2_data_beside_v3() {
    let site = Site::new(Version::V3_4, &["m1"]);
    site.start_cluster(&["m1"], "ETCD_ENABLE_V2=true");
    let keys = history(&site, "m1", "");
    site.shell("m1", V2_HISTORY).ok();
    site.follow("v2-data-to-v3.md", |heading| heading.starts_with("What is there"), &[]);
    let refused = site.shell("m1", "etcd-rescue v2 migrate /var/lib/etcd -o /var/tmp/refused");
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(!site.host("m1").path("/var/tmp/refused").exists());
    site.follow("v2-data-to-v3.md", |heading| heading.starts_with("When there are v3 keys"), &[]);
    let mut now = pairs(&site);
    let moved: BTreeMap<_, _> =
        V2_KEYS.iter().map(|(key, _)| ((*key).to_owned(), now.remove(*key).unwrap())).collect();
    assert_eq!(moved, v2_pairs());
    assert_eq!(now.len(), keys.len());
    let rest = |kv: &serde_json::Value| {
        let key = String::from_utf8(base64::decode(kv["key"].as_str().unwrap())).unwrap();
        !moved.contains_key(&key)
    };
    assert_eq!(site.keys("m1", "").into_iter().filter(rest).collect::<Vec<_>>(), keys);
    site.assert_lives(&["m1"], "");
}
