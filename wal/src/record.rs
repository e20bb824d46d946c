//! Records: what a frame holds (FORMATS E.2).

use crate::entry::EntryRef;
use crate::frame::len_u64;
use crate::raftpb::{HardState, Metadata, walpb};
use crate::segment::{Fault, FaultKind, PayloadError};
use crate::wire::{Value, WireError, next_field};
use prost::Message;

/// Length in bytes above which the data of a record that is no entry is not decoded. Such messages hold a handful of
/// numbers; decoded, a list of member IDs takes four times its bytes.
pub const MESSAGE_LIMIT_BYTES: usize = 1 << 20;

/// What a record's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// [`Metadata`]: whose log this is.
    Metadata,
    /// A raft [`EntryRef`].
    Entry,
    /// A raft [`HardState`].
    State,
    /// No data: the record's CRC is the rolling CRC so far, from which the segment's chain starts.
    Crc,
    /// [`walpb::Snapshot`].
    Snapshot,
}

impl RecordType {
    /// The type with this number; `None` for a number no etcd version writes.
    #[must_use]
    pub const fn from_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Metadata),
            2 => Some(Self::Entry),
            3 => Some(Self::State),
            4 => Some(Self::Crc),
            5 => Some(Self::Snapshot),
            _ => None,
        }
    }

    /// The number written in records.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Metadata => 1,
            Self::Entry => 2,
            Self::State => 3,
            Self::Crc => 4,
            Self::Snapshot => 5,
        }
    }

    /// The name FORMATS E.2 gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Entry => "entry",
            Self::State => "state",
            Self::Crc => "crc",
            Self::Snapshot => "snapshot",
        }
    }
}

/// One record, borrowed from its segment. Its CRC held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place among the segment's records, from 0.
    pub number: u64,
    /// The file offset of its frame.
    pub offset: u64,
    /// What its data is. Not covered by the CRC.
    pub record_type: RecordType,
    /// The rolling CRC-32C after its data.
    pub crc: u32,
    /// Its data; empty in records of type [`RecordType::Crc`].
    pub data: &'a [u8],
    /// The whole record as written, without length word and padding.
    pub raw: &'a [u8],
}

/// A record's data, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Of a [`RecordType::Metadata`] record.
    Metadata(Metadata),
    /// Of a [`RecordType::Entry`] record.
    Entry(EntryRef<'a>),
    /// Of a [`RecordType::State`] record.
    State(HardState),
    /// Of a [`RecordType::Crc`] record.
    Crc,
    /// Of a [`RecordType::Snapshot`] record.
    Snapshot(walpb::Snapshot),
}

impl<'a> Payload<'a> {
    /// Decodes data by the type of its record.
    ///
    /// # Errors
    /// When the data is not the message the type promises, or, being no entry, is longer than
    /// [`MESSAGE_LIMIT_BYTES`].
    pub fn decode(record_type: RecordType, data: &'a [u8]) -> Result<Self, PayloadError> {
        if record_type != RecordType::Entry && data.len() > MESSAGE_LIMIT_BYTES {
            return Err(PayloadError::TooLarge { limit: 1 << 20 });
        }
        Ok(match record_type {
            RecordType::Metadata => Self::Metadata(Metadata::decode(data)?),
            RecordType::Entry => Self::Entry(EntryRef::decode(data)?),
            RecordType::State => Self::State(HardState::decode(data)?),
            RecordType::Crc => Self::Crc,
            RecordType::Snapshot => Self::Snapshot(walpb::Snapshot::decode(data)?),
        })
    }
}

impl<'a> Record<'a> {
    /// Decodes the data by the record's type.
    ///
    /// # Errors
    /// [`FaultKind::Payload`] when the data is not the message its type promises.
    pub fn payload(&self) -> Result<Payload<'a>, Fault> {
        Payload::decode(self.record_type, self.data)
            .map_err(|reason| self.payload_fault(self.record_type.name(), reason))
    }

    pub(crate) fn payload_fault(&self, what: &'static str, reason: PayloadError) -> Fault {
        self.fault(FaultKind::Payload { what, len: len_u64(self.data), reason })
    }

    pub(crate) fn fault(&self, kind: FaultKind) -> Fault {
        Fault { record: self.number, offset: self.offset, kind }
    }
}

/// A record as its bytes have it, before type and CRC are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) type_number: i64,
    pub(crate) crc: u32,
    pub(crate) data: &'a [u8],
}

/// The most fields that are looked at in one record. There are three; with a bound, telling what is no record takes a time
/// that does not go with its length.
const FIELD_LIMIT: usize = 64;

/// Decodes `walpb.Record` without copying its data. Of a field that occurs twice the last counts; unknown fields are
/// skipped.
pub(crate) fn decode(bytes: &[u8]) -> Result<RawRecord<'_>, WireError> {
    let mut record = RawRecord { type_number: 0, crc: 0, data: &[] };
    let mut rest = bytes;
    let mut fields = 0;
    while let Some((field, value)) = next_field(&mut rest)? {
        fields += 1;
        if fields > FIELD_LIMIT {
            return Err(WireError::TooManyFields { limit: FIELD_LIMIT });
        }
        match (field, value) {
            (1, Value::Varint(number)) => record.type_number = number.cast_signed(),
            // A uint32 field keeps the low 32 bits of what is written.
            (2, Value::Varint(crc)) => {
                let [a, b, c, d, ..] = crc.to_le_bytes();
                record.crc = u32::from_le_bytes([a, b, c, d]);
            }
            (3, Value::Bytes(data)) => record.data = data,
            (1..=3, other) => return Err(WireError::WireType { field, wire_type: other.wire_type() }),
            _ => {}
        }
    }
    Ok(record)
}

/// A record laid out as every etcd version does: type, CRC, and data if there is any, and nothing after it.
///
/// `None` for any other layout, which may still be a record to [`decode`]. Constant work.
pub(crate) fn decode_canonical(bytes: &[u8]) -> Option<RawRecord<'_>> {
    let [0x08, type_number @ 0..=0x7f, 0x10, rest @ ..] = bytes else { return None };
    let (crc, rest) = short_varint(rest)?;
    let crc = u32::try_from(crc).ok()?;
    let data = match rest {
        [] => &[][..],
        [0x1a, rest @ ..] => {
            let (len, data) = short_varint(rest)?;
            if usize::try_from(len).ok()? != data.len() {
                return None;
            }
            data
        }
        _ => return None,
    };
    Some(RawRecord { type_number: i64::from(*type_number), crc, data })
}

/// A varint of at most five bytes.
fn short_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (position, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(position + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The borrowed decoder against prost's, which is derived from the same field list.
        #[test]
        fn agrees_with_prost_on_records(record_type in any::<i64>(), crc in any::<u32>(), data in prop::option::of(prop::collection::vec(any::<u8>(), 0..80))) {
            let message = walpb::Record { record_type: Some(record_type), crc: Some(crc), data };
            let bytes = message.encode_to_vec();
            let raw = decode(&bytes).unwrap();
            prop_assert_eq!(raw.type_number, record_type);
            prop_assert_eq!(raw.crc, crc);
            prop_assert_eq!(raw.data, message.data());
        }

        #[test]
        fn whatever_it_accepts_prost_accepts_alike(bytes in prop::collection::vec(prop_oneof![0u8..0x30, any::<u8>()], 0..24)) {
            if let Ok(raw) = decode(&bytes) {
                let message = walpb::Record::decode(bytes.as_slice());
                prop_assert!(message.is_ok(), "{:?}", message);
                let message = message.unwrap();
                prop_assert_eq!(raw.type_number, message.record_type());
                prop_assert_eq!(raw.crc, message.crc());
                prop_assert_eq!(raw.data, message.data());
            }
        }

        /// Without groups in play, what prost refuses is refused here and the reverse.
        #[test]
        fn refusals_agree(bytes in prop::collection::vec(prop::sample::select(vec![0x00u8, 0x08, 0x10, 0x12, 0x1a, 0x18, 0x22, 0x80, 0xff, 0x01, 0x02]), 0..16)) {
            prop_assert_eq!(decode(&bytes).is_ok(), walpb::Record::decode(bytes.as_slice()).is_ok());
        }
    }

    #[test]
    fn numbers_round_trip() {
        for number in -1..10 {
            if let Some(record_type) = RecordType::from_number(number) {
                assert_eq!(record_type.number(), number);
            } else {
                assert!(!(1..=5).contains(&number));
            }
        }
    }
}
