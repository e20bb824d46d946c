//! Which records are printed.

use wal::entry::EntryRef;
use wal::raftpb::EntryType;

use crate::request::{ConfChange, Decoded, Prefix};

/// Which records are printed. [`Filter::default`] lets everything pass that etcd-dump-logs prints.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The first index.
    pub start: u64,
    /// The index behind the last.
    pub end: Option<u64>,
    /// Kinds of entries; `None` for all.
    pub types: Option<EntryTypes>,
    /// Only entries that name this key, or a range with it.
    pub key: Option<Vec<u8>>,
    /// Only entries that name a key that begins so, or a range that may hold one.
    pub prefix: Option<Vec<u8>>,
    /// Only entries about this member.
    pub member: Option<u64>,
    /// Only entries that name this lease.
    pub lease: Option<i64>,
    /// Only entries of this term.
    pub term: Option<u64>,
    /// Only entries that no hard state calls committed.
    pub uncommitted: bool,
    /// Print also the entries that later ones overwrote.
    pub overwritten: bool,
}

/// The kinds of entries that `--entry-type` of etcd-dump-logs names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryTypes(Vec<Type>);

/// A kind that etcd-dump-logs does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no entry type and is ignored; there are ConfigChange, Normal, Request, InternalRaftRequest, IRRRange, IRRPut, \
     IRRDeleteRange, IRRTxn, IRRCompaction, IRRLeaseGrant, IRRLeaseRevoke and IRRLeaseCheckpoint"
)]
pub struct UnknownType(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    ConfigChange,
    Normal,
    Request,
    InternalRaftRequest,
    /// An `InternalRaftRequest` with this field.
    Asks(i32),
}

impl EntryTypes {
    /// Reads a list separated by commas; what it does not know it leaves out and tells.
    #[must_use]
    pub fn parse(list: &str) -> (Self, Vec<UnknownType>) {
        let mut types = Vec::new();
        let mut unknown = Vec::new();
        for name in list.split(',').filter(|_| !list.is_empty()) {
            match Type::parse(name) {
                Some(known) => types.push(known),
                None => unknown.push(UnknownType(name.to_owned())),
            }
        }
        (Self(types), unknown)
    }

    fn has(&self, entry_type: i32, decoded: Option<&Decoded<'_>>) -> bool {
        self.0.iter().any(|kind| match (kind, decoded) {
            (Type::ConfigChange, _) => {
                entry_type == EntryType::ConfChange as i32 || entry_type == EntryType::ConfChangeV2 as i32
            }
            (_, None) => false,
            (Type::Normal, Some(_)) => true,
            (Type::Request, Some(decoded)) => matches!(decoded, Decoded::V2(_)),
            (Type::InternalRaftRequest, Some(decoded)) => {
                matches!(decoded, Decoded::V3(_) | Decoded::Nothing)
            }
            (Type::Asks(number), Some(Decoded::V3(request))) => request.message().last(*number).is_some(),
            (Type::Asks(_), Some(_)) => false,
        })
    }
}

impl Type {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ConfigChange" => Self::ConfigChange,
            "Normal" => Self::Normal,
            "Request" => Self::Request,
            "InternalRaftRequest" => Self::InternalRaftRequest,
            "IRRRange" => Self::Asks(3),
            "IRRPut" => Self::Asks(4),
            "IRRDeleteRange" => Self::Asks(5),
            "IRRTxn" => Self::Asks(6),
            "IRRCompaction" => Self::Asks(7),
            "IRRLeaseGrant" => Self::Asks(8),
            "IRRLeaseRevoke" => Self::Asks(9),
            "IRRLeaseCheckpoint" => Self::Asks(11),
            _ => return None,
        })
    }
}

impl Filter {
    /// Whether only entries can pass, and no other record.
    #[must_use]
    pub fn is_about_entries(&self) -> bool {
        self.types.is_some()
            || self.key.is_some()
            || self.prefix.is_some()
            || self.member.is_some()
            || self.lease.is_some()
            || self.term.is_some()
            || self.uncommitted
    }

    /// Whether an index lies within the bounds.
    #[must_use]
    pub fn has_index(&self, index: u64) -> bool {
        index >= self.start && self.end.is_none_or(|end| index < end)
    }

    /// Whether the entry's head alone lets it pass, with entries committed up to `commit`.
    pub(super) fn has_head(&self, entry: &EntryRef<'_>, commit: u64) -> bool {
        self.has_index(entry.index)
            && self.term.is_none_or(|term| entry.term == term)
            && (!self.uncommitted || entry.index > commit)
    }

    /// Whether what the entry asks for lets it pass. `decoded` is that of a normal entry, `change` that of one that changes
    /// members.
    pub(super) fn has_content(
        &self,
        entry_type: i32,
        decoded: Option<&Decoded<'_>>,
        change: Option<&ConfChange<'_>>,
    ) -> bool {
        if let Some(types) = &self.types
            && !types.has(entry_type, decoded)
        {
            return false;
        }
        let request = decoded.and_then(Decoded::request);
        let names_key = |key: &[u8]| {
            request.is_some_and(|request| {
                request.keys().any(|range| range.contains(key))
                    || request.paths().any(|path| v2_key(path) == key)
            })
        };
        let names_prefix = |prefix: &[u8]| {
            request.is_some_and(|request| {
                request.keys().any(|range| range.meets(Prefix(prefix)))
                    || request.paths().any(|path| v2_key(path).starts_with(prefix))
            })
        };
        let names_member = |member: u64| {
            change.is_some_and(|change| change.changes().any(|(_, id)| id == member))
                || request.is_some_and(|request| request.members().any(|id| id == member))
        };
        let names_lease =
            |lease: i64| request.is_some_and(|request| request.leases().any(|named| named == lease));
        self.key.as_deref().is_none_or(names_key)
            && self.prefix.as_deref().is_none_or(names_prefix)
            && self.member.is_none_or(names_member)
            && self.lease.is_none_or(names_lease)
    }
}

/// The key of a v2 path as its users know it: the store keeps their keys under `/1` (FORMATS F.2).
fn v2_key(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/1").filter(|key| key.starts_with(b"/")).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_types_as_people_write_them() {
        let (types, unknown) = EntryTypes::parse("IRRPut,Foo,ConfigChange,");
        assert_eq!(types, EntryTypes(vec![Type::Asks(4), Type::ConfigChange]));
        assert_eq!(unknown, [UnknownType("Foo".into()), UnknownType(String::new())]);
        assert_eq!(EntryTypes::parse(""), (EntryTypes(Vec::new()), Vec::new()));
    }

    #[test]
    fn keys_of_users_in_v2_paths() {
        assert_eq!(v2_key(b"/1/a/b"), b"/a/b");
        assert_eq!(v2_key(b"/0/members/a"), b"/0/members/a");
        assert_eq!(v2_key(b"/10"), b"/10");
    }
}
