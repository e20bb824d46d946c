//! One segment, read record by record.

use crate::crc;
use crate::frame::{Found, LENGTH_WORD_BYTES, first_zero_sector, len_u64, read_frame};
use crate::record::{self, RawRecord, Record, RecordType};
use crate::wire::WireError;

/// [`LENGTH_WORD_BYTES`] as file offsets count.
const LENGTH_WORD_LEN: u64 = 8;
const _: () = assert!(LENGTH_WORD_BYTES == 8);

/// Where a segment breaks, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {record} at {offset:#x}: {kind}")]
pub struct Fault {
    /// The place of the broken record among the segment's records, from 0.
    pub record: u64,
    /// The file offset of its frame.
    pub offset: u64,
    /// What is wrong with it.
    pub kind: FaultKind,
}

impl Fault {
    /// The stable code of the fault, `WAL-…`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }
}

/// What is wrong with a record. Each variant says what a server makes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// `WAL-LENGTH-CUT`: the file ends inside a length word. A server cuts such a tail off the last segment of a
    /// log when it starts.
    #[error("the file ends after {left} of the 8 bytes of a length word")]
    LengthCut {
        /// Bytes of the length word that exist.
        left: u64,
    },
    /// `WAL-RECORD-CUT`: a record reaches beyond the end of the file: the file was cut, or the length word is
    /// damaged. A server treats both as a cut tail.
    #[error("declares {declared} bytes with padding where the file has {left} left")]
    RecordCut {
        /// Record and padding as the length word has them, in bytes.
        declared: u64,
        /// Bytes left in the file after the length word.
        left: u64,
    },
    /// `WAL-TORN`: the record cannot be read and a 512-byte sector of it is all zero: its write was torn by a power
    /// failure. A server cuts it, and all that follows, off the last segment; in an earlier one it will not start.
    #[error("torn: the sector at {sector:#x} was never written")]
    Torn {
        /// File offset of the first zero sector, or of the part of it that belongs to the record.
        sector: u64,
    },
    /// `WAL-UNDECODABLE`: the bytes are not a record. A server will not start.
    #[error("not a record: {reason}")]
    Undecodable {
        /// Why.
        reason: WireError,
    },
    /// `WAL-CRC`: the data is not what was written, or the checksum itself is damaged. A server will not start.
    #[error("crc {found:08x}, expected {expected:08x}")]
    CrcMismatch {
        /// The rolling CRC the record carries.
        expected: u32,
        /// The rolling CRC of the data as it is.
        found: u32,
    },
    /// `WAL-CRC-RECORD`: a record of type crc states another rolling CRC than the records before it have. A server
    /// will not start.
    #[error("states crc {expected:08x} for the records before it, which have {found:08x}")]
    CrcRecordMismatch {
        /// The CRC stated.
        expected: u32,
        /// The rolling CRC so far.
        found: u32,
    },
    /// `WAL-RECORD-TYPE`: a type no etcd version writes. The type is not covered by the CRC. A server will not start.
    #[error("unknown record type {number}")]
    UnknownType {
        /// The type's number.
        number: i64,
    },
    /// `WAL-PAYLOAD`: the data's CRC holds and yet it is not the message its type promises: a damaged type, or a
    /// foreign writer. A server will not start.
    #[error("its {len} bytes of data are not a {what}: {reason}")]
    Payload {
        /// The message expected.
        what: &'static str,
        /// Length of the data in bytes.
        len: u64,
        /// Why not.
        reason: PayloadError,
    },
    /// `WAL-METADATA-CONFLICT`: a second metadata record differs from the first: segments of two members were mixed.
    /// A server will not start.
    #[error("metadata differs from that of record {first}")]
    MetadataConflict {
        /// The number of the record that has the other metadata.
        first: u64,
    },
}

impl FaultKind {
    /// The stable code of the fault, `WAL-…`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::LengthCut { .. } => "WAL-LENGTH-CUT",
            Self::RecordCut { .. } => "WAL-RECORD-CUT",
            Self::Torn { .. } => "WAL-TORN",
            Self::Undecodable { .. } => "WAL-UNDECODABLE",
            Self::CrcMismatch { .. } => "WAL-CRC",
            Self::CrcRecordMismatch { .. } => "WAL-CRC-RECORD",
            Self::UnknownType { .. } => "WAL-RECORD-TYPE",
            Self::Payload { .. } => "WAL-PAYLOAD",
            Self::MetadataConflict { .. } => "WAL-METADATA-CONFLICT",
        }
    }
}

/// Why a record's data is not the message it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// It breaks the wire format.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It is not that message.
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
    /// It is larger than any such message, and was not decoded.
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// The most that is decoded, in bytes.
        limit: u64,
    },
}

/// How a segment's records end, when they end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentEnd {
    /// At a length word of 0: what follows is preallocated. So end last segments.
    ZeroLength,
    /// With the file. So end segments that were followed by another.
    EndOfFile,
}

/// Reads one segment, given whole.
///
/// The CRC chain starts from the segment's own first record, so any segment of a log can be read alone.
#[must_use]
pub fn read_segment(bytes: &[u8]) -> Segment<'_> {
    Segment { bytes, position: 0, number: 0, crc: 0, end: None, fused: false }
}

/// The records of one segment, in file order.
///
/// Yields a [`Fault`] for each record that does not hold. After [`FaultKind::CrcMismatch`],
/// [`FaultKind::CrcRecordMismatch`] and [`FaultKind::UnknownType`] it goes on with the next record, its chain resumed
/// from the CRC the broken record carries: the frame was sound, and a chain resumed from a damaged value shows as one
/// more mismatch. After any other fault the place of the next record is not known, and the iterator is done.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    bytes: &'a [u8],
    position: usize,
    number: u64,
    crc: u32,
    end: Option<SegmentEnd>,
    fused: bool,
}

impl<'a> Segment<'a> {
    /// The file offset where the next record would start: past the last frame that could be delimited. Once the
    /// iterator is done this is where the records end, or the offset of the record that stopped it.
    #[must_use]
    pub fn offset(&self) -> u64 {
        len_u64(self.bytes.get(..self.position).unwrap_or_default())
    }

    /// How many records were passed, broken ones included that did not stop the iterator.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.number
    }

    /// The rolling CRC-32C after the last record passed.
    #[must_use]
    pub const fn crc(&self) -> u32 {
        self.crc
    }

    /// How the records ended; `None` while there may be more, and after a fault that stopped the iterator.
    #[must_use]
    pub const fn end(&self) -> Option<SegmentEnd> {
        self.end
    }

    /// The bytes from [`Self::offset`] on. After a clean end these should all be zero.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    fn stop(&mut self, kind: FaultKind) -> Fault {
        self.fused = true;
        Fault { record: self.number, offset: self.offset(), kind }
    }

    fn finish(&mut self, end: SegmentEnd) {
        self.fused = true;
        self.end = Some(end);
    }

    /// Checks a record against the rolling CRC; answers the rolling CRC after it.
    fn check(&self, raw: &RawRecord<'_>) -> Result<RecordType, FaultKind> {
        let record_type = RecordType::from_number(raw.type_number);
        if record_type == Some(RecordType::Crc) {
            // A chain of 0 is one that has not begun: the first record of a later segment gives it its seed.
            if self.crc != 0 && self.crc != raw.crc {
                return Err(FaultKind::CrcRecordMismatch { expected: raw.crc, found: self.crc });
            }
            return Ok(RecordType::Crc);
        }
        let found = crc::update(self.crc, raw.data);
        if found != raw.crc {
            return Err(FaultKind::CrcMismatch { expected: raw.crc, found });
        }
        record_type.ok_or(FaultKind::UnknownType { number: raw.type_number })
    }
}

impl<'a> Iterator for Segment<'a> {
    type Item = Result<Record<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.fused {
            return None;
        }
        let frame = match read_frame(self.rest()) {
            Ok(Found::Frame(frame)) => frame,
            Ok(Found::ZeroLength) => {
                self.finish(SegmentEnd::ZeroLength);
                return None;
            }
            Ok(Found::EndOfFile) => {
                self.finish(SegmentEnd::EndOfFile);
                return None;
            }
            Err(kind) => return Some(Err(self.stop(kind))),
        };
        let offset = self.offset();
        let torn = || first_zero_sector(frame.padded, offset.saturating_add(LENGTH_WORD_LEN));
        let raw = match record::decode(frame.record) {
            Ok(raw) => raw,
            Err(reason) => {
                let kind =
                    torn().map_or(FaultKind::Undecodable { reason }, |sector| FaultKind::Torn { sector });
                return Some(Err(self.stop(kind)));
            }
        };
        let checked = self.check(&raw);
        if let Err(FaultKind::CrcMismatch { .. }) = checked
            && let Some(sector) = torn()
        {
            return Some(Err(self.stop(FaultKind::Torn { sector })));
        }
        let number = self.number;
        self.position += LENGTH_WORD_BYTES + frame.padded.len();
        self.number += 1;
        self.crc = raw.crc;
        Some(match checked {
            Ok(record_type) => {
                Ok(Record { number, offset, record_type, crc: raw.crc, data: raw.data, raw: frame.record })
            }
            Err(kind) => Err(Fault { record: number, offset, kind }),
        })
    }
}

impl std::iter::FusedIterator for Segment<'_> {}
