//! Static pods, as kubeadm has them.

use std::path::Path;

use serde_json::Value;

use super::{KUBEADM_PKI, Start};

/// A manifest with what the restored data needs.
pub(super) fn text(start: &Start) -> String {
    let mut mounts = String::new();
    let mut volumes = String::new();
    // `Directory`, not kubeadm's `DirectoryOrCreate`: a missing data dir must stop the pod, not start an empty store.
    let mut mount = |name: &str, path: &Path| {
        let path = string(&path.display().to_string());
        mounts += &format!("    - name: {name}\n      mountPath: {path}\n");
        volumes += &format!("  - name: {name}\n    hostPath:\n      path: {path}\n      type: Directory\n");
    };
    mount("etcd-data", &start.data_dir);
    if let Some(wal_dir) = &start.wal_dir {
        mount("etcd-wal", wal_dir);
    }
    if start.tls {
        mount("etcd-certs", Path::new(KUBEADM_PKI));
    }
    let mut command = String::from("    - etcd\n");
    for flag in start.flags(KUBEADM_PKI) {
        command += &format!("    - {}\n", string(&format!("--{}={}", flag.name, flag.value)));
    }
    format!(
        "{}: /etc/kubernetes/manifests/etcd.yaml
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
{command}    volumeMounts:
{mounts}  volumes:
{volumes}",
        start.title(),
    )
}

/// `text` as a YAML string: JSON's are.
fn string(text: &str) -> String {
    Value::from(text).to_string()
}
