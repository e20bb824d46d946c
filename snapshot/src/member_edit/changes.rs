//! The changes of members as a leader proposes them: type, member, and the context that its followers read (etcdserver/server.go,
//! `AddMember`, `RemoveMember`, `promoteMember`, `UpdateMember`).

use std::collections::BTreeMap;

use wal::raftpb::{ConfChange, ConfChangeType};

use super::MemberEditError;
use crate::membership::Member;

fn change(change_type: ConfChangeType, id: u64, context: Option<Vec<u8>>) -> ConfChange {
    ConfChange { id: Some(0), change_type: Some(change_type.into()), node_id: Some(id), context }
}

/// A new member, whose name nobody knows before it starts.
pub(super) fn added(member: &Member) -> ConfChange {
    let kind = if member.is_learner { ConfChangeType::AddLearnerNode } else { ConfChangeType::AddNode };
    let context = Member { name: String::new(), client_urls: Vec::new(), ..member.clone() };
    change(kind, member.id, Some(context.to_json()))
}

/// A member less.
pub(super) fn removed(id: u64) -> ConfChange {
    change(ConfChangeType::RemoveNode, id, None)
}

/// A learner that votes: the context has its id, and the mark without which a server takes it for an attempt to add a member twice.
pub(super) fn promoted(id: u64) -> ConfChange {
    let mut context = Member { id, ..Member::default() }.to_json();
    context.pop();
    context.extend_from_slice(b",\"isPromote\":true}");
    change(ConfChangeType::AddNode, id, Some(context))
}

/// A member reached elsewhere. Up to 3.5 a server takes over from the context also whether it learns; the command of etcdctl
/// leaves that out, and makes a voter of the learner in the list of members.
fn updated(member: &Member) -> ConfChange {
    let context = Member { name: String::new(), client_urls: Vec::new(), ..member.clone() };
    change(ConfChangeType::UpdateNode, member.id, Some(context.to_json()))
}

/// The updates that bring `members` to the addresses of `wanted`, in an order in which none takes an address that another still
/// has: a server passes over such a change.
pub(super) fn updates(
    members: &BTreeMap<u64, Member>,
    wanted: &[Member],
) -> Result<Vec<ConfChange>, MemberEditError> {
    let mut now = members.clone();
    let mut left: Vec<&Member> = wanted.iter().collect();
    let mut changes = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let is_free = |next: &&Member| {
            let mut others = now.values().filter(|other| other.id != next.id);
            !others.any(|other| next.peer_urls.iter().any(|url| other.peer_urls.contains(url)))
        };
        let at = left.iter().position(is_free).ok_or(MemberEditError::Circle)?;
        let next = left.remove(at);
        changes.push(updated(next));
        now.insert(next.id, next.clone());
    }
    Ok(changes)
}
