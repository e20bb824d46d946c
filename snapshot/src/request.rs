//! What an entry of the log asks the server for: every request of etcd 3.0 to 3.7, borrowed from the entry's data.
//!
//! [`decode`] tells a v3 request from an old v2 one by etcd's own rule; [`ConfChange`] reads the other kind of entry.
//! [`schema`] is the table of all messages; [`Message`] a validated view that gives fields by number, for those who apply
//! requests, and walks what lies in it, for those who search. [`text`] prints as etcd-dump-logs 3.6 does, [`json`] with the
//! protobuf names. Passwords are not shown unless [`Style`] says so.

mod conf_change;
pub mod json;
mod message;
mod print;
pub mod schema;
#[cfg(test)]
mod tests;
pub mod text;
mod touch;
mod v2;
mod wire;

pub use conf_change::ConfChange;
pub use message::{MAX_DEPTH, Message, Parsed, Walk};
pub use print::{REMOVED, Style};
pub use touch::{KeyRange, Prefix};
pub use wire::{Fields, Item, Value, WireError};

use schema::{INTERNAL_RAFT_REQUEST, Kind, Role, V2_REQUEST};

/// The data of a normal entry.
#[derive(Debug, Clone)]
pub enum Decoded<'a> {
    /// Nothing: a new leader's first entry.
    Nothing,
    /// A request of the v3 API, or one of the v2 store wrapped in it.
    V3(Request<'a>),
    /// A request of the v2 store, as servers up to 3.5 write them.
    V2(Request<'a>),
    /// Neither. A server that meets it stops.
    Undecodable {
        /// Why it is no v3 request.
        v3: WireError,
        /// Why it is no v2 request.
        v2: WireError,
    },
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    parsed: Parsed<'a>,
}

/// Reads the data of a normal entry by the rule of servers up to 3.6 (FORMATS G.3): what parses as a v3 request is one;
/// what does not may be a v2 request. 3.7 does not know the second.
#[must_use]
pub fn decode(data: &[u8]) -> Decoded<'_> {
    if data.is_empty() {
        return Decoded::Nothing;
    }
    let v3 = match Parsed::new(&INTERNAL_RAFT_REQUEST, data) {
        Ok(parsed) => return Decoded::V3(Request { parsed }),
        // Servers without a limit take it for a v3 request, those with one for nothing at all.
        Err(error @ WireError::TooDeep { .. }) => return Decoded::Undecodable { v3: error, v2: error },
        Err(error) => error,
    };
    match Parsed::new(&V2_REQUEST, data) {
        Ok(parsed) => Decoded::V2(Request { parsed }),
        Err(v2) => Decoded::Undecodable { v3, v2 },
    }
}

impl<'a> Decoded<'a> {
    /// The request, when there is one.
    #[must_use]
    pub const fn request(&self) -> Option<&Request<'a>> {
        match self {
            Self::V3(request) | Self::V2(request) => Some(request),
            Self::Nothing | Self::Undecodable { .. } => None,
        }
    }

    /// One word for what it is: a field's name in `InternalRaftRequest`, `v2` for both kinds of v2 requests, `nothing`,
    /// or `undecodable`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::V3(request) => request.kind(),
            Self::V2(_) => "v2",
            Self::Undecodable { .. } => "undecodable",
        }
    }

    /// Appends what etcd-dump-logs 3.6 prints after `norm` and a tab.
    pub fn write_text(&self, style: &Style, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => {}
            Self::V3(request) => text::write(request.message(), style, out),
            Self::V2(request) => v2::write(request.message(), style, out),
            Self::Undecodable { .. } => out.extend_from_slice(b"???"),
        }
    }
}

impl<'a> Request<'a> {
    /// The whole request: an `InternalRaftRequest` or a v2 `Request`.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        self.parsed.message()
    }

    /// The whole request for as long as the entry lives; `None` for the rare one that had to be put in order.
    #[must_use]
    pub const fn borrowed(&self) -> Option<Message<'a>> {
        self.parsed.borrowed()
    }

    /// What it asks for: the name of its first field that is neither header nor ID, in declared order, as a server looks for
    /// it; `none` when it has no such field, or only one from a version this program does not know.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        let message = self.message();
        if std::ptr::eq(message.kind(), &raw const V2_REQUEST) {
            return "v2";
        }
        let places = message.present().places;
        let fields = message.kind().fields.iter().enumerate();
        let mut asked = fields.filter(|(place, field)| {
            places & (1 << place) != 0 && field.name != "header" && matches!(field.kind, Kind::Message(_))
        });
        asked.next().map_or("none", |(_, field)| field.name)
    }

    /// The keys and ranges it names: written, read, compared, or permitted.
    pub fn keys(&self) -> impl Iterator<Item = KeyRange<'_>> {
        self.message().walk().filter_map(KeyRange::of)
    }

    /// The v2 paths it names.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.message().walk().flat_map(|message| {
            message.with_role(Role::Path).filter_map(|value| match value {
                Value::Bytes(path) => Some(path),
                Value::Number(_) | Value::Packed(_) => None,
            })
        })
    }

    /// The leases it names.
    pub fn leases(&self) -> impl Iterator<Item = i64> {
        self.numbers(Role::Lease).map(u64::cast_signed)
    }

    /// The members it names; those in v2 paths included.
    pub fn members(&self) -> impl Iterator<Item = u64> {
        self.numbers(Role::Member).chain(self.paths().filter_map(touch::member_of_path))
    }

    /// Whether it holds a password, or the hash of one.
    #[must_use]
    pub fn holds_secret(&self) -> bool {
        self.message().walk().any(|message| {
            let filled = |value| matches!(value, Value::Bytes(bytes) if !bytes.is_empty());
            message.with_role(Role::Secret).any(filled)
                || (std::ptr::eq(message.kind(), &raw const V2_REQUEST) && v2::holds_password(message))
        })
    }

    /// Whether it has fields that no version known here has.
    #[must_use]
    pub fn has_unknown_fields(&self) -> bool {
        self.parsed.has_unknown_fields()
    }

    fn numbers(&self, role: Role) -> impl Iterator<Item = u64> {
        self.message().walk().flat_map(move |message| {
            message.with_role(role).filter_map(|value| match value {
                Value::Number(number) => Some(number),
                Value::Bytes(_) | Value::Packed(_) => None,
            })
        })
    }
}
