//! The segments of a log, each read alone, joined in the order of their names.

use super::one::{FoundMetadata, One, OneFault};
use super::{
    EntryRun, Located, Log, MAX_FAULTS, MAX_LISTED_BYTES, MAX_RUNS, Reach, SegmentFacts, SegmentStop,
    ServerEnd, ServerEndKind,
};
use crate::crc;
use crate::directory::SegmentName;
use crate::fault::{After, BitFlip, LogFault, LogFaultKind, Part};
use crate::frame::len_u64;
use crate::record::RecordType;
use crate::segment::FaultKind;
use prost::Message;

/// A log in the making.
pub(super) struct Join<'a> {
    names: &'a [SegmentName],
    log: Log,
    first_metadata: Option<(usize, FoundMetadata)>,
    /// What the segment before this one ended with.
    before: Option<Before>,
    /// The highest snapshot record so far: entries may be missing below it, for a follower gets them as a snapshot.
    highest_snapshot: u64,
    /// The index that the next segment's name should be one above: of the last entry, and of that or a later snapshot.
    last_entry: u64,
    last_saved: u64,
    /// The last segment with a break.
    unsound: Option<usize>,
    /// The place among the faults where those of the segment before begin.
    faults_before: usize,
    snapshot_bytes: u64,
    conf_change_bytes: u64,
}

struct Before {
    seq: u64,
    /// The CRC its records end with, as far as any were found.
    last_crc: Option<u32>,
    /// The CRC the next one has to begin with.
    expected: u32,
    /// The CRC where a server's reading of it ends.
    read_crc: u32,
    sound: bool,
}

impl<'a> Join<'a> {
    pub(super) fn new(names: &'a [SegmentName]) -> Self {
        let log = Log {
            segments: Vec::new(),
            faults: Vec::new(),
            more_faults: 0,
            metadata: None,
            metadata_raw: None,
            runs: Vec::new(),
            more_runs: 0,
            entries: 0,
            hard_state: None,
            server_hard_state: None,
            snapshots: Vec::new(),
            more_snapshots: 0,
            conf_changes: Vec::new(),
            conf_changes_v2: Vec::new(),
            more_conf_changes: 0,
            server_end: None,
            standing: Vec::new(),
        };
        Self {
            names,
            log,
            first_metadata: None,
            before: None,
            highest_snapshot: 0,
            last_entry: 0,
            last_saved: 0,
            unsound: None,
            faults_before: 0,
            snapshot_bytes: 0,
            conf_change_bytes: 0,
        }
    }

    fn fault(&mut self, fault: LogFault) {
        if self.log.faults.len() < MAX_FAULTS {
            self.log.faults.push(fault);
        } else {
            self.log.more_faults = self.log.more_faults.saturating_add(1);
        }
    }

    /// Of a segment as a whole.
    fn segment_fault(&mut self, at: usize, record: Option<u64>, offset: Option<u64>, kind: LogFaultKind) {
        let file = self.names.get(at).map_or_else(String::new, |name| name.name.clone());
        self.fault(LogFault { segment: Some(at), file, record, offset, kind, after: None });
    }

    fn log_fault(&mut self, kind: LogFaultKind) {
        self.fault(LogFault {
            segment: None,
            file: String::new(),
            record: None,
            offset: None,
            kind,
            after: None,
        });
    }

    /// A server's reading ends here, if it did not before.
    fn end_server(&mut self, segment: usize, offset: u64, kind: ServerEndKind) {
        self.log.server_end.get_or_insert(ServerEnd { segment, offset, kind });
    }

    /// Adds the next segment.
    pub(super) fn push(&mut self, mut one: One) {
        let at = one.at;
        let Some(name) = self.names.get(at) else { return };
        let last = at + 1 == self.names.len();
        self.sequence(at, name);
        let follows_on =
            self.before.as_ref().is_none_or(|before| before.seq.checked_add(1) == Some(name.seq));
        let joined = self.chain(at, name, &mut one);
        // What is missing between two neighbours is missing at the end of the first.
        let torn_off = !joined && follows_on;
        self.name_index(at, name, joined);
        let faults_from = self.log.faults.len();
        // Of bytes that the disk does not hand out nobody knows whether they are zero.
        if one.all_zero && one.end != SegmentStop::Unreadable {
            self.segment_fault(at, None, None, LogFaultKind::EmptySegment { len_bytes: one.len_bytes });
        }
        self.metadata(at, one.metadata);
        let stopped = self.log.server_end.is_some();
        match &one.end {
            SegmentStop::ZeroLength | SegmentStop::EndOfFile => {
                if last {
                    self.end_server(at, one.end_offset, ServerEndKind::Clean);
                }
            }
            SegmentStop::Broken(_) | SegmentStop::Unreadable => {
                let cut = last && one.end.is_cut_off_at_start();
                let kind = if cut { ServerEndKind::CutOff } else { ServerEndKind::Stops };
                self.end_server(at, one.end_offset, kind);
            }
        }
        let reach = |reach: Reach| if stopped { Reach::AfterBreak } else { reach };
        let sound = one.faults.iter().all(|fault| matches!(fault.kind, LogFaultKind::Padding))
            && one.more_faults == 0;
        self.log.more_faults = self.log.more_faults.saturating_add(one.more_faults);
        for OneFault { record, offset, kind, after, .. } in one.faults {
            let offset = Some(offset);
            self.fault(LogFault { segment: Some(at), file: name.name.clone(), record, offset, kind, after });
        }
        if let Some(mut state) = one.hard_state {
            state.reach = reach(state.reach);
            self.log.hard_state = Some(state);
        }
        if let Some(state) = one.read_hard_state
            && !stopped
        {
            self.log.server_hard_state = Some(state);
        }
        self.entries(at, one.runs, &one.snapshots, torn_off, &reach);
        self.log.more_runs = self.log.more_runs.saturating_add(one.more_runs);
        self.log.entries = self.log.entries.saturating_add(one.entries);
        self.log.more_snapshots = self.log.more_snapshots.saturating_add(one.more_snapshots);
        for mut snapshot in one.snapshots {
            let cost = len_u64(&snapshot.value.encode_to_vec()).saturating_mul(4) + 256;
            let kept = self.snapshot_bytes.saturating_add(cost);
            if kept > MAX_LISTED_BYTES {
                self.log.more_snapshots = self.log.more_snapshots.saturating_add(1);
                continue;
            }
            self.snapshot_bytes = kept;
            snapshot.reach = reach(snapshot.reach);
            self.log.snapshots.push(snapshot);
        }
        self.log.more_conf_changes = self.log.more_conf_changes.saturating_add(one.more_conf_changes);
        let mut room = |cost: u64, more: &mut u64| {
            let kept = self.conf_change_bytes.saturating_add(cost.saturating_mul(4) + 256);
            let fits = kept <= MAX_LISTED_BYTES;
            if fits {
                self.conf_change_bytes = kept;
            } else {
                *more = more.saturating_add(1);
            }
            fits
        };
        for mut change in one.conf_changes {
            if room(len_u64(change.value.change.context()), &mut self.log.more_conf_changes) {
                change.reach = reach(change.reach);
                self.log.conf_changes.push(change);
            }
        }
        for mut change in one.conf_changes_v2 {
            if room(len_u64(&change.value.change.encode_to_vec()), &mut self.log.more_conf_changes) {
                change.reach = reach(change.reach);
                self.log.conf_changes_v2.push(change);
            }
        }
        if let Some((index, _)) = one.last_entry {
            self.last_entry = index;
            self.last_saved = index;
        }
        self.last_saved = self.last_saved.max(one.snapshot_after_entries);
        if !one.all_zero {
            // What a server skips in silence it misses here; of what it read nothing from it knows nothing.
            let hides = one.end == SegmentStop::ZeroLength && one.hidden_records > 0;
            let read_crc = match &self.before {
                Some(before) if one.read_records == 0 => before.read_crc,
                _ => one.end_crc,
            };
            self.before = Some(Before {
                seq: name.seq,
                last_crc: one.last_crc.filter(|_| one.records > 0),
                expected: if hides { read_crc } else { one.known_crc },
                read_crc,
                sound,
            });
        }
        if !sound {
            self.unsound = Some(at);
        }
        self.faults_before = faults_from;
        self.log.segments.push(SegmentFacts {
            name: name.clone(),
            len_bytes: one.len_bytes,
            records: one.records,
            entries: one.entries,
            read_records: one.read_records,
            end: one.end,
            end_offset: one.end_offset,
            head_crc: one.head.and_then(|(kind, crc)| (kind == RecordType::Crc).then_some(crc)),
            end_crc: one.end_crc,
            last_crc: one.last_crc,
            first_entry: one.first_entry,
            last_entry: one.last_entry,
            hidden_records: one.hidden_records,
            first_nonzero_after_end: one.first_nonzero_after_end,
        });
    }

    fn sequence(&mut self, at: usize, name: &SegmentName) {
        let Some(before) = at.checked_sub(1).and_then(|before| self.names.get(before)) else { return };
        if name.seq == before.seq {
            let kind = LogFaultKind::SequenceTwice { seq: name.seq, other: before.name.clone() };
            self.segment_fault(at, None, None, kind);
        } else if before.seq.checked_add(1) != Some(name.seq) {
            let kind = LogFaultKind::SequenceGap { expected: before.seq.saturating_add(1), found: name.seq };
            self.segment_fault(at, None, None, kind);
        }
    }

    /// The segment's head, against the end of the one before; answers whether they go on from each other.
    fn chain(&mut self, at: usize, name: &SegmentName, one: &mut One) -> bool {
        let head = match one.head {
            Some((RecordType::Crc, crc)) => crc,
            Some((found, _)) => {
                self.segment_fault(at, Some(0), Some(0), LogFaultKind::Head { found });
                return false;
            }
            None => return false,
        };
        let (expected, last_crc) = match &self.before {
            Some(before) => (Some(before.expected), before.last_crc),
            None => ((at == 0 && name.seq == 0).then_some(0), None),
        };
        let holds = expected.is_none_or(|expected| expected == head);
        if let (Some(expected), false) = (expected, holds) {
            let bit_flip = mend_head(one, head, expected);
            let after = bit_flip.is_some().then(|| After {
                well_formed_records: one.records,
                first_at: one.second_mismatch.map(|_| SECOND_AT),
                bit_flip,
                ..After::default()
            });
            self.fault(LogFault {
                segment: Some(at),
                file: name.name.clone(),
                record: Some(0),
                offset: Some(0),
                kind: LogFaultKind::Chain { expected, found: head },
                after,
            });
        }
        // A server compares with what it has read itself, unless that is 0.
        if self.before.as_ref().is_some_and(|before| before.read_crc != 0 && before.read_crc != head) {
            self.end_server(at, 0, ServerEndKind::Stops);
        }
        if at > 0 {
            for fault in self.log.faults.iter_mut().skip(self.faults_before) {
                if fault.segment == Some(at - 1)
                    && let Some(after) = &mut fault.after
                {
                    after.next_segment_continues = Some(last_crc == Some(head));
                }
            }
        }
        holds
    }

    /// The name, against what was saved before the segment was begun. That is not known behind a break, nor where the
    /// segment before is not the one that came before; but then names go up.
    fn name_index(&mut self, at: usize, name: &SegmentName, joined: bool) {
        let before = at.checked_sub(1).and_then(|before| self.names.get(before));
        let known = match &self.before {
            Some(before) => before.sound && joined,
            None => name.seq == 0,
        };
        let follows = if before.is_some() { self.last_saved.saturating_add(1) } else { 0 };
        // A server that restarts forgets the snapshots behind the last entry.
        let restarted = before.is_some() && name.index == self.last_entry.saturating_add(1);
        let back = before.is_some_and(|before| name.index <= before.index || name.seq == before.seq);
        if name.index != follows && !restarted && (known || (!joined && back)) {
            self.segment_fault(at, None, None, LogFaultKind::NameIndex { named: name.index, follows });
        }
    }

    fn metadata(&mut self, at: usize, metadata: Option<FoundMetadata>) {
        let Some(metadata) = metadata else { return };
        match &self.first_metadata {
            None => {
                self.log.metadata = Some(metadata.decoded);
                self.log.metadata_raw = Some(metadata.raw.clone());
                self.first_metadata = Some((at, metadata));
            }
            Some((_, first)) if first.raw != metadata.raw => {
                let kind = LogFaultKind::Record(FaultKind::MetadataConflict { first: first.record });
                self.segment_fault(at, Some(metadata.record), Some(metadata.offset), kind);
                self.end_server(at, metadata.offset, ServerEndKind::Stops);
            }
            Some(_) => {}
        }
    }

    /// Raft's rule, in file order.
    fn entries(
        &mut self,
        at: usize,
        runs: Vec<EntryRun>,
        snapshots: &[Located<crate::walpb::Snapshot>],
        torn_off: bool,
        reach: &impl Fn(Reach) -> Reach,
    ) {
        let broken_before = torn_off || (at > 0 && self.unsound == Some(at - 1));
        let mut snapshots = snapshots.iter().peekable();
        for (number, mut run) in runs.into_iter().enumerate() {
            // The segment before may have lost its last entries.
            if number == 0 && broken_before {
                run.behind_break = true;
            }
            while let Some(snapshot) = snapshots.next_if(|snapshot| snapshot.offset < run.first_offset) {
                self.highest_snapshot = self.highest_snapshot.max(snapshot.value.index());
            }
            if self.log.runs.len() >= MAX_RUNS || self.log.more_runs > 0 {
                self.log.more_runs = self.log.more_runs.saturating_add(1);
                continue;
            }
            run.reach = reach(run.reach);
            run.standing_last = Some(run.last_index);
            while let Some(before) = self.log.standing.last().and_then(|last| self.log.runs.get_mut(*last)) {
                if before.first_index < run.first_index {
                    before.standing_last = before.standing_last.min(run.first_index.checked_sub(1));
                    break;
                }
                before.standing_last = None;
                self.log.standing.pop();
            }
            let before = self
                .log
                .standing
                .last()
                .and_then(|last| self.log.runs.get(*last))
                .map(|before| (before.standing_last.unwrap_or(before.first_index), before.term));
            let offset = Some(run.first_offset);
            if let Some((last, term)) = before
                && !run.behind_break
            {
                let found = run.first_index;
                if last.checked_add(1) != Some(found) {
                    if found.saturating_sub(1) > self.highest_snapshot {
                        self.segment_fault(at, None, offset, LogFaultKind::EntryGap { after: last, found });
                    }
                } else if term > run.term {
                    let kind = LogFaultKind::TermBack { index: found, term: run.term, before: term };
                    self.segment_fault(at, None, offset, kind);
                }
            }
            self.log.standing.push(self.log.runs.len());
            self.log.runs.push(run);
        }
        for snapshot in snapshots {
            self.highest_snapshot = self.highest_snapshot.max(snapshot.value.index());
        }
    }

    /// What can be said only of the whole.
    pub(super) fn finish(mut self) -> Log {
        if self.names.is_empty() {
            self.log_fault(LogFaultKind::NoSegments);
            return self.log;
        }
        if self.first_metadata.is_none() {
            self.log_fault(LogFaultKind::NoMetadata);
        }
        if self.log.more_runs > 0 {
            self.log_fault(LogFaultKind::TooManyRuns { limit: len_u64_of(MAX_RUNS) });
        }
        let last = self.log.last_index().unwrap_or_default().max(self.highest_snapshot);
        // Behind a break the missing entries are no news.
        let last_entry = self.log.runs.last().map_or(0, |run| run.segment);
        let broken = self.unsound.is_some_and(|unsound| unsound >= last_entry);
        if let Some(state) = &self.log.hard_state
            && state.value.commit() > last
            && !broken
        {
            let (at, record, offset) = (state.segment, state.record, state.offset);
            let kind = LogFaultKind::CommitBeyond { commit: state.value.commit(), last };
            self.segment_fault(at, Some(record), Some(offset), kind);
        }
        let commit = self.log.commit();
        let stops = self.log.server_end.is_some_and(|end| end.kind == ServerEndKind::Stops);
        let beyond: Vec<(usize, u64, u64, u64)> = self
            .log
            .snapshots
            .iter()
            .filter(|snapshot| !stops && snapshot.value.index() > commit)
            .map(|snapshot| (snapshot.segment, snapshot.record, snapshot.offset, snapshot.value.index()))
            .collect();
        for (at, record, offset, index) in beyond {
            let kind = LogFaultKind::SnapshotBeyondCommit { index, commit };
            self.segment_fault(at, Some(record), Some(offset), kind);
        }
        self.log
    }
}

/// Where the second record of a segment stands whose head is a crc record.
const SECOND_AT: u64 = 24;

/// Whether it is the head's own CRC that is damaged: the second record holds behind what the segment before ends with. Then
/// the fault at that record is dropped. Answers the bit, if it is one.
fn mend_head(one: &mut One, head: u32, expected: u32) -> Option<BitFlip> {
    let (stated, found, len) = one.second_mismatch?;
    // What a CRC changes by when another goes before depends on nothing but the length between.
    let zeros = vec![0; len];
    if found ^ crc::update(head, &zeros) ^ crc::update(expected, &zeros) != stated {
        return None;
    }
    if one.faults.first().is_some_and(|fault| fault.record == Some(1)) {
        one.faults.remove(0);
    }
    let turned = head ^ expected;
    let bits = |crc: u32| u32::BITS - crc.leading_zeros();
    // The CRC is written in groups of 7 bits behind the length word and three bytes of framing.
    let same_layout = bits(head).div_ceil(7).max(1) == bits(expected).div_ceil(7).max(1);
    let bit = turned.trailing_zeros();
    (turned.is_power_of_two() && same_layout).then(|| BitFlip {
        offset: 11 + u64::from(bit / 7),
        bit: u8::try_from(bit % 7).unwrap_or_default(),
        part: Part::Crc,
    })
}

fn len_u64_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
