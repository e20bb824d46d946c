//! Everything that stands in one segment, past every break (FORMATS E.2 to E.4).
//!
//! [`read_segment`](crate::read_segment) goes as far as a server could; a [`Scan`] goes to the end of the file. Behind a
//! break whose end is not known, and behind a length word of zero, it looks at every multiple of 8 for a record laid out
//! as etcd lays them out: the length word with its padding bits, type, CRC and data filling exactly the length, zeros as
//! padding, and data that is the message the type promises. More than 60 bits of such a frame are determined by the
//! others, so that other bytes do not look like one by chance. (A key's value that holds a piece of a log does; it is
//! looked into only if the frame around it is lost.)
//!
//! Logs of the very first etcd versions have no padding. They are read, but behind a break nothing is found in them.

use crate::crc;
use crate::explain::{Budget, Explained, explain, explain_before, goes_on, holds};
use crate::fault::BitFlip;
use crate::frame::Frame;
use crate::frame::{
    Found as FrameFound, LENGTH_WORD_BYTES, LengthWord, first_zero_sector, len_u64, read_frame,
};
use crate::record::{self, Payload, RawRecord, Record, RecordType};
use crate::segment::{Fault, FaultKind, SegmentEnd};

/// One thing found in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record that holds.
    Record(Found<'a>),
    /// A frame that does not.
    Fault(Broken<'a>),
    /// Bytes in which no record was found.
    Skipped(Skipped),
}

/// A record that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The record.
    pub record: Record<'a>,
    /// Whether it is the first behind a break, so that its own CRC could not be checked: what it says is the new start
    /// of the chain.
    pub resumed: bool,
    /// Whether what nothing checks is as etcd writes it: zeros to fill the frame up, no bit of the length word set that
    /// has no meaning, no field but those of a record, in their order. No reader depends on any of it.
    pub is_clean: bool,
}

/// A frame whose record does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken<'a> {
    /// What is wrong with it.
    pub fault: Fault,
    /// The record as its bytes have it, where they can be read at all. Neither its data nor its CRC is to be believed.
    pub record: Option<Record<'a>>,
    /// The one bit that explains it.
    pub bit_flip: Option<BitFlip>,
    /// File offset of the end of its frame; with a [`Self::bit_flip`] that of the mended frame, which is the one before
    /// when its padding is what was damaged. `None` when its end is not known: a [`Skipped`] follows.
    pub end: Option<u64>,
}

/// Bytes in which no record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// File offset of the first. It is that of the [`Broken`] frame when one comes before it, else that of a length word
    /// of zero.
    pub offset: u64,
    /// How many.
    pub len_bytes: u64,
    /// Whether all of them are zero.
    pub zero: bool,
    /// The one bit without which a length word of zero hides a record, which is then what is skipped.
    pub bit_flip: Option<BitFlip>,
}

/// Reads one segment, given whole, to its last byte.
#[must_use]
pub fn scan(bytes: &[u8]) -> Scan<'_> {
    Scan {
        bytes,
        position: 0,
        before: None,
        before_end: 0,
        number: 0,
        chain: Chain::At(0),
        pending: None,
        end: None,
        done: false,
        budget: Budget::for_file(len_u64(bytes)),
    }
}

/// What is known of the rolling CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chain {
    At(u32),
    /// A break was passed behind this value.
    Lost(u32),
}

/// The items of one segment in file order; see [`scan`].
///
/// The work is linear in the segment's bytes, whatever they are: what is looked at in search of records and of turned bits
/// that turn out not to be there has a budget of four times the file. Real damage does not come near it; when it is used
/// up, bits are no longer looked for, and records only where the frame before them ends.
#[derive(Debug, Clone)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Where the frame before begins, unless it was mended already: a frame is explained once, or two ends of it could be
    /// gone back to in turn for ever.
    before: Option<usize>,
    /// Where the frame before would end if it were padded as it should be.
    before_end: usize,
    number: u64,
    chain: Chain,
    pending: Option<Skipped>,
    end: Option<SegmentEnd>,
    done: bool,
    budget: Budget,
}

impl<'a> Scan<'a> {
    /// The file offset behind the last item.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset_of(self.position)
    }

    /// How many records were passed, broken ones included.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.number
    }

    /// The rolling CRC-32C behind the last record; `None` behind a break that no record followed.
    #[must_use]
    pub const fn crc(&self) -> Option<u32> {
        match self.chain {
            Chain::At(crc) => Some(crc),
            Chain::Lost(_) => None,
        }
    }

    /// The rolling CRC-32C behind the last record whose own was found right, or that a chain began with; where a break
    /// follows, that before the break.
    #[must_use]
    pub const fn last_known_crc(&self) -> u32 {
        match self.chain {
            Chain::At(crc) | Chain::Lost(crc) => crc,
        }
    }

    /// How the file ends: `None` while there may be more, and when it ends in a break.
    #[must_use]
    pub const fn end(&self) -> Option<SegmentEnd> {
        self.end
    }

    fn offset_of(&self, at: usize) -> u64 {
        len_u64(self.bytes.get(..at).unwrap_or_default())
    }

    /// Whether a record holds behind the chain as far as that is known, and if so whether it starts a new one.
    fn check(&self, raw: &RawRecord<'_>) -> Result<(RecordType, bool), FaultKind> {
        let record_type = RecordType::from_number(raw.type_number);
        let unknown = FaultKind::UnknownType { number: raw.type_number };
        let chain = match self.chain {
            Chain::At(chain) => chain,
            Chain::Lost(before) => {
                let resumed = !holds(raw, before);
                return record_type.map(|record_type| (record_type, resumed)).ok_or(unknown);
            }
        };
        if record_type == Some(RecordType::Crc) {
            if chain != 0 && chain != raw.crc {
                return Err(FaultKind::CrcRecordMismatch { expected: raw.crc, found: chain });
            }
            return Ok((RecordType::Crc, false));
        }
        let found = crc::update(chain, raw.data);
        if found != raw.crc {
            return Err(FaultKind::CrcMismatch { expected: raw.crc, found });
        }
        record_type.map(|record_type| (record_type, false)).ok_or(unknown)
    }

    fn explain(&mut self) -> Option<Explained> {
        match self.chain {
            Chain::At(chain) => self
                .before
                .and_then(|before| explain_before(self.bytes, before, self.position, chain, &mut self.budget))
                .or_else(|| explain(self.bytes, self.position, chain, &mut self.budget)),
            Chain::Lost(_) => None,
        }
    }

    /// A frame whose end is known and whose record does not hold. The chain goes on from the CRC it carries, or from the
    /// one its data has, whichever the next record bears out.
    fn broken(&mut self, raw: &RawRecord<'a>, frame: Frame<'a>, kind: FaultKind) -> Item<'a> {
        let mut end = self.position + LENGTH_WORD_BYTES + frame.padded.len();
        let explained = self.explain();
        let offset = self.offset();
        let record = Record {
            number: self.number,
            offset,
            // A record of a type nobody writes is shown as an entry: its fault has the number.
            record_type: RecordType::from_number(raw.type_number).unwrap_or(RecordType::Entry),
            crc: raw.crc,
            data: raw.data,
            raw: frame.record,
        };
        let computed = match (self.chain, raw.type_number == RecordType::Crc.number()) {
            (Chain::At(chain), false) => Some(crc::update(chain, raw.data)),
            (Chain::At(chain), true) => Some(chain),
            (Chain::Lost(_), _) => None,
        };
        self.chain = if let Some(explained) = &explained {
            end = explained.end;
            Chain::At(explained.crc)
        } else if goes_on(self.bytes, end, raw.crc, &mut self.budget) {
            Chain::At(raw.crc)
        } else {
            match computed.filter(|crc| goes_on(self.bytes, end, *crc, &mut self.budget)) {
                Some(crc) => Chain::At(crc),
                None => Chain::Lost(raw.crc),
            }
        };
        let fault = Fault { record: self.number, offset, kind };
        self.number += 1;
        if explained.is_some() {
            self.mended(end);
        } else {
            self.passed(frame.record.len());
        }
        self.position = end;
        let bit_flip = explained.map(|explained| explained.bit_flip);
        Item::Fault(Broken { fault, record: Some(record), bit_flip, end: Some(self.offset()) })
    }

    /// A frame in which no record can be read, or whose end is not known.
    fn lost(&mut self, kind: FaultKind, frame: Option<Frame<'a>>) -> Item<'a> {
        let offset = self.offset();
        let fault = Fault { record: self.number, offset, kind };
        self.number += 1;
        let mut broken = Broken { fault, record: None, bit_flip: None, end: None };
        if let Some(explained) = self.explain() {
            self.chain = Chain::At(explained.crc);
            self.mended(explained.end);
            self.position = explained.end;
            broken.bit_flip = Some(explained.bit_flip);
            broken.end = Some(self.offset());
            return Item::Fault(broken);
        }
        self.lose_chain();
        let inside = self.behind(LENGTH_WORD_BYTES);
        let frame_end = frame.map(|frame| self.position + LENGTH_WORD_BYTES + frame.padded.len());
        // The end that a damaged length word gives may lie many records further on. Whatever was done to the frame so far
        // took a time that goes with its length: that is done again and again only as long as the budget lasts.
        let looked_into = frame.is_none_or(|frame| self.budget.take(frame.padded.len()));
        let next =
            if looked_into { self.search(inside, frame_end.unwrap_or(self.bytes.len())) } else { None };
        if let (None, Some(end), Some(frame)) = (next, frame_end, frame) {
            self.passed(frame.record.len());
            self.position = end;
            broken.end = Some(self.offset());
            return Item::Fault(broken);
        }
        let to = next.unwrap_or(self.bytes.len());
        self.skip(to, None);
        self.done = next.is_none();
        Item::Fault(broken)
    }

    /// A length word of zero: the end, if a server is asked.
    fn zero_length(&mut self) -> Option<Item<'a>> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let Some(nonzero) = first_nonzero(rest) else {
            self.end = Some(SegmentEnd::ZeroLength);
            self.done = true;
            return None;
        };
        if let Some(explained) = self.explain() {
            self.number += 1;
            self.chain = Chain::At(explained.crc);
            self.mended(explained.end);
            self.skip(explained.end, Some(explained.bit_flip));
        } else {
            // The first byte that is not zero lies in the first frame, if there is one.
            let from = self.behind(LENGTH_WORD_BYTES.max(nonzero / 8 * 8));
            let next = self.search(from, self.bytes.len());
            self.skip(next.unwrap_or(self.bytes.len()), None);
            if next.is_some() {
                self.lose_chain();
            } else {
                self.end = Some(SegmentEnd::ZeroLength);
                self.done = true;
            }
        }
        self.pending.take().map(Item::Skipped)
    }

    /// A frame at the position, with a record of `len` bytes, will be passed.
    fn passed(&mut self, len: usize) {
        self.before = Some(self.position);
        self.before_end = self.position + LENGTH_WORD_BYTES + len.next_multiple_of(8);
    }

    /// What lies before `end` was mended.
    fn mended(&mut self, end: usize) {
        self.before = None;
        self.before_end = end;
    }

    /// Where the search for a record begins that has no place nearer than `distance`. Where the padding of the frame before
    /// is damaged, the right place may be nearer.
    fn behind(&self, distance: usize) -> usize {
        if self.position.is_multiple_of(8) { self.position + distance } else { self.before_end }
    }

    fn lose_chain(&mut self) {
        if let Chain::At(crc) = self.chain {
            self.chain = Chain::Lost(crc);
        }
    }

    /// Passes the bytes up to `to`, to be told next.
    fn skip(&mut self, to: usize, bit_flip: Option<BitFlip>) {
        let skipped = self.bytes.get(self.position..to).unwrap_or_default();
        self.pending = Some(Skipped {
            offset: self.offset(),
            len_bytes: len_u64(skipped),
            zero: first_nonzero(skipped).is_none(),
            bit_flip,
        });
        self.position = to;
    }

    /// The first offset from `from` up to `to`, not included, at which a record stands.
    fn search(&mut self, from: usize, to: usize) -> Option<usize> {
        let mut at = from.next_multiple_of(8);
        while at < to {
            match self.plausible(at) {
                Some(Ok(())) => return Some(at),
                Some(Err(decoded)) if !self.budget.take(decoded) => return None,
                _ => {}
            }
            at += 8;
        }
        None
    }

    /// Whether the bytes at `at` are laid out as a record: `None` if not; an error, with the number of bytes that were
    /// decoded for nothing, if its data is not what the type says.
    fn plausible(&self, at: usize) -> Option<Result<(), usize>> {
        let rest = self.bytes.get(at..)?;
        let (word, _) = rest.split_first_chunk::<LENGTH_WORD_BYTES>()?;
        let word = u64::from_le_bytes(*word);
        if word == 0 || LengthWord::for_record(LengthWord::from_word(word).record_len_bytes).to_word() != word
        {
            return None;
        }
        let Ok(FrameFound::Frame(frame)) = read_frame(rest) else { return None };
        let raw = record::decode_canonical(frame.record)?;
        let record_type = RecordType::from_number(raw.type_number)?;
        if !frame.is_clean() || raw.data.is_empty() != (record_type == RecordType::Crc) {
            return None;
        }
        Some(match Payload::decode(record_type, raw.data) {
            Ok(_) => Ok(()),
            Err(_) => Err(raw.data.len()),
        })
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        if let Some(skipped) = self.pending.take() {
            return Some(Item::Skipped(skipped));
        }
        if self.done {
            return None;
        }
        let frame = match read_frame(self.bytes.get(self.position..).unwrap_or_default()) {
            Ok(FrameFound::Frame(frame)) => frame,
            Ok(FrameFound::ZeroLength) => return self.zero_length(),
            Ok(FrameFound::EndOfFile) => {
                self.end = Some(SegmentEnd::EndOfFile);
                self.done = true;
                return None;
            }
            Err(kind) => return Some(self.lost(kind, None)),
        };
        let torn = |offset: u64| {
            first_zero_sector(frame.padded, offset.saturating_add(8)).map(|sector| FaultKind::Torn { sector })
        };
        let canonical = record::decode_canonical(frame.record);
        let raw = match canonical.map_or_else(|| record::decode(frame.record), Ok) {
            Ok(raw) => raw,
            Err(reason) => {
                let kind = torn(self.offset()).unwrap_or(FaultKind::Undecodable { reason });
                return Some(self.lost(kind, Some(frame)));
            }
        };
        let (record_type, resumed) = match self.check(&raw) {
            Ok(checked) => checked,
            Err(kind) => {
                let torn =
                    matches!(kind, FaultKind::CrcMismatch { .. }).then(|| torn(self.offset())).flatten();
                let kind = torn.unwrap_or(kind);
                // What is not even laid out as a record may be no frame at all.
                return Some(if canonical.is_some() && frame.is_clean() {
                    self.broken(&raw, frame, kind)
                } else {
                    self.lost(kind, Some(frame))
                });
            }
        };
        let found = Found {
            record: Record {
                number: self.number,
                offset: self.offset(),
                record_type,
                crc: raw.crc,
                data: raw.data,
                raw: frame.record,
            },
            resumed,
            is_clean: canonical.is_some() && frame.is_clean(),
        };
        self.number += 1;
        self.passed(frame.record.len());
        self.position += LENGTH_WORD_BYTES + frame.padded.len();
        self.chain = Chain::At(raw.crc);
        Some(Item::Record(found))
    }
}

impl std::iter::FusedIterator for Scan<'_> {}

/// The first byte that is not zero.
pub(crate) fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    const CHUNK: usize = 256;
    let zeros = bytes.chunks_exact(CHUNK).take_while(|chunk| **chunk == [0; CHUNK]).count() * CHUNK;
    let rest = bytes.get(zeros..).unwrap_or_default();
    rest.iter().position(|byte| *byte != 0).map(|at| zeros + at)
}
