//! What stands behind a break, in words.

use wal::fault::After;

/// What stands behind a break, as clauses with semicolons between them.
#[must_use]
pub fn after(after: &After) -> String {
    let mut clauses = Vec::new();
    if let Some(flip) = after.bit_flip {
        clauses.push(format!(
            "one bit explains it: with bit {} of the byte at {:#x} ({}) turned the checksum holds and the chain goes on",
            flip.bit,
            flip.offset,
            flip.part.name()
        ));
    }
    clauses.push(match (after.well_formed_records, after.first_at) {
        (0, _) if after.zeros_to_end => "nothing but zeros follows, to the end of the file".to_owned(),
        (0, _) => "no well-formed record follows in this segment".to_owned(),
        (records, first_at) => {
            let what = if records == 1 { "record follows" } else { "records follow" };
            let place = first_at.map_or_else(String::new, |at| format!(", the first at {at:#x}"));
            format!("{records} well-formed {what}{place}")
        }
    });
    match after.next_segment_continues {
        Some(true) => clauses.push("the next segment goes on from the last of this one".to_owned()),
        Some(false) => clauses.push("the next segment does not go on from this one".to_owned()),
        None => {}
    }
    clauses.join("; ")
}
