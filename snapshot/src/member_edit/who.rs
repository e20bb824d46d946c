//! Which member is meant, and what becomes of the list of members.

use std::collections::BTreeMap;

use super::MemberEditError;
use crate::gourl::PeerUrls;
use crate::members::Membership;
use crate::membership::{InitialCluster, Member, hex_id, parse_hex_id};

/// The member that `given`, an id or a name, means.
pub(super) fn find<'m>(
    membership: &'m Membership,
    given: &str,
    path: &str,
) -> Result<&'m Member, MemberEditError> {
    let id = parse_hex_id(given);
    if let Some(member) = id.and_then(|id| membership.members.get(&id)) {
        return Ok(member);
    }
    let named: Vec<&Member> =
        membership.members.values().filter(|member| !given.is_empty() && member.name == given).collect();
    match named.as_slice() {
        [one] => return Ok(one),
        [] => {}
        several => {
            return Err(MemberEditError::Ambiguous {
                path: path.to_owned(),
                given: given.to_owned(),
                members: several.iter().map(|member| member.id).collect(),
            });
        }
    }
    let begins = |id: &&u64| !given.is_empty() && hex_id(**id).starts_with(given);
    Err(MemberEditError::NoSuchMember {
        path: path.to_owned(),
        given: given.to_owned(),
        near: membership.members.keys().filter(begins).copied().collect(),
        was_removed: id.is_some_and(|id| membership.removed.contains(&id)),
        members: membership.members.values().cloned().collect(),
    })
}

/// The members with the addresses of `list`, which has each of them by its name.
pub(super) fn addressed(
    membership: &Membership,
    list: &InitialCluster,
    path: &str,
) -> Result<Vec<Member>, MemberEditError> {
    let other_names = || MemberEditError::OtherNames {
        path: path.to_owned(),
        given: list.names().map(str::to_owned).collect(),
        members: membership.members.values().cloned().collect(),
    };
    let mut all = Vec::with_capacity(membership.members.len());
    for name in list.names() {
        let member = find_named(membership, name).ok_or_else(other_names)?;
        let urls = list.urls(name).map_err(|_| other_names())?;
        all.push(with_urls(member, urls));
    }
    if all.len() != membership.members.len() {
        return Err(other_names());
    }
    all.sort_by_key(|member| member.id);
    Ok(all)
}

fn find_named<'m>(membership: &'m Membership, name: &str) -> Option<&'m Member> {
    let mut named = membership.members.values().filter(|member| member.name == name);
    named.next().filter(|_| named.next().is_none())
}

/// `member`, reached elsewhere.
pub(super) fn with_urls(member: &Member, urls: &PeerUrls) -> Member {
    Member { peer_urls: urls.as_slice().to_vec(), ..member.clone() }
}

/// Makes sure that no two of `members` have an address in common; the one that has it and is not among the `changed` is told.
pub(super) fn ensure_apart(members: &[Member], changed: &[u64]) -> Result<(), MemberEditError> {
    let mut owners: BTreeMap<&str, &Member> = BTreeMap::new();
    for member in members {
        for url in &member.peer_urls {
            let Some(other) = owners.insert(url, member).filter(|other| other.id != member.id) else {
                continue;
            };
            let owner = if changed.contains(&other.id) { member } else { other };
            return Err(MemberEditError::UrlTaken { url: url.clone(), owner: Box::new(owner.clone()) });
        }
    }
    Ok(())
}
