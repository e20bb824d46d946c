//! Log segments and `.snap` files.

use prost::Message;
use wal::frame::{Found, LENGTH_WORD_BYTES, read_frame, write_frame};
use wal::segment::FaultKind;
use wal::{RecordType, SegmentEnd, crc, decode_snap, read_segment, snappb, summarize, walpb};

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
