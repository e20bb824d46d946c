//! What the real cluster made of its own files when it was started again.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::json;
use testdata::base64;
use testdata::damage::MemberDir;
use testdata::oracle::{Gateway, Tag, Trio, marked};
use testdata::plain_log::PlainLog;

use super::kept::tags_of;

/// The cluster after it was started again and has committed a write.
#[derive(Debug)]
pub(crate) struct Real {
    gateways: Vec<Gateway>,
    /// The entries up to that write, which nothing changes any more, from the logs of the members: one that was behind may have
    /// been sent a snapshot in place of some.
    pub(crate) log: PlainLog,
    /// The index of each request in it.
    pub(crate) tags: BTreeMap<Tag, u64>,
    /// The revision of that write.
    pub(crate) revision: i64,
}

/// How often something is asked again that an election may refuse.
const TRIES: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(20);

impl Real {
    /// Waits until the members `up` of the cluster serve, and settles what its log holds with a write of its own.
    #[track_caller]
    pub(crate) fn settled(trio: &mut Trio, up: &[usize], name: &str) -> Self {
        let mut gateways = trio.ready(up);
        let tag = format!("{name}.settled");
        let body = json!({ "key": base64::encode(tag.as_bytes()), "value": base64::encode(&marked(&tag)) });
        let revision = retried(&tag, || {
            let answer = gateways[0].attempt("/v3/kv/put", &body).ok()?.ok()?;
            answer["header"]["revision"].as_str()?.parse().ok()
        });
        let mut log = PlainLog::default();
        for member in up {
            let wal_dir = MemberDir::of_data_dir(trio.members()[*member].data_dir()).wal_dir();
            let (end, mut own) = retried(&tag, || {
                let own = PlainLog::read(&wal_dir);
                Some((*tags_of(&own).get(&tag)?, own))
            });
            drop(own.entries.split_off(&(end + 1)));
            log.entries.append(&mut own.entries);
        }
        let tags = tags_of(&log);
        Self { gateways, log, tags, revision }
    }

    /// What a member that runs says that its key space hashes to; it may have to catch up first.
    #[track_caller]
    pub(crate) fn hash_at(&mut self, member: usize, revision: i64) -> u64 {
        let gateway = &mut self.gateways[member];
        retried("hashkv", || Some(gateway.attempt_hashkv(revision).ok()?.ok()?.hash))
    }

    /// The hashes of all members that run, at the newest revision.
    #[track_caller]
    pub(crate) fn hashes(&mut self) -> Vec<u64> {
        (0..self.gateways.len()).map(|member| self.hash_at(member, self.revision)).collect()
    }
}

#[track_caller]
pub(crate) fn retried<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..TRIES {
        if let Some(result) = attempt() {
            return result;
        }
        thread::sleep(BETWEEN);
    }
    panic!("{what}: not within {:?}", TRIES * BETWEEN);
}
