//! The few rules of protobuf's wire format that a borrowed record needs.

/// Why bytes are not the protobuf message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A varint runs past the end of its message.
    #[error("a varint is cut off")]
    VarintCut,
    /// A varint does not fit into 64 bits.
    #[error("a varint exceeds 64 bits")]
    VarintTooLong,
    /// A field key with number 0, or above 32 bits.
    #[error("a field key is invalid")]
    InvalidKey,
    /// A known field with the wrong wire type, or a wire type that these messages never use.
    #[error("field {field} has wire type {wire_type}")]
    WireType {
        /// The field's number.
        field: u64,
        /// The wire type found, 0 to 7.
        wire_type: u8,
    },
    /// A field declares more bytes than its message has left.
    #[error("field {field} declares {declared} bytes where {left} are left")]
    FieldTooLong {
        /// The field's number.
        field: u64,
        /// Its declared length in bytes.
        declared: u64,
        /// Bytes left in the message after the length.
        left: u64,
    },
    /// More fields than any writer writes.
    #[error("more than {limit} fields")]
    TooManyFields {
        /// How many are looked at.
        limit: usize,
    },
}

/// The value of one field, by wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed32,
    Fixed64,
}

impl Value<'_> {
    pub(crate) fn wire_type(&self) -> u8 {
        match self {
            Value::Varint(_) => 0,
            Value::Fixed64 => 1,
            Value::Bytes(_) => 2,
            Value::Fixed32 => 5,
        }
    }
}

/// Takes one field off the front of `rest`; `None` at its end.
///
/// Groups (wire types 3 and 4) are refused: no message of etcd has them, and skipping them would need recursion
/// over data.
pub(crate) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u64, Value<'a>)>, WireError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let key = varint(rest)?;
    let field = key >> 3;
    if field == 0 || key > u64::from(u32::MAX) {
        return Err(WireError::InvalidKey);
    }
    let value = match key & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => {
            take(rest, field, 8)?;
            Value::Fixed64
        }
        2 => {
            let len = varint(rest)?;
            Value::Bytes(take(rest, field, len)?)
        }
        5 => {
            take(rest, field, 4)?;
            Value::Fixed32
        }
        other => {
            let [wire_type, ..] = other.to_le_bytes();
            return Err(WireError::WireType { field, wire_type });
        }
    };
    Ok(Some((field, value)))
}

fn take<'a>(rest: &mut &'a [u8], field: u64, len: u64) -> Result<&'a [u8], WireError> {
    let all: &'a [u8] = rest;
    let split = usize::try_from(len).ok().and_then(|len| all.split_at_checked(len));
    let Some((taken, left)) = split else {
        return Err(WireError::FieldTooLong { field, declared: len, left: crate::frame::len_u64(all) });
    };
    *rest = left;
    Ok(taken)
}

pub(crate) fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0u64;
    for (position, byte) in rest.iter().enumerate() {
        // Nine bytes carry 63 bits; the tenth may only add the last one.
        if position == 9 && *byte > 1 {
            return Err(WireError::VarintTooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            *rest = rest.get(position + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(WireError::VarintCut)
}
