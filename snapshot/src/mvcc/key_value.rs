//! The records of bucket `key`: `mvccpb.KeyValue` as protobuf (FORMATS B.3).

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// A `mvccpb.KeyValue`, borrowed from where it lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// Revision of the put that created the key.
    pub create_revision: i64,
    /// Revision of this put.
    pub mod_revision: i64,
    /// Number of puts since the creation, this one included.
    pub version: i64,
    /// The user's value.
    pub value: &'a [u8],
    /// The lease, or 0.
    pub lease: i64,
}

/// Where and why a record is no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid mvccpb.KeyValue: {what} at byte {at} of the record")]
pub struct DecodeError {
    /// Byte of the record.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl<'a> KeyValue<'a> {
    /// Decodes `record` without copying. Unknown fields are skipped, the last of a repeated field wins, and a known
    /// field with a wrong wire type is an error: what Go's decoder does.
    ///
    /// # Errors
    /// When a tag, length or number is cut or not possible.
    pub fn decode(record: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { bytes: record, at: 0 };
        let mut kv = Self::default();
        while reader.at < record.len() {
            let start = reader.at;
            let wrong_type = DecodeError { at: start, what: "a field of the wrong type" };
            let tag = reader.varint()?;
            let (field, wire_type) = (tag >> 3, tag & 7);
            match (field, wire_type) {
                (1, 2) => kv.key = reader.bytes_field()?,
                (5, 2) => kv.value = reader.bytes_field()?,
                (2, 0) => kv.create_revision = reader.varint()?.cast_signed(),
                (3, 0) => kv.mod_revision = reader.varint()?.cast_signed(),
                (4, 0) => kv.version = reader.varint()?.cast_signed(),
                (6, 0) => kv.lease = reader.varint()?.cast_signed(),
                (0, _) => return Err(DecodeError { at: start, what: "field number 0" }),
                (1..=6, _) => return Err(wrong_type),
                (_, 0) => _ = reader.varint()?,
                (_, 1) => _ = reader.take(8)?,
                (_, 2) => _ = reader.bytes_field()?,
                (_, 5) => _ = reader.take(4)?,
                _ => return Err(DecodeError { at: start, what: "an unknown wire type" }),
            }
        }
        Ok(kv)
    }

    /// Appends the record to `out` as Go's encoder writes it: fields by their numbers, zeros and what is empty left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        push_bytes(1, self.key, out);
        push_number(2, self.create_revision, out);
        push_number(3, self.mod_revision, out);
        push_number(4, self.version, out);
        push_bytes(5, self.value, out);
        push_number(6, self.lease, out);
    }

    /// How long [`Self::encode`] makes it, in bytes. A record that is longer was not written by Go's encoder: it has fields that are not
    /// known, fields twice, or numbers in more bytes than they need.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        // Tags of all fields are a byte.
        let of_bytes = |bytes: &[u8]| match bytes.len() {
            0 => 0,
            len => 1 + encoded_len_varint(len as u64) + len,
        };
        let of_number = |number: i64| match number {
            0 => 0,
            number => 1 + encoded_len_varint(number.cast_unsigned()),
        };
        of_bytes(self.key)
            + of_number(self.create_revision)
            + of_number(self.mod_revision)
            + of_number(self.version)
            + of_bytes(self.value)
            + of_number(self.lease)
    }
}

fn push_number(field: u32, number: i64, out: &mut Vec<u8>) {
    if number != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(number.cast_unsigned(), out);
    }
}

fn push_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        encode_key(field, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.bytes.get(self.at).copied() else {
                return Err(DecodeError { at: self.at, what: "a cut number" });
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError { at: self.at, what: "a number of more than 64 bits" })
    }

    fn bytes_field(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        let cut = DecodeError { at: self.at, what: "a length beyond the record's end" };
        self.take(usize::try_from(len).map_err(|_| cut)?)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let cut = DecodeError { at: self.at, what: "a length beyond the record's end" };
        let end = self.at.checked_add(len).ok_or(cut)?;
        let taken = self.bytes.get(self.at..end).ok_or(cut)?;
        self.at = end;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_values_decode_as_go_does() {
        let record = b"\x0a\x03foo\x10\x02\x18\x03\x20\x01\x2a\x03bar\x30\x7b";
        let kv = KeyValue::decode(record).unwrap();
        assert_eq!(
            kv,
            KeyValue {
                key: b"foo",
                create_revision: 2,
                mod_revision: 3,
                version: 1,
                value: b"bar",
                lease: 123
            }
        );
        let mut encoded = Vec::new();
        kv.encode(&mut encoded);
        assert_eq!(encoded, record);
        assert_eq!(kv.encoded_bytes(), record.len());
        assert_eq!(KeyValue::decode(b"").unwrap(), KeyValue::default());
        encoded.clear();
        KeyValue::default().encode(&mut encoded);
        assert!(encoded.is_empty());
        // Numbers and lengths of more than seven bits, and a negative one.
        let (key, value) = ([b'k'; 200], [b'v'; 70_000]);
        let kv = KeyValue {
            key: &key,
            create_revision: 300,
            mod_revision: i64::MAX,
            version: 128,
            value: &value,
            lease: -1,
        };
        kv.encode(&mut encoded);
        assert_eq!(KeyValue::decode(&encoded).unwrap(), kv);
        assert_eq!(kv.encoded_bytes(), encoded.len());
        // An unknown field is skipped, a known one of another type is not.
        assert_eq!(KeyValue::decode(b"\x0a\x01k\x38\x05").unwrap().key, b"k");
        assert!(KeyValue::decode(b"\x08\x05").is_err());
        // Cut anywhere inside a field, it is an error.
        for cut in [1, 2, 4, 6, 8, 10, 12, 15, 17] {
            assert!(KeyValue::decode(&record[..cut]).is_err(), "cut at {cut}");
        }
    }
}
