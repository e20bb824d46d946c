//! Who belongs to a cluster, held against what live servers said of themselves before they were stopped or killed.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use snapshot::facts::{Facts, FactsOptions, gather};
use snapshot::members::{Account, MembersError, Membership, at, by};
use testdata as fixture;

fn facts(dir: &Path) -> Facts {
    gather(dir, &FactsOptions::default(), &()).unwrap()
}

/// Name, peer URLs, client URLs, whether it learns, ascending by id: as etcdctl's JSON has them.
type Row = (u64, String, Vec<String>, Vec<String>, bool);

fn ours(membership: &Membership) -> Vec<Row> {
    let row = |member: &snapshot::membership::Member| {
        let snapshot::membership::Member { id, name, peer_urls, client_urls, is_learner } = member.clone();
        (id, name, peer_urls, client_urls, is_learner)
    };
    membership.members.values().map(row).collect()
}

fn recorded(text: &str) -> Vec<Row> {
    let answer: Value = serde_json::from_str(text).unwrap();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rows: Vec<Row> = answer["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| {
            let name = member["name"].as_str().unwrap_or_default().to_owned();
            let learns = member["isLearner"].as_bool().unwrap_or_default();
            let id = member["ID"].as_u64().unwrap();
            (id, name, texts(&member["peerURLs"]), texts(&member["clientURLs"]), learns)
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn members_are_those_that_the_live_server_named() {
    let dir = tempfile::tempdir().unwrap();
    for version in fixture::VERSIONS {
        let data = fixture::data_dir(version, &dir.path().join(version));
        let facts = facts(&data);
        let membership = at(&facts, u64::MAX).unwrap();
        let recorded = recorded(&fixture::facts(version, "s3-final", "members.json"));
        assert_eq!(ours(&membership), recorded, "{version}");
        let minor = version.rsplit_once('.').unwrap().0;
        assert_eq!(membership.version.as_deref(), Some(format!("{minor}.0").as_str()));
        let is_old = membership.release.minor() < 6;
        assert_eq!(membership.account == Account::V2Store, is_old, "{version}");
        // Each release would see the same: nothing was edited.
        for release in ["3.4", "3.5", "3.6", "3.7"] {
            let seen = by(&facts, u64::MAX, release.parse().unwrap()).unwrap();
            // 3.5.1 leaves name and client URLs out of the rows, and a v2 store of 3.6 has all of them.
            if version != "3.5.1" {
                assert_eq!(ours(&seen), recorded, "{version} as {release} sees it");
            }
        }
    }
}

#[test]
fn members_that_came_and_went_are_followed_through_logs_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    for (version, names) in [
        ("3.4.23", &["killed", "overwritten"][..]),
        ("3.5.1", &["overwritten"]),
        ("3.5.16", &["segments", "purged", "overwritten"]),
    ] {
        for name in names {
            let to = dir.path().join(version).join(name);
            fixture::unpack(&format!("{version}/{name}/data.tar.zst"), &to);
            let membership = at(&facts(&to.join("data")), u64::MAX).unwrap();
            let path = fixture::path(&format!("fixtures/{version}/{name}/facts/members.json"));
            let recorded = recorded(&fs::read_to_string(path).unwrap());
            assert_eq!(ours(&membership), recorded, "{version} {name}");
            assert_eq!(membership.removed.len(), if *name == "overwritten" { 2 } else { 0 });
        }
    }
}

/// n1 of `overwritten` began in a cluster of three, told of the others by entries 1 to 3, and removed them at the end.
#[test]
fn members_at_an_index_are_those_of_that_time() {
    let dir = tempfile::tempdir().unwrap();
    fixture::unpack("3.5.16/overwritten/data.tar.zst", dir.path());
    let facts = facts(&dir.path().join("data"));
    let count = |index| at(&facts, index).unwrap().members.len();
    assert_eq!([0, 1, 2, 3, 30].map(count), [0, 1, 2, 3, 3]);
    assert_eq!(at(&facts, 3).unwrap().version, None);
    let last = facts.log_facts().unwrap().report.log.last_index().unwrap();
    assert_eq!(count(last), 1);
    // The rows have no past: who goes by them learns that.
    let rows = by(&facts, 3, "3.6".parse().unwrap());
    assert!(matches!(rows, Err(MembersError::Past { index: 3, change: 4.., .. })), "{rows:?}");
}

#[test]
fn a_restored_directory_knows_names_by_its_rows_only() {
    let dir = tempfile::tempdir().unwrap();
    fixture::unpack("restored/3.5.30-by-3.5.1.tar.zst", dir.path());
    let data = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let facts = facts(&data);
    let names = |membership: &Membership| -> Vec<String> {
        membership.members.values().map(|member| member.name.clone()).collect()
    };
    let store = at(&facts, u64::MAX).unwrap();
    assert_eq!((store.account, names(&store)), (Account::V2Store, vec![String::new(); 3]));
    let rows = by(&facts, u64::MAX, "3.6".parse().unwrap()).unwrap();
    let mut named = names(&rows);
    named.sort();
    assert_eq!((rows.account, named), (Account::Rows, ["m1", "m2", "m3"].map(str::to_owned).to_vec()));
}

#[test]
fn without_its_snap_a_log_that_begins_late_does_not_tell() {
    let dir = tempfile::tempdir().unwrap();
    fixture::unpack("3.5.16/purged/data.tar.zst", dir.path());
    let data = dir.path().join("data");
    for file in fs::read_dir(data.join("member/snap")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snap") {
            fs::remove_file(path).unwrap();
        }
    }
    let facts = facts(&data);
    let told = at(&facts, u64::MAX);
    assert!(matches!(told, Err(MembersError::Store { .. })), "{told:?}");
    assert_eq!(by(&facts, u64::MAX, "3.6".parse().unwrap()).unwrap().members.len(), 1);
}

#[test]
fn a_snapshot_has_only_rows_and_a_text_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = fixture::snapshot_file("3.5.30", "s3-final", dir.path());
    let told = at(&facts(&file), u64::MAX).unwrap();
    assert_eq!((told.account, told.members.len()), (Account::Rows, 1));
    let text = dir.path().join("text");
    fs::write(&text, "no database").unwrap();
    assert!(matches!(
        at(&facts(&text), 1),
        Err(MembersError::Database { .. } | MembersError::NoDatabase { .. })
    ));
}
