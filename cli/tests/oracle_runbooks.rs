//! Every page of docs/runbooks, typed as it stands on hosts of a real cluster to which that happened (cli/tests/runbooks/site.rs has the
//! table of what is put in place of the hosts).

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod runbooks;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use runbooks::{Kubelet, Site, THREE, gone, history, kept, pages, settle};
use serde_json::Value;
use testdata::base64;
use testdata::oracle::{Tools, Version};

/// All pages, and so that none is without its test: the tests below follow them.
const FOLLOWED: [&str; 14] = [
    "3.6-back-to-3.5.md",
    "a-nodes-ip-changed.md",
    "auth.md",
    "bare-db.md",
    "damaged-db.md",
    "db-full.md",
    "http-to-https.md",
    "kubeadm.md",
    "one-node-lost.md",
    "power-cut.md",
    "prove-what-happened.md",
    "snapshot-to-three-hosts.md",
    "two-of-three-lost.md",
    "v2-data-to-v3.md",
];

#[test]
fn every_page_is_followed() {
    assert_eq!(pages(), FOLLOWED);
}

/// The last segment of a member's log, and where its records end: behind them are the zeros that etcd allocates.
fn log_end(site: &Site, host: &str) -> (PathBuf, usize) {
    let wal = site.host(host).path("/var/lib/etcd/member/wal");
    let names = fs::read_dir(wal).unwrap().map(|entry| entry.unwrap().path());
    let last = names.filter(|path| path.extension().is_some_and(|end| end == "wal")).max().unwrap();
    let bytes = fs::read(&last).unwrap();
    (last, bytes.iter().rposition(|byte| *byte != 0).unwrap())
}

/// Puts keys until the cluster ends, all members at once; gives how many of the puts it confirmed.
fn power_cut(site: &Site, members: &[&str]) -> usize {
    let script = "n=0; while etcdctl --command-timeout 2s put /load/$n \"$n\" >/dev/null 2>&1; do n=$((n + 1)); done; echo $n";
    thread::scope(|scope| {
        let load = scope.spawn(|| site.shell("m1", script).ok().stdout.trim().parse().unwrap());
        thread::sleep(Duration::from_secs(2));
        gone(site, members);
        load.join().unwrap()
    })
}

/// That keys of before are there, and of the load all that were confirmed, and at most the one that was under way.
#[track_caller]
fn assert_load(site: &Site, host: &str, before: &[Value], confirmed: usize) {
    let now = kept(site.keys(host, ""));
    let is_load = |kv: &&Value| base64::decode(kv["key"].as_str().unwrap()).starts_with(b"/load/");
    let rest: Vec<Value> = now.iter().filter(|kv| !is_load(kv)).cloned().collect();
    assert_eq!(rest, before);
    let load: BTreeSet<Vec<u8>> =
        now.iter().filter(is_load).map(|kv| base64::decode(kv["value"].as_str().unwrap())).collect();
    for n in 0..confirmed {
        assert!(load.contains(n.to_string().as_bytes()), "{n} of {confirmed} is lost");
    }
    assert!(confirmed > 3 && load.len() <= confirmed + 1, "{} of {confirmed}", load.len());
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_two_of_three_lost() {
    let site = Site::new(Version::V3_5New, &THREE);
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    gone(&site, &["m2", "m3"]);
    lose(&site, &["m2", "m3"]);
    let only = "etcd-rescue recover";
    site.follow(
        "two-of-three-lost.md",
        |heading| !heading.starts_with("Another way"),
        &["etcd-rescue compare", only],
    );
    site.assert_lives(&THREE, "");
    assert_eq!(kept(site.keys("m2", "")), keys);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_two_of_three_lost_the_other_way() {
    let site = Site::new(Version::V3_4, &THREE);
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    gone(&site, &["m2", "m3"]);
    lose(&site, &["m2", "m3"]);
    site.follow("two-of-three-lost.md", |heading| heading.starts_with("Another way"), &["cluster force-new"]);
    // The last one that was added has to get the log first.
    settle();
    site.assert_lives(&THREE, "");
    assert_eq!(kept(site.keys("m3", "")), keys);
}

/// The disks of these hosts are new.
fn lose(site: &Site, hosts: &[&str]) {
    for host in hosts {
        fs::remove_dir_all(site.host(host).path("/var/lib/etcd")).unwrap();
    }
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_power_cut() {
    let site = Site::new(Version::V3_5_1, &THREE);
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    let confirmed = power_cut(&site, &THREE);
    // The end of one log was not written, another has wrong bytes in its middle, and one database has lost its metas.
    let (torn, end) = log_end(&site, "m1");
    File::options().write(true).open(torn).unwrap().set_len(u64::try_from(end - 10).unwrap()).unwrap();
    let (broken, end) = log_end(&site, "m3");
    let mut bytes = fs::read(&broken).unwrap();
    bytes[end / 2..end / 2 + 16].fill(0xa5);
    fs::write(&broken, bytes).unwrap();
    let db = site.host("m2").path("/var/lib/etcd/member/snap/db");
    let mut bytes = fs::read(&db).unwrap();
    bytes[..8192].fill(0);
    fs::write(&db, bytes).unwrap();
    site.follow("power-cut.md", |_| true, &["etcd-rescue compare", "etcd-rescue recover"]);
    site.assert_lives(&THREE, "");
    assert_load(&site, "m2", &keys, confirmed);
}

/// A key is put twice and deleted, and all three members know it.
#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_prove_what_happened() {
    let site = Site::new(Version::V3_5New, &THREE);
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    site.shell("m1", "etcdctl put /app/owner alice && etcdctl put /app/owner bob && etcdctl del /app/owner")
        .ok();
    site.follow("prove-what-happened.md", |_| true, &[]);
    let ask = "etcd-rescue case key /var/tmp/incident.case /app/owner --values -w json";
    let life: Vec<Value> =
        site.shell("m1", ask).ok().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let revisions: Vec<&Value> = life.iter().filter(|row| row["type"] == "revision").collect();
    let told: Vec<_> =
        revisions.iter().map(|row| (row["value"].as_str(), row["deleted"].as_bool())).collect();
    let no = Some(false);
    assert_eq!(told, [(Some("alice"), no), (Some("bob"), no), (None, Some(true))], "{life:?}");
    // A member that was stopped a moment after the others may not have applied the last of them yet, but its log has it.
    assert!(revisions.iter().all(|row| !row["sources"].as_array().unwrap().is_empty()), "{life:?}");
    let report = fs::read_to_string(site.host("m1").path("/var/tmp/report-for-others.html")).unwrap();
    assert!(report.contains("left out of this report") && !report.contains("/app/owner"));
    site.assert_lives(&THREE, "");
    assert_eq!(kept(site.keys("m2", "")), keys);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_one_node_lost() {
    let site = Site::new(Version::V3_4, &["m1", "m2", "m3", "m4"]);
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    gone(&site, &["m3"]);
    // Whoever reads a page types later than the next election; and a member that was connected for less than five seconds counts as
    // unhealthy for member add.
    thread::sleep(Duration::from_secs(6));
    site.follow("one-node-lost.md", |_| true, &[]);
    site.assert_lives(&["m1", "m2", "m4"], "");
    assert_eq!(kept(site.keys("m4", "")), keys);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_bare_db() {
    let site = Site::new(Version::V3_5_1, &THREE);
    site.start_cluster(&THREE, "");
    let keys = history(&site, "m1", "");
    settle();
    let copy = site.host("m1").path("/var/backups/db");
    fs::copy(site.host("m1").path("/var/lib/etcd/member/snap/db"), copy).unwrap();
    site.shell("m1", "etcdctl put /app/too-late 1").ok();
    gone(&site, &THREE);
    site.follow("bare-db.md", |_| true, &[]);
    site.assert_lives(&["m1"], "");
    assert_eq!(kept(site.keys("m1", "")), keys);
}

/// Pages of the database that a power cut left zeroed: one of every four behind the metas.
fn zero_pages(site: &Site, host: &str) {
    const PAGE: usize = 4096;
    let db = site.host(host).path("/var/lib/etcd/member/snap/db");
    let mut bytes = fs::read(&db).unwrap();
    for page in bytes.chunks_mut(PAGE).skip(2).step_by(4) {
        page.fill(0);
    }
    fs::write(&db, bytes).unwrap();
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_damaged_db() {
    let site = Site::new(Version::V3_5New, &["m1"]);
    site.start_cluster(&["m1"], "");
    history(&site, "m1", "");
    // More than one page of records.
    site.shell("m1", "n=0; while [ $n -lt 60 ]; do head -c 900 /dev/zero | tr '\\0' x | etcdctl put /pad/$n >/dev/null || exit 1; n=$((n + 1)); done")
        .ok();
    let keys = kept(site.keys("m1", ""));
    settle();
    gone(&site, &["m1"]);
    zero_pages(&site, "m1");
    let started = site.shell("m1", "systemctl start etcd");
    assert!(!started.status.success() && started.stderr.contains("etcd ended"), "{started:?}");
    site.follow("damaged-db.md", |_| true, &["etcd-rescue inspect"]);
    site.assert_lives(&["m1"], "");
    assert_eq!(kept(site.keys("m1", "")), keys);
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_snapshot_to_three_hosts() {
    let new = ["m4", "m5", "m6"];
    let site = Site::new(Version::V3_5New, &["m1", "m4", "m5", "m6"]);
    site.start_cluster(&["m1"], "");
    let keys = history(&site, "m1", "");
    site.shell(
        "m1",
        "etcdctl snapshot save /var/backups/snapshot.db && scp /var/backups/snapshot.db m4:/var/backups/",
    )
    .ok();
    gone(&site, &["m1"]);
    // As a package leaves it.
    for host in new {
        fs::create_dir(site.host(host).path("/var/lib/etcd")).unwrap();
    }
    site.follow("snapshot-to-three-hosts.md", |_| true, &[]);
    site.assert_lives(&new, "");
    assert_eq!(kept(site.keys("m6", "")), keys);
}

/// Puts the same few large keys until the server refuses, and gives how many of the puts it took.
#[track_caller]
fn fill(site: &Site, host: &str) -> usize {
    let script = "head -c 100000 /dev/zero | tr '\\0' x >big; n=0
while etcdctl put /big/$((n % 3)) <big 2>refused >/dev/null && [ $n -lt 200 ]; do n=$((n + 1)); done
grep -q 'database space exceeded' refused && echo $n";
    site.shell(host, script).ok().stdout.trim().parse().unwrap()
}

const SMALL_QUOTA: &str = "ETCD_QUOTA_BACKEND_BYTES=2500000";

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_db_full_and_running() {
    let site = Site::new(Version::V3_4, &THREE);
    site.start_cluster(&THREE, SMALL_QUOTA);
    history(&site, "m1", "");
    assert!(fill(&site, "m1") > 5);
    let keys = site.keys("m1", "");
    site.follow("db-full.md", |heading| heading.starts_with("While the members run"), &[]);
    site.assert_lives(&THREE, "");
    assert_eq!(kept(site.keys("m1", "")), keys);
    assert_eq!(site.shell("m2", "etcdctl alarm list").ok().stdout, "");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_db_full_and_down() {
    let site = Site::new(Version::V3_5_1, &["m1"]);
    site.start_cluster(&["m1"], SMALL_QUOTA);
    let keys = history(&site, "m1", "");
    assert!(fill(&site, "m1") > 5);
    let full = site.keys("m1", "");
    let small = |kv: &&Value| !base64::decode(kv["key"].as_str().unwrap()).starts_with(b"/big");
    assert_eq!(full.iter().filter(small).cloned().collect::<Vec<_>>(), keys);
    site.follow("db-full.md", |heading| heading.ends_with("the only member"), &[]);
    site.assert_lives(&["m1"], "");
    assert_eq!(kept(site.keys("m1", "")), full);
    let alarms = site.shell("m1", "etcdctl alarm list").ok().stdout;
    assert_eq!(alarms, "");
}

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_auth() {
    let site = Site::new(Version::V3_5New, &THREE);
    site.start_cluster(&THREE, "");
    let root = "--user root:forgotten";
    let users = "etcdctl role add reader && etcdctl role grant-permission --prefix=true reader read /app/ &&
etcdctl user add alice:alicepw && etcdctl user grant-role alice reader &&
etcdctl user add root:forgotten && etcdctl user grant-role root root && etcdctl auth enable";
    site.shell("m1", users).ok();
    let keys = history(&site, "m1", root);
    settle();
    gone(&site, &["m2", "m3"]);
    site.follow("auth.md", |_| true, &[]);
    let new = "--user \"root:$(cat $SITE/m1/var/tmp/new-password)\"";
    site.assert_lives(&THREE, new);
    assert_eq!(kept(site.keys("m2", new)), keys);
    let old = site.shell("m1", &format!("etcdctl {root} get /app/1"));
    assert!(old.stderr.contains("authentication failed"), "{old:?}");
    let alice = site.shell("m3", "etcdctl --user alice:alicepw get /app/1 --print-value-only").ok();
    assert_eq!(alice.stdout, "changed\n");
    assert!(!site.shell("m3", "etcdctl --user alice:alicepw put /app/1 x").status.success());
}

/// A key and a certificate that signs itself, for server, clients and peers alike, where kubeadm has them.
const CERTIFICATES: &str =
    "mkdir -p /etc/kubernetes/pki/etcd /etc/kubernetes/manifests && cd etc/kubernetes/pki/etcd &&
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=etcd \\
  -addext 'subjectAltName=IP:10.0.0.1' -keyout server.key -out server.crt &&
cp server.crt ca.crt && cp server.crt peer.crt && cp server.key peer.key";

/// As kubeadm writes it, as far as etcd's own flags and the mounts go.
const MANIFEST: &str = "apiVersion: v1
kind: Pod
metadata:
  name: etcd
  namespace: kube-system
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://10.0.0.1:2379
    - --cert-file=/etc/kubernetes/pki/etcd/server.crt
    - --client-cert-auth=true
    - --data-dir=/var/lib/etcd
    - --initial-advertise-peer-urls=https://10.0.0.1:2380
    - --initial-cluster=cp1=https://10.0.0.1:2380
    - --key-file=/etc/kubernetes/pki/etcd/server.key
    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379
    - --listen-peer-urls=https://10.0.0.1:2380
    - --name=cp1
    - --peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt
    - --peer-client-cert-auth=true
    - --peer-key-file=/etc/kubernetes/pki/etcd/peer.key
    - --peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    - --snapshot-count=10000
    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    image: registry.k8s.io/etcd:3.5.16-0
    name: etcd
    volumeMounts:
    - mountPath: /var/lib/etcd
      name: etcd-data
  hostNetwork: true
  volumes:
  - hostPath:
      path: /var/lib/etcd
      type: DirectoryOrCreate
    name: etcd-data
";

#[test]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_kubeadm() {
    let site = Site::new(Version::V3_5New, &["cp1"]);
    let host = site.host("cp1");
    site.shell("cp1", CERTIFICATES).ok();
    let manifests = host.path("/etc/kubernetes/manifests");
    let tls = "--endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \
               --cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key";
    let answers = || {
        for _ in 0..100 {
            if site.shell("cp1", &format!("etcdctl {tls} endpoint health")).status.success() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("etcd of the static pod does not answer");
    };
    Kubelet::during(&site, "cp1", || {
        fs::write(manifests.join("etcd.yaml"), site.substituted(host, MANIFEST)).unwrap();
        fs::write(manifests.join("kube-apiserver.yaml"), "kind: Pod\n").unwrap();
        answers();
        site.shell("cp1", &format!("etcdctl {tls} put /registry/namespaces/default x")).ok();
        let keys = site.keys("cp1", tls);
        site.shell("cp1", &format!("etcdctl {tls} snapshot save /var/backups/snapshot.db")).ok();
        site.shell("cp1", &format!("etcdctl {tls} put /registry/namespaces/later x")).ok();
        // The disk gives back zeros: the server ends at its next start.
        fs::rename(manifests.join("etcd.yaml"), host.path("/etc/kubernetes/etcd.yaml")).unwrap();
        settle();
        let db = host.path("/var/lib/etcd/member/snap/db");
        let length = usize::try_from(fs::metadata(&db).unwrap().len()).unwrap();
        fs::write(&db, vec![0; length]).unwrap();
        fs::rename(host.path("/etc/kubernetes/etcd.yaml"), manifests.join("etcd.yaml")).unwrap();
        site.follow("kubeadm.md", |_| true, &["etcd-rescue inspect"]);
        assert_eq!(kept(site.keys("cp1", tls)), keys);
        let put = site.shell("cp1", &format!("etcdctl {tls} put /registry/namespaces/new x -w json")).json();
        assert!(put["header"]["revision"].as_i64().unwrap() > 1_000_000_000, "{put}");
    });
    assert!(Tools::find(site.version()).release().starts_with("3.5"));
}
