//! Numbers and bytes as the blocks of a case have them: LEB128 numbers, zigzag for those that may be negative.

use std::io::{self, Read as _};

/// A block of the case that is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a block in it cannot be decoded")]
pub struct BadBlock;

pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The low seven bits.
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Length of `number` as [`put`] writes it, in bytes.
pub(crate) const fn len_of(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// `len` bytes of what was packed with Zstandard, from `skip` on. The memory that is taken follows what is there, not what is asked for.
pub(crate) fn unpacked(packed: &[u8], skip: u64, len: u64) -> Result<Vec<u8>, BadBlock> {
    let mut plain = zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| BadBlock)?;
    let skipped = io::copy(&mut plain.by_ref().take(skip), &mut io::sink()).map_err(|_| BadBlock)?;
    let mut bytes = Vec::new();
    plain.take(len).read_to_end(&mut bytes).map_err(|_| BadBlock)?;
    if (skipped, bytes.len() as u64) == (skip, len) { Ok(bytes) } else { Err(BadBlock) }
}

/// Reads what was put; everything that does not fit is [`BadBlock`].
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left: a bound for every count that is read.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, BadBlock> {
        let (byte, rest) = self.rest.split_first().ok_or(BadBlock)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, BadBlock> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BadBlock)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, BadBlock> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], BadBlock> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(BadBlock)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], BadBlock> {
        let len = usize::try_from(self.number()?).map_err(|_| BadBlock)?;
        self.take(len)
    }

    /// A count of things of which each takes at least a byte.
    pub(crate) fn count(&mut self) -> Result<usize, BadBlock> {
        let count = usize::try_from(self.number()?).map_err(|_| BadBlock)?;
        if count <= self.left() { Ok(count) } else { Err(BadBlock) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(number in any::<u64>(), shift in 0u32..64, signed in any::<i64>()) {
            let number = number >> shift;
            let mut out = Vec::new();
            put(&mut out, number);
            prop_assert_eq!(out.len(), len_of(number));
            put_signed(&mut out, signed);
            put_bytes(&mut out, b"abc");
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.number().unwrap(), number);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            prop_assert_eq!(reader.bytes().unwrap(), b"abc");
            prop_assert!(reader.is_done());
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while reader.bytes().is_ok() && !reader.is_done() {}
        }
    }
}
