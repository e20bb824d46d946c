//! Log segments and `.snap` files.

use std::cell::RefCell;
use std::ops::ControlFlow;

use prost::Message;
use wal::frame::{Found, LENGTH_WORD_BYTES, read_frame, write_frame};
use wal::log::ServerEndKind;
use wal::repair::{self, DbFacts, Facts};
use wal::scan::{Item, scan as scan_segment};
use wal::segment::FaultKind;
use wal::{
    MemoryLog, Record, RecordType, SegmentEnd, crc, decode_snap, log, read_segment, segment_name, snappb,
    summarize, walpb,
};

/// Reads a segment record by record and as a summary.
pub(crate) fn segment(bytes: &[u8]) {
    read(bytes);
    let repaired = repair_segment(bytes);
    read(&repaired);
    for fault in read_segment(&repaired).filter_map(Result::err) {
        assert!(
            !matches!(fault.kind, FaultKind::CrcMismatch { .. } | FaultKind::CrcRecordMismatch { .. }),
            "a repaired chain does not hold: {fault}"
        );
    }
}

fn read(bytes: &[u8]) {
    let mut segment = read_segment(bytes);
    let mut seen = 0;
    let mut faults = 0;
    for record in segment.by_ref() {
        seen += 1;
        assert!(seen <= bytes.len() / LENGTH_WORD_BYTES + 1, "more records than the file has room for");
        match record {
            Ok(record) => {
                assert!(record.data.len() <= record.raw.len());
                if let Err(fault) = record.payload() {
                    assert_eq!(fault.offset, record.offset);
                }
            }
            Err(fault) => {
                faults += 1;
                assert!(fault.code().starts_with("WAL-"));
                assert!(!fault.to_string().is_empty());
            }
        }
    }
    assert!(segment.next().is_none(), "the iterator is not fused");
    assert_eq!(
        u64::try_from(bytes.len()),
        Ok(segment.offset() + u64::try_from(segment.rest().len()).unwrap_or(0))
    );
    if faults == 0 {
        assert_eq!(segment.end() == Some(SegmentEnd::EndOfFile), segment.rest().is_empty());
    }
    // A summary is what a server would find: it exists only where every record holds.
    let summary = summarize(bytes);
    assert!(faults == 0 || summary.is_err(), "a summary of a segment with {faults} broken records");
}

/// Reads a segment past its breaks.
pub(crate) fn scan(bytes: &[u8]) {
    scan_one(bytes);
    scan_one(&repair_segment(bytes));
}

fn scan_one(bytes: &[u8]) {
    let mut items = scan_segment(bytes);
    let mut count = 0;
    let mut held: Vec<Record<'_>> = Vec::new();
    let mut broken = false;
    let mut flip = None;
    let mut before = 0;
    let mut before_was_mended = false;
    for item in items.by_ref() {
        count += 1;
        assert!(count <= bytes.len() / 4 + 2, "more items than the file has room for");
        let start = match &item {
            Item::Record(found) => found.record.offset,
            Item::Fault(broken) => broken.fault.offset,
            Item::Skipped(skipped) => skipped.offset,
        };
        // Behind damaged padding the right place lies a little further back; where a frame that was too long is mended, by as
        // much as it was too long.
        assert!(start.saturating_add(8) > before || before_was_mended, "{start:#x} lies before {before:#x}");
        before = start;
        before_was_mended = match &item {
            Item::Record(_) => false,
            Item::Fault(broken) => broken.bit_flip.is_some(),
            Item::Skipped(skipped) => skipped.bit_flip.is_some(),
        };
        match item {
            Item::Record(found) => {
                let _ = found.record.payload();
                if !broken {
                    held.push(found.record);
                }
            }
            Item::Fault(fault) => {
                broken = true;
                flip = flip.or(fault.bit_flip.map(|flip| (fault.fault.offset, flip)));
            }
            Item::Skipped(_) => broken = true,
        }
    }
    assert!(items.next().is_none(), "the iterator is not fused");
    // Up to the first break it is what a server reads.
    assert!(
        read_segment(bytes).map_while(Result::ok).eq(held),
        "a scan and a segment differ before the first break"
    );
    if let Some((offset, flip)) = flip {
        let mut mended = bytes.to_vec();
        let at = usize::try_from(flip.offset).unwrap_or(usize::MAX);
        mended[at] ^= 1 << flip.bit;
        let again = scan_segment(&mended)
            .any(|item| matches!(item, Item::Fault(fault) if fault.fault.offset == offset));
        assert!(!again, "the bit {flip:?} does not mend the record at {offset:#x}");
    }
}

/// Reads a log of several segments.
pub(crate) fn directory(bytes: &[u8]) {
    for files in logs_of(bytes) {
        read_log(files);
    }
}

/// A log of several segments, cut out of the input (sequence number, index and length of each, then its bytes), as it is
/// and with its checksums set right.
pub(crate) fn logs_of(bytes: &[u8]) -> [Vec<(String, Vec<u8>)>; 2] {
    let mut files = Vec::new();
    let mut rest = bytes;
    while let [seq, index, low, high, after @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        files.push((segment_name(u64::from(*seq), u64::from(*index)), after[..len].to_vec()));
        rest = &after[len..];
    }
    let repaired = files.iter().map(|(name, bytes)| (name.clone(), repair_segment(bytes))).collect();
    [files, repaired]
}

/// Mends a log: consistent index and term of its db and index and term of a `.snap`, one byte each (a zero for none), then
/// the log. Whatever plan comes of it can be carried out, and what is believed of the result holds for another reader.
pub(crate) fn mend(bytes: &[u8]) {
    let [consistent_index, term, snap_index, snap_term, log @ ..] = bytes else { return };
    let some = |byte: &u8| (*byte != 0).then_some(u64::from(*byte));
    let db = some(consistent_index).map(|consistent_index| DbFacts { consistent_index, term: some(term) });
    let snapshots = some(snap_index).map(|index| (index, u64::from(*snap_term))).into_iter().collect();
    let facts = Facts { snapshots, db };
    let go_on = |_| ControlFlow::Continue(());
    for files in logs_of(log) {
        let damaged = MemoryLog::new(files);
        let plan = match repair::plan(&damaged, &facts, &go_on) {
            Ok(plan) => plan,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        for line in
            plan.changes.iter().map(ToString::to_string).chain(plan.losses.iter().map(ToString::to_string))
        {
            assert!(!line.is_empty());
        }
        let mut written = Vec::new();
        let name = RefCell::new(String::new());
        let make = |made: &str| {
            made.clone_into(&mut name.borrow_mut());
            Ok(Vec::new())
        };
        let finish = |bytes, _| {
            written.push((name.borrow().clone(), bytes));
            Ok(())
        };
        let crc = match repair::write(&plan, &damaged, None, make, finish, &go_on) {
            Ok(crc) => crc,
            Err(error) => panic!("{error}: {plan:?}"),
        };
        let written = MemoryLog::new(written);
        // A log made by hand may defy mending: then it is an error, and nothing is published. What passes is sound.
        match repair::verify(&plan, &facts, crc, &written, &go_on) {
            Err(unlike) => assert!(!unlike.to_string().is_empty()),
            Ok(()) => {
                let Ok(read) = log::read(&written, &go_on) else {
                    panic!("interrupted, and nobody asked for it")
                };
                let end = read.server_end.map(|end| end.kind);
                assert_eq!(end, Some(ServerEndKind::Clean), "{plan:?}: {:?}", read.faults);
            }
        }
    }
}

fn read_log(files: Vec<(String, Vec<u8>)>) {
    let segments = MemoryLog::new(files);
    let Ok(log) = log::read(&segments, &|_| ControlFlow::Continue(())) else {
        panic!("interrupted, and nobody asked for it");
    };
    for fault in &log.faults {
        assert!(fault.code().starts_with("WAL-") && !fault.to_string().is_empty());
        if let Some(after) = fault.after {
            assert_eq!(after.well_formed_records > 0, after.first_at.is_some(), "{fault}");
        }
    }
    let mut before: Option<u64> = None;
    for run in log.standing_runs() {
        let Some(last) = run.standing_last else { panic!("a run that stands has no entry") };
        assert!(run.first_index <= last && last <= run.last_index);
        assert!(before.is_none_or(|before| before < run.first_index), "standing entries overlap");
        before = Some(last);
        assert_eq!(log.term_of(run.first_index), Some(run.term));
        assert!(!log.is_overwritten(run.segment, run.first_offset, run.first_index));
    }
    assert_eq!(log.last_index(), before);
    assert!(log.first_index() <= log.last_index());
    for range in log.overwritten() {
        assert!(range.indexes.start() <= range.indexes.end());
    }
    assert!(log.runs.len() as u64 <= log.entries);
}

/// The same records with their CRCs set right; what follows the last frame that decodes is kept as it is.
fn repair_segment(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut rolling = 0;
    while let Ok(Found::Frame(frame)) = read_frame(rest) {
        let Ok(mut record) = walpb::Record::decode(frame.record) else { break };
        if RecordType::from_number(record.record_type()) == Some(RecordType::Crc) {
            if rolling != 0 {
                record.crc = Some(rolling);
            }
            rolling = record.crc();
        } else {
            rolling = crc::update(rolling, record.data());
            record.crc = Some(rolling);
        }
        write_frame(&record.encode_to_vec(), &mut out);
        rest = &rest[LENGTH_WORD_BYTES + frame.padded.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Reads a `.snap` file.
pub(crate) fn snap(bytes: &[u8]) {
    if let Err(error) = decode_snap(bytes) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(mut envelope) = snappb::Snapshot::decode(bytes) {
        envelope.crc = Some(crc::checksum(envelope.data()));
        if let Ok(snapshot) = decode_snap(&envelope.encode_to_vec()) {
            assert!(
                snapshot.encoded_len() <= bytes.len().saturating_mul(2),
                "a message larger than its bytes"
            );
        }
    }
}
