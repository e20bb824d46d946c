//! Protobuf's wire format, read as strictly, and as loosely, as the code that gogo's generator made for etcd up to 3.6.
//!
//! Whether an entry is a v3 request or an old v2 one is decided by whether it parses (FORMATS G.3), so what counts
//! as an error here decides what an entry is. Known fields must have their wire type, unknown ones are skipped, groups
//! included; a varint has at most ten bytes, of which the last gives one bit; a field's number is the low 32 bits of what is written.

use super::schema::{Field, Kind, Label, MessageType};

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The message ends inside a field.
    #[error("{message} is cut off")]
    Cut {
        /// The message's name.
        message: &'static str,
    },
    /// A varint has more than ten bytes.
    #[error("a varint in {message} is too long")]
    VarintTooLong {
        /// The message's name.
        message: &'static str,
    },
    /// A field's number is 0 or negative.
    #[error("{message} has a field without a valid number")]
    FieldNumber {
        /// The message's name.
        message: &'static str,
    },
    /// A group ends that did not begin.
    #[error("a group ends in {message} where none began")]
    EndGroup {
        /// The message's name.
        message: &'static str,
    },
    /// A wire type that does not exist, or not the one the field has.
    #[error("field {field} of {message} has wire type {wire_type}")]
    WireType {
        /// The message's name.
        message: &'static str,
        /// The field's number.
        field: i32,
        /// The wire type found, 0 to 7.
        wire_type: u8,
    },
    /// Messages lie in each other deeper than [`super::MAX_DEPTH`].
    #[error("messages lie in each other deeper than {depth} levels, which no server accepts")]
    TooDeep {
        /// How deep they may lie.
        depth: usize,
    },
}

/// The value of a known field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of a number, an enum or a bool.
    Number(u64),
    /// Of bytes, a string or a message.
    Bytes(&'a [u8]),
    /// Several numbers, packed.
    Packed(&'a [u8]),
}

/// One thing in a message.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A field of the message's table.
    Known {
        /// Its place in the table.
        place: usize,
        /// The field.
        field: &'static Field,
        /// Its value.
        value: Value<'a>,
    },
    /// A field the table does not have, key included.
    Unknown(&'a [u8]),
}

/// The fields of one message in the order of the wire.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    message: &'static MessageType,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `bytes`, taken for a message of this type.
    #[must_use]
    pub const fn new(message: &'static MessageType, bytes: &'a [u8]) -> Self {
        Self { message, rest: bytes }
    }

    /// What was not taken yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes the next field; `None` at the end.
    ///
    /// # Errors
    /// When what is left does not begin with a field. The next call then begins at the same place.
    pub fn take(&mut self) -> Result<Option<Item<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let message = self.message.name;
        let before = self.rest;
        let mut rest = before;
        let key = varint(&mut rest, message)?;
        let [number @ .., _, _, _, _] = (key >> 3).to_le_bytes();
        let number = i32::from_le_bytes(number);
        let wire_type = wire_type(key);
        if wire_type == 4 {
            return Err(WireError::EndGroup { message });
        }
        if number <= 0 {
            return Err(WireError::FieldNumber { message });
        }
        let mut table = self.message.fields.iter().enumerate();
        let item = if let Some((place, field)) = table.find(|(_, field)| field.number == number) {
            let value = match (field.kind, wire_type) {
                (Kind::Bool | Kind::Int64 | Kind::Uint64 | Kind::Enum(_), 0) => {
                    Value::Number(varint(&mut rest, message)?)
                }
                (Kind::Bytes | Kind::String | Kind::Message(_), 2) => {
                    Value::Bytes(delimited(&mut rest, message)?)
                }
                (Kind::Uint64, 2) if field.label == Label::Repeated => {
                    let packed = delimited(&mut rest, message)?;
                    let mut numbers = packed;
                    while !numbers.is_empty() {
                        varint(&mut numbers, message)?;
                    }
                    Value::Packed(packed)
                }
                _ => return Err(WireError::WireType { message, field: number, wire_type }),
            };
            Item::Known { place, field, value }
        } else {
            rest = before;
            skip(&mut rest, message)?;
            let (skipped, _) = before.split_at_checked(before.len() - rest.len()).unwrap_or((before, &[]));
            Item::Unknown(skipped)
        };
        self.rest = rest;
        Ok(Some(item))
    }
}

/// The numbers of a packed list.
pub(super) fn packed(mut bytes: &[u8]) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        varint(&mut bytes, "").ok()
    })
}

fn wire_type(key: u64) -> u8 {
    let [low, ..] = key.to_le_bytes();
    low & 7
}

/// Skips one field of any wire type; a group with all that is in it.
fn skip(rest: &mut &[u8], message: &'static str) -> Result<(), WireError> {
    let mut depth = 0_u64;
    loop {
        let key = varint(rest, message)?;
        match wire_type(key) {
            0 => {
                varint(rest, message)?;
            }
            1 => {
                split(rest, 8, message)?;
            }
            2 => {
                delimited(rest, message)?;
            }
            3 => depth += 1,
            4 => depth = depth.checked_sub(1).ok_or(WireError::EndGroup { message })?,
            5 => {
                split(rest, 4, message)?;
            }
            wire_type => {
                let [number @ .., _, _, _, _] = (key >> 3).to_le_bytes();
                return Err(WireError::WireType { message, field: i32::from_le_bytes(number), wire_type });
            }
        }
        if depth == 0 {
            return Ok(());
        }
    }
}

fn delimited<'a>(rest: &mut &'a [u8], message: &'static str) -> Result<&'a [u8], WireError> {
    let len = varint(rest, message)?;
    split(rest, len, message)
}

fn split<'a>(rest: &mut &'a [u8], len: u64, message: &'static str) -> Result<&'a [u8], WireError> {
    let all: &'a [u8] = rest;
    let (taken, left) = usize::try_from(len)
        .ok()
        .and_then(|len| all.split_at_checked(len))
        .ok_or(WireError::Cut { message })?;
    *rest = left;
    Ok(taken)
}

pub(super) fn varint(rest: &mut &[u8], message: &'static str) -> Result<u64, WireError> {
    let mut value = 0_u64;
    for (position, byte) in rest.iter().enumerate() {
        if position == 10 {
            return Err(WireError::VarintTooLong { message });
        }
        // Of the tenth byte only the lowest bit has a place.
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            *rest = rest.get(position + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(WireError::Cut { message })
}
