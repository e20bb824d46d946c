//! Raft entries, borrowed from their segment (FORMATS E.9).

use crate::wire::{Value, WireError, next_field};

/// One entry of the raft log, its data borrowed. For writing there is [`crate::raftpb::Entry`].
///
/// Which scalars were written out and which were left at their default is not kept: a record that must keep its bytes
/// has them in [`crate::Record::raw`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryRef<'a> {
    /// The number of a [`crate::raftpb::EntryType`], or one that no etcd version writes.
    pub entry_type: i32,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Its place in the log.
    pub index: u64,
    /// What it carries, by type; empty in the entry with which a leader opens its term.
    pub data: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// Reads a `raftpb.Entry`. Of a field that occurs twice the last counts; unknown fields are skipped.
    ///
    /// # Errors
    /// When the bytes are not such a message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut entry = Self::default();
        let mut rest = bytes;
        while let Some((field, value)) = next_field(&mut rest)? {
            match (field, value) {
                // An enum keeps the low 32 bits of what is written.
                (1, Value::Varint(number)) => {
                    let [a, b, c, d, ..] = number.to_le_bytes();
                    entry.entry_type = i32::from_le_bytes([a, b, c, d]);
                }
                (2, Value::Varint(term)) => entry.term = term,
                (3, Value::Varint(index)) => entry.index = index,
                (4, Value::Bytes(data)) => entry.data = data,
                (1..=4, other) => return Err(WireError::WireType { field, wire_type: other.wire_type() }),
                _ => {}
            }
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raftpb::Entry;
    use proptest::prelude::*;
    use prost::Message;

    fn same(borrowed: &EntryRef<'_>, owned: &Entry) -> bool {
        (borrowed.entry_type, borrowed.term, borrowed.index, borrowed.data)
            == (owned.entry_type(), owned.term(), owned.index(), owned.data())
    }

    proptest! {
        /// The borrowed decoder against prost's, which is derived from the field list.
        #[test]
        fn agrees_with_prost(entry_type in prop::option::of(any::<i32>()), term in prop::option::of(any::<u64>()), index in prop::option::of(any::<u64>()), data in prop::option::of(prop::collection::vec(any::<u8>(), 0..80))) {
            let owned = Entry { entry_type, term, index, data };
            let bytes = owned.encode_to_vec();
            let borrowed = EntryRef::decode(&bytes).unwrap();
            prop_assert!(same(&borrowed, &owned), "{:?} {:?}", borrowed, owned);
        }

        /// Without groups in play, both accept and refuse the same bytes.
        #[test]
        fn refusals_agree(bytes in prop::collection::vec(prop::sample::select(vec![0x00u8, 0x08, 0x10, 0x18, 0x22, 0x2a, 0x80, 0xff, 0x01, 0x02]), 0..16)) {
            let (borrowed, owned) = (EntryRef::decode(&bytes), Entry::decode(bytes.as_slice()));
            prop_assert_eq!(borrowed.is_ok(), owned.is_ok());
            if let (Ok(borrowed), Ok(owned)) = (borrowed, owned) {
                prop_assert!(same(&borrowed, &owned));
            }
        }
    }
}
