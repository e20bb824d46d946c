//! What people type, and what etcd keeps as JSON.

use snapshot::gourl::PeerUrls;
use snapshot::membership::{InitialCluster, Member};
use snapshot::{gourl, v2store};

/// The v2 store of a `.snap`.
pub(crate) fn v2_store(bytes: &[u8]) {
    if let Ok(store) = v2store::read(bytes) {
        assert!(store.members.windows(2).all(|pair| pair[0].id < pair[1].id), "members out of order");
    }
}

/// A member row: what parses is written again to the same meaning.
pub(crate) fn member(bytes: &[u8]) {
    if let Ok(member) = Member::from_json(bytes) {
        let again = Member::from_json(&member.to_json());
        assert!(again.is_ok_and(|again| again == member), "a member that changes when it is written");
    }
}

/// `--initial-cluster` and the URLs in it: what parses is written again to the same cluster, unless a URL holds a comma,
/// which the list has no way to carry (Go decodes `%2c` in a user's name and prints the comma).
pub(crate) fn initial_cluster(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(url) = gourl::parse(&text)
        && url.starts_with("http")
    {
        assert_eq!(gourl::parse(&url).ok().as_deref(), Some(url.as_str()), "normalising twice");
    }
    if let Ok(cluster) = InitialCluster::parse(&text) {
        let _ = cluster.members("token");
        let mut urls =
            cluster.names().filter_map(|name| cluster.urls(name).ok()).flat_map(PeerUrls::as_slice);
        if urls.all(|url| url.starts_with("http") && !url.contains(',')) {
            let again = InitialCluster::parse(&cluster.to_string());
            assert!(again.is_ok_and(|again| again == cluster), "a cluster that changes when it is written");
        }
    }
}
