use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use insta::assert_snapshot;
use rstest::rstest;
use snapshot::integrity::{Digest, Integrity, Verdict};
use snapshot::target::TargetVersion;

use super::*;
use crate::outcome::Note;

const GIB: u64 = 1 << 30;

/// A report of members `(name, peer URLs, data dir)`, with nothing else to mind.
fn report(members: &[(&str, &str, Option<&str>)]) -> RestoreReport {
    let digest = Some(Digest([7; 32]));
    RestoreReport {
        fold: None,
        verdict: Verdict {
            integrity: Integrity::Verified,
            expected: digest,
            computed: digest,
            image_bytes: 1 << 20,
        },
        findings: Vec::new(),
        notices: Vec::new(),
        target: TargetVersion::V3_5,
        target_reason: "its cluster version is 3.5.0".to_owned(),
        cluster_id: 0xcdf8_1819_4e3a_8c32,
        token: "etcd-cluster".to_owned(),
        members: members
            .iter()
            .map(|(name, urls, data_dir)| RestoredMember {
                name: (*name).to_owned(),
                id: 0x8e9e_05c5_2164_694d,
                peer_urls: urls.split(',').map(str::to_owned).collect(),
                data_dir: data_dir.map(PathBuf::from),
                wal_dir: None,
            })
            .collect(),
        revision: 79,
        back_from: None,
        bumped_to: None,
        db_bytes: 1 << 20,
        key_prefix_registry: false,
        leases: 0,
        dropped_nospace_alarm: false,
        auth_enabled: false,
        dry_run: false,
        leftovers: Vec::new(),
        cleaned: Vec::new(),
    }
}

fn one() -> RestoreReport {
    report(&[("default", "http://localhost:2380", Some("/var/lib/etcd"))])
}

fn three() -> RestoreReport {
    report(&[
        ("m1", "http://10.0.0.1:2380", Some("/out/m1")),
        ("m2", "http://host2:2380", Some("/out/m2")),
        ("m3", "http://[fd00::3]:2380", Some("/out/m3")),
    ])
}

fn tls_with_wal_dir() -> RestoreReport {
    let mut report = report(&[("m 1", "https://host1:2380", Some("/it's/m1"))]);
    report.token = "100% $HOME".to_owned();
    report.members[0].wal_dir = Some(PathBuf::from("/wal"));
    report
}

fn emitted(form: Form, report: &RestoreReport) -> String {
    emit(form, &starts(report), None)
}

fn advised(report: &RestoreReport, root_without_owner: bool, form: Form) -> String {
    let notes = advice(report, &starts(report), Situation { root_without_owner, form });
    notes.iter().map(Note::text).collect::<Vec<_>>().join("\n")
}

#[test]
fn flags_for_one() {
    assert_snapshot!(emitted(Form::Flags, &one()), @r"
    # member default on localhost
    etcd \
      --name default \
      --data-dir /var/lib/etcd \
      --initial-advertise-peer-urls http://localhost:2380 \
      --listen-peer-urls http://localhost:2380 \
      --listen-client-urls http://localhost:2379 \
      --advertise-client-urls http://localhost:2379 \
      --initial-cluster default=http://localhost:2380 \
      --initial-cluster-token etcd-cluster \
      --initial-cluster-state existing
    ");
}

#[test]
fn flags_for_three() {
    assert_snapshot!(emitted(Form::Flags, &three()), @r"
    # member m1 on 10.0.0.1
    etcd \
      --name m1 \
      --data-dir /out/m1 \
      --initial-advertise-peer-urls http://10.0.0.1:2380 \
      --listen-peer-urls http://10.0.0.1:2380 \
      --listen-client-urls http://10.0.0.1:2379,http://127.0.0.1:2379 \
      --advertise-client-urls http://10.0.0.1:2379 \
      --initial-cluster 'm1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380' \
      --initial-cluster-token etcd-cluster \
      --initial-cluster-state existing

    # member m2 on host2
    etcd \
      --name m2 \
      --data-dir /out/m2 \
      --initial-advertise-peer-urls http://host2:2380 \
      --listen-peer-urls http://0.0.0.0:2380 \
      --listen-client-urls http://0.0.0.0:2379 \
      --advertise-client-urls http://host2:2379 \
      --initial-cluster 'm1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380' \
      --initial-cluster-token etcd-cluster \
      --initial-cluster-state existing

    # member m3 on fd00::3
    etcd \
      --name m3 \
      --data-dir /out/m3 \
      --initial-advertise-peer-urls 'http://[fd00::3]:2380' \
      --listen-peer-urls 'http://[fd00::3]:2380' \
      --listen-client-urls 'http://[fd00::3]:2379,http://127.0.0.1:2379' \
      --advertise-client-urls 'http://[fd00::3]:2379' \
      --initial-cluster 'm1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380' \
      --initial-cluster-token etcd-cluster \
      --initial-cluster-state existing
    ");
}

#[test]
fn flags_are_quoted_for_a_shell_and_name_tls_files() {
    assert_snapshot!(emitted(Form::Flags, &tls_with_wal_dir()), @r"
    # member m 1 on host1
    etcd \
      --name 'm 1' \
      --data-dir '/it'\''s/m1' \
      --wal-dir /wal \
      --initial-advertise-peer-urls https://host1:2380 \
      --listen-peer-urls https://0.0.0.0:2380 \
      --listen-client-urls https://0.0.0.0:2379 \
      --advertise-client-urls https://host1:2379 \
      --initial-cluster 'm 1=https://host1:2380' \
      --initial-cluster-token '100% $HOME' \
      --initial-cluster-state existing \
      --peer-cert-file /FILL-IN/peer.crt \
      --peer-key-file /FILL-IN/peer.key \
      --peer-trusted-ca-file /FILL-IN/ca.crt \
      --peer-client-cert-auth \
      --cert-file /FILL-IN/server.crt \
      --key-file /FILL-IN/server.key \
      --trusted-ca-file /FILL-IN/ca.crt \
      --client-cert-auth
    ");
}

#[test]
fn env_for_one() {
    assert_snapshot!(emitted(Form::Env, &one()), @r"
    # member default on localhost
    ETCD_NAME=default
    ETCD_DATA_DIR=/var/lib/etcd
    ETCD_INITIAL_ADVERTISE_PEER_URLS=http://localhost:2380
    ETCD_LISTEN_PEER_URLS=http://localhost:2380
    ETCD_LISTEN_CLIENT_URLS=http://localhost:2379
    ETCD_ADVERTISE_CLIENT_URLS=http://localhost:2379
    ETCD_INITIAL_CLUSTER=default=http://localhost:2380
    ETCD_INITIAL_CLUSTER_TOKEN=etcd-cluster
    ETCD_INITIAL_CLUSTER_STATE=existing
    ");
}

#[test]
fn env_for_three() {
    assert_snapshot!(emitted(Form::Env, &three()), @r"
    # member m1 on 10.0.0.1
    ETCD_NAME=m1
    ETCD_DATA_DIR=/out/m1
    ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.1:2380
    ETCD_LISTEN_PEER_URLS=http://10.0.0.1:2380
    ETCD_LISTEN_CLIENT_URLS=http://10.0.0.1:2379,http://127.0.0.1:2379
    ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.1:2379
    ETCD_INITIAL_CLUSTER=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380
    ETCD_INITIAL_CLUSTER_TOKEN=etcd-cluster
    ETCD_INITIAL_CLUSTER_STATE=existing

    # member m2 on host2
    ETCD_NAME=m2
    ETCD_DATA_DIR=/out/m2
    ETCD_INITIAL_ADVERTISE_PEER_URLS=http://host2:2380
    ETCD_LISTEN_PEER_URLS=http://0.0.0.0:2380
    ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379
    ETCD_ADVERTISE_CLIENT_URLS=http://host2:2379
    ETCD_INITIAL_CLUSTER=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380
    ETCD_INITIAL_CLUSTER_TOKEN=etcd-cluster
    ETCD_INITIAL_CLUSTER_STATE=existing

    # member m3 on fd00::3
    ETCD_NAME=m3
    ETCD_DATA_DIR=/out/m3
    ETCD_INITIAL_ADVERTISE_PEER_URLS=http://[fd00::3]:2380
    ETCD_LISTEN_PEER_URLS=http://[fd00::3]:2380
    ETCD_LISTEN_CLIENT_URLS=http://[fd00::3]:2379,http://127.0.0.1:2379
    ETCD_ADVERTISE_CLIENT_URLS=http://[fd00::3]:2379
    ETCD_INITIAL_CLUSTER=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380
    ETCD_INITIAL_CLUSTER_TOKEN=etcd-cluster
    ETCD_INITIAL_CLUSTER_STATE=existing
    ");
}

#[test]
fn env_is_quoted() {
    assert_snapshot!(emitted(Form::Env, &tls_with_wal_dir()), @r#"
    # member m 1 on host1
    ETCD_NAME="m 1"
    ETCD_DATA_DIR="/it's/m1"
    ETCD_WAL_DIR=/wal
    ETCD_INITIAL_ADVERTISE_PEER_URLS=https://host1:2380
    ETCD_LISTEN_PEER_URLS=https://0.0.0.0:2380
    ETCD_LISTEN_CLIENT_URLS=https://0.0.0.0:2379
    ETCD_ADVERTISE_CLIENT_URLS=https://host1:2379
    ETCD_INITIAL_CLUSTER="m 1=https://host1:2380"
    ETCD_INITIAL_CLUSTER_TOKEN="100% \$HOME"
    ETCD_INITIAL_CLUSTER_STATE=existing
    ETCD_PEER_CERT_FILE=/FILL-IN/peer.crt
    ETCD_PEER_KEY_FILE=/FILL-IN/peer.key
    ETCD_PEER_TRUSTED_CA_FILE=/FILL-IN/ca.crt
    ETCD_PEER_CLIENT_CERT_AUTH=true
    ETCD_CERT_FILE=/FILL-IN/server.crt
    ETCD_KEY_FILE=/FILL-IN/server.key
    ETCD_TRUSTED_CA_FILE=/FILL-IN/ca.crt
    ETCD_CLIENT_CERT_AUTH=true
    "#);
}

#[test]
fn systemd_for_one() {
    assert_snapshot!(emitted(Form::Systemd, &one()), @r"
    # member default on localhost: /etc/systemd/system/etcd.service
    [Unit]
    Description=etcd member default
    Wants=network-online.target
    After=network-online.target

    [Service]
    Type=notify
    User=etcd
    ExecStart=/usr/bin/etcd \
      --name=default \
      --data-dir=/var/lib/etcd \
      --initial-advertise-peer-urls=http://localhost:2380 \
      --listen-peer-urls=http://localhost:2380 \
      --listen-client-urls=http://localhost:2379 \
      --advertise-client-urls=http://localhost:2379 \
      --initial-cluster=default=http://localhost:2380 \
      --initial-cluster-token=etcd-cluster \
      --initial-cluster-state=existing
    Restart=on-failure
    RestartSec=5
    LimitNOFILE=65536

    [Install]
    WantedBy=multi-user.target
    ");
}

#[test]
fn systemd_for_three() {
    assert_snapshot!(emitted(Form::Systemd, &three()), @r"
    # member m1 on 10.0.0.1: /etc/systemd/system/etcd.service
    [Unit]
    Description=etcd member m1
    Wants=network-online.target
    After=network-online.target

    [Service]
    Type=notify
    User=etcd
    ExecStart=/usr/bin/etcd \
      --name=m1 \
      --data-dir=/out/m1 \
      --initial-advertise-peer-urls=http://10.0.0.1:2380 \
      --listen-peer-urls=http://10.0.0.1:2380 \
      --listen-client-urls=http://10.0.0.1:2379,http://127.0.0.1:2379 \
      --advertise-client-urls=http://10.0.0.1:2379 \
      --initial-cluster=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380 \
      --initial-cluster-token=etcd-cluster \
      --initial-cluster-state=existing
    Restart=on-failure
    RestartSec=5
    LimitNOFILE=65536

    [Install]
    WantedBy=multi-user.target

    # member m2 on host2: /etc/systemd/system/etcd.service
    [Unit]
    Description=etcd member m2
    Wants=network-online.target
    After=network-online.target

    [Service]
    Type=notify
    User=etcd
    ExecStart=/usr/bin/etcd \
      --name=m2 \
      --data-dir=/out/m2 \
      --initial-advertise-peer-urls=http://host2:2380 \
      --listen-peer-urls=http://0.0.0.0:2380 \
      --listen-client-urls=http://0.0.0.0:2379 \
      --advertise-client-urls=http://host2:2379 \
      --initial-cluster=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380 \
      --initial-cluster-token=etcd-cluster \
      --initial-cluster-state=existing
    Restart=on-failure
    RestartSec=5
    LimitNOFILE=65536

    [Install]
    WantedBy=multi-user.target

    # member m3 on fd00::3: /etc/systemd/system/etcd.service
    [Unit]
    Description=etcd member m3
    Wants=network-online.target
    After=network-online.target

    [Service]
    Type=notify
    User=etcd
    ExecStart=/usr/bin/etcd \
      --name=m3 \
      --data-dir=/out/m3 \
      --initial-advertise-peer-urls=http://[fd00::3]:2380 \
      --listen-peer-urls=http://[fd00::3]:2380 \
      --listen-client-urls=http://[fd00::3]:2379,http://127.0.0.1:2379 \
      --advertise-client-urls=http://[fd00::3]:2379 \
      --initial-cluster=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380 \
      --initial-cluster-token=etcd-cluster \
      --initial-cluster-state=existing
    Restart=on-failure
    RestartSec=5
    LimitNOFILE=65536

    [Install]
    WantedBy=multi-user.target
    ");
}

#[test]
fn systemd_escapes_its_own_characters_and_runs_as_the_owner() {
    let report = tls_with_wal_dir();
    assert_snapshot!(emit(Form::Systemd, &starts(&report), Some("998")), @r#"
    # member m 1 on host1: /etc/systemd/system/etcd.service
    [Unit]
    Description=etcd member m 1
    Wants=network-online.target
    After=network-online.target

    [Service]
    Type=notify
    User=998
    ExecStart=/usr/bin/etcd \
      "--name=m 1" \
      "--data-dir=/it's/m1" \
      --wal-dir=/wal \
      --initial-advertise-peer-urls=https://host1:2380 \
      --listen-peer-urls=https://0.0.0.0:2380 \
      --listen-client-urls=https://0.0.0.0:2379 \
      --advertise-client-urls=https://host1:2379 \
      "--initial-cluster=m 1=https://host1:2380" \
      "--initial-cluster-token=100%% $$HOME" \
      --initial-cluster-state=existing \
      --peer-cert-file=/FILL-IN/peer.crt \
      --peer-key-file=/FILL-IN/peer.key \
      --peer-trusted-ca-file=/FILL-IN/ca.crt \
      --peer-client-cert-auth=true \
      --cert-file=/FILL-IN/server.crt \
      --key-file=/FILL-IN/server.key \
      --trusted-ca-file=/FILL-IN/ca.crt \
      --client-cert-auth=true
    Restart=on-failure
    RestartSec=5
    LimitNOFILE=65536

    [Install]
    WantedBy=multi-user.target
    "#);
}

#[test]
fn static_pod_for_one() {
    assert_snapshot!(emitted(Form::StaticPod, &one()), @r#"
    # member default on localhost: /etc/kubernetes/manifests/etcd.yaml
    # Take the image, the probes and any further flags from the manifest this replaces.
    apiVersion: v1
    kind: Pod
    metadata:
      name: etcd
      namespace: kube-system
      labels:
        component: etcd
        tier: control-plane
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      containers:
      - name: etcd
        image: FILL-IN
        command:
        - etcd
        - "--name=default"
        - "--data-dir=/var/lib/etcd"
        - "--initial-advertise-peer-urls=http://localhost:2380"
        - "--listen-peer-urls=http://localhost:2380"
        - "--listen-client-urls=http://localhost:2379"
        - "--advertise-client-urls=http://localhost:2379"
        - "--initial-cluster=default=http://localhost:2380"
        - "--initial-cluster-token=etcd-cluster"
        - "--initial-cluster-state=existing"
        volumeMounts:
        - name: etcd-data
          mountPath: "/var/lib/etcd"
      volumes:
      - name: etcd-data
        hostPath:
          path: "/var/lib/etcd"
          type: Directory
    "#);
}

#[test]
fn static_pods_for_three() {
    assert_snapshot!(emitted(Form::StaticPod, &three()), @r#"
    # member m1 on 10.0.0.1: /etc/kubernetes/manifests/etcd.yaml
    # Take the image, the probes and any further flags from the manifest this replaces.
    apiVersion: v1
    kind: Pod
    metadata:
      name: etcd
      namespace: kube-system
      labels:
        component: etcd
        tier: control-plane
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      containers:
      - name: etcd
        image: FILL-IN
        command:
        - etcd
        - "--name=m1"
        - "--data-dir=/out/m1"
        - "--initial-advertise-peer-urls=http://10.0.0.1:2380"
        - "--listen-peer-urls=http://10.0.0.1:2380"
        - "--listen-client-urls=http://10.0.0.1:2379,http://127.0.0.1:2379"
        - "--advertise-client-urls=http://10.0.0.1:2379"
        - "--initial-cluster=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380"
        - "--initial-cluster-token=etcd-cluster"
        - "--initial-cluster-state=existing"
        volumeMounts:
        - name: etcd-data
          mountPath: "/out/m1"
      volumes:
      - name: etcd-data
        hostPath:
          path: "/out/m1"
          type: Directory
    ---
    # member m2 on host2: /etc/kubernetes/manifests/etcd.yaml
    # Take the image, the probes and any further flags from the manifest this replaces.
    apiVersion: v1
    kind: Pod
    metadata:
      name: etcd
      namespace: kube-system
      labels:
        component: etcd
        tier: control-plane
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      containers:
      - name: etcd
        image: FILL-IN
        command:
        - etcd
        - "--name=m2"
        - "--data-dir=/out/m2"
        - "--initial-advertise-peer-urls=http://host2:2380"
        - "--listen-peer-urls=http://0.0.0.0:2380"
        - "--listen-client-urls=http://0.0.0.0:2379"
        - "--advertise-client-urls=http://host2:2379"
        - "--initial-cluster=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380"
        - "--initial-cluster-token=etcd-cluster"
        - "--initial-cluster-state=existing"
        volumeMounts:
        - name: etcd-data
          mountPath: "/out/m2"
      volumes:
      - name: etcd-data
        hostPath:
          path: "/out/m2"
          type: Directory
    ---
    # member m3 on fd00::3: /etc/kubernetes/manifests/etcd.yaml
    # Take the image, the probes and any further flags from the manifest this replaces.
    apiVersion: v1
    kind: Pod
    metadata:
      name: etcd
      namespace: kube-system
      labels:
        component: etcd
        tier: control-plane
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      containers:
      - name: etcd
        image: FILL-IN
        command:
        - etcd
        - "--name=m3"
        - "--data-dir=/out/m3"
        - "--initial-advertise-peer-urls=http://[fd00::3]:2380"
        - "--listen-peer-urls=http://[fd00::3]:2380"
        - "--listen-client-urls=http://[fd00::3]:2379,http://127.0.0.1:2379"
        - "--advertise-client-urls=http://[fd00::3]:2379"
        - "--initial-cluster=m1=http://10.0.0.1:2380,m2=http://host2:2380,m3=http://[fd00::3]:2380"
        - "--initial-cluster-token=etcd-cluster"
        - "--initial-cluster-state=existing"
        volumeMounts:
        - name: etcd-data
          mountPath: "/out/m3"
      volumes:
      - name: etcd-data
        hostPath:
          path: "/out/m3"
          type: Directory
    "#);
}

#[test]
fn static_pod_mounts_the_wal_and_kubeadms_certificates() {
    assert_snapshot!(emitted(Form::StaticPod, &tls_with_wal_dir()), @r#"
    # member m 1 on host1: /etc/kubernetes/manifests/etcd.yaml
    # Take the image, the probes and any further flags from the manifest this replaces.
    apiVersion: v1
    kind: Pod
    metadata:
      name: etcd
      namespace: kube-system
      labels:
        component: etcd
        tier: control-plane
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      containers:
      - name: etcd
        image: FILL-IN
        command:
        - etcd
        - "--name=m 1"
        - "--data-dir=/it's/m1"
        - "--wal-dir=/wal"
        - "--initial-advertise-peer-urls=https://host1:2380"
        - "--listen-peer-urls=https://0.0.0.0:2380"
        - "--listen-client-urls=https://0.0.0.0:2379"
        - "--advertise-client-urls=https://host1:2379"
        - "--initial-cluster=m 1=https://host1:2380"
        - "--initial-cluster-token=100% $$HOME"
        - "--initial-cluster-state=existing"
        - "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt"
        - "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key"
        - "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt"
        - "--peer-client-cert-auth=true"
        - "--cert-file=/etc/kubernetes/pki/etcd/server.crt"
        - "--key-file=/etc/kubernetes/pki/etcd/server.key"
        - "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt"
        - "--client-cert-auth=true"
        volumeMounts:
        - name: etcd-data
          mountPath: "/it's/m1"
        - name: etcd-wal
          mountPath: "/wal"
        - name: etcd-certs
          mountPath: "/etc/kubernetes/pki/etcd"
      volumes:
      - name: etcd-data
        hostPath:
          path: "/it's/m1"
          type: Directory
      - name: etcd-wal
        hostPath:
          path: "/wal"
          type: Directory
      - name: etcd-certs
        hostPath:
          path: "/etc/kubernetes/pki/etcd"
          type: Directory
    "#);
}

#[test]
fn advice_for_one_here() {
    assert_snapshot!(advised(&one(), false, Form::Flags), @r"
    default: /var/lib/etcd stays on this host.
    The client URLs in the flags are a guess, for a snapshot does not hold them: adjust them. --initial-cluster-state existing changes nothing for a restored directory, and keeps etcd from starting an empty cluster should the directory not be where the flags say.
    ");
}

#[test]
fn advice_for_three_as_root() {
    assert_snapshot!(advised(&three(), true, Form::Flags), @r"
    m1: /out/m1 belongs on 10.0.0.1. Copy it there with owners and modes kept (for example rsync -a), or leave it if this is 10.0.0.1; at another path, change the flags.
    m2: /out/m2 belongs on host2. Copy it there with owners and modes kept (for example rsync -a), or leave it if this is host2; at another path, change the flags.
    m3: /out/m3 belongs on fd00::3. Copy it there with owners and modes kept (for example rsync -a), or leave it if this is fd00::3; at another path, change the flags.
    The files belong to root. When etcd runs as another user (here etcd), give them to it, or restore with --owner:
      chown -R etcd:etcd /out/m1
      chown -R etcd:etcd /out/m2
      chown -R etcd:etcd /out/m3
    Start the members together: 2 of 3 must run before the cluster answers.
    The client URLs in the flags are a guess, for a snapshot does not hold them: adjust them. --initial-cluster-state existing changes nothing for a restored directory, and keeps etcd from starting an empty cluster should the directory not be where the flags say.
    ");
}

#[test]
fn advice_names_the_members_that_are_still_missing() {
    let mut report = three();
    report.members[1].data_dir = None;
    report.members[2].data_dir = None;
    assert_snapshot!(advised(&report, false, Form::Flags), @r"
    m1: /out/m1 belongs on 10.0.0.1. Copy it there with owners and modes kept (for example rsync -a), or leave it if this is 10.0.0.1; at another path, change the flags.
    The other members must be restored from this same snapshot, with the same --initial-cluster and --initial-cluster-token: run this again for each, with --name m2 --initial-advertise-peer-urls http://host2:2380, with --name m3 --initial-advertise-peer-urls 'http://[fd00::3]:2380'; or restore all at once with --all-members -o DIR.
    Start the members together: 2 of 3 must run before the cluster answers.
    The client URLs in the flags are a guess, for a snapshot does not hold them: adjust them. --initial-cluster-state existing changes nothing for a restored directory, and keeps etcd from starting an empty cluster should the directory not be where the flags say.
    ");
    assert_eq!(starts(&report).len(), 1);
}

#[test]
fn advice_for_kubernetes_with_leases_and_auth() {
    let mut report = one();
    report.key_prefix_registry = true;
    report.leases = 12;
    report.auth_enabled = true;
    assert_snapshot!(advised(&report, false, Form::StaticPod), @r"
    default: /var/lib/etcd stays on this host.
    The client URLs in the flags are a guess, for a snapshot does not hold them: adjust them. --initial-cluster-state existing changes nothing for a restored directory, and keeps etcd from starting an empty cluster should the directory not be where the flags say.
    The keys under /registry/ are Kubernetes', and revisions go back to 79: API servers, controllers and kubelets that saw higher ones would trust their caches and miss changes. Restore with --bump-revision 1000000000 --mark-compacted, which makes them list anew; or restart all of them.
    12 leases start again with their full time to live when a leader is elected; their keys expire that much later, those with the same time to live together.
    Authentication is on: the users, passwords and roles of the snapshot are in force.
    ");
}

#[test]
fn a_bump_needs_no_hint() {
    let mut report = one();
    report.key_prefix_registry = true;
    report.bumped_to = Some(1_000_000_079);
    assert!(!advised(&report, false, Form::Flags).contains("bump"));
}

#[test]
fn advice_for_tls_depends_on_the_form() {
    let report = report(&[("m1", "https://10.0.0.1:2380", Some("/m1"))]);
    assert!(advised(&report, false, Form::Flags).contains("in place of those below /FILL-IN."));
    assert!(advised(&report, false, Form::StaticPod).contains("kubeadm's, below /etc/kubernetes/pki/etcd."));
}

#[rstest]
#[case(1 << 20, false, None)]
#[case(2 * GIB, false, None)]
#[case(2 * GIB + 1, false, Some(5 * GIB))]
#[case(3 * GIB, false, Some(6 * GIB))]
#[case(5 * GIB, false, Some(8 * GIB))]
#[case(7 * GIB, false, Some(9 * GIB))]
#[case(20 * GIB, false, Some(25 * GIB))]
#[case(1 << 20, true, Some(2 * GIB))]
#[case(2 * GIB - 4096, true, Some(4 * GIB))]
#[case(u64::MAX, true, Some(u64::MAX))]
fn quotas(#[case] db_bytes: u64, #[case] nospace: bool, #[case] quota: Option<u64>) {
    let mut report = one();
    report.db_bytes = db_bytes;
    report.dropped_nospace_alarm = nospace;
    let flag = starts(&report)[0].flags(FILL_IN).into_iter().find(|flag| flag.name == "quota-backend-bytes");
    assert_eq!(flag.map(|flag| flag.value), quota.map(|bytes| Value::Text(bytes.to_string())));
    assert_eq!(advised(&report, false, Form::Flags).contains("--quota-backend-bytes"), quota.is_some());
}

#[rstest]
#[case::apart("a=http://h1:2380 b=http://h2:2380", &[2379, 2379])]
#[case::as_in_the_tutorial("a=http://127.0.0.1:12380 b=http://localhost:22380 c=http://[::1]:32380", &[12379, 22379, 32379])]
#[case::neighbours("a=http://h:2380 b=http://h:2381 c=http://h:2382", &[2379, 2480, 2481])]
#[case::peer_on_the_client_port("a=http://h:2379", &[2479])]
#[case::the_last_port("a=http://h:65535 b=http://h:1", &[65534, 100])]
#[case::sockets("a=unix://a:0 b=http://h:2380", &[2379, 2379])]
#[case::own_ports_on_any_host("a=http://10.0.0.1:2380,http://h:2379", &[2479])]
fn ports_for_clients(#[case] members: &str, #[case] expected: &[u16]) {
    let members: Vec<(&str, &str, Option<&str>)> = members
        .split(' ')
        .map(|member| member.split_once('=').expect("name=url"))
        .map(|(name, url)| (name, url, Some("/d")))
        .collect();
    assert_eq!(client_ports(&report(&members).members), expected);
}

/// The text of the first member's flag.
fn flag(report: &RestoreReport, name: &str) -> String {
    let flag = starts(report)[0].flags(FILL_IN).into_iter().find(|flag| flag.name == name);
    flag.expect("the flag is there").text().into_owned()
}

#[rstest]
#[case("http://h1:2380,http://h2:2380", "http://0.0.0.0:2380", "http://0.0.0.0:2379", "http://h1:2379")]
#[case(
    "http://10.0.0.1:2380,http://h2:2380",
    "http://0.0.0.0:2380",
    "http://10.0.0.1:2379,http://127.0.0.1:2379",
    "http://10.0.0.1:2379"
)]
#[case("http://0.0.0.0:2380", "http://0.0.0.0:2380", "http://0.0.0.0:2379", "http://0.0.0.0:2379")]
#[case("http://[::]:2380", "http://[::]:2380", "http://[::]:2379", "http://[::]:2379")]
#[case(
    "http://[fe80::1%25eth0]:2380",
    "http://[::]:2380",
    "http://[::]:2379",
    "http://[fe80::1%25eth0]:2379"
)]
#[case(
    "http://u:p@10.0.0.1:2380",
    "http://10.0.0.1:2380",
    "http://10.0.0.1:2379,http://127.0.0.1:2379",
    "http://10.0.0.1:2379"
)]
fn every_url_can_be_bound(
    #[case] peers: &str,
    #[case] listen_peers: &str,
    #[case] listen_clients: &str,
    #[case] advertise_clients: &str,
) {
    let report = report(&[("m1", peers, Some("/m1"))]);
    assert_eq!(flag(&report, "listen-peer-urls"), listen_peers);
    assert_eq!(flag(&report, "listen-client-urls"), listen_clients);
    assert_eq!(flag(&report, "advertise-client-urls"), advertise_clients);
    assert_eq!(
        flag(&report, "initial-advertise-peer-urls"),
        peers,
        "this one must stay as it is in the data"
    );
}

/// The words a shell makes of the flags form.
fn words(shell: &str, report: &RestoreReport) -> Vec<u8> {
    let script = format!("etcd() {{ printf '%s\\0' \"$@\"; }}\n{}", emitted(Form::Flags, report));
    let output = Command::new(shell).args(["-c", &script]).output().expect("the shell runs");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn text_that_looks_like_a_switch_is_text() {
    let mut report = report(&[("true", "https://h:2380", Some("true"))]);
    report.token = "true".to_owned();
    let start = starts(&report).remove(0);
    let argv = start.argv();
    assert_eq!(argv[..3], ["etcd", "--name", "true"]);
    let token = argv.iter().position(|word| word == "--initial-cluster-token").expect("a token");
    assert_eq!(argv[token..token + 3], ["--initial-cluster-token", "true", "--initial-cluster-state"]);
    let shell = words("sh", &report);
    let shell: Vec<&str> = std::str::from_utf8(&shell).expect("UTF-8").split_terminator('\0').collect();
    assert_eq!(shell, argv[1..]);
    assert_eq!(argv.last().map(String::as_str), Some("--client-cert-auth"));
}

#[test]
fn a_path_that_is_not_utf_8_is_told_or_left_out_and_never_changed() {
    let mut report = one();
    let path = b"/caf\xe9's 1\\n/\xc3\xa9\xff0";
    report.members[0].data_dir = Some(PathBuf::from(OsStr::from_bytes(path)));
    report.members[0].wal_dir = Some(PathBuf::from("/wal"));
    let got = words("bash", &report);
    let got: Vec<&[u8]> = got.split(|byte| *byte == 0).collect();
    assert_eq!(got[2..6], [&b"--data-dir"[..], path, b"--wal-dir", b"/wal"]);
    let quoted = r"$'/caf\351\'s 1\\n/é\3770'";
    assert!(advised(&report, true, Form::Flags).contains(&format!("chown -R etcd:etcd {quoted} /wal")));
    for form in [Form::Env, Form::Systemd, Form::StaticPod] {
        let text = emitted(form, &report);
        assert!(!text.contains('\u{fffd}') && text.contains("/FILL-IN/data-dir"), "{text}");
        let advice = advised(&report, false, form);
        assert!(!advice.contains('\u{fffd}'), "{advice}");
        assert!(
            advice.contains(&format!(
                "--data-dir of default is not UTF-8, so /FILL-IN/data-dir stands in its place: {quoted} cannot be written"
            )),
            "{advice}"
        );
    }
    assert_eq!(starts(&report)[0].argv()[4], "/FILL-IN/data-dir");
    assert!(!advised(&one(), false, Form::Env).contains("UTF-8"));
}

#[test]
fn a_name_of_several_lines_ends_no_line() {
    let name = "a\nb\u{2028}c\\";
    let report = report(&[(name, "http://h:2380", Some("/d"))]);
    for form in [Form::Flags, Form::Env, Form::Systemd, Form::StaticPod] {
        let text = emitted(form, &report);
        let title = text.lines().next().expect("a title");
        assert!(title.starts_with(r"# member a\nb\u{2028}c\\ on h"), "{title}");
    }
    let unit = emitted(Form::Systemd, &report);
    assert!(unit.contains("\nDescription=etcd member a\\nb\\u{2028}c\\\\\n"), "{unit}");
    assert!(unit.contains("\"--name=a\\x0ab\u{2028}c\\\\\" \\\n"), "{unit}");
    assert!(emitted(Form::StaticPod, &report).contains("- \"--name=a\\nb\\u2028c\\\\\"\n"));
    let shell = words("sh", &report);
    assert_eq!(shell.split(|byte| *byte == 0).nth(1), Some(name.as_bytes()));
}
