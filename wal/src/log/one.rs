//! One segment of a log, read alone.

use super::{
    ConfChangeV2Entry, EntryRun, Interrupted, Located, MAX_FAULTS, MAX_LISTED_BYTES, MAX_RUNS, Piece, Reach,
    SegmentStop, nonzero_len,
};
use crate::explain::explain_type;
use crate::fault::{After, LogFaultKind};
use crate::frame::len_u64;
use crate::raftpb::{ConfChange, ConfChangeV2, EntryType, HardState, Metadata, walpb};
use crate::record::{MESSAGE_LIMIT_BYTES, Payload, Record, RecordType};
use crate::scan::{Broken, Found, Item, Skipped, first_nonzero, scan};
use crate::segment::{FaultKind, PayloadError, SegmentEnd};
use crate::summary::ConfChangeEntry;
use prost::Message;
use std::ops::ControlFlow;

/// How many bytes are read between two calls of `progress`.
const PROGRESS_BYTES: u64 = 4 << 20;

/// What is wrong in a segment, before the segments are joined.
#[derive(Debug)]
pub(super) struct OneFault {
    pub(super) record: Option<u64>,
    pub(super) offset: u64,
    pub(super) kind: LogFaultKind,
    pub(super) after: Option<After>,
    /// How many records held before it, to tell how many follow.
    records_before: u64,
    /// Where its frame ends, as far as it says.
    frame_end: u64,
}

/// A metadata record.
#[derive(Debug)]
pub(super) struct FoundMetadata {
    pub(super) record: u64,
    pub(super) offset: u64,
    pub(super) raw: Vec<u8>,
    pub(super) decoded: Metadata,
}

/// What one segment says.
#[derive(Debug)]
pub(super) struct One {
    pub(super) at: usize,
    pub(super) len_bytes: u64,
    pub(super) records: u64,
    pub(super) entries: u64,
    pub(super) read_records: u64,
    pub(super) end: SegmentStop,
    pub(super) end_offset: u64,
    pub(super) head: Option<(RecordType, u32)>,
    pub(super) end_crc: u32,
    pub(super) last_crc: Option<u32>,
    /// The same; behind a break that no record follows, that before the break.
    pub(super) known_crc: u32,
    pub(super) first_entry: Option<(u64, u64)>,
    pub(super) last_entry: Option<(u64, u64)>,
    /// The CRC its second record states, the one it has behind the head, and the length of its data, where that is what
    /// is wrong with it.
    pub(super) second_mismatch: Option<(u32, u32, usize)>,
    /// The highest snapshot record behind the last entry.
    pub(super) snapshot_after_entries: u64,
    pub(super) hidden_records: u64,
    pub(super) first_nonzero_after_end: Option<u64>,
    pub(super) all_zero: bool,
    pub(super) faults: Vec<OneFault>,
    pub(super) more_faults: u64,
    pub(super) metadata: Option<FoundMetadata>,
    pub(super) runs: Vec<EntryRun>,
    pub(super) more_runs: u64,
    pub(super) hard_state: Option<Located<HardState>>,
    pub(super) read_hard_state: Option<Located<HardState>>,
    pub(super) snapshots: Vec<Located<walpb::Snapshot>>,
    pub(super) more_snapshots: u64,
    pub(super) conf_changes: Vec<Located<ConfChangeEntry>>,
    pub(super) conf_changes_v2: Vec<Located<ConfChangeV2Entry>>,
    pub(super) more_conf_changes: u64,
}

/// Reads one segment.
pub(super) fn read(
    at: usize,
    piece: &Piece<'_>,
    progress: &(dyn Fn(u64) -> ControlFlow<()> + Sync),
) -> Result<One, Interrupted> {
    let bytes: &[u8] = &piece.bytes;
    let mut reader = Reader::new(at, bytes);
    let mut scan = scan(bytes);
    let mut told = 0;
    let tell = |to: u64, told: &mut u64| {
        let more = to.saturating_sub(*told);
        *told = to;
        if progress(more).is_break() { Err(Interrupted) } else { Ok(()) }
    };
    while let Some(item) = scan.next() {
        match item {
            Item::Record(found) => reader.record(&found),
            Item::Fault(broken) => reader.broken(broken),
            Item::Skipped(skipped) => reader.skipped(&skipped),
        }
        let offset = scan.offset();
        if offset.saturating_sub(told) >= PROGRESS_BYTES {
            tell(offset, &mut told)?;
        }
    }
    tell(len_u64(bytes), &mut told)?;
    let mut one = reader.finish(scan.end(), scan.offset(), scan.crc(), piece);
    one.known_crc = scan.last_known_crc();
    Ok(one)
}

struct Reader<'a> {
    bytes: &'a [u8],
    one: One,
    reach: Reach,
    /// The run that may go on.
    run: Option<EntryRun>,
    /// Whether a break was passed behind the last entry.
    broken: bool,
    /// Whether the end of a server's reading was passed.
    ended: bool,
    /// Whether the item before was a frame without an end, to which skipped bytes belong.
    open: bool,
    /// For each length word of zero that more follows: the place of its fault, and how many bytes it ends.
    gaps: Vec<(usize, u64)>,
    /// The places among the faults of those behind which no record was found yet.
    waiting: Vec<usize>,
    crc: u32,
    snapshot_bytes: u64,
    conf_change_bytes: u64,
}

impl<'a> Reader<'a> {
    fn new(at: usize, bytes: &'a [u8]) -> Self {
        let one = One {
            at,
            len_bytes: len_u64(bytes),
            records: 0,
            entries: 0,
            read_records: 0,
            end: SegmentStop::EndOfFile,
            end_offset: 0,
            head: None,
            end_crc: 0,
            last_crc: None,
            known_crc: 0,
            first_entry: None,
            last_entry: None,
            second_mismatch: None,
            snapshot_after_entries: 0,
            hidden_records: 0,
            first_nonzero_after_end: None,
            all_zero: false,
            faults: Vec::new(),
            more_faults: 0,
            metadata: None,
            runs: Vec::new(),
            more_runs: 0,
            hard_state: None,
            read_hard_state: None,
            snapshots: Vec::new(),
            more_snapshots: 0,
            conf_changes: Vec::new(),
            conf_changes_v2: Vec::new(),
            more_conf_changes: 0,
        };
        Self {
            bytes,
            one,
            reach: Reach::Read,
            run: None,
            broken: false,
            ended: false,
            open: false,
            gaps: Vec::new(),
            waiting: Vec::new(),
            crc: 0,
            snapshot_bytes: 0,
            conf_change_bytes: 0,
        }
    }

    fn located<T>(&self, record: &Record<'_>, value: T) -> Located<T> {
        Located {
            segment: self.one.at,
            record: record.number,
            offset: record.offset,
            reach: self.reach,
            value,
        }
    }

    /// A server's reading ends at `offset`.
    fn stop(&mut self, end: SegmentStop, offset: u64) {
        if !self.ended {
            self.ended = true;
            self.one.end = end;
            self.one.end_offset = offset;
            self.one.end_crc = self.crc;
            self.one.read_records = self.one.records;
        }
    }

    fn fault(&mut self, fault: OneFault) -> Option<usize> {
        let at = self.one.faults.len();
        if at < MAX_FAULTS {
            if fault.after.is_some() {
                self.waiting.push(at);
            }
            self.one.faults.push(fault);
            Some(at)
        } else {
            self.one.more_faults += 1;
            None
        }
    }

    /// A break: with a record, or with what its data is not.
    fn stopping_fault(&mut self, record: u64, offset: u64, kind: FaultKind, after: After, frame_end: u64) {
        self.stop(SegmentStop::Broken(kind.clone()), offset);
        self.broken = true;
        self.reach = Reach::AfterBreak;
        let records_before = self.one.records;
        self.fault(OneFault {
            record: Some(record),
            offset,
            kind: LogFaultKind::Record(kind),
            after: Some(after),
            records_before,
            frame_end,
        });
    }

    fn record(&mut self, found: &Found<'a>) {
        let record = &found.record;
        self.open = false;
        let entry = match record.payload() {
            Ok(Payload::Entry(entry)) => entry,
            Ok(other) => return self.other(found, other),
            Err(fault) => return self.payload_fault(found, fault.kind),
        };
        if entry.entry_type != 0 && !self.conf_change(found, &entry) {
            return;
        }
        self.held(found);
        self.one.entries += 1;
        self.one.first_entry.get_or_insert((entry.index, entry.term));
        self.one.last_entry = Some((entry.index, entry.term));
        self.one.snapshot_after_entries = 0;
        if !self.broken
            && let Some(run) = &mut self.run
            && run.term == entry.term
            && run.last_index.checked_add(1) == Some(entry.index)
            && run.reach == self.reach
        {
            run.last_index = entry.index;
            run.last_offset = record.offset;
            run.standing_last = Some(entry.index);
            return;
        }
        self.end_run();
        self.run = Some(EntryRun {
            segment: self.one.at,
            first_index: entry.index,
            last_index: entry.index,
            term: entry.term,
            first_offset: record.offset,
            last_offset: record.offset,
            reach: self.reach,
            standing_last: Some(entry.index),
            behind_break: std::mem::take(&mut self.broken),
        });
    }

    /// Counts a record that holds.
    fn held(&mut self, found: &Found<'_>) {
        let record = &found.record;
        if self.one.records == 0 && record.number == 0 {
            self.one.head = Some((record.record_type, record.crc));
        }
        for at in self.waiting.drain(..) {
            if let Some(after) = self.one.faults.get_mut(at).and_then(|fault| fault.after.as_mut()) {
                after.first_at = Some(record.offset);
            }
        }
        self.crc = record.crc;
        self.one.records += 1;
        if self.reach == Reach::Hidden {
            self.one.hidden_records += 1;
        }
        if !found.is_clean {
            let records_before = self.one.records;
            self.fault(OneFault {
                record: Some(record.number),
                offset: record.offset,
                kind: LogFaultKind::Padding,
                after: None,
                records_before,
                frame_end: record.offset,
            });
        }
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            if self.one.runs.len() < MAX_RUNS {
                self.one.runs.push(run);
            } else {
                self.one.more_runs += 1;
            }
        }
    }

    fn payload_fault(&mut self, found: &Found<'_>, kind: FaultKind) {
        let record = &found.record;
        self.crc = record.crc;
        let at = usize::try_from(record.offset).unwrap_or(usize::MAX);
        let bit_flip = explain_type(self.bytes, at, record.record_type.number(), record.data);
        let after = After { bit_flip, ..After::default() };
        self.stopping_fault(record.number, record.offset, kind, after, record.offset);
    }

    /// Keeps a change of members; false when the entry is none, though it says so.
    fn conf_change(&mut self, found: &Found<'_>, entry: &crate::EntryRef<'_>) -> bool {
        let record = &found.record;
        let v2 = entry.entry_type == i32::from(EntryType::ConfChangeV2);
        if !v2 && entry.entry_type != i32::from(EntryType::ConfChange) {
            return true;
        }
        let (index, term) = (entry.index, entry.term);
        let kept = self.conf_change_bytes.saturating_add(len_u64(entry.data).saturating_mul(4) + 256);
        let result: Result<(), PayloadError> = if entry.data.len() > MESSAGE_LIMIT_BYTES {
            Err(PayloadError::TooLarge { limit: 1 << 20 })
        } else if kept > MAX_LISTED_BYTES {
            self.one.more_conf_changes += 1;
            Ok(())
        } else if v2 {
            ConfChangeV2::decode(entry.data).map_err(PayloadError::from).map(|change| {
                let located = self.located(record, ConfChangeV2Entry { index, term, change });
                self.one.conf_changes_v2.push(located);
                self.conf_change_bytes = kept;
            })
        } else {
            ConfChange::decode(entry.data).map_err(PayloadError::from).map(|change| {
                let located = self.located(record, ConfChangeEntry { index, term, change });
                self.one.conf_changes.push(located);
                self.conf_change_bytes = kept;
            })
        };
        if let Err(reason) = result {
            let kind = FaultKind::Payload { what: "conf change", len: len_u64(entry.data), reason };
            self.payload_fault(found, kind);
            return false;
        }
        true
    }

    fn other(&mut self, found: &Found<'_>, payload: Payload<'_>) {
        let record = &found.record;
        match payload {
            Payload::Metadata(decoded) => match &self.one.metadata {
                Some(first) if first.raw != record.data => {
                    let kind = FaultKind::MetadataConflict { first: first.record };
                    self.crc = record.crc;
                    return self.stopping_fault(
                        record.number,
                        record.offset,
                        kind,
                        After::default(),
                        record.offset,
                    );
                }
                Some(_) => {}
                None => {
                    self.one.metadata = Some(FoundMetadata {
                        record: record.number,
                        offset: record.offset,
                        raw: record.data.to_vec(),
                        decoded,
                    });
                }
            },
            Payload::State(state) => {
                let state = self.located(record, state);
                if self.reach == Reach::Read {
                    self.one.read_hard_state = Some(state.clone());
                }
                self.one.hard_state = Some(state);
            }
            Payload::Snapshot(snapshot) => {
                self.one.snapshot_after_entries = self.one.snapshot_after_entries.max(snapshot.index());
                let kept = self.snapshot_bytes.saturating_add(len_u64(record.data).saturating_mul(4) + 256);
                if kept > MAX_LISTED_BYTES {
                    self.one.more_snapshots += 1;
                } else {
                    self.snapshot_bytes = kept;
                    let located = self.located(record, snapshot);
                    self.one.snapshots.push(located);
                }
            }
            Payload::Entry(_) | Payload::Crc => {}
        }
        self.held(found);
    }

    fn broken(&mut self, broken: Broken<'_>) {
        self.open = broken.end.is_none();
        if let FaultKind::CrcMismatch { expected, found } = broken.fault.kind
            && let Some(record) = broken.record.filter(|record| record.number == 1 && self.one.records == 1)
        {
            self.one.second_mismatch = Some((expected, found, record.data.len()));
        }
        let after = After { bit_flip: broken.bit_flip, ..After::default() };
        let fault = broken.fault;
        let frame_end = broken.end.unwrap_or(self.one.len_bytes);
        self.stopping_fault(fault.record, fault.offset, fault.kind, after, frame_end);
    }

    fn skipped(&mut self, skipped: &Skipped) {
        if std::mem::take(&mut self.open) {
            return;
        }
        let start = usize::try_from(skipped.offset).unwrap_or(usize::MAX);
        let first = first_nonzero(self.bytes.get(start..).unwrap_or_default());
        let first = first.map(|at| skipped.offset.saturating_add(u64::try_from(at).unwrap_or(u64::MAX)));
        if !self.ended {
            self.one.first_nonzero_after_end = first;
        }
        self.stop(SegmentStop::ZeroLength, skipped.offset);
        self.broken = true;
        if self.reach == Reach::Read {
            self.reach = Reach::Hidden;
        }
        let records_before = self.one.records;
        // Which of the two it is shows when no record follows.
        let fault = OneFault {
            record: None,
            offset: skipped.offset,
            kind: LogFaultKind::AfterEnd { first_at: first.unwrap_or(skipped.offset) },
            after: Some(After { bit_flip: skipped.bit_flip, ..After::default() }),
            records_before,
            frame_end: skipped.offset,
        };
        if let Some(at) = self.fault(fault) {
            self.gaps.push((at, skipped.len_bytes));
        }
    }

    fn finish(mut self, end: Option<SegmentEnd>, offset: u64, crc: Option<u32>, piece: &Piece<'_>) -> One {
        let stop = match end {
            Some(SegmentEnd::ZeroLength) => SegmentStop::ZeroLength,
            Some(SegmentEnd::EndOfFile) | None => SegmentStop::EndOfFile,
        };
        self.stop(stop, offset);
        self.end_run();
        let mut one = self.one;
        one.last_crc = crc;
        one.all_zero = one.records == 0 && first_nonzero(self.bytes).is_none();
        let nonzero_len = if one.faults.is_empty() { 0 } else { nonzero_len(self.bytes) };
        for fault in &mut one.faults {
            let follow = one.records.saturating_sub(fault.records_before);
            if let Some(after) = &mut fault.after {
                after.well_formed_records = follow;
                after.zeros_to_end =
                    follow == 0 && nonzero_len <= fault.frame_end && nonzero_len < one.len_bytes;
            }
        }
        for (at, gap_bytes) in self.gaps {
            if let Some(fault) = one.faults.get_mut(at)
                && let Some(After { well_formed_records, first_at: Some(first_at), .. }) = fault.after
            {
                fault.kind = LogFaultKind::Hidden { records: well_formed_records, first_at, gap_bytes };
            }
        }
        if let Some(unreadable) = &piece.unreadable {
            // A record that ends where the disk refuses is not cut.
            let cut = |fault: &OneFault| {
                let kind = matches!(
                    fault.kind,
                    LogFaultKind::Record(FaultKind::LengthCut { .. } | FaultKind::RecordCut { .. })
                );
                kind && fault.after.is_some_and(|after| after.well_formed_records == 0)
            };
            if one.faults.last().is_some_and(cut) {
                one.faults.pop();
            }
            if one.faults.iter().all(|fault| matches!(fault.kind, LogFaultKind::Padding)) {
                one.end = SegmentStop::Unreadable;
            }
            one.faults.push(OneFault {
                record: None,
                offset: unreadable.offset,
                kind: LogFaultKind::Unreadable { message: unreadable.message.clone() },
                after: None,
                records_before: 0,
                frame_end: unreadable.offset,
            });
        }
        one
    }
}
