//! What a kubelet does with static pods, as far as etcd goes: runs what stands in the directory of manifests.

use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::site::Site;

/// Watches /etc/kubernetes/manifests of a host for as long as `work` takes; all pods end with it.
pub(crate) struct Kubelet;

impl Kubelet {
    /// Runs `work` on a host whose kubelet is up.
    pub(crate) fn during(site: &Site, host: &str, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| watch(site, host, &done));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::SeqCst);
            watch.join().unwrap();
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

fn watch(site: &Site, host: &str, done: &AtomicBool) {
    let place = site.host(host);
    let manifests = place.path("/etc/kubernetes/manifests");
    let mut etcd: Option<Child> = None;
    while !done.load(Ordering::SeqCst) {
        let api_server = place.root.join("run/kube-apiserver");
        if manifests.join("kube-apiserver.yaml").exists() {
            fs::write(&api_server, "").unwrap();
        } else {
            let _ = fs::remove_file(&api_server);
        }
        let manifest = fs::read_to_string(manifests.join("etcd.yaml")).ok();
        // One that ended is started again, as kubelets do.
        if etcd.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()) {
            etcd = None;
        }
        if etcd.is_none() {
            let _ = fs::remove_file(place.root.join("run/etcd"));
        }
        match (&mut etcd, manifest) {
            (None, Some(text)) => {
                fs::write(place.root.join("run/etcd"), "").unwrap();
                etcd = Some(run(site, host, &text));
            }
            (Some(child), None) => {
                end(child);
                etcd = None;
            }
            _ => {}
        }
        thread::sleep(Duration::from_millis(100));
    }
    if let Some(child) = &mut etcd {
        end(child);
    }
}

/// The container's command: the list of strings below `command:`.
fn run(site: &Site, host: &str, manifest: &str) -> Child {
    let place = site.host(host);
    let listed = manifest.lines().map(str::trim).skip_while(|line| *line != "- command:").skip(1);
    let words: Vec<&str> = listed.map_while(|line| line.strip_prefix("- ")).collect();
    let (program, flags) = words.split_first().expect("the manifest has a command");
    let log = File::options().create(true).append(true).open(place.root.join("etcd.log")).unwrap();
    let mut command = site.command(place, program);
    command.args(flags).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
