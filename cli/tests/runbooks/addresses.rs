//! Pages that change where members are found.

use std::net::TcpStream;

use serde_json::Value;
use testdata::oracle::Version;

use super::{Site, THREE, history, kept};

/// The peer URLs of all members, by name, as etcdctl with these flags shows them.
#[track_caller]
fn peers(site: &Site, host: &str, flags: &str) -> Vec<(String, String)> {
    let listed = site.shell(host, &format!("etcdctl {flags} member list -w json")).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let members = listed["members"].as_array().unwrap().iter();
    let mut peers: Vec<_> = members.map(|one| (text(&one["name"]), text(&one["peerURLs"][0]))).collect();
    peers.sort();
    peers
}

/// Such a list, with the addresses of this site.
fn expected(site: &Site, scheme: &str, addresses: [u8; 3]) -> Vec<(String, String)> {
    let pair = |(name, number): (&&str, u8)| {
        let url = format!("{scheme}://10.0.0.{number}:2380");
        ((*name).to_owned(), site.substituted(site.host(name), &url))
    };
    THREE.iter().zip(addresses).map(pair).collect()
}

/// That the members on `hosts` have these peers, also after each of them was started once more.
#[track_caller]
fn assert_peers(site: &Site, hosts: &[&str], flags: &str, expected: &[(String, String)]) {
    assert_eq!(peers(site, hosts[0], flags), expected);
    site.on_each(hosts, "systemctl stop etcd");
    site.on_each(hosts, "systemctl start etcd");
    for host in hosts {
        assert_eq!(peers(site, host, flags), expected, "{host}");
    }
}

/// That servers listen at these addresses and at no others of those the pages name.
#[track_caller]
fn assert_listening(site: &Site, addresses: [u8; 3]) {
    for (number, port) in (1..=6).flat_map(|number| [(number, 2379), (number, 2380)]) {
        let address = site.substituted(site.host("m1"), &format!("10.0.0.{number}:{port}"));
        assert_eq!(TcpStream::connect(&address).is_ok(), addresses.contains(&number), "{address}");
    }
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_address_changed() {
    let site = Site::new(Version::V3_4, &THREE).with_loopbacks();
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    site.follow("a-nodes-ip-changed.md", |heading| heading.starts_with("One node of three"), &[]);
    site.assert_lives(&THREE, "");
    assert_eq!(kept(site.keys("m3", "")), keys);
    assert_eq!(peers(&site, "m3", ""), expected(&site, "http", [1, 2, 4]));
    assert_listening(&site, [1, 2, 4]);
}

/// All addresses changed on a cluster of `version`.
fn renumbered(version: Version) {
    let site = Site::new(version, &THREE).with_loopbacks();
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    site.follow("a-nodes-ip-changed.md", |heading| heading.starts_with("All three"), &[]);
    site.assert_lives(&THREE, "");
    assert_eq!(kept(site.keys("m2", "")), keys);
    assert_peers(&site, &THREE, "", &expected(&site, "http", [4, 5, 6]));
    assert_listening(&site, [4, 5, 6]);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_all_addresses_changed_3_4() {
    renumbered(Version::V3_4);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_all_addresses_changed_3_5() {
    renumbered(Version::V3_5_1);
}

/// An authority, and what it signed for this host's members and clients. The system takes 127.0.0.1 as the source of connections to all of
/// these hosts (written so that it is not taken for the host's own address).
const CERTIFICATES: &str = "cd $SITE && ([ -e ca.key ] || openssl req -x509 -newkey ec -pkeyopt \
  ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt) &&
mkdir -p $HOST/etc/etcd/pki && cd $HOST/etc/etcd/pki && cp $SITE/ca.crt . &&
for name in peer server; do
  echo \"subjectAltName=IP:ADDRESS,IP:127.0.0.1,IP:127.0.0.$((1))\" >extensions &&
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$name -keyout $name.key -out request &&
  openssl x509 -req -in request -CA $SITE/ca.crt -CAkey $SITE/ca.key -CAcreateserial -days 2 -extfile extensions -out $name.crt || exit 1
done";

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_http_to_https() {
    let site = Site::new(Version::V3_5New, &THREE);
    for (host, number) in THREE.iter().zip(1..) {
        site.shell(host, &CERTIFICATES.replace("ADDRESS", &format!("10.0.0.{number}"))).ok();
    }
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    site.follow("http-to-https.md", |_| true, &[]);
    let tls = "--endpoints https://127.0.0.1:2379 --cacert /etc/etcd/pki/ca.crt \
               --cert /etc/etcd/pki/server.crt --key /etc/etcd/pki/server.key";
    site.assert_lives(&THREE, tls);
    assert_eq!(kept(site.keys("m3", tls)), keys);
    assert_peers(&site, &THREE, tls, &expected(&site, "https", [1, 2, 3]));
}
