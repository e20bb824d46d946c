//! Requests, put together field by field for tests.

use prost::encoding::{WireType, encode_key, encode_varint};

use crate::request::schema::{INTERNAL_RAFT_REQUEST, MessageType};
use crate::request::{Message, Parsed};

/// A message under construction.
#[derive(Default, Clone)]
pub(super) struct Asked(Vec<u8>);

impl Asked {
    pub(super) fn bytes(mut self, field: u32, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        encode_key(field, WireType::LengthDelimited, &mut self.0);
        encode_varint(u64::try_from(bytes.len()).unwrap(), &mut self.0);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn number(mut self, field: u32, number: u64) -> Self {
        encode_key(field, WireType::Varint, &mut self.0);
        encode_varint(number, &mut self.0);
        self
    }

    pub(super) fn message(self, field: u32, message: Self) -> Self {
        self.bytes(field, message.0)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Shows it to `look` as a message of this type.
    pub(super) fn seen<T>(&self, kind: &'static MessageType, look: impl FnOnce(Message<'_>) -> T) -> T {
        look(Parsed::new(kind, &self.0).unwrap().message())
    }

    /// Shows `look` the kind of an `InternalRaftRequest`, and what it asks.
    pub(super) fn asks<T>(
        &self,
        look: impl FnOnce(Option<Message<'_>>, &'static str, Message<'_>) -> T,
    ) -> T {
        self.seen(&INTERNAL_RAFT_REQUEST, |whole| {
            let (field, asked) = whole.children().find(|(field, _)| field.name != "header").unwrap();
            look(whole.message(100), field.name, asked)
        })
    }
}

/// An empty message.
pub(super) fn asked() -> Asked {
    Asked::default()
}
