//! Whether one turned bit explains why a record does not hold.
//!
//! A CRC is linear: the difference between the checksum a record carries and the one its data has depends only on which
//! bits were turned and how far they lie from the end. For each single bit that difference is another state of one shift
//! register, so running the register backwards from the difference finds the bit, if there is one, in a single pass.
//! Bits outside the data are few and are tried one by one.

use crate::crc::{self, POLYNOMIAL};
use crate::fault::{BitFlip, Part};
use crate::frame::{Found, LENGTH_WORD_BYTES, LengthWord, first_zero_sector, len_u64, read_frame};
use crate::record::{Payload, RawRecord, RecordType, decode, decode_canonical};

/// The most bytes a frame has before its data: length word, type, CRC, and the data's length, each with its key.
const HEAD_BYTES: usize = LENGTH_WORD_BYTES + 2 + 6 + 6;

/// How many bytes may still be looked at for the sake of what is not there, so that no file makes the work more than
/// linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget(u64);

impl Budget {
    /// For a file of this length.
    pub(crate) const fn for_file(len_bytes: u64) -> Self {
        Self(len_bytes.saturating_mul(4).saturating_add(1 << 20))
    }

    /// Takes this many bytes from it; false when it is used up.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

/// The most bytes of data in which a bit is believed where no record follows that bears it out. Then its CRC alone speaks,
/// and other damage to so many bytes passes for one bit in one of 8192 cases; what was torn is not explained so at all.
const MOST_ALONE: usize = 64 << 10;

/// A record as it was before a bit was turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Explained {
    pub(crate) bit_flip: BitFlip,
    /// Where its frame ends, as an index.
    pub(crate) end: usize,
    /// The rolling CRC after it.
    pub(crate) crc: u32,
}

/// The bit of `len` bytes of data whose turning changes their CRC by `difference`: the byte's distance from the last,
/// and the bit in it.
fn find_bit(difference: u32, len: usize) -> Option<(usize, u8)> {
    let mut register = difference;
    for distance in 0..len {
        for bit in (0..8u8).rev() {
            register =
                if register & (1 << 31) == 0 { register << 1 } else { ((register ^ POLYNOMIAL) << 1) | 1 };
            if register == 1 {
                return Some((distance, bit));
            }
        }
    }
    None
}

/// Whether the chain goes on at `at` from `crc`: with the record there, or by ending.
pub(crate) fn goes_on(bytes: &[u8], at: usize, crc: u32, budget: &mut Budget) -> bool {
    match read_frame(bytes.get(at..).unwrap_or_default()) {
        Ok(Found::EndOfFile | Found::ZeroLength) => true,
        Ok(Found::Frame(frame)) => {
            budget.take(frame.record.len()) && decode(frame.record).is_ok_and(|next| holds(&next, crc))
        }
        Err(_) => false,
    }
}

/// Whether a record's CRC is right behind a chain of `crc`.
pub(crate) fn holds(raw: &RawRecord<'_>, crc: u32) -> bool {
    if raw.type_number == RecordType::Crc.number() {
        raw.crc == crc
    } else {
        crc::update(crc, raw.data) == raw.crc
    }
}

/// Looks for the bit that explains the frame at `at`, behind a chain of `chain`.
pub(crate) fn explain(bytes: &[u8], at: usize, chain: u32, budget: &mut Budget) -> Option<Explained> {
    in_data(bytes, at, chain, budget).or_else(|| in_head(bytes, at, chain, budget))
}

/// A bit of the data: the frame is sound, and type and CRC are believed.
fn in_data(bytes: &[u8], at: usize, chain: u32, budget: &mut Budget) -> Option<Explained> {
    let Ok(Found::Frame(frame)) = read_frame(bytes.get(at..)?) else { return None };
    let raw = decode_canonical(frame.record)?;
    let record_type = RecordType::from_number(raw.type_number)?;
    if record_type == RecordType::Crc || !budget.take(raw.data.len()) {
        return None;
    }
    let (distance, bit) = find_bit(crc::update(chain, raw.data) ^ raw.crc, raw.data.len())?;
    let end = at + LENGTH_WORD_BYTES + frame.padded.len();
    let followed = matches!(read_frame(bytes.get(end..).unwrap_or_default()), Ok(Found::Frame(_)));
    let start = offset(bytes, at + LENGTH_WORD_BYTES);
    if !followed && (raw.data.len() > MOST_ALONE || first_zero_sector(frame.record, start).is_some()) {
        return None;
    }
    // The data ends with the record.
    let byte = at + LENGTH_WORD_BYTES + frame.record.len() - 1 - distance;
    goes_on(bytes, end, raw.crc, budget).then(|| Explained {
        bit_flip: BitFlip { offset: offset(bytes, byte), bit, part: Part::Data },
        end,
        crc: raw.crc,
    })
}

/// A bit before the data, tried one after the other. Only a single explanation counts.
fn in_head(bytes: &[u8], at: usize, chain: u32, budget: &mut Budget) -> Option<Explained> {
    let present = bytes.get(at..)?;
    let mut head = [0; HEAD_BYTES];
    let len = present.len().min(HEAD_BYTES);
    head.get_mut(..len)?.copy_from_slice(present.get(..len)?);
    let mut known_crc: Option<(usize, usize, u32)> = None;
    let mut only: Option<Explained> = None;
    for byte in 0..len {
        for bit in 0..8u8 {
            let mut turned = head;
            *turned.get_mut(byte)? ^= 1 << bit;
            let Some(layout) = Layout::of(&turned, present.len()) else { continue };
            if byte >= layout.data {
                continue;
            }
            let Some(data) = present.get(layout.data..layout.data + layout.data_len) else { continue };
            let crc = match known_crc {
                Some((start, len, crc)) if (start, len) == (layout.data, layout.data_len) => crc,
                _ => {
                    if !budget.take(data.len()) {
                        return None;
                    }
                    let crc = crc::update(chain, data);
                    known_crc = Some((layout.data, layout.data_len, crc));
                    crc
                }
            };
            let right = if layout.record_type == RecordType::Crc {
                data.is_empty() && (chain == 0 || chain == layout.crc)
            } else {
                crc == layout.crc
            };
            if !right
                || Payload::decode(layout.record_type, data).is_err()
                || !goes_on(bytes, at + layout.end, layout.crc, budget)
            {
                continue;
            }
            if only.is_some() {
                return None;
            }
            only = Some(Explained {
                bit_flip: BitFlip { offset: offset(bytes, at + byte), bit, part: layout.part(byte) },
                end: at + layout.end,
                crc: layout.crc,
            });
        }
    }
    only
}

/// The bit of the length word at `before` without which the frame there would end where the next begins, and not at `at`.
/// The record in it holds all the same: it is the amount of padding that is wrong, or bytes behind the record pass for
/// a field of it.
pub(crate) fn explain_before(
    bytes: &[u8],
    before: usize,
    at: usize,
    chain: u32,
    budget: &mut Budget,
) -> Option<Explained> {
    let present = bytes.get(before..)?;
    let mut head = [0; HEAD_BYTES];
    let len = present.len().min(HEAD_BYTES);
    head.get_mut(..len)?.copy_from_slice(present.get(..len)?);
    for byte in 0..LENGTH_WORD_BYTES {
        for bit in 0..8u8 {
            let mut turned = head;
            *turned.get_mut(byte)? ^= 1 << bit;
            let Some(layout) = Layout::of(&turned, present.len()) else { continue };
            let end = before + layout.end;
            if layout.crc == chain && end != at && goes_on(bytes, end, chain, budget) {
                let bit_flip = BitFlip { offset: offset(bytes, before + byte), bit, part: Part::Length };
                return Some(Explained { bit_flip, end, crc: chain });
            }
        }
    }
    None
}

/// The bit of a record's type that makes its data a message again. The CRC does not cover the type, so this is all that
/// tells; only a single explanation counts.
pub(crate) fn explain_type(bytes: &[u8], at: usize, type_number: i64, data: &[u8]) -> Option<BitFlip> {
    let mut only = None;
    for bit in 0..7u8 {
        let Some(record_type) = RecordType::from_number(type_number ^ (1 << bit)) else { continue };
        if record_type == RecordType::Crc || data.is_empty() || Payload::decode(record_type, data).is_err() {
            continue;
        }
        if only.is_some() {
            return None;
        }
        let byte = at + LENGTH_WORD_BYTES + 1;
        only = Some(BitFlip { offset: offset(bytes, byte), bit, part: Part::Type });
    }
    only
}

/// Where the parts of a frame lie, from its start, when it is laid out as every etcd version does.
struct Layout {
    record_type: RecordType,
    crc: u32,
    /// Where the CRC ends, where the data begins, how long it is, and where the frame ends.
    crc_end: usize,
    data: usize,
    data_len: usize,
    end: usize,
}

impl Layout {
    fn of(head: &[u8; HEAD_BYTES], present: usize) -> Option<Self> {
        let (word, record) = head.split_first_chunk::<LENGTH_WORD_BYTES>()?;
        let word = u64::from_le_bytes(*word);
        let length = LengthWord::from_word(word);
        if LengthWord::for_record(length.record_len_bytes).to_word() != word {
            return None;
        }
        let record_len = usize::try_from(length.record_len_bytes).ok()?;
        let end = usize::try_from(length.record_len_bytes + length.pad_len_bytes).ok()?;
        if end > present.checked_sub(LENGTH_WORD_BYTES)? {
            return None;
        }
        let [0x08, type_number, 0x10, ..] = record else { return None };
        let record_type = RecordType::from_number(i64::from(*type_number))?;
        let (crc, crc_end) = varint(head, LENGTH_WORD_BYTES + 3)?;
        let (data, data_len) = if crc_end == LENGTH_WORD_BYTES + record_len {
            (crc_end, 0)
        } else {
            if *head.get(crc_end)? != 0x1a {
                return None;
            }
            let (data_len, data) = varint(head, crc_end + 1)?;
            let data_len = usize::try_from(data_len).ok()?;
            if data.checked_add(data_len)? != LENGTH_WORD_BYTES + record_len {
                return None;
            }
            (data, data_len)
        };
        Some(Self {
            record_type,
            crc: u32::try_from(crc).ok()?,
            crc_end,
            data,
            data_len,
            end: LENGTH_WORD_BYTES + end,
        })
    }

    fn part(&self, byte: usize) -> Part {
        match byte.checked_sub(LENGTH_WORD_BYTES) {
            None => Part::Length,
            Some(1) => Part::Type,
            Some(3..) if byte < self.crc_end => Part::Crc,
            _ => Part::Framing,
        }
    }
}

/// A varint of at most five bytes at `at`: its value and its end.
fn varint(head: &[u8; HEAD_BYTES], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for position in 0..5 {
        let byte = *head.get(at + position)?;
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, at + position + 1));
        }
    }
    None
}

/// An index into a segment as file offsets count.
fn offset(bytes: &[u8], at: usize) -> u64 {
    len_u64(bytes.get(..at).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_bit_of_data_is_found(seed in any::<u32>(), data in prop::collection::vec(any::<u8>(), 1..400), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let at = at.index(data.len());
            let sound = crc::update(seed, &data);
            let mut turned = data;
            turned[at] ^= 1 << bit;
            let found = find_bit(crc::update(seed, &turned) ^ sound, turned.len());
            prop_assert_eq!(found, Some((turned.len() - 1 - at, bit)));
        }

        /// The code's distance is 4, so two turned bits never look like one.
        #[test]
        fn two_bits_are_never_one(data in prop::collection::vec(any::<u8>(), 1..400), first in any::<prop::sample::Index>(), second in any::<prop::sample::Index>()) {
            let (first, second) = (first.index(data.len() * 8), second.index(data.len() * 8));
            prop_assume!(first != second);
            let sound = crc::checksum(&data);
            let mut turned = data;
            turned[first / 8] ^= 1 << (first % 8);
            turned[second / 8] ^= 1 << (second % 8);
            prop_assert_eq!(find_bit(crc::checksum(&turned) ^ sound, turned.len()), None);
        }
    }
}
