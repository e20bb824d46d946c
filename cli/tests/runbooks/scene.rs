//! What the scenes of several pages have in common.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use testdata::base64;

use super::site::Site;

/// Three members, the hosts of most pages.
pub(crate) const THREE: [&str; 3] = ["m1", "m2", "m3"];

/// Some history: keys, later versions, deletions, a lease.
const HISTORY: &str = "
for n in 1 2 3 4 5 6 7 8; do etcdctl FLAGS put /app/$n \"value $n\" || exit 1; done
etcdctl FLAGS put /app/1 changed && etcdctl FLAGS del /app/2 && etcdctl FLAGS put '/app/with \"quotes\"' 'and
lines' && etcdctl FLAGS put /app/leased x --lease \"$(etcdctl FLAGS lease grant 3600 | cut -d ' ' -f 2)\"";

/// Writes [`HISTORY`]; gives all keys as they are then.
#[track_caller]
pub(crate) fn history(site: &Site, host: &str, flags: &str) -> Vec<Value> {
    site.shell(host, &HISTORY.replace("FLAGS", flags)).ok();
    let keys = site.keys(host, flags);
    assert_eq!(keys.len(), 9);
    keys
}

/// The keys of `after` but for those that pages and tests put.
pub(crate) fn kept(after: Vec<Value>) -> Vec<Value> {
    let ours = |kv: &Value| {
        let key = base64::decode(kv["key"].as_str().unwrap());
        key == b"after-the-disaster"
    };
    after.into_iter().filter(|kv| !ours(kv)).collect()
}

/// Long enough for the backend to commit what was written, and for followers to hear of it.
pub(crate) fn settle() {
    thread::sleep(Duration::from_millis(500));
}

/// Ends the members on these hosts as a power cut does.
pub(crate) fn gone(site: &Site, hosts: &[&str]) {
    for host in hosts {
        site.kill(host);
    }
}
