//! Making the mended log, and reading it back.

use std::io::{self, Write};

use prost::Message;

use super::survey::edited;
use super::{Added, Facts, MendedSegment, Plan, PlanError, Progress, plan};
use crate::explain::holds;
use crate::frame::{Found, LENGTH_WORD_BYTES, len_u64, read_frame};
use crate::log::Segments;
use crate::raftpb::{ConfState, walpb};
use crate::record::{self, RecordType};
use crate::write::{Log, SEGMENT_SIZE_BYTES};

/// Records re-encoded are handed over when so many bytes are gathered.
const GATHERED_BYTES: usize = 1 << 20;

/// Why the mended log was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The system refused.
    #[error("{name}: {error}")]
    Io {
        /// The segment.
        name: String,
        /// What the system said.
        error: io::Error,
    },
    /// The log is not what it was when it was planned.
    #[error("segment {segment} is not what it was: no record at {offset:#x}")]
    Changed {
        /// The segment's place among the names.
        segment: usize,
        /// File offset.
        offset: u64,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// In what a log that was read back is not what was planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unlike {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] PlanError),
    /// It is damaged.
    #[error("{0}")]
    Damaged(String),
    /// It says something else.
    #[error("{what} is {found}, and should be {expected}")]
    Differs {
        /// What.
        what: &'static str,
        /// As read.
        found: String,
        /// As planned.
        expected: String,
    },
}

/// Writes the segments of a planned log, one after the other, to what `make` makes for each name. The last is as long as
/// its records, or [`SEGMENT_SIZE_BYTES`] when that is more: the caller makes it so, with zeros; `make` hears of that
/// length (the others end with their records).
///
/// Returns the rolling CRC-32C after the last record.
///
/// # Errors
/// [`WriteError`].
pub fn write<W: Write>(
    plan: &Plan,
    segments: &impl Segments,
    conf_state: Option<&ConfState>,
    mut make: impl FnMut(&str) -> io::Result<W>,
    mut finish: impl FnMut(W, Option<u64>) -> io::Result<()>,
    progress: Progress<'_>,
) -> Result<u32, WriteError> {
    let mut log = Log::default();
    let mut is_first = true;
    for (place, segment) in plan.segments.iter().enumerate() {
        let is_last = place + 1 == plan.segments.len();
        let failed = |error| WriteError::Io { name: segment.name.clone(), error };
        let mut out = Counted { out: make(&segment.name).map_err(failed)?, bytes: 0 };
        write_records(plan, segments, segment, is_first, &mut log, &mut out, progress)?;
        is_first = false;
        if is_last {
            for added in &plan.added {
                push_added(&mut log, added, conf_state);
            }
            hand_over(&mut log, &mut out).map_err(failed)?;
        }
        let len_bytes = is_last.then(|| out.bytes.max(SEGMENT_SIZE_BYTES));
        finish(out.out, len_bytes).map_err(failed)?;
    }
    Ok(log.crc)
}

fn push_added(log: &mut Log, added: &Added, conf_state: Option<&ConfState>) {
    match added {
        Added::Snapshot { index, term } => {
            let snapshot =
                walpb::Snapshot { index: Some(*index), term: Some(*term), conf_state: conf_state.cloned() };
            log.push_data(RecordType::Snapshot, &snapshot.encode_to_vec());
        }
        Added::State(state) => log.push_data(RecordType::State, &state.encode_to_vec()),
    }
}

struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Counted<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.bytes = self.bytes.saturating_add(len_u64(bytes));
        Ok(())
    }
}

fn hand_over<W: Write>(log: &mut Log, out: &mut Counted<W>) -> io::Result<()> {
    out.put(&log.bytes)?;
    log.bytes.clear();
    Ok(())
}

fn write_records<W: Write>(
    plan: &Plan,
    segments: &impl Segments,
    segment: &MendedSegment,
    is_first: bool,
    log: &mut Log,
    out: &mut Counted<W>,
    progress: Progress<'_>,
) -> Result<(), WriteError> {
    let failed = |error| WriteError::Io { name: segment.name.clone(), error };
    if segment.adds_head {
        log.push_crc();
        if segment.adds_metadata {
            log.push_data(RecordType::Metadata, &plan.metadata);
        }
    }
    let Some(source) = segment.source else { return hand_over(log, out).map_err(failed) };
    let bytes = edited(segments.piece(source), &plan.edits, source);
    let mut needs_metadata = segment.adds_metadata && !segment.adds_head;
    for (number, (from, to)) in segment.parts.iter().enumerate() {
        let changed = |offset| WriteError::Changed { segment: source, offset };
        let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
        let part = range.and_then(|(from, to)| bytes.get(from..to)).ok_or_else(|| changed(*from))?;
        let mut rest = part;
        let mut copied = 0usize;
        let mut at_start = true;
        // Behind the first record that does not follow, none is copied: each is written with a CRC of its own.
        let mut copies = true;
        while !rest.is_empty() {
            let done = part.len().saturating_sub(rest.len());
            let offset = from.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            let Ok(Found::Frame(frame)) = read_frame(rest) else { return Err(changed(offset)) };
            let raw = record::decode(frame.record).map_err(|_| changed(offset))?;
            let is_crc = raw.type_number == RecordType::Crc.number();
            if is_first && number == 0 && at_start && is_crc && !segment.adds_head {
                // The log begins where another ended that is not there any more.
                log.crc = raw.crc;
            }
            if at_start {
                copies = holds(&raw, log.crc);
            }
            let len = LENGTH_WORD_BYTES + frame.padded.len();
            if copies && !needs_metadata {
                log.crc = raw.crc;
                copied = done + len;
            } else {
                let kind = RecordType::from_number(raw.type_number).ok_or_else(|| changed(offset))?;
                if kind == RecordType::Crc {
                    log.push_crc();
                    if std::mem::take(&mut needs_metadata) {
                        log.push_data(RecordType::Metadata, &plan.metadata);
                        copies = false;
                    }
                } else {
                    log.push_data(kind, raw.data);
                }
                if log.bytes.len() >= GATHERED_BYTES {
                    hand_over(log, out).map_err(failed)?;
                }
            }
            at_start = false;
            rest = rest.get(len..).unwrap_or_default();
        }
        hand_over(log, out).map_err(failed)?;
        for chunk in part.get(..copied).unwrap_or_default().chunks(GATHERED_BYTES) {
            out.put(chunk).map_err(failed)?;
            if progress(len_u64(chunk)).is_break() {
                return Err(WriteError::Interrupted);
            }
        }
        if copied == 0 && progress(len_u64(part)).is_break() {
            return Err(WriteError::Interrupted);
        }
    }
    hand_over(log, out).map_err(failed)
}

/// Reads a written log back: it is sound, and says what was planned. `crc` is what [`write()`] returned.
///
/// # Errors
/// [`Unlike`], with the first difference.
pub fn verify(
    planned: &Plan,
    facts: &Facts,
    crc: u32,
    written: &impl Segments,
    progress: Progress<'_>,
) -> Result<(), Unlike> {
    let mut facts = facts.clone();
    facts.snapshots.extend(planned.new_snapshot);
    let read = plan(written, &facts, progress)?;
    let first = read.changes.first().map(ToString::to_string);
    if let Some(what) = first.or_else(|| read.losses.first().map(ToString::to_string)) {
        return Err(Unlike::Damaged(what));
    }
    let differs = |what, found: String, expected: String| {
        if found == expected { Ok(()) } else { Err(Unlike::Differs { what, found, expected }) }
    };
    let names =
        |plan: &Plan| plan.segments.iter().map(|segment| segment.name.clone()).collect::<Vec<_>>().join(" ");
    differs("names", names(&read), names(planned))?;
    differs("last entry", format!("{:?}", read.last), format!("{:?}", planned.last))?;
    differs("first entry", format!("{:?}", read.first_index), format!("{:?}", planned.first_index))?;
    differs("start", read.start.to_string(), planned.start.to_string())?;
    let state = |plan: &Plan| {
        let state = plan.state;
        format!("term {}, vote {:x}, commit {}", state.term(), state.vote(), state.commit())
    };
    differs("hard state", state(&read), state(planned))?;
    let last = written.names().len().checked_sub(1).map(|at| written.piece(at));
    let end = last
        .and_then(|piece| crate::segment::read_segment(&piece.bytes).last()?.ok().map(|record| record.crc));
    differs("checksum", format!("{end:x?}"), format!("{:x?}", Some(crc)))
}
