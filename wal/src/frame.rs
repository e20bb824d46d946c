//! Frames: how records lie in a segment (FORMATS E.2).
//!
//! ```text
//! offset  bytes  what
//! 0       8      length word, little-endian
//! 8       n      the record (a walpb.Record)
//! 8+n     pad    zeros, so that the next frame starts on a multiple of 8
//!
//! length word: bits 0..56   n
//!              bits 56..59  pad, only if bit 63 is set
//!              bit 63       set when pad is not 0
//! ```
//! A length word of 0 ends the segment: the rest of the file is preallocated.

use crate::segment::FaultKind;

/// Size of a frame's length word in bytes.
pub const LENGTH_WORD_BYTES: usize = 8;

/// Size in bytes of the pieces a disk writes whole or not at all, as etcd assumes (FORMATS E.4).
pub const SECTOR_BYTES: u64 = 512;

const RECORD_LEN_MASK: u64 = 0x00ff_ffff_ffff_ffff;
const PADDED_BIT: u64 = 1 << 63;
const PAD_SHIFT: u32 = 56;

/// A frame's length word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthWord {
    /// Length of the record in bytes.
    pub record_len_bytes: u64,
    /// Zero bytes after it, 0 to 7.
    pub pad_len_bytes: u64,
}

impl LengthWord {
    /// Takes a length word apart. Logs of the first etcd versions have no padding and do not set bit 63.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let pad_len_bytes = if word & PADDED_BIT == 0 { 0 } else { (word >> PAD_SHIFT) & 7 };
        Self { record_len_bytes: word & RECORD_LEN_MASK, pad_len_bytes }
    }

    /// The length word for a record of this many bytes.
    #[must_use]
    pub const fn for_record(record_len_bytes: u64) -> Self {
        Self { record_len_bytes, pad_len_bytes: (8 - record_len_bytes % 8) % 8 }
    }

    /// The word as it is written.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        if self.pad_len_bytes == 0 {
            self.record_len_bytes
        } else {
            self.record_len_bytes | PADDED_BIT | (self.pad_len_bytes << PAD_SHIFT)
        }
    }
}

/// One frame of a segment, inside its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The record's bytes.
    pub record: &'a [u8],
    /// The record's bytes and the padding after them.
    pub padded: &'a [u8],
    /// Its length word.
    pub word: u64,
}

impl Frame<'_> {
    /// Whether what nothing covers and no reader looks at is as it was written: the padding zero, and no bit of the
    /// length word set without a meaning.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let len_bytes = len_u64(self.record);
        (self.word == len_bytes || self.word == LengthWord::for_record(len_bytes).to_word())
            && self
                .padded
                .get(self.record.len()..)
                .is_some_and(|padding| padding.iter().all(|byte| *byte == 0))
    }
}

/// What lies at an offset where a frame may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// A length word of 0: the segment's records end here.
    ZeroLength,
    /// No bytes are left.
    EndOfFile,
}

/// Reads the frame at the start of `rest`, which reaches to the end of the file.
///
/// # Errors
/// [`FaultKind::LengthCut`] or [`FaultKind::RecordCut`] when the file ends inside the frame. Nothing is
/// allocated, whatever the length word says.
pub fn read_frame(rest: &[u8]) -> Result<Found<'_>, FaultKind> {
    if rest.is_empty() {
        return Ok(Found::EndOfFile);
    }
    let Some((word, body)) = rest.split_first_chunk::<LENGTH_WORD_BYTES>() else {
        return Err(FaultKind::LengthCut { left: len_u64(rest) });
    };
    let word = u64::from_le_bytes(*word);
    if word == 0 {
        return Ok(Found::ZeroLength);
    }
    let length = LengthWord::from_word(word);
    // At most 2^56 + 7, so the sum cannot overflow.
    let declared = length.record_len_bytes + length.pad_len_bytes;
    let cut = || FaultKind::RecordCut { declared, left: len_u64(body) };
    let padded = usize::try_from(declared).ok().and_then(|declared| body.get(..declared)).ok_or_else(cut)?;
    let record =
        usize::try_from(length.record_len_bytes).ok().and_then(|len| padded.get(..len)).ok_or_else(cut)?;
    Ok(Found::Frame(Frame { record, padded, word }))
}

/// Appends `record` to `out` as one frame.
pub fn write_frame(record: &[u8], out: &mut Vec<u8>) {
    let length = LengthWord::for_record(len_u64(record));
    out.extend_from_slice(&length.to_word().to_le_bytes());
    out.extend_from_slice(record);
    out.extend((0..length.pad_len_bytes).map(|_| 0));
}

/// The file offset of the first piece of `padded` that is all zero, when `padded` (a record and its padding) starts
/// at file offset `start` and is split where the file's 512-byte sectors meet.
///
/// Such a piece in a record that cannot be read means that the write was torn: power failed before that sector
/// reached the disk (FORMATS E.4). A short last piece of padding counts as well, as it does for etcd.
#[must_use]
pub fn first_zero_sector(padded: &[u8], start: u64) -> Option<u64> {
    let mut offset = start;
    let mut rest = padded;
    while !rest.is_empty() {
        let room = SECTOR_BYTES - offset % SECTOR_BYTES;
        let len = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
        let (sector, after) = rest.split_at_checked(len)?;
        if sector.iter().all(|byte| *byte == 0) {
            return Some(offset);
        }
        offset = offset.saturating_add(len_u64(sector));
        rest = after;
    }
    None
}

/// The length of a slice as file offsets count.
pub(crate) fn len_u64(bytes: &[u8]) -> u64 {
    // No supported target has pointers wider than 64 bits, so the fallback is never taken.
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length words of upstream's TestNew.wal (FORMATS V).
    #[test]
    fn length_words_of_upstream() {
        for (len, word) in
            [(4, 0x8400_0000_0000_0004_u64), (18, 0x8600_0000_0000_0012), (14, 0x8200_0000_0000_000e)]
        {
            let length = LengthWord::for_record(len);
            assert_eq!(length.to_word(), word);
            assert_eq!(LengthWord::from_word(word), length);
        }
        assert_eq!(LengthWord::for_record(32).to_word(), 32);
    }

    #[test]
    fn padding_counts_only_with_bit_63() {
        assert_eq!(
            LengthWord::from_word(0x0700_0000_0000_0005),
            LengthWord { record_len_bytes: 5, pad_len_bytes: 0 }
        );
    }

    #[test]
    fn every_length_round_trips() {
        for len in 0..=64 {
            let record = vec![0xab; len];
            let mut out = Vec::new();
            write_frame(&record, &mut out);
            assert_eq!(out.len() % 8, 0);
            if len == 0 {
                assert_eq!(read_frame(&out), Ok(Found::ZeroLength));
                continue;
            }
            let Ok(Found::Frame(frame)) = read_frame(&out) else { panic!("no frame of {len} bytes") };
            assert_eq!(frame.record, record);
            assert_eq!(frame.padded.len() + LENGTH_WORD_BYTES, out.len());
        }
    }

    #[test]
    fn a_huge_length_is_cut_not_allocated() {
        let mut bytes = [0xff; 64];
        assert_eq!(read_frame(&bytes), Err(FaultKind::RecordCut { declared: RECORD_LEN_MASK + 7, left: 56 }));
        bytes[7] = 0;
        assert_eq!(read_frame(&bytes), Err(FaultKind::RecordCut { declared: RECORD_LEN_MASK, left: 56 }));
        assert_eq!(read_frame(&[1, 2, 3]), Err(FaultKind::LengthCut { left: 3 }));
        assert_eq!(read_frame(&[]), Ok(Found::EndOfFile));
    }

    #[test]
    fn zero_sectors_are_found_at_file_boundaries() {
        let mut padded = vec![1; 1500];
        assert_eq!(first_zero_sector(&padded, 8), None);
        // 512 zero bytes that no sector boundary encloses are not a torn sector.
        padded[300..812].fill(0);
        assert_eq!(first_zero_sector(&padded, 8), None);
        padded[504..1016].fill(0);
        assert_eq!(first_zero_sector(&padded, 8), Some(512));
        // A last piece of padding alone counts (FORMATS E.4).
        assert_eq!(first_zero_sector(&[1, 1, 0, 0], 510), Some(512));
        assert_eq!(first_zero_sector(&[], 0), None);
    }
}
