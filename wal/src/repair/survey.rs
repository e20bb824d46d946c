//! Everything that holds in a segment, in spans that nothing interrupts, and what lies between them.

use std::borrow::Cow;

use super::Edit;
use crate::crc::update;
use crate::entry::EntryRef;
use crate::frame::{Found, LENGTH_WORD_BYTES, LengthWord, len_u64, read_frame};
use crate::log::{Piece, Unreadable};
use crate::raftpb::{ConfChange, ConfChangeV2, EntryType, HardState};
use crate::record::{self, Payload, Record, RecordType};
use crate::scan::{Broken, Item, Skipped, scan};
use crate::segment::{Fault, FaultKind};
use crate::wire::{Value, next_field, varint};
use prost::Message;

/// How often a segment is read again because a bit was turned back in it.
const PASSES: usize = 16;

/// A segment with more records out of shape than that was not hit by single bits.
const MOST_CLEANED: usize = 1 << 12;

/// The key of a record's third field, its data.
const DATA_KEY: u8 = 3 << 3 | 2;

/// Length of a crc record's frame in bytes, whatever its CRC.
const HEAD_BYTES: usize = 16;

/// One segment.
#[derive(Debug)]
pub(super) struct File {
    /// Its place among the names.
    pub(super) segment: usize,
    pub(super) name: String,
    pub(super) seq: u64,
    pub(super) index: u64,
    pub(super) len_bytes: u64,
    /// What its head states, if it begins with a crc record.
    pub(super) head: Option<u32>,
    /// The data of its first metadata record.
    pub(super) metadata: Option<Vec<u8>>,
    pub(super) spans: Vec<Span>,
    /// What lies behind the last span; the others have theirs before them.
    pub(super) tail: Break,
    pub(super) edits: Vec<(Edit, Option<&'static str>)>,
}

impl File {
    /// The rolling CRC behind its last record.
    pub(super) fn end_crc(&self) -> Option<u32> {
        self.spans.last().filter(|_| !self.tail.is_loss()).map(|span| span.crc)
    }

    pub(super) fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.spans.iter().flat_map(|span| &span.runs)
    }
}

/// Records that hold, one behind the other, in one chain.
#[derive(Debug)]
pub(super) struct Span {
    /// What lies between it and the span before.
    pub(super) before: Break,
    /// File offsets of its first frame and of the end of its last.
    pub(super) from: u64,
    pub(super) to: u64,
    /// The rolling CRC before its first record; `None` when that is not known.
    pub(super) seed: Option<u32>,
    /// The rolling CRC after its last.
    pub(super) crc: u32,
    pub(super) records: u64,
    pub(super) runs: Vec<Run>,
    pub(super) states: Seen,
    pub(super) snapshots: Vec<SnapshotMark>,
    pub(super) has_metadata: bool,
}

/// A snapshot record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SnapshotMark {
    pub(super) offset: u64,
    pub(super) index: u64,
    pub(super) term: u64,
}

/// Entries of one term, each following the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) term: u64,
    /// File offsets of the first one's frame and of the end of the last one's.
    pub(super) from: u64,
    pub(super) to: u64,
    /// The highest commit of the span's hard states before it.
    pub(super) commit_before: u64,
}

/// What hard states said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// The highest term, and the vote in it.
    pub(super) term: u64,
    pub(super) vote: u64,
    /// The highest commit.
    pub(super) commit: u64,
    /// The last of all.
    pub(super) last: Option<HardState>,
}

impl Seen {
    fn see(&mut self, state: HardState) {
        self.see_promise(state.term(), state.vote());
        self.commit = self.commit.max(state.commit());
        self.last = Some(state);
    }

    fn see_promise(&mut self, term: u64, vote: u64) {
        if term > self.term {
            (self.term, self.vote) = (term, vote);
        } else if term == self.term && vote != 0 {
            self.vote = vote;
        }
    }

    /// What is known after `later` too.
    pub(super) fn and(mut self, later: &Self) -> Self {
        if later.last.is_some() {
            self.see_promise(later.term, later.vote);
            self.commit = self.commit.max(later.commit);
            self.last = later.last;
        }
        self
    }
}

/// What lies between two spans, or behind the last.
#[derive(Debug, Default)]
pub(super) struct Break {
    pub(super) faults: Vec<Fault>,
    pub(super) skipped: Vec<Skipped>,
    /// The bytes behind the end that are not zero.
    pub(super) after_end: Option<u64>,
    pub(super) unreadable: Option<Unreadable>,
    /// Records that are laid out well and whose own checksum cannot be checked, since what stood before them is lost.
    pub(super) unproven: u64,
    /// A record was lost that may have been an entry, or nobody knows what.
    pub(super) may_hold_entries: bool,
    /// The entries that records say they are which do not hold, or cannot be checked.
    pub(super) claims: Vec<Run>,
}

impl Break {
    /// Something stood here that cannot be read any more. (Not so in a stretch of zeros over which the chain goes on.)
    pub(super) fn is_loss(&self) -> bool {
        !self.faults.is_empty() || self.unproven > 0 || self.unreadable.is_some()
    }

    /// The end of a write that did not reach the disk: what a server cuts off by itself.
    pub(super) fn is_torn_tail(&self) -> bool {
        self.unreadable.is_none()
            && self.unproven == 0
            && self.faults.len() == 1
            && self.faults.iter().all(|fault| {
                matches!(
                    fault.kind,
                    FaultKind::LengthCut { .. } | FaultKind::RecordCut { .. } | FaultKind::Torn { .. }
                )
            })
    }

    fn lose(&mut self, broken: &Broken<'_>, front: Option<EntryRef<'_>>) {
        let is_known = broken.end.is_some()
            && broken.record.is_some_and(|record| record.record_type != RecordType::Entry)
            && !matches!(broken.fault.kind, FaultKind::UnknownType { .. });
        self.may_hold_entries |= !is_known;
        self.faults.push(broken.fault.clone());
        if let (Some(record), Some(end)) = (broken.record, broken.end) {
            self.claim(&record, end);
        } else if let Some(entry) = front {
            extend(&mut self.claims, &entry, broken.fault.offset, broken.fault.offset, 0);
        }
    }

    /// What a record says of itself that nothing bears out.
    fn claim(&mut self, record: &Record<'_>, end: u64) {
        if record.record_type == RecordType::Entry
            && let Ok(entry) = EntryRef::decode(record.data)
            && entry.index > 0
        {
            extend(&mut self.claims, &entry, record.offset, end, 0);
        }
    }
}

/// Adds an entry to those before it, to the last run if it follows there.
fn extend(runs: &mut Vec<Run>, entry: &EntryRef<'_>, from: u64, to: u64, commit_before: u64) {
    match runs.last_mut() {
        Some(run) if run.last.checked_add(1) == Some(entry.index) && run.term == entry.term => {
            run.last = entry.index;
            run.to = to;
        }
        _ => runs.push(Run {
            first: entry.index,
            last: entry.index,
            term: entry.term,
            from,
            to,
            commit_before,
        }),
    }
}

/// A segment's bytes with what was turned back in it.
pub(super) fn edited<'a>(piece: Piece<'a>, edits: &[Edit], segment: usize) -> Cow<'a, [u8]> {
    let mut bytes = piece.bytes;
    for edit in edits.iter().filter(|edit| edit.segment == segment) {
        let at = usize::try_from(edit.offset).ok();
        if at.is_some_and(|at| bytes.get(at).is_some_and(|byte| *byte == edit.was))
            && let Some(byte) = at.and_then(|at| bytes.to_mut().get_mut(at))
        {
            *byte = edit.now;
        }
    }
    bytes
}

/// Holds an entry that says it changes the membership against that: a server that applies what is none ends.
fn with_conf_change<'a>(record: &Record<'_>, payload: Payload<'a>) -> Result<Payload<'a>, Fault> {
    let Payload::Entry(entry) = &payload else { return Ok(payload) };
    let decoded = match EntryType::try_from(entry.entry_type) {
        Ok(EntryType::ConfChange) => ConfChange::decode(entry.data).map(drop),
        Ok(EntryType::ConfChangeV2) => ConfChangeV2::decode(entry.data).map(drop),
        _ => Ok(()),
    };
    match decoded {
        Ok(()) => Ok(payload),
        Err(reason) => Err(record.payload_fault("conf change", reason.into())),
    }
}

/// Reads a segment to its end, and turns back the bits that explain what is wrong with it.
/// `known` is the metadata of the segments before it.
pub(super) fn survey(
    segment: usize,
    name: &crate::directory::SegmentName,
    piece: Piece<'_>,
    known: Option<&[u8]>,
) -> File {
    let Piece { bytes, unreadable } = piece;
    let mut bytes = bytes;
    let mut edits: Vec<(Edit, Option<&'static str>)> = Vec::new();
    for pass in 0..PASSES {
        let (file, found) = read(segment, name, &bytes, unreadable.clone(), known);
        if found.is_empty() || pass + 1 == PASSES {
            return File { edits, ..file };
        }
        for (edit, _) in &found {
            if let Ok(at) = usize::try_from(edit.offset)
                && let Some(byte) = bytes.to_mut().get_mut(at)
            {
                *byte = edit.now;
            }
        }
        edits.extend(found);
    }
    let (file, _) = read(segment, name, &bytes, unreadable, known);
    File { edits, ..file }
}

fn read(
    segment: usize,
    name: &crate::directory::SegmentName,
    bytes: &[u8],
    unreadable: Option<Unreadable>,
    known: Option<&[u8]>,
) -> (File, Vec<(Edit, Option<&'static str>)>) {
    let mut reader = Reader { segment, bytes, ..Reader::default() };
    let mut items = scan(bytes);
    loop {
        let chain = items.crc();
        let Some(item) = items.next() else { break };
        match item {
            Item::Record(found) => {
                if !found.is_clean {
                    reader.clean(&found.record);
                }
                if found.resumed {
                    reader.unproven(&found.record, items.offset());
                } else {
                    reader.record(&found.record, chain.or(reader.carried), items.offset());
                }
            }
            Item::Fault(broken) => {
                if !reader.mends_head(&broken, name.seq == 0, known) {
                    reader.flip(broken.bit_flip);
                }
                reader.carried = broken.record.map(|record| record.crc).or(reader.carried);
                let front = front_of(bytes, &broken);
                reader.close().lose(&broken, front);
            }
            Item::Skipped(skipped) => {
                reader.flip(skipped.bit_flip);
                reader.close().skipped.push(skipped);
            }
        }
    }
    let mut tail = std::mem::take(reader.close());
    if tail.faults.is_empty() && tail.unproven == 0 && unreadable.is_none() {
        // What was skipped is behind the end.
        tail.after_end = tail.skipped.iter().find(|skipped| !skipped.zero).map(|skipped| skipped.offset);
    }
    tail.may_hold_entries |= unreadable.is_some();
    tail.unreadable = unreadable;
    let file = File {
        segment,
        name: name.name.clone(),
        seq: name.seq,
        index: name.index,
        len_bytes: len_u64(bytes),
        head: reader.head,
        metadata: reader.metadata,
        spans: reader.spans,
        tail,
        edits: Vec::new(),
    };
    (file, reader.edits)
}

#[derive(Default)]
struct Reader<'a> {
    segment: usize,
    bytes: &'a [u8],
    spans: Vec<Span>,
    open: bool,
    between: Break,
    head: Option<u32>,
    metadata: Option<Vec<u8>>,
    /// The CRC the last record carried, whether it held or not.
    carried: Option<u32>,
    edits: Vec<(Edit, Option<&'static str>)>,
}

impl Reader<'_> {
    /// Ends the span; what follows it is gathered here.
    fn close(&mut self) -> &mut Break {
        self.open = false;
        &mut self.between
    }

    fn flip(&mut self, flip: Option<crate::fault::BitFlip>) {
        let Some(flip) = flip else { return };
        let at = usize::try_from(flip.offset).ok().and_then(|at| self.bytes.get(at));
        if let Some(was) = at.copied() {
            let edit = Edit {
                segment: self.segment,
                offset: flip.offset,
                was,
                now: was ^ 1u8.checked_shl(u32::from(flip.bit)).unwrap_or_default(),
            };
            self.edits.push((edit, Some(flip.part.name())));
        }
    }

    /// Puts right what nothing covers and nobody reads: padding, bits of the length word without a meaning, a field key
    /// that makes a zero of a zero.
    fn clean(&mut self, record: &Record<'_>) {
        let frame = usize::try_from(record.offset).ok().and_then(|at| self.bytes.get(at..));
        let Some(word) = frame.and_then(<[u8]>::first_chunk::<LENGTH_WORD_BYTES>) else { return };
        let length = LengthWord::from_word(u64::from_le_bytes(*word));
        let canonical = LengthWord::for_record(length.record_len_bytes);
        // More padding than a frame has is another frame's length word misread.
        if length != canonical && length.pad_len_bytes != 0 {
            return;
        }
        if length == canonical {
            for (offset, (was, now)) in
                (record.offset..).zip(word.iter().copied().zip(canonical.to_word().to_le_bytes()))
            {
                if was != now {
                    self.edits.push((Edit { segment: self.segment, offset, was, now }, Some("length")));
                }
            }
        }
        let start = record.offset.saturating_add(8).saturating_add(length.record_len_bytes);
        for offset in start..start.saturating_add(length.pad_len_bytes) {
            let at = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at));
            if let Some(was) = at.copied().filter(|byte| *byte != 0) {
                self.edits.push((Edit { segment: self.segment, offset, was, now: 0 }, None));
            }
        }
        self.clean_fields(record);
    }

    fn clean_fields(&mut self, record: &Record<'_>) {
        let Ok(raw) = record::decode(record.raw) else { return };
        if record::decode_canonical(record.raw).is_some() || self.edits.len() > MOST_CLEANED {
            return;
        }
        let mut tried = record.raw.to_vec();
        for at in 0..tried.len().min(HEAD_BYTES) {
            for bit in 0..8u32 {
                let Some(byte) = tried.get_mut(at) else { return };
                let was = *byte;
                let now = was ^ 1u8.checked_shl(bit).unwrap_or_default();
                *byte = now;
                let same = record::decode_canonical(&tried).is_some_and(|found| found == raw);
                if let Some(byte) = tried.get_mut(at) {
                    *byte = was;
                }
                if let Some(offset) = u64::try_from(at).ok().filter(|_| same) {
                    let offset = record.offset.saturating_add(8).saturating_add(offset);
                    self.edits.push((Edit { segment: self.segment, offset, was, now }, Some("framing")));
                    return;
                }
            }
        }
    }

    /// The type is one byte, the second of the record.
    fn retype(&mut self, record: &Record<'_>, right: RecordType) {
        let offset = record.offset.saturating_add(8 + 1);
        let at = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at));
        if let Some(was) = at.copied()
            && let Ok(now) = u8::try_from(right.number())
            && i64::from(was) == record.record_type.number()
        {
            self.edits.push((Edit { segment: self.segment, offset, was, now }, Some("type")));
        }
    }

    /// Nothing says whether its data is what was written; what follows it goes on from the CRC it carries.
    fn unproven(&mut self, record: &Record<'_>, end: u64) {
        self.carried = Some(record.crc);
        let between = self.close();
        between.unproven = between.unproven.saturating_add(1);
        between.may_hold_entries |= record.record_type == RecordType::Entry;
        between.claim(record, end);
    }

    /// Nothing covers a segment's first record but that the second follows it: when it does with one bit of the first
    /// turned, it is that bit. To the checksum a bit there is the same as one in the first bytes of the second record's
    /// data, so that something else has to tell: that a log begins with 0, or that the metadata is what it should be.
    fn mends_head(&mut self, broken: &Broken<'_>, is_first: bool, known: Option<&[u8]>) -> bool {
        let is_right = broken.record.is_some_and(|record| Some(record.data) == known);
        if broken.fault.record > 1
            || !self.edits.is_empty()
            || broken.bit_flip.is_some() && !(broken.fault.record == 1 && (is_first || is_right))
        {
            return false;
        }
        let begins_with_zero = is_first && broken.bit_flip.is_some();
        self.mend_head(begins_with_zero).is_some()
    }

    fn mend_head(&mut self, begins_with_zero: bool) -> Option<()> {
        let (head, rest) = self.bytes.split_first_chunk::<HEAD_BYTES>()?;
        let Ok(Found::Frame(second)) = read_frame(rest) else { return None };
        let second = record::decode(second.record).ok()?;
        let mut tried = *head;
        for (at, was) in head.iter().enumerate() {
            for bit in 0..8u32 {
                let now = was ^ 1u8.checked_shl(bit).unwrap_or_default();
                if let Some(byte) = tried.get_mut(at) {
                    *byte = now;
                }
                let crc = crc_of_head(&tried).filter(|crc| !begins_with_zero || *crc == 0);
                if crc.is_some_and(|crc| update(crc, second.data) == second.crc)
                    && let Ok(offset) = u64::try_from(at)
                {
                    self.edits.push((Edit { segment: self.segment, offset, was: *was, now }, Some("head")));
                    return Some(());
                }
            }
            if let Some(byte) = tried.get_mut(at) {
                *byte = *was;
            }
        }
        None
    }

    fn record(&mut self, record: &Record<'_>, seed: Option<u32>, end: u64) {
        let is_first = record.offset == 0;
        if is_first && record.record_type == RecordType::Crc {
            self.head = Some(record.crc);
        }
        if let Some(right) = mistyped(record, self.head.is_some(), self.metadata.as_deref()) {
            self.retype(record, right);
        }
        let payload = match record.payload().and_then(|payload| with_conf_change(record, payload)) {
            Ok(payload) => payload,
            Err(fault) => {
                self.carried = Some(record.crc);
                self.close().faults.push(fault);
                self.between.may_hold_entries |= record.record_type == RecordType::Entry;
                return;
            }
        };
        if !self.open {
            let seed = if is_first { self.head.or(seed) } else { seed };
            self.spans.push(Span {
                before: std::mem::take(&mut self.between),
                from: record.offset,
                to: record.offset,
                seed,
                crc: record.crc,
                records: 0,
                runs: Vec::new(),
                states: Seen::default(),
                snapshots: Vec::new(),
                has_metadata: false,
            });
            self.open = true;
        }
        self.carried = Some(record.crc);
        if record.record_type == RecordType::Metadata && self.metadata.is_none() {
            self.metadata = Some(record.data.to_vec());
        }
        let Some(span) = self.spans.last_mut() else { return };
        span.to = end;
        span.crc = record.crc;
        span.records = span.records.saturating_add(1);
        match payload {
            Payload::Entry(entry) => {
                extend(&mut span.runs, &entry, record.offset, end, span.states.commit);
            }
            Payload::State(state) => span.states.see(state),
            Payload::Snapshot(snapshot) => span.snapshots.push(SnapshotMark {
                offset: record.offset,
                index: snapshot.index(),
                term: snapshot.term(),
            }),
            Payload::Metadata(_) => span.has_metadata = true,
            Payload::Crc => {}
        }
    }
}

/// Which entry the first bytes of a record say it is that cannot be read to its end.
fn front_of<'a>(bytes: &'a [u8], broken: &Broken<'_>) -> Option<EntryRef<'a>> {
    let at = usize::try_from(broken.fault.offset).ok().filter(|_| broken.record.is_none())?;
    let mut rest = bytes.get(at.checked_add(LENGTH_WORD_BYTES)?..)?;
    let record_type = number(&mut rest, 1)?;
    let _crc = number(&mut rest, 2)?;
    // The key of its data; how long that is does not matter.
    let mut rest = rest.split_first().filter(|(key, _)| **key == DATA_KEY)?.1;
    varint(&mut rest).ok()?;
    let entry_type = i32::try_from(number(&mut rest, 1)?).ok()?;
    let (term, index) = (number(&mut rest, 2)?, number(&mut rest, 3)?);
    let is_entry = i64::try_from(record_type) == Ok(RecordType::Entry.number()) && index > 0;
    is_entry.then_some(EntryRef { entry_type, term, index, data: &[] })
}

/// Takes a field off the front that has to be this number.
fn number(rest: &mut &[u8], field: u64) -> Option<u64> {
    match next_field(rest).ok()?? {
        (found, Value::Varint(number)) if found == field => Some(number),
        _ => None,
    }
}

/// The CRC that a segment's first frame states.
fn crc_of_head(head: &[u8]) -> Option<u32> {
    let Ok(Found::Frame(frame)) = read_frame(head) else { return None };
    let raw = record::decode_canonical(frame.record)?;
    let fills = LENGTH_WORD_BYTES + frame.padded.len() == head.len();
    (fills && raw.type_number == RecordType::Crc.number()).then_some(raw.crc)
}

/// The type of a record whose CRC holds and whose data can only be that of another type, one bit away. The CRC does not
/// cover the type.
fn mistyped(record: &Record<'_>, has_head: bool, metadata: Option<&[u8]>) -> Option<RecordType> {
    let payload = record.payload().ok()?;
    let fields = Fields::of(record.data)?;
    match payload {
        // Only a crc record has no data.
        Payload::Snapshot(_) if record.data.is_empty() => Some(RecordType::Crc),
        // Behind the crc record of a head stands the metadata.
        Payload::State(_) | Payload::Snapshot(_)
            if record.number == 1
                && has_head
                && metadata.is_none_or(|known| known == record.data)
                && !fields.has_data
                && fields.third.is_none() =>
        {
            Some(RecordType::Metadata)
        }
        // No hard state has a vote or commit in term 0, or a fourth field.
        Payload::State(state)
            if fields.has_data || state.term() == 0 && (state.vote() != 0 || state.commit() != 0) =>
        {
            let entry = EntryRef::decode(record.data).ok()?;
            (0..=2).contains(&entry.entry_type).then_some(RecordType::Entry)
        }
        // Entries have three types, and one that changes members says how.
        Payload::Entry(entry)
            if !(0..=2).contains(&entry.entry_type) || entry.entry_type != 0 && !fields.has_data =>
        {
            (!fields.has_data && fields.third == Some(Third::Varint)).then_some(RecordType::State)
        }
        Payload::Metadata(_) if record.number > 1 && metadata.is_some_and(|known| known != record.data) => {
            Some(if fields.third == Some(Third::Varint) { RecordType::State } else { RecordType::Snapshot })
        }
        _ => None,
    }
}

/// What tells the log's messages apart: all begin with one or two varints.
struct Fields {
    third: Option<Third>,
    has_data: bool,
}

#[derive(PartialEq, Eq)]
enum Third {
    Varint,
    Message,
}

impl Fields {
    fn of(data: &[u8]) -> Option<Self> {
        let mut fields = Self { third: None, has_data: false };
        let mut rest = data;
        while let Some((field, value)) = next_field(&mut rest).ok()? {
            match (field, value) {
                (3, Value::Varint(_)) => fields.third = Some(Third::Varint),
                (3, Value::Bytes(_)) => fields.third = Some(Third::Message),
                (4, Value::Bytes(_)) => fields.has_data = true,
                _ => {}
            }
        }
        Some(fields)
    }
}
