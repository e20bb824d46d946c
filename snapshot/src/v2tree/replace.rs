//! Other members in the place of all those of before, as etcdutl's `backup` of 3.5 puts them there.

use super::{V2Tree, V2TreeError, refused};
use crate::membership::Member;

const MEMBERS: &[u8] = b"/0/members";
const REMOVED: &[u8] = b"/0/removed_members";

impl V2Tree {
    /// Takes out all members, those that were removed too, and creates `members` with their addresses and roles. Names and client
    /// URLs are for the members themselves to publish. Where etcd goes through them in any order, this goes by ascending name.
    ///
    /// # Errors
    /// When the store has something else where a member should be.
    pub fn replace_members<'a>(
        &mut self,
        members: impl IntoIterator<Item = &'a Member>,
    ) -> Result<(), V2TreeError> {
        for dir in [MEMBERS, REMOVED] {
            // etcd looks what is there, which counts.
            self.get(dir);
        }
        for dir in [MEMBERS, REMOVED] {
            let paths: Vec<Vec<u8>> = self.below(dir, false).map(|node| node.path).collect();
            for path in paths {
                let refused = |refusal| V2TreeError::Refused {
                    path: String::from_utf8_lossy(&path).into_owned(),
                    refusal,
                };
                self.delete(&path, true, true).map_err(refused)?;
            }
        }
        for member in members {
            self.create_member(member).map_err(|refusal| refused(member.id, refusal))?;
        }
        self.cluster = self.cluster_of_nodes()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::membership::hex_id;
    use crate::mvcc::Release;

    #[test]
    fn nothing_is_left_of_those_of_before_and_all_else_stays() {
        let member = |id, name: &str| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("http://h:{id}")],
            ..Member::default()
        };
        let mut tree = V2Tree::empty(Release::NEWEST);
        tree.set_version("3.5.0").unwrap();
        for id in 1..=3 {
            tree.set_member(&member(id, "n")).unwrap();
        }
        tree.remove_member(3).unwrap();
        tree.replace_members([&member(9, "other")]).unwrap();
        let paths = |dir: &[u8]| -> Vec<String> {
            tree.below(dir, true).map(|node| String::from_utf8(node.path).unwrap()).collect()
        };
        assert_eq!(
            paths(MEMBERS),
            [format!("/0/members/{}", hex_id(9)), "/0/members/9/raftAttributes".to_owned()]
        );
        assert!(paths(REMOVED).is_empty());
        assert_eq!(tree.cluster_version().as_deref(), Some("3.5.0"));
        assert_eq!(
            tree.member(9).map(|member| member.peer_urls.clone()),
            Some(vec!["http://h:9".to_owned()])
        );
        assert_eq!(tree.member(1), None);
    }
}
