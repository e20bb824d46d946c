//! The v2 store of the fresh `.snap`.

use super::{Reseat, ReseatError};
use crate::members::{Account, Membership};
use crate::membership::Member;
use crate::v2tree::V2Tree;
use crate::whole_member::Whole;

/// Up to 3.5 the whole store as it is at entry `index`, keys of clients included, with the edits made in it; from 3.6 on what a
/// server makes of its rows, since the store is no longer kept there (FORMATS F.3).
pub(super) fn of(
    whole: &Whole<'_>,
    asked: &Reseat<'_>,
    index: u64,
    membership: &Membership,
) -> Result<Vec<u8>, ReseatError> {
    let tree = match membership.account {
        Account::V2Store => {
            let mut tree = V2Tree::at(whole.facts, index)?;
            for edited in asked.set {
                if let Some(member) = membership.members.get(&edited.id) {
                    tree.set_member(member)?;
                }
            }
            if let Some(version) = asked.cluster_version {
                tree.set_version(version)?;
            }
            tree
        }
        Account::Rows => {
            let members: Vec<Member> = membership.members.values().cloned().collect();
            let removed: Vec<u64> = membership.removed.iter().copied().collect();
            V2Tree::of_rows(&members, &removed, membership.version.as_deref())?
        }
    };
    Ok(tree.to_json()?)
}
