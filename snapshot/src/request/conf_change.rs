//! Entries that change who belongs to the cluster.

use std::io::Write;

use super::message::{Message, Parsed, enum_number};
use super::schema::{CONF_CHANGE, CONF_CHANGE_V2, Kind, MessageType};
use super::text;
use super::wire::WireError;

/// The data of an entry that changes members.
#[derive(Debug, Clone)]
pub enum ConfChange<'a> {
    /// Of one member.
    V1(Parsed<'a>),
    /// Of several members at once. No etcd server writes these, and one that meets one stops.
    V2(Parsed<'a>),
}

impl<'a> ConfChange<'a> {
    /// Reads the data of an entry of type `EntryConfChange`.
    ///
    /// # Errors
    /// Where etcd's parser would fail.
    pub fn v1(data: &'a [u8]) -> Result<Self, WireError> {
        Parsed::new(&CONF_CHANGE, data).map(Self::V1)
    }

    /// Reads the data of an entry of type `EntryConfChangeV2`.
    ///
    /// # Errors
    /// Where etcd's parser would fail.
    pub fn v2(data: &'a [u8]) -> Result<Self, WireError> {
        Parsed::new(&CONF_CHANGE_V2, data).map(Self::V2)
    }

    /// The whole message.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        match self {
            Self::V1(parsed) | Self::V2(parsed) => parsed.message(),
        }
    }

    /// The members it changes, each with the kind of change as etcd's definitions name it, or its number.
    pub fn changes(&self) -> impl Iterator<Item = (String, u64)> {
        let (kind_field, node_field) = match self {
            Self::V1(_) => (2, 3),
            Self::V2(_) => (1, 2),
        };
        let single = matches!(self, Self::V1(_)).then(|| self.message());
        let several = matches!(self, Self::V2(_)).then(|| self.message().messages_in(2));
        single.into_iter().chain(several.into_iter().flatten()).map(move |change| {
            let name = enum_text(change.kind(), kind_field, change.number(kind_field));
            (name, change.number(node_field))
        })
    }

    /// The member as JSON, when one is added or updated.
    #[must_use]
    pub fn context(&self) -> &[u8] {
        match self {
            Self::V1(parsed) => parsed.message().data(4),
            Self::V2(parsed) => parsed.message().data(3),
        }
    }

    /// Appends what etcd-dump-logs prints after `conf` and a tab. It has no form for [`ConfChange::V2`]: each change is
    /// worded like a single one, after the transition.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        if let Self::V2(parsed) = self {
            let transition = enum_text(&CONF_CHANGE_V2, 1, parsed.message().number(1));
            // Writing to memory does not fail.
            let _ = write!(out, "transition={transition}");
        }
        for (method, member) in self.changes() {
            if matches!(self, Self::V2(_)) {
                out.push(b' ');
            }
            let _ = write!(out, "method={method} id={member:x}");
        }
    }
}

/// The name of the number in this enum field, or the number.
fn enum_text(kind: &MessageType, number: i32, value: u64) -> String {
    let field = kind.fields.iter().find(|field| field.number == number);
    match field.map(|field| field.kind) {
        Some(Kind::Enum(names)) => {
            let value = enum_number(value);
            text::enum_name(names, value).map_or_else(|| value.to_string(), str::to_owned)
        }
        _ => value.to_string(),
    }
}
