//! Who the backup belongs to: nobody that ever was, so that it never joins the cluster it was taken from.

use crate::membership::Member;

/// What the member is called that holds the place of all others, as etcdutl 3.5 calls it.
const PLACEHOLDER_NAME: &str = "etcdctl-v2-backup";
/// Where that member is said to be, as etcdutl 3.5 says it.
const PLACEHOLDER_URL: &str = "http://use-flag--force-new-cluster:2080";

/// How many low bits of a made id count up; above them are those of the time, and 16 zeros (pkg/idutil).
const COUNTER_BITS: u32 = 8;
/// Of the milliseconds since 1970 these are in an id.
const TIME_MASK: u64 = (1 << 40) - 1;

/// The ids of a backup. None is 0, and no two members have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The member that starts on the backup.
    pub node_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// The member that stands where the `.snap` had those of before, until the start with `--force-new-cluster` removes it.
    pub placeholder_id: u64,
}

impl Identity {
    /// The ids that were asked for, and for the rest those that etcd's generator gives at this time, in milliseconds since 1970
    /// (`idutil.NewGenerator(0, now)`). Nothing depends on the time when both are given.
    #[must_use]
    pub fn new(node_id: Option<u64>, cluster_id: Option<u64>, now_ms: u64) -> Self {
        let first = (now_ms & TIME_MASK) << COUNTER_BITS;
        let node_id = node_id.unwrap_or(first.saturating_add(1));
        let cluster_id = cluster_id.unwrap_or(first.saturating_add(2));
        // The generator's third, where the node's is its first; 0 is nobody's.
        let placeholder_id = node_id.wrapping_add(2).max(1);
        Self { node_id, cluster_id, placeholder_id }
    }

    /// The member in the place of those of before.
    #[must_use]
    pub fn placeholder(&self) -> Member {
        Member {
            id: self.placeholder_id,
            name: PLACEHOLDER_NAME.to_owned(),
            peer_urls: vec![PLACEHOLDER_URL.to_owned()],
            ..Member::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_etcds_generator() {
        // pkg/idutil/id_test.go: the first id of member 0x12 at 0x3456 milliseconds is 0x12000000345601; here the member is 0.
        let identity = Identity::new(None, None, 0x3456);
        assert_eq!((identity.node_id, identity.cluster_id), (0x34_5601, 0x34_5602));
        // Of the time only 40 bits are kept.
        assert_eq!(Identity::new(None, None, (7 << 40) | 0x3456), identity);
    }

    #[test]
    fn the_placeholder_is_nobody_else() {
        for (node, now) in [(None, 0), (Some(3), 0), (Some(u64::MAX), u64::MAX), (Some(u64::MAX - 1), 7)] {
            let identity = Identity::new(node, Some(9), now);
            assert_ne!(identity.placeholder_id, identity.node_id);
            assert!(identity.node_id != 0 && identity.placeholder_id != 0);
            assert_eq!(identity.cluster_id, 9);
        }
        assert_eq!(Identity::new(Some(5), Some(9), 1), Identity::new(Some(5), Some(9), 2));
    }
}
