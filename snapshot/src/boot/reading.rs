//! A log as a server's decoder meets it: up to the first record it cannot pass, and past what lies behind a length word of
//! zero.

use prost::Message;
use wal::frame::{Found, read_frame};
use wal::{FaultKind, LogFaultKind, RecordType, read_segment, walpb};

use super::{Release, Scene, SnapshotPoint, gogo};
use crate::target::TargetVersion;

/// Records of this size and more are refused by some releases (FORMATS E.4).
const RECORD_LIMIT_BYTES: u64 = 10 << 20;

/// A place in a log; places compare as they are read.
type Place = (usize, u64);

/// What a server's decoder says of a record it cannot pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// The file, or the record, ends too early, or a sector of it was never written. In the last segment a server cuts it.
    UnexpectedEnd,
    /// Larger than the release reads.
    TooLarge,
    /// The record's own message ends too early; no release says so in these words.
    MessageEnd,
    NotARecord,
    Crc,
    Chain,
    BlockType,
    Metadata,
    Payload,
    /// The same of a hard state or a snapshot, which a server takes apart already when it looks for snapshots.
    PayloadOfState,
    Unreadable,
}

impl Break {
    /// Whether only reading the entries fails, and looking for snapshot records passes over it.
    fn is_seen_by_entries_alone(self) -> bool {
        matches!(self, Self::BlockType | Self::Metadata | Self::Payload)
    }
}

/// Where a decoder stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) segment: usize,
    pub(super) offset: u64,
    pub(super) what: Break,
    /// Whether the frame declares more than [`RECORD_LIMIT_BYTES`].
    large: bool,
    /// Whether only a server that begins to read with this segment stops here.
    only_as_first: bool,
    /// For people.
    pub(super) why: String,
}

impl Stop {
    fn place(&self) -> Place {
        (self.segment, self.offset)
    }
}

/// Why entries cannot be read.
pub(super) enum Refused {
    Stop(Stop),
    Gap { segment: usize, after: u64, found: u64 },
}

/// The entries a server hands to raft.
pub(super) struct Entries {
    pub(super) last: SnapshotPoint,
}

/// See the module.
pub(super) struct Reading<'a> {
    scene: &'a Scene<'a>,
    /// Where every release stops.
    hard: Option<Stop>,
    /// Where reading entries stops, in order.
    soft: Vec<Stop>,
    /// For each segment the offset where a length word of zero ends it with something behind.
    zero_ends: Vec<Option<u64>>,
}

impl<'a> Reading<'a> {
    pub(super) fn of(scene: &'a Scene<'a>) -> Self {
        let mut reading =
            Self { scene, hard: None, soft: Vec::new(), zero_ends: vec![None; scene.log.segments.len()] };
        let mut running = 0;
        for (segment, facts) in scene.log.segments.iter().enumerate() {
            if let Some(head) = facts.head_crc.filter(|head| running != 0 && running != *head) {
                reading.hard = Some(Stop {
                    segment,
                    offset: 0,
                    what: Break::Chain,
                    large: false,
                    only_as_first: false,
                    why: format!(
                        "begins with crc {head:08x}, where the records read before it end with {running:08x}"
                    ),
                });
                return reading;
            }
            let soft_before = reading.soft.len();
            reading.faults_of(segment, running);
            if reading.hard.is_some() {
                return reading;
            }
            let passed_on = reading.soft.len() > soft_before && reading.zero_ends.get(segment) == Some(&None);
            if passed_on {
                running = facts.last_crc.unwrap_or(facts.end_crc);
            } else if facts.read_records > 0 {
                running = facts.end_crc;
            }
        }
        reading
    }

    /// Goes through one segment's faults in file order, up to the first at which all releases stop.
    /// The decoder comes to it with the checksum `running`.
    fn faults_of(&mut self, segment: usize, running: u32) {
        let scene = self.scene;
        let mut faults: Vec<&wal::LogFault> = scene
            .log
            .faults
            .iter()
            .filter(|fault| fault.segment == Some(segment) && fault.offset.is_some())
            .collect();
        faults.sort_by_key(|fault| fault.offset);
        for fault in faults {
            let offset = fault.offset.unwrap_or_default();
            let (what, large) = match &fault.kind {
                LogFaultKind::Record(FaultKind::CrcMismatch { expected, .. })
                    if offset == 0 && running != 0 && *expected == running =>
                {
                    if let Some(stops) = self.head_of_another_type(segment, &fault.kind.to_string()) {
                        self.soft.extend(stops);
                        continue;
                    }
                    self.weigh(segment, offset, &FaultKind::CrcMismatch { expected: *expected, found: 0 })
                }
                LogFaultKind::Record(kind) => self.weigh(segment, offset, kind),
                LogFaultKind::Unreadable { .. } => (Break::Unreadable, false),
                LogFaultKind::Hidden { .. } | LogFaultKind::AfterEnd { .. } => {
                    if let Some(end) = self.zero_ends.get_mut(segment) {
                        *end = Some(offset);
                    }
                    return;
                }
                _ => continue,
            };
            let why = fault.kind.to_string();
            let stop = Stop { segment, offset, what, large, only_as_first: false, why };
            if what.is_seen_by_entries_alone() {
                self.soft.push(stop);
            } else {
                self.hard = Some(stop);
                return;
            }
        }
    }

    /// Where a server stops at a head whose type is damaged and whose checksum is right: behind the segment before it is a
    /// record like any other, with no data, and only a server that begins with this segment finds its checksum wrong.
    fn head_of_another_type(&self, segment: usize, why: &str) -> Option<Vec<Stop>> {
        let piece = self.scene.segments.piece(segment);
        let Ok(Found::Frame(frame)) = read_frame(&piece.bytes) else { return None };
        let record = walpb::Record::decode(frame.record).ok().filter(|record| record.data().is_empty())?;
        let number = record.record_type();
        let stop = |what, only_as_first, why: String| Stop {
            segment,
            offset: 0,
            what,
            large: false,
            only_as_first,
            why,
        };
        let mut stops = vec![stop(Break::Crc, true, why.to_owned())];
        match RecordType::from_number(number) {
            Some(RecordType::Snapshot | RecordType::Entry) => {}
            Some(_) => return None,
            None => {
                stops.push(stop(Break::BlockType, false, FaultKind::UnknownType { number }.to_string()));
            }
        }
        Some(stops)
    }

    /// What a server's decoder makes of a broken record, and whether its frame is large.
    fn weigh(&self, segment: usize, offset: u64, kind: &FaultKind) -> (Break, bool) {
        let last = segment + 1 == self.scene.log.segments.len();
        match kind {
            FaultKind::LengthCut { .. } => (Break::UnexpectedEnd, false),
            FaultKind::RecordCut { declared, .. } => (Break::UnexpectedEnd, *declared >= RECORD_LIMIT_BYTES),
            FaultKind::Torn { .. } | FaultKind::Undecodable { .. } | FaultKind::CrcMismatch { .. } => {
                let (len, decoded) = self.frame(segment, offset);
                let what = match decoded {
                    _ if last && matches!(kind, FaultKind::Torn { .. }) => Break::UnexpectedEnd,
                    gogo::Outcome::Message => Break::Crc,
                    gogo::Outcome::EndsEarly => Break::MessageEnd,
                    gogo::Outcome::Invalid => Break::NotARecord,
                };
                (what, len >= RECORD_LIMIT_BYTES)
            }
            FaultKind::CrcRecordMismatch { .. } => (Break::Chain, false),
            FaultKind::UnknownType { .. } => (Break::BlockType, false),
            FaultKind::MetadataConflict { .. } => (Break::Metadata, false),
            FaultKind::Payload { what, .. }
                if [RecordType::State.name(), RecordType::Snapshot.name()].contains(what) =>
            {
                (Break::PayloadOfState, false)
            }
            _ => (Break::Payload, false),
        }
    }

    /// The length of the frame at a place, and what a server's decoder makes of its record.
    fn frame(&self, segment: usize, offset: u64) -> (u64, gogo::Outcome) {
        let piece = self.scene.segments.piece(segment);
        let rest =
            usize::try_from(offset).ok().and_then(|offset| piece.bytes.get(offset..)).unwrap_or_default();
        match read_frame(rest) {
            Ok(Found::Frame(frame)) => {
                (u64::try_from(frame.padded.len()).unwrap_or(u64::MAX), gogo::record(frame.record))
            }
            _ => (0, gogo::Outcome::Invalid),
        }
    }

    /// Where a release stops.
    pub(super) fn stop(&self, release: &Release) -> Option<Stop> {
        let mut stop = self.hard.clone()?;
        if release.limits_records && stop.large {
            stop.what = Break::TooLarge;
        } else if stop.what == Break::MessageEnd {
            // 3.7 decodes with another library, which has an error of its own for this.
            stop.what =
                if release.minor < TargetVersion::V3_7 { Break::UnexpectedEnd } else { Break::NotARecord };
        }
        Some(stop)
    }

    /// Whether the decoder comes to what stands there.
    fn sees(&self, segment: usize, offset: u64) -> bool {
        let before_stop = self.hard.as_ref().is_none_or(|stop| (segment, offset) < stop.place());
        before_stop && self.zero_ends.get(segment).copied().flatten().is_none_or(|end| offset < end)
    }

    /// The last hard state in the segments from `first` on; `None` when it says nothing.
    pub(super) fn hard_state(&self, first: usize) -> Option<wal::raftpb::HardState> {
        let log = self.scene.log;
        [&log.hard_state, &log.server_hard_state]
            .into_iter()
            .flatten()
            .find(|state| self.sees(state.segment, state.offset))
            .filter(|state| state.segment >= first)
            .map(|state| state.value)
            .filter(|state| (state.term(), state.vote(), state.commit()) != (0, 0, 0))
    }

    /// The snapshot records a server believes: those up to the last commit it read, in file order.
    pub(super) fn valid_snapshots(&self) -> Vec<SnapshotPoint> {
        let commit = self.hard_state(0).map_or(0, |state| state.commit());
        self.scene
            .log
            .snapshots
            .iter()
            .filter(|located| self.sees(located.segment, located.offset))
            .map(|located| SnapshotPoint { index: located.value.index(), term: located.value.term() })
            .filter(|point| point.index <= commit)
            .collect()
    }

    /// Whether an entry up to this one changes the members.
    pub(super) fn adds_a_member(&self, up_to: u64) -> bool {
        let changes = &self.scene.log.conf_changes;
        changes.iter().any(|change| change.value.index <= up_to && self.sees(change.segment, change.offset))
    }

    /// Whether a metadata record stands in a segment from `first` on: the second record of each.
    pub(super) fn has_metadata(&self, first: usize) -> bool {
        self.scene.log.segments.iter().skip(first).any(|facts| facts.read_records > 1)
    }

    /// Whether it is about the metadata of two segments, and not of two records in one.
    fn is_of_segments(&self, stop: &Stop) -> bool {
        self.metadata_of(stop.segment).is_some_and(|(offset, _)| offset == stop.offset)
    }

    /// Offset and data of a segment's first metadata record, which is its second record.
    fn metadata_of(&self, segment: usize) -> Option<(u64, Vec<u8>)> {
        let piece = self.scene.segments.piece(segment);
        let mut head = read_segment(&piece.bytes).map_while(Result::ok).take(4);
        let record = head.find(|record| record.record_type == RecordType::Metadata)?;
        Some((record.offset, record.data.to_vec()))
    }

    /// The first segment behind `first` whose metadata is not that of those which a server reads before it. What the
    /// segments before `first` say does not matter then.
    fn metadata_conflict(&self, first: usize) -> Option<Stop> {
        // Where the log as a whole has no such conflict, no part of it has.
        let known =
            self.soft.iter().find(|soft| soft.what == Break::Metadata && self.is_of_segments(soft))?;
        let mut own: Option<Vec<u8>> = None;
        for segment in first..self.scene.log.segments.len() {
            let Some((offset, data)) =
                self.metadata_of(segment).filter(|(offset, _)| self.sees(segment, *offset))
            else {
                continue;
            };
            if own.get_or_insert_with(|| data.clone()) != &data {
                return Some(Stop { segment, offset, ..known.clone() });
            }
        }
        None
    }

    /// The entries behind a snapshot, from the segment `first` on (`ReadAll`).
    pub(super) fn entries_from(
        &self,
        first: usize,
        snapshot: SnapshotPoint,
        stop: Option<&Stop>,
    ) -> Result<Entries, Refused> {
        let conflict = self.metadata_conflict(first);
        let soft = self
            .soft
            .iter()
            .filter(|soft| soft.segment >= first && (!soft.only_as_first || soft.segment == first))
            .filter(|soft| soft.what != Break::Metadata || !self.is_of_segments(soft))
            .chain(&conflict)
            .min_by_key(|soft| soft.place());
        let mut last = snapshot;
        for run in &self.scene.log.runs {
            let place = (run.segment, run.first_offset);
            if run.segment < first
                || !self.sees(run.segment, run.first_offset)
                || run.last_index <= snapshot.index
            {
                continue;
            }
            if soft.is_some_and(|soft| soft.place() < place) || stop.is_some_and(|stop| stop.place() <= place)
            {
                break;
            }
            let begins = run.first_index.max(snapshot.index.saturating_add(1));
            if begins.saturating_sub(1) > last.index {
                return Err(Refused::Gap { segment: run.segment, after: last.index, found: begins });
            }
            last = SnapshotPoint { index: run.last_index, term: run.term };
        }
        match soft {
            Some(soft) => Err(Refused::Stop(soft.clone())),
            None => Ok(Entries { last }),
        }
    }
}
