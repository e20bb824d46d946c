//! Static pods, as kubeadm has them.

use serde_json::Value;

use super::{KUBEADM_PKI, Start, breaks_lines};

/// A manifest with what the restored data needs.
pub(super) fn text(start: &Start) -> String {
    let mut mounts = String::new();
    let mut volumes = String::new();
    // `Directory`, not kubeadm's `DirectoryOrCreate`: a missing data dir must stop the pod, not start an empty store.
    let mut mount = |name: &str, path: &str| {
        let path = string(path);
        mounts += &format!("    - name: {name}\n      mountPath: {path}\n");
        volumes += &format!("  - name: {name}\n    hostPath:\n      path: {path}\n      type: Directory\n");
    };
    let mut command = String::from("    - etcd\n");
    for flag in start.flags(KUBEADM_PKI) {
        match flag.name {
            "data-dir" => mount("etcd-data", &flag.text()),
            "wal-dir" => mount("etcd-wal", &flag.text()),
            _ => {}
        }
        // Kubernetes expands `$(NAME)` in commands, and takes `$$` for `$`.
        let word = format!("--{}={}", flag.name, flag.text()).replace('$', "$$");
        command += &format!("    - {}\n", string(&word));
    }
    if start.tls {
        mount("etcd-certs", KUBEADM_PKI);
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

/// `text` as a YAML string: JSON's are, once the few characters are escaped that YAML does not take as they stand.
fn string(text: &str) -> String {
    let mut out = String::new();
    for c in Value::from(text).to_string().chars() {
        if breaks_lines(c) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}') {
            out += &format!("\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}
